"""Code that is wrong does not pass, whatever it does to the process it runs in; code that is right does."""

# ruff: noqa: E501 - programs
from __future__ import annotations

import time

import psutil
import pytest

from tasks.contracts.errors import PipelineError
from tasks.synthesis.checks.python import PythonCheck

TESTS = "assert add(1, 2) == 3\nassert add(2, 2) == 4"
ALWAYS = """
class Always:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    def __le__(self, other): return True
    def __gt__(self, other): return True
    def __ge__(self, other): return True
    def __contains__(self, item): return True
    def __sub__(self, other): return self
    def __rsub__(self, other): return self
    def __abs__(self): return self
    def __bool__(self): return True
    def __hash__(self): return 3
    def __getitem__(self, key): return self
    def __iter__(self): return iter([self])
    def __len__(self): return 1
    def __class_getitem__(cls, item): return cls
def add(*_): return Always()
"""
FORGED = {
    "exit": ("import os\nos._exit(0)", TESTS),
    "exit when called": ("import os\ndef add(a, b): os._exit(0)", TESTS),
    "sys.exit": ("import sys\ndef add(a, b): sys.exit(0)", TESTS),
    "atexit": ("import atexit, os\natexit.register(lambda: os.write(1, b'passed\\n'))\ndef add(a, b): return 0", TESTS),
    "frames": (
        "import sys\ndef add(a, b):\n    frame = sys._getframe()\n    while frame:\n"
        "        for name, value in list(frame.f_locals.items()):\n"
        "            if hasattr(value, 'send'):\n                try: value.send({'verdict': 'passed', 'value': 3})\n"
        "                except Exception: pass\n        frame = frame.f_back\n    return 0",
        TESTS,
    ),
    "writes everywhere": (
        "import os\ndef add(a, b):\n    for f in range(32):\n        try: os.write(f, b'\\npassed\\n')\n"
        "        except OSError: pass\n    return 0",
        TESTS,
    ),
    "named like a verdict": ("class passed(Exception): pass\ndef add(a, b): raise passed", TESTS),
    "named like two lines": ("E = type('x\\npassed', (Exception,), {})\ndef add(a, b): raise E", TESTS),
    "fails like a verdict": ("raise type('x\\npassed', (Exception,), {})", TESTS),
    "prints": ("def add(a, b):\n    print('passed')\n    return 0", TESTS),
    "always equal": (ALWAYS, TESTS),
    "always in": (ALWAYS, "assert 3 in add(1, 2)"),
    "always near": (ALWAYS, "assert abs(add(1, 2) - 3) < 0.1"),
    "always among": (ALWAYS, "assert add(1, 2) in (3,)"),
    "always equal to one another": (ALWAYS, "assert add(1, 2) == add(3, 4)"),
    "never different": (ALWAYS, "assert not add(1, 2) != 3"),
    "all": ("def all(x): return True\ndef add(a, b): return 0", "assert all(add(i, i) == 2 * i for i in range(1, 3))"),
    "abs": ("def abs(x): return 0\ndef add(a, b): return 0", "assert abs(add(1, 2) - 3) < 1"),
    "builtins": ("import builtins\nbuiltins.all = lambda x: True\ndef add(a, b): return 0", "assert all([add(1, 2) == 3])"),
    "str": ("class S(str):\n    def __eq__(self, o): return True\n    __hash__ = str.__hash__\ndef add(a, b): return S('x')", TESTS),
    "int": ("class I(int):\n    def __eq__(self, o): return True\n    __hash__ = int.__hash__\ndef add(a, b): return I(0)", TESTS),
    "list": ("class L(list):\n    def __eq__(self, o): return True\ndef add(a, b): return L()", "assert add(1, 2) == [3]"),
    "callback": (
        "def add(a, f):\n    for name in ('__globals__', '__code__', '__closure__'):\n        getattr(f, name)\n    return 3",
        "expected = 3\nassert add(1, lambda: expected) == expected",
    ),
    "kills": ("import os, signal\ndef add(a, b):\n    os.kill(-1, 9)\n    os.kill(os.getppid(), 9)\n    return 0", TESTS),
    "broken line": ("import socket, os\nfor f in range(3, 32):\n    try: os.close(f)\n    except OSError: pass\ndef add(a, b): return 3", TESTS),
    "another protocol": (
        "import json, os\ndef say(m):\n    d = json.dumps(m).encode()\n    for f in range(3, 32):\n"
        "        try: os.write(f, len(d).to_bytes(8, 'big') + d)\n        except OSError: pass\n"
        "def add(a, b):\n    for _ in range(9): say({'value': ['builtin', 'exit']}); say({'names': ['add']})\n    return 0",
        TESTS,
    ),
    "memory": ("def add(a, b):\n    x = []\n    while True: x.append(bytearray(10**7))", TESTS),
    "no test of it": ("def add(a, b): return 0", "assert 1 + 1 == 2"),
    "fork": ("import os\ndef add(a, b):\n    while True:\n        os.fork()", TESTS),
    "longs": ("def add(a, b): return 10 ** 10 ** 8", TESTS),
}  # fmt: skip


