"""Public TensorNets by name: downloaded, checked, imported."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from dreibein.data.download import download
from dreibein.data.rmd17 import data_folder
from dreibein.models import Stated, import_matgl, import_torchmdnet, save_model
from dreibein.nn import Potential
from dreibein.systems import atomic_path

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]

CHECKSUMS_NAME = "sha256.json"
_MATPES_ELEMENTS = (*range(1, 84), *range(89, 95))  # H to Bi, Ac to Pu
_ACEFF_ELEMENTS = (1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 35, 53)


@dataclass(frozen=True)
class Pretrained:
    """One public model.

    Attributes:
        name: As typed.
        family: "matgl" or "torchmd-net": what reads it.
        level_of_theory: Of its training data.
        elements: Atomic numbers it was trained on.
        page: Where its owners describe it.
        files: Name -> SHA-256, or None where none is known: then that of the first download is
            kept beside the file and holds from there on.
        url: Folder of the files, ending in "/"; None: no longer offered, taken from a folder.
        license: As its owners state it; None: not stated.
    """

    name: str
    family: str
    level_of_theory: str
    elements: tuple[int, ...]
    page: str
    files: dict[str, str | None]
    url: str | None
    license: str | None


def _matpes(name: str, level: str) -> Pretrained:
    page = f"https://huggingface.co/materialyze/{name}"
    return Pretrained(
        name=name,
        family="matgl",
        level_of_theory=level,
        elements=_MATPES_ELEMENTS,
        page=page,
        files={"model.json": None, "state.pt": None},
        url=f"{page}/resolve/main/",
        license=None,
    )


def _aceff(version: str, license: str | None = "Apache-2.0") -> Pretrained:
    page = f"https://huggingface.co/Acellera/AceFF-{version}"
    return Pretrained(
        name=f"AceFF-{version}",
        family="torchmd-net",
        level_of_theory="ωB97M-V/def2-TZVPPD",
        elements=_ACEFF_ELEMENTS,
        page=page,
        files={f"aceff_v{version}.ckpt": None},
        url=f"{page}/resolve/main/",
        license=license,
    )


MODELS: tuple[Pretrained, ...] = (
    _matpes("TensorNet-PES-MatPES-PBE-2025.2", "PBE"),
    _matpes("TensorNet-PES-MatPES-PBE-2025.2-m", "PBE"),
    _matpes("TensorNet-PES-MatPES-r2SCAN-2025.2", "r2SCAN"),
    _matpes("TensorNet-PES-MatPES-r2SCAN-2025.2-m", "r2SCAN"),
    Pretrained(
        name="TensorNet-MatPES-PBE-v2025.1-PES",
        family="matgl",
        level_of_theory="PBE",
        elements=_MATPES_ELEMENTS,
        page="https://github.com/materialyzeai/matgl",
        files={
            "model.json": "cf7d1db6c89da617245021a8fde16fb79db5bc06f7b6e11ee837f06eb32137d8",
            "state.pt": "d2dfa51a65d23a47fd935eb0628177d2a1088584562091ef3350ce3a002fce6a",
        },
        url=None,  # replaced by 2025.2
        license="BSD-3-Clause",
    ),
    _aceff("1.0"),
    _aceff("1.1", license=None),
    _aceff("2.0"),
)
"""Models that are known by name, as their owners describe them.

