"""The register: every claim of the paper, in its order, with what judges the claim.

The tiles of the landing page, the page of claims and the card at the top of each
chapter are all made from this table (dashboard.py).
"""

from typing import NamedTuple

from ..results.cells import NOT_RUN
from ..results.verdicts import IN_PART, together
from . import judges as by
from .evidence import LENET, RESNET18, RESNET50, TRANSFORMER, VGG19, Said

SVD, PCA, ORDER = "01_svd_recovery", "02_pca_recovery", "03_reversed_ordering"
ADAPTS, THEOREM = "04_rank_adaptivity", "05_theorem"
EVERY_PREFIX = "every prefix of every seed is within 0.5 % of its best"
BALL = "uniform ball: every prefix is the truncated SVD of A"
SAME_FOR_THREE = "uniform, falling and rising ranks lead to the same minimiser"
NO_MINIMISER = "the printed formula gives no minimiser of (6)"
IDENTITY = "A = I: every prefix projects on principal components"
ON_THE_DATA = "Eq. (3) alone gives PCA, seen on the data"
ESTIMATES = "top 3 within 0.15 of 1, rest below 0.01, "
FIGURED = LENET, RESNET18, VGG19  # the networks of Figs. 8 to 13


class Claim(NamedTuple):
    """A claim of the paper.

    key: its anchor on the page of claims; place: where the paper makes it; text: the
    claim; short: the same for a tile; judge: a function of `Evidence`, its parts.
    """

    key: str
    place: str
    short: str
    text: str
    judge: callable


class Judged(NamedTuple):
    """A claim with its verdict, and its parts, also those aside."""

    claim: Claim
    word: str
    parts: list


