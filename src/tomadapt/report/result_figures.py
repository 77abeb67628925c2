"""Figures of what the models predict: accuracy, recall, confusion, features, confidence."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from tomadapt.metrics import binomial_interval, confusion_matrix, recall_per_class
from tomadapt.report.content import Evaluation, ReportContent
from tomadapt.report.embedding import choose_particles, embed
from tomadapt.report.numbers import judged, score, score_of, scored_evaluations
from tomadapt.report.style import (
    INK,
    MUTED,
    SOURCE,
    SOURCE_ONLY,
    adaptation_method,
    class_style,
    fraction_axis,
    method_colours,
    method_title,
    ordered_methods,
    shorten,
    styled,
)

_DENSITY = LinearSegmentedColormap.from_list("fraction", ["#ffffff", "#8fb8d8", "#0b3c68"])

_TRUE_NUMBER = "true number"


def _before_after(evaluation: Evaluation) -> tuple[str, str]:
    return SOURCE_ONLY, adaptation_method(evaluation.predictions)


def _set_title(axes: Axes, method: str) -> None:
    when = "Before" if method == SOURCE_ONLY else "After"
    axes.set_title(f"{when}: {method_title(method)}")


def _labelled(content: ReportContent) -> tuple[Evaluation, NDArray[np.int64]]:
    evaluation = judged(content)
    if evaluation is None or evaluation.labels is None:
        raise ValueError("this figure needs true classes")
    return evaluation, evaluation.labels


@styled
def accuracies(content: ReportContent) -> Figure:
    """Accuracy of every method on every labelled set of target particles."""
    groups = scored_evaluations(content)
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    axes = figure.subplots()
    colours = method_colours(groups[0][1].predictions)
    seen: dict[str, str] = {}
    for i, (_, evaluation, labels) in enumerate(groups):
        methods = ordered_methods(evaluation.predictions)
        width = 0.8 / max(3, len(methods))
        for j, method in enumerate(methods):
            result = score(evaluation.predictions[method], labels)
            x = i + (j - (len(methods) - 1) / 2) * width
            colour = method_colours(evaluation.predictions)[method]
            axes.bar(x, result.accuracy, width=0.88 * width, color=colour)
            axes.errorbar(
                x, result.accuracy, yerr=result.error_bars, color=INK, capsize=6, linewidth=1.6
            )
            axes.text(
                x, min(result.high, 1.0) + 0.015, f"{100 * result.accuracy:.1f} %", ha="center",
                va="bottom", fontweight="bold", fontsize=12,
                path_effects=[withStroke(linewidth=4, foreground="white")],
            )  # fmt: skip
            seen[method] = colours.get(method, colour)
    handles = [
        Line2D([], [], marker="s", markersize=11, linestyle="", color=c) for c in seen.values()
    ]
    labels_ = [method_title(m) for m in seen]
    if content.source_held_out is not None:
        own = score_of(*content.source_held_out)
        axes.axhline(own.accuracy, color=SOURCE, linestyle="--", linewidth=1.6, zorder=0.5)
        axes.axhspan(own.low, own.high, color=SOURCE, alpha=0.10, linewidth=0)
        handles.append(Line2D([], [], color=SOURCE, linestyle="--", linewidth=1.6))
        labels_.append("source model in its own domain")
    axes.axhline(1 / len(content.class_names), color=MUTED, linestyle=":", linewidth=1.4)
    handles.append(Line2D([], [], color=MUTED, linestyle=":", linewidth=1.4))
    labels_.append("guessing")
    axes.set_xticks(
        range(len(groups)),
        labels=[f"{title}\n({len(labels):,} particles)" for title, _, labels in groups],
        fontsize=12,
    )
    axes.tick_params(axis="x", length=0)
    fraction_axis(axes)
    axes.spines["left"].set_bounds(0, 1)
    axes.set(ylim=(0, 1.1), xlim=(-0.6, len(groups) - 0.4), ylabel="accuracy")
    figure.legend(handles, labels_, loc="outside right center")
    return figure


@styled
def recalls(content: ReportContent) -> Figure:
    """Fraction of each true class that is found, before and after."""
    evaluation, labels = _labelled(content)
    n = len(content.class_names)
    figure = Figure(figsize=(11, 1.3 + 0.42 * n), layout="constrained")
    axes = figure.subplots()
    support = np.bincount(labels, minlength=n)
    rows = np.arange(n)
    colours = method_colours(evaluation.predictions)
    found = []
    for method, shift, marker in zip(_before_after(evaluation), (-0.14, 0.14), "oD", strict=True):
        recall = recall_per_class(evaluation.predictions[method].labels, labels, n)
        found.append(recall)
        for row in rows[support > 0]:
            low, high = binomial_interval(recall[row], int(support[row]))
            axes.plot(
                [low, high], [row + shift] * 2, color=colours[method], linewidth=1.6, alpha=0.7
            )
        axes.plot(
            recall, rows + shift, marker, color=colours[method], markersize=8.5,
            markeredgecolor="white", label=method_title(method),
        )  # fmt: skip
    for row in rows[support == 0]:
        axes.text(0.01, row, "no such particle", color=MUTED, va="center", fontsize=9.5)
    for row in rows[support > 0]:
        change = found[1][row] - found[0][row]
        axes.text(
            1.015, row, f"{100 * change:+.0f}".replace("-", "−"), va="center", fontsize=11,
            color=INK if abs(change) >= 0.005 else MUTED, fontweight="bold",
        )  # fmt: skip
    axes.text(1.015, -0.75, "change", fontsize=10, va="center", color=MUTED)
    axes.set_yticks(
        rows,
        labels=[
            f"{shorten(c, 26)}  ({k})" for c, k in zip(content.class_names, support, strict=True)
        ],
    )
    axes.tick_params(axis="y", length=0)
    fraction_axis(axes, "x")
    axes.set(ylim=(n - 0.4, -0.6), xlabel="recall: fraction of the true class that is found")
    for row in rows[:-1]:
        axes.axhline(row + 0.5, color="#eef1f4", linewidth=0.8, zorder=0)
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@styled
def confusions(content: ReportContent) -> Figure:
    """Confusion before and after, columns (true classes) scaled to 1: the paper's Fig. 5."""
    evaluation, labels = _labelled(content)
    n = len(content.class_names)
    figure = Figure(figsize=(12, 6.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, method in zip(panels, _before_after(evaluation), strict=True):
        counts = confusion_matrix(evaluation.predictions[method].labels, labels, n)
        _draw_confusion(axes, column_fractions(counts), content.class_names)
        _set_title(axes, method)
        axes.set_xlabel("TRUE class (columns)", fontsize=12, labelpad=8)
    panels[0].set_ylabel("PREDICTED class (rows)", fontsize=12, labelpad=8)
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), _DENSITY), ax=panels, shrink=0.6, aspect=26, pad=0.015,
        ticks=[0, 0.5, 1],
    )  # fmt: skip
    bar.set_label("fraction of the true class")
    bar.outline.set_visible(False)
    return figure


