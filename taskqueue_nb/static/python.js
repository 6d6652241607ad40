// @ts-check
/**
 * Python text: its tokens for the eye, and what a key changes in it.
 *
 * @typedef {"comment" | "string" | "number" | "keyword" | "builtin" | "name" | "decorator" | ""} Kind
 * @typedef {[kind: Kind, text: string]} Token
 * @typedef {{from: number, to: number, insert: string, select: [number, number]}} Change
 */

const KEYWORDS = new Set(
  (
    "and as assert async await break class continue def del elif else except finally for from global if import in is " +
    "lambda nonlocal not or pass raise return try while with yield True False None"
  ).split(" "),
);
const BUILTINS = new Set(
  (
    "abs all any bool bytes callable dict dir divmod enumerate filter float format frozenset getattr hasattr hash id " +
    "input int isinstance issubclass iter len list map max min next object open pow print range repr reversed round " +
    "self set setattr slice sorted staticmethod classmethod property str sum super tuple type vars zip " +
    "Exception ValueError TypeError KeyError IndexError RuntimeError StopIteration"
  ).split(" "),
);
const TOKEN = new RegExp(
  [
    /(?<comment>#[^\n]*)/u,
    /(?<string>[rbfu]{0,2}(?:"""(?:\\[^]|(?!""")[^\\])*(?:"""|$)|'''(?:\\[^]|(?!''')[^\\])*(?:'''|$)|"(?:\\[^]|[^"\\\n])*"?|'(?:\\[^]|[^'\\\n])*'?))/u,
    /(?<number>(?:0[xob][\da-f_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:e[+-]?\d+)?j?))/u,
    /(?<word>[\p{L}_][\p{L}\p{N}_]*)/u,
    /(?<decorator>(?<=^[ \t]*)@[ \t]*[\p{L}_][\p{L}\p{N}_.]*)/u,
    /(?<space>\s+)/u,
    /(?<other>[^])/u,
  ]
    .map(({ source }) => source)
    .join("|"),
  "gimu",
);

/** The tokens of a text; joined, they are the text. @param {string} text @returns {Token[]} */
export function tokens(text) {
  /** @type {Token[]} */
  const found = [];
  let before = "";
  for (const { 0: whole, groups = {} } of text.matchAll(TOKEN)) {
    /** @type {Kind} */
    let kind = "";
    if (groups.word) {
      if (KEYWORDS.has(whole)) kind = "keyword";
      else if (before === "def" || before === "class") kind = "name";
      else if (BUILTINS.has(whole)) kind = "builtin";
    } else {
      for (const each of /** @type {Kind[]} */ (["comment", "string", "number", "decorator"])) if (groups[each]) kind = each;
    }
    if (!groups.space) before = whole;
    const last = found.at(-1);
    if (last && last[0] === kind && !kind) last[1] += whole;
    else found.push([kind, whole]);
  }
  return found;
}

/** The same by lines. @param {string} text @returns {Token[][]} */
export function tokenLines(text) {
  /** @type {Token[][]} */
  const lines = [[]];
  for (const [kind, whole] of tokens(text)) {
    whole.split("\n").forEach((part, i) => {
      if (i) lines.push([]);
      if (part) lines[lines.length - 1].push([kind, part]);
    });
  }
  return lines;
}

/** The kind of the token that a place is inside of. @param {string} text @param {number} at @returns {Kind} */
function kindAt(text, at) {
  let end = 0;
  for (const [kind, whole] of tokens(text)) {
    const start = end;
    end += whole.length;
    if (at <= start) return "";
    if (at < end || (at === end && kind === "comment")) return kind;
    // a string that is not closed goes on
    if (at === end && kind === "string" && !/^[rbfu]*(?:("""|''')[^]*\1|(["'])[^]*\2)$/i.test(whole)) return kind;
  }
  return "";
}

const PAIRS = new Map([["(", ")"], ["[", "]"], ["{", "}"], ['"', '"'], ["'", "'"]]);
const CLOSERS = new Set([...PAIRS.values()]);

/**
 * What Tab or Enter adds to a source at a place: spaces to the next stop; a line with the indent of this one.
 *
 * @param {string} text
 * @param {number} at
 * @param {string} key
 * @returns {string}
 */
export function indent(text, at, key) {
  const line = text.slice(text.lastIndexOf("\n", at - 1) + 1, at);
  if (key === "Tab") return " ".repeat(4 - (line.length % 4));
  return `\n${/^\s*/.exec(line)?.[0] ?? ""}${/:\s*(?:#.*)?$/.test(line) || /[([{]\s*$/.test(line) ? "    " : ""}`;
}

/** Put something in place of a selection, and the caret behind it. @param {number} from @param {number} to @param {string} insert @param {number} [back] @returns {Change} */
function put(from, to, insert, back = 0) {
  const at = from + insert.length - back;
  return { from, to, insert, select: [at, at] };
}

/** @param {string} text @param {string} one */
const count = (text, one) => text.split(one).length - 1;

/**
 * What a character changes besides standing where it was typed; null for nothing.
 *
 * @param {string} text
 * @param {number} from
 * @param {number} to
 * @param {string} key
 * @returns {Change | null}
 */
function characterTyped(text, from, to, key) {
  const closer = PAIRS.get(key);
  const [before, next] = [text[from - 1] ?? "", text[to] ?? ""];
  if (from !== to) {
    if (!closer) return null;
    const inside = text.slice(from, to);
    return { from, to, insert: key + inside + closer, select: [from + 1, to + 1] };
  }
  const isQuote = key === closer;
  if (CLOSERS.has(key) && next === key) {
    const opener = [...PAIRS].find(([, each]) => each === key)?.[0] ?? key;
    const isOpen = isQuote ? kindAt(text, from) === "string" && before !== "\\" : count(text, opener) <= count(text, key);
    if (isOpen) return { from, to: from + 1, insert: key, select: [from + 1, from + 1] };
  }
  if (!closer || /[\w"'([{]/.test(next)) return null;
  const kind = kindAt(text, from);
  if (kind === "string" || kind === "comment") return null;
  if (isQuote && (before === key || (/\w/.test(before) && !/(?:^|\W)[rbfu]{1,2}$/i.test(text.slice(0, from))))) return null;
  return put(from, to, key + closer, 1);
}

/** The whole lines that a selection touches. @param {string} text @param {number} from @param {number} to @returns {[number, number]} */
function wholeLines(text, from, to) {
  const last = to > from && text[to - 1] === "\n" ? to - 1 : to; // a line that is only begun is none of them
  const end = text.indexOf("\n", last);
  return [text.lastIndexOf("\n", from - 1) + 1, end < 0 ? text.length : end];
}

/** @param {string} text @param {number} from @param {number} to @param {(lines: string[]) => string[]} change @returns {Change} */
function linesChanged(text, from, to, change) {
  const [start, end] = wholeLines(text, from, to);
  const insert = change(text.slice(start, end).split("\n")).join("\n");
  if (from !== to) return { from: start, to: end, insert, select: [start, start + insert.length] };
  const at = Math.max(start, from + insert.length - (end - start));
  return { from: start, to: end, insert, select: [at, at] };
}

/** Comment lines out, or in again if all of them are out. @param {string[]} lines */
function commented(lines) {
  const full = lines.filter((line) => line.trim());
  if (full.length && full.every((line) => /^\s*#/.test(line))) return lines.map((line) => line.replace(/^(\s*)# ?/, "$1"));
  const margin = Math.min(...full.map((line) => /^\s*/.exec(line)?.[0].length ?? 0));
  return lines.map((line) => (line.trim() || !full.length ? `${line.slice(0, margin)}# ${line.slice(margin)}` : line));
}

/**
 * What a key changes in a text; null if it is for the browser.
 *
 * @param {string} text
 * @param {number} from
 * @param {number} to
 * @param {{key: string, shift?: boolean, command?: boolean}} pressed
 * @returns {Change | null}
 */
export function changeOf(text, from, to, { key, shift = false, command = false }) {
  if (command) return key === "/" ? linesChanged(text, from, to, commented) : null;
  if (key === "Tab") {
    if (shift) return linesChanged(text, from, to, (lines) => lines.map((line) => line.replace(/^ {1,4}|^\t/, "")));
    const isMany = text.slice(from, to).includes("\n");
    if (isMany) return linesChanged(text, from, to, (lines) => lines.map((line) => (line ? `    ${line}` : line)));
    return put(from, to, indent(text, from, key));
  }
  if (key === "Enter") {
    const added = indent(text, from, key);
    const isBetween = from === to && /[([{]/.test(text[from - 1] ?? "") && PAIRS.get(text[from - 1]) === text[to];
    if (!isBetween) return put(from, to, added);
    const outer = added.slice(0, -4);
    return put(from, to, added + outer, outer.length);
  }
  if (key === "Backspace" && from === to) {
    const closer = PAIRS.get(text[from - 1] ?? "");
    if (closer && closer === text[from] && text[from - 2] !== "\\") return put(from - 1, from + 1, "");
    const line = text.slice(text.lastIndexOf("\n", from - 1) + 1, from);
    if (line && !line.trim() && line.length % 4 === 0 && line.endsWith("    ")) return put(from - 4, from, "");
    return null;
  }
  return key.length === 1 ? characterTyped(text, from, to, key) : null;
}
