"""Chips as satellites, GDAL and people make them, by the task run as a process.

tests/chips holds one small file of each kind that was once read wrongly. The picture of the tifs: R
is a ramp from left to right (60 to 210), G from top to bottom (30 to 120), B is 20 with a disc of
230, a further band is a diagonal ramp (40 to 100).
"""

import gzip
import itertools
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

import chip_files
from chip_classifier.errors import UndecodableChip
from chip_classifier.sources.tar import Tar
from chip_files import Run, decode_chip, make_tar, make_work_dir, run_task

CHIPS = Path(__file__).resolve().parents[1] / "chips"
COLORS, GREY = (135.0, 75.0, 46.4), (135.0,) * 3

# File -> the means of R, G and B, each from 0 to 255, or what the reason names.
MEANS = {
    "four_bands_extrasamples_2.tif": COLORS,
    "three_uint16_minisblack_strips.tif": COLORS,
    "grey_16_bits_tiled.tif": GREY,
    "sparse_tiles_uncompressed.tif": (90.0, 50.0, 23.7),
    "grey_12_bits.tif": GREY,
    "lerc.tif": COLORS,
    "webp_lossless.tif": COLORS,
    "progressive_200_scans.jpg": GREY,
    "text_7900000_bytes.png": COLORS,
}
REASONS = {
    "jpeg2000_in_tif.tif": "compression 34712 (JPEG 2000)",
    "int16_nodata.tif": "signed values of 16 bits",
}
FLAX, OATS, RYE = (70, 80, 220), (200, 40, 90), (30, 160, 60)


@pytest.fixture(scope="module")
def means_model(models: Path) -> Path:
    """A model whose outputs are the means of the bands B, G, R of 40 x 48 chips."""
    import keras

    layers = [keras.Input((40, 48, 3)), keras.layers.GlobalAveragePooling2D()]
    return chip_files.save_model(models / "means.h5", keras.Sequential(layers))


def run_with_means(folder: Path, archive: bytes, model: Path, **ports: str) -> Run:
    """Run the task so that its probabilities are the means of B, G, R, as the model gets them."""
    ports = {"normalization_vector": "0,0,0", "probabilities": "True", **ports}
    return run_task(make_work_dir(folder / "w", archive, model, ports))


def means_of(run: Run) -> dict[str, tuple[float, ...]]:
    """Return the means of R, G, B of each chip that was classified."""
    return {
        name: tuple(list(answer["probabilities"].values())[::-1])
        for name, answer in run.classified.items()
    }


