/* How numbers and words stand on a page; storage/console/display.py does the same on the server. */

import { say } from "./language.js";

export const WORDS = { PASS: say("Pass"), REJECT: say("Reject"), REVIEW: say("Review"), FAULT: say("Fault") };

export function score(value) {
  if (value === undefined || value === null) return "–";
  const size = Math.abs(value);
  return value.toFixed(size >= 1000 ? 1 : size >= 100 ? 2 : 3);
}

export function count(value) {
  return String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

export function size(bytes) {
  const units = ["kB", "MB", "GB"];
  const value = bytes / 1000;
  const step = value >= 999500 ? 2 : value >= 999.5 ? 1 : 0;
  const shown = value / 1000 ** step;
  return `${shown.toFixed(step && shown < 10 ? 1 : 0)}\u202f${units[step]}`;
}

export function span(seconds) {
  if (seconds < 120) return `${seconds}\u202fs`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes}\u202fmin` : `${Math.round(minutes / 60)}\u202fh`;
}

export function clock(time) {
  return time.slice(11, 19); // ISO 8601 in the station's zone
}

export function node(name, attributes = {}) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
