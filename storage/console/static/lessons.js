/* The lessons, and a new one. */

import { stateWord } from "./lesson_words.js";
import { send } from "./send.js";
import { toast } from "./toast.js";

for (const tag of document.querySelectorAll("[data-state]")) tag.textContent = stateWord(tag.dataset.state);

const form = document.getElementById("begin");

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { recipe, camera } = form.view.selectedOptions[0].dataset;
  const verdicts = form.which.value === "passed" ? ["PASS"] : ["PASS", "REVIEW", "REJECT", "FAULT"];
  const collecting = { count: Number(form.count.value), every_parts: Number(form.every_parts.value), verdicts };
  try {
    const made = await send("POST", "/api/lessons", { recipe, camera, collecting });
    location.assign(`/teach/${made.id}`);
  } catch (error) {
    toast(error.message, "fault");
  }
});
