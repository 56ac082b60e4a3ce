"""Pictures read by workers: the same ones, wherever a pass is taken up and by whom."""

import hashlib
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from maestro import datasets, methods
from maestro.config import Recipe, RunConfig
from maestro.datasets import DataError
from maestro.datasets.imagenet import FolderTask
from maestro.datasets.torchvision_repair import import_torchvision
from maestro.training.fit import Interrupted
from maestro.training.loop import Training

SIZES = {"train": (9, 4), "val": (3, 2)}  # pictures of each of two classes


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """19 pictures of several shapes, one of them grey, and a file that is none."""
    monkeypatch.setenv("MAESTRO_DATA", str(tmp_path))
    root, rng = tmp_path / "pictures", np.random.default_rng(0)
    for split, counts in SIZES.items():
        for wnid, count in zip(("n01", "n02"), counts, strict=True):
            (root / split / wnid).mkdir(parents=True)
            for i in range(count):
                shape = (30 + i, 40 - i, 3) if i != 1 else (33, 32)
                pixels = rng.integers(0, 256, shape, np.uint8)
                suffix = (".JPEG", ".png")[i % 2]
                Image.fromarray(pixels).save(root / split / wnid / f"{i}{suffix}")
    (root / "train" / "n01" / "notes.txt").write_text("no picture")
    return root


def task_of(tree, workers=0):
    return FolderTask(tree, size=16, workers=workers)


def same(batches, others):
    pairs = zip(batches, others, strict=True)
    return all(torch.equal(a, b) for x, y in pairs for a, b in zip(x, y, strict=True))


def test_the_task_is_what_the_tree_holds(tree):
    task = task_of(tree)
    assert len(task) == 13 and task.classes == 2 and task.metric == "accuracy"
    assert task.example.shape == (1, 3, 16, 16)
    batches = list(task.epoch(5, seed=1))
    assert [x.shape for x, _ in batches] == [(n, 3, 16, 16) for n in (5, 5, 3)]
    assert all(x.dtype == torch.float32 and y.dtype == torch.int64 for x, y in batches)
    assert torch.cat([y for _, y in batches]).bincount().tolist() == [9, 4]


def test_pixels_are_normalised_as_on_imagenet(tree):
    for path in tree.rglob("*.*"):
        if path.suffix in (".png", ".JPEG"):
            Image.new("RGB", (20, 20), (255, 0, 51)).save(path)
    x, _ = next(task_of(tree).epoch(4, seed=1))
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    # JPEG keeps a colour to within a level or two
    assert x.mean((0, 2, 3)).tolist() == pytest.approx(expected, abs=0.03)


def test_a_pass_is_decided_by_its_seed(tree):
    task = task_of(tree)
    first = list(task.epoch(5, seed=1))
    torch.manual_seed(99)
    assert same(first, list(task.epoch(5, seed=1)))
    assert not same(first, list(task.epoch(5, seed=2)))


