"""Measure how many chips a second are decoded, here and by cv2.imdecode, in one run.

    python tests/measure/decoders.py
    python tests/measure/decoders.py --ports     the ports loading and values with their defaults

Chips of 256 x 256 pixels, on one thread and on as many as there are cores. The two take many short
turns one after the other; each figure is the median, of the turns and of their ratios, so that
other work on the machine does not decide. cv2.imdecode reads four bands and 16 bits of tif files
wrongly: its time is what is compared, not its pixels. With --ports the processor time of one
thread is measured, and the difference of the pixels.
"""

import itertools
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

CHIPS, TURNS = 60, 31  # chips a turn
SIDE = 256


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
    """Measure, and print a line for each kind and number of threads."""
    print(f"{'chips a second':34} threads     here   OpenCV   ratio")
    for (kind, data), threads in itertools.product(kinds().items(), (1, usable_cores())):
        turns = np.array(
            [
                [rate(reader, data, threads) for reader in (Decoder().decode, read_with_opencv)]
                for _ in range(TURNS)
            ]
        )
        here, opencv = np.median(turns, axis=0)
        ratio = np.median(turns[:, 0] / turns[:, 1])
        print(f"{kind:34} {threads:7} {here:8,.0f} {opencv:8,.0f} {ratio:7.2f}")


def compare_ports() -> None:
    """Measure each value of the ports loading and values against its default; print a line each."""
    rgb, four = scene(3, np.uint8), scene(4, np.uint16)
    jpeg, png = chip_files.pillow(rgb, "jpeg", quality=90), chip_files.png(rgb)
    alpha = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
    by_loading = {name: Decoder(loading=name) for name in LOADINGS}
    by_values = {name: Decoder((1, 2, 3, 4), values=name) for name in VALUES}
    cases = [("jpeg", jpeg, by_loading), ("png", png, by_loading)]
    for compression in (None, "lzw"):
        tif = chip_files.tif(four, compression=compression, **alpha)
        cases.append((f"tif, four bands of 16 bits, {compression}", tif, by_values))
    print("file, rows and columns wanted, port: rate over that of the default; differences")
    for (kind, data, decoders), size in itertools.product(cases, (SIDE, 224)):
        chips = [new_chip(decoder, data, size) for decoder in decoders.values()]
        turns = np.array(
            [
                [seconds(*pair, data) for pair in zip(decoders.values(), chips, strict=True)]
                for _ in range(TURNS)
            ]
        )
        ratios = np.median(turns[:, :1] / turns, axis=0)
        for name, chip, ratio in zip(decoders, chips, ratios, strict=True):
            apart = np.abs(chip - chips[0].astype(np.float64))
            line = f"{kind}, {size}, {name}: {ratio:.2f}"
            if decoders is by_loading:
                line += f"; {apart.mean():.2f} on average, {apart.max():.1f} at most"
            print(line)


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
