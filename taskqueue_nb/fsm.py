"""A finite state machine that is driven by a table and tells its listeners outside the lock."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from time import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from taskqueue_nb.widget.machine import TaskMachine

State: TypeAlias = str
Event: TypeAlias = str
Table: TypeAlias = Mapping[State, Mapping[Event, State]]
Callback: TypeAlias = Callable[[Any, "FSMTransitionEvent"], object]

_SHOWN: Final = 80  # characters of a foreign text that an error message repeats


class FSMTransitionEvent(NamedTuple):
    """One recorded step of a machine.

    Attributes
    ----------
    old_state, new_state : str
        Where the machine stood, and where it stands since.
    event : str
        What moved it.
    when : float
        The moment of the step, in seconds since the epoch.
    extra : dict
        What whoever fired the event said of it.
    """

    old_state: State
    new_state: State
    event: Event
    when: float
    extra: dict[str, Any]


class FSMError(Exception):
    """A machine was asked for something that it cannot do.

    Parameters
    ----------
    message : str
        The sentence for the user.
    fsm : FSM, optional
        The machine concerned, if there is one. It does not travel with a pickled error.
    """

    def __init__(self, message: str = "", fsm: object = None) -> None:
        super().__init__(message)
        self.fsm = fsm

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the words alone: a machine holds locks and cannot travel."""
        return (type(self), self.args)


class TransitionError(FSMError):
    """A machine was sent an event that its state does not allow; nothing has changed.

    Parameters
    ----------
    name : str
        How the machine calls itself.
    state, event : str
        Where it stands, and what it was sent.
    allowed : tuple of str
        The events that it would have accepted.
    fsm : FSM, optional
        The machine itself.
    """

    def __init__(
        self,
        name: str,
        state: State | None,
        event: object,
        allowed: tuple[Event, ...],
        fsm: object = None,
    ) -> None:
        super().__init__("", fsm)
        self.args = (name, state, event, allowed)
        self.name, self.state, self.event, self.allowed = name, state, event, allowed

    def __str__(self) -> str:
        event = self.event
        shown = event if isinstance(event, str) and event.isidentifier() else shorten(event)
        hint = ", ".join(self.allowed) or "nothing (the state is final)"
        return f"{self.name} is {self.state}, cannot {shown}; it accepts {hint}"


class CancellationError(FSMError):
    """Work was given up: raised by a cancelled task's result, and inside a task that is to stop."""

    def __init__(self, message: str = "cancelled", fsm: object = None) -> None:
        super().__init__(message, fsm)


def shorten(text: object) -> str:
    """Return the repr of a plain value on one line, cut to what a message can bear."""
    if isinstance(text, str):
        return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")
    return f"a {type(text).__name__}"


def _event(event: Event) -> Callable[..., State]:
    def fire(fsm: FSM, **extra: Any) -> State:
        return fsm.fsm_event(event, **extra)

    fire.__name__ = event
    fire.__doc__ = f"Fire the event {event!r}."
    return fire


def _class_for(base: type[Any], table: Table) -> type[Any]:
    """Return a class of the same name with another table."""
    namespace = {"__slots__": (), "__module__": base.__module__, "FSM_TRANSITIONS": table}
    return type(base.__name__, (base,), namespace)


def _question(state: State) -> property:
    return property(lambda fsm: bool(fsm.fsm_state == state), doc=f"Whether the state is {state}.")


