/* What was proposed for a recipe and the versions it has had: looked at, decided on, put in force, rolled back. */

import { say } from "./language.js";
import { send } from "./send.js";
import { toast } from "./toast.js";

const editor = document.getElementById("editor");
const edits = editor.dataset.edits === "yes";
const base = `/api/recipes/${encodeURIComponent(editor.dataset.name)}`;
const STATES = { PROPOSED: say("proposed"), APPROVED: say("approved"), REJECTED: say("rejected"), ACTIVATED: say("in force, or was") };
const SHORT = 19; // of a digest

/* tabs */

const tabs = [...editor.querySelectorAll("[role=tab]")];

function open(tab) {
  for (const one of tabs) {
    one.setAttribute("aria-selected", one === tab);
    one.tabIndex = one === tab ? 0 : -1;
    document.getElementById(one.getAttribute("aria-controls")).hidden = one !== tab;
  }
}

tabs.forEach((tab, index) => {
  tab.addEventListener("click", () => open(tab));
  tab.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!way) return;
    const next = tabs[(index + way + tabs.length) % tabs.length];
    open(next);
    next.focus();
  });
});

/* differences */

export function differenceList(changes) {
  const list = document.createElement("dl");
  list.className = "differences";
  for (const { field, before, after } of changes) {
    const name = document.createElement("dt");
    name.textContent = field;
    const values = document.createElement("dd");
    values.append(side("before", before), " → ", side("after", after));
    list.append(name, values);
  }
  return list;
}

function side(kind, value) {
  const made = document.createElement(kind === "before" ? "del" : "ins");
  made.textContent = value === null ? say("not said") : typeof value === "object" ? words(value) : String(value);
  return made;
}

function words(value) {
  if (Array.isArray(value)) return value.every(Array.isArray) ? value.map((corner) => `(${corner.join(", ")})`).join(" ") : value.join(", ");
  return Object.entries(value).filter(([, one]) => one !== null).map(([name, one]) => `${name}: ${one !== null && typeof one === "object" ? words(one) : one}`).join("; ");
}

/* asking before something is done */

const dialog = document.getElementById("ask");

function ask(title, changes, commented = false) {
  dialog.querySelector("label").hidden = !commented;
  dialog.querySelector("h2").textContent = title;
  dialog.querySelector(".differences").replaceChildren(...(changes ? [differenceList(changes)] : []));
  dialog.querySelector("textarea").value = "";
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes" ? { comment: dialog.querySelector("textarea").value } : null), { once: true }));
}

async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    toast(error.message, "fault");
    if (error.said?.changes?.length) await ask(say("Meanwhile somebody has changed this"), error.said.changes);
    return null;
  }
}

/* proposals */

export async function openProposals(inForce, taken) {
  const found = await attempt(() => send("GET", `${base}/proposals`));
  if (!found) return;
  const waiting = found.filter((one) => one.state === "PROPOSED" || one.state === "APPROVED").length;
  const tag = document.getElementById("waiting");
  tag.textContent = waiting;
  tag.hidden = !waiting;
  const place = document.querySelector("#proposals .scroll");
  if (found.length) place.replaceChildren(...found.map((one) => proposal(one, inForce, taken)));
}

function proposal(one, inForce, taken) {
  const made = document.createElement("article");
  made.className = `proposal state-${one.state}`;
  made.dataset.number = one.number;
  const head = document.createElement("h3");
  head.append(`${say("Proposal {n}", { n: one.number })} `, Object.assign(document.createElement("span"), { className: "tag", textContent: STATES[one.state] }));
  const who = document.createElement("p");
  who.className = "muted";
  const decided = one.decided_by ? ` · ${say("decided by {person}, {time}", { person: one.decided_by, time: when(one.decided_at) })}` : "";
  who.textContent = `${one.person}, ${when(one.proposed_at)}${decided}`;
  const why = Object.assign(document.createElement("p"), { className: "why", textContent: one.comment });
  const told = document.createElement("div");
  const buttons = document.createElement("p");
  buttons.className = "buttons";
  const again = () => openProposals(inForce, taken);
  buttons.append(button(say("What changes"), async () => {
    const whole = await attempt(() => send("GET", `/api/proposals/${one.number}`));
    if (whole) told.replaceChildren(told.childElementCount ? "" : differenceList(whole.changes));
  }));
  const act = async (verb, title, body) => {
    const whole = await attempt(() => send("GET", `/api/proposals/${one.number}`));
    if (!whole) return;
    const yes = await ask(title, whole.changes, body);
    if (!yes) return;
    const done = await attempt(() => send("POST", `/api/proposals/${one.number}/${verb}`, body ? { comment: yes.comment } : undefined));
    if (done && verb === "activate") {
      toast(say("Version {version} is in force from the next part on", { version: done.version }));
      await taken(done);
    } else await again();
  };
  if (edits && one.state === "PROPOSED") buttons.append(button(say("Approve"), () => act("approve", say("Approve proposal {n}?", { n: one.number })), "first"));
  if (edits && one.state === "APPROVED") buttons.append(button(say("Activate"), () => act("activate", say("Put proposal {n} in force?", { n: one.number })), "first"));
  if (edits && (one.state === "PROPOSED" || one.state === "APPROVED")) buttons.append(button(say("Reject it"), () => act("reject", say("Reject proposal {n}?", { n: one.number }), true), "danger"));
  made.append(head, who, why, told, buttons);
  return made;
}

/* versions */

export async function openHistory(inForce, taken) {
  const found = await attempt(() => send("GET", `${base}/versions`));
  if (!found) return;
  const rows = found.versions.map((one) => {
    const row = document.createElement("tr");
    row.dataset.version = one.version;
    const version = document.createElement("th");
    version.scope = "row";
    version.textContent = one.version;
    if (one.digest === found.in_force) version.append(" ", Object.assign(document.createElement("span"), { className: "tag", textContent: say("in force") }));
    const digest = Object.assign(document.createElement("td"), { className: "id", textContent: one.digest.slice(0, SHORT), title: one.digest });
    const buttons = document.createElement("td");
    if (one.digest !== found.in_force) {
      const differ = () => attempt(() => send("GET", `${base}/diff?before=${found.in_force}&after=${one.digest}`));
      buttons.append(button(say("Compare with what is in force"), async () => {
        const told = await differ();
        if (told) document.getElementById("difference").replaceChildren(Object.assign(document.createElement("h3"), { textContent: say("From what is in force to version {version}", { version: one.version }) }), differenceList(told.changes));
      }));
      if (edits) {
        buttons.append(button(say("Roll back to it"), async () => {
          const told = await differ();
          const yes = told && (await ask(say("Roll back to version {version}?", { version: one.version }), told.changes, true));
          if (!yes) return;
          const now = await attempt(() => send("POST", `${base}/roll-back`, { digest: one.digest, based_on: found.in_force, comment: yes.comment }));
          if (!now) return;
          toast(say("Version {version} is in force from the next part on", { version: now.version }));
          await taken(now);
        }));
      }
    }
    row.append(version, Object.assign(document.createElement("td"), { textContent: when(one.added_at) }), digest, buttons);
    return row;
  });
  document.querySelector("#history tbody").replaceChildren(...rows);
}

function button(text, act, kind = "") {
  const made = Object.assign(document.createElement("button"), { className: `button ${kind}`, textContent: text, type: "button" });
  made.addEventListener("click", act);
  return made;
}

function when(time) {
  return new Date(time).toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
}
