// @ts-check
import assert from "node:assert/strict";
import { mock, suite, test } from "node:test";

import { drawn, failed, LOOKS, window } from "./page.mjs";
import { all, button, details, fire, graph, node, off, one, press, settled, shown, view } from "./view.mjs";

const { document } = window;
const pane = await import("../../taskqueue_nb/static/pane.js");
const { duration } = await import("../../taskqueue_nb/static/elements.js");

suite("pure functions", () => {
  test("a drawing keeps what a picture needs and nothing else", () => {
    const svg = pane.safeSvg(
      `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" onload="x()">
       <script>x()</script><style>*{}</style><foreignObject><p xmlns="http://www.w3.org/1999/xhtml">x</p></foreignObject>
       <a xlink:href="javascript:x()"><text>link</text></a><image href="http://x/"/><set attributeName="href"/>
       <g id="t0" class="node" onclick="x()" style="color:red"><path d="M0,0" fill="url(#x)"/><text>a &lt;b&gt;</text></g></svg>`,
    );

    const names = [...svg.querySelectorAll("*")].map((element) => element.localName);
    const attributes = [svg, ...svg.querySelectorAll("*")].flatMap((e) => e.getAttributeNames());

    assert.deepEqual(names, ["g", "path", "text"]);
    assert.deepEqual(attributes, ["id", "class", "d"]);
    assert.equal(svg.textContent?.trim(), "a <b>");
  });

  test("what is no drawing is refused", () => {
    assert.throws(() => pane.safeSvg("<p>no</p>"), /not an SVG/);
    assert.throws(() => pane.safeSvg("<svg"), /not an SVG/);
  });

  test("only boxes whose letter changed are painted, or all when their number did", () => {
    assert.deepEqual(pane.changed("ppp", "pdp"), [1]);
    assert.deepEqual(pane.changed("pp", "ppp"), [0, 1, 2]);
  });

  test("a fitted view holds all of the drawing, in the middle, never blown up", () => {
    const big = pane.fitted({ x: 0, y: 0, width: 1000, height: 100 }, { width: 528, height: 400 });
    const small = pane.fitted({ x: 0, y: 0, width: 10, height: 10 }, { width: 500, height: 400 });

    assert.equal(big.k, 0.5);
    assert.deepEqual([big.x, big.y], [14, 175]);
    assert.equal(small.k, 1.25);
  });

  test("zooming holds the point under the pointer still, and has bounds", () => {
    const before = { x: 10, y: 20, k: 1 };
    const after = pane.zoomed(before, 2, { x: 110, y: 70 });

    assert.deepEqual((110 - after.x) / after.k, (110 - before.x) / before.k);
    assert.deepEqual((70 - after.y) / after.k, (70 - before.y) / before.k);
    assert.equal(pane.zoomed(before, 1e9, { x: 0, y: 0 }).k, 8);
    assert.equal(pane.zoomed(before, 1e-9, { x: 0, y: 0 }).k, 0.05);
  });

  test("a box is brought into the pane by as little as that takes", () => {
    const view = { x: 0, y: 0, k: 1 };
    const size = { width: 200, height: 100 };

    assert.deepEqual(pane.revealed(view, { x: 50, y: 40, width: 20, height: 20 }, size), view);
    assert.deepEqual(pane.revealed(view, { x: 190, y: 40, width: 20, height: 20 }, size), { x: -28, y: 0, k: 1 });
    assert.deepEqual(pane.revealed(view, { x: -30, y: 40, width: 20, height: 20 }, size), { x: 48, y: 0, k: 1 });
  });

  test("an arrow goes to the nearest box in its direction, or nowhere", () => {
    const points = [{ x: 0, y: 0 }, { x: 100, y: 50 }, { x: 100, y: -10 }, undefined, { x: 300, y: 0 }];

    assert.equal(pane.neighbour(points, 0, "ArrowRight"), 2);
    assert.equal(pane.neighbour(points, 2, "ArrowDown"), 1);
    assert.equal(pane.neighbour(points, 0, "ArrowLeft"), 0);
    assert.equal(pane.neighbour(points, 3, "ArrowLeft"), 3);
  });

  test("an arrow walks along a requirement before it goes to what is merely near", () => {
    const points = [{ x: 0, y: 0 }, { x: 100, y: 0 }, { x: 100, y: 60 }, { x: 200, y: 0 }];
    const edges = [{ from: 0, to: 2 }, { from: 1, to: 3 }];

    assert.equal(pane.along(points, edges, 0, "ArrowRight"), 2);
    assert.equal(pane.along(points, edges, 2, "ArrowLeft"), 0);
    assert.equal(pane.along(points, edges, 2, "ArrowUp"), 1); // across the requirements it goes to what is near
    const turned = points.map(({ x, y }) => ({ x: y, y: x }));
    assert.equal(pane.along(turned, edges, 0, "ArrowDown"), 2);
    assert.equal(pane.along(turned, edges, 2, "ArrowLeft"), 1);
    assert.equal(pane.along(points, edges, 3, "ArrowRight"), 3);
  });

  test("times are for people", () => {
    const times = [0.0312, 2.34, 42, 125, 599.6, 3000, 7260].map(duration);
    const left = [0.2, 7.4, 31, 140, 9000].map(graph.timeLeft);

    assert.deepEqual(times, ["31 ms", "2.3 s", "42 s", "2 min 5 s", "10 min 0 s", "50 min", "2 h 1 min"]);
    assert.deepEqual(left, ["about 1 s left", "about 7 s left", "about 35 s left", "about 2 min left", "about 2.5 h left"]);
  });

  test("next and previous go round, and begin at the ends", () => {
    const places = ["4", "7", "9"];

    assert.deepEqual(["4", "9", "5"].map((from) => graph.turned(places, from, 1)), ["7", "4", "4"]);
    assert.deepEqual(["4", "9", "5"].map((from) => graph.turned(places, from, -1)), ["9", "7", "9"]);
    assert.equal(graph.turned([], "4", 1), undefined);
  });

  test("counts are said in words", () => {
    assert.equal(graph.counted({ FAILED: 2, PENDING: 1 }, LOOKS), "1 pending, 2 failed");
  });
});

