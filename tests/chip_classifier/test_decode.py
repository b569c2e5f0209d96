"""Chips of every kind: read as OpenCV reads them, tifs as GDAL does, or refused."""

import io
import struct
import tarfile
import zlib
from collections import Counter
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image

import chip_files
from chip_classifier import MAX_CHIP_PIXELS
from chip_classifier.answers import Noticed
from chip_classifier.decode import Decoder
from chip_classifier.errors import UndecodableChip
from chip_classifier.image_header import TIF, describe, kind_of
from chip_classifier.picture import warp
from chip_classifier.ports import LOADINGS
from chip_classifier.tiff import read_layout
from chip_files import decode_chip, make_tar, make_work_dir, readable_chips, scene, unreadable_chips
from tif_reference import read_tif

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

READABLE, UNREADABLE = sorted(readable_chips()), sorted(unreadable_chips())

# Kinds of files that are cut off at every place below, one for each reader and compression.
CUT_KINDS = (
    "rgb.png",
    "interlaced.png",
    "baseline.jpg",
    "progressive.jpeg",
    "striped.tif",
    "tiled.tif",
    "tiled_deflate.TIFF",
    "lzw.tif",
    "packbits.tif",
    "zstd.tif",
    "jpeg.tif",
    "planar.tif",
    "bigtiff.tif",
    "grey_16_bit.tif",
    "two_pages.tif",
)


def reference(name: str, folder: Path) -> np.ndarray:
    """Read a chip from disk with cv2.imread, a tif with GDAL."""
    data = readable_chips()[name][0]
    return read_tif(data) if kind_of(data) == TIF else read_with_opencv(data, folder)


def read_with_opencv(data: bytes, folder: Path) -> np.ndarray | None:
    """Read an image file from disk with cv2.imread; None if it does not read it."""
    path = folder / "chip"
    path.write_bytes(data)
    try:
        return cv2.imread(str(path))
    except cv2.error:  # raised for sizes beyond its limits
        return None


def reported_name(path: str, paths: list[str]) -> str:
    """Return the name under which a chip is reported, in an archive with one top directory."""
    stems = Counter(Path(other).stem for other in paths)
    return path if stems[Path(path).stem] > 1 else Path(path).stem


# ------------------------------------------------------------------------------- chips, one by one


@pytest.mark.parametrize("name", READABLE)
def test_readable_chip_is_decoded_as_opencv_reads_the_file(name: str, tmp_path: Path) -> None:
    pixels = decode_chip(readable_chips()[name][0])
    np.testing.assert_array_equal(pixels, reference(name, tmp_path), strict=True)


@pytest.mark.parametrize("name", [n for n in READABLE if readable_chips()[n][1] is not None])
def test_lossless_chip_keeps_the_pixels_it_was_made_of(name: str) -> None:
    data, pixels = readable_chips()[name]
    np.testing.assert_array_equal(decode_chip(data), pixels, strict=True)


@pytest.mark.parametrize("orientation", chip_files.STORED_AS)
def test_exif_orientation_turns_the_chip_upright(orientation: int) -> None:
    stored = decode_chip(readable_chips()["orientation_1.jpg"][0])
    upright = decode_chip(readable_chips()[f"orientation_{orientation}.jpg"][0])
    np.testing.assert_array_equal(chip_files.STORED_AS[orientation](upright), stored)


@pytest.mark.parametrize("kind", ["png", "webp"])
@pytest.mark.parametrize("orientation", chip_files.STORED_AS)
def test_chip_is_turned_upright_with_its_alpha_as_without(kind: str, orientation: int) -> None:
    """OpenCV turns the colours; where alpha is a band, too, the task does."""
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[274] = orientation
    Image.fromarray(scene(8, 24, 20, 4)).save(buffer, kind, exif=exif, lossless=True, exact=True)
    with_alpha = decode_chip(buffer.getvalue(), (1, 2, 3, 4))
    np.testing.assert_array_equal(with_alpha[..., :3], decode_chip(buffer.getvalue(), (1, 2, 3)))


