"""The voxel size that holds where a file and a user may both say one."""

from __future__ import annotations

from pathlib import Path

from tomadapt.errors import ConfigError, InputError, MismatchError

SMALLEST_A, LARGEST_A = 0.1, 1000.0
"""No electron tomogram has voxels beyond; a header that says so was written by mistake."""


def agreed_voxel_size(path: Path, found_A: float | None, stated_A: float | None) -> float:
    """The voxel size in Å that is in the file, or stated, or both alike to 1 %.

    Raises
    ------
    ConfigError
        When neither is known, or the stated one is out of range.
    MismatchError
        When they differ.
    InputError
        When the file's is out of range.
    """
    from tomadapt.subtomograms import same_voxel_size  # local: torch comes with it

    if stated_A is None and found_A is None:
        raise ConfigError(
            f"the voxel size of {path} is unknown",
            expected="--voxel-size in Å",
            got="none in the file",
            remedy="give --voxel-size",
        )
    if stated_A is not None and not SMALLEST_A < stated_A < LARGEST_A:
        raise ConfigError(
            "voxel size out of range",
            expected="between 0.1 and 1000 Å",
            got=stated_A,
            remedy="give --voxel-size in Å",
        )
    if found_A is not None and not SMALLEST_A < found_A < LARGEST_A:
        raise InputError(
            f"the voxel size in {path} cannot be",
            expected="between 0.1 and 1000 Å",
            got=f"{found_A:g} Å",
            remedy="mend the header",
        )
    if found_A is not None and stated_A is not None and not same_voxel_size(found_A, stated_A):
        raise MismatchError(
            f"the voxel size of {path} is not the one stated",
            expected=f"{stated_A:g} Å (stated)",
            got=f"{found_A:g} Å (file)",
            remedy="leave --voxel-size out, or mend the header",
        )
    return float(stated_A if stated_A is not None else found_A)  # type: ignore[arg-type]
