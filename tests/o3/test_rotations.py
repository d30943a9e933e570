"""Random and given rotations."""

import math

import e3nn.o3
import torch

from dreibein.o3 import determinant, from_axis_angle, from_quaternion, random_rotations


def test_quaternions_and_axes_agree_with_e3nn(generator):
    quaternion = torch.randn(20, 4, generator=generator)
    unit = torch.nn.functional.normalize(quaternion, dim=-1)
    expected = e3nn.o3.quaternion_to_matrix(unit)
    assert torch.allclose(from_quaternion(quaternion), expected, atol=1e-13)
    axis = torch.nn.functional.normalize(torch.randn(20, 3, generator=generator), dim=-1)
    angle = torch.linspace(-math.pi, math.pi, 20)
    expected = e3nn.o3.axis_angle_to_matrix(axis, angle)
    assert torch.allclose(from_axis_angle(axis, angle), expected, atol=1e-13)


def test_random_rotations_are_orthogonal_uniform_and_repeatable():
    def draw(improper: bool) -> torch.Tensor:
        return random_rotations(4000, generator=torch.Generator().manual_seed(3), improper=improper)

    turns = draw(False)
    assert torch.equal(turns, draw(False))
    assert (turns @ turns.mT - torch.eye(3)).abs().max() < 1e-14
    assert (determinant(turns) - 1).abs().max() < 1e-14
    assert turns.mean(0).abs().max() < 0.05
    assert (turns.square().mean(0) - 1 / 3).abs().max() < 0.02
    assert 0.4 < (determinant(draw(True)) > 0).double().mean() < 0.6
