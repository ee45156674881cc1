/* What a person chooses for all pages, in the header: language, light or dark. The browser remembers it as cookies. */

const YEAR_S = 31536000;
const dark = document.getElementById("dark");

function remember(name, value) {
  document.cookie = `${name}=${value}; path=/; max-age=${YEAR_S}; samesite=lax`;
}

document.getElementById("language")?.addEventListener("click", (event) => {
  remember("language", event.currentTarget.value);
  location.reload();
});

document.getElementById("scheme")?.addEventListener("click", () => {
  const wanted = matchMedia(dark.media).matches ? "light" : "dark";
  dark.media = wanted === "dark" ? "all" : "not all";
  remember("scheme", wanted);
  document.dispatchEvent(new CustomEvent("scheme", { detail: wanted })); // for charts, which draw their own colours
});
