"""Lambda layers: the same numbers as their code gives when Python runs it, or a refusal by name."""

from __future__ import annotations

import inspect
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1] / "measure"))

import fuzz_lambdas
import keras
import tensorflow as tf
from keras import ops
from tf_keras import backend as K

from keras_files import code_object, lambda_functions, lambda_machine, symbols
from keras_files.model_file import ModelError
from keras_files.network import Era
from keras_files.operations import OPERATIONS
from lambda_code import TF_KERAS, compute, layer_of, layer_of_bytes, marshalled, text_of

np_ = np
SCALE = 255.0
KERAS_3 = Era(3, "3.15.1", "tensorflow", "channels_last")
THEANO = Era(1, "1.2.2", "theano", "channels_first")
Formula = Callable[..., Any]


@pytest.fixture
def x() -> np.ndarray:
    """Four images of 6 x 8 pixels, values of both signs."""
    return np.random.default_rng(1).normal(0, 60, (4, 6, 8, 3)).astype(np.float32)


def assert_same(layer: Any, expected: Any, x: np.ndarray, **how: Any) -> None:
    """Compare a Lambda layer with what it should give; float32 may be added up in another order."""
    found, expected = compute(layer, x, **how), np.reshape(expected, (len(x), -1))
    assert found.shape == expected.shape
    scale = max(1.0, float(np.nanmax(np.abs(expected))))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * scale)


def with_locals(x: Any) -> Any:
    """A function of several lines, which Keras stores as it does a lambda."""
    red, green, blue = tf.split(x, 3, axis=-1)
    mean = (red + green + blue) / 3
    red, green = green - mean, red - mean
    return tf.concat([red, green, blue], -1)


def with_imports(x: Any) -> Any:
    """One that imports what it computes with."""
    import numpy as np
    import tensorflow as tf
    from tensorflow.keras import backend as K

    mean = np.array([1.0, 2.0, 3.0])
    return tf.abs(K.square(x) - mean)


def in_place(x: Any) -> Any:
    """One with += and its like."""
    x /= 127.5
    x -= 1.0
    x *= 2
    return x


