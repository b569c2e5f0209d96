"""The same files give the same chips, results and warnings as a tar, a zip and a folder."""

import os
import shutil
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import chip_files
from chip_classifier.answers import Answers
from chip_classifier.errors import UndecodableChip
from chip_classifier.sources.open_source import open_source
from chip_classifier.sources.source import Source, plain_path, target_of

PNG = chip_files.uniform_png(200, 20, 10)


def write(name: bytes | str, data: bytes = PNG) -> Callable[[bytes], None]:
    """Return what writes a file below a folder."""

    def make(top: bytes) -> None:
        path = os.path.join(top, os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)

    return make


def link(name: str, target: str) -> Callable[[bytes], None]:
    """Return what writes a link below a folder."""

    def make(top: bytes) -> None:
        path = os.path.join(top, os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(os.fsencode(target), path)

    return make


def fifo(top: bytes) -> None:
    """Make a FIFO with the name of a chip below a folder."""
    os.mkfifo(os.path.join(top, b"pipe.png"))


# What a tree has besides a.png.
TREES = {
    "plain": [write("b/c.JPEG"), write("b.png")],
    "bytes": [write(b"x\xff.png"), write("x\\xff.png"), write("x\\x5cxff.png")],
    "umlauts": [write("Gebäude_ü.png"), write("Ge\u0308.png")],
    "spaces and signs": [write(" 'a' \"b\" ~#%&.png"), write("a\nb.png"), write("-rf.png")],
    "backslashes": [write("b\\c.png"), write("b\\c/d.png")],
    "endings": [write("b.jpg.png"), write("b"), write(".png"), write("c."), write("d.TIFF")],
    "same stem": [write("b.png"), write("b.jpg"), write("b/b.png")],
    "no bytes": [write("empty.png", b"")],
    "no picture": [write("text.png", b"text"), write("notes.txt", b"text")],
    "other name": [write("b.dat"), write("c.gif", b"GIF89a" + bytes(50))],
    "hidden files": [
        write(".DS_Store", b"x"),
        write("._a.png"),
        write(".#a.png"),
        write("..b.png"),
    ],
    "hidden folders": [
        write(".thumbs/a.png"),
        write("b/.ipynb_checkpoints/a.png"),
        write("...d/a"),
    ],
    "macOS": [write("__MACOSX/a.png"), write("b/__MACOSX/._a.png"), write("b__MACOSX/c.png")],
    "links": [link("b/l.png", "../a.png"), link("k.png", "b/l.png"), link("l2.png", "./a.png")],
    "dead links": [link("b.png", "nothing.png"), link("notes.txt", "nothing"), link(".#b", "n@h")],
    "circles": [link("b.png", "c.png"), link("c.png", "b.png"), link("d.png", "d.png")],
    "links to no chips": [write("n.txt", b"t"), link("b.png", "n.txt"), link("c.txt", "a.png")],
    "links to hidden": [link("l.txt", ".h"), write(".h", b"t"), link(".l.png", "a.png")],
    "links to folders": [
        write("b/c.png"),
        link("east", "b"),
        link("b/up", ".."),
        link("w.png", "b"),
    ],
    "FIFO": [fifo],
    "long": [write("/".join(["d" * 90] * 3) + "/far.tif")],
    "folder like a chip": [write("b.png/c.png"), write("b.png/notes", b"t")],
}


def write_zip(path: Path, top: Path) -> None:
    """Make a zip of a folder with all that it holds, names as bytes, as Info-ZIP does on Unix."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        places = sorted(found for found in top.rglob("*"))
        for place in places:
            name = os.fsencode(place.relative_to(top.parent))
            mode = place.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            info = zipfile.ZipInfo(name.decode("cp437"))
            info.create_system, info.external_attr = 3, mode << 16
            data = b""
            if stat.S_ISLNK(mode):
                data = os.fsencode(os.readlink(place))
            elif stat.S_ISREG(mode):
                data = place.read_bytes()
            archive.writestr(info, data)
    # zipfile marks the names as UTF-8, and writes them so: as they are, they are of code page 437.
    undo_utf_8(path)


def undo_utf_8(path: Path) -> None:
    """Make a zip's names, which zipfile wrote as UTF-8, those bytes that code page 437 has."""
    done, data = bytearray(), path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    places, directory = {}, bytearray()
    for info in infos:
        raw = info.orig_filename.encode("cp437")
        places[info.header_offset] = len(done)
        at, known = info.header_offset, len(info.orig_filename.encode())
        name = raw if info.flag_bits & 0x800 else info.orig_filename.encode()
        head = bytearray(data[at : at + 30])
        head[7] &= ~0x08
        head[26:28] = len(name).to_bytes(2, "little")
        done += head + name + data[at + 30 + known : at + 30 + known + info.compress_size]
    at = data.index(b"PK\1\2")
    for info in infos:
        known = len(info.orig_filename.encode())
        is_utf_8 = info.flag_bits & 0x800
        name = info.orig_filename.encode("cp437") if is_utf_8 else info.orig_filename.encode()
        head = bytearray(data[at : at + 46])
        head[9] &= ~0x08
        head[28:30] = len(name).to_bytes(2, "little")
        head[42:46] = places[info.header_offset].to_bytes(4, "little")
        directory += head + name
        at += 46 + known
    end = bytearray(data[-22:])
    end[12:16] = len(directory).to_bytes(4, "little")
    end[16:20] = len(done).to_bytes(4, "little")
    path.write_bytes(done + directory + end)


def results_of(source: Source) -> dict[str, object]:
    """Read all chips of a source: results by name, in no order, and what is said of others."""
    answers, read = Answers(), {}
    for number, chip in enumerate(source.chips()):
        answers.names.extend([chip.name])
        if chip.link is not None:
            answers.links[number] = chip.link
        elif chip.problem is not None:
            read[number] = chip.problem
        else:
            try:
                read[number] = source.read(chip)
            except UndecodableChip as error:
                read[number] = str(error)
    found = {
        name: read[answering] if answering >= 0 else answers.reason(number, answering)
        for number, name, answering in answers.final()
    }
    return {"chips": found, "passed over": source.passed_over, "first": source.first_passed_over}


@pytest.mark.parametrize("kind", TREES)
def test_tar_zip_and_folder_give_the_same(kind: str, tmp_path: Path) -> None:
    top = tmp_path / "chips"
    for make in (write("a.png"), *TREES[kind]):
        make(os.fsencode(top))
    subprocess.run(["tar", "--sort=name", "-cf", "chips.tar", "chips"], cwd=tmp_path, check=True)
    write_zip(tmp_path / "chips.zip", top)
    by_tar = results_of(open_source(tmp_path / "chips.tar"))
    assert by_tar["chips"]["a"] == PNG
    with tarfile.open(tmp_path / "chips.tar") as tar:
        files = [info for info in tar if not info.isdir()]
    counted = len(by_tar["chips"]) + sum(by_tar["passed over"].values())
    assert counted == len(files), "each file is in the results, or counted"
    for other in ("chips.zip", "chips"):
        found = results_of(open_source(tmp_path / other))
        assert found == by_tar, other


def test_zip_of_info_zip_gives_the_same_as_a_tar(tmp_path: Path) -> None:
    if shutil.which("zip") is None:
        pytest.skip("the program zip is not installed")
    top = tmp_path / "chips"
    for kind in ("umlauts", "links", "hidden folders", "same stem"):
        for make in (write("a.png"), *TREES[kind]):
            make(os.fsencode(top))
    subprocess.run(["tar", "--sort=name", "-cf", "chips.tar", "chips"], cwd=tmp_path, check=True)
    subprocess.run(["zip", "-qry", "chips.zip", "chips"], cwd=tmp_path, check=True)
    by_zip, by_tar = (results_of(open_source(tmp_path / f"chips.{end}")) for end in ("zip", "tar"))
    assert by_zip["chips"] == by_tar["chips"]
    assert by_zip["passed over"] == by_tar["passed over"]


@pytest.mark.parametrize("way", ["tar", "zip", "folder"])
def test_one_hidden_folder_with_all_chips_is_the_users_own(way: str, tmp_path: Path) -> None:
    top = tmp_path / ".chips"
    for name in ("a.png", "b/c.png", ".trash/d.png"):
        write(name)(os.fsencode(top))
    if way == "tar":
        subprocess.run(["tar", "-cf", "chips.tar", ".chips"], cwd=tmp_path, check=True)
    write_zip(tmp_path / "chips.zip", top)
    source = open_source({"folder": top}.get(way, tmp_path / f"chips.{way}"))
    for _ in range(2):
        assert sorted(chip.name for chip in source.chips()) == [".chips/a.png", ".chips/b/c.png"]
        assert source.passed_over == {"hidden files": 1, "other files": 0}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.jpg", "a.jpg"),
        ("./chips//a.jpg", "chips/a.jpg"),
        ("/chips/./b/a.jpg", "chips/b/a.jpg"),
        ("chips/", "chips"),
        ("caf\udce9.jpg", "caf\\xe9.jpg"),
        ("caf\\xe9.jpg", "caf\\x5cxe9.jpg"),
        ("caf\\x5cxe9.jpg", "caf\\x5cx5cxe9.jpg"),
        ("C\\x41.jpg", "C\\x41.jpg"),
        ("é.jpg", "é.jpg"),
    ],
)
def test_plain_path_is_relative_and_printable(name: str, path: str) -> None:
    assert plain_path(name) == path


def test_target_of_a_link_is_relative_to_its_folder() -> None:
    assert target_of("chips/b/l.png", "../a.png") == "chips/a.png"
    assert target_of("chips/l.png", "./b/../a.png") == "chips/a.png"
    assert target_of("l.png", "../a.png") == "../a.png"


def test_what_gdal_puts_beside_a_tif_is_no_chip(tmp_path: Path) -> None:
    path, tif = tmp_path / "a.tar", b"II*\0" + bytes(50)
    chips = [(f"c/{name}", tif) for name in ("a.tif", "a.tif.ovr", "a.tif.MSK")]
    path.write_bytes(chip_files.make_tar(chips))
    source = open_source(path)
    assert [chip.name for chip in source.chips()] == ["c/a.tif"]
    assert source.passed_over == {"hidden files": 0, "other files": 2}
    assert source.first_passed_over == "c/a.tif.ovr"
