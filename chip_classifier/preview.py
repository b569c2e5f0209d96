"""The preview of a run: one HTML page that shows what was run, the counts, and the chips.

While the run goes on, `Preview.add` keeps a bounded sample of each class's chips as thumbnails: the
least certain, the most certain, and a random sample of the rest. No chip is decoded twice, and most
chips of a batch cost one comparison in a NumPy expression. At the end `Preview.write` fills in
`preview.template.html`, the page's readable template, which lies beside this file.

The page is self-contained (thumbnails are data URIs), has no script, and stays below 2 MB. Every
text in it (chip names, class names, ports, reasons) counts as hostile and passes through `text`.
"""

from __future__ import annotations

import base64
import heapq
import html
import os
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import NamedTuple

import cv2
import numpy as np

TEMPLATE = Path(__file__).with_name("preview.template.html")
PAGE_BYTES = 1_900_000  # a page stays below 2 MB; the difference is for what is not budgeted
CLASSES_IN_VIEW = 20  # classes beyond these are folded away
MAX_CLASSES = 1000  # classes with a row and thumbnails; the rest are summed up in one line
MAX_REASONS = 10
BINS = 20  # of a histogram; they divide its 200 units
GROUP_TITLES = ("Least certain", "Most certain", "Random sample")
# A thumbnail takes about a tenth of the time in which a fast GPU classifies its chip, at most. One
# for 16 chips keeps the cost below 1% in whatever order the certainties come, even if each beats
# the one before.
CHIPS_PER_THUMBNAIL = 16
# The sharpest encoding whose page is small enough is taken. PNG is for chips so small that the
# halved colour resolution of WebP would show.
PNG_PIXELS = 32
ENCODINGS = ((".png", 9), (".webp", 85), (".webp", 70), (".webp", 50), (".webp", 30), (".webp", 10))
ENCODING_FLAGS = {".png": cv2.IMWRITE_PNG_COMPRESSION, ".webp": cv2.IMWRITE_WEBP_QUALITY}
# Persian and the Indic scripts spell with these invisible characters; they are harmless.
JOINERS = "\u200c\u200d"

SLOT = np.dtype([("row", "i4"), ("certainty", "f8"), ("key", "f8"), ("chip_id", "i8")])


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


class SampleSizes(NamedTuple):
    """How many chips of a class are kept (each at least 1), and the longer edge of a thumbnail."""

    least: int
    most: int
    rest: int
    edge: int

    @property
    def total(self) -> int:
        """Chips kept per class."""
        return self.least + self.most + self.rest


# (for up to so many classes, sizes). The thumbnails of each line take at most 23 MB of memory, and
# with photographs' usual compression a page of at most 2 MB.
SAMPLE_SIZES = (
    (4, SampleSizes(least=16, most=8, rest=8, edge=128)),
    (20, SampleSizes(least=10, most=5, rest=5, edge=96)),
    (100, SampleSizes(least=5, most=3, rest=3, edge=64)),
    (300, SampleSizes(least=3, most=1, rest=1, edge=64)),
    (MAX_CLASSES, SampleSizes(least=1, most=1, rest=1, edge=48)),
)


