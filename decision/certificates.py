"""Certificates of OPC UA applications (OPC 10000-6, 6.2.2), as PEM or DER."""

from __future__ import annotations

from typing import Final, Literal

from cryptography import x509

_PEM: Final = b"-----"


def encoding(content: bytes) -> Literal["pem", "der"]:
    """Return how a certificate or a key is written."""
    return "pem" if content.startswith(_PEM) else "der"


def load(content: bytes) -> x509.Certificate:
    """Read a certificate; ValueError if it is none."""
    return (x509.load_pem_x509_certificate if encoding(content) == "pem" else x509.load_der_x509_certificate)(content)


def application_uri(content: bytes) -> str | None:
    """Return the application that a certificate was made for, which must call itself so; ValueError if it is none."""
    try:
        names = load(content).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return uris[0] if uris else None
