r"""Questions and answers as people read them on a page: formulas as simple HTML, `<image>` as a numbered picture.

Input: a row's text. Output: escaped HTML (`Markup`) of spans, `sup`, `sub` and `i` alone: no script, no font, nothing
from the network. Formulas stand in `$...$`, `$$...$$`, `\(...\)` or `\[...\]`; a text without any that holds LaTeX
commands (an answer) is one formula as a whole. What is no formula after all (`$5 and $7`, unpaired braces) stays as it
was written.
Not covered: alignment, matrices in brackets, spacing as TeX has it: a reader must recognise the problem, not print it.
"""

from __future__ import annotations

import re

from markupsafe import Markup, escape

_PART = re.compile(
    r"\$\$(?P<display>.+?)\$\$|(?<!\\)\$(?=\S)(?P<inline>[^$]*?[^\s$\\])\$(?!\d)"
    r"|\\\((?P<round>.+?)\\\)|\\\[(?P<square>.+?)\\\]|(?P<image><image>)",
    re.DOTALL,
)
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_DEEPEST = 24
"""Groups inside of groups; what is deeper is shown as it is written."""
_FRACTIONS = frozenset({"frac", "dfrac", "tfrac", "cfrac"})
_TEXTS = frozenset({"text", "textbf", "textit", "textrm", "mathrm", "mbox", "operatorname", "mathsf"})
_PLAIN = frozenset({"mathbf", "mathit", "boldsymbol", "bm", "boxed", "fbox", "displaystyle", "limits", "mathcal", "rm"})
_SIZES = frozenset({"left", "right", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "middle"})
_ACCENTS = {"overline": "\u0305", "bar": "\u0305", "hat": "\u0302", "vec": "\u20d7", "overrightarrow": "\u20d7"}
_SYMBOL_NAMES = """
alpha α beta β gamma γ delta δ epsilon ε varepsilon ε zeta ζ eta η theta θ vartheta ϑ iota ι kappa κ lambda λ
mu μ nu ν xi ξ pi π rho ρ sigma σ tau τ upsilon υ phi φ varphi φ chi χ psi ψ omega ω Gamma Γ Delta Δ Theta Θ
Lambda Λ Xi Ξ Pi Π Sigma Σ Phi Φ Psi Ψ Omega Ω times × div ÷ pm ± mp ∓ cdot · cdots ⋯ ldots … dots … le ≤ leq ≤
leqslant ≤ ge ≥ geq ≥ geqslant ≥ ne ≠ neq ≠ approx ≈ equiv ≡ sim ∼ cong ≅ propto ∝ infty ∞ angle ∠ triangle △
perp ⊥ parallel ∥ circ ° degree ° in ∈ notin ∉ subset ⊂ subseteq ⊆ supset ⊃ cup ∪ cap ∩ emptyset ∅ varnothing ∅
setminus ∖ forall ∀ exists ∃ neg ¬ land ∧ lor ∨ wedge ∧ vee ∨ to → rightarrow → leftarrow ← Rightarrow ⇒
Leftrightarrow ⇔ iff ⇔ implies ⇒ mapsto ↦ sum ∑ prod ∏ int ∫ partial ∂ nabla ∇ therefore ∴ because ∵ prime ′
star ⋆ bullet • mid | vert | lvert | rvert | lfloor ⌊ rfloor ⌋ lceil ⌈ rceil ⌉ langle ⟨ rangle ⟩ ell ℓ odot ⊙
oplus ⊕ square □ colon : lt < gt > backslash ∖
"""
"""Command, character, command, character..."""
_PAIRS = _SYMBOL_NAMES.split()
_SYMBOLS = dict(zip(_PAIRS[::2], _PAIRS[1::2], strict=True)) | {"quad": "\u2003", "qquad": "\u2003"}
_SPACES = {",": "\u2009", ";": "\u2005", ":": "\u2005", " ": " ", "!": "", "\\": "\n"}
_BOARD = dict(zip("RNZQCPE", "ℝℕℤℚℂℙ𝔼", strict=True))


def readable(text: str | None) -> Markup:
    """HTML of a question or caption: its formulas rendered, its pictures numbered, everything escaped."""
    text = text or ""
    pieces: list[Markup] = []
    at = pictures = 0
    for part in _PART.finditer(text):
        pieces.append(escape(text[at : part.start()]))
        at = part.end()
        if part["image"]:
            pictures += 1
            pieces.append(Markup('<span class="chip">image {}</span>').format(pictures))
        else:
            formula = next(part[name] for name in ("display", "inline", "round", "square") if part[name] is not None)
            pieces.append(_formula(formula, part.group()))
    return Markup("").join([*pieces, escape(text[at:])])


