/* Choosing the recipe that parts are judged by: only where the page has the form for it. */

import { say } from "./language.js";
import { send } from "./send.js";

const form = document.getElementById("switch");

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const told = form.querySelector("output");
  try {
    const found = await send("POST", "/api/recipes/active", { recipe: form.elements.recipe.value });
    told.textContent = say("{recipe} from the next part on", { recipe: found.active });
  } catch (error) {
    told.textContent = error.message;
  }
});
