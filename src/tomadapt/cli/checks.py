"""Commands that check or measure: self-check, experiment, benchmark, structures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from tomadapt.cli.app import app
from tomadapt.cli.options import (
    ContrastOption,
    Device,
    Seed,
    VoxelSize,
    checked_device,
    known_contrast,
    one_of,
    require_one_process,
    require_writable,
)


@app.command("self-check")
def self_check(
    acquisition: Annotated[
        str, typer.Option(help="A named acquisition, or a TOML file of one.")
    ] = "batch_b",
    box: Annotated[int, typer.Option(min=24, max=64)] = 40,
    voxel_size: Annotated[float, typer.Option(help="Å.", min=0.5)] = 9.2,
    seed: Seed = 0,
) -> None:
    """Check the simulator's physics on this machine; exits with 1 when a check fails."""
    from rich.console import Console
    from rich.table import Table

    from tomadapt.acquisition import NAMED_ACQUISITIONS, Acquisition
    from tomadapt.simulate.selfcheck import run_checks
    from tomadapt.workflows.config import load_config

    recorded = NAMED_ACQUISITIONS.get(acquisition)
    if recorded is None and not Path(acquisition).suffix and not Path(acquisition).exists():
        one_of("--acquisition", acquisition, (*NAMED_ACQUISITIONS, "a TOML file"))
    if recorded is None:
        recorded = load_config(Path(acquisition), Acquisition)
    checks = run_checks(recorded, box=box, voxel_size_A=voxel_size, seed=seed)
    table = Table("", "check", "measured", "accepted", title=f"{recorded.name}, box {box}")
    for check in checks:
        mark = "[green]pass[/]" if check.passed else "[red]FAIL[/]"
        accepted = f"{check.lowest:g} … {check.highest:g}"
        table.add_row(mark, check.claim, f"{check.measured:.4g}", accepted)
    Console().print(table)
    if not all(check.passed for check in checks):
        raise typer.Exit(1)


@app.command()
def experiment(
    name: Annotated[str, typer.Argument(help="table1, table2, figure3, …; `list` describes all.")],
    scale: Annotated[str, typer.Option(help="smoke, reduced or paper.")] = "smoke",
    data: Annotated[
        Path | None, typer.Option(help="Folder of structures (and of real volumes).")
    ] = None,
    store: Annotated[Path, typer.Option(help="Where runs are kept and shared.")] = Path("runs"),
    out: Annotated[Path, typer.Option("--out", help="Where records and tables go.")] = Path(
        "results"
    ),
    workers: Annotated[int, typer.Option(min=1, help="Processes here (above 1: Dask).")] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask cluster that sees the store.")
    ] = None,
    cell: Annotated[
        list[str] | None, typer.Option(help="table1 only: SOURCE:TARGET SNR; may be repeated.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="table1 only: a method; may be repeated.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, help="table1 only: a seed; may be repeated.")
    ] = None,
    voxel_size: VoxelSize = None,
    contrast: ContrastOption = "measure",
    tables_only: Annotated[
        bool, typer.Option("--tables-only", help="Make the table from the records again.")
    ] = False,
) -> None:
    """Run an experiment of Lin et al. 2019; run again after an interruption to finish it."""
    from importlib import import_module

    from tomadapt.errors import ConfigError
    from tomadapt.experiments import EXPERIMENTS
    from tomadapt.experiments.domains import require_methods
    from tomadapt.experiments.scales import SCALES, Setting
    from tomadapt.runs.cluster import dask_client

    if name == "list":
        for known, about in EXPERIMENTS.items():
            typer.echo(f"{known:<14} {about}")
        return
    one_of("experiment", name, (*EXPERIMENTS, "list"))
    chosen = SCALES[one_of("--scale", scale, tuple(SCALES))]
    module = import_module(f"tomadapt.experiments.{name}")
    only: dict[str, Any] = {}
    if cell or method or seed:
        if name != "table1" or tables_only:
            raise ConfigError(
                "--cell, --method and --seed choose what table1 runs",
                expected="`experiment table1` without --tables-only",
                got=f"`experiment {name}`" + (" --tables-only" if tables_only else ""),
                remedy="leave them out",
            )
        if max(seed or [0]) >= chosen.seeds_marked:
            raise ConfigError(
                f"no seed {max(seed or [0])} at scale {chosen.name}",
                expected=f"0 to {chosen.seeds_marked - 1}",
                remedy="mend --seed",
            )
        require_methods(tuple(method or ()))
        only = {
            "only": module.parse_cells(chosen, cell or ()),
            "methods": tuple(method or ()),
            "seeds": tuple(seed or ()),
        }
    require_one_process()
    if data is not None and not data.is_dir():
        raise ConfigError(
            f"no data folder {data}",
            expected="a folder",
            got="a file" if data.exists() else "nothing there",
            remedy="mend --data",
        )
    sign = known_contrast(contrast)
    setting = Setting(chosen, data, store, out, voxel_size_A=voxel_size, contrast=sign)
    if tables_only:
        if not hasattr(module, "write_table"):
            raise ConfigError(
                f"experiment {name} makes no table from records alone",
                expected="table1, table2 or augmentation",
                remedy="leave --tables-only out: finished runs are not repeated",
            )
        written = module.write_table(setting)
    else:
        with dask_client(workers, scheduler) as client:
            written = module.run(replace(setting, client=client), **only)
    for path in written:
        typer.echo(path)


@app.command()
def benchmark(
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    box: Annotated[int, typer.Option(min=24, max=64)] = 40,
    device: Device = "auto",
) -> None:
    """Measure subtomograms per second of simulation, training and prediction."""
    import json

    from tomadapt.benchmark import benchmark as measure
    from tomadapt.runs.atomic import write_json

    chosen = checked_device(device)
    if json_out is not None:
        require_writable(json_out)
    figures = measure(box=box, device=chosen)
    if json_out is not None:
        write_json(json_out, figures)
    typer.echo(json.dumps(figures, indent=1))


@app.command()
def structures() -> None:
    """List the built-in structures."""
    from tomadapt.structures import BUILTIN

    for name, info in BUILTIN.items():
        typer.echo(f"{name:<14} {info.pdb_id:<6} {info.description}")
    typer.echo(f"{'null':<14} {'-':<6} no macromolecule: noise only")
