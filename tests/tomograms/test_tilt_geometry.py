"""What the files say of each tilt image, against the same written out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted_tilt_series import CENTRE_A, VOXEL_A, Particle, Series, write_relion5, write_warp

from tomadapt.tomograms.relion_stacks import open_tilt_stacks
from tomadapt.tomograms.tilt_geometry import MIRROR, TiltGeometry

SERIES = Series(tilts_deg=tuple(np.arange(-66.0, 49.0, 3.0).tolist()), in_plane_deg=100.0)


def geometry_of(folder: Path, series: Series = SERIES) -> TiltGeometry:
    stacks = open_tilt_stacks(write_warp(folder, 24, series, [Particle()]))
    return stacks.geometries["T_01.tomostar"]


@pytest.mark.parametrize("n", [24, 25])
@pytest.mark.parametrize("hand", [-1.0, 1.0])
@pytest.mark.parametrize("depth_A", [0.0, 5000.0])
def test_amplitudes_are_ctf_times_exposure_times_scale(
    tmp_path: Path, n: int, hand: float, depth_A: float
) -> None:
    series = replace(SERIES, hand=hand)
    position = CENTRE_A + np.array([300.0, -800.0, depth_A])
    found = geometry_of(tmp_path, series).amplitudes(n, VOXEL_A, position)
    # The constants of the exposure curve are written with three digits by RELION.
    np.testing.assert_allclose(found, series.amplitudes(n, position), atol=2e-3)
    at_centre = np.abs(found - series.amplitudes(n, CENTRE_A)).max()
    assert at_centre > (0.3 if depth_A else 0.01)


def test_tilts_and_axis(tmp_path: Path) -> None:
    geometry = geometry_of(tmp_path)
    np.testing.assert_allclose(geometry.tilt_angles_deg, SERIES.tilts_deg, atol=1e-6)
    np.testing.assert_allclose(geometry.tilt_axis, [0, 1, 0], atol=1e-6)
    tipped = replace(geometry, projections=geometry.projections @ rotation_about_z(-8).T)
    assert tipped.tilt_axis_off_y_deg == pytest.approx(8, abs=1e-4)


def rotation_about_z(degrees: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@pytest.mark.parametrize("in_plane_deg", [100.0, -85.0, 90.0])
def test_images_that_were_turned_one_by_one_are_seen(in_plane_deg: float, tmp_path: Path) -> None:
    """A direction of 90° in the plane has the axis at ±180°."""
    geometry = geometry_of(tmp_path, replace(SERIES, in_plane_deg=in_plane_deg))
    assert geometry.tilt_axis_scatter_deg < 1e-5
    turns = np.random.default_rng(0).normal(scale=2.0, size=len(geometry))
    turned = np.stack([rotation_about_z(t) for t in turns]) @ geometry.projections
    stray = replace(geometry, projections=turned)
    assert stray.tilt_axis_scatter_deg == pytest.approx(2.0, rel=0.4)
    # Images that are not used do not count.
    used = replace(stray, scale=np.where(np.abs(turns) > 0.5, 0.0, stray.scale))
    assert used.tilt_axis_scatter_deg < 0.6
    assert replace(stray, scale=0 * stray.scale).tilt_axis_scatter_deg == 0


def test_angles_of_relion5_are_the_same_as_matrices(tmp_path: Path) -> None:
    stacks = open_tilt_stacks(write_relion5(tmp_path, 24, SERIES, [Particle()]))
    found = stacks.geometries["T_01"].projections
    np.testing.assert_allclose(found, SERIES.matrices, atol=1e-12)


def test_the_mirror_image_has_the_same_images(tmp_path: Path) -> None:
    geometry = geometry_of(tmp_path)
    mirrored = geometry.mirrored()
    points = np.random.default_rng(0).standard_normal((5, 3))
    before = points @ geometry.projections[:, :2].transpose(0, 2, 1)
    after = (points @ MIRROR) @ mirrored.projections[:, :2].transpose(0, 2, 1)
    np.testing.assert_allclose(after, before, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(mirrored.projections), 1)
    np.testing.assert_allclose(mirrored.tilt_angles_deg, -geometry.tilt_angles_deg, atol=1e-9)
    offset = np.array([300.0, -800.0, 5000.0])
    np.testing.assert_allclose(
        mirrored.amplitudes(24, VOXEL_A, CENTRE_A + MIRROR @ offset),
        geometry.amplitudes(24, VOXEL_A, CENTRE_A + offset),
        atol=1e-6,
    )


def test_envelopes_and_phase_plates_are_taken_from_the_file(tmp_path: Path) -> None:
    plain = geometry_of(tmp_path)
    count = len(plain)
    k = np.fft.fftfreq(24, VOXEL_A)
    square = k[:, None] ** 2 + k**2
    without = replace(plain, exposure_e_per_A2=np.zeros(count))
    reference = without.amplitudes(24, VOXEL_A, CENTRE_A)
    enveloped = replace(without, b_factor_A2=np.full(count, 200.0))
    np.testing.assert_allclose(
        enveloped.amplitudes(24, VOXEL_A, CENTRE_A),
        reference * np.exp(-50 * square),
        atol=1e-9,
    )
    exposed = replace(plain, b_factor_per_exposure=4.0)
    np.testing.assert_allclose(
        exposed.amplitudes(24, VOXEL_A, CENTRE_A),
        reference * np.exp(-plain.exposure_e_per_A2[:, None, None] * square),
        atol=1e-9,
    )
    plate = replace(without, phase_shift_deg=np.full(count, 90.0))
    at_origin = plate.amplitudes(24, VOXEL_A, CENTRE_A)[:, 0, 0]
    np.testing.assert_allclose(at_origin, plain.scale * np.sqrt(1 - 0.07**2), atol=1e-5)


def test_angles_that_are_alike_count_once_in_the_acquisition(tmp_path: Path) -> None:
    geometry = geometry_of(tmp_path)
    projections = geometry.projections.copy()
    projections[5] = projections[6]
    twice = replace(geometry, projections=projections)
    acquisition = twice.acquisition("x", np.ones(len(twice), dtype=bool))
    assert len(acquisition.tilt_angles_deg) == len(twice) - 1
    with pytest.raises(ValueError, match="at least 3"):
        geometry.acquisition("x", np.arange(len(geometry)) < 2)
