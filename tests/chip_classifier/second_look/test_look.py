"""The second look at runs of small models: quiet where the settings are right, on any archive."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from chip_classifier.answers import AnsweredBatch
from chip_classifier.class_names import parse_classes
from chip_classifier.classifier import class_values
from chip_classifier.ports import Ports
from chip_classifier.preprocessing import settle_preprocessing
from chip_classifier.second_look.alternatives import prepare
from chip_classifier.second_look.evidence import Margins
from chip_classifier.second_look.look import Model, SecondLook, Truth
from keras_files.open_model import open_model
from keras_files.statistics import recall
from trained import NAMES, make_chips, save_trained

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")

RGB, TRUTHS = make_chips(200)
CHIPS = np.ascontiguousarray(RGB[..., ::-1])
ONE_CLASS = np.flatnonzero(TRUTHS == 3).repeat(2)
ARCHIVES = {
    "balanced": CHIPS,
    "darker": (CHIPS * 0.7).astype(np.uint8),
    "one class": CHIPS[ONE_CLASS],
    "95 to 5": CHIPS[np.concatenate([ONE_CLASS[:76], [0, 1, 2, 4]])],
}


def warnings(path: Path, chips: np.ndarray, mode: str, truths: np.ndarray | None) -> list[str]:
    """Return what is said of a run over chips, B,G,R, in batches of 50."""
    opened, in_force = open_model(path), settle_preprocessing(Ports(preprocessing=mode), 3)
    built = opened.build()

    def compute(x: np.ndarray) -> np.ndarray:
        return class_values(np.asarray(built(x)), opened.head)

    model = Model(compute, lambda: recall(opened), Margins(False, False), NAMES)
    look, values = SecondLook(in_force, model), compute(prepare(chips, in_force))
    for first in range(0, len(chips), 50):
        part = slice(first, first + 50)
        classes = values[part].argmax(axis=1).tolist()
        look.see(AnsweredBatch(first, classes, [], pixels=chips[part], values=values[part]))
    truth = None
    if truths is not None:
        found = np.column_stack([truths, values.argmax(axis=1)])
        cells, numbers = np.unique(found, axis=0, return_counts=True)
        truth = Truth(dict(enumerate(truths.tolist())), np.column_stack([cells, numbers]))
    return [finding.warning for finding in look.tell(truth) if finding.warning]


@pytest.mark.parametrize("mode", ["caffe", "tf", "none"])
def test_right_settings_are_left_alone_and_wrong_ones_told(mode: str, tmp_path: Path) -> None:
    for remembers in (False, True):
        path = save_trained(tmp_path / f"{remembers}.keras", mode, remembers)
        for name, chips in ARCHIVES.items():
            assert warnings(path, chips, mode, None) == [], (remembers, name)
        assert warnings(path, CHIPS, mode, TRUTHS) == []
    for wrong in {"caffe", "torch", "zero_to_one"} - {mode}:
        (said,) = warnings(tmp_path / "True.keras", CHIPS, wrong, None)
        assert f"set the port preprocessing to {mode}" in said


def test_kept_chips_are_spread_over_the_run_and_always_the_same(tmp_path: Path) -> None:
    def kept() -> list[int]:
        """Return the numbers of the chips that go to the model's memory."""
        model = Model(lambda x: x, lambda: None, Margins(False, False), ("a", "b"))
        look = SecondLook(settle_preprocessing(Ports(), 3), model)
        for first in range(0, 5000, 50):
            numbers = np.arange(first, first + 50, dtype=np.uint16)
            pixels = np.zeros((50, 1, 1, 3), np.uint8)
            pixels[:, 0, 0, :2] = numbers.view(np.uint8).reshape(-1, 2)
            values = np.tile([0.9, 0.1], (50, 1))
            look.see(AnsweredBatch(first, [0] * 50, [], pixels=pixels, values=values))
        return [int(chip[0, 0, 0]) + 256 * int(chip[0, 0, 1]) for chip in look.pixels]

    first = kept()
    assert first == kept() and len(set(first)) == 64
    assert 1500 < np.mean(first) < 3500 and min(first) < 500 and max(first) > 4500


def test_order_of_class_names_is_told_as_the_port_takes_it() -> None:
    names = ("Water, open", "Forest")
    model = Model(lambda x: x, lambda: None, Margins(False, False), names)
    look = SecondLook(settle_preprocessing(Ports(), 3), model)
    classes = np.arange(60) % 2
    pixels, values = np.zeros((60, 1, 1, 3), np.uint8), np.eye(2)[classes]
    look.see(AnsweredBatch(0, classes.tolist(), [], pixels=pixels, values=values))
    truth = Truth(dict(enumerate((1 - classes).tolist())), np.array([[0, 1, 30], [1, 0, 30]]))
    (finding,) = look.tell(truth)
    _, told = finding.warning.rstrip(".").split("the port classes set to ")
    assert parse_classes(told[1:-1]) == names[::-1]


def told(values: Callable[[np.ndarray], np.ndarray], mode: str) -> str:
    """Return what is said of chips of four brightnesses, by a model of four classes."""
    in_force = settle_preprocessing(Ports(preprocessing=mode), 3)
    names = ("a", "b", "c", "d")
    look = SecondLook(in_force, Model(values, lambda: None, Margins(False, False), names))
    chips = np.repeat(np.arange(64) % 4 * 64 + 20, 12).reshape(64, 2, 2, 3).astype(np.uint8)
    given = values(prepare(chips, in_force))
    classes = given.argmax(axis=1).tolist()
    look.see(AnsweredBatch(0, classes, [], pixels=chips, values=given))
    (finding,) = look.tell()
    return finding.warning or ""


def by_brightness(x: np.ndarray) -> np.ndarray:
    """Return a class for each brightness, as the preprocessing torch has it, surely."""
    return np.eye(4)[np.digitize(x[:, 0, 0, 0], [-1, 0, 1])] * 0.96 + 0.01


def test_no_setting_is_recommended_with_which_all_chips_are_of_one_class() -> None:
    def values(x: np.ndarray) -> np.ndarray:
        sure = 1.0 if np.abs(x).max() > 10 else 0.7
        return np.tile([sure, *[(1 - sure) / 3] * 3], (len(x), 1))

    said = told(values, "caffe")
    assert "look whether the port preprocessing is that of the training" in said
    assert "set the port" not in said and "1 classes" not in said


def test_settings_of_another_scale_are_named_with_all_that_do_as_well() -> None:
    def values(x: np.ndarray) -> np.ndarray:
        return by_brightness(x) if np.abs(x).max() < 10 else np.tile([1.0, 0, 0, 0], (len(x), 1))

    said = told(values, "none")
    assert "chips that were tried fall into 4 classes: set the port preprocessing to torch" in said


def test_setting_with_which_chips_are_told_apart_is_named() -> None:
    def values(x: np.ndarray) -> np.ndarray:
        is_torch = 1.1 < np.abs(x).max() < 10
        return by_brightness(x) if is_torch else np.tile([0.5, 0.3, 0.1, 0.1], (len(x), 1))

    assert "set the port preprocessing to torch, if the model was trained so." in told(values, "tf")
    assert told(values, "torch") == ""


def test_untrained_model_costs_no_further_chip() -> None:
    computed = []

    def values(x: np.ndarray) -> np.ndarray:
        computed.append(len(x))
        return np.tile([0.26, 0.25, 0.25, 0.24], (len(x), 1))

    assert told(values, "caffe") == "" and computed == [64]
