"""`parse_reps`: one string for representations of any family."""

from .blocks import Block
from .irreps import Irrep, Irreps
from .notation import terms
from .reps import MLPReps, Reps, direct_sum
from .tensors import Tensor, TensorReps


def parse_reps(source: str | Reps) -> Reps:
    """The representation in a string: e and o mark irreps, n and p tensors, m64 a learned part.

    Raises:
        ValueError: for unknown notation, with the position in the string.

    >>> parse_reps("8x0e+4x1o"), parse_reps("8x0n + 1p")
    (Irreps("8x0e+4x1o"), TensorReps("8x0n+1x1p"))
    >>> parse_reps("8x0e+4x2n+m16")
    DirectSum("8x0e+4x2n+m16")
    """
    if isinstance(source, Reps):
        return source
    parts: list[Reps] = []
    for mul, degree, letter, _ in terms(source, "eoynpm", "irreps or Cartesian tensors"):
        if letter == "m":
            parts.append(MLPReps(degree))
        elif letter in "np":
            parts.append(TensorReps([Block(mul, Tensor(degree, letter == "p"))]))
        else:
            parity = {"e": 1, "o": -1}.get(letter, (-1) ** degree)
            parts.append(Irreps([Block(mul, Irrep(degree, parity))]))
    return direct_sum(parts) if parts else Irreps()
