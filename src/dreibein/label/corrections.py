"""A cheap method plus a network trained on what it lacks of a dear one (Δ-learning).

E = E_cheap + E_network, and forces and stress likewise (Ramakrishnan et al. 2015,
doi:10.1021/acs.jctc.5b00099). The network learned labels that `difference: true` made.
"""

from ase import Atoms

from dreibein.label.calculations import Array, Calculation, Labels, Method
from dreibein.label.differences import high_level
from dreibein.label.trained import TrainedCalculation, TrainedMethod


class CorrectedMethod:
    """A method and a trained correction, at the weights that its file has now.

    Charges and dipoles are left out of the labels: they would still be the cheap method's.

    Args:
        base: The cheap method.
        correction: Model file, run folder, or folder of an ensemble, whose mean is taken.

    Raises:
        OSError: There is no such model.
        ValueError: It was not trained on differences to this method.
    """

    def __init__(self, base: Method, correction: str) -> None:
        self._base, self._added = base, TrainedMethod(correction)
        high = high_level(self._added.level_of_theory, base.name)
        if high is None:
            raise ValueError(
                f"{correction} was not trained on differences to {base.name}: label the dear "
                f"method's frames with --single-points --difference --method {base.name} and train "
                "on those"
            )
        self.name = f"{base.name} corrected to {high} by {self._added.digest[:12]}"
        self.packages: tuple[str, ...] = (*base.packages, "torch")
        self.frames_per_task = base.frames_per_task

    def check(self, atoms: Atoms) -> None:
        """Refuse what the cheap method refuses, and elements that the correction has not seen."""
        self._base.check(atoms)
        self._added.check(atoms)

    def calculation(self, atoms: Atoms) -> "CorrectedCalculation":
        """Calculation of one structure, fixed in elements, cell, charge and spin."""
        return CorrectedCalculation(self._base.calculation(atoms), self._added.calculation(atoms))


class CorrectedCalculation:
    """One structure at the cheap method, and what the network adds."""

    def __init__(self, base: Calculation, added: TrainedCalculation) -> None:
        self._base, self._added = base, added

    def energy_and_forces(self, positions: Array) -> tuple[float, Array]:
        """Energy in eV and forces in eV/Å; solution and neighbors start from those before."""
        energy, forces = self._base.energy_and_forces(positions)
        more, pull = self._added.energy_and_forces(positions)
        return energy + more, forces + pull

    def forget(self) -> None:
        """Start the next call from nothing."""
        self._base.forget()
        self._added.forget()

    def labels(self, positions: Array) -> Labels:
        """Energy, forces and stress; a function of the positions alone."""
        found, added = self._base.labels(positions), self._added.labels(positions)
        stress = None
        if found.stress is not None and added.stress is not None:
            stress = found.stress + added.stress
        return Labels(
            energy=found.energy + added.energy, forces=found.forces + added.forces, stress=stress
        )
