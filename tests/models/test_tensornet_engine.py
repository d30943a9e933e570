"""The engine without autograd gives the potential's numbers: every option, batches, odd inputs."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch_geometric.data import Data

from dreibein.models import TensorNetConfig, build_potential
from dreibein.models.tensornet.inference import TensorNetEngine
from dreibein.neighbors import attach_neighbors
from dreibein.nn import FrozenPotential, Potential
from dreibein.systems import join, make_structure

WANTED = ("energy", "energies", "forces", "virial", "stress")


def potential(dtype: torch.dtype = torch.float64, **options: object) -> Potential:
    torch.manual_seed(3)
    config = TensorNetConfig(**{"channels": 12, "cutoff": 4.0, "num_radial": 8, **options})
    model = build_potential(
        config, elements=(1, 6, 8), reference_energies={1: -0.5, 6: 2.0}, scale=0.7, dtype=dtype
    )
    with torch.no_grad():  # biases start at zero and would hide an omission
        for parameter in model.network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model.eval()


def structure(atoms: int = 9, seed: int = 0, side: float = 3.5, **more: object) -> Data:
    generator = torch.Generator().manual_seed(seed)
    pos = side * torch.rand(atoms, 3, generator=generator, dtype=torch.float64)
    z = torch.tensor([1, 6, 8])[torch.randint(0, 3, (atoms,), generator=generator)]
    return attach_neighbors(make_structure(z, pos, **more), 4.0)


def crystal(**more: object) -> Data:
    cell = torch.tensor([[3.9, 0.2, 0.0], [0.0, 4.1, 0.3], [-0.5, 0.0, 4.4]])
    return structure(6, 5, cell=cell, pbc=[True, True, True], **more)


def differences(model: Potential, given: Data, **options: float) -> dict[str, float]:
    """Largest difference of each quantity, relative to its largest value."""
    exact = model(given, compute=WANTED)
    frozen = FrozenPotential(model, "fused")
    if options:
        frozen._engine = TensorNetEngine(model.network, **options)
    found = frozen(given, compute=WANTED)
    assert set(found) == set(exact)
    return {
        name: float((found[name] - value).abs().max() / value.abs().max())
        for name, value in exact.items()
        if bool(torch.isfinite(value).all())
    }


@pytest.mark.parametrize(
    "options",
    [
        {"layers": 0},
        {"layers": 1},
        {"layers": 3},
        {"symmetry": "SO(3)"},
        {"envelope": "cosine"},
        {"radial": "gaussian"},
        {"radial": "bessel"},
        {"channels": 16},
        {"channels": 17},
        {"knots": 24},
        {"radial": "smooth_bessel", "num_radial": 3},
        {"radial_widths": "each"},
        {"self_loops": False},
        {"charge_scale": 0.0},
        {"head": "gated"},
        {"head": "gated", "layers": 0, "channels": 17},
    ],
    ids=str,
)
@pytest.mark.parametrize("given", [structure(charge=1.0), crystal()], ids=["molecule", "crystal"])
def test_it_equals_the_reference_in_float64(options: dict[str, object], given: Data) -> None:
    found = differences(potential(**options), given, table_error=1e-11)
    assert max(found.values()) < 1e-8, found
    assert found["energies"] < 1e-10


def test_the_bound_on_tables_bounds_the_forces() -> None:
    model, given = potential(), structure()
    for bound in (1e-4, 1e-6, 1e-8):
        assert differences(model, given, table_error=bound)["forces"] < 10.0 * bound


def test_float32_follows_to_its_precision() -> None:
    found = differences(potential(torch.float32, channels=64), structure(14))
    assert found["forces"] < 2e-5
    assert found["energies"] < 1e-6


def test_batches_are_their_structures() -> None:
    model = potential()
    parts = [structure(7, 1), structure(1, 2), crystal(charge=-1.0), structure(3, 4, side=40.0)]
    frozen = FrozenPotential(model, "fused")
    whole = frozen(join(parts), compute=("energy", "forces", "virial"))
    single = [frozen(part, compute=("energy", "forces", "virial")) for part in parts]
    for name, values in whole.items():
        torch.testing.assert_close(values, torch.cat([one[name] for one in single]))


def test_what_is_kept_between_calls_notices_every_change() -> None:
    model, given = potential(), structure(8, 1)
    frozen = FrozenPotential(model, "fused")

    def check() -> float:
        found, exact = (f(given, compute=("energy", "forces")) for f in (frozen, model))
        torch.testing.assert_close(found["forces"], exact["forces"], rtol=1e-8, atol=1e-10)
        return float(found["energy"])

    before = check()
    given.z[2] = 8 if int(given.z[2]) != 8 else 1  # in place
    assert check() != before
    far = given.edge_index[:, :2].clone()
    given.edge_index[:, :2] = far.flip(0)  # in place, no longer sorted
    with pytest.raises(ValueError, match="not sorted by receiver"):
        frozen(given)
    given.edge_index[:, :2] = far
    nearer = attach_neighbors(given, 2.0)
    assert nearer.num_edges < given.num_edges
    given.edge_index, given.shift = nearer.edge_index, nearer.shift
    last = check()
    given.pos[0] += 0.1
    assert check() != last
    given = crystal(charge=-1.0)
    last = check()
    given.charge += 2.0  # in place
    charged = check()
    assert charged != last
    moved = given.edge_index[0] != given.edge_index[1]
    wrong = given.shift.clone()
    given.shift[moved] += 1  # in place: neighbors elsewhere
    assert check() != charged
    given.shift[:] = wrong
    assert check() == charged


def test_threads_change_nothing_but_rounding() -> None:
    model, given = potential(), structure(120, 7, side=11.0)
    frozen, before = FrozenPotential(model, "fused"), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = frozen(given, compute=("energies", "forces"))
        torch.set_num_threads(3)
        three = frozen(given, compute=("energies", "forces"))
    finally:
        torch.set_num_threads(before)
    for name, values in one.items():
        torch.testing.assert_close(three[name], values, rtol=1e-12, atol=1e-12)


def test_pairs_beyond_the_cutoff_are_skipped() -> None:
    model, given = potential(), structure(20, 3, side=8.0)
    frozen = FrozenPotential(model, "fused")
    wide = attach_neighbors(given, 6.0)
    assert wide.num_edges > given.num_edges
    for name, values in frozen(given).items():
        torch.testing.assert_close(frozen(wide)[name], values, rtol=0, atol=1e-13)


def test_atoms_on_top_of_each_other_and_alone_stay_finite() -> None:
    model = potential()
    pos = torch.zeros(2, 3, dtype=torch.float64)
    together = attach_neighbors(make_structure([1, 8], pos), 4.0)
    alone = attach_neighbors(make_structure([6], pos[:1]), 4.0)
    empty = attach_neighbors(make_structure([], pos[:0]), 4.0)
    frozen = FrozenPotential(model, "fused")
    for given in (together, alone, empty):
        exact, found = model(given), frozen(given)
        for name, values in exact.items():
            torch.testing.assert_close(found[name], values, rtol=1e-8, atol=1e-10)


def test_an_unsorted_list_is_refused() -> None:
    given = structure()
    order = torch.randperm(given.num_edges, generator=torch.Generator().manual_seed(0))
    given.edge_index, given.shift = given.edge_index[:, order], given.shift[order]
    with pytest.raises(ValueError, match="not sorted by receiver"):
        FrozenPotential(potential(), "fused")(given)


def test_calls_from_several_threads_do_not_mix() -> None:
    frozen = FrozenPotential(potential(), "fused")
    given = [structure(5 + k, seed=k) for k in range(6)]
    alone = [frozen(one)["forces"] for one in given]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda one: frozen(one)["forces"], given * 5))
    for k, forces in enumerate(together):
        torch.testing.assert_close(forces, alone[k % len(given)], rtol=0, atol=0)


def test_an_unknown_element_gives_no_number() -> None:
    given = attach_neighbors(make_structure([1, 7], torch.eye(3, dtype=torch.float64)[:2]), 4.0)
    assert bool(FrozenPotential(potential(), "fused")(given)["energy"].isnan())


def test_later_changes_of_the_weights_are_not_seen() -> None:
    model, given = potential(), structure()
    frozen = FrozenPotential(copy.deepcopy(model), "fused")
    before = frozen(given)["energy"].clone()
    with torch.no_grad():
        for parameter in frozen.potential.parameters():
            parameter.mul_(2.0)
    torch.testing.assert_close(frozen(given)["energy"], before, rtol=0, atol=0)


def test_what_the_engine_does_not_give_comes_from_the_potential() -> None:
    model, given = potential(), structure(3)
    hessian = FrozenPotential(model, "fused")(given, compute=("hessian",))["hessian"]
    torch.testing.assert_close(hessian, model(given, compute=("hessian",))["hessian"])


def test_auto_keeps_float64_exact_and_says_what_runs() -> None:
    assert FrozenPotential(potential()).backend == "reference"
    single = FrozenPotential(potential(torch.float32))
    assert single.backend == "fused"
    assert "knots" in single.describe()
    assert "autograd" in FrozenPotential(potential()).describe()


def test_filters_too_sharp_for_a_table_are_left_to_autograd(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = potential(torch.float32)
    with torch.no_grad():
        model.network.radial.beta.mul_(1e8)  # radial functions like needles
    with pytest.raises(ValueError, match="use backend='reference'"):
        FrozenPotential(model, "fused")
    assert FrozenPotential(model).backend == "reference"
    assert "err by" in caplog.text


def test_unknown_backends_are_refused() -> None:
    with pytest.raises(ValueError, match="choose auto, reference, fused"):
        FrozenPotential(potential(), "fast")


def test_a_frozen_potential_can_be_sent_to_another_process() -> None:
    frozen, given = FrozenPotential(potential(), "fused"), structure()
    before = frozen(given)
    after = pickle.loads(pickle.dumps(frozen))(given)
    for name, values in before.items():
        torch.testing.assert_close(after[name], values, rtol=0, atol=0)
