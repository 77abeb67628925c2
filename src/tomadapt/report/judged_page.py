"""One self-contained HTML file that shows a classification by likelihood, its doubts first."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tomadapt.report.judged_content import Example, JudgedContent
from tomadapt.report.judged_figures import classes_shown, marked_slice, score_curves, tile_uri
from tomadapt.report.page import page_template, timed
from tomadapt.report.style import class_style, png_uri, svg_uri
from tomadapt.runs.atomic import write_text

CAVEAT = (
    "Scores are posterior probabilities under the models compared; they were checked on simulated "
    "and third-party data only, not on these data."
)
NONE = "–"
KINDS = {
    "null": "noise explains them as well as any structure does",
    "other": "a protein that was not named explains them better",
    "unknown": "a wanted structure explains them only in part, or resembles them by chance",
    "gold": "gold, or something as strong, is in their middle",
    "sphere": "a featureless ball or ellipsoid explains them better",
    "shell": "a hollow ball explains them better",
    "membrane": "a bilayer explains them better",
    "filament": "a rod or a tube explains them better",
    "edge": "the edge of something larger explains them better",
    "no cube": "outside of the tomogram, or where it holds nothing; rejected.star says which",
    "above the rate": "labelled, but at a false-discovery rate above the one that was asked for",
}
"""What each kind of rejected particle means; other kinds are named without words."""
_GLYPHS = {"o": "○", "^": "△", "s": "□", "D": "◇"}


class Key(NamedTuple):
    """How a class is drawn."""

    name: str
    colour: str
    glyph: str


class Tile(NamedTuple):
    """A picture of one particle and its score in words."""

    image: str
    score: str


def write_judged_report(content: JudgedContent, path: Path) -> None:
    """Write the report as one HTML file that needs neither network nor JavaScript.

    Parameters
    ----------
    content
        What to show.
    path
        Where to; a file there is replaced.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    write_text(path, render_judged(content))


def render_judged(content: JudgedContent) -> str:
    """Give the page as text; the same text for the same content."""
    names = classes_shown(content)
    styles = [class_style(index) for index in range(len(names))]
    keys = [Key(n, colour, _GLYPHS[m]) for n, (colour, m) in zip(names, styles, strict=True)]
    marked = {marker.label for one in content.slices for marker in one.markers}
    curves = any(len(a) for a in (*content.scores.values(), *content.fdr.values()))
    return page_template("judged.html.j2").render(
        content=content,
        caveat=CAVEAT,
        count_rows=[(key, *count_row(content, key.name)) for key in keys],
        together=together(content),
        rejected=[(kind, KINDS.get(kind, ""), f"{n:,}") for kind, n in content.rejected.items()],
        n_rejected=f"{sum(content.rejected.values()):,}",
        legend=[key for key in keys if key.name in marked],
        slices=[(one, png_uri(marked_slice(one, names))) for one in content.slices],
        examples=[
            (
                key,
                _tiles(content.surest.get(key.name, ())),
                _tiles(content.least_sure.get(key.name, ())),
            )
            for key in keys
        ],
        junk=[
            (kind, f"{content.rejected[kind]:,}" if kind in content.rejected else "", _tiles(them))
            for kind, them in content.junk.items()
            if them
        ],
        curves=svg_uri(score_curves(content)) if curves else None,
        **timed(content.seconds),
        provenance=[(name, _as_text(value)) for name, value in content.provenance.items()],
    )


def count_row(content: JudgedContent, name: str) -> tuple[str, str, str, str]:
    """Number of particles, expected false-discovery rate, median evidence and lead of a class."""
    return (
        f"{content.counts.get(name, 0):,}",
        _expected_wrong(content.scores.get(name)),
        _median_nats(content.evidence.get(name)),
        _lead(content.leads.get(name)),
    )


def together(content: JudgedContent) -> tuple[str, str, str, str]:
    """The same of all labelled particles; leads differ between classes."""
    return (
        f"{sum(content.counts.values()):,}",
        _expected_wrong(_joined(content.scores.values())),
        _median_nats(_joined(content.evidence.values())),
        NONE,
    )


def _joined(arrays: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros(0), *arrays])


def _expected_wrong(scores: NDArray[np.float64] | None) -> str:
    """Mean of 1 − score; what rounds to nothing is not called nothing."""
    if scores is None or not len(scores):
        return NONE
    rate = float(np.mean(1 - scores))
    return "< 0.1 %" if rate < 0.0005 else f"{100 * rate:.1f} %"


def _lead(lead: tuple[float, float | None] | None) -> str:
    """Measured and expected lead of a class."""
    if lead is None:
        return NONE
    expected, measured = lead
    return f"{NONE if measured is None else f'{100 * measured:.0f} %'} ({100 * expected:.0f} %)"


def _median_nats(evidence: NDArray[np.float64] | None) -> str:
    if evidence is None or not len(evidence):
        return NONE
    return f"{np.median(evidence):.0f}".replace("-", "−")


def _tiles(examples: Sequence[Example]) -> list[Tile]:
    return [Tile(tile_uri(one.image), score_text(one.score)) for one in examples]


def score_text(score: float) -> str:
    """Write a probability with three decimals; what rounds to certainty is not called certain."""
    return "> 0.999" if score >= 0.9995 else f"{score:.3f}"


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
