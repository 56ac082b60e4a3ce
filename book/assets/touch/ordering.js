// The figure "Watch the columns order themselves": a 9 x 6 map of rank 3, trained here.
(() => {
  "use strict";
  const { make, draw, slider, choice, announcer, count } = touch;
  const COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#8a8a8a"];
  const WIDE = 34, HIGH = 14, GAP = 10, PITCH = 46; // of the matrices' cells
  const CHART = { width: 340, height: 236, left: 34, bottom: 20 };
  const TOP = 2, FLOOR = -12; // decades on the chart
  const PER_FRAME = 5, EVERY = 5, AT_LEAST = 2000; // steps
  const LAMBDAS = [0, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2];
  const STEPS = { sub: "subgradient (the paper)", prox: "proximal step" };

  const power = (x) => (x === 0 ? "0" : `${(x / 10 ** Math.floor(Math.log10(x) + 1e-9)).toFixed(0)}e${Math.floor(Math.log10(x) + 1e-9)}`);
  const size = (x) => (x >= 0.095 ? x.toFixed(2) : x < 1e-99 ? "0" : power(x));
  const clamp = (x, low, high) => Math.max(low, Math.min(high, x));

  /** The matrices as in Fig. 1: column b of U over column b of V. */
  class Columns {
    constructor({ m, n, r }) {
      const margin = (PITCH - WIDE) / 2, below = m * HIGH + GAP, foot = below + n * HIGH;
      const cells = (rows, top) => Array.from({ length: rows * r }, (_, at) =>
        draw("rect", { x: (at % r) * PITCH + margin, y: top + Math.floor(at / r) * HIGH, width: WIDE, height: HIGH }));
      const text = (x, y, name, said) => draw("text", { x, y, class: name }, said);
      this.U = cells(m, 0);
      this.V = cells(n, below);
      this.groups = Array.from({ length: r }, (_, k) => {
        const own = (cell, at) => at % r === k, x = k * PITCH + margin, middle = x + WIDE / 2;
        const frames = [[0, m], [below, n]].map(([y, rows]) =>
          draw("rect", { x, y, width: WIDE, height: rows * HIGH, class: "touch-frame" }));
        const key = draw("rect", { x, y: foot + 22, width: WIDE, height: 3, fill: COLORS[k] });
        const value = text(middle, foot + 39, "touch-size", "");
        const name = text(middle, foot + 18, "touch-column", `${k + 1}`);
        return { box: draw("g", {}, ...this.U.filter(own), ...this.V.filter(own), ...frames, name, key, value), value };
      });
      this.drawn = draw("rect", { x: 1, y: -5, height: foot + 10, rx: 5, class: "touch-drawn" });
      this.box = draw("svg", { viewBox: `-16 -8 ${r * PITCH + 18} ${foot + 52}`, class: "touch-matrices", role: "img",
        "aria-label": "The columns of U over those of V, coloured by their entries" },
      text(-15, (m * HIGH) / 2 + 4, "touch-letter", "U"), text(-15, below + (n * HIGH) / 2 + 4, "touch-letter", "V"),
      ...this.groups.map((group) => group.box), this.drawn);
    }

    show(descent, b, rank) {
      for (const [cells, factor] of [[this.U, descent.U], [this.V, descent.V]])
        cells.forEach((cell, at) => {
          const x = factor[at];
          cell.setAttribute("class", x < 0 ? "touch-minus" : "touch-plus");
          cell.setAttribute("fill-opacity", Math.min(1, Math.abs(x) / 1.5).toFixed(3));
        });
      descent.sizes().forEach((x, k) => {
        this.groups[k].value.textContent = size(x);
        this.groups[k].box.classList.toggle("touch-cut", k >= rank);
      });
      this.drawn.setAttribute("width", b * PITCH - 2);
    }
  }

  /** The sizes of the columns over the steps, on a logarithmic axis. */
  class Chart {
    constructor(targets, r) {
      const { width, height, left, bottom } = CHART;
      const line = (options) => draw("line", { x1: left, x2: width, ...options });
      this.lines = Array.from({ length: r }, (_, k) => draw("path", { class: "touch-line", stroke: COLORS[k] }));
      this.eps = line({ class: "touch-eps" });
      this.name = draw("text", { x: width - 3, class: "touch-tick", "text-anchor": "end" }, "ε");
      this.last = draw("text", { x: width - 1, y: height - 4, class: "touch-tick", "text-anchor": "end" });
      const decades = [2, -2, -6, -10].map((d) =>
        draw("g", {}, line({ y1: this.y(10 ** d), y2: this.y(10 ** d), class: "touch-grid" }),
          draw("text", { x: left - 4, y: this.y(10 ** d) + 4, class: "touch-tick", "text-anchor": "end" }, d === 2 ? "100" : `1e${d}`)));
      const goals = targets.map((x) => line({ y1: this.y(x), y2: this.y(x), class: "touch-goal" }));
      this.box = draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "touch-chart", role: "img",
        "aria-label": "The size of each column over the steps, on a logarithmic axis; dotted: the singular values; dashed: the threshold" },
      ...decades, ...goals, this.eps, this.name,
      draw("text", { x: left - 4, y: height - bottom + 4, class: "touch-tick", "text-anchor": "end" }, "0"),
      draw("text", { x: left, y: height - 4, class: "touch-tick" }, "step 0"), this.last, ...this.lines);
    }

    y(x) {
      const inner = CHART.height - CHART.bottom - 6;
      return 6 + inner * clamp((TOP - Math.log10(Math.max(x, 1e-300))) / (TOP - FLOOR), 0, 1);
    }

    show(history, most) {
      const { left, width } = CHART, until = Math.max(AT_LEAST, most);
      this.lines.forEach((path, k) => {
        const points = history.map(({ step, sizes }) =>
          `${(left + ((width - left) * step) / until).toFixed(1)} ${this.y(sizes[k]).toFixed(1)}`);
        path.setAttribute("d", `M${points.join("L")}`);
      });
      this.last.textContent = count(until);
    }

    threshold(eps) {
      for (const name of ["y1", "y2"]) this.eps.setAttribute(name, this.y(eps));
      this.name.setAttribute("y", this.y(eps) - 4);
    }
  }

  class Figure {
    constructor(place) {
      this.data = window.touchData.ordering;
      const { m, n, r, singular_values: targets } = this.data;
      this.columns = new Columns({ m, n, r });
      this.chart = new Chart(targets, r);
      this.live = announcer();
      this.start = 0;
      this.proximal = false;
      this.controls(place);
      this.restart();
    }

    controls(place) {
      const button = (text, onclick) => make("button", { type: "button", onclick }, text);
      this.share = slider("Steps that draw b", { min: 0, max: 100, step: 5, value: 100, oninput: () => this.changed() });
      this.lambda = slider("λ, weight of the lasso", { min: 0, max: LAMBDAS.length - 1, value: 0, oninput: () => this.changed() });
      this.eps = slider("ε, threshold", { min: -28, max: 0, value: -14, oninput: () => this.changed() });
      this.train = button("Train", () => (this.frame ? this.pause() : this.run()));
      place.prepend(
        make("div", { class: "touch-two" },
          make("div", {}, this.columns.box),
          make("div", {}, this.chart.box, make("p", { class: "touch-legend" }, "Size ‖u‖‖v‖ of each column. Dotted: the singular values of A."))),
        make("div", { class: "touch-two" },
          make("div", {}, this.share.box, this.lambda.box, this.eps.box),
          make("div", {}, choice("The lasso acts by", STEPS, "sub", (name) => { this.proximal = name === "prox"; }),
            make("div", { class: "touch-buttons" }, this.train,
              button("Start again", () => this.restart()),
              button("Another problem", () => { this.start += 1; this.restart(); })))),
        this.live.box);
    }

    /** What the sliders say. */
    get settings() {
      return {
        share: this.share.input.value / 100,
        lambda: LAMBDAS[this.lambda.input.value],
        eps: 10 ** (this.eps.input.value / 2),
      };
    }

    changed() {
      const { share, lambda, eps } = this.settings;
      const often = share === 0 ? "none: all columns, always" : `${Math.round(100 * share)} %`;
      this.share.value.textContent = often;
      this.lambda.value.textContent = lambda ? power(lambda) : "0";
      this.eps.value.textContent = this.eps.input.value % 2 ? power(eps) : `1e${this.eps.input.value / 2}`;
      for (const { input, value } of [this.share, this.lambda, this.eps])
        input.setAttribute("aria-valuetext", value.textContent);
      this.chart.threshold(eps);
      this.show();
    }

    restart() {
      const { problems, lr } = this.data, one = problems[this.start % problems.length];
      this.descent = new touch.Descent({ ...this.data, ...one }, lr);
      this.random = touch.random(this.start + 1);
      this.b = this.data.r;
      this.every = EVERY;
      this.history = [{ step: 0, sizes: this.descent.sizes() }];
      this.changed();
    }

    /** Some steps of training; each draws b, or takes all columns. */
    advance(steps) {
      const { share, lambda } = this.settings, { r } = this.data;
      for (let i = 0; i < steps; i++) {
        this.b = this.random() < share ? 1 + Math.floor(this.random() * r) : r;
        this.descent.step(this.b, lambda, this.proximal);
        if (this.descent.steps % this.every === 0)
          this.history.push({ step: this.descent.steps, sizes: this.descent.sizes() });
      }
      if (this.history.length > 500) {
        this.history = this.history.filter((_, at) => at % 2 === 0);
        this.every *= 2;
      }
      this.show();
    }

    run() {
      this.train.textContent = "Pause";
      const on = () => {
        this.advance(PER_FRAME);
        this.frame = requestAnimationFrame(on);
      };
      this.frame = requestAnimationFrame(on);
    }

    pause() {
      cancelAnimationFrame(this.frame);
      this.frame = 0;
      this.train.textContent = "Train";
      this.show();
    }

    show() {
      const { eps } = this.settings, rank = this.descent.rank(eps), { steps } = this.descent;
      this.columns.show(this.descent, this.b, rank);
      this.chart.show(this.history, steps);
      if (this.frame && steps % 500 >= PER_FRAME) return;
      const sizes = this.descent.sizes().map(size).join(", ");
      this.live.say(`Step ${count(steps)}: the columns' sizes are ${sizes}. ` +
        `With ε = ${this.eps.value.textContent}, ${rank} of ${this.data.r} columns stay.`);
    }
  }

  touch.figure("touch-ordering", (place) => { touch.ordering = new Figure(place); });
})();
