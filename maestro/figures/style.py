"""The house style of the figures, and what they share.

House style: opaque white, colour-blind-safe (Okabe and Ito's palette), lines labelled
at their ends, nothing under 9 pt, at most 7 inches wide. A method has one colour in all
figures, and so has a lambda_gl. Nothing here trains or reads records; every figure
comes back closed, so that a notebook shows it once.
"""

from contextlib import contextmanager
from math import isnan, log2

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#7F7F7F")
INK, GREY, PALE = "#222222", "#8A8A8A", "#D9D9D9"
METHODS = {
    "dense": INK,
    "maestro": PALETTE[0],
    "masked": PALETTE[1],
    "proximal": PALETTE[2],
    "pufferfish": PALETTE[4],
}
DASHES = (0, (4, 3))  # of the dense network's lines, and of guides
# (smallest, largest) lambda_gl of the book's grids: LeNet; CIFAR-10 and ImageNet; the
# laptop scales; Multi30k. In a grid each is twice the one before; none is in two grids
GRIDS = ((8e-5, 256e-5), (1e-6, 1024e-6), (1e-4, 16e-4), (0.08, 5.12))
WIDTH = 7.0  # inches
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": "white",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.dpi": 144,
    "figure.facecolor": "white",
    "font.size": 9.5,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "savefig.facecolor": "white",
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 9,
    "ytick.color": INK,
    "ytick.labelsize": 9,
}


@contextmanager
def sheet(columns=1, height=3.2, **subplots):
    """A figure in the house style with ``columns`` panels; closed on the way out.

    Yields (figure, axes); axes is one Axes, or an array of them. ``height`` in inches.
    """
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(
            1, columns, figsize=(WIDTH, height), layout="constrained", **subplots
        )
        try:
            yield fig, axes
            fig.canvas.draw()  # ticks and layout are settled in this style
        finally:
            plt.close(fig)


def label_ends(ax, x, heights, labels, colors):
    """Write each line's label right of its last point, pushed apart where they meet.

    ``heights`` are in data coordinates; call it when scales and limits are final.
    """
    to_axes = ax.transData + ax.transAxes.inverted()
    wanted = np.array([to_axes.transform((x, h))[1] for h in heights]).clip(0, 1)
    places = _apart(wanted, 0.17 / (ax.figure.get_figheight() * 0.75))
    start = to_axes.transform((x, heights[0]))[0]
    for y, place, label, color in zip(wanted, places, labels, colors, strict=True):
        ax.plot(
            [start, start + 0.02, start + 0.045],
            [y, place, place],
            color=color,
            lw=1,
            transform=ax.transAxes,
            clip_on=False,
        )
        ax.text(start + 0.055, place, label, va="center", transform=ax.transAxes)


def _apart(wanted, gap):
    """Positions near ``wanted``, in the same order and at least ``gap`` apart."""
    order = np.argsort(wanted, kind="stable")
    places = np.array(wanted, float)
    for _ in range(200):
        for low, high in zip(order[:-1], order[1:], strict=True):
            overlap = gap - (places[high] - places[low])
            if overlap > 1e-9:
                places[low] -= overlap / 2
                places[high] += overlap / 2
    return places


def log_spaced(steps, count=80):
    """Indices of about ``count`` records, evenly spaced on a logarithmic time axis."""
    later = np.flatnonzero(steps > 0)
    wanted = np.geomspace(steps[later[0]], steps[-1], count)
    return np.unique(np.searchsorted(steps, wanted).clip(later[0], len(steps) - 1))


def variant_color(lambda_gl):
    """The colour of a lambda_gl, by its place in its grid: the larger, the lighter.

    Zero has a colour of its own, the dense network (nan) the ink; a lambda_gl of no
    grid is placed between 1e-6 and 10.
    """
    if isnan(lambda_gl):
        return METHODS["dense"]
    if lambda_gl == 0:
        return PALETTE[3]
    for low, high in (*GRIDS, (1e-6, 10)):
        place = log2(lambda_gl / low)
        if abs(place - round(place)) < 1e-6 and 0 <= round(place) <= log2(high / low):
            break
    return mpl.colormaps["viridis"](0.88 * min(1, max(0, place / log2(high / low))))


def missing(fig, ax, text):
    """``fig`` as shown where there is nothing to draw yet: ``text``, no axes."""
    ax.set_axis_off()
    middle = {"ha": "center", "va": "center", "transform": ax.transAxes}
    ax.text(0.5, 0.5, text, fontsize=12, **middle)
    return fig


def rank_colors(count):
    """One colour per rank 1..count: the palette, then greys."""
    return [PALETTE[i] if i < len(PALETTE) else GREY for i in range(count)]
