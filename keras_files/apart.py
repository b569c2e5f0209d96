"""Whether the chips of a batch stay apart: no result may depend on the chips beside its own.

What can mix them is cut out of a network and computed with random numbers, three chips together and
each alone. `x / tf.reduce_max(x)` mixes them, and so does what takes a part along the first axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from keras_files.network import Call, Layer, Network, Tensor, tensors_in, words

# Arguments that name axes, among which the first one is that of the chips.
_AXES = ("attention_axes", "axes", "axis")
# Operations on arrays of one rank, and constants of lower rank, that compute each place alone.
_POINTWISE = words(
    "cast clip_by_value identity math.abs math.add math.ceil math.cos math.divide math.erf "
    "math.exp math.expm1 math.floor math.greater math.greater_equal math.less math.less_equal "
    "math.log math.log1p math.maximum math.minimum math.multiply math.negative math.pow math.round "
    "math.rsqrt math.sigmoid math.sign math.sin math.softplus math.sqrt math.square math.subtract "
    "math.tanh math.truediv nn.elu nn.gelu nn.leaky_relu nn.relu nn.relu6 nn.selu nn.sigmoid "
    "nn.silu nn.softplus nn.softsign nn.swish nn.tanh stop_gradient"
)
_SIZES = np.array([0.1, 10, 150])  # of the values of each chip


def find_parts(network: Network) -> Iterator[Network]:
    """Yield what can mix chips: operations that are connected, each time as a network.

    A layer along the first axis, such as Concatenate(axis=0), is taken for an operation.
    """
    calls = [call for call in network.calls if _can_mix(call.layer)]
    made = {(call.name, call.number): call for call in calls}
    groups: dict[int, list[Call]] = {id(call): [call] for call in calls}
    for call in calls:
        for start in tensors_in([call.args, call.kwargs]):
            before = groups.get(id(made.get((start.layer, start.call))))
            own = groups[id(call)]
            if before is not None and before is not own:
                before += own
                groups.update((id(moved), before) for moved in own)
    wanted = set(network.outputs)
    for call in network.calls:
        if not _can_mix(call.layer):
            wanted.update(tensors_in([call.args, call.kwargs]))
    for group in {id(group): group for group in groups.values()}.values():
        members = {id(call) for call in group}
        ordered = [call for call in calls if id(call) in members]
        yield _cut_out(ordered, wanted)


def _cut_out(calls: list[Call], wanted: set[Tensor]) -> Network:
    """Return calls as a network, whose outputs are those of their tensors that are wanted."""
    own = {(call.name, call.number) for call in calls}
    used = list(tensors_in([[call.args, call.kwargs] for call in calls]))
    inputs = list(dict.fromkeys(t for t in used if (t.layer, t.call) not in own))
    outputs = sorted(
        (t for t in wanted if (t.layer, t.call) in own), key=lambda t: (t.layer, t.call, t.output)
    )
    return Network([call.layer for call in calls], calls, inputs, outputs, [None] * len(inputs))


def is_pointwise(part: Network, ranks: set[int]) -> bool:
    """Return whether a part cannot mix chips, seen without computing it.

    Args:
        ranks: of the arrays that it takes.
    """
    plain = all(call.layer.config.get("function") in _POINTWISE for call in part.calls)
    deepest = max(_depth([call.args, call.kwargs, call.layer.config]) for call in part.calls)
    return plain and len(ranks) == 1 and deepest < min(ranks)


def _depth(value: Any) -> int:
    """Return how many lists lie within each other in the arguments of a call."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def _can_mix(layer: Layer) -> bool:
    """Return whether a layer is an operation, or names the first axis."""
    if layer.kind == "Operation":
        return True
    axes = [layer.config.get(key) for key in _AXES]
    return any(axis == 0 or axis < -1 for axis in _integers(axes))


def _integers(value: Any) -> Iterator[int]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _integers(item)
    elif isinstance(value, int):
        yield value


def mixes_chips(
    compute: Callable[..., list[tf.Tensor]], inputs: list[tf.TensorSpec], sizes: list[list[int]]
) -> bool:
    """Return whether a function of arrays gives a chip a result that depends on other chips.

    Args:
        compute: takes arrays (chips, ...), gives others.
        inputs: their types.
        sizes: their shapes without the chips.

    Raises:
        tf.errors.OpError: it cannot be computed.
    """
    random = np.random.default_rng(0)
    noise = [np.moveaxis(random.uniform(-1, 1, (*n, 3)) * _SIZES, -1, 0) for n in sizes]
    for arrays in (noise, [abs(array) for array in noise]):  # roots have no negative numbers
        batch = [tf.cast(x, end.dtype) for x, end in zip(arrays, inputs, strict=True)]
        alone = [compute(*(x[i : i + 1] for x in batch)) for i in range(3)]
        together = compute(*batch)
        for y, *parts in zip(together, *alone, strict=True):
            if parts[0].shape[:1] != [1] or not _are_close(y, tf.concat(parts, 0)):
                return True
        if any(_reaches(compute, batch, together, place) for place in range(3)):
            return True
    return False


def _reaches(
    compute: Callable[..., list[tf.Tensor]],
    batch: list[tf.Tensor],
    together: list[tf.Tensor],
    place: int,
) -> bool:
    """Return whether a chip of no numbers changes the results of the others."""
    spoiled = [np.array(x) for x in batch]
    for x in spoiled:
        if x.dtype.kind == "f":
            x[place] = np.nan
    others = [i for i in range(3) if i != place]
    for y, found in zip(together, compute(*map(tf.constant, spoiled)), strict=True):
        if not _are_close(tf.gather(y, others), tf.gather(found, others)):
            return True
    return False


def _are_close(x: tf.Tensor, y: tf.Tensor) -> bool:
    """Return whether two arrays are the same but for the order in which float32 was added up."""
    if x.shape != y.shape:
        return False
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    scale = max(1.0, float(np.max(np.abs(np.nan_to_num(x, posinf=0, neginf=0)), initial=0.0)))
    return np.allclose(x, y, rtol=1e-3, atol=1e-5 * scale, equal_nan=True)
