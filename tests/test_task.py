"""The task as a process against its contract: ports, models, results, status, log, signals."""

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest

import chip_files
from chip_classifier.classifier import has_nvidia
from chip_files import (
    TRY_AGAIN,
    Run,
    assert_failed,
    assert_succeeded,
    checksum,
    fail_before_tensorflow,
    files_below,
    make_tar,
    make_work_dir,
    png,
    run_task,
    scene,
    uniform_png,
)

# NumPy and Keras disagree about an argument while the models for the tests are made.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")

DEFAULT_VECTOR_BGR = np.array([103.939, 116.779, 123.68])

ONE_CHIP = make_tar([("chips/a.png", uniform_png(10, 20, 30))])
UNIT_PORTS = {"normalization_vector": "0,0,0"}  # the model sees the pixels as they are


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Describe the files below a directory: path -> (time of change, content)."""
    return {
        name: (path.stat().st_mtime_ns, path.read_bytes())
        for name in files_below(folder)
        for path in [folder / name]
    }


def write_stale_results(work_dir: Path) -> None:
    """Put the results of an earlier run into a work directory."""
    results = work_dir / "output" / "results"
    results.mkdir(parents=True)
    for name in ("classified.json", "unclassified.json"):
        (results / name).write_text('{"stale": true}')
    (work_dir / "status.json").write_text('{"status": "success", "reason": null}')


# --------------------------------------------------------------------------- a run without ports

COLOURS = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (0, 0, 0),
    (255, 255, 255),
    *np.random.default_rng(4).integers(0, 256, (30, 3)).tolist(),
]


@pytest.fixture(scope="module")
def default_run(bands_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run without ports.json over chips of one colour, in a work directory of an earlier run."""
    folder = tmp_path_factory.mktemp("default")
    members = [
        (f"chips/{number}.png", uniform_png(*colour, size=1 + number % 7))
        for number, colour in enumerate(COLOURS)
    ]
    work_dir = make_work_dir(folder / "w", make_tar(members), bands_model)
    (work_dir / "gbdx_runtime.json").write_text("{}")
    write_stale_results(work_dir)
    elsewhere = {"TMPDIR": str(folder / "tmp"), "HOME": str(folder / "home")}
    for path in elsewhere.values():
        Path(path).mkdir()
    before = snapshot(work_dir / "input")
    run = run_task(work_dir, environment=elsewhere)
    assert snapshot(work_dir / "input") == before
    return assert_succeeded(run)


def test_run_without_ports_writes_the_documented_files_only(default_run: Run) -> None:
    written = set(files_below(default_run.work_dir)) - {"gbdx_runtime.json"}
    assert {name for name in written if not name.startswith("input/")} == {
        "output/results/classified.csv",
        "output/results/classified.json",
        "output/logs/out.log",
        "output/logs/preview.html",
        "status.json",
    }


@pytest.mark.skipif(has_nvidia(), reason="this machine has a GPU, of which TensorFlow tells more")
def test_log_has_only_the_lines_of_the_task(default_run: Run) -> None:
    lines = default_run.log.splitlines()
    assert [line for line in lines if not re.match(r"20[0-9-]{8} [0-9:,]{12} [A-Z]+ ", line)] == []


@pytest.mark.parametrize("place", ["tmp", "home"])
def test_run_leaves_nothing_outside_its_work_directory(place: str, default_run: Run) -> None:
    assert files_below(default_run.work_dir.parent / place) == []


def test_preprocessing_is_that_of_resnet50(default_run: Run) -> None:
    import keras

    rgb = np.array(COLOURS, np.float32)[:, None, None]
    outputs = keras.applications.resnet50.preprocess_input(rgb)[:, 0, 0]
    # Exactly: the model only passes its input on; certainties are rounded to 10 decimals.
    assert default_run.classified == {
        str(number): {
            "class": str(bands.argmax()),
            "certainty": round(float(bands.max()), 10),
        }
        for number, bands in enumerate(outputs)
    }


