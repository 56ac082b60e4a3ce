// What the theme leaves out for readers who use a keyboard, a voice or a screen reader.
(() => {
  "use strict";
  // {boxes that scroll when they are too narrow: what they hold}; a figure has a caption
  const BOXES = {
    pre: "Code",
    "mjx-container[display]": "Formula",
    ".output, .pst-scrollable-table-container": "Table",
    "figure:not(.touch)": "",
  };

  /** A box with hidden parts fades at its right edge, and the keyboard reaches it. */
  function mark(box) {
    const hidden = box.scrollWidth - box.clientWidth;
    const scrolls = hidden > 1 && /auto|scroll/.test(getComputedStyle(box).overflowX);
    box.classList.toggle("more", scrolls && box.scrollLeft < hidden - 1);
    box.toggleAttribute("tabindex", scrolls);
    if (scrolls) box.tabIndex = 0;
  }

  function watch() {
    const sizes = new ResizeObserver((all) => all.forEach(({ target }) => mark(target)));
    for (const [selector, what] of Object.entries(BOXES))
      for (const box of document.querySelectorAll(`article :is(${selector})`)) {
        if (what) box.setAttribute("role", "group");
        if (what) box.setAttribute("aria-label", what);
        box.addEventListener("scroll", () => mark(box), { passive: true });
        sizes.observe(box);
      }
  }

  /** Whoever says the words on a button must be understood: they are its name. */
  function name() {
    const labelled = ".search-button-field, summary[aria-label]";
    for (const e of document.querySelectorAll(labelled)) e.removeAttribute("aria-label");
  }

  /** The items of a list are items, also in the list of sources. */
  function list() {
    const sources = document.querySelectorAll(".citation-list > .citation");
    for (const one of sources) one.setAttribute("role", "listitem");
  }

  document.addEventListener("DOMContentLoaded", () => { name(); list(); });
  addEventListener("load", async () => {
    await window.MathJax?.startup?.promise; // formulas are boxes once they are drawn
    watch();
  });
})();
