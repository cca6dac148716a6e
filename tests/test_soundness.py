"""What is proved is true: random networks of all operations, torch's own shapes, dtypes and memory, and kinds that were false."""

import math
import re
import warnings

import pytest
import torch
import torch.nn.functional as F

from benchmarks import soundness
from benchmarks.operations import OPERATIONS, Draw
from dss.base.errors import EnclosureError
from dss.enclosure import Enclosure, StandIn, known_operations, lift, standin
from dss.enclosure.fresh import FreshMemory
from dss.enclosure.rules import paired

F64 = torch.float64
SHAPES = ((6,), (3, 4), (2, 4, 4))


def test_a_short_campaign_finds_no_loss_above_its_bound():
    tally = soundness.campaign(120, seed=7, points=32, most=60)
    assert tally.violations == [] and tally.cases == 60 and tally.points > 4_000
    assert tally.refused.total() < 0.3 * tally.cases and tally.infinite < 0.1 * soundness.CELLS * tally.cases


def test_the_campaign_notices_a_bound_that_is_too_low(monkeypatch):
    enclose = soundness.Case.bounds
    monkeypatch.setattr(soundness.Case, "bounds", lambda case, **options: enclose(case, **options) - 1e-3)
    assert len(soundness.campaign(120, seed=7, points=32, most=30).violations) > 15


def steps(name, seeds=3, dtypes=(torch.float32, F64)):
    """Steps of an operation, a dtype, and the arguments and parameters."""
    for shape in SHAPES:
        for seed in range(seeds):
            for dtype in dtypes:
                draw = Draw(f"{name} {seed}")
                step = OPERATIONS[name](draw, shape)
                if step is not None:
                    yield step, dtype, [draw.tensor(1, *shape), *(draw.tensor(*each) for each in step.parameters)]


def called(step, tensors):
    """The result, or None where torch or the enclosure refuses."""
    try:
        return step.function(*tensors)
    except (RuntimeError, ValueError, IndexError):
        return None


@pytest.mark.filterwarnings("ignore:LSTM with projections", "ignore:torch.chain_matmul is deprecated")
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_rule_gives_the_shape_and_the_dtype_of_torch_and_shares_memory_where_torch_does(name):
    compared = 0
    for step, dtype, tensors in steps(name):
        given = [x.to(dtype) for x in tensors]
        seen = [StandIn(lift(x.clone()), dtype) for x in given]
        real = called(step, given)
        with FreshMemory():
            found = called(step, seen)
        if real is None or found is None:
            continue
        compared += 1
        assert isinstance(found, StandIn) and (found.shape, found.dtype) == (real.shape, real.dtype)
        if "write" not in name and "inplace" not in name:
            assert (real is given[0]) == (found is seen[0]) or name in ("contiguous", "flatten", "reshape")
        if real.untyped_storage().data_ptr() == given[0].untyped_storage().data_ptr():
            assert found.memory is seen[0].memory
    assert compared or "held" in name or name in ("write: detached", "write: contiguous")


def test_every_rule_is_among_the_operations_of_the_campaign(monkeypatch):
    used, answer = set(), standin.answer
    for module in (standin, paired):
        monkeypatch.setattr(module, "answer", lambda name, *rest: used.add(name) or answer(name, *rest))
    for name in OPERATIONS:
        for step, dtype, tensors in steps(name, 2, (F64,)):
            called(step, [StandIn(lift(x), dtype) for x in tensors])
    for loss, target in soundness.losses_of(Draw(0), 3).values():
        loss(StandIn(lift(torch.randn(2, 3, dtype=F64)), F64), target)
    casts = {"half", "bfloat16", "long", "int"}  # refused, of numbers that move
    assert {name for name in known_operations() if not name.startswith("__")} - used <= casts | {
        "feature_dropout",
        "logsigmoid",
        "linalg_norm",
        "threshold",
    }


