"""Models as they were really trained: each gets what Keras' own preprocessing gives it."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from chip_classifier.classifier import missing_cuda
from chip_classifier.errors import TaskError
from chip_classifier.ports import MODES, Ports
from chip_classifier.preprocessing import (
    FAMILY_MODES,
    Preprocessing,
    contradictions,
    numbers_for_fractions,
    settle_preprocessing,
)
from chip_files import Run, assert_succeeded, make_tar, make_work_dir, png, run_task, scene
from keras_files.open_model import open_model

SIZE = 24
CHIPS = 8
# float32 through a convolution and a softmax.
TOLERANCE = 1e-5


def preprocess(mode: str, rgb: np.ndarray) -> np.ndarray:
    """What a user's own program feeds a model in training, float32 (N, H, W, 3)."""
    from keras.applications.imagenet_utils import preprocess_input

    if mode == "zero_to_one":
        return rgb / np.float32(255)
    if mode == "none":
        return rgb.astype(np.float32)
    return preprocess_input(rgb.astype(np.float32), data_format="channels_last", mode=mode)


def save_cnn(path: Path, inside: str | None = None, **head: object) -> object:
    """Save a small CNN that tells bands and values apart; give it.

    Args:
        path: of the .h5 or .keras file.
        inside: "rescaling" or "operations": what scales the input within the model.
        head: for the last layer, which is a softmax of three classes by itself.
    """
    import keras
    from keras import layers

    keras.utils.set_random_seed(3)
    inputs = x = keras.Input((SIZE, SIZE, 3))
    if inside == "rescaling":
        x = layers.Rescaling(1 / 255)(x)
    elif inside == "operations":
        x = x / 127.5 - 1.0
    x = layers.Conv2D(8, 3, activation="tanh", kernel_initializer="he_normal")(x)
    x = layers.GlobalAveragePooling2D()(x)
    outputs = layers.Dense(**{"units": 3, "activation": "softmax", **head})(x)
    model = keras.Model(inputs, outputs)
    if path.suffix == ".h5":
        model.save(path, include_optimizer=False)
    else:
        model.save(path)
    return model


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    """Chips of the model's size, uint8 (N, H, W, 3), R,G,B."""
    return np.stack([scene(n, SIZE, SIZE, 3) for n in range(CHIPS)])


def classify(
    folder: Path, rgb: np.ndarray, model: Path, ports: dict[str, str] | None = None
) -> Run:
    """Run the task on chips."""
    archive = make_tar([(f"chips/{n}.png", png(image)) for n, image in enumerate(rgb)])
    return assert_succeeded(run_task(make_work_dir(folder, archive, model, ports)))


def check(run: Run, expected: np.ndarray) -> None:
    """Compare the answers of a run with the values of the classes, (N, classes)."""
    assert [int(answer["class"]) for answer in run.classified.values()] == [
        int(row.argmax()) for row in expected
    ]
    found = [answer["certainty"] for answer in run.classified.values()]
    np.testing.assert_allclose(found, expected.max(axis=1), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("mode", "ending"),
    list(zip(MODES, (".h5", ".keras", ".h5", ".keras", ".h5"), strict=True)),
)
def test_each_mode_gives_what_keras_predicts(
    mode: str, ending: str, rgb: np.ndarray, tmp_path: Path
) -> None:
    model = save_cnn(tmp_path / f"m{ending}")
    expected = model.predict(preprocess(mode, rgb), verbose=0)
    others = [model.predict(preprocess(other, rgb), verbose=0) for other in MODES if other != mode]
    assert all(np.abs(expected - other).max() > 100 * TOLERANCE for other in others)
    ports = {"preprocessing": mode, "probabilities": "True"}
    run = classify(tmp_path / "w", rgb, tmp_path / f"m{ending}", ports)
    check(run, expected)
    values = [list(answer["probabilities"].values()) for answer in run.classified.values()]
    np.testing.assert_allclose(values, expected, rtol=0, atol=TOLERANCE)
    assert list(next(iter(run.classified.values()))["probabilities"]) == ["0", "1", "2"]
    assert run.warnings() == []


