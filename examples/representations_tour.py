# %% [markdown]
"""A tour of representations, frames and transfer.

Cartesian tensors, irreps and local frames are three ways to write one symmetry. Run the cells one
by one in an editor that knows `# %%`, or all at once:

    python examples/representations_tour.py

It prints what it finds and saves its figures in `runs/tour` (`TOUR_OUTPUT` names another folder,
`TOUR_STEPS` the steps of training at the end); the whole takes half a minute of processor time.
"""

# %%
import os
from pathlib import Path

import torch
from ase import Atoms
from ase.calculators.emt import EMT
from matplotlib import pyplot
from torch_geometric.data import Batch

from dreibein.frames import EdgeAlignment, Transport, gram_schmidt, soft_frames
from dreibein.models import LoCaFormerConfig, TensorFieldConfig, TensorNetConfig, build_potential
from dreibein.neighbors import attach_neighbors
from dreibein.nn.transfer import AlignedProduct, full_paths
from dreibein.o3 import (
    Irreps,
    TensorReps,
    act,
    axial_coupling,
    bridge,
    parse_reps,
    random_rotations,
)
from dreibein.systems import make_structure

OUTPUT = Path(os.environ.get("TOUR_OUTPUT", "runs/tour"))
STEPS = int(os.environ.get("TOUR_STEPS", "150"))
OUTPUT.mkdir(parents=True, exist_ok=True)
pyplot.switch_backend("Agg")
pyplot.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "dreibein"})
generator = torch.Generator().manual_seed(0)


def save(figure, name):
    """One figure as a small SVG that is the same in every run."""
    figure.tight_layout()
    figure.savefig(OUTPUT / f"{name}.svg", metadata={"Date": None})
    pyplot.close(figure)
    print(f"figure: {name}.svg")


# %% [markdown]
# ## 1. Frames on a molecule
#
# An atom builds its axes from weighted sums of the directions to its neighbors. Bend H-O-Cl through
# the straight shape: there the two vectors are parallel, no second axis exists, and an orthonormal
# frame has to jump. A soft frame fades out and comes back.

# %%
angles = torch.linspace(130.0, 230.0, 400, dtype=torch.float64)
turn = torch.deg2rad(angles)
to_hydrogen = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).expand(len(turn), 3)
to_chlorine = torch.stack((turn.cos(), turn.sin(), 0 * turn), -1)
vectors = torch.stack((to_chlorine - 0.5 * to_hydrogen, to_hydrogen + 0.3 * to_chlorine), 1)
hard = gram_schmidt(vectors, group="SO(3)").matrices
soft = soft_frames(vectors, group="SO(3)").matrices

figure, axes = pyplot.subplots(figsize=(5.5, 3.0))
axes.plot(angles, hard[:, 1, 1], label="orthonormal (Gram-Schmidt)", color="#c44e52")
axes.plot(angles, soft[:, 1, 1], label="soft", color="#4c72b0")
axes.set(xlabel="angle H-O-Cl (degrees)", ylabel="second axis, y component")
axes.axvline(180.0, color="0.7", linewidth=0.8, zorder=0)
axes.legend(frameon=False)
save(figure, "frames_scan")

for name, matrices in (("orthonormal", hard), ("soft", soft)):
    step = (matrices.diff(dim=0)).abs().max()
    print(f"{name} frames change by at most {step:.2f} over a quarter of a degree")

# %% [markdown]
# ## 2. One tensor, several representations
#
# A 3 x 3 matrix is nine numbers `1x2n`, or a scalar, a vector and five numbers of l = 2. `act` is
# the one function that turns either; the bridge between them commutes with it.

# %%
matrix_rep = TensorReps("1x2n")
alpha = torch.randn(9, generator=generator, dtype=torch.float64)
rotation = random_rotations(1, generator=generator)[0]
as_irreps = bridge.decompose(matrix_rep)
one_way = act(as_irreps, rotation, bridge.to_irreps(matrix_rep, alpha))
other_way = bridge.to_irreps(matrix_rep, act(matrix_rep, rotation, alpha))
print(f"{matrix_rep} is {as_irreps}; turned before or after: {torch.dist(one_way, other_way):.0e}")

# %%
thetas = torch.linspace(0.0, 2.0 * torch.pi, 37, dtype=torch.float64)
about_z = torch.zeros(len(thetas), 3, 3, dtype=torch.float64)
about_z[:, 0, 0] = about_z[:, 1, 1] = thetas.cos()
about_z[:, 1, 0], about_z[:, 0, 1] = thetas.sin(), -thetas.sin()
about_z[:, 2, 2] = 1.0
figure, panels = pyplot.subplots(1, 3, figsize=(9.0, 2.8), sharey=True)
stretched = torch.diag(torch.tensor([0.9, -0.3, 0.5], dtype=torch.float64)).flatten()
for panel, text, feature in (
    (panels[0], "1x0e + 1x1o", torch.tensor([0.5, 0.9, 0.0, 0.3], dtype=torch.float64)),
    (panels[1], "1x2e", bridge.to_irreps(matrix_rep, stretched)[4:]),
    (panels[2], "1x2n", stretched),
):
    turned = act(parse_reps(text), about_z, feature.expand(len(thetas), -1))
    panel.plot(torch.rad2deg(thetas), turned, linewidth=1.2)
    panel.set(title=text.replace(" ", ""), xlabel="turn about z (degrees)", xticks=[0, 180, 360])
