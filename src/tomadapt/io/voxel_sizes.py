"""The voxel size that holds: what a file says along three axes, and what a user states."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from tomadapt.errors import ConfigError, InputError, MismatchError

Sizes = tuple[float, float, float]

SMALLEST_A, LARGEST_A = 0.1, 1000.0
"""No electron tomogram has voxels beyond; a header that says so was written by mistake."""
SAME_SPACING, _ROUNDED = 5e-3, 1e-3
"""Files whose axes differ by less mean cubic voxels; by less than the second, nobody is told."""
STATED_TAKEN = "the stated size is taken"
"""How the warning ends that names a stated voxel size and another one in the file."""
OVERRIDDEN = 1e-4
"""A stated size that differs by more is told: a tenth of a voxel over a thousand of them."""

NAMED_OTHERWISE = ".* has voxels of .* by its name"
"""How the warning begins that names a voxel size in a file's name and another that is taken."""
# As WarpTools' ts_reconstruct names its files; folders may be called after them.
_IN_NAME = re.compile(r"_(\d+(?:\.\d+)?)Apx(?:_[^.]*)?\.[A-Za-z]")
_NAMES_AGREE = 0.01


def require_positive_A(path: Path | str, size_A: float) -> None:
    """Refuse to write a voxel size that is none.

    Raises
    ------
    ConfigError
        Naming it, and what was to be written.
    """
    if not (math.isfinite(size_A) and size_A > 0):
        raise ConfigError(f"voxel size for {path}", expected="a positive Å", got=size_A)


def require_in_range(what: str, stated_A: float) -> None:
    """Refuse a stated size that no tomogram has.

    Raises
    ------
    ConfigError
        Naming what was stated.
    """
    if not SMALLEST_A < stated_A < LARGEST_A:
        raise ConfigError(
            f"the {what} is out of range",
            expected=f"between {SMALLEST_A:g} and {LARGEST_A:g} Å",
            got=stated_A,
            remedy="give it in Å",
        )


def says_a_size(sizes_A: Sizes) -> bool:
    """False where a file holds 0, 1, or what is no length along its axes: nobody set it."""
    if not all(map(math.isfinite, sizes_A)) or min(sizes_A) <= 0:
        return False
    return any(abs(size - 1) >= 1e-6 for size in sizes_A)


def shown_sizes(sizes_A: Sizes) -> str:
    """Sizes along x, y and z as text, one where they are the same."""
    if not (says_a_size(sizes_A) or _only_z_is_missing(sizes_A)):
        return "unknown"
    same = max(sizes_A) - min(sizes_A) <= 1e-6 * max(sizes_A)
    return f"{sizes_A[0]:g} Å" if same else _each(sizes_A)


def _each(sizes_A: Sizes) -> str:
    """The sizes along all axes; a z of 0 stands for one that nobody set."""
    shown = sizes_A if sizes_A[2] else sizes_A[:2]
    text = " × ".join(f"{size:g}" for size in shown) + " Å"
    return text if sizes_A[2] else f"{text} (x, y; z is not set)"


def farthest_sizes(found_A: Sequence[Sizes], stated_A: float) -> Sizes:
    """Of what several files or volumes say, that which differs most from what is stated.

    Those that say nothing do not differ.
    """

    def off(sizes_A: Sizes) -> float:
        return max(abs(size / stated_A - 1) for size in sizes_A) if says_a_size(sizes_A) else 0.0

    return max(found_A, key=off)


def cubic_voxel_size_A(
    path: Path,
    sizes_A: Sizes | None,
    *,
    state: str = "--voxel-size",
    tolerance: float = SAME_SPACING,
) -> float | None:
    """The voxel size in Å that a file means, or None where it does not know it.

    A z spacing that nobody set (0 or 1 Å beside equal others) is left out, with a warning; so is a
    small difference, for the mean.

    Parameters
    ----------
    path
        The file, for messages.
    sizes_A
        What it says along x, y, z; None where it says nothing.
    state
        How the user states the size.
    tolerance
        By which fraction axes may differ.

    Raises
    ------
    InputError
        When they differ by more.
    """
    if sizes_A is None or not (says_a_size(sizes_A) or _only_z_is_missing(sizes_A)):
        return None
    text = _each(sizes_A)
    if _only_z_is_missing(sizes_A):
        warnings.warn(
            f"{path} has voxels of {text} in its header: nobody set z, so x and y are taken",
            stacklevel=3,
        )
        sizes_A = (sizes_A[0], sizes_A[1], sizes_A[0])
    low, high = min(sizes_A), max(sizes_A)
    if high - low > tolerance * high:
        raise InputError(
            f"{path} has anisotropic voxels",
            expected="the same voxel size along x, y and z",
            got=text,
            remedy=f"state the right size ({state}) where the file is wrong, or resample it to "
            "cubic voxels",
        )
    mean_A = low if low == high else sum(sizes_A) / 3
    if high - low > _ROUNDED * high:
        warnings.warn(
            f"{path} has voxels of {text} in its header: their mean, {mean_A:g} Å, is taken",
            stacklevel=3,
        )
    return mean_A


