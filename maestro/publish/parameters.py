"""The parameters of notebooks: type, range and meaning of each, and their check.

papermill passes text, warns about unknown names and continues. Here a wrong name, type
or range stops a notebook on its first line, with a message that names the right values.
The defaults are in each notebook's cell tagged ``parameters``, where the reader sees
them.
"""

import ast
import difflib
import json
import math
import re
from dataclasses import dataclass, replace
from types import SimpleNamespace

from ..campaign.scales import COMPACT, RESNET18, RESNET50, TRANSFORMER
from ..paths import ROOT

NOTEBOOKS = ROOT / "notebooks"


class ParameterError(ValueError):
    """A parameter of a notebook is wrong, or the notebook is damaged."""


@dataclass(frozen=True)
class Parameter:
    """One name that notebooks accept; a list parameter checks each of its items."""

    kind: type  # bool, int, float or str
    help: str
    many: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple = ()
    most: int | None = None  # items of a list

    def describe(self):
        """The values that are right, in words: 'integers >= 0, separated by commas'."""
        one = {bool: "true or false", int: "an integer", float: "a number", str: "text"}
        several = {int: "integers", float: "numbers", str: "text"}
        words = several[self.kind] if self.many else one[self.kind]
        if self.choices:
            words = "any of " if self.many else "one of "
            named = (repr(c) if "," in str(c) else str(c) for c in self.choices)
            words += ", ".join(named)
        if self.high is not None:
            words += f" from {_plain(self.low)} to {_plain(self.high)}"
        elif self.low is not None:
            words += f" >= {_plain(self.low)}"
        if self.most is not None:
            words = f"at most {self.most} {words}"
        return words + (", separated by commas" if self.many else "")

    def read(self, name, value):
        """``value`` (typed, or text as a command line gives it) as this parameter.

        Raises ParameterError naming the value and what would be right.
        """
        if not self.many:
            return self._one(name, value)
        if isinstance(value, str):
            value = self._items(name, value)
        if not isinstance(value, list | tuple):
            value = [value]
        if not value:
            raise ParameterError(f"{name} is empty: it takes {self.describe()}")
        if self.most is not None and len(value) > self.most:
            raise self._wrong(name, value)
        return [self._one(name, v) for v in value]

    def _items(self, name, text):
        """The items between commas; a choice that contains a comma stays whole."""
        text = text.strip()
        inside = text[1:-1] if text[:1] + text[-1:] in ("[]", "()") else text
        if not inside.strip():
            return []
        items = []
        for item in inside.split(","):
            whole = _unquoted(f"{items[-1]},{item}") if items else ""
            if whole in self.choices:
                items[-1] = whole
            else:
                items.append(item)
        if not all(item.strip() for item in items):
            raise self._wrong(name, text)
        return items

    def _one(self, name, value):
        right = self._typed(value)
        good = type(right) is self.kind
        if good and self.choices:
            good = right in self.choices
        if good and self.kind is float:
            good = math.isfinite(right)
        if good and self.low is not None:
            good = right >= self.low
        if good and self.high is not None:
            good = right <= self.high
        if not good:
            raise self._wrong(name, value)
        return right

    def _typed(self, value):
        """``value`` in this parameter's type, if it can be read so."""
        if isinstance(value, str):
            value = value.strip()
            if self.kind is bool:
                return {"true": True, "false": False}.get(value.lower())
            if self.kind is str:
                return _unquoted(value)
            if _NUMBERS[self.kind].fullmatch(value):  # Python takes 1_000 and nan too
                return self.kind(value)
        if self.kind is float and type(value) is int:
            return float(value)
        return value

    def _wrong(self, name, value):
        return ParameterError(f"{name}={value!r}: it takes {self.describe()}")


_NUMBERS = {
    int: re.compile("[+-]?[0-9]{1,18}"),
    float: re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?"),
}


def _unquoted(text):
    text = text.strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _plain(number):
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


