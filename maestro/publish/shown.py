"""Tables as the chapters show them: rows that have not run take one folded line."""

import html

import pandas as pd

from ..results.cells import NOT_RUN


class Shown:
    """One table, or several below each other, for the end of a cell.

    Args:
        tables: DataFrames of text, or sentences in place of a table. A column of ours
            has "here" in its second level, or there are no levels.
    """

    def __init__(self, *tables):
        self.tables = [one for one in tables if not _is_empty(one)] or [NOT_RUN]

    def __repr__(self):
        return "\n\n".join(
            one if isinstance(one, str) else _plain(*_divided(one))
            for one in self.tables
        )

    def _repr_html_(self):
        return "\n".join(
            f"<p>{html.escape(one)}</p>" if isinstance(one, str) else _html(one)
            for one in self.tables
        )


def _is_empty(one):
    return isinstance(one, pd.DataFrame) and one.empty


def _divided(table):
    """(rows that have run, the others without our columns) of a table of text."""
    ours = [column for column in table if column[1:] in ((), ("here",))]
    if not isinstance(table.columns, pd.MultiIndex):
        ours = list(table)
    kept = [c for c in ours if "runs" not in (c, c[0])]
    missing = (table[kept] == NOT_RUN).all(axis=1)
    return table[~missing], table[missing].drop(columns=ours)


def _names(rows):
    """The rows by name; the first and the last of many."""
    names = [
        " ".join(map(str, name)) if isinstance(name, tuple) else str(name)
        for name in rows.index
    ]
    if len(names) > 4:
        return f"{len(names)} rows, {names[0]} to {names[-1]}"
    return ", ".join(names)


def _plain(ran, left):
    said = [ran.to_string()] if len(ran) else []
    return "\n".join(said + ([f"{NOT_RUN}: {_names(left)}"] if len(left) else []))


def _html(table):
    ran, left = _divided(table)
    said = [ran.to_html()] if len(ran) else []
    if len(left) and left.columns.empty:
        said.append(f"<p>{NOT_RUN}: {html.escape(_names(left))}</p>")
    elif len(left):
        summary = html.escape(f"{NOT_RUN}, the paper's numbers: {_names(left)}")
        folded = left.to_html()
        said.append(f"<details><summary>{summary}</summary>{folded}</details>")
    return "\n".join(said)
