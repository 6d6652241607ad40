// @ts-check
/**
 * The pane of a live view: the drawing, its states, pan and zoom, and the way through it by keys.
 *
 * @typedef {import("./types.js").Box} Box
 * @typedef {import("./types.js").Lens} Lens
 * @typedef {import("./types.js").Look} Look
 * @typedef {import("./types.js").Rect} Rect
 * @typedef {import("./types.js").Size} Size
 * @typedef {import("./types.js").View} View
 */
import { SVG, badge, button, dress, focusedBy, make, named, roled, typed } from "./elements.js";

const ELEMENTS = new Set(
  "svg g path polygon polyline ellipse circle rect line text tspan title".split(" "),
);
const ATTRIBUTES = new Set(
  (
    "id class d points x y x1 y1 x2 y2 cx cy r rx ry dx dy width height transform viewBox fill " +
    "stroke stroke-width stroke-dasharray stroke-linecap stroke-linejoin fill-opacity opacity " +
    "stroke-opacity text-anchor dominant-baseline font-family font-size font-weight font-style " +
    "textLength lengthAdjust"
  ).split(" "),
);
const FULLEST = 1.25; // px per point at most when fitting: small graphs do not blow up
const SHORTEST = 280; // px of the pane
const TALLEST = 480;
const UNDER = 30; // px at the bottom of the pane that the zoom buttons stand in
const ZOOM = { least: 0.05, most: 8 };
const STEP = 1.25;
const GLIDE = 350; // ms in which boxes move to where a new layout puts them
const PATIENCE = 300; // ms until the view follows a pane that was made smaller: the time of a double click
const READABLE = 0.5; // px per point
const MAP = { width: 150, height: 96 };

/**
 * Rebuild a drawing from the elements and attributes that a picture needs, and nothing else.
 *
 * @param {string} text
 * @returns {SVGSVGElement}
 */
export function safeSvg(text) {
  const parsed = new DOMParser().parseFromString(text, "image/svg+xml");
  const root = parsed.documentElement;
  if (root.localName !== "svg" || parsed.querySelector("parsererror")) {
    throw new Error("the drawing is not an SVG");
  }
  return /** @type {SVGSVGElement} */ (copied(root));
}

