"""Standard layers of Keras 3 and of tf_keras with random legal arguments, for random_models.py.

`LAYERS` has for each layer of one input the ranks of what it takes (axes of one chip: 1 is a
vector, 2 a line, 3 an image, 4 a volume, 5 a line of volumes) and a function that draws its
arguments; `merge`, `recurrent`, `attention` and `wrapped` make what needs more than that. What is
drawn may still not be legal: Keras then says so, and another layer is drawn.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, Self

Shape = tuple[int | None, ...]  # without the axis of the batch; None: any length
Arguments = dict[str, Any]

ANY = (1, 2, 3, 4, 5)
MERGES = ("Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract")
RECURRENT = ("GRU", "LSTM", "SimpleRNN")
ATTENTION = ("AdditiveAttention", "Attention", "GroupQueryAttention", "MultiHeadAttention")
WRAPPERS = ("Bidirectional", "RNN", "SpectralNormalization", "TimeDistributed")
LONGEST = 40  # steps of a recurrent layer

# No activation, or one that is no function of one array and no more.
_NO_ACTIVATIONS = {"deserialize", "get", "glu", "serialize", "threshold"}
_INTERPOLATIONS = ["area", "bicubic", "bilinear", "gaussian", "lanczos3", "lanczos5"]
_INTERPOLATIONS += ["mitchellcubic", "nearest", "nearest", "bilinear"]


class Draw(random.Random):
    """Random numbers, for the layers of one library.

    Args:
        seed: the same one draws the same.
        keras: the module keras or tf_keras.
    """

    def __init__(self, seed: str, keras: Any) -> None:
        super().__init__(seed)
        self.keras = keras
        self.layers = keras.layers
        self.is_keras3 = keras.__name__ == "keras"
        self._activations = sorted(
            {name for name in dir(keras.activations) if name[0].islower()} - _NO_ACTIVATIONS
        )

    def __new__(cls, *arguments: Any) -> Self:
        return super().__new__(cls)

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def number(self, low: float, high: float) -> float:
        return round(self.uniform(low, high), 3)

    def one_or_all(self, values: Sequence[int]) -> int | tuple[int, ...]:
        """An argument for each axis, or one number if it is the same for all."""
        return values[0] if len(set(values)) == 1 and self.chance(0.7) else tuple(values)

    def activation(self, plain: float = 0.4) -> Any:
        """None, a name, or a layer."""
        if self.chance(plain):
            return None
        if self.chance(0.1):
            return self.layers.LeakyReLU(self.number(0, 0.5))
        return self.choice(self._activations)

    def data_format(self) -> str | None:
        return self.choices(["channels_first", "channels_last", None], [1, 2, 2])[0]

    def axis(self, shape: Shape) -> int:
        """One of the axes of a chip, counted from either end."""
        axis = self.randint(1, len(shape))
        return self.choice([axis, axis - 1 - len(shape), -1])

    def axes(self, shape: Shape) -> int | list[int]:
        """One of the axes of a chip or several, in any order."""
        if len(shape) == 1 or self.chance(0.6):
            return self.axis(shape)
        return self.sample(range(1, len(shape) + 1), self.randint(1, len(shape)))

    def training(self) -> Arguments:
        """Arguments that matter in training alone."""
        found: Arguments = {}
        if self.chance(0.2):
            found["kernel_regularizer"] = self.choice(["l1", "l2", self.keras.regularizers.L2(0.1)])
        if self.chance(0.2):
            found["kernel_initializer"] = self.choice(["he_normal", "zeros", "random_normal"])
        if self.chance(0.1):
            found["kernel_constraint"] = self.choice(["non_neg", "unit_norm"])
        return found


# Convolution and pooling


def _space(shape: Shape, data_format: str | None) -> list[int]:
    """The lengths of the axes of space."""
    return [size or 8 for size in (shape[1:] if data_format == "channels_first" else shape[:-1])]


def _channels(shape: Shape, data_format: str | None) -> int:
    return (shape[0] if data_format == "channels_first" else shape[-1]) or 3


def windows(d: Draw, shape: Shape, key: str, alike: bool = False, dilate: float = 0.2) -> Arguments:
    """What moves over the axes of space: its size, strides, dilation, padding.

    Args:
        key: "kernel_size" or "pool_size".
        alike: the same strides along all axes.
        dilate: how often it is dilated.
    """
    data_format = d.data_format()
    lengths = _space(shape, data_format)
    sizes = [d.randint(1, min(4, length)) for length in lengths]
    drawn = {
        key: d.one_or_all(sizes),
        "padding": d.choice(["valid", "same"]),
        "data_format": data_format,
    }
    how = d.random()
    if how < dilate:
        room = [max(1, (n - 1) // max(1, k - 1)) for n, k in zip(lengths, sizes, strict=True)]
        steps = [d.randint(1, min(3, most)) for most in room]
        drawn["dilation_rate"] = d.one_or_all([min(steps)] * len(steps) if alike else steps)
    elif how < 0.7:
        steps = [d.randint(1, 3) for _ in lengths]
        drawn["strides"] = d.one_or_all([steps[0]] * len(steps) if alike else steps)
    return drawn


def _finish(d: Draw) -> Arguments:
    return {"activation": d.activation(), "use_bias": d.chance(0.7)}


def convolution(d: Draw, shape: Shape) -> Arguments:
    drawn = windows(d, shape, "kernel_size") | _finish(d) | d.training()
    channels = _channels(shape, drawn["data_format"])
    groups = d.choice([n for n in range(1, channels + 1) if channels % n == 0])
    groups = groups if d.chance(0.3) else 1
    if len(shape) == 2 and drawn["data_format"] != "channels_first" and d.chance(0.3):
        drawn["padding"] = "causal"
    return drawn | {"filters": groups * d.randint(1, 4), "groups": groups}


def transposed(d: Draw, shape: Shape) -> Arguments:
    drawn = windows(d, shape, "kernel_size", dilate=0.1) | _finish(d)
    strides = drawn.get("strides", 1)
    rank = len(shape) - 1
    steps = [strides] * rank if isinstance(strides, int) else strides
    if min(steps) > 1 and d.chance(0.3):
        drawn["output_padding"] = d.one_or_all([d.randrange(step) for step in steps])
    return drawn | {"filters": d.randint(1, 4)}


def depthwise(d: Draw, shape: Shape) -> Arguments:
    drawn = windows(d, shape, "kernel_size", alike=True) | _finish(d)
    return drawn | {"depth_multiplier": d.choice([1, 1, 2, 3])}


def separable(d: Draw, shape: Shape) -> Arguments:
    return depthwise(d, shape) | {"filters": d.randint(1, 5)}


def local(d: Draw, shape: Shape) -> Arguments:
    drawn = windows(d, shape, "kernel_size", dilate=0) | _finish(d) | {"padding": "valid"}
    return drawn | {
        "filters": d.randint(1, 3),
        "implementation": d.choices([1, 2, 3], [8, 1, 1])[0],
    }


def pool(d: Draw, shape: Shape) -> Arguments:
    return windows(d, shape, "pool_size", dilate=0)


def global_pool(d: Draw, shape: Shape) -> Arguments:
    drawn: Arguments = {"data_format": d.data_format() or "channels_last"}
    return drawn | ({"keepdims": True} if d.chance(0.3) else {})


def adaptive_pool(d: Draw, shape: Shape) -> Arguments:
    data_format = d.data_format()
    sizes = tuple(d.randint(1, n) for n in _space(shape, data_format))
    return {"output_size": sizes, "data_format": data_format}


# Sizes and places


def margins(d: Draw, shape: Shape, key: str, most: Callable[[int], int]) -> Arguments:
    """What is added or cut off at the ends of each axis of space, in one of the forms of Keras."""
    data_format = d.data_format()
    sides = [most(n) for n in _space(shape, data_format)]
    how = d.randrange(3)
    if how == 0:
        value: Any = d.randint(0, min(sides))
    elif how == 1:
        value = tuple(d.randint(0, side) for side in sides)
    else:
        value = tuple((d.randint(0, side), d.randint(0, side)) for side in sides)
    if len(sides) == 1:  # a pair is (before, after)
        value = (
            value if isinstance(value, int) else (d.randint(0, sides[0]), d.randint(0, sides[0]))
        )
        return {key: value}
    return {key: value, "data_format": data_format}


def cropping(d: Draw, shape: Shape) -> Arguments:
    return margins(d, shape, "cropping", lambda length: max(0, (length - 1) // 4))


def zero_padding(d: Draw, shape: Shape) -> Arguments:
    return margins(d, shape, "padding", lambda length: 2)


def up_sampling(d: Draw, shape: Shape) -> Arguments:
    sizes = d.one_or_all([d.randint(1, 3) for _ in shape[1:]])
    if len(shape) == 2:
        return {"size": d.randint(1, 3)}
    drawn: Arguments = {"size": sizes, "data_format": d.data_format()}
    return drawn | ({"interpolation": d.choice(_INTERPOLATIONS)} if len(shape) == 3 else {})


def resizing(d: Draw, shape: Shape) -> Arguments:
    drawn: Arguments = {"height": d.randint(2, 14), "width": d.randint(2, 14)}
    drawn["interpolation"] = d.choice(_INTERPOLATIONS)
    if d.chance(0.3):
        drawn["crop_to_aspect_ratio"] = True
    if d.is_keras3:
        drawn["data_format"] = d.data_format()
        drawn["antialias"] = d.chance(0.3)
        if "crop_to_aspect_ratio" not in drawn and d.chance(0.1):
            drawn["pad_to_aspect_ratio"] = True
    return drawn


def center_crop(d: Draw, shape: Shape) -> Arguments:
    drawn: Arguments = {"height": d.randint(2, 14), "width": d.randint(2, 14)}
    return drawn | ({"data_format": d.data_format()} if d.is_keras3 else {})


def reshape(d: Draw, shape: Shape) -> Arguments:
    """Another shape of as many values, of any rank."""
    left, sizes = math.prod(size or 1 for size in shape), []
    for _ in range(d.randint(0, 4)):
        sizes.append(d.choice([n for n in range(1, min(left, 16) + 1) if left % n == 0]))
        left //= sizes[-1]
    sizes.insert(d.randint(0, len(sizes)), left)
    if d.chance(0.3):
        sizes[d.randrange(len(sizes))] = -1
    return {"target_shape": tuple(sizes)}


def permute(d: Draw, shape: Shape) -> Arguments:
    return {"dims": tuple(d.sample(range(1, len(shape) + 1), len(shape)))}


# Normalizations and what works on values


def batch_normalization(d: Draw, shape: Shape) -> Arguments:
    axis: Any = d.choice([-1, d.axis(shape)])
    if not d.is_keras3 and d.chance(0.2):
        axis = d.axes(shape)
    drawn = {"axis": axis, "epsilon": d.choice([1e-3, 1e-5, 0.1]), "momentum": d.number(0, 1)}
    if d.is_keras3 and d.chance(0.05):
        drawn["renorm"] = True
    return drawn | {"center": d.chance(0.8), "scale": d.chance(0.8)}


def layer_normalization(d: Draw, shape: Shape) -> Arguments:
    drawn = {"axis": d.axes(shape), "epsilon": d.choice([1e-3, 1e-6, 0.1])}
    return drawn | {"center": d.chance(0.8), "scale": d.chance(0.8)}


def group_normalization(d: Draw, shape: Shape) -> Arguments:
    axis = d.axis(shape) if d.chance(0.2) else -1
    channels = shape[axis if axis < 0 else axis - 1] or 3
    groups = d.choice([-1, *(n for n in range(1, channels + 1) if channels % n == 0)])
    return layer_normalization(d, shape) | {"axis": axis, "groups": groups}


def rms_normalization(d: Draw, shape: Shape) -> Arguments:
    return {"axis": d.axes(shape) if d.chance(0.5) else -1, "epsilon": d.choice([1e-6, 0.1])}


def normalization(d: Draw, shape: Shape) -> Arguments:
    """With statistics of its own, which random_models draws, or given ones."""
    channels = shape[-1] or 3
    if d.chance(0.5):
        given: Any = (
            [d.number(-1, 1) for _ in range(channels)],
            [d.number(0.2, 2) for _ in range(channels)],
        )
        given = given if d.chance(0.6) else (d.number(-1, 1), d.number(0.2, 2))
        return {"mean": given[0], "variance": given[1], "invert": d.chance(0.3)}
    axis = d.choice([-1, None, d.axis(shape), tuple(range(1, len(shape) + 1))])
    return {"axis": axis, "invert": d.chance(0.3)}


def relu(d: Draw, shape: Shape) -> Arguments:
    return {
        "max_value": d.choice([None, None, 6, 1.0, d.number(0.5, 3)]),
        "negative_slope": d.choice([0.0, 0.0, d.number(0, 0.5)]),
        "threshold": d.choice([0.0, 0.0, d.number(0, 0.5)]),
    }


def leaky_relu(d: Draw, shape: Shape) -> Arguments:
    return {"negative_slope" if d.is_keras3 else "alpha": d.choice([0.3, d.number(0, 1)])}


def prelu(d: Draw, shape: Shape) -> Arguments:
    if d.chance(0.4):
        return {}
    return {"shared_axes": d.sample(range(1, len(shape) + 1), d.randint(1, len(shape)))}


def rescaling(d: Draw, shape: Shape) -> Arguments:
    if d.chance(0.2):
        channels = shape[-1] or 3
        scale, offset = ([d.number(-2, 2) for _ in range(channels)] for _ in range(2))
        return {"scale": scale, "offset": offset}
    return {"scale": d.choice([1 / 255, 1 / 127.5, d.number(-2, 2)]), "offset": d.choice([0, -1.0])}


def dense(d: Draw, shape: Shape) -> Arguments:
    return _finish(d) | d.training() | {"units": d.randint(1, 8)}


def einsum_dense(d: Draw, shape: Shape) -> Arguments:
    """The last axis, or the last two, to one or two others."""
    before = "abcde"[: len(shape)]
    taken, out = d.choice([("z", "y"), ("z", "yx"), ("zw", "y")][: 3 if len(shape) > 1 else 2])
    kept = before[: len(shape) + 1 - len(taken)]
    sizes = [size for size in shape[: len(shape) - len(taken)]] + [d.randint(1, 4) for _ in out]
    bias = d.choice([None, out, out[0]])
    return {
        "equation": f"{kept}{taken},{taken}{out}->{kept}{out}",
        "output_shape": tuple(sizes),
        "bias_axes": bias,
        "activation": d.activation(),
    }


def dropout(d: Draw, shape: Shape) -> Arguments:
    return {"rate": d.number(0, 0.9)}


def value_range(d: Draw, shape: Shape) -> Arguments:
    return {"value_range": d.choice([(0, 255), (0, 1)])}


def factor(d: Draw, shape: Shape) -> Arguments:
    return {"factor": d.number(0, 0.5)}


_DIMENSIONS = {f"{rank}D": (rank + 1,) for rank in (1, 2, 3)}

LAYERS: dict[str, tuple[tuple[int, ...], Callable[[Draw, Shape], Arguments]]] = {
    **{f"AdaptiveAveragePooling{n}": (r, adaptive_pool) for n, r in _DIMENSIONS.items()},
    **{f"AdaptiveMaxPooling{n}": (r, adaptive_pool) for n, r in _DIMENSIONS.items()},
    **{f"AveragePooling{n}": (r, pool) for n, r in _DIMENSIONS.items()},
    **{f"Conv{n}": (r, convolution) for n, r in _DIMENSIONS.items()},
    **{f"Conv{n}Transpose": (r, transposed) for n, r in _DIMENSIONS.items()},
    **{f"Cropping{n}": (r, cropping) for n, r in _DIMENSIONS.items()},
    **{f"DepthwiseConv{n}": (_DIMENSIONS[n], depthwise) for n in ("1D", "2D")},
    **{f"GlobalAveragePooling{n}": (r, global_pool) for n, r in _DIMENSIONS.items()},
    **{f"GlobalMaxPooling{n}": (r, global_pool) for n, r in _DIMENSIONS.items()},
    **{f"LocallyConnected{n}": (_DIMENSIONS[n], local) for n in ("1D", "2D")},
    **{f"MaxPooling{n}": (r, pool) for n, r in _DIMENSIONS.items()},
    **{f"SeparableConv{n}": (_DIMENSIONS[n], separable) for n in ("1D", "2D")},
    **{f"SpatialDropout{n}": (r, dropout) for n, r in _DIMENSIONS.items()},
    **{f"UpSampling{n}": (r, up_sampling) for n, r in _DIMENSIONS.items()},
    **{f"ZeroPadding{n}": (r, zero_padding) for n, r in _DIMENSIONS.items()},
    "Activation": (ANY, lambda d, s: {"activation": d.activation(0)}),
    "ActivityRegularization": (ANY, lambda d, s: {"l1": 0.1, "l2": d.number(0, 1)}),
    "AlphaDropout": (ANY, dropout),
    "AugMix": ((3,), value_range),
    "AutoContrast": ((3,), value_range),
    "BatchNormalization": (ANY, batch_normalization),
    "CenterCrop": ((3,), center_crop),
    "ContrastLimitedAdaptiveHistogramEqualization": ((3,), value_range),
    "CutMix": ((3,), factor),
    "Dense": (ANY, dense),
    "Dropout": (ANY, dropout),
    "ELU": (ANY, lambda d, s: {"alpha": d.choice([1.0, d.number(0, 2)])}),
    "EinsumDense": (ANY, einsum_dense),
    "Equalization": ((3,), value_range),
    "Flatten": (ANY, lambda d, s: {"data_format": d.data_format()}),
    "GaussianDropout": (ANY, dropout),
    "GaussianNoise": (ANY, lambda d, s: {"stddev": d.number(0, 2)}),
    "GroupNormalization": (ANY, group_normalization),
    "Identity": (ANY, lambda d, s: {}),
    "LayerNormalization": (ANY, layer_normalization),
    "LeakyReLU": (ANY, leaky_relu),
    "Masking": ((2,), lambda d, s: {"mask_value": d.choice([0.0, 1.0])}),
    "MixUp": ((3,), lambda d, s: {"alpha": d.number(0, 1)}),
    "Normalization": (ANY, normalization),
    "PReLU": (ANY, prelu),
    "Permute": (ANY, permute),
    "RMSNormalization": (ANY, rms_normalization),
    "RandAugment": ((3,), value_range),
    "RandomBrightness": ((3,), factor),
    "RandomColorDegeneration": ((3,), factor),
    "RandomColorJitter": ((3,), value_range),
    "RandomContrast": ((3,), factor),
    "RandomCrop": ((3,), lambda d, s: {"height": d.randint(2, 8), "width": d.randint(2, 8)}),
    "RandomElasticTransform": ((3,), factor),
    "RandomErasing": ((3,), factor),
    "RandomFlip": ((3,), lambda d, s: {"mode": d.choice(["horizontal", "vertical"])}),
    "RandomGaussianBlur": ((3,), factor),
    "RandomGrayscale": ((3,), factor),
    "RandomHeight": ((3,), factor),
    "RandomHue": ((3,), factor),
    "RandomInvert": ((3,), factor),
    "RandomPerspective": ((3,), factor),
    "RandomPosterization": ((3,), lambda d, s: {"factor": d.randint(1, 8)}),
    "RandomRotation": ((3,), factor),
    "RandomSaturation": ((3,), factor),
    "RandomSharpness": ((3,), factor),
    "RandomShear": ((3,), lambda d, s: {"x_factor": 0.3, "y_factor": d.number(0, 1)}),
    "RandomTranslation": ((3,), lambda d, s: {"height_factor": 0.2, "width_factor": 0.3}),
    "RandomWidth": ((3,), factor),
    "RandomZoom": ((3,), lambda d, s: {"height_factor": d.number(-0.5, 0.5)}),
    "ReLU": (ANY, relu),
    "RepeatVector": ((1,), lambda d, s: {"n": d.randint(1, 5)}),
    "Rescaling": (ANY, rescaling),
    "Reshape": (ANY, reshape),
    "Resizing": ((3,), resizing),
    "Softmax": (ANY, lambda d, s: {"axis": d.axes(s)}),
    "Solarization": ((3,), value_range),
    "ThresholdedReLU": (ANY, lambda d, s: {"theta": d.number(0, 1)}),
    "UnitNormalization": (ANY, lambda d, s: {"axis": d.axes(s)}),
}

# Of these there are many: they do nothing at prediction, or are refused.
RARE = {kind for kind in LAYERS if kind.startswith(("Adaptive", "Rand"))}
RARE |= {"AugMix", "AutoContrast", "ContrastLimitedAdaptiveHistogramEqualization", "CutMix"}
RARE |= {"Equalization", "Masking", "MixUp", "Solarization"}


# Layers of several inputs or results, and layers around others


def merge(d: Draw, kind: str, tensors: list[Any]) -> Any:
    """One of MERGES of two tensors or more."""
    shape = tuple(tensors[0].shape)[1:]
    if kind == "Concatenate":
        return d.layers.Concatenate(d.axis(shape))(tensors)
    if kind == "Dot":
        axes = (d.axis(shape), d.axis(tuple(tensors[1].shape)[1:]))
        axes = axes if d.chance(0.5) else axes[0]
        return d.layers.Dot(axes, normalize=d.chance(0.3))(tensors[:2])
    count = 2 if kind == "Subtract" else len(tensors)
    return getattr(d.layers, kind)()(tensors[:count])


def steps(d: Draw, kind: str) -> Arguments:
    """Arguments of a recurrent layer."""
    drawn: Arguments = {
        "units": d.randint(1, 5),
        "activation": d.choice(["tanh", "tanh", "relu", "softsign", "linear"]),
        "use_bias": d.chance(0.8),
        "dropout": d.choice([0.0, 0.2]),
        "recurrent_dropout": d.choice([0.0, 0.2]),
        "return_sequences": d.chance(0.5),
        "go_backwards": d.chance(0.3),
        "unroll": d.chance(0.2),
    }
    if kind != "SimpleRNN":
        drawn["recurrent_activation"] = d.choice(["sigmoid", "sigmoid", "hard_sigmoid", "tanh"])
    if kind == "GRU":
        drawn["reset_after"] = d.chance(0.5)
    if kind == "LSTM":
        drawn["unit_forget_bias"] = d.chance(0.5)
    return drawn


def recurrent(d: Draw, kind: str, x: Any) -> list[Any]:
    """One of RECURRENT, or a ConvLSTM, on a sequence; its last states too, or begun with some."""
    shape = tuple(x.shape)[1:]
    if kind in RECURRENT:
        drawn = steps(d, kind)
    else:
        frame = shape[1:]
        drawn = windows(d, frame, "kernel_size") | {
            "filters": d.randint(1, 3),
            "use_bias": d.chance(0.8),
            "activation": d.choice(["tanh", "relu"]),
            "recurrent_activation": d.choice(["sigmoid", "hard_sigmoid"]),
            "return_sequences": d.chance(0.5),
            "go_backwards": d.chance(0.3),
        }
    if d.chance(0.2):
        drawn["return_state"] = True
    y = getattr(d.layers, kind)(**drawn)(x)
    results = list(y) if isinstance(y, (list, tuple)) else [y]
    if len(results) > 1 and kind in RECURRENT and d.chance(0.5):
        more = getattr(d.layers, kind)(**drawn | {"return_state": False})
        results.append(more(x, initial_state=results[1:]))
    return results


def attention(d: Draw, kind: str, query: Any, value: Any) -> Any:
    """One of ATTENTION, over the axes between batch and channels."""
    if kind == "GroupQueryAttention":
        return d.layers.GroupQueryAttention(d.randint(1, 4), 2, d.choice([1, 2]))(query, value)
    if kind == "MultiHeadAttention":
        rank = len(query.shape) - 2
        layer = d.layers.MultiHeadAttention(
            d.randint(1, 3),
            d.randint(1, 4),
            value_dim=d.choice([None, 3]),
            use_bias=d.chance(0.8),
            output_shape=d.choice([None, 5]),
            attention_axes=d.choice([None, None, list(range(1, rank + 1)), [1]]),
            dropout=d.choice([0.0, 0.1]),
        )
        return layer(query, value, key=value) if d.chance(0.3) else layer(query, value)
    arguments: Arguments = {"use_scale": d.chance(0.5)}
    if kind == "Attention":
        arguments["score_mode"] = d.choice(["dot", "concat"])
    inputs = [query, value] if d.chance(0.6) else [query, value, value]
    return getattr(d.layers, kind)(**arguments)(inputs)


def wrapped(d: Draw, kind: str, x: Any, inner: Callable[[Shape], Any]) -> list[Any]:
    """One of WRAPPERS around another layer.

    Args:
        inner: draws a layer for an input of a shape.
    """
    shape = tuple(x.shape)[1:]
    if kind == "TimeDistributed":
        return [d.layers.TimeDistributed(inner(shape[1:]))(x)]
    if kind == "SpectralNormalization":
        return [d.layers.SpectralNormalization(d.layers.Dense(d.randint(1, 5)))(x)]
    name = d.choice(RECURRENT)
    drawn = steps(d, name)
    if kind == "Bidirectional":
        how = d.choice(["concat", "concat", "sum", "mul", "ave", None])
        part = getattr(d.layers, name)(**drawn)
        other = None
        if d.chance(0.2):
            turned = drawn | {"go_backwards": not drawn["go_backwards"], "activation": "relu"}
            other = getattr(d.layers, name)(**turned)
        y = d.layers.Bidirectional(part, merge_mode=how, backward_layer=other)(x)
        return list(y) if isinstance(y, (list, tuple)) else [y]
    around = {key: drawn.pop(key) for key in ("return_sequences", "go_backwards", "unroll")}
    cells = [getattr(d.layers, f"{name}Cell")(**drawn) for _ in range(d.choice([1, 1, 1, 1, 2]))]
    return [d.layers.RNN(cells[0] if len(cells) == 1 else cells, **around)(x)]
