"""Batches on a local Dask cluster of two workers, one of them killed half-way."""

import os
import signal

import ase.io
import pytest
import torch
from ase.build import molecule

from dreibein.models import TensorNetConfig, build_potential, save_model
from dreibein.simulate import predict_structures
from dreibein.simulate.dask_predictions import predict_with_dask

distributed = pytest.importorskip("distributed", reason='needs Dask: pip install "dreibein[dask]"')


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    config = TensorNetConfig(channels=8, layers=1, cutoff=3.5, num_radial=8)
    potential = build_potential(config, elements=(1, 6, 8), dtype=torch.float64)
    return save_model(potential, tmp_path / "model.safetensors")


@pytest.fixture
def frames(tmp_path):
    found = []
    for k in range(60):
        atoms = molecule(("H2O", "CH4", "CH3OH")[k % 3])
        atoms.rattle(0.05, seed=k)
        found.append(atoms)
    ase.io.write(tmp_path / "frames.xyz", found)
    return tmp_path / "frames.xyz"


def test_a_killed_worker_loses_nothing_and_doubles_nothing(model, frames, tmp_path):
    from dreibein.models import load_model

    expected = tmp_path / "one.extxyz"
    predict_structures([frames], load_model(model), expected, batch_atoms=10)
    killed = []

    def kill_one(done, total, note):
        if done >= 20 and not killed:
            killed.append(cluster.workers[0].pid)
            os.kill(killed[0], signal.SIGKILL)

    with (
        distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        output = tmp_path / "two.extxyz"
        count = predict_with_dask(
            [frames], model, output, client, batch_atoms=10, progress=kill_one
        )
        assert killed
    assert count == 60
    names = [atoms.info["source"] for atoms in ase.io.read(output, ":")]
    assert names == [f"frames.xyz, frame {k}" for k in range(60)]
    assert output.read_text() == expected.read_text()
    assert not list(tmp_path.glob("*.progress.json"))


def test_a_dropped_batch_is_said_and_the_next_call_goes_on(model, frames, tmp_path):
    output = tmp_path / "one.extxyz"

    def drop(done, total, note):
        tasks = [key for key in client.futures if str(key).startswith("evaluate_remotely")]
        client.cancel([distributed.Future(key, client) for key in tasks], force=True)

    with (
        distributed.LocalCluster(
            1, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        with pytest.raises(OSError, match=r"dropped a batch .* give the same command"):
            predict_with_dask([frames], model, output, client, batch_atoms=10, progress=drop)
        predict_with_dask([frames], model, output, client, batch_atoms=10)
    assert [atoms.info["source"] for atoms in ase.io.read(output, ":")] == [
        f"frames.xyz, frame {k}" for k in range(60)
    ]


def test_without_a_scheduler_one_sentence(model, frames, tmp_path, monkeypatch):
    def refused(*args, **kwargs):
        raise OSError("timed out")

    monkeypatch.setattr(distributed, "Client", refused)
    with pytest.raises(OSError, match="no Dask scheduler answers at tcp://nowhere:1"):
        predict_with_dask([frames], model, tmp_path / "a.extxyz", "tcp://nowhere:1")
