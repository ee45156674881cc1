from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from config.errors import BundleError, ConfigurationError
from inference import archive, bundle
from inference.bundle import Bundle, Manifest
from inference.keys import SigningKey, TrustStore

Write = Callable[..., Path]


def members(path: Path) -> dict[str, bytes]:
    return archive.unpack(path.read_bytes())


def test_what_was_written_is_read(write_brightness: Write, trust: TrustStore, brightness_manifest: Manifest) -> None:
    opened = Bundle.open(write_brightness(), trust)
    assert opened.manifest == brightness_manifest
    assert [int(frame.mean()) for frame in opened.golden_frames] == [51, 204]
    assert opened.golden_frames[0].shape == (6, 8, 1)
    assert opened.title.startswith("brightness (sha256:")


def test_same_content_gives_the_same_file_and_digest(write_brightness: Write, trust: TrustStore) -> None:
    first = write_brightness().read_bytes()
    path = write_brightness()
    assert path.read_bytes() == first
    assert Bundle.open(path, trust).digest != Bundle.open(write_brightness(name="other"), trust).digest


def test_a_common_tool_can_look_inside(write_brightness: Write) -> None:
    with zipfile.ZipFile(write_brightness()) as opened:
        assert opened.testzip() is None
        assert opened.namelist() == ["manifest.json", "model.onnx", "golden/0.png", "golden/1.png", "seal.json"]


def test_nothing_is_left_when_it_cannot_be_written(
    tmp_path: Path, key: SigningKey, brightness_manifest: Manifest
) -> None:
    frames = (np.zeros((6, 8, 1), np.uint8),) * 2
    with pytest.raises(BundleError, match="cannot be written"):
        bundle.write(tmp_path / "absent" / "b.andon", brightness_manifest, b"", frames, key)
    (tmp_path / "taken.andon").mkdir()
    with pytest.raises(BundleError, match="cannot be written"):
        bundle.write(tmp_path / "taken.andon", brightness_manifest, b"", frames, key)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keys", "taken.andon"]


def test_a_missing_file_is_named(tmp_path: Path, trust: TrustStore) -> None:
    with pytest.raises(BundleError, match=r"gone\.andon: cannot be read: No such file"):
        Bundle.open(tmp_path / "gone.andon", trust)


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_bundle_is_refused(tmp_path: Path, trust: TrustStore, content: bytes) -> None:
    path = tmp_path / "x.andon"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"x\.andon: damaged, truncated or no bundle at all"):
        Bundle.open(path, trust)


def test_a_truncated_file_is_refused_wherever_it_ends(write_brightness: Write, trust: TrustStore) -> None:
    path = write_brightness()
    data = path.read_bytes()
    for size in range(0, len(data), 97):
        path.write_bytes(data[:size])
        with pytest.raises(BundleError, match="truncated"):
            Bundle.open(path, trust)


def test_a_compressed_member_is_refused(write_brightness: Write, trust: TrustStore) -> None:
    path = write_brightness()
    content, buffer = members(path), io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name, data in content.items():
            bomb.writestr(name, data)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(BundleError, match="compressed"):
        Bundle.open(path, trust)


def test_a_member_that_is_there_twice_is_refused(write_brightness: Write, trust: TrustStore) -> None:
    path = write_brightness()
    buffer = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(buffer, "a") as again, pytest.warns(UserWarning, match="Duplicate"):
        again.writestr("model.onnx", b"other")
    path.write_bytes(buffer.getvalue())
    with pytest.raises(BundleError, match="twice"):
        Bundle.open(path, trust)


def test_bytes_before_or_behind_are_refused(write_brightness: Write, trust: TrustStore) -> None:
    path = write_brightness()
    data = path.read_bytes()
    for changed in (b"#!" + data, data + b"\0"):
        path.write_bytes(changed)
        with pytest.raises(BundleError, match="damaged"):
            Bundle.open(path, trust)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "golden/1.png"])
def test_an_exchanged_member_is_named(write_brightness: Write, trust: TrustStore, name: str) -> None:
    path = write_brightness()
    path.write_bytes(archive.pack(members(path) | {name: b"other"}))
    with pytest.raises(BundleError, match=f"{name}: is not what was sealed"):
        Bundle.open(path, trust)


def test_an_added_or_removed_member_is_named(write_brightness: Write, trust: TrustStore) -> None:
    path = write_brightness()
    content = members(path)
    path.write_bytes(archive.pack(content | {"setup.py": b""}))
    with pytest.raises(BundleError, match=r"setup\.py: is not what was sealed"):
        Bundle.open(path, trust)
    path.write_bytes(archive.pack({name: data for name, data in content.items() if name != "golden/0.png"}))
    with pytest.raises(BundleError, match=r"golden/0\.png: is not what was sealed"):
        Bundle.open(path, trust)
    path.write_bytes(archive.pack({name: data for name, data in content.items() if name != "seal.json"}))
    with pytest.raises(BundleError, match=r"has no seal\.json"):
        Bundle.open(path, trust)