SEED = 2**32 - 1  # the largest that every generator takes
KNOWN = {
    "seed": Parameter(
        int, "seed of every random number in the notebook", low=0, high=SEED
    ),
    "seeds": Parameter(
        int, "seeds to show, one training each", many=True, low=0, high=SEED
    ),
    "lambdas": Parameter(
        float, "values of lambda_gl, the weight of the group lasso", many=True, low=0
    ),
    "thresholds": Parameter(
        float, "values of eps_ps, the importance to cut at", many=True, low=0
    ),
    "scales": Parameter(
        str, "sizes of the experiment", many=True, choices=tuple(RESNET18)
    ),
    "networks": Parameter(
        str,
        "networks to show",
        many=True,
        choices=("lenet", "compact", "resnet18"),
    ),
    "train": Parameter(bool, "train the runs that have no record yet"),
    "device": Parameter(str, "where to train", choices=("auto", "cpu", "cuda")),
    "epochs": Parameter(
        int, "epochs of training; 0 keeps the recipe's", low=0, high=100_000
    ),
    "workers": Parameter(int, "trainings at the same time", low=1, high=64),
    "steps": Parameter(int, "steps of SGD", low=1, high=10_000_000),
    "lr": Parameter(float, "learning rate", low=0),
    "singular_values": Parameter(
        float,
        "non-zero singular values of the target",
        many=True,
        low=1e-3,
        high=1e3,
        most=6,
    ),
    "lambda_gl": Parameter(float, "weight of the group lasso, Eq. (5)", low=0),
    "eps_ps": Parameter(float, "threshold of progressive shrinking", low=0),
    "points": Parameter(int, "data points, each a direction", low=2, high=9),
    "change_at": Parameter(int, "step at which the data change, below steps", low=0),
    "share": Parameter(
        float, "what to cut to, a share of the dense network", low=0.05, high=1
    ),
    "accuracies": Parameter(
        float, "wanted accuracies in per cent", many=True, low=0, high=100
    ),
    "sizes": Parameter(
        int, "the most parameters that are allowed", many=True, low=1_000
    ),
    "problems": Parameter(int, "random problems to try", low=1, high=10_000),
}
# {(notebook, name): what is different there}
SPECIAL = {
    ("00_quickstart", "epochs"): {"help": "epochs of training", "low": 1},
    ("13_transformer_multi30k", "scales"): {"choices": tuple(TRANSFORMER)},
    ("14_resnet50_imagenet", "scales"): {"choices": tuple(RESNET50)},
    ("17_sampling", "epochs"): {
        "help": "epochs of the trainings to show",
        "low": None,
        "high": None,
        "choices": (2, 5, 11),
    },
    ("20_what_it_costs", "device"): {
        "help": "whose measurement to show",
        "choices": ("cpu", "cuda"),
    },
    ("21_compact_cifar10", "scales"): {"choices": tuple(COMPACT)},
}


def parameter(notebook, name):
    """The `Parameter` ``name`` as ``notebook`` takes it."""
    return replace(KNOWN[name], **SPECIAL.get((notebook, name), {}))


def notebooks():
    """Names of all notebooks, in the order of the book."""
    return sorted(path.stem for path in NOTEBOOKS.glob("[!.]*.ipynb"))


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
    """{name: value} as the notebook's cell tagged ``parameters`` assigns them.

    Raises ParameterError if the file is damaged.
    """
    path = find(notebook)
    try:
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            if "parameters" in cell["metadata"].get("tags", ()):
                return _assignments("".join(cell["source"]))
    except (ValueError, KeyError, TypeError, AttributeError, SyntaxError) as error:
        raise ParameterError(
            f"{path} is damaged ({error}): take it from the repository anew"
        ) from None
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
    values = _read_all(notebook, values)
    _refuse_late_change(values)
    return SimpleNamespace(**values)


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
    values = _read_all(notebook, values)
    _refuse_late_change(known | values)
    return values


def table():
    """One row per parameter of every notebook: notebook, name, default, values, help.

    A list of dicts, for the book's page on reproducing.
    """
    return [
        {
            "notebook": notebook,
            "name": name,
            "default": default,
            "values": parameter(notebook, name).describe(),
            "help": parameter(notebook, name).help,
        }
        for notebook in notebooks()
        for name, default in defaults(notebook).items()
    ]


def _read_all(notebook, values):
    stem = find(notebook).stem
    return {n: parameter(stem, n).read(n, value) for n, value in values.items()}


def _refuse_unknown(notebook, given, known):
    for name in given:
        if name not in known:
            raise ParameterError(
                f"{notebook} has no parameter {name!r}; {_did_you_mean(name, known)}"
                "it takes: " + (", ".join(known) or "none")
            )


def _refuse_late_change(values):
    """Refuse a change of the data that comes after the last step of SGD."""
    if values.get("change_at", -1) >= values.get("steps", math.inf):
        raise ParameterError(
            f"change_at={values['change_at']}: it takes an integer below "
            f"steps={values['steps']}"
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
