// @ts-check
/**
 * What the record of a queue tells, as plain data: rows, attempts, lanes, the axis of a timeline, and the
 * states of the boxes at any moment. Nothing here touches the page.
 *
 * A row is a transition: when, which task, the letter of the state it went to, who made the attempt. Rows
 * come in about the order of time; `order` has it exactly. Rows of one task always come in its own order.
 *
 * @typedef {{when: Float64Array, task: Uint32Array, letter: Uint8Array, worker: Uint16Array}} Columns
 * @typedef {{start: number, end: number, u: number}} Stretch a time in which something ran, and where it stands on the axis
 * @typedef {{worker: number, bars: number[]}} Lane
 * @typedef {{x: number, width: number, bar: number, letter: number}} Piece a bar on the canvas; -1 for several in one pixel
 */

const RUNNING = "r".charCodeAt(0);
const PENDING = "p".charCodeAt(0);
const FAILED = "f".charCodeAt(0);
const FELL = "v".charCodeAt(0); // a failure on another's account: in a group it counts as one
export const NOWHERE = 0xffffffff;
const IDLE = 3; // s without any attempt that are cut out of the axis, at least
const IDLE_PART = 0.3; // and this part of the time worked before
const CUT = 0.06; // how wide a cut is, as a part of the time worked before

/**
 * The first place in a sorted list that holds at least `value`.
 *
 * @param {number} length
 * @param {(i: number) => number} at
 * @param {number} value
 * @returns {number}
 */
