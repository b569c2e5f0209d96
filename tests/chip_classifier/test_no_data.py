"""Chips whose pixels are nodata or transparent, all of them or some."""

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image

from chip_classifier.decode import Decoder
from chip_classifier.errors import UndecodableChip
from chip_files import make_tar, make_work_dir, run_task, scene


def tif(values: np.ndarray, nodata: float | None, **options: object) -> bytes:
    """Write a tif (H, W, N) with GDAL."""
    height, width, count = values.shape
    form = {"driver": "GTiff", "height": height, "width": width, "count": count}
    with warnings.catch_warnings(), rasterio.MemoryFile() as file:
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with file.open(**form, dtype=values.dtype, nodata=nodata, **options) as image:
            image.write(np.moveaxis(values, 2, 0))
        return file.read()


def picture(share: float, kind: str, **options: object) -> bytes:
    """Write an RGBA picture of 20 rows, a share of which is transparent."""
    values = scene(1, 20, 20, 4)
    values[..., 3] = 255
    values[: round(20 * share), :, 3] = 0
    data = io.BytesIO()
    Image.fromarray(values).save(data, kind, **options)
    return data.getvalue()


def palette(value: int) -> bytes:
    """Write a png with a palette of which color 0 is transparent."""
    image = Image.fromarray(np.full((8, 8), value, np.uint8), "P")
    image.putpalette([1, 2, 3, 4, 5, 6])
    data = io.BytesIO()
    image.save(data, "png", transparency=0)
    return data.getvalue()


def outcome(data: bytes, **settings: object) -> str | int:
    """Decode a chip: the reason why it is not, or how many are mostly empty."""
    decoder = Decoder(**settings)
    try:
        decoder.decode(data)
    except UndecodableChip as error:
        return str(error)
    return decoder.mostly_empty


KINDS = [
    *(("uint8", 0), ("uint8", 255), ("uint16", 65535), ("int16", -9999)),
    *(("float32", -9999.0), ("float32", float("nan")), ("float64", -1.7e308)),
]
LAYOUTS = [{}, {"compress": "deflate", "tiled": True, "blockxsize": 16, "blockysize": 16}]


@pytest.mark.parametrize(("kind", "nodata"), KINDS)
def test_tif_of_which_every_pixel_is_nodata_has_no_data(kind: str, nodata: float) -> None:
    settings = {} if kind == "uint8" else {"values": "native"}
    for layout in LAYOUTS:
        values = np.random.default_rng(1).integers(1, 200, (20, 20, 3)).astype(kind)
        assert outcome(tif(values, nodata, **layout), **settings) == 0
        values[..., 0] = nodata  # a band alone is data, or NaN
        assert outcome(tif(values, nodata, **layout), **settings) != "it has no data"
        values[:12] = nodata
        if not np.isnan(nodata):
            assert outcome(tif(values, nodata, **layout), **settings) == 1
        values[:] = nodata
        assert outcome(tif(values, nodata, **layout), **settings) == "it has no data"
        if kind == "uint8":
            assert outcome(tif(values, None, **layout)) == 0
            assert outcome(tif(values, nodata + 0.5 - (nodata > 0), **layout)) == 0


@pytest.mark.parametrize("loading", ["cv2", "flow_from_directory"])
def test_transparent_picture_has_no_data(loading: str) -> None:
    for kind, options in (("png", {}), ("webp", {"lossless": True})):
        found = [outcome(picture(s, kind, **options), loading=loading) for s in (0, 0.5, 0.6, 1)]
        assert found == [0, 0, 1, "it has no data"]
    assert outcome(palette(0), loading=loading) == "it has no data"
    assert outcome(palette(1), loading=loading) == 0


def test_alpha_of_a_tif_counts_unless_the_model_takes_that_band() -> None:
    values = scene(2, 20, 20, 4)
    values[..., 3] = 0
    data = tif(values, None, photometric="RGB", ALPHA="YES")
    assert outcome(data) == "it has no data"
    assert outcome(data, bands=(1, 2, 3, 4)) == 0


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("png", "RGBA", {}),
        ("png", "LA", {}),
        ("webp", "RGBA", {"lossless": True, "exact": True}),
        ("webp", "RGBA", {"quality": 60}),
    ],
)
def test_colors_of_pictures_with_alpha_are_those_of_opencv(
    kind: str, mode: str, options: dict, orientation: int
) -> None:
    data, exif = io.BytesIO(), Image.Exif()
    exif[274] = orientation
    Image.fromarray(scene(3, 37, 29, 4)).convert(mode).save(data, kind, exif=exif, **options)
    expected = cv2.imdecode(np.frombuffer(data.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(Decoder().decode(data.getvalue()), expected)


def test_run_names_chips_without_data_and_counts_those_with_little(
    tmp_path: Path, checksum_model: Path
) -> None:
    members = [
        ("c/empty.tif", tif(np.full((20, 20, 3), 7, np.uint8), 7)),
        ("c/clear.png", picture(1, "png")),
        ("c/half.png", picture(0.75, "png")),
        ("c/whole.png", picture(0, "png")),
    ]
    run = run_task(make_work_dir(tmp_path / "w", make_tar(members), checksum_model))
    assert run.unclassified == dict.fromkeys(("empty", "clear"), "it has no data")
    assert set(run.classified) == {"half", "whole"}
    said = "1 chip(s) with no data (nodata, or transparent) in more than half of their pixels"
    assert said in run.log
    assert said in (run.work_dir / "output" / "logs" / "preview.html").read_text()


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("options", [{}, {"compress": "jpeg"}, {"sparse_ok": True}])
def test_transparent_tif_has_no_data_whoever_reads_it(
    bands: int, options: dict[str, object]
) -> None:
    """The alpha is no band of the model, also where grey is repeated, or GDAL reads."""
    values = np.full((16, 16, bands + 1), 0 if "sparse_ok" in options else 90, np.uint8)
    values[..., -1] = 255
    assert outcome(tif(values, None, alpha="YES", **options)) == 0
    values[..., -1] = 0
    assert outcome(tif(values, None, alpha="YES", **options)) == "it has no data"
    assert outcome(tif(values, None, alpha="YES", **options), bands=(1, bands + 1)) == 0
