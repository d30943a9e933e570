import errno
import json
import os

import ase.build
import ase.io
import numpy as np
import pytest
from ase import units
from pydantic import ValidationError

from dreibein.simulate import BlowUpError, DynamicsConfig, read_thermo, run_dynamics
from dreibein.simulate.integrators import Integrator, draw_velocities, still


def run(atoms, potential, folder, **choices):
    config = DynamicsConfig(**{"log_interval": 1, "trajectory_interval": 10} | choices)
    return run_dynamics(atoms, potential, config, folder)


class TestConfig:
    def test_duration_is_steps_or_ps(self):
        assert DynamicsConfig(duration_ps=2.0, timestep_fs=0.25).num_steps == 8000
        assert DynamicsConfig(steps=7).num_steps == 7
        for choices in ({}, {"steps": 1, "duration_ps": 1.0}):
            with pytest.raises(ValidationError, match="either steps or duration_ps"):
                DynamicsConfig(**choices)

    def test_unknown_and_senseless_choices_are_refused(self):
        for choices in ({"tempreature_k": 300}, {"timestep_fs": 0}, {"ensemble": "nvt"}):
            with pytest.raises(ValidationError):
                DynamicsConfig(steps=1, **choices)

    def test_every_field_is_described(self):
        assert all(field.description for field in DynamicsConfig.model_fields.values())


class TestStart:
    @pytest.mark.parametrize("molecule", ["CH3CH2OH", "CO2"])
    def test_a_molecule_starts_at_rest_and_at_the_temperature(self, molecule, potential):
        config = DynamicsConfig(steps=1, temperature_k=250.0)
        atoms = ase.build.molecule(molecule)
        draw_velocities(atoms, config)
        still(atoms, config)
        np.testing.assert_allclose(atoms.get_momenta().sum(0), 0, atol=1e-12)
        np.testing.assert_allclose(atoms.get_angular_momentum(), 0, atol=1e-12)
        freedom = {"CH3CH2OH": 27 - 6, "CO2": 9 - 5}[molecule]
        assert Integrator(atoms, config).freedom == freedom

    @pytest.mark.parametrize("ensemble", ["nve", "langevin", "npt"])
    def test_the_first_line_has_the_temperature(self, ensemble, potential, crystal, tmp_path):
        run(crystal, potential, tmp_path, steps=1, ensemble=ensemble, temperature_k=321.0)
        assert read_thermo(tmp_path / "thermo.csv")["temperature_k"][0] == pytest.approx(321.0)

    def test_seed_decides_the_velocities(self, potential, cluster, tmp_path):
        energies = []
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            run(cluster, potential, tmp_path / name, steps=3, seed=seed)
            energies.append(read_thermo(tmp_path / name / "thermo.csv")["potential_ev"][-1])
        assert energies[0] == energies[1] != energies[2]

    def test_velocities_of_the_structure_are_kept(self, potential, cluster, tmp_path):
        cluster.set_momenta(np.random.default_rng(0).normal(size=(13, 3)))
        run(
            cluster, potential, tmp_path, steps=1, initial_velocities="structure",
            zero_momentum=False, zero_rotation=False,
        )  # fmt: skip
        kinetic = read_thermo(tmp_path / "thermo.csv")["kinetic_ev"][0]
        assert kinetic == pytest.approx(cluster.get_kinetic_energy(), rel=1e-12)

    def test_relaxing_first_starts_lower(self, potential, cluster, tmp_path):
        start = cluster.positions.copy()
        run(cluster, potential, tmp_path / "a", steps=1)
        run(cluster, potential, tmp_path / "b", steps=1, relax_first=True)
        high, low = (
            read_thermo(tmp_path / name / "thermo.csv")["potential_ev"][0] for name in "ab"
        )
        assert low < high - 0.5
        np.testing.assert_array_equal(cluster.positions, start)


