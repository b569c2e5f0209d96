"""The activations of Keras by name: since when each exists, and what else its name may mean."""

from __future__ import annotations

from typing import Any

from keras_files.advice import CHANGED, STANDARD
from keras_files.model_file import ModelError
from keras_files.network import Era, words

# Name -> since when it is one of Keras, see Era.has: in the package, in tf.keras, in Keras 3.
# Sources: activations.py of each version.
ACTIVATIONS = {
    **dict.fromkeys(words("hard_sigmoid linear relu sigmoid softmax softplus tanh"), "1.0 2.0 3.0"),
    "celu": "- - 3.7",
    "elu": "1.1.1 2.0 3.0",
    "exponential": "2.2.3 2.2.4 3.0",
    "gelu": "- 2.4 3.0",
    "hard_shrink": "- - 3.7",
    "hard_swish": "- - 3.1",
    "hard_tanh": "- - 3.7",
    "leaky_relu": "- - 3.0",
    "log_sigmoid": "- - 3.7",
    "log_softmax": "- - 3.0",
    "mish": "- 2.13 3.0",
    "relu6": "- - 3.0",
    "selu": "2.0.6 2.0 3.0",
    "soft_shrink": "- - 3.7",
    "softsign": "1.0.4 2.0 3.0",
    "sparse_plus": "- - 3.8",
    "sparse_sigmoid": "- - 3.10",
    "squareplus": "- - 3.7",
    "swish": "- 2.4 3.0",
    "tanh_shrink": "- - 3.7",
}
NOT_COMPUTED = words("glu sparsemax threshold")

# Second names: of Keras 3, and those that functions of TensorFlow have within themselves.
ALIASES = {
    "hard_silu": "hard_swish",
    "log_softmax_v2": "log_softmax",
    "silu": "swish",
    "softmax_v2": "softmax",
}

# What a function of the user's own is taken for, with a warning: names that TensorFlow's functions
# of one formula have (`activation=tf.nn.elu` is stored as "elu"), or that all people gave to one.
# Others are refused: there is more than one gelu, hard_swish and celu.
ONE_FORM = {
    "elu": "x, and exp(x) - 1 below 0",
    "leaky_relu": "x, and 0.2 * x below 0, as tf.nn.leaky_relu",
    "log_softmax": "log(softmax(x))",
    "mish": "x * tanh(softplus(x))",
    "relu": "max(x, 0)",
    "relu6": "min(max(x, 0), 6)",
    "selu": "selu(x)",
    "sigmoid": "1 / (1 + exp(-x))",
    "softmax": "exp(x) / sum(exp(x))",
    "softplus": "log(1 + exp(x))",
    "softsign": "x / (1 + abs(x))",
    "swish": "x * sigmoid(x)",
    "tanh": "tanh(x)",
}
# In the keras package people wrote these themselves, in several forms.
_SEVERAL_FORMS_IN_THE_PACKAGE = {"leaky_relu", "swish"}


def settle_activation(value: Any, owner: Any, era: Era) -> tuple[str, str | None]:
    """Return the name of the formula of an activation, and a warning or None.

    Args:
        value: as a configuration has it: a name, or what Keras 3 writes of a function.
        owner: the layer, for sentences, and for its name.

    Raises:
        ModelError: it is none of this version of Keras, and its name may mean several formulas.
    """
    own_code = isinstance(value, dict)
    if own_code:
        name = value.get("class_name", "Python code")
        value = value["config"] if name == "function" else name
    if value is None:
        return "linear", None
    name = ALIASES.get(value, value) if isinstance(value, str) else value
    if era.keras == 3 and name == "hard_sigmoid" and not own_code:
        return "hard_sigmoid_keras3", None
    if name in NOT_COMPUTED and era.keras == 3:
        raise ModelError(
            f"{owner} has the activation '{name}', which is one of Keras, but is not computed here "
            f"yet: {STANDARD}"
        )
    has_name = name == value or era.keras == 3  # second names came with Keras 3
    if name in ACTIVATIONS and not own_code and has_name and era.has(ACTIVATIONS[name]):
        warning = (
            f"{owner} has the activation 'gelu', computed as that of TensorFlow 2.4: in TensorFlow "
            "2.3, which writes the same version into its files, it is custom code."
        )
        return name, warning if name == "gelu" and era.version == "2.4.0" else None
    if value in ALIASES and value.endswith("_v2"):
        return name, None
    if name == "swish" and era.has_efficientnet:
        return name, None
    if name == "relu6" and not own_code and getattr(owner, "name", "").endswith("_relu"):
        return name, None  # MobileNet of keras.applications wrote it, in layers of such names
    if name in ONE_FORM and not (era.is_package and name in _SEVERAL_FORMS_IN_THE_PACKAGE):
        return name, (
            f"{owner} has the activation '{value}', computed as {ONE_FORM[name]}: it is custom "
            f"code in this version of Keras ({era.version}), whose formula the file does not hold."
        )
    known = name in ACTIVATIONS
    why = f", for Keras {era.version} has none of that name" if known and not own_code else ""
    raise ModelError(
        f"{owner} has the custom activation '{value}'{why}, so the file does not hold its formula: "
        f"put it into a Lambda layer, or take a standard one; {CHANGED}"
    )
