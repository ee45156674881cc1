import pytest
import zmq

from config.bus import Bus, send
from config.curve import Keys
from config.errors import ConfigurationError
from config.messages import Enlist, decode


@pytest.fixture
def make_bus():
    made = []

    def make(keys=None):
        made.append(Bus(keys))
        return made[-1]

    yield make
    for bus in made:
        bus.close()


def test_what_was_made_is_read_and_only_the_owner_may_read_it(tmp_path):
    path = tmp_path / "bus.keys"
    keys = Keys.make(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Keys.read(path) == keys
    assert keys.secret.decode() not in repr(keys)
    with pytest.raises(ConfigurationError, match="File exists"):
        Keys.make(path)


def test_files_that_are_no_keys_or_open_to_others_are_refused(tmp_path):
    path = tmp_path / "bus.keys"
    keys, other = Keys.make(path), Keys.make(tmp_path / "other.keys")
    for content in (b"", keys.public, keys.public + b"\n" + other.secret):
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match="not a key pair"):
            Keys.read(path)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Keys.read(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Keys.read(tmp_path / "absent")


def test_only_who_has_the_keys_is_heard(make_bus, tmp_path):
    keys, others = Keys.make(tmp_path / "a"), Keys.make(tmp_path / "b")
    listening = make_bus(keys).bind(zmq.PULL, "tcp://127.0.0.1:*")
    address = listening.getsockopt_string(zmq.LAST_ENDPOINT)
    # the third knows the station's public key and has a pair of its own
    stranger = Keys(keys.public, others.secret)
    named = make_bus()
    pretender = named._socket(zmq.PUSH)
    stranger.call(pretender)
    pretender.curve_publickey = others.public
    pretender.connect(address)
    for socket in (make_bus().connect(zmq.PUSH, address), make_bus(others).connect(zmq.PUSH, address), pretender):
        send(socket, Enlist(camera="stranger", workers=0))
    assert not listening.poll(300)
    send(make_bus(keys).connect(zmq.PUSH, address), Enlist(camera="front", workers=1))
    assert listening.poll(2000)
    message, _ = decode(listening.recv_multipart())
    assert message == Enlist(camera="front", workers=1)
