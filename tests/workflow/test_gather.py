"""What the tasks left, as it is merged and summed up."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from chip_classifier.answers import write_json_object
from chip_classifier.output import put_in_place
from workflow.gather import Call, describe, gather, read_entries, warnings_of, why_not_finished


def test_entries_are_read_as_they_were_written(tmp_path: Path) -> None:
    entries = [
        ('},\n{"a": 1', {"class": '", "certainty": 0},', "certainty": 1e-10}),
        ("ä{}", {"class": "{}", "certainty": 0.1}),
        ("", "the file is empty"),
    ]
    for content in (entries, []):
        write_json_object(tmp_path / "file.json", content)
        assert list(read_entries(tmp_path / "file.json")) == content


def test_task_that_could_not_be_started_is_no_task_that_did_not_run_yet(tmp_path: Path) -> None:
    assert why_not_finished(tmp_path, "a.tar", 0) == "not run yet"
    assert "without a word: 3. Its machine" in why_not_finished(tmp_path, "a.tar", 3)
    (tmp_path / "tasks" / "a.tar").mkdir(parents=True)
    (tmp_path / "tasks" / "a.tar" / "stdout.log").write_text("docker: command not found")
    assert "started: see tasks/a.tar/stdout.log" in why_not_finished(tmp_path, "a.tar", 3)


def make_task(out: Path, name: str, warnings: list[str]) -> Path:
    """Make what a task leaves behind that has classified a chip; return the folder of results."""
    results = out / "tasks" / name / "output" / "results"
    results.mkdir(parents=True)
    write_json_object(results / "classified.json", [(name[0], {"class": "x", "certainty": 0.5})])
    mark = {"reason": None, "warning": None, "chips": 1, "warnings": warnings}
    (out / "tasks" / name / "done").write_text(json.dumps(mark))
    return results


def test_results_take_the_place_of_earlier_ones_when_all_archives_are_done(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("a.tar", "b.tar"):
        make_task(out, name, ["5 chips.", "'q' is."])
    write_json_object(out / "tasks/a.tar/output/results/unclassified.json", [("u", "damaged")])
    first = gather(out, Call(["a.tar"], finished=["a.tar"]))
    assert first["merged"]["archives"] == ["a.tar"]
    whole = {name: (out / name).read_text() for name in ("classified.json", "unclassified.json")}

    # An archive more that is not done.
    call = Call(["a.tar", "b.tar", "c.tar"], finished=["a.tar", "b.tar"], has_earlier=True)
    for _ in range(2):
        partial = gather(out, call)
        assert {name: (out / name).read_text() for name in whole} == whole
        assert partial["merged"] == first["merged"]
        assert "those of an earlier call, of 1 archives" in describe(partial)
    merged = json.loads((out / "classified.partial.json").read_text())
    assert list(merged) == ["a.tar/a", "b.tar/b"]
    assert [one["archives"] for one in partial["warnings"]] == [2, 2, 2]  # with one on the table

    # What the new results have not is taken away, and so is what was partial.
    (out / "tasks/a.tar/output/results/unclassified.json").unlink()
    gather(out, Call(["a.tar", "b.tar"], finished=["a.tar", "b.tar"], has_earlier=True))
    names = {path.name for path in out.iterdir()}
    assert names == {"tasks", "classified.json", "summary.json", "summary.html"}


class Death(BaseException):
    """The end of a process: nothing catches it, and whoever tidies up meets it again."""


def merged(out: Path) -> tuple:
    """Return what is in place: chips, whether there are reasons and a table, archives, page."""
    summary = json.loads((out / "summary.json").read_text())
    others = [(out / name).exists() for name in ("unclassified.json", "classified.csv")]
    page = (out / "summary.html").read_text()
    return (
        list(json.loads((out / "classified.json").read_text())),
        others,
        summary["archives"],
        ("b.tar" in page),
    )


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_call_that_dies_leaves_whole_results(is_whole: bool, tmp_path: Path) -> None:
    """At each call of the system that changes a file: old or new ones, when the next begins."""
    before = tmp_path / "before"
    results = make_task(before, "a.tar", [])
    write_json_object(results / "unclassified.json", [("u", "damaged")])
    gather(before, Call(["a.tar"], finished=["a.tar"]))
    old = merged(before)
    (results / "unclassified.json").unlink()
    (make_task(before, "b.tar", []) / "classified.csv").write_text("chip,class\r\nb,x\r\n")
    archives = ["a.tar", "b.tar"] if is_whole else ["a.tar", "b.tar", "c.tar"]
    found, calls, has_ended = [], 0, False
    while not has_ended:
        out = shutil.copytree(before, tmp_path / str(calls))
        has_ended = dies(
            calls, gather, out, Call(archives, finished=["a.tar", "b.tar"], has_earlier=True)
        )
        put_in_place([out])  # what the next call begins with
        found.append(merged(out))
        calls += 1
    new = found[-1]
    kept = old[:2] if not is_whole else (["a.tar/a", "b.tar/b"], [False, True])
    assert new == (*kept, len(archives), True)
    assert found == [old] * found.count(old) + [new] * found.count(new)  # first old, then new
    assert found.count(old) > 10 and found.count(new) > 4


def dies(after: int, call: Callable, *arguments: object) -> bool:
    """Call a function that dies after so many calls of the system; return whether it ended."""
    left = after

    def counted(original: Callable) -> Callable:
        def dying(*args: object, **options: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise Death
            return original(*args, **options)

        return dying

    with pytest.MonkeyPatch.context() as patch:
        for name in ("open", "rename", "replace", "unlink", "rmdir", "mkdir"):
            patch.setattr(os, name, counted(getattr(os, name)))
        try:
            call(*arguments)
        except Death:
            return False
    return True


@pytest.mark.parametrize("prefix", ["", "deployed_"])
def test_features_in_one_file_for_all_that_match_no_chip_are_told_once(
    prefix: str, tmp_path: Path
) -> None:
    names, told = ["a.tar", "b.tar"], "3 of the 4 features in r.geojson match no chip by id"
    for name in names:
        results = make_task(tmp_path, name, [told])
        lines = []
        for chip in ("a", "b", "u", "lost"):
            answer = {f"{prefix}class": "x", f"{prefix}certainty": 0.5} if chip == name[0] else {}
            lines.append(json.dumps({"type": "Feature", "properties": {"id": chip, **answer}}))
        text = '{"type": "FeatureCollection", "features": [\n' + ",\n".join(lines) + "\n]}\n"
        (results / "classified.geojson").write_text(text)
        (results / "classified.csv").write_text("chip,class\r\n")
    write_json_object(results / "unclassified.json", [("u", "damaged")])
    call = Call(names, shared_reference=names, finished=names)
    (entry,) = gather(tmp_path, call)["warnings"]
    assert entry["warning"].startswith("1 of the 4 features in the file for all archives match no")
    assert "the first is 'lost'" in entry["warning"]
    # Those of an archive that is not done are none to warn of.
    call = Call([*names, "c.tar"], shared_reference=[*names, "c.tar"], finished=names)
    assert gather(tmp_path, call)["warnings"] == []


def test_features_of_all_archives_that_match_in_one_are_none_to_warn_of(tmp_path: Path) -> None:
    lost = ["None of the 5 features in r.geojson has the name", "4 of the 5 features in r.geojson"]
    for name, told in zip(("a.tar", "b.tar"), lost, strict=True):
        (tmp_path / "tasks" / name).mkdir(parents=True)
        mark = json.dumps({"warnings": [told]})
        (tmp_path / "tasks" / name / "done").write_text(mark)
    names = ["a.tar", "b.tar"]
    call = Call(names, shared_reference=names)
    assert warnings_of(tmp_path, names, call) == []
    assert len(warnings_of(tmp_path, ["a.tar"], call)) == 1  # nobody has them
    assert len(warnings_of(tmp_path, names, Call(names))) == 2
