// @ts-check
/**
 * The history: every transition, and the graph as it was after any of them.
 *
 * @typedef {import("./types.js").Context} Context
 * @typedef {import("./types.js").Look} Look
 * @typedef {import("./types.js").Panel} Panel
 */
import { badge, button, icon, make, named, roled, typed } from "./elements.js";
import { calm, feedOf, isSelected } from "./feed.js";
import { clockTime, firstAtLeast, paces, replay, rowsSeen, scrolledTo } from "./story.js";

const ROW = 24; // px
const PLAY = "M3 1.5v11l9-5.5z";
const PAUSE = "M2.5 1.5h3v11h-3zM8.5 1.5h3v11h-3z";
const PACES = [
  ["1", "× 1"],
  ["4", "× 4"],
  ["16", "× 16"],
  ["64", "× 64"],
  ["0", "whole in 10 s"],
];
const PLAYED = 10; // s that a replay of the whole takes
const PAINT = 60; // ms between two pictures of a replay
const CALM = 400; // the same for those who want little motion
let lists = 0;

/**
 * Every transition, and the graph as it was after any of them.
 *
 * @param {Context} context
 * @returns {Panel}
 */
export function makeHistory(context) {
  const feed = feedOf(context);
  const { story } = feed;
  const back = button("‹", () => step(-1), "tq-quiet");
  const play = button("Play", () => (playing ? pause() : start()), "tq-quiet tq-play");
  const forth = button("›", () => step(1), "tq-quiet");
  const pace = typed(make("select", "tq-input tq-pace"));
  const slider = typed(make("input", "tq-slider"));
  const only = make("input");
  const onlyName = make("span");
  const filter = typed(make("label", "tq-check", only, onlyName));
  const says = make("span", "tq-moment");
  const rows = make("div", "tq-rows");
  const pane = typed(roled(make("div", "tq-story", rows), "listbox", "Transitions, the newest last"));
  const note = make("div", "tq-empty");
  const tools = roled(make("div", "tq-strip", back.element, play.element, forth.element, pace, slider), "toolbar", "Replay");
  const element = make("section", "tq-history", tools, make("div", "tq-strip tq-under", says, filter), make("div", "tq-chart", pane, note));
  element.setAttribute("aria-label", "History");
  named(back.element, "One transition back");
  named(forth.element, "One transition forward");
  const sign = icon(PLAY);
  play.element.prepend(sign);
  pace.setAttribute("aria-label", "How fast to play");
  for (const [value, text] of PACES) {
    const option = make("option", "", text);
    option.value = value;
    pace.append(option);
  }
  pace.value = "0";
  slider.type = "range";
  slider.min = "0";
  slider.step = "1";
  slider.setAttribute("aria-label", "Moment");
  only.type = "checkbox";
  pane.tabIndex = 0;
  const id = `tq-row-${Math.random().toString(36).slice(2, 8)}-${++lists}`;

  let moment = -1; // so many transitions have happened; -1: all, and more will
  let playing = false;
  let frame = 0;
  let held = false; // the slider is being moved
  let begun = { clock: 0, at: 0, painted: 0 };
  /** @type {Float64Array} */
  let clock = new Float64Array(0);
  /** @type {Uint32Array | null} The places of the rows that are listed; null: all. */
  let listed = null;
  let filtered = "";
  /** @type {Map<string, HTMLElement>} The lines that are seen. */
  let lines = new Map();
  let stuck = true; // at the end of the list
  let known = -1; // structure of the replay
  let version = -1;
  let drawn = "";
  /** @type {ReturnType<typeof replay> | null} */
  let film = null;
  /** @type {{row: number, before: number} | null} What the moment is, when places change: the row before it. */
  let anchor = null;
  let shown = "";

  const end = context.model.get("still") ? "As saved" : "Live";
  const live = () => moment < 0;
  const count = () => story.count;
  const at = () => (live() ? count() : moment);
  const looks = () => new Map(context.looks().map((look) => [look.letter.charCodeAt(0), look]));
  const length = () => (listed ? listed.length : count());
  const placeAt = (/** @type {number} */ i) => (listed ? listed[i] : i);

  // -- the moment

  /** Show the graph after so many transitions. @param {number} to */
  function look(to) {
    if (to >= count()) {
      leave();
      return;
    }
    moment = Math.max(0, to);
    anchor = moment ? { row: story.order[moment - 1], before: moment } : null;
    paint(true);
  }

  /** Back to the present. */
  function leave() {
    const was = moment;
    moment = -1;
    anchor = null;
    stuck = true; // the newest is what one wants to see again
    pause();
    if (was >= 0 || context.rewound()) context.rewind(null, "");
    refresh();
  }

  /** @param {boolean} moved */
  function paint(moved) {
    if (live()) return;
    if (known !== feed.structures || version !== story.version || !film) {
      film = replay(story, feed.boxOf, feed.boxes, feed.urgency);
      known = feed.structures;
      version = story.version;
    }
    const boxes = context.boxes();
    // for a drawing that has just changed it is not known yet which task is where
    const letters = feed.isOf(boxes) ? film.at(moment) : "u".repeat(boxes.length);
    const sentence = told();
    if (moved || `${letters} ${sentence}` !== drawn) {
      drawn = `${letters} ${sentence}`;
      context.rewind(letters, sentence, film.tally());
    }
    refresh();
  }

  function told() {
    const all = `${moment.toLocaleString("en")} of ${count().toLocaleString("en")} transitions`;
    if (!moment) return `Looking at the beginning, ${all}`;
    return `Looking at ${clockTime(story.when[story.order[moment - 1]])}, ${all}`;
  }

  /** @param {number} by */
  function step(by) {
    pause();
    look(at() + by);
    follow();
  }

  function start() {
    if (!count()) return;
    clock = paces(story);
    if (live()) look(0);
    if (live()) return;
    playing = true;
    begun = { clock: moment ? clock[moment - 1] : 0, at: performance.now(), painted: 0 };
    frame = requestAnimationFrame(turn);
    refresh();
  }

  function pause() {
    playing = false;
    cancelAnimationFrame(frame);
    refreshPlay();
  }

  /** @param {number} time */
  function turn(time) {
    if (!playing) return;
    frame = requestAnimationFrame(turn);
    if (time - begun.painted < (calm() ? CALM : PAINT)) return;
    begun.painted = time;
    const whole = Math.max(clock[clock.length - 1] ?? 0, 1e-9);
    const speed = Number(pace.value) || whole / PLAYED;
    const passed = begun.clock + ((time - begun.at) / 1000) * speed;
    const to = firstAtLeast(clock.length, (i) => clock[i], passed);
    if (to >= count() || to >= clock.length) {
      if (passed > whole) leave();
      return;
    }
    if (to !== moment) {
      look(to);
      follow();
    }
  }

  pace.addEventListener("change", () => {
    if (playing) start();
  });
  slider.addEventListener("input", () => {
    pause();
    look(Number(slider.value));
    follow();
  });
  slider.addEventListener("pointerdown", () => (held = true));
  for (const end of ["pointerup", "pointercancel", "change"]) {
    slider.addEventListener(end, () => {
      held = false;
      refresh();
    });
  }
  only.addEventListener("change", () => {
    filtered = "";
    changed();
    follow();
  });

  // -- the list

  /** Keep the row of the moment in view. */
  function follow() {
    const i = firstAtLeast(length(), placeAt, at()) - 1;
    if (i >= 0) pane.scrollTop = scrolledTo(pane.scrollTop, pane.clientHeight, length(), ROW, i);
    list();
  }

  pane.addEventListener("scroll", () => {
    stuck = pane.scrollTop + pane.clientHeight >= pane.scrollHeight - ROW;
    list();
  });
  pane.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = { ArrowUp: -1, ArrowDown: 1, PageUp: -8, PageDown: 8, Home: -Infinity, End: Infinity };
    const move = moves[/** @type {keyof typeof moves} */ (event.key)];
    if (move) {
      pause();
      const here = firstAtLeast(length(), placeAt, at()) - 1; // the last line that has happened
      const isAfter = here >= 0 && placeAt(here) + 1 < at(); // and others since, which are not listed
      const to = here + (isAfter && move < 0 ? move + 1 : move);
      look(to < 0 ? 0 : to >= length() ? count() : placeAt(to) + 1);
      follow();
    } else if (event.key === "Enter" && at() > 0) context.select(String(story.task[story.order[at() - 1]]));
    else if (event.key === " ") playing ? pause() : start();
    else if (event.key === "Escape" && !live()) leave();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  pane.addEventListener("click", (event) => {
    const row = /** @type {HTMLElement} */ (event.target).closest?.(".tq-step");
    if (!(row instanceof HTMLElement)) return;
    pause();
    look(Number(row.dataset.place) + 1);
    list();
  });
  pane.addEventListener("dblclick", (event) => {
    const row = /** @type {HTMLElement} */ (event.target).closest?.(".tq-step");
    if (row instanceof HTMLElement) context.select(String(story.task[story.order[Number(row.dataset.place)]]));
  });

  /** The line of a transition: the one that is there already, if it says the same. @param {number} place @param {string} name @param {Look | undefined} was @param {Look | undefined} is */
  function lineOf(place, name, was, is) {
    const row = story.order[place];
    const key = `${place} ${row} ${was?.letter} ${is?.letter} ${name}`;
    const there = lines.get(key);
    if (there) return there;
    const time = make("span", "tq-when", clockTime(story.when[row], true));
    const went = make("span", "tq-was", `${was?.word ?? "unknown"} →`);
    const line = roled(make("div", "tq-step", time, make("span", "tq-who", name), make("span", "tq-went", went, badge(is))), "option");
    line.id = `${id}-${place}`;
    line.dataset.key = key;
    line.dataset.place = String(place);
    return line;
  }

  function list() {
    const many = length();
    const { height, first, last, top } = rowsSeen(pane.scrollTop, pane.clientHeight || 200, many, ROW);
    rows.style.height = `${height}px`;
    const known = looks();
    const selected = isSelected(context, feed);
    const here = at();
    const found = [];
    let active = "";
    for (let i = first; i < last; i++) {
      const place = placeAt(i);
      const row = story.order[place];
      const line = lineOf(place, feed.name(story.task[row]), known.get(story.before[row]), known.get(story.letter[row]));
      line.style.top = `${top + (i - first) * ROW}px`;
      line.setAttribute("aria-setsize", String(many));
      line.setAttribute("aria-posinset", String(i + 1));
      const current = !live() && place === here - 1;
      line.setAttribute("aria-selected", String(current));
      if (current) active = line.id;
      line.classList.toggle("tq-later", place >= here);
      line.classList.toggle("tq-mine", selected(story.task[row]));
      found.push(line);
    }
    // rows that stay are not touched: a click that is under way would miss its row
    lines = new Map(found.map((line) => [line.dataset.key ?? "", line]));
    for (const line of [...rows.children]) if (!lines.has(/** @type {HTMLElement} */ (line).dataset.key ?? "")) line.remove();
    found.forEach((line, i) => {
      if (rows.children[i] !== line) rows.insertBefore(line, rows.children[i] ?? null);
    });
    if (active) pane.setAttribute("aria-activedescendant", active);
    else pane.removeAttribute("aria-activedescendant");
  }

  function refreshPlay() {
    play.label.textContent = playing ? "Pause" : "Play";
    sign.firstElementChild?.setAttribute("d", playing ? PAUSE : PLAY);
  }

  function refresh() {
    const many = count();
    if (!held) slider.max = String(many);
    slider.value = String(at());
    const last = at() ? clockTime(story.when[story.order[at() - 1]]) : "the beginning";
    const text = live() ? `${end}: ${many.toLocaleString("en")} transition${many === 1 ? "" : "s"}` : `${last}, ${moment.toLocaleString("en")} of ${many.toLocaleString("en")} transitions`;
    slider.setAttribute("aria-valuetext", text);
    slider.style.setProperty("--tq-part", `${many ? (100 * at()) / many : 100}%`);
    says.textContent = feed.total > many ? `Loading ${many.toLocaleString("en")} of ${feed.total.toLocaleString("en")} transitions…` : text;
    back.enable(at() > 0);
    forth.enable(!live());
    play.enable(many > 0);
    slider.disabled = !many;
    refreshPlay();
    if (stuck && live()) pane.scrollTop = pane.scrollHeight;
    list();
  }

  function select() {
    const name = context.selected() && context.boxes().find((each) => each.at === context.selected())?.label;
    const task = /^\d+$/.test(context.selected()) ? feed.name(Number(context.selected())) : "";
    const text = name || task;
    onlyName.textContent = text ? `only ${text}` : "only the selected task";
    only.disabled = !text;
    if (!text) only.checked = false;
  }

  /** Which rows are listed. */
  function choose() {
    const key = only.checked ? `${context.selected()} ${story.count} ${story.version} ${feed.structures}` : "";
    if (key === filtered) return;
    filtered = key;
    if (!only.checked) {
      listed = null;
      return;
    }
    const selected = isSelected(context, feed);
    const found = [];
    for (let i = 0; i < story.count; i++) if (selected(story.task[story.order[i]])) found.push(i);
    listed = Uint32Array.from(found);
  }

  function changed() {
    if (anchor && story.order[anchor.before - 1] !== anchor.row) {
      // rows that came late were put in before the moment: it has moved with its row
      const time = story.when[anchor.row];
      let place = firstAtLeast(story.count, (i) => story.when[story.order[i]], time);
      while (place < story.count && story.order[place] !== anchor.row) place++;
      moment = anchor.before = place + 1;
    }
    if (playing) clock = paces(story);
    select();
    choose();
    note.textContent = feed.total < 0 ? "Waiting for the record…" : count() ? "" : "Nothing has happened yet.";
    note.hidden = !note.textContent;
    if (rows.style.height !== `${Math.min(8e6, length() * ROW)}px`) rows.style.height = `${Math.min(8e6, length() * ROW)}px`;
    paint(false);
    if (live()) refresh();
  }

  const stop = feed.use(changed);
  const sizes = typeof ResizeObserver === "undefined" ? null : new ResizeObserver(list);
  sizes?.observe(pane);
  changed();

  return {
    element,
    update() {
      if (!live() && !context.rewound()) {
        moment = -1; // the view has been put back to the present
        anchor = null;
        stuck = true;
        pause();
        refresh();
      }
      const now = [context.selected(), ...context.boxes().map(({ at }) => at)].join();
      if (now === shown) return;
      shown = now;
      changed();
    },
    dispose() {
      stop();
      pause();
      sizes?.disconnect();
      if (!live()) context.rewind(null, "");
      moment = -1;
      element.remove();
    },
  };
}
