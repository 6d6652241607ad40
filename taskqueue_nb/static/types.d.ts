/** What the kernel tells the page (traits of `TaskGraph`), and what the page asks of it. */

/** A state as the palette names it: one letter in `states`, a word and a glyph for people. */
export interface Look {
  letter: string;
  state: string;
  word: string;
  glyph: string;
  /** Of a task that failed only because another did: a failure in quieter colours. */
  victim?: boolean;
}

/** What a box of the drawing stands for: `at` is what selecting it selects. */
export interface Box {
  at: string;
  label: string;
  /** Its name as in lists: with the arguments of a call, if it is named after its function. */
  call?: string;
  size: number;
  /** The `at` of the box that it would be folded into, or "". */
  of: string;
}

/** How much of the queue the drawing shows. */
export interface Lens {
  /** The task that is looked at with what stands around it, or "". */
  around: string;
  seen: number;
  total: number;
  /** Whether nobody has folded, unfolded or left out anything, nor has a box of its own what ran once. */
  plain: boolean;
  /** How often somebody wanted to see something else. */
  turn: number;
}

/** A task in the table; times in seconds, `started` since the epoch. */
export type Row = [
  at: string,
  label: string,
  letter: string,
  attempts: number,
  started: number | null,
  took: number | null,
  error: string,
  required: number,
];

/** A page of the table: rows from `start` on, of `total`. */
export interface Table {
  column: string;
  down: boolean;
  start: number;
  total: number;
  text: string;
  rows: Row[];
}

/** The tasks whose names match a text: the best of them, and how many there are. */
export interface Finds {
  text: string;
  hits: Link[];
  total: number;
}

export interface Progress {
  total: number;
  done: number;
  blocked: number;
  causes: number;
  running: boolean;
  held: boolean;
  /** Seconds until everything that can run has run, or null while that is unknown. */
  left: number | null;
}

/** A way to another task: its `at`, its label, its state's letter. */
export type Link = [at: string, label: string, letter: string];

export interface Attempt {
  number: number;
  letter: string;
  /** Seconds since the epoch. */
  started: number | null;
  /** Seconds. */
  took: number | null;
  error: string;
}

/** Something foreign to be shown; nothing but a sentence if it has no kind. */
export interface Rich {
  kind: "image" | "html" | "text" | "";
  /** What its form is called: "picture", "LaTeX". */
  called: string;
  /** A data URL, HTML as it came, or text. */
  data: string;
  note: string;
}

/** A frame of a traceback, or how many were left out. */
export interface Frame {
  left?: number;
  /** What its file is called: "Cell In[3]", "model.py". */
  file: string;
  path: string;
  line: number;
  name: string;
  /** The library that it is of; "" for the user's own code. */
  package: string;
  /** The number of the first line of `code`, which holds the failing one. */
  first: number;
  code: string[];
  /** From which character to which the failing line was being worked out. */
  part: [number, number] | null;
}

/** An exception, and what stands between it and the one before it. */
export interface Raised {
  says: string;
  lead: string;
  /** How many groups it is in. */
  depth: number;
  notes: string[];
  frames: Frame[];
}

export interface Field {
  key: string;
  name: string;
  kind: "literal" | "default" | "kept" | "task";
  /** The Python literal for "literal" and "default"; what is kept for "kept". */
  text: string;
  /** How the literal is edited; without it, as it is written. */
  as?: "bool" | "choice" | "int" | "float" | "str" | "";
  /** The literals to choose from. */
  choices?: string[];
  /** The text that a literal of a text stands for. */
  plain?: string;
  links: Link[];
}

/** What a button would do, in words, and the id of the plan that its click brings back. */
export interface Foreseen {
  says: string;
  plan: string;
}

export interface Action extends Partial<Foreseen> {
  verb: string;
  label: string;
  run: boolean;
  hint: string;
}

/** What stands above the graph about mending. */
export interface Mending {
  /** The verb that can be taken back, or "". */
  undo: string;
  /** Retry all failed. */
  retry: Foreseen;
  /** Refresh stale; it says nothing while nothing is out of date. */
  refresh: Foreseen;
  /** "2 causes block 41 tasks", "2 causes" if nothing waits for them, or "". */
  causes: string;
  /** The `at` of the first task of each cause. */
  at: string[];
}

/** Everything about the selected task, or the members of the selected group. */
export interface Details {
  at: string;
  label: string;
  letter: string;
  members?: Link[];
  more?: number;
  calls?: string;
  why?: string;
  error?: string;
  /** How it failed, as text, and taken apart where that is possible. */
  traceback?: string;
  trace?: Raised[];
  /** The number of the attempt that it is of, or 0 for the last one. */
  of_attempt?: number;
  output?: string;
  /** What was displayed, besides text. */
  displayed?: Rich[];
  result?: { type: string; text: string; rich?: Rich } | null;
  progressed?: [number, number] | null;
  attempts?: Attempt[];
  fields?: Field[];
  editable?: boolean;
  /** The text of its function, if it can be edited. */
  source?: string | null;
  /** The line of it, from 1, at which the last attempt failed. */
  failing?: number | null;
  /** What the last attempt ran, if that is known: its text, or null if it is `source`. */
  ran?: { number: number; source: string | null } | null;
  /** The last call as a cell, numbered, once somebody has asked for it; undefined without a kernel. */
  cell?: [number: number, text: string] | null;
  actions?: Action[];
  suppliable?: boolean;
  /** What a supplied value would set in motion. */
  supplies?: string;
  /** The cause that this task belongs to, in words. */
  cause?: string;
  /** Why it is out of date, in words. */
  stale?: string;
  required?: Link[];
  blocking?: Link[];
}

