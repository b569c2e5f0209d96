"""Which array of a file belongs to which layer, and in which layout it is kept."""

from __future__ import annotations

import re

import numpy as np

from keras_files.advice import CHANGED, NOT_OF_KERAS, STANDARD, TWO_MODELS
from keras_files.layers import LAYERS, check_shapes
from keras_files.model_file import ARCHIVE_ROOTS, Group, ModelError, names, read_array
from keras_files.network import UNUSED, Era, Layer, Network


def _roles(layer: Layer) -> dict[str, bool]:
    """Return a layer's weights by role, in the order of their making: trainable or not."""
    roles = {}
    trainable = True
    for word in LAYERS[layer.kind].weights.split() if layer.kind in LAYERS else ():
        role, _, condition = word.partition("?")
        if role == "|":
            trainable = False
        elif not condition or layer.config.get(condition, True):
            roles[role] = trainable
    return roles


def _slots(layer: Layer, keras: int) -> tuple[list[tuple[Layer, str]], list[tuple[Layer, str]]]:
    """Return the (layer, role) of all weights in a layer or model, in the order of the file.

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


def place_weights(network: Network, era: Era, root: Group, file: Group) -> None:
    """Fill `Layer.places` from a group that has one group for each layer of the model.

    Where the names of the groups are not those of the layers, they belong together by their order,
    as `load_weights` of Keras has it. A nested Sequential of Keras 1 has no name of its own at all.
    """
    wanted = [(layer, slots) for layer in network.layers if (slots := _all_slots(layer, era))]
    groups = [
        name
        for name in names(root, "layer_names")
        if name in root and names(root[name], "weight_names")
    ]
    by_name = [layer.name for layer, _ in wanted]
    if set(by_name) <= set(groups) <= {layer.name for layer in network.layers}:
        for layer in network.layers:
            if layer.name in groups and layer.name not in by_name and layer.kind != UNUSED:
                _refuse_weights(layer, names(root[layer.name], "weight_names"))
        groups = by_name
    elif len(groups) != len(wanted):
        raise ModelError(
            f"the file has weights of {len(groups)} layers ({_list(groups)}), but the model has "
            f"{len(wanted)} layers with weights ({_list(by_name)}): {TWO_MODELS}"
        )
    for group, (layer, slots) in zip(groups, wanted, strict=True):
        layer.name = layer.name or group
        _place_group(root[group], layer, slots, file)


def _refuse_weights(layer: Layer, stored: list[str]) -> None:
    """Refuse arrays of a layer that has no weights: it is other code of the same name.

    The state of a layer's random numbers is none (`StateVar` of tf.keras's preprocessing layers).
    """
    if any("StateVar" not in name and "seed_generator" not in name for name in stored):
        raise ModelError(
            f"{layer} has weights in the file, but is known as a layer without any: it is "
            f"custom code, and is never run: {STANDARD}"
        )


def _list(words: list[str]) -> str:
    return ", ".join(words[:20]) + (", ..." if len(words) > 20 else "")


def _all_slots(layer: Layer, era: Era) -> list[tuple[Layer, str]]:
    trainable, fixed = _slots(layer, era.keras)
    return trainable + fixed


def _place_group(group: Group, layer: Layer, slots: list[tuple[Layer, str]], file: Group) -> None:
    """Fill `Layer.places` of a layer, or of those in a nested model, one array for each slot."""
    stored = names(group, "weight_names")
    if len(set(stored)) < len(stored):
        twice = next(name for name in stored if stored.count(name) > 1)
        raise ModelError(f"{layer} has two weights of the name '{twice}': {NOT_OF_KERAS}")
    if len(stored) != len(slots):
        raise ModelError(
            f"{layer} needs {len(slots)} arrays of weights, the file has {len(stored)}: "
            f"{TWO_MODELS}"
        )
    for (owner, role), name in zip(slots, _sort_names(stored, slots), strict=True):
        _place(owner, role, f"{group.name}/{name}", file)


def _sort_names(stored: list[str], slots: list[tuple[Layer, str]]) -> list[str]:
    """Return the names in the order of the slots: by their words if these tell, else as they are.

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


