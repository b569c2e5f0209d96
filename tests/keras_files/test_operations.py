"""The tables of operations name what TensorFlow has, with the arguments that it has."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from tensorflow.python.framework import op_def_registry

from keras_files.model_file import ModelError
from keras_files.network import Layer
from keras_files.open_model import open_model
from keras_files.operations import (
    GRAPH_OPERATIONS,
    KERAS3_ACTIVATIONS,
    KERAS3_OPERATIONS,
    OPERATIONS,
    convert_operation,
)

# Attributes that tf.raw_ops tells from the inputs, or that matter in training alone.
INFERRED = {"N", "T", "T1", "T2", "Tcrops", "Tidx", "Tlen", "Tmultiples", "Tpaddings", "Tperm"}
INFERRED |= {
    "SrcT",
    "Tblock_shape",
    "Tdim",
    "Tindices",
    "Tparams",
    "Tshape",
    "Taxis",
    "Tshift",
    "Index",
}


@pytest.mark.parametrize("name", GRAPH_OPERATIONS)
def test_a_node_has_its_inputs_first_and_its_attributes_by_name(name: str) -> None:
    node, function = op_def_registry.get(name), getattr(tf.raw_ops, name)
    names = list(inspect.signature(function).parameters)
    attributes = {attribute.name: {"i": "1"} for attribute in node.attr}
    layer = Layer("TensorFlowOpLayer", "odd", {})
    layer.config = {"node_def": {"op": name, "attr": attributes}, "constants": {}}
    convert_operation(layer)
    given = layer.config["arguments"].keys() - INFERRED
    assert given <= set(names[len(node.input_arg) :])
    assert set(names) == given | set(names[: len(node.input_arg)]) | {"name"}


def test_nodes_without_a_name_of_their_own_are_known_operations() -> None:
    named = {name for name in GRAPH_OPERATIONS.values() if not name.startswith("raw_ops.")}
    assert len(named) > 50
    assert named <= OPERATIONS


def test_attributes_are_read_from_the_forms_of_json() -> None:
    attributes = {
        "strides": {"list": {"i": ["1", "2", "2", "1"]}},
        "padding": {"s": "U0FNRQ=="},
        "squeeze_dims": {"list": {}},
        "DstT": {"type": "DT_HALF"},
        "epsilon": {"f": 0.5},
        "keep_dims": {"b": True},
    }
    layer = Layer("TensorFlowOpLayer", "odd", {})
    layer.config = {"node_def": {"op": "MaxPool", "attr": attributes}, "constants": {"1": [3]}}
    convert_operation(layer)
    assert layer.config["arguments"] == {
        "strides": [1, 2, 2, 1],
        "padding": "SAME",
        "axis": [],
        "DstT": "float16",
        "epsilon": 0.5,
        "keep_dims": True,
    }
    assert layer.config["constants"] == {1: [3]}


# Operations of Keras 3 that have arguments, on images x (N, 6, 6, 4) from 0 to 1.
WITH_ARGUMENTS: dict[str, Callable[[Any], Any]] = {
    "All": lambda x: ops.all(x > 0.05, axis=-1),
    "Amax": lambda x: ops.amax(x, axis=[1, 2], keepdims=True),
    "Amin": lambda x: ops.amin(x, axis=-1),
    "Any": lambda x: ops.any(x > 0.9, axis=-1),
    "Argmax": lambda x: ops.argmax(x, axis=-1),
    "Argmin": lambda x: ops.argmin(x, axis=1),
    "Average": lambda x: ops.average(x, axis=1),
    "AveragePool": lambda x: ops.average_pool(x, 2, 3, padding="same"),
    "Cast": lambda x: ops.cast(x > 0.5, "float32"),
    "Clip": lambda x: ops.clip(x, 0.2, 0.5),
    "Concatenate": lambda x: ops.concatenate([x, 2 * x], axis=1),
    "Conjugate": ops.conj,
    "Conv": lambda x: ops.conv(x, np.ones((3, 3, 4, 2), "float32") / 9, padding="same"),
    "CountNonzero": lambda x: ops.count_nonzero(x > 0.5, axis=1),
    "Cross": lambda x: ops.cross(x[..., :3], x[..., 1:]),
    "Cumprod": lambda x: ops.cumprod(x, axis=1),
    "Cumsum": lambda x: ops.cumsum(x, axis=-1),
    "DepthToSpace": lambda x: ops.depth_to_space(x, 2),
    "Diff": lambda x: ops.diff(x, n=2, axis=1),
    "Dot": lambda x: ops.dot(x, np.eye(4, dtype="float32")[:, ::-1] * 0.5),
    "Einsum": lambda x: ops.einsum("nijc,njkc->nikc", x, ops.tanh(x)),
    "ExpandDims": lambda x: ops.expand_dims(x, 2),
    "Flip": lambda x: ops.flip(x, axis=2),
    "Gelu": lambda x: ops.gelu(x, approximate=False),
    "GetItem": lambda x: x[:, 1:4, ..., 0],
    "Hstack": lambda x: ops.hstack([x, 2 * x]),
    "LeakyRelu": lambda x: ops.leaky_relu(x - 0.5, 0.3),
    "LogSoftmax": lambda x: ops.log_softmax(x, axis=1),
    "Logsumexp": lambda x: ops.logsumexp(x, axis=-1),
    "Matmul": lambda x: ops.matmul(x[:, 0], x[:, :4, 1]),
    "Max": lambda x: ops.max(x, axis=1),
    "MaxPool": lambda x: ops.max_pool(x, 3, 2),
    "Mean": lambda x: ops.mean(x, axis=(1, 2)),
    "Min": lambda x: ops.min(x, axis=2, keepdims=True),
    "Moments": lambda x: ops.moments(x, axes=[1, 2])[1],
    "Moveaxis": lambda x: ops.moveaxis(x, 1, -1),
    "Norm": lambda x: ops.norm(x, axis=-1),
    "Normalize": lambda x: ops.normalize(x, axis=-1),
    "OneHot": lambda x: ops.one_hot(ops.argmax(x, axis=-1), 4),
    "Pad": lambda x: ops.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]]),
    "Prod": lambda x: ops.prod(x, axis=-1),
    "RGBToGrayscale": lambda x: ops.image.rgb_to_grayscale(x[..., :3]),
    "Repeat": lambda x: ops.repeat(x, 2, axis=1),
    "Reshape": lambda x: ops.reshape(x, (-1, 9, 16)),
    "Resize": lambda x: ops.image.resize(x, (9, 5)),
    "Roll": lambda x: ops.roll(x, 2, axis=1),
    "Rot90": lambda x: ops.rot90(x, k=1, axes=(1, 2)),
    "Softmax": lambda x: ops.softmax(x, axis=-1),
    "Sort": lambda x: ops.sort(x, axis=-1),
    "SpaceToDepth": lambda x: ops.space_to_depth(x, 2),
    "Split": lambda x: ops.split(x, 2, axis=-1)[1],
    "Squeeze": lambda x: ops.squeeze(x[..., :1], axis=-1),
    "Stack": lambda x: ops.stack([x, x * x], axis=2),
    "Std": lambda x: ops.std(x, axis=-1),
    "Sum": lambda x: ops.sum(x, axis=[1, 2, 3]),
    "Swapaxes": lambda x: ops.swapaxes(x, 1, 3),
    "Take": lambda x: ops.take(x, [3, 0], axis=-1),
    "Tensordot": lambda x: ops.tensordot(x, np.ones((4, 2), "float32"), axes=1),
    "Tile": lambda x: ops.tile(x, [1, 2, 1, 1]),
    "Transpose": lambda x: ops.transpose(x, (0, 3, 1, 2)),
    "Tril": lambda x: ops.tril(x, k=1),
    "Triu": lambda x: ops.triu(x, k=-1),
    "Unstack": lambda x: ops.unstack(x, axis=1)[2],
    "Var": lambda x: ops.var(x, axis=[1]),
    "Where": lambda x: ops.where(x > 0.5, x, 3 * x),
}


def apply_operation(kind: str, x: Any) -> Any:
    """Return an operation of Keras 3 of an image, or of it and another one."""
    if kind in WITH_ARGUMENTS:
        return WITH_ARGUMENTS[kind](x)
    function = getattr(ops, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).lower())
    needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    if kind.startswith("Logical"):
        return function(*[x > 0.3, x > 0.6][: len(needed)])
    return function(*[x, 1.5 - x][: len(needed)])


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("Norm", {"axis": -1, "keepdims": False, "ord": 0}),
        ("Cross", {"axis": 0, "axisa": -1, "axisb": -1, "axisc": -1}),
        ("Normalize", {"axis": -1, "order": 1}),
        ("Round", {"decimals": 1}),
    ],
)
def test_an_operation_of_keras_3_with_other_arguments_is_refused(
    kind: str, config: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match="cannot be computed here"):
        convert_operation(Layer(kind, "layer", config))


def test_operations_of_keras_3_are_computed_as_it_does(tmp_path: Path) -> None:
    """All in one model, whose outputs are those of each, one after the other."""
    start = keras.layers.Input((6, 6, 4))
    x, ends = keras.layers.Activation("linear")(start), {}
    for kind in [*KERAS3_OPERATIONS, *KERAS3_ACTIVATIONS]:
        y = ops.cast(apply_operation(kind, x), "float32")
        ends[kind] = keras.layers.Flatten()(y)
    model = keras.Model(start, keras.layers.Concatenate()(list(ends.values())))
    stored = {entry["class_name"] for entry in model.get_config()["layers"]}
    assert {*KERAS3_OPERATIONS, *KERAS3_ACTIVATIONS} <= stored
    model.save(tmp_path / "model.keras")
    chips = np.random.default_rng(1).uniform(0, 1, (3, 6, 6, 4)).astype(np.float32)
    right, found = model.predict(chips, verbose=0), open_model(tmp_path / "model.keras").build()
    computed, place = np.asarray(found(chips)), 0
    for kind, end in ends.items():
        part = slice(place, place + end.shape[1])
        place += end.shape[1]
        np.testing.assert_allclose(
            computed[:, part], right[:, part], rtol=1e-4, atol=1e-5, err_msg=kind
        )
