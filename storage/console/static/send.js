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
  if (!answer.ok) throw Object.assign(new Error(said?.detail ?? `${answer.status} ${answer.statusText}`), { status: answer.status, said });
  return said;
}
