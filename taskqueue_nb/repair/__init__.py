"""Mending: what each verb does, what it would do, and how to take it back.

Every entry point (a method of a task or a queue, a button, a store) asks the rules in `changes`:
they look at the whole first and refuse before anything has changed.
"""

from __future__ import annotations

from taskqueue_nb.repair.causes import Cause, Causes, blame, causes_among, tasks_named
from taskqueue_nb.repair.changes import (
    VERBS,
    Change,
    Deed,
    carry_out,
    change_of,
    check_member,
    check_tasks,
    fell_with,
    has_failed,
)
from taskqueue_nb.repair.durations import seconds_left
from taskqueue_nb.repair.journal import Entry, journal_of, undo
from taskqueue_nb.repair.plans import Plan, PlanError, state_at
from taskqueue_nb.repair.stale import stale_among

__all__ = [
    "VERBS",
    "Cause",
    "Causes",
    "Change",
    "Deed",
    "Entry",
    "Plan",
    "PlanError",
    "blame",
    "carry_out",
    "causes_among",
    "change_of",
    "check_member",
    "check_tasks",
    "fell_with",
    "has_failed",
    "journal_of",
    "seconds_left",
    "stale_among",
    "state_at",
    "tasks_named",
    "undo",
]
