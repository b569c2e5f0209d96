"""Answers: JSON files that are whole."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from chip_classifier.answers import NO_CLASS, AnsweredBatch, Answers, rounded, write_json_object

# ---------------------------------------------------------------------------------------- answers


def answers_for(
    names: list[str], classes: list[int], links: dict[int, str] | None = None
) -> Answers:
    """Make answers with the certainties 0.0, 0.1, ...; chips without a class are "bad"."""
    answers = Answers()
    answers.names, answers.links = names, links or {}
    problems = {
        number: "bad"
        for number, index in enumerate(classes)
        if index == NO_CLASS and number not in answers.links
    }
    certainties = [number / 10 for number in range(len(classes))]
    answers.add(AnsweredBatch(0, classes, certainties, problems))
    return answers


def written(folder: Path, name: str) -> dict | None:
    """Read a file of results; None if there is none."""
    path = folder / name
    return json.loads(path.read_text()) if path.exists() else None


def test_answers_are_written_in_order_with_counts(tmp_path: Path) -> None:
    answers = answers_for(["t/c.jpg", "t/a.jpg", "t/b.jpg"], [1, 0, NO_CLASS])
    counts, reasons = answers.write(tmp_path, ("no", "yes"))
    assert list(written(tmp_path, "classified.json").items()) == [
        ("c", {"class": "yes", "certainty": 0.0}),
        ("a", {"class": "no", "certainty": 0.1}),
    ]
    assert written(tmp_path, "unclassified.json") == {"b": "bad"}
    assert counts == {"no": 1, "yes": 1}
    assert reasons == {"bad": 1}


def test_class_without_chips_is_counted_as_none(tmp_path: Path) -> None:
    counts, _ = answers_for(["a.jpg"], [0]).write(tmp_path, ("no", "yes"))
    assert dict(counts) == {"no": 1, "yes": 0}


def test_chip_is_never_lost_whatever_a_damaged_journal_says(tmp_path: Path) -> None:
    answers = answers_for(["t/a.jpg", "t/b.jpg", "t/c.jpg"], [NO_CLASS, 0, 0], {2: "t/gone.jpg"})
    answers.problems.clear()
    answers.write(tmp_path, ("no",))
    assert list(written(tmp_path, "classified.json")) == ["b"]
    assert "no answer" in written(tmp_path, "unclassified.json")["a"]
    assert "t/gone.jpg" in written(tmp_path, "unclassified.json")["c"]


def test_unclassified_file_exists_only_if_a_chip_goes_into_it(tmp_path: Path) -> None:
    answers_for(["a.jpg"], [0]).write(tmp_path, ("0",))
    assert [path.name for path in tmp_path.iterdir()] == ["classified.json"]


def test_certainty_is_rounded_to_ten_decimals(tmp_path: Path) -> None:
    answers = Answers()
    answers.names = ["a.jpg"]
    answers.add(AnsweredBatch(0, [0], [float(np.float32(1 / 3))]))  # 0.3333333432674408
    answers.write(tmp_path, ("0",))
    assert '"certainty": 0.3333333433}' in (tmp_path / "classified.json").read_text()


def test_numbers_are_written_as_python_writes_them() -> None:
    rng = np.random.default_rng(2)
    edges = [0.0, -0.0, 1.0, 0.5, 1e-4, 9.99999999995e-5, 99999.99999999999, 1e5, 1e16, -0.25]
    edges += [5e-11, 1.00000000005, 0.00012345678905, 123.0, 12345.678901234567]
    values = [*edges, *rng.random(20_000).astype(np.float32).tolist(), *rng.random(20_000)]
    values += [*(rng.random(20_000) * 10.0 ** rng.integers(-12, 8, 20_000))]
    for value in map(float, values):
        assert rounded(value) == repr(round(value, 10))


def test_probabilities_are_those_of_the_chip(tmp_path: Path) -> None:
    answers = Answers(probabilities=True)
    answers.names = ["t/a.jpg", "t/b.jpg"]
    answers.add(AnsweredBatch(0, [1, 0], [0.75, 0.5], probabilities=[0.25, 0.75, 0.5, 1 / 3]))
    answers.write(tmp_path, ("no", "yes"))
    assert written(tmp_path, "classified.json")["b"] == {
        "class": "no",
        "certainty": 0.5,
        "probabilities": {"no": 0.5, "yes": 0.3333333333},
    }


def test_certainty_that_is_not_finite_is_never_written(tmp_path: Path) -> None:
    answers = Answers()
    answers.names = ["a.jpg", "b.jpg"]
    answers.add(AnsweredBatch(0, [0, 0], [0.5, float("nan")]))
    with pytest.raises(ValueError, match="not finite"):
        answers.write(tmp_path, ("0",))
    assert list(tmp_path.iterdir()) == []


def test_last_member_of_a_path_counts(tmp_path: Path) -> None:
    answers_for(["a.jpg", "b.jpg", "a.jpg"], [NO_CLASS, 0, 1]).write(tmp_path, ("x", "y"))
    assert written(tmp_path, "classified.json") == {
        "b": {"class": "x", "certainty": 0.1},
        "a": {"class": "y", "certainty": 0.2},
    }
    assert written(tmp_path, "unclassified.json") is None


def test_answer_of_a_replaced_member_is_not_a_result(tmp_path: Path) -> None:
    answers_for(["a.jpg", "a.jpg"], [0, NO_CLASS]).write(tmp_path, ("x", "y"))
    assert written(tmp_path, "classified.json") is None
    assert written(tmp_path, "unclassified.json") == {"a": "bad"}


def test_link_is_answered_by_its_chip(tmp_path: Path) -> None:
    names = [
        "t/link.jpg",
        "t/a.jpg",
        "t/second.jpg",
        "t/dangling.jpg",
        "t/self.jpg",
        "t/to_bad.jpg",
    ]
    links = {
        0: "t/second.jpg",
        2: "t/a.jpg",
        3: "t/nothing.jpg",
        4: "t/self.jpg",
        5: "t/bad.jpg",
    }
    classes = [NO_CLASS, 1, NO_CLASS, NO_CLASS, NO_CLASS, NO_CLASS, NO_CLASS]
    answers = answers_for([*names, "t/bad.jpg"], classes, links)
    answers.write(tmp_path, ("x", "y"))
    answer = {"class": "y", "certainty": 0.1}
    assert written(tmp_path, "classified.json") == dict.fromkeys(("link", "a", "second"), answer)
    unclassified = written(tmp_path, "unclassified.json")
    assert list(unclassified) == ["dangling", "self", "to_bad", "bad"]
    assert "t/nothing.jpg" in unclassified["dangling"]
    assert unclassified["to_bad"] == "bad"


# ---------------------------------------------------------------------------------- files, whole


@pytest.mark.parametrize("items", [[], [("a", 1)], [('é\n"', {"b": [1.5]}), ("z", None)]])
def test_json_object_is_what_json_reads(items: list, tmp_path: Path) -> None:
    write_json_object(tmp_path / "a.json", iter(items))
    content = (tmp_path / "a.json").read_bytes()
    assert list(json.loads(content).items()) == items
    assert content.isascii()
    assert content.endswith(b"}\n")


def test_json_object_is_never_written_in_part(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("of an earlier run")

    def items() -> Iterator[tuple[str, int]]:
        yield "a", 1
        # What a reader would see now is the old file.
        assert (tmp_path / "a.json").read_text() == "of an earlier run"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_json_object(tmp_path / "a.json", items())
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_object_never_holds_nan(value: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json_object(tmp_path / "a.json", iter([("a", value)]))
    assert list(tmp_path.iterdir()) == []
