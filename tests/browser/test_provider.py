"""Signing in by an OpenID Connect provider: oidc-provider (npm) vouches, a real browser goes there and back."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import npm_packages
import pytest
import requests
import signed_in
from console_process import ConsoleProcess
from live_servers import Servers
from mqtt_broker import free_port
from playwright.sync_api import Browser, expect
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool
from storage_process import storage, until

from config.oidc import SECRET
from storage.console.app import make_app
from storage.console.begun import BegunSignIns
from storage.console.context import Console
from storage.console.oidc import Provider
from storage.people import Role
from storage.roster import Roster
from storage.sessions import VOUCHED
from storage.tokens import Tokens

PROVIDER = Path(__file__).parent.parent / "oidc_provider.cjs"
BACK = "/sign-in/provider/back"
SHARED = "a secret of two servers"
ROLES = {"watch": "VIEWER", "line": "OPERATOR", "makers": "ENGINEER"}
ACCOUNTS = {
    "s-1": {"preferred_username": "Ada", "groups": ["line", "canteen"]},
    "s-2": {"preferred_username": "guest", "groups": ["canteen"]},
    "s-3": {"preferred_username": "local", "groups": ["makers"]},
    "s-4": {"preferred_username": "<b>", "groups": ["line"]},
    "s-5": {"preferred_username": "dan", "groups": "line"},
    "s-6": {"groups": ["line"]},
    "s-7": {"preferred_username": "eve", "groups": ["watch", "makers"]},
}


class Company:
    """The provider's process."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.issuer = f"http://127.0.0.1:{port}"
        self.process: subprocess.Popen[str] | None = None

    def start(self, *back: str, whole: bool) -> None:
        said = {"port": self.port, "client": "andon-st", "secret": SHARED, "accounts": ACCOUNTS, "whole": whole}
        environment = npm_packages.environment("oidc-provider")
        command = [npm_packages.NODE, str(PROVIDER), json.dumps(said | {"back": [where + BACK for where in back]})]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env=environment, text=True, **pipes)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def tell(self, **said: object) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(said) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ok\n"

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@dataclass
class Plant:
    company: Company
    console: ConsoleProcess
    away: requests.Response  # to who wanted to sign in before the provider was there

    @property
    def url(self) -> str:
        return self.console.url

    def audited(self, subject: str) -> list[tuple[str, str, dict[str, str] | None]]:
        engine = create_engine(self.console.database, poolclass=NullPool)
        asked = text("SELECT who, action, after FROM audit WHERE subject = :subject ORDER BY number")
        with engine.connect() as connection:
            rows = connection.execute(asked, {"subject": subject}).all()
        return [(who, action, json.loads(after) if after else None) for who, action, after in rows]

    @contextlib.contextmanager
    def roster(self) -> Iterator[Roster]:
        with signed_in.ledger(self.console.database, self.console.home.path) as ledger:
            yield Roster(ledger)

    def role(self, name: str) -> Role | None:
        with self.roster() as roster:
            return next((member.role for member in roster.members() if member.name == name), None)


class Visitor:
    """A browser without a screen, known to the provider by one account."""

    def __init__(self, plant: Plant, account: str) -> None:
        self.plant, self.account = plant, account
        self.session = requests.Session()
        self.asked = 0  # by the provider, who it is

    def get(self, url: str) -> requests.Response:
        return self.session.get(urljoin(self.plant.url, url), allow_redirects=False, timeout=20)

    def go(self, wanted: str = "/") -> str:
        """Sign in at the provider; return where it sends the browser back to."""
        there = self.get(f"/sign-in/provider?next={wanted}")
        assert there.status_code == 303, there.text
        answer = self.get(there.headers["location"])
        while not answer.headers.get("location", "").startswith(self.plant.url):
            if answer.is_redirect:
                answer = self.get(urljoin(answer.url, answer.headers["location"]))
            else:
                self.asked += 1
                said = {"account": self.account}
                answer = self.session.post(answer.url, said, allow_redirects=False, timeout=20)
            assert answer.status_code < 400, answer.text
        return answer.headers["location"]

    def enter(self) -> requests.Response:
        return self.get(self.go())

    def me(self) -> dict[str, object] | None:
        answer = self.get("/api/me")
        found: dict[str, object] | None = answer.json() if answer.status_code == 200 else None
        return found


