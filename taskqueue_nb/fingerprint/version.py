"""What a function and all that it refers to were at one moment."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial
from itertools import islice
from operator import attrgetter, is_, itemgetter
from types import (
    BuiltinFunctionType,
    CellType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
)
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from weakref import ref

from taskqueue_nb.fingerprint.code import NOTES, Notes, is_foreign_file, is_foreign_module, notes_of
from taskqueue_nb.fingerprint.lasting import copied, lasts, written
from taskqueue_nb.fingerprint.values import (
    ATOMS,
    MISSING,
    Named,
    Own,
    OwnClass,
    Reference,
    UnseenError,
    bases_of,
    class_head,
    class_name,
    digest_of,
    hidden_by,
    inside,
    is_foreign_class,
    members_of,
    plain_digest,
    plain_function,
    references,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from types import CodeType

_LOOKED_INTO: Final = 100  # values that are searched for functions inside one value
_FOLLOWED: Final = 10_000  # functions and classes that one version follows
_LARGE: Final = 1_000_000  # bytes of an array from which on it is not kept alive
_code_of: Final = attrgetter("__code__")


class Version:
    """What a function and all that it refers to were at one moment.

    It holds references, so it is cheap to make; digests are taken when somebody asks. A large
    array or table of an installed package is not kept alive; if nothing else does, and nobody had
    asked before, its part is one that equals no other. Small containers of plain values are kept
    as they are at that moment; anything else that is changed in place is seen as it is when the
    digest is taken.

    Attributes
    ----------
    func : callable
        The function.

    Examples
    --------
    >>> limit = 3
    >>> namespace = {"limit": 3}
    >>> exec("def small(x): return x < limit", namespace)
    >>> version = version_of(namespace["small"])
    >>> list(version.parts), version.is_current
    (['small()', 'limit'], True)
    >>> namespace["limit"] = 4
    >>> version.is_current
    False
    """

    __slots__ = ("__weakref__", "_code", "_parts", "_watch", "func")

    def __init__(self, func: Callable[..., Any], watch: _Watch) -> None:
        self.func = func
        self._code = func.__code__ if type(func) is FunctionType else None
        self._watch = watch
        self._parts: Mapping[str, str] | None = None

    def __repr__(self) -> str:
        return f"<Version of {label_of(self.func)}>"

    @property
    def is_current(self) -> bool:
        """Whether the function still refers to the very same objects."""
        code = self._code
        return (code is None or code is self.func.__code__) and self._watch.holds()

    @property
    def parts(self) -> Mapping[str, str]:
        """The digest of each part, by what it is called; the function's own comes first."""
        if self._parts is None:
            own = {label_of(self.func): own_digest(self.func, self._code)}
            self._parts = MappingProxyType({**own, **self._watch.parts})
        return self._parts

    @property
    def hidden(self) -> Collection[str]:
        """What is called that reaches what nobody can see, such as ``eval()``, in any of it."""
        return self._watch.hidden.keys()


# What is known of functions with closures and of other callables, by identity: a weak reference
# to the object, by which the entry goes when it does, and one to what was last seen; None where
# nothing can change.
_seen: Final[dict[tuple[int, int], tuple[Any, Callable[[], Any] | None]]] = {}


def version_of(func: Callable[..., Any]) -> Version | None:
    """Note what a function and all that it refers to are now.

    Parameters
    ----------
    func : callable
        What is about to be called.

    Returns
    -------
    Version or None
        None if there is nothing that could change: it reads no globals but builtins, and closes
        over plain values at most. The same object as before where nothing changed since, and the
        function has neither a closure nor defaults of its own; but a new one if what it reads may
        have been changed in place since digests were taken.

    Examples
    --------
    >>> version_of(lambda a, b: max(a, b)) is None
    True
    """
    if type(func) is not FunctionType:
        return _version_of_other(func)
    notes = NOTES.get(id(func.__code__))
    if notes is None:
        return _version_of_function(func)
    if notes.only_builtins and (not notes.names or func.__globals__.keys().isdisjoint(notes.names)):
        if func.__closure__ is None or _are_plain(func.__closure__):
            return None
    elif func.__closure__ is None:
        watch = notes.watch()
        if watch is not None and watch.namespace is func.__globals__ and watch.holds():
            if func.__defaults__ is None and func.__kwdefaults__ is None:
                return notes.version() or _version_with(func, notes, watch)
            return Version(func, watch)
    return _version_of_function(func)


