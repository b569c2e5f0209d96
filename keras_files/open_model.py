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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_files.checked_file import (
    Group,
    ModelError,
    names,
    naming,
    open_checked,
    read_document,
    read_loss,
)
from keras_files.ends import Head, check_ends, check_head, count_outputs, read_head
from keras_files.hints import find_architecture, find_scaling
from keras_files.lambdas import mend_lambda
from keras_files.look import most_declared
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
    KERAS3_ACTIVATIONS,
    KERAS3_OPERATIONS,
    RESAVE,
    mend_operation,
)
from keras_files.same_file import SameFile
from keras_files.weights import LAYER_WEIGHTS, place_archived, place_weights, read_weight

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
# LayerScale and StochasticDepth of keras.applications.convnext.
KNOWN_CUSTOM = {"FixedDropout", "LayerScale", "StochasticDepth"}

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


@dataclass(frozen=True)
class OpenedModel:
    """A model file that was checked and understood, not yet computed.

    Attributes:
        file: the model file, open.
        root: its arrays.
        input_size: (rows, columns) that the model fixes, None where it takes any.
        outputs: the number of outputs where the configuration tells it, else None.
        bands: the number of bands of the images.
        head: what the outputs are.
        scaling: what scales the images within the model, before its first weights, or None.
        architecture: which one of keras.applications the model looks like, or None.
        warnings: sentences for the log.
        description: for the log, such as "Keras 1.2.2, theano, channels_first".
    """

    file: SameFile
    root: Group
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
            if not self.file.is_unchanged():
                raise ModelError("the file was changed while it was read: run the task again")
            return model


def open_model(path: Path, trained_with: str = "tensorflow") -> OpenedModel:
    """Check a model file and read its configuration. Needs neither TensorFlow nor Keras.

    Args:
        path: an HDF5 file of Keras 1 to 3 (.h5, .hdf5), or a .keras archive.
        trained_with: "tensorflow" or "theano". It counts for files of Keras 1 alone; later ones
            record what they were trained with.

    Raises:
        ModelError: the file is damaged, unsafe or no whole model, or cannot be computed.
        OSError: the file cannot be opened.
    """
    with naming(path):
        if not path.exists():
            raise ModelError("there is no such file")
    file = SameFile(path)
    with naming(path):
        contents = open_checked(file)
        document, version, backend = read_document(contents)
        if backend and backend.split(".")[0] not in BACKENDS:
            raise ModelError(f"it records the backend '{backend[:100]}', which Keras never had")
        generation = int(version[0]) if version[0] in "23" else 1
        era = Era(generation, version, backend or trained_with, _data_format(document))
        top = _read_layer(document, era)
        if top.network is None:
            raise ModelError(f"it holds a single {top}, no model: save the whole model")
        _count_calls(top.network, 0)
        input_size, bands, channels_first = check_ends(top.network, era)
        root = contents.root
        if contents.archive is not None:
            # TensorFlow 2.12 has the longer name
            start = next(r for r in ("_layer_checkpoint_dependencies", "layers") if r in root)
            place_archived(top.network.layers, start, root)
        else:
            place_weights(top.network, era, root)
        head, outputs = (
            read_head(top.network, read_loss(document, root)),
            count_outputs(top.network),
        )
        if outputs is not None:
            check_head(head, outputs)
        data_format = "channels_first" if channels_first else "channels_last"
        return OpenedModel(
            file=file,
            root=root,
            input_size=input_size,
            outputs=outputs,
            bands=bands,
            head=head,
            scaling=find_scaling(top.network),
            architecture=find_architecture(top.network),
            warnings=_compare_backend(root, era) if generation == 1 else (),
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


def _compare_backend(root: Group, era: Era) -> tuple[str, ...]:
    """Keras 1 named weights "conv_W:0" on TensorFlow and "conv_W" on Theano."""
    found = [
        name for group in root["model_weights"].values() for name in names(group, "weight_names")
    ]
    looks = "tensorflow" if any(name.endswith(":0") for name in found) else "theano"
    if not found or looks == era.backend:
        return ()
    warning = (
        f"This Keras {era.version} model is taken as trained with {era.backend}, as the task says, "
        f"but the names of its weights look like {looks}: if so, use the task for {looks}."
    )
    return (warning,)


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
        calls = [Call(inner, "inner", 0, [start], {})]
        _mend_lambdas(calls, era)
        layer.network = Network([inner], calls, [start], [end], [None])
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
    _mend_lambdas(calls, era)
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
    _mend_lambdas(calls, era)
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
        return plain(node["args"]), plain(node["kwargs"])
    starts = [node] if isinstance(node[0], str) else node
    kwargs = with_tensors(starts[0][3]) if len(starts[0]) > 3 else {}
    values = [start[2] if start[0] == "_CONSTANT_VALUE" else Tensor(*start[:3]) for start in starts]
    alone = len(values) == 1 and layer.config.get("function") not in ("concat", "stack")
    return [values[0] if alone else values], kwargs


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


def _mend_lambdas(calls: list[Call], era: Era) -> None:
    """Translate the Lambda layers of a model, whose calls tell on how many arrays.

    Raises:
        ModelError: one is more than plain arithmetic, or is called in two ways.
    """
    for call in calls:
        inputs = len(call.args[0]) if isinstance(call.args[0], list) else None
        if call.layer.kind == "Lambda":
            mend_lambda(call.layer, inputs, era)
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
    if layer.kind == "Lambda" and known:
        return  # what it computes depends on its calls: see _mend_lambdas
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
        mend_operation(layer)
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
            config[key] = plain(config[key])
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
