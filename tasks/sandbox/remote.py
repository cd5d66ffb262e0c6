"""Tests in one process use an answer in another: plain data are passed by value, all else by number.

The judge runs the tests. A name that they do not define is asked of the answer's process; functions, classes and
objects of the answer are stand-ins there (`Remote`) whose use is a request. What comes back is data, and the judge
compares it itself, so whatever the answer's code does to its own process, it can only return values: it sees the
arguments of calls, never the values that are expected, and nothing that it writes is a verdict. An object of the answer
never equals plain data, and one that claims to equal, to contain or to be less than anything at all is not believed.

A script of the standard library alone, as `processes.py`.
"""

import asyncio
import builtins
import collections
import contextlib
import datetime
import decimal
import enum
import fractions
import io
import itertools
import json
import operator
import secrets
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

LONGEST = 64 * 1024**2
DEEPEST = 100
# Types of the standard library that are data: how to take them apart, and to put them together.
STANDARD: dict[type, tuple[Callable[[Any], list[Any]], Callable[..., Any]]] = {
    decimal.Decimal: (lambda value: [str(value)], decimal.Decimal),
    fractions.Fraction: (lambda value: [value.numerator, value.denominator], fractions.Fraction),
    datetime.datetime: (lambda value: [value.isoformat()], datetime.datetime.fromisoformat),
    datetime.date: (lambda value: [value.isoformat()], datetime.date.fromisoformat),
    datetime.time: (lambda value: [value.isoformat()], datetime.time.fromisoformat),
    datetime.timedelta: (lambda value: [value.days, value.seconds, value.microseconds], datetime.timedelta),
    collections.deque: (lambda value: [list(value)], collections.deque),
    complex: (lambda value: [value.real, value.imag], complex),
    range: (lambda value: [value.start, value.stop, value.step], range),
}
BY_NAME = {kind.__name__: kind for kind in STANDARD}
BUILT_IN = {kind: name for name, kind in vars(builtins).items() if isinstance(kind, type)}
MUTABLE = (list, dict, set, bytearray)
BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor", "lshift", "rshift")
UNARY = ("neg", "pos", "abs", "invert")


class Ended(BaseException):
    """The other process has ended."""


