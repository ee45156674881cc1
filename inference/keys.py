"""Keys that seal bundles, and keys that are trusted to have sealed them (Ed25519, RFC 8032)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from config import files
from config.errors import ConfigurationError

_SIGNING = "signing.pem"
_PUBLIC = "signing.pub"


def default_folder() -> Path:
    """Return the key folder that counts where none is named: ANDON_KEYS, or XDG's configuration folder."""
    named = os.environ.get("ANDON_KEYS")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "andon" / "keys"


class SigningKey:
    """The private key with which this machine seals bundles."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = raw(key.public_key())

    @classmethod
    def load(cls, folder: Path | None = None) -> SigningKey:
        """Read this machine's key from `folder`; make it, readable by its owner alone, on first use.

        Raise ConfigurationError where the folder or the key in it cannot be used.
        """
        folder = folder or default_folder()
        path = folder / _SIGNING
        try:
            if not path.exists():
                _make(folder)
            if path.stat().st_mode & 0o077:
                raise ConfigurationError(f"{path}: others can read this private key: chmod 600 it")
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
            if isinstance(key, Ed25519PrivateKey) and not (folder / _PUBLIC).exists():
                files.write(folder / _PUBLIC, _pem(key.public_key()))
        except OSError as error:
            raise ConfigurationError(f"{path}: no signing key can be kept here: {error.strerror}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigurationError(f"{path}: not an Ed25519 private key in PEM: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigurationError(f"{path}: not an Ed25519 private key but a {type(key).__name__}")
        return cls(key)

    def sign(self, message: bytes) -> bytes:
        """Return the signature (64 bytes) of `message`."""
        return self._key.sign(message)


class TrustStore:
    """Public keys whose seals are accepted, each with the file it came from."""

    def __init__(self, keys: Mapping[bytes, str]) -> None:
        self._keys = dict(keys)

    @classmethod
    def load(cls, folder: Path | None = None, extra: Iterable[Path] = ()) -> TrustStore:
        """Trust every `*.pub` in `folder` (this machine's own among them) and each file in `extra`."""
        folder = folder or default_folder()
        keys = {}
        for path in [*sorted(folder.glob("*.pub")), *extra]:
            try:
                key = serialization.load_pem_public_key(path.read_bytes())
            except OSError as error:
                raise ConfigurationError(f"{path}: this public key cannot be read: {error.strerror}") from error
            except (ValueError, UnsupportedAlgorithm) as error:
                raise ConfigurationError(f"{path}: not a public key in PEM: {error}") from error
            if not isinstance(key, Ed25519PublicKey):
                raise ConfigurationError(f"{path}: not an Ed25519 public key but a {type(key).__name__}")
            keys[raw(key)] = str(path)
        return cls(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def trusts(self, public: bytes) -> bool:
        """Tell whether the seals of this public key (32 bytes) are accepted."""
        return public in self._keys


def verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    """Tell whether `signature` is that of `message` under the public key (32 bytes)."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def raw(key: Ed25519PublicKey) -> bytes:
    """Return the 32 bytes of a public key."""
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    private = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    temporary = folder / f".{_SIGNING}.{os.getpid()}"
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(private)
        with contextlib.suppress(FileExistsError):  # another process was first: its key counts
            os.link(temporary, folder / _SIGNING)
    finally:
        temporary.unlink(missing_ok=True)


def _pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
