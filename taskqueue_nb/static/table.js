// @ts-check
/**
 * The tasks of a queue as a table: sorted by any column, a page at a time; each name leads to its task.
 *
 * @typedef {import("./types.js").Context} Context
 * @typedef {import("./types.js").Row} Row
 * @typedef {import("./types.js").Table} Table
 */
import { badge, button, duration, focusedBy, make, named, roled, typed } from "./elements.js";

/** Name, title and whether a column holds numbers. @type {[string, string, boolean][]} */
const COLUMNS = [
  ["order", "#", true],
  ["name", "task", false],
  ["state", "state", false],
  ["attempts", "attempts", true],
  ["started", "started", true],
  ["took", "took", true],
  ["required", "requires", true],
  ["error", "error", false],
];
const AT_ONCE = 50; // rows

/**
 * @param {Context} context
 * @returns {import("./types.js").Panel}
 */
export function table(context) {
  const { model } = context;
  let column = "order";
  let down = false;
  let start = 0;
  let states = "";
  const filter = typed(make("input", "tq-input tq-find"));
  filter.type = "search";
  filter.placeholder = "Only tasks named …";
  filter.spellcheck = false;
  filter.setAttribute("aria-label", "Show only tasks with this in their names");
  const caption = make("span", "tq-more");
  const back = button("‹", () => turn(-1), "tq-quiet");
  const on = button("›", () => turn(1), "tq-quiet");
  named(back.element, "Previous tasks");
  named(on.element, "More tasks");
  const body = make("tbody");
  const head = make("tr");
  const sheet = make("table", "tq-tasks", make("thead", "", head), body);
  sheet.setAttribute("aria-label", "Tasks of this queue");
  const scroller = roled(typed(make("div", "tq-scroller", sheet)), "region", "Table of tasks");
  scroller.tabIndex = 0;
  const element = make("div", "tq-tabled", make("div", "tq-row", filter, caption, back.element, on.element), scroller);
  /** @type {Map<string, HTMLElement>} */
  const heads = new Map();

  for (const [name, title, isNumber] of COLUMNS) {
    const { element: sort } = button(title, () => {
      down = column === name ? !down : isNumber && name !== "order";
      column = name;
      start = 0;
      ask();
    });
    sort.className = "tq-sort";
    const cell = make("th", isNumber ? "tq-number" : "", sort);
    cell.scope = "col";
    head.append(cell);
    heads.set(name, cell);
  }

  function ask() {
    states = context.filter();
    context.send({ verb: "table", at: column, down, from: start, value: filter.value, states });
  }

  /** @param {number} step */
  function turn(step) {
    start = Math.max(0, start + step * AT_ONCE);
    scroller.scrollTop = 0;
    ask();
  }

  filter.addEventListener("input", () => {
    start = 0;
    ask();
  });
  filter.addEventListener("keydown", (event) => event.stopPropagation());

  /** @param {Row} row */
  function line([at, label, letter, attempts, started, took, error, required]) {
    const look = context.looks().find((each) => each.letter === letter);
    const link = typed(make("button", "tq-to", label));
    link.type = "button";
    link.dataset.at = at;
    link.title = label; // a long one is cut
    link.addEventListener("click", () => context.select(at));
    const name = make("th", "", link);
    name.scope = "row";
    const cells = [
      make("td", "tq-number", String(Number(at) + 1)),
      name,
      make("td", "", badge(look)),
      make("td", "tq-number", attempts ? String(attempts) : ""),
      make("td", "tq-number", started === null ? "" : new Date(started * 1000).toLocaleTimeString()),
      make("td", "tq-number", took === null ? "" : duration(took)),
      make("td", "tq-number", required ? String(required) : ""),
      make("td", "tq-error-name", error),
    ];
    const tr = make("tr", "", ...cells);
    tr.classList.toggle("tq-on", at === context.selected());
    return tr;
  }

  function draw() {
    const told = /** @type {Table} */ (model.get("table"));
    if (!told.rows) return;
    start = told.start;
    for (const [name, cell] of heads) {
      if (name === told.column) cell.setAttribute("aria-sort", told.down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
    const active = focusedBy(body);
    const held = active && body.contains(active) ? active.dataset.at : undefined;
    body.replaceChildren(...told.rows.map(line));
    if (held) /** @type {HTMLElement | null} */ (body.querySelector(`[data-at="${held}"]`))?.focus({ preventScroll: true });
    const last = told.start + told.rows.length;
    caption.textContent = told.total ? `${told.start + 1} to ${last} of ${told.total} tasks` : "no such task";
    back.enable(told.start > 0);
    on.enable(last < told.total);
  }

  model.on("change:table", draw);
  ask();
  return {
    element,
    update() {
      if (states !== context.filter()) {
        start = 0;
        ask();
      } else draw();
    },
    dispose() {
      model.off("change:table", draw);
      context.send({ verb: "table", at: "" });
    },
  };
}
