"""A chip's bytes -> pixels, as cv2.imread reads them, warped to the size that the model takes."""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from chip_classifier import MAX_CHIP_PIXELS
from chip_classifier.archive import UndecodableChip

# More than any decoder needs on top of the file: four 16-bit bands and a copy of them.
DECODING_BYTES_PER_PIXEL = 16
DECODING_BYTES = 2**24

# The TIFF tags that decide how OpenCV reads a file (TIFF 6.0, section 8, and its SampleFormat).
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_BITS_PER_SAMPLE, _TIFF_SAMPLES_PER_PIXEL, _TIFF_SAMPLE_FORMAT = 258, 277, 339
_TIFF_PLANAR_CONFIGURATION = 284
_TIFF_OFFSETS_AND_COUNTS = ((273, 279), (324, 325))  # of strips, of tiles
_JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_BIT_DEPTH_AT = 24  # signature 8, chunk length 4, "IHDR" 4, width 4, height 4 (PNG, 11.2.2)


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
