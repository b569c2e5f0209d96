"""Makers of chips, archives, models and work directories, and the task run as a process.

Everything is made from fixed seeds. Chips are as small as their kind allows, so that one archive,
and one start of TensorFlow, serves many tests.
"""

import functools
import importlib.util
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import tifffile
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPT = REPOSITORY / "deploy-chip-classifier.py"

# Exit codes of a failed task: its input has to be changed; another try may mend it.
FINAL, TRY_AGAIN = 1, 75

# Generous: the machine that runs the tests may be busy, and loading TensorFlow takes seconds.
TIMEOUT_SECONDS = 180

Member = tuple[str, bytes] | tarfile.TarInfo


def decode_chip(
    data: bytes, bands: tuple[int, ...] | None = (3, 2, 1), bit_depth: int | None = None
) -> np.ndarray:
    """Decode an image file with the decoder under test; arguments and result as of Decoder."""
    from chip_classifier.decode import Decoder  # the task of other tests may be another one

    return Decoder(bands, bit_depth).decode(data)


# ------------------------------------------------------------------------------ the task, as a run


def _refuse_constant(name: str) -> None:
    """Refuse NaN and Infinity, which are no JSON."""
    raise ValueError(f"{name} is no JSON")


def read_json(path: Path) -> object:
    """Read a file as strict JSON; None if there is no such file."""
    if not path.exists():
        return None
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)


