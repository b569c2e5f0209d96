"""The journal: a run that died is resumed with the same answers, or started anew."""

import itertools
import json
import os
import time
import tracemalloc
from pathlib import Path

import pytest

from chip_classifier import journal as journal_module
from chip_classifier.answers import NO_CLASS, AnsweredBatch, Answers, Noticed
from chip_classifier.journal import SYNC_SECONDS, Expected, Journal

FINGERPRINT = {"archive": "1-2-3", "size": "4 x 4"}
EXPECTED = Expected(classes=3, batch_size=2, chips=5)
BATCHES = (
    AnsweredBatch(0, [1, NO_CLASS], [0.1 + 0.2, 0.0], {1: "bad"}, noticed={Noticed.SIXTEEN_BITS}),
    AnsweredBatch(2, [0, NO_CLASS], [1e-30, 1 / 3], links=[3]),
    AnsweredBatch(4, [2], [-5.5], noticed=set(Noticed)),
)
CLASSES = [1, NO_CLASS, 0, NO_CLASS, 2]


def write_journal(path: Path) -> bytes:
    """Write a journal of three batches, as a run that died leaves it, and give its content."""
    journal = Journal(path, FINGERPRINT, EXPECTED, Answers())
    for batch in BATCHES:
        journal.add(batch)
    journal.close()
    return path.read_bytes()


def resume(
    path: Path, fingerprint: dict[str, str] = FINGERPRINT, expected: Expected = EXPECTED
) -> tuple[Answers, str]:
    """Open a journal: the answers of the earlier run and the note for out.log."""
    answers = Answers()
    journal = Journal(path, fingerprint, expected, answers)
    journal.close()
    return answers, journal.note


def test_journal_gives_all_answers_back_exactly(tmp_path: Path) -> None:
    write_journal(tmp_path / "j")
    answers, note = resume(tmp_path / "j")
    assert list(answers.classes) == CLASSES
    assert list(answers.certainties) == [0.1 + 0.2, 0.0, 1e-30, 1 / 3, -5.5]
    assert answers.problems == {1: "bad"}
    assert answers.noticed == set(Noticed)
    assert "5 chips" in note


def test_new_journal_has_no_note(tmp_path: Path) -> None:
    assert resume(tmp_path / "j")[1] == ""