@pytest.fixture(scope="module")
def plant(running_servers: Servers) -> Iterator[Plant]:
    running_servers.ready()
    company = Company(free_port())
    npm_packages.environment("oidc-provider")  # skips before anything is started
    section = {
        "issuer": company.issuer,
        "client_id": "andon-st",
        "roles": ROLES,
        "scopes": ("profile", "groups"),
    }
    with storage(running_servers) as kept:
        kept.environment[SECRET] = SHARED
        console = ConsoleProcess(kept, oidc=section)
        try:
            console.start()
            away = requests.get(f"{console.url}/sign-in/provider?next=/defects", allow_redirects=False, timeout=20)
            company.start(console.url, f"http://localhost:{console.port}", whole=False)
            made = Plant(company, console, away)
            until(lambda: Visitor(made, "s-1").get("/sign-in/provider").status_code == 303)
            yield made
        finally:
            console.kill()
            company.kill()


def told(answer: requests.Response) -> str:
    """Return why the sign-in page is shown again; nobody is signed in by such an answer."""
    set_cookies = answer.headers.get("set-cookie", "")
    assert "andon-st=" not in set_cookies
    found = re.search(r'id="told">([^<]*)<', answer.text)
    assert found is not None, answer.text
    return found[1]


def test_a_browser_goes_there_and_comes_back_signed_in(chromium: Browser, plant: Plant) -> None:
    # another site than the provider's 127.0.0.1: a cookie that is SameSite=Strict does not come with its redirect
    url = f"http://localhost:{plant.console.port}"
    context = chromium.new_context(viewport={"width": 1024, "height": 768}, base_url=url)
    context.set_default_timeout(20_000)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
    page.goto("/defects?verdict=REJECT")
    button = page.get_by_role("link", name="Sign in with your company account")
    if folder := os.environ.get("ANDON_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "console-sign-in-provider.png")
    button.click()
    page.wait_for_url(f"{plant.company.issuer}/interaction/*")
    page.get_by_label("Account").fill("s-1")
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url("**/defects?verdict=REJECT")
    page.get_by_label("Signed in as ada").click()
    expect(page.get_by_role("link", name="Change the password")).to_have_count(0)
    cookies = {cookie["name"]: cookie for cookie in context.cookies(url)}
    assert "andon-st-provider" not in cookies
    assert (cookies["andon-st"]["httpOnly"], cookies["andon-st"]["sameSite"]) == (True, "Strict")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{plant.company.issuer}/session/end?*")
    assert page.request.get(f"{url}/api/me").status == 401, "whatever they answer there"
    page.get_by_role("button", name="Yes, sign me out").click()
    page.wait_for_url(f"{url}/sign-in*")
    page.set_extra_http_headers({"Accept-Language": "ko"})
    page.goto("/sign-in")
    expect(page.get_by_role("link", name="회사 계정으로 로그인")).to_be_visible()
    context.close()
    assert faults == []
    engine = create_engine(plant.console.database, poolclass=NullPool)
    visitor = Visitor(plant, "s-1")
    visitor.enter()
    with engine.connect() as connection:
        longest = connection.scalar(text("SELECT max(ends_at - began_at) FROM session WHERE person = 'ada'"))
    assert longest == VOUCHED
    assert plant.audited("ada")[:2] == [
        ("provider", "person.added", {"role": "OPERATOR"}),
        ("ada", "person.signed_in", {"address": "127.0.0.1", "by": "the provider"}),
    ]


def test_the_request_is_by_code_with_pkce_state_and_nonce(plant: Plant) -> None:
    visitor = Visitor(plant, "s-1")
    answer = visitor.get("/sign-in/provider?next=//elsewhere.example")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert asked["redirect_uri"] == plant.url + BACK
    assert set(asked["scope"].split()) == {"openid", "profile", "groups"}
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) >= 43
    assert SHARED not in answer.headers["location"]
    sent = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=lax", "Max-Age=600"} <= {part.strip() for part in sent.split(";")}
    again = visitor.get("/sign-in/provider")
    assert parse_qs(urlsplit(again.headers["location"]).query)["state"] != [asked["state"]]


def test_role_follows_the_groups_at_each_sign_in(plant: Plant) -> None:
    visitor = Visitor(plant, "s-7")
    first = visitor.enter()
    assert first.status_code == 200
    me = visitor.me()
    assert me is not None
    assert (me["name"], me["role"], me["must_change"]) == ("eve", "ENGINEER", False)
    plant.company.tell(account="s-7", claims={"preferred_username": "renamed", "groups": ["watch"]})
    before = visitor.session.cookies["andon-st"]
    assert visitor.get("/sign-in/provider").status_code == 303
    later = Visitor(plant, "s-7")
    assert later.enter().status_code == 200
    me = later.me()
    assert me is not None
    assert (me["name"], me["role"]) == ("eve", "VIEWER"), "the identifier there counts, not the name"
    seen = visitor.me()
    assert seen is not None
    assert seen["role"] == "VIEWER", "in a session that was open, too"
    assert later.session.cookies["andon-st"] != before
    assert ("provider", "person.role_changed", {"role": "VIEWER"}) in plant.audited("eve")
    assert visitor.get("/password").status_code == 404
    plant.company.tell(account="s-7", claims={"preferred_username": "eve", "groups": []})
    answer = Visitor(plant, "s-7").enter()
    assert (answer.status_code, "none of your groups" in told(answer)) == (403, True)
    until(lambda: visitor.me() is None)
    assert later.me() is None