/** The answer to the click with this id: whether it was done, and a sentence. */
export type Answer = [id: string, done: boolean, sentence: string];

export interface Traits {
  svg: string;
  boxes: Box[];
  states: string;
  /** By the number of a box: what it says in place of its state's word. */
  says: Record<string, string>;
  counts: Record<string, number>;
  progress: Progress;
  details: Details | Record<string, never>;
  mending: Mending;
  answers: Answer[];
  looks: Look[];
  heading: string;
  key: string;
  note: string;
  selected: string;
  lens: Lens;
  finds: Finds;
  table: Table | Record<string, never>;
  /** Of a page without a kernel, in which nothing can be done. */
  still?: boolean;
  /** Modules that came after the first picture: name → text. */
  parts: Partial<Record<keyof Parts, string>>;
}

/** What a page without a kernel holds. */
export interface Saved {
  traits: Traits;
  /** By `at`. A value `{$: n}` of one of them stands for the n-th of `values`. */
  details: Record<string, Details>;
  values: unknown[];
  /** Of every task, in the order of the queue, as far as they go. */
  rows: Row[];
  /** The letters of the states, the one first that most wants to be seen. */
  urgency: string;
  /** What is said of tasks without details. */
  rest: string;
  /** What the kernel would send of what has happened: messages, each with its buffers in base64. */
  record: [message: Record<string, unknown>, buffers: string[]][];
}

/** What is loaded after the first picture: a module for each. */
export interface Parts {
  details: typeof import("./details.js");
  record: typeof import("./record.js");
  table: typeof import("./table.js");
}

/** A panel of the dock. */
export interface Panel {
  element: HTMLElement;
  /** Something has changed: the selection, the states, the structure. */
  update(): void;
  dispose(): void;
}

/** What a panel may use of the view that it belongs to. */
export interface Context {
  model: Model;
  select(at: string): void;
  selected(): string;
  looks(): Look[];
  boxes(): Box[];
  /** The letters of the states that are looked at alone; "" for all. */
  filter(): string;
  /** A message without an answer. */
  send(message: Record<string, unknown>): void;
  /** A click on the queue, with an answer. */
  act(verb: string, extra?: Record<string, unknown>): void;
  /**
   * Show another moment, a letter per box, and say which; null shows the present again.
   * The tally is how many tasks were in each state then, by letter.
   */
  rewind(letters: string | null, sentence: string, tally?: Record<string, number>): void;
  /** Whether another moment is shown. */
  rewound(): boolean;
}

/** The part of anywidget's model that the view uses. */
export interface Model {
  get<K extends keyof Traits>(key: K): Traits[K];
  on(event: string, callback: (...told: any[]) => void): void;
  off(event: string, callback: (...told: any[]) => void): void;
  send(message: Record<string, unknown>): void;
}

/** Where the drawing stands in its pane: screen = world × k + (x, y). */
export interface View {
  x: number;
  y: number;
  k: number;
}

export interface Size {
  width: number;
  height: number;
}

export interface Rect extends Size {
  x: number;
  y: number;
}

export type Place = "top" | "side";

// ---------------------------------------------------------------- the machine of one task

/** An event that leads from one state to others: a button. */
export interface EventButton {
  event: string;
  on: boolean;
  /** What it would do, or why it cannot be fired now. */
  why: string;
}

/** All events that lead from one state to another: a line of the diagram. */
export interface Way {
  from: number;
  to: number;
  says: string;
  path: string;
  heads: string[];
  at: [number, number] | null;
}

/** The state diagram: numbers and names, from which the page draws. */
export interface Diagram {
  size: [number, number];
  states: { name: string; sign: string; mark: string }[];
  boxes: [number, number, number, number][];
  ways: Way[];
}

/** Where the machine stands, and how it came there. */
export interface Trace {
  /** The place of the present state, or -1. */
  current: number;
  name: string;
  look: Look;
  taken: [from: number, to: number, count: number][];
  last: [from: number, to: number] | null;
}

/** The next step, and what is injected into the next attempt. */
export interface Teaching {
  step: { on: boolean; says: string };
  fail: boolean;
  slow: number;
  says: string;
  on: boolean;
}

export interface LogRow {
  /** Seconds since the epoch. */
  when: number;
  says: string;
  state: string;
  glyph: string;
}

/** The traits of `TaskMachine`. */
export interface MachineTraits {
  heading: string;
  key: string;
  note: string;
  diagram: Diagram;
  trace: Trace;
  events: EventButton[];
  teach: Teaching | Record<string, never>;
  log: LogRow[];
  answers: Answer[];
}

export interface MachineModel {
  get<K extends keyof MachineTraits>(key: K): MachineTraits[K];
  on(event: string, callback: (...told: any[]) => void): void;
  off(event: string, callback: (...told: any[]) => void): void;
  send(message: Record<string, unknown>): void;
}