def test_three_numbers_take_the_place_of_the_modes_own(rgb: np.ndarray, tmp_path: Path) -> None:
    model = save_cnn(tmp_path / "m.h5")
    vector, value = np.float32([120, 110, 100]), np.float32([58.4, 57.1, 57.4])
    ports = {
        "preprocessing": "torch",
        "normalization_vector": "120,110,100",
        "normalization_value": "58.4,57.1,57.4",
    }
    run = classify(tmp_path / "w", rgb, tmp_path / "m.h5", ports)
    check(run, model.predict((rgb - vector) / value, verbose=0))


def test_numbers_for_fractions_are_warned_about(rgb: np.ndarray, tmp_path: Path) -> None:
    model = save_cnn(tmp_path / "m.h5")
    ports = {"preprocessing": "torch", "normalization_vector": "0.485,0.456,0.406"}
    run = classify(tmp_path / "w", rgb, tmp_path / "m.h5", ports)  # the warning is in status.json
    (warning,) = run.warnings()
    assert "normalization_vector is 0.485,0.456,0.406, as for values from 0 to 1" in warning
    assert "set it to 123.675,116.28,103.53, or leave it out" in warning
    # It is computed as documented: subtracted from 0 to 255.
    vector, value = np.float32([0.485, 0.456, 0.406]), 255 * np.float32([0.229, 0.224, 0.225])
    check(run, model.predict((rgb - vector) / value, verbose=0))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("vector", "value", "warned"),
    [
        (None, None, []),
        ((0, 0, 0), (1,), []),
        ((0, 0, 0), (), []),
        ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), []),
        ((0.5, 0.5, 127), (-0.5,), []),
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), ["123.675,116.28,103.53", "58.395,57.12"]),
        ((0.5, 0, 1), (1, 1, 0.5), ["127.5,0,255", "255,255,127.5"]),
        (None, (0.1246,), []),
    ],
)
def test_only_numbers_for_fractions_are_warned_about(
    mode: str,
    vector: tuple[float, ...] | None,
    value: tuple[float, ...] | None,
    warned: list[str],
) -> None:
    ports = Ports(preprocessing=mode, normalization_vector=vector, normalization_value=value)
    warnings = list(numbers_for_fractions(ports))
    assert len(warnings) == len(warned)
    assert all(part in warning for part, warning in zip(warned, warnings, strict=True))


@pytest.mark.parametrize("inside", ["rescaling", "operations"])
def test_a_model_that_scales_inside_is_warned_about_but_with_none(
    inside: str, rgb: np.ndarray, tmp_path: Path
) -> None:
    model = save_cnn(tmp_path / "m.keras", inside)
    run = classify(tmp_path / "default", rgb, tmp_path / "m.keras")
    (warning,) = run.warnings("scales its input itself")
    assert "set the port preprocessing to none" in warning
    page = (run.work_dir / "output" / "logs" / "preview.html").read_text()
    assert "scales its input itself" in page
    assert "B,G,R (bands 3,2,1 of a chip), minus 103.939, 116.779, 123.68" in page
    run = classify(tmp_path / "none", rgb, tmp_path / "m.keras", {"preprocessing": "none"})
    check(run, model.predict(rgb.astype(np.float32), verbose=0))
    assert run.warnings() == []
    assert "Fed to the model: R,G,B (bands 1,2,3 of a chip), values as they are" in run.log


# ------------------------------------------------------------------------------- contradictions


@pytest.mark.parametrize("family", FAMILY_MODES)
def test_the_table_of_families_is_that_of_keras(family: str) -> None:
    names = {
        "DenseNet": "densenet",
        "InceptionResNetV2": "inception_resnet_v2",
        "InceptionV3": "inception_v3",
        "MobileNet": "mobilenet",
        "MobileNetV2": "mobilenet_v2",
        "NASNet": "nasnet",
        "ResNet": "resnet",
        "ResNetV2": "resnet_v2",
        "VGG": "vgg16",
        "Xception": "xception",
    }
    module = importlib.import_module(f"keras.applications.{names[family]}")
    chips = np.random.default_rng(0).uniform(0, 255, (1, 4, 4, 3)).astype(np.float32)
    expected = module.preprocess_input(chips.copy(), data_format="channels_last")
    in_force = settle_preprocessing(Ports(preprocessing=FAMILY_MODES[family]), 3)
    bands = chips if in_force.flips else chips[..., ::-1]
    found = (bands - np.float32(in_force.vector)) / np.float32(in_force.value or 1)
    # float32: another order of subtraction and division.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


