"""One model of each architecture of keras.applications, with random weights: the same numbers.

    python tests/measure/applications.py

Each architecture of Keras 3 and of tf_keras is made with ten classes at the smallest size that it
takes, saved (.h5, Keras 3 also .keras), opened here and compared with the `predict` of the library
that made it. Prints a line for each file, and the largest difference of each library; the exit code
is 1 if one is refused or differs by more than 1e-4. One process for each: the largest has 350
million weights.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from keras_files.open_model import ModelError, open_model

LIBRARIES = ("keras", "tf_keras")
TOLERANCE = 1e-4
SIZES = (32, 71, 75, 224, 331)  # smallest sizes: of most; Xception; Inception; some fix theirs
SECONDS = 1800

# Some deep networks of random weights are chaotic: a millionth of change in the chips changes the
# classes, and the library does not agree with itself. Such a one is made anew, with less gain.
GAINS = (1.0, 0.5, 0.25)
MOST_CHANGE = 1e-5


def architectures(library: str) -> list[str]:
    """The functions of keras.applications that make a model."""
    applications = __import__(library).applications
    return [name for name in dir(applications) if name[0].isupper()]


def make(library: str, name: str, gain: float) -> Any:
    """The model at the smallest size that it takes, with random weights.

    The kernels are as the library draws them; biases and the statistics of normalizations are
    changed mildly, for with others the values of a deep network vanish or overflow. What these
    multiply by is `gain`, more or less.
    """
    keras = __import__(library)
    keras.utils.set_random_seed(1)
    constructor = getattr(keras.applications, name)
    for size in SIZES:
        try:
            model = constructor(weights=None, classes=10, input_shape=(size, size, 3))
            break
        except ValueError:
            continue
    rng = np.random.default_rng(1)
    for weight in model.weights:
        role = getattr(weight, "path", weight.name).split(":")[0].rsplit("/")[-1]
        low, high = {
            "beta": (-0.1, 0.1),
            "bias": (-0.1, 0.1),
            "gamma": (0.8 * gain, 1.2 * gain),
            "moving_mean": (-0.1, 0.1),
            "moving_variance": (0.8, 1.2),
        }.get(role, (None, None))
        if low is not None:
            weight.assign(rng.uniform(low, high, weight.shape).astype(np.float32))
    return model


def spread(model: Any, chips: np.ndarray) -> np.ndarray:
    """Scale the last kernel so that the classes differ by a factor of e or so; give the outputs.

    Those of RegNet are logits. Of a softmax that is 0 for some, the kernel is much too large: then
    the least difference would change the class.
    """
    kernel = next(layer for layer in reversed(model.layers) if layer.weights).weights[0]
    while (y := model.predict(chips, verbose=0)).min() == 0:
        kernel.assign(kernel / 10)
    logits = np.log(y) if (y > 0).all() else y
    kernel.assign(kernel * np.float32(1 / logits.std(axis=1).mean()))
    return model.predict(chips, verbose=0)


def compare(library: str, name: str) -> Iterator[list[Any]]:
    """Return a line per file: library, architecture, ending, size, outputs, and the difference.

    Or the sentence of the refusal in its place.
    """
    for gain in GAINS:
        model = make(library, name, gain)
        size = model.input_shape[1]
        chips = np.random.default_rng(2).uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
        if any(type(layer).__name__ == "Rescaling" for layer in model.layers):
            chips = (chips + 1) * 127.5
        y = spread(model, chips)
        changed = model.predict(chips * np.float32(1 + 1e-6), verbose=0)
        if np.abs(changed - y).max() < MOST_CHANGE:
            break
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            Path(folder) / f"model{end}" for end in (".h5", ".keras")[: 1 + (library == "keras")]
        ]
        for path in paths:
            model.save(path)
        del model
        gc.collect()
        for path in paths:
            try:
                found = np.asarray(open_model(path).build()(chips))
                result: Any = float(np.abs(found - y).max())
            except ModelError as error:
                result = str(error)
            yield [library, name, path.suffix, size, f"{y.min():.3f} to {y.max():.3f}", result]


def main() -> int:
    """Parse the command line, try the architectures, print the lines; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", help="names of architectures")
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=LIBRARIES)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # of a worker: library, name
    arguments = parser.parse_args()
    if arguments.one:
        for line in compare(*arguments.one):
            print(json.dumps(line), flush=True)
        return 0
    bad, largest = [], dict.fromkeys(arguments.libraries, 0.0)
    for library in arguments.libraries:
        for name in architectures(library):
            if arguments.only and name not in arguments.only:
                continue
            command = [sys.executable, __file__, "--one", library, name]
            run = subprocess.run(
                command, capture_output=True, check=False, text=True, timeout=SECONDS
            )
            lines = [json.loads(line) for line in run.stdout.splitlines() if line[:2] == '["']
            if run.returncode:
                bad.append(f"{library} {name}: exit code {run.returncode}: {run.stderr[-500:]}")
            for line in lines:
                print(*line, sep="\t", flush=True)
                if isinstance(line[-1], str) or not line[-1] <= TOLERANCE:
                    bad.append(f"{library} {name}: {line[-1]}")
                else:
                    largest[library] = max(largest[library], line[-1])
    for library, difference in largest.items():
        print(f"{library}: largest difference {difference:.1e}")
    print(*bad, sep="\n")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
