// @ts-check
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, suite, test } from "node:test";

import { window } from "./page.mjs";

/** @typedef {import("../../taskqueue_nb/static/types.js").MachineTraits} MachineTraits */

const { document } = window;
const machine = await import("../../taskqueue_nb/static/machine.js");

const LOOKS = {
  PENDING: { letter: "", state: "PENDING", word: "pending", glyph: "○" },
  RUNNING: { letter: "", state: "RUNNING", word: "running", glyph: "►" },
  DONE: { letter: "", state: "DONE", word: "done", glyph: "✓" },
};

/** @type {import("../../taskqueue_nb/static/types.js").Teaching} */
const TEACH = { step: { on: true, says: "dispatch, without calling its function yet" }, fail: false, slow: 0, says: "", on: true };

/** A task of three states, as the kernel tells of it. @param {Partial<MachineTraits>} [changes] @returns {MachineTraits} */
function traits(changes = {}) {
  return {
    heading: "load",
    key: "State machine 1",
    note: "",
    diagram: {
      size: [120, 140],
      states: [
        { name: "PENDING", sign: "○ PENDING", mark: "pending" },
        { name: "RUNNING", sign: "► RUNNING", mark: "running" },
        { name: "DONE", sign: "✓ DONE", mark: "done" },
      ],
      boxes: [
        [10, 10, 90, 30],
        [10, 60, 90, 30],
        [10, 100, 90, 30],
      ],
      ways: [
        { from: 0, to: 1, says: "dispatch", path: "M55,40C55,45 55,50 55,60", heads: ["55,60 52,55 58,55"], at: [80, 50] },
        { from: 1, to: 2, says: "done", path: "M55,90C55,95 55,98 55,100", heads: ["55,100 52,95 58,95"], at: [80, 96] },
        { from: 2, to: 0, says: "invalidate", path: "M10,115C0,80 0,40 10,25", heads: [], at: null },
      ],
    },
    trace: { current: 0, name: "PENDING", look: LOOKS.PENDING, taken: [], last: null },
    events: [
      { event: "dispatch", on: true, why: "pending → running: calls its function, in a thread" },
      { event: "supply", on: true, why: "pending → done: with the value beside this button" },
      { event: "retry", on: false, why: "task 'load' is PENDING, cannot retry; it accepts dispatch" },
    ],
    teach: TEACH,
    log: [],
    answers: [],
    ...changes,
  };
}

/** @param {Partial<MachineTraits>} [changes] */
function makeModel(changes) {
  const state = traits(changes);
  /** @type {Map<string, Set<() => void>>} */
  const listeners = new Map();
  /** @type {Record<string, any>[]} */
  const sent = [];
  return {
    sent,
    listening: () => [...listeners.values()].reduce((sum, set) => sum + set.size, 0),
    fire: (/** @type {string} */ event) => listeners.get(event)?.forEach((does) => does()),
    /** @param {Partial<MachineTraits>} news */
    put(news) {
      Object.assign(state, news);
      for (const name of Object.keys(news)) this.fire(`change:${name}`);
    },
    /** Answer the last click. @param {boolean} done @param {string} sentence */
    answer(done, sentence) {
      this.put({ answers: [...state.answers, [sent.at(-1)?.id, done, sentence]] });
    },
    /** @template {keyof MachineTraits} K @param {K} key @returns {MachineTraits[K]} */
    get: (key) => state[key],
    /** @param {string} event @param {() => void} does */
    on: (event, does) => void listeners.set(event, (listeners.get(event) ?? new Set()).add(does)),
    /** @param {string} event @param {() => void} does */
    off: (event, does) => void listeners.get(event)?.delete(does),
    send: (/** @type {Record<string, unknown>} */ message) => void sent.push(message),
  };
}

/** @type {HTMLElement} */
let el;
/** @type {(() => void) | undefined} */
let end;

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout"] });
  el = document.body.appendChild(document.createElement("div"));
});

afterEach(() => {
  end?.();
  end = undefined;
  document.body.replaceChildren();
  mock.timers.reset();
});

/** @param {Partial<MachineTraits>} [changes] */
function shown(changes) {
  const model = makeModel(changes);
  end = machine.render({ model, el });
  return model;
}

