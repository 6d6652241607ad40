// @ts-check
/**
 * What a front end imports anew for each widget and never frees: it is small, and has the page import
 * the view itself once.
 *
 * @typedef {{model: {get(key: "core"): string}, el: HTMLElement}} Context
 */

import { imported } from "./modules.js";

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
  let gone = false;
  let end = () => {};

  async function start() {
    try {
      const core = await imported(context.model.get("core"));
      if (!gone) end = core.render(context);
    } catch (error) {
      console.error(error);
      if (gone) return;
      const element = failure(error);
      context.el.append(element);
      end = () => element.remove();
    }
  }

  void start();
  return () => {
    gone = true;
    end();
  };
}

export default { render };
