"""What the tasks left, as it is merged and summed up."""

from pathlib import Path

from chip_classifier.answers import write_json_object
from workflow.gather import read_entries, why_not_finished


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
