"""Commands that do all of it: run, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tomadapt.cli.app import app
from tomadapt.cli.options import (
    Device,
    Out,
    Seed,
    checked_device,
    require_one_process,
    warn,
)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="TOML: structures, source, target, train, adapt.")],
    out: Out,
    device: Device = "auto",
) -> None:
    """Do all of it, from structures to a report; run again to finish an interrupted run."""
    from tomadapt.workflows.config import RunConfig, load_config

    _run(load_config(config, RunConfig), out, device)


@app.command()
def demo(
    out: Out,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Run the main job on the built-in structures: a few minutes on two CPU cores."""
    from tomadapt.workflows.run import demo_config

    _run(demo_config(seed), out, device)


def _run(config: Any, out: Path, device: str) -> None:
    from tomadapt.workflows.run import run as run_pipeline

    require_one_process()
    summary = run_pipeline(
        config, out, device=checked_device(device), say=lambda text: typer.echo(text, err=True)
    )
    for method, scores in summary["target"].items():
        if "held_out" in scores:
            typer.echo(f"{method:<18} accuracy on held-out target: {scores['held_out']:.3f}")
    if summary["adaptation_warning"]:
        warn(summary["adaptation_warning"])
    typer.echo(out / "report.html")
