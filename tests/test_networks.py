"""Other libraries' networks by everything that is done with a network: one test a cell.

The networks and the uses are those of ``benchmarks/networks.py``, which records the
table that the book shows. A cell works, or is refused for the reason recorded there.
"""

import json
import sys

import pytest

from maestro.paths import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import networks

RECORD = json.loads(networks.OUT.read_text("utf-8"))
ROWS = {row["network"]: row for row in RECORD["rows"]}


@pytest.fixture(params=networks.NETWORKS, ids=lambda network: network.name)
def network(request):
    try:
        networks.library(request.param.library)
    except ImportError:
        pytest.skip(f"{request.param.library} is not installed (requirements.txt)")
    return request.param


@pytest.mark.parametrize("use", networks.USES, ids=lambda use: use.__name__)
def test_use(network, use):
    result = use(network) or networks.WORKS
    assert result == ROWS[network.name]["uses"][use.__name__]


def test_what_stays_as_it_is(network):
    row = networks.described(network)
    assert row == {key: ROWS[network.name][key] for key in row} and row["layers"]


def test_the_record_is_of_these_networks_and_uses():
    assert list(ROWS) == [network.name for network in networks.NETWORKS]
    assert RECORD["uses"] == {use.__name__: use.__doc__ for use in networks.USES}
    for name in ("torchvision", "timm", "transformers"):
        assert sum(row["library"] == name for row in ROWS.values()) >= 4


def test_every_cell_works_or_has_a_reason_that_is_not_ours():
    for row in ROWS.values():
        for result in row["uses"].values():
            assert result == networks.WORKS or result.startswith("PyTorch cannot")
