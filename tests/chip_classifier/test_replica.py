"""The answers do not depend on which device computes, nor on how many chips it takes at a time."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from chip_classifier.classifier import Classifier
from chip_classifier.classify import compute_batches
from chip_classifier.errors import TaskError
from chip_classifier.log import Warnings, log
from chip_classifier.pipeline import Batch
from chip_classifier.ports import Ports
from chip_classifier.preprocessing import CAFFE_MEAN
from chip_classifier.settings import settle
from chip_files import save_model, scene
from keras_files.open_model import open_model

if TYPE_CHECKING:
    import tensorflow as tf

    from chip_classifier.replica import Replica

MODEL = Path(__file__).parents[1] / "models" / "keras3151_effblock.h5"
SIZE = (48, 48)
# What the task promises; float32 rounding through such a network stays well below it.
TOLERANCE = 1e-5
# The same kernels on the same processor, of which TensorFlow makes several devices.
TOLERANCE_OF_DEVICES = 1e-6


def make_classifier() -> Classifier:
    """Load the model onto the devices that TensorFlow has."""
    model = open_model(MODEL)
    return Classifier(model, settle(Ports(size=SIZE[0]), model), 100, Warnings())


def make_replica() -> Replica:
    """Load the model onto the processor."""
    (replica,) = make_classifier().replicas
    return replica


def test_parts_and_joined_layers_give_what_keras_predicts() -> None:
    """The same chips through Keras itself, all at once and layer by layer."""
    import keras

    chips = scene(1, 30, *SIZE, 3)
    replica = make_replica()
    model = keras.saving.load_model(MODEL, compile=False)
    pixels = chips.astype(np.float32) - np.float32(CAFFE_MEAN[::-1])
    expected = np.asarray(model.predict_on_batch(pixels))
    for largest in (1, 7, 30):
        replica.largest = largest
        np.testing.assert_allclose(replica(chips), expected, rtol=0, atol=TOLERANCE)


def test_work_is_what_the_kernels_multiply(tmp_path: Path) -> None:
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((10, 12, 3)), layers.Conv2D(4, 3)])
    model.add(layers.DepthwiseConv2D(3, depth_multiplier=2))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(5, activation="softmax"))
    opened = open_model(save_model(tmp_path / "m.h5", model))
    (replica,) = Classifier(opened, settle(Ports(), opened), 16, Warnings()).replicas
    convolved, by_depth = (8 * 10 * 4) * (3 * 3 * 3), (6 * 8 * 8) * (3 * 3)
    assert replica.work == convolved + by_depth + 8 * 5


def test_last_batch_is_not_traced_again() -> None:
    """One function serves every number of chips: a second compilation would show as a new one."""
    replica = make_replica()
    chips = scene(2, 9, *SIZE, 3)
    whole = replica(chips)
    assert whole.shape == (9, 4)
    np.testing.assert_allclose(replica(chips[:1]), whole[:1], rtol=0, atol=TOLERANCE)


def test_gpu_computes_few_different_numbers_of_chips() -> None:
    """What a GPU is given, seen on the processor: shorter batches are filled up."""
    replica = make_replica()
    chips = scene(4, 12, *SIZE, 3)
    expected = replica(chips)
    function, sizes = replica.function, []
    replica.function = lambda batch: sizes.append(len(batch)) or function(batch)
    replica.parts_at_a_time, replica.fill_to = 1, 12
    for count in (9, 12, 5, 4, 1):
        outputs = replica(chips[:count])
        np.testing.assert_allclose(outputs, expected[:count], rtol=0, atol=TOLERANCE)
    replica.largest = 5  # what is left after a batch did not fit
    np.testing.assert_allclose(replica(chips), expected, rtol=0, atol=TOLERANCE)
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

    replica = make_replica()
    chips = scene(3, 75, *SIZE, 3)
    expected = replica(chips)
    model, sizes = replica.function, []

    def small_device(batch: tf.Tensor) -> tf.Tensor:
        sizes.append(len(batch))
        return no_room(batch) if len(batch) > 10 else model(batch)

    replica.function, replica.parts_at_a_time, replica.fill_to = small_device, 1, 75
    with caplog.at_level(logging.WARNING):
        outputs = [replica(chips), replica(chips)]
    for again in outputs:
        np.testing.assert_allclose(again, expected, rtol=0, atol=TOLERANCE)
    assert len(caplog.records) == 1
    assert "does not fit" in caplog.text
    assert sizes == [75, 38, 19] + 16 * [10]  # what fits is found once; shorter parts filled up

    replica.function = no_room
    with pytest.raises(TaskError, match="too little memory"):
        replica(chips)


def test_other_errors_of_a_device_are_not_taken_for_a_lack_of_memory() -> None:
    import tensorflow as tf

    replica = make_replica()

    def broken_device(batch: tf.Tensor) -> tf.Tensor:
        raise tf.errors.InternalError(None, None, "cuDNN launch failure")

    replica.function = broken_device
    with pytest.raises(tf.errors.InternalError, match="launch failure"):
        replica(scene(5, 12, *SIZE, 3))


# --------------------------------------------------------------------------------- several devices


def make_batches() -> list[Batch]:
    """Make batches of 1 to 12 chips."""
    firsts = itertools.accumulate(range(1, 13), initial=0)
    return [
        Batch(first, ["a.png"] * number, pixels=scene(number, number, *SIZE, 3))
        for number, first in zip(range(1, 13), firsts, strict=False)
    ]


def compute_all(classifier: Classifier) -> list[np.ndarray]:
    """Compute the batches; those that come back are in their order."""
    batches = make_batches()
    computed = list(compute_batches(batches, classifier))
    assert [batch.first for batch, _ in computed] == [batch.first for batch in batches]
    return [outputs.values for _, outputs in computed]


def with_devices(count: int, work: Callable[[Classifier], object]) -> object:
    """Do work with a classifier in a process of its own, whose processor is so many devices."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_split_and_work, count, work).result(timeout=300)


