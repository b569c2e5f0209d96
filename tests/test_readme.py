"""The README holds: its commands, its code and JSON, its paths, and what it says of the sample."""

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
# What a user makes, or what lies in the container or in the documentation of others.
NOT_IN_THE_REPOSITORY = re.compile(r"^(https?:|/|~|\$|<|output/|input/)")


def blocks(language: str) -> list[str]:
    """Give the README's code blocks in a language ("" for none), without their indentation."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", README, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(text) for _, marked, text in found if marked == language]


def commands() -> tuple[str, str]:
    """Give the two commands that the README opens with: for the sample, for the tests."""
    return tuple(block.strip() for block in blocks("bash")[:2])


@pytest.fixture(scope="module")
def sample_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the last step of the README's first command in a copy of the repository.

    Its other steps, the virtual environment, are what these tests run in already: a stand-in for
    its python starts the one at hand.
    """
    copy = tmp_path_factory.mktemp("clone") / "repository"
    ignored = shutil.ignore_patterns(".git", ".venv", "output", "status.json", "__pycache__")
    shutil.copytree(REPOSITORY, copy, ignore=ignored)
    python = copy / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    last_step = commands()[0].rpartition("&&")[2]
    done = subprocess.run(
        last_step, shell=True, cwd=copy, check=True, capture_output=True, text=True, timeout=300
    )
    return copy / "tests" / "sample", done.stdout


def test_the_two_commands_are_one_line_each_and_set_up_an_environment() -> None:
    for command in commands():
        assert "\n" not in command
        assert command.startswith(
            "python3 -m venv .venv && .venv/bin/pip install -q -r requirements"
        )
    assert "-r tests/requirements.txt" in commands()[1]
    assert commands()[1].endswith(".venv/bin/python -m pytest -q tests")


@pytest.mark.smoke
def test_the_sample_prints_what_the_readme_shows(sample_run: tuple[Path, str]) -> None:
    shown = next(block for block in blocks("") if block.startswith("Classified"))
    time_and_rate = r"in \d+:\d\d:\d\d \([\d,.]+ chips/s without start-up\)"
    expected = re.sub(time_and_rate, "", shown)
    assert expected != shown
    assert expected in re.sub(time_and_rate, "", sample_run[1])


@pytest.mark.smoke
def test_the_sample_is_classified_right(sample_run: tuple[Path, str]) -> None:
    results = sample_run[0] / "output" / "results"
    classified = json.loads((results / "classified.json").read_text())
    assert len(classified) == 59
    expected = {"b": "Buildings", "n": "No Buildings"}  # make_sample.py names the chips so
    right = sum(answer["class"] == expected[name[0]] for name, answer in classified.items())
    assert right >= 0.95 * len(classified)


def test_the_sample_gives_the_json_that_the_readme_shows(sample_run: tuple[Path, str]) -> None:
    beginning, unclassified = (block for block in blocks("json") if '"n' in block)
    results = sample_run[0] / "output" / "results"
    classified = json.loads((results / "classified.json").read_text())
    shown = json.loads(beginning.strip().rstrip(",") + "}")
    assert list(classified)[: len(shown)] == list(shown)
    for name, answer in shown.items():
        assert classified[name]["class"] == answer["class"]
        # Other processors add up in another order: float32 rounding, through a few layers.
        assert classified[name]["certainty"] == pytest.approx(answer["certainty"], abs=1e-4)
    assert json.loads((results / "unclassified.json").read_text()) == json.loads(unclassified)


def test_the_sample_is_below_one_megabyte() -> None:
    files = (REPOSITORY / "tests" / "sample" / "input").rglob("*")
    assert sum(file.stat().st_size for file in files) < 1e6


def test_python_in_the_readme_is_python() -> None:
    assert blocks("python")
    for block in blocks("python"):
        ast.parse(block)


def test_ports_json_in_the_readme_is_what_the_task_reads(task: object, tmp_path: Path) -> None:
    example = next(block for block in blocks("json") if '"classes"' in block)
    (tmp_path / "ports.json").write_text(example)
    ports = task.read_ports(tmp_path / "ports.json")
    assert ports.classes == ("No Buildings", "Buildings")
    assert ports.unknown == ()


def test_files_that_the_readme_names_exist() -> None:
    images = re.findall(r"src='([^']+)'", README)
    in_commands = re.findall(r"\btests/[\w./-]+|\bimages/[\w./-]+", README)
    links = re.findall(r"\]\(([^)#]+)\)", README)
    named = {*images, *in_commands, *links}
    missing = {
        name
        for name in named
        if not NOT_IN_THE_REPOSITORY.match(name)
        and "sample/output" not in name
        and not (REPOSITORY / name.rstrip(".")).exists()
    }
    assert named
    assert missing == set()


def test_links_within_the_readme_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    }
    anchors = set(re.findall(r"\]\(#([^)]+)\)", README))
    assert anchors
    assert anchors <= headings


def test_the_image_takes_what_the_task_needs_and_nothing_else() -> None:
    """The Dockerfile copies it, and .dockerignore lets it through."""
    copied = re.findall(r"^COPY (.+) \S+$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    let_through = re.findall(r"^!(\S+)$", (REPOSITORY / ".dockerignore").read_text(), re.MULTILINE)
    needed = {"requirements.txt", "deploy-chip-classifier.py", "chip_classifier", "keras_files"}
    assert {name for line in copied for name in line.split()} == needed
    assert set(let_through) == needed


def test_build_arguments_in_the_readme_are_the_dockerfiles() -> None:
    named = set(re.findall(r"--build-arg (\w+)=", README))
    assert named == set(
        re.findall(r"^ARG (\w+)", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    )
