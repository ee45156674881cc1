/* The page People: each change is sent at once; what is told once stays on the screen until somebody has kept it. */

import { say } from "./language.js";
import { send } from "./send.js";
import { toast } from "./toast.js";

const byId = (id) => document.getElementById(id);

for (const button of document.querySelectorAll("[data-opens]")) {
  button.addEventListener("click", () => byId(button.dataset.opens).showModal());
}
for (const button of document.querySelectorAll("[data-closes]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}

answers("add-person", async (form) => {
  const made = await send("POST", "/api/people", { name: form.name.value, role: form.role.value });
  return () => tell(say("One-time password of {name}", made), made.password, say("It has to be changed at the first sign-in."));
});

answers("add-token", async (form) => {
  const days = form.days.value === "" ? null : Number(form.days.value);
  const body = { name: form.name.value, person: form.person.value, role: form.role.value, days };
  const made = await send("POST", "/api/tokens", body);
  return () => tell(say("Token {name}", made), made.token, say("A program sends it as Authorization: Bearer."));
});

for (const row of document.querySelectorAll("#people tbody tr")) {
  const name = row.dataset.name;
  const path = `/api/people/${encodeURIComponent(name)}`;
  const role = row.querySelector(".role");
  let before = role.value;
  role.addEventListener("change", () => attempt(async () => {
    await send("PUT", path, { role: role.value });
    before = role.value;
    toast(say("{name} is {role} from now on", { name, role: role.selectedOptions[0].textContent }));
  }, () => { role.value = before; }));
  row.querySelector(".reset")?.addEventListener("click", async () => {
    if (!(await sure(say("A one-time password for {name}?", { name }), say("The present password and all sessions end.")))) return;
    attempt(async () => {
      const made = await send("POST", `${path}/password`);
      tell(say("One-time password of {name}", made), made.password, say("It has to be changed at the first sign-in."));
    });
  });
  row.querySelector(".disable")?.addEventListener("click", async () => {
    if (!(await sure(say("Keep {name} out?", { name }), say("Sessions end, and tokens are worth nothing, at once.")))) return;
    attempt(async () => { await send("PUT", path, { disabled: true }); location.reload(); });
  });
  row.querySelector(".enable")?.addEventListener("click", () => attempt(async () => {
    await send("PUT", path, { disabled: false });
    location.reload();
  }));
}

for (const row of document.querySelectorAll("#tokens tbody tr")) {
  const name = row.dataset.name;
  row.querySelector(".revoke").addEventListener("click", async () => {
    if (!(await sure(say("Revoke the token {name}?", { name }), say("Programs that use it are refused, at once.")))) return;
    attempt(async () => { await send("DELETE", `/api/tokens/${encodeURIComponent(name)}`); location.reload(); });
  });
}

/* Send what a dialog's form says; what `made` returns is done once the dialog is closed. */
function answers(id, made) {
  const dialog = byId(id);
  const form = dialog.querySelector("form");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const wrong = form.querySelector(".wrong");
    wrong.textContent = "";
    try {
      const then = await made(form.elements);
      dialog.close();
      then();
    } catch (error) {
      wrong.textContent = error.message;
    }
  });
}

async function attempt(change, otherwise = () => {}) {
  try {
    await change();
  } catch (error) {
    otherwise();
    toast(error.message, "fault");
  }
}

function tell(title, secret, hint) {
  const dialog = byId("told");
  dialog.querySelector("h2").textContent = title;
  dialog.querySelector(".hint").textContent = hint;
  dialog.querySelector(".secret").textContent = secret;
  dialog.addEventListener("close", () => location.reload(), { once: true });
  dialog.showModal();
}

function sure(title, hint) {
  const dialog = byId("sure");
  dialog.querySelector("h2").textContent = title;
  dialog.querySelector(".hint").textContent = hint;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
