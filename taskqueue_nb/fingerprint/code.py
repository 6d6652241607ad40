"""What a code object says: a digest of it, the names that it reads, and what it changes itself."""

from __future__ import annotations

import builtins
import os
import sys
from functools import cache
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable

#: Methods that change what they are called on.
CHANGING: Final = frozenset(
    [
        "__delitem__",
        "__iadd__",
        "__ior__",
        "__setattr__",
        "__setitem__",
        "acquire",
        "add",
        "append",
        "appendleft",
        "cache_clear",
        "clear",
        "close",
        "difference_update",
        "discard",
        "extend",
        "extendleft",
        "fill",
        "flush",
        "insert",
        "intersection_update",
        "move_to_end",
        "pop",
        "popitem",
        "popleft",
        "put",
        "put_nowait",
        "release",
        "remove",
        "reverse",
        "rotate",
        "send",
        "set",
        "setdefault",
        "sort",
        "subtract",
        "symmetric_difference_update",
        "update",
        "write",
        "writelines",
    ]
)
#: Functions that reach what nobody can see in the code that calls them.
HIDING: Final = frozenset({"__import__", "eval", "exec", "globals", "import_module"})
_MODULE_AND_NAME: Final = 2
_ARGUMENTS: Final = 0x04 | 0x08  # the flags of code that say *args and **kwargs
_KINDS: Final = _ARGUMENTS | 0x20 | 0x80 | 0x100 | 0x200  # generator, coroutine and so on
#: What a class's body stores that says nothing of what the class does.
UNTOLD: Final = frozenset(
    [
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__module__",
        "__qualname__",
        "__static_attributes__",
        "__weakref__",
        "_abc_impl",
        "__abstractmethods__",
        "__annotate__",
        "__annotate_func__",
        "__annotations_cache__",
        "__classdictcell__",
        "__slotnames__",  # where `copyreg` keeps what it found out
    ]
)
_SILENT: Final = frozenset({"CACHE", "EXTENDED_ARG", "NOP", "PRECALL"})
_NO_EFFECT: Final = _SILENT - {"PRECALL"} | {"RESUME", "KW_NAMES", "MAKE_CELL", "COPY_FREE_VARS"}
_SUBSCRIPT: Final = 26  # of the binary operations
_ENDS: Final = frozenset(
    {"JUMP_BACKWARD", "JUMP_FORWARD", "RAISE_VARARGS", "RERAISE", "RETURN_CONST", "RETURN_VALUE"}
)


class Place(NamedTuple):
    """Where a value on the interpreter's stack came from."""

    kind: str  # "global", "free" (closed over) or "local"
    name: str
    path: tuple[str, ...] = ()  # attributes taken of it since


class Uses:
    """What a code object, and the code inside it, does with names.

    Attributes
    ----------
    reads : dict
        Each global name, in the order of the code, with the attribute paths taken of it.
    assigned : set of (kind, name)
        What it binds with `global` or `nonlocal`.
    stored : set of Place
        What it stores into, by subscript or attribute.
    taken : set of Place
        The attributes that it takes of anything: methods that it calls, too.
    """

    __slots__ = ("assigned", "reads", "stored", "taken")

    def __init__(self) -> None:
        self.reads: dict[str, set[tuple[str, ...]]] = {}
        self.assigned: set[tuple[str, str]] = set()
        self.stored: set[Place] = set()
        self.taken: set[Place] = set()

    def changed(self, kind: str, name: str, changing: frozenset[str] = CHANGING) -> bool:
        """Whether the code changes what this name is bound to, or binds it to something else."""
        return (
            (kind, name) in self.assigned
            or any(place[:2] == (kind, name) for place in self.stored)
            or any(place[:2] == (kind, name) and place.path[-1] in changing for place in self.taken)
        )

    def stored_at(self, kind: str, name: str) -> set[str]:
        """Return the attributes that the code changes of what this name is bound to."""
        stored = {p.path[0] for p in self.stored if p[:2] == (kind, name) and p.path}
        called = {
            p.path[0]
            for p in self.taken
            if p[:2] == (kind, name) and len(p.path) > 1 and p.path[-1] in CHANGING
        }
        return stored | called

    def changes_at(self, kind: str, name: str, path: tuple[str, ...]) -> bool:
        """Whether it changes what is found at a path, such as an attribute of a module."""
        size = len(path)
        for place in self.stored:
            if place[:2] == (kind, name) and place.path[:size] == path:
                return True
        return any(
            place[:2] == (kind, name)
            and place.path[:size] == path
            and len(place.path) > size
            and place.path[-1] in CHANGING
            for place in self.taken
        )


