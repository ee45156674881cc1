/* The statistics page: every choice is in its address, and each panel asks for its own figures. */

import { drawBars, percent } from "./bars.js";
import { chart, clear } from "./chart.js";
import { count, node, score } from "./format.js";
import { say } from "./language.js";

const HOUR_MS = 3600000;
const SPANS_H = { day: 24, week: 168, month: 672, quarter: 2016 };
const PERIODS = { day: "hour", week: "shift", month: "day", quarter: "day", all: "week", custom: "day" };
const CONTROLS = ["measure", "period", "rules", "by", "baseline_since", "baseline_until"];
const form = document.getElementById("filters");
const element = (id) => document.getElementById(id);
const shown = {}; // panel -> its last answer

/* what is chosen, and the address that says so */

function chosen() {
  const values = Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ""));
  const { when, since, until, ...others } = values;
  if (when === "custom") return { ...others, ...(since && { since: instant(since) }), ...(until && { until: instant(until) }) };
  const hours = SPANS_H[when];
  return hours ? { ...others, since: new Date(Date.now() - hours * HOUR_MS).toISOString() } : others;
}

function instant(local) {
  return new Date(local).toISOString();
}

function checked(name) {
  return document.querySelector(`[name="${name}"]:checked`)?.value ?? "";
}

function remember() {
  const values = [...new FormData(form)].filter(([, value]) => value !== "");
  for (const name of CONTROLS) if (element(name).value) values.push([name, element(name).value]);
  for (const name of ["look", "kind"]) values.push([name, checked(name)]);
  history.replaceState(null, "", `?${new URLSearchParams(values)}`);
}

function recall() {
  for (const [name, value] of new URLSearchParams(location.search)) {
    const radio = document.querySelector(`input[type="radio"][name="${CSS.escape(name)}"][value="${CSS.escape(value)}"]`);
    const control = CONTROLS.includes(name) ? element(name) : form.elements[name];
    if (radio) radio.checked = true;
    else if (control && "value" in control && name !== "when") control.value = value;
    if (!radio && form.elements[name]?.closest?.("details")) form.elements[name].closest("details").open = true;
  }
}

/* asking: of several questions for one panel the last one counts */

const asking = {};

async function ask(panel, path, values) {
  asking[panel]?.abort();
  const abort = (asking[panel] = new AbortController());
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value !== undefined));
  if (element(`${panel}-csv`)) element(`${panel}-csv`).href = `/api/statistics/${path}?${query}&format=csv`;
  element(`${panel}-told`).textContent = say("Loading");
  try {
    const answer = await fetch(`/api/statistics/${path}?${query}`, { signal: abort.signal });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.detail);
    shown[panel] = found;
    return found;
  } catch (error) {
    if (error.name !== "AbortError") tell(panel, [], [error.message]);
    return null;
  }
}

const NOTES = {
  nothing: () => say("Nothing is stored of what is chosen."),
  too_few: () => say("Too few to tell limits: a baseline takes 8 points at least. Choose shorter ones, or a longer time."),
  alike: () => say("All parts of the baseline are alike: there is nothing to tell limits from."),
  preliminary: () => say("Preliminary: the baseline has fewer than 20 points."),
  not_stable: () => say("No stable baseline was found: the limits are of all points but those beyond them. Choose one."),
  few_expected: () => say("Fewer than 5 are expected at most points: choose longer ones, the limits are a poor guess."),
  mixed_scales: () => say("Products have scales of their own: choose one."),
  latest_only: () => say("The latest were looked at, not all."),
  sampled: () => say("Of a sample of each day or week."),
  left_out: () => say("Days or weeks with fewer than 30 scores are left out."),
};

function tell(panel, sentences, warnings) {
  const place = element(`${panel}-told`);
  place.replaceChildren(sentences.join(" "));
  for (const warning of warnings) {
    const made = document.createElement("span");
    made.className = "warning";
    made.textContent = ` ${warning}`;
    place.append(made);
  }
}

