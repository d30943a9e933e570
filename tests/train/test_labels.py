"""A loss, a metric and a checkpoint may have any label."""

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch

from dreibein.evaluate import ErrorMeter
from dreibein.systems import make_structure
from dreibein.train import LabelTerm, Losses, TrainingConfig, fit
from dreibein.train.losses import loss_sums
from dreibein.train.metrics import read_metrics
from dreibein.train.reports import short_note
from dreibein.train.steps import Stepper


class Labelled:
    """Molecules with a dipole that is linear in their positions, some of them missing."""

    label_names = ("dipole", "tensor")

    def __init__(self, size, seed=0):
        torch.manual_seed(seed)
        self.structures = []
        for frame in range(size):
            n = 2 + frame % 3
            pos = torch.arange(n)[:, None] * torch.tensor([1.1, 0.0, 0.0]) + 0.2 * torch.randn(n, 3)
            dipole = torch.where(torch.tensor(frame % 4 == 3), 0.0, 0.3 * pos.sum(0).double())
            structure = make_structure([1] * n, pos, frame=frame, dipole=dipole)
            structure.dipole_mask = torch.tensor([frame % 4 != 3])
            structure.tensor = torch.einsum("na,nb->nab", pos, pos).flatten(1).double()
            self.structures.append(structure)

    def __len__(self):
        return len(self.structures)

    def __getitem__(self, index):
        return self.structures[index]

    def describe(self, index):
        return f"frame {index}"


class Linear(nn.Module):
    """dipole = a sum_i r_i, tensor = b r_i r_i^T as matrices: two weights to find."""

    cutoff = 3.0
    outputs = heads = ("dipole", "tensor")

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.0, dtype=torch.float64))
        self.b = nn.Parameter(torch.tensor(0.0, dtype=torch.float64))

    def forward(self, structures, compute):
        pos = structures.pos
        dipole = pos.new_zeros(structures.num_graphs, 3).index_add(0, structures.batch, pos)
        found = {"dipole": self.a * dipole, "tensor": self.b * pos[:, :, None] * pos[:, None, :]}
        return {name: found[name] for name in compute}


QUICK = {"epochs": 40, "batch_size": 4, "lr": 0.05, "warmup_steps": 1, "precision": "float64"}


def test_two_labels_without_energy_are_learned_together(run_folder):
    losses = Losses(dipole={"scale": 0.5}, tensor={"weight": 2.0, "kind": "mae", "scale": 2.0})
    config = TrainingConfig(losses=losses, **QUICK)
    model = Linear()
    result = fit(config, model, Labelled(17), Labelled(8, seed=1), run_folder, meter=ErrorMeter)
    assert model.a.item() == pytest.approx(0.3, abs=1e-2)
    assert model.b.item() == pytest.approx(1.0, abs=3e-2)
    row = read_metrics(run_folder / "metrics.csv")[-1]
    loss = float(row["val_dipole_loss"]) + 2.0 * float(row["val_tensor_loss"])
    assert float(row["val_loss"]) == pytest.approx(loss)
    assert float(row["val_dipole_rmse_relative"]) < 0.1
    assert result.reason == "epochs"
    values = {k: float(v) if v else None for k, v in row.items()}
    assert "dipole" in short_note(values, config)
    assert "e*Å" in short_note(values, config)


def test_a_label_is_divided_by_its_scale_and_reshaped():
    structure = make_structure([1, 1], torch.eye(3)[:2])
    structure.tensor = torch.arange(18.0).view(2, 9)
    prediction = {"tensor": torch.arange(18.0, dtype=torch.float64).view(2, 3, 3) + 3.0}
    batch = Batch.from_data_list([structure])
    found = loss_sums(prediction, batch, {"tensor": LabelTerm(scale=1.5)})
    assert float(found.sums[0] / found.counts[0]) == pytest.approx(4.0)
    with pytest.raises(ValueError, match="give the target the rank of its label"):
        loss_sums({"tensor": torch.zeros(2)}, batch, {"tensor": LabelTerm()})


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({"shielding": {}}, "does not predict 'shielding'"),
        ({"my_label": {}}, "does not predict 'my_label'"),
    ],
)
def test_a_named_term_needs_a_prediction(run_folder, losses, message):
    config = TrainingConfig(losses=Losses(**losses), **QUICK)
    with pytest.raises(ValueError, match=message):
        fit(config, Linear(), Labelled(8), None, run_folder, meter=ErrorMeter)


def test_a_misspelt_label_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="'dipol' is not a label; did you mean 'dipole'"):
        Losses(dipol={})
    assert Losses(my_label=None).terms().keys() == {"energy", "forces", "stress"}


def test_sums_of_older_checkpoints_are_of_energy_forces_and_stress():
    stepper = Stepper.__new__(Stepper)
    stepper.terms, stepper.sums = {"energy": LabelTerm(), "stress": LabelTerm()}, torch.zeros(2, 2)
    stepper.fabric = type("Rank0", (), {"global_rank": 0})
    for name in ("potential", "optimizer", "average", "rate"):
        setattr(stepper, name, type("Any", (), {"load_state_dict": lambda self, state: None})())
    state = {key: {} for key in ("weights", "optimizer", "average", "rate")}
    stepper.load_state_dict({**state, "sums": torch.tensor([[1.0, 2, 3], [4, 5, 6]])})
    assert stepper.sums.tolist() == [[1.0, 3.0], [4.0, 6.0]]


