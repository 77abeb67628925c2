"""The tables of figures 8 and 9: how an unseen class clusters, and what is recovered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tomadapt.experiments.records import Row
from tomadapt.experiments.tables import markdown, mean_sd, quotes_paper, select

WHEN = ("before", "after")
PAPER_NM = {"before": "5.42 ± 1.28", "after": "5.17 ± 1.27"}
PAPER_UNSEEN_NM = {"before": "4.84", "after": "4.19"}
MEASURES = {
    "f1_paper": "F1 of its best cluster, {clusters} clusters",
    "f1_classes": "F1 of its best cluster, as many clusters as classes",
    "auroc_neighbours": "AUROC as unknown, nearest neighbours",
    "auroc_mahalanobis": "AUROC as unknown, Mahalanobis",
}


def novel_table(records: Sequence[Row], line: str) -> str:
    """All tables as Markdown: means over seeds ± standard deviations."""
    novel, seeds = records[0]["left_out"], sorted({r["seed"] for r in records})
    lines = []
    for key, title in MEASURES.items():
        cells = [mean_sd([r[key] for r in select(records, when=when)]) for when in WHEN]
        lines.append([title.format(clusters=records[0]["clusters"]), *cells])
    text = (
        f"# Figures 8 and 9: a class left out of training and adaptation\n\nLeft out: {novel}. "
        f"{line}.\n\nSeeds {', '.join(map(str, seeds))}; mean ± standard deviation over seeds.\n\n"
    )
    text += markdown(["", "before 3D-ADA", "after"], lines)
    text += (
        "\nStructural discrepancy in nm: where the FSC between a recovered map and the true "
        "structure falls below 0.5. In brackets the paper's, whose ± is over maps.\n\n"
    )
    text += markdown(["maps", "before 3D-ADA", "after"], _of_all(records, novel))
    text += (
        "\nCandidates are the clusters that the program calls so, without labels. A class's "
        "clusters are those of whose particles most are of it; its best map is the one of least "
        "discrepancy among the three that correlate best with it.\n\n"
    )
    header = ["class", "its clusters, before", "after", "its best map, before", "after"]
    return text + markdown(header, [_of_class(records, n, novel) for n in records[0]["best_nm"]])


def _of_all(records: Sequence[Row], novel: str) -> list[list[str]]:
    """Rows over all clusters."""

    def row(title: str, value: Callable[[Row], float | None], paper: dict[str, str]) -> list[str]:
        cells = []
        for when in WHEN:
            values = [v for r in select(records, when=when) if (v := value(r)) is not None]
            said = f" ({paper[when]})" if paper and quotes_paper(records) else ""
            cells.append(mean_sd(values, 2) + said)
        return [title, *cells]

    def mean_of(of: Callable[[Row], bool]) -> Callable[[Row], float | None]:
        def mean(r: Row) -> float | None:
            found = [one["discrepancy_nm"] for one in r["found"] if of(one)]
            found = [nm for nm in found if nm is not None]
            return float(np.mean(found)) if found else None

        return mean

    def share(r: Row) -> float | None:
        called = [one["majority"] == novel for one in r["found"] if one["candidate"]]
        return float(np.mean(called)) if called else None

    return [
        row("all clusters, mean", mean_of(lambda _: True), PAPER_NM),
        row(
            f"clusters of {novel} (never seen), mean",
            mean_of(lambda one: bool(one["majority"] == novel)),
            PAPER_UNSEEN_NM,
        ),
        row(f"best map of {novel}", lambda r: float(r["best_nm"][novel]), {}),
        row(
            "best map of each class, mean",
            lambda r: float(np.mean(list(r["best_nm"].values()))),
            {},
        ),
        row(
            "clusters with a map and a structure",
            lambda r: float(sum(one["discrepancy_nm"] is not None for one in r["found"])),
            {},
        ),
        row(
            f"clusters of {novel}",
            lambda r: float(sum(one["majority"] == novel for one in r["found"])),
            {},
        ),
        row("candidates", lambda r: float(sum(one["candidate"] for one in r["found"])), {}),
        row(f"share of {novel} among candidates", share, {}),
    ]


def _of_class(records: Sequence[Row], name: str, novel: str) -> list[str]:
    cells = [f"{name} (never seen)" if name == novel else name]
    for when in WHEN:
        found = [
            one["discrepancy_nm"]
            for r in select(records, when=when)
            for one in r["found"]
            if one["majority"] == name and one["discrepancy_nm"] is not None
        ]
        cells.append(f"{np.mean(found):.2f}" if found else "–")
    for when in WHEN:
        cells.append(mean_sd([r["best_nm"][name] for r in select(records, when=when)], 2))
    return cells
