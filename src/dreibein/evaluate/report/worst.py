"""The worst frames: a table, and a 3D view of each with reference and predicted forces."""

from pathlib import PurePath
from typing import Any

import numpy as np
from ase.data import covalent_radii
from scipy.spatial import cKDTree

from dreibein.evaluate.predictions import Predictions
from dreibein.evaluate.records import FrameErrors
from dreibein.evaluate.report.figures import Array, ball_color, rounded, symbol
from dreibein.evaluate.report.formats import digits
from dreibein.evaluate.report.markup import Markup, Section, as_json, paragraph, text
from dreibein.evaluate.report.run import EVALUATE, RunRecord

BOND_SLACK = 0.30  # Å beyond the sum of covalent radii
BALL_RADIUS = 0.45  # of the covalent radius
MAX_ATOMS = 1500  # larger frames are listed, not drawn
MILLI = 1000.0


def worst_section(record: RunRecord) -> Section:
    """Frames with the largest errors."""
    evaluation, predictions = record.evaluation, record.predictions
    title = "Worst frames"
    if evaluation is None or not evaluation.worst:
        missing = "No errors of single frames in this folder. Get them with"
        return Section("worst", title, missing=missing, command=EVALUATE)
    lists = [
        ("largest force error", evaluation.worst),
        ("largest energy error per atom", evaluation.worst_energies),
    ]
    if evaluation.worst[0].forces_max_mev_per_a is None:
        lists = lists[1:]
    drawn = {}
    if predictions is not None:
        for frame in [f for _, frames in lists for f in frames]:
            if frame.n_atoms <= MAX_ATOMS and frame.row < len(predictions.n_atoms):
                drawn[frame.row] = view(predictions, frame)
    body = paragraph(
        "Choose a row, or step through with the arrow keys. Where the references are wrong rather "
        "than the model, it shows here first.",
        css="lead",
    )
    table = _table(lists, drawn)
    if drawn:
        viewer = _viewer(list(drawn.values()))
        body = Markup(f'{body}<div class="frames">{table}{viewer}</div>')
    else:
        body = Markup(f"{body}{table}")
    return Section("worst", title, body)


