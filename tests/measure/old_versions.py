"""Networks that old versions of Keras made and saved, against their own predictions.

    python tests/measure/old_versions.py --count 40 --seed 1 \
        tf2.1:tf.keras=/path/to/python keras2.2.4:keras=/path/to/python ...

Each version is an environment with a Python from 3.7 on, its library named by "keras" or
"tf.keras"; `old_networks.py` makes the networks there. Prints, as Markdown, what became of those
of each version: "equal", "refused", "warned" (different, and a warning says that an activation is
somebody's own) and "different"; at last the share of the layers, forms and operations that are
equal. The exit code is 1 if one is different, or ends in anything but a
ModelError. Networks that mix the chips of a batch and such of custom code have columns of their
own: they should be refused. So have "special" ones, that may be refused.

Tolerance: 1e-4 of the largest output, and ten times what a millionth of the chips changes; 1e-2
for half precision.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from keras_files.activations import ACTIVATIONS
from keras_files.layers import LAYERS, RANDOM_LAYERS
from keras_files.model_file import ModelError
from keras_files.open_model import open_model

TOLERANCE = 1e-4
HALF = 1e-2  # of models of half precision, which are computed in single precision
GROUPS = (
    "layers",
    "forms",
    "special",
    "operations",
    "mixing",
    "common activation",
    "custom activation",
    "custom layer",
)
STANDARD = ("layers", "forms", "operations")  # without custom code, and not to be refused
ENDS = ("equal", "refused", "warned", "different")


def names() -> dict[str, object]:
    """Return the activations and layers that are known today, with their arguments."""
    rows = {kind: row for kind, row in {**LAYERS, **RANDOM_LAYERS}.items() if row.since != "- - -"}
    layers = {kind: sorted(row.arguments.split()) for kind, row in rows.items()}
    return {"activations": sorted(ACTIVATIONS), "layers": layers}


def make(python: str, library: str, folder: Path, arguments: argparse.Namespace) -> list[dict]:
    """Have an environment make its networks; returns what it says of each."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "names.json").write_text(json.dumps(names()))
    command = [python, str(Path(__file__).with_name("old_networks.py")), str(folder)]
    command += ["--library", library, "--count", str(arguments.count)]
    command += ["--seed", str(arguments.seed), "--names", str(folder / "names.json")]
    own = {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": "", "KERAS_BACKEND": backend_of(folder)}
    own = os.environ | own
    own.pop("TF2_BEHAVIOR", None)  # TensorFlow sets it here; TensorFlow 1 would follow it
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(f"{python}: {done.stderr[-500:]}")
    (folder / "made.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lines


def backend_of(folder: Path) -> str:
    """Return what the networks of a version, in the folder of its name, are trained with."""
    return "theano" if folder.name.startswith("theano") else "tensorflow"


def places(path: Path) -> tuple[Path, str, list[Path]]:
    """Return the arguments of open_model for a network."""
    backend = backend_of(path.parent)
    if path.suffix != ".json":
        return path, backend, []
    weights = next(p for p in path.parent.glob(f"{path.stem}.*") if p.suffix == ".h5")
    return weights, backend, [path]


def judge(path: Path, tolerance: float = TOLERANCE) -> tuple[str, str]:
    """Return what became of a network, one of ENDS or "broken", and a sentence."""
    with np.load(path.with_suffix(".npz")) as arrays:
        x, y, change = arrays["x"], arrays["y"], float(arrays["change"])
    try:
        opened = open_model(*places(path))
        x = np.moveaxis(x, 1, -1) if opened.channels_first else x
        computed = np.asarray(opened.build()(x))
    except ModelError as error:
        return "refused", str(error)
    except Exception as error:  # noqa: BLE001 what is looked for
        return "broken", f"{type(error).__name__}: {error}"[:300]
    difference = float(np.abs(computed - y).max()) if computed.shape == y.shape else np.inf
    allowed = tolerance * float(np.abs(y).max()) + 10 * change
    if difference <= allowed:
        return "equal", ""
    warned = any("activation" in warning for warning in opened.warnings)
    return "warned" if warned else "different", f"by {difference:.2g}"


def judge_all(lines: list[dict]) -> Iterator[tuple[str, str, str, str]]:
    """Yield group, name, end and sentence of each network that could be made."""
    for line in lines:
        if line["fine"]:
            tolerance = HALF if "float16" in line["name"] else TOLERANCE
            yield line["group"], line["name"], *judge(Path(line["file"]), tolerance)


def main() -> int:
    """Parse the command line, make and compare; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("versions", nargs="+", metavar="NAME:LIBRARY=PYTHON")
    parser.add_argument("--count", type=int, default=40, help="random networks of each version")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the networks are kept, and taken from")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    wrong, rows = [], []
    for version in arguments.versions:
        name, _, rest = version.partition(":")
        library, _, python = rest.partition("=")
        made = folder / name / "made.jsonl"
        if made.exists():
            lines = [json.loads(line) for line in made.read_text().splitlines()]
        else:
            lines = make(python, library, folder / name, arguments)
        tally: Counter[tuple[str, str]] = Counter()
        for group, network, end, sentence in judge_all(lines):
            tally[group, end] += 1
            expected = "refused" if group == "mixing" else "equal"
            told = group in (*STANDARD, "special", "mixing") and end != expected
            if end in ("different", "broken") or told:
                print(f"{name} {group} {network}: {end} {sentence}", file=sys.stderr)
            if end in ("different", "broken"):
                wrong.append(network)
        counts = [" / ".join(str(tally[group, end]) for end in ENDS) for group in GROUPS]
        share = sum(tally[g, "equal"] for g in STANDARD)
        share /= max(1, sum(tally[g, end] for g in STANDARD for end in ENDS))
        rows.append(f"| {name} | {' | '.join(counts)} | {share:.1%} |")
        print(rows[-1], file=sys.stderr)
    print(f"| version | {' | '.join(GROUPS)} | agree |\n| --- |{' ---: |' * (len(GROUPS) + 1)}")
    print("\n".join(rows))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
