// @ts-check
/**
 * The state machine of one task: its diagram with the way that was taken, its events as buttons, a
 * log, and what a teacher does with it. It draws what the kernel tells it and reports what was clicked.
 *
 * @typedef {import("./types.js").Diagram} Diagram
 * @typedef {import("./types.js").EventButton} EventButton
 * @typedef {import("./types.js").LogRow} LogRow
 * @typedef {import("./types.js").MachineModel} MachineModel
 * @typedef {import("./types.js").Teaching} Teaching
 * @typedef {import("./types.js").Trace} Trace
 */

import { SVG, badge, button, dress, make, messages, named, roled, telling, typed } from "./elements.js";
import { clicks, hideStill } from "./live.js";
import { blame, forgive } from "./wrong.js";

const SLOWED = 2; // s, by which "Slow this" begins
const SLOWEST = 3600; // s
const WIDEST = 620; // px of the diagram
const BLOWN_UP = 1.6; // by so much at most: a machine of few states would fill the page
const NEEDS_VALUE = "supply";

// ---------------------------------------------------------------- pure functions

/** A time of day on the reader's clock. @param {number} seconds since the epoch @returns {string} */
export function clock(seconds) {
  const date = new Date(seconds * 1000);
  const two = (/** @type {number} */ number) => String(number).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/**
 * The ways that were taken: "from-to" → how often.
 *
 * @param {Trace} trace
 * @returns {Map<string, number>}
 */
export function counts(trace) {
  return new Map(trace.taken.map(([from, to, count]) => [`${from}-${to}`, count]));
}

/** How often a way was taken, where that is more than once. @param {number} count @returns {string} */
export function times(count) {
  return count > 1 ? `×${count}` : "";
}

/** The seconds in a field; NaN if they are none that could be injected. @param {string} text @returns {number} */
export function delay(text) {
  const seconds = text.trim() === "" ? NaN : Number(text);
  return seconds > 0 && seconds <= SLOWEST ? seconds : NaN;
}

// ---------------------------------------------------------------- the parts

/** @param {string} name @param {Record<string, string | number>} attributes @param {Element[]} children */
function drawn(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...children);
  return element;
}

/** A line of text in a drawing. @param {string} text @param {string} className @param {number} x @param {number} y */
function written(text, className, x, y) {
  const element = drawn("text", { class: className, x, y, "text-anchor": "middle" });
  element.textContent = text;
  return element;
}

/** The diagram, drawn once; a transition only marks what is there. */
function picture() {
  const element = roled(make("div", "tq-diagram"), "img");
  /** @type {Diagram | undefined} */
  let shown;
  /** @type {Map<string, {line: SVGElement, often: SVGElement | null}>} */
  let ways = new Map();
  /** @type {SVGElement[]} */
  let boxes = [];
  let last = "";

  /** @param {Diagram} diagram */
  function draw(diagram) {
    shown = diagram;
    const [width, height] = diagram.size;
    const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
    svg.style.maxWidth = `${Math.min(WIDEST, Math.round(width * BLOWN_UP))}px`;
    ways = new Map();
    const lines = drawn("g", {});
    for (const way of diagram.ways) {
      const line = drawn("g", { class: "tq-way" }, drawn("path", { d: way.path }));
      for (const points of way.heads) line.append(drawn("polygon", { points }));
      const often = way.at && written("", "tq-times", way.at[0], way.at[1]);
      often?.setAttribute("dy", "1.05em"); // below the name
      if (way.at && often) line.append(written(way.says, "tq-event", way.at[0], way.at[1]), often);
      lines.append(line);
      ways.set(`${way.from}-${way.to}`, { line, often });
    }
    boxes = diagram.boxes.map(([x, y, w, h], i) => {
      const { sign, mark } = diagram.states[i];
      return drawn(
        "g",
        { class: "tq-box", "data-state": mark },
        drawn("rect", { x, y, width: w, height: h, rx: h / 2 }),
        written(sign, "tq-sign", x + w / 2, y + h / 2 + 4.5),
      );
    });
    svg.append(lines, ...boxes);
    element.replaceChildren(svg);
  }

  return {
    element,
    /** @param {Diagram} diagram @param {Trace} trace @param {string} note */
    update(diagram, trace, note) {
      if (diagram !== shown) {
        draw(diagram);
        last = trace.last?.join("-") ?? "";
        if (!diagram.boxes.length) {
          const names = diagram.states.map(({ name, mark }) => {
            const item = make("li", "", name);
            item.dataset.state = mark;
            return item;
          });
          element.replaceChildren(make("p", "tq-more", note), make("ul", "tq-states", ...names));
        }
      }
      const taken = counts(trace);
      const now = trace.last?.join("-") ?? "";
      let steps = 0;
      for (const [key, { line, often }] of ways) {
        const count = taken.get(key) ?? 0;
        steps += count;
        line.classList.toggle("tq-taken", count > 0);
        line.classList.toggle("tq-last", key === now);
        if (often) often.textContent = times(count);
      }
      const state = String(steps);
      if (now !== last || element.dataset.steps !== state) {
        // what was taken last lies above the rest, and its line flows once
        const line = ways.get(now)?.line;
        if (line) line.parentNode?.append(line);
        if (line && element.dataset.steps !== undefined) {
          line.classList.remove("tq-flow");
          void line.getBoundingClientRect(); // so that the same way flows again
          line.classList.add("tq-flow");
        }
      }
      last = now;
      element.dataset.steps = state;
      boxes.forEach((box, i) => box.classList.toggle("tq-lit", i === trace.current));
      for (const item of element.querySelectorAll(".tq-states li")) {
        item.classList.toggle("tq-lit", item.textContent === trace.name);
      }
      const way = trace.last && shown?.states[trace.last[0]];
      const from = way ? `, reached from ${way.name}` : "";
      element.setAttribute("aria-label", `State diagram. The state is ${trace.name}${from}.`);
    },
  };
}

