"""Open a Keras model of any era as a function of chips, whatever version and backend wrote it.

A file of `model.save` holds a configuration (which layers, connected how) and weights. What the
same words mean changed over the years:

- Keras 1 (to 2017, on TensorFlow or Theano) has other names for layers and arguments, keeps
  kernels in the order of their `dim_ordering`, and records no backend.
- Keras 2 (2017 to 2024, the package on TensorFlow 1 or Theano, and tf.keras) has today's names and
  records the backend. Theano flips its kernels, and pads 'same' in a way of its own.
- Keras 3 (since 2023) stores operations beside layers, and has another hard_sigmoid.

No version of Keras reads all of them, and each reads some of them wrongly. So none is used: this
module turns the configuration of each era into one plain form, a `Network` of `Call`s to `Layer`s,
in which all differences are settled; `layer_arithmetic` has the formula of each layer, and computes
that form with TensorFlow. What has no formula there is refused: no file can name code to be run.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model_file import ModelError, names, naming, open_checked, read_document, read_weight

if TYPE_CHECKING:
    import h5py

__all__ = ["ModelError", "OpenedModel", "open_model"]

MAX_CALLS = 100_000  # nested models that use each other twice double with each level
RESAVE = "replace it by standard Keras layers and save the model again"


def words(text: str) -> set[str]:
    return set(text.split())


# The layers that can be opened, and their weights in the order in which Keras creates them.
# "bias?use_bias": there if the argument `use_bias` is true. After "|": never trainable.
LAYER_WEIGHTS = {
    **dict.fromkeys(
        words(
            "Activation ActivityRegularization Add Average AveragePooling1D AveragePooling2D "
            "AveragePooling3D CenterCrop Concatenate Cropping1D Cropping2D Cropping3D ELU Flatten "
            "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D "
            "GlobalMaxPooling1D "
            "GlobalMaxPooling2D GlobalMaxPooling3D InputLayer LeakyReLU MaxPooling1D MaxPooling2D "
            "MaxPooling3D Maximum Minimum Multiply Operation Permute ReLU RepeatVector Rescaling "
            "Reshape Resizing Softmax Subtract ThresholdedReLU TimeDistributed UnitNormalization "
            "UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D"
        ),
        "",
    ),
    **dict.fromkeys(
        words(
            "Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose Dense "
            "LocallyConnected2D MaxoutDense"
        ),
        "kernel bias?use_bias",
    ),
    **dict.fromkeys(["DepthwiseConv1D", "DepthwiseConv2D"], "depthwise_kernel bias?use_bias"),
    **dict.fromkeys(
        ["SeparableConv1D", "SeparableConv2D"], "depthwise_kernel pointwise_kernel bias?use_bias"
    ),
    **dict.fromkeys(
        ["BatchNormalization", "SyncBatchNormalization", "SampleNormalization"],
        "gamma?scale beta?center | moving_mean moving_variance",
    ),
    **dict.fromkeys(["GroupNormalization", "LayerNormalization"], "gamma?scale beta?center"),
    "Highway": "kernel carry_kernel bias?use_bias carry_bias?use_bias",
    "LayerScale": "gamma",
    "MultiHeadAttention": "query/kernel query/bias?use_bias key/kernel key/bias?use_bias "
    "value/kernel value/bias?use_bias attention_output/kernel attention_output/bias?use_bias",
    "Normalization": "| mean?adapted variance?adapted count?adapted",
    "ParametricSoftplus": "alpha beta",
    "PReLU": "alpha",
    "RMSNormalization": "scale",
    "SReLU": "t_left a_left t_right a_right",
}
# Active in training alone, where they draw random numbers. FixedDropout: the efficientnet package.
RANDOM_LAYERS = words(
    "AlphaDropout AugMix CutMix Dropout FixedDropout GaussianDropout GaussianNoise MixUp "
    "RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast "
    "RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale "
    "RandomHeight RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation "
    "RandomSaturation RandomSharpness RandomShear RandomTranslation RandomWidth RandomZoom "
    "SpatialDropout1D SpatialDropout2D SpatialDropout3D StochasticDepth"
)
MODELS = {"Functional", "Model", "Sequential"}

# Custom objects of well-known architectures, stored under their own name but with a fixed meaning:
# LayerScale and StochasticDepth of keras.applications.convnext.
KNOWN_CUSTOM = {"FixedDropout", "LayerScale", "StochasticDepth"}

ACTIVATIONS = words(
    "celu elu exponential gelu hard_shrink hard_sigmoid hard_sigmoid_keras3 hard_swish hard_tanh "
    "leaky_relu linear log_sigmoid log_softmax mish relu relu6 selu sigmoid soft_shrink softmax "
    "softplus softsign squareplus swish tanh tanh_shrink"
)
ACTIVATION_LAYERS = {"ELU", "LeakyReLU", "ReLU", "Softmax", "ThresholdedReLU"}
ACTIVATION_ALIASES = {"hard_silu": "hard_swish", "silu": "swish"}

# What an Operation may compute: functions of TensorFlow that are arithmetic on arrays, by their
# name in the module tf ("getitem": slicing). A TFOpLambda layer can name any function at all.
OPERATIONS = words(
    "cast clip_by_value compat.v1.floor_div compat.v1.pad compat.v1.shape compat.v1.squeeze "
    "compat.v1.transpose concat convert_to_tensor expand_dims gather getitem identity "
    "image.central_crop image.flip_left_right image.flip_up_down image.grayscale_to_rgb "
    "image.per_image_standardization image.resize image.resize_with_crop_or_pad "
    "image.rgb_to_grayscale linalg.l2_normalize linalg.matmul math.abs math.add math.add_n "
    "math.ceil math.cos math.divide math.divide_no_nan math.equal math.erf math.exp math.expm1 "
    "math.floor math.floordiv math.floormod math.greater math.greater_equal math.l2_normalize "
    "math.less math.less_equal math.log math.log1p math.log_sigmoid math.logical_and "
    "math.logical_not math.logical_or math.maximum math.minimum math.multiply "
    "math.multiply_no_nan math.negative math.not_equal math.pow math.reciprocal "
    "math.reduce_euclidean_norm math.reduce_logsumexp math.reduce_max math.reduce_mean "
    "math.reduce_min math.reduce_prod math.reduce_std math.reduce_sum math.reduce_variance "
    "math.round math.rsqrt math.sigmoid math.sign math.sin math.softplus math.sqrt math.square "
    "math.squared_difference math.subtract math.tanh math.truediv nn.avg_pool nn.avg_pool2d "
    "nn.bias_add nn.depth_to_space nn.elu nn.gelu nn.l2_normalize nn.leaky_relu "
    "nn.local_response_normalization nn.log_softmax nn.max_pool nn.max_pool2d nn.moments nn.relu "
    "nn.relu6 nn.selu nn.sigmoid nn.silu nn.softmax nn.softplus nn.softsign nn.space_to_depth "
    "nn.swish nn.tanh ones_like pad reshape reverse roll shape slice split squeeze stack "
    "stop_gradient tensordot tile transpose unstack where zeros_like"
)
OPERATORS = {
    "__operators__.add": "math.add",
    "__operators__.getitem": "getitem",
}
# Operations of Keras 3 (keras.ops on the tensors of a model): the same function of TensorFlow, and
# what it calls the arguments. An argument not named here must have one of the plain values.
_PLAIN_VALUES = (None, False, "channels_last", "constant")
_REDUCTION = {"axis": "axis", "keepdims": "keepdims"}
_POOLING = {"pool_size": "ksize", "strides": "strides", "padding": "padding"}
KERAS3_OPERATIONS: dict[str, tuple[str, dict[str, str]]] = {
    "Absolute": ("math.abs", {}),
    "Add": ("math.add", {}),
    "AveragePool": ("nn.avg_pool2d", _POOLING),
    "Cast": ("cast", {"dtype": "dtype"}),
    "Clip": ("clip_by_value", {"x_min": "clip_value_min", "x_max": "clip_value_max"}),
    "Concatenate": ("concat", {"axis": "axis"}),
    "Divide": ("math.divide", {}),
    "Exp": ("math.exp", {}),
    "ExpandDims": ("expand_dims", {"axis": "axis"}),
    "Flip": ("reverse", {"axis": "axis"}),
    "Gelu": ("nn.gelu", {"approximate": "approximate"}),
    "GetItem": ("getitem", {}),
    "Greater": ("math.greater", {}),
    "LeakyRelu": ("nn.leaky_relu", {"negative_slope": "alpha"}),
    "Log": ("math.log", {}),
    "Log1p": ("math.log1p", {}),
    "LogSoftmax": ("nn.log_softmax", {"axis": "axis"}),
    "Logsumexp": ("math.reduce_logsumexp", _REDUCTION),
    "Matmul": ("linalg.matmul", {}),
    "Max": ("math.reduce_max", _REDUCTION),
    "MaxPool": ("nn.max_pool2d", _POOLING),
    "Maximum": ("math.maximum", {}),
    "Mean": ("math.reduce_mean", _REDUCTION),
    "Min": ("math.reduce_min", _REDUCTION),
    "Minimum": ("math.minimum", {}),
    "Multiply": ("math.multiply", {}),
    "Negative": ("math.negative", {}),
    "Pad": ("pad", {"pad_width": "paddings"}),
    "Power": ("math.pow", {}),
    "Reciprocal": ("math.reciprocal", {}),
    "Relu": ("nn.relu", {}),
    "Relu6": ("nn.relu6", {}),
    "Reshape": ("reshape", {"newshape": "shape"}),
    "Resize": (
        "image.resize",
        {"size": "size", "interpolation": "method", "antialias": "antialias"},
    ),
    "Rsqrt": ("math.rsqrt", {}),
    "Selu": ("nn.selu", {}),
    "Sigmoid": ("math.sigmoid", {}),
    "Silu": ("nn.silu", {}),
    "Softmax": ("nn.softmax", {"axis": "axis"}),
    "Softplus": ("math.softplus", {}),
    "Softsign": ("nn.softsign", {}),
    "Split": ("split", {"indices_or_sections": "num_or_size_splits", "axis": "axis"}),
    "Sqrt": ("math.sqrt", {}),
    "Square": ("math.square", {}),
    "Squeeze": ("squeeze", {"axis": "axis"}),
    "Stack": ("stack", {"axis": "axis"}),
    "Std": ("math.reduce_std", _REDUCTION),
    "Subtract": ("math.subtract", {}),
    "Sum": ("math.reduce_sum", _REDUCTION),
    "Tanh": ("math.tanh", {}),
    "Transpose": ("transpose", {"axes": "perm"}),
    "TrueDivide": ("math.truediv", {}),
    "Unstack": ("unstack", {"num": "num", "axis": "axis"}),
    "Var": ("math.reduce_variance", _REDUCTION),
    "Where": ("where", {}),
}
KERAS3_ACTIVATIONS = {"HardSigmoid": "hard_sigmoid_keras3", "HardSilu": "hard_swish"}
# Nodes of TensorFlow's graph, as tf.keras of TensorFlow 2.0 to 2.3 stored an operation.
GRAPH_OPERATIONS = {
    "Add": "math.add",
    "AddV2": "math.add",
    "BiasAdd": "nn.bias_add",
    "ConcatV2": "concat",
    "Exp": "math.exp",
    "ExpandDims": "expand_dims",
    "Max": "math.reduce_max",
    "Maximum": "math.maximum",
    "Mean": "math.reduce_mean",
    "Minimum": "math.minimum",
    "Mul": "math.multiply",
    "Neg": "math.negative",
    "Pow": "math.pow",
    "RealDiv": "math.truediv",
    "Relu": "nn.relu",
    "Relu6": "nn.relu6",
    "Reshape": "reshape",
    "Rsqrt": "math.rsqrt",
    "Sigmoid": "math.sigmoid",
    "Softmax": "nn.softmax",
    "Sqrt": "math.sqrt",
    "Square": "math.square",
    "Sub": "math.subtract",
    "Sum": "math.reduce_sum",
    "Tanh": "math.tanh",
    "Transpose": "transpose",
}

KERAS1_LAYERS = {
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "Deconvolution2D": "Conv2DTranspose",
    "SeparableConvolution2D": "SeparableConv2D",
}
KERAS1_ARGUMENTS = {
    "atrous_rate": "dilation_rate",
    "bias": "use_bias",
    "border_mode": "padding",
    "concat_axis": "axis",
    "dim_ordering": "data_format",
    "length": "size",
    "nb_filter": "filters",
    "output_dim": "units",
    "pool_length": "pool_size",
    "stride": "strides",
    "subsample": "strides",
    "subsample_length": "strides",
}
KERAS1_MERGES = {
    "ave": "Average",
    "concat": "Concatenate",
    "max": "Maximum",
    "mul": "Multiply",
    "sum": "Add",
}
# Arguments that change what a layer computes in a way that has no formula here.
UNSUPPORTED = {
    "lora_rank": None,
    "pad_to_aspect_ratio": False,
    "quantization_config": None,
    "rms_scaling": False,
    "sliding_window": None,
    "use_gate": False,
}


@dataclass
class Layer:
    """A layer in the form that all eras share.

    Attributes:
        kind: the name of its class in Keras 2, "Network" for a model inside the model.
        config: its arguments as Keras 2 has them, changed as `_mend` says.
        trainable: False for a frozen layer, which changes the order of the weights in a file.
        places: role of a weight (see LAYER_WEIGHTS) -> where in the file the array lies.
        network: the model inside, or the layer inside of a TimeDistributed.
    """

    kind: str
    name: str
    config: dict[str, Any]
    trainable: bool = True
    places: dict[str, str] = field(default_factory=dict)
    network: Network | None = None

    def __str__(self) -> str:
        return f"layer '{self.name}' ({self.kind})"


@dataclass(frozen=True)
class Tensor:
    """Names result number `output` of call number `call` to the layer `layer`."""

    layer: str
    call: int
    output: int


@dataclass
class Call:
    """One use of a layer; its results are the Tensors (`name`, `number`, 0), (..., 1), ...

    Tensors stand in `args` and `kwargs`, among lists and plain values.
    """

    layer: Layer
    name: str
    number: int
    args: list[Any]
    kwargs: dict[str, Any]


@dataclass
class Network:
    """A model: its calls in the order of computing, the Tensors it starts and ends with.

    `shapes` are the declared shapes of its inputs, batch axis included.
    """

    layers: list[Layer]
    calls: list[Call]
    inputs: list[Tensor]
    outputs: list[Tensor]
    shapes: list[list[int | None] | None]
    trainable: bool = True


@dataclass(frozen=True)
class Era:
    """What wrote a file: `keras` is 1, 2 or 3; `data_format` that of its first layer with one."""

    keras: int
    version: str
    backend: str
    data_format: str

    @property
    def is_package(self) -> bool:
        """True for the keras package before it became tf.keras (2.4): on TensorFlow 1 or Theano."""
        return self.keras == 1 or re.fullmatch(r"2\.[0-3]\.\d+", self.version) is not None


@dataclass(frozen=True)
class OpenedModel:
    """A model file that was checked and understood, not yet computed.

    Attributes:
        input_size: (rows, columns) that the model fixes, None where it takes any.
        outputs: the number of outputs where the configuration tells it, else None.
        is_logit: whether the last layer is linear, so that the outputs are no probabilities.
        warnings: sentences for the log.
        description: for the log, such as "Keras 1.2.2, theano, channels_first".
    """

    path: Path
    input_size: tuple[int | None, int | None]
    outputs: int | None
    is_logit: bool
    warnings: tuple[str, ...]
    description: str
    network: Network
    era: Era
    channels_first: bool

    def build(self) -> Callable[..., Any]:
        """Import TensorFlow, read the weights, and give the model as a function.

        Returns:
            `model(x, training=False)` with x (N, rows, columns, 3) float32, channels last, bands in
            the order of the training: a tensor (N, outputs) float32. `training` has no effect. The
            function may be called in a tf.function. It has `output_shape`, (None, outputs), and
            `input_shape`, (None, rows, columns, 3).

        Raises:
            ModelError: the weights do not fit the layers, or the output is not (N, classes).
        """
        from layer_arithmetic import Model

        with naming(self.path), open_checked(self.path) as file:
            return Model(
                self.network,
                self.input_size,
                self.channels_first,
                lambda layer, role: _read_weight(file, self.era, layer, role),
            )


def open_model(path: Path, trained_with: str = "tensorflow") -> OpenedModel:
    """Check a model file and read its configuration. Needs neither TensorFlow nor Keras.

    Args:
        path: an HDF5 file of Keras 1 to 3 (.h5, .hdf5), or a .keras archive.
        trained_with: "tensorflow" or "theano". It counts for files of Keras 1 alone; later ones
            record what they were trained with.

    Raises:
        ModelError: the file is damaged, unsafe or no whole model, or cannot be computed.
    """
    with naming(path), open_checked(path) as file:
        document, version, backend = read_document(path, file)
        generation = int(version[0]) if version[0] in "23" else 1
        era = Era(generation, version, backend or trained_with, _data_format(document))
        top = _read_layer(document, era)
        if top.network is None:
            raise ModelError(f"it holds a single {top}, no model: save the whole model")
        _count_calls(top.network, 0)
        input_size, channels_first = _check_ends(top.network, era)
        if zipfile.is_zipfile(path):
            # TensorFlow 2.12 has the longer name
            root = next(r for r in ("_layer_checkpoint_dependencies", "layers") if r in file)
            _place_archived(top.network.layers, root, file)
        else:
            _place_weights(top.network, era, file)
        data_format = "channels_first" if channels_first else "channels_last"
        return OpenedModel(
            path=path,
            input_size=input_size,
            outputs=_count_outputs(top.network),
            is_logit=_ends_linear(top.network),
            warnings=_compare_backend(file, era) if generation == 1 else (),
            description=f"Keras {version}, {era.backend}, {data_format}",
            network=top.network,
            era=era,
            channels_first=channels_first,
        )


def _data_format(document: Any) -> str:
    """The data format that the first layer to name one names; in Keras 1 not every layer does."""
    pattern = r'"(?:dim_ordering|data_format)": "(th|tf|channels_first|channels_last)"'
    found = re.search(pattern, json.dumps(document))
    return "channels_first" if found and found[1] in ("th", "channels_first") else "channels_last"


def _compare_backend(file: h5py.File, era: Era) -> tuple[str, ...]:
    """Keras 1 named weights "conv_W:0" on TensorFlow and "conv_W" on Theano."""
    found = [
        name for group in file["model_weights"].values() for name in names(group, "weight_names")
    ]
    looks = "tensorflow" if any(name.endswith(":0") for name in found) else "theano"
    if not found or looks == era.backend:
        return ()
    warning = (
        f"this Keras {era.version} model is taken as trained with {era.backend}, as the task says, "
        f"but the names of its weights look like {looks}: if so, use the task for {looks}"
    )
    return (warning,)


# Configurations: from the form of each era into the common one.


def _read_layer(entry: dict[str, Any], era: Era) -> Layer:
    """The layer or model of an entry {"class_name": ..., "config": ..., maybe "name": ...}."""
    kind, config = entry["class_name"], entry["config"]
    if kind in MODELS and (isinstance(config, list) or "layers" in config):
        network = (
            _read_sequential(config, era) if kind == "Sequential" else _read_graph(config, era)
        )
        name = entry.get("name") or (config.get("name", "") if isinstance(config, dict) else "")
        return Layer("Network", name, {"class_name": kind}, network.trainable, network=network)
    name = entry.get("name") or config.get("name", "")
    layer = Layer(kind, name, dict(config), config.get("trainable", True))
    custom = entry.get("registered_name") or kind
    _mend(layer, era, known=custom in (kind, f"keras>{kind}", f"Keras>{kind}"))
    if layer.kind == "TimeDistributed":
        inner = _read_layer(config["layer"], era)
        start, end = Tensor("", 0, 0), Tensor("inner", 0, 0)
        layer.network = Network(
            [inner], [Call(inner, "inner", 0, [start], {})], [start], [end], [None]
        )
    return layer


def _read_sequential(config: dict[str, Any] | list[Any], era: Era) -> Network:
    """A Sequential: a chain of layers; up to Keras 2.2.2 its configuration is a plain list."""
    entries = config if isinstance(config, list) else config["layers"]
    layers = [_read_layer(entry, era) for entry in entries]
    first = layers[0]
    shape = first.network.shapes[0] if first.network else _declared_shape(first.config)
    if shape is None and isinstance(config, dict):
        shape = config.get("build_input_shape")
    start = last = Tensor("", 0, 0)
    calls = []
    for number, layer in enumerate(layers):
        if layer.kind != "InputLayer":
            calls.append(Call(layer, str(number), 0, [last], {}))
            last = Tensor(str(number), 0, 0)
    trainable = config.get("trainable", True) if isinstance(config, dict) else True
    return Network(layers, calls, [start], [last], [shape], trainable)


def _read_graph(config: dict[str, Any], era: Era) -> Network:
    """A functional model: layers that say which tensors they were called on."""
    layers, pending, shapes = {}, [], {}
    for entry in config["layers"]:
        layer = _read_layer(entry, era)
        layers[layer.name] = layer
        if layer.kind == "InputLayer":
            shapes[layer.name] = _declared_shape(layer.config)
        for number, node in enumerate(entry["inbound_nodes"]):
            pending.append(Call(layer, layer.name, number, *_read_node(node, layer)))
    inputs, outputs = (
        [Tensor(*end) for end in ([ends] if isinstance(ends[0], str) else ends)]
        for ends in (config["input_layers"], config["output_layers"])
    )
    _renumber_calls(pending, outputs)
    calls = _order_calls(pending, inputs)
    for call in calls:
        _check_call(call, era)
    return Network(
        list(layers.values()),
        calls,
        inputs,
        outputs,
        [shapes.get(start.layer) for start in inputs],
        config.get("trainable", True),
    )


def _declared_shape(config: dict[str, Any]) -> list[int | None] | None:
    return config.get("batch_input_shape") or config.get("batch_shape")


def _read_node(node: Any, layer: Layer) -> tuple[list[Any], dict[str, Any]]:
    """The args and kwargs of one call.

    Keras 3: {"args": [...], "kwargs": {...}}. Before: [[layer, call, output, kwargs], ...] with a
    list for each tensor of the first argument, or that list alone for an operation of tf.keras.
    """
    if isinstance(node, dict):
        return _plain(node["args"]), _plain(node["kwargs"])
    starts = [node] if isinstance(node[0], str) else node
    kwargs = _with_tensors(starts[0][3]) if len(starts[0]) > 3 else {}
    values = [start[2] if start[0] == "_CONSTANT_VALUE" else Tensor(*start[:3]) for start in starts]
    alone = len(values) == 1 and layer.config.get("function") not in ("concat", "stack")
    return [values[0] if alone else values], kwargs


def _with_tensors(value: Any) -> Any:
    """Plain values in which tf.keras wrote a tensor as [layer, call, output]."""
    if isinstance(value, list):
        if len(value) in (3, 4) and isinstance(value[0], str) and isinstance(value[1], int):
            return Tensor(*value[:3])
        return [_with_tensors(item) for item in value]
    if isinstance(value, dict) and "class_name" not in value and not value.keys() >= {"start"}:
        return {key: _with_tensors(item) for key, item in value.items()}
    return _plain(value)


def _plain(value: Any) -> Any:
    """Plain values from the forms in which JSON holds them: tensors, slices, arrays, tuples."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind, config = value.get("class_name"), value.get("config")
    if kind == "__keras_tensor__":
        return Tensor(*config["keras_history"])
    if kind == "__ellipsis__":
        return Ellipsis
    if kind == "__slice__":
        return slice(*(_plain(config[key]) for key in ("start", "stop", "step")))
    if kind in ("__numpy__", "__tensor__"):
        return config["value"]
    if kind == "__tuple__":
        return _plain(value["items"])
    if value.keys() == {"start", "stop", "step"}:
        return slice(*(_with_tensors(value[key]) for key in ("start", "stop", "step")))
    return {key: _plain(item) for key, item in value.items()}


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All Tensors among the arguments of a call."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(item)
    elif isinstance(value, slice):
        yield from tensors_in([value.start, value.stop, value.step])