def place_archived(layers: list[Layer], root: str, file: Group) -> None:
    """Fill `Layer.places` in a .keras archive, where a layer has the name of its class, counted.

    TensorFlow 2.13 counts a layer with weights twice: conv2d, conv2d_2, conv2d_4. So the groups of
    a class belong to its layers in their order where there are as many.
    """
    by_class: dict[str, list[Layer]] = {}
    for layer in layers:
        word = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", layer.config.get("class_name", layer.kind))
        word = re.sub(r"([a-z])([A-Z])", r"\1_\2", word).lower()
        by_class.setdefault(word, []).append(layer)
    for word, alike in by_class.items():
        found = [
            re.fullmatch(rf"{re.escape(word)}(?:_(\d+))?", name) for name in file.get(root) or ()
        ]
        numbers = sorted(int(match[1] or 0) for match in found if match)
        if len(numbers) != len(alike):
            numbers = list(range(len(alike)))
        for number, layer in zip(numbers, alike, strict=True):
            place = f"{root}/{word}_{number}" if number else f"{root}/{word}"
            _place_archived_layer(layer, place, file)


def _place_archived_layer(layer: Layer, place: str, file: Group) -> None:
    inner = layer.network.layers if layer.network else []
    if layer.kind == "TimeDistributed":
        _place_archived_layer(inner[0], f"{place}/layer", file)
    elif layer.config.get("class_name") == "Bidirectional":
        for part, name in zip(inner, ("forward_layer", "backward_layer"), strict=False):
            _place_archived_layer(part, f"{place}/{name}", file)
    elif layer.network:
        roots = (f"{place}/{root}" for root in ARCHIVE_ROOTS)
        inner_root = next((root for root in roots if root in file), f"{place}/layers")
        place_archived(layer.network.layers, inner_root, file)
    numbers: dict[str, int] = {}
    for role in [] if layer.network else _roles(layer):
        part = f"/{role.split('/')[0].removeprefix('attention_')}_dense" if "/" in role else ""
        if part and f"{place}/_{part[1:]}" in file:  # tf_keras
            part = f"/_{part[1:]}"
        part = "/cell" if f"{place}/cell" in file else part
        number = numbers.get(part, 0)
        numbers[part] = number + 1
        _place(layer, role, f"{place}{part}/vars/{number}", file)
    for part, count in numbers.items():
        if f"{place}{part}/vars/{count}" in file:
            raise ModelError(
                f"{layer} needs {count} arrays of weights, the file has more in "
                f"'{place}{part}/vars': it is another layer of this name, or a quantized one: "
                f"take one of float32 in its place; {CHANGED}"
            )
    if not layer.network and not numbers and f"{place}/vars/0" in file:
        _refuse_weights(layer, [f"{place}/vars/0"] if file[f"{place}/vars/0"].shape else [])


def _place(layer: Layer, role: str, place: str, file: Group) -> None:
    """Note where a weight lies."""
    if place not in file or not hasattr(file[place], "shape"):
        raise ModelError(f"the file lacks the array '{place}' of {layer}: {TWO_MODELS}")
    layer.places[role] = place


def check_weights(network: Network, era: Era, file: Group) -> None:
    """Compare the shapes of all weights with those that the layers declare, as far as known yet.

    Raises:
        ModelError: one has another shape.
    """
    for layer in network.layers:
        if layer.network:
            check_weights(layer.network, era, file)
        stored = {
            role: arrange(np.broadcast_to(np.float32(0), file[place].shape), era, layer, role).shape
            for role, place in layer.places.items()
        }
        try:
            check_shapes(layer, stored, [])
        except ModelError as error:
            raise ModelError(f"{layer}: {error}") from error


def read_weight(file: Group, era: Era, layer: Layer, role: str) -> np.ndarray:
    """Return a weight as float32, arranged for the formulas."""
    return arrange(read_array(file, layer.places[role]), era, layer, role)


def arrange(array: np.ndarray, era: Era, layer: Layer, role: str) -> np.ndarray:
    """Return a stored weight in the layout of TensorFlow: kernels (rows, columns, in, out)."""
    if layer.config.get("virtual_batch_size"):  # of the training alone, but they have its axis
        return array.reshape(-1)
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
    convolves = role.endswith(("/kernel", "recurrent_kernel")) or role == "kernel"
    convolves = convolves and layer.kind.startswith(("Conv", "GateConv"))
    if era.backend == "theano" and convolves:
        array = array[tuple(slice(None, None, -1) for _ in array.shape[:-2])]
    return array