FORMULAS: dict[str, Formula] = {
    "scaled": lambda x: x / 127.5 - 1,
    "int and float": lambda x: (3 - x) * 2 // 7 + x % 5 - 2**-1,
    "large numbers": lambda x: (x * 3000000000 - 5000000000) / 12345678901,
    "power": lambda x: (abs(x) + 1) ** 0.5 + 2 ** (x / 100.0),
    "minus": lambda x: -x * -float(3) + (+float(3)),
    "constants": lambda x: x * (1 / 2 + 7 // 2 - 2**3 + 10 % 4) + float(3) - int(2.7),
    "array of NumPy": lambda x: (x - np.array([5.5, -7, 11])) / np.array([58.4, 57, 57.375]),
    "arithmetic of NumPy": lambda x: x - np.array([1, 2, 3]) / 255.0 * np.pi + np.float32(0.1),
    "list": lambda x: x - [103.939, 116.779, 123.68],
    "bands": lambda x: x[..., ::-1] + x[:, :, :, 0][..., None] - x[:, 0:1, -1:, 1:2],
    "slices": lambda x: x[:, 1:-1, ::2, :] * 2,
    "new axis": lambda x: x[:, None, :, :, np.newaxis, 0],
    "K.mean": lambda x: (x - K.mean(x, axis=[1, 2, 3], keepdims=True)) / K.std(x, [1, 2, 3], True),
    "K.var": lambda x: K.var(x, axis=-1) + K.max(x, axis=3) - K.min(x, -1) + K.sum(x, (3,)),
    "K.sqrt": lambda x: K.sqrt(x) + K.log(K.abs(x) + K.epsilon()) + K.sign(x),
    "K.clip": lambda x: K.clip(x, -60.0, 80) / K.clip(x, 5, 2) + K.clip(x, 1, None),
    "K.relu": lambda x: K.relu(x) + K.relu(x, 0.1) + K.relu(x, max_value=6) + K.relu(x, 0.2, 9.0),
    "K activations": lambda x: K.elu(x, 0.5) + K.hard_sigmoid(x) + K.softplus(x) + K.softsign(x),
    "K.softmax": lambda x: K.softmax(x) + K.softmax(x, axis=1) + K.tanh(x) + K.sigmoid(x),
    "K.l2_normalize": lambda x: K.l2_normalize(x, axis=-1) + K.l2_normalize(x, 2),
    "K.concatenate": lambda x: K.concatenate([x, -x, x * x], axis=-1) / 100.0,
    "K shapes": lambda x: K.squeeze(K.expand_dims(K.permute_dimensions(x, (0, 2, 1, 3)), 1), 1),
    "K.reshape": lambda x: K.reshape(x, (-1, 48, 3)) + K.reverse(K.reshape(x, [-1, 48, 3]), 1),
    "K.stack": lambda x: K.stack([x, x + 1], axis=1),
    "K.batch_flatten": lambda x: K.batch_flatten(x) * K.pow(2.0, 3),
    "K.cast": lambda x: K.cast(x, "float32") + K.cast(x, K.floatx()),
    "K.resize_images": lambda x: K.resize_images(x, 2, 3, data_format="channels_last"),
    "K.batch_dot": lambda x: (
        K.batch_dot(K.reshape(x, (-1, 48, 3)), K.reshape(x, (-1, 48, 3)), axes=[1, 1])
        + K.batch_dot(K.reshape(x, (-1, 3, 48)), K.reshape(x, (-1, 48, 3)))
        + K.expand_dims(K.batch_dot(K.batch_flatten(x), K.batch_flatten(x), axes=1), 2)
    ),
    "tf.einsum": lambda x: tf.einsum("bhwc,bhwd->bcd", x, x / 100.0),
    "K.maximum": lambda x: K.maximum(x, 0) + K.minimum(x, 1.0) + K.exp(x / 100) + K.square(x),
    "tf arithmetic": lambda x: tf.add(tf.subtract(x, 1), tf.multiply(x, 2)) / tf.maximum(x, 1),
    "tf.reduce_mean": lambda x: (
        tf.reduce_mean(x, axis=[1, 2], keepdims=True)
        - tf.math.reduce_std(x, axis=[1, 2, 3], keepdims=True)
    ),
    "tf.cast": lambda x: tf.cast(x, tf.float32) / 255 + tf.cast(x, dtype="float32"),
    "tf.constant": lambda x: (x - tf.constant([1.0, 2.0, 3.0])) * tf.constant(0.5),
    "tf.nn": lambda x: tf.nn.relu6(x) + tf.nn.leaky_relu(x) + tf.nn.elu(x) + tf.nn.swish(x / 9),
    "tf.nn.softmax": lambda x: tf.nn.softmax(x, axis=-1) + tf.nn.log_softmax(x, -1),
    "tf.nn.l2_normalize": lambda x: tf.nn.l2_normalize(x, -1) + tf.math.l2_normalize(x, axis=[1]),
    "tf.nn.moments": lambda x: tf.nn.moments(x, [1, 2], keepdims=True)[1],
    "tf.nn.lrn": lambda x: tf.nn.local_response_normalization(x, 2, alpha=1e-3, beta=0.75),
    "tf.nn.max_pool": lambda x: tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME"),
    "tf.image.resize": lambda x: (
        tf.image.resize(x, (16, 5)) + tf.image.resize(x, [16, 5], "nearest")
    ),
    "tf.image": lambda x: tf.image.rgb_to_grayscale(x) + tf.image.per_image_standardization(x),
    "tf shapes": lambda x: tf.transpose(tf.reverse(x, axis=[-1]), perm=[0, 2, 1, 3]),
    "tf.expand_dims": lambda x: tf.squeeze(tf.expand_dims(x, axis=1), axis=[1]),
    "tf.pad": lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 3], [0, 0]], constant_values=5),
    "tf.gather": lambda x: tf.gather(x, [2, 1, 0, 0], axis=-1),
    "decided": lambda x, mode="tf": x / 127.5 - 1 if mode == "tf" else x,
    "lrn by place": lambda x: tf.nn.lrn(x, 2, 1.5, 1e-3, 0.75),
    "tf.tile": lambda x: tf.tile(x, [1, 1, 2, 1]) + 1,
    "tf.where": lambda x: tf.where(x > 0, x, 0.1 * x) + tf.cast(x <= 3, tf.float32),
    "tf.keras": lambda x: tf.keras.backend.mean(x, axis=-1) + keras.backend.epsilon(),
    "tf.nn.depth_to_space": lambda x: tf.nn.depth_to_space(tf.concat([x, x, x, x], 3), 2),
    "named arguments": lambda x: tf.clip_by_value(x, clip_value_min=-3, clip_value_max=3, name="c"),
    "default": lambda x, scale=0.5, shift=(1, 2, 3): x * scale + shift,
    "locals": with_locals,
    "imports": with_imports,
    "in place": in_place,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formula_gives_what_python_gives(name: str, x: np.ndarray) -> None:
    assert_same(layer_of(FORMULAS[name]), FORMULAS[name](tf.constant(x)), x)


