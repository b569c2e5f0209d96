"""A Keras model file, looked at in a process with limits: its configuration, its arrays.

All that libhdf5 does with the file happens there (see `look`). What it hands over is plain text and
numbers; arrays that lie in the file in one piece are read from it here, without that library.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_files.advice import NOT_OF_KERAS
from keras_files.inspect_hdf5 import MAX_TEXT_BYTES, look
from keras_files.limits import LimitError, run_limited
from keras_files.pinned_file import PinnedFile

MAX_CONFIG_DEPTH = 100  # a model nested in a model adds four levels

# Where Keras 3 keeps the layers; TensorFlow 2.12 has the longer name.
ARCHIVE_ROOTS = ("_layer_checkpoint_dependencies", "layers")

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
        f"the file is damaged or was not written by Keras ({cause}): copy the whole file again, or "
        "save the model with model.save()"
    )


@dataclass(frozen=True)
class Array:
    """An array of the file: where it lies, or its bytes; attributes as of h5py.Dataset."""

    shape: tuple[int, ...]
    dtype: np.dtype
    file: PinnedFile
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

    name: str
    attrs: dict[str, str | list[str]]
    items: dict[str, Group | Array]

    def __contains__(self, path: str) -> bool:
        """Return whether there is such an item."""
        return self.get(path) is not None

    def __getitem__(self, path: str) -> Group | Array:
        """Return an item. Raises KeyError if there is none."""
        item: Group | Array = self
        for part in filter(None, path.split("/")):
            if not isinstance(item, Group):
                raise KeyError(path)
            item = item.items[part]
        return item

    def get(self, path: str) -> Group | Array | None:
        """Return an item, None if there is none."""
        try:
            return self[path]
        except KeyError:
            return None

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


def open_checked(file: PinnedFile) -> Contents:
    """Return the contents of an HDF5 file or .keras archive, once they are checked.

    Raises:
        ModelError: the file is of another kind, truncated, or holds what `look` refuses; or it
            cannot be looked at within the limits.
        MemoryError: the machine has too little memory for that.
        LackOfTime: this process has too little processor time for that.
        OSError: no process is to be had for it.
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
            f"the file is damaged: to look at it {error}; copy the whole file again, or save "
            "the model with model.save()"
        ) from error
    size = int.from_bytes(answer[:8])
    found = json.loads(answer[8 : 8 + size])
    if "refused" in found:
        raise ModelError(found["refused"])
    if "damaged" in found:
        raise ModelError(_damaged(found["damaged"]))
    data = memoryview(answer)[8 + size :]
    return Contents(_group("", found["root"], file, data)[0], found["archive"])


def _group(
    path: str, found: dict[str, Any], file: PinnedFile, data: memoryview
) -> tuple[Group, memoryview]:
    """Make a Group of what `look` found; of the data, what belongs to later ones is given back."""
    items: dict[str, Group | Array] = {}
    for name, item in found["items"].items():
        if "items" in item:
            items[name], data = _group(f"{path}/{name}", item, file, data)
        else:
            size = item.get("size")
            own = None if size is None else data[:size]
            items[name] = Array(
                tuple(item["shape"]), np.dtype(item["dtype"]), file, item.get("offset"), own
            )
            data = data[size or 0 :]
    return Group(path or "/", found["attributes"], items), data


@dataclass(frozen=True)
class Document:
    """What a file, or two, say of a model.

    Attributes:
        model: {"class_name": ..., "config": ..., ...}.
        version: the version of Keras; "1" where none is recorded, "3" where only that is known.
        backend: "tensorflow" or "theano", "" where none is recorded.
        weights: the group that holds the weights.
        architecture: the .json file that holds `model`, open, None where that of the weights does.
    """

    model: dict[str, Any]
    version: str
    backend: str
    weights: Group
    architecture: PinnedFile | None = None

    @property
    def is_archive(self) -> bool:
        """Whether the weights lie as Keras 3 keeps them in a .keras archive or .weights.h5."""
        return self.weights.name.removeprefix("/") in ARCHIVE_ROOTS


