"""requirements.lock: the version of every package that requirements.txt leads to.

``make lock`` writes it from the environment, for pip to take as constraints. A build's
own tag is left out (2.13.0, not 2.13.0+cpu), and so are the libraries that PyTorch's
builds for GPUs bring along, so that one file serves all builds.
"""

from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from ..paths import ROOT
from ..system import write_whole

REQUIREMENTS = ROOT / "requirements.txt"
LOCK = ROOT / "requirements.lock"
HEAD = "# Every version, by `make lock`, for: pip install -c requirements.lock\n"
OF_A_BUILD = ("nvidia-", "cuda-", "triton")  # what torch requires depends on its build


def main():
    """Write ``requirements.lock``."""
    write_whole(LOCK, locked(REQUIREMENTS.read_text("utf-8")))
    print(f"written: {LOCK.name}")


def locked(requirements):
    """The text of the lock file for the lines of ``requirements``.

    Raises ValueError if a package is not installed.
    """
    lines = [line for line in requirements.splitlines() if line.strip()]
    versions, todo = {}, [Requirement(line) for line in lines]
    done = set()
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        extras = frozenset(wanted.extras)
        if (name, extras) in done:
            continue
        done.add((name, extras))
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            raise ValueError(f"{name} is not installed: run `make book`") from None
        versions[name] = Version(package.version).public
        todo += [r for r in _requires(package, extras) if not _of_a_build(name, r)]
    pins = [f"{name}=={version}\n" for name, version in sorted(versions.items())]
    return HEAD + "".join(pins)


def _requires(package, extras):
    """What ``package`` requires on this system, with these ``extras``."""
    for line in package.requires or ():
        required = Requirement(line)
        marker = required.marker
        if marker is None or any(
            marker.evaluate({"extra": extra}) for extra in ("", *extras)
        ):
            yield required


def _of_a_build(name, required):
    return name == "torch" and required.name.lower().startswith(OF_A_BUILD)


if __name__ == "__main__":
    main()
