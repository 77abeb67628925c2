"""A tomogram, labelled by the likelihood: candidates, cubes, verdicts, files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.classify.find import CleanCubes, Finder, overlaps
from tomadapt.classify.matched_source import Geometry, choose_geometry
from tomadapt.classify.options import ClassifyOptions, require_method
from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import ConfigError
from tomadapt.inputs.tomogram import open_tomogram
from tomadapt.io.extracted import ExtractedCard
from tomadapt.io.ome_zarr import require_zarr
from tomadapt.judge.judge import JudgeOptions, judge
from tomadapt.judge.noise import Noise
from tomadapt.judge.rivals import Hypothesis, wanted_structures
from tomadapt.judge.verdicts import Verdicts
from tomadapt.learn.engine import make_fabric
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.runs.heard import heard
from tomadapt.runs.own_folder import make_own, require_own
from tomadapt.runs.progress import StageBars
from tomadapt.runs.stages import StageClock
from tomadapt.tomograms.contrast import Sign
from tomadapt.tomograms.extracting import extract_to_folder
from tomadapt.tomograms.matched_filter import Level
from tomadapt.tomograms.positions import Positions, require_elsewhere
from tomadapt.tomograms.wedge import WedgeEstimate, compare_with_stated, tomogram_wedge


@dataclass(frozen=True, eq=False)
class JudgedTomogram:
    """All that was found out about a tomogram by the likelihood.

    Attributes
    ----------
    options, tomogram, geometry
        What was worked with.
    contrast
        How the sign of the density was found.
    wedge, wedge_warning
        The tilts that the spectrum shows, and where they differ from the stated ones.
    positions
        Of the particles that have a cube, in its order.
    volumes
        (n, d, d, d) their cubes.
    verdicts
        What the judge says of each.
    duplicates
        Place of a particle → that of the better one it overlaps with.
    refined_A
        (n, 3) coordinates after alignment.
    n_maxima
        How many maxima the matched filters had; 0 for a list.
    told
        What was warned of when files were opened and cubes cut out.
    """

    options: ClassifyOptions
    tomogram: Tomogram
    geometry: Geometry
    contrast: Sign
    wedge: WedgeEstimate
    wedge_warning: str | None
    positions: Positions
    volumes: NDArray[np.float32]
    verdicts: Verdicts
    duplicates: Mapping[int, int]
    refined_A: NDArray[np.float64]
    n_maxima: int
    told: tuple[str, ...] = ()


def classify_by_likelihood(
    options: ClassifyOptions, out: Path, *, device: str = "auto"
) -> dict[str, Any]:
    """Label the particles of a tomogram by what explains them best.

    Parameters
    ----------
    options
        What is asked for.
    out
        Where ``particles.star``, ``rejected.star``, ``report.html`` and ``summary.json`` go.
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
    from tomadapt.classify.judged_results import write_judged

    require_method(options.method, ("likelihood",))
    wanted = options.model_dump(mode="json", exclude={"also", "fdr"})  # may be changed afterwards
    require_own(out, wanted)
    require_elsewhere(options.particles, out)
    if "ome-zarr" in options.also:
        require_zarr(out / "particles.zarr")
    clock = StageClock(out / "stages.json")
    where = make_fabric(device).device
    acquisition = options.source.acquisition
    told: list[str] = []
    with clock.stage("tomogram"), heard(told):
        tomogram = open_tomogram(
            options.tomogram, contrast="positive", voxel_size_A=options.voxel_size_A
        )
        geometry = choose_geometry(options.source, tomogram.voxel_size_A)
        structures = wanted_structures(
            options.source.classes,
            box=geometry.box,
            voxel_size_A=geometry.voxel_size_A,
            folder=options.source.folder,
        )
        wedge = tomogram_wedge(tomogram)
        wedge_warning = compare_with_stated(wedge, acquisition)
        level = Level.of(tomogram)
        points = MeasuredPoints.of(
            acquisition, n=geometry.box, voxel_size_A=geometry.voxel_size_A, device=where
        )
    finder = Finder(options, tomogram, geometry, structures, points, level)
    with clock.stage("positions"), heard(told):
        try:
            found = finder.listed() if options.particles else finder.picked()
        except ConfigError as error:
            if wedge_warning is None:
                raise
            raise ConfigError(f"{wedge_warning}; so perhaps {error}") from error
    with clock.stage("extract"), heard(told):
        positions, volumes = extract_to_folder(
            found.tomogram,
            found.positions,
            out / "subtomograms",
            ExtractedCard(
                box=geometry.box,
                voxel_size_A=geometry.voxel_size_A,
                tomogram=str(options.tomogram),
                contrast=found.sign.text,
                acquisition=acquisition,
            ),
            border=options.border,
        )
    make_own(out, wanted)
    early = [text for text in (found.sign.warning, wedge_warning, *positions.notes) if text]
    for text in early:
        warnings.warn(text, stacklevel=2)
    with clock.stage("judge"):
        cubes = CleanCubes(volumes, found.level)
        verdicts = _judged(cubes, structures, found.noise, options, geometry)
        verdicts = verdicts.with_gold(cubes.on_gold())
        shift_A = verdicts.shifts.astype(np.float64) * geometry.voxel_size_A
        refined_A = positions.coordinates_A + shift_A
        radii_A = np.array([geometry.radii_A[name] for name in verdicts.wanted])
        duplicates = find_duplicates(refined_A, radii_A[verdicts.best], verdicts)
        stays = np.array([place not in duplicates for place in range(len(refined_A))], dtype=bool)
        verdicts = verdicts.with_rates(stays)
    result = JudgedTomogram(
        options=options,
        tomogram=found.tomogram,
        geometry=geometry,
        contrast=found.sign,
        wedge=wedge,
        wedge_warning=wedge_warning,
        positions=positions,
        volumes=volumes,
        verdicts=verdicts,
        duplicates=duplicates,
        refined_A=refined_A,
        n_maxima=found.n_maxima,
        told=tuple(told),
    )
    with clock.stage("report"):
        summary = write_judged(result, out, seconds=clock.records)
    for text in summary["warnings"]:
        if text not in (*told, *early):
            warnings.warn(text, stacklevel=2)
    return summary


