"""Everything that may come back in place of a token: what it is called, and what it costs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from credentials_provider.emulator import Emulator, Fault
from support import Command, Listener, Project, apps, assert_no_secret, entry, renew

if TYPE_CHECKING:
    from credentials_provider.model import Outcome

pytestmark = pytest.mark.usefixtures("no_backoff")

ATTEMPTS = 3


class Case(NamedTuple):
    fault: Fault
    kind: str
    attempts: int
    says: str  # in the message
    timeout: float = 20.0


FAILURES = {
    # asked to come back later: tried again until the attempts are spent
    "429 with Retry-After": Case(Fault("throttle", retry_after=0.02), "throttled", 3, "throttle"),
    "429 without Retry-After": Case(Fault("throttle"), "throttled", 3, "throttle"),
    "429 in plain text": Case(Fault("throttle", plain=True), "throttled", 3, "throttle"),
    "429 with nonsense": Case(Fault("throttle", retry_after="soon"), "throttled", 3, "throttle"),
    "429 and a past date": Case(Fault("throttle", retry_after=-90, date=True), "throttled", 3, ""),
    "500": Case(Fault("unavailable", status=500), "unavailable", 3, "500"),
    "502": Case(Fault("unavailable", status=502), "unavailable", 3, "502"),
    "503": Case(Fault("unavailable", retry_after=0.02), "unavailable", 3, "503"),
    "504": Case(Fault("unavailable", status=504), "unavailable", 3, "504"),
    "599": Case(Fault("unavailable", status=599), "unavailable", 3, "599"),
    "408": Case(Fault("status", status=408), "unavailable", 3, "408"),
    "temporarily_unavailable": Case(
        Fault("temporarily_unavailable"), "unavailable", 3, "temporary"
    ),
    # the connection
    "reset": Case(Fault("reset"), "unreachable", 3, "cut"),
    "reset in the body": Case(Fault("reset_after"), "unreachable", 3, "cut"),
    "cut connection": Case(Fault("truncated"), "unreachable", 3, "cut"),
    "hang": Case(Fault("hang"), "unreachable", 3, "in time", 0.3),
    "slow": Case(Fault("slow", seconds=60), "unreachable", 3, "in time", 0.3),
    "drip": Case(Fault("drip", seconds=0.1), "unreachable", 3, "in time", 0.3),
    # an answer that is none: asking again would bring the same
    "web page": Case(Fault("html"), "bad_response", 1, "web page"),
    "cut JSON": Case(Fault("truncated_json"), "bad_response", 1, "not JSON"),
    "garbage": Case(Fault("garbage"), "bad_response", 1, "not JSON"),
    "empty": Case(Fault("empty"), "bad_response", 1, "not JSON"),
    "array": Case(Fault("status", status=200, body="[1]"), "bad_response", 1, ""),
    "huge": Case(Fault("huge", megabytes=8), "bad_response", 1, "larger"),
    "no token": Case(Fault("no_access_token"), "bad_response", 1, "no access token"),
    "opaque token": Case(Fault("opaque"), "bad_response", 1, "no access token"),
    "another's token": Case(Fault("wrong_tenant"), "bad_response", 1, "another tenant"),
    "302": Case(Fault("redirect", location="https://localhost/"), "bad_response", 1, "redirect"),
    "404": Case(Fault("status", status=404), "bad_response", 1, "404"),
    "407": Case(Fault("status", status=407), "bad_response", 1, "407"),
    "418": Case(Fault("status", status=418), "bad_response", 1, "418"),
    "bare 400": Case(Fault("status", status=400), "bad_response", 1, "400"),
    "bare 403": Case(Fault("status", status=403, body="<html>no"), "bad_response", 1, "403"),
    # refused
    "echoed secret": Case(Fault("echo_secret"), "rejected", 1, "client secret is wrong"),
}


@pytest.mark.parametrize("case", FAILURES.values(), ids=FAILURES)
def test_a_failure_has_its_kind_its_cause_and_its_price(
    project: Project, idp: Emulator, case: Case
) -> None:
    """A fault that stays is told by its documented kind after the documented attempts, exit 1."""
    app, other = apps(2)
    project.add_all([app, other])
    idp.inject(case.fault, None, app.client_id)

    report = renew(project, timeout=case.timeout, max_attempts=ATTEMPTS)

    struck, spared = report.results
    assert struck.failure is not None
    assert (struck.kind, struck.failure.kind) == ("failed", case.kind)
    assert case.says in struck.failure.message
    assert struck.failure.remedy
    # While the tenant answers the other one, a refusal spends no attempt.
    prices = {case.attempts, case.attempts + (case.kind == "throttled")}
    assert struck.attempts in prices
    assert report.exit_code == 1
    assert app.name + ".json" not in project.files()
    assert spared.kind in {"renewed", "failed"}
    asked = [each.client_id for each in idp.requests].count(app.client_id)
    if case.timeout > 1:
        assert asked == struck.attempts
        assert (spared.kind, spared.attempts) == ("renewed", 1)
    else:  # on a busy machine so small a time-out strikes before a request, and the innocent, too
        assert asked <= case.attempts


PASSING = {
    name: case.fault for name, case in FAILURES.items() if case.attempts > 1 and case.timeout > 1
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_passing_fault_costs_one_more_request(
    project: Project, idp: Emulator, fault: Fault
) -> None:
    """What is worth a retry and then goes well leaves a token and no failure."""
    project.add_all(apps(1))
    idp.inject(fault)

    (outcome,) = renew(project).results

    assert (outcome.kind, outcome.attempts, outcome.failure) == ("renewed", 2, None)
    assert len(idp.requests) == 2


def test_a_hang_ends_with_its_time_out(project: Project, idp: Emulator) -> None:
    """A request that hangs is given up after --timeout, and the next one goes well."""
    project.add_all(apps(1))
    idp.inject(Fault("hang"))

    (outcome,) = renew(project, timeout=2.0).results

    assert (outcome.kind, outcome.attempts) == ("renewed", 2)
    first, second = idp.requests
    assert 0.5 < second.at - first.at < 20


@pytest.mark.parametrize("date", [False, True], ids=["seconds", "date"])
@pytest.mark.parametrize("kind", ["throttle", "unavailable"])
def test_retry_after_is_a_floor(project: Project, idp: Emulator, kind: str, date: bool) -> None:
    """Whatever form Retry-After has, the next request comes no sooner, and then goes well."""
    project.add_all(apps(1))
    idp.inject(Fault(kind, retry_after=1, date=date))

    (outcome,) = renew(project).results

    assert (outcome.kind, outcome.attempts) == ("renewed", 2)
    first, second = idp.requests
    assert second.at - first.at >= 1


def test_retry_after_as_a_date_is_read_by_the_providers_clock(project: Project) -> None:
    """A date is compared with the provider's own Date: a wrong clock here does not matter."""
    with Emulator(clock=lambda: time.time() + 7200) as ahead:
        ahead.inject(Fault("throttle", retry_after=1, date=True))
        moved = Project(project.folder + "2", ahead)
        moved.add_all(apps(1))

        (outcome,) = renew(moved).results

        assert (outcome.kind, outcome.attempts) == ("renewed", 2)
        first, second = ahead.requests
        assert 1 <= second.at - first.at < 20


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(project: Project, idp: Emulator, status: int) -> None:
    """Nobody that a redirect points to gets so much as a connection."""
    project.add_all(apps(1))
    with Emulator() as elsewhere:
        idp.inject(Fault("redirect", location=f"{elsewhere.base_url}/x", status=status), None)

        (outcome,) = renew(project).results

        assert outcome.failure is not None
        assert (outcome.failure.kind, outcome.attempts) == ("bad_response", 1)
        assert "redirect" in outcome.failure.message
        assert (len(idp.requests), elsewhere.connections) == (1, 0)


