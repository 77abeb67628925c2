"""The command that looks at files and the machine before anything else: doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tomadapt.cli.app import app
from tomadapt.cli.options import printable, require_one_process

if TYPE_CHECKING:
    from rich.table import Table

    from tomadapt.doctor import Report

_MARKS = {
    "ok": ("ok", "green"),
    "note": ("note", "yellow"),
    "warning": ("WARNING", "bold yellow"),
    "problem": ("PROBLEM", "bold red"),
}


@app.command()
def doctor(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE",
            help="Tomograms, subtomograms, lists of particles, models, configurations.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of tables.")
    ] = False,
) -> None:
    """Audit files and this machine; exits with 1 when there is a problem, else with 0.

    A list of particles is held against the tomogram given with it, of several against those that
    it names. Of voxels samples are read. Without a FILE only the machine is looked at.
    """
    import json

    from rich.console import Console

    from tomadapt.doctor import examine

    require_one_process()
    audit = examine(files or [])
    if as_json:
        typer.echo(json.dumps(audit.as_json(), indent=1, allow_nan=False))
    else:
        console = Console()
        for report in (*audit.files, audit.machine):
            console.print(_table(report))
        found = f"{counted(audit.problems, 'problem')} found"
        if audit.warnings:
            found += f", {counted(audit.warnings, 'warning')}"
        console.print(found, highlight=False)
    if audit.problems:
        raise typer.Exit(1)


def counted(n: int, what: str) -> str:
    """A number of things in words: no, 1 thing, 2 things."""
    return f"{n or 'no'} {what}{'' if n == 1 else 's'}"


def _table(report: Report) -> Table:
    from rich.table import Table
    from rich.text import Text

    # Texts, not strings: what stands in files must not be taken for markup.
    title = report.subject if report.kind == "machine" else f"{report.subject}: {report.kind}"
    table = Table("", "what", "found", title=Text(printable(title)), title_justify="left")
    for finding in report.findings:
        mark, style = _MARKS[finding.level]
        found = Text(printable(finding.text))
        if finding.remedy:
            found.append(f"\n→ {printable(finding.remedy)}", style="dim")
        table.add_row(Text(mark, style=style), finding.key.replace("_", " "), found)
    return table
