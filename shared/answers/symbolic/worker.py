r"""The process behind `pool`: compares pairs with math-verify, one JSON line in, one word out.

Only here are sympy and math-verify imported. The address space is limited, and every request arms the default SIGALRM
action, so that a worker whose parent has died does not go on for ever; a request with `processor_seconds` also that of
SIGPROF, which counts the processor's time only. Unreadable requests end the process.

Words: `same` and `different` only where the libraries decided; `unread_gold` and `unread_answer` where a side is no
mathematics to them; `failed` where they ran out of memory or raised while comparing.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
from typing import Any

NUMERIC_DIGITS = 50
"""Digits to which math-verify compares values. Its default of 15 calls 1/2004! and 1/2006! equal."""

MIN_DIGITS_FOR_EXACT_GOLD = 6
"""As in `compare`: a decimal of fewer significant digits does not stand for an exact gold."""

_DECIMAL = re.compile(r"^(-?)(\d{0,30})\.(\d{1,40})$")


class FailedError(Exception):
    """The libraries could not come to a decision."""


def _read(text: str) -> list[Any]:
    """What math-verify makes of a text, strings left out. Raises FailedError when memory runs out."""
    from math_verify import LatexExtractionConfig, parse

    try:
        found = parse(f"${text}$", [LatexExtractionConfig()], parsing_timeout=None, raise_on_error=True)
    except (MemoryError, RecursionError) as error:
        raise FailedError(type(error).__name__) from error
    except Exception:  # noqa: BLE001  whatever the parsers raise on other text, it is not mathematics to them
        return []
    return [item for item in found if not isinstance(item, str)]


def _is_rounded(gold: Any, written: str) -> bool:
    """Whether a decimal numeral is an exact gold rounded or cut off at its last place, with enough digits."""
    match = _DECIMAL.match(written.strip())
    if match is None or len((match.group(2) + match.group(3)).lstrip("0")) < MIN_DIGITS_FOR_EXACT_GOLD:
        return False
    from sympy import Rational

    exact = Rational(written.strip())
    value = gold.doit().evalf(NUMERIC_DIGITS)
    if not value.is_real:
        return False
    ulp = Rational(1, 10 ** len(match.group(3)))
    error = abs(value - exact)
    return bool(error <= ulp / 2 or (abs(exact) < abs(value) and error < ulp))


def settle(gold_text: str, pred_text: str) -> str:
    """The word for one pair. Raises FailedError where the libraries did not decide."""
    from math_verify import verify

    gold = _read(gold_text)
    if not gold:
        return "unread_gold"
    pred = _read(pred_text)
    if not pred:
        return "unread_answer"
    failure: Exception | None = None
    for mine in gold:
        for theirs in pred:
            try:
                if _DECIMAL.match(pred_text.strip()):
                    same = _is_rounded(mine, pred_text)
                else:
                    same = verify(
                        mine,
                        theirs,
                        float_rounding=NUMERIC_DIGITS,
                        numeric_precision=NUMERIC_DIGITS,
                        timeout_seconds=None,
                        raise_on_error=True,
                    )
                if same:
                    return "same"
            except Exception as error:  # noqa: BLE001  another reading of the pair may still be equal
                failure = error
    if failure is not None:
        raise FailedError(type(failure).__name__) from failure
    return "different"


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
    settle(r"\frac{1}{2}", "0.500000")  # builds the LaTeX grammar before the first deadline runs
    for end in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(end, signal.SIG_DFL)
    reply.write("ready\n")
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, float(request["seconds"]) + 1.0)
        signal.setitimer(signal.ITIMER_PROF, float(request["processor_seconds"]))
        try:
            word = settle(request["gold"], request["pred"])
        except (FailedError, MemoryError, RecursionError):
            word = "failed"
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        reply.write(word + "\n")


if __name__ == "__main__":
    main()
