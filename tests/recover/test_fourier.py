"""Measured points: wedge, transfer, transforms and power."""

import numpy as np
import pytest
import torch

from recover.conftest import phantom
from tomadapt.acquisition import BATCH_A, Acquisition, tilt_range
from tomadapt.recover.fourier import MeasuredPoints, shell_power
from tomadapt.simulate.optics import electron_wavelength_A

WHOLE = Acquisition(defocus_um=0.0, tilt_angles_deg=tilt_range(-90, 87, 3), mtf="none")


@pytest.mark.parametrize("n", [24, 27])
def test_no_point_lies_in_the_missing_wedge(n):
    points = MeasuredPoints.of(BATCH_A, n=n, voxel_size_A=9.2)
    x, _, z = (points.k * n).T.numpy()
    # A slice reaches half a voxel beyond itself.
    beyond = np.abs(z) - np.tan(np.radians(60)) * np.abs(x)
    assert beyond.max() <= 1 / np.cos(np.radians(60))
    assert len(points.index) < 0.85 * len(MeasuredPoints.everywhere(n).index)


@pytest.mark.parametrize("n", [24, 27])
def test_points_have_all_the_power_below_nyquist(n):
    volume = torch.from_numpy(phantom(n) - phantom(n).mean())
    points = MeasuredPoints.everywhere(n)
    power = float((points.transforms(volume[None])[0].abs().square() * points.multiplicity).sum())
    # Parseval; the phantom has next to nothing beyond Nyquist.
    assert power / n**3 == pytest.approx(float(volume.square().sum()), rel=1e-3)


def test_the_transfer_is_the_ctf():
    acquisition = WHOLE.model_copy(
        update={"defocus_um": 4.0, "spherical_aberration_mm": 0.0, "amplitude_contrast": 0.0}
    )
    points = MeasuredPoints.of(acquisition, n=32, voxel_size_A=12.0)
    k_A = points.k.norm(dim=1).double() / 12.0
    expected = torch.sin(torch.pi * electron_wavelength_A(300.0) * 4e4 * k_A**2)
    low = points.shell < 10  # where the CTF changes little between the points that are averaged
    assert (points.transfer[low].double() - expected[low]).abs().max() < 0.12
    assert (points.transfer[low].double() - expected[low]).abs().mean() < 0.03


def test_a_flat_transfer_is_one():
    points = MeasuredPoints.of(BATCH_A, n=24, voxel_size_A=9.2, ctf_corrected=True)
    torch.testing.assert_close(points.transfer, torch.ones_like(points.transfer))


@pytest.mark.parametrize("n", [24, 27])
def test_phases_move_an_object(n):
    points = MeasuredPoints.everywhere(n)
    shift = (1.5, -0.75, 2.25)
    here, moved = points.transforms(
        torch.from_numpy(np.stack([phantom(n), phantom(n, shift=shift)]))
    )
    turned = here * points.phases(torch.tensor(shift))
    assert (turned - moved).abs().max() < 2e-3 * here.abs().max()


def test_lower_shells_are_a_part():
    points = MeasuredPoints.of(BATCH_A, n=24, voxel_size_A=9.2)
    low = points.up_to(5)
    assert int(low.shell.max()) == 5
    assert len(low.index) == int((points.shell <= 5).sum())
    assert torch.equal(low.transfer, points.transfer[points.shell <= 5])


def test_the_power_of_white_noise_is_flat(planted):
    noise = planted.data.subset(np.flatnonzero(planted.data.labels == 2)).unlabelled()
    power = shell_power(noise, planted.points)
    assert power.shape == (16,)
    again = shell_power(noise, planted.points, at_most=len(noise))
    assert torch.equal(power, again)
    assert (power > 0).all()


@pytest.mark.parametrize("n", [16, 17])
def test_volumes_are_transforms_reversed(n: int) -> None:
    """A volume without what lies at zero and beyond Nyquist comes back as it was."""
    points = MeasuredPoints.everywhere(n)
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((2, n, n, n)))
    once = points.volumes(points.transforms(noise.float()))
    again = points.volumes(points.transforms(once))
    torch.testing.assert_close(again, once, rtol=1e-4, atol=1e-5)
    correlation = np.corrcoef(once.flatten().numpy(), noise.flatten().numpy())[0, 1]
    assert correlation > 0.6
