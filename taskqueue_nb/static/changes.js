// @ts-check
/** What was changed in a text, by lines. */
import { make } from "./elements.js";

const MOST_COMPARED = 1_000_000; // lines times lines that are compared one by one
const CONTEXT = 2; // lines around a change

/** @typedef {[sign: " " | "+" | "-", line: string, before: number, after: number]} Line and its number on each side, from 1 */

/**
 * How one text becomes another: the lines of both, in order.
 *
 * @param {string} before
 * @param {string} after
 * @returns {Line[]}
 */
export function compared(before, after) {
  const [old, now] = [before.split("\n"), after.split("\n")];
  let start = 0;
  while (start < old.length && start < now.length && old[start] === now[start]) start++;
  let end = 0;
  while (end < old.length - start && end < now.length - start && old.at(-1 - end) === now.at(-1 - end)) end++;
  const [left, right] = [old.slice(start, old.length - end), now.slice(start, now.length - end)];
  /** @type {Line[]} */
  const found = old.slice(0, start).map((line, i) => [" ", line, i + 1, i + 1]);
  let [i, j] = [0, 0];
  const remove = () => found.push(["-", left[i], start + ++i, start + j]);
  const add = () => found.push(["+", right[j], start + i, start + ++j]);
  if (left.length * right.length <= MOST_COMPARED) {
    const longest = common(left, right);
    while (i < left.length && j < right.length) {
      if (left[i] === right[j]) found.push([" ", left[i], start + ++i, start + ++j]);
      else if (longest[i + 1][j] >= longest[i][j + 1]) remove();
      else add();
    }
  }
  while (i < left.length) remove();
  while (j < right.length) add();
  for (let k = end; k > 0; k--) found.push([" ", old[old.length - k], old.length - k + 1, now.length - k + 1]);
  return found;
}

/** How many lines two texts have in common from each place on. @param {string[]} left @param {string[]} right */
function common(left, right) {
  const longest = Array.from({ length: left.length + 1 }, () => new Uint32Array(right.length + 1));
  for (let i = left.length - 1; i >= 0; i--) {
    for (let j = right.length - 1; j >= 0; j--) {
      longest[i][j] = left[i] === right[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
    }
  }
  return longest;
}

/** Where a line of the old text stands in the new one; 0 if it was changed. @param {Line[]} lines @param {number} number */
export function movedTo(lines, number) {
  return lines.find(([sign, , before]) => sign === " " && before === number)?.[3] ?? 0;
}

/**
 * The changed lines with a few around them; nothing if the texts are the same.
 *
 * @param {Line[]} lines
 * @param {string} against what the old text is called
 * @returns {HTMLElement[]}
 */
export function changesShown(lines, against) {
  const changed = lines.flatMap(([sign], i) => (sign === " " ? [] : [i]));
  if (!changed.length) return [];
  const near = new Set(changed.flatMap((i) => Array.from({ length: 2 * CONTEXT + 1 }, (_, k) => i + k - CONTEXT)));
  const rows = make("pre", "tq-code tq-changes");
  let last = -1;
  lines.forEach(([sign, line], i) => {
    if (!near.has(i)) return;
    if (i > last + 1) rows.append(make("span", "tq-row-of tq-gap", "⋯\n"));
    last = i;
    const mark = make("span", "tq-mark", sign === "-" ? "−" : sign);
    const tag = sign === "+" ? "ins" : sign === "-" ? "del" : "span";
    rows.append(make("span", "tq-row-of", mark, make(tag, "tq-text", line || " "), "\n"));
    const row = /** @type {HTMLElement} */ (rows.lastElementChild);
    if (sign !== " ") row.dataset.sign = sign;
  });
  const count = (/** @type {string} */ which) => lines.filter(([sign]) => sign === which).length;
  const heading = make("div", "tq-type", `Changes against ${against}: +${count("+")} −${count("-")} lines`);
  return [heading, rows];
}