def _renumber_calls(calls: list[Call], outputs: list[Tensor]) -> None:
    """Give each call the number by which others refer to its results.

    A file lists the calls of a layer from 0, but refers to them by a number that also counts calls
    outside of this model (a nested model was called once when it was made). The order is the same.
    """
    wanted: dict[str, set[int]] = {}
    for tensor in [*outputs, *tensors_in([[call.args, call.kwargs] for call in calls])]:
        wanted.setdefault(tensor.layer, set()).add(tensor.call)
    made: dict[str, list[Call]] = {}
    for call in calls:
        made.setdefault(call.name, []).append(call)
    for name, numbers in wanted.items():
        if len(numbers) == len(made.get(name, [])):
            for call, number in zip(made[name], sorted(numbers), strict=True):
                call.number = number


def _order_calls(pending: list[Call], inputs: list[Tensor]) -> list[Call]:
    """The calls in an order in which each comes after those whose results it needs."""
    done = {(start.layer, start.call) for start in inputs}
    ordered: list[Call] = []
    while pending:
        waiting = []
        for call in pending:
            needs = {(tensor.layer, tensor.call) for tensor in tensors_in([call.args, call.kwargs])}
            if needs <= done:
                done.add((call.name, call.number))
                ordered.append(call)
            else:
                waiting.append(call)
        if len(waiting) == len(pending):
            raise ModelError(f"{waiting[0].layer} is called on something that the file lacks")
        pending = waiting
    return ordered