def test_batch_is_on_disk_as_soon_as_it_is_added(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", FINGERPRINT, EXPECTED, Answers())
    journal.add(BATCHES[0])
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
    journal = Journal(path, FINGERPRINT, EXPECTED, Answers())
    began = time.monotonic()
    for first in range(20):
        journal.add(AnsweredBatch(first, [0], [1.0]))
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
        journal = Journal(tmp_path / "j", FINGERPRINT, EXPECTED, Answers())
        for batch in BATCHES[whole:]:
            journal.add(batch)
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


SOUND = {
    "first": 2,
    "classes": [0, 1],
    "certainties": [0.5, 1],
    "problems": {},
    "links": [],
    "noticed": ["no probabilities"],
}
NONE = {"classes": [-1, 1], "problems": {"2": "bad"}}
LINES = {
    "null": b"null",
    "list": b"[]",
    "number": b"5",
    "nothing": b"{}",
    "zeros": b"\0" * 300,
    "no utf-8": json.dumps(SOUND).encode().replace(b"first", b"\xff\xfe"),
    "brackets": b'{"first":2,"classes":' + b"[" * 100_000,
    "braces": b'{"first":' * 100_000,
    "key twice": json.dumps(SOUND)[:-1].encode() + b', "links": []}',
    "digits": b'{"first": ' + b"9" * 5000 + b"}",
    "certainty 1e999": json.dumps(SOUND).encode().replace(b"0.5", b"1e999"),
    "certainty NaN": json.dumps(SOUND).encode().replace(b"0.5", b"NaN"),
    **{
        f"{key} {str(value)[:30]}": json.dumps({**SOUND, key: value}).encode()
        for key, value in (
            ("first", 0),
            ("first", 3),
            ("first", 2.0),
            ("first", "2"),
            ("first", None),
            ("classes", [0, 3]),
            ("classes", [0, -2]),
            ("classes", [0, -1]),
            ("classes", [0, 0.5]),
            ("classes", [0, 1.0]),
            ("classes", [0, True]),
            ("classes", [0, None]),
            ("classes", [0, 10**11]),
            ("classes", [0, 10**400]),
            ("classes", [[0], 1]),
            ("classes", [0]),
            ("classes", []),
            ("classes", [0, 1, 1]),
            ("classes", [0] * 1000),
            ("classes", "01"),
            ("classes", {"0": 0, "1": 1}),
            ("certainties", [0.5]),
            ("certainties", [0.5, 1, 1]),
            ("certainties", [0.5, "1"]),
            ("certainties", [0.5, True]),
            ("certainties", [0.5, None]),
            ("certainties", [0.5, 10**400]),
            ("certainties", "01"),
            ("probabilities", [0.5]),
            ("problems", {"2": "bad"}),
            ("problems", {"4": "bad"}),
            ("problems", {"-5": "bad"}),
            ("problems", {"x": "bad"}),
            ("problems", []),
            ("problems", None),
            ("links", [2]),
            ("links", [9]),
            ("links", ["2"]),
            ("links", {}),
            ("links", None),
            ("noticed", ["something else"]),
            ("noticed", ["16 bits", "16 bits"]),
            ("noticed", ["no probabilities", "16 bits"]),
            ("noticed", [["16 bits"]]),
            ("noticed", [16]),
            ("noticed", "16 bits"),
            ("noticed", {"16 bits": 1}),
            ("noticed", None),
        )
    },
    **{
        f"none {change}": json.dumps({**SOUND, **NONE, **change}).encode()
        for change in (
            {"problems": {"2": None}},
            {"problems": {"2": 5}},
            {"problems": {"2": "\ud800"}},
            {"problems": {"3": "bad"}},
            {"links": [2]},
            {"problems": {}, "links": [2, 2]},
            {"problems": {}, "links": [2.0]},
        )
    },
    **{
        f"without {key}": json.dumps({k: v for k, v in SOUND.items() if k != key}).encode()
        for key in SOUND
    },
}


def test_line_that_the_others_were_made_from_holds(tmp_path: Path) -> None:
    first = write_journal(tmp_path / "j").splitlines(keepends=True)[:2]
    for sound in (
        SOUND,
        {**SOUND, **NONE},
        {**SOUND, **NONE, "problems": {}, "links": [2]},
        {**SOUND, "noticed": []},
    ):
        (tmp_path / "j").write_bytes(b"".join(first) + json.dumps(sound).encode() + b"\n")
        answers, _ = resume(tmp_path / "j")
        assert list(answers.classes)[2:] == sound["classes"]
        assert answers.noticed == {"16 bits", *sound["noticed"]}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_journal_ends_before_a_line_that_does_not_hold(line: bytes, tmp_path: Path) -> None:
    lines = write_journal(tmp_path / "j").splitlines(keepends=True)
    (tmp_path / "j").write_bytes(b"".join([*lines[:2], line + b"\n", *lines[2:]]))
    answers, _ = resume(tmp_path / "j")
    assert list(answers.classes) == BATCHES[0].classes
    assert list(answers.certainties) == BATCHES[0].certainties
    assert answers.problems == BATCHES[0].problems
    assert answers.noticed == BATCHES[0].noticed
    assert (tmp_path / "j").read_bytes() == b"".join(lines[:2])


@pytest.mark.parametrize(
    ("chips", "answered"), [(5, 5), (4, 4), (6, 4), (None, 4), (3, 2), (2, 2), (1, 0)]
)
def test_only_the_last_batch_of_the_archive_may_be_short(
    chips: int | None, answered: int, tmp_path: Path
) -> None:
    write_journal(tmp_path / "j")
    assert len(resume(tmp_path / "j", expected=Expected(3, 2, chips))[0]) == answered


@pytest.mark.parametrize(
    ("probabilities", "holds"),
    [
        ([0.1] * 6, True),
        ([0.1] * 5, False),
        ([0.1] * 7, False),
        ([], False),
        (None, False),
        ([0.1] * 5 + ["0.1"], False),
        ([0.1] * 5 + [True], False),
        ([0.1] * 5 + [float("nan")], False),
        ([0.1] * 5 + [10**400], False),
    ],
)
def test_probabilities_are_those_of_all_classes(
    probabilities: object, holds: bool, tmp_path: Path
) -> None:
    batch = AnsweredBatch(0, [1, NO_CLASS], [0.3, 0.0], {1: "bad"}, probabilities=[0.1] * 6)
    expected = Expected(3, 2, 5, probabilities=True)
    journal = Journal(tmp_path / "j", FINGERPRINT, expected, Answers(True))
    journal.add(batch)
    journal.close()
    header, line = (tmp_path / "j").read_bytes().splitlines()
    line = json.dumps({**json.loads(line), "probabilities": probabilities}).encode()
    (tmp_path / "j").write_bytes(header + b"\n" + line + b"\n")
    answers = Answers(True)
    Journal(tmp_path / "j", FINGERPRINT, expected, answers).close()
    assert len(answers) == 2 * holds


def test_a_line_is_as_long_as_its_probabilities_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4,000 chips of 1,000 classes have 77 MB."""
    monkeypatch.setattr(journal_module, "MAX_LINE_BYTES", 2**10)
    expected, values = Expected(50, 20, 40, probabilities=True), [-1.2345678901234567e-308] * 1000
    journal = Journal(tmp_path / "j", FINGERPRINT, expected, Answers(True))
    journal.add(AnsweredBatch(0, [1] * 20, [0.3] * 20, probabilities=values))
    journal.close()
    answers = Answers(True)
    Journal(tmp_path / "j", FINGERPRINT, expected, answers).close()
    assert list(answers.probabilities) == values


def test_line_without_an_end_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MAX_LINE_BYTES", 2**16)
    content = write_journal(tmp_path / "j")
    for place, classes in ((0, []), (len(content), CLASSES)):
        with (tmp_path / "j").open("wb") as file:
            file.write(content[:place])
            file.truncate(place + 2**30)
        tracemalloc.start()
        answers, _ = resume(tmp_path / "j")
        assert tracemalloc.get_traced_memory()[1] < 2**20
        tracemalloc.stop()
        assert list(answers.classes) == classes
