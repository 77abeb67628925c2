"""The missing wedge: planted ranges of tilts come back, and nothing else is taken for one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from tomadapt.acquisition import PSEUDO_EXPERIMENTAL, Acquisition, tilt_range
from tomadapt.data.subtomograms import SourceDefaults, Subtomograms
from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import InputError
from tomadapt.simulate.dataset import SimulationConfig, simulate_set
from tomadapt.simulate.tomogram import TomogramConfig, simulate_tomogram
from tomadapt.tomograms.spectrum import MeanPower, cubes_power, tomogram_power
from tomadapt.tomograms.wedge import (
    CLEAR,
    TOLERANCE_DEG,
    WedgeEstimate,
    compare_with_stated,
    estimate_wedge,
    orientation_fault,
)

Volume = NDArray[Any]
Range = tuple[float, float]
RANGES = [(-60, 60), (-50, 70), (-45, 45), (-70, 70), (-40, 60), (-66, 54)]
SHAPE = (64, 100, 101)

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Cubes(SourceDefaults):
    """Cubes in memory as a source."""

    volumes: Volume
    voxel_size_A: float = 9.2
    acquisition: Acquisition | None = None
    identity: str = "cubes"

    @property
    def box(self) -> int:
        return int(self.volumes.shape[-1])

    def __len__(self) -> int:
        return len(self.volumes)

    def read(self, indices: Any) -> torch.Tensor:
        return torch.from_numpy(self.volumes[np.asarray(indices)].astype(np.float32))


def of_cubes(volumes: Volume) -> WedgeEstimate:
    return estimate_wedge(cubes_power(Subtomograms(Cubes(volumes))))


def of_tomogram(density: Volume) -> WedgeEstimate:
    return estimate_wedge(tomogram_power(Tomogram(density, 9.2), at_most=8))


def recorded(tilts: Range, *, step: float = 3, base: Acquisition | None = None) -> Acquisition:
    base = base or Acquisition(defocus_um=5.0)
    return base.model_copy(update={"tilt_angles_deg": tilt_range(*tilts, step)})


def turned_to_x(volumes: Volume) -> Volume:
    """Turn the last three axes by −90° about z, which takes the axis +y to +x."""
    return np.swapaxes(volumes, -1, -2)[..., ::-1, :]


def assert_shows(estimate: WedgeEstimate, tilts: Range, axis: str = "y", within: float = 6) -> None:
    assert estimate.is_clear
    assert estimate.axis == axis
    assert estimate.first_deg == pytest.approx(tilts[0], abs=within)
    assert estimate.last_deg == pytest.approx(tilts[1], abs=within)


def assert_unclear(estimate: WedgeEstimate) -> None:
    assert not estimate.is_clear
    assert (estimate.first_deg, estimate.last_deg, estimate.axis) == (None, None, None)
    assert estimate.clarity < CLEAR


def noise(shape: tuple[int, ...], seed: int = 0) -> Volume:
    return np.random.default_rng(seed).normal(size=shape)


def cut(volume: Volume, tilts: Range, axis: str = "y") -> Volume:
    """Empty the wedge: what is measured comes to kz = 0 by a turn between the tilts."""
    kz, ky, kx = np.meshgrid(*map(np.fft.fftfreq, volume.shape), indexing="ij", sparse=True)
    heights = []
    for tilt in tilts:
        x, y, z = Rotation.from_euler(axis, tilt, degrees=True).as_matrix()[2]
        heights.append(x * kx + y * ky + z * kz)
    measured = heights[0] * heights[1] <= 0
    return np.fft.ifftn(np.fft.fftn(volume) * measured).real


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Volume]:
    """Give a few simulated particles, the same ones for the same arguments."""
    made: dict[tuple[Any, ...], Volume] = {}

    def simulate(tilts: Range, *, box: int = 32, snr: float = 0.1) -> Volume:
        key = (tilts, box, snr)
        if key not in made:
            config = SimulationConfig(
                classes={"tric": "tric", "apoferritin": "apoferritin"},
                acquisition=recorded(tilts),
                per_class=4,
                snr=snr,
                box=box,
            )
            data = simulate_set(config, tmp_path_factory.mktemp("set") / "set")
            made[key] = data.source.read(range(len(data))).numpy()
        return made[key]

    return simulate


# --- planted ranges are found


@pytest.mark.parametrize("tilts", RANGES)
@pytest.mark.parametrize("box", [32, 33])
def test_simulated_particles(particles: Callable[..., Volume], tilts: Range, box: int) -> None:
    volumes = particles(tilts, box=box)
    assert_shows(of_cubes(volumes), tilts, within=4)
    assert_shows(of_cubes(turned_to_x(volumes)), tilts, "x", within=4)
    # A flip of z or of the hand turns the range round.
    assert_shows(of_cubes(volumes[:, ::-1]), (-tilts[1], -tilts[0]), within=4)
    assert_shows(of_cubes(volumes[..., ::-1]), (-tilts[1], -tilts[0]), within=4)


@pytest.mark.parametrize("tilts", RANGES[1:3])
@pytest.mark.parametrize(("box", "snr"), [(24, 0.1), (40, 0.01), (40, 10.0)])
def test_boxes_and_noise(
    particles: Callable[..., Volume], tilts: Range, box: int, snr: float
) -> None:
    assert_shows(of_cubes(particles(tilts, box=box, snr=snr)), tilts, within=TOLERANCE_DEG)


def test_steep_tilts_in_a_small_box(particles: Callable[..., Volume]) -> None:
    """Fitted without any spread of the slices, ±75° once came back as ±81°."""
    assert_shows(of_cubes(particles((-75, 75), box=28, snr=10.0)), (-75, 75), within=3)


def test_errors_have_no_common_direction(particles: Callable[..., Volume]) -> None:
    """Borders once lay outside by 2° on average, and by up to 11° in small boxes."""
    outwards = []
    for tilts in RANGES:
        for box in (24, 32, 33):
            estimate = of_cubes(particles(tilts, box=box))
            assert estimate.first_deg is not None
            assert estimate.last_deg is not None
            outwards += [tilts[0] - estimate.first_deg, estimate.last_deg - tilts[1]]
    assert abs(np.mean(outwards)) < 1
    assert np.std(outwards) < 2.5


@pytest.mark.parametrize("tilts", [(-60, 60), (-50, 70), (-45, 45)])
def test_a_simulated_tomogram(tilts: Range) -> None:
    config = TomogramConfig(
        classes={"tric": "tric"},
        counts={"tric": 3},
        acquisition=recorded(tilts, base=PSEUDO_EXPERIMENTAL),
        shape_zyx=(40, 70, 81),
        snr=0.1,
        box=32,
    )
    density = simulate_tomogram(config).density
    assert_shows(of_tomogram(density), tilts, within=2)
    assert_shows(of_tomogram(turned_to_x(density)), tilts, "x", within=2)


@pytest.mark.parametrize("tilts", [(-60, 60), (-40, 60), (-66, 54)])
@pytest.mark.parametrize("axis", ["y", "x"])
@pytest.mark.parametrize("shape", [(64, 70, 81), (33, 80, 64), (20, 100, 90)])
def test_noise_with_a_wedge(tilts: Range, axis: str, shape: tuple[int, ...]) -> None:
    smooth = ndimage.gaussian_filter(noise(shape), 0.7)
    assert_shows(of_tomogram(cut(smooth, tilts, axis)), tilts, axis, within=4)


@pytest.mark.parametrize("filled", [0.03, 0.3])
def test_a_wedge_that_is_partly_filled(filled: float) -> None:
    volume = cut(noise(SHAPE), (-50, 66))
    volume += (filled * volume.var()) ** 0.5 * noise(SHAPE, seed=1)
    estimate = of_tomogram(volume)
    assert_shows(estimate, (-50, 66), within=4)
    assert estimate.clarity < of_tomogram(cut(noise(SHAPE), (-50, 66))).clarity


def test_a_low_pass_filter_leaves_the_range() -> None:
    volume = ndimage.gaussian_filter(cut(noise(SHAPE), (-50, 66)), 2)
    assert_shows(of_tomogram(volume.astype(np.float32)), (-50, 66), within=4)


# --- and nothing else


def turned(volumes: Volume) -> Volume:
    """Turn each cube to a pose of its own, as if particles had been aligned."""
    poses = Rotation.random(len(volumes), rng=0).as_matrix()[:, ::-1, ::-1]
    centre = np.array(volumes.shape[1:]) // 2
    return np.stack(
        [
            ndimage.affine_transform(v, m, centre - m @ centre, order=1)
            for v, m in zip(volumes, poses, strict=True)
        ]
    )


def two_axes() -> Volume:
    volume = noise(SHAPE)
    other = volume - cut(volume, (-60, 60), "x")
    return volume - (other - cut(other, (-60, 60)))


WITHOUT_A_WEDGE: dict[str, Callable[[], Volume]] = {
    "white": lambda: noise(SHAPE),
    "thin": lambda: noise((16, 90, 90)),
    "smooth": lambda: ndimage.gaussian_filter(noise(SHAPE), 1.5),
    "smoothed along z": lambda: ndimage.gaussian_filter(noise(SHAPE), (2, 0, 0)),
    "a little smoothed along z": lambda: ndimage.gaussian_filter(noise(SHAPE), (1, 0, 0)),
    "smoothed most along z": lambda: ndimage.gaussian_filter(noise(SHAPE), (3, 1, 1)),
    "smoothed along x": lambda: ndimage.gaussian_filter(noise(SHAPE), (0, 0, 2)),
    "running mean along z": lambda: ndimage.uniform_filter1d(noise(SHAPE), 5, axis=0),
    "median": lambda: ndimage.median_filter(noise((64, 70, 70)), 3),
    "every plane twice": lambda: np.repeat(noise(SHAPE)[::2], 2, axis=0),
    "two tilt axes": two_axes,
}


@pytest.mark.parametrize("name", WITHOUT_A_WEDGE)
def test_volumes_without_a_wedge_are_unclear(name: str) -> None:
    # Smoothing along z was once taken for tilts of ±22°.
    assert_unclear(of_tomogram(WITHOUT_A_WEDGE[name]().astype(np.float32)))


def test_particles_without_a_common_wedge_are_unclear(particles: Callable[..., Volume]) -> None:
    assert_unclear(of_cubes(turned(particles((-60, 60)))))


# --- the beam along another axis, or the tilt axis along x


def turned_to(volumes: Volume, beam: str) -> Volume:
    """Turn z, y, x so that what was along z is along another axis, as nobody would keep it."""
    return volumes if beam == "z" else np.swapaxes(volumes, 0, 1 if beam == "y" else 2)


@pytest.mark.parametrize(("beam", "axis"), [("y", "z"), ("x", "y")])
def test_a_tomogram_that_nobody_rotated(beam: str, axis: str) -> None:
    """Case c08: a beam along y was fitted as if along z: "tilts of −66° … 66° about y", no word."""
    for shape in (SHAPE, (20, 100, 90)):
        volume = turned_to(cut(noise(shape), (-50, 66)), beam)
        estimate = of_tomogram(np.ascontiguousarray(volume))
        assert (estimate.beam, estimate.axis) == (beam, axis)
        ends = (estimate.first_deg, estimate.last_deg)
        # An exchange of two axes inverts the hand.
        assert ends in (pytest.approx((-66, 50), abs=4), pytest.approx((-50, 66), abs=4))
        text = str(compare_with_stated(estimate, recorded((-50, 66))))
        assert f"the beam seems to lie along {beam} instead of z" in text
        assert "rotate the volume" in text
        assert "about y are stated" in text
        assert "\n" not in text


def test_the_rotation_that_is_named_helps() -> None:
    """Case c08: `trimvol -rx` turns by −90° about x."""
    volume = turned_to(cut(noise(SHAPE), (-50, 66)), "y")
    estimate = of_tomogram(np.ascontiguousarray(volume))
    fault = orientation_fault(estimate)
    assert fault is not None
    assert "trimvol -rx" in fault[1]
    # About x by −90°: z becomes y, and y becomes −z.
    rotated = np.swapaxes(volume, 0, 1)[::-1]
    after = of_tomogram(np.ascontiguousarray(rotated))
    assert (after.beam, after.axis) == ("z", "y")
    assert (after.first_deg, after.last_deg) == (estimate.first_deg, estimate.last_deg)
    assert orientation_fault(after) is None


def test_a_beam_along_y_and_a_tilt_axis_along_x_take_two_turns() -> None:
    volume = turned_to(cut(noise(SHAPE), (-60, 60), "x"), "y")
    fault = orientation_fault(of_tomogram(np.ascontiguousarray(volume)))
    assert fault is not None
    assert re.search(r"beam .* along y .* about x", fault[0])
    assert re.search(r"90° about x .*; then .* 90° about z", fault[1])


def faint_outside(volume: Volume, tilts: Range, by_deg: float) -> Volume:
    """Empty the wedge about y, and let power fall with the tilt as damage by the beam does."""
    kz, _, kx = np.meshgrid(*map(np.fft.fftfreq, volume.shape), indexing="ij", sparse=True)
    tilt = np.degrees(np.arctan2(np.where(kx < 0, -kz, kz), np.abs(kx)))
    kept = ((tilt >= tilts[0]) & (tilt <= tilts[1])) * np.exp(-np.abs(tilt) / by_deg)
    return np.fft.ifftn(np.fft.fftn(volume) * kept).real


RIGHT: dict[str, Callable[[], Volume]] = {
    "smoothed along z": lambda: ndimage.gaussian_filter(cut(noise(SHAPE), (-60, 60)), (2, 0, 0)),
    "steep, smoothed along z": lambda: ndimage.gaussian_filter(
        faint_outside(noise(SHAPE), (-75, 75), 60), (1, 0, 0)
    ),
    "thin, smoothed along z": lambda: ndimage.gaussian_filter(
        cut(noise((16, 90, 90)), (-60, 60)), (2, 0, 0)
    ),
    "faint outer tilts": lambda: faint_outside(noise(SHAPE), (-75, 75), 25),
    "steep": lambda: cut(noise((20, 100, 90)), (-70, 70)),
    "filled": lambda: cut(noise(SHAPE), (-60, 60)) + 0.8 * noise(SHAPE, seed=1),
}


@pytest.mark.parametrize("name", RIGHT)
def test_no_right_tomogram_is_said_to_have_another_beam(name: str) -> None:
    """The plane of z and x, of which steep tilts leave little out, resembles a beam along y."""
    assert orientation_fault(of_tomogram(RIGHT[name]().astype(np.float32))) is None


@pytest.mark.parametrize("beam", ["y", "x"])
@pytest.mark.parametrize("name", WITHOUT_A_WEDGE)
def test_volumes_without_a_wedge_are_unclear_about_every_axis(name: str, beam: str) -> None:
    volume = turned_to(WITHOUT_A_WEDGE[name](), beam).astype(np.float32)
    assert_unclear(of_tomogram(np.ascontiguousarray(volume)))


def test_two_directions_that_fit_are_unclear() -> None:
    """Half of the blocks have the beam along z, half along y: neither is taken."""
    right = tomogram_power(Tomogram(cut(noise((64, 64, 64)), (-45, 45)), 9.2))
    power = np.minimum(right.power, right.turned("y").power)
    estimate = estimate_wedge(MeanPower(power, right.shape, right.blocks))
    assert not estimate.is_clear
    assert estimate.beam is None
    assert orientation_fault(estimate) is None


def test_a_turned_spectrum_is_that_of_the_turned_volume() -> None:
    volume = noise((48, 64, 40))
    whole = tomogram_power(Tomogram(volume, 9.2))
    y_to_z = np.swapaxes(volume, 0, 1)[::-1]
    x_to_z = np.swapaxes(volume, 0, 2)[..., ::-1]
    for beam, turned_volume in (("z", volume), ("y", y_to_z), ("x", x_to_z)):
        direct = tomogram_power(Tomogram(np.ascontiguousarray(turned_volume), 9.2))
        seen = whole.turned(beam)  # type: ignore[arg-type]
        assert seen.shape == direct.shape
        np.testing.assert_allclose(seen.power, direct.power, rtol=3e-3)  # of scale


# --- what must not matter


@pytest.mark.parametrize(
    "change", [lambda v: -v, lambda v: 250 * v, lambda v: v - 40, lambda v: 1e-3 * v + 7]
)
def test_contrast_scale_and_offset_do_not_matter(change: Callable[[Volume], Volume]) -> None:
    volume = cut(noise(SHAPE), (-48, 63))
    before, after = of_tomogram(volume), of_tomogram(change(volume))
    assert (after.first_deg, after.last_deg, after.axis) == (
        before.first_deg,
        before.last_deg,
        before.axis,
    )
    assert after.clarity == pytest.approx(before.clarity, abs=0.01)
    flipped = tomogram_power(Tomogram(volume, 9.2, sign=-1), at_most=8)
    assert estimate_wedge(flipped) == estimate_wedge(
        tomogram_power(Tomogram(volume, 9.2), at_most=8)
    )


def test_whole_numbers(particles: Callable[..., Volume]) -> None:
    volumes = particles((-50, 70))
    coarse = np.round(volumes / volumes.std() * 3).astype(np.int8)
    assert_shows(of_cubes(coarse), (-50, 70), within=4)


# --- what is averaged


def powers(density: Volume, at_most: int = 100) -> MeanPower:
    return tomogram_power(Tomogram(density, 9.2), at_most=at_most)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_blocks_that_are_not_finite_are_skipped(value: float) -> None:
    density = cut(noise((64, 64, 192)), (-60, 60)).astype(np.float32)
    whole = powers(density)
    density[5, 6, 100] = value
    part = powers(density)
    assert 0 < part.blocks < whole.blocks
    assert np.isfinite(part.power).all()
    assert_shows(estimate_wedge(part), (-60, 60), within=4)


@pytest.mark.parametrize("filling", [0.0, 60.0])
def test_blocks_with_filling_are_skipped(filling: float) -> None:
    """A tomogram that was turned in its plane has constant corners."""
    density = cut(noise((64, 192, 192)), (-60, 60)).astype(np.float32)
    whole = powers(density)
    y, x = np.ogrid[:192, :192]
    density[:, y + x < 80] = filling
    density[:, y - x > 130] = filling
    part = powers(density)
    assert 0 < part.blocks < whole.blocks
    assert_shows(estimate_wedge(part), (-60, 60), within=4)


def test_nothing_to_average_is_an_error() -> None:
    for value in (np.nan, 0.0, 3.5):
        with pytest.raises(InputError, match="no part of tomogram t1 has a spectrum"):
            tomogram_power(Tomogram(np.full((40, 40, 40), value, np.float32), 9.2, name="t1"))
        with pytest.raises(InputError, match="no part of the set of cubes has a spectrum"):
            of_cubes(np.full((3, 24, 24, 24), value))


def test_what_is_too_thin_is_an_error() -> None:
    with pytest.raises(InputError, match=r"tomogram t1 is too thin .*at least 16.*15 × 80 × 80"):
        tomogram_power(Tomogram(noise((15, 80, 80)), 9.2, name="t1"))
    with pytest.raises(InputError, match=r"each cube is too thin .*12 × 12 × 12"):
        of_cubes(noise((3, 12, 12, 12)))


def test_cubes_that_cannot_be_used_are_skipped(particles: Callable[..., Volume]) -> None:
    volumes = particles((-50, 70))
    bad = np.full_like(volumes[:2], 4.0)
    bad[1, 3, 3, 3] = np.nan
    spectrum = cubes_power(Subtomograms(Cubes(np.concatenate([bad, volumes]))))
    assert spectrum.blocks == len(volumes)
    good = cubes_power(Subtomograms(Cubes(volumes)))
    np.testing.assert_allclose(spectrum.power, good.power, rtol=1e-4)


def test_at_most_so_many() -> None:
    assert powers(noise((64, 130, 130)), at_most=3).blocks == 3
    cubes = Subtomograms(Cubes(noise((70, 16, 16, 16))))
    assert cubes_power(cubes, at_most=66).blocks == 66


def test_large_cubes_count_by_their_middle() -> None:
    volumes = noise((1, 81, 81, 81))
    expected = cubes_power(Subtomograms(Cubes(volumes[:, 8:72, 8:72, 8:72])))
    outside = volumes.copy()
    outside[:, :8], outside[..., 72:] = 0, 100
    assert cubes_power(Subtomograms(Cubes(volumes))).shape == (64, 64, 64)
    for cubes in (volumes, outside):
        power = cubes_power(Subtomograms(Cubes(cubes))).power
        np.testing.assert_allclose(power, expected.power, rtol=1e-2, atol=1e-3)


def test_power_is_that_of_white_noise() -> None:
    spectrum = powers(noise((24, 100, 100)), at_most=40)
    assert spectrum.shape == (24, 64, 64)
    assert spectrum.padded == (48, 64, 64)
    assert spectrum.power.shape == (48, 64, 33)
    assert spectrum.power.mean() == pytest.approx(1)
    middle = spectrum.power[5:40, 5:60, 5:30]
    assert middle.mean() == pytest.approx(1, abs=0.02)
    assert middle.std() < 0.6  # 1 for one block


# --- what was stated


def shown(first: float, last: float, axis: Any = "y") -> WedgeEstimate:
    return WedgeEstimate(first, last, axis, 0.9)


@pytest.mark.parametrize(
    "estimate",
    [
        shown(-50, 70),
        shown(-50 - TOLERANCE_DEG, 70 + TOLERANCE_DEG),
        shown(-50 + TOLERANCE_DEG, 70 - TOLERANCE_DEG),
        WedgeEstimate(None, None, None, 0.2),
    ],
)
def test_what_agrees_or_is_unclear_is_not_mentioned(estimate: WedgeEstimate) -> None:
    assert compare_with_stated(estimate, recorded((-50, 70))) is None


@pytest.mark.parametrize(
    ("estimate", "ranges", "remedy"),
    [
        (shown(-40, 40), "-40° … +40° about y", "; state -40° … \\+40°, or check"),
        (shown(-50, 63), "-50° … +63° about y", "; state -50° … \\+63°"),
        (shown(-57, 70), "-57° … +70° about y", "; state -57° … \\+70°"),
        (shown(-68, 51), "-68° … +51° about y", "flipped.*flip z, or state -70° … \\+50°$"),
        (
            shown(-50, 70, "x"),
            "-50° … +70° about x",
            "stated; .*90° about z.* along y$",
        ),
        (
            shown(-70, 50, "x"),
            "-70° … +50° about x",
            "stated; .*90° about z.* along y$",
        ),
        (shown(-40, 40, "x"), "-40° … +40° about x", "90° about z.*, and state the range"),
    ],
)
def test_what_differs_is_said_with_a_remedy(
    estimate: WedgeEstimate, ranges: str, remedy: str
) -> None:
    text = compare_with_stated(estimate, recorded((-50, 70)))
    assert text is not None
    assert ranges in text
    assert "-50° … +70° about y are stated" in text
    assert "\n" not in text
    assert re.search(remedy, text)


def test_the_remedies_help(particles: Callable[..., Volume]) -> None:
    stated = recorded((-50, 70))
    volumes = particles((-50, 70))
    assert compare_with_stated(of_cubes(volumes), stated) is None
    flipped = volumes[:, ::-1]
    assert "flip z" in str(compare_with_stated(of_cubes(flipped), stated))
    assert compare_with_stated(of_cubes(flipped), recorded((-70, 50))) is None
    about_x = turned_to_x(volumes)
    assert "90° about z" in str(compare_with_stated(of_cubes(about_x), stated))
    back = np.swapaxes(about_x, -1, -2)[..., ::-1]  # +90°
    assert compare_with_stated(of_cubes(back), stated) is None


# --- real particles


@pytest.fixture(scope="module")
def real(data_folder: Path) -> dict[str, Volume]:
    """Real ribosomes in four tilt series, z flipped: series → cubes; "all" → all of them."""
    path = data_folder / "real_ribosomes" / "derived_subtomos_32_12A.npz"
    if not path.is_file():
        pytest.skip(f"reference data missing: {path}")
    with np.load(path) as file:
        volumes, series = file["subtomos_tomoframe"], file["tomo"]
    return {"all": volumes} | {str(name)[:7]: volumes[series == name] for name in set(series)}


@pytest.mark.data
@pytest.mark.parametrize(
    ("series", "tilts"),
    [
        # The beam's directions in their STAR file, single outer images left out.
        ("Unt_050", (-54, 60)),
        ("Unt_088", (-51, 61)),
        ("all", (-51, 62)),
    ],
)
def test_real_particles(real: dict[str, Volume], series: str, tilts: Range) -> None:
    assert_shows(of_cubes(real[series]), tilts, within=4)
    text = compare_with_stated(of_cubes(real[series][:, ::-1]), recorded(tilts))
    assert "flip z" in str(text)


@pytest.mark.data
@pytest.mark.parametrize("series", ["Unt_076", "Unt_083"])
def test_a_few_real_particles_are_not_misread(real: dict[str, Volume], series: str) -> None:
    """Single images at the ends make these ranges ragged: they are unclear, or nearly right."""
    estimate = of_cubes(real[series])
    if estimate.is_clear:
        assert estimate.axis == "y"
        assert estimate.first_deg == pytest.approx(-40, abs=8)
        assert estimate.last_deg == pytest.approx(65, abs=8)
