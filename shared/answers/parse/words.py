"""Answers that are words: yes and no, plain text, sentences around a number, and option letters.

All functions are pure, linear and total. A choice is read from its usual written forms only; where two letters are
named, nothing is chosen.
"""

from __future__ import annotations

import re

from shared.answers.parse.normalise import normalise, normalise_text

_YES = frozenset(("yes", "true", "是", "对", "正确", "是的", "对的"))
_NO = frozenset(("no", "false", "否", "错", "错误", "不是", "不对", "不正确"))
_MARKS = {**dict.fromkeys("√✓✔☑", True), **dict.fromkeys("×✗✘✖╳❌", False)}
_NOTHING = frozenset(
    ["no solution", "no solutions", "there is no solution", "there are no solutions", "no solution exists",
     "no solutions exist", "empty set", "the empty set", "无解", "方程无解", "空集",
     "\\emptyset", "\\varnothing", "\\{ \\}", "\\{\\}", "∅"]
)  # fmt: skip
_FIRST_WORD = re.compile(r"^([a-z]+|[^\x00-\x7f]+?)(?:$|[\s,.;:!]\s*(.*)$)", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]+")

_PROSE = re.compile(
    r"^[A-Za-z ,'\"]{0,90}?\b(?:is|are|equals|equal to|answer|be|was|gives|get|have|has|result|value)\b\s*:?\s*(?=\S)",
    re.ASCII | re.IGNORECASE,
)
_PROSE_HEDGE = re.compile(
    r"^(?:about|approximately|approx\.?|roughly|around|nearly|exactly|just|only|equal to|约|大约|约为|等于)\s*",
    re.IGNORECASE,
)
_CONNECTIVE = re.compile(
    r"^(?:(?:so|thus|hence|therefore|consequently|finally|then)(?![A-Za-z])|(?:最终|正确)?答案(?:是|为|(?=\s*:))|所以|因此|故(?!选)|即|答(?!案)|解得|解(?!析|集))\s*[,:]?\s*(?=\S)",
    re.IGNORECASE,
)
_CHINESE_PROSE = re.compile(r"^[^\x00-\x2f\x3a-\x7f]{0,30}(?:是|为|等于|答案|得|有|共)\s*:?\s*(?=[\x00-\x7f])")
_PROSE_END = re.compile(r"\s+is (?:the|my) (?:final |correct )?(?:answer|result)$", re.IGNORECASE)
_DENIAL = re.compile(
    r"\b(?:not|no|never|neither|isn't|aren't|without|except|cannot|can't|wrong|incorrect|false|instead|unless|if|\w+n't|student's|student"
    r"|(?:opposite|reciprocal|inverse|half) of|twice|double|triple)\b|不|非|无|错|倒数|相反"
)
"""Words before a value that say it is not the answer, or not yet."""
_QUESTION = re.compile(r"^(?:is|are|was|does|do|can|could|what|which|how)\b.*\?$", re.IGNORECASE | re.DOTALL)


def denies(text: str) -> bool:
    """Whether a text holds a word such as not, wrong or except."""
    return _DENIAL.search(text.lower()) is not None


def truth_of(text: str) -> bool | None:
    """True for yes and true, False for no and false, None for anything else.

    "Yes, it is" is yes; "Yes/No" is neither.
    """
    if (mark := _MARKS.get(text.strip(" $().（）"))) is not None:
        return mark
    words = normalise_text(text)
    match = _FIRST_WORD.match(words)
    if match is None or len(words) > 400:
        return None
    first, rest = match.group(1), match.group(2) or ""
    answer = True if first in _YES else False if first in _NO else None
    if answer is None or not rest:
        return answer
    if words[len(first)] not in ",.;:!":  # "no solution" is not a no
        return None
    opposite = _NO | {"or", "not"} if answer else _YES | {"or"}
    return None if any(word in opposite for word in _WORD.findall(rest)) else answer


def is_truth_word(text: str) -> bool:
    """Whether a gold is exactly yes, no, true or false (or their Chinese words)."""
    return normalise_text(text) in _YES | _NO or text.strip(" $().（）") in _MARKS


def is_nothing(text: str) -> bool:
    """Whether an answer says that there is no solution: the empty set, in words or as a sign."""
    return normalise_text(text) in _NOTHING


def same_text(gold: str, pred: str) -> bool:
    """Equal after normalisation (paper, 3.2: lower case, white space), without a leading article or "the answer is"."""
    mine, theirs = _without_article(normalise_text(gold)), _without_article(normalise_text(pred))
    mine, theirs = mine.replace("solutions", "solution"), theirs.replace("solutions", "solution")
    if mine == theirs:
        return bool(mine)
    return _without_article(normalise_text(without_prose(pred))) == mine != ""


def without_hedge(text: str) -> str:
    """The value in "about 2.65" or "approximately 3"."""
    return _PROSE_HEDGE.sub("", normalise(text))


def _without_article(text: str) -> str:
    for article in ("the ", "a ", "an "):
        if text.startswith(article) and len(text) > len(article):
            return text[len(article) :]
    return text