def _only_z_is_missing(sizes_A: Sizes) -> bool:
    x, y, z = sizes_A
    known = math.isfinite(x) and x > 0 and abs(x - 1) > _ROUNDED
    set_xy = known and y > 0 and abs(x / y - 1) < _ROUNDED
    return set_xy and (z == 0 or abs(z - 1) < 1e-6)


def agreed_voxel_size(path: Path, found_A: Sizes | float | None, stated_A: float | None) -> float:
    """The voxel size in Å that is stated, or that is in the file.

    What is stated counts. Where the file says another, a warning names both; so it does where the
    file's name (``TS_01_10.00Apx.mrc``) says another than is taken.

    Parameters
    ----------
    path
        The file, for messages.
    found_A
        What it says, along x, y, z or for all of them; None where it says nothing.
    stated_A
        What the user says.

    Raises
    ------
    ConfigError
        When neither is known, or the stated one is out of range.
    InputError
        When nothing is stated and the file's is out of range, or not the same along all axes.
    """
    sizes_A = (found_A, found_A, found_A) if isinstance(found_A, float | int) else found_A
    if stated_A is None:
        size_A = _plausible(path, cubic_voxel_size_A(path, sizes_A))
        warn_if_named_otherwise(path, size_A)
        return size_A
    require_in_range("voxel size", stated_A)
    if (
        sizes_A is not None
        and (says_a_size(sizes_A) or _only_z_is_missing(sizes_A))
        and any(abs(size / stated_A - 1) > OVERRIDDEN for size in sizes_A)
    ):
        warnings.warn(
            f"{path} has voxels of {shown_sizes(sizes_A)} in its header, and {stated_A:g} Å are "
            f"stated: {STATED_TAKEN}",
            stacklevel=3,
        )
    warn_if_named_otherwise(path, stated_A, stated=True)
    return float(stated_A)


def warn_if_named_otherwise(path: Path, size_A: float, *, stated: bool = False) -> None:
    """Warn where a file's name has a voxel size that is not the one taken, by more than 1 %."""
    found = _IN_NAME.search(path.name)
    if found is None or abs(size_A / float(found[1]) - 1 if float(found[1]) else 1) <= _NAMES_AGREE:
        return
    taken = (
        f"and {size_A:g} Å are stated: {STATED_TAKEN}"
        if stated
        else f"and of {size_A:g} Å by its header: the header's size is taken (--voxel-size states "
        "another)"
    )
    warnings.warn(f"{path} has voxels of {float(found[1]):g} Å by its name, {taken}", stacklevel=4)


def _plausible(path: Path, found_A: float | None) -> float:
    if found_A is None:
        raise ConfigError(
            f"the voxel size of {path} is unknown",
            expected="--voxel-size in Å",
            got="none in the file, or 0 or 1 Å, which nobody set",
            remedy="give --voxel-size",
        )
    if not SMALLEST_A < found_A < LARGEST_A:
        raise InputError(
            f"the voxel size in {path} cannot be",
            expected="between 0.1 and 1000 Å",
            got=f"{found_A:g} Å",
            remedy="give --voxel-size, or mend the header",
        )
    return float(found_A)


def require_stated(path: Path, known_A: float, stated_A: float | None) -> None:
    """Refuse a stated voxel size that is not that of a simulated set, which is what it was made of.

    Raises
    ------
    MismatchError
        When they differ by more than 1 %.
    """
    from tomadapt.data.subtomograms import same_voxel_size  # local: torch comes with it

    if stated_A is not None and not same_voxel_size(known_A, stated_A):
        raise MismatchError(
            f"the voxel size of {path} is not the one stated",
            expected=f"{stated_A:g} Å (stated)",
            got=f"{known_A:g} Å (it was simulated so)",
            remedy="leave --voxel-size out",
        )
