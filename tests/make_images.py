"""Draw the figures of the documentation: what the task takes and gives, and the ways through it.

.venv/bin/python tests/make_images.py
"""

from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

IMAGES = Path(__file__).parent.parent / "images"
# All lengths are pixels of the page; drawn twice as large, so that it stays sharp on dense screens.
WIDTH, SCALE = 800, 2
COLUMNS, COLUMN_WIDTH = (14, 218, 422, 626), 160
INK, GREY, PAPER = "#1f2933", "#52606d", "#ffffff"

Point = tuple[float, float]


class Colours(NamedTuple):
    """What a box, or the floor behind it, is drawn with."""

    edge: str
    fill: str


INPUT = Colours("#1d5fa8", "#e6f0fa")
PART = Colours("#3e4c59", "#ffffff")
TASK = Colours(INK, "#f5f7fa")
OUTPUT = Colours("#2b7a4b", "#e5f4ea")
UPPER_FLOOR = Colours("#8a6a1f", "#fbf6e9")
GROUND_FLOOR = Colours("#6b4fa0", "#f3effa")


class Figure:
    """A figure under way.

    image: what is drawn so far.
    """

    def __init__(self, height: int) -> None:
        """Begin with an empty figure."""
        self.image = Image.new("RGB", (WIDTH * SCALE, height * SCALE), PAPER)
        self._draw = ImageDraw.Draw(self.image)

    def box(
        self, left: float, top: float, width: float, height: float, text: str, colours: Colours
    ) -> None:
        """Draw a box; the first line of the text is its title, an empty one half a line's gap."""
        self._rectangle(left, top, width, height, 9, colours, 2)
        title, *lines = text.split("\n")
        steps = [22, *(21 if line else 10 for line in lines)]
        y = top + (height - sum(steps)) / 2
        for line, step in zip((title, *lines), steps, strict=True):
            is_title = step == 22
            self._text(
                (left + width / 2, y + step / 2),
                line,
                16 if is_title else 13,
                colours.edge if is_title else INK,
                "mm",
            )
            y += step

    def floor(
        self, left: float, top: float, width: float, height: float, name: str, colours: Colours
    ) -> None:
        """Draw what lies behind the boxes of a floor, with its name in the lower left corner."""
        self._rectangle(left, top, width, height, 12, Colours(colours.fill, colours.fill), 1)
        self._text((left + 12, top + height - 9), name, 14, colours.edge, "ls")

    def arrow(self, *corners: Point) -> None:
        """Draw an arrow along corners, whose last stretch is horizontal or vertical."""
        (x0, y0), (x, y) = corners[-2:]
        length = max(abs(x - x0), abs(y - y0))
        ahead = ((x - x0) / length, (y - y0) / length)
        aside = (-ahead[1], ahead[0])
        back = (x - 9 * ahead[0], y - 9 * ahead[1])
        wings = [(back[0] + side * aside[0], back[1] + side * aside[1]) for side in (5.5, -5.5)]
        self._draw.line(
            [self._scaled(p) for p in (*corners[:-1], back)], GREY, 2 * SCALE, joint="curve"
        )
        self._draw.polygon([self._scaled(p) for p in ((x, y), *wings)], fill=GREY)

    def save(self, name: str) -> None:
        """Write the figure to images/."""
        IMAGES.mkdir(exist_ok=True)
        self.image.quantize(64).save(IMAGES / name, optimize=True)

    def _rectangle(
        self,
        left: float,
        top: float,
        width: float,
        height: float,
        radius: float,
        colours: Colours,
        line: float,
    ) -> None:
        self._draw.rounded_rectangle(
            (*self._scaled((left, top)), *self._scaled((left + width, top + height))),
            radius * SCALE,
            colours.fill,
            colours.edge,
            round(line * SCALE),
        )

    def _text(self, at: Point, text: str, size: int, colour: str, anchor: str) -> None:
        font = ImageFont.load_default(size * SCALE)
        self._draw.text(self._scaled(at), text, colour, font, anchor)

    @staticmethod
    def _scaled(point: Point) -> Point:
        return point[0] * SCALE, point[1] * SCALE


def draw_task() -> None:
    """Draw what the task takes and gives: chips and model -> task -> results and logs."""
    figure = Figure(280)
    task = (
        "deploy-chip-classifier\nwarp, preprocess, classify\nbatch by batch\n\n"
        "classes, size, deploy_batch,\nnormalization_vector,\nnormalization_value"
    )
    results = "results\nclassified.json:\nclass and certainty\nunclassified.json: reasons"
    logs = "logs\nout.log: times and warnings\npreview.html: a page\nto look at the results"
    model = "model\none trained Keras classifier\n(.h5, .hdf5 or .keras)"
    figure.box(10, 20, 200, 100, "chips\none tar of\njpeg, tif and png chips", INPUT)
    figure.box(10, 160, 200, 100, model, INPUT)
    figure.box(285, 20, 230, 240, task, TASK)
    figure.box(590, 20, 200, 100, results, OUTPUT)
    figure.box(590, 160, 200, 100, logs, OUTPUT)
    for y in (70, 210):
        figure.arrow((210, y), (285, y))
        figure.arrow((515, y), (590, y))
    figure.save("deploy-wf.png")


