"""What the figures draw: values, labels, orientation."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from tomadapt.acquisition import Acquisition
from tomadapt.report import figures, result_figures
from tomadapt.report.style import (
    adaptation_method,
    class_style,
    method_colours,
    method_title,
    ordered_methods,
    png_uri,
    svg_uri,
    wrap,
)
from tomadapt.simulate.optics import electron_wavelength_A

MANY = tuple(f"class_{i:02d}" for i in range(23))
LABELLED_ONLY = (
    result_figures.accuracies,
    result_figures.recalls,
    result_figures.confusions,
)


def _texts(figure):
    return [t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text"))]


def test_transfer_curve_is_the_formula():
    acquisition = Acquisition(defocus_um=5.0, astigmatism_um=0.4, amplitude_contrast=0.07)
    frequency, transfer = figures.transfer_curve(acquisition, 9.2)
    assert frequency[0] == 0
    assert frequency[-1] == pytest.approx(1 / (2 * 0.92))  # Nyquist in 1/nm
    k = frequency / 10
    wavelength = electron_wavelength_A(300)
    phase = math.pi * wavelength * 5e4 * k**2 - math.pi / 2 * 2.7e7 * wavelength**3 * k**4
    expected = np.sin(phase + math.asin(0.07)) * np.sinc(frequency / frequency[-1] / 2)
    assert np.allclose(transfer, expected, atol=2e-3)


@pytest.mark.parametrize(
    ("angles", "expected"),
    [
        ((-60, -30, 0, 30, 60), "±60°, 5 tilts, 30° step"),
        ((-51, 0, 60), "−51° to 60°, 3 tilts, 51–60° steps"),
    ],
)
def test_tilts_in_words(angles, expected):
    assert figures.tilt_text(Acquisition(defocus_um=1, tilt_angles_deg=angles)) == expected


def test_acquisition_curves_end_at_each_nyquist(make_content):
    content = make_content()
    content = dataclasses.replace(
        content, target=dataclasses.replace(content.target, voxel_size_A=4.6)
    )
    curves = figures.acquisitions(content).axes[0]
    ends = [line.get_xdata().max() for line in curves.lines if len(line.get_xdata()) > 100]
    assert ends == pytest.approx([5 / 9.2, 5 / 4.6])


def test_unknown_acquisition_is_said(make_content):
    content = make_content()
    content = dataclasses.replace(
        content, target=dataclasses.replace(content.target, acquisition=None)
    )
    assert "not known" in _texts(figures.acquisitions(content))


def test_grey_levels_depend_on_the_slice_alone():
    image = np.random.default_rng(0).normal(size=(24, 24))
    assert np.allclose(figures.grey_levels(image), figures.grey_levels(7 * image + 3))
    assert figures.grey_levels(image).mean() == pytest.approx(0.5, abs=0.01)
    assert figures.grey_levels(image + 9)[image > 0.5].min() > 0.5  # density stays bright
    assert (figures.grey_levels(np.zeros((4, 4))) == 0.5).all()


def test_slices_of_every_class_and_domain(make_content):
    figure = figures.example_slices(make_content(MANY, n=46, n_held_out=0))
    assert sum(len(axes.images) for axes in figure.axes) == 23 * 2 * 2
    headings = [t.get_text().replace("\n", "") for a in figure.axes for t in a.get_xticklabels()]
    assert [h for h in headings if h] == list(MANY)


def test_slices_without_labels(make_content):
    figure = figures.example_slices(make_content(labelled=False))
    assert [axes.get_ylabel() for axes in figure.axes] == ["source", "target"]
    assert len(figure.axes[1].images) == 16


def test_discriminator_curve_and_its_aim(make_content):
    content = make_content()
    axes = figures.adversarial_training(content).axes[0]
    aim, curve = axes.lines
    assert list(aim.get_ydata()) == [0.5, 0.5]
    assert aim.get_linestyle() == "--"
    expected = [r["discriminator_accuracy"] for r in content.adaptation_history]
    assert curve.get_ydata().tolist() == expected


def test_accuracy_bars_have_the_hand_computed_heights(make_content):
    axes = result_figures.accuracies(make_content()).axes[0]
    heights = [bar.get_height() for bar in axes.patches if 0 < bar.get_width() < 0.5]
    assert heights == pytest.approx([0.5, 0.625, 0.75] * 2)
    assert [t.get_text() for t in axes.texts] == ["50.0 %", "62.5 %", "75.0 %"] * 2
    # Wilson's interval of 40 of 80: (0.5 + z²/160 ± z √(1/320 + z²/25600)) / (1 + z²/80)
    z2 = 1.96**2
    half = 1.96 * math.sqrt(0.25 / 80 + z2 / (4 * 80**2)) / (1 + z2 / 80)
    low, high = axes.collections[0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half))


def test_confusion_rows_are_predicted(make_content):
    # Everything of class 0 is taken for class 1: row 1, column 0 is full.
    content = make_content(("a", "b", "c"), n=30, right={"source_only": 30, "ada": 30})
    prediction = content.transductive.predictions["ada"]
    probabilities = prediction.probabilities.copy()
    probabilities[content.transductive.labels == 0] = [0.0, 1.0, 0.0]
    content.transductive.predictions["ada"] = dataclasses.replace(
        prediction, probabilities=probabilities
    )
    before, after = result_figures.confusions(content).axes[:2]
    matrices = [
        next(c for c in a.collections if isinstance(c, QuadMesh)).get_array().reshape(3, 3)
        for a in (before, after)
    ]
    assert np.array_equal(matrices[0], np.eye(3))
    assert np.array_equal(matrices[1], [[0, 0, 0], [1, 1, 0], [0, 0, 1]])
    assert "PREDICTED" in before.get_ylabel()
    assert "TRUE" in after.get_xlabel()
    assert after.get_ylim() == (3, 0)  # the first row is at the top


def test_confusion_is_darker_where_larger():
    light, middle, dark = (sum(result_figures._DENSITY(v)[:3]) for v in (0.0, 0.5, 1.0))
    assert light > middle > dark


def test_column_fractions_of_an_absent_class():
    fractions = result_figures.column_fractions(np.array([[3, 0], [1, 0]]))
    assert fractions[:, 0].tolist() == [0.75, 0.25]
    assert np.isnan(fractions[:, 1]).all()


def test_recall_changes(make_content):
    content = make_content(("a", "b"), n=40, right={"source_only": 20, "ada": 40})
    axes = result_figures.recalls(content).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["3D-ADA"].get_xdata().tolist() == [1.0, 1.0]
    mean_before = np.mean(lines["source only"].get_xdata())
    assert mean_before == pytest.approx(0.5)


@pytest.mark.parametrize(("labelled", "title"), [(True, "true class"), (False, "predicted class")])
def test_feature_map_says_what_its_colours_are(make_content, labelled, title):
    figure = result_figures.feature_maps(make_content(labelled=labelled))
    assert figure.legends[0].get_title().get_text() == title
    assert sum(len(c.get_offsets()) for c in figure.axes[0].collections) == 80


def test_histograms_count_every_particle(make_content):
    content = make_content()
    counts, confidence = result_figures.prediction_histograms(content).axes
    widths = np.array([bar.get_width() for bar in counts.patches]).reshape(-1, 8)
    assert widths.sum(axis=1).tolist() == [80, 80, 80]  # every method, the middle one too
    labels = content.transductive.predictions["ada"].labels
    assert widths[2].tolist() == np.bincount(labels, minlength=8).tolist()
    assert confidence.patches[0].get_data().values.sum() == pytest.approx(1)


@pytest.mark.parametrize("draw", LABELLED_ONLY)
def test_twenty_three_classes_can_be_drawn(make_content, draw):
    content = make_content(MANY, n=69, n_held_out=23)
    assert len(svg_uri(draw(content))) > 10_000


def test_dollars_and_angle_brackets_are_plain_text(make_content):
    names = ("$a_b$", "<b>&", "x" * 60)
    figure = result_figures.confusions(make_content(names, n=12))
    assert svg_uri(figure).startswith("data:image/svg+xml;base64,")
    assert png_uri(figure).startswith("data:image/png;base64,")


def test_same_content_same_bytes(make_content):
    for uri in (svg_uri, png_uri):
        assert uri(figures.acquisitions(make_content())) == uri(
            figures.acquisitions(make_content())
        )


def test_each_of_many_classes_looks_different():
    assert len({class_style(i) for i in range(23)}) == 23


def test_methods_in_words_and_in_order():
    methods = ["mine", "ada", "target_statistics", "source_only"]
    assert ordered_methods(dict.fromkeys(methods)) == [
        "source_only",
        "target_statistics",
        "mine",
        "ada",
    ]
    assert [method_title(m) for m in methods] == [
        "mine",
        "3D-ADA",
        "statistics re-estimated",
        "source only",
    ]
    assert adaptation_method({"source_only": 0, "mine": 0}) == "mine"
    assert adaptation_method({"source_only": 0, "target_statistics": 0}) == "target_statistics"
    assert len(set(method_colours(dict.fromkeys(methods)).values())) == 4


def test_long_names_break_at_underscores():
    assert wrap("ribosome_70s", 10) == "ribosome_\n70s"
    assert wrap("short", 10) == "short"
    assert len(wrap("a_very_long_name_that_goes_on", 10).split("\n")) == 2
