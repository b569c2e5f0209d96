"""Check a machine with NVIDIA's GPUs: are they used, are the answers right, what limits the rate?

    python tests/measure/gpu_check.py        without a GPU a short dry run on the processor

It prints, and sums up in words at the end:

    machine      GPUs and driver as nvidia-smi tells, libraries, what TensorFlow's build needs
    equality     the sample through the task, and ResNet50 (seeded random weights, float32), on the
                 GPUs and on the processor
    rates        ResNet50 on ready arrays, by batch size and batches at a time, and the whole task,
                 on one GPU and on all that CUDA_VISIBLE_DEVICES leaves; with the utilisation, the
                 share of the time in which the GPUs (on a dry run: the cores) computed

The exit code is 1 if an answer differs.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import benchmark
import numpy as np

SAMPLE = benchmark.SCRIPT.parent / "tests" / "sample"
SIZE = 224
# What the task promises: float32, added in another order, stays below it.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Plan:
    """How much is measured: batch sizes, seconds for each rate, chips of the whole task."""

    batch_sizes: tuple[int, ...]
    seconds: float
    chips: int


PLAN = Plan((32, 100, 256), 10, 10_000)
DRY_PLAN = Plan((4, 8), 3, 64)


# ------------------------------------------------------------------------------------ the machine


def nvidia_smi(query: str) -> list[list[str]]:
    """Ask the driver; one row for each GPU, none where there is no driver."""
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [] if done.returncode else [row.split(", ") for row in done.stdout.splitlines()]


def print_machine() -> None:
    """Print what is known before TensorFlow is loaded."""
    print(f"{platform.platform()}, Python {platform.python_version()}")
    print(", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras", "numpy")))
    for row in nvidia_smi("name,driver_version,memory.total,compute_cap"):
        print("{}, driver {}, {} MiB, compute capability {}".format(*row))


def busy_shares(gpus: int) -> Iterator[float]:
    """Yield, five times a second, the share of so many GPUs that compute; of the cores for 0."""
    before = np.zeros(8)
    while True:
        time.sleep(0.2)
        if gpus:
            yield sum(float(row[0]) for row in nvidia_smi("utilization.gpu")) / 100 / gpus
        else:  # proc_stat(5): the first line sums up all cores; the fourth and fifth time are idle
            now = np.array(Path("/proc/stat").read_text().split()[1:9], float)
            yield 1 - (now - before)[3:5].sum() / (now - before).sum()
            before = now


@contextmanager
def utilisation(gpus: int) -> Iterator[Callable[[float, float], float]]:
    """Watch the devices; gives a function of two moments (time.time()): the mean share between."""
    samples: list[tuple[float, float]] = []
    is_over = threading.Event()

    def watch() -> None:
        for share in busy_shares(gpus):
            samples.append((time.time(), share))
            if is_over.is_set():
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield lambda begin, end: np.mean([share for at, share in samples if begin < at < end])
    finally:
        is_over.set()


# ------------------------------------------------------------------------------- the model alone


def measure_model(path: Path, batch_sizes: list[int], seconds: float, outputs: Path) -> dict:
    """Measure the model on the devices that this process sees.

    Args:
        path: the model file.
        batch_sizes: chips per batch.
        seconds: for each rate; 0 for the outputs alone.
        outputs: where the model's outputs for a batch of the first size go, as .npy.
    Returns:
        The devices, how many GPUs are among them, what TensorFlow was built with, the seconds to
        load, and for each batch size and number of batches at a time the rate and utilisation.
    """
    sys.path.insert(0, str(benchmark.SCRIPT.parent))
    from chip_classifier.classifier import Classifier
    from chip_classifier.environment import prepare_environment
    from chip_classifier.log import Warnings
    from chip_classifier.ports import Ports
    from chip_classifier.settings import settle
    from keras_files.open_model import open_model

    prepare_environment()
    model = open_model(path)
    chips = np.random.default_rng(5).integers(0, 256, (max(batch_sizes), SIZE, SIZE, 3), np.uint8)
    found: dict = {"rates": []}
    for batch_size in batch_sizes:
        started = time.perf_counter()
        classifier = Classifier(model, settle(Ports(size=SIZE), model), batch_size, Warnings())
        found.setdefault("loading", time.perf_counter() - started)
        if not outputs.exists():
            np.save(outputs, classifier(chips[:batch_size]))
        import tensorflow as tf  # after the task has set it up

        found["device"], found["gpus"] = (
            classifier.device,
            len(tf.config.list_physical_devices("GPU")),
        )
        found["build"] = {key: str(value) for key, value in tf.sysconfig.get_build_info().items()}
        devices = max(found["gpus"], 1)
        for at_a_time in (devices, 2 * devices, 3 * devices) if seconds else ():
            with ThreadPoolExecutor(at_a_time) as pool, utilisation(found["gpus"]) as share:
                batches = [chips[:batch_size]] * 2 * at_a_time
                list(pool.map(classifier, batches))  # to warm up
                begin, rounds = time.time(), 0
                while time.time() < begin + seconds:
                    list(pool.map(classifier, batches))
                    rounds += 1
                end = time.time()
                rate = rounds * len(batches) * batch_size / (end - begin)
                found["rates"].append([batch_size, at_a_time, rate, share(begin, end)])
    return found


def measure_apart(model: Path, plan: Plan, outputs: Path, seconds: float, **variables: str) -> dict:
    """Measure the model in a process of its own, with environment variables."""
    arguments = [str(model), json.dumps(plan.batch_sizes), str(seconds), str(outputs)]
    run = benchmark.run([__file__, "--model", *arguments], **variables)
    return json.loads(run.output.splitlines()[-1])


# --------------------------------------------------------------------------------- the whole task


def run_task(work: Path, **variables: str) -> tuple[dict[str, dict], str]:
    """Run the task with environment variables; return classified.json and out.log."""
    benchmark.run([str(benchmark.SCRIPT), "--work-dir", str(work)], **variables)
    classified = json.loads((work / "output" / "results" / "classified.json").read_text())
    return classified, (work / "output" / "logs" / "out.log").read_text()


def compare_sample(folder: Path) -> float:
    """Run the sample on the GPUs and the processor; the largest difference of certainties."""
    shutil.copytree(SAMPLE / "input", folder / "sample" / "input")
    (answers, _), (expected, _) = (
        run_task(folder / "sample"),
        run_task(folder / "sample", CUDA_VISIBLE_DEVICES="-1"),
    )
    if [a["class"] for a in answers.values()] != [a["class"] for a in expected.values()]:
        return float("inf")
    return max(abs(answers[name]["certainty"] - expected[name]["certainty"]) for name in expected)


def measure_task(work: Path, gpus: int, **variables: str) -> tuple[float, float]:
    """Run the task; chips/s behind the first quarter of the batches, and the utilisation."""
    with utilisation(gpus) as share:
        _, log = run_task(work, **variables)
        batches = benchmark.moments(log, r"Chips \d+ to (\d+)")
        (begin, first), (end, last) = batches[len(batches) // 4], batches[-1]
        return (int(last) - int(first)) / (end - begin), share(begin, end)


# ---------------------------------------------------------------------------------------- verdict


def verdict(gpus: int, difference: float, model: float, task: float) -> str:
    """Say what was found: how many GPUs, the largest difference, chips/s of model and task."""
    words = [
        f"The answers are those of the processor, within {difference:.0e}."
        if difference <= TOLERANCE
        else f"THE ANSWERS ARE NOT THOSE OF THE PROCESSOR: they differ by {difference:.0e}."
    ]
    if not gpus:
        words.append("This was a dry run, the processor against itself: no GPU was found.")
        if nvidia_smi("name"):
            words.append("The machine has one: see docs/gpu.md for what TensorFlow needs.")
    elif task < 0.9 * model:
        words.append(
            f"The GPUs wait for chips: the task reaches {task / model:.0%} of the rate of the "
            "model alone. More cores for decoding would help, a faster GPU would not."
        )
    else:
        words.append(f"The GPUs limit the rate: the task reaches {task / model:.0%} of theirs.")
    return " ".join(words)


def check(folder: Path) -> int:
    """Measure with a scratch folder, and print; returns the exit code."""
    plan = PLAN if nvidia_smi("name") else DRY_PLAN
    workload = benchmark.Workload("task", plan.chips, 256, SIZE, "ResNet50")
    work = benchmark.make_work_dir(folder, workload)
    model = work / "input" / "model" / "model.h5"
    (work / "input" / "ports.json").write_text(
        json.dumps({"deploy_batch": str(plan.batch_sizes[1])})
    )
    measure_apart(model, plan, folder / "cpu.npy", 0, CUDA_VISIBLE_DEVICES="-1")
    first = {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]}
    for name, variables in (("one", first), ("all", {})):
        found = measure_apart(model, plan, folder / f"{name}.npy", plan.seconds, **variables)
        print(f"\n{name}: {found['device']}, loaded in {found['loading']:.1f} s")
        for batch_size, at_a_time, rate, share in found["rates"]:
            print(
                f"    model, batches of {batch_size}, {at_a_time} at a time: {rate:,.1f} chips/s, "
                f"utilisation {share:.0%}"
            )
        task, share = measure_task(work, found["gpus"], **variables)
        print(
            f"    task, batches of {plan.batch_sizes[1]}: {task:,.1f} chips/s, "
            f"utilisation {share:.0%}"
        )
    print("\nTensorFlow's build:", ", ".join(f"{k} {v}" for k, v in found["build"].items()))
    expected = np.load(folder / "cpu.npy")
    differences = {
        f"ResNet50, {name}": float(np.abs(np.load(folder / f"{name}.npy") - expected).max())
        for name in ("one", "all")
    }
    differences["the sample"] = compare_sample(folder)
    print("Largest difference from the processor:", differences)
    best = max(
        rate for batch_size, _, rate, _ in found["rates"] if batch_size == plan.batch_sizes[1]
    )
    print(verdict(found["gpus"], max(differences.values()), best, task))
    return int(max(differences.values()) > TOLERANCE)


def main() -> int:
    """Run everything; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.model:
        path, batch_sizes, seconds, outputs = arguments.model
        found = measure_model(Path(path), json.loads(batch_sizes), float(seconds), Path(outputs))
        print(json.dumps(found))
        return 0
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        return check(Path(folder))


if __name__ == "__main__":
    sys.exit(main())
