"""Make the sample in tests/sample/input: synthetic aerial chips and a model trained on others.

    python tests/make_sample.py

Everything is drawn and trained from fixed seeds: fields, woods, bare soil and water with tracks,
and on every other chip one to four houses with a two-sided roof and a shadow. The name of a chip
says what it shows (b = buildings, n = none); the task does not look at it. It has the truth from
ref.geojson, whose features lie side by side in an invented place. Two of their labels are wrong, as
labels sometimes are, so that the page has something to find.
"""

import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np

SAMPLE = Path(__file__).parent / "sample" / "input"
CLASSES = ("No Buildings", "Buildings")
MODEL_SIZE = 64
CHIPS = 60
TRAINING_CHIPS = 1200
# Means of R, G, B that the task subtracts by default; chips here are B, G, R as OpenCV has them.
MEAN_BGR = np.array([103.939, 116.779, 123.68], np.float32)

# The upper left corner of the first chip, and the size of a pixel on the ground.
LONGITUDE, LATITUDE = 16.48, 48.26
PIXEL_METRES = 0.5
METRES_PER_DEGREE = 111_195  # of latitude, on a sphere of 6,371 km
CHIPS_PER_ROW = 10
WRONG_LABELS = (14, 41)  # numbers of chips

GROUNDS_BGR = {
    "meadow": (70, 125, 95),
    "field": (85, 145, 160),
    "soil": (95, 125, 165),
    "wood": (45, 80, 50),
    "water": (110, 85, 45),
}
ROOFS_BGR = ((60, 75, 165), (70, 70, 120), (150, 150, 155), (205, 205, 210), (95, 100, 105))


def blotches(rng: np.random.Generator, size: int, scale: float) -> np.ndarray:
    """Draw smooth noise: float32 (size, size), mean 0, standard deviation 1."""
    noise = cv2.GaussianBlur(rng.standard_normal((size, size)).astype(np.float32), (0, 0), scale)
    return (noise - noise.mean()) / noise.std()


