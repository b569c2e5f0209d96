"""Archives of every kind: read as tar reads them, or refused."""

import gzip
import io
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

import chip_files
from chip_classifier.errors import BrokenArchive
from chip_classifier.sources.tar import BLOCK, Tar, read_usual_header
from chip_files import make_tar, make_work_dir, scene

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
    archive = Tar(path)
    chips = list(archive.chips())
    data = [archive.read(chip) for chip in chips]
    if chips:  # several at once
        assert list(map(archive.reader(chips), chips)) == data
    return [(chip.name, read) for chip, read in zip(chips, data, strict=True)]


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
    found = read_archive(tmp_path / "b.tar", (tmp_path / "chips.tar").read_bytes())
    assert dict(found) == {
        f"chips/{name}": (folder / name).read_bytes() for name in ("a.jpg", "b.png", "holes.tif")
    }


def test_what_is_no_chip_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(make_tar(SOUND_MEMBERS))
    archive = Tar(path)
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
            archive = Tar(tmp_path / "a.tar")
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
        for chip in Tar(tmp_path / "a.tar").chips():
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
    archive = Tar(path)
    (chip,) = archive.chips()
    os.truncate(path, 3000)
    for read in (archive.read, lambda chip: archive.reader([chip])(chip)):
        with pytest.raises(BrokenArchive, match=r"a\.tar was cut off while it was read"):
            read(chip)


def test_files_that_lie_in_each_other_are_read_whole(tmp_path: Path) -> None:
    # A global record of pax says the sizes, but tarfile does not skip by it.
    data = io.BytesIO()
    records = {"format": tarfile.PAX_FORMAT, "pax_headers": {"size": "3000"}}
    with tarfile.open(fileobj=data, mode="w", **records) as tar:
        for name, own in (("a.png", {}), ("b.png", {"size": "10"})):
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = 10, own
            tar.addfile(member, io.BytesIO(b"0123456789"))
    found = read_archive(tmp_path / "a.tar", data.getvalue())
    assert [(name, len(file)) for name, file in found] == [("a.png", 3000), ("b.png", 10)]


@pytest.mark.parametrize("garbage", [b"garbage" * 500, b"\0" * 512 + b"x" * 20000])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_data_behind_the_end_marker_is_noticed(mode: str, garbage: bytes, tmp_path: Path) -> None:
    data = make_tar([("chips/a.jpg", b"x")]) + garbage
    if mode == "w:gz":
        data = gzip.compress(data)
    (tmp_path / "a.tar").write_bytes(data)
    archive = Tar(tmp_path / "a.tar")
    assert [chip.name for chip in archive.chips()] == ["chips/a.jpg"]
    assert archive.left_behind


def test_padding_behind_the_end_marker_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(make_tar([("chips/a.jpg", b"x")]) + bytes(30000))
    archive = Tar(tmp_path / "a.tar")
    list(archive.chips())
    assert not archive.left_behind


# ------------------------------------------------------------------ headers, read at a glance


FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
NAMES = ("chips/a.jpg", "x" * 100, "/".join(["folder"] * 20) + "/a.jpg", "./a//b.jpg", "a.jpg/")


def header_of(name: str, size: int, kind: int, **fields: object) -> bytes:
    """Make the header of a file; where tarfile writes several blocks, the last one."""
    member = tarfile.TarInfo(name)
    member.size = size
    for field, value in fields.items():
        setattr(member, field, value)
    return member.tobuf(kind)[-BLOCK:]


def by_tarfile(block: bytes) -> tuple[str, int] | None:
    """Read a header with tarfile; None if it is damaged or not that of a regular file."""
    try:
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
    return (member.name, member.size) if member.type == tarfile.REGTYPE else None


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [0, 1, 700, 8**11 - 1])
def test_usual_headers_are_read_as_tarfile_does(kind: int, name: str, size: int) -> None:
    block = header_of(name, size, kind, uname="someone", gname="users", mtime=1_500_000_000)
    expected = by_tarfile(block)
    assert read_usual_header(block) == expected
    assert expected[1] == size


