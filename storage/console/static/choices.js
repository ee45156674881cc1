/* What a person chooses for all pages, in the header: language, light or dark (the browser remembers both as cookies),
   and to sign out. */

import { send } from "./send.js";
import { toast } from "./toast.js";

const YEAR_S = 31536000;
const dark = document.getElementById("dark");

document.querySelector(".top nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

function remember(name, value) {
  document.cookie = `${name}=${value}; path=/; max-age=${YEAR_S}; samesite=lax`;
}

document.getElementById("language")?.addEventListener("click", (event) => {
  remember("language", event.currentTarget.value);
  location.reload();
});

document.getElementById("sign-out")?.addEventListener("click", async () => {
  let answer;
  try {
    answer = await send("POST", "/api/sign-out");
  } catch (error) {
    toast(error.message, "fault");
    return;
  }
  location.assign(answer?.then ?? "/sign-in"); // the provider's own session ends there
});

document.getElementById("scheme")?.addEventListener("click", () => {
  const wanted = matchMedia(dark.media).matches ? "light" : "dark";
  dark.media = wanted === "dark" ? "all" : "not all";
  remember("scheme", wanted);
  document.dispatchEvent(new CustomEvent("scheme", { detail: wanted })); // for charts, which draw their own colours
});
