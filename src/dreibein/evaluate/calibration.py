"""Whether errors are as large as they were said to be."""

import math
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from dreibein.evaluate.predictions import Predictions

Array = np.ndarray[Any, Any]
LEAST_SIGMA = 1e-12  # eV or eV/Å: a sigma of zero is no prediction


class Calibration(BaseModel):
    """Errors against predicted standard deviations, of energies or of components of forces.

    Attributes:
        quantity: "energy" or "forces".
        unit: Of `rmse` and `sigma`: eV or eV/Å.
        values: Numbers compared.
        rmse: Root mean square error.
        sigma: Root mean square of the predicted standard deviations.
        rms_z: Root mean square of error / sigma; 1 where sigma is right on average.
        nll: Mean negative log likelihood of normal errors, ln(sigma) + z² / 2 + ln(2 pi) / 2.
        nll_constant: The same with the one sigma that suits best, the RMSE.
        within_1: Share of errors within one sigma, 0.683 for normal errors.
        within_2: Within two, 0.954.
        spearman: Rank correlation of |error| and sigma; None for equal sigmas.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    quantity: str
    unit: str
    values: int
    rmse: float
    sigma: float
    rms_z: float
    nll: float
    nll_constant: float
    within_1: float
    within_2: float
    spearman: float | None


def calibrations(predictions: Predictions) -> list[Calibration]:
    """Of everything that was predicted with its uncertainty and has a label."""
    units = {"energy": "eV", "forces": "eV/Å"}
    found = []
    for quantity, unit in units.items():
        error, sigma = errors_and_sigmas(predictions, quantity)
        if len(error):
            found.append(judge(quantity, unit, error, sigma))
    return found


def errors_and_sigmas(predictions: Predictions, quantity: str) -> tuple[Array, Array]:
    """Errors and sigmas [n]: of structures, or of components of forces (sigma over root 3)."""
    if quantity not in predictions.uncertainties:
        return np.zeros(0), np.zeros(0)
    sigma = predictions.uncertainties[quantity].astype(float)
    if quantity == "energy":
        error = predictions.energy_prediction - predictions.energy_reference
    else:
        error = predictions.forces_prediction - predictions.forces_reference
        error, sigma = error.ravel().astype(float), np.repeat(sigma / math.sqrt(3.0), 3)
    keep = np.isfinite(error)
    return error[keep], sigma[keep]


def judge(quantity: str, unit: str, error: Array, sigma: Array) -> Calibration:
    """Numbers of one quantity.

    >>> found = judge("energy", "eV", np.array([1.0, -2.0]), np.array([1.0, 2.0]))
    >>> found.rms_z, found.within_1, round(found.spearman, 9)
    (1.0, 1.0, 1.0)
    """
    sigma = np.maximum(sigma, LEAST_SIGMA)
    z, rmse = np.abs(error) / sigma, float(np.sqrt(np.mean(error**2)))
    normal = 0.5 * math.log(2.0 * math.pi)
    return Calibration(
        quantity=quantity,
        unit=unit,
        values=len(error),
        rmse=rmse,
        sigma=float(np.sqrt(np.mean(sigma**2))),
        rms_z=float(np.sqrt(np.mean(z**2))),
        nll=float(np.mean(np.log(sigma) + 0.5 * z**2)) + normal,
        nll_constant=math.log(max(rmse, LEAST_SIGMA)) + 0.5 + normal,
        within_1=float(np.mean(z <= 1.0)),
        within_2=float(np.mean(z <= 2.0)),
        spearman=_rank_correlation(np.abs(error), sigma),
    )


def _rank_correlation(a: Array, b: Array) -> float | None:
    """Spearman's; None where one of them does not vary."""
    from scipy.stats import rankdata

    x, y = rankdata(a), rankdata(b)
    if np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return None
    return float(np.corrcoef(x, y)[0, 1])
