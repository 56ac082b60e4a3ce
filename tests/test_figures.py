"""Figures of runs show what they are given, however many lines, or say "not run"."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from maestro import figures
from maestro.campaign import catalog
from maestro.figures.style import GRIDS, INK, MARKS, OURS, variant_color
from maestro.results import ablation
from maestro.results.cells import variant_name
from maestro.results.confidence import Gap
from maestro.results.systems import system


def texts(fig):
    return [
        text.get_text() for text in fig.findobj(match=lambda x: hasattr(x, "get_text"))
    ]


def drawn(fig):
    """{label: colour} of the lines that a figure's legend explains."""
    [legend] = fig.legends
    return {
        text.get_text(): to_hex(handle.get_color())
        for text, handle in zip(legend.texts, legend.legend_handles, strict=True)
    }


DENSE = math.nan


@pytest.mark.parametrize("count", [2, 6, 7, 11])
def test_convergence_names_each_line(count):
    lambdas = [DENSE, 0.0, *(1e-6 * 2**k for k in range(count - 2))]
    series = [(x, [[3.0, 2.0 - i / 20], [3.1, 2.1]]) for i, x in enumerate(lambdas)]
    fig = figures.convergence(series)
    assert {variant_name(x) for x in lambdas} <= set(texts(fig))
    assert len(fig.axes[0].lines) >= count


def every_lambda():
    """The lambda_gl of every run of the book, grid by grid."""
    grids = {}
    for config in catalog.every_run():
        if config.options.get("lambda_gl", 0):
            key = config.task, config.scale
            grids.setdefault(key, set()).add(config.options["lambda_gl"])
    return grids


def test_a_lambda_has_one_colour_whatever_stands_beside_it():
    ranks = [9, 5, 4]
    some = [0.0, 8e-5, 16e-5, 64e-5]
    fig = figures.rank_progression(
        {"all": [(x, ranks) for x in some], "last": [(x, ranks) for x in some[2:]]}
    )
    first = drawn(fig)
    assert list(first) == [variant_name(x) for x in some]
    others = [(x, [[2.0, 1.0]]) for x in (0.0, *(8e-5 * 2**k for k in range(6)))]
    assert drawn(figures.convergence(others))["λ = 64e-5"] == first["λ = 64e-5"]
    for ax in fig.axes:
        assert to_hex(ax.lines[-1].get_color()) == first["λ = 64e-5"]


def test_a_legend_names_the_lines_of_all_panels():
    panels = {"a": [(2e-6, [3, 2])], "b": [(2e-6, [3, 1]), (8e-6, [3, 0])]}
    assert list(drawn(figures.rank_progression(panels))) == ["λ = 2e-6", "λ = 8e-6"]


def test_the_lambdas_of_a_grid_and_the_dense_network_can_be_told_apart():
    for lambdas in every_lambda().values():
        colors = {to_hex(variant_color(x)) for x in (DENSE, 0.0, *lambdas)}
        assert len(colors) == len(lambdas) + 2


def test_every_grid_of_the_book_has_its_place_among_the_colours():
    for (task, scale), lambdas in every_lambda().items():
        for value in lambdas - {286.72}:  # a weight beside the mean, in no figure
            steps = [
                math.log2(value / low) for low, high in GRIDS if low <= value <= high
            ]
            on_grid = [x for x in steps if abs(x - round(x)) < 1e-6]
            assert len(on_grid) == 1, (task, scale, value)


def test_error_is_a_hundred_per_cent_less_accuracy():
    lambdas = [8e-5, 16e-5]
    fig = figures.error_against(
        [("a", lambdas, [10, 20], [90.0, 95.0], [0, 0])], "size"
    )
    assert [list(p) for p in fig.axes[0].collections[-1].get_offsets()] == [
        [10, 10],
        [20, 5],
    ]


def test_a_trade_off_is_drawn_as_it_is():
    fig = figures.trade_off(
        [("a", [DENSE, 16e-5, 8e-5], [30, 10, 20], [6.0, 9.0, 7.0], [0, 0, 0])],
        "size",
        "perplexity",
    )
    ax = fig.axes[0]
    assert ax.get_ylabel() == "perplexity"
    line, square = (ax.containers[i].lines[0] for i in (0, 1))
    assert list(line.get_xdata()) == [10.0, 20.0]
    assert list(line.get_ydata()) == [9.0, 7.0]
    assert list(square.get_xdata()) == [30.0] and square.get_marker() == "s"
    assert {"dense", "λ = 8e-5", "λ = 16e-5"} <= set(texts(fig))


