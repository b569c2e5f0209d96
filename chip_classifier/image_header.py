"""What an image file is by its first bytes, and what it declares: its size, and the work it makes.

Read before any decoder, which would take memory for whatever a file declares; tif files have a
module of their own (tiff.py). Sources: ISO/IEC 10918-1, annex B (jpeg); PNG, third edition; TIFF
6.0, section 2, and BigTIFF; RFC 9649 (WebP); BITMAPFILEHEADER and BITMAPINFOHEADER of Windows
(bmp); ISO/IEC 15444-1, annexes A and I (JPEG 2000).
"""

import re
import struct
import zlib
from typing import NamedTuple

from chip_classifier import MAX_CHIP_BANDS, MAX_CHIP_BYTES, MAX_CHIP_PIXELS
from chip_classifier.errors import UndecodableChip
from chip_classifier.tiff import DAMAGED

JPEG, PNG, TIF, WEBP, BMP, JP2 = "jpeg", "png", "tif", "webp", "bmp", "jp2"
READ_KINDS = (JPEG, PNG, TIF, WEBP, BMP, JP2)
_BEGINNINGS = {
    b"\xff\xd8\xff": JPEG,
    b"\x89PNG\r\n\x1a\n": PNG,
    b"II*\0": TIF,
    b"MM\0*": TIF,
    b"II+\0": TIF,
    b"MM\0+": TIF,
    b"\0\0\0\x0cjP  \r\n\x87\n": JP2,
    b"\xff\x4f\xff\x51": JP2,
    # Pictures that are not read.
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"NITF0": "nitf",
    b"\0\0\0\x0cJXL \r\n\x87\n": "jpeg xl",
    b"8BPS\0": "photoshop",
}
# Pictures in the container of ISO/IEC 14496-12, by their brand, and with text in front (PNM).
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"), "heif"),
    **dict.fromkeys((b"avif", b"avis"), "avif"),
}
_NETPBM = re.compile(rb"P[4-7]\s+[0-9#W]")
HEAD_BYTES = 32  # as much of a file as is looked at


# A decoder goes over all blocks of a progressive jpeg once for each scan: 16 scans of the largest
# chip, or as many of smaller ones as take that long.
MAX_SCANNED_PIXELS = 16 * MAX_CHIP_PIXELS
LEAST_SCAN_PIXELS = 2**16  # a scan of fewer costs as much
SCAN_BYTES = 10  # its header's, at least
MAX_JPEG_SEGMENTS = 100_000
MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7\x01])")
_NO_SEGMENTS = {0x00, 0x01, *range(0xD0, 0xD8), 0xFF}  # what stands behind the other bytes 255
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
_END_OF_PICTURE = b"\xff\xd9"  # of a jpeg and of a JPEG 2000 codestream

# Zeros at the end of a picture of which the last part was never written: no webp has so many.
_UNWRITTEN = bytes(256)
_MOST_CHUNKS = 100  # of a webp, that are looked through for its picture
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
_LOSSLESS_FRAMES = {0xC3, 0xC7, 0xCB, 0xCF}

# Chunks that are unpacked, and of which nothing is used: comments, and a profile of colors, which
# cv2.imread does not apply.
_PACKED_CHUNKS = (b"zTXt", b"iTXt", b"iCCP")

# Chunks of an animation (PNG, 11.3.6): without them, a png is the still picture in IDAT, whether
# that is one of the animation's or not. OpenCV 5.0.0 writes beyond its memory with some of them.
_ANIMATION_CHUNKS = (b"acTL", b"fcTL", b"fdAT")

# Values of biCompression, and the masks of red, green and blue that OpenCV reads, or takes for
# granted, where they stand behind a header of 40 bytes; those in a longer one it reads for 32 bits.
_BIT_FIELDS = (3, 6)
_MASKS_OF_16_BITS = ((16, (0xF800, 0x7E0, 0x1F)), (16, (0x7C00, 0x3E0, 0x1F)))
_MASKS_OF_32_BITS = (32, (0xFF0000, 0xFF00, 0xFF))
_LEAST_HEADER_WITH_MASKS = 56


class Header(NamedTuple):
    """What an image file of another kind than tif declares.

    kind: JPEG, PNG, ...; width, height: pixels; bands, bits: samples a pixel, and bits a sample;
    is_signed: whether these may be below 0; scans: passes over the picture, of a jpeg: how many,
    or a bound on it that is small enough.
    """

    kind: str
    width: int
    height: int
    bands: int = 3
    bits: int = 8
    is_signed: bool = False
    scans: int = 1
    problem: str | None = None

    @property
    def decoded_bytes(self) -> int:
        """Bytes of all bands."""
        return self.width * self.height * self.bands * (1 if self.bits <= 8 else 2)


