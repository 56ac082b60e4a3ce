"""What a notebook may be told: every parameter's type, range and meaning, checked.

papermill passes text, warns about unknown names and goes on. Here a wrong name, type
or range stops a notebook on its first line, saying what would be right. The defaults
stay where the reader sees them, in each notebook's own cell tagged ``parameters``.
"""

import ast
import difflib
import json
import math
from dataclasses import dataclass
from types import SimpleNamespace

from ..paths import ROOT

NOTEBOOKS = ROOT / "notebooks"


class ParameterError(ValueError):
    """A notebook's parameter, or the notebook itself, is not what it should be."""


@dataclass(frozen=True)
class Parameter:
    """One name that notebooks accept; a list parameter checks each of its items."""

    kind: type  # bool, int, float or str
    help: str
    many: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple = ()

    def describe(self):
        """The values that are right, in words: 'integers >= 0, separated by commas'."""
        noun = {bool: "true or false", int: "integer", float: "number", str: "text"}
        text = noun[self.kind] + ("s" if self.many and self.kind is not str else "")
        if self.choices:
            text = "any of " if self.many else "one of "
            text += ", ".join(repr(c) if "," in c else c for c in self.choices)
        if self.low is not None:
            text += f" >= {self.low:g}"
        if self.high is not None:
            text += f" <= {self.high:g}"
        return text + (", separated by commas" if self.many else "")

    def read(self, name, value):
        """``value`` (typed, or text as a command line gives it) as this parameter.

        Raises ParameterError naming the value and what would be right.
        """
        if not self.many:
            return self._one(name, value)
        if isinstance(value, str):
            value = self._items(value.strip("[]() "))
        if not isinstance(value, list | tuple):
            value = [value]
        if not value:
            raise ParameterError(f"{name} is empty: it takes {self.describe()}")
        return [self._one(name, v) for v in value]

    def _items(self, text):
        """What stands between the commas; a choice that has one in it stays whole."""
        items = []
        for item in text.split(","):
            whole = f"{items[-1]},{item}".strip("'\" ") if items else ""
            if whole in self.choices:
                items[-1] = whole
            elif item.strip():
                items.append(item)
        return items

    def _one(self, name, value):
        wrong = ParameterError(f"{name}={value!r}: it takes {self.describe()}")
        if isinstance(value, str):
            value = value.strip().strip("'\"")
            if self.kind is bool:
                value = {"true": True, "false": False}.get(value.lower())
            elif self.kind is not str:
                try:
                    value = self.kind(value)
                except ValueError:
                    raise wrong from None
        if self.kind is float and type(value) is int:
            value = float(value)
        if type(value) is not self.kind or (self.choices and value not in self.choices):
            raise wrong
        if self.kind is float and not math.isfinite(value):
            raise wrong
        if self.low is not None and value < self.low:
            raise wrong
        if self.high is not None and value > self.high:
            raise wrong
        return value


KNOWN = {
    "seed": Parameter(int, "seed of every random number in the notebook", low=0),
    "seeds": Parameter(int, "seeds to show, one training each", many=True, low=0),
    "lambdas": Parameter(
        float, "values of lambda_gl, the weight of the group lasso", many=True, low=0
    ),
    "thresholds": Parameter(
        float, "values of eps_ps, the importance to cut at", many=True, low=0
    ),
    "scales": Parameter(
        str,
        "sizes of the experiment",
        many=True,
        choices=("paper", "paper, code", "short", "laptop"),
    ),
    "train": Parameter(bool, "train the runs that have no record yet"),
    "device": Parameter(str, "where to train", choices=("auto", "cpu", "cuda", "mps")),
    "epochs": Parameter(int, "epochs of training; 0 keeps the recipe's", low=0),
    "workers": Parameter(int, "trainings at the same time", low=1, high=64),
    "steps": Parameter(int, "steps of SGD", low=1, high=10_000_000),
    "lr": Parameter(float, "learning rate", low=0),
    "singular_values": Parameter(
        float, "non-zero singular values of the target", many=True, low=1e-3, high=1e3
    ),
    "lambda_gl": Parameter(float, "weight of the group lasso, Eq. (5)", low=0),
    "eps_ps": Parameter(float, "threshold of progressive shrinking", low=0),
    "points": Parameter(int, "data points, each a direction", low=2, high=9),
    "change_at": Parameter(int, "step at which the data change", low=0),
    "problems": Parameter(int, "random problems to try", low=1, high=10_000),
}


def notebooks():
    """Names of all notebooks, in the order of the book."""
    return sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


def find(notebook):
    """The path of ``notebook`` (a name, with or without ``.ipynb``).

    Raises ParameterError with the nearest names if there is none.
    """
    name = str(notebook).removesuffix(".ipynb").removeprefix("notebooks/")
    path = NOTEBOOKS / f"{name}.ipynb"
    if not path.is_file():
        raise ParameterError(
            f"no notebook {name!r}; {_did_you_mean(name, notebooks())}there are: "
            + (", ".join(notebooks()) or "none here")
        )
    return path


def defaults(notebook):
    """{name: value} as the notebook's cell tagged ``parameters`` assigns them."""
    cells = json.loads(find(notebook).read_text("utf-8"))["cells"]
    for cell in cells:
        if "parameters" in cell["metadata"].get("tags", ()):
            return _assignments("".join(cell["source"]))
    return {}


def check(notebook, namespace):
    """The notebook's parameters as a namespace ``p``, each of its declared type.

    ``namespace`` is the notebook's ``globals()``. Call it on the first line after the
    parameters cell. Raises ParameterError on an unknown name, type or range.
    """
    known = defaults(notebook)
    for cell in namespace.get("In", ()):
        if cell.startswith("# Parameters"):  # the cell that papermill injects
            _refuse_unknown(notebook, _assigned(cell), known)
    values = {name: namespace.get(name, default) for name, default in known.items()}
    return SimpleNamespace(**_read_all(values))


def parse(notebook, words):
    """``["seeds=0,1", "train=true"]`` as {name: typed value}, for this notebook.

    Raises ParameterError as `check` does, and on a word that is no ``name=value``.
    """
    known = defaults(notebook)
    values = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ParameterError(f"{word!r}: write parameters as name=value")
        if name in values:
            raise ParameterError(f"{name} is given twice")
        values[name] = text
    _refuse_unknown(notebook, values, known)
    return _read_all(values)


def table():
    """One row per parameter of every notebook: notebook, name, default, values, help.

    A list of dicts, for the book's page on reproducing.
    """
    return [
        {
            "notebook": notebook,
            "name": name,
            "default": default,
            "values": KNOWN[name].describe(),
            "help": KNOWN[name].help,
        }
        for notebook in notebooks()
        for name, default in defaults(notebook).items()
    ]


def _read_all(values):
    return {name: KNOWN[name].read(name, value) for name, value in values.items()}


def _refuse_unknown(notebook, given, known):
    for name in given:
        if name not in known:
            raise ParameterError(
                f"{notebook} has no parameter {name!r}; {_did_you_mean(name, known)}"
                "it takes: " + (", ".join(known) or "none")
            )


def _did_you_mean(name, known):
    """'did you mean ...? ' with the nearest of ``known``; '' if none is near."""
    near = difflib.get_close_matches(name, known, 1, 0.5)
    return f"did you mean {near[0]!r}? " if near else ""


def _assignments(source):
    return {n: ast.literal_eval(value) for n, value in _assigned(source).items()}


def _assigned(source):
    """{name: expression}; papermill writes nan as a call, which is no literal."""
    return {
        node.targets[0].id: node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
    }
