"""The functions that a Lambda layer may call, each as operations that the task computes anyway.

`FUNCTIONS` has them by the name under which the code knows them: `K` is keras.backend, `ops` is
keras.ops of Keras 3, `tf` TensorFlow, `np` NumPy (of constants alone). What a backend of old made
of a name is settled here: K.std is that of a population, K.sqrt takes what is below 0 for 0.

Formulas are those of keras/backend/{tensorflow,theano}_backend.py in Keras 1.2.2, 2.0.8 and 2.2.4,
of keras/src/legacy/backend.py in Keras 3.15, and of TensorFlow 2.21.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_files.code_object import CodeError
from keras_files.network import Era, Tensor, words
from keras_files.symbols import MAX_CALLS, Graph, as_array, as_operand, as_plain, describe

Function = Callable[..., Any]  # of a Graph and the arguments that the code has

RESIZE_METHODS = words("area bicubic bilinear gaussian lanczos3 lanczos5 mitchellcubic nearest")


# Checks of arguments


def _tensor(x: Any) -> Tensor:
    if not isinstance(x, Tensor):
        raise CodeError(f"it calls a function of an array on {describe(x)}")
    return x


def _tensors(values: Any) -> list[Tensor]:
    if not isinstance(values, (list, tuple)):
        raise CodeError(f"it calls a function of several arrays on {describe(values)}")
    return [_tensor(value) for value in values]


def _whole(value: Any, what: str) -> Any:
    """Return an integer, or a list of them."""
    value = as_plain(value)
    if not all(type(item) is int for item in (value if isinstance(value, list) else [value])):
        raise CodeError(f"{what} is no integer")
    return value


def _axes(axis: Any) -> int | list[int]:
    """Return an axis, or several: all of them would include that of the batch."""
    if axis is None:
        raise CodeError("a function without an axis mixes the chips of a batch")
    return _whole(axis, "an axis")


def _axis_list(axis: Any) -> list[int]:
    axes = _axes(axis)
    return axes if isinstance(axes, list) else [axes]


def _number(value: Any) -> float:
    number = as_operand(value)
    if not isinstance(number, float):
        raise CodeError(f"it has {describe(value)} where a number is expected")
    return number


def _flag(value: Any) -> bool:
    if not isinstance(value, (bool, int)):
        raise CodeError(f"it has {describe(value)} where True or False is expected")
    return bool(value)


def _choice(value: Any, allowed: set[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise CodeError(f"it has {str(value)[:100]!r} where one of {sorted(allowed)} is expected")
    return value


def _float32(dtype: Any) -> str:
    """Refuse any type but the one in which all is computed."""
    kind = dtype if isinstance(dtype, str) else describe(dtype)
    if kind not in ("float32", "np.float32", "tf.float32", "NoneType"):
        raise CodeError(f"it casts to {kind[:100]!r}, and all is computed in float32")
    return "float32"


# Arithmetic


def _unary(operation: str) -> Function:
    return lambda g, x: g.add(operation, _tensor(x))


def _binary(operation: str) -> Function:
    return lambda g, x, y: g.add(operation, as_operand(x), as_operand(y))


def _reduction(operation: str) -> Function:
    return lambda g, x, axis=None, keepdims=False: g.add(
        operation, _tensor(x), axis=_axes(axis), keepdims=_flag(keepdims)
    )


def _along_last(operation: str) -> Function:
    return lambda g, x, axis=-1: g.add(operation, _tensor(x), axis=_axes(axis))


def _identity(g: Graph, x: Any) -> Tensor:
    return _tensor(x)


def _cast(g: Graph, x: Any, dtype: Any) -> Tensor:
    return g.add("cast", _tensor(x), _float32(dtype))


def _constant(g: Graph, value: Any, dtype: Any = None) -> Any:
    _float32(dtype)
    return value if isinstance(value, Tensor) else np.float32(as_array(value)).astype(np.float64)


def _where(g: Graph, condition: Any, x: Any, y: Any) -> Tensor:
    return g.add("where", _tensor(condition), as_operand(x), as_operand(y))


def _add_n(g: Graph, values: Any) -> Tensor:
    return g.add("math.add_n", _tensors(values))


def _clip(g: Graph, x: Any, low: Any, high: Any) -> Tensor:
    return g.add("clip_by_value", _tensor(x), as_operand(low), as_operand(high))


def _moments(g: Graph, x: Any, axis: Any, *, keepdims: Any = False) -> list[Tensor]:
    return g.add_several(2, "nn.moments", _tensor(x), _axis_list(axis), keepdims=_flag(keepdims))


def _l2_normalize(g: Graph, x: Any, axis: Any, epsilon: Any = 1e-12) -> Tensor:
    return g.add("math.l2_normalize", _tensor(x), axis=_axes(axis), epsilon=_number(epsilon))


def _leaky_relu(g: Graph, x: Any, alpha: Any = 0.2) -> Tensor:
    return g.add("nn.leaky_relu", _tensor(x), alpha=_number(alpha))


def _gelu(default: bool) -> Function:
    return lambda g, x, approximate=default: g.add("nn.gelu", _tensor(x), _flag(approximate))


def _lrn(g: Graph, x: Any, depth_radius: Any = 5, *places: Any, **named: Any) -> Tensor:
    if len(places) > 3 or not named.keys() <= {"bias", "alpha", "beta"}:
        raise CodeError("it normalizes with other arguments than bias, alpha and beta")
    named |= dict(zip(("bias", "alpha", "beta"), places, strict=False))
    numbers = {key: _number(value) for key, value in named.items()}
    radius = _whole(depth_radius, "the radius of a normalization")
    return g.add("nn.local_response_normalization", _tensor(x), radius, **numbers)


def _pool(operation: str) -> Function:
    def pool(g: Graph, x: Any, ksize: Any, strides: Any, padding: Any) -> Tensor:
        sizes = [_whole(size, "the size of a pooling") for size in (ksize, strides)]
        return g.add(operation, _tensor(x), *sizes, _choice(padding, {"SAME", "VALID"}))

    return pool


# Shapes


def _concat(default: int | None) -> Function:
    def concat(g: Graph, values: Any, axis: Any = default) -> Tensor:
        if type(values) is int:  # TensorFlow before 1.0: tf.concat(axis, values)
            values, axis = axis, values
        return g.add("concat", _tensors(values), axis=_axes(axis))

    return concat


def _stack(g: Graph, values: Any, axis: Any = 0) -> Tensor:
    return g.add("stack", _tensors(values), axis=_axes(axis))


def _split(g: Graph, value: Any, num_or_size_splits: Any, axis: Any = 0) -> list[Tensor]:
    parts = _whole(num_or_size_splits, "the number of parts of an array")
    count = len(parts) if isinstance(parts, list) else parts
    if not 1 <= count <= MAX_CALLS:
        raise CodeError(f"it splits an array into {count} parts")
    return g.add_several(count, "split", _tensor(value), parts, axis=_axes(axis))


def _expand(g: Graph, x: Any, axis: Any = -1) -> Tensor:
    return g.add("expand_dims", _tensor(x), axis=_axes(axis))


def _squeeze(g: Graph, x: Any, axis: Any = None) -> Tensor:
    return g.add("squeeze", _tensor(x), axis=_axes(axis))


def _reshape(g: Graph, x: Any, shape: Any) -> Tensor:
    return g.add("reshape", _tensor(x), _whole(shape, "the size of an array"))


def _transpose(g: Graph, x: Any, axis: Any) -> Tensor:
    return g.add("transpose", _tensor(x), _axis_list(axis))


def _tile(g: Graph, x: Any, multiples: Any) -> Tensor:
    return g.add("tile", _tensor(x), _whole(multiples, "the number of tiles"))


def _reverse(g: Graph, x: Any, axis: Any) -> Tensor:
    return g.add("reverse", _tensor(x), _axis_list(axis))


def _take(g: Graph, x: Any, indices: Any, axis: Any = None) -> Tensor:
    return g.add("gather", _tensor(x), _whole(indices, "a place in an array"), axis=_axes(axis))


def _gather(g: Graph, x: Any, indices: Any, *, axis: Any = 0) -> Tensor:
    return _take(g, x, indices, axis)


def _pad(
    g: Graph, x: Any, paddings: Any, mode: Any = "CONSTANT", constant_values: Any = 0
) -> Tensor:
    mode = _choice(mode, {"CONSTANT", "REFLECT", "SYMMETRIC"})
    margins = _whole_pairs(paddings)
    return g.add("pad", _tensor(x), margins, mode, constant_values=_number(constant_values))


def _whole_pairs(value: Any) -> list[list[int]]:
    if not isinstance(value, (list, tuple)):
        raise CodeError(f"it pads by {describe(value)}")
    return [_whole(pair, "a margin") for pair in value]


def _blocks(operation: str) -> Function:
    return lambda g, x, block_size: g.add(
        operation, _tensor(x), _whole(block_size, "the size of a block")
    )


# Resizing


def _size(size: Any) -> list[int]:
    size = _whole(size, "the size of an image")
    if not isinstance(size, list) or len(size) != 2:
        raise CodeError("it resizes to something that is not two sizes")
    return size


def _has_tensorflow_2(era: Era) -> bool:
    """Return whether the file says so: Keras "2.2.4-tf" stood in TensorFlow 1.13 to 2.1."""
    version = re.match(r"(\d+)\.(\d+)", era.version)
    return (
        not era.is_package and version is not None and (2, 3) <= tuple(map(int, version.groups()))
    )


def _resize(
    g: Graph, x: Any, size: Any, method: Any = "bilinear", *, antialias: Any = False
) -> Tensor:
    """Add tf.image.resize of TensorFlow 2; in 1 the same name placed the pixels otherwise.

    Its fourth parameter is preserve_aspect_ratio, that of Keras 3 is antialias.
    """
    if not _has_tensorflow_2(g.era):
        raise CodeError(
            f"it calls 'tf.image.resize', and Keras {g.era.version} does not tell whether that of "
            "TensorFlow 1 or 2"
        )
    how = _choice(method, RESIZE_METHODS)
    return g.add("image.resize", _tensor(x), _size(size), how, antialias=_flag(antialias))


def _resize_bilinear(g: Graph, x: Any, size: Any, align_corners: Any = False) -> Tensor:
    """Add tf.image.resize_bilinear of TensorFlow 1: without half pixels."""
    if _flag(align_corners):
        raise CodeError("it resizes with align_corners, which is not computed here")
    rows, columns = _size(size)
    return g.add_layer(
        "Resizing", _tensor(x), height=rows, width=columns, interpolation="bilinear_corner"
    )


def _resize_images(
    g: Graph, x: Any, size: Any, method: Any = 0, align_corners: Any = False
) -> Tensor:
    """Add tf.image.resize_images of TensorFlow 1, whose methods were numbers."""
    if method != "bilinear" and (type(method) is not int or method != 0):
        raise CodeError("it resizes in another way than the bilinear one")
    return _resize_bilinear(g, x, size, align_corners)


# keras.backend, where it is more than a function of TensorFlow


def _k_clip(g: Graph, x: Any, low: Any, high: Any) -> Tensor:
    low = -math.inf if low is None else _number(low)
    high = math.inf if high is None else _number(high)
    return _clip(g, x, low, max(low, high))


def _k_relu(g: Graph, x: Any, alpha: Any = 0.0, max_value: Any = None) -> Tensor:
    slope, top = _number(alpha), None if max_value is None else _number(max_value)
    if top is not None and min(top, slope) < 0:  # each backend has the limit at another place
        raise CodeError("it calls 'K.relu' with a largest value, and it or the slope is below 0")
    return g.add_layer("ReLU", _tensor(x), negative_slope=slope, max_value=top)


def _k_elu(g: Graph, x: Any, alpha: Any = 1.0) -> Tensor:
    return g.add_layer("ELU", _tensor(x), alpha=_number(alpha))


def _k_hard_sigmoid(g: Graph, x: Any) -> Tensor:
    return g.add_layer("Activation", _tensor(x), activation="hard_sigmoid")


def _k_sqrt(g: Graph, x: Any) -> Tensor:
    return g.add("math.sqrt", g.add("math.maximum", _tensor(x), 0.0))


def _k_round(g: Graph, x: Any) -> Tensor:
    if g.era.backend == "theano":
        raise CodeError("it calls 'K.round', which each version of Theano computed in its own way")
    return g.add("math.round", _tensor(x))


def _k_l2_normalize(g: Graph, x: Any, axis: Any = None) -> Tensor:
    """Divide by the norm; on Theano nothing kept that from being a division by 0."""
    if g.era.backend != "theano":
        return _l2_normalize(g, x, axis)
    squares = g.add("math.square", _tensor(x))
    norm = g.add("math.reduce_sum", squares, axis=_axes(axis), keepdims=True)
    return g.add("math.truediv", x, g.add("math.sqrt", norm))


def _k_batch_flatten(g: Graph, x: Any) -> Tensor:
    return g.add_layer("Flatten", _tensor(x))


def _k_batch_dot(g: Graph, x: Any, y: Any, axes: Any = None) -> Tensor:
    """Add the Dot layer, which calls it; without axes, the product of two matrices for a chip."""
    both = [2, 1] if axes is None else _whole(axes, "an axis")
    both = both if isinstance(both, list) else [both, both]
    if len(both) != 2 or min(both) < 1:
        raise CodeError("it calls 'K.batch_dot' along the chips of a batch, or backwards")
    return g.add_layer("Dot", [_tensor(x), _tensor(y)], axes=both)


def _einsum(g: Graph, equation: Any, *arrays: Any) -> Tensor:
    if not isinstance(equation, str):
        raise CodeError("it calls 'einsum' without a text")
    return g.add("einsum", equation, *_tensors(list(arrays)))


def _k_resize_images(
    g: Graph, x: Any, height_factor: Any, width_factor: Any, data_format: Any
) -> Tensor:
    """Repeat each value: all that the backends of every era agreed on."""
    old = {"th": "channels_first", "tf": "channels_last"}
    data_format = _choice(data_format, {*old, *old.values()})
    size = [_whole(factor, "the factor of a resizing") for factor in (height_factor, width_factor)]
    return g.add_layer(
        "UpSampling2D", _tensor(x), size=size, data_format=old.get(data_format, data_format)
    )


# Constants


def _of_number(function: Callable[[Any], Any]) -> Function:
    def compute(g: Graph, x: Any) -> Any:
        if not isinstance(x, (bool, int, float)):
            raise CodeError(f"it calls a function of a number on {describe(x)}")
        try:
            return function(x)
        except (ArithmeticError, ValueError) as error:
            raise CodeError(f"it computes a number that is none ({error})") from error

    return compute


def _abs(g: Graph, x: Any) -> Any:
    return g.add("math.abs", x) if isinstance(x, Tensor) else _of_number(abs)(g, x)


def _np_array(g: Graph, value: Any, dtype: Any = None) -> np.ndarray:
    array = as_array(value)
    kind = dtype if isinstance(dtype, str) else describe(dtype)
    if kind in ("float32", "np.float32"):
        return np.float32(array).astype(np.float64)
    if kind in ("float", "float64", "np.float64"):
        return array.astype(np.float64)
    if dtype is not None:
        raise CodeError(f"it makes an array of the type {kind[:100]!r}")
    return array


# The tables


def _each(modules: str, names: str, make: Callable[[str], Function], prefix: str) -> dict[str, Any]:
    """Return functions of one kind that several modules have, by the names of all."""
    return {
        " ".join(f"{module}.{name}" for module in modules.split()): make(prefix + name)
        for name in names.split()
    }


# Names of one function with a space between them.
_SPELLINGS: dict[str, Function] = {
    **_each("tf tf.math K ops", "abs cos exp log sign sin square tanh sigmoid", _unary, "math."),
    **_each("tf tf.math ops", "ceil expm1 floor log1p negative round rsqrt sqrt", _unary, "math."),
    **_each("tf.math", "erf log_sigmoid reciprocal", _unary, "math."),
    **_each("tf.math tf.nn K ops", "softplus", _unary, "math."),
    **_each("tf.nn ops", "elu relu relu6 selu silu swish", _unary, "nn."),
    **_each("tf.nn K ops", "softsign", _unary, "nn."),
    **_each("tf.nn", "sigmoid tanh", _unary, "nn."),
    **_each("tf K ops", "ones_like zeros_like", _unary, ""),
    **_each("tf.image", "flip_left_right flip_up_down", _unary, "image."),
    **_each("tf.image", "per_image_standardization rgb_to_grayscale", _unary, "image."),
    **_each("tf tf.math K ops", "maximum minimum", _binary, "math."),
    **_each("tf tf.math K ops", "greater greater_equal less less_equal", _binary, "math."),
    **_each("tf tf.math ops", "add divide multiply subtract", _binary, "math."),
    **_each("tf tf.math", "floordiv pow squared_difference truediv", _binary, "math."),
    **_each("K ops", "max mean min prod std sum logsumexp", _reduction, "math.reduce_"),
    **_each("tf tf.math", "reduce_max reduce_mean reduce_min reduce_prod", _reduction, "math."),
    **_each("tf tf.math", "reduce_sum reduce_logsumexp", _reduction, "math."),
    **_each("tf.nn K ops", "softmax", _along_last, "nn."),
    **_each("tf.nn ops", "log_softmax", _along_last, "nn."),
    **_each("tf tf.nn", "depth_to_space space_to_depth", _blocks, "nn."),
    "K.var ops.var tf.math.reduce_variance": _reduction("math.reduce_variance"),
    "tf.math.reduce_std": _reduction("math.reduce_std"),
    "K.pow ops.power": _binary("math.pow"),
    "ops.absolute": _unary("math.abs"),
    "ops.true_divide": _binary("math.truediv"),
    "tf.div": _binary("math.divide"),  # these four before TensorFlow 1.0 or 2
    "tf.mul": _binary("math.multiply"),
    "tf.neg": _unary("math.negative"),
    "tf.sub": _binary("math.subtract"),
    "K.cast ops.cast tf.cast": _cast,
    "tf.to_float": lambda g, x: _cast(g, x, "float32"),
    "K.constant ops.convert_to_tensor tf.constant tf.convert_to_tensor": _constant,
    "K.identity K.stop_gradient ops.stop_gradient tf.identity tf.stop_gradient": _identity,
    "ops.where tf.where": _where,
    "tf.add_n tf.math.add_n": _add_n,
    "ops.clip tf.clip_by_value": _clip,
    "tf.nn.moments": _moments,
    "tf.linalg.l2_normalize tf.math.l2_normalize tf.nn.l2_normalize": _l2_normalize,
    "ops.leaky_relu tf.nn.leaky_relu": _leaky_relu,
    "tf.nn.gelu": _gelu(False),
    "ops.gelu": _gelu(True),
    "tf.nn.local_response_normalization tf.nn.lrn": _lrn,
    "tf.nn.avg_pool tf.nn.avg_pool2d": _pool("nn.avg_pool2d"),
    "tf.nn.max_pool tf.nn.max_pool2d": _pool("nn.max_pool2d"),
    "K.concatenate": _concat(-1),
    "ops.concatenate": _concat(0),
    "tf.concat": _concat(None),
    "K.stack ops.stack tf.stack": _stack,
    "tf.split": _split,
    "K.expand_dims ops.expand_dims tf.expand_dims": _expand,
    "K.squeeze ops.squeeze tf.squeeze": _squeeze,
    "K.reshape ops.reshape tf.reshape": _reshape,
    "K.permute_dimensions ops.transpose tf.transpose": _transpose,
    "K.tile tf.tile": _tile,
    "K.reverse ops.flip tf.reverse": _reverse,
    "ops.take": _take,
    "tf.gather": _gather,
    "tf.pad": _pad,
    "ops.image.resize tf.image.resize": _resize,
    "tf.image.resize_bilinear tf.compat.v1.image.resize_bilinear": _resize_bilinear,
    "tf.image.resize_images": _resize_images,
    "K.clip": _k_clip,
    "K.relu": _k_relu,
    "K.elu": _k_elu,
    "K.hard_sigmoid": _k_hard_sigmoid,
    "K.sqrt": _k_sqrt,
    "K.round": _k_round,
    "K.l2_normalize": _k_l2_normalize,
    "K.batch_flatten": _k_batch_flatten,
    "K.resize_images": _k_resize_images,
    "K.batch_dot": _k_batch_dot,
    "ops.einsum tf.einsum tf.linalg.einsum": _einsum,
    "K.floatx": lambda g: "float32",
    "K.epsilon": lambda g: 1e-7,
    "np.array np.asarray": _np_array,
    "np.float32": _of_number(lambda x: np.array(np.float32(x), np.float64)),
    "np.float64 float": _of_number(float),
    "math.sqrt np.sqrt": _of_number(math.sqrt),
    "int": _of_number(int),
    "abs": _abs,
}
FUNCTIONS = {name: function for names, function in _SPELLINGS.items() for name in names.split()}

CONSTANTS: dict[str, Any] = {
    "False": False,  # names like others in Python 2
    "None": None,
    "True": True,
    "math.e": math.e,
    "math.pi": math.pi,
    "np.e": math.e,
    "np.newaxis": None,
    "np.pi": math.pi,
    "tf.image.ResizeMethod.AREA": "area",
    "tf.image.ResizeMethod.BICUBIC": "bicubic",
    "tf.image.ResizeMethod.BILINEAR": "bilinear",
    "tf.image.ResizeMethod.NEAREST_NEIGHBOR": "nearest",
    "tf.newaxis": None,
}

# Other names of arguments, in one of the modules or in older versions; and of the first argument.
ARGUMENTS = {
    "axes": "axis",
    "clip_value_max": "high",
    "clip_value_min": "low",
    "dim": "axis",
    "dim_ordering": "data_format",
    "interpolation": "method",
    "keep_dims": "keepdims",
    "max_value": "high",
    "min_value": "low",
    "negative_slope": "alpha",
    "newshape": "shape",
    "pattern": "axis",
    "perm": "axis",
    "reduction_indices": "axis",
    "squeeze_dims": "axis",
    "x_max": "high",
    "x_min": "low",
}
FIRST_ARGUMENTS = words(
    "a features images input input_tensor inputs logits t tensor tensors value values x"
)


def call_function(graph: Graph, path: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Return what a function gives, by the name under which the code knows it.

    Raises:
        CodeError: it is not in the table, or not with such arguments.
    """
    function = FUNCTIONS.get(path)
    if function is None:
        raise CodeError(f"it calls '{path}', which is not known to be mere arithmetic")
    signature = inspect.signature(function)
    own = list(signature.parameters)[1:]
    renamed = {}
    for key, value in kwargs.items():
        if key not in own:
            key = own[0] if own and key in FIRST_ARGUMENTS else ARGUMENTS.get(key, key)
        renamed[key] = value
    if "name" not in own:
        renamed.pop("name", None)
    try:
        bound = signature.bind(graph, *args, **renamed)
    except TypeError as error:
        raise CodeError(
            f"it calls '{path}' with other arguments than are known: {error}"
        ) from error
    return function(*bound.args, **bound.kwargs)
