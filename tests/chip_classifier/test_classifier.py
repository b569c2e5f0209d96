"""The answers do not depend on how they are computed: batch size, threads, execution, memory."""

import json
import logging
import os
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from chip_classifier.classifier import Classifier, interpret
from chip_classifier.classify import compute_batches
from chip_classifier.log import warnings
from chip_classifier.pipeline import Batch
from chip_classifier.ports import Ports, TaskError
from chip_classifier.preprocessing import CAFFE_MEAN, settle_preprocessing
from chip_files import (
    assert_succeeded,
    command,
    make_tar,
    make_work_dir,
    png,
    run_task,
    scene,
)
from keras_files.ends import Head
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


def test_parts_and_joined_layers_give_what_keras_predicts() -> None:
    """The same chips through Keras itself, all at once and layer by layer."""
    import keras

    chips = scene(1, 30, *SIZE, 3)
    classifier = Classifier(open_model(MODEL), settle_preprocessing(Ports(), 3), SIZE, 100)
    model = keras.saving.load_model(MODEL, compile=False)
    pixels = chips.astype(np.float32) - np.float32(CAFFE_MEAN[::-1])
    expected = np.asarray(model.predict_on_batch(pixels))
    for largest in (1, 7, 30):
        classifier._largest = largest
        np.testing.assert_allclose(classifier(chips), expected, rtol=0, atol=TOLERANCE)


def test_last_batch_is_not_traced_again() -> None:
    """One function serves every number of chips: a second compilation would show as a new one."""
    classifier = Classifier(open_model(MODEL), settle_preprocessing(Ports(), 3), SIZE, 100)
    chips = scene(2, 9, *SIZE, 3)
    whole = classifier(chips)
    assert whole.shape == (9, 4)
    np.testing.assert_allclose(classifier(chips[:1]), whole[:1], rtol=0, atol=TOLERANCE)


def test_gpu_multiplies_in_full_float32() -> None:
    """The setting that TensorFlow keeps: the processor, on which this runs, has no TF32."""
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(True)
    Classifier(open_model(MODEL), settle_preprocessing(Ports(), 3), SIZE, 100)
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_gpu_computes_few_different_numbers_of_chips() -> None:
    """What a GPU is given, seen on the processor: shorter batches are filled up."""
    classifier = Classifier(open_model(MODEL), settle_preprocessing(Ports(), 3), SIZE, 100)
    chips = scene(4, 12, *SIZE, 3)
    expected = classifier(chips)
    function, sizes = classifier._function, []
    classifier._function = lambda batch: sizes.append(len(batch)) or function(batch)
    classifier._map, classifier._fill_to = map, 12
    for count in (9, 12, 5, 4, 1):
        outputs = classifier(chips[:count])
        np.testing.assert_allclose(outputs, expected[:count], rtol=0, atol=TOLERANCE)
    classifier._largest = 5  # what is left after a batch did not fit
    np.testing.assert_allclose(classifier(chips), expected, rtol=0, atol=TOLERANCE)
    assert sizes == [12, 12, 8, 4, 1, 4, 4, 4]


OUT_OF_MEMORY = {
    # By the device's allocator, by the copy of a batch to a GPU, by cuDNN's trials of algorithms.
    "ResourceExhaustedError": "OOM when allocating tensor",
    "InternalError": "Failed copying input tensor to GPU:0: Dst tensor is not initialized.",
    "NotFoundError": "No algorithm worked! Error messages: RESOURCE_EXHAUSTED: Out of memory",
}


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_batch_that_does_not_fit_the_memory_is_halved_with_one_warning(
    error: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A model in whose place stands a device with room for 10 chips.

    On the CPU TensorFlow ends the process where memory is short, so that no real one can be used.
    """
    import tensorflow as tf

    def no_room(batch: tf.Tensor) -> tf.Tensor:
        raise getattr(tf.errors, error)(None, None, OUT_OF_MEMORY[error])

    classifier = Classifier(open_model(MODEL), settle_preprocessing(Ports(), 3), SIZE, 100)
    chips = scene(3, 75, *SIZE, 3)
    expected = classifier(chips)
    model, sizes = classifier._function, []

    def small_device(batch: tf.Tensor) -> tf.Tensor:
        sizes.append(len(batch))
        return no_room(batch) if len(batch) > 10 else model(batch)

    classifier._function, classifier._map, classifier._fill_to = small_device, map, 75
    warnings.clear()
    with caplog.at_level(logging.WARNING):
        outputs = [classifier(chips), classifier(chips)]
    for again in outputs:
        np.testing.assert_allclose(again, expected, rtol=0, atol=TOLERANCE)
    assert len(caplog.records) == 1
    assert "does not fit" in caplog.text
    assert sizes == [75, 38, 19] + 16 * [10]  # what fits is found once; shorter parts filled up

    classifier._function = no_room
    with pytest.raises(TaskError, match="too little memory"):
        classifier(chips)


def test_other_errors_of_a_device_are_not_taken_for_a_lack_of_memory() -> None:
    import tensorflow as tf

    classifier = Classifier(open_model(MODEL), settle_preprocessing(Ports(), 3), SIZE, 100)

    def broken_device(batch: tf.Tensor) -> tf.Tensor:
        raise tf.errors.InternalError(None, None, "cuDNN launch failure")

    classifier._function = broken_device
    with pytest.raises(tf.errors.InternalError, match="launch failure"):
        classifier(scene(5, 12, *SIZE, 3))


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
    found, certainty, finite = interpret(
        np.array(outputs, np.float32), Head("linear" if is_logit else None)
    )
    assert found.tolist() == classes
    assert certainty.tolist() == certainties
    assert finite.all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("outputs", [1, 3])
def test_outputs_that_are_not_finite_are_marked(bad: float, outputs: int) -> None:
    values = np.full((3, outputs), 0.25, np.float32)
    values[1, outputs - 1] = bad
    _, certainty, finite = interpret(values, Head())
    assert finite.tolist() == [True, False, True]
    assert np.isfinite(certainty).all()
