"""The configuration of a model, of any era, as a Network."""

from __future__ import annotations

import heapq
from typing import Any

from keras_files.advice import CHANGED, NOT_OF_KERAS, STANDARD
from keras_files.convert_layer import NOT_YET, is_of_keras, read_plain_layer, whole
from keras_files.lambdas import convert_lambda
from keras_files.layers import LAYERS
from keras_files.model_file import ModelError
from keras_files.network import (
    Call,
    Era,
    Layer,
    Network,
    Tensor,
    plain,
    tensors_in,
    with_tensors,
    words,
)

# NASNetLarge has 1,041 layers; nested models that use each other twice double with each level.
MAX_CALLS = 10_000

MODELS = {"Functional", "Model", "Sequential"}

# As tf.keras writes them.
KNOWN_REGISTERED = {
    "Custom>CastToFloat32": "CastToFloat32",
    "Custom>CustomScaleLayer": "CustomScaleLayer",
}

# The recurrent layers that Bidirectional may hold, with the number of their states.
STATES = {"ConvLSTM1D": 2, "ConvLSTM2D": 2, "ConvLSTM3D": 2, "GRU": 1, "LSTM": 2, "SimpleRNN": 1}
STATES |= {"GateGRU": 1, "GateLSTM": 2}

BIDIRECTIONAL_MERGES = {
    "ave": "Average",
    "concat": "Concatenate",
    "mul": "Multiply",
    "sum": "Add",
    None: "",
}

DTYPE = "float32"

DTYPES = words("bfloat16 float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64")


def read_layer(entry: dict[str, Any], era: Era) -> Layer:
    """Return a layer, or one with the reason why it cannot be computed."""
    try:
        return _read_known(entry, era)
    except ModelError as error:
        name = entry.get("name") or entry["config"].get("name", "")
        config = {"class_name": entry["class_name"]}
        return Layer("Refused", name, config, refusal=error)


def raise_refusal(network: Network) -> None:
    """Raise what there is against the first layer that cannot be computed."""
    for layer in network.layers:
        if layer.refusal:
            raise layer.refusal
        if layer.network:
            raise_refusal(layer.network)


def has_refusal(layer: Layer) -> bool:
    """Return whether a layer, or one within it, cannot be computed."""
    inner = layer.network.layers if layer.network else []
    return layer.refusal is not None or any(map(has_refusal, inner))


def _read_known(entry: dict[str, Any], era: Era) -> Layer:
    """Return the layer or model of an entry {"class_name": ..., "config": ..., ...}."""
    kind, config = KNOWN_REGISTERED.get(entry["class_name"], entry["class_name"]), entry["config"]
    if kind in MODELS and (isinstance(config, list) or "layers" in config):
        network = (
            _read_sequential(config, era) if kind == "Sequential" else _read_graph(config, era)
        )
        name = entry.get("name") or (config.get("name", "") if isinstance(config, dict) else "")
        return Layer("Network", name, {"class_name": kind}, network.trainable, network=network)
    if kind in READ_APART and is_of_keras(kind, entry):
        return READ_APART[kind](entry.get("name") or config.get("name", ""), config, era)
    layer = read_plain_layer(kind, entry, era)
    if layer.kind == "TimeDistributed":
        inner = read_layer(config["layer"], era)
        start, end = Tensor("", 0, 0), Tensor("inner", 0, 0)
        calls = [Call(inner, "inner", 0, [start], {})]
        _convert_lambdas(calls, era)
        layer.network = Network([inner], calls, [start], [end], [None])
    return layer