@pytest.mark.parametrize("kind", ["gnu", "ustar", "posix", "oldgnu"])
def test_headers_of_gnu_tar_are_usual(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x" * 700)
    command = ["tar", f"--format={kind}", "--create", "--file=a.tar", "a.jpg"]
    subprocess.run(command, cwd=tmp_path, check=True)
    content = (tmp_path / "a.tar").read_bytes()
    block = content[: -len(content) % BLOCK or None][content.rindex(b"a.jpg\0") :][:BLOCK]
    assert read_usual_header(block) == ("a.jpg", 700)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        bytes(BLOCK),
        header_of("a.jpg", 5, tarfile.USTAR_FORMAT)[:-1],
        header_of("ä.jpg", 5, tarfile.GNU_FORMAT),
        header_of("a.jpg", 8**11, tarfile.GNU_FORMAT),  # in base 256
        header_of("a.jpg", 0, tarfile.USTAR_FORMAT, type=tarfile.DIRTYPE),
        header_of("a.jpg", 0, tarfile.USTAR_FORMAT, type=tarfile.SYMTYPE, linkname="b.jpg"),
        header_of("a.jpg", 0, tarfile.USTAR_FORMAT, type=tarfile.LNKTYPE, linkname="b.jpg"),
        header_of("a.jpg", 9, tarfile.GNU_FORMAT, type=tarfile.GNUTYPE_SPARSE),
        header_of("a.jpg", 9, tarfile.PAX_FORMAT, type=tarfile.XHDTYPE),
        header_of("a.jpg", 9, tarfile.USTAR_FORMAT, mode=-1 & 0o7777777)[:100] + bytes(412),
    ],
)
def test_others_are_left_to_tarfile(block: bytes) -> None:
    assert read_usual_header(block) is None


@pytest.mark.parametrize("mend", [False, True])
def test_changed_headers_are_read_as_tarfile_does_or_not_at_all(mend: bool) -> None:
    """Changes of one to three bytes anywhere, with the old checksum and with one that is right."""
    rng = np.random.default_rng(3)
    read = 0
    for number in range(20_000):
        name = NAMES[number % len(NAMES)]
        block = bytearray(header_of(name, 700, FORMATS[number % 2], uname="someone"))
        for _ in range(rng.integers(1, 4)):
            value = rng.choice([0, 32, 48, 49, 55, 56, 120, *rng.integers(0, 256, 3)])
            block[rng.integers(BLOCK)] = value
        if mend:
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
        found = read_usual_header(bytes(block))
        assert found in (None, by_tarfile(bytes(block)))
        read += found is not None
    assert read > (5000 if mend else 0)


def test_archive_is_listed_the_same_with_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All kinds of members, the usual ones between others."""
    path = tmp_path / "a.tar"
    kinds = (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.AREGTYPE)
    names = (
        "a.jpg",
        "./b.png",
        ".hidden.jpg",
        "c.txt",
        "ä.jpg",
        "d" * 80 + "/" + "e" * 60 + ".tif",
        "e/f.JPG",
    )
    with path.open("wb") as file:
        for number in range(300):
            member = tarfile.TarInfo(f"chips/{number}/{names[number % len(names)]}")
            member.type = kinds[0] if number % 5 else kinds[number % len(kinds)]
            member.size = number * 7 if member.isreg() else 0
            file.write(member.tobuf(FORMATS[number % 3]) + bytes(-(-member.size // BLOCK) * BLOCK))
        file.write(bytes(2 * BLOCK))
    archive = Tar(path)
    found = list(archive.chips()), archive.passed_over, archive.left_behind
    monkeypatch.setattr("chip_classifier.sources.tar.read_usual_header", lambda block: None)
    assert (list(archive.chips()), archive.passed_over, archive.left_behind) == found
    assert len(found[0]) > 150


def test_global_header_holds_for_the_members_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", pax_headers={"path": "other.jpg"}) as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
        tar.addfile(tarfile.TarInfo("b.jpg"))
    assert [chip.name for chip in Tar(path).chips()] == ["other.jpg"] * 2


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
    assert "no jpeg, png, tif, webp, bmp or jp2 chips" in reason
    assert found in reason


@pytest.mark.smoke
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
    assert len(run.warnings("belongs to no file")) == 1


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
