// @ts-check
/**
 * The live view of a task graph. It draws what the kernel tells it and reports what was clicked.
 *
 * The top of this file is pure functions; below them each piece of the view is a function that
 * makes its elements and returns how to update them; `render` wires the pieces together. What is not
 * needed for the first picture is a part: a module of its own, which the kernel sends when it is wanted.
 *
 * @typedef {import("./types.js").Action} Action
 * @typedef {import("./types.js").Context} Context
 * @typedef {import("./types.js").Details} Details
 * @typedef {import("./types.js").Foreseen} Foreseen
 * @typedef {import("./types.js").Look} Look
 * @typedef {import("./types.js").Mending} Mending
 * @typedef {import("./types.js").Model} Model
 * @typedef {import("./types.js").Panel} Panel
 * @typedef {import("./types.js").Parts} Parts
 * @typedef {import("./types.js").Place} Place
 * @typedef {import("./types.js").Progress} Progress
 */

import { badge, button, icon, make, messages, named, roled, telling } from "./elements.js";
import { finder } from "./finder.js";
import { WAITING_AFTER, clicks, hideStill } from "./live.js";
import { imported } from "./modules.js";
import { drawing } from "./pane.js";

const SPEAK_EVERY = 2000; // ms between two sentences for a screen reader

// ---------------------------------------------------------------- pure functions

/** The time left, coarse enough not to flicker. @param {number} seconds @returns {string} */
export function timeLeft(seconds) {
  if (seconds < 1.5) return "about 1 s left";
  if (seconds < 10) return `about ${Math.round(seconds)} s left`;
  if (seconds < 55) return `about ${Math.ceil(seconds / 5) * 5} s left`;
  if (seconds < 3570) return `about ${Math.max(1, Math.round(seconds / 60))} min left`;
  return `about ${(seconds / 3600).toFixed(1)} h left`;
}

/** Where the run stands, in words. @param {Progress} progress @returns {string} */
export function standing(progress) {
  const { total, done, running, held, left } = progress;
  const parts = [`${done} of ${total} done`];
  if (held) parts.push("held");
  else if (running) parts.push(left === null ? "running" : timeLeft(left));
  return parts.join(" · ");
}

/**
 * The counts in words, for a screen reader.
 *
 * @param {Record<string, number>} counts
 * @param {Look[]} looks
 * @returns {string}
 */
export function counted(counts, looks) {
  return looks
    .filter((look) => counts[look.state] && !look.victim)
    .map((look) => `${counts[look.state]} ${look.word}`)
    .join(", ");
}

/**
 * Counts by state, of counts by letter: what failed because of another has failed all the same.
 *
 * @param {Record<string, number>} tally
 * @param {Look[]} looks
 */
export function counting(tally, looks) {
  /** @type {Record<string, number>} */
  const counts = {};
  for (const { letter, state } of looks) counts[state] = (counts[state] ?? 0) + (tally[letter] ?? 0);
  return counts;
}

/**
 * The place that stands `step` places after another one, round and round; the first or last at first.
 *
 * @param {string[]} places
 * @param {string} from
 * @param {number} step
 * @returns {string | undefined}
 */
export function turned(places, from, step) {
  const i = places.indexOf(from);
  return places.at(i < 0 ? Math.min(step, 0) : (i + step) % places.length);
}

/**
 * Where the boxes stand that fell by themselves, not because of another.
 *
 * @param {string} letters
 * @param {{at: string}[]} boxes
 * @param {Look[]} looks
 * @returns {string[]}
 */
export function fallen(letters, boxes, looks) {
  const causes = looks.filter(({ state, victim }) => !victim && /^(FAILED|CANCELLED|ABORT)$/.test(state));
  return boxes.filter((_, i) => causes.some(({ letter }) => letter === letters[i])).map(({ at }) => at);
}

// ---------------------------------------------------------------- the parts