# Token answers with a flaw that does no harm


def _renewed(project: Project, fault: Fault) -> tuple[Outcome, dict[str, Any], list[str]]:
    (app,) = apps(1)
    project.add(app)
    project.idp.inject(fault)
    listener = Listener()
    (outcome,) = renew(project, listener).results
    assert (outcome.kind, outcome.attempts, outcome.failure) == ("renewed", 1, None)
    return outcome, project.token(app.name), listener.warnings


def _exp(token: str) -> int:
    import jwt

    exp: int = jwt.decode(token, options={"verify_signature": False})["exp"]
    return exp


UNTOLD: tuple[object, ...] = (None, "soon", "", -1, 0, True, [], {}, 10**12, "NaN", 999_999)


@pytest.mark.parametrize(
    "fault",
    [Fault("no_expires_in"), *(Fault("bad_expires_in", value=value) for value in UNTOLD)],
    ids=str,
)
def test_a_life_that_is_not_told_is_read_from_the_token(project: Project, fault: Fault) -> None:
    """Without a usable expires_in the token's own exp counts, and never more than that."""
    _, token, _ = _renewed(project, fault)

    assert isinstance(token["expires_in"], int)
    assert 0 < token["expires_in"] <= 5400
    assert _exp(token["access_token"]) - 2 <= token["expires_on"] <= _exp(token["access_token"])


