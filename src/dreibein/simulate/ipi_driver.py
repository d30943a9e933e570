"""A potential as a driver of i-PI: path integrals, replica exchange and whatever else it does.

i-PI is the server: it moves the atoms and asks a driver for energy, forces and virial through a
socket, all in Hartree and Bohr. Many programs are servers of this protocol, ASE's
`SocketIOCalculator` among them. Messages are words of 12 bytes, followed by binary numbers.
"""

import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from dreibein.simulate.calculator import charge_and_spin
from dreibein.simulate.engines import make_evaluator
from dreibein.simulate.evaluator import DEFAULT_SKIN, Evaluator
from dreibein.systems.units import conversion_factor

if TYPE_CHECKING:
    from dreibein.simulate.engines import PotentialOrPath

logger = logging.getLogger(__name__)

_HEADER = 12  # bytes
_BOHR = conversion_factor("Bohr", "Å")
_HARTREE = conversion_factor("Ha", "eV")
_UNIX_FOLDER = Path("/tmp")  # where i-PI puts its sockets
_PATIENCE = 0.1  # s between two tries to connect


def ipi_driver(
    potential: "PotentialOrPath",
    atoms: Atoms,
    *,
    address: str = "localhost",
    port: int | None = 31415,
    wait_s: float = 60.0,
    skin: float = DEFAULT_SKIN,
    backend: str = "auto",
    progress: Callable[[int, int, str], None] | None = None,
) -> int:
    """Serve energies, forces and virials until the server says that it is over.

    Args:
        potential: A potential, frozen or not, or the path of a model file.
        atoms: Numbers in the server's order, charge and spin (`info`), and periodicity. Positions
            and cell come from the server.
        address: Host of the server, or the name of its UNIX socket.
        port: TCP port; None for a UNIX socket.
        wait_s: How long to wait for a server that is not there yet.
        skin: Extra radius in Å of the neighbor list kept between calls.
        backend: "auto" or one of `dreibein.nn.BACKENDS`.
        progress: Called with (evaluations done, 0, "evaluations").

    Returns:
        How many structures were evaluated.

    Raises:
        ConnectionError: No server; or it went away.
        ValueError: An unknown element; another number of atoms; a missing box.
    """
    evaluator = make_evaluator(potential, skin=skin, backend=backend)
    evaluator.check(atoms.numbers)
    with _connect(address, port, wait_s) as connection:
        return _serve(_Channel(connection), evaluator, atoms, progress)


def _serve(
    channel: "_Channel",
    evaluator: Evaluator,
    atoms: Atoms,
    progress: Callable[[int, int, str], None] | None,
) -> int:
    """Answer messages until EXIT."""
    evaluated = 0
    ready, result = False, None
    while True:
        message = channel.receive_word()
        if message == "STATUS":
            channel.send_word("HAVEDATA" if result else "READY" if ready else "NEEDINIT")
        elif message == "INIT":
            _check_batch(channel.receive_init())
            ready = True
        elif message == "POSDATA":
            result = _evaluate(evaluator, atoms, *channel.receive_structure())
            evaluated += 1
            if progress:
                progress(evaluated, 0, "evaluations")
        elif message == "GETFORCE" and result:
            channel.send_result(*result)
            result = None
        elif message in ("EXIT", ""):
            logger.info("the server ended after %d evaluations", evaluated)
            return evaluated
        else:
            raise ConnectionError(f"the i-PI server sent '{message}' where it makes no sense")


