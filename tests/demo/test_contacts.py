import re

from demo.contacts import contact_of


def test_a_household_has_the_same_contact_details_on_every_load() -> None:
    assert contact_of(1) == contact_of(1)
    # Written down, because a list that is reordered would rename every household.
    assert (contact_of(1).full_name, contact_of(1).phone) == ("Cedric Field", "201.555.0137")
    assert contact_of(1) != contact_of(2)


def test_no_two_households_share_a_phone_number() -> None:
    numbers = [_digits(phone) for household in range(1, 2501) if (phone := contact_of(household).phone)]

    assert len(numbers) > 2400
    assert len(set(numbers)) == len(numbers)


def test_nobody_can_be_reached_by_the_made_up_details() -> None:
    """Only 555-0100 to 555-0199 and the example domains are set aside for fiction."""
    for household in range(1, 2501):
        contact = contact_of(household)
        if contact.phone is not None:
            assert re.fullmatch(r"[2-9]\d\d55501\d\d", _digits(contact.phone))
        if contact.email is not None:
            assert contact.email.strip().lower().endswith(("@example.com", "@example.org", "@example.net"))


def test_contact_details_are_as_untidy_as_people_type_them() -> None:
    contacts = [contact_of(household) for household in range(1, 201)]
    shapes = {re.sub(r"\d", "9", contact.phone) for contact in contacts if contact.phone}

    assert {
        "(999) 999-9999", "999.999.9999", "+9 999 999 9999", "9999999999", "9-999-999-9999 ext. 9", " 999-999-9999 "
    } == shapes  # fmt: skip
    assert any(contact.email is None for contact in contacts)
    assert any(contact.email and contact.email.isupper() for contact in contacts)
    assert any(contact.email and contact.email != contact.email.strip() for contact in contacts)


def _digits(phone: str) -> str:
    return re.sub(r"\D", "", phone.split("ext")[0])[-10:]
