"""How many wrong settings the second look tells, and how often it is wrong about right ones.

    python tests/measure/second_look.py --models DIR

Trains the small models of trained_models.py that DIR does not hold yet (20 minutes), then has each
of them classify archives that are balanced, of one class, darker and so on, with its own settings,
with each other preprocessing and with the bands the other way round, and asks the second look what
it thinks, as a run does. Prints the tables of docs/guarantees.md.

A mistake counts if it costs 15 points of accuracy or more; what a setting tells of itself is a
warning that names any other one. A right run is one with the settings of the training, on whatever
archive.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import tensorflow as tf
from trained_models import MANY, MODES, Recipe, make_chips, recipes, train_all

from chip_classifier.answers import AnsweredBatch
from chip_classifier.classifier import class_values
from chip_classifier.ports import Ports
from chip_classifier.preprocessing import Preprocessing, settle_preprocessing
from chip_classifier.second_look.alternatives import prepare
from chip_classifier.second_look.evidence import Margins
from chip_classifier.second_look.look import Model, SecondLook, Truth
from keras_files.open_model import OpenedModel, open_model
from keras_files.statistics import recall

CHIPS = 200
BATCH = 100
COSTLY = 0.15  # of accuracy
LEAST_RIGHT = 0.8

# Archive -> the shares of its classes (None: the same), and by what R,G,B are multiplied.
ARCHIVES = {
    "balanced": (None, (1, 1, 1)),
    "95 to 5": ([0.0125, 0.0125, 0.95, 0.0125, 0.0125], (1, 1, 1)),
    "99 to 1": ([0.0025, 0.99, 0.0025, 0.0025, 0.0025], (1, 1, 1)),
    "water only": ([1, 0, 0, 0, 0], (1, 1, 1)),
    "soil only": ([0, 0, 0, 1, 0], (1, 1, 1)),
    "buildings only": ([0, 0, 0, 0, 1], (1, 1, 1)),
    "darker": (None, (0.6, 0.6, 0.6)),
    "brighter": (None, (1.4, 1.4, 1.4)),
    "another season": (None, (1.2, 0.9, 0.9)),
}


def archives() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield the name, the chips, uint8 B,G,R, and the classes of each archive."""
    for number, (name, (shares, gains)) in enumerate(ARCHIVES.items()):
        chips, classes = make_chips(CHIPS, 100 + number, shares=shares)
        chips = np.clip(chips * np.float32(gains), 0, 255).astype(np.uint8)
        yield name, np.ascontiguousarray(chips[..., ::-1]), classes


def settings(recipe: Recipe) -> Iterator[tuple[str, Preprocessing]]:
    """Yield the settings that a model is tried with, its own first."""
    for mode in (recipe.mode, *(mode for mode in MODES if mode != recipe.mode)):
        yield mode, settle_preprocessing(Ports(preprocessing=mode), 3)
    own = settle_preprocessing(Ports(preprocessing=recipe.mode), 3)
    yield "bands reversed", Preprocessing(own.mode, own.bands, not own.flips, own.vector, own.value)


class Tried:
    """A model that is tried."""

    def __init__(self, recipe: Recipe, opened: OpenedModel) -> None:
        self.recipe, self._head = recipe, opened.head
        model, self._memory = opened.build(), recall(opened)
        self._outputs = model.output_shape[1]
        self._compute = tf.function(model.__call__, autograph=False, reduce_retracing=True)

    def values(self, x: np.ndarray) -> np.ndarray:
        """Return the values of the classes, float64 (N, classes)."""
        return class_values(self._compute(x).numpy(), self._head)

    def look(self, in_force: Preprocessing, pixels: np.ndarray, truths: np.ndarray) -> dict:
        """Run over chips, and return how right that is and what the second look says of it."""
        values = self.values(prepare(pixels, in_force))
        names = tuple(map(str, range(values.shape[1])))
        margins = Margins(self._head.is_logit, self._outputs == 1)
        look = SecondLook(in_force, Model(self.values, lambda: self._memory, margins, names))
        for first in range(0, len(pixels), BATCH):
            part = slice(first, first + BATCH)
            classes = values[part].argmax(axis=1).tolist()
            look.see(AnsweredBatch(first, classes, [], pixels=pixels[part], values=values[part]))
        given = values.argmax(axis=1)
        cells, chips = np.unique(np.column_stack([truths, given]), axis=0, return_counts=True)
        truth = Truth(dict(enumerate(truths.tolist())), np.column_stack([cells, chips]))
        said = {"": look.tell(), "with truth": look.tell(truth)}
        return {
            "right": float((given == truths).mean()),
            **{key: [f.warning for f in found if f.warning] for key, found in said.items()},
            "figures": [finding.figures for finding in said[""]],
        }


