"""What torchmd-net adds to a network's energy: priors, charges of TensorNet2, its repulsion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ase import units
from torch import Tensor

from dreibein.models.imports.names import Parameters
from dreibein.nn.terms import COULOMB, CoulombConfig, DispersionD2Config, ZBLConfig
from dreibein.nn.terms.dispersion_d2 import C6_UNIT
from dreibein.nn.terms.zbl import SCREENINGS

DAMPING = 4.6  # Å, of AIMNet2 and TensorNet2
PERMITTIVITY = 78.3  # of the reaction field
REPULSION_COULOMB = 14.399645  # eV Å, in TensorNet2's repulsion
PRIOR_COULOMB = {"ZBL": 2.30707755e-28, "Coulomb": 2.30707e-28}  # J m
AVOGADRO = 6.02214076e23
HEAVIEST_D2 = 54

PRIORS = ("Atomref", "LearnableAtomref", "ZBL", "Coulomb", "D2")
ARGUMENTS = {
    "ZBL": ("cutoff_distance", "distance_scale", "energy_scale"),
    "Coulomb": (
        "lower_switch_distance", "upper_switch_distance", "distance_scale", "energy_scale",
    ),
    "D2": ("cutoff_distance", "distance_scale", "energy_scale"),
}  # fmt: skip


@dataclass
class Additions:
    """What stands beside the network.

    Attributes:
        atomref: Reference energies in the file's unit.
        known: Elements that have one.
        heaviest: Last element that every term knows.
        terms: Their options.
        tables: Numbers of each term as the file has them, by name, rows by atomic number.
        notes: What is to be said.
    """

    atomref: dict[int, float] = field(default_factory=dict)
    known: tuple[int, ...] = ()
    heaviest: int = 118
    terms: list[Any] = field(default_factory=list)
    tables: list[dict[str, Tensor]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, term: Any, note: str, **tables: Tensor) -> None:
        """One more term."""
        self.terms.append(term)
        self.tables.append(tables)
        self.notes.append(note)

    def fill(self, modules: Sequence[torch.nn.Module], elements: Sequence[int]) -> None:
        """Give the terms of a potential the file's own numbers."""
        rows = torch.tensor(list(elements))
        for module, tables in zip(modules, self.tables, strict=True):
            for name, values in tables.items():
                chosen = values.double()[rows]
                chosen = chosen[:, rows] if chosen.ndim == 2 else chosen
                getattr(module, name).copy_(chosen)


@dataclass(frozen=True)
class Units:
    """The file's units of energy and length in eV and Å."""

    energy: float
    length: float


def additions(
    parameters: Parameters, settings: Mapping[str, Any], unit: Units, std: float, path: Path
) -> Additions:
    """Everything that a checkpoint adds to its network.

    Args:
        parameters: Tensors of the file; those of the additions are taken.
        settings: Its hyperparameters.
        unit: Of the file.
        std: Factor of the network's energy, and of what TensorNet2 adds inside.
        path: For messages.

    Raises:
        ValueError: A prior that is not known here, or one whose arguments are missing.
    """
    found = Additions()
    if settings.get("output_model") == "ScalarPlusWeightedCoulomb":
        _charges(found, parameters, settings, unit, std)
    if settings.get("repulsion"):
        _repulsion(found, parameters, settings, unit, std, path)
    names, arguments = priors(settings)
    for place, (name, given) in enumerate(zip(names, arguments, strict=True)):
        if name not in PRIORS:
            raise ValueError(
                f"{path} has the prior {name}, which is not known here; {', '.join(PRIORS)} are"
            )
        if names.count(name) > 1:
            raise ValueError(f"{path} has the prior {name} twice; only one is known here")
        lacking = [key for key in ARGUMENTS.get(name, ()) if given.get(key) is None]
        if lacking:
            raise ValueError(f"{path}: the arguments of the prior {name} lack {lacking[0]}")
        where = f"prior_model.{place}."
        if name in ("Atomref", "LearnableAtomref"):
            _atomref(found, parameters, given, where)
        elif name == "ZBL":
            _zbl(found, parameters, given, where, unit, path)
        elif name == "D2":
            _d2(found, parameters, given, where, unit, path)
        else:
            _coulomb_prior(found, parameters, given, where, unit, path)
    return found


