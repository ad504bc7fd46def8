"""Which language a problem is written in, as far as prompts need to know: Chinese, or anything else.

Input: a problem's text. Output: `zh` or `en`. ViRL39K mixes both; a caption in the question's language is what training
needs. Formulas, options' letters and `<image>` tags say nothing.
Not covered: telling other languages apart, they are asked in English.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LANGUAGES = ("en", "zh")

_SILENT = re.compile(r"<image>|\$\$.*?\$\$|\$[^$]*\$|\\\(.*?\\\)|\\\[.*?\\\]|\\[A-Za-z]+", re.DOTALL)
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_WORD = re.compile(r"[A-Za-zÀ-ÿ]+[a-zà-ÿ]")
"""At least two letters, the last one small: names of triangles are no words."""


def language_of(question: str, choices: Sequence[str] = ()) -> str:
    """`zh` where there are at least as many Chinese characters as other words, else `en`.

    A question without either is told by its options.
    """
    for text in (question, " ".join(choices)):
        # Some sources put whole Chinese problems between dollars: only words of letters are looked for outside.
        han, words = len(_HAN.findall(text)), len(_WORD.findall(_SILENT.sub(" ", text)))
        if han or words:
            return "zh" if han >= max(words, 1) else "en"
    return "en"
