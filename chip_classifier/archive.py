"""A tar archive of chips: its members, and the bytes of each.

An archive is a tar, plain or compressed with gzip, bzip2 or xz (told by its first bytes, not by its
name). A plain one is listed ahead of the use of its chips, a compressed one is read as a stream;
nothing is unpacked to disk. A chip is a member whose name ends as CHIP_SUFFIXES say. A picture by
another name is listed too, as one that is not to be read, so that it does not vanish without a
word. Chips are numbered from 0 in the order of the archive; that number is what the rest of the
task knows a chip by.
"""

import bz2
import errno
import gzip
import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from chip_classifier import MAX_CHIP_PIXELS
from chip_classifier.errors import BrokenArchive, UndecodableChip
from chip_classifier.kinds import HEAD_BYTES, kind_of
from chip_classifier.tar_header import BLOCK, read_usual_header
from keras_files.pinned_file import PinnedFile

# The most that MAX_CHIP_PIXELS of four 16-bit bands can need.
MAX_CHIP_BYTES = MAX_CHIP_PIXELS * 8

# The headers in front of a member, long names and pax records, are read into memory; real ones have
# a few hundred bytes, those with the attributes of a file system some thousands.
MAX_METADATA_BYTES = 2**23

# Global pax records are kept for all members behind them; git archive writes one.
MAX_GLOBAL_RECORDS = 100
MAX_GLOBAL_BYTES = 2**16

# Names are kept until the results are written: of one chip, several times the longest path of
# Linux; of all, those of millions of chips.
MAX_NAME_LENGTH = 2**16
MAX_NAMES_LENGTH = 2**30

_METADATA_TYPES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)

GNU_DIRECTORY = b"D"  # of `tar --listed-incremental`: with a list of its files

CHIP_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif"),
    *(".tif", ".tiff"),
    *(".png", ".webp", ".bmp", ".jp2"),
)

# Why a picture whose name does not end as a chip's is not classified.
BY_ANOTHER_NAME = f"the file is a picture, but its name ends in none of {', '.join(CHIP_SUFFIXES)}"

# How much is read behind the end of a compressed archive, to compare its checksum: the padding of
# any real one, but no bomb.
MAX_PADDING_BYTES = 2**30
_DECOMPRESSORS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}

# What tarfile and the decompressors raise on damaged data. IndexError comes from an archive that
# ends inside the map of a sparse file, RecursionError from headers that announce endless further
# headers.
_DAMAGE = (
    tarfile.TarError,
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    ValueError,
    OverflowError,
    IndexError,
    RecursionError,
)


# Bytes up to which chips that follow each other are read at once: to wait for Python's lock after
# each reading takes longer than the reading.
MAX_READ_BYTES = 2**20


class Chip(NamedTuple):
    """One chip of an archive.

    name: its path in the archive, without "./" and a leading "/".
    problem: why its file is not to be read, or None.
    link: for a link in the archive, the path of the member that it points to, else None.
    size: how many bytes the file has.
    data, offset, is_sparse: for Archive.read: the bytes of the file, where the archive is
        compressed; else where they begin (for a sparse file: its header).
    """

    name: str
    problem: str | None = None
    link: str | None = None
    data: bytes | None = None
    offset: int = 0
    size: int = 0
    is_sparse: bool = False


