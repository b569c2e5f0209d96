"""A trial of other settings: few chips for each, the rest for the best one, no chip twice."""

import numpy as np

from chip_classifier.ports import Ports
from chip_classifier.preprocessing import settle_preprocessing
from chip_classifier.second_look.alternatives import Alternative, alternatives
from chip_classifier.second_look.trial import affordable, race

OTHERS = list(alternatives(settle_preprocessing(Ports(), 3)))


def test_best_setting_is_tried_with_chips_that_did_not_choose_it() -> None:
    asked: list[tuple[str, list[int]]] = []

    def compute(other: Alternative, rows: np.ndarray) -> np.ndarray:
        asked.append((other.preprocessing.mode, rows.tolist()))
        return np.full((len(rows), 2), other.preprocessing.mode == "torch")

    trial = race(OTHERS, np.arange(64), compute, lambda values, _: values.mean(), 12)
    assert trial is not None and trial.best.preprocessing.mode == "torch"
    assert sum(len(rows) for _, rows in asked) <= 64
    heats, (mode, rows) = asked[:-1], asked[-1]
    assert [heat for heat, _ in heats] == ["tf", "torch", "zero_to_one", "none", "caffe"]
    assert mode == "torch" and rows == trial.rows.tolist()
    assert not {*rows} & {row for _, heat in heats for row in heat}


def test_too_few_chips_tell_nothing() -> None:
    def tell_nothing(*_: object) -> float:
        raise AssertionError("no chip is to be computed")

    assert race(OTHERS, np.arange(16), tell_nothing, tell_nothing, 12) is None
    assert race([], np.arange(64), tell_nothing, tell_nothing, 12) is None
    assert race(OTHERS, np.arange(0), tell_nothing, tell_nothing, 0) is None


def test_settings_that_are_not_worth_it_cost_no_further_chip() -> None:
    asked: list[int] = []

    def compute(_: Alternative, rows: np.ndarray) -> np.ndarray:
        asked.append(len(rows))
        return np.zeros((len(rows), 2))

    assert race(OTHERS, np.arange(64), compute, lambda *_: 0.0, 12) is None
    assert asked == [6] * len(OTHERS)


def test_short_run_of_a_slow_model_affords_few_chips() -> None:
    resnet50 = 3.9e9  # multiplications for 224 x 224 pixels
    assert affordable(200, resnet50) == 5
    assert affordable(2_000, resnet50) == 40
    assert affordable(200, 1e7) == affordable(1_000_000, resnet50) == affordable(60, 0) == 64
