"""A chip's bytes -> pixels of the bands that the model takes, warped to its size.

What a file is, its first bytes tell. Its header is read before any decoder sees it; tif files have
a gate of their own (tiff.py).
"""

import os
import threading
import zlib
from typing import NamedTuple

import cv2
import numpy as np

from chip_classifier.answers import Noticed
from chip_classifier.cores import allowed_bytes, usable_cores
from chip_classifier.errors import UndecodableChip
from chip_classifier.gdal import Unreadable, read_with_gdal
from chip_classifier.image_header import (
    HEAD_BYTES,
    JP2,
    JPEG,
    PNG,
    READ_KINDS,
    TIF,
    WEBP,
    Header,
    describe,
    exif_of,
    kind_of,
    lean_png,
    read_header,
)
from chip_classifier.isolation import Isolation
from chip_classifier.loading import Exact, OpenCV, loading_of
from chip_classifier.no_data import (
    MUCH,
    NO_DATA,
    alpha_of,
    declares_alpha,
    share_of_nodata,
    share_of_transparent,
)
from chip_classifier.picture import Picture, scale_to_8_bits, take, upper_8_bits, upright
from chip_classifier.ports import LOADINGS, NATIVE, VALUES
from chip_classifier.second_look.chips import ChipFacts
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

STDERR = 2
MOST_HEARD = 2**16  # bytes of what is said while a chip is decoded
UNPACKED_AT_A_TIME = 2**16  # bytes, of a strip whose end is looked for

_CHANNELS_OF_OPENCV = {1: 2, 2: 1, 3: 0}  # where it has red, green and blue


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


class Decoded(NamedTuple):
    """A chip's pixels (rows, columns, channels), and what may be wrong with its values, or None."""

    pixels: np.ndarray
    noticed: Noticed | None


