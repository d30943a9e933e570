"""Checkpoints of torchmd-net give torchmd-net's numbers; what is unknown or unsafe is refused."""

import json
from pathlib import Path

import ase.units
import pytest
import torch
from foreign_cases import relative, structure
from foreign_files import write_checkpoint

from dreibein.models import Stated, import_torchmdnet, load_model, save_model
from dreibein.nn import FrozenPotential
from dreibein.systems import make_graph

RECORDS = json.loads((Path(__file__).parent / "data" / "torchmdnet.json").read_text())
MODELS, CASES = RECORDS["models"], RECORDS["structures"]
ELEMENTS = (1, 6, 7, 8)


def written(tmp_path, name="plain", **more):
    return write_checkpoint(MODELS[name], tmp_path / "epoch.ckpt", **more)


@pytest.mark.parametrize("name", MODELS)
def test_energies_and_forces_are_the_publishers(tmp_path, name):
    potential = import_torchmdnet(written(tmp_path, name))
    assert potential.dtype == torch.float64
    for case, expected in MODELS[name]["results"].items():
        found = potential(structure(CASES[case], potential.cutoff))
        assert relative(found["energy"], expected["energy"]) < 1e-10, case
        assert relative(found["forces"], expected["forces"]) < 1e-10, case


SECOND = [name for name in MODELS if name.startswith("TensorNet2")]
WITH_TERMS = "TensorNet2, reaction field, repulsion, references, scale"


@pytest.mark.parametrize("name", SECOND)
def test_charges_sum_to_the_total(tmp_path, name):
    """As published, to a millionth of what they lack; by the exact rule, to rounding."""
    potential = import_torchmdnet(written(tmp_path, name))
    given = structure(CASES["charged"], potential.cutoff)
    graph = make_graph(potential.network_view(given), given.pos, given.cell, torch.float64)
    _, charges = potential.network.energies_and_charges(graph)
    assert charges.shape == (len(given.z), 3 * 2)
    assert (charges.sum(0) - 1.0).abs().max() < 1e-4
    for equilibration in potential.network.equilibrations:
        equilibration.rule = "exact"
    _, charges = potential.network.energies_and_charges(graph)
    assert (charges.sum(0) - 1.0).abs().max() < 1e-14


