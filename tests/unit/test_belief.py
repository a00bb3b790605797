"""Which token on disk is believed: anybody who can write a file can write a good-looking one."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from credentials_provider.identities.reading import make_entry
from credentials_provider.policy import LONGEST_LIFE
from credentials_provider.tokens.plan import make_plan
from credentials_provider.tokens.store import TokenStore
from unit.making import CLIENT, LIFE, NOW, TENANT, Project, sample_fields

if TYPE_CHECKING:
    from credentials_provider.model import PlanItem

HOUR = 3600
OTHER = "99999999-8888-4777-8666-555555555555"


def jwt(**claims: object) -> str:
    said = {"tid": TENANT, "appid": CLIENT, "exp": NOW - 60 + LIFE, **claims}
    said = {name: value for name, value in said.items() if value is not None}
    parts = ({"alg": "RS256"}, said)
    text = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts)
    return ".".join([*(each.rstrip("=") for each in text), "c2ln"])


def item(project: Project, *, tenant_id: str = TENANT, **changes: Any) -> PlanItem:
    """What the plan makes of the sample's token file with these changes."""
    entry = make_entry(1, sample_fields(tenant_id=tenant_id), project.settings())
    project.token("ci", **{"definition": entry.fingerprint, **changes})
    on_disk, _ = TokenStore(str(project.folder)).read(["ci"])
    return make_plan([entry], on_disk, NOW)[0]


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"tid": TENANT.upper(), "appid": CLIENT.upper()},
        {"appid": None, "azp": CLIENT},
        {"tid": None, "appid": None},
        {"exp": None},
        {"exp": NOW + 10 * LIFE},
    ],
    ids=str,
)
def test_a_token_that_is_the_identitys_own_is_fresh(
    project: Project, claims: dict[str, object]
) -> None:
    """It may say nothing of tenant and application, in v1 or v2, in any case."""
    found = item(project, access_token=jwt(**claims))
    assert (found.reason, found.has_valid_token) == (None, True)


@pytest.mark.parametrize("claims", [{"tid": OTHER}, {"appid": OTHER}, {"azp": OTHER}], ids=str)
@pytest.mark.parametrize("definition", ["own", "older", None])
def test_a_token_of_another_tenant_or_application_is_not_believed(
    project: Project, claims: dict[str, object], definition: str | None
) -> None:
    """Whatever the file says: its fingerprint has no key."""
    changes: dict[str, Any] = (
        {} if definition == "own" else {"definition": definition and "0:older"}
    )
    found = item(project, access_token=jwt(**claims), **changes)
    assert (found.reason, found.has_valid_token) == ("unreadable", False)


@pytest.mark.parametrize(
    "end", ["\n", "\nX-Other: 1", " x", "'; id", '"', "\x00", "é", "\ud800"], ids=ascii
)
def test_what_would_end_a_header_or_a_word_is_no_token(project: Project, end: str) -> None:
    """A run replaces it, and no command gives it."""
    found = item(project, access_token=jwt() + end)
    assert (found.reason, found.has_valid_token) == ("unreadable", False)


def test_a_tenant_that_was_asked_for_by_its_domain_cannot_be_compared(project: Project) -> None:
    """Tokens name the GUID alone; the application is compared all the same."""
    domain = "contoso.onmicrosoft.com"
    assert item(project, tenant_id=domain, access_token=jwt(tid=OTHER)).has_valid_token
    assert not item(project, tenant_id=domain, access_token=jwt(appid=OTHER)).has_valid_token


@pytest.mark.parametrize(
    ("life", "serves"), [(LONGEST_LIFE, True), (LONGEST_LIFE + 1, False), (10 * 366 * 86400, False)]
)
@pytest.mark.parametrize("ours", [True, False])
def test_no_token_is_believed_for_more_than_48_hours(
    project: Project, life: int, *, serves: bool, ours: bool
) -> None:
    """Neither one that this program could have written nor one of the registry's form."""
    changes: dict[str, Any] = {} if ours else {"definition": None}
    found = item(project, issued_at=NOW, life=life, access_token=jwt(exp=None), **changes)
    assert found.has_valid_token is serves
    assert ours is False or found.due is not serves


@pytest.mark.parametrize(
    ("life", "reason"), [(LONGEST_LIFE, None), (LONGEST_LIFE + 1, "unreadable")]
)
def test_a_life_of_more_than_48_hours_is_not_believed_when_less_is_left(
    project: Project, life: int, reason: str | None
) -> None:
    """Its times were made up, whatever they leave."""
    times: dict[str, Any] = {"issued_at": NOW - 10 * HOUR, "life": life, "renew_at": NOW + HOUR}
    assert item(project, **times, access_token=jwt(exp=None)).reason == reason


def test_the_tokens_own_end_is_over_that_of_the_file(project: Project) -> None:
    """A file that says more is not believed; one that says less is."""
    assert item(project, access_token=jwt(exp=NOW)).reason == "expired"
    assert item(project, access_token=jwt(exp=NOW - HOUR), definition=None).has_valid_token is False
    soon = item(project, access_token=jwt(exp=NOW + 30)).record
    assert soon is not None
    assert (soon.refresh_at, soon.expires_on) == (NOW + 30, NOW + 30)


def test_a_clock_that_was_ahead_when_the_token_came_is_allowed_for(project: Project) -> None:
    """`exp` is by the provider's clock; a clock that was behind adds nothing."""
    token = jwt(exp=NOW - HOUR)
    assert item(project, access_token=token, clock_skew=2 * HOUR).reason is None
    assert item(project, access_token=token, clock_skew=-2 * HOUR).reason == "expired"
    assert item(project, access_token=token, clock_skew="2h").reason == "unreadable"
