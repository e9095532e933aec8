"""Logging in once for each track, with a browser and without, and what is left of it."""

from __future__ import annotations

import json
import textwrap
import threading
import zipfile
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from rolloutobs.errors import ConfigurationError
from synthetic.__main__ import main
from synthetic.journey import Walk, journey

PASSWORD = "correct horse"
PAGE = """<!doctype html><title>members</title><p id="who"></p><form method="post" action="/login">
<input name="password" type="password"><button>Log in</button></form>
<script>
document.getElementById('who').textContent = localStorage.getItem('name') || 'nobody';
fetch('/api/me').then(r => r.ok ? r.json() : {}).then(me => console.log('me ' + me.name));
</script>"""


@dataclass
class Members:
    """A site for members: by cookie, bearer token or name and password."""

    version: str
    track: str
    fail: bool = False
    """Knows nobody's password any more."""
    url: str = ""
    logins: int = 0
    valid: set[str] = field(default_factory=set)
    release: threading.Event = field(default_factory=threading.Event)

    def app(self) -> Starlette:
        def named(response: Response) -> Response:
            response.headers["server-timing"] = f'version;desc="{self.version}", track;desc="{self.track}"'
            return response

        async def start(request: Request) -> Response:
            return named(HTMLResponse(PAGE))

        async def login(request: Request) -> Response:
            form = await request.body()
            if self.fail or b"correct" not in form:
                return named(JSONResponse({}, 403))
            self.logins += 1
            token = f"token-{self.track}-{self.logins:04}"
            self.valid.add(token)
            if request.url.path == "/token":
                return named(JSONResponse({"token": token}))
            page = "<title>in</title><script>localStorage.setItem('name', 'Ada Lovelace')</script>welcome"
            response = named(HTMLResponse(page))
            response.set_cookie("session", token, httponly=True)
            return response

        async def me(request: Request) -> Response:
            basic = "Basic " + b64encode(f"ada:{PASSWORD}".encode()).decode()
            said = request.headers.get("authorization", "")
            tokens = {request.cookies.get("session", ""), said.removeprefix("Bearer ")}
            known = tokens & self.valid or said == basic
            return named(JSONResponse({"name": "Ada"}, 200 if known else 401))

        async def forget(request: Request) -> Response:
            self.valid.clear()
            return named(Response())

        posts = [Route(path, login, methods=["POST"]) for path in ("/login", "/token")]
        return Starlette(routes=[Route("/", start), Route("/api/me", me), Route("/forget", forget), *posts])


FILE = """
from synthetic.journey import SignedOutError, journey

async def by_page(page, shop):
    await shop.open("/")
    await page.fill("[name=password]", shop.secret("MEMBER_PASSWORD"))
    await page.get_by_role("button", name="Log in").click()
    await page.get_by_text("welcome").wait_for()

async def by_token(api, shop):
    answer = await api.post("/token", content=shop.secret("MEMBER_PASSWORD"))
    shop.authorize("Bearer " + answer.raise_for_status().json()["token"])

async def by_cookie(api, shop):
    (await api.post("/login", content=shop.secret("MEMBER_PASSWORD"))).raise_for_status()

async def by_name(api, shop):
    shop.authorize_basic("ada", shop.secret("MEMBER_PASSWORD"))

async def _me(api, shop):
    async with shop.step("me"):
        (await api.get("/api/me")).raise_for_status()

@journey(login=by_page)
async def look(page, shop):
    async with shop.step("look"):
        async with page.expect_console_message(lambda said: said.text.startswith("me ")) as said:
            await shop.open("/")
        if (await said.value).text != "me Ada":
            raise SignedOutError("nobody is logged in")
        await page.get_by_text("Ada Lovelace").wait_for()

@journey(login=by_token)
async def ask(api, shop):
    await _me(api, shop)

@journey(login=by_token)
async def see(page, shop):
    await shop.open("/")
    seen = await page.evaluate("() => fetch('/api/me').then(answer => answer.status)")
    assert seen == 200, seen

@journey(login=by_cookie)
async def ask_by_cookie(api, shop):
    await _me(api, shop)

@journey(login=by_page)
async def ask_after_page(api, shop):
    await _me(api, shop)

@journey(login=by_name)
async def ask_by_name(api, shop):
    await _me(api, shop)

@journey(login=by_token)
async def forgetful(api, shop):
    await _me(api, shop)
    await api.get("/forget")

@journey(login=by_page)
async def stumble(page, shop):
    await shop.open("/")
    await page.get_by_text("Ada Lovelace").wait_for()
    await page.fill("[name=password]", shop.secret("MEMBER_PASSWORD"))
    assert shop.track == "stable", "the canary stumbles"

@journey(login=by_token, session="1ms")
async def ask_again(api, shop):
    await _me(api, shop)
"""


