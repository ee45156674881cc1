/* The recipe editor: a draft of what is in force, tried on the last hours' parts at each move, and then proposed. */

import { Drawing, asPicture, shadeOutside } from "./drawing.js";
import { WORDS, clock, count, score } from "./format.js";
import { drawHistogram } from "./histogram.js";
import { say } from "./language.js";
import { differenceList, openHistory, openProposals } from "./proposals.js";
import { send } from "./send.js";
import { toast } from "./toast.js";
import { showWhole } from "./whole.js";

const editor = document.getElementById("editor");
const base = `/api/recipes/${encodeURIComponent(editor.dataset.name)}`;
const element = (id) => document.getElementById(id);
const REASONS = {
  NO_MAP: say("no anomaly map was kept of them (recipe: keep), and the score alone does not tell"),
  ROUNDED: say("a threshold lies within the rounding of the map that was kept"),
  OTHER_BUNDLE: say("another bundle scored them"),
  NOT_JUDGED: say("they were FAULT because of the recipe, or nothing was kept of them"),
  NO_TIME: say("so low a threshold makes regions without number, and the time was up"),
  RECIPE_LOST: say("what they were judged by is not known any more"),
};
const LIMITS = [
  ["review_above", say("Review above"), "any"],
  ["reject_above", say("Reject above"), "any"],
  ["reject_from_defects", say("Reject from so many defects"), "1"],
];

let inForce = await send("GET", base);
let draft = structuredClone(inForce.content);
let pictures = await send("GET", `${base}/pictures`);
let scores = null;
let camera = Object.keys(draft.views)[0];
let chosen = -1;
let outlines = {}; // camera -> corners of the ROI that was drawn here: a recipe keeps its picture only
let past = []; // for undo
let setLimits = () => {};

const drawing = new Drawing(element("stage"), {
  chosen(index) {
    chosen = index;
    showPlaces();
  },
  changed(index, corners_px, last) {
    if (!moving) remember();
    moving = !last;
    setCorners(index, corners_px);
    showPlaces();
    if (last && places()[index]?.kind === "roi") showShade();
    tryIt();
  },
  drawn(corners_px) {
    remember();
    add(element("kind").value, corners_px);
  },
  removed: remove,
  hint: (text) => (element("hint").textContent = text),
  drawing(tool) {
    for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === tool);
    element("finish").hidden = tool !== "polygon";
  },
});
let moving = false; // one drag is one step of undo

/* the draft */

const view = () => draft.views[camera];

function remember() {
  past.push(JSON.stringify({ draft, outlines }));
  if (past.length > 200) past.shift();
}

function undo() {
  const before = past.pop();
  if (!before) return;
  ({ draft, outlines } = JSON.parse(before));
  showView();
  tryIt();
}

function places() {
  const zones = (view().zones ?? []).map((zone, index) => ({ name: zone.name, kind: zone.exclude ? "exclude" : "zone", corners_px: zone.polygon_px, index }));
  const outline = outlines[camera] ? [{ name: "ROI", kind: "roi", corners_px: outlines[camera] }] : [];
  return [...zones.filter((zone) => zone.corners_px), ...outline];
}

function setCorners(place, corners_px) {
  const one = places()[place];
  if (one.kind === "roi") {
    outlines[camera] = corners_px;
    setRegion(corners_px);
  } else view().zones[one.index].polygon_px = corners_px;
}

function add(kind, corners_px) {
  if (kind === "roi") {
    outlines[camera] = corners_px;
    setRegion(corners_px);
    chosen = places().length - 1;
  } else {
    const zones = (view().zones ??= []);
    const named = new Set(zones.map((zone) => zone.name));
    let number = zones.length + 1;
    const word = kind === "exclude" ? "mask" : "zone";
    while (named.has(`${word} ${number}`)) number += 1;
    zones.push({ name: `${word} ${number}`, polygon_px: corners_px, exclude: kind === "exclude" });
    chosen = places().findIndex((place) => place.index === zones.length - 1);
  }
  showView();
  tryIt();
}

function remove() {
  const one = places()[chosen];
  if (!one) return;
  remember();
  if (one.kind === "roi") removeRegion();
  else view().zones.splice(one.index, 1);
  chosen = -1;
  showView();
  tryIt();
}

/* The picture is made anew for the last of quick moves only, and the draft waits for it. */
let region = Promise.resolve();

function setRegion(corners_px) {
  const [name, of] = [camera, view()];
  const { width_px, height_px } = pictures[name];
  region = region.then(async () => {
    if (outlines[name] === corners_px) of.roi = await asPicture(corners_px, width_px, height_px);
  });
}

function removeRegion() {
  delete outlines[camera];
  view().roi = null;
}

/* what it would have done */

let wanted = 0; // which try is the newest
let busy = false;