def _check_call(call: Call, era: Era) -> None:
    """Settle the arguments of a call other than its tensors.

    The `predict` of Keras 3 sets `training` to False whatever the file says.
    """
    layer, kwargs = call.layer, call.kwargs
    if kwargs.pop("training", None) and era.keras < 3 and _acts_in_training(layer):
        raise ModelError(
            f"{layer} is called with training=True, so a result would depend on chance or on "
            "the other chips of its batch: call it without and save the model again"
        )
    if layer.kind == "Operation":
        call.kwargs = {k: v for k, v in kwargs.items() if k != "name" and v is not None}
        return
    if layer.kind == "MultiHeadAttention":
        call.args += [kwargs.pop(key) for key in ("value", "key") if key in kwargs]
    for key, value in kwargs.items():
        if value not in (None, False):
            raise ModelError(f"{layer} is called with '{key}', which cannot be computed: {RESAVE}")
    kwargs.clear()


def _acts_in_training(layer: Layer) -> bool:
    if layer.network:
        return any(_acts_in_training(inner) for inner in layer.network.layers)
    return layer.config.get("random", False) or "moving_mean" in LAYER_WEIGHTS[layer.kind]


def _count_calls(network: Network, count: int) -> int:
    """Refuse a small file whose nested models multiply to more calls than any model has."""
    for call in network.calls:
        count = _count_calls(call.layer.network, count) if call.layer.network else count + 1
        if count > MAX_CALLS:
            raise ModelError(f"it computes more than {MAX_CALLS} layers: {RESAVE}")
    return count


