"""A copy of the model on one device: as many chips at a time as the device takes.

It needs TensorFlow: to be imported when that has been set up.
"""

import contextlib
import math
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from chip_classifier.errors import TaskError
from chip_classifier.log import Warnings, log
from chip_classifier.settings import Settings
from keras_files.model_file import ModelError, naming
from keras_files.open_model import OpenedModel

# On a processor a batch of more pixels than these (25 chips of 224 x 224) is computed in parts, to
# take less memory, and two parts, of one batch or of two, are computed at a time: while one waits
# for the last of its threads, at the end of each layer, the other one has work for the cores.
CPU_PART_PIXELS = 25 * 224 * 224
CPU_PARTS_AT_A_TIME = 2

# On a GPU one batch is copied to it, or its answers from it, while another one is computed.
GPU_BATCHES_AT_A_TIME = 2

# Chips that are computed at a time without a graph made for them: they take more memory so.
FEW_CHIPS = 8

_OWED = {"softmax": tf.nn.softmax, "sigmoid": tf.sigmoid, None: tf.identity}

# What is said of too little memory on a GPU where TensorFlow raises another error than
# ResourceExhaustedError: by the copy of a batch to the GPU, by cuDNN's trials of its algorithms, by
# CUDA and its libraries.
OUT_OF_MEMORY_SIGNS = (
    "dst tensor is not initialized",
    "resource_exhausted",
    "out of memory",
    "out_of_memory",
    "alloc_failed",
)


class Replica:
    """The model, with the preprocessing in front of it, on one device.

    device: its name, as TensorFlow gives it.
    function: what it computes, of tensors: (N, rows, columns, bands), of the type that Settings
        has for pixels, -> float32 (N, outputs).
    outputs: number of the model's outputs.
    batches_at_a_time: from how many threads it is to be called at a time, to be fastest.
    parts_at_a_time: how many parts of batches it computes at a time.
    largest: chips that it computes at a time at most.
    fill_to: on a GPU, the chips of a whole batch; else 0.
    """

    def __init__(
        self,
        opened: OpenedModel,
        settings: Settings,
        batch_size: int,
        device: tf.config.LogicalDevice,
        warnings: Warnings,
    ) -> None:
        """Load the model onto a device.

        Args:
            opened, settings, batch_size, warnings: as for Classifier.
            device: one of `tf.config.list_logical_devices`.
        Raises:
            ModelError, TaskError: as Classifier does.
        """
        self.device, self._warnings = device.name, warnings
        self._name = f"{device.device_type}:{device.name.rpartition(':')[2]}"
        self._path, self._type = opened.file.path, settings.pixel_type
        with tf.device(self.device):
            self._model, self._finish = opened.build(), _OWED[opened.head.owed]
            self.function = trace(self._model, opened, settings)
        self.outputs = int(self.function.outputs[0].shape[1])
        if device.device_type == "GPU":
            self.batches_at_a_time, self.parts_at_a_time = GPU_BATCHES_AT_A_TIME, 1
            # What is computed takes much more memory than what is copied: for one batch at a time.
            self._turn = threading.Lock()
            self.largest, self.fill_to = sys.maxsize, batch_size
            return
        largest = CPU_PART_PIXELS // math.prod(settings.size)
        self.batches_at_a_time = self.parts_at_a_time = CPU_PARTS_AT_A_TIME if largest else 1
        self._turn = contextlib.nullcontext()
        self.largest, self.fill_to = max(1, largest), 0
        self._parts = ThreadPoolExecutor(CPU_PARTS_AT_A_TIME, "classify")

    def __call__(self, chips: np.ndarray) -> np.ndarray:
        """Classify chips; arguments, value and errors as in Classifier."""
        in_turns_or_at_once = map if self.parts_at_a_time == 1 else self._parts.map
        while True:
            parts = np.array_split(chips, math.ceil(len(chips) / self.largest))
            try:
                return np.concatenate(list(in_turns_or_at_once(self._compute, parts)))
            except tf.errors.OpError as error:
                if not is_out_of_memory(error):
                    if isinstance(error, tf.errors.InternalError):  # the device's, not the model's
                        raise
                    with naming(self._path):
                        raise self._model.failure(error) from error
                tried = len(self._fill_up(parts[0]))
                text = str(error)[:500]
                log.info("%d chips do not fit the memory of %s: %s", tried, self._name, text)
                if tried == 1:
                    raise TaskError(
                        f"The device {self._name} has too little memory for a single chip: free "
                        "some, or use one with more."
                    ) from error
                self._warnings.add(
                    "A batch does not fit the device's memory: it is halved until it does; a "
                    "smaller deploy_batch saves the attempts."
                )
                self.largest = min(self.largest, math.ceil(tried / 2))

    def _compute(self, part: np.ndarray) -> np.ndarray:
        """Classify as many chips as the device takes at a time, as in __call__."""
        with tf.device(self.device):
            chips = tf.constant(self._fill_up(part))
            with self._turn:
                outputs = self.function(tf.cast(chips, self._type))
        return outputs.numpy()[: len(part)]

    def compute(self, x: np.ndarray) -> np.ndarray:
        """Compute chips that are preprocessed already, as in Classifier, a few at a time."""
        few = min(FEW_CHIPS, self.largest)
        parts = [x[first : first + few] for first in range(0, len(x), few)]
        with tf.device(self.device), self._turn:
            return np.concatenate([self._finish(self._model(part)).numpy() for part in parts])

    @property
    def work(self) -> int:
        """About how many multiplications a chip takes: those of convolutions and dense layers."""
        kernels = ("Conv2D", "Conv3D", "DepthwiseConv2dNative", "MatMul")
        work = 0
        for operation in self.function.graph.get_operations():
            if operation.type in kernels:
                kernel = operation.inputs[1].shape
                outputs = operation.outputs[0].shape[1:].num_elements()
                channels = kernel[-2:] if operation.type.startswith("Depthwise") else kernel[-1:]
                if outputs and kernel.num_elements():
                    work += outputs * kernel.num_elements() // channels.num_elements()
        return work

    def _fill_up(self, part: np.ndarray) -> np.ndarray:
        """On a GPU, put black chips behind others, so that there are few different numbers of them.

        For each number of chips the GPU's library tries its algorithms anew (cuDNN's autotuning).
        Their number is made the next power of 2, but never more than a whole batch.
        """
        number = min(1 << (len(part) - 1).bit_length(), self.fill_to, self.largest)
        if number <= len(part):
            return part
        return np.concatenate([part, np.zeros((number - len(part), *part.shape[1:]), part.dtype)])


