"""The tasks' registrations against the documentation in the README, and against each other."""

import json
import re

import pytest

from chip_classifier import VERSION
from chip_files import REPOSITORY

NAMES = ("deploy-chip-classifier", "deploy-chip-classifier-theano")
COMMANDS = {
    "deploy-chip-classifier": "python /deploy-chip-classifier.py",
    "deploy-chip-classifier-theano": "python /deploy-chip-classifier.py --trained-with theano",
}
# The last versions that were registered in 2017.
REGISTERED = {"deploy-chip-classifier": (0, 1, 2), "deploy-chip-classifier-theano": (0, 0, 1)}

INPUT_PORTS = {
    "chips": ("directory", True),
    "model": ("directory", True),
    "classes": ("string", False),
    "size": ("string", False),
    "deploy_batch": ("string", False),
    "preprocessing": ("string", False),
    "normalization_vector": ("string", False),
    "normalization_value": ("string", False),
    "bands": ("string", False),
    "bit_depth": ("string", False),
    "probabilities": ("string", False),
    "loading": ("string", False),
    "values": ("string", False),
}
OUTPUT_PORTS = {"results": "directory", "logs": "directory"}


def registration(name: str) -> dict:
    """Read a task's registration."""
    return json.loads((REPOSITORY / f"{name}.json").read_text(encoding="utf-8"))


def readme_table(*header: str) -> list[list[str]]:
    """Read the rows of the one table of the README with that header."""
    tables = []
    rows = None
    for line in (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            rows = None
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if tuple(cells) == header:
            rows = []
            tables.append(rows)
        elif rows is not None and not set("".join(cells)) <= set("-:"):
            rows.append(cells)
    assert len(tables) == 1, f"{len(tables)} tables in README.md have the header {header}"
    return tables[0]


@pytest.mark.parametrize("name", NAMES)
def test_version_is_higher_than_the_last_one_registered(name: str) -> None:
    assert registration(name)["name"] == name
    version = registration(name)["version"]
    assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", version)
    assert tuple(map(int, version.split("."))) > REGISTERED[name]


def test_the_image_is_labelled_with_the_version_of_the_task() -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    assert f'org.opencontainers.image.version="{VERSION}"' in dockerfile


@pytest.mark.parametrize("name", NAMES)
def test_task_is_public_and_may_run_for_two_days(name: str) -> None:
    task = registration(name)
    assert task["properties"] == {"isPublic": True, "timeout": 172800}
    assert task["description"].endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_container_runs_the_script(name: str) -> None:
    (container,) = registration(name)["containerDescriptors"]
    assert container["type"] == "DOCKER"
    assert container["properties"] == {
        "image": "platformstories/deploy-chip-classifier",
        "domain": "nvidiag2",
    }
    assert container["command"] == COMMANDS[name]


@pytest.mark.parametrize("name", NAMES)
def test_ports_are_those_of_the_contract(name: str) -> None:
    task = registration(name)
    inputs, outputs = task["inputPortDescriptors"], task["outputPortDescriptors"]
    assert {port["name"]: (port["type"], port["required"]) for port in inputs} == INPUT_PORTS
    assert len(inputs) == len(INPUT_PORTS)
    assert {port["name"]: port["type"] for port in outputs} == OUTPUT_PORTS
    assert len(outputs) == len(OUTPUT_PORTS)
    assert all(len(port["description"]) > 20 for port in inputs + outputs)


def test_input_ports_agree_with_the_readme() -> None:
    rows = readme_table("Name", "Valid Values", "Description", "Required")
    documented = [(name, kind.lower(), required) for name, kind, _, required in rows]
    ports = registration(NAMES[0])["inputPortDescriptors"]
    assert documented == [(p["name"], p["type"], str(p["required"])) for p in ports]


def test_output_ports_agree_with_the_readme() -> None:
    rows = readme_table("Name", "Type", "Description")
    ports = registration(NAMES[0])["outputPortDescriptors"]
    assert [(name, kind.lower()) for name, kind, _ in rows] == [
        (port["name"], port["type"]) for port in ports
    ]


def test_defaults_in_the_descriptions_are_those_of_the_readme() -> None:
    rows = readme_table("Name", "Valid Values", "Description", "Required")
    described = {
        p["name"]: p["description"] for p in registration(NAMES[0])["inputPortDescriptors"]
    }
    for name, _, text, _ in rows:
        default = re.search(r"[Dd]efault.*", text)
        assert (default[0] if default else "") in described[name]


def test_every_ending_of_a_model_file_is_named() -> None:
    rows = readme_table("Name", "Valid Values", "Description", "Required")
    ports = [port for name in NAMES for port in registration(name)["inputPortDescriptors"]]
    texts = [text for name, _, text, _ in rows if name == "model"]
    texts += [port["description"] for port in ports if port["name"] == "model"]
    assert len(texts) == 3
    assert all(" .h5, .hdf5 or .keras file " in text for text in texts)


def test_theano_task_differs_only_where_it_must() -> None:
    tensorflow, theano = (registration(name) for name in NAMES)
    for task in (tensorflow, theano):
        for key in ("name", "version", "description"):
            del task[key]
        (container,) = task["containerDescriptors"]
        del container["command"]
        model = next(port for port in task["inputPortDescriptors"] if port["name"] == "model")
        del model["description"]
    assert tensorflow == theano
