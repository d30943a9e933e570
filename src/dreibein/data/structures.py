"""A single structure from a file or a SMILES string, and conformers of a molecule."""

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from dreibein.data.read_ase import file_of, last_frame

# Force-field steps of the pre-optimization; a drug-sized molecule needs a few hundred.
_OPTIMIZER_STEPS = 2000
# Atoms of different molecules closer than this fraction of their covalent radii's sum overlap.
_OVERLAP = 1.2
_GAP_A = 3.0
# Conformers are the same when no distance differs by more; an optimizer stops well within.
_SAME_A = 0.1
_SEED_RANGE = 1_000_003
_FILE_LIKE = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,7}$")


def read_structure(text: str, *, charge: float = 0, seed: int = 0) -> Atoms:
    """A structure from a file that ASE reads (its last frame) or a SMILES string.

    Args:
        text: 'water.xyz', 'md.extxyz@0', or 'CCO'. An existing file wins.
        charge: Total charge in e of a file that states none; of a SMILES string it must be 0 or
            agree with the formal charges.
        seed: Of the conformer made from SMILES.

    Returns:
        Atoms with `info["charge"]` and `info["spin"]` (multiplicity).

    Raises:
        ValueError: The text is neither, or the charge contradicts it.
        ImportError: SMILES without rdkit.

    >>> read_structure("O").get_chemical_formula()
    'H2O'
    """
    path = file_of(text)
    if path.is_file():
        atoms = last_frame(text)
        stated = atoms.info.get("charge")
        if stated is not None and charge and float(stated) != charge:
            raise ValueError(
                f"{text}: states a charge of {float(stated):g}, but {charge:g} was asked for; "
                "leave one away"
            )
        atoms.info["charge"] = float(charge if stated is None else stated)
        atoms.info.setdefault("spin", 1)
        return atoms
    if _FILE_LIKE.search(text) or Path(text).suffix in (".xyz", ".db", ".h5"):
        raise FileNotFoundError(f"there is no file '{text}'")
    atoms = conformers(text, 1, seed)[0]
    if charge and atoms.info["charge"] != charge:
        raise ValueError(
            f"the SMILES string '{text}' has a total charge of {atoms.info['charge']:+g}, not "
            f"{charge:+g}; write the charge into the string, as in 'C[NH3+]'"
        )
    return atoms


def conformers(smiles: str, number: int, seed: int = 0) -> list[Atoms]:
    """Up to `number` conformers, lowest force-field energy first; same seed, same coordinates.

    ETKDG embedding, then MMFF94, or UFF where MMFF94 lacks an atom. Those that differ only in the
    order of like atoms or as mirror images count once; hydrogens count (the two wells of
    ethanol's O-H are two conformers). Disconnected parts are embedded apart and put side by side.

    Args:
        smiles: Molecule, ion or radical; hydrogens are added.
        number: How many to make; small rigid molecules may give fewer distinct ones.
        seed: Of the embedding.

    Raises:
        ValueError: The string is no SMILES, or no geometry is found.
        ImportError: rdkit is not installed.
    """
    if number < 1:
        raise ValueError(f"the number of conformers must be at least 1, not {number}")
    chem, embedding = _rdkit()
    molecule = chem.MolFromSmiles(smiles) if smiles.strip() else None
    if molecule is None:
        raise ValueError(
            f"'{smiles}' is neither a file that exists nor a SMILES string such as 'CCO' (ethanol)"
        )
    molecule = chem.AddHs(molecule)
    fragments = chem.GetMolFrags(molecule, asMols=True)
    sets = [_embed(embedding, fragment, smiles, number, seed) for fragment in fragments]
    charge = float(chem.GetFormalCharge(molecule))
    spin = 1 + sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
    found = []
    for k in range(max(len(s) for s in sets)):
        atoms = _side_by_side([s[min(k, len(s) - 1)] for s in sets])
        atoms.info.update({"charge": charge, "spin": spin, "smiles": smiles})
        found.append(atoms)
    return found


