"""Planted tomograms: where particles are put, that they are found there, noise, and files."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forward_model import correlation
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

import tomadapt.simulate.tomogram as module
from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import ConfigError, OutputError
from tomadapt.inputs.tomogram import open_tomogram
from tomadapt.io.particle_lists import read_particles
from tomadapt.simulate.dataset import make_templates
from tomadapt.simulate.reconstruction import SlabInversion
from tomadapt.simulate.tilt_series import image_particles
from tomadapt.simulate.tomogram import (
    PlantedTomogram,
    TomogramConfig,
    common_templates,
    place_particles,
    simulate_tomogram,
    write_planted,
)
from tomadapt.tomograms.extraction import extract

pytestmark = pytest.mark.usefixtures("one_thread")

TILTS = {"first": -60, "last": 60, "step": 4}
NO_OPTICS = {
    "defocus_um": 0,
    "spherical_aberration_mm": 0,
    "amplitude_contrast": 1,
    "mtf": "none",
    "tilt_angles_deg": TILTS,
}
SETTINGS: dict[str, Any] = {
    "classes": ["ribosome_30s", "ribosome_50s"],
    "counts": {"ribosome_30s": 3, "ribosome_50s": 2},
    "acquisition": {"defocus_um": 5.0, "tilt_angles_deg": TILTS},
    "shape_zyx": (30, 56, 64),
    "snr": 0.1,
    "seed": 3,
    "box": 24,
    "voxel_size_A": 13.8,
    "resolution_A": 25.0,
}
NO_NOISE = 1e9
ODD = (31, 57, 61)
EVEN = (30, 56, 64)


def config(**changes: Any) -> TomogramConfig:
    return TomogramConfig.model_validate(SETTINGS | changes)


@cache
def without_noise(
    shape: tuple[int, int, int] = EVEN, *, optics: bool = True
) -> tuple[TomogramConfig, PlantedTomogram]:
    changes = {} if optics else {"acquisition": NO_OPTICS}
    wanted = config(shape_zyx=shape, snr=NO_NOISE, **changes)
    return wanted, simulate_tomogram(wanted)


@cache
def noisy() -> PlantedTomogram:
    return simulate_tomogram(config())


# --- what is asked for


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"counts": {"ribosome_30s": 1}}, "each class once"),
        ({"counts": {"ribosome_30s": 1, "ribosome_50s": 1, "tric": 1}}, "each class once"),
        ({"counts": {"ribosome_30s": 0, "ribosome_50s": 1}}, "greater than 0"),
        ({"classes": ["ribosome_30s", "null"]}, "null"),
        ({"classes": ["tric", "tric"]}, "each class once"),
        ({"classes": {}, "counts": {}}, "classes must be structures"),
        ({"acquisition": "batch_q"}, "batch_q"),
        ({"shape_zyx": (8, 64, 64)}, "greater than or equal to 16"),
        ({"snr": float("inf")}, "finite"),
        ({"gap_A": -1}, "greater than or equal to 0"),
        ({"slab": 3}, "Extra inputs"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        config(**changes)


def test_named_acquisitions_and_lists_are_as_in_sets() -> None:
    named = config(acquisition="batch_a")
    assert named.acquisition.name == "batch_a"
    assert named.classes == {"ribosome_30s": "ribosome_30s", "ribosome_50s": "ribosome_50s"}
    assert named.template_config.classes == named.classes
    assert named.particles[2:4] == [("ribosome_30s", 2), ("ribosome_50s", 0)]


@pytest.mark.parametrize("voxel_size_A", [6.9, 13.8])
def test_templates_have_the_mass_of_their_inside(voxel_size_A: float) -> None:
    """One scale for all: at any resolution, classes relate as their masses do."""
    names = ["ribosome_70s", "ribosome_30s", "apoferritin"]
    counts = dict.fromkeys(names, 1)
    grid = {"voxel_size_A": voxel_size_A, "box": 56, "classes": names, "counts": counts}

    def masses(resolution_A: float) -> NDArray[np.float64]:
        made = common_templates(config(resolution_A=resolution_A, **grid))
        assert list(made) == names
        return np.array([made[name].sum(dtype=float) * voxel_size_A**3 for name in names])

    fine = masses(10)
    np.testing.assert_allclose(masses(40), fine, rtol=0.01)
    own = make_templates(config(resolution_A=40, **grid).template_config)
    unequal = np.array([own[name].sum(dtype=float) for name in names]) * voxel_size_A**3 / fine
    assert unequal.max() > 1.5 * unequal.min()  # what their own maxima would make of them
    # 2.3 MDa, 0.8 MDa and 0.48 MDa of protein and RNA: denser where there is more RNA.
    np.testing.assert_allclose(fine / fine[0], [1, 0.36, 0.28], atol=0.05)


def test_scales_do_not_hang_on_the_voxel_size() -> None:
    """Voxels of 14 Å cannot show an inside at 10 Å, yet its scale is nearly the same."""
    names = ["ribosome_50s", "tric", "apoferritin"]
    masses = []
    for voxel_size_A, box in ((4.0, 64), (13.8, 24), (20.0, 24)):
        grid = {"voxel_size_A": voxel_size_A, "box": box, "classes": names}
        made = common_templates(
            config(resolution_A=40, counts=dict.fromkeys(names, 1), **grid)
        ).values()
        masses.append([t.sum(dtype=float) * voxel_size_A**3 for t in made])
    np.testing.assert_allclose(masses[1:], [masses[0]] * 2, rtol=0.14)


# --- where particles are put

RADII = {"ribosome_30s": 100.0, "ribosome_50s": 120.0}


def places(**changes: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return place_particles(config(**changes), RADII)


@pytest.mark.parametrize("gap_A", [0.0, 50.0])
def test_particles_do_not_overlap_and_are_whole_inside(gap_A: float) -> None:
    counts = {"ribosome_30s": 9, "ribosome_50s": 6}
    coordinates, rotations = places(counts=counts, gap_A=gap_A, shape_zyx=(40, 70, 90))
    radii = np.repeat([100.0, 120.0], [9, 6])
    between = np.linalg.norm(coordinates[:, None] - coordinates, axis=-1)
    apart = (between - radii[:, None] - radii)[np.triu_indices(15, 1)]
    assert apart.min() >= gap_A
    # The first voxel begins half a voxel before its centre, the last ends half a voxel behind.
    low, high = -6.9, np.array([90, 70, 40]) * 13.8 - 6.9
    assert (coordinates - radii[:, None] >= low).all()
    assert (coordinates + radii[:, None] <= high).all()
    assert np.linalg.det(rotations) == pytest.approx(np.ones(15))
    turned = np.linalg.norm(rotations[:, None] - rotations, axis=(-2, -1))
    assert turned[np.triu_indices(15, 1)].min() > 0.1


def test_each_axis_is_used_to_its_own_end() -> None:
    coordinates, _ = places(counts={"ribosome_30s": 30, "ribosome_50s": 1}, shape_zyx=(24, 80, 160))
    # What is left to the centres of 30S: sides less two radii.
    sides = np.array([160, 80, 24]) * 13.8 - 200
    assert (np.ptp(coordinates, axis=0) <= sides).all()
    assert (np.ptp(coordinates, axis=0) > 0.8 * sides).all()


@pytest.mark.parametrize("large", [100.0, 120.0])
def test_places_do_not_depend_on_the_order_of_classes(large: float) -> None:
    radii = RADII | {"ribosome_50s": large}
    ours, ours_turned = place_particles(config(), radii)
    other_order = config(classes=["ribosome_50s", "ribosome_30s"])
    theirs, theirs_turned = place_particles(other_order, radii)
    reordered = [2, 3, 4, 0, 1]
    np.testing.assert_array_equal(theirs[reordered], ours)
    np.testing.assert_array_equal(theirs_turned[reordered], ours_turned)


def test_places_are_keyed_by_seed_class_and_index() -> None:
    ours, ours_turned = places()
    again, _ = places()
    np.testing.assert_array_equal(again, ours)
    more, more_turned = places(counts={"ribosome_30s": 5, "ribosome_50s": 2})
    np.testing.assert_array_equal(more[:3], ours[:3])
    np.testing.assert_array_equal(more_turned[[0, 1, 2, 5, 6]], ours_turned)
    np.testing.assert_array_equal(more[5:], ours[3:])
    other, other_turned = places(seed=4)
    assert np.abs(other - ours).min(axis=1).max() > 1
    assert np.abs(other_turned - ours_turned).max(axis=(1, 2)).min() > 0.1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"counts": {"ribosome_30s": 40, "ribosome_50s": 40}}, "one of ribosome_"),
        ({"shape_zyx": (16, 64, 64)}, "one of ribosome_50s .radius 120 Å. after 0 others"),
        ({"gap_A": 500.0}, "500 Å apart"),
    ],
)
def test_too_many_particles_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match="do not fit into the tomogram") as raised:
        places(**changes)
    assert "lower counts or gap_A, or enlarge shape_zyx" in str(raised.value)
    raised.match(words)


def test_an_acquisition_without_signal_is_refused() -> None:
    blind = {"defocus_um": 0, "amplitude_contrast": 0, "spherical_aberration_mm": 0}
    with pytest.raises(ConfigError, match="passes no signal"):
        simulate_tomogram(config(acquisition=blind))


# --- that they are found there


def turned(density: NDArray[np.float32], rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """ρ(r) = template(R⁻¹ r), by cubic splines."""
    n = density.shape[0]
    z, y, x = np.indices(density.shape).reshape(3, -1) - n // 2
    source = rotation.T @ np.stack([x, y, z])
    values = map_coordinates(density.astype(float), source[::-1] + n // 2, order=3)
    return np.asarray(values).reshape(density.shape)


def in_wedge(density: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """What tilts of ±60° about y record: frequencies within 60° of the kx axis, but no mean."""
    n = density.shape[0]
    k = np.fft.fftfreq(n)
    angle = np.rad2deg(np.arctan2(np.abs(k)[:, None, None], np.abs(k)[None, None, :]))
    measured = np.broadcast_to(angle <= 62, density.shape).copy()
    measured[0, 0, 0] = False
    return np.asarray(np.fft.ifftn(np.fft.fftn(density) * measured).real)


def ball(n: int, radius: float) -> NDArray[np.bool_]:
    r = np.arange(n) - n // 2
    return np.asarray(r[:, None, None] ** 2 + r[:, None] ** 2 + r**2 <= radius**2)


def cubes(planted: PlantedTomogram, coordinates_A: NDArray[np.float64]) -> NDArray[np.float32]:
    opened = Tomogram(planted.density, planted.voxel_size_A)
    cut = extract(opened, coordinates_A, box=24, voxel_size_A=planted.voxel_size_A)
    assert not cut.dropped
    return cut.volumes


@pytest.mark.parametrize("shape", [EVEN, ODD])
@pytest.mark.parametrize(("optics", "least"), [(False, 0.9), (True, 0.75)])
def test_each_particle_is_found_where_it_was_planted(
    shape: tuple[int, int, int], optics: bool, least: float
) -> None:
    wanted, planted = without_noise(shape, optics=optics)
    templates = common_templates(wanted)
    found = cubes(planted, planted.coordinates_A)
    for row, label in enumerate(planted.labels):
        name = planted.class_names[label]
        inside = ball(24, planted.radii_A[label] / 13.8 + 1)
        template, rotation = templates[name], planted.rotations[row]
        truth, mirror = turned(template, rotation), np.diag([-1.0, 1, 1])
        wrong = {
            "inverse": turned(template, rotation.T),
            "mirrored template": turned(template, rotation @ mirror),
            "mirrored tomogram": turned(template, mirror @ rotation),
            "x and z": truth.transpose(2, 1, 0),
            "x and y": truth.transpose(0, 2, 1),
            "y and z": truth.transpose(1, 0, 2),
        }
        right, *others = (
            correlation(found[row][inside], in_wedge(density)[inside])
            for density in (truth, *wrong.values())
        )
        assert right > least
        # Through a wedge, large complexes are much like their mirrors: like the wrong by 0.91.
        assert max(others) < right - 0.06, dict(zip(wrong, others, strict=True))


def test_places_are_x_y_z_and_right_to_parts_of_a_voxel() -> None:
    """The middle of each correlation with its template is the coordinate."""
    wanted, planted = without_noise(ODD, optics=False)
    templates = common_templates(wanted)
    size = planted.voxel_size_A
    for row, label in enumerate(planted.labels):
        expected = in_wedge(
            turned(templates[planted.class_names[label]], planted.rotations[row])
        ) * ball(24, 10)
        found = [
            correlation(cube * ball(24, 10), expected)
            for cube in cubes(
                planted,
                planted.coordinates_A[row]
                + size * np.array([[0, 0, 0], *np.eye(3), *-np.eye(3)], dtype=float),
            )
        ]
        here, up, down = found[0], np.array(found[1:4]), np.array(found[4:7])
        assert (up < here).all()
        assert (down < here).all()
        # A parabola through three values along each axis has its top within a tenth of a voxel.
        offset = 0.5 * (up - down) / (2 * here - up - down)
        np.testing.assert_allclose(offset, 0, atol=0.12)


def test_the_density_is_that_of_the_templates() -> None:
    """Without optics the inside of each particle has its template's density, less the wedge's."""
    wanted, planted = without_noise(EVEN, optics=False)
    templates = common_templates(wanted)
    found = cubes(planted, planted.coordinates_A)
    for row, label in enumerate(planted.labels):
        template = templates[planted.class_names[label]]
        expected = in_wedge(turned(template, planted.rotations[row]))
        slope, _ = np.polyfit(expected[ball(24, 8)], found[row][ball(24, 8)], 1)
        assert slope == pytest.approx(1, abs=0.12)


def test_what_is_at_an_edge_does_not_come_back_on_the_other_side() -> None:
    counts = {"ribosome_50s": 1}
    base = {"classes": ["ribosome_50s"], "counts": counts, "snr": NO_NOISE}
    planted = simulate_tomogram(config(shape_zyx=(24, 24, 96), seed=1, **base))
    x = planted.coordinates_A[0, 0] / 13.8
    other_side = np.abs(np.arange(96) - x) > 48
    strongest = np.abs(planted.density).max()
    assert other_side.sum() > 10
    assert np.abs(planted.density[:, :, other_side]).max() < 0.03 * strongest


# --- noise


def test_noise_is_as_strong_as_was_stated() -> None:
    """Tomograms of two SNRs differ by one noise, times what is stated."""
    clean = without_noise()[1]
    noise = noisy().density.astype(float) - clean.density
    weaker = simulate_tomogram(config(snr=0.4)).density - clean.density
    assert np.linalg.norm(noise - 2 * weaker) < 0.01 * np.linalg.norm(noise)
    assert abs(correlation(noise, clean.density)) < 0.05
    # The particles' own variance over the noise's in the tilt images: measured in
    # test_tilt_series; here, that the class means are its parts.
    planted = noisy()
    assert planted.snr_of_class.shape == (2,)
    assert planted.snr_of_class @ [3, 2] / 5 == pytest.approx(0.1)
    assert planted.snr_of_class[1] > planted.snr_of_class[0]
    np.testing.assert_allclose(clean.snr_of_class / NO_NOISE, planted.snr_of_class / 0.1)


def test_noise_has_the_variance_that_the_images_give_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the SNR, the images of one particle, and nothing that the module has computed."""
    kept: dict[str, Any] = {}

    def spy(simulator: Any, *arguments: Any, **options: Any) -> Any:
        kept["series"], variances = image_particles(simulator, *arguments, **options)
        return kept["series"], variances

    monkeypatch.setattr(module, "image_particles", spy)
    one = {"classes": ["ribosome_50s"], "counts": {"ribosome_50s": 1}, "shape_zyx": (24, 24, 48)}
    planted = simulate_tomogram(config(snr=0.25, **one))
    clean = simulate_tomogram(config(snr=NO_NOISE, **one))
    series = kept["series"]
    n, tilts = series.grid.n, series.projections.shape[0]
    signal, noise = (
        torch.stack([torch.fft.irfft2(part(t), s=(n, n)) for t in range(tilts)]).numpy()
        for part in (series.signal, series.noise)
    )
    middle = np.array([48, 24, 24]) // 2
    x, y, z = planted.coordinates_A[0] / 13.8 - middle
    theta = np.deg2rad(np.arange(-60, 61, 4))
    boxes = []
    for image, column in zip(signal, x * np.cos(theta) + z * np.sin(theta), strict=True):
        rolled = np.roll(image, (12 - round(column), 12 - round(y)), axis=(0, 1))
        boxes.append(rolled[:24, :24])
    own = np.var(boxes)
    scale = (own / 0.25 / noise.var()) ** 0.5
    invert = SlabInversion.for_tilts(
        torch.arange(-60.0, 61.0, 4.0), (24, 24, 48), n=n, thickness=24
    )
    expected = scale * invert(torch.fft.rfft2(torch.from_numpy(image)) for image in noise)
    found = planted.density.astype(float) - clean.density
    assert correlation(found, expected) > 0.9999
    assert found.std() / expected.std() == pytest.approx(1, abs=0.03)


