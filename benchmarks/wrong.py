"""Wrong inputs, and the beginning of the one line that each must be answered with.

That line names the value and what would be right. stress.py gives each input to a
process of its own, in a copy of the project; the tests give most of them to the command
line and the functions directly.
"""

import json

COMMANDS = {
    "": "name a command: run, campaign, records, deploy, data, book, notebooks, claims",
    "nosuch": "argument COMMAND: invalid choice: 'nosuch' (choose from ",
    "data": "the following arguments are required: name",
    "data mnits": "no data set 'mnits'; there is: mnist, ",
    "data mnist cifar10": "unrecognized arguments: cifar10",
    "doctor now": "unrecognized arguments: now",
    "records one": "1 ids given; name two to compare them",
    "records 1 2 3": "3 ids given; name two to compare them",
    "records one two": "one.json: there is no such record in runs",
    "campaign --only lent": "--only 'lent': no run's description has it; see --list",
    "campaign --workers 0": "--workers='0': it takes an integer from 1 to 64",
    "campaign --workers -1": "--workers='-1': it takes an integer from 1 to 64",
    "campaign --workers two": "--workers='two': it takes an integer from 1 to 64",
    "campaign --workers 1_0": "--workers='1_0': it takes an integer from 1 to 64",
    "campaign --workers 1.0": "--workers='1.0': it takes an integer from 1 to 64",
    "campaign --workers": "argument --workers: expected one argument",
    "campaign --work 2": "unrecognized arguments: --work 2",
    "campaign --device gpu": "device='gpu'; it is auto, cpu, cuda",
    "campaign --device meta": "device='meta'; it is auto, cpu, cuda",
    "campaign --device cuda:99": "device=cuda",
    "campaign --budget-minutes nan": "--budget-minutes='nan': it takes a number >= 0.1",
    "campaign --budget-minutes inf": "--budget-minutes='inf': it takes a number >= 0.1",
    "campaign --budget-minutes 0": "--budget-minutes='0': it takes a number >= 0.1",
    "campaign --budget-minutes 1h": "--budget-minutes='1h': it takes a number >= 0.1",
    "book --jobs 0": "--jobs='0': it takes an integer from 1 to 64",
    "book --jobs -1": "--jobs='-1': it takes an integer from 1 to 64",
    "book --jobs all": "--jobs='all': it takes an integer from 1 to 64",
    "notebooks nosuch": "no notebook 'nosuch'; there are: 00_quickstart, ",
    "notebooks 05_theorem nosuch": "no notebook 'nosuch'; there are: 00_quickstart, ",
    "run": "the following arguments are required: notebook, name=value",
    "run nosuch": "no notebook 'nosuch'; there are: 00_quickstart, ",
    "run 05_theorm": "no notebook '05_theorm'; did you mean '05_theorem'?",
    "run 00_quickstart 3": "'3': write parameters as name=value",
    "run 00_quickstart -o notebooks/05_theorem.ipynb": (
        "output='notebooks/05_theorem.ipynb' is among the chapters: name a file elsewh"
    ),
    "run 00_quickstart -o notebooks/99_new.ipynb": (
        "output='notebooks/99_new.ipynb' is among the chapters: name a file elsewhere"
    ),
    "run 00_quickstart -o README.md": (
        "output='README.md': name a file that ends in .ipynb"
    ),
    "run 00_quickstart -o book/": "output='book/': name a file that ends in .ipynb",
}

