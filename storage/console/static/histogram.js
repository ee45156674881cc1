/* Scores as a histogram, with the two thresholds as lines that pointer, touch and keys move. */

import { node, score } from "./format.js";
import { say } from "./language.js";

const BINS = 72;
const HEIGHT = 190;
const FOOT = 22; // for the numbers below
const HEAD = 26; // for the grips
const STEPS = 400; // of a key, over the whole width
const LIMITS = ["review_above", "reject_above"];

/* Draw scores `[{score, good}]`; `moved(limit, value, last)` is told of every move. Return a function that sets limits. */
export function drawHistogram(svg, scores, limits, moved) {
  const width = svg.clientWidth || 600;
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const [low, high] = range(scores, limits);
  const x = (value) => ((value - low) / (high - low)) * width;
  const ground = node("g");
  const gray = node("rect", { class: "gray", y: HEAD, height: HEIGHT - HEAD - FOOT });
  const over = node("rect", { class: "over", y: HEAD, height: HEIGHT - HEAD - FOOT });
  ground.append(over, gray, ...bars(scores, low, high, width), node("line", { class: "base", x1: 0, x2: width, y1: HEIGHT - FOOT, y2: HEIGHT - FOOT }), ...ticks(low, high, x));
  const now = { ...limits };
  const grips = {};

  function place() {
    for (const limit of LIMITS) {
      const at = x(now[limit]);
      grips[limit].setAttribute("transform", `translate(${at} 0)`);
      grips[limit].setAttribute("aria-valuenow", now[limit]);
      grips[limit].setAttribute("aria-valuetext", score(now[limit]));
      grips[limit].querySelector("text").textContent = score(now[limit]);
      const right = limit === "reject_above" ? at > width - 70 : at > 70;
      const text = grips[limit].querySelector("text");
      text.setAttribute("text-anchor", right ? "end" : "start");
      text.setAttribute("x", right ? -16 : 16);
      text.setAttribute("y", right === (limit === "reject_above") ? 42 : 18); // on the other one's side: below its grip
    }
    gray.setAttribute("x", x(now.review_above));
    gray.setAttribute("width", Math.max(0, x(now.reject_above) - x(now.review_above)));
    over.setAttribute("x", x(now.reject_above));
    over.setAttribute("width", Math.max(0, width - x(now.reject_above)));
  }

  function set(limit, value, last) {
    const other = limit === "review_above" ? Math.min(value, now.reject_above) : Math.max(value, now.review_above);
    const exact = Math.min(Math.max(other, low), high);
    const rounded = Number(exact.toPrecision(6));
    // rounded, but never beyond the other one: that may have more digits
    now[limit] = limit === "review_above" ? Math.min(rounded, now.reject_above) : Math.max(rounded, now.review_above);
    place();
    moved(limit, now[limit], last);
  }

  for (const limit of LIMITS) {
    const name = limit === "review_above" ? say("Review above") : say("Reject above");
    const grip = node("g", { class: `grip ${limit}`, role: "slider", tabindex: 0, "aria-label": name, "aria-valuemin": low, "aria-valuemax": high });
    grip.append(node("line", { x1: 0, x2: 0, y1: 6, y2: HEIGHT - FOOT }), node("rect", { class: "hit", x: -22, y: 0, width: 44, height: HEIGHT }), node("circle", { cx: 0, cy: 13, r: 10 }), node("text", { y: 18 }));
    grip.addEventListener("pointerdown", (down) => {
      down.preventDefault();
      grip.focus();
      grip.setPointerCapture(down.pointerId);
      const value = (event) => low + ((event.clientX - svg.getBoundingClientRect().left) / svg.getBoundingClientRect().width) * (high - low);
      const off = value(down) - now[limit];
      const move = (event) => set(limit, value(event) - off, false);
      grip.addEventListener("pointermove", move);
      grip.addEventListener("lostpointercapture", () => {
        grip.removeEventListener("pointermove", move);
        moved(limit, now[limit], true);
      }, { once: true });
    });
    grip.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -20, PageUp: 20 }[event.key];
      if (!way) return;
      event.preventDefault();
      set(limit, now[limit] + (way * (event.shiftKey ? 10 : 1) * (high - low)) / STEPS, true);
    });
    grips[limit] = grip;
  }
  svg.replaceChildren(ground, ...LIMITS.map((limit) => grips[limit]));
  place();
  return (wanted) => {
    Object.assign(now, wanted);
    place();
  };
}

function range(scores, limits) {
  let low = Math.min(limits.review_above, limits.reject_above);
  let high = Math.max(limits.review_above, limits.reject_above);
  for (const one of scores) {
    low = Math.min(low, one.score);
    high = Math.max(high, one.score);
  }
  const room = (high - low || Math.abs(high) || 1) * 0.04;
  return [low - room, high + room];
}

function bars(scores, low, high, width) {
  const counts = Array.from({ length: BINS }, () => ({ good: 0, none: 0, bad: 0 }));
  for (const one of scores) {
    const bin = Math.min(BINS - 1, Math.floor(((one.score - low) / (high - low)) * BINS));
    counts[bin][one.good === null ? "none" : one.good ? "good" : "bad"] += 1;
  }
  const most = Math.max(1, ...counts.map((bin) => bin.good + bin.none + bin.bad));
  const room = HEIGHT - HEAD - FOOT;
  const pitch = width / BINS;
  const drawn = [];
  counts.forEach((bin, index) => {
    const total = bin.good + bin.none + bin.bad;
    if (!total) return;
    const whole = Math.max(3, Math.sqrt(total / most) * room); // the root: a single bad part is to be seen
    let top = HEIGHT - FOOT;
    for (const kind of ["good", "none", "bad"]) {
      const height = (bin[kind] / total) * whole;
      top -= height;
      if (height) drawn.push(node("rect", { class: `bar ${kind}`, x: index * pitch + 0.5, y: top, width: Math.max(1, pitch - 1), height }));
    }
    drawn.at(-1).append(Object.assign(node("title"), { textContent: say("{n} parts", { n: total }) }));
  });
  return drawn;
}

function ticks(low, high, x) {
  const step = 10 ** Math.floor(Math.log10((high - low) / 3));
  const pace = step * ((high - low) / step > 8 ? 2 : 1);
  const drawn = [];
  for (let value = Math.ceil(low / pace) * pace; value <= high; value += pace) {
    const text = node("text", { class: "tick", x: x(value), y: HEIGHT - 6, "text-anchor": "middle" });
    text.textContent = Number(value.toPrecision(6));
    drawn.push(text);
  }
  return drawn;
}
