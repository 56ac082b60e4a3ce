"""The figures to touch, in a browser: what they compute is what the package computes.

The page of the tests is the raw part of book/touch.md, from the disk as for a reader
who has unpacked the book, without the theme.
"""

import copy
import json
import re
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch

import maestro
from maestro import theory
from maestro.deploy import stored
from maestro.deploy.cuts import at_ranks
from maestro.lowrank import proximal_step
from maestro.paths import ROOT
from maestro.publish import touch

BOOK = ROOT / "book"
HEAD = "<!doctype html><html lang=en><head><meta charset=utf-8><title>x</title></head>"
CUTS = {  # one of each form: all dense, all thin, mixed
    "whole": [6, 16, 120, 84, 10],
    "thin": [3, 8, 20, 15, 5],
    "mixed": [6, 9, 90, 10, 10],
    "smallest": [1, 1, 1, 1, 1],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page of the figures with its scripts and data."""
    folder = tmp_path_factory.mktemp("touch")
    shutil.copytree(BOOK / "assets" / "touch", folder / "_static" / "touch")
    touch.write(folder / "_static" / "touch")
    text = (BOOK / "touch.md").read_text("utf-8")
    raw = re.findall(r"```\{raw\} html\n(.*?)```", text, re.S)
    (folder / "book").mkdir()
    (folder / "book" / "touch.html").write_text(HEAD + "".join(raw), "utf-8")
    return folder


@contextmanager
def opened(browser, folder, **options):
    """The page, open; it may say no error and ask for nothing but files of its own."""
    page, wrong = browser.new_page(**options), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    page.on("request", lambda r: r.url.startswith("file:") or wrong.append(r.url))
    page.goto((folder / "book" / "touch.html").as_uri())
    try:
        yield page
    finally:
        page.close()
    assert not wrong, wrong


def test_a_script_of_data_is_valid_and_whole():
    text = touch.script("a", {"x": "λ </script>", "y": [1.5, None]})
    found = re.fullmatch(r"\(window.touchData \?\?= {}\)\.(\w+) = (.*);\n", text)
    name, data = found.groups()
    assert name == "a" and json.loads(data) == {"x": "λ </script>", "y": [1.5, None]}


def test_runs_of_zeros_come_back():
    data = bytes([0] * 700 + [5, 0, 7, 9] + [0] * 255 + [1])
    packed, back, place = touch.zeros_counted(data), b"", 0
    while place < len(packed):
        zero = packed[place] == 0
        back += bytes(packed[place + 1]) if zero else packed[place : place + 1]
        place += 1 + zero
    assert back == data and len(packed) == 6 + 1 + 2 + 2 + 2 + 1


# ---------------------------------------------------------------- a linear map

TRAINED = """([seed, draws, lambda, proximal]) => {
  const { problems, lr, ...shape } = touchData.ordering;
  const descent = new touch.Descent({ ...shape, ...problems[seed] }, lr);
  for (const b of draws) descent.step(b, lambda, proximal);
  return { U: Array.from(descent.U), V: Array.from(descent.V), sizes: descent.sizes(),
           ranks: [1e-9, 1e-4, 1, 7].map((eps) => descent.rank(eps)) };
}"""


@pytest.mark.parametrize("proximal", [False, True], ids=["subgradient", "proximal"])
@pytest.mark.parametrize("lambda_gl", [0.0, 2e-4, 1e-2])
def test_the_page_trains_as_the_theory_does(browser, folder, lambda_gl, proximal):
    data, seed, steps = touch.ordering(), 1, 300
    m, n, r = (data[name] for name in "mnr")
    A = np.reshape(data["problems"][seed]["A"], (m, n))
    U, V = (np.reshape(data["problems"][seed][k], (1, -1, r)) for k in "UV")
    rng = np.random.default_rng([seed, 2])  # that of theory.sgd
    draws = rng.choice(r, size=steps, p=np.full(r, 1 / r)) + 1
    if proximal:
        U, V = proximal_course(A, U[0], V[0], draws, data["lr"], lambda_gl)
    else:
        descent = theory.Descent(steps, data["lr"], every=steps)
        objective = theory.Objective(lambda_gl=lambda_gl)
        path = theory.sgd(A, np.eye(n) / n, U, V, [seed], descent, objective)
        U, V = path.U[-1, 0], path.V[-1, 0]
    with opened(browser, folder) as page:
        found = page.evaluate(TRAINED, [seed, draws.tolist(), lambda_gl, proximal])
    assert np.abs(np.ravel(found["U"]) - U.ravel()).max() < 1e-9
    assert np.abs(np.ravel(found["V"]) - V.ravel()).max() < 1e-9
    assert np.allclose(found["sizes"], theory.importance(U, V), rtol=0, atol=1e-9)
    ranks = [int(theory.learned_rank(U, V, eps)) for eps in (1e-9, 1e-4, 1, 7)]
    assert found["ranks"] == ranks
    if proximal and lambda_gl == 1e-2:
        assert (U == 0).any() and ranks[0] < r


def proximal_course(A, U, V, draws, lr, lambda_gl):
    """The factors after steps on the loss of theory and proximal steps of lowrank."""
    n, r = V.shape
    layer = maestro.LowRankLinear(torch.tensor(U), torch.tensor(V))
    net = torch.nn.Sequential(layer)
    for b in draws:
        factors = [layer.U.detach().numpy(), layer.V.detach().numpy()]
        kept = (np.arange(r) < b).astype(float)[None]
        objective = theory.Objective()
        slopes = objective.gradients(*factors, A, np.eye(n) / n, kept)
        for factor, slope in zip(factors, slopes, strict=True):
            factor -= lr * slope  # in place, of the layer's own numbers
        if lambda_gl:
            proximal_step(net, lr * lambda_gl)
    return layer.U.detach().numpy(), layer.V.detach().numpy()


def test_the_page_shows_what_it_says(browser, folder):
    """The experiments that the page proposes, with their ends as the page has them."""
    end = """(steps) => {
      touch.ordering.advance(steps);
      return touch.ordering.descent.sizes();
    }"""
    with opened(browser, folder) as page:
        figure = page.locator("#touch-ordering")
        share, lasso = page.get_by_label("Steps that draw b"), page.get_by_label("λ, ")
        sizes = page.evaluate(end, 3000)
        assert np.abs(np.array(sizes[:3]) - [9, 6, 3]).max() < 0.1
        assert 1e-3 < max(sizes[3:]) < 0.3
        share.press("Home")
        figure.get_by_role("button", name="Start again").click()
        sizes = page.evaluate(end, 3000)
        assert np.abs(np.sort(sizes)[::-1][:3] - [9, 6, 3]).max() > 0.5
        share.press("End")
        for _ in range(7):
            lasso.press("ArrowRight")
        assert lasso.get_attribute("aria-valuetext") == "1e-3"
        figure.get_by_role("button", name="Start again").click()
        trembling = page.evaluate(end, 2000)
        assert 1e-7 < max(trembling[3:]) < 1e-6
        figure.get_by_text("With ε = 1e-7, 6 of 6 columns stay").wait_for()
        eps = page.get_by_label("ε, threshold")
        eps.press("ArrowRight")
        eps.press("ArrowRight")
        figure.get_by_text("With ε = 1e-6, 3 of 6 columns stay").wait_for()
        eps.press("Home")
        figure.get_by_text("6 of 6 columns stay").wait_for()
        figure.get_by_label("proximal step").check()
        sizes = page.evaluate(end, 2000)
        assert sizes[3:] == [0, 0, 0]
        figure.get_by_text("3 of 6 columns stay").wait_for()
        figure.get_by_role("button", name="Train").click()
        page.wait_for_function("touch.ordering.descent.steps > 4010")
        figure.get_by_role("button", name="Pause").click()
        assert page.evaluate("touch.ordering.frame") == 0


# ---------------------------------------------------------------- LeNet


@pytest.fixture(scope="module")
def networks():
    """{source: the factorised network in double precision}."""
    return {name: touch.whole(run).double() for name, run in touch.lenets().items()}


LOGITS = """([name, ranks, count]) => {
  const net = new touch.LeNet(touchData[name]), { digits } = touchData;
  net.layers.forEach((layer, i) => layer.cut(ranks[i]));
  const pixels = touch.unzeroed(digits.images, 512 * 784);
  const images = Array.from({ length: 512 }, (_, k) =>
    touch.normalised(pixels.subarray(784 * k, 784 * (k + 1)), digits.mean, digits.std));
  const trial = new touch.Trial(net, images, Array.from(digits.labels, Number));
  return { logits: images.slice(0, count).map((x) => Array.from(net.logits(x))),
           params: net.params(), macs: net.macs, ...trial.work(1e9) };
}"""


@pytest.mark.parametrize("ranks", CUTS.values(), ids=CUTS)
def test_the_page_computes_what_pytorch_computes(browser, folder, networks, ranks):
    task = stored.some_mnist()
    pixels, labels = task.test
    x = ((pixels.double() / 255 - 0.1307) / 0.3081).permute(0, 3, 1, 2)
    with opened(browser, folder) as page:
        for name, net in networks.items():
            net = cut_and_merged(net, ranks)
            if name != "lod":
                page.evaluate(f"touch.load('data-{name}.js')")
            found = page.evaluate(LOGITS, [name, ranks, 40])
            with torch.no_grad():
                logits = net(x)
            assert np.abs(logits[:40].numpy() - found["logits"]).max() < 1e-5
            size = maestro.footprint(net, x[:1])
            assert (found["params"], found["macs"]) == size
            assert found["right"] == int((logits.argmax(1) == labels).sum())
            assert found["seen"] == len(labels) and found["done"]


def cut_and_merged(net, ranks):
    names = maestro.low_rank_layers(net)
    net = copy.deepcopy(net)
    maestro.truncate(net, dict(zip(names, ranks, strict=True)))
    return maestro.merge(net)


def test_what_the_page_says_of_the_cuts_is_so(folder, networks):
    task, nets = stored.some_mnist(), {k: net.float() for k, net in networks.items()}
    names = list(maestro.low_rank_layers(nets["lod"]))

    def right(source, ranks):
        cut = at_ranks(nets[source], dict(zip(names, ranks, strict=True)))
        return task.evaluate(cut)["test_accuracy"] / 100

    whole, half = [6, 16, 120, 84, 10], [3, 8, 60, 42, 5]
    assert right("svd", whole) > right("lod", whole)
    assert right("lod", half) > 0.94 and 0.65 < right("svd", half) < 0.75
    data = (folder / "_static" / "touch" / "data-lod.js").read_text("utf-8")
    path = json.loads(data.partition("=")[2].partition("=")[2].rstrip(";\n"))["path"]
    short = next(r for r in path if r[2] <= 30 and r[3] <= 21)
    assert right("lod", short) >= right("lod", whole) - 5 / 512
    assert 81 * (120 + 256) < 120 * 256 < 82 * (120 + 256)


def test_the_ranks_follow_the_sliders(browser, folder):
    with opened(browser, folder, viewport={"width": 390, "height": 844}) as page:
        page.locator("#touch-lenet dl[data-done=true]").wait_for()
        size, fc1 = page.get_by_label("All layers"), page.get_by_label("fc1")
        assert "44,426" in page.locator("#touch-lenet dl").inner_text()
        page.get_by_role("button", name="Keep half").click()
        assert page.evaluate("touch.lenet.net.ranks") == [3, 8, 60, 42, 5]
        page.get_by_role("button", name="Keep all").click()
        fc1.focus()
        for key in ("Home", "ArrowRight", "ArrowRight"):
            fc1.press(key)
        assert fc1.get_attribute("aria-valuetext") == "3 of 120 columns"
        assert page.evaluate("touch.lenet.net.ranks") == [6, 16, 3, 84, 10]
        params = 44426 - 120 * 256 + 3 * (120 + 256)
        assert f"{params:,}" in page.locator("#touch-lenet dl").inner_text()
        size.press("Home")
        shortest = page.evaluate("touchData.lod.path.at(-1)")
        assert page.evaluate("touch.lenet.net.ranks") == shortest
        page.get_by_label("SVD of a dense LeNet").check()
        page.wait_for_function("touch.lenet.data === touchData.svd")
        assert page.evaluate("touch.lenet.net.ranks") == shortest
        page.locator("#touch-lenet dl[data-done=true]").wait_for()
        assert page.locator(".touch-wrong button").count() == 10
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 390


def test_a_drawn_digit_is_read(browser, folder):
    with opened(browser, folder) as page:
        page.get_by_role("button", name="Clear").click()
        assert page.locator(".touch-share").all_inner_texts() == ["–"] * 10
        box = page.locator(".touch-pad").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + 0.2 * box["height"]
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x, y + 0.6 * box["height"], steps=12)
        page.mouse.up()
        first = page.locator(".touch-first")
        assert first.inner_text().startswith("1")
        live = page.locator("#touch-lenet [aria-live=polite]")
        live.get_by_text("The network reads a 1").wait_for()
        # a seven, by keys alone
        pad = page.locator(".touch-pad")
        way = ["Delete", *["ArrowLeft"] * 4, *["ArrowUp"] * 4, " "]
        way += ["ArrowRight"] * 7 + ["ArrowDown", "ArrowLeft", "ArrowDown"] * 4
        for key in way:
            pad.press(key)
        assert first.inner_text().startswith("7")


def test_a_drawing_is_laid_as_mnist_lays_it(browser, folder):
    draw = "(strokes) => Array.from(touch.asMnist(strokes))"
    with opened(browser, folder) as page:
        small = page.evaluate(draw, [[[2, 2], [2, 8], [5, 8]]])
        large = page.evaluate(draw, [[[6, 4], [6, 24], [16, 24]]])
    for pixels in map(np.array, (small, large)):
        image = pixels.reshape(28, 28)
        assert np.ptp(np.nonzero(image.sum(1))[0]) == 19  # 20 pixels high
        sums = [image.sum(axis) for axis in (1, 0)]
        mass = [(one * np.arange(28)).sum() / one.sum() for one in sums]
        assert np.abs(np.array(mass) - 13.5).max() <= 0.51
    assert np.abs(np.array(small) - large).max() <= 1


def test_no_two_places_of_the_page_have_one_name():
    text = (BOOK / "touch.md").read_text("utf-8")
    names = re.findall(r'^\((\S+)\)=$|id="(\S+?)"', text, re.M)
    names = [label or place for label, place in names]
    assert len(names) == len(set(names)) == 6


def test_without_scripts_there_is_a_picture(browser, folder):
    with opened(browser, folder, java_script_enabled=False) as page:
        pictures = page.locator("figure.touch img")
        assert pictures.count() == page.locator("figure.touch").count() > 0
        for picture in pictures.all():
            assert picture.evaluate("(image) => image.naturalWidth") > 500
            assert len(picture.get_attribute("alt")) > 40


# ---------------------------------------------------------------- all runs


@pytest.fixture(scope="module")
def frontier():
    return touch.frontier()


def test_every_point_has_a_mark_and_a_chapter_that_is_there(frontier):
    for group in frontier["groups"]:
        for point in group["points"]:
            assert point["system"] in frontier["marks"]
            assert point["chapter"] in frontier["chapters"]
    for name, title in frontier["chapters"].items():
        assert (ROOT / "notebooks" / f"{name}.ipynb").is_file() and len(title) > 5


def test_a_point_names_its_run(browser, folder, frontier):
    lenet = frontier["groups"][0]["points"]
    with opened(browser, folder, viewport={"width": 390, "height": 844}) as page:
        points = page.locator("#touch-frontier [role=option]")
        card = page.locator("#touch-frontier .touch-card")
        assert points.count() == len(lenet)
        # by a tap
        points.nth(3).click(force=True)
        run = page.evaluate("touch.frontier.chosen.run")
        point = next(p for p in lenet if p.get("run") == run)
        assert point["label"] in card.inner_text() and run in card.inner_text()
        assert f"{point['params']:,} parameters" in card.inner_text()
        link = card.get_by_role("link").get_attribute("href")
        assert link == f"../notebooks/{point['chapter']}.html"
        # by keys: the last point, then the one before it
        page.locator("#touch-frontier [role=option][tabindex='0']").focus()
        for key in ("End", "ArrowLeft", "Enter"):
            page.keyboard.press(key)
        before = points.nth(len(lenet) - 2)
        assert before.get_attribute("aria-selected") == "true"
        said = before.get_attribute("aria-label")
        assert said.startswith(page.evaluate("touch.frontier.chosen.label"))
        # without its system it is gone
        system = page.evaluate("touch.frontier.chosen.system")
        page.get_by_role("checkbox", name=system, exact=True).uncheck()
        left = [p for p in lenet if p["system"] != system]
        assert points.count() == len(left)
        assert page.evaluate("touch.frontier.chosen") is None
        # the paper has no times
        page.get_by_label("training time").check()
        assert points.count() == len([p for p in left if p["seconds"]])


TICKS = """() => [...document.querySelectorAll('#touch-frontier .touch-tick')]
  .map((tick) => [tick.getAttribute('text-anchor'), tick.textContent])"""


def test_every_network_has_axes_that_can_be_read(browser, folder, frontier):
    with opened(browser, folder) as page:
        for place in range(len(frontier["groups"])):
            page.get_by_label("Network", exact=True).select_option(str(place))
            ticks = page.evaluate(TICKS)
            heights = [text for anchor, text in ticks if anchor == "end"]
            assert 3 <= len(set(heights)) == len(heights) <= 10, heights
            # two titles are in the middle too
            assert 2 + 2 <= sum(anchor == "middle" for anchor, _ in ticks) <= 2 + 10


def test_the_stairs_join_what_nothing_beats(browser, folder, frontier):
    with opened(browser, folder) as page:
        for place, group in enumerate(frontier["groups"]):
            page.get_by_label("Network", exact=True).select_option(str(place))
            path = page.locator(".touch-stairs").get_attribute("d")
            runs = [p for p in group["points"] if "run" in p]
            best = {
                (p["params"], p["accuracy"])
                for p in runs
                if not any(
                    q["params"] <= p["params"]
                    and q["accuracy"] >= p["accuracy"]
                    and (q["params"], q["accuracy"]) != (p["params"], p["accuracy"])
                    for q in runs
                )
            }
            assert path.count("V") == max(len(best) - 1, 0)
            assert bool(path) == bool(runs)
