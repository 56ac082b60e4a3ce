"""Figures of the linear theory (Figs. 2, 6, 7; Theorem 4.1)."""

import numpy as np

from .style import (
    GREY,
    INK,
    OURS,
    PALETTE,
    VARIANT,
    label_ends,
    log_spaced,
    rank_colors,
    sheet,
)


def svd_recovery(steps, distances, until):
    """The distance of each prefix to the best rank-k map, in two views (Fig. 2a).

    A line is the median over seeds, and its band is their range. The left panel shows
    the first steps, the right panel all steps on logarithmic axes.

    Args:
        steps: (T,).
        distances: (T, S, r), for S seeds.
        until: the last step of the left panel.
    """
    r = distances.shape[-1]
    colors = rank_colors(r)
    with sheet(2, 3.4, sharey=True, width_ratios=(1, 1.1)) as (fig, axes):
        middle = np.median(distances, 1)
        low, high = distances.min(1), distances.max(1)
        early = np.flatnonzero(steps <= until)
        early = early[np.linspace(0, len(early) - 1, min(len(early), 68)).astype(int)]
        for ax, shown in zip(axes, (early, log_spaced(steps)), strict=True):
            for k in range(r):
                ax.plot(steps[shown], middle[shown, k], color=colors[k])
                ax.fill_between(
                    steps[shown],
                    low[shown, k],
                    high[shown, k],
                    color=colors[k],
                    alpha=0.10,
                    lw=0,
                )
            ax.set_yscale("log")
            ax.set_xlabel("iteration")
        axes[0].set_ylabel(r"$\Vert U_{:k}V_{:k}^\top - A_k \Vert_F$")
        axes[0].set_title(f"the first {until:,} iterations")
        axes[1].set_title("all, on a logarithmic axis")
        axes[1].set_xscale("log")
        axes[0].set_xlim(0, until)
        axes[1].set_xlim(steps[steps > 0][0], steps[-1])
        labels = [f"k = {k}  (p = {k / r:.2g})" for k in range(1, r + 1)]
        label_ends(axes[1], steps[-1], middle[-1], labels, colors)
    return fig


def column_sizes(steps, panels, targets):
    """The sizes of a product's columns by iteration, on a logarithmic axis.

    Args:
        steps: (T,).
        panels: {title: (T, r)}.
        targets: the singular values that are learned, drawn as horizontal lines.
    """
    with sheet(len(panels), 3.0, sharey=True) as (fig, axes):
        for ax, (title, sizes) in zip(axes, panels.items(), strict=True):
            for value in targets:
                ax.axhline(value, color=GREY, lw=0.8, ls=":")
            for column, color in zip(sizes.T, rank_colors(sizes.shape[1]), strict=True):
                ax.plot(steps, column, color=color, lw=1.2)
            ax.set(title=title, yscale="log", xlabel="iteration", xlim=(0, steps[-1]))
        axes[0].set_ylabel(r"$\Vert u_b\Vert\,\Vert v_b\Vert$")
    return fig


def excess_decay(steps, measured, predicted, names):
    """Sizes of columns that the target does not need, and their closed form.

    Args:
        steps: (T,).
        measured, predicted: (T, K), for K columns.
        names: K labels.
    """
    with sheet(height=3.3) as (fig, ax):
        colors = rank_colors(len(names))
        for k, color in enumerate(colors):
            ax.loglog(steps, measured[:, k], color=color, lw=3, alpha=0.45)
            ax.loglog(steps, predicted[:, k], color=INK, lw=1, ls=(0, (4, 3)))
        floor = max(1e-10, measured[-1].min() / 3)
        ax.set_ylim(floor, measured.max() * 2)
        ax.set_xlim(steps[0], steps[-1])
        ax.set_xlabel("iteration")
        ax.set_ylabel(r"size of the column, $s = \Vert u\Vert\,\Vert v\Vert$")
        ax.plot([], [], color=GREY, lw=3, alpha=0.6, label="SGD, sampled ranks")
        ax.plot([], [], color=INK, lw=1, ls=(0, (4, 3)), label="closed form")
        ax.legend(loc="lower left")
        label_ends(ax, steps[-1], measured[-1], names, colors)
    return fig


def dead_tail(curves, lines):
    """The importance of columns that only the lasso moves, by step.

    Args:
        curves: {label: (T,)}, first of the subgradient, then of the proximal step. A
            curve ends where the importance is zero.
        lines: {label: height} of horizontal lines.
    """
    with sheet(height=3.3) as (fig, ax):
        colors = OURS, VARIANT
        for (label, curve), color in zip(curves.items(), colors, strict=True):
            alive = np.flatnonzero(np.append(curve, 0) == 0)[0]
            ax.semilogy(curve[:alive], color=color, label=label)
            if alive < len(curve):
                ax.plot(alive - 1, curve[alive - 1], "o", color=color, ms=5)
                note = f" zero from step {alive}"
                ax.annotate(note, (alive - 1, curve[alive - 1]), color=color)
        end = max(len(curve) for curve in curves.values()) - 1
        for label, height in lines.items():
            ax.axhline(height, color=INK, lw=1, ls=(0, (4, 3)))
            ax.text(end, height, label, ha="right", va="bottom", color=INK)
        ax.set(xlabel="step", xlim=(0, end))
        ax.set_ylabel(r"$\Vert U\Vert\,\Vert V\Vert$ of all columns")
        fig.legend(loc="outside upper left", ncols=len(curves))
    return fig


