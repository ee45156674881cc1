/* Charts in the console's colours: a thin coat around uPlot (vendor/uplot), which a page loads before its own script. */

const { uPlot } = globalThis;
const LOOKS = {
  value: { stroke: "--text", width: 1.6, dot: 5 },
  second: { stroke: "--link", width: 1.6, dot: 0 },
  middle: { stroke: "--muted", width: 1, dash: [2, 3], dot: 0 },
  limit: { stroke: "--reject", width: 1.2, dash: [6, 4], dot: 0, stepped: true },
  edge: { stroke: "--link", width: 0, dot: 0 },
  signal: { stroke: "--reject", width: 0, dot: 11, alone: true },
  hint: { stroke: "--review-fill", width: 0, dot: 10, alone: true },
};
const drawn = new Map(); // element -> { figure, plot }

/**
 * Draw a figure into `place`, instead of what is drawn there:
 *   times   ISO 8601 in the station's zone, in order
 *   lines   [{ label, values, look }], values as long as times, null where there is none; look: a key of LOOKS
 *   bands   [[upper, lower]], indices of lines between which is filled
 *   spans   [{ from, to, look }], times between which the ground is shaded
 *   format  (value) -> text
 *   pointed (index or null) -> called as the pointer moves;   chosen (index) -> called on a click
 */
export function chart(place, figure) {
  drawn.get(place)?.plot.destroy();
  place.hidden = false;
  const offset_s = zone_s(figure.times[0] ?? "");
  const styles = getComputedStyle(place);
  const colour = (name) => styles.getPropertyValue(name).trim();
  const axis = {
    stroke: colour("--muted"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line"), width: 1, size: 4 },
    font: `12px ${styles.fontFamily}`,
  };
  const options = {
    width: place.clientWidth,
    height: place.clientHeight,
    tzDate: (seconds) => uPlot.tzDate(new Date((seconds + offset_s) * 1000), "Etc/UTC"),
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 9 } },
    scales: { x: { time: true, range: wider }, y: { range: roomy } },
    axes: [{ ...axis, values: (_, ticks, __, ___, step) => dates(ticks, step, offset_s) }, { ...axis, size: 58, values: (_, ticks) => ticks.map(figure.format) }],
    series: [{}, ...figure.lines.map((line) => series(LOOKS[line.look], line, colour))],
    bands: (figure.bands ?? []).map(([upper, lower]) => ({ series: [upper + 1, lower + 1], fill: faint(colour("--link")) })),
    hooks: {
      drawClear: [(plot) => shade(plot, figure, colour)],
      setCursor: [(plot) => figure.pointed?.(plot.cursor.idx ?? null)],
    },
  };
  const data = [figure.times.map((time) => Date.parse(time) / 1000), ...figure.lines.map((line) => line.values)];
  place.replaceChildren();
  const plot = new uPlot(options, data, place);
  plot.over.addEventListener("click", () => plot.cursor.idx !== null && figure.chosen?.(plot.cursor.idx));
  drawn.set(place, { figure, plot });
  resizes.observe(place);
  return plot;
}

/* Forget what is drawn in `place`, which is hidden until something is drawn there again. */
export function clear(place) {
  drawn.get(place)?.plot.destroy();
  drawn.delete(place);
  resizes.unobserve(place);
  place.replaceChildren();
  place.hidden = true;
}

const resizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const { plot } = drawn.get(target) ?? {};
    const size = { width: target.clientWidth, height: target.clientHeight };
    if (plot && size.width && (plot.width !== size.width || plot.height !== size.height)) plot.setSize(size);
  }
});

function again() {
  for (const [place, { figure }] of [...drawn]) chart(place, figure);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
document.addEventListener("scheme", () => document.getElementById("dark").sheet && requestAnimationFrame(again));

function series(look, line, colour) {
  const stroke = colour(look.stroke);
  return {
    label: line.label,
    stroke,
    width: look.width,
    dash: look.dash,
    spanGaps: look.stepped ?? false,
    paths: look.alone ? () => null : look.stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
    points: { show: look.dot > 0, size: look.dot, fill: stroke, stroke: colour("--panel"), width: 1 },
  };
}

function shade(plot, figure, colour) {
  const { ctx, bbox } = plot;
  for (const span of figure.spans ?? []) {
    const [left, right] = [span.from, span.to].map((time) => plot.valToPos(Date.parse(time) / 1000, "x", true));
    const [from, to] = [Math.max(left, bbox.left), Math.min(right, bbox.left + bbox.width)];
    if (to <= from) continue;
    ctx.fillStyle = colour(span.look ?? "--soft");
    ctx.fillRect(from, bbox.top, to - from, bbox.height);
  }
}

function wider(plot, low, high) {
  if (plot.data[0].length === 1) return [low - 43200, low + 43200]; // uPlot itself spans years around one point
  const room = (high - low || 3600) * 0.02;
  return [low - room, high + room];
}

function roomy(plot, low, high) {
  if (low === null) return [0, 1];
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  return [low >= 0 && low - room < 0 ? 0 : low - room, high + room];
}

function faint(text) {
  return text.startsWith("#") ? `${text}22` : text;
}

/* Return what stands at the ticks of time: the hour, and the date where it is another one. */
function dates(ticks, step_s, offset_s) {
  let before = "";
  return ticks.map((tick) => {
    const text = new Date((tick + offset_s) * 1000).toISOString();
    const date = text.slice(5, 10);
    const said = step_s >= 86400 ? date : text.slice(11, 16) + (date === before ? "" : `\n${date}`);
    before = date;
    return said;
  });
}

function zone_s(time) {
  const [, sign, hours, minutes] = /([+-])(\d\d):(\d\d)$/.exec(time) ?? [null, "+", 0, 0];
  return (sign === "-" ? -1 : 1) * (hours * 3600 + minutes * 60);
}
