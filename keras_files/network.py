"""The form that the models of all eras share: a Network of Calls to Layers, between Tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

UNUSED = "Unused"  # the kind of a layer that no output needs and that cannot be computed


@dataclass
class Layer:
    """A layer in the form that all eras share.

    Attributes:
        kind: the name of its class in Keras 2, "Network" for a model inside the model.
        config: its arguments as Keras 2 has them, changed as `convert_layer` says.
        trainable: False for a frozen layer, which changes the order of the weights in a file.
        places: role of a weight (see layers) -> where in the file the array lies.
        network: the model inside, or the layer inside of a TimeDistributed.
        refusal: why it cannot be computed, raised once the ends of the model are known to be right.
        warnings: sentences on what may be wrong with it.
    """

    kind: str
    name: str
    config: dict[str, Any]
    trainable: bool = True
    places: dict[str, str] = field(default_factory=dict)
    network: Network | None = None
    refusal: Exception | None = None
    warnings: list[str] = field(default_factory=list)

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

    `shapes` are the declared shapes of its inputs, batch axis included, `dtypes` the types to which
    Keras casts them (none: as they come); `keys` the names by which a dict of inputs has them,
    `named` the names of its outputs.
    """

    layers: list[Layer]
    calls: list[Call]
    inputs: list[Tensor]
    outputs: list[Tensor]
    shapes: list[list[int | None] | None]
    trainable: bool = True
    dtypes: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Era:
    """What wrote a file: `keras` is 1, 2 or 3; `data_format` that of its first layer with one."""

    keras: int
    version: str
    backend: str
    data_format: str
    has_efficientnet: bool = False  # the package of that name, whose swish is x * sigmoid(x)
    has_renorm_weight: bool = False  # among the weights of a BatchNormalization with renorm

    def has(self, since: str) -> bool:
        """Return whether this version has what came with others.

        Args:
            since: a version of the keras package, of tf.keras and of Keras 3, each "-" where it
                never came, "1.0..1.2" where it went again. Those of tf.keras as its files have
                them: 2.2.4 of TensorFlow 1.13 to 2.1, 2.3 of 2.1 and 2.2, 2.4 of 2.3 and 2.4. What
                came with TensorFlow 2.2 counts from 2.4 on, for 2.1 had nothing of that name.
        """
        lines = since.split()
        own = lines[2] if self.keras == 3 else lines[0] if self.is_package else lines[1]
        first, _, last = own.partition("..")
        if first == "-":
            return False
        numbers = [int(number) for number in re.findall(r"\d+", self.version.split("-")[0])[:3]]
        if len(numbers) == 1:  # only that is known of it
            numbers.append(99)
        return _numbers(first) <= numbers and not (last and numbers[:2] > _numbers(last))

    @property
    def is_package(self) -> bool:
        """Tell the keras package of its own (to 2.3), on TensorFlow 1 or Theano, from tf.keras."""
        return self.keras == 1 or re.fullmatch(r"2\.[0-3]\.\d+", self.version) is not None


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


def words(text: str) -> set[str]:
    return set(text.split())


def with_tensors(value: Any) -> Any:
    """Return plain values in which tf.keras wrote a tensor as [layer, call, output]."""
    if isinstance(value, list):
        if len(value) in (3, 4) and isinstance(value[0], str) and isinstance(value[1], int):
            return Tensor(*value[:3])
        return [with_tensors(item) for item in value]
    if isinstance(value, dict) and "class_name" not in value and not value.keys() >= {"start"}:
        return {key: with_tensors(item) for key, item in value.items()}
    return plain(value)


def plain(value: Any) -> Any:
    """Return plain values of the forms in which JSON holds tensors, slices, arrays, tuples."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind, config = value.get("class_name"), value.get("config")
    if kind == "__keras_tensor__":
        return Tensor(*config["keras_history"])
    if kind == "__ellipsis__":
        return Ellipsis
    if kind == "__slice__":
        return slice(*(plain(config[key]) for key in ("start", "stop", "step")))
    if kind in ("__numpy__", "__tensor__"):
        return config["value"]
    if kind == "__tuple__":
        return plain(value["items"])
    if value.keys() == {"start", "stop", "step"}:
        return slice(*(with_tensors(value[key]) for key in ("start", "stop", "step")))
    return {key: plain(item) for key, item in value.items()}


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield all Tensors among the arguments of a call."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(item)
    elif isinstance(value, slice):
        yield from tensors_in([value.start, value.stop, value.step])


def leading_to(ends: Iterable[Tensor], calls: list[Call]) -> list[Call]:
    """Return those of the calls whose results `ends` need, in their order."""
    needed = set(ends)
    kept: list[Call] = []
    for call in reversed(calls):
        if any((call.name, call.number) == (tensor.layer, tensor.call) for tensor in needed):
            needed |= set(tensors_in([call.args, call.kwargs]))
            kept.append(call)
    return kept[::-1]
