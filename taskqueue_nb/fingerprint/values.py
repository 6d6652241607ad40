"""Digests of values: of what they contain, whatever their addresses, order of sets and sharing.

A value is taken apart into a head and its parts, and its digest is made of theirs, the innermost
first and without recursion. Parts that contain each other are told apart by what can be seen
from each of them, as in the minimisation of automata: see `_Circles`.
"""

from __future__ import annotations

import copyreg
import marshal
import sys
from functools import cache
from itertools import chain, islice
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CellType,
    CodeType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.fingerprint.code import (
    CHANGING,
    HIDING,
    UNTOLD,
    Place,
    Uses,
    code_digest,
    is_foreign_file,
    is_foreign_module,
    notes_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

#: What `marshal` writes in one way only, with nothing inside that has an order or an identity.
ATOMS: Final = frozenset({type(None), bool, int, float, complex, str, bytes, type(Ellipsis)})
_ROWS: Final = frozenset({tuple, list})
_SORTABLE: Final = ({str}, {int}, {bytes})
_LONG: Final = 256  # bytes of a plain value from which on its digest stands for it
_EFFORT: Final = 1_000_000  # objects that are taken apart before a value counts as too large
_FOREIGN_EFFORT: Final = 10  # as many of them does one cost that runs foreign code
_ROUNDS: Final = 2_000_000  # likewise, for objects that contain each other
_MARSHAL: Final = 2  # the last version that notes neither identity nor interning

_WRAPPED: Final = (staticmethod, classmethod)
_VIEWS: Final[tuple[type, ...]] = (type({}.keys()), type({}.values()), type({}.items()))
_LIVING: Final = (GeneratorType, CoroutineType, AsyncGeneratorType)
_BY_NAME: Final = (
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
)
#: Modules whose classes stand for something of the machine, not for data.
_RESOURCES: Final = frozenset(
    [
        "_asyncio",
        "_contextvars",
        "_queue",
        "_socket",
        "_sqlite3",
        "_ssl",
        "_thread",
        "_threading_local",
        "asyncio",
        "concurrent",
        "contextvars",
        "multiprocessing",
        "queue",
        "select",
        "selectors",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
    ]
)
#: Likewise packages of the notebook's own machinery, and what of this one changes as tasks run.
_MACHINERY: Final = frozenset({"IPython", "ipykernel", "ipywidgets", "tornado", "zmq"})
_OWN_RESOURCES: Final = frozenset({"Attempt", "Result", "RunState", "TaskGraph", "TaskQueue"})
_MEMORY_FILES: Final = frozenset({"StringIO", "BytesIO"})
_HIDING_FUNCTIONS: Final = frozenset(
    {*((("builtins", name)) for name in HIDING), ("importlib", "import_module")}
)
_DISPATCHING: Final = "functools.singledispatch.<locals>.wrapper"
_CLOSING: Final = ("close", "release", "shutdown", "terminate", "disconnect", "__exit__")
#: Classes whose objects change whenever they are used.
_RANDOM: Final = frozenset({"Random", "Generator", "RandomState", "BitGenerator"})
_RANDOM_MODULES: Final = frozenset({"random", "_random", "numpy"})


class UnseenError(ValueError):
    """A value of which no digest can be taken; the words say what it is.

    Parameters
    ----------
    what : str
        Such as "a generator".
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"no fingerprint can be taken of {self.what}"


class _CircleError(Exception):
    """Something contains itself."""


# Small classes instead of named tuples: those take a third of a millisecond each to make, and all
# of this is imported with the package.
class Named:
    """Something that counts by its name alone: never taken apart."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class _Parts:
    """A value taken apart."""

    __slots__ = ("head", "lenient", "ordered", "parts")

    def __init__(
        self,
        head: bytes,
        parts: Sequence[Any] = (),
        *,
        ordered: bool = True,
        lenient: int = sys.maxsize,
    ) -> None:
        self.head = head  # all that is not a part
        self.parts = parts
        self.ordered = ordered
        self.lenient = lenient  # parts from here on count by their class if they cannot be seen


#: Stands in a closure that was not filled yet.
NOTHING_YET: Final = Named("nothing yet")


def digest_of(value: Any, *, lenient: bool = False) -> bytes:
    """Digest a value.

    Parameters
    ----------
    value
        Anything.
    lenient : bool
        Whether what cannot be seen counts by its class.

    Raises
    ------
    UnseenError
        If it cannot be seen and that is not to be borne, or if it is too large.
    """
    try:
        try:
            return _one_by_one(value, _Work(), lenient=lenient)
        except _CircleError:
            return _Circles(value, _Work(), lenient=lenient).digest()
    except UnseenError:
        raise
    except Exception as error:  # foreign code was run where nobody expects it: a metaclass
        raise UnseenError(a_kind(value)) from error


class _Work:
    """What is left of the effort that a digest may cost."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = _EFFORT

    def spend(self, effort: int = 1) -> None:
        self.left -= effort
        if self.left < 0:
            raise UnseenError("something very large")


@cache
def _sha256() -> Callable[[bytes | memoryview], Any]:
    from hashlib import sha256  # noqa: PLC0415 - not needed before somebody asks

    return sha256


def _sha(text: bytes | memoryview) -> bytes:
    digest: bytes = _sha256()(text).digest()
    return digest


def _atom(value: Any) -> bytes:
    """Write a plain value so that nothing else is written alike or begins alike."""
    written = marshal.dumps(value, _MARSHAL)
    return written if len(written) < _LONG else b"\xfe" + _sha(written)


def _together(parts: _Parts, tokens: list[bytes]) -> bytes:
    """Digest a value by its head and what its parts were written as."""
    if not parts.ordered:
        tokens = sorted(tokens)
    kind = b"\0" if parts.ordered else b"\1"
    size = len(parts.head).to_bytes(8, "little")
    return b"\xff" + _sha(b"".join((kind, size, parts.head, *tokens)))


def _one_by_one(root: Any, work: _Work, *, lenient: bool) -> bytes:
    """Digest a value in which nothing contains itself."""
    if type(root) in ATOMS:
        return _sha(_atom(root))
    known: dict[tuple[int, bool], bytes | None] = {}  # None while it is under way
    alive: list[Any] = []  # so that no identity is given away twice

    first = take_apart(root, work, lenient=lenient)
    known[id(root), lenient] = None
    stack: list[tuple[tuple[int, bool], _Parts, list[bytes], Iterator[tuple[int, Any]]]]
    stack = [((id(root), lenient), first, [], iter(enumerate(first.parts)))]
    while True:
        mine, whole, tokens, rest = stack[-1]
        for at, part in rest:
            if type(part) in ATOMS:
                tokens.append(_atom(part))
                continue
            key = (id(part), mine[1] or at >= whole.lenient)
            if key in known:
                token = known[key]
                if token is None:
                    raise _CircleError
                tokens.append(token)
                continue
            parts = take_apart(part, work, lenient=key[1])
            alive.append(part)
            if not parts.parts:
                token = known[key] = _together(parts, [])
                tokens.append(token)
                continue
            known[key] = None
            stack.append((key, parts, [], iter(enumerate(parts.parts))))
            break
        else:
            token = known[mine] = _together(whole, tokens)
            stack.pop()
            if not stack:
                return token[1:]
            stack[-1][2].append(token)


class _Circles:
    """Digest a value in which something contains itself.

    Objects that contain each other (a component of the graph) are told apart in rounds: in each,
    an object is written as its head with what its parts were written as the round before. When a
    round tells no more objects apart than the one before, nothing ever will: then an object's
    last writing, with those of the whole component, is its digest. It depends on nothing but what
    can be seen by going from part to part.
    """

    def __init__(self, root: Any, work: _Work, *, lenient: bool) -> None:
        self._parts: list[_Parts] = []
        self._edges: list[list[int | bytes]] = []  # the parts: others by number, or as written
        self._known: list[bytes | None] = []
        numbers: dict[tuple[int, bool], int] = {}
        alive: list[Any] = []

        def number(value: Any, bearable: bool) -> int:  # noqa: FBT001 - private
            key = (id(value), bearable)
            if key not in numbers:
                numbers[key] = len(alive)
                alive.append((value, bearable))
            return numbers[key]

        number(root, lenient)
        for value, bearable in alive:  # grows while it is walked
            parts = take_apart(value, work, lenient=bearable)
            self._parts.append(parts)
            self._edges.append(
                [
                    _atom(part)
                    if type(part) in ATOMS
                    else number(part, bearable or at >= parts.lenient)
                    for at, part in enumerate(parts.parts)
                ]
            )
        self._known = [None] * len(alive)
        self._rounds = _ROUNDS

    def digest(self) -> bytes:
        for component in self._components():
            first = component[0]
            if len(component) == 1 and not any(
                isinstance(edge, int) and edge == first for edge in self._edges[first]
            ):
                self._known[first] = self._written(first, {})
            else:
                self._tell_apart(component)
        token = self._known[0]
        assert token is not None  # noqa: S101 - for the type checker
        return token[1:]

    def _written(self, number: int, before: dict[int, bytes]) -> bytes:
        tokens = [
            edge if isinstance(edge, bytes) else (self._known[edge] or before[edge])
            for edge in self._edges[number]
        ]
        return _together(self._parts[number], tokens)

    def _tell_apart(self, component: list[int]) -> None:
        colours = dict.fromkeys(component, b"\xff")
        told = 1
        while True:
            self._rounds -= len(component)
            if self._rounds < 0:
                raise UnseenError("something that contains itself in very many ways")
            colours = {number: self._written(number, colours) for number in component}
            now = len(set(colours.values()))
            if now == told:
                break
            told = now
        whole = b"".join(sorted(set(colours.values())))
        for number, colour in colours.items():
            self._known[number] = b"\xff" + _sha(b"circle" + colour + whole)

    def _components(self) -> Iterator[list[int]]:
        """Give the components, each after those that it refers to (Tarjan, without recursion)."""
        index: dict[int, int] = {}
        low: dict[int, int] = {}
        path: list[int] = []
        on_path: set[int] = set()
        todo: list[tuple[int, Iterator[int | bytes]]] = []

        def enter(number: int) -> None:
            index[number] = low[number] = len(index)
            path.append(number)
            on_path.add(number)
            todo.append((number, iter(self._edges[number])))

        enter(0)
        while todo:
            number, rest = todo[-1]
            for edge in rest:
                if isinstance(edge, bytes):
                    continue
                if edge not in index:
                    enter(edge)
                    break
                if edge in on_path:
                    low[number] = min(low[number], index[edge])
            else:
                todo.pop()
                if todo:
                    low[todo[-1][0]] = min(low[todo[-1][0]], low[number])
                if low[number] == index[number]:
                    at = _last_place(path, number)
                    component = path[at:]
                    del path[at:]
                    on_path.difference_update(component)
                    yield component


def _last_place(path: list[int], number: int) -> int:
    at = len(path) - 1
    while path[at] != number:
        at -= 1
    return at


# ------------------------------------------------------------------------------- taking apart
def class_name(kind: type) -> str:
    """Return a class's module and qualified name, whatever its metaclass does."""
    return f"{module_of(kind)}.{type.__dict__['__qualname__'].__get__(kind)}"


def module_of(kind: type) -> str:
    """Return the name of a class's module, whatever its metaclass does."""
    try:
        module = type.__dict__["__module__"].__get__(kind)
    except AttributeError:  # some class statements are run without a module
        module = ""
    return module if isinstance(module, str) else ""


def a_kind(value: Any) -> str:
    """Return what a value is, in words for the user."""
    if issubclass(type(value), type):
        return "a class"
    name = type.__dict__["__name__"].__get__(type(value))
    clean = "".join(letter if letter.isprintable() else "?" for letter in name[:80])
    return f"{'an' if clean[:1].lower() in 'aeiou' else 'a'} {clean}"


def take_apart(value: Any, work: _Work, *, lenient: bool = False) -> _Parts:
    """Take a value apart; raise UnseenError, or return its class, if that cannot be done."""
    try:
        return _take_apart(value, work)
    except UnseenError:
        if work.left < 0 or not lenient:
            raise
    except Exception as error:
        if not lenient:  # foreign code was run: a metaclass, a property
            raise UnseenError(a_kind(value)) from error
    return _Parts(b"unseen " + _text(class_name(type(value))))


def _text(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _take_apart(value: Any, work: _Work) -> _Parts:  # noqa: C901, PLR0911, PLR0912 - one line per kind
    kind = type(value)
    work.spend()
    if kind is Named:
        return _Parts(b"named " + _text(value.text))
    if kind in _FLAT:
        return _container(value, kind, work)
    if kind is FunctionType:
        return _function(value)
    if kind is MethodType:
        return _Parts(b"method", (value.__func__, value.__self__))
    if kind is BuiltinFunctionType:
        owner = value.__self__
        if owner is None or isinstance(owner, ModuleType):
            return _Parts(b"builtin " + _text(f"{value.__module__}.{value.__qualname__}"))
        return _Parts(b"builtin " + _text(value.__name__), (owner,))
    if kind is MethodWrapperType:
        return _Parts(b"builtin " + _text(value.__name__), (value.__self__,))
    if issubclass(kind, type):
        return _class(value)
    if kind is Own:
        return _own_parts(value)
    if kind is OwnClass:
        return _Parts(value.head, (value.bases, value.members), lenient=0)
    if kind is _ClassWithout:
        kept = [pair for pair in members_of(value.value) if pair[0] not in value.names]
        parts = (type(value.value), bases_of(value.value), kept)
        return _Parts(class_head(value.value), parts, lenient=0)
    if issubclass(kind, ModuleType):
        return _Parts(b"module " + _text(str(vars(value).get("__name__"))))
    if kind is CodeType:
        return _Parts(b"code " + code_digest(value))
    if kind in (staticmethod, classmethod):
        return _Parts(_text(kind.__name__), (value.__func__,))
    if kind is property:
        return _Parts(b"property", (value.fget, value.fset, value.fdel))
    if kind is MappingProxyType:
        return _Parts(b"mappingproxy", (dict(value),))
    if kind is CellType:
        return _Parts(b"cell", (inside(value),))
    if kind in _BY_NAME:
        return _Parts(b"slot " + _text(f"{class_name(value.__objclass__)}.{value.__name__}"))
    if hasattr(kind, "fsm_state"):  # a task, which stands for its result
        return _Parts(b"the result of task", (str(value.name),))
    if (plain := plain_function(value)) is not None:
        return _Parts(b"task function", (plain,))
    if kind in _VIEWS:
        return _Parts(_text(kind.__name__), (list(value),))
    if issubclass(kind, (set, frozenset)):  # a subclass: pickle has its members in any order
        members = frozenset((set if issubclass(kind, set) else frozenset).__iter__(value))
        return _Parts(b"set object", (kind, members, _attributes(getattr(value, "__dict__", None))))
    if issubclass(kind, _LIVING):
        raise UnseenError(a_kind(value))
    return _object(value, kind, work)


def plain_function(value: Any) -> Any:
    """Return what a function of tasks (`@task`) calls; None if the value is something else."""
    if class_name(type(value)) == "taskqueue_nb.task.TaskFunction":
        return value.func
    return None


def inside(cell: CellType) -> Any:
    """Return what a closure holds."""
    try:
        return cell.cell_contents
    except ValueError:
        return NOTHING_YET


_FLAT: Final = frozenset({list, tuple, dict, set, frozenset, bytearray, memoryview})


def _container(value: Any, kind: type, work: _Work) -> _Parts:  # noqa: PLR0911 - likewise
    """Take a container apart, or digest it at once if there are plain values in it only."""
    try:
        if kind in (bytearray, memoryview):
            return _Parts(b"%s " % kind.__name__.encode() + _buffer(memoryview(value)))
        if kind is dict:
            return _dict(value)
        members = list(value)  # nobody changes this one meanwhile
    except (RuntimeError, BufferError) as error:  # changed by another thread
        raise UnseenError(a_kind(value)) from error
    kinds = set(map(type, members))
    head = kind.__name__.encode()
    if kind in (set, frozenset):
        if kinds in _SORTABLE:
            return _Parts(head + b" flat " + _flat(sorted(members)))
        return _Parts(head, members, ordered=False)
    if kinds <= ATOMS:
        return _Parts(head + b" flat " + _flat(members))
    if kinds <= _ROWS and set(map(type, chain.from_iterable(members))) <= ATOMS:
        return _Parts(head + b" rows " + _flat(members))
    if kinds == {dict}:
        names = set(map(type, chain.from_iterable(members)))
        inner = set(map(type, chain.from_iterable(map(dict.values, members))))
        if names | inner <= ATOMS:
            return _Parts(head + b" rows " + _flat(members))
    work.spend(len(members) // 100)
    return _Parts(head, members)


def _dict(value: dict[Any, Any]) -> _Parts:
    """Take a dict apart; the order of its items can be seen, so it counts."""
    items = list(value.items())
    if set(map(type, chain.from_iterable(items))) <= ATOMS:
        return _Parts(b"dict flat " + _flat(items))
    return _Parts(b"dict", list(chain.from_iterable(items)))


def _flat(value: Any) -> bytes:
    return _sha(marshal.dumps(value, _MARSHAL))


def _buffer(view: memoryview) -> bytes:
    """Digest a stretch of memory, without a copy if it lies in one piece."""
    from pickle import PickleBuffer  # noqa: PLC0415 - rarely needed

    shape = _text(f"{view.format} {view.shape} ")
    if not view.c_contiguous:
        return shape + _sha(view.tobytes())
    with PickleBuffer(view).raw() as raw:
        return shape + _sha(raw)


def _class(value: type) -> _Parts:
    """Take a class apart: its own content, if it was written by the user."""
    if is_foreign_class(value):
        return _Parts(b"class " + _text(class_name(value)))
    members = [part for pair in members_of(value) for part in pair]
    return _Parts(class_head(value), (type(value), bases_of(value), *members), lenient=0)


def class_head(value: type) -> bytes:
    """Return what a class of the user's is called, as the head of its digest."""
    return b"own class " + _text(type.__dict__["__qualname__"].__get__(value))


def bases_of(value: type) -> tuple[type, ...]:
    """Return a class's bases, whatever its metaclass does."""
    bases: tuple[type, ...] = type.__dict__["__bases__"].__get__(value)
    return bases


def members_of(value: type) -> list[tuple[str, Any]]:
    """Return what a class of the user's consists of, by name, less what its methods change."""
    namespace = type.__dict__["__dict__"].__get__(value)
    changing: set[str] = set()
    for member in namespace.values():
        function = getattr(member, "__func__", member) if type(member) in _WRAPPED else member
        if type(function) is FunctionType and not is_foreign_file(function.__code__.co_filename):
            uses = notes_of(function.__code__).uses
            changing |= uses.stored_at("global", value.__name__)
            changing |= uses.stored_at("free", value.__name__)
            if type(member) is classmethod and function.__code__.co_argcount:
                changing |= uses.stored_at("local", function.__code__.co_varnames[0])
    return [
        (name, _changed_by_use(namespace[name]) if name in changing else namespace[name])
        for name in sorted(name for name in namespace if isinstance(name, str))
        if name not in UNTOLD and not (name == "__annotations__" and not namespace[name])
    ]  # an empty `__annotations__` comes into being when somebody looks for it


def _changed_by_use(value: Any) -> Named:
    return Named(f"changed by its use: {class_name(type(value))}")


class _ClassWithout:
    """A class some of whose attributes the code that refers to it changes."""

    __slots__ = ("names", "value")

    def __init__(self, value: type, names: frozenset[str]) -> None:
        self.value = value
        self.names = names


def is_foreign_class(value: type) -> bool:
    """Whether a class counts by its name, because it belongs to Python or a package."""
    if not type.__dict__["__flags__"].__get__(value) & (1 << 9):  # not made by a class statement
        return True
    return is_foreign_module(module_of(value))


def _function(value: FunctionType) -> _Parts:
    """Take a function apart: its code, defaults, and what it closes over and reads."""
    code = value.__code__
    if is_foreign_file(code.co_filename):
        name = f"{value.__globals__.get('__name__')}.{code.co_qualname}"
        if name == _DISPATCHING:  # what it closes over is a cache, too
            return _Parts(b"function " + _text(name), (dict(vars(value)["registry"]),), lenient=0)
        cells = tuple(map(inside, value.__closure__ or ()))
        return _Parts(b"function " + _text(name), cells, lenient=0)
    own = _own_parts(Own(value))
    read = [part for each in references(value) for part in (each.name, each.counted)]
    return _Parts(own.head, (*own.parts, *read), lenient=len(own.parts))


class Own:
    """A function without what it refers to, as it was at one moment: its code and defaults."""

    __slots__ = ("code", "defaults", "named")

    def __init__(self, function: FunctionType, code: CodeType | None = None) -> None:
        self.code = code or function.__code__
        self.defaults = function.__defaults__
        self.named = function.__kwdefaults__


def has_plain_defaults(own: Own) -> bool:
    """Whether a function's defaults are plain."""
    items = [*(own.defaults or ()), *(part for pair in (own.named or {}).items() for part in pair)]
    return ATOMS.issuperset(map(type, items))


def plain_digest(own: Own) -> bytes | None:
    """Digest a function whose defaults are plain, without much ado; None for others."""
    if not has_plain_defaults(own):
        return None
    return _sha(code_digest(own.code) + _flat((own.defaults, sorted((own.named or {}).items()))))


def _own_parts(own: Own) -> _Parts:
    if (plain := plain_digest(own)) is not None:
        return _Parts(b"plain code " + plain)
    defaults = (own.defaults, tuple(sorted((own.named or {}).items())))
    return _Parts(b"code " + code_digest(own.code), defaults, lenient=0)


class OwnClass:
    """A class of the user's without its methods, as it was at one moment."""

    __slots__ = ("bases", "head", "members")

    def __init__(
        self, head: bytes, bases: tuple[str, ...], members: tuple[tuple[str, Any], ...]
    ) -> None:
        self.head = head
        self.bases = bases
        self.members = members


# --------------------------------------------------------------------------- what it refers to
class Reference:
    """Something that a function's code refers to by name.

    Attributes
    ----------
    name : str
        As the code says it, such as ``limit`` or ``helpers.clean``.
    value
        What it stands for now.
    changing : bool
        Whether the code changes it, or its use does: then it is no input.
    holder : mapping or cell
        Where it was found, under the last part of the name.
    without : frozenset of str
        Attributes of it (a class) that the code changes.
    assigned : bool
        Whether the code binds the name itself: then not even the class of the value counts.
    """

    __slots__ = ("assigned", "changing", "holder", "name", "value", "without")

    def __init__(  # noqa: PLR0913 - facts, each by its name
        self,
        name: str,
        value: Any,
        holder: Any,
        *,
        changing: bool = False,
        without: Iterable[str] = (),
        assigned: bool = False,
    ) -> None:
        self.name = name
        self.value = value
        self.holder = holder
        self.changing = changing or assigned
        self.assigned = assigned
        self.without = frozenset(without)

    @property
    def counted(self) -> Any:
        """What goes into a digest: the value, or its class if it changes."""
        if self.assigned:
            return ASSIGNED
        if self.changing:
            return _changed_by_use(self.value)
        if self.without:
            return _ClassWithout(self.value, self.without)
        return self.value


#: Stands for a global that does not exist (yet).
MISSING: Final = Named("nothing of this name")
#: Stands for what a function binds a name to itself: before it first ran, there was none.
ASSIGNED: Final = Named("bound by its use")


def references(function: FunctionType) -> list[Reference]:
    """Return what a function refers to in the user's own world, in the order of its code."""
    found: list[Reference] = []
    code = function.__code__
    uses = notes_of(code).uses
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        found += _found(uses, "free", name, inside(cell), cell)
    namespace = function.__globals__
    builtin = _builtins_of(function)
    for name in uses.reads:
        value = namespace.get(name, MISSING)
        if value is not MISSING or name not in builtin:
            found += _found(uses, "global", name, value, namespace)
    return found


def hidden_by(function: FunctionType) -> list[str]:
    """Return the functions that reach what nobody can see, such as ``eval()``, in a function."""
    found: list[str] = []
    for name, path in notes_of(function.__code__).hiding:
        value = function.__globals__.get(name, MISSING)
        if value is MISSING:
            value = _builtins_of(function).get(name)
        if path:
            value = vars(value).get(path[0]) if isinstance(value, ModuleType) else None
        if type(value) in (BuiltinFunctionType, FunctionType) and (
            (value.__module__, value.__name__) in _HIDING_FUNCTIONS
        ):
            found.append(".".join((name, *path)) + "()")
    return found


def _builtins_of(function: FunctionType) -> Mapping[str, Any]:
    builtins = function.__globals__.get("__builtins__")
    return vars(builtins) if isinstance(builtins, ModuleType) else builtins or {}


def _found(uses: Uses, kind: str, name: str, value: Any, holder: Any) -> Iterator[Reference]:
    assigned = (kind, name) in uses.assigned
    if issubclass(type(value), ModuleType) and kind == "global":
        if is_foreign_module(vars(value).get("__name__")):
            yield Reference(name, value, holder)
            return
        yield Reference(name, value, holder, assigned=assigned)
        seen: set[str] = set()
        for path in sorted(uses.reads[name]):
            each = _along(uses, name, path, value)
            if each is not None and each.name not in seen:
                seen.add(each.name)
                yield each
        return
    if issubclass(type(value), (FunctionType, type)) or plain_function(value) is not None:
        changing = False
        without = uses.stored_at(kind, name) if issubclass(type(value), type) else ()
        if without and not is_foreign_class(value):
            yield Reference(name, value, holder, without=without, assigned=assigned)
            return
    else:
        verbs = CHANGING if hasattr(type(value), "discard") else CHANGING - {"add"}
        changing = uses.changed(kind, name, verbs) or _is_moved(uses, kind, name, value)
    yield Reference(name, value, holder, changing=changing, assigned=assigned)


def _along(uses: Uses, name: str, path: tuple[str, ...], module: ModuleType) -> Reference | None:
    """Follow attributes through the user's modules, up to something that is no such module."""
    for at, attribute in enumerate(path):
        namespace = vars(module)
        value = namespace.get(attribute, MISSING)
        if issubclass(type(value), ModuleType) and not is_foreign_module(
            vars(value).get("__name__")
        ):
            module = value
            continue
        if value is MISSING and hasattr(type(module), attribute):
            return None
        here = path[: at + 1]
        changing = not issubclass(type(value), (FunctionType, type, ModuleType)) and (
            uses.changes_at("global", name, here) or is_random(value)
        )
        assigned = Place("global", name, here) in uses.stored
        label = ".".join((name, *here))
        return Reference(label, value, namespace, changing=changing, assigned=assigned)
    return None


def _is_moved(uses: Uses, kind: str, name: str, value: Any) -> bool:
    """Whether a method that the code calls on an object changes the object; or chance does."""
    if is_random(value):
        return True
    return any(
        place[:2] == (kind, name)
        and len(place.path) == 1
        and _changes_itself(type(value), place.path[0])
        for place in uses.taken
    )


def is_random(value: Any) -> bool:
    """Whether an object's use changes it: a source of random numbers."""
    return any(
        base.__name__ in _RANDOM and module_of(base).partition(".")[0] in _RANDOM_MODULES
        for base in type(value).__mro__
    )


def _changes_itself(kind: type, method: str) -> bool:
    """Whether a method of a class of the user's, or one that it calls, changes its object."""
    due, seen = [method], {method}
    while due:
        name = due.pop()
        function = next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)
        if not isinstance(function, FunctionType) or is_foreign_file(function.__code__.co_filename):
            continue
        uses, code = notes_of(function.__code__).uses, function.__code__
        if not code.co_argcount:
            continue
        itself = code.co_varnames[0]
        if uses.changed("local", itself):
            return True
        called = {
            place.path[0]
            for place in uses.taken
            if place[:2] == ("local", itself) and len(place.path) == 1
        }
        due += called - seen
        seen |= called
    return False


# ------------------------------------------------------------------------ objects of any class
def _object(value: Any, kind: type, work: _Work) -> _Parts:
    """Take an object apart the way that pickle and copy do."""
    work.spend(_FOREIGN_EFFORT)
    if is_resource(kind):
        return _resource(value, kind)
    if hasattr(kind, "__next__") and not _is_memory_file(kind):
        raise UnseenError(a_kind(value))
    if kind.__module__ == "functools" and kind.__name__ == "cached_property":
        return _Parts(b"cached_property", (value.func,))
    if kind.__name__ == "PickleBuffer" and kind.__module__.lstrip("_") == "pickle":
        return _pickle_buffer(value)
    if kind.__name__ == "ndarray" and module_of(kind) == "numpy" and not value.flags.c_contiguous:
        value = value.copy(order="C")  # the same numbers, however they lie in memory
    try:
        # tblib, which Dask brings along, has exceptions carry their frames from then on
        reducer = None if issubclass(kind, BaseException) else copyreg.dispatch_table.get(kind)
        reduced = reducer(value) if reducer else value.__reduce_ex__(5)
        if isinstance(reduced, str):
            return _global(value, kind, reduced)
        return _reduced(reduced, work)
    except UnseenError:
        raise
    except Exception as error:
        if any(hasattr(kind, name) for name in _CLOSING):
            return _resource(value, kind)
        raise UnseenError(a_kind(value)) from error


def _global(value: Any, kind: type, name: str) -> _Parts:
    """Take something that pickle finds by its name; what it wraps counts by content."""
    try:
        wrapped = vars(value).get("__wrapped__")
    except TypeError:
        wrapped = None
    module = getattr(value, "__module__", None)
    head = _text(f"global {class_name(kind)} {module if isinstance(module, str) else ''}.{name}")
    return _Parts(head, () if wrapped is None else (wrapped,))


def _reduced(reduced: tuple[Any, ...], work: _Work) -> _Parts:
    """Take what `__reduce_ex__` gave: how to build the object, and its state."""
    build, args, *more = reduced
    state, items, pairs, *_ = (*more, None, None, None)
    members = _bounded(items, work)
    named = _bounded(pairs, work)
    if isinstance(state, tuple) and len(state) == 2 and type(state[1]) is dict:  # noqa: PLR2004 - as pickle has it: __dict__ and slots
        own, slots = state
        parts: tuple[Any, ...] = (build, args, _attributes(own), _attributes(slots))
    else:
        parts = (build, args, _attributes(state), None)
    return _Parts(b"object", (*parts, members, named, *more[3:]))


def _attributes(state: Any) -> Any:
    """Return the attributes of an object in an order of their own: theirs says nothing."""
    if type(state) is dict and all(type(name) is str for name in state):
        return dict(sorted(state.items()))
    return state


def _bounded(items: Iterable[Any] | None, work: _Work) -> list[Any] | None:
    if items is None:
        return None
    members = list(islice(items, work.left + 1))
    work.spend(len(members))
    return members


def _pickle_buffer(value: Any) -> _Parts:
    with value.raw() as raw:
        return _Parts(b"buffer " + _buffer(raw))


def _is_memory_file(kind: type) -> bool:
    return any(base.__name__ in _MEMORY_FILES and module_of(base) == "_io" for base in kind.__mro__)


def is_resource(kind: type) -> bool:
    """Whether objects of a class stand for something of the machine's, and count by it."""
    bases = [(module_of(base), base.__name__) for base in kind.__mro__]
    if issubclass(kind, BaseException) or _is_memory_file(kind):
        return False
    return any(
        (top := module.partition(".")[0]) in _RESOURCES
        or top in _MACHINERY
        or (top == "_io" and name == "_IOBase")
        or (top == "taskqueue_nb" and name in _OWN_RESOURCES)
        for module, name in bases
    )


def _resource(value: Any, kind: type) -> _Parts:
    """Take something of the machine's, such as a lock: by its class, and a file's name."""
    name: Any = ""
    if any(base.__name__ == "_IOBase" for base in kind.__mro__):
        try:
            name = value.name
        except Exception:  # noqa: BLE001 - foreign code, and not every file has one
            name = ""
    shown = name if isinstance(name, (str, bytes)) else ""
    return _Parts(b"resource " + _text(class_name(kind)), (shown,))
