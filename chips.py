"""Chips out of a tar archive: a listing of its members, their pixels, batches of them.

An archive is a tar, plain or compressed with gzip, bzip2 or xz (told by its first bytes, not by its
name). A plain one is listed ahead of the use of its chips, a compressed one is read as a stream;
nothing is unpacked to disk. A chip is a member whose name ends in .jpg, .jpeg, .tif, .tiff or .png.
Chips are numbered from 0 in the order of the archive; that number is what the rest of the task
knows a chip by.
"""

import _thread
import bz2
import contextlib
import errno
import gzip
import io
import itertools
import lzma
import math
import multiprocessing
import os
import posixpath
import queue
import signal
import sys
import tarfile
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import BinaryIO, NamedTuple

# 8192 x 8192: hundreds of times the area of a chip, and 200 MB when decoded, so that a file that
# declares more is refused before any memory is taken for it. OpenCV reads its own limit when it
# is loaded.
MAX_CHIP_PIXELS = 2**26
os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(MAX_CHIP_PIXELS)
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

# The most that MAX_CHIP_PIXELS of four 16-bit bands can need.
MAX_CHIP_BYTES = MAX_CHIP_PIXELS * 8

# More than any decoder needs on top of the file: four 16-bit bands and a copy of them.
DECODING_BYTES_PER_PIXEL = 16
DECODING_BYTES = 2**24

# A member's long name and its pax records are read into memory; real ones have a few hundred bytes.
MAX_METADATA_BYTES = 2**26
_METADATA_TYPES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)

# How much is read behind the end of a compressed archive, to compare its checksum: the padding of
# any real one, but no bomb.
MAX_PADDING_BYTES = 2**30

CHIP_SUFFIXES = (".jpg", ".jpeg", ".tif", ".tiff", ".png")
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

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

# Batches that may wait, decoded, for the model, at least one: enough that it never waits, few
# enough that memory stays flat.
MOST_BATCHES_AHEAD = 2
MOST_BYTES_AHEAD = 2**29

# Chips that a decoder takes at a time: to hand over each by itself takes time in which no other
# thread of Python runs.
MOST_CHIPS_OF_A_GROUP = 16

# How often the process that lists an archive hands over what it has listed.
LISTED_SECONDS = 0.05

# The TIFF tags that decide how OpenCV reads a file (TIFF 6.0, section 8, and its SampleFormat).
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_BITS_PER_SAMPLE, _TIFF_SAMPLES_PER_PIXEL, _TIFF_SAMPLE_FORMAT = 258, 277, 339
_TIFF_PLANAR_CONFIGURATION = 284
_TIFF_OFFSETS_AND_COUNTS = ((273, 279), (324, 325))  # of strips, of tiles

_JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_BIT_DEPTH_AT = 24  # signature 8, chunk length 4, "IHDR" 4, width 4, height 4 (PNG, 11.2.2)


class BrokenArchive(Exception):
    """The archive cannot be read to its end; the message says after which member."""


class UndecodableChip(Exception):
    """A chip has no pixels to classify; the message is the reason, for unclassified.json."""


