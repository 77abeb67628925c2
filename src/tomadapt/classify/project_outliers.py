"""Which tomograms of a project differ from the others, so that a person looks at them first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from tomadapt.robust import robust_spread

FEWEST = 5
"""Of fewer tomograms nothing is usual."""
FAR = 4.0
"""So many standard deviations, robust ones or those of a count, from the median."""


def outliers(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Tomogram → sentences about what is unusual of it; those without are left out.

    Counts of each class and of what was rejected are compared with the median of all. A sign of
    the contrast or a hand that few others have is told too.

    Parameters
    ----------
    rows
        The ``tomograms`` of :func:`~tomadapt.classify.project_files.joint_summary`.
    """
    found: dict[str, list[str]] = {}
    if len(rows) < FEWEST:
        return found

    def tell(name: str, text: str) -> None:
        found.setdefault(name, []).append(text)

    labels = sorted({label for row in rows.values() for label in row["classes"]})
    counts = {label: [row["classes"].get(label, 0) for row in rows.values()] for label in labels}
    counts["rejected"] = [row["rejected"] for row in rows.values()]
    for label, values in counts.items():
        middle, robust = robust_spread(np.array(values, dtype=float))
        spread = max(robust, float(np.sqrt(middle + 1)))
        for name, value in zip(rows, values, strict=True):
            if abs(value - middle) > FAR * spread:
                tell(name, f"{label}: {value}, where {middle:g} is the median of the tomograms")
    signs = {name: row["contrast_sign"] for name, row in rows.items()}
    usual = _usual(signs)
    for name, sign in signs.items():
        if usual is not None and sign != usual:
            seen, others = ("bright", "dark") if sign > 0 else ("dark", "bright")
            tell(name, f"particles are {seen}, in most other tomograms {others}")
    hands = {name: row["hand_nats"] for name, row in rows.items() if row["hand_nats"]}
    usual = _usual({name: 1 if nats > 0 else -1 for name, nats in hands.items()})
    for name, nats in hands.items():
        if usual is not None and nats * usual < 0:
            tell(name, "particles have the opposite hand of those in most other tomograms")
    return found


def _usual(signs: Mapping[str, int]) -> int | None:
    """The sign that three quarters have; None where there is none."""
    counted = Counter(signs.values()).most_common(1)
    sign, n = counted[0] if counted else (0, 0)
    return sign if n >= 0.75 * max(FEWEST, len(signs)) else None
