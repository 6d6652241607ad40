// @ts-check
/**
 * The details of the selected task: what it is, how it failed, and what can be done about it.
 *
 * @typedef {import("./types.js").Details} Details
 * @typedef {import("./types.js").Field} Field
 * @typedef {import("./types.js").Link} Link
 * @typedef {import("./types.js").Look} Look
 */
import { badge, button, duration, make, messages, named, telling, typed } from "./elements.js";
import { changesShown, compared, movedTo } from "./changes.js";
import { editor } from "./editor.js";
import { onTheme, previewed } from "./preview.js";
import { traced } from "./traceback.js";

/**
 * What the user changed: the key of each field whose text is not what it was.
 *
 * @param {Field[]} fields
 * @param {Map<string, string>} texts
 * @returns {Record<string, string>}
 */
export function edits(fields, texts) {
  /** @type {Record<string, string>} */
  const found = {};
  for (const field of fields) {
    const text = texts.get(field.key);
    if (text === undefined || field.kind === "task") continue;
    const before = field.kind === "kept" ? "" : field.text;
    if (text.trim() !== before.trim()) found[field.key] = text;
  }
  return found;
}

/**
 * Copy a text; where the page may not, leave it selected for whoever presses the keys.
 *
 * @param {string} text
 * @param {HTMLElement} holder
 * @returns {Promise<boolean>} whether it is copied
 */
export async function copy(text, holder) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // no clipboard over plain http, or it was refused
  }
  for (const old of holder.querySelectorAll(".tq-copied")) old.remove();
  const field = typed(make("textarea", "tq-input tq-copied"));
  field.value = text;
  field.readOnly = true;
  field.rows = Math.min(8, text.split("\n").length);
  field.setAttribute("aria-label", "The call as a cell");
  holder.append(field);
  field.focus();
  field.select();
  if (!document.execCommand?.("copy")) return false;
  field.remove();
  return true;
}

/**
 * Everything about the selected task.
 *
 * @param {{
 *   select: (at: string) => void,
 *   leave: () => void,
 *   act: (at: string, verb: string, extra: Record<string, unknown>) => void,
 *   busy: (at: string) => boolean,
 * }} does
 */
