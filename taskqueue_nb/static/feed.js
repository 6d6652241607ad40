// @ts-check
/**
 * The rows of a record, as the kernel sends them. A page says from which one on it wants them, and that it
 * does no more; it asks again for those that were lost. All panels of a view share one feed.
 *
 * @typedef {import("./types.js").Context} Context
 * @typedef {import("./types.js").Model} Model
 * @typedef {{tasks: number, seconds: number, of: number, path: Uint32Array}} Critical
 */
import { makeStory } from "./story.js";

const RENEW = 30_000; // ms until the kernel is told again that the rows are wanted
const ASK_AGAIN = 2_000; // ms to wait for rows that are missing
const ASK_NAMES = 150; // ms in which names that are missing are collected
const MOST_NAMES = 500;

/** @type {WeakMap<Model, ReturnType<typeof makeFeed>>} */
const feeds = new WeakMap();

/** The rows of a model: the same for all panels of a view. @param {Context} context */
export function feedOf(context) {
  const known = feeds.get(context.model);
  if (known) return known;
  const made = makeFeed(context);
  feeds.set(context.model, made);
  return made;
}

/** @param {Context} context */
function makeFeed({ model, send }) {
  const story = makeStory();
  const view = Math.random().toString(36).slice(2) + Date.now().toString(36);
  /** @type {Set<() => void>} */
  const listeners = new Set();
  /** @type {Map<number, string>} */
  const names = new Map();
  /** @type {Set<number>} */
  const asked = new Set();
  /** @type {Set<number>} */
  const wanted = new Set();
  let workers = [""];
  let boxOf = new Uint32Array(0);
  /** @type {string[]} What the boxes of the drawing stand for. */
  let boxes = [];
  let urgency = "frqcaepd";
  let total = -1; // rows that the kernel has; not known yet
  let offset = -Infinity; // of the kernel's clock
  let saved = 0; // when a record was saved, whose clock stands still
  let structures = 0;
  let askedAt = 0;
  let lost = false;
  /** @type {Critical | null} */
  let critical = null;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  let renewing;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let naming;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let missing;

  /** @param {Record<string, unknown>} [more] */
  function ask(more = {}) {
    if (lost) return;
    askedAt = Date.now();
    send({ verb: "record", from: story.count, view, ...more });
  }

  /** @template {Float64Array | Uint32Array | Uint16Array | Uint8Array} A @param {new (bytes: ArrayBuffer) => A} Kind @param {DataView} data */
  const read = (Kind, data) =>
    new Kind(/** @type {ArrayBuffer} */ (data.buffer).slice(data.byteOffset, data.byteOffset + data.byteLength));

  /** @param {any} message @param {DataView[]} buffers */
  function rows(message, buffers) {
    total = message.total;
    offset = Math.max(offset, message.now - Date.now() / 1000);
    saved = message.now;
    if (message.workers) workers = message.workers;
    const skip = story.count - message.from; // rows that are here already
    clearTimeout(missing);
    if (skip < 0) {
      const wait = Math.max(0, askedAt + ASK_AGAIN - Date.now()); // some were lost
      missing = setTimeout(ask, wait);
    } else {
      if (skip < message.count) {
        story.add({
          when: read(Float64Array, buffers[0]).subarray(skip),
          task: read(Uint32Array, buffers[1]).subarray(skip),
          letter: read(Uint8Array, buffers[2]).subarray(skip),
          worker: read(Uint16Array, buffers[3]).subarray(skip),
        });
      }
      if (story.count < total) missing = setTimeout(ask, ASK_AGAIN);
    }
    story.assign(message.patch);
  }

  /** @param {any} message @param {DataView[]} buffers */
  function hear(message, buffers) {
    if (message?.part !== "record") return;
    if ("count" in message) rows(message, buffers);
    if ("boxes" in message) {
      boxes = message.boxes;
      urgency = message.urgency;
      boxOf = read(Uint32Array, buffers[0]);
      story.starts(read(Uint8Array, buffers[1]));
      structures++;
    }
    for (const [task, name] of Object.entries(message.names ?? {})) names.set(Number(task), name);
    if ("critical" in message) {
      critical = message.critical && { ...message.critical, path: read(Uint32Array, buffers[0]) };
    }
    for (const listener of listeners) listener();
  }

  function connection() {
    lost = true; // this model never lives again
    clearInterval(renewing);
  }

  return {
    story,
    get boxOf() {
      return boxOf;
    },
    /** How many boxes the drawing has that `boxOf` is of. */
    get boxes() {
      return boxes.length;
    },
    /** Whether that is the drawing which has these boxes. @param {{at: string}[]} others */
    isOf: (others) => others.length === boxes.length && others.every(({ at }, i) => at === boxes[i]),
    get urgency() {
      return urgency;
    },
    get critical() {
      return critical;
    },
    get total() {
      return total;
    },
    /** Changes with the drawing. */
    get structures() {
      return structures;
    },
    /** The kernel's time. */
    now: () => model.get("still") ? saved : Date.now() / 1000 + (offset === -Infinity ? 0 : offset),
    /** @param {number} worker */
    workerName: (worker) => workers[worker] ?? "",
    /** What a task is called; asks for its name if it is not known. @param {number} task @returns {string} */
    name(task) {
      const known = names.get(task);
      if (known !== undefined) return known;
      if (structures && !asked.has(task) && wanted.size < MOST_NAMES) wanted.add(task); // most come with the structure
      if (wanted.size && naming === undefined && listeners.size) {
        naming = setTimeout(() => {
          naming = undefined;
          for (const each of wanted) asked.add(each);
          if (listeners.size) ask({ names: [...wanted] });
          wanted.clear();
        }, ASK_NAMES);
      }
      return `task ${task}`;
    },
    /** Have the rows come from now on. @param {() => void} listener @returns {() => void} ends it */
    use(listener) {
      if (!listeners.size) {
        model.on("msg:custom", hear);
        model.on("comm_live_update", connection);
        ask();
        renewing = setInterval(ask, RENEW);
      }
      listeners.add(listener);
      return () => {
        if (!listeners.delete(listener) || listeners.size) return;
        for (const timer of [naming, missing]) clearTimeout(timer);
        clearInterval(renewing);
        naming = undefined;
        asked.clear();
        wanted.clear();
        model.off("msg:custom", hear);
        model.off("comm_live_update", connection);
        if (!lost) send({ verb: "record", from: -1, view });
      };
    },
  };
}

/** @typedef {ReturnType<typeof makeFeed>} Feed */

/** Which tasks are selected. @param {Context} context @param {Feed} feed @returns {(task: number) => boolean} */
export function isSelected(context, feed) {
  const at = context.selected();
  if (/^\d+$/.test(at)) return (task) => task === Number(at);
  const box = at ? context.boxes().findIndex((each) => each.at === at) : -1;
  return (task) => box >= 0 && feed.boxOf[task] === box;
}

export const calm = () => typeof matchMedia !== "undefined" && matchMedia("(prefers-reduced-motion: reduce)").matches;
