"""Lambda layers that are plain arithmetic, as operations; none of their code is ever run.

A Lambda layer is code of Python in a model file: `x / 127.5 - 1`, most often. What cannot be run
can be read: `code_object` takes the code apart, and here each instruction is carried out on symbols
instead of arrays. `x` is a Tensor without values, `/` adds a division to a `Graph`, and `K.mean`
is a name that is looked up in a table of functions. The result is a model within the model, of the
same operations that tf.keras and Keras 3 store as layers of their own.

What is in no table is refused: an instruction (a jump, so any if or loop), a name that the file
does not hold, a function that is not known to be mere arithmetic, a method of an array.
"""

from __future__ import annotations

from typing import Any

from keras_files.advice import STANDARD
from keras_files.code_object import Code, CodeError, read_code
from keras_files.lambda_machine import Machine
from keras_files.model_file import ModelError
from keras_files.network import Era, Layer, Network, Tensor
from keras_files.symbols import Graph, as_array, as_plain

# co_flags of a function with *args or **kwargs, of a generator, of a coroutine.
UNPLAIN_FLAGS = 0x04 | 0x08 | 0x20 | 0x80 | 0x100 | 0x200


def convert_lambda(layer: Layer, inputs: int | None, era: Era) -> None:
    """Turn a Lambda layer into a model of operations (kind "Network"), in place.

    Args:
        inputs: the number of arrays in the list on which it is called, None if it is no list.

    Raises:
        ModelError: it is more than plain arithmetic; the sentence names what is not allowed.
    """
    try:
        layer.network = translate(layer, inputs, era)
    except CodeError as error:
        raise ModelError(
            f"{layer} runs Python code from the file, which is never done, and cannot be read as "
            f"plain arithmetic: {error}: {STANDARD}"
        ) from error
    layer.kind, layer.config = "Network", {"class_name": "Lambda", "inputs": inputs}


def translate(layer: Layer, inputs: int | None, era: Era) -> Network:
    """Return the operations of a Lambda layer; as `convert_lambda`, but raises CodeError."""
    text, defaults, closure = _stored_function(layer.config)
    arguments = layer.config.get("arguments") or {}
    networks, refusals = [], []
    for code in read_code(text):
        graph = Graph(layer.name, inputs or 1, era)
        value = graph.inputs[0] if inputs is None else list(graph.inputs)
        try:
            variables = _bind(code, value, defaults, arguments)
            result = Machine(code, graph, variables, closure).run()
            networks.append(graph.network(_outputs(result)))
        except CodeError as error:
            refusals.append(error)
    # Versions of Python that write code in the same form have the same number for each instruction
    # of the table below, so that they can only agree; if ever they do not, the file is refused.
    if not networks:
        raise refusals[0]
    if any(network != networks[0] for network in networks[1:]):
        raise CodeError("its code has another meaning in another version of Python")
    return networks[0]


def _stored_function(config: dict[str, Any]) -> tuple[str, list[Any], list[Any]]:
    """Return the code, the defaults of its last parameters, the values of its closure."""
    function = config.get("function")
    if isinstance(function, dict) and function.get("class_name") == "__lambda__":
        stored = function["config"]
        function = [stored["code"], stored.get("defaults"), stored.get("closure")]
    if function is None:
        raise CodeError("the file has no function for it")
    if not isinstance(function, list) or config.get("function_type", "lambda") != "lambda":
        name = function.get("config") if isinstance(function, dict) else function
        raise CodeError(f"the file holds only the name of a function, {str(name)[:100]!r}")
    text, defaults, closure = function
    if not isinstance(text, str):
        raise CodeError("its code is damaged")
    return text, [_stored(v) for v in defaults or []], [_stored(v) for v in closure or []]


def _stored(value: Any) -> Any:
    """Return a default, a value of the closure or an argument: numbers, text, lists of them."""
    if isinstance(value, dict) and value.get("type") == "ndarray":  # Keras 2
        return as_array(value["value"])
    if isinstance(value, dict) and value.get("class_name") == "__numpy__":  # Keras 3
        return as_array(value["config"]["value"])
    if isinstance(value, dict) and value.get("class_name") == "__tuple__":
        return tuple(_stored(item) for item in value["items"])
    if isinstance(value, dict):
        raise CodeError("it uses a value of the file that is no number, text or list")
    return as_plain(value)


def _bind(code: Code, value: Any, defaults: list[Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the parameters: the layer's input, its arguments, the defaults."""
    names = code.variables[: code.parameters]
    if code.flags & UNPLAIN_FLAGS:
        raise CodeError("its parameters are not all named, or it gives no plain value")
    if not names or len(names) != code.parameters or len(defaults) > len(names):
        raise CodeError("it has no parameter for the array that it is called on")
    if {"mask", "training"} & set(names[1:]):
        raise CodeError("it has a parameter 'mask' or 'training', which Keras sets itself")
    values = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))
    for key, argument in arguments.items():
        if key not in names[1:]:
            raise CodeError(f"it has no parameter {key[:100]!r}, for which there is a value")
        values[key] = _stored(argument)
    values[names[0]] = value
    if missing := [name for name in names if name not in values]:
        raise CodeError(f"the file has no value for its parameter '{missing[0]}'")
    return values


def _outputs(result: Any) -> list[Tensor]:
    """Return the arrays that it gives."""
    outputs = list(result) if isinstance(result, (list, tuple)) else [result]
    if not outputs or not all(isinstance(output, Tensor) for output in outputs):
        raise CodeError("it gives something that does not depend on the array it is called on")
    return outputs