def test_errors_over_the_scatter_of_labels():
    draw = torch.Generator().manual_seed(3)
    structures = []
    for _ in range(20):
        s = make_structure([1, 6, 6], torch.zeros(3, 3))
        s.shielding = torch.tensor([30.0, 100.0, 100.0], dtype=torch.float64)
        s.shielding += torch.randn(3, generator=draw)
        s.dipole = torch.randn(1, 3, generator=draw).double() + 5.0
        structures.append(s)
    batch = Batch.from_data_list(structures)
    element_means = {
        1: batch.shielding[batch.z == 1].mean(),
        6: batch.shielding[batch.z == 6].mean(),
    }
    guess = {
        "shielding": torch.stack([element_means[int(z)] for z in batch.z]),
        "dipole": batch.dipole.mean(0).expand(20, 3),
    }
    meters = [ErrorMeter(), ErrorMeter()]
    meters[0].update(guess, batch)
    found = meters[0].compute()
    # predicting the means has relative error 1 by definition
    assert found["shielding_rmse_relative"] == pytest.approx(1.0)
    assert found["dipole_rmse_relative"] == pytest.approx(1.0)
    assert found["dipole_mae_e_a"] == pytest.approx(
        float((guess["dipole"] - batch.dipole).abs().mean())
    )
    assert set(meters[0].by_element("shielding")) == {1, 6}
    assert meters[0].by_element() == {}
    meters[1].update(guess, batch)
    meters[1].load_state(meters[0].state() + meters[1].state())
    assert meters[1].compute() == pytest.approx(found)
    assert meters[1].counts() == {"shielding": 120, "dipole": 120}
    meters[1].reset()
    assert meters[1].compute() == {}


CELL = torch.tensor([[6.0, 0.0, 0.0], [1.5, 5.0, 0.0], [-0.7, 0.9, 7.0]], dtype=torch.float64)


def folded_batch(true):
    """Structures whose labels are other values of the same dipoles; the last one is a molecule."""
    moves = torch.tensor([[1.0, 0.0, -2.0], [0.0, -1.0, 1.0], [0.0, 0.0, 1.0]]).double() @ CELL
    moves, found = moves[: len(true)], []
    for k, dipole in enumerate(true - moves):
        cell = {"cell": CELL, "pbc": True} if k < 2 else {}
        found.append(make_structure([1], [[0.0, 0.0, 0.0]], dipole=dipole, **cell))
    return Batch.from_data_list(found), moves


def error_sum(prediction, batch, branch):
    term = LabelTerm(kind="mse", scale=1.0, branch=branch)
    return loss_sums({"dipole": prediction}, batch, {"dipole": term}).sums[0]


def test_folded_dipoles_are_compared_with_the_nearest_of_their_values():
    true = torch.tensor([[9.0, -8.0, 4.0], [0.1, 0.2, 3.0], [1.0, 2.0, 3.0]]).double()
    batch, moves = folded_batch(true)
    error = torch.tensor([[0.3, -0.2, 0.5], [-0.4, 0.1, 0.2], [0.2, 0.0, -0.1]]).double()
    prediction = (true + error).requires_grad_()
    wanted = error.clone()
    wanted[2] += moves[2]  # a molecule's dipole has one value
    found = error_sum(prediction, batch, "nearest")
    torch.testing.assert_close(found, wanted.square().sum())
    torch.testing.assert_close(torch.autograd.grad(found, prediction)[0], 2.0 * wanted)
    given = error_sum(prediction, batch, "given")
    torch.testing.assert_close(given, (error + moves).square().sum())
    meter = ErrorMeter()
    meter.update({"dipole": prediction.detach()}, batch)
    assert meter.compute()["dipole_rmse_e_a"] == pytest.approx(float(wanted.square().mean()) ** 0.5)


def test_a_fold_along_the_axes_is_caught(monkeypatch):
    """A mutant that folds x, y, z by the diagonal of the cell is right in no skewed cell."""
    from dreibein.train import losses

    def along_axes(label, prediction, cell, pbc):
        period = cell.diagonal(dim1=1, dim2=2)
        return label + ((prediction - label) / period).round() * period

    true = torch.tensor([[9.0, -8.0, 4.0], [0.1, 0.2, 3.0]]).double()
    batch, _ = folded_batch(true)
    prediction = true + 0.1
    right = error_sum(prediction, batch, "nearest")
    monkeypatch.setattr(losses, "nearest_dipole", along_axes)
    assert error_sum(prediction, batch, "nearest") > right + 1.0


def test_a_model_learns_from_folded_dipoles():
    """D = 0.7 sum of positions, folded into the cell: found from a start at zero."""
    generator = torch.Generator().manual_seed(0)
    pos = 3.2 * torch.randn(64, 1, 3, generator=generator, dtype=torch.float64)
    period = 6.0
    structures = []
    for place in pos:
        true = 0.7 * place.sum(0)
        folded = true - period * (true / period).round()
        cell = period * torch.eye(3, dtype=torch.float64)
        structures.append(make_structure([1], place, cell=cell, pbc=True, dipole=folded))
    batch = Batch.from_data_list(structures)
    found = {}
    for branch in ("given", "nearest"):
        factor = torch.zeros((), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([factor], lr=0.02)
        for _ in range(200):
            loss = error_sum(factor * pos[:, 0], batch, branch) / 192
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found[branch] = factor.item()
    assert found["nearest"] == pytest.approx(0.7, abs=1e-3)
    assert abs(found["given"] - 0.7) > 0.1


def test_only_a_dipole_has_a_branch():
    with pytest.raises(ValueError, match="branch is an option of the dipole"):
        Losses(tensor={"branch": "nearest"})
