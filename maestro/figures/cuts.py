"""The figure of networks cut to a size (Figs. 5a, 11, 12, 13)."""

import numpy as np

from ..results.cells import NOT_RUN
from .runs import plain_numbers
from .style import DASHES, INK, MARKERS, missing, series_color, sheet


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
                color=series_color(label, place),
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
