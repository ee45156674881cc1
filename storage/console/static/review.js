/* The reviewer's page: a key or a button says what the part is, and the next one stands there at once. */

import { build, Desk, showView, tell } from "./desk.js";
import { say } from "./language.js";
import { connectSwitch } from "./overlay.js";
import { send } from "./send.js";
import { toast } from "./toast.js";

const $ = (name) => document.getElementById(name);
const mayReview = "mayReview" in $("desk").dataset;
const mayPick = "mayPick" in $("desk").dataset;
const form = $("wanted");
let chosen = null; // class of the defect
let done = 0;
let saving = Promise.resolve();
let pending = 0;
const unsaved = [];
const words = []; // parts in the order in which something was said of them

connectSwitch();
form.addEventListener("change", (event) => event.target.name && form.submit());

const desk = new Desk(wanted(), show);

function wanted() {
  const query = new URLSearchParams();
  for (const name of ["product", "camera", "verdict", "oldest_first", "opinion"]) {
    if (form.elements[name].value) query.set(name, form.elements[name].value);
  }
  for (const name of ["since", "until"]) if (form.dataset[name]) query.set(name, form.dataset[name]);
  return query;
}

/* showing */

function show() {
  const { item } = desk;
  if (item) {
    const element = build(item);
    if ($("part").firstElementChild !== element) $("part").replaceChildren(element);
    tell(item);
    document.body.dataset.part = item.part.part_id;
  } else {
    delete document.body.dataset.part;
    $("part").replaceChildren(nothing());
  }
  for (const button of document.querySelectorAll(".finding")) {
    button.disabled = !item || !mayReview;
    button.setAttribute("aria-pressed", String(item?.review?.finding === button.dataset.finding));
  }
  $("hold").disabled = !item || !mayReview;
  $("hold").querySelector("span").textContent = item?.hold ? say("Release") : say("Hold");
  $("undo").disabled = !words.length;
  $("back").disabled = desk.at === 0;
  $("next").disabled = !item;
  if (mayPick) $("pick").disabled = !item;
  $("done").textContent = done;
  $("waiting").textContent = desk.left;
  $("saving").textContent = pending ? say("saving {n}", { n: pending }) : unsaved.length ? "" : say("all saved");
  $("unsaved").hidden = !unsaved.length;
  $("unsaved").querySelector("span").textContent = say("{n} not saved.", { n: unsaved.length });
}

function nothing() {
  const made = document.createElement("div");
  made.className = "empty";
  const said = document.createElement("p");
  said.textContent = desk.asking
    ? say("Looking for parts …")
    : desk.fault
      ? desk.fault
      : desk.searchedTo
        ? say("Nothing found yet: searched to {time}.", { time: desk.searchedTo.slice(0, 16).replace("T", " ") })
        : !mayReview
          ? say("Parts are handed out to operators.")
          : say("No part waits for you.");
  made.append(said);
  if (!desk.asking && mayReview) {
    const again = document.createElement("button");
    again.className = "button";
    again.id = "look";
    again.textContent = desk.searchedTo ? say("Search on") : say("Look again");
    again.addEventListener("click", () => {
      desk.more();
      show();
    });
    made.append(again);
  }
  return made;
}

function move(step) {
  if (!desk.move(step)) return;
  setComment("");
  choose(desk.item?.review?.defect_class ?? null);
  show();
}

/* saying what a part is */

function decide(finding) {
  const { item } = desk;
  if (!item || !mayReview) return;
  const body = { finding, comment: $("comment").value.trim() };
  if (finding === "DEFECT" && chosen) body.defect_class = chosen;
  if (!item.review) done++;
  item.review = body;
  words.push(item);
  save(item, body);
  $("comment").blur();
  desk.move(1);
  while (desk.item?.review) desk.move(1);
  setComment("");
  choose(null);
  show();
}

/* One after the other, so that the last word is the last one. */
function save(item, body) {
  pending++;
  saving = saving.then(async () => {
    try {
      await send("POST", `/api/parts/${item.part.part_id}/reviews`, body);
    } catch (error) {
      unsaved.push([item, body]);
      toast(say("Not saved: {why}", { why: error.message }), "fault");
    }
    pending--;
    show();
  });
}

function saveAgain() {
  for (const [item, body] of unsaved.splice(0)) save(item, body);
  show();
}

function correct() {
  const last = words.at(-1);
  const at = desk.items.indexOf(last);
  if (at < 0) return;
  desk.at = at;
  desk.prepare();
  words.pop();
  setComment(last.review.comment);
  choose(last.review.defect_class ?? null);
  show();
}

addEventListener("beforeunload", (event) => (pending || unsaved.length) && event.preventDefault());

/* classes and comments */

function choose(name) {
  chosen = name;
  for (const button of document.querySelectorAll(".class")) button.setAttribute("aria-pressed", String(button.dataset.class === name));
}

function setComment(said) {
  $("comment").value = said;
}

function addClass(name) {
  const known = [...document.querySelectorAll(".class")].find((button) => button.dataset.class === name);
  if (!known) {
    const button = document.createElement("button");
    button.className = "button class";
    button.dataset.class = name;
    const number = document.querySelectorAll(".class").length + 1;
    if (number <= 9) {
      const key = document.createElement("kbd");
      key.textContent = number;
      button.append(key);
    }
    button.append(name);
    $("classes").append(button);
  }
  choose(name);
}