def test_answers_of_a_run_without_ports_are_in_order(default_run: Run) -> None:
    assert list(default_run.classified) == [str(number) for number in range(len(COLOURS))]


def test_logits_are_reported_as_they_are_with_one_warning(default_run: Run) -> None:
    assert min(answer["certainty"] for answer in default_run.classified.values()) < 0
    assert len(default_run.warnings()) == 1
    assert len(default_run.warnings("no probabilities")) == 1


def test_log_names_versions_device_ports_and_times(default_run: Run) -> None:
    log = default_run.log
    for part in (
        "tensorflow 2.",
        "keras 3.",
        "numpy 2.",
        "chips.tar",
        "bands.h5",
        "classes: numbers",
        "size: 4 x 4",
        "deploy_batch: 100",
        "normalization_vector: 123.68,116.779,103.939",
        "normalization_value: None",
    ):
        assert part in log
    assert re.search(r"Device: (CPU|GPU)", log)
    assert re.search(r"Time to load the model: [0-9.]+ s", log)
    assert re.search(r"Total classification time: [0-9.]+ s, [0-9.]+ chips/s", log)
    assert re.findall(r"Chips (\d+) to (\d+): [0-9.]+ s", log) == [("0", str(len(COLOURS) - 1))]


def test_summary_says_what_was_found_and_where_it_lies(default_run: Run) -> None:
    text = default_run.stdout
    assert f"Classified {len(COLOURS)} of {len(COLOURS)} chips" in text
    assert "chips/s" in text
    assert str(default_run.work_dir / "output" / "results") in text
    for name in "012":
        number = sum(answer["class"] == name for answer in default_run.classified.values())
        assert re.search(rf"^ *{number}  {name}$", text, re.MULTILINE)
    assert "tensorflow" not in text.lower()


def test_summary_of_many_classes_names_those_that_have_chips(
    task: ModuleType, capsys: pytest.CaptureFixture
) -> None:
    counts = Counter({str(number): 0 for number in range(1000)})
    counts.update({"7": 3, "999": 2, "0": 1})
    record = SimpleNamespace(counts=counts, reasons=Counter(), rate=1.0)
    task.summarize(Path("results"), record, None, 1.0)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:-1] == ["3  7", "2  999", "1  0", "0  in each of the other 997 classes"]


# -------------------------------------------------------------------------- runs with string ports


def noise_chips() -> dict[str, np.ndarray]:
    """Make chips of several sizes: name -> uint8 (H, W, 3), R, G, B."""
    sizes = ((16, 16), (24, 20), (7, 50), (40, 40), (16, 17))
    return {f"n{number}": scene(number, *size, 3) for number, size in enumerate(sizes)}


