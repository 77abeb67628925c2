"""Where a tomogram's particles may be, and the sign of its density, by the likelihood.

Maxima of the matched filters are looked at once, at low resolution, with all wanted structures;
those that one of them explains are moved to where it fits. A list of positions is taken as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tomadapt.classify.matched_source import Geometry
from tomadapt.classify.options import ClassifyOptions
from tomadapt.data.subtomograms import Indices
from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import ConfigError, InputError
from tomadapt.inputs.particles import Contrast
from tomadapt.judge.judge import MAX_SHAPE_CORRELATION
from tomadapt.judge.noise import Noise
from tomadapt.judge.rivals import Hypothesis, shapes
from tomadapt.judge.screen import Screen, Screened, min_search_shell, screen_all
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.runs.progress import progress_bar
from tomadapt.tomograms.contrast import Sign
from tomadapt.tomograms.extraction import Extraction, extract
from tomadapt.tomograms.listed import placed, with_density_notes
from tomadapt.tomograms.matched_filter import Candidates, Level, find_candidates
from tomadapt.tomograms.picking import Picks
from tomadapt.tomograms.positions import Positions, picked_positions

LEAST_NATS = 5.0
"""A maximum of the matched filter is a pick from this evidence of a wanted structure on."""
BACKGROUND_CUBES, FEWEST_BACKGROUND = 300, 20
_DRAWN, _AT_ONCE = 20_000, 256
HEIGHTS = (5, 95)
"""Percentiles of the maxima's heights between which noise is measured."""
FARTHEST = 0.1
"""Of random places: noise is measured at these where particles leave no more room."""
MAX_FILLED = 0.02
"""Of a cube's voxels that may be filling where noise is measured."""
OVERLAP = 0.6
"""Two particles nearer than this fraction of their radii's sum are one."""
_SIGN_SAMPLE = 48
SIGN_RATIO, SIGN_NATS = 1.5, 10.0
"""The better sign's summed evidence must be so many times the other's, and so much more: noise has
a few nats for either sign."""
OVERWHELMING, LIKELY = 4.0, 2.5
"""Below the first ratio what the structures have over shapes decides, where that is clear; below
the second one nothing else does."""


