"""What sampling costs, as points below the dense network."""

from math import inf

import seaborn as sns

from ..results.cells import NOT_RUN
from ..results.sampling import BY_SVD, OWN
from .style import DASHES, FACTORS, GREY, INK, SERIES, missing, sheet


def sampling_costs(table):
    """Each way and sampler as a point: accuracy minus that of the dense network.

    A pale dot is one seed. Bars are the 95 % bounds, where there are several.

    table: a DataFrame with the columns way, sampler, from_dense (a Gap or None) and
    differences (those of each seed).
    """
    table = table[[difference is not None for difference in table.from_dense]]
    with sheet(1, 0.9 + 0.26 * max(len(table), 6)) as (fig, ax):
        if table.empty:
            return missing(fig, ax, NOT_RUN)
        ways = list(dict.fromkeys(table.way))
        seeds = table.assign(place=range(len(table))).explode("differences")
        sns.stripplot(
            seeds.astype({"differences": float}),
            x="differences",
            y="place",
            hue="way",
            palette=dict(zip(ways, SERIES, strict=False)),
            orient="h",
            jitter=False,
            alpha=0.4,
            size=4,
            legend=False,
            native_scale=True,
            ax=ax,
        )
        for place, row in enumerate(table.itertuples()):
            difference = row.from_dense
            color = SERIES[ways.index(row.way)]
            if difference.high < inf:
                ax.plot([difference.low, difference.high], [place] * 2, color=color)
            ax.plot(difference.mean, place, "o", color=color, ms=6)
        ax.axvline(0, color=INK, ls=DASHES, lw=0.8)
        names = [f"{row.way}: {row.sampler}" for row in table.itertuples()]
        ax.set_yticks(range(len(names)), names)
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
        ax.set(xlabel="accuracy, points above the dense network", ylabel="")
        ax.tick_params(axis="y", length=0, labelcolor=INK)
        ax.spines["left"].set_color(GREY)
    return fig


def uniform_cuts(points):
    """Accuracy against the share of the ranks of all layers, a panel for each order.

    In points above the uncut network. A line is the mean of one sampler, and a pale
    dot is one seed. The dashed line is the SVD of the dense network, in both panels.

    points: of `sampling.cut_points`, of one way and the dense networks.
    """
    orders = (OWN, BY_SVD)
    with sheet(2, 3.4, sharey=True) as (fig, axes):
        if points.empty:
            for ax in axes:
                missing(fig, ax, NOT_RUN)
            return fig
        samplers = [name for name in dict.fromkeys(points.sampler) if name]
        colors = dict(zip(samplers, (*SERIES, FACTORS), strict=False))
        for ax, order in zip(axes, orders, strict=True):
            for sampler, some in points.groupby("sampler", sort=False):
                shown = some[some.order == (order if sampler else BY_SVD)]
                color = colors.get(sampler, INK)
                means = shown.groupby("share").points.mean()
                ax.plot(shown.share, shown.points, "o", color=color, alpha=0.25, ms=3)
                style = "-" if sampler else DASHES
                ax.plot(means.index, means, ls=style, color=color, label=sampler)
            ax.set(title=f"columns: {order}", xlabel="share of the ranks of all layers")
        axes[0].set_ylabel("accuracy, points above the uncut network")
        axes[1].legend(title="sampler", loc="lower right")
    return fig
