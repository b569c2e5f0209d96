"""What a run is given: a work directory's input, or paths and ports on the command line."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chip_classifier.errors import TaskError
from chip_classifier.files import odd_kind
from chip_classifier.layout import (
    ARCHIVE_SUFFIXES,
    CHIPS_FOLDER,
    MODEL_FOLDER,
    MODEL_SUFFIXES,
    PORTS,
    REFERENCE,
    REFERENCE_SUFFIX,
    Given,
    is_reference,
)
from chip_classifier.ports import Ports, gather_ports
from chip_classifier.review.reference import Reference, check_reference
from chip_classifier.sources.open_source import open_source
from chip_classifier.sources.source import Source
from chip_classifier.sources.tar import Tar
from keras_files.foreign_file import recognize
from keras_files.inspect_hdf5 import is_model_file
from keras_files.pinned_file import PinnedFile


@dataclass(frozen=True)
class Inputs:
    """The ports, the chips, the model file, and the .json files beside that.

    reference: the features beside the chips, if there are any.
    """

    ports: Ports
    chips: Source
    model: Path
    beside: Sequence[Path]
    reference: Reference | None = None

    @property
    def warnings(self) -> Sequence[str]:
        """Sentences on what may be wrong with the inputs."""
        return self.reference.warnings if self.reference else ()


def find_inputs(source: Path | Given) -> Inputs:
    """Find the inputs of a run, read the ports, and open the chips.

    Args:
        source: the directory `input` of a work directory, or what the command line gives.
    Raises:
        TaskError, BrokenArchive: an input is missing or cannot be used; the message says which.
    """
    if isinstance(source, Path):
        flags, ports_file = {}, source / PORTS
        path = find_input(source / CHIPS_FOLDER, "tar archive", ARCHIVE_SUFFIXES)
        references = references_in(source / CHIPS_FOLDER)
        model, beside = find_model(source / MODEL_FOLDER)
    else:
        flags, ports_file, path = source.ports, source.ports_file, source.chips
        if ports_file and not ports_file.exists():
            raise TaskError(f"The file of ports {ports_file} does not exist: give the path of one.")
        references = _references_of(path)
        model, beside = _given_model(source.model)
    reference = the_only_one(references)
    ports = gather_ports(flags, ports_file, model.parent / PORTS)
    chips = Tar(path) if isinstance(source, Path) else open_source(path)
    return Inputs(ports, chips, model, beside, reference and check_reference(reference))


def _given_model(path: Path) -> tuple[Path, list[Path]]:
    """Return a model file that is given, or the one in a folder, and the .json files beside it."""
    if path.is_dir():
        return find_model(path)
    if not path.is_file():
        raise TaskError(f"The model {path} is no file: give the path of a model file.")
    return path, sorted(file for file in path.parent.glob("*.json") if file.name != PORTS)


def find_input(directory: Path, what: str, suffixes: Sequence[str]) -> Path:
    """Find the one file of a kind in an input directory.

    Args:
        directory: input/chips or input/model.
        what: the kind of file, for the message.
        suffixes: the endings that the file may have, lower case.
    Raises:
        TaskError: there is none, or more than one; the message names what was found.
    """
    entries = _list_entries(directory, what)
    files = [entry.name for entry in entries if entry.is_file()]
    found = [name for name in files if name.lower().endswith(tuple(suffixes))]
    if len(found) == 1:
        return directory / found[0]
    for entry in entries:
        if not found and entry.name.lower().endswith(tuple(suffixes)):
            raise TaskError(f"{entry} is {_odd_input(entry)}: put the {what} itself there.")
    listed = ", ".join((found or files)[:10]) + (", ..." if len(found or files) > 10 else "")
    raise TaskError(
        f"{directory} must hold exactly one {what} ({', '.join(suffixes)}), "
        + (f"but holds {len(found)}: {listed}." if found else f"but holds {listed or 'no file'}.")
    )


def _odd_input(path: Path) -> str:
    """Say what an entry of an input directory is that is no file."""
    if path.is_symlink():
        return f"a link to {os.readlink(path)}, where no file is"
    return f"{odd_kind(path)}, no file"


def find_model(directory: Path) -> tuple[Path, list[Path]]:
    """Find the one model file in input/model, and the .json files beside it.

    A file with the name of a model (see MODEL_SUFFIXES), else one that begins as these do. Raises
    TaskError: there is none, or more than one; the message names what was found.
    """
    what = "Keras model file"
    files = [entry.name for entry in _list_entries(directory, what) if entry.is_file()]
    beside = [
        directory / name for name in files if name.lower().endswith(".json") and name != PORTS
    ]
    if any(name.lower().endswith(MODEL_SUFFIXES) for name in files):
        return find_input(directory, what, MODEL_SUFFIXES), beside
    found = [directory / name for name in files if is_model_file(directory / name)]
    if len(found) == 1:
        return found[0], beside
    if beside and not found:
        raise TaskError(
            f"{directory} holds no weights beside {beside[0].name}: put the file there that "
            "model.save_weights() wrote, or the whole model that model.save() wrote."
        )
    for name in files:
        if foreign := recognize(PinnedFile(directory / name)):
            raise TaskError(f"{name}: {foreign}.")
    return find_input(directory, what, MODEL_SUFFIXES), beside


def _list_entries(directory: Path, what: str) -> list[Path]:
    """Return all that is in an input directory and not hidden, in order."""
    try:
        return sorted(entry for entry in directory.iterdir() if entry.name[0] != ".")
    except OSError as error:
        raise TaskError(
            f"The input directory {directory} cannot be read ({error.strerror}): put the {what} "
            "there."
        ) from error


def the_only_one(references: Sequence[Path]) -> Path | None:
    """Return the only one of some GeoJSON files, if any. Raises TaskError if there are several."""
    if len(references) > 1:
        raise TaskError(
            f"There may be one {REFERENCE_SUFFIX} file with the chips, but there are "
            f"{len(references)}: {', '.join(map(str, references[:10]))}: leave one of them there."
        )
    return references[0] if references else None


def references_in(folder: Path) -> list[Path]:
    """List the GeoJSON files in a folder."""
    return sorted(path for path in folder.iterdir() if is_reference(path.name) and path.is_file())


def _references_of(chips: Path) -> list[Path]:
    """List the GeoJSON files that belong to a folder, a zip or a tar of chips.

    They lie in the folder, or as ref.geojson beside the folder, zip or tar, where files with other
    names may have to do with other things.
    """
    found = references_in(chips) if chips.is_dir() else []
    beside = Path(os.path.abspath(chips)).parent / REFERENCE
    return [*found, beside] if beside.is_file() else found
