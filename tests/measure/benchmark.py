"""Measure the task against what the machine can do, and against what one would write today.

    python tests/measure/benchmark.py            1 round of a, 4 of the others
    python tests/measure/benchmark.py --quick    few chips, 1 round, without a

Chips (JPEG) and models are made from fixed seeds. In each round every party runs once, one after
the other, from its start to its end:

    task       deploy-chip-classifier.py as a process
    peer       as a process: tar to disk, keras.utils.image_dataset_from_directory,
               resnet50.preprocess_input, model.predict, JSON
    ceilings   decode and warp alone, on all cores; the model alone on ready arrays, through
               predict_on_batch and through the fastest of three executions: Keras' model in a
               compiled function, the same with its variables frozen into constants, and the
               task's own, as many batches at a time as the task computes

The steady rate is that after the first three batches: TensorFlow still prepares its work during the
first one, and two are computed at a time.

Two tables of Markdown are printed: the figures that have a target, each the median over the rounds
with the smallest and the largest behind it, and the medians of what they were made of. What each
round gave goes to stderr.
"""

import argparse
import io
import itertools
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

# For how long each execution of a model is measured.
CEILING_SECONDS = 8
QUICK_CEILING_SECONDS = 4

# What the tests allow float32 that is added up in another order (tests/test_eras.py); convolutions
# by Winograd's algorithm come near 1e-5.
TOLERANCE = 1e-4

SCRIPT = Path(__file__).parents[2] / "deploy-chip-classifier.py"


@dataclass(frozen=True)
class Workload:
    """What is classified: name, number and size of the chips, the model's size and kind.

    rounds: how often.
    ceilings: whether they are measured; where start-up is what one waits for, they tell nothing.
    """

    name: str
    chips: int
    chip_size: int
    model_size: int
    model: str
    rounds: int = 1
    ceilings: bool = True


WORKLOADS = (
    Workload("a", 2000, 256, 224, "ResNet50"),
    Workload("b", 20000, 128, 96, "small CNN", 4),
    Workload("c", 200, 256, 224, "ResNet50", 4, ceilings=False),
)
QUICK_WORKLOADS = (
    Workload("b", 4000, 128, 96, "small CNN"),
    Workload("c", 150, 256, 224, "ResNet50", ceilings=False),
)


# ------------------------------------------------------------------------------------- materials


