"""The command from a tomogram to labelled particles: classify."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from tomadapt.cli.app import app
from tomadapt.cli.options import (
    AmplitudeContrast,
    ContrastOption,
    Cs,
    Defocus,
    Device,
    Out,
    Seed,
    TiltRange,
    TiltStep,
    Voltage,
    checked_device,
    holds_cubes,
    known_contrast,
    one_of,
    require_one_process,
    warn_of_overfocus,
)
from tomadapt.cli.projects import naming_import, run_project
from tomadapt.cli.tomograms import (
    Border,
    ListOfTomograms,
    PixelSize,
    Ratio,
    SigmaNm,
    Threshold,
    TiltSeriesPixel,
    TomogramVoxel,
    picking_config,
)


@app.command()
def classify(
    tomogram: Annotated[
        Path,
        typer.Argument(
            metavar="TOMOGRAM|CUBES|PROJECT",
            help="A tomogram (.mrc, .rec, .em, .hdf, OME-Zarr), or cubes: a set, a folder, a stack "
            "(.mrc, .em, .hdf), .npy, .npz, or the .star of 2D tilt stacks; or the project.toml of "
            "`tomadapt import`.",
        ),
    ],
    structures: Annotated[
        list[str],
        typer.Option(help="Names, PDB IDs or files, NAME=FILE to rename; repeat or use commas."),
    ],
    out: Out,
    defocus: Defocus = None,
    tilt_range: TiltRange = None,
    method: Annotated[
        str,
        typer.Option(
            help="auto (likelihood, as structures are known), likelihood, student (many cubes: a "
            "network that learns from the likelihood), ada, target_statistics or source_only."
        ),
    ] = "auto",
    fdr: Annotated[
        float | None,
        typer.Option(help="Label up to this false-discovery rate of each structure, say 0.05."),
    ] = None,
    particles: Annotated[
        Path | None,
        typer.Option(help="A list: STAR, Dynamo .tbl, JSON, CSV, …; picked if not given."),
    ] = None,
    tilt_step: TiltStep = None,
    voltage: Voltage = None,
    cs: Cs = None,
    amplitude_contrast: AmplitudeContrast = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where structures are looked up before a download.")
    ] = None,
    sigma_nm: SigmaNm = None,
    ratio: Ratio = 1.1,
    threshold: Threshold = None,
    defocus_spread: Annotated[float, typer.Option(min=0, help="µm.")] = 0.5,
    snr_range: Annotated[
        tuple[float, float], typer.Option(help="Of the source, drawn log-uniformly.")
    ] = (0.01, 0.3),
    per_class: Annotated[int, typer.Option(min=6, help="Per class and defocus.")] = 60,
    box: Annotated[int | None, typer.Option(min=24, max=64, help="Voxels; chosen if none.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Of source training.")] = 20,
    adapt_epochs: Annotated[int, typer.Option(min=1)] = 10,
    judged: Annotated[
        int, typer.Option(min=60, help="Cubes that the likelihood labels for a student.")
    ] = 1500,
    match_noise: Annotated[
        bool,
        typer.Option(
            "--match-noise", help="Train on noise with the power spectrum between the particles."
        ),
    ] = False,
    border: Border = "pad",
    pixel_size: PixelSize = None,
    tomograms: ListOfTomograms = None,
    voxel_size: TomogramVoxel = None,
    contrast: ContrastOption = "measure",
    tilt_series_pixel_size: TiltSeriesPixel = None,
    also: Annotated[
        list[str] | None, typer.Option(help="Also write csv, copick or ome-zarr; repeat.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Where source models are kept between runs.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Of a project: stop at the first that fails.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Of a project: processes here (above 1: Dask).")
    ] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="Of a project: a Dask cluster that sees all files.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Of a project: say what would be done, and stop.")
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Label the particles of tomograms, or cubes: by likelihood, or by an adapted network."""
    from tomadapt.classify.options import METHODS
    from tomadapt.errors import ConfigError
    from tomadapt.structures.lookup import cache_folder

    require_one_process()
    chosen = one_of("--method", method, ("auto", *METHODS))
    chosen = "likelihood" if chosen == "auto" else chosen
    if fdr is not None and chosen not in ("likelihood", "student"):
        raise ConfigError(
            "--fdr would have no effect",
            expected="--method likelihood or student, which know false-discovery rates",
            got=f"--method {chosen}",
            remedy="leave one of them out",
        )
    if fdr is not None and not 0 < fdr < 1:
        raise ConfigError(
            "--fdr", expected="between 0 and 1", got=f"{fdr:g}", remedy="--fdr 0.05 is 5 %"
        )
    if defocus is not None and chosen not in ("likelihood", "student"):
        warn_of_overfocus(defocus)  # those two say it among their own warnings
    stated = {
        "tilt_range_deg": None if tilt_range is None else tuple(sorted(tilt_range)),
        "tilt_step_deg": tilt_step,
        "defocus_um": defocus,
        "voltage_kv": voltage,
        "spherical_aberration_mm": cs,
        "amplitude_contrast": amplitude_contrast,
    }
    asked: dict[str, Any] = {
        "--particles": particles,
        "--sigma-nm": sigma_nm,
        "--threshold": threshold,
        "--tomograms": tomograms,
        "--pixel-size": pixel_size,
        "--also": also,
        "--tilt-series-pixel-size": tilt_series_pixel_size,
        "--ratio": None if ratio == 1.1 else ratio,
    }
    classes = _classes(structures)
    common = {
        "voxel_size_A": voxel_size,
        "contrast": known_contrast(contrast),
        "method": chosen,
        "fdr": fdr,
        "adapt": {"epochs": adapt_epochs, "batch_size": 32},
    }
    source = {
        "classes": classes,
        "folder": folder,
        "defocus_spread_um": defocus_spread,
        "snr_range": snr_range,
        "per_class": per_class,
        "box": box,
        "epochs": epochs,
        "seed": seed,
    }
    training = {
        "--per-class": per_class != 60,
        "--epochs": epochs != 20,
        "--adapt-epochs": adapt_epochs != 10,
        "--snr-range": tuple(snr_range) != (0.01, 0.3),
        "--defocus-spread": defocus_spread != 0.5,
        "--match-noise": match_noise,
        "--cache": cache is not None,
        "--judged": judged != 1500 and chosen != "student",
    }
    if chosen == "student":
        idle = ("--adapt-epochs", "--match-noise", "--snr-range", "--cache")
        _refuse(
            {name: training[name] for name in idle},
            "particles that are simulated like the cubes: SNR and noise are measured, none is kept",
        )
        if not holds_cubes(tomogram):
            raise ConfigError(
                "--method student labels cubes",
                expected="a set, a folder or a stack of cubes",
                got=f"{tomogram}, a tomogram",
                remedy="extract its particles first, or use --method likelihood: it labels the "
                "particles of a tomogram in a minute or two",
            )
    _refuse(
        training if chosen == "likelihood" else {"--judged": training["--judged"]},
        "a --method that trains: only student judges some cubes first, and the likelihood does not "
        "train",
    )
    models = cache or cache_folder() / "models"
    if tomogram.suffix == ".toml":
        known = {
            "--tilt-range": tilt_range,
            "--tilt-step": tilt_step,
            "--defocus": defocus,
            "--voltage": voltage,
            "--cs": cs,
            "--amplitude-contrast": amplitude_contrast,
            "--voxel-size": voxel_size,
            "--tilt-series-pixel-size": tilt_series_pixel_size,
        }
        _refuse(known, f"what the project {tomogram} says of each tomogram: edit that file")
        one_list = {n: asked[n] for n in asked if n not in ("--also", "--particles", *known)}
        _refuse(one_list, f"options of one tomogram, and {tomogram} is a project")
        if chosen != "likelihood":
            raise ConfigError(
                f"--method {chosen} labels one tomogram",
                expected="--method likelihood for a project",
                got=f"{tomogram}, a project",
                remedy="leave --method out, or label its tomograms one by one",
            )
        shared = {
            "border": one_of("--border", border, ("pad", "drop")),
            "also": [one_of("--also", name, ("csv", "copick", "ome-zarr")) for name in also or []],
            "source": source,
            **common,
        }
        run_project(
            tomogram,
            shared,
            out,
            particles=particles,
            strict=strict,
            dry_run=dry_run,
            device=device,
            workers=workers,
            scheduler=scheduler,
        )
        return
    of_project = {
        "--strict": strict,
        "--dry-run": dry_run,
        "--workers": workers > 1,
        "--scheduler": scheduler,
    }
    _refuse(of_project, "options of a project")
    if holds_cubes(tomogram):
        asked |= {"--border": None if border == "pad" else border, "--box": box}
        asked["--match-noise"] = match_noise
        _refuse(asked, f"options of a tomogram, and {tomogram} holds cubes")
        values: dict[str, Any] = {
            "cubes": tomogram,
            "classes": classes,
            "recording": stated,
            "folder": folder,
            "judged": judged,
            "seed": seed,
            **common,
        }
        if chosen != "likelihood":
            values["source"] = source | {"acquisition": {"defocus_um": defocus or 0.0}}
        _cubes(values, out, models, checked_device(device))
        return
    summary = _tomogram(
        {
            "tomogram": tomogram,
            "particles": particles,
            "picking": _picking(particles, sigma_nm, ratio, threshold, chosen),
            "border": one_of("--border", border, ("pad", "drop")),
            "also": [one_of("--also", name, ("csv", "copick", "ome-zarr")) for name in also or []],
            "tilt_series_pixel_size_A": tilt_series_pixel_size,
            "pixel_size_A": pixel_size,
            "tomograms_star": tomograms,
            "match_noise": match_noise,
            "source": source | {"acquisition": _acquisition(stated)},
            **common,
        },
        asked,
        out,
        models,
        checked_device(device),
    )
    counts = _told(summary)
    typer.echo(f"{summary['n_labelled']} labelled ({counts}), {summary['n_rejected']} rejected")
    typer.echo(out / "report.html")


