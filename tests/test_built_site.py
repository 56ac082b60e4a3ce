"""The built site in a real browser: what a reader would see, on every page.

`look` opens one page and collects complaints; the tests want none of the site, and
every kind of them of a page that is broken on purpose.
"""

import http.server
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from maestro.figures import style
from maestro.paths import ROOT
from maestro.publish import dashboard

SITE = ROOT / "_build" / "html"
PAGES = sorted(p.relative_to(SITE).as_posix() for p in SITE.rglob("*.html"))
# index.html only sends the reader to the first page; _static holds the theme's parts
PAGES = [p for p in PAGES if p != "index.html" and not p.startswith("_static/")]
KINDS = (
    "console",
    "outside",
    "mathematics",
    "images",
    "width",
    "contrast",
    "links",
    "axe",
    "clipped",
)
THEORY = [f"notebooks/{n}" for n in ("01_svd_recovery", "05_theorem")]

# What is asked of an open page, in its own language.

MATHEMATICS = r"""async () => {
  if (window.MathJax?.startup?.promise) await window.MathJax.startup.promise;
  const wrong = [];
  for (const box of document.querySelectorAll(".math, mjx-container"))
    if (!box.matches("mjx-container") && !box.querySelector("mjx-container"))
      wrong.push("not rendered: " + box.textContent.trim().slice(0, 60));
  for (const e of document.querySelectorAll("mjx-merror, [data-mjx-error]"))
    wrong.push("not understood: " + e.textContent.slice(0, 60));
  const body = document.body.cloneNode(true);
  const done = "script, style, pre, code, .math, mjx-container";
  for (const e of body.querySelectorAll(done)) e.remove();
  const raw = /\\\(|\\\[|\$\$|\\begin\{|\$[^$\n]{1,80}\$|\{(eq|cite|ref)\}`/;
  const text = body.textContent, found = text.match(raw);
  if (found) wrong.push("raw: " + text.slice(found.index, found.index + 60));
  return wrong;
}"""

IMAGES = r"""async () => {
  const wrong = [];
  for (const image of document.querySelectorAll("img")) {
    image.loading = "eager";
    await image.decode().catch(() => {});
    const name = image.src.split("/").pop().slice(0, 60), alt = image.alt.trim();
    if (!image.complete || !image.naturalWidth) wrong.push("not loaded: " + name);
    if (!alt) wrong.push("no alt text: " + name);
    if (/\.(png|svg|jpe?g|gif)$/i.test(alt)) wrong.push("a path as alt text: " + alt);
    if (image.matches(".cell_output img:not(figure img)"))
      wrong.push("no caption: " + name);
  }
  return wrong;
}"""

WIDTH = r"""() => {
  const page = document.scrollingElement;
  if (page.scrollWidth <= innerWidth) return [];
  const names = [...document.querySelectorAll("body *")]
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
    .map((e) => e.tagName.toLowerCase() + "." + e.className).slice(0, 3);
  return [`${page.scrollWidth} px wide on ${innerWidth}: ${names.join(", ")}`];
}"""

CONTRAST = r"""(mode) => {
  document.documentElement.dataset.mode = mode;
  document.documentElement.dataset.theme = mode;
  const rgba = (text) => {
    const n = (text.match(/[\d.]+/g) || []).map(Number);
    const c = text.startsWith("color(srgb") ? n.slice(0, 3).map((x) => x * 255) : n;
    return { c: c.slice(0, 3), a: n[3] ?? 1 };
  };
  const over = (top, below) => top.c.map((x, k) => x * top.a + below[k] * (1 - top.a));
  const ground = (e) => {
    if (!e) return mode === "dark" ? [0, 0, 0] : [255, 255, 255];
    const own = rgba(getComputedStyle(e).backgroundColor);
    return own.a === 1 ? own.c : over(own, ground(e.parentElement));
  };
  const light = (c) => {
    const [r, g, b] = c.map((x) => x / 255)
      .map((x) => (x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const wrong = new Map();
  const article = document.querySelector("article") || document.body;
  const walk = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const e = node.parentElement;
    if (!node.data.trim() || e.closest("script, style, mjx-assistive-mml, .headerlink"))
      continue;
    if (!e.getClientRects().length) continue;
    const style = getComputedStyle(e), below = ground(e);
    const text = over(rgba(style.color), below);
    const [a, b] = [light(text), light(below)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const key = `${mode} ${e.tagName.toLowerCase()}.${e.className} ${style.color}`;
    const line = `${key}: ${ratio.toFixed(2)}, "${node.data.trim()}"`;
    if (ratio < 4.5) wrong.set(key, line);
  }
  return [...wrong.values()].map((w) => w.slice(0, 140));
}"""

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text("utf-8")
SERIOUS = r"""async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.filter((v) => ["serious", "critical"].includes(v.impact))
    .flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.html.slice(0, 100)}`));
}"""

