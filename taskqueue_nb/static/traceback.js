// @ts-check
/**
 * A traceback: what was raised, the frames of the notebook, and those of libraries folded away.
 *
 * @typedef {import("./types.js").Frame} Frame
 * @typedef {import("./types.js").Raised} Raised
 */
import { make, typed } from "./elements.js";

/**
 * Frames in a row that are of libraries, or left out, together; each of the user's own by itself.
 *
 * @param {Frame[]} frames
 * @returns {Frame[][]}
 */
export function runs(frames) {
  /** @type {Frame[][]} */
  const found = [];
  for (const frame of frames) {
    const last = found.at(-1);
    if (last && isForeign(last[0]) && isForeign(frame)) last.push(frame);
    else found.push([frame]);
  }
  return found;
}

/** @param {Frame} frame */
const isForeign = (frame) => frame.left !== undefined || frame.package !== "";

/** "3 frames in numpy". @param {Frame[]} frames @returns {string} */
export function foldedInto(frames) {
  const count = frames.reduce((sum, frame) => sum + (frame.left ?? 1), 0);
  const packages = [...new Set(frames.flatMap((frame) => frame.package || []))];
  const named = packages.length > 3 ? `${packages.slice(0, 3).join(", ")}, …` : packages.join(", ");
  const noun = count === 1 ? "frame" : "frames";
  return named ? `${count} ${noun} in ${named}` : `${count} more ${noun}`;
}

/** A line of code, of which a part may be what failed. @param {string} line @param {[number, number] | null} part */
function coded(line, part) {
  if (!part) return [line || " "];
  // the kernel counts characters, and JavaScript halves of some of them
  const characters = [...line];
  const texts = [characters.slice(0, part[0]), characters.slice(...part), characters.slice(part[1])];
  const [before, failed, after] = texts.map((text) => text.join(""));
  return [before, make("u", "tq-culprit", failed), after];
}

/** @param {Frame} frame @returns {HTMLElement} */
function framed(frame) {
  if (frame.left !== undefined) return make("div", "tq-where", foldedInto([frame]));
  const place = make("span", "tq-stands", `${frame.file}, line ${frame.line}`);
  place.title = frame.path;
  const where = make("div", "tq-where", make("code", "", frame.name), " ", place);
  const element = make("div", frame.package ? "tq-frame" : "tq-frame tq-own", where);
  if (!frame.code.length) return element;
  const code = typed(make("pre", "tq-code"));
  code.tabIndex = 0;
  code.setAttribute("aria-label", `${frame.file}, line ${frame.line}, in ${frame.name}`);
  frame.code.forEach((line, i) => {
    const number = frame.first + i;
    const failing = number === frame.line;
    const sign = make("span", "tq-mark", failing ? "►" : " ");
    sign.setAttribute("aria-hidden", "true");
    const at = make("span", "tq-number-of", String(number).padStart(String(frame.first + frame.code.length - 1).length));
    const text = make("span", "tq-text", ...coded(line, failing ? frame.part : null));
    const row = make("span", failing ? "tq-row-of tq-failing" : "tq-row-of", sign, at, text, "\n");
    if (failing) row.setAttribute("aria-current", "true");
    code.append(row);
  });
  element.append(code);
  return element;
}

/**
 * What was raised first, then how it came to that.
 *
 * @param {Raised[]} errors
 * @returns {HTMLElement[]}
 */
export function traced(errors) {
  return errors.map(({ says, lead, depth, notes, frames }, place) => {
    const element = make("div", "tq-raised");
    element.dataset.depth = String(depth);
    if (lead) element.append(make("div", "tq-lead", lead));
    const all = runs(frames);
    const noneOwn = all.every(([frame]) => isForeign(frame));
    all.forEach((run, i) => {
      if (!isForeign(run[0])) {
        element.append(framed(run[0]));
        return;
      }
      const inside = make("div", "tq-frames", ...run.map(framed));
      const folded = make("details", "tq-folded", typed(make("summary", "", foldedInto(run))), inside);
      folded.open = noneOwn && place === 0 && i === all.length - 1;
      element.append(folded);
    });
    const words = make("div", "tq-words", says);
    element.append(words, ...notes.map((note) => make("div", "tq-words tq-noted", note)));
    return element;
  });
}
