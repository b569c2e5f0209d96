"""A chip's bytes -> 8-bit pixels of the bands that the model takes, warped to its size.

What a file is, its first bytes tell. Its header is read before any decoder sees it; tif files have
a gate of their own (tiff.py).
"""

import functools
import threading
from typing import NamedTuple

import cv2
import numpy as np

from chip_classifier import MAX_CHIP_BANDS
from chip_classifier.cores import allowed_bytes, usable_cores
from chip_classifier.errors import UndecodableChip
from chip_classifier.gdal import Unreadable, read_with_gdal
from chip_classifier.image_header import Header, exif_of, lean_png, read_header
from chip_classifier.kinds import HEAD_BYTES, JP2, PNG, READ_KINDS, TIF, WEBP, kind_of
from chip_classifier.tiff import (
    DAMAGED,
    DEFLATE,
    PALETTE,
    UNSIGNED,
    WHITE_IS_ZERO,
    Reader,
    TiffLayout,
    read_layout,
    read_orientation,
    why_unread,
)

# Bands 3, 2, 1 of a file are its blue, green and red: what cv2.imread gives.
BGR = (3, 2, 1)

# What may be taken for decoding at a time, however many cores there are, unless a single chip needs
# more; and what a decoder takes on top of the bands: a second copy of them, and the result.
MOST_DECODING_BYTES = 2**30
DECODING_BYTES = 2**20

MOST_CHANNELS = 128  # of an image of OpenCV's (CV_CN_MAX)
_CHANNELS_OF_OPENCV = {1: 2, 2: 1, 3: 0}  # where it has red, green and blue
_IN_ORDER = tuple(range(MAX_CHIP_BANDS))

# The first three channels of three or four, the other way round.
_QUICK_REVERSALS = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGR}


class Picture(NamedTuple):
    """An image file's content.

    pixels: (H, W, channels), of whatever type.
    number: how many bands the file has.
    channels: for each band that was read, counted from 1, the channel in which it is.
    bits, is_signed: depth of the pixels' values, and whether they may be below 0.
    file_bits: depth of the file's values, of which a decoder may have made 8 bits.
    repeated: the channels that make three of a grey one.
    orientation: how it is to be turned, 1 to 8 (TIFF 6.0, tag 274).
    """

    pixels: np.ndarray
    number: int
    channels: dict[int, int]
    bits: int = 8
    is_signed: bool = False
    file_bits: int = 8
    repeated: tuple[int, int, int] = (0, 0, 0)
    orientation: int = 1


def decode_chip(
    data: bytes, bands: tuple[int, ...] | None = BGR, bit_depth: int | None = None
) -> np.ndarray:
    """Decode an image file to 8 bits.

    Args:
        data: the bytes of a jpeg, png, tif, webp, bmp or jp2 file.
        bands: the numbers of the file's bands, counted from 1, in the order of the result. A grey
            file is repeated for three bands of 1 to 3. None for one grey band: the only one, or
            that of the colors (ITU-R BT.601, as cv2.cvtColor makes it).
        bit_depth: how many bits count, of values that have more than 8: value x 255 /
            (2^bit_depth - 1), rounded and clipped. None: of 16 bits, the upper 8; of other depths,
            all that the file declares.
    Returns:
        uint8 (H, W, len(bands) or 1).
    Raises:
        UndecodableChip: the file is empty, damaged, cut off, too large, of a kind or with values
            that are not read, or lacks a band; the message is the reason.
        MemoryError: memory is short; the chip may be sound.
    """
    return _decode(data, bands, bit_depth)[0]


def decode_into(
    out: np.ndarray, data: bytes, bands: tuple[int, ...] | None, bit_depth: int | None
) -> bool:
    """Decode an image file, as decode_chip does, and warp it to the size of `out`.

    Args:
        out: uint8 (rows, columns, N), contiguous; receives the result.
        data, bands, bit_depth: as for decode_chip.
    Returns:
        Whether the file's values have 16 bits.
    Raises: as decode_chip does.
    """
    return _decode(data, bands, bit_depth, out)[1] == 16


