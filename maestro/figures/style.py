"""The house style of the figures, and the parts that several figures use.

The style is opaque white, with Okabe and Ito's palette, which colour-blind readers can
tell apart. Lines are labelled at their ends, no text is smaller than 9 pt, and no
figure is wider than 7 inches. Each lambda_gl has one colour in all figures. Each system
has one mark in all figures, and each way to make a network smaller one colour.
"""

from contextlib import contextmanager
from math import isnan, log2

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#7F7F7F")
INK, GREY, PALE = "#222222", "#8A8A8A", "#D9D9D9"
# the colours of the paper's method, of our variants of it, and of the other ways
OURS, VARIANT = PALETTE[0], PALETTE[4]
FACTORS, SPARSE, CHANNELS = PALETTE[1], PALETTE[2], PALETTE[3]
MARKS = {  # (colour, marker) of each system
    "dense": (INK, "s"),
    "dense, narrow": (INK, "d"),
    "dense, trained longer": (INK, "^"),
    "Maestro": (OURS, "o"),
    "Maestro, proximal": (VARIANT, "<"),
    "Maestro, masked": (VARIANT, "X"),
    "Maestro, size asked for": (VARIANT, "D"),
    "without shrinking": (VARIANT, "v"),
    "with a full pass": (VARIANT, "p"),
    "with a full pass, distilled": (VARIANT, "h"),
    "tangent steps, none": (VARIANT, "o"),
    "tangent steps, upper": (VARIANT, "P"),
    "tangent steps, pair": (VARIANT, "*"),
    "tangent steps, seldom": (VARIANT, ">"),
    "tangent steps, independent": (VARIANT, "s"),
    "tangent steps, fraction": (VARIANT, "d"),
    "cut once, none": (OURS, "s"),
    "cut once, upper": (OURS, "P"),
    "cut once, pair": (OURS, "*"),
    "Maestro, pretrained": (VARIANT, "^"),
    "Pufferfish": (FACTORS, "v"),
    "Cuttlefish": (FACTORS, "^"),
    "spectral init.": (FACTORS, "<"),
    "spectral init., FD": (FACTORS, ">"),
    "SVD": (FACTORS, "x"),
    "SVD, tuned": (FACTORS, "X"),
    "spectral decay": (FACTORS, "P"),
    "DLRT": (FACTORS, "D"),
    "augmented DLRT": (FACTORS, "d"),
    "IMP": (SPARSE, "*"),
    "RareGems": (SPARSE, "h"),
    "DepGraph": (CHANNELS, "p"),
    "XNOR-Net": (GREY, "8"),
}
# the lines of a figure by the first word of their label, and lines of other labels
WORDS = {"dense": INK, "LoD": OURS, "SVD": FACTORS}
SERIES, MARKERS = (OURS, VARIANT, CHANNELS, SPARSE, GREY), "osD^vP"
DASHES = (0, (4, 3))  # for lines of the dense network, and for guides
# (smallest, largest) lambda_gl of each of the book's grids: LeNet; CIFAR-10 and
# ImageNet; the laptop scales; Multi30k. Within a grid each value is twice the last one,
# and no value is in two grids
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
    """Within the context, a figure in the house style; it is closed at the end.

    Args:
        columns: the number of panels, side by side.
        height: the height in inches.
        subplots: further arguments of `plt.subplots`.

    Yields:
        (figure, axes); axes is one Axes, or an array of them.
    """
    with plt.rc_context(STYLE):
        subplots = {"figsize": (WIDTH, height), "layout": "constrained"} | subplots
        fig, axes = plt.subplots(1, columns, **subplots)
        try:
            yield fig, axes
            fig.canvas.draw()  # ticks and layout are settled in this style
        finally:
            plt.close(fig)


def label_ends(ax, x, heights, labels, colors):
    """Write the label of each line to the right of its last point.

    Labels that would overlap are moved apart. Call this function after the scales and
    limits of the axes are set.

    Args:
        ax: the Axes.
        x: the end of all lines, in data coordinates.
        heights: the ends of the lines, in data coordinates.
        labels, colors: one for each line.
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
    """The colour of a lambda_gl: the larger in its grid, the lighter.

    Zero has a colour of its own. The dense network (nan) is drawn in ink. A lambda_gl
    outside all grids gets the colour of its place between 1e-6 and 10.
    """
    if isnan(lambda_gl):
        return INK
    if lambda_gl == 0:
        return PALETTE[3]
    for low, high in (*GRIDS, (1e-6, 10)):
        place = log2(lambda_gl / low)
        if abs(place - round(place)) < 1e-6 and 0 <= round(place) <= log2(high / low):
            break
    return mpl.colormaps["viridis"](0.88 * min(1, max(0, place / log2(high / low))))


def series_color(label, place):
    """The colour of the line ``label``, the line number ``place`` of its figure."""
    word = label.replace(",", " ").split()[0]
    return WORDS.get(word, SERIES[place % len(SERIES)])


def missing(fig, ax, text):
    """``fig`` with ``text`` in place of the axes, for a figure without any data."""
    ax.set_axis_off()
    middle = {"ha": "center", "va": "center", "transform": ax.transAxes}
    ax.text(0.5, 0.5, text, fontsize=12, **middle)
    return fig


def rank_colors(count):
    """One colour for each rank from 1 to ``count``: the palette, then grey."""
    return [PALETTE[i] if i < len(PALETTE) else GREY for i in range(count)]
