"""Tif files of every layout: each is read as GDAL reads it, or refused by its property's name."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

import chip_files
import tif_layouts
from chip_files import decode_chip
from tif_layouts import gdal_tif, outcome, survey, values

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture(scope="module")
def surveyed() -> tuple:
    """What became of all layouts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return survey()


def test_no_layout_is_read_differently_without_a_word(surveyed: tuple) -> None:
    assert surveyed[2] == []


def test_the_matrix_holds_what_libraries_write(surveyed: tuple) -> None:
    outcomes = surveyed[0]
    assert outcomes.total() > 9000
    assert outcomes["as GDAL reads it"] > 3850
    assert surveyed[1]["as GDAL reads it"] > 6700  # as numbers
    # Half-written files only; everything else is refused by name.
    assert outcomes["refused: as by GDAL"] < 100
    assert outcomes["refused: not sound"] == len(tif_layouts.UNSOUND)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kind": "float32"}, "floating point values of 32 bits"),
        ({"kind": "complex64"}, "complex values of 64 bits"),
        ({"kind": "int16"}, "signed values of 16 bits"),
        ({"kind": "uint32"}, "values of 32 bits"),
        ({"photometric": "ICCLAB"}, r"photometric interpretation 9 \(ICCLab\)"),
        ({"bits": 12, "kind": "uint16", "compress": "JPEG", "NBITS": 12}, "12-bit jpeg"),
        ({"bands": 300, "kind": "uint16", "rows": 4000}, "300 band"),
    ],
)
def test_reason_names_the_property(options: dict, reason: str) -> None:
    bands, kind = options.pop("bands", 3), options.pop("kind", "uint8")
    image = values(bands, kind, options.pop("bits", None))
    if rows := options.pop("rows", None):
        image = np.broadcast_to(image[:, :1, :1], (bands, rows, 300))
        options |= {"compress": "DEFLATE", "SPARSE_OK": "TRUE", "BIGTIFF": "YES"}
    data = gdal_tif(image, **options)
    with pytest.raises(Exception, match=reason) as raised:
        decode_chip(data)
    assert type(raised.value).__name__ == "UndecodableChip"


def test_the_survey_finds_a_file_that_is_read_differently(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = gdal_tif(values(4, "uint8", 8))
    assert outcome("", data, (3, 2, 1), None) == "as GDAL reads it"
    monkeypatch.setattr(tif_layouts, "decode_chip", lambda *_: decode_chip(data) ^ 1)
    assert outcome("", data, (3, 2, 1), None).startswith("DIFFERENT")


def test_cmyk_is_read_in_the_colors_that_it_was_made_of() -> None:
    rgb = np.moveaxis(values(3, "uint8", 8), 0, -1).copy()
    data = chip_files.pillow(Image.fromarray(rgb).convert("CMYK"), "tiff")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_allclose(decode_chip(data)[..., ::-1], expected, atol=1)


def test_further_bands_never_change_the_colors() -> None:
    image = values(4, "uint8", 8)
    for alpha in ("YES", "NO", "PREMULTIPLIED", "UNSPECIFIED"):
        pixels = decode_chip(gdal_tif(image, photometric="RGB", ALPHA=alpha))
        np.testing.assert_array_equal(pixels, np.moveaxis(image[2::-1], 0, -1))
