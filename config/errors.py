"""Everything that Andon raises on purpose.

AndonError
├── ConfigurationError      a file, setting or environment is wrong: exit 78, never restarted
│   └── MissingExtraError   a plug-in's SDK is not installed: names the pip extra that brings it
├── InputError              an image, bundle, message or argument is not what it must be
│   ├── BundleError         a bundle is damaged, unsigned, unproven or of another format
│   ├── MessageError        a message on the bus does not decode
│   └── ConflictError       what a change was based on is no longer so: look again
├── DeviceError             a camera, PLC or accelerator does not answer as it must
├── StoreError              PostgreSQL, Redis, the journal's disk or the image store does not answer as it must
│   └── ImageLostError      an image's bytes are gone or damaged: asking again cannot help
└── ServiceError            a process of the station ended or did not become ready
"""

from __future__ import annotations

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h: systemd and our supervisor do not restart it


class AndonError(Exception):
    """Base of all errors raised on purpose; its text is meant for people."""

    exit_code = EXIT_FAILURE


class ConfigurationError(AndonError):
    """A file, setting or environment is wrong and trying again cannot help."""

    exit_code = EXIT_CONFIGURATION


class MissingExtraError(ConfigurationError):
    """A plug-in or command needs packages that one pip extra brings."""

    def __init__(self, what: str, extra: str, cause: ImportError | None = None) -> None:
        detail = f" ({cause})" if cause else ""
        super().__init__(f"{what} needs the '{extra}' extra{detail}: pip install 'andon[{extra}]'")


class InputError(AndonError):
    """An image, bundle, message or argument is not what it must be."""

    exit_code = EXIT_USAGE


class BundleError(InputError):
    """A bundle is damaged, unsigned, unproven or of another format."""


class MessageError(InputError):
    """A message on the bus does not decode."""


class ConflictError(InputError):
    """What a change was based on is no longer so: somebody else was quicker, and it must be looked at again."""


class DeviceError(AndonError):
    """A camera, PLC or accelerator does not answer as it must."""


class StoreError(AndonError):
    """PostgreSQL, Redis, the journal's disk or the image store does not answer as it must."""


class ImageLostError(StoreError):
    """The bytes of a stored image are gone or damaged: asking again cannot help."""


class ServiceError(AndonError):
    """A process of the station ended or did not become ready."""