def column_fractions(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Scale each column (true class) to sum 1; an absent class is NaN."""
    with np.errstate(invalid="ignore"):
        return np.asarray(counts / counts.sum(axis=0, keepdims=True))


def _draw_confusion(
    axes: Axes, fractions: NDArray[np.float64], class_names: tuple[str, ...]
) -> None:
    n = len(class_names)
    axes.set_facecolor("#e4e7ea")  # shows where a true class is absent
    axes.pcolormesh(
        np.ma.masked_invalid(fractions), cmap=_DENSITY, vmin=0, vmax=1, edgecolors="#e4e7ea",
        linewidth=0.6,
    )  # fmt: skip
    for i in range(n):
        axes.plot([i, i + 1, i + 1, i, i], [i, i, i + 1, i + 1, i], color=MUTED, linewidth=1)
    if n <= 12:
        for row, column in np.argwhere(np.nan_to_num(fractions) >= 0.005):
            value = fractions[row, column]
            axes.text(
                column + 0.5, row + 0.5, f"{100 * value:.0f}", ha="center", va="center",
                color="white" if value > 0.55 else INK, fontsize=11 if n <= 8 else 9,
            )  # fmt: skip
    size = 10.5 if n <= 12 else 8.5
    names = [shorten(name, 20) for name in class_names]
    centres = np.arange(n) + 0.5
    axes.set_xticks(centres, labels=names, rotation=90 if n > 12 else 45, fontsize=size)
    for label in axes.get_xticklabels():
        label.set(ha="center" if n > 12 else "right", rotation_mode="anchor" if n <= 12 else None)
    axes.set_yticks(centres, labels=names, fontsize=size)
    axes.tick_params(length=0)
    axes.set(xlim=(0, n), ylim=(n, 0), aspect="equal")
    axes.spines[:].set_visible(False)


@styled
def feature_maps(content: ReportContent) -> Figure:
    """t-SNE of the target's features, before and after embedded separately (the paper's Fig. 4)."""
    evaluation = content.transductive
    n = len(content.class_names)
    before = evaluation.predictions[SOURCE_ONLY]
    chosen = choose_particles(len(before.features), evaluation.labels, n_classes=n)
    figure = Figure(figsize=(12, 5.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, method in zip(panels, _before_after(evaluation), strict=True):
        prediction = evaluation.predictions[method]
        points = embed(prediction.features[chosen])
        shown = prediction.labels if evaluation.labels is None else evaluation.labels
        # In a random order, or the last class would cover the others.
        order = np.random.default_rng(0).permutation(len(chosen))
        for index in range(n):
            colour, marker = class_style(index)
            member = order[shown[chosen][order] == index]
            axes.scatter(
                *points[member].T, s=24 if len(chosen) <= 1000 else 13, color=colour,
                marker=marker, linewidths=0.35, edgecolors="#3a3a3a", alpha=0.9,
            )  # fmt: skip
        _set_title(axes, method)
        axes.set(xticks=[], yticks=[])
        axes.margins(0.04)
        axes.spines[:].set(visible=True, color="#c9d1d8")
    handles = [
        Line2D(
            [], [], color=colour, marker=marker, linestyle="", markersize=8, markeredgewidth=0.4,
            markeredgecolor="#3a3a3a",
        )
        for colour, marker in map(class_style, range(n))
    ]  # fmt: skip
    legend = figure.legend(
        handles, [shorten(c, 22) for c in content.class_names], loc="outside right center",
        title="predicted class" if evaluation.labels is None else "true class",
        fontsize=10.5 if n <= 16 else 9, labelspacing=0.5 if n <= 16 else 0.35,
    )  # fmt: skip
    legend.set_alignment("left")
    legend.get_title().set_fontweight("bold")
    return figure


@styled
def prediction_histograms(content: ReportContent) -> Figure:
    """How often each class is predicted, and how confidently, before and after."""
    evaluation = content.transductive
    n = len(content.class_names)
    figure = Figure(figsize=(11, max(4.0, 1.2 + 0.28 * n)), layout="constrained")
    counts, confidence = figure.subplots(1, 2, width_ratios=[1.25, 1])
    colours = method_colours(evaluation.predictions)
    rows = np.arange(n)
    methods = ordered_methods(evaluation.predictions)
    height = 0.76 / len(methods)
    for i, method in enumerate(methods):
        prediction = evaluation.predictions[method]
        shift = (i - (len(methods) - 1) / 2) * height
        counts.barh(
            rows + shift, np.bincount(prediction.labels, minlength=n), height=height,
            color=colours[method], label=method_title(method),
        )  # fmt: skip
        heights, edges = np.histogram(prediction.confidence, bins=20, range=(0, 1))
        heights = heights / len(prediction.confidence)
        confidence.stairs(heights, edges, color=colours[method], linewidth=2.4)
        confidence.stairs(heights, edges, color=colours[method], fill=True, alpha=0.18)
    if evaluation.labels is not None:
        counts.plot(
            np.bincount(evaluation.labels, minlength=n), rows, linestyle="", marker="|",
            markersize=min(16, 260 / n), markeredgewidth=2.4, color=INK, label=_TRUE_NUMBER,
        )  # fmt: skip
    counts.set_yticks(rows, labels=[shorten(c, 22) for c in content.class_names])
    counts.tick_params(axis="y", length=0)
    counts.set(ylim=(n - 0.4, -0.6), xlabel="particles", title="Predicted class")
    counts.grid(axis="x")
    confidence.set(
        title="Confidence of the prediction", xlim=(0, 1), ylabel="fraction of particles",
        xlabel="probability of the predicted class",
    )  # fmt: skip
    confidence.set_ylim(bottom=0)
    confidence.grid(axis="y")
    handles, names = counts.get_legend_handles_labels()
    in_order = sorted(zip(handles, names, strict=True), key=lambda item: item[1] == _TRUE_NUMBER)
    figure.legend(*zip(*in_order, strict=True), loc="outside upper left", ncols=3)
    return figure
