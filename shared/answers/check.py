"""Whether a gold answer can serve as a verifiable reward. (First increment.)"""

from __future__ import annotations

from collections.abc import Sequence

from shared.answers.grade import answer_kind, grade
from shared.answers.outcome import GoldCheck


def perturb(gold: str, kind: str) -> str:
    """A wrong neighbour of a gold answer."""
    return gold + "1"


def check_gold(gold: str, kind: str | None = None, choices: Sequence[str] | None = None) -> GoldCheck:
    """Grade a gold against itself and against a wrong neighbour."""
    kind = kind or answer_kind(gold, choices)
    accepts = grade(gold, gold, kind=kind, choices=choices).correct
    refuses = not grade(perturb(gold, kind), gold, kind=kind, choices=choices).correct
    good = accepts and refuses
    return GoldCheck("verified" if good else "unverifiable", "" if good else "no_self_match", kind, gold, accepts, refuses)
