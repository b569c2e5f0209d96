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
in which all differences are settled; `formulas` has the formula of each layer, and `model` computes
that form with TensorFlow. What has no formula there is refused: no file can name code to be run.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_files.arguments import check_arguments
from keras_files.head import Head, check_ends, check_head, count_outputs, read_head
from keras_files.hints import find_architecture, find_scaling
from keras_files.inspect_hdf5 import most_declared
from keras_files.lambdas import convert_lambda
from keras_files.model_file import (
    Document,
    Group,
    ModelError,
    names,
    naming,
    open_checked,
    read_document,
    read_loss,
)
from keras_files.network import (
    Call,
    Era,
    Layer,
    Network,
    Tensor,
    plain,
    tensors_in,
    with_tensors,
    words,
)
from keras_files.operations import (
    ACTIVATION_ALIASES,
    ACTIVATION_LAYERS,
    ACTIVATIONS,
    ACTIVATIONS_NOT_COMPUTED,
    KERAS3_ACTIVATIONS,
    KERAS3_OPERATIONS,
    RESAVE,
    convert_operation,
)
from keras_files.pinned_file import PinnedFile
from keras_files.weights import (
    LAYER_WEIGHTS,
    check_weights,
    place_archived,
    place_weights,
    read_weight,
)

__all__ = ["ModelError", "OpenedModel", "open_model"]

# NASNetLarge has 1,041 layers; nested models that use each other twice double with each level.
MAX_CALLS = 10_000

# Active in training alone, where they draw random numbers. FixedDropout: the efficientnet package.
RANDOM_LAYERS = words(
    "AlphaDropout AugMix CutMix Dropout FixedDropout GaussianDropout GaussianNoise MixUp "
    "RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast "
    "RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale "
    "RandomHeight RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation "
    "RandomSaturation RandomSharpness RandomShear RandomTranslation RandomWidth RandomZoom "
    "SpatialDropout1D SpatialDropout2D SpatialDropout3D StochasticDepth"
)
BACKENDS = words("cntk jax mxnet numpy openvino plaidml tensorflow theano torch")
MODELS = {"Functional", "Model", "Sequential"}

# Custom objects of well-known architectures, stored under their own name but with a fixed meaning:
# LayerScale and StochasticDepth of keras.applications.convnext, CustomScaleLayer of its
# inception_resnet_v2.
KNOWN_CUSTOM = {"CustomScaleLayer", "FixedDropout", "LayerScale", "StochasticDepth"}
KNOWN_REGISTERED = {"Custom>CustomScaleLayer": "CustomScaleLayer"}  # as tf.keras writes it

# Standard layers without a formula here.
NOT_COMPUTED = words(
    "AbstractRNNCell AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D "
    "AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D AutoContrast CategoryEncoding "
    "ContrastLimitedAdaptiveHistogramEqualization ConvLSTM2DCell ConvRecurrent2D CuDNNGRU "
    "CuDNNLSTM DenseFeatures Discretization Embedding Equalization FeatureSpace FlaxLayer GRUCell "
    "GroupQueryAttention GroupedQueryAttention HashedCrossing Hashing IntegerLookup JaxLayer "
    "LSTMCell Masking MaxNumBoundingBoxes MelSpectrogram Pipeline RandomCrop ReversibleEmbedding "
    "STFTSpectrogram SimpleRNNCell Solarization SpectralNormalization StackedRNNCells "
    "StringLookup TFSMLayer TextVectorization TimeDistributedDense TorchModuleWrapper Wrapper"
)
NOT_YET = f"is a standard layer of Keras, but is not computed here yet: {RESAVE}"

# The recurrent layers that Bidirectional may hold, with the number of their states.
STATES = {"ConvLSTM1D": 2, "ConvLSTM2D": 2, "ConvLSTM3D": 2, "GRU": 1, "LSTM": 2, "SimpleRNN": 1}
STATES |= {"GateGRU": 1, "GateLSTM": 2}
BIDIRECTIONAL_MERGES = {
    "ave": "Average",
    "concat": "Concatenate",
    "mul": "Multiply",
    "sum": "Add",
    None: "",
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
    "inner_activation": "recurrent_activation",
    "length": "size",
    "nb_filter": "filters",
    "output_dim": "units",
    "pool_length": "pool_size",
    "stride": "strides",
    "subsample": "strides",
    "subsample_length": "strides",
}