@pytest.mark.parametrize("name", [n for n in READABLE if "16_bit" in n])
def test_16_bit_chip_is_read_as_value_by_256(name: str) -> None:
    grey = "grey" in name
    values = scene(5, 24, 20, kind=np.uint16) if grey else scene(4, 24, 20, 3, kind=np.uint16)
    pixels = decode_chip(readable_chips()[name][0]).astype(np.float64)
    expected = values[..., None] / 256 if grey else values[..., ::-1] / 256
    np.testing.assert_array_equal(pixels, np.broadcast_to(np.floor(expected), pixels.shape))


def test_each_16_bit_value_is_read_as_value_by_256() -> None:
    values = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    pixels = decode_chip(chip_files.tif(values, photometric="minisblack"))
    np.testing.assert_array_equal(pixels, np.repeat(values[..., None] // 256, 3, axis=2))


def test_tifs_that_differ_only_outside_of_their_directory_are_told_apart() -> None:
    """What was made of one directory is kept for the next one like it."""
    sound = chip_files.tif(scene(4, 24, 20, 3), photometric="rgb", byteorder="<", rowsperstrip=8)
    counts = sound.index(np.full(3, 8 * 20 * 3, "<u2").tobytes())
    beyond = bytearray(sound)
    beyond[counts : counts + 2] = b"\xff\xff"
    for _ in range(2):
        np.testing.assert_array_equal(decode_chip(sound), scene(4, 24, 20, 3)[..., ::-1])
        with pytest.raises(UndecodableChip, match="cut off or damaged"):
            decode_chip(bytes(beyond))


def test_rows_that_libtiff_does_not_fill_hold_nothing_of_another_chip() -> None:
    """A strip has 32 rows of noise, where its tif has 20: libtiff unpacks none of them."""
    noise = np.random.default_rng(5).integers(0, 256, (32, 64, 3), np.uint8)
    sound = chip_files.tif(noise, photometric="rgb", byteorder="<", compression="deflate")
    height = struct.Struct("<HHII")
    cut = sound.replace(height.pack(257, 4, 1, 32), height.pack(257, 4, 1, 20))
    assert read_layout(cut).height == 20
    for value in (7, 200):
        others = [np.full((20, 64, 3), value, np.uint8) for _ in range(20)]
        del others  # what they held is in the memory that comes next
        assert not decode_chip(cut).any()


@pytest.mark.parametrize("name", READABLE)
def test_16_bit_chips_are_told_from_others(name: str) -> None:
    out = np.empty((8, 8, 3), np.uint8)
    decoded = Decoder().decode_into(out, readable_chips()[name][0])
    assert decoded.pixels is out
    assert decoded.noticed == (Noticed.SIXTEEN_BITS if "16_bit" in name else None)


@pytest.mark.parametrize("fill", [b"\xff", b"\xff\x00", b"\xff\xd0"])
def test_jpeg_may_have_any_number_of_bytes_between_its_segments(fill: bytes) -> None:
    sound = readable_chips()["baseline.jpg"][0]
    filled = sound[:2] + 200_000 * fill + sound[2:]
    np.testing.assert_array_equal(decode_chip(filled), decode_chip(sound))
    with pytest.raises(UndecodableChip, match="cut off or damaged"):
        decode_chip(filled[:100_000])


def animated_png(still: np.ndarray | None, frames: list[np.ndarray]) -> bytes:
    """Make an animated png that disposes to its background; IDAT is `still`, or the first frame."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    def rows(image: np.ndarray) -> bytes:
        return zlib.compress(b"".join(b"\0" + row.tobytes() for row in image))

    height, width = frames[0].shape[:2]
    color = 2 if frames[0].ndim == 3 else 0
    data = b"\x89PNG\r\n\x1a\n"
    data += chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0))
    data += chunk(b"acTL", struct.pack(">II", len(frames), 0))
    data += chunk(b"IDAT", rows(still)) if still is not None else b""
    for number, frame in enumerate(frames):
        place = struct.pack(">IIIIIHHBB", 2 * number, width, height, 0, 0, 1, 10, 1, 0)
        data += chunk(b"fcTL", place)
        is_first = number == 0 and still is None
        content = rows(frame) if is_first else struct.pack(">I", 2 * number + 1) + rows(frame)
        data += chunk(b"IDAT" if is_first else b"fdAT", content)
    return data + chunk(b"IEND", b"")


@pytest.mark.parametrize("has_still", [False, True])
@pytest.mark.parametrize("shape", [(200, 200), (32, 40, 3)])
def test_animated_png_is_its_still_picture(shape: tuple[int, ...], has_still: bool) -> None:
    """With the grey one OpenCV 5.0.0 writes beyond its memory, unless it gets the still alone."""
    frames = [np.full(shape, value, np.uint8) for value in (90, 150)]
    still = np.full(shape, 30, np.uint8) if has_still else None
    data = animated_png(still, frames)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode_chip(data, (1, 2, 3)), expected)
    assert expected[0, 0, 0] == (30 if has_still else 90)


def bmp(size: int, bits: int, masks: tuple[int, int, int], value: int) -> bytes:
    """Make a bmp of 4 x 4 equal pixels with bit fields, and a header of so many bytes."""
    pixels = value.to_bytes(bits // 8, "little") * 16
    header = struct.pack("<IiiHHIIiiII", size, 4, 4, 1, bits, 3, len(pixels), 0, 0, 0, 0)
    header = (header + struct.pack("<III", *masks)).ljust(size, b"\0")
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + pixels


@pytest.mark.parametrize("size", [40, 52, 56, 108, 124])
@pytest.mark.parametrize("shifts", [(24, 16, 8), (16, 8, 0), (0, 8, 16)])
def test_bit_fields_of_a_bmp_are_read_or_refused_by_name(
    size: int, shifts: tuple[int, int, int]
) -> None:
    masks = tuple(255 << shift for shift in shifts)
    value = sum(band << shift for band, shift in zip((200, 40, 90), shifts, strict=True))
    data = bmp(size, 32, masks, value)
    if size < 56 and shifts != (16, 8, 0):
        with pytest.raises(UndecodableChip, match="bit fields that are not read .*masks"):
            decode_chip(data)
    else:
        assert decode_chip(data, (1, 2, 3))[0, 0].tolist() == [200, 40, 90]
    with pytest.raises(UndecodableChip, match="masks F00, F0, F"):
        decode_chip(bmp(size, 16, (0xF00, 0xF0, 0xF), 0x123))


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_chip_is_refused(name: str) -> None:
    with pytest.raises(UndecodableChip, match=r"\w+ \w+"):
        decode_chip(unreadable_chips()[name])


@pytest.mark.parametrize("name", CUT_KINDS)
def test_chip_cut_off_anywhere_is_refused_or_whole(name: str) -> None:
    data = readable_chips()[name][0]
    whole = decode_chip(data)
    refused = 0
    for length in range(0, len(data), 5):
        try:
            pixels = decode_chip(data[:length])
        except UndecodableChip:
            refused += 1
        else:  # only padding or a second page was cut off
            np.testing.assert_array_equal(pixels, whole, err_msg=f"{length} of {len(data)} bytes")
    assert refused > len(data) / 5 * 0.4


@pytest.mark.parametrize("name", CUT_KINDS)
def test_damaged_chip_is_refused_or_read_as_others_do(name: str, tmp_path: Path) -> None:
    data = readable_chips()[name][0]
    rng = np.random.default_rng(len(data))
    for _ in range(60):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            damaged[place] = rng.integers(256)
        try:
            pixels = decode_chip(bytes(damaged))
        except UndecodableChip:
            continue
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        read = None
        if kind_of(damaged) != TIF:
            read = read_with_opencv(damaged, tmp_path)
        elif read_layout(bytes(damaged)).bits == 8:  # else strips longer than what they hold
            read = read_tif(bytes(damaged))
        if read is not None:
            np.testing.assert_array_equal(pixels, read)


@pytest.mark.parametrize("shape", [(16, 16), (31, 7), (5, 90), (1, 1)])
def test_warp_is_bilinear_resize_of_all_bands(shape: tuple[int, int]) -> None:
    pixels = scene(9, 24, 20, 3)
    out = np.zeros((*shape, 3), np.uint8)
    warp(pixels, out)
    bands = [
        cv2.resize(pixels[..., band].copy(), shape[::-1], interpolation=cv2.INTER_LINEAR)
        for band in range(3)
    ]
    np.testing.assert_array_equal(out, np.stack(bands, axis=2))


def test_warp_interpolates_between_neighbours() -> None:
    out = np.zeros((1, 4, 3), np.uint8)
    warp(np.array([[[0] * 3, [100] * 3]], np.uint8), out)
    assert out[0, :, 0].tolist() == [0, 25, 75, 100]  # pixel centres at 1/4, 3/4, 5/4 and 7/4


# --------------------------------------------------------------------- chips, through the process


@pytest.fixture(scope="module")
def chip_run(checksum_model: Path, tmp_path_factory: pytest.TempPathFactory) -> chip_files.Run:
    """A run over every readable and every unreadable chip, mixed, in batches of 7."""
    chips = {name: readable_chips()[name][0] for name in READABLE} | unreadable_chips()
    paths = [str(path) for path in np.random.default_rng(10).permutation(sorted(chips))]
    archive = make_tar([(f"any/{path}", chips[path]) for path in paths])
    ports = {"deploy_batch": "7", "normalization_vector": "0,0,0"}
    work_dir = make_work_dir(tmp_path_factory.mktemp("run") / "w", archive, checksum_model, ports)
    return chip_files.run_task(work_dir)


@pytest.fixture(scope="module")
def archive_order(chip_run: chip_files.Run) -> list[str]:
    """The chips' paths below the top directory, in the order of the archive of chip_run."""
    with tarfile.open(chip_run.work_dir / "input" / "chips" / "chips.tar") as tar:
        return [name.removeprefix("any/") for name in tar.getnames()]


@pytest.mark.parametrize("name", READABLE)
def test_chip_is_classified_with_the_pixels_that_opencv_reads(
    name: str, chip_run: chip_files.Run, archive_order: list[str], tmp_path: Path
) -> None:
    warped = cv2.resize(reference(name, tmp_path), (16, 16), interpolation=cv2.INTER_LINEAR)
    answer = chip_run.classified[reported_name(name, archive_order)]
    # Exact: see checksum_weights.
    assert answer == {"class": "0", "certainty": chip_files.checksum(warped)}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_chip_is_unclassified_with_a_reason(
    name: str, chip_run: chip_files.Run, archive_order: list[str]
) -> None:
    reported = reported_name(name, archive_order)
    assert reported not in chip_run.classified
    reason = chip_run.unclassified[reported]
    parts = {
        "empty.jpg": "empty",
        "random.png": "is no image",
        "text.tif": "is a web page",
        "gif_inside.png": "is a gif image",
        "too_many_pixels.png": f"{MAX_CHIP_PIXELS:,}",
        "too_many_pixels.tif": f"{MAX_CHIP_PIXELS:,}",
        "declares_too_many_pixels.png": f"{MAX_CHIP_PIXELS:,}",
        "float.tif": "floating point",
        "float_rgb.tif": "floating point",
        "double.tif": "floating point",
        "four_byte.tif": "32 bits",
    }
    assert parts.get(name, "damaged") in reason
    assert chip_run.warnings(f"'any/{name}'")[0].endswith(reason)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a heif image"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "is an avif image"),
        (b"P6\n8 8\n255\n", "is a netpbm image"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b"P6 is a letter and a number", "is no image"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "is no image"),
    ],
)
def test_what_is_no_chip_is_called_what_it_is(data: bytes, what: str) -> None:
    assert what in describe(data)