def _read_bidirectional(name: str, config: dict[str, Any], era: Era) -> Layer:
    """Return two recurrent layers on one sequence, one of them backwards, as a model inside."""
    entry = config["layer"]
    own = entry["config"]
    turned = {**own, "go_backwards": not own.get("go_backwards", False)}
    entries = (entry, config.get("backward_layer") or {**entry, "config": turned})
    parts = [
        _read_known({**part, "name": f"{side}_{part['config']['name']}"}, era)
        for side, part in zip(("forward", "backward"), entries, strict=True)
    ]
    states = STATES.get(parts[0].kind)
    how = config.get("merge_mode", "concat")
    if states is None or parts[1].kind != parts[0].kind or how not in BIDIRECTIONAL_MERGES:
        raise ModelError(f"layer '{name}' (Bidirectional) of {parts[0]} {NOT_YET}")
    start = Tensor("", 0, 0)
    results = [Tensor(part.name, 0, 0) for part in parts]
    calls = [Call(part, part.name, 0, [start], {}) for part in parts]
    if own.get("return_sequences"):
        turn = {"function": "reverse", "arguments": {"axis": [1]}, "constants": None}
        calls.append(Call(Layer("Operation", "turn", turn), "turn", 0, [results[1]], {}))
        results[1] = Tensor("turn", 0, 0)
    if how is not None:
        merge = Layer(BIDIRECTIONAL_MERGES[how], "merge", {"axis": -1})
        calls.append(Call(merge, "merge", 0, [results], {}))
        results = [Tensor("merge", 0, 0)]
    if own.get("return_state"):
        results += [Tensor(part.name, 0, i + 1) for part in parts for i in range(states)]
    network = Network([call.layer for call in calls], calls, [start], results, [None])
    trainable = config.get("trainable", True)
    return Layer("Network", name, {"class_name": "Bidirectional"}, trainable, network=network)


def _read_cells(name: str, config: dict[str, Any], era: Era) -> Layer:
    """Return the layer for an RNN of a cell that has a layer of its own."""
    cell = config["cell"]
    kind = cell["class_name"].removesuffix("Cell")
    if kind not in ("GRU", "LSTM", "SimpleRNN") or kind == cell["class_name"]:
        raise ModelError(f"layer '{name}' (RNN) of {cell['class_name']} {NOT_YET}")
    merged = {**cell["config"], **config, "name": name, "class_name": "RNN"}
    return _read_known({"class_name": kind, "config": merged, "name": name}, era)


# Layers that hold others.
READ_APART = {"Bidirectional": _read_bidirectional, "RNN": _read_cells}


def _read_sequential(config: dict[str, Any] | list[Any], era: Era) -> Network:
    """Return a chain of layers; up to Keras 2.2.2 its configuration is a plain list."""
    entries = config if isinstance(config, list) else config["layers"]
    layers = [read_layer(entry, era) for entry in entries]
    first = layers[0]
    shape = first.network.shapes[0] if first.network else _declared_shape(first.config)
    dtype = first.network.dtypes[0] if first.network else _declared_dtype(first)
    if shape is None and isinstance(config, dict):
        shape = config.get("build_input_shape")
    start = last = Tensor("", 0, 0)
    calls = []
    for number, layer in enumerate(layers):
        if layer.kind != "InputLayer":
            calls.append(Call(layer, str(number), 0, [last], {}))
            last = Tensor(str(number), 0, 0)
    _convert_lambdas(calls, era)
    trainable = config.get("trainable", True) if isinstance(config, dict) else True
    return Network(layers, calls, [start], [last], [shape], trainable, [dtype])


def _read_graph(config: dict[str, Any], era: Era) -> Network:
    """Return a functional model: its layers say which tensors they were called on."""
    layers, pending = {}, []
    for entry in config["layers"]:
        layer = read_layer(entry, era)
        if layer.name in layers:
            raise ModelError(f"two layers have the name '{layer.name}': {NOT_OF_KERAS}")
        layers[layer.name] = layer
        for number, node in enumerate(entry["inbound_nodes"]):
            pending.append(Call(layer, layer.name, number, *_read_node(node, layer)))
    keys, inputs = _read_ends(config["input_layers"])
    named, outputs = _read_ends(config["output_layers"])
    _renumber_calls(pending, outputs)
    calls = _order_calls(pending, inputs)
    every = calls
    calls, outputs = _without_copies(calls, inputs, outputs)
    if len(calls) < len(every):
        gone = {id(call.layer) for call in every} - {id(call.layer) for call in calls}
        layers = {name: layer for name, layer in layers.items() if id(layer) not in gone}
    _convert_lambdas(calls, era)
    for call in calls:
        if not call.layer.refusal:
            _check_call(call, era)
    starts = [layers[start.layer] for start in inputs]
    return Network(
        list(layers.values()),
        calls,
        inputs,
        outputs,
        [_declared_shape(start.config) for start in starts],
        config.get("trainable", True),
        [_declared_dtype(start) for start in starts],
        keys,
        named,
    )


