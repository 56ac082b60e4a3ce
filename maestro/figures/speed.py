"""Figures of measured time: against counted MACs, and by kind of work."""

import numpy as np

from ..results.cells import NOT_MEASURED
from .style import (
    DASHES,
    GREY,
    INK,
    MARKERS,
    PALETTE,
    missing,
    series_color,
    sheet,
)

PART_COLORS = dict(
    zip(
        ("linear maps", "normalisation", "rest", "lasso", "optimiser"),
        (PALETTE[0], PALETTE[1], PALETTE[4], PALETTE[2], GREY),
        strict=True,
    )
)


def time_against_macs(panels):
    """Time against MACs, both as ratios to dense.

    On the broken line the two ratios are equal.

    panels: {title: [(label, MACs, time), ...]}, with a line for each tuple.
    """
    with sheet(max(1, len(panels)), 3.3, sharey=True, squeeze=False) as (fig, axes):
        if not any(panels.values()):
            return missing(fig, axes[0, 0], NOT_MEASURED)
        for ax, (title, series) in zip(axes[0], panels.items(), strict=True):
            ax.plot([0, 1.2], [0, 1.2], color=GREY, lw=1, ls=DASHES)
            for place, (label, macs, time) in enumerate(series):
                style = {"color": series_color(label, place), "label": label, "ms": 4.5}
                ax.plot(macs, time, marker=MARKERS[place], **style)
            ax.set(title=title, xlabel="MACs / dense MACs")
            ax.set_xlim(0, 1.08)
            ax.set_xticks([0, 0.5, 1])
        axes[0, 0].set_ylim(0)
        axes[0, 0].set_ylabel("time / dense time")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside upper left", ncols=len(handles))
    return fig


def step_parts(parts):
    """The time of a step by kind of work, one bar for each network.

    parts: a DataFrame of milliseconds with a row for each kind of work and a column for
    each network, or None.
    """
    count = 0 if parts is None else len(parts.columns)
    with sheet(1, 0.9 + 0.42 * count) as (fig, ax):
        if not count:
            return missing(fig, ax, NOT_MEASURED)
        left = np.zeros(count)
        names = list(parts.columns)
        for part, color in PART_COLORS.items():
            width = parts.loc[part].to_numpy()
            ax.barh(names, width, left=left, color=color, label=part, height=0.7)
            left += width
        for name, total in zip(names, left, strict=True):
            ax.text(total, name, f" {total:.3g} ms", va="center", color=INK)
        ax.invert_yaxis()
        ax.set(xlabel="milliseconds of one step", xlim=(0, 1.14 * left.max()))
        ax.grid(axis="y", visible=False)
        fig.legend(loc="outside upper left", ncols=len(PART_COLORS))
    return fig
