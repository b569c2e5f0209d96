"""The functions that a Lambda layer may call, each as operations that the task computes anyway.

`FUNCTIONS` has them by the name under which the code knows them: `K` is keras.backend, `ops`
keras.ops of Keras 3, `tf` TensorFlow, `np` NumPy (of constants alone). What a backend of old made of
a name is settled here: K.std is that of a population, K.sqrt takes what is below 0 for 0.

Formulas are those of keras/backend/{tensorflow,theano}_backend.py in Keras 1.2.2, 2.0.8 and 2.2.4,
of keras/src/legacy/backend.py in Keras 3.15, and of TensorFlow 2.21.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from keras_files.code_object import CodeError
from keras_files.network import Call, Era, Layer, Network, Tensor, words
from keras_files.operations import OPERATIONS

MAX_CALLS = 500  # operations in one Lambda layer
MAX_VALUES = 2**12  # numbers in one constant


class Graph:
    """The operations of a Lambda layer, as they come.

    Args:
        name: the layer's, for messages.
        inputs: the number of its inputs.
    """

    def __init__(self, name: str, inputs: int, era: Era) -> None:
        self.era = era
        self.inputs = [Tensor("", 0, place) for place in range(inputs)]
        self._name = name
        self._calls: list[Call] = []

    def add(self, function: str, *args: Any, **kwargs: Any) -> Tensor:
        """Compute a function of OPERATIONS; arguments as TensorFlow has them."""
        return self.add_several(1, function, *args, **kwargs)[0]

    def add_several(self, count: int, function: str, *args: Any, **kwargs: Any) -> list[Tensor]:
        """The same for a function with a list of results."""
        if function not in OPERATIONS:
            raise CodeError(f"it calls 'tf.{function}', which is not known to be mere arithmetic")
        config = {"function": function, "arguments": {}, "constants": None}
        return self._call(count, Layer("Operation", "", config), *args, **kwargs)

    def add_layer(self, kind: str, x: Any, **config: Any) -> Tensor:
        """Compute a layer of Keras 2 that has no weights."""
        config["data_format"] = config.get("data_format", self.era.data_format)
        return self._call(1, Layer(kind, "", config), x)[0]

    def _call(self, count: int, layer: Layer, *args: Any, **kwargs: Any) -> list[Tensor]:
        name = str(len(self._calls))
        layer.name = f"{self._name}/{name}"
        if len(self._calls) == MAX_CALLS:
            raise CodeError(f"it computes more than {MAX_CALLS} operations")
        args, kwargs = (as_plain(args), {key: as_plain(value) for key, value in kwargs.items()})
        self._calls.append(Call(layer, name, 0, args, kwargs))
        return [Tensor(name, 0, place) for place in range(count)]

    def network(self, outputs: list[Tensor]) -> Network:
        """All of it as a model within the model."""
        layers = [call.layer for call in self._calls]
        return Network(layers, self._calls, self.inputs, outputs, [None] * len(self.inputs))


def as_plain(value: Any) -> Any:
    """A value as an argument of an operation: numbers, text, Tensors, and lists of them.

    Raises:
        CodeError: it is something else, or has more than MAX_VALUES parts.
    """
    count = 0

    def walk(part: Any, depth: int) -> Any:
        nonlocal count
        count += 1
        if count > MAX_VALUES or depth > 8:
            raise CodeError("it makes a constant that is larger than plain arithmetic needs")
        if isinstance(part, np.ndarray):
            return walk(part.tolist(), depth)
        if isinstance(part, (list, tuple)):
            return [walk(item, depth + 1) for item in part]
        if isinstance(part, slice):
            return slice(*(walk(end, depth) for end in (part.start, part.stop, part.step)))
        if part is None or part is Ellipsis or isinstance(part, (bool, int, float, str, Tensor)):
            return part
        raise CodeError(f"it computes with {describe(part)}, which is no array and no number")

    return walk(value, 0)


def describe(value: Any) -> str:
    """What a value is, for a message."""
    return getattr(value, "path", None) or type(value).__name__


def as_operand(value: Any) -> Any:
    """One side of arithmetic: a Tensor, or a constant in floats, as Keras makes it of an integer."""
    value = as_plain(value)
    if isinstance(value, Tensor):
        return value

    def floats(part: Any) -> Any:
        if isinstance(part, list):
            return [floats(item) for item in part]
        if isinstance(part, (bool, str)) or not isinstance(part, (int, float)):
            raise CodeError(f"it computes with {part!r}, which is no number")
        return float(part)

    return floats(value)


def as_array(value: Any) -> np.ndarray:
    """A constant as an array of float64 or int64."""
    value = as_plain(value)
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:  # rows of several lengths
        raise CodeError("it makes an array of something else than numbers") from error
    if array.dtype.kind not in "if" or array.dtype.itemsize > 8:
        raise CodeError("it makes an array of something else than numbers")
    return array


# Checks of arguments


def _axes(axis: Any, name: str) -> int | list[int]:
    """An axis, or several."""
    axis = as_plain(axis)
    several = axis if isinstance(axis, list) else [axis]
    if axis is None or axis == []:
        raise CodeError(f"'{name}' without an axis mixes the chips of a batch")
    if not all(type(item) is int for item in several):
        raise CodeError(f"'{name}' has an axis that is no integer")
    return axis


def _whole(value: Any, what: str) -> Any:
    """An integer, or a list of them."""
    value = as_plain(value)
    several = value if isinstance(value, list) else [value]
    if not all(type(item) is int for item in several):
        raise CodeError(f"{what} that is no integer")
    return value


def _number(value: Any) -> float:
    operand = as_operand(value)
    if not isinstance(operand, float):
        raise CodeError("it has a list or an array where a number is expected")
    return operand


def _float32(dtype: Any) -> None:
    """Refuse any type but the one in which all is computed."""
    kind = dtype if isinstance(dtype, str) else describe(dtype)
    if kind not in ("float32", "np.float32", "tf.float32", "NoneType"):
        raise CodeError(f"it casts to '{kind}', and all is computed in float32")


def _tensor(x: Any) -> Tensor:
    if not isinstance(x, Tensor):
        raise CodeError(f"it calls a function of an array on {describe(x)}")
    return x


def _tensors(values: Any) -> list[Any]:
    if not isinstance(values, (list, tuple)):
        raise CodeError("it calls a function of several arrays on something that is no list")
    return [_tensor(value) for value in values]


# Functions of each kind, by the operation


Function = Callable[..., Any]


def _unary(operation: str) -> Function:
    return lambda g, x: g.add(operation, _tensor(x))


def _binary(operation: str) -> Function:
    return lambda g, x, y: g.add(operation, as_operand(x), as_operand(y))


def _reduction(operation: str, name: str) -> Function:
    def reduce(g: Graph, x: Any, axis: Any = None, keepdims: Any = False) -> Tensor:
        return g.add(operation, _tensor(x), axis=_axes(axis, name), keepdims=bool(keepdims))

    return reduce


def _along(operation: str, name: str) -> Function:
    """Functions with one axis, the last if none is given."""
    return lambda g, x, axis=-1: g.add(operation, _tensor(x), axis=_axes(axis, name))


def _layer(kind: str, **config: Any) -> Function:
    return lambda g, x: g.add_layer(kind, _tensor(x), **config)


def _cast(g: Graph, x: Any, dtype: Any) -> Tensor:
    _float32(dtype)
    return g.add("cast", _tensor(x), "float32")


def _constant(g: Graph, value: Any, dtype: Any = None, shape: Any = None) -> Any:
    _float32(dtype)
    if shape is not None:
        raise CodeError("it makes a constant of a given shape")
    return value if isinstance(value, Tensor) else np.float32(as_array(value)).astype(np.float64)


def _identity(g: Graph, x: Any) -> Tensor:
    return _tensor(x)


def _concat(default: int | None) -> Function:
    def concat(g: Graph, values: Any, axis: Any = default) -> Tensor:
        if type(values) is int:  # TensorFlow before 1.0: tf.concat(axis, values)
            values, axis = axis, values
        return g.add("concat", _tensors(values), axis=_axes(axis, "concat"))

    return concat


def _stack(g: Graph, values: Any, axis: Any = 0) -> Tensor:
    return g.add("stack", _tensors(values), axis=_axes(axis, "stack"))


def _split(g: Graph, value: Any, num_or_size_splits: Any, axis: Any = 0) -> list[Tensor]:
    parts = _whole(num_or_size_splits, "it splits an array into a number of parts")
    count = len(parts) if isinstance(parts, list) else parts
    if not 1 <= count <= MAX_CALLS:
        raise CodeError(f"it splits an array into {count} parts")
    return g.add_several(count, "split", _tensor(value), parts, axis=_axes(axis, "split"))


def _moments(g: Graph, x: Any, axis: Any, keepdims: Any = False) -> list[Tensor]:
    axes = _axes(axis, "tf.nn.moments")
    axes = axes if isinstance(axes, list) else [axes]
    return g.add_several(2, "nn.moments", _tensor(x), axes, keepdims=bool(keepdims))


def _expand(g: Graph, x: Any, axis: Any = -1) -> Tensor:
    return g.add("expand_dims", _tensor(x), axis=_axes(axis, "expand_dims"))


def _squeeze(g: Graph, x: Any, axis: Any = None) -> Tensor:
    return g.add("squeeze", _tensor(x), axis=_axes(axis, "squeeze"))


def _reshape(g: Graph, x: Any, shape: Any) -> Tensor:
    return g.add("reshape", _tensor(x), _whole(shape, "it reshapes an array to a size"))


def _transpose(g: Graph, x: Any, axis: Any) -> Tensor:
    return g.add("transpose", _tensor(x), _axes(axis, "transpose"))


def _tile(g: Graph, x: Any, multiples: Any) -> Tensor:
    return g.add("tile", _tensor(x), _whole(multiples, "it tiles an array by a number"))


def _where(g: Graph, condition: Any, x: Any, y: Any) -> Tensor:
    return g.add("where", _tensor(condition), as_operand(x), as_operand(y))


def _reverse(g: Graph, x: Any, axis: Any) -> Tensor:
    axes = _axes(axis, "reverse")
    return g.add("reverse", _tensor(x), axes if isinstance(axes, list) else [axes])


def _gather(g: Graph, x: Any, indices: Any, axis: Any = 0) -> Tensor:
    indices = _whole(indices, "it takes a place")
    return g.add("gather", _tensor(x), indices, axis=_axes(axis, "gather"))


def _pad(
    g: Graph, x: Any, paddings: Any, mode: Any = "CONSTANT", constant_values: Any = 0
) -> Tensor:
    paddings = _whole(paddings, "it pads by a number")
    if str(mode).upper() not in ("CONSTANT", "REFLECT", "SYMMETRIC"):
        raise CodeError(f"it pads in the mode {mode!r}")
    return g.add("pad", _tensor(x), paddings, mode=mode, constant_values=_number(constant_values))


def _clip(g: Graph, x: Any, low: Any, high: Any) -> Tensor:
    return g.add("clip_by_value", _tensor(x), as_operand(low), as_operand(high))


def _k_clip(g: Graph, x: Any, min_value: Any, max_value: Any) -> Tensor:
    low = -math.inf if min_value is None else _number(min_value)
    high = math.inf if max_value is None else _number(max_value)
    return _clip(g, x, low, max(low, high))


def _k_relu(g: Graph, x: Any, alpha: Any = 0.0, max_value: Any = None) -> Tensor:
    top = None if max_value is None else _number(max_value)
    if top is not None and top < 0:
        raise CodeError("'K.relu' has a largest value below 0")
    return g.add_layer("ReLU", _tensor(x), negative_slope=_number(alpha), max_value=top)


def _k_sqrt(g: Graph, x: Any) -> Tensor:
    return g.add("math.sqrt", g.add("math.maximum", _tensor(x), 0.0))


def _k_round(g: Graph, x: Any) -> Tensor:
    if g.era.backend == "theano":
        raise CodeError("it calls 'K.round', which Theano computed in several ways")
    return g.add("math.round", _tensor(x))


def _k_elu(g: Graph, x: Any, alpha: Any = 1.0) -> Tensor:
    return g.add_layer("ELU", _tensor(x), alpha=_number(alpha))


def _l2_normalize(g: Graph, x: Any, axis: Any = None, epsilon: Any = 1e-12) -> Tensor:
    axes = _axes(axis, "l2_normalize")
    return g.add("math.l2_normalize", _tensor(x), axis=axes, epsilon=_number(epsilon))


def _k_l2_normalize(g: Graph, x: Any, axis: Any = None) -> Tensor:
    if g.era.backend != "theano":
        return _l2_normalize(g, x, axis)
    squares = g.add("math.square", _tensor(x))
    axes = _axes(axis, "l2_normalize")
    norm = g.add("math.sqrt", g.add("math.reduce_sum", squares, axis=axes, keepdims=True))
    return g.add("math.truediv", x, norm)


def _k_resize_images(
    g: Graph, x: Any, height_factor: Any, width_factor: Any, data_format: Any
) -> Tensor:
    """Nearest, which every backend of every era did by repeating each value."""
    formats = {"th": "channels_first", "tf": "channels_last"}
    data_format = formats.get(data_format, data_format)
    if data_format not in formats.values():
        raise CodeError("'K.resize_images' has no data format that Keras knows")
    size = [_whole(factor, "it resizes by a factor") for factor in (height_factor, width_factor)]
    config = {"size": size, "data_format": data_format, "interpolation": "nearest"}
    return g.add_layer("UpSampling2D", _tensor(x), **config)


def _leaky_relu(default: float) -> Function:
    return lambda g, x, alpha=default: g.add("nn.leaky_relu", _tensor(x), alpha=_number(alpha))


def _gelu(default: bool) -> Function:
    return lambda g, x, approximate=default: g.add("nn.gelu", _tensor(x), bool(approximate))


def _lrn(
    g: Graph, x: Any, depth_radius: Any = 5, bias: Any = 1, alpha: Any = 1, beta: Any = 0.5
) -> Tensor:
    radius = _whole(depth_radius, "it normalizes over a radius")
    numbers = [_number(value) for value in (bias, alpha, beta)]
    return g.add("nn.local_response_normalization", _tensor(x), radius, *numbers)


def _pool(operation: str) -> Function:
    def pool(g: Graph, x: Any, ksize: Any, strides: Any, padding: Any) -> Tensor:
        sizes = [_whole(size, "it pools over a size") for size in (ksize, strides)]
        if padding not in ("SAME", "VALID"):
            raise CodeError(f"it pools with the padding {padding!r}")
        return g.add(operation, _tensor(x), *sizes, padding)

    return pool


def _blocks(operation: str) -> Function:
    return lambda g, x, block_size: g.add(
        operation, _tensor(x), _whole(block_size, "it moves blocks of a size")
    )


def _has_tensorflow_2(era: Era) -> bool:
    """Whether a file says so: "2.2.4-tf" stood for TensorFlow 1.13 to 2.1."""
    version = re.match(r"(\d+)\.(\d+)", era.version)
    number = tuple(map(int, version.groups())) if version else (0, 0)
    return number >= (2, 3) and not era.is_package


def _size(size: Any) -> list[int]:
    size = _whole(size, "it resizes to a size")
    if not isinstance(size, list) or len(size) != 2:
        raise CodeError("it resizes to something that is not two sizes")
    return size


METHODS = words("area bicubic bilinear gaussian lanczos3 lanczos5 mitchellcubic nearest")


def _tf_resize(
    g: Graph, images: Any, size: Any, method: Any = "bilinear", antialias: Any = False
) -> Tensor:
    """tf.image.resize of TensorFlow 2; in 1 the same name placed the pixels otherwise."""
    if not _has_tensorflow_2(g.era):
        raise CodeError(
            f"it calls 'tf.image.resize', of which Keras {g.era.version} does not tell whether it "
            "is that of TensorFlow 1 or 2"
        )
    if method not in METHODS:
        raise CodeError(f"it resizes by the method {method!r}")
    return g.add("image.resize", _tensor(images), _size(size), method, antialias=bool(antialias))


def _tf1_resize(g: Graph, images: Any, size: Any, align_corners: Any = False) -> Tensor:
    """tf.image.resize_bilinear and resize_images of TensorFlow 1: no half pixels."""
    if align_corners:
        raise CodeError("it resizes with align_corners, which is not computed here")
    rows, columns = _size(size)
    config = {"height": rows, "width": columns, "interpolation": "bilinear_corner"}
    return g.add_layer("Resizing", _tensor(images), **config)


def _ops_resize(
    g: Graph, images: Any, size: Any, interpolation: Any = "bilinear", antialias: Any = False
) -> Tensor:
    return _tf_resize(g, images, size, interpolation, antialias)


# NumPy and the built-in functions, of constants


def _np_array(g: Graph, value: Any, dtype: Any = None) -> np.ndarray:
    array = as_array(value)
    kind = dtype if isinstance(dtype, str) else describe(dtype)
    if dtype is None:
        return array
    if kind in ("np.float32", "float32"):
        return np.float32(array).astype(np.float64)
    if kind in ("np.float64", "float64", "float"):
        return array.astype(np.float64)
    raise CodeError(f"it makes an array of the type '{kind}'")


def _of_number(function: Callable[[Any], Any]) -> Function:
    def compute(g: Graph, x: Any) -> Any:
        if type(x) not in (int, float, bool):
            raise CodeError(f"it calls a function of a number on {describe(x)}")
        try:
            return function(x)
        except (ArithmeticError, ValueError) as error:
            raise CodeError(f"it computes a number that is none ({error})") from error

    return compute


def _abs(g: Graph, x: Any) -> Any:
    return g.add("math.abs", x) if isinstance(x, Tensor) else _of_number(abs)(g, x)


def _named(prefixes: str, names: Iterable[str], function: Function) -> dict[str, Function]:
    return {f"{prefix}.{name}": function for prefix in prefixes.split() for name in names}


def _tables() -> dict[str, Function]:
    table: dict[str, Function] = {}
    for name in words(
        "abs ceil cos exp expm1 floor log log1p negative rsqrt sigmoid sign sin sqrt square tanh"
    ):
        table |= _named("tf tf.math ops", [name], _unary(f"math.{name}"))
    for name in words("erf log_sigmoid reciprocal softplus"):
        table |= _named("tf.math", [name], _unary(f"math.{name}"))
    for name in words("abs cos exp log sigmoid sign sin softplus square tanh"):
        table |= _named("K", [name], _unary(f"math.{name}"))
    for name in words("elu relu relu6 selu sigmoid silu softplus softsign swish tanh"):
        table |= _named("tf.nn", [name], _unary(f"nn.{name}"))
    for name in words("elu relu relu6 selu silu softplus softsign swish"):
        table |= _named("ops", [name], _unary(f"nn.{name}"))
    for name in words("flip_left_right flip_up_down per_image_standardization rgb_to_grayscale"):
        table |= _named("tf.image", [name], _unary(f"image.{name}"))
    for name in words("add divide floordiv maximum minimum multiply pow subtract truediv"):
        table |= _named("tf tf.math", [name], _binary(f"math.{name}"))
    for name in words("add divide maximum minimum multiply subtract"):
        table |= _named("ops", [name], _binary(f"math.{name}"))
    for name in words("greater greater_equal less less_equal"):
        table |= _named("K tf tf.math ops", [name], _binary(f"math.{name}"))
    for name in words("max mean min prod std sum"):
        table |= _named("K ops", [name], _reduction(f"math.reduce_{name}", name))
        table |= _named("tf tf.math", [f"reduce_{name}"], _reduction(f"math.reduce_{name}", name))
    for name in ("tf.reduce_std", "tf.reduce_variance"):  # these are in tf.math alone
        table.pop(name, None)
    return table


FUNCTIONS: dict[str, Function] = {
    **_tables(),
    **_named("K ops", ["var"], _reduction("math.reduce_variance", "var")),
    **_named("tf.math", ["reduce_variance"], _reduction("math.reduce_variance", "variance")),
    **_named("K ops", ["logsumexp"], _reduction("math.reduce_logsumexp", "logsumexp")),
    **_named("tf tf.math", ["reduce_logsumexp"], _reduction("math.reduce_logsumexp", "logsumexp")),
    **_named("tf tf.math", ["squared_difference"], _binary("math.squared_difference")),
    **_named("K", ["maximum"], _binary("math.maximum")),
    **_named("K", ["minimum"], _binary("math.minimum")),
    **_named("K", ["pow"], _binary("math.pow")),
    **_named("tf tf.math ops", ["round"], _unary("math.round")),
    **_named("K", ["round"], _k_round),
    **_named("tf tf.math", ["add_n"], lambda g, x: g.add("math.add_n", _tensors(x))),
    **_named("K tf ops", ["ones_like"], _unary("ones_like")),
    **_named("K tf ops", ["zeros_like"], _unary("zeros_like")),
    **_named("K tf", ["tile"], _tile),
    **_named("tf ops", ["where"], _where),
    **_named("K tf ops", ["cast"], _cast),
    **_named("tf", ["to_float"], lambda g, x: _cast(g, x, "float32")),
    **_named("K tf", ["constant"], _constant),
    **_named("tf ops", ["convert_to_tensor"], _constant),
    **_named("K tf ops", ["stop_gradient"], _identity),
    **_named("K tf", ["identity"], _identity),
    **_named("K ops", ["concatenate"], _concat(-1)),
    **_named("tf", ["concat"], _concat(None)),
    **_named("K tf ops", ["stack"], _stack),
    **_named("tf", ["split"], _split),
    **_named("tf.nn", ["moments"], _moments),
    **_named("K ops", ["expand_dims"], _expand),
    **_named("tf", ["expand_dims"], _expand),
    **_named("K tf ops", ["squeeze"], _squeeze),
    **_named("K tf ops", ["reshape"], _reshape),
    **_named("K", ["permute_dimensions"], _transpose),
    **_named("tf ops", ["transpose"], _transpose),
    **_named("K tf", ["reverse"], _reverse),
    **_named("ops", ["flip"], _reverse),
    **_named("tf", ["gather"], _gather),
    **_named("ops", ["take"], _gather),
    **_named("tf", ["pad"], _pad),
    **_named("tf", ["clip_by_value"], _clip),
    **_named("ops", ["clip"], _clip),
    **_named("K", ["clip"], _k_clip),
    **_named("K", ["relu"], _k_relu),
    **_named("K", ["sqrt"], _k_sqrt),
    **_named("K", ["elu"], _k_elu),
    **_named("K", ["softsign"], _unary("nn.softsign")),
    **_named("K", ["hard_sigmoid"], _layer("Activation", activation="hard_sigmoid")),
    **_named("K", ["batch_flatten"], lambda g, x: g.add_layer("Flatten", _tensor(x))),
    **_named("K", ["l2_normalize"], _k_l2_normalize),
    **_named("tf.nn tf.math tf.linalg", ["l2_normalize"], _l2_normalize),
    **_named("K tf.nn ops", ["softmax"], _along("nn.softmax", "softmax")),
    **_named("tf.nn ops", ["log_softmax"], _along("nn.log_softmax", "log_softmax")),
    **_named("K", ["resize_images"], _k_resize_images),
    **_named("tf.nn ops", ["leaky_relu"], _leaky_relu(0.2)),
    **_named("tf.nn", ["gelu"], _gelu(False)),
    **_named("ops", ["gelu"], _gelu(True)),
    **_named("tf.nn", ["lrn", "local_response_normalization"], _lrn),
    **_named("tf.nn", ["avg_pool", "avg_pool2d"], _pool("nn.avg_pool2d")),
    **_named("tf.nn", ["max_pool", "max_pool2d"], _pool("nn.max_pool2d")),
    **_named("tf tf.nn", ["depth_to_space"], _blocks("nn.depth_to_space")),
    **_named("tf tf.nn", ["space_to_depth"], _blocks("nn.space_to_depth")),
    **_named("tf.image", ["resize"], _tf_resize),
    **_named("ops.image", ["resize"], _ops_resize),
    **_named("tf.image tf.compat.v1.image", ["resize_bilinear", "resize_images"], _tf1_resize),
    **_named("tf", ["mul"], _binary("math.multiply")),  # before TensorFlow 1.0
    **_named("tf", ["sub"], _binary("math.subtract")),
    **_named("tf", ["div"], _binary("math.divide")),
    **_named("tf", ["neg"], _unary("math.negative")),
    **_named("ops", ["absolute"], _unary("math.abs")),
    **_named("ops", ["power"], _binary("math.pow")),
    **_named("ops", ["true_divide"], _binary("math.truediv")),
    **_named("K", ["floatx"], lambda g: "float32"),
    **_named("K", ["epsilon"], lambda g: 1e-7),
    **_named("np", ["array", "asarray"], _np_array),
    **_named("np", ["float32"], _of_number(lambda x: float(np.float32(x)))),
    **_named("np", ["float64"], _of_number(float)),
    **_named("np math", ["sqrt"], _of_number(math.sqrt)),
    "abs": _abs,
    "float": _of_number(float),
    "int": _of_number(int),
}

CONSTANTS: dict[str, Any] = {
    "np.pi": math.pi,
    "np.e": math.e,
    "np.newaxis": None,
    "tf.newaxis": None,
    "math.pi": math.pi,
    "math.e": math.e,
    "tf.image.ResizeMethod.BILINEAR": "bilinear",
    "tf.image.ResizeMethod.NEAREST_NEIGHBOR": "nearest",
    "tf.image.ResizeMethod.BICUBIC": "bicubic",
    "tf.image.ResizeMethod.AREA": "area",
    "True": True,
    "False": False,
    "None": None,
}

# Names of arguments in older versions of TensorFlow and Keras, and of first arguments.
ARGUMENTS = {
    "keep_dims": "keepdims",
    "reduction_indices": "axis",
    "dim": "axis",
    "squeeze_dims": "axis",
    "dim_ordering": "data_format",
    "axes": "axis",
    "negative_slope": "alpha",
    "newshape": "shape",
    "pattern": "axis",
    "perm": "axis",
    "x_min": "low",
    "x_max": "high",
    "clip_value_min": "low",
    "clip_value_max": "high",
}
FIRST_ARGUMENTS = words(
    "a features images input input_tensor inputs logits object t tensor tensors value values"
)


def call_function(graph: Graph, path: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """What a function gives, by the name under which the code knows it.

    Raises:
        CodeError: it is not in the table, or has other arguments there.
    """
    function = FUNCTIONS.get(path)
    if function is None:
        raise CodeError(f"it calls '{path}', which is not known to be mere arithmetic")
    signature = inspect.signature(function)
    first, *others = list(signature.parameters)[1:] or [None]
    kwargs.pop("name", None)
    renamed = {}
    for key, value in kwargs.items():
        if key not in signature.parameters:
            key = ARGUMENTS.get(key, first if key in FIRST_ARGUMENTS else key)
        renamed[key] = value
    try:
        bound = signature.bind(graph, *args, **renamed)
    except TypeError as error:
        raise CodeError(f"it calls '{path}' with arguments that are not known ({error})") from error
    return function(*bound.args, **bound.kwargs)
