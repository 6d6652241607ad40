"""What a task prints: kept with its attempt, and shown as usual where it runs in the cell."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import io
import logging
import os
import subprocess
import sys
import textwrap
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from checks import LIMIT, Calls, build, run, wait_for
from taskqueue_nb import Task, TaskQueue, make_now
from taskqueue_nb.capture import HEAD, MOST_SHOWN, MOST_SHOWN_BYTES, TAIL, Displayed, Output

FOREGROUND: Final[dict[str, Callable[[Task], object]]] = {
    "dispatch": lambda task: task.dispatch(),
    "make": lambda task: task.make(),
    "run": lambda task: run(TaskQueue(task)),
    "bg": lambda task: task.bg().join(LIMIT),
}


def say(text: str) -> None:
    """Print on both streams."""
    print(text)
    print(f"warning: {text}", file=sys.stderr)


@pytest.mark.parametrize("act", FOREGROUND.values(), ids=FOREGROUND)
def test_output_is_kept_and_shown(
    act: Callable[[Task], object], capsys: pytest.CaptureFixture[str]
) -> None:
    """In the caller's thread and in `bg` it passes through as usual, and is kept as well."""
    one = Task("one", say, func_args=("hello",))

    act(one)

    assert one.output == "hello\nwarning: hello\n"
    assert one.attempts[-1].output == one.output
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("hello\n", "warning: hello\n")


