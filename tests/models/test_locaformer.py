"""LoCaFormer with every representation: symmetry, symmetric sites, smoothness, outputs."""

from functools import lru_cache

import pytest
import torch
from ase.build import bulk, molecule
from pydantic import ValidationError
from torch import nn

from dreibein.models import LoCaFormerConfig, build_potential, load_model, save_model
from dreibein.models.locaformer import FrameAttention
from dreibein.neighbors import attach_neighbors
from dreibein.o3 import act
from dreibein.systems import from_ase, make_structure
from dreibein.systems.graphs import make_graph
from dreibein.testing import (
    assert_batch_equals_single,
    assert_deterministic,
    assert_extensivity,
    assert_force_loss_gradients,
    assert_forces,
    assert_reflection,
    assert_rotation,
    assert_second_derivatives,
    assert_smooth_at_cutoff,
    random_rotation,
    sample_crystal,
    sample_molecule,
    turned,
)
from dreibein.testing.probing import energies_of, predict

ELEMENTS = (1, 6, 7, 8, 29)
CUTOFF = 3.5
REPS = {
    "scalars": "16x0n",
    "cartesian": "8x0n+4x1n+2x2n+1x1p",
    "irreps": "8x0e+4x1o+2x2e+1x0o",
    "mixed": "6x0n+3x1n+2x2e+1x1e",
    "learned": "m24",
    "partly-learned": "4x0n+3x1n+m8",
}
# one for each representation and highest order, on four layers at symmetric sites
SITE_REPS = {
    "scalars": "12x0n",
    "cartesian-1": "6x0n+3x1n+1x1p",
    "cartesian-2": "4x0n+2x1n+2x2n",
    "irreps-1": "6x0e+3x1o+1x1e",
    "irreps-2": "4x0e+2x1o+1x2e+1x2o",
    "irreps-3": "4x0e+2x1o+1x2e+1x3o",
    "learned": "m16",
    "mixed": "4x0n+2x1n+1x2e+m6",
}
MOLECULE = sample_molecule((1, 6, 8), 6, seed=1)
CELL = sample_crystal((1, 6, 8), 2, seed=3)
SITES = {
    "H2O": molecule("H2O"),
    "CH4": molecule("CH4"),
    "NH3": molecule("NH3"),
    "CO2": molecule("CO2"),
    "C6H6": molecule("C6H6"),
    "Cu": bulk("Cu"),
    "diamond": bulk("C"),
}
ALL_REPS = pytest.mark.parametrize("reps", REPS.values(), ids=REPS.keys())
ALL_SITES = pytest.mark.parametrize("site", SITES.values(), ids=SITES.keys())


@lru_cache
def potential(**options):
    """A small one in float64."""
    settings = {
        "reps": REPS["cartesian"],
        "channels": 16,
        "heads": 4,
        "layers": 2,
        "num_radial": 6,
        "cutoff": CUTOFF,
    }
    config = LoCaFormerConfig(**(settings | options))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build_potential(config, elements=ELEMENTS, dtype=torch.float64)


def graph_of(model, structure, pos=None):
    structure = attach_neighbors(structure, model.cutoff)
    pos = structure.pos if pos is None else pos
    return make_graph(structure, pos, structure.cell, torch.float64)


@ALL_REPS
def test_four_layers_are_invariant(reps):
    deep = potential(reps=reps, layers=4)
    for structure in (MOLECULE, CELL):
        assert_rotation(deep, structure)
        assert_reflection(deep, structure)


@pytest.mark.parametrize("options", [{"attention": "sum"}, {"angular": "sphere"}, {"layers": 0}])
def test_options_are_invariant(options):
    assert_rotation(potential(**options), MOLECULE)
    assert_reflection(potential(**options), MOLECULE)


@pytest.mark.parametrize("frames", ["gram_schmidt", "polar"])
@pytest.mark.parametrize("symmetry", ["SO(3)", "O(3)"])
def test_hard_frames_are_invariant_at_general_sites(frames, symmetry):
    hard = potential(frames=frames, symmetry=symmetry)
    assert_rotation(hard, MOLECULE)
    if symmetry == "O(3)":
        assert_reflection(hard, MOLECULE)


def test_the_chiral_model_tells_mirror_images_apart():
    with pytest.raises(AssertionError, match="reflection"):
        assert_reflection(potential(symmetry="SO(3)"), MOLECULE)


