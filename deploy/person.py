"""Who gives a command: the name of the account, for the audit trail. A statement, not a proof of identity."""

from __future__ import annotations

import os
import pwd


def own_name() -> str:
    """Return the account's name, or its number where it has none."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
