"""Figure 7: structures of S_e3 (or its stand-in), averaged by labels before and after 3D-ADA.

The paper shows maps: apoferritin is recovered with the labels from before, haemagglutinin and
insulin receptor only with those from after. Here each has its FSC with the true structure.
"""

from __future__ import annotations

from pathlib import Path

from tomadapt.errors import ConfigError
from tomadapt.experiments.domains import method_options
from tomadapt.experiments.experimental import SETS
from tomadapt.experiments.models import AdaptTask, TrainTask
from tomadapt.experiments.records import Row, write_rows
from tomadapt.experiments.recovered_figure import LABELS, draw_recovered, recovered_table
from tomadapt.experiments.recovered_task import RecoveredTask
from tomadapt.experiments.scales import Setting
from tomadapt.recover.average import AveragingOptions
from tomadapt.recover.compare import Comparison
from tomadapt.report.style import write_figure
from tomadapt.runs.atomic import write_text

SOURCE_SNR = 0.05
"""Like the stand-in's: the paper advises a similar or slightly lower one."""


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