suite("the graph", () => {
  test("each box has its state, for the eye and for a screen reader", () => {
    shown();

    assert.equal(node("1").dataset.state, "failed");
    assert.equal(node("1").getAttribute("aria-label"), "fit: failed: ValueError");
    assert.equal(node("1").querySelector("title")?.textContent, "fit: failed: ValueError");
    assert.equal(node("1").querySelector(".word")?.textContent, "failed: ValueError");
    assert.equal(node("0").querySelector(".word")?.textContent, "done");
    assert.equal(node("0").querySelector(".glyph")?.textContent, "✓");
  });

  test("a new state is painted without a new drawing; the selection stays", () => {
    const model = shown();
    const before = node("2");
    fire(node("1"), "click");

    model.put({ states: "ddd" });

    assert.equal(before, node("2"));
    assert.equal(node("2").dataset.state, "done");
    assert.ok(node("1").classList.contains("tq-on"));
  });

  test("a new structure keeps selection, zoom and tab stop", async () => {
    const model = shown();
    fire(node("1"), "click");
    button("+").click();
    const transform = one(".tq-sheet").getAttribute("transform");
    const labels = ["load", "fit", "report", "more"];

    model.put({
      svg: drawn(labels),
      boxes: labels.map((label, i) => ({ at: String(i), label, size: 1, of: "" })),
      states: "dfpp",
    });
    await settled();

    assert.equal(one(".tq-sheet").getAttribute("transform"), transform);
    assert.ok(node("1").classList.contains("tq-on"));
    assert.equal(node("1").getAttribute("tabindex"), "0");
    assert.equal(node("3").dataset.state, "pending");
  });

  test("there is one tab stop, and it follows the keys", () => {
    shown();
    const stops = () => [...view.el.querySelectorAll('.node[tabindex="0"]')].map((n) => n.getAttribute("data-at"));

    assert.deepEqual(stops(), ["0"]);
    press(node("0"), "End");
    assert.deepEqual(stops(), ["2"]);
    press(node("2"), "Home");
    assert.deepEqual(stops(), ["0"]);
  });

  test("Enter and space select; Escape ends it", () => {
    const model = shown();

    press(node("1"), "Enter");
    assert.deepEqual(model.sent, [{ verb: "look", at: "1" }]);
    assert.equal(one(".tq-side").hidden, false);
    press(one(".tq-side"), "Escape");
    assert.equal(one(".tq-side").hidden, true);
    press(node("2"), " ");
    assert.ok(node("2").classList.contains("tq-on"));
  });

  test("no id of a drawing stays in the page, where two views could clash", () => {
    shown();
    assert.deepEqual([...view.el.querySelectorAll(".tq-pane [id]")], []);
  });

  test("every element that can have the focus keeps the notebook's shortcuts away", () => {
    const model = shown();
    fire(node("1"), "click");
    model.put({ details: failed({ output: "said", result: { type: "int", text: "3" } }) });

    const focusable = view.el.querySelectorAll("button, input, textarea, summary, [tabindex]");
    const bare = [...focusable].filter((e) => e.getAttribute("data-lm-suppress-shortcuts") !== "true");

    assert.ok(focusable.length > 20);
    assert.deepEqual(bare.map((e) => e.outerHTML), []);
  });

  test("chips count and filter", () => {
    shown();
    const chip = /** @type {HTMLElement} */ (one('.tq-chip[data-state="failed"]'));

    assert.equal(chip.textContent, "1✗failed");
    chip.click();
    assert.deepEqual([...view.el.querySelectorAll(".tq-dim")].map((n) => n.getAttribute("data-at")), ["0", "2"]);
    assert.equal(chip.getAttribute("aria-pressed"), "true");
    chip.click();
    assert.equal(view.el.querySelectorAll(".tq-dim").length, 0);
  });

  test("chips have room for as many digits as there can be, so that a count that grows moves nothing", () => {
    const model = shown({ counts: { PENDING: 310 } });
    const room = () => one(".tq-chips").style.getPropertyValue("--tq-digits");

    assert.equal(room(), "3");
    model.put({ counts: { PENDING: 4, DONE: 305, FAILED: 1 } });
    assert.equal(room(), "3");
  });

  test("what fell with another task is failed, but no cause", () => {
    const model = shown({ states: "dfv", says: {}, counts: { DONE: 1, FAILED: 2 } });
    const victims = () => [...view.el.querySelectorAll('.node[data-victim="true"]')].map((n) => n.getAttribute("data-at"));
    const chip = /** @type {HTMLElement} */ (one('.tq-chip[data-state="failed"]'));

    assert.deepEqual(victims(), ["2"]);
    assert.equal(node("2").getAttribute("data-state"), "failed");
    assert.equal(view.el.querySelectorAll('.tq-chip[data-state="failed"]').length, 1);
    assert.equal(chip.textContent, "2✗failed");
    chip.click();
    assert.deepEqual([...view.el.querySelectorAll(".tq-dim")].map((n) => n.getAttribute("data-at")), ["0"]);
    model.put({ states: "dfp" });
    assert.deepEqual(victims(), []);
  });

  test("without an engine the tasks are listed under the sentence that says what to install", () => {
    const model = shown({ svg: "", note: "No layout engine: pip install graphviz-pure" });

    assert.match(one(".tq-note").textContent ?? "", /pip install/);
    assert.equal(node("1").textContent, "✗fit");
    fire(node("1"), "click");
    model.put({ states: "ddd" });
    assert.equal(node("1").textContent, "✓fit");
  });
});

