"""Classify thousands of damaged chips: the task must neither crash nor hang, grow nor lose one.

    python tests/measure/fuzz.py --count 20000 --seed 1

One valid file of each format and kind, and one of every 29 tif layouts, is cut off, has bits
flipped, gets the header of another format, blocks overwritten or swapped, or huge sizes declared.
All of them go into one archive, with a sound chip behind every hundredth. Prints what became of
them; the exit code is 1 if a promise is broken. The same seed gives the same archive, byte for
byte: its digest is printed.
"""

import argparse
import hashlib
import io
import json
import logging
import os
import random
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import chip_files
import tif_layouts

# What decoding may take on top of a quiet run: the task's limit for all chips that are decoded at a
# time, and GDAL.
MAX_GROWTH_MIB = 1024 + 200
SECONDS_PER_CHIP = 0.2
LAYOUT_STEP = 29  # a prime, so that no kind of the layouts is always passed over


def declare_huge_size(rng: random.Random, data: bytearray) -> None:
    """Write a huge width or height where the format of the file keeps it."""
    number = rng.choice((0x7FFF, 0xFFF0, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 30000, 9000))
    if len(data) < 40:
        return
    if data.startswith(b"\x89PNG"):
        struct.pack_into(">I", data, rng.choice((16, 20)), number)
        if rng.random() < 0.7:  # a checksum that is right again lets the decoder go on
            struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    elif data.startswith(b"\xff\xd8"):
        frames = [data.find(bytes((0xFF, kind))) for kind in (0xC0, 0xC2)]
        at = max(frames)
        if 0 <= at < len(data) - 9:
            struct.pack_into(">H", data, at + rng.choice((5, 7)), number & 0xFFFF)
    else:
        order = "<" if data[:2] == b"II" else ">"
        start = struct.unpack_from(order + "I", data, 4)[0]
        if start + 2 < len(data):
            entries = struct.unpack_from(order + "H", data, start)[0]
            at = start + 2 + 12 * rng.randrange(max(1, min(entries, 20))) + 8
            if at + 4 <= len(data):
                struct.pack_into(order + "I", data, at, number)


def mutate(rng: random.Random, seeds: list[bytes]) -> bytes:
    """Damage one of the seeds in one to three ways."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 3))):
        kind = rng.randrange(7)
        size = max(len(data), 1)
        if kind == 0:
            del data[rng.randrange(size) :]
        elif kind == 1:
            for _ in range(rng.choice((1, 3, 30))):
                if data:
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif kind == 2:
            other = rng.choice(seeds)
            cut = rng.choice((4, 8, 16, 64))
            data[:cut] = other[:cut]
        elif kind == 3:
            declare_huge_size(rng, data)
        elif kind == 4:
            at, length = rng.randrange(size), rng.randrange(1, 64)
            data[at : at + length] = bytes((rng.choice((0, 255)),)) * length
        elif kind == 5:
            at, length = rng.randrange(size), rng.randrange(1, 200)
            block = data[at : at + length]
            del data[at : at + length]
            data[rng.randrange(size) :] += block
        else:
            data += rng.randbytes(rng.randrange(1, 2000))
    return bytes(data)


def write_archive(path: Path, count: int, seed: int) -> tuple[list[str], str]:
    """Write the archive; return the names of its chips and the digest of the file."""
    rng = random.Random(seed)
    files = chip_files.readable_chips()
    seeds = [data for data, _ in files.values()]
    logging.disable()  # what libraries say of layouts that they do not write
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # LERC's padding is not the same each time.
        seeds += [
            data
            for name, data in tif_layouts.all_layouts(LAYOUT_STEP)
            if "LERC" not in name.upper()
        ]
    logging.disable(logging.NOTSET)
    suffixes = (".jpg", ".png", ".tif", ".jp2")
    names = []
    with tarfile.open(path, "w") as tar:

        def add(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(f"chips/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
            names.append(name.rpartition(".")[0])

        for number in range(count):
            add(f"bad{number:06}{rng.choice(suffixes)}", mutate(rng, seeds))
            if number % 100 == 0:
                add(f"sound{number:06}.png", files["rgb.png"][0])
    return names, hashlib.sha256(path.read_bytes()).hexdigest()


def run(work: Path) -> tuple[int, float, float]:
    """Run the task; return its exit code, its peak memory in MiB and its seconds."""
    started = time.monotonic()
    process = subprocess.Popen(chip_files.command(work), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss / 1024, time.monotonic() - started


def fuzz(folder: Path, count: int, seed: int) -> list[str]:
    """Run the task on damaged chips, print what it did; return the promises that it broke."""
    model = folder / "model.h5"
    chip_files.save_checksum_model(model, 24, 20)
    quiet = chip_files.make_work_dir(
        folder / "quiet",
        chip_files.make_tar([("a.png", chip_files.readable_chips()["rgb.png"][0])]),
        model,
    )
    work = chip_files.make_work_dir(folder / "work", None, model)
    names, digest = write_archive(work / "input" / "chips" / "chips.tar", count, seed)
    _, quiet_memory, _ = run(quiet)
    code, memory, seconds = run(work)
    results = work / "output" / "results"
    answers = {}
    for name in ("classified", "unclassified"):
        path = results / f"{name}.json"
        answers[name] = json.loads(path.read_text()) if path.exists() else {}
    seen = [*answers["classified"], *answers["unclassified"]]
    print(f"seed {seed}: archive of {len(names):,} chips, sha256 {digest}")
    print(
        f"classified {len(answers['classified']):,}, "
        f"unclassified {len(answers['unclassified']):,}, "
        f"lost {len(set(names) - set(seen)):,}, {seconds:.0f} s, "
        f"peak memory {memory:.0f} MiB (one sound chip: {quiet_memory:.0f} MiB)"
    )
    broken = []
    if code != 0:
        broken.append(f"the exit code is {code}: {(work / 'status.json').read_text()}")
    if sorted(seen) != sorted(names):
        broken.append("chips are lost or doubled")
    if not {name for name in names if name.startswith("sound")} <= answers["classified"].keys():
        broken.append("sound chips are not classified")
    if memory > quiet_memory + MAX_GROWTH_MIB:
        broken.append("memory grew")
    if seconds > 60 + SECONDS_PER_CHIP * len(names):
        broken.append("it took far too long")
    return broken


def main() -> int:
    """Parse the command line and fuzz; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2000, help="damaged chips")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        broken = fuzz(Path(folder), arguments.count, arguments.seed)
    for promise in broken:
        print("BROKEN:", promise)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
