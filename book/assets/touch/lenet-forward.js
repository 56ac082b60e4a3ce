// LeNet in plain JavaScript, at any ranks: W = U[:, :r] V[:, :r]^T in every layer.
// Numbers are doubles. A layer runs in the form that takes fewer of them, as a merged
// network does: one dense matrix, or two thin ones.
(() => {
  "use strict";
  const SIDE = 28, KERNEL = 5;

  /** One low-rank layer. U (m, most) and V (n, most) row by row, bias (m). */
  class Layer {
    constructor({ name, m, n, rank, positions, U, V, bias }) {
      Object.assign(this, { name, m, n, most: rank, positions });
      this.U = touch.floats(U);
      this.bias = touch.floats(bias);
      const columns = touch.floats(V);
      this.Vt = new Float64Array(columns.length); // (most, n): a row for each column
      for (let j = 0; j < n; j++)
        for (let k = 0; k < rank; k++) this.Vt[k * n + j] = columns[j * rank + k];
      this.inner = new Float64Array(rank);
      this.cut(rank);
    }

    /** Run with the first r columns from now on. */
    cut(r) {
      this.rank = r;
      this.dense = r * (this.m + this.n) >= this.m * this.n;
      this.W = this.dense ? this.product() : null;
    }

    /** Numbers that are stored at rank r, without the bias. */
    weights(r = this.rank) {
      return Math.min(this.m * this.n, r * (this.m + this.n));
    }

    /** The size ||u_k|| ||v_k|| of each column. */
    importance() {
      const { m, n, most, U, Vt } = this;
      return Array.from({ length: most }, (_, k) => {
        let u = 0, v = 0;
        for (let i = 0; i < m; i++) u += U[i * most + k] ** 2;
        for (let j = 0; j < n; j++) v += Vt[k * n + j] ** 2;
        return Math.sqrt(u * v);
      });
    }

    product() {
      const { m, n, most, rank, U, Vt } = this;
      const W = new Float64Array(m * n);
      for (let i = 0; i < m; i++)
        for (let k = 0; k < rank; k++) {
          const u = U[i * most + k];
          for (let j = 0; j < n; j++) W[i * n + j] += u * Vt[k * n + j];
        }
      return W;
    }

    /** out[at + i step] = (W x)_i + bias_i. */
    apply(x, out, at, step) {
      const { m, n, most, rank, U, Vt, W, bias, inner } = this;
      if (W) {
        for (let i = 0; i < m; i++) {
          let sum = bias[i];
          for (let j = 0, w = i * n; j < n; j++) sum += W[w + j] * x[j];
          out[at + i * step] = sum;
        }
        return;
      }
      for (let k = 0; k < rank; k++) {
        let sum = 0;
        for (let j = 0, v = k * n; j < n; j++) sum += Vt[v + j] * x[j];
        inner[k] = sum;
      }
      for (let i = 0; i < m; i++) {
        let sum = bias[i];
        for (let k = 0, u = i * most; k < rank; k++) sum += U[u + k] * inner[k];
        out[at + i * step] = sum;
      }
    }
  }

  /** Max over squares of 2 x 2, then ReLU: (channels, side, side) to a quarter. */
  function pooled(maps, channels, side, out) {
    const half = side / 2;
    for (let c = 0; c < channels; c++)
      for (let y = 0; y < half; y++)
        for (let x = 0; x < half; x++) {
          const at = (c * side + 2 * y) * side + 2 * x;
          const top = Math.max(maps[at], maps[at + 1]);
          const low = Math.max(maps[at + side], maps[at + side + 1]);
          out[(c * half + y) * half + x] = Math.max(0, top, low);
        }
  }

  /** A layer as a stage: convolution and pooling on maps of `side`, or linear. */
  function stageOf(layer, side, last) {
    const { m, n } = layer;
    if (!side) {
      return {
        size: m,
        run(x, out) {
          layer.apply(x, out, 0, 1);
          if (!last) for (let i = 0; i < m; i++) if (out[i] < 0) out[i] = 0;
        },
      };
    }
    const wide = side - KERNEL + 1, patch = new Float64Array(n);
    const maps = new Float64Array(m * wide * wide);
    const channels = n / KERNEL / KERNEL;
    return {
      size: (m * wide * wide) / 4,
      run(x, out) {
        for (let row = 0; row < wide; row++)
          for (let column = 0; column < wide; column++) {
            for (let c = 0, at = 0; c < channels; c++)
              for (let i = 0; i < KERNEL; i++) {
                const from = (c * side + row + i) * side + column;
                for (let j = 0; j < KERNEL; j++) patch[at++] = x[from + j];
              }
            layer.apply(patch, maps, row * wide + column, wide * wide);
          }
        pooled(maps, m, wide, out);
      },
    };
  }

  /** The network of a data file. */
  class LeNet {
    constructor(data) {
      this.layers = data.layers.map((layer) => new Layer(layer));
      this.fixed = data.fixed;
      const sides = [SIDE, (SIDE - KERNEL + 1) / 2, 0, 0, 0];
      this.stages = this.layers.map((layer, i) => stageOf(layer, sides[i], i === 4));
    }

    get ranks() {
      return this.layers.map((layer) => layer.rank);
    }

    /** The parameters at these ranks. */
    params(ranks = this.ranks) {
      return this.layers.reduce((sum, layer, i) => sum + layer.weights(ranks[i]), this.fixed);
    }

    get macs() {
      return this.layers.reduce((sum, layer) => sum + layer.weights() * layer.positions, 0);
    }

    /** The logits of one normalised image (784 numbers). */
    logits(image) {
      return this.stages.reduce((x, stage) => {
        const out = new Float64Array(stage.size);
        stage.run(x, out);
        return out;
      }, image);
    }
  }

  /** The accuracy on many images, of which each keeps what the first layers put out:
   * a cut in layer i makes only the layers from i on run again. */
  class Trial {
    constructor(net, images, labels) {
      this.net = net;
      this.labels = labels;
      this.held = images.map((image) => [image]); // the inputs of every stage, the logits
      this.read = new Int8Array(images.length);
    }

    /** Layer i has another rank. */
    changed(i) {
      for (const inputs of this.held) inputs.length = Math.min(inputs.length, i + 1);
    }

    /** Go on for some milliseconds; {seen, right, done}. */
    work(milliseconds) {
      const end = performance.now() + milliseconds, { stages } = this.net;
      let seen = 0, right = 0;
      for (const [k, inputs] of this.held.entries()) {
        while (inputs.length <= stages.length) {
          if (performance.now() > end) return { seen, right, done: false };
          const stage = stages[inputs.length - 1], out = new Float64Array(stage.size);
          stage.run(inputs[inputs.length - 1], out);
          inputs.push(out);
          if (inputs.length > stages.length) this.read[k] = best(out);
        }
        seen += 1;
        right += this.read[k] === this.labels[k];
      }
      return { seen, right, done: true };
    }
  }

  const best = (numbers) => numbers.indexOf(Math.max(...numbers));

  function softmax(logits) {
    const most = Math.max(...logits);
    const powers = Array.from(logits, (x) => Math.exp(x - most));
    const sum = powers.reduce((a, b) => a + b);
    return powers.map((x) => x / sum);
  }

  /** Pixels 0..255 as the network's input. */
  const normalised = (pixels, mean, std) =>
    Float64Array.from(pixels, (pixel) => (pixel / 255 - mean) / std);

  Object.assign(touch, { LeNet, Trial, best, softmax, normalised });
})();
