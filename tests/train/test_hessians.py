"""Hessians in the loss: random directions give the error of the whole matrix, and learn it."""

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.morse import MorsePotential

from dreibein.data import DataConfig, load_data
from dreibein.evaluate import evaluate_potential
from dreibein.evaluate.hessians import frequencies
from dreibein.models import LoCaFormerConfig, TensorNetConfig, build_potential
from dreibein.recipes import load_config, train_run
from dreibein.train import LabelTerm
from dreibein.train.frames import Frames
from dreibein.train.hessians import label_products, predict_with_products
from dreibein.train.losses import loss_sums

SMALL = {"channels": 8, "num_radial": 6, "cutoff": 3.5, "layers": 1}
CONFIGS = {
    "tensornet": TensorNetConfig(**SMALL),
    "knots": TensorNetConfig(**SMALL, knots=48),
    "locaformer": LoCaFormerConfig(**SMALL, heads=2, reps="4x0n+2x1n"),
}
STEP = 1e-3  # Å


def morse_frames(count, sizes=(3, 4)):
    """Clusters with energies, forces and Hessians of a Morse potential."""
    generator = np.random.default_rng(0)
    frames = []
    for k in range(count):
        n = sizes[k % len(sizes)]
        pos = np.arange(n)[:, None] * [1.0, 0.3, 0.0] + generator.normal(0, 0.1, (n, 3))
        atoms = Atoms("OHHH"[:n], positions=pos)
        atoms.calc = MorsePotential(epsilon=0.5, r0=1.1, rho0=4.0, rcut1=4.0, rcut2=5.0)
        rows = []
        for i in range(3 * n):
            ends = []
            for sign in (1.0, -1.0):
                other = atoms.copy()
                other.calc = atoms.calc
                other.positions.ravel()[i] += sign * STEP
                ends.append(other.get_forces().ravel())
            rows.append(-(ends[0] - ends[1]) / (2.0 * STEP))
        energy, forces, matrix = atoms.get_potential_energy(), atoms.get_forces(), np.array(rows)
        atoms.calc = None
        atoms.info = {"REF_energy": energy, "hessian": 0.5 * (matrix + matrix.T).ravel()}
        atoms.arrays["REF_forces"] = forces
        frames.append(atoms)
    return frames


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("hessians") / "morse.extxyz"
    ase.io.write(path, morse_frames(12))
    return path


@pytest.fixture(scope="module")
def data(source):
    return load_data(DataConfig(sources=[str(source)], labels=["hessian"]))


def made(name):
    torch.manual_seed(0)
    return build_potential(CONFIGS[name], elements=(1, 8), scale=2.0, dtype=torch.float64)


def batch_of(data, indices=(0, 1, 2)):
    return Frames(data, 3.5, ("energy", "forces", "hessian"))[list(indices)]


def test_labels_are_read_and_padded(data):
    first, second = data[0], data[1]
    assert first.hessian.shape == (3, 3, 4, 3)
    assert second.hessian.shape == (4, 3, 4, 3)
    assert not first.hessian[:, :, 3].any()
    flat = first.hessian[:, :, :3].reshape(9, 9)
    torch.testing.assert_close(flat, flat.T)
    unit = data.provenance["sources"][0]["units"]["hessian"]
    assert (unit["unit"], unit["converted_to"]) == ("eV/Å^2", "eV/Å^2")


def test_products_are_those_of_the_whole_matrices(data):
    batch, potential = batch_of(data), made("tensornet")
    whole = potential.eval()(batch, compute=("hessian",))["hessian"]
    found = predict_with_products(potential.train(), batch, ("hessian",), (1, 2))["hessian"]
    signs = np.random.default_rng((1, 2)).integers(0, 2, (len(batch.z), 3)) * 2.0 - 1.0
    directions = torch.from_numpy(signs)
    ours = batch.clone()
    ours.hessian = whole
    left = label_products(ours, directions) - label_products(batch, directions)
    sizes = batch.ptr.diff()[batch.batch]
    torch.testing.assert_close(found, left / (3.0 * sizes).sqrt()[:, None], rtol=1e-9, atol=1e-10)
    assert not batch.pos.requires_grad


def test_the_mean_over_directions_is_the_error_of_the_matrix(data):
    batch, potential = batch_of(data, (1,)), made("tensornet")
    off = potential.eval()(batch, compute=("hessian",))["hessian"] - batch.hessian
    potential.train()
    term = {"hessian": LabelTerm(scale=1.0)}
    found = []
    for k in range(200):
        predictions = predict_with_products(potential, batch, ("hessian",), (k,))
        sums = loss_sums(predictions, batch, term)
        found.append(float((sums.sums / sums.counts).detach()))
    exact = float(off.square().mean())
    assert np.mean(found) == pytest.approx(exact, rel=4.0 * np.std(found) / exact / 200**0.5)


