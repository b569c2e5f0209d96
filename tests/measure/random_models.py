"""Random small networks of standard layers, saved by Keras 3 and tf_keras: right, or refused.

    python tests/measure/random_models.py --count 500 --seed 1

Half of the networks are saved by Keras 3 (as .h5 and as .keras), half by tf_keras (.h5). Each is
opened here and compared with the `predict` of the library that saved it, on random chips. Prints
what became of them, the refusals, and which layers were met; the exit code is 1 if one gives other
numbers, crashed, or ended in another error than a ModelError. The same seed makes the same
networks.

Tolerance: 1e-4 of the largest output, since float32 keeps seven digits and a network adds up
hundreds of products. A network may magnify what is lost (a normalization of values that are all
but equal): where chips changed by a millionth change the library's own predictions, ten times that
change is allowed as well.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import random_layers as layers
from random_layers import Draw

from keras_files.model_file import ModelError, naming
from keras_files.open_model import open_model

LIBRARIES = ("keras", "tf_keras")
TOLERANCE = 1e-4
CHUNK = 25  # networks of one process: what a library keeps of each adds up
SECONDS = 1200  # for such a process, on a busy machine
MOST_VALUES = 6000  # of a chip, in one array
WIDEST = 400  # values that are flattened for the end


class Network:
    """A network that grows: `tensors` are all that it has, `loose` those that nothing uses yet."""

    def __init__(self, draw: Draw, start: Any, depth: int = 0) -> None:
        self.draw, self.depth = draw, depth
        self.tensors, self.loose = [start], []
        self.shared: list[Any] = []  # layers and models with what they were called on

    def grow(self, count: int) -> None:
        """Add so many layers; what Keras refuses is drawn again."""
        grown = tries = 0
        while grown < count and tries < 20 * count:
            tries += 1
            try:
                grown += self._add()
            except Exception:  # noqa: BLE001, S112 the library's way to say that it is not legal
                continue

    def _add(self) -> bool:
        ways = [self._layer, self._merge, self._recurrent, self._attention, self._wrapped]
        ways += [self._nested, self._again]
        (way,) = self.draw.choices(ways, [60, 14, 8, 4, 7, 5 if self.depth < 2 else 0, 4])
        used, made = way()
        if not made or any(_values(y) not in range(1, MOST_VALUES) for y in made):
            return False
        self.loose = [x for x in self.loose if all(x is not y for y in used)] + made
        self.tensors += made
        return True

    def _pick(self, *ranks: int) -> Any:
        """One of the tensors of such ranks, mostly one of the last."""
        found = [x for x in self.tensors if len(x.shape) - 1 in ranks]
        if not found:
            raise LookupError
        return self.draw.choice(found[-2:] if self.draw.chance(0.8) else found)

    def _draw_layer(self, shape: layers.Shape) -> Any:
        """A layer of one input for chips of a shape."""
        fitting = [
            kind
            for kind, (ranks, _) in layers.LAYERS.items()
            if len(shape) in ranks and hasattr(self.draw.layers, kind)
        ]
        weights = [1 if kind in layers.RARE else 8 for kind in fitting]
        weights[fitting.index("Reshape")] *= 4  # to lines and volumes
        (kind,) = self.draw.choices(fitting, weights)
        layer = getattr(self.draw.layers, kind)(**layers.LAYERS[kind][1](self.draw, shape))
        if kind == "Normalization" and layer.get_config()["mean"] is None:
            layer.build((None, *shape))  # with statistics of its own, see set_weights
        layer.trainable = self.draw.chance(0.9)
        return layer

    def _layer(self) -> tuple[list[Any], list[Any]]:
        x = self._pick(*layers.ANY)
        layer = self._draw_layer(tuple(x.shape)[1:])
        y = layer(x)
        self.shared.append((layer, x))
        return [x], [y]

    def _again(self) -> tuple[list[Any], list[Any]]:
        """A layer or model once more, on something of the same shape."""
        layer, before = self.draw.choice(self.shared)
        x = self._like(before)
        y = layer(x)
        return [x], list(y) if isinstance(y, (list, tuple)) else [y]

    def _like(self, x: Any) -> Any:
        """Another tensor of the same shape: there already, or made."""
        found = [y for y in self.tensors if y.shape == x.shape and y is not x]
        if found and self.draw.chance(0.7):
            return self.draw.choice(found)
        return self.draw.layers.Dense(x.shape[-1], activation="tanh")(x)

    def _merge(self) -> tuple[list[Any], list[Any]]:
        kind = self.draw.choice(layers.MERGES)
        x = self._pick(*layers.ANY[: 2 if kind == "Dot" else 5])
        parts = [x, *(self._like(x) for _ in range(self.draw.choice([1, 1, 2])))]
        if kind != "Concatenate" and len(x.shape) > 2 and self.draw.chance(0.2):
            pooled = getattr(self.draw.layers, f"GlobalMaxPooling{len(x.shape) - 2}D")
            parts.append(pooled(keepdims=True)(x) if self.draw.chance(0.5) else pooled()(x))
            self.draw.shuffle(parts)
        return parts, [layers.merge(self.draw, kind, parts)]

    def _recurrent(self) -> tuple[list[Any], list[Any]]:
        if self.draw.chance(0.7):
            x, kind = self._pick(2), self.draw.choice(layers.RECURRENT)
        else:
            x = self._pick(3, 4, 5)
            kind = f"ConvLSTM{len(x.shape) - 3}D"
        self._check_length(x)
        return [x], layers.recurrent(self.draw, kind, x)

    def _check_length(self, x: Any) -> None:
        if x.shape[1] is not None and x.shape[1] > layers.LONGEST:
            raise ValueError("too many steps")

    def _attention(self) -> tuple[list[Any], list[Any]]:
        kind = self.draw.choice(layers.ATTENTION)
        query = self._pick(2, 3) if kind == "MultiHeadAttention" else self._pick(2)
        others = [x for x in self.tensors if x.shape[::2] == query.shape[::2]]
        value = self.draw.choice([query, *others])
        return [query, value], [layers.attention(self.draw, kind, query, value)]

    def _wrapped(self) -> tuple[list[Any], list[Any]]:
        kind = self.draw.choice(layers.WRAPPERS)
        x = self._pick(*layers.ANY[1:]) if kind == "TimeDistributed" else self._pick(2)
        self._check_length(x)
        return [x], layers.wrapped(self.draw, kind, x, self._draw_layer)

    def _nested(self) -> tuple[list[Any], list[Any]]:
        """A model within the model."""
        x = self._pick(*layers.ANY)
        shape = tuple(x.shape)[1:]
        keras = self.draw.keras
        if self.draw.chance(0.4):
            model = sequential(self.draw, shape, self.draw.randint(1, 4))
        else:
            start = self.draw.layers.Input(shape)
            inner = Network(self.draw, start, self.depth + 1)
            inner.grow(self.draw.randint(1, 5))
            ends = inner.loose[-2:] if self.draw.chance(0.3) else inner.loose[-1:]
            model = keras.Model(start, ends if len(ends) > 1 else ends[0])
        if self.draw.chance(0.2):
            model.trainable = False
        y = model(x)
        self.shared.append((model, x))
        return [x], list(y) if isinstance(y, (list, tuple)) else [y]

    def end(self) -> Any:
        """One vector of all that is loose, and maybe a classifier after it."""
        vectors = [self._vector(x) for x in self.loose[-4:]]
        L = self.draw.layers
        y = vectors[0] if len(vectors) == 1 else L.Concatenate()(vectors)
        if self.draw.chance(0.5):
            ends = [None, "linear", "softmax", "sigmoid"]
            return L.Dense(self.draw.randint(2, 6), activation=self.draw.choice(ends))(y)
        return y

    def _vector(self, x: Any) -> Any:
        L, rank = self.draw.layers, len(x.shape) - 1
        if None not in x.shape[1:] and (_values(x) <= WIDEST or rank == 5):
            return x if rank == 1 else L.Flatten()(x)
        return x if rank == 1 else getattr(L, f"GlobalAveragePooling{rank - 1}D")()(x)


def _values(x: Any) -> int:
    """How many values of a chip a tensor has, axes of any length not counted."""
    return math.prod(1 if size is None else size for size in x.shape[1:])


def sequential(draw: Draw, shape: layers.Shape, count: int) -> Any:
    """A Sequential of so many layers, with an Input or without."""
    start = draw.layers.Input(shape)
    network = Network(draw, start)
    chain, x = [], start
    while len(chain) < count:
        try:
            layer = network._draw_layer(tuple(x.shape)[1:])
            y = layer(x)
        except Exception:  # noqa: BLE001, S112 the library's way to say that it is not legal
            continue
        if _values(y) in range(1, MOST_VALUES):
            chain.append(layer)
            x = y
    return draw.keras.Sequential([start, *chain] if draw.chance(0.7) else chain)


def make_model(draw: Draw) -> Any:
    """A model of images (rows, columns, bands), of a fixed size or of any, channels last or not."""
    rows, columns = draw.randint(6, 20), draw.randint(6, 20)
    size = (None, None) if draw.chance(0.1) else (rows, columns)
    shape = (3, *size) if draw.chance(0.15) else (*size, 3)
    if draw.chance(0.2):
        inner = sequential(draw, shape, draw.randint(1, 6))
        end = draw.layers.Flatten() if None not in size else None
        model = draw.keras.Sequential([draw.layers.Input(shape), *inner.layers])
        for layer in [end, draw.layers.Dense(draw.randint(2, 5))]:
            if layer is not None and (layer is not end or len(model.output_shape) > 2):
                model.add(layer)
        return model
    start = draw.layers.Input(shape)
    network = Network(draw, start)
    network.grow(draw.randint(2, 10))
    return draw.keras.Model(start, network.end())


def set_weights(model: Any, rng: np.random.Generator) -> None:
    """Random weights that keep values at about their size; the statistics of normalizations too."""
    for weight in model.weights:
        name, shape = getattr(weight, "path", weight.name).split(":")[0], tuple(weight.shape)
        if "float" not in str(weight.dtype):
            continue  # the state of random numbers, the count of a Normalization
        role = name.rsplit("/")[-1]
        if "variance" in role or "stddev" in role:
            value = rng.uniform(0.3, 2, shape)
        elif "gamma" in role or role == "scale":
            value = rng.uniform(0.5, 1.5, shape)
        elif "kernel" in role:
            inner = shape[:-2] if "depthwise" in role else shape[:-1]
            value = rng.normal(size=shape) * math.sqrt(1.5 / max(1, math.prod(inner)))
        else:
            value = rng.normal(0, 0.3, shape)
        weight.assign(value.astype("float32"))
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def layers_of(model: Any) -> Iterator[str]:
    """The kinds of all layers, those within models and wrappers too."""
    for layer in model._flatten_layers(include_self=False):
        yield type(layer).__name__


def predictions(model: Any, chips: np.ndarray) -> np.ndarray:
    """What the library itself computes; with XLA where TensorFlow has no channels-first kernels."""
    try:
        return model.predict(chips, verbose=0)
    except Exception:  # noqa: BLE001 any error: tried once more
        model.compile(jit_compile=True)
        return model.predict(chips, verbose=0)


def make(library: str, seed: int, number: int, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Save network `number`; give its path, its layers, chips and predictions."""
    keras = __import__(library)
    for attempt in range(100):
        keras.backend.clear_session()
        draw = Draw(f"{seed} {number} {attempt}", keras)
        rng = np.random.default_rng([seed, number, attempt])
        try:
            model = make_model(draw)
            set_weights(model, rng)
            shape = [
                draw.randint(6, 20) if size is None else size for size in model.input_shape[1:]
            ]
            chips = rng.normal(size=(3, *shape)).astype(np.float32)
            y = predictions(model, chips)
            near = predictions(model, chips * np.float32(1 + 1e-6))
            ending = ".keras" if library == "keras" and number % 4 == 2 else ".h5"
            path = folder / f"{library}_{number}{ending}"
            model.save(path)
        except Exception:  # noqa: BLE001, S112 the library cannot make, compute or save it
            continue
        whole = model.output_shape[1:] == y.shape[1:]  # of a number of classes that it fixes
        if not whole or not np.isfinite(y).all() or not y.any():
            continue
        chips = chips.transpose(0, 2, 3, 1) if shape[-1] != 3 else chips
        kinds = sorted(set(layers_of(model)))
        change = float(np.abs(y - near).max())
        return path, {"kinds": kinds, "chips": chips, "y": y, "change": change}
    raise RuntimeError("no network that the library can compute")


