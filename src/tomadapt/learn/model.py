"""Model files: weights as safetensors, with a JSON card that describes the model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import nn

from tomadapt.acquisition import Acquisition
from tomadapt.data.subtomograms import LabelledSubtomograms, Subtomograms, same_voxel_size
from tomadapt.errors import InputError, MismatchError
from tomadapt.learn.networks import EXTRACTORS, Extractor, classifier
from tomadapt.runs.atomic import atomic_path
from tomadapt.runs.digest import digest

FORMAT = "tomadapt-model-1"


class ModelCard(BaseModel):
    """Description of a model: its classes, the particles it accepts, and its training.

    Parameters
    ----------
    class_names
        In the order of the classifier's outputs.
    box, voxel_size_A
        Of the particles that it accepts, in voxels and Å.
    network
        A key of ``EXTRACTORS``.
    acquisition
        Of the source it was trained on.
    method
        ``source_only`` or the name of the adaptation.
    training
        Options and history, for provenance.
    contrast, normalisation
        Of the cubes it accepts.
    package_version
        The version of tomadapt that wrote it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = FORMAT
    class_names: Annotated[tuple[str, ...], Field(min_length=1)]
    box: Annotated[int, Field(ge=1, le=1024)]
    voxel_size_A: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    network: str
    acquisition: Acquisition | None
    method: str = "source_only"
    training: dict[str, Any] = {}
    contrast: str = "density positive"
    normalisation: str = "mean 0, standard deviation 1 of each cube"
    package_version: str = version("tomadapt")

    @field_validator("class_names")
    @classmethod
    def _distinct_and_writable(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("a class is named twice")
        "".join(names).encode()  # a lone surrogate, which no file can hold, is a ValueError
        return names


def _require_weights(card: ModelCard, state: dict[str, torch.Tensor]) -> None:
    """Raise ValueError when weights are not float32, or for another number of classes.

    This is checked before the network is made in the size that the card states. Torch would convert
    other types silently.
    """
    for name, tensor in state.items():
        expected = torch.int64 if name.endswith("num_batches_tracked") else torch.float32
        if tensor.dtype != expected:
            raise ValueError(f"{name} is of type {tensor.dtype}, not {expected}")
    rows = state["classifier.weight"].shape[0] if state["classifier.weight"].ndim else 0
    if rows != len(card.class_names):
        raise ValueError(f"weights of {rows} classes, {len(card.class_names)} class names")


@dataclass(frozen=True)
class Model:
    """A feature extractor F and a classifier C with their card."""

    card: ModelCard
    extractor: Extractor
    classifier: nn.Linear

    @classmethod
    def new(cls, card: ModelCard) -> Model:
        """A model with fresh weights (from torch's global generator)."""
        extractor = EXTRACTORS[card.network](card.box)
        head = classifier(extractor.n_features, len(card.class_names))
        extractor.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        extractor.eval()  # training loops switch it to training mode themselves
        return cls(card, extractor, head)

    def state(self) -> dict[str, torch.Tensor]:
        """All weights and statistics by name, on the CPU."""
        parts = {"extractor": self.extractor, "classifier": self.classifier}
        return {
            f"{part}.{name}": tensor.detach().cpu().contiguous()
            for part, module in parts.items()
            for name, tensor in module.state_dict().items()
        }

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Load weights from a dictionary as :meth:`state` returns it."""
        for part, module in (("extractor", self.extractor), ("classifier", self.classifier)):
            prefix = f"{part}."
            own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            module.load_state_dict(own)

    def copy(self, **card_changes: Any) -> Model:
        """A deep copy that shares no weights; fields of its card may be changed."""
        twin = Model.new(self.card.model_copy(update=card_changes))
        twin.load_state(self.state())
        return twin

    def save(self, path: Path) -> None:
        """Write the model atomically.

        Raises
        ------
        OutputError
            When the file cannot be written.
        """
        with atomic_path(path) as temporary:
            # Through bytes: safetensors would create a file with the permissions 0600.
            card = {"tomadapt": self.card.model_dump_json()}
            temporary.write_bytes(serialise(self.state(), card))

    @classmethod
    def load(cls, path: Path | str) -> Model:
        """Read a model file; no code in it is executed.

        Raises
        ------
        InputError
            When the file is missing, damaged, of another format or of unknown networks.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(
                f"no model at {path}", expected="a file", got="nothing", remedy="check the path"
            )
        try:
            with safe_open(path, framework="pt") as file:
                card_text = (file.metadata() or {}).get("tomadapt")
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{path} is not a model file",
                expected="safetensors",
                got=str(error),
                remedy="train again, or copy the file again",
            ) from error
        if card_text is None:
            raise InputError(
                f"{path} has no tomadapt card",
                expected="a file written by `tomadapt train` or `adapt`",
                got="other safetensors",
                remedy="train a model",
            )
        try:
            fields = dict(json.loads(card_text))
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(
                f"the card of {path} is not JSON", got=str(error), remedy="train a model again"
            ) from error
        if fields.get("format") != FORMAT:
            raise InputError(
                f"{path} is a model of another format",
                expected=FORMAT,
                got=fields.get("format"),
                remedy=f"train it again with tomadapt {version('tomadapt')}",
            )
        try:
            card = ModelCard.model_validate(fields)
            _require_weights(card, state)
            model = cls.new(card)
            model.load_state(state)
        except (ValidationError, KeyError, RuntimeError, ValueError) as error:
            lines = str(error).splitlines()
            raise InputError(
                f"{path} does not hold the weights its card announces",
                got=": ".join(line.strip() for line in lines[:3] if line),
                remedy="train it again with this version",
            ) from error
        model.extractor.eval()
        return model

    @property
    def fingerprint(self) -> str:
        """A digest of all weights and statistics."""
        state = sorted(self.state().items())
        return digest(*(part for name, t in state for part in (name, t.numpy())), size=16)

    def require_classes(self, class_names: tuple[str, ...], what: str) -> None:
        """Raise when data have other classes than the model, or in another order.

        Raises
        ------
        MismatchError
            With the classes of both.
        """
        if tuple(class_names) != self.card.class_names:
            raise MismatchError(
                f"{what} and the model differ in classes",
                expected=f"{', '.join(self.card.class_names)} (model)",
                got=f"{', '.join(class_names)} ({what})",
                remedy="use data with the model's classes in the same order",
            )

    def require_domains(self, source: LabelledSubtomograms, target: Subtomograms) -> None:
        """Raise when a source or a target does not fit this source model.

        Raises
        ------
        MismatchError
            When box, voxel size or classes differ; both sides are named.
        """
        self.require_matching(source, "the source")
        self.require_classes(source.class_names, "the source")
        self.require_matching(target, "the target")

    def require_matching(self, data: Subtomograms, what: str) -> None:
        """Raise when data have another box or voxel size than the model.

        Raises
        ------
        MismatchError
            When box or voxel size differ; both sides are named.
        """
        if data.box != self.card.box:
            raise MismatchError(
                f"{what} and the model differ in box",
                expected=f"{self.card.box} voxels (model)",
                got=f"{data.box} voxels ({what})",
                remedy="extract or simulate with the model's box, or train a model for this one",
            )
        if not same_voxel_size(data.voxel_size_A, self.card.voxel_size_A):
            raise MismatchError(
                f"{what} and the model differ in voxel size",
                expected=f"{self.card.voxel_size_A:g} Å (model)",
                got=f"{data.voxel_size_A:g} Å ({what})",
                remedy="rescale the subtomograms, or train a model at their voxel size",
            )
