"""What is read from a measurement: ratios, targets met and missed, or nothing."""

import pytest

from maestro.results import speed
from maestro.results.cells import NETWORKS


def row(kind, share, step, macs, inference):
    took = {"ratio": step, "low": step, "high": step, "ms": 100 * step}
    return {
        "batch": 32,
        "kind": kind,
        "share": share,
        "macs": macs,
        "made": macs + 100,
        "work": macs,
        "params": macs,
        "memory": macs,
        "step": took,
        "inference 1": {"ratio": inference},
        "inference 64": {"ratio": inference},
        "parts": {"linear maps": 80 * step, "rest": 20.0},
    }


def test_a_damaged_measurement_is_named(tmp_path):
    (tmp_path / "cpu.json").write_text("{")
    with pytest.raises(ValueError, match="cpu.json is damaged .*: take it from the"):
        speed.load("cpu", tmp_path)
    assert speed.load("cuda", tmp_path) is None


@pytest.fixture
def measurement():
    rows = [row("dense", 1.0, 1.0, 1000, 1.0)]
    for share, step in ((1.0, 1.2), (0.5, 0.7), (0.25, 0.45), (0.1, 0.2)):
        rows.append(row("lod", share, step, 1000 * share, step))
    rows.insert(3, row("narrow", 0.5, 0.6, 500, 0.6) | {"width": 45})
    case = {"product_ms": 2.0, "two_ms": 1.0}
    told = {
        "rows": rows,
        "lasso": {"subgradient": 5.0, "proximal": 20.0},
        "factorised": {"seconds": 0.5, "factors": 2e-6},
        "ways": [
            case | {"product": False},
            case | {"product": True},
            {"product_ms": 1.0, "two_ms": 1.04, "product": False},
        ],
    }
    ran = {"device": "CPU", "threads": 2, "precision": "float32", "torch": "2.13.0"}
    return {"ran_on": ran, "models": {"resnet18": told}}


def test_what_is_not_there_says_so(tmp_path):
    assert speed.load("cuda", tmp_path) is None
    assert speed.ran_on(None) == "not measured yet"


def test_what_it_ran_on(measurement):
    told = "CPU, 2 threads, float32, PyTorch 2.13.0"
    assert speed.ran_on(measurement) == told


def test_rows_are_ratios_to_dense(measurement):
    rows = speed.rows(measurement)
    half = rows.query("kind == 'lod' and share == 0.5").iloc[0]
    assert (half.macs, half.step, half.step_ms) == (0.5, 0.7, 70)
    assert rows.query("kind == 'narrow'").width.item() == 45


def test_the_tables_name_their_networks(measurement):
    table = speed.training_table(measurement, "resnet18", 32)
    names = ["LoD, all ranks", "LoD, half", "width 45, as half"]
    assert list(table.index) == [*names, "LoD, a quarter", "LoD, a tenth"]
    assert table.loc["LoD, all ranks", "time"] == "1.20"
    assert "launched" not in table
    table = speed.inference_table(measurement, "resnet18")
    assert dict(table.loc["LoD, half"]) == {
        "MACs": "0.50",
        "in sixteens": "0.55",
        "batch 1": "0.70",
        "batch 64": "0.70",
    }


def test_on_a_gpu_the_dense_step_launched_is_shown_too(measurement):
    for row in measurement["models"]["resnet18"]["rows"]:
        row["launched"] = {"ms": 300.0}
    table = speed.training_table(measurement, "resnet18", 32)
    assert dict(table.loc["dense"])["launched"] == "3.00"


def test_targets_are_met_up_to_their_bound(measurement):
    met = speed.step_targets(measurement).met
    assert dict(met) == {
        "step at all ranks, batch 32": False,
        "step at a quarter, batch 32": True,  # as much as it may be
        "step at a tenth, batch 32": True,
        "factorising, seconds": True,
        "function moved by it": False,
    }


def test_a_bound_is_printed_in_full(measurement):
    shown = speed.as_text(speed.step_targets(measurement))
    assert list(shown["at most"]) == ["1.12", "0.45", "0.33", "1", "1e-06"]
    assert not shown.loc["step at all ranks, batch 32", "met"]


