"""`nn.LSTM`, `nn.GRU` and their cells, unrolled step by step into the rules of their parts."""

from collections.abc import Callable

import torch

from dss.base.errors import EnclosureError
from dss.enclosure.adjoint import refined
from dss.enclosure.registry import rule
from dss.enclosure.rules.curves import SIGMOID, TANH
from dss.enclosure.rules.kinked import relu
from dss.enclosure.rules.products import linear
from dss.enclosure.rules.shapes import joined
from dss.enclosure.rules.smooth import apply
from dss.enclosure.value import Enclosure, lift

State = tuple[Enclosure, ...]

WINDOW = 4
"""Steps of a long recurrence between two at which the errors of its state are traced back."""


def lstm_step(gates: Enclosure, state: State, weight, bias) -> State:
    """c' = f c + i g, h' = o tanh(c') (torch.nn.LSTM's order i, f, g, o); `gates` is the input's part."""
    h, c = state
    i, f, g, o = (gates + linear(h, weight, bias)).chunk(4, -1)
    c = apply(SIGMOID, f) * c + apply(SIGMOID, i) * apply(TANH, g)
    return apply(SIGMOID, o) * apply(TANH, c), c


def gru_step(gates: Enclosure, state: State, weight, bias) -> State:
    """h' = n + z (h - n), n = tanh(x_n + r h_n) (torch.nn.GRU's order r, z, n)."""
    (h,) = state
    (xr, xz, xn), (hr, hz, hn) = gates.chunk(3, -1), linear(h, weight, bias).chunk(3, -1)
    n = apply(TANH, xn + apply(SIGMOID, xr + hr) * hn)
    return (n + apply(SIGMOID, xz + hz) * (h - n),)


def tanh_step(gates: Enclosure, state: State, weight, bias) -> State:
    """h' = tanh(x + W h + b)."""
    return (apply(TANH, gates + linear(state[0], weight, bias)),)


def relu_step(gates: Enclosure, state: State, weight, bias) -> State:
    """h' = relu(x + W h + b)."""
    return (relu(gates + linear(state[0], weight, bias)),)


def _layer(step: Callable, x: Enclosure, state: State, weights: list, *, backward: bool) -> tuple[Enclosure, State]:
    """One direction of one layer over `x` `(length, n, features)`: all outputs, and the last state. An odd weight, which comes
    last, projects the outputs."""
    *weights, projection = weights if len(weights) % 2 else (*weights, None)
    weight_x, weight_h, bias_x, bias_h = weights if len(weights) == 4 else (*weights, None, None)
    gates, outputs = linear(x, weight_x, bias_x), []
    steps = range(x.shape[0])
    for count, t in enumerate(reversed(steps) if backward else steps, 1):
        if count % WINDOW == 0:
            state = tuple(map(refined, state))
        state = step(gates[t], state, weight_h, bias_h)
        if projection is not None:
            state = (linear(state[0], projection), *state[1:])
        outputs.append(state[0])
    return joined(torch.stack, outputs[::-1] if backward else outputs), state


def _stack(step: Callable, x, states: tuple, weights, has_biases: bool, layers: int, dropout: float, train: bool,
           bidirectional: bool, batch_first: bool) -> tuple[Enclosure, ...]:  # fmt: skip
    """All layers and directions; every one starts at its own entry of the initial states `(layers, n, h)`."""
    if train and dropout:
        raise EnclosureError("recurrent dropout draws at random in train mode; put the model in eval()")
    x, per, ways = lift(x), 4 if has_biases else 2, 2 if bidirectional else 1
    per += len(weights) != per * layers * ways
    x = x.transpose(0, 1) if batch_first else x
    last = []
    for layer in range(layers):
        outputs = []
        for way in range(ways):
            at = layer * ways + way
            state = tuple(lift(part)[at] for part in states)
            output, state = _layer(step, x, state, list(weights[at * per : (at + 1) * per]), backward=bool(way))
            outputs.append(output)
            last.append(state)
        x = joined(torch.cat, outputs, -1) if bidirectional else outputs[0]
    x = x.transpose(0, 1) if batch_first else x
    return x, *(joined(torch.stack, part) for part in zip(*last))


def _recurrent(step: Callable, x, states, *rest) -> tuple[Enclosure, ...]:
    """Torch's argument order for plain tensors; packed sequences carry their batch sizes second and are refused."""
    if isinstance(rest[1], (bool, int)) is False:
        raise EnclosureError("no rule encloses packed sequences; pad them and mask the loss")
    return _stack(step, x, states, *rest)


@rule("lstm")
def lstm(x, states, *rest) -> tuple[Enclosure, ...]:
    """`nn.LSTM`."""
    return _recurrent(lstm_step, x, tuple(states), *rest)


@rule("gru")
def gru(x, state, *rest) -> tuple[Enclosure, ...]:
    """`nn.GRU`."""
    return _recurrent(gru_step, x, (state,), *rest)


@rule("rnn_tanh")
def rnn_tanh(x, state, *rest) -> tuple[Enclosure, ...]:
    """`nn.RNN`."""
    return _recurrent(tanh_step, x, (state,), *rest)


@rule("rnn_relu")
def rnn_relu(x, state, *rest) -> tuple[Enclosure, ...]:
    """`nn.RNN` with nonlinearity="relu"."""
    return _recurrent(relu_step, x, (state,), *rest)


@rule("lstm_cell")
def lstm_cell(x, states, weight_x, weight_h, bias_x=None, bias_h=None) -> State:
    """`nn.LSTMCell`."""
    return lstm_step(linear(x, weight_x, bias_x), tuple(map(lift, states)), weight_h, bias_h)


@rule("gru_cell")
def gru_cell(x, state, weight_x, weight_h, bias_x=None, bias_h=None) -> Enclosure:
    """`nn.GRUCell`."""
    return gru_step(linear(x, weight_x, bias_x), (lift(state),), weight_h, bias_h)[0]


@rule("rnn_tanh_cell")
def rnn_tanh_cell(x, state, weight_x, weight_h, bias_x=None, bias_h=None) -> Enclosure:
    """`nn.RNNCell`."""
    return tanh_step(linear(x, weight_x, bias_x), (lift(state),), weight_h, bias_h)[0]


@rule("rnn_relu_cell")
def rnn_relu_cell(x, state, weight_x, weight_h, bias_x=None, bias_h=None) -> Enclosure:
    """`nn.RNNCell` with nonlinearity="relu"."""
    return relu_step(linear(x, weight_x, bias_x), (lift(state),), weight_h, bias_h)[0]
