// @ts-check
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, suite, test } from "node:test";

import { window } from "./page.mjs";

const { document } = window;
const { default: loader } = await import("../../taskqueue_nb/static/loader.js");
const { imported } = await import("../../taskqueue_nb/static/modules.js");

/** Node imports no blob: address. @type {{texts: string[], revoked: string[], refuse: boolean}} */
const page = { texts: [], revoked: [], refuse: false };
/** @type {Map<string, string>} */
const addresses = new Map();
let number = 0;

/** A core that says what it is shown, unlike any other. @param {string} [says] */
const core = (says = "here") => `
  // ${number++}
  globalThis.runs = (globalThis.runs ?? 0) + 1;
  export function render({ model, el }) {
    const root = document.createElement("div");
    root.textContent = ${JSON.stringify(says)} + model.get("heading");
    el.append(root);
    return () => root.remove();
  }`;

/** A model of anywidget with this core. @param {string} text */
function modelOf(text) {
  /** @type {Record<string, any>} */
  const state = { core: text, heading: "!", svg: "<svg/>", parts: { details: "export {}" }, states: "dd" };
  /** @type {Record<string, (() => void)[]>} */
  const listeners = {};
  return {
    state,
    /** The kernel closes it. */
    close: () => listeners.destroy?.forEach((does) => does()),
    get: (/** @type {string} */ key) => state[key],
    on: (/** @type {string} */ event, /** @type {() => void} */ does) => void (listeners[event] ??= []).push(does),
    off(/** @type {string} */ event, /** @type {() => void} */ does) {
      listeners[event] = (listeners[event] ?? []).filter((each) => each !== does);
    },
    listening: () => Object.values(listeners).flat().length,
    set(/** @type {string} */ key, /** @type {unknown} */ value, /** @type {{silent: boolean}} */ { silent }) {
      assert.ok(silent, "a change of a closed model is told to nobody");
      state[key] = value;
    },
  };
}

/** Show a view of this core. @param {string} text */
function shown(text) {
  const el = document.body.appendChild(document.createElement("div"));
  const model = modelOf(text);
  return { el, model, end: loader.render({ model, el }) };
}

/** Wait until the page has imported what it has been asked for, or has failed. @param {string} text */
const come = async (text) => {
  await imported(text).catch(() => {});
  await new Promise((resolve) => setImmediate(resolve));
};

const runs = () => Reflect.get(globalThis, "runs") ?? 0;

beforeEach(() => {
  Object.assign(page, { texts: [], revoked: [], refuse: false });
  Reflect.set(globalThis, "runs", 0);
  mock.method(console, "error", () => {});
  mock.method(globalThis, "Blob", function (/** @type {string[]} */ parts) {
    return { text: parts.join("") };
  });
  mock.method(URL, "createObjectURL", (/** @type {any} */ { text }) => {
    page.texts.push(text);
    const url = page.refuse ? `file:///not/there/${number++}.mjs` : `data:text/javascript,${encodeURIComponent(text)}`;
    addresses.set(url, text);
    return url;
  });
  mock.method(URL, "revokeObjectURL", (/** @type {string} */ url) => page.revoked.push(addresses.get(url) ?? ""));
});

afterEach(() => {
  mock.restoreAll();
  document.body.replaceChildren();
});

/** How often the page was told that something went wrong. */
const errors = () => /** @type {any} */ (console.error).mock.callCount();

suite("the loader", () => {
  test("several views at once and later ones import the core once, and its address is given back", async () => {
    const text = core();
    const views = [shown(text), shown(text)];
    await come(text);
    views.push(shown(text));
    await come(text);

    assert.deepEqual(views.map(({ el }) => el.textContent), ["here!", "here!", "here!"]);
    assert.equal(runs(), 1);
    assert.deepEqual(page.texts, [text]);
    assert.deepEqual(page.revoked, [text]);
    for (const { el, end } of views) {
      end();
      assert.equal(el.childElementCount, 0);
    }
    assert.equal(errors(), 0);
  });

  test("what a closed widget was told is let go; while it is open, a view that ends takes nothing along", async () => {
    const text = core();
    const { el, model, end } = shown(text);
    await come(text);
    end();
    assert.equal(model.listening(), 0);
    assert.equal(model.state.svg, "<svg/>");
    assert.equal(model.state.core, text);

    const last = loader.render({ model, el });
    await come(text);
    model.close();
    assert.equal(model.state.svg, "<svg/>"); // the view may still look at it
    last();
    const { core: _core, svg, parts, states } = model.state;
    assert.deepEqual([_core, svg, parts, states], [null, null, null, "dd"]);
    assert.equal(el.childElementCount, 0);
  });

  test("another text is another core: two versions live on one page", async () => {
    const [one, two] = [core("one"), core("two")];
    const views = [shown(one), shown(two)];
    await Promise.all([come(one), come(two)]);

    assert.deepEqual(views.map(({ el }) => el.textContent), ["one!", "two!"]);
  });

  test("once the page has the core, a view is there before anything can be painted", async () => {
    const text = core();
    await imported(text);
    const { el } = shown(text);
    for (let i = 0; i < 5; i++) await null; // microtasks alone

    assert.equal(el.textContent, "here!");
  });

  test("a view that is removed before its core has come draws nothing", async () => {
    const text = core();
    const { el, end } = shown(text);
    end();
    await come(text);

    assert.equal(runs(), 1);
    assert.equal(el.childElementCount, 0);
  });

  test("a core that cannot be imported is told in the cell, and tried again for the next view", async () => {
    page.refuse = true;
    const text = core();
    const views = [shown(text), shown(text)];
    await come(text);

    for (const { el, end } of views) {
      const alert = el.querySelector('[role="alert"]');
      assert.match(alert?.textContent ?? "", /could not be started \(.+\).*blob: address.*Run the cell again/);
      end();
      assert.equal(el.childElementCount, 0);
    }
    assert.equal(errors(), 2);
    page.refuse = false;
    const { el } = shown(text);
    await come(text);
    assert.equal(el.textContent, "here!");
    assert.equal(page.revoked.length, page.texts.length);
  });

  test("a failure after the view was removed draws nothing", async () => {
    page.refuse = true;
    const text = core();
    const { el, end } = shown(text);
    end();
    await come(text);

    assert.equal(el.childElementCount, 0);
  });

  test("a core that cannot draw is told as well", async () => {
    const text = 'export function render() { throw new Error("no <b>picture</b>"); }';
    const { el, end } = shown(text);
    await come(text);

    assert.match(el.textContent ?? "", /could not be started \(Error: no <b>picture<\/b>\)/);
    end();
    assert.equal(el.childElementCount, 0);
  });
});