const ICONS = {
  run: "M3 1.5v11l9-5.5z",
  hold: "M2.5 1.5h3v11h-3zM8.5 1.5h3v11h-3z",
  step: "M1.5 1.5v11l7-5.5zM9.5 1.5h2.5v11H9.5z",
  stop: "M2 2h10v10H2z",
  undo: "M5 1 1 5l4 4V6.3h3a2.2 2.2 0 0 1 0 4.4H4v2h4a4.2 4.2 0 0 0 0-8.4H5z",
  retry: "M7 2a5 5 0 1 0 4.9 6h-1.8A3.3 3.3 0 1 1 7 3.7c.9 0 1.7.4 2.3 1L7.5 6.5H12V2l-1.5 1.5A5 5 0 0 0 7 2z",
};

/**
 * Run, Hold, Step, Stop, Retry all failed, Undo; how far the run is, what blocks it.
 *
 * @param {{
 *   act: (verb: string, extra?: Record<string, unknown>) => void,
 *   busy: (verb: string) => boolean,
 *   cause: (step: number) => void,
 * }} does
 */
function toolbar({ act, busy, cause }) {
  const bar = roled(make("div", "tq-bar"), "toolbar", "Run the queue");
  let resume = false;
  /** @param {string} text @param {string} shape @param {string} title @param {() => void} does */
  const add = (text, shape, title, does) => {
    const made = button(text, does);
    made.element.prepend(icon(shape));
    made.element.title = title;
    bar.append(made.element);
    return made;
  };
  const run = add("Run", ICONS.run, "Run every task that is ready, in the background", () => act("run"));
  const hold = add("Hold", ICONS.hold, "", () => act(resume ? "resume" : "hold"));
  const step = add("Step", ICONS.step, "Run exactly one task", () => act("step"));
  const stop = add("Stop", ICONS.stop, "Start nothing more and end the run", () => act("stop"));
  const text = make("span", "tq-standing");
  const blocks = make("span");
  const causes = make("span", "tq-causes", blocks);
  const plans = make("span", "tq-plans");
  const line = make("div", "tq-line", text, causes, plans);
  for (const [sign, label, way] of /** @type {[string, string, number][]} */ ([
    ["‹", "Previous cause", -1],
    ["›", "Next cause", 1],
  ])) {
    const { element } = button(sign, () => cause(way), "tq-quiet");
    causes.append(named(element, label, `${label} (${label[0].toLowerCase()} in the graph)`));
  }
  /** A button that does a plan, which is shown in the line. @param {string} label @param {string} verb @param {string} title */
  const planned = (label, verb, title) => {
    let plan = "";
    const made = add(label, ICONS.retry, title, () => act(verb, plan ? { plan } : {}));
    const says = telling(made.element);
    plans.append(says);
    /** @param {Foreseen} foreseen @param {boolean} on */
    return (foreseen, on) => {
      plan = foreseen.plan;
      says.textContent = foreseen.says && `${label}: ${foreseen.says}`;
      made.enable(on && !busy(verb));
      return made.element;
    };
  };
  const retry = planned("Retry all failed", "retry_failed", "Make every failed task pending again, with what it blocks");
  const undo = add("Undo", ICONS.undo, "", () => act("undo"));
  const refresh = planned("Refresh stale", "refresh", "Run again what is out of date, and what was made from it");

  const gauge = roled(make("div", "tq-gauge"), "progressbar", "Tasks done");
  gauge.setAttribute("aria-valuemin", "0");

  return {
    bar,
    gauge,
    line,
    /** @param {Progress} progress @param {Mending} mending @param {Record<string, number>} counts @param {Look[]} looks @param {boolean} lost */
    update(progress, mending, counts, looks, lost) {
      const { running, held, total, done } = progress;
      const count = (/** @type {string} */ state) => counts[state] ?? 0;
      const waiting = count("PENDING") + count("PREPARE") + count("QUEUED");
      resume = held;
      const idle = !lost && !running && waiting > 0;
      run.enable(idle && !busy("run") && !busy("step"));
      run.element.classList.toggle("tq-primary", idle);
      hold.label.textContent = held ? "Resume" : "Hold";
      hold.element.title = held ? "Carry on" : "Start no new task until resumed";
      hold.enable(!lost && (running || held) && !busy(held ? "resume" : "hold"));
      step.enable(idle && !busy("run") && !busy("step"));
      stop.enable(!lost && running && !busy("stop"));
      retry(mending.retry, !lost && count("FAILED") > 0);
      refresh(mending.refresh, !lost).hidden = !mending.refresh.says;
      undo.enable(!lost && mending.undo !== "" && !busy("undo"));
      named(undo.element, mending.undo ? `Undo: ${mending.undo}` : "There is nothing to undo");
      blocks.textContent = mending.causes;
      causes.classList.toggle("tq-off", !mending.causes);
      text.textContent = standing(progress);
      text.dataset.total = String(total);
      gauge.setAttribute("aria-valuemax", String(total));
      gauge.setAttribute("aria-valuenow", String(done));
      gauge.setAttribute("aria-valuetext", `${done} of ${total}`);
      const order = ["DONE", "FAILED", "CANCELLED", "ABORT", "RUNNING", "QUEUED"];
      const shown = order.filter((state) => count(state) && looks.length);
      while (gauge.childElementCount > shown.length) gauge.lastElementChild?.remove();
      shown.forEach((state, i) => {
        const part = /** @type {HTMLElement} */ (gauge.children[i] ?? gauge.appendChild(make("i")));
        part.dataset.state = state.toLowerCase();
        part.style.width = `${(100 * count(state)) / (total || 1)}%`;
      });
    },
  };
}

