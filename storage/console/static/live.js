/* The live page: everything comes as server-sent events, and is drawn a few times a second at most. */

import { WORDS, clock, count, node, score, size, span } from "./format.js";
import { draw, fetchMap } from "./heat.js";
import { connectSwitch, wanted } from "./overlay.js";
import { say } from "./language.js";
import { send } from "./send.js";
import { drawStrip, worst } from "./strip.js";
import { toast } from "./toast.js";

const KEPT = 500; // parts
const CARDS = 12;
const SMALL_PX = 256; // sides of pictures, on a card and of the part that is shown large
const LARGE_PX = 512;
const DRAW_MS = 400; // a calm page: whatever the line's speed, cards change no oftener
const SILENT_MS = 3500; // the console speaks every second
const AGAIN_MS = 2000;
const MAP_MS = 1000; // until a map is in the database
const MAP_TRIES = 4;
const BEHIND_S = 3; // less is the way of every part
const STATES = { RUNNING: say("Running"), DEGRADED: say("Degraded"), STOPPED: say("Stopped"), UNKNOWN: say("Live view away") };
const SEVERITY_MARKS = { ALARM: "STOPPED", WARNING: "DEGRADED", INFO: "UNKNOWN" };
const CAUSES = {
  "does not answer": say("does not answer"),
  "is starting": say("is starting"),
  "is stopping": say("is stopping"),
  "is degraded": say("is degraded"),
  "is ready": say("is ready"),
};

const parts = new Map(); // part_id -> part, oldest first
const cards = new Map(); // part_id -> element
let board = null;
let alarms = [];
const element = (id) => document.getElementById(id);
let heardAt = performance.now();
let due = null;

/* events */

const handlers = {
  snapshot(snapshot) {
    parts.clear();
    for (const part of snapshot.parts) parts.set(part.part_id, part);
    showBoard(snapshot.board ?? null);
    showStatus(snapshot.status);
    drawParts();
  },
  status: showStatus,
  board: showBoard,
  part(part) {
    parts.set(part.part_id, part);
    if (parts.size > KEPT) parts.delete(parts.keys().next().value);
    drawSoon();
  },
  change(change) {
    const part = parts.get(change.part_id);
    if (!part) return;
    Object.assign(part, change);
    drawSoon();
  },
};

function follow() {
  const events = new EventSource("/events");
  for (const [kind, handle] of Object.entries(handlers)) {
    events.addEventListener(kind, (event) => {
      heardAt = performance.now();
      handle(JSON.parse(event.data));
    });
  }
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) setTimeout(again, AGAIN_MS); // else the browser comes back by itself
  });
}

/* Follow once more, or have the page ask who somebody is whose session has ended. */
async function again() {
  const known = await fetch("/api/me").catch(() => null);
  if (known?.status === 401) location.reload();
  else follow();
}

follow();

setInterval(() => {
  if (performance.now() - heardAt > SILENT_MS) {
    showLight({ state: "UNKNOWN", causes: [say("the console does not answer: trying again")] }, say("Connection lost"));
  }
}, 1000);

/* figures */

function showStatus(status) {
  showLight(status.light);
  const total = Object.values(status.verdicts).reduce((sum, value) => sum + value, 0);
  for (const [verdict, value] of Object.entries(status.verdicts)) {
    put(`count-${verdict}`, count(value));
    put(`share-${verdict}`, total ? `${((100 * value) / total).toFixed(1)} %` : "\u00a0");
  }
  put("clock", clock(status.time));
  put("recipe", status.recipe ? `${status.recipe} v${status.recipe_version}` : "–");
  const offered = element("switch")?.elements.recipe;
  if (offered && status.recipe && !("touched" in offered.dataset)) offered.value = status.recipe;
  put("rate", status.parts_per_minute.toFixed(0));
  put("latency", status.latency_p50_ms?.toFixed(1) ?? "–");
  put("slowest", status.latency_p99_ms?.toFixed(1) ?? "–");
  put("waiting", count(status.frames_waiting));
  put("credit", say("of {n} frames", { n: count(status.frames_waiting + status.credit) }));
  put("ejected", count(status.ejected));
  put("unseen", status.unseen ? say("{n} not seen", { n: count(status.unseen) }) : "");
  showBacklog(status.backlog_bytes, status.backlog_s);
  alarms = status.alarms;
  showAlarms();
}

function showBoard(found) {
  board = found;
  element("shift").hidden = !board;
  if (!board) return;
  text(element("shift").querySelector("header p"), say("{shift}, from {began} to {ends}", { shift: board.shift, began: minute(board.began), ends: minute(board.ends) }));
  const verdicts = Object.keys(WORDS);
  const rows = board.products.map((line) => row(line.product, line.parts, verdicts.map((name) => line.verdicts[name])));
  if (rows.length > 1) {
    const sums = verdicts.map((name) => board.products.reduce((sum, line) => sum + line.verdicts[name], 0));
    rows.push(row(say("All"), board.products.reduce((sum, line) => sum + line.parts, 0), sums));
  }
  element("shift").querySelector("tbody").replaceChildren(...rows);
  showAlarms();
}

