"""Molecular dynamics: from a structure and a potential to a folder of results."""

from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms

from dreibein.simulate.calculator import Calculator
from dreibein.simulate.dynamics_config import DynamicsConfig
from dreibein.simulate.dynamics_result import DynamicsResult
from dreibein.simulate.evaluator import DEFAULT_SKIN, Evaluator
from dreibein.simulate.integrators import Integrator, draw_velocities, rescale, still
from dreibein.simulate.relaxation import relax_structure
from dreibein.simulate.restarts import RESTART_NAME, read_restart
from dreibein.simulate.runs import Progress, Run

if TYPE_CHECKING:
    from dreibein.nn.frozen import FrozenPotential
    from dreibein.nn.potential import Potential

# The brief relaxation before a start: far enough to take the strain out of a guessed conformer.
_RELAX_FMAX = 0.05  # eV/Å
_RELAX_STEPS = 200


def run_dynamics(
    atoms: Atoms | None,
    potential: "Potential | FrozenPotential",
    config: DynamicsConfig,
    folder: str | Path,
    *,
    restart: bool = False,
    overwrite: bool = False,
    skin: float = DEFAULT_SKIN,
    progress: Progress | None = None,
) -> DynamicsResult:
    """Run molecular dynamics and write thermo.csv, trajectory.extxyz, restart.npz, dynamics.json.

    A restart goes on from the last restart file; lines and frames written after it are cut off
    and computed again. On the CPU the result is, to the last bit, that of a run that was never
    interrupted (with the same restart interval, skin, backend and number of threads).

    Args:
        atoms: Where to start; not changed. None for a restart.
        potential: Energies and forces; frozen with a backend where one is to be chosen.
        config: The choices; for a restart its physics must be that of the first start.
        folder: Made if absent.
        restart: Continue the run in `folder` up to the duration in `config`.
        overwrite: Replace a run that is there.
        skin: Extra radius in Å of the neighbor list kept between steps.
        progress: Called with steps done, steps in all, and a note.

    Raises:
        BlowUpError: Temperature, forces or distances left their bounds (a ValueError that says
            at which step); all files are kept.
        OutOfDomainError: With alarms "stop", the first structure unlike the training data.
        ValueError: An unknown element, a folder that holds a run already, or a restart that
            does not fit.
    """
    folder = Path(folder)
    evaluator = Evaluator(potential, skin=skin, alarms=config.alarms, field=config.external_field)
    calculator = Calculator(evaluator)
    if restart:
        run = _continue(folder, calculator, config)
    elif atoms is None:
        raise ValueError("a new run needs a structure to start from")
    elif (folder / RESTART_NAME).exists() and not overwrite:
        raise ValueError(
            f"{folder} holds a run already; continue it (restart), replace it (overwrite), or "
            "choose another folder"
        )
    else:
        run = _start(atoms, folder, calculator, config)
    with run:
        return run.go(progress or (lambda done, total, note: None))


def _start(atoms: Atoms, folder: Path, calculator: Calculator, config: DynamicsConfig) -> Run:
    """Prepare a new run: relaxation, velocities, files."""
    calculator.evaluator.check(atoms.numbers)  # before anything is written
    if config.relax_first:
        atoms = relax_structure(
            atoms, calculator.evaluator, fmax=_RELAX_FMAX, steps=_RELAX_STEPS
        ).atoms
    atoms = atoms.copy()
    atoms.calc = calculator
    maxwell = config.initial_velocities == "maxwell"
    if maxwell:
        draw_velocities(atoms, config)
    still(atoms, config)
    integrator = Integrator(atoms, config)
    if maxwell:
        rescale(atoms, integrator.temperature(), config.temperature_k)
        atoms.set_constraint(integrator.user_constraints)
        integrator = Integrator(atoms, config)  # ASE's barostats copy the momenta when made
    folder.mkdir(parents=True, exist_ok=True)
    return Run(integrator, config, folder)


def _continue(folder: Path, calculator: Calculator, config: DynamicsConfig) -> Run:
    """Prepare the continuation of the run in `folder`."""
    point = read_restart(folder)
    before = DynamicsConfig.model_validate(point.config).physics()
    for name, value in config.physics().items():
        if value != before[name]:
            raise ValueError(
                f"the run in {folder} has {name} {before[name]} and the restart asks for {value}; "
                "keep it as it was, or start a new run from the last frame with "
                "initial_velocities 'structure'"
            )
    if config.num_steps <= point.step:
        raise ValueError(
            f"the run in {folder} has done {point.step} steps and {config.num_steps} are asked "
            "for; give a longer duration to go on"
        )
    point.atoms.calc = calculator
    integrator = Integrator(point.atoms, config)
    integrator.load(point.integrator, point.noise)
    return Run(integrator, config, folder, point)