suite("a large graph", () => {
  const groups = [
    { at: "group a", label: "load × 300", size: 300, of: "" },
    { at: "7", label: "fit-7", size: 1, of: "group b" },
  ];
  const large = {
    svg: drawn(["load × 300", "fit-7"]),
    boxes: groups,
    states: "pf",
    says: {},
    lens: { around: "", seen: 301, total: 301, plain: false, turn: 1 },
  };
  const seen = (/** @type {string} */ text) => !button(text).hidden;

  test("what can be done with a box stands below the graph, and u, f and a do it", () => {
    const model = shown(large);
    const asked = () => model.sent.filter(({ verb }) => verb !== "look").map(({ verb, at }) => [verb, at]);
    assert.deepEqual(["Unfold", "Fold", "Around it", "Reset folding"].map(seen), [false, false, false, true]);

    fire(node("group a"), "click");
    assert.deepEqual(["Unfold", "Fold", "Around it"].map(seen), [true, false, true]);
    button("Unfold").click();
    fire(node("7"), "click");
    assert.deepEqual(["Unfold", "Fold", "Around it"].map(seen), [false, true, true]);
    for (const key of ["f", "u", "a"]) press(node("7"), key);
    fire(node("group a"), "dblclick");
    button("Reset folding").click();

    assert.deepEqual(asked(), [
      ["unfold", "group a"],
      ["fold", "7"],
      ["around", "7"],
      ["unfold", "group a"],
      ["fold", ""],
    ]);
  });

  test("around a task, the view says so, and a, Escape and a button lead back", () => {
    const model = shown({ ...large, lens: { around: "fit-7", seen: 2, total: 301, plain: false, turn: 1 } });
    assert.match(one(".tq-scope").textContent ?? "", /^Around fit-7: 2 of 301 tasks/);

    button("Show all").click();
    press(node("7"), "a");
    press(node("7"), "Escape");

    assert.deepEqual(model.sent, Array(3).fill({ verb: "around", at: "" }));
    model.put({ lens: { around: "", seen: 301, total: 301, plain: true, turn: 2 } });
    assert.ok(one(".tq-scope").hidden);
    assert.ok(!seen("Reset folding"));
  });

  test("what somebody wants to see is fitted to the pane, also with a task selected", async () => {
    const model = shown();
    const fits = () => one(".tq-sheet").getAttribute("transform");
    fire(node("1"), "click");
    button("+").click();
    const zoomed = fits();

    model.put({
      lens: { around: "fit", seen: 2, total: 3, plain: false, turn: 1 },
      svg: drawn(["fit", "report"]),
      boxes: ["1", "2"].map((at) => ({ at, label: at, size: 1, of: "" })),
      states: "fp",
    });
    await settled();
    const fitted = fits();
    button("Fit").click();

    assert.notEqual(fitted, zoomed);
    assert.equal(fitted, fits());
    assert.ok(node("1").classList.contains("tq-on"));
  });

  test("one arrow may lead to many boxes: all of them are near", () => {
    shown({ svg: drawn(["load", "fit", "report"]).replace('id="e0-1"', 'id="e0-1_2"') });

    fire(node("2"), "click");

    assert.equal(view.el.querySelectorAll(".edge.tq-near").length, 2);
  });

  test("a task is found by a few letters, and a late answer is not shown", () => {
    const model = shown();
    const field = /** @type {HTMLInputElement} */ (one(".tq-find"));
    press(node("0"), "/");
    assert.equal(document.activeElement, field);

    field.value = "rep";
    fire(field, "input");
    model.put({ finds: { text: "re", hits: [["0", "load", "d"]], total: 1 } });
    assert.ok(one(".tq-drop").hidden);
    model.put({ finds: { text: "rep", hits: [["2", "report", "p"], ["1", "fit", "f"]], total: 9 } });
    assert.equal(field.getAttribute("aria-expanded"), "true");
    assert.match(one(".tq-drop").textContent ?? "", /report.*fit.*and 7 more/);
    press(field, "ArrowDown");
    press(field, "ArrowUp");
    assert.equal(field.getAttribute("aria-activedescendant"), one('.tq-hit[aria-selected="true"]').id);
    press(field, "Enter");

    assert.deepEqual(model.sent.map(({ verb, value, at }) => [verb, value ?? at]), [
      ["find", "rep"],
      ["find", ""],
      ["look", "2"],
    ]);
    assert.equal(field.value, "");
    assert.equal(document.activeElement, node("2"));
  });

  test("what is found but folded away gets the focus when it has a box", async () => {
    const model = shown(large);
    const field = /** @type {HTMLInputElement} */ (one(".tq-find"));
    field.focus();
    field.value = "load-3";
    fire(field, "input");
    model.put({ finds: { text: "load-3", hits: [["3", "load-3", "p"]], total: 1 } });
    one(".tq-hit").click();

    model.put({ svg: drawn(["load × 299", "load-3", "fit-7"]), boxes: [groups[0], { at: "3", label: "load-3", size: 1, of: "group a" }, groups[1]], states: "ppf" });
    await settled();

    assert.equal(document.activeElement, node("3"));
    assert.ok(node("3").classList.contains("tq-on"));
  });
});

