"""Folders of chips: what links lead to, what may not be read, what changes meanwhile."""

import os
from pathlib import Path

import pytest

from chip_classifier.errors import BrokenArchive
from chip_classifier.sources.folder import Folder


def test_folder_follows_links_that_lead_out_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "out.png").write_bytes(b"outside")
    (folder / "a.png").symlink_to(tmp_path / "out.png")
    (folder / "dangling.png").symlink_to(tmp_path / "nothing")
    (folder / "loop").symlink_to(folder)
    (folder / "sub" / "up").symlink_to("../..")
    (folder / "sub" / "b.png").write_bytes(b"b")
    (folder / ".objects").mkdir()
    (folder / ".objects" / "1").write_bytes(b"annexed")
    (folder / "annexed.png").symlink_to(".objects/1")
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "c.png").write_bytes(b"c")
    (tmp_path / "elsewhere" / "back").symlink_to(folder)
    (folder / "east").symlink_to("../elsewhere")
    (folder / "west").symlink_to("../elsewhere")
    source = Folder(folder)
    chips = {chip.name: chip for chip in source.chips()}
    read = {name: source.read(chip) for name, chip in chips.items() if chip.link is None}
    assert read == {
        "f/a.png": b"outside",
        "f/annexed.png": b"annexed",
        "f/east/deep/c.png": b"c",
        "f/sub/b.png": b"b",
    }
    assert chips.keys() - read.keys() == {"f/dangling.png"}
    # loop, sub/up, east/back and west lead to folders that were entered, or around them.
    assert source.passed_over == {"hidden files": 1, "other files": 4}


def test_folder_that_changes_is_another_one(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "b.png").write_bytes(b"b")
    source = Folder(folder)
    (chip,) = source.chips()
    before = source.fingerprint()
    (folder / "ref.geojson").write_bytes(b"features")
    assert Folder(folder).fingerprint() == before
    (folder / "sub" / "b.png").write_bytes(b"longer")
    assert Folder(folder).fingerprint() != before
    with pytest.raises(BrokenArchive, match="was changed"):
        source.read(chip)
    (folder / "sub" / "b.png").unlink()
    with pytest.raises(BrokenArchive, match="was taken away"):
        source.read(chip)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "f" / "locked").mkdir(parents=True)
    (tmp_path / "f" / "locked" / "a.png").write_bytes(b"a")
    (tmp_path / "f" / "locked").chmod(0o644)
    (chip,) = Folder(tmp_path / "f").chips()
    (tmp_path / "f" / "locked").chmod(0o755)
    assert chip.problem == "the file cannot be read (Permission denied)"