def kind_of(head: bytes) -> str | None:
    """Return the kind of a picture by its first HEAD_BYTES bytes; None if it is no picture."""
    for beginning, kind in _BEGINNINGS.items():
        if head.startswith(beginning):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WEBP
    # Two letters may begin a text: the second header, of 12 to 124 bytes, tells.
    if head[:2] == b"BM" and 12 <= int.from_bytes(head[14:18], "little") < 128:
        return BMP
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12])
    return "netpbm" if _NETPBM.match(head) else None


def describe(data: bytes) -> str:
    """Say what a file is that is none of READ_KINDS: "is a gif image"."""
    if kind := kind_of(data[:HEAD_BYTES]):
        return f"is a{'n' * (kind[0] in 'aeiou')} {kind} image"
    text = data[:64].lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS (fetch the picture itself with git lfs pull)"
    if text.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "is a web page or XML"
    return "is no image"


def read_header(data: bytes, kind: str) -> Header:
    """Read what an image file declares.

    Args:
        data: the bytes of the file.
        kind: JPEG, PNG, WEBP, BMP or JP2.
    Raises:
        UndecodableChip: nothing sound, or more pixels or work than the limits.
    """
    try:
        header = _READERS[kind](data)
    except (struct.error, IndexError, ValueError) as error:
        raise UndecodableChip(DAMAGED) from error
    pixels = header.width * header.height
    if min(header.width, header.height) <= 0:
        raise UndecodableChip(DAMAGED)
    if pixels > MAX_CHIP_PIXELS:
        raise UndecodableChip(
            f"the image has {header.width} x {header.height} pixels, the limit is "
            f"{MAX_CHIP_PIXELS:,}"
        )
    if header.scans > _affordable_scans(pixels):
        raise UndecodableChip(
            f"the jpeg has {header.scans:,} scans of {header.width} x {header.height} pixels, "
            "which would take too long"
        )
    if header.bands > MAX_CHIP_BANDS or header.decoded_bytes > MAX_CHIP_BYTES:
        raise UndecodableChip(
            f"the {kind} has {header.bands:,} band(s) and {header.decoded_bytes:,} bytes in all, "
            f"the limits are {MAX_CHIP_BANDS:,} and {MAX_CHIP_BYTES:,}"
        )
    if header.problem:
        raise UndecodableChip(header.problem)
    return header


def _jpeg(data: bytes) -> Header:
    """Read the segments of a jpeg up to its frame; count its scans where there may be many."""
    at = 2
    for _ in range(MAX_JPEG_SEGMENTS):
        at = data.index(0xFF, at) + 2
        if data[at - 1] in _NO_SEGMENTS:  # there may be any number of fill bytes
            if not (marker := MARKER.search(data, at - 1)):
                raise UndecodableChip(DAMAGED)
            at = marker.end()
        kind = data[at - 1]
        if kind in _FRAMES:
            break
        if kind in (START_OF_SCAN, END_OF_IMAGE):
            raise UndecodableChip(DAMAGED)
        at += data[at] << 8 | data[at + 1]
    else:
        raise UndecodableChip(DAMAGED)
    bits, height, width, bands = struct.unpack_from(">BHHB", data, at + 2)
    if data.rfind(_END_OF_PICTURE) < at:  # what a decoder would make up may look like a picture
        raise UndecodableChip(DAMAGED)
    problem = None
    if bits != 8:
        problem = f"{bits}-bit jpeg is not supported"
    elif kind in _LOSSLESS_FRAMES:
        problem = "lossless jpeg is not supported"
    most, affordable = len(data) // SCAN_BYTES, _affordable_scans(width * height)
    if most > affordable:
        most = data.count(b"\xff\xda", at)
    if most > affordable:
        most = _count_scans(data, at)
    return Header(JPEG, width, height, bands, scans=most, problem=problem)


def _affordable_scans(pixels: int) -> int:
    """Return how many scans a jpeg of so many pixels may have."""
    return MAX_SCANNED_PIXELS // max(pixels, LEAST_SCAN_PIXELS)


def _count_scans(data: bytes, at: int) -> int:
    """Count the scans of a jpeg of which the frame's marker ends at `at`.

    Thumbnails, and what follows the picture's end, are not among them.
    """
    scans = 0
    for _ in range(MAX_JPEG_SEGMENTS):
        at += int.from_bytes(data[at : at + 2])
        marker = MARKER.search(data, at)
        if marker is None or marker[1][0] == END_OF_IMAGE:
            return scans
        scans += marker[1][0] == START_OF_SCAN
        at = marker.end()
    raise UndecodableChip(f"the jpeg has more than {MAX_JPEG_SEGMENTS:,} segments")


def _png(data: bytes) -> Header:
    if data[12:16] == b"CgBI":
        raise UndecodableChip(
            "the png is in Apple's own format (CgBI), which is not supported: write it anew"
        )
    width, height, bits, color = struct.unpack_from(">IIBB", data, 16)
    bands = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(color, 4)
    return Header(PNG, width, height, bands, bits)


