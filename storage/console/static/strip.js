/* The score strip: one bar for each of the last parts, in multiples of the reject threshold that it was judged by. */

import { WORDS, node, score } from "./format.js";
import { say } from "./language.js";

const BARS = 60;
const HEIGHT = 116; // of the drawing, whatever its height on the page
const TOP = 2.2; // multiples of the reject threshold; what is higher is cut off and marked
const LIMIT_Y = y(1);

export function worst(part) {
  if (!part.views.length) return {}; // a part of which no view was judged
  return part.views.reduce((worse, view) => (relative(view) > relative(worse) ? view : worse));
}

function relative(view) {
  if (view.score === undefined || view.reject_above === undefined) return Infinity; // no judgement is worse than any
  return against(view.score, view.reject_above);
}

function against(value, limit) {
  return limit > 0 ? value / limit : 1 + value - limit;
}

function y(multiple) {
  return HEIGHT - 2 - (Math.min(Math.max(multiple, 0), TOP) / TOP) * (HEIGHT - 6);
}

export function drawStrip(svg, parts) {
  const width = svg.clientWidth || 1;
  const pitch = width / BARS;
  const bar = Math.max(2, Math.min(pitch * 0.62, 18));
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const drawn = [];
  const shown = parts.slice(-BARS);
  shown.forEach((part, index) => {
    const left = width - (shown.length - index) * pitch;
    const view = worst(part);
    const multiple = relative(view);
    if (view.review_above !== undefined && view.reject_above !== undefined) {
      const zone = y(against(view.review_above, view.reject_above));
      drawn.push(node("rect", { class: "zone", x: left, y: LIMIT_Y, width: pitch + 0.5, height: Math.max(0, zone - LIMIT_Y) }));
    }
    const link = node("a", { href: `/parts/${part.part_id}`, class: `is-${part.verdict}`, "aria-label": `${WORDS[part.verdict]} ${part.part_id}` });
    const title = node("title");
    title.textContent = `${WORDS[part.verdict]} · ${say("score {score} · reject above {limit}", { score: score(view.score), limit: score(view.reject_above) })} · ${say("no. {n}", { n: part.sequence })}`;
    link.append(title, node("rect", { class: "hit", x: left, y: 0, width: pitch, height: HEIGHT }));
    const x = left + (pitch - bar) / 2;
    if (multiple === Infinity) {
      link.append(node("rect", { class: "fault", x: x + 1, y: 6, width: bar - 2, height: HEIGHT - 9, rx: 2 }));
    } else {
      const top = Math.min(y(multiple), HEIGHT - 5);
      link.append(node("rect", { class: "bar", x, y: top, width: bar, height: HEIGHT - 2 - top, rx: Math.min(3, bar / 3) }));
      if (multiple > TOP) link.append(node("rect", { class: "cut", x: x - 1, y: 13, width: bar + 2, height: 3, transform: `rotate(-12 ${x + bar / 2} 14)` }));
    }
    drawn.push(link);
  });
  drawn.push(node("line", { class: "limit", x1: 0, x2: width, y1: LIMIT_Y, y2: LIMIT_Y }));
  drawn.push(node("line", { class: "base", x1: 0, x2: width, y1: HEIGHT - 1, y2: HEIGHT - 1 }));
  svg.replaceChildren(...drawn);
}
