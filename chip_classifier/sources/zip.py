"""A zip of chips, in place of a tar. Source: APPNOTE.TXT 6.3.10 of PKWARE, which describes zips.

zipfile reads the directory at the end; the members are unpacked here, since zipfile has no bound
for what a single reading of bzip2 or LZMA may become.
"""

import bz2
import errno
import lzma
import operator
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol

from chip_classifier.errors import BrokenArchive, UndecodableChip
from chip_classifier.image_header import HEAD_BYTES
from chip_classifier.sources.source import Chip, Member, Source, plain_path, target_of
from keras_files.pinned_file import PinnedFile

# With which the first member begins, or the directory of an empty zip, or a zip of one part (4.3.7,
# 4.3.16, 8.5.4). Two letters alone may begin a tar, with the name of its first folder.
_SPANNED = b"PK00"
BEGINNINGS = (b"PK\3\4", b"PK\5\6", b"PK\7\x08", _SPANNED + b"PK\3\4")

MAX_ZIP_MEMBERS = 2**24  # zipfile keeps some hundred bytes of each

# What zipfile raises where the directory is damaged.
_DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)

# A member (4.3.7): its header, which ends with the lengths of a name and of further fields, both of
# which are mostly shorter than this in all; then its packed bytes.
_HEADER = struct.Struct("<4s22xHH")
_MOST_BEHIND_HEADER = 2**9
_ENCRYPTED, _WITH_END, _UTF_8 = 0x1, 0x2, 0x800  # bits of its flags (4.4.4)
_UNIX = 3  # of the systems that a member may be written by (4.4.2.2)
_UNICODE_PATH = 0x7075  # a further field (4.6.9)

# What packs no tighter than the file itself, beyond this, holds something else.
_MOST_PACKED = 1.1
_MOST_OVERHEAD = 2**12

MAX_LINK_BYTES = 2**12  # PATH_MAX of Linux
MAX_LZMA_BYTES = 2**28  # of memory, for its dictionary


class _Unpacker(Protocol):
    """What bz2 and lzma have in common."""

    eof: bool
    needs_input: bool

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class Zip(Source):
    """The chips of a zip on disk, in its order."""

    def __init__(self, path: Path) -> None:
        """Open the zip. Raises OSError if it cannot be read, BrokenArchive if it is damaged."""
        super().__init__(path, PinnedFile(path))
        try:
            with zipfile.ZipFile(self.file.stream()) as opened:
                self._infos = opened.infolist()
            if any(info.header_offset < 0 for info in self._infos):
                raise zipfile.BadZipFile("its directory does not lie where it says")
        except _DAMAGE as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise  # it is no place outside of the file that was asked for
            raise BrokenArchive(
                f"{path.name} is a zip that is cut off or damaged ({error}): make or upload it "
                "again."
            ) from error
        if len(self._infos) > MAX_ZIP_MEMBERS:
            raise BrokenArchive(
                f"{path.name} has more than {MAX_ZIP_MEMBERS:,} members: make a tar of it."
            )

    @cached_property
    def _by_offset(self) -> dict[int, zipfile.ZipInfo]:
        """The members by the place of their headers."""
        return {info.header_offset: info for info in self._infos}

    def _members(self) -> Iterator[Member]:
        # The directory of zips that were joined lists the files of the last one.
        first = min((info.header_offset for info in self._infos), default=0)
        self.left_behind = first > len(_SPANNED)
        has_folders = any("/" in info.orig_filename for info in self._infos)
        overlapping = self._overlapping()
        for number, info in enumerate(self._infos):
            self.progress = (number + 1) / len(self._infos)
            name = _name_of(info)
            # Programs of Windows write backslashes, against the format's own rule (4.4.17).
            if info.create_system != _UNIX or not has_folders:
                name = name.replace("\\", "/")
            if name.endswith("/"):
                continue
            path, mode = plain_path(name), info.external_attr >> 16
            is_unix = info.create_system == _UNIX and stat.S_IFMT(mode) != 0
            problem = _why_unread(info, info.header_offset in overlapping)
            link = None
            if is_unix and stat.S_ISLNK(mode) and problem is None:
                try:
                    link = target_of(path, self._link(info))
                except UndecodableChip as error:
                    problem = str(error)
            yield Member(
                path,
                info.file_size,
                info.header_offset,
                link=link,
                problem=problem,
                is_file=not is_unix or stat.S_ISREG(mode) or stat.S_ISLNK(mode),
                handle=info,
            )

    def _overlapping(self) -> set[int]:
        """Return the places of the members that lie over others: unpacking all has no bound."""
        found, last, end = set(), 0, 0
        for info in sorted(self._infos, key=operator.attrgetter("header_offset")):
            start = info.header_offset
            if start < end:
                found |= {last, start}
            size = _HEADER.size + len(info.orig_filename) + info.compress_size
            if start + size > end:
                last, end = start, start + size
        return found

    def _link(self, info: zipfile.ZipInfo) -> str:
        """Return what is written in a link; raises UndecodableChip if it is damaged."""
        if info.file_size > MAX_LINK_BYTES:
            raise UndecodableChip("the link is longer than any path")
        return self._unpack(info, info.file_size + 1).decode("utf-8", "surrogateescape")

    def _head(self, member: Member) -> bytes:
        try:
            return self._unpack(member.handle, HEAD_BYTES)
        except UndecodableChip:
            return b""

    def read(self, chip: Chip) -> bytes:
        """Read the file of a chip, as Source.read does.

        Raises UndecodableChip where it is damaged, or larger than the zip says.
        """
        info = self._by_offset[chip.offset]
        data = self._unpack(info, chip.size + 1)
        if len(data) > chip.size:
            raise UndecodableChip("the file is larger than the zip says")
        if zlib.crc32(data) != info.CRC:
            raise UndecodableChip("the file cannot be unpacked (its checksum is wrong)")
        return data

    def _unpack(self, info: zipfile.ZipInfo, most: int) -> bytes:
        """Unpack a member, or its first bytes: no more memory is taken than these need."""
        try:
            packed = self._packed(info)
            if info.compress_type == zipfile.ZIP_STORED:
                return packed[:most]
            if info.compress_type == zipfile.ZIP_DEFLATED:
                inflater = zlib.decompressobj(-zlib.MAX_WBITS)
                data = inflater.decompress(packed, most)
                if len(data) < most and not inflater.eof:
                    raise EOFError("it is cut off")
                return data
            if info.compress_type == zipfile.ZIP_BZIP2:
                return _decompress(bz2.BZ2Decompressor(), packed, most)
            size = 2**64 - 1 if info.flag_bits & _WITH_END else info.file_size
            return _decompress(*_lzma_stream(packed, size), most)
        except (zlib.error, lzma.LZMAError, EOFError, ValueError, struct.error) as error:
            reason = " ".join(str(error).split())[:100]
            raise UndecodableChip(f"the file cannot be unpacked ({reason})") from error

    def _packed(self, info: zipfile.ZipInfo) -> bytes:
        """Read a member's packed bytes; raises EOFError, struct.error if they are not there."""
        start, size = info.header_offset, min(info.compress_size, self.size)
        block = self.file.read(start, _HEADER.size + _MOST_BEHIND_HEADER + size)
        beginning, name, further = _HEADER.unpack_from(block)
        if beginning != BEGINNINGS[0]:
            raise EOFError("it does not lie where the zip says")
        at = _HEADER.size + name + further
        packed = block[at : at + size]
        if len(packed) < size:
            packed = self.file.read(start + at, size)
        if len(packed) < info.compress_size:
            raise EOFError("it is cut off")
        return packed


