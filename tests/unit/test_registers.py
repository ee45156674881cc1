from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.messages import GateCommand, GateOutcome, Judgement
from decision import registers
from decision.registers import Outcome, Result

U32 = st.integers(0, 2**32 - 1)


def test_no_two_registers_overlap_and_all_fit_the_address_space() -> None:
    for one, other in combinations(registers.TABLE, 2):
        assert one.end <= other.address or other.end <= one.address, f"{one.name} and {other.name}"
    assert max(register.end for register in registers.TABLE) <= 65536
    assert len({register.name for register in registers.TABLE}) == len(registers.TABLE)


@pytest.mark.parametrize("group", [registers.OUTPUTS, registers.INPUTS])
def test_what_is_exchanged_together_lies_together(group: tuple[registers.Register, ...]) -> None:
    for one, after in pairwise(group):
        assert one.end == after.address


def test_an_empty_slot_is_nobodys() -> None:
    assert registers.read_result([0, 0, 0, 0]) is None
    assert registers.read_outcome([0, 0, 0, 0]) is None
    assert registers.read_result([0, 0, 1, 1]) is None


@given(U32)
def test_words_hold_any_32_bits(number: int) -> None:
    pair = registers.words(number)
    assert all(0 <= word < 2**16 for word in pair)
    assert registers.value(pair) == number


@given(st.integers(0, 2**32 - 3), st.sampled_from(GateCommand), st.sampled_from(Judgement))
def test_a_result_survives_its_slot(sequence: int, command: GateCommand, verdict: Judgement) -> None:
    result = Result(sequence, command, verdict)
    assert registers.read_result(registers.result_words(result)) == result


@given(st.integers(0, 2**32 - 3), st.sampled_from(GateOutcome))
def test_an_outcome_survives_its_slot(sequence: int, gate: GateOutcome) -> None:
    outcome = Outcome(sequence, gate)
    assert registers.read_outcome(registers.outcome_words(outcome)) == outcome


@given(st.lists(st.integers(0, 2**16 - 1), min_size=4, max_size=4))
def test_a_slot_of_any_words_is_a_pass_only_if_it_says_so(group: list[int]) -> None:
    result = registers.read_result(group)
    if result is not None and result.command is GateCommand.PASS:
        assert group[2] == 1


def test_a_run_without_end_does_not_overflow_the_stored_sequence() -> None:
    for sequence in (2**32 - 2, 2**32 - 1, 2**40):
        group = registers.result_words(Result(sequence, GateCommand.PASS, Judgement.PASS))
        assert all(0 <= word < 2**16 for word in group)
        assert registers.value(group[:2]) != 0
