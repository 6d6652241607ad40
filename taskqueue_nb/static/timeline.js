// @ts-check
/**
 * The timeline: a bar for each attempt, in lanes. It is painted on a canvas, so that ten thousand bars stay
 * smooth; what it shows is also said in words, and as a table.
 *
 * @typedef {import("./types.js").Context} Context
 * @typedef {import("./types.js").Look} Look
 * @typedef {import("./types.js").Panel} Panel
 * @typedef {import("./story.js").Lane} Lane
 * @typedef {import("./story.js").Piece} Piece
 */
import { badge, button, duration, focusedBy, make, named, roled, typed } from "./elements.js";
import { calm, feedOf, isSelected } from "./feed.js";
import { clockTime, firstAtLeast, roundUp, seen, shortened, tickText, toAxis, toTime } from "./story.js";

const AXIS = 24; // px
const LANE = 24;
const BAR = 18;
const FEWEST = 3; // lanes for which there is room from the start
const TALLEST_LANES = 12; // lanes that are seen at once
const LISTED = 100; // attempts in the list
const GLYPH = 16; // px that a bar needs for its state's sign
const FRAME = 40; // ms between two pictures of a run

/**
 * A bar for each attempt, in lanes.
 *
 * @param {Context} context
 * @returns {Panel}
 */