def _tomogram(
    values: dict[str, Any], asked: dict[str, Any], out: Path, cache: Path, device: str
) -> dict[str, Any]:
    from tomadapt.classify.judged import classify_by_likelihood
    from tomadapt.classify.options import ClassifyOptions
    from tomadapt.classify.run import classify as by_network
    from tomadapt.workflows.config import parse

    listed = asked["--particles"] is not None
    names: tuple[str, ...] = ("--pixel-size", "--tomograms")
    if listed:
        names = ("--sigma-nm", "--threshold", "--ratio", "--tilt-series-pixel-size")
    idle = {name: asked[name] for name in names}
    _refuse(idle, "options of picking without --particles, of a list with it")
    options = parse(values, ClassifyOptions, where="classify")
    if options.method == "likelihood":
        return classify_by_likelihood(options, out, device=device)
    return by_network(options, out, cache=cache, device=device)


def _cubes(values: dict[str, Any], out: Path, cache: Path, device: str) -> None:
    from tomadapt.classify.cubes import CubesOptions, classify_cubes, classify_cubes_by_network
    from tomadapt.classify.student import classify_cubes_by_student
    from tomadapt.tomograms.relion_stacks import open_tilt_stacks
    from tomadapt.workflows.config import parse

    options = parse(values, CubesOptions, where="classify")
    whole: AbstractContextManager[None] = naming_import(options.cubes)
    if options.cubes.suffix == ".star":  # other faults are none of the project's
        with whole:
            open_tilt_stacks(options.cubes)
        whole = nullcontext()
    with whole:
        if options.method == "likelihood":
            summary = classify_cubes(options, out, device=device)
        elif options.method == "student":
            summary = classify_cubes_by_student(options, out, device=device)
        else:
            summary = classify_cubes_by_network(options, out, cache=cache, device=device)
    counts = _told(summary)
    typer.echo(f"{summary['n_labelled']} of {summary['n_particles']} cubes labelled ({counts})")
    typer.echo(out / "labels.csv")
    if (out / "report.html").exists():
        typer.echo(out / "report.html")


