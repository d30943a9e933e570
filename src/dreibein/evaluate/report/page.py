"""One self-contained HTML page about a run: no network, no second file."""

import datetime
from importlib import resources
from pathlib import Path

from dreibein import __version__
from dreibein.evaluate.report.background import (
    config_section,
    data_section,
    model_section,
    speed_section,
)
from dreibein.evaluate.report.breakdown import element_section
from dreibein.evaluate.report.engines import engines_section
from dreibein.evaluate.report.laws import laws_section
from dreibein.evaluate.report.learning import learning_section
from dreibein.evaluate.report.markup import Section, text
from dreibein.evaluate.report.motion import motion_section
from dreibein.evaluate.report.overview import header
from dreibein.evaluate.report.parity import parity_section
from dreibein.evaluate.report.run import REPORT_NAME, RunRecord
from dreibein.evaluate.report.uncertainty import uncertainty_section
from dreibein.evaluate.report.worst import worst_section
from dreibein.systems import atomic_path

SECTIONS = (
    learning_section,
    parity_section,
    element_section,
    worst_section,
    uncertainty_section,
    laws_section,
    motion_section,
    engines_section,
    speed_section,
    data_section,
    model_section,
    config_section,
)
# The page may run its own scripts and styles and load nothing, wherever it is opened.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)


def write_report(run_folder: str | Path) -> Path:
    """Write `report.html` into a run folder and return its path.

    What the folder lacks is left out, with a line on how to get it.

    Args:
        run_folder: A folder as `dreibein train` makes it, or one with an evaluation.

    Raises:
        OSError: No such folder, or it cannot be written to.
        ValueError: It holds nothing of a run, or a damaged file.
    """
    record = RunRecord.read(run_folder)
    path = Path(run_folder) / REPORT_NAME
    page = render_page(record)
    with atomic_path(path) as side:
        side.write_text(page, encoding="utf-8")
    return path


def render_page(record: RunRecord) -> str:
    """The page as text."""
    made = datetime.datetime.now().astimezone().strftime("%d %B %Y, %H:%M")
    sections = [build(record) for build in SECTIONS]
    return complete_page(record.folder.resolve().name, header(record, made=made), sections)


def complete_page(title: str, top: str, sections: list[Section]) -> str:
    """A page that needs no other file.

    Args:
        title: Name of what it is about; escaped here.
        top: HTML above the sections.
        sections: The rest.
    """
    name = text(title)
    drawn = any('class="canvas"' in part for part in (top, *(s.body for s in sections)))
    plotly = f"<script>{_plotly()}</script>" if drawn else ""
    return "".join(
        (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',
            f"<title>{name} · dreibein</title><style>{_asset('page.css')}</style></head><body>",
            _navigation(sections),
            f"<main>{top}",
            "".join(section.render() for section in sections),
            f"<footer>Written by dreibein {text(__version__)} from {name}. This file is complete: "
            "it loads nothing from the network.</footer></main>",
            f"{plotly}<script>{_asset('page.js')}</script></body></html>\n",
        )
    )


def _navigation(sections: list[Section]) -> str:
    links = "".join(
        f'<a href="#{text(s.id)}"{"" if s.body else " class=empty"}>{text(s.title)}</a>'
        for s in sections
    )
    return f'<nav aria-label="Sections">{links}</nav>'


def _asset(name: str) -> str:
    return resources.files("dreibein.evaluate.report").joinpath(name).read_text(encoding="utf-8")


def _plotly() -> str:
    """Plotly's script, which ships with the Python package."""
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    return script.replace("</script", "<\\/script")
