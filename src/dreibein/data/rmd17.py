"""The revised MD17 by name: from a folder, else downloaded into it.

'rmd17:ethanol' is the full trajectory (100,000 frames, from the authors' archive on figshare);
'rmd17:ethanol:train:01' and 'rmd17:ethanol:test:01' are the published splits of 1000 frames.
"""

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

from dreibein.data.download import download
from dreibein.data.names import nearest
from dreibein.systems import atomic_path

LEVEL = "PBE/def2-SVP"
MOLECULES = (
    "aspirin",
    "azobenzene",
    "benzene",
    "ethanol",
    "malonaldehyde",
    "naphthalene",
    "paracetamol",
    "salicylic",
    "toluene",
    "uracil",
)
ARCHIVE_URL = "https://figshare.com/ndownloader/files/23950376"
SPLIT_URL = "https://raw.githubusercontent.com/andersx/rmd17-npz/master/rmd17-npz/"
FOLDER_VARIABLE = "DREIBEIN_DATA"

Progress = Callable[[int, int, str], None]


def find_rmd17(
    name: str,
    folder: Path | None = None,
    progress: Progress | None = None,
    *,
    archive_url: str = ARCHIVE_URL,
    split_url: str = SPLIT_URL,
) -> tuple[Path, str]:
    """File and level of theory of 'rmd17:MOLECULE' or 'rmd17:MOLECULE:train|test[:01]'.

    Args:
        name: As above.
        folder: Where files are looked for (subfolder `rmd17` too) and put; default
            $DREIBEIN_DATA, else the user's cache.
        progress: Called while downloading.
        archive_url: Source of full trajectories.
        split_url: Source of the published splits.

    Raises:
        ValueError: No such molecule or split.
        OSError: The download failed.
    """
    file = _file_name(name)
    folder = Path(folder) if folder is not None else data_folder()
    for place in (folder, folder / "rmd17", folder / "rmd17" / "npz_data"):
        if (place / file).is_file():
            return place / file, LEVEL
    target = folder / "rmd17" / file
    if "_train_" in file or "_test_" in file:
        download(split_url + file, target, progress=progress)
    else:
        archive = folder / "rmd17" / "rmd17.tar.bz2"
        if not archive.is_file():
            download(archive_url, archive, progress=progress)
        _extract(archive, file, target)
    return target, LEVEL


def data_folder() -> Path:
    """$DREIBEIN_DATA, else `dreibein` in the user's cache folder; not created here."""
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "dreibein"


def _file_name(name: str) -> str:
    """File of a named source.

    >>> _file_name("rmd17:ethanol:train"), _file_name("rmd17:uracil")
    ('rmd17_ethanol_train_01.npz', 'rmd17_uracil.npz')
    """
    _, molecule, *split = name.split(":")
    if molecule not in MOLECULES:
        close = nearest(molecule, MOLECULES, cutoff=0.4)
        hint = f"did you mean 'rmd17:{close[0]}'?" if close else f"it has {', '.join(MOLECULES)}"
        raise ValueError(f"rMD17 has no molecule '{molecule}'; {hint}")
    if not split:
        return f"rmd17_{molecule}.npz"
    kind, number = split[0], split[1] if len(split) > 1 else "01"
    if kind not in ("train", "test") or number not in ("01", "02", "03", "04", "05"):
        raise ValueError(
            f"'{name}': a split is train or test and 01 to 05, as in 'rmd17:{molecule}:train:01'"
        )
    return f"rmd17_{molecule}_{kind}_{number}.npz"


def _extract(archive: Path, file: str, target: Path) -> None:
    """One member of the archive, whole or not at all."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if Path(member.name).name == file and member.isfile():
                    source = tar.extractfile(member)
                    assert source is not None
                    with atomic_path(target) as side, open(side, "wb") as out:
                        shutil.copyfileobj(source, out)
                    return
    except (tarfile.TarError, EOFError) as error:
        detail = str(error).splitlines()[0].rstrip(":")
        raise ValueError(
            f"{archive}: not a whole archive ({detail}); delete it to download it anew"
        ) from error
    raise ValueError(f"{archive}: holds no {file}; delete it to download it anew")
