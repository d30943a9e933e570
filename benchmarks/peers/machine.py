"""What the machine can do and what the equations ask for: the floor that times are held against."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

FLOAT = 4  # bytes


def multiply_adds(channels: int, layers: int) -> float:
    """Multiply-adds per atom of the per-atom matrix products in energy + forces.

    Forward, in units of channels^2: the embedding's gates 2 + 6, its mixing of nine components 9;
    each layer mixes nine components twice, 18; readout 3 and 1/2. The derivative with respect to
    the inputs costs the same again.
    """
    return 2.0 * (20.5 + 18.0 * layers) * channels**2


def moved_bytes(channels: int, layers: int) -> float:
    """Bytes per atom that must move in energy + forces if only packed features are stored.

    Nine numbers per channel after the embedding's sum, after its mixing, and four times a layer
    (normalised X, Y, M, D): each is written once and read twice (by the next stage and by the
    reverse pass), its derivative is written and read once.
    """
    return 5.0 * (2 + 4 * layers) * 9 * channels * FLOAT


def median(
    work: Callable[[], object], clock: Callable[[], float] = time.perf_counter, repeats: int = 7
) -> float:
    """Median seconds."""
    work()
    times = []
    for _ in range(repeats):
        start = clock()
        work()
        times.append(clock() - start)
    return statistics.median(times)


def products(rows: int, channels: int) -> dict[str, Callable[[], object]]:
    """[rows, channels] x [channels, channels] by each library at hand."""
    x, w = torch.randn(rows, channels), torch.randn(channels, channels)
    out = torch.empty(rows, channels)
    found: dict[str, Callable[[], object]] = {"torch": lambda: torch.mm(x, w.T, out=out)}
    if torch.backends.mkldnn.is_available():
        packed = torch.ops.mkldnn._reorder_linear_weight(w, rows)

        def onednn() -> object:
            return torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")

        found["oneDNN, packed weight"] = onednn
    from scipy.linalg.blas import sgemm

    a, b = np.asfortranarray(w.numpy()), np.asfortranarray(x.numpy().T)
    c = np.empty_like(b)
    found["scipy"] = lambda: sgemm(1.0, a, b, c=c, overwrite_c=1)
    return found


def measure(
    rows: int, channels: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Multiply-adds a second of every library, and bytes a second of a copy."""
    work = rows * channels * channels
    with torch.no_grad():
        rates = {name: work / median(run, clock) for name, run in products(rows, channels).items()}
    a, b = torch.ones(16 << 20), torch.ones(16 << 20)
    return rates | {"copy": 2.0 * FLOAT * a.numel() / median(lambda: b.copy_(a), clock)}


def floor_seconds(atoms: int, channels: int, layers: int, rates: dict[str, float]) -> float:
    """Matrix products at the best measured rate plus bytes at the speed of a copy."""
    best = max(rate for name, rate in rates.items() if name != "copy")
    work = multiply_adds(channels, layers) / best + moved_bytes(channels, layers) / rates["copy"]
    return atoms * work
