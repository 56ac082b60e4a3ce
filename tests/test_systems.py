"""The accounts of the systems: one way of counting for all."""

import pytest

from maestro.campaign import baselines
from maestro.config import Recipe, RunConfig, variant
from maestro.methods import METHODS, resolve
from maestro.results import records
from maestro.results.systems import (
    NAMES,
    accounting_table,
    accounts,
    against,
    differences_table,
    duels,
    frontier,
    label,
    missing_systems,
    printed_frontier,
    rates_table,
)


def record(method, accuracy, params, seed=0, macs=500, binary=0, bits=None, **options):
    """A record of two epochs' recipe, with what the accounts read."""
    epochs, rate = options.pop("epochs", 2), options.pop("lr", 0.1)
    train = epochs * [1000]
    size, recipe = options.pop("size", {}), Recipe(epochs, 1, rate)
    config = resolve(RunConfig("t", "m", method, recipe, options, seed, "s", size))
    return config.id, {
        "config": config.to_dict(),
        "dense": {"params": 1000 if not size else 100, "macs": 1000},
        "history": {"train_macs": train, "train_params": [900, 950, 800][: len(train)]},
        "final": {
            "test_accuracy": accuracy,
            "params": params,
            "macs": macs,
            "bits": bits or 32 * params,
            "binary_macs": binary,
        },
        "best": {"test_accuracy": accuracy},
        "status": "finished",
        "ran_on": {"precision": "float32"},
    }


def some_records():
    rows = [
        record("dense", 90.0, 1000, macs=1000),
        record("dense", 91.0, 1000, seed=1, macs=1000),
        record("dense", 80.0, 100, size={"width": 8}),
        record("maestro", 89.0, 400, lambda_gl=1e-3),
        record("maestro", 91.0, 400, seed=1, lambda_gl=1e-3),
        record("maestro", 85.0, 200, lambda_gl=1e-2),
        record("maestro", 90.0, 1200, lambda_gl=0.0),
        record("xnor", 70.0, 1000, macs=1000, binary=900, bits=3200),
        record("svd", 60.0, 500, rank_ratio=0.5),
        record("svd", 88.0, 500, rank_ratio=0.5, tune=3),
        record("imp", 90.5, 450, bits=32 * 450 + 1000),
    ]
    return dict(rows)


def test_labels_name_the_system_and_what_sets_its_size():
    rows = {
        label(c)
        for c in baselines.systems("compact", "compact, 5 epochs", (0,))
        + baselines.ablation("lenet", "paper", (0,))
    }
    assert {
        "Pufferfish, ρ = 0.45",
        "SVD, tuned, ρ = 0.2",
        "spectral init., FD, 50% wanted",
        "Cuttlefish",
        "IMP, 6 rounds",
        "RareGems, density 0.25",
        "DepGraph, 25% wanted",
        "DLRT, θ = 0.15",
        "spectral decay, c = 0.03",
        "XNOR-Net",
        "Maestro, λ = 32e-5",
        "without shrinking, λ = 32e-5",
        "with a full pass, distilled, λ = 32e-5",
    } <= rows


def test_rates_stand_side_by_side():
    rows = [record("xnor", 50.0, 10, lr=0.5), record("xnor", 60.0, 10, lr=0.1)]
    rows += [record("svd", 70.0, 10, lr=0.5, rank_ratio=0.5)]
    table = rates_table(dict(rows))
    assert list(table.columns) == ["learning rate 0.5", "learning rate 0.1"]
    assert table.loc["XNOR-Net"].tolist() == ["50.00", "60.00"]
    assert table.loc["SVD, ρ = 0.5"].tolist() == ["70.00", "not run yet"]
    assert rates_table({}).empty


def test_the_rate_of_all_seeds_is_the_best_of_the_tries():
    """At the larger size; a try of Cuttlefish that stayed dense does not count."""
    tries = {}
    for found in records.find(baselines.rate_tries()).values():
        config, final = records.config_of(found), found["final"]
        size = config.options.get("rank_ratio", config.options.get("params_share", 1))
        stayed = config.method == "cuttlefish" and final["params"] >= 146_744
        if size in (0.45, 0.5, 1) and not stayed:
            rate = final["test_accuracy"], 1.5 / config.recipe.lr
            tries.setdefault(config.method, []).append(rate)
    best = {method: round(max(some)[1]) for method, some in tries.items()}
    assert best == baselines.SLOWER


def test_every_method_has_a_name():
    assert NAMES.keys() == METHODS.keys()


