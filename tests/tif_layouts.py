"""Tif files of every layout that GDAL, tifffile and Pillow (libtiff) write, and some odd ones.

    python tests/tif_layouts.py     reads them all and prints what became of them

Each is read as GDAL reads it, or refused by a reason that names the property; see `outcome`.
"""

import contextlib
import io
import itertools
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
import tifffile
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chip_classifier.decode import Decoder
from chip_classifier.errors import UndecodableChip
from chip_files import decode_chip
from tif_reference import read_numbers, read_tif

ROWS, COLUMNS = 23, 37  # no multiple of anything: of a tile, of 8 bits
BANDS = (1, 2, 3, 4, 5, 8)

# Type, bits: all that a tif of GDAL's can have; of the half-used ones, some.
DEPTHS = (
    *(("uint8", bits) for bits in (1, 2, 4, 5, 7, 8)),
    *(("uint16", bits) for bits in (9, 10, 11, 12, 14, 15, 16)),
    *(("uint32", bits) for bits in (20, 32)),
    *((kind, None) for kind in ("int8", "int16", "int32", "uint64")),
    *((kind, None) for kind in ("float32", "float64", "complex64", "complex_int16")),
    ("float32", 16),
)
# What GDAL's wheel writes; predictors 2 and 3 where they are allowed.
COMPRESSIONS = (
    *(("NONE", 1), ("PACKBITS", 1), ("LZMA", 1), ("LERC", 1), ("LERC_ZSTD", 1), ("WEBP", 1)),
    *(("LZW", 1), ("LZW", 2), ("LZW", 3), ("DEFLATE", 1), ("DEFLATE", 2), ("DEFLATE", 3)),
    *(("ZSTD", 1), ("ZSTD", 2), ("JPEG", 1), ("JXL", 1)),
    *(("CCITTRLE", 1), ("CCITTFAX3", 1), ("CCITTFAX4", 1), ("LERC_DEFLATE", 1)),
)
Layout = tuple[str, bytes]


