"""The contact sheets of the page: which chips are shown, and how sharp, so that they fit.

The chips that got a wrong class come first, then those that every class shows, then more of the
least certain, as long as there is room.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from chip_classifier.review.chip_map import ChipMap
from chip_classifier.review.sample import Sample, SampledChip, least_sizes
from chip_classifier.review.scores import NO_TRUTH
from chip_classifier.review.tables import Statistics
from chip_classifier.review.text import text

MOST_WRONG = 500  # chips that got a wrong class, and are shown before all others
MAX_NAME = 1000  # characters of a name that the script exports whole
TITLES = ("Wrong, the most certain first", "Least certain", "Most certain", "Random sample")
# The sharpest encoding whose page is small enough is taken. PNG is for chips so small that the
# halved color resolution of WebP would show.
PNG_PIXELS = 32
ENCODINGS = ((".png", 9), (".webp", 85), (".webp", 70), (".webp", 50), (".webp", 30), (".webp", 10))
ENCODING_FLAGS = {".png": cv2.IMWRITE_PNG_COMPRESSION, ".webp": cv2.IMWRITE_WEBP_QUALITY}


class KnownChip(NamedTuple):
    """What is known of a chip to show.

    name: the chip's name.
    truth: index of its true class, NO_TRUTH where that is unknown.
    centre: its longitude and latitude, NaN where they are unknown.
    values: index and value of its first classes, if they are kept.
    """

    name: str
    truth: int = NO_TRUTH
    centre: tuple[float, float] = (np.nan, np.nan)
    values: Sequence[tuple[int, float]] = ()


class MistakenChip(NamedTuple):
    """A chip that got a wrong class, shown beside the sample: as SampledChip, with that class."""

    given: int
    chip_id: int
    certainty: float
    thumbnail: np.ndarray


class Figure(NamedTuple):
    """A chip as the page shows it; width and height are in CSS pixels.

    certainty: as it is shown; value: for the script.
    whole_name: None where the page shows the name as it is; else the name in JSON, "" if that is
        too long.
    truth: index of the true class, NO_TRUTH where it is unknown.
    mark: x and y on the map, or None.
    values: the first classes and their values, for the script; or None.
    rank: whether it comes before others where not all fit: what is lower does.
    """

    name: str
    certainty: str
    value: float
    whole_name: str | None
    truth: int
    mark: str | None
    values: str | None
    width: int
    height: int
    enlarged: bool
    thumbnail: np.ndarray  # (h, w, 3) uint8, B,G,R
    rank: tuple[int, float]


class Group(NamedTuple):
    """Chips under a title."""

    title: str
    figures: list[Figure]


class Sheet(NamedTuple):
    """The contact sheet of one class: its number of chips, and those that are shown."""

    class_index: int
    class_name: str
    count: int
    groups: list[Group]

    def figures(self) -> list[Figure]:
        """Return all figures."""
        return [figure for group in self.groups for figure in group.figures]


class Shown(NamedTuple):
    """What the figures of a page are made with.

    known: chip number -> what is known of a chip to show; not of one that no longer counts.
    classes: how the certainties are distributed.
    edge: longer side of a chip, in pixels.
    map: of the chips, None if no place is known.
    """

    known: Mapping[int, KnownChip]
    classes: Statistics
    edge: int
    map: ChipMap | None


def make_sheets(
    shown: Shown, class_names: Sequence[str], sample: Sample, mistaken: Sequence[MistakenChip]
) -> list[Sheet]:
    """Return the contact sheets of the classes that have chips, the most frequent class first.

    Args:
        shown: what they are made with.
        class_names: in the order of the model's outputs.
        sample: chips of each class.
        mistaken: chips with a wrong class that are not in the sample.
    """
    sizes, sheets = least_sizes(len(class_names)), []
    for index in shown.classes.by_count().tolist():
        wrong: list[Figure] = [
            make_figure(shown, chip, (0, -chip.certainty))
            for chip in mistaken
            if chip.given == index and chip.chip_id in shown.known
        ]
        groups = [Group(TITLES[0], wrong)]
        for title, size, chips in zip(TITLES[1:], sizes, sample.groups(index), strict=False):
            group = Group(title, [])
            for position, chip in enumerate(chips):
                if chip.chip_id not in shown.known:
                    continue
                if shown.known[chip.chip_id].truth not in (NO_TRUTH, index):
                    wrong.append(make_figure(shown, chip, (0, -chip.certainty)))
                else:
                    rank = 1 if position < size else 2 if title == TITLES[1] else 3
                    group.figures.append(make_figure(shown, chip, (rank, position)))
            groups.append(group)
        wrong.sort(key=lambda figure: figure.rank)
        if any(group.figures for group in groups):
            count = int(shown.classes.counts[index])
            sheets.append(Sheet(index, class_names[index], count, groups))
    return sheets


def make_figure(shown: Shown, chip: SampledChip | MistakenChip, rank: tuple[int, float]) -> Figure:
    """Return a chip as the page shows it; a small one grows by a whole factor, up to the edge."""
    known = shown.known[chip.chip_id]
    height, width = chip.thumbnail.shape[:2]
    scale = max(1, shown.edge // max(height, width))
    mark = None
    if shown.map and np.isfinite(known.centre).all():
        mark = "{:.1f} {:.1f}".format(*shown.map.place(*known.centre))
    return Figure(
        known.name,
        shown.classes.certainty(chip.certainty),
        chip.certainty,
        whole_name(known.name, 60, MAX_NAME),
        known.truth,
        mark,
        " ".join(f"{index}:{value:.6g}" for index, value in known.values) or None,
        width * scale,
        height * scale,
        scale > 1,
        chip.thumbnail,
        rank,
    )


def whole_name(name: str, limit: int, most: int) -> str | None:
    """Return a name in JSON where `limit` characters do not show it as it is, "" beyond `most`."""
    if text(name, limit) == name:
        return None
    whole = json.dumps(name)
    return whole if len(whole) <= most else ""


def shells(sheets: Sequence[Sheet]) -> list[Sheet]:
    """Return sheets with a single figure under each title."""
    return [
        sheet._replace(groups=[Group(title, figures[:1]) for title, figures in sheet.groups])
        for sheet in sheets
    ]


def fit(
    sheets: Sequence[Sheet], room: int, size_of: Callable[[Sheet, Figure], int]
) -> tuple[list[Sheet], Callable[[np.ndarray], str]]:
    """Leave out the figures that do not fit; also return what makes an image's data URI.

    MOST_WRONG chips that got a wrong class, and those that every class shows, stay: they may be
    less sharp.

    Args:
        sheets: with all figures.
        room: bytes for the figures.
        size_of: bytes of a figure without its image.
    """
    figures = [(figure, size_of(sheet, figure)) for sheet in sheets for figure in sheet.figures()]
    figures.sort(key=lambda pair: pair[0].rank)
    wrong = [pair for pair in figures if pair[0].rank[0] == 0]
    first = wrong[:MOST_WRONG] + [pair for pair in figures if pair[0].rank[0] == 1]
    room -= sum(size for _, size in first)
    encoding, is_sharpest = choose_encoding([figure.thumbnail for figure, _ in first], room)
    made: dict[int, str] = {}

    def source(image: np.ndarray) -> str:
        if id(image) not in made:
            made[id(image)] = data_uri(image, encoding)
        return made[id(image)]

    shown = {id(figure) for figure, _ in first}
    if is_sharpest:
        room -= sum(len(source(figure.thumbnail)) for figure, _ in first)
        for figure, size in [pair for pair in figures if id(pair[0]) not in shown]:
            room -= size + len(source(figure.thumbnail))
            if room < 0:
                break
            shown.add(id(figure))
    return [
        sheet._replace(
            groups=[
                Group(title, [figure for figure in group if id(figure) in shown])
                for title, group in sheet.groups
            ]
        )
        for sheet in sheets
    ], source


def choose_encoding(thumbnails: Sequence[np.ndarray], room: int) -> tuple[tuple[str, int], bool]:
    """Return the sharpest of ENCODINGS with which the thumbnails probably fit, or the last one.

    Args:
        thumbnails: each (h, w, 3) uint8; none is fine.
        room: bytes for all their data URIs.
    Returns:
        The encoding, and whether it is the sharpest for such thumbnails.
    """
    # To encode every thumbnail in every way would take longer than to write the page.
    sample = thumbnails[:: max(1, len(thumbnails) // 64)]
    tiny = all(max(image.shape[:2]) <= PNG_PIXELS for image in sample)
    encodings = ENCODINGS if tiny else ENCODINGS[1:]
    for encoding in encodings:
        size = sum(len(data_uri(image, encoding)) for image in sample)
        if size * len(thumbnails) <= 0.95 * room * len(sample):
            break
    return encoding, encoding == encodings[0]


def data_uri(image: np.ndarray, encoding: tuple[str, int]) -> str:
    """Write an image, (h, w, 3) uint8 in B,G,R, as a data URI."""
    suffix, setting = encoding
    _, content = cv2.imencode(suffix, image, [ENCODING_FLAGS[suffix], setting])
    return f"data:image/{suffix[1:]};base64,{base64.b64encode(content).decode()}"