def _version_with(func: FunctionType, notes: Notes, watch: _Watch) -> Version:
    """Return the version that functions of one code share; those with defaults have their own."""
    if func.__defaults__ is not None or func.__kwdefaults__ is not None:
        return Version(func, watch)
    version = Version(func, watch)
    notes.version = ref(version)
    return version


def _version_of_function(func: FunctionType) -> Version | None:
    code = func.__code__
    if is_foreign_file(code.co_filename) and func.__closure__ is None:
        return None
    notes = notes_of(code)
    reads_nothing = notes.only_builtins and func.__globals__.keys().isdisjoint(notes.names)
    if reads_nothing and (func.__closure__ is None or _are_plain(func.__closure__)):
        return None
    if func.__closure__ is not None:
        return _version_seen(func, (id(func), 0), func)
    watch = _Watch(func)
    notes.watch, notes.version = ref(watch), _nothing  # the version of another watch

    def forget() -> None:
        if notes.watch() is watch_of():
            notes.watch, notes.version = _nothing, _nothing

    watch_of = notes.watch
    watch.when_digested = forget
    return _version_with(func, notes, watch)


def _are_plain(cells: tuple[CellType, ...]) -> bool:
    """Whether closures hold plain values only."""
    try:
        for cell in cells:
            if type(cell.cell_contents) not in ATOMS:
                return False
    except ValueError:  # not filled yet
        return False
    return True


def _version_of_other(func: Any) -> Version | None:
    """Note what a method, a class, a partial or another object that is called refers to."""
    if type(func) is BuiltinFunctionType and type(func.__self__) is ModuleType:
        return None
    if type(func) is MethodType and type(func.__func__) is FunctionType:
        return _version_seen(func, (id(func.__func__), id(type(func.__self__))), func.__func__)
    return _version_seen(func, (id(func), 0), func)


def _version_seen(func: Any, key: tuple[int, int], lasting: Any) -> Version | None:
    """Return the version of something that is known by its identity."""
    known, last = _seen.get(key, (None, _nothing))
    watch = None
    if known is not None and known() is lasting:
        if last is None:
            return None
        watch = last()
    if watch is None or not watch.holds():
        watch = _Watch(func)

        def forget(dead: object) -> None:
            if _seen.get(key, (None,))[0] is dead:
                del _seen[key]

        with suppress(TypeError):  # some objects cannot be referred to weakly
            lasting_ref, watch_of = ref(lasting, forget), ref(watch) if watch.follows else None
            _seen[key] = (lasting_ref, watch_of)

            def forget_watch() -> None:
                if _seen.get(key, (None, None))[1] is watch_of:
                    _seen[key] = (lasting_ref, _nothing)

            watch.when_digested = forget_watch
    return Version(func, watch) if watch.follows else None


def hidden_from(func: Any, version: Version | None) -> Iterable[str]:
    """Return what is called that reaches what nobody can see, such as ``eval()``."""
    if version is not None:
        return version.hidden
    if type(func) is MethodType:
        func = func.__func__
    if type(func) is not FunctionType or is_foreign_file(func.__code__.co_filename):
        return ()
    return hidden_by(func)


def _nothing() -> None:
    """Answer as a weak reference does to what is gone."""


def parts_of(func: Any) -> Mapping[str, str]:
    """Return the digests of a callable and of all that it refers to now."""
    version = version_of(func)
    if version is not None:
        return version.parts
    own = {label_of(func): own_digest(func)}
    if type(func) is FunctionType and func.__closure__ is not None:  # over plain values
        own.update(_Watch(func).parts)
    return own


