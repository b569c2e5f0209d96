"""Old models give the numbers of their version; other files are refused, and do no harm."""

from __future__ import annotations

import base64
import inspect
import itertools
import json
import marshal
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from keras_files import arguments, inspect_hdf5, model_file, operations
from keras_files.network import Era, Layer, words
from keras_files.open_model import ModelError, open_model
from keras_files.operations import OPERATIONS
from keras_files.weights import LAYER_WEIGHTS

Entry = dict[str, Any]


def reference_models() -> dict[str, tuple[Path, Entry]]:
    """All models beside an index.json, here and in ../shared/models, with their entries.

    What is here counts: a Lambda layer was to be refused when ../shared/models was made.
    """
    found = {}
    for folder in (REPOSITORY.parent / "shared" / "models", REPOSITORY / "tests" / "models"):
        if (folder / "index.json").exists():
            index = json.loads((folder / "index.json").read_text())
            found |= {name: (folder / name, entry) for name, entry in index.items()}
    return found


REFERENCES = reference_models()


def layer(kind: str, name: str, **config: Any) -> Entry:
    return {"class_name": kind, "config": {"name": name, **config}, "name": name}


INPUT = layer("InputLayer", "input", batch_input_shape=[None, 4, 4, 3])
DENSE = layer("Dense", "dense", units=2, activation="softmax")


def sequential(*layers: Entry) -> Entry:
    entries = [*layers, layer("Flatten", "flatten"), DENSE]
    return {"class_name": "Sequential", "config": {"name": "model", "layers": [INPUT, *entries]}}


def graph(*layers: tuple[Entry, Any], outputs: list[str] | None = None) -> Entry:
    """A functional model: each entry with its inbound nodes; the last two flatten and classify."""
    calls = [(INPUT, []), *layers]
    entries = [{**entry, "inbound_nodes": nodes} for entry, nodes in calls]
    ends = [[name, 0, 0] for name in outputs or [calls[-1][0]["name"]]]
    config = {"name": "model", "layers": entries}
    ends = {"input_layers": [["input", 0, 0]], "output_layers": ends}
    return {"class_name": "Functional", "config": {**config, **ends}}


def after(*names: str, **kwargs: Any) -> list[Any]:
    return [[[name, 0, 0, kwargs] for name in names]]


def classified(before: str) -> list[tuple[Entry, Any]]:
    return [(layer("Flatten", "flatten"), after(before)), (DENSE, after("flatten"))]


