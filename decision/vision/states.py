"""The states of OPC 40100-1, 8.2 and 8.3, that Andon knows, and how it goes from one to the other. Pure.

The station changes its state by itself, so that every transition is one of the standard's automatic ones. It judges
whenever a part is triggered: SingleExecution and, outside of a changeover, Ready are only passed through.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from config.messages import Standing


class VisionState(StrEnum):
    """States of the VisionStateMachine; the four last are the AutomaticModeStateMachine's, inside of Operational."""

    PREOPERATIONAL = "Preoperational"
    HALTED = "Halted"
    ERROR = "Error"
    INITIALIZED = "Initialized"
    READY = "Ready"
    SINGLE_EXECUTION = "SingleExecution"
    CONTINUOUS_EXECUTION = "ContinuousExecution"

    @property
    def automatic(self) -> bool:
        """Whether it is one of the AutomaticModeStateMachine's."""
        return self not in (VisionState.PREOPERATIONAL, VisionState.HALTED, VisionState.ERROR)


@dataclass(frozen=True)
class Transition:
    """A transition; `name` is the standard's, of the machine that has both states or else of the VisionStateMachine."""

    name: str
    source: VisionState
    target: VisionState

    @property
    def automatic(self) -> bool:
        """Whether it is one of the AutomaticModeStateMachine's."""
        return self.source.automatic and self.target.automatic


_S = VisionState
_OPERATIONAL: Final = (_S.INITIALIZED, _S.READY, _S.CONTINUOUS_EXECUTION)
TRANSITIONS: Final = (
    Transition("PreoperationalToInitializedAuto", _S.PREOPERATIONAL, _S.INITIALIZED),
    Transition("PreoperationalToErrorAuto", _S.PREOPERATIONAL, _S.ERROR),
    Transition("PreoperationalToHaltedAuto", _S.PREOPERATIONAL, _S.HALTED),
    Transition("HaltedToPreoperationalAuto", _S.HALTED, _S.PREOPERATIONAL),
    Transition("ErrorToOperationalAuto", _S.ERROR, _S.INITIALIZED),
    Transition("ErrorToPreoperationalAuto", _S.ERROR, _S.PREOPERATIONAL),
    Transition("ErrorToHaltedAuto", _S.ERROR, _S.HALTED),
    *(Transition("OperationalToErrorAuto", source, _S.ERROR) for source in _OPERATIONAL),
    *(Transition("OperationalToHaltedAuto", source, _S.HALTED) for source in _OPERATIONAL),
    *(Transition("OperationalToPreoperationalAuto", source, _S.PREOPERATIONAL) for source in _OPERATIONAL),
    Transition("InitializedToReadyAuto", _S.INITIALIZED, _S.READY),
    Transition("ReadyToInitializedAuto", _S.READY, _S.INITIALIZED),
    Transition("ReadyToContinuousExecutionAuto", _S.READY, _S.CONTINUOUS_EXECUTION),
    Transition("ContinuousExecutionToReadyAuto", _S.CONTINUOUS_EXECUTION, _S.READY),
)


def state_of(standing: Standing | None, *, heard: bool, been_operational: bool) -> VisionState:
    """Return the state that the decision stage's last word means.

    `heard` is false where that word is too old, `been_operational` true once the station could judge: what is wrong
    before is its coming up, what is wrong after is an error. Without a recipe it is initialised and no more.
    """
    if standing is None or standing.state == "STARTING":
        return VisionState.ERROR if been_operational else VisionState.PREOPERATIONAL
    if standing.state == "STOPPING":
        return VisionState.HALTED
    if not heard:
        return VisionState.ERROR
    if standing.state == "READY":
        return VisionState.CONTINUOUS_EXECUTION
    if not been_operational:
        return VisionState.PREOPERATIONAL
    return VisionState.INITIALIZED if standing.recipe is None else VisionState.ERROR


def path(source: VisionState, target: VisionState) -> list[Transition]:
    """Return the shortest way from one state to another by the standard's transitions."""
    ways: deque[list[Transition]] = deque([[]])
    seen = {source}
    while ways:
        way = ways.popleft()
        here = way[-1].target if way else source
        if here is target:
            return way
        for transition in TRANSITIONS:
            if transition.source is here and transition.target not in seen:
                seen.add(transition.target)
                ways.append([*way, transition])
    raise ValueError(f"there is no way from {source} to {target}")