class Preview:
    """A bounded sample of the chips of a run, and the page that shows it."""

    def __init__(self, classes: int) -> None:
        """Args: classes: number of the model's classes, 1 or more."""
        rows = min(classes, MAX_CLASSES)
        self._sizes = sample_sizes(classes)
        self._seen = 0
        self._passed_over = False
        self._chip_shape = (0, 0)
        # Filling the sample of N chips takes S thumbnails, improving it about S * ln(N / S) more,
        # if the certainties come in random order. 3 S + N / 16 is above S + S * ln(N / S) for any
        # N, so that the limit only tells where the order is far from random.
        self._allowance = 3.0 * rows * self._sizes.total
        self._random = np.random.default_rng(0)
        # A class gets a row of the sample when its first chip comes. Row -1, the last one, stands
        # for the classes that came when all rows were taken: its limits let no chip in.
        self._rows = rows
        self._rows_taken = 0
        self._row_of_class = np.full(classes, -1)
        # A chip enters the sample below or above these certainties, or with a key below this one.
        self._below = np.append(np.full(rows, np.inf), -np.inf)
        self._above = np.append(np.full(rows, -np.inf), np.inf)
        self._key_below = np.append(np.full(rows, np.inf), -np.inf)
        self._slots = np.zeros(rows * self._sizes.total, SLOT)
        self._slots["row"] = -1  # a free slot
        self._thumbnails: list[np.ndarray | None] = [None] * len(self._slots)

    def add(
        self,
        chip_ids: Sequence[int],
        chips: np.ndarray,
        class_indices: np.ndarray,
        certainties: np.ndarray,
    ) -> None:
        """Offers one classified batch to the sample, which copies what it keeps.

        Args:
            chip_ids: (N,) the chips' numbers, for `write`'s `names`.
            chips: (N, H, W, 3) uint8, B,G,R, as warped for the model, before normalization.
            class_indices: (N,) integers from 0 to classes - 1.
            certainties: (N,) floats, finite.
        """
        self._seen += len(chips)
        self._chip_shape = chips.shape[1:3]
        self._allowance += len(chips) / CHIPS_PER_THUMBNAIL
        if self._rows_taken < self._rows:
            self._give_rows(class_indices)
        rows = self._row_of_class[class_indices]
        keys = self._random.random(len(chips))
        enters = certainties < self._below[rows]
        enters |= certainties > self._above[rows]
        enters |= keys < self._key_below[rows]
        (candidates,) = enters.nonzero()
        if not candidates.size:
            return
        # Where the certainties rise or fall steadily, the batch's last chips are the most extreme.
        allowed = candidates[max(0, len(candidates) - int(self._allowance)) :]
        self._passed_over |= len(allowed) < len(candidates)
        newcomers = np.empty(len(allowed), SLOT)
        newcomers["row"] = rows[allowed]
        newcomers["certainty"] = certainties[allowed]
        newcomers["key"] = keys[allowed]
        newcomers["chip_id"] = np.asarray(chip_ids)[allowed]
        self._merge(newcomers, chips, allowed)

    def _give_rows(self, class_indices: np.ndarray) -> None:
        """Gives a row of the sample to each class that has none yet, while there are rows."""
        classes = np.unique(class_indices[self._row_of_class[class_indices] < 0])
        classes = classes[: self._rows - self._rows_taken]
        self._row_of_class[classes] = self._rows_taken + np.arange(len(classes))
        self._rows_taken += len(classes)

    def _merge(self, newcomers: np.ndarray, chips: np.ndarray, positions: np.ndarray) -> None:
        """Lets newcomers compete with their rows' chips; only those that stay become thumbnails.

        Args:
            newcomers: (K,) SLOT.
            chips: (N, H, W, 3) the batch.
            positions: (K,) the newcomers' positions in the batch.
        """
        touched = np.zeros(self._rows + 1, bool)
        touched[newcomers["row"]] = True
        (slots,) = touched[self._slots["row"]].nonzero()
        entries = np.concatenate([self._slots[slots], newcomers])
        order = np.lexsort((entries["key"], entries["certainty"], entries["row"]))
        entries = entries[order]
        stays = kept(entries, self._sizes)
        is_new = order >= len(slots)
        self._slots["row"][slots[order[~stays & ~is_new]]] = -1
        entering = order[stays & is_new] - len(slots)
        free = (self._slots["row"] < 0).nonzero()[0][: len(entering)]
        self._slots[free] = newcomers[entering]
        for slot, position in zip(free, positions[entering], strict=True):
            self._thumbnails[slot] = thumbnail(chips[position], self._sizes.edge)
        self._allowance -= len(entering)
        self._tighten(entries[stays])

    def _tighten(self, entries: np.ndarray) -> None:
        """Sets the limits of the rows that are full, from all their entries, sorted SLOTs."""
        sizes = self._sizes
        row, count = np.unique(entries["row"], return_counts=True)
        full = row[count == sizes.total]
        is_full = np.zeros(self._rows, bool)
        is_full[full] = True
        entries = entries[is_full[entries["row"]]].reshape(-1, sizes.total)
        self._below[full] = entries["certainty"][:, sizes.least - 1]
        self._above[full] = entries["certainty"][:, sizes.total - sizes.most]
        rest = entries["key"][:, sizes.least : sizes.total - sizes.most]
        self._key_below[full] = rest.max(axis=1)

    def _groups(
        self, row: int, names: Callable[[int], str | None], certainty: Callable[[float], str]
    ) -> tuple[list[Shown], ...]:
        """One row of the sample as a Sheet's groups, without the chips that no longer count."""
        (slots,) = (self._slots["row"] == row).nonzero()
        entries = self._slots[slots]
        slots = slots[np.lexsort((entries["key"], entries["certainty"]))]
        most = min(self._sizes.most, len(slots) // 2)
        least = min(self._sizes.least, len(slots) - most)
        groups = slots[:least], slots[len(slots) - most :][::-1], slots[least : len(slots) - most]
        return tuple(
            [
                Shown(name, certainty(self._slots["certainty"][slot]), self._thumbnails[slot])
                for slot in group
                if (name := names(int(self._slots["chip_id"][slot]))) is not None
            ]
            for group in groups
        )

    def chip_ids(self) -> set[int]:
        """Give the chips in the sample, whose names `write` asks for."""
        return set(self._slots["chip_id"][self._slots["row"] >= 0].tolist())

    def write(
        self,
        path: Path,
        run: RunFacts,
        names: Callable[[int], str | None],
        class_indices: np.ndarray,
        certainties: np.ndarray,
        unclassified: Mapping[str, int],
    ) -> None:
        """Writes the page, whole or not at all.

        Args:
            path: the page; its folder exists.
            run: what was run.
            names: chip number -> the chip's name, None for a chip that no longer counts.
            class_indices: (N,) integers, of all the run's classified chips; N may be 0, and above
                the number of chips that passed through `add` (a resumed run).
            certainties: (N,) floats, finite.
            unclassified: reason -> number of chips.

        Raises:
            OSError: the page cannot be written.
        """
        classes = statistics(len(run.classes), class_indices, certainties)
        sheets = []
        for class_index in classes.by_count():
            row = self._row_of_class[class_index]
            groups = self._groups(row, names, classes.certainty) if row >= 0 else ()
            if any(groups):
                name, count = run.classes[class_index], int(classes.counts[class_index])
                sheets.append(Sheet(int(class_index), name, count, groups))
        notes = []
        if self._seen < len(class_indices):
            notes.append(
                f"The run was resumed: its chips are chosen from the {self._seen:,} that were"
                f" classified since then, not from all {len(class_indices):,}. The counts and the"
                " charts are of all chips."
            )
        if self._rows < len(run.classes):
            notes.append(
                f"Chips were kept of the first {self._rows:,} classes that came up, and are shown"
                " where such a class is in the table above."
            )
        if self._passed_over:
            notes.append(
                "The certainties rose or fell steadily through the archive. To keep the run fast,"
                " some chips were passed over: a few of them may be more or less certain than the"
                " chips shown."
            )
        page = render(run, classes, unclassified, sheets, self._chip_shape, notes)
        partial = path.with_name(path.name + ".part")
        try:
            partial.write_bytes(page.encode())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


class Shown(NamedTuple):
    """A chip as the page shows it."""

    name: str
    certainty: str
    thumbnail: np.ndarray  # (h, w, 3) uint8, B,G,R


class Sheet(NamedTuple):
    """The contact sheet of one class; its groups of chips are those of GROUP_TITLES."""

    class_index: int
    class_name: str
    count: int
    groups: tuple[list[Shown], ...]


def sample_sizes(classes: int) -> SampleSizes:
    """The line of SAMPLE_SIZES for a number of classes."""
    return next(sizes for limit, sizes in SAMPLE_SIZES if min(classes, MAX_CLASSES) <= limit)


def kept(entries: np.ndarray, sizes: SampleSizes) -> np.ndarray:
    """Which entries stay in the sample: in each row the least certain, the most certain, and of
    the rest those with the lowest keys.

    With random keys this is a uniform sample of the rest, also over many batches: an entry that
    is pushed out of the least or the most certain joins the rest and never comes back.

    Args:
        entries: (K,) SLOT, sorted by row, certainty, key. The key breaks ties, so that a mass of
            equally certain chips is not sampled in the order of the archive.
        sizes: how many of each.

    Returns:
        (K,) bool.
    """
    position = np.arange(len(entries))
    from_bottom = position - np.searchsorted(entries["row"], entries["row"])
    from_top = np.searchsorted(entries["row"], entries["row"], side="right") - 1 - position
    stays = (from_bottom < sizes.least) | (from_top < sizes.most)
    (rest,) = (~stays).nonzero()
    rest = rest[np.lexsort((entries["key"][rest], entries["row"][rest]))]
    row = entries["row"][rest]
    stays[rest[np.arange(len(rest)) - np.searchsorted(row, row) < sizes.rest]] = True
    return stays


def thumbnail(chip: np.ndarray, edge: int) -> np.ndarray:
    """A copy of a chip, shrunk in proportion where it is larger than the edge, never enlarged.

    Args:
        chip: (H, W, 3) uint8.
        edge: the longer side's limit in pixels.

    Returns:
        (h, w, 3) uint8, h and w from 1 to edge.
    """
    height, width = chip.shape[:2]
    if max(height, width) <= edge:
        return chip.copy()
    # Halving takes the mean of 2 x 2 pixels; then bilinear leaves no pixel out. Together they are
    # several times as fast as INTER_AREA in one step.
    while max(height, width) >= 2 * edge:
        height, width = max(1, height // 2), max(1, width // 2)
        chip = cv2.resize(chip, (width, height), interpolation=cv2.INTER_AREA)
    shrink = edge / max(height, width)
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    return cv2.resize(chip, size, interpolation=cv2.INTER_LINEAR)


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
    bins = np.clip((halves - low) / span * BINS, 0, BINS - 1).astype(np.intp)
    cells = np.asarray(class_indices, np.intp) * BINS + bins
    histograms = np.bincount(cells, minlength=classes * BINS).reshape(classes, BINS)
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


def text(value: str, limit: int = 60) -> str:
    """Untrusted text, ready for HTML, attributes included.

    What cannot be seen (control and direction characters, lone surrogates of undecodable file
    names) becomes its Python escape, as \\n or \\udcff; so the result is valid Unicode.

    Args:
        value: any str.
        limit: characters; a longer text loses its middle.
    """
    if len(value) > limit:
        value = f"{value[: limit // 2]}…{value[-(limit // 2 - 1) :]}"
    visible = "".join(
        char if char.isprintable() or char in JOINERS else ascii(char)[1:-1] for char in value
    )
    return html.escape(visible)


def duration(seconds: float) -> str:
    """Seconds in the two units that matter."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def render(
    run: RunFacts,
    classes: Statistics,
    unclassified: Mapping[str, int],
    sheets: Sequence[Sheet],
    chip_shape: tuple[int, int],
    notes: Sequence[str],
) -> str:
    """The page, about PAGE_BYTES long at most: what does not fit is left out, and it says so.

    Args:
        run: what was run.
        classes: counts and certainties.
        unclassified: reason -> number of chips.
        sheets: of the classes that have chips to show, the most frequent class first.
        chip_shape: (height, width) of a chip as the model saw it, in pixels.
        notes: what the reader must know of the choice of chips.
    """
    sizes = sample_sizes(len(run.classes))
    cell = max(88, sizes.edge)  # px; 88 leave room for a name in small print
    fields = {
        "archive": text(run.archive, 120),
        "model": text(run.model, 120),
        "model_description": text(run.model_description, 300),
        "device": text(run.device, 120),
        "started": text(run.started),
        "version": text(run.version),
        "duration": duration(run.seconds),
        "rate": f"{run.chips_per_second:,.0f}",
        "summary": summary(run, classes),
        "classified": f"{classes.counts.sum():,}",
        "unclassified": f"{sum(unclassified.values()):,}",
        "classes": f"{np.count_nonzero(classes.counts):,} of {len(run.classes):,}",
        "reasons": reasons_table(unclassified),
        "ports": "\n".join(
            f'<tr><th scope="row">{text(port)}</th>'
            f"<td>{text(value, 300).replace(',', ',<wbr>')}</td></tr>"
            for port, value in run.ports.items()
        ),
        "cell_width": f"{cell}px",
        "sheet_width": f"{sizes.total * (cell + 8) + 32}px",
        "chips_intro": chips_intro(chip_shape) if sheets else "There is no chip to show.",
    }
    template = Template(TEMPLATE.read_text(encoding="utf-8"))

    def page(sections: Mapping[int, str]) -> str:
        told = list(notes)
        if left_out := len(sheets) - len(sections):
            told.append(f"To keep this page small, {left_out:,} classes are shown without chips.")
        return template.substitute(
            fields,
            class_tables=class_tables(run.classes, classes, linked=sections.keys()),
            notes="\n".join(f'<p class="note">{note}</p>' for note in told),
            sheets=folded(list(sections.values())),
        )

    room = PAGE_BYTES - len(page({sheet.class_index: "" for sheet in sheets}).encode())
    markup = sum(len(sheet_section(sheet, sizes.edge, None).encode()) for sheet in sheets)
    thumbnails = [shown.thumbnail for sheet in sheets for group in sheet.groups for shown in group]
    encoding = choose_encoding(thumbnails, room - markup)
    sections = {}
    for sheet in sheets:
        section = sheet_section(sheet, sizes.edge, encoding)
        room -= len(section.encode())
        if room < 0:
            break
        sections[sheet.class_index] = section
    return page(sections)


def summary(run: RunFacts, classes: Statistics) -> str:
    """The run in one sentence, HTML."""
    total = int(classes.counts.sum())
    if not total:
        return "No chip was classified."
    top = int(classes.counts.argmax())
    return (
        f"{total:,} {'chips were' if total > 1 else 'chip was'} classified."
        f" The most frequent class is <strong><bdi>{text(run.classes[top])}</bdi></strong>,"
        f" with {classes.counts[top] / total:.1%} of them."
    )


def class_tables(names: Sequence[str], classes: Statistics, linked: Container[int]) -> str:
    """The table of the most frequent classes, and folded away that of the others, HTML.

    Args:
        names: class names.
        classes: counts and certainties.
        linked: class indices with a contact sheet on the page.
    """
    order = classes.by_count()
    low, high = ("0", "1") if classes.probabilities else map(classes.certainty, classes.axis)
    why = (
        ""
        if classes.probabilities
        else " (this run's range: the model's values are no probabilities)"
    )
    head = (
        '<thead><tr><th scope="col">Class</th><th scope="col">Chips</th><th scope="col">Certainty'
        f' <span class="axis"><span>{low}</span><span>{high}</span></span></th>'
        '<th scope="col">Median</th></tr></thead>'
    )

    def table(class_indices: np.ndarray, caption: str) -> str:
        rows = "\n".join(
            class_row(int(index), names[index], classes, index in linked) for index in class_indices
        )
        return (
            f'<table class="classes"><caption>{caption}</caption>{head}\n'
            f"<tbody>\n{rows}\n</tbody></table>"
        )

    parts = [
        table(
            order[:CLASSES_IN_VIEW],
            "How many chips are in each class, and how their certainties are distributed, from"
            f" {low} at the left to {high} at the right{why}. Each chart is scaled to its own"
            " tallest bar.",
        )
    ]
    more = order[CLASSES_IN_VIEW:]
    if more.size:
        chips = int(classes.counts[more].sum())
        parts.append(
            f"<details><summary>{len(more):,} more classes ({chips:,} chips)</summary>"
            f"{table(more, 'The less frequent classes')}</details>"
        )
    beyond = len(names) - len(order)
    if beyond:
        chips = int(classes.counts.sum() - classes.counts[order].sum())
        parts.append(f"<p>{beyond:,} further classes have {chips:,} chips together.</p>")
    return "\n".join(parts)


def class_row(class_index: int, name: str, classes: Statistics, linked: bool) -> str:
    """The table row of one class, HTML."""
    label = f"<bdi>{text(name, 40)}</bdi>"
    if linked:
        label = f'<a href="#c{class_index}">{label}</a>'
    count = int(classes.counts[class_index])
    if not count:
        return f'<tr><th scope="row">{label}</th><td>0</td><td></td><td></td></tr>'
    share, length = count / classes.counts.sum(), count / classes.counts.max()
    return (
        f'<tr><th scope="row">{label}</th><td>{count:,} <small>{share:.1%}</small>'
        f'<span class="share" style="width:{length:.0%}"></span></td>'
        f"<td>{histogram_chart(class_index, classes)}</td>"
        f"<td>{classes.certainty(classes.median[class_index])}</td></tr>"
    )


def histogram_chart(class_index: int, classes: Statistics) -> str:
    """The distribution of a class's certainties, an SVG of 200 x 40 units with a text for it."""
    histogram = classes.histograms[class_index]
    # Every chip counts: no bar with a chip in it is lower than 2 units.
    heights = np.where(histogram, np.maximum(2, 40 * histogram / histogram.max()), 0)
    step = 200 // BINS
    bars = "".join(
        f"M{step * index + step // 2} 40v-{height:.0f}"
        for index, height in enumerate(heights)
        if height
    )
    lowest, highest = classes.lowest[class_index], classes.highest[class_index]
    label = f"from {classes.certainty(lowest)} to {classes.certainty(highest)}"
    if histogram.max() < histogram.sum():
        start, end = np.linspace(*classes.axis, BINS + 1)[histogram.argmax() + np.arange(2)]
        label += f", most between {start:.3g} and {end:.3g}"
    return f'<svg viewBox="0 0 200 40" role="img" aria-label="{label}"><path d="{bars}"/></svg>'


def reasons_table(unclassified: Mapping[str, int]) -> str:
    """The commonest reasons for which chips were not classified, HTML."""
    total = sum(unclassified.values())
    if not total:
        return "<p>Every chip was classified.</p>"
    commonest = heapq.nlargest(MAX_REASONS, unclassified.items(), key=lambda item: item[1])
    rows = [
        f'<tr><th scope="row"><bdi>{text(reason, 200)}</bdi></th><td>{count:,}</td></tr>'
        for reason, count in commonest
    ]
    others = len(unclassified) - len(commonest)
    if others:
        count = total - sum(count for _, count in commonest)
        rows.append(f'<tr><th scope="row">{others:,} other reasons</th><td>{count:,}</td></tr>')
    return (
        '<table class="reasons"><caption>unclassified.json has the reason for each chip.</caption>'
        '<thead><tr><th scope="col">Reason</th><th scope="col">Chips</th></tr></thead>\n'
        "<tbody>\n" + "\n".join(rows) + "\n</tbody></table>"
    )


def chips_intro(chip_shape: tuple[int, int]) -> str:
    """The sentence above the contact sheets, HTML."""
    height, width = chip_shape
    return (
        f"Chips as the model saw them, {width:,} &times; {height:,} pixels (width &times; height),"
        " with the certainty of the class chosen. Of each class, the least certain come first: that"
        " is where a model's errors show. Then come the most certain, and a random sample of the"
        " rest."
    )


def folded(sections: Sequence[str]) -> str:
    """Contact sheets in the page's order, those beyond CLASSES_IN_VIEW folded away, HTML."""
    in_view, more = sections[:CLASSES_IN_VIEW], sections[CLASSES_IN_VIEW:]
    page = '<div class="sheets">' + "\n".join(in_view) + "</div>"
    if more:
        page += (
            f"\n<details><summary>Chips of {len(more):,} more classes</summary>"
            '<div class="sheets">' + "\n".join(more) + "</div></details>"
        )
    return page


def sheet_section(sheet: Sheet, edge: int, encoding: tuple[str, int] | None) -> str:
    """The contact sheet of one class, HTML.

    Args:
        sheet: the class and its chips.
        edge: the longer edge of a shown thumbnail in pixels; small ones grow by a whole factor.
        encoding: one of ENCODINGS; None leaves the images empty.
    """
    class_name = text(sheet.class_name, 40)
    groups = []
    for title, group in zip(GROUP_TITLES, sheet.groups, strict=True):
        if not group:
            continue
        figures = []
        for name, certainty, image in group:
            label = text(name).replace("/", "/<wbr>").replace("_", "_<wbr>")
            height, width = image.shape[:2]
            scale = max(1, edge // max(height, width))
            pixels = ' class="pixels"' if scale > 1 else ""
            figures.append(
                f'<li><figure><img{pixels} width="{width * scale}" height="{height * scale}"'
                f' alt="Chip classified as {class_name}" src="{data_uri(image, encoding)}">'
                f"<figcaption><b>{certainty}</b> <bdi>{label}</bdi></figcaption></figure></li>"
            )
        groups.append(
            f'<div class="group"><h4>{title}</h4>\n<ul>' + "\n".join(figures) + "</ul></div>"
        )
    chips = f"{sheet.count:,} {'chips' if sheet.count != 1 else 'chip'}"
    return (
        f'<section class="sheet" id="c{sheet.class_index}"><h3><bdi>{class_name}</bdi>'
        f' <span class="soft">{chips}</span></h3>\n<div class="groups">'
        + "\n".join(groups)
        + "</div></section>"
    )


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


def data_uri(image: np.ndarray, encoding: tuple[str, int] | None) -> str:
    """An image, (h, w, 3) uint8 in B,G,R, as a data URI; an empty one without an encoding."""
    if encoding is None:
        return "data:,"
    suffix, setting = encoding
    _, content = cv2.imencode(suffix, image, [ENCODING_FLAGS[suffix], setting])
    return f"data:image/{suffix[1:]};base64,{base64.b64encode(content).decode()}"
