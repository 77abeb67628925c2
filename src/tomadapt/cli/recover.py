"""Commands from labelled particles to structures: align, average, discover."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    Snr,
    TiltRange,
    TiltStep,
    Voltage,
    VoxelSize,
    checked_device,
    one_of,
    open_labelled,
    open_unlabelled,
    require_one_process,
    require_source_model,
    require_writable,
    warn,
)
from tomadapt.cli.recovery_inputs import (
    of_classes,
    read_density,
    read_mask,
    read_particles,
    resolve_acquisition,
)

if TYPE_CHECKING:
    from tomadapt.data.subtomograms import Subtomograms
    from tomadapt.recover.average import AveragingOptions
    from tomadapt.recover.recording import Recording

SetPath = Annotated[
    Path,
    typer.Argument(metavar="SET", help="Set, folder, .mrc stack, .npy, or the .star of classify."),
]
Step = Annotated[float, typer.Option(min=5, max=60, help="Of the rotations searched, degrees.")]
MaxShift = Annotated[
    float | None, typer.Option(min=0, help="Voxels along each axis; an eighth of the box if none.")
]


@app.command()
def align(
    particles: SetPath,
    reference: Annotated[Path, typer.Option(help="Map (.mrc), density positive, without CTF.")],
    out: Annotated[Path, typer.Option("--out", help="A .csv, .npz or .star.")],
    tilt_range: TiltRange = None,
    tilt_step: TiltStep = None,
    defocus: Defocus = None,
    voltage: Voltage = None,
    cs: Cs = None,
    amplitude_contrast: AmplitudeContrast = None,
    step: Step = 15.0,
    max_shift: MaxShift = None,
    snr: Snr = None,
    voxel_size: VoxelSize = None,
    contrast: ContrastOption = "measure",
    device: Device = "auto",
) -> None:
    """Find the rotation and shift of every particle against a reference map."""
    from tomadapt.learn.engine import make_fabric
    from tomadapt.recover.align import Aligner, AlignmentOptions
    from tomadapt.recover.align import align as run
    from tomadapt.recover.fourier import shell_power
    from tomadapt.recover.pose_files import require_pose_file, write_poses
    from tomadapt.runs.progress import progress_bar

    require_one_process()
    require_pose_file(out)
    data, _ = read_particles(particles, voxel_size, contrast, snr)
    template = read_density(reference, data)
    fabric = make_fabric(checked_device(device))
    optics = (defocus, voltage, cs, amplitude_contrast)
    _, points = resolve_acquisition(data, tilt_range, tilt_step, optics, fabric.device)
    require_writable(out)
    options = AlignmentOptions(step_deg=step, max_shift_voxels=max_shift)
    aligner = Aligner(template, points, shell_power(data, points), options)
    with progress_bar("align", len(data), unit="particles") as advance:
        poses = run(data, aligner, progress=advance)
    write_poses(out, poses, voxel_size_A=data.voxel_size_A, rows=data.rows)
    typer.echo(f"{out}: {len(data)} particles")


@app.command()
def average(
    particles: SetPath,
    out: Out,
    labels: Annotated[
        Path | None,
        typer.Option(help="Output of predict, or the .star of classify; one class if none."),
    ] = None,
    template: Annotated[
        Path | None, typer.Option(help="Map to begin with; from random poses if not given.")
    ] = None,
    mask: Annotated[
        str,
        typer.Option(
            metavar="map|sphere|FILE",
            help="The particle in the middle of the map; a wide sphere; or a map of 0 to 1.",
        ),
    ] = "map",
    symmetry: Annotated[str, typer.Option(help="C1, C4, D7, T, O, I, …, of every class.")] = "C1",
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Only this class; may be repeated.")
    ] = None,
    iterations: Annotated[int, typer.Option(min=1, max=50, help="At most.")] = 5,
    starts: Annotated[int, typer.Option(min=1, max=50, help="From random poses.")] = 2,
    tilt_range: TiltRange = None,
    tilt_step: TiltStep = None,
    defocus: Defocus = None,
    voltage: Voltage = None,
    cs: Cs = None,
    amplitude_contrast: AmplitudeContrast = None,
    step: Step = 15.0,
    max_shift: MaxShift = None,
    snr: Snr = None,
    voxel_size: VoxelSize = None,
    contrast: ContrastOption = "measure",
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Average each class into a map with half maps and FSC; run again after an interruption."""
    from tomadapt.learn.engine import make_fabric
    from tomadapt.recover.align import AlignmentOptions
    from tomadapt.recover.average import AveragingOptions
    from tomadapt.recover.averages import average_classes
    from tomadapt.recover.labels import read_labels
    from tomadapt.recover.rotations import symmetry_group
    from tomadapt.report.structures_page import write_structures_page
    from tomadapt.runs.progress import progress_bar

    require_one_process()
    symmetry_group(symmetry)
    data, names = read_particles(particles, voxel_size, contrast, snr)
    if labels is not None:
        names = read_labels(labels, data)
    names = names or ["all"] * len(data)
    data, names = of_classes(data, names, classes)
    begin = None if template is None else read_density(template, data)
    if begin is not None and len(set(names)) > 1:
        warn(
            f"one template for {len(set(names))} classes: those that are not like it may not be "
            "found; choose with --class"
        )
    kind, soft = read_mask(mask, data)
    if soft is not None and begin is None:
        warn(f"from random poses particles may lie off the centre: {mask} must leave room for that")
    fabric = make_fabric(checked_device(device))
    optics = (defocus, voltage, cs, amplitude_contrast)
    recording, points = resolve_acquisition(data, tilt_range, tilt_step, optics, fabric.device)
    options = AveragingOptions(
        symmetry=symmetry,
        iterations=iterations,
        starts=starts,
        alignment=AlignmentOptions(step_deg=step, max_shift_voxels=max_shift),
        mask=kind,
        seed=seed,
    )
    total = len(set(names)) * (iterations + 1)
    with progress_bar("average", total, unit="steps") as advance:
        done = average_classes(
            data, names, points, options, out, template=begin, mask=soft, progress=advance
        )
    write_structures_page(
        done,
        out / "report.html",
        title=f"Structures: {particles.name}",
        made=_made(data, recording, options)
        | {"template": "none" if template is None else template.name}
        | ({} if soft is None else {"mask": mask}),
    )
    for one in done:
        typer.echo(f"{one.name}: {one.particles} particles, {_resolution_text(one.record)}")
    typer.echo(out)