CALLS = {
    "sum": lambda x: torch.sum(x), "sum of nothing": lambda x: x.sum(()), "sum dims": lambda x: x.sum((0, 2)), "sum keep": lambda x: x.sum(-1, True),
    "sum dtype": lambda x: x.sum(dtype=F64), "mean dims": lambda x: torch.mean(x, [1, 2], keepdim=True), "mean dtype": lambda x: x.mean(1, dtype=F64),
    "amax all": lambda x: x.amax(), "amax dims": lambda x: torch.amax(x, (0, 2)), "amax keep": lambda x: x.amax((1, -1), keepdim=True), "amin": lambda x: x.amin((-1, 0)),
    "logsumexp dims": lambda x: torch.logsumexp(x, dim=(0, 2)), "logsumexp keep": lambda x: torch.logsumexp(x, (1, 2), keepdim=True), "logsumexp list": lambda x: x.logsumexp([-1]),
    "softmax": lambda x: torch.softmax(x, -1, dtype=F64), "softmax of none": lambda x: F.softmax(x, dim=None), "log_softmax of none": lambda x: F.log_softmax(x),
    "softmax of none, 2": lambda x: F.softmax(x[0]), "softmin": lambda x: F.softmin(x, 0),
    "einsum": lambda x: torch.einsum("abc,dc", x, x[0]), "einsum dots": lambda x: torch.einsum("...c,dc->...d", x, x[0]), "einsum diagonal": lambda x: torch.einsum("aa->a", x[0, :3, :3]),
    "einsum three": lambda x: torch.einsum("abc,bc,c->a", x, x[0], x[0, 0]), "einsum sum": lambda x: torch.einsum("abc->", x), "einsum dots apart": lambda x: torch.einsum("a...,...b->b...", x, x.transpose(0, 2).transpose(0, 1)),
    "einsum lists": lambda x: torch.einsum(x, [0, 1, 2], [2, 0]),
    "clone": lambda x: x.clone(memory_format=torch.contiguous_format), "contiguous": lambda x: x.transpose(0, 1).contiguous().view(3, -1),
    "to": lambda x: x.to(F64, copy=True), "to other": lambda x: x.to(torch.ones(1, dtype=F64)), "to device": lambda x: x.to("cpu"), "to both": lambda x: x.to("cpu", F64), "to device object": lambda x: x.to(device=torch.device("cpu")),
    "pad": lambda x: F.pad(x, (1, 0, 2, 1), "constant", 2.0), "clamp tensors": lambda x: x.clamp(x[0], x[1].abs()), "sub alpha": lambda x: torch.sub(x, 1, alpha=3),
    "view dims": lambda x: x.view(2, -1), "view tuple": lambda x: x.view((2, -1)), "repeat tuple": lambda x: x.repeat((1, 2, 1)), "permute keyword": lambda x: x.permute(dims=(2, 0, 1)),
    "flatten": lambda x: torch.flatten(x, start_dim=0, end_dim=1), "unsqueeze": lambda x: x.unsqueeze(dim=1), "transpose": lambda x: torch.transpose(x, dim0=0, dim1=2),
    "new": lambda x: x.new_zeros(3, 2) + x[0, 0, 0], "like": lambda x: torch.full_like(x, 2.0) * x, "promoted": lambda x: x + torch.ones(4, dtype=F64), "number": lambda x: x * torch.tensor(2.0, dtype=F64),
    "whole": lambda x: x * torch.arange(4), "boolean": lambda x: x * torch.tensor([True, False, True, False]), "mse none": lambda x: F.mse_loss(x, torch.zeros(2, 3, 4), reduction="none"),
    "mse legacy": lambda x: F.mse_loss(x, torch.zeros(2, 3, 4), size_average=False), "l1 legacy": lambda x: F.l1_loss(x, torch.zeros(2, 3, 4), reduce=False),
    "entropy legacy": lambda x: F.cross_entropy(x[0], torch.tensor([0, 1, 2]), reduce=False), "nll legacy": lambda x: F.nll_loss(x[0], torch.tensor([0, 1, 2]), size_average=False),
    "bce legacy": lambda x: F.binary_cross_entropy_with_logits(x, torch.ones(2, 3, 4), reduce=False, size_average=True), "gqa": lambda x: F.scaled_dot_product_attention(x.repeat(2, 1, 1), x[:1], x[1:], enable_gqa=True),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("name", CALLS)
def test_every_argument_of_a_rule_means_what_torch_means(name, dtype):
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)
    real, found = CALLS[name](x), CALLS[name](StandIn(lift(x), dtype))
    assert (found.shape, found.dtype) == (real.shape, real.dtype)
    value = found.value
    high = value.center + value.error if value.ceiling is None else torch.stack(value.ceiling).amax(0)
    assert (real.double() <= high + 1e-5).all() and (real.double() >= value.center - value.error - 1e-5).all()
    assert (value.error <= 1e-5).all()


