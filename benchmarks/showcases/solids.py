"""An imported potential on solids: one number checked, lattice constants, equations of state.

    dreibein import matgl TensorNet-MatPES-PBE-v2025.1-PES -o matpes.safetensors
    python benchmarks/showcases/solids.py matpes.safetensors -o docs/figures

The check is matgl 4.1.2's energy and stress of a rattled cell of silicon. Five elements are relaxed
with their cells in float64; eleven volumes within 12% give an equation of state (Birch-Murnaghan),
whose minimum must be the relaxed cell. A minute on one core.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.eos import EquationOfState

from dreibein.models import load_model
from dreibein.simulate import Calculator, relax_structure

MATGL_ENERGY = -41.465111  # eV
MATGL_STRESS = (-0.01542853, -0.01739927, -0.0151939, -0.01322242, 0.01333423, -0.01709106)
# Element, lattice, and the lattice constant (Å) of PBE with VASP: J. Paier et al., J. Chem. Phys.
# 124, 154709 (2006).
SOLIDS = (
    ("C", "diamond", 3.574),
    ("Na", "bcc", 4.200),
    ("Al", "fcc", 4.040),
    ("Si", "diamond", 5.469),
    ("Cu", "fcc", 3.635),
)
PER_CUBE = {"diamond": 8, "bcc": 2, "fcc": 4}
STRAINS = np.linspace(-0.04, 0.04, 11)


def check(model: Path) -> None:
    """Compare with matgl in both precisions."""
    for dtype in (torch.float64, torch.float32):
        atoms = bulk("Si", cubic=True)
        atoms.rattle(0.05, seed=1)
        atoms.calc = Calculator(load_model(model, dtype=dtype))
        backend = atoms.calc.evaluator.frozen.describe()
        off = np.abs(atoms.get_stress() - MATGL_STRESS).max()
        print(
            f"Si8 rattled, {backend}: E = {atoms.get_potential_energy():.6f} eV "
            f"(matgl {MATGL_ENERGY:.6f}), stress off by {off:.1e} eV/Å³"
        )
        print("  stress", " ".join(f"{s:.8f}" for s in atoms.get_stress()), "eV/Å³")
        if abs(atoms.get_potential_energy() - MATGL_ENERGY) > 2e-5 or off > 1e-6:
            raise SystemExit("that is not the imported potential")


def lattice_constant(atoms: Atoms, lattice: str) -> float:
    """Edge in Å of the cube that holds the primitive cell."""
    return float((atoms.get_volume() / len(atoms) * PER_CUBE[lattice]) ** (1 / 3))


def main() -> None:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="folder for the figure")
    given = parser.parse_args()
    torch.set_num_threads(1)
    check(given.model)
    potential = load_model(given.model, dtype=torch.float64)
    print("\nelement lattice  relaxed a/Å  a of the EOS/Å  PBE a/Å  difference  bulk modulus/GPa")
    curves = []
    for symbol, lattice, published in SOLIDS:
        start = bulk(symbol, lattice, a=1.03 * published)
        relaxed = relax_structure(start, potential, fmax=1e-5, cell=True)
        if not relaxed.converged:
            raise SystemExit(f"{symbol} did not relax")
        volumes, energies = [], []
        for strain in STRAINS:
            atoms = relaxed.atoms.copy()
            atoms.set_cell(atoms.cell.array * (1 + strain), scale_atoms=True)
            atoms.calc = Calculator(potential)
            volumes.append(atoms.get_volume() / len(atoms))
            energies.append(atoms.get_potential_energy() / len(atoms))
        volume, energy, modulus = EquationOfState(volumes, energies, "birchmurnaghan").fit()
        a = lattice_constant(relaxed.atoms, lattice)
        minimum = (volume * PER_CUBE[lattice]) ** (1 / 3)
        print(
            f"{symbol:7s} {lattice:8s} {a:11.4f} {minimum:15.4f} {published:8.3f} "
            f"{100 * (a / published - 1):+10.2f}% {modulus / units.GPa:17.1f}"
        )
        curves.append((symbol, a, published, STRAINS, np.array(energies) - energy))
    if given.output:
        print(f"\nfigure: {draw(curves, given.output)}")


def draw(curves: list[tuple[str, float, float, np.ndarray, np.ndarray]], folder: Path) -> Path:
    """Equations of state, and relaxed against published lattice constants."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    for symbol, a, published, strains, energies in curves:
        (line,) = left.plot(100 * strains, 1e3 * energies, "o-", ms=3.5, lw=1.4, label=symbol)
        right.plot(published, a, "o", color=line.get_color(), ms=6)
        shift = 100 * (a / published - 1)
        label = f"  {symbol} {shift:+.2f}%"
        right.annotate(label, (published, a), va="top", fontsize=9)
    left.set(xlabel="change of the lattice constant / %", ylabel="energy / meV per atom")
    left.set_ylim(-10, 400)
    left.legend(frameon=False)
    ends = [3.4, 5.9]
    right.plot(ends, ends, ":", color="0.6", lw=1, zorder=0)
    right.set(xlabel="PBE, VASP (Paier et al. 2006) / Å", ylabel="relaxed with the potential / Å")
    right.set(xlim=ends, ylim=ends)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "equations_of_state.svg"
    matplotlib.rcParams["svg.hashsalt"] = "dreibein"
    figure.savefig(path, metadata={"Date": None})
    return path


if __name__ == "__main__":
    main()
