"""Print how many models of each era this task and Keras 3 itself open rightly, as Markdown.

    python tests/measure/compare_keras.py [folder with index.json, ...]

Without a folder: tests/models, or ../shared/models where it exists. A model counts as agreeing if
it gives the predictions stored beside it within its tolerance, as wrong if it gives others, and as
refused if opening or calling it fails. Each library runs in a process of its own, and Keras in a
new one after every crash, so that no model keeps others from being tried.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).parents[2]
ERAS = {
    "k1": "Keras 1",
    "k2": "Keras 2.0 to 2.3",
    "tf": "tf.keras 2.4 to 2.21",
    "keras3": "Keras 3",
}


def open_here(path: Path, entry: dict[str, Any]) -> Callable[[np.ndarray], Any]:
    """The model as this task opens it."""
    from keras_files.open_model import open_model

    return open_model(path, entry["task"], classes=entry.get("classes")).build()


def open_in_keras(path: Path, entry: dict[str, Any]) -> Callable[[np.ndarray], Any]:
    """The model as Keras 3 opens it; a channels-first one gets its chips channels first."""
    import keras

    model = keras.saving.load_model(path, compile=False)
    first = model.input_shape[-1] != 3 and model.input_shape[1] == 3
    return lambda x: model.predict(x.transpose(0, 3, 1, 2) if first else x, verbose=0)


def judge(path: Path, entry: dict[str, Any], opener: Callable[..., Any]) -> str:
    """ "agree", "wrong" or "refused"."""
    data = np.load(path.with_suffix(".npz"))
    try:
        y = np.asarray(opener(path, entry)(data["x"]))
    except Exception:  # noqa: BLE001 a library may fail in any way; that is what is counted
        return "refused"
    tolerance = entry.get("tolerance", 1e-4)
    fits = y.shape == data["y"].shape and np.allclose(y, data["y"], rtol=0, atol=tolerance)
    return "agree" if fits else "wrong"


def judge_all(library: str, folder: Path) -> dict[str, str]:
    """The verdict on each model of a folder, from processes that may crash."""
    names = list(json.loads((folder / "index.json").read_text()))
    verdicts: dict[str, str] = {}
    while len(verdicts) < len(names):
        todo = [name for name in names if name not in verdicts]
        run = subprocess.run(
            [sys.executable, __file__, "--judge", library, str(folder), *todo],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        lines = [line.split("\t") for line in run.stdout.splitlines() if line.count("\t") == 1]
        verdicts |= {name: verdict for name, verdict in lines if name in todo}
        if len(lines) < len(todo):
            verdicts[todo[len(lines)]] = "refused"
    return verdicts


def table(folders: list[Path]) -> str:
    """The verdicts of both libraries by era, as a Markdown table."""
    rows: dict[str, Counter[str]] = {title: Counter() for title in [*ERAS.values(), "all"]}
    for folder in folders:
        expected = json.loads((folder / "index.json").read_text())
        for library in ("task", "keras"):
            for name, verdict in judge_all(library, folder).items():
                for title in (next(t for key, t in ERAS.items() if name.startswith(key)), "all"):
                    rows[title][f"{library} {verdict}"] += 1
                    rows[title]["files"] += library == "task"
                    if library == "task" and expected[name]["expect"] == "refuse":
                        rows[title]["refuse"] += 1
    header = "era|files|to be refused|this task: agree|refused|wrong|Keras 3: agree|refused|wrong"
    lines = [f"| {header.replace('|', ' | ')} |", "| --- " + "| ---: " * 8 + "|"]
    columns = ["files", "refuse"]
    columns += [f"{lib} {v}" for lib in ("task", "keras") for v in ("agree", "refused", "wrong")]
    for title, counts in rows.items():
        lines.append(f"| {title} | " + " | ".join(str(counts[c]) for c in columns) + " |")
    return "\n".join(lines)


def main() -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.path.insert(0, str(REPOSITORY))
    if sys.argv[1:2] == ["--judge"]:
        library, folder, *names = sys.argv[2:]
        index = json.loads((Path(folder) / "index.json").read_text())
        opener = open_here if library == "task" else open_in_keras
        for name in names:
            print(f"{name}\t{judge(Path(folder) / name, index[name], opener)}", flush=True)
        return
    given = [Path(folder) for folder in sys.argv[1:]]
    shared = REPOSITORY.parent / "shared" / "models"
    print(table(given or [shared if shared.exists() else REPOSITORY / "tests" / "models"]))


if __name__ == "__main__":
    main()
