"""Measured time of merged networks against MACs (data/bench/latency.json)."""

import pandas as pd

from . import measured


def load(folder=measured.FOLDER):
    """The rows as a DataFrame, with macs_share and time_share of dense; or None.

    A share is of the dense network in the same runtime, with as many threads and
    images.
    """
    measurement = measured.load("latency", folder)
    if measurement is None:
        return None
    rows = pd.DataFrame(measurement["rows"])
    where = ["network", "runtime", "threads", "batch"]
    dense = rows[rows.ranks == "dense"][[*where, "ms", "macs"]]
    rows = rows.merge(dense, on=where, suffixes=("", "_dense"))
    rows["macs_share"] = rows.macs / rows.macs_dense
    rows["time_share"] = rows.ms / rows.ms_dense
    return rows


def panels(rows, network, threads=1):
    """{runtime and batch: [(ranks, MACs / dense, time / dense)]}."""
    if rows is None:
        return {}
    mine = rows[(rows.network == network) & (rows.threads == threads)]
    found = {}
    for (runtime, batch), some in mine.groupby(["runtime", "batch"], sort=False):
        lines = [
            (kind, list(line.macs_share), list(line.time_share))
            for kind, line in some[some.ranks != "dense"].groupby("ranks", sort=False)
        ]
        found[f"{runtime},\nbatch {batch}"] = lines
    return found