@pytest.fixture(scope="module")
def check() -> PythonCheck:
    made = PythonCheck(seconds=2, memory_mb=256)
    try:
        made.run("x = 1", "assert x == 1")
    except PipelineError:
        pytest.skip("this machine does not allow namespaces")
    return made


@pytest.mark.parametrize("attack", FORGED)
def test_wrong_code_does_not_pass(attack: str, check: PythonCheck) -> None:
    assert check.run(*FORGED[attack]) is not None


@pytest.mark.parametrize("attack", ["exit", "frames", "writes everywhere", "always equal", "all", "kills"])
def test_wrong_code_does_not_pass_without_isolation_either(attack: str) -> None:
    assert PythonCheck(seconds=2, isolated=False).run(*FORGED[attack]) is not None


SEES = {
    "processes": "import os\ndef f(): return os.path.exists('/proc') and os.listdir('/proc') or []",
    "files": (
        "import os\ndef f():\n    kept = ('/lib', '/lib64', '/usr/lib', '/usr/lib64', os.path.dirname(os.__file__))\n"
        "    found = []\n    for d, folders, names in os.walk('/'):\n"
        "        folders[:] = [f for f in folders if os.path.join(d, f) not in (*kept, '/dev')]\n"
        "        found += [os.path.join(d, n) for n in names]\n    return found"
    ),
    "environment": "import os\ndef f(): return [k for k in os.environ if k not in ('PATH', 'LC_CTYPE')]",
    "network": "import socket\ndef f():\n    try: socket.socket(); return 'open'\n    except OSError: return []",
    "shell": "import subprocess\ndef f():\n    try: subprocess.run(['/bin/true']); return 'run'\n    except OSError: return []",
    "threads": "import threading\ndef f():\n    try: threading.Thread(target=print).start(); return 'run'\n    except RuntimeError: return []",
    "disk": "import os\ndef f():\n    found = []\n    for p in ('/x', '/dev/x', '/lib/x', '/tmp/x'):\n        try: open(p, 'w').write('x'); found.append(p)\n        except OSError: pass\n    return found",
    "privileges": "import ctypes\ndef f():\n    c = ctypes.CDLL(None)\n    return [n for n, r in (('unshare', c.unshare(0x10000000)), ('umount', c.umount2(b'/', 2)), ('mount', c.mount(b'none', b'/', b'tmpfs', 0, None))) if r == 0]",
}  # fmt: skip


@pytest.mark.parametrize("what", SEES)
def test_code_sees_nothing_of_the_machine(what: str, check: PythonCheck) -> None:
    assert check.run(SEES[what], "assert list(f()) == []") is None


