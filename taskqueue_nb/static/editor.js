// @ts-check
/** A field for Python: colours under its text, numbers beside it, and keys that know the language. */
import { make, typed } from "./elements.js";
import { changeOf, tokenLines } from "./python.js";

const MOST_ROWS = 18;

/**
 * @param {{text: string, key: string, label: string, readOnly: boolean, changed: () => void, submit: () => void}} options
 */
export function editor({ text, key, label, readOnly, changed, submit }) {
  const field = typed(make("textarea", "tq-input tq-source"));
  const under = make("code", "tq-coloured");
  const numbers = make("div", "tq-numbers");
  const behind = make("pre", "tq-behind", under);
  const gutter = make("div", "tq-gutter", numbers);
  for (const hidden of [behind, gutter]) hidden.setAttribute("aria-hidden", "true");
  const element = make("div", "tq-editor", gutter, make("div", "tq-page", behind, field));
  field.value = text;
  field.readOnly = readOnly;
  field.wrap = "off";
  field.dataset.key = key;
  field.spellcheck = false;
  field.autocomplete = "off";
  field.setAttribute("autocapitalize", "off");
  field.setAttribute("aria-label", label);
  field.setAttribute(
    "aria-description",
    "While you edit, Tab indents, and Shift and Tab take selected lines back. To leave: Escape, then Tab.",
  );

  /** @type {string[]} What each line shows. */
  const drawn = [];
  let failing = 0;
  let wrong = 0;
  let rows = 0;

  /** Draw the lines that have changed. */
  function draw() {
    const lines = tokenLines(field.value);
    lines.forEach((line, i) => {
      const state = i + 1 === wrong ? "tq-wrong" : i + 1 === failing ? "tq-failing" : "";
      const shows = `${state}\n${line.map(([kind, part]) => `${kind}\t${part}`).join("\n")}`;
      if (drawn[i] === shows) return;
      drawn[i] = shows;
      const parts = line.map(([kind, part]) => (kind ? make("span", `tq-py-${kind}`, part) : part));
      const row = make("span", `tq-behind-row ${state}`.trim(), ...parts, "\n");
      const number = make("span", state, `${state === "tq-wrong" ? "! " : state ? "✗ " : ""}${i + 1}`);
      for (const [holder, made] of /** @type {[Element, Element][]} */ ([[under, row], [numbers, number]])) {
        if (holder.children[i]) holder.children[i].replaceWith(made);
        else holder.append(made);
      }
    });
    drawn.length = lines.length;
    for (const holder of [under, numbers]) while (holder.children.length > lines.length) holder.lastElementChild?.remove();
    rows = Math.max(rows, Math.min(MOST_ROWS, lines.length + 1)); // it grows, and does not jump back
    field.rows = rows;
    element.style.setProperty("--tq-digits", String(String(lines.length).length));
  }

  function scroll() {
    under.style.transform = `translate(${-field.scrollLeft}px, ${-field.scrollTop}px)`;
    numbers.style.transform = `translateY(${-field.scrollTop}px)`;
  }

  function typedIn() {
    wrong = 0; // it said so of another text
    changed();
    draw();
    scroll();
  }

  let leaving = true; // who comes by Tab and touches nothing goes on by Tab
  field.addEventListener("blur", () => (leaving = true));
  field.addEventListener("pointerdown", () => (leaving = false));
  field.addEventListener("input", typedIn);
  field.addEventListener("scroll", scroll);
  field.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const { key: pressed, shiftKey: shift } = event;
    const command = (event.ctrlKey && !event.altKey) || event.metaKey; // Ctrl and Alt together write characters
    if (pressed === "Escape" && leaving) return; // the second one closes the details
    event.stopPropagation();
    if (pressed !== "Tab" && pressed !== "Shift") leaving = pressed === "Escape";
    if (pressed === "Enter" && command) {
      event.preventDefault();
      submit();
      return;
    }
    if (pressed === "Escape") event.preventDefault();
    if (readOnly) return;
    const { selectionStart: from, selectionEnd: to } = field;
    if (pressed === "Tab" && (leaving || (shift && from === to))) return;
    const change = changeOf(field.value, from, to, { key: pressed, shift, command });
    if (!change) return;
    event.preventDefault();
    apply(change);
  });

  /** Change the text so that the browser can undo it: the deprecated way is the only one. @param {import("./python.js").Change} change */
  function apply({ from, to, insert, select }) {
    const before = field.value;
    if (before.slice(from, to) !== insert) {
      field.setSelectionRange(from, to);
      const done = insert ? document.execCommand?.("insertText", false, insert) : document.execCommand?.("delete");
      if (!done) {
        field.setRangeText(insert, from, to, "end");
        typedIn();
      }
    }
    field.setSelectionRange(...select);
  }

  draw();
  return {
    element,
    field,
    /** Mark the line at which the last attempt failed; 0 for none. @param {number} line */
    fail(line) {
      if (line === failing) return;
      failing = line;
      draw();
    },
    /** Go to a line that is wrong. @param {number} line */
    blame(line) {
      wrong = line;
      draw();
      const lines = field.value.split("\n");
      const start = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0);
      field.focus();
      field.setSelectionRange(start, start + (lines[line - 1]?.length ?? 0));
    },
  };
}
