"""The page of claims, and the cards, numbers and endings of the chapters."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

from ..campaign import catalog
from ..paths import ROOT
from ..results import records
from ..results.cells import NOT_RUN
from ..results.verdicts import SIGNS, counted, together
from ..system import write_whole
from ..training.machine import commit
from . import dashboard, parameters, register
from .dashboard import BASES, ORDER, basis, marked, plain, that_ran
from .evidence import Evidence

PACKAGES = ("torch", "numpy", "pandas", "matplotlib")
BESIDE = "Beside the claim (another network, scale or system than the paper's)"
MARK = "<!-- from here on made by `python -m maestro claims` -->"


# ---------------------------------------------------------------- the page of claims


def claims(sections, titles):
    """Every claim with what came out, as MyST: a table for each section."""
    return "\n".join(
        _section(section, some, titles) for section, some in sections.items()
    )


def _section(section, some, titles):
    rows = "".join(_row(one, titles) for one in some)
    return (
        f"## {section}\n\n:::{{list-table}}\n:header-rows: 1\n:class: stack\n"
        f":widths: 38 62\n\n* - Claim\n  - What came out\n{rows}:::\n"
    )


def _row(one, titles):
    own, aside = register.apart(one.parts)
    lines = [f"    - {_outcome(part, titles)}" for part in that_ran(own)]
    folded = _not_run(own)
    if folded:
        lines.append(f"    - {folded}")
    if aside:
        lines += ["", f"    {BESIDE}:", ""]
        lines += [f"    - {_outcome(part, titles)}" for part in aside]
    outcome = "\n".join(lines)
    return (
        f"* - (claim-{one.claim.key})=\n\n"
        f"    {one.claim.text} (paper {one.claim.place})\n"
        f"  - {marked(one.word)}\n\n{outcome}\n"
    )


def _outcome(part, titles):
    verdict = part.verdict
    return (
        f"{SIGNS[verdict.word]} {part.subject}: {verdict.word}. "
        f"{plain(verdict.sentence)} ({basis(verdict)}; "
        f"[{titles[part.chapter]}](../notebooks/{part.chapter}.ipynb))"
    )


def _not_run(parts):
    """'… not run yet: VGG-19 (scale paper), ...'; empty where every part has run."""
    left = [part for part in parts if part.verdict.word == NOT_RUN]
    names = dict.fromkeys(
        f"{part.subject} ({part.verdict.scale})" if part.verdict.scale else part.subject
        for part in left
    )
    return f"{SIGNS[NOT_RUN]} {NOT_RUN}: {', '.join(names)}" if names else ""


def claims_page(sections, titles, page=ROOT / "book" / "claims.md"):
    """The page of claims with the part after MARK made anew."""
    head, found, _ = Path(page).read_text("utf-8").partition(MARK)
    if not found:
        raise ValueError(f"{page} has no line {MARK!r}")
    return f"{head}{MARK}\n\n{claims(sections, titles)}"


# ---------------------------------------------------------------- a chapter's card


def card(chapter, sections):
    """The card at the top of a chapter: what was asked, what came out, how sure.

    Empty for a chapter that no claim of the paper is judged in.
    """
    judged = [
        (one, [part for part in one.parts if part.chapter == chapter])
        for one in register.every(sections)
    ]
    judged = [(one, parts) for one, parts in judged if parts]
    if not judged:
        return ""
    apart = [(one, register.apart(parts)) for one, parts in judged]
    said = {
        "Asked": register.QUESTIONS[chapter],
        "Came out": _came_out((one, own) for one, (own, _) in apart),
        "Beside the claims": _came_out((one, aside) for one, (_, aside) in apart),
        "How sure": _how_sure([part for _, parts in judged for part in parts]),
    }
    lines = "\n\n".join(f"**{name}:** {text}" for name, text in said.items() if text)
    return f":::{{admonition}} The verdict\n:class: verdicts\n\n{lines}\n:::\n"


def _came_out(judged):
    """'✓ holds: claim, claim. ✗ does not hold: claim.'; judged: (claim, parts) each."""
    found = {word: [] for word in ORDER}
    for one, parts in judged:
        if parts:
            word = together(part.verdict.word for part in parts)
            link = f"[{one.claim.short}](#claim-{one.claim.key})"
            found[word].append(f"{link} ({one.claim.place})")
    return " ".join(
        f"{marked(word)}: {', '.join(some)}." for word, some in found.items() if some
    )


def _how_sure(parts):
    """The runs behind a chapter's verdicts, at which scales, and what is missing."""
    ran = that_ran(parts)
    if not ran:
        return "Nothing of it has run."
    groups = {}
    for part in ran:
        groups.setdefault(part.verdict.scale, []).append(part.verdict)
    bases = "; ".join(basis(*some) for some in groups.values())
    own, _ = register.apart(parts)
    left = len(own) - len(that_ran(own))
    said = f"{bases[:1].upper()}{bases[1:]}."
    if any(part.verdict.scale not in BASES for part in ran):
        said += " Means over runs are judged by one-sided 95 % bounds."
    return said + (f" {counted(left, 'part')} not run yet." if left else "")