def test_output_of_a_background_run_is_kept_and_not_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`start` leaves the cells alone: by then another one may be running."""
    tasks = [Task(f"t{i}", say, func_args=(str(i),)) for i in range(20)]
    queue = TaskQueue(*tasks)

    queue.start(executor=3)

    assert queue.wait(LIMIT)
    assert [task.output for task in tasks] == [f"{i}\nwarning: {i}\n" for i in range(20)]
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_what_others_print_meanwhile_is_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    """A cell that prints while a background run goes on shows its own lines only."""
    began, go = threading.Event(), threading.Event()

    def work() -> None:
        print("from the task")
        began.set()
        wait_for(go)
        print("again")

    queue = TaskQueue(Task("one", work)).start()
    wait_for(began)

    print("from the cell")
    go.set()

    assert queue.wait(LIMIT)
    assert capsys.readouterr().out == "from the cell\n"
    assert queue.tasks[0].output == "from the task\nagain\n"


def test_tasks_side_by_side_keep_their_own_output() -> None:
    """Two threads that print in turn do not mix."""
    turns = threading.Barrier(2)

    def work(name: str) -> None:
        for i in range(50):
            turns.wait(LIMIT)
            print(name, i)

    tasks = [Task(name, work, func_args=(name,)) for name in ("a", "b")]
    queue = TaskQueue(*tasks).start(executor=2)

    assert queue.wait(LIMIT)

    for task in tasks:
        assert task.output == "".join(f"{task.name} {i}\n" for i in range(50))


def test_each_attempt_has_its_own_output() -> None:
    """A retried task shows what its last attempt printed; the earlier texts can be read."""
    numbers = iter(["first", "second"])

    def work() -> None:
        word = next(numbers)
        print(word)
        if word == "first":
            raise ValueError(word)

    one = Task("one", work)
    one.dispatch()
    one.retry()
    one.dispatch()

    assert [attempt.output for attempt in one.attempts] == ["first\n", "second\n"]
    assert one.output == "second\n"


def test_inner_task_keeps_its_own_output() -> None:
    """A task dispatched by another: each has what it printed."""

    def outer_work() -> None:
        print("before")
        inner.dispatch()
        print("after")

    inner = Task("inner", print, func_args=("inside",))
    outer = Task("outer", outer_work)

    outer.dispatch()

    assert inner.output == "inside\n"
    assert outer.output == "before\nafter\n"


def test_task_that_has_not_run_has_no_output() -> None:
    """The empty text."""
    one = Task("one", list)
    assert one.output == ""

    one.dispatch()

    assert one.output == ""
    assert one.attempts[-1].output == ""


@pytest.mark.parametrize("background", [False, True])
def test_streams_are_the_same_after_a_run(background: bool) -> None:
    """`sys.stdout` and `sys.stderr` are put back, also after failures."""
    before = sys.stdout, sys.stderr
    queue = TaskQueue(Task("good", say, func_args=("x",)), Task("bad", lambda: 1 / 0))

    if background:
        assert queue.start(executor=2).wait(LIMIT)
    else:
        run(queue)

    assert (sys.stdout, sys.stderr) == before


def test_streams_are_the_same_after_two_runs_that_overlap() -> None:
    """Whichever of two background runs ends first."""
    before = sys.stdout, sys.stderr
    gates = [threading.Event(), threading.Event()]
    queues = [TaskQueue(Task("gate", wait_for, func_args=(gate,))).start() for gate in gates]

    for gate, queue in zip(gates, queues, strict=True):
        gate.set()
        assert queue.wait(LIMIT)

    assert (sys.stdout, sys.stderr) == before


def test_task_may_redirect_its_output() -> None:
    """`redirect_stdout` inside a task does what it says."""
    caught = io.StringIO()

    def work() -> None:
        print("kept")
        with contextlib.redirect_stdout(caught):
            print("redirected")
        print("kept too")

    one = Task("one", work)

    one.dispatch()

    assert caught.getvalue() == "redirected\n"
    assert one.output == "kept\nkept too\n"


def test_redirected_cell_gets_what_its_tasks_print() -> None:
    """A caller who redirects before running gets the text, as without tasks."""
    caught = io.StringIO()

    with contextlib.redirect_stdout(caught):
        make_now(Task("one", print, func_args=("hello",)))

    assert caught.getvalue() == "hello\n"


def test_stream_still_looks_like_a_stream_to_the_task() -> None:
    """What a task asks of `sys.stdout` is answered: flush, encoding, isatty, fileno where any."""

    def work() -> list[Any]:
        sys.stdout.flush()
        sys.stdout.writelines(["a", "b"])
        return [sys.stdout.encoding, sys.stdout.isatty(), sys.stdout.writable(),
                sys.stdout.write("c")]  # fmt: skip

    one = Task("one", work)

    one.dispatch()

    assert one.is_done, one.exception
    assert one.result()[1:] == [False, True, 1]
    assert one.output == "abc"


def test_endless_output_is_cut_and_says_so() -> None:
    """Beginning and end are kept, the middle is not, and memory is bounded."""

    def work() -> None:
        print("the beginning")
        for _ in range(200):
            print("x" * 10_000)
        print("the end")

    one = Task("one", work)

    TaskQueue(one).start().wait(LIMIT)

    assert one.output.startswith("the beginning")
    assert one.output.endswith("the end\n")
    assert "dropped" in one.output
    assert len(one.output) < 200_000


def test_no_standard_streams_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `sys.stdout` and `sys.stderr` (pythonw) tasks run all the same."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    tasks = build({"a": [], "b": ["a"]}, calls := Calls())

    run(TaskQueue(*tasks.values()))

    assert calls.names == ["a", "b"]


def test_writing_to_the_descriptor_is_not_ours(capfd: pytest.CaptureFixture[str]) -> None:
    """What bypasses Python's streams is shown as ever and not kept."""
    one = Task("one", lambda: os.write(1, b"raw\n"))

    one.dispatch()

    assert one.result() == 4
    assert one.output == ""
    assert capfd.readouterr().out == "raw\n"


