"""What a tif file declares, and who reads it: one gate before any decoder.

The tags of a file's first image are read once (TIFF 6.0, section 2; BigTIFF). The tables below say
which reader takes which layout: libtiff by itself, GDAL, or none, for a reason by name. They can be
checked against TIFF 6.0, the registry of its compressions (libtiff, tiff.h), and the page of GDAL's
GTiff driver. Alpha, near infrared and further bands (ExtraSamples) are bands like others: no tag
makes a reader multiply the colors by them.
"""

import functools
import struct
from dataclasses import dataclass
from enum import Enum

import numpy as np

from chip_classifier import MAX_CHIP_BANDS, MAX_CHIP_BYTES, MAX_CHIP_PIXELS
from chip_classifier.errors import UndecodableChip
from chip_classifier.tiff_tags import MAX_KEPT_BYTES, Directory, read_directory

DAMAGED = "the file is cut off or damaged"

# 8192 x 8192 pixels in the smallest tiles of TIFF 6.0, 16 x 16.
MAX_BLOCKS = 2**18

# By how much the strips or tiles of a sound file may be more than the file, because several are one
# in the file. libtiff copies each.
MAX_SHARED_BYTES = 2**20

# Different layouts that are kept: chips of one archive have few, but where they are compressed.
KEPT_LAYOUTS = 64


class Reader(Enum):
    """Who reads a layout."""

    LIBTIFF = "libtiff, through imagecodecs: quick, in parallel"
    GDAL = "GDAL's GTiff driver, through rasterio"
    NONE = "none"


# Compression (tag 259) -> its name and who reads it.
COMPRESSIONS = {
    1: ("none", Reader.LIBTIFF),
    2: ("CCITT RLE", Reader.GDAL),
    3: ("CCITT fax 3", Reader.GDAL),
    4: ("CCITT fax 4", Reader.GDAL),
    5: ("LZW", Reader.LIBTIFF),
    6: ("JPEG of before 1995", Reader.NONE),
    7: ("JPEG", Reader.GDAL),
    8: ("Deflate", Reader.LIBTIFF),
    32771: ("CCITT RLE, words", Reader.GDAL),
    32773: ("PackBits", Reader.LIBTIFF),
    32946: ("Deflate", Reader.LIBTIFF),
    34661: ("JBIG", Reader.NONE),
    34712: ("JPEG 2000", Reader.NONE),
    34887: ("LERC", Reader.LIBTIFF),
    34892: ("lossy JPEG of DNG", Reader.NONE),
    34925: ("LZMA", Reader.LIBTIFF),
    34933: ("PNG", Reader.NONE),
    34934: ("JPEG XR", Reader.NONE),
    50000: ("ZSTD", Reader.LIBTIFF),
    50001: ("WebP", Reader.LIBTIFF),
    50002: ("JPEG XL", Reader.NONE),
    52546: ("JPEG XL of DNG", Reader.NONE),
}
CCITT, JPEG, DEFLATE, WEBP = (2, 3, 4, 32771), 7, (8, 32946), 50001

# PhotometricInterpretation (tag 262) -> its name and who reads it. What GDAL reads of these, it
# converts to R, G, B, if it has 8 bits.
WHITE_IS_ZERO, PALETTE, CMYK, YCBCR, CIELAB = 0, 3, 5, 6, 8
PHOTOMETRICS = {
    WHITE_IS_ZERO: ("white is zero", Reader.LIBTIFF),
    1: ("black is zero", Reader.LIBTIFF),
    2: ("RGB", Reader.LIBTIFF),
    PALETTE: ("palette", Reader.LIBTIFF),
    4: ("transparency mask", Reader.NONE),
    CMYK: ("CMYK", Reader.GDAL),
    YCBCR: ("YCbCr", Reader.GDAL),
    CIELAB: ("CIELab", Reader.GDAL),
    9: ("ICCLab", Reader.NONE),
    10: ("ITULab", Reader.NONE),
    32803: ("color filter array", Reader.NONE),
    32844: ("LogL", Reader.NONE),
    32845: ("LogLuv", Reader.NONE),
    34892: ("linear raw", Reader.NONE),
}
CONVERTED_BANDS = {CMYK: 4, YCBCR: 3, CIELAB: 3}  # how many bands these have

# SampleFormat (tag 339) -> its name. 4 is "undefined", which all readers take for unsigned.
UNSIGNED, SIGNED, FLOATING = "unsigned", "signed", "floating point"
SAMPLE_FORMATS = {
    1: UNSIGNED,
    2: SIGNED,
    3: FLOATING,
    4: UNSIGNED,
    5: "complex",
    6: "complex",
}

