"""One file, no network: a page with its data as JSON and its own scripts and styles."""

import html
import json
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

from dreibein import __version__

# The page may run its own scripts and styles and load nothing, wherever it is opened.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)


def render(title: str, body: str, data: Any, scripts: Sequence[str]) -> str:
    """The page as text.

    Args:
        title: Heading and title.
        body: HTML of the page.
        data: What the scripts read from the element `data`, JSON-able.
        scripts: Names of script files, run in this order.
    """
    code = "".join(f"<script>{asset(name)}</script>" for name in scripts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{text(title)} · dreibein</title><style>{asset('page.css')}</style></head>"
        f"<body><main><h1>{text(title)}</h1>{body}"
        f"<footer>Written by dreibein {text(__version__)}. This file is complete: it loads "
        "nothing from the network.</footer></main>"
        f'<script type="application/json" id="data">{_as_json(data)}</script>{code}</body></html>\n'
    )


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], *, css: str = "") -> str:
    """An HTML table; cells are escaped, all but the first and last column stand to the right."""
    last = len(header) - 1

    def cell(tag: str, k: int, value: Any) -> str:
        kind = "" if k in (0, last) else ' class="number"'
        return f"<{tag}{kind}>{text(value)}</{tag}>"

    head = "".join(cell("th", k, title) for k, title in enumerate(header))
    body = "".join(
        f'<tr data-row="{n}" tabindex="0">'
        + "".join(cell("td", k, value) for k, value in enumerate(row))
        + "</tr>"
        for n, row in enumerate(rows)
    )
    return (
        f'<div class="scroll"><table class="{text(css)}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def text(value: Any) -> str:
    """A value escaped for HTML."""
    return html.escape(str(value))


def asset(name: str) -> str:
    """A file of this folder."""
    return resources.files("dreibein.simulate.pages").joinpath(name).read_text(encoding="utf-8")


def _as_json(value: Any) -> str:
    """JSON that may stand inside a script element."""
    found = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return found.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
