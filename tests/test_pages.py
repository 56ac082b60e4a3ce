"""The hand-written pages: nothing lost in rendering, and what they say is so."""

import itertools
import json
import re

import pytest

import maestro
from maestro import MODES
from maestro.campaign import baselines
from maestro.campaign.experiments import (
    compact_cifar10,
    cut_afterwards,
    lenet_mnist,
    lenet_mnist_budgeted,
    resnet18_cifar10,
    sampling_cifar10,
    sampling_finalists,
)
from maestro.campaign.scales import COMPACT
from maestro.datasets.originals import CIFAR10_COPY
from maestro.paths import ROOT
from maestro.publish import autodoc
from maestro.results import (
    ablation,
    claims,
    compact,
    records,
    sampling,
    sizes,
    speed,
    systems,
    times,
    variants,
)
from maestro.results.confidence import FAILS, HOLDS, UNDECIDED, gap
from maestro.results.published import paper_table
from maestro.results.verdicts import POINTS, RISE, SIZE

PAGES = sorted((ROOT / "book").glob("*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def texts(path):
    """The MyST of a page, or of each Markdown cell of a notebook."""
    if path.suffix == ".md":
        return [path.read_text("utf-8")]
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]


def comments(text):
    """Lines that MyST drops as comments: those that start with % outside code."""
    found, fence = [], None
    for line in text.splitlines():
        opened = re.match(r"\s*(`{3,}|~{3,})(.*)", line)
        if fence and line.strip() == fence:
            fence = None
        elif not fence and opened and not opened[2].startswith("{"):
            fence = opened[1]
        elif not fence and line.lstrip().startswith("%"):
            found.append(line)
    return found


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: path.stem)
def test_no_line_is_lost_as_a_comment(path):
    assert not [line for text in texts(path) for line in comments(text)]


def test_a_lost_line_is_seen():
    text = "20\n%, which is\n\n```bash\n% in code\n```\n\n```{note}\n % here\n```\n"
    assert comments(text) == ["%, which is", " % here"]


def page(name):
    return " ".join((ROOT / "book" / f"{name}.md").read_text("utf-8").split())


def test_the_margins_are_those_of_the_verdicts():
    text = page("claims")
    assert f"{POINTS:g} points of accuracy" in text
    assert f"{100 * RISE:g} % of perplexity" in text
    assert f"{100 * SIZE:g} % of parameters" in text


def test_what_the_method_says_of_samplers_is_so():
    words = " ".join(page("method").split())
    assert (
        f"The sampler has {('six', 'seven', 'eight')[len(MODES) - 6]} modes." in words
    )
    assert all(f"`{mode}`" in words for mode in MODES)
    assert (
        "compares the modes. Every other recorded run in this book uses `pair`, except "
        "those with tangent steps in [A network that two cores can train]" in words
    )
    compared = {config.id for n in (2, 5, 11) for config in sampling_cifar10(n)}
    compared |= {config.id for config in sampling_finalists()}
    for scale in COMPACT:
        compared |= {config.id for config in compact_cifar10(scale)}
    good, _ = records.read_all()
    others = [record["config"] for key, record in good.items() if key not in compared]
    assert {c["options"].get("sampler", "pair") for c in others} == {"pair"}


def test_no_page_says_that_lenet_ran_as_in_the_paper():
    for name in ("claims", "limitations"):
        text = page(name)
        assert "LeNet was run as in the paper" not in text
        for difference in ("batch size was fitted", "One of two thresholds matches"):
            assert difference in text
        assert "Columns are removed" in text


