"""Which ledger entries of a stock item have been seen: exact in any order, at the cost of one row per stock item."""

from dataclasses import dataclass

Range = tuple[int, int]
"""Half-open: (2, 5) is 2, 3, 4."""


@dataclass(frozen=True, slots=True)
class Seen:
    """All of 1..last except `missing`, which is sorted and disjoint."""

    last: int = 0
    missing: tuple[Range, ...] = ()


@dataclass(frozen=True, slots=True)
class Admission:
    """What became of the offered sequences."""

    seen: Seen
    accepted: list[bool]
    """For each offered number, in the order offered: True the first time it is seen."""
    late: int
    """How many of the accepted filled a gap."""
    gaps: tuple[Range, ...]
    """Gaps that opened and are still open."""


def admit(seen: Seen, offered: list[int]) -> Admission:
    """Accept each number once: repeats are refused, gaps are remembered, late arrivals fill them."""
    if offered and offered[0] == seen.last + 1 and _consecutive(offered):
        return Admission(Seen(offered[-1], seen.missing), [True] * len(offered), 0, ())
    last, missing = seen.last, list(seen.missing)
    accepted = []
    late = 0
    for number in offered:
        if number > last:
            if number > last + 1:
                missing.append((last + 1, number))
            last = number
            accepted.append(True)
        elif _fill(missing, number):
            late += 1
            accepted.append(True)
        else:
            accepted.append(False)
    gaps = tuple((max(start, seen.last + 1), end) for start, end in missing if end > seen.last + 1)
    return Admission(Seen(last, tuple(missing)), accepted, late, gaps)


def _consecutive(numbers: list[int]) -> bool:
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _fill(missing: list[Range], number: int) -> bool:
    """Take a number out of the missing ranges; False when it is not missing."""
    for index, (start, end) in enumerate(missing):
        if start <= number < end:
            missing[index : index + 1] = [part for part in ((start, number), (number + 1, end)) if part[0] < part[1]]
            return True
    return False