def make_work_dir(folder: Path, workload: Workload) -> Path:
    """Make a work directory with a tar of seeded JPEG chips and a model."""
    import cv2

    work = folder / workload.name
    (work / "input" / "chips").mkdir(parents=True)
    (work / "input" / "model").mkdir()
    rng = np.random.default_rng(4)
    size = workload.chip_size
    # 64 different chips, repeated: the time to decode a chip does not depend on having seen it.
    jpegs = []
    for _ in range(64):
        noise = cv2.GaussianBlur(rng.normal(0, 400, (size, size, 3)), (0, 0), 4)
        chip = np.clip(noise + 128 + rng.normal(0, 6, noise.shape), 0, 255).astype(np.uint8)
        jpegs.append(cv2.imencode(".jpg", chip, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    with tarfile.open(work / "input" / "chips" / "chips.tar", "w") as tar:
        for number in range(workload.chips):
            member = tarfile.TarInfo(f"chips/chip{number:07}.jpg")
            member.size = len(jpegs[number % 64])
            tar.addfile(member, io.BytesIO(jpegs[number % 64]))
    code = f"import benchmark; benchmark.save_model({workload.model!r}, {workload.model_size}, "
    path = work / "input" / "model" / "model.h5"
    run(["-c", code + f"{str(path)!r})"])
    return work


def save_model(kind: str, size: int, path: str) -> None:
    """Save a model with seeded random weights: "ResNet50" or "small CNN" (15,000 parameters)."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(4)
    if kind == "ResNet50":
        model = keras.applications.ResNet50(weights=None)
    else:
        model = keras.Sequential([keras.Input((size, size, 3)), layers.Rescaling(1 / 128)])
        for filters in (8, 16, 24, 40):
            model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
            model.add(layers.MaxPooling2D())
        model.add(layers.GlobalAveragePooling2D())
        model.add(layers.Dense(32, activation="relu"))
        model.add(layers.Dense(10, activation="softmax"))
    model.save(path)


# --------------------------------------------------------------------------------------- parties


@dataclass(frozen=True)
class Run:
    """A process that has ended.

    started, ended: in seconds since the epoch; processor: seconds of processor time, its children's
    included; memory: its peak, in MiB; output: what it printed.
    """

    started: float
    ended: float
    processor: float
    memory: float
    output: str


def run(arguments: list[str], expected: int = 0, **variables: str) -> Run:
    """Run Python with arguments and environment variables.

    Raises RuntimeError, with the end of what it said, if it ends with another exit code.
    """
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": str(Path(__file__).parent),
        **variables,
    }
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.time()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=output,
            stderr=errors,
            env=environment,
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)  # Popen.wait does not tell what it used
        except BaseException:
            process.kill()
            raise
        ended = time.time()
        process.returncode = os.waitstatus_to_exitcode(status)
        text, said = ((file.seek(0), file.read())[1] for file in (output, errors))
    if process.returncode != expected:
        end = (text + said)[-2000:]
        raise RuntimeError(f"{arguments} ended with {process.returncode}: {end}")
    return Run(started, ended, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text)


def measure(work: Path, workload: Workload, seconds: float) -> list[dict[str, float] | None]:
    """Run the task, the peer and, if the workload has them, the ceilings.

    Args:
        work: the work directory.
        workload: what lies in it.
        seconds: as in `ceilings`.
    Returns:
        For the task and the peer their wall time and peak memory; for the task the time after
        start-up too, and with ceilings the steady rate; for these chips per second, or None.
    """
    task = run([str(SCRIPT), "--work-dir", str(work)])
    with tempfile.TemporaryDirectory() as scratch:
        peer = run([__file__, "--peer", str(work), scratch])
    figures = [{"seconds": r.ended - r.started, "memory": r.memory} for r in (task, peer)]
    log = (work / "output" / "logs" / "out.log").read_text()
    ((loaded, _),) = moments(log, "Time to load")
    figures[0]["after start-up"] = task.ended - loaded
    if not workload.ceilings:
        return [*figures, None]
    _, _, third, *_, last = moments(log, r"Chips \d+ to (\d+)")
    figures[0]["steady"] = (int(last[1]) - int(third[1])) / (last[0] - third[0])
    arguments = [str(work), str(workload.model_size), str(seconds)]
    rates = json.loads(run([__file__, "--ceilings", *arguments]).output)
    best = max(rate for name, rate in rates.items() if name.startswith("model"))
    return [*figures, {"decode": rates["decode"], "predict": rates["predict"], "best": best}]


def moments(log: str, line: str) -> list[tuple[float, str]]:
    """Find lines of out.log: their moments, in seconds since the epoch, and the pattern's group."""
    found = re.finditer(rf"^(\S+ \S+),(\d+) INFO {line}", log, re.MULTILINE)
    return [(datetime.fromisoformat(f"{m[1]}.{m[2]}").timestamp(), m[m.re.groups]) for m in found]


def peer(work: Path, scratch: Path) -> None:
    """Classify the chips as one would with Keras alone."""
    import keras

    with tarfile.open(next((work / "input" / "chips").iterdir())) as tar:
        tar.extractall(scratch, filter="data")
    model = keras.saving.load_model(next((work / "input" / "model").iterdir()), compile=False)
    dataset = keras.utils.image_dataset_from_directory(
        scratch,
        labels=None,
        image_size=model.input_shape[1:3],
        batch_size=100,
        shuffle=False,
        verbose=False,
    )
    outputs = model.predict(dataset.map(keras.applications.resnet50.preprocess_input), verbose=0)
    classified = {
        Path(path).stem: {"class": str(row.argmax()), "certainty": round(float(row.max()), 10)}
        for path, row in zip(dataset.file_paths, outputs, strict=True)
    }
    (scratch / "classified.json").write_text(json.dumps(classified))


def ceilings(work: Path, size: int, seconds: float) -> dict[str, float]:
    """Measure decoding alone and the model alone.

    Args:
        work: the work directory.
        size: rows and columns that the model takes.
        seconds: for how long each execution of the model is measured.
    Returns:
        Chips per second of "decode", "predict" and the executions "model ...".
    """
    sys.path.insert(0, str(SCRIPT.parent))
    from chip_classifier.environment import prepare_environment

    prepare_environment()
    import keras
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    from chip_classifier.classifier import Classifier
    from chip_classifier.cores import usable_cores
    from chip_classifier.decode import Decoder
    from chip_classifier.log import Warnings
    from chip_classifier.pipeline import MOST_CHIPS_OF_A_GROUP
    from chip_classifier.ports import Ports
    from chip_classifier.settings import settle
    from chip_classifier.sources.tar import Tar
    from keras_files.open_model import open_model

    path = work / "input" / "model" / "model.h5"
    model = open_model(path)
    classifier = Classifier(model, settle(Ports(size=size), model), 100, Warnings())
    archive = Tar(work / "input" / "chips" / "chips.tar")
    jpegs = [archive.read(chip) for chip, _ in zip(archive.chips(), range(500), strict=False)]
    pixels = np.empty((len(jpegs), size, size, 3), np.uint8)
    pool = ThreadPoolExecutor(usable_cores())

    decoder = Decoder()

    def prepare(number: int) -> None:
        decoder.decode_into(pixels[number], jpegs[number])

    def prepare_group(numbers: np.ndarray) -> None:
        for number in numbers:
            prepare(number)

    def decode(parts: list[np.ndarray]) -> None:
        numbers = np.concatenate(parts)
        groups = np.array_split(numbers, len(numbers) // MOST_CHIPS_OF_A_GROUP)
        list(pool.map(prepare_group, groups))

    everything = [np.arange(len(jpegs))]
    decode(everything)
    starts = range(0, len(jpegs), 100)
    model = keras.saving.load_model(path, compile=False)
    mean = tf.constant((103.939, 116.779, 123.68))

    @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3), tf.uint8)])
    def classify(batch: tf.Tensor) -> tf.Tensor:
        return model(tf.cast(batch, tf.float32) - mean, training=False)

    plain = classify.get_concrete_function()
    frozen = convert_variables_to_constants_v2(plain)
    batches = [pixels[first : first + 100] for first in starts]
    ready = [keras.applications.resnet50.preprocess_input(b.astype(np.float32)) for b in batches]
    computing = ThreadPoolExecutor(classifier.batches_at_a_time)
    executions = {
        "decode": (decode, everything),
        "predict": (lambda some: [model.predict_on_batch(batch) for batch in some], ready),
        "model compiled": (lambda some: [plain(tf.constant(b)).numpy() for b in some], batches),
        "model frozen": (lambda some: [frozen(tf.constant(b))[0].numpy() for b in some], batches),
        "model of the task": (lambda some: list(computing.map(classifier, some)), batches),
    }
    return chips_per_second(executions, seconds)


