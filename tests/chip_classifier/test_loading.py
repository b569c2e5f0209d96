"""Chips get the pixels of the function that loaded them in the training, compared with itself."""

import functools
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

import chip_files
from chip_classifier.answers import Noticed
from chip_classifier.decode import BGR, Decoder
from chip_classifier.errors import UndecodableChip
from chip_classifier.ports import LOADINGS
from chip_files import pillow, png, readable_chips, scene

TENSORFLOW, LOAD_IMG, TEACHABLE_MACHINE = LOADINGS[1:]
COLORS = {1: "grayscale", 3: "rgb", 4: "rgba"}
BANDS = {1: None, 3: (1, 2, 3), 4: (1, 2, 3, 4)}
SIZES = ((24, 20), (16, 16), (9, 31), (48, 64))
# cv2.resize and tf.image.resize add up float32 products in another order, of values up to 255.
ROUNDING = 5e-4


@functools.cache
def files() -> dict[str, bytes]:
    """Make a jpeg, png and bmp of each kind that trainings have, all of 24 x 20 pixels."""
    smooth = cv2.resize(scene(6, 5, 4, 3), (20, 24))
    sideways = Image.Exif()
    sideways[274] = 6
    rgba = scene(3, 24, 20, 4)
    palette = Image.fromarray(scene(1, 24, 20, 3)).quantize(16)
    return {
        "444.jpg": pillow(smooth, "jpeg", quality=90, subsampling=0),
        "420.jpg": pillow(smooth, "jpeg", quality=75, subsampling=2),
        "422.jpg": pillow(smooth, "jpeg", subsampling=1),
        "rgb.jpg": pillow(smooth, "jpeg", keep_rgb=True),
        "grey.jpg": pillow(smooth[..., 0].copy(), "jpeg"),
        "cmyk.jpg": pillow(Image.fromarray(smooth).convert("CMYK"), "jpeg"),
        "progressive.jpg": pillow(smooth, "jpeg", progressive=True),
        "on_its_side.jpg": pillow(smooth, "jpeg", exif=sideways),
        "rgb.png": png(scene(1, 24, 20, 3)),
        "grey.png": png(scene(2, 24, 20)),
        "alpha.png": pillow(rgba, "png"),
        "palette.png": pillow(palette, "png"),
        "palette_transparent.png": pillow(palette, "png", transparency=3),
        "16_bits.png": png(scene(4, 24, 20, 3, kind=np.uint16)),
        "grey_16_bits.png": png(scene(5, 24, 20, kind=np.uint16)),
        "rgb.bmp": pillow(scene(1, 24, 20, 3), "bmp"),
        "palette.bmp": pillow(palette, "bmp"),
    }


# What tf.io.decode_image makes no grey value or no alpha of.
NOT_LOADED = {("cmyk.jpg", 1), ("rgb.bmp", 1), ("palette.bmp", 1)} | {
    (file, 4) for file in files() if file.endswith("jpg")
}


def read(path: Path, name: str, bands: int, size: tuple[int, int]) -> np.ndarray:
    """Load a file as the function itself does, float32 (rows, columns, bands)."""
    import keras
    import tf_keras

    if name == TENSORFLOW:
        dataset = keras.utils.image_dataset_from_directory(
            path.parent, labels=None, color_mode=COLORS[bands], image_size=size, verbose=False
        )
        return next(iter(dataset))[0].numpy()
    if name == LOAD_IMG:
        # What ImageDataGenerator.flow_from_directory returns; None changes no chip.
        iterator = tf_keras.preprocessing.image.DirectoryIterator
        return next(iterator(path.parents[1], None, size, COLORS[bands], class_mode=None))[0]
    image = Image.open(path).convert("RGB")  # as the exported program does
    return np.asarray(ImageOps.fit(image, size[::-1], Image.Resampling.LANCZOS), np.float32)


def load(
    data: bytes, name: str, bands: tuple[int, ...] | None, size: tuple[int, int]
) -> np.ndarray:
    """Load a file as the task does with this value of the port."""
    decoder = Decoder(bands, loading=name)
    out = np.empty((*size, decoder.channels), np.uint8)
    pixels = decoder.decode_into(out, data).pixels
    assert np.can_cast(pixels.dtype, decoder.widest_type)
    return pixels


