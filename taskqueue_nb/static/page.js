// @ts-check
/**
 * A page without a kernel: the live view of what was saved, in which one looks and nothing acts.
 *
 * @typedef {import("./types.js").Details} Details
 * @typedef {import("./types.js").Link} Link
 * @typedef {import("./types.js").Model} Model
 * @typedef {import("./types.js").Parts} Parts
 * @typedef {import("./types.js").Saved} Saved
 * @typedef {import("./types.js").Traits} Traits
 */
import { panel } from "./details.js";
import { button, make } from "./elements.js";
import { render } from "./graph.js";
import { history, timeline } from "./record.js";

const HITS = 12;

/** How well a name matches what was typed: the smaller, the better; null if it does not. @param {string} wanted @param {string} name */
export function rank(wanted, name) {
  const at = name.indexOf(wanted);
  if (at === 0) return name === wanted ? 0 : 1;
  if (at > 0) return /[\p{L}\p{N}]/u.test(name[at - 1]) ? 3 : 2;
  let from = 0;
  for (const character of wanted.replace(/\s/g, "")) {
    from = name.indexOf(character, from) + 1;
    if (!from) return null;
  }
  return 4;
}

/**
 * The tasks whose names match a text, best first.
 *
 * @param {string} text
 * @param {Saved} saved
 */
export function sought(text, { names, letters }) {
  const wanted = text.trim().toLowerCase();
  /** @type {{i: number, rank: number}[]} */
  const found = [];
  names.forEach((name, i) => {
    const how = wanted ? rank(wanted, name.toLowerCase()) : null;
    if (how !== null) found.push({ i, rank: how });
  });
  found.sort((a, b) => a.rank - b.rank || names[a.i].length - names[b.i].length || a.i - b.i);
  /** @type {Link[]} */
  const hits = found.slice(0, HITS).map(({ i }) => [String(i), names[i], letters[i]]);
  return { text, hits, total: found.length };
}

/**
 * What is known of a task or a group.
 *
 * @param {string} at
 * @param {Saved} saved
 * @returns {Details}
 */
export function told(at, { details, values, names, letters, rest }) {
  const i = Number(at);
  const known = details[at] ?? { at, label: names[i] ?? "", letter: letters[i] ?? "", why: rest };
  const whole = Object.entries(known).map(([key, value]) => {
    const elsewhere = typeof value === "object" && value !== null && "$" in value;
    return [key, elsewhere ? values[/** @type {{$: number}} */ (value).$] : value];
  });
  return Object.fromEntries(whole);
}

/** @param {string} base64 */
function bytes(base64) {
  const text = atob(base64);
  return new DataView(Uint8Array.from(text, (character) => character.charCodeAt(0)).buffer);
}

/**
 * A model whose kernel is what was saved: it answers looks, and nothing else.
 *
 * @param {Saved} saved
 * @returns {Model}
 */
export function recorded(saved) {
  /** @type {Traits} */
  const traits = saved.traits;
  /** @type {Map<string, Set<(...told: any[]) => void>>} */
  const listeners = new Map();
  let replayed = false;
  /** @param {string} event @param {unknown[]} told */
  function fire(event, ...told) {
    for (const does of listeners.get(event) ?? []) does(...told);
  }
  /** @template {keyof Traits} K @param {K} key @param {Traits[K]} value */
  function put(key, value) {
    traits[key] = value;
    fire(`change:${key}`);
  }
  /** Tell what has happened: all of it when somebody first asks, and names. @param {unknown} from @param {unknown} names */
  function tell(from, names) {
    if (from === 0 && !replayed) {
      replayed = true;
      for (const [message, buffers] of saved.record) fire("msg:custom", message, buffers.map(bytes));
      names = saved.names.keys();
    }
    if (!names) return;
    const known = [.../** @type {Iterable<number>} */ (names)].filter((i) => i in saved.names);
    fire("msg:custom", { part: "record", names: Object.fromEntries(known.map((i) => [i, saved.names[i]])) }, []);
  }
  return {
    get: (key) => traits[key],
    on(event, does) {
      listeners.set(event, (listeners.get(event) ?? new Set()).add(does));
    },
    off(event, does) {
      listeners.get(event)?.delete(does);
    },
    send({ verb, at, value, from, names }) {
      if (verb === "look") put("details", at ? told(String(at), saved) : {});
      else if (verb === "find") put("finds", sought(String(value), saved));
      else if (verb === "record" && from !== -1) queueMicrotask(() => tell(from, names));
    },
  };
}

/** A button for the other theme; the first one is what the reader's system has. */
function themes() {
  const system = window.matchMedia?.("(prefers-color-scheme: dark)");
  let dark = Boolean(system?.matches);
  const made = button("", () => set(!dark, true), "tq-theme");
  /** @param {boolean} yes @param {boolean} chosen */
  function set(yes, chosen) {
    dark = yes;
    made.label.textContent = dark ? "Light" : "Dark";
    made.element.title = `Show this page in ${dark ? "light" : "dark"} colours`;
    if (chosen) document.documentElement.dataset.theme = dark ? "dark" : "light";
  }
  set(dark, false);
  system?.addEventListener("change", () => set(system.matches, false));
  return made.element;
}

/** Everything that the dock and the side show. */
export const ready = /** @type {Parts} */ (
  /** @type {unknown} */ ({ details: { panel }, record: { history, timeline } })
);

/** Put the view in the place of the still picture, which stays for paper. */
export function show() {
  const holder = document.getElementById("tq-saved");
  if (!holder) return;
  /** @type {Saved} */
  const saved = JSON.parse(holder.textContent ?? "");
  const el = make("div", `tq-record${saved.record.length ? "" : " tq-unrecorded"}`);
  document.getElementById("tq-still")?.before(el);
  const end = render({ model: recorded(saved), el }, ready);
  try {
    document.getElementById("tq-tools")?.append(make("span", "tq", themes()));
    document.documentElement.classList.add("tq-shown");
  } catch (error) {
    end();
    throw error;
  }
}

show();