def test_the_package_page_has_every_public_name_once():
    text = (ROOT / "book" / "api.md").read_text("utf-8")
    named = re.findall(r"^\.\. auto(?:function|class):: (\w+)$", text, re.MULTILINE)
    assert sorted([*named, "MODES"]) == sorted(maestro.__all__)
    listed = re.findall(r"^   (\w+)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(named)


def test_bars_of_a_docstring_are_no_substitutions():
    lines = ["the norm ||W||^2, in ``a | b``", ":raises DiskError: it is full"]
    autodoc._escape(None, "function", "", None, None, lines)
    assert lines[0] == r"the norm \|\|W\|\|^2, in ``a | b``"
    assert lines[1] == ":raises ~maestro.system.DiskError: it is full"


def test_what_is_said_of_an_svd_is_so():
    assert "by three of eight searches" in page("questions")
    rows = sizes.frame(records.find(cut_afterwards()))
    best = "loss per parameter", "loss alone", "plan", "share of energy"

    def words(share, searches):
        return [
            sizes.learned_beats_svd(rows, share, search=name).word for name in searches
        ]

    assert set(words(1 / 2, ("loss", *best))) == {FAILS}
    assert set(words(1 / 4, ("loss", *best))) == {UNDECIDED}
    assert words(0.12, best) == [UNDECIDED, HOLDS, HOLDS, HOLDS]
    assert words(1 / 3, best[:1]) == [FAILS]
    learned = [sizes.learned_beats_svd(rows, 0.12, search=s).ours for s in best[1:]]
    assert 9.5 < min(learned) and max(learned) < 26.5  # "by 10 to 26 points"
    half = [sizes.learned_beats_svd(rows, 0.5, search=s).ours for s in ("loss", *best)]
    assert -0.5 < min(half)  # "a few tenths of a point"
    at = rows[(rows.unit == "params") & rows.source.isin(["LoD", "SVD"])]
    least = at[at.share == 0.12].groupby(["source", "search"]).test_accuracy.mean()
    assert 80 < least.max() < 83  # "almost a fifth"
    half = at[(at.share == 0.5) & (at.search == "thresholds")]
    assert half.test_accuracy.max() < 22  # chance has ten


def test_what_to_take_away_from_the_other_systems_is_so():
    found = records.find(baselines.beside_maestro("lenet"))
    table, judged = systems.accounts(found).set_index("label"), systems.duels(found)
    words = {
        word: set(judged.index[judged.ahead == word]) for word in set(judged.ahead)
    }
    assert words[HOLDS] == {"SVD, ρ = 0.33", "SVD, ρ = 0.16"}
    assert {name.split(",")[0] for name in words[FAILS]} == {
        "Pufferfish",
        "Cuttlefish",
        "spectral init.",
        "DLRT",
        "IMP",
        "RareGems",
        "DepGraph",
    }
    said = f"Of {len(judged)} comparisons with other systems on LeNet"
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    ahead = f"ahead in {len(words[HOLDS])} and behind in {len(words[FAILS])}"
    assert said in readme and ahead in readme
    maestro_32 = table.loc["Maestro, λ = 32e-5"]
    for name, share in (("Pufferfish, ρ = 0.16", 0.5), ("DepGraph, 25% wanted", 0.25)):
        other = table.loc[name]
        assert other.accuracy > maestro_32.accuracy
        assert other.macs / maestro_32.macs == pytest.approx(share, abs=0.03)
    assert table.training[table.system.isin(["IMP", "RareGems"])].between(2, 7).all()
    about_one = ["Pufferfish", "DLRT", "augmented DLRT"]
    assert table.training[table.system.isin(about_one)].max() < 1
    with_lasso = table.index.str.startswith("Maestro, λ = ") & (table.macs < 281_640)
    assert table.training[with_lasso].max() < 1.1
    dlrt = table[table.system == "DLRT"]
    for system in ("Maestro", "Cuttlefish", "spectral decay"):
        for row in table[table.system == system].itertuples():
            smaller = dlrt[dlrt.params <= row.params]
            assert smaller.empty or smaller.accuracy.max() > row.accuracy
    for theta in ("θ = 0.1", "θ = 0.2"):
        lower, higher = f"augmented DLRT, {theta}", f"DLRT, {theta}"
        assert table.accuracy[lower] < table.accuracy[higher]
        assert judged.ahead[lower] == UNDECIDED


def test_where_the_paper_breaks_its_own_rule_is_so():
    """Table 16 beside Table 12: who is compared with which network of Maestro."""
    text = "".join(texts(ROOT / "notebooks" / "16_baselines.ipynb"))
    printed = paper_table(16)
    on = printed[printed.model == "resnet18"].set_index("variant").params
    ours = set(paper_table(12).params)
    for name, beside in {"pufferfish": 4.08, "xnor": 0.37, "imp": 0.79}.items():
        assert beside > on[name] and beside in ours
        assert f"{on[name]:g}" in text and f"{beside:g}" in text
    assert min(ours) > max(on["imp"], on["raregems"])
    vgg = printed[printed.model == "vgg19"].set_index("variant").params
    rivals = vgg.drop(["dense", "maestro"])
    assert all((vgg["maestro"] < size).any() for size in rivals)


def test_what_is_said_of_a_wanted_size_and_of_a_full_pass_is_so():
    grid = variants.by_threshold(records.find(lenet_mnist()))
    ours = variants.summary(grid[1e-5]).query("method == 'maestro'")
    asked = sizes.asked_for(records.find(lenet_mnist_budgeted()))
    table = sizes.sizes_table(asked, ours)
    above = table["accuracy (%)"].str.split().str[0].astype(float)
    above -= table["grid of λ (%)"].astype(float)
    shares = above.index.str.rstrip("×").astype(float)
    assert (above[shares < 0.3] > 0).all() and (above[shares > 0.3] < 0).all()
    grid_at = table["grid of λ (%)"].astype(float).set_axis(shares)
    for share, some in asked.groupby("target"):
        difference = gap(some.accuracy - grid_at[share])
        assert (difference.low > 0) == (share in (0.13, 0.25))
        assert difference.high > 0
    rows = ablation.ablation(records.find(baselines.ablation("lenet", "paper")))
    more = rows.params["with a full pass, distilled"] / rows.params["Maestro"]
    assert 1.05 < more < 1.15  # "a tenth more parameters"
    at = [
        r
        for r in grid[1e-7].values()
        if r["config"]["options"].get("lambda_gl") == 64e-5
    ]
    assert len(at) == 3 and max(r["final"]["params"] for r in at) < 10_000


def test_the_readme_says_what_came_out_worst():
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    steps = claims.cheaper_timed(speed.load("cpu"), "lenet").sentence
    ratios = re.findall(r"([0-9.]+)×", steps)
    assert f"takes {min(ratios)} to {max(ratios)} times as long" in readme
    narrow = claims.no_loss_at_zero(records.find(resnet18_cifar10("laptop")))
    assert f"ends {-narrow.ours:.2f} points below the dense network" in readme


def test_what_the_questions_recommend_was_measured():
    said = page("questions")
    dense = [c for c in compact_cifar10() if c.method == "dense"]
    cut = sizes.frame(records.find(dense)).query("unit == 'macs' and share == 0.5")
    cut = cut[cut.search == "share of energy"].set_index("source").test_accuracy
    [whole] = sizes.frame(records.find(dense)).uncut.unique()
    assert f"{cut['SVD']:.2f} % where the whole network has {whole:.2f} %" in said
    assert f"{cut['SVD, data-aware']:.2f} % (1 run)" in said
    lenet = systems.accounts(records.find(baselines.beside_maestro("lenet")))
    lenet = lenet.set_index("label")
    for name in ("SVD, tuned, ρ = 0.33", "dense"):
        row = lenet.loc[name]
        assert f"{row.accuracy:.2f} ± {row.accuracy_std:.2f} %" in said
    asked = sizes.asked_for(records.find(lenet_mnist_budgeted())).query("target==0.25")
    assert f"{asked.accuracy.mean():.2f} ± {asked.accuracy.std():.2f} %" in said
    half = compact.beside_dense(records.find(compact_cifar10())).set_index("label")
    row = half.loc["cut once, upper, 50% wanted"]
    assert f"{-row.above.mean:.2f} points below dense ({row.n} runs;" in said
    rows = speed.rows(speed.load("cpu")).query("model == 'resnet18'")
    rows = rows[rows.macs.round(2) == 0.56].set_index("kind").inference_1
    assert f"{rows['narrow']:.2f} of the dense time; low rank {rows['lod']:.2f}" in said


def test_one_version_everywhere():
    """The package, its metadata, the citation and the footer of every page."""
    said = {
        "pyproject.toml": f'version = "{maestro.__version__}"',
        "CITATION.cff": f"version: {maestro.__version__}",
        "_config.yml": f"<p>Version {maestro.__version__}.",
    }
    for name, line in said.items():
        assert line in (ROOT / name).read_text("utf-8"), name


@pytest.mark.parametrize("network", ["resnet18", "vgg19"])
def test_what_is_said_of_larger_networks_is_so(network):
    """Chapter 18: the own order is poor, what LoD has trained is compressible."""
    rows = sizes.frame(records.find(cut_afterwards(network)))
    rows = rows[rows.unit == "macs"]
    greedy = rows[rows.search == "loss per mac"].set_index(["source", "share"])
    for share in (0.8, 0.6, 0.5, 0.4, 0.3):
        kept = greedy.test_accuracy.xs(share, level="share")
        assert kept["LoD"] < kept["SVD"]
    best = rows.groupby(["source", "share"]).points.max()
    for share in (0.6, 0.5, 0.4, 0.3, 0.2):
        left = best.xs(share, level="share")
        assert left.idxmax() == "LoD, data-aware"


def test_what_is_said_of_small_networks_is_so():
    """Chapter 18: for one image the compact network gains, LeNet stays dense."""
    measured = times.load().query("threads == 1")
    shares = measured[
        (measured.network == "LeNet")
        & (measured.ranks == "as they are")
        & (measured.runtime == "PyTorch")
    ].set_index("batch")
    assert shares.time_share[64].min() > shares.time_share[1].max() > 1
    rows = measured.query("batch == 1").set_index("network")
    small = rows[rows.ranks == "as they are"].time_share
    assert small["compact network"].max() < 1 < small["LeNet"].min()
    chosen = rows[rows.ranks == "by the clock"].macs_share
    assert set(chosen["LeNet"]) == {1.0}
    assert rows.ms["LeNet"].max() < 1


def test_what_is_said_of_the_ablation_is_so():
    """Chapter 22, LeNet: shrinking costs accuracy, the distilled pass brings some."""
    runs = records.find(baselines.ablation("lenet", "paper", (0, 1, 2)))
    table, rows = ablation.ablation(runs), ablation.by_row(runs)
    ours, late = table.loc["Maestro"], table.loc["without shrinking"]
    assert table.n.min() == 3

    def accuracies(row):
        return [run["history"]["test_accuracy"] for run in rows[row].values()]

    final = {row: [course[-1] for course in accuracies(row)] for row in rows}
    for name in ("without shrinking", "with a full pass, distilled"):
        assert gap(final["Maestro"], final[name]).high < 0
    assert abs(late.params / ours.params - 1) < SIZE and late.cost > 1
    assert 2 < table.cost["with a full pass, distilled"] < 2.2
    assert min(c[-1] - c[-2] for c in accuracies("with a full pass")) < -1


def test_what_is_said_of_samplers_is_so():
    """Chapter 17, two epochs: the factors, the samplers, and the order of columns."""
    runs = records.find(sampling_cifar10())
    table = sampling.sampled(runs).set_index(["way", "sampler"])
    assert table.n.min() == 3
    dense, start = table.from_dense, "tangent steps, dense start"
    assert (
        dense["own steps", "none"].high
        < dense["own steps, 0.33 of the rate", "none"].mean
    )
    assert dense["own steps, 0.33 of the rate", "none"].high < 0
    assert dense["tangent steps", "none"].low < 0 < dense["tangent steps", "none"].high
    assert -0.7 < dense[start, "none"].mean < dense[start, "none"].high < 0
    cost = table.from_unsampled
    for way in ("own steps", "own steps, 0.33 of the rate", "tangent steps"):
        assert cost[way, "pair"].mean < -5
    assert -2 < cost[start, "pair"].mean < -1
    assert cost[start, "pair"].above(-POINTS) == UNDECIDED
    assert cost[start, "upper"].above(-POINTS) == HOLDS
    longer = sampling.sampled(records.find(sampling_finalists()))
    longer = longer.set_index(["way", "sampler"]).loc[start]
    level = longer.from_dense["none"]
    assert -POINTS < level.low < 0 < level.high < 1 and longer.n["none"] == 10
    lost = longer.from_unsampled
    assert -13 < lost["pair"].mean < -9 and longer.accuracy_std["pair"] > 3
    assert -1.4 < lost["upper"].mean < -0.8 and longer.n["upper"] == 10
    for sampler in ("pair", "upper"):
        assert lost[sampler].above(-POINTS) == FAILS
        assert lost[sampler].mean < cost[start, sampler].mean
    most = table.loc[start].from_unsampled.drop("none").map(lambda gap: gap.mean)
    assert set(most.nsmallest(2).index) == {"independent", "fraction"}
    found = sampling.order_verdicts(runs)
    orders = {v.claim.split("(")[1][:-1]: v for v in found}
    assert HOLDS not in {v.word for v in found}
    for sampler, word in {"pair": FAILS, "upper": FAILS}.items():
        assert orders[f"{start}, {sampler}"].word == word
    for sampler in ("independent", "fraction"):
        assert abs(orders[f"{start}, {sampler}"].ours) < 1


def test_what_is_said_of_the_compact_network_is_so():
    """Chapter 21: half of the size, the narrow network beside it, the samplers."""
    found = {s: records.find(compact_cifar10(s)) for s in COMPACT}
    half = "cut once, upper, 50% wanted"
    full, small = (
        compact.beside_dense(found[scale]).set_index("label")
        for scale in ("compact, 11 epochs", "compact, half as wide, 5 epochs")
    )
    assert full.n[half] == 4 and -0.75 < full.above[half].mean < -0.65
    assert small.n[half] == 5 and -2.3 < small.above[half].mean < -1.7
    for table, narrow in ((full, "dense, width 48"), (small, "dense, width 24")):
        assert table.params[half] < table.params[narrow]
        assert table.macs[half] < table.macs[narrow]
        assert table.above[half].mean > table.above[narrow].mean
    assert full.n["dense, width 48"] == 1 and small.n["dense, width 24"] == 5
    assert -3.5 < small.above["dense, width 24"].mean < -2.7
    assert -1.2 < small.above["cut once, none, 50% wanted"].mean < -0.8
    assert small.above["cut once, pair, 50% wanted"].mean < -10
    quarter = small.above["cut once, upper, 25% wanted"]
    alike = small.above["dense, width 20"]
    assert abs(quarter.mean - alike.mean) < 1 and quarter.mean < -5
    assert 0.39 < small.params["dense, width 20"] < 0.42
    lasso = "tangent steps, upper, λ = 2e-4"
    assert small.above[lasso].mean < -4 and small.params[lasso] > small.params[half]
    runs = compact.uncut(found["compact, half as wide, 5 epochs"])
    table = sampling.sampled(runs).set_index("sampler")
    assert table.from_dense["none"].low > -POINTS
    for sampler, least, most in (("upper", -1.4, -0.8), ("pair", -13, -9)):
        [verdict] = sampling.sampling_verdicts(runs, sampler)
        assert verdict.word == FAILS and least < verdict.ours < most
    verdicts = sampling.order_verdicts(runs)
    assert len(verdicts) == 3 and {v.word for v in verdicts} == {FAILS}
    points = sampling.cut_points(runs).query("share == 0.5 and way != 'dense'")
    kept = points.groupby(["sampler", "order"]).accuracy.mean().unstack()
    once = small.above["cut once, none, 50% wanted"].mean - small.above[half].mean
    assert 0.8 < once < 1.4
    ends = sampling.cut_points(runs).query("share == 0.25 and order == 'SVD'")
    ends = ends.groupby("sampler").accuracy.agg(["mean", "size"])
    assert -1.4 < ends["mean"]["none"] - ends["mean"]["upper"] < -0.8
    assert ends["size"]["none"] == ends["size"]["upper"] == 3
    dense = sampling.cut_points(runs).query("share == 0.5 and way == 'dense'")
    assert abs(dense.points.mean() + 14.2) < 0.5
    left = points.groupby(["sampler", "order"]).points.mean()
    assert abs(left["none", "SVD"] - dense.points.mean()) < 1
    assert len(kept) and (kept["SVD"] > kept["own order"]).all()


def test_what_the_systems_on_resnet18_say():
    """Chapter 16, in the take-away."""
    found = records.find(baselines.beside_maestro("resnet18"))
    table = systems.accounts(found).set_index("label")
    lasso, whole = table.loc["Maestro, λ = 2e-4"], table.loc["Maestro, λ = 0"]
    shares = table.params / table.params["dense"]
    assert shares["Maestro, λ = 2e-4"] == pytest.approx(0.5, abs=0.01)
    names = (
        "Pufferfish",
        "Cuttlefish",
        "spectral init.",
        "SVD, tuned",
        "DLRT",
        "DepGraph",
    )
    rivals = table[table.system.str.startswith(names) & (shares > 0.4)]
    assert {n for n in names if rivals.system.str.startswith(n).any()} == set(names)
    assert shares[rivals.index].min() == pytest.approx(0.49, abs=0.005)
    assert shares[rivals.index].max() == pytest.approx(0.68, abs=0.005)
    assert (rivals.accuracy > whole.accuracy).all()
    assert (rivals.accuracy - lasso.accuracy).between(3, 7).all()
    assert f"{table.accuracy['dense'] - whole.accuracy:.1f}" == "6.5"
    below = table.accuracy[["SVD, ρ = 0.45", "augmented DLRT, θ = 0.1"]]
    assert below.max() < lasso.accuracy < whole.accuracy
    for name, epochs in (("RareGems, density 0.5", 16), ("IMP, 3 rounds", 29)):
        assert table.epochs[name] == epochs and 0.49 < shares[name] < 0.52
        assert table.accuracy[name] > table.accuracy["dense"]
    assert not table.system.str.startswith("dense, trained longer").any()
    xnor = table.loc["XNOR-Net"]
    assert xnor.accuracy == table.accuracy.min() and table.n.max() == 1
    assert 0.24 < xnor.bits / table.bits["dense"] < 0.26


def test_no_rank_of_dlrt_rose_from_one_epoch_to_the_next():
    """Chapter 16, in its list of the systems."""
    runs = records.read_all()[0].values()
    courses = [
        [ranks for _, ranks in run["ranks"]]
        for run in runs
        if run["config"]["method"] in ("dlrt", "dlrt_augmented")
    ]
    assert len(courses) >= 38
    for course in courses:
        for before, after in itertools.pairwise(course):
            assert all(after[name] <= rank for name, rank in before.items())


def test_what_the_compact_systems_say():
    """Chapter 16, in the take-away."""
    found = records.find(baselines.beside_maestro("compact"))
    table = systems.accounts(found).set_index("label")
    half, quarter = "cut once, upper, 50% wanted", "cut once, upper, 25% wanted"
    wide, narrow = "dense, 10 epochs, width 24", "dense, 10 epochs, width 16"
    pairs = [
        ("SVD, tuned, ρ = 0.45", half),
        ("spectral decay, c = 0.01", half),
        (narrow, "RareGems, density 0.25"),
        (wide, "IMP, 3 rounds"),
        ("DepGraph, 50% wanted", half),
        ("DepGraph, 25% wanted", quarter),
        (wide, "RareGems, density 0.5"),
    ]
    said = systems.differences_table(found, pairs).points
    bounds = [tuple(map(float, re.findall(r"[-+]\d+\.\d+", text)[1:])) for text in said]
    assert all(low < 0 < high for low, high in bounds[:4])
    assert all(low > 0 for low, _ in bounds[4:])
    assert table.epochs["SVD, tuned, ρ = 0.45"] == 6
    assert table.epochs[["DepGraph, 50% wanted", "DepGraph, 25% wanted"]].eq(7).all()
    near = table[table.params.between(0.4 * 146_744, 0.6 * 146_744)].accuracy
    for system in ("Pufferfish", "spectral init.", "DLRT", "augmented DLRT"):
        assert near[near.index.str.startswith(system)].max() < near[half] - 1
    longer = table[table.system.isin(["IMP", "RareGems"])]
    gems, dense = table.loc["RareGems, density 0.5"], table.loc[wide]
    assert longer.epochs.min() == 10 == dense.epochs
    assert list(table.epochs[["IMP, 3 rounds", "IMP, 6 rounds"]]) == [17, 29]
    higher = longer.accuracy.drop("RareGems, density 0.25")
    assert (higher > table.accuracy["dense"]).all() and dense.macs < gems.macs
    assert dense.bits / gems.bits == pytest.approx(1.08, abs=0.005)
    tries = systems.rates_table(records.find(baselines.rate_tries()))
    columns = ["learning rate 0.5", "learning rate 1.5"]
    larger = ["Pufferfish, ρ = 0.45", "spectral init., 50% wanted"]
    tried = tries.loc[[*larger, "spectral init., FD, 50% wanted"], columns]
    slow, fast = (tried[column].astype(float) for column in columns)
    assert (slow - fast).between(13, 23).all()


def test_every_run_on_cifar10_used_the_copy():
    """Chapters 11 and 12, and the limitations."""
    data = [r["data"] for r in records.read_all()[0].values()]
    prints = {one["fingerprint"] for one in data if one["task"].startswith("cifar10")}
    assert prints == {CIFAR10_COPY}


def test_the_compact_network_takes_less_than_an_hour():
    """How to reproduce: 11 epochs on one core."""
    dense = [c for c in compact_cifar10() if c.method == "dense"]
    for record in records.find(dense).values():
        if record["dense"]["params"] > 500_000:
            assert sum(records.epoch_seconds(record["history"])) < 3600
            assert record["final"]["test_accuracy"] > 90
