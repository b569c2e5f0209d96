"""A tar, a zip or a folder of chips, told by what it is."""

from pathlib import Path

from chip_classifier.errors import TaskError
from chip_classifier.sources.folder import Folder
from chip_classifier.sources.source import Source
from chip_classifier.sources.tar import Tar
from chip_classifier.sources.zip import BEGINNINGS, Zip


def open_source(path: Path) -> Source:
    """Open a folder of chips, a zip or a tar: what a file is, its first bytes tell.

    Raises:
        TaskError: there is nothing at the path that can be read.
        BrokenArchive: it is a zip, and damaged.
    """
    try:
        if path.is_dir():
            return Folder(path)
        with path.open("rb") as file:
            is_zip = file.read(8).startswith(BEGINNINGS)
        return Zip(path) if is_zip else Tar(path)
    except OSError as error:
        raise TaskError(
            f"The chips in {path} cannot be read ({error.strerror or error}): give a tar, a zip or "
            "a folder of chips."
        ) from error