async function tryIt() {
  wanted += 1;
  element("edit").setAttribute("aria-busy", "true");
  if (busy) return;
  busy = true;
  while (busy) {
    const number = wanted;
    await region;
    const hours = Number(document.querySelector("[name=hours]:checked").value);
    try {
      showTried(await send("POST", `${base}/what-if`, { content: draft, hours }));
    } catch (error) {
      showFaults(error);
    }
    busy = number !== wanted;
  }
  element("edit").setAttribute("aria-busy", "false");
}

function showTried({ changes, trial }) {
  showFaults(null);
  const rows = Object.keys(WORDS).map((verdict) => row(verdict, WORDS[verdict], trial.before[verdict], trial.after[verdict]));
  const untold = Object.values(trial.untold).reduce((sum, parts) => sum + parts, 0);
  if (untold) rows.push(row("UNTOLD", say("cannot be told"), "", untold));
  element("counts").tBodies[0].replaceChildren(...rows);
  element("untold").textContent = Object.entries(trial.untold).map(([why, parts]) => say("{n} cannot be told: {why}.", { n: count(parts), why: REASONS[why] ?? why })).join(" ");
  showKnown(trial.known_before, trial.known_after);
  element("changed-count").textContent = count(trial.changed_parts);
  element("changed").replaceChildren(...trial.changed.map(part));
  element("took").textContent = say("{n} parts in {ms} ms", { n: count(trial.loaded.parts), ms: Math.round(trial.took_ms) });
  element("changes").replaceChildren(changes.length ? differenceList(changes) : Object.assign(document.createElement("p"), { className: "muted", textContent: say("Nothing is changed yet.") }));
  for (const button of document.querySelectorAll("#reset, #propose .first")) button.disabled = !changes.length;
  element("undo").disabled = !past.length;
}

function row(verdict, word, before, after) {
  const made = document.createElement("tr");
  made.className = `is-${verdict}`;
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = word;
  made.append(head, cell(before === "" ? "" : count(before)), cell(count(after), before !== "" && before !== after));
  return made;
}

function cell(text, differs = false) {
  const made = Object.assign(document.createElement("td"), { className: "number", textContent: text });
  made.classList.toggle("differs", differs);
  return made;
}

function showKnown(before, after) {
  const known = before.good + before.bad;
  const table = document.createElement("table");
  table.className = "grid known";
  const caption = Object.assign(document.createElement("caption"), { textContent: known ? say("Of {good} good and {bad} defective parts that people or the line know", { good: count(before.good), bad: count(before.bad) }) : say("Nobody has reviewed any of these parts: false rejects and escapes are not known.") });
  table.append(caption);
  if (known) {
    const body = table.createTBody();
    body.append(row("REJECT", say("False rejects"), before.false_rejects, after.false_rejects), row("PASS", say("Escapes"), before.escapes, after.escapes));
  }
  element("known").replaceChildren(table);
}

function part(one) {
  const made = document.createElement("a");
  made.className = "change";
  made.href = `/parts/${one.part_id}`;
  const picture = document.createElement(one.picture ? "img" : "span");
  if (one.picture) Object.assign(picture, { src: one.picture, alt: "", loading: "lazy", width: 64, height: 64 });
  picture.className = "thumbnail";
  const words = document.createElement("p");
  words.append(verdictWord(one.before), " → ", verdictWord(one.after));
  const more = document.createElement("small");
  const known = one.good === null ? "" : one.good ? ` · ${say("good")}` : ` · ${say("defective")}`;
  more.textContent = `${clock(one.trigger_time)} · ${score(one.score)}${known}`;
  made.append(picture, words, more);
  const wrong = one.good === null ? false : one.good ? one.after === "REJECT" || one.after === "REVIEW" : one.after === "PASS";
  made.classList.toggle("wrong", wrong);
  return made;
}

function verdictWord(verdict) {
  return Object.assign(document.createElement("strong"), { className: `is-${verdict} word`, textContent: WORDS[verdict] });
}

/* faults stand at their fields, and those of no field on top */