def remedies(steps, curves):
    """The squared distance to the target under several settings, log-log.

    Args:
        steps: (T,).
        curves: {label: (T,)}, medians over seeds.
    """
    with sheet(height=3.6) as (fig, ax):
        colors = rank_colors(len(curves))
        shown = log_spaced(steps)
        for curve, color in zip(curves.values(), colors, strict=True):
            ax.loglog(steps[shown], curve[shown], color=color)
        lowest = max(1e-14, min(c[-1] for c in curves.values()) / 3)
        ax.set_ylim(lowest, None)
        ax.set_xlim(steps[shown][0], steps[-1])
        ax.set_xlabel("iteration")
        ax.set_ylabel(r"$\Vert UV^\top - A \Vert_F^2$")
        ends = [max(c[-1], lowest) for c in curves.values()]
        label_ends(ax, steps[-1], ends, list(curves), colors)
    return fig


def singular_values(steps, panels, directions, change=None, ranks=None):
    """The estimates of the singular values by iteration (Figs. 2b, 7).

    Args:
        steps: (T,).
        panels: {title: (T, r)}.
        directions: the number of columns that the target needs, the first ones.
        change: the iteration at which the data change, drawn as a vertical line.
        ranks: (T,), the learned rank, drawn in a panel of its own.
    """
    count = len(panels) + (ranks is not None)
    with sheet(count, 3.3) as (fig, axes):
        axes = np.atleast_1d(axes)
        for ax, (title, values) in zip(axes, panels.items(), strict=False):
            ax.axhline(1, color=INK, lw=0.8, ls=(0, (4, 3)))
            rest = ax.plot(steps, values[:, directions:], color=GREY, lw=1)
            lines = [
                ax.plot(steps, values[:, k], color=PALETTE[k % len(PALETTE)])[0]
                for k in range(directions)
            ]
            ax.set_title(title)
            ax.set_ylim(-0.04, max(1.3, 1.05 * max(v.max() for v in panels.values())))
        axes[0].set_ylabel(r"$\Vert u_k\Vert\,\Vert v_k\Vert$")
        if ranks is not None:
            axes[-1].step(steps, ranks, where="post", color=INK)
            axes[-1].set_ylim(0, values.shape[1] + 0.5)
            axes[-1].set_yticks(range(0, values.shape[1] + 1))
            axes[-1].set_title("learned rank")
            axes[-1].set_ylabel("rank")
        for ax in axes:
            ax.set_xlim(0, steps[-1])
            ax.set_xlabel("iteration")
            if change is not None:
                ax.axvline(change, color=INK, lw=0.9, ls=":")
        r = values.shape[1]
        names = [f"k = {k}  (p = {k / r:.2g})" for k in range(1, directions + 1)]
        names += [f"k = {directions + 1} ... {r}"] if rest else []
        fig.legend(
            lines + rest[:1], names, loc="outside lower center", ncols=len(names)
        )
    return fig


def seed_ranks(steps, ranks, names, change):
    """The learned rank of each seed by iteration, one panel for each setting.

    The lines of the seeds are shifted a little, so that all are visible.

    Args:
        steps: (T,).
        ranks: one array (T, S) for each setting.
        names: the titles of the panels.
        change: the iteration at which the data change.
    """
    with sheet(len(names), 2.9, sharey=True) as (fig, axes):
        for ax, values, name in zip(np.atleast_1d(axes), ranks, names, strict=True):
            seeds = values.shape[1]
            for s in range(seeds):
                shift = 0.03 * (s - (seeds - 1) / 2)
                ax.step(
                    steps, values[:, s] + shift, where="post", color=PALETTE[0], lw=0.8
                )
            ax.axvline(change, color=INK, lw=0.9, ls=":")
            ax.set_title(name)
            ax.set_xlabel("iteration")
            ax.set_xlim(0, steps[-1])
        top = max(int(v.max()) for v in ranks)
        first = np.atleast_1d(axes)[0]
        first.set_ylabel("learned rank")
        first.set_yticks(range(0, top + 1))
        first.set_ylim(0, top + 0.5)
    return fig


