// @ts-check
/** What is wrong in a field, said beside it. */
import { make, roled } from "./elements.js";

const VIEW = Math.random().toString(36).slice(2, 8); // parts have copies of this module
let refusals = 0;

/** Take back what was said of a field. @param {Element} field */
export function forgive(field) {
  const id = field.getAttribute("aria-errormessage");
  if (!id) return;
  field.removeAttribute("aria-invalid");
  field.removeAttribute("aria-errormessage");
  /** @type {any} */ (field.getRootNode()).querySelector(`#${id}`)?.remove();
}

/** Say beside a field what is wrong in it, and go there. @param {HTMLElement} field @param {Element} beside @param {string} sentence */
export function blame(field, beside, sentence) {
  forgive(field);
  const note = roled(make("div", "tq-alert tq-beside"), "alert");
  note.id = `tq-wrong-${VIEW}-${++refusals}`;
  beside.append(note);
  note.textContent = `✗ ${sentence}`;
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-errormessage", note.id);
  field.focus();
}