def test_features_that_are_not_carried_are_caught(monkeypatch):
    """Mutant: angular features in the laboratory frame."""
    monkeypatch.setattr(
        "dreibein.models.locaformer.Transport.edges_to_local", lambda self, rep, x: x
    )
    with pytest.raises(AssertionError, match="rotation"):
        assert_rotation(potential(), MOLECULE)


@ALL_SITES
def test_symmetric_structures(site):
    """Deterministic, invariant, finite forces that are differences of the energy."""
    structure, soft = from_ase(site), potential()
    assert_deterministic(soft, structure)
    assert_rotation(soft, structure)
    assert_reflection(soft, structure)
    assert_forces(soft, structure)


@pytest.mark.parametrize("reps", SITE_REPS.values(), ids=SITE_REPS.keys())
def test_four_layers_at_symmetric_sites(reps):
    """All sites in a batch: the same twice, invariant, forces that are slopes of the energy."""
    deep = potential(reps=reps, layers=4, channels=8, heads=2)
    structures = [from_ase(site) for site in SITES.values()]
    names = ("energy", "forces")
    first, second = predict(deep, structures, names), predict(deep, structures, names)
    assert all(torch.equal(a[n], b[n]) for a, b in zip(first, second, strict=True) for n in names)
    assert all(bool(a["forces"].isfinite().all()) for a in first)
    energies = torch.stack([a["energy"] for a in first])
    for sign in (1.0, -1.0):
        g = sign * random_rotation(seed=11)
        after = predict(deep, [turned(s, g) for s in structures], names)
        found = torch.stack([a["energy"] for a in after])
        assert (found - energies).abs().max() < 1e-12 * energies.abs().max()
        for a, b in zip(first, after, strict=True):
            assert (b["forces"] - a["forces"] @ g.T).abs().max() < 1e-11
    for found, expected in zip(slopes(deep, structures), first, strict=True):
        forces = expected["forces"]
        assert abs(float(found + (forces * DIRECTION[: len(forces)]).sum())) < 1e-8


DIRECTION = torch.randn(12, 3, generator=torch.Generator().manual_seed(5)).double()


def slopes(model, structures, h=2e-4):
    """dE along a direction from four energies, with an error of order h^4."""

    def at(t):
        moved = [s.clone() for s in structures]
        for s in moved:
            s.pos = s.pos + t * DIRECTION[: len(s.pos)]
        return energies_of(model, moved)

    return (8.0 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12.0 * h)


@pytest.mark.parametrize("name", ["H2O", "CH4", "CO2"])
def test_training_on_forces_of_symmetric_molecules(name):
    structure = from_ase(SITES[name])
    assert_second_derivatives(potential(), structure)
    assert_force_loss_gradients(potential(), structure)


@pytest.mark.parametrize("outputs", ["1x0n+2x1n+1x1p+1x2n", "1x0e+1x0o+2x1o+1x1e+1x2e", "1n+2x2e"])
@pytest.mark.parametrize("reflect", [False, True])
def test_tensors_turn(outputs, reflect):
    network = potential(outputs=outputs).network
    g = random_rotation(seed=4) * (-1 if reflect else 1)
    for structure in (MOLECULE, CELL):
        with torch.no_grad():
            before = network.tensors(graph_of(network, structure))
            after = network.tensors(graph_of(network, turned(structure, g)))
        expected = act(network.output_reps, g, before)
        assert (after - expected).abs().max() < 1e-12 * before.abs().max()
        assert (after - before).abs().max() > 1e-3 * before.abs().max()


def test_what_symmetry_forbids_is_zero():
    """No vector at carbon in methane; along the axis only at nitrogen in ammonia."""
    network = potential(outputs="1x0n+1x1n").network
    with torch.no_grad():
        methane = network.tensors(graph_of(network, from_ase(SITES["CH4"])))
        ammonia = network.tensors(graph_of(network, from_ase(SITES["NH3"])))
    assert methane[0, 1:].abs().max() < 1e-12 < methane[0, 0].abs()
    assert ammonia[0, 1:3].abs().max() < 1e-7 < 1e-4 < ammonia[0, 3].abs()


