// @ts-check
import assert from "node:assert/strict";
import { afterEach, suite, test } from "node:test";

import { failed, traits, window } from "./page.mjs";

const { document } = window;
const page = await import("../../taskqueue_nb/static/page.js");

/** @typedef {import("../../taskqueue_nb/static/types.js").Saved} Saved */

/** What a page of three tasks holds. @param {Partial<Saved>} [changes] @returns {Saved} */
function saved(changes = {}) {
  const details = { 1: { ...failed({ editable: false, suppliable: false, cell: undefined, actions: [] }), traceback: { $: 0 } } };
  return {
    traits: traits({ still: true }),
    details: JSON.parse(JSON.stringify(details)),
    values: ["Traceback: the value is missing"],
    rows: [
      ["0", "load", "d", 1, 5, 0.5, "", 0],
      ["1", "fit", "f", 2, 6, 0.25, "ValueError", 1],
      ["2", "report", "p", 0, null, null, "", 1],
    ],
    urgency: "frqcaepd",
    rest: "Its details were left out.",
    record: [],
    ...changes,
  };
}

/** @param {number} i @param {string} name @returns {import("../../taskqueue_nb/static/types.js").Row} */
const row = (i, name) => [String(i), name, "d", 1, i, 0.1, "", 0];

/** Build the page around what was saved, as the kernel writes it. @param {Saved} data */
function opened(data) {
  const holder = document.createElement("script");
  holder.type = "application/json";
  holder.id = "tq-saved";
  holder.textContent = JSON.stringify(data);
  const still = document.createElement("section");
  still.id = "tq-still";
  const tools = document.createElement("div");
  tools.id = "tq-tools";
  document.body.append(tools, still, holder);
  page.show();
}

afterEach(() => {
  document.body.replaceChildren();
  document.documentElement.removeAttribute("class");
  document.documentElement.removeAttribute("data-theme");
});

/** @param {string} selector @returns {HTMLElement} */
function one(selector) {
  const found = document.querySelectorAll(selector);
  assert.equal(found.length, 1, `${found.length} elements are ${selector}`);
  return /** @type {HTMLElement} */ (found[0]);
}

/** @param {Element} element @param {string} type @param {object} [options] */
function fire(element, type, options = {}) {
  const Kind = type.startsWith("key") ? window.KeyboardEvent : window.Event;
  element.dispatchEvent(new Kind(type, { bubbles: true, cancelable: true, ...options }));
}

suite("a record", () => {
  test("a look is answered at once, with values that stand elsewhere", () => {
    const model = page.recorded(saved());
    let heard = 0;
    model.on("change:details", () => heard++);

    model.send({ verb: "look", at: "1" });

    const details = /** @type {import("../../taskqueue_nb/static/types.js").Details} */ (model.get("details"));
    assert.equal(heard, 1);
    assert.equal(details.label, "fit");
    assert.equal(details.traceback, "Traceback: the value is missing");
  });

  test("of what was left out it says so", () => {
    const known = page.told("2", saved());

    assert.deepEqual(known, { at: "2", label: "report", letter: "p", why: "Its details were left out." });
  });

  test("nothing that acts is heard", () => {
    const model = page.recorded(saved());
    const before = JSON.stringify([model.get("states"), model.get("counts"), model.get("boxes")]);

    for (const verb of ["run", "retry", "repair", "part", "unfold", "fold", "around"]) model.send({ verb, at: "1" });

    assert.equal(JSON.stringify([model.get("states"), model.get("counts"), model.get("boxes")]), before);
    assert.deepEqual(model.get("answers"), []);
  });

  test("the table is sorted, filtered and turned as the kernel does", () => {
    /** @param {Partial<Parameters<typeof page.tabled>[0]>} [order] @param {Partial<Saved>} [changes] */
    const ats = (order = {}, changes = {}) => {
      const whole = { column: "order", down: false, start: 0, text: "", states: "", ...order };
      return page.tabled(whole, saved(changes)).rows.map(([at]) => at).join("");
    };

    assert.equal(ats(), "012");
    assert.equal(ats({ column: "name" }), "102");
    assert.equal(ats({ column: "state" }), "120");
    assert.equal(ats({ column: "took" }), "102");
    assert.equal(ats({ column: "took", down: true }), "012"); // without a value: last either way
    assert.equal(ats({ column: "error" }), "102");
    assert.equal(ats({ column: "required", down: true }), "120"); // equal ones are not turned round
    assert.equal(ats({ states: "fp" }), "12");
    assert.equal(ats({ text: "RPT" }), "2");
    const many = { rows: Array.from({ length: 120 }, (_, i) => row(i, `part ${i}`)) };
    assert.equal(page.tabled({ column: "order", down: true, start: 100, text: "", states: "" }, saved(many)).rows.length, 20);
    assert.equal(page.tabled({ column: "order", down: true, start: 900, text: "", states: "" }, saved(many)).start, 100);
  });

  test("what has happened is told once, behind whoever asked, and names whenever they are wanted", async () => {
    const when = Buffer.from(new Float64Array([5, 6]).buffer).toString("base64");
    const model = page.recorded(saved({ record: [[{ part: "record", count: 2 }, [when]]] }));
    /** @type {any[]} */
    const heard = [];
    model.on("msg:custom", (message, buffers) => heard.push([message, buffers]));

    model.send({ verb: "record", from: 0, view: "a" });
    assert.equal(heard.length, 0);
    await Promise.resolve();
    model.send({ verb: "record", from: 0, view: "a" });
    model.send({ verb: "record", from: -1, view: "a" });
    model.send({ verb: "record", from: 2, view: "a", names: [2, 7] });
    await Promise.resolve();

    const [[rows, [times]], [{ names }], [late], ...more] = heard;
    assert.equal(rows.count, 2);
    assert.deepEqual([times.getFloat64(0, true), times.getFloat64(8, true)], [5, 6]);
    assert.deepEqual(names, { 0: "load", 1: "fit", 2: "report" });
    assert.deepEqual(late.names, { 2: "report" });
    assert.deepEqual(more, []);
  });

  test("who no longer listens hears nothing", () => {
    const model = page.recorded(saved());
    const does = () => assert.fail();
    model.on("change:details", does);
    model.off("change:details", does);

    model.send({ verb: "look", at: "1" });
  });

  test("tasks are found by their names, the best first", () => {
    const names = ["unfit", "fit[Adelie]", "load", "re fit", "f…i…t", "Fit"];
    const { hits, total } = page.sought(" fit ", saved({ rows: names.map((name, i) => row(i, name)) }));

    assert.deepEqual(hits.map(([at]) => names[Number(at)]), ["Fit", "fit[Adelie]", "re fit", "unfit", "f…i…t"]);
    assert.equal(total, 5);
    assert.deepEqual(hits[2], ["3", "re fit", "d"]);
    assert.deepEqual(page.sought("  ", saved()).hits, []);
    assert.equal(page.sought("zz", saved()).total, 0);
  });
});

