"""Classify 200,000 chips in one run: memory must stay flat, and no name may be lost.

    python tests/measure/load_run.py --count 200000

All chips lie in one directory of the archive, and their names hold, taken together, every character
that JSON and file systems allow: all of Unicode but NUL and the slash. The task runs twice, on a
fifth of the chips and on all of them. A table of Markdown has the wall time of each run, what of it
was classifying and what came behind (results and page), and the peak of the memory. The exit code
is 1 if a promise is broken.
"""

import argparse
import io
import json
import math
import re
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import chip_files
from measure import fuzz

# What the task may keep of each chip: its name, its class, its certainty, and at the end the names
# that it writes. Far less than even the smallest chip's pixels, which for 224 x 224 are 150,528.
MAX_BYTES_PER_CHIP = 512
# Allocators keep more and more of what was freed before they level off, whatever the task does.
MAX_GROWTH_BYTES = 64 * 2**20

COLOURS = ((0, 0, 255), (0, 255, 0), (255, 0, 0))  # the model gives them the classes 0, 1 and 2


def every_character() -> str:
    """Return all characters that JSON and file systems allow, each once."""
    surrogates = range(0xD800, 0xE000)  # no characters, and no UTF-8
    return "".join(
        chr(code) for code in range(1, sys.maxunicode + 1) if code not in surrogates and code != 47
    )


def chip_names(count: int) -> Iterator[str]:
    """Yield so many different names; those of 200,000 chips hold every character."""
    characters = every_character()
    width = -(-len(characters) // max(count, 200_000))
    for number in range(count):
        yield f"{number}-{characters[width * number : width * (number + 1)]}-"


def write_archive(path: Path, count: int) -> None:
    """Write an archive of so many tiny png and jpeg chips."""
    chips = []
    for red, green, blue in COLOURS:
        chips.append((".png", chip_files.uniform_png(red, green, blue)))
    white = chip_files.scene(1, 4, 4, 3) // 255  # 0 or 1, so that it stays almost black
    chips.append((".jpg", chip_files.pillow(white, "jpeg")))
    with tarfile.open(path, "w") as tar:
        for number, name in enumerate(chip_names(count)):
            suffix, data = chips[number % len(chips)]
            member = tarfile.TarInfo(f"chips/{name}{suffix}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def load_run(folder: Path, count: int) -> tuple[list[str], float]:
    """Classify so many chips; return the promises that were broken, and the peak memory in MiB.

    Args:
        folder: a directory that does not exist yet.
        count: how many chips.
    """
    folder.mkdir()
    model = chip_files.save_bands_model(folder / "model.h5")
    ports = {"normalization_vector": "0,0,0"}
    work_dir = chip_files.make_work_dir(folder / "work", None, model, ports)
    write_archive(work_dir / "input" / "chips" / "chips.tar", count)
    code, memory, seconds = fuzz.run(work_dir)
    classifying, behind = times(work_dir / "output" / "logs" / "out.log", time.time())
    path = work_dir / "output" / "results" / "classified.json"
    classified = json.loads(path.read_text()) if path.exists() else {}
    names = list(chip_names(count))
    wrong = sum(
        number % 4 < 3 and classified.get(name, {}).get("class") != str(number % 4)
        for number, name in enumerate(names)
    )
    lost = len(set(names) - classified.keys())
    used = set().union(*names)
    cells = (f"{count:,}", *(f"{s:.1f}" for s in (seconds, classifying, behind)), f"{memory:,.0f}")
    print(f"| {' | '.join(cells)} | {len(used):,} | {lost:,} |", flush=True)
    broken = []
    if code != 0:
        broken.append(f"the exit code is {code}: {(work_dir / 'status.json').read_text()}")
    if list(classified) != names:
        broken.append("chips are lost, renamed or out of order")
    if wrong:
        broken.append(f"{wrong:,} chips are in a wrong class")
    if count >= 200_000 and not set(every_character()) <= used:
        broken.append("characters are missing from the names")
    return broken, memory


def times(log: Path, ended: float) -> tuple[float, float]:
    """Return the seconds of classifying, and from there to the end, of a run with an out.log.

    ended: when it did, in seconds since the epoch.
    """
    lines = log.read_text() if log.exists() else ""
    found = re.search(r"^(\S+ \S+) INFO Total classification time: (\S+) s", lines, re.MULTILINE)
    if not found:
        return math.nan, math.nan
    classified = datetime.fromisoformat(found[1].replace(",", ".")).timestamp()
    return float(found[2]), ended - classified


def main() -> int:
    """Parse the command line and run; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=200_000)
    count = parser.parse_args().count
    heads = "Chips|Wall time, s|Classifying, s|Results and page, s|Peak memory, MiB|Characters|Lost"
    print(f"| {heads.replace('|', ' | ')} |\n|{' --- |' * 7}")
    with tempfile.TemporaryDirectory() as folder:
        broken, few = load_run(Path(folder) / "few", count // 5)
        more_broken, many = load_run(Path(folder) / "many", count)
    broken += more_broken
    growth, further = (many - few) * 2**20, count - count // 5
    print(f"\n{growth / further:,.0f} bytes of memory for each further chip")
    if growth > MAX_GROWTH_BYTES + MAX_BYTES_PER_CHIP * further:
        broken.append("memory grew")
    for promise in broken:
        print("BROKEN:", promise)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