function showFaults(error) {
  const place = element("faults");
  const faults = error ? (error.said?.faults ?? [{ field: "", problem: error.message }]) : [];
  for (const old of document.querySelectorAll(".field .wrong")) old.remove();
  const rest = [];
  for (const fault of faults) {
    const input = document.querySelector(`[data-field="${CSS.escape(fault.field)}"]`);
    input?.setAttribute("aria-invalid", "true");
    if (input) input.after(Object.assign(document.createElement("span"), { className: "wrong", textContent: fault.problem }));
    else rest.push(fault.field ? `${fault.field}: ${fault.problem}` : fault.problem);
  }
  if (!error) for (const input of document.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  place.hidden = !faults.length;
  place.textContent = rest.length ? rest.join("; ") : faults.length ? say("Something is wrong: see the marked fields.") : "";
  if (error) for (const button of document.querySelectorAll("#propose .first")) button.disabled = true;
}

/* the view: histogram, limits, places */

function showView() {
  if (scores) {
    setLimits = drawHistogram(element("histogram"), scores.views[camera] ?? [], limitsOf(view()), (limit, value, last) => {
      if (!moving) remember();
      moving = !last;
      view()[limit] = value;
      const input = document.querySelector(`#limits [data-field$=".${limit}"]`);
      if (input) input.value = value;
      tryIt();
    });
  }
  const fields = [...LIMITS, areaField(view()), ["mm_per_px", say("Side of a pixel, mm"), "any"]];
  element("limits").replaceChildren(...fields.map(([name, label, step]) => numberField(view(), `views.${camera}.${name}`, name, label, step)));
  showPlaces();
  showShade();
  showWhole(element("whole"), draft, (make) => {
    remember();
    make();
    element("undo").disabled = false;
    tryIt();
  });
}

function limitsOf({ review_above, reject_above }) {
  return { review_above, reject_above };
}

function areaField(holder) {
  return view().mm_per_px || holder.minimum_defect_area_mm2 ? ["minimum_defect_area_mm2", say("Smallest defect, mm²"), "any"] : ["minimum_defect_area_px", say("Smallest defect, px"), "1"];
}

function numberField(holder, field, name, label, step) {
  const made = document.createElement("label");
  made.className = "field short";
  const input = Object.assign(document.createElement("input"), { type: "number", step, value: holder[name] ?? "" });
  input.dataset.field = field;
  input.addEventListener("change", () => {
    remember();
    const value = input.value === "" ? null : Number(input.value);
    const nothing_px = holder === view() ? 0 : null; // a zone takes the view's where it says nothing
    holder[name] = name === "minimum_defect_area_px" ? (value ?? nothing_px) : value;
    if (name === "minimum_defect_area_mm2" && value !== null) holder.minimum_defect_area_px = nothing_px;
    if (name === "mm_per_px") showView(); // areas are said in its unit
    else if (holder === view() && value !== null && name in inForce.content.views[camera]) setLimits(limitsOf(view()));
    tryIt();
  });
  made.append(label, input);
  return made;
}

async function showShade() {
  await region;
  await shadeOutside(drawing.shade, view().roi);
}

function showPlaces() {
  const shown = places();
  if (chosen >= shown.length) chosen = -1;
  drawing.show(shown, chosen);
  element("remove").disabled = chosen < 0;
  element("undo").disabled = !past.length;
  const list = shown.map((place, index) => {
    const made = document.createElement("li");
    const button = Object.assign(document.createElement("button"), { className: `plain ${place.kind}`, textContent: place.name });
    button.setAttribute("aria-pressed", index === chosen);
    button.addEventListener("click", () => {
      chosen = index === chosen ? -1 : index;
      showPlaces();
    });
    made.append(button);
    return made;
  });
  for (const zone of (view().zones ?? []).filter((zone) => !zone.polygon_px)) list.push(pictureLine(say("{name}: a picture", { name: zone.name }), () => view().zones.splice(view().zones.indexOf(zone), 1)));
  if (view().roi && !outlines[camera]) list.push(pictureLine(say("ROI: a picture"), removeRegion));
  element("zones").replaceChildren(...list);
  showZone(shown[chosen]);
}

function pictureLine(text, take) {
  const made = document.createElement("li");
  const button = Object.assign(document.createElement("button"), { className: "plain", textContent: say("Remove") });
  button.addEventListener("click", () => {
    remember();
    take();
    showView();
    tryIt();
  });
  made.append(text, button);
  return made;
}

let shownZone = []; // what the fields beside the picture are of; they stay while somebody types there

function showZone(place) {
  const panel = element("zone");
  panel.hidden = !place;
  const key = place ? [camera, place.kind, view().zones?.[place.index], place.corners_px.length] : [];
  if (place && key.every((part, index) => part === shownZone[index])) {
    const values = place.corners_px.flat();
    panel.querySelectorAll(".corners input").forEach((input, index) => (input.value = values[index]));
    return;
  }
  shownZone = key;
  if (!place) {
    panel.replaceChildren();
    return;
  }
  const made = [];
  if (place.kind !== "roi") {
    const zone = view().zones[place.index];
    const field = `views.${camera}.zones.${place.index}`;
    const name = document.createElement("label");
    name.className = "field";
    const input = Object.assign(document.createElement("input"), { value: zone.name, maxLength: 64 });
    input.dataset.field = `${field}.name`;
    input.addEventListener("change", () => {
      remember();
      zone.name = input.value;
      showPlaces();
      tryIt();
    });
    name.append(say("Name"), input);
    made.push(name);
    if (!zone.exclude) for (const [limit, label, step] of [...LIMITS, areaField(zone)]) made.push(numberField(zone, `${field}.${limit}`, limit, label, step));
  }
  panel.replaceChildren(...made, cornersField(place));
}

function cornersField(place) {
  const made = document.createElement("fieldset");
  made.className = "corners";
  const legend = document.createElement("legend");
  legend.textContent = say("Corners: x and y in pixels of the frame");
  made.append(legend);
  place.corners_px.forEach((corner, number) => {
    const pair = document.createElement("span");
    corner.forEach((value, axis) => {
      const input = Object.assign(document.createElement("input"), { type: "number", step: 1, min: 0, value });
      input.setAttribute("aria-label", say("Corner {n}: {axis}", { n: number + 1, axis: axis ? "y" : "x" }));
      input.addEventListener("change", () => {
        remember();
        setCorners(chosen, places()[chosen].corners_px.map((one, index) => (index === number ? one.map((old, of) => (of === axis ? Math.round(Number(input.value)) : old)) : one)));
        showPlaces();
        showShade();
        tryIt();
      });
      pair.append(input);
    });
    made.append(pair);
  });
  return made;
}

function openView() {
  chosen = -1;
  const { width_px, height_px, picture } = pictures[camera];
  const known = width_px !== null;
  for (const button of document.querySelectorAll("[data-tool]")) button.disabled = !known;
  element("stage").hidden = !known;
  if (known) drawing.open(width_px, height_px, picture, say("A part, seen by {camera}", { camera }));
  else element("hint").textContent = say("No picture of this product is kept yet: places can be drawn once one is.");
  showView();
}

async function load(anew) {
  const hours = Number(document.querySelector("[name=hours]:checked").value);
  element("loaded").textContent = say("Loading");
  element("loaded").setAttribute("aria-busy", "true");
  try {
    scores = await send("GET", `${base}/scores?hours=${hours}&anew=${anew}`);
  } catch (error) {
    element("loaded").textContent = error.message;
    return;
  } finally {
    element("loaded").setAttribute("aria-busy", "false");
  }
  const { parts, complete, oldest, newest, maps } = scores.loaded;
  const cut = complete ? "" : ` · ${say("only the newest: more do not fit")}`;
  element("loaded").textContent = parts ? `${say("{n} parts, {from} to {to}, {maps} maps", { n: count(parts), from: clock(local(oldest)), to: clock(local(newest)), maps: count(maps) })}${cut}` : say("no part in this time");
  showView();
  tryIt();
}

function local(time) {
  const at = new Date(time);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60000).toISOString();
}

