// @ts-check
/** Modules that come as texts from the kernel. */

/** @type {Map<string, Promise<any>>} By its text; on the page, since each widget has a copy of this module and none is ever freed. */
const modules = (/** @type {any} */ (globalThis)[Symbol.for("taskqueue_nb modules")] ??= new Map());

/** @param {string} text @returns {Promise<any>} */
async function load(text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  try {
    return await import(url);
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** A module from its text, once on a page; one that could not be imported is tried again. @param {string} text @returns {Promise<any>} */
export function imported(text) {
  let found = modules.get(text);
  if (!found) {
    found = load(text);
    modules.set(text, found);
    found.catch(() => modules.delete(text)); // whoever asked is told by the promise itself
  }
  return found;
}
