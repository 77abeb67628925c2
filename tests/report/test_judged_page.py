"""The page of a classification by likelihood: order, numbers, and that it claims no accuracy."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser

import matplotlib.colors
import numpy as np
import pytest
from matplotlib.image import imread

from tomadapt.errors import OutputError
from tomadapt.report import judged_page
from tomadapt.report.judged_content import Example, JudgedContent, Marker, Slice
from tomadapt.report.judged_figures import (
    classes_shown,
    marked_slice,
    score_curves,
    stretched,
    tile_uri,
)
from tomadapt.report.judged_page import CAVEAT, render_judged, score_text, write_judged_report
from tomadapt.report.style import class_style

CLASSES = ("ribosome_80s", "tric", "apoferritin")
VOID = {"meta", "img", "br"}


class _Page(HTMLParser):
    """Collect what loads, visible text, and the colour in which each text stands."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.coloured: list[str] = []
        self.legend: list[str] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.sources += [v for k, v in attrs if k in ("src", "srcset", "data", "poster", "href")]
        if tag not in VOID:
            self._open.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        if self._open and self._open[-1][0] == "style":
            return
        self.words.append(data)
        if any("style" in attributes for _, attributes in self._open):
            self.coloured.append(data)
        elif any(attributes.get("class") == "legend" for _, attributes in self._open):
            self.legend += [data.strip()] if data.strip() else []


def _image(seed: int, size: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(size, size)).astype(np.float32)


def build(names: tuple[str, ...] = CLASSES) -> JudgedContent:
    """Build a run with 3, 2 and no particles of three classes."""
    first, second, third = names
    return JudgedContent(
        title="tomadapt: TS_012.mrc",
        warnings=["the defocus was stated to be 4 µm", "nearly everything is one class"],
        counts={first: 3, second: 2, third: 0},
        rejected={"membrane": 1234, "null": 40, "odd kind": 1},
        duplicates=17,
        acquisition={"defocus": ("4 µm", "5.25 µm"), "hand": ("as in the structures", "+12 nats")},
        recording={"voxels": "928 × 960 × 300 (x, y, z) of 10 Å"},
        assumed={"coordinates": "coordinates in pixels of 1.35 Å, tomogram at 10 Å"},
        scores={
            first: np.array([1.0, 0.9, 0.8]),
            second: np.array([0.99996, 0.99996]),
            third: np.zeros(0),
        },
        fdr={first: np.array([0, 0.05, 0.1]), second: np.zeros(2), third: np.zeros(0)},
        evidence={
            first: np.array([310.0, 120, 88]),
            second: np.array([-3.0, -9]),
            third: np.zeros(0),
        },
        surest={first: [Example(_image(1), 1.0), Example(_image(2), 0.9)], third: []},
        least_sure={first: [Example(_image(3), 0.8)], second: []},
        junk={"membrane": [Example(_image(4), 0.777)], "null": []},
        slices=[
            Slice(57, _image(5, 40), (Marker(10, 20, first), Marker(30, 5, second))),
            Slice(91, _image(6, 40), ()),
        ],
        seconds={"judge": 61.4, "cubes": 8.25},
        provenance={"versions": {"torch": "2.6"}, "configuration": "seed = 3"},
    )


EMPTY = JudgedContent(
    title="nothing", warnings=[], counts={}, rejected={}, duplicates=0, acquisition={},
    recording={}, scores={}, fdr={}, evidence={}, surest={}, least_sure={}, junk={},
)  # fmt: skip


@pytest.fixture(scope="module")
def page():
    return render_judged(build())


@pytest.fixture(scope="module")
def empty_page():
    return render_judged(EMPTY)


@pytest.fixture
def _no_pictures(monkeypatch):
    """Spare the time of encoding pictures where a test is about words."""
    for name in ("png_uri", "svg_uri"):
        monkeypatch.setattr(judged_page, name, lambda _: "data:image/png;base64,")


def test_nothing_is_loaded(page, empty_page):
    for text in (page, empty_page):
        seen = _Page(text)
        assert not re.search(r"https?:|url\(|@import|file:|//\w+\.", text)
        assert all(source.startswith("data:image/") for source in seen.sources)
        assert not seen.tags & {"script", "link", "iframe", "object", "embed"}
        assert "default-src 'none'" in text
    # two slices, three particles, one piece of junk, the curves
    assert len(_Page(page).sources) == 7
    assert not _Page(empty_page).sources


