"""What chips come in, its first bytes tell."""

import io
import os
import zipfile
from pathlib import Path

import pytest

from chip_classifier.errors import BrokenArchive, TaskError
from chip_classifier.sources.open_source import open_source
from chip_classifier.sources.tar import Tar
from chip_files import make_tar, uniform_png

PNG = uniform_png(1, 2, 3)


def make_zip(name: str) -> bytes:
    """Make a zip of one chip."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(name, PNG)
    return data.getvalue()


@pytest.mark.parametrize("folder", ["c", "PK_Lahore", "PKPKPKPK", "PK\3\4c"])
def test_tar_that_holds_a_zip_is_a_tar(folder: str, tmp_path: Path) -> None:
    """zipfile looks for its mark at a file's end, where a tar may have a zip's."""
    path = tmp_path / "a.zip"
    path.write_bytes(make_tar([(f"{folder}/a.png", PNG), (f"{folder}/z.zip", make_zip("x.png"))]))
    source = open_source(path)
    assert isinstance(source, Tar)
    assert [chip.name for chip in source.chips()] == [f"{folder}/a.png"]


def test_zip_that_is_called_a_tar_is_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(make_zip("c/a.png"))
    assert [chip.name for chip in open_source(path).chips()] == ["c/a.png"]
    path.write_bytes(make_zip("c/a.png")[:60])
    with pytest.raises(BrokenArchive, match=r"a\.tar is a zip that is cut off or damaged"):
        open_source(path)


def test_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="nothing cannot be read"):
        open_source(tmp_path / "nothing")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(TaskError, match="fifo is no file"):
        open_source(tmp_path / "fifo")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"7z\xbc\xaf\x27\x1c" + bytes(600), "a 7-Zip archive"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "a Zstandard archive"),
        (b"Rar!\x1a\7\0" + bytes(600), "a RAR archive"),
        (PNG, "a png image"),
    ],
)
def test_what_is_no_tar_is_called_what_it_is(data: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    with pytest.raises(BrokenArchive, match=rf"a\.tar is {what}"):
        list(open_source(path).chips())