def test_terms_live_in_the_model_file(tmp_path):
    """Their options in the header, the file's own tables among the tensors."""
    potential = import_torchmdnet(written(tmp_path, WITH_TERMS))
    save_model(potential, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert [term.config.term for term in again.terms] == ["coulomb", "zbl"]
    assert [t.describe() for t in again.terms] == [t.describe() for t in potential.terms]
    given = structure(CASES["triclinic"], potential.cutoff)
    expected = MODELS[WITH_TERMS]["results"]["triclinic"]
    assert relative(again(given)["energy"], expected["energy"]) < 1e-12
    assert relative(again(given)["forces"], expected["forces"]) < 1e-12
    with pytest.raises(ValueError, match="charge_channels"):
        FrozenPotential(again, "fused")
    assert FrozenPotential(again.float()).backend == "reference"  # and the log says why


def test_units_of_priors_must_be_those_of_the_file(tmp_path):
    path = written(tmp_path, "priors: repulsion, references, scale")
    with pytest.raises(ValueError, match=r"prior ZBL says that lengths .* --length-unit"):
        import_torchmdnet(path, Stated(length_unit="nm"))
    with pytest.raises(ValueError, match=r"prior ZBL says that energies .* --energy-unit"):
        import_torchmdnet(path, Stated(energy_unit="kcal/mol"))


def test_a_prior_that_needs_charges_says_so(tmp_path):
    potential = import_torchmdnet(written(tmp_path, "priors: dispersion, charges"))
    assert any("10 times Coulomb's law" in n for n in potential.card["imported"]["notes"])
    given = structure(CASES["molecule"], potential.cutoff)
    del given.charges
    with pytest.raises(ValueError, match="the structures carry none"):
        potential(given)


def test_a_wrong_order_of_rows_is_noticed(tmp_path):
    """Mutant: an old checkpoint read as a new one gives other numbers."""
    potential = import_torchmdnet(written(tmp_path, "before version 3", check_errors="absent"))
    expected = MODELS["before version 3"]["results"]["molecule"]
    found = potential(structure(CASES["molecule"], potential.cutoff))
    assert relative(found["forces"], expected["forces"]) > 1e-3


def test_the_engine_and_the_model_file_keep_the_numbers(tmp_path):
    name = "trained radial functions, reference energies, scale"
    potential = import_torchmdnet(written(tmp_path, name))
    save_model(potential, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert again.config.radial_widths == "each"
    given = structure(CASES["molecule"], potential.cutoff)
    expected = MODELS[name]["results"]["molecule"]
    assert relative(again(given)["forces"], expected["forces"]) < 1e-10
    assert relative(FrozenPotential(again, "fused")(given)["forces"], expected["forces"]) < 1e-7


def test_elements_come_from_the_references_or_are_stated(tmp_path):
    name = "trained radial functions, reference energies, scale"
    potential = import_torchmdnet(written(tmp_path, name))
    assert potential.elements == ELEMENTS
    assert potential.reference_energies[8] == pytest.approx(0.8)
    path = written(tmp_path)
    assert import_torchmdnet(path).elements == tuple(range(1, 10))
    stated = import_torchmdnet(path, Stated(elements=(8, 1)))
    assert stated.elements == (1, 8)
    with pytest.raises(ValueError, match="rows for atomic numbers up to 9, not for 26"):
        import_torchmdnet(path, Stated(elements=(26,)))


def test_references_switched_off_stay_off(tmp_path):
    name = "trained radial functions, reference energies, scale"
    off = {"prior_model": "Atomref", "prior_args": {"max_z": 10, "enable": False}}
    potential = import_torchmdnet(written(tmp_path, name, **off))
    assert potential.elements == ELEMENTS
    assert set(potential.reference_energies.values()) == {0.0}
    assert any("switched off" in note for note in potential.card["imported"]["notes"])


@pytest.mark.parametrize("name", ["plain", "chiral, gaussian"])
def test_units_are_converted(tmp_path, name):
    """The same function, written in kcal/mol and nm (its cutoff then is 4.5 nm)."""
    path = written(tmp_path, name)
    here = import_torchmdnet(path)
    there = import_torchmdnet(path, Stated(energy_unit="kcal/mol", length_unit="nm"))
    assert there.cutoff == pytest.approx(45.0)
    case = CASES["molecule"]
    wide = case | {"pos": (10.0 * torch.tensor(case["pos"], dtype=torch.float64)).tolist()}
    a, b = here(structure(case, 4.5)), there(structure(wide, 45.0))
    factor = ase.units.kcal / ase.units.mol
    torch.testing.assert_close(b["energy"], factor * a["energy"], rtol=1e-9, atol=0.0)
    torch.testing.assert_close(b["forces"], 0.1 * factor * a["forces"], rtol=1e-9, atol=1e-12)
    assert "unit of energy: kcal/mol (stated)" in there.card["imported"]["notes"]
    assert any("assumed" in note for note in here.card["imported"]["notes"])


def test_mirrored_networks_see_the_mirror_image(tmp_path):
    """What torchmd-net's Warp kernels do to SO(3) networks."""
    name, case = "chiral, gaussian", CASES["molecule"]
    potential = import_torchmdnet(written(tmp_path, name), Stated(mirrored=True))
    expected = MODELS[name]["results"]["molecule"]
    mirror = case | {"pos": (-torch.tensor(case["pos"], dtype=torch.float64)).tolist()}
    found = potential(structure(mirror, potential.cutoff))
    assert relative(found["energy"], expected["energy"]) < 1e-12
    assert relative(-found["forces"], expected["forces"]) < 1e-10
    same = potential(structure(case, potential.cutoff))
    assert relative(same["forces"], expected["forces"]) > 1e-6
    assert any("Warp" in note for note in potential.card["imported"]["notes"])


def test_the_card_says_where_it_comes_from(tmp_path):
    path = written(tmp_path)
    stated = Stated(level_of_theory="PBE", license="MIT")
    card = import_torchmdnet(path, stated).card
    assert (card["level_of_theory"], card["license"]) == ("PBE", "MIT")
    assert len(card["imported"]["files"]["epoch.ckpt"]) == 64
    assert card["imported"]["hyperparameters"]["embedding_dimension"] == 8
    json.dumps(card)


def test_a_mean_per_structure_needs_its_size(tmp_path):
    record = MODELS["plain"] | {"values": MODELS["plain"]["values"] | {"mean": -4.0}}
    path = write_checkpoint(record, tmp_path / "mean.ckpt")
    with pytest.raises(ValueError, match="once to every structure"):
        import_torchmdnet(path)
    case = CASES["molecule"]
    potential = import_torchmdnet(path, Stated(atoms=len(case["z"])))
    found = potential(structure(case, potential.cutoff))["energy"]
    expected = [e - 4.0 for e in MODELS["plain"]["results"]["molecule"]["energy"]]
    assert relative(found, expected) < 1e-12


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "tensornet2"}, "lack q_dim"),
        ({"model": "equivariant-transformer"}, "only 'tensornet'"),
        ({"output_model": "ScalarPlusWeightedCoulomb"}, "output_model is ScalarPlusWeightedCou"),
        ({"activation": "tanh"}, "activation is tanh; only silu"),
        ({"cutoff_lower": 1.0}, "cutoff_lower is 1.0"),
        ({"output_model": "DipoleMoment"}, "output_model is DipoleMoment"),
        ({"reduce_op": "mean"}, "reduce_op is mean"),
        ({"atom_filter": 1}, "atom_filter is 1"),
        ({"prior_model": "ZBL", "prior_args": {"cutoff_distance": 2.0}}, "ZBL lack distance_scale"),
        ({"prior_model": ["Atomref", "Morse"]}, "lacks the tensor prior_model.0"),
        ({"prior_model": "Morse"}, "the prior Morse, which is not known"),
        ({"cutoff_uper": 4.0}, "unknown hyperparameter cutoff_uper .nearest known: cutoff_upper"),
        ({"num_rbf": "absent"}, "lack num_rbf"),
    ],
    ids=str,
)
def test_what_is_not_known_is_refused_by_name(tmp_path, change, said):
    with pytest.raises(ValueError, match=said):
        import_torchmdnet(written(tmp_path, **change))


