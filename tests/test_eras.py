"""Files that old versions of Keras saved, through the whole task: pictures in, classified.json out.

The reference is what the version that saved a file predicted for the same chips, after the task's
preprocessing (see tests/models).
"""

import html
import io
import json
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tifffile

from chip_classifier.errors import TaskError
from chip_files import assert_succeeded, make_tar, make_work_dir, png, run_task
from keras_files.model_file import ModelError

FOLDER = Path(__file__).parent / "models"
# Name without ending -> the file, or the folder of several files; and its entry in index.json.
MODELS: dict[str, Path] = {}
INDEX: dict[str, dict] = {}
for file_name, entry in json.loads((FOLDER / "index.json").read_text()).items():
    stem = file_name.removesuffix(".h5").removesuffix(".keras")
    if (FOLDER / f"{stem}.img.npz").exists():
        MODELS[stem], INDEX[stem] = FOLDER / file_name, entry
# As much as index.json allows: the sums of float32 are added up in another order today.
TOLERANCE = 1e-4
CHIPS_FOR_A_SECOND_LOOK = 64
# What the training computed from the outputs of these (from_logits).
OWED = {
    "keras3151_transfer_logits": "sigmoid",
    "tf244_transfer_logits": "sigmoid",
    "tf244_preproc": "softmax",
    "tf284_preproc": "softmax",
    "tf2151_preproc": "softmax",
    "tfkeras2210_preproc": "softmax",
} | {
    name: entry["note"].removeprefix("apply ")
    for name, entry in INDEX.items()
    if entry.get("note", "") in ("apply softmax", "apply sigmoid")
}


def names_of(**wanted: str) -> list[str]:
    """Return the models whose entry in index.json has these keys, with values that begin so."""
    return [
        name
        for name in MODELS
        if all(INDEX[name].get(key, "-").startswith(value) for key, value in wanted.items())
    ]


