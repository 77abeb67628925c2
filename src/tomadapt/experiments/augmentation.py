"""The supplement's question: what augmentation gives, before and after adaptation.

With: half-turns that keep the missing wedge, shifts of up to two voxels, noise paired anew in every
epoch. Without: the simulated particles as they are. Cells of Table 1's diagonal.
"""

from __future__ import annotations

from typing import Any

from tomadapt.experiments.domains import Batches, Cell
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import markdown, mean_sd, select, write_rows
from tomadapt.io.atomic import write_text

TITLE = "Augmentation on the diagonal of Table 1"
FILES = ("augmentation.jsonl", "augmentation.md")
METHODS = ("source_only", "target_statistics", "ada")
VARIANTS: dict[str, dict[str, Any]] = {
    "without": {"augment": False, "repair_noise": False},
    "with": {"augment": True, "repair_noise": True},
}


def run(setting: Setting) -> None:
    """Train with and without augmentation, adapt, and write records and table."""
    scale = setting.scale
    batches = Batches(scale, scale.classes(setting.data))
    planned = {
        batches.adapted(Cell(snr, snr), method, **training).key: (
            batches.adapted(Cell(snr, snr), method, **training),
            {"snr": snr, "method": method, "augmentation": variant},
        )
        for snr in scale.snrs
        for variant, training in VARIANTS.items()
        for method in METHODS
    }
    rows = []
    for task, record in setting.run([task for task, _ in planned.values()], TITLE):
        if task.key not in planned:
            continue
        kept = ("accuracy", "held_out_accuracy", "seconds", "commit")
        about = {"experiment": "augmentation", "scale": scale.name, **planned[task.key][1]}
        rows.append(about | {key: record[key] for key in kept})
        write_rows(setting.file(FILES[0]), rows)
    lines = [
        [variant, method]
        + [
            mean_sd(select(rows, "held_out_accuracy", snr=s, augmentation=variant, method=method))
            for s in scale.snrs
        ]
        for method in METHODS
        for variant in VARIANTS
    ]
    table = markdown(["augmentation", "method", *(f"SNR {s:g}" for s in scale.snrs)], lines)
    intro = f"# {TITLE}\n\n{scale.line}\n\nAccuracy on held-out target particles, seed 0.\n\n"
    write_text(setting.file(FILES[1]), intro + table)
