"""Which functions are mere arithmetic: the operations of tf.keras and Keras 3, as TensorFlow's."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from keras_files.advice import STANDARD
from keras_files.model_file import ModelError
from keras_files.network import Layer, plain, words

# What an Operation may compute: functions of TensorFlow that are arithmetic on arrays, by their
# name in the module tf ("getitem": slicing). A TFOpLambda layer can name any function at all.
OPERATIONS = words(
    "cast clip_by_value compat.v1.floor_div compat.v1.gather compat.v1.nn.conv2d "
    "compat.v1.nn.depthwise_conv2d compat.v1.pad compat.v1.shape compat.v1.squeeze "
    "compat.v1.transpose concat convert_to_tensor einsum expand_dims experimental.numpy.diff "
    "experimental.numpy.hypot experimental.numpy.log10 experimental.numpy.log2 "
    "experimental.numpy.logaddexp experimental.numpy.moveaxis experimental.numpy.rot90 "
    "experimental.numpy.swapaxes experimental.numpy.tril experimental.numpy.triu gather getitem "
    "identity image.central_crop image.flip_left_right image.flip_up_down image.grayscale_to_rgb "
    "image.per_image_standardization image.resize image.resize_with_crop_or_pad "
    "image.rgb_to_grayscale linalg.cross linalg.l2_normalize linalg.matmul math.abs math.acos "
    "math.acosh math.add math.add_n math.argmax math.argmin math.asin math.asinh math.atan "
    "math.atan2 math.atanh math.ceil math.cos math.cosh math.count_nonzero math.cumprod "
    "math.cumsum math.divide math.divide_no_nan math.equal math.erf math.erfc math.exp math.expm1 "
    "math.floor math.floordiv math.floormod math.greater math.greater_equal math.is_finite "
    "math.is_inf math.is_nan math.l2_normalize math.less math.less_equal math.log math.log1p "
    "math.log_sigmoid math.logical_and math.logical_not math.logical_or math.logical_xor "
    "math.maximum math.minimum math.multiply math.multiply_no_nan math.negative math.not_equal "
    "math.pow math.reciprocal math.reduce_all math.reduce_any math.reduce_euclidean_norm "
    "math.reduce_logsumexp math.reduce_max math.reduce_mean math.reduce_min math.reduce_prod "
    "math.reduce_std math.reduce_sum math.reduce_variance math.round math.rsqrt math.sigmoid "
    "math.sign math.sin math.sinh math.softplus math.sqrt math.square math.squared_difference "
    "math.subtract math.tan math.tanh math.truediv nn.avg_pool nn.avg_pool2d nn.bias_add nn.conv2d "
    "nn.convolution nn.depth_to_space nn.depthwise_conv2d nn.elu nn.gelu nn.l2_normalize "
    "nn.leaky_relu nn.local_response_normalization nn.log_softmax nn.max_pool nn.max_pool2d "
    "nn.moments nn.relu nn.relu6 nn.selu nn.sigmoid nn.silu nn.softmax nn.softplus nn.softsign "
    "nn.space_to_depth nn.swish nn.tanh one_hot ones_like pad repeat reshape reverse roll shape "
    "slice sort split squeeze stack stop_gradient tensordot tile transpose unstack where "
    "zeros_like"
)

OPERATORS = {
    "__operators__.add": "math.add",
    "__operators__.getitem": "getitem",
}

# Operations of Keras 3 (keras.ops on the tensors of a model): the same function of TensorFlow, and
# what it calls the arguments. An argument not named here must have one of the plain values.
_PLAIN_VALUES = (None, False, "channels_last", "constant")
_PLAIN_OF_KIND = {
    "Cross": {"axisa": -1, "axisb": -1, "axisc": -1},
    "Normalize": {"order": 2},
    "Resize": {"fill_value": 0.0},
    "Round": {"decimals": 0},
}
_REDUCTION = {"axis": "axis", "keepdims": "keepdims"}
_POOLING = {"pool_size": "ksize", "strides": "strides", "padding": "padding"}

# Without arguments.
_KERAS3_PLAIN = {
    "Absolute": "math.abs",
    "Add": "math.add",
    "Arccos": "math.acos",
    "Arccosh": "math.acosh",
    "Arcsin": "math.asin",
    "Arcsinh": "math.asinh",
    "Arctan": "math.atan",
    "Arctan2": "math.atan2",
    "Arctanh": "math.atanh",
    "Ceil": "math.ceil",
    "Conjugate": "identity",
    "ConvertToTensor": "identity",
    "Copy": "identity",
    "Cos": "math.cos",
    "Cosh": "math.cosh",
    "Divide": "math.divide",
    "DivideNoNan": "math.divide_no_nan",
    "Equal": "math.equal",
    "Erf": "math.erf",
    "Erfc": "math.erfc",
    "Exp": "math.exp",
    "Expm1": "math.expm1",
    "Floor": "math.floor",
    "FloorDivide": "math.floordiv",
    "GetItem": "getitem",
    "Greater": "math.greater",
    "GreaterEqual": "math.greater_equal",
    "Hypot": "experimental.numpy.hypot",
    "Isfinite": "math.is_finite",
    "Isinf": "math.is_inf",
    "Isnan": "math.is_nan",
    "Less": "math.less",
    "LessEqual": "math.less_equal",
    "Log": "math.log",
    "Log10": "experimental.numpy.log10",
    "Log1p": "math.log1p",
    "Log2": "experimental.numpy.log2",
    "LogSigmoid": "math.log_sigmoid",
    "Logaddexp": "experimental.numpy.logaddexp",
    "LogicalAnd": "math.logical_and",
    "LogicalNot": "math.logical_not",
    "LogicalOr": "math.logical_or",
    "LogicalXor": "math.logical_xor",
    "Matmul": "linalg.matmul",
    "Maximum": "math.maximum",
    "Minimum": "math.minimum",
    "Mod": "math.floormod",
    "Multiply": "math.multiply",
    "Negative": "math.negative",
    "NotEqual": "math.not_equal",
    "OnesLike": "ones_like",
    "Power": "math.pow",
    "RGBToGrayscale": "image.rgb_to_grayscale",
    "Reciprocal": "math.reciprocal",
    "Relu": "nn.relu",
    "Relu6": "nn.relu6",
    "Round": "math.round",
    "Rsqrt": "math.rsqrt",
    "Selu": "nn.selu",
    "Sigmoid": "math.sigmoid",
    "Sign": "math.sign",
    "Silu": "nn.silu",
    "Sin": "math.sin",
    "Sinh": "math.sinh",
    "Softplus": "math.softplus",
    "Softsign": "nn.softsign",
    "Sqrt": "math.sqrt",
    "Square": "math.square",
    "StopGradient": "stop_gradient",
    "Subtract": "math.subtract",
    "Tan": "math.tan",
    "Tanh": "math.tanh",
    "TrueDivide": "math.truediv",
    "Where": "where",
    "ZerosLike": "zeros_like",
}
KERAS3_OPERATIONS: dict[str, tuple[str, dict[str, str]]] = {
    **{kind: (function, {}) for kind, function in _KERAS3_PLAIN.items()},
    "All": ("math.reduce_all", _REDUCTION),
    "Amax": ("math.reduce_max", _REDUCTION),
    "Amin": ("math.reduce_min", _REDUCTION),
    "Any": ("math.reduce_any", _REDUCTION),
    "Argmax": ("math.argmax", {"axis": "axis"}),
    "Argmin": ("math.argmin", {"axis": "axis"}),
    "Average": ("math.reduce_mean", {"axis": "axis"}),
    "AveragePool": ("nn.avg_pool2d", _POOLING),
    "Cast": ("cast", {"dtype": "dtype"}),
    "Clip": ("clip_by_value", {"x_min": "clip_value_min", "x_max": "clip_value_max"}),
    "Concatenate": ("concat", {"axis": "axis"}),
    "Conv": (
        "nn.convolution",
        {"strides": "strides", "padding": "padding", "dilation_rate": "dilations"},
    ),
    "CountNonzero": ("math.count_nonzero", {"axis": "axis"}),
    "Cross": ("linalg.cross", {}),
    "Cumprod": ("math.cumprod", {"axis": "axis"}),
    "Cumsum": ("math.cumsum", {"axis": "axis"}),
    "Einsum": ("einsum", {"subscripts": "equation"}),
    "DepthToSpace": ("nn.depth_to_space", {"block_size": "block_size"}),
    "Diff": ("experimental.numpy.diff", {"n": "n", "axis": "axis"}),
    "Dot": ("tensordot", {}),
    "ExpandDims": ("expand_dims", {"axis": "axis"}),
    "Flip": ("reverse", {"axis": "axis"}),
    "Gelu": ("nn.gelu", {"approximate": "approximate"}),
    "Hstack": ("concat", {}),
    "LeakyRelu": ("nn.leaky_relu", {"negative_slope": "alpha"}),
    "LogSoftmax": ("nn.log_softmax", {"axis": "axis"}),
    "Logsumexp": ("math.reduce_logsumexp", _REDUCTION),
    "Max": ("math.reduce_max", _REDUCTION),
    "MaxPool": ("nn.max_pool2d", _POOLING),
    "Mean": ("math.reduce_mean", _REDUCTION),
    "Min": ("math.reduce_min", _REDUCTION),
    "Moments": ("nn.moments", {"axes": "axes", "keepdims": "keepdims"}),
    "Moveaxis": ("experimental.numpy.moveaxis", {"source": "source", "destination": "destination"}),
    "Norm": ("math.reduce_euclidean_norm", _REDUCTION),
    "Normalize": ("math.l2_normalize", {"axis": "axis"}),
    "OneHot": ("one_hot", {"num_classes": "depth", "axis": "axis", "dtype": "dtype"}),
    "Pad": ("pad", {"pad_width": "paddings", "mode": "mode"}),
    "Prod": ("math.reduce_prod", _REDUCTION),
    "Repeat": ("repeat", {"repeats": "repeats", "axis": "axis"}),
    "Reshape": ("reshape", {"newshape": "shape"}),
    "Resize": (
        "image.resize",
        {"size": "size", "interpolation": "method", "antialias": "antialias"},
    ),
    "Roll": ("roll", {"shift": "shift", "axis": "axis"}),
    "Rot90": ("experimental.numpy.rot90", {"k": "k", "axes": "axes"}),
    "Softmax": ("nn.softmax", {"axis": "axis"}),
    "Sort": ("sort", {"axis": "axis"}),
    "SpaceToDepth": ("nn.space_to_depth", {"block_size": "block_size"}),
    "Split": ("split", {"indices_or_sections": "num_or_size_splits", "axis": "axis"}),
    "Squeeze": ("squeeze", {"axis": "axis"}),
    "Stack": ("stack", {"axis": "axis"}),
    "Std": ("math.reduce_std", _REDUCTION),
    "Sum": ("math.reduce_sum", _REDUCTION),
    "Swapaxes": ("experimental.numpy.swapaxes", {"axis1": "axis1", "axis2": "axis2"}),
    "Take": ("gather", {"axis": "axis"}),
    "Tensordot": ("tensordot", {"axes": "axes"}),
    "Tile": ("tile", {"repeats": "multiples"}),
    "Transpose": ("transpose", {"axes": "perm"}),
    "Tril": ("experimental.numpy.tril", {"k": "k"}),
    "Triu": ("experimental.numpy.triu", {"k": "k"}),
    "Unstack": ("unstack", {"num": "num", "axis": "axis"}),
    "Var": ("math.reduce_variance", _REDUCTION),
}
# Operations that are activations, with the arguments that those have.
KERAS3_ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "Celu": ("celu", {"alpha": 1.0}),
    "Elu": ("elu", {"alpha": 1.0}),
    "HardShrink": ("hard_shrink", {"threshold": 0.5}),
    "HardSigmoid": ("hard_sigmoid_keras3", {}),
    "HardSilu": ("hard_swish", {}),
    "HardTanh": ("hard_tanh", {}),
    "SoftShrink": ("soft_shrink", {"threshold": 0.5}),
    "SparsePlus": ("sparse_plus", {}),
    "SparseSigmoid": ("sparse_sigmoid", {}),
    "Squareplus": ("squareplus", {"b": 4}),
    "TanhShrink": ("tanh_shrink", {}),
}

# Nodes of TensorFlow's graph, as tf.keras of TensorFlow 1.15 to 2.3 stored an operation, and what
# each is among OPERATIONS. Computed is the node itself, with its attributes.
GRAPH_OPERATIONS = {
    "Abs": "math.abs",
    "Add": "math.add",
    "AddN": "math.add_n",
    "AddV2": "math.add",
    "AvgPool": "nn.avg_pool",
    "BatchMatMul": "linalg.matmul",
    "BatchMatMulV2": "linalg.matmul",
    "BiasAdd": "nn.bias_add",
    "BroadcastTo": "tile",
    "Cast": "cast",
    "Ceil": "math.ceil",
    "ClipByValue": "clip_by_value",
    "Concat": "concat",
    "ConcatV2": "concat",
    "Cos": "math.cos",
    "DepthToSpace": "nn.depth_to_space",
    "Div": "math.divide",
    "DivNoNan": "math.divide_no_nan",
    "Elu": "nn.elu",
    "Equal": "math.equal",
    "Erf": "math.erf",
    "EuclideanNorm": "math.reduce_euclidean_norm",
    "Exp": "math.exp",
    "ExpandDims": "expand_dims",
    "Expm1": "math.expm1",
    "Floor": "math.floor",
    "FloorDiv": "math.floordiv",
    "FloorMod": "math.floormod",
    "GatherV2": "gather",
    "Greater": "math.greater",
    "GreaterEqual": "math.greater_equal",
    "Identity": "identity",
    "LRN": "nn.local_response_normalization",
    "LeakyRelu": "nn.leaky_relu",
    "Less": "math.less",
    "LessEqual": "math.less_equal",
    "Log": "math.log",
    "Log1p": "math.log1p",
    "LogSoftmax": "nn.log_softmax",
    "LogicalAnd": "math.logical_and",
    "LogicalNot": "math.logical_not",
    "LogicalOr": "math.logical_or",
    "MatMul": "linalg.matmul",
    "Max": "math.reduce_max",
    "MaxPool": "nn.max_pool",
    "Maximum": "math.maximum",
    "Mean": "math.reduce_mean",
    "Min": "math.reduce_min",
    "Minimum": "math.minimum",
    "MirrorPad": "pad",
    "Mul": "math.multiply",
    "MulNoNan": "math.multiply_no_nan",
    "Neg": "math.negative",
    "NotEqual": "math.not_equal",
    "OnesLike": "ones_like",
    "Pack": "stack",
    "Pad": "pad",
    "PadV2": "pad",
    "Pow": "math.pow",
    "Prod": "math.reduce_prod",
    "RealDiv": "math.truediv",
    "Reciprocal": "math.reciprocal",
    "Relu": "nn.relu",
    "Relu6": "nn.relu6",
    "Reshape": "reshape",
    "ResizeArea": "image.resize",
    "ResizeBicubic": "image.resize",
    "ResizeBilinear": "image.resize",
    "ResizeNearestNeighbor": "image.resize",
    "ReverseV2": "reverse",
    "Roll": "roll",
    "Round": "math.round",
    "Rsqrt": "math.rsqrt",
    "ScaleAndTranslate": "image.resize",
    "Selu": "nn.selu",
    "Shape": "shape",
    "Sigmoid": "math.sigmoid",
    "Sign": "math.sign",
    "Sin": "math.sin",
    "Slice": "slice",
    "Softmax": "nn.softmax",
    "Softplus": "math.softplus",
    "Softsign": "nn.softsign",
    "SpaceToDepth": "nn.space_to_depth",
    "Split": "split",
    "SplitV": "split",
    "Sqrt": "math.sqrt",
    "Square": "math.square",
    "SquaredDifference": "math.squared_difference",
    "Squeeze": "squeeze",
    "StopGradient": "stop_gradient",
    "StridedSlice": "getitem",
    "Sub": "math.subtract",
    "Sum": "math.reduce_sum",
    "Tanh": "math.tanh",
    "Tile": "tile",
    "Transpose": "transpose",
    "Unpack": "unstack",
    "ZerosLike": "zeros_like",
} | {
    name: f"raw_ops.{name}"
    for name in words(
        "Atan Atan2 AvgPool3D BatchToSpaceND Conv2D Cosh Cumsum DepthwiseConv2dNative Einsum Erfc "
        "HSVToRGB IdentityN L2Loss MaxPool3D RGBToHSV Rint Select SelectV2 Sinh SpaceToBatchND Tan "
        "Xdivy Xlogy"
    )
}
# Their attributes that tf.raw_ops calls otherwise.
_RENAMED_ATTRIBUTES = {"squeeze_dims": "axis"}
_TYPES = {"DT_DOUBLE": "float64", "DT_FLOAT": "float32", "DT_HALF": "float16"}


def convert_operation(layer: Layer) -> None:
    """Turn an operation of tf.keras or Keras 3 into an Operation of TensorFlow, in place.

    `function` is then one of OPERATIONS, `arguments` are those known beforehand, `constants` those
    by their place among the tensors, or None where the call has all in their places.
    """
    config, kind = layer.config, layer.kind
    arguments: dict[str, Any] = {}
    if kind == "Elu" and config.get("alpha", 1.0) != 1.0:
        layer.kind, layer.config = "ELU", {"alpha": config["alpha"]}
        return
    if kind in KERAS3_ACTIVATIONS:
        name, own = KERAS3_ACTIVATIONS[kind]
        for key in config.keys() - {"name", "dtype"}:
            if config[key] != own.get(key):
                raise ModelError(f"{layer} has '{key}', which cannot be computed here: {STANDARD}")
        layer.kind, layer.config = "Activation", {"activation": name}
        return
    if kind == "TensorFlowOpLayer":
        _convert_graph_node(layer)
        return
    if kind in KERAS3_OPERATIONS:
        function, renamed = KERAS3_OPERATIONS[kind]
        arguments = _arguments_of_keras3(layer, renamed)
        if function == "reverse" and isinstance(arguments["axis"], int):
            arguments["axis"] = [arguments["axis"]]
        arguments |= {"Dot": {"axes": 1}, "Hstack": {"axis": 1}}.get(kind, {})
        if kind == "Normalize":
            arguments["epsilon"] = 1e-14  # of the sum of squares: keras.config.epsilon() squared
        if function == "nn.max_pool2d" or function == "nn.avg_pool2d":
            arguments["strides"] = arguments.get("strides") or arguments["ksize"]
    else:
        function = OPERATORS.get(config["function"], config["function"])
    if function not in OPERATIONS:
        raise _not_arithmetic(layer, function)
    layer.kind = "Operation"
    layer.config = {"function": function, "arguments": arguments, "constants": None}
    if kind == "Einsum":
        layer.config |= {"node": "Einsum", "constants": {}}
    if kind == "Dot":
        layer.config["most_axes"] = 2  # of the second array, for it to be a tensordot


def _arguments_of_keras3(layer: Layer, renamed: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of an operation of Keras 3 under TensorFlow's names."""
    arguments: dict[str, Any] = {}
    for key, value in layer.config.items():
        if key in renamed:
            arguments[renamed[key]] = plain(value)
        elif key not in ("name", "dtype") and not _is_plain(layer.kind, key, value):
            raise ModelError(f"{layer} has '{key}', which cannot be computed here: {STANDARD}")
    if layer.kind in ("Repeat", "Roll", "Take") and arguments.get("axis") is None:
        raise ModelError(f"{layer} takes values of all chips at once: {STANDARD}")
    if "padding" in arguments:
        arguments["padding"] = arguments["padding"].upper()
    if "shape" in arguments:
        arguments["shape"] = [-1 if size is None else size for size in arguments["shape"]]
    return arguments