def _told(summary: dict[str, Any]) -> str:
    """Say once what every decision rests on, and give the number of particles of each class.

    Warnings have been said already.
    """
    for name, sentence in summary["assumed"].items():
        if sentence not in summary["warnings"]:
            typer.echo(f"{name}: {sentence}")
    return ", ".join(f"{name} {n}" for name, n in summary["classes"].items() if name != "null")


def _refuse(options: Mapping[str, object], expected: str) -> None:
    """Refuse options that would have no effect: those that are neither None nor False."""
    from tomadapt.errors import ConfigError

    given = [name for name, value in options.items() if value is not None and value is not False]
    if given:
        raise ConfigError(
            f"{' and '.join(given)} would have no effect",
            expected=expected,
            got=" and ".join(given),
            remedy="leave them out",
        )


def _picking(
    particles: Path | None,
    sigma_nm: float | None,
    ratio: float,
    threshold: float | None,
    method: str,
) -> dict[str, Any] | None:
    """Options of the difference of Gaussians, which the networks' particles are picked with."""
    from tomadapt.errors import ConfigError

    if particles is not None or (sigma_nm is None and threshold is None and ratio == 1.1):
        return None
    if method == "likelihood":
        raise ConfigError(
            "--sigma-nm, --threshold and --ratio would have no effect",
            expected="a network's --method, whose particles are picked by difference of Gaussians",
            got="--method likelihood, which picks each structure by a matched filter",
            remedy="leave them out, or give --particles picks.star of `tomadapt pick`",
        )
    if sigma_nm is None:
        raise ConfigError(
            "--threshold and --ratio need --sigma-nm",
            expected="σ in nm",
            remedy="give the particles' diameter in nm divided by 3.5",
        )
    return picking_config(sigma_nm, ratio, threshold, None).model_dump()


