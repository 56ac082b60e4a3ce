"""What benchmarks/stress.py counted: kills, repeats of the notebooks, wrong inputs."""

KILLS = {
    "training": "kills of the process of one training",
    "campaign": "kills of all processes of a campaign at once",
    "writing": "kills of a process that writes records",
}
INPUTS = {
    "commands": "wrong commands and options",
    "parameters": "wrong parameters of notebooks",
    "papermill": "wrong parameters through papermill itself",
    "functions": "wrong arguments of functions",
    "damaged files": "commands that meet a damaged file",
    "disks": "commands that meet a full or read-only disk",
}
HEAD = ("test", "times", "result")


def failures(counts):
    """One line for each thing that went wrong; an empty list if nothing did."""
    kills, differences = counts["kills"], counts["notebooks"]["differences"]
    lost, different = kills["records_lost"], kills["runs"] - kills["equal"]
    lines = [f"{lost} records were lost"] if lost else []
    lines += [f"{different} runs differ from the undisturbed one"] if different else []
    lines += [f"a notebook printed something else: {where}" for where in differences]
    return lines + [f"wrong input: {line}" for line in counts["inputs"]["failures"]]


def rows(counts):
    """The rows of the book's table, as HEAD names the columns."""
    kills, books, inputs = counts["kills"], counts["notebooks"], counts["inputs"]
    table = [(KILLS[kind], number, "") for kind, number in kills["kills"].items()]
    equal = f"{kills['equal']} equal to the undisturbed run"
    different = f"{len(books['differences'])} differences in {books['cells']:,} cells"
    table += [
        ("all kills", sum(kills["kills"].values()), f"{kills['records_lost']} lost"),
        ("runs of the killed campaigns", kills["runs"], equal),
        ("of these, resumed from a checkpoint", kills["resumed"], ""),
        ("repeats of the notebooks", books["repeats"], different),
    ]
    return table + [
        (INPUTS[kind], count["given"], f"{count['answered']} answered in one line")
        for kind, count in inputs["kinds"].items()
    ]


def conditions(counts):
    """When, on what and how the counts were made, in two or three sentences."""
    times = counts["notebooks"]["times"]
    most = max(times.values(), default=0)
    rare = ", ".join(f"{name} {n} times" for name, n in times.items() if n < most)
    return (
        f"The counts are of {counts['date']}, commit `{counts['commit']}`, and took "
        f"{counts['minutes']:g} minutes on {counts['cores']} cores of "
        f"{counts['processor']}. PyTorch ran the notebooks in turn with "
        f"{', '.join(counts['notebooks']['settings'])}"
        + (f"; the slow notebooks took part less often ({rare})" if rare else "")
        + f". The disks were {counts['inputs']['disks']}."
    )