def _without_copies(
    calls: list[Call], inputs: list[Tensor], outputs: list[Tensor]
) -> tuple[list[Call], list[Tensor]]:
    """Return calls and outputs without what multi_gpu_model added: a copy for each GPU.

    Each takes a slice of the batch by a Lambda layer, and the results are joined along the batch.
    """
    made = {(call.name, call.number): call for call in calls}

    def before(call: Call | None) -> list[Call | None]:
        return [made.get((t.layer, t.call)) for t in tensors_in(call.args)] if call else []

    joins = [made.get((end.layer, end.call)) for end in outputs]
    if not all(
        join and join.layer.kind == "Concatenate" and join.layer.config.get("axis") == 0
        for join in joins
    ):
        return calls, outputs
    copies = before(joins[0])
    slices = [call for copy in copies for call in before(copy)]
    if len(copies) < 2 or None in [*copies, *slices]:
        return calls, outputs
    arguments = [call.layer.config.get("arguments") or {} for call in slices]
    models = {id(copy.layer if copy else None) for join in joins for copy in before(join)}
    if len(models) > 1 or copies[0].layer.network is None:
        return calls, outputs
    if not all(given.keys() == {"i", "parts"} for given in arguments):
        return calls, outputs
    own = Call(copies[0].layer, copies[0].name, 0, list(inputs), {})
    firsts = [next(tensors_in(join.args)) for join in joins]
    return [own], [Tensor(own.name, 0, first.output) for first in firsts]


def _read_ends(ends: Any) -> tuple[list[str], list[Tensor]]:
    """Return the inputs or outputs of a model, with their names, in the order of Keras."""
    if isinstance(ends, dict):
        return sorted(ends), [Tensor(*ends[key]) for key in sorted(ends)]
    tensors = [Tensor(*end) for end in ([ends] if isinstance(ends[0], str) else ends)]
    return [end.layer for end in tensors], tensors


def _declared_shape(config: dict[str, Any]) -> list[int | None] | None:
    return whole(config.get("batch_input_shape") or config.get("batch_shape"))


def _declared_dtype(layer: Layer) -> str:
    """Return the type to which Keras casts the input of a model whose first layer this is."""
    dtype = layer.config.get("input_dtype") or layer.config.get("dtype") or DTYPE
    if not isinstance(dtype, str) or dtype.startswith("mixed_"):
        return DTYPE  # a policy of several types: the input is as given
    if dtype not in DTYPES:
        raise ModelError(f"{layer} has the dtype '{dtype}', which is not that of images")
    return dtype


def _read_node(node: Any, layer: Layer) -> tuple[list[Any], dict[str, Any]]:
    """Return the args and kwargs of one call.

    Keras 3: {"args": [...], "kwargs": {...}}. Before: [[layer, call, output, kwargs], ...] with a
    list for each tensor of the first argument, or that list alone for an operation of tf.keras.
    """
    if isinstance(node, dict) and node.keys() <= {"args", "kwargs"}:
        return plain(node["args"]), plain(node["kwargs"])
    if isinstance(node, dict):
        return [{key: Tensor(*start[:3]) for key, start in node.items()}], {}
    starts = [node] if isinstance(node[0], str) else node
    kwargs = with_tensors(starts[0][3]) if len(starts[0]) > 3 else {}
    values = [start[2] if start[0] == "_CONSTANT_VALUE" else Tensor(*start[:3]) for start in starts]
    alone = len(values) == 1 and layer.config.get("function") not in ("concat", "stack")
    return [values[0] if alone else values], kwargs


def _renumber_calls(calls: list[Call], outputs: list[Tensor]) -> None:
    """Return each call the number by which others refer to its results.

    A file lists the calls of a layer from 0, but refers to them by a number that also counts calls
    outside of this model (a nested model was called once when it was made). The order is the same.
    """
    wanted: dict[str, set[int]] = {}
    for tensor in [*outputs, *tensors_in([[call.args, call.kwargs] for call in calls])]:
        wanted.setdefault(tensor.layer, set()).add(tensor.call)
    made: dict[str, list[Call]] = {}
    for call in calls:
        made.setdefault(call.name, []).append(call)
    for name, numbers in wanted.items():
        if len(numbers) == len(made.get(name, [])):
            for call, number in zip(made[name], sorted(numbers), strict=True):
                call.number = number


