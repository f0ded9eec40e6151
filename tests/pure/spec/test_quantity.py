"""Quantities: exact amounts in the API server's spelling."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.spec.quantity import Quantity, QuantityError, canonical

# From apimachinery's documentation and the rules in quantity.go.
PRINTED = [
    ("0", "0"), ("00", "0"), ("-0", "0"), ("0Mi", "0"), ("0.0", "0"), ("1", "1"), ("-1", "-1"), ("+1", "+1"),
    ("0.5", "500m"), ("1.5", "1500m"), (".5", "500m"), ("0.1", "100m"), ("0.001", "1m"), ("0.0001", "100u"),
    ("500m", "500m"), ("1500m", "1500m"), ("1000m", "1"), ("2000m", "2"), ("100", "100"), ("1000", "1k"),
    ("1000000", "1M"), ("1100", "1100"), ("128974848", "128974848"), ("129M", "129M"), ("1k", "1k"), ("1024k", "1024k"),
    ("64Mi", "64Mi"), ("1Gi", "1Gi"), ("1024Mi", "1Gi"), ("1025Mi", "1025Mi"), ("1.5Gi", "1536Mi"), ("0.5Gi", "512Mi"),
    ("1Ki", "1Ki"), ("0.5Ki", "512"), ("1.1Ki", "1126400m"), ("512Ki", "512Ki"), ("2048Ki", "2Mi"), ("1Ei", "1Ei"),
    ("1e3", "1e3"), ("12e6", "12e6"), ("1E6", "1E6"), ("1e4", "10e3"), ("1.5e3", "1500"), ("1e-3", "1e-3"),
    ("1n", "1n"), ("0.1n", "1n"), ("1.5n", "2n"), ("1u", "1u"), ("100n", "100n"), ("0.0000000001", "1n"),
    # What kubectl 1.36 takes for a number.
    (".", "0"), ("+", "0"), ("m", "0"), ("Ki", "0"), (".Ti", "0"), ("E-9", "0"), (".e20", "0"),
    ("1E", "1E"), ("1P", "1P"), ("1T", "1T"), ("999999999999999999", "999999999999999999"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "printed"), PRINTED)
def test_printed(text: str, printed: str) -> None:
    assert canonical(text) == printed
    assert Quantity.parse(printed) == Quantity.parse(text) or text in ("0.1n", "1.5n", "0.0000000001")


FORMAT = "quantities must match the regular expression"
SUFFIX = "unable to parse quantity's suffix"
NUMERIC = "unable to parse numeric part"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", FORMAT), ("a", FORMAT), ("1 ", FORMAT), (" 1", FORMAT), ("1 Gi", FORMAT), ("1KiB", FORMAT), ("--1", SUFFIX),
        ("1.1.1", FORMAT), ("1,5", FORMAT), ("١", FORMAT), ("0x10", FORMAT), ("1i", SUFFIX), ("1mm", SUFFIX), ("1K", SUFFIX),
        ("1g", FORMAT), ("1ki", SUFFIX), ("1e", SUFFIX), ("1e99999999999", SUFFIX), ("9" * 2000, NUMERIC),
        ("Pi", NUMERIC), ("-Ei", NUMERIC), (".E-20", NUMERIC), ("E-10", NUMERIC),
    ],
)  # fmt: skip
def test_refused(text: str, words: str) -> None:
    with pytest.raises(QuantityError, match=words.replace("(", r"\(")):
        Quantity.parse(text)


def test_amounts() -> None:
    assert Quantity.parse("1.5Gi").whole() == 3 << 29
    assert Quantity.parse("100m").milli() == 100
    assert Quantity.parse("1").milli() == 1000
    assert Quantity.parse("1u").milli() == 1  # rounded up
    assert Quantity.parse("100m").whole() == 1
    assert Quantity.parse("-1.5").whole() == -2
    assert str(Quantity.parse("1500u").rounded_up(-3)) == "2m"
    assert str(Quantity.parse("1Gi").rounded_up(-3)) == "1Gi"


def test_sums() -> None:
    assert str(Quantity.parse("500m") + Quantity.parse("1")) == "1500m"
    assert str(Quantity.parse("1Gi") + Quantity.parse("1Mi")) == "1025Mi"
    assert str(Quantity(0) + Quantity.parse("64Mi")) == "64Mi"
    assert str(Quantity.parse("1Gi") - Quantity.parse("1Gi")) == "0"
    assert str(-Quantity.parse("1Gi")) == "-1Gi"
    assert Quantity.parse("1Ki") == Quantity.parse("1024") != Quantity.parse("1k")
    assert hash(Quantity.parse("1k")) == hash(Quantity.parse("1000000m"))
    assert Quantity.parse("999m") < Quantity.parse("1") <= Quantity.parse("1000m") < Quantity.parse("1Ki")
    assert Quantity.parse("1") != 1


NUMBERS = st.from_regex(r"[+-]?([0-9]{1,15}(\.[0-9]{0,9})?|\.[0-9]{1,9})", fullmatch=True)
SUFFIXES = {
    "": Fraction(1), "m": Fraction(1, 1000), "k": Fraction(1000), "M": Fraction(10**6), "G": Fraction(10**9),
    "Ki": Fraction(1024), "Mi": Fraction(1 << 20), "Gi": Fraction(1 << 30), "e2": Fraction(100), "E-1": Fraction(1, 10),
}  # fmt: skip


def exact(quantity: Quantity) -> Fraction:
    return quantity.value * Fraction(10) ** quantity.scale


@given(NUMBERS, st.sampled_from(sorted(SUFFIXES)))
def test_value_is_exact_down_to_a_nano(number: str, suffix: str) -> None:
    quantity = Quantity.parse(number + suffix)
    meant = Fraction(number.replace(".", "0.", 1) if number.lstrip("+-").startswith(".") else number.rstrip("."))
    meant *= SUFFIXES[suffix]
    if abs(meant) >= (1 << 63) and suffix.endswith("i"):
        return  # capped, as Kubernetes does
    assert abs(exact(quantity)) >= abs(meant)
    assert abs(exact(quantity) - meant) < Fraction(1, 10**9)


@given(NUMBERS, st.sampled_from(sorted(SUFFIXES)))
def test_printing_and_parsing_again(number: str, suffix: str) -> None:
    quantity = Quantity.parse(number + suffix)
    again = Quantity.parse(str(quantity))
    assert again == quantity
    assert str(again) == str(quantity)


@given(NUMBERS, NUMBERS)
def test_arithmetic_is_exact(one: str, two: str) -> None:
    a, b = Quantity.parse(one), Quantity.parse(two)
    assert exact(a + b) == exact(a) + exact(b)
    assert exact(a - b) == exact(a) - exact(b)
    assert (a < b) == (exact(a) < exact(b))
    assert (a == b) == (exact(a) == exact(b))


@given(st.text(max_size=12))
def test_any_text_gets_an_answer(text: str) -> None:
    try:
        canonical(text)
    except QuantityError as error:
        assert str(error)
