"""The calls that a Dask cluster has before their prerequisites are done.

While a cluster has little to do it is given calls whose prerequisites are under way there, so that
it needs no word from the notebook between two tasks of a chain. The task stays pending meanwhile:

Ahead._choose -> a trip without a run -> the cluster begins the call -> its words are kept
-> the run queues the task, by itself or on account of the word -> the trip is that task's

Who changes anything has `catch_up` called first, so that no call is made in secret.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections import deque
from queue import Empty
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast

from taskqueue_nb.executors.dask.call import allow, withdraw
from taskqueue_nb.executors.dask.hub import DATED
from taskqueue_nb.executors.dask.trip import LARGE, PATIENCE, DaskTrip
from taskqueue_nb.leading import LEADERS, admit
from taskqueue_nb.task import ACTIVE, GRAPH_LOCK, Attempt, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container

    from taskqueue_nb.executors.dask import Dask
    from taskqueue_nb.executors.dask.call import Parcel

MORE: Final = object()  # asks the thread that submits for such calls
_BUSY: Final = 16  # calls on a cluster, or eight for each thread, with which none is sent ahead
_MANY: Final = 100  # dependents of one task beyond which there will be enough to do anyway
_SOON: Final = 0.01  # seconds between looks at what was taken over


class Ahead:
    """The calls of one run that its cluster has ahead.

    Parameters
    ----------
    place : Dask
        Submits them, and hears of them.
    """

    def __init__(self, place: Dask) -> None:
        self._place = place
        self.sending = threading.RLock()  # held from choosing to submitting, and to take one over
        self._lock = threading.Lock()  # held for a moment only
        self._trips: dict[Task, DaskTrip] = {}
        self._begun: dict[DaskTrip, float] = {}  # those that the cluster has begun, and when
        self._left: set[Task] = set()  # those whose calls wait until they are ready
        self._has_taken = threading.Condition()  # one was taken over, or is given up
        self._most = _BUSY  # calls on the cluster with which none is sent ahead
        self._is_asked = False  # whether `MORE` is on its way

    def __len__(self) -> int:
        return len(self._trips)

    def of(self, task: Task) -> DaskTrip | None:
        """Return the trip of a task whose call is ahead, if it is."""
        with self._lock:
            return self._trips.get(task)

    # -- in the thread that submits ----------------------------------------------------------

    def packed(self, sent: Collection[DaskTrip]) -> list[tuple[DaskTrip, Parcel]]:
        """Return calls to be sent ahead, beside those of some trips.

        What cannot be packed, or is large, is left to the time when its task is ready.
        """
        self._is_asked = False
        place = self._place
        if place.hub is None or place.leads is None or place.is_closed:
            return []
        if place.hub.threads != math.inf:
            self._most = max(_BUSY, 8 * int(place.hub.threads))
        if len(place.trips) + len(sent) >= self._most or not admit(self):
            return []
        under_way = {trip.task: trip for trip in (*place.all_trips(), *sent)}
        packed = []
        for trip in self._choose(under_way, place.leads):
            try:
                parcel = trip.packed(under_way)
                is_small = parcel.nbytes <= LARGE
            except BaseException:  # noqa: BLE001 - fails the task when that is ready, and is told then
                is_small = False
            if is_small:
                packed.append((trip, parcel))
            else:
                del under_way[trip.task]
                self._left.add(trip.task)
                self.give_up(trip)
        return packed

    def _choose(
        self, under_way: dict[Task, DaskTrip], leads: Callable[[Task], bool]
    ) -> list[DaskTrip]:
        """Return trips for tasks whose prerequisites are all done or under way, and add them there.

        What stands behind them follows, until there are enough.
        """
        chosen: list[DaskTrip] = []
        with GRAPH_LOCK:
            line = deque(trip for trip in under_way.values() if _may_be_followed(trip))
            awaited: dict[Task, int] = {}  # how many of its prerequisites are under way
            while line and len(under_way) < self._most:
                for task in line.popleft().task._blocking:
                    awaited[task] = awaited.get(task, 0) + 1
                    if awaited[task] < task._missing or task in under_way or task in self._left:
                        continue
                    if not (_may_follow(task) and leads(task)):
                        continue
                    trip = under_way[task] = DaskTrip.ahead(task, self._place)
                    chosen.append(trip)
                    if _may_be_followed(trip):
                        line.append(trip)
                    if len(under_way) >= self._most:
                        break
            with self._lock:
                self._trips |= {trip.task: trip for trip in chosen}
        return chosen

    # -- in the thread that takes what comes back --------------------------------------------

    def keep(self, trip: DaskTrip, key: str, what: str, *rest: Any) -> None:
        """Keep what was told of a call until a run has it."""
        if trip.kept is not None:
            trip.kept.append([key, what, *rest])
        if what in DATED:
            _, when, *seconds = rest
            self._begun.setdefault(trip, when - sum(seconds[:1]))

    def have_queued(self) -> None:
        """Have the run queue the tasks of those calls that the cluster has begun, or has made."""
        send = self._place.send_now
        for trip, when in tuple(self._begun.items()):
            ended = [task._attempt.ended or 0.0 for task in trip.task.required if task._attempt]
            if send is not None and send(trip.task, max(when, *ended, trip.sent)):
                self._begun.pop(trip, None)  # what takes it over has been put into the inbox

    def take_over(
        self, trip: DaskTrip, done: Callable[[Task, Attempt | None, bool], None], run: Any
    ) -> None:
        """Make a call that was sent ahead the one of its task, which a run has queued."""
        with self.sending:  # or it could be submitted, or withdrawn, at this very moment
            is_there = self._is_no_longer_there(trip)
            told, trip.kept = trip.kept or [], None
        if trip.taken(done, run) and is_there:
            for each in told:
                self._place.hear(*each)
        else:
            self._place.resend(trip)
        if not self._is_asked and len(self) < self._most / 2:
            self._is_asked = True
            self._place.outbox.put(MORE)

    # -- from any thread ---------------------------------------------------------------------

    def _is_no_longer_there(self, trip: DaskTrip) -> bool:
        """Take note that a call is a run's or given up; False if somebody else was faster."""
        with self._lock:
            was_there = self._trips.get(trip.task) is trip
            if was_there:
                del self._trips[trip.task]
                self._begun.pop(trip, None)
        with self._has_taken:
            self._has_taken.notify_all()
        return was_there

    def give_up(self, trip: DaskTrip) -> None:
        """Have a call that no run has be made no more."""
        if self._is_no_longer_there(trip):
            self._place.forget(trip)

    def catch_up(self, about: Container[Any] | None = None) -> None:
        """Withdraw the calls that are ahead, and have those be taken over that have begun.

        Nothing is done for who holds the lock of the graph, as the states could not follow.

        Parameters
        ----------
        about : container of Task, optional
            What is going to be changed; nothing is done if the cluster has no call of these.
        """
        if GRAPH_LOCK._is_owned():  # type: ignore[attr-defined]
            return
        with self.sending:
            if not self._trips:
                LEADERS.discard(self)
                return
            if about is not None and not any(
                trip.task in about for trip in self._place.all_trips()
            ):
                return
            with self._lock:
                trips = {trip.key: trip for trip in self._trips.values()}
            begun = self._withdrawn(list(trips))
            for key, trip in trips.items():
                if key not in begun:
                    self.give_up(trip)
        self._await_taken([trips[key] for key in begun])
        LEADERS.discard(self)

    def _withdrawn(self, keys: list[str]) -> set[str]:
        """Have no worker begin some calls any more; return the keys of those that have begun."""
        try:
            begun = set().union(*self._on_workers(withdraw, keys).values())
            if begun:
                self._on_workers(allow, list(begun))
        except Exception:  # noqa: BLE001 - the cluster is gone, so nothing begins there
            return set()
        return begun

    def _on_workers(self, what: Callable[[list[str]], Any], keys: list[str]) -> dict[str, Any]:
        """Call something on all workers; those that refuse have nothing to say."""
        client = self._place.client

        async def asked() -> Any:
            return await client.run(what, keys, on_error="ignore")

        return cast("dict[str, Any]", client.sync(asked, callback_timeout=PATIENCE))

    def _await_taken(self, trips: list[DaskTrip]) -> None:
        """Wait until a run has all of these; what takes too long is given up."""
        until = monotonic() + PATIENCE
        while left := [trip for trip in trips if self._trips.get(trip.task) is trip]:
            if monotonic() > until:
                for trip in left:
                    self.give_up(trip)
            elif self._place.is_taking():  # nobody else would
                with contextlib.suppress(Empty):
                    self._place.take(self._place.inbox.get(timeout=_SOON))
            else:
                with self._has_taken:
                    self._has_taken.wait(_SOON)


