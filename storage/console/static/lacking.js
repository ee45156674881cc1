/* What learning needs is fetched at a button, and it is told how far that is: asked for only while it goes on. */

import { say } from "./language.js";
import { send } from "./send.js";
import { toast } from "./toast.js";

const EVERY_MS = 1000;
const UNDER_WAY = new Set(["WANTED", "FINDING", "DOWNLOADING", "INSTALLING"]);

const notice = document.getElementById("lacking");
const button = document.getElementById("fetch");
const bar = notice.querySelector("progress");

function stage(fetch) {
  if (fetch.step === "WANTED") return say("Waiting for the teacher");
  if (fetch.step === "FINDING") return say("Looking for what is needed");
  if (fetch.step === "INSTALLING") return say("Installing");
  return say("Downloading {file}, {done} of {total} MB", {
    file: fetch.file,
    done: (fetch.done_bytes / 1e6).toFixed(1),
    total: (fetch.total_bytes / 1e6).toFixed(1),
  });
}

function show({ able, fetch }) {
  if (able) return location.reload();
  const going = fetch !== null && UNDER_WAY.has(fetch.step);
  const failed = notice.querySelector(".failed");
  notice.querySelector(".work").hidden = !going;
  if (button) button.disabled = going;
  failed.hidden = fetch?.step !== "FAILED";
  if (!failed.hidden) failed.textContent = say("It could not be fetched: {why}", { why: fetch.detail });
  if (!going) return undefined;
  notice.querySelector(".stage").textContent = stage(fetch);
  if (fetch.step === "DOWNLOADING" && fetch.total_bytes) bar.value = fetch.done_bytes / fetch.total_bytes;
  else bar.removeAttribute("value");
  return setTimeout(look, EVERY_MS);
}

async function look() {
  const answer = await fetch("/api/learning").catch(() => null);
  if (answer?.ok) show(await answer.json());
  else setTimeout(look, EVERY_MS * 5);
}

button?.addEventListener("click", async () => {
  try {
    show({ able: false, fetch: await send("POST", "/api/learning/fetch", {}) });
  } catch (error) {
    toast(error.message, "fault");
  }
});

look();