def test_a_seal_over_the_wrong_members_is_refused(
    tmp_path: Path, key: SigningKey, trust: TrustStore, brightness_manifest: Manifest
) -> None:
    path = tmp_path / "b.andon"
    bundle.write(path, brightness_manifest, b"", (np.zeros((6, 8, 1), np.uint8),) * 3, key)
    with pytest.raises(BundleError, match=r"where manifest.json, model.onnx, golden/0.png, golden/1.png, seal"):
        Bundle.open(path, trust)


def test_a_foreign_key_is_refused_until_it_is_trusted(write_brightness: Write, tmp_path: Path) -> None:
    path = write_brightness()
    SigningKey.load(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="key that is not trusted"):
        Bundle.open(path, TrustStore.load(tmp_path / "elsewhere"))
    extended = TrustStore.load(tmp_path / "elsewhere", extra=[tmp_path / "keys" / "signing.pub"])
    assert len(extended) == 2
    assert Bundle.open(path, extended).manifest.name == "brightness"


def test_a_seal_signed_by_another_than_it_says_is_refused(
    write_brightness: Write, tmp_path: Path, key: SigningKey, trust: TrustStore
) -> None:
    path = write_brightness()
    content = members(path)
    stranger = SigningKey.load(tmp_path / "stranger")
    forged = content["seal.json"].replace(key.public.hex().encode(), stranger.public.hex().encode())
    assert forged != content["seal.json"]
    path.write_bytes(archive.pack(content | {"seal.json": forged}))
    with pytest.raises(BundleError, match="signature does not match"):
        Bundle.open(path, trust)


def test_another_format_is_named(write_brightness: Write, trust: TrustStore) -> None:
    with pytest.raises(BundleError, match="format 2 is unknown; this version of Andon reads format 1"):
        Bundle.open(write_brightness(format=2), trust)


def test_a_manifest_with_a_wrong_field_is_named(write_brightness: Write, trust: TrustStore) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json: images"):
        Bundle.open(write_brightness(images=0), trust)


def test_the_signing_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    first = SigningKey.load(tmp_path / "new" / "keys")
    path = tmp_path / "new" / "keys" / "signing.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SigningKey.load(tmp_path / "new" / "keys").public == first.public
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        SigningKey.load(tmp_path / "new" / "keys")


def test_a_lost_public_half_is_made_again(tmp_path: Path) -> None:
    first = SigningKey.load(tmp_path)
    (tmp_path / "signing.pub").unlink()
    SigningKey.load(tmp_path)
    assert TrustStore.load(tmp_path).trusts(first.public)


def test_the_key_folder_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDON_KEYS", str(tmp_path / "named"))
    SigningKey.load()
    assert (tmp_path / "named" / "signing.pub").is_file()
    monkeypatch.delenv("ANDON_KEYS")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert len(TrustStore.load()) == 0
    SigningKey.load()
    assert (tmp_path / "xdg" / "andon" / "keys" / "signing.pem").is_file()


def test_what_is_no_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.pub").write_text("not a key")
    with pytest.raises(ConfigurationError, match=r"a\.pub: not a public key in PEM"):
        TrustStore.load(tmp_path)
    with pytest.raises(ConfigurationError, match=r"b\.pub: this public key cannot be read"):
        TrustStore.load(tmp_path / "none", extra=[tmp_path / "b.pub"])
    (tmp_path / "signing.pem").write_text("not a key")
    (tmp_path / "signing.pem").chmod(0o600)
    with pytest.raises(ConfigurationError, match=r"signing\.pem: not an Ed25519 private key"):
        SigningKey.load(tmp_path)


def test_a_key_of_another_kind_is_named(tmp_path: Path) -> None:
    other = X25519PrivateKey.generate()
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (tmp_path / "signing.pem").write_bytes(other.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    (tmp_path / "signing.pem").chmod(0o600)
    with pytest.raises(ConfigurationError, match="not an Ed25519 private key but a X25519"):
        SigningKey.load(tmp_path)
    public = other.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "other.pub").write_bytes(public)
    with pytest.raises(ConfigurationError, match="not an Ed25519 public key but a X25519"):
        TrustStore.load(tmp_path)


def test_seals_are_those_of_rfc_8032(key: SigningKey) -> None:
    pem = Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    )
    assert SigningKey(pem).public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert SigningKey(pem).sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a")
    assert key.public != SigningKey(pem).public
