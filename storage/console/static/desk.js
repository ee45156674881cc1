/* Parts that wait for a reviewer: asked for ahead of time, with their pictures and heat maps ready to be shown. */

import { node, score, WORDS } from "./format.js";
import { draw, fetchMap } from "./heat.js";
import { say } from "./language.js";
import { send } from "./send.js";

const AHEAD = 3; // parts whose pictures are loaded before they are wanted
const AT_ONCE = 8; // parts that are asked for
const TRIES = 8; // answers without any part, in a row, before a person must ask for more
const BEHIND = 20; // parts that can be gone back to with their pictures
const WORST = ["FAULT", "REJECT", "REVIEW", "PASS"];

export class Desk {
  constructor(wanted, onChange) {
    this.wanted = wanted; // URLSearchParams
    this.onChange = onChange;
    this.items = [];
    this.at = 0;
    this.after = null;
    this.ended = false;
    this.searchedTo = null;
    this.fault = null;
    this.asking = null;
  }

  get item() {
    return this.items[this.at];
  }

  get left() {
    return Math.max(0, this.items.length - this.at);
  }

  move(step) {
    const to = Math.min(Math.max(this.at + step, 0), this.items.length);
    if (to === this.at) return false;
    this.at = to;
    this.prepare();
    return true;
  }

  /* Have enough parts, and the pictures of the next ones. */
  prepare() {
    for (const item of this.items.slice(Math.max(0, this.at - 1), this.at + AHEAD + 1)) build(item);
    for (const item of this.items.slice(0, Math.max(0, this.at - BEHIND))) item.element = null;
    if (this.left <= AHEAD + 1 && !this.ended && !this.asking && !this.fault) {
      this.asking = this.ask().finally(() => {
        this.asking = null;
        this.onChange();
      });
    }
  }

  more() {
    this.fault = null;
    this.ended = false;
    this.searchedTo = null;
    this.prepare();
  }

  async ask() {
    for (let tries = 0; tries < TRIES; tries++) {
      const query = new URLSearchParams(this.wanted);
      query.set("limit", AT_ONCE);
      if (this.after) query.set("after", this.after);
      let found;
      try {
        found = await send("GET", `/api/review/queue?${query}`);
      } catch (error) {
        this.fault = error.message;
        return;
      }
      const known = new Set(this.items.map((item) => item.part.part_id));
      this.items.push(...found.parts.filter((one) => !known.has(one.part.part_id)).map((one) => ({ ...one, view: 0 })));
      this.searchedTo = found.searched_to;
      if (!found.after) {
        this.ended = true;
        this.after = null;
      } else this.after = found.after;
      if (found.parts.length || this.ended) break;
    }
    if (!this.left && !this.ended) this.ended = true; // a person may ask for more
    for (const item of this.items.slice(this.at, this.at + AHEAD + 1)) build(item);
  }
}

/* Make what shows a part, once; its pictures begin to load. */
export function build(item) {
  if (item.element) return item.element;
  const { part } = item;
  item.views = [...part.details].sort((one, other) => WORST.indexOf(one.verdict) - WORST.indexOf(other.verdict) || (other.score ?? 0) - (one.score ?? 0));
  item.element = document.createElement("div");
  item.element.className = "subject";
  item.figures = item.views.map((view) => figure(part, view));
  const line = document.createElement("p");
  line.className = "line";
  const chip = document.createElement("span");
  chip.className = `chip is-${part.verdict}`;
  const mark = node("svg", { class: "mark", "aria-hidden": "true" });
  mark.append(node("use", { href: `#mark-${part.verdict}` }));
  chip.append(mark, WORDS[part.verdict]);
  const link = document.createElement("a");
  link.href = `/parts/${part.part_id}`;
  link.target = "_blank";
  link.rel = "noopener";
  link.className = "id";
  link.textContent = part.part_id;
  line.append(chip, text("span", part.product), text("span", part.trigger_time.slice(0, 19).replace("T", " ")), link);
  item.said = text("span", "");
  item.said.className = "said";
  line.append(item.said);
  item.held = document.createElement("p");
  item.held.className = "held";
  const views = document.createElement("div");
  views.className = "views";
  item.large = document.createElement("div");
  item.large.className = "large";
  views.append(item.large);
  item.buttons = [];
  if (item.views.length > 1) {
    views.classList.add("many");
    const small = document.createElement("div");
    small.className = "small";
    item.views.forEach((view, number) => small.append(viewButton(item, view, number)));
    views.append(small);
  }
  item.element.append(line, item.held, views);
  showView(item, Math.min(item.view, item.views.length - 1));
  tell(item);
  item.ready = Promise.all(item.figures.map((one) => one.ready));
  return item.element;
}

/* Show one view of a part large. */
export function showView(item, number) {
  if (number < 0 || number >= item.figures.length) return;
  item.view = number;
  const view = item.views[number];
  const limits = view.reject_above === null || view.reject_above === undefined ? "" : say("score {score} · review above {review} · reject above {reject}", { score: score(view.score), review: score(view.review_above), reject: score(view.reject_above) });
  item.large.replaceChildren(item.figures[number], text("p", limits, "muted"));
  item.buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(at === number)));
}

/* Say what was found of a part just now, and that it is held. */
export function tell(item) {
  const findings = { GOOD: say("You said: good"), DEFECT: say("You said: defect"), UNSURE: say("You said: unsure") };
  item.said.textContent = item.review ? `${findings[item.review.finding]}${item.review.defect_class ? ` (${item.review.defect_class})` : ""}` : "";
  item.held.hidden = !item.hold;
  item.held.textContent = item.hold ? say("On hold by {holder}: {reason}", item.hold) : "";
}

function figure(part, view) {
  const made = document.createElement("figure");
  made.className = "picture";
  const kept = part.images.some((image) => image.camera === view.camera && image.purpose === "image");
  const [height, width] = view.frame_shape ?? [1, 1];
  made.style.setProperty("--shape", width / height);
  const image = new Image(width, height);
  image.alt = `${view.camera}: ${WORDS[view.verdict]}`;
  const waits = [];
  if (kept) {
    image.src = `/api/images/${part.part_id}/${view.camera}/image?side_px=768`;
    waits.push(image.decode().catch(() => null));
    made.append(image);
  } else {
    const blank = node("svg", { class: "blank", viewBox: `0 0 ${width} ${height}` });
    blank.append(node("rect", { width: "100%", height: "100%" }));
    made.append(blank);
  }
  const heat = document.createElement("canvas");
  heat.className = "heat";
  made.append(heat);
  if (view.map_shape) {
    waits.push(fetchMap(part.part_id, view.camera).then((map) => map && draw(heat, map)));
  }
  const boxes = node("svg", { class: "boxes", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const region of view.regions) boxes.append(node("rect", { x: region.x_px, y: region.y_px, width: region.width_px, height: region.height_px }));
  const caption = document.createElement("figcaption");
  caption.textContent = kept ? view.camera : say("{camera}: no picture was kept", { camera: view.camera });
  made.append(boxes, caption);
  made.ready = Promise.all(waits);
  return made;
}

function viewButton(item, view, number) {
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-label", say("View of {camera}", { camera: view.camera }));
  const image = new Image(112, 112);
  image.alt = "";
  image.src = `/api/images/${item.part.part_id}/${view.camera}/image?side_px=128`;
  image.addEventListener("error", () => (button.textContent = view.camera), { once: true });
  button.append(image);
  button.addEventListener("click", () => showView(item, number));
  item.buttons.push(button);
  return button;
}

function text(name, said, kind = "") {
  const made = document.createElement(name);
  made.className = kind;
  made.textContent = said;
  return made;
}
