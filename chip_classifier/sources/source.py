"""What a tar, a zip and a folder of chips have in common.

What a chip is, what is passed over and what is said of it stand here, once: the same files give the
same chips under the same names, however they come. A chip is a file whose name ends as
CHIP_SUFFIXES say. A picture by another name is listed too, as one that is not to be read, so that
it does not vanish without a word. Hidden files, and all that lies in hidden folders, are passed
over. Chips are numbered from 0 in the order of their source; that number is what the rest of the
task knows a chip by.
"""

import posixpath
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from chip_classifier import MAX_CHIP_BYTES
from chip_classifier.errors import BrokenArchive
from chip_classifier.image_header import kind_of
from keras_files.pinned_file import PinnedFile

# Names are kept until the results are written: of one chip, several times the longest path of
# Linux; of all, those of millions of chips.
MAX_NAME_LENGTH = 2**16
MAX_NAMES_LENGTH = 2**30

CHIP_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif"),
    *(".tif", ".tiff"),
    *(".png", ".webp", ".bmp", ".jp2"),
)

# Why a picture whose name does not end as a chip's is not classified.
BY_ANOTHER_NAME = f"the file is a picture, but its name ends in none of {', '.join(CHIP_SUFFIXES)}"

# What GDAL puts beside a tif: its overviews and its mask, which are tif files, but no chips.
_SIDECARS = (".ovr", ".msk")

# What macOS puts beside the files of a zip: their attributes.
_ATTRIBUTES = "__MACOSX"

# A backslash that would be taken for the beginning of a byte as plain_path writes it.
_AMBIGUOUS_BACKSLASH = re.compile(r"\\(?=x(?:5c|[89a-f][0-9a-f]))")


class Chip(NamedTuple):
    """One chip of a source.

    name: its plain path in the source.
    problem: why its file is not to be read, or None.
    link: for a link, the path of the chip that it points to, else None.
    size: how many bytes the file has.
    data, offset, is_sparse: for Source.read: the bytes of the file, where they can be read only
        once; else where they, or the header in front of them, begin in the archive.
    """

    name: str
    problem: str | None = None
    link: str | None = None
    data: bytes | None = None
    offset: int = 0
    size: int = 0
    is_sparse: bool = False


class Member(NamedTuple):
    """A file of a source, as its format tells of it, before it is known whether it is a chip.

    path: its plain path; size, offset, is_sparse: as of Chip.
    link: for a link, the plain path that it points to.
    problem: why it cannot be read, or None.
    is_file: whether it is a regular file, and not a device or FIFO.
    handle: what the source itself needs to read it.
    """

    path: str
    size: int = 0
    offset: int = 0
    is_sparse: bool = False
    link: str | None = None
    problem: str | None = None
    is_file: bool = True
    handle: Any = None


