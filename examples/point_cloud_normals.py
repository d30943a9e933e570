"""Normals of surfaces from sampled points: built-in symmetry against learned symmetry.

    python examples/point_cloud_normals.py                    some five minutes on one core
    python examples/point_cloud_normals.py --epochs 2         a look
    python examples/point_cloud_normals.py --help

One PointNet++ is trained with frames of three kinds: learned frames and frames of the nearest
neighbors, both of which turn with the cloud, and the laboratory frame, for which every cloud is
turned and mirrored at random whenever it is seen (augmentation). Shapes of the test set were never
seen, some of them of kinds that were never seen; all clouds, of training and test, stand in random
poses. Needs trimesh: pip install "dreibein[points]".
"""

import csv
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from dreibein.frames import Frames, identity, neighbor_frames
from dreibein.models import PointNet
from dreibein.neighbors import nearest_points
from dreibein.nn import PointFrames
from dreibein.o3 import random_rotations

KNOWN = ("box", "ellipsoid", "cylinder", "cone", "torus", "blob")
NEW = ("capsule", "annulus")
FRAMES = ("learned", "neighbors", "laboratory")
JITTER = 0.01
"""Standard deviation of the noise on positions, in radii of the shape."""
console = Console()


@dataclass
class Clouds:
    """Points and outward normals of some shapes, all of the same number of points."""

    pos: Tensor  # [S, P, 3] float64
    normals: Tensor  # [S, P, 3]
    kinds: list[str]

    def posed(self, g: Tensor) -> "Clouds":
        """Every shape turned, or mirrored, by its own g [S, 3, 3]; normals are polar vectors."""
        return Clouds(self.pos @ g.mT, self.normals @ g.mT, self.kinds)

    def select(self, index: Tensor) -> "Clouds":
        """Some of the shapes."""
        return Clouds(self.pos[index], self.normals[index], [self.kinds[i] for i in index.tolist()])

    def flat(self) -> tuple[Tensor, Tensor, Tensor]:
        """Positions and normals [S P, 3], and the shape of each point."""
        batch = torch.arange(len(self.pos)).repeat_interleave(self.pos.shape[1])
        return self.pos.flatten(0, 1), self.normals.flatten(0, 1), batch


def make_mesh(kind: str, rng: np.random.Generator):
    """A closed surface with random proportions, tapered and twisted; faces point outward."""
    try:
        import trimesh
    except ImportError as error:
        message = 'meshes are made by trimesh: pip install "dreibein[points]"'
        raise ImportError(message) from error
    make = trimesh.creation
    size = rng.uniform(0.5, 1.0, 3)
    if kind == "box":
        mesh = make.box(2 * size)
    elif kind == "cylinder":
        mesh = make.cylinder(radius=size[0], height=2 * size[1])
    elif kind == "cone":
        mesh = make.cone(radius=size[0], height=2 * size[1])
    elif kind == "torus":
        mesh = make.torus(major_radius=1.0, minor_radius=0.2 + 0.4 * size[0])
    elif kind == "capsule":
        mesh = make.capsule(height=size[0], radius=0.5 * size[1])
    elif kind == "annulus":
        mesh = make.annulus(r_min=0.6 * size[0], r_max=1.2, height=1.5 * size[1])
    else:
        mesh = make.icosphere(subdivisions=4)
        if kind == "blob":  # star-shaped: the radius is a smooth function of the direction
            waves, phases = 2 * rng.standard_normal((4, 3)), rng.uniform(0, 2 * np.pi, 4)
            bumps = np.cos(mesh.vertices @ waves.T + phases).sum(1)
            mesh.vertices = mesh.vertices * (1 + 0.1 * bumps[:, None])
        else:
            mesh.vertices = mesh.vertices * size
    # long triangles would not follow the twist
    mesh = mesh.subdivide_to_size(0.15 * mesh.extents.max())
    x, y, z = (mesh.vertices - mesh.bounds.mean(0)).T
    z = z / np.abs(z).max()
    taper, twist = 1 + rng.uniform(-0.3, 0.3) * z, rng.uniform(-0.6, 0.6) * z
    cos, sin = taper * np.cos(twist), taper * np.sin(twist)
    height = rng.uniform(0.5, 1.2)
    mesh.vertices = np.stack([cos * x - sin * y, sin * x + cos * y, height * z], -1)
    return mesh