class ByteBudget:
    """A number of bytes that threads share: who asks for more than are free waits."""

    def __init__(self, total: int) -> None:
        """Begin with all bytes free."""
        self._total = self._free = total
        self._changed = threading.Condition()

    def take(self, number: int) -> int:
        """Wait until so many bytes, at most all, are free; return how many to give back."""
        number = min(number, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= number)
            self._free -= number
        return number

    def give_back(self, number: int) -> None:
        """Let others have bytes again."""
        with self._changed:
            self._free += number
            self._changed.notify_all()


# A quarter is for chips that are so small that they do not ask, since that takes time: as many as
# there are decoders.
_total = allowed_bytes(MOST_DECODING_BYTES)
_memory = ByteBudget(_total - _total // 4)
SMALL_BYTES = _total // 4 // usable_cores()


def _decode(
    data: bytes, bands: tuple[int, ...] | None, bit_depth: int | None, out: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """Decode an image file, as decode_chip does, and warp it to the size of `out` if there is one.

    Returns the pixels, and the bits of the file's values.
    """
    header = _look(data, bit_depth)
    size = DECODING_BYTES + 2 * header.decoded_bytes + 3 * header.width * header.height
    taken = _memory.take(size) if size > SMALL_BYTES else 0
    try:
        picture = _read(data, header, bands, bit_depth)
        pixels = _develop(picture, bands, bit_depth)
        if out is not None:
            warp(pixels, out)
        return pixels, picture.file_bits
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(error.err) from error
        raise UndecodableChip(DAMAGED) from error
    except UndecodableChip:
        # The decoders do not tell short memory from a damaged file, and a sound chip is not to be
        # called damaged.
        np.empty(size, np.uint8)
        raise
    finally:
        if taken:
            _memory.give_back(taken)


def _look(data: bytes, bit_depth: int | None) -> Header | TiffLayout:
    """Read what an image file declares; raises UndecodableChip if that is not read."""
    if not data:
        raise UndecodableChip("the file is empty")
    kind = kind_of(data[:HEAD_BYTES])
    if kind not in READ_KINDS:
        what = f"is a {kind} image" if kind else "is no image"
        raise UndecodableChip(
            f"the file {what}, whatever its name says: chips are {', '.join(READ_KINDS)}"
        )
    if kind != TIF:
        return read_header(data, kind)
    layout = read_layout(data)
    if problem := why_unread(layout, bit_depth):
        raise UndecodableChip(problem)
    return layout


# ---------------------------------------------------------------------------------------- readers


def _read(
    data: bytes,
    header: Header | TiffLayout,
    bands: tuple[int, ...] | None,
    bit_depth: int | None,
) -> Picture:
    """Read an image file of which the header is known, with the reader for it."""
    if isinstance(header, TiffLayout):
        return _read_tif(data, header, bands)
    if header.kind == JP2:
        return _read_jp2(data, header, bands, bit_depth)
    return _read_with_opencv(data, header, bands, bit_depth)


def _read_with_opencv(
    data: bytes, header: Header, bands: tuple[int, ...] | None, bit_depth: int | None
) -> Picture:
    """Read a jpeg, png, webp or bmp file as cv2.imread does.

    Where the model takes a file's alpha as a band, the bands are as they are stored.
    """
    flags, orientation = cv2.IMREAD_COLOR, 1
    if header.kind == PNG:
        data = lean_png(data)
        if header.bits == 16 and bit_depth is not None:
            flags |= cv2.IMREAD_ANYDEPTH
    is_alpha_wanted = bands is not None and header.bands in (2, 4) and max(bands) == header.bands
    if is_alpha_wanted and header.kind in (PNG, WEBP):
        flags = cv2.IMREAD_UNCHANGED
        orientation = read_orientation(exif_of(data, header.kind))
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise UndecodableChip(DAMAGED)
    channels = _CHANNELS_OF_OPENCV if header.bands > 2 else {1: 0}
    if is_alpha_wanted and pixels.ndim == 3 and pixels.shape[2] == 4:
        channels = {**channels, header.bands: 3}
    return Picture(
        pixels,
        len(channels),
        channels,
        8 * pixels.itemsize,
        file_bits=header.bits,
        repeated=(0, 1, 2),
        orientation=orientation,
    )


def _read_tif(data: bytes, layout: TiffLayout, bands: tuple[int, ...] | None) -> Picture:
    """Read a tif file that passed the gate."""
    number = 3 if layout.is_converted else layout.bands
    if layout.reader is Reader.GDAL:
        read = _bands_to_read(number, bands)
        pixels, uses, _ = _bands_of_gdal(data, "GTiff", read)
        if layout.is_converted and not {"red", "green", "blue"}.issuperset(uses):
            raise UndecodableChip(
                f"photometric interpretation {layout.photometric} is not supported in this layout"
            )
    else:
        read = tuple(range(1, number + 1))
        pixels = _bands_of_libtiff(data, layout)
    if pixels.shape != (layout.height, layout.width, len(read)):
        raise UndecodableChip(DAMAGED)
    bits = layout.bits
    if layout.photometric == PALETTE:
        pixels, bits = layout.colormap[pixels[..., 0]], 8
        number, read = 3, (1, 2, 3)
    elif layout.photometric == WHITE_IS_ZERO:
        pixels = pixels.dtype.type(2**bits - 1) - pixels
    return Picture(
        pixels,
        number,
        {band: channel for channel, band in enumerate(read)},
        bits,
        is_signed=layout.kind != UNSIGNED,
        file_bits=layout.bits,
        orientation=layout.orientation,
    )


def _bands_of_libtiff(data: bytes, layout: TiffLayout) -> np.ndarray:
    """Read the bands of a tif file with libtiff, (H, W, N), of the file's type."""
    from imagecodecs import tiff_decode  # not before a chip needs it

    out = None
    if layout.compression in DEFLATE:
        # Of a strip with more rows than it should have, libtiff leaves the last pixels as they are
        # (ZIPDecode): they are not to be what was in memory, such as another chip.
        out = bytearray(layout.width * layout.height * layout.bands * layout.sample_bytes)
    try:
        pixels = tiff_decode(data, out=out)
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged file makes it come upon
        raise UndecodableChip(DAMAGED) from error
    if pixels.dtype == bool:
        pixels = pixels.view(np.uint8)
    if layout.bands == 1:
        return pixels.reshape(pixels.shape[-2:])[..., None]
    return np.moveaxis(pixels, 0, -1) if layout.is_planar else pixels


def _bands_to_read(number: int, bands: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return those of a file's bands that are needed, in their order; see decode_chip."""
    if number <= 2 and (bands is None or max(bands) > number):
        return (1,)
    return tuple(band for band in range(1, number + 1) if band in (bands or BGR))


def _bands_of_gdal(
    data: bytes, driver: str, bands: tuple[int, ...]
) -> tuple[np.ndarray, list[str], np.ndarray | None]:
    """Read as read_with_gdal does; raises UndecodableChip where it cannot."""
    try:
        return read_with_gdal(data, driver, bands)
    except Unreadable as error:
        raise UndecodableChip(DAMAGED) from error


def _read_jp2(
    data: bytes, header: Header, bands: tuple[int, ...] | None, bit_depth: int | None
) -> Picture:
    """Read a jp2 file with GDAL's JP2OpenJPEG driver."""
    if header.is_signed and bit_depth is None:
        raise UndecodableChip(
            f"the jp2 has signed values of {header.bits} bits: set the port bit_depth, or write "
            "chips of 8 bits"
        )
    read = _bands_to_read(header.bands, bands)
    pixels, uses, colors = _bands_of_gdal(data, "JP2OpenJPEG", read)
    if pixels.shape != (header.height, header.width, len(read)):
        raise UndecodableChip(DAMAGED)
    bits = header.bits
    if uses == ["palette"] and colors is not None and pixels.dtype == np.uint8:
        return Picture(colors[pixels[..., 0]], 3, {1: 0, 2: 1, 3: 2})
    channels = {band: channel for channel, band in enumerate(read)}
    return Picture(pixels, header.bands, channels, bits, header.is_signed, file_bits=bits)


# ------------------------------------------------------------------------------- bands and depths


def _develop(picture: Picture, bands: tuple[int, ...] | None, bit_depth: int | None) -> np.ndarray:
    """Make the result of decode_chip, uint8 (H, W, N), of a file's content."""
    if _loses_8_bits(picture, bit_depth) and picture.pixels.shape[-1] <= 4:
        # Before bands are taken: what follows has half the bytes to go through.
        picture = picture._replace(pixels=_upper_8_bits(picture.pixels), bits=8)
    if bands is not None:
        channels = _channels(picture, bands)
    else:
        channels = _channels(picture, BGR if picture.number > 2 else (1,))
    pixels = _to_8_bits(_take(picture.pixels, channels), picture, bit_depth)
    if bands is None and picture.number > 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)[..., None]
    return _upright(pixels, picture.orientation)


def _channels(picture: Picture, bands: tuple[int, ...]) -> tuple[int, ...]:
    """Return the channels of a picture that hold the bands asked for.

    Raises UndecodableChip if it lacks one.
    """
    number = picture.number
    if max(bands) <= number:
        return tuple([picture.channels[band] for band in bands])
    if number <= 2 and len(bands) == 3 and max(bands) == 3:
        return picture.repeated
    raise UndecodableChip(
        f"the chip has {number} band(s), but band {max(bands)} is to be read: see the port bands"
    )


def _take(pixels: np.ndarray, channels: tuple[int, ...]) -> np.ndarray:
    """Return channels of an image, contiguous, (H, W, N) in their order."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if channels == _IN_ORDER[: pixels.shape[2]]:
        return np.ascontiguousarray(pixels)
    if not pixels.flags.c_contiguous or pixels.shape[2] > MOST_CHANNELS:
        return np.ascontiguousarray(pixels[..., channels])
    if (
        channels == (2, 1, 0)
        and pixels.shape[2] in (3, 4)
        and pixels.dtype in (np.uint8, np.uint16)
    ):
        return cv2.cvtColor(pixels, _QUICK_REVERSALS[pixels.shape[2]])
    out = np.empty((*pixels.shape[:2], len(channels)), pixels.dtype)
    cv2.mixChannels([pixels], [out], [n for pair in zip(channels, range(99)) for n in pair])
    return out


def _to_8_bits(pixels: np.ndarray, picture: Picture, bit_depth: int | None) -> np.ndarray:
    """Scale the values of a picture, as decode_chip says, to uint8."""
    if picture.bits == 8 and not picture.is_signed:
        return pixels
    if _loses_8_bits(picture, bit_depth):
        return _upper_8_bits(pixels)
    depth = picture.bits if picture.bits < 8 or bit_depth is None else bit_depth
    if picture.is_signed:
        pixels = np.maximum(pixels, 0).view(pixels.dtype.str.replace("i", "u"))
    if pixels.itemsize == 4:
        top = 2**depth - 1
        return np.round(np.minimum(pixels, top) * (255 / top)).astype(np.uint8)
    return cv2.LUT(pixels, _table(pixels.dtype, depth)).reshape(pixels.shape)


def _loses_8_bits(picture: Picture, bit_depth: int | None) -> bool:
    """Return whether of 16 bits the upper 8 are taken."""
    return picture.bits == 16 and not picture.is_signed and bit_depth is None


def _upper_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Return value // 256 of uint16 (H, W, N), uint8.

    As OpenCV computes it, which lets other threads run meanwhile: it rounds (value - 127.5) / 256,
    which is never half way.
    """
    rows = pixels.reshape(len(pixels), -1)
    return cv2.convertScaleAbs(rows, alpha=1 / 256, beta=-127.5 / 256).reshape(pixels.shape)


@functools.cache
def _table(kind: np.dtype, depth: int) -> np.ndarray:
    """Return for each value of an unsigned type the 8-bit value, uint8; see decode_chip."""
    values, top = np.arange(np.iinfo(kind).max + 1, dtype=np.int64), 2**depth - 1
    return ((np.minimum(values, top) * 510 + top) // (2 * top)).astype(np.uint8)  # half: up


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image (H, W, N) upright by its TIFF tag 274."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def warp(pixels: np.ndarray, out: np.ndarray) -> None:
    """Warp a chip to the size of `out`, bilinear, all bands, as cv2.resize does.

    Args:
        pixels: uint8 (H, W, N).
        out: uint8 (rows, columns, N), contiguous; receives the result.
    """
    if pixels.shape == out.shape:
        out[...] = pixels
        return
    size, bands = out.shape[1::-1], out.shape[2]
    if bands <= MOST_CHANNELS:
        cv2.resize(pixels, size, dst=out, interpolation=cv2.INTER_LINEAR)
        return
    for band in range(bands):
        out[..., band] = cv2.resize(
            np.ascontiguousarray(pixels[..., band]), size, interpolation=cv2.INTER_LINEAR
        )
