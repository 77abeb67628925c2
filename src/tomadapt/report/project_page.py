"""One HTML page of a project's labelled tomograms: failures and warnings first, then a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tomadapt.report.page import page_template
from tomadapt.runs.atomic import write_text

_NONE = "–"


def write_project_report(summary: Mapping[str, Any], path: Path) -> None:
    """Write the page of all tomograms; it links to each one's own report.

    Parameters
    ----------
    summary
        The content of the project's ``summary.json``.
    path
        Where to; a file there is replaced. Links are relative to its folder.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    write_text(path, render_project(summary))


def render_project(summary: Mapping[str, Any]) -> str:
    """Give the page as text; the same text for the same summary."""
    labels = list(summary["classes"])
    warnings: dict[str, list[str]] = {}
    for name, row in summary["tomograms"].items():
        for text in (*row["warnings"], *row["contradictions"], *row.get("notes", ())):
            warnings.setdefault(text, []).append(name)
    rows = [
        (name, "./" + quote(row["report"]), [row["classes"].get(label, 0) for label in labels], row)
        for name, row in summary["tomograms"].items()
    ]
    return page_template("project.html.j2").render(
        summary=summary,
        labels=labels,
        warnings=[(", ".join(names), text) for text, names in warnings.items()],
        rows=rows,
        outliers={n: row["outlier"] for n, row in summary["tomograms"].items() if row["outlier"]},
        number=_number,
    )


def _number(value: float | None, digits: int = 1) -> str:
    return _NONE if value is None else f"{value:.{digits}f}".replace("-", "−")
