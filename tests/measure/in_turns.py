"""Compare whole runs of this code with those of earlier commits, in turns.

    python tests/measure/in_turns.py --rounds 4 67f5aca 684aa07

In each round every version runs everything once, one after the other; 67f5aca is version 1.0.0. The
commits are unpacked from the repository, and run with the packages of this environment:

    the sample, one ResNet50 chip    to the first answer: the first line of out.log with chips
    b, c                             the workloads of benchmark.py
    GeoTIFF, plain tif               20,000 chips of 96 x 96 through the model of b, with the
                                     tags that tell where they lie, and without

It prints a table of Markdown: the median of the wall time, and of the processor time behind it; how
much longer the runs with places took; and what the second look took of c.
"""

import argparse
import io
import shutil
import statistics
import subprocess
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import benchmark
import numpy as np

REPOSITORY = benchmark.SCRIPT.parent
SIZE = 96  # rows and columns of the tif chips, and what the model of b takes
HERE = "this code"
TO_FIRST_ANSWER = ", to the first answer"


@dataclass(frozen=True)
class Job:
    """What runs: its name, its work directory, and whether its first answer ends the time."""

    name: str
    work: Path
    is_start: bool = False


# ------------------------------------------------------------------------------------- materials


def write_tifs(path: Path, count: int, is_placed: bool) -> None:
    """Write a tar of tif chips, each at a place of its own if they are placed."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.transform import from_origin

    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    rng = np.random.default_rng(6)
    place = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 0.5, 0.5)}
    files = []
    for _ in range(64):
        with rasterio.MemoryFile() as file:
            profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "photometric": "RGB"}
            with file.open(
                width=SIZE, height=SIZE, **profile, **(place if is_placed else {})
            ) as image:
                image.write(rng.integers(0, 256, (3, SIZE, SIZE), np.uint8))
            files.append(file.read())
    origin = np.array([500_000.0, 5_000_000.0]).tobytes()
    with tarfile.open(path, "w") as tar:
        for number in range(count):
            here = np.array([500_000.0 + number % 1000 * 48, 5_000_000.0 - number // 1000 * 48])
            data = files[number % 64].replace(origin, here.tobytes())
            member = tarfile.TarInfo(f"chips/tile_{number:07}.tif")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def make_jobs(folder: Path, is_quick: bool) -> Iterator[Job]:
    """Make the work directories in a folder."""
    sample = folder / "sample"
    shutil.copytree(REPOSITORY / "tests" / "sample" / "input", sample / "input")
    yield Job("the sample" + TO_FIRST_ANSWER, sample, is_start=True)
    one = benchmark.make_work_dir(folder, benchmark.Workload("one", 1, 256, 224, "ResNet50"))
    yield Job("one ResNet50 chip" + TO_FIRST_ANSWER, one, is_start=True)
    for workload in (w for w in benchmark.WORKLOADS if w.name in "bc"):
        workload = replace(workload, chips=workload.chips // (100 if is_quick else 1))
        work = benchmark.make_work_dir(folder, workload)
        yield Job(f"{workload.name}: {workload.chips:,} chips", work)
        if workload.name == "b":
            model = work / "input" / "model" / "model.h5"
    count = 200 if is_quick else 20_000
    for name, is_placed in (("GeoTIFF", True), ("plain tif", False)):
        work = folder / name.replace(" ", "_")
        for part in ("chips", "model"):
            (work / "input" / part).mkdir(parents=True)
        (work / "input" / "model" / "model.h5").hardlink_to(model)
        write_tifs(work / "input" / "chips" / "chips.tar", count, is_placed)
        yield Job(f"{count:,} {name} chips", work)


def unpack(commit: str, folder: Path) -> Path:
    """Unpack a commit of the repository into a folder; return its script."""
    command = ["git", "-C", str(REPOSITORY), "archive", commit]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(folder / commit, filter="data")
    return folder / commit / benchmark.SCRIPT.name


# --------------------------------------------------------------------------------------- measure


def measure(script: Path, job: Job) -> tuple[float, float]:
    """Run a job; return its seconds, of the whole or to the first answer, and of the processor."""
    shutil.rmtree(job.work / "output", ignore_errors=True)
    run = benchmark.run([str(script), "--work-dir", str(job.work)])
    if not job.is_start:
        return run.ended - run.started, run.processor
    log = (job.work / "output" / "logs" / "out.log").read_text()
    answered, _ = benchmark.moments(log, r"Chips \d+ to (\d+)")[0]
    return answered - run.started, run.processor


def run_in_turns(
    scripts: dict[str, Path], jobs: list[Job], rounds: int
) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Return what each job took in each version: seconds, and those of the processor."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for script in scripts.values():
        measure(script, jobs[0])  # so that its code is compiled
    for number in range(rounds):
        # Every other round the other way round: none of them always comes behind the same one.
        names = list(scripts)[:: -1 if number % 2 else 1]
        for job in jobs:
            for name in names:
                found.setdefault((job.name, name), []).append(measure(scripts[name], job))
    return found


def medians(values: list[tuple[float, float]]) -> np.ndarray:
    """Return the medians of seconds and processor seconds."""
    return np.median(values, axis=0)


# Runs the task, with a clock around what its second look does when all chips are classified.
CLOCKED = """
import os, runpy, sys, time
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
from chip_classifier.environment import prepare_environment
prepare_environment()
from chip_classifier.second_look.look import SecondLook
tell = SecondLook.tell
def clocked(*arguments):
    began = time.perf_counter(), time.process_time()
    found = tell(*arguments)
    print("CLOCK", time.perf_counter() - began[0], time.process_time() - began[1], flush=True)
    return found
