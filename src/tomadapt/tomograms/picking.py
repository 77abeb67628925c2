"""Where particles may be in a tomogram, without a template: difference of Gaussians.

The filter is that of Pei et al. 2016 (BMC Bioinformatics 17, 405), used by Lin et al. 2019 with
σ = 5 nm and K = 1.1: the tomogram smoothed with a Gaussian of σ, less itself smoothed with one of
K·σ. It answers to what is denser than its surroundings and of a size, not to a shape.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage
from scipy.spatial import cKDTree

from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import ConfigError, InputError
from tomadapt.robust import robust_spread

Floats = NDArray[np.floating]
Index = tuple[int, int, int]
Box = tuple[Index, Index]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

DEFAULT_THRESHOLDS = {"robust": 4.0, "lab": 3.0}
FAINT = 3.0
"""A threshold at which noise is picked too, and hardly a particle is missed: for the class NULL."""
LAB_STEPS = 20
"""The lab's threshold t counts twentieths of the way from the weakest maximum to the strongest."""

_TRUNCATE = 4.0  # a Gaussian ends at so many σ
_SMALLEST_SIGMA = 0.7  # in voxels: a sampled Gaussian narrower than this is none
_SAMPLES = 50_000
# Voxels within so many σ of a maximum above so many deviations are a particle's, not background.
_PARTICLE_REACH = 1.5
_PARTICLE_SCORE = 3.5
_SPREAD_ROUNDS = 3
_FEWEST_SAMPLES = 100
_SECTIONS = 9