def test_a_session_that_somebody_planted_is_not_taken_over_and_the_one_before_ends(plant: Plant) -> None:
    visitor = Visitor(plant, "s-1")
    visitor.session.cookies.set("andon-st", "planted" * 7, domain="127.0.0.1", path="/")
    visitor.enter()
    own = visitor.session.cookies["andon-st"]
    assert not own.startswith("planted")
    visitor.get("/sign-in/provider")
    assert visitor.enter().status_code == 200
    assert visitor.session.cookies["andon-st"] != own
    assert visitor.asked == 2, "somebody else may stand at this screen by now"
    until(lambda: requests.get(f"{plant.url}/api/me", cookies={"andon-st": own}, timeout=20).status_code == 401)


@pytest.mark.parametrize(
    ("account", "why"),
    [
        ("s-2", "none of your groups"),
        ("s-3", "has your name already"),
        ("s-4", "your name cannot be"),
        ("s-6", "did not say who you are"),
        ("nobody", "did not say who you are"),
    ],
)
def test_who_stays_outside_is_told_why(plant: Plant, account: str, why: str) -> None:
    signed_in.person(plant.console.database, plant.console.home.path, "local", Role.VIEWER)
    visitor = Visitor(plant, account)
    answer = visitor.enter()
    assert (answer.status_code, why in told(answer)) == (403, True), answer.text
    assert visitor.me() is None
    assert plant.role("local") is Role.VIEWER
    assert plant.role("guest") is None


def test_who_is_kept_out_stays_out_and_gets_no_password(plant: Plant) -> None:
    visitor = Visitor(plant, "s-5")
    assert visitor.enter().status_code == 200
    assert plant.role("dan") is Role.OPERATOR
    with plant.roster() as roster:
        with pytest.raises(Exception, match="has no password"):
            roster.reset("dan", "test")
        roster.disable("dan", "test")
    answer = Visitor(plant, "s-5").enter()
    assert (answer.status_code, "keeps you out" in told(answer)) == (403, True)
    until(lambda: visitor.me() is None)
    for password in ("", "None", "null"):
        said = {"name": "dan", "password": password}
        refused = requests.post(f"{plant.url}/api/sign-in", json=said, headers={"Origin": plant.url}, timeout=20)
        assert refused.status_code == 401


@pytest.mark.parametrize(
    ("twist", "why"),
    [
        ({"claims": {"nonce": "of another sign-in"}}, "nonce"),
        ({"claims": {"nonce": None}}, "nonce"),
        ({"claims": {"exp": 1_700_000_000, "iat": 1_699_999_000}}, "expired"),
        ({"claims": {"aud": "another-client"}}, "aud"),
        ({"claims": {"aud": ["andon-st", "another-client"]}}, "azp"),
        ({"claims": {"azp": "another-client"}}, "azp"),
        ({"claims": {"iss": "https://elsewhere.example"}}, "iss"),
        ({"claims": {"sub": "s-3"}}, "userinfo speaks of somebody else"),
        ({"claims": {"sub": ""}}, "sub is no identifier"),
        ({"claims": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}}, "at_hash"),
        ({"alg": "none"}, "none' is not allowed"),
        ({"alg": "HS256"}, "HS256' is not allowed"),
        ({"key": "other"}, "BadSignature"),
    ],
    ids=str,
)
def test_an_id_token_that_is_not_right_is_not_believed(plant: Plant, twist: dict[str, object], why: str) -> None:
    visitor = Visitor(plant, "s-1")
    plant.company.tell(twist=twist)
    try:
        answer = visitor.enter()
    finally:
        plant.company.tell(twist=None)
    assert (answer.status_code, "did not say who you are" in told(answer)) == (403, True)
    assert visitor.me() is None
    assert why in [str(line["why"]) for line in plant.console.lines() if line["event"] == "not_vouched"][-1]


