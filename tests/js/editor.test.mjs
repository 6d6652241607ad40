// @ts-check
import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { failed } from "./page.mjs";
import { all, changes, fire, node, one, python, shown } from "./view.mjs";

suite("tokens of Python", () => {
  /** @param {string} text */
  const kinds = (text) => python.tokens(text).filter(([kind]) => kind).map(([kind, part]) => `${kind} ${part}`);

  test("each has its kind", () => {
    const text = '@task\ndef fit(x: int = 0x1F) -> None:\n    """Say\n    it."""\n    return len(f"{x}") + 1.5e3  # no "string"';

    assert.deepEqual(kinds(text), [
      "decorator @task",
      "keyword def",
      "name fit",
      "builtin int",
      "number 0x1F",
      "keyword None",
      'string """Say\n    it."""',
      "keyword return",
      "builtin len",
      'string f"{x}"',
      "number 1.5e3",
      'comment # no "string"',
    ]);
  });

  const texts = [
    "", "\n", "x", "'", '"""', "'\\'", "rb'\\", "a = '#' # b", "0b1 1_000j .5 x1 é1", "a @ b", "\t\r\n ", "🙂 = '🙂'", "</script>]]>\u202e\u001b[31m",
    "def", "class \n X", "f'{a['b']}'", "\\\n", "lambda: ...", "'''\n''\n",
  ];
  for (const text of texts) {
    test(`joined, they are the text again: ${JSON.stringify(text)}`, () => {
      assert.equal(python.tokens(text).map(([, part]) => part).join(""), text);
      assert.deepEqual(python.tokenLines(text).map((line) => line.map(([, part]) => part).join("")), text.split("\n"));
    });
  }

  test("a long text takes no time", () => {
    const began = performance.now();
    for (const text of ["'".repeat(50_000), '"""'.repeat(20_001), "(".repeat(50_000), `'${"\\a".repeat(25_000)}`, "#\n".repeat(25_000), " ".repeat(50_000)]) {
      assert.equal(python.tokens(text).map(([, part]) => part).join("").length, text.length);
    }
    assert.ok(performance.now() - began < 10_000);
  });
});

