"""What voxels tell: a sample's values and filling, the power spectrum, and the missing wedge."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomadapt.data.tomogram import Tomogram
from tomadapt.doctor.findings import Finding, note, ok, problem, warning, words_of
from tomadapt.errors import TomadaptError
from tomadapt.inputs.filling import FILLED, constant_cells
from tomadapt.tomograms.spectrum import MeanPower
from tomadapt.tomograms.wedge import CLEAR, WedgeEstimate, estimate_wedge, orientation_fault

_TILE, _TILES = 32, 4
_SHELLS = 20
_LOW, _HIGH = (0.1, 0.25), (0.75, 1.0)
_FALLEN, _EMPTY = 1e-2, 1e-4
_FLAT = 1.1
_BLOB_SIGMA_A = 50.0


@dataclass(frozen=True)
class Sample:
    """Some of the voxels of a file.

    Attributes
    ----------
    voxels
        How many were read.
    nan, infinite
        How many of them are no numbers.
    low, high, mean, std
        Of the others; NaN where there are none.
    constant
        The fraction of cells of 4³ voxels whose voxels are all the same. In noise there are none,
        whatever its type, so they were filled in.
    filling
        The commonest value of these cells, None where there are none.
    """

    voxels: int
    nan: int
    infinite: int
    low: float
    high: float
    mean: float
    std: float
    constant: float
    filling: float | None


def spread_blocks(tomogram: Tomogram) -> Iterator[NDArray[np.float32]]:
    """Up to 64 blocks of up to 32³ voxels that do not overlap, from end to end along each axis.

    A tomogram of up to 128 voxels along each axis is read whole.
    """
    starts = []
    for n in tomogram.shape:
        tiles = -(-n // _TILE)
        chosen = np.unique(np.linspace(0, tiles - 1, min(_TILES, tiles)).round().astype(int))
        starts.append((chosen * _TILE).tolist())
    for low in itertools.product(*starts):
        high = [min(a + _TILE, n) for a, n in zip(low, tomogram.shape, strict=True)]
        yield tomogram.block(low, high)


def measured(blocks: Iterable[NDArray[np.float32]]) -> Sample:
    """The values of blocks, which are held one at a time."""
    voxels = nan = infinite = cells = 0
    low, high, total, squares = math.inf, -math.inf, 0.0, 0.0
    fillings: Counter[float] = Counter()
    for block in blocks:
        voxels += block.size
        nan += int(np.isnan(block).sum())
        infinite += int(np.isinf(block).sum())
        values = block[np.isfinite(block)].astype(np.float64)
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            total += float(values.sum())
            squares += float(np.vdot(values, values))
        count, constant = constant_cells(block)
        cells += count
        fillings.update(constant)
    known = voxels - nan - infinite
    mean = total / known if known else math.nan
    # Rounding must not make a variance of what is constant.
    variance = max(0.0, squares / known - mean**2) if known and high > low else 0.0
    return Sample(
        voxels=voxels,
        nan=nan,
        infinite=infinite,
        low=low if known else math.nan,
        high=high if known else math.nan,
        mean=mean,
        std=math.sqrt(variance) if known else math.nan,
        constant=sum(fillings.values()) / cells if cells else 0.0,
        filling=fillings.most_common(1)[0][0] if fillings else None,
    )


def sample_findings(sample: Sample, total: int) -> Iterator[Finding]:
    """Values, voxels that are no numbers, and filling.

    Parameters
    ----------
    sample
        Of the voxels read.
    total
        How many the file has.
    """
    part = "all" if sample.voxels == total else f"{sample.voxels} of {total}"
    values = {
        "voxels": sample.voxels,
        "of": total,
        "min": sample.low,
        "max": sample.high,
        "mean": sample.mean,
        "std": sample.std,
    }
    text = (
        f"{part} voxels: {sample.low:.4g} … {sample.high:.4g}, "
        f"mean {sample.mean:.4g}, standard deviation {sample.std:.4g}"
    )
    yield ok("values", text, values)
    bad = {"nan": sample.nan, "infinite": sample.infinite}
    if sample.nan or sample.infinite:
        yield problem(
            "not_finite",
            f"{sample.nan} NaN and {sample.infinite} infinite of the {sample.voxels} voxels read",
            bad,
            remedy="reconstruct it again, or replace them by the mean",
        )
    else:
        yield ok("not_finite", "no NaN or infinite voxels in the sample", bad)
    yield _filling(sample)


def _filling(sample: Sample) -> Finding:
    value = {"fraction": sample.constant, "filling": sample.filling}
    if sample.low == sample.high:
        text, remedy = f"all voxels read are {sample.low:g}", "check that this is the right file"
        return problem("filling", text, value, remedy=remedy)
    if not sample.constant:
        return ok("filling", "no constant parts in the sample", value)
    text = f"{sample.constant:.1%} of the sample is constant, mostly {sample.filling:g}"
    if sample.constant > 0.9:
        remedy = (
            "a structure's map may be masked so; of a tomogram or of particles, check that it is "
            "the right file and was written to its end"
        )
        return warning("filling", text, value, remedy=remedy)
    if sample.constant > FILLED:
        remedy = (
            "check that it is masked so on purpose: what an interrupted download or program left "
            "out looks the same, and particles there are lost"
        )
        return warning("filling", text, value, remedy=remedy)
    return note("filling", text, value)


def spectrum_findings(
    measure: Callable[[], MeanPower], voxel_size_A: float | None
) -> Iterator[Finding]:
    """How power falls with frequency, and the range of tilts that it shows.

    Parameters
    ----------
    measure
        Gives the spectrum, or raises where there is none.
    voxel_size_A
        In Å, or None where it is unknown.
    """
    try:
        spectrum = measure()
    except TomadaptError as error:
        yield note("spectrum", f"no spectrum: {words_of(error)[0]}")
        return
    yield _fall(spectrum, voxel_size_A)
    yield _wedge(estimate_wedge(spectrum))


def _wedge(wedge: WedgeEstimate) -> Finding:
    if not wedge.is_clear:
        clarity = max(0.0, wedge.clarity)
        text = f"no clear missing wedge (clarity {clarity:.2f}): it is filled, or was none"
        if clarity >= CLEAR:
            text = (
                f"a missing wedge (clarity {clarity:.2f}), but it is unclear along which axes the "
                "beam and the tilt axis lie"
            )
        return note("wedge", text, wedge.record)
    if fault := orientation_fault(wedge):
        return problem("wedge", fault[0], wedge.record, remedy=fault[1])
    return ok("wedge", f"tilts of {wedge.text} (clarity {wedge.clarity:.2f})", wedge.record)


def _fall(spectrum: MeanPower, voxel_size_A: float | None) -> Finding:
    """The ratio of power at low and high frequencies, and where it has fallen to a hundredth."""
    frequency, power = shells(spectrum)
    low, high = (
        power[(frequency >= first) & (frequency <= last)].mean() for first, last in (_LOW, _HIGH)
    )
    ratio = float(low / high) if high > 0 else math.inf
    fallen, empty = (_below(frequency, power / low, level) for level in (_FALLEN, _EMPTY))

    def place(nyquist: float) -> str:
        length = f" ({2 * voxel_size_A / nyquist:.3g} Å)" if voxel_size_A else ""
        return f"{nyquist:.2f} of Nyquist{length}"

    value = {
        "low_to_high": ratio,
        "fallen_at_nyquist": fallen,
        "fallen_at_A": 2 * voxel_size_A / fallen if voxel_size_A and fallen else None,
        "empty_from_nyquist": empty,
    }
    text = f"power at low frequencies is {ratio:.3g} times that at high ones"
    if fallen is not None:
        text += f"; it has fallen to 1 % at {place(fallen)}"
    if empty is not None:
        return note("spectrum", f"{text}; nothing is left beyond {place(empty)}", value)
    if ratio < _FLAT:
        return note("spectrum", f"{text}: it is flat, as of noise alone", value)
    return ok("spectrum", text, value)


def shells(spectrum: MeanPower) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean power by frequency: the middles of 20 shells as fractions of Nyquist, and the power."""
    nz, ny, nx = spectrum.padded
    kz, ky = np.fft.fftfreq(nz)[:, None, None], np.fft.fftfreq(ny)[:, None]
    radius = 2 * np.sqrt(kz**2 + ky**2 + np.fft.rfftfreq(nx) ** 2)
    index = (radius * _SHELLS).astype(int)
    inside = index < _SHELLS
    counts = np.bincount(index[inside], minlength=_SHELLS)
    sums = np.bincount(index[inside], spectrum.power[inside], _SHELLS)
    filled = counts > 0
    middles = (np.arange(_SHELLS) + 0.5) / _SHELLS
    return middles[filled], sums[filled] / counts[filled]