class Chip(NamedTuple):
    """One chip of an archive.

    name: its path in the archive, without "./" and a leading "/".
    problem: why its file is not to be read, or None.
    link: for a link in the archive, the path of the member that it points to, else None.
    data, offset, size, is_sparse: for Archive.read: the bytes of the file, where the archive is
        compressed; else where they begin (for a sparse file: its header) and how many they are.
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
        """Parse a header; refuse one that announces metadata beyond reason, before it is read."""
        header = super().frombuf(buf, encoding, errors)
        if header.type in _METADATA_TYPES and header.size > MAX_METADATA_BYTES:
            raise tarfile.HeaderError(f"{header.size:,} bytes of metadata for one member")
        return header

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """Read the next header, as tarfile does."""
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            tar.ended_by = error
            raise


class Archive:
    """A tar of chips on disk, to be read front to back.

    passed_over: after a reading, the members that are no chips: reason -> number.
    left_behind: after a reading, whether data follows the end of the archive.
    progress: the share of the file, 0 to 1, that the current reading has come to.
    """

    def __init__(self, path: Path) -> None:
        """Look at the archive's first bytes. Raises OSError if it cannot be read."""
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        self._state = self._file_state()
        self.size = self._state[0]
        head = os.pread(self._descriptor, 6, 0)
        self._decompress = next(
            (opener for magic, opener in _DECOMPRESSORS.items() if head.startswith(magic)), None
        )
        self.passed_over: dict[str, int] = {}
        self.left_behind = False
        self.progress = 0.0

    @property
    def is_compressed(self) -> bool:
        """Whether it is a stream: a chip can be read only where the reading has come to it."""
        return self._decompress is not None

    def _file_state(self) -> tuple[int, int]:
        """Give the size and the time of the last change, in ns, of the file."""
        stat = os.fstat(self._descriptor)
        return stat.st_size, stat.st_mtime_ns

    def require_unchanged(self) -> None:
        """Raise BrokenArchive if the file has been written to since the archive was opened.

        Where its chips were found, there may be others by now.
        """
        if self._file_state() != self._state:
            raise BrokenArchive(
                f"{self.path.name} was changed while it was read: run the task again."
            )

    def _open(self) -> BinaryIO:
        """Open the file once more, with a position of its own, whatever is at its path by now."""
        same = Path(f"/proc/self/fd/{self._descriptor}")  # Linux
        return (same if same.exists() else self.path).open("rb")

    def chips(self) -> Iterator[Chip]:
        """Yield the chips in the order of the archive.

        Raises BrokenArchive where the archive is damaged, cut off or no tar at all: what was
        yielded before is sound.
        """
        self.passed_over = {"hidden files": 0, "other files": 0}
        last = None
        try:
            with self._open() as file:
                stream = self._decompress(file) if self._decompress else file
                mode = "r|" if self._decompress else "r:"
                with tarfile.open(fileobj=stream, mode=mode, tarinfo=_Header) as tar:
                    while (member := tar.next()) is not None:
                        tar.members.clear()  # else tarfile keeps every header it has seen
                        if tar.offset <= member.offset:
                            raise tarfile.ReadError("a member of negative size")
                        last = member_path(member.name)
                        chip = self._chip(tar, member)
                        self.progress = file.tell() / max(self.size, 1)
                        if chip is not None:
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
                f"{self.path.name} is cut off or damaged after the member '{last}' ({error}): "
                "make or upload the archive again."
            ) from error

    def _chip(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> Chip | None:
        """Make a Chip of a member; None, and a count in passed_over, if it is none."""
        if member.isdir():
            return None
        path = member_path(member.name)
        name = posixpath.basename(path)
        if name.startswith("."):
            self.passed_over["hidden files"] += 1
            return None
        is_link = member.issym() or member.islnk()
        if not name.lower().endswith(CHIP_SUFFIXES) or not (member.isreg() or is_link):
            self.passed_over["other files"] += 1
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
            return Chip(path, data=tar.extractfile(member).read())
        if member.issparse():
            return Chip(path, offset=member.offset, size=member.size, is_sparse=True)
        if member.offset_data + member.size > self.size:
            raise tarfile.ReadError("unexpected end of data")
        return Chip(path, offset=member.offset_data, size=member.size)

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
        data = os.pread(self._descriptor, chip.size, chip.offset)
        if len(data) < chip.size:
            raise BrokenArchive(
                f"{self.path.name} was cut off while it was read: make or upload it again."
            )
        return data

    def _read_sparse(self, chip: Chip) -> bytes:
        """Read a sparse file, holes included, by its header."""
        with self._open() as file:
            file.seek(chip.offset)
            try:
                with tarfile.open(fileobj=file, mode="r:", tarinfo=_Header) as tar:
                    member = tar.next()
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


def member_path(name: str) -> str:
    """Give a member's name as a plain relative path: "./chips//a.jpg" -> "chips/a.jpg".

    Bytes that are no UTF-8, which tarfile hands over as lone surrogates, are written as \\xNN, so
    that the name can stand in JSON and in a log.
    """
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "/".join(part for part in text.split("/") if part not in ("", "."))


def decode_chip(data: bytes) -> np.ndarray:
    """Decode an image file as cv2.imread does by default.

    Args:
        data: the bytes of a jpeg, png or tif file.
    Returns:
        uint8 (H, W, 3), bands in the order B, G, R.
    Raises:
        UndecodableChip: the file is empty, damaged, cut off, of another kind or too large.
        MemoryError: memory is short; the chip may be sound.
    """
    if not data:
        raise UndecodableChip("the file is empty")
    if not data.startswith((_JPEG_MAGIC, _PNG_MAGIC, *_TIFF_MAGIC)):
        raise UndecodableChip("the file is no jpeg, png or tif image, whatever its name says")
    if data.startswith(_PNG_MAGIC) and not _holds_its_chunks(data):
        raise UndecodableChip("the file is cut off or damaged")
    pixels = _read_with_opencv(cv2.imdecode, np.frombuffer(data, np.uint8))
    if pixels is None:
        _require_memory(data)
    if data.startswith(_TIFF_MAGIC):
        layout = _tiff_layout(data)
        # libtiff leaves the bands black that lie behind the end of a file that was cut off.
        if layout.is_planar and not layout.is_whole:
            raise UndecodableChip("the file is cut off or damaged")
        if pixels is None:
            pixels = _decode_tiff_as_file(data)
        if pixels is None and layout.bands <= 4:
            pixels = _decode_tiff_with_pillow(data)
    if pixels is None:
        raise UndecodableChip(_why_undecodable(data))
    return pixels


def _holds_its_chunks(data: bytes) -> bool:
    """Tell whether each chunk of a PNG file lies within the file (PNG, 5.3).

    OpenCV takes memory for as much as a chunk declares, up to 4 GiB, before it reads it.
    """
    at = len(_PNG_MAGIC)
    while at < len(data):
        length = int.from_bytes(data[at : at + 4])
        if at + length + 12 > len(data):
            return False
        if data[at + 4 : at + 8] == b"IEND":
            break
        at += length + 12  # length 4, type 4, checksum 4
    return True


def _read_with_opencv(
    reader: Callable[[object, int], np.ndarray | None], source: object
) -> np.ndarray | None:
    """Call cv2.imdecode or cv2.imread; None if it does not read the image."""
    try:
        return reader(source, cv2.IMREAD_COLOR)
    except cv2.error as error:  # among others for a size above OPENCV_IO_MAX_IMAGE_PIXELS
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(error.err) from error
        return None


def _require_memory(data: bytes) -> None:
    """Raise MemoryError if memory is too short to decode an image.

    The libraries behind OpenCV do not tell that from a damaged file, and a sound chip is not to be
    called damaged.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = image.width * image.height
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001, as in _decode_tiff_with_pillow
        return
    if pixels <= MAX_CHIP_PIXELS:
        np.empty(DECODING_BYTES + pixels * DECODING_BYTES_PER_PIXEL, np.uint8)


def _decode_tiff_as_file(data: bytes) -> np.ndarray | None:
    """Decode a tif with cv2.imread itself, from a file that exists in memory only.

    OpenCV refuses uncompressed tiles in memory (its buffer for a tile is larger than the tile), but
    reads the same bytes from a file. None where it does not, or where the system is not Linux.
    """
    if not hasattr(os, "memfd_create"):
        return None
    descriptor = os.memfd_create("chip.tif")
    with open(descriptor, "wb", buffering=0) as file:
        file.write(data)
        return _read_with_opencv(cv2.imread, f"/proc/self/fd/{descriptor}")


def _decode_tiff_with_pillow(data: bytes) -> np.ndarray | None:
    """Decode a tif that OpenCV cannot read: ZSTD compression, which its libtiff lacks.

    Pillow applies the orientation itself. None if it cannot read the file either.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
            if image.width * image.height > MAX_CHIP_PIXELS:
                return None
            if image.mode.startswith("I;16"):
                grey = (np.asarray(image) >> 8).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=2)
            if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"):
                return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])
            return None  # 32-bit values have no fixed range to make 8 bits of
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001, Pillow raises whatever it comes upon in a damaged file
        return None