def draw_ground(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw a landscape without buildings: float32 (size, size, 3), B, G, R, 0 to 255."""
    land = [name for name in GROUNDS_BGR if name != "water"]
    names = [str(rng.choice(land)), str(rng.choice(list(GROUNDS_BGR)))]
    first, second = (np.array(GROUNDS_BGR[name], np.float32) for name in names)
    share = blotches(rng, size, size / 5)[..., None] > rng.uniform(0.3, 2.5)
    ground = np.where(share, second, first)
    ground = cv2.GaussianBlur(ground, (0, 0), size / 60)
    if names[0] == "field" and rng.random() < 0.6:  # rows of a crop
        y, x = np.mgrid[:size, :size].astype(np.float32)
        angle, period = rng.uniform(0, np.pi), size * rng.uniform(0.04, 0.1)
        rows = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period)
        ground += 9 * rows[..., None]
    ground += 7 * blotches(rng, size, size / 25)[..., None]
    if rng.random() < 0.4:  # a track
        angle = rng.uniform(0, np.pi)
        centre = rng.uniform(0.2, 0.8, 2) * size
        reach = 2 * size * np.array([np.cos(angle), np.sin(angle)])
        ends = [tuple(int(v) for v in centre + sign * reach) for sign in (-1, 1)]
        shade = rng.uniform(130, 185)
        cv2.line(ground, *ends, (shade, shade, shade + 8), max(1, round(size * 0.04)), cv2.LINE_AA)
    for _ in range(rng.integers(0, 9)):  # single trees with their shadows
        x, y = rng.integers(0, size, 2).tolist()
        radius = max(1, round(size * rng.uniform(0.02, 0.05)))
        cv2.circle(ground, (x + radius, y + radius), radius, (30, 45, 35), -1, cv2.LINE_AA)
        cv2.circle(ground, (x, y), radius, (50, 95, 60), -1, cv2.LINE_AA)
    return ground


def draw_house(rng: np.random.Generator, chip: np.ndarray, centre: np.ndarray) -> None:
    """Draw a house with a shadow and a roof of two sides, one in the light, around a centre."""
    size = chip.shape[0]
    length, width = size * rng.uniform(0.2, 0.32), size * rng.uniform(0.13, 0.19)
    angle = rng.uniform(0, np.pi)
    along = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    across = np.array([-np.sin(angle), np.cos(angle)]) * width / 2
    roof = np.array(ROOFS_BGR[rng.integers(len(ROOFS_BGR))]) + rng.uniform(-15, 15)

    def fill(corners: list[np.ndarray], colour: np.ndarray) -> None:
        points = np.round(np.array(corners) * 16).astype(np.int32)
        cv2.fillPoly(chip, [points], colour.tolist(), cv2.LINE_AA, shift=4)

    outline = [along + across, along - across, -along - across, across - along]
    shadow = centre + size * np.array([0.045, 0.045])
    fill([shadow + corner for corner in outline], np.array([35.0, 38.0, 36.0]))
    fill([centre + c for c in (along, -along, -along - across, along - across)], roof * 1.12)
    fill([centre + c for c in (along, -along, across - along, along + across)], roof * 0.78)


def draw_chip(rng: np.random.Generator, size: int, buildings: bool) -> np.ndarray:
    """Draw one chip: uint8 (size, size, 3), B, G, R."""
    drawn = 2 * size  # drawn twice as large, so that edges are soft as in an image from above
    chip = draw_ground(rng, drawn)
    if buildings:
        cells = [np.array([x, y]) for x in (0.28, 0.72) for y in (0.28, 0.72)]
        for cell in rng.permutation(cells)[: rng.integers(1, 5)]:
            draw_house(rng, chip, (cell + rng.uniform(-0.06, 0.06, 2)) * drawn)
    chip = cv2.resize(chip, (size, size), interpolation=cv2.INTER_AREA)
    chip = chip * rng.uniform(0.85, 1.15) + rng.normal(0, 2.5, chip.shape)
    return np.clip(chip, 0, 255).astype(np.uint8)


def preprocess(chips: list[np.ndarray]) -> np.ndarray:
    """Preprocess chips as the task documents it: float32 (N, 64, 64, 3)."""
    warped = [cv2.resize(chip, (MODEL_SIZE, MODEL_SIZE)) for chip in chips]
    return np.array(warped, np.float32) - MEAN_BGR


def train(path: Path) -> None:
    """Train a small CNN on chips of its own and save it."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(7)
    rng = np.random.default_rng(2017)
    labels = np.arange(TRAINING_CHIPS) % 2
    sizes = rng.integers(64, 129, TRAINING_CHIPS)
    chips = [draw_chip(rng, int(s), bool(y)) for s, y in zip(sizes, labels, strict=True)]
    model = keras.Sequential([keras.Input((MODEL_SIZE, MODEL_SIZE, 3)), layers.Rescaling(1 / 64)])
    for filters in (12, 24, 32, 48):
        model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D())
    model.add(layers.GlobalMaxPooling2D())
    model.add(layers.Dense(2, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x = preprocess(chips)
    model.fit(x, labels, batch_size=32, epochs=4, validation_split=0.1, verbose=2)
    # The scaling becomes part of the first kernel: a model that scales its input itself looks as if
    # it had been trained on values from 0 to 255.
    kernel, bias = model.layers[1].get_weights()
    model = keras.Sequential([keras.Input((MODEL_SIZE, MODEL_SIZE, 3)), *model.layers[1:]])
    model.layers[0].set_weights([kernel / 64, bias])
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path, include_optimizer=False)


def write_archive(path: Path) -> None:
    """Draw the chips to be classified and write them to a tar, one of them cut off."""
    rng = np.random.default_rng(60)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number in range(CHIPS):
            buildings = bool(rng.integers(2))
            size = int(rng.choice((64, 80, 96, 128)))
            suffix = (".jpg", ".jpg", ".jpg", ".jpg", ".png", ".tif")[number % 6]
            size = min(size, 80) if suffix != ".jpg" else size
            options = [cv2.IMWRITE_JPEG_QUALITY, 90] if suffix == ".jpg" else []
            data = cv2.imencode(suffix, draw_chip(rng, size, buildings), options)[1].tobytes()
            if number == 37:
                data = data[: len(data) // 3]
            member = tarfile.TarInfo(f"chips/{'b' if buildings else 'n'}{number:02}{suffix}")
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))


def write_reference(path: Path, archive: Path) -> None:
    """Write the features that the chips could have been cut at: squares in rows, with the truth."""
    lines = []
    with tarfile.open(archive) as tar:
        for number, member in enumerate(tar):
            name = Path(member.name).stem
            row, column = divmod(number, CHIPS_PER_ROW)
            size = MODEL_SIZE * PIXEL_METRES / METRES_PER_DEGREE
            shrink = np.cos(np.radians(LATITUDE))
            west = LONGITUDE + (column + 0.4 * (row % 2)) * 1.15 * size / shrink
            south = LATITUDE - (row + 1) * 1.15 * size
            east, north = west + size / shrink, south + size
            ring = [(west, south), (east, south), (east, north), (west, north), (west, south)]
            shows_buildings = (name[0] == "b") != (number in WRONG_LABELS)
            properties = {"feature_id": name, "class_name": CLASSES[shows_buildings]}
            coordinates = [[[round(x, 7), round(y, 7)] for x, y in ring]]
            geometry = {"type": "Polygon", "coordinates": coordinates}
            feature = {"type": "Feature", "properties": properties, "geometry": geometry}
            lines.append(json.dumps(feature))
    collection = ",\n".join(lines)
    path.write_text(f'{{"type": "FeatureCollection", "features": [\n{collection}\n]}}\n')


def main() -> None:
    """Write the whole sample."""
    train(SAMPLE / "model" / "model.h5")
    write_archive(SAMPLE / "chips" / "chips.tar")
    write_reference(SAMPLE / "chips" / "ref.geojson", SAMPLE / "chips" / "chips.tar")
    ports = {"classes": ", ".join(CLASSES)}
    (SAMPLE / "ports.json").write_text(json.dumps(ports, indent=4) + "\n")


if __name__ == "__main__":
    main()
