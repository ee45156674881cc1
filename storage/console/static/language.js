/* What the pages say, in the language that the page is in: English text is the key, words/<language>.json the rest. */

const language = document.documentElement.lang;
const words = language === "en" ? {} : await (await fetch(new URL(`words/${language}.json`, import.meta.url))).json();

/* Return a text with its {placeholders} filled. The text must be a literal: a test looks for its Korean. */
export function say(english, values = {}) {
  return (words[english] ?? english).replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
}
