"""Small model files for tests, written by hand, and those of tests/models."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from keras_files.open_model import ModelError, open_model

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

Entry = dict[str, Any]

FOLDER = Path(__file__).parent / "models"
# All models of tests/models with their entries in index.json.
REFERENCES: dict[str, tuple[Path, Entry]] = {
    name: (FOLDER / name, entry)
    for name, entry in json.loads((FOLDER / "index.json").read_text()).items()
}


def layer(kind: str, name: str, **config: Any) -> Entry:
    return {"class_name": kind, "config": {"name": name, **config}, "name": name}


INPUT = layer("InputLayer", "input", batch_input_shape=[None, 4, 4, 3])

DENSE = layer("Dense", "dense", units=2, activation="softmax")


def sequential(*layers: Entry) -> Entry:
    entries = [*layers, layer("Flatten", "flatten"), DENSE]
    return {"class_name": "Sequential", "config": {"name": "model", "layers": [INPUT, *entries]}}


def graph(*layers: tuple[Entry, Any], outputs: list[str] | None = None) -> Entry:
    """A functional model: each entry with its inbound nodes; the last two flatten and classify."""
    calls = [(INPUT, []), *layers]
    entries = [{**entry, "inbound_nodes": nodes} for entry, nodes in calls]
    ends = [[name, 0, 0] for name in outputs or [calls[-1][0]["name"]]]
    config = {"name": "model", "layers": entries}
    ends = {"input_layers": [["input", 0, 0]], "output_layers": ends}
    return {"class_name": "Functional", "config": {**config, **ends}}


def after(*names: str, **kwargs: Any) -> list[Any]:
    return [[[name, 0, 0, kwargs] for name in names]]


def classified(before: str) -> list[tuple[Entry, Any]]:
    return [(layer("Flatten", "flatten"), after(before)), (DENSE, after("flatten"))]


def save(path: Path, model: Entry | str, version: str = "2.15.0", width: int = 48) -> Path:
    """Write a model as Keras 2 does, with weights of a Dense layer of `width` inputs."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version
        file.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = model if isinstance(model, str) else json.dumps(model)
        group = file.create_group("model_weights/dense")
        group.attrs["weight_names"] = ["dense/kernel:0", "dense/bias:0"]
        group["dense/kernel:0"] = rng.normal(size=(width, 2)).astype(np.float32)
        group["dense/bias:0"] = np.zeros(2, np.float32)
        file["model_weights"].attrs["layer_names"] = ["dense"]
    return path


def predict(path: Path, trained_with: str = "tensorflow") -> np.ndarray:
    model = open_model(path, trained_with).build()
    rows, columns = model.input_shape[1:3]
    return np.asarray(model(np.ones((2, rows, columns, 3), np.float32)))


def refusal(
    path: Path, trained_with: str = "tensorflow", build: bool = True, beside: Sequence[Path] = ()
) -> str:
    """The sentence with which a file is refused; it names the file.

    A folder: of the first file in it that is no .json file, with those beside it.
    """
    if path.is_dir():
        beside = sorted(path.glob("*.json"))
        path = next(file for file in sorted(path.iterdir()) if file not in beside)
    with pytest.raises(ModelError) as caught:
        opened = open_model(path, trained_with, beside)
        if build:
            opened.build()
    message = str(caught.value)
    assert message.startswith(f"{path.name}: ") and "\n" not in message
    return message
