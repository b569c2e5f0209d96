"""The two ends of a model: the images that it takes, and the output that it gives."""

from __future__ import annotations

from keras_files.checked_file import ModelError
from keras_files.network import Era, Network, Tensor
from keras_files.operations import ACTIVATION_LAYERS


def check_ends(network: Network, era: Era) -> tuple[tuple[int | None, int | None], bool]:
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
        units = [count_outputs(network, tensor) for tensor in network.outputs]
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


def count_outputs(network: Network, tensor: Tensor | None = None) -> int | None:
    """The units of the last Dense layer, if only layers that keep their number come after it.

    Before the model's first output, or before another of its Tensors.
    """
    made = {(call.name, call.number): call for call in network.calls}
    tensor = tensor or network.outputs[0]
    while call := made.get((tensor.layer, tensor.call)):
        if call.layer.network and call.layer.kind == "Network":
            return count_outputs(call.layer.network)
        if call.layer.kind == "Dense":
            return call.layer.config["units"]
        same = call.layer.kind in {"Activation", "BatchNormalization", *ACTIVATION_LAYERS}
        if not same and call.layer.config.get("function") not in ("nn.softmax", "math.sigmoid"):
            return None
        tensor = call.args[0]
    return None


def ends_linear(network: Network) -> bool:
    """Whether the last layer that computes anything is linear, without a sigmoid or softmax."""
    made = {(call.name, call.number): call for call in network.calls}
    tensor = network.outputs[0]
    while call := made.get((tensor.layer, tensor.call)):
        kind, activation = call.layer.kind, call.layer.config.get("activation", "linear")
        if kind == "Network":
            return ends_linear(call.layer.network)
        if kind in {"BatchNormalization", "Conv2D", "Dense", "MaxoutDense"}:
            return activation == "linear"
        if kind not in {"Activation", "Flatten", "Reshape"} or activation != "linear":
            return False
        tensor = call.args[0]
    return False