def lean_png(data: bytes) -> bytes:
    """Return a png file without the chunks that are packed and not used, and those of animations.

    OpenCV also takes memory for as much as a chunk declares, up to 4 GiB, before it reads it:
    raises UndecodableChip if one does not lie within the file (PNG, 5.3).
    """
    at, kept, parts = 8, 0, []
    while at < len(data):
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        end = at + length + 12  # length 4, type 4, checksum 4
        if end > len(data):
            raise UndecodableChip(DAMAGED)
        if kind in _PACKED_CHUNKS or kind in _ANIMATION_CHUNKS:
            parts.append(data[kept:at])
            kept = end
        if kind == b"IEND":
            break
        at = end
    return b"".join((*parts, data[kept:])) if parts else data


def exif_of(data: bytes, kind: str) -> bytes:
    """Return the EXIF data of a sound png or webp file, b"" if it has none."""
    at, order = (8, "big") if kind == PNG else (12, "little")
    while at < len(data):
        first, second = data[at : at + 4], data[at + 4 : at + 8]
        name, length = (second, first) if kind == PNG else (first, second)
        size = int.from_bytes(length, order)
        if name in (b"eXIf", b"EXIF"):
            return data[at + 8 : at + 8 + size]
        at += 8 + size + (4 if kind == PNG else size % 2)  # a checksum, or a byte to fill
    return b""


def has_sound_chunks(data: bytes) -> bool:
    """Return whether the chunks that a png needs have their checksums, and the last one is there.

    Pillow looks at none of a picture's data (PNG, 5.3 and 5.4: capital letters are needed ones).
    """
    at, whole = 8, memoryview(data)
    while at < len(data):
        end = at + int.from_bytes(data[at : at + 4]) + 12
        kind, checksum = data[at + 4 : at + 8], int.from_bytes(data[end - 4 : end])
        if kind[:1].isupper() and zlib.crc32(whole[at + 4 : end - 4]) != checksum:
            return False
        if kind == b"IEND":
            return True
        at = end
    return False


def _webp(data: bytes) -> Header:
    at = 12
    for _ in range(_MOST_CHUNKS):  # what follows the picture, such as EXIF, may end with zeros
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] in (b"VP8 ", b"VP8L"):
            if data.endswith(_UNWRITTEN, at, at + 8 + size):
                raise UndecodableChip(DAMAGED)
            break
        at += 8 + size + size % 2
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        bands = 4 if data[20] & 16 else 3
    elif kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
        bands = 4 if packed >> 28 & 1 else 3
    else:
        width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", data, 26))
        bands = 3
    return Header(WEBP, width, height, bands)


def _bmp(data: bytes) -> Header:
    is_old = int.from_bytes(data[14:18], "little") == 12
    width, height = struct.unpack_from("<HH" if is_old else "<ii", data, 18)
    problem = None if is_old else _why_unread_fields(data)
    return Header(BMP, abs(width), abs(height), problem=problem)


def _why_unread_fields(data: bytes) -> str | None:
    """Say why the bit fields of a bmp are not read; None if OpenCV reads them, or it has none."""
    size, bits, compression = struct.unpack_from("<I10xHI", data, 14)
    if compression not in _BIT_FIELDS:
        return None
    masks = struct.unpack_from("<III", data, 54)
    if (bits, masks) == _MASKS_OF_32_BITS or (bits == 32 and size >= _LEAST_HEADER_WITH_MASKS):
        return None
    if (bits, masks) in _MASKS_OF_16_BITS and size == 40:
        return None
    return (
        f"the bmp has bit fields that are not read ({bits} bits, masks "
        f"{', '.join(f'{mask:X}' for mask in masks)}): write it with 24 bits"
    )


def _jp2(data: bytes) -> Header:
    """Read the SIZ segment, with which the codestream begins (ISO/IEC 15444-1, A.5.1)."""
    at = data.index(b"\xff\x4f\xff\x51")
    if data.rfind(_END_OF_PICTURE) < at:
        raise UndecodableChip(DAMAGED)
    right, bottom, left, top = struct.unpack_from(">IIII", data, at + 8)
    (bands,) = struct.unpack_from(">H", data, at + 40)
    depths = set(data[at + 42 : at + 42 + 3 * bands : 3])
    depth = max(depths)
    bits = (depth & 0x7F) + 1
    problem = None
    if len(depths) > 1:
        problem = "the jp2 has bands of different depths, which is not supported"
    elif bits > 16:
        problem = f"the jp2 has values of {bits} bits: write chips of 8 bits"
    return Header(
        JP2, right - left, bottom - top, bands, bits, is_signed=depth > 0x7F, problem=problem
    )


_READERS = {JPEG: _jpeg, PNG: _png, WEBP: _webp, BMP: _bmp, JP2: _jp2}