function row(product, parts, verdicts) {
  const made = document.createElement("tr");
  const share = parts ? `${((100 * (parts - verdicts[0])) / parts).toFixed(2)} %` : "–";
  [product, count(parts), ...verdicts.map(count), share].forEach((value, index) => {
    const cell = document.createElement(index ? "td" : "th");
    if (index) cell.className = "number";
    else cell.scope = "row";
    cell.textContent = value;
    made.append(cell);
  });
  return made;
}

function minute(time) {
  return time.slice(11, 16);
}

/* alarms: an element for each, made once, so that no button moves away beneath a finger */

const shownAlarms = new Map(); // event_id -> element

function showAlarms() {
  const list = element("alarms").querySelector("ul");
  const present = new Set(alarms.map((alarm) => alarm.event_id));
  for (const [identity, item] of shownAlarms) {
    if (present.has(identity)) continue;
    item.remove();
    shownAlarms.delete(identity);
  }
  for (const alarm of alarms) {
    let item = shownAlarms.get(alarm.event_id);
    if (!item) {
      item = alarmItem(alarm);
      shownAlarms.set(alarm.event_id, item);
      list.prepend(item);
    }
    const told = board?.acknowledged.find((one) => one.event_id === alarm.event_id);
    if (told) showAcknowledged(item, told);
  }
  element("alarms").hidden = alarms.length === 0;
}

function alarmItem(alarm) {
  const item = element("alarm").content.firstElementChild.cloneNode(true);
  item.classList.add(`severity-${alarm.severity}`);
  item.querySelector("use").setAttribute("href", `#mark-${SEVERITY_MARKS[alarm.severity]}`);
  item.querySelector("strong").textContent = `${alarm.service}: ${alarm.name.replaceAll("_", " ")}`;
  item.querySelector(".since").textContent = say("since {time}", { time: clock(alarm.time) });
  item.querySelector(".detail").textContent = alarm.detail;
  item.querySelector("button")?.addEventListener("click", (event) => acknowledge(event.currentTarget, alarm.event_id));
  return item;
}

function showAcknowledged(item, told) {
  item.classList.add("seen");
  item.querySelector("button")?.remove();
  const line = item.querySelector(".told");
  line.hidden = false;
  text(line, say("seen by {person} at {time}", { person: told.person, time: clock(told.acknowledged_at) }));
}

async function acknowledge(button, identity) {
  button.disabled = true;
  try {
    const told = await send("POST", `/api/alarms/${encodeURIComponent(identity)}/acknowledge`, {});
    showAcknowledged(shownAlarms.get(identity) ?? button.closest("li"), told);
  } catch (error) {
    button.disabled = false;
    toast(error.message, "fault");
  }
}

function showBacklog(bytes, seconds) {
  const behind = element("backlog");
  behind.hidden = seconds < BEHIND_S;
  if (!behind.hidden) text(behind, say("The database is {size} and {span} behind. Nothing is lost: the journal keeps it.", { size: size(bytes), span: span(seconds) }));
}

function showLight(light, word = STATES[light.state]) {
  const panel = element("light");
  panel.className = `light is-${light.state}`;
  document.body.classList.toggle("stale", light.state === "UNKNOWN");
  panel.querySelector("use").setAttribute("href", `#mark-${light.state}`);
  text(panel.querySelector(".state"), word);
  const more = light.causes.length > 3 ? [say("and {n} more", { n: light.causes.length - 3 })] : [];
  const causes = [...light.causes.slice(0, 3).map(cause), ...more].join(" · ");
  text(panel.querySelector(".causes"), causes);
}

/* a cause is "<service> <what>[: <detail>]": the middle of it can be translated */
function cause(said) {
  const [service, ...words] = said.split(": ")[0].split(" ");
  const translated = CAUSES[words.join(" ")];
  return translated ? [`${service} ${translated}`, ...said.split(": ").slice(1)].join(": ") : said;
}

function put(id, value) {
  text(element(id), value);
}

function text(target, value) {
  if (target.textContent !== value) target.textContent = value;
}

/* parts */

function drawSoon() {
  due ??= setTimeout(() => {
    due = null;
    drawParts();
  }, DRAW_MS);
}

