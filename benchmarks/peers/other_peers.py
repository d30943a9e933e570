"""Networks of other codes, of like size and with random weights of their own, as ASE calculators.

matgl's TensorNet has the same channels, layers and cutoff, but Gaussian radial functions and
other details, so that no weights can be shared. MACE has as many channels of scalars and vectors
and two layers whatever the size; it is another kind of network and stands here for orientation.
Both search their neighbors in every call.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from cases import Case, Size

ELEMENTS = (1, 6, 7, 8)


def matgl_calculator(size: Size) -> Any:
    """Matgl's TensorNet behind its calculator; energy and forces alone."""
    from matgl.apps.pes import Potential
    from matgl.ext.ase import PESCalculator
    from matgl.models import TensorNet

    network = TensorNet(
        element_types=tuple(chemical_symbols[z] for z in ELEMENTS),
        units=size.channels,
        nblocks=size.layers,
        num_rbf=size.num_radial,
        cutoff=size.cutoff,
        is_intensive=False,
    )
    return PESCalculator(Potential(network, calc_stresses=False).eval(), stress_unit="eV/A3")


def mace_calculator(size: Size) -> Any:
    """A two-layer MACE with max_ell 3 and correlation 3 behind its calculator."""
    # its e3nn 0.4.4 reads a file of constants, its own, in a way that torch refuses by default
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    import torch
    from e3nn import o3
    from mace.calculators import MACECalculator
    from mace.modules import ScaleShiftMACE, interaction_classes

    kind = interaction_classes["RealAgnosticResidualInteractionBlock"]
    network = ScaleShiftMACE(
        r_max=size.cutoff,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=kind,
        interaction_cls_first=kind,
        num_interactions=2,
        num_elements=len(ELEMENTS),
        hidden_irreps=o3.Irreps(f"{size.channels}x0e + {size.channels}x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(ELEMENTS)),
        avg_num_neighbors=20.0,
        atomic_numbers=list(ELEMENTS),
        correlation=3,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    return MACECalculator(models=network.float(), device="cpu", default_dtype="float32")


CALCULATORS = {"matgl": matgl_calculator, "mace-torch": mace_calculator}


def evaluator(peer: str, case: Case, size: Size) -> Callable[[np.ndarray], np.ndarray]:
    """Forces of a frame through the calculator."""
    import torch

    torch.manual_seed(0)
    calculator = CALCULATORS[peer](size)
    cell = [case.cell] * 3 if case.cell else None
    atoms = Atoms(case.numbers, case.positions, cell=cell, pbc=case.cell > 0)
    atoms.calc = calculator

    def call(frame: np.ndarray) -> np.ndarray:
        atoms.positions = frame[0]
        return atoms.get_forces()

    return call
