"""ASE's integrators behind one face: a step, a state to restart from, a conserved quantity."""

from typing import Any

import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet

from dreibein.simulate.dynamics_config import FS_PER_PS, DynamicsConfig

# Moments of inertia below this fraction of the largest belong to the axis of a linear molecule.
_LINEAR = 1e-6


class Integrator:
    """One step after another of the dynamics that a configuration asks for.

    nve is velocity Verlet. langevin is ASE's Vanden-Eijnden-Ciccotti scheme, with the center of
    mass held by a constraint (which samples the right distribution, unlike `fixcm`). npt is the
    Martyna-Tobias-Klein barostat with Nosé-Hoover chains: it works for any cell, samples the
    right ensemble, is time-reversible and has a conserved quantity, so its drift can be measured.

    Args:
        atoms: Moved in place; must carry its calculator and momenta.
        config: The choices.
    """

    def __init__(self, atoms: Atoms, config: DynamicsConfig) -> None:
        self.atoms = atoms
        self.noise = np.random.default_rng(config.seed)
        self.user_constraints = list(atoms.constraints)
        free = not self.user_constraints
        # Momentum is conserved where nothing outside pushes; ASE's Langevin noise does.
        self._holds_momentum = config.zero_momentum and free and len(atoms) > 1
        if config.ensemble == "langevin" and self._holds_momentum:
            atoms.set_constraint(FixCom())
        self._removed = self._removed_freedom(config)
        self.dynamics = self._make(config)

    def _make(self, config: DynamicsConfig) -> Any:
        timestep = config.timestep_fs * units.fs
        if config.ensemble == "nve":
            return VelocityVerlet(self.atoms, timestep=timestep)
        if config.ensemble == "langevin":
            return Langevin(
                self.atoms,
                timestep=timestep,
                temperature_K=config.temperature_k,
                friction=config.friction_per_ps / (FS_PER_PS * units.fs),
                fixcm=False,
                rng=self.noise,
            )
        return self._make_npt(config, timestep)

    def _make_npt(self, config: DynamicsConfig, timestep: float) -> Any:
        try:
            from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT
        except ImportError as error:
            raise ImportError(
                "the npt ensemble needs ASE 3.26 or newer; pip install --upgrade ase"
            ) from error
        if not self.atoms.pbc.all():
            raise ValueError(
                "the npt ensemble needs a structure periodic in three dimensions, and pbc is "
                f"{self.atoms.pbc.tolist()}; choose nve or langevin"
            )
        if self.user_constraints:
            raise ValueError(
                "the npt ensemble cannot hold constrained atoms; remove the constraints "
                "(move_mask in an extxyz file) or choose nve or langevin"
            )
        if config.temperature_k <= 0.0:
            raise ValueError("the npt ensemble needs a temperature above 0 K")
        kind = MTKNPT if config.cell_changes == "full" else IsotropicMTKNPT
        dynamics = kind(
            self.atoms,
            timestep=timestep,
            temperature_K=config.temperature_k,
            pressure_au=config.pressure_gpa * units.GPa,
            tdamp=config.thermostat_time_fs * units.fs,
            pdamp=config.barostat_time_fs * units.fs,
        )
        if self._holds_momentum:
            # ASE counts 3N degrees of freedom where 3N - 3 move: with 8 atoms it would hold a
            # temperature 14% too high.
            for part in (dynamics, dynamics._thermostat, dynamics._barostat):
                part._num_atoms_global = len(self.atoms) - 1
        return dynamics

    def _removed_freedom(self, config: DynamicsConfig) -> int:
        """Degrees of freedom at rest that ASE does not know of."""
        if self.user_constraints or config.ensemble == "langevin" or len(self.atoms) < 2:
            return 0
        removed = 3 if self._holds_momentum else 0
        if config.ensemble == "nve" and config.zero_rotation and not self.atoms.pbc.any():
            removed += len(rotation_axes(self.atoms))
        return removed

    @property
    def freedom(self) -> int:
        """Number of degrees of freedom that hold kinetic energy, at least one."""
        return max(1, self.atoms.get_number_of_degrees_of_freedom() - self._removed)

    def temperature(self) -> float:
        """T = 2 K / (f k_B) in K, with f the degrees of freedom that move."""
        return 2.0 * self.atoms.get_kinetic_energy() / (self.freedom * units.kB)

    def step(self) -> None:
        """Advance the atoms by one time step."""
        self.dynamics.step()

    def conserved(self) -> float:
        """Return what the extended system of npt would conserve, were the steps exact, in eV."""
        return float(self.dynamics.get_conserved_energy())

    def state(self) -> dict[str, np.ndarray]:
        """Variables of thermostat and barostat, name -> array."""
        return {
            path.replace(".", "-"): np.array(getattr(_owner(self.dynamics, path), _last(path)))
            for path in self._paths()
        }

    def load(self, state: dict[str, np.ndarray], noise: dict[str, Any]) -> None:
        """Continue from a state and the state of the random numbers."""
        self.noise.bit_generator.state = noise
        for path in self._paths():
            value = state[path.replace(".", "-")]
            setattr(_owner(self.dynamics, path), _last(path), value if value.ndim else float(value))

    def _paths(self) -> tuple[str, ...]:
        """Where ASE keeps what positions, momenta and cell do not say."""
        if isinstance(self.dynamics, VelocityVerlet | Langevin):
            return ()
        chains = ("_thermostat._eta", "_thermostat._p_eta", "_barostat._xi", "_barostat._p_xi")
        if hasattr(self.dynamics, "_eps"):
            return (*chains, "_eps", "_p_eps", "_cell0", "_volume0")
        return (*chains, "_p_g")


