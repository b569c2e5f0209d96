"""The page of a run: what was run, the counts, and some of the chips, to be looked at.

`write_page` brings the run's numbers and texts into the form that `page.html.j2` shows, the page's
template, which lies beside this file and has all of its HTML.

The page is self-contained (thumbnails are data URIs) and stays below 3 MB. Its script, page.js,
filters, sorts, enlarges and exports what is on the page; without it all can still be read. Every
text in it (chip names, class names, ports, reasons) counts as hostile: Jinja2 escapes what the
template puts in, `visible` has seen it before, and the script handles it as text.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from chip_classifier.files import create
from chip_classifier.review.chip_map import ChipMap, color
from chip_classifier.review.sample import Sample, SampledChip
from chip_classifier.review.scores import NO_TRUTH, Scores
from chip_classifier.review.tables import Statistics, class_table, reasons, statistics, truth_table
from chip_classifier.review.text import text, time_in_words, visible
from chip_classifier.second_look.look import Finding

SCRIPT = "page.js"
PAGE_BYTES = 2_900_000  # a page stays below 3 MB; the difference is for what is not budgeted
MAX_NAME = 1000  # characters of a name that the script exports whole
# The sharpest encoding whose page is small enough is taken. PNG is for chips so small that the
# halved color resolution of WebP would show.
PNG_PIXELS = 32
ENCODINGS = ((".png", 9), (".webp", 85), (".webp", 70), (".webp", 50), (".webp", 30), (".webp", 10))
ENCODING_FLAGS = {".png": cv2.IMWRITE_PNG_COMPRESSION, ".webp": cv2.IMWRITE_WEBP_QUALITY}


@dataclass(frozen=True)
class RunFacts:
    """What was run, as the page tells it.

    Attributes:
        archive: file name of the chips' archive.
        model: file name of the model.
        model_description: a few words on the model, as "224 x 224 chips, softmax".
        classes: class names, in the order of the model's outputs.
        ports: port -> value in force.
        device: what the model ran on.
        seconds: classification time of this run.
        chips_per_second: the run's rate.
        started: when the run began, as the page shows it.
        version: version of the task.
        fed: what the model was fed: a line on the whole, one on each band.
        warnings: sentences on what may be wrong.
    """

    archive: str
    model: str
    model_description: str
    classes: Sequence[str]
    ports: Mapping[str, str]
    device: str
    seconds: float
    chips_per_second: float
    started: str
    version: str
    fed: Sequence[str] = ()
    warnings: Sequence[str] = ()


class KnownChip(NamedTuple):
    """What is known of a sampled chip.

    name: the chip's name.
    truth: index of its true class, NO_TRUTH where that is unknown.
    centre: its longitude and latitude, NaN where they are unknown.
    """

    name: str
    truth: int = NO_TRUTH
    centre: tuple[float, float] = (np.nan, np.nan)


class Confused(NamedTuple):
    """Chips of one class that got another one: class indices, how many, and the names of some."""

    truth: int
    given: int
    chips: int
    names: list[str]


class MistakenChip(NamedTuple):
    """A chip that got a wrong class, shown beside the sample: as SampledChip, with that class."""

    given: int
    chip_id: int
    certainty: float
    thumbnail: np.ndarray


class Findings(NamedTuple):
    """What the page shows of the run's chips.

    classes, certainties: of the N chips that are classified, integers and finite floats (N,); N may
        be 0, and above the number of chips that passed through the sample (a resumed run).
    known: chip number -> what is known of a chip to show; not of one that no longer counts.
    reasons: why chips are not classified -> number of chips.
    unclassified: name and reason of the first chips that are not classified.
    scores: how right the answers are, None if that is not known; source: where the truth is from.
    confusions: the commonest.
    mistaken: some of their chips that are not in the sample.
    map: of the chips, None if no place is known.
    second_look: what was looked at to see whether the settings can be right.
    """

    classes: np.ndarray
    certainties: np.ndarray
    known: Mapping[int, KnownChip]
    reasons: Mapping[str, int]
    unclassified: Sequence[tuple[str, str]] = ()
    scores: Scores | None = None
    source: str = ""
    confusions: Sequence[Confused] = ()
    mistaken: Sequence[MistakenChip] = ()
    map: ChipMap | None = None
    second_look: Sequence[Finding] = ()


class Figure(NamedTuple):
    """A chip as the page shows it; width and height are in CSS pixels.

    certainty: as it is shown; value: for the script.
    whole_name: None where the page shows the name as it is; else the name in JSON, "" if that is
        too long.
    truth: index of the true class, NO_TRUTH where it is unknown.
    mark: x and y on the map, or None.
    """

    name: str
    certainty: str
    value: float
    whole_name: str | None
    truth: int
    mark: str | None
    width: int
    height: int
    enlarged: bool
    thumbnail: np.ndarray  # (h, w, 3) uint8, B,G,R


class Sheet(NamedTuple):
    """The contact sheet of one class: its number of chips, those of the sample, mistaken ones."""

    class_index: int
    class_name: str
    count: int
    least: list[Figure]
    most: list[Figure]
    rest: list[Figure]
    mistaken: list[Figure]


def write_page(path: Path, run: RunFacts, sample: Sample, findings: Findings) -> None:
    """Write the page, whole or not at all.

    Args:
        path: the page; its folder exists.
        run: what was run.
        sample: the chips to show.
        findings: what is known of the run's chips.
    Raises:
        OSError: the page cannot be written.
    """
    classes = statistics(len(run.classes), findings.classes, findings.certainties)
    table = class_table(run.classes, classes)
    page = render(
        _sheets(run.classes, classes, sample, findings),
        run=run,
        table=table,
        colors={row.index: color(rank) for rank, row in enumerate(table.rows)},
        reasons=reasons(findings.reasons),
        sample=sample,
        found=findings,
        truth=truth_table(findings.scores, run.classes) if findings.scores else None,
    )
    partial_page = path.with_name(path.name + ".part")
    try:
        with create(partial_page) as file:
            file.write(page)
        os.replace(partial_page, path)
    finally:
        partial_page.unlink(missing_ok=True)


def _sheets(
    class_names: Sequence[str], classes: Statistics, sample: Sample, findings: Findings
) -> list[Sheet]:
    """Return the contact sheets of the classes that have chips to show, in `by_count`'s order."""

    def figures(chips: Sequence[SampledChip | MistakenChip]) -> list[Figure]:
        known = [
            (findings.known[chip.chip_id], chip) for chip in chips if chip.chip_id in findings.known
        ]
        return [
            figure(about, chip, classes, sample.sizes.edge, findings.map) for about, chip in known
        ]

    sheets = []
    for index in classes.by_count().tolist():
        mistaken = [chip for chip in findings.mistaken if chip.given == index]
        groups = [figures(chips) for chips in (*sample.groups(index), mistaken)]
        if any(groups):
            sheets.append(Sheet(index, class_names[index], int(classes.counts[index]), *groups))
    return sheets


