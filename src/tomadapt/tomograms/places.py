"""What the density says of the places in a list: whether particles are there, and exactly there.

Particles in all orientations are round on average, so that the density around right places is
centred on them. Where it is not, the places count from elsewhere or in other pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial import cKDTree

from tomadapt.tomograms.scale import OFF_VOXELS
from tomadapt.tomograms.tomogram import Tomogram

Doubles = NDArray[np.float64]

MOST_PLACES, RANDOM_PLACES = 500, 150
CORE = 0.8
"""Of a particle's radius: a smaller ball would lie in the cavity of hollow particles."""
REACH = 1.5
"""Radii up to which the surroundings of a place are looked at."""
_SAMPLES = 8  # a radius is this many voxels; finer ones are averaged
_STRONG = 5.0  # robust standard deviations: gold counts no more than this
_FEWEST_MOVED, _SURE = 8, 5.0
_DRAWN, _FEWEST_RANDOM = 2000, 40


@dataclass(frozen=True, eq=False)
class PlaceDensity:
    """What surrounds some places.

    Attributes
    ----------
    places_A
        (n, 3) x, y, z in Å: those that have voxels around them, which differ and are finite.
    excess
        (n,) mean density of the core less that of the shell from one to one and a half radii.
    mass
        (n,) density above that of the shell, summed over the particle, times Å³.
    moment
        (n, 3) the first moment of the density about each place, x, y, z, times Å³; NaN where the
        surroundings reach out of the tomogram.
    """

    places_A: Doubles
    excess: Doubles
    mass: Doubles
    moment: Doubles

    def __len__(self) -> int:
        """Give the number of places."""
        return len(self.excess)


def density_at(
    tomogram: Tomogram, places_A: NDArray[np.floating[Any]], *, radius_A: float
) -> PlaceDensity:
    """Measure the density around places.

    Parameters
    ----------
    tomogram
        Read around one place at a time; its sign is honoured.
    places_A
        (n, 3), x, y, z in Å.
    radius_A
        Of the particles, in Å.
    """
    size = tomogram.voxel_size_A
    radius_A = max(radius_A, size / CORE)
    kept, rows = [], []
    for place in np.asarray(places_A, dtype=np.float64):
        found = _around(tomogram, place, radius_A)
        if found is not None:
            kept.append(place)
            rows.append(found)
    table = np.array(rows).reshape(len(rows), 5)
    return PlaceDensity(
        np.array(kept).reshape(len(kept), 3), table[:, 0], table[:, 1], table[:, 2:]
    )


def _around(tomogram: Tomogram, place_A: Doubles, radius_A: float) -> Doubles | None:
    """Excess, mass and moment at a place; None where nothing can be said of it."""
    size = tomogram.voxel_size_A
    if not np.isfinite(place_A).all():
        return None
    centre, reach = place_A[::-1] / size, REACH * radius_A / size
    low, high = np.ceil(centre - reach).astype(int), np.floor(centre + reach).astype(int) + 1
    first, last = np.maximum(low, 0), np.minimum(high, tomogram.shape)
    if (last - first < 1).any():
        return None
    values = tomogram.block(first.tolist(), last.tolist()).astype(np.float64)
    axes = [np.arange(a, b) - c for a, b, c in zip(first, last, centre, strict=True)]
    step = max(1, int(radius_A / size / _SAMPLES))
    if step > 1:
        values, axes = _binned(values, axes, step)
    if not np.isfinite(values).all() or values.min() == values.max():
        return None
    z, y, x = np.meshgrid(*(axis * size for axis in axes), indexing="ij", sparse=True)
    distance = np.sqrt(z**2 + y**2 + x**2)
    core, within = distance <= CORE * radius_A, distance <= radius_A
    shell = ~within & (distance <= REACH * radius_A)
    if not core.any() or not shell.any():
        return None
    around = values[shell].mean()
    volume_A3 = (step * size) ** 3
    mass = (values[within] - around).sum() * volume_A3
    cut = (first > low).any() or (last < high).any()
    inside = within | shell
    weights = np.where(inside, values - around, 0.0)
    moment = [math.nan if cut else float((weights * c).sum() * volume_A3) for c in (x, y, z)]
    return np.array([values[core].mean() - around, mass, *moment])


