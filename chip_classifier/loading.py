"""By which function chips are loaded: cv2, or one of those that trainings with Keras use.

A way of loading decodes and resizes. What it decodes itself are the kinds of files that a training
could load with it: jpeg, png and bmp. Other kinds (tif, webp, jp2) are read as for cv2, and resized
as it resizes. None of the three functions turns a picture upright by its EXIF.
"""

import functools
import io
import warnings
from abc import ABC, abstractmethod

import cv2
import numpy as np

from chip_classifier.errors import UndecodableChip
from chip_classifier.image_header import BMP, JPEG, PNG, Header, has_sound_chunks, lean_png
from chip_classifier.picture import warp
from chip_classifier.ports import LOADINGS
from chip_classifier.tiff import DAMAGED

# What the functions make of any file: the grey value; R, G, B; R, G, B and alpha.
_PILLOW_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# What load_img leaves as it is where the grey value is wanted: 8, 16 and 32 bits.
_GREY_MODES = ("L", "I;16", "I")


class Loading(ABC):
    """A function that decodes and resizes pictures.

    kinds: the kinds of files that it decodes; others are read as for cv2.
    keeps_16_bits_of_grey: whether it makes no 8 bits of grey values of 16.
    """

    kinds: tuple[str, ...] = (JPEG, PNG, BMP)
    keeps_16_bits_of_grey = False

    def load(self) -> None:
        """Load the libraries that decode."""

    def type_of(self, pixels: np.ndarray, shape: tuple[int, ...]) -> np.dtype:
        """Return the type of pixels (H, W, N) once they are resized to a shape (rows, columns, N).

        uint8, uint16 or float32.
        """
        return pixels.dtype

    def widest_type(self, bands: int) -> type[np.generic]:
        """Return the type that holds any chip of so many bands: uint8 or float32."""
        return np.uint8

    @abstractmethod
    def decode(self, data: bytes, header: Header, bands: int) -> np.ndarray:
        """Decode a file of one of its kinds.

        Args:
            data: the bytes of the file.
            header: what they declare, within the limits.
            bands: 1 for the grey value, 3 for R, G, B, 4 for R, G, B and alpha.
        Returns:
            (H, W, bands), uint8; grey values may be uint16 or float32.
        Raises:
            UndecodableChip: the file is damaged, or the function makes no such bands of it.
            MemoryError: memory is short.
        """

    @abstractmethod
    def resize(self, pixels: np.ndarray, out: np.ndarray) -> None:
        """Resize a chip.

        Args:
            pixels: (H, W, N), of whatever type.
            out: (rows, columns, N), contiguous, of a type that holds that of type_of; receives the
                result.
        """


class OpenCV(Loading):
    """cv2.imread and cv2.resize: the accurate inverse DCT; bilinear, rounded as the type is."""

    kinds = ()  # decode.py reads all kinds so

    def decode(self, data: bytes, header: Header, bands: int) -> np.ndarray:
        """Decode nothing: it has no kinds."""
        raise NotImplementedError

    def resize(self, pixels: np.ndarray, out: np.ndarray) -> None:
        """Resize as cv2.resize does, with numbers of the type of `out`; see Loading."""
        if pixels.shape != out.shape and pixels.dtype != out.dtype:
            pixels = pixels.astype(out.dtype)
        warp(pixels, out)


class Exact(OpenCV):
    """As OpenCV, but resized in float32, not rounded: for the numbers of the files."""

    def type_of(self, pixels: np.ndarray, shape: tuple[int, ...]) -> np.dtype:
        """Return the type of pixels as they are, float32 once they are resized; see Loading."""
        is_held = pixels.shape == shape and pixels.dtype in (np.uint8, np.uint16)
        return pixels.dtype if is_held else np.dtype(np.float32)

    def widest_type(self, bands: int) -> type[np.generic]:
        """Return float32."""
        return np.float32


class TensorFlow(Exact):
    """keras.utils.image_dataset_from_directory: tf.io.decode_image and tf.image.resize.

    The fast inverse DCT; bilinear without antialias, not rounded. That is what cv2.resize computes
    of float32, to float32 rounding, in a fraction of the time.
    """

    kinds = Loading.kinds

    def load(self) -> None:
        """Load TensorFlow, as a run does long before the first chip comes."""
        import tensorflow  # noqa: F401

    def decode(self, data: bytes, header: Header, bands: int) -> np.ndarray:
        """Decode as tf.io.decode_image does; see Loading."""
        import tensorflow as tf  # loaded long before the first chip comes

        is_cmyk = (header.kind, header.bands) == (JPEG, 4)
        if (header.kind, bands) in ((BMP, 1), (JPEG, 4)) or (is_cmyk and bands == 1):
            what = "grey value" if bands == 1 else "alpha band"
            raise UndecodableChip(
                f"tf.io.decode_image gives no {what} of a {'CMYK ' if is_cmyk else ''}{header.kind}"
                ": set the port loading to cv2"
            )
        decoders = {JPEG: tf.io.decode_jpeg, PNG: tf.io.decode_png, BMP: tf.io.decode_bmp}
        if header.kind == PNG:
            data = lean_png(data)
        try:
            return np.asarray(decoders[header.kind](data, channels=bands))
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError(error.message) from error
        except tf.errors.OpError as error:
            raise UndecodableChip(DAMAGED) from error


