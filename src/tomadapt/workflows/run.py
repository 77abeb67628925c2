"""The whole way, from structures to a report, in one resumable run.

Each stage writes its result into the run's folder; a stage whose result is there is not run again.
Interrupted stages go on from their last shard or epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from tomadapt.data.subtomograms import LabelledSubtomograms, Subtomograms, same_voxel_size
from tomadapt.errors import MismatchError
from tomadapt.inputs.particles import open_target
from tomadapt.learn.adversarial import AdversarialAdaptation
from tomadapt.learn.engine import make_fabric
from tomadapt.learn.model import Model
from tomadapt.learn.prediction import Prediction, predict
from tomadapt.learn.source import (
    snr_sentence,
    with_snr_range,
)
from tomadapt.learn.statistics import TargetStatistics
from tomadapt.metrics import accuracy, binomial_interval, recall_per_class
from tomadapt.report.collect import report_content
from tomadapt.report.content import Evaluation
from tomadapt.runs.atomic import write_json
from tomadapt.runs.own_folder import make_own, require_own
from tomadapt.runs.progress import progress_bar
from tomadapt.runs.stages import StageClock
from tomadapt.runs.versions import versions
from tomadapt.simulate.dataset import simulate_set
from tomadapt.workflows.config import FileDomain, RunConfig, load_config
from tomadapt.workflows.models import adapted_model, trained_model


def demo_config(seed: int) -> RunConfig:
    """The configuration of ``tomadapt demo``, from the package's ``demo.toml``."""
    with_path = Path(str(files("tomadapt") / "demo.toml"))
    return load_config(with_path, RunConfig).with_seed(seed)


@dataclass(frozen=True)
class Domains:
    """The particles of a run, by what may be done with them.

    Attributes
    ----------
    source, source_held_out
        Labelled source particles to train on and to test on.
    target, target_held_out
        What adaptation sees (without labels), and what it does not; labelled where simulated.
    all_target
        Both, in the order of the target's file or set.
    """

    source: LabelledSubtomograms
    source_held_out: LabelledSubtomograms | None
    target: Subtomograms
    target_held_out: Subtomograms | None
    all_target: Subtomograms