export function firstAtLeast(length, at, value) {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (at(middle) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The smallest of the numbers that were put in comes out first. */
export function heap() {
  /** @type {number[]} */
  const held = [];
  return {
    size: () => held.length,
    /** @param {number} value */
    put(value) {
      let i = held.push(value) - 1;
      while (i > 0) {
        const parent = (i - 1) >> 1;
        if (held[parent] <= held[i]) break;
        [held[parent], held[i]] = [held[i], held[parent]];
        i = parent;
      }
    },
    /** @returns {number | undefined} */
    take() {
      const least = held[0];
      const last = held.pop();
      if (held.length && last !== undefined) {
        held[0] = last;
        for (let i = 0; ; ) {
          const left = 2 * i + 1;
          if (left >= held.length) break;
          const child = left + 1 < held.length && held[left + 1] < held[left] ? left + 1 : left;
          if (held[i] <= held[child]) break;
          [held[i], held[child]] = [held[child], held[i]];
          i = child;
        }
      }
      return least;
    },
  };
}

/** A list of numbers that grows. @template {Float64Array | Uint32Array | Uint16Array | Uint8Array} A @param {new (size: number) => A} Kind */
function column(Kind) {
  let data = new Kind(1024);
  return {
    get data() {
      return data;
    },
    /** Make room for so many. @param {number} size */
    reserve(size) {
      if (size <= data.length) return;
      const grown = new Kind(Math.max(size, 2 * data.length));
      grown.set(data);
      data = grown;
    },
  };
}

/** The story that the rows of a record tell. */
export function makeStory() {
  const when = column(Float64Array);
  const task = column(Uint32Array);
  const letter = column(Uint8Array);
  const worker = column(Uint16Array);
  const order = column(Uint32Array);
  const before = column(Uint8Array); // by row: the letter of the state that it left
  let count = 0;

  // attempts
  const barTask = column(Uint32Array);
  const barStart = column(Float64Array);
  const barEnd = column(Float64Array); // Infinity while it runs
  const barLetter = column(Uint8Array);
  const barWorker = column(Uint16Array);
  const barNumber = column(Uint32Array);
  const barLane = column(Uint32Array); // within the lanes of its worker
  let bars = 0;
  let built = 0; // rows that are in the attempts
  let running = 0;
  let busy = 0; // s in stretches that are over
  /** @type {Map<number, {lanes: Lane[], free: ReturnType<typeof heap>}>} */
  let pools = new Map();
  /** @type {Stretch[]} */
  let stretches = [];
  /** @type {Map<number, number>} */
  let state = new Map(); // task → letter
  /** @type {Map<number, number>} */
  let open = new Map(); // task → its bar that runs
  /** @type {Map<number, number>} */
  let attempts = new Map();
  /** @type {Uint8Array} */
  let first = new Uint8Array(0);
  let version = 0;

  function forget() {
    bars = built = running = busy = 0;
    pools = new Map();
    stretches = [];
    state = new Map();
    open = new Map();
    attempts = new Map();
    version++;
  }

  /** Where rows of a time are put in, behind all that are not later. @param {number} time */
  const placeOf = (time) => {
    let low = 0;
    let high = count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (when.data[order.data[middle]] <= time) low = middle + 1;
      else high = middle;
    }
    return low;
  };

  /** @param {number} row @param {number} number @param {number} by */
  function begin(row, number, by) {
    for (const each of [barTask, barStart, barEnd, barLetter, barWorker, barNumber, barLane]) each.reserve(bars + 1);
    const start = when.data[row];
    let pool = pools.get(by);
    if (!pool) pools.set(by, (pool = { lanes: [], free: heap() }));
    const lane = pool.free.take() ?? pool.lanes.push({ worker: by, bars: [] }) - 1;
    pool.lanes[lane].bars.push(bars);
    barTask.data[bars] = task.data[row];
    barStart.data[bars] = start;
    barEnd.data[bars] = Infinity;
    barLetter.data[bars] = RUNNING;
    barWorker.data[bars] = by;
    barNumber.data[bars] = number;
    barLane.data[bars] = lane;
    open.set(task.data[row], bars++);
    if (running++ > 0) return;
    const last = stretches.at(-1);
    if (!last) stretches.push({ start, end: start, u: 0 });
    else {
      const worked = busy + last.end - last.start;
      if (start - last.end > Math.max(IDLE, IDLE_PART * worked)) {
        busy = worked;
        stretches.push({ start, end: start, u: last.u + last.end - last.start + Math.max(0.02, CUT * worked) });
      }
    }
  }

  /** @param {number} row @param {number} bar */
  function end(row, bar) {
    barEnd.data[bar] = Math.max(when.data[row], barStart.data[bar]);
    barLetter.data[bar] = letter.data[row];
    open.delete(barTask.data[bar]);
    pools.get(barWorker.data[bar])?.free.put(barLane.data[bar]);
    running--;
    const last = stretches[stretches.length - 1];
    last.end = Math.max(last.end, barEnd.data[bar]);
  }

  /** Take the rows that are new into the attempts. */
  function build() {
    for (; built < count; built++) {
      const row = order.data[built];
      const at = task.data[row];
      before.data[row] = state.get(at) ?? first[at] ?? PENDING;
      state.set(at, letter.data[row]);
      const bar = open.get(at);
      if (bar !== undefined) end(row, bar);
      if (letter.data[row] === RUNNING) {
        const number = (attempts.get(at) ?? 0) + 1;
        attempts.set(at, number);
        begin(row, number, worker.data[row]);
      }
    }
  }

  return {
    /** How many rows there are. */
    get count() {
      return count;
    },
    /** How many attempts. */
    get bars() {
      return bars;
    },
    get running() {
      return running;
    },
    get stretches() {
      return stretches;
    },
    /** Changes when what was told before is told anew: places and bars have other numbers then. */
    get version() {
      return version;
    },
    get when() {
      return when.data;
    },
    get task() {
      return task.data;
    },
    get letter() {
      return letter.data;
    },
    get before() {
      return before.data;
    },
    get order() {
      return order.data;
    },
    get first() {
      return first;
    },
    get barTask() {
      return barTask.data;
    },
    get barStart() {
      return barStart.data;
    },
    get barEnd() {
      return barEnd.data;
    },
    get barLetter() {
      return barLetter.data;
    },
    get barNumber() {
      return barNumber.data;
    },
    get barWorker() {
      return barWorker.data;
    },
    /** By bar: its lane among those of its worker. */
    get barLane() {
      return barLane.data;
    },
    /** The lanes from top to bottom: those of each worker, then those of no worker in particular. @returns {Lane[]} */
    lanes() {
      const ordered = [...pools].sort(([a], [b]) => (a || Infinity) - (b || Infinity));
      return ordered.flatMap(([, pool]) => pool.lanes);
    },
    /** In which state each task began. @param {Uint8Array} letters */
    starts(letters) {
      const same = letters.every((letter, i) => letter === (first[i] ?? PENDING));
      first = letters;
      if (same) return;
      forget();
      build();
    },
    /**
     * Take rows in.
     *
     * @param {Columns} rows
     * @returns {number} the place in the order from which on it is new
     */
    add(rows) {
      const more = rows.when.length;
      for (const each of [when, task, letter, worker, order, before]) each.reserve(count + more);
      when.data.set(rows.when, count);
      task.data.set(rows.task, count);
      letter.data.set(rows.letter, count);
      worker.data.set(rows.worker, count);
      // new rows in their own order, stable
      const fresh = Uint32Array.from({ length: more }, (_, i) => count + i);
      let sorted = true;
      for (let i = 1; i < more && sorted; i++) sorted = rows.when[i] >= rows.when[i - 1];
      if (!sorted) fresh.sort((a, b) => when.data[a] - when.data[b] || a - b);
      const place = more ? placeOf(when.data[fresh[0]]) : count;
      if (place === count) order.data.set(fresh, count);
      else {
        const tail = order.data.slice(place, count);
        let i = 0;
        let j = 0;
        for (let at = place; at < count + more; at++) {
          const older = j >= more || (i < tail.length && when.data[tail[i]] <= when.data[fresh[j]]);
          order.data[at] = older ? tail[i++] : fresh[j++];
        }
      }
      count += more;
      if (place < built) forget();
      build();
      return place;
    },
    /** Say who made the attempts that begin with these rows: pairs of row and worker. @param {number[]} pairs */
    assign(pairs) {
      let any = false;
      for (let i = 0; i + 1 < pairs.length; i += 2) {
        if (pairs[i] >= count || worker.data[pairs[i]] === pairs[i + 1]) continue;
        worker.data[pairs[i]] = pairs[i + 1];
        any = true;
      }
      if (!any) return;
      forget();
      build();
    },
  };
}

/** @typedef {ReturnType<typeof makeStory>} Story */

/**
 * Where a time stands on an axis that leaves out the time in which nothing ran.
 *
 * @param {Stretch[]} stretches
 * @param {number} time
 * @returns {number}
 */
export function toAxis(stretches, time) {
  if (!stretches.length) return 0;
  const i = Math.max(0, firstAtLeast(stretches.length, (j) => stretches[j].start, time + 1e-9) - 1);
  const { start, end, u } = stretches[i];
  const next = stretches[i + 1];
  return u + (next ? Math.min(time - start, end - start + (next.u - u - (end - start)) / 2) : time - start);
}

/**
 * The time that stands at a place of the axis.
 *
 * @param {Stretch[]} stretches
 * @param {number} u
 * @returns {number}
 */
export function toTime(stretches, u) {
  if (!stretches.length) return 0;
  const i = Math.max(0, firstAtLeast(stretches.length, (j) => stretches[j].u, u + 1e-12) - 1);
  const { start, end, u: begins } = stretches[i];
  return i + 1 < stretches.length ? Math.min(start + u - begins, end) : start + u - begins;
}

/**
 * The bars of a lane that can be seen, with those narrower than a pixel put together.
 *
 * @param {number[]} bars of one lane, in order of time
 * @param {(bar: number) => number} left px
 * @param {(bar: number) => number} right px
 * @param {(bar: number) => number} letter
 * @param {number} width px of the pane
 * @param {(letter: number) => number} rank the smaller, the more it wants to be seen
 * @returns {Piece[]}
 */
export function seen(bars, left, right, letter, width, rank) {
  /** @type {Piece[]} */
  const found = [];
  for (let i = firstAtLeast(bars.length, (j) => right(bars[j]), 0); i < bars.length; i++) {
    const bar = bars[i];
    const x = left(bar);
    if (x > width) break;
    const last = found[found.length - 1];
    const end = right(bar);
    if (last && end - last.x < 1) {
      if (rank(letter(bar)) < rank(last.letter)) last.letter = letter(bar);
      last.width = Math.max(last.width, end - last.x);
      last.bar = -1;
    } else found.push({ x, width: end - x, bar, letter: letter(bar) });
  }
  return found;
}

const ROUND = [1, 2, 5];
const SLOW = [10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

/** The smallest round length of time that is at least so long. @param {number} seconds @returns {number} */
export function roundUp(seconds) {
  for (let power = 1e-6; power < 10; power *= 10) {
    for (const digit of ROUND) if (digit * power >= seconds * 0.999999) return digit * power;
  }
  return SLOW.find((step) => step >= seconds) ?? Math.ceil(seconds / 86400) * 86400;
}

/** What stands at a tick: the time since the beginning. @param {number} seconds @param {number} step between two ticks @returns {string} */
export function tickText(seconds, step) {
  const places = (/** @type {number} */ unit) => Math.max(0, Math.ceil(-Math.log10(step / unit) - 1e-9));
  if (seconds < step / 2) return "0";
  if (step < 0.001 && seconds < 0.001) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (step < 0.1 && seconds < 1) return `${(seconds * 1000).toFixed(places(0.001))} ms`;
  if (seconds < 60) return `${seconds.toFixed(step < 1 ? places(1) : 0)} s`;
  const whole = step < 1 ? Math.floor(seconds) : Math.round(seconds);
  const rest = step < 1 ? (seconds % 60).toFixed(places(1)) : String(whole % 60);
  if (seconds < 3600) {
    const minutes = Math.floor(whole / 60);
    return Number(rest) ? `${minutes} min ${rest} s` : `${minutes} min`;
  }
  const minutes = Math.round(whole / 60);
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
}

/**
 * The states of the boxes at any moment, by going from one moment to the next.
 *
 * @param {Story} story
 * @param {Uint32Array} boxOf by task
 * @param {number} boxes how many there are
 * @param {string} urgency letters, from the state that most wants to be seen on
 */
export function replay(story, boxOf, boxes, urgency) {
  const sizes = new Uint32Array(boxes);
  for (const box of boxOf) if (box !== NOWHERE && box < boxes) sizes[box]++;
  const ranks = new Map([...urgency].map((letter, i) => [letter.charCodeAt(0), i]));
  const kinds = urgency.length;
  const counts = new Uint32Array(boxes * kinds);
  const letters = new Uint8Array(boxOf.length);
  const single = new Uint8Array(boxes); // the letter of a box of one task
  let at = 0;
  let version = -1;

  /** @param {number} task @param {number} letter @param {number} sign */
  function put(task, letter, sign) {
    const box = boxOf[task];
    if (box === NOWHERE || box >= boxes) return;
    const rank = ranks.get(letter === FELL ? FAILED : letter);
    if (rank !== undefined) counts[box * kinds + rank] += sign;
    if (sign > 0) single[box] = letter;
  }

  function restart() {
    version = story.version;
    at = 0;
    counts.fill(0);
    for (let task = 0; task < letters.length; task++) {
      letters[task] = story.first[task] ?? PENDING;
      put(task, letters[task], 1);
    }
  }

  /** @param {number} task @param {number} letter */
  function move(task, letter) {
    if (task >= letters.length) return; // it came after the drawing
    put(task, letters[task], -1);
    letters[task] = letter;
    put(task, letter, 1);
  }

  return {
    /** The letter of each box after so many transitions. @param {number} moment @returns {string} */
    at(moment) {
      const until = Math.min(Math.max(0, moment), story.count);
      if (version !== story.version) restart();
      for (; at < until; at++) {
        const row = story.order[at];
        move(story.task[row], story.letter[row]);
      }
      for (; at > until; at--) {
        const row = story.order[at - 1];
        move(story.task[row], story.before[row]);
      }
      let text = "";
      for (let box = 0; box < boxes; box++) {
        let letter = "u";
        if (sizes[box] === 1) letter = String.fromCharCode(single[box]);
        else {
          for (let i = kinds - 1; i >= 0; i--) if (counts[box * kinds + i]) letter = urgency[i];
        }
        text += letter;
      }
      return text;
    },
    /** How many tasks are in each state at the moment that was asked for last. @returns {Record<string, number>} */
    tally() {
      /** @type {Record<string, number>} */
      const found = {};
      for (const code of letters) {
        const letter = String.fromCharCode(code);
        found[letter] = (found[letter] ?? 0) + 1;
      }
      return found;
    },
  };
}

/**
 * When to show each transition in a replay: as they happened, with waits in which nothing ran cut short.
 *
 * @param {Story} story
 * @param {number} [longest] s that such a wait takes at most
 * @returns {Float64Array} s, by place in the order
 */
export function paces(story, longest = 1) {
  const found = new Float64Array(story.count);
  const runs = new Set();
  let clock = 0;
  for (let i = 0; i < story.count; i++) {
    const row = story.order[i];
    if (i) {
      const gap = Math.max(0, story.when[row] - story.when[story.order[i - 1]]);
      clock += runs.size ? gap : Math.min(gap, longest);
    }
    found[i] = clock;
    if (story.letter[row] === RUNNING) runs.add(story.task[row]);
    else runs.delete(story.task[row]);
  }
  return found;
}

/**
 * Which rows of a long list are seen, and where the first of them stands. A list that is too long for a page
 * to be scrolled by pixels is scrolled in proportion.
 *
 * @param {number} scroll px
 * @param {number} pane px
 * @param {number} count
 * @param {number} row px
 * @param {number} [highest] px that a page can bear
 */
export function rowsSeen(scroll, pane, count, row, highest = 8e6) {
  const whole = count * row;
  const height = Math.min(whole, highest);
  const room = Math.max(1, height - pane);
  const top = height === whole ? scroll : (Math.min(scroll, room) / room) * (whole - pane);
  const first = Math.max(0, Math.min(count, Math.floor(top / row) - 2));
  const last = Math.min(count, Math.ceil((top + pane) / row) + 2);
  return { height, first, last, top: scroll + first * row - top };
}

/**
 * Where to scroll to see a row, moving as little as possible.
 *
 * @param {number} scroll px
 * @param {number} pane px
 * @param {number} count
 * @param {number} row px
 * @param {number} at
 * @param {number} [highest] px
 * @returns {number}
 */
export function scrolledTo(scroll, pane, count, row, at, highest = 8e6) {
  const whole = count * row;
  const height = Math.min(whole, highest);
  const room = Math.max(1, height - pane);
  const scale = height === whole ? 1 : (whole - pane) / room;
  const top = scroll * scale;
  const margin = Math.min(2 * row, pane / 3); // what stands before and after it is seen, too
  if (at * row - margin < top) return Math.max(0, at * row - margin) / scale;
  if ((at + 1) * row + margin > top + pane) return ((at + 1) * row + margin - pane) / scale;
  return scroll;
}

/** As much of a text as fits. @param {string} text @param {number} room px @param {(text: string) => number} measure @returns {string} */
export function shortened(text, room, measure) {
  if (measure(text) <= room) return text;
  let low = 0;
  let high = text.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (measure(`${text.slice(0, middle)}…`) <= room) low = middle;
    else high = middle - 1;
  }
  return low >= 2 ? `${text.slice(0, low).trimEnd()}…` : "";
}

/** The time of day. @param {number} seconds since the epoch @param {boolean} [exact] with ms @returns {string} */
export function clockTime(seconds, exact = false) {
  const date = new Date(Math.floor(seconds * 1000 + 1e-4));
  const two = (/** @type {number} */ number) => String(number).padStart(2, "0");
  const text = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return exact ? `${text}.${String(date.getMilliseconds()).padStart(3, "0")}` : text;
}
