import signal
import subprocess
import sys
import time

import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule

from dreibein.models import TensorNetConfig, build_potential, load_model, save_model
from dreibein.simulate import DynamicsConfig, Evaluator, run_dynamics
from dreibein.simulate.restarts import read_restart

CASES = {
    "nve": {},
    "langevin": {"ensemble": "langevin"},
    "npt": {"ensemble": "npt", "pressure_gpa": 2.0},
    "npt-full": {"ensemble": "npt", "cell_changes": "full"},
}
FILES = ("thermo.csv", "trajectory.extxyz")


@pytest.mark.parametrize("case", CASES)
def test_restarted_and_uninterrupted_runs_are_the_same_to_the_last_bit(
    case, potential, crystal, tmp_path
):
    crystal.info["charge"] = 1
    choices = {"timestep_fs": 4.0, "restart_interval": 20, "log_interval": 4} | CASES[case]
    choices["trajectory_interval"] = 7

    def go(name, steps, **options):
        atoms = None if options else crystal
        config = DynamicsConfig(steps=steps, **choices)
        return run_dynamics(atoms, potential, config, tmp_path / name, **options)

    go("whole", 60)
    go("parts", 40)
    # what a kill after the restart file leaves: a line and half a frame too many
    for name in FILES:
        with open(tmp_path / "parts" / name, "a") as file:
            file.write("40,1.0,2")
    result = go("parts", 60, restart=True)
    whole, parts = (read_restart(tmp_path / name) for name in ("whole", "parts"))
    np.testing.assert_array_equal(parts.atoms.positions, whole.atoms.positions)
    np.testing.assert_array_equal(parts.atoms.get_momenta(), whole.atoms.get_momenta())
    np.testing.assert_array_equal(parts.atoms.cell.array, whole.atoms.cell.array)
    assert parts.atoms.info == {"charge": 1}
    assert result.steps_done == 60
    thermo = [(tmp_path / name / "thermo.csv").read_text() for name in ("whole", "parts")]
    assert thermo[0] == thermo[1]
    # the first leg ended at step 40 with a frame that the whole run does not have
    frames = [ase.io.read(tmp_path / n / FILES[1], ":") for n in ("whole", "parts")]
    steps = [[frame.info["step"] for frame in found] for found in frames]
    assert steps[0] == [0, 7, 14, 21, 28, 35, 42, 49, 56, 60]
    assert steps[1] == [0, 7, 14, 21, 28, 35, 40, 42, 49, 56, 60]


def test_a_restart_does_not_depend_on_what_the_evaluator_remembers(
    potential, cluster, tmp_path, monkeypatch
):
    """Forces that drift with every call since `forget` stand for kernels that round differently."""
    real_call, real_forget = Evaluator.__call__, Evaluator.forget

    def call(self, *args, **kwargs):
        self.calls += 1
        results = real_call(self, *args, **kwargs)
        return results | {"forces": results["forces"] * (1.0 + 1e-3 * self.calls)}

    def forget(self):
        self.calls = 0
        real_forget(self)

    monkeypatch.setattr(Evaluator, "__call__", call)
    monkeypatch.setattr(Evaluator, "forget", forget)
    for steps, name in ((30, "whole"), (20, "parts"), (30, "parts")):
        config = DynamicsConfig(steps=steps, restart_interval=10, log_interval=5)
        goes_on = (tmp_path / name).exists()
        run_dynamics(cluster, potential, config, tmp_path / name, restart=goes_on)
    whole, parts = ((tmp_path / name / "thermo.csv").read_text() for name in ("whole", "parts"))
    assert whole == parts


def test_a_restart_that_does_not_fit_is_refused(potential, cluster, tmp_path):
    config = DynamicsConfig(steps=5)
    with pytest.raises(ValueError, match=r"holds no restart\.npz to continue from"):
        run_dynamics(None, potential, config, tmp_path, restart=True)
    run_dynamics(cluster, potential, config, tmp_path)
    for other, message in (
        (DynamicsConfig(steps=9, temperature_k=350.0), "temperature_k 300.0 and .* asks for 350"),
        (DynamicsConfig(steps=5), "has done 5 steps and 5 are asked for"),
    ):
        with pytest.raises(ValueError, match=message):
            run_dynamics(None, potential, other, tmp_path, restart=True)
    path = tmp_path / "restart.npz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="is damaged and cannot be continued"):
        run_dynamics(None, potential, DynamicsConfig(steps=9), tmp_path, restart=True)


KILLED = DynamicsConfig(
    steps=120,
    restart_interval=10,
    log_interval=1,
    trajectory_interval=3,
    ensemble="langevin",
    temperature_k=5.0,
)
SCRIPT = """
import sys, ase.build
from dreibein.models import load_model
from dreibein.simulate import DynamicsConfig, run_dynamics
model, folder, config = sys.argv[1:]
run_dynamics(ase.build.molecule("H2O"), load_model(model),
             DynamicsConfig.model_validate_json(config), folder)
"""


def test_kill_9_and_restart_give_the_files_of_a_run_left_alone(tmp_path):
    torch.manual_seed(0)
    potential = build_potential(
        TensorNetConfig(channels=8, layers=1), elements=(1, 8), scale=0.01, dtype=torch.float64
    )
    model = save_model(potential, tmp_path / "model.safetensors")
    command = [sys.executable, "-c", SCRIPT, model, tmp_path / "killed", KILLED.model_dump_json()]
    killed = subprocess.Popen(command)
    thermo = tmp_path / "killed" / "thermo.csv"
    while not (thermo.exists() and thermo.read_bytes().count(b"\n") > 25):
        assert killed.poll() is None
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    left = ase.io.read(tmp_path / "killed" / "trajectory.extxyz", ":")
    assert 5 < len(left) < 41  # cut off on the way, and readable
    run_dynamics(None, load_model(model), KILLED, tmp_path / "killed", restart=True)
    run_dynamics(molecule("H2O"), load_model(model), KILLED, tmp_path / "whole")
    for name in FILES:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