function drawParts() {
  const all = [...parts.values()];
  drawStrip(element("strip"), all);
  const held = document.querySelector("[name=which]:checked").value === "held";
  const seen = all.reverse().filter((part) => pictured(part) || part.verdict === "FAULT");
  const latest = seen[0] ?? all[0];
  if (latest) element("latest").replaceChildren(card(latest, "large"));
  const shown = seen.filter((part) => !held || part.verdict !== "PASS").slice(0, CARDS);
  element("recent").replaceChildren(...shown.map((part) => card(part)));
  const empty = element("recent-empty");
  empty.hidden = shown.length > 0;
  const none = parts.size ? say("No picture of the last parts was kept") : say("No part yet");
  text(empty, held && parts.size ? say("All of the last {n} parts passed", { n: parts.size }) : none);
  const used = new Set([...shown.map((part) => part.part_id), latest ? `large ${latest.part_id}` : ""]);
  for (const key of cards.keys()) if (!used.has(key)) cards.delete(key);
}

function pictured(part) {
  return Object.keys(part.pictures ?? {}).length > 0;
}

function card(part, size = "") {
  const key = size ? `${size} ${part.part_id}` : part.part_id;
  let made = cards.get(key);
  if (!made) {
    made = element("card").content.firstElementChild.cloneNode(true);
    made.href = `/parts/${part.part_id}`;
    made.classList.add(`is-${part.verdict}`);
    if (size) made.classList.add(size);
    made.querySelector("use").setAttribute("href", `#mark-${part.verdict}`);
    made.querySelector(".word").textContent = WORDS[part.verdict];
    made.querySelector(".score").textContent = score(worst(part).score);
    made.querySelector(".number").textContent = size ? `${part.product} · ${clock(part.trigger_time)} · ${say("no. {n}", { n: part.sequence })}` : say("no. {n}", { n: part.sequence });
    cards.set(key, made);
  }
  text(made.querySelector(".gate"), gate(part));
  showPictures(made.querySelector(".pictures"), part, size);
  return made;
}

function gate(part) {
  if (!part.gate) return "";
  if (!part.gate.taken) return say("gate not reached");
  if (!part.gate.outcome) return say("not seen at gate");
  return part.gate.outcome === "EJECTED" ? say("ejected") : say("passed");
}

function showPictures(place, part, size) {
  const views = part.views.filter((view) => part.pictures?.[view.camera]);
  const chosen = size ? undefined : part.views.find((view) => view.camera === element("camera")?.value);
  const first = chosen ?? (part.verdict === "PASS" ? part.views[0] : worst(part));
  views.sort((a, b) => (b === first) - (a === first));
  if (!size) views.splice(1);
  const shown = views.map((view) => `${view.camera}/${part.pictures[view.camera]}`).join(" ");
  if (place.dataset.shown === shown) return;
  place.dataset.shown = shown;
  place.classList.toggle("many", views.length > 1);
  place.replaceChildren(...views.map((view) => picture(part, view, size)));
}

function picture(part, view, size) {
  const made = element("picture").content.firstElementChild.cloneNode(true);
  const image = new Image(view.frame_width_px, view.frame_height_px);
  const purpose = part.pictures[view.camera];
  const smaller = purpose === "image" ? `?side_px=${size ? LARGE_PX : SMALL_PX}` : "";
  image.src = `/api/images/${part.part_id}/${view.camera}/${purpose}${smaller}`;
  image.alt = say("{camera} of part {n}", { camera: view.camera, n: part.sequence });
  made.prepend(image);
  made.querySelector("figcaption").textContent = size && part.views.length > 1 ? view.camera : "";
  const boxes = made.querySelector(".boxes");
  boxes.setAttribute("viewBox", `0 0 ${view.frame_width_px ?? 1} ${view.frame_height_px ?? 1}`);
  for (const region of view.regions) {
    boxes.append(node("rect", { x: region.x_px, y: region.y_px, width: region.width_px, height: region.height_px }));
  }
  if (view.score > view.review_above) {
    made.dataset.part = part.part_id;
    made.dataset.camera = view.camera;
    made.classList.add("hot");
    setTimeout(() => heat(made), MAP_MS);
  }
  return made;
}

async function heat(figure, tries = MAP_TRIES) {
  if (!figure.isConnected || !wanted() || "drawn" in figure.dataset) return;
  const map = await fetchMap(figure.dataset.part, figure.dataset.camera);
  if (map) {
    figure.dataset.drawn = "";
    draw(figure.querySelector(".heat"), map);
  } else if (tries > 1) {
    setTimeout(() => heat(figure, tries - 1), 2 * MAP_MS);
  }
}

/* controls */

connectSwitch(() => document.querySelectorAll(".picture.hot").forEach((figure) => heat(figure)));
element("camera")?.addEventListener("change", drawParts);
element("switch")?.addEventListener("change", (event) => {
  event.target.dataset.touched = "";
});
for (const radio of document.querySelectorAll("[name=which]")) radio.addEventListener("change", drawParts);
new ResizeObserver(() => drawStrip(element("strip"), [...parts.values()])).observe(element("strip"));