@pytest.mark.parametrize("file", files())
@pytest.mark.parametrize("name", LOADINGS[1:])
def test_pixels_are_those_of_the_function(name: str, file: str, tmp_path: Path) -> None:
    path = tmp_path / "class" / file
    path.parent.mkdir()
    path.write_bytes(files()[file])
    tolerance = ROUNDING if name == TENSORFLOW else 0
    for bands in (3,) if name == TEACHABLE_MACHINE else (1, 3, 4):
        if name == TENSORFLOW and (file, bands) in NOT_LOADED:
            with pytest.raises(UndecodableChip, match=r"tf\.io\.decode_image gives no"):
                load(files()[file], name, BANDS[bands], SIZES[0])
            continue
        for size in SIZES:
            pixels = load(files()[file], name, BANDS[bands], size)
            expected = read(path, name, bands, size)
            np.testing.assert_allclose(pixels, expected, 0, tolerance, err_msg=f"{bands} {size}")


@pytest.mark.parametrize("name", LOADINGS)
def test_bands_come_in_the_order_of_the_port(name: str) -> None:
    data = png(scene(1, 16, 16, 3))
    reverse, second = (load(data, name, bands, (16, 16)) for bands in (BGR, (2,)))
    np.testing.assert_array_equal(reverse, scene(1, 16, 16, 3)[..., ::-1])
    np.testing.assert_array_equal(second, scene(1, 16, 16, 3)[..., 1:2])


@pytest.mark.parametrize("name", LOADINGS[1:])
@pytest.mark.parametrize(
    "file", ["striped.tif", "eight_bands.tif", "palette.tif", "lossless.webp", "lossless.jp2"]
)
def test_other_kinds_are_read_as_for_cv2_and_resized_as_the_function_does(
    name: str, file: str
) -> None:
    data, pixels = readable_chips()[file]
    as_png = png(pixels[..., ::-1].copy())
    for size in SIZES:
        expected = load(as_png, name, BGR, size)
        np.testing.assert_array_equal(load(data, name, BGR, size), expected)
    if file == "eight_bands.tif":  # each band by itself: the fourth is no alpha
        eight = load(data, name, (1, 2, 3, 4, 8), (9, 31))
        expected = load(as_png, name, (1, 2, 3), (9, 31))
        np.testing.assert_allclose(eight[..., :3], expected, 0, ROUNDING)


@pytest.mark.parametrize("name", LOADINGS[1:])
@pytest.mark.parametrize("file", ["420.jpg", "progressive.jpg", "rgb.png", "rgb.bmp"])
def test_a_file_cut_off_anywhere_is_refused_or_whole(name: str, file: str) -> None:
    data = files()[file]
    whole, refused = load(data, name, BGR, SIZES[0]), 0
    for length in range(0, len(data), 29):
        try:
            pixels = load(data[:length], name, BGR, SIZES[0])
        except UndecodableChip:
            refused += 1
        else:  # only what follows the picture was cut off
            np.testing.assert_array_equal(pixels, whole, err_msg=f"{length} of {len(data)} bytes")
    assert refused > len(data) / 29 * 0.8


@pytest.mark.parametrize("name", LOADINGS[1:])
def test_a_file_with_too_many_pixels_reaches_no_decoder(name: str) -> None:
    data = chip_files.unreadable_chips()["declares_too_many_pixels.png"]
    with pytest.raises(UndecodableChip, match="the limit is"):
        load(data, name, BGR, SIZES[0])


@pytest.mark.parametrize(
    ("name", "file", "noticed"),
    [
        (LOADINGS[0], "grey_16_bits.png", Noticed.SIXTEEN_BITS),
        (TENSORFLOW, "grey_16_bits.png", Noticed.SIXTEEN_BITS),
        (LOAD_IMG, "16_bits.png", Noticed.SIXTEEN_BITS),
        (LOAD_IMG, "grey_16_bits.png", Noticed.SIXTEEN_BITS_OF_GREY),
        (TEACHABLE_MACHINE, "grey_16_bits.png", Noticed.SIXTEEN_BITS_OF_GREY),
        (LOAD_IMG, "rgb.png", None),
    ],
)
def test_16_bits_are_noticed(name: str, file: str, noticed: Noticed | None) -> None:
    out = np.empty((24, 20, 3), np.uint8)
    assert Decoder(loading=name).decode_into(out, files()[file]).noticed == noticed
    assert Decoder(bit_depth=12, loading=name).decode_into(out, files()[file]).noticed is None


@pytest.mark.parametrize("name", LOADINGS[1:])
def test_bit_depth_makes_8_bits_whatever_the_function_does(name: str) -> None:
    data = files()["grey_16_bits.png"]
    expected = Decoder(bit_depth=12).decode(data)
    np.testing.assert_array_equal(Decoder(bit_depth=12, loading=name).decode(data), expected)