def test_a_shorter_life_than_the_tokens_is_believed(project: Project) -> None:
    """An expires_in that is shorter than the token's exp wins: it errs early."""
    _, token, _ = _renewed(project, Fault("bad_expires_in", value=1200))

    assert token["expires_in"] == 1200
    assert token["expires_on"] < _exp(token["access_token"])


def test_numbers_as_strings_are_numbers_on_disk(project: Project) -> None:
    """A v1 endpoint's strings become the integers that the registry's readers reckon with."""
    _, token, _ = _renewed(project, Fault("string_numbers"))

    assert isinstance(token["expires_in"], int)
    assert isinstance(token["expires_on"], int)
    assert isinstance(token["tokens"]["expires_at"], int)


def test_the_providers_refresh_in_decides(project: Project) -> None:
    """A token is due after the server's refresh_in, less the spread of a fleet."""
    outcome, token, _ = _renewed(project, Fault("refresh_in", value=3000))

    assert outcome.refresh_at is not None
    issued = token["expires_on"] - token["expires_in"]
    assert 3000 - 0.05 * token["expires_in"] - 1 <= outcome.refresh_at - issued <= 3000


@pytest.mark.parametrize("value", ["later", None, -5, [], "43199x", True])
def test_a_nonsensical_refresh_in_does_no_harm(project: Project, value: object) -> None:
    """A refresh_in that is no number of seconds counts as absent."""
    _, token, _ = _renewed(project, Fault("refresh_in", value=value))

    assert token["generated_at"] < token["refresh_at"] < token["expires_at"]


def test_a_short_life_is_renewed_before_its_half(project: Project) -> None:
    """The least lead of five minutes takes no more than half of a short life."""
    outcome, token, _ = _renewed(project, Fault("short_life", expires_in=120))

    assert outcome.refresh_at is not None
    assert 0 < outcome.refresh_at - (token["expires_on"] - 120) <= 60


@pytest.mark.parametrize("seconds", [-7200, -90, 90, 7200])
def test_a_skewed_clock_is_told_and_costs_no_token(project: Project, seconds: int) -> None:
    """A provider's clock far from ours is warned of, and the expiry is right by ours."""
    before = time.time()
    _, token, warnings = _renewed(project, Fault("skew", seconds=seconds))

    assert [("behind" if seconds > 0 else "ahead") in each for each in warnings] == [True]
    assert "NTP" in warnings[0]
    assert before - 1 <= token["expires_on"] - token["expires_in"] <= time.time()
    assert 3500 < token["expires_in"] <= 5400


def test_many_skewed_answers_make_one_warning(project: Project, idp: Emulator) -> None:
    """The clock is warned of once a run, not once an identity."""
    project.add_all(apps(5))
    idp.inject(Fault("skew", seconds=300), None)
    listener = Listener()

    assert renew(project, listener).count("renewed") == 5
    assert len(listener.warnings) == 1


# Refusals

