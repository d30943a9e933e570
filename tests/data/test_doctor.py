"""The data doctor: what it counts, what it finds, what it refuses."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from dreibein.data import Examination, examine

from .conftest import labelled, strained_copper, waters


@pytest.fixture
def diagnose(write, load):
    """`diagnose(frames, **options) -> Examination`."""

    def run(frames, required=(), **options):
        return examine(load(write(frames), strict=False, **options), required=required)

    return run


def findings(examination, topic):
    return [f for f in examination.findings if f.topic == topic]


def only(examination, topic):
    (finding,) = findings(examination, topic)
    return finding


def test_counts_and_ranges(diagnose):
    frames = waters(20) + strained_copper(4)
    for atoms in frames[:3]:
        atoms.info["config_type"] = "hot"
    e = diagnose(frames)
    assert (e.frames, e.atoms, e.examined_frames) == (24, 76, 24)
    assert e.elements["H"] == {"frames": 20, "atoms": 40}
    assert e.compositions == {"H2O": 20, "Cu4": 4}
    assert e.cells == {"isolated": 20, "periodic": 4}
    assert e.config_types == {"hot": 3}
    assert e.labels["stress"].frames == 4
    assert e.labels["forces"].entries == e.labels["forces"].of == 76
    assert e.labels["energy"].unit == "eV"
    largest = [np.linalg.norm(a.get_forces(), axis=1).max() for a in frames]
    force = e.ranges["largest force on an atom"]
    assert force.maximum == pytest.approx(max(largest), rel=1e-6)
    assert force.frame_of_maximum == int(np.argmax(largest))
    components = np.concatenate([a.get_forces()[0] for a in frames[:20]])  # O is first
    assert e.forces_rms_by_element["O"] == pytest.approx(np.sqrt((components**2).mean()), rel=1e-6)
    volumes = [a.get_volume() / 4 for a in frames[20:]]
    assert e.ranges["volume per atom"].maximum == pytest.approx(max(volumes))
    shortest = min(a.get_all_distances()[np.triu_indices(3, 1)].min() for a in frames[:20])
    assert e.ranges["shortest distance"].minimum == pytest.approx(shortest)
    assert not e.refused
    assert Examination.model_validate_json(e.model_dump_json(exclude={"refused"})) == e


def test_nothing_to_learn_from(diagnose):
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], info={"my_number": 3.0})
    e = diagnose([atoms])
    assert e.refused
    assert "no label was found in any of the 1 frames; it has my_number: name one with --key" in (
        only(e, "labels").message
    )


def test_required_labels_and_reading_problems(diagnose):
    frames = waters(4)
    frames[2].calc.results["energy"] = np.nan
    e = diagnose(frames, required=["stress"])
    assert "the required label 'stress' is in none of the 4 frames" in only(e, "labels").message
    assert "frame 2: NaN in 'energy'" in only(e, "reading").message
    assert [f.severity for f in e.findings][:2] == ["refusal", "refusal"]
    assert len(e.refusals(("energy",))) == 1
    assert len(e.refusals(("stress",))) == 2


def test_notes_become_warnings(diagnose):
    frames = waters(3)
    for atoms in frames:
        atoms.info["REF_energy"] = 1.0
    assert only(diagnose(frames), "reading").severity == "warning"


def test_outliers_are_named(diagnose):
    frames = waters(40)
    frames[17].calc.results["energy"] += 30.0
    frames[23].calc.results["forces"] = frames[23].calc.results["forces"] * 1e3
    e = diagnose(frames)
    energy, force = only(e, "energy outliers"), only(e, "force outliers")
    assert energy.frames == [17]
    assert "most in frame 17, +9." in energy.message
    assert force.frames == [23]
    assert energy.severity == force.severity == "warning"
    clean = diagnose(waters(40))
    assert not findings(clean, "energy outliers")
    assert not findings(clean, "force outliers")


def test_duplicates(diagnose):
    frames = waters(10)
    frames += [frames[3].copy(), frames[4].copy()]
    frames[10].calc = frames[3].calc
    frames[11] = labelled(frames[4])
    frames[11].calc.results["energy"] += 0.5
    e = diagnose(frames)
    assert only(e, "duplicates").frames == [3, 10, 4, 11]
    assert "2 frames repeat the geometry of another (first: frames 3, 10)" in (
        only(e, "duplicates").message
    )
    assert only(e, "contradicting duplicates").frames == [4, 11]
    assert not findings(diagnose(waters(10)), "duplicates")


def test_contradicting_forces_alone(diagnose):
    frames = waters(4)
    frames.append(frames[1].copy())
    frames[4].calc = labelled(frames[1]).calc
    frames[4].calc.results["forces"] = frames[4].calc.results["forces"] + 0.1
    assert only(diagnose(frames), "contradicting duplicates").frames == [1, 4]


def test_short_distances(diagnose):
    frames = waters(6)
    frames[2].positions[1] = frames[2].positions[0] + [0, 0, 0.5]
    e = diagnose(frames)
    assert only(e, "short distances").frames == [2]
    assert "shortest H-O 0.500 Å in frame 2" in only(e, "short distances").message
    assert not e.refused
    frames[4].positions[1] = frames[4].positions[2]
    e = diagnose(frames)
    assert [f.severity for f in findings(e, "short distances")] == ["refusal", "warning"]
    assert "two atoms lie on one spot in frame 4; remove" in e.findings[0].message


def test_short_distances_through_the_boundary(diagnose):
    frames = [labelled(bulk("Cu", "fcc", a=3.6, cubic=True)) for _ in range(2)]
    tight = Atoms("Cu2", [[0.1, 0, 0], [4.0, 0, 0]], cell=[5, 9, 9], pbc=True)
    e = diagnose([*frames, labelled(tight)])
    finding = only(e, "short distances")
    assert finding.frames == [2]
    assert "shortest Cu-Cu 1.100 Å" in finding.message


def test_cells(diagnose):
    frames = waters(4)
    frames[1].cell = np.diag([5.0, 5.0, 5.0])
    e = diagnose(frames)
    assert "1 frames have a cell but pbc F: they count as isolated" in only(e, "cells").message
    frames = strained_copper(4)
    frames[2].cell[2] = frames[2].cell[1] + 1e-5
    e = diagnose(frames)
    assert "the cell is flat (no volume) in frame 2" in only(e, "cells").message
    assert e.refused


def test_all_cells_flat(diagnose):
    frames = strained_copper(2)
    for atoms in frames:
        atoms.cell[2] = 0.0
        atoms.cell[2, 0] = 3.0
    e = diagnose(frames)
    assert e.refused
    assert "shortest distance" not in e.ranges


def test_periodic_without_a_vector(write, load):
    frames = waters(3)
    frames[1].pbc = [True, False, False]
    e = examine(load(write(frames, "a.traj"), strict=False))
    assert "periodic without a cell vector in frame 1" in only(e, "cells").message
    assert e.refused


def test_net_force_and_torque(diagnose):
    e = diagnose(waters(6))
    assert only(e, "net force").severity == only(e, "torque").severity == "info"
    assert "zero within noise" in only(e, "net force").message
    frames = waters(6)
    frames[3].calc.results["forces"] = frames[3].calc.results["forces"] + [0, 0, 0.3]
    e = diagnose(frames)
    assert only(e, "net force").severity == "warning"
    assert only(e, "net force").frames == [3]
    assert "forces do not sum to zero in frame 3 of 6 checked" in only(e, "net force").message
    frames = waters(6)
    push = np.array([[0, 0, 0], [0.5, 0, 0], [-0.5, 0, 0]])
    frames[2].calc.results["forces"] = frames[2].calc.results["forces"] + push
    e = diagnose(frames)
    assert only(e, "net force").severity == "info"
    assert only(e, "torque").frames == [2]


def test_a_field_excuses_torque_and_charged_net_force(diagnose):
    frames = waters(6)
    for atoms in frames:
        atoms.info.update(external_field=np.array([0, 0, 0.1]), charge=1)
        atoms.calc.results["forces"] = atoms.calc.results["forces"] + [0, 0, 0.1]
    e = diagnose(frames)
    assert not findings(e, "net force")
    assert not findings(e, "torque")


def test_missing_labels_singles_charge(diagnose):
    frames = [*waters(4), labelled(Atoms("Cu"), ("energy",)), labelled(Atoms("Al"), ("energy",))]
    frames[0].info.update(charge=-1, spin=2)
    e = diagnose(frames)
    assert "'forces' is missing for 2 atoms: they are masked" in only(e, "missing labels").message
    assert only(e, "isolated atoms").frames == [4, 5]
    assert only(e, "charge").message == "total charge by frames: -1 in 1, 0 in 5"
    assert only(e, "spin").message == "total spin by frames: 1 in 5, 2 in 1"


def test_references_that_are_not_unique(diagnose):
    message = only(diagnose(waters(4)), "reference energies").message
    assert "2 elements, but the compositions tell only 1 combination(s) of them apart" in message


def test_a_sample_keeps_the_numbers(write, load):
    frames = waters(30)
    frames[29].positions[1] = frames[29].positions[0] + [0, 0, 0.3]
    seen = []
    e = examine(load(write(frames)), max_frames=10, progress=lambda *x: seen.append(x))
    assert (e.frames, e.examined_frames) == (30, 10)
    assert only(e, "short distances").frames == [29]
    assert "in frame 29" in only(e, "short distances").message
    assert seen[-1] == (5, 5, "done")


def test_shared_sets(shared, load):
    ethanol = examine(load(str(shared / "data" / "rmd17" / "rmd17_ethanol_train_01.npz")))
    assert not ethanol.refused
    assert not [f for f in ethanol.findings if f.severity == "warning"]
    assert "follow the work of the forces" in only(ethanol, "energy and forces").message
    acac = examine(load(str(shared / "data" / "acac" / "train_300K.xyz")))
    assert not acac.refused
    assert acac.config_types == {"300K_MD": 500}