def warped(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Warp an R, G, B image as the task documents it: B, G, R, bilinear."""
    return cv2.resize(chip_files.bgr(image), (columns, rows), interpolation=cv2.INTER_LINEAR)


def noise_archive() -> bytes:
    """Make an archive of noise_chips."""
    return make_tar([(f"chips/{name}.png", png(image)) for name, image in noise_chips().items()])


@pytest.fixture(scope="module")
def full_run(checksum_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with every port set, and unknown ones, its input read-only, hidden files beside it."""
    ports = {
        "classes": "  No Buildings ,Buildings ",
        "size": " 16 ",
        "deploy_batch": "2",
        "normalization_vector": "1, 2, 4",
        "normalization_value": "-2.0",
        "clases": "a typo",
        "Size": "32",
    }
    folder = tmp_path_factory.mktemp("full")
    work_dir = make_work_dir(folder / "w", noise_archive(), checksum_model, ports)
    (work_dir / "input" / "chips" / "._chips.tar").write_bytes(b"x")
    (work_dir / "input" / "chips" / "notes.txt").write_bytes(b"x")
    (work_dir / "input" / "model" / ".hidden.h5").write_bytes(b"x")
    directories = [work_dir / "input" / name for name in ("chips", "model", "")]
    for directory in directories:
        directory.chmod(0o555)
    run = run_task(work_dir)
    for directory in directories:
        directory.chmod(0o755)
    return assert_succeeded(run)


def test_vector_comes_off_its_own_band_before_the_division(full_run: Run) -> None:
    # Halves of whole numbers: exact in float32, see checksum_weights.
    assert full_run.classified == {
        name: {
            "class": "No Buildings",
            "certainty": checksum((warped(image, 16, 16) - np.array([4.0, 2.0, 1.0])) / -2),
        }
        for name, image in noise_chips().items()
    }


def test_batches_have_the_size_of_the_port(full_run: Run) -> None:
    batches = re.findall(r"Chips (\d+) to (\d+): ", full_run.log)
    assert batches == [("0", "1"), ("2", "3"), ("4", "4")]


def test_unknown_ports_are_warned_about(full_run: Run) -> None:
    assert len(full_run.warnings("'clases'")) == 1
    assert len(full_run.warnings("'Size'")) == 1


def test_ports_in_force_are_logged(full_run: Run) -> None:
    for part in (
        "classes: No Buildings, Buildings",
        "size: 16 x 16",
        "deploy_batch: 2",
        "normalization_value: -2.0",
    ):
        assert part in full_run.log
    assert re.search(r"normalization_vector: 1(\.0)?,2(\.0)?,4(\.0)?$", full_run.log, re.MULTILINE)


def test_blank_ports_are_absent_ports(checksum_model: Path, tmp_path: Path) -> None:
    import keras

    ports = {
        "classes": "",
        "size": "  ",
        "deploy_batch": "\t",
        "normalization_vector": "",
        "normalization_value": " None ",
    }
    work_dir = make_work_dir(tmp_path / "w", noise_archive(), checksum_model, ports)
    run = assert_succeeded(run_task(work_dir))
    weights = chip_files.checksum_weights(16, 16)
    assert list(run.classified) == list(noise_chips())
    for name, image in noise_chips().items():
        rgb = warped(image, 16, 16)[None, ..., ::-1].astype(np.float32)
        pixels = keras.applications.resnet50.preprocess_input(rgb)[0]
        # The bound for a sum of n float32 products: n * 2**-24 * the sum of their sizes.
        bound = float(weights.size * 2**-24 * np.abs(weights * pixels).sum())
        assert run.classified[name]["class"] == "0"
        assert run.classified[name]["certainty"] == pytest.approx(checksum(pixels), abs=bound)
        assert bound < 0.01 * np.abs(weights * DEFAULT_VECTOR_BGR).sum()
    assert "deploy_batch: 100" in run.log
    assert not run.warnings("port")


def test_model_of_any_size_gets_224_or_the_port(tmp_path: Path) -> None:
    model = chip_files.save_edges_model(tmp_path / "any.hdf5")
    for size in (224, 32):
        ports = UNIT_PORTS | ({} if size == 224 else {"size": str(size)})
        work_dir = make_work_dir(tmp_path / str(size), noise_archive(), model, ports)
        run = assert_succeeded(run_task(work_dir))
        for name, image in noise_chips().items():
            outputs = chip_files.edges(warped(image, size, size))
            # Sums of whole numbers are exact; 1e-6 leaves room for a device's own algorithm.
            expected = {
                "class": str(np.argmax(outputs)),
                "certainty": pytest.approx(max(outputs), rel=1e-6),
            }
            assert run.classified[name] == expected


def test_model_that_is_not_square_gets_its_own_size(tmp_path: Path) -> None:
    model = chip_files.save_checksum_model(tmp_path / "wide.h5", 24, 40)
    work_dir = make_work_dir(tmp_path / "w", noise_archive(), model, UNIT_PORTS)
    assert assert_succeeded(run_task(work_dir)).classified == {
        name: {"class": "0", "certainty": checksum(warped(image, 24, 40))}
        for name, image in noise_chips().items()
    }
    for size in ("24", "40"):
        work_dir = make_work_dir(
            tmp_path / size, noise_archive(), model, {"size": size, **UNIT_PORTS}
        )
        reason = fail_before_tensorflow(work_dir)
        assert f"size is {size}" in reason
        assert "24 x 40" in reason


def test_settings_that_keras_keeps_in_the_home_directory_do_not_matter(
    bands_model: Path, tmp_path: Path
) -> None:
    # What Keras 1 and 2 wrote there for those who trained with Theano.
    settings = {"backend": "theano", "image_data_format": "channels_first", "floatx": "float64"}
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(settings))
    work_dir = make_work_dir(tmp_path / "w", ONE_CHIP, bands_model, UNIT_PORTS)
    run = assert_succeeded(run_task(work_dir, environment={"HOME": str(tmp_path)}))
    assert run.classified == {"a": {"class": "0", "certainty": 30.0}}


