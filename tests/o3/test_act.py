"""`act` on every family, against contractions written out with einsum."""

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dreibein.o3 import (
    Action,
    Irreps,
    MLPReps,
    Reps,
    TensorReps,
    act,
    cofactor,
    determinant,
    parse_reps,
    random_rotations,
    solid_harmonics,
)

REPS = (
    "3x0e+2x0o+2x1o+1x1e+2x2e+1x2o+1x3o+1x4e",
    "5x0p+3x1n+2x2p+1x0n+2x1p+1x2n+1x3n+1x3p+1x4n+1x4p",
    "2x1o+3x2n+1x0e+2x1p+1x2o",
)


def einsum_reference(rank: int, factors: list[Tensor], x: Tensor) -> Tensor:
    """One Cartesian tensor contracted with one matrix an index."""
    inner, outer = "abcdef"[:rank], "uvwxyz"[:rank]
    terms = ",".join(o + i for o, i in zip(outer, inner))
    return torch.einsum(f"{terms},m{inner}->m{outer}", *factors, x) if rank else x


@pytest.mark.parametrize("text", ["5x0p+3x1n+2x2p+1x0n", "1x4n+2x3p+1x2n+3x1p", "2x4p+2x3n+5x0n"])
def test_cartesian_tensors_equal_einsum(text, generator):
    """Also for other than orthogonal M, where a pseudotensor averages the cofactor's place."""
    reps = TensorReps(text)
    orthogonal = random_rotations(3, generator=generator, improper=True)
    for matrix in [*orthogonal, *torch.randn(3, 3, 3, generator=generator)]:
        x = torch.randn(reps.dim, generator=generator)
        expected = []
        for (mul, kind), part in zip(reps, reps.slices()):
            piece = x[part].reshape(mul, *[3] * kind.rank)
            places = range(kind.rank) if kind.is_pseudo else [None]
            sets = [
                [cofactor(matrix) if k == place else matrix for k in range(kind.rank)]
                for place in places
            ]
            if kind.rank == 0:
                value = piece * determinant(matrix) if kind.is_pseudo else piece
            else:
                value = sum(einsum_reference(kind.rank, s, piece) for s in sets) / len(sets)
            expected.append(value.flatten())
        found = act(reps, matrix, x)
        assert torch.allclose(found, torch.cat(expected), atol=1e-12)
        is_orthogonal = torch.allclose(matrix @ matrix.mT, torch.eye(3), atol=1e-9)
        for (mul, kind), part in zip(reps, reps.slices()):
            if is_orthogonal and kind.rank:
                piece = x[part].reshape(mul, *[3] * kind.rank)
                plain = einsum_reference(kind.rank, [matrix] * kind.rank, piece).flatten()
                sign = determinant(matrix) if kind.is_pseudo else 1
                assert torch.allclose(found[part], sign * plain, atol=1e-12)


def test_inversion_gives_the_parity():
    """n flips at odd order, p at even order; o flips and e does not."""
    reps = parse_reps("16x0n+8x1n+2x1p+4x2n+2x3p+2x0p+3x1o+2x1e+2x2e+1x2o")
    x = torch.randn(reps.dim)
    found = act(reps, -torch.eye(3), x)
    for _, kind, start, stop in reps.segments:
        assert torch.allclose(found[start:stop], kind.parity * x[start:stop], atol=1e-14)


Act = Callable[[Reps, Tensor, Tensor], Tensor]


def check_two_sided(action: Act, generator: torch.Generator) -> None:
    """act(g M h) = act(g) act(M) act(h) for orthogonal g, h."""
    g, h = random_rotations(2, generator=generator, improper=True)
    h = h * -torch.sign(determinant(g) * determinant(h))
    for text, matrix in itertools.product(REPS, torch.randn(3, 3, 3, generator=generator)):
        reps = parse_reps(text)
        x = torch.randn(4, reps.dim, generator=generator)
        together = action(reps, g @ matrix @ h, x)
        one_by_one = action(reps, g, action(reps, matrix, action(reps, h, x)))
        assert torch.allclose(together, one_by_one, atol=1e-11 * (1 + together.abs().max()))


