"""A tar of chips: its members, and the bytes of each.

It is plain or compressed with gzip, bzip2 or xz (told by its first bytes, not by its name). A plain
one is listed ahead of the use of its chips, a compressed one is read as a stream; nothing is
unpacked to disk. The headers of regular files as nearly all programs write them are read at a
glance, for tarfile takes its time and an archive may have millions; any other one is left to it.
"""

import bz2
import errno
import gzip
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from chip_classifier import MAX_CHIP_BYTES
from chip_classifier.errors import BrokenArchive, UndecodableChip
from chip_classifier.image_header import HEAD_BYTES, kind_of
from chip_classifier.sources.source import (
    CHIP_SUFFIXES,
    Chip,
    Member,
    Source,
    plain_path,
    target_of,
)
from keras_files.pinned_file import PinnedFile

# The headers in front of a member, long names and pax records, are read into memory; real ones have
# a few hundred bytes, those with the attributes of a file system some thousands.
MAX_METADATA_BYTES = 2**23

# Global pax records are kept for all members behind them; git archive writes one.
MAX_GLOBAL_RECORDS = 100
MAX_GLOBAL_BYTES = 2**16

_METADATA_TYPES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)

GNU_DIRECTORY = b"D"  # of `tar --listed-incremental`: with a list of its files

# How much is read behind the end of a compressed archive, to compare its checksum: the padding of
# any real one, but no bomb.
MAX_PADDING_BYTES = 2**30
# What is given in place of a tar: kinds that are not read.
_OTHER_ARCHIVES = {
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"PK\3\4": "a zip",
    b"Rar!": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"\x04\x22\x4d\x18": "an LZ4 archive",
    b"\x1f\x9d": "an archive of compress (.Z)",
}
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

BLOCK = 512  # bytes of a header, and what the data behind it is padded to

# Behind the name, by the fields of POSIX.1-1988's ustar and of GNU tar: mode, uid, gid, size, time,
# checksum, "0" for a regular file, no link, the magic of either, two names, two numbers of a
# device, and the beginning of a long name, which GNU tar has elsewhere.
_BEHIND_NAME = re.compile(
    rb"(?:[0-7]{7}\0){3}([0-7]{11})\0[0-7]{11}\0([0-7]{6})\0 0\0{100}"
    rb"(?:ustar\x0000.{64}(?:\0{8}|[0-7]{7}\0){2}(.{155})|ustar  \0.{64}\0{16}\0{155})\0{12}",
    re.DOTALL,
)
_NAME, _CHECKSUM = slice(0, 100), slice(148, 156)


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