def sample_clouds(kinds: list[str], num_points: int, seed: int) -> Clouds:
    """One random shape for each name, centered, of radius one, jittered, in a random pose."""
    rng = np.random.default_rng(seed)
    pos, normals = [], []
    for kind in kinds:
        mesh = make_mesh(kind, rng)
        corners = mesh.triangles
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.linalg.norm(cross, axis=1)
        face = rng.choice(len(area), num_points, p=area / area.sum())
        u, v = rng.uniform(size=(2, num_points, 1))
        u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
        a, b, c = corners[face].transpose(1, 0, 2)
        points = a + u * (b - a) + v * (c - a)
        points = points - points.mean(0)
        points /= np.linalg.norm(points, axis=1).max()
        pos.append(points + JITTER * rng.standard_normal(points.shape))
        normals.append(cross[face] / area[face, None])
    clouds = Clouds(torch.tensor(np.stack(pos)), torch.tensor(np.stack(normals)), kinds)
    return clouds.posed(poses(len(kinds), seed))


def poses(count: int, seed: int, improper: bool = False) -> Tensor:
    """Random rotations [count, 3, 3], or elements of O(3)."""
    generator = torch.Generator().manual_seed(seed)
    return random_rotations(count, generator=generator, improper=improper)


class Normals(nn.Module):
    """Unit vectors of points: PointNet++ with frames of one kind."""

    def __init__(self, frames: str) -> None:
        super().__init__()
        if frames not in FRAMES:
            raise ValueError(f"frames are one of {FRAMES}, got {frames!r}")
        self.kind = frames
        self.network = PointNet("1x1n")
        self.frames = PointFrames() if frames == "learned" else None

    def frames_of(self, pos: Tensor, batch: Tensor) -> Frames:
        """Frames of the points; the only difference between the networks."""
        if self.frames is not None:
            return self.frames(pos, batch)
        if self.kind == "laboratory":
            return identity(dtype=torch.float64)
        edges = nearest_points(pos, 3, batch=batch)
        vectors = pos[edges[0]] - pos[edges[1]]
        return neighbor_frames(vectors, edges, len(pos), group="O(3)")

    def forward(self, pos: Tensor, batch: Tensor) -> Tensor:
        """Vectors [N, 3] of length one."""
        y = self.network(pos, self.frames_of(pos, batch), batch)
        return nn.functional.normalize(y, dim=-1)