/** @param {Element} from @returns {Element} */
function copied(from) {
  const to = document.createElementNS(SVG, from.localName);
  for (const { name, value } of from.attributes) {
    if (ATTRIBUTES.has(name) && !/url\(|script:/i.test(value)) to.setAttribute(name, value);
  }
  for (const child of from.childNodes) {
    if (child.nodeType === 3) to.append(child.textContent ?? "");
    else if (child.nodeType === 1) {
      const element = /** @type {Element} */ (child);
      if (ELEMENTS.has(element.localName)) to.append(copied(element));
    }
  }
  return to;
}

/**
 * The boxes whose letter changed: all of them when the number of boxes did.
 *
 * @param {string} before
 * @param {string} after
 * @returns {number[]}
 */
export function changed(before, after) {
  const all = before.length !== after.length;
  const found = [];
  for (let i = 0; i < after.length; i++) if (all || before[i] !== after[i]) found.push(i);
  return found;
}

/**
 * The view that shows all of `world` in the middle of `pane`.
 *
 * @param {Rect} world
 * @param {Size} pane
 * @param {number} [margin] px
 * @returns {View}
 */
export function fitted(world, pane, margin = 14) {
  const wide = (pane.width - 2 * margin) / (world.width || 1);
  const high = (pane.height - 2 * margin) / (world.height || 1);
  const k = Math.max(ZOOM.least, Math.min(FULLEST, wide, high));
  return {
    k,
    x: (pane.width - world.width * k) / 2 - world.x * k,
    y: (pane.height - world.height * k) / 2 - world.y * k,
  };
}

/**
 * The view zoomed by `factor` with the point (x, y) of the pane held still.
 *
 * @param {View} view
 * @param {number} factor
 * @param {{x: number, y: number}} at
 * @returns {View}
 */
export function zoomed(view, factor, at) {
  const k = Math.min(ZOOM.most, Math.max(ZOOM.least, view.k * factor));
  const ratio = k / view.k;
  return { k, x: at.x - (at.x - view.x) * ratio, y: at.y - (at.y - view.y) * ratio };
}

/**
 * The view moved by as little as brings `box` (px in the pane) into the pane.
 *
 * @param {View} view
 * @param {Rect} box
 * @param {Size} pane
 * @param {number} [margin] px
 * @returns {View}
 */
export function revealed(view, box, pane, margin = 18) {
  /** @param {number} start @param {number} length @param {number} room */
  const shift = (start, length, room) => {
    if (start + length > room - margin) start -= Math.max(0, start + length - (room - margin));
    return Math.max(start, margin);
  };
  return {
    k: view.k,
    x: view.x + shift(box.x, box.width, pane.width) - box.x,
    y: view.y + shift(box.y, box.height, pane.height) - box.y,
  };
}

/**
 * The nearest point in the direction of an arrow key; `from` itself if there is none.
 *
 * @param {({x: number, y: number} | undefined)[]} points
 * @param {number} from
 * @param {string} key
 * @returns {number}
 */
export function neighbour(points, from, key) {
  const here = points[from];
  if (!here) return from;
  const along = key === "ArrowLeft" || key === "ArrowRight" ? "x" : "y";
  const across = along === "x" ? "y" : "x";
  const sign = key === "ArrowRight" || key === "ArrowDown" ? 1 : -1;
  let best = from;
  let least = Infinity;
  points.forEach((point, i) => {
    if (!point || i === from) return;
    const ahead = (point[along] - here[along]) * sign;
    const aside = Math.abs(point[across] - here[across]);
    if (ahead < 1) return;
    const cost = ahead + 2 * aside;
    if (cost < least) [best, least] = [i, cost];
  });
  return best;
}

/**
 * The direction in which requirements lead: "x" if they do so from left to right, "y" from above to below.
 *
 * @param {({x: number, y: number} | undefined)[]} points
 * @param {{from: number, to: number}[]} edges
 */
function flow(points, edges) {
  let [right, down] = [0, 0];
  for (const edge of edges) {
    const from = points[edge.from];
    const to = points[edge.to];
    if (!from || !to) continue;
    right += to.x - from.x > 1 ? 1 : -1;
    down += to.y - from.y > 1 ? 1 : -1;
  }
  return right >= down ? "x" : "y";
}

/**
 * Where an arrow key leads: along a requirement in the direction of these, else to the nearest box.
 *
 * @param {({x: number, y: number} | undefined)[]} points
 * @param {{from: number, to: number}[]} edges
 * @param {number} from
 * @param {string} key
 * @returns {number}
 */
export function along(points, edges, from, key) {
  if ((key === "ArrowLeft" || key === "ArrowRight") !== (flow(points, edges) === "x")) {
    return neighbour(points, from, key);
  }
  const linked = new Set([from]);
  for (const edge of edges) {
    if (edge.from === from) linked.add(edge.to);
    if (edge.to === from) linked.add(edge.from);
  }
  const found = neighbour(points.map((point, i) => (linked.has(i) ? point : undefined)), from, key);
  return found === from ? neighbour(points, from, key) : found;
}

/** Whether nothing may move by itself. */
const still = () => typeof matchMedia === "undefined" || matchMedia("(prefers-reduced-motion: reduce)").matches;

/** An element of a drawing. @param {string} tag @param {Record<string, string | number>} attributes */
function shape(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  return element;
}

/**
 * A small map of the whole drawing: where the pane looks, and a way to look elsewhere.
 *
 * @param {(x: number, y: number) => void} look
 */
function overview(look) {
  const pane = shape("rect", { class: "tq-window" });
  const boxes = shape("g", {});
  const element = /** @type {SVGSVGElement} */ (shape("svg", { class: "tq-map", "aria-hidden": "true" }));
  element.append(boxes, pane);
  /** @type {Rect} */
  let world = { x: 0, y: 0, width: 1, height: 1 };
  let k = 1;
  /** @param {PointerEvent} event */
  const go = (event) => {
    event.stopPropagation();
    if (event.type === "pointermove" && !event.buttons) return;
    const { left, top } = element.getBoundingClientRect();
    look(world.x + (event.clientX - left) / k, world.y + (event.clientY - top) / k);
  };
  element.addEventListener("pointerdown", go);
  element.addEventListener("pointermove", go);
  for (const event of ["click", "dblclick"]) element.addEventListener(event, (e) => e.stopPropagation());
  return {
    element,
    /** @param {Rect} newWorld @param {(Rect | undefined)[]} places */
    draw(newWorld, places) {
      world = newWorld;
      k = Math.min(MAP.width / world.width, MAP.height / world.height);
      element.setAttribute("viewBox", [world.x, world.y, world.width, world.height].join(" "));
      element.style.width = `${world.width * k}px`;
      element.style.height = `${world.height * k}px`;
      boxes.replaceChildren(...places.map((place) => shape("rect", { ...(place ?? {}) })));
    },
    /** @param {number} i @param {Look} look */
    paint: (i, look) => dress(/** @type {SVGElement} */ (boxes.children[i]), look),
    /** @param {View} view @param {Size} size */
    show(view, size) {
      const small = size.width < 3.2 * MAP.width || size.height < 3.2 * MAP.height; // it would hide too much
      const all = world.width * view.k <= size.width + 2 && world.height * view.k <= size.height + 2;
      const whole = view.x + world.x * view.k > -2 && view.y + world.y * view.k > -2;
      element.classList.toggle("tq-off", small || (all && whole));
      const seen = { x: -view.x / view.k, y: -view.y / view.k, width: size.width / view.k, height: size.height / view.k };
      for (const [name, value] of Object.entries(seen)) pane.setAttribute(name, String(value));
      pane.setAttribute("stroke-width", String(2 / k));
    },
  };
}

/**
 * The drawing: states painted on boxes, pan, zoom, and one tab stop that arrows move.
 *
 * @param {HTMLElement} root whose height follows the drawing
 * @param {{
 *   select: (at: string) => void,
 *   leave: () => void,
 *   cause: (step: number) => void,
 *   find: () => void,
 *   see: (verb: string, at: string) => void,
 * }} does
 */
export function drawing(root, { select, leave, cause, find, see }) {
  const folding = make("div", "tq-folding");
  const tools = make("div", "tq-tools", folding);
  const around = make("span");
  const scope = make("div", "tq-scope", around, button("Show all", () => see("around", "")).element);
  const note = make("div", "tq-note");

  /** @type {SVGSVGElement | null} */
  let svg = null;
  /** @type {SVGGElement | null} */
  let sheet = null;
  /** @type {(SVGGElement | HTMLElement | undefined)[]} */
  let nodes = [];
  const list = make("div", "tq-list"); // in place of a drawing
  const map = overview((x, y) => {
    free = true;
    const { width, height } = pane();
    show({ k: view.k, x: width / 2 - x * view.k, y: height / 2 - y * view.k });
  });
  const element = make("div", "tq-pane", tools, scope, note, list, map.element);
  /** @type {{from: number, to: number, element: Element}[]} */
  let edges = [];
  /** @type {Box[]} */
  let boxes = [];
  /** @type {(Rect | undefined)[]} Where the boxes stand in the drawing. */
  let places = [];
  /** @type {Lens} */
  let lens = { around: "", seen: 0, total: 0, plain: true, turn: 0 };
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let following;
  /** @type {Rect} */
  let world = { x: 0, y: 0, width: 1, height: 1 };
  /** @type {View} */
  let view = { x: 0, y: 0, k: 1 };
  /** @type {Look[]} */
  let looks = [];
  /** @type {Set<string>} */
  let filter = new Set();
  let tall = SHORTEST;
  let free = false; // the user has moved the view: nothing else may
  let turned = false; // somebody wants to see something else: the next drawing is that
  let painted = "";
  /** @type {Record<string, string>} */
  let says = {};
  let selected = "";
  let tab = "";
  let awaited = ""; // what gets the focus when it has a box

  const pane = () => ({ width: element.clientWidth || 640, height: element.clientHeight || 400 });
  const indexOf = (/** @type {string} */ at) => boxes.findIndex((box) => box.at === at);

  /** @param {View} next */
  function show(next) {
    view = next;
    sheet?.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.k})`);
    element.dataset.far = String(view.k < 0.4); // too far to read: states alone are shown
    map.show(view, pane());
  }

  /** As `show`, but so that the eye can follow. @param {View} next */
  function glideTo(next) {
    const from = view;
    show(next);
    if (still() || !sheet?.animate) return;
    const at = (/** @type {View} */ { x, y, k }) => ({ transform: `translate(${x}px, ${y}px) scale(${k})` });
    sheet.animate([at(from), at(next)], { duration: GLIDE, easing: "ease-in-out" });
  }

  /** Where the boxes of this drawing stand in the pane now, by their `at`. */
  function standing() {
    /** @type {Map<string, Rect>} */
    const found = new Map();
    boxes.forEach(({ at, of }, i) => {
      if (!places[i]) return;
      found.set(at, where(i));
      if (of && !found.has(of)) found.set(of, where(i)); // where its group will stand
    });
    return found;
  }

  /** The box nearest to the middle of the pane: what somebody looks at who has selected nothing. @param {Map<string, Rect>} boxes */
  function watched(boxes) {
    const { width, height } = pane();
    let [best, least] = ["", Infinity];
    for (const [at, box] of boxes) {
      const far = Math.hypot(box.x + box.width / 2 - width / 2, box.y + box.height / 2 - height / 2);
      if (far < least) [best, least] = [at, far];
    }
    return best;
  }

  /** Let boxes move from where they stood; what is new comes out of its group, or appears. @param {Map<string, Rect>} before */
  function glide(before) {
    if (still() || !sheet?.animate || before.size === 0) return;
    const timing = { duration: GLIDE, easing: "ease-in-out" };
    nodes.forEach((node, i) => {
      const from = before.get(boxes[i].at) ?? before.get(boxes[i].of);
      const to = where(i);
      const shown = before.has(boxes[i].at) ? [] : [{ opacity: 0 }, { opacity: 1 }];
      const x = from ? (from.x - to.x) / view.k : 0;
      const y = from ? (from.y - to.y) / view.k : 0;
      if (Math.abs(x) + Math.abs(y) < 1 && !shown.length) return;
      node?.animate([{ transform: `translate(${x}px, ${y}px)`, ...shown[0] }, { transform: "none", ...shown[1] }], timing);
    });
    for (const g of sheet.querySelectorAll("g.edges, g.frames")) {
      g.animate([{ opacity: 0 }, { opacity: 0, offset: 0.6 }, { opacity: 1 }], timing);
    }
  }

  function fit() {
    free = false;
    const { width, height } = pane();
    show(fitted(world, { width, height: height - UNDER }));
  }

  /** @param {number} factor @param {{x: number, y: number}} [at] */
  function zoom(factor, at) {
    free = true;
    const { width, height } = pane();
    show(zoomed(view, factor, at ?? { x: width / 2, y: height / 2 }));
  }

  /** Where a box stands in the pane. @param {number} i @returns {Rect} */
  function where(i) {
    const place = places[i];
    if (place) {
      const { k } = view;
      return { x: place.x * k + view.x, y: place.y * k + view.y, width: place.width * k, height: place.height * k };
    }
    const outer = element.getBoundingClientRect();
    const { x, y, width, height } = /** @type {Element} */ (nodes[i]).getBoundingClientRect();
    return { x: x - outer.x, y: y - outer.y, width, height };
  }

  /** Bring a box into the pane, moving as little as possible. @param {string} at */
  function reveal(at) {
    const i = indexOf(at);
    if (places[i] && element.clientWidth) show(revealed(view, where(i), pane()));
  }

  /** Move the tab stop. @param {string} at @param {boolean} focus */
  function stop(at, focus) {
    const old = nodes[indexOf(tab)];
    const node = nodes[indexOf(at)] ?? nodes.find(Boolean);
    old?.setAttribute("tabindex", "-1");
    node?.setAttribute("tabindex", "0");
    tab = boxes[node ? nodes.indexOf(node) : -1]?.at ?? "";
    if (focus) node?.focus({ preventScroll: true });
  }

  /** Go to a box by key: where it is must be seen. @param {number} i */
  function go(i) {
    stop(boxes[i].at, true);
    reveal(tab);
  }

  /** @param {KeyboardEvent} event @param {number} i */
  function key(event, i) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" || event.key === " ") {
      stop(boxes[i].at, false);
      select(boxes[i].at);
    } else if (event.key.startsWith("Arrow")) {
      const centres = nodes.map((node, j) => {
        const box = node && where(j);
        return box && { x: box.x + box.width / 2, y: box.y + box.height / 2 };
      });
      go(along(centres, edges, i, event.key));
    } else if (event.key === "Home") go(0);
    else if (event.key === "End") go(boxes.length - 1);
    else if (event.key === "+" || event.key === "=") zoom(STEP);
    else if (event.key === "-") zoom(1 / STEP);
    else if (event.key === "0") fit();
    else if (event.key === "n" || event.key === "p") {
      cause(event.key === "n" ? 1 : -1);
      stop(tab, true);
    } else if (event.key === "/") find();
    else if (event.key === "u" && boxes[i].size > 1) see("unfold", boxes[i].at);
    else if (event.key === "f" && boxes[i].of) see("fold", boxes[i].at);
    else if (event.key === "a") see("around", lens.around ? "" : boxes[i].at);
    else if (event.key === "Escape" && !selected && lens.around) see("around", "");
    else if (event.key === "Escape") leave();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Make room for a drawing; never less than before, so that what stands below stays. @param {number} height px */
  function grow(height) {
    tall = Math.min(TALLEST, Math.max(tall, Math.round(height)));
    root.style.setProperty("--tq-height", `${tall}px`);
  }

  /** Make an element the one that stands for a box. @template {SVGGElement | HTMLElement} E @param {E} node @param {number} i @returns {E} */
  function wired(node, i) {
    nodes[i] = typed(node);
    node.dataset.at = boxes[i].at;
    roled(node, "button").setAttribute("tabindex", "-1");
    node.addEventListener("click", () => {
      stop(boxes[i].at, true);
      select(boxes[i].at);
    });
    node.addEventListener("focus", () => stop(boxes[i].at, false));
    node.addEventListener("dblclick", () => {
      if (boxes[i].size > 1) see("unfold", boxes[i].at);
    });
    node.addEventListener("keydown", (event) => key(/** @type {KeyboardEvent} */ (event), i));
    return node;
  }

  function dim() {
    nodes.forEach((node, i) => {
      node?.classList.toggle("tq-dim", filter.size > 0 && !filter.has(painted[i]));
    });
  }

  function mark() {
    const i = indexOf(selected);
    nodes.forEach((node, j) => {
      node?.classList.toggle("tq-on", i === j);
      node?.setAttribute("aria-pressed", String(i === j));
    });
    for (const { element } of edges) element.classList.remove("tq-near");
    for (const { from, to, element } of edges) if (from === i || to === i) element.classList.add("tq-near");
    const box = boxes[i];
    unfold.element.hidden = !box || box.size < 2;
    fold.element.hidden = !box?.of;
    alone.element.hidden = !box || Boolean(lens.around) || lens.seen < 3;
    plain.element.hidden = lens.plain || Boolean(lens.around);
  }

  /** A button for what is seen of the selected box. @param {string} text @param {string} title @param {string} verb */
  function seeing(text, title, verb) {
    const made = button(text, () => see(verb, verb === "reset" ? "" : selected), "tq-tool");
    made.element.title = title;
    folding.append(made.element);
    return made;
  }
  const unfold = seeing("Unfold", "Give each task of this group a box of its own (u)", "unfold");
  const fold = seeing("Fold", "Fold this task with others of its kind into one box (f)", "fold");
  const alone = seeing("Around it", "Show this one and what stands around it alone (a)", "around");
  const plain = seeing("Reset folding", "Give boxes of their own only to what fails or runs now, as if nobody had unfolded or folded anything", "reset");

  for (const [text, label, does] of /** @type {[string, string, () => void][]} */ ([
    ["+", "Zoom in", () => zoom(STEP)],
    ["−", "Zoom out", () => zoom(1 / STEP)],
    ["Fit", "Fit the graph to the pane", fit],
  ])) {
    tools.append(named(button(text, does, "tq-tool").element, label));
  }

  // Pan by dragging; a drag that moved is no click. Two fingers pinch.
  /** @type {Map<number, {x: number, y: number}>} */
  const fingers = new Map();
  let travelled = 0;
  /** @param {MouseEvent} event */
  const point = (event) => {
    const outer = element.getBoundingClientRect();
    return { x: event.clientX - outer.x, y: event.clientY - outer.y };
  };
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !sheet || /** @type {Element} */ (event.target).closest(".tq-tools, .tq-scope")) return;
    if (fingers.size === 0) travelled = 0;
    fingers.set(event.pointerId, point(event));
  });
  element.addEventListener("pointermove", (event) => {
    const was = fingers.get(event.pointerId);
    if (!was) return;
    const now = point(event);
    travelled += Math.abs(now.x - was.x) + Math.abs(now.y - was.y);
    if (travelled < 4) return;
    if (!element.hasPointerCapture?.(event.pointerId)) element.setPointerCapture?.(event.pointerId);
    free = true;
    element.classList.add("tq-panning");
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    fingers.set(event.pointerId, now);
    if (other) {
      const apart = (/** @type {{x: number, y: number}} */ a) => Math.hypot(a.x - other.x, a.y - other.y);
      show(zoomed(view, apart(now) / (apart(was) || 1), other));
    } else show({ k: view.k, x: view.x + now.x - was.x, y: view.y + now.y - was.y });
  });
  for (const end of ["pointerup", "pointercancel"]) {
    element.addEventListener(end, (event) => {
      fingers.delete(/** @type {PointerEvent} */ (event).pointerId);
      if (!fingers.size) element.classList.remove("tq-panning");
    });
  }
  element.addEventListener(
    "click",
    (event) => {
      if (travelled >= 4) event.stopPropagation();
      travelled = 0;
    },
    { capture: true },
  );
  element.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // a plain wheel scrolls the page
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 300), point(event));
    },
    { passive: false },
  );
  element.addEventListener("dblclick", (event) => {
    if (!(/** @type {Element} */ (event.target).closest(".node, .tq-tools, .tq-scope"))) fit();
  });

  return {
    element,
    fit,
    reveal,
    /** @param {string} [at] */
    focus(at = tab) {
      if (indexOf(at) < 0) awaited = at;
      else stop(at, true);
    },
    /** The pane has another size. */
    resized() {
      clearTimeout(following);
      map.show(view, pane());
      if (free || !sheet) return;
      if (!selected) fit();
      else {
        following = setTimeout(() => {
          if (free) return; // meanwhile somebody has moved it
          const { width, height } = pane();
          const next = fitted(world, { width, height: height - UNDER });
          if (next.k >= Math.min(view.k, READABLE)) glideTo(next);
          else reveal(selected);
        }, PATIENCE);
      }
    },
    /** How much of the queue is seen. @param {Lens} newLens */
    through(newLens) {
      if (lens.turn !== newLens.turn) [free, turned] = [false, true]; // and all of it, also what is not selected
      lens = newLens;
      const { around: name, seen, total } = lens;
      around.textContent = name ? `Around ${name}: ${seen} of ${total} tasks` : "";
      scope.hidden = !name;
      mark();
    },
    dispose: () => clearTimeout(following),
    /** @param {string} text */
    say(text) {
      note.textContent = text;
      note.hidden = !text;
    },
    /** @param {Set<string>} letters */
    filter(letters) {
      filter = letters;
      element.classList.toggle("tq-filtered", letters.size > 0);
      dim();
    },
    /** @param {string} at */
    select(at) {
      selected = at;
      mark();
      if (at) stop(at, false);
    },
    /** A new structure: the drawing is replaced, and what the user looks at stays.
     * @param {string} text @param {Box[]} newBoxes @param {Look[]} newLooks @param {string} title */
    draw(text, newBoxes, newLooks, title) {
      const focused = Boolean(svg?.contains(focusedBy(element)));
      const before = standing();
      const eye = selected && before.has(selected) ? selected : watched(before);
      const moved = free || (!turned && selected !== "" && painted !== "" && before.has(selected));
      turned = false;
      svg?.remove();
      list.replaceChildren();
      svg = sheet = null;
      [nodes, edges, places, painted, says, boxes, looks] = [[], [], [], "", {}, newBoxes, newLooks];
      if (!text) {
        boxes.forEach((_, i) => list.append(wired(make("div", "node"), i)));
        element.classList.toggle("tq-listed", boxes.length > 0);
        stop(tab, false);
        return;
      }
      element.classList.remove("tq-listed");
      svg = safeSvg(text);
      const [x, y, width, height] = (svg.getAttribute("viewBox") ?? "0 0 1 1").split(/[\s,]+/).map(Number);
      world = { x, y, width, height };
      grow(height * fitted(world, { width: pane().width, height: TALLEST }).k + 76);
      for (const name of ["viewBox", "width", "height", "id"]) svg.removeAttribute(name);
      sheet = document.createElementNS(SVG, "g");
      sheet.setAttribute("class", "tq-sheet");
      sheet.append(...svg.childNodes);
      svg.append(sheet);
      roled(
        svg,
        "group",
        `${title}: arrow keys walk along requirements, Enter selects, n and p go to causes of failures, ` +
          "slash finds a task, u and f unfold and fold, a shows what is around, + and - zoom",
      );
      for (const g of /** @type {NodeListOf<SVGGElement>} */ (sheet.querySelectorAll("g.node"))) {
        const i = Number(/^t(\d+)$/.exec(g.id)?.[1] ?? NaN);
        if (!boxes[i]) continue;
        wired(g, i);
        const of = [...g.querySelectorAll("rect.box")].pop();
        if (of) places[i] = placed(of);
      }
      map.draw(world, boxes.map((_, i) => places[i]));
      for (const g of sheet.querySelectorAll("g.edge")) {
        const [from, to] = g.id.slice(1).split("-").map((ends) => ends.split("_").map(Number));
        for (const start of to ? from : []) for (const end of to) edges.push({ from: start, to: end, element: g });
        g.querySelector("title")?.remove();
      }
      for (const g of sheet.querySelectorAll("[id]")) g.removeAttribute("id"); // two views, one page
      for (const title of sheet.querySelectorAll("g:not(.node) > title")) title.remove();
      element.append(svg);
      if (!moved) fit();
      else {
        show(view);
        const was = before.get(eye);
        const i = boxes.findIndex(({ at }) => at === eye);
        if (was && places[i]) {
          const now = where(i);
          show({ k: view.k, x: view.x + was.x - now.x, y: view.y + was.y - now.y });
        }
      }
      glide(before);
      if (selected && !before.has(selected)) reveal(selected);
      if (indexOf(awaited) >= 0) {
        stop(awaited, true);
        awaited = "";
      } else stop(indexOf(tab) < 0 ? (boxes.find(({ of }) => of === tab)?.at ?? eye) : tab, focused);
      mark();
    },
    /** Give each box its state; the style sheet does the rest. @param {string} states @param {Record<string, string>} newSays */
    paint(states, newSays) {
      const due = new Set(changed(painted, states));
      for (const i of Object.keys({ ...says, ...newSays })) if (says[i] !== newSays[i]) due.add(Number(i));
      says = newSays;
      for (const i of due) {
        const node = nodes[i];
        const look = looks.find(({ letter }) => letter === states[i]);
        if (!node || !look) continue;
        dress(node, look);
        const { label, call = "" } = boxes[i];
        const text = `${label}: ${says[i] ?? look.word}${call && call !== label ? ` · ${call}` : ""}`;
        node.setAttribute("aria-label", text);
        if (node instanceof HTMLElement) {
          node.replaceChildren(badge(look, boxes[i].label));
          continue;
        }
        map.paint(i, look);
        const title = node.querySelector("title") ?? node.appendChild(document.createElementNS(SVG, "title"));
        title.textContent = text;
        stamp(node, look, says[i]);
      }
      painted = states;
      if (filter.size) dim();
    },
  };
}

/** Where an element of the drawing stands in it. @param {Element} element @returns {Rect} */
function placed(element) {
  const [x, y, width, height] = ["x", "y", "width", "height"].map((name) => Number(element.getAttribute(name)));
  return { x, y, width, height };
}

/**
 * Write the state's glyph and word where the drawing left room for them.
 *
 * @param {SVGGElement} node
 * @param {Look} look
 * @param {string | undefined} says more than the word, if there is room for it
 */
function stamp(node, look, says) {
  for (const text of node.querySelectorAll("text.glyph")) text.textContent = look.glyph;
  for (const text of /** @type {NodeListOf<SVGTextElement>} */ (node.querySelectorAll("text.word"))) {
    text.textContent = says ?? look.word;
    const box = node.querySelector("rect.box:last-of-type");
    if (!says || !box || !text.getComputedTextLength) continue;
    const room = Number(box.getAttribute("width")) - 38; // the glyph stands left of it
    if (text.getComputedTextLength() > room) text.textContent = look.word;
  }
}
