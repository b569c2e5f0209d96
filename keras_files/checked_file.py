"""Read a Keras model file as untrusted input: HDF5 (.h5, .hdf5), or a .keras archive around one.

Nothing is read before it is checked. A link is looked at before it is followed, an array's declared
size is compared with its stored size, and of the types only numbers and text are taken: h5py is
never asked for objects, so that nothing is unpickled. Keras writes none of what is refused here.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

MAX_CONFIG_BYTES = 64 * 2**20  # NASNetLarge, the longest of keras.applications, has 2 MB
MAX_CONFIG_DEPTH = 100  # a model nested in a model adds four levels
MAX_INFLATION = 100  # declared bytes per stored byte; trained weights hardly compress at all
SMALL_BYTES = 2**16  # an array that may be all zeros, and so compress to nothing

# Where Keras 3 keeps the layers; TensorFlow 2.12 has the longer name.
ARCHIVE_ROOTS = ("_layer_checkpoint_dependencies", "layers")

PLAIN_TYPES = {h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING, h5py.h5t.ENUM}
PLAIN_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}

# What h5py, zipfile, json and a walk through a configuration raise on a damaged or foreign file.
DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
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
        raise ModelError(
            f"{path.name}: the file is damaged or was not written by Keras "
            f"({type(error).__name__}: {cause}): save it again with model.save()."
        ) from error


@contextmanager
def open_checked(path: Path) -> Iterator[h5py.File]:
    """The HDF5 file at `path`, or the weights of the .keras archive there, once they are checked.

    Raises:
        ModelError: the file is of another kind, truncated, or holds what `_check_tree` refuses.
    """
    if not path.is_file():
        raise ModelError("there is no such file")
    source: Path | io.BytesIO = path
    if zipfile.is_zipfile(path):
        source = io.BytesIO(_archive_member(path, "model.weights.h5"))
    elif not h5py.is_hdf5(path):
        raise ModelError(_name_content(path))
    try:
        file = h5py.File(source, "r", locking=False)
    except OSError as error:
        raise ModelError(f"the file is truncated or damaged ({error}): copy it again") from error
    with file:
        _check_tree(file)
        yield file


def is_model_file(path: Path) -> bool:
    """Whether a file begins as those do that `open_checked` opens."""
    return h5py.is_hdf5(path) or zipfile.is_zipfile(path)


def _name_content(path: Path) -> str:
    """What a file is that is no model file, and what to do."""
    with path.open("rb") as file:
        start = file.read(1024).lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return (
            "this is a pointer of Git LFS, not the model: fetch the file itself with git lfs pull"
        )
    if start.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "this is a web page, not the model: download the file itself (on GitHub: Raw)"
    return (
        "this is no HDF5 file, or its beginning is damaged: save the model again with "
        "model.save('model.h5') and copy the whole file"
    )


@dataclass(frozen=True)
class Document:
    """What a file, or two, say of a model.

    Attributes:
        model: {"class_name": ..., "config": ..., ...}.
        version: the version of Keras; "1" where none is recorded, "3" where only that is known.
        backend: "tensorflow" or "theano", "" where none is recorded.
        weights: the group that holds the weights.
        architecture: the .json file that holds `model`, None where the file of the weights does.
    """

    model: dict[str, Any]
    version: str
    backend: str
    weights: h5py.Group
    architecture: Path | None = None

    @property
    def is_archive(self) -> bool:
        """Whether the weights lie as Keras 3 keeps them in a .keras archive or .weights.h5."""
        return self.weights.name.removeprefix("/") in ARCHIVE_ROOTS


def read_document(path: Path, file: h5py.File, beside: Sequence[Path]) -> Document:
    """The model's configuration, of the file itself or of one beside it.

    Args:
        beside: .json files of which one may hold the architecture, for a file of weights alone.

    Raises:
        ModelError: there is no configuration, or one that no model has.
    """
    weights = _find_weights(file)
    if zipfile.is_zipfile(path):
        version = json.loads(_archive_member(path, "metadata.json"))["keras_version"]
        text = _archive_member(path, "config.json")
        return Document(_parse(text), version, "tensorflow", weights)
    if "model_config" in file.attrs:
        version, backend = (
            decode(file.attrs.get(key, default))
            for key, default in (("keras_version", "1"), ("backend", ""))
        )
        return Document(_parse(file.attrs["model_config"]), version, backend, file["model_weights"])
    if weights is None:
        raise ModelError(
            "this HDF5 file holds no Keras model, but "
            f"{', '.join(list(file)[:5]) or 'nothing'}: save the model with model.save()"
        )
    return _join_files(weights, beside)


def _find_weights(file: h5py.File) -> h5py.Group | None:
    """The group that holds a model's weights, None if this is a file of other data."""
    for group in (file["/"], file.get("model_weights")):
        if isinstance(group, h5py.Group) and {"layer_names", "layer_names0"} & set(group.attrs):
            return group
    for name in ARCHIVE_ROOTS:
        if isinstance(file.get(name), h5py.Group) and _has_arrays(file[name]):
            return file[name]
    return None


