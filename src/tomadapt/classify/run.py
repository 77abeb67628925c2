"""One tomogram: its sign and positions, cubes, a matched source, adaptation, labels, a report.

Run again, it goes on: sets, source model and adapted model are taken from where they were left,
while positions and cubes, which take seconds, are made anew and must be the same.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tomadapt.classify.matched_source import (
    Geometry,
    choose_geometry,
    matched_source,
)
from tomadapt.classify.networks import predict_by_networks
from tomadapt.classify.options import NETWORKS, ClassifyOptions, require_method
from tomadapt.classify.results import Findings, write_results
from tomadapt.data.subtomograms import Subtomograms
from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import ConfigError
from tomadapt.inputs.particles import ArrayVolumes
from tomadapt.inputs.tomogram import open_tomogram
from tomadapt.io.extracted import ExtractedCard
from tomadapt.io.ome_zarr import require_zarr
from tomadapt.learn.engine import make_fabric
from tomadapt.runs.heard import heard
from tomadapt.runs.own_folder import make_own, require_own
from tomadapt.runs.stages import StageClock
from tomadapt.tomograms.background import random_background
from tomadapt.tomograms.contrast import Sign, blob_contrast, decide_sign
from tomadapt.tomograms.extracting import extract_to_folder
from tomadapt.tomograms.extraction import extract
from tomadapt.tomograms.listed import listed_with_sign
from tomadapt.tomograms.picking import PickingConfig, pick, sigma_for_A
from tomadapt.tomograms.positions import (
    Positions,
    picked_positions,
    require_elsewhere,
)
from tomadapt.tomograms.wedge import compare_with_stated, tomogram_wedge

BACKGROUND_CUBES = 64
"""Positions between particles whose mean power is that of noise."""
FEWEST_PARTICLES = 8
"""Adaptation to fewer makes no sense: batches and statistics would rest on single particles."""


def classify(
    options: ClassifyOptions,
    out: Path,
    *,
    cache: Path,
    device: str = "auto",
) -> dict[str, Any]:
    """Label the particles of a tomogram.

    Parameters
    ----------
    options
        What is asked for.
    out
        Where ``particles.star``, ``rejected.star``, ``report.html`` and ``summary.json`` go.
    cache
        Where source models are kept between runs.
    device
        See :func:`tomadapt.learn.engine.make_fabric`.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    ConfigError
        When the sign of the density can neither be measured nor is stated, or options do not fit.
    InputError
        When a file is missing or damaged, or there are too few particles.
    MismatchError
        When voxel sizes differ, or the folder holds another run.
    """
    require_method(options.method, NETWORKS)
    wanted = options.model_dump(mode="json", exclude={"also", "fdr", "method"})  # may be changed
    require_own(out, wanted)
    require_elsewhere(options.particles, out)
    if "ome-zarr" in options.also:
        require_zarr(out / "particles.zarr")
    clock = StageClock(out / "stages.json")
    fabric = make_fabric(device)
    told: list[str] = []
    with clock.stage("tomogram"), heard(told):
        tomogram = open_tomogram(
            options.tomogram, contrast="positive", voxel_size_A=options.voxel_size_A
        )
        geometry = choose_geometry(options.source, tomogram.voxel_size_A)
        wedge = tomogram_wedge(tomogram)
        wedge_warning = compare_with_stated(wedge, options.source.acquisition)
    with clock.stage("positions"), heard(told):
        tomogram, positions, contrast = find_positions(tomogram, options, geometry)
    with clock.stage("extract"), heard(told):
        acquisition = options.source.acquisition
        positions, volumes = extract_to_folder(
            tomogram,
            positions,
            out / "subtomograms",
            ExtractedCard(
                box=geometry.box,
                voxel_size_A=geometry.voxel_size_A,
                tomogram=str(options.tomogram),
                contrast=contrast.text,
                acquisition=acquisition,
            ),
            border=options.border,
            fewest=FEWEST_PARTICLES,
        )
        cubes = ArrayVolumes(volumes, geometry.voxel_size_A, 1, acquisition)
        target = Subtomograms(cubes)
    make_own(out, wanted)
    # Before hours may be spent on what is doubtful.
    early = [text for text in (contrast.warning, wedge_warning, *positions.notes) if text]
    for text in early:
        warnings.warn(text, stacklevel=2)
    with clock.stage("source"):
        source = matched_source(
            options.source,
            geometry,
            cache,
            fabric=fabric,
            like=_background(tomogram, positions, geometry) if options.match_noise else None,
        )
    adapt = options.adapt.model_copy(update={"seed": options.source.seed})
    labelled = predict_by_networks(source, target, adapt, out, fabric=fabric, clock=clock)
    findings = Findings(
        options=options,
        tomogram=tomogram,
        geometry=geometry,
        contrast=contrast,
        preference=labelled.preference,
        wedge=wedge,
        wedge_warning=wedge_warning,
        positions=positions,
        proportions=labelled.proportions,
        predictions=labelled.predictions,
        source=source,
        adapted=labelled.adapted,
        target=target,
        told=tuple(told),
    )
    with clock.stage("report"):
        summary = write_results(findings, out, seconds=clock.records)
    for text in findings.warnings:
        if text not in (*told, *early):
            warnings.warn(text, stacklevel=2)
    return summary


def find_positions(
    tomogram: Tomogram,
    options: ClassifyOptions,
    geometry: Geometry,
) -> tuple[Tomogram, Positions, Sign]:
    """Decide the sign of the density, and where the particles are.

    Returns
    -------
    tomogram
        The same with its sign.
    positions
        Picked or listed.
    sign
        How it was found.

    Raises
    ------
    ConfigError
        When the sign is to be measured and cannot be.
    InputError
        When nothing is picked, or as for the list.
    """
    if options.particles is None:
        config = options.picking or PickingConfig(sigma_A=sigma_for_A(geometry.mean_diameter_A))
        measured = blob_contrast(tomogram, sigma_A=config.sigma_A)
        sign = decide_sign(options.contrast, measured, options.tomogram)
        tomogram = replace(tomogram, sign=sign.sign)
        return tomogram, _picked(tomogram, config, options), sign
    return listed_with_sign(
        options.particles,
        tomogram,
        contrast=options.contrast,
        radius_A=geometry.mean_diameter_A / 2,
        pixel_size_A=options.pixel_size_A,
        tomograms=options.tomograms_star,
    )


def _picked(tomogram: Tomogram, config: PickingConfig, options: ClassifyOptions) -> Positions:
    picks = pick(tomogram, config)
    return picked_positions(tomogram, picks, pixel_size_A=options.tilt_series_pixel_size_A)


def _background(tomogram: Tomogram, positions: Positions, geometry: Geometry) -> Subtomograms:
    """Cubes from between the particles, as far from them as there is room for.

    Raises
    ------
    ConfigError
        When there is no room, even with particles reaching into the cubes.
    """
    radius_A = geometry.mean_diameter_A / 2
    listed = positions.particles.coordinates_A
    known = listed[np.isfinite(listed).all(axis=1)]
    half_A = geometry.box * geometry.voxel_size_A / 2
    for reach in (1.0, 0.5, 0.0):  # of the box's half: how much of a cube is free of particles
        try:
            places = random_background(
                tomogram,
                known,
                count=BACKGROUND_CUBES,
                distance_A=radius_A + reach * half_A,
                border_A=min(half_A, float(tomogram.last_A.min()) / 2),
            )
            break
        except ConfigError:
            if reach == 0:
                raise
    cubes = extract(tomogram, places, box=geometry.box, voxel_size_A=geometry.voxel_size_A)
    return Subtomograms(ArrayVolumes(cubes.volumes, geometry.voxel_size_A))
