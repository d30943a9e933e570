"""Tabulated filters: many knots give the network per edge, few are a model of their own."""

import pytest
import torch

from dreibein.models import TensorNetConfig, build_potential, load_model, save_model
from dreibein.testing import sample_molecule
from dreibein.testing.probing import predict


def potential(knots, **options):
    sizes = {"channels": 8, "num_radial": 6, "cutoff": 4.0, "layers": 2, "knots": knots}
    torch.manual_seed(1)
    config = TensorNetConfig(**(sizes | options))
    return build_potential(config, elements=(1, 6, 8), dtype=torch.float64)


@pytest.mark.parametrize("radial", ["expnorm", "gaussian", "bessel"])
def test_many_knots_give_the_network_per_edge(radial):
    molecule = sample_molecule((1, 6, 8), 6, seed=3)
    exact, coarse, fine = (
        predict(potential(knots, radial=radial), [molecule], ("forces",))[0]
        for knots in (0, 64, 1024)
    )
    scale = exact["forces"].abs().max()
    errors = [
        float((found["forces"] - exact["forces"]).abs().max() / scale) for found in (coarse, fine)
    ]
    assert errors[1] < 1e-9, errors
    assert errors[1] < 1e-3 * errors[0], errors
    assert errors[0] > 1e-13, "64 knots cannot be exact: the table is not in use"


def test_the_weights_have_the_same_names_and_shapes():
    per_edge, table = (potential(knots).state_dict() for knots in (0, 32))
    assert {n: t.shape for n, t in per_edge.items()} == {n: t.shape for n, t in table.items()}


def test_knots_are_kept_in_the_model_file(tmp_path):
    saved = potential(32)
    save_model(saved, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.config.knots == 32
    molecule = sample_molecule((1, 6, 8), 5, seed=4)
    a, b = (predict(p, [molecule])[0]["energy"] for p in (saved, loaded))
    assert float(a) == float(b)
