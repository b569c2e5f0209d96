"""Files that old versions of Keras saved, through the whole task: PNGs in, classified.json out.

The reference is what the version that saved a file predicted for the same chips, after the task's
default preprocessing (see tests/models). The files in ../shared/models are tried too, if they are
there.
"""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from chip_files import assert_succeeded, make_tar, make_work_dir, png, run_task

FOLDERS = (Path(__file__).parent / "models", Path(__file__).parents[2] / "shared" / "models")
MODELS = {
    path.stem: path
    for folder in reversed(FOLDERS)
    for path in sorted(folder.glob("*.h5"))
    if path.with_name(f"{path.stem}.img.npz").exists()
}
INDEX = {
    name: entry
    for folder in reversed(FOLDERS)
    if folder.exists()
    for name, entry in json.loads((folder / "index.json").read_text()).items()
}
# As much as index.json allows: the sums of float32 are added up in another order today.
TOLERANCE = 1e-4


def names_of(**wanted: str) -> list[str]:
    """Give the models whose entry in index.json has these values (the beginnings of them)."""
    return [
        name
        for name in MODELS
        if all(INDEX[f"{name}.h5"][key].startswith(value) for key, value in wanted.items())
    ]


def reference(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Give a model's chips, uint8 (4, H, W, 3), and the predictions of its own version."""
    with np.load(MODELS[name].with_name(f"{name}.img.npz")) as arrays:
        return arrays["images"], arrays["y"]


def work_dir_for(name: str, folder: Path) -> Path:
    """Make a work directory with a model and its chips.

    The port size is theirs where the model takes any size (where index.json has another one).
    """
    images, _ = reference(name)
    chips = make_tar([(f"chips/{i}.png", png(image)) for i, image in enumerate(images)])
    rows, columns = images.shape[1:3]
    takes_any = INDEX[f"{name}.h5"]["input"][:2] != [rows, columns]
    ports = {"size": str(rows)} if takes_any and rows == columns else None
    return make_work_dir(folder, chips, MODELS[name], ports)


def check(classified: dict[str, dict], name: str) -> None:
    """Compare classified.json with what the model's own version predicted."""
    _, predictions = reference(name)
    tolerance = INDEX[f"{name}.h5"].get("tolerance", TOLERANCE)
    assert list(classified) == [str(i) for i in range(len(predictions))]
    for answer, row in zip(classified.values(), predictions, strict=True):
        if "logits" in name:  # one logit, reported as it is: above 0 is the second class
            assert answer["class"] == str(int(row[0] > 0))
            assert answer["certainty"] == pytest.approx(row[0], abs=tolerance)
            continue
        if len(row) == 1:  # one sigmoid: the probability of the second class
            row = np.array([1 - row[0], row[0]])
        assert answer["certainty"] == pytest.approx(row[int(answer["class"])], abs=tolerance)
        assert row[int(answer["class"])] >= row.max() - tolerance


def classify(task: ModuleType, name: str, trained_with: str, folder: Path) -> dict[str, dict]:
    """Run the task within this process, which saves loading TensorFlow for each model."""
    work_dir = work_dir_for(name, folder)
    results, logs = work_dir / "output" / "results", work_dir / "output" / "logs"
    results.mkdir(parents=True)
    logs.mkdir()
    assert task.run_task(work_dir / "input", results, logs, trained_with) is None
    return json.loads((results / "classified.json").read_text())


@pytest.mark.parametrize("name", names_of(expect="agree"))
def test_old_model_gives_the_numbers_of_its_own_version(
    name: str, task: ModuleType, tmp_path: Path
) -> None:
    check(classify(task, name, INDEX[f"{name}.h5"]["task"], tmp_path / "w"), name)


@pytest.mark.parametrize("name", names_of(expect="agree", keras_version="2", backend="theano"))
def test_keras_2_file_from_theano_is_right_under_the_name_for_tensorflow_too(
    name: str, task: ModuleType, tmp_path: Path
) -> None:
    check(classify(task, name, "tensorflow", tmp_path / "w"), name)


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["k122_theano_th_incmini", "k122_tf_tf_finetune"])
def test_keras_1_file_under_its_own_and_under_the_other_name(name: str, tmp_path: Path) -> None:
    own = INDEX[f"{name}.h5"]["task"]
    other = {"theano": "tensorflow", "tensorflow": "theano"}[own]
    run = assert_succeeded(run_task(work_dir_for(name, tmp_path / "own"), "--trained-with", own))
    check(run.classified, name)
    assert run.warnings() == []
    contradicted = run_task(work_dir_for(name, tmp_path / "other"), "--trained-with", other)
    (warning,) = assert_succeeded(contradicted).warnings()
    assert f"look like {own}" in warning


def test_refused_model_fails_with_a_sentence_that_names_file_and_layer(tmp_path: Path) -> None:
    run = run_task(work_dir_for("k122_tf_tf_lambda", tmp_path / "w"))
    assert run.code == 1
    assert run.status["reason"].startswith("k122_tf_tf_lambda.h5: layer '")
    assert "(Lambda) runs Python code" in run.status["reason"]