KERAS1_KERNELS = (
    ("filter_length",),
    ("nb_row", "nb_col"),
    ("kernel_dim1", "kernel_dim2", "kernel_dim3"),
)

KERAS1_MERGES = {
    "ave": "Average",
    "concat": "Concatenate",
    "max": "Maximum",
    "mul": "Multiply",
    "sum": "Add",
}

ACTIVATION_KEYS = {"activation", "recurrent_activation"}

# Arguments that are whole numbers, or lists of them.
SIZES = words(
    "cropping depth_multiplier dilation_rate dims filters groups height kernel_size key_dim n "
    "nb_feature num_heads padding pool_size size strides target_shape units value_dim width"
)

DTYPE = "float32"
DTYPES = words("bfloat16 float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64")

# Arguments that change what a layer computes in a way that has no formula here.
UNSUPPORTED = {
    "causal": False,
    "lora_rank": None,
    "pad_to_aspect_ratio": False,
    "quantization_config": None,
    "rms_scaling": False,
    "sliding_window": None,
    "stateful": False,
    "time_major": False,
    "use_gate": False,
}


@dataclass(frozen=True)
class OpenedModel:
    """A model file that was checked and understood, not yet computed.

    Attributes:
        file: the file of the weights, open, and root: its arrays.
        architecture_file: the .json file, open, where that is another one.
        input_size: (rows, columns) that the model fixes, None where it takes any.
        outputs: the number of outputs where the configuration tells it, else None.
        bands: the number of bands of the images.
        head: what the outputs are.
        scaling: what scales the images within the model, before its first weights, or None.
        architecture: which one of keras.applications the model looks like, or None.
        warnings: sentences for the log.
        description: for the log, such as "Keras 1.2.2, theano, channels_first".
    """

    file: PinnedFile
    root: Group
    architecture_file: PinnedFile | None
    input_size: tuple[int | None, int | None]
    outputs: int | None
    bands: int
    head: Head
    scaling: str | None
    architecture: str | None
    warnings: tuple[str, ...]
    description: str
    network: Network
    era: Era
    channels_first: bool

    @property
    def files(self) -> list[PinnedFile]:
        """The file, and that of the architecture if it is another one."""
        return [self.file, *([self.architecture_file] if self.architecture_file else [])]

    def build(self) -> Callable[..., Any]:
        """Import TensorFlow, read the weights, and give the model as a function.

        Returns:
            `model(x, training=False)` with x (N, rows, columns, bands) float32, channels last, the
            bands in the order of the training: a tensor (N, outputs) float32; `training` is idle.
            The function may be called in a tf.function. It has `output_shape`, (None, outputs),
            and `input_shape`, (None, rows, columns, bands).

        Raises:
            ModelError: the weights do not fit the layers, or the output is not (N, classes).
        """
        from keras_files.model import Model

        room = most_declared(self.file.size)

        def read(layer: Layer, role: str) -> np.ndarray:
            nonlocal room
            array = read_weight(self.root, self.era, layer, role)
            room -= array.nbytes
            if room < 0:
                raise ModelError("its layers have far more weights than the file: save it again")
            return array

        with naming(self.file.path):
            model = Model(
                self.network,
                (*self.input_size, self.bands),
                self.channels_first,
                read,
            )
            check_head(self.head, model.output_shape[1])
            if not all(file.is_unchanged() for file in self.files):
                raise ModelError("the file was changed while it was read: run the task again")
            return model


