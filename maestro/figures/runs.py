"""Figures of recorded runs: ranks, convergence, trade-offs (Figs. 4, 8-10, 12, 13).

Lists of (label, values) in, a Figure out; the notebooks make them from records.
"""

import matplotlib as mpl
import numpy as np

from .style import INK, PALETTE, label_ends, sheet

RANKS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)  # ticks of an axis of ranks


def lambda_colors(count):
    """``count`` colours from dark to light for growing lambda_gl."""
    return [mpl.colormaps["viridis"](x) for x in np.linspace(0, 0.85, count)]


def rank_progression(panels):
    """Figs. 4a, 8: total rank after each epoch, one line a run.

    panels: {title: [(label, total rank at epoch 0, 1, ...)], by growing lambda_gl}.
    """
    with sheet(max(1, len(panels)), 3.4, sharey=True, squeeze=False) as (fig, axes):
        if not panels:
            return missing(fig, axes[0, 0])
        for ax, (title, series) in zip(axes[0], panels.items(), strict=True):
            colors = lambda_colors(len(series))
            for (label, total), color in zip(series, colors, strict=True):
                ax.step(
                    range(len(total)), total, where="post", color=color, label=label
                )
            ax.set(xlabel="epoch", ylim=(0, None), title=title)
            ax.set_xlim(0, max(len(total) for _, total in series) - 1)
            room = 3 + 6 // len(panels)  # for labels of ticks
            ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(room, integer=True))
        axes[0, 0].set_ylabel("total rank, all layers")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside right center")
    return fig


def layer_ranks(series, max_ranks):
    """Figs. 4b, 9: the rank of each layer after training, one line a lambda_gl.

    series: [(label, {layer: rank})], by growing lambda_gl; max_ranks: {layer: rank}.
    """
    names = list(max_ranks)
    colors = lambda_colors(len(series))
    with sheet(1, 3.6) as (fig, ax):
        if not series:
            return missing(fig, ax)
        ax.plot(names, list(max_ranks.values()), "_", color=INK, ms=18, mew=1.5)
        for (_, ranks), color in zip(series, colors, strict=True):
            ax.plot(names, [ranks[n] for n in names], "o-", color=color, ms=5, lw=1.2)
        highest = max(max_ranks.values())
        ax.set(ylabel="rank after training", yscale="symlog", ylim=(0, 1.3 * highest))
        ax.set_yticks([t for t in RANKS if t <= highest])
        ax.yaxis.set_major_formatter(mpl.ticker.ScalarFormatter())
        ax.set_xlim(-0.3, len(names) - 0.7)
        if len(names) > 8:
            ax.tick_params(axis="x", rotation=90)
        handles = [
            mpl.lines.Line2D([], [], color=color, marker="o", label=label)
            for (label, _), color in zip(series, colors, strict=True)
        ]
        bar = {"marker": "_", "ls": "", "ms": 14, "mew": 1.5}
        handles.insert(0, mpl.lines.Line2D([], [], color=INK, label="full", **bar))
        fig.legend(handles=handles, loc="outside right center")
    return fig


def convergence(series):
    """Fig. 10: training loss after each epoch.

    series: [(label, [losses of one run, ...])], what there is to compare with first:
    the line is the mean over runs, the band their range.
    """
    with sheet(1, 3.2) as (fig, ax):
        if not series:
            return missing(fig, ax)
        ends = []
        colors = _line_colors(len(series))
        for (label, runs), color in zip(series, colors, strict=True):
            losses = np.array(runs)  # (runs, epochs)
            epochs = np.arange(1, losses.shape[1] + 1)
            ax.plot(epochs, losses.mean(0), color=color, label=label)
            ax.fill_between(
                epochs, losses.min(0), losses.max(0), color=color, alpha=0.15, lw=0
            )
            ends.append(losses.mean(0)[-1])
        ax.set(xlabel="epoch", ylabel="training loss", yscale="log")
        _plain_numbers(ax.yaxis)
        ax.set_xlim(1, len(epochs))
        ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        if len(series) > len(PALETTE):
            fig.legend(loc="outside right center")
        else:
            label_ends(ax, len(epochs), ends, [label for label, _ in series], colors)
    return fig


def error_against(series, xlabel, note=()):
    """Figs. 12, 13 as test error (100 % less accuracy) against parameters or MACs.

    series: [(label, x, accuracy %, deviation)]. As accuracies the interesting points
    lie on top of each other.
    """
    errors = [(label, x, 100 - np.asarray(y), std) for label, x, y, std in series]
    return trade_off(errors, xlabel, "test error (%)", note)


def trade_off(series, xlabel, ylabel, note=()):
    """What is worse the higher it is, against size; both axes are logarithmic.

    series: [(label, x, y, deviation)]; each a line with error bars. note: texts for
    the points of the first series.
    """
    with sheet(1, 3.8) as (fig, ax):
        if not any(len(x) for _, x, _, _ in series):
            return missing(fig, ax)
        for (label, x, y, std), color in zip(series, PALETTE, strict=False):
            order = np.argsort(x)
            x, y, std = (np.asarray(v, float)[order] for v in (x, y, std))
            style = {"color": color, "ms": 5, "lw": 1.3, "capsize": 2}
            ax.errorbar(x, y, std, fmt="o-", label=label, **style)
        ax.set(xlabel=xlabel, ylabel=ylabel, xscale="log", yscale="log")
        for axis in (ax.xaxis, ax.yaxis):
            _plain_numbers(axis)
        for text, x, y in zip(note, series[0][1], series[0][2], strict=False):
            ax.annotate(
                text,
                (x, y),
                (-5, -6),
                textcoords="offset points",
                ha="right",
                va="top",
            )
        ax.margins(0.18, 0.12)
        fig.legend(loc="outside upper left", ncols=len(series))
    return fig


def mask_and_cut(layer, masked, cut):
    """The rank of one layer, epoch by epoch, with columns masked and really cut.

    masked, cut: [ranks at epoch 0, 1, ...], one list a seed.
    """
    with sheet(2, 2.9, sharey=True) as (fig, axes):
        if not masked:
            axes[1].remove()
            return missing(fig, axes[0])
        titles = ("masked, as in the authors' code", "cut, as in this book")
        for ax, title, runs, color in zip(
            axes, titles, (masked, cut), PALETTE[1::-1], strict=True
        ):
            for ranks in runs:
                ax.step(range(len(ranks)), ranks, where="post", color=color, lw=1.4)
            ax.set(title=title, xlabel="epoch", ylim=(0, None))
            ax.set_xlim(0, max(map(len, runs)) - 1)
            ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        axes[0].set_ylabel(f"rank of {layer}, one line a seed")
    return fig


def missing(fig, ax):
    """What a figure shows whose runs have no record."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, "not run yet", ha="center", va="center", fontsize=12)
    return fig


def _line_colors(count):
    """The palette, or for more lines than it has ink and then lambda_gl's colours."""
    if count <= len(PALETTE):
        return PALETTE[:count]
    return [INK, *lambda_colors(count - 1)]


def _plain_numbers(axis):
    """Ticks of a logarithmic axis as 0.5, 20k, 3M; closer ones on a short axis."""
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