/* controls */

const radios = Object.keys(draft.views).map((name, index) => {
  const label = document.createElement("label");
  label.append(Object.assign(document.createElement("input"), { type: "radio", name: "view", value: name, checked: index === 0 }), Object.assign(document.createElement("span"), { textContent: name, title: name }));
  label.firstChild.addEventListener("change", () => {
    camera = name;
    openView();
  });
  return label;
});
element("views").replaceChildren(...radios);
element("views").classList.toggle("many", radios.length > 4);
element("which")?.addEventListener("change", (event) => location.assign(event.target.value));
for (const radio of document.querySelectorAll("[name=hours]")) radio.addEventListener("change", () => load(false));
element("anew").addEventListener("click", () => load(true));
for (const button of document.querySelectorAll("[data-tool]")) {
  button.addEventListener("click", (event) => {
    if (event.detail === 0 && button.dataset.tool === "rectangle") drawing.middle(); // by key
    else drawing.take(button.dataset.tool);
  });
}
element("finish").addEventListener("click", () => drawing.finish());
element("undo").addEventListener("click", undo);
element("remove").addEventListener("click", remove);
document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "z" && !event.target.matches("input, textarea")) {
    event.preventDefault();
    undo();
  }
});
element("reset").addEventListener("click", () => {
  remember();
  draft = structuredClone(inForce.content);
  outlines = {};
  showView();
  tryIt();
});
element("propose")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const comment = event.target.elements.comment.value;
  try {
    await region;
    const made = await send("POST", "/api/proposals", { recipe: inForce.name, based_on: inForce.digest, content: draft, comment });
    toast(say("Proposal {n} is made: somebody approves it under Proposals", { n: made.number }));
    event.target.reset();
    openProposals(inForce, taken);
  } catch (error) {
    if (error.status === 422) showFaults(error);
    toast(error.message, "fault");
  }
});
new ResizeObserver(() => scores && showView()).observe(element("histogram").parentElement);

/* Another version is in force: begin again from it. */
async function taken(now) {
  inForce = now;
  draft = structuredClone(now.content);
  outlines = {};
  past = [];
  element("version").textContent = say("version {version}", { version: now.version });
  openView();
  await load(false);
  openProposals(inForce, taken);
  openHistory(inForce, taken);
}

openProposals(inForce, taken);
openHistory(inForce, taken);
openView();
await load(false);
