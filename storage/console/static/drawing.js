/* Places drawn over a picture, in pixels of the frame: by pointer, touch and keys, at any zoom of the page. */

import { node } from "./format.js";
import { say } from "./language.js";

const GRIP = 9; // half its side, in pixels of the screen
const NEAR = 20; // a polygon is closed by a tap so near its first corner, in pixels of the screen
const LEAST = 3; // pixels of the frame that a rectangle has at least

export class Drawing {
  /* `told` is { chosen(index), changed(index, corners, last), drawn(corners), hint(text), drawing(active) }. */
  constructor(stage, told) {
    this.stage = stage;
    this.told = told;
    this.tool = null;
    this.places = []; // { name, kind, corners_px }
    this.chosen = -1;
    this.corners = []; // of a polygon that is being drawn
    this.shade = document.createElement("canvas"); // what a picture of a ROI leaves out
    this.svg = node("svg", { preserveAspectRatio: "none" });
    this.svg.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("keydown", (event) => this.#key(event));
    stage.addEventListener("dblclick", () => this.finish());
    new ResizeObserver(() => this.redraw()).observe(stage);
  }

  /* Show a picture of a frame; without one, an empty ground of its size. */
  open(width_px, height_px, picture, alt) {
    this.width_px = width_px;
    this.height_px = height_px;
    this.svg.setAttribute("viewBox", `0 0 ${width_px} ${height_px}`);
    const shown = picture ? Object.assign(new Image(width_px, height_px), { src: picture, alt }) : Object.assign(document.createElement("canvas"), { width: width_px, height: height_px });
    shown.className = "ground";
    this.stage.replaceChildren(shown, this.shade, this.svg);
  }

  show(places, chosen) {
    this.places = places;
    this.chosen = chosen;
    this.redraw();
  }

  take(tool) {
    this.tool = this.tool === tool ? null : tool;
    this.corners = [];
    this.told.drawing(this.tool);
    this.told.hint(this.tool === "rectangle" ? say("Draw from one corner to the other.") : this.tool === "polygon" ? say("Tap each corner; close it on the first one, by Enter or Finish.") : say("Choose a place to move it, or draw one."));
    this.redraw();
  }

  /* A rectangle in the middle, for whoever has no pointer: it can be moved and sized by its numbers. */
  middle() {
    const [x, y] = [this.width_px, this.height_px].map((side) => Math.round(side * 0.375));
    this.#drawn(rectangle([x, y], [this.width_px - x, this.height_px - y]));
  }

  finish() {
    if (this.corners.length >= 3) this.#drawn(this.corners);
  }

  cancel() {
    this.corners = [];
    if (this.tool) this.take(this.tool);
  }

  redraw() {
    const scale = this.width_px / (this.svg.clientWidth || this.width_px);
    const drawn = this.places.map((place, index) => this.#place(place, index, scale));
    if (this.corners.length) {
      drawn.push(node("polyline", { class: "open", points: this.corners.map((corner) => corner.join(",")).join(" ") }), ...this.corners.map(([x, y]) => node("circle", { class: "corner", cx: x, cy: y, r: GRIP * scale })));
    }
    this.svg.replaceChildren(...drawn);
    this.svg.classList.toggle("drawing", this.tool !== null);
  }

  #place(place, index, scale) {
    const shown = node("g", { class: `place ${place.kind}${index === this.chosen ? " chosen" : ""}`, "data-index": index });
    shown.append(node("polygon", { points: place.corners_px.map((corner) => corner.join(",")).join(" ") }));
    const top = place.corners_px.reduce((best, corner) => (corner[1] < best[1] ? corner : best));
    const name = node("text", { x: top[0] + 4 * scale, y: Math.max(top[1] - 6 * scale, 14 * scale), "font-size": 14 * scale });
    name.textContent = place.name;
    shown.append(name);
    if (index === this.chosen) {
      place.corners_px.forEach(([x, y], corner) => shown.append(node("rect", { class: "corner", "data-corner": corner, x: x - GRIP * scale, y: y - GRIP * scale, width: 2 * GRIP * scale, height: 2 * GRIP * scale })));
    }
    return shown;
  }

  #at(event) {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    return this.#inside([point.x, point.y]);
  }

