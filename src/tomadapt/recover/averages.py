"""Averages of all classes of some particles, in a folder; an interrupted run can be continued."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.data.subtomograms import Subtomograms
from tomadapt.fsc import Volume
from tomadapt.io.mrc_writing import write_mrc
from tomadapt.recover.average import MIN_PARTICLES, AveragingOptions, average
from tomadapt.recover.averaging_state import Average
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.recover.pose_files import write_poses
from tomadapt.runs.atomic import write_json
from tomadapt.runs.digest import digest
from tomadapt.runs.own_folder import make_own, require_own
from tomadapt.runs.stages import peak_memory_mb
from tomadapt.runs.versions import versions
from tomadapt.simulate.simulator import NULL_CLASS

THRESHOLDS = (0.5, 0.143)
_ENDINGS = ("", "_half1", "_half2", "_mask", "_poses")
"""Endings of a class's file names."""


@dataclass(frozen=True)
class AveragedClass:
    """One class and its average in the folder.

    Attributes
    ----------
    name, particles
        The class, and how many particles it has.
    result
        Its average, or None.
    reason
        Why there is no average.
    """

    name: str
    particles: int
    result: Average | None
    reason: str | None = None

    @property
    def record(self) -> dict[str, Any]:
        """Its entry of ``fsc.json``."""
        if self.result is None:
            return {"particles": self.particles, "reason": self.reason}
        n = len(self.result.volume)
        box_nm = n * self.result.voxel_size_A / 10
        found = {f"resolution_{t:g}_nm": self.result.resolution_A(t) for t in THRESHOLDS}
        return {
            "particles": self.particles,
            **{k: None if v is None else round(v / 10, 3) for k, v in found.items()},
            "frequency_per_nm": [round(i / box_nm, 5) for i in range(n // 2)],
            "fsc": _curve(self.result.fsc.corrected),
            "fsc_unmasked": _curve(self.result.fsc.unmasked),
            "fsc_masked": _curve(self.result.fsc.masked),
            "fsc_phases_randomised": _curve(self.result.fsc.randomised),
            "phases_randomised_from_shell": int(self.result.fsc.randomised_from),
            "history": [
                {k: None if np.isnan(v) else v for k, v in record.items()}
                for record in self.result.history
            ],
        }


def average_classes(
    data: Subtomograms,
    names: Sequence[str],
    points: MeasuredPoints,
    options: AveragingOptions,
    out: Path,
    *,
    template: Volume | None = None,
    mask: Volume | None = None,
    progress: Callable[[int, str], None] = lambda _, __: None,
) -> list[AveragedClass]:
    """Average every class, and write maps, half maps, poses and FSC.

    Parameters
    ----------
    data
        All particles.
    names
        (n,) the class of each.
    points, options, template, mask
        As for :func:`~tomadapt.recover.average.average`.
    out
        The folder: ``<class>.mrc``, ``<class>_half1.mrc``, ``<class>_half2.mrc``,
        ``<class>_mask.mrc``, ``<class>_poses.csv`` with each particle's number in the file or set
        that ``data`` was read from, and ``fsc.json``.
    progress
        Called with a number of iterations, ``options.iterations + 1`` in all for each class, and
        the class's name.

    Returns
    -------
    list of AveragedClass
        In the order of their names. Classes of fewer than four particles, and the class ``null``
        (noise) beside others, have a reason instead of an average.

    Raises
    ------
    MismatchError
        When the folder holds averages of other particles or options.
    OutputError
        When it cannot be written.
    """
    wanted = {
        "particles": data.fingerprint,
        "labels": digest("\n".join(names), size=16),
        "points": digest(points.transfer.cpu().numpy(), points.k.cpu().numpy(), size=16),
        "template": None if template is None else digest(template, size=16),
        "mask": None if mask is None else digest(mask, size=16),
        "options": options.model_dump(mode="json"),
    }
    require_own(out, wanted)
    make_own(out, wanted)
    about = {
        "box": data.box,
        "voxel_size_A": data.voxel_size_A,
        "recording": points.recording,
        "options": options.model_dump(mode="json"),
        "versions": versions(),
    }
    done: list[AveragedClass] = []
    stems = file_stems(sorted(set(names)))
    for name, stem in stems.items():
        rows = np.flatnonzero(np.array(names) == name)
        reason = _reason(name, len(rows), of=len(stems))
        if reason is not None:
            done.append(AveragedClass(name, len(rows), None, reason))
            progress(options.iterations + 1, name)
            continue
        kept = out / f"{stem}.npz"
        result = Average.load(kept) if kept.exists() else None
        if result is None:
            begun = 0

            def tell(n: int, name: str = name) -> None:
                nonlocal begun
                begun += n
                progress(n, name)

            state = out / f"{stem}.checkpoint.npz"
            result = average(
                data.subset(rows),
                points,
                options,
                template=template,
                mask=mask,
                checkpoint=state,
                progress=tell,
            )
            result.save(kept)
            state.unlink(missing_ok=True)
            progress(options.iterations + 1 - begun, name)
        else:
            progress(options.iterations + 1, name)
        _write_maps(out, stem, result)
        write_poses(
            out / f"{stem}_poses.csv",
            result.poses,
            voxel_size_A=data.voxel_size_A,
            rows=data.rows[rows],
            halves=result.halves,
        )
        done.append(AveragedClass(name, len(rows), result))
        _write_fsc(out, done, stems, about)
    _write_fsc(out, done, stems, about)
    return done


def file_stems(names: Sequence[str]) -> dict[str, str]:
    """Unique file names of classes, in which characters that files must not have are replaced."""
    stems: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        stem = re.sub(r"[^A-Za-z0-9._+-]", "_", name).lstrip(".") or "class"
        while taken & (files := {(stem + ending).lower() for ending in _ENDINGS}):
            stem += "_"
        taken |= files
        stems[name] = stem
    return stems


def _reason(name: str, particles: int, *, of: int) -> str | None:
    """Why a class, one of ``of``, has no average; None when it gets one."""
    if particles < MIN_PARTICLES:
        return f"fewer than {MIN_PARTICLES} particles"
    if name == NULL_CLASS and of > 1:
        return "the class of noise; averaged only by itself"
    return None


def _curve(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(v) else round(float(v), 4) for v in values]


def _write_maps(out: Path, stem: str, result: Average) -> None:
    for ending, volume in zip(
        _ENDINGS, (result.volume, *result.half_maps, result.mask), strict=False
    ):
        label = f"tomadapt average {ending[1:]}".strip()
        write_mrc(
            out / f"{stem}{ending}.mrc", volume, voxel_size_A=result.voxel_size_A, labels=[label]
        )


def _write_fsc(
    out: Path, done: Sequence[AveragedClass], stems: dict[str, str], about: dict[str, Any]
) -> None:
    classes = {}
    for one in done:
        file = {} if one.result is None else {"file": f"{stems[one.name]}.mrc"}
        classes[one.name] = file | one.record
    write_json(out / "fsc.json", {"classes": classes, **about, "peak_memory_mb": peak_memory_mb()})