SecondLook.tell = clocked
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def measure_second_look(work: Path) -> str:
    """Return what the second look took of a run, in words."""
    run = benchmark.run(["-c", CLOCKED, str(benchmark.SCRIPT), "--work-dir", str(work)])
    clock = next(line for line in run.output.splitlines() if line.startswith("CLOCK"))
    wall, processor = map(float, clock.split()[1:])
    return (
        f"{wall:.2f} s ({processor:.2f}) of {run.ended - run.started:.2f} s ({run.processor:.2f})"
    )


def print_table(
    found: dict[tuple[str, str], list[tuple[float, float]]], jobs: list[Job], versions: list[str]
) -> None:
    """Print a row for each job, and for this code the median of the pairs' ratios."""
    before = [version for version in versions if version != HERE]
    heads = [*versions, *(f"{HERE} over {version}" for version in before)]
    print(f"| wall (processor) time, s | {' | '.join(heads)} |\n|{' --- |' * (len(heads) + 1)}")
    for job in jobs:
        cells = []
        for version in versions:
            wall, processor = medians(found[job.name, version])
            cells.append(f"{wall:.2f} ({processor:.2f})")
        for version in before:
            pairs = zip(found[job.name, HERE], found[job.name, version], strict=True)
            cells.append(f"{statistics.median(here[0] / there[0] for here, there in pairs):.3f}")
        print(f"| {job.name} | {' | '.join(cells)} |")
    placed, plain = (found[job.name, HERE] for job in jobs[-2:])
    ratios = [a[0] / b[0] for a, b in zip(placed, plain, strict=True)]
    print(f"\nWith places over without, {HERE}, wall time: {statistics.median(ratios):.3f}")


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commits", nargs="*")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="few chips, one round")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        scripts = {commit: unpack(commit, folder / "code") for commit in arguments.commits}
        scripts[HERE] = benchmark.SCRIPT
        jobs = list(make_jobs(folder, arguments.quick))
        found = run_in_turns(scripts, jobs, 1 if arguments.quick else arguments.rounds)
        look = measure_second_look(jobs[3].work)
    print_table(found, jobs, list(scripts))
    print(f"\nThe second look in {jobs[3].name}: {look}")


if __name__ == "__main__":
    main()