def _split_and_work(count: int, work: Callable[[Classifier], object]) -> object:
    import tensorflow as tf

    (processor,) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(processor, parts)
    return work(make_classifier())


def compute_and_name_devices(classifier: Classifier) -> tuple[list[np.ndarray], list[str], int]:
    """Compute the batches; say on which devices, and how many batches at a time."""
    devices = []

    def watch(replica: Replica) -> None:
        function = replica.function

        def watched(batch: tf.Tensor) -> tf.Tensor:
            outputs = function(batch)
            devices.extend([batch.device, outputs.device])
            return outputs

        replica.function = watched

    for replica in classifier.replicas:
        watch(replica)
    values = compute_all(classifier)
    return (
        values,
        [device.rpartition("device:")[2] for device in devices],
        (classifier.batches_at_a_time),
    )


@pytest.mark.parametrize("count", [2, 4])
def test_each_device_computes_and_the_answers_are_those_of_one(count: int) -> None:
    expected = compute_all(make_classifier())
    values, devices, at_a_time = with_devices(count, compute_and_name_devices)
    for some, others in zip(values, expected, strict=True):
        np.testing.assert_allclose(some, others, rtol=0, atol=TOLERANCE_OF_DEVICES)
    assert set(devices) == {f"CPU:{number}" for number in range(count)}
    assert devices[::2] == devices[1::2]  # the chips are where they are computed
    assert at_a_time == 2 * count


def compute_beside_one_that_waits(classifier: Classifier) -> list[np.ndarray]:
    """Compute the batches; the first device goes on when the other one has done three of them."""
    slow, fast = classifier.replicas
    functions = slow.function, fast.function
    done, is_time = [], threading.Event()

    def wait(batch: tf.Tensor) -> tf.Tensor:
        assert is_time.wait(timeout=60)
        return functions[0](batch)

    def count(batch: tf.Tensor) -> tf.Tensor:
        outputs = functions[1](batch)
        done.append(len(batch))
        if len(done) == 3:
            is_time.set()
        return outputs

    slow.function, fast.function = wait, count
    return compute_all(classifier)


def test_batches_go_to_the_device_that_is_free() -> None:
    values = with_devices(2, compute_beside_one_that_waits)
    for some, others in zip(values, compute_all(make_classifier()), strict=True):
        np.testing.assert_allclose(some, others, rtol=0, atol=TOLERANCE_OF_DEVICES)


def compute_with_little_room_on_one(
    classifier: Classifier,
) -> tuple[list[np.ndarray], list[list[int]], list[str]]:
    """Compute the batches twice where the second device has room for 3 chips.

    Returns the outputs, the numbers of chips that each device was given, and log lines.
    """
    import tensorflow as tf

    sizes: list[list[int]] = [[], []]
    rooms = (1000, 3)
    for replica, given, room in zip(classifier.replicas, sizes, rooms, strict=True):
        function = replica.function

        def limited(
            batch: tf.Tensor,
            given: list[int] = given,
            room: int = room,
            function: object = function,
        ) -> tf.Tensor:
            given.append(len(batch))
            if len(batch) > room:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
            return function(batch)

        replica.function = limited
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    return [*compute_all(classifier), *compute_all(classifier)], sizes, lines


def test_too_little_memory_on_one_device_halves_the_batches_of_that_one() -> None:
    values, sizes, lines = with_devices(2, compute_with_little_room_on_one)
    expected = compute_all(make_classifier())
    for some, others in zip(values, [*expected, *expected], strict=True):
        np.testing.assert_allclose(some, others, rtol=0, atol=TOLERANCE_OF_DEVICES)
    assert max(sizes[0]) > 3  # this one goes on with whole batches
    assert sizes[1][-1] <= 3
    assert sum("does not fit" in line for line in lines) == 1
    assert any("chips do not fit the memory of CPU:1: " in line for line in lines)
    assert not any("CPU:0" in line for line in lines)
