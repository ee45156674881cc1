/* What a recipe says beside its views: the deadline, the alarms, and what is kept of parts. */

import { WORDS } from "./format.js";
import { say } from "./language.js";

const PIXELS = { none: say("none"), reduced: say("small JPEG"), full: say("whole JPEG"), exact: say("every pixel (PNG)") };
const ORDER = ["PASS", "REVIEW", "REJECT", "FAULT"];

/* Fill `place` with the fields of `draft`; `change(make)` is called with each change that is to be made to it. */
export function showWhole(place, draft, change) {
  const alarms = draft.alarms ?? {};

  const number = (label, field, value, bounds, apply) => {
    const input = made("input", { type: "number", ...bounds, value: value ?? "", "data-field": field });
    input.addEventListener("change", () => change(() => apply(input.value === "" ? null : Number(input.value))));
    return labelled(label, input, "field short");
  };
  const alarm = (name, value) => {
    draft.alarms = { consecutive_rejects: null, reject_rate: null, stop_line: false, ...draft.alarms, [name]: value };
  };
  const share = (name) => (value) => {
    const now = { over_parts: 100, above: 0.05, clear_below: 0.05, ...draft.alarms?.reject_rate };
    const next = { ...now, [name]: name === "over_parts" || value === null ? value : Number((value / 100).toFixed(6)) };
    if (value !== null && name === "above" && next.clear_below > next.above) next.clear_below = next.above; // it may not be above
    alarm("reject_rate", value === null && name === "above" ? null : next);
    showRate();
  };
  const rate = {
    above: number(say("Rejects above, %"), "alarms.reject_rate.above", null, { min: 0, max: 99.99, step: "any" }, share("above")),
    clear_below: number(say("until below, %"), "alarms.reject_rate.clear_below", null, { min: 0.01, max: 100, step: "any" }, share("clear_below")),
    over_parts: number(say("of the last parts"), "alarms.reject_rate.over_parts", null, { min: 2, max: 100000, step: 1 }, share("over_parts")),
  };
  const showRate = () => {
    const now = draft.alarms?.reject_rate;
    for (const [name, label] of Object.entries(rate)) {
      const input = label.querySelector("input");
      input.value = !now || now[name] === null ? "" : name === "over_parts" ? now[name] : Number((100 * now[name]).toFixed(4));
      input.disabled = !now && name !== "above";
    }
  };
  showRate();
  const stop = made("input", { type: "checkbox", "data-field": "alarms.stop_line" });
  stop.checked = alarms.stop_line ?? false;
  stop.addEventListener("change", () => change(() => alarm("stop_line", stop.checked)));

  place.replaceChildren(
    group(say("Deadline"), say("Later is FAULT, and the gate rejects the part."), number(say("From trigger to verdict, ms"), "deadline_ms", draft.deadline_ms, { min: 5, max: 60000, step: 1 }, (value) => (draft.deadline_ms = value))),
    group(
      say("Alarms"),
      say("Empty: no such alarm."),
      number(say("From so many rejects in a row"), "alarms.consecutive_rejects", alarms.consecutive_rejects, { min: 2, max: 100000, step: 1 }, (value) => alarm("consecutive_rejects", value)),
      ...Object.values(rate),
      labelled(say("Ask the line to stop"), stop, "check"),
    ),
    group(say("What is kept of each view"), say("By verdict. Exact pixels are needed to learn from, maps to try places."), keeping(draft.keep, change)),
  );
}

function keeping(keep, change) {
  const rows = ORDER.map((verdict) => {
    const own = keep[verdict];
    const pixels = made("select", { "aria-label": say("{verdict}: pixels", { verdict: WORDS[verdict] }), "data-field": `keep.${verdict}.pixels` });
    for (const [value, word] of Object.entries(PIXELS)) pixels.append(new Option(word, value, false, value === own.pixels));
    pixels.addEventListener("change", () => change(() => (own.pixels = pixels.value)));
    const map = made("input", { type: "checkbox", "aria-label": say("{verdict}: anomaly map", { verdict: WORDS[verdict] }), "data-field": `keep.${verdict}.map` });
    map.checked = own.map;
    map.addEventListener("change", () => change(() => (own.map = map.checked)));
    const every = made("input", { type: "number", min: 1, max: 2147483647, step: 1, value: own.every_parts, "aria-label": say("{verdict}: of one in so many parts", { verdict: WORDS[verdict] }), "data-field": `keep.${verdict}.every_parts` });
    every.addEventListener("change", () => change(() => (own.every_parts = every.value === "" ? 1 : Number(every.value))));
    const head = made("th", { scope: "row", class: `is-${verdict} chip` }, WORDS[verdict]);
    return made("tr", {}, head, cell(pixels, "field"), cell(map, "check"), cell(every, "field"));
  });
  const titles = ["", say("Pixels"), say("Map"), say("Of one in so many parts")].map((word) => made("th", {}, word));
  return made("div", { class: "scroll keeping" }, made("table", { class: "grid" }, made("thead", {}, made("tr", {}, ...titles)), made("tbody", {}, ...rows)));
}

const cell = (input, kind) => made("td", {}, made("span", { class: kind }, input));
const labelled = (text, input, kind) => (kind === "check" ? made("label", { class: kind }, input, text) : made("label", { class: kind }, text, input));
const group = (title, told, ...fields) => made("fieldset", {}, made("legend", {}, title), made("p", { class: "muted" }, told), made("div", { class: "fields" }, ...fields));

function made(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
