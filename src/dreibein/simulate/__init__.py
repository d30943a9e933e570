"""A potential in engines: calculators, dynamics, relaxation."""

from dreibein.simulate.alarms import Alarm, Alarms, OutOfDomainError
from dreibein.simulate.batched_relaxation import relax_structures
from dreibein.simulate.calculator import Calculator
from dreibein.simulate.dask_predictions import predict_with_dask
from dreibein.simulate.dynamics import DynamicsResult, run_dynamics
from dreibein.simulate.dynamics_config import DynamicsConfig
from dreibein.simulate.engines import standard_box
from dreibein.simulate.evaluator import Evaluator
from dreibein.simulate.export import export_potential, read_export
from dreibein.simulate.guards import BlowUpError
from dreibein.simulate.ipi_driver import ipi_driver
from dreibein.simulate.lammps_fix import lammps_fix, lammps_system, open_lammps
from dreibein.simulate.openmm_force import openmm_force, openmm_system
from dreibein.simulate.parity import ParityReport, ParityRow, measure_parity
from dreibein.simulate.predictions import predict_structures
from dreibein.simulate.relaxation import RelaxationResult, relax_structure
from dreibein.simulate.speed import Memory, Speed, available_backends, measure_speed
from dreibein.simulate.thermo import read_thermo
from dreibein.simulate.torchsim_model import torchsim_model

__all__ = [
    "Alarm",
    "Alarms",
    "BlowUpError",
    "Calculator",
    "DynamicsConfig",
    "DynamicsResult",
    "Evaluator",
    "Memory",
    "OutOfDomainError",
    "ParityReport",
    "ParityRow",
    "RelaxationResult",
    "Speed",
    "available_backends",
    "export_potential",
    "ipi_driver",
    "lammps_fix",
    "lammps_system",
    "measure_parity",
    "measure_speed",
    "open_lammps",
    "openmm_force",
    "openmm_system",
    "predict_structures",
    "predict_with_dask",
    "read_export",
    "read_thermo",
    "relax_structure",
    "relax_structures",
    "run_dynamics",
    "standard_box",
    "torchsim_model",
]
