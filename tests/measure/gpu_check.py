"""Check a machine with NVIDIA's GPUs: are they used, are the answers right, what limits the rate?

    python tests/measure/gpu_check.py report.md     without a GPU a short dry run on the processor

It prints, and appends to the file part by part, so that what was measured is there if the next part
hangs:

    machine      GPUs and driver as nvidia-smi tells, libraries, what TensorFlow's build needs
    equality     the sample through the task, and ResNet50 (seeded random weights, float32), on the
                 GPUs and on the processor
    rates        ResNet50 on ready arrays, by batch size and batches at a time, and the whole task,
                 on one GPU and on all that CUDA_VISIBLE_DEVICES leaves; with the utilization, the
                 share of the time in which the GPUs (on a dry run: the cores) computed, and the
                 peak of the memory that TensorFlow took of the first GPU

Each part has a limit of time; one that fails or takes longer is named, and the next one begins. At
the end it sums up in words. The exit code is 1 if an answer differs or a part failed.
"""

import argparse
import json
import os
import platform
import shutil
import signal
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


@dataclass(frozen=True)
class Plan:
    """How much is measured: batch sizes, seconds for each rate, chips of the whole task."""

    batch_sizes: tuple[int, ...]
    seconds: float
    chips: int


PLAN = Plan((32, 100, 256), 4, 10_000)
DRY_PLAN = Plan((4, 8), 1, 64)


# ------------------------------------------------------------------------------------ the machine


def nvidia_smi(query: str) -> list[list[str]]:
    """Ask the driver; one row for each GPU, none where there is no driver."""
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [] if done.returncode else [row.split(", ") for row in done.stdout.splitlines()]


def describe_machine() -> str:
    """Say what is known before TensorFlow is loaded."""
    lines = [
        f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores",
        ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras", "numpy")),
    ]
    for row in nvidia_smi("name,driver_version,memory.total,compute_cap"):
        lines.append("{}, driver {}, {} MiB, compute capability {}".format(*row))
    return "\n".join(lines)


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
def utilization(gpus: int) -> Iterator[Callable[[float, float], float]]:
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
        The devices, how many GPUs are among them, what TensorFlow was built with, the MiB in use on
        each GPU at the end, the seconds to load, and for each batch size and number of batches at a
        time the rate in chips/s, the utilization and the peak of the first GPU's memory in MiB.
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
        if not outputs.exists():
            found["loading"] = time.perf_counter() - started
            np.save(outputs, classifier(chips[:batch_size]))
        import tensorflow as tf  # after the task has set it up

        gpus = len(tf.config.list_physical_devices("GPU"))
        devices = max(gpus, 1)
        for at_a_time in (devices, 2 * devices, 3 * devices) if seconds else ():
            if gpus:
                tf.config.experimental.reset_memory_stats("GPU:0")
            batches = [chips[:batch_size]] * 2 * at_a_time
            rate, share = measure_rate(classifier, batches, at_a_time, (seconds, gpus))
            peak = tf.config.experimental.get_memory_info("GPU:0")["peak"] if gpus else 0
            found["rates"].append([batch_size, at_a_time, rate, share, peak / 2**20])
    build = {key: str(value) for key, value in tf.sysconfig.get_build_info().items()}
    used = ", ".join(row[0] for row in nvidia_smi("memory.used"))
    return found | {"device": classifier.device, "gpus": gpus, "build": build, "used": used}


def measure_rate(
    classify: Callable, batches: list[np.ndarray], at_a_time: int, plan: tuple[float, int]
) -> tuple[float, float]:
    """Compute batches from so many threads; plan: for how many seconds, on how many GPUs.

    Returns chips/s and the utilization.
    """
    seconds, gpus = plan
    with ThreadPoolExecutor(at_a_time) as pool, utilization(gpus) as share:
        list(pool.map(classify, batches))  # to warm up
        begin, chips = time.time(), 0
        while time.time() < begin + seconds:
            list(pool.map(classify, batches))
            chips += sum(map(len, batches))
        end = time.time()
        return chips / (end - begin), share(begin, end)