def _has_arrays(layers: h5py.Group) -> bool:
    """Whether Keras 3 wrote it: each layer has a group "vars", or layers inside."""
    groups = [group for group in layers.values() if isinstance(group, h5py.Group)]
    return any("vars" in group or _has_arrays(group) for group in groups)


def _join_files(weights: h5py.Group, beside: Sequence[Path]) -> Document:
    """A model whose architecture lies in a .json file beside its weights."""
    found = {path: model for path in beside if (model := _read_architecture(path))}
    if len(found) > 1:
        listed = ", ".join(path.name for path in found)
        raise ModelError(f"it holds only weights, and of architectures several lie there: {listed}")
    if not found:
        listed = ", ".join(path.name for path in beside)
        raise ModelError(
            "the file holds only weights, no model configuration: put the architecture beside it, "
            "a .json file of what model.to_json() gives, or save the whole model with model.save()"
            + (f" (no architecture: {listed})" if listed else "")
        )
    ((path, model),) = found.items()
    _check_depth(model)
    version = decode(model.get("keras_version") or ("3" if "registered_name" in model else "1"))
    document = Document(model, version, model.get("backend", ""), weights, path)
    if not document.is_archive:
        written = decode(weights.attrs.get("keras_version", "1"))
        if (written[0] in "01") != (version[0] in "01"):
            raise ModelError(
                f"the weights are of Keras {written}, the architecture {path.name} is of Keras "
                f"{version}: give both of one version, or save the whole model with model.save()"
            )
        # The backend that computed with the weights last says how they are kept.
        backend = decode(weights.attrs.get("backend", document.backend))
        return replace(document, backend=backend)
    return document


def _read_architecture(path: Path) -> dict[str, Any] | None:
    """The content of a .json file if it is what model.to_json() gives, be it as a JSON string."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG_BYTES + 1)
        model = json.loads(text)
        model = json.loads(model) if isinstance(model, str) else model
    except (OSError, RecursionError, ValueError):
        return None
    is_model = isinstance(model, dict) and {"class_name", "config"} <= model.keys()
    return model if is_model and len(text) <= MAX_CONFIG_BYTES else None


def _parse(text: bytes | str) -> dict[str, Any]:
    if len(text) > MAX_CONFIG_BYTES:
        raise ModelError(f"its configuration of {len(text)} bytes is larger than any model's")
    model = json.loads(decode(text))
    _check_depth(model)
    return model


def read_loss(document: dict[str, Any], file: h5py.File) -> Any:
    """The loss that a model was trained with, as Keras wrote it; None where the file has none.

    A .keras archive has it in the model's own configuration, an HDF5 file in another one, which
    nothing else depends on: where that is damaged, there is none.
    """
    training = document.get("compile_config")
    if training is None and "training_config" in file.attrs:
        text = file.attrs["training_config"]
        try:
            training = json.loads(decode(text)) if len(text) <= MAX_CONFIG_BYTES else None
        except (ValueError, RecursionError):
            return None
    return training.get("loss") if isinstance(training, dict) else None


def names(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names; above 64 KB Keras splits it into `attribute`0, `attribute`1, ..."""
    parts = [attribute] if attribute in group.attrs else []
    while f"{attribute}{len(parts)}" in group.attrs and attribute not in parts:
        parts.append(f"{attribute}{len(parts)}")
    return [decode(name) for part in parts for name in group.attrs[part]]


