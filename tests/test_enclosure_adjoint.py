"""Errors that are traced back: sharp where they can be, and no point escapes, not even the worst one of every output."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from enclosure_points import F64, assert_inside, place, random_enclosure
from hypothesis import given, settings
from hypothesis import strategies as st
from test_enclosure_rules import BINARY, ELEMENTWISE, IMAGE, IMAGES, MATRIX, POSITIVE

import dss
from dss.enclosure import Enclosure, adjoint, lift, rounding
from dss.enclosure.adjoint import sharpened
from dss.enclosure.passes import under_way
from dss.enclosure.rounding import is_plain_float32
from dss.enclosure.rules import convolutions
from dss.enclosure.standin import value_of

OUTPUTS = 5


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def traced(function, *xs, **options):
    """`function` of enclosures, with errors that are traced back whether there were kinks or not."""
    with under_way(**options) as state:
        result = value_of(function(*xs))
        state.kinked = True
        return result, sharpened(result)


def worst(function, cells, tau, k):
    """Values inside the cells at which output k // 2 is largest to first order, or smallest for odd k."""
    middle = [place(x, tau).requires_grad_() for x in cells]
    gradients = torch.autograd.grad(function(*middle)[k // 2], middle, allow_unused=True)
    signs = ((torch.zeros_like(m) if g is None else g.nan_to_num().sign() * (1 - 2 * (k % 2))) for m, g in zip(middle, gradients))
    return [m.detach() + sign * x.error for m, sign, x in zip(middle, signs, cells)]


def attack(function, shapes, seed, *, third=False, inside=False, **options):
    """Mix the entries, apply the function, mix its results and its arguments, which may cancel, into a few outputs, and
    look for points that get out."""
    generator = torch.Generator().manual_seed(seed)
    cells = [random_enclosure(shape, generator, **options) for shape in shapes]

    def whole(*xs):
        mixed = [x + 0.5 * x.flip(-1) if x.dim() else x * 1.5 for x in xs]
        y = torch.cat([function(*mixed).flatten(), *(x.flatten() for x in mixed)])
        return F.linear(y, draw(OUTPUTS, y.shape[0]))

    crude, sharp = traced(whole, *cells, third=third, inside=inside)
    assert not (sharp.error > crude.error).any()
    for k in range(2 * OUTPUTS):
        tau = (-1.0, 1.0, 0.25)[k % 3]
        assert_inside(sharp, tau, whole(*worst(whole, cells, tau, k)), slack=1e-12)


SWAY = {"seed": st.integers(0, 2**31), "width": st.sampled_from([2.0**-20, 2.0**-6, 1.0]), "error": st.sampled_from([2**-3, 2.0]),
            "third": st.booleans(), "inside": st.booleans()}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in ELEMENTWISE if name not in ("in place", "setitem")])  # autograd refuses those
@given(**SWAY)
@settings(max_examples=4, deadline=None)
def test_the_worst_point_stays_inside_after_a_rule_of_one_tensor(name, seed, **options):
    attack(ELEMENTWISE[name], [MATRIX], seed, **options)


@pytest.mark.parametrize("name", POSITIVE)
@given(**SWAY)
@settings(max_examples=4, deadline=None)
def test_the_worst_point_stays_inside_after_a_rule_for_positive_numbers(name, seed, **options):
    attack(POSITIVE[name], [MATRIX], seed, low=2**-4, **options)


@pytest.mark.parametrize("name", IMAGES)
@given(**SWAY)
@settings(max_examples=4, deadline=None)
def test_the_worst_point_stays_inside_after_a_rule_of_images(name, seed, **options):
    attack(IMAGES[name], [IMAGE], seed, **options)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", BINARY)
@given(**SWAY)
@settings(max_examples=4, deadline=None)
def test_the_worst_point_stays_inside_after_a_rule_of_two_tensors(name, seed, **options):
    function, *shapes = BINARY[name]
    attack(function, shapes, seed, **options)


