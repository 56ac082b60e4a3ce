"""The lock file names every package, and nothing of the machine that wrote it."""

import re
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from maestro.publish import lock

PINS = [line for line in lock.LOCK.read_text("utf-8").splitlines() if line[:1] != "#"]
WANTED = [Requirement(line) for line in lock.REQUIREMENTS.read_text().splitlines()]


def test_every_line_is_one_version_of_one_package():
    """No paths, no hosts, no tag of a build such as 2.13.0+cpu."""
    for line in PINS:
        assert re.fullmatch(r"[a-z0-9-]+==[a-z0-9.]+", line), line
    assert PINS == sorted(set(PINS), key=lambda line: line.split("=")[0])


def test_the_lock_agrees_with_the_requirements_and_leads_further():
    """If this fails, a requirement changed: `make lock` writes the file anew."""
    pins = dict(line.split("==") for line in PINS)
    for wanted in WANTED:
        version = pins[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version), wanted
    assert {"sympy", "sphinx", "nbclient", "scipy"} <= pins.keys()


class Package:
    def __init__(self, version, *requires):
        self.version, self.requires = version, requires


def test_what_is_locked(monkeypatch):
    packages = {
        "torch": Package("2.13.0+cu130", "nvidia-cublas==13.1", "triton>=3", "jinja2"),
        "jinja2": Package("3.1", "MarkupSafe>=2", 'babel; extra == "i18n"'),
        "markupsafe": Package("3.0", 'colorama; sys_platform == "nowhere"'),
        "babel": Package("2.0", "jinja2[i18n]"),  # a circle
        "nvidia-ml-py": Package("13.6"),
    }
    monkeypatch.setattr(metadata, "distribution", packages.__getitem__)
    pins = ["jinja2==3.1", "markupsafe==3.0", "torch==2.13.0"]
    assert lock.locked("torch==2.13.0\n").splitlines()[1:] == pins
    found = lock.locked("Jinja2[i18n]\nnvidia_ml_py\n").splitlines()[1:]
    assert found == ["babel==2.0", *pins[:2], "nvidia-ml-py==13.6"]


def test_a_package_that_is_missing_is_named():
    with pytest.raises(ValueError, match="no-such-package is not installed"):
        lock.locked("no_such.package==1")
