// @ts-check
import assert from "node:assert/strict";
import { afterEach, mock, suite, test } from "node:test";

import { failed, makeModel, window } from "./page.mjs";
import { all, button, details, fire, graph, node, off, one, press, preview, settled, shown, trace, view } from "./view.mjs";

const { document } = window;

suite("what the user typed", () => {
  test("only what the user changed is an edit", () => {
    const { fields = [] } = failed();
    const texts = new Map([["a0", "7"], ["kdegree", " 9 "], ["kmodel", "3"]]);

    assert.deepEqual(details.edits(fields, texts), { kmodel: "3" });
    assert.deepEqual(details.edits(fields, new Map([["kdegree", ""], ["kmodel", " "]])), { kdegree: "" });
  });
});

/** A frame of the notebook. @param {Partial<import("../../taskqueue_nb/static/types.js").Frame>} [changes] */
const frame = (changes) => ({
  file: "Cell In[3]",
  path: "/tmp/3.py",
  line: 8,
  name: "fit",
  package: "",
  first: 7,
  code: ["x = 1", "fail(x)", "y = 2"],
  part: /** @type {[number, number]} */ ([0, 4]),
  ...changes,
});

/** @param {Partial<import("../../taskqueue_nb/static/types.js").Raised>} [changes] */
const raised = (changes) => ({ says: "ValueError: no", lead: "", depth: 0, notes: [], frames: [frame()], ...changes });

suite("the traceback", () => {
  /** @param {Parameters<typeof failed>[0]} changes */
  function opened(changes) {
    const model = shown();
    fire(node("1"), "click");
    model.put({ details: failed(changes) });
    return model;
  }
  const library = (/** @type {string} */ name, changes = {}) =>
    frame({ package: name, file: `${name}/a.py`, path: "/a.py", code: ["raise"], first: 8, part: null, ...changes });

  test("frames of libraries are one line that opens; those of the notebook stand open", () => {
    opened({ trace: [raised({ frames: [frame(), library("numpy"), library("numpy"), frame({ name: "inner" })] })] });

    assert.equal(one(".tq-folded > summary").textContent, "2 frames in numpy");
    assert.equal(/** @type {HTMLDetailsElement} */ (one(".tq-folded")).open, false);
    assert.deepEqual(all(".tq-own .tq-where code").map((e) => e.textContent), ["fit", "inner"]);
    assert.equal(all(".tq-own .tq-stands")[0].textContent, "Cell In[3], line 8");
  });

  test("the failing line is marked by more than colour, and the part of it that failed", () => {
    opened({ trace: [raised()] });

    const failing = one(".tq-failing");
    assert.equal(failing.textContent, "►8fail(x)\n");
    assert.equal(failing.getAttribute("aria-current"), "true");
    assert.equal(one(".tq-culprit").textContent, "fail");
    assert.deepEqual(all(".tq-row-of .tq-number-of").map((e) => e.textContent?.trim()), ["7", "8", "9"]);
  });

  test("how one error led to another is said, with notes, and members of a group stand in it", () => {
    opened({
      trace: [
        raised({ notes: ["look at row 7"] }),
        raised({ lead: "1 of 2 in this group:", depth: 1, says: "KeyError: 'a'", frames: [] }),
        raised({ lead: "The direct cause was:", says: "OSError: gone", frames: [library("os")] }),
      ],
    });

    assert.deepEqual(all(".tq-lead").map((e) => e.textContent), ["1 of 2 in this group:", "The direct cause was:"]);
    assert.equal(one(".tq-noted").textContent, "look at row 7");
    assert.deepEqual(all(".tq-raised").map((e) => e.dataset.depth), ["0", "1", "0"]);
  });

  test("where all frames are of libraries the last of them are open", () => {
    opened({ trace: [raised({ frames: [library("numpy"), library("pandas")] })] });

    const folded = /** @type {HTMLDetailsElement} */ (one(".tq-folded"));
    assert.ok(folded.open);
    assert.equal(folded.querySelector("summary")?.textContent, "2 frames in numpy, pandas");
  });

  test("frames that are left out are counted", () => {
    const left = /** @type {any} */ ({ left: 900 });

    assert.equal(trace.foldedInto([left]), "900 more frames");
    assert.equal(trace.foldedInto([library("a"), left]), "901 frames in a");
    assert.equal(trace.foldedInto([library("a")]), "1 frame in a");
    assert.equal(trace.foldedInto(["a", "b", "c", "d"].map((name) => library(name))), "4 frames in a, b, c, …");
  });

  test("a text that could not be taken apart is shown as it is; of which attempt is said", () => {
    opened({ trace: [], traceback: "killed by SIGKILL", of_attempt: 2 });

    assert.ok(all(".tq-pre").some((e) => e.textContent === "killed by SIGKILL"));
    assert.ok(all("summary").some((e) => e.textContent === "Traceback of attempt 2"));
  });

  test("code, names and words of others are text", () => {
    const evil = "</pre><script>x()</script><img src=x>";
    opened({ trace: [raised({ says: evil, notes: [evil], frames: [frame({ name: evil, file: evil, code: [evil], first: 8 })] })] });

    assert.deepEqual(all("script, img"), []);
    assert.ok(one(".tq-frame").textContent?.includes("<img src=x>"));
  });
});