class Tar(Source):
    """A tar of chips on disk, to be read front to back."""

    def __init__(self, path: Path) -> None:
        """Look at the archive's first bytes. Raises OSError if it cannot be read."""
        super().__init__(path, PinnedFile(path))
        head = self.file.read(0, 6)
        self._decompress = next(
            (opener for magic, opener in _DECOMPRESSORS.items() if head.startswith(magic)), None
        )
        self.is_compressed = self._decompress is not None
        self._last: str | None = None  # the member that was read last

    def chips(self) -> Iterator[Chip]:
        """Yield the chips, as Source.chips does.

        Raises BrokenArchive where the archive is damaged, cut off or no tar at all.
        """
        self._last = None
        try:
            yield from super().chips()
        except _DAMAGE as error:
            if self._last is None:
                raise BrokenArchive(
                    f"{self.path.name} is {self._foreign()} that can be read ({error}): make it "
                    "with 'tar -cvf chips.tar chips'."
                ) from error
            raise BrokenArchive(
                f"{self.path.name} is cut off or damaged after the member '{self._last[:200]}' "
                f"({error}): make or upload the archive again."
            ) from error

    def _foreign(self) -> str:
        """Say what a file is that begins as no tar does."""
        head = self.file.read(0, HEAD_BYTES)
        others = (what for start, what in _OTHER_ARCHIVES.items() if head.startswith(start))
        what = next(others, None) or ((kind := kind_of(head)) and f"a {kind} image")
        return f"{what}, not a tar archive of chips" if what else "not a tar archive of chips"

    def _members(self) -> Iterator[Member | Chip]:
        """Yield the members; raises one of _DAMAGE where the archive is damaged."""
        with self.file.stream() as file:
            stream = self._decompress(file) if self._decompress else file
            mode = "r|" if self._decompress else "r:"
            with tarfile.open(fileobj=stream, mode=mode, tarinfo=_Header) as tar:
                while (info := _next_member(tar)) is not None:
                    if tar.offset <= info.offset:
                        raise tarfile.ReadError("a member of negative size")
                    self._last = plain_path(info.name)
                    self.progress = file.tell() / max(self.size, 1)
                    if not info.isdir() and info.type != GNU_DIRECTORY:
                        yield self._member(tar, info)
                    while (chip := self._usual_chip(tar)) is not None:
                        self._last = chip.name
                        self.progress = tar.offset / self.size
                        yield chip
                if not isinstance(tar.ended_by, tarfile.EOFHeaderError):
                    raise tarfile.ReadError("no end-of-archive marker")
                self.left_behind = self._drain(stream)

    def _member(self, tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
        """Make a Member of what tarfile says of one."""
        link = None
        if info.issym():
            link = target_of(self._last, info.linkname)
        elif info.islnk():  # the path of a member
            link = target_of("", info.linkname)
        return Member(
            self._last,
            info.size,
            info.offset if info.issparse() else info.offset_data,
            info.issparse(),
            link,
            is_file=info.isreg() or link is not None,
            handle=(tar, info),
        )

    def _usual_chip(self, tar: tarfile.TarFile) -> Chip | None:
        """Step over the next member if it is a chip as nearly all are; None for tarfile's turn."""
        if self.is_compressed or tar.pax_headers:  # global ones change what a header says
            return None
        header = read_usual_header(self.file.read(tar.offset, BLOCK))
        if header is None:
            return None
        path, (_, size), data = plain_path(header[0]), header, tar.offset + BLOCK
        if not path.lower().endswith(CHIP_SUFFIXES) or self._is_hidden(path):
            return None
        if size > MAX_CHIP_BYTES or data + size > self.size:
            return None
        tar.offset = data + -(-size // BLOCK) * BLOCK
        return Chip(path, offset=data, size=size)

    def _head(self, member: Member) -> bytes:
        """Return the first bytes of a file that has just been listed."""
        tar, info = member.handle
        if self.is_compressed or member.is_sparse:
            return tar.extractfile(info).read(HEAD_BYTES) if member.size > 0 else b""
        return self.file.read(member.offset, min(max(member.size, 0), HEAD_BYTES))

    def _data(self, member: Member) -> bytes | None:
        """Return the bytes of a file in a stream; for others see that all of them are there."""
        tar, info = member.handle
        if self.is_compressed:
            return tar.extractfile(info).read()
        if not member.is_sparse and member.offset + member.size > self.size:
            raise tarfile.ReadError("unexpected end of data")
        return None

    def read(self, chip: Chip) -> bytes:
        """Read the file of a chip, as Source.read does; only a sparse one may be damaged."""
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


def read_usual_header(block: bytes) -> tuple[str, int] | None:
    """Read a header that is as usual, in ASCII; None for any other one, and for no header at all.

    Args:
        block: BLOCK bytes.
    Returns:
        The name and the size of the file, as tarfile reads them.
    """
    if not block.isascii() or not (found := _BEHIND_NAME.fullmatch(block, 100)):
        return None
    size, checksum, prefix = found.groups()
    # 1 more than the sum of the bytes, below its modulus of 65521 since these are at most 127. The
    # checksum itself counts as eight spaces.
    total = (zlib.adler32(block) & 0xFFFF) - 1 - sum(block[_CHECKSUM]) + 8 * ord(" ")
    if total != int(checksum, 8):
        return None
    name = block[_NAME].partition(b"\0")[0]
    if prefix and (beginning := prefix.partition(b"\0")[0]):
        name = beginning + b"/" + name
    return name.decode("ascii"), int(size, 8)
