r"""Compare TensorFlow, as the task runs it, with ONNX Runtime and OpenVINO, on the same weights.

    python3 -m venv /tmp/runtimes
    /tmp/runtimes/bin/pip install -r requirements.txt openvino==2026.4.1 \
        onnxruntime==1.32.0 tf2onnx==1.17.0
    /tmp/runtimes/bin/python tests/measure/runtimes.py             speed, start, memory, sizes
    /tmp/runtimes/bin/python tests/measure/runtimes.py --models    what of tests/models they compute

What is compared is the task's own function for the ResNet50 of benchmark.py: preprocessing in
front, normalizations within the convolutions. Its graph, with the weights as constants, is what
tf2onnx and OpenVINO convert. Each party is a process, and computes when it is its turn: chips that
are decoded already, uint8 (N, 224, 224, 3), two parts of 25 chips at a time as the task does.

OpenVINO is forced to float32; by itself it rounds to bfloat16 where the processor has it, which is
measured beside it. A table of Markdown is printed. The exit code is 1 if a party that computes in
float32 gives other answers than the task.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distribution
from pathlib import Path

import benchmark
import numpy as np

sys.path.insert(0, str(benchmark.SCRIPT.parent))

SIZE = 224
PART = 25  # chips, as chip_classifier/replica.py has it on a processor
NAMES = {
    "task": "TensorFlow, as the task runs it",
    "onnx": "ONNX Runtime",
    "openvino": "OpenVINO, float32",
    "openvino-own": "OpenVINO, as it chooses",
}
# What a user would install beside the task, to run and to convert.
PACKAGES = {
    "onnx": (("onnxruntime",), ("tf2onnx", "onnx")),
    "openvino": (("openvino", "openvino-telemetry"), ()),
}

Compute = Callable[[np.ndarray], np.ndarray]


# ------------------------------------------------------------------------------------ conversion


def freeze(function: Callable) -> tuple[bytes, str, str]:
    """Return a concrete function's graph with its weights as constants, its input and output."""
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    frozen = convert_variables_to_constants_v2(function)
    return (
        frozen.graph.as_graph_def().SerializeToString(),
        frozen.inputs[0].name,
        frozen.outputs[0].name,
    )


def to_onnx(graph: bytes, ends: tuple[str, str], path: Path) -> None:
    """Convert a frozen graph to an ONNX file."""
    import tensorflow as tf
    import tf2onnx

    definition = tf.compat.v1.GraphDef.FromString(graph)
    tf2onnx.convert.from_graph_def(
        definition, input_names=[ends[0]], output_names=[ends[1]], opset=18, output_path=str(path)
    )


def to_openvino(graph: bytes, path: Path) -> None:
    """Convert a frozen graph to OpenVINO's own files, the weights as float32."""
    import openvino

    path.with_suffix(".pb").write_bytes(graph)
    openvino.save_model(
        openvino.convert_model(path.with_suffix(".pb")), path, compress_to_fp16=False
    )


def convert(folder: Path) -> dict[str, float]:
    """Convert model.h5 in a folder to model.onnx and model.xml; return the seconds for each."""
    task = load_task(folder)  # which holds the weights
    graph, *ends = freeze(task.replicas[0].function)
    started = time.perf_counter()
    to_openvino(graph, folder / "model.xml")
    between = time.perf_counter()
    to_onnx(graph, tuple(ends), folder / "model.onnx")
    return {"openvino": between - started, "onnx": time.perf_counter() - between}


# --------------------------------------------------------------------------------------- parties


def load_task(folder: Path) -> Callable:
    """Return the task's classifier for model.h5."""
    from chip_classifier.environment import prepare_environment

    prepare_environment()
    from chip_classifier.classifier import Classifier
    from chip_classifier.log import Warnings
    from chip_classifier.ports import Ports
    from chip_classifier.settings import settle
    from keras_files.open_model import open_model

    model = open_model(folder / "model.h5")
    return Classifier(model, settle(Ports(size=SIZE), model), 100, Warnings())


def load(name: str, folder: Path) -> Compute:
    """Return a party as a function of chips, which it takes in parts."""
    if name.startswith("openvino"):
        return load_openvino(folder / "model.xml", is_float32=name == "openvino")
    compute = load_task(folder) if name == "task" else load_onnx(folder / "model.onnx")
    pool = ThreadPoolExecutor(2)
    return lambda chips: np.concatenate(list(pool.map(compute, parts_of(chips))))


