"""What a million chips cost at the end of a run: classified.geojson, the truth and the page.

    python tests/measure/review_run.py --chips 1000000

The answers are made up, nothing is classified; the files are written by the task's own functions.
Each case runs in a process of its own: the footprints of tif chips, the features of a ref.geojson,
and neither, as before there were maps. A table of Markdown has, for each step, the time of the
processor (one core), for each file its size, and the peak of the memory above what was there
before: the answers.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from chip_classifier.environment import prepare_environment

prepare_environment()

from chip_classifier.answers import AnsweredBatch, encode_json
from chip_classifier.journal import Expected
from chip_classifier.log import Warnings
from chip_classifier.output import Output
from chip_classifier.record import Record
from chip_classifier.review import review
from chip_classifier.review.geojson import write_collection
from chip_classifier.review.geotiff import Places
from chip_classifier.review.page import RunFacts
from chip_classifier.review.reference import check_reference
from chip_classifier.review.review import Where

BATCH = 1000
CLASSES = [f"class {number}" for number in range(12)]
COLUMNS = 1000  # chips in a row on the ground
PIXEL, SIZE = 0.5, 96  # metres, pixels
# Functions of the review whose time is measured -> what they write.
PARTS = {
    "review_answers": "truth and classified.geojson",
    "write_csv": "classified.csv",
    "write_page": "preview.html",
}


def make_record(chips: int, folder: Path) -> Record:
    """Make up the record of a run, with all answers."""
    rng = np.random.default_rng(0)
    output = Output(folder, folder, folder)
    output.new_results.mkdir()
    record = Record(output, {}, Expected(len(CLASSES), BATCH, chips), CLASSES, Warnings())
    pixels = rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8)
    for first in range(0, chips, BATCH):
        count = min(BATCH, chips - first)
        classes, certainties = rng.integers(0, len(CLASSES), count), rng.random(count)
        numbers = range(first, first + count)
        record.answers.names.extend(f"chips/tile_{number:07}.tif" for number in numbers)
        answered = (first, classes.tolist(), certainties.tolist())
        record.add(AnsweredBatch(*answered, pictures=pixels[:count]))
    return record


def make_places(chips: int) -> tuple[Places, float]:
    """Make up the places of chips, from the bytes of files; also give the seconds for each."""
    import rasterio
    from rasterio.transform import from_origin

    places, seconds = Places(), 0.0
    with rasterio.MemoryFile() as file:
        profile = {"driver": "GTiff", "width": SIZE, "height": SIZE, "count": 3, "dtype": "uint8"}
        place = from_origin(500_000, 5_000_000, PIXEL, PIXEL)
        with file.open(**profile, crs="EPSG:32633", transform=place) as image:
            image.write(np.zeros((3, SIZE, SIZE), np.uint8))
        data = file.read()
    origin = np.array([500_000.0, 5_000_000.0]).tobytes()
    assert data.count(origin) == 1
    for number in range(chips):
        x = 500_000 + number % COLUMNS * PIXEL * SIZE
        y = 5_000_000 - number // COLUMNS * PIXEL * SIZE
        here = data.replace(origin, np.array([x, y]).tobytes())
        started = time.process_time()
        places.add(number, here)
        seconds += time.process_time() - started
    return places, seconds / chips


def write_reference(path: Path, chips: int) -> None:
    """Write a feature for each chip, with its true class."""
    rng = np.random.default_rng(1)

    def feature(number: int) -> str:
        west, south = 14 + number % COLUMNS * 1e-3, 45 - number // COLUMNS * 1e-3
        east, north = west + 9e-4, south + 9e-4
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        truth = CLASSES[rng.integers(len(CLASSES))]
        properties = {"feature_id": f"tile_{number:07}", "class_name": truth}
        geometry = {"type": "Polygon", "coordinates": [ring]}
        whole = {"type": "Feature", "properties": properties, "geometry": geometry}
        return encode_json(whole)

    write_collection(path, map(feature, range(chips)))


class NoPipeline:
    """Stands for the chips of a compressed archive: none can be decoded again."""

    def __init__(self, places: Places) -> None:
        self.places = places

    def decode_again(self, _number: int) -> None:
        """Return no pixels."""


class NoLook:
    """Stands for the second look at the settings: it saw nothing."""

    numbers = ()

    def tell(self, _truth: object) -> list:
        """Return no findings."""
        return []


def timed(function: Callable, name: str, found: dict[str, str]) -> Callable:
    """Return a function that notes its seconds of processor time, under a name, when it is done."""

    def measured(*arguments: object, **options: object) -> object:
        started = time.process_time()
        result = function(*arguments, **options)
        found[name] = f"{time.process_time() - started:.1f} s"
        return result

    return measured


def peak() -> float:
    """Return the peak of this process's memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(kind: str, chips: int) -> dict[str, str]:
    """Write the files of a run; return what that took: what was measured -> its value."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        results, reference, places = Path(folder), None, Places()
        record = make_record(chips, results)
        if kind == "footprints":
            places, seconds = make_places(chips)
            found["reading the place of a chip"] = f"{seconds * 1e6:.1f} us"
        if kind == "reference":
            reference = results / "ref.geojson"
            write_reference(reference, chips)
            reference = check_reference(reference)
        before = peak()
        started = time.process_time()
        record.write()
        found["classified.json"] = f"{time.process_time() - started:.1f} s"
        found["memory above the answers, for that"] = f"{peak() - before:,.0f} MiB"
        for part, name in PARTS.items():
            setattr(review, part, timed(getattr(review, part), name, found))
        run = RunFacts("chips.tar", "model.h5", "", CLASSES, {}, "CPU", 1.0, 1.0, "", "")
        review.review(record, NoPipeline(places), run, Where(reference, record.results), NoLook())
        found["memory above the answers, for all"] = f"{peak() - before:,.0f} MiB"
        for path in sorted(record.results.iterdir()):
            found[f"size of {path.name}"] = f"{path.stat().st_size / 1e6:,.2f} MB"
    return found


def main() -> None:
    """Parse the command line, measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chips", type=int, default=1_000_000)
    parser.add_argument("--kinds", nargs="+", default=["neither", "footprints", "reference"])
    arguments = parser.parse_args()
    cases = [(kind, arguments.chips) for kind in arguments.kinds]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        found = pool.starmap(measure, cases, chunksize=1)
    print(f"| {arguments.chips:,} chips | {' | '.join(arguments.kinds)} |")
    print(f"|{' --- |' * (len(found) + 1)}")
    for name in dict.fromkeys(name for one in found for name in one):
        print(f"| {name} | {' | '.join(one.get(name, '') for one in found)} |")


if __name__ == "__main__":
    main()
