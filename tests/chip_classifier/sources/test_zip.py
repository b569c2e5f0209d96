"""Zips of every kind: read as zipfile reads them, within bounds, or refused in a sentence."""

import bz2
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from chip_classifier.errors import BrokenArchive, UndecodableChip
from chip_classifier.sources.zip import Zip
from chip_files import uniform_png

PNG = uniform_png(1, 2, 3)
METHODS = {
    "stored": zipfile.ZIP_STORED,
    "deflate": zipfile.ZIP_DEFLATED,
    "bzip2": zipfile.ZIP_BZIP2,
    "lzma": zipfile.ZIP_LZMA,
}


def make_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytearray:
    """Write a zip, as zipfile does; return its bytes."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return bytearray(path.read_bytes())


def raw_zip(members: list[tuple[bytes, int, bytes, int]], system: int = 0) -> bytes:
    """Make a zip of members as they are said to be: name, method, packed bytes, unpacked size."""
    body, directory = b"", b""
    for name, method, packed, size in members:
        common = struct.pack("<HHHHHIIIHH", 20, 0, method, 0, 0, 0, len(packed), size, len(name), 0)
        directory += b"PK\1\2" + struct.pack("<BB", 20, system) + common
        directory += struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name
        body += b"PK\3\4" + common + name + packed
    end = struct.pack("<HHHHIIH", 0, 0, *[len(members)] * 2, len(directory), len(body), 0)
    return body + directory + b"PK\5\6" + end


def outcomes(path: Path) -> dict[str, bytes | str]:
    """Read all chips of a zip: name -> bytes, or why there are none."""
    source, found = Zip(path), {}
    for chip in source.chips():
        try:
            found[chip.name] = chip.problem or source.read(chip)
        except UndecodableChip as error:
            found[chip.name] = str(error)
    return found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", [b"", b"x", PNG, bytes(1_000_000)], ids=len)
def test_members_are_unpacked_as_zipfile_does(method: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    make_zip(path, {"c/a.png": data, "c/text": b"text", "c/b.png": PNG}, METHODS[method])
    assert outcomes(path) == {"c/a.png": data, "c/b.png": PNG}


@pytest.mark.parametrize("method", METHODS)
def test_damaged_members_cost_these_chips_alone(method: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    noise = np.random.default_rng(3).bytes(2000)
    data = make_zip(path, {"c/good.png": PNG, "c/bad.png": noise, "c/d.png": PNG}, METHODS[method])
    at = data.index(b"c/bad.png") + 60
    for place in range(at, at + 200, 20):
        damaged = data.copy()
        damaged[place] ^= 0x55
        path.write_bytes(damaged)
        found = outcomes(path)
        assert found["c/good.png"] == found["c/d.png"] == PNG
        assert isinstance(found["c/bad.png"], str)


def test_encrypted_and_lying_members_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    data = make_zip(path, {"c/secret.png": b"x" * 1000, "c/large.png": bytes(10_000_000)})
    central = data.index(b"PK\1\2")
    data[data.index(b"PK\3\4") + 6] |= 1  # flag bit 0: encrypted, in both headers
    data[central + 8] |= 1
    second = data.index(b"PK\1\2", central + 4)
    data[second + 24 : second + 28] = (100_000).to_bytes(4, "little")  # its unpacked size
    path.write_bytes(data)
    assert outcomes(path) == {
        "c/secret.png": "the file is encrypted: make the zip without a password",
        "c/large.png": "the file is larger than the zip says",
    }


@pytest.mark.parametrize("method", ["bzip2", "lzma", "deflate"])
def test_bombs_take_no_more_memory_than_the_zip_says(method: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    data = make_zip(path, {"c/a.png": bytes(2**26), "c/head": b"x" * 2**10}, METHODS[method])
    for place in (data.index(b"PK\1\2"), data.rindex(b"PK\1\2")):
        size = 2**18 if method == "deflate" else 1000
        data[place + 24 : place + 28] = size.to_bytes(4, "little")
    path.write_bytes(data)
    tracemalloc.start()
    found = outcomes(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.keys() == {"c/a.png"}
    assert isinstance(found["c/a.png"], str)
    assert peak < 2**24  # an LZMA dictionary has 8 MiB


def test_other_methods_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(raw_zip([(b"c/a.png", 9, b"x" * 50, 100), (b"c/b.png", 0, PNG, len(PNG))]))
    assert "method 9 (deflate64)" in outcomes(path)["c/a.png"]


def test_members_that_lie_over_others_are_refused(tmp_path: Path) -> None:
    """Each would be unpacked anew: a zip of half a megabyte became terabytes."""
    path = tmp_path / "a.zip"
    packed = bz2.compress(PNG)
    data = bytearray(raw_zip([(b"c/%d.png" % n, 12, packed, len(PNG)) for n in range(4)]))
    second = data.index(b"PK\1\2", data.index(b"PK\1\2") + 4)
    data[second + 42 : second + 46] = (0).to_bytes(4, "little")  # where the first one is
    path.write_bytes(data)
    found = outcomes(path)
    assert "lies over another one" in found["c/0.png"]
    assert "lies over another one" in found["c/1.png"]
    assert "checksum" in found["c/2.png"]


def test_much_packed_for_little_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(raw_zip([(b"c/a.png", 8, b"\0\0\0\xff\xff" * 10_000 + b"\3\0", 0)]))
    assert "larger packed than unpacked" in outcomes(path)["c/a.png"]


@pytest.mark.parametrize(
    ("raw", "system", "name"),
    [
        ("Gebäude_ü".encode(), 3, "Gebäude_ü"),  # macOS and Linux
        ("Gebäude_ü".encode(), 0, "Gebäude_ü"),
        (b"caf\x82", 0, "café"),  # code page 437
        (b"caf\xe9", 3, "caf\\xe9"),  # as of a tar
        (b"w\\x", 0, "w/x"),
        (b"w\\x", 3, "w\\x"),
    ],
)
def test_names_without_a_flag_are_read_as_their_system_wrote_them(
    raw: bytes, system: int, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(raw_zip([(b"c/" + raw + b".png", 0, PNG, len(PNG))], system))
    assert [chip.name for chip in Zip(path).chips()] == [f"c/{name}.png"]


def test_unicode_name_of_info_zip_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    info = zipfile.ZipInfo("c/a.png")
    info.extra = (
        struct.pack("<HHBI", 0x7075, 5 + 10, 1, zlib.crc32(b"c/a.png")) + "c/äé.png".encode()
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, PNG)
    data = (
        path.read_bytes()
        .replace(b"c/a.png", b"c/\x84.png")
        .replace(
            struct.pack("<I", zlib.crc32(b"c/a.png")), struct.pack("<I", zlib.crc32(b"c/\x84.png"))
        )
    )
    path.write_bytes(data)
    assert [chip.name for chip in Zip(path).chips()] == ["c/äé.png"]


def test_damaged_directories_are_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    sound = make_zip(path, {f"c/{n}.png": PNG for n in range(5)})
    end = sound.rindex(b"PK\5\6")
    wrong_place = sound.copy()
    wrong_place[end + 16 : end + 20] = struct.pack("<I", 0xFFFFFFF0)
    entry = sound.copy()
    entry[sound.index(b"PK\1\2") + 2] ^= 0xFF
    for data in (sound[:end], sound[: end // 2], wrong_place, sound[: end + 10]):
        path.write_bytes(data)
        with pytest.raises(BrokenArchive, match=r"a\.zip is a zip that is cut off or damaged"):
            Zip(path)


def test_damage_anywhere_raises_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    sound = make_zip(path, {f"c/{n}.png": PNG for n in range(3)} | {"c/t": b"t"})
    for place in range(len(sound)):
        data = sound.copy()
        data[place] ^= (0x01, 0x80, 0xFF)[place % 3]
        path.write_bytes(data)
        try:
            found = outcomes(path)
        except BrokenArchive as error:
            assert "a.zip" in str(error)
        else:
            assert all(isinstance(chip, str) or chip == PNG for chip in found.values())


def test_zips_that_were_joined_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    first, last = (bytes(make_zip(path, {f"c/{name}.png": PNG})) for name in "ab")
    for data, is_joined in ((first, False), (b"PK00" + first, False), (first + last, True)):
        path.write_bytes(data)
        source = Zip(path)
        assert len(list(source.chips())) == 1
        assert source.left_behind == is_joined