def test_a_step_lies_above_its_macs_or_below(measurement):
    table, counts = speed.steps_over_macs(measurement)
    assert table.loc[("ResNet-18", "half"), ("time / MACs", "LoD")] == "1.40"
    assert table.loc[("ResNet-18", "half"), ("time / MACs", "narrow, dense")] == "1.20"
    assert counts == {"LoD": (3, 0, 3), "narrow, dense": (1, 0, 1)}
    narrow = measurement["models"]["resnet18"]["rows"][3]
    narrow["step"] |= {"ratio": 0.48, "low": 0.46, "high": 0.49}
    assert speed.steps_over_macs(measurement)[1]["narrow, dense"] == (0, 1, 1)
    narrow["step"] |= {"ratio": 0.49, "low": 0.46, "high": 0.51}
    assert speed.steps_over_macs(measurement)[1]["narrow, dense"] == (0, 0, 1)


def test_latency_is_held_against_macs(measurement):
    inference = speed.inference_targets(measurement)
    assert inference.loc["ResNet-18, half, batch 1", "measured"] == 1.4
    assert len(inference) == 8 and not inference.met.any()


def test_parts_leave_the_narrow_networks_out(measurement):
    parts = speed.parts(measurement, "resnet18")
    assert list(parts.columns)[:2] == ["dense", "LoD, all ranks"]
    assert parts.shape == (2, 5) and parts.loc["rest"].eq(20).all()


def test_ways_count_what_was_lost_by_the_slower_one(measurement):
    ways = speed.ways(measurement).loc["ResNet-18"]
    assert (ways["cases"], ways["product taken"], ways["wrong"]) == (3, 1, 1)
    assert ways["waste"] == pytest.approx((1 + 2 + 1.04) / 3 - 1)


def test_the_committed_measurement_can_be_read():
    measurement = speed.load("cpu")
    assert set(measurement["models"]) == set(NETWORKS) - {"resnet50"}
    # five dense networks; LoD at four shares of ranks; all but LeNet narrow at three
    assert len(speed.rows(measurement)) == 5 + 5 * 4 + 4 * 3


def test_latency_over_macs_and_over_what_is_made(measurement):
    over = speed.over(measurement, "inference", "macs")
    assert over.loc[("ResNet-18", "half"), ("batch 1", "LoD")] == "1.40"
    assert over.loc[("ResNet-18", "half"), ("batch 64", "narrow, dense")] == "1.20"
    assert over.loc[("ResNet-18", "a tenth"), ("batch 1", "narrow, dense")] == ""
    made = speed.over(measurement, "inference", "made")
    assert made.loc[("ResNet-18", "half"), ("batch 1", "LoD")] == "1.28"  # .7 / (6/11)
    assert speed.over(measurement, "folded", "macs").empty


def test_the_lassos_part_is_of_a_dense_step(measurement):
    part = speed.lassos(measurement).loc["ResNet-18"]
    assert dict(part) == {"subgradient": 0.05, "proximal": 0.2}


def test_a_gpus_targets_are_others(measurement):
    measurement["ran_on"]["device"] = "NVIDIA H100"
    targets = speed.step_targets(measurement)
    assert targets.loc["step at all ranks, batch 32", "at most"] == 1.1
    assert targets.loc["memory at all ranks, batch 32", "met"]
    assert speed.images_a_second(measurement) == {32: 320}


def test_ways_of_training_are_held_against_the_noise_of_seeds():
    runs = [
        {"way": way, "lambda_gl": 1e-4, "seed": seed, "total_rank": 5 + seed}
        | {"test_accuracy": 98 + more + seed}
        for way, more in (("by the book", 0), ("ours", 1))
        for seed in range(3)
    ]
    same = speed.same({"runs": runs})
    assert same.loc[(1e-4, "by the book"), "accuracy (%), off"] == 0
    ours = same.loc[(1e-4, "ours")]
    # the deviation between seeds is 1, that of a difference of means sqrt(2 / 3)
    assert ours["accuracy (%), off"] == pytest.approx(1.5**0.5)
    assert (ours["seeds"], ours["total rank, off"]) == (3, 0)
