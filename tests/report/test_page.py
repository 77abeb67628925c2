"""The page: its numbers, its words, that it is complete in itself, and that a browser shows it."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from tomadapt.acquisition import Acquisition
from tomadapt.errors import OutputError
from tomadapt.metrics import recall_per_class
from tomadapt.report import result_figures
from tomadapt.report.numbers import compare, headlines, score_of, summary
from tomadapt.report.page import (
    _ACQUISITION_ROWS,
    domain_rows,
    duration_text,
    recall_rows,
    render,
    write_report,
)

MANY = tuple(f"class_{i:02d}" for i in range(23))


class _Page(HTMLParser):
    """Collect attributes that load or link, identifiers, picture texts, and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources, self.links, self.ids, self.alts = [], [], [], []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.add(tag)
        self.sources += [v for k, v in attrs if k in ("src", "srcset", "data", "poster")]
        self.links += [v for k, v in attrs if k == "href"]
        self.ids += [given["id"]] if "id" in given else []
        if tag == "img":
            self.alts.append(given.get("alt", ""))

    def handle_data(self, data):
        if self.lasttag != "style":
            self.words.append(data)


@pytest.fixture(scope="module")
def labelled_page(make_content):
    return render(make_content())


@pytest.fixture(scope="module")
def unlabelled_page(make_content):
    return render(make_content(labelled=False, n_held_out=0))


@pytest.fixture
def _no_tsne(monkeypatch):
    """Spare the time of t-SNE where a test is about something else."""
    monkeypatch.setattr(result_figures, "embed", lambda features: features[:, :2])


@pytest.fixture
def _coarse_pictures(monkeypatch):
    """Pictures of few pixels, where a test is about words."""
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda *a, **given: save(*a, **given | {"dpi": 30}))


def test_numbers_by_hand(labelled_page):
    text = _Page(labelled_page).text
    # 40, 50 and 60 of 80; 20, 25 and 30 of 40; 180 of 200 (Wilson, computed independently)
    for line in (
        "particles adapted to source only 40 80 50.0 % 39.3–60.7 %",
        "particles adapted to statistics re-estimated 50 80 62.5 % 51.5–72.3 %",
        "particles adapted to 3D-ADA 60 80 75.0 % 64.5–83.2 %",
        "held-out particles 3D-ADA 30 40 75.0 % 59.8–85.8 %",
        "Source model on its own domain 90.0 % 95 % interval 85.1–93.4 % 200 particles",
    ):
        assert line in text, line


def test_headlines(make_content):
    cards = headlines(make_content())
    assert [(c.title, c.value) for c in cards] == [
        ("Source model on its own domain", "90.0 %"),
        ("On the target, before", "50.0 %"),
        ("After 3D-ADA", "75.0 %"),
        ("After 3D-ADA, held-out particles", "75.0 %"),
    ]


def test_wilson_interval_of_extremes_stays_drawable():
    for fraction in (0.0, 1.0):
        (below,), (above,) = score_of(fraction, 7).error_bars
        assert below >= 0
        assert above >= 0


def test_recall_table(make_content):
    content = make_content()
    labels = content.transductive.labels
    after = recall_per_class(content.transductive.predictions["ada"].labels, labels, 8)
    rows = recall_rows(content)
    assert [r[1] for r in rows] == [10] * 8
    assert [r[3] for r in rows] == [f"{100 * v:.1f} %" for v in after]


def test_nothing_is_loaded(labelled_page, unlabelled_page):
    for text in (labelled_page, unlabelled_page):
        page = _Page(text)
        assert not re.search(r"https?:|url\(|@import|file:|//\w+\.", text)
        assert page.sources
        assert all(s.startswith("data:image/") for s in page.sources)
        assert not page.tags & {"script", "link", "iframe", "object", "embed"}
        assert "default-src 'none'" in text
        assert len(text) < 4e6


def test_contents_and_pictures(labelled_page, unlabelled_page):
    for text, n_pictures in ((labelled_page, 9), (unlabelled_page, 6)):
        page = _Page(text)
        assert [link.removeprefix("#") for link in page.links] == page.ids
        assert page.ids == [
            "summary",
            "domains",
            "examples",
            "source-training",
            "adaptation",
            "accuracy",
            "confusion",
            "features",
            "predictions",
            "provenance",
        ]
        assert len(page.alts) == n_pictures
        assert all(len(alt) > 20 for alt in page.alts)


