"""The journal: a run that died is resumed with the same answers, or started anew."""

import itertools
import os
import time
from pathlib import Path

import pytest

from chip_classifier.answers import NO_CLASS, Answers
from chip_classifier.journal import SYNC_SECONDS, Journal, fingerprint_file

FINGERPRINT = {"archive": "1-2-3", "size": "4 x 4"}
BATCHES = (
    (0, [1, NO_CLASS], [0.1 + 0.2, 0.0], {1: "bad"}),
    (2, [0, 0], [1e-30, 1 / 3], {}),
    (4, [2], [-5.5], {}),
)


def write_journal(path: Path) -> bytes:
    """Write a journal of three batches, as a run that died leaves it, and give its content."""
    journal = Journal(path, FINGERPRINT, Answers())
    for batch in BATCHES:
        journal.add(*batch)
    journal.close()
    return path.read_bytes()


def resume(path: Path, fingerprint: dict[str, str] = FINGERPRINT) -> tuple[Answers, str]:
    """Open a journal: the answers of the earlier run and the note for out.log."""
    answers = Answers()
    journal = Journal(path, fingerprint, answers)
    journal.close()
    return answers, journal.note


def test_journal_gives_all_answers_back_exactly(tmp_path: Path) -> None:
    write_journal(tmp_path / "j")
    answers, note = resume(tmp_path / "j")
    assert list(answers.classes) == [1, NO_CLASS, 0, 0, 2]
    assert list(answers.certainties) == [0.1 + 0.2, 0.0, 1e-30, 1 / 3, -5.5]
    assert answers.problems == {1: "bad"}
    assert "5 chips" in note


def test_new_journal_has_no_note(tmp_path: Path) -> None:
    assert resume(tmp_path / "j")[1] == ""


def test_batch_is_on_disk_as_soon_as_it_is_added(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", FINGERPRINT, Answers())
    journal.add(*BATCHES[0])
    assert len((tmp_path / "j").read_bytes().splitlines()) == 2


def test_journal_is_synced_seldom_and_never_long_after_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, fsync = [], os.fsync

    def noted_fsync(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    path = tmp_path / "j"
    journal = Journal(path, FINGERPRINT, Answers())
    began = time.monotonic()
    for first in range(20):
        journal.add(first, [0], [1.0], {})
    while not sizes or sizes[-1] < path.stat().st_size:
        assert time.monotonic() < began + 60
        time.sleep(0.05)
    assert len(sizes) <= 2 + (time.monotonic() - began) / SYNC_SECONDS
    journal.close()


def test_journal_cut_off_anywhere_resumes_after_its_last_whole_batch(tmp_path: Path) -> None:
    content = write_journal(tmp_path / "j")
    ends = list(itertools.accumulate(len(line) for line in content.splitlines(keepends=True)))
    for length in range(len(content) + 1):
        (tmp_path / "j").write_bytes(content[:length])
        answers, _ = resume(tmp_path / "j")
        whole = sum(length >= end for end in ends[1:])
        assert len(answers) == (0, 2, 4, 5)[whole]
        # The torn line is gone, so that the next batch begins on a line of its own.
        if whole:
            assert (tmp_path / "j").read_bytes() == content[: ends[whole]]
        journal = Journal(tmp_path / "j", FINGERPRINT, Answers())
        for batch in BATCHES[whole:]:
            journal.add(*batch)
        journal.close()
        assert (tmp_path / "j").read_bytes() == content


@pytest.mark.parametrize("key", ["archive", "size", "new"])
def test_journal_of_another_task_is_not_used_and_says_why(key: str, tmp_path: Path) -> None:
    write_journal(tmp_path / "j")
    answers, note = resume(tmp_path / "j", {**FINGERPRINT, key: "other"})
    assert len(answers) == 0
    assert key in note
    assert not (tmp_path / "j").exists()  # closed before its first batch


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\n", b"{}\n", b"[]\n", b"null\n1\n", b"\xff\x00\n", b"x" * 5000, b"\0" * 4096],
)
def test_garbage_in_place_of_a_journal_starts_anew(garbage: bytes, tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(garbage)
    assert len(resume(tmp_path / "j")[0]) == 0
    assert not (tmp_path / "j").exists()  # closed before its first batch


@pytest.mark.parametrize(
    "line",
    [
        b"null",
        b"[]",
        b"5",
        b"{}",
        b'{"first": 5}',
        b'{"first": 9, "classes": [1], "certainties": [1.0], "problems": {}}',
        b"\0" * 300,
        b"\xff\xfe",
    ],
)
def test_journal_ends_before_a_line_that_is_no_batch(line: bytes, tmp_path: Path) -> None:
    content = write_journal(tmp_path / "j")
    (tmp_path / "j").write_bytes(content + line + b"\n")
    answers, _ = resume(tmp_path / "j")
    assert list(answers.classes) == [1, NO_CLASS, 0, 0, 2]
    assert len(answers.certainties) == len(answers.classes)
    assert (tmp_path / "j").read_bytes() == content


# ------------------------------------------------------------------------------------ fingerprint


@pytest.mark.parametrize("whole", [False, True])
def test_fingerprint_changes_with_the_content(whole: bool, tmp_path: Path) -> None:
    path = tmp_path / "a"
    seen = set()
    for content in (b"", b"a", b"b", b"a" * 3_000_000, b"b" + b"a" * 2_999_999):
        path.write_bytes(content)
        seen.add(fingerprint_file(path, whole))
        assert fingerprint_file(path, whole) in seen
    assert len(seen) == 5


def test_fingerprint_of_a_whole_file_sees_its_middle(tmp_path: Path) -> None:
    path = tmp_path / "a"
    content = bytearray(5_000_000)
    path.write_bytes(content)
    before = fingerprint_file(path, whole=True)
    content[2_500_000] = 1
    path.write_bytes(content)
    assert fingerprint_file(path, whole=True) != before
