"""Irreducible representations of O(3), as e3nn writes them: `Irreps("64x0e+32x1o")`.

`Irrep(l, p)` has 2l+1 components and takes the sign p under inversion. The basis of l = 1 is (x, y,
z). True tensors have p = (-1)^l (0e, 1o, 2e); the others are pseudotensors (0o, 1e, 2o) and take
one more factor det R.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from .blocks import Block, BlockReps
from .notation import notation_error, terms

_PARITY = {"e": 1, "o": -1}


@dataclass(frozen=True)
class Irrep:
    """Degree `l` with `p` = +1 (even) or -1 (odd) under inversion.

    >>> Irrep.parse("2e").dim, Irrep.parse("1e").is_pseudo
    (5, True)
    """

    l: int
    p: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The irrep that e3nn writes so: a degree and e, o or y (y: the parity of harmonics)."""
        found = terms(text, "eoy", "irreps")
        if len(found) != 1 or found[0].mul != 1:
            raise notation_error(text, 0, "expected one irrep such as 1o")
        degree, letter = found[0].degree, found[0].letter
        return cls(degree, _PARITY.get(letter, (-1) ** degree))

    @property
    def dim(self) -> int:
        """2l+1."""
        return 2 * self.l + 1

    @property
    def parity(self) -> int:
        """Sign under inversion."""
        return self.p

    @property
    def is_pseudo(self) -> bool:
        """Whether p differs from (-1)^l."""
        return self.p != (-1) ** self.l

    @property
    def is_trivial(self) -> bool:
        """Whether it is 0e."""
        return self.l == 0 and self.p == 1

    @property
    def sort_key(self) -> tuple[int, int]:
        """Sorting key: degree, then odd before even."""
        return (self.l, self.p)

    def __str__(self) -> str:
        return f"{self.l}{'e' if self.p == 1 else 'o'}"


class Irreps(BlockReps[Irrep]):
    """A direct sum of irreps, as e3nn writes it.

    Args:
        source: `"64x0e+32x1o"`, another `Irreps`, or blocks such as `[(64, "0e"), (32, "1o")]`.

    Raises:
        ValueError: for unknown notation, with the position in the string.

    >>> reps = Irreps("64x0e + 32x1o+16x2e")
    >>> reps.dim, reps.lmax, reps[1:], [mul for mul, ir in reps]
    (240, 2, Irreps("32x1o+16x2e"), [64, 32, 16])
    >>> Irreps("64x0e+32q1o")
    Traceback (most recent call last):
    ValueError: expected one of the letters e, o, y (irreps), found 'q', at position 8
      64x0e+32q1o
              ^
    """

    family: ClassVar[str] = "irreps"

    @classmethod
    def _parse(cls, text: str) -> list[Block[Irrep]]:
        return [
            Block(mul, Irrep(degree, _PARITY.get(letter, (-1) ** degree)))
            for mul, degree, letter, _ in terms(text, "eoy", "irreps")
        ]

    @classmethod
    def _kind(cls, source: Any) -> Irrep:
        if isinstance(source, Irrep):
            return source
        if isinstance(source, str):
            return Irrep.parse(source)
        raise ValueError(f"expected an irrep such as '1o', got {source!r}")

    @classmethod
    def harmonics(cls, lmax: int) -> "Irreps":
        """What spherical harmonics up to `lmax` transform as.

        >>> Irreps.harmonics(2)
        Irreps("1x0e+1x1o+1x2e")
        """
        return cls(Block(1, Irrep(degree, (-1) ** degree)) for degree in range(lmax + 1))

    @property
    def lmax(self) -> int:
        """Largest degree; 0 for an empty sum."""
        return max((block.kind.l for block in self.blocks), default=0)
