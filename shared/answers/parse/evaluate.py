r"""Value of an expression: exact (a `Fraction`) wherever arithmetic allows it, else 60 significant digits (mpmath).

Two expressions are equal when they agree at several fixed generic points (Schwartz, 1980: a non-zero polynomial of
degree d vanishes at a random point of a set S with probability at most d/|S|; here three points of more than 10^4
values per variable). Every operation checks the size of its operands first, so no input can run away: `TooHardError` is
raised instead. mpmath is imported at the first irrational number, in its own context per thread (its precision is
context state).
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from math import comb, factorial, isqrt
from typing import Any

from shared.answers.parse.expression import contains, variables
from shared.answers.types import Node

MAX_BITS = 200_000
"""Exact integers may grow to this many bits (60,000 digits: 20,000! still fits)."""
MAX_MAGNITUDE = 20_000
"""Inexact values may grow to 2^20000."""
DIGITS = 60
CONFIRMING_DIGITS = 1_000
"""Values that agree to 60 digits are compared once more to this many: 1 + e^-200 is not 1."""

Number = Any  # Fraction, or mpf/mpc of this thread's context


class TooHardError(ArithmeticError):
    """The value is too large, undefined, or not covered."""


_local = threading.local()


def context() -> Any:
    """This thread's mpmath context with 60 digits."""
    ctx = getattr(_local, "ctx", None)
    if ctx is None:
        import mpmath  # type: ignore[import-untyped]

        ctx = mpmath.MPContext()
        ctx.dps = DIGITS
        _local.ctx = ctx
    return ctx


def _tiny() -> Any:
    """What counts as zero beside 1 at the present precision: eight digits are left for rounding."""
    ctx = context()
    return ctx.mpf(10) ** (8 - ctx.dps)


@contextmanager
def _digits(digits: int) -> Iterator[None]:
    """Another working precision for this thread."""
    ctx = context()
    before, ctx.dps = ctx.dps, digits
    try:
        yield
    finally:
        ctx.dps = before


def inexact(value: Number) -> Any:
    """The mpmath value of a number."""
    if isinstance(value, Fraction):
        ctx = context()
        return ctx.mpf(value.numerator) / value.denominator
    return value


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _bounded(value: Number) -> Number:
    """The value itself, if it is finite and not too large. Real results of complex arithmetic become real."""
    if isinstance(value, Fraction):
        if _bits(value) > MAX_BITS:
            raise TooHardError("too many digits")
        return value
    ctx = context()
    if not ctx.isfinite(value):
        raise TooHardError("not finite")
    if value != 0 and abs(ctx.mag(value)) > MAX_MAGNITUDE:
        raise TooHardError("too large or too small")
    if isinstance(value, ctx.mpc) and abs(value.imag) <= abs(value.real) * _tiny():
        return value.real
    return value


def value_of(node: Node, env: Mapping[str, Fraction]) -> Number:  # noqa: PLR0911
    """Value of a tree with these variable values.

    Raises TooHardError; never anything else for trees of `parse_expression`.
    """
    head = node[0]
    if head == "n":
        return node[1]
    if head == "v":
        return env[node[1]]
    if head == "c":
        return _constant(node[1])
    if head in ("+", "*", "/", "mixed"):
        return _bounded(_arithmetic(head, value_of(node[1], env), value_of(node[2], env)))
    if head == "neg":
        return -value_of(node[1], env)
    if head == "^":
        return _bounded(_power(value_of(node[1], env), value_of(node[2], env)))
    if head == "root":
        return _bounded(_root(value_of(node[1], env), value_of(node[2], env)))
    try:
        return _bounded(_special(node, env))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise TooHardError(str(error)) from None


def _constant(name: str) -> Number:
    ctx = context()
    if name in ("pi", "e"):
        return +getattr(ctx, name)
    if name == "i":
        return ctx.mpc(0, 1)
    raise TooHardError("infinite")


def _arithmetic(head: str, a: Number, b: Number) -> Number:
    if not (isinstance(a, Fraction) and isinstance(b, Fraction)):
        a, b = inexact(a), inexact(b)
    elif _bits(a) + _bits(b) > MAX_BITS:
        raise TooHardError("too many digits")
    if head in ("+", "mixed"):
        total = a + b
        if not isinstance(total, Fraction):
            size = max(abs(a), abs(b))
            if abs(total) < size * _tiny():  # the operands cancel to all digits: zero
                return context().mpf(0)
        return total
    if head == "*":
        return a * b
    if b == 0:
        raise TooHardError("division by zero")
    return a / b