suite("keys in the source", () => {
  /**
   * Press a key in a text in which | is the caret, or two of them a selection.
   *
   * @param {string} text
   * @param {string} key
   * @param {{shift?: boolean, command?: boolean}} [more]
   */
  function pressed(text, key, more = {}) {
    const [before, ...rest] = text.split("|");
    const inside = rest.length > 1 ? rest[0] : "";
    const whole = before + rest.join("");
    const change = python.changeOf(whole, before.length, before.length + inside.length, { key, ...more });
    if (!change) return null;
    const after = whole.slice(0, change.from) + change.insert + whole.slice(change.to);
    const [from, to] = change.select;
    const caret = from === to ? "|" : `|${after.slice(from, to)}|`;
    return after.slice(0, from) + caret + after.slice(to);
  }

  test("Tab indents to the next stop, Enter keeps the indent and opens a block", () => {
    const text = "def f(x):\n    if x:\n  y";

    assert.deepEqual([0, 2, 14, text.length].map((at) => python.indent(text, at, "Tab")), ["    ", "  ", "    ", " "]);
    assert.equal(python.indent(text, 9, "Enter"), "\n    ");
    assert.equal(python.indent(text, 19, "Enter"), "\n        ");
    assert.equal(python.indent(text, text.length, "Enter"), "\n  ");
    assert.equal(pressed("if x:  # so|", "Enter"), "if x:  # so\n    |");
  });

  /** @type {[string, string, string | null][]} */
  const typed = [
    ["f|", "(", "f(|)"],
    ["f(|)", ")", "f()|"],
    ["f(|", ")", null],
    ["x = |", "[", "x = [|]"],
    ["|x", "(", null],
    ["|x|", "(", "(|x|)"],
    ["|x|", '"', '"|x|"'],
    ["x = |", "'", "x = '|'"],
    ["x = '|'", "'", "x = ''|"],
    ["x = ''|", "'", null],
    ["x = f|", '"', 'x = f"|"'],
    ["don|", "'", null],
    ["# it|", "(", null],
    ["x = 'a|'", "(", null],
    ["x = 'a|", "'", null],
    ["x = 'a\\|'", "'", null],
    ["x|", "a", null],
    ["f((|)", ")", null],
  ];
  for (const [text, key, after] of typed) {
    test(`${key} in ${text} gives ${after ?? "itself"}`, () => assert.equal(pressed(text, key), after));
  }

  /** @type {[string, string, {shift?: boolean, command?: boolean}, string | null][]} */
  const others = [
    ["f(|)", "Backspace", {}, "f|"],
    ['"|"', "Backspace", {}, "|"],
    ["f(|x)", "Backspace", {}, null],
    ["    |x", "Backspace", {}, "|x"],
    ["  |x", "Backspace", {}, null],
    ["a|b", "Backspace", {}, null],
    ["f(|)", "Enter", {}, "f(\n    |\n)"],
    ["|a\n  b\n\nc|", "Tab", {}, "|    a\n      b\n\n    c|"],
    ["|a\nb\n|c", "Tab", {}, "|    a\n    b|\nc"],
    ["|    a\n  b\n\tc|", "Tab", { shift: true }, "|a\nb\nc|"],
    ["    a|", "Tab", { shift: true }, "a|"],
    ["a|b|", "Tab", {}, "a   |"],
    ["|a\n    b\n\nc|", "/", { command: true }, "|# a\n#     b\n\n# c|"],
    ["    a|", "/", { command: true }, "    # a|"],
    ["|# a\n  #b|", "/", { command: true }, "|a\n  b|"],
    ["a|", "z", { command: true }, null],
    ["a|", "(", { command: true }, null],
  ];
  for (const [text, key, more, after] of others) {
    test(`${JSON.stringify(more)} ${key} in ${JSON.stringify(text)}`, () => assert.equal(pressed(text, key, more), after));
  }
});

suite("changes", () => {
  /** @param {string} before @param {string} after */
  const lines = (before, after) => changes.compared(before, after).map(([sign, line]) => sign + line);

  test("lines are kept, added and removed in order", () => {
    assert.deepEqual(lines("a\nb\nc", "a\nB\nc\nd"), [" a", "-b", "+B", " c", "+d"]);
    assert.deepEqual(lines("a\nb\nc\nd\ne", "c\na\ne"), ["-a", "-b", " c", "-d", "+a", " e"]);
    assert.deepEqual(lines("a", "a"), [" a"]);
    assert.deepEqual(lines("", "a\n"), ["+a", " "]);
  });

  test("whatever changes, both texts can be read from it, with their numbers", () => {
    let seed = 1;
    const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
    for (let round = 0; round < 200; round++) {
      const text = () => Array.from({ length: Math.floor(random() * 8) }, () => "abc"[Math.floor(random() * 3)]).join("\n");
      const [before, after] = [text(), text()];
      const found = changes.compared(before, after);
      const old = found.filter(([sign]) => sign !== "+");
      const now = found.filter(([sign]) => sign !== "-");
      assert.equal(old.map(([, line]) => line).join("\n"), before);
      assert.equal(now.map(([, line]) => line).join("\n"), after);
      assert.deepEqual(old.map(([, , number]) => number), old.map((_, i) => i + 1));
      assert.deepEqual(now.map(([, , , number]) => number), now.map((_, i) => i + 1));
    }
  });

  test("a line is followed to where it stands now", () => {
    const found = changes.compared("a\nb\nc", "x\na\nb");

    assert.deepEqual([1, 2, 3].map((number) => changes.movedTo(found, number)), [2, 3, 0]);
  });

  test("huge texts are compared as wholes, in no time", () => {
    const huge = (/** @type {string} */ each) => Array.from({ length: 5000 }, (_, i) => `${each}${i}`).join("\n");

    assert.equal(changes.compared(huge("a"), huge("b")).length, 10_000);
  });
});