def _mend(layer: Layer, era: Era, known: bool) -> None:
    """Settle what kind and arguments of a layer meant in its era.

    Other than in Keras 2, then: `padding` may be "theano_same", `interpolation` "bilinear_corner",
    `activation` "hard_sigmoid_keras3"; every layer has `data_format`, except for Flatten, where it
    is missing if Keras did not move the channels; `random` marks what acts in training alone.
    """
    config = layer.config
    if layer.kind == "Lambda":
        raise ModelError(f"{layer} runs Python code from the file, which is never done: {RESAVE}")
    if era.keras == 1:
        _mend_keras1(layer, era)
    layer.kind = re.sub(r"(?<=Normalization)V[12]$", "", layer.kind)  # tf.keras on TensorFlow 1
    if layer.kind in RANDOM_LAYERS and (known or layer.kind in KNOWN_CUSTOM):
        layer.kind = "Activation"
        layer.config = {"activation": "linear", "random": True}
        return
    if layer.kind in ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer") or (
        era.keras == 3
        and layer.kind in {*KERAS3_OPERATIONS, *KERAS3_ACTIVATIONS}
        and "trainable" not in config
    ):
        _mend_operation(layer)
        return
    if layer.kind not in LAYER_WEIGHTS or not (known or layer.kind in KNOWN_CUSTOM):
        raise ModelError(f"{layer} is a custom layer, or none that can be computed here: {RESAVE}")
    for key, default in UNSUPPORTED.items():
        if config.get(key, default) != default:
            raise ModelError(f"{layer} has '{key}', which cannot be computed here: {RESAVE}")
    for key in list(config):
        if key.endswith(("_initializer", "_regularizer", "_constraint")):
            del config[key]  # used in training alone
        elif key != "activation":
            config[key] = _plain(config[key])
    if "activation" in config:
        config["activation"] = _mend_activation(config["activation"], layer, era)
    if layer.kind != "Flatten":
        config["data_format"] = config.get("data_format") or era.data_format
    if layer.kind == "Normalization":
        config["adapted"] = config.get("mean") is None
    if era.backend == "theano" and config.get("padding") == "same":
        config["padding"] = "theano_same"
    if config.get("interpolation") == "bilinear" and era.is_package:
        # keras.backend.resize_images used tf.image.resize_bilinear of TensorFlow 1
        config["interpolation"] = "bilinear_corner"