def values(bands: int, kind: str, bits: int | None) -> np.ndarray:
    """Make (bands, ROWS, COLUMNS) of a type, over its whole range; smooth, with some noise."""
    rng = np.random.default_rng(bands)
    ramp = np.linspace(0, 1, ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    image = np.stack([np.roll(ramp, 97 * band) for band in range(bands)])
    image = np.clip(image + rng.normal(0, 0.02, image.shape), 0, 1)
    if kind == "complex_int16":
        return (image * 1000).astype(np.complex64)
    kind_of = np.dtype(kind)
    if kind_of.kind not in "iu":
        return (image * 1000).astype(kind_of)
    top = 2 ** (bits or min(8 * kind_of.itemsize, 62)) - 1
    return (image * top).astype(np.int64 if top < 2**62 else np.uint64).astype(kind_of)


def gdal_tif(image: np.ndarray, **options: object) -> bytes | None:
    """Write (bands, rows, columns) with GDAL; None where it refuses."""
    try:
        with rasterio.MemoryFile() as file:
            with file.open(
                driver=options.pop("driver", "GTiff"),
                width=image.shape[2],
                height=image.shape[1],
                count=len(image),
                dtype=options.pop("dtype", image.dtype),
                **options,
            ) as tif:
                tif.write(image)
            return bytes(file.getbuffer())
    except (rasterio.errors.RasterioError, rasterio._err.CPLE_BaseError, TypeError, ValueError):
        return None


def gdal_layouts(step: int = 1) -> Iterator[Layout]:
    """Bands x depth x interleaving x strips or tiles x compression, written by GDAL.

    Byte order and BigTIFF go round. Of each `step` layouts one is written.
    """
    turn = itertools.cycle(itertools.product(("LITTLE", "BIG"), ("NO", "YES", "NO")))
    chosen = itertools.product(DEPTHS, BANDS, ("pixel", "band"), (False, True), COMPRESSIONS)
    for (kind, bits), bands, interleave, is_tiled, (
        compression,
        predictor,
    ) in itertools.islice(chosen, 0, None, step):
        endianness, bigtiff = next(turn)
        options: dict[str, object] = {"compress": compression, "interleave": interleave}
        options |= {"ENDIANNESS": endianness, "BIGTIFF": bigtiff}
        if kind == "complex_int16":
            options["dtype"] = kind
        if bits not in (None, 8, 32) and (kind, bits) != ("uint16", 16):
            options["NBITS"] = bits
        if predictor > 1:
            options["predictor"] = predictor
        options |= {"WEBP_LOSSLESS": "YES"} if compression == "WEBP" else {}
        if is_tiled:
            options |= {"tiled": True, "blockxsize": 32, "blockysize": 16}
        data = gdal_tif(values(bands, kind, bits), **options)
        if data is not None:
            shape = f"{bands} {kind}/{bits} {interleave} {'tiles' if is_tiled else 'strips'}"
            yield f"gdal {shape} {compression}/{predictor} {endianness} {bigtiff}", data


def gdal_photometrics() -> Iterator[Layout]:
    """Colour spaces, palettes, alpha, masks, overviews, holes and nodata, written by GDAL."""
    for space, bands, compression, is_tiled in itertools.product(
        ("MINISBLACK", "MINISWHITE", "RGB", "CMYK", "YCBCR", "CIELAB", "ICCLAB", "ITULAB"),
        (1, 2, 3, 4, 5),
        ("NONE", "LZW", "JPEG", "WEBP"),
        (False, True),
    ):
        tiles = {"tiled": True, "blockxsize": 32, "blockysize": 16} if is_tiled else {}
        image = values(bands, "uint8", 8)
        data = gdal_tif(image, photometric=space, compress=compression, **tiles)
        if data is not None:
            yield f"gdal {space} {bands} {compression} {is_tiled}", data
    for alpha, bands in itertools.product(
        ("YES", "NO", "PREMULTIPLIED", "NON-PREMULTIPLIED", "UNSPECIFIED"), (2, 4, 5)
    ):
        for kind, bits in (("uint8", 8), ("uint16", 16)):
            data = gdal_tif(values(bands, kind, bits), ALPHA=alpha)
            yield f"gdal alpha {alpha} {bands} {kind}", data
    for bits, bands in itertools.product((1, 2, 4, 8, 16), (1, 2)):
        yield f"gdal palette {bits} bits, {bands} band(s)", _palette(bits, bands)
    yield from _gdal_with_holes()
    for mask, overviews, driver in itertools.product(
        (False, True), (False, True), ("GTiff", "COG")
    ):
        data = _with_mask_and_overviews(mask, overviews, driver)
        yield f"gdal mask {mask} overviews {overviews} {driver}", data


def _palette(bits: int, bands: int) -> bytes:
    kind = "uint16" if bits == 16 else "uint8"
    options = {} if bits in (8, 16) else {"NBITS": bits}
    rng = np.random.default_rng(bits)
    with rasterio.MemoryFile() as file:
        with file.open(
            driver="GTiff", width=COLUMNS, height=ROWS, count=bands, dtype=kind, **options
        ) as tif:
            colors = rng.integers(0, 256, (2 ** min(bits, 8), 3)).tolist()
            tif.write_colormap(1, dict(enumerate(map(tuple, colors))))
            tif.write(values(bands, kind, min(bits, 8)))
        return bytes(file.getbuffer())


def _gdal_with_holes() -> Iterator[Layout]:
    for (kind, bits), interleave, is_tiled, compression, nodata in itertools.product(
        (("uint8", 8), ("uint16", 16), ("uint16", 12), ("int16", None), ("uint8", 1)),
        ("pixel", "band"),
        (False, True),
        ("NONE", "LZW", "JPEG", "LERC"),
        (None, 0, 1, 200),
    ):
        options: dict[str, object] = {"compress": compression, "interleave": interleave}
        options |= {"tiled": True, "blockxsize": 16, "blockysize": 16} if is_tiled else {}
        options |= {"NBITS": bits} if bits in (1, 12) else {}
        image = values(3, kind, bits)
        with rasterio.MemoryFile() as file:
            try:
                with file.open(
                    driver="GTiff",
                    width=COLUMNS,
                    height=ROWS,
                    count=3,
                    dtype=kind,
                    nodata=nodata,
                    SPARSE_OK="TRUE",
                    **{"blockysize": 16, **options},
                ) as tif:
                    tif.write(image[:, :16, :16], window=((0, 16), (0, 16)))
            except rasterio.errors.RasterioError:
                continue
            yield f"gdal holes {kind}/{bits} {options} nodata {nodata}", bytes(file.getbuffer())


def _with_mask_and_overviews(has_mask: bool, has_overviews: bool, driver: str) -> bytes:
    image = values(3, "uint8", 8)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.MemoryFile() as file:
        size = {"width": COLUMNS, "height": ROWS, "count": 3, "dtype": "uint8"}
        with file.open(driver="GTiff", tiled=True, blockxsize=16, blockysize=16, **size) as tif:
            tif.write(image)
            if has_mask:
                tif.write_mask(image[0] > 99)
            if has_overviews:
                tif.build_overviews([2, 4])
        if driver == "COG":
            with rasterio.MemoryFile() as copy:
                rasterio.shutil.copy(file.name, copy.name, driver="COG", BLOCKSIZE=128)
                return bytes(copy.getbuffer())
        return bytes(file.getbuffer())


def tifffile_tif(image: np.ndarray, **options: object) -> bytes | None:
    """Write an image with tifffile; None where it refuses."""
    file = io.BytesIO()
    whole = {name: options.pop(name) for name in ("byteorder", "bigtiff") if name in options}
    try:
        with tifffile.TiffWriter(file, **whole) as writer:
            writer.write(image, metadata=None, **options)
    except (ValueError, TypeError, KeyError, NotImplementedError, RuntimeError, ImportError):
        return None
    return file.getvalue()


def tifffile_layouts() -> Iterator[Layout]:
    """ExtraSamples, orientations, compressions, colour spaces and pages, written by tifffile."""
    yield from _extra_samples()
    yield from _orientations()
    yield from _compressions()
    yield from _color_spaces()
    yield from _pages()


def _extra_samples() -> Iterator[Layout]:
    for kinds in itertools.product((0, 1, 2), repeat=2):
        for photometric, bands in (("rgb", 3), ("minisblack", 1)):
            for count, kind in itertools.product((1, 2), (np.uint8, np.uint16)):
                image = np.moveaxis(values(bands + count, np.dtype(kind).name, None), 0, -1).copy()
                extra = kinds[:count]
                data = tifffile_tif(
                    image, photometric=photometric, extrasamples=extra, planarconfig="contig"
                )
                if data is not None:
                    yield f"tifffile {photometric} extra {extra} {np.dtype(kind).name}", data


def _orientations() -> Iterator[Layout]:
    for orientation, bands, kind, order in itertools.product(
        (*range(10), 65535), (1, 3, 4), ("uint8", "uint16"), "<>"
    ):
        image = np.moveaxis(values(bands, kind, None), 0, -1).copy()
        image = image[..., 0] if bands == 1 else image
        data = tifffile_tif(
            image,
            photometric="minisblack" if bands == 1 else "rgb",
            extratags=[(274, "H", 1, orientation, True)],
            byteorder=order,
        )
        yield f"tifffile orientation {orientation} {bands} {kind} {order}", data


def _compressions() -> Iterator[Layout]:
    for compression, kind, bands, is_tiled in itertools.product(
        (
            *("jpeg", "jpeg2000", "jpegxl", "jpegxr", "png", "webp", "lerc", "zstd", "lzma"),
            *("lzw", "deflate", "adobe_deflate", "packbits", "jpegxl_dng", "lossy_jpeg"),
            *("aperio_jp2000_rgb", "eer_v0", "pixtiff", "packints"),
        ),
        ("uint8", "uint16", "int16", "float32"),
        (1, 3, 4),
        (False, True),
    ):
        image = np.moveaxis(values(bands, kind, None), 0, -1).copy()
        data = tifffile_tif(
            image[..., 0] if bands == 1 else image,
            photometric="minisblack" if bands == 1 else "rgb",
            compression=compression,
            tile=(16, 32) if is_tiled else None,
        )
        if data is not None:
            yield f"tifffile {compression} {kind} {bands} {is_tiled}", data


def _color_spaces() -> Iterator[Layout]:
    for space, bands, kind, planar in itertools.product(
        ("miniswhite", "minisblack", "rgb", "separated", "ycbcr", "cielab", "icclab", "itulab")
        + ("logl", "logluv", "cfa", "linear_raw", "mask", "palette"),
        (1, 3, 4, 5),
        ("uint8", "uint16", "int8", "float16", "uint64", "complex128"),
        ("contig", "separate"),
    ):
        image = values(bands, kind, None)
        data = tifffile_tif(
            image[0]
            if bands == 1
            else np.moveaxis(image, 0, -1).copy()
            if planar == "contig"
            else image,
            photometric=space,
            planarconfig=planar if bands > 1 else None,
            colormap=np.arange(768, dtype=np.uint16).reshape(3, 256) * 65
            if space == "palette"
            else None,
        )
        if data is not None:
            yield f"tifffile {space} {bands} {kind} {planar}", data
    for subsampling in ((1, 1), (2, 1), (2, 2), (4, 2)):
        image = np.moveaxis(values(3, "uint8", 8), 0, -1).copy()
        data = tifffile_tif(image, photometric="ycbcr", compression="jpeg", subsampling=subsampling)
        yield f"tifffile ycbcr jpeg {subsampling}", data


def _pages() -> Iterator[Layout]:
    image = np.moveaxis(values(3, "uint8", 8), 0, -1).copy()
    for subifds in (0, 2):
        file = io.BytesIO()
        with tifffile.TiffWriter(file) as writer:
            writer.write(image, photometric="rgb", subifds=subifds, metadata=None)
            for step in range(2):
                half = image[:: 2 + step, :: 2 + step].copy()
                writer.write(half, photometric="rgb", subfiletype=1, metadata=None)
        yield f"tifffile pages, {subifds} of them below the first", file.getvalue()


def pillow_layouts() -> Iterator[Layout]:
    """Fax, JPEG and what else libtiff writes through Pillow."""
    rgb = Image.fromarray(np.moveaxis(values(3, "uint8", 8), 0, -1).copy())
    modes = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F")
    compressions = ("raw", "group3", "group4", "tiff_ccitt", "tiff_jpeg", "jpeg", "tiff_lzw")
    compressions += (
        "tiff_adobe_deflate",
        "tiff_deflate",
        "packbits",
        "tiff_raw_16",
        "zstd",
        "webp",
    )
    for mode, compression in itertools.product(modes, (*compressions, "lzma", "tiff_sgilog")):
        try:
            if mode == "I;16":
                image = Image.fromarray(values(1, "uint16", 16)[0])
            elif mode == "LAB":
                image = Image.fromarray(np.asarray(rgb), "RGB").convert("RGB")
                image = Image.frombytes("LAB", image.size, image.tobytes())
            else:
                image = rgb.convert(mode)
            file = io.BytesIO()
            image.save(file, "TIFF", compression=compression)
        except (ValueError, KeyError, OSError, RuntimeError):
            continue
        yield f"pillow {mode} {compression}", file.getvalue()


def patched(data: bytes, **changes: int) -> bytes:
    """Write other numbers into tags of a small little-endian tif; names as in tifffile."""
    file = io.BytesIO(data)
    with tifffile.TiffFile(file, mode="r+") as tif:
        for name, value in changes.items():
            tif.pages[0].tags[name].overwrite(value)
    return file.getvalue()


def odd_layouts() -> Iterator[Layout]:
    """Declarations that no writer makes, or that are not sound."""
    image = np.moveaxis(values(3, "uint8", 8), 0, -1).copy()
    four = np.moveaxis(values(4, "uint8", 8), 0, -1).copy()
    rgb = tifffile_tif(image, photometric="rgb", rowsperstrip=8)
    grey = tifffile_tif(image[..., 0].copy(), photometric="minisblack")
    rgba = tifffile_tif(four, photometric="rgb", extrasamples=[0])
    for value in (*range(11), 32803, 32844, 32845, 34892, 40000, 65535):
        for name, data in (("rgb", rgb), ("grey", grey), ("rgba", rgba)):
            yield f"odd photometric {value} {name}", patched(data, PhotometricInterpretation=value)
    for value in (*range(2, 12), 99, 32766, 32767, 32771, 32809, 32895, 32908, 32909, 32946, 34661):
        yield f"odd compression {value}", patched(rgb, Compression=value)
    for value in (34663, 34676, 34677, 34712, 34713, 34892, 34925, 50000, 50003, 65000, 65535):
        yield f"odd compression {value}", patched(rgb, Compression=value)
    for value in (*range(5), 3, 4, 999, 65535):
        yield f"odd extra sample {value}", patched(rgba, ExtraSamples=value)
    for value in ((5, 6, 5), (8, 8, 16), (0, 0, 0), (64, 64, 64), (8, 8, 65535)):
        yield f"odd bits {value}", patched(rgb, BitsPerSample=value)
    for value in (0, 1, 3, 4, 7, 16, 24, 32, 64, 128, 65535):
        yield f"odd bits {value}", patched(grey, BitsPerSample=value)
    for value in (0, 3, 65535):
        yield f"odd planar {value}", patched(rgb, PlanarConfiguration=value)
    jpeg = gdal_tif(values(1, "uint8", 8), compress="JPEG")
    for value in (0, 1, 2, 4, 5, 65535):
        yield f"odd samples {value}", patched(rgb, SamplesPerPixel=value)
    for value in (2, 3, 4, 5, 40):  # GDAL itself decodes a jpeg of 65,535 bands for hours
        yield f"odd samples of a jpeg {value}", patched(jpeg, SamplesPerPixel=value)
    for value in (0, 1, 7, 9, 24, 2**31, 2**32 - 1):
        yield f"odd rows per strip {value}", patched(rgb, RowsPerStrip=value)
    for name, value in itertools.product(
        ("ImageWidth", "ImageLength"), (0, 1, 17, 60, 30000, 2**31)
    ):
        yield f"odd {name} {value}", patched(rgb, **{name: value})


def all_layouts(step: int = 1) -> Iterator[Layout]:
    """All of the above, or of each `step` layouts one."""
    yield from gdal_layouts(step)  # to write all of these takes longer than all the others
    others = (gdal_photometrics, tifffile_layouts, pillow_layouts, odd_layouts)
    yield from itertools.islice(itertools.chain(*(writer() for writer in others)), 0, None, step)


# Strips that are too short for what the tags say; GDAL makes something of them.
UNSOUND = ("odd rows per strip 9",)

# A jpeg's values are rounded one way in one build of its library, and another way in others.
LOSSY = ("JPEG", "jpeg", "webp", "WEBP", "YCBCR", "ycbcr")


def outcome(name: str, data: bytes, bands: tuple[int, ...], bit_depth: int | None) -> str:
    """Tell what became of a layout as 8 bits.

    Returns:
        "as GDAL reads it"; "refused: ..." with the reason, its numbers left out; "refused: as by
        GDAL" where GDAL reads nothing either; or "DIFFERENT: ..." for what must not be: other
        pixels than GDAL's, pixels where GDAL has none, or a file called damaged that GDAL reads.
    """
    return _compare(
        name,
        lambda: read_tif(data, bands, bit_depth),
        lambda: decode_chip(data, bands, bit_depth),
    )


def outcome_of_numbers(name: str, data: bytes) -> str:
    """Tell what became of a layout as the numbers of the file, of all bands; see outcome."""

    def decode() -> np.ndarray:
        number = 3
        with contextlib.suppress(Exception):  # where GDAL reads nothing
            number = read_numbers(data).shape[2]
        return Decoder(tuple(range(1, number + 1)), values="native").decode(data)

    return _compare(name, lambda: read_numbers(data), decode)


def _compare(name: str, read: Callable[[], np.ndarray], decode: Callable[[], np.ndarray]) -> str:
    """Compare what GDAL reads with what the task decodes; value as of outcome."""
    try:
        expected = read()
    except Exception as error:  # noqa: BLE001, whatever it is, there are no pixels to compare with
        expected = error
    try:
        pixels = decode()
    except UndecodableChip as refusal:
        reason = str(refusal)
        if "damaged" not in reason:
            return f"refused: {reason}"
        if isinstance(expected, Exception):
            return "refused: as by GDAL"
        if name in UNSOUND:
            return "refused: not sound"
        return f"DIFFERENT: GDAL reads it, here {reason}"
    except Exception as error:  # noqa: BLE001, an error of the task's own
        return f"DIFFERENT: {error!r}"
    if isinstance(expected, Exception):
        return f"DIFFERENT: read, but not by GDAL ({expected})"
    tolerance = 1 if any(part in name for part in LOSSY) else 0
    if pixels.shape != expected.shape:
        return f"DIFFERENT: {pixels.shape} instead of {expected.shape}"
    distance = np.abs(pixels.astype(np.float64) - expected).max()
    return "as GDAL reads it" if distance <= tolerance else f"DIFFERENT: by up to {distance}"


def survey() -> tuple[Counter, Counter, list[str]]:
    """Read all layouts as they come, with bands and bit_depth chosen, and as numbers.

    Returns:
        The number of layouts of each outcome as they come, the same as numbers, and those that are
        at fault in any way.
    """
    outcomes, of_numbers, faults = Counter(), Counter(), []
    choices = itertools.cycle((((1,), 11), ((4, 2, 1, 3), 11), ((2, 1, 3), 12)))
    for name, data in all_layouts():
        result, numbers = outcome(name, data, (3, 2, 1), None), outcome_of_numbers(name, data)
        outcomes[result] += 1
        of_numbers[numbers] += 1
        bands, bit_depth = next(choices)
        for found in (result, numbers, outcome(name, data, bands, bit_depth)):
            if found.startswith("DIFFERENT"):
                faults.append(f"{name} {bands} {bit_depth}: {found}")
    return outcomes, of_numbers, faults


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable()
    outcomes, of_numbers, faults = survey()
    for title, counted in (("8 bits", outcomes), ("numbers", of_numbers)):
        for result, number in counted.most_common():
            print(f"{number:6,}  {result}")
        refused = sum(number for result, number in counted.items() if result.startswith("refused"))
        print(f"as {title}: {counted.total():,} layouts, {refused:,} of them refused")
    print(f"{len(faults)} at fault")
    for fault in faults:
        print(fault)
