"""Neighbours: where they are, what they look like, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from forward_model import VOXEL_A, correlation
from numpy.typing import NDArray

from tomadapt.acquisition import BATCH_A, Acquisition, tilt_range
from tomadapt.simulate.crowding import Crowd, PlacedNeighbours, place_apart, place_neighbours
from tomadapt.simulate.phantom import GaussianPhantom
from tomadapt.simulate.randomness import NEIGHBOURS, NOISE, POSE, particle_generator
from tomadapt.simulate.simulator import NULL_CLASS, Simulator

FEW = tilt_range(-60, 60, 10)
FEW_A = BATCH_A.model_copy(update={"tilt_angles_deg": FEW})
NO_OPTICS = Acquisition(
    defocus_um=0,
    spherical_aberration_mm=0,
    amplitude_contrast=1,
    mtf="none",
    tilt_angles_deg=FEW,
)
PHANTOMS = {
    "a": GaussianPhantom.random(7, radius=4, sigma=1.3),
    "b": GaussianPhantom.random(8, radius=5.5, sigma=1.3),
}


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def simulator(
    neighbours: int,
    acquisition: Acquisition = FEW_A,
    *,
    n: int = 24,
    names: tuple[str, ...] = ("a", "b"),
    factor: float = 1.0,
) -> Simulator:
    templates = {name: np.float32(factor) * PHANTOMS[name].density(n) for name in names}
    return Simulator(templates, acquisition, voxel_size_A=VOXEL_A, seed=3, neighbours=neighbours)


def crowd_of(simulate: Simulator) -> Crowd:
    assert simulate.crowd is not None
    return simulate.crowd[0]


def one(template: int, position: tuple[float, float, float]) -> PlacedNeighbours:
    return PlacedNeighbours(
        np.array([[template]]),
        np.eye(3, dtype=np.float32)[None, None],
        np.array([[position]], np.float32),
    )


def imaged(simulate: Simulator, placed: PlacedNeighbours) -> NDArray[np.float32]:
    scale = torch.ones(1, 1)
    volumes = crowd_of(simulate).volumes(placed, simulate.transforms, simulate.tilts, scale=scale)
    return volumes[0].numpy()


def from_centre(n: int) -> NDArray[np.float64]:
    r = np.arange(n) - n // 2
    return np.asarray(np.sqrt(r[:, None, None] ** 2 + r[:, None] ** 2 + r**2))


# --- where they are


@pytest.mark.parametrize("box", [40, 41])
@pytest.mark.parametrize("keep_out", [6.0, 12.0, 16.0])
def test_they_cross_the_faces_and_leave_the_particle_alone(box: int, keep_out: float) -> None:
    radii = np.array([6.0, 9.0, 15.0])
    centre = np.array([3.0, -4.0, 1.0])
    chosen = []
    for index in range(200):
        generator = particle_generator(0, "a", index, NEIGHBOURS)
        templates, positions = place_neighbours(
            generator, 3, radii=radii, keep_out=keep_out, centre=centre, box=box
        )
        for template, position in zip(templates, positions, strict=True):
            distance = float(np.linalg.norm(position - centre))
            assert distance >= keep_out + radii[template] - 1e-9
            touching = distance == pytest.approx(keep_out + radii[template])
            # The centre inside, or kept out by the particle; the sphere through a face.
            assert np.abs(position).max() <= box / 2 + 1e-9 or touching
            to_face = box / 2 - np.abs(position).max()
            assert to_face <= radii[template] * 1.001 or touching
        apart = [
            np.linalg.norm(positions[i] - positions[j]) - radii[templates[i]] - radii[templates[j]]
            for i, j in ((0, 1), (0, 2), (1, 2))
        ]
        assert min(apart) >= -1e-9
        chosen.append(templates)
    counts = np.bincount(np.ravel(chosen))
    assert counts.min() > 160  # 200 of 600 expected each
    directions = np.sign(positions)
    assert directions.shape == (3, 3)


def test_where_there_is_no_room_they_overlap_least() -> None:
    generator = np.random.default_rng(0)
    templates, positions = place_neighbours(
        generator, 12, radii=np.array([14.0]), keep_out=14.0, centre=np.zeros(3), box=40
    )
    assert len(templates) == len(positions) == 12
    assert np.isfinite(positions).all()
    assert (np.linalg.norm(positions, axis=1) >= 28 - 1e-9).all()


def test_the_view_holds_every_neighbour() -> None:
    """What lies beyond the window would come back into the box."""
    simulate = simulator(3)
    crowd = crowd_of(simulate)
    shifts = np.random.default_rng(0).uniform(-2.4, 2.4, (300, 3)).astype(np.float32)
    placed = crowd.place(0, "b", range(300), shifts)
    outermost = np.abs(placed.positions) + crowd.radii[placed.templates][..., None]
    window = crowd.reconstruct.n
    assert outermost.max() <= window - 24 / 2
    radial = np.linalg.norm(placed.positions, axis=-1) + crowd.radii[placed.templates]
    assert radial.max() <= crowd.grid.n - window / 2


# --- what they look like


@pytest.mark.parametrize("acquisition", [FEW_A, NO_OPTICS])
@pytest.mark.parametrize("n", [24, 25])
def test_they_are_imaged_as_particles_are(acquisition: Acquisition, n: int) -> None:
    """One put in the particle's own place is the particle."""
    simulate = simulator(1, acquisition, n=n)
    rotations = np.eye(3, dtype=np.float32)[None]
    shifts = np.array([[1.5, -2.0, 1.0]], np.float32)
    images = simulate.tilt_images("b", [0], rotations, shifts)
    own = simulate.reconstruct(images.signal)[0].numpy()
    found = imaged(simulate, one(1, (1.5, -2.0, 1.0))) * float(images.scale)
    assert correlation(found, own) > 0.97
    inside = from_centre(n) < n / 4
    assert found[inside] @ own[inside] / (own[inside] @ own[inside]) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("n", [24, 25])