def test_act_is_equivariant_on_both_sides(generator):
    check_two_sided(act, generator)


def signed(reps: Reps, matrix: Tensor, x: Tensor) -> Tensor:
    return act(reps, matrix, x) * torch.sign(determinant(matrix))


def check_smooth(action: Act, generator: torch.Generator) -> None:
    """Through det M = 0 the step goes to zero with the step size."""
    plane = random_rotations(1, generator=generator)[0]
    for text in REPS:
        reps = parse_reps(text)
        x = torch.randn(reps.dim, generator=generator)
        for step in (1e-3, 1e-6):
            sides = [plane @ torch.diag(torch.tensor([1.0, 1.0, s])) for s in (-step, step)]
            jump = action(reps, sides[1], x) - action(reps, sides[0], x)
            assert jump.abs().max() < 100 * step


def test_act_is_smooth_where_the_handedness_changes(generator):
    check_smooth(act, generator)
    with pytest.raises(AssertionError):
        check_smooth(signed, generator)


def first_index_only(reps: Reps, matrix: Tensor, x: Tensor) -> Tensor:
    pieces = []
    for mul, kind, start, stop in reps.segments:
        part = x[..., start:stop].unflatten(-1, (mul, kind.dim))
        if kind.dim >= 9 and hasattr(kind, "rank"):
            part = (part.unflatten(-1, (3, -1)).mT @ matrix.mT).mT.flatten(-2)
        else:
            part = act(TensorReps("0n") * kind.dim, matrix, part)
        pieces.append(part.flatten(-2))
    return torch.cat(pieces, -1).flip(-1)


@pytest.mark.parametrize(
    "mutant",
    [
        first_index_only,
        lambda r, m, x: act(r, m.mT, x),
        lambda r, m, x: act(r, m / determinant(m).abs() ** 0.3, x).roll(1, -1),
    ],
)
def test_the_two_sided_law_catches(mutant, generator):
    with pytest.raises(AssertionError):
        check_two_sided(mutant, generator)


@given(
    st.sampled_from(REPS), st.integers(0, 1000), st.sampled_from([(), (5,), (2, 5)]), st.booleans()
)
def test_group_law_and_broadcasting(text, seed, batch, single):
    generator = torch.Generator().manual_seed(seed)
    reps = parse_reps(text)
    count = 1 if single or not batch else 5
    a = random_rotations(count, generator=generator, improper=True)
    b = random_rotations(count, generator=generator, improper=True)
    if not batch or single:
        a, b = a[0], b[0]
    x = torch.randn(*batch, reps.dim, generator=generator)
    assert torch.allclose(act(reps, a @ b, x), act(reps, a, act(reps, b, x)), atol=1e-12)
    norms = act(reps, a, x).norm(dim=-1)
    assert torch.allclose(norms, x.norm(dim=-1), atol=1e-12)
    back = Action(a).apply(reps, act(reps, a, x), transpose=True)
    assert torch.allclose(back, x, atol=1e-12)


def test_a_batch_of_matrices_meets_one_feature(generator):
    reps = parse_reps("2x0e+1o+2n")
    matrices = random_rotations(4, generator=generator)
    x = torch.randn(reps.dim, generator=generator)
    expected = torch.stack([act(reps, m, x) for m in matrices])
    assert torch.allclose(act(reps, matrices, x), expected, atol=1e-14)


def test_vectors_are_the_same_in_both_families(generator):
    matrix, x = torch.randn(3, 3, generator=generator), torch.randn(6, generator=generator)
    assert torch.equal(act(Irreps("2x1o"), matrix, x), act(TensorReps("2x1n"), matrix, x))
    assert torch.equal(act(Irreps("2x1e"), matrix, x), act(TensorReps("2x1p"), matrix, x))


