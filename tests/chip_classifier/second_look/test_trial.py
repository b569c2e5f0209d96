"""A trial of other settings: few chips for each, the rest for the best one, no chip twice."""

import numpy as np

from chip_classifier.ports import Ports
from chip_classifier.preprocessing import settle_preprocessing
from chip_classifier.second_look.alternatives import Alternative, alternatives
from chip_classifier.second_look.trial import MOST_CHIPS, race

OTHERS = list(alternatives(settle_preprocessing(Ports(), 3)))


def test_best_setting_is_tried_with_chips_that_did_not_choose_it() -> None:
    asked: list[tuple[str, list[int]]] = []

    def compute(other: Alternative, rows: np.ndarray) -> np.ndarray:
        asked.append((other.preprocessing.mode, rows.tolist()))
        return np.full((len(rows), 2), other.preprocessing.mode == "torch")

    trial = race(OTHERS, np.arange(64), compute, lambda values, rows: values.mean())
    assert trial is not None and trial.best.preprocessing.mode == "torch"
    assert sum(len(rows) for _, rows in asked) <= MOST_CHIPS
    heats, (mode, rows) = asked[:-1], asked[-1]
    assert [heat for heat, _ in heats] == ["tf", "torch", "zero_to_one", "none", "caffe"]
    assert mode == "torch" and rows == trial.rows.tolist()
    assert not {*rows} & {row for _, heat in heats for row in heat}


def test_too_few_chips_tell_nothing() -> None:
    assert race(OTHERS, np.arange(9), lambda *_: np.zeros(1), lambda *_: 0.0) is None
    assert race([], np.arange(64), lambda *_: np.zeros(1), lambda *_: 0.0) is None
