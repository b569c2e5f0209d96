"""The two ends of a model: the images that it takes, and what its output means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from keras_files.layers import LAYERS, End
from keras_files.model_file import ModelError
from keras_files.network import Era, Layer, Network, Tensor, tensors_in

_OPERATIONS = {
    "math.log_sigmoid": "log_sigmoid",
    "math.sigmoid": "sigmoid",
    "math.softplus": "softplus",
    "math.tanh": "tanh",
    "nn.log_softmax": "log_softmax",
    "nn.relu": "relu",
    "nn.relu6": "relu6",
    "nn.sigmoid": "sigmoid",
    "nn.softmax": "softmax",
    "nn.softplus": "softplus",
    "nn.tanh": "tanh",
}
# What makes other linear values of linear ones: with constants, for there is one input.
_LINEAR_OPERATIONS = {
    "math.add",
    "math.divide",
    "math.multiply",
    "math.negative",
    "math.subtract",
    "math.truediv",
}
# One output from 0 to 1, or from -1 to 1, or any number: each tells one of two classes.
_TELLING = {"hard_sigmoid", "hard_sigmoid_keras3", "linear", "sigmoid", "tanh", None}


@dataclass(frozen=True)
class Head:
    """What a model's outputs are.

    Attributes:
        activation: the name of the last activation, "linear" where there is none; None where the
            configuration does not tell.
        owed: "softmax" or "sigmoid", where the loss of the training computed that from the outputs
            (from_logits), so that it is to be applied to them; else None.
    """

    activation: str | None = None
    owed: str | None = None

    @property
    def is_logit(self) -> bool:
        """Whether the outputs are no probabilities: linear, with nothing that is owed to them."""
        return self.activation == "linear" and self.owed is None


def read_head(network: Network, loss: Any) -> Head:
    """Tell what a model's outputs are.

    Args:
        network: the whole model.
        loss: that of its training configuration, as Keras wrote it, or None.
    """
    activation = last_activation(network)
    return Head(activation, _owed_function(loss) if activation == "linear" else None)


def check_head(head: Head, outputs: int | None) -> None:
    """Raise ModelError if a single output does not tell which of two classes it means."""
    if outputs == 1 and head.activation not in {*_TELLING, "softmax"}:
        raise ModelError(
            f"its one output has the activation '{head.activation}', which tells no class: end the "
            "model with a sigmoid, or with one output for each class, and train it again"
        )


def _owed_function(loss: Any) -> str | None:
    """Return what a loss with from_logits=True computes first (losses.py of tf.keras, Keras 3)."""
    while isinstance(loss, list | dict) and "class_name" not in loss and len(loss) == 1:
        loss = loss[0] if isinstance(loss, list) else next(iter(loss.values()))  # of one output
    if not isinstance(loss, dict) or not isinstance(loss.get("config"), dict):
        return None
    name = str(loss.get("class_name")).rpartition(">")[2]
    if loss["config"].get("from_logits") is not True:
        return None
    if name in ("BinaryCrossentropy", "BinaryFocalCrossentropy"):
        return "sigmoid"
    names = ("CategoricalCrossentropy", "CategoricalFocalCrossentropy")
    return "softmax" if name in (*names, "SparseCategoricalCrossentropy") else None


def last_activation(network: Network) -> str | None:
    """Return the activation of the last layer that has one; see Head."""
    moved = False
    for layer in layers_before(network, network.outputs[0]):
        kind, config = layer.kind, layer.config
        activation = config.get("activation", "linear")
        end = _end_of(layer)
        if end is End.PASSES or (kind == "Activation" and activation == "linear"):
            continue
        if end is End.AVERAGES or config.get("function") in _LINEAR_OPERATIONS:
            moved = True
            continue
        if end is End.LINEAR:
            found = "linear"
        elif end is End.ACTIVATION:
            found = "softmax" if kind == "Softmax" else kind
        elif end is End.ACTIVATED:
            found = activation if isinstance(activation, str) else activation.kind
        else:
            found = _OPERATIONS.get(config.get("function"))
        # The average of linear values is linear, and so is their double; others have no name then.
        return found if not moved or found == "linear" else None
    return None


def check_ends(network: Network, era: Era) -> tuple[tuple[int | None, int | None], int, bool]:
    """Return the size (rows, columns) of the model, its bands, and whether these come first.

    Raises:
        ModelError: it does not take one image.
    """
    if len(network.inputs) != 1:
        raise ModelError(
            f"the model has {len(network.inputs)} inputs, of the shapes "
            f"{', '.join(map(str, network.shapes))}; it must have one, a chip"
        )
    shape = network.shapes[0]
    if shape is None or len(shape) != 4:
        raise ModelError(
            f"the model's input has the shape {shape}, not that of images: (chips, rows, columns, "
            "bands)"
        )
    if (shape[1] == 3) == (shape[3] == 3):
        channels_first = era.data_format == "channels_first"
    else:
        channels_first = shape[1] == 3
    (rows, columns), bands = (shape[2:], shape[1]) if channels_first else (shape[1:3], shape[3])
    return (rows, columns), bands or 3, channels_first


def count_outputs(network: Network) -> int | None:
    """Return the units of the last Dense layer, if only what keeps their number comes after it."""
    for layer in layers_before(network, network.outputs[0]):
        if layer.kind == "Dense":
            return layer.config["units"]
        same = layer.kind in ("Activation", "BatchNormalization")
        same = same or _end_of(layer) is End.ACTIVATION
        if not same and layer.config.get("function") not in _OPERATIONS:
            return None
    return None


def layers_before(
    network: Network, tensor: Tensor, through_merges: bool = False
) -> Iterator[Layer]:
    """Yield the layers that lead to a tensor, the last one first, up to one of several inputs.

    Those of a model within the model too, and so the operations of a Lambda layer.

    Args:
        through_merges: go on with the first one of several inputs.
    """
    made = {(call.name, call.number): call for call in network.calls}
    while call := made.get((tensor.layer, tensor.call)):
        if call.layer.kind == "Network":
            inner = call.layer.network
            yield from layers_before(inner, inner.outputs[tensor.output], through_merges)
        else:
            yield call.layer
        starts = list(tensors_in([call.args, call.kwargs]))
        if not starts or (len(starts) > 1 and not through_merges):
            return
        tensor = starts[0]


def _end_of(layer: Layer) -> End:
    """Return what a layer means at the end of a model."""
    return LAYERS[layer.kind].end if layer.kind in LAYERS else End.UNKNOWN
