"""A reference's transform at rotated points, and its slopes."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from recover.conftest import phantom
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.recover.reference import Reference

TURNS = Rotation.random(3, rng=4).as_matrix()


@pytest.mark.parametrize("n", [28, 29])
def test_turned_transforms_are_those_of_turned_objects(n):
    points = MeasuredPoints.everywhere(n)
    found = Reference.of(phantom(n)).at(torch.from_numpy(TURNS).float(), points)
    turned = torch.from_numpy(np.stack([phantom(n, R) for R in TURNS]))
    expected = points.transforms(turned)
    error = (found - expected).abs().square().sum() / expected.abs().square().sum()
    assert float(error.sqrt()) < 0.03


def test_slopes_are_derivatives_of_turned_objects():
    n, step = 28, 1e-2
    points = MeasuredPoints.everywhere(n).up_to(8)
    reference, R = Reference.of(phantom(n)), TURNS[0]
    values, slopes = reference.with_slopes(torch.from_numpy(R[None]).float(), points)
    torch.testing.assert_close(values, reference.at(torch.from_numpy(R[None]).float(), points))
    for axis in range(3):
        turn = Rotation.from_rotvec(step * np.eye(3)[axis]).as_matrix()
        turned = np.stack([phantom(n, R @ turn), phantom(n, R @ turn.T)])
        ahead, behind = points.transforms(torch.from_numpy(turned))
        numeric = (ahead - behind) / (2 * step)
        error = (numeric - slopes[0, axis]).abs().square().sum().sqrt()
        assert error < 0.06 * numeric.abs().square().sum().sqrt()


def test_what_is_not_let_through_is_not_seen():
    n = 28
    points = MeasuredPoints.everywhere(n)
    halved = MeasuredPoints(
        points.n, points.index, points.k, points.shell, points.multiplicity, points.transfer * 0.5
    )
    reference, R = Reference.of(phantom(n)), torch.eye(3)[None]
    torch.testing.assert_close(reference.at(R, halved), 0.5 * reference.at(R, points))