class Notes:
    """What is known of one code object, as long as it lives."""

    __slots__ = (
        "digest",
        "hiding",
        "names",
        "of",
        "only_builtins",
        "own",
        "uses",
        "version",
        "watch",
    )

    def __init__(self, code: CodeType) -> None:
        key = id(code)

        def forget(_dead: object) -> None:
            NOTES.pop(key, None)

        self.of = ref(code, forget)
        self.uses = _uses(code)
        self.names = frozenset(self.uses.reads)
        self.hiding = tuple(
            (name, path)
            for name, paths in self.uses.reads.items()
            for path in sorted(paths)
            if (path[0] if path else name) in HIDING and len(path) < _MODULE_AND_NAME
        )
        self.only_builtins = self.names <= vars(builtins).keys()
        self.digest: bytes | None = None
        self.own: str | None = None  # the digest of a function without defaults
        self.watch: Callable[[], Any] = _nothing  # these two are for `version`
        self.version: Callable[[], Any] = _nothing


def _nothing() -> None:
    """Answer as a weak reference does to what is gone."""


NOTES: Final[dict[int, Notes]] = {}  # by the identity of a code object that is alive


def notes_of(code: CodeType) -> Notes:
    """Return what is known of a code object; the first time it is read."""
    known = NOTES.get(id(code))
    if known is None:
        known = NOTES[id(code)] = Notes(code)
    return known


# ------------------------------------------------------------------------------ whose code it is
_foreign_files: Final[dict[str, bool]] = {}
_STDLIB: Final = os.path.dirname(os.__file__)  # noqa: PTH120 - pathlib would have to be imported
_OURS: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - likewise


def is_foreign_file(filename: str) -> bool:
    """Whether code from this file belongs to Python, an installed package or to us."""
    known = _foreign_files.get(filename)
    if known is None:
        parts = filename.replace("\\", "/").split("/")
        installed = "site-packages" in parts or "dist-packages" in parts
        inside = filename.startswith((_STDLIB + os.sep, _OURS + os.sep))
        known = installed or inside or filename.startswith("<frozen ")
        _foreign_files[filename] = known
    return known


def is_foreign_module(name: object) -> bool:
    """Whether a module belongs to Python, an installed package or to us; by its name."""
    if name == "builtins":
        return True
    module = sys.modules.get(name) if isinstance(name, str) else None
    if not issubclass(type(module), ModuleType) or name == "__main__":
        return False
    namespace = vars(module)
    file = namespace.get("__file__")
    if isinstance(file, str):
        return is_foreign_file(file)
    origin = getattr(namespace.get("__spec__"), "origin", None)
    return origin in ("built-in", "frozen")


# ------------------------------------------------------------------------------ what it does
def _uses(code: CodeType) -> Uses:
    """Read a code object and all code inside it, without recursion."""
    found: dict[int, Uses] = {}
    order = [code]
    for each in order:  # grows while it is walked
        order += [const for const in each.co_consts if isinstance(const, CodeType)]
    for each in reversed(order):  # the innermost first
        own = _Reader(each).read()
        for inner in each.co_consts:
            if isinstance(inner, CodeType):
                _take_over(own, found[id(inner)], each)
        found[id(each)] = own
    return found[id(code)]


def _take_over(own: Uses, inner: Uses, code: CodeType) -> None:
    """Note what code inside this code does; what it closes over may be closed over here too."""

    def kind_here(kind: str, name: str) -> str | None:
        if kind == "free":
            return "free" if name in code.co_freevars else "local"
        return kind if kind == "global" else None

    for name, paths in inner.reads.items():
        own.reads.setdefault(name, set()).update(paths)
    for kind, name in inner.assigned:
        if here := kind_here(kind, name):
            own.assigned.add((here, name))
    for mine, theirs in ((own.stored, inner.stored), (own.taken, inner.taken)):
        for place in theirs:
            if here := kind_here(place.kind, place.name):
                mine.add(place._replace(kind=here))