def parts_of(chips: np.ndarray) -> list[np.ndarray]:
    """Return chips in parts of 25."""
    return [chips[first : first + PART] for first in range(0, len(chips), PART)]


def load_onnx(path: Path) -> Compute:
    """Return an ONNX file as a function of a part."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (chips,) = session.get_inputs()
    return lambda part: session.run(None, {chips.name: part})[0]


def load_openvino(path: Path, is_float32: bool) -> Compute:
    """Return a model of OpenVINO's as a function, which computes as many parts as it wants."""
    import openvino

    settings = {"PERFORMANCE_HINT": "THROUGHPUT"}
    if is_float32:
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    waiting = openvino.AsyncInferQueue(compiled)

    def keep(done: openvino.InferRequest, place: tuple[list, int]) -> None:
        outputs, number = place
        outputs[number] = done.get_output_tensor(0).data.copy()

    waiting.set_callback(keep)

    def compute(chips: np.ndarray) -> np.ndarray:
        parts = parts_of(chips)
        outputs: list = [None] * len(parts)
        for number, part in enumerate(parts):
            waiting.start_async({0: part}, (outputs, number))
        waiting.wait_all()
        return np.concatenate(outputs)

    compute.precision = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    return compute


def serve(name: str, folder: Path) -> None:
    """Be a party: print its precision when the first chip is answered, and obey.

    For each number that is read, so many chips are computed, and the seconds printed. At the end,
    the outputs for the chips lie in the folder, and the peak of the memory, in MiB, is printed.
    """
    chips = np.load(folder / "chips.npy")
    compute = load(name, folder)
    compute(chips[:1])
    print(getattr(compute, "precision", "f32"), flush=True)
    compute(chips)  # to warm up
    for line in sys.stdin:
        many = np.resize(chips, (int(line), *chips.shape[1:]))
        started = time.perf_counter()
        compute(many)
        print(time.perf_counter() - started, flush=True)
    np.save(folder / f"{name}.npy", compute(chips))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


# --------------------------------------------------------------------------------------- measure


