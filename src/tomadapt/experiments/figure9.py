"""Figures 8 and 9: a class never seen, found among clusters of features and recovered.

The class is left out of both domains in training and adaptation; batch B at SNR 1000 is the source,
batch A at SNR 0.5 the target, all of whose particles are then clustered, and each cluster averaged.
The paper: structural discrepancy 5.42 ± 1.28 nm before and 5.17 ± 1.27 nm after 3D-ADA, of the
unseen class 4.84 and 4.19 nm.
"""

from __future__ import annotations

from pathlib import Path

from tomadapt.experiments.domains import Batches, Cell
from tomadapt.experiments.figure8 import NOVEL
from tomadapt.experiments.novel_table import novel_table
from tomadapt.experiments.novel_task import NovelTask
from tomadapt.experiments.records import Row, write_rows
from tomadapt.experiments.scales import Setting
from tomadapt.recover.clusters import ClusterOptions
from tomadapt.recover.discover import DiscoveryOptions
from tomadapt.runs.atomic import write_text

CLUSTERS = 100
"""As in the paper; a quarter of the particles where they are few."""


def run(setting: Setting) -> list[Path]:
    """Discover structures before and after adaptation, with every seed."""
    out = setting.file("figure9.jsonl"), setting.file("figure9.md")
    tasks = [task for seed in range(setting.scale.seeds_marked) for task in plan(setting, seed)]
    rows: list[Row] = []
    for task, record in setting.run([tasks], "figure9"):
        if not isinstance(task, NovelTask):
            continue
        about: Row = {"experiment": "figure9", "scale": setting.scale.name, "when": task.when}
        about |= {"seed": task.adapted.source_model.training.seed, "run": task.key}
        kept = {k: v for k, v in record.items() if k not in ("key", "resumed", "machine")}
        rows.append(about | kept)
        rows.sort(key=lambda row: (row["seed"], row["when"] == "after"))
        write_rows(out[0], rows)
        if {row["when"] for row in rows} == {"before", "after"}:
            write_text(out[1], novel_table(rows, setting.scale.line))
    return list(out)


def plan(setting: Setting, seed: int) -> list[NovelTask]:
    """The two runs of a seed."""
    scale = setting.scale
    batches = Batches(scale, scale.classes(setting.data))
    cell = Cell(1000.0, 0.5 if 0.5 in scale.snrs else scale.snrs[-1], seed)
    novel = next((n for n in NOVEL if n in batches.classes), next(iter(batches.classes)))
    adapted = batches.adapted(cell, "ada", without=(novel,))
    particles = batches.target(cell).made.simulation
    count = min(CLUSTERS, particles.per_class * len(particles.classes) // 4)
    options = DiscoveryOptions(clusters=ClusterOptions(count=count))
    return [
        NovelTask(adapted=adapted, when="before", options=options),
        NovelTask(adapted=adapted, when="after", options=options),
    ]
