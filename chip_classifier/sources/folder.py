"""A folder of chips, in place of an archive of them."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from chip_classifier.errors import BrokenArchive
from chip_classifier.image_header import HEAD_BYTES
from chip_classifier.layout import is_reference
from chip_classifier.sources.source import Chip, Member, Source, plain_path, target_of
from keras_files.pinned_file import PinnedFile


class _File(NamedTuple):
    """A file below a folder.

    place: its path below the folder; size, changed: bytes, and time of the last change in ns.
    link: what is written in a link that is not followed, or None.
    problem: why it cannot be read, or None; is_file: as of Member.
    """

    place: str
    size: int = 0
    changed: int = 0
    link: str | None = None
    problem: str | None = None
    is_file: bool = True


class Folder(Source):
    """The chips in a folder and in the folders in it, in the order of their paths.

    A chip's path begins with the folder's own name, as in a tar that was made of it. A link to a
    file or folder elsewhere is followed; one to a chip in the folder is a link, as in a tar. A
    GeoJSON file beside the chips is none of the files: it may be added between two runs.
    """

    def __init__(self, path: Path) -> None:
        """List the folder. Raises OSError if it, or a folder in it, cannot be read."""
        super().__init__(path, None)
        self._root = os.path.abspath(path)
        self._above = len(os.path.join(self._root, ""))
        self._top = os.path.basename(self._root)
        self._shown_top = plain_path(self._top) + "/"
        files = sorted(self._walk())
        self._files = {self._path(file.place): file for file in files}
        self.size = sum(file.size for file in files)

    def _walk(self) -> Iterator[_File]:
        """Yield all files, in no order; each folder is entered once, links to folders last."""
        entered, links = set(), [self._root]
        while links:
            start = links.pop(0)
            if start != self._root and not self._is_to_be_entered(start, entered):
                yield _File(start[self._above :], link=os.readlink(start))
                continue
            for folder, folders, names in os.walk(start, onerror=self._raise_unless_hidden):
                entered.add(_identity(folder))
                paths = [os.path.join(folder, name) for name in folders]
                links += sorted(filter(os.path.islink, paths))
                for name in names:
                    if folder != self._root or not is_reference(name):
                        yield self._file(os.path.join(folder, name))

    def _is_to_be_entered(self, link: str, entered: set[tuple[int, int]]) -> bool:
        """Return whether a link leads to a folder that is none of those entered, nor around them.

        In a hidden folder none is followed.
        """
        target = os.path.realpath(link)
        is_around = os.path.commonpath([target, os.path.realpath(self._root)]) == target
        is_hidden = self._is_hidden(self._path(link[self._above :]))
        return not (is_around or is_hidden or _identity(target) in entered)

    def _raise_unless_hidden(self, error: OSError) -> None:
        if not self._is_hidden(self._path(error.filename[self._above :])):
            raise error

    def _path(self, place: str) -> str:
        """Return the plain path of what lies at a place below the folder."""
        return plain_path(f"{self._top}/{place}")

    def _file(self, path: str) -> _File:
        """Look at a file; follow a link, unless it leads to a file of this folder, or nowhere."""
        place = path[self._above :]
        try:
            found = os.lstat(path)
            if stat.S_ISLNK(found.st_mode):
                link = os.readlink(path)
                if self._leads_to_a_chip(place, link) or not os.path.exists(path):
                    return _File(place, link=link)
                found = os.stat(path)
        except OSError as error:
            return _File(place, problem=f"the file cannot be read ({error.strerror})")
        if not stat.S_ISREG(found.st_mode):
            return _File(place, is_file=False)
        return _File(place, found.st_size, found.st_mtime_ns)

    def _leads_to_a_chip(self, place: str, link: str) -> bool:
        """Return whether a link leads to a file in this folder that is not hidden."""
        if os.path.isabs(link):
            return False
        target = os.path.normpath(os.path.join(os.path.dirname(place), link))
        return not target.startswith("..") and not self._is_hidden(self._path(target))

    def fingerprint(self) -> str:
        """Return a text that changes when a file is added, changed or taken away."""
        digest = hashlib.blake2b(digest_size=16)
        for file in self._files.values():
            digest.update(repr(file).encode())
        return f"{len(self._files)}-{digest.hexdigest()}"

    def _members(self) -> Iterator[Member]:
        for number, (path, file) in enumerate(self._files.items()):
            self.progress = (number + 1) / len(self._files)
            link = None if file.link is None else target_of(path, file.link)
            yield Member(
                path, file.size, link=link, problem=file.problem, is_file=file.is_file, handle=file
            )

    def _head(self, member: Member) -> bytes:
        return self._bytes(member.handle, HEAD_BYTES)

    def read(self, chip: Chip) -> bytes:
        """Read the file of a chip, as Source.read does.

        Raises BrokenArchive if it was changed or taken away since the folder was listed.
        """
        return self._bytes(self._files[chip.name], chip.size)

    def _bytes(self, file: _File, most: int) -> bytes:
        """Read the first bytes of a file, unless it is another one than was listed."""
        try:
            opened = PinnedFile(self.path / file.place)
        except FileNotFoundError as error:
            raise BrokenArchive(f"{file.place} was taken away: run the task again.") from error
        if opened.state != (file.size, file.changed):
            raise BrokenArchive(f"{file.place} was changed while it was read: run the task again.")
        return opened.read(0, min(file.size, most))


def _identity(folder: str) -> tuple[int, int]:
    """Return what tells a folder from all others."""
    found = os.stat(folder)
    return found.st_dev, found.st_ino