def _mend_keras1(layer: Layer, era: Era) -> None:
    """Names and arguments of Keras 1 -> those of Keras 2."""
    config = layer.config
    for old, new in KERAS1_ARGUMENTS.items():
        if old in config:
            config[new] = config.pop(old)
    if config.get("data_format") in ("th", "tf"):
        config["data_format"] = "channels_" + {"th": "first", "tf": "last"}[config["data_format"]]
    if "nb_row" in config:
        config["kernel_size"] = [config["nb_row"], config["nb_col"]]
    if layer.kind == "Merge":
        if config["mode_type"] != "raw" or config["mode"] not in KERAS1_MERGES:
            raise ModelError(f"{layer} merges by '{config['mode']}', not computed here: {RESAVE}")
        layer.kind = KERAS1_MERGES[config["mode"]]
    if layer.kind == "BatchNormalization" and config.get("mode", 0) != 0:
        if config["mode"] == 2:
            raise ModelError(
                f"{layer} has mode=2, statistics over the batch, so a result would depend on "
                "the other chips: train the model with mode=0"
            )
        layer.kind = "SampleNormalization"
    layer.kind = KERAS1_LAYERS.get(layer.kind, layer.kind)


def _mend_operation(layer: Layer) -> None:
    """Operations of tf.keras and of Keras 3 -> an Operation that names a function of TensorFlow.

    `function` is then one of OPERATIONS, `arguments` are those known beforehand, `constants` those
    by their place among the tensors, or None where the call has all in their places.
    """
    config, kind = layer.config, layer.kind
    arguments, constants = {}, None
    if kind in KERAS3_ACTIVATIONS:
        layer.kind, layer.config = "Activation", {"activation": KERAS3_ACTIVATIONS[kind]}
        return
    if kind in KERAS3_OPERATIONS:
        function, renamed = KERAS3_OPERATIONS[kind]
        for key, value in config.items():
            if key in renamed:
                arguments[renamed[key]] = _plain(value)
            elif key not in ("name", "dtype") and value not in _PLAIN_VALUES:
                raise ModelError(f"{layer} has '{key}', which cannot be computed here: {RESAVE}")
        if "padding" in arguments:
            arguments["padding"] = arguments["padding"].upper()
        if "shape" in arguments:
            arguments["shape"] = [-1 if size is None else size for size in arguments["shape"]]
        if function == "reverse" and isinstance(arguments["axis"], int):
            arguments["axis"] = [arguments["axis"]]
    elif kind == "TensorFlowOpLayer":
        node = config["node_def"]
        node = json.loads(node) if isinstance(node, str) else node
        function = GRAPH_OPERATIONS.get(node["op"], f"raw_ops.{node['op']}")
        if "keep_dims" in node.get("attr", {}):
            arguments["keepdims"] = node["attr"]["keep_dims"].get("b", False)
        constants = {int(place): value for place, value in config["constants"].items()}
    else:
        function = OPERATORS.get(config["function"], config["function"])
    if function not in OPERATIONS:
        raise ModelError(
            f"{layer} calls the function '{function}' of TensorFlow, which is not known to be mere "
            f"arithmetic, and is never called from a file: {RESAVE}"
        )
    layer.kind = "Operation"
    layer.config = {"function": function, "arguments": arguments, "constants": constants}