def _may_be_followed(trip: DaskTrip) -> bool:
    """Say whether tasks may be sent ahead of this one: whether it is done as soon as its call is.

    The lock of the graph is held.
    """
    task, attempt, options = trip.task, trip.attempt, trip.task._options
    if not (trip.is_ahead or task.fsm_state in ACTIVE) or len(task._blocking) > _MANY:
        return False
    if task.fsm_state == "QUEUED" and (task._missing or not (trip.call and trip.call.is_of(task))):
        return False  # it will be sent anew
    if attempt is not None and (attempt.fault or attempt.outdated or attempt.asked_to_stop):
        return False
    return (
        task._fsm_listeners is None
        and options.timeout is None
        and options.cancel_on_result is None
        and options.fault is None
    )


def _may_follow(task: Task) -> bool:
    """Say whether a task may be sent ahead as far as it is concerned; the lock is held.

    A prerequisite whose result it does not take is brought to its worker nevertheless, as Dask
    knows no other way to wait for it; so there may be one only, where the task goes itself.
    """
    return (
        task.func is not None
        and task._fsm_listeners is None
        and task._options.fault is None
        and (
            len(task._required) == 1
            or all(
                each.fsm_state == "DONE" or each in (task._inputs or ()) for each in task._required
            )
        )
    )