# ------------------------------------------------------------------------------------------ heads


def test_one_sigmoid_output_is_two_classes(tmp_path: Path) -> None:
    kernel = [[0.01], [0], [-0.01]]  # blue for the second class, red for the first
    model = chip_files.save_dense_model(tmp_path / "sigmoid.h5", kernel, [0], "sigmoid")
    colours = {"blue": (0, 0, 255), "red": (255, 0, 0), "even": (9, 9, 9), "bluish": (90, 0, 91)}
    archive = make_tar([(f"{name}.png", uniform_png(*c)) for name, c in colours.items()])
    ports = {"classes": "No,Yes", **UNIT_PORTS}
    run = assert_succeeded(run_task(make_work_dir(tmp_path / "w", archive, model, ports)))
    values = {name: 1 / (1 + np.exp(0.01 * (c[0] - c[2]))) for name, c in colours.items()}
    # float32 has 7 digits.
    assert run.classified == {
        "blue": {"class": "Yes", "certainty": pytest.approx(values["blue"], rel=1e-6)},
        "red": {"class": "No", "certainty": pytest.approx(1 - values["red"], rel=1e-6)},
        "even": {"class": "No", "certainty": 0.5},
        "bluish": {"class": "Yes", "certainty": pytest.approx(values["bluish"], rel=1e-6)},
    }
    assert run.warnings() == []


def test_softmax_and_values_that_are_not_finite(tmp_path: Path) -> None:
    # A red chip overflows float32: the softmax of an infinity is no number.
    kernel = [[0.01, 0, 0], [0, 0.01, 0], [3e38, 0, 0]]
    model = chip_files.save_dense_model(tmp_path / "softmax.h5", kernel, [0, 0, -9], "softmax")
    colours = {"blue": (0, 0, 250), "red": (255, 0, 0), "green": (0, 180, 0), "pink": (255, 9, 9)}
    chips = [(f"c/{name}.png", uniform_png(*colour)) for name, colour in colours.items()]
    archive = make_tar([*chips, ("c/broken.jpg", b"x")])
    ports = {"classes": "B,G,R", "deploy_batch": "2", **UNIT_PORTS}
    work_dir = make_work_dir(tmp_path / "w", archive, model, ports)
    run = run_task(work_dir)
    assert run.code == 0
    assert "3 of 5 chips" in run.status["reason"]
    assert list(run.unclassified) == ["red", "pink", "broken"]
    assert "finite" in run.unclassified["red"]
    logits = np.array([[2.5, 0, -9], [0, 1.8, -9]])
    blue, green = np.exp(logits).max(axis=1) / np.exp(logits).sum(axis=1)
    # float32 has 7 digits.
    assert run.classified == {
        "blue": {"class": "B", "certainty": pytest.approx(blue, rel=1e-6)},
        "green": {"class": "G", "certainty": pytest.approx(green, rel=1e-6)},
    }
    for name in ("c/red.png", "c/pink.png", "c/broken.jpg"):
        assert len(run.warnings(f"'{name}'")) == 1
    assert len(run.warnings()) == 3
    assert re.search(r"^ *3  not classified, see unclassified.json$", run.stdout, re.MULTILINE)
    assert re.search(r"^ *0  R$", run.stdout, re.MULTILINE)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("names", ["A", "A,B,C"])
