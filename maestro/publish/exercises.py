"""The exercises that end every chapter: plain cells in a notebook, folded on its page.

A notebook holds an exercise as three cells: the statement, and the solution in words
and in code. Tags name them, so that any Jupyter shows plain text and the pages of the
site can number, frame and fold them.
"""

import json
import re

from ..system import write_whole

STATEMENT, SOLUTION = "exercise", "solution"  # the tags
HEADING = "## Exercises"
TITLE = re.compile(r"### (Exercise (\d+)\.(\d+)): (.+)")  # a statement's first line
LEAD = "**Solution.** "  # a solution's first words


def is_one(cell):
    """Whether ``cell`` belongs to the exercises: their heading or a tagged cell."""
    tags = set(cell["metadata"].get("tags", ()))
    return bool(tags & {STATEMENT, SOLUTION}) or _text(cell).startswith(HEADING)


def fold(page):
    """Frame the exercises of the notebook in the file ``page``, and fold solutions."""
    content = json.loads(page.read_text("utf-8"))
    content["cells"] = folded(content["cells"])
    write_whole(page, json.dumps(content))


def folded(cells):
    """``cells`` with each statement in a frame and each solution in a fold.

    The fold is HTML that one added cell opens and another closes, because no directive
    of MyST can hold code cells. Raises ValueError if a statement has no title.
    """
    shown, label = [], ""
    for cell, after in zip(cells, [*cells[1:], None], strict=True):
        tags = cell["metadata"].get("tags", ())
        if STATEMENT in tags:
            title, _, text = _text(cell).partition("\n")
            found = TITLE.fullmatch(title)
            if not found:
                raise ValueError(f"{title!r}: a title is '### Exercise 1.2: Words'")
            label = found[1]
            cell = cell | {"source": _framed(found, text.strip())}
        if SOLUTION in tags:
            if SOLUTION not in _tags_of(shown):
                shown.append(_markdown(_opening(label), f"open-{_anchor(label)}"))
            if cell["cell_type"] == "markdown":
                cell = cell | {"source": _text(cell).removeprefix(LEAD)}
        shown.append(cell)
        if SOLUTION in tags and SOLUTION not in _tags_of([after] if after else []):
            shown.append(_markdown("</details>", f"close-{_anchor(label)}"))
    return shown


def _framed(title, text):
    """A statement as MyST; five colons, because it may hold a directive of three."""
    start = f"({_anchor(title[1])})=\n\n:::::{{admonition}} {title[0][4:]}"
    return f"{start}\n:class: exercise\n\n{text}\n:::::"


def _opening(label):
    """The summary, and a target: a browser that follows a link to it opens the fold."""
    target = f'<span id="solution-of-{_anchor(label)}"></span>'
    summary = f"<summary>Solution of {label.lower()}</summary>"
    return f'<details class="solution">{summary}{target}'


def _anchor(label):
    return label.lower().replace(" ", "-").replace(".", "-")


def _markdown(text, name):
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text}


def _tags_of(cells):
    return cells[-1]["metadata"].get("tags", ()) if cells else ()


def _text(cell):
    return "".join(cell["source"])