class _Reader:
    """Follow the interpreter's stack through one code object, as far as names are concerned.

    The instructions are walked in order, as if nothing jumped. That misses what a name was only
    bound to on another way; a statement such as `calls[i] += 1` stays in one piece.
    """

    def __init__(self, code: CodeType) -> None:
        self._code = code
        self._uses = Uses()
        self._stack: list[Place | None] = []
        self._locals: dict[str, Place | None] = {}
        self._own_names: set[str] = set()  # bound by the body of a class

    def read(self) -> Uses:
        code = self._code
        if not (code.co_names or code.co_freevars):
            return self._uses
        acts, effect, plain = _acts(), *_stack_effect()
        text, extended = code.co_code, 0
        for at in range(0, len(text), 2):
            operation, argument = text[at], text[at + 1] | extended
            act = acts[operation]
            if act is None:  # nothing to do with names
                change = effect(operation, argument if operation in plain else None, jump=False)
                if change > 0:
                    self._stack += [None] * change
                else:
                    self._pop(1 - change)
                    self._stack.append(None)
                extended = 0
            elif act == "extended":
                extended = argument << 8
            else:
                if act:
                    getattr(self, act)(argument)
                extended = 0
        return self._uses

    def _name(self, argument: int) -> str:
        return self._code.co_names[argument]

    def _local_name(self, argument: int) -> str:
        name: str = self._code._varname_from_oparg(argument)  # type: ignore[attr-defined]  # as dis does
        return name

    def _end(self, _argument: int) -> None:
        self._stack.clear()

    def _pop(self, count: int = 1) -> Place | None:
        """Take values off; return where the last one came from."""
        last: Place | None = None
        for _ in range(count):
            last = self._stack.pop() if self._stack else None
        return last

    # -- names ------------------------------------------------------------------------------
    def _LOAD_GLOBAL(self, argument: int) -> None:  # noqa: N802 - the instruction's name
        with_null = bool(argument & 1)
        name = self._name(argument >> 1)
        late_null = with_null and sys.version_info >= (3, 13)
        if with_null and not late_null:
            self._stack.append(None)
        self._uses.reads.setdefault(name, set()).add(())
        self._stack.append(Place("global", name))
        if late_null:
            self._stack.append(None)

    def _LOAD_NAME(self, argument: int) -> None:  # noqa: N802 - likewise, as all below
        name = self._name(argument)
        if name in self._own_names or name.startswith("__"):
            self._stack.append(None)
        else:
            self._uses.reads.setdefault(name, set()).add(())
            self._stack.append(Place("global", name))

    def _LOAD_FROM_DICT_OR_GLOBALS(self, argument: int) -> None:  # noqa: N802
        self._pop()
        self._LOAD_NAME(argument)

    def _STORE_NAME(self, argument: int) -> None:  # noqa: N802
        self._pop()
        self._own_names.add(self._name(argument))

    def _STORE_GLOBAL(self, argument: int) -> None:  # noqa: N802
        self._pop()
        self._uses.assigned.add(("global", self._name(argument)))

    def _DELETE_GLOBAL(self, argument: int) -> None:  # noqa: N802
        self._uses.assigned.add(("global", self._name(argument)))

    def _deref(self, argument: int) -> Place:
        name = self._local_name(argument)
        return Place("free" if name in self._code.co_freevars else "local", name)

    def _LOAD_DEREF(self, argument: int) -> None:  # noqa: N802
        self._stack.append(self._deref(argument))

    _LOAD_CLASSDEREF = _LOAD_DEREF

    def _LOAD_FROM_DICT_OR_DEREF(self, argument: int) -> None:  # noqa: N802
        self._pop()
        self._LOAD_DEREF(argument)

    def _STORE_DEREF(self, argument: int) -> None:  # noqa: N802
        self._pop()
        self._uses.assigned.add(self._deref(argument)[:2])

    def _DELETE_DEREF(self, argument: int) -> None:  # noqa: N802
        self._uses.assigned.add(self._deref(argument)[:2])

    def _load(self, name: str) -> None:
        self._stack.append(self._locals.get(name, Place("local", name)))

    def _LOAD_FAST(self, argument: int) -> None:  # noqa: N802
        self._load(self._local_name(argument))

    _LOAD_FAST_CHECK = _LOAD_FAST
    _LOAD_FAST_BORROW = _LOAD_FAST

    def _LOAD_FAST_LOAD_FAST(self, argument: int) -> None:  # noqa: N802
        self._LOAD_FAST(argument >> 4)
        self._LOAD_FAST(argument & 15)

    _LOAD_FAST_BORROW_LOAD_FAST_BORROW = _LOAD_FAST_LOAD_FAST

    def _STORE_FAST(self, argument: int) -> None:  # noqa: N802
        self._locals[self._local_name(argument)] = self._pop()

    def _STORE_FAST_STORE_FAST(self, argument: int) -> None:  # noqa: N802
        self._STORE_FAST(argument >> 4)
        self._STORE_FAST(argument & 15)

    def _STORE_FAST_LOAD_FAST(self, argument: int) -> None:  # noqa: N802
        self._STORE_FAST(argument >> 4)
        self._LOAD_FAST(argument & 15)

    # -- what is taken of them ----------------------------------------------------------------
    def _take(self, attribute: str) -> Place | None:
        owner = self._pop()
        if owner is None:
            return None
        found = owner._replace(path=(*owner.path, attribute))
        self._uses.taken.add(found)
        if found.kind == "global":
            self._uses.reads.setdefault(found.name, set()).add(found.path)
        return found

    def _LOAD_ATTR(self, argument: int) -> None:  # noqa: N802
        if sys.version_info < (3, 12):
            self._stack.append(self._take(self._name(argument)))
        elif argument & 1:
            self._LOAD_METHOD(argument >> 1)
        else:
            self._stack.append(self._take(self._name(argument >> 1)))

    def _LOAD_METHOD(self, argument: int) -> None:  # noqa: N802
        self._stack += [None, self._take(self._name(argument))]

    def _BINARY_SUBSCR(self, _argument: int) -> None:  # noqa: N802
        self._pop()
        self._stack.append(self._pop())  # a part of it: who changes that changes the whole

    def _BINARY_SLICE(self, _argument: int) -> None:  # noqa: N802
        self._pop(3)
        self._stack.append(None)  # a copy

    def _BINARY_OP(self, argument: int) -> None:  # noqa: N802
        if argument == _SUBSCRIPT and sys.version_info >= (3, 14):
            self._BINARY_SUBSCR(argument)
        else:
            self._pop(2)
            self._stack.append(None)

    # -- what is done to them -----------------------------------------------------------------
    def _store(self, owner: Place | None, attribute: str | None = None) -> None:
        if owner is not None:
            path = owner.path if attribute is None else (*owner.path, attribute)
            self._uses.stored.add(owner._replace(path=path))

    def _STORE_ATTR(self, argument: int) -> None:  # noqa: N802
        self._store(self._pop(), self._name(argument))
        self._pop()

    def _DELETE_ATTR(self, argument: int) -> None:  # noqa: N802
        self._store(self._pop(), self._name(argument))

    def _STORE_SUBSCR(self, _argument: int) -> None:  # noqa: N802
        self._store(self._pop(2))
        self._pop()

    def _DELETE_SUBSCR(self, _argument: int) -> None:  # noqa: N802
        self._store(self._pop(2))

    def _STORE_SLICE(self, _argument: int) -> None:  # noqa: N802
        self._store(self._pop(3))
        self._pop()

    # -- the stack itself ---------------------------------------------------------------------
    def _COPY(self, argument: int) -> None:  # noqa: N802
        depth = argument
        self._stack.append(self._stack[-depth] if depth <= len(self._stack) else None)

    def _SWAP(self, argument: int) -> None:  # noqa: N802
        depth = argument
        while len(self._stack) < depth:
            self._stack.insert(0, None)
        self._stack[-1], self._stack[-depth] = self._stack[-depth], self._stack[-1]

    def _POP_TOP(self, _argument: int) -> None:  # noqa: N802
        self._pop()

    _POP_ITER = _POP_TOP