def test_wrong_number_of_classes_names_both_numbers(
    activation: str, names: str, tmp_path: Path
) -> None:
    outputs = {"softmax": 4, "sigmoid": 1}[activation]
    model = chip_files.save_dense_model(
        tmp_path / "m.h5", np.zeros((3, outputs)), [0] * outputs, activation
    )
    reason = fail_before_tensorflow(
        make_work_dir(tmp_path / "w", ONE_CHIP, model, {"classes": names})
    )
    assert "classes" in reason
    assert str(names.count(",") + 1) in reason
    assert str(max(outputs, 2)) in reason


def test_wrong_number_of_classes_is_found_where_only_the_model_tells(
    bands_model: Path, tmp_path: Path
) -> None:
    work_dir = make_work_dir(tmp_path / "w", ONE_CHIP, bands_model, {"classes": "A,B"})
    reason = assert_failed(run_task(work_dir))
    assert "2" in reason
    assert "3" in reason


def model_with(kind: str, path: Path) -> Path:
    """Save a model that is no classifier of images."""
    import keras

    image = keras.Input((4, 4, 3))
    flat = keras.layers.Flatten()(image)
    inputs, outputs = image, keras.layers.Dense(2)(flat)
    if kind == "two outputs":
        outputs = [outputs, keras.layers.Dense(5)(flat)]
    elif kind == "an image as output":
        outputs = keras.layers.Conv2D(7, 1)(image)
    elif kind == "two inputs":
        inputs = [image, keras.Input((9,))]
        outputs = keras.layers.Dense(2)(keras.layers.Concatenate()([flat, inputs[1]]))
    elif kind == "no image as input":
        inputs = keras.Input((48,))
        outputs = keras.layers.Dense(2)(inputs)
    return chip_files.save_model(path, keras.Model(inputs, outputs))


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("two outputs", [r"\b2\b", r"\b5\b"]),
        ("an image as output", [r"4\D{1,3}4\D{1,3}7"]),
        ("two inputs", [r"4\D{1,3}4\D{1,3}3", r"\b9\b"]),
        ("no image as input", [r"\b48\b"]),
    ],
)
def test_model_that_is_no_classifier_of_chips_fails_naming_the_shape(
    kind: str, shapes: list[str], tmp_path: Path
) -> None:
    model = model_with(kind, tmp_path / "m.h5")
    reason = assert_failed(run_task(make_work_dir(tmp_path / "w", ONE_CHIP, model)))
    for shape in shapes:
        assert re.search(shape, reason)
    assert "set the port size" not in reason


# --------------------------------------------------------------------------------- failures, early

BAD_PORTS = [
    ({"size": "0"}, ["size", "positive whole number", "'0'"]),
    ({"size": "224.5"}, ["size", "positive whole number", "'224.5'"]),
    ({"size": "100000"}, ["size", "100000"]),
    ({"size": "5"}, ["size is 5", "4 x 4"]),
    ({"deploy_batch": "-1"}, ["deploy_batch", "positive whole number", "'-1'"]),
    ({"deploy_batch": "ten"}, ["deploy_batch", "positive whole number", "'ten'"]),
    (
        {"normalization_vector": "1,2"},
        ["normalization_vector", "2 number(s)", "give three numbers"],
    ),
    ({"normalization_vector": "1,2,nan"}, ["normalization_vector", "three numbers"]),
    ({"normalization_value": "0"}, ["normalization_value", "other than 0", "'0'"]),
    ({"normalization_value": "many"}, ["normalization_value", "'many'"]),
    ({"classes": "A,,B"}, ["classes", "empty name", "A,,B"]),
    ({"size": {"rows": 224}}, ["size", "string", "quotation marks"]),
    ({"classes": ["A", ["B"]]}, ["classes", "write the names in the order"]),
    ({"normalization_value": False}, ["normalization_value", "leave it out"]),
    ({"preprocessing": "imagenet"}, ["preprocessing", "caffe, tf, torch", "'imagenet'"]),
    ({"normalization_value": "1,2"}, ["normalization_value", "2 number(s)", "three"]),
    ({"bands": "1,2"}, ["bands", "2 band(s)", "takes 3"]),
    ({"bands": "0,1,2"}, ["bands", "counted from 1"]),
    ({"bit_depth": "64"}, ["bit_depth", "at most 32"]),
    ({"probabilities": "yes"}, ["probabilities", "'True' or 'False'"]),
    ("{'size': '224'}", ["ports.json", "JSON"]),
    ("", ["ports.json", "JSON"]),
    ('["size", "224"]', ["ports.json", "object"]),
    ('"size"', ["ports.json", "object"]),
    ("[" * 100_000, ["ports.json", "JSON"]),
]


