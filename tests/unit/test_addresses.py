"""Addresses of numbers are read as they are written; what is none is named."""

import pytest

from redoubt.errors import RedoubtError
from redoubt.study.addresses import Address, read_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("table-1[mnist-mlp, rho_2]", Address("table-1", ("mnist-mlp", "rho_2"), ())),
        ("table-3[ a ,Acc.@0.2 ]", Address("table-3", ("a", "Acc.@0.2"), ())),
        ("figure-7[a, fooling-rate, rho=0.04]", Address("figure-7", ("a", "fooling-rate"), (("rho", 0.04),))),
        (
            "extra-x[a, b, attack=pgd-mnist, epsilon=0.3]",
            Address("extra-x", ("a", "b"), (("attack", "pgd-mnist"), ("epsilon", 0.3))),
        ),
    ],
)
def test_addresses(text, expected):
    assert read_address(text) == expected
    assert read_address(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("table-1", "'table-1' is no address; write it as artifact"),
        ("table-1[a, b", "is no address"),
        ("[a, b]", "is no address"),
        ("table-1[a[b], c]", "is no address"),
        ("table-1[a, , c]", "'' is no key"),
        ("table-1[rho=0.1, a]", "'a' is no key; write values first"),
        ("table-1[a, rho=]", "'rho=' is no key"),
        ("table-1[a, =1]", "'=1' is no key"),
    ],
)
def test_what_is_no_address(text, reason):
    with pytest.raises(RedoubtError, match=reason):
        read_address(text)
