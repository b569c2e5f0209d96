"""A file that stays the same one, whatever comes to lie at its path."""

import io
import os
from pathlib import Path

import pytest

from keras_files.pinned_file import PinnedFile


def make_file(path: Path, content: bytes) -> PinnedFile:
    """Write a file and open it."""
    path.write_bytes(content)
    return PinnedFile(path)


def test_another_file_at_the_same_path_is_not_read(tmp_path: Path) -> None:
    file = make_file(tmp_path / "a", b"first")
    digest = file.digest(whole=True)
    (tmp_path / "b").write_bytes(b"other and longer")
    os.replace(tmp_path / "b", tmp_path / "a")
    assert file.read(0, 100) == b"first"
    assert file.stream().read() == b"first"
    assert file.digest(whole=True) == digest != PinnedFile(tmp_path / "a").digest(whole=True)
    assert file.is_unchanged()


def test_a_file_that_is_written_to_is_noticed(tmp_path: Path) -> None:
    file = make_file(tmp_path / "a", b"first")
    with (tmp_path / "a").open("ab") as other:
        other.write(b"!")
    assert not file.is_unchanged()


@pytest.mark.parametrize("window", [(0, None), (3, 1000), (0, 100_000), (99_000, 5000), (7, 30)])
def test_stream_reads_and_seeks_like_any_other(
    window: tuple[int, int | None], tmp_path: Path
) -> None:
    content = os.urandom(100_000)
    start, size = window
    end = len(content) if size is None else start + size
    stream = make_file(tmp_path / "a", content).stream(start, size)
    same = io.BytesIO(content[start:end])
    for place, whence, count in ((0, 0, 10), (500, 0, 9000), (-20, 2, 100), (30, 1, 3), (2, 0, -1)):
        if (same.seek(0, 2) + place if whence == 2 else place) < 0:
            with pytest.raises(OSError, match="Invalid argument"):
                stream.seek(place, whence)
            continue
        assert stream.seek(place, whence) == same.seek(place, whence)
        assert stream.read(count) == same.read(count)
        assert stream.tell() == same.tell()


def test_two_streams_have_positions_of_their_own(tmp_path: Path) -> None:
    file = make_file(tmp_path / "a", b"0123456789")
    one, other = file.stream(), file.stream()
    assert (one.read(3), other.read(2), one.read(3)) == (b"012", b"01", b"345")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_at_once(make: object, tmp_path: Path) -> None:
    make(tmp_path / "a")
    with pytest.raises(OSError, match="no file"):
        PinnedFile(tmp_path / "a")


@pytest.mark.parametrize("whole", [False, True])
def test_digest_changes_with_the_content(whole: bool, tmp_path: Path) -> None:
    seen = set()
    for content in (b"", b"a", b"b", b"a" * 3_000_000, b"b" + b"a" * 2_999_999):
        seen.add(make_file(tmp_path / "a", content).digest(whole))
        assert PinnedFile(tmp_path / "a").digest(whole) in seen
    assert len(seen) == 5


def test_digest_of_a_whole_file_sees_its_middle(tmp_path: Path) -> None:
    content = bytearray(5_000_000)
    before = make_file(tmp_path / "a", content).digest(whole=True)
    content[2_500_000] = 1
    assert make_file(tmp_path / "a", content).digest(whole=True) != before
