/* Draw an anomaly map over its picture: bilinear between the map's cells, clear below the threshold. */

const SIDE = 256; // pixels of the longer side of what is drawn
const KEPT = 64; // maps
const kept = new Map();

/* black-body colours from amber to violet, lightest at the threshold: readable without telling hues apart */
const RAMP = [[255, 226, 84], [255, 158, 38], [244, 78, 54], [214, 32, 110], [160, 24, 160]];

export function fetchMap(part, camera) {
  const address = `/api/parts/${part}/views/${camera}/map`;
  let promise = kept.get(address);
  if (!promise) {
    promise = fetch(address).then((answer) => (answer.ok ? answer.json() : null), () => null);
    kept.set(address, promise);
    promise.then((found) => found || kept.delete(address));
    if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  }
  return promise;
}

export function draw(canvas, map) {
  const width = Math.round(SIDE * Math.min(1, map.width / map.height));
  const height = Math.round(SIDE * Math.min(1, map.height / map.width));
  canvas.width = width;
  canvas.height = height;
  const levels = Uint8Array.from(atob(map.levels), (sign) => sign.charCodeAt(0));
  const step = (map.high - map.low) / 255;
  const from = map.review_above ?? map.low;
  const to = Math.max(map.high, (map.reject_above ?? map.high) * 1.5 - from * 0.5, from + 1e-9);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let y = 0, at = 0; y < height; y++) {
    const v = Math.min(Math.max(((y + 0.5) * map.height) / height - 0.5, 0), map.height - 1);
    const top = Math.floor(v);
    const down = Math.min(top + 1, map.height - 1);
    for (let x = 0; x < width; x++, at += 4) {
      const u = Math.min(Math.max(((x + 0.5) * map.width) / width - 0.5, 0), map.width - 1);
      const left = Math.floor(u);
      const right = Math.min(left + 1, map.width - 1);
      const above = mix(levels[top * map.width + left], levels[top * map.width + right], u - left);
      const below = mix(levels[down * map.width + left], levels[down * map.width + right], u - left);
      const share = (map.low + step * mix(above, below, v - top) - from) / (to - from);
      if (share <= 0) continue;
      colour(image.data, at, Math.min(share, 1));
    }
  }
  context.putImageData(image, 0, 0);
}

function mix(a, b, share) {
  return a + (b - a) * share;
}

function colour(data, at, share) {
  const place = share * (RAMP.length - 1);
  const low = Math.min(Math.floor(place), RAMP.length - 2);
  for (let channel = 0; channel < 3; channel++) {
    data[at + channel] = mix(RAMP[low][channel], RAMP[low + 1][channel], place - low);
  }
  data[at + 3] = 255 * Math.min(0.62, 0.1 + 0.6 * Math.sqrt(share));
}
