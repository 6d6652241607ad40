// @ts-check
/**
 * Elements that every part of the page is made of.
 *
 * @typedef {import("./types.js").Look} Look
 */

export const SVG = "http://www.w3.org/2000/svg";
const PRAISE_FOR = 6000; // ms that a message about something done stays

/** A length of time for people. @param {number} seconds @returns {string} */
export function duration(seconds) {
  if (seconds < 0.0995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (seconds < 600) {
    const whole = Math.floor(Math.round(seconds) / 60);
    return `${whole} min ${Math.round(seconds) - whole * 60} s`;
  }
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {string} [className]
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** Keep the notebook's shortcuts away from it. @template {HTMLElement | SVGElement} E @param {E} element @returns {E} */
export function typed(element) {
  element.dataset.lmSuppressShortcuts = "true";
  return element;
}

/** @param {string} path @returns {SVGSVGElement} */
export function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  const shape = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 14 14");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "tq-icon");
  shape.setAttribute("d", path);
  svg.append(shape);
  return svg;
}

/**
 * A button that keeps the focus while it is off (a disabled one would lose it).
 *
 * @param {string} text
 * @param {() => void} act
 * @param {string} [className]
 */
export function button(text, act, className = "") {
  const element = typed(make("button", `tq-button ${className}`.trim()));
  const label = make("span", "", text);
  element.type = "button";
  element.append(label);
  element.addEventListener("click", () => {
    if (element.getAttribute("aria-disabled") !== "true") act();
  });
  return {
    element,
    label,
    /** @param {boolean} yes */
    enable(yes) {
      element.setAttribute("aria-disabled", String(!yes));
    },
  };
}

/** Say what an element is, and what it is called. @template {Element} E @param {E} element @param {string} role @param {string} [name] @returns {E} */
export function roled(element, role, name) {
  element.setAttribute("role", role);
  if (name) element.setAttribute("aria-label", name);
  return element;
}

/** Name an element that shows but a sign. @param {HTMLElement} element @param {string} name @param {string} [title] */
export function named(element, name, title = name) {
  element.setAttribute("aria-label", name);
  element.title = title;
  return element;
}

const COPY = Math.random().toString(36).slice(2, 8); // parts have copies of this module
let notes = 0;

/** A line that says what a button will do, also to who hears the button. @param {HTMLElement} element */
export function telling(element) {
  const note = make("small", "tq-says");
  note.id = `tq-says-${COPY}-${++notes}`;
  element.setAttribute("aria-describedby", note.id);
  return note;
}

/** The element that has the focus, as seen from another one: marimo shows each view in a shadow tree. @param {Element} from @returns {HTMLElement | null} */
export function focusedBy(from) {
  return /** @type {any} */ (from.getRootNode()).activeElement ?? null; // a tree that is in no page has none
}

/** A glyph and a word in the colours of a state. @param {Look | undefined} look @param {string} [text] */
export function badge(look, text) {
  const glyph = make("span", "tq-glyph", look?.glyph ?? "");
  glyph.setAttribute("aria-hidden", "true");
  const element = make("span", "tq-badge", glyph, make("span", "", text ?? look?.word ?? ""));
  dress(element, look);
  return element;
}

/** Give an element the colours of a state. @param {HTMLElement | SVGElement} element @param {Look} [look] */
export function dress(element, look) {
  element.dataset.state = look?.state.toLowerCase() ?? "";
  if (look?.victim) element.dataset.victim = "true";
  else delete element.dataset.victim;
}

/** A place for one message: good news politely, refusals at once. @param {string} className */
export function messages(className) {
  const status = roled(make("div", "tq-status"), "status");
  const alert = roled(make("div", "tq-alert"), "alert");
  const close = button("×", () => say("status", ""), "tq-close");
  const element = make("div", `tq-message ${className}`, status, alert, named(close.element, "Dismiss the message"));
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let waiting = false;

  /** @param {"status" | "alert"} kind @param {string} text @param {boolean} [stays] */
  function say(kind, text, stays = false) {
    clearTimeout(timer);
    waiting = false;
    status.textContent = kind === "status" ? text : "";
    alert.textContent = kind === "alert" ? text : "";
    element.dataset.kind = kind;
    element.hidden = !text;
    if (kind === "status" && text && !stays) timer = setTimeout(() => say("status", ""), PRAISE_FOR);
  }

  say("status", "");
  return {
    element,
    say,
    /** @param {boolean} late */
    wait(late) {
      if (late === waiting) return;
      say("status", late ? "Waiting for the running cell to hear this click…" : "", true);
      waiting = late;
    },
    dispose: () => clearTimeout(timer),
  };
}