/** @param {string} selector @returns {any} */
function one(selector) {
  const found = el.querySelectorAll(selector);
  assert.equal(found.length, 1, `${found.length} elements are ${selector}`);
  return found[0];
}

/** @param {string} label @returns {HTMLButtonElement} */
function named(label) {
  const found = [...el.querySelectorAll("button")].filter((each) => each.textContent?.trim() === label);
  assert.equal(found.length, 1, `${found.length} buttons say ${label}`);
  return /** @type {any} */ (found[0]);
}

/** What a message holds besides its id. @param {Record<string, unknown> | undefined} message */
function what(message) {
  const { id, ...rest } = message ?? {};
  assert.equal(typeof id, "string");
  return rest;
}

suite("pure functions", () => {
  test("a time of day has two digits each", () => {
    assert.match(machine.clock(0), /^\d\d:\d\d:\d\d$/);
    assert.equal(machine.clock(1.9), machine.clock(1));
  });

  test("ways are counted from where to where", () => {
    const trace = traits({ trace: { current: 2, name: "DONE", look: LOOKS.DONE, taken: [[0, 1, 3]], last: [0, 1] } }).trace;
    assert.deepEqual([...machine.counts(trace)], [["0-1", 3]]);
    assert.deepEqual([0, 1, 2, 17].map(machine.times), ["", "", "×2", "×17"]);
  });

  test("a delay is a positive number of seconds", () => {
    assert.equal(machine.delay(" 2.5 "), 2.5);
    for (const text of ["", " ", "0", "-1", "two", "1e9", "Infinity"]) {
      assert.ok(Number.isNaN(machine.delay(text)), text);
    }
  });
});

suite("the diagram", () => {
  test("is drawn once, and a transition marks what is there", () => {
    const model = shown();
    const svg = one(".tq-diagram svg");
    assert.equal(el.querySelectorAll(".tq-box").length, 3);
    assert.equal(one(".tq-lit").textContent, "○ PENDING");
    assert.equal(el.querySelectorAll(".tq-taken").length, 0);

    model.put({ trace: { current: 1, name: "RUNNING", look: LOOKS.RUNNING, taken: [[0, 1, 2], [1, 2, 1], [2, 0, 1]], last: [0, 1] } });

    assert.equal(one(".tq-diagram svg"), svg);
    assert.equal(one(".tq-lit").dataset.state, "running");
    assert.equal(el.querySelectorAll(".tq-taken").length, 3);
    assert.equal(one(".tq-last .tq-event").textContent, "dispatch");
    assert.equal(one(".tq-last .tq-times").textContent, "×2");
    assert.equal(one(".tq-last").classList.contains("tq-flow"), true);
    assert.equal(one(".tq-last"), one(".tq-last").parentNode.lastElementChild); // above the others
    assert.match(one(".tq-diagram").getAttribute("aria-label"), /The state is RUNNING, reached from PENDING/);
    assert.equal(one(".tq-state").textContent, "►RUNNING");
  });

  test("of few states is not blown up to the width of the page", () => {
    const { diagram } = traits();
    const widest = (/** @type {number} */ width) => {
      shown({ diagram: { ...diagram, size: [width, 90] } });
      const found = one(".tq-diagram svg").style.maxWidth;
      end?.();
      return found;
    };
    assert.deepEqual([100, 490].map(widest), ["160px", "620px"]);
  });

  test("does not flow when it is opened", () => {
    shown({ trace: { current: 1, name: "RUNNING", look: LOOKS.RUNNING, taken: [[0, 1, 1]], last: [0, 1] } });
    assert.equal(one(".tq-last").classList.contains("tq-flow"), false);
  });

  test("without an engine lists the states, with the sentence", () => {
    const diagram = { ...traits().diagram, boxes: [], ways: [] };
    const model = shown({ diagram, note: "There is no picture." });
    assert.equal(one(".tq-diagram .tq-more").textContent, "There is no picture.");
    assert.equal(one(".tq-states .tq-lit").textContent, "PENDING");
    model.put({ trace: { current: 2, name: "DONE", look: LOOKS.DONE, taken: [], last: null } });
    assert.equal(one(".tq-states .tq-lit").textContent, "DONE");
  });

  test("takes hostile names for what they are", () => {
    const states = [{ name: "<img src=x>", sign: "<img src=x>", mark: "unknown" }];
    shown({ heading: "<b>x</b>", diagram: { size: [10, 10], states, boxes: [[0, 0, 9, 9]], ways: [] } });
    assert.equal(el.querySelectorAll("img, b").length, 0);
    assert.equal(one(".tq-sign").textContent, "<img src=x>");
  });
});

