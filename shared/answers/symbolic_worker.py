"""The process behind `pool`: compares pairs with math-verify, one JSON line in, one word out.

Only here are sympy and math-verify imported. The address space is limited, and every request arms the default SIGALRM
action,
so that a worker whose parent has died does not go on for ever. Unreadable requests end the process.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys


def main() -> None:
    """Serve requests from standard input until it ends."""
    reply = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # nothing that a library prints may reach the protocol
    memory = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setrecursionlimit(3000)
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(20_000)
    from math_verify import LatexExtractionConfig, parse, verify

    target = [LatexExtractionConfig()]
    parse("$\\frac{1}{2}$", target, parsing_timeout=None)  # builds the LaTeX grammar before the first deadline runs
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    reply.write("ready\n")
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, float(request["seconds"]) + 1.0)
        try:
            gold = parse(f"${request['gold']}$", target, parsing_timeout=None)
            pred = parse(f"${request['pred']}$", target, parsing_timeout=None)
            if not any(not isinstance(item, str) for item in gold):
                word = "unread_gold"
            elif not any(not isinstance(item, str) for item in pred):
                word = "unread_answer"
            else:
                word = "same" if verify(gold, pred, timeout_seconds=None) else "different"
        except Exception:  # noqa: BLE001  whatever a library raises on hostile text, the pair is not equal
            word = "different"
        signal.setitimer(signal.ITIMER_REAL, 0)
        reply.write(word + "\n")


if __name__ == "__main__":
    main()
