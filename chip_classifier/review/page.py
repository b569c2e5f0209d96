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
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from chip_classifier.files import create
from chip_classifier.review.chip_map import ChipMap, color
from chip_classifier.review.contact_sheets import (
    MAX_NAME,
    KnownChip,
    MistakenChip,
    Sheet,
    Shown,
    fit,
    make_sheets,
    shells,
    whole_name,
)
from chip_classifier.review.sample import Sample
from chip_classifier.review.scores import Scores
from chip_classifier.review.tables import class_table, reasons, statistics, truth_table
from chip_classifier.review.text import text, time_in_words, visible

SCRIPT = "page.js"
PAGE_BYTES = 2_900_000  # a page stays below 3 MB; the difference is for what is not budgeted
CLASS_NAMES = 300_000  # characters of all names of classes that the script exports whole


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


class Confused(NamedTuple):
    """Chips of one class that got another one: class indices, how many, and the names of some."""

    truth: int
    given: int
    chips: int
    names: list[str]


class Findings(NamedTuple):
    """What the page shows of the run's chips.

    classes, certainties: of the N chips that are classified, integers and finite floats (N,); N may
        be 0, and above the number of chips that passed through the sample (a resumed run).
    known: chip number -> what is known of a chip to show; not of one that no longer counts.
    reasons: why chips are not classified -> number of chips.
    unclassified: name and reason of the first chips that are not classified.
    scores: how right the answers are, None if that is not known; source: where the truth is from.
    headline: their accuracy in a line; None where it says little.
    confusions: the commonest.
    mistaken: chips with a wrong class that are not in the sample.
    map: of the chips, None if no place is known.
    doubts: what was found when it was looked whether the settings can be right, with figures.
    """

    classes: np.ndarray
    certainties: np.ndarray
    known: Mapping[int, KnownChip]
    reasons: Mapping[str, int]
    unclassified: Sequence[tuple[str, str]] = ()
    scores: Scores | None = None
    headline: str | None = None
    source: str = ""
    confusions: Sequence[Confused] = ()
    mistaken: Sequence[MistakenChip] = ()
    map: ChipMap | None = None
    doubts: Sequence[str] = ()


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
    shown = Shown(findings.known, classes, sample.sizes.edge, findings.map)
    page = render(
        make_sheets(shown, run.classes, sample, findings.mistaken),
        run=run,
        table=table,
        colors={row.index: color(rank) for rank, row in enumerate(table.rows)},
        reasons=reasons(findings.reasons),
        sample=sample,
        found=findings,
        names=_names(run.classes, [row.index for row in table.rows]),
        truth=truth_table(findings.scores, run.classes) if findings.scores else None,
    )
    partial_page = path.with_name(path.name + ".part")
    try:
        with create(partial_page) as file:
            file.write(page)
        os.replace(partial_page, path)
    finally:
        partial_page.unlink(missing_ok=True)


def _names(classes: Sequence[str], shown: Sequence[int]) -> list[tuple[int, str, str | None]]:
    """Return index, name and whole name of the classes that the page shows, in their order."""
    most = max(MAX_NAME, CLASS_NAMES // max(len(shown), 1))
    return [
        (index, classes[index], whole_name(classes[index], 40, most)) for index in sorted(shown)
    ]


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
        {
            **facts,
            "sheets": {sheet.class_index: "" for sheet in sheets},
            "left_out": 0,
            "on_page": 0,
        }
    )
    room = PAGE_BYTES - len(str(empty).encode())
    bare = sum(len(empty.contact_sheet(sheet, lambda _: "").encode()) for sheet in shells(sheets))
    sheets, source = fit(
        sheets,
        room - bare,
        lambda sheet, figure: len(
            empty.chip(figure, sheet.class_name, sheet.class_index, lambda _: "").encode()
        ),
    )
    sections, on_page = {}, 0
    for sheet in sheets:
        section = empty.contact_sheet(sheet, source)
        room -= len(section.encode())
        if room < 0:
            break
        sections[sheet.class_index] = section
        on_page += len(sheet.figures())
    return template.render(
        facts, sheets=sections, left_out=len(sheets) - len(sections), on_page=on_page
    )


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