KERAS_3_FORMULAS: dict[str, Formula] = {
    "ops": lambda x: ops.clip(ops.abs(x) / 9.0, 1, 2) + ops.flip(x, axis=-1) + ops.sqrt(x * x),
    "ops.mean": lambda x: (
        (x - ops.mean(x, axis=(1, 2, 3), keepdims=True)) / ops.std(x, axis=[1], keepdims=True)
    ),
    "keras.ops": lambda x: keras.ops.concatenate([x, keras.ops.relu(x)], axis=1) * 2,
    "ops shapes": lambda x: ops.transpose(ops.expand_dims(x, -1), (0, 2, 1, 4, 3)),
    "ops.take": lambda x: ops.take(x, [2, 0], axis=-1) + ops.gelu(x[..., :1]),
}


@pytest.mark.parametrize("name", KERAS_3_FORMULAS)
def test_formula_of_keras_3_gives_what_python_gives(name: str, x: np.ndarray) -> None:
    function = KERAS_3_FORMULAS[name]
    assert_same(layer_of(function), function(tf.constant(x)), x, era=KERAS_3)


def test_several_inputs_are_taken_by_their_place_or_by_unpacking(x: np.ndarray) -> None:
    def unpacked(both: Any) -> Any:
        left, right = both
        return right - left / 4

    for function in (lambda t: (t[0] + t[1]) / 2, lambda t: K.concatenate(t), unpacked):
        expected = function([tf.constant(x), tf.constant(2 * x)])
        assert_same(layer_of(function), expected, x, inputs=2)


def test_constants_of_closure_and_arguments(x: np.ndarray) -> None:
    scale, shift = 0.25, [1.0, 2.0, 3.0]
    assert_same(layer_of(lambda x: x * scale + shift), x * scale + shift, x)
    layer = layer_of(lambda x, scale, shift=0: (x + shift) * scale, scale=0.5, shift=-20)
    assert_same(layer, (x - 20) * 0.5, x)
    array = {"type": "ndarray", "value": [1, 2, 3]}
    assert_same(layer_of(lambda x, mean: x - mean, mean=array), x - [1, 2, 3], x)


def test_axes_are_those_of_a_channels_first_model(x: np.ndarray) -> None:
    first = x.transpose(0, 3, 1, 2)
    for function in (
        lambda x: x[:, ::-1, 1:, :] / 127.5,
        lambda x: K.mean(x, axis=1, keepdims=True) - x,
        lambda x: K.permute_dimensions(x, (0, 2, 3, 1)),
    ):
        layer = layer_of(function)
        found = compute(layer, x, era=THEANO)
        np.testing.assert_allclose(
            found, np.reshape(function(tf.constant(first)), (4, -1)), rtol=1e-5, atol=1e-4
        )


# Other versions of Python

HALF = (None, 1, 2)  # x + 1 / 2


