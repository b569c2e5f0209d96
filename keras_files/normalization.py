"""Normalizations at prediction: with statistics of the training, or over a chip alone.

Arguments as in `formulas`, and the same sources.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_files.formulas import Array, Config, Weights
from keras_files.model_file import ModelError


def _axes(c: Config, x: Array) -> list[int]:
    axis = c.get("axis", -1)
    return sorted(a % len(x.shape) for a in ([axis] if isinstance(axis, int) else axis))


def _along(values: Array, axes: list[int], x: Array) -> Array:
    """Return values of the given axes of x, shaped so that they meet these axes.

    Values of several axes in another order are read on as they stand, as tf_keras does.
    """
    if len(values.shape) == len(x.shape):  # BatchNormalization of tf_keras over several axes
        return values
    shape = [1] * len(x.shape)
    for axis, size in zip(axes, values.shape, strict=True):
        shape[axis] = x.shape[axis] or size
    return tf.reshape(values, shape)


def _scale_and_shift(w: Weights, y: Array, axes: list[int]) -> Array:
    y = y * _along(w["gamma"], axes, y) if "gamma" in w else y
    return y + _along(w["beta"], axes, y) if "beta" in w else y


def _batch_normalization(c: Config, w: Weights, x: Array) -> Array:
    if not w:  # it is in the weights of the layer before, see _join_normalizations
        if len(x.shape) != 4:
            raise ModelError("the layer before it makes no images")
        return x
    axes, epsilon = _axes(c, x), float(c["epsilon"])
    mean, variance = w["moving_mean"], w["moving_variance"]
    if len(x.shape) == 4 and axes == [3]:  # faster than the formula below
        gamma = w.get("gamma", tf.ones_like(mean))
        beta = w.get("beta", tf.zeros_like(mean))
        return tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=gamma,
            offset=beta,
            mean=mean,
            variance=variance,
            epsilon=epsilon,
            is_training=False,
        ).y
    scale = tf.math.rsqrt(variance + epsilon)
    scale = scale * w["gamma"] if "gamma" in w else scale
    shift = w.get("beta", 0.0) - mean * scale
    return x * _along(scale, axes, x) + _along(shift, axes, x)


def _sample_normalization(c: Config, w: Weights, x: Array) -> Array:
    """Compute BatchNormalization(mode=1) of Keras 1, which adds epsilon twice."""
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    y = (x - mean) / (tf.sqrt(variance + c["epsilon"]) + c["epsilon"])
    return _scale_and_shift(w, y, [len(x.shape) - 1])


def _layer_normalization(c: Config, w: Weights, x: Array) -> Array:
    axes = _axes(c, x)
    mean, variance = tf.nn.moments(x, axes, keepdims=True)
    return _scale_and_shift(w, (x - mean) * tf.math.rsqrt(variance + c["epsilon"]), axes)


def _rms_normalization(c: Config, w: Weights, x: Array) -> Array:
    axes = _axes(c, x)
    power = tf.reduce_mean(tf.square(x), axes, keepdims=True)
    return x * tf.math.rsqrt(power + c["epsilon"]) * _along(w["scale"], axes, x)


def _group_normalization(c: Config, w: Weights, x: Array) -> Array:
    (axis,) = _axes(c, x)
    rank = len(x.shape)
    order = [*(a for a in range(rank) if a != axis), axis]
    last = tf.transpose(x, order)
    channels = last.shape[-1]
    groups = channels if c["groups"] == -1 else c["groups"]
    shape = tf.shape(last)
    y = tf.reshape(last, tf.concat([shape[:-1], [groups, channels // groups]], 0))
    mean, variance = tf.nn.moments(y, [*range(1, rank - 1), rank], keepdims=True)
    y = tf.reshape((y - mean) * tf.math.rsqrt(variance + c["epsilon"]), shape)
    y = _scale_and_shift(w, tf.ensure_shape(y, last.shape), [rank - 1])
    return tf.transpose(y, np.argsort(order))


def _normalization(c: Config, w: Weights, x: Array) -> Array:
    mean = w["mean"] if "mean" in w else tf.constant(c["mean"], tf.float32)
    variance = w["variance"] if "variance" in w else tf.constant(c["variance"], tf.float32)
    if c.get("axis", -1) is not None and mean.shape.rank == len(_axes(c, x)):
        mean, variance = (_along(value, _axes(c, x), x) for value in (mean, variance))
    deviation = tf.maximum(tf.sqrt(variance), 1e-7)
    return x * deviation + mean if c.get("invert") else (x - mean) / deviation


NORMALIZATIONS: dict[str, Callable[..., Array]] = {
    "BatchNormalization": _batch_normalization,
    "GroupNormalization": _group_normalization,
    "LayerNormalization": _layer_normalization,
    "LayerScale": lambda c, w, x: x * w["gamma"],
    "Normalization": _normalization,
    "RMSNormalization": _rms_normalization,
    "SampleNormalization": _sample_normalization,
    "SyncBatchNormalization": _batch_normalization,
    "UnitNormalization": lambda c, w, x: tf.math.l2_normalize(x, _axes(c, x)),
}