def test_a_seed_is_a_tomogram() -> None:
    again = simulate_tomogram(config())
    np.testing.assert_array_equal(again.density, noisy().density)
    np.testing.assert_array_equal(again.rotations, noisy().rotations)
    other = simulate_tomogram(config(seed=4))
    assert abs(correlation(other.density, noisy().density)) < 0.05


def test_the_order_of_classes_does_not_matter() -> None:
    turned_round = simulate_tomogram(config(classes=["ribosome_50s", "ribosome_30s"]))
    ours = noisy()
    tolerance = 1e-4 * np.abs(ours.density).max()
    np.testing.assert_allclose(turned_round.density, ours.density, rtol=0, atol=tolerance)
    assert turned_round.class_names == ours.class_names[::-1]
    np.testing.assert_array_equal(turned_round.labels, [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(ours.labels, [0, 0, 0, 1, 1])
    np.testing.assert_allclose(turned_round.snr_of_class, ours.snr_of_class[::-1])
    np.testing.assert_allclose(turned_round.radii_A, ours.radii_A[::-1])


def test_progress_ends_with_the_last_step() -> None:
    wanted = config(classes=["ribosome_50s"], counts={"ribosome_50s": 2}, shape_zyx=(24, 40, 40))
    told: list[int] = []
    simulate_tomogram(wanted, progress=told.append)
    assert sum(told) == wanted.steps == 2 + 31 + 24


# --- files


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    planted = noisy()
    write_planted(planted, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "particles.star",
        "tomogram.mrc",
    ]
    opened = open_tomogram(tmp_path / "out" / "tomogram.mrc", contrast="positive")
    assert opened.voxel_size_A == pytest.approx(13.8, rel=1e-6)
    assert opened.shape == EVEN
    np.testing.assert_array_equal(opened.block((0, 0, 0), EVEN), planted.density)
    particles = read_particles(tmp_path / "out" / "particles.star")
    assert particles.tomograms == (opened.name,) * 5
    np.testing.assert_allclose(particles.coordinates_A, planted.coordinates_A, atol=1e-4)
    assert particles.rotations is not None
    off = (particles.rotations.inv() * Rotation.from_matrix(planted.rotations)).magnitude()
    assert off.max() < 1e-5
    assert particles.classes == tuple(planted.class_names[label] for label in planted.labels)
    assert particles.table is not None
    assert particles.table.column("rlnClassNumber") == ("1", "1", "1", "2", "2")
    # What is read serves: particles are cut out where the file says.
    size = opened.voxel_size_A
    again = extract(opened, particles.coordinates_A, box=24, voxel_size_A=size)
    np.testing.assert_allclose(again.volumes, cubes(planted, planted.coordinates_A), atol=1e-3)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_planted(noisy(), tmp_path / "file")


def test_a_density_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    damaged = replace(noisy(), density=np.full(EVEN, np.nan, np.float32))
    with pytest.raises(ConfigError):
        write_planted(damaged, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
