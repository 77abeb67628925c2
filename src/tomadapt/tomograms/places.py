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
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from tomadapt.data.tomogram import Tomogram
from tomadapt.robust import MAD_TO_SIGMA, robust_spread

Doubles = NDArray[np.float64]

MOST_PLACES, RANDOM_PLACES = 500, 150
CORE = 0.8
"""Of a particle's radius: a smaller ball would lie in the cavity of hollow particles."""
REACH = 1.5
"""Radii up to which the surroundings of a place are looked at."""
_MOMENT, _SEARCHED = 1.25, 2.5  # radii: of the first moment, of the mean surroundings
_SAMPLES = 8  # a radius is this many voxels; finer ones are averaged
_STRONG, _HIT = 10.0, 3.0  # robust standard deviations: of gold; of what is there
_HOT, _FINITE = 20.0, 0.95  # robust standard deviations of voxels; least share that is finite
_OF_RANDOM = 0.75
"""Four standard errors of noise are asked for, and three of what random places scatter by: of 2000
random lists of 30 among packed balls none reached 2.8."""
_FEWEST_MOVED, _SURE, _SPREAD = 8, 4.0, 0.2
MOVED_VOXELS = 0.3
"""Half a voxel is what places may be off; what is measured may be off itself."""
_DRAWN, _FEWEST_RANDOM, _ROUNDS, _SEARCHES = 2000, 40, 5, 100
_PEAK, _LESS, _MOST_OF, _WIDER, _ASIDE = 6.0, 0.7, 0.7, 1.5, 0.4


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
    finite = np.isfinite(values)
    if finite.mean() < _FINITE:
        return None
    # Single voxels that a detector or a program spoilt tell nothing of a particle.
    middle = float(np.median(values[finite]))
    values[~finite] = middle
    width = MAD_TO_SIGMA * float(np.median(np.abs(values - middle)))
    if width > 0:
        values = np.clip(values, middle - _HOT * width, middle + _HOT * width)
    axes = [np.arange(a, b) - c for a, b, c in zip(first, last, centre, strict=True)]
    step = max(1, int(radius_A / size / _SAMPLES))
    if step > 1:
        values, axes = _binned(values, axes, step)
    if values.min() == values.max():
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
    # Farther out lie neighbours.
    weights = np.where(distance <= _MOMENT * radius_A, values - around, 0.0)
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


