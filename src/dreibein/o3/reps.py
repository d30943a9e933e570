"""What all representations share: they are immutable values without tensors in them.

A representation says how the last dimension of a feature transforms. Features are laid out block
after block, in a block the channels outermost: `mul x kind` is [mul, kind.dim] flattened, as in
e3nn.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple


class Segment(NamedTuple):
    """Features `start:stop` hold `mul` channels of `kind` (None: a learned part of that width)."""

    mul: int
    kind: Any
    start: int
    stop: int


class Reps(ABC):
    """How `dim` numbers transform; `+` forms direct sums of any two."""

    @property
    @abstractmethod
    def segments(self) -> tuple[Segment, ...]:
        """Where each block of channels stands among the features."""

    @property
    def parts(self) -> "tuple[Reps, ...]":
        """The summands that are of one family each."""
        return (self,)

    @property
    def dim(self) -> int:
        """Number of components of one feature vector."""
        return self.segments[-1].stop if self.segments else 0

    @property
    def num_channels(self) -> int:
        """Number of channels, that is of copies that may each be weighted by one number."""
        return sum(segment.mul for segment in self.segments)

    @cached_property
    def channel_index(self) -> tuple[int, ...]:
        """Channel of each component: `weights[..., channel_index]` scales whole channels.

        >>> from dreibein.o3 import Irreps
        >>> Irreps("2x0e+1x1o").channel_index
        (0, 1, 2, 2, 2)
        """
        index: list[int] = []
        channel = 0
        for mul, _, start, stop in self.segments:
            width = (stop - start) // mul if mul else 0
            index += [channel + u for u in range(mul) for _ in range(width)]
            channel += mul
        return tuple(index)

    @property
    def needs_learned(self) -> bool:
        """Whether a part of it has no fixed action (`MLPReps`)."""
        return any(segment.kind is None for segment in self.segments)

    def _joined(self, other: "Reps") -> "Reps | None":
        """The sum as one value of this family; None if there is none."""
        return None

    def __add__(self, other: "Reps") -> "Reps":
        if not isinstance(other, Reps):
            return NotImplemented
        return direct_sum((self, other))


@dataclass(frozen=True, repr=False)
class MLPReps(Reps):
    """`width` numbers carried between frames by a learned map of (U, x): no group acts on them.

    Messages then depend on nothing but invariants, yet going j to k to i differs from j to i. They
    have no global form, so they can be neither inputs nor outputs.

    >>> from dreibein.o3 import Irreps
    >>> MLPReps(64) + Irreps("8x0e")
    DirectSum("m64+8x0e")
    """

    width: int

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The whole width in one segment without a kind."""
        return (Segment(1, None, 0, self.width),)

    def __str__(self) -> str:
        return f"m{self.width}"

    def __repr__(self) -> str:
        return f"MLPReps({self.width})"


@dataclass(frozen=True, repr=False)
class DirectSum(Reps):
    """Representations of several families side by side; made by `+` or `parse_reps`.

    >>> from dreibein.o3 import Irreps, TensorReps
    >>> mixed = Irreps("8x0e+2x1o") + TensorReps("4x2n")
    >>> mixed, mixed.dim
    (DirectSum("8x0e+2x1o+4x2n"), 50)
    """

    summands: tuple[Reps, ...]
    _segments: tuple[Segment, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        segments: list[Segment] = []
        offset = 0
        for part in self.summands:
            segments += [
                Segment(mul, kind, start + offset, stop + offset)
                for mul, kind, start, stop in part.segments
            ]
            offset += part.dim
        object.__setattr__(self, "_segments", tuple(segments))

    @property
    def parts(self) -> tuple[Reps, ...]:
        """The summands, none of them a sum."""
        return self.summands

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Segments of all parts, one part after the other."""
        return self._segments

    def slices(self) -> list[slice]:
        """The slice of the features that each part occupies."""
        stops = [0]
        for part in self.summands:
            stops.append(stops[-1] + part.dim)
        return [slice(start, stop) for start, stop in pairwise(stops)]

    def __str__(self) -> str:
        return "+".join(str(part) for part in self.summands)

    def __repr__(self) -> str:
        return f'DirectSum("{self}")'


def direct_sum(summands: Iterable[Reps]) -> Reps:
    """The sum in the given order, neighbors of one family joined."""
    parts: list[Reps] = []
    for part in (part for summand in summands for part in summand.parts):
        joined = parts[-1]._joined(part) if parts else None
        if joined is not None:
            parts[-1] = joined
        elif parts and not parts[-1].segments:
            parts[-1] = part
        elif part.segments or not parts:
            parts.append(part)
    return parts[0] if len(parts) == 1 else DirectSum(tuple(parts))


def require_same(found: Reps, expected: Reps, where: str) -> None:
    """Nothing if the two are equal.

    Raises:
        ValueError: naming both representations and `where` they meet.
    """
    if found != expected:
        raise ValueError(f"{where} expects features of {expected!r}, but they are {found!r}")