# Tag -> its name here, and its default in TIFF 6.0, None where it has none.
_TAGS = {
    256: ("width", None),
    257: ("height", None),
    258: ("bits", (1,)),
    259: ("compression", (1,)),
    262: ("photometric", (1,)),
    273: ("strip_offsets", ()),
    274: ("orientation", (1,)),
    277: ("bands", (1,)),
    278: ("rows_per_strip", (2**32 - 1,)),
    279: ("strip_counts", ()),
    284: ("planar", (1,)),
    317: ("predictor", (1,)),
    320: ("colormap", ()),
    322: ("tile_width", (0,)),
    323: ("tile_height", (0,)),
    324: ("tile_offsets", ()),
    325: ("tile_counts", ()),
    338: ("extra", ()),
    339: ("sample_format", (1,)),
}
# ExtraSamples: an alpha, by which the colors are multiplied or not.
_ALPHAS = (1, 2)

# GDAL's own tag, a number as text, and the longest such text.
_NODATA, _NODATA_TYPE, _MOST_DIGITS = 42113, 2, 64

# Type of an entry -> its code for struct; those that a whole number may have (TIFF 6.0, page 15;
# 13 is an offset, 16 to 18 are BigTIFF's).
_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


@dataclass(frozen=True, eq=False)
class TiffLayout:
    """What the first image of a tif file declares.

    width, height: pixels as stored; bands, bits: samples a pixel, and bits a sample.
    kind: UNSIGNED, SIGNED, "floating point" or "complex"; compression, photometric, predictor,
    orientation: as in TIFF 6.0; is_planar: the bands lie one behind the other.
    block: rows and columns of its strips or tiles; blocks: their number.
    stored: how many of these the file lists; is_whole: each of them lies within the file;
    is_sparse: some are left out.
    alpha: which channel says how transparent a pixel is, counted from 0, or None.
    nodata: the value of what has no data, or None.
    colormap: uint8 (colors, 3), R, G, B, or None.
    packed: where its strips or tiles begin and end, if they are packed by Deflate.
    problem: what no reader takes, or None.
    """

    width: int
    height: int
    bands: int
    bits: int
    kind: str
    compression: int
    photometric: int
    predictor: int
    orientation: int
    is_planar: bool
    block: tuple[int, int]
    blocks: int
    stored: int
    is_whole: bool
    is_sparse: bool
    colormap: np.ndarray | None
    alpha: int | None = None
    nodata: float | None = None
    problem: str | None = None
    packed: tuple[tuple[int, int], ...] = ()

    @property
    def is_converted(self) -> bool:
        """Whether the reader makes R, G, B of another color space."""
        return self.photometric in CONVERTED_BANDS

    @functools.cached_property
    def reader(self) -> Reader:
        """Who reads it; Reader.NONE where why_unread gives a reason."""
        readers = {
            COMPRESSIONS.get(self.compression, ("", Reader.NONE))[1],
            PHOTOMETRICS.get(self.photometric, ("", Reader.NONE))[1],
        }
        if Reader.NONE in readers:
            return Reader.NONE
        return Reader.GDAL if Reader.GDAL in readers or self.is_sparse else Reader.LIBTIFF

    @property
    def sample_bytes(self) -> int:
        """Bytes of one value, once it is unpacked."""
        return next(size for size in (1, 2, 4, 8, 16) if self.bits <= 8 * size or size == 16)

    @functools.cached_property
    def decoded_bytes(self) -> int:
        """Bytes of all bands, with what the tiles stick out of the picture."""
        planes = self.bands if not self.is_planar else 1
        return self.blocks * self.block[0] * self.block[1] * planes * self.sample_bytes


def read_layout(data: bytes) -> TiffLayout:
    """Read what the first image of a tif file declares.

    Raises UndecodableChip if it declares nothing sound.
    """
    try:
        directory = read_directory(data)
        places = [place for tag, place in directory.outside.items() if _is_read(tag)]
        if sum(place.stop - place.start for place in places) <= MAX_KEPT_BYTES:
            return _layout(directory, tuple(data[place] for place in places), len(data))
        view = memoryview(data)
        return _layout.__wrapped__(directory, tuple(view[place] for place in places), len(data))
    except (struct.error, LookupError, ArithmeticError, ValueError) as error:
        raise UndecodableChip(DAMAGED) from error


def read_orientation(exif: bytes) -> int:
    """Read how EXIF data say that a picture is to be turned (tag 274); 1 if they do not.

    They are written as a tif file, mostly without the tags of an image.
    """
    try:
        return int(read_directory(exif).values(274, "H", b"")[0])
    except (struct.error, LookupError, ArithmeticError, ValueError):
        return 1


