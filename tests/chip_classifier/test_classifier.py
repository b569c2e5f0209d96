"""The answers do not depend on how they are computed: batch size, threads, execution, memory."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chip_classifier.classifier import Classifier, interpret
from chip_classifier.log import Warnings
from chip_classifier.ports import Ports
from chip_classifier.settings import settle
from chip_files import (
    assert_succeeded,
    command,
    make_tar,
    make_work_dir,
    png,
    run_task,
    scene,
)
from keras_files.head import Head
from keras_files.open_model import open_model

MODEL = Path(__file__).parents[1] / "models" / "keras3151_effblock.h5"
SIZE = (48, 48)
CHIPS = 150
# What the task promises; float32 rounding through such a network stays well below it.
TOLERANCE = 1e-5


def load_classifier(batch_size: int = 100) -> Classifier:
    """Load the model with the default ports."""
    model = open_model(MODEL)
    return Classifier(model, settle(Ports(size=SIZE[0]), model), batch_size, Warnings())


@pytest.fixture(scope="module")
def archive() -> bytes:
    """Make an archive of chips of several sizes."""
    return make_tar([(f"chips/{i}.png", png(scene(i, 40 + i % 17, 48, 3))) for i in range(CHIPS)])


@pytest.fixture(scope="module")
def answers(archive: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Classify the archive with the defaults."""
    work_dir = make_work_dir(
        tmp_path_factory.mktemp("default") / "w", archive, MODEL, {"size": "48"}
    )
    return assert_succeeded(run_task(work_dir)).classified


def assert_same(answers: dict[str, dict], others: dict[str, dict]) -> None:
    """Compare two classified.json: the same chips in the same order, classes and certainties."""
    assert list(answers) == list(others)
    for name, answer in answers.items():
        assert answer["class"] == others[name]["class"]
        assert answer["certainty"] == pytest.approx(others[name]["certainty"], abs=TOLERANCE)


@pytest.mark.parametrize("batch", ["1", "7", "149", "100000"])
def test_batch_size_does_not_matter(
    batch: str, archive: bytes, answers: dict[str, dict], tmp_path: Path
) -> None:
    work_dir = make_work_dir(tmp_path / "w", archive, MODEL, {"size": "48", "deploy_batch": batch})
    assert_same(answers, assert_succeeded(run_task(work_dir)).classified)


def test_number_of_threads_does_not_matter(
    archive: bytes, answers: dict[str, dict], tmp_path: Path
) -> None:
    work_dir = make_work_dir(tmp_path / "w", archive, MODEL, {"size": "48"})
    core = str(min(os.sched_getaffinity(0)))
    subprocess.run(["taskset", "--cpu-list", core, *command(work_dir)], check=True, timeout=300)
    assert "CPU, 1 cores" in (work_dir / "output" / "logs" / "out.log").read_text()
    classified = work_dir / "output" / "results" / "classified.json"
    assert_same(answers, json.loads(classified.read_text()))


CLASSIFY_BLACK_CHIPS = """
import numpy as np
from test_classifier import SIZE, load_classifier
classifier = load_classifier()
import tensorflow as tf
tf.compat.v1.image  # some models need it, and it loads TensorFlow's tests
print(classifier(np.zeros((2, *SIZE, 3), np.uint8)).shape)
"""


def test_no_file_needs_to_be_written() -> None:
    """As in a container that is read-only, where Python finds no directory for temporary files."""
    done = subprocess.run(
        [sys.executable, "-c", CLASSIFY_BLACK_CHIPS],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == "(2, 4)\n", done.stderr


def test_gpu_multiplies_in_full_float32() -> None:
    """The setting that TensorFlow keeps: the processor, on which this runs, has no TF32."""
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(True)
    load_classifier()
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


@pytest.mark.parametrize(
    ("outputs", "is_logit", "classes", "certainties"),
    [
        ([[0.25, 0.5, 0.25], [0.75, 0.125, 0.125]], False, [1, 0], [0.5, 0.75]),
        ([[-3.0, -2.0], [8.0, 4.0]], False, [1, 0], [-2, 8]),
        ([[0.75], [0.25], [0.5]], False, [1, 0, 0], [0.75, 0.75, 0.5]),
        ([[2.5], [-2.5], [0.0], [0.25]], True, [1, 0, 0, 1], [2.5, -2.5, 0, 0.25]),
        ([[1.0], [0.0]], False, [1, 0], [1, 1]),
    ],
)
def test_outputs_are_interpreted(
    outputs: list[list[float]],
    is_logit: bool,
    classes: list[int],
    certainties: list[float],
) -> None:
    outputs = np.array(outputs, np.float32)
    found, certainty, values = interpret(outputs, Head("linear" if is_logit else None))
    assert found.tolist() == classes
    assert certainty.tolist() == certainties
    assert values[:, -1].tolist() == outputs[:, -1].tolist()
