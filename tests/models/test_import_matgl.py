"""Folders of matgl give matgl's numbers, also the trained MatPES potential; the rest is refused."""

import json
from pathlib import Path

import pytest
import torch
from foreign_cases import relative, structure
from foreign_files import write_folder

from dreibein.models import Stated, import_matgl, load_model, save_model
from dreibein.nn import FrozenPotential

RECORDS = json.loads((Path(__file__).parent / "data" / "matgl.json").read_text())
MODELS, CASES, TRAINED = RECORDS["models"], RECORDS["structures"], RECORDS["MatPES"]
FOLDER = "TensorNet-MatPES-PBE-v2025.1-PES"


def agrees(potential, cases, results, tolerance):
    for name, expected in results.items():
        wanted = tuple(expected)
        found = potential(structure(cases[name], potential.cutoff), compute=wanted)
        for quantity, values in expected.items():
            assert relative(found[quantity].squeeze(0), values) < tolerance, (name, quantity)


@pytest.fixture(scope="module")
def matpes(shared):
    folder = shared / "data" / "matgl_tensornet" / FOLDER
    if not folder.is_dir():
        pytest.skip(f"the trained potential is not there: {folder}")
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_energies_forces_and_stress_are_the_publishers(tmp_path, name):
    potential = import_matgl(write_folder(MODELS[name], tmp_path))
    agrees(potential, CASES, MODELS[name]["results"], 1e-10)


def test_the_trained_potential_gives_its_numbers(matpes):
    potential = import_matgl(matpes)
    assert (potential.dtype, len(potential.elements)) == (torch.float32, 89)
    agrees(potential.double(), TRAINED["structures"], TRAINED["results"], 1e-10)
    silicon = structure(TRAINED["structures"]["silicon"], potential.cutoff)
    assert float(potential(silicon)["energy"]) == pytest.approx(-41.465111, abs=2e-6)


def test_the_trained_potential_is_the_same_from_a_model_file_and_by_the_engine(matpes, tmp_path):
    save_model(import_matgl(matpes), tmp_path / "model.safetensors")
    single = load_model(tmp_path / "model.safetensors")
    double = load_model(tmp_path / "model.safetensors", dtype=torch.float64)
    expected = TRAINED["results"]["rock salt"]
    given = structure(TRAINED["structures"]["rock salt"], double.cutoff)
    wanted = ("energy", "forces", "stress")
    for potential, backend, tolerance in (
        (double, "reference", 1e-10),
        (double, "fused", 1e-7),
        (single, "fused", 1e-4),
    ):
        found = FrozenPotential(potential, backend)(given, compute=wanted)
        for quantity in wanted:
            value = found[quantity].reshape(torch.tensor(expected[quantity]).shape)
            assert relative(value, expected[quantity]) < tolerance, (backend, quantity)


def test_the_direction_of_edges_matters_where_mirror_images_differ(tmp_path):
    """Mutant: without the change of sign an SO(3) network gives other numbers."""
    name = "chiral, smooth Bessel"
    potential = import_matgl(write_folder(MODELS[name], tmp_path))
    with torch.no_grad():
        for tensor in (potential.network.embedding.distance.weight,):
            tensor[8:16] *= -1.0
        potential.network.embedding.distance.bias[8:16] *= -1.0
    expected = MODELS[name]["results"]["molecule"]["forces"]
    found = potential(structure(CASES["molecule"], potential.cutoff))["forces"]
    assert relative(found, expected) > 1e-6


def test_joined_projections_are_understood(tmp_path):
    """The Warp variant writes the three projections of distances as one."""
    write_folder(MODELS["gaussian"], tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    place = "model.tensor_embedding.distance_proj"
    for kind in ("weight", "bias"):
        parts = [state.pop(f"{place}{k}.{kind}") for k in (1, 2, 3)]
        state[f"{place}.{kind}"] = torch.cat(parts)
    torch.save(state, tmp_path / "state.pt")
    agrees(import_matgl(tmp_path), CASES, MODELS["gaussian"]["results"], 1e-10)


def test_the_card_says_where_it_comes_from(tmp_path):
    folder = write_folder(MODELS["gaussian"], tmp_path / "some-potential")
    card = import_matgl(folder, Stated(level_of_theory="PBE", license="BSD-3")).card
    assert (card["name"], card["level_of_theory"]) == ("some-potential", "PBE")
    assert sorted(card["imported"]["files"]) == ["model.json", "state.pt"]
    json.dumps(card)


def changed(description, place, **changes):
    description = json.loads(json.dumps(description))
    target = description
    for name in place:
        target = target[name]
    target.update(changes)
    return description


NETWORK = ("kwargs", "model", "init_args")


@pytest.mark.parametrize(
    ("place", "change", "said"),
    [
        ((), {"@class": "M3GNet"}, "describes a M3GNet"),
        ((), {"@model_version": 7}, "Potential has version 7"),
        (("kwargs", "model"), {"@class": "QET"}, "the network is a QET"),
        (("kwargs", "model"), {"@model_version": 9}, "TensorNet has version 9"),
        (("kwargs",), {"calc_repuls": True}, "calc_repuls is True; only False"),
        (("kwargs",), {"calc_charge": True}, "calc_charge is True"),
        (("kwargs",), {"new_term": 1}, "unknown argument new_term"),
        (NETWORK, {"activation_type": "tanh"}, "activation_type is tanh; only swish"),
        (NETWORK, {"is_intensive": True}, "is_intensive is True"),
        (NETWORK, {"include_state": True}, "include_state is True"),
        (NETWORK, {"rbf_type": "ExpNorm"}, "rbf_type is ExpNorm"),
        (NETWORK, {"rbf_type": "SphericalBessel"}, "only the smooth functions"),
        (NETWORK, {"num_rbff": 3}, "unknown argument num_rbff .nearest known: num_rbf"),
    ],
    ids=str,
)
def test_what_is_not_known_is_refused_by_name(tmp_path, place, change, said):
    record = MODELS["gaussian"]
    description = changed(record["description"], place, **change)
    with pytest.raises(ValueError, match=said):
        import_matgl(write_folder(record | {"description": description}, tmp_path))


def test_other_units_unknown_tensors_and_absent_files_are_refused(tmp_path):
    record = MODELS["gaussian"]
    folder = write_folder(record, tmp_path / "a")
    with pytest.raises(ValueError, match="the unit kcal/mol is refused"):
        import_matgl(folder, Stated(energy_unit="kcal/mol"))
    more = record | {"shapes": record["shapes"] | {"repuls.a_pow": [1]}}
    with pytest.raises(ValueError, match=r"repuls\.a_pow"):
        import_matgl(write_folder(more, tmp_path / "b"))
    with pytest.raises(FileNotFoundError, match="give a folder saved by matgl"):
        import_matgl(tmp_path)
    (folder / "model.json").write_text("{")
    with pytest.raises(ValueError, match="no description of a matgl model"):
        import_matgl(folder)