# Of each family the smallest one; which mode its own preprocess_input has, if it does not scale
# its input itself.
ARCHITECTURES: dict[str, Callable[[object], object]] = {
    "MobileNet": lambda a: a.MobileNet((96, 96, 3), 0.25, weights=None, classes=2),
    "MobileNetV2": lambda a: a.MobileNetV2((96, 96, 3), 0.35, weights=None, classes=2),
    "NASNet": lambda a: a.NASNetMobile((96, 96, 3), weights=None, classes=2),
    "DenseNet": lambda a: a.DenseNet121(
        weights=None, include_top=False, pooling="avg", input_shape=(96, 96, 3)
    ),
    "ResNet": lambda a: a.ResNet50(
        weights=None, include_top=False, pooling="avg", input_shape=(96, 96, 3)
    ),
    "EfficientNet": lambda a: a.EfficientNetB0(weights=None, input_shape=(96, 96, 3), classes=2),
    "MobileNetV3": lambda a: a.MobileNetV3Small((96, 96, 3), weights=None, classes=2),
}


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_an_architecture_is_warned_about_exactly_where_it_should_be(
    family: str, tmp_path: Path
) -> None:
    import keras

    base = ARCHITECTURES[family](keras.applications)
    # As in transfer learning: the architecture is a layer of another model.
    model = keras.Sequential([keras.Input((96, 96, 3)), base, keras.layers.Dense(2)])
    model.save(tmp_path / "m.h5", include_optimizer=False)
    opened = open_model(tmp_path / "m.h5")
    own = FAMILY_MODES.get(family, "none")
    for mode in MODES:
        ports = Ports(preprocessing=mode)
        warnings = list(contradictions(opened, ports, settle_preprocessing(ports, 3)))
        assert len(warnings) == (mode != own), (mode, warnings)
        assert all(f"set the port preprocessing to {own}" in warning for warning in warnings)


def test_numbers_that_the_user_gives_are_not_argued_about(tmp_path: Path) -> None:
    import keras

    base = ARCHITECTURES["MobileNetV2"](keras.applications)
    base.save(tmp_path / "m.h5", include_optimizer=False)
    opened = open_model(tmp_path / "m.h5")
    ports = Ports(preprocessing="tf", normalization_vector=(90.0, 90.0, 90.0))
    assert list(contradictions(opened, ports, settle_preprocessing(ports, 3))) == []
    ports = Ports(normalization_vector=(127.5,) * 3, normalization_value=(127.5,))
    (warning,) = contradictions(opened, ports, settle_preprocessing(ports, 3))  # B,G,R
    assert "set the port preprocessing to tf" in warning


def test_reference_models_are_warned_about_only_where_they_scale_inside() -> None:
    folder = Path(__file__).parents[1] / "models"
    index = json.loads((folder / "index.json").read_text())
    warned = set()
    for name, entry in index.items():
        if entry["expect"] == "agree" and name.endswith((".h5", ".keras")):
            opened = open_model(folder / name, entry["task"], classes=entry.get("classes"))
            if opened.bands == 3:
                in_force = settle_preprocessing(Ports(), 3)
                if list(contradictions(opened, Ports(), in_force)):
                    warned.add(name)
    scaling = {
        name
        for name in index
        if {"Rescaling", "Normalization"} & set(index[name].get("layers", [])) or "preproc" in name
    }
    assert warned >= {name for name in scaling if index[name]["expect"] == "agree"}
    # Operations at their beginning, such as x / 127.5 - 1.
    operations = {
        "keras3151_kops.h5",
        "keras3151_transfer_logits.h5",
        "tf2121_tfop.h5",
        "tf234_ops.h5",
        "tf24_dtype_int32.h5",
    }
    # Layers for which index.json has no list.
    layers = {"tf215_convlstm.h5", "tf244_autokeras.h5", "tf28_dtype_uint8.h5"}
    assert {name for name in warned - scaling if "lambda" not in name} == operations | layers


# --------------------------------------------------------------------------------------- bands


