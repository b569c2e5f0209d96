"""Chips of every kind, archives of every kind: read as OpenCV and tar read them, or refused."""

import gzip
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import chip_files
import chips
from chip_files import make_tar, make_work_dir, readable_chips, scene, unreadable_chips
from chips import (
    LISTED_SECONDS,
    MAX_CHIP_PIXELS,
    Archive,
    Batch,
    BrokenArchive,
    Chip,
    Listing,
    Pipeline,
    UndecodableChip,
    decode_chip,
    has_16_bits,
    member_path,
    warp,
)

# Pillow warns about the tags of files that are cut off, and about sizes that damaged ones declare;
# what counts is what it returns.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::RuntimeWarning:PIL")

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
    """Read a chip from disk with cv2.imread; where that cannot, give the pixels it was made of.

    OpenCV lacks ZSTD and tifs that lie on their side.
    """
    data, pixels = readable_chips()[name]
    read = read_with_opencv(data, folder)
    if read is None:
        assert name in ("zstd.tif", "on_its_side.tif")
        return pixels
    return read


def read_with_opencv(data: bytes, folder: Path) -> np.ndarray | None:
    """Read an image file from disk with cv2.imread; None if it does not read it."""
    path = folder / "chip"
    path.write_bytes(data)
    try:
        return cv2.imread(str(path))
    except cv2.error:  # raised for sizes beyond its limits
        return None


def reported_name(path: str, paths: list[str]) -> str:
    """Give the name under which a chip is reported, in an archive with one top directory."""
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


@pytest.mark.parametrize("name", [n for n in READABLE if "16_bit" in n])
def test_16_bit_chip_is_read_as_value_by_256(name: str) -> None:
    grey = "grey" in name
    values = scene(5, 24, 20, kind=np.uint16) if grey else scene(4, 24, 20, 3, kind=np.uint16)
    pixels = decode_chip(readable_chips()[name][0]).astype(np.float64)
    expected = values[..., None] / 256 if grey else values[..., ::-1] / 256
    # OpenCV cuts the fraction off: less than 1. In colour tifs, libtiff divides by 257 instead (at
    # most 1 less, for 65535) and rounds (at most 0.5).
    assert np.abs(pixels - expected).max() < 1.5


@pytest.mark.parametrize("name", READABLE)
def test_16_bit_chips_are_told_from_others(name: str) -> None:
    assert has_16_bits(readable_chips()[name][0]) == ("16_bit" in name)


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
def test_damaged_chip_is_refused_or_read_as_opencv_does(name: str, tmp_path: Path) -> None:
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
        read = read_with_opencv(damaged, tmp_path)
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
        "random.png": "no jpeg, png or tif",
        "text.tif": "no jpeg, png or tif",
        "gif_inside.png": "no jpeg, png or tif",
        "bmp_inside.jpg": "no jpeg, png or tif",
        "too_many_pixels.png": f"{MAX_CHIP_PIXELS:,}",
        "too_many_pixels.tif": f"{MAX_CHIP_PIXELS:,}",
        "declares_too_many_pixels.png": f"{MAX_CHIP_PIXELS:,}",
        "eight_bands.tif": "8 band",
        "eight_bands_planar.tif": "8 band",
        "float.tif": "floating point",
        "float_rgb.tif": "floating point",
        "double.tif": "floating point",
        "four_byte.tif": "32 bits",
    }
    assert parts.get(name, "damaged") in reason
    assert chip_run.warnings(f"'any/{name}'")[0].endswith(reason)


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
    assert chip_run.stderr == ""


def test_16_bit_chips_are_warned_about_once(chip_run: chip_files.Run) -> None:
    assert len(chip_run.warnings("16-bit")) == 1


# ----------------------------------------------------------------------------- archives, one by one

PIXELS = chip_files.uniform_png(10, 20, 30)

