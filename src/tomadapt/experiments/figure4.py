"""Figures 4 and 5: t-SNE of target features and confusion matrices, before and after 3D-ADA.

Source batch B at SNR 0.1, target batch A at SNR 0.05, as in the paper; at most 100 particles of
each class are embedded. Rows of the confusion matrices are predicted classes, as in the paper.
"""

from __future__ import annotations

from pathlib import Path

from tomadapt.experiments.domains import Cell, PaperDomains
from tomadapt.experiments.scales import Setting
from tomadapt.report.collect import evaluate, report_content
from tomadapt.report.result_figures import confusions, feature_maps
from tomadapt.report.style import write_figure

CELL = Cell(source_snr=0.1, target_snr=0.05)


def run(setting: Setting) -> list[Path]:
    """Take the models of that cell of Table 1, and draw."""
    scale = setting.scale
    cell = CELL if CELL.target_snr in scale.snrs else Cell(scale.snrs[-1], scale.snrs[-1])
    batches = PaperDomains(scale, scale.classes(setting.data))
    task = batches.adapted(cell, "ada")
    setting.finish([task], "figure4")
    source, _ = task.source_model.data.open(setting.store)
    target, _ = batches.target(cell).open(setting.store)
    before, after = task.source_model.model(setting.store), task.model(setting.store)
    content = report_content(
        before,
        after,
        source=source,
        target=target,
        evaluations=(evaluate({"source_only": before, "ada": after}, target), None),
    )
    warned = "" if content.warning is None else f"\n† {content.warning}"
    where = (
        f"SNR {cell.source_snr:g} → {cell.target_snr:g}, the {len(target)} particles adapted to, "
        f"seed {cell.seed}"
    )
    shows = ("t-SNE of features", "percent of each true class")
    paths = [setting.file("figure4.png"), setting.file("figure5.png")]
    for draw, what, path in zip((feature_maps, confusions), shows, paths, strict=True):
        figure = draw(content)
        figure.supxlabel(f"{what}; {where}\n{scale.line}{warned}", fontsize=8)
        write_figure(figure, path)
    return paths