@cache
def _acts() -> list[str | None]:
    """Return, for each operation, the method that knows it, "" for none to call, or None."""
    import opcode  # noqa: PLC0415 - not needed where a function names nothing

    acts: list[str | None] = [None] * 256
    for name, operation in opcode.opmap.items():
        if operation >= len(acts):  # not in the text of any code
            continue
        if name == "EXTENDED_ARG":
            acts[operation] = "extended"
        elif name in _NO_EFFECT:
            acts[operation] = ""
        elif name in _ENDS:
            acts[operation] = "_end"
        elif hasattr(_Reader, "_" + name):
            acts[operation] = "_" + name
    acts[0] = ""  # a cache of the interpreter's
    return acts


@cache
def _stack_effect() -> tuple[Callable[..., int], frozenset[int]]:
    """Return the interpreter's own account of its stack, and which operations have an argument."""
    import dis  # noqa: PLC0415 - likewise

    known = getattr(dis, "hasarg", None) or range(dis.HAVE_ARGUMENT, 256)
    return dis.stack_effect, frozenset(known)


# ------------------------------------------------------------------------------ a digest of it
def code_digest(code: CodeType) -> bytes:
    """Digest what the interpreter does, leaving out where the text stood and what it was called.

    Instructions are taken with what they mean (constants, names, where they jump to), so that an
    unused constant such as a docstring, a line number and an empty instruction do not count.
    """
    order = [code]
    for each in order:  # grows while it is walked
        if (known := notes_of(each)).digest is None:
            order += [const for const in each.co_consts if isinstance(const, CodeType)]
    for each in reversed(order):  # the innermost first
        known = notes_of(each)
        if known.digest is None:
            try:
                known.digest = _digest_of_one(each)
            except Exception:  # noqa: BLE001 - what cannot be read must never count as unchanged
                known.digest = _like_no_other()
    digest = notes_of(code).digest
    assert digest is not None  # noqa: S101 - for the type checker
    return digest


