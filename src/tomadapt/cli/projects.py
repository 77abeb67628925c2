"""The command that reads what other programs' files say of a project: import."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tomadapt.cli.app import app
from tomadapt.cli.options import (
    checked_device,
    printable,
    require_one_process,
    require_writable,
    warn,
)

if TYPE_CHECKING:
    from tomadapt.project import Project, TomogramEntry


@app.command("import")
def import_command(
    project: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER_OR_STAR",
            help="A project's folder, RELION's STAR file of tomograms or an optimisation set, or a "
            "copick configuration.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="A .toml file.")] = Path("project.toml"),
) -> None:
    """Read tilts, exposure, defocus and optics of each tomogram from the files that exist."""
    from tomadapt.project import import_project, write_project

    require_one_process()
    require_writable(out)
    found = import_project(project)
    write_project(out, found)
    for entry in found.tomograms:
        typer.echo(printable(_line(entry)))
    for note in found.notes:
        typer.echo(printable(note))
    for sentence in _warnings(found):
        warn(sentence)
    count = len(found.tomograms)
    typer.echo(f"{out}: {count} tomogram{'' if count == 1 else 's'} of {found.ecosystem}")


@contextmanager
def naming_import(path: Path) -> Iterator[None]:
    """Where what was given cannot be read and is a project, say in the error what reads it.

    Raises
    ------
    InputError
        In place of the reader's own, when the path is a project of another program.
    """
    from tomadapt.errors import ConfigError, InputError
    from tomadapt.project import program_of

    try:
        yield
    except (ConfigError, InputError) as error:
        program = program_of(path)
        if program is None:
            raise
        raise InputError(
            f"{path} is a project of {program}, and no cubes",
            expected="cubes, a tomogram, or the project.toml of `tomadapt import`",
            got=str(error).partition(". Remedy: ")[0],
            remedy=f"run `tomadapt import {path} --out project.toml`, then "
            "`tomadapt classify project.toml`",
        ) from error


def run_project(
    path: Path,
    shared: Mapping[str, Any],
    out: Path,
    *,
    particles: Path | None,
    strict: bool,
    dry_run: bool,
    device: str,
    workers: int,
    scheduler: str | None,
) -> None:
    """Label all tomograms of a project file; see :mod:`tomadapt.classify.project`.

    Parameters
    ----------
    path
        The project file.
    shared
        Options of :class:`~tomadapt.classify.options.ClassifyOptions` that hold for all tomograms.
    out
        Where the folders of tomograms and the joint files go.
    particles
        A list of the particles of all tomograms.
    strict, dry_run
        Stop at the first tomogram that fails; say what would be done alone.
    workers, scheduler
        See :func:`~tomadapt.runs.cluster.dask_client`.
    device
        Name of the device.

    Raises
    ------
    InputError
        When some tomograms could not be labelled; the others were.
    """
    from tomadapt.classify.options import ClassifyOptions
    from tomadapt.classify.project import classify_project, require_structures
    from tomadapt.classify.project_costs import expected_costs
    from tomadapt.classify.project_files import SUMMARY
    from tomadapt.classify.project_lists import divided_list
    from tomadapt.classify.project_plans import plans
    from tomadapt.errors import InputError
    from tomadapt.project import read_project
    from tomadapt.runs.cluster import dask_client
    from tomadapt.workflows.config import parse

    def options_of(entry: TomogramEntry) -> ClassifyOptions:
        own = {
            "tomogram": entry.volume,
            "voxel_size_A": entry.voxel_size_A,
            "tilt_series_pixel_size_A": entry.tilt_series_pixel_size_A,
            "source": {**shared["source"], "acquisition": entry.acquisition().model_dump()},
        }
        return parse({**shared, **own}, ClassifyOptions, where=f"classify {entry.name}")

    # What holds for all is told once, and not as a fault of each tomogram.
    any_one = {"tomogram": path, "source": {**shared["source"], "acquisition": {"defocus_um": 0.0}}}
    parse({**shared, **any_one}, ClassifyOptions, where="classify")
    project = read_project(path)
    listed = None
    if particles is not None:
        divided = divided_list(particles, [entry.name for entry in project.tomograms])
        listed = divided.of
        if divided.warning:
            warn(divided.warning)
    if dry_run:
        todo = plans(project, out, options_of, listed=listed)
        require_structures(todo)
        for plan in todo:
            again = not plan.done and (plan.folder / SUMMARY).exists()
            state = "done before" if plan.done else "to be labelled" + (" again" if again else "")
            state = state if plan.error is None else f"cannot be labelled: {plan.error}"
            typer.echo(printable(f"{plan.entry.name}: {state}"))
        costs = expected_costs(todo)
        unknown = "what this takes is known as soon as one of the tomograms is labelled"
        typer.echo(unknown if costs is None else costs.text(workers))
        refused = [plan.entry.name for plan in todo if plan.error is not None]
        if refused:
            raise InputError(
                f"{len(refused)} of {len(todo)} tomograms of {path} cannot be labelled",
                expected="volumes, tilts and a defocus of all",
                got=", ".join(refused[:8]),
                remedy="mend what is named above, or leave them out of the project file",
            )
        return
    chosen = checked_device(device)
    with dask_client(workers, scheduler) as client:
        summary = classify_project(
            project,
            out,
            options_of,
            listed=listed,
            strict=strict,
            device=chosen,
            client=client,
            tell=lambda text: typer.echo(printable(text)),
        )
    counts = ", ".join(f"{name} {n}" for name, n in summary["classes"].items())
    labelled = len(summary["tomograms"])
    typer.echo(f"{labelled} of {summary['n_tomograms']} tomograms labelled ({counts})")
    if labelled:
        typer.echo(out / "report.html")
    if summary["failed"]:
        raise InputError(
            f"{len(summary['failed'])} of {summary['n_tomograms']} tomograms of {path} were not "
            "labelled",
            expected="all of them",
            got="; ".join(f"{name}: {why}" for name, why in summary["failed"].items()),
            remedy="mend them or the project file, and run it again: the others are kept",
        )


def _line(entry: TomogramEntry) -> str:
    """What is known of a tomogram, on one line."""
    parts = [
        "no volume" if entry.volume is None else entry.volume.name,
        _number(entry.voxel_size_A, "voxels of {} Å", "no voxel size"),
    ]
    angles = entry.tilt_angles_deg
    if angles is None:
        parts.append("no tilts")
    else:
        parts.append(f"{len(angles)} tilts {angles[0]:g}° to {angles[-1]:g}°")
    parts.append(_number(entry.exposure_per_tilt_e_per_A2, "{} e/Å² a tilt", "no exposure"))
    parts.append(_number(entry.defocus_um, "{} µm", "no defocus"))
    if entry.inverted:
        parts.append("hand inverted")
    if entry.other_volumes:
        parts.append(f"{len(entry.other_volumes)} other volumes")
    return f"{entry.name}: {', '.join(parts)}"


def _number(value: float | None, told: str, without: str) -> str:
    return without if value is None else told.format(f"{value:.4g}")


def _warnings(project: Project) -> list[str]:
    """Contradictions, damage, notes, what is missing and assumed; of all at once if it is."""
    found = [
        f"{entry.name}: {text}"
        for entry in project.tomograms
        for text in (*entry.unreadable, *entry.contradictions, *entry.notes)
    ]
    targets = [entry.name for entry in project.tomograms if entry.defocus_is_target]
    if targets:
        found.append(f"the defocus of {_whose(targets, project)} is the target: none was measured")
    lacking: dict[str, list[str]] = {}
    assumed: dict[str, list[str]] = {}
    for entry in project.tomograms:
        for field in entry.missing:
            lacking.setdefault(field, []).append(entry.name)
        for text in entry.assumed:
            assumed.setdefault(text, []).append(entry.name)
    for names, fields in _by_tomograms(lacking).items():
        found.append(f"missing of {_whose(names, project)}: {', '.join(fields)}")
    found += [f"{_whose(names, project)}: {text}" for text, names in assumed.items()]
    return found


def _whose(names: Sequence[str], project: Project) -> str:
    return "all tomograms" if len(names) == len(project.tomograms) else ", ".join(names)


def _by_tomograms(lacking: dict[str, list[str]]) -> dict[tuple[str, ...], list[str]]:
    """Fields by the tomograms that lack them."""
    grouped: dict[tuple[str, ...], list[str]] = {}
    for field, names in lacking.items():
        grouped.setdefault(tuple(names), []).append(field)
    return grouped