# what a notebook is given, for every type of parameter
PARAMETERS = {
    "00_quickstart seed": "'seed': write parameters as name=value",
    "00_quickstart sede=3": "00_quickstart has no parameter 'sede'; did you mean",
    "00_quickstart seed=3 seed=4": "seed is given twice",
    "00_quickstart seed=": "seed='': it takes an integer from 0 to 4,294,967,295",
    "00_quickstart seed=-1": "seed='-1': it takes an integer from 0 to",
    "00_quickstart seed=1_000": "seed='1_000': it takes an integer from 0 to",
    "00_quickstart seed=1.0": "seed='1.0': it takes an integer from 0 to",
    "00_quickstart seed=None": "seed='None': it takes an integer from 0 to",
    "00_quickstart seed=true": "seed='true': it takes an integer from 0 to",
    "00_quickstart seed=4294967296": "seed='4294967296': it takes an integer from 0 to",
    "00_quickstart epochs=1e3": "epochs='1e3': it takes an integer from 1 to 100,000",
    "00_quickstart lambdas=1,,2": "lambdas='1,,2': it takes numbers >= 0, separated by",
    "00_quickstart lambdas=": "lambdas is empty: it takes numbers >= 0, separated by",
    "00_quickstart lambdas=[1,2": "lambdas='[1': it takes numbers >= 0, separated by",
    "00_quickstart lambdas=nan": "lambdas='nan': it takes numbers >= 0, separated by",
    "00_quickstart lambdas=1e999": "lambdas='1e999': it takes numbers >= 0, separated",
    "01_svd_recovery lr=fast": "lr='fast': it takes a number >= 0",
    "01_svd_recovery lr=inf": "lr='inf': it takes a number >= 0",
    "01_svd_recovery lr='1'": "lr=\"'1'\": it takes a number >= 0",
    "01_svd_recovery steps=0": "steps='0': it takes an integer from 1 to 10,000,000",
    "01_svd_recovery singular_values=0": (
        "singular_values='0': it takes at most 6 numbers from 0.001 to 1000"
    ),
    "02_pca_recovery points=10": "points='10': it takes an integer from 2 to 9",
    "05_theorem problems=0.5": "problems='0.5': it takes an integer from 1 to 10,000",
    "10_lenet_mnist seeds=0,x": "seeds='x': it takes integers from 0 to 4,294,967,295",
    "10_lenet_mnist seeds=0;1": "seeds='0;1': it takes integers from 0 to",
    "10_lenet_mnist train=yes": "train='yes': it takes true or false",
    "10_lenet_mnist train=1": "train='1': it takes true or false",
    "10_lenet_mnist device=gpu": "device='gpu': it takes one of auto, cpu, cuda",
    "10_lenet_mnist workers=65": "workers='65': it takes an integer from 1 to 64",
    "12_vgg19_cifar10 scales=tiny": "scales='tiny': it takes any of paper, 'paper, cod",
}

# by papermill itself, which passes anything on: the first line of the notebook refuses
PAPERMILL = [
    ("00_quickstart", "lambdas", "1,,2", PARAMETERS["00_quickstart lambdas=1,,2"]),
    ("00_quickstart", "sede", "3", PARAMETERS["00_quickstart sede=3"]),
    ("02_pca_recovery", "points", "10", "points=10: it takes an integer from 2 to 9"),
    ("10_lenet_mnist", "train", "yes", "train='yes': it takes true or false"),
    ("10_lenet_mnist", "workers", "0", "workers=0: it takes an integer from 1 to 64"),
]

PRELUDE = """
from math import inf, nan
import torch
from torch import nn
import maestro
from maestro import campaign, datasets, models
from maestro.campaign import experiments
from maestro.config import Recipe, RunConfig
from maestro.publish import notebooks, parameters, site
from maestro.results import published, records, speed

def dense():
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))

def net():
    return maestro.factorize(dense())

def recipe(**more):
    return Recipe(**{"epochs": 1, "batch_size": 2, "lr": 0.1} | more)

def run(**more):
    known = {"task": "digits", "model": "lenet", "method": "dense", "recipe": recipe()}
    return RunConfig(**known | more)
"""
FUNCTIONS = {
    "maestro.factorize(dense(), skip=['fc9'])": "skip='fc9' names no module",
    "maestro.truncate(net(), {'0': 99})": "rank 99 for 0: it takes 0 to 4",
    "maestro.truncate(net(), {'0': -1})": "rank -1 for 0: it takes 0 to 4",
    "maestro.truncate(net(), {'0': 1.5})": "rank 1.5 for 0: it takes 0 to 4",
    "maestro.truncate(net(), {'1': 2})": "no low-rank layer '1'; there are: 0, 2",
    "maestro.shrink(net(), None, eps_ps=nan)": "eps_ps=nan: it takes a finite number",
    "maestro.shrink(net(), None, eps_ps=inf)": "eps_ps=inf: it takes a finite number",
    "maestro.shrink(net(), None, eps_ps=-1)": "eps_ps=-1: it takes a finite number",
    "maestro.shrink(net(), None, eps_ps='1')": "eps_ps='1': it takes a finite number",
    "maestro.shrink(net(), None, eps_ps=True)": "eps_ps=True: it takes a finite number",
    "maestro.sample(dense())": "Sequential has no low-rank layers to sample; factoriz",
    "maestro.sample(net(), 3)": "generator=3: it takes a torch.Generator",
    "maestro.sample(net(), mode='pairs')": "mode='pairs'; it is one of pair, shuffled",
    "maestro.hierarchical_group_lasso(dense())": "Sequential has no low-rank layers",
    "recipe(epochs=0)": "epochs=0: it takes an integer >= 1",
    "recipe(epochs=True)": "epochs=True: it takes an integer >= 1",
    "recipe(batch_size='2')": "batch_size='2': it takes an integer >= 1",
    "recipe(lr=None)": "lr=None: it takes a finite number >= 0",
    "recipe(lr=nan)": "lr=nan: it takes a finite number >= 0",
    "recipe(optimizer='adan')": "optimizer='adan'; it is one of sgd, adam",
    "recipe(betas=(0.9, 1.0))": "betas=(0.9, 1.0): it takes two numbers < 1",
    "recipe(milestones=3)": "milestones=3: it takes a list",
    "run(recipe={})": "recipe={}: it takes a Recipe",
    "run(options={'lambda_gl': nan})": "options={'lambda_gl': nan}: it takes finite nu",
    "run(seed=1.0)": "seed=1.0: it takes an integer >= 0",
    "models.make('lenet5', 10, {})": "model='lenet5'; it is one of compact, lenet",
    "models.make('vgg19', 10, {'widht': 8})": "size={'widht': 8}: vgg19 takes width",
    "datasets.load('mnits')": "task='mnits'; it is one of mnist, digits",
    "campaign.run(None)": "configs=None: it takes a list of RunConfigs",
    "campaign.run([run()], device='gpu')": "device='gpu'; it is auto, cpu, cuda",
    "campaign.run([run()], workers=True)": "workers=True: it takes an integer >= 1",
    "campaign.run([run()], minutes=nan)": "minutes=nan: it takes a finite number",
    "campaign.run([run(model='lenet5')])": "model='lenet5'; it is one of compact, l",
    "campaign.run([run(method='dens')])": "method='dens'; it is one of dense, maestro",
    "experiments.lenet_mnist(lambdas=(nan,))": "lambdas=nan: it takes a finite number",
    "experiments.lenet_mnist(thresholds=())": "thresholds=(): it takes at least one",
    "experiments.resnet18_cifar10('tiny')": "scale='tiny': resnet18 has paper, ",
    "records.read('nosuch.json')": "nosuch.json: there is no such record",
    "published.paper_table(99)": "number=99: it is one of [2, 3, 4, ",
    "published.paper_table(4, 'nosuch')": "section='nosuch'; it is one of {",
    "parameters.check('05_theorem', {'lr': nan})": "lr=nan: it takes a number >= 0",
    "site.build(jobs='2')": "jobs='2': it takes an integer >= 1",
}


