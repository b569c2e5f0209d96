"""What each layer of Keras computes at prediction, as TensorFlow functions on channels-last arrays.

A formula takes the layer's arguments in the common form of `open_model`, its weights by role, and
its inputs.

Formulas are those of the source of Keras 1.2.2, 2.2.4, tf_keras 2.21 and Keras 3.15 (directories
layers and backend), at prediction: Dropout and its kin pass their input on.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_files.model_file import ModelError
from keras_files.network import Layer
from keras_files.nodes import compute_node

Config = dict[str, Any]
Weights = dict[str, tf.Variable]
Array = tf.Tensor


def _several(value: int | list[int], rank: int) -> list[int]:
    """Return an argument for each axis of space: 2 -> [2, 2]."""
    return [value] * rank if isinstance(value, int) else list(value)


def size_along(x: Array, axis: int) -> int | Array:
    """Return the length of an axis, as a number if it is known."""
    return tf.shape(x)[axis] if x.shape[axis] is None else x.shape[axis]


def _first_windows(y: Array, x: Array, strides: list[int]) -> Array:
    """Return the first ceil(length of x / stride) places of y along each axis of space."""
    for axis, stride in enumerate(strides, start=1):
        y = tf.gather(y, tf.range((size_along(x, axis) + stride - 1) // stride), axis=axis)
    return y


def _pad_space(x: Array, pads: list[list[int]], value: float = 0.0) -> Array:
    return tf.pad(x, [[0, 0], *pads, [0, 0]], constant_values=value)


# Activations


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "celu": lambda x: tf.maximum(x, 0.0) + tf.math.expm1(tf.minimum(x, 0.0)),
    "elu": tf.nn.elu,
    "exponential": tf.exp,
    "gelu": tf.nn.gelu,
    "hard_sigmoid": lambda x: tf.clip_by_value(0.2 * x + 0.5, 0.0, 1.0),
    "hard_sigmoid_keras3": lambda x: tf.nn.relu6(x + 3.0) / 6.0,
    "hard_shrink": lambda x: tf.where(tf.abs(x) > 0.5, x, 0.0),
    "hard_swish": lambda x: x * tf.nn.relu6(x + 3.0) / 6.0,
    "hard_tanh": lambda x: tf.clip_by_value(x, -1.0, 1.0),
    "leaky_relu": lambda x: tf.nn.leaky_relu(x, 0.2),
    "linear": tf.identity,
    "log_sigmoid": tf.math.log_sigmoid,
    "log_softmax": tf.nn.log_softmax,
    "mish": lambda x: x * tf.tanh(tf.nn.softplus(x)),
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "selu": tf.nn.selu,
    "sigmoid": tf.sigmoid,
    "soft_shrink": lambda x: tf.sign(x) * tf.nn.relu(tf.abs(x) - 0.5),
    "softmax": tf.nn.softmax,
    "softplus": tf.nn.softplus,
    "softsign": tf.nn.softsign,
    "sparse_plus": lambda x: tf.where(tf.abs(x) < 1.0, tf.square(x + 1.0) / 4.0, tf.nn.relu(x)),
    "sparse_sigmoid": lambda x: tf.clip_by_value((x + 1.0) / 2.0, 0.0, 1.0),
    "squareplus": lambda x: (x + tf.sqrt(x * x + 4.0)) / 2.0,
    "swish": lambda x: x * tf.sigmoid(x),
    "tanh": tf.tanh,
    "tanh_shrink": lambda x: x - tf.tanh(x),
}


def activate(how: str | Layer, x: Array) -> Array:
    """Return the activation of a layer, by its name or as a layer of its own."""
    return FORMULAS[how.kind](how.config, {}, x) if isinstance(how, Layer) else ACTIVATIONS[how](x)


def _elu(c: Config, w: Weights, x: Array) -> Array:
    return tf.nn.relu(x) + c.get("alpha", 1.0) * tf.math.expm1(tf.minimum(x, 0.0))


def _relu(c: Config, w: Weights, x: Array) -> Array:
    """Return max_value above it, x from threshold on, else slope * (x - threshold)."""
    slope, top = c.get("negative_slope") or 0.0, c.get("max_value")
    threshold = c.get("threshold") or 0.0
    if slope == threshold == 0 and top in (None, 6):  # TensorFlow joins these with a convolution
        return tf.nn.relu(x) if top is None else tf.nn.relu6(x)
    y = tf.where(x >= threshold, x, slope * (x - threshold))
    return y if top is None else tf.minimum(y, top)


def _softmax(c: Config, w: Weights, x: Array) -> Array:
    axis = c.get("axis", -1)
    if isinstance(axis, int):
        return tf.nn.softmax(x, axis)
    return tf.exp(x - tf.reduce_logsumexp(x, axis, keepdims=True))


def _srelu(c: Config, w: Weights, x: Array) -> Array:
    """Compute SReLU of Keras 1; on Theano what is below `t_left` has the same upper limit, too."""
    right = w["t_left"] + tf.abs(w["t_right"])
    middle = tf.minimum(tf.nn.relu(x - w["t_left"]), right - w["t_left"])
    below = -w["a_left"] * tf.nn.relu(w["t_left"] - x)
    below = tf.minimum(below, right - w["t_left"]) if c["limits_below"] else below
    return w["t_left"] + middle + below + tf.nn.relu(x - right) * w["a_right"]


# Dense layers and convolutions


def check_bias_axis(c: Config, bias: list[int | None], y: list[int | None]) -> None:
    """Refuse a bias that Keras 3 adds along another axis than the declared one, on TensorFlow.

    Its `add` takes what has one long axis for a bias of the last axis of that length, or else of
    the first one after the batch; see keras/src/backend/tensorflow/numpy.py of Keras 3.15.

    Args:
        bias, y: the shapes of the bias and of what it is added to, as Keras has them.
    """
    long = [place - len(bias) for place, size in enumerate(bias) if size > 1]
    if c.get("adds_by_length") and len(long) == 1 and long[0] != -1:
        size = bias[long[0]]
        if size == y[-1] or (size == y[1] and long[0] != 1 - len(y)):
            raise ModelError(
                "its bias is added along another axis than that of the channels by some versions "
                "of Keras 3, for both have the same length: train the model without this bias, or "
                "channels last"
            )


def _finish(c: Config, w: Weights, y: Array, bias: str = "bias") -> Array:
    """Add the bias, apply the activation."""
    if bias in w:  # one for each channel, except for LocallyConnected2D
        first = "kernel_size" in c and c["data_format"] == "channels_first"
        if first and c.get("use_bias", True):  # else it is that of a normalization
            batch, *space, channels = y.shape
            check_bias_axis(c, [1, channels, *(1 for _ in space)], [batch, channels, *space])
        y = tf.nn.bias_add(y, w[bias]) if len(w[bias].shape) == 1 else y + w[bias]
    return activate(c.get("activation", "linear"), y)


def _dense(c: Config, w: Weights, x: Array) -> Array:
    return _finish(c, w, tf.tensordot(x, w["kernel"], 1) if len(x.shape) > 2 else x @ w["kernel"])


def _maxout_dense(c: Config, w: Weights, x: Array) -> Array:
    y = tf.einsum("ni,kio->nko", x, w["kernel"])
    return tf.reduce_max(y + w["bias"] if "bias" in w else y, axis=1)


def _highway(c: Config, w: Weights, x: Array) -> Array:
    carry = x @ w["carry_kernel"]
    gate = tf.sigmoid(carry + w["carry_bias"] if "carry_bias" in w else carry)
    return _finish(c, w, x @ w["kernel"]) * gate + (1.0 - gate) * x


def _padded(c: Config, x: Array, sizes: list[int], dilations: list[int]) -> tuple[Array, str]:
    """Return the input and the padding for TensorFlow, where it has no such padding itself.

    Theano pads a 'same' convolution by half a kernel on both sides, whatever the stride; see
    border_mode="half" of theano.tensor.nnet.conv2d, and _preprocess_padding in theano_backend.py.
    """
    reach = [(size - 1) * dilation for size, dilation in zip(sizes, dilations, strict=True)]
    if c["padding"] == "theano_same":
        return _pad_space(x, [[(r + 1) // 2] * 2 for r in reach]), "VALID"
    if c["padding"] == "causal":
        return _pad_space(x, [[r, 0] for r in reach]), "VALID"
    return x, c["padding"].upper()


def convolve(c: Config, x: Array, kernel: Array) -> Array:
    """Return the correlation of x with kernel, channels last, of 1 to 3 axes of space."""
    rank = len(kernel.shape) - 2
    strides, dilations = (_several(c.get(key, 1), rank) for key in ("strides", "dilation_rate"))
    padded, padding = _padded(c, x, kernel.shape[:-2], dilations)
    convolution = functools.partial(
        tf.nn.convolution, strides=strides, padding=padding, dilations=dilations
    )
    if (groups := c.get("groups", 1)) == 1:  # the rule: a split takes time to trace
        y = convolution(padded, kernel)
    else:
        pieces = (tf.split(array, groups, axis=-1) for array in (padded, kernel))
        y = tf.concat([*map(convolution, *pieces)], axis=-1)
    return _first_windows(y, x, strides) if c["padding"] == "theano_same" else y


def _conv(c: Config, w: Weights, x: Array) -> Array:
    return _finish(c, w, convolve(c, x, w["kernel"]))


def _depthwise(c: Config, x: Array, kernel: Array) -> Array:
    """Convolve each channel with its own kernels, (rows, columns, channels, multiplier)."""
    if len(x.shape) == 3:
        strides, dilation = (_several(c.get(k, 1), 1) * 2 for k in ("strides", "dilation_rate"))
        flat, padding = _padded(c, x, [kernel.shape[0]], dilation[:1])
        one = {**c, "padding": padding.lower(), "strides": strides, "dilation_rate": dilation}
        return tf.squeeze(_depthwise(one, flat[:, None], kernel[None]), 1)
    strides, dilations = (_several(c.get(key, 1), 2) for key in ("strides", "dilation_rate"))
    padded, padding = _padded(c, x, kernel.shape[:2], dilations)
    y = tf.nn.depthwise_conv2d(padded, kernel, [1, *strides, 1], padding, dilations=dilations)
    return _first_windows(y, x, strides) if c["padding"] == "theano_same" else y


def _depthwise_conv(c: Config, w: Weights, x: Array) -> Array:
    return _finish(c, w, _depthwise(c, x, w["depthwise_kernel"]))


def _separable_conv(c: Config, w: Weights, x: Array) -> Array:
    y = _depthwise(c, x, w["depthwise_kernel"])
    return _finish(c, w, tf.nn.convolution(y, w["pointwise_kernel"]))


def _conv_transpose(c: Config, w: Weights, x: Array) -> Array:
    """Compute the gradient of a convolution: each value of x adds a kernel (.., .., out, in).

    The sum of all kernels is cut or filled to the size that Keras gives; see deconv_output_length
    in conv_utils.py, and for `output_shape` Deconvolution2D of Keras 1.
    """
    kernel = w["kernel"]
    rank = len(kernel.shape) - 2
    strides, dilations = (_several(c.get(key, 1), rank) for key in ("strides", "dilation_rate"))
    for axis, dilation in enumerate(dilations):
        kernel = _spread(kernel, axis, dilation)
    extras = c.get("output_padding")
    extras = [None] * rank if extras is None else _several(extras, rank)
    begin, sizes, whole = [0], [size_along(x, 0)], [size_along(x, 0)]
    for axis, (stride, extra) in enumerate(zip(strides, extras, strict=True)):
        size, length = kernel.shape[axis], size_along(x, axis + 1)
        full = (length - 1) * stride + size
        if c["padding"] == "valid":
            before, out = 0, full + (max(stride - size, 0) if extra is None else extra)
        else:
            out = length * stride if extra is None else full - size // 2 * 2 + extra
            # TensorFlow: what a 'same' convolution of the result would pad; Theano: half a kernel
            surplus = (length - 1) * stride + size - out
            before = size // 2 if c["padding"] == "theano_same" else tf.maximum(surplus, 0) // 2
        if c.get("output_shape"):
            out = c["output_shape"][axis + (2 if c["data_format"] == "channels_first" else 1)]
        begin.append(before)
        sizes.append(out)
        whole.append(full + stride - 1)
    y = tf.nn.conv_transpose(x, kernel, [*whole, kernel.shape[-2]], strides, "VALID")
    missing = [[0, tf.maximum(sum(ends) - n, 0)] for *ends, n in zip(begin, sizes, whole)]
    y = tf.slice(_pad_space(y, missing[1:]), [*begin, 0], [*sizes, kernel.shape[-2]])
    return _finish(c, w, y)


def _spread(kernel: Array, axis: int, dilation: int) -> Array:
    """Return a kernel with zeros between its values: conv_transpose has no dilation on the CPU."""
    if dilation == 1:
        return kernel
    pads = [[0, 0]] * (len(kernel.shape) + 1)
    pads[axis + 1] = [0, dilation - 1]
    shape = kernel.shape.as_list()
    shape[axis] *= dilation
    spread = tf.reshape(tf.pad(tf.expand_dims(kernel, axis + 1), pads), shape)
    return tf.gather(spread, tf.range(shape[axis] - dilation + 1), axis=axis)


def _locally_connected(c: Config, w: Weights, x: Array) -> Array:
    """Apply a kernel of its own to each place, (places, rows * columns * in, filters); also 1-D.

    Channels first, a window's values stand channel by channel, and the values of the bias are read
    as (filters, ...), whatever its shape: see bias_add in the backends of Keras.
    """
    if c.get("implementation", 1) != 1 or c["padding"] != "valid":
        raise ModelError("another implementation than 1 of this layer cannot be computed")
    rank = len(x.shape) - 2
    sizes, strides = (_several(c[key], rank) for key in ("kernel_size", "strides"))
    line = rank == 1
    image = x[:, :, None] if line else x
    ones = [1] * (2 - rank)
    windows = tf.image.extract_patches(
        image, [1, *sizes, *ones, 1], [1, *strides, *ones, 1], [1] * 4, "VALID"
    )
    windows = tf.squeeze(windows, 2) if line else windows
    kernel, bias = w["kernel"], w.get("bias")
    if c["data_format"] == "channels_first":
        parts = tf.reshape(kernel, [kernel.shape[0], -1, math.prod(sizes), kernel.shape[2]])
        kernel = tf.reshape(tf.transpose(parts, [0, 2, 1, 3]), kernel.shape)
        if bias is not None:
            bias = tf.reshape(bias, [kernel.shape[2], *windows.shape[1:-1]])
            bias = tf.transpose(bias, [*range(1, rank + 1), 0])
    kernel = tf.reshape(kernel, [*windows.shape[1:-1], *kernel.shape[1:]])
    y = tf.einsum("nli,lio->nlo" if line else "nhwi,hwio->nhwo", windows, kernel)
    return _finish(c, {} if bias is None else {"bias": bias}, y)


# Pooling and resizing


POOLS = {"MAX": tf.nn.max_pool, "AVG": tf.nn.avg_pool}


def _pool(c: Config, x: Array, mode: str, rank: int) -> Array:
    """Pool windows of x; Theano's 'same' has its own margins (pool2d in theano_backend.py)."""
    sizes = _several(c["pool_size"], rank)
    strides = _several(c.get("strides") or sizes, rank)
    pool = functools.partial(POOLS[mode], ksize=sizes, strides=strides)
    if c["padding"] != "theano_same":
        return pool(x, padding=c["padding"].upper())
    pads = [[k - 2 if k > 2 and k % 2 else k - 1] * 2 for k in sizes]
    if mode == "MAX":
        y = pool(_pad_space(x, pads, x.dtype.min), padding="VALID")
    else:
        share = pool(_pad_space(tf.ones_like(x), pads), padding="VALID")
        y = pool(_pad_space(x, pads), padding="VALID") / share
    return _first_windows(y, x, strides)


