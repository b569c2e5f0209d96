"""Of several outputs of a model, the one that gives the classes is taken, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_files.open_model import ModelError, OpenedModel, open_model
from model_files import DENSE, REFERENCES, after, classified, graph, layer, save

CHIPS = np.random.default_rng(0).normal(size=(3, 12, 10, 3)).astype(np.float32)


def heads(keras: Any, image: Any) -> dict[str, Any]:
    """Return outputs of many kinds for one image, (N, 12, 10, 3), by what they are."""
    layers = keras.layers
    x = layers.Conv2D(6, 3, activation="relu")(image)
    pooled = layers.GlobalAveragePooling2D()(x)
    values = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 1)(x))
    return {
        "classes": layers.Dense(5, activation="softmax", name="classes")(pooled),
        "other classes": layers.Dense(5, name="others")(pooled),
        "box": layers.Dense(4, name="box")(layers.Flatten()(x)),
        "binary": layers.Dense(1, activation="sigmoid", name="binary")(pooled),
        "age": layers.Dense(1, name="age")(pooled),
        "convolution": layers.Activation("softmax", name="convolution")(values),
        "image": layers.Conv2D(5, 1, name="image")(x),
        "joined": layers.Concatenate(name="joined")([pooled, values]),
    }


def opened(keras: Any, names: list[str], classes: int | None, path: Path) -> tuple[Any, Any]:
    """Save a model with these outputs; return it as Keras has it, and opened."""
    keras.utils.set_random_seed(1)
    image = keras.layers.Input((12, 10, 3))
    outputs = heads(keras, image)
    model = keras.Model(image, [outputs[name] for name in names])
    model.save(path)
    return model, open_model(path, classes=classes)


def check(model: Any, found: OpenedModel, place: int) -> None:
    right = np.asarray(model(CHIPS, training=False)[place])
    np.testing.assert_allclose(found.build()(CHIPS), right, atol=1e-5)


@pytest.mark.parametrize(("library", "ending"), [("keras", "keras"), ("tf_keras", "h5")])
@pytest.mark.parametrize(
    ("names", "classes", "place"),
    [
        (["box", "classes"], 5, 1),
        (["classes", "image", "binary"], 5, 0),
        (["age", "convolution", "box"], 5, 1),
        (["box", "binary"], 2, 1),
    ],
)
def test_one_output_fits(
    library: str, ending: str, names: list[str], classes: int, place: int, tmp_path: Path
) -> None:
    keras = pytest.importorskip(library)
    model, found = opened(keras, names, classes, tmp_path / f"m.{ending}")
    check(model, found, place)
    (warning,) = found.warnings
    taken, left = warning.split("Left out:")
    assert f"Only output {place} ('{names[place]}'" in taken
    assert all(f"'{name}'" in left for name in names if name != names[place])


@pytest.mark.parametrize(
    ("names", "classes", "words"),
    [
        (["classes", "box"], None, ["output 0 ('classes', 5 values)", "name the classes"]),
        (["classes", "box"], 3, ["output 1 ('box', 4 values)", "none of them has 3"]),
        (
            ["box", "classes", "other classes"],
            5,
            ["outputs 1, 2 have values for 5", "model.outputs[1]"],
        ),
        (["age", "box"], 2, ["('age', 1 value)", "none of them has 2"]),
        (["binary", "box", "age"], 1, ["outputs 0, 2 have values for 1"]),
        (["joined", "classes"], 5, ["('joined', of unknown length)", "does not tell"]),
        (["image", "box"], 5, ["('image', an image)", "none of them has 5"]),
    ],
)
def test_none_or_several_outputs_fit(
    names: list[str], classes: int | None, words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as error:
        opened(pytest.importorskip("tf_keras"), names, classes, tmp_path / "m.h5")
    assert all(word in str(error.value) for word in words), str(error.value)


def test_dict_of_outputs_and_losses(tmp_path: Path) -> None:
    """The loss of the output that is taken counts: here the other one has probabilities."""
    keras = pytest.importorskip("keras")
    image = keras.layers.Input((12, 10, 3))
    outputs = heads(keras, image)
    model = keras.Model(image, {"kind": outputs["other classes"], "age": outputs["binary"]})
    losses = keras.losses
    loss = {
        "kind": losses.CategoricalCrossentropy(from_logits=True),
        "age": losses.BinaryCrossentropy(),
    }
    model.compile(loss=loss)
    model.save(tmp_path / "m.keras")
    kind = open_model(tmp_path / "m.keras", classes=5)
    assert "'kind'" in kind.warnings[0] and kind.head.owed == "softmax"
    assert open_model(tmp_path / "m.keras", classes=2).head.owed is None
    right = np.asarray(model(CHIPS, training=False)["kind"])
    np.testing.assert_allclose(kind.build()(CHIPS), right, atol=1e-5)


def test_model_within_that_has_several_outputs(tmp_path: Path) -> None:
    keras = pytest.importorskip("tf_keras")
    keras.utils.set_random_seed(2)
    image, start = keras.layers.Input((12, 10, 3)), keras.layers.Input((12, 10, 3))
    outputs = heads(keras, image)
    inner = keras.Model(image, [outputs["box"], outputs["classes"]])
    box, classes = inner(start)
    keras.Model(start, classes).save(tmp_path / "one.h5")
    check(inner, open_model(tmp_path / "one.h5"), 1)
    swapped = keras.Model(start, [classes, box])
    swapped.save(tmp_path / "two.h5")
    check(inner, open_model(tmp_path / "two.h5", classes=4), 0)


def test_what_other_outputs_need_may_be_anything(tmp_path: Path) -> None:
    odd = layer("MyDecoder", "odd")
    model = graph((odd, after("input")), *classified("input"), outputs=["odd", "dense"])
    path = save(tmp_path / "m.h5", model)
    with pytest.raises(ModelError, match=r"'odd', of unknown length"):
        open_model(path, classes=2)
    box = (layer("Dense", "box", units=7), after("odd"))
    model = graph((odd, after("input")), box, *classified("input"), outputs=["box", "dense"])
    assert DENSE["config"]["units"] == 2
    with pytest.raises(ModelError, match="weights of 1 layers"):
        open_model(save(path, model), classes=2)  # those of the layer 'box' are not there


def test_lengths_of_the_outputs_of_several_gpus() -> None:
    path, _ = REFERENCES["k224_multi_gpu_outputs.h5"]
    with pytest.raises(ModelError, match=r"output 0 \('d', 2 values\), output 1 \('c', 4 values\)"):
        open_model(path, classes=3)
