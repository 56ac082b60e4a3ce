"""Figures of the systems side by side: sizes against error (Fig. 3), the ablation."""

import matplotlib as mpl

from ..results.cells import NOT_RUN
from .runs import plain_numbers
from .style import GREY, INK, MARKS, PALETTE, missing, sheet


def frontier(ours, theirs=None):
    """Fig. 3: test error against numbers to deploy and against MACs, all relative.

    The axes are logarithmic, and 1 is the dense network. Points of one system are
    joined; the paper's are hollow and single.

    ours, theirs: DataFrames with the columns system, numbers, macs, error, error_std.
    """
    with sheet(2, 4.2, sharey=True) as (fig, axes):
        if ours.empty and (theirs is None or theirs.empty):
            axes[1].set_axis_off()
            return missing(fig, axes[0], NOT_RUN)
        for ax, size in zip(axes, ("numbers", "macs"), strict=True):
            for system, points in ours.groupby("system", sort=False):
                _points(ax, system, points.sort_values(size), size)
            for row in () if theirs is None else theirs.itertuples():
                _hollow(ax, row, size)
            ax.set(xscale="log", yscale="log")
            for axis in (ax.xaxis, ax.yaxis):
                plain_numbers(axis)
        axes[0].set_xlabel("bits to deploy / those of the dense network")
        axes[1].set_xlabel("MACs / those of the dense network")
        axes[0].set_ylabel("test error / that of the dense network")
        fig.legend(handles=_keys(ours, theirs), loc="outside lower center", ncols=4)
    return fig


def ablation(ours, theirs):
    """Table 5: accuracy against the MACs of training and against parameters.

    Accuracy is shown as the difference to Maestro in points; both sizes are relative to
    Maestro's. The paper's points are hollow.

    ours, theirs: DataFrames with the columns accuracy, accuracy_std, cost and params,
    an index of names, and one of each name in the other.
    """
    with sheet(2, 3.6, sharey=True) as (fig, axes):
        if "Maestro" not in ours.index:
            axes[1].set_axis_off()
            return missing(fig, axes[0], NOT_RUN)
        names = list(theirs.index)
        for ax, size in zip(axes, ("cost", "params"), strict=True):
            ax.axhline(0, color=GREY, lw=0.8)
            for table, filled in ((theirs, False), (ours, True)):
                base = table.loc["Maestro"]
                for name, row in table.iterrows():
                    color = PALETTE[names.index(name)]
                    ax.errorbar(
                        row[size] / base[size],
                        row.accuracy - base.accuracy,
                        row.accuracy_std,
                        fmt="o" if filled else "D",
                        mfc=color if filled else "white",
                        color=color,
                        capsize=2,
                        elinewidth=0.9,
                        ms=6,
                    )
        axes[0].set(xlabel="MACs of training / Maestro's")
        axes[1].set(xlabel="parameters / Maestro's")
        axes[0].set_ylabel("accuracy, points above Maestro")
        keys = [_line(name, PALETTE[place], "o") for place, name in enumerate(names)]
        keys.append(_line("the paper", INK, "D", mfc="white"))
        fig.legend(handles=keys, loc="outside lower center", ncols=3)
    return fig


def _points(ax, system, points, size):
    color, marker = MARKS.get(system, (GREY, "."))
    style = {"color": color, "marker": marker, "ms": 5.5, "lw": 0.8, "capsize": 2}
    ax.errorbar(points[size], points.error, points.error_std, **style)


def _hollow(ax, row, size):
    color, marker = MARKS.get(row.system, (GREY, "."))
    style = {"color": color, "marker": marker, "ms": 7, "mfc": "white", "mew": 1}
    ax.plot(getattr(row, size), row.error, ls="", alpha=0.75, **style)


def _keys(ours, theirs):
    shown = set(ours.system) | (set() if theirs is None else set(theirs.system))
    keys = [_line(name, *MARKS[name]) for name in MARKS if name in shown]
    if theirs is not None:
        keys.append(_line("hollow: the paper", INK, "o", mfc="white"))
    return keys


def _line(name, color, marker, **style):
    return mpl.lines.Line2D(
        [], [], color=color, marker=marker, ls="", label=name, **style
    )
