// @ts-check
/**
 * What every live view needs: clicks that travel, and its still picture out of sight.
 *
 * @typedef {import("./types.js").Answer} Answer
 * @typedef {import("./types.js").Place} Place
 */

export const WAITING_AFTER = 1000; // ms without an answer until the view says what it waits for

/**
 * Clicks that travel: each has an id, is sent once, and is pending until its answer comes.
 *
 * @param {{get(key: "answers"): Answer[], send(message: Record<string, unknown>): void}} model
 * @param {{changed: () => void, answered: (place: Place, done: boolean, sentence: string) => void}} listener
 */
export function clicks(model, { changed, answered }) {
  const token = Math.random().toString(36).slice(2) + Date.now().toString(36);
  let number = 0;
  /** @typedef {{key: string, place: Place, late: boolean, timer: ReturnType<typeof setTimeout>}} Click */
  /** @type {Map<string, Click>} */
  const pending = new Map();
  /** @type {Set<string>} */
  let heard = new Set(model.get("answers").map(([id]) => id));
  const some = (/** @type {(click: Click) => boolean} */ test) => [...pending.values()].some(test);
  const busy = (/** @type {string} */ key) => some((click) => click.key === key);
  const forget = () => {
    for (const click of pending.values()) clearTimeout(click.timer);
    pending.clear();
  };
  return {
    busy,
    forget,
    late: (/** @type {Place} */ place) => some((click) => click.late && click.place === place),
    /**
     * Send a click, unless one with the same key is pending.
     *
     * @param {string} key
     * @param {Place} place
     * @param {Record<string, unknown>} message
     */
    send(key, place, message) {
      if (busy(key)) return;
      const id = `${token}-${number++}`;
      /** @type {Click} */
      const click = { key, place, late: false, timer: setTimeout(waits, WAITING_AFTER) };
      function waits() {
        click.late = true;
        changed();
      }
      pending.set(id, click);
      model.send({ id, ...message });
      changed();
    },
    /** @param {Answer[]} answers */
    hear(answers) {
      let any = false;
      for (const [id, done, sentence] of answers) {
        const click = pending.get(id);
        if (id.startsWith("?") && !heard.has(id)) answered("top", done, sentence); // of no click
        if (!click) continue;
        clearTimeout(click.timer);
        pending.delete(id);
        any = true;
        answered(click.place, done, sentence);
      }
      heard = new Set(answers.map(([id]) => id));
      if (any) changed();
    },
  };
}

/**
 * Hide the still picture of the same view in the same cell while this view lives.
 *
 * @param {HTMLElement} el
 * @param {string} key how the picture's alternative text begins
 * @returns {() => void} how to show it again
 */
export function hideStill(el, key) {
  /** @type {Set<HTMLElement>} */
  const hidden = new Set();
  /** @type {MutationObserver | undefined} */
  let observer;
  let tries = 0;
  let frame = 0;
  function look() {
    const area = el.closest(".jp-OutputArea");
    if (!area) {
      if (tries++ < 600) frame = requestAnimationFrame(look); // not in the page yet
      return;
    }
    const scan = () => {
      for (const child of area.children) {
        if (!(child instanceof HTMLElement) || child.contains(el)) continue;
        observer?.observe(child, { childList: true, subtree: true });
        const still = [...child.querySelectorAll("img")].some((image) => image.alt.startsWith(key));
        if (still && !hidden.has(child)) {
          hidden.add(child);
          child.classList.add("tq-still");
        }
      }
    };
    observer = new MutationObserver(scan);
    observer.observe(area, { childList: true });
    scan();
  }
  look();
  return () => {
    cancelAnimationFrame(frame);
    observer?.disconnect();
    for (const child of hidden) child.classList.remove("tq-still");
  };
}
