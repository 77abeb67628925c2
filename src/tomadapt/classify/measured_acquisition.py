"""What the particles say of defocus, size and hand, and where that contradicts what was stated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tomadapt.acquisition import Acquisition, overfocus
from tomadapt.judge.optics import MeasuredOptics
from tomadapt.judge.verdicts import Verdicts

WRONG_DEFOCUS_NATS = WRONG_HAND_NATS = 30.0
WRONG_DEFOCUS_UM = 0.75
"""A measured defocus contradicts the stated one from this difference and evidence on."""
WIDEST_RANGE_UM = 2.0
"""Where defoci that are further apart are as good as each other, none is measured."""
LEAST_HAND, TELLING_HAND_NATS = 0.25, 100.0
"""Particles whose evidence of the hand is less than this part of what it should be are not what
they are called, where it should be so many nats at least."""
WRONG_SCALE_NATS = 30.0
"""Particles of another size than the structures contradict the voxel size from here on."""


def measured_acquisition(
    verdicts: Verdicts, acquisition: Acquisition | None, contrast: str
) -> dict[str, Any]:
    """What the particles say of the acquisition, beside what was stated."""
    optics = verdicts.optics
    return {
        "stated_defocus_um": None if acquisition is None else acquisition.defocus_um,
        "defocus_um": _measured_defocus_um(optics),
        "defocus_range_um": (
            None
            if optics is None or optics.defocus_range_um is None
            else _rounded(optics.defocus_range_um)
        ),
        "defocus_nats": 0.0 if optics is None else round(optics.defocus_nats, 1),
        "b_factor_A2": None if optics is None else optics.b_factor_A2,
        "scale": None if optics is None else optics.scale,
        "scale_nats": 0.0 if optics is None else round(optics.scale_nats, 1),
        "snr": None if optics is None or optics.snr is None else _digits(optics.snr),
        "snr_before_ctf": (
            None
            if optics is None or optics.snr_before_ctf is None
            else _digits(optics.snr_before_ctf)
        ),
        "particles": 0 if optics is None else optics.particles,
        "hand_nats": round(hand_nats(verdicts), 1),
        "contrast": contrast,
    }


def _measured_defocus_um(optics: MeasuredOptics | None) -> float | None:
    """None too where so many defoci are as good that none is measured."""
    if optics is None or optics.defocus_um is None or optics.defocus_range_um is None:
        return None
    lowest, highest = optics.defocus_range_um
    return None if highest - lowest > WIDEST_RANGE_UM else round(optics.defocus_um, 3)


def _rounded(ends: tuple[float, float]) -> tuple[float, float]:
    return round(ends[0], 3), round(ends[1], 3)


def defocus_text(measured: Mapping[str, Any]) -> str:
    """The measured defocus of :func:`measured_acquisition`, for people."""
    if measured["defocus_range_um"] is None:
        return "not measured"
    nats = f"{measured['defocus_nats']:.0f} nats better than stated"
    lowest, highest = measured["defocus_range_um"]
    if measured["defocus_um"] is None:
        return f"not measured: from {lowest:g} to {highest:g} µm no value is clearly worse"
    return f"{measured['defocus_um']:g} µm ({nats}; {lowest:g} to {highest:g} µm are possible)"


def _digits(value: float) -> float:
    """Three significant digits."""
    return float(f"{value:.3g}")


def acquisition_warnings(
    verdicts: Verdicts, acquisition: Acquisition | None, voxel_size_A: float
) -> list[str]:
    """Where the particles contradict what was stated, with the evidence."""
    found = []
    optics = verdicts.optics
    turned = None if acquisition is None else overfocus(acquisition.defocus_um)
    if acquisition is not None and turned:
        found.append(
            f"{turned}; if {-acquisition.defocus_um:g} was meant, the measured contrast is the "
            "opposite of the true one, and labels are lost and wrong"
        )
    if optics is not None and optics.scale_nats > WRONG_SCALE_NATS:
        smaller = "smaller" if optics.scale > 1 else "larger"
        found.append(
            f"the surest {optics.particles} particles fit the structures better by "
            f"{optics.scale_nats:.0f} nats if they are {optics.scale:.2f} times as large, and "
            f"may differ more: either voxels are {smaller} than the {voxel_size_A:g} Å that "
            "is stated or in the file, or the structures' maps have another voxel size than their "
            "files say. Labels rest on both: many may be wrong or lost, and false-discovery rates "
            "do not know of it. Mend it and classify again"
        )
    # An overfocus that is none is too far from the true defocus for the search.
    known = None if turned or optics is None else optics.defocus_range_um
    if optics is not None and acquisition is not None and known is not None:
        lowest, highest = _rounded(known)
        apart = max(lowest - acquisition.defocus_um, acquisition.defocus_um - highest)
        better = f"{lowest:g}" if lowest == highest else f"{lowest:g} to {highest:g}"
        if apart >= WRONG_DEFOCUS_UM and optics.defocus_nats > WRONG_DEFOCUS_NATS:
            found.append(
                f"the defocus was stated to be {acquisition.defocus_um:g} µm, but the surest "
                f"{optics.particles} particles fit {better} µm better by "
                f"{optics.defocus_nats:.0f} nats; mend it and classify again: labels mostly hold "
                "where it is wrong by less than 3 µm, and poses and maps suffer"
            )
    hand, expected = hand_nats(verdicts), expected_hand_nats(verdicts)
    if expected > TELLING_HAND_NATS and abs(hand) < LEAST_HAND * expected:
        found.append(
            f"the labelled particles fit the structures' mirror images nearly as well ({hand:.0f} "
            f"nats less, where particles of these structures would have {expected:.0f}): LABELS "
            "ARE PROBABLY WRONG. Check the voxel size, the contrast and the structures"
        )
    if verdicts.hand < 0 or hand < -WRONG_HAND_NATS:
        found.append(
            "the particles fit the mirror images of the structures better by "
            f"{-hand:.0f} nats: the hand of the data, or the sign of the tilt angles, is inverted"
            + (" (labels are by the mirror images)" if verdicts.hand < 0 else "")
            + "; maps of these particles would be mirror images too, unless the tilt angles' sign "
            "is turned before they are reconstructed"
        )
    if optics is None:
        found.append(
            "fewer than eight particles are clearly a named structure: nothing could be measured "
            "of the optics, and probabilities rest on few particles"
        )
    return found


def expected_hand_nats(verdicts: Verdicts) -> float:
    """The least that :func:`hand_nats` should be, were the labelled particles these structures.

    A particle with the evidence E of its structure has E(1 − ρ²) more than of a template that
    correlates with it by ρ. Here ρ is that of the mirror image at low resolution, where it is
    largest.
    """
    n, similar = len(verdicts.wanted), np.array(verdicts.mirror_similarity)
    rows = np.flatnonzero(verdicts.label >= 0)
    labels = verdicts.label[rows]
    compared = np.isfinite(verdicts.evidence[rows, n + labels])
    own = verdicts.evidence[rows, labels]
    return float((own * (1 - similar[labels] ** 2))[compared].sum()) if len(similar) else 0.0


def hand_nats(verdicts: Verdicts) -> float:
    """Evidence of the structures' hand over that of their mirror images, summed over particles."""
    n = len(verdicts.wanted)
    rows = np.flatnonzero(verdicts.label >= 0)
    own = verdicts.evidence[rows, verdicts.label[rows]]
    mirror = verdicts.evidence[rows, n + verdicts.label[rows]]
    gaps = (own - mirror)[np.isfinite(mirror)]
    return verdicts.hand * float(gaps.sum())
