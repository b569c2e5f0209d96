"""The task as a process, with wrong settings: each is told, with the port and the value."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from chip_files import (
    Run,
    assert_succeeded,
    make_tar,
    make_work_dir,
    png,
    run_task,
    save_model,
    tif,
)
from trained import NAMES, archive, save_trained

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")

CHIPS = 60
CLASSES = ", ".join(NAMES)


def classify(folder: Path, model: Path, chips: bytes, **ports: str) -> Run:
    return assert_succeeded(run_task(make_work_dir(folder, chips, model, ports or None)))


def test_preprocessing_that_the_model_remembers_otherwise(tmp_path: Path) -> None:
    model = save_trained(tmp_path / "m.h5", "torch", remembers=True)
    chips = archive(CHIPS)
    run = classify(tmp_path / "wrong", model, chips)
    (warning,) = run.warnings("do not look to the model as in its training")
    assert "with the preprocessing caffe what reaches layer 'batch_normalization" in warning
    assert "set the port preprocessing to torch, if the model was trained so" in warning
    assert "do not look to the model" in run.status["reason"]
    assert "do not look to the model" in run.stderr
    page = (run.work_dir / "output" / "logs" / "preview.html").read_text()
    assert "do not look to the model" in page
    run = classify(tmp_path / "right", model, chips, preprocessing="torch")
    assert run.warnings() == [] and run.status["reason"] is None
    assert "Second look: what reaches layer 'batch_normalization" in run.log
    page = (run.work_dir / "output" / "logs" / "preview.html").read_text()
    assert "Are the settings right?" in page and ": nothing to object." in page


def test_preprocessing_with_which_fewer_chips_are_right(tmp_path: Path) -> None:
    model = save_trained(tmp_path / "m.keras", "torch")
    chips = archive(CHIPS, with_truth=True)
    run = classify(tmp_path / "wrong", model, chips, preprocessing="tf", classes=CLASSES)
    (warning,) = run.warnings("of the chips with a known class are right")
    assert "With the preprocessing tf 7" in warning  # of 100 chips
    assert "the preprocessing torch would be right about 100% of them" in warning
    assert "set the port preprocessing to torch" in warning
    names = [NAMES[place] for place in (1, 0, 2, 4, 3)]
    run = classify(
        tmp_path / "names", model, chips, preprocessing="torch", classes=", ".join(names)
    )
    (warning,) = run.warnings()
    assert f"100.0% would be with the port classes set to '{CLASSES}'" in warning


@pytest.mark.parametrize(
    ("trained", "in_force"), [("none", "zero_to_one"), ("zero_to_one", "none")]
)
def test_preprocessing_with_which_a_model_is_not_as_sure_as_any(
    trained: str, in_force: str, tmp_path: Path
) -> None:
    model = save_trained(tmp_path / "m.h5", trained)
    run = classify(tmp_path / "w", model, archive(CHIPS), preprocessing=in_force)
    (warning,) = run.warnings()
    assert f"with the preprocessing {in_force} " in warning
    assert "set the port preprocessing" in warning


def test_run_whose_chips_are_all_answered_is_looked_at(task: ModuleType, tmp_path: Path) -> None:
    class FullDisk(task.Output):
        def replace(self) -> None:
            raise OSError("no space left")

    model = save_trained(tmp_path / "m.h5", "torch", remembers=True)
    work_dir = make_work_dir(tmp_path / "w", archive(CHIPS), model)
    output = FullDisk(work_dir, *(work_dir / "output" / name for name in ("results", "logs")))
    output.make_folders()
    with pytest.raises(OSError, match="no space left"):
        task.run_task(work_dir / "input", output, "tensorflow", task.Warnings())
    run = assert_succeeded(run_task(work_dir))
    assert "Resuming" in run.log
    assert "Chips 0 to" not in run.log
    assert len(run.warnings("set the port preprocessing to torch")) == 1


def test_chips_and_ports_that_do_not_fit(tmp_path: Path) -> None:
    import keras

    layers = [
        keras.Input((8, 8, 3)),
        keras.layers.Rescaling(1 / 2047),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, activation="sigmoid"),
    ]
    model = save_model(tmp_path / "m.keras", keras.Sequential(layers))
    values = np.random.default_rng(1).integers(0, 2048, (21, 8, 8, 8)).astype(np.uint16)
    scene = np.random.default_rng(2).integers(0, 2048, (600, 520, 8)).astype(np.uint16)
    bands = {"planarconfig": "contig", "photometric": "minisblack"}
    files = [*enumerate(values), ("scene", scene)]
    chips = make_tar([(f"{name}.tif", tif(chip, **bands)) for name, chip in files])
    run = classify(tmp_path / "w", model, chips, bit_depth="10", normalization_vector="500,500,500")
    said = "\n".join(run.warnings())
    assert "The chips have 8 bands, of which the model gets the first 3 (1,2,3)" in said
    assert "are above 1,023, the largest of the port bit_depth (10)" in said
    assert "set bit_depth to 11" in said
    assert "more than 4 times as long and as wide as the model's 8 x 8" in said
    assert "(the first has 600 x 520)" in said
    assert "divides its input by 2047" in said and "set the port values to native" in said
    assert "normalization_vector is 500,500,500, but the values" in said
    assert "3 outputs are sigmoids" in said and "set the port probabilities to True" in said
    grey = np.random.default_rng(3).integers(0, 900, (21, 8, 8)).astype(np.uint16)
    chips = make_tar([(f"{n}.png", png(chip)) for n, chip in enumerate(grey)])
    run = classify(tmp_path / "grey", model, chips, bit_depth="12", probabilities="True")
    said = "\n".join(run.warnings())
    assert "All of the first 21 chips are grey, but the model takes three bands" in said
    assert "needs 10 bits, but the port bit_depth is 12" in said and "set bit_depth to 10" in said