def open_model(
    path: Path, trained_with: str = "tensorflow", beside: Sequence[Path] = ()
) -> OpenedModel:
    """Check a model file and read its configuration. Needs neither TensorFlow nor Keras.

    Args:
        path: an HDF5 file of Keras 1 to 3, or a .keras archive, whatever its name ends with.
        trained_with: "tensorflow" or "theano". It counts for files of Keras 1 alone; later ones
            record what they were trained with.
        beside: .json files. Where `path` holds weights alone, one of them must be the architecture
            that model.to_json() gave; else they are not read.

    Raises:
        ModelError: the file is damaged, unsafe or no whole model, or cannot be computed.
        OSError: the file cannot be opened.
    """
    with naming(path):
        if not path.exists():
            raise ModelError("there is no such file")
    file = PinnedFile(path)
    with naming(path):
        contents = open_checked(file)
        root = contents.root
        document = read_document(contents, beside)
        version = document.version
        if document.backend and document.backend.split(".")[0] not in BACKENDS:
            raise ModelError(
                f"it records the backend '{document.backend[:100]}', which Keras never had"
            )
        generation = int(version[0]) if version[0] in "23" else 1
        backend = document.backend or trained_with
        era = Era(generation, version, backend, _data_format(document.model))
        top = _read_layer(document.model, era)
        if top.refusal:
            raise top.refusal
        if top.network is None:
            raise ModelError(f"it holds a single {top}, no model: save the whole model")
        _count_calls(top.network, 0)
        input_size, bands, channels_first = check_ends(top.network, era)
        _raise_refusal(top.network)
        _place(document, top.network, era, root)
        head = read_head(top.network, read_loss(document.model, root))
        outputs = count_outputs(top.network)
        if outputs is not None:
            check_head(head, outputs)
        data_format = "channels_first" if channels_first else "channels_last"
        beside_it = document.architecture.path.name if document.architecture else ""
        return OpenedModel(
            file=file,
            root=root,
            architecture_file=document.architecture,
            input_size=input_size,
            outputs=outputs,
            bands=bands,
            head=head,
            scaling=find_scaling(top.network),
            architecture=find_architecture(top.network),
            warnings=_compare_backend(document.weights, era) if generation == 1 else (),
            description=f"Keras {version}, {era.backend}, {data_format}"
            + (f", architecture of {beside_it}" if beside_it else ""),
            network=top.network,
            era=era,
            channels_first=channels_first,
        )


def _place(document: Document, network: Network, era: Era, file: Group) -> None:
    """Find the weights of all layers in the file."""
    try:
        if document.is_archive:
            place_archived(network.layers, document.weights.name, file)
        else:
            place_weights(network, era, document.weights, file)
        check_weights(network, era, file)
    except ModelError as error:
        if document.architecture is None:
            raise
        name = document.architecture.path.name
        raise ModelError(f"the weights do not fit the architecture {name}: {error}") from error


def _data_format(document: Any) -> str:
    """The data format that the first layer to name one names; in Keras 1 not every layer does."""
    pattern = r'"(?:dim_ordering|data_format)": "(th|tf|channels_first|channels_last)"'
    found = re.search(pattern, json.dumps(document))
    return "channels_first" if found and found[1] in ("th", "channels_first") else "channels_last"


def _compare_backend(weights: Group, era: Era) -> tuple[str, ...]:
    """Keras 1 named weights "conv_W:0" on TensorFlow and "conv_W" on Theano."""
    found = [name for group in weights.values() for name in names(group, "weight_names")]
    looks = "tensorflow" if any(name.endswith(":0") for name in found) else "theano"
    if not found or looks == era.backend:
        return ()
    warning = (
        f"This Keras {era.version} model is taken as trained with {era.backend}, as the task says, "
        f"but the names of its weights look like {looks}: if so, use the task for {looks}."
    )
    return (warning,)


def _read_layer(entry: dict[str, Any], era: Era) -> Layer:
    """A layer as `_read_known` reads it, or one with the reason why it cannot be computed."""
    try:
        return _read_known(entry, era)
    except ModelError as error:
        return Layer("Refused", entry.get("name") or "", dict(entry["config"]), refusal=error)