def outcome(path: Path, made: dict[str, Any]) -> str:
    """Open a network and say what came of it."""
    import tensorflow as tf

    y = made["y"]
    try:
        model = open_model(path).build()
        try:
            computed = np.asarray(tf.function(model, autograph=False)(tf.constant(made["chips"])))
        except (tf.errors.OpError, ValueError) as error:
            with naming(path):
                raise model.failure(error) from error
    except ModelError as error:
        text = str(error).partition(": ")[2]
        if "\n" in text or "Traceback" in text:
            return f"BROKEN: no sentence: {text}"
        return f"refused: {text}"
    except Exception as error:  # noqa: BLE001, it is what is looked for
        return f"BROKEN: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if computed.shape != y.shape:
        return f"BROKEN: the shape {computed.shape} in place of {y.shape}"
    difference = np.abs(computed - y).max()
    allowed = TOLERANCE * max(np.abs(y).max(), 1e-3) + 10 * made["change"]
    if not difference <= allowed:
        return f"BROKEN: differs by {difference:.2g} of {np.abs(y).max():.2g} ({allowed:.2g})"
    return "equal" if np.ptp(y, axis=0).any() else "equal, but the same for all chips"


def work(library: str, seed: int, numbers: list[int], folder: Path) -> None:
    """What a worker does: print the layers and the outcome of each network as a line."""
    warnings.simplefilter("ignore")
    for number in numbers:
        path, made = make(library, seed, number, folder)
        result = outcome(path, made)
        print(json.dumps([library, number, path.suffix, made["kinds"], result]), flush=True)
        if not result.startswith("BROKEN"):
            path.unlink()


