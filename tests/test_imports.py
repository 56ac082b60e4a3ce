"""One way through the package: a module imports only from modules above it."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import maestro

PACKAGE = Path(maestro.__file__).parent

# The whole package from the ground up. A module may import those above it, nothing
# below, not even inside a function. A new module gets its line here, where it belongs.
# Some are still to be written.
ORDER = """
    config
    parameters
    torchvision_repair
    energy
    machine
    records
    datasets.prepared
    datasets.download
    datasets.originals
    datasets.images
    datasets.corpus
    datasets.translation
    datasets.imagenet
    datasets
    models.lenet
    models.vgg
    models.resnet
    models.transformer
    models
    lowrank.layers
    lowrank.factorize
    lowrank.sampling
    lowrank.penalty
    lowrank.shrinking
    lowrank.merging
    lowrank
    footprint
    methods.dense
    methods.maestro
    methods.masked
    methods.proximal
    methods
    distributed
    optimizers
    replay
    training
    tuning
    theory
    experiments
    campaign
    cells
    tables
    translations
    measured
    deploy
    figures.style
    figures.runs
    figures.speed
    figures.theory
    figures
    claims
    notebooks
    browser
    book
    doctor
    __init__
    __main__
""".split()

HEAVY = """torchvision spacy sacrebleu PIL IPython ipykernel jupyter_book papermill
    nbformat sklearn pandas matplotlib playwright""".split()

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


def test_every_module_has_its_place():
    assert len(ORDER) == len(set(ORDER))
    unlisted = set(FILES) - set(ORDER)
    assert not unlisted, f"say in ORDER where these belong: {sorted(unlisted)}"


@pytest.mark.parametrize("module", FILES)
def test_imports_go_one_way(module):
    above = ORDER[: ORDER.index(module)]
    wrong = imports(module)[0] - set(above)
    assert not wrong, f"maestro/{module} imports from below or beside: {sorted(wrong)}"


def test_the_imports_are_seen():
    """The rule above reads every way of writing an import."""
    assert imports("lowrank.penalty")[0] == {"lowrank.factorize"}
    assert imports("footprint")[0] == {"lowrank.factorize", "lowrank.layers"}
    assert {"footprint", "lowrank"} <= imports("methods.maestro")[0]
    assert {"footprint", "lowrank"} <= imports("__init__")[0]
    assert "book" in imports("__main__")[0]  # inside a function
    assert known("lowrank.no_such_name") == "lowrank" and known("ranks") == "__init__"
    assert "torch" in imports("footprint")[1]


@pytest.mark.parametrize("module", ["tables", "translations", "figures", "claims"])
def test_what_shows_results_cannot_train(module):
    assert not {"training", "campaign", "methods", "datasets"} & reached(module)


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
    assert calls == {"torchvision_repair"}


def loaded_by(statement):
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_import_maestro_is_light():
    loaded = loaded_by("import maestro")
    assert {"maestro", "torch"} <= loaded
    assert loaded.isdisjoint(HEAVY)


def test_training_needs_no_notebooks_and_no_torchvision():
    loaded = loaded_by("import maestro.training, maestro.experiments, maestro.models")
    assert loaded.isdisjoint(HEAVY)