# ------------------------------------------------------------------------------------- labels
def label_of(func: Any) -> str:
    """Return what a callable is called in the words about it."""
    try:
        return _label_of(func)
    except Exception:  # noqa: BLE001 - foreign code: the class of its class may do anything
        return "something that is called"


def _label_of(func: Any) -> str:
    if issubclass(type(func), type):
        return f"class {_last(type.__dict__['__qualname__'].__get__(func))}"
    if issubclass(type(func), partial):
        return f"partial of {label_of(func.func)}" if _is_simple(func.func) else "a partial"
    if (plain := plain_function(func)) is not None:
        return label_of(plain)
    if _is_simple(func):
        return f"{_last(func.__qualname__)}()"
    return f"{_last(class_name(type(func)).rpartition('.')[2])} object"


def _is_simple(func: Any) -> bool:
    kind = type(func)
    return kind in (FunctionType, MethodType) or kind in _BUILTINS


_BUILTINS: Final = (type(len), type(str.join), type([].__len__))


def _last(qualname: object) -> str:
    return str(qualname).rpartition("<locals>.")[2]


def own_digest(func: Any, code: CodeType | None = None) -> str:
    """Return the digest of a callable without what it refers to; of a function, with that code."""
    if type(func) is MethodType and type(func.__func__) is FunctionType:
        func = func.__func__
    if type(func) is not FunctionType:
        return _shown(_own_class(func) if _is_own_class(func) else func)
    if is_foreign_file(func.__code__.co_filename):
        return _shown(func)
    own = Own(func, code)
    if own.defaults is None and own.named is None:
        notes = notes_of(own.code)
        if notes.own is None:
            notes.own = _shown(own)
        return notes.own
    plain = plain_digest(own)
    return _shown(own) if plain is None else plain.hex()


def _shown(value: Any) -> str:
    """Return a digest; of what cannot be seen, one of its class."""
    try:
        return digest_of(value, lenient=True).hex()
    except UnseenError:
        return digest_of(Named(f"unseen: {class_name(type(value))}")).hex()


def _is_own_class(value: Any) -> bool:
    return issubclass(type(value), type) and not is_foreign_class(value)


def _own_class(value: type, without: Collection[str] = ()) -> OwnClass:
    bases = tuple(class_name(base) for base in (type(value), *bases_of(value)))
    members = tuple(
        (name, member)
        for name, member in members_of(value)
        if _method(member) is None and name not in without
    )
    return OwnClass(class_head(value), bases, members)


def _method(member: Any) -> FunctionType | None:
    """Return the user's function behind what stands in a class, if there is one."""
    if isinstance(member, (staticmethod, classmethod)):
        member = member.__func__
    if isinstance(member, property):
        member = None if member.fset or member.fdel else member.fget
    if type(member) is FunctionType and not is_foreign_file(member.__code__.co_filename):
        return member
    return None


# ------------------------------------------------------------------------------ what is watched
_Bound: TypeAlias = "tuple[Mapping[str, Any], itemgetter[Any], list[Any]]"


