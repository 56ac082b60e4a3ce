"""The published sizes, counted on shapes: which come out, and which do not."""

from maestro.publish.counts import published_counts


def test_all_parameters_come_out_and_one_count_of_macs_does_not():
    table = published_counts()
    assert table.parameters.to_dict() == {
        "Pufferfish, resnet18": "3,336,266",  # with batch norm after the stem
        "Pufferfish, vgg19": "8,370,634",
        "Spectral, vgg19": "397,642",
        "Pufferfish, resnet50": "15,202,344",
        "Pufferfish, transformer": "26,696,192",
    }
    off = table["parameters apart"].str.rstrip("%").astype(float).abs()
    assert (off < 1).all()
    macs = table["MACs apart"]
    assert macs["Pufferfish, transformer"] == "-25.1%"
    assert macs["Spectral, vgg19"] == "–"
    assert macs["Pufferfish, resnet50"] == "-1.8%"