def test_other_numbers_of_bands_are_settled_or_refused() -> None:
    four = Ports(preprocessing="zero_to_one")
    assert settle_preprocessing(four, 4) == Preprocessing(
        "zero_to_one", (1, 2, 3, 4), False, (0.0,) * 4, (255.0,) * 4
    )
    picked = Ports(bands=(7, 5, 3, 2), normalization_vector=(1.0, 2.0, 3.0, 4.0))
    assert settle_preprocessing(picked, 4) == Preprocessing(
        "caffe", (7, 5, 3, 2), False, (1.0, 2.0, 3.0, 4.0), ()
    )
    assert settle_preprocessing(Ports(preprocessing="none"), 1).bands is None
    assert settle_preprocessing(Ports(preprocessing="none", bands=(4,)), 1).bands == (4,)
    assert settle_preprocessing(Ports(bands=(5, 3, 2)), 3).bands == (2, 3, 5)
    for ports, bands, part in (
        (Ports(), 4, "has no numbers"),
        (Ports(preprocessing="torch", normalization_vector=(1.0,) * 4), 4, "has no numbers"),
        (Ports(), 1, "has no numbers"),
        (Ports(preprocessing="tf", bands=(1, 2, 3)), 4, "takes 4"),
        (Ports(normalization_vector=(1.0,)), 3, "give three numbers"),
        (Ports(preprocessing="tf", normalization_value=(1.0, 2.0)), 3, "give three numbers"),
    ):
        with pytest.raises(TaskError, match=part):
            settle_preprocessing(ports, bands)


def test_what_was_fed_is_told_in_the_models_order() -> None:
    pixels = np.zeros((2, 2, 2, 3), np.uint8)
    pixels[..., 2] = 255  # red, the pixels being B,G,R
    pixels[0, 0, 0, 2] = 0
    tf = settle_preprocessing(Ports(preprocessing="tf"), 3)
    assert tf.fed(pixels) == [(-1, 0.75, 1), (-1, -1, -1), (-1, -1, -1)]
    ports = Ports(normalization_value=(-1.0,))
    caffe = settle_preprocessing(ports, 3).fed(pixels)
    assert caffe[2] == pytest.approx((123.68 - 255, 123.68 - 255 * 7 / 8, 123.68))


# ---------------------------------------------------------------------------------------- heads


@pytest.mark.parametrize(
    ("units", "loss", "function"),
    [
        (3, "CategoricalCrossentropy", "softmax"),
        (3, "SparseCategoricalCrossentropy", "softmax"),
        (1, "BinaryCrossentropy", "sigmoid"),
        (3, "BinaryCrossentropy", "sigmoid"),
    ],
)
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_logits_of_the_training_become_probabilities(
    ending: str, library: str, units: int, loss: str, function: str, tmp_path: Path
) -> None:
    keras = pytest.importorskip(library)
    model = keras.Sequential(
        [keras.layers.InputLayer((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(units)]
    )
    model.compile("adam", getattr(keras.losses, loss)(from_logits=True))
    model.save(tmp_path / f"m{ending}")
    assert open_model(tmp_path / f"m{ending}").head.owed == function
    model.compile("adam", getattr(keras.losses, loss)())
    model.save(tmp_path / f"m{ending}")
    head = open_model(tmp_path / f"m{ending}").head
    assert (head.owed, head.is_logit) == (None, True)


def test_one_tanh_and_one_softmax_output(rgb: np.ndarray, tmp_path: Path) -> None:
    model = save_cnn(tmp_path / "tanh.h5", units=1, activation="tanh")
    run = classify(tmp_path / "tanh", rgb, tmp_path / "tanh.h5", {"probabilities": "true"})
    value = model.predict(preprocess("caffe", rgb), verbose=0)
    second = (1 + value) / 2
    check(run, np.hstack([1 - second, second]))
    probabilities = [answer["probabilities"]["1"] for answer in run.classified.values()]
    np.testing.assert_allclose(probabilities, second[:, 0], rtol=0, atol=TOLERANCE)
    save_cnn(tmp_path / "softmax.h5", units=1)
    run = classify(tmp_path / "softmax", rgb, tmp_path / "softmax.h5")
    assert len(run.warnings("always 1")) == 1


# ------------------------------------------------------------------------------------------- GPU


@pytest.mark.parametrize("place", ["dev/nvidia0", "proc/driver/nvidia/version"])
def test_a_gpu_without_its_libraries_is_told(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not missing_cuda(tmp_path)
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).touch()
    assert missing_cuda(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # the user wants none
    assert not missing_cuda(tmp_path)
