"""`dreibein spectrum`: infrared and Raman spectra from a trajectory and a model."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Correction(StrEnum):
    """From classical to quantum absorption."""

    harmonic = "harmonic"
    standard = "standard"
    none = "none"


def spectrum(
    model: Annotated[Path, typer.Argument(help="Model with dipoles: a file, or a run's folder.")],
    trajectory: Annotated[Path, typer.Argument(help="trajectory.extxyz of dreibein md.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for JSON, CSV and HTML.")],
    resolution: Annotated[float, typer.Option(help="Width of a sharp line in cm^-1.")] = 10.0,
    correction: Annotated[
        Correction, typer.Option(help="Quantum correction of classical dynamics.")
    ] = Correction.harmonic,
    temperature: Annotated[
        float | None, typer.Option(help="Temperature in K. [that of the momenta]")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Also the harmonic lines of a method of `dreibein label` (GFN2-xTB)."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
) -> None:
    """Write the infrared (and Raman) spectrum of a trajectory beside harmonic ones."""
    from dreibein.cli.console import out, progress_bar
    from dreibein.cli.md import load_potential
    from dreibein.simulate.spectra import (
        SpectrumConfig,
        find_spectrum,
        read_trajectory,
        write_spectrum,
    )

    potential = load_potential(model, device, None)
    others = reference_lines(reference) if reference is not None else None
    config = SpectrumConfig(resolution, correction.value, temperature)
    with progress_bar("spectrum") as progress:
        found = find_spectrum(
            potential, read_trajectory(trajectory), config, others=others, progress=progress
        )
    page = write_spectrum(found, output, f"Infrared spectrum of {found.formula}")
    for peak in found.peaks:
        out.print(f"{peak.wavenumber:7.0f} cm⁻¹  {peak.height:8.3f} km/mol·cm  {peak.name}")
    out.print("; ".join(f"{topic}: {value}" for topic, value in found.facts.items()))
    out.print(f"page: {page}")


def reference_lines(method_name: str) -> Callable[[Any], Any]:
    """From a structure to the harmonic lines of a quantum-chemical method."""
    from dreibein.label.methods import make_method
    from dreibein.simulate.spectra import Lines
    from dreibein.simulate.vibrations.reference import reference_vibrations

    method = make_method(method_name)

    def lines_of(atoms: Any) -> Lines:
        method.check(atoms)
        calculation = method.calculation(atoms)

        def labels_at(positions: Any) -> tuple[float, Any, Any]:
            found = calculation.labels(positions)
            return found.energy, found.forces, found.dipole

        _, modes, infrared, names = reference_vibrations(labels_at, atoms)
        return Lines(f"{method.name}, harmonic", modes.wavenumbers, infrared, names)

    return lines_of
