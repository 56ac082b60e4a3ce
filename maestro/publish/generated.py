"""The pages that the build of the book generates: parameters, runs, networks."""

import dataclasses
import math
import warnings

from ..config import Recipe
from ..lowrank import MODES
from ..results import measured, records, stress
from ..results.cells import power, variant_name
from . import parameters

RUNS_HEAD = """# What ran, when, on what

Every number of the experiments comes from one of the records below. Each run that
ended left one small file in `data/runs/`. The build of the book makes this page from
those files. The name of a run is a short hash of its configuration. A plus after a
commit means that the package had changes that were not committed. Runs shared their
machine with other work, so that the time a run took does not say how fast the code is.

"""
NAMES = {"eps_ps": "ε =", "batch_size": "batch"}
PLAIN = {"sampler": "pair", "skip": []}  # options that go without saying
ALWAYS = ("epochs", "batch_size", "lr")  # of a recipe, whether at the default or not


def parameter_tables():
    """Every parameter of every notebook as Markdown, one table per notebook."""
    parts = []
    rows = parameters.table()
    for notebook in dict.fromkeys(row["notebook"] for row in rows):
        mine = [row for row in rows if row["notebook"] == notebook]
        cells = [
            (f"`{r['name']}`", f"`{r['default']!r}`", r["values"], r["help"])
            for r in mine
        ]
        table = markdown_table(("name", "default", "takes", "what it does"), cells)
        link = f"[{notebook}](../notebooks/{notebook}.ipynb)"
        parts.append(f"**{link}**\n\n{table}")
    return "\n".join(parts) or "No notebook takes parameters yet.\n"


def modes_table():
    """The ways to draw a rank, as Markdown."""
    rows = [(f"`{name}`", text) for name, text in MODES.items()]
    return markdown_table(("mode", "what a step draws"), rows)


def seconds_table(seconds):
    """How long each notebook took in this build, as Markdown."""
    cells = [
        (f"[{name}](../notebooks/{name}.ipynb)", f"{seconds[name]:.0f} s")
        for name in sorted(seconds)
    ]
    return markdown_table(("notebook", "wall time in this build"), cells)


def runs_page(good=None):
    """The page of recorded runs as Markdown: what ran, when, on what.

    No two runs look alike, because the page shows all fields of a configuration that
    are not at their default.

    good: {id: record}; all in data/runs if None.
    """
    if good is None:
        good, bad = records.read_all()
        for problem in bad.values():
            warnings.warn(f"left out: {problem}", stacklevel=2)
    if not good:
        return RUNS_HEAD + "No runs recorded yet.\n"
    rows = [_row(record) for record in sorted(good.values(), key=_order)]
    hours = sum(r["ran_on"]["wall_seconds"] for r in good.values()) / 3600
    total = f"{len(rows)} runs, {hours:.1f} hours of wall time in all.\n\n"
    return (
        RUNS_HEAD + total + markdown_table(tuple(rows[0]), [r.values() for r in rows])
    )


def what(config):
    """A configuration without its recipe: 'lenet on mnist, scale paper, dense, ...'."""
    options = {k: v for k, v in config.options.items() if v != PLAIN.get(k)}
    words = [f"{config.model} on {config.task}", f"scale {config.scale}"]
    words += [*_named(config.size), config.method, *_named(options)]
    return ", ".join([*words, f"seed {config.seed}"])


def recipe(config):
    """A configuration's recipe: '20 epochs, batch 64, lr 0.01', and what is special."""
    usual = {f.name: f.default for f in dataclasses.fields(Recipe)}
    values = dataclasses.asdict(config.recipe)
    special = {k: v for k, v in values.items() if k in ALWAYS or v != usual[k]}
    return ", ".join([f"{special.pop('epochs')} epochs", *_named(special)])


def _row(record):
    """One record as {heading: text}; what a record lacks is left out."""
    config, ran_on = records.config_of(record), record["ran_on"]
    threads, processes = ran_on.get("threads"), ran_on.get("processes")
    where = [
        ran_on["device"],
        ran_on.get("processor"),
        threads and f"{threads} thread" + "s" * (threads > 1),
        processes and f"{processes} processes",
        ran_on.get("precision"),
        f"torch {ran_on.get('torch', '–')}",
    ]
    return {
        "run": f"`{record['id']}`",
        "what": what(config),
        "recipe": recipe(config),
        "when": ran_on["date"],
        "on what": ", ".join(word for word in where if word),
        "commit": f"`{ran_on.get('commit') or '–'}`",
        "took": f"{ran_on['wall_seconds']:.0f} s",
    }


def _order(record):
    config = record["config"]
    names = ("task", "model", "scale", "method")
    lambda_gl = config["options"].get("lambda_gl", -math.inf)
    return *(config[n] for n in names), lambda_gl, config["seed"], record["id"]


def _named(values):
    """{"width": 8, "skip": ["a", "b"]} as ["width 8", "skip a b"]."""
    return [_one(name, value) for name, value in values.items()]


def _one(name, value):
    if name == "lambda_gl":  # as the tables print a weight: 8e-4
        return variant_name(value)
    text = power(value) if name == "eps_ps" else _text(value)
    return f"{NAMES.get(name, name)} {text}"


def _text(value):
    if isinstance(value, list | tuple):
        return " ".join(map(_text, value)) or "none"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


NETWORKS_HEAD = """# Any network

`maestro.factorize` takes any `nn.Module`. Here it is tried on networks of other
libraries, each built small from its configuration with random weights.
`tests/test_networks.py` repeats every trial, and `python benchmarks/networks.py` writes
the record from which this page is made. With each network, everything is done that one
does from the first step to deployment:

"""


def networks_page(table=None):
    """The page of other libraries' networks, from their record, as Markdown."""
    table = measured.load("networks") if table is None else table
    versions = ", ".join(f"{name} {v}" for name, v in table["versions"].items())
    parts = [
        NETWORKS_HEAD,
        *(f"- **{u}**: {what}" for u, what in table["uses"].items()),
    ]
    parts.append(f"\nTried with {versions}.\n")
    for library in dict.fromkeys(row["library"] for row in table["rows"]):
        rows = [_network_row(row) for row in table["rows"] if row["library"] == library]
        head = ("network", "what works", "low-rank layers", "left as they are")
        parts += [f"## {library}\n", markdown_table(head, rows)]
    return "\n".join(parts)


def _network_row(row):
    refused = [f"{u} ({why})" for u, why in row["uses"].items() if why != "works"]
    works = f"all but {', '.join(refused)}" if refused else "all of it"
    left = "; ".join(f"{n} × {why}" for why, n in row["left_alone"].items())
    return row["network"], works, row["layers"], left or "–"


def stress_tables():
    """What `make stress` counted, as Markdown; "Not counted yet." without its file."""
    counts = measured.load("stress")
    if counts is None:
        return "Not counted yet.\n"
    table = markdown_table(stress.HEAD, stress.rows(counts))
    return f"{table}\n{stress.conditions(counts)}\n"


def markdown_table(head, rows):
    """A MyST table that stacks its rows on a phone; bars inside cells are escaped."""

    def line(cells):
        escaped = (str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells)
        return "| " + " | ".join(escaped) + " |\n"

    lines = line(head) + line(["---"] * len(head)) + "".join(map(line, rows))
    return f":::{{table}}\n:class: stack\n\n{lines}:::\n"
