/* Choosing the recipe that parts are judged by: only where the page has the form for it. */

const form = document.getElementById("switch");

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const told = form.querySelector("output");
  const body = JSON.stringify({ recipe: form.elements.recipe.value });
  try {
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch("/api/recipes/active", { method: "POST", headers, body });
    const found = await answer.json();
    told.textContent = answer.ok ? `${found.active} from the next part on` : found.detail;
  } catch {
    told.textContent = "the console does not answer: try again";
  }
});
