/* A short word that comes and goes at the edge of the page: what was done, or why not. */

const STAYS_MS = 5000;
const FAULT_STAYS_MS = 12000; // longer: it has to be read

export function toast(text, kind = "done") {
  const made = document.createElement("p");
  made.className = `toast ${kind}`;
  made.textContent = text;
  document.getElementById("toasts").append(made);
  setTimeout(() => made.remove(), kind === "fault" ? FAULT_STAYS_MS : STAYS_MS);
}
