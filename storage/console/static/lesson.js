/* One lesson: it follows the lesson's events and shows what each step has brought. */

import { WORDS, node, score } from "./format.js";
import { say } from "./language.js";
import { stageWord, stateWord } from "./lesson_words.js";
import { send } from "./send.js";
import { toast } from "./toast.js";

const byId = (id) => document.getElementById(id);
const lesson = byId("lesson");
const base = `/api/lessons/${lesson.dataset.id}`;
const WORKING = ["COLLECTING", "CHECKING", "FITTING", "SHADOW"];
const SWITCHING = ["RELEASING", "RETURNING"];
const STEP = {
  COLLECTING: "images", READY: "check", CHECKING: "check", FITTING: "fit", FITTED: "shadow", SHADOW: "shadow",
  RELEASING: "release", RETURNING: "release", RELEASED: "release",
};
const AT_ONCE = 24;
const SHADOW_EVERY_MS = 3000;
const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 2 : 1)} %`;

let now = null; // the lesson's standing
let images = [];
let shown = AT_ONCE;
let leftOut = new Set();
let looked = {}; // what was fetched for which state of the lesson
let sawShadow = 0;

/* what changes */

const events = new EventSource(`${base}/events`);
events.addEventListener("standing", (event) => show(JSON.parse(event.data)));
events.addEventListener("gone", () => location.assign("/teach"));

function show(standing) {
  const before = now;
  now = standing;
  const { lesson: one, progress } = standing;
  byId("state").textContent = stateWord(one.state);
  byId("state").dataset.state = one.state;
  const working = WORKING.includes(one.state) || SWITCHING.includes(one.state);
  byId("work").hidden = !working;
  byId("stop").hidden = SWITCHING.includes(one.state);
  const bar = byId("work").querySelector("progress");
  if (working) {
    const stage = progress && !SWITCHING.includes(one.state) ? stageWord(progress.stage) : stateWord(one.state);
    const counted = progress && progress.total > 1 && !SWITCHING.includes(one.state);
    byId("work").querySelector(".stage").textContent = counted ? `${stage}: ${progress.done} / ${progress.total}` : stage;
    if (counted) bar.value = progress.done / progress.total;
    else bar.removeAttribute("value");
  }
  byId("detail").textContent = one.detail;
  byId("detail").hidden = one.detail === "";
  byId("detail").classList.toggle("fault", one.state === "FAILED");
  const step = STEP[one.state];
  for (const item of document.querySelectorAll(".steps li")) item.classList.toggle("now", item.dataset.step === step);
  enable(one);
  count(standing);
  if (before === null || before.images !== standing.images || before.lesson.left_out.length !== one.left_out.length) listImages();
  if (standing.detectors && changed("detectors", true)) listDetectors();
  if (changed("check", `${one.state === "CHECKING"} ${one.since}`)) showCheck();
  if (changed("fit", `${one.bundle_digest}`)) showFit();
  if (one.shadow_since !== null && (changed("shadow", one.state) || Date.now() - sawShadow > SHADOW_EVERY_MS)) showShadow();
  if (one.shadow_since === null) byId("compared").hidden = true;
  showRelease(one);
}

function changed(what, key) {
  const is = looked[what] !== key;
  looked[what] = key;
  return is;
}

function enable(one) {
  const free = !WORKING.includes(one.state) && !SWITCHING.includes(one.state);
  const open = free && !["RELEASED", "CANCELLED"].includes(one.state);
  const addable = open || one.state === "COLLECTING";
  for (const button of byId("collect").querySelectorAll("button:not([type])")) button.disabled = !open;
  byId("picks").disabled = byId("files").disabled = !addable;
  const able = lesson.hasAttribute("data-able"); // what checks and fits is installed
  byId("do-check").disabled = !open || now.images === 0 || !able;
  byId("do-fit").querySelector("button").disabled = !open || now.images === 0 || !able;
  byId("do-shadow").querySelector("button").disabled = one.state !== "FITTED";
  byId("do-release").querySelector("button").disabled = !["FITTED", "SHADOW"].includes(one.state);
  byId("cancel").hidden = SWITCHING.includes(one.state) || ["RELEASED", "CANCELLED"].includes(one.state);
  byId("remove").hidden = !free;
  byId("shadow").classList.toggle("idle", one.bundle_digest === null);
  byId("release").classList.toggle("idle", one.bundle_digest === null);
}

function count({ lesson: one, images: held, defects }) {
  const said = [say("{n} good images", { n: held - one.left_out.length })];
  if (one.left_out.length) said.push(say("{n} left out", { n: one.left_out.length }));
  for (const [kind, n] of Object.entries(defects)) said.push(`${n} ${kind}`);
  if (one.shed) said.push(say("{n} parts whose pixels gave way to the line", { n: one.shed }));
  byId("count").textContent = said.join(" · ");
}

/* images */

async function listImages() {
  const found = await read(`${base}/images`);
  if (found === null) return;
  images = found.images;
  leftOut = new Set(found.left_out);
  drawImages();
}

function drawImages() {
  byId("thumbs").replaceChildren(...images.slice(-shown).reverse().map((name) => {
    const button = made("button", { type: "button", title: name });
    button.setAttribute("aria-pressed", leftOut.has(name));
    button.setAttribute("aria-label", say("Leave out {name}", { name }));
    button.append(made("img", { src: `${base}/images/${name}?side_px=96`, alt: "", loading: "lazy" }));
    button.addEventListener("click", () => leaveOut(name, !leftOut.has(name)));
    return button;
  }));
  byId("more").hidden = images.length <= shown;
}

byId("more").addEventListener("click", () => {
  shown += 2 * AT_ONCE;
  drawImages();
});

const leaveOut = (name, out) => attempt(async () => {
  show(await send("PUT", `${base}/left-out`, { images: [name], out }));
  showCheck();
});

byId("files").addEventListener("change", async () => {
  const chosen = [...byId("files").files];
  const kind = byId("kind").value.trim();
  let added = 0;
  for (const file of chosen) {
    const asked = new URLSearchParams({ called: file.name });
    if (kind) asked.set("defect_class", kind);
    const answer = await fetch(`${base}/images?${asked}`, {
      method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" },
    }).catch(() => null);
    if (answer?.ok) added += 1;
    else toast((await answer?.json().catch(() => null))?.detail ?? say("The console does not answer: try again"), "fault");
  }
  byId("files").value = "";
  if (added) toast(say("{n} images added", { n: added }));
});

byId("picks").addEventListener("click", () => attempt(async () => {
  const found = await send("POST", `${base}/picks`);
  toast(say("{good} good and {defects} defects added; {known} were there; of {not_exact} not every pixel was kept", found));
}));

submits("collect", (form) => send("POST", `${base}/collect`, {
  count: Number(form.count.value), every_parts: Number(form.every_parts.value), verdicts: now.lesson.collecting.verdicts,
}));

/* check */

byId("do-check").addEventListener("click", () => attempt(async () => show(await send("POST", `${base}/check`))));

async function showCheck() {
  const found = now.lesson.state === "CHECKING" || !now.checked ? null : await read(`${base}/suspects/check`);
  byId("check-report").hidden = found === null;
  const list = byId("suspects");
  if (found === null) {
    byId("check-said").textContent = "";
    list.replaceChildren();
    return;
  }
  const odd = found.outlying.length + found.alike.length;
  byId("check-said").textContent = odd
    ? say("{odd} of {n} images should be looked at", { odd, n: found.images })
    : say("Nothing odd among {n} images; these are the least usual ones", { n: found.images });
  list.replaceChildren(
    ...found.outlying.map((one) => suspect("check", one, say("Unlike the others: {score}", { score: score(one.score) }))),
    ...found.alike.slice(0, 6).map((one) => suspect("check", one, say("Like {other}", { other: one.like }))),
    ...found.unusual.map((one) => suspect("check", one, say("Least usual: {score}", { score: score(one.score) }))),
  );
}

function suspect(work, one, why, choose = true) {
  const figure = made("figure");
  if (one.picture) {
    figure.append(made("img", { src: `${base}/pictures/${work}/${one.picture}?side_px=300&of=${now.lesson.attempt}`, alt: one.image, loading: "lazy" }));
  }
  figure.append(made("figcaption", { textContent: why, title: one.image }));
  if (choose && images.includes(one.image)) {
    const out = leftOut.has(one.image);
    const button = made("button", { className: "button", type: "button", textContent: out ? say("Take in again") : say("Leave out") });
    button.addEventListener("click", () => leaveOut(one.image, !out));
    figure.append(button);
  }
  return figure;
}

/* fit */

const fitting = byId("do-fit");

fitting.detector.addEventListener("change", chooseDetector);

function chooseDetector() {
  for (const options of fitting.querySelectorAll("[data-detector]")) options.hidden = options.dataset.detector !== fitting.detector.value;
  fitting.fast.closest("label").hidden = fitting.detector.value !== "patchcore";
}

async function listDetectors() {
  const { detectors } = (await read("/api/detectors")) ?? { detectors: [] };
  const usable = detectors.filter((one) => one.options);
  if (!usable.length) return;
  const { detector, options: chosen } = now.lesson.fitting;
  fitting.detector.replaceChildren(...usable.map((one) => made("option", {
    value: one.name,
    textContent: `${one.title} · ${one.fitting === "seconds" ? say("learns in seconds") : say("learns in minutes")}`,
    disabled: one.state !== "ready",
    selected: one.name === detector,
  })));
  byId("options").querySelectorAll("fieldset").forEach((fieldset) => fieldset.remove());
  byId("options").append(...usable.map((one) => {
    const fieldset = made("fieldset", { className: "fields" });
    fieldset.dataset.detector = one.name;
    fieldset.append(made("p", { className: "muted", textContent: one.what_for }));
    for (const [name, option] of Object.entries(one.options)) {
      const label = made("label", { className: "field", textContent: name, title: option.description ?? "" });
      const given = one.name === detector && name in chosen ? JSON.stringify(chosen[name]) : "";
      label.append(made("input", { name: `${one.name}.${name}`, value: given, placeholder: JSON.stringify(option.default ?? ""), autocomplete: "off" }));
      fieldset.append(label);
    }
    return fieldset;
  }));
  chooseDetector();
}

submits("do-fit", (form) => {
  const detector = form.detector.value;
  const options = detector === "patchcore" && form.fast.checked ? { size_px: 160, taps: [4, 8], stride_px: 16 } : {};
  for (const field of form.querySelectorAll(`[data-detector="${detector}"] input`)) {
    if (field.value.trim() === "") continue;
    options[field.name.slice(detector.length + 1)] = value(field.value.trim());
  }
  return send("POST", `${base}/fit`, { detector, options, alpha: Number(form.alpha.value) / 100 });
});

async function showFit() {
  const found = now.lesson.bundle_digest === null || !now.fitted ? null : await read(`${base}/fitted`);
  byId("fitted").hidden = found === null;
  if (found === null) return;
  const sealed = found.calibration;
  const facts = [
    [say("Detector"), found.detector],
    [say("Images"), found.images],
    [say("Review above"), score(sealed.review_above)],
    [say("Reject above"), score(sealed.reject_above)],
    [say("Time an image"), `${found.cost.ms_per_image.toFixed(1)} ms`],
    [say("Size"), `${(found.size_bytes / 1e6).toFixed(1)} MB`],
    [say("Fitted in"), `${Math.round(found.metrics.fit_s)} s`],
    [say("Bundle"), found.digest.slice(7, 19)],
  ];
  byId("facts").replaceChildren(...facts.map(([name, said]) => {
    const row = made("div");
    row.append(made("dt", { textContent: name }), made("dd", { textContent: said }));
    return row;
  }));
  const promise = sealed.held_out_images === 0
    ? say("Nothing is promised: the thresholds come from copies of a single image.")
    : say("Good parts that do not pass: at most {bound} with 95 % confidence, by {n} images that were held out; asked for was {alpha}.", {
      bound: percent(sealed.alpha_upper), n: sealed.held_out_images, alpha: percent(sealed.alpha),
    });
  const more = sealed.more_images
    ? say("About {n} more good images would promise it.", { n: Math.ceil(sealed.more_images * Math.max(1, found.images / Math.max(1, sealed.held_out_images))) })
    : "";
  byId("promise").textContent = `${promise} ${more}`;
  histogram(found.held_out_scores, sealed);
  const release = byId("do-release");
  release.review_above.value = sealed.review_above;
  release.reject_above.value = sealed.reject_above;
  const odd = await read(`${base}/suspects/fit`);
  byId("worst").replaceChildren(...[...(odd?.outlying ?? []), ...(odd?.unusual ?? [])].slice(0, 6).map(
    (one) => suspect("fit", one, say("Score {score}", { score: score(one.score) }), false),
  ));
  const judged = found.evaluation;
  byId("evaluation").hidden = judged === null;
  byId("escapes").replaceChildren();
  if (judged) {
    const { events, parts, low, high } = judged.escapes;
    const said = say("{events} of {parts} picked defects would escape (95 %: {low} to {high})", { events, parts, low: percent(low), high: percent(high) });
    byId("escapes").append(made("p", { className: "promise", textContent: said }));
    for (const kind of judged.kinds.filter((one) => one.kind !== "good")) {
      byId("escapes").append(made("p", { textContent: say("{kind}: {passed} of {parts} pass", kind) }));
    }
  }
}

function histogram(scores, { review_above: review, reject_above: reject }) {
  const svg = byId("histogram");
  const [low, high] = [Math.min(...scores, review), Math.max(...scores, reject) * 1.03];
  const x = (one) => 10 + (620 * (one - low)) / (high - low || 1);
  const bins = new Array(40).fill(0);
  for (const one of scores) bins[Math.min(39, Math.floor((40 * (one - low)) / (high - low || 1)))] += 1;
  const tallest = Math.max(...bins, 1);
  svg.replaceChildren(
    ...bins.map((n, place) => drawn("rect", { class: "bar", x: 10 + 15.5 * place, y: 105 - (90 * n) / tallest, width: 14, height: (90 * n) / tallest })),
    drawn("line", { class: "base", x1: 10, x2: 630, y1: 105, y2: 105 }),
    drawn("line", { class: "review", x1: x(review), x2: x(review), y1: 8, y2: 105 }),
    drawn("line", { class: "reject", x1: x(reject), x2: x(reject), y1: 8, y2: 105 }),
    drawn("text", { x: 10, y: 122 }, score(low)),
    drawn("text", { x: 630, y: 122, "text-anchor": "end" }, score(high)),
  );
}

/* shadow */

submits("do-shadow", (form) => send("POST", `${base}/shadow`, {
  every_parts: Number(form.every_parts.value), most: Number(form.most.value),
}));

async function showShadow() {
  sawShadow = Date.now();
  const found = await read(`${base}/shadow`);
  byId("compared").hidden = found === null || found.parts === 0;
  if (byId("compared").hidden) return;
  const { agree, stricter, milder } = found;
  byId("agree").textContent = say(
    "{n} parts since {time}: the same verdict for {share} (95 %: {low} to {high}); {stricter} passed and would not, {milder} did not and would",
    {
      n: found.parts, time: new Date(now.lesson.shadow_since).toLocaleTimeString(), share: percent(agree.share),
      low: percent(agree.low), high: percent(agree.high), stricter: stricter.parts, milder: milder.parts,
    },
  );
  const all = ["PASS", "REVIEW", "REJECT", "FAULT"];
  const used = all.filter((verdict) => Object.keys(found.verdicts).some((key) => key.split("->").includes(verdict)));
  const head = made("tr");
  head.append(made("th", { textContent: say("now ↓ new →") }), ...used.map((verdict) => made("th", { className: "number", textContent: WORDS[verdict] })));
  byId("verdicts").replaceChildren(head, ...used.map((then) => {
    const row = made("tr");
    row.append(made("th", { textContent: WORDS[then] }), ...used.map((verdict) => made("td", { className: "number", textContent: found.verdicts[`${then}->${verdict}`] ?? 0 })));
    return row;
  }));
  scatter(found.scores);
  byId("differing").replaceChildren(...found.differing.slice(0, 12).map((one) => {
    const link = made("a", { href: `/parts/${encodeURIComponent(one.part_id)}` });
    link.append(
      made("img", { src: `/api/images/${encodeURIComponent(one.part_id)}/${encodeURIComponent(now.lesson.camera)}/image?side_px=220`, alt: one.part_id, loading: "lazy" }),
      made("p", { textContent: `${WORDS[one.then]} ${score(one.score_then)} → ${WORDS[one.now]} ${score(one.score_now)}` }),
    );
    return link;
  }));
}

function scatter(pairs) {
  const svg = byId("scatter");
  if (!pairs.length) return;
  const range = (place) => [Math.min(...pairs.map((pair) => pair[place])), Math.max(...pairs.map((pair) => pair[place]))];
  const [[xLow, xHigh], [yLow, yHigh]] = [range(0), range(1)];
  const x = (one) => 34 + (276 * (one - xLow)) / (xHigh - xLow || 1);
  const y = (one) => 210 - (196 * (one - yLow)) / (yHigh - yLow || 1);
  svg.replaceChildren(
    drawn("line", { class: "base", x1: 30, x2: 314, y1: 214, y2: 214 }),
    drawn("line", { class: "base", x1: 30, x2: 30, y1: 10, y2: 214 }),
    ...pairs.map(([then, next]) => drawn("circle", { class: "dot", cx: x(then), cy: y(next), r: 3.2 })),
    drawn("text", { x: 314, y: 232, "text-anchor": "end" }, `${say("present bundle")} ${score(xLow)} – ${score(xHigh)}`),
    drawn("text", { x: 34, y: 9 }, `${say("new bundle")} ${score(yLow)} – ${score(yHigh)}`),
  );
}

/* release */

function showRelease(one) {
  byId("do-release").hidden = one.state === "RELEASED" || one.state === "RETURNING";
  byId("released").hidden = one.state !== "RELEASED";
  if (one.state === "RELEASED") {
    byId("released").querySelector("output").textContent = say("In force as version {version} of {recipe}, by {by}.", {
      version: one.release.version, recipe: one.recipe, by: one.release.by,
    });
  }
}

byId("do-release").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  const confirmed = {
    bundle_digest: now.lesson.bundle_digest, review_above: Number(form.review_above.value), reject_above: Number(form.reject_above.value),
  };
  const limits = { review_above: score(confirmed.review_above), reject_above: score(confirmed.reject_above) };
  const why = say("Review above {review_above}, reject above {reject_above}. For some seconds no part passes.", limits);
  attempt(async () => {
    if (await sure(say("Release this bundle?"), why)) show(await send("POST", `${base}/release`, confirmed));
  });
});

byId("bring-back").addEventListener("click", () => attempt(async () => {
  if (await sure(say("Bring back what was before?"), say("For some seconds no part passes."))) show(await send("POST", `${base}/bring-back`));
}));

/* the lesson itself */

byId("stop").addEventListener("click", () => attempt(async () => show(await send("POST", `${base}/stop`))));

byId("cancel").addEventListener("click", () => attempt(async () => {
  if (await sure(say("Give this lesson up?"), say("It cannot be taken up again."))) show(await send("POST", `${base}/cancel`));
}));

byId("remove").addEventListener("click", () => attempt(async () => {
  if (await sure(say("Remove this lesson?"), say("Its images and reports go; a bundle that was released stays."))) {
    await send("DELETE", base);
    location.assign("/teach");
  }
}));

function submits(id, what) {
  byId(id).addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(async () => show(await what(event.target)));
  });
}

async function attempt(what) {
  try {
    await what();
  } catch (error) {
    toast(error.message, "fault");
  }
}

function sure(what, why) {
  const dialog = byId("sure");
  byId("sure-what").textContent = what;
  byId("sure-why").textContent = why;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
for (const button of byId("sure").querySelectorAll("button")) {
  button.addEventListener("click", () => byId("sure").close(button.value));
}

/* Return what the console has there, null where there is nothing. */
async function read(path) {
  const answer = await fetch(path).catch(() => null);
  return answer?.ok ? answer.json() : null;
}

function value(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

const made = (name, fields = {}) => Object.assign(document.createElement(name), fields);

const drawn = (name, fields, text = "") => Object.assign(node(name, fields), { textContent: text });
