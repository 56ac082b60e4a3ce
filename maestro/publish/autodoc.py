"""A Sphinx extension: this package's docstrings as reStructuredText.

The docstrings are plain text. Norms have bars, which would open a substitution in
reStructuredText, and an error of this package is named without its module.
"""

import re

from ..system import DiskError

DISK_ERROR = f"{DiskError.__module__}.{DiskError.__name__}"


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _escape, priority=900)
    return {"parallel_read_safe": True}


def _escape(app, what, name, obj, options, lines):
    """Change ``lines`` in place: bars outside of literals, and the full name."""
    for place, line in enumerate(lines):
        line = line.replace(":raises DiskError:", f":raises ~{DISK_ERROR}:")
        parts = re.split(r"(``.*?``)", line)
        parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
        lines[place] = "".join(parts)