def load_task() -> ModuleType:
    """Import the entry script; its name has hyphens, so that `import` cannot."""
    spec = importlib.util.spec_from_file_location("deploy_chip_classifier", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Run:
    """What one run of the task left behind.

    work_dir: its work directory; code: its exit code; stdout, stderr: what it wrote there;
    imported_tensorflow: whether TensorFlow was asked for; always False for a run that had it.
    """

    work_dir: Path
    code: int
    stdout: str
    stderr: str
    imported_tensorflow: bool = False

    @property
    def status(self) -> dict[str, str | None]:
        """The content of status.json."""
        return read_json(self.work_dir / "status.json")

    @property
    def classified(self) -> dict[str, dict] | None:
        """The content of classified.json, or None if there is none."""
        return read_json(self.work_dir / "output" / "results" / "classified.json")

    @property
    def unclassified(self) -> dict[str, str] | None:
        """The content of unclassified.json, or None if there is none."""
        return read_json(self.work_dir / "output" / "results" / "unclassified.json")

    @property
    def log(self) -> str:
        """The content of out.log."""
        return (self.work_dir / "output" / "logs" / "out.log").read_text(encoding="utf-8")

    def warnings(self, part: str = "") -> list[str]:
        """Return the warnings in out.log that contain a text."""
        return [line for line in self.log.splitlines() if " WARNING " in line and part in line]


def command(work_dir: Path, *arguments: str) -> list[str]:
    """Return the command line of the task for a work directory."""
    return [sys.executable, str(SCRIPT), "--work-dir", str(work_dir), *arguments]


def run_task(work_dir: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Run:
    """Run the task as a process, with additional environment variables."""
    done = subprocess.run(
        command(work_dir, *arguments),
        capture_output=True,
        check=False,
        encoding="utf-8",
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        timeout=TIMEOUT_SECONDS,
    )
    return Run(work_dir, done.returncode, done.stdout, done.stderr)


def run_without_tensorflow(work_dir: Path, *arguments: str) -> Run:
    """Run the task where TensorFlow cannot be imported, and note whether it tried.

    A check that comes before TensorFlow is loaded is not disturbed by that.
    """
    lure = work_dir.parent / f"{work_dir.name}-lure"
    package = lure / "tensorflow"
    package.mkdir(parents=True)
    tried = lure / "tried"
    (package / "__init__.py").write_text(
        f"open({str(tried)!r}, 'w').close()\nraise ImportError('not in this test')\n"
    )
    path = os.pathsep.join(filter(None, (str(lure), os.environ.get("PYTHONPATH"))))
    run = run_task(work_dir, *arguments, environment={"PYTHONPATH": path})
    return Run(work_dir, run.code, run.stdout, run.stderr, imported_tensorflow=tried.exists())


def assert_failed(run: Run, code: int = FINAL) -> str:
    """Check all that the contract says of a failed run with this exit code; give its reason."""
    reason = run.status["reason"]
    assert run.status == {"status": "failed", "reason": reason}
    assert run.code == code
    assert run.stderr.splitlines()[-1] == reason
    assert reason.endswith((".", ")"))
    assert reason.isprintable()
    assert reason in run.log
    assert run.classified is None or " are still those of a run of " in reason
    assert "Traceback" not in run.stderr
    return reason


def fail_before_tensorflow(work_dir: Path, *arguments: str) -> str:
    """Run the task, which must fail without importing TensorFlow, and give the reason."""
    run = run_without_tensorflow(work_dir, *arguments)
    reason = assert_failed(run)
    assert not run.imported_tensorflow
    return reason


def assert_succeeded(run: Run) -> Run:
    """Check all that the contract says of a run in which every chip was classified.

    A warning is in out.log, on stderr and, the first one, in status.json.
    """
    assert run.code == 0, run.stderr
    warnings = [line.partition(" WARNING ")[2] for line in run.warnings()]
    assert run.stderr.splitlines() == [f"Warning: {warning}" for warning in warnings]
    more = f" ({len(warnings) - 1} more in out.log)" if len(warnings) > 1 else ""
    reason = f"Warning{more}: {warnings[0]}" if warnings else None
    assert run.status == {"status": "success", "reason": reason}
    assert run.unclassified is None
    return run


def files_below(folder: Path) -> list[str]:
    """List the files below a directory, as sorted relative paths."""
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if not f.is_dir())


def make_work_dir(
    folder: Path,
    chips: bytes | None,
    model: Path | None,
    ports: Mapping[str, str] | str | None = None,
    archive_name: str = "chips.tar",
) -> Path:
    """Make a work directory.

    Args:
        folder: a directory that does not exist yet.
        chips: the archive, or None for an empty directory.
        model: the model file, which is linked to, or None for an empty directory.
        ports: the string ports, or the text of ports.json, or None for no such file.
        archive_name: file name of the archive.
    Returns:
        The folder.
    """
    for name in ("chips", "model"):
        (folder / "input" / name).mkdir(parents=True)
    if chips is not None:
        (folder / "input" / "chips" / archive_name).write_bytes(chips)
    if model is not None:
        (folder / "input" / "model" / model.name).hardlink_to(model)
    if ports is not None:
        text = ports if isinstance(ports, str) else json.dumps(ports)
        (folder / "input" / "ports.json").write_text(text, encoding="utf-8")
    return folder


# -------------------------------------------------------------------------------------- archives


def header(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    """Make the header of a member without data: a directory, a link, a device."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def make_tar(
    members: Iterable[Member], mode: str = "w", tar_format: int = tarfile.GNU_FORMAT
) -> bytes:
    """Make a tar archive of (name, data) pairs and of headers without data."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=tar_format) as tar:
        for entry in members:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
            else:
                member = tarfile.TarInfo(entry[0])
                member.size = len(entry[1])
                tar.addfile(member, io.BytesIO(entry[1]))
    return buffer.getvalue()


# ----------------------------------------------------------------------------------------- chips


def scene(seed: int, *shape: int, kind: type = np.uint8) -> np.ndarray:
    """Make an image of noise over the whole range of its type, bands in the order R, G, B."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, np.iinfo(kind).max, shape, kind, endpoint=True)


def uniform_png(red: int, green: int, blue: int, size: int = 4) -> bytes:
    """Make a png chip of one colour."""
    return cv2.imencode(".png", np.full((size, size, 3), (blue, green, red), np.uint8))[1].tobytes()


def png(pixels: np.ndarray) -> bytes:
    """Encode R, G, B pixels (or grey ones) as png, 8 or 16 bits, without loss."""
    bands = {2: slice(None), 3: (..., [2, 1, 0])}[pixels.ndim]
    return cv2.imencode(".png", pixels[bands])[1].tobytes()


def pillow(image: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    """Encode an image with Pillow."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tif(pixels: np.ndarray, **options: object) -> bytes:
    """Encode pixels as tif with tifffile."""
    buffer = io.BytesIO()
    bigtiff, byteorder = options.pop("bigtiff", False), options.pop("byteorder", "<")
    with tifffile.TiffWriter(buffer, bigtiff=bigtiff, byteorder=byteorder) as writer:
        writer.write(pixels, metadata=None, **options)
    return buffer.getvalue()


def interlaced_png(pixels: np.ndarray) -> bytes:
    """Encode uint8 (H, W, 3) pixels as png with the seven passes of Adam7 (PNG, section 8.2)."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2))
    lines = b""
    for top, left, down, right in (*passes, (1, 0, 2, 1)):
        part = pixels[top::down, left::right]
        if part.size:
            lines += b"".join(b"\0" + row.tobytes() for row in part)
    return png_file(pixels.shape[1], pixels.shape[0], zlib.compress(lines), interlace=1)


def png_file(width: int, height: int, data: bytes, interlace: int = 0, colour: int = 2) -> bytes:
    """Put a png file of 8-bit samples together from its compressed lines."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bgr(image: np.ndarray) -> np.ndarray:
    """Return an R, G, B (or grey) image as OpenCV has it: B, G, R, without further bands."""
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    return np.ascontiguousarray(image[..., 2::-1])


# What np does to an upright image to get what a camera of each EXIF orientation stored (TIFF 6.0,
# tag 274).
STORED_AS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, 1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}


@functools.cache
def readable_chips() -> dict[str, tuple[bytes, np.ndarray | None]]:
    """Make one chip of every kind that the task reads.

    Returns:
        File name -> its bytes, and the pixels that it must be read as, uint8 (H, W, 3), B, G, R;
        None where the encoding or OpenCV's reader rounds them.
    """
    rgb, grey, alpha = scene(1, 24, 20, 3), scene(2, 24, 20), scene(3, 24, 20, 1)
    rgb16, grey16 = scene(4, 24, 20, 3, kind=np.uint16), scene(5, 24, 20, kind=np.uint16)
    palette = Image.fromarray(rgb).quantize(16)
    bits = Image.fromarray(grey).point(lambda value: 255 * (value > 127)).convert("1", dither=0)
    smooth = cv2.resize(scene(6, 5, 4, 3), (20, 24))  # jpeg keeps more of this than of noise
    cmyk = Image.fromarray(smooth).convert("CMYK")
    read8, read_grey = bgr(rgb), bgr(grey)
    read16, read_grey16 = (bgr((image >> 8).astype(np.uint8)) for image in (rgb16, grey16))
    read_palette = bgr(np.asarray(palette.convert("RGB")))
    read_bits = bgr(np.asarray(bits.convert("L")))
    geotiff = [  # ModelPixelScale, ModelTiepoint, GeoKeyDirectory: UTM zone 33 N, 0.5 m pixels
        (33550, "d", 3, (0.5, 0.5, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 400000.0, 500000.0, 0.0), True),
        (34735, "H", 8, (1, 1, 0, 1, 3072, 0, 1, 32633), True),
    ]
    color, tiled = {"photometric": "rgb"}, {"tile": (16, 16)}
    eight = scene(7, 24, 20, 8)
    bands = {"photometric": "minisblack", "extrasamples": ["unspecified"] * 7}
    two_pages = io.BytesIO()
    with tifffile.TiffWriter(two_pages) as writer:
        for page in (rgb, 255 - rgb):
            writer.write(page, photometric="rgb", metadata=None)
    chips: dict[str, tuple[bytes, np.ndarray | None]] = {
        "rgb.png": (png(rgb), read8),
        "grey.png": (png(grey), read_grey),
        "rgb_16_bit.png": (png(rgb16), read16),
        "grey_16_bit.png": (png(grey16), read_grey16),
        "rgba.png": (pillow(np.concatenate((rgb, alpha), 2), "png"), read8),
        "grey_alpha.png": (
            pillow(Image.merge("LA", [Image.fromarray(b) for b in (grey, alpha[..., 0])]), "png"),
            read_grey,
        ),
        "palette.png": (pillow(palette, "png"), read_palette),
        "palette_transparent.png": (pillow(palette, "png", transparency=3), read_palette),
        "one_bit.png": (pillow(bits, "png"), read_bits),
        "interlaced.png": (interlaced_png(rgb), read8),
        "one_pixel.png": (png(rgb[:1, :1]), read8[:1, :1]),
        "one_row.png": (png(rgb[:1]), read8[:1]),
        "already_16x16.png": (png(rgb[:16, :16]), read8[:16, :16]),
        "baseline.jpg": (pillow(smooth, "jpeg", quality=90), None),
        "progressive.jpeg": (pillow(smooth, "jpeg", quality=90, progressive=True), None),
        "subsampled.jpg": (pillow(smooth, "jpeg", quality=60, subsampling=2), None),
        "grey.JPG": (pillow(grey, "jpeg"), None),
        "cmyk.jpg": (pillow(cmyk, "jpeg"), None),
        "png_inside.jpg": (png(rgb), read8),
        "jpeg_inside.PNG": (pillow(smooth, "jpeg"), None),
        "tif_inside.jpeg": (tif(rgb, **color), read8),
        "striped.tif": (tif(rgb, rowsperstrip=5, **color), read8),
        "tiled.tif": (tif(rgb, **tiled, **color), read8),
        "tiled_grey.tif": (tif(grey, **tiled), read_grey),
        "tiled_16_bit.tif": (tif(rgb16, **tiled, **color), None),
        "tiled_deflate.TIFF": (tif(rgb, compression="zlib", **tiled, **color), read8),
        "grey.tif": (tif(grey), read_grey),
        "grey_16_bit.tif": (tif(grey16), read_grey16),
        "rgb_16_bit.tif": (tif(rgb16, **color), None),
        "lzw.tif": (pillow(rgb, "tiff", compression="tiff_lzw"), read8),
        "lzw_predictor.tif": (
            pillow(rgb, "tiff", compression="tiff_lzw", tiffinfo={317: 2}),
            read8,
        ),
        "deflate.tif": (pillow(rgb, "tiff", compression="tiff_adobe_deflate"), read8),
        "packbits.tif": (pillow(rgb, "tiff", compression="packbits"), read8),
        "zstd.tif": (pillow(rgb, "tiff", compression="zstd"), read8),
        "jpeg.tif": (pillow(smooth, "tiff", compression="jpeg"), None),
        "one_bit.tif": (pillow(bits, "tiff"), read_bits),
        "palette.tif": (pillow(palette, "tiff"), read_palette),
        "white_is_zero.tif": (tif(grey, photometric="miniswhite"), 255 - read_grey),
        "planar.tif": (tif(np.moveaxis(rgb, 2, 0).copy(), planarconfig="separate", **color), read8),
        "planar_tiled.tif": (
            tif(np.moveaxis(rgb, 2, 0).copy(), planarconfig="separate", **tiled, **color),
            read8,
        ),
        "geotiff.tif": (tif(rgb, extratags=geotiff, **color), read8),
        "big_endian.tif": (tif(rgb, byteorder=">", **color), read8),
        "big_endian_16_bit.tif": (tif(rgb16, byteorder=">", **color), None),
        "bigtiff.tif": (tif(rgb, bigtiff=True, **color), read8),
        "near_infrared.tif": (
            tif(np.concatenate((rgb, alpha), 2), extrasamples=["unspecified"], **color),
            read8,
        ),
        "near_infrared_16_bit.tif": (
            tif(np.concatenate((rgb16, rgb16[..., :1]), 2), extrasamples=["unspecified"], **color),
            None,
        ),
        "alpha.tif": (
            tif(np.concatenate((rgb, alpha), 2), extrasamples=["unassalpha"], **color),
            None,
        ),
        "on_its_side.tif": (
            tif(np.rot90(rgb).copy(), extratags=[(274, "H", 1, 6, True)], **color),
            read8,
        ),
        "two_pages.tif": (two_pages.getvalue(), read8),
        "eight_bands.tif": (tif(eight, planarconfig="contig", **bands), bgr(eight)),
        "eight_bands_planar.tif": (
            tif(np.moveaxis(eight, 2, 0).copy(), planarconfig="separate", **bands),
            bgr(eight),
        ),
        "bmp_inside.jpg": (pillow(rgb, "bmp"), read8),
        "lossless.webp": (pillow(rgb, "webp", lossless=True), read8),
        "smooth.webp": (pillow(smooth, "webp"), None),
        "colors.bmp": (pillow(palette, "bmp"), read_palette),
        "old.jpe": (pillow(smooth, "jpeg"), None),
        "old.jfif": (pillow(grey, "jpeg"), None),
        "lossless.jp2": (pillow(rgb, "jpeg2000"), read8),
    }
    for orientation in STORED_AS:
        exif = Image.Exif()
        exif[274] = orientation
        data = pillow(smooth, "jpeg", quality=90, exif=exif)
        chips[f"orientation_{orientation}.jpg"] = (data, None)
    return chips


@functools.cache
def unreadable_chips() -> dict[str, bytes]:
    """Make one chip of every kind that no reader takes: file name -> its bytes."""
    rgb = scene(1, 24, 20, 3)
    too_large = zlib.compress(bytes(8193 * 8193), 1)  # one byte for the filter, 8192 for the pixels
    return {
        "empty.jpg": b"",
        "random.png": np.random.default_rng(8).bytes(900),
        "text.tif": b"<html>404 Not Found</html>",
        "gif_inside.png": pillow(rgb, "gif"),
        "signature_only.png": b"\x89PNG\r\n\x1a\n",
        "signature_only.tif": b"II*\0",
        "no_pixels.png": png_file(0, 0, b""),
        "no_lines.png": png_file(20, 24, b""),
        "too_many_pixels.png": png_file(8192, 8193, too_large, colour=0),
        "declares_too_many_pixels.png": png_file(100_000, 100_000, b""),
        "too_many_pixels.tif": tif(np.zeros((8193, 8193), np.uint8), compression="zlib"),
        "float.tif": tif(rgb[..., 0].astype(np.float32)),
        "float_rgb.tif": tif(rgb.astype(np.float32) / 255, photometric="rgb"),
        "double.tif": tif(rgb[..., 0].astype(np.float64)),
        "four_byte.tif": tif(rgb[..., 0].astype(np.uint32)),
        "half.jpg": cut(readable_chips()["baseline.jpg"][0], 0.5),
        "most_of_it.jpg": cut(readable_chips()["baseline.jpg"][0], 0.9),
        "half.png": cut(readable_chips()["rgb.png"][0], 0.5),
        "half.tif": cut(readable_chips()["striped.tif"][0], 0.5),
    }


def cut(data: bytes, share: float) -> bytes:
    """Cut a file off, as a broken upload does."""
    return data[: int(len(data) * share)]


# ---------------------------------------------------------------------------------------- models


def checksum_weights(rows: int, columns: int) -> np.ndarray:
    """Return weights for the checksum of a chip: whole numbers, float32 (rows, columns, 3).

    They are so small that the checksum of 8-bit pixels stays below 2**24: each partial sum is then
    exact in float32, in whatever order a device adds them.
    """
    largest = 2**24 // (255 * 3 * rows * columns)
    rng = np.random.default_rng(rows * columns)
    return rng.integers(-largest, largest, (rows, columns, 3), endpoint=True).astype(np.float32)


def checksum(pixels: np.ndarray) -> float:
    """Return the certainty that the model of save_checksum_model has for preprocessed pixels."""
    rows, columns, _ = pixels.shape
    return float((pixels.astype(np.float64) * checksum_weights(rows, columns)).sum())


def save_checksum_model(path: Path, rows: int, columns: int) -> Path:
    """Save a model that answers each chip with class 0 and a checksum of its input.

    Any pixel, row, column or band out of place changes the sum.
    """
    import keras

    dense = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((rows, columns, 3)), keras.layers.Flatten(), dense])
    kernel = np.zeros((rows * columns * 3, 2), np.float32)
    kernel[:, 0] = checksum_weights(rows, columns).ravel()
    dense.set_weights([kernel, np.array([0, -1e9], np.float32)])
    return save_model(path, model)


