"""The shapes that a layer declares for its weights, by its arguments and the shape of its input.

Shapes are those that the formulas take, whatever a file's layout is: kernels (rows, columns, in,
out). Sources: the `build` methods of Keras 1.2.2, 2.2.4, tf_keras 2.21 and Keras 3.15.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras_files.model_file import ModelError
from keras_files.network import Layer

Config = dict[str, Any]
Shape = tuple[int | None, ...]  # None: any length
Declared = dict[str, Shape]


def check_shapes(layer: Layer, stored: Mapping[str, Shape], inputs: list[Shape]) -> None:
    """Compare the weights of a layer with what it declares.

    Args:
        layer: as `open_model` settles it; of a kind without an entry in `DECLARED`, any will do.
        stored: the shapes of its weights by role.
        inputs: the shapes of its inputs, batch axis included. None are given before the network is
            computed: then the first weight tells how many channels the input has.

    Raises:
        ModelError: names the weight and both shapes.
    """
    if layer.kind not in DECLARED or not stored:
        return
    channels = inputs[0][-1] if inputs else _channels_of(layer, stored)
    declared = DECLARED[layer.kind](layer.config, channels, inputs)
    for role, wanted in declared.items():
        found = stored.get(role, wanted)
        fits = len(wanted) == len(found) and all(
            size in (None, length) for size, length in zip(wanted, found, strict=True)
        )
        if not fits:
            sizes = ", ".join("any" if size is None else str(size) for size in wanted)
            comma = "," if len(wanted) == 1 else ""
            raise ModelError(
                f"its {role} has the shape {found} in the file, but its configuration declares "
                f"({sizes}{comma}): save the model again with model.save()"
            )


def _channels_of(layer: Layer, stored: Mapping[str, Shape]) -> int | None:
    """The channels of a layer's input, as its first weight has them."""
    role, shape = next(iter(stored.items()))
    if layer.kind.startswith("LocallyConnected") or not shape:
        return None
    if layer.kind.endswith("Transpose"):
        return shape[-1]
    if role.endswith("kernel") and len(shape) > 1:
        return shape[0] if "/" in role else _times(shape[-2], layer.config.get("groups", 1))
    return shape[0] if len(shape) == 1 else None


def _times(size: int | None, factor: int) -> int | None:
    return None if size is None else size * factor


def _sizes(c: Config, key: str, rank: int) -> Shape:
    value = c[key]
    return (value,) * rank if isinstance(value, int) else tuple(value)


def _along(c: Config, channels: int | None, inputs: list[Shape]) -> Shape:
    """The lengths of the axes that a normalization has weights for."""
    axis = c.get("axis", -1)
    axes = axis if isinstance(axis, list) else [] if axis is None else [axis]
    return tuple(inputs[0][a] for a in axes) if inputs else (channels,) * len(axes)


# One function for a kind of layer: (arguments, channels of the input, shapes of the inputs).


def _convolution(rank: int) -> Callable[..., Declared]:
    def declared(c: Config, channels: int | None, inputs: list[Shape]) -> Declared:
        groups, filters = c.get("groups", 1), c["filters"]
        inner = None if channels is None else channels // groups
        kernel = (*_sizes(c, "kernel_size", rank), inner, filters)
        return {"kernel": kernel, "bias": (filters,)}

    return declared


def _transposed(rank: int) -> Callable[..., Declared]:
    def declared(c: Config, channels: int | None, inputs: list[Shape]) -> Declared:
        kernel = (*_sizes(c, "kernel_size", rank), c["filters"], channels)
        return {"kernel": kernel, "bias": (c["filters"],)}

    return declared


def _depthwise(rank: int) -> Callable[..., Declared]:
    def declared(c: Config, channels: int | None, inputs: list[Shape]) -> Declared:
        factor = c.get("depth_multiplier", 1)
        kernel = (*_sizes(c, "kernel_size", rank), channels, factor)
        return {"depthwise_kernel": kernel, "bias": (_times(channels, factor),)}

    return declared


def _separable(rank: int) -> Callable[..., Declared]:
    def declared(c: Config, channels: int | None, inputs: list[Shape]) -> Declared:
        depthwise = _depthwise(rank)(c, channels, inputs)
        pointwise = ((1,) * rank) + (*depthwise["bias"], c["filters"])
        return {**depthwise, "pointwise_kernel": pointwise, "bias": (c["filters"],)}

    return declared


def _dense(c: Config, channels: int | None, inputs: list[Shape]) -> Declared:
    return {"kernel": (channels, c["units"]), "bias": (c["units"],)}


def _maxout_dense(c: Config, channels: int | None, inputs: list[Shape]) -> Declared:
    features, units = c["nb_feature"], c["units"]
    return {"kernel": (features, channels, units), "bias": (features, units)}


def _highway(c: Config, channels: int | None, inputs: list[Shape]) -> Declared:
    square, line = (channels, channels), (channels,)
    return {"kernel": square, "carry_kernel": square, "bias": line, "carry_bias": line}


