"""Versions that results depend on, for provenance."""

from __future__ import annotations

import platform
from importlib.metadata import version


def versions() -> dict[str, str]:
    """Of Python, of this package and of what it computes with."""
    names = ("tomadapt", "torch", "numpy", "scipy", "gemmi")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