def measure(folder: Path, chips: int, rounds: int) -> dict[str, dict]:
    """Run the parties in turns; return what was measured of each."""
    np.save(
        folder / "chips.npy",
        np.random.default_rng(7).integers(0, 256, (100, SIZE, SIZE, 3), np.uint8),
    )
    found: dict[str, dict] = {}
    parties, seconds = {}, {}
    for name in NAMES:
        started = time.perf_counter()
        parties[name] = subprocess.Popen(
            [sys.executable, __file__, "--serve", name, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        precision = parties[name].stdout.readline().strip()
        found[name] = {"precision": precision, "start": time.perf_counter() - started}
        ask(parties[name], 1)  # it is warm, and has nothing more to do until it is asked
    for _ in range(rounds):
        for name, party in parties.items():
            seconds.setdefault(name, []).append(ask(party, chips))
    for name, party in parties.items():
        memory, _ = party.communicate()
        found[name] |= {
            "rate": chips / statistics.median(seconds[name]),
            "memory": float(memory),
            "outputs": np.load(folder / f"{name}.npy"),
        }
    return found


def ask(party: subprocess.Popen, chips: int) -> float:
    """Have a party compute so many chips; return the seconds."""
    party.stdin.write(f"{chips}\n")
    party.stdin.flush()
    return float(party.stdout.readline())


def size_of(packages: tuple[str, ...]) -> float:
    """Return the MB that packages take when installed, without what they bring along."""
    files = [file for name in packages for file in distribution(name).files or ()]
    paths = [Path(file.locate()) for file in files]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def print_table(found: dict[str, dict], conversion: dict[str, float]) -> None:
    """Print what was measured, a column for each party."""
    task = found["task"]
    rows = {
        "computes in": [f["precision"] for f in found.values()],
        "chips/s, the model alone": [f"{f['rate']:.1f}" for f in found.values()],
        "over the task's": [f"{f['rate'] / task['rate']:.2f}" for f in found.values()],
        "from the command to the first answer, s": [f"{f['start']:.1f}" for f in found.values()],
        "start and 2,000 chips (a) by that rate, s": [
            f"{f['start'] + 2000 / f['rate']:.1f}" for f in found.values()
        ],
        "start and 200 chips (c) by that rate, s": [
            f"{f['start'] + 200 / f['rate']:.1f}" for f in found.values()
        ],
        "peak memory, MiB": [f"{f['memory']:,.0f}" for f in found.values()],
        "largest difference from the task's outputs": [
            f"{np.abs(f['outputs'] - task['outputs']).max():.0e}" for f in found.values()
        ],
        "chips of 100 in another class": [
            str((f["outputs"].argmax(1) != task["outputs"].argmax(1)).sum()) for f in found.values()
        ],
        "conversion, once for a model, s": [
            f"{conversion[n.partition('-')[0]]:.1f}" if n != "task" else "" for n in found
        ],
    }
    sizes = {name: tuple(size_of(names) for names in several) for name, several in PACKAGES.items()}
    rows["packages beside the task's, to compute, MB"] = [
        f"{sizes[n.partition('-')[0]][0]:.0f}" if n != "task" else "0" for n in found
    ]
    rows["and to convert, MB"] = [
        f"{sizes[n.partition('-')[0]][1]:.0f}" if n != "task" else "0" for n in found
    ]
    print(f"| | {' | '.join(NAMES[name] for name in found)} |\n|{' --- |' * (len(found) + 1)}")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |")
    versions = ("tensorflow", "onnxruntime", "tf2onnx", "openvino")
    print("\n" + ", ".join(f"{name} {distribution(name).version}" for name in versions))


# ---------------------------------------------------------------------------------- other models


def compare_model(path: Path, folder: Path) -> dict[str, str]:
    """Return what becomes of a model of tests/models: nothing where the task does not open it.

    For each converter "agrees", "differs by ..." or the first line of its error.
    """
    import tensorflow as tf

    from keras_files.open_model import ModelError, open_model

    try:
        model = open_model(path).build()
    except ModelError:
        return {}
    shape = [size or 32 for size in model.input_shape[1:]]
    x = np.random.default_rng(8).integers(0, 256, (4, *shape)).astype(np.float32)
    function = tf.function(model, autograph=False).get_concrete_function(
        tf.TensorSpec((None, *shape), tf.float32)
    )
    expected, (graph, *ends) = function(tf.constant(x)).numpy(), freeze(function)
    found = {}
    for name in PACKAGES:
        try:
            if name == "onnx":
                to_onnx(graph, tuple(ends), folder / "model.onnx")
                outputs = load_onnx(folder / "model.onnx")(x)
            else:
                to_openvino(graph, folder / "model.xml")
                outputs = load_openvino(folder / "model.xml", is_float32=True)(x)
            apart = float(np.abs(outputs - expected).max() / max(1.0, np.abs(expected).max()))
            found[name] = "agrees" if apart <= benchmark.TOLERANCE else f"differs by {apart:.0e}"
        except Exception as error:  # noqa: BLE001, whatever a converter raises is what is asked
            found[name] = str(error).strip().splitlines()[0][:150]
    return found


def compare_models() -> None:
    """Print, for each model of tests/models that the task opens, what the converters make of it."""
    agreeing, models = dict.fromkeys(PACKAGES, 0), 0
    paths = sorted((benchmark.SCRIPT.parent / "tests" / "models").iterdir())
    for path in (path for path in paths if path.suffix in (".h5", ".keras")):
        with tempfile.TemporaryDirectory() as folder:
            found = compare_model(path, Path(folder))
        models += bool(found)
        for name, said in found.items():
            agreeing[name] += said == "agrees"
            if said != "agrees":
                print(f"{path.name}: {NAMES[name]}: {said}", flush=True)
    print(f"{models} models that the task opens; right: " + str(agreeing))


def main() -> int:
    """Parse the command line and measure; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few chips, one round")
    parser.add_argument("--models", action="store_true", help="what of tests/models they compute")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--convert", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve[0], Path(arguments.serve[1]))
        return 0
    if arguments.convert:
        print(json.dumps(convert(arguments.convert)))
        return 0
    if arguments.models:
        compare_models()
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        code = f"import benchmark; benchmark.save_model('ResNet50', {SIZE}, "
        benchmark.run(["-c", f"{code}{str(folder / 'model.h5')!r})"])
        conversion = json.loads(benchmark.run([__file__, "--convert", scratch]).output)
        found = measure(folder, *((25, 1) if arguments.quick else (200, 5)))
    print_table(found, conversion)
    expected = found["task"]["outputs"]
    apart = [np.abs(found[name]["outputs"] - expected).max() for name in ("onnx", "openvino")]
    return int(max(apart) > benchmark.TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