$("classes").addEventListener("click", (event) => {
  const name = event.target.closest(".class")?.dataset.class;
  if (name) choose(chosen === name ? null : name);
});

/* Ask for a line of text; "" where the person would rather not. */
function ask(title, what, button, { pattern = "", most = 500 } = {}) {
  const dialog = $("asking");
  $("asking-title").textContent = title;
  $("asking-what").textContent = what;
  const field = $("asking-text");
  field.value = "";
  field.maxLength = most;
  if (pattern) field.pattern = pattern;
  else field.removeAttribute("pattern");
  field.required = true;
  dialog.querySelector("[value=yes]").textContent = button;
  dialog.returnValue = "";
  dialog.showModal();
  field.focus();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes" ? field.value.trim() : ""), { once: true }));
}

$("asking-text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing) return;
  event.preventDefault(); // the first button of the form is the one that leaves it
  const form = event.target.form;
  if (form.reportValidity()) $("asking").close(event.target.value.trim() ? "yes" : "");
});

async function newClass() {
  const name = await ask(say("New class"), say("Name: letters, digits, - and _"), say("Choose"), { pattern: "[\\p{L}\\p{N}_][\\p{L}\\p{N}_\\-]*", most: 64 });
  if (name) addClass(name);
}

async function holdOrRelease() {
  const { item } = desk;
  if (!item || !mayReview) return;
  const address = `/api/parts/${item.part.part_id}/hold`;
  try {
    if (item.hold) {
      await send("DELETE", address);
      item.hold = null;
      toast(say("Released"));
    } else {
      const reason = await ask(say("Hold"), say("Why is the part kept?"), say("Hold"));
      if (!reason) return;
      item.hold = await send("POST", address, { reason });
      toast(say("On hold"));
    }
  } catch (error) {
    toast(error.message, "fault");
  }
  show();
}

/* the training set */

async function pick() {
  const { item } = desk;
  if (!item || !mayPick) return;
  const dialog = $("picking");
  const camera = item.views[item.view].camera;
  $("picking-what").textContent = say("What is the view of {camera} an example of?", { camera });
  const names = [...document.querySelectorAll(".class")].map((button) => button.dataset.class);
  dialog.querySelector(".picked").replaceChildren(
    ...[null, ...names].map((name) => {
      const button = document.createElement("button");
      button.className = "button";
      button.value = name ?? "good";
      button.textContent = name ?? say("a good part");
      return button;
    }),
  );
  dialog.returnValue = "";
  dialog.showModal();
  const preferred = chosen ?? item.review?.defect_class ?? "good";
  [...dialog.querySelectorAll(".picked button")].find((button) => button.value === preferred)?.focus();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  if (!dialog.returnValue) return;
  const defect_class = dialog.returnValue === "good" ? null : dialog.returnValue;
  try {
    await send("POST", "/api/picks", { part_id: item.part.part_id, camera, defect_class });
    toast(say("Picked to train from"));
  } catch (error) {
    toast(error.message, "fault");
  }
}

/* keys and buttons */

const keys = {
  g: () => decide("GOOD"),
  d: () => decide("DEFECT"),
  u: () => decide("UNSURE"),
  n: newClass,
  c: () => $("comment").focus(),
  h: holdOrRelease,
  z: correct,
  t: pick,
  r: saveAgain,
  "?": () => $("keys").showModal(),
  " ": () => $("overlay").click(),
  ArrowLeft: () => move(-1),
  ArrowRight: () => move(1),
  ArrowUp: () => desk.item && showView(desk.item, desk.item.view - 1),
  ArrowDown: () => desk.item && showView(desk.item, desk.item.view + 1),
};

/* The letter on the key: a Korean keyboard gives the letter's jamo otherwise. */
function keyOf(event) {
  if (/^Key[A-Z]$/.test(event.code) && !/^[a-z]$/i.test(event.key)) return event.code[3].toLowerCase();
  return event.key.length === 1 ? event.key.toLowerCase() : event.key;
}

document.addEventListener("keydown", (event) => {
  if (event.target === $("comment")) {
    if (event.key === "Escape" || (event.key === "Enter" && !event.shiftKey && !event.isComposing)) {
      event.preventDefault();
      $("comment").blur();
    }
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const dialog = event.target.closest("dialog"); // one that was just closed has the focus until the page is painted again
  if (dialog ? dialog.open : event.target.closest("input:not([type=checkbox]), select, textarea")) return;
  const key = keyOf(event);
  if (/^[1-9]$/.test(key)) {
    const button = document.querySelectorAll(".class")[Number(key) - 1];
    if (button) choose(chosen === button.dataset.class ? null : button.dataset.class);
    return;
  }
  if (!Object.hasOwn(keys, key) || (event.repeat && !key.startsWith("Arrow"))) return;
  if (key === " " && !dialog && event.target.closest("button, a, input")) return;
  event.preventDefault();
  keys[key]();
});

for (const button of document.querySelectorAll(".finding")) button.addEventListener("click", () => decide(button.dataset.finding));
$("new-class").addEventListener("click", newClass);
$("hold").addEventListener("click", holdOrRelease);
$("undo").addEventListener("click", correct);
$("back").addEventListener("click", () => move(-1));
$("next").addEventListener("click", () => move(1));
$("again").addEventListener("click", saveAgain);
$("pick")?.addEventListener("click", pick);
$("help").addEventListener("click", () => $("keys").showModal());

if (mayReview) desk.prepare();
else desk.ended = true;
show();