class Peer:
    """One end of the line."""

    def __init__(self, line: socket.socket, is_judge: bool) -> None:
        self.line = line
        self.is_judge = is_judge
        self.numbers = itertools.count()
        self.given: dict[int, Any] = {}  # what the other end may use, by number
        self.known: dict[int, int] = {}
        self.stand_ins: dict[int, Any] = {}
        self.printed = io.StringIO()

    # -- values ------------------------------------------------------------------------------------

    def pack(self, value: Any, depth: int = 0) -> Any:
        """A value as JSON."""
        if depth > DEEPEST:
            raise ValueError("a value is nested too deep, or contains itself")
        kind: type = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if kind is Remote or getattr(kind, "_stands_for", None) is not None:
            return ["theirs", object.__getattribute__(value, "_number")]
        if kind is type and hasattr(value, "_stands_for"):
            return ["theirs", value._stands_for]
        if kind in STANDARD:
            return ["standard", kind.__name__, self.pack(STANDARD[kind][0](value), depth + 1)]
        if kind is bytes or kind is bytearray:
            return [kind.__name__, value.hex()]
        if isinstance(value, enum.Enum):
            return self.give(value)
        if isinstance(value, tuple):
            items = [self.pack(item, depth + 1) for item in tuple.__iter__(value)]
            fields = getattr(kind, "_fields", None)
            return ["tuple", items] if fields is None else ["named", kind.__name__, list(fields), items]
        bases: tuple[Any, ...] = (list, set, frozenset)
        for base in bases:
            if isinstance(value, base):
                return [base.__name__, [self.pack(item, depth + 1) for item in base.__iter__(value)]]
        if isinstance(value, dict):
            return [
                "dict",
                [[self.pack(key, depth + 1), self.pack(item, depth + 1)] for key, item in dict.items(value)],
            ]
        for scalar in (int, float, str):
            if isinstance(value, scalar):
                return scalar.__str__(value) if scalar is str else scalar(value)
        if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ != "builtins":
            return ["error class", self.give(value)[1], value.__name__, nearest(value)]
        if isinstance(value, type) and value in BUILT_IN:
            return ["builtin", BUILT_IN[value]]
        if isinstance(value, Coroutine):
            return ["coroutine", self.give(value)[1]]
        return self.give(value)

    def give(self, value: Any) -> list[Any]:
        number = self.known.get(id(value))
        if number is None:
            number = self.known[id(value)] = next(self.numbers)
            self.given[number] = value
        return ["ours", number]

    def unpack(self, packed: Any, depth: int = 0) -> Any:
        """The value of JSON; nothing but data and stand-ins can come of it."""
        if not isinstance(packed, list):
            return packed
        if depth > DEEPEST + 5:
            raise ValueError("a value is nested too deep")
        tag, *rest = packed
        if tag == "theirs":
            return self.given[rest[0]]
        if tag == "ours":
            return self.stand_in(rest[0])
        if tag in ("bytes", "bytearray"):
            return bytes.fromhex(rest[0]) if tag == "bytes" else bytearray.fromhex(rest[0])
        if tag == "standard":
            return STANDARD[BY_NAME[rest[0]]][1](*self.unpack(rest[1], depth + 1))
        if tag == "builtin":
            kind = getattr(builtins, rest[0])
            return kind if isinstance(kind, type) else None
        if tag == "error class":
            return self.error_class(rest[0], rest[1], rest[2])
        if tag == "coroutine":
            return self.wait(rest[0])
        if tag == "dict":
            return {self.unpack(key, depth + 1): self.unpack(value, depth + 1) for key, value in rest[0]}
        if tag == "named":
            return collections.namedtuple(rest[0], rest[1])(*[self.unpack(item, depth + 1) for item in rest[2]])
        makers: dict[str, Callable[..., Any]] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
        return makers[tag]([self.unpack(item, depth + 1) for item in rest[0]])

    def stand_in(self, number: int) -> Any:
        if number not in self.stand_ins:
            self.stand_ins[number] = Remote(self, number)
        return self.stand_ins[number]

    def error_class(self, number: int, name: str, base: str) -> Any:
        if number not in self.stand_ins:
            above = getattr(builtins, base, Exception)
            above = above if isinstance(above, type) and issubclass(above, BaseException) else Exception
            self.stand_ins[number] = type(str(name), (above,), {"_stands_for": number})
        return self.stand_ins[number]

    async def wait(self, number: int) -> Any:
        return self.ask("await", ["theirs", number], packed=True)

    # -- requests ----------------------------------------------------------------------------------

    def send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode()
        try:
            self.line.sendall(len(data).to_bytes(8, "big") + data)
        except OSError as error:
            raise Ended from error

    def receive(self) -> dict[str, Any]:
        length = int.from_bytes(self._read(8), "big")
        if length > LONGEST:
            raise Ended
        try:
            message = json.loads(self._read(length))
        except ValueError as error:
            raise Ended from error
        if not isinstance(message, dict):
            raise Ended
        return message

    def _read(self, length: int) -> bytes:
        parts = bytearray()
        while len(parts) < length:
            try:
                part = self.line.recv(min(length - len(parts), 1 << 20))
            except OSError as error:
                raise Ended from error
            if not part:
                raise Ended
            parts += part
        return bytes(parts)

    def ask(self, what: str, *values: Any, packed: bool = False) -> Any:
        """Have the other end do something, answering what it asks meanwhile."""
        self.send({"ask": what, "values": list(values) if packed else [self.pack(value) for value in values]})
        while True:
            message = self.receive()
            if "ask" in message:
                self.answer(message)
                continue
            if text := message.get("printed"):
                sys.stdout.write(str(text))
            if what == "call" and self.is_judge:
                self._take_changes(values[1], message.get("changed", []))
            if "error" in message:
                raise self._error(message["error"])
            return self.unpack(message.get("value"))

    def _take_changes(self, arguments: Any, changed: Any) -> None:
        for index, packed in changed:
            mine, new = arguments[index], self.unpack(packed)
            if type(mine) is not type(new):
                continue
            if isinstance(mine, list | bytearray):
                mine[:] = new
            elif isinstance(mine, dict | set):
                mine.clear()
                mine.update(new)

    def _error(self, packed: Any) -> BaseException:
        kind: Any = self.unpack(packed[0])
        arguments = self.unpack(packed[1])
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            kind = RuntimeError
        try:
            made: BaseException = kind(*arguments)
            return made
        except Exception:  # noqa: BLE001 - such as UnicodeDecodeError, which wants more
            return RuntimeError(kind.__name__)

    def answer(self, message: dict[str, Any]) -> None:
        """Do what the other end asks."""
        reply: dict[str, Any] = {}
        try:
            values = [self.unpack(value) for value in message["values"]]
            what = message["ask"]
            # The answer may call what the tests pass to it, and no more: not look into it.
            if self.is_judge and what not in ("call", "next", "iter"):
                raise TypeError(f"not to be used in this way: {what}")
            before = [self.pack(item) for item in values[1]] if what == "call" and not self.is_judge else []
            try:
                reply["value"] = self.pack(DO[what](*values))
            finally:
                if before:
                    after = [self.pack(item) for item in values[1]]
                    reply["changed"] = [
                        [index, new]
                        for index, new in enumerate(after)
                        if new != before[index] and isinstance(values[1][index], MUTABLE)
                    ]
        except Ended:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever is raised is passed on
            reply["error"] = self._pack_error(error)
        if not self.is_judge and self.printed.tell():
            reply["printed"] = self.printed.getvalue()
            self.printed.seek(0)
            self.printed.truncate()
        self.send(reply)

    def _pack_error(self, error: BaseException) -> list[Any]:
        try:
            arguments = self.pack(list(error.args))
        except BaseException:  # noqa: BLE001 - of an exception without data
            arguments = ["list", []]
        return [self.pack(type(error)), arguments]


