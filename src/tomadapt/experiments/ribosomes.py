"""Real ribosomes: how many are called ribosome, and how their scores part from decoys'.

One class only is known of the real particles, so recall says little without its counterpart: (a)
the same particles with randomised phases; (b) simulated noise; (c) simulated particles of other
classes.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from tomadapt.acquisition import Acquisition, tilt_range
from tomadapt.errors import InputError
from tomadapt.experiments.decoys import phase_randomised
from tomadapt.experiments.domains import method_options
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import Row, markdown, write_rows
from tomadapt.experiments.tasks import AdaptTask, OneClassFile, Particles, SimulateTask, TrainTask
from tomadapt.io.atomic import write_text
from tomadapt.metrics import binomial_interval
from tomadapt.prediction import predict
from tomadapt.simulate.dataset import SimulationConfig

TITLE = "Real ribosomes"
FILES = ("ribosomes.jsonl", "ribosomes.md")
RIBOSOME, OTHERS = "ribosome_70s", ("tric", "apoferritin", "spliceosome")
METHODS = ("source_only", "target_statistics", "ada")
PARTICLES = "real_ribosomes/derived_subtomos_32_12A.npz"
# Reconstructed with CTF² weighting from CTF-premultiplied images at about 3 µm defocus, whose first
# zero lies beyond the Nyquist frequency of 12 Å voxels: the transfer that is left is flat. The
# wedge is the one that their spectra show.
ACQUISITION = Acquisition(
    name="matched to the ribosomes", spherical_aberration_mm=0.0, defocus_um=0.0,
    amplitude_contrast=1.0, mtf="none", tilt_angles_deg=tilt_range(-57, 60, 3),
)  # fmt: skip


def run(setting: Setting) -> None:
    """Train, adapt to the real particles, and compare their scores with the decoys'."""
    path = (setting.data / PARTICLES) if setting.data is not None else None
    if path is None or not path.is_file():
        raise InputError(
            "the real ribosomes are not at hand", expected=f"--data with {PARTICLES}",
            got=setting.data, remedy="name the folder that holds them",
        )  # fmt: skip
    classes = (RIBOSOME, *OTHERS, "null")
    n = setting.scale.per_class
    simulation = SimulationConfig.model_validate(
        {"classes": classes, "acquisition": ACQUISITION, "per_class": 3 * n, "snr": 0.05, "seed": 0,
         "box": 32, "voxel_size_A": 12.0, "resolution_A": 12.0}
    )  # fmt: skip
    training = setting.scale.training.model_copy(update={"snr_range": (0.01, 0.3)})
    source = Particles(made=SimulateTask.of(simulation), snr=0.05, per_class=2 * n)
    trained = TrainTask(data=source, training=training)
    target = OneClassFile(path=path.resolve(), classes=classes, label=RIBOSOME, voxel_size_A=12.0)
    tasks = {
        method: AdaptTask(
            method=method, source_model=trained, target=target,
            options=method_options(method, setting.scale, seed=0),
        )
        for method in METHODS
    }  # fmt: skip
    for _ in setting.run(tasks.values(), TITLE):
        pass
    real, _ = target.open(setting.store)
    _, simulated = source.open(setting.store)
    assert simulated is not None
    of = {name: np.flatnonzero(simulated.labels == i) for i, name in enumerate(classes)}
    groups = {
        "real ribosomes": real.unlabelled(),
        "real, phases randomised": phase_randomised(real, seed=0),
        "simulated noise": simulated.subset(of["null"]).unlabelled(),
        "simulated, other classes": simulated.subset(np.concatenate([of[c] for c in OTHERS])),
    }
    rows: list[Row] = []
    for method, task in tasks.items():
        model, scores = task.model(setting.store), {}
        for group, data in groups.items():
            prediction = predict(model, data)
            called = prediction.labels == 0
            scores[group] = prediction.probabilities[:, 0]
            low, high = binomial_interval(float(called.mean()), len(called))
            both = np.concatenate([scores["real ribosomes"], scores[group]])
            is_real = np.repeat([1, 0], [len(real), len(data)])
            rows.append(
                {"experiment": "ribosomes", "scale": setting.scale.name, "method": method,
                 "particles": group, "n": len(data), "called_ribosome": int(called.sum()),
                 "interval": [round(low, 3), round(high, 3)],
                 "auc_of_real_over_these": round(float(roc_auc_score(is_real, both)), 3)}
            )  # fmt: skip
    write_rows(setting.file(FILES[0]), rows)
    lines = [
        [str(r["method"]), str(r["particles"]), f"{r['called_ribosome']}/{r['n']}",
         f"{r['interval'][0]:.2f}–{r['interval'][1]:.2f}",
         "–" if r["particles"] == "real ribosomes" else f"{r['auc_of_real_over_these']:.2f}"]
        for r in rows
    ]  # fmt: skip
    heading = ["method", "particles", "called ribosome", "95 % interval", "AUC of real over these"]
    intro = f"# {TITLE}\n\n{setting.scale.line}; source {2 * n} per class, SNR 0.01 … 0.3\n\n"
    write_text(setting.file(FILES[1]), intro + markdown(heading, lines))
