"""A source that streams against a stored one, at equal CPU time. Not in the paper.

The same network learns from some stored particles whose noise is paired anew in every epoch, and
from as many simulated ones of which none comes twice. Both are judged on cubes that others made.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tomadapt.data.subtomograms import LabelledSubtomograms
from tomadapt.experiments.records import Results, Row
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import titled_table
from tomadapt.experiments.third_party import require_sets
from tomadapt.experiments.third_party_networks import SNR_RANGE, Target, simulated_like
from tomadapt.learn.engine import make_fabric
from tomadapt.learn.source import SourceTraining, train_source
from tomadapt.runs.atomic import output_folder
from tomadapt.simulate.dataset import simulate_set
from tomadapt.simulate.stream import stream

SETS = ("cryojax_many_snr0.1", "cryojax_many_snr0.05")
EPOCHS = (5, 10, 20, 40)
COLUMNS = ("source", "particles", "passes", "cpu_seconds", "null right")


def run(setting: Setting) -> list[Path]:
    """Train for longer and longer from both; rows as they come."""
    data, folders = require_sets(setting, SETS)
    targets = {folder.name: Target.of(folder, data) for folder in folders}
    title, columns = "A stored source and a stream: accuracy by CPU time", (*COLUMNS, *targets)
    table = partial(titled_table, title, columns, form=".3f")
    results = Results.of(setting, "streaming", table, "scale", "commit")
    smoke = setting.scale.name == "smoke"
    config = simulated_like(next(iter(targets.values())), setting)
    with TemporaryDirectory(dir=output_folder(setting.store)) as folder:
        begun = time.process_time()
        stored = simulate_set(config, Path(folder) / "set")
        simulation_seconds = time.process_time() - begun
        for epochs in (1,) if smoke else EPOCHS:
            row = _row("stored", stored, epochs, targets)
            row["cpu_seconds"] += simulation_seconds
            results.add(row)
            many = config.model_copy(update={"per_class": config.per_class * epochs})
            results.add(_row("stream", stream(many), epochs, targets))
    return results.files


def _row(kind: str, made: LabelledSubtomograms, epochs: int, targets: dict[str, Target]) -> Row:
    begun = time.process_time()
    training = SourceTraining(
        epochs=epochs if kind == "stored" else 1,
        snr_range=SNR_RANGE,
        repair_noise=kind == "stored",
        augment=True,
    )
    model, _ = train_source(made, training, fabric=make_fabric())
    seconds = time.process_time() - begun
    measured = {name: one.measures(model) for name, one in targets.items()}
    return {
        "source": kind,
        "particles": len(made),
        "passes": training.epochs,
        "cpu_seconds": seconds,
        "null right": measured[next(iter(targets))]["null right"],
        **{name: row["accuracy"] for name, row in measured.items()},
    }
