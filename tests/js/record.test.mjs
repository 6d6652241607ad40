// @ts-check
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, suite, test } from "node:test";

import { LOOKS, failed, makeModel, window } from "./page.mjs";

const { document } = window;

const story = await import("../../taskqueue_nb/static/story.js");
const record = await import("../../taskqueue_nb/static/record.js");
const graph = await import("../../taskqueue_nb/static/graph.js");
const details = await import("../../taskqueue_nb/static/details.js");

/** @typedef {[when: number, task: number, letter: string, worker?: number]} Row */

/** @param {Row[]} rows */
const columns = (rows) => ({
  when: Float64Array.from(rows, ([when]) => when),
  task: Uint32Array.from(rows, ([, task]) => task),
  letter: Uint8Array.from(rows, ([, , letter]) => letter.charCodeAt(0)),
  worker: Uint16Array.from(rows, ([, , , worker]) => worker ?? 0),
});

/** A story of these rows, which come in batches. @param {Row[][]} batches */
function told(...batches) {
  const made = story.makeStory();
  for (const rows of batches) made.add(columns(rows));
  return made;
}

/** @param {import("../../taskqueue_nb/static/story.js").Story} of */
const bars = (of) =>
  Array.from({ length: of.bars }, (_, i) => [
    of.barTask[i],
    of.barNumber[i],
    of.barStart[i],
    of.barEnd[i],
    String.fromCharCode(of.barLetter[i]),
    of.barLane[i],
  ]);

/** A number below `most` that looks drawn, always the same ones. */
function drawn() {
  let seed = 7;
  return (/** @type {number} */ most) => (seed = (seed * 48271) % 2147483647) % most;
}

/** Rows of tasks that run again and again, in order of time. @param {number} tasks @param {number} steps @returns {Row[]} */
function runs(tasks, steps) {
  const next = drawn();
  const state = Array.from({ length: tasks }, () => "p");
  /** @type {Record<string, string[]>} */
  const after = { p: ["r", "c", "q"], q: ["r", "c"], r: ["d", "f", "v", "c"], d: ["p"], f: ["p", "a"], v: ["p"], c: ["p"], a: [] };
  /** @type {Row[]} */
  const rows = [];
  for (let i = 0; i < steps; i++) {
    const task = next(tasks);
    const choice = after[state[task]];
    if (!choice.length) continue;
    state[task] = choice[next(choice.length)];
    rows.push([1000 + i / 64, task, state[task]]);
  }
  return rows;
}

