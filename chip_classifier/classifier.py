"""Preprocessing and model on the device: batches of pixels -> classes and certainties."""

import gc
import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from chip_classifier.cores import cores_of_affinity, usable_cores
from chip_classifier.log import log, warn
from chip_classifier.ports import TaskError
from chip_classifier.preprocessing import Preprocessing
from keras_files.checked_file import ModelError, naming
from keras_files.ends import Head
from keras_files.open_model import OpenedModel

# TensorFlow, and Keras, which it loads, read these when they are loaded: report errors only; use
# oneDNN on every processor (by itself TensorFlow does so only on some), where its convolutions are
# faster; be the backend whatever the user's own settings for Keras say; read and write no settings
# (a directory that cannot be).
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["KERAS_HOME"] = os.devnull

# On a processor a batch of more pixels than these (25 chips of 224 x 224) is computed in parts, to
# take less memory, and two parts, of one batch or of two, are computed at a time: while one waits
# for the last of its threads, at the end of each layer, the other one has work for the cores.
CPU_PART_PIXELS = 25 * 224 * 224
CPU_PARTS_AT_A_TIME = 2

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


class Classifier:
    """A model with the task's preprocessing in front of it.

    outputs: number of the model's outputs.
    device: the device that it runs on, for the log.
    batches_at_a_time: from how many threads it is to be called at a time, to be fastest.
    """

    def __init__(
        self,
        opened: OpenedModel,
        preprocessing: Preprocessing,
        size: tuple[int, int],
        batch_size: int,
    ) -> None:
        """Load TensorFlow and the model.

        Args:
            opened: the model file.
            preprocessing: what the model gets of the chips' pixels.
            size: rows and columns of the chips.
            batch_size: chips per call at most.
        Raises:
            ModelError: the file cannot be built into a model.
            TaskError: the model does not take chips of this size.
        """
        # The import makes many objects that stay: the garbage collector would go over them again
        # and again.
        gc.disable()
        import tensorflow as tf

        gc.freeze()
        gc.enable()
        self._tf = tf
        # By itself TensorFlow rounds to 10 bits what GPUs since NVIDIA's Ampere multiply (TF32).
        tf.config.experimental.enable_tensor_float_32_execution(False)
        if usable_cores() < cores_of_affinity():  # which is all that TensorFlow asks for
            tf.config.threading.set_intra_op_parallelism_threads(usable_cores())
            tf.config.threading.set_inter_op_parallelism_threads(usable_cores())
        gpus = tf.config.list_physical_devices("GPU")
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        names = [tf.config.experimental.get_device_details(gpu).get("device_name") for gpu in gpus]
        self.device = ", ".join(f"GPU {name}" for name in names) or f"CPU, {usable_cores()} cores"
        if not gpus and missing_cuda():
            warn(
                "This machine has a GPU, but TensorFlow does not find it and computes on the CPU: "
                "install its CUDA libraries with pip install "
                f"'tensorflow[and-cuda]=={tf.__version__}', or use the image that has them, with "
                "docker run --gpus all."
            )
        self._path = opened.file.path
        self._model = model = opened.build()
        owed = {"softmax": tf.nn.softmax, "sigmoid": tf.sigmoid, None: tf.identity}
        finish = owed[opened.head.owed]
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

        signature = tf.TensorSpec((None, *chip_shape), tf.uint8)
        try:
            function = tf.function(classify, autograph=False).get_concrete_function(signature)
        except ModelError:
            with naming(self._path):
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
        self.outputs = int(shape[1])
        if self.outputs == 1 and opened.head.activation == "softmax":
            warn(
                "The model's one output is a softmax, which is always 1, so that every chip is of "
                "the second class: end the model with a sigmoid and train it again."
            )
        self._function = function
        largest = CPU_PART_PIXELS // (size[0] * size[1])
        self._map = map  # one part after the other
        self.batches_at_a_time = 1
        if largest and not gpus:
            self._map = ThreadPoolExecutor(CPU_PARTS_AT_A_TIME, "classify").map
            self.batches_at_a_time = CPU_PARTS_AT_A_TIME
        self._largest = sys.maxsize if gpus else max(1, largest)
        self._fill_to = batch_size if gpus else 0

    def __call__(self, chips: np.ndarray) -> np.ndarray:
        """Classify chips.

        Args:
            chips: uint8 (N, rows, columns, bands), the bands as in `Preprocessing`.
        Returns:
            float32 (N, outputs).
        Raises:
            TaskError: the device's memory does not hold a single chip.
            ModelError: a layer cannot be computed.
        """
        while True:
            parts = np.array_split(chips, math.ceil(len(chips) / self._largest))
            try:
                return np.concatenate(list(self._map(self._compute, parts)))
            except self._tf.errors.OpError as error:
                if not self._is_out_of_memory(error):
                    with naming(self._path):
                        raise self._model.failure(error) from error
                tried = len(self._fill_up(parts[0]))
                log.info("%d chips do not fit the device's memory: %s", tried, str(error)[:500])
                if tried == 1:
                    raise TaskError(
                        "The device has too little memory for a single chip: free some, or use "
                        "one with more."
                    ) from error
                warn(
                    "A batch does not fit the device's memory: it is halved until it does; a "
                    "smaller deploy_batch saves the attempts."
                )
                self._largest = min(self._largest, math.ceil(tried / 2))

    def _is_out_of_memory(self, error: Exception) -> bool:
        """Tell whether an error of TensorFlow's means that the device's memory is too small."""
        text = str(error).lower()
        return isinstance(error, self._tf.errors.ResourceExhaustedError) or any(
            sign in text for sign in OUT_OF_MEMORY_SIGNS
        )

    def _compute(self, part: np.ndarray) -> np.ndarray:
        """Classify as many chips as the device takes at a time, as in __call__."""
        return self._function(self._tf.constant(self._fill_up(part))).numpy()[: len(part)]

    def _fill_up(self, part: np.ndarray) -> np.ndarray:
        """On a GPU, put black chips behind others, so that there are few different numbers of them.

        For each number of chips the GPU's library tries its algorithms anew (cuDNN's autotuning).
        Their number is made the next power of 2, but never more than a whole batch.
        """
        number = min(1 << (len(part) - 1).bit_length(), self._fill_to, self._largest)
        if number <= len(part):
            return part
        return np.concatenate([part, np.zeros((number - len(part), *part.shape[1:]), np.uint8)])