PERMANENT = """
    7000215 7000222 7000216 7000218 700025 700027 700024 700030 50012 50048 70021 700211 700213
    7002138 700229 700016 7000229 70001 7000112 90002 900023 50059 50128 90019 9001023 50194 90130
    900382 900432 90038 70011 28002 1002012 700022 700023 901002 900144 90014 90015 90023 9002313
    90013 90100 900561 500011 50001 500014 650052 650056 650057 65001 501051 53003 530032 100007
    50196
"""
PASSING_CODES = (50033, 90006, 90024, 90090, 90033, 90012, 90091)
# Refusals that a wait can end although nothing asks the program to try again at once.
TRANSIENT = {700024, 50196}


def test_every_aadsts_refusal_costs_one_request_and_names_its_cure(
    project: Project, idp: Emulator
) -> None:
    """A refusal is final, carries Entra's numbers and ids, and says what to do about it."""
    codes = [int(code) for code in PERMANENT.split()]
    many = apps(len(codes))
    project.add_all(many)
    for app, code in zip(many, codes, strict=True):
        idp.inject(Fault("aadsts", code=code, crlf=code % 2 == 0), None, app.client_id)

    report = renew(project)

    assert report.exit_code == 1
    assert len(idp.requests) == len(codes)
    cures = set()
    for outcome, code in zip(report.results, codes, strict=True):
        failure = outcome.failure
        assert failure is not None
        assert (failure.kind, failure.aadsts, outcome.attempts) == ("rejected", code, 1)
        assert failure.error
        assert failure.message
        assert failure.remedy
        assert failure.trace_id
        assert failure.correlation_id
        assert failure.transient == (code in TRANSIENT)
        cures.add(failure.remedy)
    assert len(cures) > 20  # not one text for all


def test_an_unknown_aadsts_code_leads_to_microsofts_page(project: Project, idp: Emulator) -> None:
    """A number that this program does not know is told, with the place that explains it."""
    project.add_all(apps(1))
    idp.inject(Fault("aadsts", code=7654321))

    (outcome,) = renew(project).results

    assert outcome.failure is not None
    assert outcome.failure.aadsts == 7654321
    assert "error?code=7654321" in outcome.failure.remedy


@pytest.mark.parametrize("code", PASSING_CODES)
def test_a_passing_aadsts_fault_is_tried_again(project: Project, idp: Emulator, code: int) -> None:
    """`temporarily_unavailable` asks for a retry, whichever number explains it."""
    project.add_all(apps(1))
    idp.inject(Fault("aadsts", code=code))

    (outcome,) = renew(project).results

    assert (outcome.kind, outcome.attempts) == ("renewed", 2)


def test_a_number_alone_decides_nothing(project: Project, idp: Emulator) -> None:
    """A transient number under a permanent OAuth error is final: Microsoft may change numbers."""
    project.add_all(apps(1))
    idp.inject(Fault("aadsts", code=50033, error="invalid_client", status=401), None)

    (outcome,) = renew(project).results

    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.attempts) == ("rejected", 1)


def test_the_emulators_own_refusals_come_through(project: Project, idp: Emulator) -> None:
    """Wrong secret, unknown app, unknown tenant: each is Entra's own error, in one request."""
    secret, app, tenant = apps(3)
    idp.add_app(secret)
    project.write(
        [
            entry(secret, client_secret="not-the-right-one"),
            entry(app),
            entry(tenant, tenant_id="11111111-2222-4333-8444-555555555555"),
        ]
    )

    report = renew(project)

    assert [each.failure and each.failure.aadsts for each in report.results] == [
        7000215,
        700016,
        90002,
    ]
    assert [each.attempts for each in report.results] == [1, 1, 1]
    assert len(idp.requests) == 3


def test_a_number_that_is_new_is_told_in_entras_words(
    project: Project, run: Command, idp: Emulator
) -> None:
    """With Microsoft's page about it, and never with the secret."""
    many = apps(1)
    project.add_all(many)
    idp.inject(Fault("aadsts", code=4999999), None)
    ran = run("--json")
    error = ran.json["results"][0]["error"]
    assert (error["kind"], error["aadsts"]) == ("rejected", 4999999)
    assert "The request could not be processed." in error["message"]
    assert "error?code=4999999" in error["remedy"]
    assert_no_secret(ran.stdout + ran.stderr, many)
