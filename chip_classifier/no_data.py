"""Which pixels of a chip have no data: they are nodata in all bands, or fully transparent."""

import cv2
import numpy as np

from chip_classifier.image_header import PNG, WEBP, Header

NO_DATA = "it has no data"

# Share of a chip's pixels above which those without data are counted.
MUCH = 0.5


def share_of_nodata(pixels: np.ndarray, nodata: float | None) -> float:
    """Return the share of pixels (H, W, N) that are nodata, which may be NaN, in all bands."""
    if nodata is None:
        return 0.0

    if pixels.dtype.kind != "f" and not _is_of_type(nodata, pixels.dtype):
        return 0.0

    def is_nodata(values: np.ndarray) -> np.ndarray:
        return np.isnan(values) if np.isnan(nodata) else values == value

    with np.errstate(over="ignore"):  # nodata of float64 in a file of float32: infinite
        value = pixels.dtype.type(nodata)
    found = is_nodata(pixels[..., 0])
    return float(is_nodata(pixels[found]).all(axis=1).sum()) / found.size if found.any() else 0.0


def _is_of_type(value: float, kind: np.dtype) -> bool:
    """Return whether a type of whole numbers has a value."""
    return value.is_integer() and np.iinfo(kind).min <= value <= np.iinfo(kind).max


def share_of_transparent(alpha: np.ndarray) -> float:
    """Return the share of pixels whose alpha (H, W) is 0."""
    return 1 - np.count_nonzero(alpha) / alpha.size


def declares_alpha(data: bytes, header: Header) -> bool:
    """Return whether a png or webp file has an alpha, or a png a transparent color."""
    if header.kind not in (PNG, WEBP):
        return False
    is_keyed = header.kind == PNG and data.find(b"tRNS", 33, data.find(b"IDAT")) > 0
    return header.bands in (2, 4) or is_keyed


def alpha_of(data: bytes) -> np.ndarray | None:
    """Return the alpha (H, W) of a png or webp file that declares one; None if there is none."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    has_alpha = pixels is not None and pixels.ndim == 3 and pixels.shape[2] == 4
    return pixels[..., 3] if has_alpha else None
