"""A Keras model file, looked at in a process with limits: its configuration, its arrays.

All that libhdf5 does with the file happens there (see `look`). What it hands over is plain text and
numbers; arrays that lie in the file in one piece are read from it here, without that library.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_files.limits import LimitError, run_limited
from keras_files.look import look
from keras_files.same_file import SameFile

MAX_CONFIG_DEPTH = 100  # a model nested in a model adds four levels

# For what libhdf5 does with a file; a long one is given more (see `look`). NASNetLarge takes 1.1 s.
# The time by the clock is for a busy machine, and for a file that comes over a slow network.
CPU_SECONDS = 2
SECONDS = 120
SLOW_BYTES_PER_SECOND = 2**20
MEMORY_BYTES = 2**30
MEMORY_PER_BYTE = 4

# What json and a walk through a configuration raise on a damaged or foreign file.
DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


class ModelError(Exception):
    """A model cannot be used: one sentence with the file, the layer, the cause, the way out."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name before every ModelError, and make one of whatever a bad file causes."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{path.name}: {error}.") from error
    except RecursionError as error:
        raise ModelError(f"{path.name}: its configuration is nested too deep.") from error
    except DAMAGE as error:
        cause = " ".join(str(error).split())[:200]
        raise ModelError(f"{path.name}: {_damaged(f'{type(error).__name__}: {cause}')}.") from error


def _damaged(cause: str) -> str:
    return (
        f"the file is damaged or was not written by Keras ({cause}): save it again with "
        "model.save()"
    )


@dataclass(frozen=True)
class Array:
    """An array of the file: where it lies, or its bytes; attributes as of h5py.Dataset."""

    shape: tuple[int, ...]
    dtype: np.dtype
    file: SameFile
    offset: int | None
    data: memoryview | None
    attrs: dict[str, Any] = field(default_factory=dict)

    def read(self) -> np.ndarray:
        """Read the values. Raises ModelError if they are no numbers or the file lacks them."""
        if self.data is not None:
            return np.frombuffer(self.data, self.dtype).reshape(self.shape)
        values = np.empty(self.shape, self.dtype)
        whole = memoryview(values.reshape(-1).view(np.uint8))
        if self.offset is None or self.file.read_into(whole, self.offset) < len(whole):
            raise ModelError("an array lies outside of the file: copy the whole file")
        return values


