"""The tables of figures 8 and 9: how an unseen class clusters, and what is recovered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tomadapt.experiments.records import Row

PAPER_NM = {"before": "5.42 ± 1.28", "after": "5.17 ± 1.27"}
PAPER_UNSEEN_NM = {"before": 4.84, "after": 4.19}
MEASURES = {
    "f1_paper": "F1 of its best cluster, {clusters} clusters",
    "f1_classes": "F1 of its best cluster, as many clusters as classes",
    "auroc_neighbours": "AUROC as unknown, nearest neighbours",
    "auroc_mahalanobis": "AUROC as unknown, Mahalanobis",
}


def novel_table(records: Sequence[Row], line: str) -> str:
    """Both tables as Markdown."""
    of = {when: [r for r in records if r["when"] == when] for when in ("before", "after")}
    novel, seeds = records[0]["left_out"], sorted({r["seed"] for r in records})
    lines = [
        "# Figures 8 and 9: a class left out of training and adaptation",
        "",
        f"Left out: {novel}. {line}.",
        "",
        f"Seeds {', '.join(map(str, seeds))}; mean ± standard deviation.",
        "",
        "| | before 3D-ADA | after |",
        "|---|---|---|",
    ]
    for key, title in MEASURES.items():
        cells = [_spread([r[key] for r in of[when]]) for when in of]
        name = title.format(clusters=records[0]["clusters"])
        lines.append(f"| {name} | {' | '.join(cells)} |")
    found: dict[str, dict[str, float]] = {
        w: next((r["discrepancy_nm"] for r in of[w] if "discrepancy_nm" in r), {}) for w in of
    }
    if not found["before"] or not found["after"]:
        return "\n".join(lines) + "\n"
    lines += [
        "",
        "Structural discrepancy in nm (FSC 0.5 between recovered and true structure) of each "
        "class's best cluster, one seed; in brackets the paper's.",
        "",
        "| class | before | after |",
        "|---|---|---|",
    ]
    for name in found["before"]:
        mark = " (never seen)" if name == novel else ""
        cells = [
            f"{found[w][name]:.2f}" + (f" ({PAPER_UNSEEN_NM[w]})" if name == novel else "")
            for w in of
        ]
        lines.append(f"| {name}{mark} | {' | '.join(cells)} |")
    cells = [_spread(list(found[w].values()), 2) for w in of]
    lines.append(f"| mean of classes | {' | '.join(cells)} |")
    every = {w: next(r["clusters_nm"] for r in of[w] if "clusters_nm" in r) for w in of}
    cells = [f"{_spread(every[w], 2)} ({PAPER_NM[w]})" for w in of]
    lines.append(f"| mean of all clusters' averages | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float], digits: int = 3) -> str:
    if not values:
        return "–"
    text = f"{np.mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {np.std(values, ddof=1):.{digits}f}"
