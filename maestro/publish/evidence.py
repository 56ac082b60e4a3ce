"""The evidence for the claims: run records, measurements, live chapters.

An `Evidence` reads each of them once; the judges (judges.py) ask it.
"""

import json
from functools import cache, cached_property
from typing import NamedTuple

from ..campaign import baselines, experiments
from ..paths import ROOT
from ..results import (
    records,
    speed,
    variants,
)
from ..results.cells import NETWORKS, power
from ..results.confidence import FAILS, HOLDS
from ..results.published import DENSE_SECTION, paper_table, params_meant
from ..results.verdicts import ACCURACY, PERPLEXITY, Measure, Verdict
from . import parameters

SCALES = ("paper", "paper, code", "short", "laptop")
OF_THE_PAPER = SCALES[:2]
STRICT, CODE = 1e-7, 1e-5  # thresholds: the paper's, and that of the authors' code
LENET, RESNET18, VGG19 = "10_lenet_mnist", "11_resnet18_cifar10", "12_vgg19_cifar10"
TRANSFORMER, RESNET50 = "13_transformer_multi30k", "14_resnet50_imagenet"
CHAPTERS = {
    "lenet": LENET,
    "resnet18": RESNET18,
    "vgg19": VGG19,
    "transformer": TRANSFORMER,
    "resnet50": RESNET50,
    "compact": "21_compact_cifar10",
}
TIMED = ("lenet", "resnet18", "vgg19", "transformer")  # of these, by `make bench`


class Part(NamedTuple):
    """A verdict on one part of a claim, and the chapter that shows how it came out.

    aside: whether the network, the scale or the rival is not one that the paper makes
    the claim for. Such a part is shown, but the verdict on the claim is without it.
    """

    chapter: str
    subject: str
    verdict: Verdict
    aside: bool = False


class Said(NamedTuple):
    """A statement that a live chapter prints, and how often the chapter tests it.

    n: the repetitions, those of the whole chapter if 0; against: whether the statement
    speaks against the claim.
    """

    text: str
    n: int = 0
    against: bool = False


def part(chapter, subject, scale, verdict, aside=False):
    """The `Part` of a verdict on runs of ``scale``; smaller scales are aside."""
    scaled = verdict._replace(scale=verdict.scale or scale)
    return Part(chapter, subject, scaled, aside or scale not in OF_THE_PAPER)


class Setting(NamedTuple):
    """The runs of one network at one scale; paper: its table, None without one."""

    chapter: str
    subject: str
    scale: str
    runs: dict
    paper: object
    measure: Measure

    def judged(self, verdict, aside=False):
        """``verdict`` on this setting's runs, as a `Part`; aside: as for the Part."""
        return part(self.chapter, self.subject, self.scale, verdict, aside)


