"""The judges: functions of one `Evidence` that return the parts of a claim."""

from math import log

from ..campaign import baselines, experiments
from ..results import (
    ablation,
    claims,
    outcomes,
    sampling,
    sizes,
    systems,
)
from ..results.cells import NETWORKS
from ..results.published import paper_table
from ..results.verdicts import ACCURACY, PERPLEXITY, Verdict
from . import counts, finding, parameters
from .evidence import (
    CHAPTERS,
    CODE,
    LENET,
    RESNET18,
    RESNET50,
    TIMED,
    TRANSFORMER,
    VGG19,
    Part,
    Setting,
    part,
)

LOW_RANK = {
    "pufferfish",
    "cuttlefish",
    "spectral",
    "svd",
    "spectral_decay",
    "dlrt",
    "dlrt_augmented",
}
PRUNING, BINARY = {"imp", "raregems", "depgraph"}, {"xnor"}
LOWER = 0.94  # the perplexity of Table 3 as a share of Pufferfish's
LOWER_BY_6 = "perplexity at least 6 % below"
AT_LEAST_AS_GOOD, BETTER = "as good as", "more accurate than"
CUTS, COSTS = "18_train_once_deploy_everywhere", "20_what_it_costs"


def of_every(judge, *chapters):
    """A judge that applies ``judge(setting)`` to every setting.

    chapters: those of the networks that the paper makes the claim for; all if none.
    """

    def parts(evidence):
        found = [
            one.judged(judge(one), bool(chapters) and one.chapter not in chapters)
            for one in evidence.settings
        ]
        # runs that no threshold affects are in LeNet's settings twice: judged once
        unlike = {
            (p.chapter, p.verdict.n or p.subject, *map(str, p.verdict)): p
            for p in found
        }
        return list(unlike.values())

    return parts


def printed(*statements):
    """A judge on what live chapters print; statements: (chapter, line, ...) each."""

    def parts(evidence):
        return [part for one in statements for part in evidence.said(*one)]

    return parts


def incremental(setting):
    return claims.ranks_fall_step_by_step(setting.runs)


def as_good(setting):
    return outcomes.smaller_and_as_good(setting.runs, setting.paper, setting.measure)


def counted(setting):
    return claims.cheaper_counted(setting.runs, setting.paper)


def nested(setting):
    return claims.nested_ranks(setting.runs)


def no_loss(setting):
    return claims.no_loss_at_zero(setting.runs, setting.paper, setting.measure)


def shrinks(setting):
    return outcomes.smaller_with_lambda(setting.runs)


def table(*chapters):
    """A judge on a table of the paper: its sizes and its accuracies or perplexities."""

    def parts(evidence):
        some = [one for one in evidence.of(*chapters) if one.scale == "paper"]
        return [
            one.judged(verdict)
            for one in some
            for verdict in (
                claims.footprints(one.runs, _sizes(one.paper)),
                outcomes.accuracies(one.runs, one.paper, one.measure),
            )
        ]

    return parts


def timed(evidence):
    """Training costs less, by the clock."""
    return [
        Part(CHAPTERS[name], NETWORKS[name], claims.cheaper_timed(evidence.bench, name))
        for name in TIMED
    ]


def remembered(evidence):
    """Training takes less memory; the compact network is not the paper's."""
    return [
        Part(COSTS, NETWORKS[name], claims.lighter(evidence.bench, name), aside)
        for names, aside in ((TIMED, False), (("compact",), True))
        for name in names
    ]


def better_text(evidence):
    """Transformer: smaller and of lower perplexity than the dense network."""
    return [
        one.judged(claims.smaller_and_better(one.runs, one.paper))
        for one in evidence.of(TRANSFORMER)
    ]


def beside(methods, *names, claim=AT_LEAST_AS_GOOD):
    """A judge on Maestro beside other systems on the networks ``names``.

    The paper compares with those of Table 16, on its networks; the others are aside.

    claim: AT_LEAST_AS_GOOD, with the measure's margin, or BETTER, without.
    """
    margin = 0.0 if claim == BETTER else None

    def parts(evidence):
        found = []
        for name in names:
            setting = evidence.frontiers[name]
            theirs = methods & _of_table_16(name)
            for some, aside in ((theirs, False), (methods - theirs, True)):
                verdicts = systems.against(
                    setting.runs, some, claim, margin=margin, by_seed=name == "compact"
                )
                verdicts = verdicts or [Verdict(f"{claim} other systems")]
                if some:
                    found += [setting.judged(verdict, aside) for verdict in verdicts]
        return found

    return parts


def _of_table_16(name):
    """The methods that Table 16 has for a network of `Evidence.frontiers`."""
    table = paper_table(16)
    return set(table[table.model + ", paper" == name].variant)


def pufferfish_text(evidence):
    """The Transformer beside Pufferfish, at the paper's scale."""
    [setting] = [one for one in evidence.of(TRANSFORMER) if one.scale == "paper"]
    runs = setting.runs | evidence.find(baselines.pufferfish("transformer", "paper"))
    return _beside_factors(setting, runs, LOWER_BY_6, PERPLEXITY, log(LOWER))


def table_4(evidence):
    """ResNet-50 beside Pufferfish and Cuttlefish, at the paper's scale."""
    return [
        part
        for one in evidence.of(RESNET50)
        if one.scale == "paper"
        for others in [baselines.table_4("paper", "last" in one.subject)]
        for part in _beside_factors(
            one, one.runs | evidence.find(others), AT_LEAST_AS_GOOD
        )
    ]


