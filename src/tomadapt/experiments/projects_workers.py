"""Many small tomograms by one process, and by two: what a second one saves. Not in the paper.

A tenth of them is labelled first, and the rest estimated from these, as ``--dry-run`` does.
"""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path

from tomadapt.classify.project import classify_project
from tomadapt.classify.project_costs import expected_costs
from tomadapt.classify.project_plans import plans
from tomadapt.experiments.grid import commit
from tomadapt.experiments.projects import (
    SMALL_ZYX,
    SNRS,
    labelled_folder,
    options_of,
    planted_tomogram,
    project_of,
)
from tomadapt.experiments.records import Results
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import titled_table
from tomadapt.runs.cluster import dask_client

TOMOGRAMS, DIFFERENT = 64, 4
COLUMNS = ("workers", "tomograms", "estimated_minutes", "minutes", "seconds_each", "overhead_s")


def run(setting: Setting) -> list[Path]:
    """Label them all with one worker and with two; rows as they come."""
    count = 4 if setting.scale.name == "smoke" else TOMOGRAMS
    folder = setting.store / "projects-small"
    made = [planted_tomogram(folder, SNRS[0], i, (4, 6, 8), SMALL_ZYX) for i in range(DIFFERENT)]
    entries = [
        made[number % DIFFERENT].model_copy(update={"name": f"TS_{number + 1:02d}"})
        for number in range(count)
    ]
    some, every = (project_of(e, setting.store) for e in (entries[: count // 10 + 1], entries))
    table = partial(titled_table, "Small tomograms by one worker and by two", COLUMNS, form=".2f")
    results = Results.of(setting, "projects_workers", table)
    for workers in (1, 2):
        out = labelled_folder(setting, SNRS[0], f"workers {workers}")
        shutil.rmtree(out, ignore_errors=True)
        classify_project(some, out, options_of)
        costs = expected_costs(plans(every, out, options_of))
        assert costs is not None
        with dask_client(workers, None) as client:
            begun = time.perf_counter()
            summary = classify_project(every, out, options_of, client=client)
            seconds = time.perf_counter() - begun
        all_seconds = [row["seconds"] for row in summary["tomograms"].values()]
        rest = all_seconds[len(some.tomograms) :]
        results.add(
            {
                "workers": workers,
                "tomograms": len(rest),
                "estimated_minutes": costs.seconds / 60 / workers,
                "minutes": seconds / 60,
                "seconds_each": sum(rest) / len(rest),
                "overhead_s": (seconds * workers - sum(rest)) / len(rest),
                "commit": commit(),
            }
        )
    return results.files