def test_unknown_and_missing_tensors_are_refused_by_name(tmp_path):
    record = MODELS["plain"]
    more = record | {"shapes": record["shapes"] | {"representation_model.extra.weight": [2]}}
    with pytest.raises(ValueError, match=r"representation_model\.extra\.weight"):
        import_torchmdnet(write_checkpoint(more, tmp_path / "more.ckpt"))
    fewer = {n: s for n, s in record["shapes"].items() if "out_norm.bias" not in n}
    with pytest.raises(ValueError, match=r"lacks the tensor representation_model\.out_norm\.bias"):
        import_torchmdnet(write_checkpoint(record | {"shapes": fewer}, tmp_path / "fewer.ckpt"))


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    sprung = tmp_path / "sprung"
    path = tmp_path / "trap.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": {}, "callbacks": Trap(sprung)}, path)
    with pytest.raises(ValueError, match="holds more than data"):
        import_torchmdnet(path)
    assert not sprung.exists()
    torch.load(path, weights_only=False)  # the trap is a trap
    assert sprung.exists()


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file at"):
        import_torchmdnet(tmp_path / "absent.ckpt")
    (tmp_path / "text.ckpt").write_text("epoch 3")
    with pytest.raises(ValueError, match="not an archive"):
        import_torchmdnet(tmp_path / "text.ckpt")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="no state_dict"):
        import_torchmdnet(tmp_path / "other.ckpt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "program.pt")
    with pytest.raises(ValueError, match="TorchScript"):
        import_torchmdnet(tmp_path / "program.pt")
