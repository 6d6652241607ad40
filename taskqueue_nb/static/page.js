// @ts-check
/**
 * A page without a kernel: the live view of what was saved, in which one looks and nothing acts.
 *
 * @typedef {import("./types.js").Details} Details
 * @typedef {import("./types.js").Link} Link
 * @typedef {import("./types.js").Model} Model
 * @typedef {import("./types.js").Parts} Parts
 * @typedef {import("./types.js").Row} Row
 * @typedef {import("./types.js").Saved} Saved
 * @typedef {import("./types.js").Table} Table
 * @typedef {import("./types.js").Traits} Traits
 */
import { panel } from "./details.js";
import { button, make } from "./elements.js";
import { render } from "./graph.js";
import { history, timeline } from "./record.js";
import { table } from "./table.js";

const HITS = 12;
const PAGE_ROWS = 50; // rows of the table

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
export function sought(text, { rows }) {
  const wanted = text.trim().toLowerCase();
  /** @type {{i: number, rank: number}[]} */
  const found = [];
  rows.forEach(([, name], i) => {
    const how = wanted ? rank(wanted, name.toLowerCase()) : null;
    if (how !== null) found.push({ i, rank: how });
  });
  found.sort((a, b) => a.rank - b.rank || rows[a.i][1].length - rows[b.i][1].length || a.i - b.i);
  const hits = found.slice(0, HITS).map(({ i }) => /** @type {Link} */ (rows[i].slice(0, 3)));
  return { text, hits, total: found.length };
}

/** By column, where its value stands in a row. @type {Record<string, number>} */
const PLACES = { order: 0, name: 1, state: 2, attempts: 3, started: 4, took: 5, error: 6, required: 7 };

/**
 * A page of the table: equal rows stay in the order of the queue, those without a value stand last.
 *
 * @param {{column: string, down: boolean, start: number, text: string, states: string}} order
 * @param {Saved} saved
 * @returns {Table}
 */
export function tabled({ column, down, start, text, states }, { rows, urgency }) {
  const wanted = text.trim().toLowerCase();
  const chosen = rows.filter(
    ([, name, letter]) =>
      (!states || states.includes(letter)) && (!wanted || rank(wanted, name.toLowerCase()) !== null),
  );
  /** @param {Row} row @returns {number | string | null} */
  const value = (row) => {
    const found = row[PLACES[column]];
    if (column === "order") return Number(found);
    if (column === "name") return String(found).toLowerCase();
    if (column === "state") return urgency.indexOf(found === "v" ? "f" : String(found));
    return found === "" ? null : found;
  };
  chosen.sort((a, b) => {
    const [one, other] = [value(a), value(b)];
    if (one === null || other === null) return Number(one === null) - Number(other === null);
    return (one < other ? -1 : Number(one > other)) * (down ? -1 : 1);
  });
  const from = Math.min(start, Math.floor(Math.max(0, chosen.length - 1) / PAGE_ROWS) * PAGE_ROWS);
  return { column, down, start: from, total: chosen.length, text, rows: chosen.slice(from, from + PAGE_ROWS) };
}

/**
 * What is known of a task or a group.
 *
 * @param {string} at
 * @param {Saved} saved
 * @returns {Details}
 */
export function told(at, { details, values, rows, rest }) {
  const [, label, letter] = rows[Number(at)] ?? [at, "", ""];
  const known = details[at] ?? { at, label, letter, why: rest };
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
      names = saved.rows.keys();
    }
    if (!names) return;
    const known = [.../** @type {Iterable<number>} */ (names)].filter((i) => i in saved.rows);
    fire("msg:custom", { part: "record", names: Object.fromEntries(known.map((i) => [i, saved.rows[i][1]])) }, []);
  }
  return {
    get: (key) => traits[key],
    on(event, does) {
      listeners.set(event, (listeners.get(event) ?? new Set()).add(does));
    },
    off(event, does) {
      listeners.get(event)?.delete(does);
    },
    send({ verb, at, value, from, names, down, states }) {
      if (verb === "look") put("details", at ? told(String(at), saved) : {});
      else if (verb === "find") put("finds", sought(String(value), saved));
      else if (verb === "table" && at) {
        const order = { column: String(at), down: down === true, start: Number(from), text: String(value), states: String(states) };
        put("table", tabled(order, saved));
      } else if (verb === "record" && from !== -1) queueMicrotask(() => tell(from, names));
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
  /** @type {unknown} */ ({ details: { panel }, record: { history, timeline }, table: { table } })
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
