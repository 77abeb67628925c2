"""Commands of one stage each: simulate, train, adapt, predict, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from tomadapt.cli.app import app
from tomadapt.cli.options import (
    RECIPES,
    ContrastOption,
    Device,
    Out,
    Recipe,
    Seed,
    Snr,
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


@app.command()
def simulate(
    config: Annotated[Path, typer.Argument(help="TOML: classes, acquisition, per_class, snr, …")],
    out: Out,
    device: Device = "auto",
) -> None:
    """Simulate a set of subtomograms; run again after an interruption to finish it."""
    from tomadapt.learn.engine import make_fabric
    from tomadapt.runs.progress import progress_bar
    from tomadapt.simulate.dataset import SimulationConfig, simulate_set
    from tomadapt.workflows.config import load_config

    require_one_process()
    settings = load_config(config, SimulationConfig)
    fabric = make_fabric(checked_device(device))
    with progress_bar("simulate", settings.n_particles, unit="subtomograms") as advance:
        simulate_set(settings, out, device=fabric.device, progress=advance)
    typer.echo(out)


@app.command()
def train(
    source: Annotated[Path, typer.Argument(metavar="SET", help="A simulated set.")],
    out: Out,
    recipe: Recipe = "default",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the data; the recipe's own if not given.")
    ] = None,
    snr: Snr = None,
    snr_range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Draw each sample's SNR between these (after the CTF); a quarter of the set's own "
            "to four times it, unless --snr is given or the recipe is the paper's."
        ),
    ] = None,
    repair_noise: Annotated[
        bool, typer.Option("--repair-noise", help="Pair signal with fresh noise every epoch.")
    ] = False,
    augment: Annotated[
        bool, typer.Option("--augment", help="Half-turns that keep the wedge, and shifts.")
    ] = False,
    noise_of: Annotated[
        Path | None,
        typer.Option(help="Particles whose noise spectrum the set's noise is given: the target's."),
    ] = None,
    voxel_size: VoxelSize = None,
    contrast: ContrastOption = "measure",
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train a source model (F and C) on a labelled set."""
    from tomadapt.learn.engine import make_fabric
    from tomadapt.learn.recolouring import own_snr, recoloured
    from tomadapt.learn.source import (
        PAPER_TRAINING,
        SourceTraining,
        snr_sentence,
        train_source,
        with_snr_range,
    )
    from tomadapt.runs.progress import progress_bar
    from tomadapt.workflows.config import parse

    base = PAPER_TRAINING if one_of("--recipe", recipe, RECIPES) == "paper" else SourceTraining()
    data = open_labelled(source, snr)
    if noise_of is not None:
        like = open_unlabelled(noise_of, voxel_size, contrast, None)
        data, _ = recoloured(data, like, snr=own_snr(data))
    chosen: dict[str, Any] = {"seed": seed}
    chosen |= {"repair_noise": repair_noise, "augment": augment, "snr_range": snr_range}
    if epochs is not None:
        chosen["epochs"] = epochs
    options = parse(base.model_dump() | chosen, SourceTraining, where="train")
    if snr is None:
        options = with_snr_range(options, data)
    fabric = make_fabric(checked_device(device))
    require_writable(out, warn_if_there=True)
    if sentence := snr_sentence(options, data):
        typer.echo(sentence, err=True)
    checkpoint = out.with_name(out.name + ".checkpoint.pt")
    with progress_bar("train", options.epochs, unit="epochs") as advance:
        model, history = train_source(
            data,
            options,
            fabric=fabric,
            checkpoint=checkpoint,
            on_epoch=lambda e: advance(1, f"loss {e['loss']:.3f}"),
        )
    if fabric.global_rank == 0:
        model.save(out)
        checkpoint.unlink(missing_ok=True)
        typer.echo(f"{out}: validation accuracy {history[-1]['validation_accuracy']:.3f}")


