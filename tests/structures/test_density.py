"""Densities against their analytic form."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.errors import ConfigError
from tomadapt.structures import (
    AtomicModel,
    centre_of_mass,
    radius_A,
    required_box,
    resample,
    voxelise,
)

Volume = NDArray[np.float32] | NDArray[np.float64]


def model_of(positions: object, masses: object = None, numbers: object = None) -> AtomicModel:
    xyz = np.atleast_2d(np.asarray(positions, dtype=np.float64))
    n = len(xyz)
    return AtomicModel(
        name="test",
        positions_A=xyz,
        masses_da=np.full(n, 12.0) if masses is None else np.asarray(masses, dtype=np.float64),
        occupancies=np.ones(n),
        atomic_numbers=np.full(n, 6) if numbers is None else np.asarray(numbers),
        b_factors=np.zeros(n),
    )


def gaussian(box: int, sigma: float, centre: tuple[float, float, float] | None = None) -> Volume:
    """Sample a 3-D Gaussian of unit integral at voxel centres; ``centre`` is z, y, x."""
    c = (box // 2,) * 3 if centre is None else centre
    axes = [np.exp(-((np.arange(box) - m) ** 2) / (2 * sigma**2)) for m in c]
    volume: Volume = np.einsum("i,j,k->ijk", *axes) / (2 * np.pi * sigma**2) ** 1.5
    return volume


def random_model(seed: int, n: int = 300, spread_A: float = 20.0) -> AtomicModel:
    generator = np.random.default_rng(seed)
    return model_of(
        generator.normal(size=(n, 3)) * [spread_A, 0.5 * spread_A, 0.3 * spread_A],
        generator.choice([12.0, 14.0, 16.0, 32.0], n),
    )


def error(found: Volume, expected: Volume) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("box", [24, 25])
@pytest.mark.parametrize("resolution_A", [6.0, 10.0, 20.0])  # σ of 1, 1.67 and 3.33 voxels
def test_one_atom_is_a_gaussian_at_the_centre(box: int, resolution_A: float) -> None:
    density = voxelise(
        model_of([12.3, -7.7, 40.1]), voxel_size_A=3.0, box=box, resolution_A=resolution_A
    )
    assert density.shape == (box,) * 3
    assert density.dtype == np.float32
    expected = 12.0 * gaussian(box, resolution_A / 2 / 3.0) / 3.0**3
    # At σ = 1 voxel the crop at the Nyquist frequency takes 0.7 % of the amplitude there.
    assert error(density, expected) < (0.01 if resolution_A == 6.0 else 1e-3)
    assert (np.argwhere(density == density.max()) == box // 2).all()


@pytest.mark.parametrize("box", [30, 31])
def test_atoms_are_where_they_should_be(box: int) -> None:
    """Off-grid atoms of unequal mass along x, y and z: the axes are not confused."""
    positions = np.array([[10.1, 0, 0], [0, 21.7, 0], [0, 0, -16.3], [-7.0, -3.0, 2.0]])
    masses = np.array([12.0, 14.0, 16.0, 32.0])
    model = model_of(positions, masses)
    density = voxelise(model, voxel_size_A=4.0, box=box, resolution_A=16.0)
    centred = (positions - masses @ positions / masses.sum()) / 4.0 + box // 2
    expected = sum(
        m * gaussian(box, 2.0, (z, y, x)) / 4.0**3
        for m, (x, y, z) in zip(masses, centred, strict=True)
    )
    assert error(density, np.asarray(expected)) < 1e-3
    np.testing.assert_allclose(centre_of_mass(density, threshold=0), box // 2, atol=2e-3)


@pytest.mark.parametrize("sigma", [0.5, 0.9, 1.1, 1.9, 2.1])
def test_below_the_nyquist_frequency_the_spectrum_is_exact(sigma: float) -> None:
    """Aliasing would show here: it is what simulating on a finer grid avoids."""
    box, position = 32, np.array([[0.3, 0.2, -0.4], [-0.3, -0.2, 0.4]]) * 9.2
    density = voxelise(model_of(position), voxel_size_A=9.2, box=box, resolution_A=2 * sigma * 9.2)
    found = np.fft.fftn(np.fft.ifftshift(density.astype(np.float64))) * 9.2**3
    frequency = np.fft.fftfreq(box)
    z, y, x = np.meshgrid(frequency, frequency, frequency, indexing="ij")
    phase = 2 * np.pi * (0.3 * x + 0.2 * y - 0.4 * z)
    decay = np.exp(-2 * (np.pi * sigma) ** 2 * (x**2 + y**2 + z**2))
    inside = np.maximum(np.maximum(abs(x), abs(y)), abs(z)) < 0.35
    expected = 24.0 * np.cos(phase) * decay
    assert np.abs(found - expected)[inside].max() < 0.012 * 24.0


@pytest.mark.parametrize("box", [40, 41])
@pytest.mark.parametrize("resolution_A", [4.6, 9.2, 30.0])
def test_integral_is_the_mass(box: int, resolution_A: float) -> None:
    model = random_model(1)
    density = voxelise(model, voxel_size_A=5.0, box=box, resolution_A=resolution_A)
    assert density.sum(dtype=float) * 5.0**3 == pytest.approx(model.masses_da.sum(), rel=2e-3)


def test_occupancy_weighs() -> None:
    model = model_of([[0, 0, 0], [0, 0, 0]])
    model.occupancies[1] = 0.5
    density = voxelise(model, voxel_size_A=5.0, box=17, resolution_A=20.0)
    assert density.sum(dtype=float) * 5.0**3 == pytest.approx(18.0, rel=1e-3)


def test_electron_weighting_uses_scattering_factors() -> None:
    model = model_of([[-30, 0, 0], [30, 0, 0]], [1.0, 1.0], [6, 15])
    density = voxelise(model, voxel_size_A=4.0, box=33, resolution_A=16.0, weighting="electron")
    half = density[:, :, :16].sum(), density[:, :, 17:].sum()
    carbon, phosphorus = (sum(gemmi.Element(e).c4322.a) for e in ("C", "P"))
    assert half[1] / half[0] == pytest.approx(phosphorus / carbon, rel=0.01)
    assert density.sum(dtype=float) * 4.0**3 == pytest.approx(carbon + phosphorus, rel=1e-3)


def test_translation_of_the_file_does_not_matter() -> None:
    model = random_model(2)
    moved = model_of(model.positions_A + np.array([101.3, -55.5, 7.7]), model.masses_da)
    first = voxelise(model, voxel_size_A=6.0, box=40, resolution_A=12.0)
    second = voxelise(moved, voxel_size_A=6.0, box=40, resolution_A=12.0)
    assert error(second, first) < 1e-3


def test_rotation_acts_on_column_vectors_xyz() -> None:
    """A quarter turn about z maps (x, y) to (-y, x), which rearranges an array [z, y, x]."""
    model = random_model(3)
    turn = Rotation.from_euler("z", 90, degrees=True)
    turned = model_of(turn.apply(model.positions_A), model.masses_da)
    before = voxelise(model, voxel_size_A=5.0, box=41, resolution_A=12.0)
    after = voxelise(turned, voxel_size_A=5.0, box=41, resolution_A=12.0)
    expected = np.flip(before.transpose(0, 2, 1), axis=2)  # new[z, y', x'] = old[z, -x', y']
    assert error(after, expected) < 1e-3
    assert error(after, before) > 0.3


def test_required_box_and_its_error() -> None:
    model = model_of([[-50, 0, 0], [50, 0, 0]])
    assert required_box(model, 10.0) == 11  # ± 5 voxels reach 55 Å
    assert required_box(model, 10.1) == 11
    assert required_box(model, 9.0) == 13
    voxelise(model, voxel_size_A=10.0, box=11, resolution_A=20.0)
    with pytest.raises(ConfigError, match="at least 11 voxels; got 10 voxels"):
        voxelise(model, voxel_size_A=10.0, box=10, resolution_A=20.0)


def test_required_box_holds_the_structure_in_any_orientation() -> None:
    diagonal = model_of([[-30, -30, -30], [30, 30, 30]])
    assert required_box(diagonal, 10.0) == 11  # 52 Å, not 30 Å


@pytest.mark.parametrize(
    "change",
    [
        {"voxel_size_A": 0.0},
        {"voxel_size_A": float("nan")},
        {"resolution_A": -1.0},
        {"box": 0},
        {"box": 10.5},
        {"weighting": "charge"},
    ],
)
def test_bad_parameters_are_refused(change: dict[str, object]) -> None:
    parameters: dict[str, object] = {"voxel_size_A": 5.0, "box": 21, "resolution_A": 10.0}
    with pytest.raises(ConfigError):
        voxelise(model_of([0, 0, 0]), **(parameters | change))  # type: ignore[arg-type]


def test_nothing_wraps_around() -> None:
    """An atom at the edge of the box, with a tail beyond it."""
    model = model_of([[-48, 0, 0], [48, 0, 0]], [1.0, 1.0])
    small = voxelise(model, voxel_size_A=5.0, box=20 + 1, resolution_A=30.0)
    large = voxelise(model, voxel_size_A=5.0, box=60 + 1, resolution_A=30.0)
    assert error(small, large[20:41, 20:41, 20:41]) < 1e-3


class TestResample:
    @pytest.mark.parametrize("box", [30, 31])
    @pytest.mark.parametrize("voxel_A", [5.0, 7.3, 10.0])
    @pytest.mark.parametrize("size", [48, 49])
    def test_recovers_a_gaussian(self, box: int, voxel_A: float, size: int) -> None:
        sigma_A = 14.0
        source = gaussian(size, sigma_A / 4.0).astype(np.float32) / 4.0**3
        found = resample(source, 4.0, to_voxel_size_A=voxel_A, box=box)
        assert error(found, gaussian(box, sigma_A / voxel_A) / voxel_A**3) < 2e-3
        assert found.sum(dtype=float) * voxel_A**3 == pytest.approx(1.0, rel=2e-3)

    def test_to_finer_voxels_and_by_a_fraction(self) -> None:
        source = gaussian(21, 2.0, (9.25, 10.5, 11.75))
        found = resample(source, 3.0, to_voxel_size_A=1.7, box=36, centre=(9.25, 10.5, 11.75))
        assert error(found, gaussian(36, 2.0 * 3.0 / 1.7) * (3.0 / 1.7) ** 3) < 2e-3

    @pytest.mark.parametrize("box", [16, 17])
    def test_same_grid_changes_nothing(self, box: int) -> None:
        noise = np.random.default_rng(0).normal(size=(box,) * 3)
        assert error(resample(noise, 5.0, to_voxel_size_A=5.0, box=box), noise) < 1e-5

    def test_pad_and_crop(self) -> None:
        noise = np.random.default_rng(0).normal(size=(12, 13, 14))
        padded = resample(noise, 5.0, to_voxel_size_A=5.0, box=20)
        assert error(padded[4:16, 4:17, 3:17], noise) < 1e-5
        assert np.linalg.norm(padded) == pytest.approx(np.linalg.norm(noise), rel=1e-5)
        assert (
            error(resample(padded, 5.0, to_voxel_size_A=5.0, box=8), noise[2:10, 2:10, 3:11]) < 1e-5
        )

    def test_blur_adds_in_quadrature(self) -> None:
        source = gaussian(33, 3.0)
        found = resample(source, 2.0, to_voxel_size_A=2.0, box=33, blur_sigma_A=8.0)
        assert error(found, gaussian(33, 5.0)) < 2e-3

    def test_low_pass_against_aliasing(self) -> None:
        """A wave beyond the new Nyquist frequency is removed, not folded."""
        wave = np.cos(2 * np.pi * 0.4 * (np.arange(64) - 32)) * np.ones((64, 64, 1))
        wave = wave * gaussian(64, 8.0)
        found = resample(wave, 1.0, to_voxel_size_A=2.0, box=32)
        assert np.abs(found).max() < 1e-3 * np.abs(wave).max()

    def test_agrees_with_voxelising_directly(self) -> None:
        model = random_model(5)
        fine = voxelise(model, voxel_size_A=3.0, box=61, resolution_A=9.2)
        for box in (30, 31):
            found = resample(fine, 3.0, to_voxel_size_A=9.2, box=box)
            direct = voxelise(model, voxel_size_A=9.2, box=box, resolution_A=9.2)
            assert error(found, direct) < 5e-3

    def test_refuses_what_is_no_volume(self) -> None:
        with pytest.raises(ConfigError, match="three dimensions"):
            resample(np.ones((4, 4)), 1.0, to_voxel_size_A=1.0, box=4)
        with pytest.raises(ConfigError, match="positive whole number"):
            resample(np.ones((4, 4, 4)), 1.0, to_voxel_size_A=1.0, box=-4)


class TestMeasures:
    @pytest.mark.parametrize("box", [32, 33])
    def test_recentre_by_parts_of_a_voxel(self, box: int) -> None:
        off = gaussian(box, 2.0, (box // 2 + 2.3, box // 2 - 1.6, box // 2 + 0.45))
        z, y, x = centre_of_mass(off).tolist()
        centred = resample(off, 1.0, to_voxel_size_A=1.0, box=box, centre=(z, y, x))
        assert error(centred, gaussian(box, 2.0)) < 0.01

    def test_the_centre_ignores_weak_and_negative_background(self) -> None:
        signal = gaussian(33, 2.0, (18.0, 15.0, 17.0))
        haze = np.zeros((33,) * 3)
        haze[:8] = 0.03 * signal.max()
        haze[-8:] = -0.5 * signal.max()
        assert np.abs(centre_of_mass(signal + haze) - [18, 15, 17]).max() < 0.01
        assert np.abs(centre_of_mass(signal + haze, threshold=0) - [18, 15, 17]).max() > 1

    def test_radius_of_a_ball(self) -> None:
        z, y, x = np.indices((41,) * 3) - 20
        ball = (z**2 + y**2 + x**2 <= 15**2).astype(np.float32)
        # 99 % of a ball's mass lies within 0.99^(1/3) of its radius.
        assert radius_A(ball, 2.0) == pytest.approx(2 * 15 * 0.99 ** (1 / 3), rel=0.02)

    def test_radius_ignores_ripples(self) -> None:
        """At σ = half a voxel the crop ripples; the radius is still that of the atoms."""
        points = np.random.default_rng(6).uniform(-60, 60, size=(40_000, 3))
        points = points[np.linalg.norm(points, axis=1) < 60]
        density = voxelise(model_of(points), voxel_size_A=6.0, box=63, resolution_A=6.0)
        exact = 60 * 0.99 ** (1 / 3)
        assert radius_A(density, 6.0) == pytest.approx(exact, rel=0.05)
        assert radius_A(density, 6.0, threshold=0) > 1.1 * exact

    def test_nothing_positive_is_refused(self) -> None:
        for measure in (centre_of_mass, lambda v: radius_A(v, 1.0)):
            with pytest.raises(ConfigError, match="without positive values"):
                measure(-np.ones((5, 5, 5)))
