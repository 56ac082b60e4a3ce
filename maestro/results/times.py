"""Measured time of merged networks against MACs (data/bench/latency.json)."""

import pandas as pd

from . import measured
from .cells import NOT_MEASURED
from .verdicts import counted


def load(folder=measured.FOLDER):
    """The rows as a DataFrame, with macs_share and time_share of dense; or None.

    The dense network was timed in turn with each row's, in the same setting.
    """
    measurement = measured.load("latency", folder)
    if measurement is None:
        return None
    rows = pd.DataFrame(
        {"network": network} | row
        for network, found in measurement["networks"].items()
        for row in found["rows"]
    )
    rows["macs_share"] = rows.macs / rows.dense_macs
    return rows.rename(columns={"ratio": "time_share"})


def ran_on(folder=measured.FOLDER):
    """The processor and the release of PyTorch of `load`, in words."""
    measurement = measured.load("latency", folder)
    if measurement is None:
        return NOT_MEASURED
    where = measurement["ran_on"]
    return f"{where['processor']}, PyTorch {where['torch']}"


def panels(rows, network, batches=(1, 64), threads=1):
    """The lines of a figure of one network, a panel for each runtime and batch.

    Returns {title: [(kind, MACs / dense, time / dense)]}; empty without ``rows``.
    """
    found = {}
    for (_, runtime, batch), some in _settings(rows, [network], batches, threads):
        found[f"{runtime},\n{counted(batch, 'image')}"] = [
            (kind, list(line.macs_share), list(line.time_share))
            for kind, line in some.groupby("ranks", sort=False)
        ]
    return found


def ranges(rows, networks, batches=(1,), threads=1):
    """The least and the most time, as a share of dense, of each kind: a table of text.

    The rows are networks, runtimes and batches; "not measured yet" without any.
    """
    cells = {
        (network, runtime, batch): {
            kind: f"{line.min():.2f} to {line.max():.2f}"
            for kind, line in some.groupby("ranks", sort=False).time_share
        }
        for (network, runtime, batch), some in _settings(
            rows, networks, batches, threads
        )
    }
    if not cells:
        return NOT_MEASURED
    table = pd.DataFrame.from_dict(cells, orient="index")
    return table.rename_axis(index=["network", "runtime", "images"])


def _settings(rows, networks, batches, threads):
    """((network, runtime, batch), its rows below the full rank), in their order."""
    if rows is None:
        return []
    mine = rows[rows.network.isin(networks) & rows.batch.isin(batches)]
    mine = mine[mine.threads == threads]
    return list(mine.groupby(["network", "runtime", "batch"], sort=False))