# ---------------------------------------------------------------- notebooks as pages


def titles(folder):
    """{chapter: its number and title} of the notebooks in ``folder``."""
    return {
        path.stem: _title(path) for path in sorted(Path(folder).glob("[!.]*.ipynb"))
    }


def _title(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    first = "".join(cells[0]["source"]).splitlines()[0].removeprefix("# ")
    return f"{int(path.stem[:2])}. {first}"


def ending(chapter):
    """What a chapter ends with: where the page was made, and from which runs."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    said = (
        "## Where this page comes from\n\n"
        f"Python {platform.python_version()}, {packages}, commit `{commit() or '–'}`."
    )
    if chapter not in catalog.NOTEBOOKS:
        return f"{said} This chapter has no runs of its own.\n"
    configs = catalog.for_notebook(chapter, **parameters.defaults(chapter))
    used = records.find(configs)
    ids = ", ".join(f"`{key}`" for key in used) or NOT_RUN
    return (
        f"{said} {len(used)} of {counted(len(configs), 'run')} have a record "
        "([what ran, when, on what](../book/runs.md)).\n\n"
        f":::{{dropdown}} The runs of this chapter\n{ids}\n:::\n"
    )


def dress(path, text, title, ending=""):
    """Give a notebook of the site its numbered title, a text below it and an ending."""
    content = json.loads(path.read_text("utf-8"))
    lines = "".join(content["cells"][0]["source"]).splitlines()
    body = "\n".join(lines[1:]).strip("\n")
    content["cells"][0]["source"] = "\n\n".join(
        part for part in (f"# {title}", text.strip(), body) if part
    )
    if ending:
        cell = {"cell_type": "markdown", "id": "ending", "metadata": {}}
        content["cells"].append(cell | {"source": ending})
    path.write_text(json.dumps(content), "utf-8")


def publish(source, evidence=None):
    """Write the verdicts into the pages of a book that is about to be built.

    Every notebook gets its number. In a book with a page of claims, that page, the
    parts of the landing page and the cards of the chapters are made from the outputs
    that the notebooks have just stored.

    Args:
        source: the folder of the book's sources, with executed notebooks.
        evidence: an `Evidence`; that of ``source`` and data/ if None.
    """
    folder, book = source / "notebooks", source / "book"
    named = titles(folder)
    sections = {}
    if (book / "claims.md").is_file():
        sections = register.judged(evidence or Evidence(folder))
        made = book / "generated"
        made.mkdir(exist_ok=True)
        (made / "answer.md").write_text(dashboard.answer(sections), "utf-8")
        (made / "pictured.md").write_text(dashboard.pictured(sections), "utf-8")
        (made / "tiles.md").write_text(dashboard.tiles(sections, named), "utf-8")
        page = book / "claims.md"
        page.write_text(claims_page(sections, named, page), "utf-8")
        dashboard.pictures(made)
    for chapter, title in named.items():
        path = folder / f"{chapter}.ipynb"
        if sections:
            dress(path, card(chapter, sections), title, ending(chapter))
        else:
            dress(path, "", title)


def refresh():
    """Make the page of claims in the repository anew; return its path."""
    folder, page = ROOT / "notebooks", ROOT / "book" / "claims.md"
    sections = register.judged(Evidence(folder))
    write_whole(page, claims_page(sections, titles(folder), page))
    return page
