"""Every law at once, for a model of one's own."""

from collections.abc import Callable, Sequence

from dreibein.nn import Potential
from dreibein.testing import (
    batches,
    derivatives,
    locality,
    modes,
    numerics,
    periodicity,
    second_order,
    symmetries,
)
from dreibein.testing.samples import sample_crystal, sample_molecule


def broken_laws(
    potential: Potential,
    elements: Sequence[int],
    *,
    chiral: bool = False,
    periodic: bool = True,
    smooth_order: int = 2,
    seed: int = 0,
) -> dict[str, str]:
    """Try every law on random structures; an empty answer means that all of them hold.

    What a model does not promise it says here in writing: `chiral`, `periodic`, `smooth_order`.

    Args:
        potential: In float64 (`potential.double()`), with `cutoff`, `train`, `eval` and
            `potential(structures, compute)` as in `dreibein.nn.Potential`.
        elements: Atomic numbers to try it on.
        chiral: The network tells mirror images apart, and must.
        periodic: The network knows periodic structures.
        smooth_order: Derivatives of the energy that must not jump at the cutoff: 0, 1 or 2.
        seed: Of the structures.

    Returns:
        Name of each broken law, with what was measured.

    >>> import torch
    >>> from dreibein.models import TensorNetConfig, build_potential
    >>> _ = torch.manual_seed(0)  # of the weights
    >>> config = TensorNetConfig(channels=4, layers=1, num_radial=4, cutoff=3.0)
    >>> broken_laws(build_potential(config, elements=(1, 8)).double(), (1, 8))
    {}
    """
    molecule = sample_molecule(elements, 5, seed=seed)
    other = sample_molecule(elements, 3, seed=seed + 1)
    crystal = sample_crystal(elements, 2, seed=seed)
    trials: dict[str, Callable[[], object]] = {}

    def law(
        name: str, function: Callable[..., object], *arguments: object, **options: object
    ) -> None:
        trials[name] = lambda: function(potential, *arguments, **options)

    structures = {"molecule": molecule} | ({"crystal": crystal} if periodic else {})
    for kind, structure in structures.items():
        law(f"rotation of a {kind}", symmetries.assert_rotation, structure)
        mirror = symmetries.assert_chiral if chiral else symmetries.assert_reflection
        law(f"reflection of a {kind}", mirror, structure)
        law(f"translation of a {kind}", symmetries.assert_translation, structure)
        law(f"permutation of a {kind}", symmetries.assert_permutation, structure)
        law(f"forces of a {kind}", derivatives.assert_forces, structure)
        law(f"virial of a {kind}", derivatives.assert_virial_and_stress, structure)
        law(f"Hessian of a {kind}", derivatives.assert_hessian, structure)
        law(f"net force on a {kind}", derivatives.assert_no_net_force, structure)
        law(f"second derivatives of a {kind}", second_order.assert_second_derivatives, structure)
        law(f"force loss on a {kind}", second_order.assert_force_loss_gradients, structure)
        law(f"float32 on a {kind}", numerics.assert_float32_is_near_float64, structure)
        law(f"{kind} far from the origin", numerics.assert_far_from_origin, structure)
        law(f"determinism on a {kind}", numerics.assert_deterministic, structure)
        law(f"training mode on a {kind}", modes.assert_training_keeps_graph, structure)
        law(f"evaluation mode on a {kind}", modes.assert_evaluation_detaches, structure)
        law(f"{kind} without grad", modes.assert_works_without_grad, structure)
        law(f"input {kind} unchanged", modes.assert_input_is_unchanged, structure)
    law("torque on a molecule", derivatives.assert_no_torque, molecule)
    law("extensivity", locality.assert_extensivity, molecule, other)
    law(
        "smooth at the cutoff", locality.assert_smooth_at_cutoff, molecule, elements[0],
        order=smooth_order,
    )  # fmt: skip
    law("batch", batches.assert_batch_equals_single, [*structures.values(), other])
    law("order of structures", batches.assert_order_of_structures, [*structures.values(), other])
    if periodic:
        law("supercell", periodicity.assert_supercell, crystal)
        law("lattice translations", periodicity.assert_lattice_translations, crystal)
        law("choice of cell", periodicity.assert_cell_choice, crystal)
        law("edge cases", numerics.assert_edge_cases_are_finite, elements)
    return _failures(trials)


def _failures(trials: dict[str, Callable[[], object]]) -> dict[str, str]:
    failures = {}
    for name, trial in trials.items():
        try:
            trial()
        except AssertionError as error:
            failures[name] = str(error)
        except Exception as error:  # a model of unknown origin may fail in any way
            failures[name] = f"{type(error).__name__}: {error}"
    return failures