# --------------------------------------------------------------------------------------------- echo
@pytest.mark.parametrize("echo", [None, True, False])
@pytest.mark.parametrize("way", ["run", "threads", "start", "arun", "processes"])
def test_echo_says_whether_it_is_shown(
    way: str, echo: bool | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """None shows what runs in the foreground; in every case the attempt keeps it."""
    queue = TaskQueue(one := Task("one", print, func_args=("hello",)))

    if way == "start":
        assert queue.start(echo=echo).wait(LIMIT)
    elif way == "arun":
        asyncio.run(queue.arun(echo=echo))
    else:
        run(queue, echo=echo, executor={"threads": 2, "processes": "processes:1"}.get(way))

    is_shown = way != "start" if echo is None else echo
    assert capsys.readouterr().out == ("hello\n" if is_shown else "")
    assert one.output == "hello\n"


def test_echo_of_the_last_start_counts_for_then_run(capsys: pytest.CaptureFixture[str]) -> None:
    """`retry(then_run=True)` goes on as the run was started."""
    queue = TaskQueue(Task("one", print, func_args=("hello",)))
    assert queue.start(echo=True).wait(LIMIT)

    queue.invalidate(*queue.tasks, then_run=True)

    assert queue.wait(LIMIT)
    assert capsys.readouterr().out == "hello\nhello\n"


def test_echo_is_a_truth() -> None:
    """Anything else is refused before something runs."""
    with pytest.raises(TypeError, match="echo is True, False or None, not 'yes'"):
        TaskQueue(Task("one", list)).run(echo="yes")  # type: ignore[arg-type]  # that is the point


# ------------------------------------------------------------------------------------------ logging
ROOT: Final = logging.getLogger()


@contextlib.contextmanager
def plain_logging() -> Iterator[None]:
    """Take away the handlers that pytest gives the root logger, and put them back."""
    kept, level = ROOT.handlers[:], ROOT.level
    ROOT.handlers[:] = []
    ROOT.setLevel(logging.WARNING)
    try:
        yield
    finally:
        ROOT.handlers[:] = kept
        ROOT.setLevel(level)


def log_words() -> None:
    """Log at four levels."""
    logger = logging.getLogger("tests.words")
    for level in ("debug", "info", "warning", "error"):
        getattr(logger, level)("some %s", level)


@plain_logging()
def test_log_without_handlers_is_kept_and_shown_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    """With level and name; what is shown is what logging shows by itself."""
    one = Task("one", log_words)

    one.dispatch()

    assert one.output == "WARNING:tests.words:some warning\nERROR:tests.words:some error\n"
    assert capsys.readouterr().err == "some warning\nsome error\n"


@plain_logging()
def test_log_without_handlers_is_not_shown_from_the_background(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And what the cell logs meanwhile is shown as ever."""
    began, go = threading.Event(), threading.Event()

    def work() -> None:
        log_words()
        began.set()
        wait_for(go)

    queue = TaskQueue(Task("one", work)).start()
    wait_for(began)

    logging.getLogger("tests.cell").warning("from the cell")
    go.set()

    assert queue.wait(LIMIT)
    assert capsys.readouterr().err == "from the cell\n"
    assert queue.tasks[0].output.endswith("ERROR:tests.words:some error\n")


@pytest.mark.parametrize("background", [False, True])
@plain_logging()
def test_log_of_a_handler_made_before_is_kept_as_it_shows_it(
    background: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """`basicConfig` in an earlier cell holds the stream of then; its format and level count."""
    logging.basicConfig(level=logging.INFO, format="<%(message)s>")
    ROOT.handlers[0].setLevel(logging.WARNING)
    queue = TaskQueue(one := Task("one", log_words))

    assert queue.start().wait(LIMIT) if background else run(queue)

    assert one.output == "<some warning>\n<some error>\n"
    assert capsys.readouterr().err == one.output


@plain_logging()
def test_log_is_kept_at_the_level_of_the_loggers() -> None:
    """Where no handler shows records, all that the loggers let through is kept."""
    ROOT.addHandler(logging.NullHandler())
    ROOT.setLevel(logging.INFO)
    one = Task("one", log_words)

    one.dispatch()

    assert [line.split(":")[0] for line in one.output.splitlines()] == ["INFO", "WARNING", "ERROR"]


@pytest.mark.parametrize("when", ["inside", "inside an earlier one"])
@plain_logging()
def test_log_of_a_handler_made_in_a_task_is_kept_once(when: str) -> None:
    """It writes to the captured stream itself: `basicConfig` in a task works, and for good."""
    first = Task("first", logging.basicConfig, func_kwargs={"format": "<%(message)s>"})

    def work() -> None:
        if when == "inside":
            first.dispatch()
        log_words()

    one = Task("one", work)
    if when == "inside an earlier one":
        first.dispatch()

    one.dispatch()

    assert one.output == "<some warning>\n<some error>\n"
    assert len(ROOT.handlers) == 1


@plain_logging()
def test_log_that_does_not_reach_the_root_is_kept() -> None:
    """A logger with `propagate = False` and a handler of its own."""
    logger = logging.getLogger("tests.alone")
    logger.propagate = False
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("alone: %(message)s"))
    logger.addHandler(handler)
    one = Task("one", logger.warning, func_args=("hello",))

    one.dispatch()
    logger.removeHandler(handler)
    logger.propagate = True

    assert one.output == "alone: hello\n"


@plain_logging()
def test_log_to_a_console_of_rich_is_kept_once() -> None:
    """Its handler has no stream of its own, and writes to what `sys.stdout` is."""
    from rich.console import Console
    from rich.logging import RichHandler

    ROOT.addHandler(RichHandler(console=Console(width=80, force_jupyter=False)))
    one = Task("one", logging.getLogger("tests").warning, func_args=("unmistakable",))

    one.dispatch()

    assert one.output.count("unmistakable") == 1


@plain_logging()
def test_log_that_cannot_be_formatted_says_so_in_the_output() -> None:
    """As ever, it stops nothing."""
    one = Task("one", logging.getLogger("tests").warning, func_args=("%d apples", "no"))

    one.dispatch()

    assert one.is_done
    assert "Logging error" in one.output
    assert "%d apples" in one.output


@plain_logging()
def test_log_in_a_worker_process_is_kept() -> None:
    """What the loggers of that process let through."""
    one = Task("one", log_words)

    run(TaskQueue(one, executor="processes:1"), echo=False)

    assert one.output == "WARNING:tests.words:some warning\nERROR:tests.words:some error\n"


# ----------------------------------------------------------------------------------------- warnings
WARNINGS: Final = """
import logging, sys, warnings
from taskqueue_nb import Task, TaskQueue
def work():
    warnings.warn("mind the gap")
tasks = [Task("first", work), Task("second", work)]
TaskQueue(*tasks).start(executor=1).wait(20)
assert "UserWarning: mind the gap" in tasks[0].output, tasks[0].output
assert tasks[1].output == "", tasks[1].output  # Python says it once for each place
warnings.simplefilter("always")
third = Task("third", work)
TaskQueue(third).start(executor=2).wait(20)
assert third.output.count("UserWarning: mind the gap") == 1, third.output
logging.captureWarnings(True)
fourth = Task("fourth", work)
TaskQueue(fourth).start().wait(20)
assert fourth.output.startswith("WARNING:py.warnings:"), fourth.output
assert fourth.output.count("mind the gap") == 1, fourth.output
"""


def test_warnings_are_kept_with_who_caused_them() -> None:
    """In a fresh process, as pytest keeps warnings for itself; nothing of it is shown."""
    done = subprocess.run(
        [sys.executable, "-c", WARNINGS], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---------------------------------------------------------------------------------------- no bleed
@plain_logging()
def test_sixteen_threads_print_and_log_without_mixing() -> None:
    """Each task has all of its own lines, in order, and nobody else's."""
    together = threading.Barrier(16)
    logger = logging.getLogger("tests.many")

    def work(name: str) -> None:
        together.wait(LIMIT)
        for i in range(30):
            print(name, i)
            logger.warning("%s %d", name, i)

    tasks = [Task(f"t{n}", work, func_args=(f"t{n}",)) for n in range(16)]

    assert TaskQueue(*tasks).start(executor=16).wait(LIMIT)

    for task in tasks:
        lines = [f"{task.name} {i}\nWARNING:tests.many:{task.name} {i}\n" for i in range(30)]
        assert task.output == "".join(lines)


def test_coroutines_that_take_turns_keep_their_own_output() -> None:
    """Also in what they call after each turn, and in an asyncio task that they make."""

    async def work(name: str) -> None:
        async def inner() -> None:
            print(name, "inside")

        for i in range(5):
            print(name, i)
            await asyncio.sleep(0)
        await asyncio.create_task(inner())

    tasks = [Task(name, work, func_args=(name,)) for name in "abc"]

    asyncio.run(TaskQueue(*tasks).arun(echo=False))

    for task in tasks:
        lines = [*(f"{task.name} {i}\n" for i in range(5)), f"{task.name} inside\n"]
        assert task.output == "".join(lines)


def test_what_the_consumer_of_a_run_prints_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Between two tasks of a foreground run that does not echo."""
    queue = TaskQueue(*(Task(name, print, func_args=(name,)) for name in "ab"))

    for task in queue.run(echo=False):
        print("consumer saw", task.name)

    assert capsys.readouterr().out == "consumer saw a\nconsumer saw b\n"
    assert [task.output for task in queue.tasks] == ["a\n", "b\n"]


@pytest.mark.skipif(
    getattr(sys.flags, "thread_inherit_context", False), reason="such threads inherit the context"
)
def test_thread_of_a_task_prints_as_without_us(capsys: pytest.CaptureFixture[str]) -> None:
    """Who wants it kept passes the context on."""

    def work() -> None:
        context = contextvars.copy_context()
        for target in (print, lambda text: context.run(print, text)):
            thread = threading.Thread(target=target, args=(target.__name__,))
            thread.start()
            thread.join()

    queue = TaskQueue(one := Task("one", work)).start()

    assert queue.wait(LIMIT)
    assert capsys.readouterr().out == "print\n"
    assert one.output == "<lambda>\n"


# ------------------------------------------------------------------------------------------ bounded
ODD: Final = {
    "one long line": "x" * 3_000_000,
    "surrogates": "\udc80\ud800" * 100_000,
    "control characters": "".join(map(chr, range(256))) * 1_000,
    "nothing": "",
}


@pytest.mark.parametrize("executor", [None, "processes:1"])
@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_odd_texts_are_kept_in_bounds(text: str, executor: str | None) -> None:
    """Whatever a task writes; none of it stops the task."""
    one = Task("one", lambda: sys.stdout.write(text))

    run(TaskQueue(one, executor=executor), echo=False)

    assert one.result() == len(text)
    assert len(one.output) <= HEAD + TAIL + 100
    assert one.output[:1000] == text[:1000]
    assert one.output[-1000:] == text[-1000:]


def test_many_small_pieces_take_bounded_memory() -> None:
    """A million short writes leave a few megabytes behind, not a hundred."""
    output = Output()
    tracemalloc.start()

    for i in range(300_000):
        output.write(f"{i % 1000}")
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert size < 10_000_000
    assert output.dropped > 500_000


def test_what_is_no_text_is_refused_as_by_any_stream() -> None:
    """The writer hears of it, and not whoever reads the output later."""
    one = Task("one", lambda: sys.stdout.write(b"bytes"))  # type: ignore[arg-type]  # that is the point

    one.dispatch()

    assert isinstance(one.exception, TypeError)
    assert "must be str, not bytes" in str(one.exception)
    assert one.output == ""


def test_displayed_bundles_are_bounded_in_number() -> None:
    """The first and the last are kept, and what is between is said."""
    shown = Displayed()

    for i in range(1000):
        shown.add({"text/plain": str(i)})

    texts = [bundle["text/plain"] for bundle in shown.bundles()]
    half = MOST_SHOWN // 2
    assert texts[:half] == [str(i) for i in range(half)]
    assert texts[half] == f"… {1000 - MOST_SHOWN} displays dropped …"
    assert texts[half + 1 :] == [str(i) for i in range(1000 - half, 1000)]


def test_displayed_bundles_are_bounded_in_size() -> None:
    """Many middling ones, and one that is too large by itself: of that the text remains."""
    shown = Displayed()
    for i in range(30):
        shown.add({"text/plain": str(i), "image/png": bytes(1_000_000)}, "same")

    shown.replace({"image/png": bytes(1_900_000)}, "same")
    size = sum(len(bundle.get("image/png", b"")) for bundle in shown.bundles())
    shown.add({"text/plain": "a film", "video/mp4": bytes(50_000_000)})

    assert 0 < size <= MOST_SHOWN_BYTES
    last = shown.bundles()[-1]
    assert list(last) == ["text/plain"]
    assert last["text/plain"].startswith("a film\n… video/mp4: 50,000,")


# ------------------------------------------------------------------------------- as it was before
def state_of_hooks() -> tuple[Any, ...]:
    """Return all that capturing changes."""
    return (
        sys.stdout,
        sys.stderr,
        vars(logging.Logger)["callHandlers"],
        logging.getLogger().handlers[:],
        logging.lastResort,
    )


def test_everything_is_as_it_was_after_runs_of_all_kinds() -> None:
    """After failures, nested and overlapping runs, exits and generators that were left."""
    before = state_of_hooks()
    inside: list[tuple[Any, ...]] = []

    def nested() -> None:
        run(TaskQueue(Task("inner", lambda: 1 / 0)))
        inside.append(state_of_hooks())

    slow = TaskQueue(Task("slow", wait_for, func_args=(gate := threading.Event(),))).start()
    run(TaskQueue(Task("outer", nested), Task("bad", lambda: 1 / 0)))
    left = TaskQueue(*(Task(f"t{i}", list) for i in range(3))).run()
    next(left)
    left.close()
    with pytest.raises(SystemExit):
        Task("exit", sys.exit).dispatch()
    during = state_of_hooks()
    gate.set()

    assert slow.wait(LIMIT)
    assert during[:3] != before[:3]
    assert inside[0][2] is during[2]
    assert state_of_hooks() == before


def test_stream_that_a_cell_was_redirected_to_is_let_go() -> None:
    """What was printed into a `StringIO` is not kept alive by the tasks that printed there."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        Task("printing", print, func_args=("kept by its attempt",)).dispatch()
    assert text.getvalue() == "kept by its attempt\n"
    gone = weakref.ref(text)

    del text
    gc.collect()

    assert gone() is None


def test_somebody_elses_hook_over_ours_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that wraps `callHandlers` during a run keeps its wrapper; ours is not doubled."""
    original = vars(logging.Logger)["callHandlers"]
    seen: list[str] = []

    def wrap() -> None:
        below = logging.Logger.callHandlers

        def theirs(logger: logging.Logger, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())
            below(logger, record)

        monkeypatch.setattr(logging.Logger, "callHandlers", theirs)

    Task("wrap", wrap).dispatch()
    one = Task("one", log_words)
    one.dispatch()
    logging.getLogger("tests.after").warning("after")
    monkeypatch.undo()
    Task("nothing", list).dispatch()

    assert seen == ["some warning", "some error", "after"]
    assert one.output.count("some error") == 1
    assert vars(logging.Logger)["callHandlers"] is original


# ---------------------------------------------------------------------------------------- a kernel
KERNEL: Final = {
    "set up": """
        import logging, threading
        from IPython.display import HTML, clear_output, display
        from taskqueue_nb import Task, TaskQueue
        logging.basicConfig(format="log %(message)s")
        go, began = threading.Event(), threading.Event()
        publisher = get_ipython().display_pub
        def hooks():
            import sys
            return [sys.stdout, sys.stderr, logging.Logger.callHandlers, type(publisher).publish,
                    type(publisher).clear_output, vars(publisher).get("publish")]
        before = hooks()
        class Page:
            def __init__(self, text): self.text = text
            def __repr__(self): return f"page {self.text}"
            def _repr_html_(self): return f"<b>{self.text}</b>"
        def work(name):
            began.set()
            assert go.wait(20)
            print("print", name)
            display(Page(name))
            handle = display(Page("old"), display_id=True)
            handle.update(Page("new"))
        quiet = TaskQueue(Task("quiet", work, func_args=("quiet",)))
        loud = TaskQueue(Task("loud", work, func_args=("loud",)))
    """,
    "quiet": "quiet.start(); assert began.wait(20)",
    "loud": "loud.start(echo=True); None",
    "later": """
        print("mine"); display(Page("mine"))
        go.set()
        assert quiet.wait(20) and loud.wait(20)
    """,
    "look": """
        for queue in quiet, loud:
            print(queue.tasks[0].fsm_state, queue.tasks[0].output.split("\\n"),
                  [bundle["text/html"] for bundle in queue.tasks[0].displayed])
    """,
    "capture": """
        %%capture mine
        def show(): display(Page("of a task"))
        hidden = TaskQueue(Task("hidden", show)).start()
        assert hidden.wait(20)
        display(Page("mine"))
    """,
    "captured": """
        print(hidden.tasks[0].displayed, [out.data["text/plain"] for out in mine.outputs])
    """,
    "processes": """
        def there(): print("print there"); display("shown there"); logging.error("there")
        away = TaskQueue(Task("away", there), executor="processes:1").start(echo=True)
        None
    """,
    "wait": "assert away.wait(60); print(away.tasks[0].output.split(chr(10)))",
    "outside": """
        handle = display(Page("of the cell"), display_id="outside")
        def update():
            handle.update(Page("by a task")); clear_output(wait=True); display(Page("last"))
            print(len(Task.current().displayed))
        for task in TaskQueue(Task("update", update)).run(echo=False): pass
        print(task.fsm_state, task.output.split("\\n"), task.displayed)
    """,
    "foreground": """
        def both(): logging.error("fore"); display(Page("fore"))
        for task in TaskQueue(Task("both", both)).run(): pass
        print(task.output.split("\\n"))
    """,
    "after": "print(hooks() == before)",
}


@pytest.fixture(scope="module")
def cells() -> dict[str, list[str]]:
    """Run the cells in a kernel; return what each shows, by the cell it is shown in."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    names: dict[str, str] = {}
    shown: dict[str, list[str]] = {}
    try:
        for name, source in KERNEL.items():
            asked = client.execute(textwrap.dedent(source).strip())
            names[asked], shown[name] = name, []
            is_over = False
            while not is_over:
                message = client.get_iopub_msg(timeout=3 * LIMIT)
                parent = message["parent_header"].get("msg_id")
                kind, content = message["msg_type"], message["content"]
                if kind == "status":
                    is_over = parent == asked and content["execution_state"] == "idle"
                elif kind == "stream":
                    shown[names[parent]] += content["text"].splitlines()
                elif kind in ("display_data", "update_display_data"):
                    shown[names[parent]].append(f"{kind}: {content['data']['text/plain']}")
                elif kind == "error":
                    shown[names[parent]] += content["traceback"]
                elif kind not in ("execute_input", "execute_result"):
                    shown[names[parent]].append(kind)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return shown


def test_kernel_shows_a_background_run_where_it_was_started(cells: dict[str, list[str]]) -> None:
    """With `echo=True` in its own cell though another one runs; without, nowhere."""
    assert cells["set up"] == cells["quiet"] == []
    assert cells["later"] == ["mine", "display_data: page mine"]
    assert cells["loud"] == [
        "print loud",
        "display_data: page loud",
        "display_data: page old",
        "update_display_data: page new",
    ]


def test_kernel_keeps_what_is_displayed_with_its_task(cells: dict[str, list[str]]) -> None:
    """As bundles, the updated one as it is now, and as text in its output."""
    assert cells["look"] == [
        f"DONE ['print {name}', 'page {name}', 'page old', ''] ['<b>{name}</b>', '<b>new</b>']"
        for name in ("quiet", "loud")
    ]


def test_kernel_that_captures_a_cell_leaves_tasks_what_they_display(
    cells: dict[str, list[str]],
) -> None:
    """`%%capture` puts a publisher of its own in the place of the kernel's."""
    assert cells["capture"] == []
    assert cells["captured"] == [
        "[{'text/plain': 'page of a task', 'text/html': '<b>of a task</b>'}] ['page mine']"
    ]


def test_kernel_shows_what_a_worker_process_prints(cells: dict[str, list[str]]) -> None:
    """In the cell that started the run, with what is displayed there as text."""
    lines = ["print there", "shown there", "ERROR:root:there"]
    assert cells["processes"] == lines
    assert cells["wait"] == [str([*lines, ""])]


def test_kernel_lets_a_task_update_what_its_cell_displayed(cells: dict[str, list[str]]) -> None:
    """That goes through; `clear_output` in a task that is not shown clears what it displayed."""
    assert cells["outside"] == [
        "display_data: page of the cell",
        "update_display_data: page by a task",
        "DONE ['page last', '1', ''] [{'text/plain': 'page last', 'text/html': '<b>last</b>'}]",
    ]


def test_kernel_shows_a_foreground_run_once_and_keeps_it(cells: dict[str, list[str]]) -> None:
    """A handler that an earlier cell made shows the record, and the task keeps it like that."""
    assert cells["foreground"] == [
        "log fore",
        "display_data: page fore",
        "['log fore', 'page fore', '']",
    ]


def test_kernel_is_as_before_after_all_this(cells: dict[str, list[str]]) -> None:
    """Streams, the logging of the standard library, IPython's publisher."""
    assert cells["after"] == ["True"]