def nearest(kind: type) -> str:
    """The built-in exception that a class is one of."""
    return next(base.__name__ for base in kind.__mro__ if base.__module__ == "builtins")


def get_name(value: Any, name: str) -> Any:
    return getattr(value, name)


def wait_for(coroutine: Any) -> Any:
    async def run() -> Any:
        return await coroutine

    return asyncio.run(run())


NUMBERS: dict[str, Callable[[Any], Any]] = {"int": int, "float": float, "index": operator.index}
DO: dict[str, Callable[..., Any]] = {
    "call": lambda function, arguments, named: function(*arguments, **named),
    "get": get_name,
    "set": setattr,
    "delete": delattr,
    "item": operator.getitem,
    "set item": operator.setitem,
    "delete item": operator.delitem,
    "length": len,
    "iter": iter,
    "next": next,
    "contains": operator.contains,
    "true": bool,
    "text": str,
    "shown": repr,
    "hash": hash,
    "is a": isinstance,
    "compare": lambda name, one, other: bool(getattr(operator, name)(one, other)),
    "compare nothing": lambda name, one: bool(getattr(operator, name)(one, object())),
    "binary": lambda name, one, other: getattr(operator, name)(one, other),
    "unary": lambda name, one: getattr(operator, name)(one),
    "number": lambda name, one: NUMBERS[name](one),
    "round": round,
    "await": wait_for,
    "enter": lambda value: type(value).__enter__(value),
    "exit": lambda value: type(value).__exit__(value, None, None, None),
}


class Remote:
    """Stands for a function, class or object of the other process."""

    __slots__ = ("_number", "_peer")

    def __init__(self, peer: Peer, number: int) -> None:
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def _ask(self, what: str, *values: Any) -> Any:
        peer: Peer = object.__getattribute__(self, "_peer")
        return peer.ask(what, *values)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._ask("call", self, list(arguments), named)

    def __getattr__(self, name: str) -> Any:
        return self._ask("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", self, name, value)

    def __delattr__(self, name: str) -> None:
        self._ask("delete", self, name)

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._ask("set item", self, key, value)

    def __delitem__(self, key: Any) -> None:
        self._ask("delete item", self, key)

    def __len__(self) -> int:
        return int(self._ask("length", self))

    def __iter__(self) -> Iterator[Any]:
        iterator: Iterator[Any] = self._ask("iter", self)
        return iterator

    def __next__(self) -> Any:
        return self._ask("next", self)

    def __contains__(self, value: Any) -> bool:
        found = self._ask("contains", self, value) is True
        with contextlib.suppress(Exception):
            if found and self._ask("contains", self, secrets.token_hex()) is True:
                raise_unbelievable("contain")
        return found

    def __bool__(self) -> bool:
        return self._ask("true", self) is True

    def __str__(self) -> str:
        return str(self._ask("text", self))

    def __repr__(self) -> str:
        return str(self._ask("shown", self))

    def __hash__(self) -> int:
        return hash(self._ask("hash", self))

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, Remote) and self._ask("is a", value, self) is True

    def __enter__(self) -> Any:
        return self._ask("enter", self)

    def __exit__(self, *_: object) -> None:
        self._ask("exit", self)

    def __int__(self) -> int:
        return int(self._ask("number", "int", self))

    def __float__(self) -> float:
        return float(self._ask("number", "float", self))

    def __index__(self) -> int:
        return int(self._ask("number", "index", self))

    def __round__(self, digits: int | None = None) -> Any:
        return self._ask("round", self, digits)

    def _compare(self, name: str, other: Any) -> bool:
        if other is self and name in ("eq", "le", "ge"):
            return True
        if not isinstance(other, Remote):
            if other is None and name == "eq":
                return False
            raise TypeError("an object of the answer is compared with a value")
        found = self._ask("compare", name, self, other) is True
        with contextlib.suppress(Exception):
            if found and self._ask("compare nothing", name, self) is True:
                raise_unbelievable("compare with")
        return found

    def __eq__(self, other: object) -> bool:
        return self._compare("eq", other)

    def __ne__(self, other: object) -> bool:
        return not self._compare("eq", other)

    def __lt__(self, other: Any) -> bool:
        return self._compare("lt", other)

    def __le__(self, other: Any) -> bool:
        return self._compare("le", other)

    def __gt__(self, other: Any) -> bool:
        return self._compare("gt", other)

    def __ge__(self, other: Any) -> bool:
        return self._compare("ge", other)


