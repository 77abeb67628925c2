"""The sign of a tomogram's density, measured: which of bright and dark blobs are the particles.

Programs differ in the sign that they write, so it is measured, never inferred from a name.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import ConfigError
from tomadapt.inputs.particles import Contrast
from tomadapt.tomograms.picking import PickingConfig, pick
from tomadapt.tomograms.places import (
    CORE,
    density_at,
    disjoint,
    displacement,
    random_density,
    spread,
    standing_out,
)

DECISIVE = 3.0
"""So many times as much must speak for one sign as for the other. White noise has too
few blobs to decide; planted balls and macromolecules are far beyond it, see the tests."""
DECISIVE_ERRORS = 4.0
"""Standard errors from which on the density at given positions decides. Of 2000 random lists of 30
places among packed balls none reached them; of two or three places one list in a hundred does."""

_FEWEST_BLOBS = 5
_HIGHEST_SCORE = 15.0  # beyond this a blob is gold or ice, and counts no more than a particle
_BLOCK = 192


@dataclass(frozen=True)
class ContrastMeasure:
    """What was measured of the sign of a density.

    Attributes
    ----------
    sign
        +1: particles brighter than their surroundings, −1: darker, 0: undecided.
    strength
        How clearly: for blobs the ratio of what speaks for either sign (above 1: bright), for
        positions the standard errors of the centres' excess.
    text
        One line for people.
    at_positions
        Whether it was measured at given positions, which may be wrong themselves.
    doubts
        What the density says against these positions, a sentence each.
    moved
        That of these which says that particles are beside them; empty where they are not.
    """

    sign: int
    strength: float
    text: str
    at_positions: bool = False
    doubts: tuple[str, ...] = ()
    moved: str = ""


def blob_contrast(tomogram: Tomogram, *, sigma_A: float = 50.0) -> ContrastMeasure:
    """Compare bright and dark blobs of a size, where no positions are known.

    The difference of Gaussians answers to the particles with one sign, and with the other to noise
    and to the fringes around particles, which are weaker. Each blob counts with the square of its
    score; a few very strong ones (gold) count no more than particles.

    Parameters
    ----------
    tomogram
        Of large ones up to eight blocks of 192³ voxels are read, constant ones (filling) left out.
        Its own sign is honoured: +1 means that the sign it has now is right.
    sigma_A
        In Å, see :class:`~tomadapt.tomograms.picking.PickingConfig`.

    Raises
    ------
    ConfigError, InputError
        As for :func:`~tomadapt.tomograms.picking.pick`.
    """
    evidence = {1: 0.0, -1: 0.0}
    counts = {1: 0, -1: 0}
    config = PickingConfig(sigma_A=sigma_A)
    for block in _blocks(tomogram, margin=int(3 * sigma_A / tomogram.voxel_size_A)):
        for sign in (1, -1):
            scores = pick(replace(block, sign=block.sign * sign), config).scores
            evidence[sign] += float((np.minimum(scores, _HIGHEST_SCORE) ** 2).sum())
            counts[sign] += len(scores)
    ratio = (evidence[1] + 1) / (evidence[-1] + 1)
    enough = max(counts.values()) >= _FEWEST_BLOBS
    sign = 1 if enough and ratio >= DECISIVE else -1 if enough and ratio <= 1 / DECISIVE else 0
    return ContrastMeasure(
        sign,
        ratio,
        f"{_WORDS[sign]}: {counts[1]} bright and {counts[-1]} dark blobs of σ = {sigma_A:g} Å, "
        f"evidence {ratio:.2g} : 1 for bright",
    )


_WORDS = {1: "particles bright", -1: "particles dark", 0: "undecided"}


def contrast_at(
    tomogram: Tomogram, coordinates_A: NDArray[np.floating], *, radius_A: float
) -> ContrastMeasure:
    """Compare the density at given positions with what surrounds them.

    The mean over a ball of 0.8 of the particle's radius less that over a shell from one to one and
    a half radii, in standard errors over up to 500 particles whose balls do not overlap; how much
    it scatters is measured at random places. A smaller ball would lie in the cavity of hollow
    particles, such as apoferritin and TRiC, and call them dark.

    Parameters
    ----------
    tomogram
        Its own sign is honoured.
    coordinates_A
        (n, 3), x, y, z in Å.
    radius_A
        The particles' radius in Å.
    """
    apart = disjoint(coordinates_A, 2 * CORE * radius_A)
    found = density_at(tomogram, coordinates_A[spread(apart)], radius_A=radius_A)
    if len(found) < 2:
        overlap = " that do not overlap" if len(apart) < len(coordinates_A) else ""
        text = f"undecided: {len(found)} particles{overlap}"
        return ContrastMeasure(0, 0.0, text, at_positions=True)
    random = random_density(tomogram, coordinates_A, radius_A=radius_A)
    shown = standing_out(found, *random)
    sign = 0 if abs(shown.errors) < DECISIVE_ERRORS else 1 if shown.errors > 0 else -1
    moved = displacement(found, tomogram, radius_A=radius_A)
    return ContrastMeasure(
        sign,
        shown.errors,
        f"{_WORDS[sign]}: centres of {len(found)} particles {shown.errors:+.1f} standard errors "
        "against their surroundings",
        at_positions=True,
        doubts=tuple(text for text in (moved, shown.doubt) if text),
        moved=moved or "",
    )


@dataclass(frozen=True)
class Sign:
    """How the sign of a tomogram's density was decided.

    Attributes
    ----------
    sign
        What the file's density is multiplied with.
    text
        One line for people.
    warning
        Where what was stated and what was measured disagree.
    clear
        Whether the density showed a sign, stated or not.
    """

    sign: int
    text: str
    warning: str | None = None
    clear: bool = True


def decide_sign(
    contrast: Contrast, measured: ContrastMeasure, path: Path, *, notes: Sequence[str] = ()
) -> Sign:
    """The stated sign, or the measured one.

    Parameters
    ----------
    contrast
        ``measure``, or what is stated.
    measured
        Of the file as it is.
    path
        The file, for messages.
    notes
        What else speaks against the positions, for messages.

    Raises
    ------
    ConfigError
        When it is to be measured and the measurement is undecided.
    """
    if contrast == "measure":
        if measured.sign == 0 and measured.at_positions:
            raise ConfigError(
                f"the particles in {path} do not differ from their surroundings",
                expected="particles that are clearly brighter or darker than what is around them",
                got="; ".join((measured.text, *notes, *measured.doubts)),
                remedy="check that these are this tomogram's positions (--pixel-size, where they "
                "count from, order of axes); where they are right and faint, state --contrast "
                "negative or positive",
            )
        if measured.sign == 0:
            raise ConfigError(
                f"the contrast of {path} cannot be measured",
                expected="particles that are clearly brighter or darker than their surroundings",
                got=measured.text,
                remedy="state it: --contrast negative where particles are dark, or positive; or "
                "give --sigma-nm, their diameter / 3.5, where they are of another size",
            )
        return Sign(measured.sign, f"measured; {measured.text}")
    stated = 1 if contrast == "positive" else -1
    warning = None
    if measured.sign == -stated:
        warning = (
            f"the contrast was stated to be {contrast}, but it looks otherwise: {measured.text}"
        )
    elif measured.sign == 0 and measured.at_positions:
        warning = unlike_particles(measured)
    return Sign(stated, f"stated {contrast}; {measured.text}", warning, measured.sign != 0)


def unlike_particles(measured: ContrastMeasure) -> str:
    """What is told of listed places at which the density is as it is anywhere."""
    return (
        "the listed particles do not differ from their surroundings: are these the right "
        "positions (--pixel-size, where they count from, order of axes, tomogram)? "
        f"{measured.text}"
    )


def _blocks(tomogram: Tomogram, *, margin: int) -> list[Tomogram]:
    """The tomogram itself, or blocks spread over a large one."""
    if max(tomogram.shape) <= _BLOCK + margin:
        return [tomogram]
    starts = [
        np.unique(np.linspace(0, max(n - _BLOCK, 0), 2 if n > _BLOCK else 1).astype(int)).tolist()
        for n in tomogram.shape
    ]
    blocks = []
    for low in list(itertools.product(*starts)):
        high = [min(a + _BLOCK, n) for a, n in zip(low, tomogram.shape, strict=True)]
        density = tomogram.block(low, high)
        if density.min() != density.max():  # NaN differs from itself, and is told of later
            blocks.append(Tomogram(density, tomogram.voxel_size_A, 1, tomogram.name))
    return blocks
