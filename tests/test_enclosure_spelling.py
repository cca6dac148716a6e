"""Arguments by every name that torch documents give what they give by their place."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from enclosure_points import F64, random_enclosure

from dss.base.errors import EnclosureError
from dss.enclosure import StandIn
from dss.enclosure.registry import known_operations, rule_of
from dss.enclosure.spelling import OTHER_ORDER, orders, spelled
from dss.enclosure.standin import value_of

ELSEWHERE = {"inplace", "out", "out_dtype", "cudnn_enabled", "cudnn_enable", "generator", "scale", "input_scale"}
"""Seen to before a rule is asked, or refused: no rule has them."""

MANY = {"block_diag", "chain_matmul", "einsum", "linalg_multi_dot", "lstm", "gru", "rnn_tanh", "rnn_relu"}
"""They take tensors one after the other, or are called by modules."""

SHORTER = {"_stacklevel", "size_average", "reduce"}
"""Arguments of Python's functions that those of C++, which nobody calls, leave out: what comes after has another place there."""


def bound_by(name, order):
    """Which parameter of the rule each argument of torch becomes."""
    handler, before = rule_of(name).handler, (None,) if rule_of(name).wants_function else ()
    own = spelled(name, torch.add, handler, {part: part for part in order})
    return inspect.signature(handler).bind_partial(*before, **own).arguments


@pytest.mark.parametrize("name", [name for name in known_operations() if name not in MANY])
def test_rules_take_every_argument_by_torchs_name(name):
    for order in orders(name):
        for count in range(1, len(order) + 1):
            if order[count - 1] not in ELSEWHERE:
                found = bound_by(name, [part for part in order[:count] if part not in ELSEWHERE])
                assert len(found) >= 1


@pytest.mark.parametrize("name", known_operations())
def test_arguments_have_the_same_place_in_a_rule_and_in_torch(name):
    handler = inspect.signature(rule_of(name).handler).parameters.values()
    own = [each.name for each in handler if each.kind is each.POSITIONAL_OR_KEYWORD][int(rule_of(name).wants_function) :]
    by_name = {"unbiased", "ord", "p", "dtype"}  # told apart by their type, or passed by name
    for order in orders(name):
        shared = [part for part in order if part in own and part not in by_name]
        assert SHORTER & set(own) or [own.index(part) for part in shared] == [order.index(part) for part in shared]


def other_order(name):
    function = getattr(F, name, None)
    return inspect.isfunction(function) and hasattr(torch, name)


@pytest.mark.parametrize("name", [name for name in known_operations() if other_order(name)])
def test_functions_of_two_orders_are_known(name):
    packet = getattr(torch.ops.aten, name, None)
    if packet is None or getattr(torch, name) is getattr(F, name):
        return
    same, more = {"train": "training", "self": "input"}, {"inplace", "generator", "_stacklevel", "dtype"}
    given = [part.name for part in getattr(packet, packet.overloads()[0])._schema.arguments]
    parts = [same.get(part, part) for part in given if not part.startswith("cudnn") and part not in more]
    python = [part for part in inspect.signature(getattr(F, name)).parameters if part not in more]
    if python == ["args", "kwargs"]:  # one of two, which have the same order
        return
    assert (parts != python[: len(parts)]) == (name in OTHER_ORDER), (parts, python)