/**
 * Counts by state: the legend, and a filter.
 *
 * @param {(letters: Set<string>) => void} filter
 */
function chips(filter) {
  const element = roled(make("div", "tq-chips"), "group", "Counts by state; press one to look at it alone");
  /** @type {Set<string>} */
  const on = new Set();
  /** @type {Map<string, {chip: HTMLElement, count: HTMLElement}>} */
  const made = new Map();
  const always = new Set(["PENDING", "RUNNING", "DONE", "FAILED"]);
  return {
    element,
    /** @param {Record<string, number>} counts @param {Look[]} looks */
    update(counts, looks) {
      const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
      element.style.setProperty("--tq-digits", String(String(all).length));
      for (const look of looks) {
        if (look.victim) continue; // counted with the state that it is in
        let known = made.get(look.letter);
        if (!known) {
          const count = make("b", "tq-count");
          const { element: chip } = button("", () => {
            const pressed = !on.has(look.letter);
            for (const { letter, state } of looks) {
              if (state === look.state) on[pressed ? "add" : "delete"](letter);
            }
            chip.setAttribute("aria-pressed", String(on.has(look.letter)));
            filter(on);
          });
          chip.className = "tq-chip";
          chip.setAttribute("aria-pressed", "false");
          chip.dataset.state = look.state.toLowerCase();
          chip.replaceChildren(count, badge(look));
          chip.hidden = !always.has(look.state);
          element.append(chip);
          known = { chip, count };
          made.set(look.letter, known);
        }
        const number = counts[look.state] ?? 0;
        if (number) known.chip.hidden = false; // and it stays, so that the row does not jump
        known.chip.classList.toggle("tq-none", !number);
        known.count.textContent = String(number);
      }
    },
  };
}

// ---------------------------------------------------------------- what comes after the picture

/**
 * The parts of a view: at once where the page has them, else when the kernel has sent them.
 *
 * @param {Model} model
 * @param {Partial<Parts>} ready
 */
