"""How far a run is: what is done, what is blocked, how long the rest will take."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskqueue_nb.task import Task
    from taskqueue_nb.taskqueue import TaskQueue

FALLEN: Final = ("FAILED", "CANCELLED", "ABORT")
WAITING: Final = ("PREPARE", "PENDING", "QUEUED", "RUNNING")
_BLOCKED_GAP: Final = 1.0  # seconds between two counts of what is blocked while a run goes on


class Clock:
    """How far a run is, and how long it will take."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._ended_before = 0
        self._blocked = (0, 0)
        self._blocked_at = -1.0

    def progress(self, queue: TaskQueue, counts: Mapping[str, int]) -> dict[str, Any]:
        """Return the trait of the same name."""
        now, running = monotonic(), queue.running
        total, done = sum(counts.values()), counts.get("DONE", 0)
        fallen = sum(counts.get(state, 0) for state in FALLEN)
        if not fallen:
            self._blocked = (0, 0)
        elif not running or now - self._blocked_at > _BLOCKED_GAP:
            blocked, causes = blocked_by(queue)
            self._blocked, self._blocked_at = (blocked, len(causes)), monotonic()
        blocked = min(self._blocked[0], total - done - fallen)
        if running and self._began is None:
            self._began, self._ended_before = now, done + fallen
        elif not running:
            self._began = None
        left = None
        if self._began is not None:
            ended, elapsed = done + fallen - self._ended_before, now - self._began
            if ended >= 2 and elapsed >= 1:  # noqa: PLR2004 - before that it would be a guess
                waiting = total - done - fallen - blocked
                left = round(elapsed / ended * max(0, waiting), 1)
        return {
            "total": total,
            "done": done,
            "blocked": blocked,
            "causes": self._blocked[1],
            "running": running,
            "held": queue.held,
            "left": left,
        }


def blocked_by(queue: TaskQueue) -> tuple[int, list[Task]]:
    """Count the tasks that wait for one that failed, was cancelled or aborted, and return those."""
    tasks = queue.tasks
    fallen = [task for task in tasks if task.fsm_state in FALLEN]
    members = frozenset(tasks)
    due: deque[Task] = deque()
    seen: set[Task] = set()
    causes = []
    for task in fallen:
        dependents = [each for each in task.blocking if each in members]
        if dependents:
            causes.append(task)
            due.extend(dependents)
    while due:
        task = due.popleft()
        if task not in seen and task.fsm_state in WAITING:
            seen.add(task)
            due.extend(each for each in task.blocking if each in members)
    return len(seen), causes