def figure(
    known: KnownChip,
    chip: SampledChip | MistakenChip,
    classes: Statistics,
    edge: int,
    chip_map: ChipMap | None,
) -> Figure:
    """Return a chip as the page shows it; a small one grows by a whole factor, up to `edge`."""
    height, width = chip.thumbnail.shape[:2]
    scale = max(1, edge // max(height, width))
    name = known.name
    whole_name = json.dumps(name) if text(name) != name else None
    mark = None
    if chip_map and np.isfinite(known.centre).all():
        mark = "{:.1f} {:.1f}".format(*chip_map.place(*known.centre))
    return Figure(
        name,
        classes.certainty(chip.certainty),
        chip.certainty,
        whole_name if len(whole_name or "") <= MAX_NAME else "",
        known.truth,
        mark,
        width * scale,
        height * scale,
        scale > 1,
        chip.thumbnail,
    )


def render(sheets: Sequence[Sheet], **facts: object) -> str:
    """Return the page, about PAGE_BYTES long at most; it says what does not fit and is left out.

    Args:
        sheets: of the classes that have chips to show, the most frequent class first.
        facts: what else the template shows, by the names that it has there.
    """
    template = page_template()
    script = Markup((Path(__file__).parent / SCRIPT).read_text(encoding="utf-8"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    facts |= {"script": script, "script_hash": f"sha256-{digest}"}
    # A page with places for all sheets, and the sheets without images, tell how much room is left.
    empty = template.make_module(
        {**facts, "sheets": {sheet.class_index: "" for sheet in sheets}, "left_out": 0}
    )
    room = PAGE_BYTES - len(str(empty).encode())
    bare = sum(len(empty.contact_sheet(sheet, lambda _: "data:,").encode()) for sheet in sheets)
    thumbnails = [
        figure.thumbnail
        for sheet in sheets
        for figure in sheet.least + sheet.most + sheet.rest + sheet.mistaken
    ]
    source = partial(data_uri, encoding=choose_encoding(thumbnails, room - bare))
    sections = {}
    for sheet in sheets:
        section = empty.contact_sheet(sheet, source)
        room -= len(section.encode())
        if room < 0:
            break
        sections[sheet.class_index] = section
    return template.render(facts, sheets=sections, left_out=len(sheets) - len(sections))


@cache
def page_template() -> Template:
    """Return the page's template. Whatever text it puts in becomes visible, and is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "text": text,
        "thousands": "{:,.0f}".format,
        "percent": "{:.1%}".format,
        "duration": time_in_words,
    }
    return environment.get_template("page.html.j2")


def choose_encoding(thumbnails: Sequence[np.ndarray], room: int) -> tuple[str, int]:
    """Return the sharpest of ENCODINGS with which the thumbnails probably fit, or the last one.

    Args:
        thumbnails: each (h, w, 3) uint8; none is fine.
        room: bytes for all their data URIs.
    """
    # To encode every thumbnail in every way would take longer than to write the page.
    sample = thumbnails[:: max(1, len(thumbnails) // 64)]
    tiny = all(max(image.shape[:2]) <= PNG_PIXELS for image in sample)
    encodings = ENCODINGS if tiny else ENCODINGS[1:]
    for encoding in encodings:
        size = sum(len(data_uri(image, encoding)) for image in sample)
        if size * len(thumbnails) <= 0.95 * room * len(sample):
            break
    return encoding


def data_uri(image: np.ndarray, encoding: tuple[str, int]) -> str:
    """Write an image, (h, w, 3) uint8 in B,G,R, as a data URI."""
    suffix, setting = encoding
    _, content = cv2.imencode(suffix, image, [ENCODING_FLAGS[suffix], setting])
    return f"data:image/{suffix[1:]};base64,{base64.b64encode(content).decode()}"