def _raise_refusal(network: Network) -> None:
    """Raise what there is against the first layer that cannot be computed."""
    for layer in network.layers:
        if layer.refusal:
            raise layer.refusal
        if layer.network:
            _raise_refusal(layer.network)


def _read_known(entry: dict[str, Any], era: Era) -> Layer:
    """The layer or model of an entry {"class_name": ..., "config": ..., maybe "name": ...}."""
    kind, config = KNOWN_REGISTERED.get(entry["class_name"], entry["class_name"]), entry["config"]
    if kind in MODELS and (isinstance(config, list) or "layers" in config):
        network = (
            _read_sequential(config, era) if kind == "Sequential" else _read_graph(config, era)
        )
        name = entry.get("name") or (config.get("name", "") if isinstance(config, dict) else "")
        return Layer("Network", name, {"class_name": kind}, network.trainable, network=network)
    name = entry.get("name") or config.get("name", "")
    if kind == "Bidirectional":
        return _read_bidirectional(name, config, era)
    if kind == "RNN":
        return _read_cells(name, config, era)
    layer = Layer(kind, name, dict(config), config.get("trainable", True))
    custom = entry.get("registered_name") or kind
    _mend(layer, era, known=custom in (kind, f"keras>{kind}", f"Keras>{kind}"))
    if layer.kind == "TimeDistributed":
        inner = _read_layer(config["layer"], era)
        start, end = Tensor("", 0, 0), Tensor("inner", 0, 0)
        calls = [Call(inner, "inner", 0, [start], {})]
        _convert_lambdas(calls, era)
        layer.network = Network([inner], calls, [start], [end], [None])
    return layer


def _read_bidirectional(name: str, config: dict[str, Any], era: Era) -> Layer:
    """Two recurrent layers on one sequence, the second one backwards, as a model inside."""
    entry = config["layer"]
    own = entry["config"]
    turned = {**own, "go_backwards": not own.get("go_backwards", False)}
    entries = (entry, config.get("backward_layer") or {**entry, "config": turned})
    parts = [
        _read_known({**part, "name": f"{side}_{part['config']['name']}"}, era)
        for side, part in zip(("forward", "backward"), entries, strict=True)
    ]
    states = STATES.get(parts[0].kind)
    how = config.get("merge_mode", "concat")
    if states is None or parts[1].kind != parts[0].kind or how not in BIDIRECTIONAL_MERGES:
        raise ModelError(f"layer '{name}' (Bidirectional) of {parts[0]} {NOT_YET}")
    start = Tensor("", 0, 0)
    results = [Tensor(part.name, 0, 0) for part in parts]
    calls = [Call(part, part.name, 0, [start], {}) for part in parts]
    if own.get("return_sequences"):
        turn = {"function": "reverse", "arguments": {"axis": [1]}, "constants": None}
        calls.append(Call(Layer("Operation", "turn", turn), "turn", 0, [results[1]], {}))
        results[1] = Tensor("turn", 0, 0)
    if how is not None:
        merge = Layer(BIDIRECTIONAL_MERGES[how], "merge", {"axis": -1})
        calls.append(Call(merge, "merge", 0, [results], {}))
        results = [Tensor("merge", 0, 0)]
    if own.get("return_state"):
        results += [Tensor(part.name, 0, i + 1) for part in parts for i in range(states)]
    network = Network([call.layer for call in calls], calls, [start], results, [None])
    trainable = config.get("trainable", True)
    return Layer("Network", name, {"class_name": "Bidirectional"}, trainable, network=network)


def _read_cells(name: str, config: dict[str, Any], era: Era) -> Layer:
    """RNN of a cell that has a layer of its own: that layer."""
    cell = config["cell"]
    kind = cell["class_name"].removesuffix("Cell")
    if kind not in ("GRU", "LSTM", "SimpleRNN") or kind == cell["class_name"]:
        raise ModelError(f"layer '{name}' (RNN) of {cell['class_name']} {NOT_YET}")
    merged = {**cell["config"], **config, "name": name, "class_name": "RNN"}
    return _read_known({"class_name": kind, "config": merged, "name": name}, era)


