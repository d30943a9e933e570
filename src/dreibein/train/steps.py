"""One step: loss, gradient, clipping, optimizer, average, and a look at its health."""

import warnings
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch_geometric.data import Batch

from dreibein.train.averaging import WeightAverage
from dreibein.train.config import LossTerm, TrainingConfig
from dreibein.train.devices import add_up
from dreibein.train.diagnosis import Finding, agree, explain
from dreibein.train.hessians import HESSIAN, check_term, predict_with_products
from dreibein.train.losses import loss_sums, weights
from dreibein.train.schedule import LearningRate

NUM_VOTES = 3
FIRST_TERMS = ("energy", "forces", "stress")  # of sums in checkpoints that do not name them


@dataclass(frozen=True)
class _Result:
    """What is looked at after a step."""

    step: int
    batch: Batch
    predictions: dict[str, Tensor]
    health: Tensor  # finite loss and gradient norm
    votes: Tensor


class Stepper:
    """loss = sum over labels of weight · (penalties of all processes) / (labels of all processes).

    Each process holds its share of a step; its loss is multiplied by the number of processes
    because DDP averages gradients. The step of W processes is therefore that of one with the
    whole batch.

    On a GPU the health of a step is looked at one step later, so that nothing waits for the
    device; weights of a sick step are never saved.

    Args:
        config: All choices.
        fabric: The launched processes.
        potential: On the fabric's device; its forward gives predictions by name.
        terms: Terms of the loss by label.
        rate: Learning rate of each step.
        describe: Name of the k-th structure of a batch, for messages.
    """

    def __init__(
        self,
        config: TrainingConfig,
        fabric: Fabric,
        potential: nn.Module,
        terms: Mapping[str, LossTerm],
        rate: LearningRate,
        describe: Callable[[Batch, int], str],
    ) -> None:
        check_term(terms, fabric.world_size)
        self.seed = config.order_seed
        self.clip, self.fabric, self.potential = config.gradient_clip, fabric, potential
        self.terms, self.rate, self.describe = terms, rate, describe
        self.weights = weights(terms, fabric.device)
        self.heads: tuple[str, ...] = getattr(potential, "heads", ("energy",))
        self.compute = tuple(dict.fromkeys((*self.heads, *terms)))
        self.parameters = [p for p in potential.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.lr,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*broadcast_buffers.*deprecated")
            self.module, self.optimizer = fabric.setup(potential, optimizer)
        self.average = WeightAverage(potential, config.ema_decay)
        self.sums = torch.zeros(2, len(terms), dtype=torch.float64, device=fabric.device)
        self.lag = 0 if fabric.device.type == "cpu" else 1
        self.waiting: deque[_Result] = deque()

    def step(self, batch: Batch, step: int, votes: list[float]) -> list[float]:
        """Take step number `step` (from 0).

        Args:
            batch: This process's share.
            step: Sets the learning rate and the average's decay.
            votes: Whether this process wants each of `NUM_VOTES` things.

        Returns:
            How many processes want each of them.

        Raises:
            ValueError: The loss or the gradient is not finite; says which frames and why.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        if HESSIAN in self.terms:
            seed = (self.seed, step)
            predictions = predict_with_products(self.module, batch, self.compute, seed)
        else:
            predictions = self.module(batch, compute=self.compute)
        found = loss_sums(predictions, batch, self.terms)
        counts = torch.cat((found.counts, found.counts.new_tensor(votes)))
        counts = add_up(self.fabric, counts)
        counts, total_votes = counts[: len(self.terms)], counts[len(self.terms) :]
        factors = self.weights * (self.fabric.world_size / counts.clamp(min=1.0))
        loss = torch.dot(factors, found.sums)
        for name in self.heads:  # every weight takes part in every step: DDP waits for it
            if name not in self.terms:
                loss = loss + 0.0 * predictions[name].sum()
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        norm = self._clip_gradient()
        self.sums += torch.stack((found.sums.detach(), found.counts))
        health = torch.stack((loss.detach(), norm.double()))
        if not self.lag and self.fabric.world_size == 1:
            total_votes = torch.tensor(votes)
        detached = {name: value.detach() for name, value in predictions.items()}
        self.waiting.append(_Result(step, batch, detached, health, total_votes))
        seen = self.look(self.lag)
        self.optimizer.step()
        self.average.update(step)
        return seen

    @torch.no_grad()
    def _clip_gradient(self) -> Tensor:
        """Norm of the gradient [ ]; scales the gradient down to the limit."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if self.clip is not None:
            torch._foreach_mul_(gradients, (self.clip / norm.clamp(min=self.clip)))
        return norm

    def look(self, lag: int = 0) -> list[float]:
        """Look at the steps not looked at yet, but for the last `lag`; their votes added up."""
        seen = [0.0] * NUM_VOTES
        while len(self.waiting) > lag:
            result = self.waiting.popleft()
            if not bool(torch.isfinite(result.health).all()):
                raise ValueError(f"step {result.step}: {agree(self.fabric, self._find(result))}")
            seen = [a + b for a, b in zip(seen, result.votes.tolist(), strict=True)]
        return seen

    def _find(self, result: _Result) -> Finding:
        return explain(
            result.batch,
            result.predictions,
            self.terms,
            lambda k: self.describe(result.batch, k),
        )

    def take_sums(self) -> Tensor:
        """Penalties and counts [2, T] of all processes since the last call."""
        total = add_up(self.fabric, self.sums)
        self.sums = torch.zeros_like(self.sums)
        return total.cpu()

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs; the same on every process but for `sums`, which are added up."""
        sums = add_up(self.fabric, self.sums.clone())
        return {
            "weights": self.potential.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict(),
            "rate": self.rate.state_dict(),
            "sums": sums,
            "terms": list(self.terms),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.potential.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        self.rate.load_state_dict(state["rate"])
        if self.fabric.global_rank == 0:
            names = state.get("terms", FIRST_TERMS)
            columns = [names.index(name) for name in self.terms]
            self.sums = state["sums"][:, columns].to(self.sums.device)


def losses_of(sums: Tensor, terms: Mapping[str, LossTerm]) -> dict[str, float]:
    """Mean penalties per label from sums and counts [2, T], and their weighted sum as "loss"."""
    means = (sums[0] / sums[1].clamp(min=1.0)).tolist()
    found = dict(zip(terms, means, strict=True))
    total = sum(terms[name].weight * value for name, value in found.items())
    return {"loss": total, **{f"{name}_loss": value for name, value in found.items()}}
