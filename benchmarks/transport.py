"""Transport of features between frames against straightforward per-edge implementations.

    python benchmarks/transport.py              10,000 edges, 1,000 nodes, float32, wall time
    python benchmarks/transport.py --clock cpu  on a busy machine, one thread

The straightforward way: index both frames at every edge, form the transition R_i R_j^T, gather the
features, and write each block into a copy in place, by einsum (Cartesian) or by one matrix product
a degree with the Wigner matrix of the transition ("per edge, D(U)"). The published package is
smarter for irreps: it indexes the Wigner matrices of the nodes and multiplies them at every edge
("per edge, D D^T"). Both rebuild their matrices in every call, as a layer there does, and both are
given our polynomial Wigner matrices, which are faster than theirs. Gradients are with respect to
features and frames. Ways take turns, medians are compared.

Counted before: a channel of d components costs d d multiply-adds an edge; the bytes are those that
must move once: node features and matrices in, edge features out (forward), edge gradients in, node
gradients out (backward).
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from dreibein.frames import Frames, Transport
from dreibein.frames.layout import layout_of
from dreibein.o3 import Action, Irreps, Reps, TensorReps, parse_reps, random_rotations

Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}

CASES = {
    "Cartesian 64x0n+32x1n+16x2n": "64x0n+32x1n+16x2n",
    "irreps 64x0e+32x1o+16x2e": "64x0e+32x1o+16x2e",
    "irreps l = 0..6, 32 each": "32x0e+32x1o+32x2e+32x3o+32x4e+32x5o+32x6e",
}


def per_edge_cartesian(reps: TensorReps, r: Tensor, edge_index: Tensor, x: Tensor) -> Tensor:
    """One transition R_i R_j^T an edge, one einsum an index."""
    sender, receiver = edge_index
    transition = torch.bmm(r[receiver], r[sender].mT)
    gathered = x[sender]
    out = gathered.clone()
    for (mul, kind), part in zip(reps, reps.slices()):
        if kind.rank == 0:
            continue
        block = gathered[:, part].reshape(-1, mul, *[3] * kind.rank)
        for k in range(kind.rank):
            moved = block.movedim(2 + k, -1)
            moved = torch.einsum("eij,e...j->e...i", transition, moved)
            block = moved.movedim(-1, 2 + k)
        out[:, part] = block.reshape(len(out), -1)
    return out


def per_edge_irreps(reps: Irreps, r: Tensor, edge_index: Tensor, x: Tensor) -> Tensor:
    """Wigner matrices of the transition at every edge, one matrix product a degree."""
    sender, receiver = edge_index
    transition = Action(torch.bmm(r[receiver], r[sender].mT))
    gathered = x[sender]
    out = gathered.clone()
    for (mul, kind), part in zip(reps, reps.slices()):
        if kind.l:
            block = gathered[:, part].reshape(-1, mul, kind.dim)
            turned = torch.matmul(block, transition.matrix_of(kind).mT)
            out[:, part] = turned.reshape(len(out), -1)
    return out


def per_edge_products(reps: Irreps, r: Tensor, edge_index: Tensor, x: Tensor) -> Tensor:
    """Wigner matrices of both nodes at every edge, their product, one matrix product a degree."""
    sender, receiver = edge_index
    action = Action(r)
    gathered = x[sender]
    out = gathered.clone()
    for (mul, kind), part in zip(reps, reps.slices()):
        if kind.l:
            d = action.matrix_of(kind)
            transition = torch.bmm(d[receiver], d[sender].mT)
            block = gathered[:, part].reshape(-1, mul, kind.dim)
            out[:, part] = torch.matmul(block, transition.mT).reshape(len(out), -1)
    return out


def ours(backend: str) -> Callable[[Reps, Tensor, Tensor, Tensor], Tensor]:
    """Transport with nothing kept from an earlier call."""

    def way(reps: Reps, r: Tensor, edge_index: Tensor, x: Tensor) -> Tensor:
        return Transport(Frames(r), edge_index, backend=backend).between(reps, x)

    return way


def ours_kept(r: Tensor, edge_index: Tensor) -> Callable[[Reps, Tensor, Tensor, Tensor], Tensor]:
    """Transport as in the second and later layers: frames and plans are there already."""
    transport = Transport(Frames(r), edge_index, backend="fused")
    return lambda reps, r, edge_index, x: transport.between(reps, x)


def interleaved(
    ways: dict[str, Callable[[], object]], repeats: int, clock: Clock
) -> dict[str, list[float]]:
    """Seconds of each way, taken in turns so that a busy moment meets all of them."""
    for way in ways.values():
        way()
        way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = clock()
            way()
            times[name].append(clock() - start)
    return times


def counts(reps: Reps, nodes: int, edges: int) -> tuple[float, float, float]:
    """Multiply-adds and bytes of the forward pass, bytes of forward and backward (float32)."""
    layout = layout_of(reps)
    per_row = sum(mul * size * size for mul, size, _, offset in layout.blocks if offset >= 0)
    forward = 4.0 * (nodes * (2 * reps.dim + layout.width) + edges * reps.dim)
    backward = 4.0 * (nodes * (2 * reps.dim + 2 * layout.width) + edges * reps.dim)
    return float(per_row * (nodes + edges)), forward, forward + backward


def copy_bandwidth(clock: Clock, size: int = 64 << 20) -> float:
    """Bytes read and written a second by a copy between arrays that are in place already."""
    a, b = torch.ones(size // 4), torch.ones(size // 4)
    times = interleaved({"copy": lambda: b.copy_(a)}, 15, clock)["copy"]
    return 2.0 * size / statistics.median(times)


def run(title: str, text: str, options: argparse.Namespace, bandwidth: float) -> None:
    """Time one representation and print its lines."""
    nodes, edges, repeats = options.nodes, options.edges, options.repeats
    clock = CLOCKS[options.clock]
    generator = torch.Generator().manual_seed(0)
    reps = parse_reps(text)
    receiver = torch.randint(nodes, (edges,), generator=generator).sort().values
    edge_index = torch.stack([torch.randint(nodes, (edges,), generator=generator), receiver])
    r = random_rotations(nodes, generator=generator, dtype=torch.float32)
    x = torch.randn(nodes, reps.dim, generator=generator)
    weight = torch.randn(edges, reps.dim, generator=generator)
    ways: dict[str, Callable[..., Tensor]] = {"per edge, D(U)": per_edge_irreps}
    if isinstance(reps, TensorReps):
        ways = {"per edge": per_edge_cartesian}
    else:
        ways["per edge, D D^T"] = per_edge_products
    plain = list(ways)
    exact = next(iter(ways.values()))(reps, r.double(), edge_index, x.double())
    ways |= {"ours, plain torch": ours("reference"), "ours, fused": ours("fused")}
    for name, way in ways.items():
        error = (way(reps, r, edge_index, x) - exact).abs().max().item()
        assert error < 1e-4, f"{name} differs by {error}"

    def both(way: Callable[[Reps, Tensor, Tensor, Tensor], Tensor]) -> Callable[[], object]:
        def call() -> object:
            leaves = r.clone().requires_grad_(), x.clone().requires_grad_()
            out = way(reps, leaves[0], edge_index, leaves[1])
            return torch.autograd.grad(out, leaves, weight)

        return call

    def forward(way: Callable[[Reps, Tensor, Tensor, Tensor], Tensor]) -> Callable[[], object]:
        def call() -> object:
            with torch.no_grad():
                return way(reps, r, edge_index, x)

        return call

    with torch.no_grad():
        kept = forward(ours_kept(r, edge_index))
    passes = {
        "forward": {name: forward(way) for name, way in ways.items()}
        | {"ours, fused, later layers": kept},
        "forward+backward": {name: both(way) for name, way in ways.items()},
    }
    operations, moved, moved_both = counts(reps, nodes, edges)
    print(f"\n{title}: dim {reps.dim}, {operations / 1e6:.0f} M multiply-adds forward")
    for label, calls in passes.items():
        needed = moved if label == "forward" else moved_both
        medians = {k: statistics.median(v) for k, v in interleaved(calls, repeats, clock).items()}
        print(f"  {label}: {needed / 1e6:.0f} MB, {needed / bandwidth * 1e3:.1f} ms at copy speed")
        for name, seconds in medians.items():
            rate = needed / seconds
            ratios = "  ".join(f"{medians[other] / seconds:5.1f}x" for other in plain)
            print(
                f"    {name:26} {seconds * 1e3:8.2f} ms  {ratios}  {rate / 1e9:5.2f} GB/s"
                f" = {100 * rate / bandwidth:3.0f}% of copy"
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--edges", type=int, default=10000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bandwidth = copy_bandwidth(CLOCKS[options.clock])
    setting = f"{options.threads} threads, {options.clock} time"
    print(f"{platform.machine()}, torch {torch.__version__}, {setting}")
    print(f"{options.nodes} nodes, {options.edges} edges, copy {bandwidth / 1e9:.1f} GB/s")
    for title, text in CASES.items():
        run(title, text, options, bandwidth)


if __name__ == "__main__":
    main()