def try_models(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what became of each model, archive and setting."""
    chips = list(archives())
    for recipe in recipes():
        if not (folder / recipe.name).exists():
            continue
        tried = Tried(recipe, open_model(folder / recipe.name))
        for archive, pixels, classes in chips:
            truths = (classes == 4).astype(int) if "binary" in recipe.kind else classes
            right = None
            for setting, in_force in settings(recipe):
                found = tried.look(in_force, pixels, truths)
                right = found["right"] if right is None else right
                yield {
                    "model": recipe.name,
                    "kind": recipe.kind,
                    "remembers": recipe.remembers,
                    "epochs": recipe.epochs,
                    "archive": archive,
                    "setting": setting,
                    "own": setting == recipe.mode,
                    "lost": right - found["right"],
                    **found,
                }


def share(cases: list[dict[str, Any]], key: str) -> str:
    """Write how many of some cases were told, "12 of 13 (92.3 %)"."""
    told = sum(bool(case[key]) for case in cases)
    return f"{told:,} of {len(cases):,} ({100 * told / len(cases):.1f} %)" if cases else "-"


def group_of(case: dict[str, Any]) -> str:
    """Return to which models of the table that of a case belongs."""
    if not case["remembers"]:
        return "without a normalization"
    if case["kind"] == "frozen":
        return "with one, frozen, that was trained on other pictures"
    return (
        "with one" if case["epochs"] == MANY else f"with one, trained for {case['epochs']} epochs"
    )


def tables(cases: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| Models | Runs | Told | Told where the truth is known |"
    yield "|------|------|------|------|"
    for group in sorted({group_of(case) for case in cases}):
        of_group = [case for case in cases if group_of(case) == group]
        wrong = [case for case in of_group if not case["own"] and case["lost"] >= COSTLY]
        rows = {
            "another preprocessing": [c for c in wrong if c["setting"] != "bands reversed"],
            "bands the other way round": [c for c in wrong if c["setting"] == "bands reversed"],
            "right settings (false alarms)": [case for case in of_group if case["own"]],
        }
        models = len({case["model"] for case in of_group})
        for name, found in rows.items():
            told, told_with_truth = share(found, ""), share(found, "with truth")
            yield f"| {models} {group} | {name} | {told} | {told_with_truth} |"


def usable(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the cases of models that are right about so many of a balanced archive that one would
    use them."""
    good = {
        case["model"]
        for case in cases
        if case["own"] and case["archive"] == "balanced" and case["right"] >= LEAST_RIGHT
    }
    return [case for case in cases if case["model"] in good]


def main() -> None:
    """Train, try, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, help="where the trained models are kept")
    parser.add_argument("--cases", type=Path, help="a file for all cases, as lines of JSON")
    options = parser.parse_args()
    folder = options.models or Path(tempfile.mkdtemp())
    train_all(folder)
    cases = []
    for case in try_models(folder):
        cases.append(case)
        if options.cases:
            with options.cases.open("a") as file:
                file.write(json.dumps(case) + "\n")
    used = usable(cases)
    number, models = (len({case["model"] for case in some}) for some in (cases, used))
    print(f"{models} models, {len(used):,} runs; {number - models} models were left out, which are")
    print(f"right about fewer than {LEAST_RIGHT:.0%} of a balanced archive with their own settings")
    print("\n".join(tables(used)))


if __name__ == "__main__":
    main()