suite("the page", () => {
  test("it is the live view without anything that acts", () => {
    opened(saved());

    assert.equal(document.querySelector('[role="toolbar"]'), null);
    assert.ok(document.documentElement.classList.contains("tq-shown"));
    assert.equal(document.querySelectorAll(".node").length, 3);
    fire(one('.node[data-at="1"]'), "click");
    assert.match(one(".tq-side").textContent ?? "", /the value is missing/);
    assert.equal(document.querySelectorAll(".tq-side [data-verb]").length, 0);
    const off = [...document.querySelectorAll("button")].filter((b) => b.getAttribute("aria-disabled") === "true");
    assert.deepEqual(off.filter((b) => !b.closest("[hidden]")).map((b) => b.textContent), []);
  });

  test("keys of the graph that ask a kernel leave things as they are", () => {
    opened(saved());
    const node = one('.node[data-at="1"]');
    fire(node, "click");

    for (const key of ["u", "f", "a"]) fire(node, "keydown", { key });

    assert.equal(one(".tq-side").hidden, false);
    assert.equal(document.querySelectorAll(".node").length, 3);
  });

  test("typing finds a task, Enter goes to it", () => {
    opened(saved());
    const input = /** @type {HTMLInputElement} */ (one(".tq-find"));
    input.focus();
    input.value = "fi";
    fire(input, "input");

    assert.equal(one(".tq-hit").textContent, "✗fitfailed");
    fire(input, "keydown", { key: "Enter" });
    assert.equal(one(".tq-title").textContent, "fit");
  });

  test("the table has every task, and leads to it", () => {
    opened(saved());
    one('[data-panel="table"]').click();

    assert.equal(document.querySelectorAll(".tq-tasks tbody tr").length, 3);
    one('.tq-to[data-at="1"]').click();
    assert.equal(one(".tq-title").textContent, "fit");
  });

  test("a button changes the theme and says what it will do", () => {
    opened(saved());
    const button = one(".tq-theme");
    assert.equal(button.textContent, "Dark");

    button.click();
    assert.equal(document.documentElement.dataset.theme, "dark");
    assert.equal(button.textContent, "Light");
    button.click();
    assert.equal(document.documentElement.dataset.theme, "light");
  });

  test("without a record there is no way to it", () => {
    opened(saved());
    assert.ok(one(".tq-record").classList.contains("tq-unrecorded"));
    assert.equal(one('[data-panel="table"]').hidden, false);
  });

  test("what cannot be read leaves the still picture", () => {
    assert.throws(() => opened(/** @type {any} */ ({})));

    assert.ok(!document.documentElement.classList.contains("tq-shown"));
    assert.ok(one("#tq-still"));
  });
});