@dataclass(frozen=True)
class _TiffLayout:
    """What a tif file's first image declares; the defaults of TIFF 6.0 where nothing sound is.

    is_whole: False if a strip or tile lies outside the file.
    """

    bands: int = 1
    bits: int = 1
    sample_format: int = 1
    is_planar: bool = False
    is_whole: bool = True


def _tiff_layout(data: bytes) -> _TiffLayout:
    """Read the layout of a tif file's first image."""
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if b"+" in data[:4] else 8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        ends = [
            np.asarray(tags[offsets]) + np.asarray(tags[counts])
            for offsets, counts in _TIFF_OFFSETS_AND_COUNTS
            if offsets in tags and counts in tags
        ]
        return _TiffLayout(
            bands=int(np.max(tags.get(_TIFF_SAMPLES_PER_PIXEL, 1))),
            bits=int(np.max(tags.get(_TIFF_BITS_PER_SAMPLE, 1))),
            sample_format=int(np.max(tags.get(_TIFF_SAMPLE_FORMAT, 1))),
            is_planar=tags.get(_TIFF_PLANAR_CONFIGURATION, 1) == 2,
            is_whole=all((end <= len(data)).all() for end in ends),
        )
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001, as in _decode_tiff_with_pillow
        return _TiffLayout()


