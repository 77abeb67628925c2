"""Tables of tilts: the same series in two files, and rows that are matched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomadapt.project.tilts import (
    TiltTable,
    aligned,
    angle_fault,
    mean_astigmatism,
    principal_defoci,
)

series = st.tuples(st.integers(-60, -30), st.integers(31, 60), st.integers(1, 4)).map(
    lambda ends: np.arange(*ends, dtype=float)
)


@given(series, st.randoms(use_true_random=False), st.floats(-20, 20))
def test_the_same_series_in_any_order_and_with_any_pretilt_is_no_fault(
    angles: np.ndarray, random: object, offset: float
) -> None:
    shuffled = angles.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    if abs(angles[0] + offset + angles[-1]) < 5:  # then it may be the mirrored one as well
        offset = 0.0
    one, other = TiltTable(angles + offset, refined=True), TiltTable(shuffled)
    assert angle_fault(one, other) == ""


@given(series, st.data())
def test_one_tilt_that_differs_is_named(angles: np.ndarray, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(angles) - 1))
    other = angles.copy()
    other[row] += 0.3
    assert "{first}" in angle_fault(TiltTable(angles), TiltTable(other))


@given(series, st.randoms(use_true_random=False), st.data())
def test_rows_are_matched_whatever_their_order_and_however_many_more(
    angles: np.ndarray, random: object, data: st.DataObject
) -> None:
    rows = list(range(len(angles)))
    random.shuffle(rows)  # type: ignore[attr-defined]
    kept = data.draw(st.lists(st.sampled_from(sorted(rows)), min_size=1, unique=True).map(sorted))
    placed = aligned(10 * angles[rows], angles[rows], angles[kept])
    assert placed is not None
    assert placed.tolist() == (10 * angles[kept]).tolist()


def test_rows_that_are_too_few_or_of_other_angles_are_not_matched() -> None:
    angles = np.array([-3.0, 0, 3])
    assert aligned(angles[:2], angles[:2], angles) is None
    assert aligned(np.arange(4.0), None, angles) is None
    assert aligned(np.arange(4.0), np.array([-9.0, 0, 3, 6]), angles) is None


@given(st.floats(0, 5), st.floats(0, 5), st.floats(-180, 180))
def test_the_larger_defocus_has_the_direction(u: float, v: float, angle: float) -> None:
    mean, half, direction = principal_defoci(np.array([u]), np.array([v]), np.array([angle]))
    swapped = principal_defoci(np.array([v]), np.array([u]), np.array([angle + 90]))
    assert mean[0] == pytest.approx((u + v) / 2)
    assert half[0] >= 0
    assert half[0] == pytest.approx(swapped[1][0])
    turn = abs(direction[0] - swapped[2][0]) % 180
    assert abs(u - v) < 1e-9 or min(turn, 180 - turn) < 1e-6


def test_astigmatisms_at_right_angles_cancel() -> None:
    half, _ = mean_astigmatism(np.array([0.2, 0.2]), np.array([20.0, 110.0]))
    assert half == pytest.approx(0)
    assert mean_astigmatism(np.array([0.2, 0.2]), np.array([175.0, 5.0]))[1] in (0, 180)
