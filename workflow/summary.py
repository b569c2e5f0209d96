"""What the results of many tasks have beside classified.json: one map, and a page of the archives.

Needs nothing but Jinja2, which Snakemake needs too.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from chip_classifier.answers import encode_json, whole_file
from chip_classifier.layout import LOG, MAP, logs_of, results_of
from chip_classifier.layout import PAGE as PAGE_OF_A_TASK
from chip_classifier.log import printable

# The files that are written here.
PARTIAL_MAP, PAGE = "classified.partial.geojson", "summary.html"
RATE = re.compile(r" INFO Total classification time: .* s, ([\d.]+) chips/s$", re.MULTILINE)


def read_mark(out: Path, name: str) -> dict:
    """Read how a task ended.

    Args:
        out: folder of the results.
        name: of the archive.
    Returns:
        "reason": a sentence if it failed, else None; "warning": a sentence if it succeeded and
        warns of something, else None; "chips": how many have an answer.
    Raises:
        OSError, ValueError: it has not ended.
    """
    return json.loads((out / "tasks" / name / "done").read_text())


def write_map(out: Path, done: Iterable[str], complete: bool) -> None:
    """Merge the tasks' classified.geojson, if there are any; each feature gets its `archive`.

    Args:
        out: folder of the results.
        done: the names of the archives that are done.
        complete: they are all; otherwise the file is named classified.partial.geojson.
    Raises:
        OSError, ValueError: a file cannot be read or written.
    """
    for stale in (MAP, PARTIAL_MAP):
        (out / stale).unlink(missing_ok=True)
    features = _features(out, done)
    first = next(features, None)
    if first is None:
        return
    with whole_file(out / (MAP if complete else PARTIAL_MAP)) as file:
        file.write('{"type": "FeatureCollection", "features": [\n' + first)
        for feature in features:
            file.write(",\n" + feature)
        file.write("\n]}\n")


def _features(out: Path, done: Iterable[str]) -> Iterator[str]:
    """Yield the features of the tasks, which are one a line (write_collection in geojson.py)."""
    for name in done:
        path = results_of(out / "tasks" / name) / MAP
        if not _is_there(path):
            continue
        with path.open(encoding="ascii") as file:
            next(file)  # the beginning of the collection
            for line in file:
                if line != "]}\n":
                    feature = json.loads(line.rstrip(",\n"))
                    properties = feature.get("properties") or {}
                    yield encode_json({**feature, "properties": {"archive": name, **properties}})


def _is_there(path: Path) -> bool:
    """Return whether a task has left a file; in a store, one that it has not left is empty."""
    return path.exists() and path.stat().st_size > 0


def write_page(out: Path, summary: Mapping) -> None:
    """Write summary.html: every archive with its state, and a link to the page of its task.

    Args:
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
    with whole_file(out / PAGE) as file:
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