export function panel({ select, leave, act, busy }) {
  const title = make("h3", "tq-title");
  title.tabIndex = -1;
  typed(title);
  const state = make("div", "tq-state");
  const close = button("×", leave, "tq-close");
  named(close.element, "Close the details");
  const body = make("div", "tq-body");
  const message = messages("tq-side-message");
  const actions = make("div", "tq-actions");
  const foot = make("div", "tq-foot", message.element, actions);
  const head = make("div", "tq-head", make("div", "tq-titles", title, state), close.element);
  const element = make("section", "tq-side", head, body, foot);
  element.setAttribute("aria-label", "Details of the selected task");
  element.hidden = true;
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    leave();
    event.stopPropagation();
    event.preventDefault();
  });

  let at = "";
  let lost = false;
  /** @type {Details | null} */
  let now = null;
  /** @type {Look[]} */
  let looks = [];
  /** @type {Map<string, string>} What the user typed, by field. */
  const texts = new Map();
  /** @type {Map<string, {text: string, values: unknown[]}>} What each section shows, to leave the unchanged alone. */
  const shown = new Map();
  let letter = "";

  const lookOf = (/** @type {string} */ of) => looks.find((look) => look.letter === of);

  /** @param {Link[]} links @returns {HTMLElement} */
  function linked(links) {
    const list = make("span", "tq-links");
    for (const [to, label, of] of links) {
      const link = typed(make("button", "tq-link", badge(lookOf(of), label)));
      link.type = "button";
      link.title = lookOf(of)?.word ?? "";
      if (to) link.setAttribute("aria-label", `Go to ${label}: ${link.title}`);
      link.disabled = !to; // a task of another queue
      link.addEventListener("click", () => select(to));
      list.append(link);
    }
    return list;
  }

  /**
   * A part of the panel, drawn anew only when what it shows has changed; the focus stays in it.
   *
   * @param {HTMLElement} holder
   * @param {string} name
   * @param {unknown} value
   * @param {() => (Node | string)[]} draw
   */
  function part(holder, name, value, draw) {
    const before = shown.get(name);
    const values = Array.isArray(value) ? value : [value];
    if (before && values.every((each, i) => each === before.values[i])) return; // pictures are long
    const text = JSON.stringify(value ?? null);
    shown.set(name, { text, values });
    if (before?.text === text) return;
    const active = /** @type {HTMLElement | null} */ (document.activeElement);
    const inside = active && holder.contains(active) ? active.dataset.key ?? "" : null;
    const children = draw();
    holder.replaceChildren(...children);
    holder.hidden = children.length === 0;
    if (inside === null) return;
    /** @type {HTMLElement | null} */
    const again = inside ? holder.querySelector(`[data-key="${CSS.escape(inside)}"]`) : null;
    (again ?? title).focus({ preventScroll: true });
  }

  /** @typedef {{name: string, title: HTMLElement, folds: HTMLDetailsElement, content: HTMLElement}} Section */
  /** @type {Section[]} */
  const sections = [];

  /** A section that folds. @param {string} name @returns {Section} */
  function section(name) {
    const content = make("div", "tq-content");
    const title = typed(make("summary", "", name));
    const folds = make("details", "tq-section", title, content);
    folds.open = true;
    body.append(folds);
    sections.push({ name, title, folds, content });
    return sections[sections.length - 1];
  }

  const why = make("div", "tq-why");
  const error = make("div", "tq-error");
  const progress = make("div", "tq-progressed");
  const form = make("form", "tq-form");
  const members = make("div", "tq-members");
  body.append(why, error, progress, members, form);
  const supply = section("Use a value instead");
  const result = section("Result");
  const trace = section("Traceback");
  const source = section("Source");
  const output = section("Output");
  const attempts = section("Attempts");
  const around = section("Around it");

  /** @param {string} text */
  const code = (text) => {
    const pre = typed(make("pre", "tq-pre", text));
    pre.tabIndex = 0;
    return pre;
  };

  /** Press the action that stands out, as Enter in a field does. */
  function submit() {
    const first = /** @type {HTMLElement | null} */ (actions.querySelector(".tq-primary"));
    first?.click();
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });

  /** A field of code, not of prose. @param {HTMLInputElement | HTMLTextAreaElement} field @param {string} key @param {string} text */
  function plain(field, key, text) {
    field.value = text;
    field.dataset.key = key;
    field.spellcheck = false;
    field.autocomplete = "off";
    field.setAttribute("autocapitalize", "off");
    const typedIn = () => {
      texts.set(key, field.value);
      enable();
    };
    field.addEventListener("input", typedIn);
    return typedIn;
  }

  /** A field for a Python literal. @param {string} text @param {string} key @param {() => void} enter */
  function literal(text, key, enter) {
    const long = text.length > 48 || text.includes("\n");
    const field = typed(make(long ? "textarea" : "input", "tq-input"));
    if (field instanceof HTMLTextAreaElement) field.rows = Math.min(8, 2 + Math.floor(text.length / 48));
    else field.type = "text";
    plain(field, key, text);
    field.addEventListener("keydown", (event) => {
      const pressed = /** @type {KeyboardEvent} */ (event);
      if (pressed.key !== "Escape") pressed.stopPropagation();
      if (pressed.key !== "Enter" || (long && !pressed.ctrlKey && !pressed.metaKey)) return;
      pressed.preventDefault();
      enter();
    });
    return field;
  }

  /** @returns {Record<string, string>} */
  const edited = () => (now?.editable ? edits(now.fields ?? [], texts) : {});

  /** @returns {string | undefined} */
  function editedSource() {
    const text = texts.get("()");
    return now?.editable && text !== now.source ? text : undefined;
  }

  /** Take all edits back. */
  function reset() {
    texts.clear();
    shown.delete("form");
    shown.delete(source.name);
    update(now, looks, letter, lost);
  }

  /** @param {Details} details @returns {Node[]} */
  function fields(details) {
    if (!details.fields?.length) return [];
    const rows = details.fields.map((field) => {
      const name = make("span", "tq-name", field.name);
      const row = make("label", "tq-field", name);
      row.dataset.field = field.key;
      if (field.kind === "task") {
        const kept = make("div", "tq-field", name, linked(field.links));
        kept.title = "The result of this task is passed";
        return kept;
      }
      if (!details.editable) {
        row.append(make("code", "tq-value", field.text));
        return row;
      }
      const before = field.kind === "kept" ? "" : field.text;
      const input = literal(texts.get(field.key) ?? before, field.key, submit);
      input.setAttribute("aria-label", `Argument ${field.name}${field.kind === "kept" ? ", kept" : ""}`);
      if (field.kind === "kept") {
        input.placeholder = `kept: ${field.text}`;
        input.title = "This value cannot be written as a literal. It is kept unless you replace it.";
      } else if (field.kind === "default") name.append(make("small", "", " default"));
      row.append(input);
      if (field.links.length) row.append(linked(field.links));
      return row;
    });
    return [make("h4", "", "Arguments"), ...rows];
  }

  /** The editor of the selected task's source, and what stands below it. @type {ReturnType<typeof editor> | null} */
  let written = null;
  const below = make("div", "tq-below");

  /** @param {Details} details @returns {Node[]} */
  function sourced(details) {
    written = null;
    if (typeof details.source !== "string") return [];
    const made = editor({
      text: texts.get("()") ?? details.source,
      key: "()",
      label: "Source of the function",
      readOnly: !details.editable,
      changed() {
        texts.set("()", made.field.value);
        compare();
        enable();
      },
      submit,
    });
    written = made;
    return [made.element, below];
  }

  /** Say what the text has in it that the last attempt did not run, and where that attempt failed. */
  function compare() {
    if (!written || typeof now?.source !== "string") return;
    const { source: kept, failing = 0, ran } = now;
    const text = written.field.value;
    const line = failing ? movedTo(compared(kept, text), failing) : 0;
    written.fail(line);
    part(below, "below", [at, text, kept, failing, ran?.number, ran?.source], () => {
      const changes = ran ? changesShown(compared(ran.source ?? kept, text), `attempt ${ran.number}`) : [];
      return [...(line ? [make("div", "tq-type", `✗ Line ${line} failed in the last attempt.`)] : []), ...changes];
    });
  }

  /** @param {Details} details @returns {Node[]} */
  function supplied(details) {
    if (!details.suppliable) return [];
    const go = () => act(at, "supply", { value: input.value, run: then.checked });
    const input = literal(texts.get("=") ?? "", "=", go);
    input.setAttribute("aria-label", "Value to use as the result");
    input.placeholder = "a Python literal, such as 42 or [1, 2]";
    const then = typed(make("input"));
    then.type = "checkbox";
    then.checked = true;
    const use = button("Use this value", go);
    use.element.dataset.key = "supply";
    return [
      input,
      make("div", "tq-row", use.element, make("label", "tq-check", then, " then continue")),
      telling(use.element),
    ];
  }

  /** What it returned, as its class shows it, else as text. @param {Details} details @returns {Node[]} */
  function returned({ result: value }) {
    if (!value) return [];
    const type = make("div", "tq-type", value.type);
    const rich = value.rich ? previewed(value.rich, "Result", element) : [];
    return [type, ...rich, ...(value.rich?.kind || !value.text ? [] : [code(value.text)])];
  }

  /** What it printed, and what it displayed. @param {Details} details @returns {Node[]} */
  function said({ output: text, displayed = [] }) {
    const shows = displayed.flatMap((each, i) => previewed(each, `Displayed ${i + 1}`, element));
    return [...(text ? [code(text)] : []), ...shows];
  }

  const endTheme = onTheme(() => {
    for (const { name } of [result, output]) shown.delete(name); // their frames have the page's colours
    if (now) update(now, looks, letter, lost);
  });

  /** How it failed: taken apart, or as text where that is all there is. @param {Details} details @returns {Node[]} */
  function failure({ trace: errors, traceback, of_attempt: of }) {
    trace.title.textContent = of ? `Traceback of attempt ${of}` : "Traceback";
    if (errors?.length) return traced(errors);
    return traceback ? [code(traceback)] : [];
  }

  /** @param {Details} details @returns {Node[]} */
  function table(details) {
    if (!details.attempts?.length) return [];
    const rows = details.attempts.map((attempt) => {
      const when = attempt.started === null ? "" : new Date(attempt.started * 1000).toLocaleTimeString();
      const took = attempt.took === null ? "" : duration(attempt.took);
      const row = make(
        "tr",
        "",
        make("td", "", String(attempt.number)),
        make("td", "", badge(lookOf(attempt.letter))),
        make("td", "", when),
        make("td", "tq-number", took),
      );
      if (attempt.error) row.title = attempt.error;
      return row;
    });
    const heads = ["#", "ended", "started", "took"].map((text) => {
      const cell = make("th", "", text);
      cell.scope = "col";
      return cell;
    });
    const copied = button("Copy as cell", () => {
      cellWanted = now?.cell?.[0] ?? 0;
      act(at, "cell", {});
    });
    copied.element.dataset.key = "cell";
    const says = telling(copied.element);
    says.textContent = "a cell that makes the last call again; nothing runs";
    return [
      make("table", "tq-table", make("thead", "", make("tr", "", ...heads)), make("tbody", "", ...rows)),
      make("div", "tq-does", copied.element, says),
    ];
  }

  /** The number of the cell that was there when this view asked for one; -1 if it has not. */
  let cellWanted = -1;

  /** Copy the cell that this view has asked for, once it is there. */
  function copyCell() {
    const cell = now?.cell;
    if (!cell || cellWanted < 0 || cell[0] === cellWanted) return;
    cellWanted = -1;
    void copy(cell[1], attempts.content).then((done) => {
      message.say("status", done ? "Copied. Paste it into a cell." : "Press Ctrl+C to copy it.", !done);
    });
  }

  /** @param {Details} details @returns {Node[]} */
  function neighbours(details) {
    const rows = [];
    for (const [name, links] of /** @type {[string, Link[] | undefined][]} */ ([
      ["Requires", details.required],
      ["Required by", details.blocking],
    ])) {
      if (links?.length) rows.push(make("div", "tq-around", make("span", "tq-name", name), linked(links)));
    }
    return rows;
  }

  /** Bring the buttons, and what each says that it will do, up to date. */
  function enable() {
    const moved = now !== null && letter !== "" && now.letter !== letter;
    const off = lost || moved || busy(at);
    const changes = Object.keys(edited());
    for (const row of form.querySelectorAll(".tq-field")) {
      row.classList.toggle("tq-edited", changes.includes(/** @type {HTMLElement} */ (row).dataset.field ?? ""));
    }
    const what = changes.length > 0 || editedSource() !== undefined;
    source.content.classList.toggle("tq-edited", editedSource() !== undefined);
    [...actions.children].forEach((row, i) => {
      const { verb, run, says = "" } = now?.actions?.[i] ?? { verb: "", run: false };
      const [go, back] = row.querySelectorAll("button");
      const repairs = verb === "repair";
      const wrong = verb !== "cancel" && repairs === !what; // edits are for the one button that takes them
      go.setAttribute("aria-disabled", String(off || wrong));
      go.classList.toggle("tq-primary", (repairs || (verb === "retry" && run)) && !wrong);
      back?.setAttribute("aria-disabled", String(!what));
      const note = row.querySelector("small");
      if (!note) return;
      note.textContent = !wrong ? says : repairs ? "once you have edited something" : "Reset your edits first";
    });
    supply.content.querySelector("button")?.setAttribute("aria-disabled", String(off));
    attempts.content.querySelector("button")?.setAttribute("aria-disabled", String(off));
    const note = supply.content.querySelector("small");
    if (note) note.textContent = now?.supplies ?? "";
  }

  /** @param {Details | null} details @param {Look[]} newLooks @param {string} newLetter @param {boolean} gone */
  function update(details, newLooks, newLetter, gone) {
    looks = newLooks;
    letter = newLetter;
    lost = gone;
    now = details;
    if (!details) {
      enable();
      return;
    }
    title.textContent = details.label;
    part(state, "state", [letter || details.letter, details.calls], () => [
      badge(lookOf(letter || details.letter)),
      ...(details.calls ? [make("code", "tq-calls", details.calls)] : []),
    ]);
    const reasons = [details.why, details.cause, details.stale && `Stale: ${details.stale}`];
    part(why, "why", reasons, () => reasons.flatMap((text) => (text ? [make("div", "", text)] : [])));
    part(error, "error", details.error, () => (details.error ? [details.error] : []));
    part(progress, "progress", details.progressed, () => {
      if (!details.progressed) return [];
      const [did, of] = details.progressed;
      const bar = make("progress");
      bar.max = of || 1;
      bar.value = did;
      return [bar, make("span", "", `${did} of ${of}`)];
    });
    part(members, "members", [details.members, details.more], () => {
      if (!details.members) return [];
      const more = details.more ? [make("p", "tq-more", `and ${details.more} more`)] : [];
      return [linked(details.members), ...more];
    });
    part(form, "form", [details.at, details.fields, details.editable], () => fields(details));
    /** @type {[Section, unknown, () => (Node | string)[]][]} */
    const folded = [
      [supply, [details.at, details.suppliable], () => supplied(details)],
      [
        result,
        details.result,
        () => returned(details),
      ],
      [source, [details.at, details.source, details.editable], () => sourced(details)],
      [trace, [details.trace, details.traceback], () => failure(details)],
      [output, [details.output, details.displayed], () => said(details)],
      [attempts, details.attempts, () => table(details)],
      [around, [details.required, details.blocking], () => neighbours(details)],
    ];
    for (const [{ name, folds, content }, value, draw] of folded) {
      part(content, name, value, draw);
      folds.hidden = content.hidden;
    }
    compare();
    copyCell();
    part(actions, "actions", details.actions?.map(({ label }) => label), () =>
      (details.actions ?? []).map(({ verb, label, run, hint }, i) => {
        const made = button(label, () => {
          const plan = now?.actions?.[i]?.plan;
          const source = editedSource();
          const edits = { edits: edited(), ...(source === undefined ? {} : { source }) };
          act(at, verb, { run, ...(verb === "repair" ? edits : plan ? { plan } : {}) });
        });
        made.element.title = hint;
        made.element.dataset.verb = verb;
        made.element.dataset.key = `${verb}-${run}`;
        const row = make("div", "tq-does", made.element);
        if (verb === "repair") row.append(button("Reset", reset, "tq-quiet").element);
        row.append(telling(made.element));
        return row;
      }),
    );
    enable();
  }

  return {
    element,
    message,
    enable,
    update,
    dispose() {
      endTheme();
      message.dispose();
    },
    /** Show another task, or nothing. @param {string} to @param {string} label */
    open(to, label) {
      if (to === at) return;
      at = to;
      now = null;
      cellWanted = -1;
      texts.clear();
      shown.clear();
      message.say("status", "");
      element.hidden = !to;
      title.textContent = label;
      for (const holder of [state, why, error, progress, members, form, actions]) holder.replaceChildren();
      for (const { folds, content } of sections) {
        content.replaceChildren();
        folds.hidden = true;
      }
      supply.folds.open = false;
      body.scrollTop = 0;
    },
    /** @param {string} text */
    wait(text) {
      if (!now) part(why, "why", text, () => (text ? [text] : []));
    },
  };
}
