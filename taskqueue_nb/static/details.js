// @ts-check
/**
 * The details of the selected task: what it is, how it failed, and what can be done about it.
 *
 * @typedef {import("./types.js").Details} Details
 * @typedef {import("./types.js").Field} Field
 * @typedef {import("./types.js").Link} Link
 * @typedef {import("./types.js").Look} Look
 */
import { badge, button, duration, focusedBy, make, messages, named, telling, typed } from "./elements.js";
import { changesShown, compared, movedTo } from "./changes.js";
import { editor } from "./editor.js";
import { onTheme, previewed } from "./preview.js";
import { traced } from "./traceback.js";
import { blame, forgive } from "./wrong.js";

const FORM = Math.random().toString(36).slice(2, 8); // other views have copies of this module
let inputs = 0;

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
 * The text that a simple literal of a text stands for; undefined for any other.
 *
 * @param {string} written
 * @returns {string | undefined}
 */
export function plainOf(written) {
  if (/^'[^'\\\n]*'$/.test(written)) return written.slice(1, -1);
  if (!/^"/.test(written)) return undefined;
  try {
    return String(JSON.parse(written)); // as this form writes them
  } catch {
    return undefined;
  }
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
  const earlier = make("div", "tq-earlier");
  earlier.hidden = true;
  const close = button("×", leave, "tq-close");
  named(close.element, "Close the details");
  const body = make("div", "tq-body");
  const message = messages("tq-side-message");
  const actions = make("div", "tq-actions");
  const foot = make("div", "tq-foot", message.element, actions);
  const head = make("div", "tq-head", make("div", "tq-titles", title, earlier, state), close.element);
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
  /** @type {string | undefined} Its letter in the graph, while that shows another moment. */
  let moment;

  /** Show anew what is known. */
  const again = () => update(now, looks, letter, lost, moment);
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
    const active = focusedBy(holder);
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

  /**
   * Keep what is typed into a field, and its keys from the notebook; Enter does what Enter does.
   *
   * @param {HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement} field
   * @param {string} key
   * @param {() => string} read the Python literal that stands there
   * @param {() => void} enter
   */
  function kept(field, key, read, enter) {
    field.dataset.key = key;
    if (!(field instanceof HTMLSelectElement)) {
      field.spellcheck = false;
      field.autocomplete = "off";
      field.setAttribute("autocapitalize", "off");
    }
    field.addEventListener("input", () => {
      texts.set(key, read());
      forgive(field);
      enable();
    });
    field.addEventListener("keydown", (event) => {
      const pressed = /** @type {KeyboardEvent} */ (event);
      if (pressed.key !== "Escape") pressed.stopPropagation();
      const isText = field instanceof HTMLTextAreaElement;
      const breaks = isText && (field.rows > 1 ? !pressed.ctrlKey && !pressed.metaKey : pressed.shiftKey);
      if (pressed.key !== "Enter" || pressed.isComposing || breaks) return;
      pressed.preventDefault();
      enter();
    });
  }

  /** One line, or several for what is long or has some: an `<input>` would drop those that are pasted. @param {string} text */
  function lined(text) {
    const field = typed(make("textarea", "tq-input"));
    const grow = () => {
      const rows = Math.min(8, 1 + Math.floor(field.value.length / 48) + field.value.split("\n").length);
      field.rows = Math.max(field.rows, rows);
      field.wrap = "soft";
    };
    field.rows = 1;
    field.wrap = "off";
    field.value = text;
    if (text.length > 48 || text.includes("\n")) grow();
    field.addEventListener("input", () => {
      if (field.value.includes("\n")) grow();
    });
    return field;
  }

  /** A field for a Python literal. @param {string} text @param {string} key @param {() => void} enter */
  function literal(text, key, enter) {
    const field = lined(text);
    kept(field, key, () => field.value, enter);
    return field;
  }

  /** @type {Set<string>} Fields of a text in which the user writes a literal instead. */
  const asLiteral = new Set();

  /**
   * The control of an argument: what fits its kind, and always a Python literal to the kernel.
   *
   * @param {Field} field
   * @returns {{control: HTMLElement, input: HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement}}
   */
  function control(field) {
    const { key, text, choices = [], plain } = field;
    const written = texts.get(key) ?? text;
    if (field.as === "bool" && /^(True|False)$/.test(written)) {
      const box = typed(make("input"));
      box.type = "checkbox";
      box.checked = written === "True";
      const word = make("code", "tq-value", written);
      box.addEventListener("input", () => (word.textContent = box.checked ? "True" : "False"));
      kept(box, key, () => (box.checked ? "True" : "False"), submit);
      return { control: make("span", "tq-check", box, word), input: box };
    }
    if (field.as === "choice") {
      const list = typed(make("select", "tq-input"));
      for (const each of choices.includes(written) ? choices : [written, ...choices]) {
        const option = make("option", "", each);
        option.value = each;
        option.selected = each === written;
        list.append(option);
      }
      kept(list, key, () => list.value, submit);
      return { control: list, input: list };
    }
    const known = written === text ? plain : plainOf(written);
    if (field.as === "str" && known !== undefined && !asLiteral.has(key)) return quoted(field, known);
    const input = literal(written, key, submit);
    if (field.as === "int" || field.as === "float") input.inputMode = field.as === "int" ? "numeric" : "decimal";
    if (field.as !== "str") return { control: input, input };
    return { control: make("span", "tq-quoted", input, quoting(field)), input };
  }

  /** A field for a text between quotes that stand outside of it. @param {Field} field @param {string} known */
  function quoted(field, known) {
    const input = lined(known);
    const read = () => (input.value === field.plain ? field.text : JSON.stringify(input.value));
    kept(input, field.key, read, submit);
    const quote = () => {
      const sign = make("span", "tq-quote", "'");
      sign.setAttribute("aria-hidden", "true");
      return sign;
    };
    return { control: make("span", "tq-quoted", quote(), input, quote(), quoting(field)), input };
  }

  /** What changes between a text and a literal. @param {Field} field */
  function quoting({ key, name }) {
    const made = button("…", () => {
      if (!asLiteral.delete(key)) asLiteral.add(key);
      shown.delete("form");
      again();
      /** @type {HTMLElement | null} */ (form.querySelector(`[data-key="${CSS.escape(key)}"]`))?.focus();
    }, "tq-quiet tq-quoting");
    const isOn = asLiteral.has(key);
    made.element.setAttribute("aria-pressed", String(isOn));
    made.label.textContent = isOn ? "text" : "literal";
    return named(made.element, `Write ${name} as ${isOn ? "a text" : "a Python literal"}`);
  }

  // -- what is wrong, beside the field that it is in

  /** Find the field that a refusal is about; false if there is none. @param {string} sentence */
  function blamed(sentence) {
    const line = /^Line (\d+): /.exec(sentence);
    if (line && written && editedSource() !== undefined) {
      blame(written.field, source.content, sentence);
      written.blame(Number(line[1]));
      return true;
    }
    const changed = Object.keys(edited());
    const about = (now?.fields ?? []).find(({ key, name }) => changed.includes(key) && sentence.startsWith(`${name}: `));
    const key = about?.key ?? (sentence.startsWith("The value: ") ? "=" : "");
    /** @type {HTMLElement | null} */
    const field = key ? element.querySelector(`[data-key="${CSS.escape(key)}"]`) : null;
    if (!field) return false;
    blame(field, field.closest(".tq-field") ?? supply.content, sentence);
    return true;
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
    asLiteral.clear();
    shown.delete("form");
    shown.delete(source.name);
    again();
  }

  /** A control that is its own field. @template {HTMLElement} E @param {E} input */
  const both = (input) => ({ control: input, input });

  /** @param {Details} details @returns {Node[]} */
  function fields(details) {
    if (!details.fields?.length) return [];
    const rows = details.fields.map((field) => {
      const name = make("label", "tq-name", field.name);
      const row = make("div", "tq-field", name);
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
      const before = texts.get(field.key) ?? "";
      const { control: shows, input } =
        field.kind === "kept" ? both(literal(before, field.key, submit)) : control(field);
      input.id = `tq-argument-${FORM}-${++inputs}`;
      name.htmlFor = input.id;
      input.setAttribute("aria-label", `Argument ${field.name}${field.kind === "kept" ? ", kept" : ""}`);
      if (field.kind === "kept" && !(input instanceof HTMLSelectElement)) {
        input.placeholder = `kept: ${field.text}`;
        input.title = "This value cannot be written as a literal. It is kept unless you replace it.";
      } else if (field.kind === "default") name.append(make("small", "", " default"));
      row.append(shows);
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
        forgive(made.field);
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
    if (now) again();
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
        make("td", "", badge(lookOf(attempt.letter)), ...(attempt.error ? [make("small", "tq-told", attempt.error)] : [])),
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
    const rowsShown = make("table", "tq-table", make("thead", "", make("tr", "", ...heads)), make("tbody", "", ...rows));
    if (details.cell === undefined) return [rowsShown]; // nobody is there to write one
    const copied = button("Copy as cell", () => {
      cellWanted = now?.cell?.[0] ?? 0;
      act(at, "cell", {});
    });
    copied.element.dataset.key = "cell";
    const says = telling(copied.element);
    says.textContent = "a cell that makes the last call again; nothing runs";
    return [rowsShown, make("div", "tq-does", copied.element, says)];
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

  /** @param {Details | null} details @param {Look[]} newLooks @param {string} newLetter @param {boolean} gone @param {string} [newMoment] the letter that it has in the graph, while that shows another moment */
  function update(details, newLooks, newLetter, gone, newMoment) {
    looks = newLooks;
    moment = newMoment;
    letter = newLetter;
    lost = gone;
    now = details;
    if (!details) {
      enable();
      return;
    }
    title.textContent = details.label;
    part(earlier, "earlier", [moment], () => {
      if (moment === undefined) return [];
      const was = lookOf(moment);
      return ["The graph shows another moment", ...(was ? [", when this was ", badge(was)] : []), ". All below is of the latest."];
    });
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
      [attempts, [details.attempts, details.cell === undefined], () => table(details)],
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
    message: {
      ...message,
      /** @param {"status" | "alert"} kind @param {string} sentence @param {boolean} [stays] */
      say(kind, sentence, stays) {
        for (const field of element.querySelectorAll("[aria-invalid]")) forgive(field); // what was refused before
        const isBeside = kind === "alert" && blamed(sentence);
        message.say(isBeside ? "status" : kind, isBeside ? "" : sentence, stays);
      },
    },
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
      asLiteral.clear();
      shown.clear();
      message.say("status", "");
      element.hidden = !to;
      title.textContent = label;
      for (const holder of [earlier, state, why, error, progress, members, form, actions]) holder.replaceChildren();
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