def chips_per_second(
    executions: dict[str, tuple[Callable[[list[np.ndarray]], object], list[np.ndarray]]],
    seconds: float,
) -> dict[str, float]:
    """Measure executions, each with its ready batches, after one to warm up and one to be timed.

    They take turns of about a second, so that a slow moment strikes all. A turn has an even number
    of batches, so that none is left to be computed alone where two are at a time.
    """
    turns = {}
    for name, (execute, batches) in executions.items():
        execute(batches[:1])
        started = time.perf_counter()
        execute(batches[:1])
        pairs = math.ceil(0.5 / (time.perf_counter() - started))
        turns[name] = list(itertools.islice(itertools.cycle(batches), 2 * pairs))
    spent, chips = dict.fromkeys(executions, 0.0), dict.fromkeys(executions, 0)
    while sum(spent.values()) < seconds * len(executions):
        for name, (execute, _) in executions.items():
            started = time.perf_counter()
            execute(turns[name])
            spent[name] += time.perf_counter() - started
            chips[name] += sum(map(len, turns[name]))
    return {name: chips[name] / spent[name] for name in executions}


def run_bad_input(folder: Path) -> float:
    """Measure the seconds to a failed status: a port that is wrong, beside a good model."""
    work = folder / "d"
    (work / "input").mkdir(parents=True, exist_ok=True)
    for name in ("chips", "model"):
        if not (work / "input" / name).exists():
            (work / "input" / name).symlink_to(folder / "c" / "input" / name)
    (work / "input" / "ports.json").write_text('{"size": "240"}')
    failed = run([str(SCRIPT), "--work-dir", str(work)], expected=1)
    return failed.ended - failed.started


# --------------------------------------------------------------------------------------- results

# Figure -> workload -> what it is to be.
TARGETS = {
    "chips/s of the whole process, over the peer's": {"a": ("at least", 1.35)},
    "wall time of the whole process, over the peer's": {
        "b": ("at most", 0.65),
        "c": ("at most", 0.9),
    },
    "steady rate, over the model's best execution alone": {"a": ("at least", 0.95)},
    "wall time after start-up, over the sum of the ceilings": {"b": ("at most", 1.1)},
    "peak memory, over the peer's": {"a": ("at most", 1), "b": ("at most", 1), "c": ("at most", 1)},
    "wrong port: time to a failed status, s": {"d": ("at most", 1)},
}


