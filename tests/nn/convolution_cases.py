"""Every convolution of PyTorch Geometric that can be localized, on one small graph."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn

from dreibein.frames import Frames
from dreibein.nn.localization import localize
from dreibein.o3 import act, parse_reps, random_rotations

REPS = "4x0e+1x0o+1x1o+1x1e+1x2e"
WIDTH = 16
NODES = 9
VECTOR = "1x1o"


def mlp(inward: int, outward: int, hidden: int = 12) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inward, hidden), nn.SiLU(), nn.Linear(hidden, outward))


@dataclass
class Graph:
    """Global features of a directed graph in which every node has a neighbor."""

    x: Tensor
    x_0: Tensor
    pos: Tensor
    normal: Tensor
    edge_index: Tensor
    edge_attr: Tensor
    edge_weight: Tensor
    edge_type: Tensor
    node_type: Tensor
    frames: Frames

    def turned(self, g: Tensor) -> "Graph":
        rep, vector = parse_reps(REPS), parse_reps(VECTOR)
        return Graph(
            act(rep, g, self.x),
            act(rep, g, self.x_0),
            act(vector, g, self.pos),
            act(vector, g, self.normal),
            self.edge_index,
            act(vector, g, self.edge_attr),
            self.edge_weight,
            self.edge_type,
            self.node_type,
            Frames(self.frames.matrices @ g.T),
        )


def orthogonal(count: int, generator: torch.Generator) -> Tensor:
    turns = random_rotations(count, generator=generator, dtype=torch.float64)
    turns[::2] *= -1
    return turns


def make_graph(seed: int = 0) -> Graph:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    ring = torch.arange(NODES)
    edges = torch.randint(0, NODES, (2, 24), generator=generator)
    edges = edges[:, edges[0] != edges[1]]
    # each node has a neighbor; one edge comes twice
    edge_index = torch.cat((torch.stack((ring, ring.roll(1))), edges, edges[:, :1]), 1)
    count = edge_index.shape[1]
    return Graph(
        normal(NODES, WIDTH),
        normal(NODES, WIDTH),
        normal(NODES, 3),
        normal(NODES, 3),
        edge_index,
        normal(count, 3),
        normal(count).abs() + 0.1,
        torch.randint(0, 3, (count,), generator=generator),
        torch.randint(0, 2, (NODES,), generator=generator),
        Frames(orthogonal(NODES, generator)),
    )


@dataclass
class Case:
    """One layer: how it is made, what it takes besides x and edges, how far its messages go."""

    name: str
    make: Callable[[], nn.Module]
    takes: tuple[str, ...] = ("edge_index",)
    one_hop: bool = True
    out_reps: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        torch.manual_seed(1)
        layer = self.make().double().eval()
        for parameter in layer.parameters():
            if parameter.numel() and float(parameter.detach().abs().max()) == 0:
                nn.init.normal_(parameter, std=0.3)  # biases that start from zero hide mistakes
        return layer

    def arguments(self, graph: Graph) -> dict[str, Any]:
        names = {"pos_edge_index": "edge_index", "neg_edge_index": "edge_index"}
        given = {name: getattr(graph, names.get(name, name)) for name in self.takes}
        if "neg_edge_index" in given:
            given["neg_edge_index"] = graph.edge_index.flip(0)[:, :12]
        if "hops" in self.options:
            graph_x = torch.stack([graph.x, graph.x_0], 1)
            given["x"] = graph_x
        return given

    def plain(self, layer: nn.Module, graph: Graph) -> Tensor:
        given = self.arguments(graph)
        out = layer(given.pop("x", graph.x), **given)
        return out[0] if isinstance(out, tuple) else out

    def localized(self, layer: nn.Module, graph: Graph, frames: Frames) -> Tensor:
        edge_reps = VECTOR if "edge_attr" in self.takes else None
        wrapped = localize(layer, REPS, out_reps=self.out_reps, edge_reps=edge_reps)
        given = self.arguments(graph)
        out = wrapped(given.pop("x", graph.x), frames, **given)
        return out[0] if isinstance(out, tuple) else out


W, EDGE = WIDTH, ("edge_index", "edge_attr")
WEIGHT, TYPE = ("edge_index", "edge_weight"), ("edge_index", "edge_type")
DEGREES = torch.tensor([0, 2, 3, 2, 1, 1])

CASES = [
    Case("SimpleConv", lambda: pyg.SimpleConv("mean", combine_root="sum"), WEIGHT),
    Case("GCNConv", lambda: pyg.GCNConv(W, W), WEIGHT),
    Case("ChebConv", lambda: pyg.ChebConv(W, W, K=3), WEIGHT, one_hop=False),
    Case("SAGEConv", lambda: pyg.SAGEConv(W, W, project=True, normalize=True)),
    Case("GraphConv", lambda: pyg.GraphConv(W, W), WEIGHT),
    Case("GatedGraphConv", lambda: pyg.GatedGraphConv(W, 2), WEIGHT, one_hop=False),
    Case("ResGatedGraphConv", lambda: pyg.ResGatedGraphConv(W, W, edge_dim=3), EDGE),
    Case("GATConv", lambda: pyg.GATConv(W, 4, heads=4, edge_dim=3), EDGE),
    Case("GATv2Conv", lambda: pyg.GATv2Conv(W, 4, heads=4, edge_dim=3), EDGE),
    Case("TransformerConv", lambda: pyg.TransformerConv(W, 4, 4, beta=True, edge_dim=3), EDGE),
    Case("AGNNConv", lambda: pyg.AGNNConv()),
    Case("TAGConv", lambda: pyg.TAGConv(W, W, K=2), WEIGHT, one_hop=False),
    Case("GINConv", lambda: pyg.GINConv(mlp(W, W), train_eps=True)),
    Case("GINEConv", lambda: pyg.GINEConv(mlp(W, W), edge_dim=3), EDGE),
    Case("ARMAConv", lambda: pyg.ARMAConv(W, W, 2, 2), WEIGHT, one_hop=False),
    Case("SGConv", lambda: pyg.SGConv(W, W, K=2), WEIGHT, one_hop=False),
    Case("SSGConv", lambda: pyg.SSGConv(W, W, alpha=0.2, K=2), WEIGHT, one_hop=False),
    Case("APPNP", lambda: pyg.APPNP(K=3, alpha=0.1), WEIGHT, one_hop=False),
    Case("MFConv", lambda: pyg.MFConv(W, W)),
    Case("RGCNConv", lambda: pyg.RGCNConv(W, W, 3), TYPE),
    Case("FastRGCNConv", lambda: pyg.FastRGCNConv(W, W, 3), TYPE),
    Case("RGATConv", lambda: pyg.RGATConv(W, W, 3, edge_dim=3), (*TYPE, "edge_attr")),
    Case(
        "SignedConv",
        lambda: pyg.SignedConv(W, W // 2, first_aggr=True),
        ("pos_edge_index", "neg_edge_index"),
    ),
    Case("DNAConv", lambda: pyg.DNAConv(W, heads=2, groups=2), WEIGHT, options={"hops": 2}),
    Case("PointNetConv", lambda: pyg.PointNetConv(mlp(W + 3, W), mlp(W, W)), ("pos", "edge_index")),
    Case("GMMConv", lambda: pyg.GMMConv(W, W, dim=3, kernel_size=4), EDGE),
    Case("NNConv", lambda: pyg.NNConv(W, W, mlp(3, W * W)), EDGE),
    Case("CGConv", lambda: pyg.CGConv(W, dim=3, batch_norm=True), EDGE),
    Case("EdgeConv", lambda: pyg.EdgeConv(mlp(2 * W, W))),
    Case(
        "PPFConv",
        lambda: pyg.PPFConv(mlp(W + 4, W), mlp(W, W)),
        ("pos", "normal", "edge_index"),
    ),
    Case("FeaStConv", lambda: pyg.FeaStConv(W, W, heads=2)),
    Case("PointTransformerConv", lambda: pyg.PointTransformerConv(W, W), ("pos", "edge_index")),
    Case("LEConv", lambda: pyg.LEConv(W, W), WEIGHT),
    Case(
        "PNAConv",
        lambda: pyg.PNAConv(
            W, W, ["mean", "max", "std"], ["identity", "amplification"], DEGREES, edge_dim=3
        ),
        EDGE,
    ),
    Case("ClusterGCNConv", lambda: pyg.ClusterGCNConv(W, W, diag_lambda=0.5)),
    Case("GENConv", lambda: pyg.GENConv(W, W, edge_dim=3, learn_t=True), EDGE),
    Case("GCN2Conv", lambda: pyg.GCN2Conv(W, 0.1, 0.5, 1), ("x_0", *WEIGHT)),
    Case("WLConvContinuous", lambda: pyg.WLConvContinuous(), WEIGHT),
    Case("FiLMConv", lambda: pyg.FiLMConv(W, W, num_relations=3), TYPE),
    Case("SuperGATConv", lambda: pyg.SuperGATConv(W, 4, heads=4)),
    Case("FAConv", lambda: pyg.FAConv(W), ("x_0", "edge_index")),
    Case("EGConv", lambda: pyg.EGConv(W, W, ["symnorm", "max"], num_heads=4)),
    # its normalization sums weights of the sender's edges, which are made in the sender's frame
    Case("PDNConv", lambda: pyg.PDNConv(W, W, edge_dim=3, hidden_channels=8), EDGE, one_hop=False),
    Case("GeneralConv", lambda: pyg.GeneralConv(W, W, 3, attention=True, heads=2), EDGE),
    Case(
        "HEATConv",
        lambda: pyg.HEATConv(W, 8, 2, 3, 4, 3, 5, heads=2),
        ("edge_index", "node_type", "edge_type", "edge_attr"),
    ),
    Case("LGConv", lambda: pyg.LGConv(), WEIGHT),
    Case(
        "PointGNNConv",
        lambda: pyg.PointGNNConv(mlp(W, 3), mlp(W + 3, W), mlp(W, W)),
        ("pos", "edge_index"),
    ),
    Case(
        "GPSConv",
        lambda: pyg.GPSConv(W, pyg.GATConv(W, W), heads=1, norm="layer_norm"),
        one_hop=False,
    ),
    Case("AntiSymmetricConv", lambda: pyg.AntiSymmetricConv(W, num_iters=2), one_hop=False),
    Case("DirGNNConv", lambda: pyg.DirGNNConv(pyg.SAGEConv(W, W))),
    Case(
        "MixHopConv",
        lambda: pyg.MixHopConv(W, W, [0, 1, 2]),
        WEIGHT,
        False,
        f"{REPS}+{REPS}+{REPS}",
    ),
]
CASES_BY_NAME = {case.name: case for case in CASES}


def errors(case: Case) -> dict[str, float]:
    """Largest deviations, relative to the largest component of the result."""
    layer, graph = case.build(), make_graph()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        plain = case.plain(layer, graph)
        frameless = Frames(torch.eye(3, dtype=torch.float64).expand(NODES, 3, 3))
        found = {"identity": _relative(case.localized(layer, graph, frameless), plain)}
        out = case.localized(layer, graph, graph.frames)
        rep = parse_reps(case.out_reps or REPS)
        found["equivariance"] = 0.0
        for g in orthogonal(4, generator):
            turned = graph.turned(g)
            error = _relative(case.localized(layer, turned, turned.frames), act(rep, g, out))
            found["equivariance"] = max(found["equivariance"], error)
    return found


def in_each_frame(case: Case, layer: nn.Module) -> tuple[Tensor, Tensor]:
    """The localized result, and row i of the layer run on the whole graph written in frame i."""
    graph = make_graph()
    rep = parse_reps(case.out_reps or REPS)
    with torch.no_grad():
        out = case.localized(layer, graph, graph.frames)
        rows = [
            act(rep, R.T, case.plain(layer, graph.turned(R))[i])
            for i, R in enumerate(graph.frames.matrices)
        ]
    return out, torch.stack(rows)


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())
