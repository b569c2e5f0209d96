"""The shapes that a layer declares for its weights, by its arguments and the shapes of its inputs.

Shapes are those that the formulas take, whatever a file's layout is: kernels (rows, columns, in,
out). Sources: the `build` methods of Keras 1.2.2, 2.2.4, tf_keras 2.21 and Keras 3.15.

Each function takes the layer, the channels of its input and the shapes of its inputs (none before
the network is computed), and returns a shape for each role, or one for all of them.
"""

from __future__ import annotations

import math

from keras_files.network import Layer

Shape = tuple[int | None, ...]  # None: any length
Declared = dict[str, Shape] | Shape
GATES = {
    "GRU": "zrh",
    "GateConvLSTM2D": "icfo",
    "GateGRU": "zrh",
    "GateLSTM": "icfo",
    "LSTM": "ifco",
    "SimpleRNN": "h",
}


def times(size: int | None, factor: int) -> int | None:
    """Return the product, None of what is unknown."""
    return None if size is None else size * factor


def _window(layer: Layer) -> Shape:
    """Return the sizes of a kernel along the axes of space."""
    size = layer.config["kernel_size"]
    rank = next(int(letter) for letter in layer.kind if letter in "123")
    return (size,) * rank if isinstance(size, int) else tuple(size)


def convolution(layer: Layer, channels: int | None, inputs: list[Shape]) -> Declared:
    """Return the shapes of a convolution, whose groups see a part of the channels each."""
    groups, filters = layer.config.get("groups", 1), layer.config["filters"]
    inner = None if channels is None else channels // groups
    return {"kernel": (*_window(layer), inner, filters), "bias": (filters,)}


def transposed(layer: Layer, channels: int | None, inputs: list[Shape]) -> Declared:
    """Return the shapes of a transposed convolution."""
    filters = layer.config["filters"]
    return {"kernel": (*_window(layer), filters, channels), "bias": (filters,)}


def depthwise(layer: Layer, channels: int | None, inputs: list[Shape]) -> Declared:
    """Return the shapes of a convolution of each channel by itself."""
    factor = layer.config.get("depth_multiplier", 1)
    kernel = (*_window(layer), channels, factor)
    return {"depthwise_kernel": kernel, "bias": (times(channels, factor),)}


def separable(layer: Layer, channels: int | None, inputs: list[Shape]) -> Declared:
    """Return the shapes of a depthwise convolution with one of size 1 after it."""
    filters = layer.config["filters"]
    first = depthwise(layer, channels, inputs)
    pointwise = (*(1 for _ in _window(layer)), *first["bias"], filters)
    return {**first, "pointwise_kernel": pointwise, "bias": (filters,)}


def dense(layer: Layer, channels: int | None, inputs: list[Shape]) -> Declared:
    """Return the shapes of a Dense layer."""
    units = layer.config["units"]
    return {"kernel": (channels, units), "bias": (units,)}


def maxout_dense(layer: Layer, channels: int | None, inputs: list[Shape]) -> Declared:
    """Return the shapes of a MaxoutDense layer of Keras 1."""
    features, units = layer.config["nb_feature"], layer.config["units"]
    return {"kernel": (features, channels, units), "bias": (features, units)}


def highway(layer: Layer, channels: int | None, inputs: list[Shape]) -> Declared:
    """Return the shapes of a Highway layer of Keras 1."""
    square, line = (channels, channels), (channels,)
    return {"kernel": square, "carry_kernel": square, "bias": line, "carry_bias": line}


def locally_connected(layer: Layer, channels: int | None, inputs: list[Shape]) -> Declared:
    """Return the shapes of a layer with a kernel for each place."""
    config, window = layer.config, _window(layer)
    if config.get("implementation", 1) != 1:
        return {}  # not computed: its formula says so
    kernel = (None, times(channels, math.prod(window)), config["filters"])
    first = config["data_format"] == "channels_first"  # Keras 1 has the filters first then
    bias = (*(None for _ in window), None if first else config["filters"])
    return {"kernel": kernel, "bias": bias}