X, Y, SQUARE = (4, 5), (4, 5), (5, 5)
MASK = torch.arange(20).reshape(4, 5) % 3 == 0
CALLS = {
    "baddbmm": (lambda x, y: x[None].baddbmm(batch1=y[None], batch2=x[None], beta=0.5, alpha=2), lambda x, y: torch.baddbmm(x[None], y[None], x[None], beta=0.5, alpha=2), SQUARE),
    "addmm": (lambda x, y: torch.addmm(input=x, mat1=y, mat2=x), lambda x, y: torch.addmm(x, y, x), SQUARE),
    "add": (lambda x, y: torch.add(input=x, other=y, alpha=2), lambda x, y: torch.add(x, y, alpha=2), X),
    "method": (lambda x, y: x.sub(other=y), lambda x, y: x - y, X),
    "mm": (lambda x, y: torch.mm(input=x, mat2=y), torch.mm, SQUARE),
    "mv": (lambda x, y: torch.mv(input=x, vec=y[0]), lambda x, y: torch.mv(x, y[0]), SQUARE),
    "dot": (lambda x, y: x[0].dot(tensor=y[1]), lambda x, y: x[0] @ y[1], X),
    "where": (lambda x, y: torch.where(condition=MASK, input=x, other=y), lambda x, y: torch.where(MASK, x, y), X),
    "where method": (lambda x, y: x.where(condition=MASK, other=y), lambda x, y: torch.where(MASK, x, y), X),
    "axis": (lambda x, y: x.sum(axis=1, keepdims=True) * y.mean(axis=0), lambda x, y: x.sum(1, keepdim=True) * y.mean(0), X),
    "softmax": (lambda x, y: torch.softmax(input=x, dim=0) + y.softmax(dim=1), lambda x, y: x.softmax(0) + y.softmax(1), X),
    "permute": (lambda x, y: torch.permute(input=x, dims=(1, 0)) @ y, lambda x, y: x.T @ y, X),
    "cat": (lambda x, y: torch.cat(tensors=[x, y], axis=1), lambda x, y: torch.cat([x, y], 1), X),
    "addcmul": (lambda x, y: torch.addcmul(input=x, tensor1=y, tensor2=x, value=3), lambda x, y: x + 3 * y * x, X),
    "atan2": (lambda x, y: torch.atan2(input=x, other=y * y + 9), lambda x, y: torch.atan2(x, y * y + 9), X),
    "numpy": (lambda x, y: torch.maximum(x, other=y) + torch.mul(x, x2=y), lambda x, y: torch.maximum(x, y) + x * y, X),
    "scatter": (lambda x, y: x.scatter(dim=0, index=MASK.long(), src=y), lambda x, y: x.scatter(0, MASK.long(), y), X),
    "lerp": (lambda x, y: torch.lerp(input=x, end=y, weight=0.25), lambda x, y: torch.lerp(x, y, 0.25), X),
    "shaped": (lambda x, y: torch.full_like(input=x, fill_value=2.0) * y, lambda x, y: torch.full_like(x, 2.0) * y, X),
    "rms_norm": (lambda x, y: F.rms_norm(input=x, normalized_shape=(5,)) * y, lambda x, y: F.rms_norm(x, (5,)) * y, X),
    "view": (lambda x, y: x.view(size=(20,)) + y.reshape(shape=(20,)), lambda x, y: (x + y).view(20), X),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_calls_by_name_enclose_what_calls_by_place_do(name):
    by_name, by_place, shape = CALLS[name]
    generator = torch.Generator().manual_seed(0)
    given = [random_enclosure(shape, generator) for _ in range(2)]
    one, other = (value_of(call(*(StandIn(x, F64) for x in given))) for call in (by_name, by_place))
    inside = (one.center - other.center).abs() <= 1e-12 + 1e-9 * one.center.abs()
    assert inside.all()
    assert (one.error - other.error).abs().max() <= 1e-9
    points = [x.center for x in given]
    torch.testing.assert_close(by_name(*points), by_place(*points))


@pytest.mark.parametrize("call", [lambda x: torch.batch_norm(x, x[0], x[0], x[0], x[0], False, 0.1, 1e-5, False),
                                  lambda x: torch.embedding(x, torch.tensor([0, 1]))])  # fmt: skip
def test_functions_with_another_order_of_arguments_are_refused(call):
    x = StandIn(random_enclosure((4, 5), torch.Generator().manual_seed(0)), F64)
    with pytest.raises(EnclosureError, match=r"another order; call torch\.nn\.functional"):
        call(x)
