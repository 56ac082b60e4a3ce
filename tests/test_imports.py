"""One way through the package: a module imports only from modules above it."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import maestro

PACKAGE = Path(maestro.__file__).parent

# The stages, from the ground up: data flows down this list. A module may import from
# the stages above its own, not from those below, not even inside a function. Every
# module may import ``config``, ``paths``, ``system`` and ``results.records``, which
# import no stage.
STAGES = """
    config paths system
    lowrank
    models
    datasets
    methods
    training
    campaign
    deploy
    results
    figures
    theory
    publish
    __init__
    __main__
""".split()
COMMON = {"config", "paths", "system", "results.records", "results"}

HEAVY = """torchvision spacy sacrebleu PIL IPython ipykernel jupyter_book papermill
    nbformat sklearn pandas matplotlib playwright timm transformers
    torch_pruning""".split()

FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(
        ".__init__"
    ): path
    for path in PACKAGE.rglob("*.py")
}


@cache
def imports(module):
    """(inside, outside): names of the package's modules and of all other top levels."""
    path, inside, outside = FILES[module], set(), set()
    parents = path.relative_to(PACKAGE).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = ["maestro", *parents][: len(parents) + 2 - node.level]
            base = ".".join((start if node.level else []) + [node.module or ""])
            found = [f"{base.strip('.')}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in found:
            if name.partition(".")[0] == "maestro":
                inside.add(known(name.removeprefix("maestro").removeprefix(".")))
            else:
                outside.add(name.partition(".")[0])
    return inside, outside


def known(name):
    """The module that ``name`` is, or that it is taken from."""
    while name and name not in FILES:
        name = name.rpartition(".")[0]
    return name or "__init__"


def reached(module):
    """All modules of the package that importing this one can lead to."""
    seen, todo = set(), [module]
    while todo:
        for name in imports(todo.pop())[0] - seen:
            seen.add(name)
            todo.append(name)
    return seen


def stage(module):
    """The stage of a module: its folder's name, or its own on the ground floor."""
    return module.partition(".")[0]


def circle(edges):
    """A module that leads back to itself through ``edges`` {module: modules}."""
    done = set()

    def leads_back(module, path):
        if module in path:
            return True
        if module in done:
            return False
        done.add(module)
        return any(leads_back(name, path | {module}) for name in edges[module])

    return next((module for module in edges if leads_back(module, frozenset())), None)


def test_every_module_belongs_to_a_stage():
    assert {stage(module) for module in FILES} == set(STAGES)


@pytest.mark.parametrize("module", FILES)
def test_imports_go_one_way(module):
    above = set(STAGES[: STAGES.index(stage(module))]) | {stage(module)}
    wrong = {name for name in imports(module)[0] - COMMON if stage(name) not in above}
    assert not wrong, f"maestro/{module} imports from a stage below: {sorted(wrong)}"


def test_what_everyone_may_import_imports_no_stage():
    for name in COMMON - {"results"}:
        assert imports(name)[0] <= COMMON


def test_no_circle_among_modules():
    # a package's __init__ re-exports its modules, which may import each other
    edges = {
        module: {name for name in imports(module)[0] if FILES[name].stem != "__init__"}
        for module in FILES
    }
    assert circle(edges) is None
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == "a"


def test_the_imports_are_seen():
    """The rule above reads every way of writing an import."""
    assert imports("lowrank.penalty")[0] == {
        "config",
        "lowrank.base",
        "lowrank.factorize",
    }
    assert imports("lowrank.counting")[0] == {
        "lowrank.arguments",
        "lowrank.factorize",
        "lowrank.forms",
        "lowrank.layers",
        "lowrank.merging",
        "lowrank.products",
        "lowrank.reads",
        "lowrank.slots",
    }
    assert {"lowrank", "config"} <= imports("methods.maestro")[0]
    assert {"lowrank.counting", "lowrank"} <= imports("__init__")[0]
    assert "publish.site" in imports("__main__")[0]  # inside a function
    assert known("lowrank.no_such_name") == "lowrank" and known("ranks") == "__init__"
    assert "torch" in imports("lowrank.counting")[1]


@pytest.mark.parametrize(
    "module", [m for m in FILES if m.startswith(("results", "fig"))]
)
def test_what_shows_results_cannot_train(module):
    stages = {stage(name) for name in reached(module)}
    assert not {"training", "campaign", "methods", "datasets", "deploy"} & stages
    assert "torch" not in {top for name in reached(module) for top in imports(name)[1]}


@pytest.mark.parametrize("module", FILES)
def test_one_module_imports_torchvision(module):
    assert "torchvision" not in imports(module)[1]


def test_only_the_repair_names_torchvision_to_import():
    calls = {
        module
        for module, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith(("import_module", "__import__"))
        and "torchvision" in ast.unparse(node)
    }
    assert calls == {"datasets.torchvision_repair"}


# Modules of Python's own library that take longer to import than all of maestro.
SLOW = "statistics fractions decimal asyncio multiprocessing unittest".split()


def loaded_by(*statements):
    """The modules that each statement loads beyond those that are there before it."""
    code = "import sys\nthere = set()\n"
    for statement in statements:
        code += f"{statement}\nprint(*sys.modules.keys() - there)\n"
        code += "there = set(sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_import_maestro_costs_little_more_than_torch():
    training = "import maestro.training.loop, maestro.campaign.catalog"
    torch, ours, trains = loaded_by("import torch", "import maestro", training)
    assert "torch" in torch and "maestro.lowrank.factorize" in ours
    assert ours.isdisjoint(SLOW)
    stages = {name.split(".")[1] for name in ours if name.startswith("maestro.")}
    assert stages == {"lowrank", "deploy", "config", "system"}
    loaded = {name.partition(".")[0] for name in torch | ours | trains}
    assert loaded.isdisjoint(HEAVY)
