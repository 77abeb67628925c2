"""Predictions C(F(x)) of particles, and their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from tomadapt.data.cube_keys import DIGEST_KEY, CubeKeys, key_of
from tomadapt.data.subtomograms import Subtomograms
from tomadapt.errors import ConfigError, InputError
from tomadapt.learn.engine import evaluation_batches, make_fabric
from tomadapt.learn.model import Model
from tomadapt.runs.atomic import atomic_path, write_rows

MIN_PARTICLES_FOR_WARNING, ONE_SIDED_RATIO = 20, 0.95
"""A warning is given when at least so many particles are predicted, and more than this fraction of
them as one class."""


@dataclass(frozen=True)
class Prediction:
    """Predictions of a model for some particles.

    Attributes
    ----------
    class_names
        The classes.
    probabilities
        (n, classes) float32, rows sum to 1.
    features
        (n, f) float32: F(x).
    names
        File names of the particles; empty unless each has a file of its own.
    cubes
        A digest of all cubes that they were read from; empty when there is none.
    """

    class_names: tuple[str, ...]
    probabilities: NDArray[np.float32]
    features: NDArray[np.float32]
    names: tuple[str, ...] = ()
    cubes: str = ""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) most probable classes."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def confidence(self) -> NDArray[np.float32]:
        """(n,) probability of the predicted class."""
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def one_sided(self) -> str | None:
        """A warning when nearly all particles are predicted as one class; else None."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        best = int(counts.argmax())
        if len(self.labels) < MIN_PARTICLES_FOR_WARNING or counts[best] <= ONE_SIDED_RATIO * len(
            self.labels
        ):
            return None
        return (
            f"{counts[best]} of {len(self.labels)} particles are called {self.class_names[best]}, "
            f"with a mean probability of {float(self.confidence.mean()):.2f}: SNR, noise or "
            "contrast of the target may be far from the source's"
        )

    def write(self, path: Path) -> None:
        """Write a ``.csv`` (labels and probabilities) or an ``.npz`` (features too).

        Raises
        ------
        ConfigError
            For another extension.
        OutputError
            When the file cannot be written.
        """
        require_prediction_file(path)
        if path.suffix == ".csv":
            self.write_csv(path)
            return
        arrays: dict[str, Any] = {
            "class_names": np.array(self.class_names),
            "labels": self.labels,
            "probabilities": self.probabilities,
            "features": self.features,
        }
        if self.names:
            arrays["files"] = np.array(self.names)
        if self.cubes:
            arrays[DIGEST_KEY] = np.array(self.cubes)
        with atomic_path(path) as temporary:
            np.savez(temporary, **arrays)

    def write_csv(self, path: Path) -> None:
        """Write one row per particle: index, label, probability, and a column for each class.

        A column ``cubes_digest`` identifies the cubes that the labels belong to. A last column
        ``file`` names the particles' files, when each has its own.
        """
        keys = CubeKeys(self.cubes, self.names)

        def cells(index: int, row: NDArray[np.float32]) -> list[object]:
            best = int(row.argmax())
            numbers = (f"{p:.4f}" for p in (row[best], *row))
            return [index, self.class_names[best], *numbers, *keys.of(index)]

        columns = ["index", "label", "probability", *self.class_names, *keys.columns]
        write_rows(path, columns, (cells(i, row) for i, row in enumerate(self.probabilities)))


def require_prediction_file(path: Path) -> None:
    """Raise ConfigError when a file's extension is neither ``.csv`` nor ``.npz``."""
    if path.suffix not in (".csv", ".npz"):
        raise ConfigError(
            f"cannot tell the format of {path}",
            expected=".csv or .npz",
            got=path.suffix or "no extension",
            remedy="name the output with one of these",
        )


def predict(model: Model, data: Subtomograms, *, fabric: Fabric | None = None) -> Prediction:
    """Predict every particle.

    Parameters
    ----------
    model
        F and C.
    data
        Particles of the model's box and voxel size.
    fabric
        Device and precision; chosen automatically when None.

    Raises
    ------
    MismatchError
        When the data do not fit the model.
    InputError
        When the model's weights are damaged and its outputs are not finite.
    """
    model.require_matching(data, "the target")
    fabric = fabric or make_fabric()
    extractor = model.extractor.to(fabric.device).eval()
    head = model.classifier.to(fabric.device).eval()
    probabilities, features = [], []
    with torch.inference_mode(), fabric.autocast():
        for x in evaluation_batches(data, fabric):
            f = extractor(x)
            probabilities.append(head(f).float().softmax(dim=1).cpu())
            features.append(f.float().cpu())
    of_all = torch.cat(probabilities).numpy()
    if not np.isfinite(of_all).all():
        raise InputError(
            "the model gives no probabilities",
            expected="finite weights",
            got="NaN or infinite ones",
            remedy="train it again, or copy the model file again",
        )
    return Prediction(
        model.card.class_names,
        of_all,
        torch.cat(features).numpy(),
        data.names,
        key_of(data.source),
    )