def _locally_connected(rank: int) -> Callable[..., Declared]:
    def declared(c: Config, channels: int | None, inputs: list[Shape]) -> Declared:
        if c.get("implementation", 1) != 1:
            return {}  # not computed: its formula says so
        window = 1
        for size in _sizes(c, "kernel_size", rank):
            window *= size
        kernel = (None, _times(channels, window), c["filters"])
        first = c["data_format"] == "channels_first"  # Keras 1 has the filters first then
        bias = (*(None,) * rank, None if first else c["filters"])
        return {"kernel": kernel, "bias": bias}

    return declared


def _normalization(*roles: str) -> Callable[..., Declared]:
    def declared(c: Config, channels: int | None, inputs: list[Shape]) -> Declared:
        return dict.fromkeys(roles, _along(c, channels, inputs))

    return declared


def _batch_normalization(c: Config, channels: int | None, inputs: list[Shape]) -> Declared:
    """tf_keras may normalize several axes at once: then the others have the length 1."""
    axis = c.get("axis", -1)
    shape = _along(c, channels, inputs)
    if isinstance(axis, list) and len(axis) > 1:
        if not inputs:
            return {}
        axes = [a % len(inputs[0]) for a in axis]
        shape = tuple(size if a in axes else 1 for a, size in enumerate(inputs[0]))
    return dict.fromkeys(["gamma", "beta", "moving_mean", "moving_variance"], shape)


def _layer_scale(c: Config, channels: int | None, inputs: list[Shape]) -> Declared:
    return {"gamma": (c["projection_dim"],)}


def _activation(*roles: str) -> Callable[..., Declared]:
    """One number for each value of a chip, except along `shared_axes`, which Keras 1 forgets."""

    def declared(c: Config, channels: int | None, inputs: list[Shape]) -> Declared:
        if not inputs:
            return {}
        shape = list(inputs[0][1:])
        shared = c.get("shared_axes", "unknown")
        for axis in range(len(shape)):
            if shared == "unknown":
                shape[axis] = None
            elif axis + 1 in (shared or []):
                shape[axis] = 1
        return dict.fromkeys(roles, tuple(shape))

    return declared


def _attention(c: Config, channels: int | None, inputs: list[Shape]) -> Declared:
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


def _recurrent(gates: int) -> Callable[..., Declared]:
    def declared(c: Config, channels: int | None, inputs: list[Shape]) -> Declared:
        units = c["units"]
        bias = (gates * units,)
        return {
            "kernel": (channels, gates * units),
            "recurrent_kernel": (units, gates * units),
            "bias": (2, *bias) if c.get("reset_after") else bias,
        }

    return declared


def _gated(gates: str) -> Callable[..., Declared]:
    def declared(c: Config, channels: int | None, inputs: list[Shape]) -> Declared:
        shapes = _recurrent(1)(c, channels, inputs)
        return {f"{gate}/{role}": shapes[role] for gate in gates for role in shapes}

    return declared


def _conv_lstm(rank: int) -> Callable[..., Declared]:
    def declared(c: Config, channels: int | None, inputs: list[Shape]) -> Declared:
        sizes, filters = _sizes(c, "kernel_size", rank), c["filters"]
        if inputs and c["data_format"] == "channels_first":
            channels = inputs[0][2]
        return {
            "kernel": (*sizes, channels, 4 * filters),
            "recurrent_kernel": (*sizes, filters, 4 * filters),
            "bias": (4 * filters,),
        }

    return declared


DECLARED: dict[str, Callable[[Config, int | None, list[Shape]], Declared]] = {
    **{f"Conv{rank}D": _convolution(rank) for rank in (1, 2, 3)},
    **{f"Conv{rank}DTranspose": _transposed(rank) for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": _depthwise(rank) for rank in (1, 2)},
    **{f"SeparableConv{rank}D": _separable(rank) for rank in (1, 2)},
    **dict.fromkeys(["BatchNormalization", "SyncBatchNormalization"], _batch_normalization),
    **dict.fromkeys(["GroupNormalization", "LayerNormalization"], _normalization("gamma", "beta")),
    **{f"ConvLSTM{rank}D": _conv_lstm(rank) for rank in (1, 2, 3)},
    "AdditiveAttention": lambda c, channels, inputs: {"scale": (channels,)},
    "Attention": lambda c, channels, inputs: {"scale": (), "concat_score_weight": ()},
    "Dense": _dense,
    "GRU": _recurrent(3),
    "GateGRU": _gated("zrh"),
    "GateLSTM": _gated("icfo"),
    "Highway": _highway,
    "LSTM": _recurrent(4),
    "LayerScale": _layer_scale,
    "LocallyConnected1D": _locally_connected(1),
    "LocallyConnected2D": _locally_connected(2),
    "MaxoutDense": _maxout_dense,
    "MultiHeadAttention": _attention,
    "ParametricSoftplus": _activation("alpha", "beta"),
    "Normalization": _normalization("mean", "variance"),
    "PReLU": _activation("alpha"),
    "RMSNormalization": _normalization("scale"),
    "SReLU": _activation("t_left", "a_left", "t_right", "a_right"),
    "SimpleRNN": _recurrent(1),
    "SampleNormalization": lambda c, channels, inputs: dict.fromkeys(
        ["gamma", "beta"], (channels,)
    ),
}