def _rdkit() -> tuple[Any, Any]:
    """`rdkit.Chem` and `rdkit.Chem.AllChem`, silenced: errors are raised here instead."""
    try:
        chem = importlib.import_module("rdkit.Chem")
        embedding = importlib.import_module("rdkit.Chem.AllChem")
        importlib.import_module("rdkit.RDLogger").DisableLog("rdApp.*")
    except ImportError as error:
        raise ImportError(
            'reading SMILES needs rdkit: pip install "dreibein[label]", or give a structure file'
        ) from error
    return chem, embedding


def _embed(embedding: Any, molecule: Any, smiles: str, number: int, seed: int) -> list[Atoms]:
    """Conformers of one connected molecule by ascending force-field energy."""
    options = embedding.ETKDGv3()
    # RDKit multiplies its seed by the conformer's number: 0 would make them all equal.
    options.randomSeed = 1 + int(np.random.SeedSequence(seed).generate_state(1)[0]) % _SEED_RANGE
    options.numThreads = 1
    options.pruneRmsThresh = -1.0  # RDKit would prune by heavy atoms alone
    ids = list(embedding.EmbedMultipleConfs(molecule, number, options))
    if not ids:  # strained cages: start from random coordinates
        options.useRandomCoords = True
        ids = list(embedding.EmbedMultipleConfs(molecule, number, options))
    if not ids:
        raise ValueError(
            f"no three-dimensional geometry was found for '{smiles}'; give a structure file instead"
        )
    energies = _optimize(embedding, molecule)
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    order = sorted(range(len(ids)), key=lambda k: (energies[k], k))
    found: list[Atoms] = []
    seen: list[np.ndarray] = []
    for k in order:
        atoms = Atoms(numbers, molecule.GetConformer(ids[k]).GetPositions())
        shape = _shape(atoms)
        if all(np.abs(shape - other).max(initial=0.0) > _SAME_A for other in seen):
            found.append(atoms)
            seen.append(shape)
    return found


def _shape(atoms: Atoms) -> np.ndarray:
    """Distances in Å, sorted among pairs of the same elements: blind to the order of atoms."""
    first, second = np.triu_indices(len(atoms), k=1)
    z = np.sort(np.stack([atoms.numbers[first], atoms.numbers[second]]), axis=0)
    distances = np.linalg.norm(atoms.positions[first] - atoms.positions[second], axis=1)
    return distances[np.lexsort((distances, z[1], z[0]))]


def _optimize(embedding: Any, molecule: Any) -> list[float]:
    """Force-field energies (kcal/mol) after optimizing all conformers in place."""
    count = molecule.GetNumConformers()
    if molecule.GetNumAtoms() == 1:
        return [0.0] * count
    if embedding.MMFFHasAllMoleculeParams(molecule):
        results = embedding.MMFFOptimizeMoleculeConfs(molecule, maxIters=_OPTIMIZER_STEPS)
    elif embedding.UFFHasAllMoleculeParams(molecule):
        results = embedding.UFFOptimizeMoleculeConfs(molecule, maxIters=_OPTIMIZER_STEPS)
    else:
        return [0.0] * count  # the embedding alone must do
    return [float(energy) for _, energy in results]


def _side_by_side(molecules: list[Atoms]) -> Atoms:
    """Molecules along x with a gap between them, so that none overlap."""
    joined = molecules[0].copy()
    for molecule in molecules[1:]:
        moved = molecule.copy()
        edge = joined.positions[:, 0].max() - moved.positions[:, 0].min()
        reach = covalent_radii[joined.numbers].max() + covalent_radii[moved.numbers].max()
        moved.positions[:, 0] += edge + max(_GAP_A, _OVERLAP * float(reach))
        centers = joined.positions.mean(axis=0) - moved.positions.mean(axis=0)
        moved.positions[:, 1:] += centers[1:]
        joined += moved
    joined.positions = np.ascontiguousarray(joined.positions)
    return joined
