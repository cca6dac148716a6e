"""Attention, as the contractions and the softmax it is made of."""

import math
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from dss.base.errors import EnclosureError
from dss.enclosure.registry import rule
from dss.enclosure.rules.normal import shares, without_far
from dss.enclosure.rules.products import linear, matmul
from dss.enclosure.rules.shapes import broadcast, joined, pad, where
from dss.enclosure.value import Enclosure, lift

_SHUT = -1e4
"""A score that stands for -inf once the largest is 0: exp(-1e4) is less than any error that is kept."""


Mask = tuple[Tensor, Enclosure | None]
"""Who takes part, and what is added to the scores."""


@rule("scaled_dot_product_attention")
def attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False) -> Enclosure:
    """softmax(q k^T scale + mask) v."""
    if dropout_p:
        raise EnclosureError("no rule encloses attention with dropout; set dropout_p to 0 where the module is in eval()")
    q, k, v = map(lift, (query, key, value))
    if enable_gqa:
        k, v = (lift(x).repeat_interleave(q.shape[-3] // x.shape[-3], -3) for x in (k, v))
    if is_causal and attn_mask is None:
        attn_mask = _causal(q, k)
    return attended(q, k, v, [] if attn_mask is None else [_split(attn_mask)], scale)[0]


def attended(
    q: Enclosure, k: Enclosure, v: Enclosure, masks: list[Mask], scale: float | None = None
) -> tuple[Enclosure, Enclosure]:
    """Output and weights of attention."""
    scores = matmul(q, k.transpose(-2, -1)) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    for _, added in masks:
        scores = scores if added is None else scores + added
    weights = _shut(scores, reduce(torch.logical_and, (part for part, _ in masks))) if masks else shares(scores, scores.dim() - 1)
    return matmul(weights, v), weights


def _causal(q: Enclosure, k: Enclosure) -> Tensor:
    return torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()


def _split(mask: Tensor, *, true_is_shut: bool = False) -> Mask:
    """A mask of booleans says who takes part, one of numbers is added, and -inf shuts out."""
    if mask.dtype == torch.bool:
        return ~mask if true_is_shut else mask, None
    mask = lift(mask)
    part = mask.center != -math.inf
    return part, where(part, mask, 0.0)


def _shut(scores: Enclosure, part: Tensor) -> Enclosure:
    """Weights of a row of which some entries take no part: the largest score that does is moved to zero first."""
    dim, top = scores.dim() - 1, torch.where(part, scores.center, -math.inf).amax(-1, keepdim=True)
    shifted = where(part, scores - top, lift(_SHUT))
    if scores.ragged:  # a mask of numbers was added
        shifted = without_far(shifted, dim)[1]
    shifted.ragged = False  # by no more than `_SHUT`
    return where(part, shares(shifted, dim), lift(0.0))


@rule("multi_head_attention_forward")
def multi_head_attention(
    query, key, value, embed_dim, num_heads, in_proj_weight, in_proj_bias, bias_k, bias_v, add_zero_attn, dropout_p,
    out_proj_weight, out_proj_bias, training=True, key_padding_mask=None, need_weights=True, attn_mask=None,
    use_separate_proj_weight=False, q_proj_weight=None, k_proj_weight=None, v_proj_weight=None, static_k=None,
    static_v=None, average_attn_weights=True, is_causal=False,
) -> tuple[Enclosure, Enclosure | None]:  # fmt: skip
    """`nn.MultiheadAttention` in eval: projections, attention per head, projection."""
    if (training and dropout_p) or static_k is not None or static_v is not None:
        raise EnclosureError("no rule encloses MultiheadAttention with static keys or dropout in train mode")
    inputs = [lift(x) if x.dim() == 3 else lift(x).unsqueeze(1) for x in (query, key, value)]
    if use_separate_proj_weight:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
    else:
        weights = in_proj_weight.chunk(3)
    biases = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (linear(*parts) for parts in zip(inputs, weights, biases))
    if bias_k is not None:
        k, v = (joined(torch.cat, [x, broadcast(lift(one), x[:1].shape)]) for x, one in ((k, bias_k), (v, bias_v)))
    q, k, v = (_heads(x, num_heads) for x in (q, k, v))
    if add_zero_attn:
        k, v = (pad(x, (0, 0, 0, 1)) for x in (k, v))
    more = int(bias_k is not None) + int(add_zero_attn)
    if is_causal and attn_mask is None:
        raise EnclosureError("MultiheadAttention got is_causal without attn_mask; pass the mask")
    if is_causal and key_padding_mask is None and not need_weights:  # torch then takes the caller's word for the mask
        attn_mask = ~_causal(inputs[0].transpose(0, 1), inputs[1].transpose(0, 1))
    output, share = attended(q, k, v, _masks(attn_mask, key_padding_mask, num_heads, more))
    output = output.permute(2, 0, 1, 3).flatten(2)
    output = linear(output, out_proj_weight, out_proj_bias)
    share = (share.mean(1) if average_attn_weights else share) if need_weights else None
    if query.dim() == 2:
        output, share = output.squeeze(1), None if share is None else share.squeeze(0)
    return output, share


def _heads(x: Enclosure, heads: int) -> Enclosure:
    """`(length, n, heads * d)` to `(n, heads, length, d)`."""
    return x.reshape(x.shape[0], x.shape[1], heads, -1).permute(1, 2, 0, 3)


def _masks(mask: Tensor | None, padding: Tensor | None, heads: int, more: int) -> list[Mask]:
    """Both masks, in the convention of MultiheadAttention: True is shut out. `more` keys that it adds itself are open to all."""
    masks = []
    mask, padding = (part if part is None or not more else F.pad(part, (0, more)) for part in (mask, padding))
    if mask is not None:
        mask = mask.reshape(-1, heads, *mask.shape[1:]) if mask.dim() == 3 else mask
        masks.append(_split(mask, true_is_shut=True))
    if padding is not None:
        padding = padding if padding.dim() == 2 else padding[None]
        masks.append(_split(padding[:, None, None, :], true_is_shut=True))
    return masks