class Decoder:
    """Decodes chips to the bands of one model; any number of threads may use it at a time.

    bands: the numbers of the file's bands, counted from 1, in the order of the result. A grey file
        is repeated for three bands of 1 to 3. None for one grey band: the only one, or that of the
        colors (ITU-R BT.601, as cv2.cvtColor makes it).
    bit_depth: how many bits count, of values that have more than 8: value x 255 /
        (2^bit_depth - 1), rounded and clipped. None: of 16 bits, the upper 8; of other depths, all
        that the file declares.
    loading: the function that decodes jpeg, png and bmp files, and that resizes.
    is_native: whether the values are the numbers of the files, instead of 0 to 255.
    channels: how many bands the result has.
    mostly_empty: chips so far of which more than half of the pixels have no data.
    widest_type: what holds any chip: uint8 or float32.
    facts: what the first chips are like.
    """

    def __init__(
        self,
        bands: tuple[int, ...] | None = BGR,
        bit_depth: int | None = None,
        loading: str = LOADINGS[0],
        values: str = VALUES[0],
        hears: bool = True,
    ) -> None:
        """Begin with all memory free that decoding may take.

        Args:
            bands, bit_depth: as above.
            loading, values: the ports of these names.
            hears: whether a chip of which a decoder says on stderr that it is damaged is refused;
                where stderr is a file, as in a run.
        """
        self._isolation = Isolation(bands, bit_depth, loading, values)
        self._hears, self._heard = hears, threading.local()
        self.mostly_empty, self._counting = 0, threading.Lock()
        self.bands, self.bit_depth = bands, bit_depth
        self.is_native = values == NATIVE
        self.loading = Exact() if self.is_native else loading_of(loading)
        self.channels = len(bands or (1,))
        self.widest_type = self.loading.widest_type(self.channels)
        self.facts = ChipFacts()
        # A quarter is for chips that are so small that they do not ask, since that takes time: as
        # many as there are decoders.
        total = allowed_bytes(MOST_DECODING_BYTES)
        self._memory = ByteBudget(total - total // 4)
        self._small_bytes = total // 4 // usable_cores()

    def decode(self, data: bytes) -> np.ndarray:
        """Decode an image file.

        Args:
            data: the bytes of a jpeg, png, tif, webp, bmp or jp2 file.
        Returns:
            (H, W, channels), uint8; native values may be uint16 or float32.
        Raises:
            UndecodableChip: the file is empty, damaged, cut off, too large, of a kind or with
                values that are not read, or lacks a band; the message is the reason.
            MemoryError: memory is short; the chip may be sound.
        """
        return self._decode(data, None).pixels

    def decode_into(self, out: np.ndarray, data: bytes) -> Decoded:
        """Decode an image file and resize it to the size of `out`.

        Args:
            out: (rows, columns, channels), contiguous, uint8, uint16 or float32; receives the
                result, unless that needs a wider type.
            data: as for decode.
        Returns:
            `out`, or in its place the pixels in a wider type, and what was noticed.
        Raises: as decode does.
        """
        return self._decode(data, out)

    def decode_alone(self, out: np.ndarray, data: bytes) -> Decoded:
        """Decode as decode_into does, in a process of its own: one that crashes is undecodable."""
        return Decoded(*self._isolation.decode(data, out.shape, self.facts))

    def _decode(self, data: bytes, out: np.ndarray | None) -> Decoded:
        """Decode an image file, and resize it to the size of `out` if there is one."""
        header = self._look(data)
        size = self._bytes_for(header)
        taken = self._memory.take(size) if size > self._small_bytes else 0
        try:
            picture = self._read(data, header)
            pixels = self._develop(picture)
            if self._hears and header.kind == JPEG and self._hears_of_damage():
                self._isolation.decode(data, (1, 1, self.channels))  # raises if it is this one
            self.facts.note(picture, pixels, self.bit_depth)
            if out is not None:
                kind = self.loading.type_of(pixels, out.shape)
                if not np.can_cast(kind, out.dtype):
                    out = np.empty(out.shape, np.promote_types(kind, out.dtype))
                self.loading.resize(pixels, out)
                pixels = out
            return Decoded(pixels, self._notice(header, picture))
        except cv2.error as error:
            if error.code == cv2.Error.StsNoMem:
                raise MemoryError(error.err) from error
            raise UndecodableChip(DAMAGED) from error
        except UndecodableChip:
            # The decoders do not tell short memory from a damaged file, and a sound chip is not to
            # be called damaged.
            np.empty(size, np.uint8)
            raise
        finally:
            if taken:
                self._memory.give_back(taken)

    def _hears_of_damage(self) -> bool:
        """Return whether libjpeg has said something on stderr since this thread asked last.

        It may be about a chip of another thread.
        """
        try:
            end = os.lseek(STDERR, 0, os.SEEK_CUR)
            start, self._heard.end = getattr(self._heard, "end", 0), end
            # What is about the chip that was just decoded comes last.
            start = max(start, end - MOST_HEARD)
            return start < end and b"JPEG" in os.pread(STDERR, end - start, start)
        except OSError:  # a terminal or a pipe
            return False

    def _bytes_for(self, header: Header | TiffLayout) -> int:
        """Return how many bytes it takes at most to decode a file and to resize it."""
        pixels = header.width * header.height
        size = DECODING_BYTES + 2 * header.decoded_bytes + 3 * pixels
        if type(self.loading) is not OpenCV:  # four bytes a pixel in Pillow, or float32
            size += 4 * (self.channels + 2) * pixels
        return size

    def _notice(self, header: Header | TiffLayout, picture: Picture) -> Noticed | None:
        """Return what may be wrong with a file's values, or None."""
        if picture.file_bits != 16 or self.bit_depth is not None or self.is_native:
            return None
        is_grey = header.bands == 1 and self._is_function_for(header)
        if is_grey and self.loading.keeps_16_bits_of_grey:
            return Noticed.SIXTEEN_BITS_OF_GREY
        return Noticed.SIXTEEN_BITS

    def _look(self, data: bytes) -> Header | TiffLayout:
        """Read what an image file declares; raises UndecodableChip if that is not read."""
        if not data:
            raise UndecodableChip("the file is empty")
        kind = kind_of(data[:HEAD_BYTES])
        if kind not in READ_KINDS:
            raise UndecodableChip(
                f"the file {describe(data)}, whatever its name says: chips are "
                f"{', '.join(READ_KINDS)}"
            )
        if kind != TIF:
            return read_header(data, kind)
        layout = read_layout(data)
        if problem := why_unread(layout, self.bit_depth, self.is_native):
            raise UndecodableChip(problem)
        return layout

    # ------------------------------------------------------------------------------------ readers

    def _read(self, data: bytes, header: Header | TiffLayout) -> Picture:
        """Read an image file of which the header is known, with the reader for it."""
        if isinstance(header, TiffLayout):
            return self._read_tif(data, header)
        if header.kind == JP2:
            return self._read_jp2(data, header)
        if self._is_function_for(header):
            bands = 1 if self.bands is None else max(3, self.channels)
            pixels = self.loading.decode(data, header, bands)
            if declares_alpha(data, header):
                self._look_through(data)
            channels = {band: band - 1 for band in range(1, bands + 1)}
            return Picture(pixels, bands, channels, file_bits=header.bits)
        return self._read_with_opencv(data, header)

    def _is_function_for(self, header: Header | TiffLayout) -> bool:
        """Return whether the function of the port `loading` decodes a file.

        It loads 1, 3 or 4 bands, and knows no bit_depth.
        """
        return (
            isinstance(header, Header)
            and header.kind in self.loading.kinds
            and self.channels in (1, 3, 4)
            and max(self.bands or (1,)) <= max(3, self.channels)
            and (header.bits <= 8 or self.bit_depth is None)
        )

    def _read_with_opencv(self, data: bytes, header: Header) -> Picture:
        """Read a jpeg, png, webp or bmp file as cv2.imread does.

        Where the model takes a file's alpha as a band, the bands are as they are stored.
        """
        flags, orientation = cv2.IMREAD_COLOR, 1
        if header.kind == PNG:
            data = lean_png(data)
            if header.bits == 16 and (self.is_native or self.bit_depth is not None):
                flags |= cv2.IMREAD_ANYDEPTH
        is_alpha_wanted = header.bands in (2, 4) and max(self.bands or (0,)) == header.bands
        if header.bands in (2, 4) and header.kind in (PNG, WEBP):
            flags = cv2.IMREAD_UNCHANGED
            orientation = read_orientation(exif_of(data, header.kind))
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if pixels is None:
            raise UndecodableChip(DAMAGED)
        channels = _CHANNELS_OF_OPENCV if header.bands > 2 else {1: 0}
        if flags == cv2.IMREAD_UNCHANGED and pixels.ndim == 3 and pixels.shape[2] == 4:
            self._require_data(share_of_transparent(pixels[..., 3]))
            if is_alpha_wanted:
                channels = {**channels, header.bands: 3}
        elif declares_alpha(data, header):
            self._look_through(data)
        return Picture(
            pixels,
            len(channels),
            channels,
            8 * pixels.itemsize,
            file_bits=header.bits,
            repeated=(0, 1, 2),
            orientation=orientation,
        )

    def _look_through(self, data: bytes) -> None:
        """Raise UndecodableChip if a png or webp file is fully transparent."""
        alpha = alpha_of(data)
        if alpha is not None:
            self._require_data(share_of_transparent(alpha))

    def _require_data(self, empty: float) -> None:
        """Raise UndecodableChip if no pixel has data; count a chip of which few do.

        Args:
            empty: the share of pixels that have none.
        """
        if empty == 1:
            raise UndecodableChip(NO_DATA)
        if empty > MUCH:
            with self._counting:
                self.mostly_empty += 1

    def _read_tif(self, data: bytes, layout: TiffLayout) -> Picture:
        """Read a tif file that passed the gate."""
        number = 3 if layout.is_converted else layout.bands
        alpha = None if layout.alpha is None else layout.alpha + 1
        if self.bands and alpha in self.bands and max(self.bands) <= number:
            alpha = None  # it is a band like others
        if layout.reader is Reader.GDAL:
            read = self._bands_to_read(number)
            if alpha is not None and not layout.is_converted:
                read = tuple(sorted({*read, alpha}))
            pixels, uses, _ = _bands_of_gdal(data, "GTiff", read)
            if layout.is_converted and not {"red", "green", "blue"}.issuperset(uses):
                raise UndecodableChip(
                    f"photometric interpretation {layout.photometric} is not supported in this "
                    "layout"
                )
        else:
            read = tuple(range(1, number + 1))
            pixels = _bands_of_libtiff(data, layout)
        if pixels.shape != (layout.height, layout.width, len(read)):
            raise UndecodableChip(DAMAGED)
        self._require_data(share_of_nodata(pixels, layout.nodata))
        if alpha in read:
            self._require_data(share_of_transparent(pixels[..., read.index(alpha)]))
        bits = layout.bits
        if self.is_native:
            pass  # an index of a palette is a number, too, and white is what it is
        elif layout.photometric == PALETTE:
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

    def _read_jp2(self, data: bytes, header: Header) -> Picture:
        """Read a jp2 file with GDAL's JP2OpenJPEG driver."""
        if header.is_signed and self.bit_depth is None and not self.is_native:
            raise UndecodableChip(
                f"the jp2 has signed values of {header.bits} bits: set the port bit_depth, or "
                "write chips of 8 bits"
            )
        read = self._bands_to_read(header.bands)
        pixels, uses, colors = _bands_of_gdal(data, "JP2OpenJPEG", read)
        if pixels.shape != (header.height, header.width, len(read)):
            raise UndecodableChip(DAMAGED)
        bits = header.bits
        is_palette = uses == ["palette"] and colors is not None and pixels.dtype == np.uint8
        if is_palette and not self.is_native:
            return Picture(colors[pixels[..., 0]], 3, {1: 0, 2: 1, 3: 2})
        channels = {band: channel for channel, band in enumerate(read)}
        return Picture(pixels, header.bands, channels, bits, header.is_signed, file_bits=bits)

    def _bands_to_read(self, number: int) -> tuple[int, ...]:
        """Return those of a file's bands that are needed, in their order."""
        if number <= 2 and (self.bands is None or max(self.bands) > number):
            return (1,)
        return tuple(band for band in range(1, number + 1) if band in (self.bands or BGR))

    # --------------------------------------------------------------------------- bands and depths

    def _develop(self, picture: Picture) -> np.ndarray:
        """Return the bands wanted of a file's content, (H, W, channels), as `decode` does."""
        if self.is_native:
            return self._develop_numbers(picture)
        if self._loses_8_bits(picture) and picture.pixels.shape[-1] <= 4:
            # Before bands are taken: what follows has half the bytes to go through.
            picture = picture._replace(pixels=upper_8_bits(picture.pixels), bits=8)
        is_grey_of_colors = self.bands is None and picture.number > 2
        bands = self.bands or (BGR if is_grey_of_colors else (1,))
        pixels = take(picture.pixels, _channels(picture, bands))
        pixels = self._to_8_bits(pixels, picture)
        if is_grey_of_colors:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)[..., None]
        return upright(pixels, picture.orientation)

    def _develop_numbers(self, picture: Picture) -> np.ndarray:
        """Return the bands wanted as numbers of the file: uint8, uint16 or float32.

        Raises UndecodableChip if one of them is NaN.
        """
        pixels, is_grey_of_colors = picture.pixels, self.bands is None and picture.number > 2
        if is_grey_of_colors or pixels.dtype not in (np.uint8, np.uint16):
            with np.errstate(over="ignore"):  # float64 may go beyond: infinite
                pixels = pixels.astype(np.float32)
        bands = self.bands or (BGR if is_grey_of_colors else (1,))
        pixels = take(pixels, _channels(picture, bands))
        if pixels.dtype == np.float32 and np.isnan(pixels.min()):
            share = max(np.isnan(pixels).any(axis=2).mean(), 0.001)  # one pixel is not 0.0%
            raise UndecodableChip(
                f"{share:.1%} of its pixels are no numbers (NaN): fill them, as the training did"
            )
        if is_grey_of_colors:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)[..., None]
        return upright(pixels, picture.orientation)

    def _to_8_bits(self, pixels: np.ndarray, picture: Picture) -> np.ndarray:
        """Scale the values of a picture to uint8."""
        if picture.bits == 8 and not picture.is_signed:
            return pixels
        if self._loses_8_bits(picture):
            return upper_8_bits(pixels)
        depth = picture.bits if picture.bits < 8 else self.bit_depth or picture.bits
        if picture.is_signed:
            pixels = np.maximum(pixels, 0).view(pixels.dtype.str.replace("i", "u"))
        return scale_to_8_bits(pixels, depth)

    def _loses_8_bits(self, picture: Picture) -> bool:
        """Return whether of 16 bits the upper 8 are taken."""
        return picture.bits == 16 and not picture.is_signed and self.bit_depth is None


