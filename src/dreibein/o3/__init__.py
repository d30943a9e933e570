"""The group O(3) and its representations; no atom here.

    Irreps("64x0e+32x1o")      irreducible, e3nn's notation, order and signs
    TensorReps("16x0n+8x1n")   Cartesian, n normal, p pseudo
    MLPReps(64)                carried by a learned map
    a + b, parse_reps(text)    direct sums (`DirectSum`), any of them from a string
    act(rep, M, x)             features x under any 3x3 matrix M (the equation stands in `action`)
    Action(M)                  the same, every matrix computed once: .apply(rep, x)
    wigner_matrix(l, M)        polynomial Wigner matrix
    clebsch_gordan(l1, l2, l3) how two degrees couple to a third
    solid_harmonics(lmax, r)   Y_0 .. Y_lmax of vectors
    bridge                     Cartesian tensors as irreps and back

Features are [..., rep.dim]: block after block, in a block [mul, kind.dim] flattened.
"""

from . import bridge
from .action import Action, Learned, act, check_features
from .blocks import Block
from .clebsch_gordan import axial_coupling, clebsch_gordan
from .harmonics import solid_harmonics
from .irreps import Irrep, Irreps
from .parsing import parse_reps
from .precision import at_least_float32, caching_mode, full_precision
from .reps import DirectSum, MLPReps, Reps, Segment, direct_sum, require_same
from .rotations import from_axis_angle, from_quaternion, random_rotations
from .tensors import Tensor, TensorReps
from .wigner import cofactor, determinant, wigner_matrix

__all__ = [
    "Action",
    "Block",
    "DirectSum",
    "Irrep",
    "Irreps",
    "Learned",
    "MLPReps",
    "Reps",
    "Segment",
    "Tensor",
    "TensorReps",
    "act",
    "at_least_float32",
    "bridge",
    "axial_coupling",
    "caching_mode",
    "check_features",
    "clebsch_gordan",
    "cofactor",
    "determinant",
    "direct_sum",
    "from_axis_angle",
    "from_quaternion",
    "full_precision",
    "parse_reps",
    "random_rotations",
    "require_same",
    "solid_harmonics",
    "wigner_matrix",
]