def _mend_activation(value: Any, layer: Layer, era: Era) -> str | Layer:
    """The name of an activation, or the Layer that stands for it (a LeakyReLU with a slope)."""
    if isinstance(value, dict) and value.get("class_name") in ACTIVATION_LAYERS:
        return _read_layer(value, era)
    if isinstance(value, dict):
        name = value.get("class_name", "Python code")
        value = value["config"] if name == "function" else name
    if value is None:
        return "linear"
    name = ACTIVATION_ALIASES.get(value, value)
    if name == "hard_sigmoid" and era.keras == 3:
        name = "hard_sigmoid_keras3"
    # A user's own gelu of the years before tf.keras had one may be exact or approximate.
    if name not in ACTIVATIONS or (name == "gelu" and era.is_package):
        raise ModelError(f"{layer} has the custom activation '{value}': {RESAVE}")
    return name


# Weights: which array of the file belongs to which layer.


def _roles(layer: Layer) -> dict[str, bool]:
    """The weights of a layer by role, in the order in which Keras makes them: trainable or not."""
    roles = {}
    trainable = True
    for word in LAYER_WEIGHTS[layer.kind].split():
        role, _, condition = word.partition("?")
        if role == "|":
            trainable = False
        elif not condition or layer.config.get(condition, True):
            roles[role] = trainable
    return roles


