"""The experiments on a project, with a stub in the likelihood's place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tomadapt.classify import project as labelling
from tomadapt.classify.options import ClassifyOptions
from tomadapt.experiments import projects
from tomadapt.experiments.records import read_rows
from tomadapt.experiments.scales import SMOKE, Setting
from tomadapt.io.particle_lists import read_particles, write_star
from tomadapt.runs.atomic import write_json
from tomadapt.runs.own_folder import make_own, require_own

pytestmark = pytest.mark.usefixtures("one_thread")


def found_by_defocus(options: ClassifyOptions, out: Path, *, device: str) -> dict[str, Any]:
    """All particles of the truth, but for a wrong name of the first where the defocus is typed."""
    wanted = options.model_dump(mode="json", exclude={"also", "fdr"})
    require_own(out, wanted)
    truth = read_particles(options.tomogram.parent / "particles.star")
    assert truth.classes is not None
    names = list(truth.classes)
    if options.source.acquisition.defocus_um == projects.TYPED["defocus_um"]:
        names[0] = "tric" if names[0] != "tric" else "apoferritin"
    make_own(out, wanted)
    write_star(out / "particles.star", truth, columns={"tomadaptClassName": names})
    summary = {
        "classes": {name: names.count(name) for name in projects.CLASSES},
        "n_rejected": 0,
        "measured_acquisition": None,
        "contrast": {"sign": 1, "text": "bright"},
        "seconds": {"judge": 60.0},
        "peak_memory_mb": 500.0,
        "warnings": [],
        "fdr": {"asked": options.fdr},
    }
    write_json(out / "summary.json", summary)
    return summary


def test_own_metadata_against_one_defocus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "classify_by_likelihood", found_by_defocus)
    setting = Setting(SMOKE, None, tmp_path / "runs", tmp_path / "results")
    records, table = projects.run(setting)
    own, typed = read_rows(records)
    assert (own["recall"], own["precision"], own["labels_right"]) == (1, 1, 1)
    assert (own["minutes"], own["peak_memory_mb"]) == (2, 500)
    planted = own["planted"]
    assert planted == 2 * (4 + 6 + 8)
    assert typed["recall"] == pytest.approx((planted - 2) / planted)
    assert "one defocus and tilt range" in table.read_text()

    # The tomograms differ as the project says.
    entries = projects.planted_project(setting, projects.SNRS[0])
    assert [entry.defocus_um for entry in entries] == list(projects.DEFOCI_UM[:2])
    assert entries[0].tilt_angles_deg != entries[1].tilt_angles_deg
