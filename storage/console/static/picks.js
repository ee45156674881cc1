/* The training set: a pick is taken back. */

import { offer } from "./exports.js";
import { say } from "./language.js";
import { send } from "./send.js";
import { toast } from "./toast.js";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-part]");
  if (!button) return;
  button.disabled = true;
  try {
    await send("DELETE", `/api/picks/${button.dataset.part}/${button.dataset.camera}`);
    button.closest("tr").remove();
    toast(say("Taken back"));
  } catch (error) {
    button.disabled = false;
    toast(error.message, "fault");
  }
});

offer();
