"""Measure all figures of docs/performance.md one after the other, on a machine with nothing else.

    python tests/measure/all_figures.py figures.md --runtimes /tmp/runtimes/bin/python
    python tests/measure/all_figures.py figures.md --only decoders in_turns
    python tests/measure/all_figures.py figures.md --quick     few chips: do all parts run?

Each part is a program of its own; what it prints, tables of Markdown, is added to the file when it
ends, with the seconds that it took. At the top are the date, the commit and the machine. A part
that fails is named and costs no other. The exit code is 1 if one failed.

--runtimes is a Python with the packages that runtimes.py needs; without it that part is left out.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
VERSION_1, BEFORE = "67f5aca", "684aa07"
LIMIT_SECONDS = 1500  # of one part; it has to end some day

# Title, program with arguments, the same for a quick try.
PARTS = (
    ("Against the peer and the ceilings", "benchmark.py", "benchmark.py --quick"),
    (
        f"Against version 1.0.0 ({VERSION_1}) and {BEFORE}",
        f"in_turns.py {VERSION_1} {BEFORE}",
        f"in_turns.py {VERSION_1} {BEFORE} --quick",
    ),
    ("Decoders", "decoders.py", "decoders.py --quick"),
    ("Decoders: loading and values", "decoders.py --ports", "decoders.py --ports --quick"),
    ("Many chips", "load_run.py --count 1000000", "load_run.py --count 4000"),
    ("The end of a run", "review_run.py --chips 1000000", "review_run.py --chips 2000"),
    ("Other runtimes", "runtimes.py", "runtimes.py --quick"),
)


def describe_machine() -> str:
    """Return date, commit, processor, memory and versions, as lines of Markdown."""
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=7"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ("tensorflow", "keras", "numpy", "opencv-python-headless", "imagecodecs", "rasterio")
    return (
        f"{datetime.now():%Y-%m-%d %H:%M}, commit {commit}. "
        f"{processor[1] if processor else platform.machine()}, {os.cpu_count()} cores, "
        f"{memory:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in packages)
        + f". Load before the first part: {os.getloadavg()[0]:.2f}."
    )


def run_part(title: str, command: list[str]) -> tuple[str, bool]:
    """Run a program; return its section of the file, and whether it failed."""
    started = time.monotonic()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
        printed, said, failed = done.stdout, done.stderr, done.returncode != 0
    except subprocess.TimeoutExpired as expired:
        printed, said, failed = (expired.stdout or b"").decode(), "It took too long.", True
    name = " ".join([Path(command[1]).name, *command[2:]])
    section = f"\n## {title}\n\n`{name}`, {time.monotonic() - started:.0f} s\n\n{printed}"
    if failed:
        section += f"\nFAILED:\n\n```\n{said[-2000:]}\n```\n"
    return section, failed


def main() -> int:
    """Run the parts; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", help="programs, such as decoders")
    parser.add_argument("--runtimes", help="a Python that has the packages of runtimes.py")
    arguments = parser.parse_args()
    failures = 0
    with arguments.file.open("w", buffering=1) as file:
        print("# Figures\n\n" + describe_machine(), file=file)
        for title, usual, quick in PARTS:
            program, *options = (quick if arguments.quick else usual).split()
            name = program.removesuffix(".py")
            python = arguments.runtimes if name == "runtimes" else sys.executable
            if not python or (arguments.only and name not in arguments.only):
                continue
            print(f"{datetime.now():%H:%M:%S} {title}", flush=True)
            section, failed = run_part(title, [python, str(HERE / program), *options])
            failures += failed
            print(section, file=file)
    print(f"{datetime.now():%H:%M:%S} {failures} parts failed")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
