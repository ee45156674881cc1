"""What is wrong with a Modbus peer, in words: the library's own speak of its retries and its buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pymodbus.exceptions import ConnectionException, ModbusIOException

if TYPE_CHECKING:
    from pymodbus.pdu import ModbusPDU

_EXCEPTIONS: Final = {  # MODBUS Application Protocol V1.1b3, 7
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge, it will take longer",
    6: "server device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}


def refusal(answer: ModbusPDU) -> str:
    """Say how a peer has refused a request."""
    code = int(getattr(answer, "exception_code", 0))
    return f"refused: exception {code}, {_EXCEPTIONS.get(code, 'which the standard does not know')}"


def failure(error: Exception, timeout_ms: int) -> str:
    """Say why there is no answer."""
    match error:
        case ModbusIOException():
            return f"no answer to it within {timeout_ms} ms"
        case ConnectionException():
            return "the connection was closed"
    return str(error)
