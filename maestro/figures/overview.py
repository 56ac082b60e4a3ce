"""The pictures of the landing page: what came out, at a glance."""

import numpy as np

from ..results.cells import NOT_RUN
from .runs import plain_numbers
from .style import FACTORS, GREY, INK, OURS, missing, sheet, variant_color

SIZE = (4.4, 3.4)  # inches; large enough to be read on a phone

GROUND = {"facecolor": "white", "lw": 0, "pad": 1}  # of words on a line


def printed_and_ours(theirs, ours):
    """Test error against parameters, the paper's points hollow and ours filled.

    theirs, ours: DataFrames with the columns lambda_gl, params and accuracy.
    """
    with sheet(1, figsize=SIZE) as (fig, ax):
        if ours.empty:
            return missing(fig, ax, NOT_RUN)
        for table, filled in ((theirs, False), (ours, True)):
            for row in table.itertuples():
                color = variant_color(row.lambda_gl)
                dense = np.isnan(row.lambda_gl)
                style = {"marker": "s" if dense else "o", "ms": 9 if not filled else 5}
                style |= {"mec": color, "mfc": color if filled else "none", "mew": 1.6}
                ax.plot(row.params, 100 - row.accuracy, ls="", **style)
        ax.plot([], [], "o", mec=GREY, mfc="none", ms=9, mew=1.6, label="the paper")
        ax.plot([], [], "o", color=GREY, ms=5, label="this book")
        ax.set(xlabel="parameters", ylabel="test error (%)", xscale="log", yscale="log")
        for axis in (ax.xaxis, ax.yaxis):
            plain_numbers(axis)
        ax.legend(loc="upper right")
    return fig


def counted_and_timed(steps):
    """What a training step costs at a tenth of the ranks: counted, and by the clock.

    steps: {network: (work, time)}, relative to the dense network's. Work is the MACs of
    a training step's forward pass.
    """
    with sheet(1, figsize=SIZE) as (fig, ax):
        if not steps:
            return missing(fig, ax, NOT_RUN)
        places = np.arange(len(steps))[::-1]
        work, times = np.array(list(steps.values())).T
        ax.barh(places + 0.18, work, 0.32, color=OURS, label="counted")
        ax.barh(places - 0.18, times, 0.32, color=FACTORS, label="timed")
        for place, *values in zip(places, work, times, strict=True):
            for offset, value in zip((0.18, -0.18), values, strict=True):
                words = f"{value:.2f}×"
                ax.text(value + 0.02, place + offset, words, va="center", bbox=GROUND)
        ax.axvline(1, color=INK, lw=1, ls="--", zorder=0.5)
        ax.text(1.02, places[0] + 0.5, "dense", va="bottom")
        ax.set(xlabel="a training step, dense = 1", ylim=(-0.6, places[0] + 0.85))
        ax.set_yticks(places, list(steps))
        ax.set_xlim(0, 1.2 * max(1, times.max(), work.max()))
        ax.grid(visible=False, axis="y")
        fig.legend(loc="outside lower center", ncols=2)
    return fig