class _Header(tarfile.TarInfo):
    """A tar header that notes on its archive what ended the reading.

    tarfile takes a damaged header behind the first member for the end of the archive; the chips
    behind it would be lost without a word.
    """

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        """Parse a header; see _mend."""
        return cls._mend(super().frombuf(buf, encoding, errors), buf, encoding, errors)

    @classmethod
    def _frombuf(cls, buf: bytes, encoding: str, errors: str, **options: bool) -> tarfile.TarInfo:
        """Parse a header, as later releases of Python do by themselves; see _mend."""
        return cls._mend(super()._frombuf(buf, encoding, errors, **options), buf, encoding, errors)

    @staticmethod
    def _mend(header: tarfile.TarInfo, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        """Read GNU tar's old headers by their own rules.

        Where ustar has a prefix of the name, old GNU headers have times and offsets, as of `tar
        --listed-incremental` (GNU tar's manual, "Basic Tar Format").
        """
        if buf[257:265] == tarfile.GNU_MAGIC and header.type not in tarfile.GNU_TYPES:
            header.name = tarfile.nts(buf[0:100], encoding, errors)
        return header

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """Read the next header, as tarfile does."""
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            tar.ended_by = error
            raise

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """Go on with the header by its type; refuse metadata beyond reason before it is read."""
        if self.type in _METADATA_TYPES:
            # The first member is read before there is a place to set it to 0.
            tar.metadata_bytes = getattr(tar, "metadata_bytes", 0) + self.size
            most = MAX_GLOBAL_BYTES if self.type == tarfile.XGLTYPE else MAX_METADATA_BYTES
            if self.size > most or tar.metadata_bytes > MAX_METADATA_BYTES:
                raise tarfile.HeaderError(f"{self.size:,} bytes of metadata for one member")
        return super()._proc_member(tar)


class Archive:
    """A tar of chips on disk, to be read front to back.

    file: the open file, and size: its bytes.
    passed_over: after a reading, the members that are no chips: reason -> number.
    first_passed_over: the path of the first of these that is no hidden file, or None.
    left_behind: after a reading, whether data follows the end of the archive.
    progress: the share of the file, 0 to 1, that the current reading has come to.
    """

    def __init__(self, path: Path) -> None:
        """Look at the archive's first bytes. Raises OSError if it cannot be read."""
        self.path = path
        self.file = PinnedFile(path)
        self.size = self.file.size
        head = self.file.read(0, 6)
        self._decompress = next(
            (opener for magic, opener in _DECOMPRESSORS.items() if head.startswith(magic)), None
        )
        self.passed_over: dict[str, int] = {}
        self.first_passed_over: str | None = None
        self.left_behind = False
        self.progress = 0.0

    @property
    def is_compressed(self) -> bool:
        """Whether it is a stream: a chip can be read only where the reading has come to it."""
        return self._decompress is not None

    def fingerprint(self) -> str:
        """Return a text that changes when the archive does."""
        return self.file.fingerprint()

    def require_unchanged(self) -> None:
        """Raise BrokenArchive if the file has been written to since the archive was opened.

        Where its chips were found, there may be others by now.
        """
        if not self.file.is_unchanged():
            raise BrokenArchive(
                f"{self.path.name} was changed while it was read: run the task again."
            )

    def chips(self) -> Iterator[Chip]:
        """Yield the chips in the order of the archive.

        Raises BrokenArchive where the archive is damaged, cut off or no tar at all: what was
        yielded before is sound.
        """
        self.passed_over, self.first_passed_over = {"hidden files": 0, "other files": 0}, None
        last, names_length = None, 0
        try:
            with self.file.stream() as file:
                stream = self._decompress(file) if self._decompress else file
                mode = "r|" if self._decompress else "r:"
                with tarfile.open(fileobj=stream, mode=mode, tarinfo=_Header) as tar:
                    while (member := _next_member(tar)) is not None:
                        if tar.offset <= member.offset:
                            raise tarfile.ReadError("a member of negative size")
                        last = member_path(member.name)
                        chip = self._chip(tar, member)
                        self.progress = file.tell() / max(self.size, 1)
                        if chip is not None:
                            names_length += len(chip.name) + len(chip.link or "")
                            self._check_names(chip, names_length)
                            yield chip
                        while (chip := self._usual_chip(tar)) is not None:
                            last = chip.name
                            self.progress = tar.offset / self.size
                            names_length += len(chip.name)
                            self._check_names(chip, names_length)
                            yield chip
                    if not isinstance(tar.ended_by, tarfile.EOFHeaderError):
                        raise tarfile.ReadError("no end-of-archive marker")
                    self.left_behind = self._drain(stream)
        except _DAMAGE as error:
            if last is None:
                raise BrokenArchive(
                    f"{self.path.name} is not a tar archive of chips that can be read ({error}): "
                    "make it with 'tar -cvf chips.tar chips'."
                ) from error
            raise BrokenArchive(
                f"{self.path.name} is cut off or damaged after the member '{last[:200]}' "
                f"({error}): make or upload the archive again."
            ) from error

    def _check_names(self, chip: Chip, names_length: int) -> None:
        """Raise BrokenArchive if the names of the chips so far take too much memory."""
        if len(chip.name) + len(chip.link or "") > MAX_NAME_LENGTH:
            raise BrokenArchive(
                f"{self.path.name} has a chip with a name of {len(chip.name):,} letters, "
                f"'{chip.name[:100]}...': give it a shorter one."
            )
        if names_length > MAX_NAMES_LENGTH:
            raise BrokenArchive(
                f"{self.path.name} has chips with names of more than {MAX_NAMES_LENGTH:,} letters "
                "in all: make several archives of it."
            )

    def _usual_chip(self, tar: tarfile.TarFile) -> Chip | None:
        """Step over the next member if it is a chip as nearly all are; None for tarfile's turn."""
        if self.is_compressed or tar.pax_headers:  # global ones change what a header says
            return None
        header = read_usual_header(self.file.read(tar.offset, BLOCK))
        if header is None:
            return None
        path, (_, size), data = member_path(header[0]), header, tar.offset + BLOCK
        if not is_chip_name(path) or size > MAX_CHIP_BYTES or data + size > self.size:
            return None
        tar.offset = data + -(-size // BLOCK) * BLOCK
        return Chip(path, offset=data, size=size)

    def _chip(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> Chip | None:
        """Make a Chip of a member; None, and a count in passed_over, if it is none."""
        if member.isdir() or member.type == GNU_DIRECTORY:
            return None
        path = member_path(member.name)
        if posixpath.basename(path).startswith("."):
            self.passed_over["hidden files"] += 1
            return None
        is_link = member.issym() or member.islnk()
        is_chip = is_chip_name(path)
        kind = None if is_chip or not member.isreg() else kind_of(self._head(tar, member))
        if kind:
            return Chip(path, problem=f"{BY_ANOTHER_NAME} ({kind}): rename it")
        if not is_chip or not (member.isreg() or is_link):
            self.passed_over["other files"] += 1
            self.first_passed_over = self.first_passed_over or path
            return None
        if is_link:
            # The target of a hard link is a path in the archive, that of a symbolic link is
            # relative to the link's own directory.
            base = posixpath.dirname(path) if member.issym() else ""
            return Chip(
                path, link=member_path(posixpath.normpath(posixpath.join(base, member.linkname)))
            )
        if member.size < 0:
            return Chip(path, problem="the file's size is negative")
        if member.size > MAX_CHIP_BYTES:
            return Chip(
                path, problem=f"the file has {member.size:,} bytes, the limit is {MAX_CHIP_BYTES:,}"
            )
        if self.is_compressed:
            return Chip(path, data=tar.extractfile(member).read(), size=member.size)
        if member.issparse():
            return Chip(path, offset=member.offset, size=member.size, is_sparse=True)
        if member.offset_data + member.size > self.size:
            raise tarfile.ReadError("unexpected end of data")
        return Chip(path, offset=member.offset_data, size=member.size)

    def _head(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
        """Read the first bytes of a file that has just been listed."""
        if self.is_compressed or member.issparse():
            return tar.extractfile(member).read(HEAD_BYTES) if member.size > 0 else b""
        size = min(max(member.size, 0), HEAD_BYTES)
        return self.file.read(member.offset_data, size)

    def read(self, chip: Chip) -> bytes:
        """Read the file of a chip that has one; several threads may do so at a time.

        Raises:
            UndecodableChip: it is a sparse file, and damaged.
            BrokenArchive: the archive has become shorter.
            OSError: the archive cannot be read.
        """
        if chip.data is not None:
            return chip.data
        if chip.is_sparse:
            return self._read_sparse(chip)
        data = self.file.read(chip.offset, chip.size)
        if len(data) < chip.size:
            raise BrokenArchive(
                f"{self.path.name} was cut off while it was read: make or upload it again."
            )
        return data

    def reader(self, chips: list[Chip]) -> Callable[[Chip], bytes]:
        """Return what reads these chips, which follow each other in the archive, as `read` does.

        Where they are small and close to each other they are read at once, here.
        """
        first = chips[0].offset
        # Not that of the last one: files of a strange archive may lie in each other.
        span = max(chip.offset + chip.size for chip in chips) - first
        if span > MAX_READ_BYTES or any(chip.is_sparse or chip.data is not None for chip in chips):
            return self.read
        block = self.read(Chip("", offset=first, size=span))

        def cut(chip: Chip) -> bytes:
            start = chip.offset - first
            return block[start : start + chip.size]

        return cut

    def _read_sparse(self, chip: Chip) -> bytes:
        """Read a sparse file, holes included, by its header."""
        with self.file.stream() as file:
            file.seek(chip.offset)
            try:
                with tarfile.open(fileobj=file, mode="r:", tarinfo=_Header) as tar:
                    member = _next_member(tar)
                    # A global header, which is not read again, may have described it otherwise.
                    if member is None or not member.issparse() or member.size != chip.size:
                        raise tarfile.ReadError("described in two ways")
                    return tar.extractfile(member).read()
            except _DAMAGE as error:
                is_bad_place = isinstance(error, OSError) and error.errno == errno.EINVAL
                if isinstance(error, OSError) and not is_bad_place:
                    raise
                raise UndecodableChip(f"the sparse file is damaged ({error})") from error

    def _drain(self, stream: BinaryIO) -> bool:
        """Read what follows the end marker; True if it is more than padding.

        Reading on also makes a decompressor compare its checksum.
        """
        only_padding, read = True, 0
        while (block := stream.read(2**20)) and read < MAX_PADDING_BYTES:
            read += len(block)
            only_padding = only_padding and not any(block)
            if not only_padding and not self.is_compressed:
                break
        return not only_padding


def _next_member(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    """Read the next header, of which tarfile keeps none then.

    Raises tarfile.TarError if it is damaged.
    """
    tar.metadata_bytes = 0
    member = tar.next()
    tar.members.clear()
    if len(tar.pax_headers) > MAX_GLOBAL_RECORDS:
        raise tarfile.ReadError(f"more than {MAX_GLOBAL_RECORDS} global records")
    return member


def is_chip_name(path: str) -> bool:
    """Return whether a member's path is that of a chip, and of no hidden file."""
    name = path.rpartition("/")[2]
    return name.lower().endswith(CHIP_SUFFIXES) and not name.startswith(".")


def member_path(name: str) -> str:
    """Return a member's name as a plain relative path: "./chips//a.jpg" -> "chips/a.jpg".

    Bytes that are no UTF-8, which tarfile hands over as lone surrogates, are written as \\xNN, so
    that the name can stand in JSON and in a log.
    """
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "/".join(part for part in text.split("/") if part not in ("", "."))