def _power(base: Number, exponent: Number) -> Number:  # noqa: C901
    if isinstance(exponent, Fraction) and isinstance(base, Fraction):
        if exponent.denominator == 1:
            n = exponent.numerator
            if base == 0 and n <= 0:
                raise TooHardError("zero to a power that is not positive")
            if base in (0, 1):
                return base
            if abs(n) * max(1, _bits(base) - 1) > MAX_BITS:
                raise TooHardError("power too large")
            return base**n
        if base >= 0:
            root = _exact_root(base, exponent.denominator)
            if root is not None:
                return _power(root, Fraction(exponent.numerator))
    ctx = context()
    base, exponent = inexact(base), inexact(exponent)
    if base == 0:
        if isinstance(exponent, ctx.mpc) or exponent <= 0:
            raise TooHardError("zero to a power")
        return Fraction(0)
    if abs(ctx.mag(exponent)) > 60 or abs(exponent) * (abs(ctx.mag(base)) + 1) > MAX_MAGNITUDE:
        raise TooHardError("power too large")
    return ctx.power(base, exponent)


def _exact_root(value: Fraction, degree: int) -> Fraction | None:
    """The rational root of a non-negative rational, if it has one."""
    if degree > 64 or _bits(value) > 20_000:
        return None
    parts = []
    for n in (value.numerator, value.denominator):
        root = isqrt(n) if degree == 2 else _integer_root(n, degree)
        if root**degree != n:
            return None
        parts.append(root)
    return Fraction(parts[0], parts[1])


