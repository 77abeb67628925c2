"""Plausible confusions of lists and tomograms: nothing wrong is taken in silence.

``pytest -s tests/tomograms/test_confusions.py`` prints the table by kind.
"""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from confusions import RADIUS_A, Pair, pairs
from numpy.typing import NDArray

from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import TomadaptError
from tomadapt.tomograms import places
from tomadapt.tomograms.listed import listed_with_sign

DRAWN = 400
RIGHT, REFUSED, TOLD, SILENT = "right", "refused", "told", "SILENTLY WRONG"
NAMED = {
    "unit": r"--pixel-size|pixels? a voxel|fractions|count from",
    "binning": r"--pixel-size|--voxel-size|pixels? a voxel",
    "header": r"--pixel-size|--voxel-size|pixels? a voxel",
    "origin": r"count from",
    "axes": r"order of axes",
    "name": r"several tomograms|its one tomogram|(this|one) tomogram\b|axes, tomogram",
    "thickness": r"another thickness|count from|another size of this tomogram",
}
"""What a message must say for each kind: what to check, or which option states it."""
STANDING = r"does not say in which pixels its coordinates count|fractions of the volume, as"
"""What is told of every list of a format, right ones too, and so names no confusion."""


def outcome(pair: Pair, folder: Path) -> tuple[str, str]:
    """What becomes of a pair with the function that the commands use, and what was said."""
    particles, tomograms = pair.write(folder)
    try:
        _, positions, sign = listed_with_sign(
            particles,
            pair.tomogram,
            contrast=pair.contrast,
            radius_A=1.2 * RADIUS_A,
            pixel_size_A=pair.pixel_size_A,
            tomograms=tomograms,
        )
    except TomadaptError as error:
        return REFUSED, str(error)
    notes = [*positions.notes, *([sign.warning] if sign.warning else [])]
    told = "; ".join(note for note in notes if not re.search(STANDING, note))
    truth = np.full((len(pair.owner), 3), np.nan)
    truth[pair.owner] = pair.truth_A
    off = np.abs(positions.coordinates_A - truth[positions.rows]) / pair.tomogram.voxel_size_A
    missing = pair.owner.sum() - pair.owner[positions.rows].sum()
    if missing == 0 and np.nan_to_num(off, nan=np.inf).max() <= 0.501:
        return RIGHT, told
    return (TOLD if told else SILENT), told


class Remembered:
    """Measures a place once: all lists of a volume are held to the same random places in it."""

    def __init__(self) -> None:
        self.measure = places._around
        self.density: object = None
        self.found: dict[tuple[object, ...], NDArray[np.float64] | None] = {}

    def __call__(
        self, tomogram: Tomogram, place_A: NDArray[np.float64], radius_A: float
    ) -> NDArray[np.float64] | None:
        if tomogram.density is not self.density:
            self.density, self.found = tomogram.density, {}
        key = (tomogram.voxel_size_A, tomogram.sign, place_A.tobytes(), radius_A)
        if key not in self.found:
            self.found[key] = self.measure(tomogram, place_A, radius_A)
        return self.found[key]


def test_nothing_wrong_is_taken_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 400 drawn pairs none is silently wrong, and at most 2 % of the right ones are refused."""
    monkeypatch.setattr(places, "_around", Remembered())
    began = time.monotonic()
    table: dict[str, Counter[str]] = defaultdict(Counter)
    refused, wrong, nameless = [], [], []
    for number, pair in enumerate(pairs(DRAWN)):
        folder = tmp_path / str(number)
        folder.mkdir()
        found, text = outcome(pair, folder)
        table[pair.kind][found] += 1
        kind = pair.kind.partition(":")[0]
        where = f"{number} {pair.kind}, contrast {pair.contrast}: {text}"
        if kind == "right" and found == REFUSED:
            refused.append(where)
        elif found == SILENT or (kind == "right" and found == TOLD):
            wrong.append(where)
        elif kind != "right" and found != RIGHT and not re.search(NAMED[kind], text):
            nameless.append(where)
    _print(table, time.monotonic() - began)
    right = sum((counts for kind, counts in table.items() if kind.startswith("right")), Counter())
    assert right.total() >= 150
    assert DRAWN - right.total() >= 150
    assert not wrong
    assert not nameless
    assert len(refused) <= 0.02 * right.total(), refused


def _print(table: dict[str, Counter[str]], seconds: float) -> None:
    print(f"\n{'kind':38}" + "".join(f"{name:>16}" for name in (RIGHT, TOLD, REFUSED, SILENT)))
    for kind in sorted(table):
        cells = (table[kind][name] for name in (RIGHT, TOLD, REFUSED, SILENT))
        print(f"{kind:38}" + "".join(f"{n or '–':>16}" for n in cells))
    print(f"{sum(c.total() for c in table.values())} pairs in {seconds:.0f} s")