@pytest.mark.parametrize(("ports", "parts"), BAD_PORTS, ids=lambda value: str(value)[:40])
def test_bad_port_fails_at_once_and_says_what_to_change(
    ports: dict | str, parts: list[str], bands_model: Path, tmp_path: Path
) -> None:
    work_dir = make_work_dir(tmp_path / "w", ONE_CHIP, bands_model, ports)
    write_stale_results(work_dir)
    before = snapshot(work_dir / "input")
    reason = fail_before_tensorflow(work_dir)
    for part in parts:
        assert part in reason
    assert snapshot(work_dir / "input") == before
    # What an earlier run left is not lost to a typo, and the sentence says whose it is.
    assert {name for name in files_below(work_dir) if not name.startswith("input/")} == {
        *(f"output/results/{name}" for name in ("classified.json", "unclassified.json")),
        "output/logs/out.log",
        "status.json",
    }
    assert re.search(r" The results in \S+/w/output/results are still those of a run of 20", reason)


def test_early_failure_would_notice_tensorflow(bands_model: Path, tmp_path: Path) -> None:
    """The probe of the tests above works: a sound run does ask for TensorFlow."""
    work_dir = make_work_dir(tmp_path / "w", ONE_CHIP, bands_model)
    assert chip_files.run_without_tensorflow(work_dir).imported_tensorflow


@pytest.mark.parametrize("place", ["chips", "model"])
@pytest.mark.parametrize(
    ("files", "parts"),
    [
        ([], ["no file"]),
        (["a.zip", "notes.txt"], ["a.zip", "notes.txt"]),
        ([".hidden.tar", "._m.h5"], ["no file"]),
        (["a.tar", "b.TAR.GZ", "c.tbz", "m.h5", "n.KERAS"], None),
    ],
)
def test_none_or_several_inputs_fail_and_are_named(
    place: str, files: list[str], parts: list[str] | None, bands_model: Path, tmp_path: Path
) -> None:
    chips, model = (None, bands_model) if place == "chips" else (ONE_CHIP, None)
    work_dir = make_work_dir(tmp_path / "w", chips, model)
    for name in files:
        (work_dir / "input" / place / name).write_bytes(b"x")
    reason = fail_before_tensorflow(work_dir)
    assert f"input/{place}" in reason
    if parts is None:
        parts = {"chips": ["a.tar", "b.TAR.GZ", "holds 2"], "model": ["m.h5", "n.KERAS"]}[place]
    for part in parts:
        assert part in reason


@pytest.mark.parametrize("place", ["chips", "model", ""])
def test_missing_input_directory_is_named(place: str, bands_model: Path, tmp_path: Path) -> None:
    work_dir = make_work_dir(tmp_path / "w", ONE_CHIP, bands_model)
    shutil.rmtree(work_dir / "input" / place)
    assert f"input/{place or 'chips'}" in fail_before_tensorflow(work_dir)


def test_missing_work_directory_fails_with_one_line(tmp_path: Path) -> None:
    run = chip_files.run_without_tensorflow(tmp_path / "nothing")
    assert run.code == 1
    assert str(tmp_path / "nothing") in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert not (tmp_path / "nothing").exists()


