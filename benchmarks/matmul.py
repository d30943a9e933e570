"""Matrix products of few rows with fixed weights: ours against SciPy's OpenBLAS and PyTorch.

    python benchmarks/matmul.py

One thread, float32, [rows, K] x [K, N] for the shapes of a TensorNet of 128 channels and 21 to 105
rows. Ways take turns; the best of 60 turns counts, in multiply-adds a second.
"""

import time
from collections.abc import Callable

import numba
import numpy as np
import torch

from dreibein.ops.matmul import matmul, pack

SHAPES = ((128, 128), (128, 256), (256, 384), (384, 128))
ROWS = (21, 63, 105)


@numba.njit(nogil=True)
def blas(x, weights, out):
    """SciPy's product, called from compiled code."""
    np.dot(x, weights, out)


def fastest(ways: dict[str, Callable[[], object]], turns: int = 60) -> dict[str, float]:
    """Least seconds of each way, after one call that is not counted."""
    best = {name: float("inf") for name in ways}
    for turn in range(turns + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for inner, columns in SHAPES:
        weights = rng.standard_normal((inner, columns)).astype(np.float32)
        packed, theirs = pack(weights), torch.from_numpy(weights)
        for rows in ROWS:
            x = rng.standard_normal((rows, inner)).astype(np.float32)
            out, given = np.empty((rows, columns), np.float32), torch.from_numpy(x)
            to = torch.empty(rows, columns)
            seconds = fastest(
                {
                    "ours": lambda x=x, p=packed, o=out, n=rows: matmul(x, p, o, 0, n),
                    "OpenBLAS": lambda x=x, w=weights, o=out: blas(x, w, o),
                    "PyTorch": lambda x=given, w=theirs, o=to: torch.mm(x, w, out=o),
                }
            )
            rates = (f"{n} {rows * inner * columns / s / 1e9:.0f}" for n, s in seconds.items())
            print(f"[{rows}, {inner}] x [{inner}, {columns}]: GMAC/s {', '.join(rates)}")


if __name__ == "__main__":
    main()