function notes(found) {
  return found.notes.map((note) => NOTES[note]());
}

function table(id, titles, rows) {
  const place = element(id);
  const head = document.createElement("thead");
  head.append(row("th", titles));
  const body = document.createElement("tbody");
  body.append(...rows.map((cells) => row("td", cells)));
  place.replaceChildren(head, body);
}

function row(kind, cells) {
  const made = document.createElement("tr");
  cells.forEach((cell, index) => {
    const one = document.createElement(kind);
    if (index) one.className = "number";
    one.append(cell ?? "–");
    made.append(one);
  });
  return made;
}

function time(text) {
  return text ? `${text.slice(0, 10)} ${text.slice(11, 16)}` : "–";
}

/* the control chart */

const PATTERNS = {
  limit: () => say("beyond a limit"),
  run: () => say("a run on one side"),
  trend: () => say("6 up or down in a row"),
  alternating: () => say("14 up and down in turn"),
  two_of_three: () => say("2 of 3 beyond 2σ"),
  four_of_five: () => say("4 of 5 beyond 1σ"),
  hugging: () => say("15 within 1σ"),
  avoiding: () => say("8 beyond 1σ"),
};
const WHY = {
  p: () => say("p chart: the points scatter as chance has it"),
  "p'": () => say("Laney's p' chart: the points scatter more than chance has it"),
  X: () => say("chart of means: the points scatter as chance has it"),
  "X'": () => say("chart of means widened as Laney's p': the points scatter more than chance has it"),
};

function written(value) {
  if (value === null || value === undefined) return "–";
  return ["rejects", "review", "fault"].includes(element("measure").value) ? percent(value) : score(value);
}

async function showControl() {
  const asked = { ...chosen(), measure: element("measure").value, period: element("period").value, rules: element("rules").value };
  for (const name of ["baseline_since", "baseline_until"]) if (element(name).value) asked[name] = instant(element(name).value);
  const found = await ask("control", "chart", asked);
  if (found) drawControl(found);
  else clear(element("control"));
}

function drawControl(found) {
  const { points } = found;
  const sentences = [];
  if (points.length) sentences.push(say("{n} in {points} points, {since} to {until}.", { n: count(found.parts), points: points.length, since: time(found.since), until: time(found.until) }));
  if (found.baseline && found.method) {
    const { since, until, subgroups } = found.baseline;
    sentences.push(say("{why} ({scatter} times). Middle {middle}, from {subgroups} points, {since} to {until}.", { why: WHY[found.method](), scatter: found.scatter.toFixed(2), middle: written(found.middle), subgroups, since: time(since), until: time(until) }));
  }
  tell("control", sentences, notes(found));
  table("control-table", [say("From"), "n", say("Value"), say("Lower limit"), say("Upper limit"), "EWMA", "CUSUM +", "CUSUM −", say("Signs")], points.map((point) => [
    time(point.start), count(point.parts), written(point.value), written(point.low), written(point.high), written(point.ewma),
    point.cusum_up?.toFixed(2), point.cusum_down?.toFixed(2), point.patterns.map((pattern) => PATTERNS[pattern]()).join(", "),
  ]));
  showSigns(found);
  const place = element("control");
  if (!points.length) {
    clear(place);
    return;
  }
  const look = checked("look");
  const lines = found.method ? LINES[look](found) : [line(say("Value"), "value", (point) => point.value)(points)];
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", element("control-told").textContent);
  chart(place, {
    times: points.map((point) => point.start),
    lines,
    spans: found.baseline ? [{ from: found.baseline.since, to: found.baseline.until, look: "--soft" }] : [],
    format: look === "cusum" && found.method ? (value) => value.toFixed(1) : written,
    pointed: (index) => point(found, index),
    chosen: (index) => location.assign(search({ since: points[index].start, until: points[index].end, verdict: verdictOf(found.measure) })),
  });
}

