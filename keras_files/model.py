"""A network as a TensorFlow function: its calls in order, its weights, and channels first as last.

Where a layer of a channels-first model has formulas for both (convolution, pooling, ...), its
arrays are kept channels last, and only layers that look at the order of axes (Flatten, Reshape,
Dense, ...) see them transposed: TensorFlow has no channels-first convolution for the CPU, and no
transposition is computed that two layers would undo.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from keras_files.advice import CHANGED
from keras_files.apart import find_parts, is_pointwise, mixes_chips
from keras_files.attention import ATTENTION
from keras_files.formulas import FORMULAS as PLAIN
from keras_files.formulas import Array, Weights, activate, size_along
from keras_files.layers import IDLE, LAYERS, Axes, Whole, check_shapes
from keras_files.model_file import ModelError
from keras_files.network import Call, Layer, Network, Tensor, tensors_in, words
from keras_files.normalization import NORMALIZATIONS
from keras_files.recurrent import RECURRENT

MAX_VALUES = 2**28  # in one array, for one chip: 1 GiB of float32
UNKNOWN_SIZE = 64  # of an axis whose length depends on the chips
FORMULAS = PLAIN | NORMALIZATIONS | ATTENTION | RECURRENT
Arrays = dict[str, np.ndarray]

SCOPE = "layer_"  # with a number, before the names of a layer's nodes

# Operations whose other arguments than the first one say how large their result is.
SIZED = words(
    "compat.v1.pad getitem image.central_crop image.resize image.resize_with_crop_or_pad pad "
    "reshape slice split tile"
)

# Operations that Keras 3 does on whole numbers as TensorFlow does: it has types of its own for
# sums, products and means of them.
MOVING = words(
    "cast concat convert_to_tensor expand_dims gather getitem identity math.argmax math.argmin "
    "math.maximum math.minimum math.reduce_max math.reduce_min one_hot pad reshape reverse roll "
    "shape slice split squeeze stack stop_gradient tile transpose unstack"
)

BATCH_NORMALIZATIONS = {"BatchNormalization", "SyncBatchNormalization"}

# Convolutions that can take one in: the kernel whose last axes count the channels of the result.
CHANNEL_KERNELS = {
    "Conv2D": "kernel",
    "DepthwiseConv2D": "depthwise_kernel",
    "SeparableConv2D": "pointwise_kernel",
}


class ChannelsFirst:
    """An array (N, channels, rows, columns), kept as `last`, (N, rows, columns, channels).

    Or with another number of axes of space.
    """

    def __init__(self, last: Array) -> None:
        self.last = last

    @functools.cached_property
    def first(self) -> Array:
        rank = len(self.last.shape)
        return tf.transpose(self.last, [0, rank - 1, *range(1, rank - 1)])


Value = Array | ChannelsFirst


class Model:
    """A network with its weights, to be called on chips; see `open_model.OpenedModel.build`.

    Args:
        image_shape: (rows, columns, bands), None for a size where any will do.
        channels_first: whether the network itself takes (N, bands, rows, columns).
        read_weight: gives the float32 array of a layer and a role.
    """

    def __init__(
        self,
        network: Network,
        image_shape: tuple[int | None, int | None, int],
        channels_first: bool,
        read_weight: Callable[[Layer, str], np.ndarray],
    ) -> None:
        self._network = network
        self._channels_first = channels_first
        self._weights: dict[int, Weights] = {}
        self._apart: set[int] = set()  # networks that are known not to mix the chips
        self._scopes: dict[int, Layer] = {}
        self._load(network, read_weight)
        self.input_shape = (None, *image_shape)
        trace = tf.function(self.__call__, autograph=False).get_concrete_function(
            tf.TensorSpec(self.input_shape, tf.float32)
        )
        self.output_shape = tuple(trace.output_shapes)
        if len(self.output_shape) != 2 or self.output_shape[1] is None:
            raise ModelError(
                f"the model's output has the shape {self.output_shape}, not (None, classes): "
                "end it with a pooling of the image and a Dense layer, and train that"
            )

    @tf.autograph.experimental.do_not_convert
    def __call__(self, x: Array, training: bool = False) -> Array:
        x = tf.cast(x, tf.float32)
        (y,) = self._compute(self._network, [ChannelsFirst(x) if self._channels_first else x])
        return tf.cast(y.first if isinstance(y, ChannelsFirst) else y, tf.float32)

    def failure(self, error: Exception) -> ModelError:
        """Turn what TensorFlow raises when the model is computed into a sentence with the layer.

        A layer's nodes have names that begin with its scope.
        """
        found = re.findall(rf"{SCOPE}(\d+)", str(error))
        layer = self._scopes.get(int(found[-1])) if found else None
        return _misdescribed(str(layer or "the model"), error)

    def _scope_of(self, layer: Layer) -> str:
        self._scopes.setdefault(id(layer), layer)
        return f"{SCOPE}{id(layer)}"

    def _load(self, network: Network, read_weight: Callable[[Layer, str], np.ndarray]) -> None:
        arrays: dict[int, Arrays] = {}
        for layer in network.layers:
            if layer.network:
                self._load(layer.network, read_weight)
            arrays[id(layer)] = {
                role: read_weight(layer, role) for role in layer.places if role not in IDLE
            }
        _join_normalizations(network, arrays)
        while arrays:  # TensorFlow copies them: each is let go at once
            key, weights = arrays.popitem()
            self._weights[key] = {
                role: tf.Variable(weights.pop(role), trainable=False) for role in list(weights)
            }

    def _compute(self, network: Network, inputs: list[Value], owner: str = "") -> list[Value]:
        if network.dtypes:
            inputs = [_cast(x, dtype) for x, dtype in zip(inputs, network.dtypes, strict=True)]
        values = self._compute_calls(network, inputs)
        if id(network) not in self._apart:
            self._apart.add(id(network))
            with tf.init_scope():  # out of the graph that is being made
                self._check_apart(network, inputs, values, owner)
        return [values[end] for end in network.outputs]

    def _compute_calls(self, network: Network, inputs: list[Value]) -> dict[Tensor, Value]:
        """Return the values of all Tensors of a network."""
        values = dict(zip(network.inputs, inputs, strict=True))
        sizes: set[Tensor] = set()
        for call in network.calls:
            if call.layer.kind == "Operation":
                _check_sizes(call, sizes)
            results = self._call(call, values)
            results = results if isinstance(results, (list, tuple)) else [results]
            made = {Tensor(call.name, call.number, i): y for i, y in enumerate(results)}
            if _gives_sizes(call, sizes):
                sizes |= made.keys()
            values |= made
        return values

    def _call(self, call: Call, values: dict[Tensor, Value]) -> Value | list[Value]:
        layer = call.layer
        args = [_fill(arg, values) for arg in call.args]
        kwargs = {key: _first(_fill(value, values)) for key, value in call.kwargs.items()}
        if layer.kind == "Network":
            inputs = args[0] if isinstance(args[0], list) else args
            is_lambda = layer.config["class_name"] == "Lambda"
            owner = f"layer '{layer.name}' (Lambda)" if is_lambda else ""
            results = self._compute(layer.network, inputs, owner)
            return results if len(results) > 1 else results[0]
        try:
            with tf.name_scope(self._scope_of(layer)):
                if layer.kind == "TimeDistributed":
                    return self._distribute(layer, _first(args[0]))
                y = _apply(layer, self._weights[id(layer)], args, kwargs)
        except ModelError as error:
            raise ModelError(f"{layer}: {error}") from error
        except MemoryError:
            raise
        except Exception as error:
            raise _misdescribed(str(layer), error) from error
        made = [_kept(part) for part in (y if isinstance(y, (list, tuple)) else [y])]
        for part in made:
            if math.prod(n or 1 for n in part.shape[1:]) > MAX_VALUES:
                raise ModelError(
                    f"{layer} makes an array of shape {part.shape}, too large for a chip"
                )
        if _are_of_known_size(_tensors([args, kwargs])) and not _are_of_known_size(made):
            raise ModelError(
                f"{layer} makes an array of shape {made[0].shape}, whose size the model does not "
                f"fix: give it fixed numbers; {CHANGED}"
            )
        return y

    def _distribute(self, layer: Layer, x: Array) -> Array:
        """Compute the layer of a TimeDistributed for each place on the first axis."""
        shape = tf.shape(x)
        flat = tf.reshape(x, tf.concat([[-1], shape[2:]], 0))
        (y,) = self._compute(layer.network, [tf.ensure_shape(flat, [None, *x.shape[2:]])])
        y = y.first if isinstance(y, ChannelsFirst) else y
        sizes = [size_along(y, axis) for axis in range(1, len(y.shape))]
        return tf.reshape(y, [-1, size_along(x, 1), *sizes])

    def _check_apart(
        self, network: Network, inputs: list[Value], values: dict[Tensor, Value], owner: str
    ) -> None:
        """Refuse a network by which a chip's result depends on the others of its batch.

        Each part that could is looked at by itself. One that mixes the chips may have its contrary
        later on, as a reshape to (chips * parts, ...) has: then the whole network tells.

        Args:
            values: of all its Tensors.
            owner: the Lambda layer that it stands for, else "".
        """
        for part in find_parts(network):
            what, given = owner or str(part.layers[0]), [values[start] for start in part.inputs]
            if is_pointwise(part, {len(_kept(x).shape) for x in given}):
                continue
            try:
                mixes = self._mixes(part, given)
                if mixes and not self._mixes(network, inputs):
                    return
            except tf.errors.OpError as error:
                raise _misdescribed(what, error) from error
            if mixes:
                raise ModelError(
                    f"{what} gives a chip a result that depends on the other chips of its batch: "
                    f"give each function the axes of one chip, such as axis=[1, 2, 3]; {CHANGED}"
                )

    def _mixes(self, network: Network, inputs: list[Value]) -> bool:
        """Compute a network by itself, on random chips; see `apart`."""
        ends = [_kept(x) for x in inputs]
        sizes = [[n or UNKNOWN_SIZE for n in end.shape[1:]] for end in ends]
        specs = [tf.TensorSpec([None, *n], end.dtype) for n, end in zip(sizes, ends, strict=True)]

        def compute(*arrays: Array) -> list[Array]:
            kept = [
                ChannelsFirst(array) if isinstance(x, ChannelsFirst) else array
                for array, x in zip(arrays, inputs, strict=True)
            ]
            values = self._compute_calls(network, kept)
            return [_first(values[end]) for end in network.outputs]

        function = tf.function(compute, autograph=False).get_concrete_function(*specs)
        return mixes_chips(function, specs, sizes)


def _misdescribed(what: str, error: Exception) -> ModelError:
    """Return the sentence for a layer, or the model, that TensorFlow does not compute.

    Of what TensorFlow says, the names of nodes, tracebacks and paths tell a user nothing.
    """
    lines = [line.strip() for line in str(error).splitlines()]
    noise = ("Detected at", "File ", "Graph execution error", "Stack trace", "<stack", "[[")
    causes = [line for line in lines if line and not line.startswith(noise)]
    node = next((number for number, line in enumerate(lines) if "{{node" in line), 0)
    above = [line for line in lines[:node] if line in causes]
    cause = (above or causes or [type(error).__name__])[-1 if above else 0]
    cause = re.sub(r" for '?\{\{node.*?\}\}.*?'? with ", " with ", cause)
    cause = re.sub(r"(?<![\w.])/[\w.+-]+/\S*|\{\{node.*?\}\}", "...", cause)[:200]
    return ModelError(f"{what} cannot be computed as the file describes it: {cause.rstrip('.')}")


def _check_sizes(call: Call, sizes: set[Tensor]) -> None:
    """Refuse an operation that takes the size of its result from the values of a chip.

    Args:
        call: of an Operation.
        sizes: the Tensors that were computed from the shapes of others alone.
    """
    function = call.layer.config["function"]
    arguments = list(tensors_in([call.args, call.kwargs]))
    alone = function == "where" and len(call.args) + len(call.kwargs) == 1
    if alone or (function in SIZED and not sizes.issuperset(arguments[1:])):
        raise ModelError(
            f"{call.layer} makes an array whose size depends on the values of a chip: give it "
            f"fixed numbers; {CHANGED}"
        )


def _gives_sizes(call: Call, sizes: set[Tensor]) -> bool:
    """Return whether a call gives the shape of an array, or computes with nothing but such."""
    if call.layer.kind != "Operation":
        return False
    arguments = set(tensors_in([call.args, call.kwargs]))
    is_shape = call.layer.config["function"] in ("shape", "compat.v1.shape")
    return is_shape or bool(arguments) and arguments <= sizes


def _kept(y: Value) -> Array:
    """Return a value as it is kept."""
    return y.last if isinstance(y, ChannelsFirst) else y


def _tensors(value: Any) -> list[Array]:
    """Return all arrays among the arguments of a call."""
    if isinstance(value, (list, tuple, dict)):
        parts = value.values() if isinstance(value, dict) else value
        return [array for part in parts for array in _tensors(part)]
    return [_kept(value)] if isinstance(value, (ChannelsFirst, tf.Tensor)) else []


def _are_of_known_size(arrays: list[Array]) -> bool:
    """Return whether all axes but the first one, mostly the batch, are of known length."""
    return all(None not in array.shape[1:].as_list() for array in arrays if array.shape.rank != 0)


def _join_normalizations(network: Network, arrays: dict[int, Arrays]) -> None:
    """Put batch normalizations into the weights of the convolutions before them, where they can be.

    A convolution with kernel k and bias b and the normalization of its result are, per channel,
        s (k * x + b - mean) + beta = (s k) * x + s (b - mean) + beta
    with s = gamma / sqrt(variance + epsilon): a convolution alone, which TensorFlow computes in one
    step with the activation.

    Args:
        network: not changed; networks within it are left alone.
        arrays: weights by the id of the layer, changed in place: a normalization that is part of a
            convolution has none left.
    """
    made = {Tensor(call.name, call.number, 0): call.layer for call in network.calls}
    calls = Counter(id(call.layer) for call in network.calls)
    uses = Counter([*network.inputs, *network.outputs])
    for call in network.calls:
        uses.update(tensors_in([call.args, call.kwargs]))
    for call in network.calls:
        tensors = list(tensors_in(call.args))
        convolution = made.get(tensors[0]) if len(tensors) == 1 else None
        if convolution is None or not _are_joinable(convolution, call.layer):
            continue
        if uses[tensors[0]] == calls[id(convolution)] == calls[id(call.layer)] == 1:
            # A layer that its file describes wrongly stays as it is, for its formula to refuse.
            with contextlib.suppress(ArithmeticError, LookupError, TypeError, ValueError):
                _join(convolution, call.layer, arrays[id(convolution)], arrays[id(call.layer)])


def _are_joinable(layer: Layer, norm: Layer) -> bool:
    """Return whether `layer` is a convolution without activation, `norm` over its channels."""
    if layer.kind not in CHANNEL_KERNELS or norm.kind not in BATCH_NORMALIZATIONS:
        return False
    axis = norm.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    own = (1, -3) if layer.config["data_format"] == "channels_first" else (3, -1)
    return axis in own and layer.config.get("activation", "linear") == "linear"


def _join(layer: Layer, norm: Layer, weights: Arrays, statistics: Arrays) -> None:
    """Change the weights of a convolution, and take those of the normalization away."""
    kernel = weights[CHANNEL_KERNELS[layer.kind]]
    channels = kernel.shape[2:] if layer.kind == "DepthwiseConv2D" else kernel.shape[3:]
    vectors = [*statistics.values(), *([weights["bias"]] if "bias" in weights else [])]
    if any(vector.shape != (math.prod(channels),) for vector in vectors):
        raise ValueError("not one value for each channel")
    with np.errstate(all="ignore"):  # chips for which the model gives no finite value are reported
        variance = statistics["moving_variance"].astype(np.float64)
        scale = statistics.get("gamma", 1.0) / np.sqrt(variance + float(norm.config["epsilon"]))
        bias = (weights.get("bias", 0.0) - statistics["moving_mean"]) * scale
        bias += statistics.get("beta", 0.0)
        weights[CHANNEL_KERNELS[layer.kind]] = np.float32(kernel * scale.reshape(channels))
        weights["bias"] = np.float32(bias)
    statistics.clear()


def _fill(value: Any, values: dict[Tensor, Value]) -> Any:
    """Return arguments of a call with the values in place of the Tensors."""
    if isinstance(value, Tensor):
        return values[value]
    if isinstance(value, list):
        return [_fill(item, values) for item in value]
    if isinstance(value, slice):
        ends = (value.start, value.stop, value.step)
        return slice(*(_fill(end, values) for end in ends))
    return value


def _first(value: Any) -> Any:
    """Return a value, or values in a list, in the axes that the model itself counts."""
    if isinstance(value, list):
        return [_first(item) for item in value]
    return value.first if isinstance(value, ChannelsFirst) else value


def _last(value: Any) -> Any:
    """Return the same channels last, of arrays (N, channels, rows, columns)."""
    if isinstance(value, list):
        return [_last(item) for item in value]
    if isinstance(value, ChannelsFirst):
        return value.last
    return tf.transpose(value, [0, *range(2, len(value.shape)), 1])


def _cast(value: Value, dtype: str) -> Value:
    """Cast the input of a model as Keras does: a fraction is cut off for an integer type."""
    last = value.last if isinstance(value, ChannelsFirst) else value
    if last.dtype == dtype:
        return value
    cast = tf.cast(last, dtype)
    return ChannelsFirst(cast) if isinstance(value, ChannelsFirst) else cast


def _as_float(value: Any) -> Any:
    """Return the inputs of a layer as float32, whatever type an operation made of them."""
    if isinstance(value, list):
        return [_as_float(item) for item in value]
    return tf.cast(value, tf.float32) if isinstance(value, tf.Tensor) else value


def _apply(layer: Layer, weights: Weights, args: list[Any], kwargs: dict[str, Any]) -> Value:
    """Compute a layer, channels last if it can be, else in the axes that its arguments count."""
    config = layer.config
    parts = args[0] if isinstance(args[0], list) else args
    ranks = {len(part.last.shape) for part in parts if isinstance(part, ChannelsFirst)}
    kept = len(ranks) == 1 and all(isinstance(part, ChannelsFirst) for part in parts)
    axes = LAYERS[layer.kind].axes
    axial = axes is Axes.AXIAL and kept
    axial = axial and config.get("axis", -1) in (1, [1], 1 - len(parts[0].last.shape))
    pointwise = axes is Axes.POINTWISE and kept and not _looks_along(config)
    spatial = axes is Axes.SPATIAL and config.get("data_format") == "channels_first"
    if not (axial or pointwise or spatial):
        return _apply_formula(layer, weights, _first(args), kwargs)
    if axial:
        layer = replace(layer, config={**config, "axis": -1})
    if spatial and _looks_along(config):
        linear = replace(layer, config={**config, "activation": "linear"})
        y = ChannelsFirst(_apply_formula(linear, weights, _last(args), kwargs))
        return activate(config["activation"], y.first)
    y = _apply_formula(layer, weights, _last(args), kwargs)
    flat = layer.kind.startswith("Global") and not config.get("keepdims")
    return y if flat else ChannelsFirst(y)


def _apply_formula(layer: Layer, weights: Weights, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Compute a layer once its weights have the shapes that it declares for these inputs."""
    becomes_float = layer.kind != "Operation" or _promotes(layer, args)
    whole = None if layer.kind == "Operation" and becomes_float else _whole_type(layer, args)
    kept = 1 if layer.config.get("function") == "where" else 0  # its condition
    args = [*args[:kept], *_as_float(args[kept:])] if becomes_float else args
    shapes = [tuple(arg.shape) for arg in args if isinstance(arg, tf.Tensor)]
    check_shapes(layer, {role: tuple(weight.shape) for role, weight in weights.items()}, shapes)
    y = FORMULAS[layer.kind](layer.config, weights, *args, **kwargs)
    return tf.cast(y, whole) if whole else y