def reference(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a model's chips, uint8 (4, H, W, bands), and what is to be reported for them.

    That is the predictions of its own version, with what is owed to them: (4, outputs).
    """
    with np.load(MODELS[name].with_name(f"{name}.img.npz")) as arrays:
        images, y = arrays["images"], arrays["y"].astype(np.float64)
    if OWED.get(name) == "sigmoid":
        y = 1 / (1 + np.exp(-y))
    elif OWED.get(name) == "softmax":
        y = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
    return images, y


def chip_file(image: np.ndarray) -> tuple[str, bytes]:
    """Write a chip, uint8 (H, W, bands): a png of R,G,B, a tif of other bands."""
    if image.shape[2] == 3:
        return ".png", png(image)
    buffer = io.BytesIO()
    layout = {} if image.shape[2] == 1 else {"planarconfig": "contig"}
    tifffile.imwrite(buffer, image.squeeze(), photometric="minisblack", **layout)
    return ".tif", buffer.getvalue()


def work_dir_for(name: str, folder: Path, times: int = 1) -> Path:
    """Make a work directory with a model, its chips, each so many times, and its ports.

    The port size is that of the chips where the model takes any (where index.json has another).
    """
    images, _ = reference(name)
    files = [chip_file(image) for image in images] * times
    chips = make_tar([(f"chips/{i}{suffix}", data) for i, (suffix, data) in enumerate(files)])
    rows, columns = images.shape[1:3]
    ports = dict(INDEX[name].get("ports", {}))
    if INDEX[name]["input"][:2] != [rows, columns] and rows == columns:
        ports["size"] = str(rows)
    model = MODELS[name]
    work_dir = make_work_dir(folder, chips, None if model.is_dir() else model, ports or None)
    if model.is_dir():
        shutil.copytree(model, work_dir / "input" / "model", dirs_exist_ok=True)
    return work_dir


def check(classified: dict[str, dict], name: str) -> None:
    """Compare classified.json with what the model's own version predicted."""
    _, predictions = reference(name)
    predictions = np.tile(predictions, (len(classified) // len(predictions), 1))
    tolerance = INDEX[name].get("tolerance", TOLERANCE) * max(1, np.abs(predictions).max())
    assert list(classified) == [str(i) for i in range(len(predictions))]
    for answer, row in zip(classified.values(), predictions, strict=True):
        if len(row) == 1:  # the probability of the second class; a tanh goes from -1 to 1
            second = (1 + row[0]) / 2 if INDEX[name].get("activation") == "tanh" else row[0]
            row = np.array([1 - second, second])
        assert answer["certainty"] == pytest.approx(row[int(answer["class"])], abs=tolerance)
        assert row[int(answer["class"])] >= row.max() - tolerance


def classify(task: ModuleType, name: str, trained_with: str, folder: Path) -> dict[str, dict]:
    """Run the task within this process, which saves loading TensorFlow for each model.

    The chips are as many as a second look needs, which has nothing to say of right settings.
    """
    work_dir = work_dir_for(name, folder, CHIPS_FOR_A_SECOND_LOOK // 4)
    results, logs = work_dir / "output" / "results", work_dir / "output" / "logs"
    output = task.Output(work_dir, results, logs)
    output.make_folders()
    warnings = task.Warnings()
    task.run_task(work_dir / "input", output, trained_with, warnings)
    assert not [said for said in warnings.sentences if "as in its training" in said]
    assert not (results / "unclassified.json").exists()
    return json.loads((results / "classified.json").read_text())


@pytest.mark.parametrize("name", names_of(expect="agree"))
def test_old_model_gives_the_numbers_of_its_own_version(
    name: str, task: ModuleType, tmp_path: Path
) -> None:
    check(classify(task, name, INDEX[name]["task"], tmp_path / "w"), name)


@pytest.mark.parametrize("name", names_of(expect="agree", keras_version="2", backend="theano"))
def test_keras_2_file_from_theano_is_right_under_the_name_for_tensorflow_too(
    name: str, task: ModuleType, tmp_path: Path
) -> None:
    check(classify(task, name, "tensorflow", tmp_path / "w"), name)


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["k122_theano_th_incmini", "k122_tf_tf_finetune"])
def test_keras_1_file_under_its_own_and_under_the_other_name(name: str, tmp_path: Path) -> None:
    own = INDEX[name]["task"]
    other = {"theano": "tensorflow", "tensorflow": "theano"}[own]
    run = assert_succeeded(run_task(work_dir_for(name, tmp_path / "own"), "--trained-with", own))
    check(run.classified, name)
    assert run.warnings("look like") == []
    contradicted = run_task(work_dir_for(name, tmp_path / "other"), "--trained-with", other)
    (warning,) = assert_succeeded(contradicted).warnings("look like")
    assert f"look like {own}" in warning


def test_output_that_was_taken_is_told_everywhere(tmp_path: Path) -> None:
    work_dir = work_dir_for("k224_multi_gpu_outputs", tmp_path / "w")
    run = assert_succeeded(run_task(work_dir))
    check(run.classified, "k224_multi_gpu_outputs")
    taken = "Only output 1 ('c', 4 values) fits 4 classes"
    assert len(run.warnings(taken)) == 1
    page = (work_dir / "output/logs/preview.html").read_text(encoding="utf-8")
    assert all(taken in html.unescape(text) for text in (run.status["reason"], run.stderr, page))


def test_refused_model_fails_with_a_sentence_that_names_file_and_layer(tmp_path: Path) -> None:
    run = run_task(work_dir_for("tf20_lambda_r_ifexp", tmp_path / "w"))
    assert run.code == 1
    assert run.status["reason"].startswith(
        "tf20_lambda_r_ifexp.h5: layer 'lambda' (Lambda) runs Py"
    )
    assert "'K.ndim'" in run.status["reason"]


@pytest.mark.parametrize("name", names_of(expect="refuse", kind=""))
def test_model_that_cannot_be_computed_is_refused(
    name: str, task: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises((TaskError, ModelError)) as error:
        classify(task, name, INDEX[name]["task"], tmp_path / "w")
    assert str(error.value).isprintable()
    assert "damaged" not in str(error.value)


@pytest.mark.smoke
def test_architecture_and_weights_of_other_models_fail_with_a_sentence(tmp_path: Path) -> None:
    run = run_task(work_dir_for("tf24_two_mismatch", tmp_path / "w"))
    assert run.code == 1
    assert "model.h5: the weights do not fit the architecture model.json" in run.status["reason"]


def test_changed_architecture_is_another_task(task: ModuleType, tmp_path: Path) -> None:
    """A run is not resumed with another .json file; the journal's fingerprint knows both files."""
    work_dir = work_dir_for("k122_two_plain", tmp_path / "w")
    beside = work_dir / "input/model/model.json"
    opened = task.open_model(work_dir / "input/model/model.h5", beside=[beside])
    before = task.fingerprint_task("chips", opened.files, "", {})
    text = beside.read_text()
    beside.unlink()  # a link to the file of the tests
    beside.write_text(f"{text} ")
    opened = task.open_model(work_dir / "input/model/model.h5", beside=[beside])
    after = task.fingerprint_task("chips", opened.files, "", {})
    assert [key for key in before if before[key] != after[key]] == ["model"]


def test_json_beside_a_whole_model_is_not_read(task: ModuleType, tmp_path: Path) -> None:
    name = "k122_theano_th_incmini"
    work_dir = work_dir_for(name, tmp_path / "w")
    (work_dir / "input/model/class_indices.json").write_text('{"class_name": 3}')
    (work_dir / "input/model/model.json").write_text("[")
    output = task.Output(work_dir, work_dir / "output/results", work_dir / "output/logs")
    output.make_folders()
    assert task.run_task(work_dir / "input", output, "theano", task.Warnings()) is None
    check(json.loads((output.results / "classified.json").read_text()), name)