def _tell_proportions(names: Sequence[str], shares: Sequence[float]) -> None:
    text = ", ".join(f"{name} {share:.2f}" for name, share in zip(names, shares, strict=True))
    typer.echo(f"estimated proportions: {text}", err=True)


@app.command()
def adapt(
    model: Annotated[Path, typer.Argument(help="A source model.")],
    source: Annotated[Path, typer.Option(help="The set it was trained on.")],
    target: Annotated[
        Path, typer.Option(help="Set, .mrc stack, folder of .mrc cubes, .npy or .npz.")
    ],
    out: Out,
    method: Annotated[
        str, typer.Option(help="ada (3D-ADA), or another of docs/methods.md.")
    ] = "ada",
    recipe: Recipe = "default",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="ada: passes over the data; the recipe's own if none.")
    ] = None,
    match_noise: Annotated[
        bool,
        typer.Option(
            "--match-noise", help="Give the source's noise the target's spectrum: train --noise-of."
        ),
    ] = False,
    match_proportions: Annotated[
        bool,
        typer.Option(
            "--match-proportions",
            help="Take source particles of each class as often as the target seems to have them.",
        ),
    ] = False,
    source_snr: Snr = None,
    target_snr: Snr = None,
    voxel_size: VoxelSize = None,
    contrast: ContrastOption = "measure",
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Adapt a source model to an unlabelled target, by 3D-ADA (Algorithm 1) or a baseline."""
    from tomadapt.errors import ConfigError
    from tomadapt.learn.adversarial import PAPER_RECIPE, AdversarialOptions
    from tomadapt.learn.catalogue import METHODS, default_options
    from tomadapt.learn.engine import make_fabric
    from tomadapt.learn.model import Model
    from tomadapt.learn.most_consistent import as_in_target
    from tomadapt.learn.recolouring import own_snr, recoloured
    from tomadapt.learn.statistics import PartialStatistics
    from tomadapt.runs.progress import progress_bar
    from tomadapt.simulate.dataset import require_independent
    from tomadapt.workflows.config import parse

    base = PAPER_RECIPE if one_of("--recipe", recipe, RECIPES) == "paper" else AdversarialOptions()
    chosen: dict[str, Any] = {"seed": seed} | ({} if epochs is None else {"epochs": epochs})
    adapting = tuple(name for name in METHODS if name not in ("source_only", "ada_paper_recipe"))
    one_of("--method", method, adapting)
    if method != "ada" and (epochs is not None or recipe != "default"):
        raise ConfigError(
            f"method {method} has neither epochs nor recipes",
            expected="--epochs and --recipe with --method ada",
            remedy="leave them out",
        )
    if method == "ada":
        options: Any = parse(base.model_dump() | chosen, AdversarialOptions, where="adapt")
    else:
        options = default_options(method, seed=seed)
    source_model = Model.load(model)
    source_data = open_labelled(source, source_snr)
    target_data = open_unlabelled(target, voxel_size, contrast, target_snr)
    require_source_model(source_model.card.method, model)
    require_independent(source_data, target_data)
    source_model.require_matching(source_data, "the source")
    source_model.require_matching(target_data, "the target")
    if match_noise:
        source_data = recoloured(source_data, target_data, snr=own_snr(source_data))[0]
    if source_model.card.training.get("source_data") != source_data.fingerprint:
        warn(f"{model} was not trained on {source}, or not at this SNR")
    fabric = make_fabric(checked_device(device))
    require_writable(out, warn_if_there=True)
    if match_proportions:
        partial = PartialStatistics(source_model, fabric).fit(source_data, target_data).model
        source_data, found = as_in_target(source_data, partial, target_data, fabric)
        _tell_proportions(source_data.class_names, found.tolist())
    checkpoint = out.with_name(out.name + ".checkpoint.pt")
    with progress_bar("adapt", getattr(options, "epochs", 1), unit="epochs") as advance:
        adaptation = METHODS[method](source_model, options, fabric).fit(
            source_data,
            target_data,
            checkpoint=checkpoint,
            on_epoch=lambda e: advance(1, epoch_note(e)),
        )
    if fabric.global_rank == 0:
        adaptation.model.save(out)
        checkpoint.unlink(missing_ok=True)
        if adaptation.warning:
            warn(adaptation.warning)
        typer.echo(out)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A source or adapted model.")],
    target: Annotated[Path, typer.Argument(help="Set, .mrc stack, folder, .npy or .npz.")],
    out: Annotated[Path, typer.Option("--out", help="A .csv, or an .npz with features too.")],
    snr: Snr = None,
    voxel_size: VoxelSize = None,
    contrast: ContrastOption = "measure",
    device: Device = "auto",
) -> None:
    """Label every particle of a target, in order."""
    from tomadapt.learn.engine import make_fabric
    from tomadapt.learn.model import Model
    from tomadapt.learn.prediction import predict as predict_all
    from tomadapt.learn.prediction import require_prediction_file

    require_prediction_file(out)
    loaded = Model.load(model)
    data = open_unlabelled(target, voxel_size, contrast, snr)
    fabric = make_fabric(checked_device(device))
    require_writable(out)
    prediction = predict_all(loaded, data, fabric=fabric)
    prediction.write(out)
    if one_sided := prediction.one_sided:
        warn(one_sided)
    typer.echo(f"{out}: {len(data)} particles")


@app.command()
def report(
    source_model: Annotated[Path, typer.Argument(help="The model before adaptation.")],
    adapted_model: Annotated[Path, typer.Argument(help="The model after it.")],
    source: Annotated[Path, typer.Option(help="The set the source model was trained on.")],
    target: Annotated[Path, typer.Option(help="The target; labels are used if it is a set.")],
    out: Annotated[Path, typer.Option("--out", help="An .html file.")],
    source_snr: Snr = None,
    target_snr: Snr = None,
    voxel_size: VoxelSize = None,
    contrast: ContrastOption = "measure",
    title: Annotated[str, typer.Option(help="Heading.")] = "tomadapt report",
) -> None:
    """Write a self-contained HTML report of a source and an adapted model on a target."""
    from tomadapt.errors import ConfigError
    from tomadapt.learn.model import Model
    from tomadapt.learn.statistics import TargetStatistics
    from tomadapt.report.collect import evaluate, report_content
    from tomadapt.report.page import write_report

    before, after = Model.load(source_model), Model.load(adapted_model)
    before.require_classes(after.card.class_names, "the adapted model")
    require_source_model(before.card.method, source_model)
    source_data = open_labelled(source, source_snr)
    labelled = (target / "set.json").exists()
    target_data = (
        open_labelled(target, target_snr)
        if labelled
        else open_unlabelled(target, voxel_size, contrast, target_snr)
    )
    if labelled:
        before.require_classes(target_data.class_names, "the target")
    if "adaptation" not in after.card.training:
        raise ConfigError(
            f"{adapted_model} is not an adapted model",
            expected="the output of `tomadapt adapt`",
            got="a source model",
            remedy="adapt it first, or give the models in the other order",
        )
    require_writable(out)
    statistics = TargetStatistics(before).fit(source_data, target_data).model
    models = {"source_only": before, "target_statistics": statistics, after.card.method: after}
    evaluation = evaluate(models, target_data)
    if after.card.training["adapted_to"] != target_data.fingerprint:
        warn("these are not, or not only, the particles that were adapted to")
        evaluation = replace(evaluation, title="target particles")
    content = report_content(
        before,
        after,
        source=source_data,
        target=target_data,
        evaluations=(evaluation, None),
        title=title,
    )
    write_report(content, out)
    typer.echo(out)


def epoch_note(record: dict[str, float]) -> str:
    accuracy = record.get("discriminator_accuracy")
    return "" if accuracy is None else f"D {accuracy:.2f}"
