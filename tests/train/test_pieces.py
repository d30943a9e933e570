"""Order, schedule, average, losses, metrics: the parts that need no network."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch_geometric.data import Batch

from dreibein.systems import make_structure
from dreibein.train import EnergyTerm, LossTerm, Plateau, TrainingConfig
from dreibein.train.averaging import WeightAverage
from dreibein.train.losses import loss_sums, penalty_sum
from dreibein.train.metrics import MetricsFile, read_metrics
from dreibein.train.order import Steps
from dreibein.train.reports import epoch_line
from dreibein.train.schedule import LearningRate


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 4), st.integers(0, 3))
def test_processes_together_see_what_one_process_sees(size, batch, world, epoch):
    batch = max(batch, world)
    alone = Steps(size, batch, seed=1)
    alone.start(epoch)
    whole = list(alone)
    shares = []
    for rank in range(world):
        steps = Steps(size, batch, seed=1, rank=rank, world_size=world)
        steps.start(epoch)
        shares.append(list(steps))
        assert len(shares[-1]) == len(steps) == len(whole)
    for k, indices in enumerate(whole):
        counted = [i for share in shares for i in share[k] if i >= 0]
        assert sorted(counted) == sorted(indices)
        assert all(share[k] for share in shares)
    assert sorted(i for indices in whole for i in indices) == list(range(size))


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch, first=0):
        steps = Steps(20, 3, seed=seed)
        steps.start(epoch, first)
        return list(steps)

    torch.rand(3)
    np.random.rand(3)
    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)
    assert order(0, 1, first=4) == order(0, 1)[4:]


def test_warm_up_and_cosine():
    rate = LearningRate(TrainingConfig(lr=1.0, warmup_steps=10, schedule="cosine"), 110)
    rates = [rate(step) for step in range(110)]
    assert rates[0] == pytest.approx(0.1, rel=1e-3)
    assert max(rates) == pytest.approx(1.0, rel=1e-2)
    assert rates[-1] == pytest.approx(1e-6)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_plateau_agrees_with_torch():
    errors = [5.0, 4.0, 4.0, 4.1, 4.0, 3.0, 3.0, 3.0, 3.0, 2.99999, 3.0, 3.0]
    config = TrainingConfig(
        lr=0.1, warmup_steps=0, schedule=Plateau(factor=0.5, patience=1, min_lr=1e-3)
    )
    ours = LearningRate(config, 1000)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=1, min_lr=1e-3
    )
    for error in errors * 3:
        ours.end_epoch(error)
        theirs.step(error)
        assert ours(500) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)


def test_schedule_resumes():
    config = TrainingConfig(schedule=Plateau(factor=0.5, patience=0))
    first, second = LearningRate(config, 100), LearningRate(config, 100)
    for error in (3.0, 4.0, 5.0):
        first.end_epoch(error)
    second.load_state_dict(first.state_dict())
    assert second(99) == first(99) < config.lr


def test_average_follows_its_equation_and_swaps_back():
    module = torch.nn.Linear(2, 1).double()
    average = WeightAverage(module, 0.5)
    expected = module.weight.detach().clone()
    for step in range(20):
        with torch.no_grad():
            module.weight += 1.0
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * module.weight.detach()
        average.update(step)
    raw = module.weight.detach().clone()
    pointer = module.weight.data_ptr()
    with average.applied():
        torch.testing.assert_close(module.weight.detach(), expected)
    assert torch.equal(module.weight.detach(), raw)
    assert module.weight.data_ptr() == pointer
    with pytest.raises(RuntimeError), average.applied():
        raise RuntimeError
    assert torch.equal(module.weight.detach(), raw)


@pytest.mark.parametrize("kind", ["mse", "mae", "huber"])
def test_penalties_follow_their_equations(kind):
    r = torch.linspace(-3, 3, 61, dtype=torch.float64)
    delta = 0.7
    square, line = r**2 / (2 * delta), r.abs() - delta / 2
    expected = {"mse": r**2, "mae": r.abs(), "huber": torch.where(r.abs() < delta, square, line)}
    term = LossTerm(kind=kind, delta=delta)
    label = torch.full_like(r, 0.3)
    torch.testing.assert_close(penalty_sum(label + r, label, term), expected[kind].sum())


def batch_of(*structures):
    return Batch.from_data_list(list(structures))


def test_energies_are_compared_as_float64_totals():
    label = -4.2e5 + 1.0 / 3.0
    batch = batch_of(make_structure([6, 1, 1, 1], torch.zeros(4, 3), energy=label))
    predictions = {"energy": torch.tensor([label + 1e-6], dtype=torch.float64)}
    for normalization, divisor in (("structure", 1), ("atom", 4), ("sqrt_atom", 2)):
        terms = {"energy": EnergyTerm(kind="mae", normalization=normalization)}
        found = loss_sums(predictions, batch, terms)
        assert float(found.sums[0]) == pytest.approx(1e-6 / divisor, rel=1e-3)
        assert found.counts.tolist() == [1]


def test_missing_labels_count_nothing_and_give_no_gradient():
    nan = float("nan")
    one = make_structure(
        [1, 1],
        torch.zeros(2, 3),
        energy=1.0,
        forces=torch.ones(2, 3),
        energy_mask=torch.tensor([True]),
        forces_mask=torch.tensor([True, False]),
    )
    two = make_structure(
        [1],
        torch.zeros(1, 3),
        energy=nan,
        forces=torch.full((1, 3), nan),
        energy_mask=torch.tensor([False]),
        forces_mask=torch.tensor([False]),
    )
    predictions = {
        "energy": torch.tensor([3.0, 9.0], dtype=torch.float64, requires_grad=True),
        "forces": torch.zeros(3, 3, dtype=torch.float64, requires_grad=True),
    }
    terms = {
        "energy": EnergyTerm(kind="mse", normalization="structure"),
        "forces": LossTerm(kind="mae"),
    }
    found = loss_sums(predictions, batch_of(one, two), terms)
    assert found.sums.tolist() == [4.0, 3.0]
    assert found.counts.tolist() == [1.0, 3.0]
    found.sums.sum().backward()
    assert predictions["energy"].grad.tolist() == [4.0, 0.0]
    assert predictions["forces"].grad.isfinite().all()
    assert not predictions["forces"].grad[1:].any()


def test_metrics_drop_rows_after_the_checkpoint_and_a_cut_line(tmp_path):
    path = tmp_path / "metrics.csv"
    first = MetricsFile(path, 0)
    for epoch in (1, 2, 3):
        first.append({"epoch": epoch, "train_loss": 1.0 / epoch, "val_loss": None})
    with open(path, "a", encoding="utf-8") as file:
        file.write("4,0.2")  # killed while writing
    second = MetricsFile(path, 2)
    second.append({"epoch": 3, "train_loss": 1.0 / 3.0, "val_loss": 0.1})
    second.append({"epoch": 4, "train_loss": 0.25, "val_loss": 0.1, "val_new": 7.0})
    rows = read_metrics(path)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[2]["train_loss"]) == 1.0 / 3.0
    assert rows[0]["val_new"] == ""
    assert rows[3]["val_new"] == "7.0"


def test_the_line_of_an_epoch():
    row = {
        "epoch": 3,
        "step": 300,
        "lr": 5e-4,
        "seconds": 2.4,
        "train_loss": 0.0123,
        "train_energy_loss": 0.002,
        "train_forces_loss": 0.0103,
        "val_loss": 0.02,
        "val_forces_mae_mev_per_a": 21.34,
        "val_energy_mae_mev": 4.2,
    }
    line = epoch_line(row, TrainingConfig(epochs=10), 1000)
    assert line == (
        "epoch 3/10 | step 300 | lr 5.0e-04 | train loss 0.0123 (energy 0.002, forces 0.0103) | "
        "val loss 0.02 | val MAE forces 21.3 meV/Å, energy 4.2 meV | 2.4 s/epoch | 17 s left"
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("90min", 5400.0), ("2 h", 7200.0), ("45s", 45.0), (12, 12.0)]
)
def test_times(text, seconds):
    assert TrainingConfig(max_time=text).max_time == seconds


@pytest.mark.parametrize("text", ["3 hours", "-1", "h", 0])
def test_wrong_times_are_refused(text):
    with pytest.raises(ValidationError):
        TrainingConfig(max_time=text)


def test_learning_rate_is_finite_for_one_step():
    rate = LearningRate(TrainingConfig(), 1)
    assert math.isfinite(rate(0))