LONG = "/".join(["d" * 90] * 3)  # longer than the 255 bytes of a plain header
SOUND_MEMBERS = [
    chip_files.header("chips", tarfile.DIRTYPE),
    ("chips/first.png", PIXELS),
    ("chips/.DS_Store", b"x"),
    ("chips/._first.png", b"x"),
    ("chips/notes.txt", b"a note"),
    chip_files.header("chips/folder.jpg", tarfile.DIRTYPE),
    ("chips/folder.jpg/inside.JPEG", b"not opened"),
    chip_files.header("chips/pipe.png", tarfile.FIFOTYPE),
    (f"chips/{LONG}/far.tif", b"x" * 1000),
    ("chips/Köln/straße.TIFF", b"unicode"),
    ("chips/caf\udce9.jpg", b"latin-1"),
    ("chips/new\nline.Png", b"x" * 512),
    ("chips/no_bytes.jpg", b""),
    ("chips/last.jpg", b"end"),
]
SOUND_CHIPS = [
    ("chips/first.png", PIXELS),
    ("chips/folder.jpg/inside.JPEG", b"not opened"),
    (f"chips/{LONG}/far.tif", b"x" * 1000),
    ("chips/Köln/straße.TIFF", b"unicode"),
    ("chips/caf\\xe9.jpg", b"latin-1"),
    ("chips/new\nline.Png", b"x" * 512),
    ("chips/no_bytes.jpg", b""),
    ("chips/last.jpg", b"end"),
]


def read_archive(path: Path, data: bytes) -> list[tuple[str, bytes]]:
    """Write an archive and read its chips: (path in the archive, data)."""
    path.write_bytes(data)
    archive = Archive(path)
    return [(chip.name, archive.read(chip)) for chip in archive.chips()]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archive_gives_its_chips_in_order(mode: str, kind: int, tmp_path: Path) -> None:
    # The name does not matter: the first bytes tell the compression.
    assert read_archive(tmp_path / "a.tar", make_tar(SOUND_MEMBERS, mode, kind)) == SOUND_CHIPS


@pytest.mark.parametrize("prefix", ["./", "/", "./././", "/data//"])
def test_chips_are_known_by_plain_relative_paths(prefix: str, tmp_path: Path) -> None:
    members = [(f"{prefix}chips/{name}.jpg", b"x") for name in "ab"]
    names = [name for name, _ in read_archive(tmp_path / "a.tar", make_tar(members))]
    assert names == [f"{'data/' * ('data' in prefix)}chips/{name}.jpg" for name in "ab"]


def test_archive_made_by_tar_itself_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "chips"
    folder.mkdir()
    for name in ("a.jpg", "b.png"):
        (folder / name).write_bytes(name.encode())
    with (folder / "holes.tif").open("wb") as file:  # tar -S stores it without its holes
        file.write(b"II*\0")
        file.seek(2**20)
        file.write(b"end")
    subprocess.run(["tar", "-cSf", "chips.tar", "chips"], cwd=tmp_path, check=True)
    assert (tmp_path / "chips.tar").stat().st_size < 2**19
    archive = Archive(tmp_path / "chips.tar")
    assert {chip.name: archive.read(chip) for chip in archive.chips()} == {
        f"chips/{name}": (folder / name).read_bytes() for name in ("a.jpg", "b.png", "holes.tif")
    }


def test_what_is_no_chip_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(make_tar(SOUND_MEMBERS))
    archive = Archive(path)
    for _ in range(2):  # each reading counts anew
        list(archive.chips())
        assert archive.passed_over == {"hidden files": 2, "other files": 2}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_archive_cut_off_anywhere_is_refused(mode: str, tmp_path: Path) -> None:
    chips = [(f"chips/{number}.jpg", scene(number, 400).tobytes()) for number in range(4)]
    data = make_tar(chips, mode)
    # A plain tar ends with a block of zeros behind the last member; the rest is padding.
    needed = 4 * (512 + 512) + 512 if mode == "w" else len(data)
    for length in range(0, needed, 64 if mode == "w" else 37):
        sound = []
        (tmp_path / "a.tar").write_bytes(data[:length])
        with pytest.raises(BrokenArchive) as raised:
            archive = Archive(tmp_path / "a.tar")
            for chip in archive.chips():
                sound.append((chip.name, archive.read(chip)))
        assert sound == chips[: len(sound)]
        assert "a.tar" in str(raised.value)
        if sound:
            assert f"'chips/{len(sound)}.jpg'" in str(raised.value) or (
                f"'{sound[-1][0]}'" in str(raised.value)
            )