def _binned(
    values: Doubles, axes: list[NDArray[np.floating[Any]]], step: int
) -> tuple[Doubles, list[NDArray[np.floating[Any]]]]:
    """Means over cells of ``step`` voxels along each axis; what is left over at the end is cut."""
    counts = [max(1, n // step) for n in values.shape]
    cells = [min(step, n) for n in values.shape]
    cut = tuple(slice(n * cell) for n, cell in zip(counts, cells, strict=True))
    split = [part for pair in zip(counts, cells, strict=True) for part in pair]
    means = values[cut].reshape(split).mean(axis=(1, 3, 5))
    centres = [
        axis[: n * cell].reshape(n, cell).mean(axis=1)
        for axis, n, cell in zip(axes, counts, cells, strict=True)
    ]
    return means, centres


def disjoint(places_A: NDArray[np.floating[Any]], distance_A: float) -> NDArray[np.int64]:
    """Rows of places (n, 3) of which no two are nearer than a distance, the first ones first.

    Overlapping surroundings are one measurement, not several.
    """
    places = np.asarray(places_A, dtype=np.float64)
    finite = np.flatnonzero(np.isfinite(places).all(axis=1))
    if not len(finite):
        return finite
    tree = cKDTree(places[finite])
    free = np.ones(len(finite), dtype=bool)
    kept = []
    for i in range(len(finite)):
        if free[i]:
            kept.append(i)
            free[tree.query_ball_point(places[finite[i]], distance_A)] = False
    return finite[kept]


def spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most :data:`MOST_PLACES` of some rows, from the first to the last."""
    return rows[:: max(1, -(-len(rows) // MOST_PLACES))]


def random_density(
    tomogram: Tomogram, places_A: NDArray[np.floating[Any]], *, radius_A: float
) -> PlaceDensity:
    """The same at random places, always the same ones: what is measured where nothing is meant.

    They keep away from the places (n, 3) in Å that are asked about, as far as there is room: else
    particles would count as what noise does.
    """
    rng = np.random.default_rng(0)
    drawn = rng.uniform(0, 1, (_DRAWN, 3)) * tomogram.last_A
    known = np.asarray(places_A, dtype=np.float64)
    known = known[np.isfinite(known).all(axis=1)]
    distance = cKDTree(known).query(drawn)[0] if len(known) else np.full(_DRAWN, np.inf)
    away = drawn[distance >= 2 * CORE * radius_A][:RANDOM_PLACES]
    if len(away) < _FEWEST_RANDOM:
        away = drawn[np.argsort(-distance, kind="stable")[:RANDOM_PLACES]]
    return density_at(tomogram, away, radius_A=radius_A)


def errors_above_random(listed: PlaceDensity, random: PlaceDensity) -> float:
    """The mean excess of listed places in its standard errors, by what random places scatter."""
    if len(listed) < 2 or len(random) < 2:
        return 0.0
    middle = np.median(random.excess)
    width = 1.4826 * float(np.median(np.abs(random.excess - middle)))
    width = width or float(random.excess.std()) or float(np.abs(listed.excess).max()) or 1.0
    low, high = middle - _STRONG * width, middle + _STRONG * width
    scatter = float(np.clip(random.excess, low, high).std())
    scatter = max(scatter, width)
    return float(np.clip(listed.excess, low, high).mean() / scatter * len(listed) ** 0.5)


def displacement(listed: PlaceDensity, tomogram: Tomogram) -> str | None:
    """Where the density around places is centred elsewhere, in one sentence.

    The first moment of the density about each place, over the mean mass, is how far its particle
    lies from it. A straight line through these, along each axis, has a shift (another origin, one
    voxel counted from one, another thickness) and a slope (another pixel size).

    Parameters
    ----------
    listed
        What surrounds the places.
    tomogram
        For its voxel size and extent.

    Returns
    -------
    str or None
        None where it is centred within half a voxel, or that cannot be said.
    """
    usable = np.isfinite(listed.moment).all(axis=1)
    n = int(usable.sum())
    if n < _FEWEST_MOVED:
        return None
    mass = listed.mass[usable]
    if abs(_sigmas(mass.mean(), float(mass.std(ddof=1) / n**0.5), n - 1)) < _SURE:
        return None
    size = tomogram.voxel_size_A
    moved = listed.moment[usable] / mass.mean() / size
    middle = tomogram.last_A / 2
    along = (listed.places_A[usable] - middle) / np.maximum(middle, size)
    shifts, slopes = [0.0] * 3, [0.0] * 3
    for axis in range(3):
        design = np.stack([np.ones(n), along[:, axis]], axis=1)
        if np.linalg.cond(design) > 20:
            design = design[:, :1]
        found, *_ = np.linalg.lstsq(design, moved[:, axis], rcond=None)
        left = moved[:, axis] - design @ found
        freedom = n - design.shape[1]
        variance = float(left @ left) / freedom * np.linalg.inv(design.T @ design)
        for target, value, error in zip(
            (shifts, slopes), found.tolist(), np.sqrt(np.diag(variance)).tolist(), strict=False
        ):
            if abs(value) > OFF_VOXELS and abs(_sigmas(value, error, freedom)) >= _SURE:
                target[axis] = value
    told = []
    if any(shifts):
        told.append(
            "is centred " + ", ".join(f"{s:+.1f}" for s in shifts) + " voxels (x, y, z) from them"
        )
    if any(slopes):
        told.append(
            "drifts away from them towards the tomogram's sides by "
            + ", ".join(f"{s:+.1f}" for s in slopes)
            + " voxels (x, y, z)"
        )
    if not told:
        return None
    why = []
    if any(shifts):
        why.append("where they count from (one or zero, corner or centre, another thickness)")
    if any(slopes):
        why.append("in which pixels they count (--pixel-size), and the voxel size (--voxel-size)")
    return f"the density around the listed particles {' and '.join(told)}: check {'; '.join(why)}"


def _sigmas(value: float, error: float, freedom: int) -> float:
    """A value in standard errors as a normal deviate: few measurements prove less."""
    ratio = value / max(error, 1e-300)
    probability = float(stats.t.logsf(abs(ratio), freedom))
    return math.copysign(float(-stats.norm.ppf(math.exp(max(probability, -700.0)))), value)
