"""What a run is given: a work directory's input, or paths and ports on the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chip_classifier.archive import ARCHIVE_SUFFIXES, Archive
from chip_classifier.errors import TaskError
from chip_classifier.ports import Ports, find_input, find_model, parse_ports, read_ports
from chip_classifier.review.geojson import find_reference, find_reference_of
from chip_classifier.sources import Folder, Zip, open_chips


@dataclass(frozen=True)
class Given:
    """What the command line gives in place of a work directory.

    chips: a tar, a zip or a folder of chips; model: a model file, or the folder of its two files;
    ports: the text of each string port that is set.
    """

    chips: Path
    model: Path
    ports: Mapping[str, str]


@dataclass(frozen=True)
class Inputs:
    """The ports, the chips, the model file, and the .json files beside that.

    reference: the GeoJSON file beside the chips, if there is one.
    """

    ports: Ports
    chips: Archive | Folder | Zip
    model: Path
    beside: Sequence[Path]
    reference: Path | None = None


def find_inputs(source: Path | Given) -> Inputs:
    """Find the inputs of a run, and open the chips.

    Args:
        source: the directory `input` of a work directory, or what the command line gives.
    Raises:
        TaskError, BrokenArchive: an input is missing or cannot be used; the message says which.
    """
    if isinstance(source, Path):
        ports = read_ports(source / "ports.json")
        archive = Archive(find_input(source / "chips", "tar archive", ARCHIVE_SUFFIXES))
        reference = find_reference(source / "chips")
        return Inputs(ports, archive, *find_model(source / "model"), reference)
    ports = parse_ports(source.ports)
    chips, reference = open_chips(source.chips), find_reference_of(source.chips)
    if source.model.is_dir():
        return Inputs(ports, chips, *find_model(source.model), reference)
    if not source.model.is_file():
        raise TaskError(f"The model {source.model} is no file: give the path of a model file.")
    beside = sorted(source.model.parent.glob("*.json"))
    return Inputs(ports, chips, source.model, beside, reference)
