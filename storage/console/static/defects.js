/* Filters apply as they are chosen, and more rows come in place; without this script the form and the link do the same. */

import { draw } from "./heat.js";
import { say } from "./language.js";
import { connectSwitch, wanted } from "./overlay.js";
import { offer } from "./exports.js";

const form = document.getElementById("filters");

function apply() {
  const chosen = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value !== "") chosen.append(name, value);
  if (chosen.get("when") !== "custom") {
    chosen.delete("since");
    chosen.delete("until");
  }
  location.assign(`${form.action}?${chosen}`);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  apply();
});
form.addEventListener("change", (event) => {
  if (event.target.matches("form > .field > select, [name=verdict], [name=when]:not([value=custom])")) apply();
});

async function more(event) {
  const rows = document.getElementById("rows");
  if (!rows) return;
  event.preventDefault();
  const link = event.currentTarget;
  link.textContent = say("Loading");
  const answer = await fetch(link.href).catch(() => null);
  if (!answer?.ok) {
    link.textContent = say("The database is away: try again");
    return;
  }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const before = document.querySelectorAll("#rows .row").length;
  rows.append(...(page.getElementById("rows")?.children ?? []));
  const next = page.getElementById("more");
  if (next) {
    link.parentElement.replaceChildren(...next.parentElement.childNodes);
    document.getElementById("more").addEventListener("click", more);
  } else {
    link.parentElement.remove();
  }
  document.querySelectorAll("#rows .row")[before]?.focus({ preventScroll: true });
  heat();
}

document.getElementById("more")?.addEventListener("click", more);

/* heat maps over the pictures: all that are new on the page in one request, small */

const MAPS_AT_ONCE = 24;

async function heat() {
  if (!wanted()) return;
  const pictures = [...document.querySelectorAll("#rows .picture[data-map]:not([data-drawn])")].slice(0, MAPS_AT_ONCE);
  if (!pictures.length) return;
  const times = pictures.map((picture) => picture.closest(".row").dataset.time).sort();
  const asked = new URLSearchParams({ since: times[0], until: times.at(-1) });
  for (const picture of pictures) {
    picture.dataset.drawn = "";
    asked.append("part", picture.dataset.part);
  }
  const answer = await fetch(`/api/maps?${asked}`).catch(() => null);
  if (!answer?.ok) return;
  const maps = new Map((await answer.json()).map((map) => [`${map.part_id}/${map.camera}`, map]));
  for (const picture of pictures) {
    const map = maps.get(`${picture.dataset.part}/${picture.dataset.camera}`);
    if (map) draw(picture.querySelector(".heat"), map);
  }
  heat();
}

if (document.getElementById("overlay")) connectSwitch(heat);

offer();
document.getElementById("export")?.addEventListener("click", () => document.getElementById("exporting").showModal());