function parts(model, ready) {
  /** @type {Map<keyof Parts, ((part: any) => void)[]>} */
  const waiting = new Map();
  /** @param {keyof Parts} name */
  async function come(name) {
    const text = model.get("parts")[name];
    const wanted = waiting.get(name);
    if (!text || !wanted) return;
    waiting.delete(name);
    const part = await imported(text);
    for (const use of wanted) use(part);
  }
  return {
    come: () => [...waiting.keys()].forEach((name) => void come(name)),
    forget: () => waiting.clear(),
    /** @template {keyof Parts} K @param {K} name @param {(part: Parts[K]) => void} use @param {boolean} ask */
    want(name, use, ask) {
      const part = ready[name];
      if (part) {
        use(part);
        return;
      }
      waiting.set(name, [...(waiting.get(name) ?? []), use]);
      if (ask && !model.get("parts")[name]) model.send({ verb: "part", at: name });
      void come(name);
    },
  };
}

/** What the dock holds, by the name of the panel: its part, and its title. @type {[string, keyof Parts, string, string][]} */
const PANELS = [
  ["timeline", "record", "Timeline", "A bar for each attempt, by when and where it ran"],
  ["history", "record", "History", "Every transition, and the graph as it was at any moment"],
  ["table", "table", "Table", "Every task in a table that can be sorted"],
];

/**
 * Panels below the graph, one at a time: a row of tabs that open and close them.
 *
 * @param {Context} context
 * @param {(name: keyof Parts, use: (part: any) => void) => void} want
 */
function dock(context, want) {
  const tabs = roled(make("div", "tq-tabs"), "group", "More views of this queue");
  const place = make("div", "tq-docked");
  const element = make("div", "tq-dock", tabs, place);
  place.hidden = true;
  let open = "";
  /** @type {Panel | null} */
  let panel = null;

  /** @param {string} name */
  function show(name) {
    panel?.dispose();
    panel = null;
    open = name;
    for (const tab of tabs.children) {
      tab.setAttribute("aria-expanded", String(/** @type {HTMLElement} */ (tab).dataset.panel === name));
    }
    place.replaceChildren();
    place.hidden = !name;
    const [, part] = PANELS.find(([each]) => each === name) ?? [];
    if (!part) return;
    place.append(make("p", "tq-more", "Loading…"));
    want(part, (module) => {
      if (open !== name || panel) return;
      panel = /** @type {Panel} */ (module[name](context));
      place.replaceChildren(panel.element);
      panel.update();
    });
  }

  for (const [name, , label, title] of PANELS) {
    const tab = button(label, () => show(open === name ? "" : name), "tq-tab").element;
    tab.dataset.panel = name;
    tab.title = title;
    tab.setAttribute("aria-expanded", "false");
    tabs.append(tab);
  }
  return {
    element,
    /** Something that a panel may show has changed. */
    update: () => panel?.update(),
    close: () => show(""),
  };
}

// ---------------------------------------------------------------- the view

/**
 * @param {{model: Model, el: HTMLElement}} context
 * @param {Partial<Parts>} [ready] parts that need not be sent
 * @returns {() => void}
 */