def test_a_twist_that_changes_nothing_comes_in(plant: Plant) -> None:
    """The one before refuses for what is wrong in each token, not for how the tests sign."""
    visitor = Visitor(plant, "s-1")
    plant.company.tell(twist={"claims": {"aud": ["andon-st"]}})
    try:
        assert visitor.enter().status_code == 200
    finally:
        plant.company.tell(twist=None)
    assert visitor.me() is not None


def test_a_sign_in_comes_back_once_and_to_the_browser_that_began_it(plant: Plant) -> None:
    ada, other = Visitor(plant, "s-1"), Visitor(plant, "s-5")
    back = ada.go()
    planted = other.get(back)  # login CSRF: somebody else's way back, in a browser that began none
    assert (planted.status_code, "not begun in this browser" in told(planted)) == (400, True)
    other.get("/sign-in/provider")
    assert other.get(back).status_code == 400, "nor in one that began another"
    wrong = re.sub(r"state=[^&]+", "state=guessed", back)
    assert ada.get(wrong).status_code == 400
    back = ada.go()
    assert ada.get(back).status_code == 200
    assert ada.get(back).status_code == 400
    code = parse_qs(urlsplit(back).query)["code"][0]
    again = Visitor(plant, "s-1")
    replayed = re.sub(r"code=[^&]+", f"code={code}", again.go())
    answer = again.get(replayed)
    assert (answer.status_code, "did not say who you are" in told(answer)) == (403, True)
    begun = again.session.get(f"{plant.url}/sign-in/provider", headers={"Sec-Fetch-Site": "cross-site"}, timeout=20)
    assert begun.status_code == 200, "another site began it"
    assert "set-cookie" not in begun.headers


def test_a_provider_that_is_away_leaves_passwords(plant: Plant) -> None:
    signed_in.person(plant.console.database, plant.console.home.path, "pat", Role.VIEWER)
    assert (plant.away.status_code, "does not answer" in told(plant.away)) == (503, True)
    assert 'data-next="/defects"' in plant.away.text
    visitor = Visitor(plant, "s-1")
    back = visitor.go()
    plant.company.kill()
    answer = visitor.get(back)
    assert (answer.status_code, "does not answer" in told(answer)) == (503, True)
    said = {"name": "pat", "password": signed_in.PASSWORD}
    signed = requests.post(f"{plant.url}/api/sign-in", json=said, headers={"Origin": plant.url}, timeout=20)
    assert signed.status_code == 204
    plant.company.start(plant.url, whole=True)  # with other keys than a moment ago, and all claims in the ID token
    until(lambda: Visitor(plant, "s-1").enter().status_code == 200)


def test_tokens_of_who_the_provider_knows_are_tokens_as_others(plant: Plant) -> None:
    with signed_in.ledger(plant.console.database, plant.console.home.path) as ledger:
        secret = Tokens(ledger).add("adas", "ada", Role.OPERATOR, 1, "test")
    headers = {"Authorization": f"Bearer {secret}"}
    assert requests.get(f"{plant.url}/api/me", headers=headers, timeout=20).json()["name"] == "ada"
    assert requests.get(f"{plant.url}/password", headers=headers, timeout=20).status_code == 404


def test_behind_tls_people_are_sent_back_there(plant: Plant) -> None:
    url, station = "https://andon.plant.example", plant.console.station
    section = station.console.model_copy(update={"url": url})
    assert section.oidc is not None
    parts = dict.fromkeys(field.name for field in dataclasses.fields(Console))
    parts |= {"station": station.model_copy(update={"console": section}), "begun": BegunSignIns()}
    parts |= {"provider": Provider(section.oidc, SHARED, Counter())}
    app = httpx.ASGITransport(make_app(Console(**parts)))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=app, base_url="http://127.0.0.1:8080") as client:
            return await client.get("/sign-in/provider")

    with ThreadPoolExecutor(1) as aside:  # Playwright keeps an event loop running in this thread
        answer = aside.submit(asyncio.run, ask()).result()
    asked = parse_qs(urlsplit(answer.headers["location"]).query)
    assert asked["redirect_uri"] == [url + BACK], "whatever Host a browser says"
    sent = answer.headers["set-cookie"]
    assert sent.startswith("__Host-andon-st-provider=")
    assert {"Secure", "HttpOnly", "SameSite=lax", "Path=/"} <= {part.strip() for part in sent.split(";")}


def test_no_secret_is_in_the_log_or_the_database(plant: Plant) -> None:
    said = plant.console.said()
    assert SHARED not in said
    assert "eyJ" not in said  # how every token of the provider begins
    events = [line["event"] for line in plant.console.lines()]
    assert "not_vouched" in events
    assert events.count("provider_away began") == events.count("provider_away ended") == 2