@functools.lru_cache(KEPT_LAYOUTS)
def _layout(directory: Directory, outside: tuple[bytes, ...], size: int) -> TiffLayout:
    """Make a TiffLayout.

    Args:
        directory: of the file.
        outside: the values of those of _TAGS that do not stand in the directory, in its order.
        size: of the file.
    Raises: as read_layout does.
    """
    tags = _values(directory, outside)
    if tags["width"] is None or tags["height"] is None:
        raise UndecodableChip(DAMAGED)
    width, height, bands = (int(tags[name][0]) for name in ("width", "height", "bands"))
    if not (width and height and bands):
        raise UndecodableChip(DAMAGED)
    block = (min(int(tags["rows_per_strip"][0]), height), width)
    offsets, counts = tags["strip_offsets"], tags["strip_counts"]
    if len(tags["tile_offsets"]):
        block = (int(tags["tile_height"][0]), int(tags["tile_width"][0]))
        offsets, counts = tags["tile_offsets"], tags["tile_counts"]
    is_planar = int(tags["planar"][0]) == 2
    blocks = -(-height // block[0]) * -(-width // block[1]) * (bands if is_planar else 1)
    starts, lengths = (np.asarray(a[:MAX_BLOCKS]).tolist() for a in (offsets, counts))
    places = tuple((start, start + n) for start, n in zip(starts, lengths, strict=False))
    formats = {SAMPLE_FORMATS.get(int(value), "unknown") for value in tags["sample_format"]}
    kinds = {int(value) for value in tags["bits"]}
    return TiffLayout(
        width=width,
        height=height,
        bands=bands,
        bits=max(kinds),
        kind=formats.pop() if len(formats) == 1 else "mixed",
        compression=int(tags["compression"][0]),
        photometric=int(tags["photometric"][0]),
        predictor=int(tags["predictor"][0]),
        orientation=int(tags["orientation"][0]),
        is_planar=is_planar,
        block=block,
        blocks=blocks,
        stored=len(starts),
        is_whole=sum(lengths) <= size + MAX_SHARED_BYTES and all(end <= size for _, end in places),
        is_sparse=not (all(starts) and all(lengths)),
        colormap=_colormap(tags["colormap"]),
        alpha=_alpha(bands, tags["extra"]),
        nodata=_nodata(directory, outside),
        problem=f"bands of different depths ({sorted(kinds)} bits)" if len(kinds) > 1 else None,
        packed=places if int(tags["compression"][0]) in DEFLATE else (),
    )


def _is_read(tag: int) -> bool:
    """Return whether a tag says something about the layout."""
    return tag in _TAGS or tag == _NODATA


def _outside_values(directory: Directory, outside: tuple[bytes, ...]) -> dict[int, bytes]:
    """Return the bytes of the values that do not stand in the directory by their tags."""
    return dict(zip(filter(_is_read, directory.outside), outside, strict=True))


def _nodata(directory: Directory, outside: tuple[bytes, ...]) -> float | None:
    """Return the value of what has no data; None if the file gives none that is a number."""
    entry = directory.entries.get(_NODATA)
    if entry is None or entry.type != _NODATA_TYPE:
        return None
    text = _outside_values(directory, outside).get(_NODATA, entry.value[: entry.count])
    try:
        return float(bytes(text[:_MOST_DIGITS]).partition(b"\0")[0])
    except ValueError:
        return None


def _alpha(bands: int, extra: tuple[int, ...] | np.ndarray) -> int | None:
    """Return the channel of the alpha among so many bands, the last of which are extra ones."""
    kinds = [int(kind) for kind in extra[:bands]]
    places = [place for place, kind in enumerate(kinds, bands - len(kinds)) if kind in _ALPHAS]
    return places[0] if places else None


def _values(
    directory: Directory, outside: tuple[bytes, ...]
) -> dict[str, tuple[int, ...] | np.ndarray | None]:
    """Return the values of _TAGS by their names; arguments and errors as of _layout."""
    values = _outside_values(directory, outside)
    return {
        name: directory.values(tag, _TYPES[directory.entries[tag].type], values.get(tag, b""))
        if tag in directory.entries
        else default
        for tag, (name, default) in _TAGS.items()
    }


def _colormap(values: np.ndarray) -> np.ndarray | None:
    """Make uint8 (colors, 3) of the 16-bit reds, greens and blues of a ColorMap.

    As GDAL does: some writers leave the lower 8 bits 0, some write 8 bits.
    """
    if len(values) < 3 or len(values) % 3:
        return None
    colors = np.asarray(values).reshape(3, -1).T
    if colors.max() > 255:
        colors = colors // (257 if (colors & 0xFF).any() else 256)
    return np.ascontiguousarray(colors, np.uint8)


@functools.lru_cache(KEPT_LAYOUTS)
def why_unread(
    layout: TiffLayout, bit_depth: int | None = None, is_native: bool = False
) -> str | None:
    """Say why no reader takes a layout, by the property that stands in the way; None if one does.

    Args:
        layout: of the file.
        bit_depth: the port of that name.
        is_native: whether the numbers of the file are wanted, instead of 0 to 255.
    """
    name, reader = COMPRESSIONS.get(layout.compression, ("unknown", Reader.NONE))
    space, _ = PHOTOMETRICS.get(layout.photometric, ("unknown", Reader.NONE))
    if problem := _why_too_large(layout):
        return problem
    if reader is Reader.NONE:
        return f"compression {layout.compression} ({name}) is not supported in a tif"
    if layout.problem:
        return f"the tif has {layout.problem}, which is not supported"
    if layout.reader is Reader.NONE:
        return f"photometric interpretation {layout.photometric} ({space}) is not supported"
    if problem := _why_no_numbers(layout) if is_native else _why_not_8_bits(layout, bit_depth):
        return problem
    return _why_not_together(layout, name, space)


def _why_no_numbers(layout: TiffLayout) -> str | None:
    """Say which values cannot be made float32; None if they can."""
    if layout.kind not in (UNSIGNED, SIGNED, FLOATING) or layout.bits > 64:
        return f"the tif has {layout.kind} values of {layout.bits} bits, which are not supported"
    return None


def _why_not_8_bits(layout: TiffLayout, bit_depth: int | None) -> str | None:
    """Say which values have no range to make 8 bits of, bit_depth being the port; or None."""
    if layout.kind == FLOATING:
        return (
            f"the tif has {layout.kind} values of {layout.bits} bits, which have no fixed range: "
            "set the port values to native if the model was trained on such numbers, or write "
            "chips of 8 bits"
        )
    if layout.kind not in (UNSIGNED, SIGNED):
        return (
            f"the tif has {layout.kind} values of {layout.bits} bits, which have no fixed range: "
            "write chips of 8 bits"
        )
    if layout.kind == SIGNED and bit_depth is None:
        return (
            f"the tif has signed values of {layout.bits} bits: set the port bit_depth, "
            "or write chips of 8 bits"
        )
    if layout.bits > 32 or (layout.bits > 16 and bit_depth is None):
        return (
            f"the tif has values of {layout.bits} bits: "
            + ("set the port bit_depth, or " if layout.bits <= 32 else "")
            + "write chips of 8 bits"
        )
    if layout.photometric in (WHITE_IS_ZERO, PALETTE) and layout.kind == SIGNED:
        space, _ = PHOTOMETRICS[layout.photometric]
        return f"photometric interpretation {space} of signed values is not supported"
    if layout.photometric == PALETTE and (
        layout.colormap is None or len(layout.colormap) < 2**layout.bits
    ):
        return DAMAGED
    return None


def _why_too_large(layout: TiffLayout) -> str | None:
    """Say which limit a layout is beyond; None if it is within all."""
    size = layout.decoded_bytes
    if layout.width * layout.height > MAX_CHIP_PIXELS:
        return (
            f"the image has {layout.width} x {layout.height} pixels, "
            f"the limit is {MAX_CHIP_PIXELS:,}"
        )
    if layout.bands > MAX_CHIP_BANDS:
        return f"the tif has {layout.bands:,} bands, the limit is {MAX_CHIP_BANDS:,}"
    if size > MAX_CHIP_BYTES:
        return (
            f"the tif has {layout.bands} band(s) of {layout.bits} bits and {size:,} bytes in all, "
            f"the limit is {MAX_CHIP_BYTES:,}"
        )
    if layout.blocks > MAX_BLOCKS:
        return f"the tif has {layout.blocks:,} strips or tiles, the limit is {MAX_BLOCKS:,}"
    return None


def _why_not_together(layout: TiffLayout, compression: str, space: str) -> str | None:
    """Say which two properties, named where they have names, no reader takes together."""
    if layout.compression == JPEG and layout.bits != 8:
        return f"{layout.bits}-bit jpeg is not supported in a tif"
    if layout.compression == WEBP and (
        layout.is_planar or layout.bands not in (3, 4) or layout.bits != 8
    ):
        order = "planar" if layout.is_planar else "side by side"
        return f"WebP of {layout.bands} band(s) of {layout.bits} bits, {order}, is not supported"
    if layout.compression in CCITT and layout.bits != 1:
        return f"compression {compression} of {layout.bits} bits is not supported"
    if (layout.predictor == 3 and layout.kind != FLOATING) or (
        layout.predictor == 2 and layout.bits not in (8, 16, 32, 64)
    ):
        return f"predictor {layout.predictor} with values of {layout.bits} bits is not supported"
    if layout.is_converted:
        bands = CONVERTED_BANDS[layout.photometric]
        if (layout.bands, layout.bits, layout.kind) != (bands, 8, UNSIGNED):
            return f"{space} of {layout.bands} band(s) of {layout.bits} bits is not supported"
    if layout.stored < layout.blocks:
        return f"the tif holds {layout.stored:,} of its {layout.blocks:,} strips or tiles"
    if not layout.is_whole:
        return DAMAGED
    return None