def readable_answer(text: str | None) -> Markup:
    """As `readable`; an answer with commands or exponents and no dollars is one formula."""
    text = text or ""
    if re.search(r"\\[A-Za-z]|[\^_]", text) and not _PART.search(text):
        return _formula(text, text)
    return readable(text)


def _formula(source: str, written: str) -> Markup:
    """HTML of one formula, or as it was `written` where it is none that can be read."""
    try:
        reader = _Reader(source)
        inner = reader.group(0)
    except (ValueError, IndexError):
        return escape(written)
    return Markup('<span class="math">{}</span>').format(inner) if reader.at == len(source) else escape(written)


class _Reader:
    """Reads one formula from left to right; `ValueError` where it cannot."""

    def __init__(self, source: str) -> None:
        self.source, self.at = source, 0

    def group(self, depth: int) -> Markup:
        """Everything up to the closing brace or the end."""
        if depth > _DEEPEST:
            raise ValueError
        pieces = []
        while self.at < len(self.source) and self.source[self.at] != "}":
            pieces.append(self.piece(depth))
        if depth and self.at >= len(self.source):
            raise ValueError
        return Markup("").join(pieces)

    def piece(self, depth: int) -> Markup:
        """One character, group, script or command."""
        character = self.source[self.at]
        if character == "\\":
            return self.command(depth)
        self.at += 1
        if character == "{":
            inner = self.group(depth + 1)
            self.at += 1
            return inner
        if character in "^_":
            inner = self.argument(depth)
            if inner == "°":
                return inner
            shape = Markup("<sup>{}</sup>") if character == "^" else Markup("<sub>{}</sub>")
            return shape.format(inner)
        if character in "~&":
            return escape(" ")
        return (
            Markup("<i>{}</i>").format(character) if character.isascii() and character.isalpha() else escape(character)
        )

    def argument(self, depth: int) -> Markup:
        """What a command or script takes: a group, or the next character or command."""
        while self.source[self.at].isspace():
            self.at += 1
        return self.piece(depth + 1)

    def command(self, depth: int) -> Markup:
        """A command with what it takes."""
        found = _COMMAND.match(self.source, self.at)
        if found is None:
            character = self.source[self.at + 1]
            self.at += 2
            return escape(_SPACES.get(character, character))
        name, self.at = found[1], found.end()
        if name in _FRACTIONS:
            shape = Markup('<span class="frac"><span>{}</span><span class="over">{}</span></span>')
            return shape.format(self.argument(depth), self.argument(depth))
        if name == "sqrt":
            degree = self.between("[]")
            sign = Markup("<sup>{}</sup>√").format(degree) if degree else Markup("√")
            return Markup('{}<span class="root">{}</span>').format(sign, self.argument(depth))
        if name in {"begin", "end"}:
            self.raw_group()
            if name == "begin" and self.source[self.at : self.at + 1] == "{":
                self.raw_group()
            return Markup("")
        return self.named(name, depth)

    def named(self, name: str, depth: int) -> Markup:
        """A command that changes how its argument looks, or stands for a character."""
        if name in _TEXTS:
            return escape(self.raw_group())
        if name == "mathbb":
            return escape("".join(_BOARD.get(character, character) for character in self.raw_group()))
        if name in _ACCENTS:
            return Markup("{}{}").format(self.argument(depth), _ACCENTS[name])
        if name in _SIZES or name in _PLAIN:
            return Markup("")
        return escape(_SYMBOLS.get(name, name if name.isalpha() and len(name) > 1 else f"\\{name}"))

    def raw_group(self) -> str:
        """A group as it is written; a command without one takes nothing."""
        while self.source[self.at : self.at + 1].isspace():
            self.at += 1
        return self.between("{}")

    def between(self, marks: str) -> str:
        """What stands between two marks here, as it is written; empty where the first does not stand here."""
        if self.source[self.at : self.at + 1] != marks[0]:
            return ""
        end = self.source.index(marks[1], self.at)
        inner, self.at = self.source[self.at + 1 : end], end + 1
        return inner