class Source(ABC):
    """The chips of a tar, a zip or a folder.

    path: where it lies.
    file: the open file of an archive, None for a folder; size: bytes of the archive, or of all
        files of the folder.
    is_compressed: whether it is a stream: a chip can be read only where the reading has come to it.
    passed_over: after a reading, the files that are no chips: reason -> number.
    first_passed_over: the path of the first of these that is not hidden, or None.
    left_behind: after a reading, whether there is data behind a tar's end, or in front of a zip.
    progress: the share of the source, 0 to 1, that the current reading has come to.
    """

    is_compressed = False

    def __init__(self, path: Path, file: PinnedFile | None) -> None:
        self.path = path
        self.file = file
        self.size = file.size if file else 0
        self.passed_over: dict[str, int] = {}
        self.first_passed_over: str | None = None
        self.left_behind = False
        self.progress = 0.0
        self._shown_top = ""  # a folder at the top that is not hidden, whatever its name
        self._hidden_tops: set[str] = set()

    @abstractmethod
    def _members(self) -> Iterator[Member | Chip]:
        """Yield the files in their order, folders not among them; sets progress.

        What is known to be a chip may come as one.
        """

    @abstractmethod
    def _head(self, member: Member) -> bytes:
        """Return the first bytes of a regular file; b"" where it is damaged."""

    def _data(self, _member: Member) -> bytes | None:
        """Return the bytes of a file that can be read only now; None for others."""
        return None

    @abstractmethod
    def read(self, chip: Chip) -> bytes:
        """Read the file of a chip that has one; several threads may do so at a time.

        Raises:
            UndecodableChip: the file is damaged within a sound source.
            BrokenArchive: the source is not what it was when it was listed.
            OSError: the source cannot be read.
        """

    def reader(self, _chips: list[Chip]) -> Callable[[Chip], bytes]:
        """Return what reads these chips, which follow each other, as `read` does."""
        return self.read

    def fingerprint(self) -> str:
        """Return a text that changes when the source does."""
        return self.file.fingerprint()

    def require_unchanged(self) -> None:
        """Raise BrokenArchive if the archive has been written to since it was opened.

        Where its chips were found, there may be others by now. The files of a folder are compared
        one by one, when they are read.
        """
        if self.file and not self.file.is_unchanged():
            raise BrokenArchive(
                f"{self.path.name} was changed while it was read: run the task again."
            )

    def chips(self) -> Iterator[Chip]:
        """Yield the chips in the order of the source.

        Raises BrokenArchive where the source is damaged: what was yielded before is sound.
        """
        names_length = 0
        while True:
            self.passed_over, self.first_passed_over = {"hidden files": 0, "other files": 0}, None
            for member in self._members():
                chip = member if type(member) is Chip else self._chip(member)
                if chip is None:
                    continue
                length = len(chip.name) + len(chip.link or "")
                names_length += length
                if length > MAX_NAME_LENGTH or names_length > MAX_NAMES_LENGTH:
                    self._refuse_names(chip, length)
                yield chip
            if names_length or len(self._hidden_tops) != 1:
                return
            # All chips lie in one folder whose name begins with a dot: the user's own.
            self._shown_top = self._hidden_tops.pop()
            if not self._shown_top:
                return

    def _refuse_names(self, chip: Chip, length: int) -> None:
        """Raise BrokenArchive: a name is too long, or all of them together are."""
        if length > MAX_NAME_LENGTH:
            raise BrokenArchive(
                f"{self.path.name} has a chip with a name of {len(chip.name):,} letters, "
                f"'{chip.name[:100]}...': give it a shorter one."
            )
        raise BrokenArchive(
            f"{self.path.name} has chips with names of more than {MAX_NAMES_LENGTH:,} letters "
            "in all: make several archives of it."
        )

    def _chip(self, member: Member) -> Chip | None:
        """Make a Chip of a file; None, and a count in passed_over, if it is none."""
        path, size = member.path, member.size
        is_named = path.lower().endswith(CHIP_SUFFIXES)
        if self._is_hidden(path):
            self.passed_over["hidden files"] += 1
            if is_named and not self._shown_top and len(self._hidden_tops) < 2:
                self._hidden_tops.add(path[: path.find("/") + 1])
            return None
        is_readable = member.is_file and member.link is None and member.problem is None
        is_sidecar = path.lower().endswith(_SIDECARS)
        if not (is_named or is_sidecar) and is_readable and (kind := kind_of(self._head(member))):
            return Chip(path, problem=f"{BY_ANOTHER_NAME} ({kind}): rename it")
        if not is_named or not member.is_file:
            self.passed_over["other files"] += 1
            self.first_passed_over = self.first_passed_over or path
            return None
        if member.link is not None:
            return Chip(path, link=member.link)
        problem = member.problem or _why_unread(size)
        if problem:
            return Chip(path, problem=problem)
        return Chip(path, None, None, self._data(member), member.offset, size, member.is_sparse)

    def _is_hidden(self, path: str) -> bool:
        """Return whether a file, or a folder that it lies in, is hidden."""
        if "/." not in path and path[:1] != "." and _ATTRIBUTES not in path:
            return False
        *folders, name = path.removeprefix(self._shown_top).split("/")
        parts = [name, *folders]
        return _ATTRIBUTES in folders or any(p.startswith(".") and p != ".." for p in parts)


def _why_unread(size: int) -> str | None:
    """Say why a file of so many bytes is not read; None if it is."""
    if size < 0:
        return "the file's size is negative"
    if size > MAX_CHIP_BYTES:
        return f"the file has {size:,} bytes, the limit is {MAX_CHIP_BYTES:,}"
    return None


def plain_path(name: str) -> str:
    """Return a file's name as a plain relative path: "./chips//a.jpg" -> "chips/a.jpg".

    Bytes that are no UTF-8, which Python hands over as lone surrogates, are written as \\xNN, so
    that the name can stand in JSON and in a log; a backslash of the name itself that looks like the
    beginning of these, as \\x5c.
    """
    if "\\x" in name:
        name = _AMBIGUOUS_BACKSLASH.sub(r"\\x5c", name)
    if not name.isascii():
        name = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def target_of(path: str, link: str) -> str:
    """Return the plain path that a symbolic link points to.

    Args:
        path: plain path of the link.
        link: what is written in it, relative to the folder in which it lies.
    """
    return plain_path(posixpath.normpath(posixpath.join(posixpath.dirname(path), link)))
