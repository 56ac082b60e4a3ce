"""Means over the seeds of one variant; runs of several variants are never mixed.

A variant is a configuration without its seed: the method with all its options, the
recipe and the size (`config.variant`). Deviations are sample deviations (n - 1); a
single run has none.
"""

import math
from dataclasses import replace

import pandas as pd

from ..config import variant
from .cells import NOT_RUN, variant_name
from .records import config_of, flat

NEVER_MIXED = ("task", "model", "scale")  # of the runs of one table
MEASURED = ["test_accuracy", "best_accuracy", "perplexity", "macs", "params"]
MEASURED += ["train_macs_ratio", "train_params_ratio", "seconds", "joules"]
SAME = ["config", "method", "lambda_gl", "dense_params", "dense_macs", "precision"]


def per_run(records):
    """One row for each record: config, method, lambda_gl, seed, final figures, costs.

    The relative costs of training are those of Tables 11-15: the means over epochs of
    the parameters held and of the expected MACs, divided by the dense network's.

    records: {id: record}. Raises ValueError if tasks, models or scales are mixed.
    """
    rows = []
    for columns, record in zip(variant_columns(records), records.values(), strict=True):
        dense, history = record["dense"], record["history"]
        rows.append(
            {
                **columns,
                **record["final"],
                "best_accuracy": record["best"]["test_accuracy"],
                "train_macs_ratio": _mean(history["train_macs"]) / dense["macs"],
                "train_params_ratio": _mean(history["train_params"]) / dense["params"],
                # of training alone: older runs have training and evaluation together,
                # and not every device reports its energy
                "seconds": sum(history.get("seconds", [math.nan])),
                "joules": sum(history.get("joules", [math.nan])),
                "precision": record["ran_on"]["precision"],
                "dense_params": dense["params"],
                "dense_macs": dense["macs"],
            }
        )
    return pd.DataFrame(rows)


def variant_columns(records):
    """[{config, method, lambda_gl, seed, scale}] of ``records``, in their order.

    Raises ValueError if tasks, models or scales are mixed.
    """
    configs = [config_of(record) for record in records.values()]
    for name in NEVER_MIXED:
        values = sorted({getattr(config, name) for config in configs})
        if len(values) > 1:
            raise ValueError(f"{name}s are never mixed: {values}")
    return [
        {
            "config": config,
            "method": config.method,
            "lambda_gl": config.options.get("lambda_gl", math.nan),
            "seed": config.seed,
            "scale": config.scale,
        }
        for config in configs
    ]


def summary(records):
    """Means and deviations over seeds, one row for each variant, dense networks first.

    Columns: label (the unique name of the variant), config (of one of its runs),
    method, lambda_gl (nan for a method without one), dense_params, dense_macs,
    precision (several are joined by "and") and n; for each figure NAME the mean NAME
    and the deviation NAME_std.
    """
    runs = per_run(records)
    spread = [f"{name}_std" for name in MEASURED]
    if runs.empty:
        return pd.DataFrame(columns=["label", *SAME, *MEASURED, *spread, "n"])
    if "perplexity" not in runs:  # image classification
        runs["perplexity"] = math.nan
    groups = runs.groupby(runs.config.map(variant))
    means, deviations = groups[MEASURED].mean(), groups[MEASURED].std()
    means[spread] = deviations
    table = groups[SAME].first().join(means).join(groups.size().rename("n"))
    table["precision"] = groups.precision.agg(lambda p: " and ".join(sorted({*p})))
    table = table.loc[sorted(table.index, key=table.config.map(_order).get)]
    table.insert(0, "label", labels(table.config))
    return table.reset_index(drop=True)


def of_variant(frame, lambda_gl):
    """The rows of a `summary` or `per_run` with this lambda_gl (nan: the dense ones).

    Raises ValueError if the rows are of several variants.
    """
    if frame.empty:
        return frame
    if math.isnan(lambda_gl):
        rows = frame[frame.method == "dense"]
    else:
        near = (frame.lambda_gl - lambda_gl).abs() <= 1e-9 * max(1, lambda_gl)
        rows = frame[near]
    refuse_mixed(rows.config, variant_name(lambda_gl))
    return rows