def _evaluate(
    evaluator: Evaluator, atoms: Atoms, cell: np.ndarray, positions: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Energy in Ha, forces [N, 3] in Ha/Bohr and virial [3, 3] in Ha at a structure in Bohr."""
    if len(positions) != len(atoms):
        raise ValueError(
            f"the i-PI server has {len(positions)} atoms and the driver's structure {len(atoms)}: "
            "start both from the same structure"
        )
    box = np.where(atoms.pbc[:, None], cell * _BOHR, 0.0)
    if np.linalg.matrix_rank(box) < atoms.pbc.sum():
        raise ValueError(
            "the driver's structure is periodic and the i-PI server sends no box: give it a cell, "
            "or set atoms.pbc to False"
        )
    charge, spin = charge_and_spin(atoms)
    values = evaluator(
        atoms.numbers,
        positions * _BOHR,
        box,
        atoms.pbc,
        charge=charge,
        spin=spin,
        compute=("energy", "forces", "virial"),
    )
    energy = float(values["energy"]) / _HARTREE
    forces = values["forces"].cpu().numpy() * (_BOHR / _HARTREE)
    return energy, forces, values["virial"].cpu().numpy()[0] / _HARTREE


def _check_batch(text: str) -> None:
    """Refuse several structures in one message, which i-PI announces as `batch_size:n`."""
    for token in text.split(","):
        name, _, value = token.partition(":")
        if name.strip() == "batch_size" and value.strip() not in ("", "1"):
            raise ValueError(
                f"i-PI sends {value.strip()} structures in a message and this driver takes one: "
                "set batch_size to 1 in the input of i-PI"
            )


def _connect(address: str, port: int | None, wait_s: float) -> socket.socket:
    """A connection to the server, which may be about to start."""
    where: Any
    if port is None:
        family, where = socket.AF_UNIX, str(_UNIX_FOLDER / f"ipi_{address}")
    else:
        family, where = socket.AF_INET, (address, port)
    deadline = time.monotonic() + wait_s
    while True:
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.connect(where)
        except OSError as error:
            connection.close()
            if time.monotonic() > deadline:
                place = where if port is None else f"{address}:{port}"
                raise ConnectionError(
                    f"no i-PI server at {place} ({error.strerror or error}): start it first, "
                    "with the same address"
                ) from error
            time.sleep(_PATIENCE)
            continue
        if port is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


class _Channel:
    """Words, numbers and arrays over a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def receive_word(self) -> str:
        """The next message; empty when the server has gone between two messages."""
        first = self._socket.recv(_HEADER)
        if not first:
            return ""
        return (first + self._receive(_HEADER - len(first))).decode().strip()

    def send_word(self, word: str) -> None:
        """Send a message."""
        self._socket.sendall(word.ljust(_HEADER).encode())

    def receive_init(self) -> str:
        """Text that begins a replica, after its number."""
        _, length = np.frombuffer(self._receive(8), np.int32)
        return self._receive(int(length)).decode(errors="replace")

    def receive_structure(self) -> tuple[np.ndarray, np.ndarray]:
        """Cell with vectors as rows, and positions, in Bohr."""
        cell, _ = np.frombuffer(self._receive(144), np.float64).reshape(2, 3, 3)
        (count,) = np.frombuffer(self._receive(4), np.int32)
        positions = np.frombuffer(self._receive(24 * int(count)), np.float64)
        return cell.T.copy(), positions.reshape(-1, 3).copy()

    def send_result(self, energy: float, forces: np.ndarray, virial: np.ndarray) -> None:
        """Answer a request for forces."""
        parts = (
            b"FORCEREADY".ljust(_HEADER),
            np.float64(energy).tobytes(),
            np.int32(len(forces)).tobytes(),
            np.ascontiguousarray(forces, np.float64).tobytes(),
            np.ascontiguousarray(virial.T, np.float64).tobytes(),
            np.int32(0).tobytes(),  # nothing more to say
        )
        self._socket.sendall(b"".join(parts))

    def _receive(self, count: int) -> bytes:
        """So many bytes, however many pieces they come in."""
        data = bytearray()
        while len(data) < count:
            piece = self._socket.recv(count - len(data))
            if not piece:
                raise ConnectionError("the i-PI server went away in the middle of a message")
            data += piece
        return bytes(data)
