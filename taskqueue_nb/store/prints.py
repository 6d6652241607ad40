"""What a call is told by: a stand-in for the fingerprints of calls with their parts."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from taskqueue_nb.fingerprint import fingerprint
from taskqueue_nb.task import signature_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Fingerprint(NamedTuple):
    """The digests of a call's code and arguments, each with its name."""

    code: Mapping[str, str]
    arguments: Mapping[str, str | None]

    @property
    def known(self) -> bool:
        """Whether all of it could be seen."""
        return None not in self.arguments.values()

    @property
    def digest(self) -> str | None:
        """One digest of all; None if something could not be seen."""
        return hashlib.sha256(self.as_json().encode()).hexdigest() if self.known else None

    def differences(self, now: Fingerprint) -> tuple[str, ...]:
        """Say what has changed since."""
        said = [f"{name} changed" for name in now.code if self.code.get(name) != now.code[name]]
        for name, digest in now.arguments.items():
            if digest is None:
                said.append(f"argument {name!r} cannot be compared")
            elif name not in self.arguments:
                said.append(f"argument {name!r} is new")
            elif self.arguments[name] != digest:
                said.append(f"argument {name!r} changed")
        return tuple(said)

    def as_json(self) -> str:
        """Return it as text."""
        return json.dumps([dict(self.code), dict(self.arguments)])

    @classmethod
    def from_json(cls, text: str) -> Fingerprint:
        """Read such a text."""
        return cls(*json.loads(text))


def fingerprint_of(
    func: Any, args: Iterable[Any], kwargs: Mapping[str, Any], version: Any = None
) -> Fingerprint:
    """Take the fingerprint of a call."""
    del version
    code = {"its code": fingerprint(func, (), {}) or ""}
    args = tuple(args)
    signature = signature_of(func) if args else None
    labels = list(signature.parameters) if signature is not None else []
    named = {
        (labels[i] if i < len(labels) else f"args[{i}]"): value for i, value in enumerate(args)
    }
    named |= kwargs
    return Fingerprint(
        code, {name: fingerprint(None, (value,), {}) for name, value in sorted(named.items())}
    )


def whole(own: Fingerprint, prerequisites: Iterable[str | None]) -> str | None:
    """Put a call's fingerprint and those of what it requires into one."""
    given = list(prerequisites)
    if own.digest is None or None in given:
        return None
    return hashlib.sha256("\n".join([own.digest, *sorted(map(str, given))]).encode()).hexdigest()
