"""Attention at prediction: arguments as in `formulas`, and the same sources."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_files.formulas import Array, Config, Weights, check_bias_axis, size_along


def _multi_head(
    c: Config, w: Weights, query: Array, value: Array, key: Array | None = None
) -> Array:
    """Compute MultiHeadAttention over all axes between batch and channels, or over its own."""
    key = value if key is None else key
    rank = len(query.shape)
    over = [axis % rank for axis in c.get("attention_axes") or range(1, rank - 1)]
    order = [*(axis for axis in range(rank - 1) if axis not in over), *over, rank - 1]

    def project(x: Array, role: str) -> Array:
        shape = x.shape
        x = tf.transpose(x, order)
        steps = [size_along(x, axis) for axis in range(rank - 1 - len(over), rank - 1)]
        flat = tf.reshape(x, [-1, math.prod(steps), x.shape[-1]])
        y = tf.einsum("nti,ihd->nthd", flat, w[f"{role}/kernel"])
        if f"{role}/bias" in w:
            bias = w[f"{role}/bias"].shape
            check_bias_axis(c, bias, [*shape[:-1], *bias])
        return y + w[f"{role}/bias"] if f"{role}/bias" in w else y

    q, k, v = project(query, "query"), project(key, "key"), project(value, "value")
    weights = tf.nn.softmax(tf.einsum("nthd,nshd->nhts", q, k) / math.sqrt(c["key_dim"]))
    y = tf.einsum("nhts,nshd->nthd", weights, v)
    y = tf.einsum("nthd,hdo->nto", y, w["attention_output/kernel"])
    y = y + w["attention_output/bias"] if "attention_output/bias" in w else y
    sizes = [size_along(query, axis) for axis in order[:-1]]
    y = tf.reshape(y, [-1 if query.shape[0] is None else sizes[0], *sizes[1:], y.shape[-1]])
    return tf.transpose(y, np.argsort(order))


def _scores(c: Config, w: Weights, query: Array, key: Array) -> Array:
    """Return how much each query looks at each key, (N, queries, keys)."""
    if c.get("score_mode", "dot") == "dot":
        scores = tf.matmul(query, key, transpose_b=True)
        return scores * w["scale"] if "scale" in w else scores
    pairs = query[:, :, None] + key[:, None]
    pairs = pairs * w["scale"] if "scale" in w else pairs
    return w["concat_score_weight"] * tf.reduce_sum(tf.tanh(pairs), -1)


def _plain_attention(c: Config, w: Weights, inputs: list[Array]) -> Array:
    """Compute attention of [query, value] or [query, value, key], without projections."""
    query, value, key = [*inputs, inputs[1]][:3]
    return tf.matmul(tf.nn.softmax(_scores(c, w, query, key)), value)


def _additive_attention(c: Config, w: Weights, inputs: list[Array]) -> Array:
    query, value, key = [*inputs, inputs[1]][:3]
    pairs = tf.tanh(query[:, :, None] + key[:, None])
    pairs = pairs * w["scale"] if "scale" in w else pairs
    return tf.matmul(tf.nn.softmax(tf.reduce_sum(pairs, -1)), value)


ATTENTION: dict[str, Callable[..., Array]] = {
    "AdditiveAttention": _additive_attention,
    "Attention": _plain_attention,
    "MultiHeadAttention": _multi_head,
}
