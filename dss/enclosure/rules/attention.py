"""Attention, as the contractions and the softmax it is made of."""

import math

import torch
from torch import Tensor

from dss.base.errors import EnclosureError
from dss.enclosure.rules.normal import softmax
from dss.enclosure.rules.products import linear, matmul
from dss.enclosure.rules.shapes import where
from dss.enclosure.value import Enclosure, lift, rule

_SHUT = -1e4
"""A score that stands for -inf once the largest is 0: exp(-1e4) is less than any error that is kept."""


@rule("scaled_dot_product_attention")
def attention(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False) -> Enclosure:
    """softmax(q k^T scale + mask) v."""
    if dropout_p or enable_gqa:
        raise EnclosureError("no rule encloses attention with dropout or grouped queries")
    if is_causal and attn_mask is None:
        attn_mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    return attended(q, k, v, attn_mask, scale)[0]


def attended(q, k, v, mask, scale: float | None = None) -> tuple[Enclosure, Enclosure]:
    """Output and weights of attention; a mask of booleans says who takes part, one of numbers is added."""
    scores = matmul(lift(q), lift(k).transpose(-2, -1)) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if mask is None:
        weights = softmax(scores, -1)
    elif isinstance(mask, Enclosure) and not mask.still:
        weights = softmax(scores + mask, -1)
    else:
        weights = _shut(scores, mask.center if isinstance(mask, Enclosure) else mask)
    return matmul(weights, v), weights


def _shut(scores: Enclosure, mask: Tensor) -> Enclosure:
    """Weights of a row of which some entries take no part: the largest score that does is moved to zero first."""
    part = mask if mask.dtype == torch.bool else mask != -math.inf
    if mask.dtype != torch.bool:
        scores = scores + mask.masked_fill(~part, 0.0)
    top = torch.where(part, scores.center, -math.inf).amax(-1, keepdim=True)
    shifted = scores - top
    return where(part, softmax(where(part, shifted, lift(_SHUT)), -1), lift(0.0))


@rule("multi_head_attention_forward")
def multi_head_attention(
    query, key, value, embed_dim, num_heads, in_proj_weight, in_proj_bias, bias_k, bias_v, add_zero_attn, dropout_p,
    out_proj_weight, out_proj_bias, training=True, key_padding_mask=None, need_weights=True, attn_mask=None,
    use_separate_proj_weight=False, q_proj_weight=None, k_proj_weight=None, v_proj_weight=None, static_k=None,
    static_v=None, average_attn_weights=True, is_causal=False,
) -> tuple[Enclosure, Enclosure | None]:  # fmt: skip
    """`nn.MultiheadAttention` in eval: projections, attention per head, projection."""
    if bias_k is not None or add_zero_attn or (training and dropout_p) or static_k is not None:
        raise EnclosureError("no rule encloses MultiheadAttention with bias_k, add_zero_attn or dropout in train mode")
    inputs = [lift(x) if x.dim() == 3 else lift(x).unsqueeze(1) for x in (query, key, value)]
    if use_separate_proj_weight:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
    else:
        weights = in_proj_weight.chunk(3)
    biases = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (_heads(linear(*parts), num_heads) for parts in zip(inputs, weights, biases))
    mask = _joint_mask(attn_mask, key_padding_mask, num_heads, q.shape)
    if is_causal and attn_mask is None:
        raise EnclosureError("MultiheadAttention got is_causal without attn_mask; pass the mask")
    output, share = attended(q, k, v, mask)
    output = output.permute(2, 0, 1, 3).flatten(2)
    output = linear(output, out_proj_weight, out_proj_bias)
    share = (share.mean(1) if average_attn_weights else share) if need_weights else None
    if query.dim() == 2:
        output, share = output.squeeze(1), None if share is None else share.squeeze(0)
    return output, share


def _heads(x: Enclosure, heads: int) -> Enclosure:
    """`(length, n, heads * d)` to `(n, heads, length, d)`."""
    return x.reshape(x.shape[0], x.shape[1], heads, -1).permute(1, 2, 0, 3)


def _joint_mask(mask: Tensor | None, padding: Tensor | None, heads: int, shape: torch.Size) -> Tensor | None:
    """Both masks as one of numbers, in the convention of MultiheadAttention: True is shut out."""
    if mask is not None:
        mask = _numbers(mask)
        mask = mask.reshape(shape[0], heads, *mask.shape[1:]) if mask.dim() == 3 else mask
    if padding is None:
        return mask
    padding = _numbers(padding if padding.dim() == 2 else padding[None])[:, None, None, :]
    return padding if mask is None else mask + padding


def _numbers(mask: Tensor) -> Tensor:
    mask = mask.center if isinstance(mask, Enclosure) else mask
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=torch.float64, device=mask.device).masked_fill(mask, -math.inf)