def _is_plain(kind: str, key: str, value: Any) -> bool:
    """Return whether an argument of an operation of Keras 3 has a value that changes nothing."""
    plain_values = [
        *_PLAIN_VALUES,
        *[v for k, v in _PLAIN_OF_KIND.get(kind, {}).items() if k == key],
    ]
    return any(value == plain and type(value) is type(plain) for plain in plain_values)


def _convert_graph_node(layer: Layer) -> None:
    """Turn a node of TensorFlow's graph into an Operation, in place."""
    node = layer.config["node_def"]
    node = json.loads(node) if isinstance(node, str) else node
    function = GRAPH_OPERATIONS.get(node["op"])
    if function is None:
        raise _not_arithmetic(layer, f"raw_ops.{node['op']}")
    attributes = node.get("attr", {}).items()
    constants = {int(place): value for place, value in layer.config["constants"].items()}
    layer.kind = "Operation"
    layer.config = {
        "function": function,
        "node": node["op"],
        "arguments": {_RENAMED_ATTRIBUTES.get(key, key): _attribute(at) for key, at in attributes},
        "constants": constants,
    }


def _not_arithmetic(layer: Layer, function: str) -> ModelError:
    return ModelError(
        f"{layer} calls the function '{function}' of TensorFlow, which is not known to be mere "
        f"arithmetic, and is never called from a file: {STANDARD}"
    )


def _attribute(value: dict[str, Any]) -> Any:
    """Return an attribute of a node from the form in which JSON holds it: {"i": "3"} -> 3."""
    kind, content = next(iter(value.items()), ("", None))
    if kind == "list":
        ((kind, items),) = content.items() or (("", []),)
        return [_attribute({kind: item}) for item in items]
    if kind == "type":
        return _TYPES.get(content, content.removeprefix("DT_").lower())
    read = {"i": int, "f": float, "b": bool, "s": lambda text: base64.b64decode(text).decode()}
    return read.get(kind, lambda other: other)(content)
