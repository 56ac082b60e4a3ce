"""Gauge-aligned layers: r of the m outputs are the narrow map itself.

U V^T = (U G) (G^-1 V^T) for any invertible G. With G the inverse of r rows of U, these
rows of U G are an identity, which needs no numbers and no work:

    h = B x,   y = [h, A h], in the order of the outputs,

where B (r, n) are r rows of W = U V^T and A (m - r, r) makes the others from these. A
transposed convolution puts out patches: of it r of the n inputs are taken instead,

    h = x_1 + A^T x_2,   y = C h,

with x_1 these inputs, x_2 the others, and C (m, r) the columns of W for x_1. If
the rows are chosen so that no number of A is much above 1, rounding errors are not made
larger: those of a submatrix of largest volume are such (Goreinov et al. 2010, "How to
find a good submatrix").
"""

import torch
from torch import fx, nn

BOUND = 1.05  # no number of A is larger than that


def rows(U):
    """r rows of ``U`` (m, r), m >= r, that make all others with small numbers.

    Returns (chosen (r,), others (m - r,), A (m - r, r)): U[others] = A U[chosen], in
    double precision. ``U`` may be short of rank.
    """
    Q = torch.linalg.qr(U.detach().double()).Q  # of the same column space, or a larger
    m, r = Q.shape
    order = _pivots(Q)
    chosen, others = order[:r], order[r:]
    A = torch.linalg.solve(Q[chosen], Q[others], left=False)
    for _ in range(4 * r):
        if not A.numel():
            break
        i, j = divmod(int(A.abs().argmax()), r)
        if A[i, j].abs() <= BOUND:
            break
        chosen[j], others[i] = others[i].clone(), chosen[j].clone()
        A = _swapped(A, i, j)
    # once more from the rows, without what the swaps have gathered
    return chosen, others, torch.linalg.solve(Q[chosen], Q[others], left=False)


def _pivots(Q):
    """The order of rows in which Gaussian elimination takes them."""
    _, pivots = torch.linalg.lu_factor(Q)
    order = torch.arange(len(Q), device=Q.device)
    for k, pivot in enumerate((pivots - 1).tolist()):
        order[[k, pivot]] = order[[pivot, k]]
    return order


def _swapped(A, i, j):
    """A for the choice in which row ``i`` of the others takes the place of ``j``."""
    pivot, column = A[i, j].clone(), A[:, j].clone()
    row = A[i] / pivot
    A = A - torch.outer(column, row)
    A[:, j] = column / pivot
    A[i] = -row
    A[i, j] = 1 / pivot
    return A


# Both are made of PyTorch's own parts, as a graph of calls: a torch.fx.GraphModule is
# copied, saved, loaded and exported without this package


def outputs_in_order(first, second, order, channels):
    """x -> [h, second(h)] with h = first(x), in ``order`` along ``channels``."""
    graph = fx.Graph()
    h = graph.call_module("first", (graph.placeholder("x"),))
    rest = graph.call_module("second", (h,))
    both = graph.call_function(torch.cat, ([h, rest], channels))
    if channels == -1:  # of a matrix PyTorch takes columns fifteen times as fast
        flat = graph.call_method("reshape", (both, -1, len(order)))
        graph.output(graph.call_method("view_as", (_ordered(graph, flat, 1), both)))
    else:
        graph.output(_ordered(graph, both, channels))
    return _module(graph, first, second, order)


def inputs_in_order(first, second, order, channels, taken):
    """x in ``order`` -> [x_1, x_2], ``taken`` in x_1 -> second(x_1 + first(x_2))."""
    graph = fx.Graph()
    x = _ordered(graph, graph.placeholder("x"), channels)
    rest = graph.call_function(torch.narrow, (x, channels, taken, len(order) - taken))
    x = graph.call_function(torch.narrow, (x, channels, 0, taken))
    h = graph.call_function(torch.add, (x, graph.call_module("first", (rest,))))
    graph.output(graph.call_module("second", (h,)))
    return _module(graph, first, second, order)


def _ordered(graph, x, channels):
    index = graph.get_attr("order")
    return graph.call_function(torch.index_select, (x, channels, index))


def _module(graph, first, second, order):
    holder = nn.Module()
    holder.first, holder.second = first, second
    holder.register_buffer("order", order.to(torch.int32))
    return fx.GraphModule(holder, graph, "Aligned")
