"""Features carried between frames along the edges of one graph.

    between       y_e = act(R_i) act(R_j^T) x_j             edge e from j to i                (1)
    sum           y_i = act(R_i) sum_e w_e act(R_j^T) x_j   linear: no rotation per edge      (2)

Each feature is turned into the global frame once a node, before it is gathered, and into the
receiver's frame once an edge, or once a node after the sum. For orthogonal frames (1) is act(R_i
R_j^T) x_j. For soft frames it is its definition: U_j^T keeps of x_j what the site of j can express,
U_i what the site of i can; both factors fade together, and act(U_i U_j^T) would differ from (1) for
irreps, because P_l(U_i U_j^T) forgets the projection between. Either is invariant; (1) is cheaper
and needs no matrix per edge.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from dreibein.o3 import Action, Learned, Reps, caching_mode, check_features

from .frames import Frames
from .kernels import carry, gather
from .layout import (
    LARGEST_BLOCK,
    EdgePlan,
    Layout,
    layout_of,
    packed_matrices,
    plan_edges,
    plan_rows,
)

BACKENDS = ("auto", "reference", "fused")
_FUSED_WORK = 1 << 16
"""Components (edges times width) from which "auto" takes the compiled kernels."""


class Transport:
    """Frames and edges of one graph, with everything that depends on nothing else.

    Make it once a forward pass and hand it to every layer; matrices are computed at first use and
    kept.

    Args:
        frames: of the senders, and of the receivers unless `targets` is given.
        edge_index: [2, E] int64, row 0 the sender j, row 1 the receiver i, in any order.
        targets: frames of the receivers where they are other nodes (bipartite graphs), one each.
        backend: "reference" is plain PyTorch, for every device and type; "fused" is compiled, for
            float32 and float64 on the CPU; "auto" is "fused" there for large graphs.

    Raises:
        ValueError: for wrong shapes or an unknown backend.

    >>> from dreibein.o3 import Irreps
    >>> frames = Frames(torch.stack([torch.eye(3), torch.eye(3).flip(0)]))
    >>> transport = Transport(frames, torch.tensor([[0], [1]]))
    >>> transport.between(Irreps("1o"), torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]))
    tensor([[3., 2., 1.]])
    """

    def __init__(
        self,
        frames: Frames,
        edge_index: Tensor,
        *,
        targets: Frames | None = None,
        backend: str = "auto",
    ):
        if edge_index.ndim != 2 or len(edge_index) != 2 or edge_index.dtype != torch.int64:
            raise ValueError(
                f"edge_index is [2, E] int64, got {list(edge_index.shape)} {edge_index.dtype}"
            )
        if backend not in BACKENDS:
            raise ValueError(f"backend is one of {BACKENDS}, got {backend!r}")
        self.frames = frames
        self.targets = frames if targets is None else targets
        self.edge_index = edge_index
        self.backend = backend
        self._plans: dict[str, EdgePlan] = {}
        self._selected: dict[tuple[bool, bool], Action] = {}

    @property
    def sender(self) -> Tensor:
        """Node j of each edge, [E]."""
        return self.edge_index[0]

    @property
    def receiver(self) -> Tensor:
        """Node i of each edge, [E]."""
        return self.edge_index[1]

    @property
    def is_trivial(self) -> bool:
        """Whether connected nodes have the same orthogonal frame, so that nothing is turned."""
        return self.frames.uniform and self.targets is self.frames

    @property
    def transitions(self) -> Tensor:
        """U_ij = R_i R_j^T, [E, 3, 3], invariant."""
        first, second = self.targets.matrices, self.frames.matrices
        return _rows(first, self.receiver) @ _rows(second, self.sender).mT

    def backend_for(self, rep: Reps, x: Tensor) -> str:
        """What `between` runs for these features: "reference" or "fused"."""
        return self._backend(layout_of(rep), x, self.edge_index.shape[1])

    def to_local(self, rep: Reps, x: Tensor) -> Tensor:
        """act(rep, R_j, x_j) of the nodes of `frames`, [N, rep.dim]."""
        return self._turn_nodes(self.frames, rep, x, transpose=False)

    def to_global(self, rep: Reps, x: Tensor) -> Tensor:
        """act(rep, R_j^T, x_j) of the nodes of `frames`, [N, rep.dim]."""
        return self._turn_nodes(self.frames, rep, x, transpose=True)

    def between(self, rep: Reps, x: Tensor, *, learned: Learned | None = None) -> Tensor:
        """Equation (1): features [E, rep.dim] of the senders, in the frames of the receivers.

        Args:
            rep: what x transforms as.
            x: local features of the senders [N, rep.dim].
            learned: f(U_ij, x_j) for `MLPReps` parts.
        """
        check_features(rep, x)
        if rep.needs_learned:
            return self._with_learned(rep, x, learned)
        if self.is_trivial:
            return x.index_select(0, self.sender)
        layout = layout_of(rep)
        x = self.to_global(rep, x)
        if self._backend(layout, x, self.edge_index.shape[1]) == "fused":
            matrices = packed_matrices(self.targets.action, layout, x.dtype)
            return carry(matrices, x, self._plan("edges"), layout)
        return self._receivers().apply(rep, x.index_select(0, self.sender))

    def edges_to_local(self, rep: Reps, x: Tensor) -> Tensor:
        """act(rep, R_i, x_e): global features of edges [E, rep.dim] in the receivers' frames."""
        return self._turn_edges(rep, x, transpose=False)

    def edges_to_global(self, rep: Reps, x: Tensor) -> Tensor:
        """act(rep, R_i^T, x_e): features of edges in the receivers' frames as global ones."""
        return self._turn_edges(rep, x, transpose=True)

    def sum(self, rep: Reps, x: Tensor, weights: Tensor | None = None) -> Tensor:
        """Equation (2): the sum over senders, in the frames of the receivers, [N_targets, rep.dim].

        Args:
            rep: what x transforms as.
            x: local features of the senders [N, rep.dim].
            weights: invariant w [E], or [E, rep.num_channels] for each channel its own; default 1.
        """
        check_features(rep, x)
        message = self.to_global(rep, x).index_select(0, self.sender)
        if weights is not None and weights.ndim == 2:
            index = torch.tensor(rep.channel_index, dtype=torch.int64, device=weights.device)
            message = message * weights.to(x.dtype).index_select(1, index)
        elif weights is not None:
            message = message * weights.to(x.dtype)[:, None]
        count = len(x) if self.targets is self.frames else len(self.targets)
        total = message.new_zeros(count, rep.dim).index_add(0, self.receiver, message)
        return self._turn_nodes(self.targets, rep, total, transpose=False)

    def _backend(self, layout: Layout, x: Tensor, rows: int) -> str:
        able = (
            x.device.type == "cpu"
            and x.dtype in (torch.float32, torch.float64)
            and layout.largest <= LARGEST_BLOCK
            and len(self.frames) > 1
            and len(self.targets) > 1
        )
        if self.backend == "fused" and not able:
            raise ValueError(
                "fused transport takes float32 and float64 on the CPU and blocks of up to "
                f"{LARGEST_BLOCK} components on at least two frames, got {x.dtype} on {x.device}, "
                f"{layout.largest} components on {len(self.frames)}"
            )
        if self.backend == "auto":
            return "fused" if able and rows * x.shape[1] >= _FUSED_WORK else "reference"
        return self.backend

    def _turn_nodes(self, frames: Frames, rep: Reps, x: Tensor, *, transpose: bool) -> Tensor:
        if frames.is_identity:
            check_features(rep, x)
            return x
        if len(frames) not in (1, len(x)):
            raise ValueError(f"features of {len(x)} nodes meet frames of {len(frames)}")
        if len(frames) == 1 or rep.needs_learned:
            return frames.action.apply(rep, x, transpose=transpose)
        return self._turn_rows(frames.action, rep, x, "nodes", transpose)

    def _turn_edges(self, rep: Reps, x: Tensor, *, transpose: bool) -> Tensor:
        if self.targets.is_identity:
            check_features(rep, x)
            return x
        if len(self.targets) == 1 or rep.needs_learned:
            return self._receivers().apply(rep, x, transpose=transpose)
        return self._turn_rows(self.targets.action, rep, x, "edge rows", transpose)

    def _turn_rows(
        self, action: Action, rep: Reps, x: Tensor, plan: str, transpose: bool
    ) -> Tensor:
        check_features(rep, x)
        layout = layout_of(rep)
        if self._backend(layout, x, len(x)) == "fused":
            matrices = packed_matrices(action, layout, x.dtype)
            return (gather if transpose else carry)(matrices, x, self._plan(plan, len(x)), layout)
        action = action if plan == "nodes" else self._receivers()
        return action.apply(rep, x, transpose=transpose)

    def _with_learned(self, rep: Reps, x: Tensor, learned: Learned | None) -> Tensor:
        if learned is None:
            raise ValueError(f"{rep!r} has an MLPReps part, pass learned=f with f(U_ij, x_j) -> y")
        pieces, start = [], 0
        for part in rep.parts:
            piece = x[:, start : start + part.dim]
            start += part.dim
            if part.needs_learned:
                pieces.append(learned(self.transitions, piece.index_select(0, self.sender)))
            else:
                pieces.append(self.between(part, piece))
        return torch.cat(pieces, -1)

    def _receivers(self) -> Action:
        action, mode = self.targets.action, caching_mode()
        if len(self.targets) == 1:
            return action
        if mode not in self._selected:
            self._selected[mode] = action.select(self.receiver)
        return self._selected[mode]

    def _plan(self, name: str, count: int = 0) -> EdgePlan:
        build: dict[str, Callable[[], EdgePlan]] = {
            "nodes": lambda: plan_rows(count),
            "edges": lambda: plan_edges(
                self.sender, self.receiver, len(self.frames), len(self.targets)
            ),
            "edge rows": lambda: plan_edges(
                torch.arange(count), self.receiver, count, len(self.targets)
            ),
        }
        key = f"{name} {count}"
        if key not in self._plans:
            self._plans[key] = build[name]()
        return self._plans[key]


def _rows(matrices: Tensor, index: Tensor) -> Tensor:
    return matrices.expand(len(index), 3, 3) if len(matrices) == 1 else matrices[index]