def _global_pool(c: Config, x: Array, reduce: Callable[..., Array]) -> Array:
    return reduce(x, list(range(1, len(x.shape) - 1)), keepdims=c.get("keepdims") or False)


def _resize(x: Array, size: list[Any], how: str, antialias: bool = False) -> Array:
    if how == "bilinear_corner":
        return tf.compat.v1.image.resize_bilinear(x, size)
    return tf.image.resize(x, size, how, antialias=antialias)


def _upsample(c: Config, w: Weights, x: Array) -> Array:
    rank = len(x.shape) - 2
    how = c.get("interpolation", "nearest")
    sizes = _several(c["size"], rank)
    if how == "nearest":
        for axis, size in enumerate(sizes, start=1):
            x = tf.repeat(x, size, axis=axis)
        return x
    return _resize(x, [size_along(x, 1) * sizes[0], size_along(x, 2) * sizes[1]], how)


def _smart_resize(x: Array, size: list[int], how: str, antialias: bool = False) -> Array:
    """Cut the middle with the proportions of the result, then resize: keras.utils smart_resize."""
    height, width = size_along(x, 1), size_along(x, 2)
    rows = tf.clip_by_value(width * size[0] // size[1], 1, height)
    columns = tf.clip_by_value(height * size[1] // size[0], 1, width)
    begin = [0, (height - rows) // 2, (width - columns) // 2, 0]
    return _resize(tf.slice(x, begin, [-1, rows, columns, -1]), size, how, antialias)


def _resizing(c: Config, w: Weights, x: Array) -> Array:
    size, how = [c["height"], c["width"]], c.get("interpolation", "bilinear")
    resize = _smart_resize if c.get("crop_to_aspect_ratio") else _resize
    return resize(x, size, how, c.get("antialias") or False)


def _center_crop(c: Config, w: Weights, x: Array) -> Array:
    rows, columns = c["height"], c["width"]
    height, width = x.shape[1:3]
    if (height and height < rows) or (width and width < columns):
        return _smart_resize(x, [rows, columns], "bilinear")
    begin = [0, (size_along(x, 1) - rows) // 2, (size_along(x, 2) - columns) // 2, 0]
    return tf.slice(x, begin, [-1, rows, columns, -1])


def _margins(value: Any, rank: int) -> list[list[int]]:
    """Return [[before, after], ...] of 1, [1, 2], [[1, 0], [2, 1]] or [1, 0, 2, 1] (Keras 1)."""
    if isinstance(value, dict):
        value = [value[f"{side}_pad"] for side in ("top", "bottom", "left", "right")]
    if isinstance(value, list) and len(value) == 2 * rank and isinstance(value[0], int):
        return [value[i : i + 2] for i in range(0, 2 * rank, 2)]
    return [_several(side, 2) for side in _several(value, rank)]


def _zero_padding(c: Config, w: Weights, x: Array) -> Array:
    return _pad_space(x, _margins(c["padding"], len(x.shape) - 2))


def _cropping(c: Config, w: Weights, x: Array) -> Array:
    margins = _margins(c["cropping"], len(x.shape) - 2)
    cuts = [slice(before, -after if after else None) for before, after in margins]
    return x[(slice(None), *cuts)]


# Shapes and merges


def _dot(c: Config, w: Weights, inputs: list[Array]) -> Array:
    """Return the sum of products along one axis of each; a pair of vectors gives (N, 1)."""
    first, second = inputs
    if max(len(first.shape), len(second.shape)) > 3:
        raise ModelError("products of arrays of more than two axes cannot be computed")
    axes = c["axes"] if isinstance(c["axes"], list) else [c["axes"]] * 2
    axes = [axis % len(x.shape) for axis, x in zip(axes, inputs, strict=True)]
    if 0 in axes:
        raise ModelError("its axes are not those of a chip's arrays")
    if c.get("normalize"):
        first, second = (tf.math.l2_normalize(x, a) for x, a in zip(inputs, axes, strict=True))
    # letters: n the chips, k the common axis, a and b the others
    left, right = (
        "".join("n" if i == 0 else "k" if i == axis else letter for i in range(len(x.shape)))
        for x, axis, letter in zip(inputs, axes, "ab", strict=True)
    )
    y = tf.einsum(f"{left},{right}->n{left.strip('nk')}{right.strip('nk')}", first, second)
    return y if len(y.shape) > 1 else y[:, None]


def _cosine(c: Config, w: Weights, inputs: list[Array]) -> Array:
    """Compute Merge(mode="cos") of Keras 1."""
    first, second = inputs
    square = _dot(c, w, [first, first]) * _dot(c, w, [second, second])
    return (_dot(c, w, inputs) / tf.maximum(tf.sqrt(square), 1e-7))[:, None]


def _einsum_dense(c: Config, w: Weights, x: Array) -> Array:
    y = tf.einsum(c["equation"], x, w["kernel"])
    if "bias" in w:
        check_bias_axis(c, w["bias"].shape, y.shape)
        y = y + w["bias"]
    return activate(c.get("activation", "linear"), y)


def _flatten(c: Config, w: Weights, x: Array) -> Array:
    if c.get("data_format") == "channels_first" and len(x.shape) > 2:
        x = tf.transpose(x, [0, *range(2, len(x.shape)), 1])
    return _reshaped(x, [-1])


def _reshaped(x: Array, shape: list[int]) -> Array:
    """Reshape but for the batch; of the shape, one size may be -1."""
    sizes = x.shape[1:]
    if -1 in shape and sizes.is_fully_defined():
        rest = math.prod(size for size in shape if size != -1)
        shape = [math.prod(sizes) // max(rest, 1) if size == -1 else size for size in shape]
    batch = -1 if -1 not in shape else tf.shape(x)[0]
    return tf.reshape(x, [batch, *shape])


def _merge(combine: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    """Return a merge of a list of inputs; those of lower rank get axes after the batch."""

    def merge(c: Config, w: Weights, inputs: list[Array], *others: Array) -> Array:
        inputs = [*(inputs if isinstance(inputs, list) else [inputs]), *others]
        rank = max(len(x.shape) for x in inputs)
        spread = [
            functools.reduce(lambda y, _: tf.expand_dims(y, 1), range(rank - len(x.shape)), x)
            for x in inputs
        ]
        return functools.reduce(combine, spread)

    return merge


def _average(c: Config, w: Weights, inputs: list[Array]) -> Array:
    return FORMULAS["Add"](c, w, inputs) / len(inputs)


def _scaled_sum(c: Config, w: Weights, inputs: list[Array]) -> Array:
    if not isinstance(inputs, list) or len(inputs) != 2:
        raise ModelError("the layer of this name in keras.applications has two inputs")
    return inputs[0] + inputs[1] * c["scale"]


def _concatenate(c: Config, w: Weights, inputs: list[Array]) -> Array:
    return tf.concat(inputs, axis=c.get("axis", -1))


def _operation(c: Config, w: Weights, *args: Any, **kwargs: Any) -> Array:
    """Call a function of TensorFlow that operations.OPERATIONS allows."""
    if c["function"] == "getitem" and c["constants"] is None:
        spec = args[1] if len(args) > 1 else kwargs["slice_spec"]
        return args[0][tuple(spec) if isinstance(spec, list) else spec]
    if c["constants"] is not None:
        tensors = list(args[0]) if isinstance(args[0], list) else list(args)
        for place, value in sorted(c["constants"].items()):
            tensors.insert(place, value)
        return compute_node(c["node"], c["arguments"], tensors)
    axis = kwargs.get("axis", c["arguments"].get("axis", 0))
    if c["function"] == "gather" and isinstance(args[1], list):  # -1: the last one
        if c.get("clips") and np.min(args[1]) < 0:
            raise ModelError("it takes the place -1, for which versions of Keras 3 differ")
        args = [args[0], np.asarray(args[1]) % args[0].shape[axis], *args[2:]]
    if "most_axes" in c and len(tf.convert_to_tensor(args[1]).shape) > c["most_axes"]:
        raise ModelError("a dot of two images cannot be computed: use matmul or einsum")
    sizes = c["arguments"].get("num_or_size_splits")
    if c.get("promotes") and isinstance(sizes, list):  # Keras 3 says where each part begins
        sizes = np.diff([0, *sizes, args[0].shape[axis]]).tolist()
        c = c | {"arguments": c["arguments"] | {"num_or_size_splits": sizes}}
    kwargs = {key: value for key, value in kwargs.items() if value is not None}
    if len(args) == 2 and isinstance(args[0], int) and getattr(args[1], "dtype", None) == "float32":
        args = [float(args[0]), args[1]]  # 2 * x, of which TensorFlow would make an integer
    function = functools.reduce(getattr, c["function"].split("."), tf)
    return function(*args, **c["arguments"], **kwargs)


FORMULAS: dict[str, Callable[..., Array]] = {
    "Activation": lambda c, w, x: activate(c["activation"], x),
    "ActivityRegularization": lambda c, w, x: x,
    "Add": _merge(tf.add),
    "Average": _average,
    "AveragePooling1D": lambda c, w, x: _pool(c, x, "AVG", 1),
    "AveragePooling2D": lambda c, w, x: _pool(c, x, "AVG", 2),
    "AveragePooling3D": lambda c, w, x: _pool(c, x, "AVG", 3),
    "CenterCrop": _center_crop,
    "CastToFloat32": lambda c, w, x: x,
    "Concatenate": _concatenate,
    "Conv1D": _conv,
    "Conv2D": _conv,
    "Conv1DTranspose": _conv_transpose,
    "Conv2DTranspose": _conv_transpose,
    "Conv3D": _conv,
    "Conv3DTranspose": _conv_transpose,
    "Cropping1D": _cropping,
    "Cropping2D": _cropping,
    "Cropping3D": _cropping,
    "Cosine": _cosine,
    "CustomScaleLayer": _scaled_sum,
    "Dense": _dense,
    "DepthwiseConv1D": _depthwise_conv,
    "DepthwiseConv2D": _depthwise_conv,
    "Dot": _dot,
    "ELU": _elu,
    "EinsumDense": _einsum_dense,
    "Flatten": _flatten,
    "GlobalAveragePooling1D": lambda c, w, x: _global_pool(c, x, tf.reduce_mean),
    "GlobalAveragePooling2D": lambda c, w, x: _global_pool(c, x, tf.reduce_mean),
    "GlobalAveragePooling3D": lambda c, w, x: _global_pool(c, x, tf.reduce_mean),
    "GlobalMaxPooling1D": lambda c, w, x: _global_pool(c, x, tf.reduce_max),
    "GlobalMaxPooling2D": lambda c, w, x: _global_pool(c, x, tf.reduce_max),
    "GlobalMaxPooling3D": lambda c, w, x: _global_pool(c, x, tf.reduce_max),
    "Highway": _highway,
    "Identity": lambda c, w, x: x,
    "InputLayer": lambda c, w, x: x,
    "LeakyReLU": lambda c, w, x: tf.nn.leaky_relu(x, c.get("alpha", c.get("negative_slope", 0.3))),
    "LocallyConnected1D": _locally_connected,
    "LocallyConnected2D": _locally_connected,
    "MaxPooling1D": lambda c, w, x: _pool(c, x, "MAX", 1),
    "MaxPooling2D": lambda c, w, x: _pool(c, x, "MAX", 2),
    "MaxPooling3D": lambda c, w, x: _pool(c, x, "MAX", 3),
    "Maximum": _merge(tf.maximum),
    "MaxoutDense": _maxout_dense,
    "Minimum": _merge(tf.minimum),
    "Multiply": _merge(tf.multiply),
    "Operation": _operation,
    "PReLU": lambda c, w, x: tf.nn.relu(x) - w["alpha"] * tf.nn.relu(-x),
    "ParametricSoftplus": lambda c, w, x: tf.nn.softplus(w["beta"] * x) * w["alpha"],
    "Permute": lambda c, w, x: tf.transpose(x, [0, *c["dims"]]),
    "ReLU": _relu,
    "RepeatVector": lambda c, w, x: tf.repeat(x[:, None], c["n"], axis=1),
    "Rescaling": lambda c, w, x: x * c["scale"] + c["offset"],
    "Reshape": lambda c, w, x: _reshaped(x, c["target_shape"]),
    "Resizing": _resizing,
    "SReLU": _srelu,
    "SeparableConv1D": _separable_conv,
    "SeparableConv2D": _separable_conv,
    "Softmax": _softmax,
    "Subtract": _merge(tf.subtract),
    "ThresholdedReLU": lambda c, w, x: tf.where(x > c["theta"], x, 0.0),
    "UpSampling1D": _upsample,
    "UpSampling2D": _upsample,
    "UpSampling3D": _upsample,
    "ZeroPadding1D": _zero_padding,
    "ZeroPadding2D": _zero_padding,
    "ZeroPadding3D": _zero_padding,
}
