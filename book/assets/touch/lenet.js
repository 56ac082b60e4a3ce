// The figure "Drag the ranks": a trained LeNet that reads what the reader draws.
(() => {
  "use strict";
  const { make, draw, slider, choice, announcer, count, share } = touch;
  const SIDE = 28, BOX = 20, PEN = 1.15; // pixels of MNIST: image, digit in it, half a line
  const SHOWN = 10; // misread test images
  const SHARES = { all: 1, half: 1 / 2, "a third": 1 / 3 };
  const SOURCES = { lod: "trained by LoD, λ = 0", svd: "SVD of a dense LeNet" };

  /** Strokes [[[x, y], ...], ...] as MNIST has digits: 20 pixels high or wide, centred
   * by mass in 28 x 28, grey at the edges; bytes. */
  function asMnist(strokes) {
    const points = strokes.flat(), xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
    const low = [Math.min(...xs), Math.min(...ys)];
    const wide = [Math.max(...xs) - low[0], Math.max(...ys) - low[1]];
    const scale = (BOX - 2 * PEN) / Math.max(...wide, 3); // a dot stays a dot
    const inside = (p) => [0, 1].map((d) => (p[d] - low[d] - wide[d] / 2) * scale + SIDE / 2);
    const lines = strokes.map((stroke) => stroke.map(inside));
    const drawn = ink(lines, 0, 0);
    let mass = 0, x = 0, y = 0;
    drawn.forEach((v, k) => { mass += v; x += v * (k % SIDE); y += v * Math.floor(k / SIDE); });
    const middle = (SIDE - 1) / 2;
    return ink(lines, Math.round(middle - x / mass), Math.round(middle - y / mass));
  }

  /** Lines in pixels, moved by (dx, dy), as an image: the share of each pixel covered. */
  function ink(lines, dx, dy) {
    return Uint8Array.from({ length: SIDE * SIDE }, (_, k) => {
      const at = [(k % SIDE) + 0.5 - dx, Math.floor(k / SIDE) + 0.5 - dy];
      const near = Math.min(...lines.map((line) => distance(at, line)));
      return 255 * Math.max(0, Math.min(1, PEN + 0.5 - near));
    });
  }

  function distance([x, y], line) {
    let least = Math.hypot(x - line[0][0], y - line[0][1]);
    for (let i = 1; i < line.length; i++) {
      const [ax, ay] = line[i - 1], bx = line[i][0] - ax, by = line[i][1] - ay;
      const along = ((x - ax) * bx + (y - ay) * by) / (bx * bx + by * by || 1);
      const t = Math.max(0, Math.min(1, along));
      least = Math.min(least, Math.hypot(x - ax - t * bx, y - ay - t * by));
    }
    return least;
  }

  /** Paint an image of 784 bytes, white on black, on a canvas. */
  function paint(canvas, pixels) {
    const context = canvas.getContext("2d"), image = context.createImageData(SIDE, SIDE);
    pixels.forEach((v, k) => image.data.set([v, v, v, 255], 4 * k));
    context.putImageData(image, 0, 0);
  }

  const screen = (options) => make("canvas", { width: SIDE, height: SIDE, ...options });

  /** The pad: a pointer draws; with keys, arrows move the pen and space lowers it. */
  class Pad {
    constructor(changed) {
      this.changed = changed;
      this.ink = draw("path", { class: "touch-ink" });
      this.dot = draw("circle", { class: "touch-pen", r: 0.5, cx: 14, cy: 14 });
      this.svg = draw("svg", {
        viewBox: `0 0 ${SIDE} ${SIDE}`, tabindex: 0, role: "application", class: "touch-pad",
        "aria-label": "Pad to draw a digit on. Arrow keys move the pen, space lowers or " +
          "lifts it, delete clears the pad.",
        onpointerdown: (event) => this.start(event),
        onpointermove: (event) => this.moved(event),
        onpointerup: () => { this.down = false; },
        onpointercancel: () => { this.down = false; },
        onkeydown: (event) => this.key(event),
      }, this.ink, this.dot);
      this.hint = make("span", { class: "touch-hint", "aria-hidden": "true" }, "draw a digit");
      this.screen = screen({ class: "touch-given", "aria-hidden": "true" });
      this.box = make("div", { class: "touch-padbox" }, this.screen, this.hint, this.svg);
      this.strokes = [];
      this.pen = [14, 14];
    }

    where(event) {
      const box = this.svg.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * SIDE,
              ((event.clientY - box.top) / box.height) * SIDE];
    }

    start(event) {
      if (this.given) this.clear();
      this.svg.setPointerCapture(event.pointerId);
      this.down = true;
      this.strokes.push([this.where(event)]);
      this.redraw();
      event.preventDefault();
      this.svg.focus({ preventScroll: true });
    }

    moved(event) {
      if (!this.down) return;
      const all = event.getCoalescedEvents?.() ?? [];
      for (const one of all.length ? all : [event]) this.strokes.at(-1).push(this.where(one));
      this.redraw();
    }

    key(event) {
      const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const way = ways[event.key];
      if (way) {
        this.pen = this.pen.map((x, d) => Math.max(1, Math.min(SIDE - 1, x + 2 * way[d])));
        if (this.lowered) this.strokes.at(-1).push([...this.pen]);
      } else if (event.key === " ") {
        if (this.given) this.clear();
        this.lowered = !this.lowered;
        if (this.lowered) this.strokes.push([[...this.pen]]);
      } else if (event.key === "Delete" || event.key === "Backspace") this.clear();
      else return;
      event.preventDefault();
      this.redraw();
    }

    clear() {
      this.given = null;
      this.lowered = this.down = false;
      this.strokes = [];
      this.redraw();
    }

    /** Show an image of the test set. */
    show(pixels) {
      this.clear();
      this.given = pixels;
      paint(this.screen, pixels);
      this.redraw();
    }

    redraw() {
      const lines = this.strokes.map((s) => "M" + s.map((p) => p.map((x) => x.toFixed(2))).join("L"));
      this.ink.setAttribute("d", lines.map((d, i) => (this.strokes[i].length > 1 ? d : `${d}l0 0.01`)).join(""));
      this.dot.setAttribute("cx", this.pen[0]);
      this.dot.setAttribute("cy", this.pen[1]);
      this.dot.classList.toggle("touch-lowered", Boolean(this.lowered));
      this.screen.hidden = !this.given;
      this.hint.hidden = Boolean(this.given || this.strokes.length);
      this.changed(this.given || (this.strokes.length ? asMnist(this.strokes) : null));
    }
  }

  /** Ten bars; a thin mark shows what the network said before it was cut. */
  class Answer {
    constructor() {
      this.rows = Array.from({ length: 10 }, (_, digit) => {
        const bar = make("i", { class: "touch-bar" }), mark = make("i", { class: "touch-mark" });
        const value = make("span", { class: "touch-share" }, "–");
        const row = make("li", {}, make("b", {}, `${digit}`), make("span", { class: "touch-track" }, bar, mark), value);
        return { row, bar, mark, value };
      });
      this.box = make("ol", { class: "touch-answer", "aria-label": "Probability of each digit" },
        ...this.rows.map((r) => r.row));
    }

    show(now, whole) {
      const first = now && touch.best(now);
      this.rows.forEach(({ row, bar, mark, value }, digit) => {
        bar.style.width = now ? `${100 * now[digit]}%` : 0;
        mark.style.left = whole ? `${100 * whole[digit]}%` : 0;
        mark.hidden = !whole;
        value.textContent = now ? `${(100 * now[digit]).toFixed(0)} %` : "–";
        row.classList.toggle("touch-first", digit === first);
      });
    }
  }

  /** The columns' sizes over the slider of their layer, the cut ones pale. */
  function columnsOf(layer) {
    const sizes = layer.importance(), top = Math.max(...sizes), r = layer.most;
    const bars = sizes.map((size, k) =>
      draw("rect", { x: k + 0.08, width: 0.84, y: 1 - size / top, height: size / top }));
    const box = draw("svg", { viewBox: `0 0 ${r} 1`, preserveAspectRatio: "none", class: "touch-columns", "aria-hidden": "true" }, ...bars);
    return { box, keep: (kept) => bars.forEach((bar, k) => bar.classList.toggle("touch-gone", k >= kept)) };
  }

  class Figure {
    constructor(place) {
      const { digits } = window.touchData;
      this.labels = Array.from(digits.labels, Number);
      const all = touch.unzeroed(digits.images, this.labels.length * SIDE * SIDE);
      this.pixels = this.labels.map((_, k) => all.subarray(k * SIDE * SIDE, (k + 1) * SIDE * SIDE));
      this.inputs = this.pixels.map((image) => this.input(image));
      this.nets = {};
      this.answer = new Answer();
      this.pad = new Pad((image) => { this.image = image; this.read(); });
      this.seen = screen({ class: "touch-seen", role: "img", "aria-label": "What the network sees" });
      this.live = announcer();
      this.sliders = make("div", { class: "touch-sliders" });
      this.sizes = make("dl", { class: "touch-sizes" });
      this.wrong = make("div", { class: "touch-wrong" });
      this.layout(place);
      this.use("lod");
      this.example(0);
    }

    input(image) {
      const { mean, std } = window.touchData.digits;
      return touch.normalised(image, mean, std);
    }

    layout(place) {
      const button = (text, onclick) => make("button", { type: "button", onclick }, text);
      this.next = 0;
      const sees = make("div", { class: "touch-sees" }, this.seen, make("span", {}, "what the network sees"));
      place.prepend(
        make("div", { class: "touch-two" },
          make("div", {},
            make("div", { class: "touch-draw" }, this.pad.box, this.answer.box),
            make("div", { class: "touch-buttons" }, sees,
              button("Clear", () => this.pad.clear()),
              button("A test image", () => this.example(this.next + 1))),
            this.sizes),
          make("div", { class: "touch-ranks" }, choice("Whose columns", SOURCES, "lod", (name) => this.use(name)), this.sliders),
          this.wrong),
        this.live.box);
    }

    example(k) {
      this.next = k % this.pixels.length;
      this.pad.show(this.pixels[this.next]);
    }

    /** Change to the network of a source, at the ranks that are set. */
    async use(name) {
      if (!window.touchData[name]) await touch.load(`data-${name}.js`);
      const data = window.touchData[name];
      if (!this.nets[name]) {
        const [net, whole] = [new touch.LeNet(data), new touch.LeNet(data)];
        this.nets[name] = { net, whole, data, trial: new touch.Trial(net, this.inputs, this.labels) };
      }
      const ranks = this.net ? this.net.ranks : this.nets[name].net.ranks;
      Object.assign(this, this.nets[name]);
      this.controls();
      this.set(ranks);
    }

    controls() {
      const { path } = this.data;
      this.size = slider("All layers, by greedy search",
        { min: 0, max: path.length - 1, oninput: () => this.set(path[path.length - 1 - this.size.input.value]) });
      this.layers = this.net.layers.map((layer, i) => {
        const columns = columnsOf(layer);
        const one = slider(layer.name, { min: 1, max: layer.most, oninput: () => this.cut(i, +one.input.value) }, columns.box);
        return { ...one, columns };
      });
      const evenly = Object.entries(SHARES).map(([text, part]) =>
        make("button", { type: "button", "aria-label": `Keep ${text} of each layer's columns`,
          onclick: () => this.set(this.net.layers.map((layer) => Math.round(part * layer.most))) }, text));
      this.sliders.replaceChildren(make("div", { class: "touch-buttons" }, "Keep", ...evenly),
        this.size.box, ...this.layers.map((one) => one.box));
    }

    set(ranks) {
      ranks.forEach((r, i) => this.cut(i, r, false));
      this.settle();
    }

    /** Layer i keeps its first r columns. */
    cut(i, r, last = true) {
      const layer = this.net.layers[i], { input, value, columns } = this.layers[i];
      if (layer.rank !== r) {
        layer.cut(r);
        this.trial.changed(i);
      }
      input.value = r;
      value.textContent = `${r} of ${layer.most}${layer.dense ? ", stored dense" : ""}`;
      input.setAttribute("aria-valuetext", `${r} of ${layer.most} columns`);
      columns.keep(r);
      if (last) this.settle();
    }

    settle() {
      const { path, dense } = this.data, { ranks, macs } = this.net, params = this.net.params();
      const away = path.map((point) => (`${point}` === `${ranks}` ? -1 : Math.abs(this.net.params(point) - params)));
      const at = away.indexOf(Math.min(...away)); // the place on the path, or the nearest in size
      this.size.input.value = path.length - 1 - at;
      this.size.value.textContent = away[at] < 0 ? share(params / dense.params) : "by hand";
      this.size.input.setAttribute("aria-valuetext", `${count(params)} parameters`);
      this.figures = {
        parameters: `${count(params)} (${share(params / dense.params)})`,
        MACs: `${count(macs)} (${share(macs / dense.macs)})`,
      };
      this.read();
      this.go();
    }

    /** The digit on the pad, by the network as it is now. */
    read() {
      if (!this.net) return;
      paint(this.seen, this.image || new Uint8Array(SIDE * SIDE));
      if (!this.image) return this.answer.show(null, null);
      const x = this.input(this.image);
      this.now = touch.softmax(this.net.logits(x));
      this.answer.show(this.now, touch.softmax(this.whole.logits(x)));
      this.say();
    }

    say() {
      const first = this.image && touch.best(this.now);
      const digit = this.image ? `The network reads a ${first} (${(100 * this.now[first]).toFixed(0)} %). ` : "";
      const { parameters, MACs, right } = this.figures;
      this.live.say(`${digit}${parameters} parameters, ${MACs} MACs${right ? `; it reads ${right} test images right` : ""}.`);
    }

    /** Evaluate the test images, a little in each frame. */
    go() {
      cancelAnimationFrame(this.frame);
      const { seen, right, done } = this.trial.work(12);
      const of = done ? `${right} of ${seen}` : `${right} of the first ${seen}`;
      if (seen) this.figures.right = `${of} (${((100 * right) / seen).toFixed(1)} %)`;
      const rows = { ...this.figures, "read right": this.figures.right || "…" };
      delete rows.right;
      this.sizes.replaceChildren(...Object.entries(rows).map(([name, value]) =>
        make("div", {}, make("dt", {}, name), make("dd", {}, value))));
      if (!done) this.frame = requestAnimationFrame(() => this.go());
      else {
        this.misread();
        this.say();
      }
      this.sizes.dataset.done = done;
    }

    misread() {
      const wrong = this.labels.map((_, k) => k).filter((k) => this.trial.read[k] !== this.labels[k]);
      const head = wrong.length ? "Misread; touch one to see why:" : "Every test image is read right.";
      this.wrong.replaceChildren(make("p", {}, head), ...wrong.slice(0, SHOWN).map((k) => {
        const image = screen({ "aria-hidden": "true" });
        paint(image, this.pixels[k]);
        const words = `${this.labels[k]} → ${this.trial.read[k]}`;
        const name = `${words}: test image ${k}, a ${this.labels[k]}, read as ${this.trial.read[k]}`;
        return make("button", { type: "button", title: name, "aria-label": name, onclick: () => this.example(k) },
          image, make("span", {}, words));
      }));
    }
  }

  touch.figure("touch-lenet", (place) => { touch.lenet = new Figure(place); });
  touch.asMnist = asMnist;
})();
