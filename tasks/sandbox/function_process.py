"""The process of `functions.py`: loads a Python file and calls its functions as it is told.

A script of the standard library alone, started as ``function_process.py SOCKET FILE``. A message is four bytes of
length and JSON. The file is the user's own, so nothing is isolated; what it prints goes to stderr.
"""

import importlib.util
import inspect
import json
import os
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

POLL_S = 0.5


def end_with_parent() -> None:
    """End this process when the one that started it is gone, also in the midst of a function without end."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def receive(line: socket.socket) -> Any:
    """The next message; None where the other end is closed."""
    head = line.recv(4, socket.MSG_WAITALL)
    if len(head) < 4:
        return None
    return json.loads(line.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL))


def send(line: socket.socket, message: Any) -> None:
    data = json.dumps(message, default=make_plain).encode()
    line.sendall(len(data).to_bytes(4, "big") + data)


def make_plain(value: Any) -> Any:
    """Arrays and numbers of NumPy and PyTorch as lists and numbers; of anything else its text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def describe(error: BaseException, file: str) -> str:
    """Kind, message and the line of the file where it was raised."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    place = f", line {lines[-1]}" if lines else ""
    return f"{type(error).__name__}: {error}{place}"


def load(file: str) -> Any:
    sys.path.insert(0, str(Path(file).parent))
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def describe_function(module: Any, name: str) -> dict[str, Any]:
    """Parameters of a function and its docstring; which names must be given, and whether any may be."""
    function = getattr(module, name, None)
    if not callable(function):
        return {"missing": sorted(key for key, value in vars(module).items() if inspect.isfunction(value))}
    parameters = inspect.signature(function).parameters.values()
    kinds = inspect.Parameter
    named = [p for p in parameters if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)]
    alone = [p for p in parameters if p.kind == kinds.POSITIONAL_ONLY]  # cannot be given by name
    annotated = [p for p in named if p.annotation is not kinds.empty]
    return {
        "names": [p.name for p in named],
        "needed": [p.name for p in [*alone, *named] if p.default is kinds.empty],
        "any": any(p.kind == kinds.VAR_KEYWORD for p in parameters),
        "types": {p.name: str(getattr(p.annotation, "__name__", p.annotation)) for p in annotated},
        "doc": inspect.getdoc(function) or "",
    }


def main() -> None:
    """Load the file, say whether that worked, and answer calls until the line is closed."""
    line, file = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    sys.stdout = sys.stderr
    end_with_parent()
    try:
        module = load(file)
    except BaseException as error:  # noqa: BLE001 - whatever the file raises is told
        send(line, {"error": describe(error, file)})
        return
    send(line, {"value": None})
    while (asked := receive(line)) is not None:
        try:
            if asked["about"]:
                value = describe_function(module, asked["function"])
            else:
                value = getattr(module, asked["function"])(**asked["arguments"])
            send(line, {"value": value})
        except BaseException as error:  # noqa: BLE001 - whatever the function raises is told
            send(line, {"error": describe(error, file)})


if __name__ == "__main__":
    main()