# What stands in a box that is too narrow is cut off, unless the box scrolls, says so by
# a bar or a fading edge, and can be reached by the keyboard. Code fits a wide screen.
# The smallest text of a picture, 9 points, is at least 9 pixels high.
CLIPPED = r"""async ({ wide, dpi }) => {
  const frame = () => new Promise(requestAnimationFrame);
  for (const e of document.querySelectorAll("details")) e.open = true;
  await frame(), await frame(); // what watches sizes has seen them
  const wrong = [];
  const name = (e) => `${e.tagName.toLowerCase()} ${e.textContent.trim().slice(0, 40)}`;
  const scrolls = (box) => /auto|scroll/.test(getComputedStyle(box).overflowX);
  const right = (e) => e.getBoundingClientRect().left + e.clientLeft + e.clientWidth;
  const signed = (box) => {
    const bar = box.offsetHeight - box.clientHeight > 3;
    const fades = getComputedStyle(box).maskImage !== "none";
    return box.tabIndex >= 0 && (bar || fades);
  };
  const cut = (box, what) => {
    if (!scrolls(box)) wrong.push(`cut off: ${name(what)}`);
    else if (!signed(box)) wrong.push(`scrolls without a sign: ${name(what)}`);
  };
  const parts = "table, pre, img, figure, mjx-container[display] > svg";
  for (const part of document.querySelectorAll(`article :is(${parts})`)) {
    if (!part.getClientRects().length) continue;
    if (part.matches("pre") && part.scrollWidth > part.clientWidth + 1) {
      if (wide) wrong.push(`a line of code is too long: ${name(part)}`);
      else cut(part, part);
    }
    let inner = part;
    for (let box = part.parentElement; box !== document.body; box = box.parentElement) {
      const cuts = getComputedStyle(box).overflowX !== "visible";
      if (!cuts || inner.getBoundingClientRect().right <= right(box) + 1) continue;
      cut(box, part);
      inner = box;
    }
    const points = (72 * part.naturalWidth) / dpi;
    if (/\.png$/.test(part.src) && part.clientWidth < points - 1)
      wrong.push(`too small: ${part.src} ${part.clientWidth} of ${points} px`);
  }
  return wrong;
}"""

PATIENCE = 300_000  # milliseconds; on a busy machine a page takes its time

STILL = "* { animation: none !important; transition: none !important; }"
SCREENS = [("light", 1280, 900), ("dark", 390, 844)]
DPI = style.STYLE["figure.dpi"]
PICTURES_DPI = dashboard.DPI

TARGETS = """() => [...document.querySelectorAll("a[href]")].map((a) => a.href)"""


@contextmanager
def serve(folder):
    """The address of ``folder`` on this machine, for as long as the body runs."""

    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Silent, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def opened(browser, address, home):
    """A page at ``address``, and what it complained of: (page, {kind: [line]}).

    ``home`` is the beginning of all addresses that the page may ask for.
    """
    said = {kind: [] for kind in KINDS}
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: said["console"].append(str(error)))
    page.on(
        "console",
        lambda m: said["console"].append(m.text) if m.type == "error" else None,
    )
    page.on("request", lambda r: said["outside"].append(r.url))
    try:
        page.goto(address, wait_until="load")
        yield page, said
    finally:
        allowed = (home, "data:", "blob:", "about:")
        said["outside"][:] = [u for u in said["outside"] if not u.startswith(allowed)]
        page.close()


