"""What the page Start says of this repository's address and of measured gains."""

from ..results import speed
from ..results.cells import NETWORKS, NOT_MEASURED
from .generated import markdown_table

SHOWN = ("resnet18", "vgg19", "transformer")
COLUMNS = {
    "parameters": "params",
    "MACs": "macs",
    "time, batch 1": "inference_1",
    "time, batch 64": "inference_64",
    "training step": "step",
    "memory, training": "memory",
}
SMALL = "lenet"
UNMEASURED = f"{NOT_MEASURED.capitalize()}: `make bench` does it.\n"


def install_lines(where):
    """How to install from the repository, as Markdown; nothing if it has no address."""
    if not where.url:
        return ""
    return (
        "Without a copy of the repository, pip takes a tag of it:\n\n"
        f'```bash\npip install "maestro-book @ git+{where.pinned}"\n```\n'
    )


def gains_table(measurement):
    """Merged networks of some shares of the ranks against dense ones, as Markdown.

    measurement: of `speed.load`, or None.
    """
    if measurement is None:
        return UNMEASURED
    lines = speed.rows(measurement).query("kind == 'lod' and share in (0.5, 0.25)")
    cells = [
        [
            f"{NETWORKS[line['model']]}, {speed.SHARES[line['share']]} of the ranks",
            *(f"{line[column]:.2f}" for column in COLUMNS.values()),
        ]
        for line in lines.drop_duplicates(["model", "share"]).to_dict("records")
        if line["model"] in SHOWN
    ]
    table = markdown_table(("network", *COLUMNS), cells)
    return f"{table}\nMeasured on: {speed.ran_on(measurement)}.\n"


def losses(rows):
    """What low rank does to the time of a small network, in one or two sentences.

    rows: of `times.load`, or None.
    """
    if rows is None:
        return f"{NOT_MEASURED.capitalize()}: `benchmarks/latency.py` does it.\n"
    small = rows.query("runtime == 'PyTorch' and ranks == 'as they are'")
    ratios = small[small.network == NETWORKS[SMALL]].time_share
    took = f"{ratios.min():.1f} to {ratios.max():.1f}"
    if ratios.min() > 1:
        return (
            "Small networks become slower. Trained and merged, LeNet takes "
            f"{took} times as long as the dense LeNet in PyTorch on a CPU, depending "
            "on ranks, threads and images: a second small layer costs more than the "
            "multiplications that it saves.\n"
        )
    return (
        "Small networks gain little. Trained and merged, LeNet takes "
        f"{took} times as long as the dense LeNet in PyTorch on a CPU, depending "
        "on ranks, threads and images: a second small layer costs about as much as "
        "the multiplications that it saves.\n"
    )
