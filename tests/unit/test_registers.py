from __future__ import annotations

from dataclasses import fields
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.messages import GateCommand, GateOutcome, Judgement
from decision import registers, words
from decision.gate import PlcInputs, PlcSignals, StationOutputs, StationSignals, StationState
from decision.registers import ErrorCode, Outcome, Result

U16 = st.integers(0, 2**16 - 1)
U32 = st.integers(0, 2**32 - 1)
RESULT = st.builds(
    Result,
    sequence=st.integers(0, 2**32 - 2),
    command=st.sampled_from(GateCommand),
    verdict=st.sampled_from(Judgement),
)


def test_no_two_registers_overlap_and_all_fit_the_address_space() -> None:
    for one, other in combinations(registers.TABLE, 2):
        assert one.end <= other.address or other.end <= one.address, f"{one.name} and {other.name}"
    assert max(register.end for register in registers.TABLE) <= 65536
    assert len({register.name for register in registers.TABLE}) == len(registers.TABLE)


@pytest.mark.parametrize("group", [registers.OUTPUTS, registers.INPUTS])
def test_what_is_exchanged_together_lies_together(group: tuple[registers.Register, ...]) -> None:
    for one, after in pairwise(group):
        assert one.end == after.address


def test_every_bit_has_a_place_and_a_field_of_its_own() -> None:
    assert len({(bit.register, bit.number) for bit in registers.BITS}) == len(registers.BITS)
    assert all(bit.register in registers.TABLE and 0 <= bit.number < 16 for bit in registers.BITS)
    for register, signals in ((registers.STATION_SIGNALS, StationSignals), (registers.PLC_SIGNALS, PlcSignals)):
        named = [bit.name for bit in registers.BITS if bit.register is register]
        assert named == [field.name for field in fields(signals)]
        assert {bit.writer for bit in registers.BITS if bit.register is register} == {register.writer}


def test_the_table_says_every_code() -> None:
    told = registers.ERROR_CODE.meaning.partition(": ")[2].split(", ")
    assert [int(one.split()[0]) for one in told] == list(ErrorCode)


@given(
    st.builds(
        StationOutputs,
        heartbeat=U16,
        state=st.sampled_from(StationState),
        active_job=U16,
        line_stop=st.booleans(),
        run=U32,
        refused_job=U16,
        acked_part=U32,
        error_code=st.sampled_from(ErrorCode),
        error_part=U32,
        result=st.none() | RESULT,
        signals=st.builds(
            StationSignals, **dict.fromkeys([field.name for field in fields(StationSignals)], st.booleans())
        ),
    )
)
def test_outputs_survive_their_words(outputs: StationOutputs) -> None:
    found = words.output_words(outputs)
    assert len(found) == registers.OUTPUTS[-1].end - registers.OUTPUTS[0].address
    assert all(0 <= word < 2**16 for word in found)
    assert words.read_outputs(found) == outputs


@given(
    st.builds(
        PlcInputs,
        run=U32,
        heartbeat=U16,
        requested_job=U16,
        outcome_count=U32,
        part_number=U32,
        signals=st.builds(PlcSignals, **dict.fromkeys([field.name for field in fields(PlcSignals)], st.booleans())),
    )
)
def test_inputs_survive_their_words(inputs: PlcInputs) -> None:
    found = words.input_words(inputs)
    assert len(found) == registers.INPUTS[-1].end - registers.INPUTS[0].address
    assert words.read_inputs(found) == inputs


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