def ordering(steps, distances):
    """The distance of each prefix to the best rank-k map on the data (Fig. 6).

    A line is the median over seeds, and its band is their range.

    Args:
        steps: (T,).
        distances: (T, S, r), for S seeds.
    """
    shown = np.linspace(0, len(steps) - 1, min(len(steps), 101)).astype(int)
    steps, distances = steps[shown], distances[shown]
    r = distances.shape[-1]
    colors = rank_colors(r)
    with sheet(height=3.3) as (fig, ax):
        middle = np.median(distances, 1)
        for k in range(r):
            ax.plot(steps, middle[:, k], color=colors[k])
            ax.fill_between(
                steps,
                distances.min(1)[:, k],
                distances.max(1)[:, k],
                color=colors[k],
                alpha=0.10,
                lw=0,
            )
        ax.set_yscale("log")
        ax.set_xlim(0, steps[-1])
        ax.set_xlabel("iteration")
        ax.set_ylabel(r"distance to the best rank $k$ on the data")
        labels = [f"k = {k}  (p = {k / r:.2g})" for k in range(1, r + 1)]
        label_ends(ax, steps[-1], middle[-1], labels, colors)
    return fig


def rank_errors(errors, optimum):
    """The loss of several methods at each rank as bars, and the optimum as a line.

    Args:
        errors: {method: (r,)}, relative to the loss of the zero map.
        optimum: (r,).
    """
    ranks = np.arange(1, len(optimum) + 1)
    width = 0.8 / len(errors)
    with sheet(height=3.0) as (fig, ax):
        ax.grid(axis="x", visible=False)
        for i, ((name, values), color) in enumerate(
            zip(errors.items(), (PALETTE[1], PALETTE[0], PALETTE[2]), strict=False)
        ):
            places = ranks - 0.4 + (i + 0.5) * width
            bars = ax.bar(places, values, width * 0.92, color=color, label=name)
            ax.bar_label(bars, [f"{v:.0%}" for v in values], padding=2, fontsize=9)
        for rank, best in zip(ranks, optimum, strict=True):
            label = "lowest possible" if rank == 1 else None
            ax.hlines(best, rank - 0.42, rank + 0.42, color=INK, lw=1.6, label=label)
        ax.set_xticks(ranks, [f"rank {k}" for k in ranks])
        ax.set_ylim(0, 1.12)
        ax.set_yticks(np.linspace(0, 1, 5), ["0", "25%", "50%", "75%", "100%"])
        ax.set_ylabel("loss, in parts of the zero map's")
        fig.legend(loc="outside upper center", ncols=len(errors) + 1)
    return fig


def theorem_gaps(gaps):
    """The excess of each reading of the theorem over the best loss of each rank.

    Values below 1e-17, which rounding may make negative, are drawn at 1e-17.

    gaps: {reading: (N, r)}, (L_b - optimum) / E‖Ax‖² for N random problems.
    """
    with sheet(height=3.3) as (fig, ax):
        ax.grid(axis="x", visible=False)
        count = len(gaps)
        for i, (name, values) in enumerate(gaps.items()):
            n, r = values.shape
            spread = np.random.default_rng(0).uniform(-0.09, 0.09, n)
            for b in range(r):
                x = b + 1 + (i - (count - 1) / 2) * 0.26 + spread
                y = values[:, b].clip(1e-17)
                label = name if b == 0 else None
                ax.plot(x, y, ".", ms=4, alpha=0.45, color=PALETTE[i], label=label)
        ax.set_yscale("log")
        ax.set_ylim(3e-18, 30)
        ax.set_xticks(range(1, r + 1), [f"b = {b}" for b in range(1, r + 1)])
        ax.set_ylabel(r"$(L_b - \mathrm{optimum}_b)\,/\,\mathrm{E}\Vert Ax\Vert^2$")
        legend = fig.legend(loc="outside upper center", ncols=count, markerscale=2.5)
        for handle in legend.legend_handles:
            handle.set_alpha(1)
    return fig


def angles(steps, panels):
    """The principal angles between learned and optimal prefixes by iteration.

    A line is the median over seeds, one for each rank.

    Args:
        steps: (T,).
        panels: {title: (T, S, r)} in radians, for S seeds.
    """
    with sheet(len(panels), 3.3, sharey=True) as (fig, axes):
        axes = np.atleast_1d(axes)
        for ax, (title, values) in zip(axes, panels.items(), strict=True):
            middle = np.median(values, 1).clip(1e-17)
            colors = rank_colors(middle.shape[1])
            for k, color in enumerate(colors):
                ax.plot(steps, middle[:, k], color=color)
            ax.set_yscale("log")
            ax.set_title(title)
            ax.set_xlabel("iteration")
            ax.set_xlim(0, steps[-1])
        axes[0].set_ylabel("largest principal angle (rad)")
        lines = axes[-1].get_lines()
        names = [f"b = {k}" for k in range(1, len(lines) + 1)]
        fig.legend(lines, names, loc="outside lower center", ncols=len(lines))
    return fig
