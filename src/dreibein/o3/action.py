"""`act(rep, M, x)`: how anything transforms, for every 3x3 matrix M.

With P_l from `wigner` and K_n(M) = M x ... x M (n factors), channel by channel

    irrep l, true      y = P_l(M) x            Cartesian n, normal    y = K_n(M) x            (1)
    irrep l, pseudo    y = P_l^p(M) x          Cartesian n, pseudo    y = K_n^p(M) x
    0e, 0n             y = x                   0o, 0p                 y = det(M) x

    K_n^p(M) = 1/n sum_k M x .. x cof(M) x .. x M   (cof in place k)             (2)

For orthogonal M this is the representation itself: (2) is det(R) K_n(R). All are polynomials in the
entries of M, so gradients of every order exist everywhere, and act(g M h) = act(g) act(M) act(h)
for orthogonal g and h and any M.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .irreps import Irrep
from .precision import at_least_float32, caching_mode, full_precision
from .reps import Reps
from .tensors import Tensor as Cartesian
from .wigner import cofactor, determinant, raise_degree

Learned = Callable[[Tensor, Tensor], Tensor]
"""Map of a matrix [..., 3, 3] and features [..., width] to features: it carries `MLPReps`."""

_DENSE_RANK = 2
"""Cartesian tensors of higher rank are contracted index group by index group."""


class Action:
    """One M, or a batch of them, in every representation; each matrix is computed once and kept.

    Args:
        matrix: [..., 3, 3], any matrices.

    Raises:
        ValueError: if the last two dimensions are not 3x3.

    >>> turn = Action(torch.diag(torch.tensor([-1.0, -1.0, 1.0])))
    >>> turn.matrix_of(Irrep(1, 1)).diagonal()
    tensor([-1., -1.,  1.])
    """

    def __init__(self, matrix: Tensor):
        if matrix.shape[-2:] != (3, 3):
            raise ValueError(f"expected matrices [..., 3, 3], got the shape {list(matrix.shape)}")
        if not matrix.is_floating_point():
            raise ValueError(f"expected floating-point matrices, got {matrix.dtype}")
        self.matrix = at_least_float32(matrix)
        self._kept: dict[tuple[object, ...], Tensor] = {}

    def matrix_of(self, kind: Irrep | Cartesian) -> Tensor:
        """The matrix [..., d, d] that acts on one channel of `kind`."""
        return self.keep(("matrix", kind), lambda: self._compute(kind))

    def apply(
        self, rep: Reps, x: Tensor, *, transpose: bool = False, learned: Learned | None = None
    ) -> Tensor:
        """act(rep, M, x), or act(rep, M^T, x) if `transpose`; `x` keeps its type.

        Args:
            rep: what x transforms as.
            x: [..., rep.dim]; leading dimensions broadcast against those of M.
            transpose: use M^T; for a rotation that is the way back.
            learned: carries `MLPReps` parts.

        Raises:
            ValueError: for a wrong last dimension, or an `MLPReps` part without `learned`.
        """
        check_features(rep, x)
        batch = torch.broadcast_shapes(self.matrix.shape[:-2], x.shape[:-1])
        pieces = []
        with full_precision(x):
            for mul, kind, start, stop in rep.segments:
                part = x[..., start:stop]
                if start == stop or (kind is not None and kind.is_trivial):
                    piece = part
                elif kind is None:
                    piece = self._apply_learned(part, transpose, learned)
                else:
                    channels = part.unflatten(-1, (mul, kind.dim))
                    piece = self._apply_kind(kind, channels, transpose).flatten(-2)
                pieces.append(piece.expand(*batch, stop - start))
        return torch.cat(pieces, -1) if pieces else x.expand(*batch, 0)

    def select(self, index: Tensor) -> "Action":
        """The action of matrix[index]; matrices already known are indexed, not computed again."""
        return _Selected(self, index)

    def keep(self, name: tuple[object, ...], compute: Callable[[], Tensor]) -> Tensor:
        """The tensor kept under `name`, computed when first asked for in this gradient mode."""
        key = (*name, *caching_mode())
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def _apply_kind(self, kind: Irrep | Cartesian, x: Tensor, transpose: bool) -> Tensor:
        if isinstance(kind, Irrep) or kind.rank <= _DENSE_RANK:
            return _multiply(x, self.matrix_of(kind), transpose)
        inner, outer = _DENSE_RANK, kind.rank - _DENSE_RANK
        x = x.unflatten(-1, (3**outer, 3**inner))
        pairs = [(Cartesian(outer), Cartesian(inner))]
        weights = [1.0]
        if kind.is_pseudo:
            pairs = [(Cartesian(outer, True), pairs[0][1]), (pairs[0][0], Cartesian(inner, True))]
            weights = [outer / kind.rank, inner / kind.rank]
        terms = [
            _multiply(
                _multiply(x, self.matrix_of(right)[..., None, :, :], transpose).mT,
                self.matrix_of(left)[..., None, :, :],
                transpose,
            ).mT
            * weight
            for (left, right), weight in zip(pairs, weights)
        ]
        return torch.stack(terms).sum(0).flatten(-2)

    def _apply_learned(self, x: Tensor, transpose: bool, learned: Learned | None) -> Tensor:
        if learned is None:
            raise ValueError(
                "an MLPReps part has no fixed action, pass learned=f with f(matrix, x) -> x"
            )
        return learned(self.matrix.mT if transpose else self.matrix, x)

    def _compute(self, kind: Irrep | Cartesian) -> Tensor:
        with full_precision(self.matrix):
            if kind.dim == 1:
                one = determinant(self.matrix) if kind.is_pseudo else self.matrix.new_ones(())
                return one.expand(self.matrix.shape[:-2])[..., None, None]
            if isinstance(kind, Irrep):
                batch = self.matrix.shape[:-2]
                return self._degree(kind).permute(2, 0, 1).reshape(*batch, kind.dim, kind.dim)
            return self._cartesian(kind)

    def _cartesian(self, kind: Cartesian) -> Tensor:
        if kind.rank == 1:
            return self._cofactor() if kind.is_pseudo else self.matrix
        first = kind.rank // 2
        last = kind.rank - first
        if not kind.is_pseudo:
            return _kronecker(self.matrix_of(Cartesian(first)), self.matrix_of(Cartesian(last)))
        terms = [
            _kronecker(
                self.matrix_of(Cartesian(first, in_first)),
                self.matrix_of(Cartesian(last, not in_first)),
            )
            * (share / kind.rank)
            for in_first, share in ((True, first), (False, last))
        ]
        return terms[0] + terms[1]

    def _degree(self, kind: Irrep) -> Tensor:
        """P_l or P_l^p as [2l+1, 2l+1, N], from the next lower degree."""
        if kind.l == 1:
            return self._batch_last(self._cofactor() if kind.is_pseudo else self.matrix)
        lower = Irrep(kind.l - 1, (-1) ** (kind.l - 1))
        step = self._batch_last(self._cofactor() if kind.is_pseudo else self.matrix)
        return self.keep(("degree", kind), lambda: raise_degree(self._degree(lower), step, kind.l))

    def _cofactor(self) -> Tensor:
        return self.keep(("cofactor",), lambda: cofactor(self.matrix))

    def _batch_last(self, matrix: Tensor) -> Tensor:
        return matrix.reshape(-1, 3, 3).permute(1, 2, 0).contiguous()


class _Selected(Action):
    """Rows `index` of another action."""

    def __init__(self, source: Action, index: Tensor):
        super().__init__(source.matrix[index])
        self._source, self._index = source, index

    def _compute(self, kind: Irrep | Cartesian) -> Tensor:
        return self._source.matrix_of(kind)[self._index]


def act(rep: Reps, matrix: Tensor, x: Tensor, *, learned: Learned | None = None) -> Tensor:
    """Features x transformed by M: equation (1) on each channel.

    Args:
        rep: what x transforms as.
        matrix: M [..., 3, 3]; need not be orthogonal.
        x: [..., rep.dim]; leading dimensions broadcast against those of M; the result has its type.
        learned: f(matrix, x) that carries `MLPReps` parts.

    Raises:
        ValueError: for matrices that are not 3x3 or features of another width.

    >>> from dreibein.o3 import TensorReps
    >>> mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
    >>> act(TensorReps("1x0p+1x1n"), mirror, torch.tensor([1.0, 1.0, 2.0, 3.0]))
    tensor([-1.,  1.,  2., -3.])
    """
    return Action(matrix).apply(rep, x, learned=learned)


def check_features(rep: Reps, x: Tensor) -> None:
    """Nothing if the last dimension of x is `rep.dim`, else a ValueError naming both."""
    if x.shape[-1:] != (rep.dim,):
        raise ValueError(
            f"features of {rep!r} have the last dimension {rep.dim}, got the shape {list(x.shape)}"
        )


def _multiply(x: Tensor, matrix: Tensor, transpose: bool) -> Tensor:
    """y[..., u, :] = M x[..., u, :], or M^T x."""
    matrix = matrix.to(x.dtype)
    return x @ (matrix if transpose else matrix.mT)


def _kronecker(a: Tensor, b: Tensor) -> Tensor:
    product = a[..., :, None, :, None] * b[..., None, :, None, :]
    return product.flatten(-2).flatten(-3, -2)