def trace(
    model: Callable[..., tf.Tensor],
    opened: OpenedModel,
    settings: Settings,
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Put the preprocessing in front of a model.

    Args:
        model: the opened one, built.
        opened, settings: as for Classifier.
    Returns:
        A concrete function: (N, rows, columns, bands), of the type that Settings has for pixels,
        -> float32 (N, outputs).
    Raises:
        ModelError, TaskError: as Classifier does.
    """
    preprocessing, size, finish = settings.preprocessing, settings.size, _OWED[opened.head.owed]
    # TensorFlow subtracts an array of a whole chip faster than one of three values.
    chip_shape = (*size, opened.bands)
    vector, value = (
        tf.broadcast_to(tf.constant(numbers or 1.0, tf.float32), chip_shape)
        for numbers in (preprocessing.vector, preprocessing.value)
    )

    def classify(chips: tf.Tensor) -> tf.Tensor:
        pixels = tf.cast(chips, tf.float32)
        if preprocessing.flips:
            pixels = tf.reverse(pixels, [-1])
        if any(preprocessing.vector):
            pixels -= vector
        if preprocessing.value:
            pixels /= value
        return finish(tf.cast(model(pixels, training=False), tf.float32))

    signature = tf.TensorSpec((None, *chip_shape), settings.pixel_type)
    try:
        function = tf.function(classify, autograph=False).get_concrete_function(signature)
    except ModelError:
        with naming(opened.file.path):
            raise
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        raise TaskError(
            f"The model does not take chips of {size[0]} x {size[1]}: set the port size to the "
            f"size that it was trained with ({' '.join(str(error).split())[:300]})."
        ) from error
    shape = function.outputs[0].shape
    if len(function.outputs) != 1 or shape.rank != 2 or not shape[1]:
        raise TaskError(
            f"The model's output has the shape {tuple(shape)}, but a classifier's is (chips, "
            "classes): use a model that ends in one output per class."
        )
    return function


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error of TensorFlow's means that the device's memory is too small."""
    text = str(error).lower()
    return isinstance(error, tf.errors.ResourceExhaustedError) or any(
        sign in text for sign in OUT_OF_MEMORY_SIGNS
    )
