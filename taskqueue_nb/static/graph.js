// @ts-check
/**
 * The live view of a task graph. It draws what the kernel tells it and reports what was clicked.
 *
 * The top of this file is pure functions; below them each part of the view is a function that
 * makes its elements and returns how to update them; `render` wires the parts together.
 *
 * @typedef {import("./types.js").Action} Action
 * @typedef {import("./types.js").Answer} Answer
 * @typedef {import("./types.js").Details} Details
 * @typedef {import("./types.js").Field} Field
 * @typedef {import("./types.js").Foreseen} Foreseen
 * @typedef {import("./types.js").Link} Link
 * @typedef {import("./types.js").Look} Look
 * @typedef {import("./types.js").Mending} Mending
 * @typedef {import("./types.js").Model} Model
 * @typedef {import("./types.js").Place} Place
 * @typedef {import("./types.js").Progress} Progress
 * @typedef {import("./types.js").Rect} Rect
 * @typedef {import("./types.js").Size} Size
 * @typedef {import("./types.js").View} View
 */

const SVG = "http://www.w3.org/2000/svg";
const ELEMENTS = new Set(
  "svg g path polygon polyline ellipse circle rect line text tspan title".split(" "),
);
const ATTRIBUTES = new Set(
  (
    "id class d points x y x1 y1 x2 y2 cx cy r rx ry dx dy width height transform viewBox fill " +
    "stroke stroke-width stroke-dasharray stroke-linecap stroke-linejoin fill-opacity opacity " +
    "stroke-opacity text-anchor dominant-baseline font-family font-size font-weight font-style " +
    "textLength lengthAdjust"
  ).split(" "),
);
const WAITING_AFTER = 1000; // ms without an answer until the view says what it waits for
const SPEAK_EVERY = 2000; // ms between two sentences for a screen reader
const PRAISE_FOR = 6000; // ms that a message about something done stays
const LARGEST = 1.25; // px per point at most when fitting: small graphs do not blow up
const SHORTEST = 280; // px of the pane
const TALLEST = 480;
const UNDER = 30; // px at the bottom of the pane that the zoom buttons stand in
const ZOOM = { least: 0.05, most: 8 };
const STEP = 1.25;

// ---------------------------------------------------------------- pure functions

/**
 * Rebuild a drawing from the elements and attributes that a picture needs, and nothing else.
 *
 * @param {string} text
 * @returns {SVGSVGElement}
 */
export function safeSvg(text) {
  const parsed = new DOMParser().parseFromString(text, "image/svg+xml");
  const root = parsed.documentElement;
  if (root.localName !== "svg" || parsed.querySelector("parsererror")) {
    throw new Error("the drawing is not an SVG");
  }
  return /** @type {SVGSVGElement} */ (copied(root));
}

/** @param {Element} from @returns {Element} */
function copied(from) {
  const to = document.createElementNS(SVG, from.localName);
  for (const { name, value } of from.attributes) {
    if (ATTRIBUTES.has(name) && !/url\(|script:/i.test(value)) to.setAttribute(name, value);
  }
  for (const child of from.childNodes) {
    if (child.nodeType === 3) to.append(child.textContent ?? "");
    else if (child.nodeType === 1) {
      const element = /** @type {Element} */ (child);
      if (ELEMENTS.has(element.localName)) to.append(copied(element));
    }
  }
  return to;
}

/**
 * The boxes whose letter changed: all of them when the number of boxes did.
 *
 * @param {string} before
 * @param {string} after
 * @returns {number[]}
 */
export function changed(before, after) {
  const all = before.length !== after.length;
  const found = [];
  for (let i = 0; i < after.length; i++) if (all || before[i] !== after[i]) found.push(i);
  return found;
}

/**
 * The view that shows all of `world` in the middle of `pane`.
 *
 * @param {Rect} world
 * @param {Size} pane
 * @param {number} [margin] px
 * @returns {View}
 */
export function fitted(world, pane, margin = 14) {
  const wide = (pane.width - 2 * margin) / (world.width || 1);
  const high = (pane.height - 2 * margin) / (world.height || 1);
  const k = Math.max(ZOOM.least, Math.min(LARGEST, wide, high));
  return {
    k,
    x: (pane.width - world.width * k) / 2 - world.x * k,
    y: (pane.height - world.height * k) / 2 - world.y * k,
  };
}

/**
 * The view zoomed by `factor` with the point (x, y) of the pane held still.
 *
 * @param {View} view
 * @param {number} factor
 * @param {{x: number, y: number}} at
 * @returns {View}
 */
export function zoomed(view, factor, at) {
  const k = Math.min(ZOOM.most, Math.max(ZOOM.least, view.k * factor));
  const ratio = k / view.k;
  return { k, x: at.x - (at.x - view.x) * ratio, y: at.y - (at.y - view.y) * ratio };
}

/**
 * The view moved by as little as brings `box` (px in the pane) into the pane.
 *
 * @param {View} view
 * @param {Rect} box
 * @param {Size} pane
 * @param {number} [margin] px
 * @returns {View}
 */
export function revealed(view, box, pane, margin = 18) {
  /** @param {number} start @param {number} length @param {number} room */
  const shift = (start, length, room) => {
    if (start + length > room - margin) start -= Math.max(0, start + length - (room - margin));
    return Math.max(start, margin);
  };
  return {
    k: view.k,
    x: view.x + shift(box.x, box.width, pane.width) - box.x,
    y: view.y + shift(box.y, box.height, pane.height) - box.y,
  };
}

/**
 * The nearest point in the direction of an arrow key; `from` itself if there is none.
 *
 * @param {({x: number, y: number} | undefined)[]} points
 * @param {number} from
 * @param {string} key
 * @returns {number}
 */
export function neighbour(points, from, key) {
  const here = points[from];
  if (!here) return from;
  const along = key === "ArrowLeft" || key === "ArrowRight" ? "x" : "y";
  const across = along === "x" ? "y" : "x";
  const sign = key === "ArrowRight" || key === "ArrowDown" ? 1 : -1;
  let best = from;
  let least = Infinity;
  points.forEach((point, i) => {
    if (!point || i === from) return;
    const ahead = (point[along] - here[along]) * sign;
    const aside = Math.abs(point[across] - here[across]);
    if (ahead < 1) return;
    const cost = ahead + 2 * aside;
    if (cost < least) [best, least] = [i, cost];
  });
  return best;
}

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

/** The time left, coarse enough not to flicker. @param {number} seconds @returns {string} */
export function timeLeft(seconds) {
  if (seconds < 1.5) return "about 1 s left";
  if (seconds < 10) return `about ${Math.round(seconds)} s left`;
  if (seconds < 55) return `about ${Math.ceil(seconds / 5) * 5} s left`;
  if (seconds < 3570) return `about ${Math.max(1, Math.round(seconds / 60))} min left`;
  return `about ${(seconds / 3600).toFixed(1)} h left`;
}

/** Where the run stands, in words. @param {Progress} progress @returns {string} */
export function standing(progress) {
  const { total, done, running, held, left } = progress;
  const parts = [`${done} of ${total} done`];
  if (held) parts.push("held");
  else if (running) parts.push(left === null ? "running" : timeLeft(left));
  return parts.join(" · ");
}

/**
 * The counts in words, for a screen reader.
 *
 * @param {Record<string, number>} counts
 * @param {Look[]} looks
 * @returns {string}
 */
export function counted(counts, looks) {
  return looks
    .filter((look) => counts[look.state] && !look.victim)
    .map((look) => `${counts[look.state]} ${look.word}`)
    .join(", ");
}

/**
 * What the user changed: the key of each field whose text is not what it was.
 *
 * @param {Field[]} fields
 * @param {Map<string, string>} texts
 * @returns {Record<string, string>}
 */
export function edits(fields, texts) {
  /** @type {Record<string, string>} */
  const found = {};
  for (const field of fields) {
    const text = texts.get(field.key);
    if (text === undefined || field.kind === "task") continue;
    const before = field.kind === "kept" ? "" : field.text;
    if (text.trim() !== before.trim()) found[field.key] = text;
  }
  return found;
}

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
  return `\n${/^\s*/.exec(line)?.[0] ?? ""}${/:\s*$/.test(line) ? "    " : ""}`;
}

