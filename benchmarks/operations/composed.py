"""Functions that are made of others, with room for their domains."""

import torch
import torch.nn.functional as F

from benchmarks.operations.drawing import Step, last, operation, several

several({
    "asinh": torch.asinh, "tan": lambda h: torch.tan(h.tanh()), "asin": lambda h: torch.asin(h.tanh() * 0.9), "acos": lambda h: torch.acos(h.tanh() * 0.9),
    "acosh": lambda h: torch.acosh(h * h + 1.2), "atanh": lambda h: torch.atanh(h.tanh() * 0.8), "hypot": lambda h: torch.hypot(h, h * h + 0.3),
    "atan2": lambda h: torch.atan2(h, h * h + 0.3), "ndtr": torch.special.ndtr, "xlogy": lambda h: torch.xlogy(h, h * h + 0.5), "xlog1py": lambda h: torch.special.xlog1py(h, h * h),
    "entr": lambda h: torch.special.entr(h * h + 0.2), "float_power": lambda h: torch.float_power(h * h + 0.2, 0.7).to(h.dtype), "ldexp": lambda h: torch.ldexp(h, torch.tensor(-1)),
    "nan_to_num": torch.nan_to_num, "nansum": lambda h: h - torch.nansum(h, -1, True) / 3, "nanmean": lambda h: h - torch.nanmean(h, -1, keepdim=True),
    "fmax": lambda h: torch.fmax(h, -h / 2), "fmin": lambda h: torch.fmin(h, h.flip(-1)), "power of its own": lambda h: (h * h + 0.3) ** h.tanh(),
    "trapezoid": lambda h: h + torch.trapezoid(h, dim=-1).unsqueeze(-1) / 2,
    "by other names": lambda h: torch.arcsinh(h) + torch.arcsin(h.tanh() / 2) + torch.arccos(h.tanh() / 2) + torch.arccosh(h * h + 1.5) + torch.arctanh(h.tanh() / 2)
    + torch.arctan2(h, h * h + 1) + torch.special.xlogy(h, h * h + 1) + torch.trapz(h, dim=-1).unsqueeze(-1),
})  # fmt: skip
several({
    "fft": lambda h: torch.fft.fft(h, dim=-1).real / 2, "rfft": lambda h: torch.fft.rfft(h, norm="ortho").abs(), "ifft": lambda h: torch.fft.ifft(torch.fft.fft(h)[..., :2] * (0.5 - 1j)).imag + h[..., :2],
    "irfft": lambda h: torch.fft.irfft(-torch.fft.rfft(h), n=h.shape[-1]), "hfft": lambda h: torch.fft.hfft(torch.fft.ihfft(h), n=h.shape[-1]),
}, 1, 2, 3)  # fmt: skip
several({
    "fft2": lambda h: torch.fft.ifft2(torch.fft.fft2(h) + h).real, "fftn": lambda h: torch.fft.ifftn(torch.fft.fftn(h, dim=(-2, -1)) - h, dim=(-2, -1)).imag + h,
    "rfft2": lambda h: torch.fft.irfft2(torch.fft.rfft2(h), s=h.shape[-2:]), "rfftn": lambda h: torch.fft.irfftn(torch.fft.rfftn(h, dim=(-2, -1)), s=h.shape[-2:], dim=(-2, -1)),
}, 2, 3)  # fmt: skip
several({"lp_pool1d": lambda h: F.lp_pool1d(torch.cat([h, h], -1) ** 2 + 0.1, 3, 2)}, 2)
several({"lp_pool2d": lambda h: F.lp_pool2d(torch.cat([h, h], -1), 2, (1, 2), ceil_mode=True), "matrix_norm": lambda h: h - torch.linalg.matrix_norm(h, 1, keepdim=True) / 3}, 3)  # fmt: skip


@operation("powers that differ")
def _(draw, shape):
    powers = draw.tensor(shape[-1])
    return Step(lambda h: (h * h + 0.3) ** powers.to(h.dtype))


@operation("aminmax")
def _(draw, shape):
    dim = last(draw, shape)
    return Step(lambda h: sum(torch.aminmax(h, dim=dim, keepdim=True)) - h)


@operation("logcumsumexp")
def _(draw, shape):
    dim = last(draw, shape)
    return Step(lambda h: torch.logcumsumexp(h, dim))


@operation("cumulative_trapezoid")
def _(draw, shape):
    return Step(lambda h: torch.cumulative_trapezoid(h, dx=0.5, dim=-1)) if shape[-1] > 1 else None


@operation("cdist")
def _(draw, shape):
    p = draw.choice((1.0, 2.0))
    return Step(lambda h, w: torch.cdist(h.flatten(1).unsqueeze(1), w.flatten(1) + 3, p).squeeze(1), ((3, *shape),))


@operation("dist")
def _(draw, shape):
    return Step(lambda h, w: torch.stack([row * torch.dist(row, w + 3, 2) for row in h]) / 3, (shape,))


@operation("matrix_power")
def _(draw, shape):
    return Step(
        lambda h, w: h @ (torch.linalg.matrix_power(w * 0.5, 3) + torch.matrix_power(w * 0.5, 2)), ((shape[-1], shape[-1]),)
    )


@operation("cov")
def _(draw, shape):
    return Step(lambda h, w: h @ torch.cov(w), ((shape[-1], 4),)) if shape[-1] > 1 else None