def _integer_root(n: int, degree: int) -> int:
    """Floor of the degree-th root, by Newton's iteration."""
    if n < 2:
        return n
    x = 1 << -(-n.bit_length() // degree)
    while True:
        y = ((degree - 1) * x + n // x ** (degree - 1)) // degree
        if y >= x:
            return x
        x = y


def _root(index: Number, value: Number) -> Number:  # noqa: PLR0911
    """Principal real root: odd roots of negative numbers are negative, as in school."""
    if not isinstance(index, Fraction) or index.denominator != 1 or not 2 <= index <= 64:
        if index == 0:
            raise TooHardError("zeroth root")
        return _power(value, 1 / index)
    degree = index.numerator
    negative = isinstance(value, Fraction) and value < 0
    if negative and degree % 2:
        return -_root(index, -value)
    if isinstance(value, Fraction) and not negative:
        exact = _exact_root(value, degree)
        if exact is not None:
            return exact
    ctx = context()
    if degree == 2:
        return ctx.sqrt(inexact(value))
    if not negative and not isinstance(value, ctx.mpc):
        if value < 0 and degree % 2:
            return -ctx.root(-inexact(value), degree)
        if value >= 0:
            return ctx.root(inexact(value), degree)
    return _power(value, Fraction(1, degree))


_NAMES = {
    "asin": "asin", "acos": "acos", "atan": "atan", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "ln": "ln",
    "arsinh": "asinh", "arcosh": "acosh", "artanh": "atanh", "arccot": "acot",
}  # fmt: skip


def _special(node: Node, env: Mapping[str, Fraction]) -> Number:  # noqa: C901, PLR0911
    """Functions, logarithms, factorials, absolute values, binomials, floors, degrees."""
    ctx = context()
    head = node[0]
    if head == "!":
        n = value_of(node[1], env)
        if isinstance(n, Fraction) and n.denominator == 1 and 0 <= n <= 12_000:
            return Fraction(factorial(n.numerator))
        if (isinstance(n, Fraction) and n.denominator == 1) or contains(node[1], "c"):
            raise TooHardError("factorial too large or undefined")
        return ctx.gamma(inexact(n) + 1)
    if head == "binom":
        n, k = value_of(node[1], env), value_of(node[2], env)
        exact = isinstance(n, Fraction) and isinstance(k, Fraction)
        if exact and n.denominator == k.denominator == 1 and 0 <= k <= n <= 5_000:
            return Fraction(comb(n.numerator, k.numerator))
        if variables(node):
            return ctx.binomial(inexact(n), inexact(k))
        raise TooHardError("binomial coefficient too large or undefined")
    if head == "abs":
        return abs(value_of(node[1], env))
    if head in ("lfloor", "lceil"):
        return _floor(value_of(node[1], env), up=head == "lceil")
    if head == "deg":
        return inexact(value_of(node[1], env)) * ctx.pi / 180
    if head == "log":
        base, inner = inexact(value_of(node[1], env)), inexact(value_of(node[2], env))
        if base in (0, 1) or inner == 0:
            raise TooHardError("logarithm undefined")
        return _whole(ctx.ln(inner) / ctx.ln(base))
    if head == "f":
        return _function(node[1], value_of(node[2], env))
    raise TooHardError(f"{head} has several values")


def _floor(value: Number, up: bool) -> Number:
    ctx = context()
    if isinstance(value, Fraction):
        return Fraction(-(-value.numerator // value.denominator) if up else value.numerator // value.denominator)
    if isinstance(value, ctx.mpc):
        raise TooHardError("floor of a complex number")
    return Fraction(int(ctx.ceil(value) if up else ctx.floor(value)))


def _whole(value: Any) -> Number:
    """An inexact value that is a small integer to all digits, as that integer (log_2 8 = 3)."""
    ctx = context()
    if isinstance(value, ctx.mpc) or abs(value) > 10**6:
        return value
    nearest = int(ctx.nint(value))
    return Fraction(nearest) if abs(value - nearest) < _tiny() else value


def _function(name: str, argument: Number) -> Number:
    ctx = context()
    x = inexact(argument)
    if x == 0 and name in ("ln", "log", "lg"):
        raise TooHardError("logarithm of zero")
    if name in ("log", "lg"):
        return _whole(ctx.ln(x) / ctx.ln(ctx.mpf(10)))
    if name != "ln" and x != 0 and ctx.mag(x) > 40:
        raise TooHardError("argument too large")
    if name == "exp" and x != 0 and ctx.mag(x) > 13:
        raise TooHardError("exponential too large")
    result = getattr(ctx, _NAMES.get(name, name))(x)
    if result != 0 and name not in ("exp", "sech", "csch") and abs(result) < _tiny():  # sin(pi) to all digits
        return ctx.mpf(0)
    return _whole(result) if not isinstance(result, ctx.mpc) else result


def same_value(a: Number, b: Number) -> bool:
    """Whether two values are equal: exactly for fractions, else to all digits of the precision but ten."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    x, y = inexact(a), inexact(b)
    return bool(abs(x - y) <= max(abs(x), abs(y)) * _tiny() * 100)


def is_real(value: Number) -> bool:
    """Whether a value is a real number."""
    return isinstance(value, Fraction) or not hasattr(value, "_mpc_")


_SIGNS = ((1, 1), (1, 1), (-1, 1), (1, -1), (-1, -1))


def whole_points(names: frozenset[str]) -> list[dict[str, Fraction]]:
    """Sixty points of small whole numbers, for rounding functions, which differ only here and there."""
    return [{name: Fraction(1 + (zlib.crc32(f"{k}:{name}".encode()) >> 4) % 61) for name in names} for k in range(60)]


def points(names: frozenset[str]) -> list[dict[str, Fraction]]:
    """Fixed generic points: two with positive coordinates, three with other signs."""
    result = []
    for k, signs in enumerate(_SIGNS):
        env = {}
        for order, name in enumerate(sorted(names)):
            h = zlib.crc32(f"{k}:{name}".encode())
            env[name] = signs[order % 2] * Fraction(307 + h % 1009, 499 + (h >> 12) % 487)
        result.append(env)
    return result


def same_expression(a: Node, b: Node) -> bool | None:
    """Whether two trees (gold first) are the same function of their variables.

    True, False, or None when that cannot be settled here.

    Points of other sign count only where both values are real: sqrt(x) sqrt(y) = sqrt(xy) holds where it is defined,
    |x| = x does not.
    Where the gold has a value and the answer has none (1/0, 9^9^9^9), the answer is not the gold.
    """
    names = variables(a) | variables(b)
    steps = [contains(node, "lfloor", "lceil") for node in (a, b)]
    places = [{}] if not names else whole_points(names) if any(steps) else points(names)
    if names and any(steps) and not all(steps):  # floor(x) is x at whole numbers only
        places += points(names)
    same, inexactly = _agree(a, b, places)
    if same and inexactly is not None:
        with _digits(CONFIRMING_DIGITS):
            return _agree(a, b, [inexactly])[0]
    return same


def _agree(a: Node, b: Node, places: list[dict[str, Fraction]]) -> tuple[bool | None, dict[str, Fraction] | None]:
    """Whether the trees agree at these places, and one place where they did so only to a number of digits."""
    names = variables(a) | variables(b)
    compared = missing = 0
    inexactly: dict[str, Fraction] | None = None
    for env in places:
        try:
            x = value_of(a, env)
        except TooHardError:
            continue
        try:
            y = value_of(b, env)
        except TooHardError:
            missing += 1
            continue
        if not (all(v > 0 for v in env.values()) or (is_real(x) and is_real(y))):
            continue
        if not same_value(x, y):
            return False, None
        if inexactly is None and not (isinstance(x, Fraction) and isinstance(y, Fraction)):
            inexactly = env
        compared += 1
    needed = 2 if names and len(places) > 1 else 1
    if compared >= needed and compared > missing:
        return True, inexactly
    return (False if missing else None), None