class TestNve:
    def test_energy_is_conserved_to_second_order(self, potential, cluster, tmp_path):
        spread = {}
        for timestep in (2.0, 4.0):
            folder = tmp_path / str(timestep)
            result = run(
                cluster, potential, folder, duration_ps=0.8, timestep_fs=timestep, relax_first=True
            )
            total = read_thermo(folder / "thermo.csv")["total_ev"]
            spread[timestep] = total.std()
            assert abs(result.drift_mev_per_atom_ps) < 0.05 + 4 * result.drift_error_mev_per_atom_ps
        assert spread[2.0] < 1e-4  # eV
        assert 2.5 < spread[4.0] / spread[2.0] < 6.0  # velocity Verlet: the square of the step

    def test_result_and_files_agree(self, potential, crystal, tmp_path):
        reports, folder = [], tmp_path / "new" / "folder"
        config = DynamicsConfig(steps=25, timestep_fs=2.0, trajectory_interval=10)
        result = run_dynamics(
            crystal, potential, config, folder, progress=lambda *r: reports.append(r)
        )
        thermo = read_thermo(folder / "thermo.csv")
        assert thermo["step"].tolist() == [0, 10, 20, 25]
        assert list(thermo)[:6] == [
            "step", "time_fs", "potential_ev", "kinetic_ev", "total_ev", "temperature_k",
        ]  # fmt: skip
        assert [r[:2] for r in reports] == [(10, 25), (20, 25), (25, 25)]
        frames = ase.io.read(folder / "trajectory.extxyz", ":")
        assert [frame.info["step"] for frame in frames] == [0, 10, 20, 25]
        assert frames[1].get_potential_energy() == pytest.approx(thermo["potential_ev"][1])
        assert frames[1].get_kinetic_energy() == pytest.approx(thermo["kinetic_ev"][1], rel=1e-6)
        pressure = -frames[1].get_stress(include_ideal_gas=True)[:3].mean() / units.GPa
        assert pressure == pytest.approx(thermo["pressure_gpa"][1], rel=1e-5)
        assert thermo["volume_a3"][0] == pytest.approx(crystal.get_volume())
        stored = json.loads((folder / "dynamics.json").read_text())
        assert stored == json.loads(result.model_dump_json())
        assert stored["steps_done"] == 25
        assert stored["time_ps"] == pytest.approx(0.05)
        assert stored["ns_per_day"] > 0
        assert (stored["device"], stored["precision"]) == ("cpu", "float64")


class TestThermostats:
    def test_langevin_holds_the_temperature(self, potential, cluster, tmp_path):
        result = run(
            cluster, potential, tmp_path, steps=1200, timestep_fs=5.0, ensemble="langevin",
            temperature_k=200.0, friction_per_ps=20.0,
        )  # fmt: skip
        assert result.drift_mev_per_atom_ps is None
        assert abs(result.temperature_mean_k - 200.0) < 5.0 * result.temperature_error_k
        assert result.temperature_error_k < 12.0
        last = ase.io.read(tmp_path / "trajectory.extxyz")
        np.testing.assert_allclose(
            last.get_center_of_mass(), cluster.get_center_of_mass(), atol=1e-6
        )

    @pytest.mark.parametrize("cell_changes", ["isotropic", "full"])
    def test_npt_reaches_the_pressure(self, cell_changes, potential, tmp_path):
        crystal = ase.build.bulk("Cu", "fcc", a=3.40, cubic=True).repeat((2, 1, 1))
        skew = np.eye(3)
        skew[1, 0] = 0.2  # not orthorhombic
        crystal.set_cell(crystal.cell.array @ skew, scale_atoms=True)
        result = run(
            crystal, potential, tmp_path, steps=800, timestep_fs=5.0, ensemble="npt",
            pressure_gpa=5.0, temperature_k=300.0, cell_changes=cell_changes,
            thermostat_time_fs=100.0, barostat_time_fs=300.0, trajectory_interval=500,
        )  # fmt: skip
        assert result.drift_of == "conserved quantity"
        assert abs(result.drift_mev_per_atom_ps) < 0.5
        assert abs(result.pressure_mean_gpa - 5.0) < 0.6
        # 3N - 3 degrees of freedom move: with ASE's count the mean would be 343 K
        assert abs(result.temperature_mean_k - 300.0) < 30.0
        thermo = read_thermo(tmp_path / "thermo.csv")
        assert np.ptp(thermo["conserved_ev"]) < 0.05 * np.ptp(thermo["total_ev"])
        angles = ase.io.read(tmp_path / "trajectory.extxyz").cell.angles()
        kept = np.allclose(angles, crystal.cell.angles(), atol=1e-6)
        assert kept == (cell_changes == "isotropic")

    def test_npt_refusals(self, potential, cluster, crystal, tmp_path):
        with pytest.raises(ValueError, match="npt ensemble needs a structure periodic in three"):
            run(cluster, potential, tmp_path, steps=1, ensemble="npt")
        from ase.constraints import FixAtoms

        crystal.set_constraint(FixAtoms([0]))
        with pytest.raises(ValueError, match="npt ensemble cannot hold constrained atoms"):
            run(crystal, potential, tmp_path, steps=1, ensemble="npt")

    @pytest.mark.parametrize("ensemble", ["nve", "langevin"])
    def test_fixed_atoms_stay(self, ensemble, potential, crystal, tmp_path):
        from ase.constraints import FixAtoms

        crystal.set_constraint(FixAtoms([0, 5]))
        run(crystal, potential, tmp_path, steps=5, ensemble=ensemble)
        last = ase.io.read(tmp_path / "trajectory.extxyz")
        moved = np.abs(last.positions - crystal.positions).max(1)
        assert moved[[0, 5]].max() == pytest.approx(0.0, abs=1e-8)
        assert moved.max() > 1e-4


