"""Structures unlike the training data are seen in every engine; the policy says what follows."""

import json
import logging
import re

import ase.io
import numpy as np
import pytest
import torch

from dreibein.data import DataConfig, load_data
from dreibein.data.domain import measure_domain
from dreibein.models import TensorNetConfig, build_potential
from dreibein.nn import Committee, freeze
from dreibein.simulate import (
    Alarms,
    Calculator,
    DynamicsConfig,
    Evaluator,
    OutOfDomainError,
    openmm_force,
    read_thermo,
    run_dynamics,
)
from dreibein.simulate.lammps_fix import lammps_system
from dreibein.systems.domains import TrainingDomain


@pytest.fixture
def seen(tmp_path, cluster):
    """Ranges of five frames of the cluster, written and read as a card holds them."""
    frames = []
    cluster.positions = cluster.positions.round(8)  # as files have them
    for k in range(5):
        atoms = cluster.copy()
        atoms.positions += (0.05 * k * np.random.default_rng(k).normal(size=(13, 3))).round(8)
        atoms.info["energy"] = 0.0
        frames.append(atoms)

    ase.io.write(tmp_path / "frames.xyz", frames)
    dataset = load_data(DataConfig(sources=[str(tmp_path / "frames.xyz")], labels=["energy"]))
    found = measure_domain(dataset, 5.0)
    by_hand = [f.get_distance(0, k) for f in frames for k in range(1, 9)]
    assert found.shortest[29, 29] <= min(by_hand) + 1e-7
    pairs = [f.get_all_distances()[9:, 9:][np.triu_indices(4, 1)].min() for f in frames]
    assert found.shortest[47, 47] == pytest.approx(min(pairs), abs=1e-6)
    assert (found.most[29], found.frames) == (12, 5)  # the atom in the middle has all others
    counts = [(f.get_all_distances()[:9] < 5.0).sum(1).min() - 1 for f in frames]
    assert found.fewest[29] == min(counts)
    return TrainingDomain.from_json(json.loads(json.dumps(found.as_json())))


@pytest.fixture
def known(potential, seen):
    """The potential with those ranges on its card."""
    potential.card["domain"] = seen.as_json()
    return potential


def short(atoms):
    """The first two atoms too near."""
    atoms = atoms.copy()
    atoms.positions[1] = atoms.positions[0] + [0.0, 0.0, 1.2]
    return atoms


def call(evaluator, atoms):
    return evaluator(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)


def test_the_training_frames_raise_none_and_others_do(known, cluster):
    evaluator = Evaluator(known, alarms="record")
    call(evaluator, cluster)
    assert evaluator.alarms.total == 0
    call(evaluator, short(cluster))
    (alarm,) = evaluator.alarms.found
    assert (alarm.kind, alarm.about, alarm.call) == ("distance", "Cu-Cu", 2)
    assert alarm.message.startswith("Cu (atom 0) and Cu (atom 1) are 1.200 Å apart, in training")
    call(evaluator, cluster[:4])
    density = evaluator.alarms.found[-1].message
    assert re.fullmatch(
        r"Cu \(atom \d\) has 3 neighbors within 5 Å, in training \d+ to 12", density
    )


def test_the_nearest_pair_through_a_cell_wall_is_named(known, crystal):
    crystal.positions[5] = crystal.positions[0] - [1.0, 0, 0] + crystal.cell.array[0]
    evaluator = Evaluator(known, alarms="record")
    call(evaluator, crystal)
    assert "atom 0) and Cu (atom 5) are 1.000 Å" in evaluator.alarms.found[0].message
    assert evaluator.alarms.counts["density"] == 1


def test_a_pair_that_never_met(known, seen, cluster):
    seen.shortest[29, 47] = seen.shortest[47, 29] = np.inf
    evaluator = Evaluator(known, alarms=Alarms(seen, "stop"))
    with pytest.raises(OutOfDomainError, match="no training structure has such a pair; train on"):
        call(evaluator, cluster)


def test_a_margin_allows_more(known, seen, cluster):
    strict, lenient = (Evaluator(known, alarms=Alarms(seen, "record", m)) for m in (0.0, 0.5))
    call(strict, short(cluster))
    call(lenient, short(cluster))
    assert (strict.alarms.total, lenient.alarms.total) == (1, 0)