/**
 * The place that stands `step` places after another one, round and round; the first or last at first.
 *
 * @param {string[]} places
 * @param {string} from
 * @param {number} step
 * @returns {string | undefined}
 */
export function turned(places, from, step) {
  const i = places.indexOf(from);
  return places.at(i < 0 ? Math.min(step, 0) : (i + step) % places.length);
}

/**
 * Clicks that travel: each has an id, is sent once, and is pending until its answer comes.
 *
 * @param {Model} model
 * @param {{changed: () => void, answered: (place: Place, done: boolean, sentence: string) => void}} listener
 */
export function clicks(model, { changed, answered }) {
  const token = Math.random().toString(36).slice(2) + Date.now().toString(36);
  let number = 0;
  /** @typedef {{key: string, place: Place, late: boolean, timer: ReturnType<typeof setTimeout>}} Click */
  /** @type {Map<string, Click>} */
  const pending = new Map();
  /** @type {Set<string>} */
  let heard = new Set(model.get("answers").map(([id]) => id));
  const some = (/** @type {(click: Click) => boolean} */ test) => [...pending.values()].some(test);
  const busy = (/** @type {string} */ key) => some((click) => click.key === key);
  const forget = () => {
    for (const click of pending.values()) clearTimeout(click.timer);
    pending.clear();
  };
  return {
    busy,
    forget,
    late: (/** @type {Place} */ place) => some((click) => click.late && click.place === place),
    /**
     * Send a click, unless one with the same key is pending.
     *
     * @param {string} key
     * @param {Place} place
     * @param {Record<string, unknown>} message
     */
    send(key, place, message) {
      if (busy(key)) return;
      const id = `${token}-${number++}`;
      /** @type {Click} */
      const click = { key, place, late: false, timer: setTimeout(() => {}, 0) };
      clearTimeout(click.timer);
      click.timer = setTimeout(() => {
        click.late = true;
        changed();
      }, WAITING_AFTER);
      pending.set(id, click);
      model.send({ id, ...message });
      changed();
    },
    /** @param {Answer[]} answers */
    hear(answers) {
      let any = false;
      for (const [id, done, sentence] of answers) {
        const click = pending.get(id);
        if (id.startsWith("?") && !heard.has(id)) answered("top", done, sentence); // of no click
        if (!click) continue;
        clearTimeout(click.timer);
        pending.delete(id);
        any = true;
        answered(click.place, done, sentence);
      }
      heard = new Set(answers.map(([id]) => id));
      if (any) changed();
    },
  };
}

// ---------------------------------------------------------------- elements

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {string} [className]
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** Keep the notebook's shortcuts away from it. @template {HTMLElement | SVGElement} E @param {E} element @returns {E} */
function typed(element) {
  element.dataset.lmSuppressShortcuts = "true";
  return element;
}

const ICONS = {
  run: "M3 1.5v11l9-5.5z",
  hold: "M2.5 1.5h3v11h-3zM8.5 1.5h3v11h-3z",
  step: "M1.5 1.5v11l7-5.5zM9.5 1.5h2.5v11H9.5z",
  stop: "M2 2h10v10H2z",
  undo: "M5 1 1 5l4 4V6.3h3a2.2 2.2 0 0 1 0 4.4H4v2h4a4.2 4.2 0 0 0 0-8.4H5z",
  retry: "M7 2a5 5 0 1 0 4.9 6h-1.8A3.3 3.3 0 1 1 7 3.7c.9 0 1.7.4 2.3 1L7.5 6.5H12V2l-1.5 1.5A5 5 0 0 0 7 2z",
};