const line = (label, look, value) => (points) => ({ label, look, values: points.map((point) => value(point) ?? null) });
const out = (point) => point.patterns.includes("limit");
const LINES = {
  limits: ({ points, middle }) => [
    line(say("Lower limit"), "limit", (point) => point.low),
    line(say("Upper limit"), "limit", (point) => point.high),
    line(say("Middle"), "middle", () => middle),
    line(say("Value"), "value", (point) => point.value),
    line(say("Signs"), "hint", (point) => (point.patterns.length && !out(point) ? point.value : null)),
    line(say("beyond a limit"), "signal", (point) => (out(point) ? point.value : null)),
  ].map((make) => make(points)),
  ewma: ({ points, middle }) => [
    line(say("Lower limit"), "limit", (point) => point.ewma_low),
    line(say("Upper limit"), "limit", (point) => point.ewma_high),
    line(say("Middle"), "middle", () => middle),
    line("EWMA", "value", (point) => point.ewma),
    line(say("beyond a limit"), "signal", (point) => (point.ewma < point.ewma_low || point.ewma > point.ewma_high ? point.ewma : null)),
  ].map((make) => make(points)),
  cusum: ({ points, decision }) => [
    line(say("Upper limit"), "limit", () => decision),
    line(say("Lower limit"), "limit", () => -decision),
    line("CUSUM +", "value", (point) => point.cusum_up),
    line("CUSUM −", "second", (point) => -point.cusum_down),
    line(say("beyond a limit"), "signal", (point) => (point.cusum_up > decision ? point.cusum_up : null)),
    line(say("beyond a limit"), "signal", (point) => (point.cusum_down > decision ? -point.cusum_down : null)),
  ].map((make) => make(points)),
};

function point(found, index) {
  const one = found.points[index];
  if (!one) return;
  const signs = one.patterns.map((pattern) => PATTERNS[pattern]()).join(", ");
  element("control-pointed").textContent = `${time(one.start)} · ${written(one.value)} · n = ${count(one.parts)}${one.high === null ? "" : ` · ${written(one.low)} – ${written(one.high)}`}${signs && ` · ${signs}`}`;
}

function showSigns(found) {
  const marked = found.points.filter((one) => one.patterns.length).reverse();
  element("signs").replaceChildren(...marked.slice(0, 40).map((one) => {
    const item = document.createElement("li");
    item.className = out(one) ? "limit" : "";
    item.textContent = `${time(one.start)} ${one.patterns.map((pattern) => PATTERNS[pattern]()).join(", ")}`;
    return item;
  }));
  element("control-pointed").textContent = "";
}

function verdictOf(measure) {
  return { rejects: "REJECT", review: "REVIEW", fault: "FAULT" }[measure];
}

/* the address of a search for the parts that a figure is made of */
function search(more) {
  const { since, until, ...others } = chosen();
  const values = { ...others, ...(since && { since }), ...(until && { until }), ...more };
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== undefined && value !== null));
  query.set("when", values.since || values.until ? "custom" : "all");
  return `/defects?${query}`;
}

/* since when? */

async function showSince() {
  const what = element("measure").value;
  if (["brightness", "focus"].includes(what)) {
    element("since-told").textContent = say("Since when is known of shares and scores.");
    return;
  }
  const found = await ask("since", "since", { ...chosen(), what });
  if (!found) return;
  const changes = [found.change, ...found.others].filter(Boolean);
  const lines = changes.map((change) => {
    const said = document.createElement("p");
    said.append(say("Since {at} (between {earliest} and {latest}): {before} before (n = {n}), {after} since (n = {m}); by chance {p}.", {
      at: time(change.at), earliest: time(change.earliest), latest: time(change.latest), before: written(change.before.value), after: written(change.after.value),
      n: count(change.before.parts), m: count(change.after.parts), p: change.p_value < 0.0001 ? "< 0.0001" : change.p_value.toFixed(4),
    }), " ");
    if (change.first) {
      const link = document.createElement("a");
      link.href = `/parts/${change.first.part_id}`;
      link.textContent = say("first part");
      said.append(link);
    }
    return said;
  });
  const whole = document.createElement("p");
  whole.textContent = `${say("{n} parts looked at, {since} to {until}.", { n: count(found.parts), since: time(found.since), until: time(found.until) })} ${found.note}`;
  if (!lines.length) whole.prepend(say("No change beyond chance."), " ");
  element("since-told").replaceChildren(...lines, whole);
}

