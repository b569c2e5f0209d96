"""The model on the machine's devices: batches of pixels -> classes and certainties."""

import contextlib
import gc
import os
import queue
import re
import tempfile
import time
from pathlib import Path
from types import ModuleType

import numpy as np

from chip_classifier.cores import cores_of_affinity, usable_cores
from chip_classifier.lean_import import lean
from chip_classifier.log import Warnings, without_lines
from chip_classifier.settings import Settings
from keras_files.head import Head
from keras_files.open_model import OpenedModel

# What TensorFlow writes of GPUs that a machine does not have, and of settings that are the task's.
NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog|To enable the following instructions: |"
    rb"[IWE]\d{4} .*\b(port|cudart_stub|cpu_feature_guard|cuda_platform)\.cc:\d+\]"
)


class Classifier:
    """A model with the task's preprocessing in front of it, on every GPU or on the processor.

    opened: the model file.
    settings: what is in force.
    head: what the model's outputs are; outputs: their number.
    class_names: of the classes that it tells apart.
    device: the devices that it runs on, for the log.
    replicas: the model on each of them; seconds: the time to load it.
    batches_at_a_time: from how many threads it is to be called at a time, to be fastest.
    """

    def __init__(
        self, opened: OpenedModel, settings: Settings, batch_size: int, warnings: Warnings
    ) -> None:
        """Load TensorFlow and the model.

        Args:
            opened: the model file.
            settings: what the model gets of the chips' pixels, and the names of its classes.
            batch_size: chips per call at most.
            warnings: receives those on the devices and the model.
        Raises:
            ModelError: the file cannot be built into a model.
            TaskError: the model does not take chips of this size, or has other classes.
        """
        started = time.monotonic()
        self.opened, self.settings, self.head = opened, settings, opened.head
        # Where there is a GPU, and it is not found, what TensorFlow writes may tell why.
        with without_lines(NOISE) if not has_nvidia() else contextlib.nullcontext():
            tf = load_tensorflow()
            self.device = _set_up_devices(tf, warnings)
            devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        from chip_classifier.replica import Replica

        self.replicas = [
            Replica(opened, settings, batch_size, device, warnings) for device in devices
        ]
        self.outputs = self.replicas[0].outputs
        if self.outputs == 1 and opened.head.activation == "softmax":
            warnings.add(
                "The model's one output is a softmax, which is always 1, so that every chip is of "
                "the second class: end the model with a sigmoid and train it again."
            )
        if self.outputs > 1 and opened.head.activation == "sigmoid":
            warnings.add(
                f"The model's {self.outputs} outputs are sigmoids, each a probability of its own, "
                "so that a chip may be of several classes or of none: only the largest is given; "
                "set the port probabilities to True to have all of them."
            )
        # Those that may take one more batch: each is there as often as it takes some at a time.
        self._free: queue.SimpleQueue[Replica] = queue.SimpleQueue()
        for replica in self.replicas * self.replicas[0].batches_at_a_time:
            self._free.put(replica)
        self.batches_at_a_time = self._free.qsize()
        self.class_names = settings.class_names(self.outputs)
        self.seconds = time.monotonic() - started

    def __call__(self, chips: np.ndarray) -> np.ndarray:
        """Classify chips on the device that is free first.

        Args:
            chips: (N, rows, columns, bands), uint8, uint16 or float32; the bands as in
                `Preprocessing`.
        Returns:
            float32 (N, outputs).
        Raises:
            TaskError: the device's memory does not hold a single chip.
            ModelError: a layer cannot be computed.
        """
        replica = self._free.get()
        try:
            return replica(chips)
        finally:
            self._free.put(replica)

    def compute(self, x: np.ndarray) -> np.ndarray:
        """Compute the outputs for a few chips that are preprocessed already, in whatever way.

        Args:
            x: float32 (N, rows, columns, bands), as the model gets them.
        Returns:
            float32 (N, outputs).
        """
        return self.replicas[0].compute(x)


def load_tensorflow() -> ModuleType:
    """Import TensorFlow, to compute in full float32 with the cores that the task may use."""
    # The import makes many objects that stay: the garbage collector would go over them again and
    # again.
    gc.disable()
    do_without_temporary_files()
    with lean():
        import tensorflow as tf

    gc.freeze()
    gc.enable()
    # By itself TensorFlow rounds to 10 bits what GPUs since NVIDIA's Ampere multiply (TF32).
    tf.config.experimental.enable_tensor_float_32_execution(False)
    if usable_cores() < cores_of_affinity():  # which is all that TensorFlow asks for
        tf.config.threading.set_intra_op_parallelism_threads(usable_cores())
        tf.config.threading.set_inter_op_parallelism_threads(usable_cores())
    return tf


def _set_up_devices(tf: ModuleType, warnings: Warnings) -> str:
    """Let GPUs take memory as they need it; return the names of the devices."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    names = [tf.config.experimental.get_device_details(gpu).get("device_name") for gpu in gpus]
    if not gpus and missing_cuda():
        warnings.add(
            "This machine has a GPU, but TensorFlow does not find it and computes on the CPU: "
            "install its CUDA libraries with pip install "
            f"'tensorflow[and-cuda]=={tf.__version__}', or use the image that has them, with "
            "docker run --gpus all."
        )
    return ", ".join(f"GPU {name}" for name in names) or f"CPU, {usable_cores()} cores"


def do_without_temporary_files() -> None:
    """Let TensorFlow be loaded in a container that has no directory for temporary files.

    A module of its tests, which tf.compat loads too, asks for one; nothing is ever written there.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = os.devnull


def has_nvidia(root: Path = Path("/")) -> bool:
    """Return whether the machine has a GPU of NVIDIA's.

    Args:
        root: of the file system: the driver makes /dev/nvidia0, ... and /proc/driver/nvidia.
    """
    return any(root.glob("dev/nvidia[0-9]*")) or (root / "proc/driver/nvidia").exists()


def missing_cuda(root: Path = Path("/")) -> bool:
    """Return whether the machine has a GPU of NVIDIA's that the user has not hidden from the task.

    Args:
        root: of the file system.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1", "none", "NoDevFiles"):
        return False
    return has_nvidia(root)


def interpret(outputs: np.ndarray, head: Head) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn a model's outputs into classes and certainties.

    The class of the largest value, and that value. One output: the second class if it is above 0.5
    (above 0 for a tanh or a logit); the certainty of a logit is its value as it is.

    Args:
        outputs: float32 (N, K), finite.
        head: what they are.
    Returns:
        Classes int (N,), certainties float64 (N,), and the values of all classes, as class_values.
    """
    values = class_values(outputs, head)
    classes = values.argmax(axis=1)
    if outputs.shape[1] == 1 and head.is_logit:
        return classes, values[:, 1], values
    return classes, values[np.arange(len(values)), classes], values


def class_values(outputs: np.ndarray, head: Head) -> np.ndarray:
    """Return the value of each class.

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


def are_probabilities(values: np.ndarray) -> bool:
    """Return whether the values of the classes, (N, classes), are all from 0 to 1."""
    return not ((values < 0) | (values > 1)).any()
