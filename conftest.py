"""Says below every stored output that differs how to accept the new one."""

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and item.path.suffix == ".ipynb":
        one = f"`python -m maestro notebooks {item.path.stem}`"
        report.sections.append(
            (
                "If the new output is right",
                f"`make notebooks` stores it for every notebook, {one} for this one.",
            )
        )
    return report
