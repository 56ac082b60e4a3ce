"""Figures of recorded runs: ranks, convergence, trade-offs (Figs. 4, 8-10, 12, 13).

Each function takes lists of (lambda_gl, values) and returns a Figure. The lambda_gl of
the dense network is nan.
"""

from math import isnan

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns

from ..results.cells import NOT_RUN, variant_name
from .style import (
    DASHES,
    INK,
    OURS,
    VARIANT,
    label_ends,
    missing,
    sheet,
    variant_color,
)

# a wide pale line below a thin one, so that equal lines are both visible
WAYS = {
    "columns masked": {"color": VARIANT, "lw": 3.2, "alpha": 0.6},
    "columns cut": {"color": OURS, "lw": 1.1},
}


def rank_progression(panels):
    """The total rank after each epoch, one line for each run (Figs. 4a, 8).

    panels: {title: [(lambda_gl, [total rank at epoch 0, 1, ...])]}.
    """
    with sheet(max(1, len(panels)), 3.4, sharey=True, squeeze=False) as (fig, axes):
        if not panels:
            return missing(fig, axes[0, 0], NOT_RUN)
        for ax, (title, series) in zip(axes[0], panels.items(), strict=True):
            for lambda_gl, total in series:
                line = {"where": "post", "color": variant_color(lambda_gl)}
                ax.step(range(len(total)), total, **line)
            ax.set(xlabel="epoch", ylim=(0, None), title=title)
            ax.set_xlim(0, max(len(total) for _, total in series) - 1)
            room = 3 + 6 // len(panels)  # for labels of ticks
            ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(room, integer=True))
        axes[0, 0].set_ylabel("total rank, all layers")
        shown = {lambda_gl for series in panels.values() for lambda_gl, _ in series}
        fig.legend(handles=_keys(sorted(shown)), loc="outside right center")
    return fig


def layer_ranks(series, max_ranks):
    """A heat map of the rank of each layer after training (Figs. 4b, 9).

    A cell's number is the rank, its colour the share of the full rank.

    Args:
        series: [(lambda_gl, {layer: rank})], a column each.
        max_ranks: {layer: its full rank}, a row each, and the first column.
    """
    with sheet(1, 1 + 0.24 * max(len(max_ranks), 5)) as (fig, ax):
        if not series:
            return missing(fig, ax, NOT_RUN)
        full = pd.Series(max_ranks, name="full rank", dtype=float)
        named = {variant_name(lambda_gl): ranks for lambda_gl, ranks in series}
        ranks = pd.DataFrame({"full rank": full, **named}).loc[list(max_ranks)]
        sns.heatmap(
            ranks.div(full, axis=0),
            annot=ranks,
            fmt=".3g",
            annot_kws={"size": 9},
            vmin=0,
            vmax=1,
            cmap="Blues",
            linewidths=1,
            ax=ax,
            cbar_kws={"label": "rank / full rank", "pad": 0.02},
        )
        ax.tick_params(length=0)
        ax.tick_params(axis="x", rotation=0)
        ax.tick_params(axis="y", rotation=0)
        if len(named) > 6:
            ax.tick_params(axis="x", rotation=30)
    return fig


def convergence(series):
    """The training loss after each epoch (Fig. 10).

    A line is the mean over runs, and its band is their range. The line of the dense
    network is broken.

    series: [(lambda_gl, [losses of one run, ...])].
    """
    with sheet(1, 3.2) as (fig, ax):
        if not series:
            return missing(fig, ax, NOT_RUN)
        for lambda_gl, runs in series:
            table = pd.DataFrame(runs, columns=range(1, len(runs[0]) + 1))
            sns.lineplot(
                table.melt(var_name="epoch", value_name="loss").astype(float),
                x="epoch",
                y="loss",
                errorbar=("pi", 100),
                err_kws={"alpha": 0.15, "lw": 0},
                color=variant_color(lambda_gl),
                ls=DASHES if isnan(lambda_gl) else "-",
                ax=ax,
            )
        ends = [line.get_ydata()[-1] for line in ax.lines]
        ax.set(xlabel="epoch", ylabel="training loss", yscale="log")
        plain_numbers(ax.yaxis)
        ax.set_xlim(1, table.columns[-1])
        ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        variants = [lambda_gl for lambda_gl, _ in series]
        if len(series) > 6:
            fig.legend(handles=_keys(variants), loc="outside right center")
        else:
            labels = [variant_name(value) for value in variants]
            colors = [variant_color(value) for value in variants]
            label_ends(ax, table.columns[-1], ends, labels, colors)
    return fig