def normalization(layer: Layer, channels: int | None, inputs: list[Shape]) -> Declared:
    """Return the lengths of the axes that a normalization has weights for."""
    axis = layer.config.get("axis", -1)
    axes = axis if isinstance(axis, list) else [] if axis is None else [axis]
    return tuple(inputs[0][a] for a in axes) if inputs else (channels,) * len(axes)


def batch_normalization(layer: Layer, channels: int | None, inputs: list[Shape]) -> Declared:
    """Return the shape of all weights of a batch normalization.

    tf_keras may normalize several axes at once: then the others have the length 1.
    """
    axis = layer.config.get("axis", -1)
    if not isinstance(axis, list) or len(axis) < 2:
        return normalization(layer, channels, inputs)
    if not inputs:
        return {}
    axes = [a % len(inputs[0]) for a in axis]
    return tuple(size if a in axes else 1 for a, size in enumerate(inputs[0]))


def last_axis(layer: Layer, channels: int | None, inputs: list[Shape]) -> Declared:
    """Return the shape of weights with one number for each channel."""
    return (channels,)


def for_each_value(layer: Layer, channels: int | None, inputs: list[Shape]) -> Declared:
    """Return the shape of an activation's weights.

    One number for each value of a chip, except along `shared_axes`, which Keras 1 forgets.
    """
    if not inputs:
        return {}
    shared = layer.config.get("shared_axes", "unknown")
    if shared == "unknown":
        return (None,) * (len(inputs[0]) - 1)
    return tuple(1 if a in (shared or []) else n for a, n in enumerate(inputs[0][1:], start=1))


def attention(layer: Layer, channels: int | None, inputs: list[Shape]) -> Declared:
    """Return the shapes of the four projections of a MultiHeadAttention."""
    c = layer.config
    heads, key_size = c["num_heads"], c["key_dim"]
    value_size = c.get("value_dim") or key_size
    _, value, key = [*(shape[-1] for shape in inputs), None, None, None][:3]
    out = c.get("output_shape") or [channels]
    out = (out,) if isinstance(out, int) else tuple(out)
    return {
        "query/kernel": (channels, heads, key_size),
        "query/bias": (heads, key_size),
        "key/kernel": (key or value, heads, key_size),
        "key/bias": (heads, key_size),
        "value/kernel": (value, heads, value_size),
        "value/bias": (heads, value_size),
        "attention_output/kernel": (heads, value_size, *out),
        "attention_output/bias": out,
    }


def recurrent(layer: Layer, channels: int | None, inputs: list[Shape]) -> Declared:
    """Return the shapes of a recurrent layer, whose gates lie side by side."""
    units, gates = layer.config["units"], len(GATES[layer.kind])
    bias = (gates * units,)
    return {
        "kernel": (channels, gates * units),
        "recurrent_kernel": (units, gates * units),
        "bias": (2, *bias) if layer.config.get("reset_after") else bias,
    }


def gated(layer: Layer, channels: int | None, inputs: list[Shape]) -> Declared:
    """Return the shapes of a recurrent layer of Keras 1 with weights for each gate."""
    units = layer.config.get("units") or layer.config["filters"]
    window = _window(layer) if "kernel_size" in layer.config else ()
    if inputs and layer.config["data_format"] == "channels_first" and window:
        channels = inputs[0][2]
    shapes = {
        "kernel": (*window, channels, units),
        "recurrent_kernel": (*window, units, units),
        "bias": (units,),
    }
    return {f"{gate}/{role}": shapes[role] for gate in GATES[layer.kind] for role in shapes}


def conv_lstm(layer: Layer, channels: int | None, inputs: list[Shape]) -> Declared:
    """Return the shapes of an LSTM whose products are convolutions."""
    sizes, filters = _window(layer), layer.config["filters"]
    if inputs and layer.config["data_format"] == "channels_first":
        channels = inputs[0][2]
    return {
        "kernel": (*sizes, channels, 4 * filters),
        "recurrent_kernel": (*sizes, filters, 4 * filters),
        "bias": (4 * filters,),
    }
