"""The preview of a run: one HTML page that shows what was run, the counts, and the chips.

While the run goes on, `Preview.add` keeps a bounded sample of the chips. At the end `Preview.write`
brings the run's numbers and texts into the form that `page.html.j2` shows, the page's template,
which lies beside this file and has all of its HTML.

The page is self-contained (thumbnails are data URIs) and stays below 3 MB. Its script, page.js,
filters, sorts, enlarges and exports what is on the page; without it all can still be read. Every
text in it (chip names, class names, ports, reasons) counts as hostile: Jinja2 escapes what the
template puts in, `visible` has seen it before, and the script handles it as text.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
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
from chip_classifier.review.sample import MAX_CLASSES, Sample, SampledChip
from chip_classifier.review.scores import NO_TRUTH, Scores

SCRIPT = "page.js"
PAGE_BYTES = 2_900_000  # a page stays below 3 MB; the difference is for what is not budgeted
MAX_REASONS = 10
MOST_UNCLASSIFIED = 50  # chips that are named
MATRIX_CLASSES = 12  # of more classes the commonest confusions are listed
SHADES = 5  # of the cells of the matrix
MAX_NAME = 1000  # characters of a name that the script exports whole
BINS = 20  # of a histogram; they divide its 200 units
# The sharpest encoding whose page is small enough is taken. PNG is for chips so small that the
# halved color resolution of WebP would show.
PNG_PIXELS = 32
ENCODINGS = ((".png", 9), (".webp", 85), (".webp", 70), (".webp", 50), (".webp", 30), (".webp", 10))
ENCODING_FLAGS = {".png": cv2.IMWRITE_PNG_COMPRESSION, ".webp": cv2.IMWRITE_WEBP_QUALITY}
# Persian and the Indic scripts spell with these invisible characters; they are harmless.
JOINERS = "\u200c\u200d"


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
    """What the page shows of all chips, if it is known.

    scores: how right the answers are; source: where the truth is from.
    confusions: the commonest.
    mistaken: some of their chips that are not in the sample.
    map: of the chips.
    unclassified: name and reason of the first chips that are not classified.
    """

    scores: Scores | None = None
    source: str = ""
    confusions: Sequence[Confused] = ()
    mistaken: Sequence[MistakenChip] = ()
    map: ChipMap | None = None
    unclassified: Sequence[tuple[str, str]] = ()


class Preview(Sample):
    """The sample of a run's chips, and the page that shows it."""

    def write(
        self,
        path: Path,
        run: RunFacts,
        known: Mapping[int, KnownChip],
        class_indices: np.ndarray,
        certainties: np.ndarray,
        unclassified: Mapping[str, int],
        findings: Findings,
    ) -> None:
        """Writes the page, whole or not at all.

        Args:
            path: the page; its folder exists.
            run: what was run.
            known: chip number -> what is known of the chip; not of one that no longer counts.
            class_indices: (N,) integers, of all the run's classified chips; N may be 0, and above
                the number of chips that passed through `add` (a resumed run).
            certainties: (N,) floats, finite.
            unclassified: reason -> number of chips.
            findings: what else the page shows.

        Raises:
            OSError: the page cannot be written.
        """
        classes = statistics(len(run.classes), class_indices, certainties)
        table = class_table(run.classes, classes)
        page = render(
            self._sheets(run.classes, classes, known, findings),
            run=run,
            table=table,
            colors={row.index: color(rank) for rank, row in enumerate(table.rows)},
            reasons=reasons(unclassified),
            sample=self,
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
        self,
        class_names: Sequence[str],
        classes: Statistics,
        known: Mapping[int, KnownChip],
        findings: Findings,
    ) -> list[Sheet]:
        """The contact sheets of the classes that have chips to show, as `by_count` orders them."""

        def figures(chips: Sequence[SampledChip | MistakenChip]) -> list[Figure]:
            return [
                figure(known[chip.chip_id], chip, classes, self.sizes.edge, findings.map)
                for chip in chips
                if chip.chip_id in known
            ]

        sheets = []
        for index in classes.by_count().tolist():
            mistaken = [chip for chip in findings.mistaken if chip.given == index]
            groups = [figures(chips) for chips in (*self.groups(index), mistaken)]
            if any(groups):
                sheets.append(Sheet(index, class_names[index], int(classes.counts[index]), *groups))
        return sheets


@dataclass(frozen=True)
class Statistics:
    """Counts and certainties of the run's C classes.

    Attributes:
        counts: (C,) int.
        histograms: (C, BINS) int, in equal bins over `axis`.
        lowest: (C,) float, as `median` and `highest`; NaN for a class without chips.
        axis: (0, 1) if every certainty is a probability, otherwise the run's lowest and highest.
        probabilities: whether every certainty is from 0 to 1.
    """

    counts: np.ndarray
    histograms: np.ndarray
    lowest: np.ndarray
    median: np.ndarray
    highest: np.ndarray
    axis: tuple[float, float]
    probabilities: bool

    def by_count(self) -> np.ndarray:
        """Class indices, the most frequent class first, as many as the page has room for."""
        return np.argsort(-self.counts, kind="stable")[:MAX_CLASSES]

    def certainty(self, value: float) -> str:
        """A certainty as the page shows it."""
        return f"{value:.4f}" if self.probabilities else f"{value:#.4g}"


