"""The command line: python -m maestro COMMAND."""

import argparse
import os
import sys

from .publish import parameters
from .training.distributed import is_main, joined

# {option of deploy: what it limits}
BUDGETS = {"params": "parameters", "macs": "MACs", "mb": "megabytes", "ms": "ms"}


def main(argv=None):
    """Run one command; errors of use are one line on stderr and exit status 2."""
    parser = Parser(prog="python -m maestro", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    args = parser.parse_args(argv)
    if args.command is None:
        parser.error(f"name a command: {', '.join(commands.choices)}")
    try:
        return args.do(args) or 0
    except KeyboardInterrupt:
        if is_main():
            print("stopped; what was trained so far is kept, run it again to go on")
        return 130
    except BrokenPipeError:  # of `| head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, RuntimeError, OSError) as error:
        _tell(error)
        return 2
    except ModuleNotFoundError as error:
        _tell(f"{error}; `make book` installs what the book needs")
        return 2


class Parser(argparse.ArgumentParser):
    """As argparse's, but errors are one line and words are never guessed."""

    def __init__(self, **more):
        super().__init__(allow_abbrev=False, **more)

    def error(self, message):
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def _tell(error):
    """Print one line. If all processes raise one error, only the first prints it."""
    if is_main():
        where = "error:"
    elif isinstance(error, ValueError):
        return
    else:
        where = f"error in process {os.environ['RANK']}:"
    print(where, " ".join(str(error).split("\n")), file=sys.stderr)


def _number(command, name, parameter, default=None):
    """An option that is read as ``parameter`` of a notebook would be."""

    def read(text):
        try:
            return parameter.read(name, text)
        except ValueError as error:
            command.error(str(error))

    command.add_argument(name, type=read, default=default, help=parameter.help)


def _run(commands):
    command = commands.add_parser(
        "run", help="run a notebook with your own parameters, name=value"
    )
    command.add_argument("notebook")
    command.add_argument("parameters", nargs="*", metavar="name=value")
    command.add_argument("-o", "--output", help="where to write the executed notebook")
    command.set_defaults(do=_do_run)


def _do_run(args):
    from .publish.notebooks import run

    path = run(args.notebook, args.parameters, args.output)
    if path:
        print(f"written: {path}")


def _campaign(commands):
    command = commands.add_parser("campaign", help="train every run without a record")
    command.add_argument("--list", action="store_true", help="show them, train nothing")
    command.add_argument(
        "--only",
        default="",
        help="an experiment, as 'systems, lenet', or part of a run's description",
    )
    _number(command, "--workers", parameters.KNOWN["workers"], 1)
    command.add_argument("--device", default="auto")
    minutes = parameters.Parameter(float, "stop when they are over", low=0.1)
    _number(command, "--budget-minutes", minutes)
    command.add_argument(
        "--eager", action="store_true", help="on a GPU, record no steps to replay"
    )
    command.add_argument(
        "--precision",
        default="auto",
        help="auto (as the recipe says), float32 or bfloat16",
    )
    command.set_defaults(do=_do_campaign)


def _do_campaign(args):
    from .campaign import catalog, describe, missing
    from .deploy.studies import train_and_study

    configs = catalog.chosen(args.only)
    if not configs:
        names = [repr(name) for name in catalog.NAMED if args.only in name]
        where = f"experiments that do: {', '.join(names)}" if names else "see --list"
        raise ValueError(f"--only {args.only!r}: no run's description has it; {where}")
    if args.list:
        todo = missing(configs)
        for config in todo:
            print(config.id, describe(config))
        print(f"{len(todo)} of {len(configs)} runs have no record yet")
        return
    more = {"minutes": args.budget_minutes, "eager": args.eager}
    more["precision"] = args.precision
    with joined(args.device) as group:
        train_and_study(configs, args.device, args.workers, group=group, **more)


def _records(commands):
    command = commands.add_parser(
        "records", help="list and verify the run records, or compare two"
    )
    command.add_argument("ids", nargs="*", help="two ids: say what differs")
    command.add_argument(
        "--coverage",
        action="store_true",
        help="the share of the paper's table rows that have a run, per scale",
    )
    command.set_defaults(do=_do_records)


def _do_records(args):
    from .campaign import describe
    from .results import records

    if args.ids and args.coverage:
        raise ValueError("--coverage takes no ids: it counts all records")
    if args.ids:
        return _compare(args.ids)
    good, bad = records.read_all()
    if args.coverage:
        from .campaign.catalog import lacking
        from .results.coverage import coverage

        print(coverage(good).T.to_string())
        print("\nRuns that are missing, and what trains them:")
        for name, left, total in lacking():
            command = f'python -m maestro campaign --only "{name}"'
            print(f"{left:>4} of {total:>3}  {command}")
        return int(bool(bad))
    for run_id, record in good.items():
        final, trained_in = record["final"], record["ran_on"].get("precision")
        print(
            f"{run_id}  {describe(records.config_of(record))}: "
            f"{final['test_accuracy']:.2f} %, {final['params']:,} parameters, "
            f"trained in {trained_in or 'an unknown precision'}"
        )
    for problem in bad.values():
        print(f"not readable: {problem}", file=sys.stderr)
    print(f"{len(good)} good records, {len(bad)} not readable")
    return int(bool(bad))


def _compare(ids):
    from .results import records

    if len(ids) != 2:
        raise ValueError(f"{len(ids)} ids given; name two to compare them")
    for name, one, other in records.compare(
        *(records.read(records.path_of(run_id)) for run_id in ids)
    ):
        print(f"{name}: {one} | {other}")


def _deploy(commands):
    command = commands.add_parser(
        "deploy", help="cut a trained network to a budget and write it as one file"
    )
    command.add_argument("source", metavar="RUN_OR_FILE", help="a run's id, or a file")
    for unit, what in BUDGETS.items():
        command.add_argument(
            f"--{unit}",
            type=_amount,
            help=f"the most {what}: a number, or 0.5x for half the dense network's",
        )
    command.add_argument(
        "--by", default="loss per parameter", help="what hurts least: see greedy"
    )
    command.add_argument(
        "--out", required=True, help="a name in .safetensors, .onnx or .pt2"
    )
    command.set_defaults(do=_do_deploy)


def _amount(text):
    """A budget as a number where it is one; else the text, which says what is right."""
    try:
        return float(text)
    except ValueError:
        return text


def _do_deploy(args):
    from .deploy.shipping import deploy

    limits = {unit: getattr(args, unit) for unit in BUDGETS}
    print("\n".join(deploy(args.source, args.out, args.by, **limits)))


def _data(commands):
    command = commands.add_parser("data", help="fetch, check and prepare a data set")
    command.add_argument("name")
    command.set_defaults(do=_do_data)


def _do_data(args):
    from .datasets import PREPARE

    if args.name not in PREPARE:
        raise ValueError(f"no data set {args.name!r}; there is: {', '.join(PREPARE)}")
    print(f"ready: {PREPARE[args.name]()}")


def _book(commands):
    command = commands.add_parser("book", help="run every notebook, build the site")
    jobs = parameters.Parameter(int, "notebooks at a time", low=1, high=64)
    _number(command, "--jobs", jobs, 2)
    command.set_defaults(do=_do_book)


def _do_book(args):
    from .publish.site import build

    build(args.jobs)


def _notebooks(commands):
    command = commands.add_parser(
        "notebooks", help="run notebooks anew and store their outputs in them"
    )
    command.add_argument("name", nargs="*", help="which; all if none is named")
    command.set_defaults(do=_do_notebooks)


def _do_notebooks(args):
    from .publish import notebooks

    for path in [parameters.find(name) for name in args.name or parameters.notebooks()]:
        notebooks.refresh(path)
        print(f"stored: {path.stem}")
    _do_claims(args)


def _claims(commands):
    command = commands.add_parser("claims", help="make the page of claims anew")
    command.set_defaults(do=_do_claims)


def _do_claims(args):
    from .publish import cards

    print(f"written: {cards.refresh()}")


def _doctor(commands):
    command = commands.add_parser("doctor", help="say what this machine has and lacks")
    command.set_defaults(do=_do_doctor)


def _do_doctor(args):
    from .publish.doctor import report

    return report()


COMMANDS = (
    _run,
    _campaign,
    _records,
    _deploy,
    _data,
    _book,
    _notebooks,
    _claims,
    _doctor,
)

if __name__ == "__main__":
    sys.exit(main())