class _Watch:
    """All that a function refers to, directly or by way of others; shared by its versions."""

    __slots__ = (
        "__weakref__",
        "_absent",
        "_blind",
        "_bound",
        "_cells",
        "_codes",
        "_entries",
        "_first",
        "_functions",
        "_more",
        "_parts",
        "_sizes",
        "_small",
        "_weak",
        "hidden",
        "is_fleeting",
        "namespace",
        "when_digested",
    )

    def __init__(self, root: Any) -> None:
        self.namespace = root.__globals__ if type(root) is FunctionType else None
        self._entries: list[tuple[str, Any]] = []
        self._parts: dict[str, str] | None = None
        self._absent: dict[int, tuple[dict[str, Any], set[str]]] = {}
        self._weak: list[tuple[Mapping[str, Any], str, _Weak]] = []
        self._cells: list[tuple[CellType, Any]] = []
        self._functions: list[FunctionType] = []
        self._codes: list[CodeType] = []
        self._small: list[tuple[Any, bytes]] = []  # containers that are looked into, as they were
        self._sizes: list[tuple[Mapping[str, Any], int]] = []  # of classes
        self.hidden: dict[str, None] = {}
        self.is_fleeting = False  # whether anything else in it can be changed in place
        self.when_digested: Callable[[], None] = _nothing  # has the next attempt look anew
        bound: dict[int, tuple[Mapping[str, Any], dict[str, Any]]] = {}
        self._blind = False
        try:
            _Search(self, root, bound).search()
            self._settle_contents()
        except Exception:  # noqa: BLE001 - foreign code, as above; what is not seen is never the same
            self._blind = True
            self._entries = [("something that cannot be looked at", Named(_never_again()))]
        self._bound: list[_Bound] = []
        for namespace, values in bound.values():
            names = [*values, *list(values)[: 2 - len(values)]]  # two at least: a tuple comes back
            self._bound.append((namespace, itemgetter(*names), [values[name] for name in names]))
        self._first = self._bound.pop(0) if self._bound else None
        self._more = bool(
            self._blind
            or self._absent
            or self._weak
            or self._cells
            or self._codes
            or self._bound
            or self._small
            or self._sizes
        )

    def _settle_contents(self) -> None:
        """Copy what is small and can be changed in place; note whether anything larger can."""
        for at, (label, value) in enumerate(self._entries):
            if lasts(value):
                continue
            text = written(value)
            if text is None:
                self.is_fleeting = True
            else:
                self._small.append((value, text))
                self._entries[at] = (label, copied(text))

    @property
    def follows(self) -> bool:
        """Whether there is anything that could change."""
        return bool(self._entries)

    def holds(self) -> bool:
        """Whether everything is still the very same object."""
        if self._first is not None:  # asked at every attempt, and mostly all that there is
            namespace, getter, values = self._first
            try:
                if not all(map(is_, getter(namespace), values)):
                    return False
            except KeyError:
                return False
        return not self._more or (not self._blind and self._holds_too())

    def _holds_too(self) -> bool:  # noqa: PLR0911 - one line per kind
        """Whether all is that is not found in the first namespace."""
        if self._codes and not all(map(is_, map(_code_of, self._functions), self._codes)):
            return False
        for present, absent in self._absent.values():
            if not present.keys().isdisjoint(absent):
                return False
        try:
            for namespace, getter, values in self._bound:
                if not all(map(is_, getter(namespace), values)):
                    return False
        except KeyError:
            return False
        if (self._small or self._sizes) and not self._holds_inside():
            return False
        if self._cells and not all(inside(cell) is value for cell, value in self._cells):
            return False
        return not self._weak or all(
            there.get(name, MISSING) is value() for there, name, value in self._weak
        )

    def _holds_inside(self) -> bool:
        """Whether nothing was changed in place, as far as that is looked at each time."""
        return all(written(value) == text for value, text in self._small) and all(
            len(names) == size for names, size in self._sizes
        )

    @property
    def parts(self) -> dict[str, str]:
        """The digests, by what they are called; once and for all taken of what there is now."""
        if self._parts is None:
            parts: dict[str, str] = {}
            for label, value in self._entries:
                thing = value
                if type(value) is _Weak:
                    thing = value()
                    if thing is None:
                        parts[label] = _never_again()
                        continue
                parts[label] = _shown(thing)
            self._parts = parts
            if self.is_fleeting:
                self.when_digested()
        return self._parts


def _never_again() -> str:
    """Return the digest of what nobody can look at any more: it equals no other."""
    from secrets import token_hex  # noqa: PLC0415 - rarely needed

    return token_hex(32)