suite("the table", () => {
  const rows = [
    ["1", "fit", "f", 2, 1, 0.5, "ValueError", 1],
    ["0", "<b>load</b>", "d", 1, 0, 0.2, "", 0],
    ["2", "report", "p", 0, null, null, "", 1],
  ];
  const told = /** @type {import("../../taskqueue_nb/static/types.js").Table} */ ({ column: "state", down: false, start: 0, total: 120, text: "", rows });
  const asked = (/** @type {ReturnType<typeof shown>} */ model) => model.sent.filter(({ verb }) => verb === "table");

  test("it opens and closes, sorts, turns pages, filters, and leads to its tasks", () => {
    const model = shown();
    button("Table").click();
    assert.deepEqual(asked(model).pop(), { verb: "table", at: "order", down: false, from: 0, value: "", states: "" });

    model.put({ table: told });
    const cells = [...view.el.querySelectorAll(".tq-tasks tbody tr")].map((tr) => tr.textContent);
    assert.deepEqual(all(".tq-to").map(({ title }) => title), ["fit", "<b>load</b>", "report"]); // however it is cut
    assert.match(cells[0] ?? "", /^2fit.*failed2.*0.5 s1ValueError$/);
    assert.equal(view.el.querySelectorAll(".tq-tasks b").length, 0);
    assert.equal(one("[aria-sort]").textContent, "state");
    assert.match(one(".tq-tabled .tq-more").textContent ?? "", /1 to 3 of 120 tasks/);
    assert.ok(off(one('[aria-label="Previous tasks"]')) && !off(one('[aria-label="More tasks"]')));

    one("th:nth-child(6) .tq-sort").click();
    assert.deepEqual(asked(model).pop(), { verb: "table", at: "took", down: true, from: 0, value: "", states: "" });
    fire(one(".tq-chip[data-state=failed]"), "click");
    assert.equal(asked(model).pop()?.states, "fv");
    one('.tq-to[data-at="2"]').click();
    assert.deepEqual(model.sent.filter(({ verb }) => verb === "look").pop(), { verb: "look", at: "2" });
    assert.ok(one(".tq-tasks tr.tq-on").textContent?.includes("report"));

    button("Table").click();
    assert.deepEqual(asked(model).pop(), { verb: "table", at: "" });
    assert.equal(view.el.querySelectorAll(".tq-tasks").length, 0);
  });
});

