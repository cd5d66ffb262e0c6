"""A rank that trains nothing and ends as its job's ``ends.json`` says: rank to ``[what, argument]``."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

folder, rank = Path(sys.argv[1]), os.environ["RANK"]
(folder / f"pid-{rank}").write_text(str(os.getpid()))
what, argument = json.loads((folder / "ends.json").read_text()).get(rank, ["sleep", 60])
if what == "tell":
    with (folder / "messages.jsonl").open("a") as stream:
        for step in range(argument):
            stream.write(json.dumps({"kind": "metrics", "step": step}) + "\n")
            stream.flush()
            time.sleep(0.05)
elif what == "leave":
    while not (folder / "leave").exists():
        time.sleep(0.01)
    (folder / "messages.jsonl").write_text(json.dumps({"kind": "metrics", "step": argument}) + "\n")
elif what in ("fail", "lose"):
    while what == "lose" and not list(folder.glob("ending-*")):
        time.sleep(0.01)
    (folder / f"ending-{rank}").touch()
    reason = {"rank": int(rank), "expected": argument[0], "text": argument[1], "time": time.time()}
    (folder / f"error-{rank}.json").write_text(json.dumps(reason))
    sys.exit(1)
elif what == "exit":
    time.sleep(0.5)
    sys.stderr.write("no such kernel\n")
    sys.exit(argument)
elif what == "signal":
    time.sleep(0.5)
    (folder / f"ending-{rank}").touch()
    os.kill(os.getpid(), argument)
elif what == "stay":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(argument)
elif what == "follow":
    from tasks.fine_tuning.rank import end_with_parent

    end_with_parent()
    (folder / f"following-{rank}").touch()
    time.sleep(argument)
else:
    time.sleep(argument)
