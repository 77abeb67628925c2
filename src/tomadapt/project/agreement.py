"""Whether two files mean the same: how far their statements of a field may differ."""

from __future__ import annotations

from typing import Any

RELATIVE = {"voxel_size_A": 0.01, "tilt_series_pixel_size_A": 0.01, "binning": 0.02}
"""By which fraction two sources may differ: pixel sizes are written with two or three decimals."""
ABSOLUTE = {
    "voltage_kv": 0.5,
    "spherical_aberration_mm": 0.05,
    "amplitude_contrast": 0.005,
    "defocus_um": 0.1,
    "exposure_per_tilt_e_per_A2": 0.1,
    "size_xyz": 2,  # programs round binned sizes differently, and make them even
}


def same(name: str, first: Any, second: Any) -> bool:
    """Whether two statements of a field mean the same."""
    if name in RELATIVE:
        return bool(abs(first - second) <= RELATIVE[name] * abs(first))
    if name == "size_xyz":
        return all(abs(a - b) <= ABSOLUTE[name] for a, b in zip(first, second, strict=True))
    if name in ABSOLUTE:
        return bool(abs(first - second) <= ABSOLUTE[name])
    if name.startswith(("astigmatism", "volume")):
        return True  # fits of the same images scatter; volumes are listed elsewhere
    return bool(first == second)


def shown(value: Any) -> str:
    """A value for a sentence."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}"
    return " × ".join(map(shown, value)) if isinstance(value, tuple) else str(value)
