"""Which output of a model gives the classes, where it has several."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from keras_files.configuration import has_refusal
from keras_files.head import last_activation, layers_before
from keras_files.layers import LAYERS, Axes, End, Row
from keras_files.model_file import ModelError
from keras_files.network import UNUSED, Layer, Network, Tensor, leading_to, words

IMAGE = "an image"

# Layers that make images, or others that make a vector of each chip (without return_sequences).
_MAPS = (
    "AveragePooling",
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "ConvLSTM",
    "Cropping",
    "DepthwiseConv",
    "MaxPooling",
    "Permute",
    "RepeatVector",
    "SeparableConv",
    "TimeDistributed",
    "UpSampling",
    "ZeroPadding",
)
_VECTORS = words("Flatten GRU GateGRU GateLSTM LSTM SimpleRNN")
_SAME = words("Activation BatchNormalization Concatenate Dropout LayerNormalization")  # of axes


def take_output(network: Network, classes: int | None) -> tuple[Network, list[str]]:
    """Return a model with the one output that gives the classes, and a warning if it had several.

    What only the others need is not computed, so it may be anything, a custom layer as well.

    Args:
        network: changed in place: layers that are needed no more hold no refusals.
        classes: how many there are; None where that is not known.

    Raises:
        ModelError: there are several outputs, and not exactly one fits.
    """
    if len(network.outputs) == 1:
        return network, []
    lengths = [_length(network, tensor) for tensor in network.outputs]
    fitting = [
        place
        for place, (tensor, length) in enumerate(zip(network.outputs, lengths, strict=True))
        if classes is not None and _fits(network, tensor, length, classes)
    ]
    if len(fitting) != 1 or None in lengths:
        raise ModelError(_refusal(network, lengths, fitting, classes))
    (place,) = fitting
    taken = replace(network, outputs=[network.outputs[place]], named=[network.named[place]])
    taken.calls = leading_to(taken.outputs, network.calls)
    used = {id(call.layer) for call in taken.calls}
    for layer in network.layers:
        if id(layer) not in used and has_refusal(layer):
            layer.kind, layer.network, layer.refusal = UNUSED, None, None
    others = [_word(network, lengths, other) for other in range(len(lengths)) if other != place]
    warning = (
        f"The model has {len(lengths)} outputs. Only {_word(network, lengths, place)} fits "
        f"{classes} classes, and is taken. Left out: {', '.join(others)}."
    )
    return taken, [warning]


def loss_of_output(loss: Any, network: Network, taken: Network) -> Any:
    """Return the loss of the output that was taken, of those of a model with several.

    Args:
        loss: as Keras wrote it: one for all, a list, or a dict by the names of the outputs.
        network: the model before `take_output`, and `taken`: after it.
    """
    if len(network.outputs) == 1:
        return loss
    place = network.outputs.index(taken.outputs[0])
    if isinstance(loss, list) and len(loss) == len(network.outputs):
        return loss[place]
    if isinstance(loss, dict) and "class_name" not in loss:
        return loss.get(network.named[place])
    return loss


def _fits(network: Network, tensor: Tensor, length: int | str | None, classes: int) -> bool:
    """Return whether an output has a value for each class; for two, one sigmoid is enough."""
    single = replace(network, outputs=[tensor])
    return length == classes or (
        length == 1 and classes == 2 and last_activation(single) == "sigmoid"
    )


def _refusal(
    network: Network, lengths: list[int | str | None], fitting: list[int], classes: int | None
) -> str:
    listed = ", ".join(_word(network, lengths, place) for place in range(len(lengths)))
    if classes is None:
        why = "name the classes, so that the one with a value for each can be taken"
    elif not fitting and None not in lengths:
        why = f"none of them has {classes} values, one for each class"
    elif len(fitting) > 1:
        which = ", ".join(str(place) for place in fitting)
        why = f"the outputs {which} have values for {classes} classes"
    else:
        why = "the file does not tell of each how many values it has"
    place = fitting[0] if fitting else 0
    return (
        f"the model has {len(lengths)} outputs, not one: {listed}; {why}. Or save it with the one "
        f"that gives the classes alone, such as output {place}: "
        f"Model(model.inputs, model.outputs[{place}]).save('model.h5')"
    )


def _word(network: Network, lengths: list[int | str | None], place: int) -> str:
    length = lengths[place]
    size = "of unknown length" if length is None else str(length)
    size += "" if not isinstance(length, int) else " value" if length == 1 else " values"
    return f"output {place} ('{network.named[place]}', {size})"


def _length(network: Network, tensor: Tensor) -> int | str | None:
    """Return how many values an output has, IMAGE for one of several axes, None if unknown.

    Where a Dense layer comes last, its units are returned even if what comes before it may have
    several axes: the model is refused later on then.
    """
    units: int | None = None
    for layer in layers_before(network, tensor, through_merges=True):
        kind, config = layer.kind, layer.config
        if kind == "Reshape":
            size = config["target_shape"]
            return IMAGE if len(size) > 1 else units or (size[0] if size[0] > 0 else None)
        pools = kind.startswith("Global") and not config.get("keepdims")
        if pools or kind in _VECTORS and not config.get("return_sequences"):
            return units or (_channels(network, tensor) if pools else config.get("units"))
        if kind.startswith(_MAPS) or kind in _VECTORS:
            return IMAGE
        if kind == "Concatenate" and units is None:
            return None
        if kind == "Dense":
            units = units or config["units"]
        elif kind not in _SAME and _row(layer).axes is not Axes.POINTWISE:
            return units
    return IMAGE


def _channels(network: Network, tensor: Tensor) -> int | None:
    """Return the filters of a convolution whose channels are averaged over the image at the end."""
    formats = set()
    for layer in layers_before(network, tensor):
        kind = layer.kind
        if kind.startswith("Global"):
            formats.add(layer.config["data_format"])
        elif kind in ("Conv2D", "SeparableConv2D"):
            return layer.config["filters"] if formats == {layer.config["data_format"]} else None
        elif kind not in _SAME and _row(layer).end is not End.ACTIVATION:
            return None
    return None


def _row(layer: Layer) -> Row:
    return LAYERS.get(layer.kind, Row())
