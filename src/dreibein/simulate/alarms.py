"""Alarms: a structure that is not like those the potential was trained on.

The card of a model file holds the ranges of its training data. At every call the structure is
compared with them: pairs of elements that never met, distances shorter than any of that pair,
atoms with fewer or more neighbors within the cutoff than any of their element, and, for several
potentials together, forces that they disagree on; for one potential that knows its uncertainty,
energies that it is less sure of than of any held-out structure.
"""

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from ase.data import chemical_symbols

from dreibein.neighbors import NeighborList
from dreibein.systems.domains import TrainingDomain

logger = logging.getLogger(__name__)

Policy = Literal["warn", "stop", "record", "off"]
POLICIES: tuple[str, ...] = get_args(Policy)
_EXACT = 1.0 - 1e-7  # the shortest pair of the training itself raises no alarm by rounding
MOST_KEPT = 100
"""Alarms kept in full; later ones are counted."""


class OutOfDomainError(ValueError):
    """A structure outside the training data, with the policy "stop".

    Attributes:
        reason: What was found.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; train on such structures, or choose another alarm policy")
        self.reason = reason


@dataclass(frozen=True)
class Alarm:
    """One thing that the training data do not have.

    Attributes:
        kind: "pair", "distance", "density", "disagreement" or "uncertainty".
        about: The elements it is about, or "".
        call: Which call of the evaluator, from 1.
        message: In words, with number and bound.
    """

    kind: str
    about: str
    call: int
    message: str


@dataclass
class Alarms:
    """Watches structures, and warns (once for each kind and elements), stops or records.

    Args:
        domain: Ranges of the training data; None: unknown, nothing to compare with.
        policy: "warn", "stop" (raises `OutOfDomainError`), "record" or "off".
        margin: Part by which a range may be left: 0.02 allows distances 2% shorter.
        disagreement: Standard deviation of a force in eV/Å above which several potentials
            disagree; None: not judged.
        uncertainty: Standard deviation of the energy in eV per atom above which the potential is
            unsure; None: not judged.
        interval: Calls between looks at the uncertainty, which costs a pass through the network.

    Attributes:
        found: The first alarms.
        counts: Number of alarms by kind.
    """

    domain: TrainingDomain | None = None
    policy: Policy = "warn"
    margin: float = 0.0
    disagreement: float | None = None
    uncertainty: float | None = None
    interval: int = 100
    found: list[Alarm] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ValueError(
                f"there is no alarm policy '{self.policy}'; choose {', '.join(POLICIES)}"
            )
        self._calls = 0
        self._said: set[tuple[str, str]] = set()
        self._numbers: np.ndarray | None = None

    @classmethod
    def from_card(cls, card: dict[str, Any], policy: Policy = "warn") -> "Alarms":
        """As the card of a model file says."""
        ranges = card.get("domain")
        domain = TrainingDomain.from_json(ranges) if ranges else None
        unsure = (card.get("uncertainty") or {}).get("alarm_ev_per_atom")
        return cls(domain, policy, disagreement=card.get("disagreement"), uncertainty=unsure)

    @property
    def asks(self) -> bool:
        """Whether the present call is one whose uncertainty is judged."""
        judged = self.policy != "off" and self.uncertainty is not None
        return judged and (self._calls - 1) % self.interval == 0

    def describe(self) -> str:
        """What is watched and what came of it, in one line."""
        if self.policy == "off":
            return "off"
        watched = "distances and densities of the training data"
        if self.domain is None:
            watched = "none: the model file has no ranges of its training data"
        if self.disagreement is not None:
            watched += f", disagreement above {self.disagreement:.3g} eV/Å"
        if self.uncertainty is not None:
            watched += f", uncertainty above {1000.0 * self.uncertainty:.3g} meV/atom"
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(self.counts.items()))
        return f"{self.policy} ({watched}): {counts or 'no alarm'}"

    def summary(self) -> dict[str, Any]:
        """The same for a JSON file, with the first alarms in words."""
        return {
            "policy": self.policy,
            "watched": self.domain is not None,
            "disagreement_ev_per_a": self.disagreement,
            "uncertainty_ev_per_atom": self.uncertainty,
            "counts": dict(self.counts),
            "first": [f"call {alarm.call}: {alarm.message}" for alarm in self.found[:10]],
        }

    @property
    def total(self) -> int:
        """Number of alarms so far."""
        return sum(self.counts.values())

    def look(
        self, numbers: np.ndarray, pos: np.ndarray, cell: np.ndarray, pairs: NeighborList
    ) -> None:
        """Compare one structure with the training data.

        Args:
            numbers: Atomic numbers [N].
            pos: [N, 3] Å.
            cell: [3, 3] Å.
            pairs: Its neighbors within the cutoff; longer ones are passed over.
        """
        self._calls += 1
        if self.policy == "off" or self.domain is None:
            return
        if self._numbers is not numbers:
            self._prepare(numbers, self.domain)
        sender, receiver = pairs.sender.numpy(), pairs.receiver.numpy()
        worst = self._scan(
            pos,
            cell,
            self._kind,
            sender,
            receiver,
            pairs.shift.numpy(),
            self._nearest,
            self.domain.cutoff**2,
            self._neighbors,
        )
        if worst >= 0:
            image = pairs.shift[worst].numpy() @ cell
            self._near(numbers, sender[worst], receiver[worst], pos, image)
        if ((self._neighbors < self._low) | (self._neighbors > self._high)).any():
            self._density(numbers, self.domain)

    def disagree(self, spread: np.ndarray) -> None:
        """Compare the standard deviations of forces [N] in eV/Å with the bound."""
        if self.policy == "off" or self.disagreement is None or not len(spread):
            return
        atom = int(np.argmax(spread))
        if not spread[atom] <= self.disagreement:  # so that NaN is an alarm
            bound = f"{self.disagreement:.3g} eV/Å on held-out frames"
            message = (
                f"the potentials disagree on the force on atom {atom} by {spread[atom]:.3g} eV/Å "
                f"(at most {bound})"
            )
            self._raise("disagreement", "", message)

    def doubt(self, uncertainty: float, atoms: int) -> None:
        """Compare the uncertainty of an energy in eV with the bound."""
        if self.policy == "off" or self.uncertainty is None or not atoms:
            return
        if not uncertainty / atoms <= self.uncertainty:  # so that NaN is an alarm
            message = (
                f"the energy is uncertain by {1000.0 * uncertainty / atoms:.3g} meV/atom "
                f"(at most {1000.0 * self.uncertainty:.3g} meV/atom on held-out frames)"
            )
            self._raise("uncertainty", "", message)

    def _prepare(self, numbers: np.ndarray, domain: TrainingDomain) -> None:
        """Ranges in the order of these atoms."""
        from dreibein.ops.domain_kernels import domain_kernel

        self._scan = domain_kernel()
        present, self._kind = np.unique(numbers, return_inverse=True)
        allowed = domain.shortest[np.ix_(present, present)] * (1.0 - self.margin)
        never = domain.cutoff + 1.0  # every distance within the cutoff is shorter
        self._nearest = np.where(np.isfinite(allowed), allowed * _EXACT, never) ** 2
        self._low = np.floor(domain.fewest[numbers] * (1.0 - self.margin))
        self._high = np.ceil(domain.most[numbers] * (1.0 + self.margin))
        self._neighbors = np.zeros(len(numbers), dtype=np.int64)
        self._numbers = numbers

    def _near(
        self, numbers: np.ndarray, j: int, i: int, pos: np.ndarray, image: np.ndarray
    ) -> None:
        """Say that two atoms are nearer than any such pair was."""
        assert self.domain is not None
        distance = float(np.linalg.norm(pos[j] + image - pos[i]))
        a, b = sorted((int(i), int(j)), key=lambda k: (numbers[k], k))
        symbols = [chemical_symbols[numbers[k]] for k in (a, b)]
        names = f"{symbols[0]} (atom {a}) and {symbols[1]} (atom {b})"
        shortest = self.domain.shortest[numbers[a], numbers[b]]
        if np.isfinite(shortest):
            message = f"{names} are {distance:.3f} Å apart, in training at least {shortest:.3f} Å"
            return self._raise("distance", "-".join(symbols), message)
        message = f"{names} are {distance:.3f} Å apart, and no training structure has such a pair"
        return self._raise("pair", "-".join(symbols), message)

    def _density(self, numbers: np.ndarray, domain: TrainingDomain) -> None:
        """Say that an atom has a number of neighbors that no atom of its element had."""
        off = np.maximum(self._low - self._neighbors, self._neighbors - self._high)
        atom = int(off.argmax())
        z = numbers[atom]
        message = (
            f"{chemical_symbols[z]} (atom {atom}) has {self._neighbors[atom]} neighbors within "
            f"{domain.cutoff:g} Å, in training {domain.fewest[z]} to {domain.most[z]}"
        )
        self._raise("density", chemical_symbols[z], message)

    def _raise(self, kind: str, about: str, message: str) -> None:
        """Act as the policy says."""
        self.counts[kind] += 1
        if len(self.found) < MOST_KEPT:
            self.found.append(Alarm(kind, about, self._calls, message))
        if self.policy == "stop":
            raise OutOfDomainError(message)
        if self.policy == "warn" and (kind, about) not in self._said:
            self._said.add((kind, about))
            logger.warning("outside the training data: %s (said once)", message)
