"""An image file's content, and what is done to pixels without knowing where they come from."""

import functools
from typing import NamedTuple

import cv2
import numpy as np

from chip_classifier import MAX_CHIP_BANDS

MOST_CHANNELS = 128  # of an image of OpenCV's (CV_CN_MAX)
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


def take(pixels: np.ndarray, channels: tuple[int, ...]) -> np.ndarray:
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


def upper_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Return value // 256 of uint16 (H, W, N), uint8.

    As OpenCV computes it, which lets other threads run meanwhile: it rounds (value - 127.5) / 256,
    which is never half way.
    """
    rows = pixels.reshape(len(pixels), -1)
    return cv2.convertScaleAbs(rows, alpha=1 / 256, beta=-127.5 / 256).reshape(pixels.shape)


def scale_to_8_bits(pixels: np.ndarray, depth: int) -> np.ndarray:
    """Return value x 255 / (2^depth - 1) of unsigned values, rounded and clipped, uint8."""
    if pixels.itemsize == 4:
        top = 2**depth - 1
        return np.round(np.minimum(pixels, top) * (255 / top)).astype(np.uint8)
    return cv2.LUT(pixels, _table(pixels.dtype, depth)).reshape(pixels.shape)


@functools.cache
def _table(kind: np.dtype, depth: int) -> np.ndarray:
    """Return for each value of an unsigned type the 8-bit value, uint8; see scale_to_8_bits."""
    values, top = np.arange(np.iinfo(kind).max + 1, dtype=np.int64), 2**depth - 1
    return ((np.minimum(values, top) * 510 + top) // (2 * top)).astype(np.uint8)  # half: up


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
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
