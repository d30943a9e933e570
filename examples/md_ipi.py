"""Path-integral dynamics of ethanol in i-PI, which moves the atoms and asks this driver for forces.

The model is small, seeded and untrained, so the numbers mean nothing but the agreement. With a
model of yours:

    python examples/md_ipi.py --model runs/ethanol/model.safetensors --beads 8
"""

import argparse
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from ase import Atoms
from ase.build import molecule

from dreibein.models import TensorNetConfig, build_potential, save_model
from dreibein.simulate import Calculator, ipi_driver

INPUT = """
<simulation verbosity='low'>
  <output prefix='run'>
    <properties filename='out' stride='{stride}' flush='1'>
      [step, potential{{electronvolt}}, conserved{{electronvolt}}, temperature{{kelvin}}]
    </properties>
  </output>
  <total_steps>{steps}</total_steps>
  <prng> <seed>1</seed> </prng>
  <ffsocket mode='inet' name='dreibein' pbc='False'>
    <address>localhost</address> <port>{port}</port> <latency>1e-4</latency>
  </ffsocket>
  <system>
    <initialize nbeads='{beads}'>
      <file mode='ase'>start.extxyz</file>
      <velocities mode='thermal' units='kelvin'>300</velocities>
    </initialize>
    <forces> <force forcefield='dreibein'/> </forces>
    <ensemble> <temperature units='kelvin'>300</temperature> </ensemble>
    <motion mode='dynamics'>
      <dynamics mode='nvt'>
        <timestep units='femtosecond'>0.25</timestep>
        <thermostat mode='pile_g'> <tau units='femtosecond'>100</tau> </thermostat>
      </dynamics>
    </motion>
  </system>
</simulation>
"""


def untrained_model(folder: Path) -> Path:
    """A model file with seeded random weights."""
    torch.manual_seed(0)
    config = TensorNetConfig(channels=16, layers=1, num_radial=8, cutoff=4.5)
    potential = build_potential(config, elements=(1, 6, 8), scale=1.0, dtype=torch.float64)
    path = folder / "model.safetensors"
    save_model(potential, path)
    return path


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def run(model: Path, atoms: Atoms, steps: int, beads: int, folder: Path) -> None:
    """Start the server in a folder, serve it to its end, and print what it wrote."""
    port = free_port()
    boxed = atoms.copy()
    boxed.cell = [50.0, 50.0, 50.0]  # Å; i-PI wants a cell, the driver's atoms have none
    boxed.write(folder / "start.extxyz")
    text = INPUT.format(steps=steps, stride=max(steps // 5, 1), port=port, beads=beads)
    (folder / "input.xml").write_text(text)
    command = [sys.executable, Path(sys.executable).parent / "i-pi", "input.xml"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as server:
        evaluations = ipi_driver(model, atoms, port=port)
    if server.returncode:
        raise SystemExit("i-PI failed")
    print(f"path integrals, {beads} beads")
    print("step  potential/eV  conserved/eV  temperature/K")
    for line in (folder / "run.out").read_text().splitlines():
        if not line.startswith("#"):
            step, potential, conserved, kelvin = map(float, line.split())
            print(f"{step:4.0f}  {potential:12.6f}  {conserved:12.6f}  {kelvin:13.1f}")
    print(f"served {evaluations} evaluations")


def main() -> None:
    """Compare the first energy with ASE, then run path integrals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="model file [an untrained one]")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--beads", type=int, default=4)
    options = parser.parse_args()
    atoms = molecule("CH3CH2OH")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.model or untrained_model(folder)
        atoms.calc = Calculator(model)
        print(f"ASE: {atoms.get_potential_energy():.6f} eV")
        run(model, atoms, options.steps, options.beads, folder)


if __name__ == "__main__":
    main()