def test_differing_parameters_are_marked(make_content, labelled_page):
    content = make_content()
    rows = domain_rows(content.source, content.target)
    assert [name for name, _, _, differs in rows if differs] == [
        "SNR before the CTF",
        "acquisition",
        "spherical aberration Cs",
        "defocus (positive = underfocus)",
    ]
    assert labelled_page.count('class="differs"') == 4


def test_every_acquisition_parameter_is_in_the_table():
    assert set(_ACQUISITION_ROWS) == set(Acquisition.model_fields)


def test_unlabelled_target_is_said_in_words(make_content, unlabelled_page):
    content = make_content(labelled=False, n_held_out=0)
    text = _Page(unlabelled_page).text
    assert "accuracy and the recall of each class cannot be computed" in text
    assert "which classes are taken for which cannot be shown" in text
    assert "cannot tell whether adaptation helped" in text
    assert "colours are predicted classes" in text
    before, after = (content.transductive.predictions[m].labels for m in ("source_only", "ada"))
    changed = f"{100 * np.mean(before != after):.1f} %"
    assert f"Particles given another class {changed}" in text
    assert "50.0 % 39.3" not in text


@pytest.mark.usefixtures("_no_tsne", "_coarse_pictures")
def test_held_out_labels_alone_are_enough(make_content):
    content = make_content()
    content = dataclasses.replace(
        content, transductive=dataclasses.replace(content.transductive, labels=None)
    )
    text = _Page(render(content)).text
    assert "held-out particles 3D-ADA 30 40 75.0 %" in text
    assert "particles adapted to 3D-ADA" not in text
    assert "colours are predicted classes" in text


@pytest.mark.usefixtures("_no_tsne", "_coarse_pictures")
def test_names_are_escaped(make_content):
    nasty = "<script>alert(1)</script>"
    content = make_content((nasty, 'b" onerror="x', "c&d"), n=12)
    content = dataclasses.replace(
        content,
        title=nasty,
        warning=nasty,
        source=dataclasses.replace(content.source, title=nasty),
        provenance={nasty: {nasty: nasty}},
        seconds={nasty: 1.0},
    )
    text = render(content)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "script" not in _Page(text).tags
    assert _Page(text).text.count(nasty) >= 7


@pytest.mark.usefixtures("_no_tsne", "_coarse_pictures")
def test_warning_is_prominent(make_content, labelled_page):
    text = render(make_content(warning="it collapsed onto 1.3 classes"))
    assert text.index('role="alert"') < text.index('class="cards"')
    assert "it collapsed onto 1.3 classes" in text
    assert "After 3D-ADA (see the warning)" in text
    assert "which also says what the numbers" in text
    assert 'role="alert"' not in labelled_page


@pytest.mark.parametrize(
    ("right", "said", "not_said"),
    [
        (
            {"source_only": 40, "ada": 60},
            "25.0 percentage points more, which closes 62 % of the gap",
            "harm",
        ),
        ({"source_only": 40, "ada": 41}, "Adaptation did not help here", "more, which"),
        ({"source_only": 60, "ada": 40}, "Adaptation did harm here", "did not help"),
        (
            {"source_only": 40, "target_statistics": 60, "ada": 60},
            "the difference from 3D-ADA is within chance",
            "3D-ADA adds",
        ),
        (
            {"source_only": 40, "target_statistics": 70, "ada": 50},
            "that is 25.0 percentage points more than with 3D-ADA",
            "3D-ADA adds",
        ),
        (
            {"source_only": 40, "target_statistics": 50, "mine": 72},
            "mine adds 27.5 percentage points to that",
            "3D-ADA",
        ),
    ],
)
def test_summary_is_honest(make_content, right, said, not_said):
    text = summary(make_content(right=right, n_held_out=0))
    assert said in text
    assert not_said not in text