class _Search:
    """Find all that a function refers to."""

    def __init__(
        self, watch: _Watch, root: Any, bound: dict[int, tuple[Mapping[str, Any], dict[str, Any]]]
    ) -> None:
        self._watch = watch
        self._root = root
        function = root.__func__ if type(root) is MethodType else root
        self._own_code = function.__code__ if type(function) is FunctionType else None
        self._bound = bound
        self._labels = {label_of(root)}
        self._known = {id(root)}
        self._values: set[tuple[str, int, bool]] = set()
        self._due: list[tuple[str, Any]] = []
        self._classes: list[tuple[int, type]] = []  # the place of each among the entries
        self._without: dict[int, set[str]] = {}  # attributes of classes that code changes

    def search(self) -> None:
        root = self._root
        if type(root) is FunctionType and not is_foreign_file(root.__code__.co_filename):
            self._references(root)
        elif _is_own_class(root):
            self._members(_last(root.__qualname__), root)
        else:
            function = root.__func__ if type(root) is MethodType else None
            if type(function) is FunctionType and _is_own(function):
                self._references(function)
            self._inside(root)
        entries = self._watch._entries
        for label, value in self._due:  # grows while it is walked
            if len(self._due) > _FOLLOWED:
                entries.append((label, Named("and more")))
                break
            if issubclass(type(value), type):
                self._classes.append((len(entries), value))
                entries.append((label, None))
                self._members(label.removeprefix("class "), value)
            else:
                self._watch._functions.append(value)
                self._watch._codes.append(value.__code__)
                entries.append((label, Own(value)))
                self._references(value)
        for at, value in self._classes:
            without = self._without.get(id(value), ())
            entries[at] = (entries[at][0], _own_class(value, without))
            self._watch_class(value, without)
        if _is_own_class(root):
            self._watch_class(root, self._without.get(id(root), ()))

    def _label(self, wanted: str) -> str:
        label, count = wanted, 1
        while label in self._labels:
            count += 1
            label = f"{wanted} ({count})"
        self._labels.add(label)
        return label

    def _follow(self, name: str, value: Any) -> None:
        """Follow a function or class of the user's, unless it is known already."""
        if id(value) in self._known:
            return
        self._known.add(id(value))
        if type(value) is FunctionType and value.__code__ is self._own_code:
            return  # it calls itself
        wanted = f"class {name}" if issubclass(type(value), type) else f"{name}()"
        self._due.append((self._label(wanted), value))

    def _references(self, function: FunctionType) -> None:
        present = function.__globals__
        absent = notes_of(function.__code__).names - present.keys()
        if absent:  # builtins, or not there yet
            self._watch._absent.setdefault(id(present), (present, set()))[1].update(absent)
        self._watch.hidden.update(dict.fromkeys(hidden_by(function)))
        for each in references(function):
            self._watch_over(each)
            value = each.value
            if (plain := plain_function(value)) is not None:
                value = plain
            if each.without:
                self._without.setdefault(id(value), set()).update(each.without)
            if not each.changing and _is_own(value):
                self._follow(each.name, value)
            elif (key := (each.name, id(value), each.changing)) not in self._values:
                self._values.add(key)
                self._value(each, value)

    def _value(self, each: Reference, value: Any) -> None:
        wanted = each.name
        if type(value) is FunctionType and not each.assigned:
            wanted = f"{each.name}()"
        elif issubclass(type(value), type) and not each.assigned:
            wanted = f"class {each.name}"
        label = self._label(wanted)
        weak = None if each.changing else _weakly(each.value)
        self._watch._entries.append((label, weak or each.counted))
        if not each.changing:
            self._inside(each.value)

    def _watch_over(self, each: Reference) -> None:
        """Note where something was found, so that a change is noticed; not what changes itself."""
        if each.changing:
            return
        if each.value is MISSING and not isinstance(each.holder, CellType):
            absent = self._watch._absent.setdefault(id(each.holder), (each.holder, set()))[1]
            absent.add(each.name.rpartition(".")[2])
            return
        if isinstance(each.holder, CellType):
            self._watch._cells.append((each.holder, each.value))
            return
        name = each.name.rpartition(".")[2]
        if (weak := _weakly(each.value)) is not None:
            self._watch._weak.append((each.holder, name, weak))
        else:
            self._bound.setdefault(id(each.holder), (each.holder, {}))[1][name] = each.value

    def _members(self, name: str, value: type) -> None:
        """Follow a class's methods, bases, and the class that it is of."""
        for key, member in members_of(value):
            if (method := _method(member)) is not None:
                self._follow(f"{name}.{key}", method)
        for base in (*bases_of(value), type(value)):
            if _is_own(base):
                self._follow(_last(base.__qualname__), base)

    def _watch_class(self, value: type, without: Collection[str]) -> None:
        namespace = type.__dict__["__dict__"].__get__(value)
        watched = {
            name: member
            for name, member in members_of(value)
            if member is namespace[name] and name not in without  # not what code changes
        }
        self._watch._sizes.append((namespace, len(namespace)))
        if watched:
            self._bound[id(value)] = (namespace, watched)

    def _inside(self, value: Any) -> None:
        """Follow the functions and classes of the user's that stand in a value."""
        for each in islice(_functions_in(value), _FOLLOWED):
            self._follow(_last(each.__qualname__), each)