def _slots(layer: Layer, keras: int) -> tuple[list[tuple[Layer, str]], list[tuple[Layer, str]]]:
    """The (layer, role) of all weights in a layer or model, in the order of the file.

    Returns:
        The trainable ones, and those that are not; a file has them in this order. In a frozen
        layer none is trainable. Keras 3 keeps the weights of a frozen model layer by layer.
    """
    if layer.network:
        parts = [_slots(inner, keras) for inner in layer.network.layers]
        if keras == 3 and not layer.trainable:
            return [], [slot for part in parts for slot in part[0] + part[1]]
        trainable, fixed = ([slot for part in parts for slot in part[i]] for i in (0, 1))
    else:
        roles = _roles(layer)
        trainable, fixed = ([(layer, r) for r in roles if roles[r] is t] for t in (True, False))
    return (trainable, fixed) if layer.trainable else ([], trainable + fixed)


def _place_weights(network: Network, era: Era, file: h5py.File) -> None:
    """Fill `Layer.places` from model_weights, which has one group for each layer of the model."""
    root = file["model_weights"]
    known = {layer.name for layer in network.layers}
    # a nested Sequential of Keras 1 has no name of its own, but the groups are in order
    spare = (name for name in names(root, "layer_names") if name not in known)
    for layer in network.layers:
        layer.name = layer.name or next(spare)
        slots = [slot for part in _slots(layer, era.keras) for slot in part]
        if not slots:
            continue
        if layer.name not in root:
            raise ModelError(f"the file has no weights for {layer}: save the whole model again")
        stored = names(root[layer.name], "weight_names")
        if len(stored) != len(slots):
            raise ModelError(
                f"{layer} needs {len(slots)} arrays of weights, the file has {len(stored)}: "
                "save the model again"
            )
        for (owner, role), name in zip(slots, _sort_names(stored, slots), strict=True):
            _place(owner, role, f"model_weights/{layer.name}/{name}", file)


def _sort_names(stored: list[str], slots: list[tuple[Layer, str]]) -> list[str]:
    """The names in the order of the slots: by their words where these tell, else as they stand.

    Keras 2 and 3 end a name with "layer/role:0", so that no rule about frozen layers is needed.
    """
    ends: dict[str, list[str]] = {}
    for name in stored:
        words = name.split(":")[0].split("/")
        for start in range(len(words) - 1):
            ends.setdefault("/".join(words[start:]), []).append(name)
    found = [ends.get(f"{owner.name}/{role}", []) for owner, role in slots]
    if all(len(fitting) == 1 for fitting in found) and len({f[0] for f in found}) == len(stored):
        return [fitting[0] for fitting in found]
    roles = {role.rsplit("/")[-1] for _, role in slots}
    for name, (owner, role) in zip(stored, slots, strict=True):
        word = name.rsplit("/")[-1].split(":")[0]
        if word in roles and not role.endswith(word):
            raise ModelError(f"{owner} has its weight '{name}' where '{role}' belongs")
    return stored


