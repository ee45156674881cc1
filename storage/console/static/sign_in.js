/* Signing in, and changing one's own password: both forms send JSON and go on where they are told. */

import { say } from "./language.js";
import { send } from "./send.js";

const entrance = document.getElementById("sign-in");
const change = document.getElementById("change");

for (const box of document.querySelectorAll("[data-shows]")) {
  box.addEventListener("change", () => {
    for (const name of box.dataset.shows.split(" ")) {
      box.form.elements[name].type = box.checked ? "text" : "password";
    }
  });
}

entrance?.addEventListener("submit", (event) => {
  event.preventDefault();
  const { name, password } = entrance.elements;
  submit(entrance, "/api/sign-in", { name: name.value, password: password.value }, entrance.dataset.next, password);
});

change?.addEventListener("submit", (event) => {
  event.preventDefault();
  const { present, wanted, again } = change.elements;
  if (wanted.value !== again.value) {
    refuse(change, say("The new passwords differ: type the same twice"), again);
    return;
  }
  submit(change, "/api/password", { present: present.value, wanted: wanted.value }, "/", present);
});

async function submit(form, path, body, next, field) {
  const button = form.querySelector("button.first");
  button.disabled = true;
  form.querySelector(".wrong").textContent = "";
  try {
    await send("POST", path, body);
    location.assign(next);
  } catch (error) {
    refuse(form, inWords(error), field);
    button.disabled = false;
  }
}

/* Return why the console refused, in the page's language where it is what people meet every day. */
function inWords(error) {
  if (error.status === 401) return say("Name or password is wrong. After a few tries you have to wait.");
  if (error.status === 429) {
    const [, seconds] = error.message.match(/(\d+) s/) ?? [null, "?"];
    return say("Too many tries: wait {seconds} s, then try again.", { seconds });
  }
  if (error.status === 503) return say("The database is away: nobody can sign in until it is back. Whoever is signed in stays so.");
  return error.message;
}

function refuse(form, why, field) {
  form.querySelector(".wrong").textContent = why;
  field.focus();
  field.select();
}
