"""Attention in the global frame: PyTorch's without frames, each key in the receiver's with them."""

import pytest
import torch
from torch import nn

from dreibein.frames import Frames
from dreibein.nn.attention import FrameAttention, attend, global_frame_attention, split_heads
from dreibein.nn.localization import localize
from dreibein.o3 import act, parse_reps
from nn.convolution_cases import orthogonal

REPS = "4x0e+2x0o+2x1o+2x2e"
WIDTH = 22
BATCH, TOKENS = 2, 5
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(BATCH, TOKENS, WIDTH, generator=GENERATOR, dtype=torch.float64)
MATRICES = orthogonal(BATCH * TOKENS, GENERATOR)
FRAMES = Frames(MATRICES)
FRAMELESS = Frames(torch.eye(3, dtype=torch.float64).expand(BATCH * TOKENS, 3, 3))
PADDING = torch.tensor([[False] * 5, [False, False, False, True, True]])
CAUSAL = nn.Transformer.generate_square_subsequent_mask(TOKENS, dtype=torch.float64)


def network(kind: str, batch_first: bool = True) -> nn.Module:
    torch.manual_seed(0)
    if kind == "attention":
        module = nn.MultiheadAttention(WIDTH, 2, batch_first=batch_first)
        nn.init.normal_(module.in_proj_bias)
    else:
        module = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=batch_first)
        if kind == "encoder":
            module = nn.TransformerEncoder(module, 2, enable_nested_tensor=False)
    return module.double().eval()


def plain(module, x, **masks):
    return (
        module(x, x, x, **masks)
        if isinstance(module, nn.MultiheadAttention)
        else module(x, **masks)
    )


@pytest.mark.parametrize("kind", ["attention", "layer", "encoder"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_without_frames_it_is_pytorchs_and_with_frames_equivariant(kind, batch_first):
    module, rep = network(kind, batch_first), parse_reps(REPS)
    wrapped = localize(module, REPS)
    x = X if batch_first else X.transpose(0, 1).contiguous()
    name = "key_padding_mask" if kind == "attention" else "src_key_padding_mask"
    with torch.no_grad():
        for masks in ({}, {name: PADDING}):
            expected = plain(module, x, **masks)
            found = wrapped(x, FRAMELESS, **masks)
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
            out = wrapped(x, FRAMES, **masks)
            out = out[0] if isinstance(out, tuple) else out
            for g in orthogonal(2, torch.Generator().manual_seed(1)):
                found = wrapped(act(rep, g, x), Frames(MATRICES @ g.T), **masks)
                found = found[0] if isinstance(found, tuple) else found
                torch.testing.assert_close(found, act(rep, g, out), rtol=1e-12, atol=1e-12)


def test_masks_and_weights_are_pytorchs():
    module = network("attention")
    options = {"attn_mask": CAUSAL, "average_attn_weights": False}
    expected = module(X, X, X, **options)
    torch.testing.assert_close(attend(module, X, FRAMELESS, reps=REPS, **options), expected)
    found = attend(module, X[0], Frames(FRAMELESS.matrices[:5]), reps=REPS)
    torch.testing.assert_close(found, module(X[0], X[0], X[0]))


def test_keys_and_values_are_read_in_the_receivers_frame():
    rep = parse_reps("2x0e+1x1o")
    q, k, v = torch.randn(3, 1, 1, TOKENS, 5, generator=GENERATOR, dtype=torch.float64)
    frames = Frames(MATRICES[:TOKENS])
    found = global_frame_attention(q, k, v, frames, reps=rep)[0, 0]
    for i, R in enumerate(frames.matrices):
        carried = R @ frames.matrices.mT
        keys, values = act(rep, carried, k[0, 0]), act(rep, carried, v[0, 0])
        weights = (keys @ q[0, 0, i] / 5**0.5).softmax(0)
        torch.testing.assert_close(found[i], weights @ values, rtol=1e-12, atol=1e-12)


def test_other_tokens_bring_their_own_frames():
    q = torch.randn(1, 2, TOKENS, 5, generator=GENERATOR, dtype=torch.float64)
    k = torch.randn(1, 2, 3, 5, generator=GENERATOR, dtype=torch.float64)
    frames, others = Frames(MATRICES[:5]), Frames(MATRICES[5:8])
    out = global_frame_attention(q, k, k, frames, reps="2x0e+1x1o", key_frames=others)
    g = orthogonal(1, GENERATOR)[0]
    turned = [Frames(part.matrices @ g.T) for part in (frames, others)]
    found = global_frame_attention(q, k, k, turned[0], reps="2x0e+1x1o", key_frames=turned[1])
    torch.testing.assert_close(found, out, rtol=1e-12, atol=1e-12)


def test_the_layer_is_invariant_in_local_frames_and_learns():
    torch.manual_seed(0)
    layer = FrameAttention(REPS, heads=2).double()
    g = orthogonal(1, GENERATOR)[0]
    out = layer(X, FRAMES)
    torch.testing.assert_close(layer(X, Frames(MATRICES @ g.T)), out, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(layer(X, FRAMELESS), out)
    out.square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in layer.parameters())


def test_errors_are_one_sentence():
    module = network("attention")
    for call, said in [
        (lambda: split_heads(parse_reps("3x0e+2x1o"), 2), "2 heads do not divide"),
        (lambda: split_heads(parse_reps("2x0e+m4"), 2), "learned part"),
        (lambda: attend(module, X, Frames(MATRICES[:3]), reps=REPS), "meets frames of 3"),
        (lambda: localize(module, REPS)(X, FRAMES, key=X), "has no argument 'key'"),
        (lambda: localize(module, "10x0e"), 'width 22, but Irreps("10x0e") has 10'),
    ]:
        with pytest.raises(ValueError, match=r".") as error:
            call()
        assert said in str(error.value)