panels[0].set_ylabel("components")
save(figure, "representations_turn")

# %% [markdown]
# ## 3. Transport
#
# What atom j writes in its axes arrives at i in those of i: `act(R_i) act(R_j^T) x_j`. Turn the
# molecule, and nothing that arrives changes.

# %%
pos = 1.2 * torch.randn(6, 3, generator=generator, dtype=torch.float64)
sender, receiver = torch.tensor([(j, i) for i in range(6) for j in range(6) if i != j]).T
edge_index = torch.stack((sender, receiver))
rep = parse_reps("4x0n+4x1n+2x2n")
feature = torch.randn(6, rep.dim, generator=generator, dtype=torch.float64)


def arriving(points):
    """Features that reach every atom, from frames of vectors to the others."""
    difference = points[sender] - points[receiver]
    decay = torch.exp(-difference.square().sum(-1, keepdim=True))
    axes_of = torch.zeros(6, 3, 3, dtype=torch.float64)
    for k, weight in enumerate((decay, decay**2, decay**3)):
        axes_of[:, k].index_add_(0, receiver, weight * difference)
    return Transport(soft_frames(axes_of), edge_index).between(rep, feature)


change = (arriving(pos) - arriving(pos @ rotation.T)).abs().max()
print(f"what arrives changes by {change:.0e} when the molecule turns")

# %% [markdown]
# ## 4. Exact transfer
#
# A tensor product with harmonics of the edge is the same function in axes along the edge, with
# fewer products: there a path keeps the order m. e3nn is the authority, where it is installed.

# %%
irreps = Irreps("8x0e+8x1o+8x2e")
try:
    from e3nn import o3
except ImportError:
    print("e3nn is not installed: nothing to compare with")
else:
    theirs = o3.FullyConnectedTensorProduct(
        str(irreps), "1x0e+1x1o+1x2e", str(irreps), shared_weights=False
    ).double()
    ours = AlignedProduct.from_e3nn(theirs)
    x = torch.randn(6, irreps.dim, generator=generator, dtype=torch.float64)
    weights = torch.randn(30, theirs.weight_numel, generator=generator, dtype=torch.float64)
    edges = pos[sender] - pos[receiver]
    harmonics = o3.spherical_harmonics(theirs.irreps_in2, edges, True, normalization="component")
    messages = theirs(x[sender], harmonics, weights)
    expected = torch.zeros(6, irreps.dim, dtype=torch.float64).index_add(0, receiver, messages)
    found = ours(x, EdgeAlignment(edges, edge_index, 6), weights)
    # e3nn keeps its coefficients in float32 where the default type is that
    print(f"exact transfer differs from e3nn by {(found - expected).abs().max():.0e}")

# %% [markdown]
# How much there is to multiply on an edge, for 16 channels of every degree up to L: the product of
# Clebsch and Gordan, the same path by path in axes along the edge, with paths merged to one matrix
# for each order, and a free map in the frame of the atom (turned, then 16 (L + 1) wide).

# %%
CHANNELS = 16


def multiply_adds(lmax):
    """Counts on one edge: Clebsch-Gordan, path by path, merged, free."""
    kinds = Irreps("+".join(f"{CHANNELS}x{l}{'eo'[l % 2]}" for l in range(lmax + 1)))
    clebsch = aligned = 0
    for path in full_paths(kinds, lmax, kinds).paths:
        one, two, three = kinds[path.source].kind.l, path.degree, kinds[path.target].kind.l
        sizes = (2 * one + 1, 2 * two + 1, 2 * three + 1)
        clebsch += CHANNELS * sizes[0] * sizes[1] * sizes[2] + CHANNELS**2 * sizes[2]
        used = [m for m, k in enumerate(axial_coupling(one, two, three)) if k]
        aligned += CHANNELS**2 * sum(1 if m == 0 else 2 for m in used)
    turns = CHANNELS * sum((2 * l + 1) ** 2 for l in range(lmax + 1))
    merged = sum((CHANNELS * (lmax + 1 - m)) ** 2 * (1 if m == 0 else 2) for m in range(lmax + 1))
    free = kinds.dim * CHANNELS * (lmax + 1)
    return clebsch, aligned + 2 * turns, merged + 2 * turns, free + 2 * turns


degrees = range(1, 7)
counts = torch.tensor([multiply_adds(lmax) for lmax in degrees])
figure, axes = pyplot.subplots(figsize=(5.5, 3.4))
labels = ("Clebsch-Gordan", "along the edge, by paths", "along the edge, merged", "free map")
for label, column, marker in zip(labels, counts.T, "osv^", strict=True):
    axes.semilogy(degrees, column, marker=marker, label=label)
