r"""Takes the answer out of what a data set calls its answer, or says that it holds none.

Data sets hand over whole solutions (GSM8K: `... #### 72`; MATH: `... \boxed{72}.`), an answer with its analysis behind
it ("D", blank line, "[Analysis] ..."), words that stand where an answer is missing (`nan`, N/A), words that point
elsewhere (略, 见解析, "See the figure") and paragraphs. No model's answer equals those, so that a reward built on them
is always zero.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from shared.answers.parse.extract import boxed_contents
from shared.answers.parse.normalise import normalise, normalise_text
from shared.answers.parse.reading import read
from shared.answers.parse.words import letters_in, without_prose
from shared.answers.types import GoldAnswer

MOST_WORDS = 14
"""A gold that is no mathematics and has more words than this is a paragraph."""
MOST_WORDS_OF_SENTENCES = 8
"""Likewise a gold of several sentences."""
MOST_CHINESE = 30
"""Likewise a gold with more Chinese characters than this."""

_MARKED = re.compile(r"####[ \t]*(\S[^\n]*)")
_ANALYSIS = re.compile(
    r"\s+(?:#+\s*)?(?:[\[【(]\s*(?:analysis|solution|explanation|detailed solution"
    r"|detailed explanation|key point|comment|分析|解析|详解|解答|点睛|点评|解题过程)\s*[\])】]"
    r"|(?:analysis|explanation|detailed solution|分析|解析|详解)\s*[:：])",
    re.IGNORECASE,
)
_STATED = re.compile(
    r"(?:故答案为|故答案是|故选|答案为|答案是|[Tt]he (?:final )?answer is)\s*[:：]?\s*([^\n。]{1,200}?)\s*[。.]?\s*$"
)
_MISSING = frozenset(
    ["nan", "null", "inf", "+inf", "-inf", "n/a", "n.a", "<na>", "#n/a", "not available", "not applicable", "no answer",
     "no answer given", "answer missing", "tbd", "无答案", "暂无答案", "暂无"]
)  # fmt: skip
_POINTS_AWAY = re.compile(
    r"\bsee (?:the )?(?:analysis|solution|explanation)\b|详?见(?:试题)?(?:解析|详解|分析|解答)", re.IGNORECASE
)
_ELSEWHERE = re.compile(
    r"(?:答案|证明|解答|解析|解|图形|图|画图|作图|过程|答|说明|理由|证明过程)?\s*"
    r"(?:详?见(?:试题)?(?:解析|详解|分析|解答|答案|证明|图|下图|下|上|后|过程)|略|如(?:下|上|右|左)?图(?:所示)?|答案不唯一|不唯一)"
    r"|(?:please\s+)?(?:see|refer to)\s+(?:the\s+)?(?:[a-z]+\s+){0,2}?"
    r"(?:analysis|solution|explanation|figure|diagram|proof|below|above|answer|graph|picture|image|text|drawing)(?:\s+[a-z]+){0,3}"
    r"|as (?:shown|described|given)(?:\s+[a-z]+){0,4}|(?:(?:the )?(?:proof|answer|solution)\s+)?(?:is\s+)?omitted"
    r"|(?:the )?(?:answers?|results?)\s+(?:may|will|can)?\s*var(?:y|ies)|proof|q\.?e\.?d"
)
_COMMAND = re.compile(r"\\[A-Za-z]+|\$[^$\n]*\$")
_WORD = re.compile(r"[A-Za-z]{2,}")
_SENTENCE_END = re.compile(r"[.!?;:]\s+\S|\n")
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


def gold_answer(gold: str, choices: Sequence[str] | None = None) -> GoldAnswer:
    r"""The answer that a gold holds, or why it holds none. Never raises.

    A gold that is the text of one of `choices` is an answer whatever it says; so is anything that is read as
    mathematics or as option letters. For sources: use `answer` as the row's answer, keep the raw gold beside it, and
    note `taken`; refuse the row with `reason` where `answer` is None.
    """
    if choices and (gold in choices or normalise(gold) in map(normalise, choices)):
        return GoldAnswer(gold)
    return _gold_answer(gold)


@lru_cache(maxsize=8192)
def _gold_answer(gold: str) -> GoldAnswer:  # noqa: PLR0911
    text = gold.strip()
    if marked := _MARKED.findall(text):
        return _judged(marked[-1].strip(), "marked")
    if boxes := list(dict.fromkeys(boxed_contents(text))):
        if len(boxes) > 1:
            return GoldAnswer(None, reason="several_boxes")
        if not _is_whole_box(text):
            return _judged(boxes[0], "boxed")
        inner = _gold_answer(boxes[0])
        return inner if inner.taken or inner.answer is None else GoldAnswer(gold)
    if (analysis := _ANALYSIS.search(text)) and (head := text[: analysis.start()].strip(" \n#")):
        return _judged(head, "analysis")
    found = _judged(gold, "")
    if not found.reason and (said := _said(text)):
        return GoldAnswer(said, "stated")
    if found.reason == "paragraph" and (stated := _STATED.search(text)):
        return _judged(stated.group(1), "stated")
    return found


def _said(text: str) -> str:
    """The value in a sentence such as "The shortest path is 5 cm."; empty for anything else."""
    if not _WORD.match(text) or read(text) is not None or letters_in(text) is not None:
        return ""
    inner = without_prose(text)
    return inner if inner != normalise(text) and read(inner) is not None else ""


def _is_whole_box(text: str) -> bool:
    """Whether nothing but dollar signs and punctuation stands around a box."""
    start = text.find("\\boxed")
    return not text[: max(start, 0)].strip(" $") and not text[text.rfind("}") + 1 :].strip(" $.")


def _judged(answer: str, taken: Literal["", "marked", "boxed", "analysis", "stated"]) -> GoldAnswer:
    """The answer, unless it only says that there is none, or is a paragraph."""
    words = normalise_text(answer)
    if not answer.strip() or words in _MISSING:
        return GoldAnswer(None, reason="missing")
    if _ELSEWHERE.fullmatch(words) or _POINTS_AWAY.search(words):
        return GoldAnswer(None, reason="elsewhere")
    return GoldAnswer(None, reason="paragraph") if _is_paragraph(answer) else GoldAnswer(answer, taken)


def _is_paragraph(answer: str) -> bool:
    plain = _COMMAND.sub(" ", answer)
    words, chinese = len(_WORD.findall(plain)), len(_CHINESE.findall(plain))
    several = len(_SENTENCE_END.findall(plain.strip())) > 0
    long = words > (MOST_WORDS_OF_SENTENCES if several else MOST_WORDS) or chinese > MOST_CHINESE
    return long and read(answer) is None and letters_in(answer) is None
