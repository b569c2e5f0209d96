"""Batches hold each chip at its place, whatever the threads do."""

import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import chip_files
from chip_classifier import pipeline
from chip_classifier.decode import Decoder
from chip_classifier.errors import BrokenArchive
from chip_classifier.listing import Listing
from chip_classifier.pipeline import Batch, Earlier, Pipeline
from chip_classifier.sources.source import Chip
from chip_classifier.sources.tar import Tar
from chip_files import make_tar, scene

PIXELS = chip_files.uniform_png(10, 20, 30)


def batches_of(path: Path, batch_size: int, answered: int = 0) -> list[Batch]:
    """Read an archive through the pipeline, chips warped to 5 x 6."""
    return list(Pipeline(Listing(Tar(path)), Decoder(), (batch_size, 5, 6), Earlier(answered)))


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
    monkeypatch.setattr(pipeline, "usable_cores", lambda: 1)  # the larger the groups
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
    batches = iter(Pipeline(Listing(Tar(path)), Decoder(), (1, 5, 6)))
    next(batches)
    path.write_bytes(make_tar(members[::-1]))  # as long, the chips at other places
    with pytest.raises(BrokenArchive, match=r"a\.tar was changed while it was read"):
        next(batches)


class WaitingArchive(Tar):
    """An archive of which no chip but the first ones is listed, or read, until that is allowed."""

    def __init__(self, path: Path, waits_to: str) -> None:
        super().__init__(path)
        self._waits_to, self.allowed = waits_to, threading.Event()

    def _wait(self, to: str) -> None:
        if self._waits_to == to:
            assert self.allowed.wait(timeout=60)

    def chips(self) -> Iterator[Chip]:
        """Yield the chips, as Tar does."""
        for number, chip in enumerate(super().chips()):
            if number > 1:
                self._wait("list")
            yield chip

    def read(self, chip: Chip) -> bytes:
        """Read a chip, as Tar does."""
        if chip.offset > tarfile.BLOCKSIZE:  # it is not the first one
            self._wait("read")
        return super().read(chip)


@pytest.mark.parametrize("waits_to", ["list", "read"])
def test_what_is_missing_because_the_archive_was_written_to_is_not_called_damage(
    waits_to: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(make_tar([(f"{n}.png", PIXELS) for n in range(40)]))
    archive = WaitingArchive(path, waits_to)
    batches = iter(Pipeline(Listing(archive), Decoder(), (1, 5, 6)))
    next(batches)
    path.write_bytes(b"")  # the moment in which it is written anew
    archive.allowed.set()
    with pytest.raises(BrokenArchive, match=r"a\.tar was changed while it was read"):
        list(batches)


def test_archive_is_read_to_its_end_whatever_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(make_tar([("a.jpg", b"first"), ("b.jpg", b"x")]))
    archive = Tar(path)
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
        for batch in Pipeline(Listing(Tar(path)), Decoder(), (2, 5, 6)):
            names += batch.names
    assert names == [f"{n}.png" for n in range(8)]
