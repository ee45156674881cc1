"""Passwords, names and roles: what is taken, and what is said of what is not."""

from __future__ import annotations

import unicodedata

import pytest
from argon2.exceptions import VerifyMismatchError

from config.errors import InputError
from storage import passwords
from storage.console.door import safe_next
from storage.people import Role
from storage.roster import name_of


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("short", "12 to 128 characters"),
        ("x" * 129, "12 to 128 characters"),
        ("ada is my own name", "must not contain the name"),
        ("MY OWN ADA HERE", "must not contain the name"),
        ("ababababababab", "5 different characters"),
    ],
)
def test_bad_passwords_are_told_why(said: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        passwords.insist(said, "ada")


def test_a_password_is_known_again_however_the_keyboard_composes_it() -> None:
    said = unicodedata.normalize("NFC", "안돈 라인 램프 초록색 불빛")
    encoded = passwords.encode(said)
    assert encoded.startswith("$argon2id$")
    assert passwords.matches(encoded, unicodedata.normalize("NFD", said))
    assert not passwords.matches(encoded, said + " ")
    assert not passwords.matches(None, said)
    assert not passwords.matches("damaged", said)
    assert passwords.encode(said) != encoded, "each has its own salt"


def test_nobodys_takes_the_work_of_a_real_one() -> None:
    assert not passwords._ARGON2.check_needs_rehash(passwords._NOBODYS), "as costly as what is encoded now"
    with pytest.raises(VerifyMismatchError):
        passwords._ARGON2.verify(passwords._NOBODYS, "no password at all")


def test_one_time_passwords_differ_and_are_good_ones() -> None:
    made = {passwords.one_time() for _ in range(200)}
    assert len(made) == 200
    assert all(passwords.insist(one, "admin") == one for one in made)


@pytest.mark.parametrize(
    ("said", "kept"),
    [(" Ada ", "ada"), ("KIM.2@plant", "kim.2@plant"), ("김철수", "김철수"), ("\uff21\uff24\uff21", "ada")],
)
def test_names_are_kept_in_one_way(said: str, kept: str) -> None:
    assert name_of(said) == kept


@pytest.mark.parametrize("said", ["", " ", "_a", "a b", "a/b", "<b>", "x" * 65, "nobody", "Supervisor", "a\u202eb"])
def test_names_that_cannot_be_are_refused(said: str) -> None:
    with pytest.raises(InputError, match="name: must be 1 to 64"):
        name_of(said)


def test_roles_are_in_order() -> None:
    assert sorted(Role, reverse=True) == [Role.ADMIN, Role.ENGINEER, Role.OPERATOR, Role.VIEWER]
    assert min(Role.ADMIN, Role.OPERATOR) is Role.OPERATOR


@pytest.mark.parametrize(
    "said", [None, "", "x", "//x", "/\\x", "http://x/", "/a b", "/\n", "/" + "x" * 3000, "/api/x", "/é"]
)
def test_next_is_a_page_of_ours_or_the_first_one(said: str | None) -> None:
    assert safe_next(said) == "/"