@pytest.fixture
def members(serve, tmp_path, monkeypatch):
    (tmp_path / "password").write_text(PASSWORD)
    monkeypatch.setenv("MEMBER_PASSWORD_FILE", str(tmp_path / "password"))
    (tmp_path / "journeys.py").write_text(textwrap.dedent(FILE))
    return serve(Members("1.1.0", "stable")), serve(Members("1.2.0", "canary"))


def run(tmp_path: Path, members: tuple[Members, Members], only: str, *more: str) -> int:
    stable, canary = members
    argv = ["run", str(tmp_path / "journeys.py"), "--app", "members", "--stable", stable.url]
    return main([*argv, "--canary", canary.url, "--only", only, "--json", str(tmp_path / "out.json"), *more])


def logins(members: tuple[Members, Members]) -> tuple[int, int]:
    return members[0].logins, members[1].logins


@pytest.mark.browser
def test_one_login_for_each_track_serves_all_journeys(members, tmp_path, capsys):
    names = ("look", "ask", "see", "ask_by_cookie", "ask_after_page", "ask_by_name")
    more = [word for name in names for word in ("--only", name)]
    code = run(tmp_path, members, names[0], *more)
    assert code == 0, capsys.readouterr().out
    # By page for two journeys, by token for two, by cookie for one; a name and a password need no login page.
    assert logins(members) == (3, 3)
    assert set(json.loads((tmp_path / "out.json").read_text())["checks"]) == set(names)


def test_a_session_is_renewed_when_its_time_is_up(members, tmp_path):
    assert run(tmp_path, members, "ask_again", "--count", "3") == 0
    assert logins(members) == (3, 3)


def test_a_session_that_the_target_takes_no_more_is_renewed(members, tmp_path):
    assert run(tmp_path, members, "forgetful", "--count", "3") == 0
    assert logins(members) == (3, 3)


def test_a_login_that_only_the_canary_refuses_is_the_canarys_failure(members, tmp_path, capsys):
    members[1].fail = True
    assert run(tmp_path, members, "ask", "--artifacts", str(tmp_path / "kept")) == 1
    assert "why: log in: HTTPStatusError: Client error '403 Forbidden'" in capsys.readouterr().out
    (folder,) = (tmp_path / "kept").iterdir()
    entry = json.loads((folder / "network.har").read_text())["log"]["entries"][0]
    assert (entry["request"]["method"], entry["response"]["status"]) == ("POST", 403)


def test_logins_are_no_journeys(members, tmp_path, capsys):
    assert run(tmp_path, members, "*", "--list") == 0
    assert "by_" not in [line.split()[0][:3] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.browser
def test_nothing_of_a_session_is_kept(members, tmp_path, capfd):
    assert run(tmp_path, members, "stumble", "--artifacts", str(tmp_path / "kept")) == 1
    printed = capfd.readouterr()
    (folder,) = (tmp_path / "kept").iterdir()
    texts = {"stdout": printed.out, "stderr": printed.err}
    texts |= {path.name: path.read_bytes().decode("latin-1") for path in folder.iterdir()}
    with zipfile.ZipFile(folder / "trace.zip") as trace:
        texts |= {name: trace.read(name).decode("utf-8", "replace") for name in trace.namelist()}
    assert {"run.json", "console.txt", "network.har", "trace.zip", "trace.trace"} <= set(texts)
    found = {name for name, text in texts.items() for word in (PASSWORD, "token-canary") if word in text}
    assert found == set()


@pytest.mark.parametrize("value", ["token", "Bearer", "Bearer abc"])
def test_an_authorization_that_is_none(value):
    with pytest.raises(ConfigurationError, match="scheme and a value"):
        Walk("http://x", "", None).authorize(value)


def test_a_session_lasts_for_a_duration():
    async def sign_in(page, shop):
        """Never walked."""

    with pytest.raises(ConfigurationError, match="the journey's session is 'long'"):
        journey(login=sign_in, session="long")
