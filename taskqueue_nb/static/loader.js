// @ts-check
/**
 * What a front end imports anew for each widget and never frees: it is small, and has the page import
 * the view itself once.
 *
 * @typedef {object} Model of anywidget
 * @property {(key: string) => any} get
 * @property {(event: string, callback: () => void) => void} on
 * @property {(event: string, callback: () => void) => void} off
 * @property {(key: string, value: unknown, options: {silent: boolean}) => void} set
 *
 * @typedef {{model: Model, el: HTMLElement}} Context
 */

import { imported } from "./modules.js";

/** What is large of a widget; the last is never. */
const LARGE = ["core", "_css", "svg", "boxes", "parts", "details", "table", "diagram", "log", "key"];

/** Let go of what a closed widget was told: JupyterLab 4 keeps each for as long as its kernel. @param {Model} model */
function empty(model) {
  // one by one, since Backbone keeps what was there before the last change
  for (const name of LARGE) if (model.get(name)) model.set(name, null, { silent: true });
}

/** Said in place of a view that does not come. @param {unknown} error */
function failure(error) {
  const message = document.createElement("p");
  message.className = "tq-message";
  message.dataset.kind = "alert";
  message.setAttribute("role", "alert");
  message.textContent =
    `The live view could not be started (${error}). It needs a page that may import modules from a blob: address. ` +
    "Run the cell again to try once more.";
  const element = document.createElement("div");
  element.className = "tq";
  element.append(message);
  return element;
}

/**
 * Show a view as soon as its module is there. What ends it is there at once: it may be removed before.
 *
 * @param {Context} context of anywidget, which is handed on
 * @returns {() => void}
 */
function render(context) {
  const { model, el } = context;
  let gone = false;
  let closed = false;
  let end = () => {};

  async function start() {
    try {
      const core = await imported(model.get("core"));
      if (!gone) end = core.render(context);
    } catch (error) {
      console.error(error);
      if (gone) return;
      const element = failure(error);
      el.append(element);
      end = () => element.remove();
    }
  }

  const destroyed = () => {
    closed = true; // by its kernel; its views are removed right after
  };

  void start();
  model.on("destroy", destroyed);
  return () => {
    gone = true;
    model.off("destroy", destroyed);
    end();
    if (closed) empty(model);
  };
}

export default { render };
