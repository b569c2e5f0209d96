"""Tif files read by others than the task: values by GDAL, tags by tifffile.

What docs say of the values is applied to what rasterio reads, in plain numpy.
"""

import functools
import io

import numpy as np
import rasterio
import tifffile

# What turns an image upright that has a value of the TIFF tag 274.
UPRIGHT = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: lambda image: np.rot90(image, 1),
}


@functools.lru_cache(maxsize=2)
def read_bands(data: bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the bands of a tif file (H, W, N) with GDAL's GTiff driver, as they are.

    Also gives the first band's colours (K, 3), R, G, B, if it has a palette.
    """
    with rasterio.MemoryFile(data) as file, file.open(driver="GTiff") as image:
        colors = None
        if image.colorinterp[0].name == "palette":
            table = image.colormap(1)
            colors = np.array([table[n][:3] for n in sorted(table)])
        return np.moveaxis(image.read(), 0, -1), colors


def read_tif(
    data: bytes, bands: tuple[int, ...] = (3, 2, 1), bit_depth: int | None = None
) -> np.ndarray:
    """Read a tif file as docs say that the task does; arguments and result as of decode_chip."""
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        tags = tif.pages[0].tags
        photometric = tags[262].value if 262 in tags else 1
        orientation = int(tags[274].value) if 274 in tags else 1
        bits = np.max(tags[258].value) if 258 in tags else 1
    values, colors = read_bands(data)
    if photometric == 3:
        values, bits = colors[values[..., 0]], 8
    elif photometric in (5, 6, 8):
        values = values[..., :3]  # GDAL made R, G, B of them
    elif photometric == 0:
        values = 2**bits - 1 - values.astype(np.int64)
    depth = bits if bits <= 8 or bit_depth is None else bit_depth
    if bits == 16 and bit_depth is None:
        values = values // 256
    elif bits != 8 or values.dtype == np.int8:
        depth = bit_depth if values.dtype.kind == "i" and bit_depth else depth
        values = np.clip(np.floor(values * (255 / (2.0**depth - 1)) + 0.5), 0, 255)
    if max(bands) > values.shape[2]:
        values = np.repeat(values[..., :1], 3, axis=2)
    values = values[..., [band - 1 for band in bands]].astype(np.uint8)
    return UPRIGHT.get(orientation, UPRIGHT[1])(values)


def read_numbers(data: bytes) -> np.ndarray:
    """Read the numbers of a tif file as docs say that the task does, float32 (H, W, bands)."""
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        tags = tif.pages[0].tags
        is_converted = 262 in tags and tags[262].value in (5, 6, 8)
        orientation = int(tags[274].value) if 274 in tags else 1
    values = read_bands(data)[0][..., : 3 if is_converted else None]
    return UPRIGHT.get(orientation, UPRIGHT[1])(values.astype(np.float32))
