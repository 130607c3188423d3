from hypothesis import given
from hypothesis import strategies as st

from libs.events.sequence import Seen, admit


def _numbers(seen: Seen) -> set[int]:
    missing = {number for start, end in seen.missing for number in range(start, end)}
    return set(range(1, seen.last + 1)) - missing


@given(st.lists(st.lists(st.integers(1, 30), max_size=12), max_size=8))
def test_each_number_is_accepted_once_whatever_the_order(batches: list[list[int]]) -> None:
    seen, plain = Seen(), set[int]()

    for batch in batches:
        admission = admit(seen, batch)
        for number, accepted in zip(batch, admission.accepted, strict=True):
            assert accepted == (number not in plain)
            plain.add(number)
        seen = admission.seen

        assert _numbers(seen) == plain
        assert seen.last == max(plain, default=0)
        assert list(seen.missing) == sorted(seen.missing)
        assert all(start < end for start, end in seen.missing)


def test_a_gap_is_told_once_when_it_opens() -> None:
    opened = admit(Seen(3), [7])
    later = admit(opened.seen, [8])

    assert opened.gaps == ((4, 7),)
    assert later.gaps == ()


def test_a_late_number_fills_its_gap() -> None:
    admission = admit(Seen(7, ((4, 7),)), [5])

    assert admission.late == 1
    assert admission.seen == Seen(7, ((4, 5), (6, 7)))


def test_a_gap_that_closes_within_the_batch_is_no_gap() -> None:
    assert admit(Seen(), [2, 1]).gaps == ()
