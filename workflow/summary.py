"""What many tasks' results have beside classified.json: one map, one table, a page of the archives.

Needs nothing but Jinja2, which Snakemake needs too.
"""

import csv
import itertools
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from chip_classifier.answers import encode_json, whole_file
from chip_classifier.layout import LOG, MAP, TABLE, logs_of, results_of
from chip_classifier.layout import PAGE as PAGE_OF_A_TASK
from chip_classifier.log import printable
from chip_classifier.review.geojson import write_collection
from chip_classifier.review.reference import KEYS, PREFIX, name_of

PAGE = "summary.html"
RATE = re.compile(r" INFO Total classification time: .* s, ([\d.]+) chips/s$", re.MULTILINE)


def read_mark(out: Path, name: str) -> dict:
    """Read how a task ended.

    Args:
        out: folder of the results.
        name: of the archive.
    Returns:
        "reason": a sentence if it failed, else None; "warning": what status.json says if it
        succeeded, or None; "warnings": all that it warns of; "chips": how many have an answer.
    Raises:
        OSError, ValueError: it has not ended.
    """
    return json.loads((out / "tasks" / name / "done").read_text())


@dataclass
class SharedFeatures:
    """The features that are in one file for all archives.

    archives: the names of these archives.
    unclassified: the names of their chips that have no class.
    number: how many features there are.
    lost: those that match no chip; first_lost: the first of them, as it names its chip.
    """

    archives: Collection[str] = ()
    unclassified: frozenset[str] = frozenset()
    number: int = 0
    lost: int = 0
    first_lost: str | None = None

    def note(self, feature: dict) -> None:
        """Note a feature that has no answer of any archive."""
        names = [name for key in KEYS if (name := name_of(feature, key)) is not None]
        if self.unclassified.isdisjoint(names):
            self.lost += 1
            self.first_lost = self.first_lost or next(iter(names), None)


def write_map(path: Path, out: Path, done: Sequence[str], shared: SharedFeatures) -> None:
    """Merge the tasks' classified.geojson, if there are any; each feature gets its `archive`.

    Args:
        path: of the file to write.
        out: folder of the results.
        done: the names of the archives that are done.
        shared: the features that are in one file for all. One has the answer of each archive that
            has its chip; one without any stands there once, without `archive`, and is noted.
    Raises:
        OSError, ValueError: a file cannot be read or written.
    """
    maps = {name: results_of(out / "tasks" / name) / MAP for name in done}
    maps = {name: file for name, file in maps.items() if _is_there(file)}
    together = {name: file for name, file in maps.items() if name in shared.archives}
    features = itertools.chain(
        (
            encode_json(_of_archive(name, feature))
            for name, file in maps.items()
            if name not in together
            for feature in _features(file)
        ),
        _shared_features(together, shared),
    )
    if (first := next(features, None)) is not None:
        write_collection(path, itertools.chain([first], features))


def write_table(path: Path, out: Path, done: Sequence[str]) -> list[str]:
    """Merge the tasks' classified.csv, if there are any: a chip is named "<archive>/<chip>" there.

    All have the columns of the first one, since all have its model and ports.

    Args:
        path: of the file to write.
        out: folder of the results.
        done: the names of the archives that are done.
    Returns:
        The archives that have no such file, as they were done before version 1.2.
    Raises:
        OSError, ValueError: a file cannot be read or written, or has other columns.
    """
    files = {name: results_of(out / "tasks" / name) / TABLE for name in done}
    files = {name: file for name, file in files.items() if _is_there(file)}
    if files:
        with whole_file(path, "utf-8") as merged:
            csv.writer(merged).writerows(_rows(files))
    return [name for name in done if name not in files]


def _rows(files: Mapping[str, Path]) -> Iterator[list[str]]:
    """Yield the rows of tables, archive -> file, with one header for all."""
    columns: list[str] | None = None
    csv.field_size_limit(2**31 - 1)  # texts may be longer than the csv module allows by itself
    for name, file in files.items():
        with file.open(encoding="utf-8", newline="") as lines:
            rows = csv.reader(lines)
            found = next(rows)
            if columns is None:
                yield (columns := found)
            if found != columns:
                raise ValueError(f"{file} has other columns than those of other archives")
            for chip, *values in rows:
                yield [f"{name}/{chip}", *values]


def _features(path: Path) -> Iterator[dict]:
    """Yield the features of a task, which are one a line (write_collection in geojson.py)."""
    with path.open(encoding="ascii") as file:
        next(file)  # the beginning of the collection
        for line in file:
            if line != "]}\n":
                yield json.loads(line.rstrip(",\n"))


def _of_archive(name: str, feature: dict) -> dict:
    """Return a feature with the name of its archive as its first property."""
    return {**feature, "properties": {"archive": name, **(feature.get("properties") or {})}}


def _shared_features(maps: Mapping[str, Path], shared: SharedFeatures) -> Iterator[str]:
    """Yield the features of maps that were made of one file: all of them have all its features."""

    def has(feature: dict, name: str) -> bool:
        return name in (feature.get("properties") or {})

    # The tasks choose one of two names for the answers, by the properties in the whole file.
    is_prefixed = any(has(f, f"{PREFIX}class") for file in maps.values() for f in _features(file))
    answer = f"{PREFIX if is_prefixed else ''}certainty"
    answered = set()
    for name, file in maps.items():
        for number, feature in enumerate(_features(file)):
            if has(feature, answer):
                answered.add(number)
                yield encode_json(_of_archive(name, feature))
    for file in list(maps.values())[:1]:
        for number, feature in enumerate(_features(file)):
            shared.number += 1
            if number not in answered:
                shared.note(feature)
                yield encode_json(feature)


def _is_there(path: Path) -> bool:
    """Return whether a task has left a file; in a store, one that it has not left is empty."""
    return path.exists() and path.stat().st_size > 0


def write_page(path: Path, out: Path, summary: Mapping) -> None:
    """Write summary.html: every archive with its state, and a link to the page of its task.

    Args:
        path: of the page.
        out: folder of the results.
        summary: the content of summary.json.
    Raises:
        OSError: it cannot be written.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["thousands"] = "{:,.0f}".format
    page = environment.get_template("summary.html.j2").render(
        summary=summary,
        link=partial(_link, out),
        rate=partial(_rate, out),
        warning=lambda name: read_mark(out, name)["warning"] or "",
    )
    with whole_file(path) as file:
        file.write(page.encode("ascii", "xmlcharrefreplace").decode())


def _link(out: Path, name: str) -> str | None:
    """Return the address of a task's page, None if there is none."""
    path = logs_of(Path("tasks", name)) / PAGE_OF_A_TASK
    return quote(str(path)) if _is_there(out / path) else None


def _rate(out: Path, name: str) -> float | None:
    """Return the chips per second of a task, from its log; None if it did not come so far."""
    path = logs_of(out / "tasks" / name) / LOG
    found = RATE.search(path.read_text(errors="replace")) if path.exists() else None
    return float(found[1]) if found else None