def test_augmentation_differs_from_picture_to_picture(tree):
    for path in tree.rglob("*.*"):
        if path.suffix in (".png", ".JPEG"):
            ramp = np.arange(40 * 40 * 3, dtype=np.uint32).reshape(40, 40, 3) // 19
            Image.fromarray(ramp.astype(np.uint8)).save(path, format="png")
    (x, _), *_ = task_of(tree).epoch(13, seed=1)
    assert len({tuple(image.flatten().tolist()) for image in x}) == 13


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_is_taken_up_where_it_was_by_any_workers(workers, tree):
    whole = list(task_of(tree).epoch(5, seed=1))
    for done in range(4):
        rest = list(task_of(tree, workers).epoch(5, seed=1, done=done))
        assert same(rest, whole[done:])


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_leaves_all_randomness_alone(workers, tree):
    task, before = task_of(tree, workers), torch.get_rng_state()
    list(task.epoch(5, seed=1))
    list(task.test_batches(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_process_reads_its_share_and_knows_all_labels(tree, monkeypatch):
    task, whole = task_of(tree), list(task_of(tree).epoch(5, seed=4))
    opened = []
    really = Image.open
    monkeypatch.setattr(Image, "open", lambda path: opened.append(path) or really(path))
    task.rows = lambda count: slice(count // 2, count)
    for (pixels, labels), (all_pixels, all_labels) in zip(
        task.epoch(5, seed=4), whole, strict=True
    ):
        mine = task.rows(len(labels))
        assert torch.equal(pixels[mine], all_pixels[mine])
        assert torch.equal(labels, all_labels)
    assert len(opened) == 3 + 3 + 2


def test_the_processes_of_a_machine_share_its_cores(tree, monkeypatch):
    monkeypatch.setattr("maestro.datasets.imagenet.cores", lambda: 24)
    assert FolderTask(tree).workers == 16
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert FolderTask(tree).workers == 3


def test_validation_is_the_centre_of_each_picture_once(tree):
    t = import_torchvision().transforms
    steps = [t.Resize(18), t.CenterCrop(16), t.ToTensor()]
    steps.append(t.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    transform, paths = t.Compose(steps), sorted((tree / "val").glob("*/*"))
    expected = torch.stack([transform(Image.open(p).convert("RGB")) for p in paths])
    batches = list(task_of(tree).test_batches(2))
    assert torch.cat([y for _, y in batches]).tolist() == [0, 0, 0, 1, 1]
    assert torch.allclose(torch.cat([x for x, _ in batches]), expected, atol=1e-5)


def test_evaluation_counts_each_picture_once(tree):
    class First(nn.Module):
        def forward(self, x):
            return torch.tensor([[2.0, 0.0]]).expand(len(x), -1)

    figures = task_of(tree).evaluate(First(), batch_size=2)
    assert figures["test_accuracy"] == pytest.approx(60)
    each = torch.tensor([2.0, 0.0]).log_softmax(0)
    expected = -(3 * each[0] + 2 * each[1]).item() / 5
    assert figures["test_loss"] == pytest.approx(expected, rel=1e-6)


def test_it_trains_and_resumes_through_the_loop(tree):
    recipe = Recipe(epochs=1, batch_size=4, lr=0.01)
    options = {"lambda_gl": 1e-3, "eps_ps": 1e-7}
    run = RunConfig("n", "resnet18", "maestro", recipe, options, size={"width": 4})
    config = methods.resolve(run)
    taken = []

    def after_step(training):
        if training.step == 2:
            taken.append(training.state_dict())
            raise Interrupted

    run = Training(config, task=task_of(tree, workers=2))
    with pytest.raises(Interrupted):
        run.run_epoch(after_step)
    straight, again = (Training(config, task=task_of(tree)) for _ in range(2))
    straight.run_epoch()
    torch.manual_seed(99)
    again.load_state_dict(taken[0])
    again.run_epoch()
    for name in ("train_loss", "test_loss", "test_accuracy"):
        assert again.history.lines[0][name] == straight.history.lines[0][name]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_picture_is_named(workers, tree):
    (tree / "train" / "n02" / "2.JPEG").write_bytes(b"nothing")
    with pytest.raises(DataError, match="n02/2.JPEG is damaged"):
        list(task_of(tree, workers).epoch(5, seed=1))


def test_the_fingerprint_is_that_of_the_list(tree):
    first = task_of(tree).fingerprint
    assert task_of(tree).fingerprint == first
    (tree / "val" / "n02" / "0.JPEG").rename(tree / "val" / "n02" / "9.JPEG")
    assert task_of(tree).fingerprint != first


def test_a_tree_that_is_not_whole_is_refused(tree):
    (tree / "val" / "n02").rename(tree / "n02")
    with pytest.raises(DataError, match="train and val have different classes"):
        task_of(tree)
    (tree / "val" / "n01").rename(tree / "n01")
    with pytest.raises(DataError, match="val holds no pictures"):
        task_of(tree)
    (tree / "val").rmdir()
    with pytest.raises(DataError, match="val is missing: put the pictures there as"):
        task_of(tree)


# ---------------------------------------------------------------- by name


def test_without_imagenet_the_error_says_what_to_do(tree):
    assert not datasets.available("imagenet")
    for ask in (lambda: datasets.load("imagenet"), datasets.PREPARE["imagenet"]):
        with pytest.raises(DataError, match="imagenet is missing: register .* put"):
            ask()


def test_other_pictures_are_not_taken_for_imagenet(tree, tmp_path, monkeypatch):
    tree.rename(tmp_path / "imagenet")
    assert datasets.available("imagenet")
    with pytest.raises(
        DataError, match="not ImageNet-1k: 2 classes, 13 training and 5"
    ):
        datasets.load("imagenet")
    monkeypatch.setattr(datasets.imagenet, "IMAGENET_SIZES", (2, 13, 5))
    task = datasets.load("imagenet")
    assert len(task) == 13 and task.example.shape == (1, 3, 224, 224)
    assert datasets.PREPARE["imagenet"]() == tmp_path / "imagenet"


@pytest.fixture
def archive(tree, tmp_path, monkeypatch):
    """imagenette2.tgz in small, put in the data folder by hand."""
    path = tmp_path / "imagenette2.tgz"
    with tarfile.open(path, "w:gz") as file:
        file.add(tree, "imagenette2")
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    source = replace(datasets.imagenet.IMAGENETTE, md5=md5, mirrors=())
    monkeypatch.setattr(datasets.imagenet, "IMAGENETTE", source)
    return path


def test_imagenette_is_unpacked_once(archive, tmp_path):
    with pytest.raises(DataError, match="imagenette2 is missing; .*data imagenette"):
        datasets.load("imagenette")
    assert datasets.PREPARE["imagenette"]() == tmp_path / "imagenette2"
    assert datasets.available("imagenette") and len(datasets.load("imagenette")) == 13
    archive.unlink()
    assert datasets.PREPARE["imagenette"]() == tmp_path / "imagenette2"


def test_a_full_disk_leaves_no_half_tree(archive, tmp_path, monkeypatch):
    def full(self, path, **_):
        (path / "imagenette2" / "train").mkdir(parents=True)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "extractall", full)
    with pytest.raises(OSError, match="No space left"):
        datasets.PREPARE["imagenette"]()
    assert {path.name for path in tmp_path.iterdir()} == {"pictures", archive.name}