class PickingConfig(BaseModel):
    """Parameters of :func:`pick`.

    Attributes
    ----------
    sigma_A
        Standard deviation in Å of the narrower Gaussian. The paper's is 50; that of the strongest
        answer to a ball is its diameter / (2 √3), so 50 Å suits 17 nm. See :func:`sigma_for_A`.
    ratio
        K: how much wider the other Gaussian is.
    rule
        ``robust``: a maximum counts from ``threshold`` robust standard deviations (1.4826 × median
        absolute deviation) of the filtered background above its median. Background are voxels
        farther than 1.5 σ from all maxima above 3.5 deviations, found in three rounds, or in a
        crowd the particles themselves would raise the threshold above them. It does not depend on
        single strong features such as gold beads or ice crystals. ``lab``: from
        min + threshold · (max − min) / 20, with the weakest and the strongest of all maxima, as in
        the lab's code; one bead of gold raises it above all particles.
    threshold
        See ``rule``; by default 4 for ``robust`` and 3 for ``lab``.
    distance_A
        Of two maxima nearer than this, the weaker is dropped; by default σ, as in the lab's code.
    border_A
        Nothing nearer than this to a face of the tomogram (the outermost voxels' centres) is
        picked; by default σ. There the filter sees the tomogram mirrored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sigma_A: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 50.0
    ratio: Annotated[float, Field(gt=1, le=10, allow_inf_nan=False)] = 1.1
    rule: Literal["robust", "lab"] = "robust"
    threshold: NotNegative | None = None
    distance_A: NotNegative | None = None
    border_A: NotNegative | None = None


@dataclass(frozen=True, eq=False)
class Picks:
    """Positions in a tomogram, the strongest first.

    Attributes
    ----------
    coordinates_A
        (n, 3), x, y, z in Å from the centre of the tomogram's first voxel.
    scores
        (n,), how many robust standard deviations of the filtered background each lies above its
        median, whatever the rule: the tomogram's scale and offset do not matter.
    threshold
        From which score on maxima were taken.
    """

    coordinates_A: NDArray[np.float64]
    scores: NDArray[np.float64]
    threshold: float

    def __len__(self) -> int:
        """Give the number of positions."""
        return len(self.scores)


@dataclass(frozen=True)
class _Maxima:
    """Local maxima of filtered density, and samples of it on a coarse grid.

    Attributes
    ----------
    indices
        (n, 3), z, y, x, of maxima.
    fractions
        (n, 3), of a voxel, to be added.
    values
        (n,) at maxima.
    sampled
        (m, 3), z, y, x, of samples.
    samples
        (m,) at them.
    """

    indices: NDArray[np.int64]
    fractions: Floats
    values: NDArray[np.float32]
    sampled: NDArray[np.int64]
    samples: NDArray[np.float32]


def sigma_for_A(diameter_A: float) -> float:
    """σ in Å to which a ball of a diameter in Å answers most: the diameter / (2 √3)."""
    return diameter_A / (2 * math.sqrt(3))


def pick(
    tomogram: Tomogram, config: PickingConfig | None = None, *, chunk: int = 192, workers: int = 1
) -> Picks:
    """Find the local maxima of the difference of Gaussians.

    Of 26 neighbours, none is greater. Positions are refined by a parabola through three voxels
    along each axis.

    Parameters
    ----------
    tomogram
        Read in blocks; its sign is honoured.
    config
        σ, K and the rest; by default the paper's σ and K.
    chunk
        Edge in voxels of the blocks that are worked on one after another, without the margin that
        each is read with. The result does not depend on it.
    workers
        Blocks in work at a time, one thread each. Memory grows with it; the result stays.

    Returns
    -------
    Picks
        By falling score; equal scores by z, y, x.

    Raises
    ------
    ConfigError
        σ is too small for the voxels, ``chunk`` or ``workers`` is not positive, or the borders
        leave nothing.
    InputError
        The tomogram holds NaN or infinite voxels, or is constant.

    Notes
    -----
    Pei et al. 2016, BMC Bioinformatics 17, 405.
    """
    config = config or PickingConfig()
    _check_config(tomogram, config, chunk=chunk, workers=workers)
    maxima = _all_maxima(tomogram, config, chunk=chunk, workers=workers)
    median, deviation = _background(maxima, config.sigma_A / tomogram.voxel_size_A)
    if not deviation > 0:
        raise constant(tomogram, "nothing that a difference of Gaussians answers to")
    scores = (maxima.values.astype(np.float64) - median) / deviation
    places = (maxima.indices + maxima.fractions)[:, ::-1] * tomogram.voxel_size_A
    border = config.sigma_A if config.border_A is None else config.border_A
    inside = ((places >= border) & (places <= tomogram.last_A - border)).all(axis=1)
    # Outside the borders there may be artefacts that the lab's rule would measure itself by.
    indices, places, scores = maxima.indices[inside], places[inside], scores[inside]
    threshold = _threshold(config, scores)
    order = np.lexsort((*indices.T[::-1], -scores))
    order = order[scores[order] >= threshold]
    distance = config.sigma_A if config.distance_A is None else config.distance_A
    kept = order[thinned(places[order], distance)]
    return Picks(places[kept], scores[kept], threshold)


def _check_config(tomogram: Tomogram, config: PickingConfig, *, chunk: int, workers: int) -> None:
    sigma = config.sigma_A / tomogram.voxel_size_A
    if sigma < _SMALLEST_SIGMA:
        raise ConfigError(
            "sigma_A is too small for the voxels",
            expected=f"at least {_SMALLEST_SIGMA * tomogram.voxel_size_A:g} Å",
            got=f"{config.sigma_A:g} Å at {tomogram.voxel_size_A:g} Å per voxel",
            remedy="set sigma_A to the particles' diameter / 3.5",
        )
    border = config.sigma_A if config.border_A is None else config.border_A
    if (2 * border > tomogram.last_A).any():
        raise ConfigError(
            "the borders leave nothing of the tomogram",
            expected=f"border_A of at most {tomogram.last_A.min() / 2:g} Å",
            got=f"{border:g} Å",
            remedy="lower border_A (by default it is sigma_A)",
        )
    for name, value in (("chunk", chunk), ("workers", workers)):
        if value < 1:
            raise ConfigError(name, expected="at least 1", got=value)


def _all_maxima(tomogram: Tomogram, config: PickingConfig, *, chunk: int, workers: int) -> _Maxima:
    """The maxima of all blocks, and a grid of samples of the filtered voxels."""
    offset = _typical(tomogram)
    step = max(1, math.ceil((math.prod(tomogram.shape) / _SAMPLES) ** (1 / 3)))

    def work(core: Box) -> _Maxima:
        return _maxima(tomogram, config, core, offset=offset, step=step)

    cores = list(blocks_of(tomogram.shape, chunk))
    with ThreadPoolExecutor(workers) as pool:
        # Only the maxima are kept of a block, so all the results may wait.
        parts = list(pool.map(work, cores)) if workers > 1 else [work(core) for core in cores]
    names = [field.name for field in fields(_Maxima)]
    return _Maxima(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def blocks_of(shape: Index, side: int) -> Iterator[Box]:
    """The blocks that fill a volume: their first indices, and those after their last."""
    for z, y, x in itertools.product(*(range(0, n, side) for n in shape)):
        high = (min(z + side, shape[0]), min(y + side, shape[1]), min(x + side, shape[2]))
        yield (z, y, x), high


def _typical(tomogram: Tomogram) -> np.float32:
    """A density to subtract: in single precision, little differences of large numbers get lost."""
    nz, ny, nx = tomogram.shape
    means = []
    for z in np.unique(np.linspace(0, nz - 1, _SECTIONS).astype(int)).tolist():
        section = tomogram.block((z, 0, 0), (z + 1, ny, nx))
        require_finite(tomogram, section)
        means.append(section.mean(dtype=np.float64))
    return np.float32(np.median(means))


def require_finite(tomogram: Tomogram, values: NDArray[np.float32]) -> None:
    """Refuse voxels of a tomogram that are NaN or infinite.

    Raises
    ------
    InputError
        With their number.
    """
    # NaN goes through minimum and maximum, and no array of booleans is made.
    if not (np.isfinite(values.min()) and np.isfinite(values.max())):
        raise InputError(
            f"tomogram {tomogram.name or 'given'} holds NaN or infinite voxels",
            expected="finite voxels",
            got=f"{int((~np.isfinite(values)).sum())} others in one part of it",
            remedy="reconstruct it again, or replace them by the mean",
        )


def constant(tomogram: Tomogram, got: str) -> InputError:
    """The error for a tomogram in which nothing stands out."""
    return InputError(
        f"tomogram {tomogram.name or 'given'} is constant",
        expected="voxels that vary",
        got=got,
        remedy="check that this is the file that was meant",
    )


def _maxima(
    tomogram: Tomogram, config: PickingConfig, core: Box, *, offset: np.float32, step: int
) -> _Maxima:
    """The local maxima in one block of the tomogram.

    One voxel more is filtered on each side, so that maxima at the block's faces see their
    neighbours, and as much more is read as the wider Gaussian reaches.
    """
    low, high = core
    edge_low = tuple(max(a - 1, 0) for a in low)
    edge_high = tuple(min(b + 1, n) for b, n in zip(high, tomogram.shape, strict=True))
    dog = _difference_of_gaussians(tomogram, config, edge_low, edge_high, offset=offset)
    inner = tuple(slice(a - e, b - e) for a, b, e in zip(low, high, edge_low, strict=True))
    strongest = ndimage.maximum_filter(dog, size=3, mode="nearest")[inner]
    weakest = ndimage.minimum_filter(dog, size=3, mode="nearest")[inner]
    # Where all is constant, every voxel is its neighbourhood's maximum: that is none.
    found = np.argwhere((dog[inner] == strongest) & (strongest > weakest))
    local = found + np.subtract(low, edge_low, dtype=np.int64)
    # The grid's points are whole multiples of the step, whatever the block.
    grid = [np.arange(a + -a % step, b, step) for a, b in zip(low, high, strict=True)]
    sampled = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1).reshape(-1, 3)
    return _Maxima(
        found + np.array(low, dtype=np.int64),
        _fractions(dog, local),
        dog[tuple(local.T)],
        sampled,
        dog[tuple((sampled - edge_low).T)],
    )


def _difference_of_gaussians(
    tomogram: Tomogram,
    config: PickingConfig,
    low: tuple[int, ...],
    high: tuple[int, ...],
    *,
    offset: np.float32,
) -> NDArray[np.float32]:
    """G(σ) − G(K·σ) of the voxels from ``low`` to ``high``; beyond the faces it is mirrored."""
    narrow = config.sigma_A / tomogram.voxel_size_A
    wide = narrow * config.ratio
    reach = int(_TRUNCATE * wide + 0.5) + 1
    read_low = tuple(max(a - reach, 0) for a in low)
    read_high = tuple(min(b + reach, n) for b, n in zip(high, tomogram.shape, strict=True))
    block = tomogram.block(read_low, read_high)
    require_finite(tomogram, block)
    block -= offset
    keep = tuple(slice(a - r, b - r) for a, b, r in zip(low, high, read_low, strict=True))
    return _smoothed(block, narrow, keep) - _smoothed(block, wide, keep)


def _smoothed(
    block: NDArray[np.float32], sigma: float, keep: tuple[slice, ...]
) -> NDArray[np.float32]:
    """Smooth with a Gaussian; along each axis the margin is dropped as soon as it was used.

    The sums are formed in double precision and in one order, voxel by voxel, so a voxel does not
    depend on the block that it was read with.
    """
    for axis, kept in enumerate(keep):
        smooth = ndimage.gaussian_filter1d(block, sigma, axis=axis, truncate=_TRUNCATE)
        block = smooth[(slice(None),) * axis + (kept,)]
    return block


def _fractions(dog: NDArray[np.float32], indices: NDArray[np.int64]) -> Floats:
    """By which part of a voxel, per axis, the vertex of the parabola lies from each maximum."""
    fractions = np.zeros(indices.shape)
    centre = dog[tuple(indices.T)].astype(np.float64)
    for axis in range(3):
        step = np.eye(3, dtype=np.int64)[axis]
        sides = []
        for side in (indices - step, indices + step):
            within = np.clip(side, 0, np.array(dog.shape) - 1)
            sides.append(dog[tuple(within.T)].astype(np.float64))
        left, right = sides
        curvature = left - 2 * centre + right
        at_face = (indices[:, axis] == 0) | (indices[:, axis] == dog.shape[axis] - 1)
        usable = (curvature < 0) & ~at_face
        vertex = 0.5 * (left - right) / np.where(usable, curvature, 1.0)
        fractions[:, axis] = np.where(usable, vertex.clip(-0.5, 0.5), 0.0)
    return fractions


def _background(maxima: _Maxima, sigma: float) -> tuple[float, float]:
    """The median and the robust standard deviation of filtered background; σ is in voxels.

    Voxels amid a constant part of the tomogram (zeros that fill its corners, say) do not count:
    they are the same to within rounding.
    """
    size = np.abs(maxima.samples)
    varying = size > 1e-5 * size.max(initial=0.0)
    values, places = maxima.samples[varying].astype(np.float64), maxima.sampled[varying]
    median, deviation = robust_spread(values)
    for _ in range(_SPREAD_ROUNDS):
        strong = maxima.indices[maxima.values > median + _PARTICLE_SCORE * deviation]
        if not len(strong):
            break
        reach = _PARTICLE_REACH * sigma
        far = cKDTree(strong).query(places, distance_upper_bound=reach)[0] > reach
        if far.sum() < _FEWEST_SAMPLES:
            break
        median, deviation = robust_spread(values[far])
    return median, deviation


def _threshold(config: PickingConfig, scores: NDArray[np.float64]) -> float:
    chosen = DEFAULT_THRESHOLDS[config.rule] if config.threshold is None else config.threshold
    if config.rule == "robust" or not len(scores):
        return float(chosen)
    weakest, strongest = float(scores.min()), float(scores.max())
    return weakest + chosen * (strongest - weakest) / LAB_STEPS


def thinned(points: Floats, distance: float) -> NDArray[np.int64]:
    """Which points stay when each that is nearer than ``distance`` to an earlier one goes."""
    stays = np.ones(len(points), dtype=bool)
    if distance > 0 and len(points):
        # Pairs that are just so far apart stay both.
        pairs = cKDTree(points).query_pairs(math.nextafter(distance, 0), output_type="ndarray")
        for first, later in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].tolist():
            if stays[first]:
                stays[later] = False
    return np.flatnonzero(stays)
