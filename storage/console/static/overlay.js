/* The switch that shows and hides heat maps and regions; the browser remembers it. */

const KEY = "andon.overlay";

export function wanted() {
  return !document.body.classList.contains("bare");
}

export function connectSwitch(onShown = () => {}) {
  const box = document.getElementById("overlay");
  box.checked = localStorage.getItem(KEY) !== "off";
  const apply = () => {
    document.body.classList.toggle("bare", !box.checked);
    localStorage.setItem(KEY, box.checked ? "on" : "off");
    if (box.checked) onShown();
  };
  box.addEventListener("change", apply);
  apply();
}