def missing_cuda(root: Path = Path("/")) -> bool:
    """Tell whether the machine has a GPU of NVIDIA's that the user has not hidden from the task.

    Args:
        root: of the file system: the driver makes /dev/nvidia0, ... and /proc/driver/nvidia.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1", "none", "NoDevFiles"):
        return False
    return any(root.glob("dev/nvidia[0-9]*")) or (root / "proc/driver/nvidia").exists()


def interpret(outputs: np.ndarray, head: Head) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn a model's outputs into classes and certainties.

    Several outputs: the class of the largest one, and its value. One output: the second class if it
    is above 0.5 (above 0 for a tanh or a logit), and the value of the class chosen (for a logit,
    its value as it is).

    Args:
        outputs: float32 (N, K).
        head: what they are.
    Returns:
        Classes int (N,), certainties float64 (N,), and whether each chip's outputs are finite (N,).
    """
    finite = np.isfinite(outputs).all(axis=1)
    values = class_values(np.where(finite[:, None], outputs, 0), head)
    if outputs.shape[1] > 1:
        classes = values.argmax(axis=1)
    else:
        threshold = 0.0 if head.is_logit else 0.5
        classes = (values[:, 1] > threshold).astype(int)
        if head.is_logit:
            return classes, values[:, 1], finite
    return classes, values[np.arange(len(values)), classes], finite


def class_values(outputs: np.ndarray, head: Head) -> np.ndarray:
    """Give the value of each class.

    Args:
        outputs: (N, K), one for each class; or (N, 1): the value of the second of two classes, the
            other one's being 1 minus that for a sigmoid, and the negative one for a logit. A tanh
            is brought from -1 to 1 to 0 to 1 before: (1 + value) / 2.
        head: what they are.
    Returns:
        float64 (N, classes).
    """
    values = outputs.astype(np.float64)
    if values.shape[1] > 1:
        return values
    if head.activation == "tanh":
        values = (1 + values) / 2
    return np.hstack([-values if head.is_logit else 1 - values, values])


def warn_about_values(values: np.ndarray) -> None:
    """Warn if the values of the classes, (N, classes), are no probabilities."""
    if ((values < 0) | (values > 1)).any():
        warn(
            "The model's outputs are no probabilities (values below 0 or above 1): the certainties "
            "are its values as they are."
        )
