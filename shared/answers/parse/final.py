r"""What an output's answer is: the one place that decides it, for rewards, evaluation and `trainer grade`.

`final_answer` takes the last `\boxed{}` (or `\fbox{}`) outside the thinking, else the last `<answer>` block, else the
first `#### 17`, else the last statement of an answer ("**Answer:** 17", "The answer is no.", 答案是D。), else a last
sentence that gives a value ("So x = 17."), else an output that is nothing but an answer. Where an output answers in
several ways, the others come along in `others`: `grade_output` accepts none that contradicts itself.

A sentence whose words deny ("The wrong answer is 5", "Half of the answer is 5") states nothing, nor does one that is
taken back afterwards. Scans are linear in the output.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from shared.answers.parse.extract import answer_blocks, answer_region, boxed_contents, extract_answer
from shared.answers.parse.reading import read
from shared.answers.parse.words import denies, letters_in, truth_of, without_prose
from shared.answers.types import Extracted
from shared.code_points import carried

LONGEST_BARE_ANSWER = 300
"""An output of one line and at most this many characters, without box or tags, is taken as the answer itself."""
LONGEST_BARE_LINES = 40
"""Likewise an output of several lines and at most this many characters (a letter or a number on each)."""
LONGEST_STATEMENT = 300
REGION_END = 20_000
"""Statements are looked for in the last so many characters."""

_MARK = re.compile(
    r"(?m)^[ \t*]*####[ \t]*((?:\\?\$|[€£¥])?[ \t]*[-+]?[ \t]*(?:\\?\$)?[ \t]*(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:/\d+)?"
    r"(?:[ \t]*\\?%|[ \t]+[A-Za-z°]+){0,2}\$?)[ \t]*[.*]*[ \t]*$"
)
_NEXT_QUESTION = re.compile(
    r"\n\s*(?:\*\*)?(?:Question|Problem|Q|Input|Instruction|问题|题目)(?:\*\*)?\s*\d*\s*[:：]", re.IGNORECASE
)
_STATEMENT = re.compile(
    r"(?<![A-Za-z])(?:(?:final|correct|right|best|my)[ \t]+)*(?:answer|(?<=correct )option|(?<=correct )choice)"
    r"(?:[ \t]+(?:to|for|of)[ \t]+[^.:：\n]{1,60}?)?"
    r"[ \t]*(?:\*\*|__|\*)?[ \t]*"
    r"(?:(?::|：|=|(?<![A-Za-z])(?:is|are|equals|would be|should be|must be)(?![A-Za-z]))[ \t]*(?:\*\*|__|\*)?[ \t]*)+"
    r"|(?:最终|正确|参考)?(?:答案|选项)(?:\*\*)?[ \t]*"
    r"(?:应该是|应为|应是|就是|为|是|[:：])[ \t]*(?:[:：])?(?:\*\*)?[ \t]*"
    r"|(?:故|应|因此|所以|正确的?)选(?:择|项)?(?:是|为)?[ \t]*[:：]?[ \t]*(?=[(（]?[A-J])",
    re.IGNORECASE,
)
_INTERJECTION = re.compile(r"^\W*(?:(?:no|wait|actually|hmm|sorry|oops)(?![A-Za-z])[\s,.!-]*)+", re.IGNORECASE)
_BECAUSE = re.compile(r",?\s+(?:because|since)\s", re.IGNORECASE)
_NOT_THIS = re.compile(r"(?:(?<![A-Za-z])(?:not|isn't|never)|\\neq?|≠|不是|不为)[ \t:]*[$({\[\\]*f?\Z", re.IGNORECASE)
_TAG = re.compile(r"</?[a-z_]{2,}")
_TELLING = ("answer", "correct option", "correct choice", "答案", "选")
"""Words of which one stands in every statement of an answer."""
_HEADING = re.compile(r"(?im)^[ \t#*_]*(?:final[ \t]+)?answer[ \t*_]*$|^[ \t#*_]*(?:最终)?答案[ \t*_]*$")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z*\\$(])|(?<=[。！？\n])")
_EXPLAINS = re.compile(
    r"^(?:because|since|this|as|here|note|we|it|the|i hope|thus|so|therefore|explanation|by|step|check|which|that"
    r"|these|there|if you|let me know)(?![A-Za-z])|^[$*\s]*(?:\\boxed|\\fbox|<answer>)",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(
    r"(?<![A-Za-z])(?:wait|actually|sorry|correction|mistake|oops|on second thought|no,|not correct|incorrect|wrong)"
    r"(?![A-Za-z])|不对|更正|错了",
    re.IGNORECASE,
)
_HEDGED = re.compile(
    r"(?<![A-Za-z])(?:or|also|could|might|maybe|perhaps|alternatively|another|either|possibly)(?![A-Za-z])|或|也可能",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"n't(?![A-Za-z])|(?<![A-Za-z])(?:previous|student's|their|his|her|initial)(?![A-Za-z])", re.IGNORECASE
)
_THEREFORE = re.compile(
    r"^(?:(?:so|thus|hence|therefore|consequently|finally|and so)(?![A-Za-z])|所以|因此|故|综上)[,，:：]?\s*\S",
    re.IGNORECASE,
)


def final_answer(output: str, found: Extracted | None = None) -> Extracted:
    """The answer of a whole model output, or of a bare answer. `source` is `none` where there is none.

    `found` spares looking for boxes where `extract_answer` was asked already.
    """
    output = carried(output)
    found = found or extract_answer(output)
    region = answer_region(output)
    ways = _ways(region, boxed=found.answer is not None)
    if found.source == "boxed" and _NOT_THIS.search(region[: region.rfind("box")][-40:]):
        return replace(found, answer=None, source="none", contents=())
    if found.answer is not None:
        tags = [(boxed_contents(block) or [block])[-1] for block in answer_blocks(region)] if found.boxes else []
        return replace(found, others=_others((*tags, *(text for _, text in ways)), found.contents))
    if ways:
        source, answer = ways[0]
        others = _others([text for _, text in ways[1:]], (answer,))
        return replace(found, answer=answer, source=source, contents=(answer,), others=others)
    bare = region.strip(" \r\n")
    longest = LONGEST_BARE_LINES if "\n" in bare else LONGEST_BARE_ANSWER
    is_bare = 0 < len(bare) <= longest and "boxed" not in bare and not _TAG.match(bare)
    if not found.boxes and (is_bare or (bare and read(bare) is not None)):  # a box left empty states nothing
        return replace(found, answer=bare, source="bare", contents=(bare,))
    return found


def _others(texts: Iterable[str], contents: Sequence[str]) -> tuple[str, ...]:
    """What is stated beside the answer in so many words and may contradict it."""
    stated = (text for text in dict.fromkeys(texts) if text not in contents and "box" not in text)
    return tuple(t for t in stated if any(says(t) is not None for says in (letters_in, read, truth_of)))


def _ways(region: str, boxed: bool) -> list[tuple[Literal["marked", "stated"], str]]:
    """The ways in which a region states an answer, the one that counts first; a box leaves no need to guess."""
    region = region[-REGION_END:]
    lowered = region.lower()
    told = "####" in region, any(word in lowered for word in _TELLING)
    ways: list[tuple[Literal["marked", "stated"], str]] = []
    if any(told):
        following = _NEXT_QUESTION.search(region)
        if following is not None and region[: following.start()].strip():
            region = region[: following.start()]
        ways = [("marked", match.group(1).strip()) for match in (told[0] and _MARK.search(region),) if match]
        ways += [("stated", text) for text in (_statements(region) if told[1] else ())]
    if not ways and not boxed and len(region.strip()) > LONGEST_BARE_LINES and (last := _last_sentence(region)):
        ways.append(("stated", last))
    return ways


def _statements(region: str) -> list[str]:
    """The last statement of an answer, or nothing where it is denied, taken back or hedged."""
    labels = [match for match in _STATEMENT.finditer(region) if not _is_denied(region, match.start())]
    headings = list(_HEADING.finditer(region))
    ends = sorted([match.end() for match in labels] + [match.end() for match in headings])
    if not ends:
        return []
    rest = region[ends[-1] :]
    stripped = rest.lstrip(" \t\n*_:：")
    line, _, after = stripped.partition("\n")
    answer, said_on = _cut(line.strip())
    if answer.endswith("}") and answer.count("}") > answer.count("{"):  # \\text{Answer: C}
        answer = answer[:-1].strip()
    behind = " ".join((*answer.split()[1:], said_on, after))
    if not answer or len(answer) > LONGEST_STATEMENT or _TAKEN_BACK.search(behind) or _HEDGED.search(said_on):
        return []
    return [answer]


def _is_denied(region: str, start: int) -> bool:
    """Whether the words before a statement in its sentence turn it into something else."""
    before = region[max(0, start - 120) : start]
    sentence = _INTERJECTION.sub("", _SENTENCE.split(before)[-1])
    return denies(sentence) or _DENIED.search(sentence) is not None


def _cut(line: str) -> tuple[str, str]:
    """A statement's answer and what is said on in its line: an explanation is cut off, anything else stays."""
    line = line.strip()
    if because := _BECAUSE.search(line):
        return line[: because.start()].strip(" *_.。"), ""
    for end in re.finditer(r"[.。!]\s*(?:\*\*|__)?\s+(?=\S)|。(?=\S)", line):
        rest = line[end.end() :]
        if _EXPLAINS.match(rest) or end.group().startswith("。"):
            return line[: end.start()].strip(" *_"), rest
    return line.rstrip("。.!").strip(" *_"), ""


def _last_sentence(region: str) -> str:
    """The last sentence where it concludes with a value: "So x = 17.", "Therefore, the area is 12 cm^2."."""
    last = _SENTENCE.split(region.strip())[-1].strip()
    if len(last) > LONGEST_STATEMENT or last.endswith("?") or not _THEREFORE.match(last) or denies(last):
        return ""
    inner = without_prose(last)
    reading = read(inner)
    return inner if reading is not None and inner != last else ""
