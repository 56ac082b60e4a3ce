// What the figures to touch have in common: making elements, reading data, saying
// things. Classic scripts and data as scripts, because a page that is opened from the
// disk may neither fetch nor import.
(() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";

  /** Set attributes, listeners (names that begin with "on") and children. */
  function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== false && value != null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  /** An HTML element: make("p", {class: "x"}, "text", otherElement). */
  const make = (tag, attributes, ...children) =>
    fill(document.createElement(tag), attributes, children);

  /** An element of SVG, likewise. */
  const draw = (tag, attributes, ...children) =>
    fill(document.createElementNS(SVG, tag), attributes, children);

  let places = 0;

  /** A labelled slider; {box, input}. `options` are attributes of the input. */
  function slider(label, options, ...under) {
    const id = `touch-input-${places++}`;
    const input = make("input", { type: "range", id, ...options });
    const value = make("output", { for: id, class: "touch-value" });
    const head = make("span", { class: "touch-head" });
    head.append(make("label", { for: id }, label), value);
    return { box: make("div", { class: "touch-slider" }, head, ...under, input), input, value };
  }

  /** A fieldset of radio buttons; options {value: text}. Calls change(value). */
  function choice(legend, options, chosen, change) {
    const name = `touch-choice-${places++}`;
    const inputs = Object.entries(options).map(([value, text]) => {
      const input = make("input", { type: "radio", name, value, onchange: () => change(value) });
      input.checked = value === chosen;
      return make("label", {}, input, " ", text);
    });
    return make("fieldset", { class: "touch-choice" }, make("legend", {}, legend), ...inputs);
  }

  /** A polite announcement: said once it has not changed for a moment. */
  function announcer() {
    const box = make("p", { class: "touch-said", "aria-live": "polite" });
    let timer = 0;
    const say = (text) => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        if (box.textContent !== text) box.textContent = text;
      }, 400);
    };
    return { box, say };
  }

  function bytes(base64) {
    const text = atob(base64);
    return Uint8Array.from(text, (character) => character.charCodeAt(0));
  }

  /** Little-endian float32 numbers in base64, as doubles. */
  function floats(base64) {
    const view = new DataView(bytes(base64).buffer);
    return Float64Array.from({ length: view.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true));
  }

  /** Bytes in base64 in which a zero is followed by the number of zeros. */
  function unzeroed(base64, length) {
    const out = new Uint8Array(length);
    let place = 0;
    const packed = bytes(base64);
    for (let i = 0; i < packed.length; i++) {
      if (packed[i]) out[place++] = packed[i];
      else place += packed[++i];
    }
    return out;
  }

  /** Load a script that lies beside this one; a promise. */
  const here = document.currentScript.src.replace(/[^/]*$/, "");
  function load(name) {
    return new Promise((done, failed) => {
      document.head.append(make("script", { src: here + name, onload: done, onerror: failed }));
    });
  }

  /** Call build(figure) for the figure of this id, if the page has it. */
  function figure(id, build) {
    const start = () => {
      const place = document.getElementById(id);
      if (!place) return;
      place.querySelector("noscript")?.remove();
      build(place);
    };
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
    else start();
  }

  const count = (number) => number.toLocaleString("en-US");
  const share = (number) => `${number.toFixed(2)}×`;

  window.touch = {
    make, draw, slider, choice, announcer, floats, unzeroed, load, figure, count, share,
  };
})();