def test_everything_is_in_its_order(page):
    text = _Page(page).text
    places = [
        text.index(words)
        for words in (
            "tomadapt: TS_012.mrc Warning",
            "the defocus was stated to be 4 µm",
            "nearly everything is one class",
            CAVEAT,
            "expected false-discovery rate",
            "duplicates",
            "Slice z = 57, 2 labelled",
            "Slice z = 91, 0 labelled",
            "surest > 0.999 0.900",
            "least sure 0.800",
            "membrane (1,234) 0.777",
            "Left: the expected fraction",
            "quantity stated measured",
            "voxels 928 × 960 × 300",
            "judge 1 min 1 s",
            "Versions and configuration",
        )
    ]
    assert places == sorted(places)
    assert page.count('role="alert"') == 2


def test_numbers_by_hand(page):
    text = _Page(page).text
    for line in (
        "ribosome_80s 3 10.0 % 120",  # the mean of 0, 0.1 and 0.2; the middle of 88, 120, 310
        "tric 2 < 0.1 % −6",
        "apoferritin 0 – –",
        "together 5 6.0 % 88",  # 0.3 / 5; the middle of −9, −3, 88, 120, 310
        "membrane a bilayer explains them better 1,234",
        "odd kind 1",
        "without a label together 1,275",
        "merged into it 17",
        "defocus 4 µm 5.25 µm",
        "together 1 min 10 s",
        '"torch": "2.6"',
        "configuration seed = 3",
    ):
        assert line in text, line


def test_no_number_is_coloured_and_none_is_called_accuracy(page):
    # Colours are of the marks that stand before names of classes, and of nothing else.
    assert set("".join(_Page(page).coloured).strip()) == {"○"}
    css = page.split("<style>")[1].split("</style>")[0]
    rules = re.findall(r"(?<![-\w])color: ?([^;} ]+)", css)
    assert rules
    for rule in rules:
        red, green, blue = matplotlib.colors.to_rgb(rule)
        assert green <= max(red, blue), rule
    assert CAVEAT.endswith("not on these data.")
    assert _Page(page).text.count(CAVEAT) == 1
    assert "accura" not in _Page(page).text.lower()


@pytest.mark.usefixtures("_no_pictures")
def test_the_class_of_each_marker_is_in_the_legend(page):
    assert _Page(page).legend == ["ribosome_80s", "tric"]
    content = build()
    unlisted = Slice(3, _image(7), (Marker(1, 1, "a class of its own"),))
    content = dataclasses.replace(content, slices=[*content.slices, unlisted])
    assert _Page(render_judged(content)).legend == ["ribosome_80s", "tric", "a class of its own"]
    colour = class_style(3)[0]
    assert f'style="color:{colour}"' in render_judged(content)
    assert colour not in page


def test_marks_have_the_place_and_colour_of_their_class():
    content = build()
    (axes,) = marked_slice(content.slices[0], classes_shown(content)).axes
    marks = {line.get_label(): line for line in axes.lines}
    assert set(marks) == {"ribosome_80s", "tric"}
    assert marks["ribosome_80s"].get_xydata().tolist() == [[10, 20]]
    assert marks["tric"].get_xydata().tolist() == [[30, 5]]
    assert [m.get_markeredgecolor() for m in marks.values()] == [class_style(i)[0] for i in (0, 1)]
    # y upwards, and no place is cut off by what autoscaling makes of marks
    assert axes.get_ylim() == (-0.5, 39.5)
    assert axes.images[0].origin == "lower"


def test_grey_runs_between_percentiles():
    image = np.arange(1000, dtype=np.float32).reshape(20, 50)
    image[0, 0], image[-1, -1], image[0, 1] = -1e6, 1e6, np.nan
    levels = stretched(image)
    assert (levels.min(), levels.max()) == (0, 1)
    assert levels[10, 0] == pytest.approx(0.5, abs=0.01)
    assert 8 <= (levels == 1).sum() <= 12
    for flat in (np.full((4, 4), 7.0), np.full((4, 4), np.nan)):
        assert (stretched(flat.astype(np.float32)) == 0.5).all()