def test_accounts_are_means_over_seeds_of_all_phases():
    table = accounts(some_records()).set_index("label")
    dense = table.loc["dense"]
    assert (dense.accuracy, dense.n, dense.held) == (90.5, 2, 950)
    assert dense.accuracy_std == pytest.approx(0.5**0.5)
    assert dense.training == 1.0 and table.loc["XNOR-Net"].binary_macs == 900
    assert table.dense_params.tolist() == [1000] * len(table)  # of the widest
    names = ["dense", "dense, width 8", "Maestro, λ = 0", "Maestro, λ = 1e-3"]
    assert list(table.index[:4]) == names
    assert accounts({}).empty
    [alone] = accounts(
        dict([record("dense", 80.0, 100, size={"width": 8})])
    ).itertuples()
    assert (alone.label, alone.dense_params) == ("dense", 100)


def test_all_phases_and_rounds_count():
    key, long = record("imp", 90.0, 500)
    long["history"] = {"train_macs": [1000] * 6, "train_params": [1000] * 6}
    [row] = accounts({key: long}).itertuples()
    assert (row.epochs, row.training) == (6, 3.0)


def test_dense_networks_that_train_longer_are_a_system_of_their_own():
    twice = {"epochs": 4}
    longer = [
        record("dense", 95.0, 1000, macs=1000, **twice),
        record("dense", 85.0, 100, size={"width": 8}, **twice),
    ]
    plain, every = accounts(some_records()), accounts(some_records() | dict(longer))
    rows = every[every.system == "dense, trained longer"]
    assert list(rows.label) == ["dense, 4 epochs", "dense, 4 epochs, width 8"]
    assert list(rows.epochs) == [4, 4] and list(rows.training) == [2, 2]
    rest = every[every.system != "dense, trained longer"]
    assert rest.reset_index(drop=True).equals(plain)
    points = frontier(some_records() | dict(longer)).set_index("system")
    assert points.error.dense.max() == 1  # still the network that errors are divided by
    assert points.error["dense, trained longer"].min() == pytest.approx(5 / 10)


def test_the_compact_network_is_trained_longer_at_three_widths():
    configs = baselines.systems("compact", "compact, half as wide, 5 epochs", (0, 1))
    longer = [config for config in configs if config.method == "dense"]
    widths = [(config.seed, config.size["width"]) for config in longer]
    assert widths == [(seed, width) for seed in (0, 1) for width in (32, 24, 16)]
    assert {config.recipe.epochs for config in longer} == {10}
    assert not [c for c in baselines.lenet_baselines() if c.method == "dense"]
    [wide] = [
        config
        for config in baselines.systems("resnet18", "laptop", (0,))
        if config.method == "dense"
    ]
    assert (wide.recipe.epochs, wide.recipe.milestones) == (16, (8, 14))


def test_a_diverged_run_has_no_part_in_the_means():
    key, run = record("dense", 10.0, 1000, seed=2, macs=1000)
    _, alone = record("imp", 10.0, 450, seed=1, rounds=2)
    runs = some_records() | {key: run | {"status": "diverged"}}
    runs |= {"alone": alone | {"status": "diverged"}}
    table = accounts(runs).set_index("label")
    assert (table.accuracy["dense"], table.n["dense"]) == (90.5, 2)
    text = accounting_table(runs)
    assert text.runs["dense"] == "2, 1 diverged"
    assert text.runs["IMP, 2 rounds"] == "1 diverged"
    assert text["accuracy (%)"]["IMP, 2 rounds"] == "–"
    assert "IMP, 2 rounds" not in duels(runs).index
    assert len(frontier(runs)) == len(frontier(some_records()))


def test_the_table_has_both_conventions():
    table = accounting_table(some_records())
    xnor, imp = table.loc["XNOR-Net"], table.loc["IMP, 5 rounds"]
    assert xnor["numbers to deploy"] == "1,000"
    assert xnor["bits to deploy / 32"] == "100" and xnor["of them binary"] == "900"
    assert xnor["as printed elsewhere"] == "31"
    assert imp["numbers to deploy"] == imp["as printed elsewhere"] == "450"
    assert imp["bits to deploy / 32"] == "481"  # with the map


def test_variants_of_one_label_show_what_differs():
    rows = [
        record("maestro", 89.0, 400, lambda_gl=1e-3, eps_ps=eps) for eps in (1e-7, 1e-5)
    ]
    labels = accounts(dict(rows)).label.tolist()
    assert sorted(labels) == [f"Maestro, λ = 1e-3, eps_ps {e}" for e in (1e-05, 1e-07)]


