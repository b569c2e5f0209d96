"""Nodes of TensorFlow's graph, computed as they are: see operations.GRAPH_OPERATIONS."""

from __future__ import annotations

import inspect
from typing import Any

import tensorflow as tf


def compute_node(name: str, attributes: dict[str, Any], inputs: list[Any]) -> Any:
    """Compute a node by its name in tf.raw_ops.

    Args:
        attributes: by name; the types of its inputs, and how many they are, need not be known.
        inputs: arrays and constants, in the order of the node.
    """
    function = getattr(tf.raw_ops, name)
    names = list(inspect.signature(function).parameters)
    if name == "ConcatV2":
        inputs = [inputs[:-1], inputs[-1]]
    elif name == "Concat":
        inputs = [inputs[0], inputs[1:]]
    elif name in ("AddN", "Einsum", "IdentityN", "Pack"):
        inputs = [inputs]
    given = {key: value for key, value in attributes.items() if key in names}
    return function(**dict(zip(names, inputs, strict=False)), **given)
