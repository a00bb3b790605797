"""`watch` on the emulator through three lifetimes: what is wrong with one identity is its own.

The service sleeps by moving its clock and the provider's on, so that hours take a second.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from credentials_provider.emulator import Emulator
from credentials_provider.minting import Minted
from credentials_provider.model import RunOptions
from credentials_provider.run import batch
from credentials_provider.run.watching import PassResult, Watch
from credentials_provider.tokens.claims import decode_claims
from support import Listener, Project, apps, entry

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

    from credentials_provider.emulator import App
    from credentials_provider.minting import Failure
    from credentials_provider.model import Entry, Report
    from credentials_provider.run.renewal import Minter
    from credentials_provider.run.watching import Read

LIFE = 3600  # seconds
THREE_LIVES = 3 * LIFE
GOOD = ("ci-agent", "billing-agent")
MADE = apps(3)


class Ended(BaseException):
    """The time that the test has is over."""


class Service:
    """`watch` in this process, on a clock that its sleep moves on; `change` comes after a while."""

    def __init__(self, folder: str) -> None:
        self.later = 0.0
        self.passed: list[PassResult] = []
        self.tokens: dict[str, set[str]] = {name: set() for name in GOOD}
        self.change: Callable[[], None] | None = None
        self.idp = Emulator(MADE, token_lifetime=LIFE, clock=self.now)
        self.project = Project(folder, self.idp)

    def now(self) -> float:
        return time.time() + self.later

    def serve(self) -> None:
        options = RunOptions(self.project.settings())
        watch = Watch(
            options,
            run=self._pass,
            reload=lambda: options,
            now=self.now,
            wait=self._sleep,
            on_pass=self.passed.append,
            heartbeat=lambda: None,
        )
        with pytest.raises(Ended):
            watch.serve()

    def _pass(self, options: RunOptions, read: Read) -> Report:
        def make_minter(*asked: Any) -> Minter:
            minter = batch.entra_minter(*asked)

            def mint(entry: Entry) -> Minted | Failure:
                return self._moved(minter.mint(entry))

            return minter._replace(mint=mint)

        return batch.run(options, Listener(), make_minter=make_minter, now=self.now, read=read)

    def _moved(self, result: Minted | Failure) -> Minted | Failure:
        """As the machine's clock would have it if it went with the service's."""
        if isinstance(result, Minted):
            result = replace(result, issued_at=result.issued_at + int(self.later))
        if result.clock_skew is None:
            return result
        return replace(result, clock_skew=result.clock_skew + self.later)

    def _sleep(self, seconds: float) -> bool:
        for name in GOOD:
            token = self.project.token(name)["access_token"]
            claims = decode_claims(token)
            assert claims is not None
            assert claims["exp"] > self.now(), f"{name} expired after {self.later:.0f} s"
            self.tokens[name].add(token)
        self.later += seconds
        if self.change and self.later > LIFE / 6:
            self.change()
            self.change = None
        if self.later > THREE_LIVES:
            raise Ended
        return False


@pytest.fixture
def service(tmp_path: pathlib.Path) -> Iterator[Service]:
    made = Service(str(tmp_path))
    with made.idp:
        made.project.write([entry(app) for app in MADE])
        yield made


def bad(app: App, **changes: object) -> dict[str, Any]:
    return {**entry(app), **changes}


ENTRIES: dict[str, Callable[[App], list[Any]]] = {
    "a wrong type": lambda app: [bad(app, client_id=17)],
    "a misspelt field": lambda app: [bad(app, client_secrt="x")],
    "a placeholder": lambda app: [bad(app, client_secret="your-client-secret")],
    "no credential": lambda app: [entry(app, client_secret=None)],
    "a wrong tenant": lambda app: [bad(app, tenant_id="common")],
    "a wrong name": lambda app: [bad(app, identity_name="../b")],
    "no object": lambda _: [1],
    "one name twice": lambda app: [entry(app), bad(app, identity_name=app.name.upper())],
}


def _in_order(service: Service) -> None:
    """Each token of the others was renewed in time, three times at least."""
    assert all(len(tokens) >= 3 for tokens in service.tokens.values())
    asked = [request.client_id for request in service.idp.requests]
    assert asked.count(MADE[2].client_id) <= 1


@pytest.mark.parametrize("running", [False, True], ids=["from the start", "under way"])
@pytest.mark.parametrize("kind", ENTRIES)
def test_a_bad_entry_leaves_the_others_alive(service: Service, kind: str, running: bool) -> None:
    """Their tokens never expire, and the bad entry's identity is asked for no more."""
    *good, third = MADE
    wrong = [*ENTRIES[kind](third), *(entry(app) for app in good)]

    def put() -> None:
        service.project.write(wrong)

    if running:
        service.change = put
    else:
        put()
    service.serve()

    _in_order(service)
    report = service.passed[-1].report
    assert report is not None
    failures = [each.failure.kind for each in report.results if each.failure]
    assert failures == ["configuration"] * len(ENTRIES[kind](third))
    assert os.path.exists(service.project.path(third.name)) is running


def _pipe(path: str) -> None:
    os.unlink(path)
    os.mkfifo(path)


def _write(path: str, text: str, encoding: str = "utf-8") -> None:
    with open(path, "w", encoding=encoding) as file:
        file.write(text)


BROKEN: dict[str, Callable[[str], None]] = {
    "half of it": lambda path: _write(path, '[{"identity_name": "ci-ag'),
    "not UTF-8": lambda path: _write(path, "[]\n", "utf-16"),
    "no array": lambda path: _write(path, json.dumps({"identities": []})),
    "gone": os.unlink,
    "a pipe": _pipe,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_breaks_leaves_all_alive(service: Service, kind: str) -> None:
    """The service goes on with the last file that could be read, and says so at every pass."""
    service.change = lambda: BROKEN[kind](service.project.identities_file)
    service.serve()

    assert all(len(tokens) >= 3 for tokens in service.tokens.values())
    first, *later = service.passed
    assert first.error is None
    assert later
    assert all(each.error is not None and each.report is not None for each in later)