def _bands_of_libtiff(data: bytes, layout: TiffLayout) -> np.ndarray:
    """Read the bands of a tif file with libtiff, (H, W, N), of the file's type."""
    from imagecodecs import tiff_decode  # not before a chip needs it

    out = None
    if layout.compression in DEFLATE:
        for start, end in layout.packed:
            if data[end - 4 : end] == bytes(4) and not _is_unpacked_whole(data[start:end]):
                raise UndecodableChip(DAMAGED)
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


def _is_unpacked_whole(packed: bytes) -> bool:
    """Return whether a zlib stream (RFC 1950) whose end was never written comes to an end.

    libtiff asks for no more than it needs, and takes zeros for pixels. A stream ends with its
    Adler-32, which is never 0; some writers pad it.
    """
    inflater = zlib.decompressobj()
    try:
        while packed and not inflater.eof:
            inflater.decompress(packed, UNPACKED_AT_A_TIME)
            packed = inflater.unconsumed_tail
    except zlib.error:
        return False
    return inflater.eof


def _bands_of_gdal(
    data: bytes, driver: str, bands: tuple[int, ...]
) -> tuple[np.ndarray, list[str], np.ndarray | None]:
    """Read as read_with_gdal does; raises UndecodableChip where it cannot."""
    try:
        return read_with_gdal(data, driver, bands)
    except Unreadable as error:
        raise UndecodableChip(DAMAGED) from error


def _channels(picture: Picture, bands: tuple[int, ...]) -> tuple[int, ...]:
    """Return the channels of a picture that hold bands; raises UndecodableChip if it lacks one."""
    number = picture.number
    if max(bands) <= number:
        return tuple([picture.channels[band] for band in bands])
    if number <= 2 and len(bands) == 3 and max(bands) == 3:
        return picture.repeated
    raise UndecodableChip(
        f"the chip has {number} band(s), but band {max(bands)} is to be read: see the port bands"
    )
