"""Open thousands of damaged model files: each is refused in a sentence, or gives the right numbers.

    python tests/measure/fuzz_models.py --count 2000 --seed 1

One of the models of tests/models has bytes changed, zeroed or cut off, arrays and groups taken
away, exchanged or written in another way, or its configuration changed. A file that holds what the
model held must give the model's numbers; one with other weights or another configuration may give
others. Prints what became of them; the exit code is 1 if one took too long, crashed the process,
ended in another error than a ModelError, or gave other numbers without a reason. The same seed
makes the same files.
"""

import argparse
import json
import os
import queue
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import h5py
import numpy as np

from keras_files.model_file import Array, Contents, Group, ModelError, naming, open_checked
from keras_files.open_model import open_model
from keras_files.pinned_file import PinnedFile

MODELS = Path(__file__).resolve().parents[1] / "models"
SECONDS = 120  # for one file, on a busy machine: its computing takes up to 30 s
WORKERS = 2
MEMORY_BYTES = 8 * 2**30  # of a worker; an array of a model may have 1 GiB
SIGNATURES = (b"GCOL", b"HEAP", b"TREE", b"SNOD", b"\x89HDF", b"OHDR", b"FRHP")
VALUES = (None, True, False, -1, 0, 1, 2, 3, 7, 100, 2**31, 10**12, 1.5, 1e300, "", "same", "relu")

Mutation = Callable[[random.Random, Path], None]


def change_bytes(rng: random.Random, path: Path) -> None:
    """Flip bits, zero or overwrite a block, often near a structure of HDF5, or cut the file off."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    if rng.random() < 0.6:
        places = [
            place
            for signature in SIGNATURES
            for place in range(len(data))
            if data.startswith(signature, place)
        ]
        at = min(len(data) - 1, rng.choice(places) + rng.randrange(200))
    length = rng.choice((1, 2, 4, 8, 16, 64, 128, 160))
    kind = rng.randrange(10)
    if kind == 0:
        del data[at:]
    elif kind < 4:
        data[at : at + length] = bytes(length)[: len(data) - at]
    elif kind < 7:
        data[at : at + length] = rng.randbytes(length)[: len(data) - at]
    else:
        for _ in range(rng.choice((1, 3, 30))):
            data[rng.randrange(at, min(len(data), at + 300))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def change_structure(rng: random.Random, path: Path) -> None:
    """Take away, exchange, rewrite or add an array, a group or an attribute."""
    with h5py.File(path, "a") as file:
        arrays: list[str] = []
        groups: list[str] = []

        def note(name: str, item: object) -> None:
            (arrays if isinstance(item, h5py.Dataset) else groups).append(name)

        file.visititems(note)
        name, other, group = rng.choice(arrays), rng.choice(arrays), rng.choice(groups)
        values = file[name][()]
        kind = rng.randrange(10)
        if kind == 0:
            del file[rng.choice((name, group))]
        elif kind == 1:
            file[group].attrs.pop(rng.choice([*file[group].attrs, "x"]), None)
        elif kind == 2 and name != other:
            file.move(name, "spare")
            file.move(other, name)
            file.move("spare", other)
        elif kind == 3:
            rewrite(file, name, values.ravel()[: rng.randrange(values.size + 1)])
        elif kind == 4:
            rewrite(file, name, np.asarray(values, rng.choice(("f2", ">f4", "f8", "i4", "S4"))))
        elif kind == 5:
            rewrite(file, name, values, chunks=True, compression="gzip", shuffle=True)
        elif kind == 6:
            rewrite(file, name, values.T.copy() if values.ndim > 1 else values[None])
        elif kind == 7:
            names = file[group].attrs.get("weight_names", file[group].attrs.get("layer_names"))
            if names is not None and len(names):
                key = "weight_names" if "weight_names" in file[group].attrs else "layer_names"
                mixed = rng.choices(np.asarray(names, "S").tolist(), k=len(names))
                file[group].attrs[key] = np.array(mixed)
        elif kind == 8:
            file[rng.choice((name, group))].attrs["more"] = rng.choice((1, "x", b"\xff", [1.5] * 9))
        else:
            file[f"{group}/more"] = rng.choice((h5py.SoftLink("/"), h5py.ExternalLink("/x", "/")))


def rewrite(file: h5py.File, name: str, values: np.ndarray, **options: object) -> None:
    """Write an array anew in another form."""
    del file[name]
    file.create_dataset(name, data=values, **(options if values.ndim else {}))


def change_configuration(rng: random.Random, path: Path) -> None:
    """Change, take away, repeat or exchange one to three entries of the configuration."""
    with h5py.File(path, "a") as file:
        text = file.attrs["model_config"]
        document = json.loads(text)
        for _ in range(rng.choice((1, 1, 2, 3))):
            places = list(entries(document))
            holder, key = rng.choice(places)
            kind = rng.randrange(6)
            if kind < 3:
                holder[key] = rng.choice(VALUES)
            elif kind == 3:
                del holder[key]
            elif kind == 4:
                other, other_key = rng.choice(places)
                holder[key] = json.loads(json.dumps(other[other_key]))
            elif isinstance(holder, list):
                rng.shuffle(holder)
        file.attrs["model_config"] = json.dumps(document)


def entries(document: object) -> Iterator[tuple[object, object]]:
    """Yield the (holder, key) of all that lies in a JSON document."""
    if isinstance(document, (dict, list)):
        keys = document if isinstance(document, dict) else range(len(document))
        for key in list(keys):
            yield document, key
            yield from entries(document[key])


MUTATIONS: tuple[Mutation, ...] = (change_bytes, change_structure, change_configuration)


def make(folder: Path, seed: int, number: int) -> tuple[Path, str, dict]:
    """Make damaged file number `number`; give its path, the model's name and what was done."""
    rng = random.Random(f"{seed} {number}")
    index = json.loads((MODELS / "index.json").read_text())
    names = sorted(
        name
        for name, entry in index.items()
        if entry["expect"] != "refuse" and name.endswith(".h5") and (MODELS / name).is_file()
    )
    name = rng.choice(names)
    path = folder / f"{number}.h5"
    path.write_bytes((MODELS / name).read_bytes())
    mutation = MUTATIONS[number % len(MUTATIONS)]
    mutation(rng, path)
    return path, mutation.__name__, {**index[name], "name": name}