/**
 * A button for each event of the table, in its place whatever the state is.
 *
 * @param {(event: string, value?: string) => void} fire
 * @param {(why: string) => void} refuse
 */
function eventButtons(fire, refuse) {
  const element = roled(make("div", "tq-events"), "group", "Events; those that are on can be fired");
  const value = typed(make("input", "tq-input tq-supplied"));
  value.type = "text";
  value.placeholder = "value";
  value.setAttribute("aria-label", "The value that supply gives, a Python literal");
  value.addEventListener("keydown", (event) => {
    if (event.key === "Enter") press(NEEDS_VALUE);
  });
  value.addEventListener("input", () => forgive(value));
  /** @type {Map<string, {made: ReturnType<typeof button>, why: string, on: boolean, note: HTMLElement}>} */
  const known = new Map();

  /** @param {string} event */
  function press(event) {
    const found = known.get(event);
    if (!found) return;
    if (!found.on) refuse(found.why);
    else if (event === NEEDS_VALUE && value.isConnected) fire(event, value.value);
    else fire(event);
  }

  return {
    element,
    /** Say beside the value what is wrong in it; false if a refusal is about something else. @param {string} sentence */
    blamed(sentence) {
      forgive(value);
      if (!value.isConnected || !sentence.startsWith("The value: ")) return false;
      blame(value, element, sentence);
      return true;
    },
    /** @param {EventButton[]} events @param {boolean} lost @param {boolean} isTask */
    update(events, lost, isTask) {
      for (const { event, on, why } of events) {
        let found = known.get(event);
        if (!found) {
          const made = button(event, () => press(event), "tq-fire");
          const note = telling(made.element);
          note.classList.add("tq-hidden");
          // off, it says why: a press is no way to fire it, but a way to ask
          made.element.addEventListener("click", () => {
            if (made.element.getAttribute("aria-disabled") === "true") press(event);
          });
          const place = make("span", "tq-place", made.element, note);
          if (isTask && event === NEEDS_VALUE) place.append(value);
          element.append(place);
          found = { made, why: "", on: false, note };
          known.set(event, found);
        }
        found.why = lost ? "The kernel is gone." : why;
        found.on = on && !lost;
        found.made.enable(found.on);
        found.made.element.title = found.why;
        found.note.textContent = found.why;
        if (event === NEEDS_VALUE) value.disabled = !found.on;
      }
    },
  };
}

/**
 * Step, Fail this, Slow this.
 *
 * @param {(key: string, message: Record<string, unknown>) => void} send
 * @param {(why: string) => void} refuse
 */
function teaching(send, refuse) {
  /** @type {Teaching | undefined} */
  let now;
  const step = button("Step", () => send("step", { verb: "step" }), "tq-primary");
  const next = telling(step.element);
  step.element.title = "Take one transition: dispatch, then the call, then what comes of it";
  const fail = button("Fail this", () => inject({ fail: !now?.fail }), "tq-toggle");
  fail.element.title = "The next attempt fails instead of calling the function; once more takes it back";
  const slow = button("Slow this", () => slowed(), "tq-toggle");
  slow.element.title = "The next attempt takes so much longer; once more takes it back";
  const seconds = typed(make("input", "tq-input tq-seconds"));
  seconds.type = "number";
  seconds.min = "0";
  seconds.step = "0.5";
  seconds.value = String(SLOWED);
  seconds.setAttribute("aria-label", "Seconds that the next attempt takes longer");
  seconds.addEventListener("keydown", (event) => {
    if (event.key === "Enter") slowed();
  });
  const injected = make("span", "tq-injected");
  const element = make(
    "div",
    "tq-teach",
    make("div", "tq-does tq-stepping", step.element, next),
    make("div", "tq-row", fail.element, slow.element, make("span", "tq-unit", seconds, "s")),
    injected,
  );

  /** @param {{fail?: boolean, slow?: number}} change */
  function inject(change) {
    send("inject", { verb: "inject", fail: now?.fail ?? false, slow: now?.slow ?? 0, ...change });
  }

  function slowed() {
    if (now?.slow) return inject({ slow: 0 });
    const wanted = delay(seconds.value);
    if (Number.isNaN(wanted)) return refuse(`Slow this takes a number of seconds, up to ${SLOWEST}.`);
    return inject({ slow: wanted });
  }

  return {
    element,
    /** @param {Teaching | Record<string, never>} teach @param {boolean} lost @param {(key: string) => boolean} busy */
    update(teach, lost, busy) {
      element.hidden = !("step" in teach);
      if (!("step" in teach)) return;
      now = /** @type {Teaching} */ (teach);
      step.enable(now.step.on && !lost && !busy("step"));
      next.textContent = now.step.says;
      for (const [made, on] of /** @type {[ReturnType<typeof button>, boolean][]} */ ([
        [fail, now.fail],
        [slow, now.slow > 0],
      ])) {
        made.enable(now.on && !lost && !busy("inject"));
        made.element.setAttribute("aria-pressed", String(on));
      }
      injected.textContent = now.says;
    },
  };
}

