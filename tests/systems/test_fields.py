"""The table of fields agrees with itself, with the units and with the representations."""

import dataclasses

import pytest
import torch

from dreibein.systems import FIELDS, LABELS, join, make_structure, mask_name, split_batch
from dreibein.systems.units import parse_unit

SHAPES = {"0e": (), "1o": (3,), "1o x 1o": (3, 3), "rows 1o": (3, 3)}
PURE_NUMBERS = {"", "ppm"}
EVERY = pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)


@EVERY
def test_names_are_keys_and_entries_are_frozen(field):
    assert FIELDS[field.name] is field
    with pytest.raises(dataclasses.FrozenInstanceError):
        field.unit = "eV"


@EVERY
def test_units_are_known(field):
    if field.unit not in PURE_NUMBERS:
        assert parse_unit(field.unit).value > 0


@EVERY
def test_the_shape_is_that_of_the_representation(field):
    if field.transform:
        assert field.shape == SHAPES[field.transform]


@EVERY
def test_the_meaning_is_one_short_line(field):
    assert 5 < len(field.meaning) < 80
    assert "\n" not in field.meaning


@EVERY
def test_what_has_a_unit_is_float64_and_indices_are_int64(field):
    if field.unit:
        assert field.dtype == torch.float64
    assert field.dtype in (torch.float64, torch.int64, torch.bool)


def test_labels_are_fields_with_a_transformation():
    assert set(LABELS) <= set(FIELDS)
    assert len(LABELS) == len(set(LABELS))
    for name in LABELS:
        assert FIELDS[name].is_label
        assert FIELDS[name].transform
        assert FIELDS[name].dtype == torch.float64
        assert FIELDS[name].scope in ("structure", "atom")
    assert not any(FIELDS[name].is_label for name in ("z", "pos", "cell", "charge"))


@EVERY
def test_every_field_survives_a_batch(field):
    """Stored, batched and split again: same shape, dtype and numbers."""
    sizes = {"structure": 1, "edge": 4}

    def filled(num_atoms):
        lead = (sizes.get(field.scope, num_atoms), *field.shape)
        if field.name == "edge_index":
            return torch.tensor([[0, 1, 0, 1], [0, 0, 1, 1]])
        values = torch.arange(torch.Size(lead).numel()).reshape(lead)
        return (values % 2 == 0) if field.dtype == torch.bool else values + 1

    def structure(num_atoms):
        given = {"z": [1] * num_atoms, "pos": torch.zeros(num_atoms, 3)}
        return make_structure(**(given | {field.name: filled(num_atoms)}))

    parts = [structure(2), structure(3)]
    back = split_batch(join(parts))
    for part, same in zip(parts, back, strict=True):
        assert same[field.name].dtype == part[field.name].dtype == field.dtype
        assert torch.equal(same[field.name], part[field.name])


def test_edge_indices_are_shifted_in_a_batch():
    edges = torch.tensor([[0, 1], [1, 0]])
    parts = [make_structure([1, 1], torch.zeros(2, 3), edge_index=edges) for _ in range(2)]
    assert join(parts).edge_index.tolist() == [[0, 1, 2, 3], [1, 0, 3, 2]]


def test_mask_names():
    assert [mask_name(name) for name in ("energy", "stress")] == ["energy_mask", "stress_mask"]
