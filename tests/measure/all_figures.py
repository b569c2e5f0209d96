"""Measure all figures of docs/performance.md one after the other, and write them into it.

    python tests/measure/all_figures.py --runtimes /tmp/runtimes/bin/python
    python tests/measure/all_figures.py --only decoders in_turns
    python tests/measure/all_figures.py --quick --into /tmp/performance.md     do all parts run?

For a machine with nothing else running. Each part is a program of its own. What it prints, tables
of Markdown, takes the place of what lies between the two comments with its name in the document, as
soon as it ends, below the date and the commit. The first place has the machine. A part that fails
is named, leaves its place as it was, and costs no other. The exit code is 1 if one failed.

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

# Name of its place, program with arguments, the same for a quick try.
PARTS = (
    ("benchmark", "benchmark.py", "benchmark.py --quick"),
    (
        "in_turns",
        f"in_turns.py --rounds 4 {VERSION_1} {BEFORE}",
        f"in_turns.py --quick {VERSION_1} {BEFORE}",
    ),
    ("decoders", "decoders.py", "decoders.py --quick"),
    ("decoders --ports", "decoders.py --ports", "decoders.py --ports --quick"),
    ("load_run", "load_run.py --count 1000000", "load_run.py --count 4000"),
    ("review_run", "review_run.py --chips 1000000", "review_run.py --chips 2000"),
    ("runtimes", "runtimes.py", "runtimes.py --quick"),
)


def describe_commit() -> str:
    """Return the commit, and whether there are changes beside those of the documents."""
    git = ["git", "-C", str(HERE.parents[1])]
    commit, changes = (
        subprocess.run([*git, *words], capture_output=True, text=True, check=True).stdout.strip()
        for words in (("rev-parse", "--short", "HEAD"), ("status", "--short", "--", ":!docs"))
    )
    return f"commit {commit}{' with changes' if changes else ''}"


def describe_machine() -> str:
    """Return processor, memory, versions and load, as a line of Markdown."""
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ("tensorflow", "keras", "numpy", "opencv-python-headless", "imagecodecs", "rasterio")
    return (
        f"{processor[1] if processor else platform.machine()}, {os.cpu_count()} cores, "
        f"{memory:.0f} GiB, no GPU used; {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in packages)
        + f"; load when it began: {os.getloadavg()[0]:.2f}."
    )


def fill(document: Path, name: str, text: str) -> None:
    """Put text between the comments with a name.

    Raises ValueError if the document has no such place.
    """
    whole = document.read_text()
    begin, end = (f"<!-- {word} {name} -->" for word in ("begin", "end"))
    before, behind = whole.index(begin) + len(begin), whole.index(end)
    document.write_text(f"{whole[:before]}\n{text.strip()}\n{whole[behind:]}")


def run_part(command: list[str]) -> str:
    """Run a program; return what it printed, below its name, when it ran and for how long.

    Raises subprocess.SubprocessError if it fails or takes too long.
    """
    now, started = f"{datetime.now():%Y-%m-%d %H:%M}", time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=True
    )
    name = " ".join(["tests/measure/" + Path(command[1]).name, *command[2:]])
    took = f"{time.monotonic() - started:.0f} s"
    return f"`{name}`, {now}, {describe_commit()}, in {took}:\n\n{done.stdout}"


def main() -> int:
    """Run the parts; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--into", type=Path, default=HERE.parents[1] / "docs" / "performance.md")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", help="names of parts, such as decoders")
    parser.add_argument("--runtimes", help="a Python that has the packages of runtimes.py")
    arguments = parser.parse_args()
    failures = 0
    fill(arguments.into, "machine", describe_machine())
    for name, usual, quick in PARTS:
        program, *options = (quick if arguments.quick else usual).split()
        python = arguments.runtimes if name == "runtimes" else sys.executable
        if not python or (arguments.only and name not in arguments.only):
            continue
        print(f"{datetime.now():%H:%M:%S} {name}", flush=True)
        try:
            fill(arguments.into, name, run_part([python, str(HERE / program), *options]))
        except (subprocess.SubprocessError, ValueError) as error:
            failures += 1
            said = getattr(error, "stdout", None) or "", getattr(error, "stderr", None) or ""
            print(f"FAILED: {error}", *(str(text)[-1500:] for text in said), sep="\n", flush=True)
    print(f"{datetime.now():%H:%M:%S} {failures} parts failed")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