@pytest.mark.parametrize(
    ("version", "code", "constants", "names", "expected"),
    [
        # LOAD_FAST 0, LOAD_CONST 1, LOAD_CONST 2, BINARY_DIVIDE, BINARY_ADD, RETURN_VALUE
        ((2, 7), b"|\0\0d\1\0d\2\0\x15\x17S", HALF, [], lambda x: x),
        # the same with BINARY_TRUE_DIVIDE: from __future__ import division
        ((2, 7), b"|\0\0d\1\0d\2\0\x1b\x17S", HALF, [], lambda x: x + 0.5),
        ((2, 7), b"|\0\0d\1\0d\2\0\x15\x17S", (None, -7, 2), [], lambda x: x - 4),
        ((2, 7), b"|\0\0d\1\0d\2\0\x15\x17S", (None, 1.0, 2), [], lambda x: x + 0.5),
        # x / 2: of an array of floats it is as ever
        ((2, 7), b"|\0\0d\1\0\x15S", (None, 2), [], lambda x: x / 2),
        # K.mean(x, axis=-1): names of arguments among the values
        (
            (2, 7),
            b"t\0\0j\1\0|\0\0d\1\0d\2\0\x83\1\1S",
            (None, "axis", -1),
            ["K", "mean"],
            lambda x: x.mean(-1),
        ),
        (
            (3, 5),
            b"t\0\0j\1\0|\0\0d\1\0d\2\0\x83\1\1S",
            (None, "axis", -1),
            ["K", "mean"],
            lambda x: x.mean(-1),
        ),
        ((3, 5), b"|\0\0d\1\0d\2\0\x1b\x17S", HALF, [], lambda x: x + 0.5),
        ((3, 6), b"|\0d\1d\2\x1b\0\x17\0S\0", HALF, [], lambda x: x + 0.5),
    ],
)
def test_code_of_another_python(
    version: tuple[int, int],
    code: bytes,
    constants: tuple[Any, ...],
    names: list[str],
    expected: Formula,
    x: np.ndarray,
) -> None:
    data = marshalled(version, code, list(constants), names, ["x"])
    assert_same(layer_of_bytes(data), expected(x), x)
    layer = layer_of_bytes(data)
    layer.config["function"][0] = data.decode("raw_unicode_escape")  # as Keras 1 kept it
    assert_same(layer, expected(x), x)


def test_an_instruction_has_the_same_number_wherever_the_form_is_the_same() -> None:
    """Why it need not be known which of several Pythons wrote a code object."""
    from xdis.op_imports import get_opcode_module
    from xdis.version_info import PythonImplementation

    # Those that no function has without a SETUP_FINALLY, or a jump forward, before them.
    unreached = {"CALL_FINALLY", "POP_JUMP_BACKWARD_IF_NOT_NONE"}
    known = {*lambda_machine.INSTRUCTIONS, "RETURN_VALUE", "RETURN_CONST"}
    groups = [((3, 4), (3, 5)), ((3, 6), (3, 7)), ((3, 8), (3, 9), (3, 10)), ((3, 11), (3, 12))]
    for group in groups:
        tables = [get_opcode_module(v, PythonImplementation.CPython).opname for v in group]
        for names in zip(*tables):
            possible = {name for name in names if not name.startswith("<")} - unreached
            # jumps forward from 3.11 on, by the same number of instructions
            possible = {name.replace("JUMP_FORWARD_IF", "JUMP_IF") for name in possible}
            assert len(possible) <= 1 or not possible & known, names


# Decided by constants: code of real Pythons, see jumps.json


def joined(x: Any, mode: str = "tf", scale: float | None = None) -> Any:
    """The first function of jumps.json."""
    if mode == "tf":
        x = x / 127.5
        y = x - 1
    elif mode in ("torch", "caffe"):
        y = x * 2.0
    else:
        y = x + 7.0
    if scale is not None:
        y = y * scale
    return y


def chosen(x: Any, s: float = 1) -> Any:
    """The second one, which is a lambda there."""
    return x * 2.0 if s > 1 else x + 3.0


JUMPS = json.loads((Path(__file__).parent / "jumps.json").read_text())
CHOICES: list[tuple[int, dict[str, Any]]] = [
    (0, {}),
    (0, {"mode": "caffe", "scale": 3.0}),
    (0, {"mode": "other"}),
    (1, {}),
    (1, {"s": 2}),
]


@pytest.mark.parametrize("version", JUMPS)
def test_what_constants_decide_is_computed(version: str, x: np.ndarray) -> None:
    for number, arguments in CHOICES:
        function = (joined, chosen)[number]
        stored = [JUMPS[version][number], list(function.__defaults__ or ()), None]
        layer = layer_of(function)
        layer.config = {"function": stored, "arguments": arguments}
        assert_same(layer, function(x, **arguments), x)


def with_alias(x: Any) -> Any:
    """One whose constant has two names when it is changed."""
    mean = np.array([1.0, 2.0, 3.0])
    shifted = mean
    shifted += 1
    return x - mean


# Refusals


def with_loop(x: Any) -> Any:
    """One with a loop."""
    for _ in range(3):
        x = x / 2
    return x


def with_generator(x: Any) -> Any:
    """A generator."""
    yield x


def with_inner_function(x: Any) -> Any:
    """One that holds another function."""

    def inner(y: Any) -> Any:
        return y + x

    return inner(x)


