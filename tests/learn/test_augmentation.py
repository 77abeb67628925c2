from __future__ import annotations

import numpy as np
import pytest
import torch

from tomadapt.acquisition import Acquisition, tilt_range
from tomadapt.learn.augmentation import half_turns, turn_and_shift, wedge_is_symmetric

NONE = np.zeros((1, 3), int)


def wedge_power(volume, angles):
    """Power in the wedge that tilts about y from angles[0] to angles[1] do not reach."""
    d = volume.shape[0]
    power = np.abs(np.fft.fftn(volume)) ** 2
    k = np.fft.fftfreq(d, 1 / d)
    angle = np.rad2deg(np.arctan2(k[:, None], k[None, :]))
    folded = (angle + 90) % 180 - 90
    outside = (folded > angles[1]) | (folded < angles[0])
    if d % 2 == 0:
        outside[d // 2, :] = outside[:, d // 2] = False
    return power[np.broadcast_to(outside[:, None, :], power.shape)].sum() / power.sum()


def in_wedge(d, angles):
    """A random real volume with nothing in the missing wedge."""
    spectrum = np.fft.fftn(np.random.default_rng(0).normal(size=(d, d, d)))
    k = np.fft.fftfreq(d, 1 / d)
    angle = np.rad2deg(np.arctan2(k[:, None], k[None, :]))
    folded = (angle + 90) % 180 - 90
    keep = (folded <= angles[1]) & (folded >= angles[0])
    if d % 2 == 0:
        keep[d // 2, :] = keep[:, d // 2] = False
        spectrum[:, d // 2] = 0
    return np.fft.ifftn(spectrum * keep[:, None, :]).real


@pytest.mark.parametrize("d", [24, 25])
@pytest.mark.parametrize("flips", [(1, 0), (0, 1), (1, 1)])
def test_half_turns_leave_a_symmetric_wedge_empty(d, flips):
    volume = torch.from_numpy(in_wedge(d, (-60, 60)))[None]
    turned = turn_and_shift(volume, np.array([flips]), NONE, turns=(True, True))
    assert not torch.equal(turned, volume)
    assert wedge_power(turned[0].numpy(), (-60, 60)) < 1e-20


def test_only_the_turn_about_y_is_used_when_the_range_is_asymmetric():
    volume = torch.from_numpy(in_wedge(25, (-50, 70)))[None]
    turned = turn_and_shift(volume, np.array([[1, 1]]), NONE, turns=(True, False))
    assert wedge_power(turned[0].numpy(), (-50, 70)) < 1e-20
    wrong = turn_and_shift(volume, np.array([[1, 1]]), NONE, turns=(True, True))
    assert wedge_power(wrong[0].numpy(), (-50, 70)) > 0.01


@pytest.mark.parametrize("d", [8, 9])
def test_half_turns_are_rotations_about_the_centre(d):
    volume = torch.zeros(1, d, d, d)
    c = d // 2
    volume[0, c, c, c] = 5.0
    volume[0, c + 1, c + 2, c + 3] = 1.0  # (z, y, x)
    expected = {(1, 0): (-1, 2, -3), (0, 1): (1, -2, -3), (1, 1): (-1, -2, 3)}
    for flips, (z, y, x) in expected.items():
        turned = turn_and_shift(volume, np.array([flips]), NONE, turns=(True, True))[0]
        assert turned[c, c, c] == 5.0
        assert turned[c + z, c + y, c + x] == 1.0


def test_shift_moves_by_whole_voxels():
    volume = torch.zeros(1, 8, 8, 8)
    volume[0, 4, 4, 4] = 1.0
    moved = turn_and_shift(
        volume, np.zeros((1, 2), int), np.array([[1, -2, 2]]), turns=(True, True)
    )
    assert moved[0, 5, 2, 6] == 1.0


def test_symmetry_of_the_wedge_is_read_from_the_acquisition():
    assert wedge_is_symmetric(Acquisition(defocus_um=5))
    asymmetric = Acquisition(defocus_um=5, tilt_angles_deg=tilt_range(-50, 70, 3))
    assert not wedge_is_symmetric(asymmetric)
    assert not wedge_is_symmetric(None)


def test_astigmatism_forbids_half_turns_about_the_tilt_axis():
    """Regression: they mirror the direction of astigmatism."""
    assert half_turns(Acquisition(defocus_um=5)) == (True, True)
    assert half_turns(Acquisition(defocus_um=5, astigmatism_um=0.5)) == (False, True)
    assert half_turns(None) == (True, False)
    volume = torch.randn(1, 9, 9, 9)
    kept = turn_and_shift(volume, np.array([[1, 0]]), NONE, turns=(False, True))
    assert torch.equal(kept, volume)