def draw_velocities(atoms: Atoms, config: DynamicsConfig) -> None:
    """Give every atom a velocity from the Maxwell-Boltzmann distribution at the temperature."""
    noise = np.random.default_rng([config.seed, 1])  # apart from the thermostat's stream
    spread = np.sqrt(atoms.get_masses() * units.kB * config.temperature_k)
    atoms.set_momenta(noise.standard_normal((len(atoms), 3)) * spread[:, None])


def still(atoms: Atoms, config: DynamicsConfig) -> None:
    """Remove the motion of the center of mass and the rotation, as far as asked and possible."""
    if atoms.constraints or len(atoms) < 2:
        return
    masses = atoms.get_masses()[:, None]
    momenta = atoms.get_momenta()
    if config.zero_momentum:
        momenta = momenta - masses * momenta.sum(0) / masses.sum()
    if config.zero_rotation and not atoms.pbc.any():
        arms = atoms.positions - atoms.get_center_of_mass()
        axes = rotation_axes(atoms)
        spin = np.cross(arms, momenta).sum(0)
        omega = sum((axis * (axis @ spin) / moment for moment, axis in axes), np.zeros(3))
        momenta = momenta - masses * np.cross(omega, arms)
    atoms.set_momenta(momenta)


def rescale(atoms: Atoms, temperature: float, target: float) -> None:
    """Scale the momenta from one kinetic temperature (K) to another."""
    if temperature > 0.0:
        atoms.set_momenta(atoms.get_momenta() * np.sqrt(target / temperature))


def rotation_axes(atoms: Atoms) -> list[tuple[float, np.ndarray]]:
    """Principal moments (amu·Å²) and axes about which the structure can turn: 3, or 2 on a line.

    >>> len(rotation_axes(Atoms("CO", [[0, 0, 0], [0, 0, 1.1]])))
    2
    """
    moments, axes = np.linalg.eigh(_inertia(atoms))
    return [(float(m), v) for m, v in zip(moments, axes.T) if m > _LINEAR * moments[-1]]


def _inertia(atoms: Atoms) -> np.ndarray:
    arms = atoms.positions - atoms.get_center_of_mass()
    masses = atoms.get_masses()
    return (masses @ np.square(arms).sum(1)) * np.eye(3) - (masses[:, None] * arms).T @ arms


def _owner(root: Any, path: str) -> Any:
    for name in path.split(".")[:-1]:
        root = getattr(root, name)
    return root


def _last(path: str) -> str:
    return path.rsplit(".", 1)[-1]
