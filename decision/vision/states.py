"""The states of OPC 40100-1, 8.2 and 8.3, and how the station goes from one to the other. Pure.

The station goes to ContinuousExecution by itself, unless a client has ordered otherwise, and judges there whenever a
part is triggered: such transitions are the standard's automatic ones, the others are named by the method behind them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from config.messages import Method, Mode, Standing


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

    @property
    def executing(self) -> bool:
        """Whether a job is executed."""
        return self in (VisionState.SINGLE_EXECUTION, VisionState.CONTINUOUS_EXECUTION)


@dataclass(frozen=True)
class Transition:
    """A transition; `name` is the standard's, of the machine that has both states or else of the VisionStateMachine."""

    name: str
    source: VisionState
    target: VisionState
    cause: Method | None = None  # None: an automatic one

    @property
    def automatic(self) -> bool:
        """Whether it is one of the AutomaticModeStateMachine's."""
        return self.source.automatic and self.target.automatic


_S = VisionState
_OPERATIONAL: Final = (_S.INITIALIZED, _S.READY, _S.SINGLE_EXECUTION, _S.CONTINUOUS_EXECUTION)
TRANSITIONS: Final = (
    Transition("PreoperationalToInitializedAuto", _S.PREOPERATIONAL, _S.INITIALIZED),
    Transition("PreoperationalToInitialized", _S.PREOPERATIONAL, _S.INITIALIZED, "SelectModeAutomatic"),
    Transition("PreoperationalToErrorAuto", _S.PREOPERATIONAL, _S.ERROR),
    Transition("PreoperationalToHaltedAuto", _S.PREOPERATIONAL, _S.HALTED),
    Transition("PreoperationalToHalted", _S.PREOPERATIONAL, _S.HALTED, "Halt"),
    Transition("HaltedToPreoperationalAuto", _S.HALTED, _S.PREOPERATIONAL),
    Transition("HaltedToPreoperational", _S.HALTED, _S.PREOPERATIONAL, "Reset"),
    Transition("ErrorToOperationalAuto", _S.ERROR, _S.INITIALIZED),
    Transition("ErrorToPreoperationalAuto", _S.ERROR, _S.PREOPERATIONAL),
    Transition("ErrorToPreoperational", _S.ERROR, _S.PREOPERATIONAL, "Reset"),
    Transition("ErrorToHaltedAuto", _S.ERROR, _S.HALTED),
    Transition("ErrorToHalted", _S.ERROR, _S.HALTED, "Halt"),
    *(Transition("OperationalToErrorAuto", source, _S.ERROR) for source in _OPERATIONAL),
    *(Transition("OperationalToHaltedAuto", source, _S.HALTED) for source in _OPERATIONAL),
    *(Transition("OperationalToHalted", source, _S.HALTED, "Halt") for source in _OPERATIONAL),
    *(Transition("OperationalToPreoperationalAuto", source, _S.PREOPERATIONAL) for source in _OPERATIONAL),
    *(Transition("OperationalToPreoperational", source, _S.PREOPERATIONAL, "Reset") for source in _OPERATIONAL),
    Transition("InitializedToReadyAuto", _S.INITIALIZED, _S.READY),
    Transition("InitializedToReadyRecipe", _S.INITIALIZED, _S.READY, "PrepareRecipe"),
    Transition("InitializedToReadyProduct", _S.INITIALIZED, _S.READY, "PrepareProduct"),
    Transition("ReadyToInitializedAuto", _S.READY, _S.INITIALIZED),
    Transition("ReadyToInitializedRecipe", _S.READY, _S.INITIALIZED, "UnprepareRecipe"),
    Transition("ReadyToInitializedProduct", _S.READY, _S.INITIALIZED, "UnprepareProduct"),
    Transition("ReadyToSingleExecutionAuto", _S.READY, _S.SINGLE_EXECUTION),
    Transition("ReadyToSingleExecution", _S.READY, _S.SINGLE_EXECUTION, "StartSingleJob"),
    Transition("ReadyToContinuousExecutionAuto", _S.READY, _S.CONTINUOUS_EXECUTION),
    Transition("ReadyToContinuousExecution", _S.READY, _S.CONTINUOUS_EXECUTION, "StartContinuous"),
    Transition("SingleExecutionToReadyAuto", _S.SINGLE_EXECUTION, _S.READY),
    Transition("SingleExecutionToReadyStop", _S.SINGLE_EXECUTION, _S.READY, "Stop"),
    Transition("SingleExecutionToReadyAbort", _S.SINGLE_EXECUTION, _S.READY, "Abort"),
    Transition("ContinuousExecutionToReadyAuto", _S.CONTINUOUS_EXECUTION, _S.READY),
    Transition("ContinuousExecutionToReadyStop", _S.CONTINUOUS_EXECUTION, _S.READY, "Stop"),
    Transition("ContinuousExecutionToReadyAbort", _S.CONTINUOUS_EXECUTION, _S.READY, "Abort"),
)
_WITHOUT_EFFECT: Final = {  # allowed where they lead nowhere else
    ("Halt", _S.HALTED): Mode.HALTED,  # 8.2.6.3
    ("Reset", _S.PREOPERATIONAL): Mode.PREOPERATIONAL,  # "shall always be executable", 8.2.2.2
    ("PrepareRecipe", _S.READY): Mode.READY,  # another recipe, 7.5.2.2
    ("PrepareProduct", _S.READY): Mode.READY,
}
_TARGETS: Final[dict[tuple[str, VisionState], Mode]] = {
    (transition.cause, transition.source): Mode(transition.target) for transition in TRANSITIONS if transition.cause
}


def mode_after(method: Method, state: VisionState) -> Mode | None:
    """Return how far the station may go after a method was called in a state; None: it may not be called there.

    SelectModeAutomatic finds a recipe that is prepared, and goes on to Ready.
    """
    mode = _TARGETS.get((method, state)) or _WITHOUT_EFFECT.get((method, state))
    return Mode.READY if method == "SelectModeAutomatic" and mode else mode


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
    if standing.state == "READY" or standing.mode in (Mode.HALTED, Mode.PREOPERATIONAL):
        return VisionState(standing.mode)
    if not been_operational:
        return VisionState.PREOPERATIONAL
    return VisionState.INITIALIZED if standing.recipe is None else VisionState.ERROR


def path(source: VisionState, target: VisionState, method: str = "") -> list[Transition]:
    """Return the shortest way from one state to another by the standard's transitions: automatic ones and `method`'s.

    It leads through no error and no halt, and where it can, not out of Operational.
    """
    known = [one for one in TRANSITIONS if one.cause in (None, method)]
    known.sort(key=lambda one: (not one.automatic, one.cause is None))
    ways: deque[list[Transition]] = deque([[]])
    seen = {source}
    while ways:
        way = ways.popleft()
        here = way[-1].target if way else source
        if here is target:
            return way
        if way and here in (VisionState.ERROR, VisionState.HALTED):
            continue
        for transition in known:
            if transition.source is here and transition.target not in seen:
                seen.add(transition.target)
                ways.append([*way, transition])
    raise ValueError(f"there is no way from {source} to {target}")
