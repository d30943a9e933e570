"""Laws that others can call on their own model; nothing in the package imports this room.

A law is a function of a potential and a structure that returns what it measured, or raises an
`AssertionError` with it. `broken_laws` tries all of them.
"""

from dreibein.testing.batches import assert_batch_equals_single, assert_order_of_structures
from dreibein.testing.derivatives import (
    assert_forces,
    assert_hessian,
    assert_no_net_force,
    assert_no_torque,
    assert_virial_and_stress,
)
from dreibein.testing.locality import (
    Jumps,
    assert_extensivity,
    assert_smooth_at_cutoff,
    cutoff_jumps,
)
from dreibein.testing.modes import (
    assert_evaluation_detaches,
    assert_input_is_unchanged,
    assert_training_keeps_graph,
    assert_works_without_grad,
)
from dreibein.testing.numerics import (
    assert_deterministic,
    assert_edge_cases_are_finite,
    assert_far_from_origin,
    assert_finite,
    assert_float32_is_near_float64,
    edge_cases,
)
from dreibein.testing.periodicity import (
    assert_cell_choice,
    assert_lattice_translations,
    assert_supercell,
    supercell,
)
from dreibein.testing.samples import sample_crystal, sample_molecule
from dreibein.testing.second_order import assert_force_loss_gradients, assert_second_derivatives
from dreibein.testing.suite import broken_laws
from dreibein.testing.symmetries import (
    assert_chiral,
    assert_permutation,
    assert_reflection,
    assert_rotation,
    assert_translation,
    random_rotation,
    turned,
)
from dreibein.testing.targets import (
    assert_charges_add_up,
    assert_dipole_has_no_origin,
    assert_targets_turn,
)

__all__ = [
    "Jumps",
    "assert_batch_equals_single",
    "assert_cell_choice",
    "assert_charges_add_up",
    "assert_chiral",
    "assert_deterministic",
    "assert_dipole_has_no_origin",
    "assert_edge_cases_are_finite",
    "assert_evaluation_detaches",
    "assert_extensivity",
    "assert_far_from_origin",
    "assert_finite",
    "assert_float32_is_near_float64",
    "assert_force_loss_gradients",
    "assert_forces",
    "assert_hessian",
    "assert_input_is_unchanged",
    "assert_lattice_translations",
    "assert_no_net_force",
    "assert_no_torque",
    "assert_order_of_structures",
    "assert_permutation",
    "assert_reflection",
    "assert_rotation",
    "assert_second_derivatives",
    "assert_smooth_at_cutoff",
    "assert_supercell",
    "assert_targets_turn",
    "assert_training_keeps_graph",
    "assert_translation",
    "assert_virial_and_stress",
    "assert_works_without_grad",
    "broken_laws",
    "cutoff_jumps",
    "edge_cases",
    "random_rotation",
    "sample_crystal",
    "sample_molecule",
    "supercell",
    "turned",
]