suite("the editor", () => {
  /** @param {Parameters<typeof failed>[0]} [changed] */
  function opened(changed) {
    const model = shown();
    fire(node("1"), "click");
    model.put({ details: failed(changed) });
    return model;
  }
  const source = () => /** @type {HTMLTextAreaElement} */ (one(".tq-source"));
  const under = () => one(".tq-coloured").textContent?.replace(/\n$/, "");
  const type = (/** @type {string} */ text) => {
    source().value = text;
    fire(source(), "input");
  };

  test("the colours stand under the same text, line by line, with numbers beside", () => {
    opened();
    assert.equal(under(), source().value);
    type("def f():\n    return '</script>' # \u202e\n");
    assert.equal(under(), source().value);
    assert.equal(one(".tq-py-name").textContent, "f");
    assert.deepEqual(all(".tq-numbers > *").map((e) => e.textContent), ["1", "2", "3"]);
    type("x");
    assert.equal(under(), "x");
    assert.equal(one(".tq-numbers").children.length, 1);
    assert.equal(one(".tq-behind").getAttribute("aria-hidden"), "true");
  });

  test("a key that closes a bracket changes the text as typing does", () => {
    opened();
    type("f");
    source().setSelectionRange(1, 1);
    fire(source(), "pointerdown");

    assert.ok(fire(source(), "keydown", { key: "(" }).defaultPrevented);

    assert.equal(source().value, "f()");
    assert.equal(source().selectionStart, 2);
    assert.equal(under(), "f()");
    assert.ok(one(".tq-edited .tq-source"));
    fire(source(), "keydown", { key: "Backspace" });
    assert.equal(source().value, "f");
  });

  test("a selection is moved by Tab and Shift+Tab, and commented by Ctrl+/", () => {
    opened();
    type("a\nb");
    fire(source(), "pointerdown");
    source().select();
    fire(source(), "keydown", { key: "Tab" });
    assert.equal(source().value, "    a\n    b");
    fire(source(), "keydown", { key: "Tab", shiftKey: true });
    assert.equal(source().value, "a\nb");
    fire(source(), "keydown", { key: "/", ctrlKey: true });
    assert.equal(source().value, "# a\n# b");
  });

  test("characters that are composed, or written with Ctrl and Alt, are the keyboard's", () => {
    opened();
    type("");
    assert.ok(!fire(source(), "keydown", { key: "(", isComposing: true }).defaultPrevented);
    assert.ok(fire(source(), "keydown", { key: "[", ctrlKey: true, altKey: true }).defaultPrevented);
    assert.equal(source().value, "[]");
  });

  test("the line that failed is marked by a sign and in words, and followed while the rest is edited", () => {
    opened({ failing: 2, ran: { number: 1, source: null } });
    const marked = () => all(".tq-numbers > .tq-failing").map((e) => e.textContent);

    assert.deepEqual(marked(), ["✗ 2"]);
    assert.match(one(".tq-below").textContent ?? "", /Line 2 failed/);
    type(`# so\n${source().value}`);
    assert.deepEqual(marked(), ["✗ 3"]);
    type("def fit(table, degree):\n    return 1");
    assert.deepEqual(marked(), []);
  });

  test("what differs from what the last attempt ran is shown below, with signs", () => {
    opened({ ran: { number: 3, source: null } });
    assert.deepEqual(all(".tq-changes"), []);

    type("def fit(table, degree):\n    return 1");

    assert.deepEqual(
      all(".tq-changes .tq-row-of").map((e) => e.textContent),
      [" def fit(table, degree):\n", "−    return degree\n", "+    return 1\n"],
    );
    assert.match(one(".tq-below").textContent ?? "", /Changes against attempt 3: \+1 −1 lines/);
    assert.deepEqual(all(".tq-changes ins, .tq-changes del").map((e) => e.localName), ["del", "ins"]);
  });

  test("also of a function that was repaired, and has not run", () => {
    opened({ ran: { number: 1, source: "def fit(table, degree):\n    return 0" } });

    assert.match(one(".tq-below").textContent ?? "", /attempt 1: \+1 −1 lines/);
  });
});
