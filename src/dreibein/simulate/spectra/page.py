"""The page of a spectrum: bands from dynamics above harmonic ones, peaks named."""

from typing import TYPE_CHECKING, Any

from dreibein.simulate.pages import render, table, text
from dreibein.simulate.spectra.bands import Lines, line_shape

if TYPE_CHECKING:
    from dreibein.simulate.spectra.analysis import Spectrum

_SCRIPTS = ("plot.js", "spectrum.js")
_WIDTH = 8.0  # cm^-1, half width of harmonic lines
_MARKED = 0.05  # of the strongest: weaker harmonic lines bear no name in the plot


def render_page(found: "Spectrum", title: str) -> str:
    """The page as text."""
    plots = [_infrared(found)]
    raman = found.bands.raman
    if raman is not None:
        series = [_series("from dynamics", found.bands.wavenumbers, raman, [])]
        plots.append(_plot(series, "activity, Å⁴/amu·cm"))
    return render(title, _body(found, len(plots)), {"plots": plots}, _SCRIPTS)


def _body(found: "Spectrum", count: int) -> str:
    facts = "; ".join(f"{topic}: {value}" for topic, value in found.facts.items())
    raman = ""
    if count > 1:
        raman = (
            "<section><h2>Raman activity from dynamics</h2><p>Without the factors of the laser."
            '</p><canvas class="plot tall" id="plot-1"></canvas></section>'
        )
    rows = [[f"{p.wavenumber:.0f}", f"{p.height:.3f}", p.name or "–"] for p in found.peaks]
    peaks = table(["cm⁻¹", "km/mol·cm", "motion"], rows)
    return (
        f"<p>{text(found.formula)}. {text(facts)}.</p><section><h2>Infrared absorption</h2>"
        "<p>Each row on its own scale; the area of a band is its intensity in km/mol. Harmonic "
        f"lines are broadened to {_WIDTH:g} cm⁻¹ (half width). Drag to zoom, double-click for all."
        '</p><canvas class="plot tall" id="plot-0" style="height:560px"></canvas></section>'
        f"{raman}<section><h2>Peaks from dynamics</h2>{peaks}</section>"
        + "".join(
            f"<section><h2>{text(lines.label)}</h2>{_line_table(lines)}</section>"
            for lines in found.lines
        )
    )


def _line_table(lines: Lines) -> str:
    found = zip(lines.wavenumbers, lines.infrared, lines.names, strict=True)
    rows = [[f"{w:.0f}", f"{a:.1f}", name] for w, a, name in found]
    return table(["cm⁻¹", "km/mol", "motion"], rows)


def _infrared(found: "Spectrum") -> dict[str, Any]:
    grid = found.bands.wavenumbers
    marks = [
        {"x": p.wavenumber, "y": p.height, "text": f"{p.wavenumber:.0f} {p.name}"}
        for p in found.peaks
    ]
    series = [_series("from dynamics", grid, found.bands.infrared, marks)]
    for lines in found.lines:
        shape = line_shape(lines, grid, _WIDTH)
        strongest = lines.infrared.max(initial=0.0)
        marks = [
            {"x": float(w), "y": float(shape[abs(grid - w).argmin()]), "text": f"{w:.0f}"}
            for w, a in zip(lines.wavenumbers, lines.infrared, strict=True)
            if a >= _MARKED * strongest
        ]
        series.append(_series(lines.label, grid, shape, marks))
    return _plot(series, "absorption")


def _plot(series: list[dict[str, Any]], ylabel: str) -> dict[str, Any]:
    names = {"xlabel": "wavenumber, cm⁻¹", "ylabel": ylabel}
    return {"series": series, **names, "reversed": True, "stacked": True, "range": [100, 4000]}


def _series(label: str, x: Any, y: Any, marks: list[dict[str, Any]]) -> dict[str, Any]:
    inside = (x > 50.0) & (x < 4100.0)
    return {
        "label": label,
        "x": x[inside].round(2).tolist(),
        "y": y[inside].round(6).tolist(),
        "marks": marks,
    }