@dataclass(frozen=True)
class Group:
    """A group of the file; names of items may be paths. Used as one of h5py."""

    attrs: dict[str, str | list[str]]
    items: dict[str, Group | Array]

    def __contains__(self, path: str) -> bool:
        """Whether there is such an item."""
        try:
            self[path]
        except KeyError:
            return False
        return True

    def __getitem__(self, path: str) -> Group | Array:
        """Give an item. Raises KeyError if there is none."""
        item: Group | Array = self
        for part in filter(None, path.split("/")):
            if not isinstance(item, Group):
                raise KeyError(path)
            item = item.items[part]
        return item

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the items."""
        return iter(self.items)

    def values(self) -> Iterator[Group | Array]:
        """Yield the items."""
        return iter(self.items.values())


@dataclass(frozen=True)
class Contents:
    """What a model file holds.

    root: its groups and arrays; archive: of a .keras archive the text of config.json and
    metadata.json by these names, else None.
    """

    root: Group
    archive: dict[str, str] | None


def open_checked(file: SameFile) -> Contents:
    """Give the contents of an HDF5 file or .keras archive, once they are checked.

    Raises:
        ModelError: the file is of another kind, truncated, or holds what `look` refuses; or it
            cannot be looked at within the limits.
        MemoryError: the machine has too little memory for that.
    """
    try:
        answer = run_limited(
            functools.partial(look, file),
            file.descriptor,
            CPU_SECONDS,
            SECONDS + file.size / SLOW_BYTES_PER_SECOND,
            MEMORY_BYTES + MEMORY_PER_BYTE * file.size,
        )
    except LimitError as error:
        raise ModelError(
            f"the file is damaged: to look at it {error}; save the model again with model.save() "
            "and copy the whole file"
        ) from error
    except OSError as error:
        raise ModelError(
            f"no process could be started to look at it ({error.strerror}): raise the limit of "
            "processes, or give the task more memory"
        ) from error
    size = int.from_bytes(answer[:8])
    found = json.loads(answer[8 : 8 + size])
    if "refused" in found:
        raise ModelError(found["refused"])
    if "damaged" in found:
        raise ModelError(_damaged(found["damaged"]))
    data = memoryview(answer)[8 + size :]
    return Contents(_group(found["root"], file, data)[0], found["archive"])


def _group(found: dict[str, Any], file: SameFile, data: memoryview) -> tuple[Group, memoryview]:
    """Make a Group of what `look` found; of the data, what belongs to later ones is given back."""
    items: dict[str, Group | Array] = {}
    for name, item in found["items"].items():
        if "items" in item:
            items[name], data = _group(item, file, data)
        else:
            size = item.get("size")
            own = None if size is None else data[:size]
            items[name] = Array(
                tuple(item["shape"]), np.dtype(item["dtype"]), file, item.get("offset"), own
            )
            data = data[size or 0 :]
    return Group(found["attributes"], items), data


def read_document(contents: Contents) -> tuple[dict[str, Any], str, str]:
    """The model's configuration, the version of Keras, and the backend that the file records.

    Keras 1 recorded no backend, and before 1.1 no version: "1" and "" then.

    Raises:
        ModelError: there is no configuration, or one that no model has.
    """
    root = contents.root
    if contents.archive is not None:
        text = contents.archive["config.json"]
        version = json.loads(contents.archive["metadata.json"])["keras_version"]
        backend = "tensorflow"
    elif "model_config" in root.attrs:
        text = root.attrs["model_config"]
        version = root.attrs.get("keras_version", "1")
        backend = root.attrs.get("backend", "")
    else:
        weights = {"model_weights", "layers", "_layer_checkpoint_dependencies", "vars"}
        only_weights = "layer_names" in root.attrs or weights & set(root)
        raise ModelError(
            f"the file holds {'only weights' if only_weights else 'no Keras model'}, no model "
            "configuration: save the whole model with model.save(), not model.save_weights()"
        )
    document = json.loads(text)
    _check_depth(document)
    return document, version, backend


def read_loss(document: dict[str, Any], root: Group) -> Any:
    """The loss that a model was trained with, as Keras wrote it; None where the file has none.

    A .keras archive has it in the model's own configuration, an HDF5 file in another one, which
    nothing else depends on: where that is damaged, there is none.
    """
    training = document.get("compile_config")
    if training is None and "training_config" in root.attrs:
        try:
            training = json.loads(root.attrs["training_config"])
        except (TypeError, ValueError, RecursionError):
            return None
    return training.get("loss") if isinstance(training, dict) else None


def names(group: Group | Array, attribute: str) -> list[str]:
    """A list of names; above 64 KB Keras splits it into `attribute`0, `attribute`1, ..."""
    parts = [attribute] if attribute in group.attrs else []
    while f"{attribute}{len(parts)}" in group.attrs and attribute not in parts:
        parts.append(f"{attribute}{len(parts)}")
    return [name for part in parts for name in group.attrs[part]]


def _check_depth(document: Any) -> None:
    """Refuse a configuration nested deeper than any model's, so that all later code may recurse."""
    level = [document]
    for _ in range(MAX_CONFIG_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return
    raise ModelError(f"its configuration is nested more than {MAX_CONFIG_DEPTH} levels deep")


def read_array(file: Group, place: str) -> np.ndarray:
    """One array of weights as float32; half precision and doubles become that too."""
    array = file[place]
    if array.dtype.kind not in "fiub":
        raise ModelError(f"'{place}' holds no numbers: save the model again with model.save()")
    return np.asarray(array.read(), np.float32)