def _like_no_other() -> bytes:
    from secrets import token_bytes  # noqa: PLC0415 - hardly ever needed

    return token_bytes(32)


def _digest_of_one(code: CodeType) -> bytes:
    import dis  # noqa: PLC0415 - not needed before somebody asks for a fingerprint
    from hashlib import sha256  # noqa: PLC0415 - likewise

    constant = set(dis.hasconst)
    told = {*dis.hasname, *dis.haslocal, *dis.hasfree, *dis.hascompare}
    jumps = {*dis.hasjrel, *dis.hasjabs}
    # Constants stand as their places: dis shows each, and a very long number cannot be shown.
    read = dis.Bytecode(code.replace(co_consts=tuple(range(len(code.co_consts)))))
    kept: list[tuple[str, Any, int | None]] = []  # name, meaning, offset that it jumps to
    places: dict[int, int] = {}  # offset → position among those kept
    for step in read:
        places[step.offset] = len(kept)
        if step.opname in _SILENT:
            continue
        before = kept[-1][0] if kept else ""
        if step.opname == "STORE_NAME" and step.argval in UNTOLD and before == "LOAD_CONST":
            kept.pop()  # a class's docstring, name or first line
            continue
        if step.opcode in jumps:
            kept.append((step.opname, None, step.argval))
        else:
            meaning = step.argval if step.opcode in told else step.arg
            if step.opcode in constant:
                meaning = _meaning(code.co_consts[step.arg or 0])  # not every argval is one
            kept.append((step.opname, meaning, None))

    def place(offset: int | None) -> int | None:
        return None if offset is None else places.get(offset, len(kept))

    lines = [(name, meaning, place(target)) for name, meaning, target in kept]
    caught = [
        (place(entry.start), place(entry.end), place(entry.target), entry.depth, entry.lasti)
        for entry in read.exception_entries  # type: ignore[attr-defined]  # typeshed lacks it
    ]
    count = code.co_argcount + code.co_kwonlyargcount + (code.co_flags & _ARGUMENTS).bit_count()
    head = (
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_varnames[:count],
        code.co_flags & _KINDS,
    )
    return sha256(repr((head, lines, caught)).encode("utf-8", "backslashreplace")).digest()


def _meaning(constant: Any) -> Any:
    """Return a constant as something whose repr says all of it, in one order."""
    if isinstance(constant, CodeType):
        return ("code", notes_of(constant).digest)
    if isinstance(constant, tuple):
        return ("tuple", *map(_meaning, constant))
    if type(constant) is int:
        return ("int", hex(constant))  # of which repr refuses very long ones
    if isinstance(constant, frozenset):
        return ("set", sorted(repr(_meaning(member)) for member in constant))
    return constant