  #inside([x, y]) {
    return [Math.min(Math.max(Math.round(x), 0), this.width_px - 1), Math.min(Math.max(Math.round(y), 0), this.height_px - 1)];
  }

  #down(event) {
    event.preventDefault();
    this.stage.focus({ preventScroll: true });
    const from = this.#at(event);
    if (this.tool === "polygon") return this.#corner(from);
    this.svg.setPointerCapture(event.pointerId);
    if (this.tool === "rectangle") return this.#follow((at) => this.#stretch(from, at), (at) => this.#stretched(from, at));
    const hit = document.elementsFromPoint(event.clientX, event.clientY).find((element) => element.closest?.("[data-index]"));
    const index = hit ? Number(hit.closest("[data-index]").dataset.index) : -1;
    if (index !== this.chosen) this.told.chosen(index);
    if (index < 0) return undefined;
    const corner = hit.dataset.corner;
    const start = this.places[index].corners_px;
    const moved = (at) => (corner === undefined ? this.#shifted(start, at[0] - from[0], at[1] - from[1]) : start.map((one, number) => (number === Number(corner) ? at : one)));
    return this.#follow((at) => this.told.changed(index, moved(at), false), (at) => this.told.changed(index, moved(at), true));
  }

  #follow(move, end) {
    let last = null;
    const follow = (event) => move((last = this.#at(event)));
    this.svg.addEventListener("pointermove", follow);
    this.svg.addEventListener("lostpointercapture", () => {
      this.svg.removeEventListener("pointermove", follow);
      if (last) end(last);
    }, { once: true });
  }

  #stretch(from, to) {
    this.corners = [...rectangle(from, to), from];
    this.redraw();
  }

  #stretched(from, to) {
    if (Math.abs(to[0] - from[0]) < LEAST || Math.abs(to[1] - from[1]) < LEAST) {
      this.corners = [];
      this.redraw();
    } else this.#drawn(rectangle(from, to));
  }

  #corner(at) {
    const scale = this.width_px / (this.svg.clientWidth || this.width_px);
    const [first] = this.corners;
    if (first && this.corners.length >= 3 && Math.hypot(at[0] - first[0], at[1] - first[1]) < NEAR * scale) this.finish();
    else if (String(this.corners.at(-1)) !== String(at)) this.corners = [...this.corners, at]; // the second of a double click
    this.redraw();
  }

  #drawn(corners) {
    this.corners = [];
    this.tool = null;
    this.told.drawing(null);
    this.told.hint(say("Choose a place to move it, or draw one."));
    this.told.drawn(corners);
  }

  #shifted(corners, x, y) {
    const [xs, ys] = [corners.map((corner) => corner[0]), corners.map((corner) => corner[1])];
    const right = Math.min(Math.max(x, -Math.min(...xs)), this.width_px - 1 - Math.max(...xs));
    const down = Math.min(Math.max(y, -Math.min(...ys)), this.height_px - 1 - Math.max(...ys));
    return corners.map((corner) => [corner[0] + right, corner[1] + down]);
  }

  #key(event) {
    const step = event.shiftKey ? 10 : 1;
    const way = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (way && this.chosen >= 0) this.told.changed(this.chosen, this.#shifted(this.places[this.chosen].corners_px, ...way), true);
    else if (event.key === "Enter") this.finish();
    else if (event.key === "Escape" && this.tool) this.cancel();
    else if (event.key === "Escape") this.told.chosen(-1);
    else if (event.key === "Delete" || event.key === "Backspace") this.told.removed();
    else return;
    event.preventDefault();
  }
}

function rectangle(from, to) {
  const [left, right] = [from[0], to[0]].sort((a, b) => a - b);
  const [top, bottom] = [from[1], to[1]].sort((a, b) => a - b);
  return [[left, top], [right, top], [right, bottom], [left, bottom]];
}

/* Return a polygon as a recipe keeps a ROI: a grey picture of the frame as PNG in base64, white inside. */
export async function asPicture(corners_px, width_px, height_px) {
  const canvas = new OffscreenCanvas(width_px, height_px);
  const context = canvas.getContext("2d");
  context.fillRect(0, 0, width_px, height_px);
  context.fillStyle = context.strokeStyle = "#fff";
  context.beginPath();
  for (const [x, y] of corners_px) context.lineTo(x + 0.5, y + 0.5); // the middle of a pixel
  context.closePath();
  context.fill();
  context.stroke(); // the corners belong to it
  const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: "image/png" })).arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return btoa(text);
}

/* Darken on `canvas` what a picture (base64) leaves out; nothing without one. */
export async function shadeOutside(canvas, picture) {
  canvas.width = canvas.height = 1;
  if (!picture) return;
  const bytes = Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0));
  const shown = await createImageBitmap(new Blob([bytes]));
  canvas.width = shown.width;
  canvas.height = shown.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(shown, 0, 0);
  const image = context.getImageData(0, 0, shown.width, shown.height);
  for (let at = 0; at < image.data.length; at += 4) {
    const outside = image.data[at] < 128;
    image.data[at] = image.data[at + 1] = image.data[at + 2] = 0;
    image.data[at + 3] = outside ? 150 : 0;
  }
  context.putImageData(image, 0, 0);
}
