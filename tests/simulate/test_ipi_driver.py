"""The i-PI driver gives the ASE calculator's numbers to i-PI and to any server of its protocol."""

import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import ase.units
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.socketio import SocketIOCalculator
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from dreibein.simulate import Calculator
from dreibein.simulate.ipi_driver import ipi_driver


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


class Driver(threading.Thread):
    """The driver in a thread; `join` gives what it returned or raised."""

    def __init__(self, *args, **kwargs):
        super().__init__(daemon=True)
        self.call = lambda: ipi_driver(*args, **kwargs)
        self.error = self.count = None
        self.start()

    def run(self):
        try:
            self.count = self.call()
        except Exception as error:
            self.error = error

    def join(self, timeout=60):
        super().join(timeout)
        if self.error:
            raise self.error
        return self.count


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_server_gets_the_numbers_of_ase(potential, cluster, crystal, kind):
    skewed = Atoms(
        "CuAg",
        [[0.1, 0.0, 0.0], [1.3, 1.4, 1.2]],
        cell=[[2.6, 0.0, 0.1], [0.9, 2.7, 0.0], [0.4, 0.7, 2.9]],
        pbc=True,
    )
    atoms = {"unix": crystal, "tcp": skewed}[kind]
    place = {"unixsocket": uuid.uuid4().hex} if kind == "unix" else {"port": free_port()}
    driver = Driver(
        potential, atoms, address=place.get("unixsocket", "localhost"), port=place.get("port")
    )
    with SocketIOCalculator(**place) as server:
        for _ in range(3):
            atoms.rattle(0.05, rng=np.random.default_rng(2))
            atoms.calc = server
            served = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
            atoms.calc = Calculator(potential)
            assert served[0] == pytest.approx(atoms.get_potential_energy(), rel=1e-10)
            np.testing.assert_allclose(served[1], atoms.get_forces(), atol=1e-10)
            np.testing.assert_allclose(served[2], atoms.get_stress(), atol=1e-10)
            assert np.abs(served[2]).max() > 1e-3
    assert driver.join() == 3


INPUT = """
<simulation verbosity='low'>
  <output prefix='run'>
    <properties filename='out' stride='1' flush='1'>
      [step, conserved{{electronvolt}}, potential{{electronvolt}}, pressure_md{{megapascal}}]
    </properties>
    <trajectory filename='forces' stride='1' format='xyz' flush='1'>
      forces{{ev/ang}}
    </trajectory>
  </output>
  <total_steps>{steps}</total_steps>
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
      <dynamics mode='nve'> <timestep units='femtosecond'>1</timestep> </dynamics>
    </motion>
  </system>
</simulation>
"""


@pytest.mark.parametrize(("beads", "steps"), [(1, 100), (4, 10)])
def test_i_pi_itself_runs_and_conserves_energy(potential, crystal, tmp_path, beads, steps):
    pytest.importorskip("ipi", reason='needs i-PI: pip install "dreibein[ipi]"')
    port = free_port()
    MaxwellBoltzmannDistribution(crystal, temperature_K=300, rng=np.random.default_rng(0))
    crystal.write(tmp_path / "start.extxyz")
    (tmp_path / "input.xml").write_text(INPUT.format(port=port, beads=beads, steps=steps))
    server = Path(sys.executable).parent / "i-pi"
    with subprocess.Popen(
        [sys.executable, server, "input.xml"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        evaluations = Driver(potential, crystal, port=port).join()
        log = process.communicate()[0]
    assert process.returncode == 0, log[-2000:]
    assert evaluations == beads * (steps + 1)
    rows = np.loadtxt(tmp_path / "run.out")
    assert len(rows) == steps + 1
    assert np.ptp(rows[:, 1]) / len(crystal) < 2e-4 * beads
    crystal.calc = Calculator(potential)
    assert rows[0, 2] == pytest.approx(crystal.get_potential_energy(), rel=1e-6)
    lines = (tmp_path / "run.forces_0.xyz").read_text().splitlines()[2:34]
    forces = np.array([[float(w) for w in line.split()[1:4]] for line in lines])
    np.testing.assert_allclose(forces, crystal.get_forces(), atol=1e-4)


def test_errors_are_one_sentence(potential, cluster, crystal):
    with pytest.raises(ConnectionError, match=r"no i-PI server at localhost:1 .*start it first"):
        ipi_driver(potential, cluster, port=1, wait_s=0)
    with pytest.raises(ConnectionError, match="ipi_nobody"):
        ipi_driver(potential, cluster, address="nobody", port=None, wait_s=0)
    with pytest.raises(ValueError, match="Au"):
        ipi_driver(potential, Atoms("Au"), wait_s=0)


def talk(potential, atoms, *messages):
    """Send raw messages to a driver and return what it raises or how often it evaluated."""
    with socket.create_server(("localhost", 0)) as server:
        driver = Driver(potential, atoms, port=server.getsockname()[1])
        connection, _ = server.accept()
        with connection:
            for message in messages:
                connection.sendall(message)
                time.sleep(0.05)
    return driver.join()


def word(text):
    return text.ljust(12).encode()


def structure(cell, positions):
    return (
        word("POSDATA")
        + np.array([cell, np.zeros((3, 3))]).tobytes()
        + np.int32(len(positions)).tobytes()
        + np.array(positions, float).tobytes()
    )


def test_what_a_server_does_wrong_is_said(potential, crystal):
    no_cell = np.zeros((3, 3))
    with pytest.raises(ValueError, match="2 atoms and the driver's structure 32"):
        talk(potential, crystal, structure(no_cell, np.zeros((2, 3))))
    with pytest.raises(ValueError, match="sends no box"):
        talk(potential, crystal, structure(no_cell, crystal.positions / ase.units.Bohr))
    batched = word("INIT") + np.array([0, 12], np.int32).tobytes() + b"batch_size:4"
    with pytest.raises(ValueError, match="set batch_size to 1"):
        talk(potential, crystal, batched)
    with pytest.raises(ConnectionError, match="'NONSENSE'"):
        talk(potential, crystal, word("NONSENSE"))
    with pytest.raises(ConnectionError, match="middle of a message"):
        talk(potential, crystal, structure(no_cell, crystal.positions)[:100])
    assert talk(potential, crystal, word("STATUS"), word("EXIT")) == 0
