"""Lambda layers for tests: code objects of this Python and of others, formulas, damaged ones.

A code object of another Python is put together here byte by byte, in the format of its `marshal`.
"""

from __future__ import annotations

import base64
import marshal
import random
import struct
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_files.lambdas import convert_lambda
from keras_files.model import Model
from keras_files.network import Call, Era, Layer, Network, Tensor

TF_KERAS = Era(2, "2.21.0", "tensorflow", "channels_last")


def text_of(code: types.CodeType | bytes) -> str:
    """A code object, or its bytes, as Keras keeps it in a file."""
    data = code if isinstance(code, bytes) else marshal.dumps(code)
    return base64.encodebytes(data).decode()


def layer_of(function: Callable[..., Any], **arguments: Any) -> Layer:
    """The Lambda layer of a function of this Python, as Keras 2 describes it."""
    closure = [cell.cell_contents for cell in function.__closure__ or ()]
    defaults = list(function.__defaults__ or ())
    stored = [text_of(function.__code__), defaults, closure]
    config = {"function": stored, "function_type": "lambda", "arguments": arguments}
    return Layer("Lambda", "odd", config)


def layer_of_bytes(data: bytes) -> Layer:
    """The Lambda layer of a marshalled code object."""
    return Layer("Lambda", "odd", {"function": [text_of(data), None, None]})


def compute(layer: Layer, x: np.ndarray, era: Era = TF_KERAS, inputs: int | None = None) -> Any:
    """What a Lambda layer gives, as (N, values): called on x, or on the list [x, 2 x, 3 x, ...].

    The layer is translated first, in place.
    """
    convert_lambda(layer, inputs, era)
    start = Tensor("", 0, 0)
    scaled = [
        Layer("Rescaling", str(n), {"scale": n, "offset": 0.0}) for n in range(1, 1 + (inputs or 1))
    ]
    calls = [Call(one, one.name, 0, [start], {}) for one in scaled]
    tensors = [Tensor(one.name, 0, 0) for one in scaled]
    flatten = Layer("Flatten", "flatten", {})
    calls.append(Call(layer, "odd", 0, [tensors if inputs else tensors[0]], {}))
    calls.append(Call(flatten, "flatten", 0, [Tensor("odd", 0, 0)], {}))
    network = Network([*scaled, layer, flatten], calls, [start], [Tensor("flatten", 0, 0)], [None])
    first = era.data_format == "channels_first"
    return np.asarray(Model(network, x.shape[1:], first, None)(x))


def marshalled(
    version: tuple[int, int],
    code: bytes,
    constants: list[Any],
    names: list[str],
    variables: list[str],
) -> bytes:
    """A function of one parameter in the format of Python 2.7 or 3.4 to 3.7."""
    old = version == (2, 7)

    def text(value: str) -> bytes:
        if old:
            return b"t" + struct.pack("<i", len(value)) + value.encode()
        return b"z" + bytes([len(value)]) + value.encode()

    def item(value: Any) -> bytes:
        if value is None:
            return b"N"
        if isinstance(value, str):
            return text(value)
        if isinstance(value, tuple):
            return b"(" + struct.pack("<i", len(value)) + b"".join(map(item, value))
        kind = ("i", "<i") if isinstance(value, int) else ("g", "<d")
        return kind[0].encode() + struct.pack(kind[1], value)

    header = (1, len(variables), 9, 0x43) if old else (1, 0, len(variables), 9, 0x43)
    data = [b"c", struct.pack(f"<{len(header)}i", *header)]
    data += [b"s", struct.pack("<i", len(code)), code]
    data += [item(tuple(part)) for part in (constants, names, variables, (), ())]
    data += [text("model.py"), text("<lambda>"), struct.pack("<i", 1), b"s", struct.pack("<i", 0)]
    return b"".join(data)


# Formulas at random, which Python and TensorFlow can compute as well


def formula(rng: random.Random, depth: int = 4) -> str:
    """The text of a formula of x, a batch of images with three bands."""
    if depth == 0 or rng.random() < 0.1:
        return rng.choice(("x", "x", "x", constant(rng)))
    inner = formula(rng, depth - 1)
    kind = rng.randrange(11)
    if kind == 10:
        sign, numbers = rng.choice(("<", "<=", "==", "!=", ">", ">=")), (rng.randrange(3), 1)
        return f"({inner} if {numbers[0]} {sign} {numbers[1]} else {formula(rng, depth - 1)})"
    if kind < 5:
        sign = rng.choice(("+", "-", "*", "/", "+", "-", "*", "/", "//", "%"))
        parts = [inner, formula(rng, depth - 1) if rng.random() < 0.4 else constant(rng)]
        rng.shuffle(parts)
        return f"({parts[0]} {sign} {parts[1]})"
    if kind == 5:
        return f"(-{inner})" if rng.random() < 0.5 else f"abs({inner}) ** {rng.choice((2, 0.5, 3))}"
    if kind == 6:
        end = rng.choice(("[..., ::-1]", "[:, 1:-1]", "[:, :, :, 0:1]", "[..., 1][..., None]"))
        return f"({inner}){end}"
    if kind == 7:
        module = rng.choice(("K", "tf"))
        return f"{module}.{rng.choice(('abs', 'exp', 'tanh', 'sigmoid', 'square'))}({inner})"
    if kind == 8:
        axis = rng.choice(("[1, 2, 3]", "-1", "(1, 2)", "3", "1", "0"))
        name = rng.choice(("K.mean", "K.std", "K.max", "K.sum", "tf.reduce_mean"))
        return f"{name}({inner}, axis={axis}, keepdims=True)"
    return rng.choice(
        (
            f"K.clip({inner}, -1.5, 2)",
            f"K.relu({inner}, max_value=6)",
            f"K.l2_normalize({inner}, axis=-1)",
            f"K.concatenate([{inner}, x], axis=1)",
            f"tf.cast({inner}, tf.float32)",
            f"tf.nn.relu({inner})",
            f"K.softmax({inner})",
        )
    )


def constant(rng: random.Random) -> str:
    """The text of a number, of a formula of numbers, or of an array of three."""
    return rng.choice(
        (
            f"{rng.uniform(-3, 3):.3f}",
            str(rng.randrange(1, 256)),
            "127.5",
            "1/2",
            "2**3",
            "-(7 // 2)",
            "np.array([5.5, -7.25, 11.])",
            "np.float32(0.1)",
            "[0.5, 1., 2.]",
            "float(3)",
            "np.pi",
        )
    )


def damaged(rng: random.Random, data: bytes) -> bytes:
    """A marshalled code object with one to three changes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randrange(max(len(changed), 1))
        kind = rng.randrange(6)
        if kind == 0:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[place] = rng.randrange(256)
        elif kind == 2:
            changed[place : place + rng.choice((1, 2, 4))] = b""
        elif kind == 3:
            changed[place:place] = rng.randbytes(rng.choice((1, 2, 4)))
        elif kind == 4:  # a huge length or number
            changed[place : place + 4] = struct.pack("<i", rng.choice((-1, 2**31 - 1, 10**6)))
        else:  # other bytes of the same object, as one instruction for another
            other, size = rng.randrange(len(changed)), rng.choice((2, 4, 8))
            changed[place : place + size] = changed[other : other + size]
        changed = changed or bytearray(b"c")
    return bytes(changed)