suite("what classes of others show", () => {
  const PNG = "data:image/png;base64,iVBORw0KGgo=";
  const WHITE = { ink: "#000000", paper: "#ffffff", rule: "#cccccc", shade: "#eeeeee" };
  /** @typedef {import("../../taskqueue_nb/static/types.js").Rich} Rich */
  /** @param {Partial<Rich>} changes */
  function showing(changes) {
    /** @type {Rich} */
    const rich = { kind: "", called: "HTML", data: "", note: "", ...changes };
    return { type: "Frame", text: "a repr", rich };
  }

  /** @param {Parameters<typeof failed>[0]} changes */
  function opened(changes) {
    const model = shown();
    fire(node("1"), "click");
    model.put({ details: failed({ trace: [], traceback: "", ...changes }) });
    return model;
  }
  const frame = () => /** @type {HTMLIFrameElement} */ (one("iframe"));

  test("HTML is locked up in a frame that may do nothing", () => {
    opened({ result: showing({ kind: "html", data: "<table><tr><td>1</td></tr></table>" }) });

    assert.equal(frame().getAttribute("sandbox"), "");
    assert.equal(frame().title, "Result as HTML");
    assert.match(frame().srcdoc, /^<!doctype html><html><head><meta http-equiv="Content-Security-Policy" content="default-src 'none'/);
    assert.match(frame().srcdoc, /<td>1<\/td>/);
    assert.equal(view.el.querySelector("table:not(.tq-table)"), null);
    assert.ok(!all(".tq-pre").some((e) => e.textContent === "a repr")); // the table says more
  });

  const attacks = [
    "</iframe><script>x()</script>",
    "</textarea></style></title><script>x()</script>]]>",
    "<img src=x onerror=x()>",
    "<svg onload=x()><a xlink:href='javascript:x()'><set attributeName=href to='javascript:x()'/>a</a></svg>",
    "<a href='https://evil.example/'>go</a><a href='javascript:x()'>go</a>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<base href='https://evil.example/'><link rel=stylesheet href=https://evil.example/>",
    "<form action=https://evil.example/><input autofocus><button formaction=javascript:x()>b</button></form>",
    "<iframe srcdoc='<script>x()</script>'></iframe><object data=x></object><embed src=x>",
    "<noscript><img src=https://evil.example/></noscript>",
    "<table background=https://evil.example/><tr><td>1</td></tr></table>",
    "<img srcset='https://evil.example/ 2x'><video src=https://evil.example/></video>",
    "<head><meta http-equiv=Content-Security-Policy content='default-src *'></head><body onload=x()>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=x()&gt;'>",
    '"><script>x()</script>',
    "<style>@import 'https://evil.example/'; p { background: url( 'https://evil.example/' ) }</style>",
    "<style>@import url(https://evil.example/)</style><p style='background: URL(//evil.example/)'>x</p>",
  ];
  for (const attack of attacks) {
    test(`of hostile HTML nothing is left that runs, loads or leads away: ${attack.slice(0, 40)}`, () => {
      opened({ result: showing({ kind: "html", data: attack }) });

      assert.equal(all("iframe").length, 1);
      const inside = new window.DOMParser().parseFromString(frame().srcdoc, "text/html");
      const names = [...inside.querySelectorAll("*")].map((e) => e.localName);
      const attributes = [...inside.querySelectorAll("*")].flatMap((e) => [...e.attributes].map((a) => `${a.name}=${a.value}`));
      assert.ok(!/evil/.test([...inside.querySelectorAll("style")].map((e) => e.textContent).join("")));
      const bad = attributes.filter((a) => /^on|evil|javascript:|^(src|srcset|action|formaction|target)=/i.test(a));
      assert.deepEqual(bad, []);
      assert.deepEqual(names.filter((n) => /^(script|iframe|object|embed|link|base|set|noscript)$/.test(n)), []);
      const metas = [...inside.querySelectorAll("meta[http-equiv]")].map((e) => e.getAttribute("content")?.slice(0, 18));
      assert.deepEqual(metas, ["default-src 'none'"]);
      assert.equal(inside.head.firstElementChild?.getAttribute("http-equiv"), "Content-Security-Policy");
    });
  }

  test("links in it and pictures of its own stay", () => {
    const inert = preview.locked(`<a href="#x">x</a><img src="${PNG}">`, WHITE);

    assert.equal(inert.querySelector("a")?.getAttribute("href"), "#x");
    assert.equal(inert.querySelector("img")?.getAttribute("src"), PNG);
  });

  test("what has colours of its own stands on white; what has none has the page's", () => {
    assert.ok(preview.isColoured('<td style="background-color: red">'));
    assert.ok(preview.isColoured('<font color="red">'));
    assert.ok(!preview.isColoured("<style scoped>th { vertical-align: top; }</style><table>"));
    assert.deepEqual(["#ffffff", "rgb(20, 23, 26)", "#14171a", "Canvas"].map(preview.isDark), [false, true, true, false]);
  });

  test("its height is fitted to what is in it, within bounds", () => {
    const height = (/** @type {string} */ html) => preview.heightOf(preview.locked(html, WHITE));
    const rows = (/** @type {number} */ n) => `<table>${"<tr><td>1</td></tr>".repeat(n)}</table>`;

    assert.deepEqual([rows(0), rows(5), rows(500)].map(height), [48, 151, 320]);
    assert.ok(height("<p>word</p>".repeat(3)) > height("<p>word</p>"));
  });

  test("a picture is one only by a data URL of a picture", () => {
    opened({ result: showing({ kind: "image", data: PNG }) });
    assert.equal(/** @type {HTMLImageElement} */ (one("img")).src, PNG);
    assert.equal(one("img").getAttribute("alt"), "Result as a picture");

    fire(one("img"), "error");
    assert.equal(one(".tq-pictured").textContent, "This picture cannot be shown.");
  });

  for (const data of ["https://evil.example/a.png", "data:text/html;base64,YQ==", "data:image/svg+xml,<svg/>", "javascript:x()"]) {
    test(`no other address is ever loaded: ${data}`, () => {
      opened({ result: showing({ kind: "image", data }) });
      assert.deepEqual(all("img, iframe"), []);
    });
  }

  test("marked-up text is text, with what it is called; what is too large is a sentence, and the repr", () => {
    const model = opened({ result: showing({ kind: "text", called: "LaTeX", data: "$x$<b>" }) });
    assert.equal(one('[aria-label="Result as LaTeX"]').textContent, "$x$<b>");

    model.put({ details: failed({ result: showing({ note: "Its HTML has 9 characters too many." }) }) });
    assert.ok(all(".tq-type").some((e) => /too many/.test(e.textContent ?? "")));
    assert.ok(all(".tq-pre").some((e) => e.textContent === "a repr"));
  });

  test("what was displayed stands in the output, in the same way", () => {
    const { rich } = showing({ kind: "html", data: "<b>x</b>" });
    opened({ output: "printed", displayed: [rich, { ...rich, kind: "image", called: "picture", data: PNG }] });

    assert.deepEqual(all("iframe").map((e) => e.title), ["Displayed 1 as HTML"]);
    assert.equal(one("img").getAttribute("alt"), "Displayed 2 as a picture");
  });

  test("a frame stays while its value does, and is drawn anew in another theme", async () => {
    const result = showing({ kind: "html", data: "<b>x</b>" });
    const model = opened({ result });
    const before = frame();
    model.put({ details: failed({ trace: [], traceback: "", result: structuredClone(result), output: "more" }) });
    assert.equal(frame(), before);

    document.body.dataset.jpThemeName = "Dark";
    await settled();
    assert.notEqual(frame(), before);
    delete document.body.dataset.jpThemeName;
  });
});

suite("the details", () => {
  /** @param {Parameters<typeof failed>[0]} [changes] */
  function opened(changes) {
    const model = shown();
    fire(node("1"), "click");
    model.put({ details: failed(changes) });
    return model;
  }
  const field = () => /** @type {HTMLInputElement} */ (one('[data-key="kdegree"]'));

  /** What the button says that it will do, as who hears it is told. @param {string} text */
  const says = (text) => {
    const id = button(text).getAttribute("aria-describedby");
    return document.getElementById(id ?? "")?.textContent;
  };

  test("an edited argument travels with the button that takes edits, and with no other", () => {
    const model = opened();
    assert.ok(off(button("Repair and rerun")));

    field().value = "2";
    fire(field(), "input");
    button("Retry and continue").click();
    assert.deepEqual(model.clicks(), []);
    assert.equal(says("Retry and continue"), "Reset your edits first");
    assert.equal(says("Repair and rerun"), "2 will run");
    button("Repair and rerun").click();

    const [{ id, ...message }] = model.clicks();
    assert.ok(id);
    assert.deepEqual(message, { verb: "repair", task: 1, run: true, edits: { kdegree: "2" } });
  });

  test("each button says what it will do, and its click brings the plan back", () => {
    const model = opened();
    const described = [...view.el.querySelectorAll("[aria-describedby]")].map((e) => e.getAttribute("aria-describedby"));

    assert.equal(says("Retry and continue"), "2 will run, 1 is reused");
    assert.equal(says("Retry"), "next run: 2 will run");
    assert.equal(says("Use this value"), "1 will run");
    assert.equal(says("Retry all failed"), "Retry all failed: 2 will run");
    assert.equal(new Set(described).size, described.length);
    button("Retry and continue").click();
    button("Retry all failed").click();
    assert.deepEqual(model.clicks().map(({ verb, plan }) => [verb, plan]), [["retry", "p1"], ["retry_failed", "p0"]]);
  });

  test("a new plan is shown in its place; the button keeps the focus, and sends the new one", () => {
    const model = opened();
    const before = button("Retry");
    before.focus();
    const actions = failed().actions?.map((action) => ({ ...action, says: "nothing will run", plan: "p9" }));

    model.put({ details: failed({ actions }) });

    assert.equal(document.activeElement, before);
    assert.equal(says("Retry"), "nothing will run");
    before.click();
    assert.equal(model.clicks()[0].plan, "p9");
  });

  test("in a view of another model no note has the same id", () => {
    opened();
    const other = document.body.appendChild(document.createElement("div"));
    const endOther = graph.render({ model: makeModel(), el: other }, { details });
    const ids = [...document.querySelectorAll(".tq-says")].map((note) => note.id);

    assert.equal(new Set(ids).size, ids.length);
    endOther();
  });

  test("unedited it is a plain retry, and a double click is one", () => {
    const model = opened();

    button("Retry").click();
    button("Retry").click();
    button("Retry and continue").click();

    const said = model.clicks().map(({ verb, task, run, edits }) => [verb, task, run, edits]);
    assert.deepEqual(said, [["retry", 1, false, undefined]]);
  });

  const source = () => /** @type {HTMLTextAreaElement} */ (one(".tq-source"));

  test("an edited source travels with the button that takes edits; Reset takes it back", () => {
    const model = opened();
    const before = source().value;
    source().value = "def fit(table, degree):\n    return 1";
    fire(source(), "input");
    assert.equal(says("Repair and rerun"), "2 will run");
    assert.ok(one(".tq-edited .tq-source"));
    button("Reset").click();
    assert.equal(source().value, before);
    assert.ok(off(button("Repair and rerun")));

    source().value = "lambda table, degree: 1";
    fire(source(), "input");
    field().value = "2";
    fire(field(), "input");
    fire(source(), "keydown", { key: "Enter", ctrlKey: true });

    const [{ verb, edits, source: sent }] = model.clicks();
    assert.deepEqual([verb, edits, sent], ["repair", { kdegree: "2" }, "lambda table, degree: 1"]);
  });

  test("in the source Tab indents; Shift+Tab, or Escape and then Tab, leave it", () => {
    opened();
    const taken = (/** @type {object} */ options) => {
      const event = new window.KeyboardEvent("keydown", { bubbles: true, cancelable: true, ...options });
      source().dispatchEvent(event);
      return event.defaultPrevented;
    };
    source().setSelectionRange(0, 0);

    assert.ok(!taken({ key: "Tab" })); // on the way through
    assert.ok(!taken({ key: "ArrowLeft" }));
    assert.ok(taken({ key: "Tab" }));
    assert.match(source().value, /^ {4}def/);
    assert.ok(!taken({ key: "Tab", shiftKey: true }));
    assert.ok(taken({ key: "Escape" }));
    assert.ok(!taken({ key: "Tab" }));
    assert.match(source().getAttribute("aria-description") ?? "", /Escape, then Tab/);
    assert.ok(!one(".tq-side").hidden);
    taken({ key: "Escape" });
    assert.ok(one(".tq-side").hidden);
  });

  test("the source of what runs can be read, not edited", () => {
    opened({ editable: false });
    assert.ok(source().readOnly);
    fire(source(), "pointerdown");
    fire(source(), "keydown", { key: "Tab" });
    assert.match(source().value, /^def/);
  });

  test("Enter in a field presses the button that stands out, and never Cancel", () => {
    const model = opened({ actions: [{ verb: "cancel", label: "Cancel", run: false, hint: "" }] });
    press(field(), "Enter");
    assert.deepEqual(model.clicks(), []);

    model.put({ details: failed() });
    field().value = "3";
    fire(field(), "input");
    press(field(), "Enter");

    assert.deepEqual(model.clicks()[0].edits, { kdegree: "3" });
  });

  test("what the user typed survives news of the same task", () => {
    const model = opened();
    const before = field();
    before.value = "2";
    fire(before, "input");
    before.focus();

    model.put({ details: failed({ output: "more" }), states: "dfd" });

    assert.equal(field(), before);
    assert.equal(field().value, "2");
    assert.equal(document.activeElement, before);
  });

  test("Reset takes the edits back", () => {
    opened();
    field().value = "2";
    fire(field(), "input");
    assert.ok(!off(button("Reset")));

    button("Reset").click();

    assert.equal(field().value, "9");
    assert.ok(off(button("Reset")));
    assert.ok(!off(button("Retry")));
  });

  test("a task as an argument is a link and no field; a value without literal is kept", () => {
    const model = opened();
    const kept = /** @type {HTMLInputElement} */ (one('[data-key="kmodel"]'));

    assert.equal(kept.value, "");
    assert.equal(kept.placeholder, "kept: Model <big>");
    assert.equal(view.el.querySelector('[data-key="a0"]'), null);
    const link = /** @type {HTMLElement} */ (view.el.querySelector(".tq-form .tq-link"));
    link.click();
    assert.deepEqual(model.sent.at(-1), { verb: "look", at: "0" });
    assert.ok(node("0").classList.contains("tq-on"));
  });

  test("texts of others are text", () => {
    const evil = "<img src=x onerror=alert(1)>";
    opened({ label: evil, error: evil, traceback: evil, output: evil, why: evil, result: { type: evil, text: evil } });

    assert.equal(view.el.querySelector("img"), null);
    assert.equal(one(".tq-title").textContent, evil);
  });

  test("buttons are off while what they act on has moved on", () => {
    const model = opened();

    model.put({ states: "drp" });

    assert.ok(off(button("Retry")));
  });

  test("a value can be used instead", () => {
    const model = opened();
    const input = /** @type {HTMLInputElement} */ (one('[data-key="="]'));
    input.value = "42";
    fire(input, "input");

    button("Use this value").click();

    const [{ verb, task, value, run }] = model.clicks();
    assert.deepEqual([verb, task, value, run], ["supply", 1, "42", true]);
  });

  test("what each attempt raised stands in its row, as text", () => {
    const attempt = { number: 1, letter: "f", started: 0, took: 0.5, error: "ValueError: <b>no</b>" };
    opened({ attempts: [attempt, { ...attempt, number: 2, letter: "d", error: "" }] });

    assert.deepEqual(all(".tq-told").map((e) => e.textContent), ["ValueError: <b>no</b>"]);
    assert.equal(all(".tq-table tbody tr").length, 2);
  });

  test("details of another task are not shown", () => {
    const model = shown();
    fire(node("0"), "click");

    model.put({ details: failed() });

    assert.equal(one(".tq-title").textContent, "load");
    assert.equal(view.el.querySelectorAll("[data-verb]").length, 0);
  });

  test("without an answer the panel says what it waits for", () => {
    shown();
    fire(node("0"), "click");

    mock.timers.tick(1100);

    assert.match(one(".tq-why").textContent ?? "", /running cell/);
  });

  test("the members of a group are links", () => {
    const model = shown();
    fire(node("0"), "click");
    model.put({
      details: { at: "0", label: "fit × 40", letter: "f", members: [["1", "fit", "f"]], more: 39 },
    });

    assert.equal(one(".tq-members .tq-link").textContent, "✗fit");
    assert.match(one(".tq-members").textContent ?? "", /and 39 more/);
  });
});

suite("the last call as a cell", () => {
  /** A page with this clipboard. @param {unknown} clipboard @param {(() => boolean) | undefined} command */
  function withClipboard(clipboard, command) {
    Object.defineProperty(globalThis, "navigator", { value: { clipboard }, configurable: true });
    Object.defineProperty(document, "execCommand", { value: command, configurable: true, writable: true });
  }
  afterEach(() => withClipboard(undefined, undefined));

  /** @returns {Promise<ReturnType<typeof makeModel>>} */
  async function copied() {
    const model = shown();
    fire(node("1"), "click");
    model.put({ details: failed({ cell: [4, "an old one"] }) });
    button("Copy as cell").focus();
    button("Copy as cell").click();
    model.put({ details: failed({ cell: [4, "an old one"], output: "news" }) });
    model.put({ details: failed({ cell: [5, "fit(1)"] }), answers: [[String(model.clicks()[0].id), true, ""]] });
    await settled();
    return model;
  }
  const said = () => one(".tq-side-message .tq-status").textContent;

  test("it is asked for, copied when it has come, once, and said", async () => {
    /** @type {string[]} */
    const texts = [];
    withClipboard({ writeText: (/** @type {string} */ text) => Promise.resolve(texts.push(text)) }, undefined);
    const model = await copied();

    assert.deepEqual(model.clicks().map(({ verb, task }) => [verb, task]), [["cell", 1]]);
    assert.deepEqual(texts, ["fit(1)"]);
    assert.equal(said(), "Copied. Paste it into a cell.");
    model.put({ details: failed({ cell: [6, "of another view"] }) });
    await settled();
    assert.deepEqual(texts, ["fit(1)"]);
  });

  test("without a clipboard the page's own command copies", async () => {
    let selected = "";
    withClipboard(undefined, () => {
      const field = /** @type {HTMLTextAreaElement} */ (document.activeElement);
      selected = field.value.slice(field.selectionStart, field.selectionEnd);
      return true;
    });
    await copied();

    assert.equal(selected, "fit(1)");
    assert.equal(said(), "Copied. Paste it into a cell.");
    assert.deepEqual(all(".tq-copied"), []);
  });

  test("where nothing may copy, the text stands there selected", async () => {
    withClipboard({ writeText: () => Promise.reject(new Error("refused")) }, () => false);
    await copied();

    assert.equal(/** @type {HTMLTextAreaElement} */ (one(".tq-copied")).value, "fit(1)");
    assert.equal(document.activeElement, one(".tq-copied"));
    assert.equal(said(), "Press Ctrl+C to copy it.");
  });
});

suite("the form", () => {
  /** @typedef {import("../../taskqueue_nb/static/types.js").Field} Field */
  /** @param {Partial<Field>[]} changes */
  function opened(...changes) {
    const fields = changes.map((change, i) => {
      /** @type {Field} */
      const field = { key: `k${i}`, name: `n${i}`, kind: "literal", text: "1", links: [], ...change };
      return field;
    });
    const model = shown();
    fire(node("1"), "click");
    model.put({ details: failed({ fields }) });
    return model;
  }
  const input = (/** @type {number} */ i) => /** @type {HTMLInputElement} */ (one(`[data-key="k${i}"]`));
  const type = (/** @type {number} */ i, /** @type {string} */ text) => {
    input(i).value = text;
    fire(input(i), "input");
  };
  const sent = (/** @type {ReturnType<typeof opened>} */ model) => {
    button("Repair and rerun").click();
    return model.clicks().at(-1)?.edits;
  };

  test("a bool is a box to tick, which says what it stands for", () => {
    const model = opened({ as: "bool", text: "True" });
    assert.equal(input(0).type, "checkbox");
    assert.ok(input(0).checked);

    input(0).click();

    assert.match(one(".tq-field .tq-check").textContent ?? "", /False/);
    assert.deepEqual(sent(model), { k0: "False" });
  });

  test("values to choose from are a list, and a number has its keyboard", () => {
    const model = opened(
      { as: "choice", text: "'a'", choices: ["'a'", "None"] },
      { as: "int", text: "3" },
      { as: "float", text: "0.5" },
    );
    assert.equal(input(0).localName, "select");
    assert.deepEqual([input(1).inputMode, input(2).inputMode], ["numeric", "decimal"]);

    type(0, "None");
    type(1, "[1, 2]");

    assert.deepEqual(sent(model), { k0: "None", k1: "[1, 2]" });
  });

  test("a text stands between quotes, and is a literal to the kernel", () => {
    const model = opened({ as: "str", text: "'it'", plain: "it" }, { as: "str", text: "'x'", plain: "x" });
    assert.equal(input(0).value, "it");
    assert.equal(all(".tq-quote").length, 4);
    assert.ok(off(button("Repair and rerun")));

    type(0, "it's \"so\"\\");
    type(1, "y");
    type(1, "x");

    assert.deepEqual(sent(model), { k0: '"it\'s \\"so\\"\\\\"' });
  });

  test("a literal can be written in place of a text, and back", () => {
    const model = opened({ as: "str", text: "'it'", plain: "it" });
    type(0, "none");
    one('[aria-label="Write n0 as a Python literal"]').click();
    assert.equal(input(0).value, '"none"');
    assert.equal(document.activeElement, input(0));
    type(0, "None");
    one('[aria-label="Write n0 as a text"]').click();
    assert.equal(input(0).value, "None"); // which no quotes could stand around
    assert.deepEqual(sent(model), { k0: "None" });
  });

  test("line breaks of a text stay, those that are pasted and those that are typed with Shift too", () => {
    const long = "one\ntwo\n".repeat(400);
    const model = opened(
      { as: "str", text: "'a\\n b\\n'", plain: "a\n b\n" },
      { as: "str", text: "'short'", plain: "short" },
      { as: "str", text: JSON.stringify(long), plain: long },
    );
    const rows = () => [0, 1, 2].map((i) => /** @type {any} */ (input(i)).rows);
    assert.deepEqual([input(0).value, input(2).value], ["a\n b\n", long]);
    assert.deepEqual(rows(), [4, 1, 8]);

    for (const i of [0, 1, 2]) fire(input(i), "input"); // touched, and not changed
    assert.ok(off(button("Repair and rerun")));

    type(1, "short\nand more"); // as a paste does
    assert.deepEqual(rows(), [4, 3, 8]);
    type(0, "a\n b");
    assert.deepEqual(sent(model), { k0: '"a\\n b"', k1: '"short\\nand more"' });

    button("Reset").click();
    assert.deepEqual([input(0).value, input(1).value], ["a\n b\n", "short"]);
    assert.deepEqual(rows(), [4, 1, 8]);
    assert.ok(off(button("Repair and rerun")));
  });

  test("Enter submits a field of one line; in several it is a line break, and Ctrl and Enter submit", () => {
    const model = opened({ as: "str", text: "'x'", plain: "x" }, { as: "str", text: "'a\\nb'", plain: "a\nb" });
    type(0, "y");
    /** @type {[number, Record<string, boolean>, boolean][]} */
    const pressed = [[0, { shiftKey: true }, false], [1, {}, false], [0, {}, true], [1, { ctrlKey: true }, true], [1, { metaKey: true }, true]];
    for (const [i, keys, submits] of pressed) {
      const before = model.clicks().length;
      const event = new window.KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true, ...keys });
      input(i).dispatchEvent(event);
      assert.equal(event.defaultPrevented, submits, JSON.stringify([i, keys]));
      assert.equal(model.clicks().length, before + Number(submits));
      if (submits) model.put({ answers: [[String(model.clicks().at(-1)?.id), false, "no"]] });
    }
  });

  test("what literals of texts stand for is known where that is simple", () => {
    const texts = ["'a'", '"a\\n\\u00e9"', "'a\\n'", "'''a'''", "f'a'", "None", '"a', "''"];
    assert.deepEqual(texts.map(details.plainOf), ["a", "a\n\u00e9", undefined, undefined, undefined, undefined, undefined, ""]);
  });

  test("a refusal stands beside the field that it is about, which has the focus", () => {
    const model = opened({ text: "1" }, { text: "2" });
    type(0, "3");
    type(1, "two");
    button("Repair and rerun").click();
    model.put({ answers: [[String(model.clicks()[0].id), false, "n1: two is no Python literal."]] });

    const note = one(".tq-beside");
    assert.equal(note.textContent, "✗ n1: two is no Python literal.");
    assert.equal(note.getAttribute("role"), "alert");
    assert.equal(input(1).getAttribute("aria-errormessage"), note.id);
    assert.equal(document.activeElement, input(1));
    assert.equal(one(".tq-side-message").hidden, true);

    type(1, "2.5");
    assert.deepEqual(all(".tq-beside"), []);
    assert.equal(input(1).getAttribute("aria-invalid"), null);
  });

  test("a refusal goes when something else is done", () => {
    const model = opened({ text: "1" });
    type(0, "two");
    button("Repair and rerun").click();
    model.put({ answers: [[String(model.clicks()[0].id), false, "n0: two is no Python literal."]] });
    assert.equal(all(".tq-beside").length, 1);

    button("Use this value").click();
    model.put({ answers: [[String(model.clicks()[1].id), true, ""]] });

    assert.deepEqual(all(".tq-beside"), []);
    assert.equal(input(0).getAttribute("aria-invalid"), null);
    assert.equal(/** @type {HTMLInputElement} */ (input(0)).value, "two");
  });

  test("one of the source goes to its line; one of a value to that; any other stands below", () => {
    const model = opened({ text: "1" });
    const source = /** @type {HTMLTextAreaElement} */ (one(".tq-source"));
    const answer = (/** @type {string} */ sentence) => {
      const id = String(model.clicks().at(-1)?.id);
      model.put({ answers: [[id, false, sentence]] });
    };
    source.value = "def f():\n    retrun 1";
    fire(source, "input");
    button("Repair and rerun").click();
    answer("Line 2: invalid syntax: retrun 1. Nothing was changed.");
    assert.equal(document.activeElement, source);
    assert.equal(source.value.slice(source.selectionStart, source.selectionEnd), "    retrun 1");
    assert.equal(one(".tq-numbers > .tq-wrong").textContent, "! 2");
    assert.match(one(".tq-beside").textContent ?? "", /invalid syntax/);
    fire(source, "input");
    assert.deepEqual(all(".tq-wrong, .tq-beside"), []);

    button("Use this value").click();
    answer("The value: it is empty.");
    assert.equal(document.activeElement, one('[data-key="="]'));

    button("Repair and rerun").click();
    answer("The queue is running.");
    assert.equal(one(".tq-side-message .tq-alert").textContent, "The queue is running.");
  });

  test("the name of a field leads to it", () => {
    opened({ text: "1" });
    assert.equal(/** @type {HTMLLabelElement} */ (one(".tq-field label")).htmlFor, input(0).id);
  });
});