def priors(settings: Mapping[str, Any]) -> tuple[list[str], list[Mapping[str, Any]]]:
    """Names of the priors and their arguments, in any of the ways they may be written."""
    listed = settings.get("prior_model") or []
    names: list[str] = []
    arguments: list[Mapping[str, Any]] = []
    for prior in listed if isinstance(listed, list | tuple) else [listed]:
        for name, given in prior.items() if isinstance(prior, Mapping) else [(prior, None)]:
            names.append(str(name))
            arguments.append(given or {})
    apart = settings.get("prior_args")
    if apart is not None:
        arguments = list(apart) if isinstance(apart, list | tuple) else [apart]
    return names, [given or {} for given in arguments]


def _charges(
    found: Additions, parameters: Parameters, settings: Mapping[str, Any], unit: Units, std: float
) -> None:
    """TensorNet2's Coulomb energy; its constant is that of eV and Å whatever the data were in."""
    parameters.skip("output_model.qweights", "output_model.distance.box")
    cutoff = settings.get("coulomb_cutoff")
    reach: dict[str, Any] = {"method": "direct"}
    if cutoff is not None:
        reach = {
            "method": "reaction_field",
            "cutoff": float(cutoff) * unit.length,
            "permittivity": PERMITTIVITY,
        }
    term = CoulombConfig(
        charges="network",
        damping=DAMPING * unit.length,
        weights=tuple(float(w) for w in settings["q_weights"]),
        strength=std * unit.energy * unit.length,
        **reach,
    )
    found.add(term, f"Coulomb energy of the network's charges: {reach['method']}")


def _repulsion(
    found: Additions,
    parameters: Parameters,
    settings: Mapping[str, Any],
    unit: Units,
    std: float,
    path: Path,
) -> None:
    """TensorNet2's own repulsion, with the tables that travel with the file."""
    if abs(unit.length - 1.0) > 1e-9:
        raise ValueError(f"{path} has a repulsion that counts in Å: state --length-unit Å")
    place = "representation_model.repulsion."
    powers, reach = parameters.take(f"{place}z_pow"), parameters.take(f"{place}cutoff_ab")
    parameters.skip(f"{place}z_outer")
    found.heaviest = min(found.heaviest, len(powers) - 1)
    strength = std * unit.energy * REPULSION_COULOMB / COULOMB
    term = ZBLConfig(cutoff="covalent", screening="soft", strength=strength)
    length = SCREENINGS["soft"][0] / (powers.double().unsqueeze(1) + powers)
    note = "repulsion of TensorNet2, with the file's tables"
    found.add(term, note, lengths=length, reach=reach)


def _atomref(
    found: Additions, parameters: Parameters, given: Mapping[str, Any], where: str
) -> None:
    """Reference energies, and the elements that have one."""
    energies = parameters.take(f"{where}atomref.weight").double().flatten().tolist()
    parameters.skip(f"{where}initial_atomref")
    found.known = tuple(z for z, energy in enumerate(energies) if z > 0 and energy != 0.0)
    if given.get("enable", True):
        found.atomref = dict(enumerate(energies))
        found.notes.append("reference energies: Atomref of the file")
    else:
        found.notes.append(
            "Atomref is switched off in the file (remove_ref_energy): energies are relative to it"
        )


