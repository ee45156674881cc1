/* A Pareto chart: a row for each name, its bar, its count, and the line of what it comes to with all above it. */

import { count, node } from "./format.js";

const ROW = 44; // px: a finger's width
const LABEL = 0.32; // share of the width

/* Draw `bars` [{ name, text, count, share, cumulative, href }] into `place`. */
export function drawBars(place, bars) {
  const width = Math.max(place.clientWidth, 300);
  const left = Math.round(width * LABEL);
  const room = width - left - 96;
  const svg = node("svg", { viewBox: `0 0 ${width} ${bars.length * ROW}`, height: bars.length * ROW, role: "list" });
  const points = [];
  bars.forEach((bar, index) => {
    const y = index * ROW;
    const link = bar.href ? node("a", { href: bar.href }) : node("g");
    link.setAttribute("role", bar.href ? "link" : "listitem");
    link.setAttribute("aria-label", `${bar.text}: ${count(bar.count)}, ${percent(bar.share)}`);
    link.append(
      node("rect", { class: "hit", x: 0, y, width, height: ROW }),
      written(bar.text, { x: 4, y: y + ROW / 2 }, Math.floor((left - 12) / 7.6)),
      node("rect", { class: "bar", x: left, y: y + 10, width: Math.max(2, (room * bar.count) / bars[0].count), height: ROW - 20, rx: 3 }),
      written(`${count(bar.count)} · ${percent(bar.cumulative)}`, { class: "count", x: width - 4, y: y + ROW / 2 }, 99),
    );
    svg.append(link);
    points.push([left + room * bar.cumulative, y + ROW / 2]);
  });
  svg.append(node("polyline", { points: points.map((point) => point.join(",")).join(" ") }));
  for (const [x, y] of points) svg.append(node("circle", { cx: x, cy: y, r: 3.5 }));
  place.replaceChildren(svg);
}

export function percent(share) {
  const size = Math.abs(share) * 100;
  if (!size) return "0\u202f%";
  return `${(share * 100).toFixed(size >= 10 ? 1 : size >= 1 ? 2 : 3)}\u202f%`;
}

function written(text, attributes, most) {
  const made = node("text", attributes);
  made.textContent = text.length > most ? `${text.slice(0, most - 1)}…` : text;
  return made;
}
