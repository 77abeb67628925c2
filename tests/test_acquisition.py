"""What an acquisition accepts."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from tomadapt.acquisition import (
    BATCH_A,
    BATCH_B,
    K2_COUNTING_MTF,
    NAMED_ACQUISITIONS,
    PSEUDO_EXPERIMENTAL,
    Acquisition,
    tilt_range,
)


def test_named_acquisitions_are_those_of_the_paper() -> None:
    assert (BATCH_A.spherical_aberration_mm, BATCH_A.defocus_um) == (2.0, 5.0)
    assert (BATCH_B.spherical_aberration_mm, BATCH_B.defocus_um) == (2.2, 10.0)
    for acquisition in (BATCH_A, BATCH_B):
        assert NAMED_ACQUISITIONS[acquisition.name] is acquisition
        assert acquisition.voltage_kv == 300
        assert acquisition.mtf == "sinc"
        assert acquisition.tilt_angles_deg == tuple(range(-60, 61, 3))


def test_tilt_range_includes_an_end_that_the_step_meets() -> None:
    assert tilt_range(-60, 60, 3)[-1] == 60
    assert len(tilt_range(-60, 60, 3)) == 41
    assert tilt_range(0, 1, 0.1)[-1] == pytest.approx(1)  # 10 × 0.1 in floating point
    assert tilt_range(-50, 70, 7)[-1] == pytest.approx(69)


@pytest.mark.parametrize(
    "numbers",
    [
        (60, -60, 3),
        (5, 5, 1),
        (-60, 60, 0),
        (-60, 60, -3),
        (-60, math.inf, 3),
        (-math.inf, 60, 3),
        (-60, 60, math.nan),
        (-60, 60, math.inf),
    ],
)
def test_tilt_range_refuses_nonsense(numbers: tuple[float, float, float]) -> None:
    # Infinity once escaped as an OverflowError, which no caller expects.
    with pytest.raises(ValueError, match="tilt range"):
        tilt_range(*numbers)


def test_a_table_of_tilts_is_a_range() -> None:
    table: Any = {"first": -40, "last": 50, "step": 2}
    assert Acquisition(defocus_um=3, tilt_angles_deg=table).tilt_angles_deg == tilt_range(
        -40, 50, 2
    )


@pytest.mark.parametrize(
    ("tilts", "message"),
    [
        ([60, 0, -60], "increase strictly"),
        ([-60, 0, 0, 60], "increase strictly"),
        ([], "at least 3"),
        ([10], "at least 3"),
        ([-10, 10], "at least 3"),
        ([-90, 0, 90], "less than 180"),
        ([-100, 0, 10], "between -90 and 90"),
        ([-60, 0, math.nan], "tilt_angles_deg"),
        ({"first": -60, "last": 60}, "first, last, step"),
        ({"first": -60, "last": 60, "increment": 3}, "first, last, step"),
        ({}, "none"),
        ({"first": 60, "last": -60, "step": 3}, "upwards"),
        ({"first": [1], "last": 60, "step": 3}, "tilt_angles_deg"),
        ({"first": "low", "last": 60, "step": 3}, "tilt_angles_deg"),
        ({"first": -60, "last": math.inf, "step": 3}, "tilt range"),
        (7, "tilt_angles_deg"),
    ],
)
def test_bad_tilts(tilts: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Acquisition(defocus_um=5, tilt_angles_deg=tilts)


@pytest.mark.parametrize(
    "field",
    [
        {"defocus_um": math.nan},
        {"defocus_um": 50},
        {"voltage_kv": 0},
        {"spherical_aberration_mm": -1},
        {"amplitude_contrast": 1.1},
        {"noise_before_ctf": -0.1},
        {"noise_before_ctf": 1.1},
        {"mtf": "gaussian"},
        {"mtf": [(0.0, 1.0)]},
        {"mtf": [(0.5, 1.0), (0.0, 0.5)]},
        {"mtf": [(0.0, 1.0), (0.0, 0.5)]},
        {"mtf": [(0.0, math.nan), (1.0, 0.5)]},
        {"astigmatism_angle_deg": math.nan},
        {"astigmatism_angle_deg": math.inf},
        {"defocus": 5},
        {"b_factor_A2": -1},
        {"b_factor_A2": 5001},
        {"b_factor_A2": math.nan},
        {"exposure_per_tilt_e_per_A2": -0.1},
        {"exposure_per_tilt_e_per_A2": math.inf},
        {"thickness_in_mean_free_paths": -0.1},
        {"thickness_in_mean_free_paths": 4},
        {"exposure_order": "bidirectional"},
    ],
)
def test_bad_fields(field: dict[str, Any]) -> None:
    # An angle or a transfer of NaN was once accepted and made every image NaN.
    with pytest.raises(ValidationError):
        Acquisition.model_validate({"defocus_um": 5} | field)


def test_defocus_is_needed_and_fields_cannot_change() -> None:
    with pytest.raises(ValidationError, match="defocus_um"):
        Acquisition.model_validate({})
    with pytest.raises(ValidationError, match="frozen"):
        BATCH_A.defocus_um = 3.0


def test_round_trip_through_json() -> None:
    mine = Acquisition(defocus_um=4, mtf=((0.0, 1.0), (1.0, 0.3)), tilt_angles_deg=(-20, 0, 31.5))
    assert Acquisition.model_validate_json(mine.model_dump_json()) == mine


@pytest.mark.parametrize("order", [(0, 30), (0, 30, 30), (0, 30, -31), (0, 30, -30, 60), ()])
def test_an_order_holds_each_tilt_once(order: tuple[float, ...]) -> None:
    tilts = (-30, 0, 30)
    with pytest.raises(ValidationError, match="each of the 3 tilt angles once"):
        Acquisition(defocus_um=5, tilt_angles_deg=tilts, exposure_order=order)
    mine = Acquisition(defocus_um=5, tilt_angles_deg=tilts, exposure_order=(0, 30.0004, -30))
    assert mine.exposure_order == (0, 30.0004, -30)


def test_a_slab_has_no_path_at_90_degrees() -> None:
    steep: Any = {"defocus_um": 5, "tilt_angles_deg": (-85, 0, 60)}
    Acquisition(**steep)
    with pytest.raises(ValidationError, match="within ±80 degrees; got 85"):
        Acquisition(**steep, thickness_in_mean_free_paths=0.1)


def test_a_named_mtf_is_its_pairs() -> None:
    named = Acquisition.model_validate({"defocus_um": 5, "mtf": "k2_counting"})
    assert named.mtf == K2_COUNTING_MTF
    fractions, transfer = zip(*K2_COUNTING_MTF, strict=True)
    assert (fractions[0], fractions[-1], transfer[0]) == (0, 1, 1)
    assert list(transfer) == sorted(transfer, reverse=True)
    assert 0.5 <= transfer[-1] <= 0.6


def test_later_fields_are_dumped_where_they_say_something() -> None:
    assert not {"b_factor_A2", "exposure_order"} & set(BATCH_A.model_dump())
    dumped = PSEUDO_EXPERIMENTAL.model_dump(mode="json")
    assert dumped["b_factor_A2"] == 800
    assert dumped["thickness_in_mean_free_paths"] == 0.5
    assert "exposure_order" not in dumped
    assert "name" not in PSEUDO_EXPERIMENTAL.model_dump(exclude={"name"})
    for acquisition in NAMED_ACQUISITIONS.values():
        assert Acquisition.model_validate_json(acquisition.model_dump_json()) == acquisition
