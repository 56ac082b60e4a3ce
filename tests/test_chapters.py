"""A chapter shows all scales with records, and the figures of the first of them."""

import pytest
from matplotlib.figure import Figure

from maestro.campaign import experiments
from maestro.publish.chapters import Chapter
from maestro.results import records
from maestro.results.published import paper_table


@pytest.fixture
def chapter():
    """ResNet-18 at two scales, of which the book has runs at one."""
    configs = {
        scale: experiments.resnet18_cifar10(scale, seeds=(0,))
        for scale in ("paper", "laptop")
    }
    return Chapter(configs, paper_table(12))


def test_a_scale_without_records_has_no_columns_of_ours(chapter, capsys):
    chapter.list_scales()
    paper, laptop = capsys.readouterr().out.splitlines()
    assert paper.startswith("paper: 0 of 11 runs have a record; width 64, 300 epochs")
    assert laptop.startswith("laptop: 4 of 4 runs have a record; width 8, 8 epochs")
    tables = chapter.footprints()
    assert list(tables) == ["paper", "laptop"]
    for table in tables["laptop"].tables:
        assert {where for _, where in table} == {"here"}
    assert "<details><summary>not run yet" in tables["paper"]._repr_html_()
    assert list(chapter.costs()) == ["laptop"]


def test_the_figures_show_the_first_scale_with_records(chapter):
    assert chapter.shown == "laptop"
    [ax] = chapter.progression().axes
    assert ax.get_title(loc="left") == "scale: laptop"
    for figure in (chapter.ranks_by_layer(), chapter.losses(), chapter.errors()):
        assert isinstance(figure, Figure)


def test_without_any_record_figures_and_verdicts_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RUNS", tmp_path)
    configs = {"paper": experiments.vgg19_cifar10(seeds=(0,))}
    chapter = Chapter(configs, paper_table(13))
    assert chapter.shown is None and chapter.costs() == {}
    figures = [chapter.progression(), chapter.ranks_by_layer()]
    for figure in [*figures, chapter.losses(), chapter.errors()]:
        assert any("not run yet" in text.get_text() for text in figure.axes[0].texts)
    for verdict in chapter.verdicts()["paper"]:
        assert str(verdict).endswith(": not run yet")
