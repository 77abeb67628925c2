"""Tomograms that differ from the others are told."""

from __future__ import annotations

from typing import Any

import pytest

from tomadapt.classify.project_outliers import outliers


def rows(n: int = 8, **changed: Any) -> dict[str, dict[str, Any]]:
    """Tomograms with about twenty particles; the last one is changed."""
    made = {
        f"TS_{i}": {
            "classes": {"tric": 18 + i % 4},
            "rejected": 5 + i % 3,
            "contrast_sign": -1,
            "hand_nats": 100.0,
        }
        for i in range(n)
    }
    made[f"TS_{n - 1}"].update(changed)
    return made


def test_usual_tomograms_are_not_told() -> None:
    assert outliers(rows()) == {}


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"classes": {}}, "tric: 0, where 19"),
        ({"classes": {"tric": 60}}, "tric: 60"),
        ({"rejected": 80}, "rejected: 80, where 6"),
        ({"contrast_sign": 1}, "particles are bright, in most other tomograms dark"),
        ({"hand_nats": -50.0}, "the opposite hand"),
    ],
)
def test_what_differs_is_told_of_that_one(changed: dict[str, Any], text: str) -> None:
    found = outliers(rows(**changed))
    assert list(found) == ["TS_7"]
    (told,) = found["TS_7"]
    assert text in told


def test_counts_scatter_by_chance() -> None:
    """Four against nine is no outlier: a count has its own square root as scatter."""
    few = rows(classes={"tric": 9})
    for row in few.values():
        row["classes"] = {"tric": min(row["classes"]["tric"], 9) - 5}
    few["TS_7"]["classes"] = {"tric": 9}
    assert outliers(few) == {}


def test_of_few_tomograms_or_half_and_half_nothing_is_usual() -> None:
    assert outliers(rows(4, rejected=80)) == {}
    mixed = rows()
    for name in list(mixed)[:4]:
        mixed[name]["contrast_sign"] = 1
    assert outliers(mixed) == {}
