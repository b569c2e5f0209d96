"""TensorFlow without the parts that the task does not use: less is loaded, nothing is lost."""

import json
import os
import subprocess
import sys

IMPORT = """
import json, sys
from chip_classifier.classifier import load_tensorflow

tf = load_tensorflow()
deferred = ("keras.src", "tensorflow.lite.python", "tensorflow.python.feature_column")
loaded = [name for name in deferred if name in sys.modules]
sums = [int(tf.data.Dataset.range(4).reduce(tf.constant(0, tf.int64), tf.add))]
sums.append(int(tf.compat.v1.reduce_sum([1, 2, 3])))
sums.append(tf.distribute.get_strategy().num_replicas_in_sync)
import keras
sums.append(float(keras.ops.sum(keras.layers.Rescaling(2.0)(tf.constant([1.0, 3.0])))))
relu = tf.keras.layers.ReLU is keras.layers.ReLU
finders = [type(finder).__name__ for finder in sys.meta_path]
print(json.dumps([loaded, sums, relu, "_Lean" in finders]))
"""


def test_what_is_not_loaded_at_first_is_there_when_it_is_used() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout, done.stderr
    loaded, sums, relu, is_installed = json.loads(done.stdout)
    assert loaded == []
    assert sums == [6, 6, 1, 8.0]
    assert relu
    assert not is_installed