def spread(rows: NDArray[np.int64], at_most: int = MOST_PLACES) -> NDArray[np.int64]:
    """Some of the rows, from the first to the last."""
    return rows[:: max(1, -(-len(rows) // at_most))]


def random_density(
    tomogram: Tomogram, places_A: NDArray[np.floating[Any]], *, radius_A: float
) -> tuple[PlaceDensity, PlaceDensity]:
    """The same at random places, always the same ones.

    Returns
    -------
    away
        At places that keep away from those (n, 3) in Å that are asked about, as far as there is
        room.
    anywhere
        At any places.
    """
    rng = np.random.default_rng(0)
    drawn = rng.uniform(0, 1, (_DRAWN, 3)) * tomogram.last_A
    known = np.asarray(places_A, dtype=np.float64)
    known = known[np.isfinite(known).all(axis=1)]
    distance = cKDTree(known).query(drawn)[0] if len(known) else np.full(_DRAWN, np.inf)
    away = drawn[distance >= 2 * CORE * radius_A][:RANDOM_PLACES]
    if len(away) < _FEWEST_RANDOM:
        away = drawn[np.argsort(-distance, kind="stable")[:RANDOM_PLACES]]
    return (
        density_at(tomogram, away, radius_A=radius_A),
        density_at(tomogram, drawn[:RANDOM_PLACES], radius_A=radius_A),
    )


@dataclass(frozen=True)
class StandingOut:
    """How listed places differ from random ones.

    Attributes
    ----------
    errors
        The mean excess in its standard errors; 0 where chance explains it.
    doubt
        One sentence where most places show nothing and others clearly do; None else.
    """

    errors: float
    doubt: str | None = None


def standing_out(listed: PlaceDensity, away: PlaceDensity, anywhere: PlaceDensity) -> StandingOut:
    """Compare listed places with random ones.

    Wrong places lie on particles by chance as well. So many of the strongest as chance would hit
    are left out, and the others must still show the same, else there is nothing.

    Parameters
    ----------
    listed
        The density at the places of a list.
    away
        At random places away from these, whose scatter is that of noise.
    anywhere
        At random places, which hit particles as often as a wrong list does.
    """
    n = len(listed)
    if n < 2 or len(away) < 2:
        return StandingOut(0.0)
    width = robust_spread(away.excess)[1]
    width = width or float(away.excess.std()) or float(np.abs(listed.excess).max()) or 1.0
    # Over places that mean nothing the excess is 0 on average. Gold counts no more than a particle.
    values = np.clip(listed.excess / width, -_STRONG, _STRONG)
    # Where particles are packed, random places scatter more than noise: many lie on one or beside.
    random = np.clip(anywhere.excess / width, -_STRONG, _STRONG)
    scatter = float(random.std(ddof=1)) if len(random) > 1 else 1.0
    errors = float(values.mean()) * n**0.5 / max(1.0, _OF_RANDOM * scatter)
    towards = np.sort(values * np.sign(errors))
    hits = anywhere.excess / width * np.sign(errors) > _HIT
    by_chance = int(stats.binom.ppf(0.999, n, hits.mean()))
    others = towards[: max(1, n - by_chance)]
    if others.mean() * len(others) ** 0.5 < _HIT:
        errors = 0.0
    strong = towards[towards > _HIT]
    doubt = None
    if (
        n >= _FEWEST_MOVED
        and 0 < len(strong) < _MOST_OF * n
        and np.quantile(strong, 0.75) > 2 * _HIT
    ):
        doubt = (
            f"{n - len(strong)} of {n} listed particles do not differ from their surroundings, "
            f"where the others clearly do; {CHECK}"
        )
    return StandingOut(errors, doubt)


CHECK = (
    "check where they count from (one or zero, corner or centre, another thickness), in which "
    "pixels (--pixel-size), the order of axes, the voxel size (--voxel-size), and that the list "
    "is of this tomogram"
)


def displacement(listed: PlaceDensity, tomogram: Tomogram, *, radius_A: float) -> str | None:
    """Where the density around places is centred elsewhere, in one sentence.

    The first moment of the density about each place, over the mean mass, is how far its particle
    lies from it. Along each axis a straight line is fitted to these: it is off everywhere alike
    where places count from another origin or in a volume of another thickness, and more and more
    where their pixels have another size. Particles that are farther away than a radius show in the
    mean surroundings of all places.

    Parameters
    ----------
    listed
        What surrounds the places.
    tomogram
        Where they are.
    radius_A
        Of the particles, in Å.

    Returns
    -------
    str or None
        None where it is centred within :data:`MOVED_VOXELS`, or that cannot be said.
    """
    if len(listed) < _FEWEST_MOVED:
        return None
    far = _far_displacement(listed, tomogram, radius_A)
    if far is not None:
        shift = ", ".join(f"{c:+.0f}" for c in far / tomogram.voxel_size_A)
        return (
            "the listed particles would differ more from their surroundings if all were moved by "
            f"{shift} voxels (x, y, z); {CHECK}"
        )
    usable = np.isfinite(listed.moment).all(axis=1)
    n = int(usable.sum())
    if n < _FEWEST_MOVED:
        return None
    mass = listed.mass[usable]
    if abs(_sigmas(mass.mean(), float(mass.std(ddof=1) / n**0.5), n - 1)) < _SURE:
        return None
    size = tomogram.voxel_size_A
    moved = listed.moment[usable] / mass.mean() / size
    along = listed.places_A[usable] / np.maximum(tomogram.last_A, size)
    lines = [_line(along[:, axis], moved[:, axis]) for axis in range(3)]
    if not any(sure for *_, sure in lines):
        return None
    low, high = (", ".join(f"{line[i]:+.1f}" for line in lines) for i in (0, 1))
    return (
        f"the density around the listed particles is centred beside them: by {low} voxels (x, y, "
        f"z) at the tomogram's first voxel, {high} at its last; {CHECK}"
    )


def _far_displacement(listed: PlaceDensity, tomogram: Tomogram, radius_A: float) -> Doubles | None:
    """Where the mean surroundings of all places have what stands out, if not in their middle."""
    size = tomogram.voxel_size_A
    step = max(1, int(radius_A / size / (_SAMPLES / 2)))
    half = max(2, int(_SEARCHED * radius_A / size / step))
    total = np.zeros((2 * half + 1,) * 3)
    count = np.zeros_like(total)
    some = spread(np.arange(len(listed)), _SEARCHES)
    for place in listed.places_A[some]:
        low = np.round(place[::-1] / size).astype(int) - half * step - step // 2
        high = low + (2 * half + 1) * step
        first, last = np.maximum(low, 0), np.minimum(high, tomogram.shape)
        # Whole cells only.
        skipped, kept = -(-(first - low) // step), (last - low) // step
        if (kept - skipped < 1).any():
            continue
        values = tomogram.block((low + skipped * step).tolist(), (low + kept * step).tolist())
        if not np.isfinite(values).all():
            continue
        cells = [part for m in (kept - skipped).tolist() for part in (m, step)]
        means = values.astype(np.float64).reshape(cells).mean(axis=(1, 3, 5))
        where = tuple(map(slice, skipped.tolist(), kept.tolist()))
        total[where] += means - means.mean()
        count[where] += 1
    if not count.max():
        return None
    mean = total / np.maximum(count, 1)
    mean[count < count.max() / 2] = 0.0
    smooth = gaussian_filter(mean, CORE * radius_A / size / step / 2, mode="nearest")
    # The means of fewer places scatter more, and so does what is smoothed at the window's sides.
    smooth = (smooth - np.median(smooth)) * np.sqrt(count / count.max())
    reach = (np.arange(2 * half + 1) - half) * step * size
    distance = np.sqrt(reach[:, None, None] ** 2 + reach[:, None] ** 2 + reach**2)
    smooth[distance > (_SEARCHED - _ASIDE) * radius_A] = 0.0
    inside = np.abs(smooth[smooth != 0])
    spread_ = MAD_TO_SIGMA * float(np.median(inside)) if inside.size else math.inf
    best = np.unravel_index(int(np.abs(smooth).argmax()), smooth.shape)
    offset = (np.array(best[::-1], dtype=np.float64) - half) * float(step * size)
    peak, middle = float(smooth[best]), float(smooth[half, half, half])
    if np.linalg.norm(offset) < radius_A / 2 or abs(peak) < _PEAK * spread_:
        return None
    return offset if middle * np.sign(peak) < _LESS * abs(peak) else None


def _line(along: Doubles, moved: Doubles) -> tuple[float, float, bool]:
    """A straight line's values at 0 and 1, and whether it is surely off there or in the middle."""
    design = np.stack([np.ones(len(along)), along], axis=1)
    if np.ptp(along) < _SPREAD:  # places at one height tell of no slope
        design = design[:, :1]
    # A neighbour, or the particle of another place, is no displacement.
    for _ in range(_ROUNDS):
        found, *_rest = np.linalg.lstsq(design, moved, rcond=None)
        left = moved - design @ found
        middle, width = robust_spread(left)
        near = np.abs(left - middle) <= 3 * width
        if near.all() or near.sum() < _FEWEST_MOVED:
            break
        design, moved = design[near], moved[near]
    freedom = len(moved) - design.shape[1]
    # What was left out would have made it wider.
    spread_ = np.linalg.inv(design.T @ design) * _WIDER * float(left @ left) / freedom
    values, sure = [], False
    for at in (0.0, 1.0, float(design[:, -1].mean())):
        row = np.array([1.0, at])[: design.shape[1]]
        value, error = float(row @ found), float(row @ spread_ @ row) ** 0.5
        sure |= abs(value) > MOVED_VOXELS and abs(_sigmas(value, error, freedom)) >= _SURE
        values.append(value)
    return values[0], values[1], sure


def _sigmas(value: float, error: float, freedom: int) -> float:
    """A value in standard errors as a normal deviate: few measurements prove less."""
    ratio = value / max(error, 1e-300)
    probability = float(stats.t.logsf(abs(ratio), freedom))
    return math.copysign(float(-stats.norm.ppf(math.exp(max(probability, -700.0)))), value)