class Evidence:
    """What the claims are judged on.

    Args:
        notebooks: the folder of the notebooks whose stored outputs are read.
        runs: the folder of the run records, data/runs if None.
    """

    def __init__(self, notebooks=ROOT / "notebooks", runs=None):
        self.notebooks, self.folder = notebooks, runs
        self.stored = cache(self._stored)

    @cached_property
    def records(self):
        """{id: record} of every record that can be read."""
        return records.read_all(self.folder)[0]

    def find(self, configs):
        """{id: record} of the ``configs`` that have a record."""
        ids = dict.fromkeys(config.id for config in configs)
        return {key: self.records[key] for key in ids if key in self.records}

    def said(self, chapter, *statements):
        """The verdicts that a chapter printed in its last run, as parts.

        statements: each a `Said`, or the text of one.

        Raises:
            ValueError: the chapter has not printed one of the ``statements``.
        """
        printed, repetitions = self.stored(chapter), _repetitions(chapter)
        parts = []
        for one in statements:
            text, n, against = Said(one) if isinstance(one, str) else one
            if text not in printed:
                raise ValueError(
                    f"notebooks/{chapter}.ipynb prints no verdict {text!r}"
                )
            word = HOLDS if printed[text] != against else FAILS
            sentence = f"{'shown' if printed[text] else 'not shown'}: {text}"
            verdict = Verdict(text, word, n=n or repetitions, scale="linear")
            verdict = verdict._replace(sentence=sentence)
            parts.append(Part(chapter, "linear maps", verdict))
        return parts

    def _stored(self, chapter):
        """{statement: whether it held} of a notebook's stored output."""
        text = (self.notebooks / f"{chapter}.ipynb").read_text("utf-8")
        lines = [
            line.strip()
            for cell in json.loads(text)["cells"]
            for output in cell.get("outputs", ())
            for line in "".join(output.get("text", "")).splitlines()
        ]
        pairs = [line.split(": ", 1) for line in lines if ": " in line]
        known = {"holds": True, "DOES NOT HOLD HERE": False}
        return {text: known[word] for word, text in pairs if word in known}

    @cached_property
    def lenet(self):
        """{threshold: {id: record}} of LeNet's runs."""
        return variants.by_threshold(self.find(experiments.lenet_mnist()))

    @cached_property
    def settings(self):
        """Every network: at the paper's scale, and at each other scale with records."""
        paper = paper_table(11)
        paper = paper.assign(params=params_meant(paper))
        some = [
            Setting(LENET, f"LeNet, ε = {power(eps)}", "paper", runs, paper, ACCURACY)
            for eps in (CODE, STRICT)
            for runs in [self.lenet.get(eps, {})]
        ]
        some += self._grid(RESNET18, "ResNet-18", experiments.resnet18_cifar10, 12)
        some += self._grid(VGG19, "VGG-19", experiments.vgg19_cifar10, 13)
        some += self._grid(
            TRANSFORMER, "Transformer", experiments.transformer_multi30k, 14, PERPLEXITY
        )
        return some + self._imagenet()

    def _grid(self, chapter, subject, configs, number, measure=ACCURACY):
        table = paper_table(number)
        table = table.assign(params=1e6 * table.params)
        return [
            Setting(chapter, subject, scale, runs, _comparable(table, scale), measure)
            for scale in SCALES
            for runs in [self.find(configs(scale))]
            if runs or scale == "paper"
        ]

    def _imagenet(self):
        some = []
        sections = paper_table(15).section.unique()
        for section in [name for name in sections if name != DENSE_SECTION]:
            partial = section.startswith("Not")
            table = paper_table(15, section)
            table = table.assign(params=1e6 * table.params)
            subject = "ResNet-50, " + ("last stage" if partial else "all layers")
            for scale in SCALES:
                runs = self.find(experiments.resnet50(scale, partial=partial))
                theirs = table if scale.startswith("paper") else None
                if runs or scale == "paper":
                    some.append(
                        Setting(RESNET50, subject, scale, runs, theirs, ACCURACY)
                    )
        return some

    def of(self, *chapters):
        """The settings of ``chapters``."""
        return [one for one in self.settings if one.chapter in chapters]

    @cached_property
    def bench(self):
        """The measurement on a CPU, or None."""
        return speed.load("cpu")

    @cached_property
    def frontiers(self):
        """{network: its `Setting` of all systems}."""
        grids = {"resnet18": experiments.resnet18_cifar10}
        grids["vgg19"] = experiments.vgg19_cifar10
        wanted = {
            name: (name, baselines.beside_maestro(name))
            for name in ("lenet", "compact", "resnet18")
        }
        for name, grid in grids.items():
            configs = baselines.table_16(name, "paper") + grid("paper")
            wanted[f"{name}, paper"] = name, configs
        found = {}
        for key, (name, configs) in wanted.items():
            place = "16_baselines", NETWORKS[name], configs[0].scale
            found[key] = Setting(*place, self.find(configs), None, ACCURACY)
        return found


def _comparable(table, scale):
    """``table``, or None at the laptop scale, whose network is another."""
    return None if scale == "laptop" else table


def _repetitions(chapter):
    """How many seeds, or problems, a live chapter has."""
    defaults = parameters.defaults(chapter)
    return defaults.get("problems") or len(defaults["seeds"])