export function makeTimeline(context) {
  const feed = feedOf(context);
  const { story } = feed;
  const canvas = typed(roled(make("canvas", "tq-canvas"), "group"));
  const sheet = make("div", "tq-sheet", canvas);
  const scroller = make("div", "tq-lanes", sheet);
  const tip = make("div", "tq-tip");
  const note = make("div", "tq-empty");
  const spoken = roled(make("div", "tq-live"), "status");
  const says = make("span", "tq-critical");
  const list = make("div", "tq-attempts");
  const minus = button("−", () => zoom(1 / 1.5), "tq-quiet");
  const plus = button("+", () => zoom(1.5), "tq-quiet");
  const fitting = button("Fit", fit, "tq-quiet");
  const following = button("Follow now", () => follow(!follows), "tq-quiet");
  const listing = button("List", () => showList(list.hidden === true), "tq-quiet");
  const tools = roled(
    make("div", "tq-strip", minus.element, plus.element, fitting.element, following.element, listing.element, says),
    "toolbar",
    "Timeline",
  );
  const box = make("div", "tq-chart", scroller, note, tip);
  const element = make("section", "tq-time", tools, box, list, spoken);
  element.setAttribute("aria-label", "Timeline");
  named(minus.element, "Zoom out");
  named(plus.element, "Zoom in");
  fitting.element.title = "Show every attempt (0)";
  following.element.title = "Keep the present in view (f)";
  following.element.hidden = context.model.get("still") ?? false; // nothing moves there
  listing.element.title = "The attempts in view as a table";
  canvas.tabIndex = 0;
  tip.hidden = true;
  list.hidden = true;
  says.hidden = true;
  spoken.setAttribute("aria-live", "polite");

  const paper = /** @type {CanvasRenderingContext2D | null} */ (canvas.getContext?.("2d") ?? null);
  /** @type {Lane[]} */
  let lanes = [];
  /** @type {Map<number, number>} Where the lanes of each worker begin. */
  let tops = new Map();
  let from = 0; // of the axis, in s
  let to = 1;
  let free = false; // the user has chosen what is seen
  let follows = false;
  let current = -1; // the bar that the arrow keys are at
  let frame = 0;
  let gutter = 60; // px for the names of the lanes
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let later;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let relist;
  let listed = "";
  /** @type {Map<number, Look>} */
  let looks = new Map();
  /** @type {Map<number, number>} */
  let ranks = new Map();
  /** @type {Set<number>} The bars of the critical path, from the first to the last. */
  let critical = new Set();
  /** @type {Map<string, number>} */
  const widths = new Map();
  /** @type {Record<string, string>} */
  let colours = {};
  let themed = false;
  let told = "";

  let size = { width: 600, height: AXIS + LANE };
  const now = () => Math.max(feed.now(), story.stretches.at(-1)?.end ?? 0);
  const endOf = (/** @type {number} */ bar) => {
    const end = story.barEnd[bar];
    return end === Infinity ? Math.max(now(), story.barStart[bar]) : end;
  };
  const axis = (/** @type {number} */ time) => toAxis(story.stretches, time);
  const whole = () => {
    const last = story.stretches.at(-1);
    return last ? Math.max(axis(story.running ? now() : last.end), 1e-6) : 1;
  };
  const scale = () => (size.width - gutter - 8) / (to - from);
  const xOf = (/** @type {number} */ time) => gutter + (axis(time) - from) * scale();
  const laneOf = (/** @type {number} */ bar) => (tops.get(story.barWorker[bar]) ?? 0) + story.barLane[bar];
  const keyOf = (/** @type {number} */ bar) => `${story.barTask[bar]}:${story.barNumber[bar]}`;

  // -- what is seen

  /** @param {number} a @param {number} b */
  function show(a, b) {
    const all = whole();
    const least = 1e-5;
    const span = Math.min(Math.max(b - a, least), 20 * all);
    const middle = (a + b) / 2;
    from = Math.min(Math.max(middle - span / 2, -span * 0.9), all - span * 0.1);
    to = from + span;
    redraw();
    listSoon();
  }

  function fit() {
    free = false;
    follow(false);
    refit();
    redraw();
    listSoon();
  }

  function refit() {
    const all = whole();
    from = 0;
    to = all * (story.running ? 1.04 : 1.01);
  }

  /** @param {boolean} yes */
  function follow(yes) {
    follows = yes;
    following.element.setAttribute("aria-pressed", String(yes));
    if (yes) {
      free = true;
      track();
      redraw();
    }
  }

  /** Keep the present at the right. */
  function track() {
    const span = to - from;
    to = whole() + span * 0.04;
    from = to - span;
  }

  /** Bring what is seen up to the present: all of it, or its end, unless the user has chosen. */
  function settleView() {
    if (!free) refit();
    else if (follows) track();
  }

  /** @param {number} factor @param {number} [x] px that stays where it is */
  function zoom(factor, x) {
    const held = x === undefined ? (from + to) / 2 : from + (x - gutter) / scale();
    free = true;
    if (follows && x === undefined) {
      const span = (to - from) / factor;
      from = to - span;
      redraw();
      return;
    }
    follow(false);
    show(held - (held - from) / factor, held + (to - held) / factor);
  }

  /** @param {number} px */
  function pan(px) {
    free = true;
    follow(false);
    show(from + px / scale(), to + px / scale());
  }

  // -- drawing

  /** Read the colours of the theme from the style sheet. */
  function theme() {
    const style = getComputedStyle(element);
    const forced = typeof matchMedia !== "undefined" && matchMedia("(forced-colors: active)").matches;
    const of = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
    colours = { ink: style.color, font: style.fontFamily };
    [colours.soft, colours.rule] = [style.caretColor, style.columnRuleColor]; // record.css says how
    [colours.accent, colours.paper] = [style.textDecorationColor, style.backgroundColor];
    for (const look of context.looks()) {
      const word = look.victim ? "victim" : look.state.toLowerCase();
      const known = of(`--tq-${word}-fill`) ? word : "prepare";
      for (const part of ["fill", "line", "text"]) colours[look.letter + part] = of(`--tq-${known}-${part}`);
      if (forced) Object.assign(colours, { [`${look.letter}fill`]: colours.paper, [`${look.letter}line`]: colours.ink, [`${look.letter}text`]: colours.ink });
    }
    themed = true;
  }

  function redraw() {
    if (!frame) frame = requestAnimationFrame(draw);
  }

  const measured = (/** @type {string} */ text) => {
    let width = widths.get(text);
    if (width === undefined) {
      if (widths.size > 5000) widths.clear();
      widths.set(text, (width = paper?.measureText(text).width ?? text.length * 6));
    }
    return width;
  };

  function draw() {
    frame = 0;
    clearTimeout(later);
    if (!paper || !element.isConnected || !canvas.clientWidth) return;
    if (!themed) theme();
    size = { width: canvas.clientWidth, height: scroller.clientHeight };
    const font = colours.font || "sans-serif";
    paper.font = `11px ${font}`;
    settleView();
    measureGutter();
    const { width, height } = size;
    const dense = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * dense) || canvas.height !== Math.round(height * dense)) {
      canvas.width = Math.round(width * dense);
      canvas.height = Math.round(height * dense);
      canvas.style.height = `${height}px`;
    }
    paper.setTransform(dense, 0, 0, dense, 0, 0);
    paper.clearRect(0, 0, width, height);
    paper.font = `11px ${font}`;
    paper.textBaseline = "middle";
    const top = scroller.scrollTop;
    const firstLane = Math.max(0, Math.floor(top / LANE));
    const lastLane = Math.min(lanes.length, Math.ceil((top + height - AXIS) / LANE));
    const selected = isSelected(context, feed);
    const any = context.selected() !== "";

    stripes(width, top, firstLane, lastLane);
    paper.save();
    paper.beginPath();
    paper.rect(gutter, AXIS, width - gutter, height - AXIS);
    paper.clip();
    /** @type {[Piece, number][]} */
    const outlined = [];
    const rank = (/** @type {number} */ letter) => ranks.get(letter) ?? 99;
    for (let i = firstLane; i < lastLane; i++) {
      const y = AXIS + i * LANE - top + (LANE - BAR) / 2;
      const pieces = seen(
        lanes[i].bars,
        (bar) => xOf(story.barStart[bar]) - gutter,
        (bar) => xOf(endOf(bar)) - gutter,
        (bar) => story.barLetter[bar],
        width - gutter,
        rank,
      );
      for (const piece of pieces) {
        piece.x += gutter;
        bar(piece, y, width);
        if (piece.bar >= 0 && ((any && selected(story.barTask[piece.bar])) || piece.bar === current)) outlined.push([piece, y]);
      }
    }
    chain(top, width);
    for (const [piece, y] of outlined) outline(piece, y, width);
    paper.restore();
    ticks(width);
    places(firstLane, lastLane, top, height);
    if (story.running && !context.model.get("still")) {
      const pixel = 1000 / Math.max(scale(), 1e-9);
      later = setTimeout(redraw, calm() ? 1000 : Math.min(1000, Math.max(FRAME, pixel)));
    }
  }

  /** Make room for the names of the lanes, and never less than before: the bars would jump. */
  function measureGutter() {
    const most = Math.max(54, Math.min(150, size.width * 0.25));
    let wide = 0;
    for (const worker of tops.keys()) wide = Math.max(wide, measured(laneName(worker, 0)) + 18);
    if (lanes.length) wide = Math.max(wide, measured(`lane ${lanes.length}`) + 18);
    gutter = Math.min(most, Math.max(gutter, Math.ceil(wide)));
  }

  /** @param {number} worker @param {number} lane of this worker */
  function laneName(worker, lane) {
    if (worker) return lane ? `${feed.workerName(worker)} (${lane + 1})` : feed.workerName(worker);
    return `lane ${lane + 1}`;
  }

  /** @param {number} width @param {number} top @param {number} firstLane @param {number} lastLane */
  function stripes(width, top, firstLane, lastLane) {
    if (!paper) return;
    paper.fillStyle = colours.ink;
    paper.globalAlpha = 0.035;
    for (let i = firstLane; i < lastLane; i++) {
      if (i % 2) paper.fillRect(0, AXIS + i * LANE - top, width, LANE);
    }
    paper.globalAlpha = 1;
  }

  /** @param {Piece} piece @param {number} y @param {number} width of the pane */
  function bar(piece, y, width) {
    if (!paper) return;
    const letter = String.fromCharCode(piece.letter);
    const look = looks.get(piece.letter);
    const left = Math.max(piece.x, gutter - 4);
    const right = Math.min(piece.x + Math.max(piece.width, 1.5), width + 4);
    const wide = right - left;
    const runs = piece.bar >= 0 && story.barEnd[piece.bar] === Infinity;
    paper.fillStyle = colours[`${letter}fill`] || colours.soft;
    if (wide < 5) {
      paper.fillRect(left, y, wide, BAR);
      if (letter === "f") paper.fillRect(left, y - 2, wide, BAR + 4); // taller, so that it is not told by colour alone
      return;
    }
    paper.strokeStyle = colours[`${letter}line`] || colours.ink;
    paper.lineWidth = 1;
    paper.beginPath();
    paper.roundRect(left + 0.5, y + 0.5, wide - 1, BAR - 1, runs ? [3, 0, 0, 3] : 3);
    paper.fill();
    if (look?.victim || letter === "c" || letter === "a") paper.setLineDash([4, 2]);
    paper.stroke();
    paper.setLineDash([]);
    if (runs) {
      paper.beginPath(); // an open end
      paper.setLineDash([2, 2]);
      paper.lineWidth = 2;
      paper.moveTo(right, y);
      paper.lineTo(right, y + BAR);
      paper.stroke();
      paper.setLineDash([]);
    }
    const start = Math.max(left, gutter) + 4;
    if (right - start < GLYPH - 4 || piece.bar < 0) return;
    paper.fillStyle = colours[`${letter}text`] || colours.ink;
    paper.fillText(look?.glyph ?? "", start, y + BAR / 2 + 0.5);
    const room = Math.min(right, width) - start - 18;
    if (room < 14) return;
    const text = shortened(feed.name(story.barTask[piece.bar]), room, measured);
    if (text) paper.fillText(text, start + 14, y + BAR / 2 + 0.5);
  }

  /** @param {Piece} piece @param {number} y @param {number} width */
  function outline(piece, y, width) {
    if (!paper) return;
    const left = Math.max(piece.x, gutter - 6);
    const right = Math.min(piece.x + Math.max(piece.width, 2), width + 6);
    const here = piece.bar === current && focusedBy(canvas) === canvas;
    paper.strokeStyle = colours.accent;
    paper.lineWidth = 2.5;
    if (here) paper.setLineDash([3, 2]);
    paper.beginPath();
    paper.roundRect(left - 1.5, y - 1.5, right - left + 3, BAR + 3, 4);
    paper.stroke();
    paper.setLineDash([]);
  }

  /** Draw the critical path: a thick line below its bars, and from each to the next. @param {number} top @param {number} width */
  function chain(top, width) {
    if (!paper) return;
    paper.strokeStyle = colours.ink;
    let last = [0, 0];
    let first = true;
    for (const each of critical) {
      const y = AXIS + laneOf(each) * LANE - top + (LANE + BAR) / 2;
      const left = xOf(story.barStart[each]);
      const right = Math.max(xOf(endOf(each)), left + 1.5);
      if (right > gutter - 1 && left < width + 1) {
        paper.lineWidth = 3;
        paper.beginPath();
        paper.moveTo(left, y);
        paper.lineTo(right, y);
        paper.stroke();
      }
      if (!first && left > gutter - 1 && last[0] < width + 1) {
        paper.lineWidth = 1;
        paper.beginPath();
        paper.moveTo(last[0], last[1]);
        paper.lineTo(left, y);
        paper.stroke();
      }
      last = [right, y];
      first = false;
    }
  }

  /** The axis: the time since the beginning of each stretch of work. @param {number} width */
  function ticks(width) {
    if (!paper) return;
    const step = roundUp(84 / scale());
    paper.strokeStyle = colours.rule;
    paper.lineWidth = 1;
    paper.beginPath();
    paper.moveTo(gutter, AXIS - 0.5);
    paper.lineTo(width, AXIS - 0.5);
    paper.stroke();
    const { stretches } = story;
    const last = stretches.length - 1;
    const begin = Math.max(0, firstAtLeast(stretches.length, (i) => stretches[i].u, from) - 1);
    let taken = gutter - 4; // px up to which the axis is written on
    for (let i = begin; i <= last && stretches[i].u < to; i++) {
      const { start, end, u } = stretches[i];
      const until = i === last ? to : Math.min(to, u + end - start);
      if (i) cut(i, width);
      const edge = i ? gutter + (u - from) * scale() : -Infinity;
      if (i && edge > gutter) {
        const text = clockTime(start);
        if (edge + 4 >= taken && edge + measured(text) < width) {
          paper.fillStyle = colours.ink;
          paper.fillText(text, edge + 4, AXIS / 2);
          taken = edge + 12 + measured(text);
        }
      }
      const firstTick = Math.max(0, Math.ceil((from - u) / step));
      for (let n = firstTick; u + n * step <= until; n++) {
        const x = gutter + (u + n * step - from) * scale();
        const text = tickText(n * step, step);
        const wide = measured(text);
        if (i && n === 0) continue;
        paper.strokeStyle = colours.rule;
        paper.beginPath();
        paper.moveTo(Math.round(x) + 0.5, AXIS - 5);
        paper.lineTo(Math.round(x) + 0.5, AXIS);
        paper.stroke();
        if (x + 3 < taken || x + 3 + wide > width) continue;
        paper.fillStyle = colours.soft;
        paper.fillText(text, x + 3, AXIS / 2);
        taken = x + 9 + wide;
      }
    }
  }

  /** A cut: some time was left out in which nothing ran. @param {number} i the stretch behind it @param {number} width */
  function cut(i, width) {
    if (!paper) return;
    const { stretches } = story;
    const { start, end, u } = stretches[i - 1];
    const left = gutter + (u + end - start - from) * scale();
    const right = gutter + (stretches[i].u - from) * scale();
    const x = (left + right) / 2;
    if (x < gutter || x > width) return;
    const { height } = size;
    paper.strokeStyle = colours.soft;
    paper.lineWidth = 1;
    paper.setLineDash([2, 3]);
    paper.beginPath();
    paper.moveTo(x, AXIS);
    paper.lineTo(x, height);
    paper.stroke();
    paper.setLineDash([]);
    paper.beginPath();
    for (const shift of [-2.5, 2.5]) {
      paper.moveTo(x + shift - 2, AXIS + 4);
      paper.lineTo(x + shift + 2, AXIS - 5);
    }
    paper.stroke();
  }

  /** The names of the lanes. @param {number} firstLane @param {number} lastLane @param {number} top @param {number} height */
  function places(firstLane, lastLane, top, height) {
    if (!paper) return;
    paper.save();
    paper.beginPath();
    paper.rect(0, AXIS, gutter, height - AXIS);
    paper.clip();
    paper.fillStyle = colours.soft;
    for (let i = firstLane; i < lastLane; i++) {
      const { worker } = lanes[i];
      const name = laneName(worker, i - (tops.get(worker) ?? 0));
      const tail = name.match(/ \(\d+\)$|:\d+$/)?.[0] ?? ""; // what tells one from the next
      const text = measured(name) <= gutter - 10 ? name : shortened(name.slice(0, name.length - tail.length), gutter - 10 - measured(tail), measured) + tail;
      paper.fillText(text, 4, AXIS + i * LANE - top + LANE / 2);
    }
    paper.restore();
    paper.strokeStyle = colours.rule;
    paper.beginPath();
    paper.moveTo(gutter - 0.5, 0);
    paper.lineTo(gutter - 0.5, height);
    paper.stroke();
  }

  // -- the current bar, and what is below the pointer

  /** @param {number} x @param {number} y px @returns {number} */
  function barAt(x, y) {
    if (x < gutter || y < AXIS) return -1;
    const lane = lanes[Math.floor((y - AXIS + scroller.scrollTop) / LANE)];
    if (!lane) return -1;
    const { bars } = lane;
    const i = firstAtLeast(bars.length, (j) => xOf(endOf(bars[j])), x - 2);
    let best = -1;
    let least = 3; // px beside it still count: some bars are thin
    for (const each of bars.slice(i, i + 3)) {
      const apart = Math.max(xOf(story.barStart[each]) - x, x - xOf(endOf(each)), 0);
      if (apart < least) [best, least] = [each, apart];
    }
    return best;
  }

  /** @param {number} each @returns {string[]} */
  function wordsOf(each) {
    const look = looks.get(story.barLetter[each]);
    const start = story.barStart[each];
    const stretch = story.stretches[Math.max(0, firstAtLeast(story.stretches.length, (i) => story.stretches[i].start, start + 1e-9) - 1)];
    const worker = feed.workerName(story.barWorker[each]);
    const long = endOf(each) - start;
    return [
      feed.name(story.barTask[each]),
      `attempt ${story.barNumber[each]}, ${look?.word ?? "unknown"}${critical.has(each) ? ", on the critical path" : ""}`,
      `began at ${clockTime(start, true)}, ${long < 0.0005 ? "took less than 1 ms" : `${story.barEnd[each] === Infinity ? "for" : "took"} ${duration(long)}`}`,
      ...(start - stretch.start > 0.0005 ? [`${duration(start - stretch.start)} after the beginning`] : []),
      ...(worker ? [worker] : []),
    ];
  }

  /** @param {number} each @param {number} x @param {number} y */
  function point(each, x, y) {
    tip.hidden = each < 0;
    canvas.classList.toggle("tq-over", each >= 0);
    if (each < 0) return;
    const [name, ...rest] = wordsOf(each);
    tip.replaceChildren(make("b", "", name), ...rest.map((text) => make("div", "", text)));
    const room = box.clientWidth - tip.offsetWidth - 4;
    tip.style.left = `${Math.max(4, Math.min(x + 12, room))}px`;
    tip.style.top = `${y - tip.offsetHeight - 14}px`; // above: the notebook would cut it below
  }

  /** Bring a bar into view. @param {number} each */
  function reveal(each) {
    const y = laneOf(each) * LANE;
    if (y < scroller.scrollTop) scroller.scrollTop = y;
    const room = scroller.clientHeight - AXIS;
    if (y + LANE > scroller.scrollTop + room) scroller.scrollTop = y + LANE - room;
    const start = axis(story.barStart[each]);
    const end = axis(endOf(each));
    const span = to - from;
    if (start >= from && end <= to) return;
    if (start < to && end > from && end - start > span * 0.5) return;
    free = true;
    follow(false);
    show(start - span * 0.2, start + span * 0.8);
  }

  /** Go to a bar. @param {number} each */
  function go(each) {
    if (each < 0 || each === undefined) return;
    current = each;
    reveal(each);
    spoken.textContent = wordsOf(each).join(", ");
    redraw();
  }

  /** The bar of another lane that is nearest in time. @param {number} step */
  function beside(step) {
    const start = story.barStart[current];
    for (let i = laneOf(current) + step; i >= 0 && i < lanes.length; i += step) {
      const { bars } = lanes[i];
      if (!bars.length) continue;
      const j = firstAtLeast(bars.length, (k) => story.barStart[bars[k]], start);
      const before = bars[j - 1];
      const after = bars[j];
      if (before === undefined) return after;
      if (after === undefined) return before;
      return story.barStart[after] - start < start - story.barStart[before] ? after : before;
    }
    return current;
  }

  /** @param {KeyboardEvent} event */
  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { bars } = lanes[current >= 0 ? laneOf(current) : 0] ?? { bars: [] };
    const at = bars.indexOf(current);
    const arrows = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 };
    const step = arrows[/** @type {keyof typeof arrows} */ (event.key)];
    const sideways = event.key === "ArrowLeft" || event.key === "ArrowRight";
    if (step && event.shiftKey) {
      if (sideways) pan(step * 60);
      else scroller.scrollTop += step * LANE;
    } else if (step && current < 0) go(bars[0] ?? -1);
    else if (step && sideways) go(bars[Math.min(bars.length - 1, Math.max(0, at + step))] ?? -1);
    else if (step) go(beside(step));
    else if (event.key === "Home") go(bars[0] ?? -1);
    else if (event.key === "End") go(bars.at(-1) ?? -1);
    else if (event.key === "+" || event.key === "=") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else if (event.key === "0") fit();
    else if (event.key === "f") follow(!follows);
    else if ((event.key === "Enter" || event.key === " ") && current >= 0) context.select(String(story.barTask[current]));
    else if (event.key === "Escape" && current >= 0) {
      current = -1;
      redraw();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** @type {{x: number, y: number} | null} */
  let drag = null;
  let travelled = 0;
  /** @param {MouseEvent} event */
  const place = (event) => {
    const outer = canvas.getBoundingClientRect();
    return { x: event.clientX - outer.x, y: event.clientY - outer.y };
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    drag = place(event);
    travelled = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const { x, y } = place(event);
    if (!drag) {
      point(barAt(x, y), x, y);
      return;
    }
    travelled += Math.abs(x - drag.x) + Math.abs(y - drag.y);
    if (travelled < 4) return;
    if (!canvas.hasPointerCapture?.(event.pointerId)) canvas.setPointerCapture?.(event.pointerId);
    tip.hidden = true;
    if (x !== drag.x) pan(drag.x - x);
    scroller.scrollTop += drag.y - y;
    drag = { x, y };
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (drag = null));
  canvas.addEventListener("pointerleave", () => point(-1, 0, 0));
  canvas.addEventListener("click", (event) => {
    if (travelled >= 4) return;
    const { x, y } = place(event);
    const each = barAt(x, y);
    if (each < 0) return;
    current = each;
    context.select(String(story.barTask[each]));
    redraw();
  });
  canvas.addEventListener("dblclick", (event) => {
    const { x, y } = place(event);
    if (barAt(x, y) < 0) fit();
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (event.ctrlKey || event.metaKey) zoom(Math.exp(-event.deltaY / 300), place(event).x);
      else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan(event.deltaX || event.deltaY);
      else return; // a plain wheel scrolls the lanes, then the page
      event.preventDefault();
      tip.hidden = true;
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", key);
  canvas.addEventListener("focus", redraw);
  canvas.addEventListener("blur", redraw);
  scroller.addEventListener("scroll", () => {
    tip.hidden = true;
    redraw();
  });

  // -- in words

  /** @param {boolean} yes */
  function showList(yes) {
    list.hidden = !yes;
    listed = "";
    listing.element.setAttribute("aria-expanded", String(yes));
    fillList();
  }

  /** List what is in view, once it rests. */
  function listSoon() {
    clearTimeout(relist);
    if (!list.hidden) relist = setTimeout(fillList, 150);
  }

  function fillList() {
    if (list.hidden) return;
    settleView();
    const [a, b] = [toTime(story.stretches, Math.max(0, from)), toTime(story.stretches, Math.min(to, whole()))];
    const found = [];
    let more = 0;
    for (let each = 0; each < story.bars; each++) {
      if (endOf(each) < a || story.barStart[each] > b) continue;
      if (found.length < LISTED) found.push(each);
      else more++;
    }
    const key = [more, ...found.map((each) => `${each} ${story.barLetter[each]} ${feed.name(story.barTask[each])}`)].join(";");
    if (key === listed) return; // a click that is under way would miss its button
    listed = key;
    const rows = found.map((each) => {
      const look = looks.get(story.barLetter[each]);
      const { element: link } = button(feed.name(story.barTask[each]), () => context.select(String(story.barTask[each])), "tq-plain");
      const cells = [
        link,
        String(story.barNumber[each]),
        badge(look),
        clockTime(story.barStart[each], true),
        story.barEnd[each] === Infinity ? "…" : duration(endOf(each) - story.barStart[each]),
        feed.workerName(story.barWorker[each]),
      ];
      return make("tr", "", ...cells.map((cell) => make("td", "", cell)));
    });
    const heads = ["task", "attempt", "state", "began", "took", "worker"].map((text) => {
      const cell = make("th", "", text);
      cell.scope = "col";
      return cell;
    });
    const table = make("table", "tq-table", make("thead", "", make("tr", "", ...heads)), make("tbody", "", ...rows));
    table.setAttribute("aria-label", "Attempts in view");
    const text = more ? [make("p", "tq-more", `and ${more.toLocaleString("en")} more: zoom in to list fewer`)] : [];
    const focus = [...list.querySelectorAll("button")].indexOf(/** @type {HTMLButtonElement} */ (focusedBy(list)));
    list.replaceChildren(table, ...text);
    list.querySelectorAll("button")[focus]?.focus({ preventScroll: true });
  }

  function words() {
    const { path, tasks = 0, seconds = 0, of = 0 } = feed.critical ?? { path: new Uint32Array(0) };
    /** @type {Map<string, number>} */
    const due = new Map();
    for (let i = 0; i < path.length; i += 2) due.set(`${path[i]}:${path[i + 1]}`, -1);
    const among = new Set(path.filter((_, i) => i % 2 === 0));
    for (let each = 0; each < story.bars; each++) {
      if (among.has(story.barTask[each]) && due.has(keyOf(each))) due.set(keyOf(each), each);
    }
    critical = new Set([...due.values()].filter((each) => each >= 0));
    const line = tasks ? `Critical path: ${tasks.toLocaleString("en")} task${tasks === 1 ? "" : "s"}, ${duration(seconds)} of ${duration(of)}` : "";
    says.textContent = line;
    says.hidden = !line;
    let failed = 0;
    for (let each = 0; each < story.bars; each++) if (looks.get(story.barLetter[each])?.state === "FAILED") failed++;
    const parts = [
      `${story.bars.toLocaleString("en")} attempt${story.bars === 1 ? "" : "s"} in ${lanes.length} lane${lanes.length === 1 ? "" : "s"}`,
      ...(story.running ? [`${story.running} running`] : []),
      ...(failed ? [`${failed} failed`] : []),
      ...(line ? [line] : []),
    ];
    canvas.setAttribute(
      "aria-label",
      `Timeline: ${parts.join(", ")}. Arrow keys go from bar to bar, Enter selects, with Shift they move the view, + and - zoom, 0 fits, f follows.`,
    );
  }

  function changed() {
    looks = new Map(context.looks().map((look) => [look.letter.charCodeAt(0), look]));
    ranks = new Map([...feed.urgency].map((letter, i) => [letter.charCodeAt(0), i]));
    ranks.set("v".charCodeAt(0), 0.5);
    lanes = story.lanes();
    tops = new Map();
    lanes.forEach(({ worker }, i) => {
      if (!tops.has(worker)) tops.set(worker, i);
    });
    if (current >= story.bars) current = -1;
    const rows = Math.max(FEWEST, lanes.length);
    sheet.style.height = `${AXIS + rows * LANE + 4}px`;
    scroller.style.height = `${AXIS + Math.min(rows, TALLEST_LANES) * LANE + 4}px`;
    const loading = feed.total > story.count;
    note.textContent =
      feed.total < 0
        ? "Waiting for the record…"
        : loading
          ? `Loading ${story.count.toLocaleString("en")} of ${feed.total.toLocaleString("en")} transitions…`
          : story.bars
            ? ""
            : "Nothing has run yet.";
    note.hidden = !note.textContent;
    note.classList.toggle("tq-loading", loading && story.bars > 0);
    words();
    fillList();
    redraw();
  }

  const stop = feed.use(changed);
  const renew = () => {
    themed = false;
    redraw();
  };
  const looksAt = typeof MutationObserver === "undefined" ? null : new MutationObserver(renew);
  for (const each of [document.documentElement, document.body]) {
    looksAt?.observe(each, { attributes: true, attributeFilter: ["class", "style", "data-jp-theme-light", "data-jp-theme-name", "data-theme"] });
  }
  const sizes = typeof ResizeObserver === "undefined" ? null : new ResizeObserver(redraw);
  sizes?.observe(box);
  const queries =
    typeof matchMedia === "undefined"
      ? []
      : ["(prefers-color-scheme: dark)", "(forced-colors: active)"].map((query) => matchMedia(query));
  for (const query of queries) query.addEventListener("change", renew);
  follow(false);
  listing.element.setAttribute("aria-expanded", "false");
  changed();

  return {
    element,
    update() {
      const now = `${context.selected()} ${context.looks().length}`;
      if (now === told) return;
      told = now;
      changed();
      if (/^\d+$/.test(context.selected())) {
        const task = Number(context.selected());
        if (current < 0 || story.barTask[current] !== task) {
          current = -1;
          for (let each = story.bars - 1; each >= 0 && current < 0; each--) if (story.barTask[each] === task) current = each;
          if (current >= 0 && free) reveal(current);
        }
      }
    },
    dispose() {
      stop();
      cancelAnimationFrame(frame);
      clearTimeout(later);
      clearTimeout(relist);
      looksAt?.disconnect();
      sizes?.disconnect();
      for (const query of queries) query.removeEventListener("change", renew);
      element.remove();
    },
  };
}