def test_damaged_header_in_the_middle_is_no_end_of_the_archive(tmp_path: Path) -> None:
    data = bytearray(make_tar([(f"chips/{number}.jpg", b"x") for number in range(4)]))
    data[2 * 1024 + 10] ^= 0xFF  # in the third member's name
    sound = []
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(BrokenArchive, match=r"'chips/1\.jpg'"):
        for chip in Archive(tmp_path / "a.tar").chips():
            sound.append(chip.name)
    assert sound == ["chips/0.jpg", "chips/1.jpg"]


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_wrong_checksum_is_found(mode: str, tmp_path: Path) -> None:
    data = bytearray(make_tar([("chips/a.jpg", b"x" * 5000)], mode))
    data[-6 if mode == "w:gz" else -14] ^= 0x01  # CRC of gzip; trailer of bzip2; footer of xz
    with pytest.raises(BrokenArchive):
        read_archive(tmp_path / "a.tar", bytes(data))


def test_damaged_archive_raises_nothing_but_broken_archive(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    for tar_format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        data = make_tar(SOUND_MEMBERS, tar_format=tar_format)
        for _ in range(300):
            damaged = bytearray(data)
            for place in rng.integers(0, len(data) - 10240, 4):
                damaged[place] = rng.integers(256)
            try:
                read_archive(tmp_path / "a.tar", bytes(damaged))
            except BrokenArchive as error:
                assert "a.tar" in str(error)


def test_archive_that_is_cut_off_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(make_tar([("chips/a.jpg", b"x" * 5000)]))
    archive = Archive(path)
    (chip,) = archive.chips()
    os.truncate(path, 3000)
    with pytest.raises(BrokenArchive, match=r"a\.tar was cut off while it was read"):
        archive.read(chip)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_listing_goes_ahead_of_the_chips_that_are_used(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    names = [f"{n}.jpg" for n in range(5)]
    path.write_bytes(make_tar([(name, b"x") for name in names], mode))
    listing = Listing(Archive(path))
    listing.go_on(seconds=0)
    assert listing.number == 1
    listing.go_on(chips=3)
    assert listing.number == (3 if mode == "w" else 2)
    listing.go_on(chips=2)
    assert listing.number == (3 if mode == "w" else 2)
    listing.go_on(seconds=60)
    assert listing.number == (5 if mode == "w" else 3)
    assert listing.is_complete == (mode == "w")
    assert [chip.name for chip in listing] == names
    assert listing.number == 5
    assert listing.is_complete


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_listing_gives_the_sound_chips_before_the_damage(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(make_tar([(f"{n}.jpg", os.urandom(9000)) for n in range(9)], mode)[:50_000])
    listing = Listing(Archive(path))
    listing.go_on(seconds=60)
    names = []
    with pytest.raises(BrokenArchive, match=r"cut off or damaged after the member '[45]\.jpg'"):
        for chip in listing:
            names.append(chip.name)
    assert names == [f"{n}.jpg" for n in range(5)]
    assert isinstance(listing.error, BrokenArchive)
    assert not listing.is_complete


class ArchiveThatEndsItsReader(Archive):
    """An archive at whose last chip the other process, but not this one, is killed."""

    def chips(self) -> Iterator[Chip]:
        """Yield the chips, slowly enough for the one before the last to be sent."""
        chips = list(super().chips())
        yield from chips[:-2]
        time.sleep(2 * LISTED_SECONDS)
        yield chips[-2]
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        yield chips[-1]


def list_aside(archive: Archive) -> Listing:
    """Begin to list an archive, and leave the rest to another process."""
    listing = Listing(archive)
    listing.go_on(seconds=0)
    assert listing.number == 1
    listing.go_on_aside()
    return listing


def test_another_process_lists_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tar"
    names = [f"{n}.jpg" for n in range(5000)]
    path.write_bytes(make_tar([*((name, b"x") for name in names), ("a.txt", b"x")]) + b"x" * 9000)
    listing = list_aside(Archive(path))
    monkeypatch.delattr(Archive, "chips")  # of this process
    assert [chip.name for chip in listing] == names
    assert (listing.number, listing.is_complete) == (len(names), True)
    assert listing.archive.passed_over["other files"] == 1
    assert listing.archive.left_behind
    assert 0.9 < listing.archive.progress <= 1
    assert multiprocessing.active_children() == []


def test_another_process_gives_the_sound_chips_before_the_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(make_tar([(f"{n}.jpg", os.urandom(9000)) for n in range(9)])[:50_000])
    listing = list_aside(Archive(path))
    monkeypatch.delattr(Archive, "chips")  # of this process
    chips = iter(listing)
    assert [next(chips).name for _ in range(5)] == [f"{n}.jpg" for n in range(5)]
    with pytest.raises(BrokenArchive, match=r"cut off or damaged after the member '5\.jpg'"):
        next(chips)


def test_where_another_process_is_killed_this_one_lists_on(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    names = [f"{n}.jpg" for n in range(9)]
    path.write_bytes(make_tar([(name, b"x") for name in names]))
    assert [chip.name for chip in list_aside(ArchiveThatEndsItsReader(path))] == names
    assert multiprocessing.active_children() == []


def test_another_process_ends_with_this_one(tmp_path: Path) -> None:
    """It would keep the pipe of stdout open, and locks that were inherited."""
    path = tmp_path / "a.tar"
    path.write_bytes(make_tar([(f"{n}.jpg", b"x") for n in range(9)]))
    code = """
import os, sys, time
from pathlib import Path
from chips import Archive, Listing

class EndlessArchive(Archive):
    def chips(self):
        yield from super().chips()
        time.sleep(600)

listing = Listing(EndlessArchive(Path(sys.argv[1])))
listing.go_on(seconds=0)
listing.go_on_aside()
os._exit(0)
"""
    command = [sys.executable, "-c", code, str(path)]
    folder = Path(chips.__file__).parent
    # It waits for the end of everyone who has the pipes.
    ended = subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=folder)
    assert ended.stdout + ended.stderr == b""


@pytest.mark.parametrize("garbage", [b"garbage" * 500, b"\0" * 512 + b"x" * 20000])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_data_behind_the_end_marker_is_noticed(mode: str, garbage: bytes, tmp_path: Path) -> None:
    data = make_tar([("chips/a.jpg", b"x")]) + garbage
    if mode == "w:gz":
        data = gzip.compress(data)
    (tmp_path / "a.tar").write_bytes(data)
    archive = Archive(tmp_path / "a.tar")
    assert [chip.name for chip in archive.chips()] == ["chips/a.jpg"]
    assert archive.left_behind


def test_padding_behind_the_end_marker_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(make_tar([("chips/a.jpg", b"x")]) + bytes(30000))
    archive = Archive(tmp_path / "a.tar")
    list(archive.chips())
    assert not archive.left_behind


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.jpg", "a.jpg"),
        ("./chips//a.jpg", "chips/a.jpg"),
        ("/chips/./b/a.jpg", "chips/b/a.jpg"),
        ("chips/", "chips"),
        ("caf\udce9.jpg", "caf\\xe9.jpg"),
        ("é.jpg", "é.jpg"),
    ],
)
def test_member_path_is_plain_and_printable(name: str, path: str) -> None:
    assert member_path(name) == path


def batches_of(path: Path, batch_size: int, answered: int = 0) -> list[Batch]:
    """Read an archive through the pipeline, chips warped to 5 x 6."""
    return list(Pipeline(Listing(Archive(path)), batch_size, (5, 6), answered))


@pytest.mark.parametrize("batch_size", [1, 3, 17, 1000])
def test_pipeline_keeps_each_chip_at_its_place(batch_size: int, tmp_path: Path) -> None:
    # Large and small chips alternate, so that threads finish out of order.
    images = [scene(n, *((300, 300) if n % 3 else (4, 4)), 3) for n in range(43)]
    path = tmp_path / "a.tar"
    path.write_bytes(make_tar([(f"{n}.png", chip_files.png(i)) for n, i in enumerate(images)]))
    batches = batches_of(path, batch_size)
    assert [name for batch in batches for name in batch.names] == [f"{n}.png" for n in range(43)]
    assert [batch.first for batch in batches] == list(range(0, 43, batch_size))
    for batch in batches:
        for row in range(len(batch.names)):
            image = chip_files.bgr(images[batch.first + row])
            np.testing.assert_array_equal(batch.pixels[row], cv2.resize(image, (6, 5)))


def test_chips_that_are_decoded_together_do_not_mind_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chips, "usable_cores", lambda: 1)  # the larger the groups
    images = {n: scene(n, 5, 6, 3) for n in range(64)}
    members = [
        (f"{n}.png", b"bad")
        if n % 5 == 1
        else chip_files.header(f"{n}.png", tarfile.SYMTYPE, "0.png")
        if n % 7 == 2
        else (f"{n}.png", chip_files.png(image))
        for n, image in images.items()
    ]
    path = tmp_path / "a.tar"
    path.write_bytes(make_tar(members))
    (batch,) = batches_of(path, 64)
    assert list(batch.problems) == [n for n in images if n % 5 == 1]
    sound = [n for n in images if n % 5 != 1 and n % 7 != 2]
    assert batch.decoded_rows().tolist() == sound
    for number in sound:
        np.testing.assert_array_equal(batch.pixels[number], chip_files.bgr(images[number]))