def slope_error(name, batch):
    """Relative difference of the loss's gradient along a direction of the weights."""
    potential = made(name).train()
    weights = list(potential.parameters())

    def loss():
        predictions = predict_with_products(potential, batch, ("hessian",), (0,))
        return loss_sums(predictions, batch, {"hessian": LabelTerm(scale=1.0)}).sums[0]

    generator = torch.Generator().manual_seed(1)
    directions = [torch.randn(w.shape, generator=generator).to(w) for w in weights]
    gradients = torch.autograd.grad(loss(), weights, allow_unused=True)
    found = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True) if g is not None)
    ends = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            for w, d in zip(weights, directions, strict=True):
                w.add_(d, alpha=sign * 1e-6)
        ends.append(float(loss().detach()))
        with torch.no_grad():
            for w, d in zip(weights, directions, strict=True):
                w.add_(d, alpha=-sign * 1e-6)
    numeric = (ends[0] - ends[1]) / 2e-6
    return abs(float(found) - numeric) / abs(numeric)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_gradient_by_weights_is_right(data, name):
    assert slope_error(name, batch_of(data)) < 1e-5


def test_pytorchs_own_layer_norm_is_caught(data, monkeypatch):
    """Its third derivative is wrong; without the plain one the gradient would be, too."""
    monkeypatch.setattr("dreibein.train.hessians._layer_norm", torch.layer_norm)
    assert slope_error("tensornet", batch_of(data)) > 1e-3


def test_training_learns_them_and_says_how_well(source, tmp_path):
    common = [
        f"data.sources={source}", "data.validation=2", "data.test=2", "model.channels=8",
        "model.layers=1", "model.num_radial=6", "model.cutoff=3.5", "training.lr=5e-3",
        "training.batch_size=4", "training.ema_decay=null", "training.epochs=20",
    ]  # fmt: skip
    alone = ["training.losses={energy: null, forces: null, hessian: {weight: 1.0}}"]
    run = train_run(
        load_config(overrides=[*common, *alone]),
        folder=tmp_path / "with",
    )
    rows = np.genfromtxt(run.folder / "metrics.csv", delimiter=",", names=True)
    assert rows["train_hessian_loss"][-3:].mean() < 0.8 * rows["train_hessian_loss"][:3].mean()
    assert np.isfinite(rows["val_hessian_loss"]).all()
    metrics = run.evaluations["test"].metrics
    assert metrics["hessian_rmse_ev_per_a2"] > 0.0
    assert metrics["frequencies_rmse_1_per_cm"] > 0.0
    assert "hessian" in {t.name for t in run.evaluations["test"].targets}
    resumed = load_config(run.folder / "config.yaml", ["training.epochs=21"])
    assert train_run(resumed, resume=run.folder).fit.epochs == 21
    with pytest.raises(ValueError, match=r"hessian\.kind is mae"):
        train_run(
            load_config(overrides=[*common, "training.losses.hessian={kind: mae}"]),
            folder=tmp_path / "mae",
        )


def test_errors_count_what_is_there(data):
    potential = made("tensornet")
    found = evaluate_potential(potential, data, batch_size=5)
    square, count, waves = 0.0, 0, []
    for k in range(len(data)):
        batch = batch_of(data, (k,))
        n = len(batch.z)
        ours = potential(batch, compute=("hessian",))["hessian"]
        theirs = batch.hessian[:, :, :n]
        square += float((ours - theirs).square().sum())
        count += 9 * n**2
        waves.append(frequencies(ours.numpy(), batch.z.numpy()))
        waves[-1] = waves[-1] - frequencies(theirs.numpy(), batch.z.numpy())
    assert found.metrics["hessian_rmse_ev_per_a2"] == pytest.approx((square / count) ** 0.5)
    rmse = float(np.sqrt(np.mean(np.concatenate(waves) ** 2)))
    assert found.metrics["frequencies_rmse_1_per_cm"] == pytest.approx(rmse)


def test_a_frequency_is_that_of_a_spring():
    stiffness, mass = 30.0, 1.008  # eV/Å², u
    matrix = np.zeros((2, 3, 2, 3))
    matrix[0, 0, 0, 0] = matrix[1, 0, 1, 0] = stiffness
    matrix[0, 0, 1, 0] = matrix[1, 0, 0, 0] = -stiffness
    found = frequencies(matrix, np.array([1, 1]))
    # sqrt(2 k / m), with 1 eV/Å² = 16.02177 N/m
    expected = np.sqrt(2 * stiffness * 16.02177 / (mass * 1.66053907e-27)) / (
        2e2 * np.pi * 2.99792458e8
    )
    assert found[-1] == pytest.approx(expected, rel=1e-5)
    assert np.abs(found[:-1]).max() < 1e-3
