"""The documents hold: their commands, code and JSON, paths, links, and what the sample gives."""

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

from chip_classifier.ports import MODES, parse_ports, read_ports
from chip_classifier.preprocessing import FAMILY_MODES

REPOSITORY = Path(__file__).parents[1]
README = REPOSITORY / "README.md"
DOCUMENTS = (
    README,
    REPOSITORY / "CHANGELOG.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
    REPOSITORY / "tests" / "measure" / "README.md",
)
# The README is for the one who comes for the first time; everything else is in docs/.
MAX_README_BYTES = 10_240
# Where the repository's own files lie. The sample's output is made by the reader.
PATHS = r"(?<![\w./-])(?:tests|images|docs|workflow|chip_classifier|keras_files|\.ci)/[\w./-]*"
MADE_BY_THE_READER = ("tests/sample/output",)

each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY))
)


def read(document: Path) -> str:
    """Return the text of a document."""
    return document.read_text(encoding="utf-8")


def blocks(document: Path, language: str) -> list[str]:
    """Return a document's code blocks in a language ("" for none), without their indentation."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", read(document), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(text) for _, marked, text in found if marked == language]


def prose(document: Path) -> str:
    """Return a document without its code blocks."""
    return re.sub(r"^( *)```.*?^\1```$", "", read(document), flags=re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    }


def one_liners(document: Path) -> list[str]:
    """Return a document's commands: lines of its bash blocks, scripts aside, and inline code."""
    scripts = [block for block in blocks(document, "bash") if not block.startswith("#!")]
    return [*"".join(scripts).splitlines(), *re.findall(r"`([^`\n]+)`", prose(document))]


def snakemake_commands() -> list[str]:
    """Return the documents' calls of Snakemake, each once."""
    found = [line for document in DOCUMENTS for line in one_liners(document)]
    return sorted({line for line in found if re.match(r"(\.venv/bin/)?snakemake ", line)})


def commands() -> tuple[str, str]:
    """Return the two commands that the README opens with: for the sample, for the tests."""
    return tuple(block.strip() for block in blocks(README, "bash")[:2])


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
    assert commands()[1].endswith(".venv/bin/python -m pytest -q -n 2 --dist worksteal tests")


@pytest.mark.smoke
def test_the_sample_prints_what_the_readme_shows(sample_run: tuple[Path, str]) -> None:
    shown = next(block for block in blocks(README, "") if block.startswith("Classified"))
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
    beginning, unclassified = (block for block in blocks(README, "json") if '"n' in block)
    results = sample_run[0] / "output" / "results"
    classified = json.loads((results / "classified.json").read_text())
    shown = json.loads(beginning.strip().rstrip(",") + "}")
    assert list(classified)[: len(shown)] == list(shown)
    for name, answer in shown.items():
        assert classified[name]["class"] == answer["class"]
        # Other processors add up in another order: float32 rounding, through a few layers.
        assert classified[name]["certainty"] == pytest.approx(answer["certainty"], abs=1e-4)
    assert json.loads((results / "unclassified.json").read_text()) == json.loads(unclassified)


def test_the_sample_shows_the_map_and_the_truth(sample_run: tuple[Path, str]) -> None:
    output = sample_run[0] / "output"
    features = json.loads((output / "results" / "classified.geojson").read_text())["features"]
    classified = json.loads((output / "results" / "classified.json").read_text())
    found = {one["properties"]["feature_id"]: one["properties"].get("class") for one in features}
    assert len(found) == 60
    assert found.pop("n37") is None
    assert found == {name: answer["class"] for name, answer in classified.items()}
    # make_sample.py gives two of the 59 a wrong label.
    assert (
        "57 of 59 chips are right (truth from ref.geojson)"
        in (output / "logs" / "out.log").read_text()
    )


def test_the_sample_is_below_one_megabyte() -> None:
    files = (REPOSITORY / "tests" / "sample" / "input").rglob("*")
    assert sum(file.stat().st_size for file in files) < 1e6


def test_the_readme_is_short() -> None:
    assert README.stat().st_size <= MAX_README_BYTES


@each_document
def test_python_and_json_are_whole(document: Path) -> None:
    for block in blocks(document, "python"):
        ast.parse(block)
    for block in blocks(document, "json"):
        shown = block.strip()
        # Of a long file the beginning is shown, up to the end of an entry.
        json.loads(shown[:-1] + "}" if shown.endswith(",") else shown)


@each_document
def test_shell_is_shell(document: Path) -> None:
    for block in blocks(document, "bash"):
        done = subprocess.run(
            ["bash", "-n"], check=False, input=block, capture_output=True, text=True, timeout=60
        )
        assert done.stderr == ""


