"""Figures of runs show what they are given, however many lines, or say "not run"."""

import numpy as np
import pandas as pd
import pytest

from maestro import figures


def texts(fig):
    return [
        text.get_text() for text in fig.findobj(match=lambda x: hasattr(x, "get_text"))
    ]


@pytest.mark.parametrize("count", [2, 6, 7, 11])
def test_convergence_names_each_line(count):
    series = [(f"line {i}", [[3.0, 2.0 - i / 20], [3.1, 2.1]]) for i in range(count)]
    fig = figures.convergence(series)
    assert {label for label, _ in series} <= set(texts(fig))
    assert len(fig.axes[0].lines) >= count


def test_error_is_a_hundred_per_cent_less_accuracy():
    fig = figures.error_against([("a", [10, 20], [90.0, 95.0], [0, 0])], "size")
    [line] = [
        x
        for x in fig.axes[0].lines
        if len(x.get_ydata()) == 2 and x.get_marker() == "o"
    ]
    assert list(line.get_ydata()) == [10.0, 5.0]


def test_a_trade_off_is_drawn_as_it_is():
    fig = figures.trade_off([("a", [20, 10], [7.0, 9.0], [0, 0])], "size", "perplexity")
    ax = fig.axes[0]
    assert ax.get_ylabel() == "perplexity"
    assert list(ax.lines[0].get_xdata()) == [10.0, 20.0]
    assert list(ax.lines[0].get_ydata()) == [9.0, 7.0]


@pytest.mark.parametrize("full", [5, 120, 512])
def test_the_axis_of_ranks_ends_where_the_ranks_do(full):
    fig = figures.layer_ranks([("λ = 1", {"a": 2.5, "b": 1})], {"a": full, "b": 4})
    ticks = fig.axes[0].get_yticks()
    assert ticks[0] == 0 and full / 2.5 <= ticks[-1] <= full


@pytest.mark.parametrize(
    "fig",
    [
        figures.trade_off([("a", [], [], [])], "x", "y"),
        figures.error_against([("a", [], [], [])], "x"),
        figures.convergence([]),
        figures.layer_ranks([], {}),
        figures.rank_progression({}),
    ],
)
def test_without_runs_a_figure_says_so(fig):
    assert "not run yet" in texts(fig)


def test_time_is_drawn_against_macs():
    series = [("LoD", [1.0, 0.5], [1.1, 0.7]), ("narrow", [1.0, 0.5], [1.0, 0.6])]
    fig = figures.time_against_macs({"a": series, "b": series})
    assert {"LoD", "narrow", "a", "b"} <= set(texts(fig))
    drawn = fig.axes[1].lines[1]
    assert list(drawn.get_xdata()) == [1.0, 0.5]
    assert list(drawn.get_ydata()) == [1.1, 0.7]


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
