"""Measure how many chips a second are decoded, here and by cv2.imdecode, in one run.

    python tests/measure/decoders.py
    python tests/measure/decoders.py --ports     the ports loading and values with their defaults
    python tests/measure/decoders.py --quick     few turns, which try no more than that it runs

Chips of 256 x 256 pixels, on one thread and on as many as there are cores. The two take many short
turns one after the other; each figure is the median, of the turns and of their ratios, so that
other work on the machine does not decide. cv2.imdecode reads four bands and 16 bits of tif files
wrongly: its time is what is compared, not its pixels. With --ports the processor time of one
thread is measured, and the difference of the pixels. Tables of Markdown are printed.
"""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from chip_classifier.environment import prepare_environment

prepare_environment()

import cv2
import numpy as np

import chip_files
from chip_classifier.cores import usable_cores
from chip_classifier.decode import Decoder
from chip_classifier.ports import LOADINGS, VALUES
from chip_classifier.second_look.chips import MOST_CHIPS

CHIPS, TURNS = 60, 3 if "--quick" in sys.argv else 31  # chips a turn
SIDE, SMALL = 256, 224


def scene(bands: int, kind: type) -> np.ndarray:
    """Make a smooth picture with some noise, (SIDE, SIDE, bands), over the range of its type."""
    coarse = chip_files.scene(bands, 16, 16, bands, kind=kind).astype(np.float32)
    image = cv2.resize(coarse, (SIDE, SIDE)) + chip_files.scene(9, SIDE, SIDE, bands)
    return np.clip(image, 0, np.iinfo(kind).max).astype(kind).reshape(SIDE, SIDE, bands)


def kinds() -> dict[str, bytes]:
    """Make one chip of each kind."""
    rgb, four = scene(3, np.uint8), scene(4, np.uint8)
    rgb16, four16 = scene(3, np.uint16), scene(4, np.uint16)
    alpha = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
    return {
        "jpeg": chip_files.pillow(rgb, "jpeg", quality=90),
        "png": chip_files.png(rgb),
        "tif, R,G,B of 8 bits": chip_files.tif(rgb, photometric="rgb"),
        "tif, R,G,B of 8 bits, LZW": chip_files.pillow(rgb, "tiff", compression="tiff_lzw"),
        "tif, four bands of 8 bits": chip_files.tif(four, **alpha),
        "tif, four bands of 8 bits, LZW": chip_files.tif(four, compression="lzw", **alpha),
        "tif, three bands of 16 bits": chip_files.tif(
            rgb16, photometric="minisblack", planarconfig="contig", extrasamples=[0, 0]
        ),
        "tif, four bands of 16 bits": chip_files.tif(four16, **alpha),
        "tif, four bands of 16 bits, LZW": chip_files.tif(four16, compression="lzw", **alpha),
    }


def rate(function: Callable[[bytes], object], data: bytes, threads: int) -> float:
    """Return how many files a second a function decodes on so many threads."""
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        for _ in pool.map(lambda _: [function(data) for _ in range(10)], range(CHIPS // 10)):
            pass
        return CHIPS / (time.perf_counter() - started)


def read_with_opencv(data: bytes) -> np.ndarray | None:
    """Decode as cv2.imread does."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def main() -> None:
    """Measure, and print a row for each kind."""
    cores = usable_cores()
    print(f"| chips/s, and over OpenCV's | one thread | {cores} threads |\n| --- | --- | --- |")
    for kind, data in kinds().items():
        cells, decoder = [], Decoder()
        for _ in range(MOST_CHIPS):  # of the first ones it is noted what their files are like
            decoder.decode(data)
        for threads in (1, cores):
            turns = np.array(
                [
                    [rate(reader, data, threads) for reader in (decoder.decode, read_with_opencv)]
                    for _ in range(TURNS)
                ]
            )
            ratio = np.median(turns[:, 0] / turns[:, 1])
            cells.append(f"{np.median(turns[:, 0]):,.0f} ({ratio:.2f})")
        print(f"| {kind} | {' | '.join(cells)} |", flush=True)


def compare_ports() -> None:
    """Measure each value of the ports loading and values against its default; print a row each."""
    rgb, four = scene(3, np.uint8), scene(4, np.uint16)
    jpeg, png = chip_files.pillow(rgb, "jpeg", quality=90), chip_files.png(rgb)
    alpha = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
    by_loading = {name: Decoder(loading=name) for name in LOADINGS}
    by_values = {name: Decoder((1, 2, 3, 4), values=name) for name in VALUES}
    cases = [("jpeg", jpeg, by_loading), ("png", png, by_loading)]
    for compression in (None, "lzw"):
        tif = chip_files.tif(four, compression=compression, **alpha)
        cases.append((f"tif, four bands of 16 bits, {compression}", tif, by_values))
    print(f"| rate over the default's | not resized | to {SMALL} x {SMALL} |\n| --- | --- | --- |")
    for kind, data, decoders in cases:
        rates = {name: [] for name in decoders}
        for size in (SIDE, SMALL):
            chips = [new_chip(decoder, data, size) for decoder in decoders.values()]
            turns = np.array(
                [
                    [seconds(*pair, data) for pair in zip(decoders.values(), chips, strict=True)]
                    for _ in range(TURNS)
                ]
            )
            ratios = np.median(turns[:, :1] / turns, axis=0)
            for name, chip, ratio in zip(decoders, chips, ratios, strict=True):
                apart = np.abs(chip - chips[0].astype(np.float64)).mean()
                differs = f"; pixels differ by {apart:.2f}" if decoders is by_loading else ""
                rates[name].append(f"{ratio:.2f}{differs}")
        for name, cells in list(rates.items())[1:]:
            print(f"| {kind}, {name} | {' | '.join(cells)} |", flush=True)


def new_chip(decoder: Decoder, data: bytes, size: int) -> np.ndarray:
    """Decode a chip; give it in the type that holds it."""
    return decoder.decode_into(np.empty((size, size, decoder.channels), np.uint8), data).pixels


def seconds(decoder: Decoder, out: np.ndarray, data: bytes) -> float:
    """Return the processor time of this thread for ten chips."""
    started = time.thread_time()
    for _ in range(10):
        decoder.decode_into(out, data)
    return time.thread_time() - started


if __name__ == "__main__":
    compare_ports() if "--ports" in sys.argv else main()
