"""TensorFlow imported without what the task does not use: it takes a third less time."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

INTERFACE = "tensorflow._api.v2"

# The parts of the interface that the task uses, from several threads: they are loaded at once,
# since Python's LazyLoader is safe in one thread only (Python 3.11). tf.distribute, which costs
# nothing, would give way to a folder of TensorFlow's with that name, as tf.lite does.
USED = ("autograph", "config", "distribute", "errors", "image", "io", "linalg", "math", "nn")

# TensorFlow loads Keras as the last thing, and does without where there is none.
KERAS = "keras.src"


class _Lean(MetaPathFinder):
    """Has the other parts (tf.data, tf.lite, tf.compat, ...) loaded when they are first used."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module is and how it is loaded; None where that is as usual."""
        if name == KERAS:
            raise ModuleNotFoundError(f"{name} is not needed")
        parent, _, part = name.rpartition(".")
        if parent != INTERFACE or part in USED:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


@contextlib.contextmanager
def lean() -> Iterator[None]:
    """Let `import tensorflow`, while this lasts, load neither Keras nor parts that wait for use.

    Afterwards each part is loaded as soon as one of its names is asked for, and Keras can be
    imported; tf.lite alone is missing.
    """
    finder = _Lean()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