REFUSED = {
    "out": (lambda x: torch.add(x, 1, out=torch.empty(2, 3)), "out="), "bits": (lambda x: x.view(torch.int32), "bits"),
    "narrow": (lambda x: x.bfloat16(), "two or three digits"), "half": (lambda x: x.to(torch.float16), "two or three digits"), "whole": (lambda x: x.long(), "jumps"),
    "sum as whole": (lambda x: x.sum(dtype=torch.int64), "jumps"), "complex": (lambda x: x / 1j, "complex"), "bool": (lambda x: bool(x.sum()), "branch"),
    "item": (lambda x: x.sum().item(), "branch"), "float": (lambda x: float(x[0, 0]), "branch"), "compare": (lambda x: x == 0, "branch"), "numpy": (lambda x: x.numpy(), "branch"),
    "list": (lambda x: x.tolist(), "branch"), "plain +=": (lambda x: torch.zeros(2, 3).add_(x), "no enclosure"), "plain item": (lambda x: torch.zeros(2, 3).__setitem__(0, x[0]), "no enclosure"),
    "reshape in place": (lambda x: (x * 1).unsqueeze_(0), "shape"), "t_": (lambda x: (x * 1).t_(), "shape"), "grows": (lambda x: (x[0] * 1).add_(x), "shape"),
    "rounding mode": (lambda x: torch.div(x, 2, rounding_mode="floor"), "rounding_mode"), "max_norm": (lambda x: F.embedding(torch.tensor([0]), x, max_norm=1.0), "max_norm"),
    "divisor": (lambda x: F.avg_pool2d(x[None], 1, divisor_override=-1), "divisor"), "shapes of a loss": (lambda x: F.mse_loss(x[:, :1], torch.zeros(2)), "shapes"),
    "argument": (lambda x: torch.batch_norm(x, None, None, None, None, False, 0.1, 1e-5, False), "another order"), "indices": (lambda x: torch.sort(x), "'sort'"),
    "moving index": (lambda x: x[x.argmax(1)], "argmax"), "moving target": (lambda x: F.cross_entropy(x, torch.softmax(x, 1)), "targets"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_with_its_cause(name):
    function, cause = REFUSED[name]
    center = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).double()
    moving = StandIn(Enclosure(center, center * 0.1, center.abs() * 0), torch.float32)
    with warnings.catch_warnings(), pytest.raises(Exception) as caught:
        warnings.simplefilter("ignore")
        function(moving)
    assert re.search(cause, str(caught.value)), str(caught.value)


def test_a_view_holds_its_memory_only_as_long_as_someone_holds_it():
    x = StandIn(lift(torch.ones(4, dtype=F64)), F64) * 2
    view = x.view(2, 2)
    del view
    x.mul_(-1)
    assert (x.value.center == -2).all()
    view = x.t()
    for one in (x, view):
        with pytest.raises(EnclosureError, match="shares its memory"):
            one.relu_()


def test_what_a_rule_was_given_stays_what_it_was():
    x = StandIn(Enclosure(torch.ones(3, dtype=F64), torch.ones(3, dtype=F64), torch.zeros(3, dtype=F64)), F64)
    before, kept = x.value, x.clone()
    x += 5
    x[0] = 0.0
    assert x.value is not before and (before.center == 1).all() and (kept.value.center == 1).all()
    assert torch.equal(x.value.center, torch.tensor([0.0, 6.0, 6.0], dtype=F64)) and math.isfinite(x.value.error.sum())


def test_constants_are_the_networks_own_numbers():
    mask = standin.constant(torch.tensor([0.1, 0.0, 1.0]))
    assert torch.equal(mask == 0.1, torch.tensor([True, False, False]))  # as float32 has it
    assert float(mask[2]) == 1.0 and bool((mask > 0).any()) and mask.sum().item() == pytest.approx(1.1)
    assert torch.equal(mask.long(), torch.tensor([0, 0, 1])) and mask.sort()[0].value.center[2] == 1
    mask[0] = 0.5
    assert torch.equal(mask == 0.5, torch.tensor([True, False, False]))


def test_a_seed_gives_the_same_networks_whatever_was_drawn_before():
    found = []
    for before in (0, 1):
        torch.manual_seed(before)
        case = soundness.drawn(soundness.Draw("7 0"), sorted(soundness.OPERATIONS), 3)
        found.append([*case.net.parameters(), case.inputs, *case.start.values(), *case.end.values()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
