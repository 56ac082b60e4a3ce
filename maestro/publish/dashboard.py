"""The register as pages: tiles for the landing page, the claims, cards for chapters.

Raw HTML where the shape matters (tiles), MyST elsewhere. A verdict is a sign, a word
and a colour, so that none of the three is needed alone.
"""

import html
import math
import re
from collections import Counter

from .. import figures
from ..campaign import experiments
from ..results import records, speed, variants
from ..results.cells import NETWORKS, NOT_RUN
from ..results.confidence import FAILS, HOLDS, UNDECIDED
from ..results.published import paper_table, params_meant
from ..results.verdicts import IN_PART, SIGNS, counted
from . import register

ORDER = (HOLDS, IN_PART, FAILS, UNDECIDED, NOT_RUN)
SLUGS = {
    HOLDS: "holds",
    IN_PART: "part",
    FAILS: "fails",
    UNDECIDED: "undecided",
    NOT_RUN: "missing",
}
DPI = 192  # of the two pictures of the landing page
# {scale of a verdict that rests on no runs of a scale: what it rests on}
BASES = {
    "linear": ("repetition", "{}, computed live"),
    "shapes": ("network", "counted on shapes"),
    "CPU": ("measurement", "measured on a CPU"),
    "every": ("network", "{}, every scale"),
}


# ---------------------------------------------------------------- the landing page


def answer(sections):
    """The short answer, as MyST: how many claims came out how."""
    claims = register.every(sections)
    words = Counter(one.word for one in claims)
    items = "".join(
        f'<li class="{SLUGS[word]}">{_sign(word)} <b>{words[word]}</b> '
        f"{_plural(word)}</li>"
        for word in ORDER
    )
    chips = f'```{{raw}} html\n<ul class="verdict-counts">{items}</ul>\n```\n'
    return (
        f"**The short answer.** This book checks {len(claims)} claims of the paper. Of "
        f"these\n\n{chips}"
    )


def _plural(word):
    """'holds' of several claims: 'hold'."""
    return word.replace("holds", "hold").replace("does not", "do not")


def pictured(sections):
    """The two pictures of the landing page with what came out below each, as MyST."""
    by_key = {one.claim.key: one for one in register.every(sections)}
    sizes = by_key["table-11"].parts[0]
    said = ", ".join(
        f"{by_key[key].claim.short[0].lower()}{by_key[key].claim.short[1:]}: "
        f"{marked(by_key[key].word)}"
        for key in ("counted", "timed")
    )
    items = [
        (
            "sizes",
            "Test error against parameters of LeNet on logarithmic axes, with a hollow "
            "point of the paper and a filled point of this book for each λ.",
            f"{sizes.subject}: {sizes.verdict.claim}, {marked(sizes.verdict.word)}. "
            f"{plain(sizes.verdict.sentence)}. Hollow: the paper; filled: this book; "
            "a colour is a λ.",
        ),
        (
            "times",
            "Bars for each network: the counted operations and the measured time of a "
            "training step at a tenth of the ranks, relative to a dense step.",
            f"A training step at a tenth of the ranks. {plain(said)}.",
        ),
    ]
    cells = "".join(
        f":::{{grid-item}}\n```{{figure}} generated/{name}.png\n:alt: {alt}\n\n"
        f"{caption}\n```\n:::\n\n"
        for name, alt, caption in items
    )
    return f"::::{{grid}} 1 1 2 2\n:gutter: 2\n\n{cells}::::\n"


def tiles(sections, titles):
    """Every claim as a tile, section by section, as MyST.

    Args:
        sections: of `register.judged`.
        titles: {chapter: title}.
    """
    parts = []
    for section, some in sections.items():
        shown = "\n".join(_tile(one, titles) for one in some)
        parts.append(
            f"### {section}\n\n"
            f'```{{raw}} html\n<ul class="tiles">\n{shown}\n</ul>\n```\n'
        )
    return "\n".join(parts)