def _acquisition(stated: dict[str, Any]) -> dict[str, Any]:
    """What is stated of the acquisition; tilts and defocus must be."""
    from tomadapt.errors import ConfigError

    missing = [
        option
        for option, name in (("--tilt-range", "tilt_range_deg"), ("--defocus", "defocus_um"))
        if stated[name] is None
    ]
    if missing:
        raise ConfigError(
            f"a tomogram needs {' and '.join(missing)}",
            expected="--tilt-range FIRST LAST in degrees, --defocus in µm",
            got="neither" if len(missing) == 2 else f"no {missing[0]}",
            remedy="state them; a defocus that is off by 1 µm does little harm",
        )
    first, last = stated["tilt_range_deg"]
    step = 3.0 if stated["tilt_step_deg"] is None else stated["tilt_step_deg"]
    names = ("defocus_um", "voltage_kv", "spherical_aberration_mm", "amplitude_contrast")
    said = {name: stated[name] for name in names if stated[name] is not None}
    tilts = {"first": first, "last": last, "step": step}
    return {"name": "stated", "amplitude_contrast": 0.07, "tilt_angles_deg": tilts, **said}


def _classes(structures: list[str]) -> dict[str, str]:
    """Label → structure, of ``a,b`` and ``label=file``."""
    from tomadapt.errors import ConfigError
    from tomadapt.simulate.dataset import label_of

    found: dict[str, str] = {}
    for text in ",".join(structures).split(","):
        name, separator, structure = text.strip().partition("=")
        label, spec = (name, structure) if separator else (label_of(name), name)
        if not label or not spec:
            raise ConfigError(
                "--structures", expected="NAME or NAME=FILE", got=repr(text), remedy="mend it"
            )
        if label in found:
            raise ConfigError(
                f"--structures names {label} twice",
                expected="each class once",
                remedy="leave one out, or rename it: OTHER_NAME=FILE",
            )
        found[label] = spec
    return found