def test_pipeline_gives_nothing_of_an_archive_that_was_written_to(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    members = [(f"{n}.png", PIXELS) for n in range(40)]
    path.write_bytes(make_tar(members))
    batches = iter(Pipeline(Listing(Archive(path)), 1, (5, 6), 0))
    next(batches)
    path.write_bytes(make_tar(members[::-1]))  # as long, the chips at other places
    with pytest.raises(BrokenArchive, match=r"a\.tar was changed while it was read"):
        next(batches)


def test_archive_is_read_to_its_end_whatever_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(make_tar([("a.jpg", b"first"), ("b.jpg", b"x")]))
    archive = Archive(path)
    path.unlink()
    path.write_bytes(make_tar([("c.jpg", b"other")]))
    assert [archive.read(chip) for chip in archive.chips()] == [b"first", b"x"]


def test_pipeline_does_not_decode_answered_chips(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(make_tar([(f"{n}.png", PIXELS if n > 3 else b"bad") for n in range(8)]))
    batches = batches_of(path, 2, answered=4)
    assert [batch.problems for batch in batches] == [{}] * 4
    assert [batch.pixels is None for batch in batches] == [True, True, False, False]


def test_pipeline_gives_sound_batches_before_the_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(make_tar([(f"{n}.png", PIXELS) for n in range(9)], "w")[: 8 * 1024 + 700])
    names = []
    with pytest.raises(BrokenArchive, match=r"'7\.png'|'8\.png'"):
        for batch in Pipeline(Listing(Archive(path)), 2, (5, 6), 0):
            names += batch.names
    assert names == [f"{n}.png" for n in range(8)]


# ------------------------------------------------------------------ archives, through the process


def reason_for(archive: bytes, folder: Path, model: Path, name: str = "chips.tar") -> str:
    """Run the task on an archive that it must refuse before TensorFlow is loaded."""
    return chip_files.fail_before_tensorflow(
        make_work_dir(folder / "w", archive, model, archive_name=name)
    )


def zipped(name: str, data: bytes) -> bytes:
    """Make a zip archive of one file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


NO_TAR = {
    "zip": zipped("chips/a.png", PIXELS),
    "empty": b"",
    "text": b"<html>404</html>" * 100,
    "chip": PIXELS,
    "gzip_of_no_tar": gzip.compress(b"no tar" * 500),
}


@pytest.mark.parametrize("kind", NO_TAR)
def test_file_that_is_no_tar_fails_and_says_how_to_make_one(
    kind: str, tmp_path: Path, bands_model: Path
) -> None:
    reason = reason_for(NO_TAR[kind], tmp_path, bands_model)
    assert "chips.tar" in reason
    assert "tar -cvf" in reason


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize(
    ("members", "found"),
    [
        ([], "empty"),
        ([("chips/readme.txt", b"x"), ("chips/._a.jpg", b"x")], "1 hidden files, 1 other files"),
        ([chip_files.header("chips/a.jpg", tarfile.DIRTYPE)], ""),
    ],
)
def test_archive_without_chips_fails(
    mode: str, members: list, found: str, tmp_path: Path, bands_model: Path
) -> None:
    reason = reason_for(make_tar(members, mode), tmp_path, bands_model)
    assert "no jpeg, png or tif chips" in reason
    assert found in reason


def test_cut_off_archive_fails_at_once_and_names_the_place(
    tmp_path: Path, bands_model: Path
) -> None:
    archive = make_tar([(f"chips/{number}.png", PIXELS) for number in range(9)])
    assert "'chips/5.png'" in reason_for(archive[: 6 * 1024], tmp_path, bands_model)


def test_reason_stays_one_line_whatever_the_names_are(tmp_path: Path, bands_model: Path) -> None:
    archive = make_tar([("chips/new\nline.png", PIXELS), ("chips/b.png", PIXELS)])
    reason_for(archive[: 1024 + 100], tmp_path, bands_model)


def test_compressed_archive_cut_off_fails_without_results(
    tmp_path: Path, bands_model: Path
) -> None:
    chips = [(f"chips/{n}.png", chip_files.png(scene(n, 30, 30, 3))) for n in range(40)]
    data = make_tar(chips, "w:gz")
    work_dir = make_work_dir(
        tmp_path / "w", data[: len(data) // 2], bands_model, {"deploy_batch": "3"}
    )
    reason = chip_files.assert_failed(chip_files.run_task(work_dir))
    assert "chips.tar" in reason
    assert "cut off or damaged" in reason


def test_archive_of_all_oddities_is_classified_under_its_names(
    tmp_path: Path, checksum_model: Path
) -> None:
    images = {n: scene(n, 16, 16, 3) for n in range(12)}
    data = {number: chip_files.png(image) for number, image in images.items()}
    members = [
        chip_files.header("./", tarfile.DIRTYPE),
        chip_files.header("./top", tarfile.DIRTYPE),
        ("./top/a.jpg", data[0]),
        ("./top/a.png", data[1]),
        ("./top/east/a.jpg", data[2]),
        ("./top/a.jpg.png", data[3]),
        ("./top/twice.png", b"the first one is replaced"),
        ("./top/.hidden.png", data[4]),
        ("./top/notes.txt", b"x"),
        ("./top/twice.png", data[5]),
        ("./top/dots.in.name.tif", data[6]),
        ("./top/caf\udce9.png", data[7]),
        ("./top/new\nline.png", data[8]),
        ("./top/bad\n2017 ERROR forged.png", b"no image"),
        (f"./top/{LONG}/Köln.TIFF", data[9]),
        chip_files.header("./top/east/soft.jpg", tarfile.SYMTYPE, "../a.png"),
        chip_files.header("./top/hard.jpg", tarfile.LNKTYPE, "./top/later.png"),
        chip_files.header("./top/chain.jpg", tarfile.SYMTYPE, "east/soft.jpg"),
        chip_files.header("./top/dangling.jpg", tarfile.SYMTYPE, "nothing.jpg"),
        chip_files.header("./top/circle1.jpg", tarfile.SYMTYPE, "circle2.jpg"),
        chip_files.header("./top/circle2.jpg", tarfile.SYMTYPE, "circle1.jpg"),
        ("./top/later.png", data[10]),
    ]
    archive = make_tar(members) + b"behind the end" * 100
    ports = {"normalization_vector": "0,0,0", "deploy_batch": "4"}
    run = chip_files.run_task(
        make_work_dir(tmp_path / "w", archive, checksum_model, ports, archive_name="Other.TAR")
    )
    expected = {
        "a.jpg": 0,
        "a.png": 1,
        "east/a": 2,
        "a.jpg.png": 3,
        "twice": 5,
        "dots.in.name": 6,
        "caf\\xe9": 7,
        "new\nline": 8,
        f"{LONG}/Köln": 9,
        "east/soft": 1,
        "hard": 10,
        "chain": 1,
        "later": 10,
    }
    assert run.classified == {
        name: {"class": "0", "certainty": chip_files.checksum(chip_files.bgr(images[number]))}
        for name, number in expected.items()
    }
    assert list(run.classified) == list(expected)
    assert set(run.unclassified) == {
        "bad\n2017 ERROR forged",
        "dangling",
        "circle1",
        "circle2",
    }
    assert "nothing.jpg" in run.unclassified["dangling"]
    assert run.code == 0
    assert "4 of 17 chips" in run.status["reason"]
    assert not any(line.startswith("2017 ERROR") for line in run.log.splitlines())
    assert "1 hidden files" in run.log
    assert "1 other files" in run.log
    assert len(run.warnings("follows the end")) == 1


def test_compressed_archive_without_a_top_directory_is_classified(
    tmp_path: Path, checksum_model: Path
) -> None:
    images = {name: scene(n, 16, 16, 3) for n, name in enumerate(("a", "east/b", "west/b"))}
    members = [(f"{name}.png", chip_files.png(image)) for name, image in images.items()]
    archive = make_tar(members, "w:gz", tarfile.PAX_FORMAT)
    ports = {"normalization_vector": "0,0,0"}
    work_dir = make_work_dir(
        tmp_path / "w", archive, checksum_model, ports, archive_name="CHIPS.TGZ"
    )
    run = chip_files.assert_succeeded(chip_files.run_task(work_dir))
    assert run.classified == {
        name: {"class": "0", "certainty": chip_files.checksum(chip_files.bgr(image))}
        for name, image in images.items()
    }
