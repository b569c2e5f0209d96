"""The answers do not depend on how they are computed: batch size, threads, execution, memory."""

import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from chip_classifier.answers import NO_CLASS, Answers
from chip_classifier.classifier import Classifier, interpret
from chip_classifier.classify import Outputs, compute_batches, note_batch
from chip_classifier.journal import Expected, Journal
from chip_classifier.pipeline import Batch
from chip_classifier.ports import Ports
from chip_classifier.preprocessing import settle_preprocessing
from chip_classifier.review.sample import Sample
from chip_files import (
    assert_succeeded,
    command,
    make_tar,
    make_work_dir,
    png,
    run_task,
    scene,
)
from keras_files.head import Head
from keras_files.open_model import open_model

MODEL = Path(__file__).parents[1] / "models" / "keras3151_effblock.h5"
SIZE = (48, 48)
CHIPS = 150
# What the task promises; float32 rounding through such a network stays well below it.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def archive() -> bytes:
    """Make an archive of chips of several sizes."""
    return make_tar([(f"chips/{i}.png", png(scene(i, 40 + i % 17, 48, 3))) for i in range(CHIPS)])


@pytest.fixture(scope="module")
def answers(archive: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Classify the archive with the defaults."""
    work_dir = make_work_dir(
        tmp_path_factory.mktemp("default") / "w", archive, MODEL, {"size": "48"}
    )
    return assert_succeeded(run_task(work_dir)).classified


def assert_same(answers: dict[str, dict], others: dict[str, dict]) -> None:
    """Compare two classified.json: the same chips in the same order, classes and certainties."""
    assert list(answers) == list(others)
    for name, answer in answers.items():
        assert answer["class"] == others[name]["class"]
        assert answer["certainty"] == pytest.approx(others[name]["certainty"], abs=TOLERANCE)


@pytest.mark.parametrize("batch", ["1", "7", "149", "100000"])
def test_batch_size_does_not_matter(
    batch: str, archive: bytes, answers: dict[str, dict], tmp_path: Path
) -> None:
    work_dir = make_work_dir(tmp_path / "w", archive, MODEL, {"size": "48", "deploy_batch": batch})
    assert_same(answers, assert_succeeded(run_task(work_dir)).classified)


def test_number_of_threads_does_not_matter(
    archive: bytes, answers: dict[str, dict], tmp_path: Path
) -> None:
    work_dir = make_work_dir(tmp_path / "w", archive, MODEL, {"size": "48"})
    core = str(min(os.sched_getaffinity(0)))
    subprocess.run(["taskset", "--cpu-list", core, *command(work_dir)], check=True, timeout=300)
    assert "CPU, 1 cores" in (work_dir / "output" / "logs" / "out.log").read_text()
    classified = work_dir / "output" / "results" / "classified.json"
    assert_same(answers, json.loads(classified.read_text()))


CLASSIFY_BLACK_CHIPS = """
import numpy as np
from test_classifier import MODEL, SIZE, Classifier, Ports, open_model, settle_preprocessing
classifier = Classifier(open_model(MODEL), settle_preprocessing(Ports(), 3), SIZE, 100)
print(classifier(np.zeros((2, *SIZE, 3), np.uint8)).shape)
"""


def test_no_file_needs_to_be_written() -> None:
    """As in a container that is read-only, where Python finds no directory for temporary files."""
    done = subprocess.run(
        [sys.executable, "-c", CLASSIFY_BLACK_CHIPS],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == "(2, 4)\n", done.stderr


def test_gpu_multiplies_in_full_float32() -> None:
    """The setting that TensorFlow keeps: the processor, on which this runs, has no TF32."""
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(True)
    Classifier(open_model(MODEL), settle_preprocessing(Ports(), 3), SIZE, 100)
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


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


@pytest.mark.parametrize(
    ("outputs", "is_logit", "classes", "certainties"),
    [
        ([[0.25, 0.5, 0.25], [0.75, 0.125, 0.125]], False, [1, 0], [0.5, 0.75]),
        ([[-3.0, -2.0], [8.0, 4.0]], False, [1, 0], [-2, 8]),
        ([[0.75], [0.25], [0.5]], False, [1, 0, 0], [0.75, 0.75, 0.5]),
        ([[2.5], [-2.5], [0.0], [0.25]], True, [1, 0, 0, 1], [2.5, -2.5, 0, 0.25]),
        ([[1.0], [0.0]], False, [1, 0], [1, 1]),
    ],
)
def test_outputs_are_interpreted(
    outputs: list[list[float]],
    is_logit: bool,
    classes: list[int],
    certainties: list[float],
) -> None:
    outputs = np.array(outputs, np.float32)
    found, certainty, values = interpret(outputs, Head("linear" if is_logit else None))
    assert found.tolist() == classes
    assert certainty.tolist() == certainties
    assert values[:, -1].tolist() == outputs[:, -1].tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_chip_without_finite_outputs_is_not_classified(
    bad: float, outputs: int, tmp_path: Path
) -> None:
    values = np.full((3, outputs), 0.25, np.float32)
    values[1, outputs - 1] = bad
    batch = Batch(0, ["a.png", "b.png", "c.png"], pixels=np.zeros((3, 2, 2, 3), np.uint8))
    classes = max(outputs, 2)
    answers, expected = Answers(probabilities=True), Expected(classes, 3, 3, classes)
    journal = Journal(tmp_path / "j", {}, expected, Answers(probabilities=True))
    preview, of_batch = Sample(classes), Outputs(np.arange(3), values, 0.0)
    note_batch(batch, of_batch, Head(), answers, journal, preview, saw_16_bits=False)
    journal.close()
    resumed = Answers(probabilities=True)
    Journal(tmp_path / "j", {}, expected, resumed).close()
    certainty = 0.75 if outputs == 1 else 0.25
    for found in (answers, resumed):
        assert found.classes.tolist() == [0, NO_CLASS, 0]
        assert found.certainties.tolist() == [certainty, 0, certainty]
        assert found.problems == {1: "the model gives no finite value for this chip"}
        of_chip = [0.75, 0.25] if outputs == 1 else [0.25] * 3
        assert found.probabilities.tolist() == [*of_chip, *[0] * classes, *of_chip]
