"""The loop of a run: batches in their order, answers of outputs, progress on the terminal."""

import re
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from chip_classifier.answers import NO_CLASS
from chip_classifier.classify import (
    PROGRESS_SECONDS,
    Outputs,
    Progress,
    answer,
    compute_batches,
)
from chip_classifier.pipeline import Batch
from chip_classifier.ports import Ports
from chip_classifier.preprocessing import settle_preprocessing
from chip_classifier.settings import Settings
from keras_files.head import Head


class ClassifierOfTwoAtATime:
    """In place of a classifier: gives the chips' first value, the first batch's as the last one.

    A batch of zeros cannot be computed.
    """

    outputs = 1
    batches_at_a_time = 2

    def __init__(self) -> None:
        self._other_is_done = threading.Event()

    def __call__(self, chips: np.ndarray) -> np.ndarray:
        value = chips[0, 0, 0, 0]
        if value == 0:
            raise ValueError("no chips for this classifier")
        if value == 1:
            assert self._other_is_done.wait(timeout=60)
        self._other_is_done.set()
        return np.full((len(chips), 1), value, np.float32)


def test_batches_that_are_computed_side_by_side_come_in_their_order() -> None:
    values = [1, 2, 3, 0, 5]
    batches = [
        Batch(first, ["a.png"], pixels=np.full((1, 2, 2, 3), value, np.uint8))
        for first, value in enumerate(values)
    ]
    computed = compute_batches(batches, ClassifierOfTwoAtATime())
    for first in range(3):
        batch, outputs = next(computed)
        assert batch.first == first
        np.testing.assert_array_equal(outputs.values, [[values[first]]])
    with pytest.raises(ValueError, match="no chips for this classifier"):
        next(computed)
    assert list(computed) == []  # nothing behind a hole: the journal could not be resumed


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_chip_without_finite_outputs_is_not_classified(bad: float, outputs: int) -> None:
    values = np.full((3, outputs), 0.25, np.float32)
    values[1, outputs - 1] = bad
    batch = Batch(0, ["a.png", "b.png", "c.png"], pixels=np.zeros((3, 2, 2, 3), np.uint8))
    classes = max(outputs, 2)
    settings = Settings(Ports(probabilities=True), (2, 2), settle_preprocessing(Ports(), 3))
    classifier = SimpleNamespace(head=Head(), settings=settings)
    answered = answer(batch, Outputs(np.arange(3), values, 0.0), classifier)
    certainty = 0.75 if outputs == 1 else 0.25
    assert answered.classes == [0, NO_CLASS, 0]
    assert answered.certainties == [certainty, 0, certainty]
    assert answered.problems == {1: "the model gives no finite value for this chip"}
    of_chip = [0.75, 0.25] if outputs == 1 else [0.25] * 3
    assert answered.probabilities == [*of_chip, *[0] * classes, *of_chip]
    assert len(answered.pictures) == 2


@pytest.mark.parametrize(
    ("listed", "is_complete", "read", "part"),
    [
        (2000, True, 1.0, "150 of 2,000 chips"),
        (200, False, 0.1, "150 of about 2,000 chips"),
    ],
)
def test_progress_tells_chips_rate_and_time_left(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    listed: int,
    is_complete: bool,
    read: float,
    part: str,
) -> None:
    monkeypatch.setitem(PROGRESS_SECONDS, "log", 0.0)
    archive = SimpleNamespace(progress=read)
    listing = SimpleNamespace(number=listed, is_complete=is_complete, source=archive)
    progress = Progress(listing, 50)
    time.sleep(0.1)
    progress.show(150)
    line = capsys.readouterr().out
    assert line.startswith(part)
    # 100 chips in a little more than 0.1 s; the 50 of an earlier run do not count.
    rate = float(re.search(r"([0-9,.]+) chips/s", line)[1].replace(",", ""))
    assert 100 < rate < 1000
    assert line.endswith(" left\n")