def _zbl(
    found: Additions,
    parameters: Parameters,
    given: Mapping[str, Any],
    where: str,
    unit: Units,
    path: Path,
) -> None:
    found.heaviest = min(found.heaviest, _identity(parameters, f"{where}atomic_number", path))
    parameters.skip(f"{where}distance.box")
    distance, energy = _scales("ZBL", given, unit, path)
    strength = PRIOR_COULOMB["ZBL"] * unit.energy * unit.length / (energy * distance)
    term = ZBLConfig(
        cutoff=float(given["cutoff_distance"]) * unit.length,
        switch="cosine",
        screening="rounded",
        strength=strength / COULOMB,
    )
    # powers of integers are float32 there, whatever the model's precision
    powers = torch.arange(found.heaviest + 1) ** 0.23
    length = 0.8854 * 5.29177210903e-11 / (powers.unsqueeze(1) + powers)
    found.add(term, "prior ZBL of the file", lengths=length.double() * unit.length / distance)


def _d2(
    found: Additions,
    parameters: Parameters,
    given: Mapping[str, Any],
    where: str,
    unit: Units,
    path: Path,
) -> None:
    last = _identity(parameters, f"{where}Z_map", path)
    found.heaviest = min(found.heaviest, last, HEAVIEST_D2)
    parameters.skip(f"{where}distances.box")
    distance, energy = _scales("D2", given, unit, path)
    nm = unit.length / (1e9 * distance)  # Å
    term = DispersionD2Config(
        s6=unit.energy / (energy * AVOGADRO) * nm**6 / C6_UNIT,
        cutoff=float(given["cutoff_distance"]) * unit.length,
        switch="none",
        inner=0.0,
    )
    found.add(
        term,
        "prior D2 of the file; torchmd-net's ignores the box, here periodic images count",
        coefficients=parameters.take(f"{where}C_6"),
        radii=nm * parameters.take(f"{where}R_r").double(),
    )


def _coulomb_prior(
    found: Additions,
    parameters: Parameters,
    given: Mapping[str, Any],
    where: str,
    unit: Units,
    path: Path,
) -> None:
    """The prior divides by a distance in nm and by the data's unit of length."""
    parameters.skip(f"{where}distance.box")
    distance, energy = _scales("Coulomb", given, unit, path)
    nm = unit.length / (1e9 * distance)  # Å
    constant = PRIOR_COULOMB["Coulomb"] * unit.energy * nm / (energy * distance)
    low, high = (torch.tensor(float(given[f"{end}_switch_distance"])) for end in ("lower", "upper"))
    start, width = nm * float(low), nm * float(high - low)  # float32 numbers there
    fade = (start, start + width)
    term = CoulombConfig(charges="structure", fade=fade, strength=constant / COULOMB)
    note = "prior Coulomb of the file: structures must carry charges of atoms"
    if abs(term.strength - 1.0) > 1e-3:
        note += (
            f"; its energies are {term.strength:.4g} times Coulomb's law, since torchmd-net "
            "takes distances in nm and a constant in the data's unit of length"
        )
    found.add(term, note)


def _identity(parameters: Parameters, name: str, path: Path) -> int:
    """The last atomic number that stands for itself.

    Raises:
        ValueError: Types of atoms that are not their atomic numbers.
    """
    numbers = parameters.take(name).tolist()
    last = len(numbers) - 1
    wrong = [z for z in range(1, last + 1) if numbers[z] != z]
    if wrong:
        raise ValueError(
            f"{path}: {name} takes atoms of type {wrong[0]} for element {numbers[wrong[0]]}; only "
            "types that are atomic numbers are known here"
        )
    return last


def _scales(prior: str, given: Mapping[str, Any], unit: Units, path: Path) -> tuple[float, float]:
    """The prior's units of length and energy in m and J, which must be those of the file.

    Raises:
        ValueError: They are not.
    """
    distance, energy = float(given["distance_scale"]), float(given["energy_scale"])
    for what, said, taken, option in (
        ("lengths", distance, 1e-10 * unit.length, "--length-unit"),
        ("energies", energy, unit.energy / units.J, "--energy-unit"),
    ):
        if abs(said / taken - 1.0) > 1e-3:
            raise ValueError(
                f"{path}: the prior {prior} says that {what} are in units of {said:.6g} (SI), but "
                f"{taken:.6g} is taken: state the unit of the file by {option}"
            )
    return distance, energy