def test_output_that_cannot_be_written_is_reported(bands_model: Path, tmp_path: Path) -> None:
    work_dir = make_work_dir(tmp_path / "w", ONE_CHIP, bands_model)
    (work_dir / "output").write_text("in the way")
    run = chip_files.run_without_tensorflow(work_dir)
    assert run.code == 1
    assert run.status["status"] == "failed"
    assert "cannot be written" in run.status["reason"]
    assert run.stderr.splitlines()[-1] == run.status["reason"]
    assert not run.imported_tensorflow


def test_all_chips_bad_is_a_failure_without_results(bands_model: Path, tmp_path: Path) -> None:
    archive = make_tar(
        [
            ("chips/a.jpg", b""),
            ("chips/b.png", uniform_png(1, 2, 3)),
            ("chips/c.tif", b"x"),
            ("chips/b.png", b"cut off"),
            chip_files.header("chips/d.jpg", tarfile.SYMTYPE, "a.jpg"),
        ]
    )
    run = run_task(make_work_dir(tmp_path / "w", archive, bands_model))
    reason = assert_failed(run)
    assert "4 chips" in reason
    assert set(run.unclassified) == {"a", "b", "c", "d"}
    assert files_below(run.work_dir / "output" / "results") == ["unclassified.json"]

    classified = run.work_dir / "output" / "results" / "classified.json"
    classified.write_text("{}")  # of an earlier run
    again = run_task(run.work_dir)
    assert again.code == 1
    assert re.search(r"see out\.log\. The results in \S+ are still", again.status["reason"])
    assert classified.read_text() == "{}"


def test_help_explains_the_work_directory() -> None:
    done = subprocess.run(
        [*chip_files.command(Path(".")), "--help"],
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    for part in ("--work-dir", "/mnt/work", "ports.json", "chips", "model", "status.json"):
        assert part in done.stdout


def test_work_directory_is_that_of_gbdx_without_arguments(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, str(chip_files.SCRIPT)],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    # The usage: where /mnt/work is, as in the container, that is the work directory.
    assert done.returncode == 2
    assert "usage:" in done.stderr and "--work-dir" in done.stderr


# ------------------------------------------------------------------------- stopped and resumed


CHIPS = 3000  # so many that the run takes longer than its line of progress waits


@pytest.fixture(scope="module")
def long_archive() -> bytes:
    """An archive of many chips: some broken, one stored twice, a link, names that collide."""
    rng = np.random.default_rng(12)
    members = [
        (f"c/{n}.png", b"broken" if n % 100 == 7 else uniform_png(*rng.integers(0, 256, 3)))
        for n in range(CHIPS)
    ]
    members.insert(3, chip_files.header("c/link.jpg", tarfile.SYMTYPE, f"{CHIPS - 1}.png"))
    return make_tar([*members, ("c/2.png", uniform_png(1, 2, 3)), ("c/9.jpg", members[1][1])])


def long_work_dir(folder: Path, archive: bytes, model: Path) -> Path:
    """Make a work directory for a run that goes on for some seconds: one chip a batch."""
    return make_work_dir(folder, archive, model, {"deploy_batch": "1"})


def start(work_dir: Path) -> subprocess.Popen:
    """Start the task."""
    return subprocess.Popen(
        chip_files.command(work_dir),
        encoding="utf-8",
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )


def stop(process: subprocess.Popen, work_dir: Path, number: signal.Signals) -> tuple[Run, float]:
    """Send a signal to the task; give what it leaves behind and the seconds that it took."""
    assert process.poll() is None
    sent = time.monotonic()
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=chip_files.TIMEOUT_SECONDS)
    return Run(work_dir, process.returncode, stdout, stderr), time.monotonic() - sent


def wait_for(path: Path, lines: int, process: subprocess.Popen) -> None:
    """Wait until a file has so many lines, while the task runs."""
    give_up = time.monotonic() + chip_files.TIMEOUT_SECONDS
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        assert process.poll() is None, "the task ended too early"
        assert time.monotonic() < give_up
        time.sleep(0.01)


