import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dreibein.evaluate import ErrorMeter, metric_name
from dreibein.systems import join, make_structure


def frames(count, seed=0, *, masks=True):
    """Random frames with all labels, some of them missing, and predictions for them."""
    draw = np.random.default_rng(seed)
    structures, predictions = [], {"energy": [], "forces": [], "stress": []}
    for k in range(count):
        atoms = int(draw.integers(1, 5))
        labels = {
            "energy": draw.normal(),
            "forces": draw.normal(size=(atoms, 3)),
            "stress": draw.normal(size=(3, 3)),
        }
        labels["stress"] += labels["stress"].T
        if masks:
            labels["energy_mask"] = torch.tensor([bool(draw.random() < 0.7)])
            labels["forces_mask"] = torch.tensor(draw.random(atoms) < 0.7)
            labels["stress_mask"] = torch.tensor([bool(draw.random() < 0.5)])
        structures.append(
            make_structure(
                draw.choice([1, 6, 8], atoms),
                draw.normal(size=(atoms, 3)),
                frame=k,
                config_type=["a", "b", "c"][k % 3],
                **labels,
            )
        )
        predictions["energy"].append(draw.normal(size=1))
        predictions["forces"].append(draw.normal(size=(atoms, 3)))
        stress = draw.normal(size=(1, 3, 3))
        predictions["stress"].append(stress + stress.transpose(0, 2, 1))
    return structures, predictions


def update(meter, structures, predictions, chosen):
    batch = join([structures[k] for k in chosen])
    found = {
        name: torch.tensor(np.concatenate([values[k] for k in chosen]))
        for name, values in predictions.items()
    }
    meter.update(found, batch)
    return meter


def plain_numpy(structures, predictions, keep=lambda s: True):
    """The same errors written out without any of the package's code."""
    rows = [k for k, s in enumerate(structures) if keep(s)]
    errors = {name: [] for name in ("energy", "energy_per_atom", "forces", "stress")}
    for k in rows:
        s = structures[k]
        if bool(s.energy_mask):
            error = float(predictions["energy"][k][0] - s.energy)
            errors["energy"].append(error)
            errors["energy_per_atom"].append(error / len(s.z))
        present = s.forces_mask.numpy()
        errors["forces"] += (predictions["forces"][k] - s.forces.numpy())[present].ravel().tolist()
        if bool(s.stress_mask):
            e = (predictions["stress"][k] - s.stress.numpy())[0]
            errors["stress"] += [e[0, 0], e[1, 1], e[2, 2], e[1, 2], e[0, 2], e[0, 1]]
    found = {}
    for name, values in errors.items():
        if values:
            found[metric_name(name, "mae")] = 1e3 * np.mean(np.abs(values))
            found[metric_name(name, "rmse")] = 1e3 * np.sqrt(np.mean(np.square(values)))
    return found


@given(count=st.integers(1, 9), size=st.integers(1, 4), seed=st.integers(0, 10_000))
def test_equals_plain_numpy_for_every_division_into_batches(count, size, seed):
    structures, predictions = frames(count, seed)
    meter = ErrorMeter(config_types=())
    for first in range(0, count, size):
        update(meter, structures, predictions, range(first, min(first + size, count)))
    assert meter.compute() == pytest.approx(plain_numpy(structures, predictions))
    for name, found in meter.by_config_type().items():
        expected = plain_numpy(structures, predictions, lambda s, n=name: s.config_type == n)
        assert found == pytest.approx(expected)


def test_elements_share_out_the_force_errors():
    structures, predictions = frames(12)
    meter = update(ErrorMeter(), structures, predictions, range(12))
    squares, counts = 0.0, 0
    for z, found in meter.by_element().items():
        count = sum(3 * int((s.forces_mask & (s.z == z)).sum()) for s in structures)
        squares += count * found["forces_rmse_mev_per_a"] ** 2
        counts += count
    total = meter.compute()["forces_rmse_mev_per_a"]
    assert np.sqrt(squares / counts) == pytest.approx(total)


def test_states_of_two_processes_add_up():
    structures, predictions = frames(10)
    names = ("a", "b", "c")
    whole = update(ErrorMeter(names), structures, predictions, range(10))
    first = update(ErrorMeter(names), structures, predictions, range(4))
    second = update(ErrorMeter(names), structures, predictions, range(4, 10))
    total = ErrorMeter(names)
    total.load_state(first.state() + second.state())
    assert total.state().dtype == torch.float64
    assert total.compute() == pytest.approx(whole.compute())
    assert total.by_config_type()["b"] == pytest.approx(whole.by_config_type()["b"])
    assert first.compute() != pytest.approx(whole.compute())
    with pytest.raises(ValueError, match="same config_types"):
        ErrorMeter().load_state(whole.state())


def test_the_mask_matters():
    structures, predictions = frames(8)
    masked = update(ErrorMeter(), structures, predictions, range(8)).compute()
    for structure in structures:
        for name in ("energy", "forces", "stress"):
            structure[f"{name}_mask"] = torch.ones_like(structure[f"{name}_mask"])
    assert masked != pytest.approx(
        update(ErrorMeter(), structures, predictions, range(8)).compute()
    )


def test_a_masked_label_may_be_predicted_as_nan_and_an_unmasked_may_not():
    label = make_structure(
        [1], [[0.0, 0, 0]], stress=np.zeros((3, 3)), stress_mask=torch.tensor([False])
    )
    nan = {"stress": torch.full((1, 3, 3), torch.nan)}
    meter = ErrorMeter()
    meter.update(nan, join([label]))
    assert meter.compute() == {}
    label.stress_mask[:] = True
    meter.update(nan, join([label]))
    assert np.isnan(meter.compute()["stress_mae_mev_per_a3"])


def test_only_what_was_predicted_and_labeled_is_reported():
    structures, predictions = frames(3, masks=False)
    del predictions["stress"]
    meter = update(ErrorMeter(), structures, predictions, range(3))
    assert set(meter.counts()) == {"energy", "energy_per_atom", "forces"}
    assert not any("stress" in name for name in meter.compute())
    meter.reset()
    assert meter.compute() == {}


def test_known_numbers():
    structures = [
        make_structure([1, 8], np.zeros((2, 3)), energy=1.0, forces=np.zeros((2, 3))),
        make_structure([1], np.zeros((1, 3)), energy=1.0, forces=np.zeros((1, 3))),
    ]
    forces = torch.zeros(3, 3, dtype=torch.float64)
    forces[1, 2] = 0.009  # the oxygen
    meter = ErrorMeter()
    meter.update({"energy": torch.tensor([1.004, 0.998]), "forces": forces}, join(structures))
    found = meter.compute()
    assert found["energy_mae_mev"] == pytest.approx(3.0, rel=1e-4)
    assert found["energy_per_atom_mae_mev"] == pytest.approx(2.0, rel=1e-4)
    assert found["forces_mae_mev_per_a"] == pytest.approx(1.0)
    assert found["forces_rmse_mev_per_a"] == pytest.approx(3.0)
    assert meter.by_element()[1]["forces_mae_mev_per_a"] == 0.0
    assert meter.by_element()[8]["forces_mae_mev_per_a"] == pytest.approx(3.0)
