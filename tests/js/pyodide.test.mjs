// @ts-check
/** The core in a real Pyodide: Python in a page, where there is an event loop and no thread. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { loadPyodide } from "pyodide";

const PACKAGE = new URL("../../taskqueue_nb", import.meta.url).pathname;

const python = await loadPyodide();

/** Put a folder of ours into its file system. @param {string} from @param {string} to */
function copy(from, to) {
  python.FS.mkdirTree(to);
  for (const name of readdirSync(from)) {
    const path = join(from, name);
    if (name === "__pycache__") continue;
    if (statSync(path).isDirectory()) copy(path, `${to}/${name}`);
    else python.FS.writeFile(`${to}/${name}`, readFileSync(path));
  }
}

copy(PACKAGE, "/lib/ours/taskqueue_nb");
await python.runPythonAsync(`
import asyncio, sys, threading
sys.path.insert(0, "/lib/ours")
from taskqueue_nb import Task, TaskQueue, task

async def ended(queue):
    "Do what a page does meanwhile: count the turns that it gets."
    turns = 0
    while queue.running:
        turns += 1
        await asyncio.sleep(0)
    return turns
`);

/** Run Python, and take its last value as a plain one. @param {string} code @returns {Promise<any>} */
async function run(code) {
  return JSON.parse(await python.runPythonAsync(`import json\n${code}`));
}

suite("in a page without threads", () => {
  test("there are none", async () => {
    await assert.rejects(python.runPythonAsync("threading.Thread(target=print).start()"), /can't start new thread/);
  });

  test("start returns at once, and the page gets its turns between the tasks", async () => {
    const [first, turns, order, result] = await run(`
order = []
@task
def step(number, *before):
    order.append(number)
    return number
async def wait(number):
    await asyncio.sleep(0.01)
    return number + 1
last = None
for number in range(20):
    last = step(number, *([] if last is None else [last]))
final = Task("wait", wait, func_args=(last,))
queue = TaskQueue.of(final)
queue.start()
first = queue.counts()
turns = await ended(queue)
json.dumps([first, turns, order, final.result()])`);

    assert.deepEqual(first, { PENDING: 21 });
    assert.ok(turns >= 20, `${turns} turns`);
    assert.deepEqual(order, [...Array(20).keys()]);
    assert.equal(result, 20);
  });

  test("a failed task is repaired, and only what must run again runs again", async () => {
    const [failed, done, calls, undone] = await run(`
calls = []
def load():
    calls.append("load")
    return 2
def fit(number, degree=9):
    calls.append("fit")
    if degree > 3:
        raise ValueError("too high")
    return number * degree
a = Task("load", load)
b = Task("fit", fit, func_args=(a,))
queue = TaskQueue.of(b)
queue.start()
await ended(queue)
failed = queue.counts()
plan = queue.plan("repair", b, kwargs={"degree": 3})
plan.apply(then_run=True)
await ended(queue)
json.dumps([failed, b.result(), calls, str(plan)])`);

    assert.deepEqual(failed, { DONE: 1, FAILED: 1 });
    assert.equal(done, 6);
    assert.deepEqual(calls, ["load", "fit", "fit"]);
    assert.match(undone, /1 will run/);
  });

  test("run works in the caller's turn, and threads are refused in a sentence", async () => {
    const [names, said, counts] = await run(`
names = [each.name for each in TaskQueue(Task("one", list), Task("two", list)).run()]
queue = TaskQueue(Task("three", list))
try:
    list(queue.run(executor=2))
    said = ""
except RuntimeError as error:
    said = str(error)
json.dumps([names, said, queue.counts()])`);

    assert.deepEqual(names, ["one", "two"]);
    assert.match(said, /thread/);
    assert.deepEqual(counts, { PENDING: 1 });
  });

  test("stop ends a run between two tasks", async () => {
    const counts = await run(`
queue = TaskQueue(*(Task(f"t{i}", list) for i in range(50)))
queue.start()
await asyncio.sleep(0)
await asyncio.sleep(0)
queue.stop()
await ended(queue)
json.dumps(queue.counts())`);

    assert.equal(counts.DONE + counts.PENDING, 50);
    assert.ok(counts.PENDING > 0);
  });
});