def test_a_tile_has_a_pixel_a_voxel_and_y_upwards():
    image = np.zeros((5, 7), np.float32)
    image[0, 6] = 1  # highest x, lowest y: bottom right
    pixels = imread(io.BytesIO(base64.b64decode(tile_uri(image).split(",")[1])))
    assert pixels.shape[:2] == (5, 7)
    assert np.unravel_index(pixels[..., 0].argmax(), (5, 7)) == (4, 6)


def test_curves_are_the_rates_against_how_many_are_kept():
    content = build()
    rates, scores = score_curves(content).axes
    lines = [line.get_xydata().tolist() for line in rates.lines if len(line.get_xydata()) > 1]
    assert lines == [[[1, 0], [2, 0.05], [3, 0.1]], [[1, 0], [2, 0]]]
    assert rates.get_xscale() == "linear"
    heights = [patch.get_data().values for patch in scores.patches]
    assert [h.sum() for h in heights] == pytest.approx([1, 1])
    assert heights[0][[-1, -2, -4]].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3], abs=1e-9)
    legend = score_curves(content).legends[0]
    assert [t.get_text() for t in legend.get_texts()] == ["ribosome_80s", "tric"]
    many = dataclasses.replace(content, fdr=content.fdr | {"tric": np.zeros(200)})
    assert score_curves(many).axes[0].get_xscale() == "log"


def test_certainty_is_not_claimed():
    assert score_text(1.0) == score_text(0.9996) == "> 0.999"
    assert score_text(0.9994) == "0.999"
    assert score_text(0.5) == "0.500"


@pytest.mark.usefixtures("_no_pictures")
def test_hostile_names_are_escaped():
    nasty = "<b>x<script>alert(1)</script>"
    content = dataclasses.replace(
        build((nasty, 'b" onerror="x', "c&d$\\frac$")),
        title=nasty,
        warnings=[nasty],
        rejected={nasty: 1},
        junk={nasty: [Example(_image(4), 0.5)]},
        acquisition={nasty: (nasty, nasty)},
        recording={nasty: nasty},
        seconds={nasty: 1.0},
        provenance={nasty: {nasty: nasty}},
    )
    text = render_judged(content)
    seen = _Page(text)
    assert "<b>x" not in text
    assert "script" not in seen.tags
    assert ' onerror="' not in text
    # title twice, warning, count, kind, legend, example, junk, 3 + 2 cells, stage, provenance
    assert seen.text.count(nasty) >= 15


def test_empty_content_says_what_is_missing(empty_page):
    text = _Page(empty_page).text
    for words in (
        CAVEAT,
        "No structure was asked for",
        "No particle was rejected",
        "There is no rejected particle to show",
        "No particle has a label",
    ):
        assert words in text
    for heading in ("The tomogram", "Wall time", "Provenance", "Acquisition", "Warning"):
        assert heading not in text


@pytest.mark.usefixtures("_no_pictures")
def test_classes_without_particles_are_still_named():
    content = dataclasses.replace(
        EMPTY,
        counts={"tric": 0},
        scores={"tric": np.zeros(0)},
        fdr={"tric": np.zeros(0)},
        slices=[Slice(4, _image(1), ())],
    )
    text = _Page(render_judged(content)).text
    assert "tric 0 – –" in text
    assert "tric No particle to show" in text
    assert "None of these slices cuts a labelled particle" in text


def test_same_content_same_page(page):
    assert render_judged(build()) == page


def test_the_file_is_the_page(tmp_path, empty_page):
    write_judged_report(EMPTY, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == empty_page
    with pytest.raises(OutputError):
        write_judged_report(EMPTY, tmp_path / "missing" / "report.html")


def test_what_was_assumed_is_a_table_of_its_own() -> None:
    page = render_judged(build())
    table = page.partition("What was assumed")[2].partition("</table>")[0]
    assert "coordinates in pixels of 1.35 Å, tomogram at 10 Å" in table
    assert "What was assumed" not in render_judged(EMPTY)


def test_leads_are_measured_then_expected() -> None:
    content = dataclasses.replace(
        build(), leads={"ribosome_80s": (0.4, 0.46), "tric": (0.37, None)}
    )
    rows = {name: judged_page.count_row(content, name)[-1] for name in CLASSES}
    assert rows == {"ribosome_80s": "46 % (40 %)", "tric": "– (37 %)", "apoferritin": "–"}
    text = _Page(render_judged(content)).text
    assert "median lead (expected)" in text
    assert "46 % (40 %)" in text
