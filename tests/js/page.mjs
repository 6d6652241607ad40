// @ts-check
/** A page and a model for the tests of the view: jsdom, and the kernel's side of the traits. */
import { JSDOM } from "jsdom";

/** @typedef {import("../../taskqueue_nb/static/types.js").Traits} Traits */
/** @typedef {import("../../taskqueue_nb/static/types.js").Details} Details */

const dom = new JSDOM("<!doctype html><body></body>", { pretendToBeVisual: true });
const globals = "document DOMParser Node HTMLElement HTMLTextAreaElement HTMLInputElement HTMLSelectElement MutationObserver getComputedStyle requestAnimationFrame cancelAnimationFrame";
for (const name of globals.split(" ")) {
  Reflect.set(globalThis, name, dom.window[name]);
}
Reflect.set(globalThis, "CSS", { escape: (/** @type {string} */ text) => text.replace(/["\\]/g, "\\$&") });
Reflect.set(globalThis, "window", dom.window);

export const { window } = dom;

export const LOOKS = [
  ["p", "PENDING", "pending", "○"],
  ["r", "RUNNING", "running", "►"],
  ["f", "FAILED", "failed", "✗"],
  ["d", "DONE", "done", "✓"],
  ["v", "FAILED", "failed", "✗", "victim"],
].map(([letter, state, word, glyph, victim]) => ({ letter, state, word, glyph, victim: victim === "victim" }));

/** The drawing of a chain, as the kernel lays it out. @param {string[]} labels @returns {string} */
export function drawn(labels) {
  const boxes = labels.map(
    (label, i) =>
      `<g id="t${i}" class="node"><title>t${i}</title><rect class="box" x="0" y="${i * 40}" width="80" height="30"/>` +
      `<text class="label">${label}</text><text class="glyph"></text><text class="word"></text></g>`,
  );
  const edges = labels.slice(1).map((_, i) => `<g id="e${i}-${i + 1}" class="edge"><path d="M0,0"/></g>`);
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 80 ${labels.length * 40}" width="80pt">` +
    `<g id="graph0" class="graph">${boxes.join("")}${edges.join("")}</g></svg>`
  );
}

/** @param {Partial<Traits>} [changes] @returns {Traits} */
export function traits(changes = {}) {
  const labels = ["load", "fit", "report"];
  return {
    svg: drawn(labels),
    boxes: labels.map((label, i) => ({ at: String(i), label, size: 1, of: "" })),
    states: "dfp",
    says: { 1: "failed: ValueError" },
    counts: { PENDING: 1, FAILED: 1, DONE: 1 },
    progress: { total: 3, done: 1, blocked: 1, causes: 1, running: false, held: false, left: null },
    details: {},
    mending: {
      undo: "",
      retry: { says: "2 will run", plan: "p0" },
      refresh: { says: "", plan: "" },
      causes: "1 cause blocks 1 task",
      at: ["1"],
    },
    answers: [],
    looks: LOOKS,
    heading: "penguins",
    key: "Task graph 1",
    note: "",
    selected: "",
    parts: {},
    lens: { around: "", seen: labels.length, total: labels.length, plain: true, turn: 0 },
    table: {},
    finds: { text: "", hits: [], total: 0 },
    ...changes,
  };
}

/** What the kernel tells of the failed task. @param {Partial<Details>} [changes] @returns {Details} */
export function failed(changes = {}) {
  return {
    at: "1",
    label: "fit",
    letter: "f",
    calls: "fit(table, degree)",
    error: "ValueError: no",
    traceback: "Traceback …",
    fields: [
      { key: "a0", name: "table", kind: "task", text: "", links: [["0", "load", "d"]] },
      { key: "kdegree", name: "degree", kind: "literal", text: "9", links: [] },
      { key: "kmodel", name: "model", kind: "kept", text: "Model <big>", links: [] },
    ],
    editable: true,
    cell: null,
    suppliable: true,
    supplies: "1 will run",
    source: "def fit(table, degree):\n    return degree",
    actions: [
      { verb: "retry", label: "Retry and continue", run: true, hint: "", says: "2 will run, 1 is reused", plan: "p1" },
      { verb: "retry", label: "Retry", run: false, hint: "", says: "next run: 2 will run", plan: "p2" },
      { verb: "repair", label: "Repair and rerun", run: true, hint: "", says: "2 will run", plan: "" },
    ],
    attempts: [{ number: 1, letter: "f", started: 0, took: 0.5, error: "ValueError: no" }],
    required: [["0", "load", "d"]],
    blocking: [["2", "report", "p"]],
    ...changes,
  };
}

/** A model whose kernel side is the test. @param {Partial<Traits>} [changes] */
export function makeModel(changes) {
  const state = traits(changes);
  /** @type {Map<string, Set<(...told: any[]) => void>>} */
  const listeners = new Map();
  /** @type {Record<string, unknown>[]} */
  const sent = [];
  const fire = (/** @type {string} */ event, /** @type {any[]} */ ...told) => listeners.get(event)?.forEach((does) => does(...told));
  return {
    sent,
    fire,
    /** Only the clicks: what has an id and wants an answer. */
    clicks: () => sent.filter((message) => message.verb !== "look"),
    listening: () => [...listeners.values()].reduce((sum, set) => sum + set.size, 0),
    /** @param {Partial<Traits>} news */
    put(news) {
      Object.assign(state, news);
      for (const name of Object.keys(news)) fire(`change:${name}`);
    },
    /** @template {keyof Traits} K @param {K} key @returns {Traits[K]} */
    get: (key) => state[key],
    /** @param {string} event @param {(...told: any[]) => void} does */
    on(event, does) {
      listeners.set(event, (listeners.get(event) ?? new Set()).add(does));
    },
    /** @param {string} event @param {(...told: any[]) => void} does */
    off(event, does) {
      listeners.get(event)?.delete(does);
    },
    /** @param {Record<string, unknown>} message */
    send(message) {
      sent.push(message);
    },
  };
}