def _read_sequential(config: dict[str, Any] | list[Any], era: Era) -> Network:
    """A Sequential: a chain of layers; up to Keras 2.2.2 its configuration is a plain list."""
    entries = config if isinstance(config, list) else config["layers"]
    layers = [_read_layer(entry, era) for entry in entries]
    first = layers[0]
    shape = first.network.shapes[0] if first.network else _declared_shape(first.config)
    dtype = first.network.dtypes[0] if first.network else _declared_dtype(first)
    if shape is None and isinstance(config, dict):
        shape = config.get("build_input_shape")
    start = last = Tensor("", 0, 0)
    calls = []
    for number, layer in enumerate(layers):
        if layer.kind != "InputLayer":
            calls.append(Call(layer, str(number), 0, [last], {}))
            last = Tensor(str(number), 0, 0)
    _convert_lambdas(calls, era)
    trainable = config.get("trainable", True) if isinstance(config, dict) else True
    return Network(layers, calls, [start], [last], [shape], trainable, [dtype])


def _read_graph(config: dict[str, Any], era: Era) -> Network:
    """A functional model: layers that say which tensors they were called on."""
    layers, pending = {}, []
    for entry in config["layers"]:
        layer = _read_layer(entry, era)
        if layer.name in layers:
            raise ModelError(f"two layers have the name '{layer.name}': save the model again")
        layers[layer.name] = layer
        for number, node in enumerate(entry["inbound_nodes"]):
            pending.append(Call(layer, layer.name, number, *_read_node(node, layer)))
    keys, inputs = _read_ends(config["input_layers"])
    _, outputs = _read_ends(config["output_layers"])
    _renumber_calls(pending, outputs)
    calls = _order_calls(pending, inputs)
    _convert_lambdas(calls, era)
    for call in calls:
        if not call.layer.refusal:
            _check_call(call, era)
    starts = [layers[start.layer] for start in inputs]
    return Network(
        list(layers.values()),
        calls,
        inputs,
        outputs,
        [_declared_shape(start.config) for start in starts],
        config.get("trainable", True),
        [_declared_dtype(start) for start in starts],
        keys,
    )


def _read_ends(ends: Any) -> tuple[list[str], list[Tensor]]:
    """The inputs or outputs of a model, with their names, in the order of Keras."""
    if isinstance(ends, dict):
        return sorted(ends), [Tensor(*ends[key]) for key in sorted(ends)]
    tensors = [Tensor(*end) for end in ([ends] if isinstance(ends[0], str) else ends)]
    return [end.layer for end in tensors], tensors


def _declared_shape(config: dict[str, Any]) -> list[int | None] | None:
    return _whole(config.get("batch_input_shape") or config.get("batch_shape"))


def _declared_dtype(layer: Layer) -> str:
    """The type to which Keras casts the input of a model whose first layer this is."""
    dtype = layer.config.get("input_dtype") or layer.config.get("dtype") or DTYPE
    if not isinstance(dtype, str) or dtype.startswith("mixed_"):
        return DTYPE  # a policy of several types: the input is as given
    if dtype not in DTYPES:
        raise ModelError(f"{layer} has the dtype '{dtype}', which is not that of images")
    return dtype


def _whole(value: Any) -> Any:
    """Sizes that were written as 270.0 -> 270."""
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _read_node(node: Any, layer: Layer) -> tuple[list[Any], dict[str, Any]]:
    """The args and kwargs of one call.

    Keras 3: {"args": [...], "kwargs": {...}}. Before: [[layer, call, output, kwargs], ...] with a
    list for each tensor of the first argument, or that list alone for an operation of tf.keras.
    """
    if isinstance(node, dict) and node.keys() <= {"args", "kwargs"}:
        return plain(node["args"]), plain(node["kwargs"])
    if isinstance(node, dict):
        return [{key: Tensor(*start[:3]) for key, start in node.items()}], {}
    starts = [node] if isinstance(node[0], str) else node
    kwargs = with_tensors(starts[0][3]) if len(starts[0]) > 3 else {}
    values = [start[2] if start[0] == "_CONSTANT_VALUE" else Tensor(*start[:3]) for start in starts]
    alone = len(values) == 1 and layer.config.get("function") not in ("concat", "stack")
    return [values[0] if alone else values], kwargs


