"""What a Lambda layer computes with while its code is read: arrays without values, and constants.

An array is a Tensor, the result of one operation of a `Graph`. Constants are numbers, text, tuples,
lists and arrays of NumPy, none of them large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_files.code_object import CodeError
from keras_files.network import Call, Era, Layer, Network, Tensor
from keras_files.operations import OPERATIONS

MAX_CALLS = 500  # operations in one Lambda layer
MAX_VALUES = 2**12  # numbers in one constant
MAX_DEPTH = 8  # of lists within lists

TOO_LARGE = "it makes a constant that is larger than plain arithmetic needs"


@dataclass(frozen=True)
class Name:
    """A module or what is in it, such as "tf.math.abs": never the thing itself."""

    path: str


class Graph:
    """The operations of a Lambda layer, as they come.

    Args:
        name: the layer's, for messages.
        inputs: the number of its inputs.
    """

    def __init__(self, name: str, inputs: int, era: Era) -> None:
        self.era = era
        self.inputs = [Tensor("", 0, place) for place in range(inputs)]
        self._name = name
        self._calls: list[Call] = []

    def add(self, function: str, *args: Any, **kwargs: Any) -> Tensor:
        """Add a function of OPERATIONS; arguments as TensorFlow has them."""
        return self.add_several(1, function, *args, **kwargs)[0]

    def add_several(self, count: int, function: str, *args: Any, **kwargs: Any) -> list[Tensor]:
        """Add a function with a list of results."""
        if function not in OPERATIONS:
            raise CodeError(f"it calls 'tf.{function}', which is not known to be mere arithmetic")
        config = {"function": function, "arguments": {}, "constants": None}
        return self._call(count, Layer("Operation", "", config), *args, **kwargs)

    def add_layer(self, kind: str, x: Any, **config: Any) -> Tensor:
        """Add a layer of Keras 2 that has no weights."""
        return self._call(1, Layer(kind, "", config), x)[0]

    def _call(self, count: int, layer: Layer, *args: Any, **kwargs: Any) -> list[Tensor]:
        name = str(len(self._calls))
        layer.name = f"{self._name}/{name}"
        if len(self._calls) == MAX_CALLS:
            raise CodeError(f"it computes more than {MAX_CALLS} operations")
        args, kwargs = (as_plain(args), {key: as_plain(value) for key, value in kwargs.items()})
        self._calls.append(Call(layer, name, 0, args, kwargs))
        return [Tensor(name, 0, place) for place in range(count)]

    def network(self, outputs: list[Tensor]) -> Network:
        """Return all of it as a model within the model."""
        layers = [call.layer for call in self._calls]
        return Network(layers, self._calls, self.inputs, outputs, [None] * len(self.inputs))


def as_plain(value: Any) -> Any:
    """Return a value as an argument of an operation: numbers, text, Tensors, lists of them.

    Raises:
        CodeError: it is something else, or has more than MAX_VALUES parts.
    """
    count = 0

    def walk(part: Any, depth: int) -> Any:
        nonlocal count
        count += 1
        if count > MAX_VALUES or depth > MAX_DEPTH:
            raise CodeError(TOO_LARGE)
        if isinstance(part, np.ndarray):
            return walk(part.tolist(), depth)
        if isinstance(part, (list, tuple)):
            return [walk(item, depth + 1) for item in part]
        if isinstance(part, slice):
            return slice(*(walk(end, depth + 1) for end in (part.start, part.stop, part.step)))
        if part is None or part is Ellipsis or isinstance(part, (bool, int, float, str, Tensor)):
            return part
        raise CodeError(f"it computes with {describe(part)}, which is no array and no number")

    return walk(value, 0)


def describe(value: Any) -> str:
    """Return what a value is, for a message."""
    return getattr(value, "path", None) or type(value).__name__


def as_operand(value: Any) -> Any:
    """Return one side of arithmetic: a Tensor, or a constant in floats, as Keras makes of it."""
    value = as_plain(value)
    if isinstance(value, Tensor):
        return value

    def floats(part: Any) -> Any:
        if isinstance(part, list):
            return [floats(item) for item in part]
        if isinstance(part, (bool, str)) or not isinstance(part, (int, float)):
            raise CodeError(f"it computes with {describe(part)}, which is no number")
        return float(part)

    return floats(value)


def as_array(value: Any) -> np.ndarray:
    """Return a constant as an array of float64 or int64."""
    value = as_plain(value)
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:  # rows of several lengths
        raise CodeError("it makes an array of something else than numbers") from error
    if array.dtype.kind not in "if" or array.dtype.itemsize > 8:
        raise CodeError("it makes an array of something else than numbers")
    return array
