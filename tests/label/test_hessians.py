"""Second derivatives as labels: exact for springs, and in the file where they are asked for."""

import ase.io
import numpy as np
import pytest

from dreibein.label.calculations import Labels, hessian_of


class Springs:
    """E = x K x / 2 of all coordinates."""

    def __init__(self, stiffness):
        self.stiffness = stiffness

    def labels(self, positions):
        x = positions.ravel()
        forces = -(self.stiffness @ x).reshape(-1, 3)
        return Labels(0.5 * float(x @ self.stiffness @ x), forces, np.zeros(len(positions)))


def test_differences_are_exact_for_springs():
    generator = np.random.default_rng(0)
    stiffness = generator.normal(size=(6, 6))
    stiffness += stiffness.T
    found = hessian_of(Springs(stiffness), generator.normal(size=(2, 3)))
    np.testing.assert_allclose(found, stiffness, atol=1e-9)


def test_the_file_has_them(tmp_path):
    pytest.importorskip("tblite.interface")
    from ase import Atoms

    from dreibein.label import LabelConfig, generate_labels

    ase.io.write(tmp_path / "h2.xyz", Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.75]]))
    config = LabelConfig(structure=str(tmp_path / "h2.xyz"), single_points=True, hessian=True)
    generate_labels(config, tmp_path / "out.extxyz", workers=1)
    matrix = ase.io.read(tmp_path / "out.extxyz").info["hessian"].reshape(6, 6)
    np.testing.assert_allclose(matrix, matrix.T)
    assert matrix[2, 5] < -20.0  # the bond, eV/Å²
    assert abs(matrix.reshape(2, 3, 2, 3).sum(2)).max() < 0.01  # no force on the whole