/* what is wrong */

const UNNAMED = { classes: () => say("(no class)"), reviewed: () => say("(no class)"), reasons: () => say("(no reason)") };

async function showPareto() {
  const kind = checked("kind");
  const found = await ask("pareto", "pareto", { ...chosen(), kind });
  if (!found) return;
  const field = kind === "reasons" ? "reason" : "defect_class";
  const bars = found.bars.map((bar) => ({
    ...bar,
    text: bar.name ?? UNNAMED[kind](),
    href: bar.name === null || kind === "reviewed" ? null : search({ [field]: bar.name, bundle: chosen().bundle }),
  }));
  const sentences = bars.length ? [say("n = {n}, since {since}.", { n: count(found.total), since: time(found.since) })] : [];
  if (found.others) sentences.push(say("{n} have other names.", { n: count(found.others) }));
  tell("pareto", sentences, notes(found));
  if (bars.length) drawBars(element("pareto"), bars);
  else element("pareto").replaceChildren();
  table("pareto-table", [say("Name"), "n", say("Share"), say("Together")], bars.map((bar) => [bar.text, count(bar.count), percent(bar.share), percent(bar.cumulative)]));
}

/* where defects lie */

async function showPlaces() {
  const camera = checked("map-camera");
  const asked = chosen();
  const found = await ask("places", "places", { ...asked, camera: asked.camera ?? camera });
  if (!found) return;
  const sentences = found.defects ? [say("n = {n} in {camera}, since {since}. A cell leads to its parts.", { n: count(found.defects), camera: found.camera, since: time(found.since) })] : [];
  const warnings = notes(found);
  if (found.defects && !found.picture && !asked.product) warnings.push(say("Choose a product to see a picture of it beneath."));
  tell("places", sentences, warnings);
  showCameras(found, Boolean(asked.camera));
  drawPlaces(found);
  table("places-table", [say("From the left"), say("From the top"), "n"], [...found.cells].sort((one, other) => other.count - one.count).slice(0, 100).map((cell) => [percent(cell.column / found.side), percent(cell.row / found.side), count(cell.count)]));
}

function showCameras(found, fixed) {
  const names = Object.keys(found.cameras);
  const place = element("cameras");
  if (fixed || (checked("map-camera") && place.querySelectorAll("label").length)) {
    if (fixed) place.querySelectorAll("label").forEach((label) => label.remove());
    return;
  }
  place.querySelectorAll("label").forEach((label) => label.remove());
  if (names.length < 2) return;
  for (const name of names.sort()) {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "map-camera", value: name, checked: name === found.camera });
    const text = document.createElement("span");
    text.textContent = name;
    label.append(input, text);
    place.append(label);
  }
}

function drawPlaces(found) {
  const place = element("places");
  place.replaceChildren();
  if (!found.defects) return;
  if (found.picture) {
    const image = Object.assign(document.createElement("img"), { alt: "", src: `/api/images/${found.picture.part_id}/${encodeURIComponent(found.camera)}/image?side_px=512` });
    image.width = found.picture.width_px;
    image.height = found.picture.height_px;
    place.append(image);
  }
  const svg = node("svg", { viewBox: `0 0 ${found.side} ${found.side}`, preserveAspectRatio: "none", role: "group", "aria-label": say("Where defects lie") });
  const most = Math.max(...found.cells.map((cell) => cell.count));
  for (const cell of found.cells) {
    const { column, row, count: parts } = cell;
    const [x, y] = [column / found.side, row / found.side];
    const reach = 1 / found.side;
    const box = { x_min: x, x_max: Math.min(1, x + reach), y_min: y, y_max: Math.min(1, y + reach) };
    const link = node("a", { href: search({ camera: found.camera, ...rounded(box) }), "aria-label": `${percent(x)}, ${percent(y)}: ${count(parts)}` });
    const title = node("title");
    title.textContent = count(parts);
    link.append(title, node("rect", { x: column, y: row, width: 1, height: 1, "fill-opacity": (0.15 + 0.75 * Math.sqrt(parts / most)).toFixed(3) }));
    svg.append(link);
  }
  place.append(svg);
}

