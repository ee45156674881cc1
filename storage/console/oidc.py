"""An OpenID Connect provider, asked by the authorization code flow with PKCE (OpenID Connect Core 1.0, 3.1; RFC 7636).

Authlib speaks OAuth 2.0, joserfc verifies signatures (both BSD-3, extra `oidc`). Whom the provider vouches for is
believed by an ID token alone: signed by one of its keys, from this issuer, for this client, not expired, for the
sign-in that was begun here.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit

from authlib.integrations.requests_client import OAuth2Session, OAuthError
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from requests import RequestException

from config.log import Condition
from config.oidc import OidcSection
from storage.console.begun import Begun
from storage.people import Role
from storage.vouched import AwayError, NotVouchedError, Vouched

_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
_CONNECT_S, _READ_S = 3.0, 5.0
_WHOLE_S = 15.0  # of one sign-in, whatever is slow
_KEPT_S = 60.0  # addresses and keys; of a provider that goes away after that the sign-in page tells
_AGAIN_S = 2.0  # after the provider did not answer; keys, after it signed by one that is not known
_SKEW_S = 60  # between two machines' clocks
_OPTIONAL = ("userinfo_endpoint", "end_session_endpoint")
_THREADS = 2
_WAITING = 8
_LONGEST = 255  # characters of an identifier (OpenID Connect Core, 2)

Result = TypeVar("Result")


class _Known(NamedTuple):
    metadata: Mapping[str, Any]
    keys: KeySet
    asked_s: float


class Provider:
    """One provider; a few threads ask it, so that a slow one holds up nobody but who signs in by it."""

    def __init__(self, section: OidcSection, secret: str, counters: Counter[str]) -> None:
        self._section = section
        self._secret = secret
        self._threads = ThreadPoolExecutor(_THREADS, "provider")
        self._waiting = 0
        self._asking = threading.Lock()
        self._known: _Known | None = None
        self._away = Condition("provider_away", counters)
        self._away_until_s = 0.0

    async def address(self, state: str, begun: Begun) -> str:
        """Return where a browser goes to sign in; raise AwayError."""
        return await self._run(lambda: self._address(state, begun))

    async def farewell(self, back: str) -> str | None:
        """Return where a browser ends its session there, which sends it `back`; None where nobody has to.

        OpenID Connect RP-Initiated Logout 1.0, 2; without the ID token, which is not kept, the provider asks first.
        """
        if not self._section.shared:
            return None
        try:
            endpoint = (await self._run(self._look)).metadata.get("end_session_endpoint")
        except AwayError:
            return None  # it asks again who it is at the next sign-in
        if endpoint is None:
            return None
        asked = urlencode({"client_id": self._section.client_id, "post_logout_redirect_uri": back})
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{asked}"

    async def vouch(self, code: str, begun: Begun) -> Vouched:
        """Return whom a `code` that came back speaks for; raise AwayError, or NotVouchedError that says why."""
        return await self._run(lambda: self._vouch(code, begun))

    async def _run(self, ask: Callable[[], Result]) -> Result:
        if self._waiting >= _WAITING:
            raise AwayError(f"{_WAITING} sign-ins wait for it already")
        self._waiting += 1
        try:
            said = await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(self._threads, ask), _WHOLE_S)
        except TimeoutError:
            self._away.occur(error=f"no answer within {_WHOLE_S:.0f} s")
            raise AwayError(f"no answer within {_WHOLE_S:.0f} s") from None
        except AwayError as error:
            self._away.occur(error=str(error))
            raise
        finally:
            self._waiting -= 1
        self._away.end()
        return said

    def _address(self, state: str, begun: Begun) -> str:
        endpoint = self._look().metadata["authorization_endpoint"]
        asking = {"prompt": "login"} if self._section.shared else {}
        with self._session(begun.redirect_uri) as session:
            url, _ = session.create_authorization_url(
                endpoint, state=state, nonce=begun.nonce, code_verifier=begun.verifier, **asking
            )
        return str(url)

    def _vouch(self, code: str, begun: Begun) -> Vouched:
        known = self._look()
        with self._session(begun.redirect_uri) as session:
            tokens = session.fetch_token(
                known.metadata["token_endpoint"],
                grant_type="authorization_code",
                code=code,
                code_verifier=begun.verifier,
                auth=session.client_auth(_client_auth(known.metadata)),
            )
            said = self._id_token(tokens, begun.nonce)
            wanted = {self._section.claim, self._section.name_claim}
            if wanted - said.keys() and "userinfo_endpoint" in known.metadata:
                more = _object(session.get(known.metadata["userinfo_endpoint"], allow_redirects=False))
                if more.get("sub") != said["sub"]:  # OpenID Connect Core, 5.3.2
                    raise NotVouchedError("its userinfo speaks of somebody else")
                said = {**more, **said}
        name = said.get(self._section.name_claim)
        if not isinstance(name, str) or not name:
            raise NotVouchedError(f"it does not say the claim {self._section.name_claim!r}: ask it for another scope")
        return Vouched(f"{self._section.issuer} {said['sub']}", name, self._role(said.get(self._section.claim)))

    def _id_token(self, tokens: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        """Return what the ID token says, once all of OpenID Connect Core, 3.1.3.7 has been looked at."""
        encoded = tokens.get("id_token")
        if not isinstance(encoded, str):
            raise NotVouchedError("it sent no ID token")
        try:
            signed = jwt.decode(encoded, self._look().keys, algorithms=_ALGORITHMS)
        except InvalidKeyIdError:
            signed = jwt.decode(encoded, self._look(_AGAIN_S).keys, algorithms=_ALGORITHMS)  # it may have new keys
        ours = {"iss": self._section.issuer, "aud": self._section.client_id}
        claims = CodeIDToken(
            signed.claims,
            signed.header,
            options={name: {"essential": True, "value": value} for name, value in ours.items()},
            params={
                "nonce": nonce,
                "client_id": self._section.client_id,
                "access_token": tokens.get("access_token"),
            },
        )
        claims.validate(leeway=_SKEW_S)
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST or not subject.isprintable():
            raise NotVouchedError("the ID token's sub is no identifier")
        return dict(claims)

    def _role(self, groups: object) -> Role | None:
        """Return the highest role of somebody's groups: a list of names, or one name."""
        names = groups if isinstance(groups, list) else [groups]
        roles = [
            Role(self._section.roles[name]) for name in names if isinstance(name, str) and name in self._section.roles
        ]
        return max(roles, default=None)

    def _look(self, kept_s: float = _KEPT_S) -> _Known:
        """Return the provider's addresses and keys, asked for where they are older than `kept_s`."""
        with self._asking:
            now_s = time.monotonic()
            if self._known is not None and now_s - self._known.asked_s < kept_s:
                return self._known
            if now_s < self._away_until_s:
                raise AwayError("it did not answer a moment ago")
            try:
                with self._session("") as session:
                    self._known = self._discover(session)
            except AwayError:
                self._away_until_s = time.monotonic() + _AGAIN_S
                raise
            return self._known

    def _discover(self, session: OAuth2Session) -> _Known:
        """Return what OpenID Connect Discovery 1.0, 4 tells."""
        issuer = self._section.issuer
        where = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        metadata = _object(session.get(where, withhold_token=True, allow_redirects=False))
        if metadata.get("issuer") != issuer:
            raise AwayError(f"{where} is of the issuer {metadata.get('issuer')!r:.200}, not {issuer!r}")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", *_OPTIONAL):
            said = metadata.get(name)
            if name in _OPTIONAL and said is None:
                continue
            if not isinstance(said, str) or urlsplit(said).scheme not in {"https", urlsplit(issuer).scheme}:
                raise AwayError(f"{where}: {name}: must be an address by TLS, not {said!r:.200}")
        keys = _object(session.get(metadata["jwks_uri"], withhold_token=True, allow_redirects=False))
        try:
            known = KeySet.import_key_set({"keys": keys["keys"]})
        except (KeyError, TypeError, AttributeError, JoseError) as error:
            raise AwayError(f"{metadata['jwks_uri']}: is no set of keys") from error
        return _Known(metadata, known, time.monotonic())

    @contextmanager
    def _session(self, redirect_uri: str) -> Iterator[OAuth2Session]:
        """Give a session of Authlib, whose errors and requests' become ours."""
        try:
            with OAuth2Session(
                self._section.client_id,
                self._secret,
                scope=" ".join(("openid", *self._section.scopes)),
                redirect_uri=redirect_uri,
                code_challenge_method="S256",
                default_timeout=(_CONNECT_S, _READ_S),
            ) as session:
                yield session
        except RequestException as error:
            raise AwayError(f"{type(error).__name__}: {error}"[:500]) from error
        except (OAuthError, JoseError) as error:
            raise NotVouchedError(f"{type(error).__name__}: {error}"[:500]) from error
        except ValueError as error:
            raise AwayError(f"its answer makes no sense: {error}"[:500]) from error


def _client_auth(metadata: Mapping[str, Any]) -> str:
    """Return how the client shows its secret: as every provider takes it, but where one says another (Discovery, 3)."""
    said = metadata.get("token_endpoint_auth_methods_supported")
    basic, post = "client_secret_basic", "client_secret_post"
    return post if isinstance(said, list) and basic not in said and post in said else basic


def _object(answer: Any) -> dict[str, Any]:  # noqa: ANN401 - requests' Response; requests has no types
    """Return the JSON object of an answer; raise AwayError, or requests' own error."""
    answer.raise_for_status()
    said = answer.json()
    if not isinstance(said, dict):
        raise AwayError(f"{answer.url}: is no JSON object")
    return said
