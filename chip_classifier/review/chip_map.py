"""A map of a run's chips, as paths of an SVG: equirectangular, a color for each class.

However many chips there are, the map has at most MAX_MARKS marks: beyond that, cells of a grid in
the color of the class that most of their chips have.
"""

import math
from typing import NamedTuple

import numpy as np

from chip_classifier.review.geojson import shortest_stretch

WIDTH, CELL = 1000, 5  # units of the SVG
HEIGHTS = (200, 500)  # least and largest; at most 200 x 100 cells
MAX_MARKS = 20_000
MARGIN = 40  # units, at each side
LEAST_DEGREES = 1e-4  # that a map shows, about 10 m
METRES_PER_DEGREE = 111_195  # of latitude, on a sphere of 6,371 km
# Of the most frequent classes; told apart by most people who see few colors. Others follow by the
# golden angle.
COLORS = ("#2f7de1", "#e8810c", "#12a172", "#c4529d", "#8b6be0", "#a98b00", "#0a9fb5", "#dc4f43")


class Layer(NamedTuple):
    """The marks of a class, as the data of an SVG path of lines."""

    class_index: int
    path: str


class ChipMap(NamedTuple):
    """A map of width x height units.

    layers: of the classes with chips, the most frequent first.
    chips: number of chips on the map.
    is_grid: a mark is a cell, and not a chip.
    stroke: width of the lines that are the marks.
    west, east, south, north: degrees at the edges; east may be above 180.
    per_degree: units per degree of longitude and of latitude.
    bar: length of the scale bar in units; bar_label: in words.
    """

    layers: list[Layer]
    width: int
    height: int
    chips: int
    is_grid: bool
    stroke: int
    west: float
    east: float
    south: float
    north: float
    per_degree: tuple[float, float]
    bar: float
    bar_label: str

    def place(self, longitude: float, latitude: float) -> tuple[float, float]:
        """Return x and y of a place on the map, in units."""
        x = (longitude - self.west) % 360 * self.per_degree[0]
        return x, (self.north - latitude) * self.per_degree[1]


def draw_map(centres: np.ndarray, classes: np.ndarray) -> ChipMap | None:
    """Draw the chips whose place and class are known; None if there is none.

    Args:
        centres: longitudes and latitudes, float64 (N, 2), NaN where unknown.
        classes: class indices, integers (N,), negative for a chip without one.
    """
    is_shown = np.isfinite(centres).all(axis=1) & (classes >= 0)
    if not is_shown.any():
        return None
    classes = classes[is_shown]
    longitudes, latitudes = centres[is_shown].T
    frame = _frame(longitudes, latitudes)
    x = (longitudes - frame.west) % 360 * frame.per_degree[0]
    y = (frame.north - latitudes) * frame.per_degree[1]
    is_grid = len(x) > MAX_MARKS
    if is_grid:
        layers = _cells(x, y, classes)
    else:
        layers = _marks(x.round(1).tolist(), y.round(1).tolist(), classes)
    stroke = CELL if is_grid else round(min(26, max(CELL, 300 / math.sqrt(len(x)))))
    return frame._replace(layers=layers, chips=len(x), is_grid=is_grid, stroke=stroke)


def _frame(longitudes: np.ndarray, latitudes: np.ndarray) -> ChipMap:
    """Return the map without its chips: the smallest that shows them all, with a margin."""
    west, width = shortest_stretch(longitudes)
    centre = west + width / 2
    middle = (latitudes.min() + latitudes.max()) / 2
    shrink = max(math.cos(math.radians(middle)), 0.01)  # degrees of longitude are so much shorter
    width = max(width, LEAST_DEGREES)
    height = max(np.ptp(latitudes), LEAST_DEGREES)
    # Degrees of latitude that WIDTH stands for, so that all fits in the height too.
    inner = WIDTH - 2 * MARGIN, HEIGHTS[1] - 2 * MARGIN
    degrees = WIDTH * max(width * shrink / inner[0], height / inner[1])
    units = float(max(HEIGHTS[0], WIDTH * height / degrees + 2 * MARGIN))
    per_degree = WIDTH / degrees * shrink, WIDTH / degrees
    west = centre - WIDTH / per_degree[0] / 2
    north = middle + units / per_degree[1] / 2
    metres, label = _round_length(degrees * METRES_PER_DEGREE / 5)
    return ChipMap(
        layers=[],
        width=WIDTH,
        height=round(units),
        chips=0,
        is_grid=False,
        stroke=0,
        west=west,
        east=west + WIDTH / per_degree[0],
        south=north - units / per_degree[1],
        north=north,
        per_degree=per_degree,
        bar=metres / METRES_PER_DEGREE * per_degree[1],
        bar_label=label,
    )


def _round_length(metres: float) -> tuple[float, str]:
    """Round a length down to 1, 2 or 5 times a power of ten: in metres, and as a label."""
    power = 10.0 ** math.floor(math.log10(metres))
    length = max(step * power for step in (1, 2, 5) if step * power <= metres)
    return length, f"{length / 1000:,.0f} km" if length >= 1000 else f"{length:g} m"


def _by_count(classes: np.ndarray) -> list[int]:
    """Return the classes that occur, the most frequent first: it is drawn first."""
    found, counts = np.unique(classes, return_counts=True)
    return found[np.argsort(-counts, kind="stable")].tolist()


def _marks(x: list[float], y: list[float], classes: np.ndarray) -> list[Layer]:
    """Draw a dot for each chip: a line of no length with a round end."""
    marks: dict[int, list[str]] = {index: [] for index in _by_count(classes)}
    for index, left, top in zip(classes.tolist(), x, y, strict=True):
        marks[index].append(f"M{left:g} {top:g}h0")
    return [Layer(index, "".join(parts)) for index, parts in marks.items()]


def _cells(x: np.ndarray, y: np.ndarray, classes: np.ndarray) -> list[Layer]:
    """Draw a line as long as it is wide for each cell, in the class that most of its chips have."""
    columns = WIDTH // CELL
    cell = np.clip(x // CELL, 0, columns - 1) + columns * np.clip(y // CELL, 0, None)
    many = int(classes.max()) + 1
    pairs, counts = np.unique(cell.astype(np.int64) * many + classes, return_counts=True)
    cells, owners = np.divmod(pairs, many)
    best = np.lexsort((-counts, cells))
    best = best[np.unique(cells[best], return_index=True)[1]]
    cells, owners = cells[best], owners[best]
    left = cells % columns * CELL
    middle = cells // columns * CELL + CELL / 2
    marks: dict[int, list[str]] = {index: [] for index in _by_count(classes)}
    for index, x_, y_ in zip(owners.tolist(), left.tolist(), middle.tolist(), strict=True):
        marks[index].append(f"M{x_} {y_:g}h{CELL}")
    return [Layer(index, "".join(parts)) for index, parts in marks.items() if parts]


def color(rank: int) -> str:
    """Return the color of a class, for CSS, by its rank among the classes: 0 is the commonest."""
    if rank < len(COLORS):
        return COLORS[rank]
    return f"hsl({rank * 137.508 % 360:.0f} 60% 52%)"