def error_against(series, xlabel):
    """The test error, 100 % less the accuracy, against a size (Figs. 12, 13).

    The logarithm of the error separates points whose accuracies lie close together.

    Args:
        series: [(label, lambdas, x, accuracy in %, deviation)].
        xlabel: the label of the size.
    """
    errors = [(*some, 100 - np.asarray(y), std) for *some, y, std in series]
    return trade_off(errors, xlabel, "test error (%)")


def trade_off(series, xlabel, ylabel):
    """A figure that should be low against a size, both on logarithmic axes.

    Each series is a line with error bars and a point for each lambda_gl. The dense
    network is a square beside the line. The points of the first series have names.

    Args:
        series: [(label, lambdas, x, y, deviation)].
        xlabel, ylabel: the labels of the axes.
    """
    with sheet(1, 3.8) as (fig, ax):
        if not any(len(x) for _, _, x, _, _ in series):
            return missing(fig, ax, NOT_RUN)
        for place, (label, *columns) in enumerate(series):
            lambdas, x, y, std = (np.asarray(values, float) for values in columns)
            order = np.argsort(x)
            dense = np.isnan(lambdas[order])
            line, square = order[~dense], order[dense]
            style = {"lw": 1.3, "capsize": 2, "color": OURS, "ms": 0}
            dashes = "-" if place == 0 else DASHES
            ax.errorbar(x[line], y[line], std[line], ls=dashes, label=label, **style)
            style |= {"color": INK, "fmt": "s", "ms": 6, "mfc": "white"}
            ax.errorbar(x[square], y[square], std[square], **style)
            colors = [variant_color(value) for value in lambdas[line]]
            ax.scatter(x[line], y[line], 30, colors, zorder=3)
        ax.set(xlabel=xlabel, ylabel=ylabel, xscale="log", yscale="log")
        for axis in (ax.xaxis, ax.yaxis):
            plain_numbers(axis)
        for lambda_gl, *point in zip(*series[0][1:4], strict=True):
            where = {"textcoords": "offset points", "ha": "right", "va": "top"}
            ax.annotate(variant_name(lambda_gl), point, (-5, -6), **where)
        ax.margins(0.18, 0.12)
        if len(series) > 1:
            fig.legend(loc="outside upper left", ncols=len(series))
    return fig


def mask_and_cut(layer, panels):
    """The rank of one layer by epoch, with columns masked and with columns cut.

    Args:
        layer: the name of the layer.
        panels: {title: (masked, cut)}; both are lists of [rank at epoch 0, 1, ...], one
            for each seed.
    """
    with sheet(len(panels), 3.0, sharey=True, squeeze=False) as (fig, axes):
        for ax, (title, ways) in zip(axes[0], panels.items(), strict=True):
            ax.set_title(title)
            if not any(ways):
                missing(fig, ax, NOT_RUN)
                continue
            for style, runs in zip(WAYS.values(), ways, strict=True):
                for ranks in runs:
                    ax.step(range(len(ranks)), ranks, where="post", **style)
            ax.set(xlabel="epoch", xlim=(0, max(map(len, sum(ways, []))) - 1))
            ax.set_ylim(0, None)
            ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4, integer=True))
        axes[0, 0].set_ylabel(f"rank of {layer}")
        keys = [
            mpl.lines.Line2D([], [], label=name, **style)
            for name, style in WAYS.items()
        ]
        fig.legend(handles=keys, loc="outside upper left", ncols=2)
    return fig


def _keys(lambdas, **style):
    """The handles of a legend, one coloured line for each lambda_gl."""
    return [
        mpl.lines.Line2D(
            [], [], color=variant_color(value), label=variant_name(value), **style
        )
        for value in lambdas
    ]


def plain_numbers(axis):
    """Label the ticks of a logarithmic axis 0.5, 20k, 3M; a short axis has more."""
    low, high = sorted(axis.get_view_interval())
    subs = (1, 2, 5) if high / low > 4 else (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8)
    axis.set_major_locator(mpl.ticker.LogLocator(subs=subs))
    axis.set_major_formatter(mpl.ticker.FuncFormatter(_short))
    axis.set_minor_formatter(mpl.ticker.NullFormatter())


def _short(value, _):
    """20000 as '20k', 3000000 as '3M'."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
