"""The transferred tensor product against e3nn's: same weights, same inputs, forward and backward.

    python benchmarks/transfer.py                  processor time of one thread, float32
    python benchmarks/transfer.py --mode networks  a training step: LoCaFormer, Equiformer's form
    python benchmarks/transfer.py --mode forms     a training step of every network in both forms

Features have the same multiplicity for l = 0 ... L with parity (-1)^l, harmonics go to L, edges
have random receivers, sorted. e3nn's layer is what its code generator makes of it by default
(TorchScript), followed by a sum over the edges of a receiver. Gradients are taken by features, edge
vectors and weights. Ways take turns; medians are compared.

Counted before: a "uvw" path costs (2 l1 + 1)(2 l2 + 1)(2 l3 + 1) multiply-adds a channel and
2 l3 + 1 a pair of channels in e3nn; here 2 min(l1, l3) + 1 a pair of channels, and two turns.
"""

import argparse
import copy
import platform
import statistics
import time
from collections.abc import Callable

import torch
from e3nn import o3
from torch import Tensor, nn
from torch_geometric.data import Batch

from dreibein.frames import EdgeAlignment
from dreibein.models import TensorFieldConfig, TensorNetConfig, build_potential
from dreibein.neighbors import attach_neighbors
from dreibein.nn import Potential
from dreibein.nn.radial import lengths_and_units
from dreibein.nn.transfer import AlignedProduct, ChannelProduct
from dreibein.systems import make_structure

Way = Callable[[], tuple[Tensor, ...]]
CASES = (("uvw", 32, (2,)), ("uvu", 32, (1, 2, 3, 4)), ("uvw", 16, (1, 2, 3, 4)))


def features(lmax: int, channels: int) -> o3.Irreps:
    return o3.Irreps("+".join(f"{channels}x{l}{'eo'[l % 2]}" for l in range(lmax + 1)))


def convolution(mode: str, lmax: int, channels: int) -> o3.TensorProduct:
    """e3nn's product of features and harmonics with weights from outside."""
    irreps, harmonics = features(lmax, channels), o3.Irreps.spherical_harmonics(lmax)
    if mode == "uvw":
        return o3.FullyConnectedTensorProduct(irreps, harmonics, irreps, shared_weights=False)
    blocks, entries = [], []
    for i, (mul, one) in enumerate(irreps):
        for j, (_, two) in enumerate(harmonics):
            for three in one * two:
                if three in irreps:
                    entries.append((i, j, len(blocks), "uvu", True))
                    blocks.append((mul, three))
    outputs, place, _ = o3.Irreps(blocks).sort()
    entries = [(i, j, place[k], mode, weighted) for i, j, k, mode, weighted in entries]
    return o3.TensorProduct(
        irreps, harmonics, outputs, entries, shared_weights=False, internal_weights=False
    )


def ways_of(mode: str, lmax: int, channels: int, edges: int, nodes: int) -> dict[str, Way]:
    """Result and gradients of both, from the same inputs."""
    product = convolution(mode, lmax, channels)
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(nodes, (2, edges), generator=generator)
    index[1] = index[1].sort()[0]
    x = torch.randn(nodes, product.irreps_in1.dim, generator=generator, requires_grad=True)
    vectors = torch.randn(edges, 3, generator=generator, requires_grad=True)
    weights = torch.randn(edges, product.weight_numel, generator=generator, requires_grad=True)
    inputs = (x, vectors, weights)

    def theirs() -> tuple[Tensor, ...]:
        y = o3.spherical_harmonics(product.irreps_in2, vectors, True, normalization="component")
        messages = product(x[index[0]], y, weights)
        total = messages.new_zeros(nodes, messages.shape[1]).index_add(0, index[1], messages)
        return (total, *torch.autograd.grad(total.square().sum(), inputs))

    def finished(total: Tensor) -> tuple[Tensor, ...]:
        return (total, *torch.autograd.grad(total.square().sum(), inputs))

    if mode == "uvu":
        channelwise = ChannelProduct.from_e3nn(product)

        def ours() -> tuple[Tensor, ...]:
            units = lengths_and_units(vectors)[1]
            return finished(channelwise(x, units, index, weights))

        return {"e3nn": theirs, "transferred": ours}
    aligned = AlignedProduct.from_e3nn(product)

    def ours() -> tuple[Tensor, ...]:
        return finished(aligned(x, EdgeAlignment(vectors, index, nodes), weights))

    return {"e3nn": theirs, "transferred": ours}