suite("events", () => {
  test("those that are on are fired, once", () => {
    const model = shown();
    named("dispatch").click();
    named("dispatch").click();
    assert.deepEqual(model.sent.map(what), [{ verb: "fire", event: "dispatch" }]);
    model.answer(true, "");
    named("dispatch").click();
    assert.equal(model.sent.length, 2);
  });

  test("those that are off say why, and send nothing", () => {
    const model = shown();
    const retry = named("retry");
    assert.equal(retry.getAttribute("aria-disabled"), "true");
    assert.equal(retry.disabled, false);
    assert.match(retry.title, /cannot retry; it accepts dispatch/);
    const says = document.getElementById(retry.getAttribute("aria-describedby") ?? "");
    assert.equal(says?.textContent, retry.title);

    retry.click();

    assert.equal(model.sent.length, 0);
    assert.match(one(".tq-alert").textContent, /cannot retry/);
  });

  test("keep their places when the state changes", () => {
    const model = shown();
    const before = [...el.querySelectorAll(".tq-fire")];
    model.put({ events: traits().events.map((each) => ({ ...each, on: !each.on })) });
    assert.deepEqual([...el.querySelectorAll(".tq-fire")], before);
    assert.equal(named("retry").getAttribute("aria-disabled"), "false");
    assert.equal(one(".tq-supplied").disabled, true);
  });

  test("supply brings the value beside it, also by Enter", () => {
    const model = shown();
    one(".tq-supplied").value = "[1, 2]";
    named("supply").click();
    assert.deepEqual(what(model.sent[0]), { verb: "fire", event: "supply", value: "[1, 2]" });
    model.answer(true, "");
    one(".tq-supplied").dispatchEvent(new window.KeyboardEvent("keydown", { key: "Enter" }));
    assert.equal(model.sent.length, 2);
  });

  test("a value that is refused is named beside its field, until it is edited or something is done", () => {
    const model = shown();
    const field = one(".tq-supplied");
    named("supply").click();
    assert.deepEqual(what(model.sent[0]), { verb: "fire", event: "supply", value: "" });

    model.answer(false, "The value: it is empty.");

    const note = one(".tq-events .tq-beside");
    assert.equal(note.textContent, "✗ The value: it is empty.");
    assert.equal(field.getAttribute("aria-errormessage"), note.id);
    assert.equal(document.activeElement, field);
    assert.equal(one(".tq-machine-message").hidden, true);

    field.dispatchEvent(new window.Event("input"));
    assert.equal(field.getAttribute("aria-invalid"), null);
    assert.equal(el.querySelectorAll(".tq-beside").length, 0);

    named("supply").click();
    model.answer(false, "The value: it is empty.");
    named("dispatch").click();
    model.answer(false, "It is blocked.");
    assert.equal(el.querySelectorAll(".tq-beside").length, 0);
    assert.match(one(".tq-machine-message").textContent, /It is blocked/);
  });

  test("of a machine that is no task take no value and have no steps", () => {
    const model = shown({ teach: {} });
    assert.equal(el.querySelectorAll(".tq-supplied").length, 0);
    assert.equal(one(".tq-teach").hidden, true);
    named("supply").click();
    assert.deepEqual(what(model.sent[0]), { verb: "fire", event: "supply" });
  });
});

