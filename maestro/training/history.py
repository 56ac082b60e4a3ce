"""The course of a run, epoch by epoch, and the record that is made of it."""

import math

from ..results import records


class History:
    """A line of figures for each epoch, and the ranks wherever they changed."""

    def __init__(self, ranks):
        self.lines, self.ranks = [], [[0, ranks]]

    def add(self, line, ranks):
        """Close an epoch: its figures {name: value}, and {layer: r} at its end.

        The line of an epoch without an evaluation lacks the evaluation's figures.
        """
        self.lines.append(line)
        if ranks != self.ranks[-1][1]:
            self.ranks.append([len(self.lines), ranks])

    @property
    def diverged(self):
        """Whether a figure of the last epoch is not finite."""
        last = self.lines[-1] if self.lines else {}
        return not all(math.isfinite(value) for value in last.values())

    def columns(self):
        """{name: [value of each epoch]}.

        None stands for a figure of an epoch that was not evaluated, and for nan, which
        JSON does not have. Measurements that some epochs lack are left out: not every
        device reports its energy.
        """
        names = dict.fromkeys(name for line in reversed(self.lines) for name in line)
        columns = {n: [_finite(line.get(n)) for line in self.lines] for n in names}
        return {
            name: column
            for name, column in columns.items()
            if name not in records.MEASURED or None not in column
        }

    def fields(self):
        """The record's fields that the course of the run gives."""
        columns = self.columns()
        final = {
            name: column[-1]
            for name, column in columns.items()
            if name not in records.NOT_FINAL
        }
        accuracies = [a for a in columns["test_accuracy"] if a is not None]
        return {
            "status": "diverged" if self.diverged else "finished",
            "history": columns,
            "ranks": self.ranks,
            "final": final,
            "best": {"test_accuracy": max(accuracies, default=None)},
        }

    def state_dict(self):
        return {"lines": self.lines, "ranks": self.ranks}

    def load_state_dict(self, state):
        self.lines, self.ranks = list(state["lines"]), list(state["ranks"])


def _finite(value):
    return value if not isinstance(value, float) or math.isfinite(value) else None