def has_16_bits(data: bytes) -> bool:
    """Tell whether an image file holds 16-bit bands, which are read as value / 256."""
    if data.startswith(_PNG_MAGIC):
        return data[_PNG_BIT_DEPTH_AT : _PNG_BIT_DEPTH_AT + 1] == b"\x10"
    if data.startswith(_TIFF_MAGIC):
        return _tiff_layout(data).bits == 16
    return False


def _why_undecodable(data: bytes) -> str:
    """Say why a file that no decoder took was not read; may be slow."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        return f"the image has more pixels than the limit of {MAX_CHIP_PIXELS:,}"
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001, as in _decode_tiff_with_pillow
        width = height = 0
    if width * height > MAX_CHIP_PIXELS:
        return f"the image has {width} x {height} pixels, the limit is {MAX_CHIP_PIXELS:,}"
    if data.startswith(_TIFF_MAGIC):
        layout = _tiff_layout(data)
        kind = {2: "signed", 3: "floating point"}.get(layout.sample_format, "unsigned")
        if layout.bands > 4 or layout.bits > 16 or kind != "unsigned":
            return (
                f"the tif has {layout.bands} band(s) of {layout.bits} bits ({kind}): "
                "write chips of 1 to 4 bands of 8 bits"
            )
    return "the file is cut off or damaged"


def warp(pixels: np.ndarray, out: np.ndarray) -> None:
    """Warp a chip to the size of `out`, bilinear, all bands, as cv2.resize does.

    Args:
        pixels: uint8 (H, W, 3).
        out: uint8 (rows, columns, 3), contiguous; receives the result.
    """
    if pixels.shape == out.shape:
        out[...] = pixels
    else:
        cv2.resize(pixels, out.shape[1::-1], dst=out, interpolation=cv2.INTER_LINEAR)


def usable_cores() -> int:
    """Give the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux; respects what a container was given
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _give_way() -> None:
    """Let the model's threads go first on the cores (Linux has a priority for each thread).

    The model waits for the slowest of its threads at each step; one that has to share its core with
    a decoder delays all.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            niceness = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, min(niceness + 10, 19))


def _send_chips(archive: Archive, listed: int, receiver: Connection, sender: Connection) -> None:
    """Read the chips behind the first `listed` and send them: what a process of its own does.

    It sends parts: (chips, progress so far, None or, with the last part, how the reading ended). It
    reads the first ones too: the position in a file that is open already is one for both processes.
    """

    def end_with_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(0)

    # The task's own hooks tell a queue of dead threads, which nobody reads here.
    sys.unraisablehook, threading.excepthook = sys.__unraisablehook__, threading.__excepthook__
    # Thread.start would wait for ever for a thread for whose first step there is no memory.
    _thread.start_new_thread(end_with_parent, ())
    receiver.close()
    _give_way()
    part: list[Chip] = []
    error = None
    sent = time.monotonic()
    with contextlib.suppress(BrokenPipeError):  # the other process has just ended
        try:
            for chip in itertools.islice(archive.chips(), listed, None):
                part.append(chip)
                if time.monotonic() > sent + LISTED_SECONDS:
                    sender.send((part, archive.progress, None))
                    part, sent = [], time.monotonic()
        except BrokenArchive as damage:
            error = damage
        sender.send((part, archive.progress, (error, archive.passed_over, archive.left_behind)))


def _receive_chips(
    archive: Archive, listed: int, receiver: Connection, process: BaseProcess
) -> Iterator[Chip]:
    """Yield the chips behind the first `listed` as a process sends them; see _send_chips.

    Should that be killed, this one reads on. Raises BrokenArchive as Archive.chips does.
    """
    end = None
    with receiver, contextlib.suppress(EOFError, OSError):
        while end is None:
            part, archive.progress, end = receiver.recv()
            yield from part
            listed += len(part)
    process.join()
    if end is None:
        yield from itertools.islice(archive.chips(), listed, None)
        return
    error, archive.passed_over, archive.left_behind = end
    if error:
        raise error


class Listing:
    """The chips of an archive in their order, listed ahead of their use.

    A plain tar is listed header by header, which is quick beside decoding, so that the number of
    chips is known and a damaged archive found before much work was put into it. A compressed one,
    of which all would have to be decompressed for that, is listed one chip ahead.

    number: the chips listed so far.
    is_complete: whether these are all.
    error: what ended the listing before the end of the archive, or None.
    """

    def __init__(self, archive: Archive) -> None:
        self.number = 0
        self.is_complete = False
        self.error: Exception | None = None
        self.archive = archive
        self._chips: Iterator[Chip] = archive.chips()
        self._listed: queue.SimpleQueue[Chip | None] = queue.SimpleQueue()
        self._lister: threading.Thread | None = None

    def go_on(self, seconds: float = math.inf, chips: float = math.inf) -> None:
        """List chips for so many seconds, or until there are so many, or to the end.

        Of a compressed archive one chip more is listed.
        """
        if self.is_complete or self.error or self.number >= chips:
            return
        end = time.monotonic() + seconds
        try:
            for chip in self._chips:
                self.number += 1
                self._listed.put(chip)
                if self.archive.is_compressed or self.number >= chips or time.monotonic() > end:
                    return
            self.is_complete = True
        except Exception as error:  # noqa: BLE001, whoever uses the chips gets it
            self.error = error
        self._listed.put(None)

    def go_on_aside(self) -> None:
        """List the rest of a plain tar in another process, from now on (Linux).

        Python runs one thread of a process at a time: one that lists holds up those that import,
        decode and classify. The other process is a copy of this one (fork), which is quick and
        safe before TensorFlow is there, with its memory and its threads. It ends with this one;
        the signals that stop the task are not for it. A compressed archive is left as it is.
        """
        if self.archive.is_compressed or self.is_complete or self.error:
            return
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # no process is to be had: the thread lists
                receiver, sender = multiprocessing.Pipe(duplex=False)
                process = multiprocessing.get_context("fork").Process(
                    target=_send_chips, args=(self.archive, self.number, receiver, sender)
                )
                mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
                try:
                    process.start()
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                    sender.close()
                self._chips = _receive_chips(self.archive, self.number, receiver, process)
        self._start_lister()

    def _start_lister(self) -> None:
        self._lister = threading.Thread(target=self.go_on, name="list", daemon=True)
        self._lister.start()

    def __iter__(self) -> Iterator[Chip]:
        """Yield the chips; the rest of a plain tar is listed meanwhile. To be used once.

        Raises BrokenArchive after the last sound chip if the archive is damaged.
        """
        if not self.archive.is_compressed and self._lister is None:
            self._start_lister()
        while True:
            if self.archive.is_compressed and self._listed.empty():
                self.go_on()
            chip = self._listed.get()
            if chip is None:
                break
            yield chip
        if self.error:
            raise self.error


@dataclass
class Batch:
    """The chips number `first`, first + 1, ... of the archive.

    names, links: as in Answers; pixels: uint8 (N, rows, columns, 3), B, G, R, one row a chip, not
    set for chips that have no pixels; preparing: what fills them, each future with the problems
    that it met; problems: chip number -> reason.
    """

    first: int
    names: list[str] = field(default_factory=list)
    links: dict[int, str] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)
    pixels: np.ndarray | None = None
    preparing: list[Future[dict[int, str]]] = field(default_factory=list)

    def decoded_rows(self) -> np.ndarray:
        """Give the rows of `pixels` that hold a chip, int (M,), once these are complete."""
        if self.pixels is None:
            return np.array([], dtype=int)
        return np.array(
            [
                row
                for row in range(len(self.names))
                if self.first + row not in self.links and self.first + row not in self.problems
            ],
            dtype=int,
        )


class Pipeline:
    """Reads, decodes and warps chips on several threads, a few batches ahead of the model.

    listing: the chips.
    saw_16_bits: whether a chip with 16-bit bands came by.
    """

    def __init__(
        self, listing: Listing, batch_size: int, size: tuple[int, int], answered: int
    ) -> None:
        """Start reading.

        Args:
            listing: the chips.
            batch_size: chips per batch; the last batch may have fewer.
            size: rows and columns to warp the chips to.
            answered: this many chips, whole batches of them, need no pixels any more.
        """
        self.saw_16_bits = False
        self.listing, self._batch_size, self._size = listing, batch_size, size
        self._answered = answered
        threads = usable_cores()
        self._decoders = ThreadPoolExecutor(threads, "decode", initializer=_give_way)
        # Chips of a compressed archive wait for a decoder with their data, which may be large.
        self._waiting = threading.Semaphore(4 * threads)
        self._group_size = 1
        if not listing.archive.is_compressed:
            self._group_size = min(MOST_CHIPS_OF_A_GROUP, max(1, batch_size // (4 * threads)))
        batch_bytes = batch_size * size[0] * size[1] * 3
        ahead = min(MOST_BATCHES_AHEAD, max(1, MOST_BYTES_AHEAD // batch_bytes))
        self._batches: queue.Queue = queue.Queue(ahead)
        threading.Thread(target=self._read, name="read", daemon=True).start()

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches in order, each with its pixels complete.

        Raises BrokenArchive after the last sound batch if the archive is damaged, and before the
        next one if it is changed.
        """
        while (batch := self._batches.get()) is not None:
            if isinstance(batch, Exception):
                raise batch
            for problems in batch.preparing:
                batch.problems |= problems.result()
            self.listing.archive.require_unchanged()
            yield batch

    def _read(self) -> None:
        try:
            batch = Batch(0)
            group: list[tuple[int, Chip]] = []
            for number, chip in enumerate(self.listing):
                if len(batch.names) == self._batch_size:
                    self._prepare(batch, group)
                    self._batches.put(batch)
                    batch, group = Batch(number), []
                batch.names.append(chip.name)
                if chip.link is not None:
                    batch.links[number] = chip.link
                elif chip.problem is not None:
                    batch.problems[number] = chip.problem
                elif number >= self._answered:
                    group.append((number, chip))
                if len(group) == self._group_size:
                    self._prepare(batch, group)
                    group = []
            self._prepare(batch, group)
            if batch.names:
                self._batches.put(batch)
            self._batches.put(None)
        except Exception as error:  # noqa: BLE001, __iter__ raises it
            self._batches.put(error)

    def _prepare(self, batch: Batch, group: list[tuple[int, Chip]]) -> None:
        """Have numbered chips of a batch decoded."""
        if not group:
            return
        if batch.pixels is None:
            batch.pixels = np.empty((self._batch_size, *self._size, 3), np.uint8)
        self._waiting.acquire()
        batch.preparing.append(
            self._decoders.submit(self._decode, batch.pixels, batch.first, group)
        )

    def _decode(
        self, pixels: np.ndarray, first: int, group: list[tuple[int, Chip]]
    ) -> dict[int, str]:
        """Put chips into `pixels`, where chip `first` has row 0; return chip number -> problem."""
        problems = {}
        try:
            for number, chip in group:
                try:
                    data = self.listing.archive.read(chip)
                    warp(decode_chip(data), pixels[number - first])
                except UndecodableChip as error:
                    problems[number] = str(error)
                    continue
                if not self.saw_16_bits and has_16_bits(data):
                    self.saw_16_bits = True
        finally:
            self._waiting.release()
        return problems
