"""MQTT Sparkplug B: the station is an edge node of its group, and tells its values by exception.

Its birth certificate holds all of them, its data what has changed, its will that it is gone. The only order that it
takes is to be born again. Eclipse Sparkplug Specification 3.0.0: section 5 (operation) and 6 (payloads, which are
Protocol Buffers: four kinds of values need no library for that).
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from pydantic import BaseModel, ConfigDict, Field

from config.errors import DeviceError
from storage.report import Value, Values

PASSWORD = "ANDON_MQTT_PASSWORD"  # noqa: S105 - the variable that holds it
_REBIRTH = "Node Control/Rebirth"
_CONNECTED_S = 5.0  # for the broker's answer
_DISCONNECT_S = 1.0
_SEQUENCES = 256
# number of the type (6.4.16) and field of the value in the metric (6.4.6)
_INT64, _DOUBLE, _BOOLEAN, _STRING = (4, 11), (10, 13), (11, 14), (12, 15)


class Options(BaseModel):
    """Where the broker is, and who we are; the password of `user` is in ANDON_MQTT_PASSWORD."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    host: str = "127.0.0.1"
    port: int = Field(default=1883, ge=1, le=65535)
    group: str = Field(default="andon", pattern=r"^[^/+#]{1,64}$")
    user: str | None = None
    ca_file: Path | None = None  # of the broker's certificate: then TLS is used
    keepalive_s: int = Field(default=15, ge=1, le=3600)


class Reporter:
    """An edge node, named as the station; it lives from one connection to the broker to its end."""

    def __init__(self, options: Options, station: str) -> None:
        """Name the broker; `tell` connects."""
        self._options = options
        self._topic = f"spBv1.0/{options.group}/{{}}/{station}"
        self._client: Client | None = None
        self._answer = threading.Event()
        self._refused = ""
        self._reborn = threading.Event()  # as it was asked to be
        self._told: dict[str, Value] = {}
        self._births = -1
        self._sequence = 0

    def tell(self, values: Values) -> int:
        """Publish what has changed, or all of it in a birth certificate."""
        if self._client is None:
            self._connect()
            self._bear(values)
            return 1
        if self._reborn.is_set():
            self._bear(values)
            return 1
        changed = {name: value for name, value in values.items() if self._told.get(name) != value}
        if not changed:
            return 0
        self._publish("NDATA", changed)
        self._told |= changed
        return 1

    def close(self) -> None:
        """Publish the death certificate and disconnect."""
        client, self._client = self._client, None
        if client is not None:
            death = client.publish(self._topic.format("NDEATH"), _payload({"bdSeq": self._births}, None))
            if death.rc is MQTTErrorCode.MQTT_ERR_SUCCESS:
                death.wait_for_publish(_DISCONNECT_S)
            client.disconnect()
            client.loop_stop()

    def _connect(self) -> None:
        options = self._options
        self._births = (self._births + 1) % _SEQUENCES
        self._answer.clear()
        self._refused = ""
        client = Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        client.username_pw_set(options.user, os.environ.get(PASSWORD))
        if options.ca_file is not None:
            client.tls_set(str(options.ca_file))
        client.will_set(self._topic.format("NDEATH"), _payload({"bdSeq": self._births}, None), qos=1)

        def connected(_client: Client, _data: object, _flags: object, reason: object, _properties: object) -> None:
            self._refused = "" if reason == "Success" else str(reason)
            self._answer.set()

        client.on_connect = connected
        client.on_message = lambda _client, _data, message: self._order(message)
        try:
            client.connect(options.host, options.port, options.keepalive_s)
        except (OSError, ValueError) as error:
            raise self._unheard(error) from error
        client.loop_start()
        if not self._answer.wait(_CONNECTED_S):
            self._refused = "no answer"
        if self._refused:
            client.loop_stop()
            raise self._unheard(self._refused)
        client.subscribe(self._topic.format("NCMD"), qos=1)
        self._client = client

    def _bear(self, values: Values) -> None:
        self._reborn.clear()
        self._sequence = 0
        self._publish("NBIRTH", {"bdSeq": self._births, _REBIRTH: False, **values})
        self._told = dict(values)

    def _publish(self, kind: str, values: Mapping[str, Value]) -> None:
        assert self._client is not None  # noqa: S101 - who calls has connected
        told = self._client.publish(self._topic.format(kind), _payload(values, self._sequence))
        if told.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._client.loop_stop()
            self._client = None
            raise self._unheard(told.rc.name)
        self._sequence = (self._sequence + 1) % _SEQUENCES

    def _order(self, message: MQTTMessage) -> None:
        """Take the order to be born again, and pass over every other: in the client's thread."""
        if _REBIRTH.encode() in message.payload:
            self._reborn.set()

    def _unheard(self, why: object) -> DeviceError:
        return DeviceError(f"MQTT broker {self._options.host}:{self._options.port}: {why}")


def _payload(values: Mapping[str, Value], sequence: int | None) -> bytes:
    now_ms = _varint(time.time_ns() // 1_000_000)
    metrics = (
        _text(1, name) + b"\x18" + now_ms + _value(value)  # field 3: its time
        for name, value in values.items()
    )
    found = b"\x08" + now_ms + b"".join(_bytes(2, metric) for metric in metrics)
    return found if sequence is None else found + b"\x18" + _varint(sequence)


def _value(value: Value) -> bytes:
    match value:
        case bool():
            (kind, field), content = _BOOLEAN, _varint(value)
        case int():
            (kind, field), content = _INT64, _varint(value % (1 << 64))
        case float():
            return b"\x20" + _varint(_DOUBLE[0]) + _varint(_DOUBLE[1] << 3 | 1) + struct.pack("<d", value)
        case str():
            return b"\x20" + _varint(_STRING[0]) + _text(_STRING[1], value)
    return b"\x20" + _varint(kind) + _varint(field << 3) + content


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:  # noqa: PLR2004 - seven bits of each byte are the number's
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])