def _renumber_calls(calls: list[Call], outputs: list[Tensor]) -> None:
    """Return each call the number by which others refer to its results.

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
    """The calls in an order in which each comes after those whose results it needs.

    Of those that could come next, the first one of the file does.
    """
    done = {(start.layer, start.call) for start in inputs}
    waiting: dict[tuple[str, int], list[int]] = {}  # result -> the calls that need it
    missing: list[int] = []  # how many results each call still needs
    for place, call in enumerate(pending):
        tensors = tensors_in([call.args, call.kwargs])
        needs = {(tensor.layer, tensor.call) for tensor in tensors} - done
        missing.append(len(needs))
        for need in needs:
            waiting.setdefault(need, []).append(place)
    ready = [place for place, number in enumerate(missing) if not number]
    ordered: list[Call] = []
    while ready:
        call = pending[heapq.heappop(ready)]
        ordered.append(call)
        for place in waiting.pop((call.name, call.number), ()):
            missing[place] -= 1
            if not missing[place]:
                heapq.heappush(ready, place)
    if len(ordered) < len(pending):
        stuck = next(call for call, number in zip(pending, missing, strict=True) if number)
        raise ModelError(f"{stuck.layer} is called on something that the file lacks")
    return ordered


def _convert_lambdas(calls: list[Call], era: Era) -> None:
    """Translate the Lambda layers of a model, whose calls tell on how many arrays.

    One that is more than plain arithmetic gets that as its `refusal`.

    Raises:
        ModelError: one is called in two ways.
    """
    for call in calls:
        first = call.args[0] if call.args else None
        inputs = len(first) if isinstance(first, list) else None
        if call.layer.kind == "Lambda" and call.layer.refusal is None:
            try:
                convert_lambda(call.layer, inputs, era)
            except ModelError as error:
                call.layer.refusal = error
        elif (
            call.layer.config.get("class_name") == "Lambda"
            and call.layer.config["inputs"] != inputs
        ):
            raise ModelError(f"{call.layer} is called on one array and on several: {RESAVE}")


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
    if layer.kind in STATES and kwargs.get("initial_state"):
        call.args = [[*call.args, *kwargs.pop("initial_state")]]
    if layer.kind == "MultiHeadAttention":
        call.args += [kwargs.pop(key) for key in ("value", "key") if key in kwargs]
    if layer.network and call.args and isinstance(call.args[0], dict):
        call.args = [[call.args[0][key] for key in layer.network.keys]]
    for key, value in kwargs.items():
        if _is_set(value):
            raise ModelError(f"{layer} is called with '{key}', which cannot be computed: {RESAVE}")
    kwargs.clear()


def _is_set(value: Any) -> bool:
    if isinstance(value, (dict, list)):
        return any(map(_is_set, value.values() if isinstance(value, dict) else value))
    return value not in (None, False)


def _acts_in_training(layer: Layer) -> bool:
    if layer.network:
        return any(_acts_in_training(inner) for inner in layer.network.layers)
    return layer.config.get("random", False) or "moving_mean" in LAYER_WEIGHTS.get(layer.kind, "")


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
    if layer.kind == "Lambda" and known:
        return  # what it computes depends on its calls: see _convert_lambdas
    if era.keras == 1:
        _convert_keras1(layer, era)
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
        convert_operation(layer)
        return
    if known and layer.kind in NOT_COMPUTED:
        raise ModelError(f"{layer} {NOT_YET}")
    if layer.kind not in LAYER_WEIGHTS or not (known or layer.kind in KNOWN_CUSTOM):
        raise ModelError(f"{layer} is a custom layer, or none that can be computed here: {RESAVE}")
    for key, default in UNSUPPORTED.items():
        if config.get(key, default) != default:
            raise ModelError(f"{layer} has '{key}', which cannot be computed here: {RESAVE}")
    for key in list(config):
        if key.endswith(("_initializer", "_regularizer", "_constraint")):
            del config[key]  # used in training alone
        elif key not in ACTIVATION_KEYS:
            value = plain(config[key])
            config[key] = _whole(value) if key in SIZES else value
    check_arguments(layer, era)
    for key in ACTIVATION_KEYS & config.keys():
        config[key] = _convert_activation(config[key], layer, era)
    if layer.kind != "Flatten":
        config["data_format"] = config.get("data_format") or _default_format(layer, era)
    if layer.kind == "Normalization":
        config["adapted"] = config.get("mean") is None
    if era.keras == 3 and era.backend not in ("jax", "torch"):
        config["adds_by_length"] = True  # see formulas._check_bias_axis
    if layer.kind == "Attention":
        config["concat"] = config.get("score_mode") == "concat"
    if layer.kind.startswith("ConvLSTM"):
        config["recurrent_padding"] = "theano_same" if era.backend == "theano" else "same"
    if era.backend == "theano" and config.get("padding") == "same":
        config["padding"] = "theano_same"
    if config.get("interpolation") == "bilinear" and era.is_package:
        # keras.backend.resize_images used tf.image.resize_bilinear of TensorFlow 1
        config["interpolation"] = "bilinear_corner"


def _default_format(layer: Layer, era: Era) -> str:
    """The data format of a layer that names none: for some there is but one."""
    alone = layer.kind.endswith("1D") or layer.kind in ("CenterCrop", "Resizing")
    return "channels_last" if alone else era.data_format


def _convert_keras1(layer: Layer, era: Era) -> None:
    """Names and arguments of Keras 1 -> those of Keras 2."""
    config = layer.config
    for old, new in KERAS1_ARGUMENTS.items():
        if old in config:
            config[new] = config.pop(old)
    if config.get("data_format") in ("th", "tf"):
        config["data_format"] = "channels_" + {"th": "first", "tf": "last"}[config["data_format"]]
    for sizes in KERAS1_KERNELS:
        if sizes[0] in config:
            config["kernel_size"] = [config[key] for key in sizes]
    if layer.kind == "Merge":
        if config["mode_type"] != "raw" or config["mode"] not in KERAS1_MERGES:
            raise ModelError(f"{layer} merges by '{config['mode']}', not computed here: {RESAVE}")
        layer.kind = KERAS1_MERGES[config["mode"]]
    if layer.kind in ("GRU", "LSTM") and config["consume_less"] != "gpu":
        layer.kind = f"Gate{layer.kind}"
    if layer.kind == "BatchNormalization" and config.get("mode", 0) != 0:
        if config["mode"] == 2:
            raise ModelError(
                f"{layer} has mode=2, statistics over the batch, so a result would depend on "
                "the other chips: train the model with mode=0"
            )
        layer.kind = "SampleNormalization"
    layer.kind = KERAS1_LAYERS.get(layer.kind, layer.kind)


def _convert_activation(value: Any, layer: Layer, era: Era) -> str | Layer:
    """The name of an activation, or the Layer that stands for it (a LeakyReLU with a slope)."""
    if isinstance(value, dict) and value.get("class_name") in ACTIVATION_LAYERS:
        return _read_known(value, era)
    if isinstance(value, dict):
        name = value.get("class_name", "Python code")
        value = value["config"] if name == "function" else name
    if value is None:
        return "linear"
    name = ACTIVATION_ALIASES.get(value, value)
    if name in ACTIVATIONS_NOT_COMPUTED and era.keras == 3:
        raise ModelError(
            f"{layer} has the activation '{name}', which is one of Keras, but is not computed here "
            f"yet: {RESAVE}"
        )
    if name == "hard_sigmoid" and era.keras == 3:
        name = "hard_sigmoid_keras3"
    # A user's own gelu of the years before tf.keras had one may be exact or approximate.
    if name not in ACTIVATIONS or (name == "gelu" and era.is_package):
        raise ModelError(f"{layer} has the custom activation '{value}': {RESAVE}")
    return name
