// @ts-check
/**
 * Finding a task by its name.
 *
 * @typedef {import("./types.js").Finds} Finds
 * @typedef {import("./types.js").Look} Look
 */
import { badge, focusedBy, make, roled, typed } from "./elements.js";

let finders = 0;

/**
 * A field in which one types a part of a name, and the tasks that match.
 *
 * @param {{find: (text: string) => void, go: (at: string) => void, leave: () => void}} does
 */
export function finder({ find, go, leave }) {
  const id = `tq-finds-${Math.random().toString(36).slice(2, 8)}-${++finders}`;
  const input = roled(typed(make("input", "tq-input tq-find")), "combobox", "Find a task by its name");
  const list = roled(make("div", "tq-hits"), "listbox", "Tasks that match");
  const more = make("div", "tq-more");
  const drop = make("div", "tq-drop", list, more);
  const element = make("div", "tq-finder", input, drop);
  input.type = "search";
  input.placeholder = "Find a task";
  input.spellcheck = false;
  input.autocomplete = "off";
  input.setAttribute("aria-controls", id);
  input.setAttribute("aria-autocomplete", "list");
  list.id = id;
  let chosen = -1;
  show(false);

  /** @param {boolean} yes */
  function show(yes) {
    drop.hidden = !yes;
    input.setAttribute("aria-expanded", String(yes));
    if (!yes) choose(-1);
  }

  /** @param {number} i */
  function choose(i) {
    chosen = i;
    [...list.children].forEach((hit, j) => hit.setAttribute("aria-selected", String(i === j)));
    if (list.children[i]) {
      input.setAttribute("aria-activedescendant", list.children[i].id);
      list.children[i].scrollIntoView?.({ block: "nearest" });
    } else input.removeAttribute("aria-activedescendant");
  }

  function clear() {
    input.value = "";
    show(false);
    find("");
  }

  /** @param {string} at */
  function take(at) {
    clear();
    go(at);
  }

  input.addEventListener("input", () => {
    find(input.value);
    if (!input.value.trim()) show(false);
  });
  input.addEventListener("blur", () => show(false));
  input.addEventListener("focus", () => show(input.value.trim() !== "" && list.childElementCount > 0));
  drop.addEventListener("pointerdown", (event) => event.preventDefault()); // the focus stays
  input.addEventListener("keydown", (event) => {
    event.stopPropagation();
    const { key } = event;
    const count = list.childElementCount;
    if (key === "ArrowDown" || key === "ArrowUp") {
      if (count) choose((chosen + (key === "ArrowDown" ? 1 : chosen < 0 ? 0 : -1) + count) % count);
    } else if (key === "Enter") {
      const hit = /** @type {HTMLElement | undefined} */ (list.children[Math.max(0, chosen)]);
      if (hit && !drop.hidden) take(hit.dataset.at ?? "");
    } else if (key === "Escape") {
      if (input.value) clear();
      else leave();
    } else return;
    event.preventDefault();
  });

  return {
    element,
    focus: () => input.focus(),
    /** @param {Finds} finds @param {Look[]} looks */
    update(finds, looks) {
      if (finds.text !== input.value || !finds.text.trim()) return; // of something typed before
      list.replaceChildren(
        ...finds.hits.map(([at, label, letter], i) => {
          const look = looks.find((each) => each.letter === letter);
          const hit = roled(make("div", "tq-hit", badge(look, label), make("small", "", look?.word ?? "")), "option");
          hit.id = `${id}-${i}`;
          hit.dataset.at = at;
          hit.addEventListener("click", () => take(at));
          return hit;
        }),
      );
      const left = finds.total - finds.hits.length;
      more.textContent = finds.total === 0 ? "No task is called like that." : left > 0 ? `and ${left} more` : "";
      show(focusedBy(input) === input);
      choose(finds.hits.length ? 0 : -1);
    },
  };
}
