"""Fourier transforms: no point leaves a spectrum, and what mixes by them is bracketed."""

import pytest
import torch
import torch.nn.functional as F
from enclosure_points import CELLS, F64, check
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import dss
from dss.enclosure import Enclosure, StandIn, enclose, lift
from dss.enclosure.passes import under_way

MATRIX = (4, 5)
FILTER = torch.view_as_complex(torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0), dtype=F64))
TURN = torch.polar(torch.ones(5, dtype=F64), torch.arange(5, dtype=F64))
fft = torch.fft

SPECTRA = {
    "fft": lambda x: fft.fft(x, dim=0).real, "mixed tokens": lambda x: fft.fft(fft.fft(x, dim=-1), dim=-2).real, "rfft": lambda x: torch.view_as_real(fft.rfft(x, norm="ortho")).flatten(1),
    "filter": lambda x: fft.irfft2(fft.rfft2(x, norm="ortho") * FILTER, s=(4, 5), norm="ortho"), "cut": lambda x: fft.irfft(fft.rfft(x)[:, :2], n=5), "padded": lambda x: fft.fft(x, n=7).imag, "hfft": lambda x: fft.hfft(fft.ihfft(x), n=5),
    "there and back": lambda x: fft.ifft(fft.fft(x) - x).real, "n dimensions": lambda x: fft.irfftn(fft.rfftn(x, dim=(0, 1)), s=(4, 5), dim=(0, 1)), "whole": lambda x: fft.ifft2(fft.fft2(x)).real - fft.ifftn(fft.fftn(x, dim=(0, 1)), dim=(0, 1)).real / 2,
    "amplitudes": lambda x: fft.rfft(x).abs(), "minus": lambda x: (-(fft.fft(x)[..., 1:3])).imag,
    "constants": lambda x: torch.view_as_real(x * TURN).sum(-1) + torch.view_as_real(TURN - x)[..., 1], "numbers": lambda x: ((2j * x - 1j) / 3).imag - (x + 1j).real,
    "apart": lambda x: (torch.complex(x, x * x) * x / (x * x + 1)).imag, "polar": lambda x: torch.view_as_real(1 - torch.polar(x * x, x)).flatten(1),
}  # fmt: skip


@pytest.mark.parametrize("name", SPECTRA)
@given(**CELLS, scale=st.sampled_from([2.0**-10, 1.0, 32.0]))
@settings(max_examples=10, deadline=None)
def test_no_point_leaves_a_spectrum(name, seed, scale, **options):
    check(SPECTRA[name], [MATRIX], seed, scale=scale, **options)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_spectra_have_the_shapes_and_dtypes_of_torch(dtype):
    x = torch.randn(2, 4, 6, dtype=dtype)
    for function in (
        fft.rfft,
        fft.fft2,
        lambda x: fft.irfft(fft.rfft(x)),
        lambda x: fft.rfft(x).abs(),
        lambda x: fft.fft(x)[0, ..., 1].real,
    ):
        real, found = function(x), function(StandIn(lift(x), dtype))
        assert (found.shape, found.dtype) == (real.shape, real.dtype)


def test_a_spectrum_of_what_does_not_move_is_as_good_as_torchs():
    x = torch.randn(3, 64, dtype=F64)
    found = fft.rfft(StandIn(Enclosure(x, torch.zeros_like(x), torch.zeros_like(x)), F64)).real.value
    assert (found.center - fft.rfft(x).real).abs().max() < 1e-13 and found.error.max() < 1e-9


@pytest.mark.parametrize(
    "function", [lambda x: fft.fftshift(x), lambda x: fft.rfft(x).exp(), lambda x: 1 / fft.rfft(x), lambda x: fft.rfft(x).angle()]
)
def test_other_operations_on_spectra_are_refused(function):
    with pytest.raises(dss.EnclosureError, match="no rule encloses"), under_way():
        function(StandIn(lift(torch.randn(2, 4)), torch.float32))


class Filter(nn.Module):
    """Weights that multiply the spectra of data, and turn data that was made complex."""

    def __init__(self):
        super().__init__()
        self.size, self.turn = nn.Parameter(torch.linspace(0.5, 1.5, 3)), nn.Parameter(torch.linspace(-1, 1, 5))

    def forward(self, x):
        spectrum = torch.fft.rfft(x) * self.size / 2
        turned = torch.complex(x, 2 * x) * (1j * self.turn + 1)
        return torch.fft.irfft(spectrum * (self.size - 1j), n=5) + turned.imag


@pytest.mark.parametrize("width", [0.5, 1 / 32])
def test_spectra_of_data_are_followed(width):
    x, y = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(1))
    start = {name: part.detach()[None] for name, part in Filter().named_parameters()}
    end = {name: part.cos() for name, part in start.items()}
    lower = torch.tensor([0.25], dtype=F64)
    bound = enclose(Filter(), F.mse_loss, start, end, lower, lower + width, x, y).amax().item()
    losses = []
    for t in torch.linspace(0.25, 0.25 + width, 41, dtype=F64):
        point = {name: torch.lerp(start[name][0].double(), end[name][0].double(), t) for name in start}
        losses.append(F.mse_loss(torch.func.functional_call(Filter().double(), point, (x.double(),)), y.double()).item())
    assert max(losses) <= bound <= max(losses) + (0.2 if width > 1 / 32 else 1e-4)