def run(
    config: RunConfig,
    out: Path,
    *,
    device: str = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Run every stage, or those that are still missing.

    Parameters
    ----------
    config
        What to run.
    out
        The run's folder: sets, models, ``predictions.csv``, ``summary.json``, ``report.html``.
    device
        See :func:`tomadapt.learn.engine.make_fabric`.
    say
        Told at which SNRs the source model is trained.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    MismatchError
        When the folder holds a run of another configuration.
    TomadaptError
        Whatever a stage finds wrong with its input.
    """
    from tomadapt.report.page import write_report

    simulations = (config.source_simulation(), config.target_simulation())
    needed = sum(s.stored_bytes for s in simulations if s is not None)
    require_own(out, config.model_dump(mode="json"), needed_bytes=needed)
    clock = StageClock(out / "stages.json")
    fabric = make_fabric(device)
    with clock.stage("simulate"):
        domains = _simulate(config, out, fabric)
    # Only now: until there are particles a mistake in the configuration can still be mended.
    make_own(out, config.model_dump(mode="json"))
    with clock.stage("train"):
        source_model = _train(config, out, domains, fabric, say)
    with clock.stage("adapt"):
        adapted = _adapt(config, out, domains, source_model, fabric)
    with clock.stage("predict"):
        statistics = TargetStatistics(source_model, fabric)
        models = {
            "source_only": source_model,
            "target_statistics": statistics.fit(domains.source, domains.target).model,
            "ada": adapted,
        }
        predictions = {
            name: predict(model, domains.all_target, fabric=fabric)
            for name, model in models.items()
        }
        predictions["ada"].write_csv(out / "predictions.csv")
        transductive, held_out = _evaluations(domains, predictions)
        source_held_out = _source_accuracy(source_model, domains, fabric)
    summary = _summary(config, domains, transductive, held_out, source_held_out)
    with clock.stage("report"):
        content = report_content(
            source_model,
            adapted,
            source=domains.source,
            target=domains.target,
            evaluations=(transductive, held_out),
            source_held_out=source_held_out,
            title=config.title,
            provenance={
                "seed": config.seed,
                "seconds": {name: record["seconds"] for name, record in clock.records.items()},
                "configuration": config.model_dump(mode="json"),
            },
        )
        write_report(content, out / "report.html")
    summary["adaptation_warning"] = adapted.card.training.get("adaptation_warning")
    summary["seconds"] = {name: record["seconds"] for name, record in clock.records.items()}
    summary["peak_memory_mb"] = max(r["peak_memory_mb"] for r in clock.records.values())
    summary["stages"] = clock.records
    summary["versions"] = versions()
    write_json(out / "summary.json", summary)
    return summary


def _simulate(config: RunConfig, out: Path, fabric: Fabric) -> Domains:
    if isinstance(config.target, FileDomain):
        # Before anything is simulated: what is wrong with it is told at once.
        target = open_target(
            config.target.path,
            voxel_size_A=config.target.voxel_size_A,
            contrast=config.target.contrast,
        )
        _require_matching(config, target)
    made = {}
    for name, simulation in (
        ("source", config.source_simulation()),
        ("target", config.target_simulation()),
    ):
        if simulation is None:
            continue
        with progress_bar(
            f"simulate {name}", simulation.n_particles, unit="subtomograms"
        ) as advance:
            made[name] = simulate_set(
                simulation, out / name, device=fabric.device, progress=advance
            )
    source, source_held_out = made["source"].first_of_each_class(config.source.per_class)
    if isinstance(config.target, FileDomain):
        return Domains(source, source_held_out, target, None, target)
    seen, held_out = made["target"].first_of_each_class(config.target.per_class)
    return Domains(source, source_held_out, seen, held_out, made["target"])


def _require_matching(config: RunConfig, target: Subtomograms) -> None:
    box, voxel = config.structures.box, config.structures.voxel_size_A
    if target.box != box or not same_voxel_size(target.voxel_size_A, voxel):
        raise MismatchError(
            "the target and [structures] differ in box or voxel size",
            expected=f"{box}³ voxels of {voxel:g} Å ([structures])",
            got=f"{target.box}³ voxels of {target.voxel_size_A:g} Å (target)",
            remedy="set box and voxel_size_A of [structures] to the target's",
        )


def _train(
    config: RunConfig, out: Path, domains: Domains, fabric: Fabric, say: Callable[[str], None]
) -> Model:
    options = config.train.model_copy(update={"seed": config.seed})
    options = with_snr_range(options, domains.source)
    say(snr_sentence(options, domains.source))
    return trained_model(out / "source.safetensors", domains.source, options, fabric=fabric)


def _adapt(
    config: RunConfig, out: Path, domains: Domains, source_model: Model, fabric: Fabric
) -> Model:
    options = config.adapt.model_copy(update={"seed": config.seed})
    unlabelled = Subtomograms(domains.target.source, domains.target.rows)
    return adapted_model(
        out, AdversarialAdaptation(source_model, options, fabric), domains.source, unlabelled
    )


def _evaluations(
    domains: Domains, predictions: dict[str, Prediction]
) -> tuple[Evaluation, Evaluation | None]:
    """Split predictions of all target particles into those adaptation saw and the rest."""
    whole = domains.all_target

    def part(data: Subtomograms) -> Evaluation:
        rows = np.flatnonzero(np.isin(whole.rows, data.rows))
        labels = data.labels if isinstance(data, LabelledSubtomograms) else None
        chosen = {
            name: replace(p, probabilities=p.probabilities[rows], features=p.features[rows])
            for name, p in predictions.items()
        }
        return Evaluation(chosen, labels)

    held_out = None if domains.target_held_out is None else part(domains.target_held_out)
    return part(domains.target), held_out


def _source_accuracy(model: Model, domains: Domains, fabric: Fabric) -> tuple[float, int] | None:
    data = domains.source_held_out
    if data is None:
        return None
    return accuracy(predict(model, data, fabric=fabric).labels, data.labels), len(data)


def _summary(
    config: RunConfig,
    domains: Domains,
    transductive: Evaluation,
    held_out: Evaluation | None,
    source_held_out: tuple[float, int] | None,
) -> dict[str, Any]:
    names = list(domains.source.class_names)
    target: dict[str, dict[str, Any]] = {name: {} for name in transductive.predictions}
    for part, evaluation in (("transductive", transductive), ("held_out", held_out)):
        if evaluation is None:
            continue
        for method, prediction in evaluation.predictions.items():
            counts = np.bincount(prediction.labels, minlength=len(names))
            entry = target[method]
            entry[f"{part}_predicted_fraction"] = dict(
                zip(names, np.round(counts / counts.sum(), 4).tolist(), strict=True)
            )
            if evaluation.labels is None:
                continue
            entry[part] = accuracy(prediction.labels, evaluation.labels)
            entry[f"{part}_interval"] = list(binomial_interval(entry[part], len(evaluation.labels)))
            recall = recall_per_class(prediction.labels, evaluation.labels, len(names))
            entry[f"{part}_recall"] = dict(zip(names, np.round(recall, 4).tolist(), strict=True))
    return {
        "title": config.title,
        "seed": config.seed,
        "class_names": names,
        "n_source": len(domains.source),
        "n_target": len(domains.all_target),
        "source_held_out_accuracy": None if source_held_out is None else source_held_out[0],
        "target": target,
        "torch_threads": torch.get_num_threads(),
    }