def pick(table, lambda_gl):
    """The row of a `summary` with this lambda_gl (nan: the dense one), or None."""
    rows = of_variant(table, lambda_gl)
    return None if rows.empty else rows.iloc[0]


def by_threshold(records):
    """{eps_ps: {id: record}} in ascending order.

    Each set also holds the runs that no threshold affects: the dense runs and those
    without a lasso.
    """
    cut, others = {}, {}
    for key, record in records.items():
        options = record["config"]["options"]
        if options.get("lambda_gl"):
            cut.setdefault(options["eps_ps"], {})[key] = record
        else:
            others[key] = record
    return {eps: others | cut[eps] for eps in sorted(cut)}


def by_lambda(records, seed):
    """{lambda_gl: record} of the runs with a lasso and this seed, in ascending order.

    Raises ValueError if several variants have the same lambda_gl.
    """
    runs = {}
    for record in records.values():
        config = config_of(record)
        if config.seed == seed and "lambda_gl" in config.options:
            lambda_gl = config.options["lambda_gl"]
            first = runs.setdefault(lambda_gl, record)
            refuse_mixed([config_of(first), config], variant_name(lambda_gl))
    return dict(sorted(runs.items()))


def losses(records, method, lambda_gl=None):
    """Training losses by epoch, one list for each run of a variant.

    Args:
        records: {id: record}.
        method: the variant's method.
        lambda_gl: the variant's lambda_gl; None if the method has none.

    Raises:
        ValueError: the runs are of several variants.
    """
    runs = [
        record
        for record in records.values()
        if record["config"]["method"] == method
        and record["config"]["options"].get("lambda_gl") == lambda_gl
    ]
    refuse_mixed(map(config_of, runs), f"{method}, lambda_gl {lambda_gl}")
    return [record["history"]["train_loss"] for record in runs]


def refuse_mixed(configs, name):
    """Raise ValueError, with the fields that differ, unless all are of one variant."""
    apart = differences(list(configs))
    if apart:
        fields = "; ".join(
            f"{field}: {', '.join(map(str, dict.fromkeys(map(str, values))))}"
            for field, values in apart.items()
        )
        raise ValueError(f"{name} stands for several variants; take one of {fields}")


def where_it_differs(table, column="precision"):
    """``table``, without its column of precisions if all rows have the same one."""
    words = " and ".join(set(table[column]) - {NOT_RUN}).replace(", ", " and ")
    several = len(set(words.split(" and "))) > 1
    return table if several else table.drop(columns=[column])


def differences(configs):
    """{field: [value in each configuration]} of the fields that differ, but the seed.

    The value is None in a configuration that lacks the field.
    """
    fields = [flat(replace(config, seed=0).to_dict()) for config in configs]
    names = dict.fromkeys(name for one in fields for name in one)
    values = {name: [one.get(name) for one in fields] for name in names}
    return {
        name.rpartition(".")[2]: each
        for name, each in values.items()
        if any(value != each[0] for value in each)
    }


def labels(configs):
    """Unique names of variants: 'dense', or 'λ = 8e-5' and the fields that differ."""
    configs = list(configs)
    short = [_label(config) for config in configs]
    names = []
    for config, name in zip(configs, short, strict=True):
        like = [c for c, other in zip(configs, short, strict=True) if other == name]
        apart = differences(like)
        place = next(i for i, c in enumerate(like) if c is config)
        names.append(", ".join([name, *(f"{k} {v[place]}" for k, v in apart.items())]))
    return names


def _label(config):
    if config.method == "dense":
        return "dense"
    if "lambda_gl" in config.options:
        return variant_name(config.options["lambda_gl"])
    return config.method.capitalize()


def _order(config):
    """Dense networks first, then by method, by lambda_gl and by the other options."""
    lambda_gl = config.options.get("lambda_gl", -1)
    others = [
        (name, value) if isinstance(value, int | float) else (name, math.inf)
        for name, value in sorted(config.options.items())
    ]
    is_ours = config.method != "dense"
    return is_ours, config.method, lambda_gl, others, variant(config)


def _mean(values):
    return sum(values) / len(values)