class _Lock(Protocol):
    """What a machine needs of a lock; it is held for one step, and may be entered again."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *exc: object) -> Any: ...


class _Listeners:
    """The callbacks of one machine, and the steps that they have yet to hear."""

    __slots__ = ("by_state", "delivering", "pending")

    def __init__(self) -> None:
        self.by_state: dict[object, tuple[Callback, ...]] = {}
        self.pending: deque[FSMTransitionEvent] = deque()
        self.delivering = False


class FSM:
    """A machine that moves from state to state as its table says.

    Parameters
    ----------
    state : str, optional
        The first state; by default `FSM_DEFAULT_STATE` where a class gives one, else the first of
        the table.
    history : object with `append`, optional
        Where each `FSMTransitionEvent` is kept; by default nothing is kept.
    lock : context manager, optional
        Held while a step is made; by default an `RLock` of the machine's own.
    transitions : mapping, optional
        State → event → state; by default the class's `FSM_TRANSITIONS`.

    Raises
    ------
    ValueError
        If the table does not know `state`.

    Notes
    -----
    Each state is an attribute (`fsm.PENDING == "PENDING"`), as is the question whether the machine
    is in it (`fsm.is_pending`), and each event is a method (`fsm.retry()`).

    Examples
    --------
    >>> door = FSM("shut", transitions={"shut": {"push": "open"}, "open": {"pull": "shut"}})
    >>> door.fsm_event("push")
    'open'
    >>> door.push()
    Traceback (most recent call last):
        ...
    taskqueue_nb.fsm.TransitionError: FSM is open, cannot push; it accepts pull
    >>> door.is_open
    True
    """

    __slots__ = ("__dict__", "__weakref__", "_fsm_history", "_fsm_listeners", "_fsm_lock")

    FSM_ANY_STATE: ClassVar[Any] = object()
    FSM_TRANSITIONS: Table = MappingProxyType({})
    fsm_state: State

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Stand for what the table gives; at run time those are attributes of the class.

            A real `__getattr__` would make every look-up on every machine take the slow way.
            """

    def __init_subclass__(cls, **options: Any) -> None:
        """Give a class with a table its states, questions and events as attributes."""
        super().__init_subclass__(**options)
        table = cls.__dict__.get("FSM_TRANSITIONS", {})
        names: dict[str, Any] = {event: _event(event) for row in table.values() for event in row}
        for state in table:
            names |= {state: state, f"is_{state.lower()}": _question(state)}
        for name, value in names.items():
            if not hasattr(cls, name):
                setattr(cls, name, value)

    def __init__(
        self,
        state: State | None = None,
        *,
        history: Any = None,
        lock: _Lock | None = None,
        transitions: Table | None = None,
    ) -> None:
        if transitions is not None:
            self.__class__ = _class_for(type(self), transitions)
        if state is None:
            state = self._fsm_default_state()
        if state is not None:
            self._fsm_check_state(state)
            self.fsm_state = state
        self._fsm_history = history
        self._fsm_lock: Any = threading.RLock() if lock is None else lock
        self._fsm_listeners: _Listeners | None = None

    def _fsm_default_state(self) -> State | None:
        default: State | None = getattr(type(self), "FSM_DEFAULT_STATE", None)
        return default or next(iter(self.FSM_TRANSITIONS), None)

    def _fsm_check_state(self, state: object) -> None:
        try:
            known = state in self.FSM_TRANSITIONS
        except TypeError:
            known = False
        if not known:
            states = ", ".join(self.FSM_TRANSITIONS)
            message = f"unknown state {shorten(state)}; the table knows {states or 'none'}"
            raise ValueError(message)

    def __str__(self) -> str:
        return f"{type(self).__name__}:{getattr(self, 'fsm_state', None)}"

    # -- reading ---------------------------------------------------------------------------------

    @property
    def fsm_history(self) -> Any:
        """The recorded steps, oldest first; None for a machine that keeps no history."""
        return self._fsm_history

    @property
    def fsm_events(self) -> list[Event]:
        """The events that the present state allows, in the table's order."""
        return list(self.FSM_TRANSITIONS[self.fsm_state])

    def fsm_event_is_allowed(self, event: Event) -> bool:
        """Say whether the present state allows an event."""
        return event in self.FSM_TRANSITIONS[self.fsm_state]

    # -- moving ----------------------------------------------------------------------------------

    def fsm_event(self, event: Event, **extra: Any) -> State:
        """Make the step that the table gives for an event, and tell the callbacks.

        Parameters
        ----------
        event : str
            One of `fsm_events`.
        **extra
            Facts to keep with the step and to hand to the callbacks.

        Returns
        -------
        str
            The new state.

        Raises
        ------
        FSMError
            If the state does not allow the event; then nothing has changed.
        """
        with self._fsm_lock:
            new_state = self._fsm_move(event, extra)
        self._fsm_after()
        return new_state

    def _fsm_move(self, event: Event, extra: dict[str, Any] | None = None) -> State:
        """Make one step; the lock is held."""
        old_state = self.fsm_state
        new_state = self._fsm_target(event)
        self.fsm_state = new_state
        step = FSMTransitionEvent(old_state, new_state, event, time(), extra or {})
        if self._fsm_history is not None:
            self._fsm_history.append(step)
        if self._fsm_listeners is not None:
            self._fsm_listeners.pending.append(step)
        return new_state

    def _fsm_target(self, event: Event) -> State:
        try:
            return self.FSM_TRANSITIONS[self.fsm_state][event]
        except (KeyError, TypeError):  # TypeError: what was sent cannot even be looked up
            allowed = tuple(self.FSM_TRANSITIONS.get(self.fsm_state, ()))
            name = self._fsm_called()
            raise TransitionError(name, self.fsm_state, event, allowed, self) from None

    def _fsm_called(self) -> str:
        return type(self).__name__

    def _fsm_after(self) -> None:
        """Do what a step leaves to be done once the lock is free."""
        if self._fsm_listeners is not None:
            self._fsm_deliver(self._fsm_listeners)

    # -- callbacks -------------------------------------------------------------------------------

    def fsm_callback(self, state: State, callback: Callback) -> None:
        """Have `callback(fsm, transition)` called after each step into a state.

        Parameters
        ----------
        state : str
            The new state to listen for, or `FSM.FSM_ANY_STATE`, whose callbacks come first.
        callback : callable
            Called in the thread that fired, once the lock is free. What it raises is logged.

        Raises
        ------
        ValueError
            If the table does not know the state.
        """
        if state is not FSM.FSM_ANY_STATE:
            self._fsm_check_state(state)
        with self._fsm_lock:
            if self._fsm_listeners is None:
                self._fsm_listeners = _Listeners()
            by_state = self._fsm_listeners.by_state
            by_state[state] = (*by_state.get(state, ()), callback)

    def fsm_callback_discard(self, state: State, callback: Callback) -> None:
        """Call `callback` no more for a state; one that is not registered is no error."""
        with self._fsm_lock:
            if self._fsm_listeners is not None:
                by_state = self._fsm_listeners.by_state
                kept = tuple(known for known in by_state.get(state, ()) if known != callback)
                by_state[state] = kept

    def _fsm_deliver(self, listeners: _Listeners) -> None:
        """Call the callbacks of the steps not yet heard, in order, one thread at a time.

        A thread that finds another one (or itself, further down the stack) delivering leaves its
        step to it: that keeps the order, and nobody waits for anybody.
        """
        with self._fsm_lock:
            if listeners.delivering:
                return
            listeners.delivering = True
        interruption: BaseException | None = None
        try:
            while True:
                with self._fsm_lock:
                    if not listeners.pending:
                        listeners.delivering = False
                        break
                    step = listeners.pending.popleft()
                    callbacks = (
                        *listeners.by_state.get(FSM.FSM_ANY_STATE, ()),
                        *listeners.by_state.get(step.new_state, ()),
                    )
                for callback in callbacks:
                    try:
                        callback(self, step)
                    except Exception:  # noqa: BLE001 - a listener's failure is not the machine's
                        self._fsm_log_failure(callback, step)
                    except BaseException as error:  # noqa: BLE001 - raised below, after the rest
                        interruption = interruption or error
        except BaseException:
            listeners.delivering = False  # an interrupt between two callbacks
            raise
        if interruption is not None:
            raise interruption

    def _fsm_log_failure(self, callback: Callback, step: FSMTransitionEvent) -> None:
        import logging  # noqa: PLC0415 - costs a tenth of our import time, and is rarely needed

        logging.getLogger("taskqueue_nb").exception(  # noqa: LOG004 - called by a handler
            "%s: callback %s failed at %s -> %s",
            self._fsm_called(),
            getattr(callback, "__qualname__", type(callback).__name__),
            step.old_state,
            step.new_state,
        )

    # -- the state diagram -----------------------------------------------------------------------

    @property
    def fsm_dot(self) -> str:
        """The state diagram as DOT, with the present state lit."""
        from taskqueue_nb.drawing import machine_as_dot  # noqa: PLC0415 - drawing is a layer above

        return machine_as_dot(self)

    @property
    def fsm_svg(self) -> str:
        """The state diagram as SVG, with the present state lit."""
        from taskqueue_nb.drawing import machine_as_svg  # noqa: PLC0415 - drawing is a layer above

        return machine_as_svg(self)

    def fsm_machine(self) -> TaskMachine:
        """Return the live state diagram: the way that was taken, and the events as buttons.

        Returns
        -------
        TaskMachine
            Always the same one, until it is closed. It is shown where it ends a cell.
        """
        from taskqueue_nb.widget.machine import machine_of  # noqa: PLC0415 - a layer above

        return machine_of(self)
