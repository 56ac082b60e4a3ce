// The figure "Every run, one point": accuracy against size or time, network by network.
(() => {
  "use strict";
  const { make, draw, choice, count } = touch;
  const MARGIN = { left: 44, right: 14, top: 12, bottom: 38 }, RADIUS = 5.5, REACH = 26;
  const AXES = { params: "parameters", macs: "MACs", seconds: "training time" };
  const TITLES = { params: "parameters to deploy", macs: "MACs to deploy", seconds: "seconds of training and tests, on the machine of the run" };
  const INK = "#222222"; // of the house style: drawn in the colour of the text

  /** The outline of a mark, about (0, 0), by the names of matplotlib. */
  function outline(mark) {
    const star = (corners, turn, inner = 1) => `M${Array.from({ length: corners * (inner < 1 ? 2 : 1) }, (_, k) => {
      const parts = corners * (inner < 1 ? 2 : 1), radius = RADIUS * (k % 2 ? inner : 1) * 1.12;
      const angle = 2 * Math.PI * (k / parts + turn);
      return `${(radius * Math.sin(angle)).toFixed(2)} ${(-radius * Math.cos(angle)).toFixed(2)}`;
    }).join("L")}Z`;
    const cross = (a, turn) => {
      const arm = [[-a, -RADIUS], [a, -RADIUS], [a, -a], [RADIUS, -a], [RADIUS, a], [a, a], [a, RADIUS], [-a, RADIUS], [-a, a], [-RADIUS, a], [-RADIUS, -a], [-a, -a]];
      const c = Math.cos(turn), s = Math.sin(turn);
      return `M${arm.map(([x, y]) => `${(x * c - y * s).toFixed(2)} ${(x * s + y * c).toFixed(2)}`).join("L")}Z`;
    };
    const shapes = {
      o: () => star(24, 0), s: () => star(4, 1 / 8), D: () => star(4, 0), d: () => star(2, 0, 0.6),
      "^": () => star(3, 0), v: () => star(3, 1 / 2), "<": () => star(3, 3 / 4), ">": () => star(3, 1 / 4),
      x: () => cross(0.9, Math.PI / 4), X: () => cross(2, Math.PI / 4), P: () => cross(2, 0),
      "*": () => star(5, 0, 0.45), h: () => star(6, 0), p: () => star(5, 0), 8: () => star(8, 1 / 16),
    };
    return (shapes[mark] || shapes.o)();
  }

  /** 1, 2, 5, 10, ... between two numbers: the powers of ten if these are many, and
   * even steps if they are few. */
  function ticks(low, high) {
    const all = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
      for (const digit of [1, 2, 5]) all.push(digit * 10 ** power);
    const inside = all.filter((x) => x >= low && x <= high);
    if (inside.length > 7) return inside.filter((x) => Math.abs(Math.log10(x) % 1) < 1e-9);
    if (inside.length > 2) return inside;
    const about = (high - low) / 8, power = 10 ** Math.floor(Math.log10(about));
    const step = power * [1, 2, 5, 10].find((digit) => digit * power >= about);
    const first = Math.ceil(low / step), count = Math.floor(high / step) - first + 1;
    return Array.from({ length: count }, (_, k) => (first + k) * step);
  }

  function short(x) {
    for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (x >= size) return `${+(x / size).toPrecision(3)}${letter}`;
    return `${+x.toPrecision(3)}`;
  }

  const error = (point) => Math.max(100 - point.accuracy, 0.01);
  const colour = (mark) => (mark[0] === INK ? "currentColor" : mark[0]);
  const symbol = (mark, hollow) => draw("path", {
    d: outline(mark[1]), fill: hollow ? "var(--ground)" : colour(mark), stroke: colour(mark), "stroke-width": hollow ? 1.6 : 0.8,
  });

  class Figure {
    constructor(place) {
      this.data = window.touchData.frontier;
      this.axis = "params";
      this.hidden = new Set();
      this.svg = draw("svg", { class: "touch-plot", onclick: (event) => this.click(event), onkeydown: (event) => this.key(event) });
      this.legend = make("fieldset", { class: "touch-systems" });
      this.card = make("div", { class: "touch-card", "aria-live": "polite" });
      const networks = make("select", { id: "touch-network", onchange: () => this.pick(+networks.value) },
        ...this.data.groups.map((group, k) => make("option", { value: k }, this.title(group))));
      place.prepend(
        make("div", { class: "touch-row" },
          make("span", {}, make("label", { for: "touch-network" }, "Network"), " ", networks),
          choice("Against", AXES, "params", (axis) => { this.axis = axis; this.redraw(); })),
        this.svg, this.card, this.legend);
      this.pick(0);
      new ResizeObserver(() => this.redraw()).observe(place);
    }

    title({ name, points }) {
      const runs = points.filter((point) => point.run).length;
      return `${name} (${runs ? `${runs} run${runs > 1 ? "s" : ""}` : "the paper alone"})`;
    }

    pick(k) {
      this.group = this.data.groups[k];
      this.hidden.clear();
      this.chosen = null;
      const systems = [...new Set(this.group.points.map((point) => point.system))];
      const known = Object.keys(this.data.marks);
      systems.sort((a, b) => known.indexOf(a) - known.indexOf(b));
      this.legend.replaceChildren(make("legend", {}, "Systems"), ...systems.map((name) => {
        const input = make("input", { type: "checkbox", onchange: () => {
          if (input.checked) this.hidden.delete(name);
          else this.hidden.add(name);
          this.redraw();
        } });
        input.checked = true;
        const key = draw("svg", { viewBox: "-8 -8 16 16", width: 16, height: 16, "aria-hidden": "true" }, symbol(this.data.marks[name]));
        return make("label", {}, input, key, name);
      }));
      this.redraw();
      this.tell();
    }

    get points() {
      return this.group.points.filter((point) => !this.hidden.has(point.system) && point[this.axis]);
    }

    scales() {
      const width = Math.max(280, this.svg.parentElement.clientWidth - 30);
      const height = Math.round(Math.max(300, Math.min(420, 0.62 * width)));
      const range = (values, pad) => {
        const low = Math.log(Math.min(...values)), high = Math.log(Math.max(...values));
        const room = Math.max(pad * (high - low), 0.06);
        return [low - room, high + room];
      };
      const [left, right] = range(this.points.map((point) => point[this.axis]), 0.05);
      const [best, worst] = range(this.points.map(error), 0.07);
      const { left: l, right: r, top, bottom } = MARGIN;
      return {
        width, height,
        x: (v) => l + ((Math.log(v) - left) / (right - left)) * (width - l - r),
        y: (v) => top + ((Math.log(v) - best) / (worst - best)) * (height - top - bottom),
        xs: ticks(Math.exp(left), Math.exp(right)), ys: ticks(Math.exp(best), Math.min(100, Math.exp(worst))),
      };
    }

    redraw() {
      const { points } = this;
      if (!points.includes(this.chosen)) this.chosen = null;
      if (!points.length) {
        const said = "no point has this figure";
        this.svg.replaceChildren(draw("text", { x: 20, y: 40 }, said));
        this.places = [];
        return;
      }
      const s = this.scales(), { width, height } = s;
      this.places = points
        .map((point) => ({ point, x: s.x(point[this.axis]), y: s.y(error(point)) }))
        .sort((a, b) => a.x - b.x || a.y - b.y);
      const list = draw("g", { role: "listbox", "aria-label": `Runs of ${this.group.name}: accuracy against ${AXES[this.axis]}` },
        ...this.places.map((one) => this.mark(one)));
      this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.svg.replaceChildren(...this.grid(s), this.frontier(s), list);
      this.highlight();
    }

    grid({ width, height, x, y, xs, ys }) {
      const { left, right, top, bottom } = MARGIN, foot = height - bottom;
      const line = (x1, y1, x2, y2) => draw("line", { x1, y1, x2, y2, class: "touch-grid" });
      const text = (at, h, anchor, said) => draw("text", { x: at, y: h, "text-anchor": anchor, class: "touch-tick" }, said);
      return [
        ...ys.flatMap((e) => [line(left, y(e), width - right, y(e)), text(left - 6, y(e) + 4, "end", `${+(100 - e).toFixed(2)}`)]),
        ...xs.flatMap((v) => [line(x(v), top, x(v), foot), text(x(v), foot + 15, "middle", short(v))]),
        text((left + width - right) / 2, height - 4, "middle", TITLES[this.axis]),
        draw("text", { x: 10, y: (top + foot) / 2, class: "touch-tick", "text-anchor": "middle", transform: `rotate(-90 10 ${(top + foot) / 2})` }, "test accuracy (%)"),
      ];
    }

    /** The stairs under the runs here that no other run beats in both. */
    frontier({ x, y, width }) {
      const own = this.places.filter(({ point }) => point.run);
      let best = Infinity, path = "";
      for (const { point } of own) {
        if (error(point) >= best) continue;
        const at = `${x(point[this.axis]).toFixed(1)}`, h = `${y(error(point)).toFixed(1)}`;
        path += path ? `H${at}V${h}` : `M${at} ${h}`;
        best = error(point);
      }
      return draw("path", { class: "touch-stairs", d: path ? `${path}H${width - MARGIN.right}` : "" });
    }

    mark({ point, x, y }) {
      const mark = this.data.marks[point.system];
      return draw("g", { role: "option", tabindex: -1, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`,
        class: "touch-point", "aria-label": this.words(point), "aria-selected": "false" },
      symbol(mark, !point.run), draw("title", {}, this.words(point)));
    }

    words(point) {
      const source = point.run ? `seed ${point.seed}` : `the paper, Table ${point.table}`;
      return `${point.label}, ${source}: ${point.accuracy} %, ${short(point[this.axis])} ${AXES[this.axis]}`;
    }

    click(event) {
      const box = this.svg.getBoundingClientRect(), zoom = this.svg.viewBox.baseVal.width / box.width;
      const at = [(event.clientX - box.left) * zoom, (event.clientY - box.top) * zoom];
      const far = ({ x, y }) => Math.hypot(x - at[0], y - at[1]);
      const near = this.places.reduce((a, b) => (a && far(a) <= far(b) ? a : b), null);
      if (near && far(near) < REACH) this.choose(this.places.indexOf(near));
    }

    key(event) {
      const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
      const options = [...this.svg.querySelectorAll("[role=option]")];
      const at = options.indexOf(document.activeElement);
      if (at < 0) return;
      const ends = { Home: 0, End: options.length - 1 };
      const to = event.key in ends ? ends[event.key] : at + (steps[event.key] || 0);
      if (event.key === "Enter" || event.key === " ") this.choose(at);
      else if (to !== at && options[to]) {
        options[at].setAttribute("tabindex", -1);
        options[to].setAttribute("tabindex", 0);
        options[to].focus();
      } else return;
      event.preventDefault();
    }

    choose(at) {
      this.chosen = this.places[at].point;
      this.highlight();
      this.svg.querySelectorAll("[role=option]")[at].focus({ preventScroll: true });
      this.tell();
    }

    /** Ring the chosen run and pale all that are not of its variant. */
    highlight() {
      const options = [...this.svg.querySelectorAll("[role=option]")];
      const chosen = this.places.findIndex(({ point }) => point === this.chosen);
      options.forEach((option, k) => {
        const same = chosen < 0 || this.places[k].point.label === this.chosen.label;
        option.setAttribute("tabindex", k === Math.max(chosen, 0) ? 0 : -1);
        option.setAttribute("aria-selected", k === chosen);
        option.classList.toggle("touch-pale", !same);
        option.classList.toggle("touch-chosen", k === chosen);
      });
    }

    /** The run that is chosen, in words, with a link to its chapter. */
    tell() {
      const point = this.chosen;
      if (!point) {
        const many = this.group.points.some((one) => one.run);
        const what = many ? "Choose a point to see which run it is." : "No run of this network at this scale yet: the points are the paper's.";
        this.card.replaceChildren(make("p", {}, what));
        return;
      }
      const numbers = [`${point.accuracy} %`, `${count(point.params)} parameters`,
        point.macs && `${count(point.macs)} MACs`, point.seconds && `${count(Math.round(point.seconds))} s of training and tests`];
      const source = point.run
        ? ["Seed ", `${point.seed}`, ", record ", make("code", {}, point.run), `, ${point.date}, `]
        : [`The paper, Table ${point.table}, `];
      const chapter = make("a", { href: `../notebooks/${point.chapter}.html` }, this.data.chapters[point.chapter]);
      this.card.replaceChildren(make("p", {}, make("b", {}, point.label), ": ", numbers.filter(Boolean).join(", "), "."),
        make("p", {}, ...source, "in the chapter ", chapter, "."));
    }
  }

  touch.figure("touch-frontier", (place) => { touch.frontier = new Figure(place); });
})();
