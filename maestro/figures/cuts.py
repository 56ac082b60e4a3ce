"""Figures of networks cut to a size (Figs. 5a, 11, 12, 13), and of measured time."""

import numpy as np

from ..results.cells import NOT_RUN
from .runs import plain_numbers
from .style import DASHES, INK, PALETTE, missing, sheet

MARKERS = "osD^vP"


def cut_curves(series, xlabel, reference=None):
    """Test error against size, one line for each way of cutting.

    Args:
        series: [(label, x, accuracy %, deviation, dashed)].
        xlabel: the label of the axis of sizes.
        reference: (x, accuracy %) of the network before it is cut; None for none.
    """
    with sheet(1, 3.9) as (fig, ax):
        drawn = [one for one in series if len(one[1])]
        if not drawn:
            return missing(fig, ax, NOT_RUN)
        for place, (label, x, accuracy, std, dashed) in enumerate(drawn):
            error, order = 100 - np.asarray(accuracy, float), np.argsort(x)
            color = PALETTE[(place // 2 if _paired(drawn) else place) % len(PALETTE)]
            ax.errorbar(
                np.asarray(x, float)[order],
                error[order],
                np.nan_to_num(np.asarray(std, float))[order],
                ls=DASHES if dashed else "-",
                marker=MARKERS[place % len(MARKERS)],
                ms=4,
                mfc="white" if dashed else None,
                lw=1.3,
                capsize=2,
                color=color,
                label=label,
            )
        if reference:
            ax.axhline(100 - reference[1], color=INK, lw=0.8, ls=DASHES)
            ax.annotate(
                "uncut",
                (1, 100 - reference[1]),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                xytext=(-2, 3),
                ha="right",
            )
        ax.set(xlabel=xlabel, ylabel="test error (%)", xscale="log", yscale="log")
        ax.margins(0.06, 0.1)
        for axis in (ax.xaxis, ax.yaxis):
            plain_numbers(axis)
        fig.legend(loc="outside upper left", ncols=2)
    return fig


def times_against_macs(panels):
    """Measured time against MACs, both as shares of the dense network's.

    panels: {title: [(label, MACs / dense, time / dense)]}. On the grey diagonal, time
    follows MACs.
    """
    with sheet(max(1, len(panels)), 3.2, sharey=True, squeeze=False) as (fig, axes):
        if not any(panels.values()):
            return missing(fig, axes[0, 0], "not measured yet")
        for ax, (title, lines) in zip(axes[0], panels.items(), strict=True):
            ax.plot([0, 1], [0, 1], color="#BBBBBB", lw=1)
            for place, (label, macs, times) in enumerate(lines):
                style = {"color": PALETTE[place], "marker": MARKERS[place], "ms": 4}
                ax.plot(macs, times, label=label, **style)
            ax.set(title=title, xlabel="MACs / dense", xlim=(0, 1.05), ylim=(0, None))
        axes[0, 0].set_ylabel("time / dense")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside upper left", ncols=len(labels))
    return fig


def _paired(series):
    """Whether full and dashed lines alternate, one colour for each pair."""
    dashed = [one[4] for one in series]
    return len(series) % 2 == 0 and dashed == [False, True] * (len(series) // 2)
