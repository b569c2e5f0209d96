"""What a Lambda layer decides by constants: comparisons of numbers, texts and None, and any if."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_files.code_object import CodeError
from keras_files.network import Tensor
from keras_files.symbols import Name, describe

# Arguments of COMPARE_OP: Lib/opcode.py; from 3.9 on only the first six.
SIGNS = ("<", "<=", "==", "!=", ">", ">=", "in", "not in", "is", "is not")
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda left, right: left in right,
    "not in": lambda left, right: left not in right,
    "is": lambda left, right: left is right,
    "is not": lambda left, right: left is not right,
}


def compare_constants(sign: str, left: Any, right: Any) -> bool:
    """Compare numbers, texts, None, and tuples of them.

    Raises:
        CodeError: it is something else, or has no order.
    """
    inner = right if sign in ("in", "not in") and isinstance(right, (list, tuple)) else [right]
    for value in (left, *inner):  # a tuple of the training is a list in the file
        if not (value is None or isinstance(value, (int, float, str))):
            raise CodeError(f"it compares {describe(value)}")
    if sign in ("is", "is not") and left is not None and right is not None:
        raise CodeError("it asks by 'is' for something else than None")
    try:
        return bool(_COMPARISONS[sign](left, right))
    except TypeError as error:
        raise CodeError(f"it compares what has no order ({error})") from error


def truth(value: Any) -> bool:
    """Return whether Python takes a constant for true.

    Raises:
        CodeError: it is an array, which only running the code would tell.
    """
    parts = value if isinstance(value, (list, tuple)) else [value]
    if isinstance(value, (Tensor, Name, np.ndarray)) or any(isinstance(p, Name) for p in parts):
        raise CodeError(
            f"an if, and or or (Python's instruction JUMP) is decided by {describe(value)}"
        )
    return bool(value)


def is_none(value: Any) -> bool:
    """Return whether a constant or an array is None."""
    if isinstance(value, Name):
        raise CodeError(f"it compares {describe(value)}")
    return value is None
