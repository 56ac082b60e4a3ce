"""A Chromium for the tests of the built site: an existing one, or a new installation.

``python -m maestro.publish.browser`` is what ``make test`` calls.
"""

import os
import shutil
import subprocess
import sys

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NO_BROWSER = (
    "no Chromium found, so the tests of the built site are skipped: install one with "
    "`python -m playwright install chromium` or name it in the variable CHROMIUM"
)


def find_browser():
    """Path of a Chromium that starts, or None.

    In this order: the variable CHROMIUM, playwright's own, then the usual names.
    """
    names = [os.environ.get("CHROMIUM"), _playwrights_own(), *BROWSERS]
    for path in map(shutil.which, filter(None, names)):
        if path and _succeeds([path, "--version"], 30):
            return path
    return None


def install_browser():
    """Install a Chromium for the tests of the site, if there is none.

    A failed installation prints one line, because the tests are then skipped.
    """
    if find_browser():
        return
    print("no Chromium here; installing one for the tests of the site", flush=True)
    _succeeds([sys.executable, "-m", "playwright", "install", "chromium"], 600)
    root = hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get")
    if root and not find_browser():
        _succeeds(["apt-get", "-qq", "update"], 300)
        _succeeds(["apt-get", "-qq", "install", "-y", "chromium"], 900)
    if not find_browser():
        print(NO_BROWSER)


def _playwrights_own():
    """The path of playwright's Chromium, which may not exist."""
    try:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            return playwright.chromium.executable_path
    except Exception:  # not installed, or its driver does not run here
        return None


def _succeeds(command, timeout):
    """Run ``command`` quietly; whether it succeeds within ``timeout`` seconds."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(command, timeout=timeout, env=env, check=False, **quiet)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


if __name__ == "__main__":
    install_browser()