function rounded(box) {
  return Object.fromEntries(Object.entries(box).map(([name, value]) => [name, Number(value.toFixed(5))]));
}

/* rejects by product, shift … */

async function showShares() {
  const by = element("by").value;
  const found = await ask("shares", "shares", { ...chosen(), by });
  if (!found) return;
  const counted = found.of_views ? say("{n} views", { n: count(found.parts) }) : say("{n} parts", { n: count(found.parts) });
  tell("shares", found.shares.length ? [counted, say("in whole hours, with what chance may make of it (95 %).")] : [], notes(found));
  const most = Math.max(...found.shares.map((share) => share.rejects), 1e-9);
  table("shares-table", [say("Name"), say("Rejects"), "95 %", "", "n", say("Review"), say("Fault")], found.shares.map((share) => {
    const meter = Object.assign(document.createElement("meter"), { min: 0, max: most, value: share.rejects });
    meter.setAttribute("aria-hidden", "true");
    const { parts, verdicts } = share;
    const name = share.name.replace(/^sha256:([0-9a-f]{12})[0-9a-f]+$/, "$1…") || say("(none)");
    return [name, percent(share.rejects), `${percent(share.low)} – ${percent(share.high)}`, meter, count(parts), percent(verdicts.REVIEW / parts), percent(verdicts.FAULT / parts)];
  }));
}

/* spread of scores */

async function showScores() {
  const period = ["quarter", "all"].includes(checked("when")) ? "week" : "day";
  const found = await ask("scores", "scores", { ...chosen(), period });
  const place = element("scores");
  if (!found?.points.length) {
    if (found) tell("scores", [], notes(found));
    clear(place);
    return;
  }
  const warnings = chosen().product ? [] : [NOTES.mixed_scales()];
  tell("scores", [say("Half of the scores lie below the line, 90 % in the band. n = {n}.", { n: count(found.sampled) }), ...notes(found)], warnings);
  const { points } = found;
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", element("scores-told").textContent);
  chart(place, {
    times: points.map((one) => one.start),
    lines: [line("95 %", "edge", (one) => one.high)(points), line("5 %", "edge", (one) => one.low)(points), line("50 %", "value", (one) => one.median)(points)],
    bands: [[0, 1]],
    format: score,
  });
  table("scores-table", [say("From"), "n", "5 %", "50 %", "95 %"], points.map((one) => [time(one.start), count(one.sampled), score(one.low), score(one.median), score(one.high)]));
}

/* changes */

function showAll() {
  remember();
  element("since-told").textContent = "";
  for (const show of [showControl, showPareto, showPlaces, showShares, showScores]) show();
}

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", (event) => {
  if (event.target.name === "when") element("period").value = PERIODS[event.target.value];
  showAll();
});
for (const name of ["measure", "period", "rules", "baseline_since", "baseline_until"]) {
  element(name).addEventListener("change", () => {
    remember();
    if (name === "measure") element("since-told").textContent = "";
    showControl();
  });
}
element("look").addEventListener("change", () => {
  remember();
  if (shown.control) drawControl(shown.control);
});
element("first-stable").addEventListener("click", () => {
  for (const name of ["baseline_since", "baseline_until"]) element(name).value = "";
  remember();
  showControl();
});
element("since-when").addEventListener("click", showSince);
element("kind").addEventListener("change", () => {
  remember();
  showPareto();
});
element("cameras").addEventListener("change", showPlaces);
element("by").addEventListener("change", () => {
  remember();
  showShares();
});

recall();
showAll();