@pytest.fixture(scope="module")
def chip_run(means_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run over all files of tests/chips that are chips."""
    members = [(name, (CHIPS / name).read_bytes()) for name in (*MEANS, *REASONS)]
    return run_with_means(tmp_path_factory.mktemp("run"), make_tar(members), means_model)


@pytest.mark.parametrize("name", MEANS)
def test_model_gets_the_right_values(name: str, chip_run: Run) -> None:
    # A mean is off by less than 1 where values are rounded or cut.
    assert means_of(chip_run)[Path(name).stem] == pytest.approx(MEANS[name], abs=1)


@pytest.mark.parametrize("name", REASONS)
def test_reason_names_what_stands_in_the_way(name: str, chip_run: Run) -> None:
    assert REASONS[name] in chip_run.unclassified[Path(name).stem]


def test_16_bits_are_warned_about(chip_run: Run) -> None:
    assert len(chip_run.warnings("16-bit")) == 1
    assert "16-bit" in chip_run.stderr


def test_bit_depth_scales_wider_values_and_cuts_below_0(means_model: Path, tmp_path: Path) -> None:
    names = ("int16_nodata.tif", "four_bands_extrasamples_2.tif")
    members = [(name, (CHIPS / name).read_bytes()) for name in names]
    wide = np.full((40, 48, 3), (2047, 1000, 4000), np.uint16)
    members += [("wide.tif", chip_files.tif(wide, photometric="rgb"))]
    members += [("wide.png", chip_files.png(wide))]
    run = run_with_means(tmp_path, make_tar(members), means_model, bit_depth="11")
    expected = (255, round(1000 * 255 / 2047), 255)
    assert means_of(run) == {
        "int16_nodata": pytest.approx((79.4,) * 3, abs=1),
        "four_bands_extrasamples_2": pytest.approx(COLORS, abs=1),
        "wide.tif": pytest.approx(expected),
        "wide.png": pytest.approx(expected),
    }
    assert run.warnings("16-bit") == []


def test_bands_are_read_in_the_order_of_the_port(means_model: Path, tmp_path: Path) -> None:
    name = "four_bands_extrasamples_2.tif"
    jpeg = chip_files.pillow(np.full((40, 48, 3), 90, np.uint8), "jpeg")
    members = [(name, (CHIPS / name).read_bytes()), ("three.jpg", jpeg)]
    run = run_with_means(tmp_path, make_tar(members), means_model, bands="4,1,2")
    assert means_of(run) == {Path(name).stem: pytest.approx((69.3, 135, 75), abs=1)}
    assert "3 band(s), but band 4" in run.unclassified["three"]
    assert "bands" in run.unclassified["three"]


def save_means_model(path: Path, bands: int) -> Path:
    """Save a model for 40 x 48 chips whose outputs are the means of its bands, and 0."""
    import keras

    dense = keras.layers.Dense(bands + 1)
    layers = [keras.Input((40, 48, bands)), keras.layers.GlobalAveragePooling2D(), dense]
    model = keras.Sequential(layers)
    dense.set_weights([np.eye(bands, bands + 1), np.zeros(bands + 1)])
    return chip_files.save_model(path, model)


@pytest.mark.parametrize("bands", ["1,2,3,4", "4,3,1,2", ""])
def test_model_of_four_bands_gets_them_in_order(bands: str, tmp_path: Path) -> None:
    model = save_means_model(tmp_path / "four.h5", 4)
    name = "four_bands_extrasamples_2.tif"
    rgba = chip_files.scene(3, 40, 48, 4)
    members = [(name, (CHIPS / name).read_bytes())]
    members += [
        ("rgba.png", chip_files.pillow(rgba, "png")),
        ("three.png", chip_files.png(rgba[..., :3])),
    ]
    ports = {"preprocessing": "none", "probabilities": "True", "bands": bands}
    run = run_task(make_work_dir(tmp_path / "w", make_tar(members), model, ports))
    order = [int(band) - 1 for band in (bands or "1,2,3,4").split(",")]
    for chip, means in ((Path(name).stem, (*COLORS, 69.3)), ("rgba", rgba.mean((0, 1)))):
        got = list(run.classified[chip]["probabilities"].values())[:4]
        assert got == pytest.approx([means[band] for band in order], abs=0.1)
    assert list(run.unclassified) == ["three"]
    assert (run.work_dir / "output" / "logs" / "preview.html").exists()


def test_model_of_one_band_gets_the_grey_value(tmp_path: Path) -> None:
    model = save_means_model(tmp_path / "one.h5", 1)
    image = chip_files.scene(4, 40, 48, 3)
    grey = image[..., 1].copy()
    members = [("color.png", chip_files.png(image)), ("grey.png", chip_files.png(grey))]
    ports = {"preprocessing": "none", "probabilities": "True"}
    run = run_task(make_work_dir(tmp_path / "w", make_tar(members), model, ports))
    # ITU-R BT.601, rounded in each pixel.
    means = {"color": image.mean((0, 1)) @ (0.299, 0.587, 0.114), "grey": grey.mean()}
    for name, mean in means.items():
        assert run.classified[name]["probabilities"]["0"] == pytest.approx(mean, abs=0.1)


# ------------------------------------------------------------------------------------- archives


@pytest.mark.parametrize("packing", ["", ".gz"])
def test_names_are_those_that_tar_shows(packing: str, means_model: Path, tmp_path: Path) -> None:
    archive = (CHIPS / "gnu_incremental.tar").read_bytes()
    if packing:
        archive = gzip.compress(archive)
    run = run_with_means(tmp_path, archive, means_model)
    assert means_of(run) == {"north/flax": FLAX, "north/oats": OATS, "north/rye": RYE}


def test_no_picture_is_passed_over_without_a_word(means_model: Path, tmp_path: Path) -> None:
    run = run_with_means(tmp_path, (CHIPS / "other_endings.tar").read_bytes(), means_model)
    assert means_of(run) == {
        "one": (10, 20, 30),
        "two": (200, 100, 50),
        "three": (90, 180, 10),
        "four": (120, 120, 120),
        "six": (20, 20, 20),
    }
    assert "jpeg" in run.unclassified["five"]
    assert len(run.unclassified) == 1
    assert len(run.warnings("'set/readme.txt'")) == 1
    assert "'set/readme.txt'" in run.stderr


def test_a_file_that_is_no_picture_is_warned_about(means_model: Path, tmp_path: Path) -> None:
    png = chip_files.uniform_png(1, 2, 3)
    members = [("c/a.png", png), ("c/._b.txt", b"x"), ("c/notes.txt", b"BM is no picture's start")]
    run = run_with_means(tmp_path, make_tar(members), means_model)
    assert run.unclassified is None
    assert "'c/notes.txt'" in run.stderr
    assert "Warning" in run.status["reason"]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_kind_is_told_by_the_content(mode: str, means_model: Path, tmp_path: Path) -> None:
    image = np.full((40, 48, 3), (9, 8, 7), np.uint8)
    encodings = {
        end: cv2.imencode(end, image)[1].tobytes() for end in (".png", ".bmp", ".webp", ".jp2")
    }
    ends = ("jpg", "JPEG", "jpe", "jfif", "tif", "TIFF", "png", "webp", "bmp", "jp2")
    members = [
        (f"{kind[1:]}.{end}", data)
        for (kind, data), end in itertools.product(encodings.items(), ends)
    ]
    run = run_with_means(tmp_path, make_tar(members, mode), means_model)
    assert len(run.classified) == len(members)
    for name, means in means_of(run).items():
        assert means == pytest.approx((7, 8, 9), abs=3 if "webp." in name else 0), name


# ------------------------------------------------------------------------------ bounded work


def with_scans(side: int, scans: int) -> bytes:
    """Make a grey progressive jpeg of side x side pixels, its last scan repeated."""
    _, data = cv2.imencode(
        ".jpg", np.full((side, side), 135, np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    )
    data = data.tobytes()
    last = data.rindex(b"\xff\xc4", 0, data.rindex(b"\xff\xda"))
    return data[:last] + data[last:-2] * scans + data[-2:]


def test_scans_are_counted_before_they_are_decoded() -> None:
    with pytest.raises(UndecodableChip, match=r"2,00\d scans of 8192 x 8192 pixels"):
        decode_chip(with_scans(8192, 2000))
    with pytest.raises(UndecodableChip, match=r"scans of 16 x 16 pixels"):
        decode_chip(with_scans(16, 40_000))
    assert decode_chip(with_scans(64, 300)).mean() == pytest.approx(135, abs=1)


def test_markers_behind_the_end_and_in_thumbnails_are_no_scans() -> None:
    data = with_scans(4096, 1)
    scan = b"\xff\xda\0\x02" * 2000
    segment = b"\xff\xe2" + (len(scan) + 2).to_bytes(2) + scan
    assert decode_chip(data[:2] + segment + data[2:] + scan).shape == (4096, 4096, 3)


def test_jpeg_of_endless_segments_is_refused() -> None:
    data = with_scans(4096, 20)
    with pytest.raises(UndecodableChip, match="100,000 segments|damaged"):
        decode_chip(data[:2] + b"\xff\xfe\0\x02" * 200_000 + data[2:])


def test_packed_texts_of_a_png_are_not_unpacked() -> None:
    data = (CHIPS / "text_7900000_bytes.png").read_bytes()
    at = data.index(b"zTXt") - 4
    text = data[at : at + int.from_bytes(data[at : at + 4]) + 12]
    many = data[:at] + text * 900 + data[at:]
    for kind in (b"iTXt", b"iCCP"):
        many = many[:at] + text.replace(b"zTXt", kind) + many[at:]
    # Each unpacked text would be a second's work, and one with a wrong checksum refused.
    np.testing.assert_array_equal(decode_chip(many), decode_chip(data))


def test_pictures_by_other_names_are_listed_in_plain_and_packed_archives(tmp_path: Path) -> None:
    png = chip_files.uniform_png(1, 2, 3)
    for mode in ("w", "w:gz"):
        path = tmp_path / f"{mode[2:]}.tar"
        path.write_bytes(
            make_tar(
                [
                    ("a", png),
                    ("b.gif", chip_files.pillow(chip_files.scene(1, 4, 4), "gif")),
                    ("c.txt", b""),
                ],
                mode,
            )
        )
        archive = Tar(path)
        problems = {chip.name: chip.problem for chip in archive.chips()}
        assert list(problems) == ["a", "b.gif"]
        assert "(png)" in problems["a"]
        assert "(gif)" in problems["b.gif"]
        assert archive.first_passed_over == "c.txt"


def test_names_of_ustar_keep_their_prefix(tmp_path: Path) -> None:
    name = f"{'d' * 90}/{'e' * 90}/a.png"
    path = tmp_path / "ustar.tar"
    path.write_bytes(
        make_tar([(name, chip_files.uniform_png(1, 2, 3))], tar_format=tarfile.USTAR_FORMAT)
    )
    assert [chip.name for chip in Tar(path).chips()] == [name]
