"""What the tasks left, as it is merged and summed up."""

import json
from pathlib import Path

from chip_classifier.answers import write_json_object
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


def test_results_take_the_place_of_earlier_ones_when_all_archives_are_done(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("a.tar", "b.tar"):
        results = out / "tasks" / name / "output" / "results"
        results.mkdir(parents=True)
        answer = {"class": "x", "certainty": 0.5}
        write_json_object(results / "classified.json", [(name[0], answer)])
        mark = {"reason": None, "warning": None, "chips": 1, "warnings": ["5 chips.", "'q' is."]}
        (out / "tasks" / name / "done").write_text(json.dumps(mark))
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
