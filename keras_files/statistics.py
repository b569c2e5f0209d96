"""What a model remembers of its training: the statistics of its first normalization.

A batch normalization keeps the mean and the variance of each channel of what it saw in training,
and so does a Normalization layer that was adapted. The layers before the first one are few, and
take each chip alone: what they make of other chips can be compared with what they made then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from keras_files.model_file import Array, Group, ModelError, read_array
from keras_files.network import Call, Layer, Network, Tensor, leading_to, tensors_in
from keras_files.open_model import OpenedModel
from keras_files.weights import read_weight

MOST_KERNELS = 3  # layers with weights before the normalization: more would cost too much

# Kind of a layer -> the roles of its mean and its variance.
_STATISTICS = {
    "BatchNormalization": ("moving_mean", "moving_variance"),
    "SyncBatchNormalization": ("moving_mean", "moving_variance"),
    "Normalization": ("mean", "variance"),
}


# Of statistics that are on their way from mean 0 and variance 1, so much may be left of these.
SETTLED = 0.01  # which changes nothing
SURELY_SETTLED = 0.05  # where it is only known that it is not more
MOSTLY_BEGUN = 0.9  # the rest tells nothing
NEAR_BEGUN = (0.5, 2.0)  # variances that may all be 1, in which hardly anything was seen


class Seen(NamedTuple):
    """What a normalization may have seen in training, in units of its stored statistics.

    mean, variance: float64 (channels,), 0 and 1 for what is stored; the variance has what is added
        to keep it from 0.
    """

    mean: np.ndarray
    variance: np.ndarray


@dataclass(frozen=True)
class Memory:
    """The first normalization of a model, and the layers that lead to it.

    layer: which one it is, in words.
    channels: how many it has.
    floor: float64 (channels,): what is added to a variance to keep it from 0, in units of the
        stored one with that added; 0 for a Normalization.
    compute: float32 (N, rows, columns, bands), as the model gets them -> float64 (N, 2, channels):
        for each chip and channel the mean of what reaches the normalization and of its square, in
        units of the stored statistics: 0 and 1 for what was seen in training.
    seen: what it may have seen: what is stored; and, where a part of that may still be what it
        began with, that without this part.
    is_sure: whether it has seen what is fed like the chips of this model: it was not frozen in the
        last training, and the part that it began with is known.
    """

    layer: str
    channels: int
    floor: np.ndarray
    compute: Callable[[np.ndarray], np.ndarray]
    seen: tuple[Seen, ...]
    is_sure: bool = True


def recall(opened: OpenedModel) -> Memory | None:
    """Return what a model remembers of its training; None if it remembers nothing.

    It remembers nothing without such a layer, with one that has still the statistics that it began
    with, or with more than MOST_KERNELS layers of weights before it. Imports TensorFlow.

    Raises:
        ModelError: the layers cannot be computed.
    """
    from keras_files.model import Model

    part = first_normalization(opened.network)
    if part is None:
        return None
    layer = _last(part).layer
    mean, variance = (
        np.asarray(read_weight(opened.root, opened.era, layer, role), np.float64).ravel()
        for role in _STATISTICS[layer.kind]
    )
    if not (mean.any() or (variance != 1).any()) or not np.isfinite(variance).all():
        return None
    if mean.size > 1 and mean.size != variance.size:
        return None
    is_batch = "Batch" in layer.kind
    epsilon = float(layer.config.get("epsilon", 0.0)) if is_batch else 0.0
    begun, is_sure = _begun(opened, part) if is_batch else (0.0, True)
    if begun > MOSTLY_BEGUN:
        return None

    def read(layer: Layer, role: str) -> np.ndarray:
        return read_weight(opened.root, opened.era, layer, role)

    def build(is_image: bool) -> Model:
        network = _with_moments(part, is_image, opened.channels_first)
        shape = (*opened.input_size, opened.bands)
        return Model(network, shape, opened.channels_first, read)

    try:
        model = build(True)
    except ModelError:  # what reaches it is no image, but a row of values for each chip
        model = build(False)
    channels = model.output_shape[1] // 2

    def compute(x: np.ndarray) -> np.ndarray:
        return np.asarray(model(x), np.float64).reshape(len(x), 2, channels)

    floor = np.broadcast_to(epsilon / (variance + epsilon) if epsilon else 0.0, channels)
    seen = [Seen(np.zeros(channels), np.ones(channels))]
    if begun > SETTLED:
        rest = (np.maximum(variance - begun, 0) / (1 - begun) + epsilon) / (variance + epsilon)
        shift = mean * begun / ((1 - begun) * np.sqrt(variance + epsilon))
        seen.append(Seen(shift, np.maximum(rest, 1e-12)))
    return Memory(str(layer), channels, floor, compute, tuple(seen), is_sure)


def _begun(opened: OpenedModel, part: Network) -> tuple[float, bool]:
    """Return how much of a batch normalization's statistics may be what they began with, and
    whether that is known.

    After n steps it is momentum^n, as long as the last training was the first one. It can never be
    more than the least of all variances of the model, since they began with 1.
    """
    layer = _last(part).layer
    least = min(_variances(opened, opened.network), default=1.0)
    steps = _steps(opened.root)
    if steps is not None and not _is_frozen(part):
        begun = float(layer.config.get("momentum", 0.99)) ** steps
        if begun <= SETTLED or begun <= least:
            return begun, True
    variances = read_weight(opened.root, opened.era, layer, "moving_variance")
    if (variances > NEAR_BEGUN[0]).all() and (variances < NEAR_BEGUN[1]).all():
        return 1.0, False
    if least > MOSTLY_BEGUN:  # which tells nothing of how much it is
        return 0.0, False
    return least, least <= SURELY_SETTLED and not _is_frozen(part)


def _variances(opened: OpenedModel, network: Network) -> Iterator[float]:
    """Yield the least stored variance of each batch normalization of a network."""
    for layer in network.layers:
        if layer.network:
            yield from _variances(opened, layer.network)
        elif "Batch" in layer.kind and "moving_variance" in layer.places:
            yield float(read_weight(opened.root, opened.era, layer, "moving_variance").min())


def _is_frozen(part: Network) -> bool:
    """Return whether the last layer of a part was left as it was by the training."""
    last = part.calls[-1].layer
    if not part.trainable or not last.trainable:
        return True
    return _is_frozen(last.network) if last.network else False


def _steps(root: Group) -> float | None:
    """Return how many steps the last training had, None where the file does not tell.

    An optimizer has their number first of all: vars/0 in a .keras archive; "iteration" in an HDF5
    file, "iterations:0" or "iter:0" in older ones.
    """
    places = ["optimizer/vars/0"] if "optimizer/vars/0" in root else []
    if isinstance(weights := root.get("optimizer_weights"), Group):
        places += _places(weights, "optimizer_weights")
    for place in places:
        array = root[place]
        if isinstance(array, Array) and array.shape == () and array.dtype.kind in "iuf":
            return max(0.0, float(read_array(root, place)))
    return None


def _places(group: Group, path: str) -> Iterator[str]:
    """Yield the paths of the arrays below a group whose name begins with "iter"."""
    for name in group:
        item = group[name]
        if isinstance(item, Group):
            yield from _places(item, f"{path}/{name}")
        elif name.startswith("iter"):
            yield f"{path}/{name}"


def first_normalization(network: Network) -> Network | None:
    """Return the part of a network that ends with its first normalization that has statistics.

    That layer has neither scale nor shift in it. None if there is no such layer, or too much
    before it.
    """
    part = _cut(network)
    return part if part and _count_kernels(part) <= MOST_KERNELS else None


def _cut(network: Network) -> Network | None:
    for place, call in enumerate(network.calls):
        layer = call.layer
        if layer.kind == "Network":
            inner = _cut(layer.network)
            last = replace(layer, network=inner) if inner else None
        else:
            last = _plain(layer)
        if last is None:
            continue
        end = replace(call, layer=last)
        calls = [*leading_to(tensors_in([end.args, end.kwargs]), network.calls[:place]), end]
        layers = list({id(call.layer): call.layer for call in calls}.values())
        outputs = [Tensor(call.name, call.number, 0)]
        return replace(network, layers=layers, calls=calls, outputs=outputs)
    return None


def _plain(layer: Layer) -> Layer | None:
    """Return a normalization that has statistics without its scale and shift; None for others."""
    roles = _STATISTICS.get(layer.kind, ("",))
    if not layer.places.keys() >= set(roles) or layer.config.get("invert"):
        return None
    config = {**layer.config, "scale": False, "center": False}
    if layer.kind == "Normalization":
        config = layer.config
    return replace(layer, config=config, places={role: layer.places[role] for role in roles})


def _count_kernels(network: Network) -> int:
    """Return how many layers with weights lead to the end of a network."""
    inner = (_count_kernels(call.layer.network) for call in network.calls if call.layer.network)
    own = (bool(call.layer.places) for call in network.calls[:-1])
    return sum(own) + sum(inner)


def _last(network: Network) -> Call:
    call = network.calls[-1]
    return _last(call.layer.network) if call.layer.kind == "Network" else call


def _with_moments(part: Network, is_image: bool, channels_first: bool) -> Network:
    """Return a network that gives, of each chip, the means of what `part` gives and of its square.

    Args:
        part: what gives images (N, rows, columns, channels), or (N, channels).
        is_image: which of these.
        channels_first: whether the images are (N, channels, rows, columns).
    """
    (value,) = part.outputs
    calls = list(part.calls)

    def add(kind: str, *inputs: Tensor, **config: Any) -> Tensor:
        name = f"moments/{len(calls)}"
        args = [list(inputs)] if len(inputs) > 1 else [inputs[0]]
        calls.append(Call(Layer(kind, name, config), name, 0, args, {}))
        return Tensor(name, 0, 0)

    ends = [value, add("Multiply", value, value)]
    if is_image:
        data_format = "channels_first" if channels_first else "channels_last"
        ends = [add("GlobalAveragePooling2D", end, data_format=data_format) for end in ends]
    ends = [add("Concatenate", *ends, axis=-1)]
    layers = [*part.layers, *(call.layer for call in calls[len(part.calls) :])]
    return replace(part, layers=layers, calls=calls, outputs=ends)