axes.set(xlabel="highest degree L", ylabel="multiply-adds on an edge", xticks=list(degrees))
axes.legend(frameon=False)
save(figure, "transfer_costs")
print(f"L = 4: {', '.join(f'{label} {n:,}' for label, n in zip(labels, counts[3].tolist()))}")

# %% [markdown]
# ## 5. Free transfer: one description, two networks
#
# `local()` makes of every description its form between frames, where the maps are free.

# %%
SMALL = {"channels": 16, "num_radial": 8, "layers": 2, "cutoff": 4.0}
DESCRIPTIONS = {
    "NequIP": TensorFieldConfig(irreps="8x0e+8x1o+8x2e", **SMALL),
    "MACE": TensorFieldConfig(irreps="8x0e+8x1o+8x2e", correlation=3, **SMALL),
    "Equiformer": TensorFieldConfig(irreps="8x0e+8x1o+8x2e", interaction="attention", **SMALL),
    "PaiNN": TensorFieldConfig(irreps="16x0e+16x1o", interaction="painn", **SMALL),
    "EGNN": TensorFieldConfig(irreps="16x0e+1x1o", interaction="egnn", **SMALL),
    "TensorNet": TensorNetConfig(**SMALL),
}
torch.manual_seed(0)
forms = {}
for name, config in DESCRIPTIONS.items():
    for form, each in (("tensors", config), ("frames", config.local())):
        potential = build_potential(each, elements=(1, 6, 8), dtype=torch.float64)
        forms[f"{name} in {form}"] = potential

# %% [markdown]
# ## 6. Are they equivariant?
#
# Energies stay, forces turn; an error of 1e-15 is what rounding leaves.

# %%
numbers = torch.tensor([8, 1, 1, 6, 1, 1])


def prediction(potential, points):
    """Energy and forces of the six atoms."""
    found = potential(attach_neighbors(make_structure(numbers, points), potential.cutoff))
    return found["energy"], found["forces"]


for name, potential in forms.items():
    energy, forces = prediction(potential, pos)
    turned_energy, turned_forces = prediction(potential, pos @ rotation.T)
    error = max(
        ((energy - turned_energy).abs() / energy.abs()).item(),
        (torch.dist(forces @ rotation.T, turned_forces) / forces.norm()).item(),
    )
    size = sum(weight.numel() for weight in potential.parameters())
    print(f"{name:<24} {size:>7,} weights, error under rotation {error:.0e}")

# %% [markdown]
# ## 7. Does the representation matter? A tiny training
#
# LoCaFormer with scalars alone and with tensors, equal in width, learns forces of small clusters
# labeled by ASE's effective medium theory, in which no angle occurs, so tensors have to pay for
# themselves. A look, not a study: `dreibein study` does it properly.


# %%
def clusters(count, seed):
    """Random clusters of five atoms, no two nearer than 2.2 Å, with forces in eV/Å."""
    source, found = torch.Generator().manual_seed(seed), []
    while len(found) < count:
        points = 2.0 * torch.randn(5, 3, generator=source, dtype=torch.float64)
        if torch.pdist(points).min() < 2.2:
            continue
        z = torch.tensor([29, 47])[torch.randint(2, (5,), generator=source)]
        atoms = Atoms(numbers=z.numpy(), positions=points.numpy(), calculator=EMT())
        labels = {"forces": torch.tensor(atoms.get_forces())}
        found.append(attach_neighbors(make_structure(z, points, **labels), 5.0))
    return found


train, test = clusters(64, seed=1), Batch.from_data_list(clusters(32, seed=2))
CHOICES = {"scalars": "40x0n", "tensors": "16x0n+8x1n"}
curves = {}
for name, reps in CHOICES.items():
    torch.manual_seed(0)
    config = LoCaFormerConfig(reps=reps, channels=32, heads=4, layers=2, num_radial=16)
    potential = build_potential(config, elements=(29, 47)).train()
    optimizer = torch.optim.Adam(potential.parameters(), lr=3e-3)
    order = torch.Generator().manual_seed(3)
    losses = []
    for _ in range(STEPS):
        picks = torch.randperm(len(train), generator=order)[:8].tolist()
        batch = Batch.from_data_list([train[k] for k in picks])
        loss = (potential(batch, ("forces",))["forces"] - batch.forces).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    error = (potential.eval()(test, ("forces",))["forces"] - test.forces).abs().mean().item()
    curves[name] = losses
    print(f"{name:<8} {reps:<11} test error of forces after {STEPS} steps: {1e3 * error:.0f} meV/Å")

figure, axes = pyplot.subplots(figsize=(5.5, 3.0))
for name, losses in curves.items():
    width = max(1, STEPS // 15)
    smooth = torch.tensor(losses).unfold(0, width, 1).mean(1)
    axes.semilogy(smooth, label=f"{name} ({CHOICES[name]})")
axes.set(xlabel="step", ylabel="error of forces, eV/Å")
axes.legend(frameon=False)
save(figure, "tour_training")
