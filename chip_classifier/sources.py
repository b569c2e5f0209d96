"""A folder of chips, or a zip of them, in place of a tar: the same chips under the same names."""

import hashlib
import os
import posixpath
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from chip_classifier.archive import (
    BY_ANOTHER_NAME,
    CHIP_SUFFIXES,
    MAX_CHIP_BYTES,
    Archive,
    Chip,
    member_path,
)
from chip_classifier.errors import BrokenArchive, TaskError, UndecodableChip
from chip_classifier.kinds import HEAD_BYTES, kind_of
from chip_classifier.layout import is_reference
from keras_files.pinned_file import PinnedFile

# What zipfile raises on damaged or encrypted members, and on those of other compressions.
_ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
MAX_ZIP_MEMBERS = 2**24  # zipfile keeps some hundred bytes of each


def open_chips(path: Path) -> "Archive | Folder | Zip":
    """Open a folder of chips, a zip (told by its content) or a tar.

    Raises TaskError if there is nothing at the path that can be read.
    """
    try:
        if path.is_dir():
            return Folder(path)
        with path.open("rb") as file:
            begins_as_zip = file.read(2) == b"PK"  # what follows a tar's end may look like a zip's
        return Zip(path) if begins_as_zip and zipfile.is_zipfile(path) else Archive(path)
    except OSError as error:
        raise TaskError(
            f"The chips in {path} cannot be read ({error.strerror or error}): give a tar, a zip or "
            "a folder of chips."
        ) from error


class _Source:
    """What a folder and a zip have in common with Archive, whose attributes these are."""

    is_compressed = False  # each chip can be read at any time
    left_behind = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.progress = 0.0
        self.passed_over: dict[str, int] = {}
        self.first_passed_over: str | None = None

    def reader(self, chips: list[Chip]) -> Callable[[Chip], bytes]:
        """Return what reads chips: each by itself."""
        return self.read

    def _begin(self) -> None:
        self.passed_over, self.first_passed_over = {"hidden files": 0, "other files": 0}, None

    def _chip(self, path: str, size: int, place: int, head: bytes) -> Chip | None:
        """Make a Chip of a file; None, and a count in passed_over, if it is none.

        Args:
            path: in the folder or zip.
            size: bytes of the file.
            place: for `read`: which one it is.
            head: its first bytes, b"" where its name says enough.
        """
        if posixpath.basename(path).startswith("."):
            self.passed_over["hidden files"] += 1
            return None
        if not path.lower().endswith(CHIP_SUFFIXES):
            if kind := kind_of(head):
                return Chip(path, problem=f"{BY_ANOTHER_NAME} ({kind}): rename it")
            self.passed_over["other files"] += 1
            self.first_passed_over = self.first_passed_over or path
            return None
        if size > MAX_CHIP_BYTES:
            return Chip(
                path, problem=f"the file has {size:,} bytes, the limit is {MAX_CHIP_BYTES:,}"
            )
        return Chip(path, offset=place, size=size)