def read_document(contents: Contents, beside: Sequence[Path]) -> Document:
    """Return the model's configuration, of the file itself or of one beside it.

    Args:
        beside: .json files of which one may hold the architecture, for a file of weights alone.

    Raises:
        ModelError: there is no configuration, or one that no model has.
    """
    file = contents.root
    weights = _find_weights(file)
    if contents.archive is not None:
        version = json.loads(contents.archive["metadata.json"])["keras_version"]
        return Document(_parse(contents.archive["config.json"]), version, "tensorflow", weights)
    if "model_config" in file.attrs:
        version, backend = file.attrs.get("keras_version", "1"), file.attrs.get("backend", "")
        return Document(_parse(file.attrs["model_config"]), version, backend, file["model_weights"])
    if weights is None:
        raise ModelError(
            "this HDF5 file holds no Keras model, but "
            f"{', '.join(list(file)[:5]) or 'nothing'}: save the model with model.save()"
        )
    return _join_files(weights, beside)


def _find_weights(file: Group) -> Group | None:
    """Return the group that holds a model's weights, None if this is a file of other data."""
    for group in (file["/"], file.get("model_weights")):
        if isinstance(group, Group) and {"layer_names", "layer_names0"} & set(group.attrs):
            return group
    for name in ARCHIVE_ROOTS:
        if isinstance(file.get(name), Group) and _has_arrays(file[name]):
            return file[name]
    return None


def _has_arrays(layers: Group) -> bool:
    """Return whether Keras 3 wrote it: each layer has a group "vars", or layers inside."""
    groups = [group for group in layers.values() if isinstance(group, Group)]
    return any("vars" in group or _has_arrays(group) for group in groups)


def _join_files(weights: Group, beside: Sequence[Path]) -> Document:
    """Return a model whose architecture lies in a .json file beside its weights."""
    found = [
        (file, model) for path in beside if (model := _read_architecture(file := PinnedFile(path)))
    ]
    if len(found) > 1:
        listed = ", ".join(file.path.name for file, _ in found)
        raise ModelError(f"it holds only weights, and of architectures several lie there: {listed}")
    if not found:
        listed = ", ".join(path.name for path in beside)
        raise ModelError(
            "the file holds only weights, no model configuration: put the architecture beside it, "
            "a .json file of what model.to_json() gives, or save the whole model with model.save()"
            + (f" (no architecture: {listed})" if listed else "")
        )
    ((file, model),) = found
    _check_depth(model)
    version = str(model.get("keras_version") or ("3" if "registered_name" in model else "1"))
    document = Document(model, version, model.get("backend", ""), weights, file)
    if not document.is_archive:
        written = weights.attrs.get("keras_version", "1")
        if (written[0] in "01") != (version[0] in "01"):
            raise ModelError(
                f"the weights are of Keras {written}, the architecture {file.path.name} is of "
                f"Keras {version}: give both of one version, or save the whole model with "
                "model.save()"
            )
        # The backend that computed with the weights last says how they are kept.
        backend = weights.attrs.get("backend", document.backend)
        return replace(document, backend=backend)
    return document


def _read_architecture(file: PinnedFile) -> dict[str, Any] | None:
    """Return the content of a .json file if it is that of model.to_json(), be it in a string."""
    try:
        text = file.read(0, MAX_TEXT_BYTES + 1)
        model = json.loads(text)
        model = json.loads(model) if isinstance(model, str) else model
    except (OSError, RecursionError, ValueError):
        return None
    is_model = isinstance(model, dict) and {"class_name", "config"} <= model.keys()
    return model if is_model and len(text) <= MAX_TEXT_BYTES else None


def _parse(text: str) -> dict[str, Any]:
    model = json.loads(text)
    _check_depth(model)
    return model


def read_loss(document: dict[str, Any], root: Group) -> Any:
    """Return the loss that a model was trained with, as Keras wrote it; None if it has none.

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
    """Return a list of names; above 64 KB Keras splits it into `attribute`0, `attribute`1, ..."""
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
    """Return one array of weights as float32; half precision and doubles become that too."""
    array = file[place]
    if array.dtype.kind not in "fiub":
        raise ModelError(f"'{place}' holds no numbers: {NOT_OF_KERAS}")
    return np.asarray(array.read(), np.float32)