suite("clicks", () => {
  test("a click is sent once, however often it is pressed before its answer", () => {
    const model = shown();

    button("Retry all failed").click();
    button("Retry all failed").click();

    assert.equal(model.clicks().length, 1);
    assert.equal(model.clicks()[0].verb, "retry_failed");
    assert.ok(off(button("Retry all failed")));
  });

  test("an answer frees the button and is shown; the next click has another id", () => {
    const model = shown();
    button("Retry all failed").click();
    const [{ id }] = model.clicks();

    model.put({ answers: [[String(id), false, "No task has failed."]] });

    assert.equal(one(".tq-top-message .tq-alert").textContent, "No task has failed.");
    assert.ok(!off(button("Retry all failed")));
    button("Retry all failed").click();
    assert.notEqual(model.clicks()[1].id, id);
  });

  test("after a second without an answer the view says what it waits for", () => {
    const model = shown();
    button("Run").click();

    mock.timers.tick(900);
    assert.equal(one(".tq-top-message").hidden, true);
    mock.timers.tick(200);
    assert.match(one(".tq-top-message .tq-status").textContent ?? "", /[Ww]aiting for the running cell/);
    model.put({ answers: [[String(model.clicks()[0].id), true, ""]] });
    assert.equal(one(".tq-top-message").hidden, true);
  });

  test("buttons follow the run", () => {
    const model = shown();
    assert.deepEqual(["Run", "Hold", "Step", "Stop"].map((b) => off(button(b))), [false, true, false, true]);

    model.put({ progress: { ...model.get("progress"), running: true, left: 7.2 } });
    assert.deepEqual(["Run", "Hold", "Step", "Stop"].map((b) => off(button(b))), [true, false, true, false]);
    assert.equal(one(".tq-standing").textContent, "1 of 3 done · about 7 s left");

    model.put({ progress: { ...model.get("progress"), held: true } });
    button("Resume").click();
    assert.equal(model.clicks()[0].verb, "resume");
  });

  test("Undo is on while there is a verb to take back, and says which", () => {
    const model = shown();
    assert.ok(off(button("Undo")));

    model.put({ mending: { ...model.get("mending"), undo: "retry 'load'" } });
    assert.equal(button("Undo").getAttribute("aria-label"), "Undo: retry 'load'");
    button("Undo").click();
    button("Undo").click();

    assert.deepEqual(model.clicks().map(({ verb }) => verb), ["undo"]);
  });

  test("Refresh stale is there only while something is stale, says its plan and brings it back", () => {
    const model = shown();
    assert.ok(button("Refresh stale").hidden);

    model.put({ mending: { ...model.get("mending"), refresh: { says: "2 will run", plan: "p4" } } });
    assert.ok(!button("Refresh stale").hidden);
    assert.match(one(".tq-line").textContent ?? "", /Refresh stale: 2 will run/);
    button("Refresh stale").click();

    assert.deepEqual(model.clicks().map(({ verb, plan }) => [verb, plan]), [["refresh", "p4"]]);
  });

  test("a box that is named after its function says its call when one points at it", () => {
    const model = shown();
    const boxes = model.get("boxes").map((box) => ({ ...box, call: box.label === "fit" ? "fit(3)" : box.label }));
    model.put({ boxes });
    return Promise.resolve().then(() => {
      assert.equal(node("1").querySelector("title")?.textContent, "fit: failed: ValueError · fit(3)");
      assert.equal(node("1").getAttribute("aria-label"), "fit: failed: ValueError · fit(3)");
      assert.equal(node("0").querySelector("title")?.textContent, "load: done");
    });
  });

  test("causes are said above the graph, and gone through by button and by key", () => {
    const model = shown();
    model.put({ mending: { ...model.get("mending"), causes: "2 causes block 1 task", at: ["0", "1"] } });
    const next = one('[aria-label="Next cause"]');
    const on = () => one(".tq-on").dataset.at;

    assert.match(one(".tq-line").textContent ?? "", /2 causes block 1 task/);
    next.click();
    assert.equal(on(), "0");
    next.click();
    assert.equal(on(), "1");
    press(node("1"), "n");
    assert.equal(on(), "0");
    assert.equal(document.activeElement, node("0"));
    press(node("0"), "p");
    assert.equal(on(), "1");
    model.put({ mending: { ...model.get("mending"), causes: "", at: [] } });
    assert.ok(one(".tq-causes").classList.contains("tq-off")); // its place stays
  });

  test("a refusal of no click is shown by every view, once", () => {
    const model = shown({ answers: [["?1", false, "Old."]] });
    assert.equal(one(".tq-top-message .tq-alert").textContent, "");

    model.put({ answers: [["?1", false, "Old."], ["?2", false, "No task is ready."]] });

    assert.equal(one(".tq-top-message .tq-alert").textContent, "No task is ready.");
  });

  test("when the kernel is gone the view says so, keeps the picture and acts no more", () => {
    const model = shown();

    model.fire("comm_live_update");

    assert.match(one(".tq-top-message .tq-alert").textContent ?? "", /kernel is gone/);
    assert.ok(["Run", "Hold", "Step", "Stop", "Retry all failed"].every((b) => off(button(b))));
    button("Run").click();
    assert.deepEqual(model.sent, []);
    assert.equal(node("1").dataset.state, "failed");
  });
});

