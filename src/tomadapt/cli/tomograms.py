"""Commands that begin with a tomogram or its tilt images: pick, extract, reconstruct."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tomadapt.cli.app import app
from tomadapt.cli.options import (
    ContrastOption,
    Out,
    Seed,
    known_contrast,
    one_of,
    require_writable,
    warn,
)

if TYPE_CHECKING:
    from tomadapt.data.tomogram import Tomogram
    from tomadapt.io.particle_lists import ParticleList
    from tomadapt.tomograms.picking import PickingConfig

TomogramFile = Annotated[
    Path, typer.Argument(metavar="TOMOGRAM", help=".mrc, .rec, .em, .hdf or OME-Zarr.")
]
TomogramVoxel = Annotated[
    float | None,
    typer.Option("--voxel-size", help="Å; counts before what the tomogram's header says."),
]
SigmaNm = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        help="σ of the narrower Gaussian in nm: the particles' diameter / 3.5. If not given, 5 in "
        "pick, and from the structures in classify.",
    ),
]
Ratio = Annotated[float, typer.Option(help="K: the wider Gaussian's σ over the narrower's.")]
Threshold = Annotated[
    float | None,
    typer.Option(help="In robust deviations of the background; 4 if not given.", min=0),
]
ListOfTomograms = Annotated[
    Path | None,
    typer.Option("--tomograms", help="RELION's tomograms.star, for coordinates from centres."),
]
PixelSize = Annotated[
    float | None,
    typer.Option(help="Å of the pixels that the list's coordinates count in, if it does not say."),
]
Border = Annotated[
    str, typer.Option(help="Boxes that reach out of the tomogram: pad (with the mean) or drop.")
]


TiltSeriesPixel = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        help="Å of the tilt series' pixels, in which RELION counts; the tomogram's if not given.",
    ),
]


@app.command("pick")
def pick_command(
    tomogram: TomogramFile,
    out: Annotated[Path, typer.Option("--out", help="A .star file.")],
    sigma_nm: SigmaNm = None,
    ratio: Ratio = 1.1,
    threshold: Threshold = None,
    distance_nm: Annotated[
        float | None, typer.Option(help="Least distance of two picks in nm; σ if not given.")
    ] = None,
    tilt_series_pixel_size: TiltSeriesPixel = None,
    null: Annotated[
        int,
        typer.Option(min=0, help="Also write so many positions far from picks, for class null."),
    ] = 0,
    seed: Seed = 0,
    voxel_size: TomogramVoxel = None,
    contrast: ContrastOption = "measure",
    workers: Annotated[int, typer.Option(min=1, help="Blocks at a time.")] = 1,
) -> None:
    """Find particles by difference of Gaussians (Pei et al. 2016), without a template."""
    import numpy as np

    from tomadapt.io.particle_lists import write_star
    from tomadapt.tomograms.background import random_background
    from tomadapt.tomograms.picking import FAINT, Picks, pick
    from tomadapt.tomograms.positions import picked_positions

    settings = picking_config(sigma_nm, ratio, threshold, distance_nm)
    opened = _open(tomogram, voxel_size)
    require_writable(out)
    signed = _signed(opened, tomogram, contrast, settings)
    picks = pick(signed, settings, workers=workers)

    def positions(found: Picks) -> ParticleList:
        listed = picked_positions(signed, found, pixel_size_A=tilt_series_pixel_size)
        return listed.particles

    empty = None
    if null:
        # Faint particles too are avoided: what a lower threshold finds.
        every = pick(signed, settings.model_copy(update={"threshold": FAINT}), workers=workers)
        distance = 4 * settings.sigma_A
        empty = random_background(signed, every, count=null, distance_A=distance, seed=seed)
    write_star(out, positions(picks))
    typer.echo(f"{out}: {len(picks)} particles")
    if empty is not None:
        path = out.with_name(f"{out.stem}_null.star")
        background = Picks(empty, np.zeros(null), 0.0)
        write_star(path, positions(background))
        typer.echo(f"{path}: {null} positions of no particle")


@app.command("extract")
def extract_command(
    tomogram: TomogramFile,
    particles: Annotated[Path, typer.Option(help="A list: STAR, Dynamo .tbl, JSON, CSV, …")],
    out: Out,
    box: Annotated[int, typer.Option(min=8, help="Side of the cubes in voxels.")] = 40,
    cube_voxel_size: Annotated[
        float | None,
        typer.Option(min=0.1, help="Å of the cubes' voxels; the tomogram's if not given."),
    ] = None,
    border: Border = "pad",
    smoothing_nm: Annotated[
        float, typer.Option(min=0, help="σ in nm of a Gaussian that smooths the cubes.")
    ] = 0.0,
    pixel_size: PixelSize = None,
    tomograms: ListOfTomograms = None,
    voxel_size: TomogramVoxel = None,
    contrast: ContrastOption = "measure",
) -> None:
    """Cut particles out of a tomogram: a folder that adapt and predict take as a target."""
    from tomadapt.io.extracted import ExtractedCard
    from tomadapt.tomograms.extracting import extract_to_folder, made_with
    from tomadapt.tomograms.listed import listed_with_sign
    from tomadapt.tomograms.positions import require_elsewhere
    from tomadapt.tomograms.wedge import orientation_fault, tomogram_wedge

    kind: Any = one_of("--border", border, ("pad", "drop"))
    require_elsewhere(particles, out)
    opened = _open(tomogram, voxel_size)
    size = opened.voxel_size_A if cube_voxel_size is None else cube_voxel_size
    signed, positions, sign = listed_with_sign(
        particles,
        opened,
        contrast=known_contrast(contrast),
        # A box is some 1.25 diameters wide; a smaller radius might be that of a cavity.
        radius_A=0.4 * box * size,
        pixel_size_A=pixel_size,
        tomograms=tomograms,
    )
    if sign.warning:
        warn(sign.warning)
    if fault := orientation_fault(tomogram_wedge(opened)):
        warn("; ".join(fault))
    for note in positions.notes:
        warn(note)
    made = made_with(
        {"particles": particles, "tomograms": tomograms},
        positions=positions,
        tomogram=tomogram,
        box=box,
        cube_voxel_size=cube_voxel_size,
        border=kind,
        smoothing_nm=smoothing_nm,
        pixel_size=pixel_size,
        voxel_size=voxel_size,
        contrast=contrast,
    )
    kept, _ = extract_to_folder(
        signed,
        positions,
        out,
        ExtractedCard(
            box=box,
            voxel_size_A=size,
            tomogram=str(tomogram),
            contrast=sign.text,
            smoothing_sigma_A=10 * smoothing_nm,
            made_with=made,
        ),
        border=kind,
    )
    for sentence in positions.assumed.values():
        if sentence not in positions.notes:
            typer.echo(sentence)
    typer.echo(f"{out}: {len(kept.rows)} particles, {len(kept.rejected)} rejected")


@app.command()
def reconstruct(
    particles: Annotated[
        Path, typer.Argument(help="RELION's optimisation set, or the STAR file of the particles.")
    ],
    out: Out,
    tomograms: ListOfTomograms = None,
    contrast: ContrastOption = "measure",
    box: Annotated[
        int | None, typer.Option(min=8, help="Voxels; that of the images if not given.")
    ] = None,
    mirror: Annotated[
        bool,
        typer.Option("--mirror", help="The tilt angles have the wrong sign: mirror along z."),
    ] = False,
) -> None:
    """Make cubes of CTF-premultiplied 2D tilt stacks (RELION 5, WarpTools): a target folder."""
    from tomadapt.tomograms.extracting import reconstruct_to_folder

    made = reconstruct_to_folder(
        particles,
        out,
        tomograms=tomograms,
        contrast=known_contrast(contrast),
        box=box,
        mirror=mirror,
    )
    typer.echo(f"{out}: {len(made.kept)} particles, {len(made.dropped)} rejected")


def picking_config(
    sigma_nm: float | None, ratio: float, threshold: float | None, distance_nm: float | None
) -> PickingConfig:
    from tomadapt.tomograms.picking import PickingConfig
    from tomadapt.workflows.config import parse

    values: dict[str, Any] = {"ratio": ratio, "threshold": threshold}
    if sigma_nm is not None:
        values["sigma_A"] = 10 * sigma_nm
    if distance_nm is not None:
        values["distance_A"] = 10 * distance_nm
    return parse(values, PickingConfig, where="picking")


def _open(path: Path, voxel_size: float | None) -> Tomogram:
    from tomadapt.inputs.tomogram import open_tomogram

    # Its sign as it is in the file: what it means is measured or stated next.
    return open_tomogram(path, contrast="positive", voxel_size_A=voxel_size)


def _signed(tomogram: Tomogram, path: Path, contrast: str, picking: PickingConfig) -> Tomogram:
    from tomadapt.tomograms.contrast import blob_contrast, decide_sign

    measured = blob_contrast(tomogram, sigma_A=picking.sigma_A)
    sign = decide_sign(known_contrast(contrast), measured, path)
    if sign.warning:
        warn(sign.warning)
    return replace(tomogram, sign=sign.sign)