def test_the_heat_map_of_ranks_has_a_row_a_layer_and_a_column_a_lambda():
    some = [(0.0, {"b": 4, "a": 5}), (16e-5, {"a": 2, "b": 1})]
    fig = figures.layer_ranks(some, {"a": 5, "b": 4})
    ax = fig.axes[0]
    assert [text.get_text() for text in ax.texts] == ["5", "5", "2", "4", "4", "1"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    columns = [text.get_text() for text in ax.get_xticklabels()]
    assert columns == ["full rank", "λ = 0", "λ = 16e-5"]
    shares = ax.collections[0].get_array().ravel()
    assert list(shares) == [1, 1, 2 / 5, 1, 1, 1 / 4]


def test_what_sampling_costs_has_a_dot_a_seed_and_the_bounds():
    row = {"way": "own steps", "sampler": "pair", "differences": [-3.0, -1.0]}
    row["from_dense"] = Gap(-2.0, -4.0, 0.5)
    none = row | {"sampler": "none", "differences": [], "from_dense": None}
    fig = figures.sampling_costs(pd.DataFrame([row, none]))
    ax = fig.axes[0]
    dots = np.concatenate([c.get_offsets()[:, 0] for c in ax.collections])
    assert sorted(dots) == [-3.0, -1.0]
    bar, mean = ax.lines[:2]
    assert list(bar.get_xdata()) == [-4.0, 0.5] and list(mean.get_xdata()) == [-2.0]
    assert "own steps: pair" in texts(fig) and "own steps: none" not in texts(fig)


def test_masked_and_cut_columns_stand_in_one_panel_for_each_setting():
    panels = {"1e-7": ([[9, 4, 9]], [[9, 4, 4]]), "1e-5": ([[9, 4, 4]], [])}
    fig = figures.mask_and_cut("fc1", panels | {"other": ([], [])})
    first, second, third = fig.axes
    assert [list(line.get_ydata()) for line in first.lines] == [[9, 4, 9], [9, 4, 4]]
    assert len(second.lines) == 1 and not third.lines
    assert list(drawn(fig)) == ["columns masked", "columns cut"]
    assert {"1e-7", "1e-5", "other", "not run yet"} <= set(texts(fig))


@pytest.mark.parametrize(
    "fig",
    [
        figures.trade_off([("a", [], [], [], [])], "x", "y"),
        figures.error_against([("a", [], [], [], [])], "x"),
        figures.convergence([]),
        figures.layer_ranks([], {}),
        figures.rank_progression({}),
        figures.mask_and_cut("fc1", {"1e-7": ([], [])}),
    ],
)
def test_without_runs_a_figure_says_so(fig):
    assert "not run yet" in texts(fig)


def test_time_is_drawn_against_macs():
    series = [("LoD", [1.0, 0.5], [1.1, 0.7])]
    series.append(("dense, narrow", [1.0, 0.5], [1.0, 0.6]))
    fig = figures.time_against_macs({"a": series, "b": series})
    assert {"LoD", "dense, narrow", "a", "b"} <= set(texts(fig))
    line = fig.axes[1].lines[1]
    assert list(line.get_xdata()) == [1.0, 0.5]
    assert list(line.get_ydata()) == [1.1, 0.7]
    assert drawn(fig) == {"LoD": OURS.lower(), "dense, narrow": INK}


def test_a_steps_parts_add_up():
    names = ["linear maps", "normalisation", "rest", "lasso", "optimiser"]
    parts = pd.DataFrame({"dense": [8.0, 1, 1, 0, 2], "LoD": [4.0, 1, 1, 1, 1]}, names)
    fig = figures.step_parts(parts)
    assert {" 12 ms", " 8 ms", "dense", "LoD", *names} <= set(texts(fig))


@pytest.mark.parametrize(
    "fig", [figures.time_against_macs({}), figures.step_parts(None)]
)
def test_without_a_measurement_a_figure_says_so(fig):
    assert "not measured yet" in texts(fig)


def test_a_dead_tail_ends_where_it_is_zero():
    curves = {"one": np.array([1.0, 0.1, 0.0, 0.0]), "other": np.full(4, 0.5)}
    fig = figures.dead_tail(curves, {"a height": 0.3})
    assert {" zero from step 2", "a height", "one", "other"} <= set(texts(fig))
    assert len(fig.axes[0].lines[0].get_ydata()) == 2


def systems_frame(*rows):
    columns = ["system", "numbers", "macs", "error", "error_std"]
    return pd.DataFrame(rows, columns=columns)


def test_the_frontier_joins_a_systems_points_and_leaves_the_papers_hollow():
    ours = systems_frame(
        ("dense", 1, 1, 1, 0.1),
        ("IMP", 0.5, 1, 1.1, 0.1),
        ("IMP", 0.3, 1, 1.4, math.nan),
    )
    theirs = systems_frame(("XNOR-Net", 0.03, math.nan, 1.6, math.nan))
    fig = figures.frontier(ours, theirs)
    left = fig.axes[0]
    imp = left.containers[1].lines[0]
    assert list(imp.get_xdata()) == [0.3, 0.5] and list(imp.get_ydata()) == [1.4, 1.1]
    [hollow] = [x for x in left.lines if x.get_markerfacecolor() == "white"]
    assert list(hollow.get_xdata()) == [0.03]
    assert list(drawn(fig)) == ["dense", "IMP", "XNOR-Net", "hollow: the paper"]
    assert "not run yet" in texts(figures.frontier(systems_frame()))


def test_every_system_has_a_mark_of_its_own():
    marks = list(MARKS.values())
    assert len(set(marks)) == len(marks)
    for name in ("systems, compact", "compact", "sampling, compact"):
        assert {system(c) for c in catalog.chosen(name)} <= MARKS.keys()


def test_the_ablation_is_relative_to_maestro():
    ours = ablation.printed_ablation()
    fig = figures.ablation(ours, ours)
    heights = {line.get_ydata()[0] for line in fig.axes[0].lines}
    assert 0 in heights and min(heights) < -0.1
    assert set(ablation.PRINTED) < set(texts(fig))
    assert "not run yet" in texts(figures.ablation(ours.iloc[1:], ours))