def _name_of(info: zipfile.ZipInfo) -> str:
    """Return the name of a member, bytes that are no UTF-8 as lone surrogates.

    zipfile reads names without the flag for UTF-8 in code page 437, the format's own (appendix D).
    macOS writes UTF-8 without the flag, Unix whatever its files are called.
    """
    name = info.orig_filename.partition("\0")[0]
    if info.flag_bits & _UTF_8 or name.isascii():
        return name
    raw = name.encode("cp437")
    if (told := _unicode_path(info.extra, raw)) is not None:
        return told
    if info.create_system == _UNIX:
        return raw.decode("utf-8", "surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return name


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    """Return the name in UTF-8 that Info-ZIP writes beside one that is not; None without one.

    It holds for the name of which it has the checksum.
    """
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        field = extra[at + 4 : at + 4 + size]
        if kind == _UNICODE_PATH and field[1:5] == struct.pack("<I", zlib.crc32(raw)):
            return field[5:].decode("utf-8", "surrogateescape")
        at += 4 + size
    return None


def _why_unread(info: zipfile.ZipInfo, is_overlapping: bool) -> str | None:
    """Say why a member is not unpacked, in a sentence that says what to do; None if it is."""
    if info.flag_bits & _ENCRYPTED:
        return "the file is encrypted: make the zip without a password"
    method = info.compress_type
    if method not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
        zipfile.ZIP_BZIP2,
        zipfile.ZIP_LZMA,
    ):
        name = zipfile.compressor_names.get(method, "an unknown method")
        return (
            f"the file is packed with method {method} ({name}), which is not read: make the zip "
            "anew with method Deflate, as 'zip -r chips.zip chips' does"
        )
    if is_overlapping:
        return "the file lies over another one in the zip: make the zip anew"
    if info.compress_size > info.file_size * _MOST_PACKED + _MOST_OVERHEAD:
        return "the file is much larger packed than unpacked: make the zip anew"
    return None


def _lzma_stream(packed: bytes, size: int) -> tuple[_Unpacker, bytes]:
    """Return what unpacks an LZMA member (5.8), and the stream as .lzma files have it.

    There, a size of 2^64 - 1 says that a mark tells the end.
    """
    (length,) = struct.unpack_from("<2xH", packed)
    options, data = packed[4 : 4 + length], packed[4 + length :]
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MAX_LZMA_BYTES)
    return unpacker, options + struct.pack("<Q", size) + data


def _decompress(unpacker: _Unpacker, packed: bytes, most: int) -> bytes:
    """Unpack a stream, or its first bytes; raises EOFError if it is cut off."""
    try:
        data = unpacker.decompress(packed, most)
        while len(data) < most and not unpacker.eof:
            if unpacker.needs_input:
                raise EOFError("it is cut off")
            data += unpacker.decompress(b"", most - len(data))
    except OSError as error:  # of bz2
        raise ValueError(str(error)) from error
    return data
