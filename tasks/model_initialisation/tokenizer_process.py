"""The process of `tokenizer_trial.py`: a script of tokenizers and the standard library alone, started by its path, with
the file and the texts as JSON on stdin.

It sets its limits before it looks at the file, so that a regular expression without end, a vocabulary that fills the
memory, and what panics in Rust end this process and nothing else.
"""

import json
import resource
import signal
import sys

from tokenizers import Tokenizer


def limit(seconds: float, memory_bytes: int) -> None:
    """Limit processor time and memory of this process."""
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    for kind, most in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (most, most))


def main() -> int:
    task = json.load(sys.stdin)
    limit(task["seconds"], task["memory_bytes"])
    try:
        tokenizer = Tokenizer.from_file(task["file"])
        for text in task["texts"]:
            tokenizer.decode(tokenizer.encode(text, add_special_tokens=True).ids)
    except BaseException as error:  # noqa: BLE001 - a panic of Rust's is no Exception
        sys.stderr.write(" ".join(str(error).split())[:160] or type(error).__name__)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