class LoadImg(Loading):
    """ImageDataGenerator.flow_from_directory: keras.utils.load_img, nearest neighbour.

    Where three bands are wanted, Pillow makes 255 of all that is above in a grey file of 16 bits.
    """

    keeps_16_bits_of_grey = True

    def widest_type(self, bands: int) -> type[np.generic]:
        """Return uint8; float32 for a grey value, which may have more than 8 bits."""
        return np.float32 if bands == 1 else np.uint8

    def decode(self, data: bytes, header: Header, bands: int) -> np.ndarray:
        """Decode as load_img does; see Loading."""
        return _decode_with_pillow(data, header, bands, _GREY_MODES)

    def resize(self, pixels: np.ndarray, out: np.ndarray) -> None:
        """Resize as load_img does; see Loading."""
        _resize_with_pillow(pixels, out, is_cut=False)


class TeachableMachine(Loading):
    """The program that Teachable Machine exports with a model: PIL.ImageOps.fit, LANCZOS.

    It cuts the middle out, of the model's proportions. Of a grey file of 16 bits, Pillow makes 255
    of all that is above.
    """

    keeps_16_bits_of_grey = True

    def decode(self, data: bytes, header: Header, bands: int) -> np.ndarray:
        """Decode as Pillow does; see Loading."""
        return _decode_with_pillow(data, header, bands, ("L",))

    def resize(self, pixels: np.ndarray, out: np.ndarray) -> None:
        """Resize as ImageOps.fit does; see Loading."""
        _resize_with_pillow(pixels, out, is_cut=True)


def loading_of(name: str) -> Loading:
    """Return the way of loading that a value of the port names."""
    ways = (OpenCV, TensorFlow, LoadImg, TeachableMachine)
    return dict(zip(LOADINGS, ways, strict=True))[name]()


@functools.cache
def _load_pillow() -> None:
    """Load Pillow, whose warnings are kept from the terminal."""
    from PIL import Image

    Image.preinit()
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _decode_with_pillow(
    data: bytes, header: Header, bands: int, kept_modes: tuple[str, ...]
) -> np.ndarray:
    """Decode a file with Pillow; arguments and result as for Loading.decode.

    kept_modes: those that need not become the mode "L" where the grey value is wanted.
    """
    _load_pillow()
    from PIL import Image

    if header.kind == PNG:
        data = lean_png(data)
        if not has_sound_chunks(data):
            raise UndecodableChip(DAMAGED)
    try:
        pixels = None
        if header.kind == JPEG:
            # OpenCV's libjpeg gives the same pixels, and says on stderr if it made some of them up.
            flags = cv2.IMREAD_GRAYSCALE if header.bands == bands == 1 else cv2.IMREAD_COLOR_RGB
            flags |= cv2.IMREAD_IGNORE_ORIENTATION
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
            if pixels is not None and bands == 3 and header.bands in (1, 3):
                return pixels
        if pixels is None or header.bands not in (1, 3):  # of CMYK, Pillow makes other colors
            image = Image.open(io.BytesIO(data), formats=[header.kind.upper()])
        else:
            image = Image.fromarray(pixels)
        if image.mode not in (kept_modes if bands == 1 else (_PILLOW_MODES[bands],)):
            image = image.convert(_PILLOW_MODES[bands])
        pixels = np.asarray(image).reshape(image.height, image.width, bands)
    except (MemoryError, cv2.error):
        raise
    except Exception as error:  # whatever a damaged file makes it come upon
        raise UndecodableChip(DAMAGED) from error
    return pixels if pixels.dtype in (np.uint8, np.uint16) else pixels.astype(np.float32)


def _resize_with_pillow(pixels: np.ndarray, out: np.ndarray, is_cut: bool) -> None:
    """Resize a chip with Pillow, by nearest neighbour; or cut it to the proportions, by LANCZOS.

    Of other bands than R, G, B each by itself: no band is taken for an alpha.
    """
    from PIL import Image, ImageOps

    if pixels.shape == out.shape:
        out[...] = pixels
        return
    size = out.shape[1::-1]
    parts = [pixels] if pixels.shape[2] == 3 else [*np.moveaxis(pixels, 2, 0)]
    resized = []
    for part in parts:
        image = Image.fromarray(np.ascontiguousarray(part))
        resized.append(
            ImageOps.fit(image, size, Image.Resampling.LANCZOS)
            if is_cut
            else image.resize(size, Image.Resampling.NEAREST)
        )
    out[...] = resized[0] if pixels.shape[2] == 3 else np.stack(resized, axis=2)
