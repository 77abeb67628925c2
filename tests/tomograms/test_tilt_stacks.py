"""Planted particles come back from their 2D tilt stacks, where they were and as they were."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from planted_tilt_series import (
    CENTRE_A,
    VOXEL_A,
    Particle,
    Series,
    density,
    write_relion5,
    write_stack,
    write_warp,
)
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from tomadapt.errors import ConfigError, InputError, OutputError
from tomadapt.fsc import fourier_shell_correlation
from tomadapt.io.mrc import open_mrc
from tomadapt.tomograms.tilt_stacks import reconstruct_tilt_stacks

pytestmark = pytest.mark.usefixtures("one_thread")

LOPSIDED = Series(tilts_deg=tuple(np.arange(-66.0, 49.0, 3.0).tolist()), in_plane_deg=100.0)


def in_wedge(n: int, first_deg: float = -60, last_deg: float = 60) -> NDArray[np.bool_]:
    """Where slices of a specimen turned about +y lie: along (cos θ, sin θ) in x and z."""
    k = np.fft.fftfreq(n, 1 / n)
    angle = np.rad2deg(np.arctan2(k[:, None] * np.sign(k + 0.1), np.abs(k)[None, :]))
    within = (angle >= first_deg) & (angle <= last_deg)
    return np.broadcast_to(within[:, None, :], (n, n, n))


def correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def reversed_about_centre(volume: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    flipped = np.flip(volume, axis)
    return np.roll(flipped, 1, axis) if volume.shape[0] % 2 == 0 else flipped


@pytest.mark.parametrize("n", [24, 25])
@pytest.mark.parametrize("series", [Series(), LOPSIDED], ids=["even tilts", "lopsided"])
def test_a_planted_density_comes_back_in_the_tomograms_frame(
    tmp_path: Path, n: int, series: Series
) -> None:
    particle = Particle(noise=0.003)
    found = reconstruct_tilt_stacks(write_warp(tmp_path, n, series, [particle]), contrast="measure")
    assert found.volumes.shape == (1, n, n, n)
    assert found.volumes.dtype == np.float32
    true = density(n, particle.rotation).astype(np.float32)
    cube = found.volumes[0]
    wedge = in_wedge(n, series.tilts_deg[0], series.tilts_deg[-1])
    fsc = fourier_shell_correlation(cube, true, measured=wedge)
    # The outermost shell is where trilinear weights end.
    assert fsc[1 : (n - 1) // 2].min() >= 0.95
    as_it_is = correlation(cube, true)
    assert as_it_is > 0.8
    for axis in range(3):
        assert correlation(reversed_about_centre(cube, axis), true) < as_it_is - 0.1
    assert correlation(np.roll(cube, 1, axis=2), true) < as_it_is - 0.1
    # Projections of a density come back as that density, up to the wedge and the regularisation.
    assert 0.5 < cube.max() / true.max() < 1.1


def test_the_wedge_is_empty_and_lies_along_the_beam(tmp_path: Path) -> None:
    n = 24
    particle = Particle(noise=1.0)
    found = reconstruct_tilt_stacks(
        write_warp(tmp_path, n, LOPSIDED, [particle]), contrast="positive"
    )
    power = np.abs(np.fft.fftn(found.volumes[0])) ** 2
    k = np.fft.fftfreq(n, 1 / n)
    radius = np.hypot(k[:, None], k[None, :])[:, None, :]
    ring = np.broadcast_to((radius > 6) & (radius < 11), (n, n, n))
    inside = ring & in_wedge(n, -66 + 4, 48 - 4)
    outside = ring & ~in_wedge(n, -66 - 8, 48 + 8)
    assert power[outside].mean() < 0.02 * power[inside].mean()


def test_what_is_told_of_the_acquisition(tmp_path: Path) -> None:
    found = reconstruct_tilt_stacks(
        write_warp(tmp_path, 24, LOPSIDED, [Particle(noise=0.1)]), contrast="positive"
    )
    acquisition = found.acquisition
    assert acquisition.name == "T_01.tomostar"
    np.testing.assert_allclose(acquisition.tilt_angles_deg, LOPSIDED.tilts_deg, atol=1e-6)
    assert acquisition.defocus_um == pytest.approx(LOPSIDED.defocus_A.mean() * 1e-4)
    assert acquisition.voltage_kv == 300
    assert acquisition.spherical_aberration_mm == 2.7
    assert acquisition.amplitude_contrast == 0.07
    assert acquisition.exposure_per_tilt_e_per_A2 == 2.5
    assert acquisition.exposure_order[0] == pytest.approx(0)
    assert found.voxel_size_A == VOXEL_A
    assert found.images.tolist() == [len(LOPSIDED)]
    geometry = found.geometries["T_01.tomostar"]
    assert geometry.tilt_axis_off_y_deg == pytest.approx(0, abs=1e-4)
    # y is turned by 100° from the images' y axis, and so by 190° from their x axis.
    x, y = geometry.projections[:, 0, 1].sum(), geometry.projections[:, 1, 1].sum()
    assert np.rad2deg(np.arctan2(y, x)) % 360 == pytest.approx(190, abs=1e-6)


def test_poses_belong_to_the_cubes(tmp_path: Path) -> None:
    n, particles = 24, [Particle(), Particle(position_A=(500, 700, 600), angles_deg=(-80, 40, 10))]
    found = reconstruct_tilt_stacks(
        write_warp(tmp_path, n, Series(), particles), contrast="positive"
    )
    assert found.rotations is not None
    for rotation, particle in zip(found.rotations, particles, strict=True):
        assert (rotation * particle.rotation.inv()).magnitude() < 1e-6
    aligned = [aligned_to(cube, r) for cube, r in zip(found.volumes, found.rotations, strict=True)]
    for cube in aligned:
        assert correlation(cube, density(n)) > 0.8


def aligned_to(cube: NDArray[np.float32], rotation: Rotation) -> NDArray[np.float64]:
    """The cube turned back into the pose of the reference."""
    n = len(cube)
    matrix = rotation.as_matrix()[::-1, ::-1]
    offset = n // 2 - matrix @ np.full(3, n // 2)
    return np.asarray(affine_transform(cube.astype(np.float64), matrix, offset=offset, order=1))


@pytest.mark.parametrize("n", [24, 25])
def test_relion5_with_shifts_boxes_and_only_the_visible_images(tmp_path: Path, n: int) -> None:
    shown = tuple(index % 9 != 4 for index in range(len(LOPSIDED)))
    particle = Particle(
        origin_A=(15.0, -9.0, 21.0), box_angles_deg=(10.0, 50.0, 80.0), visible=shown
    )
    star = write_relion5(tmp_path, n, LOPSIDED, [particle])
    found = reconstruct_tilt_stacks(star, contrast="positive")
    wedge = in_wedge(n, LOPSIDED.tilts_deg[0], LOPSIDED.tilts_deg[-1])
    true = density(n, particle.rotation).astype(np.float32)
    assert found.rotations is not None
    assert (found.rotations[0] * particle.rotation.inv()).magnitude() < 1e-6
    assert found.images.tolist() == [sum(shown)]
    assert len(found.acquisition.tilt_angles_deg) == sum(shown)
    fsc = fourier_shell_correlation(found.volumes[0], true, measured=wedge)
    assert fsc[1 : n // 3].min() >= 0.95
    refined = np.array(particle.position_A) - particle.box.apply(particle.origin_A)
    np.testing.assert_allclose(found.particles.coordinates_A[0], refined, atol=1e-6)
    mirrored = reconstruct_tilt_stacks(star, contrast="positive", mirror=True)
    turned = reversed_about_centre(found.volumes[0], 0)
    np.testing.assert_allclose(mirrored.volumes[0], turned, atol=1e-5)


def test_the_same_particle_from_warp_and_relion_is_the_same(tmp_path: Path) -> None:
    a = write_warp(tmp_path / "warp", 24, Series(), [Particle()])
    b = write_relion5(tmp_path / "relion", 24, Series(), [Particle()])
    first, second = (reconstruct_tilt_stacks(path, contrast="positive") for path in (a, b))
    np.testing.assert_allclose(first.volumes, second.volumes, atol=1e-5)


def test_a_mirrored_series_is_mirrored_back(tmp_path: Path) -> None:
    n, particle = 24, Particle()
    path = write_warp(tmp_path, n, LOPSIDED, [particle])
    plain = reconstruct_tilt_stacks(path, contrast="positive")
    found = reconstruct_tilt_stacks(path, contrast="positive", mirror=True)
    np.testing.assert_allclose(
        found.volumes[0], reversed_about_centre(plain.volumes[0], 0), atol=1e-5
    )
    angles = found.acquisition.tilt_angles_deg
    np.testing.assert_allclose(angles, -np.array(LOPSIDED.tilts_deg)[::-1], atol=1e-6)
    # Turned back by its pose, it is the mirror image of the reference.
    assert found.rotations is not None
    aligned = aligned_to(found.volumes[0], found.rotations[0])
    mirrored = reversed_about_centre(density(n).astype(np.float32), 0)
    assert correlation(aligned, mirrored) > 0.8
    assert correlation(aligned, density(n)) < 0.75


def test_negative_contrast_is_turned_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    particles = [
        Particle(position_A=(300 + 90 * i, 800, 400), noise=0.05, angles_deg=(20 * i, 70, 5))
        for i in range(6)
    ]
    path = write_warp(tmp_path, 24, Series(), particles)
    positive = reconstruct_tilt_stacks(path, contrast="positive")
    for stack in (tmp_path / "stacks").iterdir():
        write_stack(stack, -np.array(open_mrc(stack)[1]))
    negative = reconstruct_tilt_stacks(path, contrast="negative")
    np.testing.assert_allclose(negative.volumes, positive.volumes, atol=1e-6)
    with pytest.raises(ConfigError, match="seems inverted"):
        reconstruct_tilt_stacks(path, contrast="measure")
    with pytest.warns(UserWarning, match="positive contrast"):
        reconstruct_tilt_stacks(path, contrast="positive")


@pytest.mark.parametrize("box", [16, 17])
def test_a_smaller_box_is_the_middle_of_the_larger(tmp_path: Path, box: int) -> None:
    path = write_warp(tmp_path, 24, Series(), [Particle()])
    whole = reconstruct_tilt_stacks(path, contrast="positive").volumes[0]
    part = reconstruct_tilt_stacks(path, contrast="positive", box=box).volumes[0]
    first = 12 - box // 2
    cut = slice(first, first + box)
    np.testing.assert_array_equal(part, whole[cut, cut, cut])


def test_cubes_are_written_one_by_one_to_a_file(tmp_path: Path) -> None:
    particles = [Particle(), Particle(position_A=(500, 700, 600), tomogram="T_02")]
    path = write_warp(tmp_path, 24, Series(), particles)
    held = reconstruct_tilt_stacks(path, contrast="positive")
    written = reconstruct_tilt_stacks(path, contrast="positive", out=tmp_path / "cubes.npy")
    assert isinstance(written.volumes, np.memmap)
    np.testing.assert_array_equal(np.load(tmp_path / "cubes.npy"), held.volumes)
    assert written.tomograms == ("T_01.tomostar", "T_02.tomostar")
    assert set(written.acquisitions) == {"T_01.tomostar", "T_02.tomostar"}
    with pytest.raises(OutputError):
        reconstruct_tilt_stacks(path, contrast="positive", out=tmp_path / "no folder" / "cubes.npy")


def test_the_particles_star_finds_the_tomograms_beside_it_or_is_told(tmp_path: Path) -> None:
    chosen = write_warp(tmp_path, 24, Series(), [Particle()])
    star = chosen.with_name("matching.star")
    cube = reconstruct_tilt_stacks(chosen, contrast="positive").volumes
    np.testing.assert_array_equal(reconstruct_tilt_stacks(star, contrast="positive").volumes, cube)
    moved = tmp_path / "elsewhere.star"
    shutil.move(chosen.with_name("matching_tomograms.star"), moved)
    with pytest.raises(ConfigError, match="tilt series"):
        reconstruct_tilt_stacks(star, contrast="positive")
    found = reconstruct_tilt_stacks(star, contrast="positive", tomograms=moved)
    np.testing.assert_array_equal(found.volumes, cube)


def test_defocus_follows_the_depth(tmp_path: Path) -> None:
    """A particle 0.3 µm from the centre: with the wrong hand its CTF is another."""
    deep = (CENTRE_A[0], CENTRE_A[1], CENTRE_A[2] + 6000.0)
    true = density(24, Particle().rotation).astype(np.float32)
    path = write_warp(tmp_path, 24, Series(), [Particle(position_A=deep)])
    right = reconstruct_tilt_stacks(path, contrast="positive").volumes[0]
    tomograms = path.with_name("matching_tomograms.star")
    text = tomograms.read_text(encoding="utf-8")
    tomograms.write_text(text.replace("400  -1.0", "400  1.0"), encoding="utf-8")
    wrong = reconstruct_tilt_stacks(path, contrast="positive").volumes[0]
    errors = [spectral_error(cube, true) for cube in (right, wrong)]
    assert errors[0] < 0.3
    assert errors[1] > 2 * errors[0]


def spectral_error(cube: NDArray[np.float32], true: NDArray[np.float32]) -> float:
    """Relative error of the transform in the wedge, beyond the shells that ε holds down."""
    k = np.fft.fftfreq(24, 1 / 24)
    radius = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)
    there = in_wedge(24) & (radius > 4) & (radius < 10)
    found, wanted = np.fft.fftn(cube)[there], np.fft.fftn(true)[there]
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def test_options_that_cannot_be_used(tmp_path: Path) -> None:
    path = write_warp(tmp_path, 24, Series(), [Particle()])
    with pytest.raises(ConfigError, match="larger than the images"):
        reconstruct_tilt_stacks(path, contrast="positive", box=25)
    with pytest.raises(ConfigError, match="contrast"):
        reconstruct_tilt_stacks(path, contrast="dark")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot read"):
        reconstruct_tilt_stacks(tmp_path / "none.star", contrast="positive")


def test_whitened_cubes_say_what_was_let_through(tmp_path: Path) -> None:
    n = 24
    star = write_warp(tmp_path, n, Series(), [Particle(), Particle()])
    plain = reconstruct_tilt_stacks(star, contrast="positive")
    assert plain.transfers == {}
    found = reconstruct_tilt_stacks(star, contrast="positive", whitened=True)
    assert list(found.transfers) == list(found.acquisitions)
    (transfer,) = found.transfers.values()
    assert transfer.shape == (n, n, n // 2 + 1)
    for white, corrected in zip(found.volumes, plain.volumes, strict=True):
        one, other = (np.fft.rfftn(np.fft.ifftshift(v)) for v in (white, corrected))
        assert np.abs(one[transfer == 0]).max() < 1e-3 * np.abs(one).max()
        well = transfer > 0.5 * transfer.max()
        # What is corrected was divided by √W once more, which is about the transfer.
        ratio = np.abs(one[well]) / np.maximum(np.abs(other[well]), 1e-9)
        np.testing.assert_allclose(np.median(ratio / transfer[well]), 1, atol=0.15)
    with pytest.raises(ConfigError, match="whitened cubes cannot be cut smaller"):
        reconstruct_tilt_stacks(star, contrast="positive", whitened=True, box=16)


@pytest.mark.data
def test_real_ribosomes_average_to_the_exports_own_map(data_folder: Path) -> None:
    """Their series was imported with inverted tilt angles: the map is of the true hand."""
    folder = data_folder / "real_ribosomes"
    sets = list(folder.glob("*_optimisation_set.star"))
    if not sets:
        pytest.skip(f"no optimisation set in {folder}")
    own = np.array(open_mrc(folder / "warptools_test_box-32_angpix-12_reconstruct.mrc")[1])
    measured = {}
    for mirror in (False, True):
        found = reconstruct_tilt_stacks(sets[0], contrast="measure", mirror=mirror)
        assert found.volumes.shape == (40, 32, 32, 32)
        assert found.dropped == {}
        assert found.rotations is not None
        pairs = zip(found.volumes, found.rotations, strict=True)
        average = np.mean([aligned_to(cube, rotation) for cube, rotation in pairs], axis=0)
        ball = density_ball(32, 14)
        measured[mirror] = correlation(average[ball], own[ball])
        assert all(g.tilt_axis_off_y_deg < 5 for g in found.geometries.values())
        assert all(34 <= count <= 37 for count in found.images)
    assert measured[True] > 0.75
    assert measured[False] < measured[True] - 0.1


def density_ball(n: int, radius: float) -> NDArray[np.bool_]:
    axis = np.arange(n) - n // 2
    square = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    return np.asarray(square < radius**2)