# a chain whose ends lie beyond the cutoff of the middle atom, but not of its neighbors
CHAIN = torch.tensor(
    [[-2.9, 1.9, 0.7], [-1.9, 0.0, 0.0], [0.0, 0.0, 0.0], [1.9, 0.0, 0.0], [2.8, 1.7, -0.9]]
).double()
# and a site with three neighbors in a plane, one of which sees an atom out of it
STAR = torch.tensor(
    [[0.0, 0.0, 0.0], [1.9, 0.0, 0.0], [-0.9, 1.6, 0.0], [-1.1, -1.5, 0.0], [3.0, 0.6, 1.6]]
).double()
SCAN_CUTOFF = 2.6


def collinear(t):
    """The middle atom leaves the line of its neighbors by t; the chain is straight at 0."""
    pos = CHAIN.clone()
    pos[2, 1] += t
    return make_structure([8, 6, 6, 7, 1], pos)


def planar(t):
    """The middle atom leaves the plane of its neighbors by t."""
    pos = STAR.clone()
    pos[0, 2] += t
    return make_structure([6, 1, 7, 8, 1], pos)


def entering(t):
    """An atom crosses the cutoff at 0."""
    return make_structure([6, 1, 8], [[0, 0, 0], [1.1, 0.3, 0], [-SCAN_CUTOFF - t, 0.4, 0.1]])


def inversion(t):
    """The nitrogen of ammonia goes through the plane of its hydrogens."""
    ammonia = from_ase(SITES["NH3"])
    height = ammonia.pos[0, 2] - ammonia.pos[1:, 2].mean()
    ammonia.pos[0, 2] += t - height
    return ammonia


def bending(t):
    """Water through 180 degrees."""
    ring = torch.tensor([[0.0, 0.0, 0.0], [0.96, 0.0, 0.5 * t], [-0.96, 0.0, 0.5 * t]]).double()
    return make_structure([8, 1, 1], ring)


def flattening(t):
    """Methane through a square: two hydrogens up and two down, then the other way round."""
    square = 0.77 * torch.tensor([[1.0, 1, 0], [-1, -1, 0], [1, -1, 0], [-1, 1, 0]]).double()
    square[:2, 2], square[2:, 2] = t, -t
    return make_structure([6, 1, 1, 1, 1], torch.cat((torch.zeros(1, 3).double(), square)))


