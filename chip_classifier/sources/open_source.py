"""A tar, a zip or a folder of chips, told by what it is."""

import stat
import tarfile
from pathlib import Path

from chip_classifier.errors import TaskError
from chip_classifier.sources.folder import Folder
from chip_classifier.sources.source import Source
from chip_classifier.sources.tar import BLOCK, Tar
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
        if not stat.S_ISREG(path.stat().st_mode):  # a FIFO would be waited for
            raise OSError(f"{path.name} is no file")
        with path.open("rb") as file:
            head = file.read(BLOCK)
        # The first name in a tar may begin as a zip does; the checksum of its header tells.
        is_zip = head.startswith(BEGINNINGS) and not _is_tar_header(head)
        return Zip(path) if is_zip else Tar(path)
    except OSError as error:
        raise TaskError(
            f"The chips in {path} cannot be read ({error.strerror or error}): give a tar, a zip or "
            "a folder of chips."
        ) from error


def _is_tar_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True