suite("a view's life", () => {
  test("it hides the still picture of its key in its own cell, and shows it again", async () => {
    const area = document.createElement("div");
    area.className = "jp-OutputArea";
    area.innerHTML = "<div><p></p></div><div><img alt='Task graph 1: 3 done'></div><div><img alt='a photo'></div>";
    document.body.append(area);
    view.el = /** @type {HTMLElement} */ (area.querySelector("p"));
    const [, still, photo] = area.children;

    shown();
    assert.ok(still.classList.contains("tq-still"));
    assert.ok(!photo.classList.contains("tq-still"));

    const updated = area.appendChild(document.createElement("div"));
    updated.innerHTML = "<img alt='Task graph 1: 2 done'>";
    await settled();
    assert.ok(updated.classList.contains("tq-still"));

    view.end?.();
    view.end = undefined;
    assert.equal(area.querySelectorAll(".tq-still").length, 0);
  });

  test("it leaves nothing behind: no listener, no element, no timer", () => {
    const model = shown();
    button("Run").click();
    fire(node("1"), "click");

    view.end?.();
    view.end = undefined;

    assert.equal(model.listening(), 0);
    assert.equal(view.el.childElementCount, 0);
    mock.timers.tick(60_000); // what is still due would throw or send
    assert.equal(model.clicks().length, 1);
  });

  test("two views of one model do not meet", () => {
    const model = shown();
    const other = document.body.appendChild(document.createElement("div"));
    const endOther = graph.render({ model, el: other }, { details });

    fire(node("1"), "click");

    assert.equal(other.querySelectorAll(".tq-on").length, 0);
    endOther();
    assert.ok(node("1").classList.contains("tq-on"));
  });

  test("a picture that is no SVG is said, and the view lives", () => {
    shown({ svg: "<html>" });
    assert.match(one(".tq-note").textContent ?? "", /not an SVG/);
  });
});
