// @ts-check
/** A view in a page for each test, and ways to find and press what is in it. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock } from "node:test";

import { makeModel, window } from "./page.mjs";

const { document } = window;

export const graph = await import("../../taskqueue_nb/static/graph.js");
export const details = await import("../../taskqueue_nb/static/details.js");
export const table = await import("../../taskqueue_nb/static/table.js");
export const changes = await import("../../taskqueue_nb/static/changes.js");
export const python = await import("../../taskqueue_nb/static/python.js");
export const preview = await import("../../taskqueue_nb/static/preview.js");
export const trace = await import("../../taskqueue_nb/static/traceback.js");

/** Where the view stands, and what ends it. @type {{el: HTMLElement, end: (() => void) | undefined}} */
export const view = { el: document.body, end: undefined };

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  view.el = document.body.appendChild(document.createElement("div"));
});

afterEach(() => {
  view.end?.();
  view.end = undefined;
  document.body.replaceChildren();
  mock.timers.reset();
});

/** @param {Parameters<typeof makeModel>[0]} [changes] */
export function shown(changes) {
  const model = makeModel(changes);
  view.end = graph.render({ model, el: view.el }, { details, table });
  return model;
}

/** @param {string} selector @returns {HTMLElement[]} */
export const all = (selector) => [...view.el.querySelectorAll(selector)].map((found) => /** @type {HTMLElement} */ (found));

/** @param {string} selector @returns {HTMLElement} */
export function one(selector) {
  const found = all(selector);
  assert.equal(found.length, 1, `${found.length} elements are ${selector}`);
  return found[0];
}

/** The button that says this. @param {string} text @returns {HTMLElement} */
export function button(text) {
  const found = all("button").filter((b) => b.textContent?.trim() === text);
  assert.equal(found.length, 1, `${found.length} buttons say ${text}`);
  return found[0];
}

/** @param {Element} node @param {string} type @param {object} [options] @returns {Event} */
export function fire(node, type, options = {}) {
  const Kind = type.startsWith("key") ? window.KeyboardEvent : window.Event;
  const event = new Kind(type, { bubbles: true, cancelable: true, ...options });
  node.dispatchEvent(event);
  return event;
}

export const node = (/** @type {string} */ at) => one(`.node[data-at="${at}"]`);
export const press = (/** @type {Element} */ where, /** @type {string} */ key) => fire(where, "keydown", { key });
export const off = (/** @type {Element} */ where) => where.getAttribute("aria-disabled") === "true";
export const settled = () => new Promise((resolve) => setImmediate(resolve));