def decode(value: bytes | str) -> str:
    """An attribute as text: old files hold bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _archive_member(path: Path, name: str) -> bytes:
    """One file of a .keras archive, unless it declares far more bytes than it stores."""
    with zipfile.ZipFile(path) as archive:
        if name not in archive.namelist():
            raise ModelError(
                f"this zip archive has no {name}, so it is no .keras file: save the model again "
                "with model.save('model.keras')"
            )
        info = archive.getinfo(name)
        if info.file_size > max(2**20, MAX_INFLATION * info.compress_size):
            raise ModelError(f"{name} in the archive declares far more bytes than it stores")
        return archive.read(info)


def _check_tree(file: h5py.File) -> None:
    """Refuse whatever leads out of the file, leads in circles, or declares more than it stores."""
    seen = {_address(file["/"])}
    groups: list[h5py.Group] = [file["/"]]
    while groups:
        group = groups.pop()
        _check_attributes(group)
        for name in group:
            where = f"'{group.name.rstrip('/')}/{name}'"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise _unsafe(where, f"is a link to another place ({type(link).__name__})")
            item = group[name]
            if _address(item) in seen:
                raise _unsafe(where, "is a second name for another entry of the file")
            seen.add(_address(item))
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif isinstance(item, h5py.Dataset):
                _check_dataset(item, where)
                _check_attributes(item)
            else:
                raise _unsafe(where, "is neither a group nor an array")


def _address(item: h5py.Group | h5py.Dataset) -> int:
    return h5py.h5o.get_info(item.id).addr


def _check_dataset(dataset: h5py.Dataset, where: str) -> None:
    creation = dataset.id.get_create_plist()
    if dataset.is_virtual or creation.get_external_count():
        raise _unsafe(where, "keeps its values in another file")
    if {creation.get_filter(i)[0] for i in range(creation.get_nfilters())} - PLAIN_FILTERS:
        raise _unsafe(where, "is packed in another way than gzip")
    if dataset.id.get_type().get_class() not in PLAIN_TYPES:
        raise _unsafe(where, "holds something other than numbers and text")
    declared = dataset.size * dataset.dtype.itemsize
    if declared > max(SMALL_BYTES, MAX_INFLATION * dataset.id.get_storage_size()):
        raise _unsafe(where, f"declares {declared} bytes, far more than it stores")


def _check_attributes(item: h5py.Group | h5py.Dataset) -> None:
    for index in range(h5py.h5a.get_num_attrs(item.id)):
        attribute = h5py.h5a.open(item.id, index=index)
        where = f"attribute '{attribute.name.decode(errors='replace')}' of '{item.name}'"
        if attribute.get_type().get_class() not in PLAIN_TYPES:
            raise _unsafe(where, "holds something other than numbers and text")
        size = attribute.get_space().get_simple_extent_npoints() * attribute.get_type().get_size()
        if size > MAX_CONFIG_BYTES:
            raise _unsafe(where, f"has {size} bytes")


def _unsafe(where: str, cause: str) -> ModelError:
    return ModelError(
        f"{where} {cause}, which Keras never writes; the file is not opened for safety's sake: "
        "save the model again with model.save()"
    )


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


def read_array(file: h5py.File, place: str) -> np.ndarray:
    """One array of weights as float32; half precision and doubles become that too."""
    dataset = file[place]
    if dataset.dtype.kind not in "fiub":
        raise ModelError(f"'{place}' holds no numbers: save the model again with model.save()")
    return np.asarray(dataset[()], np.float32)