class TestStops:
    def test_a_blow_up_names_step_reason_and_last_good_frame(self, potential, cluster, tmp_path):
        cluster.positions *= 0.85  # springs back, and heats up
        with pytest.raises(BlowUpError, match=r"the temperature is \d+\S* K") as stop:
            run(cluster, potential, tmp_path, steps=100, timestep_fs=5.0,
                max_temperature_k=800.0, trajectory_interval=2)  # fmt: skip
        step = stop.value.step
        assert 0 < step < 100
        frames = ase.io.read(tmp_path / "trajectory.extxyz", ":")
        assert len(frames) > 2
        assert f"stopped at step {step} ({5 * step} fs)" in str(stop.value)
        assert f"last good frame is that of step {frames[-1].info['step']} in" in str(stop.value)
        assert "\n" not in str(stop.value)
        assert json.loads((tmp_path / "dynamics.json").read_text())["stopped"] == stop.value.reason
        assert (tmp_path / "restart.npz").is_file()

    @pytest.mark.parametrize(
        ("bound", "reason"),
        [
            ({"max_temperature_k": 200.0}, r"the temperature is \S+ K \(bound 200 K\)"),
            ({"max_force": 0.5}, r"the force on atom \d+ is \S+ eV/Å \(bound 0.5 eV/Å\)"),
            ({"min_distance": 0.99}, r"Cu \(atom \d+\) and \w+ \(atom \d+\) are \S+ Å apart"),
        ],
    )
    def test_a_bad_start_is_refused(self, bound, reason, potential, cluster, tmp_path):
        with pytest.raises(BlowUpError, match=f"starting structure cannot be simulated: {reason}"):
            run(cluster, potential, tmp_path, steps=1, **bound)

    def test_forces_that_are_no_numbers_stop_the_run(self, potential, cluster, tmp_path):
        count = 0

        def spoil(module, args, results):
            nonlocal count
            count += 1
            if count > 5:
                results["forces"][3] = float("nan")
            return results

        potential.register_forward_hook(spoil)
        with pytest.raises(BlowUpError, match="force on atom 3 is not a finite number"):
            run(cluster, potential, tmp_path, steps=20)

    def test_an_unknown_element_stops_before_anything_is_written(self, potential, tmp_path):
        with pytest.raises(ValueError, match=r"does not know H, O; it was trained on Cu, Ag"):
            run(ase.build.molecule("H2O"), potential, tmp_path / "run", steps=1)
        assert not (tmp_path / "run").exists()

    def test_a_folder_with_a_run_is_not_overwritten_unasked(self, potential, cluster, tmp_path):
        run(cluster, potential, tmp_path, steps=2)
        before = (tmp_path / "thermo.csv").read_bytes()
        with pytest.raises(ValueError, match="holds a run already"):
            run(cluster, potential, tmp_path, steps=3)
        assert (tmp_path / "thermo.csv").read_bytes() == before
        config = DynamicsConfig(steps=3, log_interval=1)
        run_dynamics(cluster, potential, config, tmp_path, overwrite=True)
        assert read_thermo(tmp_path / "thermo.csv")["step"].tolist() == [0, 1, 2, 3]
        assert len(ase.io.read(tmp_path / "trajectory.extxyz", ":")) == 2

    def test_a_full_disk_leaves_whole_frames(self, potential, cluster, tmp_path, monkeypatch):
        real, frames = os.write, 0

        def full(handle, data):
            nonlocal frames
            if b"Lattice" in data or b"Properties" in data:
                frames += 1
                if frames == 3:
                    real(handle, data[:100])
                    raise OSError(errno.ENOSPC, "No space left on device")
            return real(handle, data)

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left") as stop:
            run(cluster, potential, tmp_path, steps=100)
        assert stop.value.filename.endswith("trajectory.extxyz")
        frames = ase.io.read(tmp_path / "trajectory.extxyz", ":")
        assert [frame.info["step"] for frame in frames] == [0, 10]
