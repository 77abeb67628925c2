"""The command from a tomogram to labelled particles: classify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tomadapt.cli.app import app
from tomadapt.cli.options import (
    ContrastOption,
    Device,
    Out,
    Seed,
    checked_device,
    one_of,
    require_one_process,
    warn_of_overfocus,
)
from tomadapt.cli.tomograms import (
    Border,
    ListOfTomograms,
    PixelSize,
    Ratio,
    SigmaNm,
    Threshold,
    TiltSeriesPixel,
    TomogramFile,
    TomogramVoxel,
    known_contrast,
    picking_config,
)


@app.command()
def classify(
    tomogram: TomogramFile,
    structures: Annotated[
        list[str],
        typer.Option(help="Names, PDB IDs or files, NAME=FILE to rename; repeat or use commas."),
    ],
    defocus: Annotated[
        float, typer.Option(min=-30, max=30, help="µm (not Å), positive = underfocus.")
    ],
    tilt_range: Annotated[
        tuple[float, float], typer.Option(help="First and last tilt in degrees.")
    ],
    out: Out,
    particles: Annotated[
        Path | None,
        typer.Option(help="STAR, Dynamo .tbl, copick JSON or CSV; picked if not given."),
    ] = None,
    tilt_step: Annotated[float, typer.Option(help="Degrees.", min=0.1)] = 3.0,
    voltage: Annotated[float, typer.Option(min=50, max=1500, help="kV.")] = 300.0,
    cs: Annotated[float, typer.Option(min=0, max=20, help="Spherical aberration in mm.")] = 2.7,
    amplitude_contrast: Annotated[float, typer.Option(min=0, max=1)] = 0.07,
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
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Label the particles of a tomogram: pick, extract, simulate, train, adapt, predict, report."""
    from tomadapt.classify.options import ClassifyOptions
    from tomadapt.classify.run import classify as run
    from tomadapt.config import parse
    from tomadapt.errors import ConfigError
    from tomadapt.structures.lookup import cache_folder

    require_one_process()
    asked = {"--sigma-nm": sigma_nm, "--threshold": threshold, "--tomograms": tomograms}
    asked["--pixel-size"] = pixel_size
    idle = ("--sigma-nm", "--threshold") if particles else ("--pixel-size", "--tomograms")
    if given := [name for name in idle if asked[name] is not None]:
        raise ConfigError(
            f"{' and '.join(given)} would have no effect",
            expected="options of picking without --particles, of a list with it",
            got="--particles" if particles else "no --particles",
            remedy="leave them out",
        )
    picking = None
    if particles is None and (sigma_nm is not None or threshold is not None or ratio != 1.1):
        if sigma_nm is None:
            raise ConfigError(
                "--threshold and --ratio need --sigma-nm",
                expected="σ in nm",
                remedy="give the particles' diameter in nm divided by 3.5",
            )
        picking = picking_config(sigma_nm, ratio, threshold, None).model_dump()
    warn_of_overfocus(defocus)
    first, last = sorted(tilt_range)
    acquisition = {
        "name": "stated",
        "defocus_um": defocus,
        "voltage_kv": voltage,
        "spherical_aberration_mm": cs,
        "amplitude_contrast": amplitude_contrast,
        "tilt_angles_deg": {"first": first, "last": last, "step": tilt_step},
    }
    options = parse(
        {
            "tomogram": tomogram,
            "particles": particles,
            "picking": picking,
            "voxel_size_A": voxel_size,
            "contrast": known_contrast(contrast),
            "border": one_of("--border", border, ("pad", "drop")),
            "also": [one_of("--also", name, ("csv", "copick", "ome-zarr")) for name in also or []],
            "tilt_series_pixel_size_A": tilt_series_pixel_size,
            "pixel_size_A": pixel_size,
            "tomograms_star": tomograms,
            "match_noise": match_noise,
            "adapt": {"epochs": adapt_epochs, "batch_size": 32},
            "source": {
                "classes": _classes(structures),
                "folder": folder,
                "acquisition": acquisition,
                "defocus_spread_um": defocus_spread,
                "snr_range": snr_range,
                "per_class": per_class,
                "box": box,
                "epochs": epochs,
                "seed": seed,
            },
        },
        ClassifyOptions,
        where="classify",
    )
    summary = run(
        options, out, cache=cache or cache_folder() / "models", device=checked_device(device)
    )
    counts = ", ".join(f"{name} {n}" for name, n in summary["classes"].items() if name != "null")
    typer.echo(f"{summary['n_labelled']} labelled ({counts}), {summary['n_rejected']} rejected")
    typer.echo(out / "report.html")


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