def save(path: Path, model: Entry | str, version: str = "2.15.0", width: int = 48) -> Path:
    """Write a model as Keras 2 does, with weights of a Dense layer of `width` inputs."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version
        file.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = model if isinstance(model, str) else json.dumps(model)
        group = file.create_group("model_weights/dense")
        group.attrs["weight_names"] = ["dense/kernel:0", "dense/bias:0"]
        group["dense/kernel:0"] = rng.normal(size=(width, 2)).astype(np.float32)
        group["dense/bias:0"] = np.zeros(2, np.float32)
        file["model_weights"].attrs["layer_names"] = ["dense"]
    return path


def predict(path: Path, trained_with: str = "tensorflow") -> np.ndarray:
    model = open_model(path, trained_with).build()
    rows, columns = model.input_shape[1:3]
    return np.asarray(model(np.ones((2, rows, columns, 3), np.float32)))


def refusal(
    path: Path, trained_with: str = "tensorflow", build: bool = True, beside: Sequence[Path] = ()
) -> str:
    """The sentence with which a file is refused; it names the file.

    A folder: of the first file in it that is no .json file, with those beside it.
    """
    if path.is_dir():
        beside = sorted(path.glob("*.json"))
        path = next(file for file in sorted(path.iterdir()) if file not in beside)
    with pytest.raises(ModelError) as caught:
        opened = open_model(path, trained_with, beside)
        if build:
            opened.build()
    message = str(caught.value)
    assert message.startswith(f"{path.name}: ") and "\n" not in message
    return message


# Reference models


@pytest.mark.parametrize("name", REFERENCES)
def test_reference_model(name: str) -> None:
    path, entry = REFERENCES[name]
    if entry["expect"] == "refuse":
        assert "layer" in refusal(path, entry["task"])
        return
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    data = np.load(path.with_name(f"{re.sub('[.](h5|keras)$', '', name)}.npz"))
    (model_file,) = (file for file in files if file.suffix != ".json")
    opened = open_model(model_file, entry["task"], [f for f in files if f.suffix == ".json"])
    sizes = zip(opened.input_size, entry["input"], strict=False)
    assert all(size in (None, expected) for size, expected in sizes)
    assert opened.outputs in (None, entry["output"][0])
    model = opened.build()
    assert model.output_shape == (None, entry["output"][0])
    y = np.asarray(model(data["x"], training=True))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, data["y"], rtol=0, atol=entry.get("tolerance", 1e-4))


def test_keras2_theano_model_is_right_under_both_names() -> None:
    path, _ = REFERENCES["k224_theano_cf_sepdil.h5"]
    np.testing.assert_array_equal(predict(path, "tensorflow"), predict(path, "theano"))


def test_keras1_weight_names_that_contradict_the_task_are_warned_of() -> None:
    path, _ = REFERENCES["k122_theano_th_incmini.h5"]
    assert not open_model(path, "theano").warnings
    assert "theano" in open_model(path, "tensorflow").warnings[0]
    assert "tensorflow" in open_model(REFERENCES["k122_tf_tf_deconv.h5"][0], "theano").warnings[0]


def test_description_names_version_backend_and_layout() -> None:
    path, _ = REFERENCES["k122_theano_th_incmini.h5"]
    assert open_model(path, "theano").description == "Keras 1.2.2, theano, channels_first"


def test_opening_imports_neither_tensorflow_nor_keras() -> None:
    path, _ = REFERENCES["tf2121_tfop.h5"]
    code = (
        "import sys, pathlib, keras_files.open_model\n"
        f"keras_files.open_model.open_model(pathlib.Path({str(path)!r}))\n"
        "print([m for m in ('tensorflow', 'keras', 'tf_keras') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_every_layer_has_weights_and_formula() -> None:
    from keras_files import formulas, model

    assert {*model.FORMULAS, "TimeDistributed"} == set(LAYER_WEIGHTS)
    assert set(formulas.ACTIVATIONS) == operations.ACTIVATIONS


def test_every_layer_has_the_arguments_of_todays_libraries() -> None:
    """Those of `__init__`, but for what is used in training alone or has no place in a file."""
    gone = words(
        "activity_regularizer args kwargs self input_tensor shape "
        "gptq_unpacked_column_size batch_size"
    )
    endings = ("_initializer", "_regularizer", "_constraint")
    for name in ("keras", "tf_keras"):
        layers = pytest.importorskip(name).layers
        for kind in LAYER_WEIGHTS:
            if hasattr(layers, kind):
                names = inspect.signature(getattr(layers, kind).__init__).parameters
                names = {name for name in names if not name.endswith(endings)} - gone
                known = arguments.KNOWN.get(kind, set()) | arguments.COMMON
                assert names <= known, kind
                assert name == "keras" or not names & arguments.OF_KERAS3, kind


@pytest.mark.parametrize(("keras", "version"), [(1, "1.2.2"), (2, "2.2.4"), (2, "2.15.0")])
def test_argument_of_a_later_keras_is_refused(keras: int, version: str) -> None:
    layer = Layer("Dense", "dense", {"units": 2, "lora_rank": 4})
    arguments.check_arguments(layer, Era(3, "3.15.1", "tensorflow", "channels_last"))
    with pytest.raises(ModelError, match=f"has 'lora_rank', which this layer of Keras {version}"):
        arguments.check_arguments(layer, Era(keras, version, "tensorflow", "channels_last"))


def test_every_operation_exists() -> None:
    import functools

    import tensorflow as tf

    for name in OPERATIONS - {"getitem"}:
        assert callable(functools.reduce(getattr, name.split("."), tf)), name


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_keras_archive(library: str, tmp_path: Path) -> None:
    keras = pytest.importorskip(library)
    keras.utils.set_random_seed(1)
    layers = keras.layers
    block = keras.Sequential(
        [layers.Input((8, 8, 4)), layers.Conv2D(4, 3), layers.BatchNormalization()]
    )
    x = layers.Input((16, 16, 3))
    y = block(layers.Conv2D(4, 3, strides=2, padding="same")(x))
    y = layers.Reshape((16, 4))(layers.SeparableConv2D(4, 3)(y))
    y = layers.TimeDistributed(layers.Dense(3))(layers.MultiHeadAttention(2, 3)(y, y))
    y = layers.Dense(2)(layers.Flatten()(layers.PReLU("ones")(y)))
    model = keras.Model(x, y)
    path = tmp_path / "model.keras"
    model.save(path)
    chips = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(
        open_model(path).build()(chips), model(chips, training=False), atol=1e-5
    )
    renamed = path.rename(tmp_path / "model.h5")
    np.testing.assert_allclose(
        open_model(renamed).build()(chips), model(chips, training=False), atol=1e-5
    )


def two_files(keras: Any, folder: Path, ending: str) -> tuple[Path, Path, Any]:
    """Save a small model as the file of its weights and the .json file of its architecture."""
    keras.utils.set_random_seed(1)
    L = keras.layers
    block = keras.Sequential([L.Input((8, 8, 4)), L.Conv2D(4, 3), L.BatchNormalization()])
    x = L.Input((16, 16, 3))
    y = block(L.Conv2D(4, 3, strides=2, padding="same")(x))
    model = keras.Model(x, L.Dense(2)(L.Flatten()(y)))
    model.save_weights(folder / f"w{ending}")
    (folder / "model.json").write_text(model.to_json())
    return folder / f"w{ending}", folder / "model.json", model


@pytest.mark.parametrize(
    ("library", "ending"),
    [("keras", ".weights.h5"), ("tf_keras", ".weights.h5"), ("tf_keras", ".hdf5")],
)
def test_architecture_and_weights_in_two_files(library: str, ending: str, tmp_path: Path) -> None:
    weights, architecture, model = two_files(pytest.importorskip(library), tmp_path, ending)
    other = tmp_path / "class_indices.json"
    other.write_text('{"cat": 0}')
    chips = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    opened = open_model(weights, beside=[other, architecture])
    assert [file.path for file in opened.files] == [weights, architecture]
    assert "architecture of model.json" in opened.description
    np.testing.assert_allclose(opened.build()(chips), model(chips, training=False), atol=1e-5)
    message = refusal(weights, beside=[other])
    assert "only weights" in message and "to_json" in message and "class_indices.json" in message
    shutil.copy(architecture, tmp_path / "copy.json")
    assert "several" in refusal(weights, beside=[architecture, tmp_path / "copy.json"])


def test_weights_of_keras_1_with_an_architecture_of_keras_2(tmp_path: Path) -> None:
    """They keep kernels in other layouts, so that shapes alone would not tell what is what."""
    weights, architecture, _ = two_files(pytest.importorskip("tf_keras"), tmp_path, ".h5")
    with h5py.File(weights, "a") as file:
        del file.attrs["keras_version"]
    message = refusal(weights, beside=[architecture])
    assert "of Keras 1" in message and "model.json is of Keras 2" in message


def test_weights_by_order_where_the_names_are_others(tmp_path: Path) -> None:
    weights, architecture, model = two_files(pytest.importorskip("tf_keras"), tmp_path, ".h5")
    document = json.loads(architecture.read_text())
    architecture.write_text(json.dumps(document).replace("conv2d", "other").replace("dense", "d"))
    chips = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    y = open_model(weights, beside=[architecture]).build()(chips)
    np.testing.assert_allclose(y, model(chips, training=False), atol=1e-5)


def test_archive_whose_weights_inflate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.0.0"}')
        archive.writestr("config.json", json.dumps(sequential()))
        archive.writestr("model.weights.h5", bytes(2**28))
    tracemalloc.start()
    assert "far more" in refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


# What is no model that can be computed


def test_plain_model_is_opened(tmp_path: Path) -> None:
    assert predict(save(tmp_path / "m.h5", sequential())).shape == (2, 2)


def test_training_configuration_is_ignored(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        file.attrs["training_config"] = json.dumps({"loss": "my_focal_loss", "metrics": ["f1"]})
    assert predict(path).shape == (2, 2)


def test_weights_only(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        del file.attrs["model_config"]
    assert "only weights" in refusal(path) and "model.save()" in refusal(path)


def test_hdf5_of_another_kind(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["layers/roads"] = np.arange(3)
    message = refusal(tmp_path / "data.h5")
    assert "no Keras model" in message and "layers" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no HDF5 file"),
        (b"\n<!DOCTYPE html><html>not found</html>", "a web page"),
        (b"<html>not found</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n", "Git LFS"),
        (b"\x89HDF\r\n\x1a\n" + b"x" * 99, "truncated or damaged"),
    ],
)
def test_file_of_another_kind(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_bytes(content)
    assert words in refusal(tmp_path / "m.h5")


def test_zip_archive_of_another_kind(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("data.pkl", b"")
    assert "no .keras file" in refusal(tmp_path / "m.keras")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_truncated_file(part: float, tmp_path: Path) -> None:
    whole = REFERENCES["keras3151_misc.h5"][0].read_bytes()
    (tmp_path / "m.h5").write_bytes(whole[: int(len(whole) * part)])
    assert "truncated" in refusal(tmp_path / "m.h5")


@pytest.mark.parametrize("backend", ["../theano", "Theano", "\x1b[2J", "x" * 5000])
def test_backend_that_is_none(backend: str, tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        file.attrs["backend"] = backend
    message = refusal(path, build=False)
    assert backend[:9] in message and len(message) < 300


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "m.h5")


def test_damaged_bytes_never_end_in_another_exception(tmp_path: Path) -> None:
    whole = bytearray(save(tmp_path / "m.h5", sequential()).read_bytes())
    rng = np.random.default_rng(0)
    for number in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 8):
            damaged[place] = rng.integers(256)
        path = tmp_path / f"{number}.h5"
        path.write_bytes(damaged)
        try:
            open_model(path)
        except ModelError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (sequential(layer("Attention2000", "odd")), ["'odd'", "Attention2000", "custom layer"]),
        (sequential(layer("Activation", "odd", activation="my_act")), ["'odd'", "my_act"]),
        (sequential(layer("Lambda", "odd", function=["4wA", None, None])), ["'odd'", "Python"]),
        (
            sequential({**layer("Dense", "odd", units=2), "registered_name": "Custom>Dense"}),
            ["'odd'", "custom layer"],
        ),
        (sequential(layer("TimeDistributed", "t", layer=layer("Lambda", "odd"))), ["'odd'"]),
        (
            graph(
                (layer("Dropout", "odd", rate=0.5), after("input", training=True)),
                *classified("odd"),
            ),
            ["'odd'", "training=True"],
        ),
        (
            graph(
                *classified("input"),
                (layer("Dense", "two", units=3), after("flatten")),
                outputs=["dense", "two"],
            ),
            ["2 outputs", "[None, 3]"],
        ),
        (graph((DENSE, after("input"))), ["(None, 4, 4, 2)"]),
        (sequential(layer("UpSampling2D", "up", size=[9999, 9999])), ["'up'", "too large"]),
        ({"class_name": "Dense", "config": DENSE["config"]}, ["'dense'"]),
        ({"class_name": "Sequential", "config": {"layers": []}}, ["damaged"]),
        ({"class_name": "Functional", "config": {"layers": 3}}, ["damaged"]),
        (["Sequential"], ["damaged"]),
        ("not json", ["damaged"]),
        (graph((DENSE, after("nowhere"))), ["'dense'", "lacks"]),
    ],
)
def test_model_that_cannot_be_computed(model: Entry, words: list[str], tmp_path: Path) -> None:
    message = refusal(save(tmp_path / "m.h5", model, width=3 if "4, 4, 2" in words[0] else 48))
    assert all(word in message for word in words), message


@pytest.mark.parametrize("shape", [[None, 48], [None, 4, 4, 3, 1]])
def test_input_that_is_no_image(shape: list[int | None], tmp_path: Path) -> None:
    model = sequential()
    model["config"]["layers"][0] = layer("InputLayer", "input", batch_input_shape=shape)
    assert str(shape) in refusal(save(tmp_path / "m.h5", model))


def test_several_inputs(tmp_path: Path) -> None:
    model = graph(*classified("input"))
    model["config"]["input_layers"] *= 2
    assert "2 inputs" in refusal(save(tmp_path / "m.h5", model))


def test_ends_are_looked_at_before_layers(tmp_path: Path) -> None:
    odd = layer("Lambda", "odd", function=["4wA", None, None])
    model = graph((odd, after("input")), *classified("odd"))
    model["config"]["input_layers"] *= 2
    assert "2 inputs" in refusal(save(tmp_path / "m.h5", model), build=False)


@pytest.mark.parametrize("kind", ["Embedding", "SpectralNormalization", "Masking"])
def test_standard_layer_without_formula_is_not_called_custom(kind: str, tmp_path: Path) -> None:
    message = refusal(save(tmp_path / "m.h5", sequential(layer(kind, "odd"))), build=False)
    assert "'odd'" in message and "standard layer" in message and "custom" not in message


@pytest.mark.parametrize(
    ("odd", "version", "argument"),
    [
        (layer("Activation", "odd", activation="relu", shift=3), "2.15.0", "'shift'"),
        (layer("Conv2D", "odd", filters=3, kernel_size=1, groups=3), "2.2.4", "'groups'"),
        (layer("MaxPooling2D", "odd", pool_size=2, border_mode="same"), "2.15.0", "'border_mode'"),
        (layer("Rescaling", "odd", scale=2, offset=0, gain=2), "3.4.0", "'gain'"),
        (layer("Flatten", "odd", order="C"), "1.2.2", "'order'"),
    ],
)
def test_argument_that_a_layer_does_not_have_is_refused(
    odd: Entry, version: str, argument: str, tmp_path: Path
) -> None:
    message = refusal(save(tmp_path / "m.h5", sequential(odd), version), build=False)
    assert "'odd'" in message and argument in message and version in message


@pytest.mark.parametrize("part", ["weight_names", "kernel", "group", "shape", "type"])
def test_weights_that_do_not_fit(part: str, tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential(), width=47 if part == "shape" else 48)
    with h5py.File(path, "a") as file:
        group = file["model_weights/dense"]
        if part == "weight_names":
            group.attrs["weight_names"] = ["dense/kernel:0"]
        elif part == "kernel":
            del group["dense/kernel:0"]
        elif part == "group":
            del file["model_weights/dense"]
        elif part == "type":
            del group["dense/bias:0"]
            group["dense/bias:0"] = np.array([b"a", b"b"])
    message = refusal(path)
    assert "dense" in message and "damaged" not in message


def test_swapped_weight_names(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(REFERENCES["tf2151_tm.h5"][0].read_bytes())
    with h5py.File(path, "a") as file:
        for group in file["model_weights"].values():
            names = list(group.attrs["weight_names"])
            if len(names) > 4:
                group.attrs["weight_names"] = names[::-1]
    data = np.load(REFERENCES["tf2151_tm.h5"][0].with_suffix(".npz"))
    np.testing.assert_allclose(open_model(path).build()(data["x"]), data["y"], atol=1e-4)


def test_units_that_the_weights_do_not_have(tmp_path: Path) -> None:
    model = sequential()
    model["config"]["layers"][-1] = layer("Dense", "dense", units=10**12)
    assert "10" in refusal(save(tmp_path / "m.h5", model), build=False)


def convolutional(path: Path, changed: Mapping[str, Any]) -> Path:
    """Save a convolution, a batch normalization and a Dense layer.

    Args:
        changed: "layer/weight" -> another shape for the array, "layer.argument" -> another value.
    """
    config = {"filters": 4, "kernel_size": [3, 3], "strides": [1, 1], "padding": "valid"}
    layers = [
        layer("Conv2D", "conv", data_format="channels_last", activation="relu", **config),
        layer("BatchNormalization", "norm", axis=[3], epsilon=0.001),
        layer("DepthwiseConv2D", "depth", depth_multiplier=2, **{**config, "filters": None}),
    ]
    model = sequential(*layers)
    norm = ("gamma", "beta", "moving_mean", "moving_variance")
    shapes = {
        "conv/kernel": (3, 3, 3, 4),
        "conv/bias": (4,),
        **{f"norm/{role}": (4,) for role in norm},
        "depth/depthwise_kernel": (3, 3, 4, 2),
        "depth/bias": (8,),
        "dense/kernel": (32, 2),
        "dense/bias": (2,),
    }
    for key, value in changed.items():
        if "." in key:
            name, argument = key.split(".")
            (entry,) = (e for e in model["config"]["layers"] if e["config"]["name"] == name)
            entry["config"][argument] = value
        else:
            shapes[key] = value
    model["config"]["layers"][0] = layer("InputLayer", "i", batch_input_shape=[None, 6, 6, 3])
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = "2.15.0", "tensorflow"
        file.attrs["model_config"] = json.dumps(model)
        for place, shape in shapes.items():
            name = place.split("/")[0]
            group = file.require_group(f"model_weights/{name}")
            group[f"{place}:0"] = np.ones(shape, np.float32)
            group.attrs["weight_names"] = [*group.attrs.get("weight_names", []), f"{place}:0"]
        file["model_weights"].attrs["layer_names"] = list(file["model_weights"])
    return path


def test_weights_of_the_declared_shapes(tmp_path: Path) -> None:
    path = convolutional(tmp_path / "m.h5", {})
    assert np.isfinite(np.asarray(open_model(path).build()(np.ones((1, 6, 6, 3))))).all()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"conv/bias": ()}, ["'conv'", "bias", "()", "(4,)"]),
        ({"conv/bias": (1,)}, ["'conv'", "bias", "(1,)", "(4,)"]),
        ({"conv/kernel": (3, 3, 3, 5)}, ["'conv'", "kernel", "(3, 3, 3, 5)", "(3, 3, 3, 4)"]),
        ({"conv.kernel_size": [2, 2]}, ["'conv'", "(3, 3, 3, 4)", "(2, 2, 3, 4)"]),
        ({"norm/beta": (1,)}, ["'norm'", "beta", "(1,)", "(4,)"]),
        ({"norm/moving_mean": (1, 4)}, ["'norm'", "moving_mean", "(1, 4)", "(4,)"]),
        ({"depth.depth_multiplier": 1}, ["'depth'", "(3, 3, 4, 2)", "(3, 3, 4, 1)"]),
        ({"depth/bias": (4,)}, ["'depth'", "bias", "(4,)", "(8,)"]),
        ({"dense/bias": (1,)}, ["'dense'", "bias", "(1,)", "(2,)"]),
        ({"dense/kernel": (32, 2, 1)}, ["'dense'", "kernel", "(32, 2, 1)"]),
    ],
)
def test_weights_of_another_shape_are_refused_without_tensorflow(
    changed: Mapping[str, Any], words: list[str], tmp_path: Path
) -> None:
    message = refusal(convolutional(tmp_path / "m.h5", changed), build=False)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        # one channel of three: TensorFlow would compute three groups
        ({"conv/kernel": (3, 3, 1, 4)}, ["'conv'", "(3, 3, 1, 4)", "(3, 3, 3, 4)"]),
        (
            {f"norm/{r}": (1,) for r in ("gamma", "beta", "moving_mean", "moving_variance")},
            ["'norm'", "(1,)", "(4,)"],
        ),
    ],
)
def test_weights_that_do_not_fit_the_layer_before_are_refused(
    changed: Mapping[str, Any], words: list[str], tmp_path: Path
) -> None:
    message = refusal(convolutional(tmp_path / "m.h5", changed))
    assert all(word in message for word in words), message


def test_two_weights_of_one_name_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        file["model_weights/dense"].attrs["weight_names"] = ["dense/kernel:0"] * 2
    assert "two weights of the name 'dense/kernel:0'" in refusal(path, build=False)


def test_two_layers_of_one_name_are_refused(tmp_path: Path) -> None:
    odd = layer("Activation", "flatten", activation="relu")
    model = graph((odd, after("input")), *classified("input"))
    assert "two layers" in refusal(save(tmp_path / "m.h5", model), build=False)


# What would do harm


def test_lambda_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = compile(f"lambda x: [x, open({str(mark)!r}, 'w')][0]", "model", "eval").co_consts[0]
    stored = [base64.b64encode(marshal.dumps(code)).decode(), None, None]
    odd = layer("Lambda", "odd", function=stored, function_type="lambda", output_shape=None)
    assert "Python" in refusal(save(tmp_path / "m.h5", sequential(odd)))
    assert not mark.exists()


def test_python_activation_of_keras3_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = compile(f"lambda x: [x, open({str(mark)!r}, 'w')][0]", "model", "eval").co_consts[0]
    value = {
        "class_name": "__lambda__",
        "config": {"code": base64.b64encode(marshal.dumps(code)).decode()},
    }
    odd = layer("Activation", "odd", activation=value)
    assert "'odd'" in refusal(save(tmp_path / "m.h5", sequential(odd), version="3.4.0"))
    assert not mark.exists()


@pytest.mark.parametrize("function", ["io.write_file", "raw_ops.WriteFile"])
def test_operation_that_writes_a_file(function: str, tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")
    first = {"filename": mark, "contents": "x"}
    node = [["_CONSTANT_VALUE", -1, mark, {"contents": "x"}]]
    odd = (layer("TFOpLambda", "odd", function=function), node)
    if function.startswith("raw_ops"):
        odd = (odd[0], [["_CONSTANT_VALUE", -1, mark, first]])
    model = graph(odd, *classified("input"))
    assert function in refusal(save(tmp_path / "m.h5", model))
    assert not Path(mark).exists()


@pytest.mark.parametrize(
    "function",
    [
        "io.read_file",
        "py_function",
        "numpy_function",
        "__class__",
        "nn.dropout",
        "keras.models.load_model",
    ],
)
def test_operation_that_is_not_arithmetic(function: str, tmp_path: Path) -> None:
    odd = (layer("TFOpLambda", "odd", function=function), after("input"))
    message = refusal(save(tmp_path / "m.h5", graph(odd, *classified("odd"))))
    assert "'odd'" in message and function in message


def operation(name: str, *nodes: Any) -> tuple[Entry, Any]:
    return layer("TFOpLambda", name, function=name), list(nodes)


def sized_by(value: Any) -> list[tuple[Entry, Any]]:
    """Operations that make a whole number, "cast", of an array."""
    return [
        operation("math.reduce_sum", value),
        operation("cast", ["math.reduce_sum", 0, 0, {"dtype": "int32"}]),
    ]


NUMBER = ["cast", 0, 0]


@pytest.mark.parametrize(
    "sized",
    [
        operation("tile", ["input", 0, 0, {"multiples": [1, NUMBER, NUMBER, 1]}]),
        operation("tile", ["input", 0, 0, {"multiples": [NUMBER, 1, 1, 1]}]),
        operation("image.resize", ["input", 0, 0, {"size": [NUMBER, NUMBER]}]),
        operation("pad", ["input", 0, 0, {"paddings": [[0, 0], [0, NUMBER], [0, 0], [0, 0]]}]),
        operation("reshape", ["input", 0, 0, {"shape": [-1, NUMBER, 3]}]),
        operation("slice", ["input", 0, 0, {"begin": [0, 0, 0, 0], "size": [-1, NUMBER, 4, 3]}]),
        operation("where", ["input", 0, 0, {}]),
    ],
)
def test_operation_whose_size_depends_on_the_values_of_a_chip(
    sized: tuple[Entry, Any], tmp_path: Path
) -> None:
    name = sized[0]["name"]
    mean = operation("math.reduce_mean", [name, 0, 0, {"axis": [1, 2]}])
    model = graph(*sized_by(["input", 0, 0, {}]), sized, mean, *classified("math.reduce_mean"))
    message = refusal(save(tmp_path / "m.h5", model, width=3))
    assert f"layer '{name}'" in message and "depends on the values" in message


def test_operation_whose_size_is_computed_from_a_shape(tmp_path: Path) -> None:
    shape = [
        operation("shape", ["input", 0, 0, {}]),
        *sized_by(["shape", 0, 0, {}]),
        operation("tile", ["input", 0, 0, {"multiples": [1, NUMBER, NUMBER, 1]}]),
    ]
    mean = operation("math.reduce_mean", ["tile", 0, 0, {"axis": [1, 2]}])
    model = graph(*shape, mean, *classified("math.reduce_mean"))
    assert "does not fix" in refusal(save(tmp_path / "m.h5", model, width=3))


def test_sizes_of_another_array_are_taken(tmp_path: Path) -> None:
    cut = layer("SlicingOpLambda", "cut", function="__operators__.getitem")
    model = graph(
        operation("shape", ["input", 0, 0, {}]),
        (cut, [["shape", 0, 0, {"slice_spec": {"start": 1, "stop": 3, "step": None}}]]),
        operation("image.resize", ["input", 0, 0, {"size": ["cut", 0, 0]}]),
        *classified("image.resize"),
    )
    assert predict(save(tmp_path / "m.h5", model)).shape == (2, 2)


def test_graph_operation_that_writes_a_file(tmp_path: Path) -> None:
    config = {
        "node_def": json.dumps({"op": "WriteFile"}),
        "constants": {"0": str(tmp_path / "mark")},
    }
    odd = (layer("TensorFlowOpLayer", "odd", **config), after("input"))
    assert "WriteFile" in refusal(save(tmp_path / "m.h5", graph(odd, *classified("odd")), "2.4.0"))
    assert not (tmp_path / "mark").exists()


def steal(path: Path, secret: Path, link: Any) -> Path:
    """Replace the weights of a model by a link."""
    with h5py.File(path, "a") as file:
        del file["model_weights/dense/dense/kernel:0"]
        file["model_weights/dense/dense/kernel:0"] = link
    return path


def test_external_link(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["kernel"] = np.ones((48, 2), np.float32)
    link = h5py.ExternalLink(str(tmp_path / "secret.h5"), "kernel")
    path = steal(save(tmp_path / "m.h5", sequential()), tmp_path / "secret.h5", link)
    assert "kernel:0" in refusal(path, build=False)


def test_external_link_that_nothing_uses(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        file["optimizer_weights/x"] = h5py.ExternalLink("/etc/passwd", "x")
    assert "ExternalLink" in refusal(path, build=False)


def test_soft_link(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        file["elsewhere"] = np.ones((48, 2), np.float32)
    path = steal(path, path, h5py.SoftLink("/elsewhere"))
    assert "SoftLink" in refusal(path, build=False)


def test_virtual_dataset(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["kernel"] = np.ones((48, 2), np.float32)
    layout = h5py.VirtualLayout((48, 2), np.float32)
    layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "kernel", shape=(48, 2))
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        del file["model_weights/dense/dense/kernel:0"]
        file.create_virtual_dataset("model_weights/dense/dense/kernel:0", layout)
    assert "another file" in refusal(path, build=False)


def test_external_storage(tmp_path: Path) -> None:
    (tmp_path / "secret.raw").write_bytes(bytes(48 * 2 * 4))
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        del file["model_weights/dense/dense/kernel:0"]
        file.create_dataset(
            "model_weights/dense/dense/kernel:0",
            (48, 2),
            np.float32,
            external=[(str(tmp_path / "secret.raw"), 0, h5py.h5f.UNLIMITED)],
        )
    assert "another file" in refusal(path, build=False)


@pytest.mark.parametrize("written", [True, False])
def test_array_that_inflates(written: bool, tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        array = file.create_dataset(
            "optimizer_weights/x",
            (2**13, 2**8),
            np.float32,
            chunks=(2**13, 2**8),
            compression="gzip",
        )
        if written:
            array[:] = np.zeros(array.shape, np.float32)
    assert "far more" in refusal(path, build=False)


def test_array_packed_by_a_plug_in(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        file.create_dataset("optimizer_weights/x", data=np.ones((9, 9)), compression="lzf")
    assert "gzip" in refusal(path, build=False)


def test_array_packed_by_gzip_is_opened(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        kernel = file["model_weights/dense/dense/kernel:0"][()]
        del file["model_weights/dense/dense/kernel:0"]
        file.create_dataset(
            "model_weights/dense/dense/kernel:0", data=kernel, compression="gzip", shuffle=True
        )
    assert predict(path).shape == (2, 2)


def test_many_arrays_that_inflate_a_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_hdf5, "SMALL_FILE_BYTES", 2**20)
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        for number in range(40):
            file.create_dataset(
                f"model_weights/zeros/{number}", data=np.zeros(2**14, "f4"), compression="gzip"
            )
    assert "far more" in refusal(path, build=False)


def test_numbers_are_those_of_the_file_wherever_it_keeps_them(tmp_path: Path) -> None:
    kernel = np.random.default_rng(1).normal(size=(48, 2))
    expected = None
    for number, options in enumerate(
        (
            {},
            {"dtype": ">f4"},
            {"dtype": "<f8"},
            {"chunks": (7, 1)},
            {"compression": "gzip", "fletcher32": True},
            {"dcpl": h5py.h5p.create(h5py.h5p.DATASET_CREATE)},
        )
    ):
        path = tmp_path / f"{number}.h5"
        with h5py.File(path, "w", userblock_size=512 * (number % 2)):
            pass
        with (
            h5py.File(save(tmp_path / "m.h5", sequential())) as whole,
            h5py.File(path, "a") as file,
        ):
            for name, value in whole.attrs.items():
                file.attrs[name] = value
            whole.copy("model_weights", file)
            del file["model_weights/dense/dense/kernel:0"]
            if "dcpl" in options:
                options["dcpl"].set_layout(h5py.h5d.COMPACT)
            data = kernel.astype(np.float32).astype(options.pop("dtype", "<f4"))
            file.create_dataset("model_weights/dense/dense/kernel:0", data=data, **options)
        y = predict(path)
        expected = y if expected is None else expected
        np.testing.assert_array_equal(y, expected)


def save_archive(path: Path) -> Path:
    """Write a small .keras archive."""
    import keras

    layers = [keras.layers.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    keras.Sequential(layers).save(path)
    return path


def test_archive_that_was_packed_again_gives_the_same_numbers(tmp_path: Path) -> None:
    path, packed = save_archive(tmp_path / "m.keras"), tmp_path / "packed.keras"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(packed, "w") as other:
        for info in archive.infolist():
            other.writestr(info.filename, archive.read(info), zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(predict(packed), predict(path))


def test_archive_with_a_damaged_byte_among_its_weights(tmp_path: Path) -> None:
    path = save_archive(tmp_path / "m.keras")
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("model.weights.h5")
    data = bytearray(path.read_bytes())
    data[info.header_offset + info.file_size - 100] ^= 1
    path.write_bytes(data)
    assert "CRC" in refusal(path, build=False)


# What never ends


def test_file_that_makes_libhdf5_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_file, "CPU_SECONDS", 1)
    data = bytearray(REFERENCES["tf284_mixed.h5"][0].read_bytes())
    data[5594 : 5594 + 160] = bytes(160)  # in a heap of texts
    (tmp_path / "m.h5").write_bytes(data)
    assert "processor time" in refusal(tmp_path / "m.h5", build=False)


@pytest.mark.parametrize("place", ["/", "model_weights", "model_weights/dense/dense/bias:0"])
def test_thousands_of_attributes(place: str, tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        for number in range(1001):
            file[place].attrs[f"a{number}"] = number
    assert "attributes" in refusal(path, build=False)


def test_hundreds_of_attributes_are_passed_over(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        file["model_weights"].attrs[b"\xff\xfe"] = b"\xff\xfe"
        for number in range(900):
            file["model_weights"].attrs[f"a{number}"] = number
    assert predict(path).shape == (2, 2)


def test_thousands_of_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_hdf5, "MAX_ITEMS", 500)
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        for number in range(500):
            file.create_group(f"odd/{number}")
    assert "more than 500 entries" in refusal(path, build=False)


def test_groups_in_groups(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        file.create_group("a/" * 500)
    assert "nested" in refusal(path, build=False)


def test_thousands_of_layers_in_the_wrong_order(tmp_path: Path) -> None:
    chain = ["input", *(f"a{number}" for number in range(9000))]
    calls = [
        (layer("Activation", name, activation="linear"), after(before))
        for before, name in itertools.pairwise(chain)
    ]
    model = graph(*calls[::-1], *classified(chain[-1]))
    opened = open_model(save(tmp_path / "m.h5", model))
    assert [call.name for call in opened.network.calls] == [*chain[1:], "flatten", "dense"]


def test_one_array_that_many_layers_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_hdf5, "SMALL_FILE_BYTES", 2**10)
    names = [f"d{number}" for number in range(500)]
    layers = [layer("Dense", name, units=48, use_bias=False) for name in names]
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        group = file["model_weights"]
        inner = sequential(layer("Flatten", "first"), *layers)
        inner["config"]["layers"] = inner["config"]["layers"][:-2]
        outer = sequential({**inner, "config": {**inner["config"], "name": "inner"}})
        file.attrs["model_config"] = json.dumps(outer)
        group["inner/kernel"] = np.ones((48, 48), np.float32)
        group["inner"].attrs["weight_names"] = ["/" * n + "kernel" for n in range(500)]
        group.attrs["layer_names"] = ["inner", "dense"]
    assert "far more weights" in refusal(path)


# Check and use are the same file


def test_file_that_another_takes_the_place_of(tmp_path: Path) -> None:
    path, other = save(tmp_path / "m.h5", sequential()), tmp_path / "other.h5"
    before = predict(path)
    opened = open_model(path)
    with h5py.File(save(other, sequential()), "a") as file:
        file["model_weights/dense/dense/kernel:0"][:] *= -1
    os.replace(other, path)
    model = opened.build()
    np.testing.assert_array_equal(model(np.ones((2, 4, 4, 3), np.float32)), before)
    assert np.abs(predict(path) - before).max() > 0.1


def test_file_that_is_written_to_before_its_weights_are_read(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    opened = open_model(path)
    with h5py.File(path, "a") as file:
        file["model_weights/dense/dense/kernel:0"][:] *= -1
    os.utime(path, (1, 1))
    with pytest.raises(ModelError, match=r"m\.h5: the file was changed"):
        opened.build()


def test_hard_links_in_a_circle(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        file["model_weights/again"] = file["/"]
    assert "second name" in refusal(path, build=False)


@pytest.mark.parametrize("place", ["attribute", "array"])
@pytest.mark.parametrize("kind", ["reference", "opaque", "compound"])
def test_values_of_odd_types(place: str, kind: str, tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        value = {
            "reference": np.array([file["model_weights"].ref], h5py.ref_dtype),
            "opaque": np.array([np.void(b"pickled")]),
            "compound": np.zeros(1, [("a", "f4")]),
        }[kind]
        if place == "array":
            file["odd"] = value
        else:
            file["model_weights"].attrs["odd"] = value
    assert "other than numbers and text" in refusal(path, build=False)


def test_huge_attribute(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    save(path, sequential())
    with h5py.File(tmp_path / "n.h5", "w", libver="latest") as file:
        file.attrs["model_config"] = json.dumps(sequential())
        file.attrs["odd"] = np.zeros(2**26 + 1, np.uint8)
    assert "67108865 bytes" in refusal(tmp_path / "n.h5", build=False)


@pytest.mark.parametrize("depth", [150, 100_000])
def test_configuration_of_absurd_depth(depth: int, tmp_path: Path) -> None:
    nested = "[" * depth + "]" * depth
    model = json.dumps(sequential()).replace('"units": 2', f'"units": 2, "odd": {nested}')
    assert "nested" in refusal(save(tmp_path / "m.h5", model), build=False)


def test_number_of_absurd_length(tmp_path: Path) -> None:
    model = json.dumps(sequential()).replace('"units": 2', f'"units": {"9" * 10_000}')
    refusal(save(tmp_path / "m.h5", model), build=False)


def test_configuration_of_absurd_size(tmp_path: Path) -> None:
    model = json.dumps(sequential()) + " " * 2**26
    assert "larger than any" in refusal(save(tmp_path / "m.h5", model), build=False)


def test_models_that_multiply(tmp_path: Path) -> None:
    """A model that uses the one inside ten times, nine levels deep, would compute 10**9 layers."""
    inner = layer("Activation", "inner", activation="relu")
    for _ in range(9):
        chain = [*after("input"), *([["inner", call, 0, {}]] for call in range(9))]
        inner = {**graph((inner, chain)), "name": "inner"}
        inner["config"]["output_layers"] = [["inner", 9, 0]]
    message = refusal(save(tmp_path / "m.h5", graph((inner, after("input")))), build=False)
    assert "more than" in message and "layers" in message


def test_custom_activation_is_refused_without_tensorflow(tmp_path: Path) -> None:
    odd = layer("Activation", "odd", activation="my_act")
    assert "my_act" in refusal(save(tmp_path / "m.h5", sequential(odd)), build=False)