def arrays_of(group: Group) -> dict[str, object]:
    """Return all arrays below a group, and the texts of the groups, by their paths."""
    found: dict[str, object] = {"": group.attrs}
    for name, item in group.items.items():
        if isinstance(item, Array):
            found[f"/{name}"] = item
        else:
            found |= {f"/{name}{path}": value for path, value in arrays_of(item).items()}
    return found


def difference(contents: Contents, sound: Contents) -> str:
    """Say in what a file differs from the model that it was made of: "" if in nothing."""
    found, expected = arrays_of(contents.root), arrays_of(sound.root)
    relevant = [path for path in expected if not path.startswith("/optimizer")]
    for path in relevant:
        before, now = expected[path], found.get(path)
        if not isinstance(before, Array):
            if before != now:
                return "other configuration"
        elif not isinstance(now, Array) or now.shape != before.shape:
            return "other structure"
        elif before.dtype.kind in "fiub" and not np.array_equal(
            np.asarray(now.read(), np.float32), np.asarray(before.read(), np.float32)
        ):
            return "other weights"
    return ""


def outcome(path: Path, entry: dict) -> str:
    """Open a damaged file, compute it if it holds anything new, and say what came of it."""
    import tensorflow as tf

    data = np.load((MODELS / entry["name"]).with_suffix(".npz"))
    try:
        opened = open_model(path, entry["task"], classes=entry.get("classes"))
        sound = open_checked(PinnedFile(MODELS / entry["name"]))
        change = difference(open_checked(PinnedFile(path)), sound)
        if not change:
            return "the same contents"
        model = opened.build()
        function = tf.function(model, autograph=False)
        try:
            y = np.asarray(function(tf.constant(data["x"])))
        except (tf.errors.OpError, ValueError) as error:
            with naming(path):
                raise model.failure(error) from error
    except ModelError as error:
        text = str(error)
        bad = "\n" in text or "Traceback" in text or len(text) > 2000 or str(MODELS.parent) in text
        if bad:
            return f"BROKEN: no sentence: {text}"
        return "refused, at a limit" if "to look at it" in text else "refused"
    except Exception as error:  # noqa: BLE001, it is what is looked for
        return f"BROKEN: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if y.shape == data["y"].shape and np.allclose(y, data["y"], rtol=0, atol=1e-3, equal_nan=True):
        return "the same numbers"
    return f"other numbers, {change}"


def work(folder: Path, seed: int, numbers: range) -> None:
    """What a worker does: print the outcome of each file as a line."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for number in numbers:
        path, kind, entry = make(folder, seed, number)
        result = outcome(path, entry)
        print(json.dumps([number, kind, entry["name"], result]), flush=True)
        if not result.startswith("BROKEN"):
            path.unlink()


def supervise(folder: Path, seed: int, numbers: range, found: list[list]) -> None:
    """Have the files of some numbers opened, one process for as many as it survives."""
    while numbers:
        command = [sys.executable, __file__, "--seed", str(seed), "--folder", str(folder)]
        command += ["--numbers", str(numbers.start), str(numbers.stop), str(numbers.step)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")
        lines: queue.SimpleQueue = queue.SimpleQueue()

        def read(process: subprocess.Popen = process, lines: queue.SimpleQueue = lines) -> None:
            for line in process.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        problem = ""
        while numbers and not problem:
            try:
                line = lines.get(timeout=SECONDS)
                problem = "" if line else f"BROKEN: crash, exit code {process.wait()}"
            except queue.Empty:
                problem = f"BROKEN: not done after {SECONDS} s"
            found.append([numbers[0], "?", "?", problem] if problem else json.loads(line))
            numbers = numbers[1:]
        process.kill()
        process.wait()


def fuzz(folder: Path, count: int, seed: int) -> list[str]:
    """Open so many damaged files, print what became of them; return the promises that it broke."""
    started, found = time.monotonic(), []
    threads = [
        threading.Thread(target=supervise, args=(folder, seed, range(first, count, WORKERS), found))
        for first in range(WORKERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally = Counter((kind, result) for _, kind, _, result in found if "BROKEN" not in result)
    print(f"seed {seed}: {len(found):,} files in {time.monotonic() - started:.0f} s")
    for (kind, result), number in sorted(tally.items()):
        print(f"{number:6,}  {kind}: {result}")
    return [
        f"file {number}, {name}, {kind}: {result}"
        for number, kind, name, result in found
        if "BROKEN" in result
    ]


def main() -> int:
    """Parse the command line and fuzz; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2000, help="damaged files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to put those that break a promise")
    parser.add_argument("--numbers", type=int, nargs=3, help=argparse.SUPPRESS)  # of a worker
    arguments = parser.parse_args()
    if arguments.numbers:
        work(arguments.folder, arguments.seed, range(*arguments.numbers))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        broken = fuzz(folder, arguments.count, arguments.seed)
    for promise in broken:
        print(promise)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