def _promotes(layer: Layer, args: list[Any]) -> bool:
    """Return whether Keras 3 makes float32 of whole numbers before it computes an operation."""
    function, keras3 = layer.config["function"], layer.config.get("promotes", False)
    return keras3 and (
        function in ("math.divide", "math.truediv") or any(isinstance(arg, float) for arg in args)
    )


def _whole_type(layer: Layer, args: list[Any]) -> tf.DType | None:
    """Return the type of whole numbers that a layer makes of its inputs, None for float32.

    Raises:
        ModelError: what it makes of whole numbers depends on the version of Keras.
    """
    types = {tensor.dtype for tensor in _tensors(args)}
    if not types or not all(dtype.is_integer for dtype in types):
        return None
    config, whole = layer.config, LAYERS[layer.kind].whole
    if layer.kind == "Operation" and config.get("promotes") and config["function"] not in MOVING:
        whole = Whole.OTHERWISE
    if whole is Whole.KEPT and config.get("interpolation", "nearest") != "nearest":
        whole = Whole.OTHERWISE
    if whole is Whole.KEPT and config.get("activation", "linear") not in ("linear", "relu"):
        whole = Whole.CAST
    if whole is Whole.OTHERWISE:
        raise ModelError(
            f"it computes with whole numbers ({types.pop().name}), which each version of Keras "
            "does in its own way: put a Rescaling layer before it, or give the model an input of "
            "float32"
        )
    return types.pop() if whole is Whole.KEPT else None


def _looks_along(config: dict[str, Any]) -> bool:
    """Return whether the last axis of its input means something to a mostly pointwise layer.

    To an activation that looks along it, and to a Rescaling with numbers for each place on it.
    """
    activation = config.get("activation")
    name = activation.kind if isinstance(activation, Layer) else activation
    along = name in ("softmax", "log_softmax", "Softmax")
    return along or any(isinstance(config.get(key), list) for key in ("scale", "offset"))
