// SGD on Eq. (3), with the lasso of Eq. (5) as a subgradient or as a proximal step: what
// maestro.theory.sgd and maestro.lowrank.proximal_step compute, in double precision.
(() => {
  "use strict";

  /** Numbers from 0 to 1 by a seed (mulberry32). */
  function random(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let x = Math.imul(state ^ (state >>> 15), state | 1);
      x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
      return ((x ^ (x >>> 14)) >>> 0) / 4294967296;
    };
  }

  /** The squares of the norms of columns 1..r of a matrix (rows, r). */
  function squares(matrix, r) {
    const sums = new Float64Array(r);
    matrix.forEach((x, at) => { sums[at % r] += x * x; });
    return sums;
  }

  /** The norms of columns b..r, b = 1..r. */
  function suffixNorms(matrix, r) {
    const sums = squares(matrix, r);
    for (let k = r - 2; k >= 0; k--) sums[k] += sums[k + 1];
    return sums.map(Math.sqrt);
  }

  /** One linear problem: A (m, n), data with E[x x^T] = I / n, factors U and V. */
  class Descent {
    constructor({ m, n, r, A, U, V }, lr) {
      Object.assign(this, { m, n, r, lr, A: Float64Array.from(A) });
      this.U = Float64Array.from(U);
      this.V = Float64Array.from(V);
      this.steps = 0;
    }

    /** One step with the first b columns. */
    step(b, lambda, proximal) {
      const { m, n, r, U, V, A, lr } = this;
      const gradU = new Float64Array(m * r), gradV = new Float64Array(n * r);
      for (let i = 0; i < m; i++)
        for (let j = 0; j < n; j++) {
          let error = -A[i * n + j];
          for (let k = 0; k < b; k++) error += U[i * r + k] * V[j * r + k];
          error *= 2 / (n * m); // the loss is the mean over the m outputs
          for (let k = 0; k < b; k++) {
            gradU[i * r + k] += error * V[j * r + k];
            gradV[j * r + k] += error * U[i * r + k];
          }
        }
      for (const [factor, gradient] of [[U, gradU], [V, gradV]]) {
        if (lambda && !proximal) addLasso(factor, gradient, r, lambda);
        factor.forEach((x, at) => { factor[at] = x - lr * gradient[at]; });
        if (lambda && proximal) shrinkToZero(factor, r, lr * lambda);
      }
      this.steps += 1;
    }

    /** The size ||u_b|| ||v_b|| of each column. */
    sizes() {
      const u = squares(this.U, this.r), v = squares(this.V, this.r);
      return Array.from(u, (x, k) => Math.sqrt(x * v[k]));
    }

    /** The rank that shrinking would keep at the threshold eps (Sec. 3.3). */
    rank(eps) {
      const u = suffixNorms(this.U, this.r), v = suffixNorms(this.V, this.r);
      return u.reduce((kept, x, k) => kept + (x * v[k] > eps), 0);
    }
  }

  /** Add lambda times the gradient of Eq. (5): column j is in the suffixes 1..j. */
  function addLasso(factor, gradient, r, lambda) {
    let sum = 0;
    const pull = suffixNorms(factor, r).map((norm) => (sum += norm > 0 ? 1 / norm : 0));
    factor.forEach((x, at) => { gradient[at] += lambda * x * pull[at % r]; });
  }

  /** The proximal point of t times Eq. (5): from the last column to the first, the norm
   * of each suffix falls by t or to zero. */
  function shrinkToZero(factor, r, t) {
    const sums = squares(factor, r), kept = new Float64Array(r);
    for (let k = r - 1, after = 0; k >= 0; k--) {
      const before = Math.sqrt(sums[k] + after * after);
      after = Math.max(before - t, 0);
      kept[k] = before > 0 ? after / before : 0;
    }
    for (let k = 1; k < r; k++) kept[k] *= kept[k - 1];
    factor.forEach((x, at) => { factor[at] = x * kept[at % r]; });
  }

  Object.assign(touch, { Descent, random });
})();