/** What happened, newest first. */
function history() {
  const list = roled(make("ol", "tq-log"), "list", "What happened, newest first");
  list.tabIndex = 0;
  typed(list);
  /** @type {string[]} */
  let shown = [];
  return {
    element: list,
    /** @param {LogRow[]} rows */
    update(rows) {
      const keys = rows.map(({ when, says }) => `${when} ${says}`);
      if (keys.join("\n") === shown.join("\n")) return;
      shown = keys;
      list.replaceChildren(
        ...rows.map((row) => {
          const glyph = make("span", "tq-glyph", row.glyph || "·");
          glyph.setAttribute("aria-hidden", "true");
          const item = make("li", "", make("time", "", clock(row.when)), glyph, make("span", "", row.says));
          item.dataset.state = row.state;
          return item;
        }),
      );
      list.scrollTop = 0;
    },
  };
}

// ---------------------------------------------------------------- the view

/**
 * @param {{model: MachineModel, el: HTMLElement}} context
 * @returns {() => void}
 */
export function render({ model, el }) {
  let lost = false;
  /** @type {string | undefined} */
  let said;
  const root = roled(make("div", "tq tq-machine"), "region");
  const live = roled(make("div", "tq-live"), "status");
  const message = messages("tq-machine-message");
  const title = make("h3", "tq-title");
  const state = make("span", "tq-state");
  const sent = clicks(model, {
    changed: refresh,
    answered(_place, done, sentence) {
      const isBeside = events.blamed(done ? "" : sentence);
      message.say(done || isBeside ? "status" : "alert", isBeside ? "" : sentence);
    },
  });
  const refuse = (/** @type {string} */ why) => message.say("alert", why);
  const send = (/** @type {string} */ key, /** @type {Record<string, unknown>} */ what) => {
    if (!lost) sent.send(key, "top", what);
  };
  const diagram = picture();
  const events = eventButtons(
    (event, value) => send(`fire ${event}`, { verb: "fire", event, ...(value === undefined ? {} : { value }) }),
    refuse,
  );
  const teach = teaching(send, refuse);
  const log = history();
  root.append(
    make("div", "tq-machine-head", title, state),
    make(
      "div",
      "tq-machine-body",
      make("div", "tq-stage", diagram.element, message.element),
      make(
        "div",
        "tq-controls",
        make("h4", "tq-heading", "Events"),
        events.element,
        teach.element,
        make("h4", "tq-heading", "What happened"),
        log.element,
      ),
    ),
    live,
  );
  el.append(root);

  function refresh() {
    const trace = model.get("trace");
    const heading = model.get("heading");
    title.textContent = heading;
    root.setAttribute("aria-label", `State machine of ${heading}`);
    dress(state, trace.look);
    state.replaceChildren(badge(trace.look, trace.name));
    diagram.update(model.get("diagram"), trace, model.get("note"));
    const teaches = model.get("teach");
    events.update(model.get("events"), lost, "step" in teaches);
    teach.update(teaches, lost, sent.busy);
    const rows = model.get("log");
    log.update(rows);
    message.wait(sent.late("top"));
    speak(rows[0]);
  }

  /** Say the last transition to who does not see it. @param {LogRow | undefined} row */
  function speak(row) {
    const now = row ? `${row.when} ${row.says}` : "";
    if (now === said) return;
    if (said !== undefined) live.textContent = row?.says ?? ""; // not what was there at first
    said = now;
  }

  function hear() {
    sent.hear(model.get("answers"));
  }

  /** Said once, when the kernel restarts or its page loses it: this model never lives again. */
  function lose() {
    lost = true;
    root.classList.add("tq-lost");
    sent.forget();
    refresh();
    message.say("alert", "The kernel is gone, and with it the task. Run the cell again to go on.", true);
  }

  const listens = /** @type {[string, () => void][]} */ ([
    ["change:trace", refresh],
    ["change:diagram", refresh],
    ["change:events", refresh],
    ["change:teach", refresh],
    ["change:log", refresh],
    ["change:heading", refresh],
    ["change:answers", hear],
    ["comm_live_update", lose],
  ]);
  for (const [event, does] of listens) model.on(event, does);
  refresh();
  const showStill = hideStill(el, model.get("key"));
  named(log.element, "What happened, newest first", "");
  return () => {
    for (const [event, does] of listens) model.off(event, does);
    sent.forget();
    message.dispose();
    showStill();
    root.remove();
  };
}