def _order_calls(pending: list[Call], inputs: list[Tensor]) -> list[Call]:
    """Return the calls in an order in which each comes after those whose results it needs.

    Of those that could come next, the first one of the file does.
    """
    done = {(start.layer, start.call) for start in inputs}
    waiting: dict[tuple[str, int], list[int]] = {}  # result -> the calls that need it
    missing: list[int] = []  # how many results each call still needs
    for place, call in enumerate(pending):
        tensors = tensors_in([call.args, call.kwargs])
        needs = {(tensor.layer, tensor.call) for tensor in tensors} - done
        missing.append(len(needs))
        for need in needs:
            waiting.setdefault(need, []).append(place)
    ready = [place for place, number in enumerate(missing) if not number]
    ordered: list[Call] = []
    while ready:
        call = pending[heapq.heappop(ready)]
        ordered.append(call)
        for place in waiting.pop((call.name, call.number), ()):
            missing[place] -= 1
            if not missing[place]:
                heapq.heappush(ready, place)
    if len(ordered) < len(pending):
        stuck = next(call for call, number in zip(pending, missing, strict=True) if number)
        raise ModelError(f"{stuck.layer} is called on something that the file lacks")
    return ordered


def _convert_lambdas(calls: list[Call], era: Era) -> None:
    """Translate the Lambda layers of a model, whose calls tell on how many arrays.

    One that is more than plain arithmetic gets that as its `refusal`.

    Raises:
        ModelError: one is called in two ways.
    """
    for call in calls:
        first = call.args[0] if call.args else None
        inputs = len(first) if isinstance(first, list) else None
        if call.layer.kind == "Lambda" and call.layer.refusal is None:
            try:
                convert_lambda(call.layer, inputs, era)
                for layer in call.layer.network.layers if era.keras == 3 else ():
                    layer.config["promotes"] = True
            except ModelError as error:
                call.layer.refusal = error
        elif (
            call.layer.config.get("class_name") == "Lambda"
            and call.layer.config["inputs"] != inputs
        ):
            raise ModelError(
                f"{call.layer} is called on one array and on several: give each call a layer of "
                f"its own; {CHANGED}"
            )


def _check_call(call: Call, era: Era) -> None:
    """Settle the arguments of a call other than its tensors.

    The `predict` of Keras 3 sets `training` to False whatever the file says.
    """
    layer, kwargs = call.layer, call.kwargs
    if kwargs.pop("training", None) and era.keras < 3 and _acts_in_training(layer):
        raise ModelError(
            f"{layer} is called with training=True, so a result would depend on chance or on "
            f"the other chips of its batch: call it without; {CHANGED}"
        )
    if layer.kind == "Operation":
        call.kwargs = {k: v for k, v in kwargs.items() if k != "name" and v is not None}
        return
    if layer.kind in STATES and kwargs.get("initial_state"):
        call.args = [[*call.args, *kwargs.pop("initial_state")]]
    if layer.kind == "MultiHeadAttention":
        call.args += [kwargs.pop(key) for key in ("value", "key") if key in kwargs]
    if layer.network and call.args and isinstance(call.args[0], dict):
        call.args = [[call.args[0][key] for key in layer.network.keys]]
    for key, value in kwargs.items():
        if _is_set(value):
            raise ModelError(
                f"{layer} is called with '{key}', which cannot be computed: {STANDARD}"
            )
    kwargs.clear()


def _is_set(value: Any) -> bool:
    if isinstance(value, (dict, list)):
        return any(map(_is_set, value.values() if isinstance(value, dict) else value))
    return value not in (None, False)


def _acts_in_training(layer: Layer) -> bool:
    if layer.network:
        return any(_acts_in_training(inner) for inner in layer.network.layers)
    return layer.config.get("random", False) or "moving_mean" in LAYERS[layer.kind].weights


def count_calls(network: Network, count: int) -> int:
    """Refuse a small file whose nested models multiply to more calls than any model has."""
    for call in network.calls:
        count = count_calls(call.layer.network, count) if call.layer.network else count + 1
        if count > MAX_CALLS:
            raise ModelError(f"it computes more than {MAX_CALLS} layers, more than any model has")
    return count
