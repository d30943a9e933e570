"""Dual numbers: a value and its derivative in one direction, carried through any arithmetic.

A kernel written for vectors of channels and called with duals of them computes its own derivative
in a direction: x + e x' with e e = 0. Applied to the way back of a kernel this gives second
derivatives, so none is written by hand (forward over reverse).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dreibein.ops.lanes import Lanes, Vector


@dataclass(frozen=True)
class Dual:
    """The number value + e slope; a plain vector or float counts as one without slope."""

    value: Vector
    slope: Vector

    def __add__(self, other: "Number") -> "Dual":
        if isinstance(other, Dual):
            return Dual(self.value + other.value, self.slope + other.slope)
        return Dual(self.value + other, self.slope)

    __radd__ = __add__

    def __neg__(self) -> "Dual":
        return Dual(-self.value, -self.slope)

    def __sub__(self, other: "Number") -> "Dual":
        return self + (-other)

    def __rsub__(self, other: "Number") -> "Dual":
        return (-self) + other

    def __mul__(self, other: "Number") -> "Dual":
        if isinstance(other, Dual):
            slope = self.slope * other.value + self.value * other.slope
            return Dual(self.value * other.value, slope)
        return Dual(self.value * other, self.slope * other)

    __rmul__ = __mul__

    def __rtruediv__(self, other: float) -> "Dual":
        inverse = 1.0 / self.value
        return Dual(other * inverse, -other * self.slope * (inverse * inverse))


Number = Dual | Vector | float
Numbers = Sequence[Any]


def sigmoid(lanes: Lanes, x: Any) -> Any:
    """1 / (1 + exp(-x)) of a vector or a dual."""
    if isinstance(x, Dual):
        value = lanes.sigmoid(x.value)
        return Dual(value, value * (1.0 - value) * x.slope)
    return lanes.sigmoid(x)