class Folder(_Source):
    """The chips in a folder and in the folders in it, in the order of their paths.

    Hidden folders are passed over, links to folders are not followed. A chip's path begins with the
    folder's own name, as in a tar that was made of it. A GeoJSON file beside the chips is none of
    the files: it may be added between two runs.
    """

    def __init__(self, path: Path) -> None:
        """List the folder. Raises OSError if it, or a folder in it, cannot be read."""
        super().__init__(path)
        # Path below the folder, size and time of change, -1 and 0 for a link that leads nowhere.
        self._files: list[tuple[str, int, int]] = []
        for folder, folders, names in os.walk(path, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            if folder == str(path):
                names = [name for name in names if not is_reference(name)]
            self._files += [
                (os.path.relpath(place, path), size, changed)
                for name in names
                for place, size, changed in _plain_file(os.path.join(folder, name))
            ]
        self._files.sort()
        self.size = sum(max(size, 0) for _, size, _ in self._files)

    def fingerprint(self) -> str:
        """Return a text that changes when a file is added, changed or taken away."""
        digest = hashlib.blake2b(digest_size=16)
        for name, size, changed in self._files:
            digest.update(os.fsencode(name) + f"\0{size}\0{changed}\0".encode())
        return f"{len(self._files)}-{digest.hexdigest()}"

    def require_unchanged(self) -> None:
        """Each file is compared when it is read."""

    def chips(self) -> Iterator[Chip]:
        """Yield the chips in the order of their paths."""
        self._begin()
        top = member_path(os.path.basename(os.path.abspath(self.path)))
        for place, (name, size, _) in enumerate(self._files):
            path = f"{top}/{member_path(name)}"
            self.progress = (place + 1) / len(self._files)
            if size < 0:
                yield Chip(path, problem="the file is a link whose target is missing")
                continue
            is_named = path.lower().endswith(CHIP_SUFFIXES)
            chip = self._chip(path, size, place, b"" if is_named else self._bytes(place, True))
            if chip is not None:
                yield chip

    def read(self, chip: Chip) -> bytes:
        """Read the file of a chip; several threads may do so at a time.

        Raises:
            BrokenArchive: the file was changed or taken away since the folder was listed.
            OSError: it cannot be read.
        """
        return self._bytes(chip.offset, False)

    def _bytes(self, place: int, only_head: bool) -> bytes:
        """Read a file, or its first bytes, unless it is another one than was listed."""
        name, size, changed = self._files[place]
        try:
            file = PinnedFile(self.path / name)
        except FileNotFoundError as error:
            raise BrokenArchive(f"{name} was taken away: run the task again.") from error
        if file.state != (size, changed):
            raise BrokenArchive(f"{name} was changed while it was read: run the task again.")
        return file.read(0, min(size, HEAD_BYTES) if only_head else size)


class Zip(_Source):
    """The chips of a zip on disk, in its order; see Archive."""

    def __init__(self, path: Path) -> None:
        """Open the zip. Raises OSError if it cannot be read, BrokenArchive if it is damaged."""
        super().__init__(path)
        self.file = PinnedFile(path)
        self.size = self.file.size
        self._zip = self._open()

    def _open(self) -> zipfile.ZipFile:
        """Open the zip with a position of its own."""
        try:
            opened = zipfile.ZipFile(self.file.stream())
        except _ZIP_DAMAGE as error:
            raise BrokenArchive(
                f"{self.path.name} is a zip that is damaged ({error}): make or upload it again."
            ) from error
        if len(opened.infolist()) > MAX_ZIP_MEMBERS:
            raise BrokenArchive(
                f"{self.path.name} has more than {MAX_ZIP_MEMBERS:,} members: make a tar of it."
            )
        return opened

    def fingerprint(self) -> str:
        """Return a text that changes when the zip does."""
        return self.file.fingerprint()

    def require_unchanged(self) -> None:
        """Raise BrokenArchive if the file has been written to since it was opened."""
        if not self.file.is_unchanged():
            raise BrokenArchive(
                f"{self.path.name} was changed while it was read: run the task again."
            )

    def chips(self) -> Iterator[Chip]:
        """Yield the chips in the order of the zip."""
        self._begin()
        with self._open() as opened:  # another process may be listing, while this one reads
            members = opened.infolist()
            for place, member in enumerate(members):
                self.progress = (place + 1) / len(members)
                if member.is_dir():
                    continue
                # Some programs of Windows write backslashes, against the format's own rule.
                path = member_path(member.filename.replace("\\", "/"))
                head = b""
                if not path.lower().endswith(CHIP_SUFFIXES):
                    head = self._head(opened, member)
                chip = self._chip(path, member.file_size, place, head)
                if chip is not None:
                    yield chip

    @staticmethod
    def _head(opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
        """Read the first bytes of a member; b"" if it is damaged or encrypted."""
        try:
            with opened.open(member) as file:
                return file.read(HEAD_BYTES)
        except _ZIP_DAMAGE:
            return b""

    def read(self, chip: Chip) -> bytes:
        """Read the file of a chip; several threads may do so at a time.

        Raises:
            UndecodableChip: it is damaged, encrypted, or larger than the zip says.
            OSError: the zip cannot be read.
        """
        try:
            with self._zip.open(self._zip.infolist()[chip.offset]) as file:
                data = file.read(chip.size + 1)
        except _ZIP_DAMAGE as error:
            reason = " ".join(str(error).split())[:100]
            raise UndecodableChip(f"the file cannot be unpacked ({reason})") from error
        if len(data) > chip.size:
            raise UndecodableChip("the file is larger than the zip says")
        return data


def _raise(error: OSError) -> None:
    raise error


def _plain_file(place: str) -> Iterator[tuple[str, int, int]]:
    """Yield (path, size, time of change in ns) of a file; nothing for a device or a FIFO."""
    try:
        found = os.stat(place)
    except OSError:  # a link whose target is missing, or leads to itself
        yield place, -1, 0
        return
    if stat.S_ISREG(found.st_mode):
        yield place, found.st_size, found.st_mtime_ns