RIGHT = {
    "mutation": ("def sort(x): x.sort()", "x = [3, 1]\nassert sort(x) is None\nassert x == [1, 3]"),
    "classes": (
        "class Stack:\n    def __init__(self): self.items = []\n    def push(self, x): self.items.append(x)\n"
        "    def pop(self): return self.items.pop()\n    def __len__(self): return len(self.items)\n"
        "    def __contains__(self, x): return x in self.items\n    def __getitem__(self, i): return self.items[i]",
        "s = Stack()\ns.push(1)\ns.push('a')\nassert len(s) == 2 and 'a' in s and s[0] == 1 and isinstance(s, Stack)\n"
        "assert s.pop() == 'a'\nassert s.items == [1]\nassert s is not None and s != None",
    ),
    "errors": (
        "class Wrong(ValueError): pass\ndef f(x):\n    if x < 0: raise Wrong('negative')\n    return x // 0 if x else 1",
        "try:\n    f(-1)\n    assert False\nexcept Wrong as error:\n    assert str(error) == 'negative'\n"
        "try:\n    f(-1)\n    assert False\nexcept ValueError:\n    pass\n"
        "try:\n    f(1)\n    assert False\nexcept ZeroDivisionError:\n    pass\nassert f(0) == 1",
    ),
    "equality": (
        "from dataclasses import dataclass\n@dataclass(frozen=True, order=True)\nclass P:\n    x: int\n    y: int\n"
        "    def __add__(self, o): return P(self.x + o.x, self.y + o.y)",
        "assert P(1, 2) + P(1, 1) == P(2, 3)\nassert P(1, 2) != P(1, 3)\nassert P(1, 2) < P(1, 3)\n"
        "assert len({P(1, 2), P(1, 2)}) == 1\nassert (P(1, 2) + P(0, 1)).y == 3",
    ),
    "generators": ("def count(n):\n    for i in range(n): yield i", "assert list(count(3)) == [0, 1, 2]\nassert next(count(1)) == 0"),
    "callbacks": ("def apply(f, xs): return [f(x) for x in xs]", "assert apply(lambda x: x + 1, [1, 2]) == [2, 3]\nassert apply(len, ['ab']) == [2]"),
    "own builtin": ("def sum(xs):\n    t = 0\n    for x in xs: t += x\n    return t", "assert sum([1, 2]) == 3"),
    "data": (
        "import datetime, decimal, collections, fractions\ndef f():\n    return (1, 2.5, None, True, b'x', {1: [2]}, {3}, 1j, 10**5000,\n"
        "        datetime.date(2024, 1, 2), decimal.Decimal('1.5'), fractions.Fraction(1, 3), collections.Counter('aab'))",
        "from datetime import date\nfrom decimal import Decimal\nfrom fractions import Fraction\nfrom collections import Counter\n"
        "assert f() == (1, 2.5, None, True, b'x', {1: [2]}, {3}, 1j, 10**5000, date(2024, 1, 2), Decimal('1.5'), Fraction(1, 3), Counter('aab'))",
    ),
    "printing": ("def hello(): print('hi')", "import io, contextlib\nout = io.StringIO()\nwith contextlib.redirect_stdout(out):\n    hello()\nassert out.getvalue() == 'hi\\n'"),
    "asyncio": ("import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 5", "import asyncio\nassert asyncio.run(f()) == 5"),
    "enum": ("import enum\nclass C(enum.Enum):\n    RED = 1", "assert C.RED is C.RED and C.RED.value == 1 and C['RED'] == C(1)"),
    "context": ("class M:\n    def __enter__(self): return 3\n    def __exit__(self, *_): self.left = True", "m = M()\nwith m as x:\n    assert x == 3\nassert m.left"),
    "named": ("from collections import namedtuple\nT = namedtuple('T', 'a b')\ndef f(): return T(1, 2)", "assert f() == (1, 2) and f().a == 1"),
    "library": ("import math, re, itertools, functools, json, heapq, bisect, random, string\ndef f(x): return math.sqrt(x)", "import math\nassert math.isclose(f(2), 2 ** 0.5)"),
    "tests with functions": ("def add(a, b): return a + b", "def test():\n    assert add(1, 2) == 3\n    assert [add(i, 1) for i in range(2)] == [1, 2]\ntest()"),
}  # fmt: skip


@pytest.mark.parametrize("kind", RIGHT)
def test_right_code_passes(kind: str, check: PythonCheck) -> None:
    assert check.run(*RIGHT[kind]) is None


def test_nothing_is_left_and_time_is_bounded(check: PythonCheck) -> None:
    began = time.monotonic()
    assert check.run("def f():\n    while True: pass", "assert f()") == "its code takes too long"
    assert check.run("while True: pass", "assert f()") == "its code takes too long"
    assert time.monotonic() - began < 15
    assert not [child for child in psutil.Process().children(recursive=True) if "sandbox" in " ".join(child.cmdline())]