def run(library: str, seed: int, numbers: list[int], folder: Path, found: list[list]) -> None:
    """Have the networks of one library tried, some in each process."""
    while numbers:
        chunk = numbers[:CHUNK]
        command = [sys.executable, __file__, "--seed", str(seed), "--folder", str(folder)]
        command += ["--work", library, *map(str, chunk)]
        try:
            done = subprocess.run(
                command, capture_output=True, check=False, text=True, timeout=SECONDS
            )
            output, end = done.stdout, f"exit code {done.returncode}: {done.stderr[-300:]}"
        except subprocess.TimeoutExpired as error:
            output, end = (error.stdout or b"").decode(), f"not done after {SECONDS} s"
        lines = [json.loads(line) for line in output.splitlines() if line.startswith('["')]
        if len(lines) < len(chunk):
            lines.append([library, chunk[len(lines)], "?", [], f"BROKEN: {end}"])
        found += lines
        numbers = numbers[len(lines) :]


def report(found: list[list]) -> None:
    """Print the outcomes by library and file, the refusals by sentence, and the layers."""
    tally = Counter((f"{lib} {kind}", result.split(":")[0]) for lib, _, kind, _, result in found)
    results = sorted({result for _, result in tally})
    print(f"| saved as | {' | '.join(results)} |")
    print(f"| --- {'| ---: ' * len(results)}|")
    for saved in sorted({saved for saved, _ in tally}):
        print(f"| {saved} | {' | '.join(str(tally[saved, result]) for result in results)} |")
    refusals = Counter(
        re.sub(r"'[^']*'|\d+", "...", result.partition(": ")[2])
        for *_, result in found
        if result.startswith("refused")
    )
    for sentence, count in refusals.most_common():
        print(f"{count:5}  refused: {sentence}")
    for library in LIBRARIES:
        met = Counter(
            kind
            for lib, _, _, kinds, result in found
            if lib == library and result.startswith("equal")
            for kind in kinds
        )
        missed = sorted(layer_names(library) - met.keys())
        print(f"{library}: {len(met)} kinds of layers in networks that are equal, by number:")
        print("  " + ", ".join(f"{kind} {count}" for kind, count in sorted(met.items())))
        print(f"  not met: {', '.join(missed)}")


def layer_names(library: str) -> set[str]:
    """The layers that a library has."""
    names = __import__(library).layers
    found = (getattr(names, name) for name in dir(names))
    return {c.__name__ for c in found if inspect.isclass(c) and issubclass(c, names.Layer)}


def main() -> int:
    """Parse the command line, try the networks, print the report; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=500, help="networks")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to put those that are broken")
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)  # of a worker
    arguments = parser.parse_args()
    if arguments.work:
        library, *numbers = arguments.work
        work(library, arguments.seed, [int(n) for n in numbers], arguments.folder)
        return 0
    started, found = time.monotonic(), []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        threads = [
            threading.Thread(
                target=run,
                args=(lib, arguments.seed, [*range(i, arguments.count, 2)], folder, found),
            )
            for i, lib in enumerate(LIBRARIES)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(f"seed {arguments.seed}: {len(found)} networks in {time.monotonic() - started:.0f} s")
    report(found)
    broken = [line for line in found if line[-1].startswith("BROKEN")]
    for library, number, *_, result in broken:
        print(f"{library} {number}: {result}")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