def _tile(one, titles):
    part = register.lead(one)
    link, title = f"claims.html#claim-{one.claim.key}", titles[part.chapter]
    return (
        f'<li class="tile {SLUGS[one.word]}">'
        f'<span class="word">{_sign(one.word)} {one.word}</span>'
        f'<span class="place">paper {html.escape(one.claim.place)}</span>'
        f'<a class="claim" href="{link}">{html.escape(one.claim.short)}</a>'
        f'<span class="numbers">{html.escape(_numbers(part))}</span>'
        f'<span class="rest">{html.escape(_rest(one))}'
        f'<a href="../notebooks/{part.chapter}.html">{html.escape(title)}</a>'
        "</span></li>"
    )


def _numbers(part):
    """'LeNet: 0.42× dense, paper 0.39× dense; n = 3, scale paper'."""
    verdict = part.verdict
    if verdict.word == NOT_RUN:
        return f"{part.subject}, scale {verdict.scale}: {NOT_RUN}"
    said = [f"Beside the claim, {part.subject}" if part.aside else part.subject]
    if not math.isnan(verdict.ours):
        said[0] += f": {verdict.say(verdict.ours)}"
    if not math.isnan(verdict.paper):
        said.append(f"the paper {verdict.say(verdict.paper)}")
    return " · ".join([*said, basis(verdict)])


def basis(*verdicts):
    """What verdicts of one scale rest on: '3 to 18 runs, scale paper'."""
    numbers, scale = sorted(verdict.n for verdict in verdicts), verdicts[0].scale
    noun = BASES.get(scale, ("run", f"{{}}, scale {scale}"))
    said = counted(numbers[-1], noun[0])
    if numbers[0] < numbers[-1]:
        said = f"{numbers[0]} to {said}"
    return noun[1].format(said)


def _rest(one):
    """'3 of 5 parts hold. 2 parts beside the claim. '; empty for a single part."""
    parts, aside = register.apart(one.parts)
    beside = f"{counted(len(aside), 'part')} beside the claim. " if aside else ""
    if len(parts) == 1:
        return beside
    held = sum(part.verdict.word == HOLDS for part in parts)
    said = f"{held} of {len(parts)} parts hold"
    missing = sum(part.verdict.word == NOT_RUN for part in parts)
    return said + (f", {missing} not run. " if missing else ". ") + beside


def marked(word):
    return f"[{SIGNS[word]} {word}]{{.verdict .{SLUGS[word]}}}"


def _sign(word):
    return f'<i aria-hidden="true">{SIGNS[word]}</i>'


def pictures(folder):
    """The two pictures of the landing page, as files in ``folder``."""
    for name, figure in (
        ("sizes", figures.printed_and_ours(*_sizes_of_lenet())),
        ("times", figures.counted_and_timed(_steps())),
    ):
        figure.savefig(folder / f"{name}.png", dpi=DPI)


def _sizes_of_lenet():
    """(the paper's, ours): lambda_gl, parameters and accuracy of LeNet's networks."""
    runs = records.find(experiments.lenet_mnist(thresholds=(1e-5,)))
    theirs = paper_table(11)
    ours = variants.summary(runs).rename(columns={"test_accuracy": "accuracy"})
    return theirs.assign(params=params_meant(theirs)), ours


def _steps():
    """{network: (work, time) of a training step at a tenth of the ranks} on a CPU."""
    bench = speed.load("cpu")
    if bench is None:
        return {}
    rows = speed.rows(bench).query("kind == 'lod'")
    least = rows.loc[rows.groupby("model", sort=False).share.idxmin()]
    return {NETWORKS[row.model]: (row.work, row.step) for row in least.itertuples()}


def plain(sentence):
    """A sentence that MyST takes as text: stars and dollars are escaped."""
    return re.sub(r"([*_$|<])", r"\\\1", sentence[:1].upper() + sentence[1:])


def that_ran(parts):
    return [part for part in parts if part.verdict.word != NOT_RUN]