export function render({ model, el }, ready = {}) {
  let selected = "";
  let filtered = "";
  let lost = false;
  /** @type {string | null} The letters of another moment, while the view is rewound to it. */
  let past = null;
  /** @type {Record<string, number>} The counts by state at that moment. */
  let then = {};
  /** @type {ReturnType<Parts["details"]["panel"]> | undefined} */
  let side;
  let spoken = 0;
  let drawDue = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let speaker;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let looking;
  const still = model.get("still") ?? false; // a record: one looks, and nothing acts

  const root = roled(make("div", "tq"), "region");
  const live = roled(make("div", "tq-live"), "status");
  const top = messages("tq-top-message");

  const sent = clicks(model, {
    changed: refresh,
    answered(place, done, sentence) {
      const where = place === "side" && selected && side ? side.message : top;
      where.say(done ? "status" : "alert", sentence);
    },
  });
  const tools = toolbar({
    act: (verb, extra) => sent.send(`queue:${verb}`, "top", { verb, ...extra }),
    busy: (verb) => sent.busy(`queue:${verb}`),
    cause,
  });
  const legend = chips((letters) => {
    filtered = [...letters].join("");
    graph.filter(letters);
    below.update();
  });
  const search = finder({
    find: (text) => model.send({ verb: "find", value: text }),
    go: (at) => {
      select(at);
      graph.focus(at);
    },
    leave: () => graph.focus(),
  });
  const graph = drawing(root, {
    select,
    leave: () => select(""),
    cause,
    find: search.focus,
    see: (verb, at) => {
      if (still) return;
      if (verb.endsWith("fold")) select(""); // that box goes
      model.send({ verb: verb === "reset" ? "fold" : verb, at });
    },
  });
  const main = make("div", "tq-main", graph.element, top.element);
  const back = button(still ? "As saved" : "Live", () => rewind(null, ""), "tq-primary");
  const moment = make("span");
  const rewound = roled(make("div", "tq-past", moment, back.element), "status");
  rewound.hidden = true;
  const extra = parts(model, ready);
  const below = dock(
    {
      model,
      select: (at) => select(at),
      selected: () => selected,
      looks: () => model.get("looks"),
      boxes: () => model.get("boxes"),
      filter: () => filtered,
      send: (message) => model.send(message),
      act: (verb, more) => sent.send(`queue:${verb}`, "top", { verb, ...more }),
      rewind,
      rewound: () => past !== null,
    },
    (name, use) => extra.want(name, use, !lost),
  );
  root.append(
    make(
      "div",
      "tq-top",
      ...(still ? [] : [tools.bar]),
      tools.gauge,
      make("div", "tq-row", legend.element, search.element),
      make("div", "tq-lines", tools.line, rewound),
    ),
    main,
    below.element,
    live,
  );
  el.append(root);
  extra.want(
    "details",
    ({ panel }) => {
      side = panel({
        select: (at) => {
          select(at);
          graph.reveal(at);
        },
        leave: () => {
          select("");
          graph.focus();
        },
        act: (at, verb, more) => sent.send(`task:${at}`, "side", { verb, task: Number(at), ...more }),
        busy: (at) => sent.busy(`task:${at}`),
      });
      main.insertBefore(side.element, top.element);
      if (!selected) return;
      side.open(selected, labelOf(selected));
      details();
    },
    false, // it comes by itself
  );

  /** Show another moment, or the present again. @param {string | null} letters @param {string} sentence @param {Record<string, number>} [tally] by letter */
  function rewind(letters, sentence, tally = {}) {
    past = letters;
    then = counting(tally, model.get("looks"));
    moment.textContent = sentence;
    rewound.hidden = past === null;
    root.classList.toggle("tq-rewound", past !== null);
    states();
    legend.update(countsShown(), model.get("looks"));
    refresh();
  }

  /** The counts by state at the moment that is shown. */
  const countsShown = () => (past === null ? model.get("counts") : then);

  /** Nothing can be done: there is no kernel, or what is seen is not the present. */
  const idle = () => still || lost || past !== null;
  const labelOf = (/** @type {string} */ at) => {
    const box = model.get("boxes").find((each) => each.at === at);
    return box?.call || box?.label || "";
  };

  /** @param {string} at */
  function select(at) {
    selected = at;
    clearTimeout(looking);
    side?.open(at, labelOf(at));
    root.classList.toggle("tq-open", at !== "");
    graph.select(at);
    if (at) {
      graph.reveal(at);
      if (!lost) model.send({ verb: "look", at });
      looking = setTimeout(() => side?.wait(lost ? "" : "Waiting for the running cell…"), WAITING_AFTER);
    }
    details();
    below.update();
  }

  /** Select the next or previous cause of failures, of the moment that is shown. @param {number} step */
  function cause(step) {
    const places = past === null ? model.get("mending").at : fallen(past, model.get("boxes"), model.get("looks"));
    const at = turned(places, selected, step);
    if (at) select(at);
  }

  function details() {
    const told = model.get("details");
    const i = model.get("boxes").findIndex((box) => box.at === selected);
    const letter = model.get("states")[i] ?? "";
    const known = selected && told.at === selected ? /** @type {Details} */ (told) : null;
    if (known) clearTimeout(looking);
    side?.update(known, model.get("looks"), letter, idle(), past === null ? undefined : (past[i] ?? ""));
  }

  function refresh() {
    const progress = model.get("progress");
    const counts = countsShown();
    const shown = past === null ? progress : { ...progress, done: counts.DONE ?? 0 };
    tools.update(shown, model.get("mending"), counts, model.get("looks"), idle());
    side?.enable();
    top.wait(sent.late("top"));
    side?.message.wait(sent.late("side"));
  }

  function counts() {
    legend.update(countsShown(), model.get("looks"));
    refresh();
    clearTimeout(speaker);
    const wait = Math.max(0, spoken + SPEAK_EVERY - Date.now());
    speaker = setTimeout(() => {
      if (past !== null) return; // what is shown is said where the view says which moment it is
      spoken = Date.now();
      live.textContent = counted(model.get("counts"), model.get("looks"));
    }, wait);
  }

  function states() {
    if (past === null) graph.paint(model.get("states"), model.get("says"));
    else graph.paint(past, {});
    details();
    below.update();
  }

  function draw() {
    root.setAttribute("aria-label", `Task graph ${model.get("heading")}`);
    graph.through(model.get("lens"));
    try {
      graph.draw(model.get("svg"), model.get("boxes"), model.get("looks"), model.get("heading"));
      graph.say(model.get("note"));
    } catch (error) {
      graph.say(error instanceof Error ? error.message : String(error));
    }
    graph.select(selected);
    states();
  }

  function redraw() {
    if (drawDue) return;
    drawDue = true; // the drawing and its boxes come together, as two changes
    queueMicrotask(() => {
      drawDue = false;
      if (root.isConnected || el.contains(root)) draw();
    });
  }

  /** Said once, when the kernel restarts or its page loses it: this model never lives again. */
  function connection() {
    lost = true;
    root.classList.add("tq-lost");
    sent.forget();
    top.say(
      "alert",
      "The kernel is gone, and with it the tasks. This is the last picture; run the cell again to go on.",
    );
    refresh();
    details();
  }

  const answers = () => sent.hear(model.get("answers"));
  /** @type {[string, () => void][]} */
  const listeners = [
    ["change:svg", redraw],
    ["change:boxes", redraw],
    ["change:lens", () => graph.through(model.get("lens"))],
    ["change:finds", () => search.update(model.get("finds"), model.get("looks"))],
    ["change:note", () => graph.say(model.get("note"))],
    ["change:states", states],
    ["change:says", states],
    ["change:counts", counts],
    ["change:progress", refresh],
    ["change:mending", refresh],
    ["change:details", details],
    ["change:parts", () => extra.come()],
    ["change:answers", answers],
    ["comm_live_update", connection],
  ];
  for (const [event, does] of listeners) model.on(event, does);
  const sizes = typeof ResizeObserver === "undefined" ? null : new ResizeObserver(() => graph.resized());
  sizes?.observe(graph.element);

  draw();
  counts();
  if (model.get("selected")) select(model.get("selected"));
  const unhide = hideStill(el, model.get("key"));

  return () => {
    unhide();
    extra.forget();
    below.close();
    sizes?.disconnect();
    graph.dispose();
    sent.forget();
    top.dispose();
    side?.dispose();
    clearTimeout(speaker);
    clearTimeout(looking);
    for (const [event, does] of listeners) model.off(event, does);
    root.remove();
  };
}