@each_document
def test_commands_use_the_environment_that_the_readme_sets_up(document: Path) -> None:
    for line in one_liners(document):
        assert not re.match(r"(python|pip|pytest|ruff)\b[^.]* ", line), line
        for program in re.findall(r"\.venv/bin/([\w.-]+)", line):
            assert (Path(sys.executable).parent / program).exists(), line


def test_versions_are_those_of_the_requirements() -> None:
    pinned: dict[str, str] = {}
    for name in ("requirements.txt", "tests/requirements.txt"):
        pinned |= re.findall(
            r"^([\w.-]+)==([^\s;]+)", (REPOSITORY / name).read_text(), re.MULTILINE
        )
    # The programs that measure also run in environments of other versions.
    text = "".join(read(document) for document in DOCUMENTS if document.parent.name != "measure")
    named = re.findall(r"([\w.-]+)==([\w.]+)", text)
    assert "snakemake" in dict(named)
    for package, version in named:
        assert pinned.get(package, version) == version


@pytest.mark.parametrize("command", snakemake_commands())
def test_snakemake_commands_find_the_workflow(command: str, tmp_path: Path) -> None:
    """A dry run in a clone, without what belongs to a cluster or a store."""
    pytest.importorskip("snakemake", reason="needs snakemake: see tests/requirements.txt")
    (tmp_path / "workflow").symlink_to(REPOSITORY / "workflow")
    (tmp_path / "chips").mkdir()
    for name in ("chips/a.tar", "model.h5", "ports.json"):
        (tmp_path / name).write_bytes(b"")
    options = r"executor|container-image|slurm-status-command|default-storage-\w+|shared-fs-usage"
    local = re.sub(rf" --({options}) \S+| --slurm-no-account", "", command)
    arguments = shlex.split(local)[1:]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--dry-run", *arguments],
        check=False,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    assert "classify" in done.stdout


def test_ports_json_in_the_readme_is_what_the_task_reads(tmp_path: Path) -> None:
    example = next(block for block in blocks(README, "json") if '"classes"' in block)
    (tmp_path / "ports.json").write_text(example)
    ports = parse_ports(read_ports(tmp_path / "ports.json"))
    assert ports.classes == ("No Buildings", "Buildings")
    assert ports.warnings == ()


@pytest.mark.parametrize("document", [README, REPOSITORY / "docs" / "models.md"])
def test_the_table_of_preprocessing_is_that_of_the_task(document: Path) -> None:
    """test_preprocessing.py compares the task's own table with Keras."""
    rows = {}
    for line in read(document).splitlines():
        found = re.search(r"^(?:\|[^|]*)?\| `(\w+)`(?:, the default| \(default\))? \|", line)
        if found and (mode := found[1]) in MODES:
            rows[mode] = line
    assert set(rows) == set(MODES)
    for family, mode in FAMILY_MODES.items():
        named = {m for m, row in rows.items() if re.search(rf"\b{family}\b", row)}
        assert named == {mode}, family


@each_document
def test_files_that_a_document_names_exist(document: Path) -> None:
    missing = {
        path
        for path in re.findall(PATHS, read(document))
        if not path.startswith(MADE_BY_THE_READER) and not (REPOSITORY / path.rstrip(".")).exists()
    }
    assert missing == set()


@each_document
def test_links_and_pictures_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)]+)\)|src='([^']+)'", prose(document))
    for target in ("".join(pair) for pair in targets):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        led_to = (document.parent / path).resolve() if path else document
        assert led_to.is_file(), target
        assert not anchor or anchor in anchors(led_to), target


def test_every_document_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [README]
    while waiting:
        document = waiting.pop()
        reached.add(document)
        links = re.findall(r"\]\(([\w./-]+\.md)", prose(document))
        waiting += {(document.parent / link).resolve() for link in links} - reached
    assert set(DOCUMENTS) <= reached


def test_the_image_takes_what_the_task_needs_and_nothing_else() -> None:
    """The Dockerfile copies it, and .dockerignore lets it through."""
    copied = re.findall(r"^COPY (.+) \S+$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    let_through = re.findall(r"^!(\S+)$", (REPOSITORY / ".dockerignore").read_text(), re.MULTILINE)
    needed = {"deploy-chip-classifier.py", "chip_classifier", "keras_files"}
    needed |= {".ci/packages/cpu.txt", ".ci/packages/gpu.txt"}
    assert {name for line in copied for name in line.split()} == needed
    assert set(let_through) == needed


def test_build_arguments_in_the_readme_are_the_dockerfiles() -> None:
    named = set(re.findall(r"--build-arg (\w+)=", read(README)))
    assert named == set(
        re.findall(r"^ARG (\w+)", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    )