def _table(lists: list[tuple[str, list[FrameErrors]]], drawn: dict[int, Any]) -> Markup:
    groups = len({frame.config_type for _, frames in lists for frame in frames}) > 1
    several = not groups and len({f.formula for _, frames in lists for f in frames}) > 1
    header = ["frame", *(["formula"] if several else []), *(["group"] if groups else [])]
    words = len(header)
    header += ["energy<br>meV/atom", "force RMSE<br>meV/Å", "largest error<br>meV/Å", "atom"]
    head = "".join(
        f"<th{' class=number' if k >= words and k < len(header) - 1 else ''}>{title}</th>"
        for k, title in enumerate(header)
    )
    body = ""
    for name, frames in lists:
        body += f'<tr class="group"><th colspan="{len(header)}">{text(name)}</th></tr>'
        for frame in frames:
            picks = f' data-row="{frame.row}" tabindex="0"' if frame.row in drawn else ""
            cells = [str(frame.frame)]
            cells += [frame.formula] * several + [frame.config_type or "–"] * groups
            inner = "".join(f"<td>{text(cell)}</td>" for cell in cells)
            for value in (
                frame.energy_mev_per_atom,
                frame.forces_rmse_mev_per_a,
                frame.forces_max_mev_per_a,
            ):
                inner += f'<td class="number">{digits(value)}</td>'
            inner += f"<td>{_atom(frame, drawn)}</td>"
            body += f'<tr{picks} title="{text(frame.source)}">{inner}</tr>'
    return Markup(
        f'<div class="scroll tall"><table class="pick"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _atom(frame: FrameErrors, drawn: dict[int, Any]) -> str:
    if frame.worst_atom is None:
        return "–"
    shown = drawn.get(frame.row)
    name = shown["symbols"][frame.worst_atom] if shown else "atom"
    return f"{text(name)} {frame.worst_atom}"


def view(predictions: Predictions, frame: FrameErrors) -> dict[str, Any]:
    """What the page needs to draw one frame: atoms, bonds, forces, cell, camera."""
    first, last = predictions.offsets()[frame.row : frame.row + 2]
    z = predictions.z[first:last].astype(int)
    pos = predictions.pos[first:last].astype(float)
    cell = predictions.cell[frame.row] if predictions.pbc[frame.row].any() else None
    origin = pos.mean(0)
    elements = sorted({int(number) for number in z})
    title = f"frame {frame.frame}, {frame.formula}"
    return {
        "row": int(frame.row),
        "title": f"{title}, {frame.config_type}" if frame.config_type else title,
        "source": PurePath(frame.source).name,
        "path": frame.source,
        "z": z.tolist(),
        "symbols": [symbol(number) for number in z],
        "elements": {
            str(number): {
                "symbol": symbol(number),
                "color": ball_color(number),
                "radius": round(BALL_RADIUS * float(covalent_radii[number]), 3),
            }
            for number in elements
        },
        "pos": np.round(pos - origin, 3).tolist(),
        "bonds": bonds(z, pos),
        "cell": None if cell is None else np.round(cell, 3).tolist(),
        "corner": np.round(-origin, 3).tolist(),
        "reference": _vectors(predictions.forces_reference[first:last]),
        "prediction": _vectors(predictions.forces_prediction[first:last]),
        "camera": camera(pos) if cell is None else None,
    }


def _vectors(forces: Array) -> list[list[float | None]] | None:
    if not np.isfinite(forces).any():
        return None
    flat = rounded(forces, 4)
    return [flat[k : k + 3] for k in range(0, len(flat), 3)]


def bonds(z: Array, pos: Array) -> list[list[int]]:
    """Pairs nearer than the sum of their covalent radii and 0.3 Å, none across the cell's faces.

    >>> bonds(np.array([8, 1, 1]), np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
    [[0, 1], [0, 2]]
    """
    if len(z) < 2:
        return []
    radii = covalent_radii[z]
    pairs = cKDTree(pos).query_pairs(2 * float(radii.max()) + BOND_SLACK, output_type="ndarray")
    distance = np.linalg.norm(pos[pairs[:, 0]] - pos[pairs[:, 1]], axis=1)
    near = distance < radii[pairs[:, 0]] + radii[pairs[:, 1]] + BOND_SLACK
    found: list[list[int]] = pairs[near & (distance > 0.1)].tolist()
    return sorted(found)


def camera(pos: Array) -> dict[str, list[float]]:
    """Look along the thinnest direction of a molecule, with its longest one lying flat."""
    if len(pos) < 3:
        return {"eye": [0.0, -1.0, 0.0], "up": [0.0, 0.0, 1.0]}
    _, _, axes = np.linalg.svd(pos - pos.mean(0), full_matrices=True)
    # A little from above: a flat molecule seen exactly face-on hides forces out of its plane.
    eye = axes[2] + 0.35 * axes[1]
    return {
        "eye": np.round(eye / np.linalg.norm(eye), 4).tolist(),
        "up": np.round(axes[1], 4).tolist(),
    }


def _viewer(views: list[dict[str, Any]]) -> Markup:
    arrows = "".join(
        f'<label><input type="radio" name="arrows" value="{value}"{state}> {label}</label>'
        for value, label, state in (
            ("forces", "forces", " checked"),
            ("error", "error only", ""),
            ("none", "none", ""),
        )
    )
    return Markup(
        '<figure class="viewer" id="fig-frame"><div class="viewer-head"><strong id="frame-title">'
        '</strong><span id="frame-legend" class="legend"></span></div>'
        '<div class="canvas" style="height:440px"></div>'
        f'<div class="viewer-tools"><span>Arrows:</span>{arrows}'
        '<label class="right"><input type="checkbox" id="frame-labels"> atom numbers</label></div>'
        '<figcaption id="frame-scale"></figcaption>'
        f'<script type="application/json" id="frames-data">{as_json(views)}</script></figure>'
    )