def look(browser, home, name, folder):
    """All that is wrong with one page of ``folder`` served at ``home``."""
    with opened(browser, home + name, home) as (page, said):
        said["mathematics"] += page.evaluate(MATHEMATICS)
        said["images"] += page.evaluate(IMAGES)
        said["links"] += broken_links(page.evaluate(TARGETS), home, folder)
        page.add_style_tag(content=STILL)
        page.evaluate(AXE)
        dpi = DPI if name.startswith("notebooks/") else PICTURES_DPI
        for mode, width, height in SCREENS:
            page.set_viewport_size({"width": width, "height": height})
            said["contrast"] += page.evaluate(CONTRAST, mode)
            said["axe"] += page.evaluate(SERIOUS)
            said["width"] += page.evaluate(WIDTH)
            sizes = {"wide": width > 1000, "dpi": dpi}
            said["clipped"] += page.evaluate(CLIPPED, sizes)
    return said


def broken_links(addresses, home, folder):
    """Those of a page's links into the site that lead nowhere."""
    wrong = []
    for address in sorted({a for a in addresses if a.startswith(home)}):
        path, _, anchor = address.removeprefix(home).partition("#")
        file = Path(folder) / path.split("?")[0]
        if not file.is_file():
            wrong.append(f"no such page: {path}")
        elif anchor and f'id="{anchor}"' not in file.read_text("utf-8", "replace"):
            wrong.append(f"no such place: {path}#{anchor}")
    return wrong


@pytest.fixture(scope="module")
def home():
    if not (SITE / "index.html").is_file():
        pytest.skip("the site is not built: run `make book` first")
    with serve(SITE) as address:
        yield address


@pytest.fixture(scope="module")
def complaints(browser, home):
    """{page: {kind: [line]}} of the whole site, each page opened once."""
    return {name: look(browser, home, name, SITE) for name in PAGES}


@pytest.mark.parametrize("kind", KINDS)
def test_no_page_gives_cause_for_complaint(complaints, kind):
    wrong = [f"{page}: {line}" for page, c in complaints.items() for line in c[kind]]
    assert not wrong, "\n".join(wrong)


def test_pages_hold_what_they_are_for(browser, home):
    for name in ["book/method", *THEORY]:
        with opened(browser, f"{home}{name}.html", home) as (page, _):
            page.evaluate(MATHEMATICS)
            assert page.locator("mjx-container svg").count(), name
            assert page.locator("article img, article figure svg").count(), name
    for name in (
        "intro",
        "claims",
        "notation",
        "reproduce",
        "runs",
        "limitations",
        "networks",
    ):
        assert f"book/{name}.html" in PAGES


def test_search_finds_a_known_term(browser, home):
    with opened(browser, home + "search.html?q=suffix", home) as (page, said):
        page.wait_for_selector("#search-results li a")
        found = page.locator("#search-results li a").evaluate_all(
            "(links) => links.map((a) => a.href)"
        )
    assert any("book/method.html" in address for address in found), found
    assert not said["console"] and not said["outside"]


def test_site_works_from_the_disk(browser, home):
    start = SITE.resolve().as_uri()
    with opened(browser, f"{start}/index.html", start) as (page, said):
        page.wait_for_selector("article h1")
        page.goto(f"{start}/book/method.html", wait_until="load")
        assert not page.evaluate(MATHEMATICS)
        assert not page.evaluate(IMAGES)
    assert not said["console"] and not said["outside"], said


def test_theme_button_turns_the_page_dark(browser, home):
    with opened(browser, f"{home}book/method.html", home) as (page, _):
        seen = set()
        for _ in range(3):
            page.locator("button.theme-switch-button").first.click()
            seen.add(page.evaluate("document.documentElement.dataset.theme"))
    assert seen == {"light", "dark"}


BROKEN = """<!doctype html><html><head><title>broken</title></head><body><article>
<p>A formula that nobody rendered: $$x^2$$</p>
<p style="color: #bbb; background: #fff">grey on white</p>
<div class="cell_output"><img src="missing.png" alt="missing.png"></div><img src="https://example.invalid/a.png">
<a href="nowhere.html">nowhere</a><a href="#nothing">nothing</a>
<div style="width: 2000px">wide</div><button></button>
<img src="wide.png" alt="a wide picture" style="width: 300px">
<div style="overflow: hidden"><table style="width: 3000px"><tr><td>1</table></div>
<pre style="overflow: auto"><code style="display: block; width: 3000px">x</code></pre>
<script>console.error("an error")</script></article></body></html>"""