# --------------------------------------------------------------------------------- the whole task


def run_task(work: Path, **variables: str) -> tuple[dict[str, dict], str]:
    """Run the task with environment variables; return classified.json and out.log."""
    benchmark.run([str(benchmark.SCRIPT), "--work-dir", str(work)], **variables)
    classified = json.loads((work / "output" / "results" / "classified.json").read_text())
    return classified, (work / "output" / "logs" / "out.log").read_text()


def compare_sample(folder: Path) -> tuple[float, list[float]]:
    """Run the sample on the GPUs, on the processor, and on the GPUs again.

    Returns:
        The largest difference of certainties, infinite if a class differs; the seconds of each
        run: the first one has the driver compile what TensorFlow brings no code for.
    """
    shutil.copytree(SAMPLE / "input", folder / "sample" / "input")
    answers, seconds = [], []
    for variables in ({}, {"CUDA_VISIBLE_DEVICES": "-1"}, {}):
        started = time.perf_counter()
        answers.append(run_task(folder / "sample", **variables)[0])
        seconds.append(time.perf_counter() - started)
    _, expected, _ = answers
    difference = 0.0
    for run in answers:
        for name, answer in expected.items():
            if run[name]["class"] != answer["class"]:
                return float("inf"), seconds
            difference = max(difference, abs(run[name]["certainty"] - answer["certainty"]))
    return difference, seconds


