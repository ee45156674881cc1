/* Exports that the station writes aside: begun by a form, watched while it is written, fetched when it is there. */

import { say } from "./language.js";
import { send } from "./send.js";

const LOOK_EVERY_MS = 1000;

function node(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/* Every form of class `taking` begins the export of its `data-begin`, with what is chosen in it. */
export function offer() {
  for (const form of document.querySelectorAll("form.taking")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      take(form);
    });
  }
}

async function take(form) {
  const button = form.querySelector("button");
  const told = form.querySelector(".told") ?? form.appendChild(node("div", { class: "told", role: "status" }));
  const address = new URL(form.dataset.begin, location.href);
  for (const [name, value] of new FormData(form)) address.searchParams.append(name, value);
  button.disabled = true;
  let stopped = false;
  try {
    let made = await send("POST", `${address.pathname}${address.search}`);
    const own = `/api/exports/${made.id}`;
    const bar = node("progress", { max: "1", "aria-label": say("Export") });
    const words = node("span");
    const stop = node("button", { type: "button", class: "button" }, say("Stop"));
    stop.addEventListener("click", () => {
      stopped = true;
      send("DELETE", own).catch(() => {});
      told.replaceChildren();
    });
    told.replaceChildren(bar, words, stop);
    while (!made.standing.ended && !stopped) {
      const { done, total, more } = made.standing;
      if (total) bar.value = done / total;
      words.textContent = total ? say("{n} of {of} parts", { n: done.toLocaleString(), of: `${total.toLocaleString()}${more ? "+" : ""}` }) : say("Begins");
      await new Promise((wake) => setTimeout(wake, LOOK_EVERY_MS));
      if (!stopped) made = await send("GET", own);
    }
    if (!stopped) finish(told, made, own);
  } catch (error) {
    if (!stopped) told.replaceChildren(node("p", { class: "fault" }, error.message));
  }
  button.disabled = false;
}

function finish(told, made, own) {
  const { counted, fault } = made.standing;
  if (fault) {
    told.replaceChildren(node("p", { class: "fault" }, fault));
    return;
  }
  const lost = ["images_lost", "images_reduced", "views_without_image", "views_unknown"].filter((name) => counted[name]);
  const notes = {
    images_lost: say("images are stored no more"),
    images_reduced: say("images are smaller than the camera's: have the recipe keep all pixels to learn from"),
    views_without_image: say("views have no stored image and were left out"),
    views_unknown: say("views were left out: nobody knows whether they are good"),
  };
  const link = node("a", { class: "button first", href: `${own}/file`, download: `${made.name}.zip` }, `${made.name}.zip`);
  const kept = node("small", {}, say("Is kept for 15 minutes."));
  const list = lost.map((name) => node("li", {}, `${counted[name].toLocaleString()} ${notes[name]}`));
  told.replaceChildren(link, kept, ...(list.length ? [node("ul", {}, ...list)] : []));
  link.focus();
}
