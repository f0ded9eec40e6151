"""Kubernetes quantities: ``500m``, ``64Mi``, ``1e3``; exact, and printed as the API server prints them.

Source of the rules: apimachinery pkg/api/resource (quantity.go, suffix.go). A quantity is a decimal number with one of
three formats (decimal SI, binary SI, decimal exponent). Values finer than a nano are rounded up. Printing gives the
canonical form, except that a text that was already in a form Kubernetes keeps (``1500m``, ``1025Mi``, ``1.500``) is
printed as written.
"""

from __future__ import annotations

import re
from functools import lru_cache, total_ordering

DECIMAL_SI = "DecimalSI"
BINARY_SI = "BinarySI"
DECIMAL_EXPONENT = "DecimalExponent"

FORMAT_WRONG = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"  # as the server says
)
NUMERIC_WRONG = "unable to parse numeric part of quantity"
SUFFIX_WRONG = "unable to parse quantity's suffix"

_DECIMAL = {"": 0, "n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_NAME = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_NAME = {exponent: suffix for suffix, exponent in _BINARY.items()}
_NANO = -9
_MAX_DIGITS = 18  # of an int64 that any power of ten below fits into
_MAX_BINARY = (1 << 63) - 1
_SPLIT = re.compile(r"([+-]?)(0*)([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*[-+]?[0-9]*)", re.ASCII)
_MAX_EXPONENT = 1000
"""Of ten, in texts like 1e1000: more is refused, not computed."""


class QuantityError(ValueError):
    """A text that is not a quantity; its message is the API server's."""


def _divide_up(value: int, divisor: int) -> int:
    """Divide, rounding away from zero (what Kubernetes calls rounding up)."""
    return -(-value // divisor) if value >= 0 else value // divisor


def _scaled(value: int, scale: int, to: int) -> int:
    """The number ``value·10^scale`` in units of ``10^to``, rounded away from zero."""
    return value * 10 ** (scale - to) if scale >= to else _divide_up(value, 10 ** (to - scale))


@total_ordering
class Quantity:
    """An exact amount ``value·10^scale`` with the format it is printed in."""

    __slots__ = ("_text", "format", "scale", "value")

    def __init__(self, value: int, scale: int = 0, form: str = DECIMAL_SI, text: str | None = None) -> None:
        self.value = value
        self.scale = scale
        self.format = form
        self._text = text

    @classmethod
    def parse(cls, text: str) -> Quantity:
        """Read a quantity.

        Raises:
            QuantityError: `text` is none; the message is the API server's.
        """
        if text == "":
            raise QuantityError(FORMAT_WRONG)
        if text == "0":
            return cls(0, 0, DECIMAL_SI, "0")
        match = _SPLIT.fullmatch(text)
        if match is None:
            raise QuantityError(FORMAT_WRONG)
        sign, zeros, number, fraction, suffix = match.groups()
        # A sign, a point or a suffix alone are 0 to the server, as long as it counts in an int64.
        empty = not number and not zeros and not fraction
        fraction = fraction or ""
        number = number or "0"
        if suffix in _DECIMAL:
            base, exponent, form = 10, _DECIMAL[suffix], DECIMAL_SI
        elif suffix in _BINARY:
            base, exponent, form = 2, _BINARY[suffix], BINARY_SI
        elif suffix[:1] in ("e", "E") and re.fullmatch(r"[-+]?[0-9]{1,9}", suffix[1:]):
            base, exponent, form = 10, int(suffix[1:]), DECIMAL_EXPONENT
            if abs(exponent) > _MAX_EXPONENT:
                raise QuantityError(SUFFIX_WRONG)
        else:
            raise QuantityError(SUFFIX_WRONG)
        counted = exponent < _BINARY["Pi"] if base == 2 else exponent >= _NANO
        if len(number) + len(fraction) > _MAX_EXPONENT or (empty and not counted):
            raise QuantityError(NUMERIC_WRONG)

        digits = number + fraction
        value = int(digits)
        if base == 2:
            value <<= exponent
            scale = -len(fraction)
            small = not fraction and 15 - len(number) - int(exponent * 3 / 10) - 1 >= 0
            keep = small and exponent % 10 == 0 and int(digits) & 7 != 0
        else:
            scale = exponent - len(fraction)
            small = len(digits) <= _MAX_DIGITS and scale >= _NANO
            keep = small and scale % 3 == 0 and not digits.endswith("000") and digits[0] != "0"
        if scale < _NANO:
            value, scale = _scaled(value, scale, _NANO), _NANO
        if base == 2 and not small:
            if value > _scaled(_MAX_BINARY, 0, scale):
                value, scale = _MAX_BINARY, 0
            if 0 < value < 10**-scale:
                form = DECIMAL_SI
        return cls(-value if sign == "-" else value, scale, form, text if keep else None)

    def rounded_up(self, scale: int) -> Quantity:
        """The same amount in units of at least ``10^scale``, rounded away from zero (-3: milli)."""
        if self.scale >= scale:
            return self
        return Quantity(_scaled(self.value, self.scale, scale), scale, self.format)

    def __str__(self) -> str:
        """The form in which the API server prints it."""
        if self._text is None:
            self._text = self._canonical()
        return self._text

    def _canonical(self) -> str:
        if self.value == 0:
            return "0"
        if self.format == BINARY_SI:
            whole = _scaled(self.value, self.scale, 0)
            exact = self.scale >= 0 or whole * 10**-self.scale == self.value
            if exact and not -1024 < whole < 1024:
                power = 0
                while power < 60 and whole % 1024 == 0:
                    whole //= 1024
                    power += 10
                return f"{whole}{_BINARY_NAME.get(power, '')}"
        value, exponent = self.value, self.scale
        while value % 10 == 0:
            value //= 10
            exponent += 1
        lowest = 18 if self.format != DECIMAL_EXPONENT and exponent > 18 else exponent - exponent % 3
        value *= 10 ** (exponent - lowest)
        if self.format == DECIMAL_EXPONENT:
            return f"{value}e{lowest}" if lowest else str(value)
        return f"{value}{_DECIMAL_NAME[lowest]}"

    def __repr__(self) -> str:
        return f"Quantity({str(self)!r})"

    def _aligned(self, other: Quantity) -> tuple[int, int, int]:
        scale = min(self.scale, other.scale)
        return self.value * 10 ** (self.scale - scale), other.value * 10 ** (other.scale - scale), scale

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Quantity):
            return NotImplemented
        mine, theirs, _ = self._aligned(other)
        return mine == theirs

    def __lt__(self, other: Quantity) -> bool:
        mine, theirs, _ = self._aligned(other)
        return mine < theirs

    def __hash__(self) -> int:
        value, scale = self.value, self.scale
        while value and value % 10 == 0:
            value //= 10
            scale += 1
        return hash((value, scale if value else 0))

    def __add__(self, other: Quantity) -> Quantity:
        """The sum; it keeps this one's format, unless this is zero."""
        mine, theirs, scale = self._aligned(other)
        return Quantity(mine + theirs, scale, other.format if self.value == 0 else self.format)

    def __sub__(self, other: Quantity) -> Quantity:
        mine, theirs, scale = self._aligned(other)
        return Quantity(mine - theirs, scale, other.format if self.value == 0 else self.format)

    def __neg__(self) -> Quantity:
        return Quantity(-self.value, self.scale, self.format)

    def whole(self) -> int:
        """In units, rounded away from zero (bytes of memory, whole CPUs)."""
        return _scaled(self.value, self.scale, 0)

    def milli(self) -> int:
        """In thousandths, rounded away from zero (millicores)."""
        return _scaled(self.value, self.scale, -3)


@lru_cache(maxsize=512)
def parse(text: str) -> Quantity:
    """`Quantity.parse`, remembered: manifests repeat a handful of texts.

    Raises:
        QuantityError: `text` is none.
    """
    return Quantity.parse(text)


def canonical(text: str) -> str:
    """`text` as the API server prints it.

    Raises:
        QuantityError: `text` is none.
    """
    return str(parse(text))