def statistics(classes: int, class_indices: np.ndarray, certainties: np.ndarray) -> Statistics:
    """Counts and certainties per class.

    Args:
        classes: number of classes.
        class_indices: (N,) integers from 0 to classes - 1; N may be 0.
        certainties: (N,) floats, any finite values.
    """
    # Halved, so that the difference of two finite numbers is finite too.
    halves = np.asarray(certainties, np.float64) / 2
    low, high = (halves.min(), halves.max()) if halves.size else (0.0, 0.5)
    rounding = 1e-6  # a float32 softmax may give 1.0000001
    probabilities = bool(low >= -rounding and high <= 0.5 + rounding)
    if probabilities:
        low, high = 0.0, 0.5
    span = high - low or 1.0
    histograms = _histograms(classes, class_indices, halves, low, span)
    counts = histograms.sum(axis=1)
    ordered = halves[np.lexsort((halves, class_indices))]
    first = np.cumsum(counts) - counts
    lowest, median, highest = np.full((3, classes), np.nan)
    used = counts > 0
    first, count = first[used], counts[used]
    lowest[used] = ordered[first] * 2
    median[used] = ordered[first + (count - 1) // 2] + ordered[first + count // 2]
    highest[used] = ordered[first + count - 1] * 2
    axis = (float(low) * 2, float(high) * 2)
    return Statistics(counts, histograms, lowest, median, highest, axis, probabilities)


def _histograms(
    classes: int, class_indices: np.ndarray, halves: np.ndarray, low: float, span: float
) -> np.ndarray:
    """Count values (N,) in BINS bins from `low` to `low + span`, (classes, BINS) int.

    In place, as far as that goes: N may be millions.
    """
    places = halves - low
    places /= span
    places *= BINS
    cells = np.clip(places, 0, BINS - 1, out=places).astype(np.int32)
    del places
    cells += np.asarray(class_indices, np.int32) * BINS
    return np.bincount(cells, minlength=classes * BINS).reshape(classes, BINS)


class Chart(NamedTuple):
    """The distribution of a class's certainties: a histogram in a field of 200 x 40 units.

    Attributes:
        bars: the middle lines of the bars, as the data of an SVG path.
        lowest: the lowest certainty, as `highest` the highest.
        peak: lower and upper edge of the tallest bar; None if it has all the chips.
    """

    bars: str
    lowest: str
    highest: str
    peak: tuple[str, str] | None


class ClassRow(NamedTuple):
    """A class in the table.

    Attributes:
        index: the class index.
        name: the class's name.
        count: its chips.
        share: of all classified chips, from 0 to 1.
        length: of the bar that shows the count, from 0 to 1 for the most frequent class.
        chart: its certainties; None without chips, as `median`.
        median: of its certainties.
    """

    index: int
    name: str
    count: int
    share: float
    length: float
    chart: Chart | None
    median: str | None


class ClassTable(NamedTuple):
    """The run's classes.

    Attributes:
        rows: the most frequent classes, in that order, as many as the page has room for.
        classes: number of all classes.
        used: number of those with chips.
        classified: number of chips in all classes.
        axis: where the charts begin and end.
        low, high: the same as numbers.
        probabilities: whether every certainty is from 0 to 1.
    """

    rows: list[ClassRow]
    classes: int
    used: int
    classified: int
    axis: tuple[str, str]
    low: float
    high: float
    probabilities: bool


class Reasons(NamedTuple):
    """Why chips were not classified.

    Attributes:
        chips: number of all these chips.
        commonest: (reason, chips) of the commonest reasons.
        others: number of all other reasons.
        chips_of_others: number of their chips.
    """

    chips: int
    commonest: list[tuple[str, int]]
    others: int
    chips_of_others: int


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


def class_table(names: Sequence[str], classes: Statistics) -> ClassTable:
    """The run's classes as the page shows them.

    Args:
        names: class names, in the order of the model's outputs.
        classes: counts and certainties.
    """
    return ClassTable(
        rows=[class_row(index, names[index], classes) for index in classes.by_count().tolist()],
        classes=len(names),
        used=np.count_nonzero(classes.counts),
        classified=int(classes.counts.sum()),
        axis=("0", "1") if classes.probabilities else tuple(map(classes.certainty, classes.axis)),
        low=classes.axis[0],
        high=classes.axis[1],
        probabilities=classes.probabilities,
    )


def class_row(index: int, name: str, classes: Statistics) -> ClassRow:
    """A class as the table shows it."""
    count = int(classes.counts[index])
    if not count:
        return ClassRow(index, name, 0, 0.0, 0.0, None, None)
    return ClassRow(
        index,
        name,
        count,
        share=count / classes.counts.sum(),
        length=count / classes.counts.max(),
        chart=chart(index, classes),
        median=classes.certainty(classes.median[index]),
    )


def chart(class_index: int, classes: Statistics) -> Chart:
    """The distribution of the certainties of a class that has chips."""
    histogram = classes.histograms[class_index]
    # Every chip counts: no bar with a chip in it is lower than 2 units.
    heights = np.where(histogram, np.maximum(2, 40 * histogram / histogram.max()), 0)
    step = 200 // BINS
    peak = None
    if histogram.max() < histogram.sum():
        edges = np.linspace(*classes.axis, BINS + 1)[histogram.argmax() + np.arange(2)]
        peak = tuple(f"{edge:.3g}" for edge in edges)
    return Chart(
        bars="".join(
            f"M{step * index + step // 2} 40v-{height:.0f}"
            for index, height in enumerate(heights.tolist())
            if height
        ),
        lowest=classes.certainty(classes.lowest[class_index]),
        highest=classes.certainty(classes.highest[class_index]),
        peak=peak,
    )


def reasons(unclassified: Mapping[str, int]) -> Reasons:
    """The commonest reasons, of reason -> number of chips."""
    commonest = heapq.nlargest(MAX_REASONS, unclassified.items(), key=lambda item: item[1])
    chips = sum(unclassified.values())
    return Reasons(
        chips,
        commonest,
        others=len(unclassified) - len(commonest),
        chips_of_others=chips - sum(count for _, count in commonest),
    )


def figure(
    known: KnownChip,
    chip: SampledChip | MistakenChip,
    classes: Statistics,
    edge: int,
    chip_map: ChipMap | None,
) -> Figure:
    """A chip as the page shows it; a small one grows by a whole factor, up to edge pixels."""
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


class TruthRow(NamedTuple):
    """How right the answers for a class are; a share is None where it has no chips."""

    index: int
    name: str
    chips: int
    precision: str | None
    recall: str | None
    f1: str | None


class MatrixCell(NamedTuple):
    """A cell of the confusion matrix: its chips, and a shade from 0 to SHADES by their share of the
    true class."""

    truth: int
    given: int
    chips: int
    shade: int


class TruthTable(NamedTuple):
    """The run against the truth.

    rows: the classes concerned, those with most chips first, as many as the page has room for.
    classes: number of all classes concerned.
    matrix: a row of cells for each of `rows`; None if they are too many.
    """

    rows: list[TruthRow]
    classes: int
    matrix: list[list[MatrixCell]] | None


def truth_table(scores: Scores, names: Sequence[str]) -> TruthTable:
    """The run against the truth, as the page shows it.

    Args:
        scores: of the run.
        names: class names, in the order of the model's outputs.
    """

    def share(value: float) -> str | None:
        return None if np.isnan(value) else f"{value:.1%}"

    (concerned,) = (~np.isnan(scores.f1)).nonzero()
    order = concerned[np.argsort(-scores.of_class[concerned], kind="stable")].tolist()
    rows = [
        TruthRow(
            index,
            names[index],
            int(scores.of_class[index]),
            *(share(part[index]) for part in (scores.precision, scores.recall, scores.f1)),
        )
        for index in order[:MAX_CLASSES]
    ]
    if len(order) > MATRIX_CLASSES:
        return TruthTable(rows, len(order), None)
    chips = {(truth, given): number for truth, given, number in scores.pairs.tolist()}
    return TruthTable(
        rows,
        len(order),
        [
            [
                MatrixCell(truth, given, number, -(-number * SHADES // max(total, 1)))
                for given in order
                for number in [chips.get((truth, given), 0)]
            ]
            for truth in order
            for total in [scores.of_class[truth].item()]
        ],
    )


def render(sheets: Sequence[Sheet], **facts: object) -> str:
    """The page, about PAGE_BYTES long at most: what does not fit is left out, and it says so.

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
    """The page's template. Whatever text it puts in becomes visible, and is escaped."""
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
        "duration": duration,
    }
    return environment.get_template("page.html.j2")


def visible(value: object) -> object:
    """An untrusted text in which everything can be seen; all that is not a text as it is.

    What cannot be seen (control and direction characters, lone surrogates of undecodable file
    names) becomes its Python escape, as \\n or \\udcff; so the result is valid Unicode.
    """
    if not isinstance(value, str) or hasattr(value, "__html__") or value.isprintable():
        return value
    return "".join(
        char if char.isprintable() or char in JOINERS else ascii(char)[1:-1] for char in value
    )


def text(value: str, limit: int = 60) -> str:
    """An untrusted text, visible and not too long, still to be escaped.

    Args:
        value: any str.
        limit: characters; a longer text loses its middle.
    """
    if len(value) > limit:
        value = f"{value[: limit // 2]}…{value[-(limit // 2 - 1) :]}"
    return visible(value)


def duration(seconds: float) -> str:
    """Seconds in the two units that matter."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def choose_encoding(thumbnails: Sequence[np.ndarray], room: int) -> tuple[str, int]:
    """The sharpest of ENCODINGS with which the thumbnails probably fit, or the last one.

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
    """An image, (h, w, 3) uint8 in B,G,R, as a data URI."""
    suffix, setting = encoding
    _, content = cv2.imencode(suffix, image, [ENCODING_FLAGS[suffix], setting])
    return f"data:image/{suffix[1:]};base64,{base64.b64encode(content).decode()}"