@dataclass(frozen=True, eq=False)
class CleanCubes:
    """Cubes as the judge sees them: without gold and the like, and clipped.

    Attributes
    ----------
    volumes
        (n, d, d, d), density positive.
    level
        Of the tomogram they come from.
    """

    volumes: NDArray[np.float32]
    level: Level

    def __len__(self) -> int:
        """Give the number of cubes."""
        return len(self.volumes)

    def read(self, indices: Indices) -> torch.Tensor:
        """(b, d, d, d) float32."""
        rows = np.asarray(indices)
        return torch.from_numpy(np.stack([self.level.cleaned(v) for v in self.volumes[rows]]))

    def on_gold(self) -> NDArray[np.bool_]:
        """(n,) whether there is gold or the like within a tenth of the box of the centre."""
        n = self.volumes.shape[1]
        reach = max(1, round(n / 10))
        middle = slice(n // 2 - 2 * reach, n // 2 + 2 * reach + 1)
        centre = (slice(reach, -reach),) * 3
        return np.array(
            [
                bool(self.level.is_strong(v[middle, middle, middle])[centre].any())
                for v in self.volumes
            ],
            dtype=bool,
        )


def clearly_better(sums: Mapping[int, float]) -> bool:
    """Whether one sign's summed evidence is clearly more than the other's."""
    less, more = sorted(sums.values())
    return more > SIGN_RATIO * less and more - less > SIGN_NATS


def _summed(nats: NDArray[np.float64] | None) -> float:
    return 0.0 if nats is None else float(np.clip(nats, 0, None).sum())


def sign_by_evidence(sums: Mapping[int, float], contrast: Contrast, path: Path, *, of: str) -> Sign:
    """The sign of a density under which wanted structures explain particles better.

    Parameters
    ----------
    sums
        +1 (bright) and −1 → summed evidence in nats.
    contrast
        ``measure``, or what is stated.
    path, of
        The file and whose evidence it is, for messages.

    Raises
    ------
    ConfigError
        When it is to be measured and neither sign is clearly better.
    """
    better = max(sums, key=lambda sign: sums[sign])
    clear = clearly_better(sums)
    words = {1: "particles bright", -1: "particles dark"}
    text = (
        f"{words[better] if clear else 'undecided'}: summed evidence of {of} "
        f"{sums[1]:.0f} nats bright, {sums[-1]:.0f} dark"
    )
    if contrast == "measure":
        if clear:
            return Sign(better, f"measured; {text}")
        raise ConfigError(
            f"the contrast of {path} cannot be measured",
            expected="structures that explain the density with one sign better than the other",
            got=text,
            remedy="check the voxel size, --defocus, --tilt-range and the structures first: wrong "
            "ones make the contrast unclear, and stating it then gives wrong labels. If all are "
            "right, state it: --contrast negative where particles are dark, or positive",
        )
    stated = 1 if contrast == "positive" else -1
    warning = None
    if clear and better != stated:
        warning = (
            f"the contrast was stated to be {contrast}, but the likelihood says otherwise: {text}"
        )
    return Sign(stated, f"stated {contrast}; {text}", warning, clear)


@dataclass(frozen=True, eq=False)
class Found:
    """Where particles may be, with the sign and the noise of the tomogram."""

    tomogram: Tomogram
    positions: Positions
    sign: Sign
    noise: Noise
    level: Level
    n_maxima: int


@dataclass(frozen=True, eq=False)
class Finder:
    """Finds positions in one tomogram, listed or by itself, and the sign of its density."""

    options: ClassifyOptions
    tomogram: Tomogram
    geometry: Geometry
    structures: list[Hypothesis]
    points: MeasuredPoints
    level: Level

    def picked(self) -> Found:
        """Maxima of the matched filters that a wanted structure explains."""
        maxima = self._maxima()
        noise = self._noise(self._occupied(maxima))
        screen = self._screen(noise)
        sign = self._sign(screen, noise, {s: m.coordinates_A for s, m in maxima.items()})
        candidates = maxima[sign.sign]
        signed, level = self._signed(sign.sign)
        kept = self._worth_judging(signed, level, screen, noise, candidates)
        if not len(kept):
            raise InputError(
                f"nothing in {self.options.tomogram} looks like a wanted structure",
                expected="particles that a structure explains better than noise does",
                got=f"{len(candidates)} maxima of the matched filters, none of which it explains",
                remedy="check --defocus, --tilt-range, --contrast and the voxel size",
            )
        positions = picked_positions(
            signed, kept, pixel_size_A=self.options.tilt_series_pixel_size_A
        )
        return Found(signed, positions, sign, noise, level, len(candidates))

    def listed(self) -> Found:
        """The user's list."""
        options = self.options
        assert options.particles is not None
        positions = placed(
            options.particles,
            self.tomogram,
            radii_A=(self.geometry.mean_diameter_A / 2,),
            pixel_size_A=options.pixel_size_A,
            tomograms=options.tomograms_star,
        )
        places = positions.coordinates_A
        # A list may have few of the particles: noise is measured away from the others, too.
        noise = self._noise(np.concatenate([places, self._occupied(self._maxima())]))
        sign = self._sign(self._screen(noise), noise, {1: places, -1: places})
        signed, level = self._signed(sign.sign)
        positions = with_density_notes(
            positions,
            signed,
            radius_A=self.geometry.mean_diameter_A / 2,
            explained=sign.clear,
        )
        return Found(signed, positions, sign, noise, level, 0)

    def _maxima(self) -> dict[int, Candidates]:
        """Of the matched filters, by the sign of the density."""
        return find_candidates(
            self.tomogram,
            {h.name: h.density for h in self.structures},
            self.geometry.radii_A,
            density_voxel_A=self.geometry.voxel_size_A,
            acquisition=self.options.source.acquisition,
            level=self.level,
        )

    @staticmethod
    def _occupied(maxima: Mapping[int, Candidates]) -> NDArray[np.float64]:
        return np.concatenate([m.coordinates_A for m in maxima.values()])

    def _signed(self, sign: int) -> tuple[Tomogram, Level]:
        return replace(self.tomogram, sign=sign), replace(
            self.level, median=sign * self.level.median
        )

    def _screen(self, noise: Noise) -> Screen:
        return Screen(
            self.structures,
            noise,
            shell=min_search_shell(self.geometry.box),
            reach_voxels=self.geometry.box / 16,
        )

    def _cut(self, tomogram: Tomogram, places_A: NDArray[np.float64]) -> Extraction:
        size_A = self.geometry.voxel_size_A
        return extract(tomogram, places_A, box=self.geometry.box, voxel_size_A=size_A)

    def _noise(self, occupied_A: NDArray[np.float64]) -> Noise:
        """From cubes at random places away from all maxima and listed particles.

        Cubes that reach into filling, such as around a tomogram that was turned, hold no noise
        there and are left out.
        """
        places = self._places_between(occupied_A)
        found: list[NDArray[np.float32]] = []
        for first in range(0, len(places), BACKGROUND_CUBES):
            some = places[first : first + BACKGROUND_CUBES]
            if len(found) >= BACKGROUND_CUBES:
                break
            cut = self._cut(self.tomogram, some)
            found += list(cut.volumes[cut.filled <= MAX_FILLED])
        if len(found) < FEWEST_BACKGROUND:
            raise InputError(
                f"the noise of {self.options.tomogram} cannot be measured",
                expected=f"room for at least {FEWEST_BACKGROUND} cubes without constant voxels",
                got=len(found),
                remedy="check that the file is a whole tomogram",
            )
        return Noise.of(CleanCubes(np.stack(found[:BACKGROUND_CUBES]), self.level), self.points)

    def _places_between(self, occupied_A: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 3) in Å: random places far from maxima and particles, at the heights of these.

        How far is stepped down until there is room. The farthest places of all would lie in the
        largest voids, and those at other heights in the vacuum beside the specimen.
        """
        box_A = self.geometry.box * self.geometry.voxel_size_A
        low = np.minimum(box_A / 2, self.tomogram.last_A / 2)
        high = self.tomogram.last_A - low
        if len(occupied_A):
            low[2], high[2] = np.clip(np.percentile(occupied_A[:, 2], HEIGHTS), low[2], high[2])
        rng = np.random.default_rng(self.options.source.seed)
        places = rng.uniform(low, high, (_DRAWN, 3))
        if not len(occupied_A):
            return places
        distance, _ = cKDTree(occupied_A).query(places)
        radius_A = self.geometry.mean_diameter_A / 2
        steps = [radius_A + part * box_A / 2 for part in (1.0, 0.5, 0.0)]
        for least in (*steps, float(np.quantile(distance, 1 - FARTHEST))):
            far: NDArray[np.float64] = places[distance >= least]
            if len(far) >= 2 * BACKGROUND_CUBES:
                break
        return far

    def _sign(
        self, screen: Screen, noise: Noise, places: Mapping[int, NDArray[np.float64]]
    ) -> Sign:
        """The sign under which wanted structures explain the strongest candidates better.

        Where that is not overwhelming, only what they have over balls, membranes and other shapes
        counts: the strongest candidates of the wrong sign are fringes of gold and of membranes.
        """
        cubes = {}
        for sign, some in places.items():
            tomogram, level = self._signed(sign)
            step = max(1, len(some) // _SIGN_SAMPLE) if self.options.particles else 1
            if len(some):
                cut = self._cut(tomogram, some[::step][:_SIGN_SAMPLE])
                if len(cut.kept):
                    cubes[sign] = CleanCubes(cut.volumes, level)
        nats = {
            sign: screen_all(these, screen, noise).evidence(screen.freedom).max(axis=1)
            for sign, these in cubes.items()
        }
        sums = {sign: _summed(nats.get(sign)) for sign in places}
        of = "the strongest candidates"
        if max(sums.values()) < OVERWHELMING * min(sums.values()):
            competing = self._shapes(screen, noise)
            leads = dict.fromkeys(places, 0.0)
            for sign, these in cubes.items():
                found = screen_all(these, competing, noise).evidence(competing.freedom)
                leads[sign] = _summed(nats[sign] - found.max(axis=1).clip(0))
            if clearly_better(leads) or max(sums.values()) < LIKELY * min(sums.values()):
                sums, of = leads, f"{of} over that of shapes"
        return sign_by_evidence(sums, self.options.contrast, self.options.tomogram, of=of)

    def _shapes(self, screen: Screen, noise: Noise) -> Screen:
        """Shapes that are not like a wanted structure at the screen's resolution."""
        others = [
            shape
            for shape in shapes(self.geometry.box, self.geometry.voxel_size_A)
            if screen.similarity(shape).max() <= MAX_SHAPE_CORRELATION
        ]
        return Screen(
            others, noise, shell=screen.shell, reach_voxels=float(screen.shifts.abs().max())
        )

    def _worth_judging(
        self,
        tomogram: Tomogram,
        level: Level,
        screen: Screen,
        noise: Noise,
        candidates: Candidates,
    ) -> Picks:
        """The maxima that a wanted structure explains, moved there, without overlaps."""
        places = candidates.coordinates_A
        kept_rows, parts = [], []
        with progress_bar("look at candidates", len(places), unit="candidates") as advance:
            for first in range(0, len(places), _AT_ONCE):
                some = np.arange(first, min(first + _AT_ONCE, len(places)))
                cut = self._cut(tomogram, places[some])
                if len(cut.kept):
                    kept_rows.append(some[cut.kept])
                    parts.append(screen_all(CleanCubes(cut.volumes, level), screen, noise))
                advance(len(some))
        if not parts:
            return Picks(places[:0], np.zeros(0), LEAST_NATS)
        places, found = places[np.concatenate(kept_rows)], Screened.joined(parts)
        evidence = found.evidence(screen.freedom)
        best = evidence.argmax(axis=1)
        rows = np.arange(len(best))
        top = evidence[rows, best]
        moved = places + found.shifts[rows, best, 0].astype(np.float64) * self.geometry.voxel_size_A
        inside = ((moved >= 0) & (moved <= tomogram.last_A)).all(axis=1)
        radii = np.array([self.geometry.radii_A[name] for name in screen.names])[best]
        order = np.argsort(-top, kind="stable")
        order = order[(top[order] >= LEAST_NATS) & inside[order]]
        kept = order[_not_overlapping(moved[order], radii[order])]
        return Picks(moved[kept], top[kept], LEAST_NATS)


def overlaps(places_A: NDArray[np.float64], radii_A: NDArray[np.float64]) -> dict[int, int]:
    """Which of some places, the best first, overlap with a better one that stays."""
    gone: dict[int, int] = {}
    if not len(places_A):
        return gone
    tree = cKDTree(places_A)
    for i, place in enumerate(places_A):
        for j in sorted(tree.query_ball_point(place, OVERLAP * (radii_A[i] + radii_A.max()))):
            near = np.linalg.norm(places_A[j] - place) < OVERLAP * (radii_A[i] + radii_A[j])
            if j < i and j not in gone and near:
                gone[i] = j
                break
    return gone


def _not_overlapping(
    places_A: NDArray[np.float64], radii_A: NDArray[np.float64]
) -> NDArray[np.int64]:
    gone = overlaps(places_A, radii_A)
    return np.array([i for i in range(len(places_A)) if i not in gone], dtype=np.int64)