def _with(**changes):
    """Content of a record -> the same with other fields."""
    return lambda content: json.dumps(json.loads(content) | changes).encode()


def _cut(content):
    return content[:-99]


def _empty(content):
    return b""


# (file, what is wrong with it, content -> content, what meets it, the answer)
RECORD, MNIST = "data/runs/*.json", "data/cache/mnist.npz"
TRAIN = "campaign --only lenet/mnist"
DAMAGED = [
    (RECORD, "emptied", _empty, "records", "not readable as JSON"),
    (RECORD, "cut off", _cut, "records", "not readable as JSON"),
    (RECORD, "of zeros", lambda c: bytes(len(c)), "records", "not readable as JSON"),
    (RECORD, "a list", lambda c: b"[1]", "records", "no run record: it has no schema"),
    (RECORD, "renamed", _with(id="a"), "records", "id a but its configuration is"),
    (RECORD, "changed", _with(status="won"), "records", "status 'won'"),
    (RECORD, "of tomorrow", _with(schema=99), "records", "schema 99, written by a"),
    (MNIST, "emptied", _empty, TRAIN, "mnist.npz is damaged"),
    (MNIST, "of text", lambda c: b"no archive", TRAIN, "mnist.npz is damaged"),
    (
        "notebooks/05_theorem.ipynb",
        "cut off",
        _cut,
        "run 05_theorem",
        "05_theorem.ipynb is damaged",
    ),
    (
        "data/paper/table11.csv",
        "emptied",
        _empty,
        "published.paper_table(11)",
        "table11.csv is damaged",
    ),
    (
        "data/bench/cpu.json",
        "cut off",
        _cut,
        "speed.load('cpu')",
        "cpu.json is damaged",
    ),
    (
        "_toc.yml",
        "without a chapter",
        lambda content: content.replace(b"05_theorem", b"04_rank_adaptivity"),
        "book",
        "notebooks/05_theorem.ipynb is not in _toc.yml",
    ),
]

# (the folder whose disk is full or read-only, the command that would write there)
DISKS = [
    ("data/runs", "campaign --only lenet/mnist"),
    ("data/cache", "campaign --only lenet/mnist"),
    ("data/cache", "data mnist"),
    ("_build", "book"),
    ("_build", "notebooks 00_quickstart"),
    ("_build", "run 00_quickstart epochs=1"),
    ("out", "run 00_quickstart epochs=1 -o out/quick.ipynb"),
]