def _is_own(value: Any) -> bool:
    """Whether something is a function or class that the user wrote."""
    if type(value) is FunctionType:
        return not is_foreign_file(value.__code__.co_filename)
    return _is_own_class(value)


def _functions_in(value: Any) -> Iterator[Any]:
    """Give the user's functions and classes in a value, as far as a short look finds them."""
    due: list[Any] = [value]
    seen: set[int] = set()
    while due and len(seen) < _LOOKED_INTO:
        each = due.pop()
        if type(each) in ATOMS or id(each) in seen:
            continue
        seen.add(id(each))
        if _is_own(each):
            yield each
        else:
            due += _parts_of_it(each)


def _parts_of_it(each: Any) -> Iterable[Any]:  # noqa: PLR0911 - one line per kind of value
    """Return where functions may stand in a value."""
    kind = type(each)
    if kind is FunctionType:  # of a package, such as a decorator's
        return map(inside, each.__closure__ or ())
    if kind in (list, tuple):
        return islice(each, _LOOKED_INTO)
    if kind in (set, frozenset):
        return _in_order(each)
    if kind is dict:
        return islice(list(each.values()), _LOOKED_INTO)
    if kind is MethodType:
        return (each.__func__, each.__self__)
    if issubclass(kind, partial):
        return (each.func, *each.args, *each.keywords.values())
    return () if issubclass(kind, (type, ModuleType)) else _around(each)


def _in_order(members: Collection[Any]) -> list[Any]:
    """Return the functions and classes of a small set in an order that every process finds."""
    if len(members) > _LOOKED_INTO:
        return []
    found = [each for each in list(members) if _is_own(each)]
    return sorted(found, key=lambda each: (each.__qualname__, digest_of(each, lenient=True)))


def _around(value: Any) -> tuple[Any, ...]:
    """Return what an object's behaviour is: its class, or the function that it wraps."""
    if (plain := plain_function(value)) is not None:
        return (plain,)
    if type(value).__module__ == "functools":
        return (getattr(value, "__wrapped__", None),)
    return (type(value),)


class _Weak(ref[Any]):
    """Stands for something large that is not kept alive."""

    __slots__ = ()


def _weakly(value: Any) -> _Weak | None:
    """Return a weak reference to a large array or table of an installed package."""
    kind = type(value)
    if (
        kind in ATOMS
        or kind in (FunctionType, ModuleType, Named, Own)
        or issubclass(type(value), type)
    ):
        return None
    module = str(getattr(kind, "__module__", ""))
    if module.partition(".")[0] in sys.stdlib_module_names or not is_foreign_module(module):
        return None
    try:
        size = getattr(value, "nbytes", _LARGE)
        return _Weak(value) if isinstance(size, int) and size >= _LARGE else None
    except Exception:  # noqa: BLE001 - foreign code; then it is held as any value is
        return None