suite("teaching", () => {
  test("a step says what it is before it is taken", () => {
    const model = shown();
    const step = named("Step");
    const says = document.getElementById(step.getAttribute("aria-describedby") ?? "");
    assert.equal(says?.textContent, "dispatch, without calling its function yet");
    step.click();
    step.click();
    assert.deepEqual(model.sent.map(what), [{ verb: "step" }]);
    assert.equal(step.getAttribute("aria-disabled"), "true");
    model.put({ teach: { ...TEACH, step: { on: false, says: "its function is running" } } });
    model.answer(true, "");
    assert.equal(step.getAttribute("aria-disabled"), "true");
    assert.equal(says?.textContent, "its function is running");
  });

  test("each fault is switched on and off, and keeps the other", () => {
    const model = shown();
    named("Fail this").click();
    assert.deepEqual(what(model.sent.at(-1)), { verb: "inject", fail: true, slow: 0 });
    model.answer(true, "The next attempt will fail: injected.");
    assert.equal(one(".tq-status").textContent, "The next attempt will fail: injected.");
    model.put({ teach: { ...TEACH, fail: true, says: "will fail: injected" } });
    assert.equal(named("Fail this").getAttribute("aria-pressed"), "true");
    assert.equal(one(".tq-injected").textContent, "will fail: injected");

    one(".tq-seconds").value = "1.5";
    named("Slow this").click();
    assert.deepEqual(what(model.sent.at(-1)), { verb: "inject", fail: true, slow: 1.5 });
    model.answer(true, "");
    model.put({ teach: { ...TEACH, fail: true, slow: 1.5 } });
    named("Slow this").click();
    assert.deepEqual(what(model.sent.at(-1)), { verb: "inject", fail: true, slow: 0 });
    model.answer(true, "");
    named("Fail this").click();
    assert.deepEqual(what(model.sent.at(-1)), { verb: "inject", fail: false, slow: 1.5 });
  });

  test("a delay that is none is refused here", () => {
    const model = shown();
    one(".tq-seconds").value = "";
    named("Slow this").click();
    assert.equal(model.sent.length, 0);
    assert.match(one(".tq-alert").textContent, /takes a number of seconds/);
  });
});

suite("the log", () => {
  const rows = [
    { when: 20, says: "load: running → done, its function has returned", state: "done", glyph: "✓" },
    { when: 10, says: "load: pending → running, dispatched", state: "running", glyph: "►" },
  ];

  test("has the newest on top, with its time", () => {
    shown({ log: rows });
    const items = [...el.querySelectorAll(".tq-log li")];
    assert.equal(items.length, 2);
    assert.equal(items[0].textContent, `${machine.clock(20)}✓load: running → done, its function has returned`);
  });

  test("says what is new to who does not see it, and not what was there", () => {
    const model = shown({ log: rows.slice(1) });
    assert.equal(one(".tq-live").textContent, "");
    assert.equal(one(".tq-live").getAttribute("role"), "status");
    model.put({ log: rows });
    assert.equal(one(".tq-live").textContent, rows[0].says);
  });

  test("says the first transition of all", () => {
    const model = shown();
    model.put({ log: rows });
    assert.equal(one(".tq-live").textContent, rows[0].says);
  });

  test("is left as it is while nothing is new", () => {
    const model = shown({ log: rows });
    const item = el.querySelector(".tq-log li");
    model.put({ log: rows.map((row) => ({ ...row })) });
    assert.equal(el.querySelector(".tq-log li"), item);
  });
});

suite("the end", () => {
  test("a click that nobody answers says what it waits for", () => {
    shown();
    named("Step").click();
    mock.timers.tick(1001);
    assert.match(one(".tq-status").textContent, /Waiting for the running cell/);
  });

  test("a lost kernel is told once, and nothing is sent any more", () => {
    const model = shown();
    model.fire("comm_live_update");
    assert.match(one(".tq-alert").textContent, /The kernel is gone/);
    for (const each of el.querySelectorAll(".tq-fire, .tq-teach button")) {
      assert.equal(each.getAttribute("aria-disabled"), "true", each.textContent ?? "");
    }
    named("Step").click();
    assert.equal(model.sent.length, 0);
  });

  test("leaves no listener, no element, no timer", () => {
    const model = shown();
    named("Step").click();
    end?.();
    end = undefined;
    assert.equal(model.listening(), 0);
    assert.equal(el.childElementCount, 0);
    mock.timers.tick(5000);
  });
});
