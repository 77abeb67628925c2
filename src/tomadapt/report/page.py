"""One self-contained HTML file that shows a run from its domains to its predictions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from matplotlib.figure import Figure

from tomadapt.acquisition import Acquisition
from tomadapt.metrics import recall_per_class
from tomadapt.report import figures, result_figures
from tomadapt.report.content import Domain, ReportContent
from tomadapt.report.numbers import headlines, judged, score, scored_evaluations, summary
from tomadapt.report.style import (
    SOURCE_ONLY,
    adaptation_method,
    method_title,
    ordered_methods,
    percent,
    png_uri,
    svg_uri,
)
from tomadapt.runs.atomic import write_text


def write_report(content: ReportContent, path: Path) -> None:
    """Write a report as one HTML file that needs neither network nor JavaScript.

    Parameters
    ----------
    content
        What to show.
    path
        Where to; a file there is replaced.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    write_text(path, render(content))


def page_template(name: str) -> Template:
    """A page's template, in which all that is not markup is escaped and nothing may be missing."""
    environment = Environment(
        loader=PackageLoader("tomadapt", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def render(content: ReportContent) -> str:
    """Give the page as text; the same text for the same content."""
    evaluation = judged(content)
    methods = content.transductive.predictions
    adapted = adaptation_method(methods)
    return page_template("report.html.j2").render(
        content=content,
        pictures={name: draw() for name, draw in _pictures(content).items()},
        headlines=headlines(content),
        summary=summary(content),
        labelled=evaluation is not None,
        coloured_by="predicted" if content.transductive.labels is None else "true",
        adapted=method_title(adapted),
        domain_rows=domain_rows(content.source, content.target),
        accuracy_rows=accuracy_rows(content),
        recall_rows=recall_rows(content),
        **timed(content.seconds),
        provenance=[(k, *_provenance_text(v)) for k, v in content.provenance.items()],
    )


def _pictures(content: ReportContent) -> dict[str, Callable[[], str]]:
    """Name the pictures that there are data for; each is drawn when it is called."""

    def svg(draw: Callable[[ReportContent], Figure]) -> Callable[[], str]:
        return lambda: svg_uri(draw(content))

    def png(draw: Callable[[ReportContent], Figure]) -> Callable[[], str]:
        return lambda: png_uri(draw(content))

    pictures = {
        "examples": png(figures.example_slices),
        "features": png(result_figures.feature_maps),
        "predictions": svg(result_figures.prediction_histograms),
    }
    if content.source.acquisition is not None or content.target.acquisition is not None:
        pictures["acquisitions"] = svg(figures.acquisitions)
    if content.source_history:
        pictures["source_training"] = svg(figures.source_training)
    if content.adaptation_history:
        pictures["adaptation"] = svg(figures.adversarial_training)
    if judged(content) is not None:
        pictures["accuracies"] = svg(result_figures.accuracies)
        pictures["recalls"] = svg(result_figures.recalls)
        pictures["confusions"] = svg(result_figures.confusions)
    return pictures


def _mtf_text(acquisition: Acquisition) -> str:
    if acquisition.mtf == "sinc":
        return "sinc(πω/2), ω the fraction of Nyquist"
    if acquisition.mtf == "none":
        return "none"
    return f"given at {len(acquisition.mtf)} frequencies"


_ACQUISITION_ROWS: dict[str, tuple[str, Callable[[Acquisition], str]]] = {
    "name": ("acquisition", lambda a: a.name),
    "voltage_kv": ("voltage", lambda a: f"{a.voltage_kv:g} kV"),
    "spherical_aberration_mm": (
        "spherical aberration Cs",
        lambda a: f"{a.spherical_aberration_mm:g} mm",
    ),
    "defocus_um": ("defocus (positive = underfocus)", lambda a: f"{a.defocus_um:g} µm"),
    "astigmatism_um": ("astigmatism", lambda a: f"{a.astigmatism_um:g} µm"),
    "astigmatism_angle_deg": ("astigmatism angle", lambda a: f"{a.astigmatism_angle_deg:g}°"),
    "amplitude_contrast": ("amplitude contrast", lambda a: f"{a.amplitude_contrast:g}"),
    "tilt_angles_deg": ("tilt angles", figures.tilt_text),
    "mtf": ("detector MTF", _mtf_text),
    "noise_before_ctf": (
        "noise that went through the CTF",
        lambda a: f"{100 * a.noise_before_ctf:g} %",
    ),
    "b_factor_A2": ("B-factor", lambda a: f"{a.b_factor_A2:g} Å²"),
    "exposure_per_tilt_e_per_A2": (
        "exposure of a tilt",
        lambda a: f"{a.exposure_per_tilt_e_per_A2:g} e/Å²",
    ),
    "exposure_order": (
        "order of exposure",
        lambda a: "dose-symmetric" if isinstance(a.exposure_order, str) else "given tilt by tilt",
    ),
    "thickness_in_mean_free_paths": (
        "thickness",
        lambda a: f"{a.thickness_in_mean_free_paths:g} mean free paths",
    ),
}
_LATER = Acquisition.later_fields
"""Rows that say nothing where both domains have the default."""


def domain_rows(source: Domain, target: Domain) -> list[tuple[str, str, str, bool]]:
    """Tabulate both domains: parameter, source, target, and whether a physical one differs."""
    rows = [
        ("set", source.title, target.title, False),
        ("particles", f"{source.n_particles:,}", f"{target.n_particles:,}", False),
    ]
    of_set: dict[str, Callable[[Domain], str]] = {
        "box": lambda d: f"{d.box}³ voxels",
        "voxel size": lambda d: f"{d.voxel_size_A:g} Å",
        "SNR in the tilt images": lambda d: _snr_text(d.snr),
        "SNR before the CTF": lambda d: _snr_text(d.snr_before_ctf),
    }
    for label, text_of in of_set.items():
        pair = text_of(source), text_of(target)
        rows.append((label, *pair, pair[0] != pair[1] and _UNKNOWN not in pair))
    acquisitions = (source.acquisition, target.acquisition)
    for key, (label, text) in _ACQUISITION_ROWS.items():
        shown = [_UNKNOWN if a is None else text(a) for a in acquisitions]
        values = [None if a is None else getattr(a, key) for a in acquisitions]
        default = Acquisition.model_fields[key].default
        if key in _LATER and all(value in (None, default) for value in values):
            continue
        differs = values[0] != values[1] and None not in acquisitions
        rows.append((label, shown[0], shown[1], differs))
    return rows


_UNKNOWN = "not known"


def _snr_text(snr: float | None) -> str:
    return _UNKNOWN if snr is None else f"{snr:.3g}"


def accuracy_rows(content: ReportContent) -> list[tuple[str, str, int, int, str, str]]:
    """Tabulate set, method, particles right, particles, accuracy and interval."""
    rows = []
    for title, evaluation, labels in scored_evaluations(content):
        for method in ordered_methods(evaluation.predictions):
            result = score(evaluation.predictions[method], labels)
            name = method_title(method)
            rows.append((title, name, result.correct, result.n, result.text, result.interval))
    return rows


def recall_rows(content: ReportContent) -> list[tuple[str, int, str, str]]:
    """Tabulate class, particles of it, recall before and recall after."""
    evaluation = judged(content)
    if evaluation is None or evaluation.labels is None:
        return []
    n = len(content.class_names)
    labels = evaluation.labels
    before, after = (
        recall_per_class(evaluation.predictions[m].labels, labels, n)
        for m in (SOURCE_ONLY, adaptation_method(evaluation.predictions))
    )
    return [
        (name, int((labels == i).sum()), percent(before[i]), percent(after[i]))
        for i, name in enumerate(content.class_names)
    ]


def timed(seconds: Mapping[str, float]) -> dict[str, Any]:
    """What templates show of the stages' wall times: each, and all together."""
    shown = [(stage, duration_text(s)) for stage, s in seconds.items()]
    return {"seconds": shown, "total": duration_text(sum(seconds.values()))}


def duration_text(seconds: float) -> str:
    """Write a duration: ``8.2 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def _provenance_text(value: Any) -> tuple[str, bool]:
    """Give a value as text, and whether it is a block of several lines."""
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, indent=2, ensure_ascii=False, default=str), True
    return str(value), "\n" in str(value)