class Unbelievable(BaseException):
    """An object that claims anything."""


def raise_unbelievable(claim: str) -> None:
    raise Unbelievable(f"an object of the answer claims to {claim} everything")


def _two(name: str) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    return (
        lambda self, other: self._ask("binary", name, self, other),
        lambda self, other: self._ask("binary", name, other, self),
    )


for _name in BINARY:
    _plain = _name.strip("_")
    _forward, _backward = _two(_name)
    setattr(Remote, f"__{_plain}__", _forward)
    setattr(Remote, f"__r{_plain}__", _backward)
for _name in UNARY:
    setattr(Remote, f"__{_name}__", lambda self, _name=_name: self._ask("unary", _name, self))


# -- the two processes -------------------------------------------------------------------------------


def serve(line: socket.socket, code: str) -> None:
    """Run the answer's code, and do what the tests ask of it until they end."""
    sys.set_int_max_str_digits(0)
    peer = Peer(line, is_judge=False)
    sys.stdout = peer.printed
    names: dict[str, Any] = {"__name__": "answer"}
    try:
        exec(compile(code, "answer", "exec"), names)
    except BaseException as error:  # noqa: BLE001 - whatever the code raises is its failure
        peer.send({"failed": type(error).__name__})
        return
    DO["name"] = lambda name: names[name]
    peer.send({"names": sorted(name for name in names if not name.startswith("__"))})
    with contextlib.suppress(Ended):
        while True:
            peer.answer(peer.receive())


def describe_error(name: str) -> str:
    """The verdict for what was raised; the answer may have named it, so that it must not look like another verdict."""
    return f"error {name if name.isidentifier() else 'Exception'}"


class Names(dict[str, Any]):
    """The names of the tests: their own, those of the answer, those of Python.

    Args:
        peer: The line to the answer.
        names: What the answer defines.
        own_builtins: Of a name that both Python and the answer define, take Python's.
    """

    def __init__(self, peer: Peer, names: set[str], own_builtins: bool) -> None:
        super().__init__(__name__="tests", __builtins__=builtins)
        self.peer, self.own_builtins = peer, own_builtins
        self.names = names
        self.used: set[str] = set()

    def __missing__(self, name: str) -> Any:
        if name not in self.names:
            raise KeyError(name)
        self.used.add(name)
        if self.own_builtins and hasattr(builtins, name):
            raise KeyError(name)
        return self.peer.ask("name", name)


def judge(line: socket.socket, tests: str, own_builtins: bool) -> str:
    """Run tests against the answer at the other end of the line.

    Returns:
        ``passed``; ``passed hiding`` where the tests used a built-in name that the answer defines; ``unused`` where
        they used nothing of the answer; ``ended`` where its process did; or ``error`` and the name of what was raised.
    """
    sys.set_int_max_str_digits(0)
    peer = Peer(line, is_judge=True)
    try:
        ready = peer.receive()
        if "failed" in ready:
            return describe_error(str(ready["failed"]))
        names = Names(peer, {str(name) for name in ready.get("names", [])}, own_builtins)
        exec(compile(tests, "tests", "exec"), names)
    except Ended:
        return "ended"
    except BaseException as error:  # noqa: BLE001 - whatever the tests raise is the answer's failure
        return describe_error(type(error).__name__)
    if not names.used:
        return "unused"
    return "passed hiding" if any(hasattr(builtins, name) for name in names.used) else "passed"
