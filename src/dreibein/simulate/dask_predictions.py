"""Many structures on many machines: batches as tasks of a Dask cluster."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms

from dreibein.nn.committee import freeze
from dreibein.nn.frozen import FrozenPotential
from dreibein.simulate.engines import import_engine
from dreibein.simulate.predictions import (
    BATCH_ATOMS,
    NamedFrame,
    Output,
    Progress,
    batches,
    evaluate_batch,
    read_frames,
)

if TYPE_CHECKING:
    from distributed import Client

# Batches handed out at once for each worker: enough that none waits, few enough to keep in memory.
_PER_WORKER = 3
# (hash of the model file, backend) -> its frozen potential, in a worker.
_loaded: dict[tuple[str, str], FrozenPotential] = {}


def predict_with_dask(
    sources: Sequence[str | Path],
    model: str | Path,
    output: str | Path,
    client: "Client | str",
    *,
    backend: str = "auto",
    batch_atoms: int = BATCH_ATOMS,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """What `predict_structures` does, with every batch evaluated by a worker of a Dask cluster.

    The model travels with the tasks, once to each worker; workers need this package and no common
    disk. A batch whose worker is lost is evaluated by another. Results are fetched as they are
    ready and written here, in the order of the frames, each frame once; a call that is interrupted
    goes on as that of `predict_structures`.

    Args:
        sources: Files that ASE reads, all their frames; read here.
        model: Model file, or folder of a run.
        output: An extxyz file.
        client: A `distributed.Client`, or the address of a scheduler ("tcp://host:8786").
        backend: "auto" or one of `dreibein.nn.BACKENDS`.
        batch_atoms: Atoms of a batch at most.
        overwrite: Replace an output that is there.
        progress: Called with frames done, 0 (the total is not known) and a note.

    Returns:
        Number of frames in the output.

    Raises:
        ImportError: Dask's `distributed` is missing.
        OSError: No scheduler at the address, or one that has given up a batch.
        ValueError: As `predict_structures`.
    """
    from dreibein.models import load_model, model_file

    distributed = import_engine("distributed", "dask")
    data = model_file(model).read_bytes()
    potential = freeze(load_model(model), backend)  # refuses here what workers would refuse
    cluster: Any = _connect(distributed, client) if isinstance(client, str) else client
    try:
        with Output(sources, potential, output, {}, overwrite) as file:
            # the result of a task, which is done again where its worker is lost; what is scattered
            # goes with the last worker that holds it
            whole = cluster.submit(bytes, data)
            waiting: dict[int, list[Atoms]] = {}
            parts = batches(read_frames(sources, file.done), batch_atoms)
            for first, frames in _evaluated(distributed, cluster, whole, backend, parts):
                waiting[first] = frames
                while file.done in waiting:
                    file.write(waiting.pop(file.done))
                    if progress is not None:
                        progress(file.done, 0, f"{len(cluster.nthreads())} workers")
            return file.done
    finally:
        if isinstance(client, str):
            cluster.close()


def _evaluated(
    distributed: Any, client: Any, model: Any, backend: str, parts: Iterator[list[NamedFrame]]
) -> Iterator[tuple[int, list[Atoms]]]:
    """(index of the first frame, frames with results) of each batch, in the order of arrival."""
    first: dict[str, int] = {}
    arriving = distributed.as_completed(with_results=True, raise_errors=True)

    def hand_out() -> bool:
        batch = next(parts, None)
        if batch is None:
            return False
        task = client.submit(evaluate_remotely, model, backend, batch, pure=False)
        first[task.key] = batch[0][0]
        arriving.add(task)
        return True

    for _ in range(_PER_WORKER * max(1, len(client.nthreads()))):
        if not hand_out():
            break
    for task, frames in arriving:
        if task.cancelled():
            raise OSError(
                "the Dask cluster has dropped a batch that nobody else can do: start the workers "
                "again and give the same command; what is written stays"
            )
        yield first.pop(task.key), frames
        task.release()  # the worker may forget it
        hand_out()


def evaluate_remotely(model: bytes, backend: str, batch: list[NamedFrame]) -> list[Atoms]:
    """The task of a worker: frames with results, by a model that is loaded once.

    Args:
        model: Contents of a model file.
        backend: "auto" or one of `dreibein.nn.BACKENDS`.
        batch: Frames.
    """
    import hashlib

    from dreibein.models import load_model

    key = (hashlib.sha256(model).hexdigest(), backend)
    if key not in _loaded:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            path.write_bytes(model)
            _loaded[key] = freeze(load_model(path), backend)
    return evaluate_batch(batch, _loaded[key])


def _connect(distributed: Any, address: str) -> Any:
    """A client of the scheduler at an address."""
    try:
        return distributed.Client(address, timeout="20s")
    except OSError as error:
        raise OSError(
            f"no Dask scheduler answers at {address}: start one (dask scheduler) and give the "
            "address that it prints"
        ) from error
