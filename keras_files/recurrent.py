"""Recurrent layers at prediction: one step after another along the first axis after the batch.

Arguments as in `formulas`. Sources: recurrent.py of Keras 1.2.2 and 2.2.4, layers/rnn of tf_keras
2.21 and of Keras 3.15. No state outlives a call: `open_model` refuses stateful layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_files.formulas import Array, Config, Weights, activate, convolve, size_along
from keras_files.model_file import ModelError

Step = Callable[
    [Array, list[Array]], list[Array]
]  # (gates, states) -> states; the first is the result


def _gates(w: Weights, x: Array) -> Array:
    """Return what the input adds to all gates, for all steps at once."""
    y = tf.tensordot(x, w["kernel"], 1)
    return y + w["bias"] if "bias" in w else y


def _recur(c: Config, gates: Array, step: Step, states: list[Array]) -> Array | list[Array]:
    """Return the result of the last step, or of all, and the last states if they are asked for.

    With `go_backwards` all results stand in the order in which they are computed.
    """
    order = [1, 0, *range(2, len(gates.shape))]
    steps = tf.transpose(gates, order)
    steps = tf.reverse(steps, [0]) if c.get("go_backwards") else steps
    computed = tf.scan(lambda before, gate: step(gate, before), steps, states)
    y = computed[0]
    if c.get("return_sequences"):
        y = tf.transpose(y, [1, 0, *range(2, len(y.shape))])
    else:
        y = y[-1]
    return [y, *(state[-1] for state in computed)] if c.get("return_state") else y


def _start(x: Array | list[Array], size: int, count: int) -> tuple[Array, list[Array]]:
    """Return the sequence, and the states before the first step: given with it, or zeros."""
    if isinstance(x, list):
        return x[0], list(x[1:])
    return x, [tf.zeros([tf.shape(x)[0], size])] * count


def _simple_rnn(c: Config, w: Weights, x: Any) -> Array | list[Array]:
    x, states = _start(x, c["units"], 1)

    def step(gate: Array, states: list[Array]) -> list[Array]:
        return [activate(c["activation"], gate + states[0] @ w["recurrent_kernel"])]

    return _recur(c, _gates(w, x), step, states)


def _lstm(c: Config, w: Weights, x: Any) -> Array | list[Array]:
    x, states = _start(x, c["units"], 2)

    def step(gate: Array, states: list[Array]) -> list[Array]:
        return _lstm_step(c, gate + states[0] @ w["recurrent_kernel"], states[1])

    return _recur(c, _gates(w, x), step, states)


def _lstm_step(c: Config, gates: Array, carry: Array) -> list[Array]:
    """Return the output and the carry after the gates for input, forget, carry and output."""
    into, forget, new, out = tf.split(gates, 4, axis=-1)
    recurrent = c["recurrent_activation"]
    new = activate(c["activation"], new)
    carry = activate(recurrent, forget) * carry + activate(recurrent, into) * new
    return [activate(recurrent, out) * activate(c["activation"], carry), carry]


def _gru(c: Config, w: Weights, x: Any) -> Array | list[Array]:
    """Compute a GRU; with `reset_after` the recurrent part is reset after its own bias."""
    x, states = _start(x, c["units"], 1)
    kernel, units = w["recurrent_kernel"], c["units"]
    after = c.get("reset_after", False)
    biases = tf.unstack(w["bias"]) if after and "bias" in w else [w.get("bias"), None]
    gates = tf.tensordot(x, w["kernel"], 1)
    gates = gates if biases[0] is None else gates + biases[0]

    def step(gate: Array, states: list[Array]) -> list[Array]:
        (before,) = states
        update, reset, new = tf.split(gate, 3, axis=-1)
        inner = before @ (kernel if after else kernel[:, : 2 * units])
        inner = inner if biases[1] is None else inner + biases[1]
        update = activate(c["recurrent_activation"], update + inner[:, :units])
        reset = activate(c["recurrent_activation"], reset + inner[:, units : 2 * units])
        if after:
            new = new + reset * inner[:, 2 * units :]
        else:
            new = new + (reset * before) @ kernel[:, 2 * units :]
        return [update * before + (1.0 - update) * activate(c["activation"], new)]

    return _recur(c, gates, step, states)


def _joined(formula: Callable[..., Any], gates: str) -> Callable[..., Any]:
    """Return the formula of a layer of Keras 1 that has a kernel for each gate."""

    def compute(c: Config, w: Weights, x: Any) -> Array | list[Array]:
        joined = {
            role: tf.concat([w[f"{gate}/{role}"] for gate in gates], axis=-1)
            for role in ("kernel", "recurrent_kernel", "bias")
        }
        return formula(c, joined, x)

    return compute


def _conv_lstm(c: Config, w: Weights, x: Any) -> Array | list[Array]:
    """Compute an LSTM on images (N, steps, ..., channels) whose products are convolutions."""
    if c["data_format"] == "channels_first":
        if any(
            c[key] in ("softmax", "log_softmax") for key in ("activation", "recurrent_activation")
        ):
            raise ModelError("an activation along the columns of its images cannot be computed")
        rank = len(x.shape)
        last = {**c, "data_format": "channels_last"}
        y = _conv_lstm(last, w, tf.transpose(x, [0, 1, *range(3, rank), 2]))
        results = [_channels_first(part, rank) for part in (y if isinstance(y, list) else [y])]
        return results if isinstance(y, list) else results[0]
    flat = tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], 0))
    flat = convolve(c, tf.ensure_shape(flat, [None, *x.shape[2:]]), w["kernel"])
    flat = tf.nn.bias_add(flat, w["bias"]) if "bias" in w else flat
    sizes = [size_along(flat, axis) for axis in range(1, len(flat.shape))]
    gates = tf.reshape(flat, [-1, size_along(x, 1), *sizes])
    zeros = tf.zeros([tf.shape(x)[0], *sizes[:-1], c["filters"]])
    inner = {"padding": c["recurrent_padding"]}

    def step(gate: Array, states: list[Array]) -> list[Array]:
        return _lstm_step(c, gate + convolve(inner, states[0], w["recurrent_kernel"]), states[1])

    return _recur(c, gates, step, [zeros, zeros])


def _channels_first(y: Array, rank: int) -> Array:
    """Return a result with its channels before the axes of space, the last rank - 3 ones."""
    steps = len(y.shape) - (rank - 2)
    return tf.transpose(y, [*range(steps), len(y.shape) - 1, *range(steps, len(y.shape) - 1)])


RECURRENT: dict[str, Callable[..., Any]] = {
    **{f"ConvLSTM{rank}D": _conv_lstm for rank in (1, 2, 3)},
    "GRU": _gru,
    "GateConvLSTM2D": _joined(_conv_lstm, "ifco"),
    "GateGRU": _joined(_gru, "zrh"),
    "GateLSTM": _joined(_lstm, "ifco"),
    "LSTM": _lstm,
    "SimpleRNN": _simple_rnn,
}
