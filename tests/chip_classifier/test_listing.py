"""Chips are listed ahead of their use, by a thread or by another process."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import chip_files
from chip_classifier.errors import BrokenArchive
from chip_classifier.listing import LISTED_SECONDS, Listing
from chip_classifier.sources.source import Chip
from chip_classifier.sources.tar import Tar
from chip_files import make_tar


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_listing_goes_ahead_of_the_chips_that_are_used(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    names = [f"{n}.jpg" for n in range(5)]
    path.write_bytes(make_tar([(name, b"x") for name in names], mode))
    listing = Listing(Tar(path))
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
    listing = Listing(Tar(path))
    listing.go_on(seconds=60)
    names = []
    with pytest.raises(BrokenArchive, match=r"cut off or damaged after the member '[45]\.jpg'"):
        for chip in listing:
            names.append(chip.name)
    assert names == [f"{n}.jpg" for n in range(5)]
    assert isinstance(listing.error, BrokenArchive)
    assert not listing.is_complete


class ArchiveThatEndsItsReader(Tar):
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


def list_aside(archive: Tar) -> Listing:
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
    listing = list_aside(Tar(path))
    monkeypatch.delattr(Tar, "chips")  # of this process
    assert [chip.name for chip in listing] == names
    assert (listing.number, listing.is_complete) == (len(names), True)
    assert listing.source.passed_over["other files"] == 1
    assert listing.source.left_behind
    assert 0.9 < listing.source.progress <= 1
    assert multiprocessing.active_children() == []


def test_another_process_gives_the_sound_chips_before_the_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(make_tar([(f"{n}.jpg", os.urandom(9000)) for n in range(9)])[:50_000])
    listing = list_aside(Tar(path))
    monkeypatch.delattr(Tar, "chips")  # of this process
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
from chip_classifier.sources.tar import Tar
from chip_classifier.listing import Listing

class EndlessArchive(Tar):
    def chips(self):
        yield from super().chips()
        time.sleep(600)

listing = Listing(EndlessArchive(Path(sys.argv[1])))
listing.go_on(seconds=0)
listing.go_on_aside()
os._exit(0)
"""
    command = [sys.executable, "-c", code, str(path)]
    # It waits for the end of everyone who has the pipes.
    ended = subprocess.run(
        command, check=True, capture_output=True, timeout=60, cwd=chip_files.REPOSITORY
    )
    assert ended.stdout + ended.stderr == b""