def train(model: Normals, clouds: Clouds, epochs: int, batch_size: int, seed: int) -> float:
    """Minimize the mean of 1 − cos; return the CPU time that it took, in s.

    The meshes are closed, so outward is a fact and the sign belongs to the answer: the loss is not
    made blind to it, as it must be where normals come without one.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * -(-len(clouds.pos) // batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    begin = time.process_time()  # cores are often shared
    for _ in track(range(epochs), f"{model.kind} frames", console=console, transient=True):
        for index in torch.randperm(len(clouds.pos), generator=generator).split(batch_size):
            some = clouds.select(index)
            if model.kind == "laboratory":  # augmentation; frames that turn have no use for it
                some = some.posed(random_rotations(len(index), generator=generator, improper=True))
            pos, normals, batch = some.flat()
            loss = (1 - (model(pos, batch) * normals).sum(-1)).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return time.process_time() - begin


@torch.no_grad()
def predict(model: Normals, clouds: Clouds) -> Tensor:
    """Unit vectors [S, P, 3]."""
    parts = torch.arange(len(clouds.pos)).split(16)
    flats = [clouds.select(part).flat() for part in parts]
    return torch.cat([model(pos, batch) for pos, _, batch in flats]).view(clouds.pos.shape)


def angles(vectors: Tensor, normals: Tensor) -> Tensor:
    """Angle between both, in degrees [S, P]; also right for small angles."""
    vectors, normals = vectors.double(), normals.double()
    difference, total = (vectors - normals).norm(dim=-1), (vectors + normals).norm(dim=-1)
    return torch.rad2deg(2 * torch.atan2(difference, total))


def equivariance_error(model: Normals, clouds: Clouds, g: Tensor) -> float:
    """Largest |f(g x) − g f(x)| of all points, in float64, where |f| = 1."""
    few = clouds.select(torch.arange(min(16, len(clouds.pos))))
    g = g[: len(few.pos)]
    model = model.double()
    error = (predict(model, few.posed(g)) - predict(model, few) @ g.mT).norm(dim=-1).max()
    model.float()
    return float(error)


def evaluate(model: Normals, test: Clouds, seed: int) -> list[dict[str, float | str]]:
    """Errors on the test set turned, and mirrored: angles in degrees, equivariance error."""
    turn = poses(len(test.pos), seed)
    new = torch.tensor([kind in NEW for kind in test.kinds])
    rows: list[dict[str, float | str]] = []
    for pose, g in (("rotated", turn), ("mirrored", -turn)):
        posed = test.posed(g)
        found = angles(predict(model, posed), posed.normals)
        rows.append(
            {
                "frames": model.kind,
                "pose": pose,
                "known_kinds_deg": float(found[~new].mean()),
                "new_kinds_deg": float(found[new].mean()),
                "sign_aside_deg": float(torch.minimum(found, 180 - found).mean()),
                "equivariance_error": equivariance_error(model, test, g),
            }
        )
    return rows


def show(rows: list[dict[str, float | str]]) -> None:
    """The table on the terminal."""
    table = Table(title="Shapes never seen: mean angle to the outward normal in degrees")
    table.add_column("frames")
    table.add_column("pose")
    for name in (
        "known\nkinds",
        "new\nkinds",
        "sign\naside",
        "equivariance\nerror",
        "training\nCPU s",
    ):
        table.add_column(name, justify="right")
    for row in rows:
        degrees = [f"{row[f'{c}_deg']:.2f}" for c in ("known_kinds", "new_kinds", "sign_aside")]
        cells = [*degrees, f"{row['equivariance_error']:.0e}", f"{row['training_cpu_s']:.0f}"]
        table.add_row(str(row["frames"]), str(row["pose"]), *cells)
    console.print(table)


def draw(found: dict[str, Tensor], path: Path) -> None:
    """How many points lie within an angle of the truth, one curve for each kind of frames."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, values in found.items():
        values = values.flatten().sort().values
        share = torch.linspace(0, 100, len(values))
        keep = torch.linspace(0, len(values) - 1, 400).long()
        figure.add_scatter(x=values[keep].tolist(), y=share[keep].tolist(), name=f"{name} frames")
    figure.update_xaxes(title="angle to the outward normal, degrees", range=[0, 180])
    figure.update_yaxes(title="points within this angle, %", range=[0, 100])
    figure.update_layout(title="Shapes never seen, in random poses", template="simple_white")
    figure.write_html(path)


def main(
    output: Annotated[Path, typer.Option(help="folder of the results")] = Path("runs/normals"),
    frames: Annotated[str, typer.Option(help="networks to train")] = ",".join(FRAMES),
    epochs: Annotated[int, typer.Option(min=1, help="passes over the training shapes")] = 25,
    shapes: Annotated[int, typer.Option(min=6, help="training shapes")] = 300,
    test_shapes: Annotated[int, typer.Option(min=8, help="test shapes")] = 80,
    points: Annotated[int, typer.Option(min=8, help="points of each shape")] = 256,
    batch_size: Annotated[int, typer.Option(min=1, help="shapes in a step")] = 6,
    seed: Annotated[int, typer.Option(help="of shapes, weights and order")] = 0,
) -> None:
    """Train PointNet++ on normals with each kind of frames; print, draw and save the errors."""
    kinds = [KNOWN[i % len(KNOWN)] for i in range(shapes)]
    every = (*KNOWN, *NEW)
    train_set = sample_clouds(kinds, points, seed=2 * seed)
    test_set = sample_clouds(
        [every[i % len(every)] for i in range(test_shapes)], points, seed=2 * seed + 1
    )
    rows: list[dict[str, float | str]] = []
    curves = {}
    for name in frames.split(","):
        torch.manual_seed(seed)
        model = Normals(name)
        seconds = train(model, train_set, epochs, batch_size, seed)
        rows += [
            {**row, "training_cpu_s": seconds} for row in evaluate(model, test_set, seed + 1000)
        ]
        curves[name] = angles(predict(model, test_set), test_set.normals)
    show(rows)
    output.mkdir(parents=True, exist_ok=True)
    with (output / "errors.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    draw(curves, output / "errors.html")
    console.print(f"written: {output / 'errors.csv'}, {output / 'errors.html'}")


if __name__ == "__main__":
    typer.run(main)
