"""The compact network on CIFAR-10: what it reaches, plain and with six views."""

import pandas as pd

from .cells import plus_minus
from .confidence import gap
from .variants import of_variant, per_run
from .verdicts import Verdict, bounds

DENSE = float("nan")  # the lambda_gl of a dense run


def reaches(records, wanted):
    """The `Verdict` on "the dense network reaches ``wanted`` per cent, plain".

    records: {id: record} of one scale, without narrow networks.
    """
    claim = f"The dense network reaches {wanted:g} %"
    accuracy = _dense_accuracy(records)
    if accuracy.empty:
        return Verdict(claim)
    above, say = gap(accuracy - wanted), "{:+.2f} points".format
    return Verdict(
        claim,
        above.above(0),
        accuracy.mean(),
        n=len(accuracy),
        sentence=f"{plus_minus(accuracy.mean(), accuracy.std(), '.2f')} %, "
        f"{say(above.mean)} above{bounds(above, say)}",
        say="{:.2f} %".format,
    )


def views_table(records):
    """Accuracy of one view and of six, of the runs whose weights were kept."""
    rows = {}
    for record in records.values():
        point = record["studies"].get("views", {}).get("six")
        if point:
            name = f"{record['config']['method']}, seed {record['config']['seed']}"
            rows[name] = {
                "one view (%)": f"{record['final']['test_accuracy']:.2f}",
                "six views (%)": f"{point['test_accuracy']:.2f}",
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def _dense_accuracy(records):
    runs = per_run(records)
    return runs if runs.empty else of_variant(runs, DENSE).test_accuracy