@app.command()
def discover(
    source_model: Annotated[Path, typer.Argument(help="The model before adaptation.")],
    adapted_model: Annotated[Path, typer.Argument(help="The model after it.")],
    source: Annotated[Path, typer.Option(help="The set the source model was trained on.")],
    target: Annotated[Path, typer.Option(help="The particles, labelled or not.")],
    out: Out,
    clusters: Annotated[
        int | None,
        typer.Option(min=2, help="Of k-means; 100 if not given, or a tenth of fewer particles."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="kmeans, or hdbscan (finds their number).")
    ] = "kmeans",
    unknown: Annotated[str, typer.Option(help="neighbours, mahalanobis or energy.")] = "neighbours",
    tilt_range: TiltRange = None,
    tilt_step: TiltStep = None,
    defocus: Defocus = None,
    voltage: Voltage = None,
    cs: Cs = None,
    amplitude_contrast: AmplitudeContrast = None,
    max_shift: MaxShift = None,
    source_snr: Snr = None,
    target_snr: Snr = None,
    voxel_size: VoxelSize = None,
    contrast: ContrastOption = "measure",
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Cluster particles by features, average clusters, and find those that no class explains."""
    from tomadapt.learn.engine import make_fabric
    from tomadapt.learn.model import Model
    from tomadapt.recover.clusters import ClusterOptions, cluster, require_enough
    from tomadapt.recover.discover import CLUSTER_AVERAGING, DiscoveryOptions, embed_target
    from tomadapt.recover.discover import discover as run
    from tomadapt.report.structures_page import found_columns, write_structures_page
    from tomadapt.runs.progress import progress_bar
    from tomadapt.simulate.dataset import SimulationConfig, make_templates, simulated

    require_one_process()
    one_of("--method", method, ("kmeans", "hdbscan"))
    one_of("--unknown", unknown, ("neighbours", "mahalanobis", "energy"))
    before, after = Model.load(source_model), Model.load(adapted_model)
    require_source_model(before.card.method, source_model)
    known_data = open_labelled(source, source_snr)
    config = simulated(known_data).meta["config"]
    data = open_unlabelled(target, voxel_size, contrast, target_snr)
    before.require_domains(known_data, data)
    after.require_classes(before.card.class_names, str(adapted_model))
    count = min(100, max(2, len(data) // 10)) if clusters is None else clusters
    grouping = ClusterOptions(method=method, count=count, seed=seed)  # type: ignore[arg-type]
    require_enough(len(data), grouping)
    fabric = make_fabric(checked_device(device))
    optics = (defocus, voltage, cs, amplitude_contrast)
    recording, points = resolve_acquisition(data, tilt_range, tilt_step, optics, fabric.device)
    alignment = CLUSTER_AVERAGING.alignment.model_copy(update={"max_shift_voxels": max_shift})
    options = DiscoveryOptions(
        clusters=grouping,
        averaging=CLUSTER_AVERAGING.model_copy(update={"alignment": alignment, "seed": seed}),
    )
    known = make_templates(SimulationConfig.model_validate(config))
    embedding = embed_target(before, after, known_data, data, unknown=unknown, fabric=fabric)  # type: ignore[arg-type]
    groups = cluster(embedding.features, options.clusters)
    steps = len(set(groups[groups >= 0].tolist())) * (options.averaging.iterations + 2)
    with progress_bar("discover", steps, unit="steps") as advance:
        found, averages = run(
            embedding,
            groups,
            points=points,
            known=known,
            out=out,
            options=options,
            progress=advance,
        )
    write_structures_page(
        averages,
        out / "report.html",
        title=f"Clusters: {target.name}",
        made=_made(data, recording, options.averaging),
        columns=found_columns(found),
    )
    candidates = [one for one in found if one.candidate]
    typer.echo(f"{out}: {len(found)} clusters, {len(candidates)} candidates")
    for one in candidates:
        typer.echo(
            f"{one.name}: {one.particles} particles, {one.resolution_nm:.2f} nm, most like "
            f"{one.match} (structural discrepancy {one.discrepancy_nm:.2f} nm)"
        )


def _made(data: Subtomograms, recording: Recording, options: AveragingOptions) -> dict[str, str]:
    """How averages were made, for people."""
    from tomadapt.runs.versions import versions

    return {
        "particles": f"{len(data)} of {data.box}³ voxels of {data.voxel_size_A:g} Å",
        **recording.summary,
        "symmetry": options.symmetry,
        "mask": options.mask,
        "angular step of the search": f"{options.alignment.step_deg:g}°",
        "iterations, at most": str(options.iterations),
        "seed": str(options.seed),
        "tomadapt": versions()["tomadapt"],
    }


def _resolution_text(record: dict[str, Any]) -> str:
    if record.get("reason"):
        return f"not averaged: {record['reason']}"
    found = [record[f"resolution_{t}_nm"] for t in ("0.5", "0.143")]
    half, seventh = ("–" if v is None else f"{v:.2f} nm" for v in found)
    return f"{half} (FSC 0.5), {seventh} (0.143)"
