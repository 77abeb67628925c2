"""The numbers of a report, and what they say in plain words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomadapt.learn.prediction import Prediction
from tomadapt.metrics import accuracy, binomial_interval, effective_classes
from tomadapt.report.content import Evaluation, ReportContent
from tomadapt.report.style import (
    SOURCE_ONLY,
    TARGET_STATISTICS,
    adaptation_method,
    method_title,
    percent,
)

TRANSDUCTIVE_TITLE = "particles adapted to"
HELD_OUT_TITLE = "held-out particles"
_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Score:
    """An accuracy with its 95 % Wilson interval.

    Attributes
    ----------
    accuracy, low, high
        Fractions.
    n
        Particles.
    """

    accuracy: float
    low: float
    high: float
    n: int

    @property
    def correct(self) -> int:
        """Particles labelled right."""
        return round(self.accuracy * self.n)

    @property
    def error_bars(self) -> tuple[tuple[float], tuple[float]]:
        """Lengths below and above, as matplotlib wants them."""
        # A rounding error must not make one negative.
        return (max(0.0, self.accuracy - self.low),), (max(0.0, self.high - self.accuracy),)

    @property
    def interval(self) -> str:
        """In percent."""
        return f"{100 * self.low:.1f}–{100 * self.high:.1f} %"

    @property
    def text(self) -> str:
        """In percent."""
        return percent(self.accuracy)


@dataclass(frozen=True)
class Change:
    """What a second model changes for the same particles.

    Attributes
    ----------
    put_right, made_wrong
        Particles that only the second, or only the first, labels right.
    p_value
        Exact McNemar test: how probable so uneven numbers are if both models are as good.
    """

    put_right: int
    made_wrong: int
    p_value: float

    @property
    def verdict(self) -> int:
        """1 if the second is better, −1 if worse, 0 if chance explains the difference."""
        if self.p_value >= _SIGNIFICANT:
            return 0
        return 1 if self.put_right > self.made_wrong else -1


@dataclass(frozen=True)
class Headline:
    """One of the large numbers at the top.

    Attributes
    ----------
    title, value, detail
        As printed.
    kind
        ``source``, ``before`` or ``after``: its colour.
    """

    title: str
    value: str
    detail: str
    kind: str


def score_of(fraction: float, n: int) -> Score:
    """Give a fraction of n particles its interval."""
    return Score(fraction, *binomial_interval(fraction, n), n)


def score(prediction: Prediction, labels: NDArray[np.int64]) -> Score:
    """Score predictions against true classes."""
    return score_of(accuracy(prediction.labels, labels), len(labels))


def compare(first: Prediction, second: Prediction, labels: NDArray[np.int64]) -> Change:
    """Compare two models on the same particles."""
    from scipy.stats import binomtest

    right = [p.labels == labels for p in (first, second)]
    put_right = int((right[1] & ~right[0]).sum())
    made_wrong = int((right[0] & ~right[1]).sum())
    n = put_right + made_wrong
    return Change(put_right, made_wrong, float(binomtest(put_right, n).pvalue) if n else 1.0)


def scored_evaluations(
    content: ReportContent,
) -> list[tuple[str, Evaluation, NDArray[np.int64]]]:
    """List the sets of target particles whose true classes are known, with titles."""
    candidates = ((TRANSDUCTIVE_TITLE, content.transductive), (HELD_OUT_TITLE, content.held_out))
    known = [(t, e) for t, e in candidates if e is not None]
    return [(e.title or t, e, e.labels) for t, e in known if e.labels is not None]


def judged(content: ReportContent) -> Evaluation | None:
    """Find the particles that headline, recall and confusion are about; None without labels."""
    scored = scored_evaluations(content)
    return scored[0][1] if scored else None


def headlines(content: ReportContent) -> list[Headline]:
    """Give the three or four large numbers."""
    cards = []
    if content.source_held_out is not None:
        own = score_of(*content.source_held_out)
        cards.append(_scored("Source model on its own domain", own, "source"))
    scored = scored_evaluations(content)
    if not scored:
        return cards + _unlabelled_headlines(content)
    for i, (title, evaluation, labels) in enumerate(scored):
        after = adaptation_method(evaluation.predictions)
        if i == 0:
            result = score(evaluation.predictions[SOURCE_ONLY], labels)
            cards.append(_scored("On the target, before", result, "before"))
        result = score(evaluation.predictions[after], labels)
        where = f", {title}" if i else ""
        where += " (see the warning)" if content.warning else ""
        cards.append(_scored(f"After {method_title(after)}{where}", result, "after"))
    return cards


def _scored(title: str, result: Score, kind: str) -> Headline:
    detail = f"95 % interval {result.interval}\n{result.n:,} particles"
    return Headline(title, result.text, detail, kind)


def _unlabelled_headlines(content: ReportContent) -> list[Headline]:
    before, after = _before_after(content.transductive)
    changed = float(np.mean(before.labels != after.labels))
    cards = [
        Headline(
            "Particles given another class",
            percent(changed),
            f"by adaptation,\nof {len(after.labels):,} particles",
            "after",
        ),
        Headline(
            "Median confidence",
            percent(float(np.median(after.confidence))),
            f"after adaptation;\nbefore {percent(float(np.median(before.confidence)))}",
            "after",
        ),
    ]
    last = _last_discriminator_accuracy(content)
    if last is not None:
        cards.append(
            Headline(
                "Discriminator at the end",
                percent(last),
                "of features named right;\n50 % is guessing",
                "before",
            )
        )
    return cards


def _before_after(evaluation: Evaluation) -> tuple[Prediction, Prediction]:
    after = adaptation_method(evaluation.predictions)
    return evaluation.predictions[SOURCE_ONLY], evaluation.predictions[after]


def _last_discriminator_accuracy(content: ReportContent) -> float | None:
    values = [r.get("discriminator_accuracy", math.nan) for r in content.adaptation_history]
    return None if not values or math.isnan(values[-1]) else values[-1]


def summary(content: ReportContent) -> str:
    """Say in a paragraph what happened, also when it did not help."""
    scored = scored_evaluations(content)
    sentences = _source_sentences(content)
    if scored:
        sentences += _accuracy_sentences(content, *scored[0][1:])
        for title, evaluation, labels in scored[1:]:
            sentences.append(_second_set_sentence(title, evaluation, labels))
    else:
        sentences += _unlabelled_sentences(content)
    last = _last_discriminator_accuracy(content)
    if last is not None:
        best = max(record["discriminator_accuracy"] for record in content.adaptation_history)
        told = (
            "it never learned to tell the domains apart, which says nothing about their likeness"
            if best < 0.55
            else "the two domains’ features can still be told apart"
            if last > 0.55
            else "it can hardly tell the two domains’ features apart any more"
        )
        sentences.append(
            f"In the last epoch the discriminator named the domain of {percent(last)} of the "
            f"features correctly, where 50 % is guessing: {told}."
        )
    if content.warning:
        name = method_title(adaptation_method(content.transductive.predictions))
        sentences.append(
            f"The method distrusted its own result (see the warning, which also says what the "
            f"numbers under “{name}” are those of)."
        )
    return " ".join(sentences)


def _source_sentences(content: ReportContent) -> list[str]:
    if content.source_held_out is None:
        return []
    own = score_of(*content.source_held_out)
    return [
        f"In its own domain the source model labels {own.text} of {own.n:,} unseen "
        "particles correctly."
    ]


def _accuracy_sentences(
    content: ReportContent, evaluation: Evaluation, labels: NDArray[np.int64]
) -> list[str]:
    method = adaptation_method(evaluation.predictions)
    name = method_title(method)
    first, second = _before_after(evaluation)
    before, after = score(first, labels), score(second, labels)
    change = compare(first, second, labels)
    gap = content.source_held_out[0] - before.accuracy if content.source_held_out else 0.0
    text = f"On {before.n:,} target particles it is right for {before.text}"
    if gap >= 0.01:
        text += f", {_points(gap)} fewer: that is the gap between the domains"
    sentences = [text + "."]

    counts = f"{change.put_right:,} particles were put right and {change.made_wrong:,} made wrong"
    gain = after.accuracy - before.accuracy
    lead = f"After {name}, which used none of the target’s labels, {after.text} are right"
    if change.verdict > 0:
        share = f", which closes {100 * gain / gap:.0f} % of the gap" if gap >= 0.01 else ""
        sentences.append(f"{lead}: {_points(gain)} more{share}. {counts}.")
    elif change.verdict < 0:
        sentences.append(
            f"{lead}: {_points(-gain)} fewer. {counts}. Adaptation did harm here; the source model "
            "is the better choice."
        )
    else:
        sentences.append(
            f"{lead}: no measurable change. {counts}, a difference that chance explains "
            f"(exact McNemar test, p = {change.p_value:.2g}). Adaptation did not help here."
        )
    if method != TARGET_STATISTICS and TARGET_STATISTICS in evaluation.predictions:
        sentences.append(_statistics_sentence(evaluation, labels, name))
    return sentences


def _statistics_sentence(evaluation: Evaluation, labels: NDArray[np.int64], name: str) -> str:
    simple = evaluation.predictions[TARGET_STATISTICS]
    result = score(simple, labels)
    adapted = _before_after(evaluation)[1]
    change = compare(simple, adapted, labels)
    gain = score(adapted, labels).accuracy - result.accuracy
    verdict = {
        1: f"{name} adds {_points(gain)} to that",
        0: f"the difference from {name} is within chance",
        -1: f"that is {_points(-gain)} more than with {name}",
    }[change.verdict]
    return (
        "Re-estimating the network’s normalisation statistics on the target, without any "
        f"training, reaches {result.text}; {verdict}."
    )


def _second_set_sentence(title: str, evaluation: Evaluation, labels: NDArray[np.int64]) -> str:
    first, second = _before_after(evaluation)
    before, after = score(first, labels), score(second, labels)
    verdict = {
        1: "a gain that chance does not explain",
        0: "no measurable change",
        -1: "a loss that chance does not explain",
    }
    return (
        f"On {before.n:,} {title} of the target, which adaptation never saw, accuracy went from "
        f"{before.text} to {after.text}: {verdict[compare(first, second, labels).verdict]}."
    )


def _unlabelled_sentences(content: ReportContent) -> list[str]:
    before, after = _before_after(content.transductive)
    name = method_title(adaptation_method(content.transductive.predictions))
    changed = float(np.mean(before.labels != after.labels))
    n = len(content.class_names)
    used = [effective_classes(p.labels, n) for p in (before, after)]
    confidence = [percent(float(np.median(p.confidence))) for p in (before, after)]
    return [
        "The target has no labels, so its accuracy cannot be measured, and this page cannot tell "
        "whether adaptation helped.",
        f"What can be seen: {name} gave {percent(changed)} of {len(after.labels):,} particles "
        f"another class; the effective number of predicted classes went from {used[0]:.1f} to "
        f"{used[1]:.1f} of {n}, the median confidence from {confidence[0]} to {confidence[1]}.",
        *_statistics_unlabelled(content),
        "A confident prediction is not therefore a right one.",
    ]


def _statistics_unlabelled(content: ReportContent) -> list[str]:
    """How far the model with re-estimated statistics alone agrees with the adapted one."""
    predictions = content.transductive.predictions
    after = adaptation_method(predictions)
    if TARGET_STATISTICS not in predictions or after == TARGET_STATISTICS:
        return []
    agreement = float(np.mean(predictions[TARGET_STATISTICS].labels == predictions[after].labels))
    return [
        "The model whose normalisation statistics were only re-estimated on the target, without "
        f"training, agrees with {method_title(after)} on {percent(agreement)} of the particles."
    ]


def _points(difference: float) -> str:
    return f"{100 * difference:.1f} percentage points"
