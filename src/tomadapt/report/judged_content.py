"""What the report of a classification by likelihood shows, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Marker:
    """A labelled particle on a slice of the tomogram: column and row in pixels, its class."""

    x: float
    y: float
    label: str


@dataclass(frozen=True, eq=False)
class Slice:
    """An x–y slice of a tomogram with the labelled particles that it cuts.

    Attributes
    ----------
    z
        Its index.
    image
        (ny, nx), density positive.
    markers
        Particles whose centres are within half a radius of the slice.
    """

    z: int
    image: NDArray[np.float32]
    markers: tuple[Marker, ...]


@dataclass(frozen=True, eq=False)
class Example:
    """One particle's central x–y slice (d, d), with its score."""

    image: NDArray[np.float32]
    score: float


@dataclass(frozen=True, eq=False)
class JudgedContent:
    """Everything in such a report.

    Attributes
    ----------
    title
        Heading of the page.
    warnings
        What should be doubted; they come first.
    counts
        Wanted structure → how many particles have its label.
    rejected
        Kind (``null``, ``other``, ``unknown``, ``membrane``, …) → how many are no wanted structure.
    duplicates
        How many labelled ones were merged into a better one.
    acquisition
        Quantity → (stated, measured), as text.
    recording
        Further rows on the file and the particles.
    assumed
        Decision → the sentence that says what it rests on.
    scores, fdr
        Wanted structure → (n,) scores of its particles, falling, and the false-discovery rate of
        the set of all that are as sure or surer.
    evidence
        Wanted structure → (n,) nats of its particles against noise.
    leads
        Wanted structure → how far it should lead the next best explanation of its particles, over
        its evidence, and the median of how far it does, if it has particles.
    surest, least_sure
        Wanted structure → up to two particles each.
    junk
        Kind → up to six particles of it.
    slices
        Of the tomogram; empty for cubes.
    seconds
        Wall time of each stage.
    provenance
        Versions and configuration, printed as they are.
    """

    title: str
    warnings: list[str]
    counts: dict[str, int]
    rejected: dict[str, int]
    duplicates: int
    acquisition: dict[str, tuple[str, str]]
    recording: dict[str, str]
    scores: dict[str, NDArray[np.float64]]
    fdr: dict[str, NDArray[np.float64]]
    evidence: dict[str, NDArray[np.float64]]
    surest: dict[str, list[Example]]
    least_sure: dict[str, list[Example]]
    junk: dict[str, list[Example]]
    leads: dict[str, tuple[float, float | None]] = field(default_factory=dict)
    slices: list[Slice] = field(default_factory=list)
    assumed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
