"""What readers take away: every notebook to open in Colab or to download.

The public address of the repository is one setting, ``repository`` in ``_config.yml``.
Without an address there is no button for Colab, and the first cell of a notebook can
only say what is missing.
"""

import json
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ..paths import ROOT
from ..system import write_whole

SETUP = "setup"  # the id and a tag of the cell that installs
# what notebooks need beyond the package's own needs
NEEDS = ("scikit-learn", "seaborn", "safetensors")
COLAB = "https://colab.research.google.com"

# %% of Jupyter's "percent" format starts a cell in editors that know cells
_CODE, _TEXT = "# %%\n", "# %% [markdown]\n"

_NOTHING_TO_INSTALL = """\
# This cell does nothing where the book's package is installed.
import importlib.util

if importlib.util.find_spec("maestro") is None:
    raise ModuleNotFoundError("maestro is missing: the book's page Start installs it")
"""

_INSTALL = """\
# Installs the book's package and records where they are missing, as in Colab.
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("maestro") is None:
    source = "git+{address}"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--src", "book"]
    subprocess.run([*command, {needs}, "-e", source], check=True)
    sys.path.append("book/maestro-book")
"""


class Source(NamedTuple):
    """Where the repository is: its public address, "" if unknown, and a tag of it."""

    url: str
    tag: str

    @property
    def pinned(self):
        """The address of this tag, as pip takes it after ``git+``."""
        return f"{self.url}@{self.tag}"


def source(root=ROOT):
    """The `Source` that ``_config.yml`` names.

    Raises ValueError if the address is not one of https, or has no tag.
    """
    import yaml

    config = yaml.safe_load((Path(root) / "_config.yml").read_text("utf-8"))
    told = config.get("repository") or {}
    url, tag = (str(told.get(name) or "") for name in ("url", "branch"))
    found = Source(url.rstrip("/"), tag)
    parts = urlsplit(found.url)
    if found.url and not (parts.scheme == "https" and parts.path.count("/") == 2):
        raise ValueError(
            f"repository url={found.url!r} in _config.yml: it takes "
            "https://HOST/OWNER/NAME, or nothing"
        )
    if found.url and not found.tag:
        raise ValueError("repository branch='' in _config.yml: it takes a tag")
    return found


# ---------------------------------------------------------------- the first code cell


def setup_cell(where):
    """The code cell that installs the package, and does nothing where it is there."""
    if where.url:
        needs = ", ".join(f'"{name}"' for name in NEEDS)
        address = f"{where.pinned}#egg=maestro-book"
        text = _INSTALL.format(address=address, needs=needs)
    else:
        text = _NOTHING_TO_INSTALL
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": SETUP,
        "metadata": {"tags": ["remove-cell", SETUP]},
        "outputs": [],
        "source": text.rstrip("\n").splitlines(keepends=True),
    }


def is_setup(cell):
    """Whether ``cell`` is the one that installs."""
    return SETUP in cell["metadata"].get("tags", ())


def with_setup(cells, where):
    """``cells`` with `setup_cell` behind the title, in place of an earlier one."""
    rest = [cell for cell in cells if not is_setup(cell)]
    return [rest[0], setup_cell(where), *rest[1:]]


# ---------------------------------------------------------------- files and links


def add(notebook, folder, where, page):
    """Put a notebook into ``folder`` as .ipynb and .py; link both on its page.

    Args:
        notebook: the stored notebook.
        folder: of the site's sources, beside the folder of ``page``.
        where: the `Source`.
        page: the executed notebook that becomes the page; the links go below its title.
    """
    content = json.loads(notebook.read_text("utf-8"))
    content["cells"] = with_setup(content["cells"], where)
    write_whole(folder / notebook.name, json.dumps(content, indent=1))
    write_whole(folder / f"{notebook.stem}.py", as_script(content["cells"]))
    shown = json.loads(page.read_text("utf-8"))
    title, _, text = "".join(shown["cells"][0]["source"]).partition("\n")
    links = links_of(notebook.stem, folder.name, where)
    shown["cells"][0]["source"] = f"{title}\n\n{links}\n{text}"
    write_whole(page, json.dumps(shown))


def as_script(cells):
    """The notebook as a Python file; text is in comments."""
    parts = []
    for cell in cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            parts.append(_CODE + text)
        else:
            lines = (f"# {line}".rstrip() for line in text.splitlines())
            parts.append(_TEXT + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def links_of(name, folder, where):
    """The line below a chapter's title, as MyST."""
    links = [
        f"{{download}}`Download the notebook <../{folder}/{name}.ipynb>`",
        f"{{download}}`or a Python script <../{folder}/{name}.py>`",
    ]
    if urlsplit(where.url).hostname == "github.com":
        path = f"{urlsplit(where.url).path}/blob/{where.tag}/notebooks/{name}.ipynb"
        links.insert(0, f"[Open in Colab]({COLAB}/github{path})")
    return "```{div} take-away\n" + "\n".join(links) + "\n```"
