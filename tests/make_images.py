"""Draw images/deploy-wf.png, the workflow in the README.

python tests/make_images.py
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

IMAGES = Path(__file__).parent.parent / "images"
# Drawn twice as large as the README shows it, so that it stays sharp on dense screens.
WIDTH, HEIGHT, SCALE = 800, 300, 2
INK, GREY, PAPER = "#1f2933", "#52606d", "#ffffff"
BLUE, BLUE_PALE, GREEN, GREEN_PALE = "#1d5fa8", "#e6f0fa", "#2b7a4b", "#e5f4ea"


def box(
    draw: ImageDraw.ImageDraw,
    corners: tuple[int, int, int, int],
    title: str,
    lines: tuple[str, ...],
    colours: tuple[str, str],
) -> None:
    """Draw a box with a title and lines below it; corners in pixels of the README."""
    left, top, right, bottom = (SCALE * value for value in corners)
    edge, fill = colours
    draw.rounded_rectangle(
        (left, top, right, bottom), radius=10 * SCALE, fill=fill, outline=edge, width=2 * SCALE
    )
    middle = (left + right) // 2
    texts = [(title, 17, edge), *((line, 14, INK) for line in lines)]
    y = (top + bottom) / 2 - SCALE * 11 * (len(texts) - 1)
    for text, size, colour in texts:
        font = ImageFont.load_default(size * SCALE)
        draw.text((middle, y), text, font=font, fill=colour, anchor="mm")
        y += 22 * SCALE


def arrow(draw: ImageDraw.ImageDraw, start: tuple[int, int], end: tuple[int, int]) -> None:
    """Draw an arrow to the right, in pixels of the README."""
    (x0, y0), (x1, y1) = ((SCALE * x, SCALE * y) for x, y in (start, end))
    head = 9 * SCALE
    draw.line((x0, y0, x1 - head, y1), fill=GREY, width=2 * SCALE)
    draw.polygon([(x1, y1), (x1 - head, y1 - head * 0.6), (x1 - head, y1 + head * 0.6)], fill=GREY)


def main() -> None:
    """Draw the workflow: chips and model -> task -> results and logs."""
    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), PAPER)
    draw = ImageDraw.Draw(image)
    blue, green = (BLUE, BLUE_PALE), (GREEN, GREEN_PALE)
    box(draw, (10, 30, 210, 130), "chips", ("one tar of", "jpeg, png and tif chips"), blue)
    box(draw, (10, 170, 210, 270), "model", ("one trained Keras", "classifier (.h5)"), blue)
    ports = ("", "classes, size, deploy_batch,", "normalization_vector,", "normalization_value")
    lines = ("warp, preprocess, classify", "batch by batch", *ports)
    box(draw, (285, 40, 515, 260), "deploy-chip-classifier", lines, (INK, "#f5f7fa"))
    box(draw, (590, 30, 790, 130), "results", ("classified.json:", "class and certainty"), green)
    box(draw, (590, 170, 790, 270), "logs", ("out.log:", "times and warnings"), green)
    arrow(draw, (210, 80), (285, 110))
    arrow(draw, (210, 220), (285, 190))
    arrow(draw, (515, 110), (590, 80))
    arrow(draw, (515, 190), (590, 220))
    IMAGES.mkdir(exist_ok=True)
    image.quantize(64).save(IMAGES / "deploy-wf.png", optimize=True)


if __name__ == "__main__":
    main()