def largest_steps(model, path, width, steps=41):
    """Largest changes of energy and forces between neighbors on a path through 0 (never at 0)."""
    places = torch.linspace(-width, width, 2 * ((steps - 1) // 2)).tolist()
    found = predict(model, [path(t) for t in places], ("energy", "forces"))
    series = [torch.stack([one[name] for one in found]) for name in ("energy", "forces")]
    return [float(values.diff(dim=0).abs().max()) for values in series]


def largest_step(model, path, width):
    """The same of the energy alone."""
    return largest_steps(model, path, width)[0]


@pytest.mark.parametrize("path", [collinear, planar, entering, inversion, bending, flattening])
def test_steps_vanish_with_soft_frames(path):
    """Steps are proportional to their width: 100 times smaller on a path 100 times shorter."""
    soft = potential(cutoff=SCAN_CUTOFF)
    wide, narrow = largest_steps(soft, path, 0.2), largest_steps(soft, path, 0.002)
    assert narrow[0] < 0.05 * wide[0]  # the energy
    assert narrow[1] < 0.05 * wide[1]  # the forces


@pytest.mark.parametrize(
    ("frames", "path", "symmetry"),
    [
        ("gram_schmidt", collinear, "SO(3)"),
        ("gram_schmidt", collinear, "O(3)"),
        ("gram_schmidt", planar, "O(3)"),
        ("polar", collinear, "SO(3)"),
    ],
)
def test_hard_frames_jump(frames, path, symmetry):
    """The same paths: what remains on a path 100 times shorter is a jump."""
    hard = potential(cutoff=SCAN_CUTOFF, frames=frames, symmetry=symmetry)
    wide, narrow = largest_steps(hard, path, 0.2), largest_steps(hard, path, 0.002)
    soft = largest_steps(potential(cutoff=SCAN_CUTOFF), path, 0.002)
    for energy_or_forces in range(2):
        assert narrow[energy_or_forces] > 0.3 * wide[energy_or_forces]
        assert narrow[energy_or_forces] > 10 * soft[energy_or_forces]


def test_rotations_keep_their_handedness_through_a_plane():
    """SO(3) frames have no sign to flip: planar geometries are no trouble to them."""
    hard = potential(cutoff=SCAN_CUTOFF, frames="gram_schmidt", symmetry="SO(3)")
    assert largest_step(hard, planar, 0.002) < 0.05 * largest_step(hard, planar, 0.2)


@pytest.mark.parametrize("attention", ["softmax", "sum"])
def test_a_neighbor_enters_smoothly(attention):
    assert_smooth_at_cutoff(potential(attention=attention), MOLECULE, 8)


def test_normalizing_before_the_envelope_is_caught(monkeypatch):
    """Mutant: the published order, weights normalized over all neighbors, then the envelope."""
    original = FrameAttention.message

    def message(self, envelope, **kwargs):
        values, weights = original(self, envelope=torch.ones_like(envelope), **kwargs).split(
            (self.out.in_features, self.heads), -1
        )
        return torch.cat((values * envelope[:, None], weights), -1)

    monkeypatch.setattr(FrameAttention, "message", message)
    with pytest.raises(AssertionError, match="jump of the energy"):
        assert_smooth_at_cutoff(potential(), MOLECULE, 8)


def test_distant_molecules_add_up():
    assert_extensivity(potential(), MOLECULE, sample_molecule((1, 6, 8), 4, seed=5))


def test_a_norm_over_the_graph_is_caught(monkeypatch):
    """Mutant: the published default; one structure at a time, since it also mixes a batch."""

    def over_the_graph(self, x):
        return (x - x.mean()) / (x.std() + 1e-5)

    other = sample_molecule((1, 6, 8), 4, seed=5)
    pos = torch.cat((MOLECULE.pos, other.pos + 100.0))
    both = make_structure(torch.cat((MOLECULE.z, other.z)), pos)

    def excess():
        whole, *parts = (energies_of(potential(), [s])[0] for s in (both, MOLECULE, other))
        return float((whole - sum(parts)).abs())

    assert excess() < 1e-12
    monkeypatch.setattr(nn.LayerNorm, "forward", over_the_graph)
    assert excess() > 1e-4


@ALL_REPS
def test_a_batch_equals_its_structures(reps):
    others = [sample_molecule((1, 6, 8), n, seed=n) for n in (1, 4)]
    assert_batch_equals_single(potential(reps=reps), [MOLECULE, CELL, *others])


def test_charge_matters():
    ion = make_structure(MOLECULE.z, MOLECULE.pos, charge=1.0)
    neutral, charged = energies_of(potential(), [MOLECULE, ion]).tolist()
    assert abs(neutral - charged) > 1e-4


def test_a_file_brings_back_the_same_numbers(tmp_path):
    model = potential(outputs="1x1o", reps=REPS["partly-learned"])
    again = load_model(save_model(model, tmp_path / "model.safetensors"))
    assert again.config == model.config
    names = ("energy", "forces")
    (before,), (after,) = predict(model, [MOLECULE], names), predict(again, [MOLECULE], names)
    assert all(torch.equal(before[name], after[name]) for name in names)


def test_it_learns():
    """Fifty steps on one molecule's forces."""
    torch.manual_seed(0)
    config = LoCaFormerConfig(reps="8x0n+4x1n", channels=16, heads=4, layers=1, num_radial=6)
    model = build_potential(config, elements=ELEMENTS, dtype=torch.float64).train()
    structure = attach_neighbors(make_structure(MOLECULE.z, MOLECULE.pos), model.cutoff)
    target = torch.sin(MOLECULE.pos)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(50):
        loss = (model(structure)["forces"] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    idle = {name for name, p in model.named_parameters() if p.grad is None}
    assert idle == {"network.head.2.bias"}  # a constant has no force


def test_errors():
    with pytest.raises(ValidationError, match="found 'q', at position 3"):
        LoCaFormerConfig(reps="8x0q")
    with pytest.raises(ValueError, match="3 heads do not divide 16 channels"):
        potential(heads=3)
    with pytest.raises(ValueError, match="outputs m4 have a learned part"):
        potential(outputs="m4")
    with pytest.raises(ValueError, match="set outputs='1x1o' in its config"):
        potential().network.tensors(graph_of(potential(), MOLECULE))