def _beside_factors(setting, runs, claim, measure=ACCURACY, margin=None):
    """Parts on Maestro beside the other low-rank systems of a table, one for each."""
    verdicts = systems.against(runs, LOW_RANK, claim, measure, margin)
    return [setting.judged(one) for one in verdicts or [Verdict(f"{claim} Pufferfish")]]


def without_parts(evidence):
    """Table 5: what the lasso, shrinking and a full pass do."""
    wanted = [
        ("LeNet", "paper", baselines.ablation("lenet", "paper")),
        ("ResNet-18", "laptop", baselines.ablation("resnet18", "laptop", (0,))),
        ("ResNet-18", "paper", baselines.ablation("resnet18", "paper")),
    ]
    return [
        Setting("22_ablation", subject, scale, runs, None, ACCURACY).judged(verdict)
        for subject, scale, configs in wanted
        for runs in [evidence.find(configs)]
        for verdict in ablation.verdicts(runs)
    ]


def sampled(evidence):
    """Sampling does no harm: λ = 0 beside dense, and beside the same factors whole."""
    parts = of_every(no_loss, LENET, RESNET18, VGG19)(evidence)
    for epochs, configs in (
        (2, experiments.sampling_cifar10()),
        (5, experiments.sampling_finalists()),
    ):
        for verdict in sampling.sampling_verdicts(evidence.find(configs)):
            subject = f"compact network at half the width, {verdict.claim}"
            parts.append(part("17_sampling", subject, f"{epochs} epochs", verdict))
    return parts


def cut_to_a_third(evidence):
    """LeNet cut by three, with the ranks of other runs and by every search.

    Columns in data-aware order are an addition of this book, so they stand aside.
    """
    grid, chapter = evidence.lenet.get(CODE, {}), CUTS
    rows = sizes.frame(evidence.find(experiments.cut_afterwards()))
    own, by_data, *_ = sizes.without_loss(rows)
    judged = (claims.cut_without_loss(grid, 3), False), (own, False), (by_data, True)
    return [
        Part(chapter, "LeNet", one._replace(scale="paper"), aside)
        for one, aside in judged
    ]


def ranks_reused(evidence):
    """Fig. 13: each network at λ = 0 cut to the ranks of its other runs."""
    wanted = {LENET: 3, RESNET18: 1.7, VGG19: 10}
    return [
        one.judged(claims.cut_without_loss(one.runs, wanted[one.chapter]))
        for one in evidence.of(LENET, RESNET18)
        if one.scale == "paper"
    ]


def vgg_cut_by_ten(evidence):
    """Sec. 5.5: VGG-19 with a tenth of the parameters at 87.7 %."""
    return [
        one.judged(outcomes.cut_reaches(one.runs, 10, 87.7))
        for one in evidence.of(VGG19)
        if one.scale == "paper"
    ]


def learned_against_svd(evidence):
    """The columns of LoD beside an SVD of the dense network, by greedy search."""
    parts = []
    for name in experiments.CUT_SEEDS:
        configs = experiments.cut_afterwards(name)
        rows = sizes.frame(evidence.find(configs))
        by_size = (1 / 2, 1 / 3, 1 / 4, 0.12), "params", "loss per parameter"
        by_cost = (1 / 2,), "macs", "loss per mac"
        shares, unit, search = by_size if name == "lenet" else by_cost
        for share in shares:
            subject = f"{NETWORKS[name]} at {share:.2g}× the {sizes.UNITS[unit]}"
            verdict = sizes.learned_beats_svd(rows, share, unit, search)
            parts.append(part(CUTS, subject, configs[0].scale, verdict))
    return parts


def algorithm_2(evidence):
    """What a search for λ costs."""
    chapter = "19_finding_lambda"
    defaults = parameters.defaults(chapter)
    seeds, sizes_ = defaults["seeds"], defaults["sizes"]
    courses = finding.courses(evidence.find(experiments.lenet_mnist()), seeds)
    wanted = [(a, size) for a in defaults["accuracies"] for size in sizes_]
    asked = finding.searches(courses, wanted, largest=256e-5, smallest=7e-5)
    verdict = claims.cost_of_a_search(finding.costs(asked))
    return [Part(chapter, "LeNet", verdict._replace(scale="paper"))]


def counts_of_table_2(evidence):
    """The sizes of the paper's networks, counted on shapes alone."""
    return [
        Part(CHAPTERS[model], NETWORKS[model], verdict)
        for model, verdict in counts.table_2().items()
    ]


def architectures(evidence):
    """Tables 6 and 7, as printed."""
    return [
        Part(LENET, "LeNet", counts.table_6()),
        Part(RESNET50, "ResNet-50", counts.table_7()),
    ]


def stored_dense(evidence):
    """App. D.4: no trained network is stored larger than the dense one."""
    ours = {
        key: record
        for key, record in evidence.records.items()
        if record["config"]["method"] in systems.OURS
    }
    verdict = outcomes.stored_no_larger(ours)
    return [Part(LENET, "every trained network", verdict._replace(scale="every"))]


def _sizes(paper):
    """{lambda_gl: parameters} of a table."""
    return dict(zip(paper.lambda_gl, paper.params, strict=True))