@pytest.mark.parametrize("text", ["0o+1o+2e+1e+3o+2o", "0p+1n+2n+2p+3n", "1o+2n+1p"])
def test_gradients_of_features_and_matrices(text, generator):
    reps = parse_reps(text)
    for matrix in (torch.eye(3), torch.zeros(3, 3), torch.randn(3, 3, generator=generator)):
        m = matrix.clone().requires_grad_()
        x = torch.randn(2, reps.dim, generator=generator, requires_grad=True)

        def function(m: Tensor, x: Tensor, reps: Reps = reps) -> Tensor:
            return act(reps, m, x)

        assert torch.autograd.gradcheck(function, (m, x))
        assert torch.autograd.gradgradcheck(function, (m, x), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_types_are_kept_and_near(dtype, generator):
    for text in REPS:
        reps = parse_reps(text)
        matrix = random_rotations(3, generator=generator)
        x = torch.randn(3, reps.dim, generator=generator)
        for other in (matrix, matrix.to(dtype)):
            found = act(reps, other, x.to(dtype))
            assert found.dtype == dtype
            distance = (
                (found.double() - act(reps, other.double(), x.to(dtype).double())).abs().max()
            )
            assert distance < 40 * torch.finfo(dtype).eps


def test_autocast_does_not_round_the_geometry(generator):
    matrix = random_rotations(3, generator=generator).float()
    x = torch.randn(3, 9, generator=generator).float()
    reps = Irreps("0e+1o+2e")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = act(reps, matrix, x)
    assert torch.equal(found, act(reps, matrix, x))


def test_a_kept_matrix_does_not_lose_its_gradient(generator):
    matrix = random_rotations(3, generator=generator).requires_grad_()
    x = torch.randn(3, 5, generator=generator)
    action = Action(matrix)
    with torch.no_grad():
        action.apply(Irreps("2e"), x)
    with torch.inference_mode():
        action.apply(Irreps("2e"), x)
    (gradient,) = torch.autograd.grad(action.apply(Irreps("2e"), x).square()[0, 0], matrix)
    assert gradient[0].abs().max() > 0
    chosen = action.select(torch.tensor([2, 0, 0]))
    expected = act(Irreps("2e"), matrix[[2, 0, 0]], x)
    assert torch.allclose(chosen.apply(Irreps("2e"), x), expected, atol=1e-14)


def test_learned_parts_go_through_their_map(generator):
    reps = Irreps("2x0e+1o") + MLPReps(4)
    matrix, x = random_rotations(1, generator=generator)[0], torch.randn(9, generator=generator)
    found = act(reps, matrix, x, learned=lambda m, part: part * m.sum())
    assert torch.equal(found[:2], x[:2])
    assert torch.allclose(found[2:5], matrix @ x[2:5])
    assert torch.allclose(found[5:], x[5:] * matrix.sum())
    with pytest.raises(ValueError, match="learned="):
        act(reps, matrix, x)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"\[\.\.\., 3, 3\], got the shape \[4, 3\]"):
        act(Irreps("1o"), torch.zeros(4, 3), torch.zeros(3))
    with pytest.raises(ValueError, match=r"1x1o.*dimension 3, got the shape \[7, 4\]"):
        act(Irreps("1o"), torch.eye(3), torch.zeros(7, 4))
    with pytest.raises(ValueError, match="floating-point"):
        act(Irreps("1o"), torch.eye(3).long(), torch.zeros(3))


def test_empty_features_pass():
    assert act(Irreps(), torch.eye(3), torch.zeros(5, 0)).shape == (5, 0)
    assert act(Irreps("0x1o+2x0e"), torch.eye(3), torch.ones(5, 2)).shape == (5, 2)
    assert act(Irreps("2x1o"), torch.zeros(0, 3, 3), torch.ones(0, 6)).shape == (0, 6)


def test_it_compiles_without_a_break(generator):
    reps = parse_reps("2x0e+2x1o+2x2e+1x2n+1p")
    matrix = random_rotations(3, generator=generator)
    x = torch.randn(3, reps.dim, generator=generator)
    compiled = torch.compile(lambda m, x: act(reps, m, x), backend="eager", fullgraph=True)
    assert torch.allclose(compiled(matrix, x), act(reps, matrix, x), atol=1e-14)
    harmonics = torch.compile(solid_harmonics, backend="eager", fullgraph=True)
    assert torch.equal(harmonics(3, matrix[0]), solid_harmonics(3, matrix[0]))