SOUND = """<!doctype html><html lang="en"><head><title>sound</title>
<link rel="icon" href="data:,"></head><body><article>
<h1 id="top">Sound</h1><p style="color: #000; background: #fff">black on white</p>
<p style="overflow-x: auto"><span style="display: block; width: 2000px; color: #000;
background: #fff">scrolls in its own box</span></p><a style="color: #000; background:
#fff" href="#top">top</a><div tabindex="0" style="overflow: auto; mask-image:
linear-gradient(to left, transparent, #000 2rem)"><table style="width: 3000px"><tr><td
style="color: #000; background: #fff">1</table></div></article></body></html>"""


def test_every_kind_of_fault_is_seen(browser, tmp_path):
    (tmp_path / "broken.html").write_text(BROKEN)
    Image.new("L", (1200, 10)).save(tmp_path / "wide.png")
    with serve(tmp_path) as address:
        said = look(browser, address, "broken.html", tmp_path)
    assert [kind for kind in KINDS if not said[kind]] == []
    assert "px wide on 390" in said["width"][-1]
    assert len(said["images"]) == 5 and len(said["links"]) == 2
    clipped, rules = (
        {line.partition(":")[0] for line in said[kind]} for kind in ("clipped", "axe")
    )
    assert clipped == {
        "cut off",
        "scrolls without a sign",
        "a line of code is too long",
        "too small",
    }
    assert rules >= {"button-name", "color-contrast", "html-has-lang"}
    assert set(said["outside"]) == {"https://example.invalid/a.png"}


def test_a_sound_page_gives_no_cause(browser, tmp_path):
    (tmp_path / "sound.html").write_text(SOUND.replace("<h1", "<h1 style='color:#777'"))
    with serve(tmp_path) as address:
        said = look(browser, address, "sound.html", tmp_path)
    assert said.pop("contrast")
    assert not any(said.values()), said


@pytest.mark.parametrize("width, height", [(1280, 900), (390, 844)])
def test_the_first_screen_has_the_verdicts(browser, home, width, height):
    with opened(browser, f"{home}book/intro.html", home) as (page, _):
        page.set_viewport_size({"width": width, "height": height})
        counts = page.locator("ul.verdict-counts li")
        bottoms = counts.evaluate_all(
            "(items) => items.map((e) => e.getBoundingClientRect().bottom)"
        )
        picture = page.locator("article img").first.bounding_box()
        assert len(bottoms) == 5 and max(bottoms) < height
        assert picture["y"] < height, "a picture begins on the first screen"
        assert page.locator("li.tile").count() > 30


def test_the_first_column_stays_while_a_table_scrolls(browser, home):
    with opened(browser, f"{home}notebooks/10_lenet_mnist.html", home) as (page, _):
        page.set_viewport_size({"width": 390, "height": 844})
        moved = page.evaluate("""() => {
          const table = document.querySelector("table.dataframe");
          let box = table.parentElement;
          while (!/auto|scroll/.test(getComputedStyle(box).overflowX))
            box = box.parentElement;
          const name = table.querySelector("tbody th");
          const before = name.getBoundingClientRect().left;
          box.scrollLeft = 200;
          return [box.scrollLeft, name.getBoundingClientRect().left - before];
        }""")
    assert moved[0] == 200 and abs(moved[1]) < 30


def test_a_wide_table_is_scrolled_by_keys_and_fades_until_its_end(browser, home):
    with opened(browser, f"{home}notebooks/10_lenet_mnist.html", home) as (page, _):
        page.set_viewport_size({"width": 390, "height": 844})
        box = page.locator("article .more:has(> div > table.dataframe)").first
        box.focus()
        page.keyboard.press("ArrowRight")
        place = box.element_handle()
        page.wait_for_function("(box) => box.scrollLeft > 0", arg=place)
        place.evaluate("(box) => { box.scrollLeft = 1e6; }")
        page.wait_for_function("(box) => !box.classList.contains('more')", arg=place)
