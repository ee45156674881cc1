"""People who are known by an OpenID Connect provider: `[console.oidc]` of the station file."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

SECRET = "ANDON_OIDC_CLIENT_SECRET"  # noqa: S105 - the variable's name

_Word = Annotated[str, Field(pattern=r"^[!-~]{1,200}$")]


class OidcSection(BaseModel):
    """Which provider it is, and which role its groups have here; needs the extra `oidc`.

    The client's secret is in the environment variable ANDON_OIDC_CLIENT_SECRET. Of several groups the highest role
    counts; who is in none of them stays outside. `claim` and `name_claim` are looked for in the ID token, then at the
    provider's userinfo address.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    issuer: str = Field(pattern=r"^https?://[^\s?#@\"<>]+$")  # as the provider writes it, to the last slash
    client_id: _Word
    roles: dict[str, Literal["VIEWER", "OPERATOR", "ENGINEER", "ADMIN"]] = Field(min_length=1)
    claim: _Word = "groups"
    name_claim: _Word = "preferred_username"
    scopes: tuple[_Word, ...] = ("profile",)  # beside openid; many providers tell groups for the scope "groups" alone
    shared: bool = True  # screens: the provider asks each time who it is, though somebody is signed in there already
    label: str | None = Field(default=None, min_length=1, max_length=60)  # on the button of the sign-in page

    @model_validator(mode="after")
    def _nobody_listens(self) -> Self:
        parts = urlsplit(self.issuer)
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise ValueError(f"issuer must begin with https:// where it is on another machine, not {self.issuer}")
        return self


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
