"""Models in a run's folder: trained, adapted, or read where an earlier run left them."""

from __future__ import annotations

from pathlib import Path

from lightning_fabric import Fabric

from tomadapt.data.subtomograms import LabelledSubtomograms, Subtomograms
from tomadapt.errors import MismatchError
from tomadapt.learn.adversarial import AdversarialAdaptation
from tomadapt.learn.model import Model
from tomadapt.learn.source import SourceTraining, train_source
from tomadapt.runs.progress import progress_bar


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