def test_comparison_counts_both_directions(make_content):
    content = make_content(("a", "b"), n=4, n_held_out=0)
    prediction = content.transductive.predictions["ada"]
    first, second = (
        dataclasses.replace(prediction, probabilities=np.eye(2, dtype=np.float32)[list(given)])
        for given in ((0, 1, 1, 0), (0, 0, 0, 0))
    )
    change = compare(first, second, np.array([0, 1, 0, 0]))
    assert (change.put_right, change.made_wrong, change.p_value) == (1, 1, 1.0)
    assert compare(first, first, np.array([0, 1, 0, 0])).verdict == 0


@pytest.mark.usefixtures("_no_tsne", "_coarse_pictures")
def test_missing_records_are_said(make_content):
    content = dataclasses.replace(
        make_content(n_held_out=0),
        source_history=[],
        adaptation_history=[],
        source_held_out=None,
        seconds={},
        provenance={},
    )
    content = dataclasses.replace(
        content,
        source=dataclasses.replace(content.source, acquisition=None, snr=None),
        target=dataclasses.replace(content.target, acquisition=None),
    )
    text = _Page(render(content)).text
    for said in (
        "was not trained in this run",
        "keeps no record by epoch",
        "recorded is not known",
    ):
        assert said in text
    assert "gap" not in summary(content)


def test_times_and_provenance(labelled_page):
    text = _Page(labelled_page).text
    assert "train 2 min 10 s" in text
    assert "together 3 min 20 s" in text
    assert '"torch": "2.6"' in text
    assert [duration_text(s) for s in (59.94, 3600, 7261)] == ["59.9 s", "1 h 0 min", "2 h 1 min"]


def test_same_content_same_page(make_content, labelled_page):
    assert render(make_content()) == labelled_page


@pytest.mark.usefixtures("_no_tsne")
def test_many_classes(make_content, tmp_path):
    write_report(make_content(MANY, n=69, n_held_out=0), tmp_path / "many.html")
    text = (tmp_path / "many.html").read_text(encoding="utf-8")
    assert all(text.count(name) >= 1 for name in MANY)
    assert len(text) < 4e6


@pytest.mark.usefixtures("_no_tsne", "_coarse_pictures")
def test_a_place_that_cannot_be_written(make_content, tmp_path):
    with pytest.raises(OutputError):
        write_report(make_content(n=16, n_held_out=0), tmp_path / "missing" / "report.html")


_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
    # The wrapping page may look into the report in its frame.
    "--allow-file-access-from-files",
    "--virtual-time-budget=10000",
    "--dump-dom",
)
_WRAPPER = """<!DOCTYPE html><title>wrapper</title><iframe src="{name}" width="1400" height="900"
onload="const d = this.contentDocument;
document.body.dataset.sizes = [...d.images].map(i => i.naturalWidth + 'x' + i.naturalHeight
  + 'x' + i.clientWidth).join(' ');
document.body.dataset.overflow = d.documentElement.scrollWidth - d.documentElement.clientWidth;
"></iframe>"""


def _browse(page: Path, folder: Path) -> tuple[str, list[str]]:
    """Open a page; give its document and what its console said."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium or google-chrome on the PATH")
    profile = folder / "profile"
    shutil.rmtree(profile, ignore_errors=True)
    done = subprocess.run(
        [browser, *_FLAGS, f"--user-data-dir={profile}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.browser
def test_browser_shows_every_picture(labelled_page, tmp_path):
    (tmp_path / "report.html").write_text(labelled_page, encoding="utf-8")
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(_WRAPPER.format(name="report.html"), encoding="utf-8")
    document, console = _browse(wrapper, tmp_path)
    assert console == []
    sizes = re.search(r'data-sizes="([^"]*)"', document)
    assert sizes, document[:500]
    pictures = [tuple(map(int, size.split("x"))) for size in sizes[1].split()]
    assert len(pictures) == 9
    assert all(min(size) > 100 for size in pictures), pictures
    assert 'data-overflow="0"' in document


@pytest.mark.browser
def test_browser_check_notices_a_broken_page(tmp_path):
    (tmp_path / "broken.html").write_text(
        '<img src="data:image/png;base64,AAAA"><script>nothing()</script>', encoding="utf-8"
    )
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(_WRAPPER.format(name="broken.html"), encoding="utf-8")
    document, console = _browse(wrapper, tmp_path)
    assert any("nothing is not defined" in line for line in console)
    assert 'data-sizes="0x0' in document
