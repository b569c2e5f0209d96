"""No chip's result depends on the other chips of its batch, whatever the operations of a model."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from keras import ops

from keras_files.apart import find_parts, is_pointwise
from keras_files.model_file import ModelError
from keras_files.network import Call, Layer, Network, Tensor
from keras_files.open_model import open_model

Ending = Callable[[Any, Any], Any]  # of an image (N, 6, 8, 3) and of the library's layers

MIXING: dict[str, Ending] = {
    "the largest of the batch": lambda x, layers: x / tf.reduce_max(x),
    "the mean of the batch": lambda x, layers: x - tf.reduce_mean(x, axis=0, keepdims=True),
    "the first chip": lambda x, layers: x - x[:1],
    "reversed by a slice": lambda x, layers: x[::-1],
    "reversed": lambda x, layers: tf.reverse(x, [0]),
    "rolled": lambda x, layers: tf.concat([x[1:], x[:1]], 0),
    "softmax over the batch": lambda x, layers: tf.nn.softmax(x, axis=0),
    "two in the first axis": lambda x, layers: layers.Concatenate(axis=0)([x, -x]),
}
MIXING_KERAS_3: dict[str, Ending] = {
    "the largest of the batch": lambda x, layers: x / ops.max(x),
    "the mean of the batch": lambda x, layers: x - ops.mean(x, axis=0, keepdims=True),
    "the first chip": lambda x, layers: x - ops.take(x, [0], axis=0),
    "reversed": lambda x, layers: ops.flip(x, axis=0),
    "everything": lambda x, layers: x - ops.max(ops.flip(layers.Activation("relu")(x), axis=0)),
}
APART: dict[str, Ending] = {
    "the largest of a chip": lambda x, layers: x / tf.reduce_max(x, axis=[1, 2, 3], keepdims=True),
    "a size of its own": lambda x, layers: tf.reshape(x, [-1, tf.shape(x)[1] * 8, 3]),
    "rows as chips and back": lambda x, layers: tf.reshape(
        layers.Dense(3)(tf.reshape(x, [-1, 24])), [-1, 6, 3]
    ),
}


def saved(library: Any, ending: Ending, folder: Path) -> Path:
    """Save a classifier with such a part, and return the file."""
    start = library.layers.Input((6, 8, 3))
    x = library.layers.Conv2D(3, 3, padding="same")(start)
    y = library.layers.Flatten()(ending(x, library.layers))
    model = library.Model(start, library.layers.Dense(2, activation="softmax")(y))
    model.save(folder / "model.h5")
    return folder / "model.h5"


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_chips_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="depends on the other chips"):
        open_model(saved(tf_keras, MIXING[name], tmp_path)).build()


@pytest.mark.parametrize("name", MIXING_KERAS_3)
def test_what_mixes_chips_in_keras_3_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="depends on the other chips|cannot be computed"):
        open_model(saved(keras, MIXING_KERAS_3[name], tmp_path)).build()


@pytest.mark.parametrize("name", APART)
def test_what_keeps_chips_apart_is_computed(name: str, tmp_path: Path) -> None:
    path = saved(tf_keras, APART[name], tmp_path)
    chips = np.random.default_rng(1).uniform(0, 255, (4, 6, 8, 3)).astype(np.float32)
    right = tf_keras.models.load_model(path, compile=False).predict(chips, verbose=0)
    np.testing.assert_allclose(open_model(path).build()(chips), right, atol=1e-5)


def operation(name: str, *names: str) -> Call:
    """Return a call of an operation on the results of others."""
    layer = Layer("Operation", name, {"function": "math.add"})
    return Call(layer, name, 0, [[Tensor(one, 0, 0) for one in names]], {})


def test_connected_operations_are_one_part_and_its_outputs_those_used_elsewhere() -> None:
    dense = Call(Layer("Dense", "dense", {}), "dense", 0, [Tensor("b", 0, 0)], {})
    calls = [operation("a", "in"), operation("b", "a", "in"), dense, operation("c", "dense")]
    network = Network([], calls, [Tensor("in", 0, 0)], [Tensor("c", 0, 0)], [None])
    first, second = find_parts(network)
    assert (first.calls, second.calls) == (calls[:2], calls[3:])
    assert (first.inputs, first.outputs) == ([Tensor("in", 0, 0)], [Tensor("b", 0, 0)])
    assert (second.inputs, second.outputs) == ([Tensor("dense", 0, 0)], [Tensor("c", 0, 0)])


def test_parts_that_meet_later_are_joined() -> None:
    calls = [operation("a", "in"), operation("b", "in"), operation("c", "a", "b")]
    network = Network([], calls, [Tensor("in", 0, 0)], [Tensor("c", 0, 0)], [None])
    (part,) = find_parts(network)
    assert part.calls == calls


def test_operations_on_each_value_need_no_computing() -> None:
    calls = [operation("a", "in", "other"), operation("b", "a")]
    part = Network([call.layer for call in calls], calls, [], [], [])
    assert is_pointwise(part, {4})
    assert not is_pointwise(part, {2, 4})  # (chips, n) meets the last two axes of the other
    calls[1].args.append([[[[1.0]]], [[[2.0]]]])  # a constant with an axis for the chips
    assert not is_pointwise(part, {4})
    calls[1].args.pop()
    calls[0].layer.config["function"] = "reverse"
    assert not is_pointwise(part, {4})
