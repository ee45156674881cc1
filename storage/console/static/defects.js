/* Filters apply as they are chosen, and more rows come in place; without this script the form and the link do the same. */

const form = document.getElementById("filters");

function apply() {
  const chosen = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value !== "") chosen.append(name, value);
  if (chosen.get("when") !== "custom") {
    chosen.delete("since");
    chosen.delete("until");
  }
  location.assign(`${form.action}?${chosen}`);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  apply();
});
form.addEventListener("change", (event) => {
  if (event.target.matches("form > .field > select, [name=verdict], [name=when]:not([value=custom])")) apply();
});

async function more(event) {
  const rows = document.getElementById("rows");
  if (!rows) return;
  event.preventDefault();
  const link = event.currentTarget;
  link.textContent = "Loading";
  const answer = await fetch(link.href).catch(() => null);
  if (!answer?.ok) {
    link.textContent = "The database is away: try again";
    return;
  }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const before = document.querySelectorAll("#rows .row").length;
  rows.append(...(page.getElementById("rows")?.children ?? []));
  const next = page.getElementById("more");
  if (next) {
    link.parentElement.replaceChildren(...next.parentElement.childNodes);
    document.getElementById("more").addEventListener("click", more);
  } else {
    link.parentElement.remove();
  }
  document.querySelectorAll("#rows .row")[before]?.focus({ preventScroll: true });
}

document.getElementById("more")?.addEventListener("click", more);
