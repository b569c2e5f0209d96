"""Read random formulas and damaged code of Lambda layers: right or refused, never run.

    python tests/measure/fuzz_lambdas.py --count 20000 --seed 1

A third are random formulas, compiled by this Python and computed by it as well. The others are code
objects of all Pythons, from tests/models and from such formulas, with bytes changed, left out or
put in; what is taken for code of this Python is run by it, with the arrays of a test, and compared.
Prints what became of them; the exit code is 1 if one is wrong, takes longer than a second to read,
or if anything in a file is executed on the way. The same seed gives the same files.
"""

from __future__ import annotations

import argparse
import base64
import json
import marshal
import os
import random
import sys
import time
import types
import warnings
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import numpy as np
import tensorflow as tf
from tf_keras import backend as K

from keras_files.code_object import CodeError, read_code
from keras_files.lambdas import translate
from keras_files.model_file import ModelError
from lambda_code import TF_KERAS, compute, damaged, formula, layer_of_bytes

MAX_SECONDS = 1.0
FORBIDDEN = {"code.__new__", "compile", "exec", "marshal.loads", "open", "os.system"}
FORBIDDEN |= {"socket.connect", "subprocess.Popen"}
GLOBALS = {"K": K, "np": np, "tf": tf}


@dataclass
class Report:
    """What became of the files: counts by kind and end, broken promises, the longest reading."""

    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    slowest: float = 0.0


class Watch:
    """What Python tells of anything executed, compiled, unmarshalled or opened while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.events: list[str] = []
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: Any) -> None:
        if self.on and event in FORBIDDEN:
            self.events.append(event)


WATCH = Watch()


def stored_code() -> list[bytes]:
    """The code of all Lambda layers in tests/models, with that of some formulas."""
    found = []

    def walk(part: Any) -> None:
        if isinstance(part, dict) and part.get("class_name") == "Lambda":
            function = part["config"]["function"]
            text = function["config"]["code"] if isinstance(function, dict) else function[0]
            raw = text.startswith(("c\1", "\xe3\1"))
            found.append(text.encode("raw_unicode_escape") if raw else base64.b64decode(text))
        for item in part.values() if isinstance(part, dict) else part:
            if isinstance(item, (dict, list)):
                walk(item)

    for path in sorted((REPOSITORY / "tests" / "models").glob("*lambda*.h5")):
        with h5py.File(path) as file:
            walk(json.loads(file.attrs["model_config"]))
    for path in sorted((REPOSITORY / "tests" / "models").glob("*lambda*.keras")):
        with zipfile.ZipFile(path) as archive:
            walk(json.loads(archive.read("config.json")))
    rng = random.Random(0)
    return found + [marshal.dumps(compiled(formula(rng)).__code__) for _ in range(len(found))]


def compiled(text: str) -> types.FunctionType:
    """A formula as a function of this Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # a number that is subscripted
        return eval(f"lambda x: {text}", dict(GLOBALS))


def read(data: bytes, report: Report) -> bool:
    """Translate code under watch; whether it was taken."""
    WATCH.events.clear()
    started, WATCH.on = time.perf_counter(), True
    try:
        translate(layer_of_bytes(data), None, TF_KERAS)
        taken = True
    except CodeError:
        taken = False
    finally:
        WATCH.on = False
    seconds = time.perf_counter() - started
    report.slowest = max(report.slowest, seconds)
    if seconds > MAX_SECONDS:
        report.broken.append(f"{seconds:.1f} s for {data.hex()}")
    if WATCH.events:
        report.broken.append(f"{set(WATCH.events)} by {data.hex()}")
    return taken


def compare(data: bytes, function: types.FunctionType, x: np.ndarray) -> str:
    """ "equal", "refused", or how it differs from what Python computes."""
    try:
        found = compute(layer_of_bytes(data), x)
    except ModelError:
        return "refused"
    try:
        with np.errstate(all="ignore"):
            expected = np.asarray(function(tf.constant(x)), np.float32)
    except Exception as error:  # noqa: BLE001 of whatever kind
        return f"Python fails: {error!r:.200}"
    if expected.size != found.size:
        return f"another shape, {expected.shape}"
    if not found.size:
        return "equal"
    expected = expected.reshape(found.shape)
    scale = np.max(np.abs(np.nan_to_num(expected, posinf=0, neginf=0)), initial=1.0)
    same = np.isclose(found, expected, rtol=1e-4, atol=1e-5 * scale, equal_nan=True)
    # the sign of a remainder, and the whole number below, jump where the order of sums counts
    return "equal" if np.mean(same) > 0.99 else f"differs by {np.nanmax(abs(found - expected))}"


def function_of(data: bytes) -> types.FunctionType | None:
    """The function of code that this very Python may have written; it is run by this program."""
    if sys.version_info[:2] not in [code.version for code in read_code(base64_text(data))]:
        return None
    try:
        code = marshal.loads(data).replace(co_stacksize=1000)
        return types.FunctionType(code, dict(GLOBALS))
    except Exception:  # noqa: BLE001 what marshal makes of damaged code
        return None


def base64_text(data: bytes) -> str:
    """Bytes as Keras keeps them."""
    return base64.b64encode(data).decode()


def fuzz(count: int, rng: random.Random) -> Report:
    """Try so many formulas and damaged code objects."""
    report, seeds = Report(), stored_code()
    x = np.random.default_rng(2).normal(0, 2, (2, 6, 8, 3)).astype(np.float32)
    read(seeds[0], Report())  # loads xdis
    for number in range(count):
        whole = number % 3 == 0
        text = formula(rng) if whole else ""
        data = marshal.dumps(compiled(text).__code__) if whole else damaged(rng, rng.choice(seeds))
        kind = "formula" if whole else "damaged"
        if not read(data, report):
            report.counts[f"{kind}: refused"] += 1
            continue
        function = compiled(text) if whole else function_of(data)
        if function is None:
            report.counts[f"{kind}: taken, and not to be run by this Python"] += 1
            continue
        verdict = compare(data, function, x)
        report.counts[f"{kind}: {verdict.split(':')[0].split(',')[0]}"] += 1
        if verdict not in ("equal", "refused"):
            report.broken.append(f"{verdict}: {text or data.hex()}")
    return report


def main() -> int:
    """Parse the command line and fuzz; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=3000, help="code objects")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    report = fuzz(arguments.count, random.Random(arguments.seed))
    for kind, number in sorted(report.counts.items()):
        print(f"{kind}: {number:,}")
    print(f"the longest reading: {report.slowest:.3f} s")
    for promise in report.broken:
        print("BROKEN:", promise)
    return int(bool(report.broken))


if __name__ == "__main__":
    sys.exit(main())