def measure_task(work: Path, gpus: int, **variables: str) -> tuple[float, float]:
    """Run the task; chips/s behind the first quarter of the batches, and the utilization."""
    with utilization(gpus) as share:
        _, log = run_task(work, **variables)
        batches = benchmark.moments(log, r"Chips \d+ to (\d+)")
        (begin, first), (end, last) = batches[len(batches) // 4], batches[-1]
        return (int(last) - int(first)) / (end - begin), share(begin, end)


# ------------------------------------------------------------------------------------ the report


class Report:
    """What is printed and appended to a file, part by part.

    failures: how many parts failed.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.failures = path, 0

    def say(self, text: str) -> None:
        """Add a paragraph."""
        print(text + "\n", flush=True)
        with self._path.open("a") as file:
            file.write(text + "\n\n")

    @contextmanager
    def part(self, title: str, seconds: int) -> Iterator[None]:
        """Run a part for so many seconds at most; a failure is told, and ends only this part."""

        def stop(*_: object) -> None:
            raise TimeoutError(f"it took more than {seconds} s")

        started = time.perf_counter()
        signal.signal(signal.SIGALRM, stop)
        signal.alarm(seconds)
        try:
            yield
        except Exception as error:  # noqa: BLE001, whatever it is, the other parts may tell more
            self.failures += 1
            self.say(f"FAILED: {title}: {type(error).__name__}: {error}")
        finally:
            signal.alarm(0)
            self.say(f"({title}: {time.perf_counter() - started:.0f} s)")


def verdict(gpus: int, difference: float, model: float, task: float) -> str:
    """Say what was found: how many GPUs, the largest difference, chips/s of model and task."""
    words = [
        f"The answers are those of the processor, within {difference:.0e}."
        if difference <= benchmark.TOLERANCE
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


def rates_table(found: dict) -> str:
    """Return the rates of the model as a table of Markdown."""
    lines = ["| batch | at a time | chips/s | utilization | peak MiB |", "|" + " --- |" * 5]
    for batch_size, at_a_time, rate, share, peak in found["rates"]:
        lines.append(f"| {batch_size} | {at_a_time} | {rate:,.1f} | {share:.0%} | {peak:,.0f} |")
    return "\n".join(lines)


class Check:
    """The parts of the check, and what they found.

    folder: for scratch; work: a work directory with ResNet50; differences: from the processor.
    found: what measure_model returned for all devices; task: chips/s of the whole task on them.
    """

    def __init__(self, folder: Path, report: Report) -> None:
        self.folder, self.report = folder, report
        self.plan = PLAN if nvidia_smi("name") else DRY_PLAN
        self.work = folder / "task"
        self.differences: dict[str, float] = {}
        self.found: dict = {"gpus": 0, "rates": []}
        self.task = 0.0

    def compare_sample(self) -> None:
        """Run the sample."""
        self.differences["the sample"], seconds = compare_sample(self.folder)
        times = ", ".join(f"{s:.1f} s" for s in seconds)
        self.report.say(
            f"The sample on the GPUs, the processor, the GPUs again: {times}; certainties differ "
            f"by {self.differences['the sample']:.0e} at most."
        )

    def prepare(self) -> None:
        """Make chips and ResNet50, and compute on the processor what is expected."""
        workload = benchmark.Workload("task", self.plan.chips, 256, SIZE, "ResNet50")
        benchmark.make_work_dir(self.folder, workload)
        ports = {"deploy_batch": str(self.plan.batch_sizes[1])}
        (self.work / "input" / "ports.json").write_text(json.dumps(ports))
        self._measure("processor", 0, CUDA_VISIBLE_DEVICES="-1")

    def measure(self, name: str, **variables: str) -> dict:
        """Measure ResNet50 on ready arrays, on the devices that environment variables leave."""
        found = self._measure(name, self.plan.seconds, **variables)
        expected, outputs = (np.load(self.folder / f"{n}.npy") for n in ("processor", name))
        self.differences[f"ResNet50, {name}"] = float(np.abs(outputs - expected).max())
        self.report.say(
            f"ResNet50 on {name}: {found['device']}, loaded in {found['loading']:.1f} s, outputs "
            f"differ by {self.differences[f'ResNet50, {name}']:.0e} at most.\n\n"
            f"{rates_table(found)}\n\nMiB in use on each GPU: {found['used'] or 'no GPU'}. "
            f"TensorFlow's build: {found['build']}"
        )
        return found

    def _measure(self, name: str, seconds: float, **variables: str) -> dict:
        model, outputs = self.work / "input" / "model" / "model.h5", self.folder / f"{name}.npy"
        arguments = [str(model), json.dumps(self.plan.batch_sizes), str(seconds), str(outputs)]
        run = benchmark.run([__file__, "--model", *arguments], **variables)
        return json.loads(run.output.splitlines()[-1])

    def measure_task(self) -> None:
        """Run the whole task on all devices."""
        self.task, share = measure_task(self.work, self.found["gpus"])
        self.report.say(
            f"The whole task, {self.plan.chips:,} chips, batches of {self.plan.batch_sizes[1]}: "
            f"{self.task:,.1f} chips/s, utilization {share:.0%}."
        )

    def run(self) -> int:
        """Run all parts; returns the exit code."""
        report = self.report
        report.say(describe_machine())
        with report.part("the sample", 150):
            self.compare_sample()
        with report.part("chips, ResNet50, and what is expected", 90):
            self.prepare()
        with report.part("ResNet50 on all devices", 150):
            self.found = self.measure("all")
        with report.part("the whole task", 90):
            self.measure_task()
        if self.found["gpus"] > 1:
            first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
            with report.part("ResNet50 on one GPU", 120):
                self.measure("one", CUDA_VISIBLE_DEVICES=first)
        batch = self.plan.batch_sizes[1]
        rates = [rate for size, _, rate, *_ in self.found["rates"] if size == batch]
        if not self.task or not rates:
            report.say("Not everything was measured: see what failed.")
            return 1
        worst = max(self.differences.values())
        report.say(verdict(self.found["gpus"], worst, max(rates), self.task))
        return int(worst > benchmark.TOLERANCE or report.failures > 0)


def main() -> int:
    """Run everything; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("report", type=Path, nargs="?", default=Path(os.devnull))
    parser.add_argument("--model", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.model:
        path, batch_sizes, seconds, outputs = arguments.model
        found = measure_model(Path(path), json.loads(batch_sizes), float(seconds), Path(outputs))
        print(json.dumps(found))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return Check(Path(folder), Report(arguments.report)).run()


if __name__ == "__main__":
    sys.exit(main())