SECTIONS = {
    "Abstract and introduction": (
        Claim(
            "recovers",
            "Abstract",
            "LoD recovers the SVD and PCA",
            "In special cases LoD recovers the SVD and PCA",
            by.printed(
                (SVD, EVERY_PREFIX),
                (PCA, ON_THE_DATA),
                (THEOREM, Said(BALL, 1), Said(IDENTITY, 1)),
            ),
        ),
        Claim(
            "data",
            "Sec. 1",
            "LoD sees the data, an SVD does not",
            "LoD takes the data into account, which the SVD of the weights does not; "
            "a linear model already shows this, beside the best map of each rank",
            by.printed(
                (
                    ORDER,
                    "LoD, cut to any rank, leaves at most 1 % more of the loss",
                    "the SVD of A, cut below its rank, leaves at least 25 % more",
                )
            ),
        ),
        Claim(
            "incremental",
            "Abstract, Figs. 4a and 8",
            "Ranks are found during training",
            "Ranks are selected layer by layer during training and pruned "
            "incrementally, without repeated decompositions",
            by.of_every(by.incremental, *FIGURED),
        ),
        Claim(
            "smaller",
            "Abstract",
            "A smaller network, as good",
            "A lower footprint at preserved performance",
            by.of_every(by.as_good),
        ),
        Claim(
            "deploy",
            "Abstract, Sec. 3.4",
            "Cut by three after training, no loss",
            "Accuracy can be traded for cost at deployment, without retraining: LeNet "
            "is cut by a factor of three without loss",
            by.cut_to_a_third,
        ),
        Claim(
            "counted",
            "Sec. 1, Tables 11 to 15",
            "Training costs less, counted",
            "Training takes fewer multiply-accumulates than dense training, because "
            "of progressive shrinking",
            by.of_every(by.counted),
        ),
        Claim(
            "timed",
            "Sec. 1, Sec. 5.5",
            "Training costs less, by the clock",
            "A training step takes less time than a dense step once ranks have "
            "fallen; the paper lets multiply-accumulates stand for time",
            by.timed,
        ),
        Claim(
            "memory",
            "Sec. 3.4",
            "Training takes less memory",
            "A training step takes less memory than a dense step once ranks have "
            "fallen",
            by.remembered,
        ),
        Claim(
            "low-rank",
            "Abstract, Sec. 5.2",
            "As good as other low-rank methods",
            "On par with low-rank methods or better, on CIFAR-10, at their size or "
            "below",
            by.beside(
                by.LOW_RANK,
                "lenet",
                "compact",
                "resnet18",
                "resnet18, paper",
                "vgg19, paper",
            ),
        ),
        Claim(
            "pufferfish",
            "Sec. 5.2, Table 3",
            "Better than Pufferfish in translation",
            "6 % lower perplexity than Pufferfish in the Transformer, at a quarter of "
            "the cost and half of the parameters",
            by.pufferfish_text,
        ),
    ),
    "Theory (Sections 3 and 4, Appendices C, E.1, E.2)": (
        Claim(
            "eq-2",
            "Eq. 2",
            "All ranks at once are the SVD",
            "The best approximations of all ranks at once are the SVD, up to scaling",
            by.printed((THEOREM, Said(BALL, 1))),
        ),
        Claim(
            "fig-2a",
            "Fig. 2a",
            "SGD finds the SVD",
            "For uniform data, SGD on Eq. 3 reaches the best approximation of every "
            "rank",
            by.printed((SVD, EVERY_PREFIX)),
        ),
        Claim(
            "fig-2b",
            "Fig. 2b",
            "SGD finds PCA",
            "For an identity target, the estimated singular values of the data's "
            "directions converge to one and the rest to zero",
            by.printed(
                (
                    PCA,
                    ESTIMATES + "Eq. (3) alone",
                    ESTIMATES + "with the demo's lasso",
                    ESTIMATES + "with the lasso of Eq. (5)",
                    ON_THE_DATA,
                )
            ),
        ),
        Claim(
            "theorem-4-1",
            "Theorem 4.1",
            "LoD is PCA of transformed data",
            "Eq. 3 is PCA of the transformed data",
            by.printed((THEOREM, "the closed form is optimal at every rank at once")),
        ),
        Claim(
            "theorem-c-1",
            "Theorem C.1",
            "The formal theorem, as printed",
            "The formal version maps the solution of the PCA problem back to Eq. 3 by "
            "the printed formula",
            by.printed((THEOREM, Said(NO_MINIMISER, against=True))),
        ),
        Claim(
            "sampling-is-free",
            "Sec. 3.3",
            "One summand a step is enough",
            "At the optimum the gradient of every summand is zero, so sampling one "
            "summand in each step is enough; shown for linear maps",
            by.printed(
                (
                    THEOREM,
                    Said("at the closed form every summand has zero gradient", 1),
                    Said(SAME_FOR_THREE, 5),
                )
            ),
        ),
        Claim(
            "fig-6",
            "Fig. 6",
            "The order follows the data",
            "The order of importance follows the data, even where the data reverse "
            "the order of the singular values",
            by.printed((ORDER, "LoD learns the reversed order")),
        ),
        Claim(
            "fig-7",
            "Fig. 7",
            "The rank follows the data",
            "When the data lose a dimension during training, the learned rank falls",
            by.printed(
                (
                    ADAPTS,
                    "all seeds go from 3 to 2, no lasso",
                    "all seeds go from 3 to 2, demo's lasso",
                    "all seeds go from 3 to 2, lasso of Eq. (5)",
                )
            ),
        ),
    ),
    "Tables": (
        Claim(
            "table-2",
            "Table 2",
            "The sizes of the networks",
            "The dense networks have the printed parameters and multiply-accumulates",
            by.counts_of_table_2,
        ),
        Claim(
            "table-4",
            "Table 4",
            "On par on ImageNet",
            "On ImageNet, as good as Pufferfish and Cuttlefish, at their size or below",
            by.table_4,
        ),
        Claim(
            "table-5",
            "Table 5, Sec. 5.4",
            "No part costs accuracy",
            "The group lasso and shrinking do not cost accuracy and make training "
            "cheaper; an additional full pass does not help",
            by.without_parts,
        ),
        Claim(
            "tables-6-7",
            "Tables 6 and 7",
            "The architectures, as printed",
            "The architectures as printed are those of the experiments",
            by.architectures,
        ),
        Claim(
            "table-11",
            "Table 11",
            "LeNet on MNIST",
            "LeNet's parameters and accuracies for eight settings",
            by.table(LENET),
        ),
        Claim(
            "table-12",
            "Table 12",
            "ResNet-18 on CIFAR-10",
            "ResNet-18's parameters and accuracies",
            by.table(RESNET18),
        ),
        Claim(
            "table-13",
            "Table 13",
            "VGG-19 on CIFAR-10",
            "VGG-19's parameters and accuracies",
            by.table(VGG19),
        ),
        Claim(
            "table-14",
            "Table 14",
            "The Transformer on Multi30k",
            "The Transformer's parameters and perplexities",
            by.table(TRANSFORMER),
        ),
        Claim(
            "table-14-better",
            "Table 14",
            "Smaller, of lower perplexity",
            "Some λ gives a smaller Transformer of lower perplexity than the dense one",
            by.better_text,
        ),
        Claim(
            "table-15",
            "Table 15",
            "ResNet-50 on ImageNet",
            "ResNet-50's parameters and accuracies",
            by.table(RESNET50),
        ),
    ),
    "Figures": (
        Claim(
            "fig-5a",
            "Figs. 5a and 11",
            "Learned columns beat an SVD",
            "Cut by greedy search, a network of Maestro is better than a dense one "
            "factorised by SVD",
            by.learned_against_svd,
        ),
        Claim(
            "fig-9",
            "Figs. 4b and 9",
            "Ranks are nested",
            "The ranks of all layers are nested as λ grows",
            by.of_every(by.nested, *FIGURED),
        ),
        Claim(
            "fig-10",
            "Fig. 10, Sec. 5.3",
            "Sampling does no harm",
            "Sampling does not adversely impact training",
            by.sampled,
        ),
        Claim(
            "fig-12",
            "Figs. 5b and 12",
            "A larger λ, a smaller network",
            "The weight of the group lasso trades accuracy for size",
            by.of_every(by.shrinks, *FIGURED),
        ),
        Claim(
            "fig-13",
            "Figs. 5c and 13",
            "Ranks of other runs can be reused",
            "At λ = 0, cut to the ranks of other runs, LeNet is three times smaller "
            "and ResNet-18 1.7 times without loss",
            by.ranks_reused,
        ),
    ),
    "Claims of the text": (
        Claim(
            "algorithm-2",
            "Sec. 3.3",
            "Finding λ costs at most 2 to 3 trainings",
            "Finding λ by Algorithm 2 costs typically at most two to three trainings",
            by.algorithm_2,
        ),
        Claim(
            "pruning",
            "Sec. 5.2, Table 16",
            "Better than pruning",
            "More accurate than IMP and RareGems, at their size or below",
            by.beside(
                by.PRUNING,
                "lenet",
                "compact",
                "resnet18, paper",
                "vgg19, paper",
                claim=by.BETTER,
            ),
        ),
        Claim(
            "quantised",
            "Sec. 5.2, Table 16",
            "Better than binary weights",
            "More accurate than XNOR-Net, at its size",
            by.beside(
                by.BINARY,
                "compact",
                "resnet18, paper",
                "vgg19, paper",
                claim=by.BETTER,
            ),
        ),
        Claim(
            "vgg-by-ten",
            "Sec. 5.5",
            "VGG-19 cut by ten at 87.7 %",
            "VGG-19 cut to a tenth of its parameters, by the ranks of another run, "
            "reaches 87.7 %",
            by.vgg_cut_by_ten,
        ),
        Claim(
            "stored-dense",
            "App. D.4",
            "Never larger than dense",
            "A layer whose factors cost more than the full matrix is stored dense",
            by.stored_dense,
        ),
    ),
}
# {chapter: the question that its card begins with}
QUESTIONS = {
    SVD: "Does training with random ranks find the SVD of a linear map?",
    PCA: "Does training with random ranks find the principal components?",
    ORDER: "Does the order of the columns follow the data, where an SVD cannot?",
    ADAPTS: "Does the learned rank fall when the data lose a dimension?",
    THEOREM: "Does training converge to the PCA of the transformed data?",
    LENET: "Do the paper's results on LeNet come out, and its claims with them?",
    RESNET18: "Do the paper's results on ResNet-18 come out?",
    VGG19: "Do the paper's results on VGG-19 come out?",
    TRANSFORMER: "Do the paper's results on the Transformer come out?",
    RESNET50: "Do the paper's results on ResNet-50 come out?",
    "16_baselines": "Is Maestro as good as the other systems, at their size or below?",
    "17_sampling": "Does sampling harm training?",
    "18_train_once_deploy_everywhere": "Can one trained network be cut to any size?",
    "19_finding_lambda": "What does it cost to find λ?",
    "20_what_it_costs": "Does a training step cost less as ranks fall?",
    "22_ablation": "Which part of the method costs accuracy, and which saves work?",
}


def judged(evidence):
    """{section: [Judged]}: every claim with its verdict."""
    return {
        section: [_judged(claim, evidence) for claim in claims]
        for section, claims in SECTIONS.items()
    }


def _judged(claim, evidence):
    parts = claim.judge(evidence)
    own, _ = apart(parts)
    return Judged(claim, together(part.verdict.word for part in own), parts)


def apart(parts):
    """(the parts that decide their claim, those aside that have run)."""
    own = [part for part in parts if not part.aside]
    return own, [p for p in parts if p.aside and p.verdict.word != NOT_RUN]


def every(sections):
    """The claims of all ``sections`` of `judged`, in the paper's order."""
    return [one for some in sections.values() for one in some]


def lead(one):
    """The part of a judged claim that stands for it: the first with the same word.

    A claim that holds in part is led by the first part that has run, and one that has
    not run by the first aside.
    """
    own, aside = apart(one.parts)
    ran = [part for part in own if part.verdict.word != NOT_RUN]
    same = [part for part in ran if part.verdict.word == one.word]
    return [*(ran if one.word == IN_PART else same), *aside, *one.parts][0]