REFUSED: dict[str, tuple[Formula, str]] = {
    "global": (lambda x: x / SCALE, "'SCALE'"),
    "eval": (lambda x: eval("x / 255."), "'eval'"),
    "import": (lambda x: __import__("os").getpid() * x, "'__import__'"),
    "len": (lambda x: x * len("abc"), "'len'"),
    "if": (lambda x: x if SCALE else -x, "'SCALE'"),
    "if of an array": (lambda x: x / 2 if x else x, "JUMP"),
    "loop": (with_loop, "'range'"),
    "and": (lambda x: x and 2, "JUMP"),
    "generator": (with_generator, "no plain value"),
    "inner function": (with_inner_function, "another function"),
    "method": (lambda x: x.astype("float32"), "'.astype'"),
    "shape": (lambda x: x / x.shape[1], "'.shape'"),
    "random": (lambda x: x + tf.random.normal([3]), "'tf.random.normal'"),
    "file": (lambda x: x + tf.io.read_file("/dev/null"), "'tf.io.read_file'"),
    "code": (lambda x: x * np.load.__code__.co_argcount, "np.load.__code__"),
    "method of a function": (lambda x: tf.nn.relu.__call__(x), "'.__call__'"),
    "module": (lambda x: x / K, "K"),
    "unknown of K": (lambda x: K.eval(x), "'K.eval'"),
    "integers": (lambda x: tf.cast(x, tf.uint8), "'tf.uint8'"),
    "text": (lambda x: x * "3", "str"),
    "list times number": (lambda x: x - [1, 2] * 2, "list"),
    "huge number": (lambda x: x * 10**20, "60 bits"),
    "negative huge number": (lambda x: x - -(10**12), "31 if negative"),
    "zero": (lambda x: x + float(0) ** -1, "a number that is none"),
    "no array": (lambda x: 3.0, "does not depend"),
    "equal": (lambda x: tf.cast(x == 0, tf.float32), "compares"),
    "in place under another name": (with_alias, "in place"),
    "array[True]": (lambda x: x - np.array([1.0, 2.0, 3.0])[True], "part"),
    "tuple or list": (lambda x, size=(1, 2): x if size == (1, 2) else -x, "compares"),
    "fourth parameter of resize": (
        lambda x: tf.image.resize(x, [3, 4], "bilinear", True),
        "other arguments",
    ),
    "third parameter of gather": (lambda x: tf.gather(x, [0], 1), "other arguments"),
    "third parameter of moments": (lambda x: tf.nn.moments(x, [1], True)[0], "other arguments"),
    "matrix product": (lambda x: x @ x, "operator"),
    "too few arguments": (lambda x, scale: x * scale, "'scale'"),
    "named only": (lambda x, *, b=1: x * b, "by their names"),
    "training": (lambda x, training=None: x, "'training'"),
    "stars": (lambda *x: x[0], "parameters"),
    "unknown argument": (lambda x: tf.abs(x, 3), "other arguments"),
    "mean of the batch": (lambda x: x - K.mean(x), "mixes the chips"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_arithmetic_is_refused_by_its_name(name: str, x: np.ndarray) -> None:
    function, word = REFUSED[name]
    with pytest.raises(ModelError, match="layer 'odd'.*runs Python code") as refusal:
        compute(layer_of(function), x)
    assert word in str(refusal.value)


MIXING: list[Formula] = [
    lambda x: x - K.mean(x, axis=0, keepdims=True),
    lambda x: x / K.max(x, axis=[0, 1, 2, 3], keepdims=True),
    lambda x: x[::-1],
    lambda x: x - x[0],
    lambda x: K.reshape(x, (-1, 3)),
    lambda x: K.softmax(x, axis=0),
    lambda x: tf.reverse(x, [0]),
    lambda x: K.permute_dimensions(x, (1, 0, 2, 3)),
    lambda x: x / K.max(x, axis=[1, 2, 3]),
    lambda x: tf.maximum(2, 3),
    lambda x: tf.math.log(x) - tf.reduce_mean(tf.math.log(x), [0], keepdims=True),
]


@pytest.mark.parametrize("function", MIXING)
def test_a_result_that_depends_on_other_chips_is_refused(function: Formula, x: np.ndarray) -> None:
    with pytest.raises(ModelError, match="other chips|cannot be computed|does not fix"):
        compute(layer_of(function), x)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (
            {"function": "preprocess", "function_type": "function"},
            "name of a function, 'preprocess'",
        ),
        (
            {"function": {"class_name": "function", "config": "scale"}},
            "name of a function, 'scale'",
        ),
        ({"function": ["4wA", None, None]}, "damaged"),
        ({"function": ["A" * 10**6, None, None]}, "characters"),
        ({"function": [text_of((lambda x: x).__code__), None, [3]]}, "closure"),
        ({"function": [text_of((lambda x: x).__code__), None, None], "arguments": {"b": 1}}, "'b'"),
    ],
)
def test_layer_without_usable_code_is_refused(
    config: dict[str, Any], word: str, x: np.ndarray
) -> None:
    layer = layer_of(lambda x: x)
    layer.config = config
    with pytest.raises(ModelError) as refusal:
        compute(layer, x)
    assert word in str(refusal.value)


