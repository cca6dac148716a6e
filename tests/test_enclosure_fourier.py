"""Fourier transforms: no point leaves a spectrum, and what mixes by them is bracketed."""

import pytest
import torch
from enclosure_points import CELLS, F64, check
from hypothesis import given, settings
from hypothesis import strategies as st

import dss
from dss.enclosure import Enclosure, StandIn, lift
from dss.enclosure.passes import under_way

MATRIX = (4, 5)
FILTER = torch.view_as_complex(torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0), dtype=F64))
fft = torch.fft

SPECTRA = {
    "fft": lambda x: fft.fft(x, dim=0).real, "mixed tokens": lambda x: fft.fft(fft.fft(x, dim=-1), dim=-2).real, "rfft": lambda x: torch.view_as_real(fft.rfft(x, norm="ortho")).flatten(1),
    "filter": lambda x: fft.irfft2(fft.rfft2(x, norm="ortho") * FILTER, s=(4, 5), norm="ortho"), "cut": lambda x: fft.irfft(fft.rfft(x)[:, :2], n=5), "padded": lambda x: fft.fft(x, n=7).imag, "hfft": lambda x: fft.hfft(fft.ihfft(x), n=5),
    "there and back": lambda x: fft.ifft(fft.fft(x) - x).real, "n dimensions": lambda x: fft.irfftn(fft.rfftn(x, dim=(0, 1)), s=(4, 5), dim=(0, 1)), "whole": lambda x: fft.ifft2(fft.fft2(x)).real - fft.ifftn(fft.fftn(x, dim=(0, 1)), dim=(0, 1)).real / 2,
    "amplitudes": lambda x: fft.rfft(x).abs(), "minus": lambda x: (-(fft.fft(x)[..., 1:3])).imag,
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


@pytest.mark.parametrize("function", [lambda x: fft.fftshift(x), lambda x: fft.rfft(x) / 2, lambda x: fft.rfft(x).angle()])
def test_other_operations_on_spectra_are_refused(function):
    with pytest.raises(dss.EnclosureError, match="no rule encloses"), under_way():
        function(StandIn(lift(torch.randn(2, 4)), torch.float32))
