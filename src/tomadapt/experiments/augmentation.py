"""The supplement's question: what augmentation gives, before and after adaptation.

With: half-turns that keep the missing wedge, shifts of up to two voxels, noise paired anew in every
epoch. Without: the simulated particles as they are. Cells of Table 1's diagonal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tomadapt.experiments.domains import Cell, PaperDomains
from tomadapt.experiments.records import Planned, collect, read_rows
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import cell, footnotes, heading, markdown, select
from tomadapt.metrics import binomial_interval
from tomadapt.runs.atomic import write_text

COMPARED = ("source_only", "target_statistics", "ada")
VARIANTS: dict[str, dict[str, Any]] = {
    "without": {"augment": False, "repair_noise": False},
    "with": {"augment": True, "repair_noise": True},
}


def run(setting: Setting) -> list[Path]:
    """Train with and without augmentation, adapt, and write records and table."""
    batches = PaperDomains(setting.scale, setting.scale.classes(setting.data))
    planned: list[Planned] = [
        (
            batches.adapted(Cell(snr, snr), method, **training),
            {"snr": snr, "method": method, "augmentation": variant, "seed": 0},
        )
        for snr in setting.scale.snrs
        for variant, training in VARIANTS.items()
        for method in COMPARED
    ]
    for _ in collect(setting, "augmentation", [planned], whole=planned):
        written = write_table(setting)
    return written


def write_table(setting: Setting) -> list[Path]:
    """Make the table from the records, without running anything."""
    records, table = setting.file("augmentation.jsonl"), setting.file("augmentation.md")
    rows = read_rows(records, "augmentation")
    snrs = sorted({row["snr"] for row in rows}, reverse=True)
    lines = [
        [variant, method]
        + [
            cell(select(rows, snr=snr, augmentation=variant, method=method), "held_out_accuracy")
            for snr in snrs
        ]
        for method in COMPARED
        for variant in VARIANTS
    ]
    n = rows[0]["n_held_out"]
    low, high = binomial_interval(0.75, n)
    text = heading("Augmentation on the diagonal of Table 1", rows)
    text += "Accuracy on held-out target particles; of 0.75 the 95 % interval is "
    text += f"{low:.2f}–{high:.2f} with {n} particles.\n\n"
    text += markdown(["augmentation", "method", *(f"SNR {snr:g}" for snr in snrs)], lines)
    write_text(table, f"{text}\n{footnotes(rows)}")
    return [records, table]
