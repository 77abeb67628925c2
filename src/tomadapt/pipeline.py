"""The whole way, from structures to a report, in one resumable run.

Each stage writes its result into the run's folder; a stage whose result is there is not run again.
Interrupted stages go on from their last shard or epoch.
"""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from tomadapt.config import FileDomain, RunConfig, load_config
from tomadapt.errors import MismatchError
from tomadapt.io.atomic import output_folder, write_json
from tomadapt.io.json_files import json_object
from tomadapt.io.own_folder import require_same
from tomadapt.io.volumes import open_target
from tomadapt.learn.adversarial import AdversarialAdaptation
from tomadapt.learn.engine import make_fabric
from tomadapt.learn.model import Model
from tomadapt.learn.source import (
    SourceTraining,
    snr_sentence,
    train_source,
    with_snr_range,
)
from tomadapt.learn.statistics import TargetStatistics
from tomadapt.metrics import accuracy, binomial_interval, recall_per_class
from tomadapt.prediction import Prediction, predict
from tomadapt.progress import progress_bar
from tomadapt.report.collect import report_content
from tomadapt.report.content import Evaluation
from tomadapt.simulate.dataset import simulate_set, versions
from tomadapt.subtomograms import LabelledSubtomograms, Subtomograms, same_voxel_size


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
    write_json(out / "config.json", config.model_dump(mode="json"))
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


def require_own(out: Path, wanted: dict[str, Any], *, needed_bytes: int) -> None:
    """Refuse the folder of another run; check that there is room where there is none yet.

    Raises
    ------
    MismatchError
        Naming the keys in which they differ.
    OutputError
        When the folder cannot be written or the disk is too small.
    """
    mark = out / "config.json"
    if not mark.exists():
        output_folder(out, needed_bytes=needed_bytes)
        return
    require_same(out, _read_record(mark), wanted)


def _read_record(path: Path) -> dict[str, Any]:
    """Read one of the run's own JSON files."""
    return json_object(
        path.read_text(encoding="utf-8"),
        what=str(path),
        remedy="delete that folder, or choose another --out",
    )


class StageClock:
    """Wall time and peak memory of each stage, kept in a file so that a resumed run knows them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, dict[str, float]] = {}
        if path.exists():
            self.records = _read_record(path)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; one that was already done keeps its first, longer, time.

        ``peak_memory_mb`` is the process's peak until the end of the stage, memory-mapped pages
        included.
        """
        started = time.perf_counter()
        yield
        seconds = round(time.perf_counter() - started, 2)
        if seconds > self.records.get(name, {}).get("seconds", 0.0):
            self.records[name] = {"seconds": seconds, "peak_memory_mb": peak_memory_mb()}
            write_json(self.path, self.records)


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if platform.system() == "Darwin" else 1e3), 1)


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


def trained_model(
    path: Path,
    data: LabelledSubtomograms,
    options: SourceTraining,
    *,
    fabric: Fabric,
    title: str = "train",
) -> Model:
    """Train a source model, or finish what was begun, or read what was trained before.

    Parameters
    ----------
    path
        The model's file; its checkpoint is kept beside it until it is written.
    data, options, fabric
        See :func:`tomadapt.learn.source.train_source`.
    title
        Of the progress bar.
    """
    checkpoint = path.with_suffix(".checkpoint.pt")
    if not path.exists():
        with progress_bar(title, options.epochs, unit="epochs") as advance:
            model, _ = train_source(
                data,
                options,
                fabric=fabric,
                checkpoint=checkpoint,
                on_epoch=lambda e: advance(1, f"loss {e['loss']:.3f}"),
            )
        model.save(path)
    checkpoint.unlink(missing_ok=True)
    return Model.load(path)


def _adapt(
    config: RunConfig, out: Path, domains: Domains, source_model: Model, fabric: Fabric
) -> Model:
    options = config.adapt.model_copy(update={"seed": config.seed})
    unlabelled = Subtomograms(domains.target.source, domains.target.rows)
    return adapted_model(
        out, AdversarialAdaptation(source_model, options, fabric), domains.source, unlabelled
    )


def adapted_model(
    out: Path,
    method: AdversarialAdaptation,
    source: LabelledSubtomograms,
    target: Subtomograms,
) -> Model:
    """Adapt, or finish what was begun, or read what was adapted before in a run's folder.

    Raises
    ------
    MismatchError
        When what is there was adapted to other particles.
    """
    path, checkpoint = out / "adapted.safetensors", out / "adapted.checkpoint.pt"
    if not path.exists():
        with progress_bar("adapt", method.options.epochs, unit="epochs") as advance:
            adaptation = method.fit(
                source,
                target,
                checkpoint=checkpoint,
                on_epoch=lambda e: advance(1, f"D {e['discriminator_accuracy']:.2f}"),
            )
        adaptation.model.save(path)
    checkpoint.unlink(missing_ok=True)
    model = Model.load(path)
    if model.card.training.get("adapted_to") != target.fingerprint:
        raise MismatchError(
            f"{path} was adapted to another target",
            expected="the target it was adapted to",
            got="other voxels in the same place",
            remedy="choose another --out, or delete that folder",
        )
    return model


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
