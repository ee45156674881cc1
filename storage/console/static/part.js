import { draw, fetchMap } from "./heat.js";
import { connectSwitch } from "./overlay.js";

connectSwitch(async () => {
  for (const figure of document.querySelectorAll(".picture[data-map]:not([data-drawn])")) {
    figure.dataset.drawn = "";
    const map = await fetchMap(figure.dataset.part, figure.dataset.camera);
    if (map) draw(figure.querySelector(".heat"), map);
  }
});