def interleaved(ways: dict[str, Way], repeats: int) -> dict[str, float]:
    """Median milliseconds of processor time, taken in turns."""
    for way in ways.values():
        for _ in range(3):
            way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.process_time()
            way()
            times[name].append(1e3 * (time.process_time() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def distance(ways: dict[str, Way]) -> float:
    """Largest relative difference of results and gradients, in the precision of the timing."""
    first, second = (way() for way in ways.values())
    return max(float(((a - b).abs().max() / a.abs().max()).detach()) for a, b in zip(first, second))


def products(arguments: argparse.Namespace) -> None:
    print(f"{arguments.edges} edges, {arguments.nodes} nodes, float32, forward and backward, ms")
    for mode, channels, degrees in CASES:
        for lmax in degrees:
            ways = ways_of(mode, lmax, channels, arguments.edges, arguments.nodes)
            times = interleaved(ways, arguments.repeats)
            ratio = times["e3nn"] / times["transferred"]
            print(
                f"{mode} {channels} channels L = {lmax}: e3nn {times['e3nn']:8.1f}  "
                f"transferred {times['transferred']:7.1f}  ratio {ratio:5.1f}  "
                f"difference {distance(ways):.0e}",
                flush=True,
            )


class Published(nn.Module):
    """e3nn's product in the place of a `ChannelProduct`, with the same paths."""

    def __init__(self, ours: ChannelProduct) -> None:
        super().__init__()
        paths = ours.paths
        self.irreps_out, self.num_weights = ours.irreps_out, ours.num_weights
        self.harmonics = o3.Irreps.spherical_harmonics(paths.lmax)
        entries = [(p.source, p.degree, p.target, "uvu", True) for p in paths.paths]
        blocks = (str(paths.irreps_in), self.harmonics, str(paths.irreps_out))
        free = {"shared_weights": False, "internal_weights": False}
        self.product = o3.TensorProduct(*blocks, entries, **free)

    def forward(self, x: Tensor, units: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        """Sums at the receivers, or messages of edges."""
        y = o3.spherical_harmonics(self.harmonics, units, False, normalization="component")
        if len(x) == len(weights):  # features of edges: nothing is gathered or summed
            return self.product(x, y, weights)
        messages = self.product(x[index[0]], y, weights)
        return messages.new_zeros(len(x), messages.shape[1]).index_add(0, index[1], messages)


def published(potential: Potential) -> Potential:
    """The same network, every product of edges by e3nn."""
    twin = copy.deepcopy(potential)
    for layer in twin.network.layers:
        layer.first, layer.second = Published(layer.first), Published(layer.second)
    return twin


def batch_of(molecules: int) -> Batch:
    """Ethanols, random positions."""
    z = torch.tensor([6, 6, 8, 1, 1, 1, 1, 1, 1])
    structures = [
        attach_neighbors(make_structure(z, 1.5 * torch.randn(9, 3, dtype=torch.float64)), 4.5)
        for _ in range(molecules)
    ]
    return Batch.from_data_list(structures)


def forms(arguments: argparse.Namespace) -> None:
    """A training step on energies and forces of each network in tensors and in frames."""
    torch.manual_seed(0)
    batch = batch_of(arguments.molecules)
    count = arguments.channels
    irreps = str(features(2, count))
    sizes = {"layers": 2, "channels": 64, "cutoff": 4.5}
    tensornet = TensorNetConfig(layers=2, channels=count, cutoff=4.5)
    descriptions: dict[str, TensorFieldConfig | TensorNetConfig] = {
        "NequIP": TensorFieldConfig(irreps=irreps, **sizes),
        "MACE": TensorFieldConfig(irreps=irreps, correlation=3, **sizes),
        "Equiformer": TensorFieldConfig(irreps=irreps, interaction="attention", **sizes),
        "PaiNN": TensorFieldConfig(irreps=str(features(1, count)), interaction="painn", **sizes),
        "EGNN": TensorFieldConfig(irreps=f"{count}x0e+1x1o", interaction="egnn", **sizes),
        "TensorNet": tensornet,
    }
    print(f"{batch.edge_index.shape[1]} edges, {count} channels, a training step, ms")
    for name, config in descriptions.items():
        pair = {"tensors": config, "frames": config.local()}
        potentials = {
            form: build_potential(each, elements=(1, 6, 8)).train() for form, each in pair.items()
        }
        times = interleaved(
            {k: step_of(p, batch) for k, p in potentials.items()}, arguments.repeats
        )
        first, second = (sum(w.numel() for w in p.parameters()) for p in potentials.values())
        print(
            f"{name:<10} tensors {times['tensors']:6.0f} ({first} weights)  "
            f"frames {times['frames']:6.0f} ({second})  "
            f"ratio {times['tensors'] / times['frames']:.1f}",
            flush=True,
        )


def networks(arguments: argparse.Namespace) -> None:
    """A training step of the attention form by e3nn, of ours, and of LoCaFormer."""
    torch.manual_seed(0)
    for lmax in arguments.degrees:
        channels = arguments.channels
        irreps = str(features(lmax, channels))
        config = TensorFieldConfig(
            irreps=irreps, interaction="attention", lmax=lmax, layers=2, channels=64, cutoff=4.5
        )
        batch = batch_of(arguments.molecules)
        transferred = build_potential(config, elements=(1, 6, 8)).train()
        potentials = {
            "e3nn": published(transferred),
            "transferred": transferred,
            "local": build_potential(config.local(), elements=(1, 6, 8)).train(),
        }
        results = [p(batch)["forces"] for p in (potentials["e3nn"], transferred)]
        difference = ((results[0] - results[1]).abs().max() / results[0].abs().max()).item()
        ways = {name: step_of(potential, batch) for name, potential in potentials.items()}
        times = interleaved(ways, arguments.repeats)
        sizes = [sum(w.numel() for w in p.parameters()) for p in potentials.values()]
        print(
            f"{irreps}, {batch.edge_index.shape[1]} edges: e3nn {times['e3nn']:.0f} ms  "
            f"transferred {times['transferred']:.0f} ms  LoCaFormer {times['local']:.0f} ms  "
            f"ratios {times['e3nn'] / times['local']:.1f} and "
            f"{times['transferred'] / times['local']:.1f}  "
            f"parameters {sizes[1]} and {sizes[2]}  forces differ by {difference:.0e}",
            flush=True,
        )


def step_of(potential: Potential, batch: Batch) -> Way:
    """Energies, forces and the gradient of a loss by all weights."""

    def step() -> tuple[Tensor, ...]:
        results = potential(batch)
        loss = results["energy"].square().mean() + results["forces"].square().mean()
        weights = list(potential.parameters())
        return torch.autograd.grad(loss, weights, allow_unused=True)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edges", type=int, default=3000)
    parser.add_argument("--nodes", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--mode", choices=("products", "networks", "forms"), default="products")
    parser.add_argument("--channels", type=int, default=32, help="of a degree, in networks")
    parser.add_argument("--degrees", type=int, nargs="+", default=[1, 2, 3], help="in networks")
    parser.add_argument("--molecules", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {platform.machine()}, one thread")
    {"products": products, "networks": networks, "forms": forms}[arguments.mode](arguments)


if __name__ == "__main__":
    main()