def test_resize_is_refused_where_the_version_does_not_tell_which(x: np.ndarray) -> None:
    layer = layer_of(lambda x: tf.image.resize(x, (16, 16)))
    with pytest.raises(ModelError, match="TensorFlow 1 or 2"):
        compute(layer, x, era=Era(2, "2.2.4-tf", "tensorflow", "channels_last"))
    old = layer_of(lambda x: tf.image.resize_bilinear(x, (9, 5)))
    expected = tf.compat.v1.image.resize_bilinear(x, (9, 5))
    assert_same(old, expected, x, era=Era(2, "2.2.4", "tensorflow", "channels_last"))


@pytest.mark.parametrize("era", [THEANO, TF_KERAS])
def test_relu_of_a_negative_slope_with_a_limit_is_refused(era: Era, x: np.ndarray) -> None:
    """Theano's minimum(x, max_value) comes last; TensorFlow's is for what is above 0 alone."""
    with pytest.raises(ModelError, match="the slope is below 0"):
        compute(layer_of(lambda x: K.relu(x, alpha=-0.5, max_value=6.0)), x, era=era)


def test_every_function_of_the_table_is_an_allowed_operation() -> None:
    """A name that OPERATIONS lacks would be refused only when a file has it."""
    tensor = symbols.Graph("odd", 1, TF_KERAS).inputs[0]
    tried = {
        "": [tensor],
        "axis": [tensor, 1],
        "two": [tensor, 2.0],
        "list": [[tensor, tensor], 1],
        "three": [tensor, 1, 2],
        "sizes": [tensor, [2, 3]],
        "pool": [tensor, 2, 2, "SAME"],
        "images": [tensor, 2, 2, "channels_last"],
        "pairs": [tensor, [[0, 0]]],
        "number": [2.0],
        "type": [tensor, "float32"],
        "several": [[tensor, tensor]],
        "product": [tensor, tensor],
        "equation": ["nh,nh->nh", tensor, tensor],
        "none": [],
    }
    for path in lambda_functions.FUNCTIONS:
        reached = False
        for args in tried.values():
            graph = symbols.Graph("odd", 1, TF_KERAS)
            try:
                lambda_functions.call_function(graph, path, list(args), {})
                reached = True
            except code_object.CodeError as error:
                assert "not known to be mere arithmetic" not in str(error), path
        assert reached, path
    assert {"eval", "io.read_file"}.isdisjoint(OPERATIONS)


SIGNATURES = json.loads((Path(__file__).parent / "signatures.json").read_text())
SAME_PARAMETER = {"a": "y", "n": "multiples", "x1": "x", "x2": "y"}  # after the first one


@pytest.mark.parametrize("path", SIGNATURES)
def test_parameters_by_place_are_those_of_each_version(path: str) -> None:
    """As Keras 1.2.2 to 3.15 and TensorFlow 1.13 to 2.21 have them.

    What versions have in other orders can only be given by its name.
    """
    parameters = inspect.signature(lambda_functions.FUNCTIONS[path]).parameters.values()
    own = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
    for signature in SIGNATURES[path]:
        theirs = [name.lower() for name in signature.split()[: len(own)]]
        for mine, name in zip(own[1:], theirs[1:], strict=True):
            known = {name, lambda_functions.ARGUMENTS.get(name), SAME_PARAMETER.get(name)}
            # a name is a text, which is refused where a number is expected
            assert mine in known or name == "name", (path, signature)


def test_fuzz_of_formulas_and_damaged_code() -> None:
    """Right or refused, in time, and nothing is run: see tests/measure/fuzz_lambdas.py."""
    report = fuzz_lambdas.fuzz(300, random.Random(7))
    assert report.broken == []
    assert report.counts["formula: equal"] > 20
    assert report.counts["damaged: refused"] > 100