def test_warnings_come_once_and_files_without_ranges_say_so(known, cluster, caplog):
    evaluator = Evaluator(known)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            call(evaluator, short(cluster))
    assert len([r for r in caplog.records if "outside the training data" in r.message]) == 1
    assert evaluator.alarms.counts["distance"] == 3
    known.card.pop("domain")
    silent = Evaluator(known)
    call(silent, short(cluster))
    assert silent.alarms.total == 0
    assert "the model file has no ranges of its training data" in silent.alarms.describe()
    with pytest.raises(ValueError, match="no alarm policy 'shout'"):
        Evaluator(known, alarms="shout")


def test_engines_stop(known, cluster):
    bad = short(cluster)
    bad.calc = Calculator(Evaluator(known, alarms="stop"))
    with pytest.raises(OutOfDomainError, match=r"1\.200 Å apart"):
        bad.get_forces()
    pytest.importorskip("openmm", reason='needs OpenMM: pip install "dreibein[openmm]"')
    force = openmm_force(Evaluator(known, alarms="stop"), bad)
    assert force.getName() == "dreibein"


def test_lammps_stops(known, cluster):
    pytest.importorskip("lammps", reason='needs LAMMPS: pip install "dreibein[lammps]"')
    lmp = lammps_system(Evaluator(known, alarms="stop"), short(cluster))
    with pytest.raises(OutOfDomainError, match=r"1\.200 Å apart"):
        lmp.command("run 0")
    lmp.close()


def test_dynamics_records_or_stops(known, cluster, tmp_path):
    config = DynamicsConfig(steps=20, timestep_fs=2.0, temperature_k=3000.0, alarms="record")
    result = run_dynamics(cluster, known, config, tmp_path / "a")
    assert result.alarms["watched"]
    assert result.alarms["counts"]["distance"] > 0
    assert result.alarms["first"][0].startswith("call ")
    with pytest.raises(OutOfDomainError, match="in training at least"):
        run_dynamics(cluster, known, config.model_copy(update={"alarms": "stop"}), tmp_path / "b")
    stopped = json.loads((tmp_path / "b" / "dynamics.json").read_text())
    assert "in training at least" in stopped["stopped"]
    assert 0 < stopped["steps_done"] < 20


@pytest.fixture
def committee():
    members = []
    for seed in range(3):
        torch.manual_seed(seed)
        config = TensorNetConfig(channels=4, layers=1, num_radial=4, cutoff=4.0)
        members.append(build_potential(config, elements=(29, 47), dtype=torch.float64))
    return Committee(members)


@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_a_committee_is_the_mean_of_its_members(committee, crystal, backend):
    frozen = freeze(committee, backend)
    assert frozen.describe().startswith(f"3 potentials, {backend}")
    together = call(Evaluator(frozen), crystal)
    single = [call(Evaluator(member), crystal) for member in committee.members]
    energies = torch.stack([s["energy"] for s in single])
    forces = torch.stack([s["forces"] for s in single])
    assert float(together["energy"]) == pytest.approx(float(energies.mean()), rel=1e-8)
    torch.testing.assert_close(together["forces"], forces.mean(0), rtol=0, atol=1e-8)
    spread = (forces - forces.mean(0)).square().sum(-1).mean(0).sqrt()
    assert spread.max() > 1e-3
    torch.testing.assert_close(together["forces_spread"], spread, rtol=0, atol=1e-8)


def test_disagreement_is_an_alarm_and_a_column(committee, crystal, tmp_path):
    committee.card["disagreement"] = 1e-6
    config = DynamicsConfig(steps=4, log_interval=2, alarms="record")
    result = run_dynamics(crystal, committee, config, tmp_path)
    assert list(result.alarms["counts"]) == ["disagreement"]
    assert result.alarms["counts"]["disagreement"] >= 5
    assert "the potentials disagree on the force on atom" in result.alarms["first"][0]
    column = read_thermo(tmp_path / "thermo.csv")["force_disagreement_ev_per_a"]
    assert len(column) == 3
    assert (column > 1e-6).all()
    crystal.calc = Calculator(committee)
    crystal.get_forces()
    expected = crystal.calc.results["forces_spread"].max()
    assert column[0] == pytest.approx(expected, rel=1e-6)


def test_members_must_be_alike(committee):
    config = TensorNetConfig(channels=4, layers=1, num_radial=4, cutoff=4.0)
    other = build_potential(config, elements=(29,), dtype=torch.float64)
    with pytest.raises(ValueError, match=r"member 1 of the committee has elements \(29,\)"):
        Committee([committee.members[0], other])
    with pytest.raises(ValueError, match="at least 2 members"):
        Committee([other])