def figures(
    workload: Workload, task: dict[str, float], peer: dict[str, float], top: dict[str, float] | None
) -> dict[str, float]:
    """Return the figures of one round of a workload, those with a target as TARGETS names them."""
    found = {
        "wall time of the whole process, over the peer's": task["seconds"] / peer["seconds"],
        "chips/s of the whole process, over the peer's": peer["seconds"] / task["seconds"],
        "peak memory, over the peer's": task["memory"] / peer["memory"],
        "Task: s": task["seconds"],
        "after start-up": task["after start-up"],
        "chips/s": workload.chips / task["seconds"],
        "MiB": task["memory"],
        "Peer: s": peer["seconds"],
        "peer: chips/s": workload.chips / peer["seconds"],
        "peer: MiB": peer["memory"],
    }
    if not top:
        return found
    least = workload.chips / top["decode"] + workload.chips / top["best"]
    return found | {
        "steady rate, over the model's best execution alone": task["steady"] / top["best"],
        "wall time after start-up, over the sum of the ceilings": task["after start-up"] / least,
        "Sum of the ceilings: s": least,
        "decoding alone: chips/s": top["decode"],
        "model alone, best: chips/s": top["best"],
        "predict_on_batch: chips/s": top["predict"],
    }


def print_tables(measured: dict[str, dict[str, list[float]]]) -> None:
    """Print the tables: workload -> figure -> its value in each round."""
    print("| | Figure | Target | Measured |\n| --- | --- | --- | --- |")
    for workload, values in measured.items():
        for name, targets in TARGETS.items():
            if name in values and workload in targets:
                (words, target), several = targets[workload], sorted(values[name])
                median = statistics.median(several)
                is_met = median >= target if words == "at least" else median <= target
                cell = f"{median:.2f}{'' if is_met else ' missed'}"
                if len(several) > 1:
                    cell += f" ({several[0]:.2f} to {several[-1]:.2f})"
                print(f"| {workload} | {name} | {words} {target} | {cell} |")
    names = [
        name
        for name in dict.fromkeys(n for v in measured.values() for n in v)
        if name not in TARGETS
    ]
    if names:
        print(f"\n| | {' | '.join(names)} |\n|{' --- |' * (len(names) + 1)}")
        for workload, values in measured.items():
            cells = [f"{statistics.median(values[n]):,.2f}" if n in values else "" for n in names]
            if any(cells):
                print(f"| {workload} | {' | '.join(cells)} |")


def run_rounds(folder: Path, only: str, is_quick: bool) -> dict[str, dict[str, list[float]]]:
    """Run the workloads of these letters; return workload -> figure -> its value in each round."""
    every = QUICK_WORKLOADS if is_quick else WORKLOADS
    seconds = QUICK_CEILING_SECONDS if is_quick else CEILING_SECONDS
    # d borrows the chips and the model of c.
    works = {
        w: make_work_dir(folder, w)
        for w in every
        if w.name in only or (w.name == "c" and "d" in only)
    }
    measured: dict[str, dict[str, list[float]]] = {letter: {} for letter in only}
    for number in range(max(w.rounds for w in every)):
        for workload, work in works.items():
            if workload.name not in only or number >= workload.rounds:
                continue
            parties = measure(work, workload, seconds)
            print(workload.name, json.dumps(parties), file=sys.stderr, flush=True)
            for name, value in figures(workload, *parties).items():
                measured[workload.name].setdefault(name, []).append(value)
        if "d" in only:
            name = "wrong port: time to a failed status, s"
            measured["d"].setdefault(name, []).append(run_bad_input(folder))
    return measured


def main() -> None:
    """Run the rounds and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few chips, one round")
    parser.add_argument("--only", default="abcd", help="letters of the workloads to run")
    parser.add_argument("--peer", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ceilings", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        peer(*arguments.peer)
        return
    if arguments.ceilings:
        work, size, seconds = arguments.ceilings
        print(json.dumps(ceilings(Path(work), int(size), float(seconds))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        print_tables(run_rounds(Path(scratch), arguments.only, arguments.quick))


if __name__ == "__main__":
    main()
