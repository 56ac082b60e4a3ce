"""The README's table is what the records give, to the letter."""

from maestro.campaign import experiments
from maestro.deploy import stored
from maestro.paths import ROOT
from maestro.results import records, tables, variants
from maestro.results.published import paper_table


def test_the_table_is_computed_from_the_records():
    runs = variants.by_threshold(records.find(experiments.lenet_mnist()))[1e-5]
    lambdas = (0.0, 16e-5, 64e-5, 256e-5)
    expected = tables.headline(runs, paper_table(11), lambdas)
    assert expected in (ROOT / "README.md").read_text("utf-8")


def test_the_network_that_the_readme_deploys_is_stored():
    kept = stored.networks()
    assert len(kept) == 4
    config = kept["06e4c153a7da"]
    assert (config.model, config.options["lambda_gl"]) == ("lenet", 0)