/** @param {string} path @returns {SVGSVGElement} */
function icon(path) {
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
function button(text, act, className = "") {
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

/** Name an element that shows but a sign. @param {HTMLElement} element @param {string} name @param {string} [title] */
function named(element, name, title = name) {
  element.setAttribute("aria-label", name);
  element.title = title;
  return element;
}

let notes = 0;

/** A line that says what a button will do, also to who hears the button. @param {HTMLElement} element */
function telling(element) {
  const note = make("small", "tq-says");
  note.id = `tq-says-${++notes}`;
  element.setAttribute("aria-describedby", note.id);
  return note;
}

/** A glyph and a word in the colours of a state. @param {Look | undefined} look @param {string} [text] */
function badge(look, text) {
  const glyph = make("span", "tq-glyph", look?.glyph ?? "");
  glyph.setAttribute("aria-hidden", "true");
  const element = make("span", "tq-badge", glyph, make("span", "", text ?? look?.word ?? ""));
  dress(element, look);
  return element;
}

/** Give an element the colours of a state. @param {HTMLElement | SVGElement} element @param {Look} [look] */
function dress(element, look) {
  element.dataset.state = look?.state.toLowerCase() ?? "";
  if (look?.victim) element.dataset.victim = "true";
  else delete element.dataset.victim;
}

/** A place for one message: good news politely, refusals at once. @param {string} className */
function messages(className) {
  const status = make("div", "tq-status");
  const alert = make("div", "tq-alert");
  status.setAttribute("role", "status");
  alert.setAttribute("role", "alert");
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

// ---------------------------------------------------------------- the parts

/**
 * Run, Hold, Step, Stop, Retry all failed, Undo; how far the run is, what blocks it.
 *
 * @param {{
 *   act: (verb: string, extra?: Record<string, unknown>) => void,
 *   busy: (verb: string) => boolean,
 *   cause: (step: number) => void,
 * }} does
 */
function toolbar({ act, busy, cause }) {
  const bar = make("div", "tq-bar");
  bar.setAttribute("role", "toolbar");
  bar.setAttribute("aria-label", "Run the queue");
  let resume = false;
  /** @param {string} text @param {string} shape @param {string} title @param {() => void} does */
  const add = (text, shape, title, does) => {
    const made = button(text, does);
    made.element.prepend(icon(shape));
    made.element.title = title;
    bar.append(made.element);
    return made;
  };
  const run = add("Run", ICONS.run, "Run every task that is ready, in the background", () => act("run"));
  const hold = add("Hold", ICONS.hold, "", () => act(resume ? "resume" : "hold"));
  const step = add("Step", ICONS.step, "Run exactly one task", () => act("step"));
  const stop = add("Stop", ICONS.stop, "Start nothing more and end the run", () => act("stop"));
  const text = make("span", "tq-standing");
  const blocks = make("span");
  const causes = make("span", "tq-causes", blocks);
  const plans = make("span", "tq-plans");
  const line = make("div", "tq-line", text, causes, plans);
  for (const [sign, label, way] of /** @type {[string, string, number][]} */ ([
    ["‹", "Previous cause", -1],
    ["›", "Next cause", 1],
  ])) {
    const { element } = button(sign, () => cause(way), "tq-quiet");
    causes.append(named(element, label, `${label} (${label[0].toLowerCase()} in the graph)`));
  }
  /** A button that does a plan, which is shown in the line. @param {string} label @param {string} verb @param {string} title */
  const planned = (label, verb, title) => {
    let plan = "";
    const made = add(label, ICONS.retry, title, () => act(verb, plan ? { plan } : {}));
    const says = telling(made.element);
    plans.append(says);
    /** @param {Foreseen} foreseen @param {boolean} on */
    return (foreseen, on) => {
      plan = foreseen.plan;
      says.textContent = foreseen.says && `${label}: ${foreseen.says}`;
      made.enable(on && !busy(verb));
      return made.element;
    };
  };
  const retry = planned("Retry all failed", "retry_failed", "Make every failed task pending again, with what it blocks");
  const undo = add("Undo", ICONS.undo, "", () => act("undo"));
  const refresh = planned("Refresh stale", "refresh", "Run again what is out of date, and what was made from it");

  const gauge = make("div", "tq-gauge");
  gauge.setAttribute("role", "progressbar");
  gauge.setAttribute("aria-label", "Tasks done");
  gauge.setAttribute("aria-valuemin", "0");

  return {
    bar,
    gauge,
    line,
    /** @param {Progress} progress @param {Mending} mending @param {Record<string, number>} counts @param {Look[]} looks @param {boolean} lost */
    update(progress, mending, counts, looks, lost) {
      const { running, held, total, done } = progress;
      const count = (/** @type {string} */ state) => counts[state] ?? 0;
      const waiting = count("PENDING") + count("PREPARE") + count("QUEUED");
      resume = held;
      const idle = !lost && !running && waiting > 0;
      run.enable(idle && !busy("run") && !busy("step"));
      run.element.classList.toggle("tq-primary", idle);
      hold.label.textContent = held ? "Resume" : "Hold";
      hold.element.title = held ? "Carry on" : "Start no new task until resumed";
      hold.enable(!lost && (running || held) && !busy(held ? "resume" : "hold"));
      step.enable(idle && !busy("run") && !busy("step"));
      stop.enable(!lost && running && !busy("stop"));
      retry(mending.retry, !lost && count("FAILED") > 0);
      refresh(mending.refresh, !lost).hidden = !mending.refresh.says;
      undo.enable(!lost && mending.undo !== "" && !busy("undo"));
      named(undo.element, mending.undo ? `Undo: ${mending.undo}` : "There is nothing to undo");
      blocks.textContent = mending.causes;
      causes.classList.toggle("tq-off", !mending.causes);
      text.textContent = standing(progress);
      text.dataset.total = String(total);
      gauge.setAttribute("aria-valuemax", String(total));
      gauge.setAttribute("aria-valuenow", String(done));
      gauge.setAttribute("aria-valuetext", `${done} of ${total}`);
      const order = ["DONE", "FAILED", "CANCELLED", "ABORT", "RUNNING", "QUEUED"];
      const shown = order.filter((state) => count(state) && looks.length);
      while (gauge.childElementCount > shown.length) gauge.lastElementChild?.remove();
      shown.forEach((state, i) => {
        const part = /** @type {HTMLElement} */ (gauge.children[i] ?? gauge.appendChild(make("i")));
        part.dataset.state = state.toLowerCase();
        part.style.width = `${(100 * count(state)) / (total || 1)}%`;
      });
    },
  };
}

/**
 * Counts by state: the legend, and a filter.
 *
 * @param {(letters: Set<string>) => void} filter
 */
function chips(filter) {
  const element = make("div", "tq-chips");
  element.setAttribute("role", "group");
  element.setAttribute("aria-label", "Counts by state; press one to look at it alone");
  /** @type {Set<string>} */
  const on = new Set();
  /** @type {Map<string, {chip: HTMLElement, count: HTMLElement}>} */
  const made = new Map();
  const always = new Set(["PENDING", "RUNNING", "DONE", "FAILED"]);
  return {
    element,
    /** @param {Record<string, number>} counts @param {Look[]} looks */
    update(counts, looks) {
      for (const look of looks) {
        if (look.victim) continue; // counted with the state that it is in
        let known = made.get(look.letter);
        if (!known) {
          const count = make("b", "tq-count");
          const { element: chip } = button("", () => {
            const pressed = !on.has(look.letter);
            for (const { letter, state } of looks) {
              if (state === look.state) on[pressed ? "add" : "delete"](letter);
            }
            chip.setAttribute("aria-pressed", String(on.has(look.letter)));
            filter(on);
          });
          chip.className = "tq-chip";
          chip.setAttribute("aria-pressed", "false");
          chip.dataset.state = look.state.toLowerCase();
          chip.replaceChildren(count, badge(look));
          chip.hidden = !always.has(look.state);
          element.append(chip);
          known = { chip, count };
          made.set(look.letter, known);
        }
        const number = counts[look.state] ?? 0;
        if (number) known.chip.hidden = false; // and it stays, so that the row does not jump
        known.chip.classList.toggle("tq-none", !number);
        known.count.textContent = String(number);
      }
    },
  };
}

/**
 * The drawing: states painted on boxes, pan, zoom, and one tab stop that arrows move.
 *
 * @param {HTMLElement} root whose height follows the drawing
 * @param {{select: (at: string) => void, leave: () => void, cause: (step: number) => void}} does
 */
function drawing(root, { select, leave, cause }) {
  const tools = make("div", "tq-tools");
  const note = make("div", "tq-note");
  
  /** @type {SVGSVGElement | null} */
  let svg = null;
  /** @type {SVGGElement | null} */
  let sheet = null;
  /** @type {(SVGGElement | HTMLElement | undefined)[]} */
  let nodes = [];
  const list = make("div", "tq-list"); // in place of a drawing
  const element = make("div", "tq-pane", tools, note, list);
  /** @type {{from: number, to: number, element: Element}[]} */
  let edges = [];
  /** @type {import("./types.js").Box[]} */
  let boxes = [];
  /** @type {Rect} */
  let world = { x: 0, y: 0, width: 1, height: 1 };
  /** @type {View} */
  let view = { x: 0, y: 0, k: 1 };
  /** @type {Look[]} */
  let looks = [];
  /** @type {Set<string>} */
  let filter = new Set();
  let tall = SHORTEST;
  let free = false; // the user has moved the view: nothing else may
  let painted = "";
  /** @type {Record<string, string>} */
  let says = {};
  let selected = "";
  let tab = "";

  const pane = () => ({ width: element.clientWidth || 640, height: element.clientHeight || 400 });
  const indexOf = (/** @type {string} */ at) => boxes.findIndex((box) => box.at === at);

  /** @param {View} next */
  function show(next) {
    view = next;
    sheet?.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.k})`);
    element.dataset.far = String(view.k < 0.4); // too far to read: states alone are shown
  }

  function fit() {
    free = false;
    const { width, height } = pane();
    show(fitted(world, { width, height: height - UNDER }));
  }

  /** @param {number} factor @param {{x: number, y: number}} [at] */
  function zoom(factor, at) {
    free = true;
    const { width, height } = pane();
    show(zoomed(view, factor, at ?? { x: width / 2, y: height / 2 }));
  }

  /** @param {Element} node @returns {Rect} */
  function rect(node) {
    const outer = element.getBoundingClientRect();
    const inner = node.getBoundingClientRect();
    return {
      x: inner.x - outer.x,
      y: inner.y - outer.y,
      width: inner.width,
      height: inner.height,
    };
  }

  /** Bring a box into the pane, moving as little as possible. @param {string} at */
  function reveal(at) {
    const node = sheet && nodes[indexOf(at)];
    const box = node && rect(node);
    if (box?.width) show(revealed(view, box, pane())); // it has none while the pane is not shown
  }

  /** Move the tab stop. @param {string} at @param {boolean} focus */
  function stop(at, focus) {
    const old = nodes[indexOf(tab)];
    const node = nodes[indexOf(at)] ?? nodes.find(Boolean);
    old?.setAttribute("tabindex", "-1");
    node?.setAttribute("tabindex", "0");
    tab = boxes[node ? nodes.indexOf(node) : -1]?.at ?? "";
    if (focus) node?.focus({ preventScroll: true });
  }

  /** Go to a box by key: where it is must be seen. @param {number} i */
  function go(i) {
    stop(boxes[i].at, true);
    reveal(tab);
  }

  /** @param {KeyboardEvent} event @param {number} i */
  function key(event, i) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" || event.key === " ") {
      stop(boxes[i].at, false);
      select(boxes[i].at);
    } else if (event.key.startsWith("Arrow")) {
      const centres = nodes.map((node) => {
        const box = node && rect(node);
        return box && { x: box.x + box.width / 2, y: box.y + box.height / 2 };
      });
      go(neighbour(centres, i, event.key));
    } else if (event.key === "Home") go(0);
    else if (event.key === "End") go(boxes.length - 1);
    else if (event.key === "+" || event.key === "=") zoom(STEP);
    else if (event.key === "-") zoom(1 / STEP);
    else if (event.key === "0") fit();
    else if (event.key === "n" || event.key === "p") {
      cause(event.key === "n" ? 1 : -1);
      stop(tab, true);
    }
    else if (event.key === "Escape") leave();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Make room for a drawing; never less than before, so that what stands below stays. @param {number} height px */
  function grow(height) {
    tall = Math.min(TALLEST, Math.max(tall, Math.round(height)));
    root.style.setProperty("--tq-height", `${tall}px`);
  }

  /** Make an element the one that stands for a box. @template {SVGGElement | HTMLElement} E @param {E} node @param {number} i @returns {E} */
  function wired(node, i) {
    nodes[i] = typed(node);
    node.dataset.at = boxes[i].at;
    node.setAttribute("role", "button");
    node.setAttribute("tabindex", "-1");
    node.addEventListener("click", () => {
      stop(boxes[i].at, true);
      select(boxes[i].at);
    });
    node.addEventListener("keydown", (event) => key(/** @type {KeyboardEvent} */ (event), i));
    return node;
  }

  function dim() {
    nodes.forEach((node, i) => {
      node?.classList.toggle("tq-dim", filter.size > 0 && !filter.has(painted[i]));
    });
  }

  function mark() {
    const i = indexOf(selected);
    nodes.forEach((node, j) => {
      node?.classList.toggle("tq-on", i === j);
      node?.setAttribute("aria-pressed", String(i === j));
    });
    for (const edge of edges) {
      edge.element.classList.toggle("tq-near", i >= 0 && (edge.from === i || edge.to === i));
    }
  }

  for (const [text, label, does] of /** @type {[string, string, () => void][]} */ ([
    ["+", "Zoom in", () => zoom(STEP)],
    ["−", "Zoom out", () => zoom(1 / STEP)],
    ["Fit", "Fit the graph to the pane", fit],
  ])) {
    tools.append(named(button(text, does, "tq-tool").element, label));
  }

  // Pan by dragging; a drag that moved is no click. Two fingers pinch.
  /** @type {Map<number, {x: number, y: number}>} */
  const fingers = new Map();
  let travelled = 0;
  /** @param {MouseEvent} event */
  const point = (event) => {
    const outer = element.getBoundingClientRect();
    return { x: event.clientX - outer.x, y: event.clientY - outer.y };
  };
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !sheet || /** @type {Element} */ (event.target).closest(".tq-tools")) return;
    if (fingers.size === 0) travelled = 0;
    fingers.set(event.pointerId, point(event));
  });
  element.addEventListener("pointermove", (event) => {
    const was = fingers.get(event.pointerId);
    if (!was) return;
    const now = point(event);
    travelled += Math.abs(now.x - was.x) + Math.abs(now.y - was.y);
    if (travelled < 4) return;
    if (!element.hasPointerCapture?.(event.pointerId)) element.setPointerCapture?.(event.pointerId);
    free = true;
    element.classList.add("tq-panning");
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    fingers.set(event.pointerId, now);
    if (other) {
      const apart = (/** @type {{x: number, y: number}} */ a) => Math.hypot(a.x - other.x, a.y - other.y);
      show(zoomed(view, apart(now) / (apart(was) || 1), other));
    } else show({ k: view.k, x: view.x + now.x - was.x, y: view.y + now.y - was.y });
  });
  for (const end of ["pointerup", "pointercancel"]) {
    element.addEventListener(end, (event) => {
      fingers.delete(/** @type {PointerEvent} */ (event).pointerId);
      if (!fingers.size) element.classList.remove("tq-panning");
    });
  }
  element.addEventListener(
    "click",
    (event) => {
      if (travelled >= 4) event.stopPropagation();
      travelled = 0;
    },
    { capture: true },
  );
  element.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // a plain wheel scrolls the page
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 300), point(event));
    },
    { passive: false },
  );
  element.addEventListener("dblclick", (event) => {
    if (!(/** @type {Element} */ (event.target).closest(".node, .tq-tools"))) fit();
  });

  return {
    element,
    fit,
    reveal,
    focus: () => stop(tab, true),
    /** The pane has another size. */
    resized() {
      if (!free && !selected) fit();
    },
    /** @param {string} text */
    say(text) {
      note.textContent = text;
      note.hidden = !text;
    },
    /** @param {Set<string>} letters */
    filter(letters) {
      filter = letters;
      element.classList.toggle("tq-filtered", letters.size > 0);
      dim();
    },
    /** @param {string} at */
    select(at) {
      selected = at;
      mark();
      if (at) stop(at, false);
    },
    /** A new structure: the drawing is replaced, and what the user looks at stays.
     * @param {string} text @param {import("./types.js").Box[]} newBoxes @param {Look[]} newLooks @param {string} title */
    draw(text, newBoxes, newLooks, title) {
      const focused = Boolean(svg?.contains(document.activeElement));
      const anchor = selected && nodes[indexOf(selected)];
      const before = anchor ? rect(anchor) : null;
      const moved = free || (selected !== "" && painted !== "");
      svg?.remove();
      list.replaceChildren();
      svg = sheet = null;
      [nodes, edges, painted, says, boxes, looks] = [[], [], "", {}, newBoxes, newLooks];
      if (!text) {
        boxes.forEach((_, i) => list.append(wired(make("div", "node"), i)));
        element.classList.toggle("tq-listed", boxes.length > 0);
        stop(tab, false);
        return;
      }
      element.classList.remove("tq-listed");
      svg = safeSvg(text);
      const [x, y, width, height] = (svg.getAttribute("viewBox") ?? "0 0 1 1").split(/[\s,]+/).map(Number);
      world = { x, y, width, height };
      grow(height * fitted(world, { width: pane().width, height: TALLEST }).k + 76);
      for (const name of ["viewBox", "width", "height", "id"]) svg.removeAttribute(name);
      sheet = document.createElementNS(SVG, "g");
      sheet.append(...svg.childNodes);
      svg.append(sheet);
      svg.setAttribute("role", "group");
      svg.setAttribute("aria-label", `${title}: arrow keys move, Enter selects, n and p go to causes of failures, + and - zoom`);
      for (const g of /** @type {NodeListOf<SVGGElement>} */ (sheet.querySelectorAll("g.node"))) {
        const i = Number(/^t(\d+)$/.exec(g.id)?.[1] ?? NaN);
        if (!boxes[i]) continue;
        wired(g, i);
      }
      for (const g of sheet.querySelectorAll("g.edge")) {
        const [, from, to] = /^e(\d+)-(\d+)$/.exec(g.id) ?? [];
        if (to) edges.push({ from: Number(from), to: Number(to), element: g });
        g.querySelector("title")?.remove();
      }
      for (const g of sheet.querySelectorAll("[id]")) g.removeAttribute("id"); // two views, one page
      for (const title of sheet.querySelectorAll("g:not(.node) > title")) title.remove();
      element.append(svg);
      if (!moved) fit();
      else {
        show(view);
        const after = nodes[indexOf(selected)];
        if (before && after) {
          const now = rect(after);
          show({ k: view.k, x: view.x + before.x - now.x, y: view.y + before.y - now.y });
        }
      }
      stop(tab, focused);
      mark();
    },
    /** Give each box its state; the style sheet does the rest. @param {string} states @param {Record<string, string>} newSays */
    paint(states, newSays) {
      const due = new Set(changed(painted, states));
      for (const i of Object.keys({ ...says, ...newSays })) if (says[i] !== newSays[i]) due.add(Number(i));
      says = newSays;
      for (const i of due) {
        const node = nodes[i];
        const look = looks.find(({ letter }) => letter === states[i]);
        if (!node || !look) continue;
        dress(node, look);
        const text = `${boxes[i].label}: ${says[i] ?? look.word}`;
        node.setAttribute("aria-label", text);
        if (node instanceof HTMLElement) {
          node.replaceChildren(badge(look, boxes[i].label));
          continue;
        }
        const title = node.querySelector("title") ?? node.appendChild(document.createElementNS(SVG, "title"));
        title.textContent = text;
        stamp(node, look, says[i]);
      }
      painted = states;
      if (filter.size) dim();
    },
  };
}

/**
 * Write the state's glyph and word where the drawing left room for them.
 *
 * @param {SVGGElement} node
 * @param {Look} look
 * @param {string | undefined} says more than the word, if there is room for it
 */
function stamp(node, look, says) {
  for (const text of node.querySelectorAll("text.glyph")) text.textContent = look.glyph;
  for (const text of /** @type {NodeListOf<SVGTextElement>} */ (node.querySelectorAll("text.word"))) {
    text.textContent = says ?? look.word;
    const box = node.querySelector("rect.box:last-of-type");
    if (!says || !box || !text.getComputedTextLength) continue;
    const room = Number(box.getAttribute("width")) - 38; // the glyph stands left of it
    if (text.getComputedTextLength() > room) text.textContent = look.word;
  }
}

/**
 * Everything about the selected task.
 *
 * @param {{
 *   select: (at: string) => void,
 *   leave: () => void,
 *   act: (at: string, verb: string, extra: Record<string, unknown>) => void,
 *   busy: (at: string) => boolean,
 * }} does
 */
function panel({ select, leave, act, busy }) {
  const title = make("h3", "tq-title");
  title.tabIndex = -1;
  typed(title);
  const state = make("div", "tq-state");
  const close = button("×", leave, "tq-close");
  named(close.element, "Close the details");
  const body = make("div", "tq-body");
  const message = messages("tq-side-message");
  const actions = make("div", "tq-actions");
  const foot = make("div", "tq-foot", message.element, actions);
  const head = make("div", "tq-head", make("div", "tq-titles", title, state), close.element);
  const element = make("section", "tq-side", head, body, foot);
  element.setAttribute("aria-label", "Details of the selected task");
  element.hidden = true;
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    leave();
    event.stopPropagation();
    event.preventDefault();
  });

  let at = "";
  let lost = false;
  /** @type {Details | null} */
  let now = null;
  /** @type {Look[]} */
  let looks = [];
  /** @type {Map<string, string>} What the user typed, by field. */
  const texts = new Map();
  /** @type {Map<string, string>} What each section shows, to leave the unchanged alone. */
  const shown = new Map();
  let letter = "";

  const lookOf = (/** @type {string} */ of) => looks.find((look) => look.letter === of);

  /** @param {Link[]} links @returns {HTMLElement} */
  function linked(links) {
    const list = make("span", "tq-links");
    for (const [to, label, of] of links) {
      const link = typed(make("button", "tq-link", badge(lookOf(of), label)));
      link.type = "button";
      link.title = lookOf(of)?.word ?? "";
      if (to) link.setAttribute("aria-label", `Go to ${label}: ${link.title}`);
      link.disabled = !to; // a task of another queue
      link.addEventListener("click", () => select(to));
      list.append(link);
    }
    return list;
  }

  /**
   * A part of the panel, drawn anew only when what it shows has changed; the focus stays in it.
   *
   * @param {HTMLElement} holder
   * @param {string} name
   * @param {unknown} value
   * @param {() => (Node | string)[]} draw
   */
  function part(holder, name, value, draw) {
    const text = JSON.stringify(value ?? null);
    if (shown.get(name) === text) return;
    shown.set(name, text);
    const active = /** @type {HTMLElement | null} */ (document.activeElement);
    const inside = active && holder.contains(active) ? active.dataset.key ?? "" : null;
    const children = draw();
    holder.replaceChildren(...children);
    holder.hidden = children.length === 0;
    if (inside === null) return;
    /** @type {HTMLElement | null} */
    const again = inside ? holder.querySelector(`[data-key="${CSS.escape(inside)}"]`) : null;
    (again ?? title).focus({ preventScroll: true });
  }

  /** @typedef {{name: string, folds: HTMLDetailsElement, content: HTMLElement}} Section */
  /** @type {Section[]} */
  const sections = [];

  /** A section that folds. @param {string} name @returns {Section} */
  function section(name) {
    const content = make("div", "tq-content");
    const folds = make("details", "tq-section", typed(make("summary", "", name)), content);
    folds.open = true;
    body.append(folds);
    sections.push({ name, folds, content });
    return sections[sections.length - 1];
  }

  const why = make("div", "tq-why");
  const error = make("div", "tq-error");
  const progress = make("div", "tq-progressed");
  const form = make("form", "tq-form");
  const members = make("div", "tq-members");
  body.append(why, error, progress, members, form);
  const supply = section("Use a value instead");
  const result = section("Result");
  const trace = section("Traceback");
  const source = section("Source");
  const output = section("Output");
  const attempts = section("Attempts");
  const around = section("Around it");

  /** @param {string} text */
  const code = (text) => {
    const pre = typed(make("pre", "tq-pre", text));
    pre.tabIndex = 0;
    return pre;
  };

  /** Press the action that stands out, as Enter in a field does. */
  function submit() {
    const first = /** @type {HTMLElement | null} */ (actions.querySelector(".tq-primary"));
    first?.click();
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });

  /** A field of code, not of prose. @param {HTMLInputElement | HTMLTextAreaElement} field @param {string} key @param {string} text */
  function plain(field, key, text) {
    field.value = text;
    field.dataset.key = key;
    field.spellcheck = false;
    field.autocomplete = "off";
    field.setAttribute("autocapitalize", "off");
    const typedIn = () => {
      texts.set(key, field.value);
      enable();
    };
    field.addEventListener("input", typedIn);
    return typedIn;
  }

  /** A field for a Python literal. @param {string} text @param {string} key @param {() => void} enter */
  function literal(text, key, enter) {
    const long = text.length > 48 || text.includes("\n");
    const field = typed(make(long ? "textarea" : "input", "tq-input"));
    if (field instanceof HTMLTextAreaElement) field.rows = Math.min(8, 2 + Math.floor(text.length / 48));
    else field.type = "text";
    plain(field, key, text);
    field.addEventListener("keydown", (event) => {
      const pressed = /** @type {KeyboardEvent} */ (event);
      if (pressed.key !== "Escape") pressed.stopPropagation();
      if (pressed.key !== "Enter" || (long && !pressed.ctrlKey && !pressed.metaKey)) return;
      pressed.preventDefault();
      enter();
    });
    return field;
  }

  /** @returns {Record<string, string>} */
  const edited = () => (now?.editable ? edits(now.fields ?? [], texts) : {});

  /** @returns {string | undefined} */
  function editedSource() {
    const text = texts.get("()");
    return now?.editable && text !== now.source ? text : undefined;
  }

  /** Take all edits back. */
  function reset() {
    texts.clear();
    shown.delete("form");
    shown.delete(source.name);
    update(now, looks, letter, lost);
  }

  /** @param {Details} details @returns {Node[]} */
  function fields(details) {
    if (!details.fields?.length) return [];
    const rows = details.fields.map((field) => {
      const name = make("span", "tq-name", field.name);
      const row = make("label", "tq-field", name);
      row.dataset.field = field.key;
      if (field.kind === "task") {
        const kept = make("div", "tq-field", name, linked(field.links));
        kept.title = "The result of this task is passed";
        return kept;
      }
      if (!details.editable) {
        row.append(make("code", "tq-value", field.text));
        return row;
      }
      const before = field.kind === "kept" ? "" : field.text;
      const input = literal(texts.get(field.key) ?? before, field.key, submit);
      input.setAttribute("aria-label", `Argument ${field.name}${field.kind === "kept" ? ", kept" : ""}`);
      if (field.kind === "kept") {
        input.placeholder = `kept: ${field.text}`;
        input.title = "This value cannot be written as a literal. It is kept unless you replace it.";
      } else if (field.kind === "default") name.append(make("small", "", " default"));
      row.append(input);
      if (field.links.length) row.append(linked(field.links));
      return row;
    });
    return [make("h4", "", "Arguments"), ...rows];
  }

  /** @param {Details} details @returns {Node[]} */
  function sourced(details) {
    if (typeof details.source !== "string") return [];
    const field = typed(make("textarea", "tq-input tq-source"));
    const typedIn = plain(field, "()", texts.get("()") ?? details.source);
    field.readOnly = !details.editable;
    field.rows = Math.min(16, field.value.split("\n").length + 1);
    field.wrap = "off";
    field.setAttribute("aria-label", "Source of the function");
    field.setAttribute("aria-description", "While you edit, Tab indents. To leave: Shift and Tab, or Escape, then Tab.");
    let leaving = true; // who comes by Tab and touches nothing goes on by Tab
    field.addEventListener("blur", () => (leaving = true));
    field.addEventListener("pointerdown", () => (leaving = false));
    field.addEventListener("keydown", (event) => {
      const { key, shiftKey, ctrlKey, metaKey } = event;
      if (key === "Escape" && leaving) return; // the second one closes the details
      event.stopPropagation();
      if (key !== "Tab" && key !== "Shift") leaving = key === "Escape";
      if (key === "Enter" && (ctrlKey || metaKey)) submit();
      else if (!field.readOnly && (key === "Enter" || (key === "Tab" && !shiftKey && !leaving))) {
        const text = indent(field.value, field.selectionStart, key);
        // the deprecated way is the only one that the browser can undo
        if (!document.execCommand?.("insertText", false, text)) {
          field.setRangeText(text, field.selectionStart, field.selectionEnd, "end");
          typedIn();
        }
      } else if (key !== "Escape") return;
      event.preventDefault();
    });
    return [field];
  }

  /** @param {Details} details @returns {Node[]} */
  function supplied(details) {
    if (!details.suppliable) return [];
    const go = () => act(at, "supply", { value: input.value, run: then.checked });
    const input = literal(texts.get("=") ?? "", "=", go);
    input.setAttribute("aria-label", "Value to use as the result");
    input.placeholder = "a Python literal, such as 42 or [1, 2]";
    const then = typed(make("input"));
    then.type = "checkbox";
    then.checked = true;
    const use = button("Use this value", go);
    use.element.dataset.key = "supply";
    return [
      input,
      make("div", "tq-row", use.element, make("label", "tq-check", then, " then continue")),
      telling(use.element),
    ];
  }

  /** @param {Details} details @returns {Node[]} */
  function table(details) {
    if (!details.attempts?.length) return [];
    const rows = details.attempts.map((attempt) => {
      const when = attempt.started === null ? "" : new Date(attempt.started * 1000).toLocaleTimeString();
      const took = attempt.took === null ? "" : duration(attempt.took);
      const row = make(
        "tr",
        "",
        make("td", "", String(attempt.number)),
        make("td", "", badge(lookOf(attempt.letter))),
        make("td", "", when),
        make("td", "tq-number", took),
      );
      if (attempt.error) row.title = attempt.error;
      return row;
    });
    const heads = ["#", "ended", "started", "took"].map((text) => {
      const cell = make("th", "", text);
      cell.scope = "col";
      return cell;
    });
    return [make("table", "tq-table", make("thead", "", make("tr", "", ...heads)), make("tbody", "", ...rows))];
  }

  /** @param {Details} details @returns {Node[]} */
  function neighbours(details) {
    const rows = [];
    for (const [name, links] of /** @type {[string, Link[] | undefined][]} */ ([
      ["Requires", details.required],
      ["Required by", details.blocking],
    ])) {
      if (links?.length) rows.push(make("div", "tq-around", make("span", "tq-name", name), linked(links)));
    }
    return rows;
  }

  /** Bring the buttons, and what each says that it will do, up to date. */
  function enable() {
    const moved = now !== null && letter !== "" && now.letter !== letter;
    const off = lost || moved || busy(at);
    const changes = Object.keys(edited());
    for (const row of form.querySelectorAll(".tq-field")) {
      row.classList.toggle("tq-edited", changes.includes(/** @type {HTMLElement} */ (row).dataset.field ?? ""));
    }
    const what = changes.length > 0 || editedSource() !== undefined;
    source.content.classList.toggle("tq-edited", editedSource() !== undefined);
    [...actions.children].forEach((row, i) => {
      const { verb, run, says = "" } = now?.actions?.[i] ?? { verb: "", run: false };
      const [go, back] = row.querySelectorAll("button");
      const repairs = verb === "repair";
      const wrong = verb !== "cancel" && repairs === !what; // edits are for the one button that takes them
      go.setAttribute("aria-disabled", String(off || wrong));
      go.classList.toggle("tq-primary", (repairs || (verb === "retry" && run)) && !wrong);
      back?.setAttribute("aria-disabled", String(!what));
      const note = row.querySelector("small");
      if (!note) return;
      note.textContent = !wrong ? says : repairs ? "once you have edited something" : "Reset your edits first";
    });
    supply.content.querySelector("button")?.setAttribute("aria-disabled", String(off));
    const note = supply.content.querySelector("small");
    if (note) note.textContent = now?.supplies ?? "";
  }

  /** @param {Details | null} details @param {Look[]} newLooks @param {string} newLetter @param {boolean} gone */
  function update(details, newLooks, newLetter, gone) {
    looks = newLooks;
    letter = newLetter;
    lost = gone;
    now = details;
    if (!details) {
      enable();
      return;
    }
    title.textContent = details.label;
    part(state, "state", [letter || details.letter, details.calls], () => [
      badge(lookOf(letter || details.letter)),
      ...(details.calls ? [make("code", "tq-calls", details.calls)] : []),
    ]);
    const reasons = [details.why, details.cause, details.stale && `Stale: ${details.stale}`];
    part(why, "why", reasons, () => reasons.flatMap((text) => (text ? [make("div", "", text)] : [])));
    part(error, "error", details.error, () => (details.error ? [details.error] : []));
    part(progress, "progress", details.progressed, () => {
      if (!details.progressed) return [];
      const [did, of] = details.progressed;
      const bar = make("progress");
      bar.max = of || 1;
      bar.value = did;
      return [bar, make("span", "", `${did} of ${of}`)];
    });
    part(members, "members", [details.members, details.more], () => {
      if (!details.members) return [];
      const more = details.more ? [make("p", "tq-more", `and ${details.more} more`)] : [];
      return [linked(details.members), ...more];
    });
    part(form, "form", [details.at, details.fields, details.editable], () => fields(details));
    /** @type {[Section, unknown, () => (Node | string)[]][]} */
    const folded = [
      [supply, [details.at, details.suppliable], () => supplied(details)],
      [
        result,
        details.result,
        () => (details.result ? [make("div", "tq-type", details.result.type), code(details.result.text)] : []),
      ],
      [source, [details.at, details.source, details.editable], () => sourced(details)],
      [trace, details.traceback, () => (details.traceback ? [code(details.traceback)] : [])],
      [output, details.output, () => (details.output ? [code(details.output)] : [])],
      [attempts, details.attempts, () => table(details)],
      [around, [details.required, details.blocking], () => neighbours(details)],
    ];
    for (const [{ name, folds, content }, value, draw] of folded) {
      part(content, name, value, draw);
      folds.hidden = content.hidden;
    }
    part(actions, "actions", details.actions?.map(({ label }) => label), () =>
      (details.actions ?? []).map(({ verb, label, run, hint }, i) => {
        const made = button(label, () => {
          const plan = now?.actions?.[i]?.plan;
          const source = editedSource();
          const edits = { edits: edited(), ...(source === undefined ? {} : { source }) };
          act(at, verb, { run, ...(verb === "repair" ? edits : plan ? { plan } : {}) });
        });
        made.element.title = hint;
        made.element.dataset.verb = verb;
        made.element.dataset.key = `${verb}-${run}`;
        const row = make("div", "tq-does", made.element);
        if (verb === "repair") row.append(button("Reset", reset, "tq-quiet").element);
        row.append(telling(made.element));
        return row;
      }),
    );
    enable();
  }

  return {
    element,
    message,
    enable,
    update,
    /** Show another task, or nothing. @param {string} to @param {string} label */
    open(to, label) {
      if (to === at) return;
      at = to;
      now = null;
      texts.clear();
      shown.clear();
      message.say("status", "");
      element.hidden = !to;
      title.textContent = label;
      for (const holder of [state, why, error, progress, members, form, actions]) holder.replaceChildren();
      for (const { folds, content } of sections) {
        content.replaceChildren();
        folds.hidden = true;
      }
      supply.folds.open = false;
      body.scrollTop = 0;
    },
    /** @param {string} text */
    wait(text) {
      if (!now) part(why, "why", text, () => (text ? [text] : []));
    },
  };
}

/**
 * Hide the still picture of the same queue in the same cell while this view lives.
 *
 * @param {HTMLElement} el
 * @param {string} key how the picture's alternative text begins
 * @returns {() => void} how to show it again
 */
export function hideStill(el, key) {
  /** @type {Set<HTMLElement>} */
  const hidden = new Set();
  /** @type {MutationObserver | undefined} */
  let observer;
  let tries = 0;
  let frame = 0;
  function look() {
    const area = el.closest(".jp-OutputArea");
    if (!area) {
      if (tries++ < 600) frame = requestAnimationFrame(look); // not in the page yet
      return;
    }
    const scan = () => {
      for (const child of area.children) {
        if (!(child instanceof HTMLElement) || child.contains(el)) continue;
        observer?.observe(child, { childList: true, subtree: true });
        const still = [...child.querySelectorAll("img")].some((image) => image.alt.startsWith(key));
        if (still && !hidden.has(child)) {
          hidden.add(child);
          child.classList.add("tq-still");
        }
      }
    };
    observer = new MutationObserver(scan);
    observer.observe(area, { childList: true });
    scan();
  }
  look();
  return () => {
    cancelAnimationFrame(frame);
    observer?.disconnect();
    for (const child of hidden) child.classList.remove("tq-still");
  };
}

// ---------------------------------------------------------------- the view

/** @param {{model: Model, el: HTMLElement}} context @returns {() => void} */
export function render({ model, el }) {
  let selected = "";
  let lost = false;
  let spoken = 0;
  let drawDue = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let speaker;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let looking;

  const root = make("div", "tq");
  root.setAttribute("role", "region");
  const live = make("div", "tq-live");
  live.setAttribute("role", "status");
  const top = messages("tq-top-message");

  const sent = clicks(model, {
    changed: refresh,
    answered(place, done, sentence) {
      const where = place === "side" && selected ? side.message : top;
      where.say(done ? "status" : "alert", sentence);
    },
  });
  const tools = toolbar({
    act: (verb, extra) => sent.send(`queue:${verb}`, "top", { verb, ...extra }),
    busy: (verb) => sent.busy(`queue:${verb}`),
    cause,
  });
  const legend = chips((letters) => graph.filter(letters));
  const graph = drawing(root, { select, leave: () => select(""), cause });
  const side = panel({
    select: (at) => {
      select(at);
      graph.reveal(at);
    },
    leave: () => {
      select("");
      graph.focus();
    },
    act: (at, verb, extra) => sent.send(`task:${at}`, "side", { verb, task: Number(at), ...extra }),
    busy: (at) => sent.busy(`task:${at}`),
  });
  const main = make("div", "tq-main", graph.element, side.element, top.element);
  root.append(make("div", "tq-top", tools.bar, tools.gauge, legend.element, tools.line), main, live);
  el.append(root);

  /** @param {string} at */
  function select(at) {
    selected = at;
    clearTimeout(looking);
    const label = model.get("boxes").find((box) => box.at === at)?.label ?? "";
    side.open(at, label);
    root.classList.toggle("tq-open", at !== "");
    graph.select(at);
    if (at) {
      graph.reveal(at);
      if (!lost) model.send({ verb: "look", at });
      looking = setTimeout(() => side.wait(lost ? "" : "Waiting for the running cell…"), WAITING_AFTER);
    }
    details();
  }

  /** Select the next or previous cause of failures. @param {number} step */
  function cause(step) {
    const at = turned(model.get("mending").at, selected, step);
    if (at) select(at);
  }

  function details() {
    const told = model.get("details");
    const i = model.get("boxes").findIndex((box) => box.at === selected);
    const letter = model.get("states")[i] ?? "";
    const known = selected && told.at === selected ? /** @type {Details} */ (told) : null;
    if (known) clearTimeout(looking);
    side.update(known, model.get("looks"), letter, lost);
  }

  function refresh() {
    tools.update(model.get("progress"), model.get("mending"), model.get("counts"), model.get("looks"), lost);
    side.enable();
    top.wait(sent.late("top"));
    side.message.wait(sent.late("side"));
  }

  function counts() {
    legend.update(model.get("counts"), model.get("looks"));
    refresh();
    clearTimeout(speaker);
    const wait = Math.max(0, spoken + SPEAK_EVERY - Date.now());
    speaker = setTimeout(() => {
      spoken = Date.now();
      live.textContent = counted(model.get("counts"), model.get("looks"));
    }, wait);
  }

  function states() {
    graph.paint(model.get("states"), model.get("says"));
    details();
  }

  function draw() {
    root.setAttribute("aria-label", `Task graph ${model.get("heading")}`);
    try {
      graph.draw(model.get("svg"), model.get("boxes"), model.get("looks"), model.get("heading"));
      graph.say(model.get("note"));
    } catch (error) {
      graph.say(error instanceof Error ? error.message : String(error));
    }
    graph.select(selected);
    states();
  }

  function redraw() {
    if (drawDue) return;
    drawDue = true; // the drawing and its boxes come together, as two changes
    queueMicrotask(() => {
      drawDue = false;
      if (root.isConnected || el.contains(root)) draw();
    });
  }

  /** Said once, when the kernel restarts or its page loses it: this model never lives again. */
  function connection() {
    lost = true;
    root.classList.add("tq-lost");
    sent.forget();
    top.say(
      "alert",
      "The kernel is gone, and with it the tasks. This is the last picture; run the cell again to go on.",
    );
    refresh();
    details();
  }

  const answers = () => sent.hear(model.get("answers"));
  /** @type {[string, () => void][]} */
  const listeners = [
    ["change:svg", redraw],
    ["change:boxes", redraw],
    ["change:note", () => graph.say(model.get("note"))],
    ["change:states", states],
    ["change:says", states],
    ["change:counts", counts],
    ["change:progress", refresh],
    ["change:mending", refresh],
    ["change:details", details],
    ["change:answers", answers],
    ["comm_live_update", connection],
  ];
  for (const [event, does] of listeners) model.on(event, does);
  const sizes = typeof ResizeObserver === "undefined" ? null : new ResizeObserver(() => graph.resized());
  sizes?.observe(graph.element);

  draw();
  counts();
  if (model.get("selected")) select(model.get("selected"));
  const unhide = hideStill(el, model.get("key"));

  return () => {
    unhide();
    sizes?.disconnect();
    sent.forget();
    top.dispose();
    side.message.dispose();
    clearTimeout(speaker);
    clearTimeout(looking);
    for (const [event, does] of listeners) model.off(event, does);
    root.remove();
  };
}

export default { render };
