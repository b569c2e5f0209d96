"""What is read of a header at a glance is what tarfile reads; anything unusual is left to it."""

import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from chip_classifier.sources.tar import BLOCK, Tar, read_usual_header

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
