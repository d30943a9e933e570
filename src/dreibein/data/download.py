"""Files from the web: resumed where they broke off, in place only when whole."""

import logging
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPResponse
from pathlib import Path

log = logging.getLogger(__name__)

_BLOCK = 1 << 18
_TIMEOUT_S = 60.0
_RANGE_NOT_SATISFIABLE = 416


def download(
    url: str,
    path: Path,
    *,
    progress: Callable[[int, int, str], None] | None = None,
    attempts: int = 3,
) -> Path:
    """Fetch `url` to `path`; what an earlier try left in `path.part` is continued.

    Args:
        url: http or https.
        path: Final file; its folder is made.
        progress: Called with bytes so far, all bytes (0 if not told) and the file's name.
        attempts: Tries after broken connections.

    Raises:
        OSError: The server cannot be reached or refuses; the part stays for the next call.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    log.info("downloading %s to %s", url, path)
    for attempt in range(1, attempts + 1):
        try:
            _fetch(url, part, progress, path.name)
            break
        except urllib.error.HTTPError as error:
            raise OSError(
                f"download of {url} failed: the server answers {error.code} {error.reason}; "
                f"fetch the file by hand and put it at {path}"
            ) from error
        except (OSError, EOFError) as error:
            if attempt == attempts:
                reason = getattr(error, "reason", error)
                raise OSError(
                    f"download of {url} failed after {attempts} tries ({reason}); try again (it "
                    f"continues), or fetch the file by hand and put it at {path}"
                ) from error
    os.replace(part, path)
    return path


def _fetch(
    url: str, part: Path, progress: Callable[[int, int, str], None] | None, name: str
) -> None:
    """Append what is missing to `part`; a server without ranges starts it anew."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "dreibein"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        told = error.headers.get("Content-Range", "").rpartition("/")[2]
        if error.code == _RANGE_NOT_SATISFIABLE and told == str(have):
            return  # the part is already whole
        if error.code == _RANGE_NOT_SATISFIABLE:
            part.unlink()
            return _fetch(url, part, progress, name)
        raise
    with response:
        resumed = response.status == 206
        done = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else 0
        with open(part, "ab" if resumed else "wb") as file:
            while block := response.read(_BLOCK):
                file.write(block)
                done += len(block)
                if progress is not None:
                    progress(done, total, name)
            file.flush()
            os.fsync(file.fileno())
    if total and done != total:
        raise EOFError(f"{done} of {total} bytes arrived")