suite("attempts and lanes", () => {
  test("an attempt is a bar, and those that meet have lanes of their own", () => {
    const made = told([
      [10, 0, "r"],
      [11, 1, "r"],
      [12, 0, "f"],
      [12, 2, "r"],
      [13, 1, "d"],
      [14, 0, "p"],
      [15, 0, "r"],
    ]);
    assert.deepEqual(bars(made), [
      [0, 1, 10, 12, "f", 0],
      [1, 1, 11, 13, "d", 1],
      [2, 1, 12, Infinity, "r", 0],
      [0, 2, 15, Infinity, "r", 1],
    ]);
    assert.equal(made.running, 2);
    assert.deepEqual(made.lanes().map((lane) => lane.bars), [[0, 2], [1, 3]]);
  });

  test("workers have lanes of their own, above the others", () => {
    const made = told([
      [10, 0, "r"],
      [10, 1, "r", 2],
      [10, 2, "r", 1],
      [11, 3, "r", 2],
      [12, 1, "d", 2],
    ]);
    assert.deepEqual(made.lanes(), [
      { worker: 1, bars: [2] },
      { worker: 2, bars: [1] },
      { worker: 2, bars: [3] },
      { worker: 0, bars: [0] },
    ]);
  });

  test("a worker that becomes known later takes its bar along", () => {
    const made = told([[10, 0, "r"], [10, 1, "r"]]);
    const { version } = made;
    made.assign([1, 3]);
    assert.deepEqual(made.lanes().map(({ worker }) => worker), [3, 0]);
    assert.notEqual(made.version, version);
    made.assign([1, 3, 99, 1]);
    assert.equal(made.version, version + 1);
  });

  for (const size of [1, 3, 7, 50]) {
    test(`what comes late is put where it belongs: batches of ${size}`, () => {
      const rows = runs(9, 400);
      const whole = told(rows);
      const made = story.makeStory();
      // each batch lacks the rows of one task, which come with the next one
      /** @type {Row[]} */
      let late = [];
      for (let i = 0; i < rows.length; i += size) {
        const batch = rows.slice(i, i + size);
        const held = batch.filter(([, task]) => task === (i / size) % 9);
        const again = new Set(late.map(([, task]) => task));
        const now = [...late, ...batch.filter((row) => !held.includes(row) || again.has(row[1]))];
        late = held.filter(([, task]) => !again.has(task));
        made.add(columns(now));
      }
      made.add(columns(late));
      assert.equal(made.count, whole.count);
      const [a, b] = [made, whole].map((of) =>
        Array.from({ length: of.count }, (_, i) => [of.when[of.order[i]], of.task[of.order[i]], of.letter[of.order[i]], of.before[of.order[i]]]),
      );
      assert.deepEqual(a, b);
      assert.deepEqual(bars(made), bars(whole));
      assert.deepEqual(made.stretches, whole.stretches);
    });
  }

  test("equal times keep the order in which they came", () => {
    const made = told([[10, 0, "r"], [10, 0, "d"], [10, 1, "r"]], [[10, 1, "f"], [10, 0, "p"]]);
    assert.deepEqual([...made.order.slice(0, 5)], [0, 1, 2, 3, 4]);
  });

  test("a hundred thousand attempts are taken in quickly", () => {
    /** @type {Row[]} */
    const rows = [];
    for (let i = 0; i < 100_000; i++) rows.push([i / 1000, i, "r"], [i / 1000 + 0.0095, i, "d"]);
    rows.sort(([a], [b]) => a - b);
    const data = columns(rows);
    const began = performance.now();
    const made = story.makeStory();
    made.add(data);
    assert.equal(made.bars, 100_000);
    assert.ok(made.lanes().length <= 11, `${made.lanes().length} lanes`);
    assert.ok(performance.now() - began < 2000, `${performance.now() - began} ms`);
  });
});

suite("the axis", () => {
  const made = told([
    [100, 0, "r"],
    [104, 0, "f"],
    [400, 0, "p"],
    [500, 0, "r"],
    [502, 0, "d"],
  ]);

  test("time in which nothing runs is cut out", () => {
    const [first, second] = made.stretches;
    assert.deepEqual([first, second.start, second.end], [{ start: 100, end: 104, u: 0 }, 500, 502]);
    assert.ok(second.u > 4 && second.u < 5);
    assert.equal(story.toAxis(made.stretches, 101), 1);
    assert.equal(story.toAxis(made.stretches, 501), second.u + 1);
    for (const time of [100, 102.5, 500, 501, 502]) {
      assert.ok(Math.abs(story.toTime(made.stretches, story.toAxis(made.stretches, time)) - time) < 1e-9);
    }
  });

  test("short waits stay", () => {
    assert.equal(told([[100, 0, "r"], [104, 0, "d"], [106, 1, "r"], [107, 1, "d"]]).stretches.length, 1);
  });

  test("nothing has run", () => {
    assert.equal(story.toAxis([], 5), 0);
    assert.equal(story.toTime([], 5), 0);
  });

  for (const [seconds, step] of [[0.0000012, 0.000002], [0.013, 0.02], [0.3, 0.5], [0.9, 1], [6, 10], [11, 15], [31, 60], [4000, 7200], [100_000, 172_800]]) {
    test(`the next round time from ${seconds} s on is ${step} s`, () => {
      assert.ok(Math.abs(story.roundUp(seconds) - step) < step * 1e-6);
    });
  }

  for (const [seconds, step, text] of /** @type {[number, number, string][]} */ ([
    [0, 1, "0"],
    [0.00002, 0.00001, "20 µs"],
    [0.02, 0.01, "20 ms"],
    [0.0205, 0.0005, "20.5 ms"],
    [0.5, 0.1, "0.5 s"],
    [1.25, 0.05, "1.25 s"],
    [30, 10, "30 s"],
    [90, 30, "1 min 30 s"],
    [120, 60, "2 min"],
    [3600, 600, "1 h"],
    [4500, 900, "1 h 15 min"],
  ])) {
    test(`a tick at ${seconds} s says ${text}`, () => assert.equal(story.tickText(seconds, step), text));
  }
});

