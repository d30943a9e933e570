"""A training in a process of its own: python worker.py FOLDER [key=value …].

Run by test_resume.py and test_processes.py; with `kill_at=N` it kills itself without warning
(SIGKILL) when step N is about to begin, with `nan_frame=K` the forces of frame K are NaN.
"""

import os
import signal
import sys
from pathlib import Path

import torch
import yaml

from dreibein.evaluate import ErrorMeter
from dreibein.train import TrainingConfig, fit
from dreibein.train.steps import Stepper


def main() -> None:
    from conftest import Clusters, masked, tiny  # of this folder: it is the script's

    folder = Path(sys.argv[1])
    values = dict(argument.split("=", 1) for argument in sys.argv[2:])
    kill_at = int(values.pop("kill_at", -1))
    nan_frame = int(values.pop("nan_frame", -1))
    config = TrainingConfig(**{name: yaml.safe_load(value) for name, value in values.items()})
    step = Stepper.step

    def fragile(self, batch, number, votes):
        if number == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch, number, votes)

    Stepper.step = fragile
    potential = tiny(dtype=getattr(torch, config.precision))
    data = masked(Clusters(17))
    if nan_frame >= 0:
        data.structures[nan_frame].forces[:] = torch.nan
    fit(config, potential, data, Clusters(9, seed=1), folder, meter=ErrorMeter)
    if os.environ.get("RANK", "0") == "0":
        torch.save(potential.state_dict(), folder / "weights.pt")


if __name__ == "__main__":
    main()