def draw_way_of_a_chip() -> None:
    """Draw the files that a chip's bytes pass on their way to an answer."""
    figure = Figure(436)
    figure.floor(206, 4, 590, 330, "chip_classifier/", UPPER_FLOOR)
    figure.floor(410, 348, 386, 84, "keras_files/", GROUND_FLOOR)
    boxes = (
        (0, 18, 84, "chips.tar\na tar, compressed\nor not", INPUT),
        (1, 18, 84, "archive.py, listing.py\nnumbered chips,\nname and place", PART),
        (2, 18, 84, "decode.py\na file's bytes to\n(H, W, 3) uint8", PART),
        (3, 18, 84, "pipeline.py\nwarped, in batches, a\nfew ahead of the model", PART),
        (3, 138, 84, "classifier.py\npreprocessing, model:\nclass and certainty", PART),
        (2, 138, 84, "journal.py\neach batch, safe\nagainst a sudden end", PART),
        (1, 138, 84, "answers.py\nwhat is known so far,\nwritten as JSON", PART),
        (0, 138, 84, "results/\nclassified.json\nunclassified.json", OUTPUT),
        (2, 244, 60, "preview.py\nthe page's chips", PART),
        (1, 244, 60, "page.html.j2\nthe page's template", PART),
        (0, 244, 60, "logs/\npreview.html", OUTPUT),
        (3, 360, 60, "model.py\nthe model as a function", PART),
    )
    for column, top, height, text, colours in boxes:
        figure.box(COLUMNS[column], top, COLUMN_WIDTH, height, text, colours)
    for column in (0, 1, 2):
        figure.arrow((COLUMNS[column] + COLUMN_WIDTH, 60), (COLUMNS[column + 1], 60))
        figure.arrow((COLUMNS[column + 1], 180), (COLUMNS[column] + COLUMN_WIDTH, 180))
    for column in (0, 1):
        figure.arrow((COLUMNS[column + 1], 274), (COLUMNS[column] + COLUMN_WIDTH, 274))
    middle = COLUMNS[3] + COLUMN_WIDTH / 2
    figure.arrow((middle, 102), (middle, 138))
    figure.arrow((middle - 40, 222), (middle - 40, 274), (COLUMNS[2] + COLUMN_WIDTH, 274))
    figure.arrow((middle, 360), (middle, 222))
    figure.save("way-of-a-chip.png")


def draw_way_of_a_model() -> None:
    """Draw the files that a model file passes on its way to a function of images."""
    figure = Figure(472)
    figure.floor(206, 4, 590, 348, "keras_files/", GROUND_FLOOR)
    figure.floor(410, 366, 386, 102, "chip_classifier/", UPPER_FLOOR)
    boxes = (
        (0, 18, 84, "model.h5\n.h5, .hdf5 or .keras,\nnot to be trusted", INPUT),
        (1, 18, 84, "checked_file.py\nits configuration and\narrays, checked", PART),
        (2, 18, 84, "open_model.py\neach era's layers,\nput into one form", PART),
        (3, 18, 84, "network.py\nthat form: Layer, Call,\nTensor, Network", PART),
        (1, 144, 78, "weights.py\nwhich array belongs\nto which layer", PART),
        (2, 144, 78, "operations.py\nwhich functions\nare arithmetic", PART),
        (2, 250, 84, "formulas.py\nwhat each layer\ncomputes", PART),
        (3, 250, 84, "model.py\nthe network as a\nTensorFlow function", PART),
        (3, 378, 78, "classifier.py\n(N, rows, columns, 3)\nto (N, classes)", PART),
    )
    for column, top, height, text, colours in boxes:
        figure.box(COLUMNS[column], top, COLUMN_WIDTH, height, text, colours)
    for column in (0, 1, 2):
        figure.arrow((COLUMNS[column] + COLUMN_WIDTH, 60), (COLUMNS[column + 1], 60))
    figure.arrow((COLUMNS[2] + COLUMN_WIDTH, 292), (COLUMNS[3], 292))
    weights, tables, network = (COLUMNS[column] + COLUMN_WIDTH / 2 for column in (1, 2, 3))
    figure.arrow((weights, 144), (weights, 123), (tables - 44, 123), (tables - 44, 102))
    figure.arrow((tables, 144), (tables, 102))
    figure.arrow((network, 102), (network, 250))
    figure.arrow((network, 334), (network, 378))
    figure.save("way-of-a-model.png")


if __name__ == "__main__":
    draw_task()
    draw_way_of_a_chip()
    draw_way_of_a_model()