def read_terminal(command: list[str]) -> str:
    """Run a command with a terminal as its stdout and give what it showed there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while block := os.read(ours, 65536):
            shown += block
    os.close(ours)
    assert process.wait(timeout=chip_files.TIMEOUT_SECONDS) == 0
    return shown.decode()


@pytest.fixture(scope="module")
def undisturbed(
    long_archive: bytes, bands_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, str]:
    """A run that nobody stops, and what it showed on a terminal."""
    work_dir = long_work_dir(tmp_path_factory.mktemp("whole") / "w", long_archive, bands_model)
    shown = read_terminal(chip_files.command(work_dir))
    return Run(work_dir, 0, shown, ""), shown


def test_terminal_shows_one_line_of_progress_and_then_the_summary(
    undisturbed: tuple[Run, str],
) -> None:
    _, shown = undisturbed
    assert re.search(rf"\r[0-9,]+ of {CHIPS + 3:,} chips, [0-9,.]+ chips/s, 0:00:\d\d left", shown)
    # One member replaces another.
    assert re.search(rf"[\r\n]Classified [0-9,]+ of {CHIPS + 2:,} chips", shown)


@pytest.mark.smoke
def test_killed_run_is_resumed_by_the_next_one(
    long_archive: bytes, bands_model: Path, undisturbed: tuple[Run, str], tmp_path: Path
) -> None:
    work_dir = long_work_dir(tmp_path / "w", long_archive, bands_model)
    results = work_dir / "output" / "results"
    journal = results / "resume.jsonl"

    process = start(work_dir)
    wait_for(journal, 30, process)
    killed, _ = stop(process, work_dir, signal.SIGKILL)
    assert killed.status["status"] == "failed"
    assert "again" in killed.status["reason"]
    assert killed.classified is None
    answered = journal.read_bytes().count(b"\n") - 1

    process = start(work_dir)
    wait_for(journal, answered + 31, process)
    stopped, seconds = stop(process, work_dir, signal.SIGTERM)
    assert seconds < 2
    assert "SIGTERM" in assert_failed(stopped, TRY_AGAIN)
    assert re.search(rf"after {answered:,} chips", stopped.log)
    assert journal.read_bytes().count(b"\n") > answered + 30

    finished = run_task(work_dir)
    assert "Resuming" in finished.log
    assert int(re.search(r"Chips (\d+) to", finished.log)[1]) > answered
    for name in ("classified.csv", "classified.json", "unclassified.json"):
        expected = undisturbed[0].work_dir / "output" / "results" / name
        assert (results / name).read_bytes() == expected.read_bytes()
    assert finished.status == undisturbed[0].status
    assert finished.status["status"] == "success"
    assert files_below(results) == ["classified.csv", "classified.json", "unclassified.json"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_tensorflow_loads_is_answered(
    number: signal.Signals, bands_model: Path, tmp_path: Path
) -> None:
    work_dir = make_work_dir(tmp_path / "w", ONE_CHIP, bands_model)
    process = start(work_dir)
    wait_for(work_dir / "output" / "logs" / "out.log", 3, process)
    time.sleep(0.5)  # the loading takes some seconds
    run, seconds = stop(process, work_dir, number)
    assert seconds < 2
    assert number.name in assert_failed(run, TRY_AGAIN)


def test_changed_port_starts_anew(bands_model: Path, tmp_path: Path) -> None:
    work_dir = make_work_dir(tmp_path / "w", ONE_CHIP, bands_model, {"classes": "x,y,z"})
    journal = work_dir / "output" / "results" / "resume.jsonl"
    journal.parent.mkdir(parents=True)
    batch = {"first": 0, "classes": [2], "certainties": [0.5], "problems": {}}
    journal.write_text(json.dumps({"classes": "other"}) + "\n" + json.dumps(batch) + "\n")
    run = assert_succeeded(run_task(work_dir))
    # Blue is the largest band: 30 - 103.939, which float32 rounds.
    answer = {"class": "x", "certainty": pytest.approx(-73.939, rel=1e-6)}
    assert run.classified == {"a": answer}
    assert "Starting anew" in run.log
    assert files_below(journal.parent) == ["classified.csv", "classified.json"]