def _place_archived(layers: list[Layer], root: str, file: h5py.File) -> None:
    """Fill `Layer.places` in a .keras archive, where a layer has the name of its class, counted."""
    counts: dict[str, int] = {}
    for layer in layers:
        word = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", layer.config.get("class_name", layer.kind))
        word = re.sub(r"([a-z])([A-Z])", r"\1_\2", word).lower()
        count = counts[word] = counts.get(word, -1) + 1
        _place_archived_layer(layer, f"{root}/{word}_{count}" if count else f"{root}/{word}", file)


def _place_archived_layer(layer: Layer, place: str, file: h5py.File) -> None:
    if layer.kind == "TimeDistributed":
        _place_archived_layer(layer.network.layers[0], f"{place}/layer", file)
    elif layer.network:
        _place_archived(layer.network.layers, f"{place}/layers", file)
    numbers: dict[str, int] = {}
    for role in [] if layer.network else _roles(layer):
        part = f"/{role.split('/')[0].removeprefix('attention_')}_dense" if "/" in role else ""
        if part and f"{place}/_{part[1:]}" in file:  # tf_keras
            part = f"/_{part[1:]}"
        number = numbers[part] = numbers.get(part, -1) + 1
        _place(layer, role, f"{place}{part}/vars/{number}", file)


def _place(layer: Layer, role: str, place: str, file: h5py.File) -> None:
    """Note where a weight lies, after a look at its shape."""
    if place not in file or not hasattr(file[place], "shape"):
        raise ModelError(f"the file lacks the array '{place}' of {layer}: save the model again")
    width = layer.config.get("units") or layer.config.get("filters")
    if role in ("kernel", "pointwise_kernel") and width and width not in file[place].shape:
        raise ModelError(
            f"{layer} has {width} units, but its stored kernel has the shape {file[place].shape}"
        )
    layer.places[role] = place


def _read_weight(file: h5py.File, era: Era, layer: Layer, role: str) -> np.ndarray:
    """A weight as float32 in the layout of TensorFlow: kernels (rows, columns, in, out)."""
    array = read_weight(file, layer.places[role])
    if not role.endswith("kernel") or array.ndim < 3 or layer.kind == "MaxoutDense":
        return array
    first = layer.config["data_format"] == "channels_first"
    if era.keras == 1 and layer.kind == "Conv2DTranspose":
        array = array.transpose((2, 3, 0, 1) if first else (0, 1, 3, 2))
    elif era.keras == 1 and layer.kind == "Conv1D" and array.ndim == 4:
        array = array[:, 0]
    elif era.keras == 1 and first and array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)
    elif era.keras == 1 and first and array.ndim == 5:
        array = array.transpose(2, 3, 4, 1, 0)
    if era.backend == "theano" and role == "kernel" and layer.kind.startswith("Conv"):
        array = array[tuple(slice(None, None, -1) for _ in array.shape[:-2])]
    return array


# The two ends of a model.


def _check_ends(network: Network, era: Era) -> tuple[tuple[int | None, int | None], bool]:
    """The size (rows, columns) that the model takes, and whether its channels come first.

    Raises:
        ModelError: it does not turn one image of 3 bands into one output.
    """
    if len(network.inputs) != 1:
        raise ModelError(
            f"the model has {len(network.inputs)} inputs, of the shapes "
            f"{', '.join(map(str, network.shapes))}; it must have one, a chip"
        )
    if len(network.outputs) != 1:
        units = [_count_outputs(network, tensor) for tensor in network.outputs]
        shapes = ", ".join(f"[None, {'?' if count is None else count}]" for count in units)
        raise ModelError(
            f"the model has {len(network.outputs)} outputs, of the shapes {shapes}; it must have "
            "one, with a value for each class"
        )
    shape = network.shapes[0]
    if shape is None or len(shape) != 4 or 3 not in (shape[1] or 3, shape[3] or 3):
        raise ModelError(f"the model's input has the shape {shape}, not that of 3-band images")
    if (shape[1] == 3) == (shape[3] == 3):
        channels_first = era.data_format == "channels_first"
    else:
        channels_first = shape[1] == 3
    rows, columns = shape[2:] if channels_first else shape[1:3]
    return (rows, columns), channels_first


def _count_outputs(network: Network, tensor: Tensor | None = None) -> int | None:
    """The units of the last Dense layer, if only layers that keep their number come after it.

    Before the model's first output, or before another of its Tensors.
    """
    made = {(call.name, call.number): call for call in network.calls}
    tensor = tensor or network.outputs[0]
    while call := made.get((tensor.layer, tensor.call)):
        if call.layer.network and call.layer.kind == "Network":
            return _count_outputs(call.layer.network)
        if call.layer.kind == "Dense":
            return call.layer.config["units"]
        same = call.layer.kind in {"Activation", "BatchNormalization", *ACTIVATION_LAYERS}
        if not same and call.layer.config.get("function") not in ("nn.softmax", "math.sigmoid"):
            return None
        tensor = call.args[0]
    return None


def _ends_linear(network: Network) -> bool:
    """Whether the last layer that computes anything is linear, without a sigmoid or softmax."""
    made = {(call.name, call.number): call for call in network.calls}
    tensor = network.outputs[0]
    while call := made.get((tensor.layer, tensor.call)):
        kind, activation = call.layer.kind, call.layer.config.get("activation", "linear")
        if kind == "Network":
            return _ends_linear(call.layer.network)
        if kind in {"BatchNormalization", "Conv2D", "Dense", "MaxoutDense"}:
            return activation == "linear"
        if kind not in {"Activation", "Flatten", "Reshape"} or activation != "linear":
            return False
        tensor = call.args[0]
    return False