def save_bands_model(path: Path, size: int | None = 4) -> Path:
    """Save a model whose three outputs are the largest value of each band of its input.

    It has no weights: for a chip of one colour, the outputs are its preprocessed bands as they are.
    """
    import keras

    layers = [keras.Input((size, size, 3)), keras.layers.GlobalMaxPooling2D()]
    return save_model(path, keras.Sequential(layers))


def save_dense_model(
    path: Path, kernel: np.ndarray, bias: np.ndarray, activation: str, size: int = 4
) -> Path:
    """Save a model with one Dense layer behind the mean of each band.

    Args:
        path: where to.
        kernel: float32 (3, K), for the bands B, G, R.
        bias: float32 (K,).
        activation: name of the activation.
        size: rows and columns of its input.
    Returns:
        The path.
    """
    import keras

    dense = keras.layers.Dense(len(bias), activation=activation)
    model = keras.Sequential(
        [keras.Input((size, size, 3)), keras.layers.GlobalAveragePooling2D(), dense]
    )
    dense.set_weights([np.asarray(kernel, np.float32), np.asarray(bias, np.float32)])
    return save_model(path, model)


def edge_kernels() -> np.ndarray:
    """Return two kernels, float32 (3, 3, 3, 2), of small whole numbers, so that sums are exact."""
    return np.random.default_rng(3).integers(-3, 4, (3, 3, 3, 2)).astype(np.float32)


def edges(pixels: np.ndarray) -> list[float]:
    """Return the outputs of the model of save_edges_model for preprocessed pixels (H, W, 3)."""
    windows = np.lib.stride_tricks.sliding_window_view(pixels.astype(np.float64), (3, 3), (0, 1))
    return np.einsum("xybij,ijbk->xyk", windows, edge_kernels()).max(axis=(0, 1)).tolist()


def save_edges_model(path: Path) -> Path:
    """Save a model for chips of any size: the largest answer to each of two 3 x 3 kernels.

    The neighbourhood of every pixel takes part, so that the size of the chip decides.
    """
    import keras

    convolution = keras.layers.Conv2D(2, 3, use_bias=False)
    model = keras.Sequential(
        [keras.Input((None, None, 3)), convolution, keras.layers.GlobalMaxPooling2D()]
    )
    convolution.set_weights([edge_kernels()])
    return save_model(path, model)


def save_model(path: Path, model: object) -> Path:
    """Save a Keras model without its optimizer."""
    model.save(path, include_optimizer=False)
    return path
