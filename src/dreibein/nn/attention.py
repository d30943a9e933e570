"""Attention in the global frame: one rotation a token, any dense kernel between.

    out_i = act(R_i) sum_j softmax_j(<act(R_i^T) q_i, act(R_j^T) k_j> / sqrt(d)) act(R_j^T) v_j  (1)

For orthogonal frames and representations <act(R_i^T) q_i, act(R_j^T) k_j> = <q_i, act(R_i R_j^T)
k_j>: every key and value is read in the receiver's frame (arXiv 2508.14898), yet nothing of size
N x N is turned. For soft frames (1) is the definition; the scores are invariant all the same.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dreibein.frames import Frames
from dreibein.o3 import DirectSum, Reps, direct_sum, parse_reps

Kernel = Callable[..., Tensor]
"""Dense attention of q, k, v [B, H, T, d] with `attn_mask`, `dropout_p` and `is_causal`."""


def global_frame_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    frames: Frames,
    *,
    reps: Reps | str,
    key_frames: Frames | None = None,
    kernel: Kernel = F.scaled_dot_product_attention,
    **options: Any,
) -> Tensor:
    """Equation (1) for heads that are whole representations, [B, H, T, d].

    Args:
        query: local [B, H, T, d].
        key: local [B, H, S, d].
        value: local [B, H, S, d].
        frames: of the B T queries, batch after batch, or one that all share.
        reps: what each head transforms as; d is its `dim`.
        key_frames: of the B S keys where they are other tokens.
        kernel: any dense attention.
        options: `attn_mask`, `dropout_p`, `is_causal` for the kernel.

    Raises:
        ValueError: for heads of another width or a wrong number of frames.

    >>> x = torch.randn(1, 2, 5, 4)
    >>> frames = Frames(torch.eye(3)[None])
    >>> y = global_frame_attention(x, x, x, frames, reps="1x0n+1x1n")
    >>> torch.allclose(y, F.scaled_dot_product_attention(x, x, x))
    True
    """
    rep = parse_reps(reps)
    senders = frames if key_frames is None else key_frames
    query = _turn_heads(frames, rep, query, back=True)
    key = _turn_heads(senders, rep, key, back=True)
    value = _turn_heads(senders, rep, value, back=True)
    return _turn_heads(frames, rep, kernel(query, key, value, **options), back=False)


def attend(
    attention: nn.MultiheadAttention,
    query: Tensor,
    frames: Frames,
    *,
    reps: Reps | str,
    key: Tensor | None = None,
    key_frames: Frames | None = None,
    **masks: Any,
) -> tuple[Tensor, Tensor | None]:
    """A `torch.nn.MultiheadAttention` by equation (1), its weights used as they are.

    Args:
        attention: left as it is.
        query: local features [B, T, dim], [T, B, dim] without `batch_first`, or [T, dim].
        frames: one for each row of query.reshape(-1, dim), or one that all share.
        reps: what the features transform as; `num_heads` must divide every multiplicity.
        key: local features of the senders (keys and values); the query unless given.
        key_frames: frames of `key`.
        masks: as in PyTorch: `attn_mask`, `key_padding_mask`, `is_causal`, `need_weights`,
            `average_attn_weights`.

    Returns:
        Local features shaped as `query`, and the attention weights if asked for.

    Raises:
        ValueError: for heads that cut a representation, or options without a form here.
    """
    if attention.bias_k is not None or attention.add_zero_attn:
        raise ValueError("attention with add_bias_kv or add_zero_attn has tokens without a frame")
    rep = split_heads(parse_reps(reps), attention.num_heads)
    key = query if key is None else key
    q, k, v = _project(attention, query, key)
    single = query.ndim == 2
    if single:
        q, k, v = q[None], k[None], v[None]
    elif not attention.batch_first:
        q, k, v = (part.transpose(0, 1) for part in (q, k, v))
    frames = _batch_first(frames, q, swap=not (single or attention.batch_first))
    if key_frames is not None:
        key_frames = _batch_first(key_frames, k, swap=not (single or attention.batch_first))
    q, k, v = (part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in (q, k, v))
    kernel = _Weighted()
    options = _mask(attention, q, k.shape[2], masks)
    wanted = masks.get("need_weights", True)
    out = global_frame_attention(
        q,
        k,
        v,
        frames,
        reps=rep,
        key_frames=key_frames,
        kernel=kernel if wanted else F.scaled_dot_product_attention,
        **options,
    )
    out = attention.out_proj(out.transpose(1, 2).flatten(-2))
    weights = kernel.weights
    if weights is not None and masks.get("average_attn_weights", True):
        weights = weights.mean(1)
    if single:
        return out[0], None if weights is None else weights[0]
    return (out if attention.batch_first else out.transpose(0, 1)), weights


class FrameAttention(nn.Module):
    """Self-attention over local features by equation (1), with free linear maps around it.

    Args:
        reps: what the features transform as; `heads` must divide every multiplicity.
        heads: number of heads.
        dropout: of the attention weights, in training.
        bias: of the linear maps.

    Raises:
        ValueError: if a head would cut a representation.

    >>> layer = FrameAttention("4x0n+4x1n", heads=2)
    >>> layer(torch.randn(5, 16), Frames(torch.eye(3)[None])).shape
    torch.Size([5, 16])
    """

    def __init__(
        self, reps: Reps | str, heads: int = 1, *, dropout: float = 0.0, bias: bool = True
    ):
        super().__init__()
        self.reps, self.heads, self.dropout = parse_reps(reps), heads, dropout
        self.head_reps = split_heads(self.reps, heads)
        self.inward = nn.Linear(self.reps.dim, 3 * self.reps.dim, bias=bias)
        self.outward = nn.Linear(self.reps.dim, self.reps.dim, bias=bias)

    def forward(self, x: Tensor, frames: Frames, mask: Tensor | None = None) -> Tensor:
        """Local features shaped as x.

        Args:
            x: local features [B, T, dim] or [T, dim].
            frames: one for each row of x.reshape(-1, dim), or one that all share.
            mask: as `attn_mask` of `scaled_dot_product_attention`.
        """
        tokens = x if x.ndim == 3 else x[None]
        heads = self.inward(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        out = global_frame_attention(
            query,
            key,
            value,
            frames,
            reps=self.head_reps,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.outward(out.transpose(1, 2).flatten(-2)).reshape(x.shape)


def split_heads(reps: Reps, heads: int) -> Reps:
    """The representation of one head of several: every multiplicity divided.

    Raises:
        ValueError: if `heads` does not divide one of them.

    >>> split_heads(parse_reps("8x0e+4x1o"), 4)
    Irreps("2x0e+1x1o")
    """
    parts = []
    for part in reps.parts if isinstance(reps, DirectSum) else (reps,):
        if part.needs_learned:
            raise ValueError(f"{reps!r} has a learned part, which has no global frame to attend in")
        blocks = [(segment.mul, segment.kind) for segment in part.segments]
        if any(mul % heads for mul, _ in blocks):
            raise ValueError(f"{heads} heads do not divide every multiplicity of {reps!r}")
        parts.append(type(part)([(mul // heads, kind) for mul, kind in blocks]))  # type: ignore[call-arg]
    return direct_sum(parts)


def _turn_heads(frames: Frames, rep: Reps, x: Tensor, *, back: bool) -> Tensor:
    batch, heads, tokens, _ = x.shape
    if len(frames) not in (1, batch * tokens):
        raise ValueError(f"attention over {batch * tokens} tokens meets frames of {len(frames)}")
    every = direct_sum((rep,) * heads)
    flat = x.transpose(1, 2).reshape(batch * tokens, -1)
    flat = frames.to_global(every, flat) if back else frames.to_local(every, flat)
    return flat.reshape(batch, tokens, heads, -1).transpose(1, 2)


def _batch_first(frames: Frames, x: Tensor, *, swap: bool) -> Frames:
    """Frames in the order [B, T] of x; given in the order [T, B] if `swap`."""
    if len(frames) != x.shape[0] * x.shape[1] or not swap:
        return frames
    order = torch.arange(len(frames), device=x.device).view(x.shape[1], x.shape[0])
    return frames.select(order.t().flatten())


def _project(attention: nn.MultiheadAttention, query: Tensor, key: Tensor) -> list[Tensor]:
    bias = attention.in_proj_bias
    biases = [None] * 3 if bias is None else list(bias.chunk(3))
    if attention.in_proj_weight is not None:
        weights = list(attention.in_proj_weight.chunk(3))
    else:
        weights = [attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight]
    return [F.linear(x, w, b) for x, w, b in zip((query, key, key), weights, biases)]


def _mask(
    attention: nn.MultiheadAttention, query: Tensor, keys: int, masks: dict[str, Any]
) -> dict[str, Any]:
    """PyTorch's two masks as one that is added to the scores [B, H, T, S]."""
    options: dict[str, Any] = {"dropout_p": attention.dropout if attention.training else 0.0}
    batch, heads, tokens, _ = query.shape
    total: Tensor | None = None
    for name in ("attn_mask", "key_padding_mask"):
        mask = masks.get(name)
        if mask is None:
            continue
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(mask, float("-inf"))
        if name == "key_padding_mask":
            mask = mask.view(batch, 1, 1, keys)
        elif mask.ndim == 3:
            mask = mask.view(batch, heads, tokens, keys)
        total = mask if total is None else total + mask
    if masks.get("is_causal") and total is None:
        raise ValueError("is_causal is a hint in PyTorch and needs attn_mask beside it")
    return {**options, "attn_mask": total}


class _Weighted:
    """Dense attention that keeps its weights."""

    def __init__(self) -> None:
        self.weights: Tensor | None = None

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, dropout_p: float
    ) -> Tensor:
        scores = query @ key.mT / query.shape[-1] ** 0.5
        weights = (scores if attn_mask is None else scores + attn_mask).softmax(-1)
        self.weights = F.dropout(weights, dropout_p)
        return self.weights @ value
