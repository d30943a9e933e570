"""Sums of blocks of one family, `mul x kind`: what `Irreps` and `TensorReps` share."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar, overload

from .reps import Reps, Segment


class Kind(Protocol):
    """One irreducible or Cartesian type: `Irrep` or `Tensor`."""

    @property
    def dim(self) -> int:
        """Number of components."""

    @property
    def parity(self) -> int:
        """Sign under inversion, +1 or -1."""

    @property
    def is_trivial(self) -> bool:
        """Whether every matrix acts as the number one."""

    @property
    def sort_key(self) -> tuple[int, int]:
        """Key by which blocks are sorted."""


K = TypeVar("K", bound=Kind)


class Block(NamedTuple, Generic[K]):
    """`mul` channels of one kind; unpacks as `mul, kind = block`."""

    mul: int
    kind: K

    @property
    def dim(self) -> int:
        """Components of all channels together."""
        return self.mul * self.kind.dim

    def __str__(self) -> str:
        return f"{self.mul}x{self.kind}"


class Sorted(NamedTuple, Generic[K]):
    """What `sort` returns: old block i is new block p[i], and x_new = x[..., order]."""

    reps: Any
    p: tuple[int, ...]
    inv: tuple[int, ...]
    order: tuple[int, ...]


@dataclass(frozen=True, init=False, repr=False)
class BlockReps(Reps, Generic[K]):
    """A sum of blocks of one family: `Irreps` and `TensorReps` are its two forms."""

    blocks: tuple[Block[K], ...]
    _segments: tuple[Segment, ...] = field(compare=False)
    family: ClassVar[str]

    def __init__(self, source: "str | BlockReps[K] | Iterable[Any]" = ()):
        blocks: tuple[Block[K], ...]
        if isinstance(source, str):
            blocks = tuple(self._parse(source))
        elif isinstance(source, BlockReps):
            if not isinstance(source, type(self)):
                raise ValueError(
                    f"cannot read {self.family} from {source!r}, use dreibein.o3.bridge"
                )
            blocks = source.blocks
        else:
            blocks = tuple(self._block(item) for item in source)
        segments, start = [], 0
        for block in blocks:
            segments.append(Segment(block.mul, block.kind, start, start + block.dim))
            start += block.dim
        object.__setattr__(self, "blocks", blocks)
        object.__setattr__(self, "_segments", tuple(segments))

    @classmethod
    @abstractmethod
    def _parse(cls, text: str) -> "list[Block[K]]":
        """Blocks that the text describes."""

    @classmethod
    @abstractmethod
    def _kind(cls, source: Any) -> K:
        """One kind from a string or from itself."""

    @classmethod
    def _block(cls, item: Any) -> Block[K]:
        if not isinstance(item, tuple):
            return Block(1, cls._kind(item))
        mul, kind = item
        if not isinstance(mul, int) or mul < 0:
            raise ValueError(f"a multiplicity is an integer of at least 0, got {mul!r}")
        return Block(mul, cls._kind(kind))

    def _joined(self, other: Reps) -> "Reps | None":
        if isinstance(other, type(self)):
            return type(self)(self.blocks + other.blocks)
        return None

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Where each block of channels stands among the features."""
        return self._segments

    def slices(self) -> list[slice]:
        """The slice of the features that each block occupies."""
        return [slice(segment.start, segment.stop) for segment in self.segments]

    def sort(self) -> Sorted[K]:
        """Blocks by degree, then odd before even (e3nn's order); stable.

        >>> from dreibein.o3 import Irreps
        >>> Irreps("1x1o+2x0e").sort().order
        (3, 4, 0, 1, 2)
        """
        inv = sorted(range(len(self)), key=lambda i: self.blocks[i].kind.sort_key)
        p = sorted(range(len(self)), key=lambda i: inv[i])
        slices = self.slices()
        order = tuple(k for i in inv for k in range(slices[i].start, slices[i].stop))
        return Sorted(type(self)(self.blocks[i] for i in inv), tuple(p), tuple(inv), order)

    def simplify(self) -> Self:
        """The same features in fewer blocks: neighbors of one kind joined, empty blocks dropped."""
        joined: list[Block[K]] = []
        for block in self.blocks:
            if joined and joined[-1].kind == block.kind:
                joined[-1] = Block(joined[-1].mul + block.mul, block.kind)
            elif block.mul:
                joined.append(block)
        return type(self)(joined)

    def regroup(self) -> Self:
        """Sorted and simplified; the features change their order, see `sort`."""
        return type(self)(self.sort().reps).simplify()

    def count(self, kind: "K | str") -> int:
        """Number of channels of one kind."""
        wanted = self._kind(kind)
        return sum(block.mul for block in self.blocks if block.kind == wanted)

    def __contains__(self, kind: "K | str") -> bool:
        return self.count(kind) > 0

    def __len__(self) -> int:
        return len(self.blocks)

    def __iter__(self) -> Iterator[Block[K]]:
        return iter(self.blocks)

    @overload
    def __getitem__(self, index: int) -> Block[K]: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> "Block[K] | Self":
        if isinstance(index, slice):
            return type(self)(self.blocks[index])
        return self.blocks[index]

    def __mul__(self, times: int) -> Self:
        return type(self)(self.blocks * times)

    __rmul__ = __mul__

    def __str__(self) -> str:
        return "+".join(str(block) for block in self.blocks)

    def __repr__(self) -> str:
        return f'{type(self).__name__}("{self}")'
