"""GDAL, through rasterio, as a reader of bytes in memory that reaches nothing else.

Loaded when the first chip needs it: that takes time and memory.
"""

import contextlib
import functools
import logging
import re
import sys
import threading
import warnings
from collections.abc import Sequence
from types import ModuleType

import numpy as np

# No look at neighbouring files, even of those in memory; no threads beyond the task's; a cache for
# one chip at a time; see the page "Configuration options" of GDAL's documentation.
OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_NUM_THREADS": "1",
    "GDAL_CACHEMAX": 64,
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_GEOREF_SOURCES": "INTERNAL",
}


# What libjpeg in GDAL says of data that it makes up pixels for (see isolation.py): the strips of a
# tif are exact, no program fills them up.
_DAMAGE = re.compile(
    r"Corrupt JPEG data: (?!\d extra)|Premature end of JPEG|Inconsistent progression"
)


class Unreadable(Exception):
    """GDAL does not read the file, for whatever reason."""


class _Said(logging.Handler):
    """Keeps what GDAL says in each thread: its own threads are off, so it is about one file.

    sentences: those of this thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self._of_thread = threading.local()

    @property
    def sentences(self) -> list[str]:
        return self._of_thread.__dict__.setdefault("sentences", [])

    def emit(self, record: logging.LogRecord) -> None:
        self.sentences.append(record.getMessage())


_SAID = _Said()


@functools.cache
def load_rasterio() -> ModuleType:
    """Load rasterio, whose warnings and messages are kept from the log."""
    # rasterio loads Amazon's library where it is installed: twice its own time, for nothing.
    is_hidden = sys.modules.setdefault("boto3", None) is None
    import rasterio

    if is_hidden:
        sys.modules.pop("boto3", None)  # several threads may load it at a time
    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    logger = logging.getLogger("rasterio")
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    logger.addHandler(_SAID)
    return rasterio


def read_with_gdal(
    data: bytes, driver: str, bands: Sequence[int]
) -> tuple[np.ndarray, list[str], np.ndarray | None]:
    """Read bands of an image file.

    Only those that are needed: GDAL may decode all of them anew for each.

    Args:
        data: the bytes of the file.
        driver: the one driver of GDAL that is to look at it.
        bands: their numbers, counted from 1.
    Returns:
        The bands (H, W, N) of the file's type, not turned by its orientation; what each is for
        ("red", "palette", "undefined", ...); the first band's colors, uint8 (256, 3), R, G, B, or
        None.
    Raises:
        Unreadable: GDAL does not read it.
        MemoryError: memory is short.
    """
    rasterio = load_rasterio()
    _SAID.sentences.clear()
    try:
        with (
            rasterio.Env(**OPTIONS),
            rasterio.MemoryFile(data) as file,
            file.open(driver=driver) as image,
        ):
            pixels = image.read(list(bands))
            uses = [image.colorinterp[band - 1].name for band in bands]
            colors = None
            with contextlib.suppress(ValueError):  # the band has none
                table = image.colormap(1)
                colors = np.array([table.get(n, (0, 0, 0))[:3] for n in range(256)], np.uint8)
        if any(map(_DAMAGE.search, _SAID.sentences)):
            raise Unreadable("; ".join(_SAID.sentences))
        return np.moveaxis(pixels, 0, -1), uses, colors
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged file makes it come upon
        raise Unreadable(str(error)) from error
