"""Cartesian tensors of any order: `TensorReps("16x0n+8x1n+4x2p")`.

`Tensor(rank)` has 3^rank components T_{ijk...}, row-major, and transforms as T'_{ij...} = R_ia
R_jb ... T_{ab...} (n, normal); a pseudotensor (p) takes one more factor det R. They are reducible:
`dreibein.o3.bridge` writes them as irreps.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from .blocks import Block, BlockReps
from .notation import notation_error, terms


@dataclass(frozen=True)
class Tensor:
    """A Cartesian tensor with `rank` indices, pseudo or not.

    >>> Tensor.parse("2n").dim, Tensor.parse("1p").parity
    (9, 1)
    """

    rank: int
    is_pseudo: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """The tensor written as its order and n (normal) or p (pseudo)."""
        found = terms(text, "np", "Cartesian tensors")
        if len(found) != 1 or found[0].mul != 1:
            raise notation_error(text, 0, "expected one Cartesian tensor such as 2n")
        return cls(found[0].degree, found[0].letter == "p")

    @property
    def dim(self) -> int:
        """3^rank."""
        return int(3**self.rank)

    @property
    def parity(self) -> int:
        """Sign under inversion: (-1)^rank, the opposite for a pseudotensor."""
        return int((-1) ** (self.rank + self.is_pseudo))

    @property
    def is_trivial(self) -> bool:
        """Whether it is 0n."""
        return self.rank == 0 and not self.is_pseudo

    @property
    def sort_key(self) -> tuple[int, int]:
        """Sorting key: rank, then normal before pseudo."""
        return (self.rank, int(self.is_pseudo))

    def __str__(self) -> str:
        return f"{self.rank}{'p' if self.is_pseudo else 'n'}"


class TensorReps(BlockReps[Tensor]):
    """A direct sum of Cartesian tensors.

    Args:
        source: `"16x0n+8x1n+4x2p"`, another `TensorReps`, or blocks such as `[(16, "0n")]`.

    Raises:
        ValueError: for unknown notation, with the position in the string.

    >>> TensorReps("64x0n+32x1n+16x2n").dim
    304
    >>> TensorReps("5x0p+3x1n+2x1n+1x0n").regroup()
    TensorReps("1x0n+5x0p+5x1n")
    """

    family: ClassVar[str] = "Cartesian tensors"

    @classmethod
    def _parse(cls, text: str) -> list[Block[Tensor]]:
        return [
            Block(mul, Tensor(rank, letter == "p"))
            for mul, rank, letter, _ in terms(text, "np", "Cartesian tensors")
        ]

    @classmethod
    def _kind(cls, source: Any) -> Tensor:
        if isinstance(source, Tensor):
            return source
        if isinstance(source, str):
            return Tensor.parse(source)
        raise ValueError(f"expected a Cartesian tensor such as '1n', got {source!r}")

    @property
    def max_rank(self) -> int:
        """Largest number of indices; 0 for an empty sum."""
        return max((block.kind.rank for block in self.blocks), default=0)
