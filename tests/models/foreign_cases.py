"""Structures of the records of other packages, and comparison with their numbers."""

import torch

from dreibein.neighbors import attach_neighbors
from dreibein.systems import join, make_structure


def structure(case, cutoff):
    parts = [
        attach_neighbors(
            make_structure(
                part["z"],
                torch.tensor(part["pos"], dtype=torch.float64),
                cell=torch.tensor(part["cell"], dtype=torch.float64) if "cell" in part else None,
                charge=part.get("charge", 0.0),
                charges=charges_of(part),
            ),
            cutoff,
        )
        for part in case.get("parts", [case])
    ]
    return join(parts) if len(parts) > 1 else parts[0]


def charges_of(part):
    """Charges of atoms by the rule of the recorder, for a prior that wants some."""
    values = [0.1 * ((3 * k + z) % 7) - 0.25 for k, z in enumerate(part["z"])]
    return torch.tensor(values, dtype=torch.float64)


def relative(found, expected):
    expected = torch.tensor(expected, dtype=torch.float64)
    return float((found - expected).abs().max() / expected.abs().max())
