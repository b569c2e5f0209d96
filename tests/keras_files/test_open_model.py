"""Old models give the numbers of their version; what cannot be computed is refused."""

from __future__ import annotations

import base64
import itertools
import json
import marshal
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from keras_files import inspect_hdf5
from keras_files.open_model import open_model
from model_files import (
    DENSE,
    REFERENCES,
    Entry,
    after,
    classified,
    graph,
    layer,
    predict,
    refusal,
    save,
    sequential,
)

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("name", REFERENCES)
def test_reference_model(name: str) -> None:
    path, entry = REFERENCES[name]
    if entry["expect"] == "refuse":
        assert "layer" in refusal(path, entry["task"])
        return
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    data = np.load(path.with_name(f"{re.sub('[.](h5|keras)$', '', name)}.npz"))
    (model_file,) = (file for file in files if file.suffix != ".json")
    beside = [file for file in files if file.suffix == ".json"]
    opened = open_model(model_file, entry["task"], beside, entry.get("classes"))
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


def test_plain_model_is_opened(tmp_path: Path) -> None:
    assert predict(save(tmp_path / "m.h5", sequential())).shape == (2, 2)


def test_training_configuration_is_ignored(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        file.attrs["training_config"] = json.dumps({"loss": "my_focal_loss", "metrics": ["f1"]})
    assert predict(path).shape == (2, 2)


@pytest.mark.parametrize("backend", ["../theano", "Theano", "\x1b[2J", "x" * 5000])
def test_backend_that_is_none(backend: str, tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", sequential())
    with h5py.File(path, "a") as file:
        file.attrs["backend"] = backend
    message = refusal(path, build=False)
    assert backend[:9] in message and len(message) < 300


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
        (
            sequential(
                {**layer("Dense", "odd", units=2), "module": None, "registered_name": "Dense"}
            ),
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
            ["2 outputs", "('two', 3 values)"],
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


# What packages put around a model


def test_cast_of_autokeras_is_passed_over(tmp_path: Path) -> None:
    odd = layer("Custom>CastToFloat32", "cast", dtype="float32")
    np.testing.assert_array_equal(
        predict(save(tmp_path / "odd.h5", sequential(odd))),
        predict(save(tmp_path / "plain.h5", sequential())),
    )


def copied(axis: int) -> Entry:
    """Return what multi_gpu_model makes of a model for two GPUs."""
    inner = {**graph(*classified("input")), "name": "dense"}
    slices = [
        (
            layer("Lambda", f"slice_{i}", function=["4wA", None, None], arguments=given),
            after("input"),
        )
        for i, given in enumerate(({"i": 0, "parts": 2}, {"i": 1, "parts": 2}))
    ]
    calls = [[["slice_0", 0, 0, {}]], [["slice_1", 0, 0, {}]]]
    join = (
        layer("Concatenate", "join", axis=axis),
        [[["dense", 0, 0, {}], ["dense", 1, 0, {}]]],
    )
    return graph(*slices, (inner, calls), join, outputs=["join"])


def test_model_of_several_gpus_is_the_model_within(tmp_path: Path) -> None:
    np.testing.assert_array_equal(
        predict(save(tmp_path / "odd.h5", copied(0))),
        predict(save(tmp_path / "plain.h5", sequential())),
    )
    assert "'slice_0'" in refusal(save(tmp_path / "other.h5", copied(1)))


def test_merge_of_keras_1_by_a_lambda(tmp_path: Path) -> None:
    code = compile("lambda x: x[0] - 3 * x[1]", "model", "eval").co_consts[0]
    stored = [base64.b64encode(marshal.dumps(code)).decode(), None, None]
    merge = layer("Merge", "merge", mode=stored, mode_type="lambda", arguments={})
    model = graph((merge, after("input", "input")), *classified("merge"))
    y = predict(save(tmp_path / "odd.h5", model, "1.2.2"))
    chips = np.full((2, 4, 4, 3), -2, np.float32)
    plain = open_model(save(tmp_path / "plain.h5", sequential(), "1.2.2")).build()
    np.testing.assert_allclose(y, np.asarray(plain(chips)), atol=1e-6)
