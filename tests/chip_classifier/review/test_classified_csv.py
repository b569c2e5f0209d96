"""classified.csv: what is in it, as the csv module reads it."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from chip_classifier.answers import NO_CLASS, AnsweredBatch, Answers
from chip_classifier.layout import CLASSIFIED, TABLE, UNCLASSIFIED
from chip_classifier.review import classified_csv
from chip_classifier.review.classified_csv import header, write_csv
from chip_classifier.review.final_chips import FinalChips, final_chips
from chip_classifier.review.scores import NO_TRUTH
from pages import HOSTILE

CLASSES = ["Open, Water", 'a "b"', "class"]
NAMES = [f"{n}/{name.replace('/', '_').replace('.', '_')}" for n, name in enumerate(HOSTILE)]


def written(
    folder: Path, answers: Answers, truths: np.ndarray | None = None, **centres: np.ndarray
) -> tuple[list[dict], FinalChips]:
    """Write the table of answers; return its lines as dicts, and the chips."""
    chips = final_chips(answers)
    record = SimpleNamespace(results=folder, answers=answers, class_names=CLASSES)
    truths = np.full(len(chips.numbers), NO_TRUTH) if truths is None else truths
    write_csv(record, chips, truths, centres.get("centres", chips.nowhere()))
    answers.write(folder, CLASSES)
    data = (folder / TABLE).read_bytes()
    assert data.count(b"\r\n") > len(chips.numbers)  # RFC 4180
    with (folder / TABLE).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True)), chips


def make_answers(probabilities: bool = False) -> Answers:
    """Make answers for all hostile names; the third has no class, the fifth comes again."""
    answers = Answers(probabilities)
    answers.names.extend(f"chips/{name}.png" for name in [*NAMES, NAMES[4]])
    rng = np.random.default_rng(0)
    values = rng.random((len(NAMES) + 1, 3))
    values[2] = 0
    classes = values.argmax(axis=1)
    classes[2] = NO_CLASS
    flat = values.ravel().tolist() if probabilities else ()
    problems = {2: 'cut off, "damaged"\nor worse'}
    batch = AnsweredBatch(0, classes.tolist(), values.max(axis=1).tolist(), problems, (), flat)
    answers.add(batch)
    return answers


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize(("at_a_time", "cells"), [(1, 10**6), (4, 10**6), (10_000, 21), (9, 1)])
def test_each_chip_has_its_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    probabilities: bool,
    at_a_time: int,
    cells: int,
) -> None:
    monkeypatch.setattr(classified_csv, "CHIPS_AT_A_TIME", at_a_time)
    monkeypatch.setattr(classified_csv, "CELLS_AT_A_TIME", cells)
    rows, chips = written(tmp_path, make_answers(probabilities))
    assert list(rows[0]) == header(CLASSES, probabilities)
    classified = json.loads((tmp_path / CLASSIFIED).read_text())
    unclassified = json.loads((tmp_path / UNCLASSIFIED).read_text())
    assert len(rows) == len(classified) + len(unclassified) == len(NAMES)
    named = [chips.name(row) for row in range(len(NAMES))]
    assert [row["chip"] for row in rows] == [
        name.encode("utf-8", "backslashreplace").decode() for name in named
    ]
    for name, row in zip(named, rows, strict=True):
        answer = classified.get(name, {"class": "", "certainty": ""})
        assert (row["class"], row["certainty"]) == (answer["class"], str(answer["certainty"]))
        assert row["reason"] == unclassified.get(name, "")
        assert row["true_class"] == row["longitude"] == row["latitude"] == ""
        if probabilities:
            values = answer.get("probabilities", dict.fromkeys(CLASSES, "")).values()
            assert [row[name] for name in header(CLASSES, True)[3:6]] == list(map(str, values))


def test_truth_and_place_where_they_are_known(tmp_path: Path) -> None:
    answers = make_answers()
    truths = np.arange(len(NAMES)) % 4 - 1
    centres = np.column_stack([np.arange(len(NAMES)) / 7 - 0.5, np.arange(len(NAMES)) / 3])
    centres[1] = np.nan
    rows, _ = written(tmp_path, answers, truths, centres=centres)
    names = [*CLASSES, ""]
    assert [row["true_class"] for row in rows] == [names[truth] for truth in truths]
    assert (rows[1]["longitude"], rows[1]["latitude"]) == ("", "")
    rest = [row for number, row in enumerate(rows) if number != 1]
    found = [(float(row["longitude"]), float(row["latitude"])) for row in rest]
    assert np.abs(np.array(found) - np.delete(centres, 1, axis=0)).max() < 1e-8


def test_columns_have_names_of_their_own() -> None:
    assert header(["a", "class", "reason"], False) == [
        *("chip", "class", "certainty", "true_class", "longitude", "latitude", "reason")
    ]
    assert header(["a", "class", "reason"], True)[3:6] == [
        *("a", "probability of class", "probability of reason")
    ]