Owners publish no checksums; those of v2025.1 are of a copy whose numbers agree with matgl's. The
description of AceFF-1.1 names neither level of theory nor elements: they are taken to be those of
1.0 and 2.0, and a file with other elements is refused.
"""


def find_pretrained(name: str) -> Pretrained:
    """The model of a name; case does not matter.

    Raises:
        ValueError: No such name; with the nearest ones.
    """
    names = {model.name.lower(): model for model in MODELS}
    if name.lower() in names:
        return names[name.lower()]
    near = get_close_matches(name.lower(), names, n=1, cutoff=0.4)
    hint = f"did you mean '{names[near[0]].name}'? " if near else ""
    raise ValueError(f"no public model '{name}' is known; {hint}dreibein pretrained list has all")


def fetch_pretrained(
    model: str | Pretrained,
    output: str | Path,
    *,
    folder: str | Path | None = None,
    offline: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Potential:
    """Download a public model where it is not at hand, check it, and write it as a model file.

    Files are looked for in `folder/NAME/`, then in `folder` itself; a download that broke off goes
    on where it stopped.

    Args:
        model: Its name, or an entry.
        output: Model file to write, .safetensors.
        folder: Of downloads; default $DREIBEIN_DATA, else the user's cache, each with `pretrained`.
        offline: Take what the folder has and ask no server.
        overwrite: Replace an output that is there.
        progress: Called while downloading.

    Raises:
        ValueError: An unknown name, a file whose checksum is wrong, or one that cannot be imported.
        OSError: No such file and no way to get it, or the output is there already.
    """
    entry = find_pretrained(model) if isinstance(model, str) else model
    output = Path(output)
    if output.suffix != ".safetensors":
        raise ValueError(f"'{output}': the output must end in .safetensors")
    if output.exists() and not overwrite:
        raise FileExistsError(f"'{output}' exists; give another name or overwrite it")
    place = Path(folder) if folder is not None else data_folder() / "pretrained"
    paths = [_file(entry, name, place, offline, progress) for name in entry.files]
    kept = _check(entry, paths)
    stated = Stated(
        energy_unit="eV",
        length_unit="Å",
        elements=entry.elements if entry.family == "torchmd-net" else None,
        level_of_theory=entry.level_of_theory,
        license=entry.license,
    )
    if entry.family == "matgl":
        potential = import_matgl(paths[0].parent, stated)
    else:
        potential = import_torchmdnet(paths[0], stated)
    unknown = set(potential.elements) ^ set(entry.elements)
    if unknown:
        raise ValueError(
            f"{paths[0]} is for {len(potential.elements)} elements and {entry.name} for "
            f"{len(entry.elements)}: it is another model"
        )
    potential.card |= {"name": entry.name, "page": entry.page}
    potential.card["imported"]["notes"] += kept
    save_model(potential, output)
    return potential


def _file(
    entry: Pretrained, name: str, folder: Path, offline: bool, progress: Progress | None
) -> Path:
    """A file of a model, downloaded where it is not at hand."""
    for place in (folder / entry.name / name, folder / name):
        if place.is_file():
            return place
    target = folder / entry.name / name
    if entry.url is None:
        raise FileNotFoundError(
            f"{entry.name} is no longer offered by its owners: put {' and '.join(entry.files)} "
            f"into {target.parent}, or name the folder that has them"
        )
    if offline:
        raise FileNotFoundError(
            f"there is no {target}: fetch it with a network, or put {entry.url}{name} there by hand"
        )
    return download(entry.url + name, target, progress=progress)


def _check(entry: Pretrained, paths: list[Path]) -> list[str]:
    """Compare checksums with those published, or with those of the first download.

    Returns:
        What is to be said of it.
    """
    record = paths[0].parent / CHECKSUMS_NAME
    known = json.loads(record.read_text()) if record.is_file() else {}
    notes = []
    for path in paths:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        published = entry.files[path.name]
        expected = published or known.get(path.name)
        if expected is not None and found != expected:
            whose = "published" if published else "of the first download"
            raise ValueError(
                f"{path} has SHA-256 {found[:16]}… and the one {whose} is {expected[:16]}…: delete "
                "the file to download it anew"
            )
        if expected is None:
            known[path.name] = found
            notes.append(f"no checksum of {path.name} is published: kept that of this download")
    if notes:
        with atomic_path(record) as side:
            side.write_text(json.dumps(known, indent=1) + "\n")
    for note in notes:
        logger.info("%s: %s", entry.name, note)
    return notes