suite("what is drawn", () => {
  const rank = (/** @type {number} */ letter) => "frdp".indexOf(String.fromCharCode(letter));

  test("bars in one pixel are one, which looks like the most urgent of them", () => {
    const starts = [0, 0.2, 0.4, 5, 5.3, 20];
    const letters = [..."dfdddd"].map((letter) => letter.charCodeAt(0));
    const pieces = story.seen(
      [0, 1, 2, 3, 4, 5],
      (bar) => starts[bar],
      (bar) => starts[bar] + (bar === 5 ? 30 : 0.1),
      (bar) => letters[bar],
      100,
      rank,
    );
    assert.deepEqual(
      pieces.map(({ x, bar, letter }) => [x, bar, String.fromCharCode(letter)]),
      [[0, -1, "f"], [5, -1, "d"], [20, 5, "d"]],
    );
  });

  test("only what is in the pane", () => {
    const pieces = story.seen(Array.from({ length: 100_000 }, (_, i) => i), (bar) => bar * 10 - 500_000, (bar) => bar * 10 - 499_991, () => 100, 95, rank);
    assert.deepEqual(pieces.map(({ x }) => x), [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
  });

  test("a text is cut to its room", () => {
    const measure = (/** @type {string} */ text) => text.length * 6;
    assert.equal(story.shortened("clean", 30, measure), "clean");
    assert.equal(story.shortened("clean the rows", 40, measure), "clean…");
    assert.equal(story.shortened("clean", 12, measure), "");
  });
});

suite("a replay", () => {
  /** The letter of each box after `moment` rows, the slow way. @param {Row[]} rows @param {number[]} boxOf @param {number} boxes @param {string} urgency @param {number} moment */
  function slowly(rows, boxOf, boxes, urgency, moment) {
    const letters = boxOf.map(() => "p");
    for (const [, task, letter] of rows.slice(0, moment)) letters[task] = letter;
    return Array.from({ length: boxes }, (_, box) => {
      const inside = letters.filter((_, task) => boxOf[task] === box);
      if (inside.length === 1) return inside[0];
      return [...urgency].find((letter) => inside.some((each) => (each === "v" ? "f" : each) === letter)) ?? "u";
    }).join("");
  }

  test("shows what was, forwards and backwards, single and folded boxes", () => {
    const rows = runs(12, 300);
    const boxOf = [0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 0xffffffff];
    const urgency = "frqcaepd";
    const made = told(rows);
    const film = story.replay(made, Uint32Array.from(boxOf), 5, urgency);
    const next = drawn();
    for (let i = 0; i < 200; i++) {
      const moment = i < 20 ? i : next(rows.length + 1);
      assert.equal(film.at(moment), slowly(rows, boxOf, 5, urgency, moment), `after ${moment}`);
    }
    assert.equal(film.at(1e9), slowly(rows, boxOf, 5, urgency, rows.length));
  });

  test("what comes late is in it", () => {
    const made = told([[10, 0, "r"], [12, 0, "d"]]);
    const film = story.replay(made, Uint32Array.of(0, 1), 2, "frqcaepd");
    assert.equal(film.at(2), "dp");
    made.add(columns([[11, 1, "r"]]));
    assert.equal(film.at(2), "rr");
    assert.equal(film.at(3), "dr");
  });

  test("tasks begin as they began", () => {
    const made = told([[10, 1, "p"]]);
    made.starts(Uint8Array.from("dd", (letter) => letter.charCodeAt(0)));
    const film = story.replay(made, Uint32Array.of(0, 1), 2, "frqcaepd");
    assert.deepEqual([film.at(0), film.at(1), String.fromCharCode(made.before[0])], ["dd", "dp", "d"]);
  });

  test("waits in which nothing ran are cut short, others stay", () => {
    const made = told([[10, 0, "r"], [20, 0, "f"], [500, 0, "p"], [500.5, 0, "r"], [501, 0, "d"]]);
    assert.deepEqual([...story.paces(made)], [0, 10, 11, 11.5, 12]);
  });

  test("three hundred thousand transitions are jumped over quickly", () => {
    const made = told(runs(1000, 300_000));
    const film = story.replay(made, Uint32Array.from({ length: 1000 }, (_, i) => i % 200), 200, "frqcaepd");
    film.at(made.count);
    const began = performance.now();
    for (let i = 0; i < 10; i++) film.at(i % 2 ? made.count : 0);
    assert.ok(performance.now() - began < 2000, `${(performance.now() - began) / 10} ms each`);
  });
});

suite("a long list", () => {
  test("shows what is scrolled to", () => {
    assert.deepEqual(story.rowsSeen(240, 100, 1000, 24), { height: 24000, first: 8, last: 17, top: 192 });
    assert.deepEqual(story.rowsSeen(0, 100, 0, 24), { height: 0, first: 0, last: 0, top: 0 });
  });

  test("however long it is, its ends can be reached", () => {
    const count = 3_000_000;
    const start = story.rowsSeen(0, 240, count, 24);
    const end = story.rowsSeen(8e6 - 240, 240, count, 24);
    assert.equal(start.height, 8e6);
    assert.deepEqual([start.first, end.last], [0, count]);
    assert.ok(end.top + (end.last - end.first) * 24 <= 8e6 + 1);
    for (const at of [0, 5, 1_234_567, count - 1]) {
      const { first, last } = story.rowsSeen(story.scrolledTo(4e6, 240, count, 24, at), 240, count, 24);
      assert.ok(first <= at && at < last, `${first} ${at} ${last}`);
    }
  });

  test("moves as little as it must", () => {
    assert.equal(story.scrolledTo(100, 240, 100, 24, 8), 100);
    assert.equal(story.scrolledTo(100, 240, 100, 24, 0), 0);
    assert.equal(story.scrolledTo(0, 240, 100, 24, 20), 21 * 24 + 48 - 240);
  });
});

suite("the panels", () => {
  /** @type {HTMLElement} */
  let el;
  /** @type {(() => void) | undefined} */
  let end;
  const getContext = window.HTMLCanvasElement.prototype.getContext;

  beforeEach(() => {
    mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_000_000 });
    window.HTMLCanvasElement.prototype.getContext = /** @type {any} */ (() => null); // jsdom paints nothing
    el = document.body.appendChild(document.createElement("div"));
  });

  afterEach(() => {
    end?.();
    end = undefined;
    document.body.replaceChildren();
    window.HTMLCanvasElement.prototype.getContext = getContext;
    mock.timers.reset();
  });

  /** @type {Row[]} */
  const ROWS = [
    [10, 0, "r"],
    [11, 0, "d"],
    [11, 1, "r"],
    [12, 1, "f"],
  ];

  /** A view, and the kernel's side of its record. @param {Parameters<typeof makeModel>[0]} [changes] */
  function shown(changes) {
    const model = makeModel(changes);
    end = graph.render({ model, el }, { record, details });
    const data = (/** @type {{buffer: ArrayBuffer | SharedArrayBuffer}} */ { buffer }) => new DataView(/** @type {ArrayBuffer} */ (buffer));
    return {
      model,
      asked: () => model.sent.filter(({ verb }) => verb === "record").map(({ from, names }) => (names ? [from, names] : from)),
      /** @param {Row[]} rows @param {number} from @param {object} [more] */
      rows(rows, from, more = {}) {
        const { when, task, letter, worker } = columns(rows);
        const message = { part: "record", from, count: rows.length, total: from + rows.length, now: 1000, patch: [], ...more };
        model.fire("msg:custom", message, [when, task, letter, worker].map(data));
      },
      structure(names = { 0: "load", 1: "fit", 2: "report" }, boxOf = [0, 1, 2]) {
        const message = { part: "record", boxes: boxOf.map(String), tasks: 3, urgency: "frqcaepd", names };
        model.fire("msg:custom", message, [data(Uint32Array.from(boxOf)), data(Uint8Array.from("ppp", (letter) => letter.charCodeAt(0)))]);
      },
      /** @param {number[]} path */
      critical(path) {
        model.fire("msg:custom", { part: "record", critical: { tasks: path.length / 2, seconds: 2, of: 3 } }, [data(Uint32Array.from(path))]);
      },
    };
  }

  /** @param {string} text */
  function press(text) {
    const found = [...el.querySelectorAll("button")].filter((each) => each.textContent === text || each.getAttribute("aria-label") === text);
    assert.equal(found.length, 1, `${found.length} buttons say ${text}`);
    found[0].click();
  }

  /** @param {string} selector @returns {HTMLElement} */
  const one = (selector) => {
    const found = el.querySelectorAll(selector);
    assert.equal(found.length, 1, `${found.length} elements are ${selector}`);
    return /** @type {HTMLElement} */ (found[0]);
  };
  const states = () => [...el.querySelectorAll(".node")].map((node) => /** @type {HTMLElement} */ (node).dataset.state).join(" ");
  const slider = () => /** @type {HTMLInputElement} */ (one(".tq-slider"));
  /** @param {number} to */
  function slide(to) {
    slider().value = String(to);
    slider().dispatchEvent(new window.Event("input", { bubbles: true }));
  }
  const key = (/** @type {Element} */ where, /** @type {string} */ name) =>
    where.dispatchEvent(new window.KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
  const run = () => [...el.querySelectorAll("button")].find((each) => each.textContent === "Run")?.getAttribute("aria-disabled");

  test("rows are asked for when a panel opens, and no more when it closes", () => {
    const { asked, rows } = shown();
    assert.deepEqual(asked(), []);
    press("Timeline");
    assert.deepEqual(asked(), [0]);
    rows(ROWS, 0);
    mock.timers.tick(30_000);
    assert.deepEqual(asked(), [0, 4]);
    press("Timeline");
    assert.deepEqual(asked(), [0, 4, -1]);
    mock.timers.tick(120_000);
    assert.deepEqual(asked(), [0, 4, -1]);
    press("History");
    assert.deepEqual(asked(), [0, 4, -1, 4]);
  });

  test("rows that are here already are left alone, and a gap is asked for", () => {
    const { asked, rows } = shown();
    press("History");
    rows(ROWS.slice(0, 2), 0);
    rows(ROWS.slice(0, 3), 0);
    assert.equal(el.querySelectorAll(".tq-step").length, 3);
    rows([[13, 1, "p"]], 4);
    assert.equal(el.querySelectorAll(".tq-step").length, 3);
    mock.timers.tick(2000);
    assert.deepEqual(asked(), [0, 3]);
    rows([ROWS[3], [13, 1, "p"]], 3);
    assert.equal(el.querySelectorAll(".tq-step").length, 5);
  });

  test("rows that do not come are asked for again", () => {
    const { asked, rows } = shown();
    press("History");
    rows(ROWS, 0, { total: 10 });
    assert.match(one(".tq-moment").textContent ?? "", /^Loading 4 of 10/);
    mock.timers.tick(2000);
    assert.deepEqual(asked(), [0, 4]);
  });

  test("names that are not known are asked for once", () => {
    const { asked, rows, structure } = shown();
    press("History");
    structure({ 0: "load", 1: "", 2: "" });
    rows([...ROWS, [13, 7, "r"]], 0);
    mock.timers.tick(1000);
    assert.deepEqual(asked(), [0, [5, [7]]]);
    rows([[14, 7, "d"]], 5);
    mock.timers.tick(1000);
    assert.equal(asked().length, 2);
  });

  test("the slider shows the graph as it was, and Live goes back", () => {
    const { model, rows, structure } = shown();
    press("History");
    structure();
    rows(ROWS, 0);
    assert.equal(states(), "done failed pending");
    slide(1);
    assert.equal(states(), "running pending pending");
    assert.match(one(".tq-past").textContent ?? "", /^Looking at \d\d:\d\d:10, 1 of 4 transitions/);
    slide(0);
    assert.equal(states(), "pending pending pending");
    assert.equal(run(), "true");
    model.put({ states: "ddr", counts: { DONE: 2, RUNNING: 1 } });
    assert.equal(states(), "pending pending pending");
    press("Live");
    assert.equal(states(), "done done running");
    assert.equal(slider().value, "4");
    assert.match(one(".tq-moment").textContent ?? "", /^Live/);
  });

  test("chips, progress and details are those of the moment that is shown, or say that they are not", () => {
    const { model, rows, structure } = shown({ details: failed() });
    const chips = () => [...el.querySelectorAll(".tq-chip:not([hidden])")].map((chip) => chip.textContent).join(" ");
    one('.node[data-at="1"]').dispatchEvent(new window.MouseEvent("click", { bubbles: true }));
    press("History");
    structure();
    rows([...ROWS, [13, 2, "r"], [13, 2, "v"]], 0);
    assert.equal(chips(), "1○pending 0►running 1✗failed 1✓done");
    assert.equal(one(".tq-earlier").hidden, true);
    slide(3);
    assert.equal(chips(), "1○pending 1►running 0✗failed 1✓done");
    assert.equal(one(".tq-gauge").getAttribute("aria-valuetext"), "1 of 3");
    assert.equal(one(".tq-earlier").textContent, "The graph shows another moment, when this was ►running. All below is of the latest.");
    slide(1);
    assert.equal(one(".tq-gauge").getAttribute("aria-valuetext"), "0 of 3");
    model.put({ counts: { DONE: 3 }, states: "ddd", progress: { ...model.get("progress"), done: 3 } });
    assert.equal(chips(), "2○pending 1►running 0✗failed 0✓done");
    assert.match(one(".tq-earlier").textContent ?? "", /○pending/);
    press("Live");
    assert.equal(chips(), "0○pending 0►running 0✗failed 3✓done");
    assert.equal(one(".tq-gauge").getAttribute("aria-valuetext"), "3 of 3");
    assert.equal(one(".tq-earlier").hidden, true);
  });

  test("back in the present, by either button, the list shows its newest line", () => {
    const { rows, structure } = shown();
    press("History");
    structure();
    rows(ROWS, 0);
    const pane = one(".tq-story");
    Object.defineProperties(pane, { clientHeight: { value: 48 }, scrollHeight: { value: 96 } });
    for (const back of [() => press("Live"), () => key(pane, "Escape")]) {
      slide(1);
      pane.dispatchEvent(new window.Event("scroll"));
      assert.equal(pane.scrollTop, 0);
      back();
      assert.equal(pane.scrollTop, 96);
    }
  });

  test("what fell with another counts as failed then", () => {
    const { rows, structure } = shown();
    press("History");
    structure();
    rows([...ROWS, [13, 2, "v"], [14, 2, "p"]], 0);
    slide(5);
    assert.match(one('.tq-chip[data-state="failed"]').textContent ?? "", /^2/);
  });

  test("n and p go to what had failed by itself at the moment that is shown", () => {
    const { model, rows, structure } = shown();
    const on = () => [...el.querySelectorAll(".tq-on")].map((/** @type {any} */ each) => each.dataset.at).join();
    const key = (/** @type {string} */ name) =>
      one('.node[data-at="0"]').dispatchEvent(new window.KeyboardEvent("keydown", { key: name, bubbles: true }));
    press("History");
    structure();
    // load fails, fit because of it; load is mended, and report fails: this is what is to be mended now
    const story = [[10, 0, "f"], [11, 1, "v"], [12, 2, "f"], [13, 0, "p"], [14, 0, "d"], [15, 1, "p"]];
    rows(/** @type {any} */ (story), 0);
    model.put({ states: "dpf", mending: { ...model.get("mending"), at: ["2"] } });

    slide(2);
    key("n");
    assert.equal(on(), "0");
    key("n");
    assert.equal(on(), "0");
    slide(3);
    key("p");
    assert.equal(on(), "2");
    key("n");
    assert.equal(on(), "0");
    slide(0);
    key("n"); // nothing had failed
    assert.equal(on(), "0");
    press("Live");
    key("n");
    assert.equal(on(), "2");
  });

  test("what happens meanwhile does not move the moment", () => {
    const { rows, structure } = shown();
    press("History");
    structure();
    rows(ROWS, 0);
    slide(2);
    rows([[14, 1, "p"], [15, 1, "r"]], 4);
    assert.deepEqual([slider().value, slider().max, states()], ["2", "6", "done pending pending"]);
    rows([[10.5, 2, "r"]], 6); // late: it had happened before that moment
    assert.deepEqual([slider().value, slider().max, states()], ["3", "7", "done pending running"]);
  });

  test("transitions are gone through by keys", () => {
    const { rows, structure } = shown();
    press("History");
    structure();
    rows(ROWS, 0);
    const list = one(".tq-story");
    key(list, "ArrowUp");
    assert.equal(states(), "done running pending");
    assert.equal(list.getAttribute("aria-activedescendant"), one('[aria-selected="true"]').id);
    assert.match(one('[aria-selected="true"]').textContent ?? "", /fit.*pending →.*running/);
    key(list, "Home");
    assert.equal(states(), "pending pending pending");
    key(list, "ArrowDown");
    assert.equal(states(), "running pending pending");
    key(list, "ArrowUp");
    assert.equal(states(), "pending pending pending");
    key(list, "ArrowDown");
    key(list, "ArrowDown");
    assert.equal(states(), "done pending pending");
    key(list, "Enter");
    assert.equal(one(".tq-on").dataset.at, "0");
    key(list, "Escape");
    assert.equal(states(), "done failed pending");
    press("One transition back");
    assert.equal(states(), "done running pending");
    press("One transition forward");
    assert.equal(one(".tq-past").hidden, true);
  });

  test("the list can be of the selected task alone", () => {
    const { rows, structure } = shown();
    press("History");
    structure();
    rows(ROWS, 0);
    const only = /** @type {HTMLInputElement} */ (one(".tq-check input"));
    assert.equal(only.disabled, true);
    one('.node[data-at="1"]').dispatchEvent(new window.MouseEvent("click", { bubbles: true }));
    assert.equal(one(".tq-check").textContent, "only fit");
    only.click();
    assert.deepEqual([...el.querySelectorAll(".tq-step")].map((row) => row.querySelector(".tq-who")?.textContent), ["fit", "fit"]);
    key(one(".tq-story"), "ArrowUp");
    assert.equal(states(), "done running pending");
    key(one(".tq-story"), "ArrowUp");
    assert.equal(states(), "pending pending pending");
    rows([[14, 0, "p"]], 4);
    press("Live");
    key(one(".tq-story"), "ArrowUp"); // load has moved since: the last line of fit is not the last of all
    assert.equal(states(), "done failed pending");
    key(one(".tq-story"), "ArrowUp");
    assert.equal(states(), "done running pending");
    key(one(".tq-story"), "End");
    assert.equal(one(".tq-past").hidden, true);
  });

  test("a drawing that has just changed shows no state that is not known", async () => {
    const unknown = { letter: "u", state: "unknown", word: "unknown", glyph: "?" };
    const { model, rows, structure } = shown({ looks: [...LOOKS, unknown] });
    press("History");
    structure();
    rows(ROWS, 0);
    slide(1);
    assert.equal(states(), "running pending pending");
    const boxes = model.get("boxes").map((box) => ({ ...box, at: String(2 - Number(box.at)) }));
    model.put({ boxes, states: "pfd" });
    await Promise.resolve();
    assert.equal(states(), "unknown unknown unknown");
    structure({ 0: "load", 1: "fit", 2: "report" }, [2, 1, 0]);
    assert.equal(states(), "pending pending running");
  });

  test("closing the history, or the view, shows the present", () => {
    const { rows, structure, model } = shown();
    press("History");
    structure();
    rows(ROWS, 0);
    slide(1);
    press("Timeline");
    assert.equal(states(), "done failed pending");
    assert.equal(one(".tq-past").hidden, true);
    press("History");
    slide(1);
    end?.();
    end = undefined;
    assert.equal(model.listening(), 0);
    assert.equal(model.sent.at(-1)?.from, -1);
  });

  test("the timeline says in words what it shows", () => {
    const { rows, structure, critical } = shown();
    press("Timeline");
    assert.match(one(".tq-chart .tq-empty").textContent ?? "", /Waiting/);
    structure();
    rows([...ROWS, [13, 1, "p"], [13, 1, "r"]], 0);
    assert.match(one(".tq-canvas").getAttribute("aria-label") ?? "", /^Timeline: 3 attempts in 1 lane, 1 running, 1 failed/);
    critical([0, 1, 1, 1]);
    assert.equal(one(".tq-critical").textContent, "Critical path: 2 tasks, 2.0 s of 3.0 s");
    press("List");
    const table = [...el.querySelectorAll(".tq-attempts tbody tr")].map((row) => [...row.children].slice(0, 3).map((cell) => cell.textContent));
    assert.deepEqual(table, [["load", "1", "✓done"], ["fit", "1", "✗failed"], ["fit", "2", "►running"]]);
  });

  test("what has just begun is listed, though nothing was painted since", () => {
    const { rows, structure } = shown();
    const last = () => [...el.querySelectorAll(".tq-attempts tr:last-child td")].slice(0, 3).map((cell) => cell.textContent);
    press("Timeline");
    structure();
    rows([[998, 0, "r"]], 0);
    press("Follow now");
    press("List");
    assert.deepEqual(last(), ["load", "1", "►running"]);
    mock.timers.tick(2000);
    rows([[1001.9, 0, "d"], [1001.9, 1, "r"]], 1, { now: 1002 });
    assert.deepEqual(last(), ["fit", "1", "►running"]);
  });

  test("bars are gone through by keys, and Enter selects", () => {
    const { rows, structure } = shown();
    press("Timeline");
    structure();
    rows([...ROWS, [11.5, 2, "r"]], 0);
    const canvas = one(".tq-canvas");
    key(canvas, "ArrowRight");
    assert.match(one(".tq-time .tq-live").textContent ?? "", /^load, attempt 1, done, began at/);
    key(canvas, "ArrowRight");
    assert.match(one(".tq-time .tq-live").textContent ?? "", /^fit, attempt 1, failed/);
    key(canvas, "ArrowDown");
    assert.match(one(".tq-time .tq-live").textContent ?? "", /^report, attempt 1, running/);
    key(canvas, "Enter");
    assert.equal(one(".tq-on").dataset.at, "2");
  });

  test("no timer and no frame is left", () => {
    /** @type {Map<unknown, string>} */
    const left = new Map();
    const { requestAnimationFrame, cancelAnimationFrame } = globalThis;
    const real = { setTimeout, clearTimeout, setInterval, clearInterval, requestAnimationFrame, cancelAnimationFrame };
    let frames = 0;
    for (const name of /** @type {const} */ (["setTimeout", "setInterval"])) {
      globalThis[name] = /** @type {any} */ ((/** @type {() => void} */ does, /** @type {number} */ ms) => {
        const timer = real[name](() => {
          if (name === "setTimeout") left.delete(timer);
          does();
        }, ms);
        left.set(timer, name);
        return timer;
      });
    }
    for (const name of /** @type {const} */ (["clearTimeout", "clearInterval"])) {
      globalThis[name] = (/** @type {any} */ timer) => {
        left.delete(timer);
        real[name](timer);
      };
    }
    globalThis.requestAnimationFrame = () => {
      left.set(++frames, "frame");
      return frames;
    };
    globalThis.cancelAnimationFrame = (frame) => void left.delete(frame);
    try {
      const { rows, structure, critical } = shown();
      const before = [...left.values()];
      for (const panel of ["History", "Timeline"]) {
        press(panel);
        structure({ 0: "load", 1: "", 2: "" });
        rows([...ROWS, [13, 9, "r"]], 0, { total: 20 });
        critical([0, 1]);
        if (panel === "History") press("Play");
        else press("List");
        assert.ok(left.size > before.length + 2, [...left.values()].join());
        press(panel);
        assert.deepEqual([...left.values()], before, panel);
      }
    } finally {
      Object.assign(globalThis, real);
    }
  });

  test("a line that stays is the same element, also when others come", () => {
    const { rows, structure } = shown();
    press("History");
    structure();
    rows(ROWS, 0);
    const before = [...el.querySelectorAll(".tq-step")];
    rows([[14, 2, "r"]], 4);
    const after = [...el.querySelectorAll(".tq-step")];
    assert.equal(after.length, 5);
    before.forEach((line, i) => assert.equal(after[i], line));
    slide(2);
    assert.equal(el.querySelector('[aria-selected="true"]'), before[1]);
  });

  test("a kernel that is gone is asked nothing", () => {
    const { model, asked, rows } = shown();
    press("Timeline");
    rows(ROWS, 0);
    model.fire("comm_live_update");
    mock.timers.tick(600_000);
    press("Timeline");
    assert.deepEqual(asked(), [0]);
  });
});