def source(center, error):
    return Enclosure(center, torch.zeros_like(center), torch.as_tensor(error, dtype=F64).expand(center.shape).clone())


CHAINS = {
    "linear": lambda x: F.linear(F.linear(x, draw(30, 40)), draw(6, 30, seed=1)),
    "convolution": lambda x: F.conv2d(x.reshape(1, 1, 5, 8), draw(7, 1, 3, 3)).flatten() @ draw(7 * 18, 6, seed=1),
    "strided": lambda x: F.conv2d(x.reshape(1, 2, 5, 4), draw(6, 1, 2, 3), stride=2, padding=1, groups=2).flatten() @ draw(36, 6, seed=1),
    "one image": lambda x: F.conv2d(x.reshape(2, 5, 4), draw(3, 2, 5, 2)).flatten() @ draw(9, 6, seed=1),
    "branches": lambda x: (F.linear(x, draw(6, 40)) + F.linear(x * -2 - x, draw(6, 40, seed=1))).flip(0),
    "pieces": lambda x: sum(F.linear(part, draw(6, 10, seed=i)) for i, part in enumerate(x.chunk(4))),
    "slices": lambda x: F.linear(torch.cat([x[20:], x[:20]]), draw(6, 40)) - F.linear(x[::2], draw(6, 20, seed=1)),
    "means": lambda x: F.linear((y := x.reshape(8, 5)).mean(1) - y.sum(1), draw(6, 8)),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("matrix", [False, True])
def test_errors_of_a_linear_chain_are_those_of_the_composed_map(name, matrix, monkeypatch):
    """|W2 W1| e, where what is carried forward is |W2| |W1| e."""
    monkeypatch.setattr(convolutions, "MATRIX_SHARE", 0.0 if matrix else 2.0)
    x, error = draw(40, seed=5), draw(40, seed=6).abs()
    jacobian = torch.func.jacrev(CHAINS[name])(x)
    crude, sharp = traced(CHAINS[name], source(x, error))
    exact = jacobian.abs() @ error
    assert (sharp.error >= exact).all()
    torch.testing.assert_close(sharp.error, exact, rtol=1e-3, atol=1e-4)
    assert name == "pieces" or (crude.error > 1.05 * exact).all()


def test_the_gaps_of_every_kink_keep_their_sign():
    """Two layers of kinks, by hand: every gap is weighed by the path of its own entry to the output."""
    first, second, x = draw(30, 40), draw(3, 30, seed=1), draw(40, seed=2)
    e = torch.full((40,), 0.1, dtype=F64)

    def net(x):
        return F.linear(F.relu(F.linear(x, first)), second)

    crude, sharp = traced(net, source(x, e))
    z, radius = first @ x, first.abs() @ e
    share = ((z + radius) / (2 * radius)).clamp(0, 1)
    gap = torch.where((share > 0) & (share < 1), share * (radius - z) / 2, 0.0)
    exact = ((second * share) @ first).abs() @ e + second.abs() @ gap
    torch.testing.assert_close(sharp.error, exact, rtol=1e-3, atol=1e-6)
    assert (sharp.error >= exact * (1 - 1e-12)).all() and (crude.error > 1.4 * exact).all()


def test_an_error_that_was_widened_after_it_was_noted_counts_in_full():
    def function(x):
        y = F.linear(x, torch.eye(4, dtype=F64))
        y.error = y.error + 1
        return y * 2

    _, sharp = traced(function, source(torch.ones(4, dtype=F64), 0.5))
    assert (sharp.error >= 3).all()


@pytest.mark.parametrize("function", [lambda x, w: torch.cat([x, w]), lambda x, w: x * w, lambda x, w: x + w, lambda x, w: torch.relu(w) - x,
                                      lambda x, w: torch.maximum(w, x), lambda x, w: torch.stack([w, x]).flatten()])  # fmt: skip
def test_one_number_for_the_errors_of_all_entries_counts(function):
    weight = Enclosure(draw(4), draw(4, seed=1) * 0, torch.tensor(0.5, dtype=F64))
    mix = draw(3, 8)

    def whole(x, w):
        y = function(x, w)
        return F.linear(y, mix[:, : len(y)])

    x, signs = source(draw(4, seed=2), 0.25), torch.tensor(list(itertools.product((-1, 1), repeat=8)), dtype=F64)
    _, sharp = traced(whole, x, weight)
    values = torch.stack([whole(x.center + 0.25 * s[:4], weight.center + 0.5 * s[4:]) for s in signs])
    assert ((values - sharp.center).abs() <= sharp.error).all()
    assert ((values - sharp.center).abs().amax(0) > 0.4 * sharp.error).all()


def test_another_pass_does_not_take_the_notes_of_the_last():
    x = source(torch.ones(4, dtype=F64), 0.5)
    for _ in range(2):
        _, sharp = traced(lambda x: F.linear(F.linear(x, torch.eye(4, dtype=F64)), torch.ones(1, 4, dtype=F64)), x)
        torch.testing.assert_close(sharp.error, torch.full((1,), 2.0, dtype=F64), rtol=1e-4, atol=0)


def test_smooth_networks_large_outputs_and_calls_without_a_run_keep_their_errors():
    x = source(draw(4), 0.5)
    assert sharpened(x) is x
    with under_way():
        assert sharpened(torch.tanh(x)).node is None or not sharpened(torch.tanh(x)).node.sources
        large = F.relu(source(draw(adjoint.MOST_ROWS + 1), 0.5))
        assert sharpened(large) is large
    with under_way() as state:
        y = F.linear(torch.tanh(x), draw(3, 4))
        assert sharpened(y) is y and not state.kinked


@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
def test_what_is_not_known_is_not_sharpened(bad):
    error = torch.tensor([bad, 1.0], dtype=F64)
    crude, sharp = traced(lambda x: F.linear(F.relu(x), torch.eye(2, dtype=F64)), source(torch.zeros(2, dtype=F64), error))
    assert torch.equal(sharp.error.nan_to_num(), crude.error.nan_to_num())


def test_float32_is_used_only_where_it_adds_up_plainly(monkeypatch):
    cpu = torch.device("cpu")
    assert is_plain_float32(cpu) == torch.backends.mkldnn.is_available()
    assert not is_plain_float32(torch.device("cuda"))
    for name in ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE", "MKLDNN_DEFAULT_FPMATH_MODE"):
        for value, plain in (("BF16", False), ("tf32", False), ("any", False), ("F16", False), ("strict", True), ("", True)):
            monkeypatch.setenv(name, value)
            assert is_plain_float32(cpu) == (plain and torch.backends.mkldnn.is_available()), (name, value)
        monkeypatch.delenv(name)


def test_float32_that_is_cut_to_shorter_numbers_is_noticed_whatever_asked_for_it(monkeypatch):
    for digits, plain in ((24, True), (11, False), (8, False)):
        convolution = F.conv2d
        shorten = lambda x, digits=digits: (x * 2.0**digits).round() / 2.0**digits if x.dtype == torch.float32 else x  # noqa: E731
        with monkeypatch.context() as patch:
            patch.setattr(F, "conv2d", lambda x, w, f=convolution, s=shorten: f(s(x), s(w)))
            assert rounding._is_measured_plain.__wrapped__() == plain


@pytest.mark.parametrize("name", ["high", "medium"])
def test_torchs_own_settings_of_float32_are_asked(name):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(name)
        assert not is_plain_float32(torch.device("cpu"))
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("still", [False, True])
def test_convolutions_whose_smaller_parts_are_float32_lose_no_point(still):
    """Errors of 1e-9 would not hide a rounding of 1e-7 that was left out."""
    center, error = draw(2, 3, 20, 20), 0.0 if still else 1e-9
    x = lift(center) if still else Enclosure(center, draw(2, 3, 20, 20, seed=1), torch.full_like(center, error), center.flip(0))
    weight = Enclosure(draw(4, 3, 3, 3), draw(4, 3, 3, 3, seed=1), torch.tensor(1e-12, dtype=F64))
    with under_way():
        result = F.conv2d(x, weight, padding=1)
    exact = F.conv2d(center, weight.slope, padding=1) + F.conv2d(x.slope.expand(center.shape), weight.center, padding=1)
    exact = exact if still else exact + F.conv2d(x.bend, weight.slope, padding=1) / 2
    assert is_plain_float32(center.device) == bool((result.slope != exact).any())
    for tau in (-1.0, 0.3, 1.0):
        value = F.conv2d(place(x, tau) + error, weight.center + tau * weight.slope, padding=1)
        assert_inside(result, tau, value)


@pytest.mark.parametrize(
    ("factors", "through"), [((2.0**25, 1.0, -(2.0**25)), False), ((2.0**24, 1.0), False), ((2.0**24, 1.0), True)]
)
def test_what_sums_of_weights_lose_is_reckoned(factors, through):
    """In float32 2^24 + 1 is 2^24, and 2^25 + 1 - 2^25 is 0: of an error of 1 the sum of the weights takes more than float32 says."""
    one = torch.ones(1, dtype=F64)
    nodes = [adjoint.Node(0, one, torch.zeros_like(one), (), lambda weight: (), 0.0)]
    if through:
        nodes.append(adjoint.Node(1, one, None, (0,), lambda weight: (weight,), 0.0))
    source = len(nodes) - 1
    for factor in factors:
        nodes.append(adjoint.Node(len(nodes), one, None, (source,), lambda weight, factor=factor: (factor * weight,), 0.0))
    every = tuple(range(source + 1, len(nodes)))
    nodes.append(adjoint.Node(len(nodes), one, None, every, lambda weight: (weight,) * len(factors), 0.0))
    bound = adjoint._traced(nodes, 0, torch.ones(1), torch.zeros((), dtype=F64), 1)
    lost = bound.item() / (1 + 4 * rounding.gamma(len(nodes), rounding.UNIT32)) / (1 + 4 * rounding.gamma(1, rounding.UNIT32))
    assert lost > abs(sum(factors)) * (1 - 2.0**-25)


@pytest.mark.parametrize(
    "function",
    [lambda x, index: x.gather(-1, index), lambda x, index: x.take_along_dim(index, -1).cumsum(-1), lambda x, index: x.mean(-1)],
)
def test_weights_are_pulled_back_as_torchs_products_are(function):
    """For rows of weights inside rows of samples, as a proof has them."""
    x, index = draw(3, 4), torch.randint(4, (3, 6), generator=torch.Generator().manual_seed(0))
    weights = draw(3, 2, *function(x, index).shape[1:], seed=1)

    def pulled(how):
        return torch.vmap(lambda one, i, rows: torch.vmap(lambda row: how(lambda z: function(z, i), one)(row)[0])(rows))(
            x, index, weights
        )

    assert torch.equal(pulled(adjoint.transposed), pulled(lambda f, one: torch.func.vjp(f, torch.zeros_like(one))[1]))


@pytest.mark.parametrize("depth", [1, 14])
def test_a_single_class_leaves_nothing_to_trace_back_and_a_loss_of_zero(depth):
    layers = [part for _ in range(depth) for part in (torch.nn.Linear(3, 3), torch.nn.ReLU())]
    net, x = torch.nn.Sequential(*layers, torch.nn.Linear(3, 1)), draw(6, 3).float()
    judge = dss.NetworkObjective(net, F.cross_entropy, (x, torch.zeros(6, dtype=torch.long)))
    start, end = torch.randn(2, judge.size, generator=torch.Generator().manual_seed(1))
    *_, last = dss.prove(judge, torch.stack([start, end]), threshold=1e-3)
    assert last.proven and 0 <= last.upper < 1e-6
