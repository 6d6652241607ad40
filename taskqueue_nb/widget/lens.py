"""What somebody who looks at a live view chose to see of its graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskqueue_nb.drawing import MAX_NODES, NO_WISH, Drawing, Wish, draw, drawing_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from taskqueue_nb.task import Task
    from taskqueue_nb.taskqueue import TaskQueue

__all__ = ["PLAIN", "Lens"]

_SHOWN: Final = 8  # tasks that were asked for, the last ones
_OPENED: Final = 12  # groups that were opened, the last ones
_AROUND: Final = 40  # tasks around one: more distant ones are left out once there are so many
_STEPS: Final = 3  # how far around


class Lens(NamedTuple):
    """What is wanted of a queue's picture; each method returns another one.

    Attributes
    ----------
    wish : Wish
        What has a box of its own, and what is folded.
    centre : tuple of Task
        What is looked at alone, with what stands around it; () for the whole queue.
    turn : int
        How often something else was wanted: a page fits the picture to its pane then.
    """

    wish: Wish = NO_WISH
    centre: tuple[Task, ...] = ()
    turn: int = 0

    def showing(self, task: Task) -> Lens:
        """Have a task seen, wherever it is."""
        first = (task, *(other for other in self.wish.first if other is not task))[:_SHOWN]
        return Lens(self.wish._replace(first=first), (), self.turn + 1)

    def opened(self, key: str) -> Lens:
        """Unfold what is folded by a key."""
        keys = (*(other for other in self.wish.opened if other != key), key)[-_OPENED:]
        wish = self.wish._replace(opened=keys, shut=self.wish.shut - {key})
        return Lens(wish, self.centre, self.turn + 1)

    def shut(self, key: str, tasks: Collection[Task]) -> Lens:
        """Fold what can be folded by a key; these are its tasks that had boxes of their own."""
        wish = self.wish
        first = tuple(task for task in wish.first if task not in tasks)
        opened = tuple(other for other in wish.opened if other != key)
        return Lens(Wish(first, opened, wish.shut | {key}), self.centre, self.turn + 1)

    def around(self, tasks: Iterable[Task]) -> Lens:
        """Look at some tasks alone, with what stands around them; without any, at all again."""
        return Lens(self.wish, tuple(tasks), self.turn + 1)

    def reset(self) -> Lens:
        """Want nothing any more."""
        return Lens(turn=self.turn + 1)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is wanted."""
        return self.wish == NO_WISH and not self.centre

    def drawing(self, queue: TaskQueue, keep: Collection[Any]) -> Drawing:
        """Lay out what is wanted.

        Parameters
        ----------
        queue : TaskQueue
            Of which.
        keep : collection of Task
            Those that had a box of their own in the drawing before this one.

        Raises
        ------
        NoEngine
            If nothing on this machine can lay it out.
        """
        if self.is_plain:
            return drawing_of(queue, MAX_NODES)
        tasks: Sequence[Task] = queue.tasks
        if self.centre:
            near = _near(self.centre, frozenset(tasks))
            tasks = [task for task in tasks if task in near]
        return draw(tasks, MAX_NODES, keep, self.wish)


PLAIN: Final = Lens()


def _near(centre: Iterable[Task], known: Collection[Task]) -> set[Task]:
    """Return tasks with what leads up to them and what follows from them: the nearest, if few."""
    found = {task for task in centre if task in known}
    before = after = frozenset(found)
    for step in range(_STEPS):
        before = frozenset(other for task in before for other in task.required if other in known)
        after = frozenset(other for task in after for other in task.blocking if other in known)
        beside = (before | after) - found
        if step and len(found) + len(beside) > _AROUND:
            break
        found |= beside
    return found
