/* Ask the console to change something: JSON there and back. */

import { say } from "./language.js";

/* Return the answer; throw an Error with the console's own words (and `status`, and all that was `said`) where it refuses. `body` is sent as JSON, if any. */
export async function send(method, path, body) {
  const json = body === undefined ? {} : { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(path, { method, ...json });
  } catch {
    throw new Error(say("The console does not answer: try again"));
  }
  const said = answer.status === 204 ? null : await answer.json().catch(() => null);
  const over = answer.status === 401 && path !== "/api/sign-in";
  tellOver(over);
  if (over) throw Object.assign(new Error(say("Your session has ended: sign in again, then repeat this. What is on the page stays.")), { status: 401, said });
  if (!answer.ok) throw Object.assign(new Error(said?.detail ?? `${answer.status} ${answer.statusText}`), { status: answer.status, said });
  return said;
}

/* Show, while the session is over, the way to a new one: in a tab of its own, so that nothing that was typed is lost. */
function tellOver(over) {
  const shown = document.getElementById("over");
  if (!over) shown?.remove();
  if (!over || shown) return;
  const told = Object.assign(document.createElement("p"), { id: "over", className: "over" });
  told.setAttribute("role", "alert");
  const link = Object.assign(document.createElement("a"), { href: "/sign-in", target: "_blank", rel: "noopener", className: "button", textContent: say("Sign in again") });
  told.append(say("Your session has ended. What is on the page stays."), link);
  document.querySelector("main").before(told);
}