def test_one_above_the_box_does_not_come_back_below(n: int) -> None:
    simulate = simulator(1, NO_OPTICS, n=n)
    above = imaged(simulate, one(0, (0, 0, n / 2 + 2))) ** 2
    assert above[-5:].sum() > 10 * above[: n // 2].sum()
    # In a view no wider than the box it does: the reason for the wider one.
    pose = np.eye(3, dtype=np.float32)[None], np.array([[0, 0, n / 2 + 2]], np.float32)
    narrow = simulate.reconstruct(simulate.tilt_images("a", [0], *pose).signal)[0].numpy() ** 2
    assert narrow[-5:].sum() < 10 * narrow[: n // 2].sum()


@pytest.mark.parametrize("n", [24, 25])
@pytest.mark.parametrize(("axis", "place"), [(2, 0), (1, 1), (0, 2)])
def test_they_are_where_they_are_put(n: int, axis: int, place: int) -> None:
    position = [0.0, 0.0, 0.0]
    position[place] = -9.0
    volume = imaged(simulator(1, NO_OPTICS, n=n), one(0, tuple(position)))  # type: ignore[arg-type]
    bright = np.where(volume > 0.5 * volume.max(), volume, 0)
    grid = np.indices(volume.shape) - n // 2
    centroid = (grid * bright).sum(axis=(1, 2, 3)) / bright.sum()
    expected = np.zeros(3)
    expected[axis] = -9
    np.testing.assert_allclose(centroid, expected, atol=1.5)


@pytest.mark.parametrize("n", [32, 33])
def test_their_power_is_mostly_outside_the_particle(n: int) -> None:
    with_them = simulator(2, NO_OPTICS, n=n).particles("a", range(12))
    without = simulator(0, NO_OPTICS, n=n).particles("a", range(12))
    power = (with_them.signal - without.signal).square().mean(dim=0).numpy()
    inside = from_centre(n) < 6
    # What is inside are the streaks of the missing wedge.
    assert power[inside].sum() < 0.015 * power.sum()
    assert power[inside].mean() < 0.5 * power.mean()
    assert power.mean() > 0.1 * float(without.signal.square().mean())


# --- that nothing else changes


def test_none_is_as_before_and_noise_and_poses_stay() -> None:
    without, none, some = (
        Simulator({"a": PHANTOMS["a"].density(24)}, FEW_A, voxel_size_A=VOXEL_A, seed=3).particles(
            "a", range(3)
        ),
        simulator(0, names=("a",)).particles("a", range(3)),
        simulator(2, names=("a",)).particles("a", range(3)),
    )
    assert torch.equal(none.signal, without.signal)
    assert not torch.equal(some.signal, without.signal)
    for made in (none, some):
        assert torch.equal(made.noise, without.noise)
        np.testing.assert_array_equal(made.rotations, without.rotations)
        np.testing.assert_array_equal(made.shifts, without.shifts)
        np.testing.assert_array_equal(made.variance_ratio, without.variance_ratio)


@pytest.mark.parametrize("name", ["a", NULL_CLASS])
def test_they_do_not_depend_on_how_a_batch_is_split_or_on_the_order_of_classes(name: str) -> None:
    simulate = simulator(2)
    whole = simulate.particles(name, range(5)).signal
    split = torch.cat([simulate.particles(name, [i]).signal for i in range(5)])
    other_order = simulator(2, names=("b", "a")).particles(name, [4, 2]).signal
    tolerance = 1e-4 * float(whole.abs().max())
    torch.testing.assert_close(split, whole, rtol=0, atol=tolerance)
    torch.testing.assert_close(other_order, whole[[4, 2]], rtol=0, atol=tolerance)


def test_their_draws_are_their_own() -> None:
    purposes = (POSE, NOISE, NEIGHBOURS)
    drawn = {particle_generator(3, "a", 7, p).integers(2**63) for p in purposes}
    assert len(drawn) == 3
    crowd = crowd_of(simulator(2))
    shifts = np.zeros((2, 3), np.float32)
    first, second = (crowd.place(seed, "a", [0, 1], shifts) for seed in (0, 1))
    assert np.abs(first.positions[0] - first.positions[1]).max() > 0.1
    assert np.abs(first.positions - second.positions).max() > 0.1
    assert np.abs(first.rotations[0, 0] - first.rotations[0, 1]).max() > 0.01


@pytest.mark.parametrize("name", ["a", NULL_CLASS])
def test_the_scale_of_the_templates_does_not_matter(name: str) -> None:
    """The null class has no own signal to take the scale from: it takes the neighbours' own."""
    plain = simulator(2).particles(name, range(2)).signal
    scaled = simulator(2, factor=20.0).particles(name, range(2)).signal
    torch.testing.assert_close(scaled, plain, rtol=0, atol=1e-3 * float(plain.abs().max()))


def test_the_null_class_has_neighbours_alone() -> None:
    made = simulator(2).particles(NULL_CLASS, range(12))
    assert np.isnan(made.variance_ratio).all()
    power = made.signal.square().mean(dim=0).numpy()
    assert power[from_centre(24) > 9].mean() > 3 * power[from_centre(24) < 4].mean()
    # As strong as those of other classes.
    others = simulator(2).particles("a", range(12)).signal
    others = others - simulator(0).particles("a", range(12)).signal
    ratio = float(made.signal.square().mean() / others.square().mean())
    assert 0.4 < ratio < 2.5


# --- spheres apart


def draws(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [particle_generator(seed, "apart", index, POSE) for index in range(count)]


SIDES = np.array([60.0, 80.0, 100.0])
RADII = np.repeat([12.0, 7.0, 5.0], [6, 20, 60])


@pytest.mark.parametrize("gap", [0.0, 3.0])
def test_spheres_are_apart_and_whole_inside(gap: float) -> None:
    centres = place_apart(draws(86), radii=RADII, gap=gap, sides=SIDES)
    assert centres.shape == (86, 3)
    between = np.linalg.norm(centres[:, None] - centres, axis=-1) - RADII[:, None] - RADII
    assert between[np.triu_indices(86, 1)].min() >= gap
    margin = np.minimum(centres, SIDES - centres).min(axis=1) - RADII
    assert margin.min() >= 0
    # They use all the room: small ones come near to each face and to one another.
    assert (centres.min(axis=0) < 10).all()
    assert (centres.max(axis=0) > SIDES - 10).all()
    assert between[np.triu_indices(86, 1)].min() < gap + 1


def test_a_lone_sphere_is_anywhere() -> None:
    radii, gap = np.array([10.0]), 0.0
    places = [place_apart([g], radii=radii, gap=gap, sides=SIDES)[0] for g in draws(600, seed=1)]
    uniform = (np.array(places) - 10) / (SIDES - 20)
    np.testing.assert_allclose(uniform.mean(axis=0), 0.5, atol=0.05)
    np.testing.assert_allclose(uniform.std(axis=0), 12**-0.5, atol=0.03)


def test_tries_are_the_spheres_own() -> None:
    """Later ones change nothing, and one that is in nobody's way is where it would be alone."""
    some = place_apart(draws(6), radii=RADII[:6], gap=0, sides=SIDES)
    all_of_them = place_apart(draws(86), radii=RADII, gap=0, sides=SIDES)
    np.testing.assert_array_equal(all_of_them[:6], some)
    alone = [
        place_apart([g], radii=r[None], gap=0, sides=SIDES)[0]
        for g, r in zip(draws(86), RADII, strict=True)
    ]
    same = (np.array(alone) == all_of_them).all(axis=1)
    assert 10 < same.sum() < 86  # the others had to give way


def test_where_there_is_no_room_placing_ends() -> None:
    many = np.full(40, 15.0)
    placed = place_apart(draws(40), radii=many, gap=0, sides=SIDES)
    # 38 % of the volume is where random addition ends; edges take more.
    assert 4 <= len(placed) <= 0.38 * SIDES.prod() / (4 / 3 * np.pi * 15**3)
    np.testing.assert_array_equal(
        placed, place_apart(draws(len(placed)), radii=many[: len(placed)], gap=0, sides=SIDES)
    )


def test_a_sphere_as_large_as_the_cuboid_fits_and_a_larger_one_does_not() -> None:
    small = np.array([20.0, 20.0, 20.0])
    fits = place_apart(draws(1), radii=np.array([10.0]), gap=5, sides=small)
    np.testing.assert_allclose(fits, [[10, 10, 10]])
    assert len(place_apart(draws(1), radii=np.array([10.01]), gap=0, sides=small)) == 0
    low = np.array([50.0, 50.0, 19.0])
    assert len(place_apart(draws(2), radii=np.array([9.0, 10.0]), gap=0, sides=low)) == 1
    assert place_apart([], radii=np.array([]), gap=0, sides=small).shape == (0, 3)