def test_png_of_apple_is_named() -> None:
    data = b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI\x50\0\x20\6" + bytes(100)
    with pytest.raises(UndecodableChip, match="CgBI"):
        Decoder().decode(data)


def deflate_tif(padding: int = 0) -> bytes:
    """Write a tif with one strip at its end, with zeros behind the packed bytes."""
    data = bytearray(imagecodecs.tiff_encode(scene(1, 64, 64), compression="deflate"))
    ((start, end),) = read_layout(bytes(data)).packed
    directory = int.from_bytes(data[4:8], "little")
    values = {273: len(data), 279: end - start + padding}  # the strip's place and its bytes
    for entry in range(directory + 2, directory + 2 + 12 * data[directory], 12):
        tag = int.from_bytes(data[entry : entry + 2], "little")
        if tag in values:
            data[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, values[tag])
    return bytes(data + data[start:end] + bytes(padding))


UNWRITTEN = {
    **{name: chip_files.pillow(scene(1, 64, 64), name) for name in ("jpeg", "png", "webp")},
    "jp2": chip_files.pillow(scene(1, 64, 64), "jpeg2000"),
    "tif": deflate_tif(),
}


@pytest.mark.parametrize("loading", LOADINGS)
@pytest.mark.parametrize("kind", UNWRITTEN)
def test_end_that_was_never_written_is_damage(kind: str, loading: str) -> None:
    """Files of which the end is zeros, as after a power failure: decoders take them for data."""
    data, decoder = UNWRITTEN[kind], Decoder(loading=loading)
    decoder.decode(data)
    for missing in (len(data) // 2, 700 if kind == "webp" else 5):
        with pytest.raises(UndecodableChip, match="damaged"):
            decoder.decode(data[:-missing] + bytes(missing))


def test_webp_with_zeros_behind_its_picture_is_sound() -> None:
    """As the notes of a camera's maker in EXIF."""
    data = chip_files.pillow(scene(1, 64, 64), "webp", exif=b"Exif\0\0II*\0" + bytes(600))
    assert Decoder().decode(data).shape == (64, 64, 3)


@pytest.mark.parametrize("loading", LOADINGS)
def test_png_with_a_wrong_checksum_is_damaged_whoever_reads_it(loading: str) -> None:
    """Pillow reads over it."""
    data = bytearray(UNWRITTEN["png"])
    data[data.index(b"IDAT") - 4 + 8 + int.from_bytes(data[data.index(b"IDAT") - 4 :][:4])] ^= 1
    with pytest.raises(UndecodableChip, match="damaged"):
        Decoder(loading=loading).decode(bytes(data))


def test_deflate_that_is_padded_with_zeros_is_sound() -> None:
    pixels = Decoder().decode(deflate_tif(padding=8))
    assert np.array_equal(pixels[..., 0], scene(1, 64, 64))


def test_answers_keep_the_order_of_the_archive(
    chip_run: chip_files.Run, archive_order: list[str]
) -> None:
    names = [reported_name(path, archive_order) for path in archive_order]
    assert list(chip_run.classified) == [n for n in names if n in chip_run.classified]
    assert list(chip_run.unclassified) == [n for n in names if n in chip_run.unclassified]
    assert len(chip_run.classified) + len(chip_run.unclassified) == len(names)


def test_unclassified_chips_are_counted_in_the_status(chip_run: chip_files.Run) -> None:
    bad, total = len(UNREADABLE), len(UNREADABLE) + len(READABLE)
    assert chip_run.code == 0
    assert chip_run.status["status"] == "success"
    assert f"{bad} of {total} chips" in chip_run.status["reason"]
    assert all(line.startswith("Warning: ") for line in chip_run.stderr.splitlines())


def test_16_bit_chips_are_warned_about_once(chip_run: chip_files.Run) -> None:
    assert len(chip_run.warnings("16-bit")) == 1
