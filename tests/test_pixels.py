"""Models get the numbers of the files, or the pixels of their training's function: whole runs."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import rasterio

import chip_files
from chip_classifier.classifier import Classifier
from chip_classifier.decode import Decoder
from chip_classifier.errors import TaskError, UndecodableChip
from chip_classifier.log import Warnings
from chip_classifier.ports import LOADINGS, Ports
from chip_classifier.settings import settle
from chip_files import assert_succeeded, make_tar, make_work_dir, pillow, run_task, scene
from keras_files.open_model import open_model
from tif_layouts import gdal_tif

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

SIZE = 16
KINDS = ("uint8", "uint16", "int16", "uint32", "float32", "float64")
LAYOUTS = (
    {},
    {"interleave": "band", "compress": "LZW", "predictor": 2},
    {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "DEFLATE"},
    {"compress": "LERC_ZSTD", "ENDIANNESS": "BIG"},
    {"SPARSE_OK": "TRUE", "nodata": 7, "BIGTIFF": "YES"},
)
# What the issue promises; float32 through a convolution and a softmax stays well below.
TOLERANCE = 1e-5


def numbers(seed: int, bands: int, kind: str) -> np.ndarray:
    """Make (bands, SIZE, SIZE) of a type: reflectance x 10,000, or what a byte holds of it."""
    rng = np.random.default_rng(seed)
    values = rng.normal(1500, 1200, (bands, SIZE, SIZE))
    if kind == "uint8":
        return (values % 256).astype(np.uint8)
    return values.clip(0 if kind.startswith("u") else None).astype(kind)


def save_cnn(path: Path, bands: int) -> object:
    """Save a small CNN that tells bands and values apart; give it."""
    import keras

    keras.utils.set_random_seed(bands)
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, bands)),
            keras.layers.Conv2D(8, 3, activation="tanh"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.save(path)
    return model


def read_with_rasterio(data: bytes) -> np.ndarray:
    """Read all bands as a training program does, float32 (H, W, bands)."""
    with rasterio.MemoryFile(data) as file, file.open() as image:
        return np.moveaxis(image.read(), 0, -1).astype(np.float32)


@pytest.mark.parametrize("bands", [1, 3, 4, 8, 13])
def test_answers_are_the_models_for_what_rasterio_reads(bands: int, tmp_path: Path) -> None:
    model = save_cnn(tmp_path / "model.keras", bands)
    chosen = tuple(range(1, bands + 1))
    files = [
        gdal_tif(numbers(seed, bands, kind), **layout)
        for seed, (kind, layout) in enumerate(itertools.product(KINDS, LAYOUTS))
        if (kind, layout.get("predictor")) not in (("float32", 2), ("float64", 2))
    ]
    assert None not in files
    opened = open_model(tmp_path / "model.keras")
    ports = Ports(
        values="native", preprocessing="none", normalization_value=(3000.0,), bands=chosen
    )
    classifier = Classifier(opened, settle(ports, opened), len(files), Warnings())
    decoder = Decoder(classifier.settings.preprocessing.bands, values="native")
    chips = [decoder.decode(data) for data in files]
    assert {chip.dtype.name for chip in chips} == {"uint8", "uint16", "float32"}
    for kind in ("uint8", "uint16", "float32"):
        rows = [row for row, chip in enumerate(chips) if chip.dtype == kind]
        outputs = classifier(np.stack([chips[row] for row in rows]))
        read = np.stack([read_with_rasterio(files[row]) for row in rows])
        expected = model.predict(read / np.float32(3000), verbose=0)
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=TOLERANCE)


def resized(data: bytes) -> np.ndarray:
    """Resize what rasterio reads, bilinear in float64, pixel by pixel, (SIZE, SIZE, bands)."""
    pixels = read_with_rasterio(data).astype(np.float64)
    for axis in (0, 1):
        length = pixels.shape[axis]
        at = ((np.arange(SIZE) + 0.5) * length / SIZE - 0.5).clip(0, length - 1)
        low = np.floor(at).astype(int)
        share = (at - low).reshape(-1, 1, 1) if axis == 0 else (at - low).reshape(1, -1, 1)
        high = np.minimum(low + 1, length - 1)
        pixels = pixels.take(low, axis) * (1 - share) + pixels.take(high, axis) * share
    return pixels


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_resized_in_float32(kind: str) -> None:
    data = gdal_tif(numbers(1, 5, kind)[:, :11, :9])
    out = np.empty((SIZE, SIZE, 5), np.uint8)
    pixels = Decoder((1, 2, 3, 4, 5), values="native").decode_into(out, data).pixels
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, resized(data), rtol=1e-5, atol=1e-2)  # of thousands


@pytest.fixture(scope="module")
def native_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[chip_files.Run, dict, object]:
    """A run over chips of four bands: the types come one after the other, d are resized."""
    folder = tmp_path_factory.mktemp("native")
    model = save_cnn(folder / "model.keras", 4)
    chips = {f"a{n:02}.tif": gdal_tif(numbers(n, 4, "uint8")) for n in range(9)}
    chips |= {f"b{n:02}.tif": gdal_tif(numbers(n, 4, "uint16")) for n in range(20)}
    chips |= {f"c{n:02}.tif": gdal_tif(numbers(n, 4, "float32")) for n in range(9)}
    chips |= {f"d{n}.tif": gdal_tif(numbers(n, 4, "uint16")[:, : 9 + n, :11]) for n in range(3)}
    chips["e.tif"] = gdal_tif(numbers(1, 4, "int16"))
    holes = numbers(5, 4, "float32")
    holes[3, 0, :8] = np.nan
    chips["nan.tif"] = gdal_tif(holes, nodata=np.nan)
    ports = {"values": "native", "preprocessing": "none", "probabilities": "True"}
    ports |= {"normalization_value": "3000", "deploy_batch": "6"}
    archive = make_tar([(f"chips/{name}", data) for name, data in chips.items()])
    work_dir = make_work_dir(folder / "w", archive, folder / "model.keras", ports)
    run = run_task(work_dir)
    assert run.code == 0, run.stderr
    return run, chips, model


def test_a_run_gives_the_models_answers_for_numbers_of_any_types(native_run: tuple) -> None:
    run, chips, model = native_run
    names = [name for name in chips if name != "nan.tif"]
    expected = model.predict(np.stack([resized(chips[name]) for name in names]) / 3000, verbose=0)
    assert list(run.classified) == [name.removesuffix(".tif") for name in names]
    answers = [[*entry["probabilities"].values()] for entry in run.classified.values()]
    np.testing.assert_allclose(answers, expected, rtol=0, atol=TOLERANCE)


def test_a_chip_with_nan_is_unclassified_by_name(native_run: tuple) -> None:
    (reason,) = native_run[0].unclassified.values()
    assert reason.startswith("3.1% of its pixels are no numbers (NaN)")  # 8 of 256


def test_a_single_pixel_with_nan_is_not_called_none() -> None:
    hole = np.ones((3, 100, 100), np.float32)
    hole[0, 5, 5] = np.nan
    with pytest.raises(UndecodableChip, match=r"^0\.1% of its pixels are no numbers"):
        Decoder(values="native").decode(gdal_tif(hole))


def test_the_page_shows_numbers_stretched_and_says_so(native_run: tuple) -> None:
    run, chips, _ = native_run
    page = (run.work_dir / "output" / "logs" / "preview.html").read_text()
    first = np.stack([read_with_rasterio(chips[f"a{n:02}.tif"]) for n in range(6)])
    low, high = np.percentile(first[..., 0], (2, 98))
    assert f"2nd to the 98th percentile of the first batch: {low:.4g} to {high:.4g}, " in page
    assert f"band 1: least {first[..., 0].min() / 3000:.4g}, " in page


@pytest.mark.parametrize(
    ("ports", "part"),
    [
        ({}, "set the port preprocessing to none"),
        ({"preprocessing": "tf"}, "preprocessing tf are for values from 0 to 255"),
        ({"preprocessing": "none", "bit_depth": 11}, "bit_depth makes 8 bits"),
        ({"preprocessing": "none", "loading": LOADINGS[1]}, "makes 8 bits"),
    ],
)
def test_ports_made_for_0_to_255_are_refused_beside_native(
    ports: dict[str, object], part: str, tmp_path: Path
) -> None:
    save_cnn(tmp_path / "model.keras", 3)
    with pytest.raises(TaskError, match=part):
        settle(Ports(values="native", **ports), open_model(tmp_path / "model.keras"))


def test_numbers_that_would_be_odd_for_0_to_255_are_no_warning(tmp_path: Path) -> None:
    save_cnn(tmp_path / "model.keras", 3)
    ports = Ports(values="native", preprocessing="none", normalization_vector=(0.1, 0.2, 0.3))
    assert settle(ports, open_model(tmp_path / "model.keras")).warnings == ()


@pytest.mark.parametrize("loading", LOADINGS[1:])
def test_a_run_loads_chips_as_the_training_did(loading: str, tmp_path: Path) -> None:
    model = save_cnn(tmp_path / "model.keras", 3)
    images = [scene(n, SIZE + 3 * (n % 3), SIZE + 5 * (n % 2), 3) for n in range(12)]
    chips = {f"{n:02}.jpg": pillow(image, "jpeg", quality=80) for n, image in enumerate(images)}
    archive = make_tar([(f"chips/{name}", data) for name, data in chips.items()])
    ports = {"loading": loading, "preprocessing": "zero_to_one", "probabilities": "True"}
    ports |= {"deploy_batch": "5"}
    work_dir = make_work_dir(tmp_path / "w", archive, tmp_path / "model.keras", ports)
    run = assert_succeeded(run_task(work_dir))
    pixels = np.stack([load_by_hand(data, loading) for data in chips.values()])
    expected = model.predict(pixels / np.float32(255), verbose=0)
    answers = [[*entry["probabilities"].values()] for entry in run.classified.values()]
    np.testing.assert_allclose(answers, expected, rtol=0, atol=TOLERANCE)
    assert f"Port loading: {loading}" in (work_dir / "output" / "logs" / "out.log").read_text()


def load_by_hand(data: bytes, loading: str) -> np.ndarray:
    """Load a jpeg as a user's script does, float32 (SIZE, SIZE, 3)."""
    import keras
    import tensorflow as tf
    from PIL import Image, ImageOps

    if loading == "image_dataset_from_directory":
        return tf.image.resize(tf.io.decode_jpeg(data, channels=3), (SIZE, SIZE)).numpy()
    if loading == "flow_from_directory":
        image = keras.utils.load_img(io.BytesIO(data), target_size=(SIZE, SIZE))
        return keras.utils.img_to_array(image)
    image = Image.open(io.BytesIO(data)).convert("RGB")
    image = ImageOps.fit(image, (SIZE, SIZE), Image.Resampling.LANCZOS)
    return np.asarray(image).astype(np.float32)


def test_another_way_of_loading_is_another_task(tmp_path: Path) -> None:
    """What is in force must be the same for a run to go on where another was cut short."""
    save_cnn(tmp_path / "model.keras", 3)
    model = open_model(tmp_path / "model.keras")
    ports = [Ports(preprocessing="none", loading=loading) for loading in LOADINGS]
    ports.append(Ports(preprocessing="none", values="native"))
    in_force = [settle(one, model).in_force for one in ports]
    assert all(one != other for one, other in itertools.combinations(in_force, 2))
