"""What a summary warns of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tomadapt.acquisition import Acquisition
from tomadapt.classify import measured_acquisition
from tomadapt.classify.cubes import CubesOptions
from tomadapt.classify.options import SourceOptions


@pytest.mark.parametrize(("defocus_um", "told"), [(-4.0, True), (4.0, False)])
def test_regression_overfocus_is_kept_in_the_summary(
    defocus_um: float, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was said on the screen alone, and the contrast that rests on it was called measured."""
    monkeypatch.setattr(measured_acquisition, "hand_nats", lambda _: 0.0)
    verdicts: Any = SimpleNamespace(optics=None, hand=1)
    acquisition = Acquisition(name="stated", defocus_um=defocus_um)
    texts = measured_acquisition.acquisition_warnings(verdicts, acquisition, 10.0)
    assert any("is overfocus" in text for text in texts) == told


@pytest.mark.parametrize("name", ["other", "unknown"])
def test_no_structure_has_the_name_of_a_kind(name: str) -> None:
    """Particles of no named structure are averaged under these names."""
    message = f"{name}.*is what particles of no named structure are called.*unlisted=maps/a.mrc"
    with pytest.raises(ValueError, match=message):
        CubesOptions(cubes=Path("cubes.mrc"), classes={name: "maps/a.mrc"})
    with pytest.raises(ValueError, match=message):
        SourceOptions(classes={name: "maps/a.mrc"}, acquisition=Acquisition(defocus_um=5.0))
