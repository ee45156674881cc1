/* A part's page: heat maps over its views, and each view beside a good one. */

import { draw, fetchMap } from "./heat.js";
import { say } from "./language.js";
import { connectSwitch } from "./overlay.js";

const BLINK_MS = 700;

connectSwitch(async () => {
  for (const figure of document.querySelectorAll(".picture[data-map]:not([data-drawn])")) {
    figure.dataset.drawn = "";
    const map = await fetchMap(figure.dataset.part, figure.dataset.camera);
    if (map) draw(figure.querySelector(".heat"), map);
  }
});

/* comparing */

async function ask(path) {
  const answer = await fetch(path).catch(() => null);
  return answer?.ok ? answer.json() : null;
}

async function samples(panel) {
  const { part, camera, bundle } = panel.dataset;
  const found = [];
  const good = await ask(`/api/parts/${part}/views/${camera}/good`);
  if (good) found.push({ name: say("Last good part"), address: good.picture });
  const golden = bundle ? await ask(`/api/bundles/${bundle}/golden`) : null;
  for (let number = 0; number < (golden?.frames ?? 0); number++) {
    found.push({ name: say("Golden sample {n}", { n: number + 1 }), address: `/api/bundles/${bundle}/golden/${number}` });
  }
  return found;
}

class Comparison {
  constructor(panel) {
    this.panel = panel;
    this.figure = panel.parentElement.querySelector(".picture");
    this.good = new Image();
    this.good.className = "good";
    this.slider = panel.querySelector("[type=range]");
    this.blinking = null;
    this.slider.addEventListener("input", () => this.show());
    panel.querySelector(".ways").addEventListener("change", () => this.show());
    panel.addEventListener("toggle", () => this.show());
  }

  async open() {
    const told = this.panel.querySelector(".told");
    told.textContent = say("Loading");
    const found = await samples(this.panel);
    told.textContent = found.length ? "" : say("There is nothing to compare with: no golden sample of the bundle is stored, and no picture of a good part was kept.");
    this.panel.querySelector(".controls").hidden = found.length === 0;
    found.forEach((sample, index) => this.offer(sample, index));
    if (found.length) this.choose(found[0]);
  }

  offer(sample, index) {
    const label = document.createElement("label");
    const input = document.createElement("input");
    const name = document.createElement("span");
    Object.assign(input, { type: "radio", name: `sample-${this.panel.dataset.camera}`, checked: index === 0 });
    name.textContent = sample.name;
    input.addEventListener("change", () => this.choose(sample));
    label.append(input, name);
    this.panel.querySelector(".samples").append(label);
  }

  choose(sample) {
    this.good.src = sample.address;
    this.good.alt = sample.name;
    this.show();
  }

  show() {
    const way = this.panel.querySelector(".ways :checked").value;
    const on = this.panel.open && this.good.src !== "";
    clearInterval(this.blinking);
    this.figure.classList.toggle("beside", on && way === "beside");
    this.figure.classList.toggle("compared", on && way !== "beside");
    this.panel.querySelector(".slider").hidden = way !== "slide";
    if (!on) this.good.remove();
    else if (!this.good.isConnected) this.figure.querySelector(".own").after(this.good);
    this.good.style.clipPath = on && way === "slide" ? `inset(0 ${100 - this.slider.value}% 0 0)` : "";
    this.good.style.visibility = "";
    if (on && way === "blink") {
      this.blinking = setInterval(() => {
        this.good.style.visibility = this.good.style.visibility ? "" : "hidden";
      }, BLINK_MS);
    }
  }
}

for (const panel of document.querySelectorAll(".comparing")) {
  const comparison = new Comparison(panel);
  panel.addEventListener("toggle", () => comparison.open(), { once: true });
}