def without_prose(text: str) -> str:
    """The answer inside "The answer is 12 cm." or "about 5".

    The text itself where there is no such frame, or a denial in it.
    """
    s = _PROSE_END.sub("", normalise(text))
    if text.rstrip().endswith("?") and _QUESTION.match(text.strip()):
        return s
    for pattern in (_CONNECTIVE, _PROSE, _PROSE, _CHINESE_PROSE, _PROSE_HEDGE, _PROSE_HEDGE):
        match = pattern.match(s)
        if match and match.end() and not _DENIAL.search(match.group().lower()):
            s = s[match.end() :]
    return s


_LETTER_FRAME = re.compile(
    r"^(?:(?:i(?=\s+(?:choose|pick|select))|it(?=\s+is)|pick|the|correct|final|right|best|my|answer|option|choice|select|choose|is|are|so|thus|therefore|hence)(?![A-Za-z])"
    r"|我(?=选|的答案|认为|觉得)|认为|觉得|的(?=答案)|所以|因此|应该|选择|选项|正确|最终|故选|应选|选|答案|是|为|[\s:,=])+",
    re.IGNORECASE,
)
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|rm|bf|operatorname)\s*\{([^{}]*)\}")
_ONE = re.compile(r"^[(\[<]?\s*([A-Ja-j])\s*[)\]>]?(?:选项|项)?$")
_ONLY_LETTERS = re.compile(r"^[A-J](?:\W{1,3}[A-J])*\W*$")
_MANY = re.compile(r"^[(\[{]?\s*\(?[A-J]\)?(?:(?:\s*(?:,|;|&|/)\s*|\s+and\s+|\s*和\s*|\s+)\(?[A-J]\)?){1,9}\s*[)\]}]?$")
_RUN = re.compile(r"^[A-J]{2,10}$")
_WITH_CONTENT = re.compile(
    r"^(?:[(\[]\s*([A-Ja-j])\s*[)\]]\s*[.:,]?|([A-Ja-j])\s*[.):]|([A-J])\s*[,;])\s*(\S.*)$", re.DOTALL
)
_SPACED_CONTENT = re.compile(r"^([A-J])\s+([^A-Za-z\s].*|is (?:the )?(?:correct|right).*)$", re.DOTALL)
_ANOTHER_OPTION = re.compile(
    r"(?<![A-Za-z\\$(])(?:\(\s*[A-J]\s*\)|[A-J]\s*[.):](?!\w))|(?<![A-Za-z\\])(?:or|and)\s+\(?[A-J]\)?(?![A-Za-z])|(?:^|[,;/]\s*)[A-J](?=\s*(?:$|[,;/]))"
)
_REFUSED = re.compile(r"\b(?:not|wrong|incorrect|false|isn't)\b|错|不")


_OR = re.compile(r"(?:or|and)(?![A-Za-z])|或|和", re.IGNORECASE)
_JOINED = re.compile(r"(?:\b(?:or|and|not)|或|和)\s*$", re.IGNORECASE)
_LETTER_BEHIND = re.compile(r"^(\S.*?)(?:[\s,;]*[(\[]\s*([A-J])\s*[)\]]|\s*[,;]\s*([A-J]))$", re.DOTALL)


def letter_behind(text: str) -> tuple[str, str] | None:
    """The option letter that stands behind a text, and the text: `18 (C)`, `18, C`. None where there is none."""
    match = _LETTER_BEHIND.match(normalise(text).strip(" .")) if len(text) <= 600 else None
    if match is None:
        return None
    before, letter = match.group(1), match.group(2) or match.group(3)
    refused = _ONLY_LETTERS.match(before) or _JOINED.search(before) or _REFUSED.search(before.lower())
    return None if refused else (letter, before)


def letters_in(text: str) -> tuple[frozenset[str], str] | None:  # noqa: PLR0911
    r"""The option letters that an answer names, and the content that stands after a single letter ("(B) 12 cm").

    None where the text is no choice: no letter, several options written out ("A. 5 B. 6"), "A or B", or a denial.
    """
    s = normalise(text)
    if len(s) > 600:
        return None
    if "\\" in s:
        s = _TEXT_COMMAND.sub(lambda m: m.group(1), s)
    s = s.replace("**", "").replace("$", "").strip(" .")
    framed = _LETTER_FRAME.match(s)
    if framed and framed.end() < len(s) and framed.end() != 0:
        s = s[framed.end() :].strip()
    if match := _ONE.match(s):
        return frozenset(match.group(1).upper()), ""
    if _RUN.match(s) and len(set(s)) == len(s):
        return frozenset(s), ""
    if _MANY.match(s):
        named = [c for c in s if c in "ABCDEFGHIJ"]
        return (frozenset(named), "") if len(set(named)) == len(named) else None
    match = _WITH_CONTENT.match(s) or _SPACED_CONTENT.match(s)
    if match is None:
        return None
    *letters, content = match.groups()
    letter = next(filter(None, letters))
    several = _ONLY_LETTERS.match(content) or _OR.match(content) or _ANOTHER_OPTION.search(content)
    if several or _REFUSED.search(content.lower()):
        return None
    return frozenset(letter.upper()), content