def _below(
    frequency: NDArray[np.float64], relative: NDArray[np.float64], level: float
) -> float | None:
    """The frequency from which on power stays below a level; None where it does not."""
    above = np.flatnonzero(relative >= level)
    first = int(above[-1]) + 1 if above.size else 0
    return float(frequency[first]) if first < len(frequency) else None


def contrast_finding(tomogram: Tomogram, voxel_size_A: float | None) -> Finding:
    """The sign of the density, from blobs of the size of large macromolecules."""
    from tomadapt.tomograms.contrast import blob_contrast

    # Of unknown voxels 5 are taken: 50 Å where they are of 10 Å, as in most tomograms.
    least_A = (2 if voxel_size_A else 5) * tomogram.voxel_size_A
    sigma_A = max(_BLOB_SIGMA_A, least_A) if voxel_size_A else least_A
    try:
        found = blob_contrast(tomogram, sigma_A=sigma_A)
    except TomadaptError as error:
        return note("contrast", f"not measured: {words_of(error)[0]}", 0, remedy=_STATE)
    unit = "" if voxel_size_A else " (a voxel taken for 1 Å)"
    return contrast_of(found.sign, f"{found.text}{unit}")


_STATE = "state it: --contrast positive (protein bright) or negative (protein dark)"


def contrast_of(sign: int, text: str) -> Finding:
    """What a sign of +1, −1 or 0 (undecided) asks of the user."""
    if sign > 0:
        return ok("contrast", text, 1)
    return note("contrast", text, sign, remedy="--contrast negative" if sign < 0 else _STATE)
