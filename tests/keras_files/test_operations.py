"""The tables of operations name what TensorFlow has, with the arguments that it has."""

from __future__ import annotations

import inspect
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from keras_files.network import Layer
from keras_files.operations import GRAPH_OPERATIONS, OPERATIONS, convert_operation

# Attributes that tf.raw_ops tells from the inputs, or that matter in training alone.
INFERRED = {"N", "T", "T1", "T2", "Tcrops", "Tidx", "Tlen", "Tmultiples", "Tpaddings", "Tperm"}
INFERRED |= {"SrcT", "Tblock_shape", "Tdim", "Tindices", "Tparams", "Tshape", "Taxis", "Index"}


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
