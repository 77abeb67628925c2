"""Figure 7: structures of S_e3 (or its stand-in), averaged by labels before and after 3D-ADA.

The paper shows maps: apoferritin is recovered with the labels from before, haemagglutinin and
insulin receptor only with those from after. Here each has its FSC with the true structure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tomadapt.errors import ConfigError
from tomadapt.experiments.domains import method_options
from tomadapt.experiments.experimental import SETS
from tomadapt.experiments.models import AdaptTask, TrainTask
from tomadapt.experiments.particles import Particles
from tomadapt.experiments.records import Row, write_rows
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import markdown, select
from tomadapt.experiments.task import Task
from tomadapt.learn.engine import make_fabric
from tomadapt.learn.prediction import predict
from tomadapt.recover.average import AveragingOptions
from tomadapt.recover.averages import AveragedClass, average_classes
from tomadapt.recover.compare import Comparison, MapComparison
from tomadapt.recover.recording import measured_points
from tomadapt.report.style import styled, write_figure
from tomadapt.runs.atomic import write_text
from tomadapt.simulate.dataset import make_templates

SOURCE_SNR = 0.05
"""Like the stand-in's: the paper advises a similar or slightly lower one."""
LABELS: tuple[Literal["before", "after", "truth"], ...] = ("before", "after", "truth")


def run(setting: Setting) -> list[Path]:
    """Label the set with both models, and average each class by either's labels and the truth."""
    scale, expected = setting.scale, SETS[2]
    if setting.data is not None and (setting.data / expected.name).is_dir():
        raise ConfigError(
            "figure 7 compares with the true structure in the set's own frame",
            expected=f"the stand-in of {expected.name}",
            got=f"{setting.data / expected.name}",
            remedy="average real particles with `tomadapt average`",
        )
    snr = SOURCE_SNR if SOURCE_SNR in scale.snrs else scale.snrs[-1]
    adapted = AdaptTask(
        method="ada",
        source_model=TrainTask(
            data=expected.source(scale, setting.data, snr), training=scale.training
        ),
        target=expected.stand_in(scale, setting.data),
        options=method_options("ada", scale, seed=0),
    )
    averaging = AveragingOptions(iterations=1 if scale.builtin else 5)
    tasks = [RecoveredTask(adapted=adapted, labels=of, averaging=averaging) for of in LABELS]
    rows: list[Row] = []
    compared: dict[tuple[str, str], Comparison] = {}
    for task, record in setting.run([tasks], "figure7"):
        if isinstance(task, RecoveredTask):
            about = {"experiment": "figure7", "scale": scale.name, "labels": task.labels}
            rows += [about | each for each in record["classes"]]
            for one, found, _ in task.recovered(setting.store):
                if found is not None:
                    compared[one.name, task.labels] = found
    rows.sort(key=lambda row: LABELS.index(row["labels"]))
    files = [setting.file(f"figure7_stand_in.{suffix}") for suffix in ("jsonl", "md", "png")]
    write_rows(files[0], rows)
    line = f"S_e3, stand-in; source SNR {snr:g}; {scale.line}"
    write_text(files[1], recovered_table(rows, line))
    write_figure(draw_recovered(compared, tasks[0].truths(), line), files[2])
    return files


class RecoveredTask(Task):
    """Averages by one set of labels.

    Parameters
    ----------
    adapted
        The adaptation; its target is what is averaged.
    labels
        The source model's, the adapted model's, or the true ones.
    averaging
        How to average.
    """

    kind: Literal["recovered"] = "recovered"
    adapted: AdaptTask
    labels: Literal["before", "after", "truth"]
    averaging: AveragingOptions

    @property
    def requires(self) -> Sequence[Task]:
        """The adaptation."""
        return (self.adapted,)

    def run(self, folder: Path, store: Path) -> dict[str, Any]:
        """Label, average, and compare each map with the true structure."""
        rows = []
        for one, compared, right in self.recovered(store):
            row: dict[str, Any] = {"class": one.name, "particles": one.particles, "right": right}
            if compared is not None:
                row |= {"discrepancy_nm": compared.discrepancy_nm}
                row |= {"correlation": compared.correlation}
            rows.append(row | {k: v for k, v in one.record.items() if k.startswith("resolution")})
        return {"classes": rows}

    def recovered(self, store: Path) -> list[tuple[AveragedClass, Comparison | None, int]]:
        """Each class, its map beside the true one, and how many of its particles are of it.

        What was averaged before is read from the task's folder.
        """
        particles, _ = self.adapted.target.open(store)
        found = particles.labels
        if self.labels != "truth":
            before = self.labels == "before"
            model = self.adapted.source_model.model(store) if before else self.adapted.model(store)
            found = predict(model, particles.unlabelled()).labels
        names = np.array(particles.class_names)
        done = average_classes(
            particles.unlabelled(),
            names[found].tolist(),
            measured_points(particles, device=make_fabric().device),
            self.averaging,
            store / self.key / "averages",
        )
        truths = self.truths()
        recovered = []
        for one in done:
            right = int((found == particles.labels)[names[found] == one.name].sum())
            compared = None
            if one.result is not None:
                comparison = MapComparison(truths[one.name], voxel_size_A=particles.voxel_size_A)
                compared = comparison(one.result.volume)
            recovered.append((one, compared, right))
        return recovered

    def truths(self) -> dict[str, NDArray[np.float32]]:
        """The true structures, class → (n, n, n)."""
        assert isinstance(self.adapted.target, Particles)
        return make_templates(self.adapted.target.made.simulation)


def recovered_table(rows: Sequence[Row], line: str) -> str:
    """Markdown: each class by each set of labels."""
    lines = [
        [name, row["labels"], str(row["particles"]), str(row["right"])]
        + [_nm(row.get(f"{measure}_nm")) for measure in ("discrepancy", "resolution_0.143")]
        for name in dict.fromkeys(row["class"] for row in rows)
        for row in select(rows, **{"class": name})
    ]
    header = ["class", "labels", "particles", "of them right"]
    header += ["discrepancy from the truth (FSC 0.5)", "half maps (FSC 0.143)"]
    title = "# Figure 7, stand-in: structures recovered by labels"
    return f"{title}\n\n{line}.\n\n{markdown(header, lines)}"


def _nm(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} nm"


@styled
def draw_recovered(
    compared: Mapping[tuple[str, str], Comparison],
    truths: Mapping[str, NDArray[np.float32]],
    note: str,
) -> Figure:
    """Draw central slices of the maps, by each set of labels and the truth, and their FSC."""
    figure = Figure(figsize=(13, 2.9 * len(truths) + 0.6), layout="constrained")
    grid = figure.subplots(len(truths), len(LABELS) + 2, squeeze=False)
    for row, (name, truth) in zip(grid, truths.items(), strict=True):
        middle = len(truth) // 2
        pictures = {"true structure": truth}
        for when in LABELS:
            if (name, when) in compared:
                pictures[f"labels: {when}"] = compared[name, when].aligned
        for axes, (title, volume) in zip(row, pictures.items(), strict=False):
            axes.imshow(volume[middle], cmap="gray")
            axes.set(title=title)
        for axes in row[:-1]:
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(name)
        for when in LABELS:
            if (name, when) in compared:
                row[-1].plot(compared[name, when].fsc, label=when)
        row[-1].axhline(0.5, color="#5d6b78", linewidth=0.8)
        row[-1].set(ylim=(-0.1, 1.05), xlabel="shell", title="FSC with the truth")
    grid[0, -1].legend()
    figure.supxlabel(note, fontsize=8)
    return figure