def test_the_frontier_is_relative_to_the_dense_network():
    table = frontier(some_records())
    imp = table[table.system == "IMP"].iloc[0]
    assert imp.numbers == pytest.approx(0.48125) and imp.macs == 0.5
    assert imp.error == pytest.approx(9.5 / 10)  # of the dense network's seed
    whole = table[table.system == "dense"].iloc[0]
    assert (whole.error, whole.error_std) == (1, 0)
    maestro = table[(table.system == "Maestro") & (table.n == 2)].iloc[0]
    assert maestro.error == pytest.approx((11 / 10 + 9 / 9) / 2)
    assert frontier({}).empty
    dense = printed_frontier("resnet18").set_index("system").loc["dense"]
    assert (dense.numbers, dense.macs, dense.error) == (1, 1, 1)
    xnor = printed_frontier("vgg19").set_index("system").loc["XNOR-Net"]
    assert xnor.error == pytest.approx((100 - 88.94) / (100 - 92.94))


def test_a_duel_is_with_the_largest_maestro_that_is_no_larger():
    table = duels(some_records())
    assert set(table.index) == {
        "dense, width 8",
        "XNOR-Net",
        "SVD, ρ = 0.5",
        "SVD, tuned, ρ = 0.5",
        "IMP, 5 rounds",
    }
    svd = table.loc["SVD, ρ = 0.5"]
    assert svd["Maestro"] == "Maestro, λ = 1e-3"
    # of the seed that both have; one run has no bounds
    assert svd["points for Maestro"] == "+29.00" and svd["seeds"] == 1
    assert svd["ahead"] == "cannot be decided"
    assert table.loc["XNOR-Net", "Maestro"] == "none as small"


def test_a_duel_takes_the_seeds_that_both_have():
    ours = [record("maestro", 90.0 + s, 400, seed=s, lambda_gl=1e-3) for s in range(4)]
    theirs = [record("imp", 89.0 + s, 450, seed=s) for s in range(1, 4)]
    runs = dict([record("dense", 90.0, 1000), *ours, *theirs])
    apart = duels(runs).loc["IMP, 5 rounds"]
    assert apart["seeds"] == 3 and apart["points for Maestro"].startswith("+1.00 (")
    assert apart["ahead"] == "cannot be decided"
    assert duels(runs, by_seed=True).loc["IMP, 5 rounds", "ahead"] == "holds"
    other = dict([record("dense", 90.0, 1000), ours[0], theirs[0]])
    none = duels(other).loc["IMP, 5 rounds"]
    assert (none["seeds"], none["ahead"]) == (0, "not run yet")
    assert against(other, {"imp"}, "as good as") == []


def test_differences_are_taken_seed_by_seed():
    ours = [record("maestro", 90.0 + s, 400, seed=s, lambda_gl=1e-3) for s in range(3)]
    theirs = [record("imp", 89.0 + s, 450, seed=s) for s in range(1, 3)]
    runs = dict([record("dense", 90.0, 1000), *ours, *theirs])
    names = "Maestro, λ = 1e-3", "IMP, 5 rounds", "dense"
    table = differences_table(runs, [names[:2], names[1:], ("dense", "SVD, ρ = 0.5")])
    assert list(table.seeds) == [2, 0, 0]
    assert table.points.iloc[0] == "+1.00 (95 % bounds +1.00 and +1.00)"
    assert list(table.points.iloc[1:]) == ["not run yet", "not run yet"]


def test_better_has_no_margin_and_as_good_has_one():
    ours = [record("maestro", 90.0 + s, 400, seed=s, lambda_gl=1e-3) for s in range(3)]
    theirs = [record("imp", 90.2 + s, 450, seed=s) for s in range(3)]
    runs = dict([record("dense", 90.0, 1000), *ours, *theirs])
    [close] = against(runs, {"imp"}, "as good as", by_seed=True)
    [better] = against(runs, {"imp"}, "more accurate than", margin=0.0, by_seed=True)
    assert (close.word, close.margin, close.n) == ("holds", 0.5, 3)
    assert (better.word, better.margin) == ("does not hold", 0)
    assert better.claim == "more accurate than IMP"


def test_the_champion_of_a_duel_may_have_a_wanted_size():
    options = {"sampler": "upper", "warm_up": 1, "damping": 0.01}
    rows = some_records() | dict(
        record("tangent_cut", 90.0, params, target=share, **options)
        for share, params in ((0.5, 500), (0.25, 250))
    )
    table = duels(rows, champion="cut once, upper")
    assert "Maestro, λ = 1e-3" in table.index
    ours = table["cut once, upper"]
    assert ours["SVD, ρ = 0.5"] == "cut once, upper, 50% wanted"
    assert ours["IMP, 5 rounds"] == "cut once, upper, 25% wanted"


def test_what_has_not_run_is_named():
    configs = baselines.systems("resnet18", "laptop", (0,))
    done = {c.id: None for c in configs if c.method not in ("dlrt", "xnor")}
    assert missing_systems(configs, done) == "DLRT, XNOR-Net"
    variants = {variant(c) for c in configs}
    assert len(variants) == len(configs)