def _judged(
    cubes: CleanCubes,
    structures: list[Hypothesis],
    noise: Noise,
    options: ClassifyOptions,
    geometry: Geometry,
) -> Verdicts:
    # Listed positions are others' picks: they may be farther from the particle's centre.
    reach = geometry.box / 10 if options.particles else None
    return judge(
        cubes,
        structures,
        noise,
        acquisition=options.source.acquisition,
        voxel_size_A=geometry.voxel_size_A,
        options=JudgeOptions(reach_voxels=reach, seed=options.source.seed),
        progress=StageBars(),
    )


def find_duplicates(
    places_A: NDArray[np.float64], radii_A: NDArray[np.float64], verdicts: Verdicts
) -> dict[int, int]:
    """Labelled particles that overlap with a surer one, or as sure and of more evidence.

    Parameters
    ----------
    places_A
        (n, 3) refined coordinates in Å.
    radii_A
        (n,) of the structure that explains each best.
    verdicts
        Labels and evidence.

    Returns
    -------
    dict
        Place → the place of the particle that stays.
    """
    labelled = np.flatnonzero(verdicts.label >= 0)
    gains = verdicts.evidence[labelled, verdicts.label[labelled]]
    # A surer one stays: if a cut at a rate took the one that stays, both would be lost.
    order = labelled[np.lexsort((-gains, -verdicts.score[labelled].round(2)))]
    gone = overlaps(places_A[order], radii_A[order])
    return {int(order[i]): int(order[j]) for i, j in gone.items()}
