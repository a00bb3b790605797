"""What the registry would say about a token: each of its refusals by a token, letter by letter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from credentials_provider.diagnostics import guide
from credentials_provider.diagnostics.inspection.decoding import Token, described
from credentials_provider.diagnostics.inspection.registry import (
    Finding,
    Validator,
    mapping_finding,
    read_group_mappings,
    registry_findings,
    validator_of,
)
from credentials_provider.errors import ConfigurationError
from credentials_provider.settings import Flags, load_settings

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_800_000_000
TENANT = "6f1d3c52-8c0e-4a7b-9d15-2b7c6a40e9f3"
GATEWAY = "7f1b2c3d-0000-4000-8000-00000000feed"
BASE = "https://login.microsoftonline.com"
HEADER = {"alg": "RS256", "kid": "k1"}
CLAIMS: dict[str, Any] = {
    "iss": f"{BASE}/{TENANT}/v2.0",
    "tid": TENANT,
    "aud": GATEWAY,
    "azp": "14c8ccfc-dc9c-4397-aa1e-37461544567d",
    "groups": ["g1"],
    "iat": NOW - 300,
    "nbf": NOW - 300,
    "exp": NOW + 3600,
}
VALIDATOR = Validator(BASE, TENANT, GATEWAY)


def found(
    claims: dict[str, Any] | None = None,
    validator: Validator = VALIDATOR,
    header: dict[str, Any] | None = None,
    *,
    signed: bool | None = True,
) -> dict[str, Finding]:
    merged = {k: v for k, v in {**CLAIMS, **(claims or {})}.items() if v is not None}
    token = Token("", {**HEADER, **(header or {})}, merged)
    return {each.about: each for each in registry_findings(token, validator, NOW, signed=signed)}


@pytest.mark.parametrize(
    ("claims", "validator"),
    [
        ({}, VALIDATOR),
        ({"aud": f"api://{GATEWAY}"}, VALIDATOR),
        ({"aud": ["x", GATEWAY]}, VALIDATOR),
        ({"aud": "api://gateway"}, VALIDATOR._replace(application_id_uri="api://gateway")),
        ({"groups": None, "roles": "admin"}, VALIDATOR),
        ({"groups": "g1"}, VALIDATOR),
        ({"iss": f"https://sts.windows.net/{TENANT}/"}, VALIDATOR),
        ({"iat": NOW, "nbf": NOW}, VALIDATOR),
    ],
)
def test_what_the_registry_accepts_is_all_right(
    claims: dict[str, Any], validator: Validator
) -> None:
    """Strings or lists, either audience, either issuer."""
    assert all(each.ok for each in found(claims, validator).values())


@pytest.mark.parametrize(
    ("about", "claims", "words"),
    [
        ("issuer", {"iss": f"{BASE}/{GATEWAY}/v2.0"}, "which is not tenant"),
        ("issuer", {"iss": f"{BASE}/{TENANT}/v2.0/"}, "which is not tenant"),
        ("audience", {"aud": "other"}, "not the gateway"),
        ("audience", {"aud": CLAIMS["azp"]}, "the identity itself"),
        ("audience", {"aud": f"api://{CLAIMS['azp']}"}, "the identity itself"),
        ("audience", {"aud": "x", "azp": ["x"]}, "x, which is not the gateway"),
        ("audience", {"aud": None}, "none"),
        ("times", {"exp": NOW}, "expired"),
        ("times", {"exp": None}, "no expiry"),
        ("times", {"nbf": NOW + 1}, "not valid yet"),
        ("times", {"iat": NOW + 1}, "not valid yet"),
        ("kind", {"nonce": "x"}, "an ID token"),
        ("kind", {"at_hash": "x"}, "an ID token"),
        ("kind", {"c_hash": "x"}, "an ID token"),
        ("groups", {"groups": None, "azp": None, "appid": "x"}, "no azp"),
    ],
)
def test_what_the_registry_refuses_is_refused(
    about: str, claims: dict[str, Any], words: str
) -> None:
    """With a cure; everything else about the token stays as it is."""
    findings = found(claims)
    assert (findings[about].ok, words in findings[about].seen) == (False, True)
    assert findings[about].cure
    assert {name for name, each in findings.items() if each.ok is False} == {about}


@pytest.mark.parametrize(
    ("validator", "cure"),
    [
        (VALIDATOR._replace(tenant_id=TENANT.upper()), f"in small letters: {TENANT}"),
        (VALIDATOR._replace(tenant_id="contoso.com"), f"set it to {TENANT}"),
        (VALIDATOR._replace(login_base_url=f"{BASE}/"), "Remove the slash"),
        (VALIDATOR._replace(tenant_id=GATEWAY), "Compare ENTRA_TENANT_ID"),
        (VALIDATOR._replace(login_base_url="https://login.example.com"), "another login host"),
    ],
)
def test_a_setting_that_is_written_otherwise_is_named(validator: Validator, cure: str) -> None:
    """The registry compares letter by letter, so the token is right and refused all the same."""
    issuer = found(validator=validator)["issuer"]
    assert (issuer.ok, cure in issuer.cure) == (False, True)


def test_a_token_without_a_tenant_proposes_none() -> None:
    """It is of another provider: what it has is no setting for this one."""
    domain = VALIDATOR._replace(tenant_id="contoso.com")
    for claims in ({"tid": None, "iss": "x"}, {"tid": "x", "iss": "x"}):
        assert "Overview" in found(claims, domain)["issuer"].cure


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "ES256"}, {"kid": None}])
def test_another_algorithm_or_no_key_is_refused(header: dict[str, Any]) -> None:
    """Whether or not somebody calls the signature right."""
    assert found(header=header)["signature"].ok is False


@pytest.mark.parametrize("signed", [True, False, None])
def test_a_signature_is_judged_as_it_was_checked(signed: bool | None) -> None:
    """Not checked is neither right nor wrong."""
    finding = found(signed=signed)["signature"]
    words = {True: "right", False: "not right", None: "not checked"}[signed]
    assert (finding.ok, finding.seen) == (signed, f"RS256, key k1: {words}")
    assert bool(finding.cure) is not signed if signed is not None else "--verify" in finding.cure


def test_what_cannot_be_known_here_is_said_so() -> None:
    """No setting to compare with, groups in the registry's database, a v1 token."""
    nothing = Validator(BASE)
    assert [found(validator=nothing)[name].ok for name in ("issuer", "audience")] == [None, None]
    overage = {"groups": None, "_claim_names": {"groups": "src1"}}
    groups = [found(each)["groups"] for each in ({"groups": None}, overage)]
    assert [each.ok for each in groups] == [None, None]
    assert [each.seen.partition(":")[0] for each in groups] == [
        "neither groups nor roles in the token",
        "more than 200 groups, so the token has none",
    ]
    assert [each.link for each in groups] == [guide.NO_GROUPS, guide.OVERAGE]
    assert "(a v1 token has appid instead)" in found({"azp": None, "appid": "x"})["client"].seen
    empty = found({"azp": "", "groups": None})
    assert (empty["client"].ok, empty["groups"].ok) == (None, False)
    assert "v1" not in empty["client"].seen
    assert registry_findings(Token("", {"alg": "HS256"}, {}), VALIDATOR, NOW)[0].ok is None


def test_the_registrys_settings_are_taken_as_they_are_written(tmp_path: Path) -> None:
    """Else a slash or a capital would be mended before it is compared."""
    env = tmp_path / ".env"
    env.write_text(
        f"ENTRA_TENANT_ID={TENANT.upper()}\nENTRA_LOGIN_BASE_URL={BASE}/\n"
        f"ENTRA_APPLICATION_ID_URI=api://gateway\nENTRA_CLIENT_ID={GATEWAY}\n"
    )
    env.chmod(0o600)
    settings = load_settings(Flags(env_file=str(env)), {}, str(tmp_path))
    assert validator_of(settings, {}) == Validator(
        f"{BASE}/", TENANT.upper(), GATEWAY, "api://gateway"
    )
    settings = load_settings(Flags(env_file=str(env), tenant_id=TENANT), {}, str(tmp_path))
    assert validator_of(settings, {}).tenant_id == TENANT.upper()


def test_where_the_registrys_settings_are_unknown_the_identity_tells_them(tmp_path: Path) -> None:
    """As far as its fields are IDs: a domain is not what the registry compares with."""
    plain = load_settings(Flags(), {}, str(tmp_path / "none"))
    fields = {"tenant_id": TENANT.upper(), "scope": f"api://{GATEWAY}/.default"}
    assert validator_of(plain, fields) == Validator(BASE, TENANT, GATEWAY)
    fields = {"tenant_id": "contoso.com", "scope": "api://gateway/.default"}
    assert validator_of(plain, fields) == Validator(BASE)
    option = load_settings(Flags(tenant_id=TENANT), {}, str(tmp_path / "none"))
    assert validator_of(option, {"tenant_id": GATEWAY}).tenant_id == TENANT


DOCUMENT = {"_id": "reader", "group_mappings": ["g1", "g2"]}
OTHER = {"scope_name": "admin", "group_mappings": ["g1"]}


def test_scopes_are_read_in_every_form_that_the_registry_has_had(tmp_path: Path) -> None:
    """A document, an array, a folder, and the scopes.yml of before."""
    both = {"g1": ["admin", "reader"], "g2": ["reader"]}
    (tmp_path / "array.json").write_text(json.dumps([OTHER, DOCUMENT]))
    assert read_group_mappings(str(tmp_path / "array.json")) == both
    folder = tmp_path / "scopes"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps(OTHER))
    (folder / "b.json").write_text(json.dumps(DOCUMENT))
    (folder / "notes.txt").write_text("{")
    assert read_group_mappings(str(folder)) == both
    yaml = tmp_path / "scopes.yml"
    yaml.write_text("group_mappings:\n  g1:\n  - admin\n  - reader\n  g2: [reader]\n")
    assert read_group_mappings(str(yaml)) == both
    token = Token("", HEADER, {"groups": ["g2", "g3"]})
    assert mapping_finding(token, both).seen == "reader; unmapped: g3"
    assert mapping_finding(Token("", HEADER, {"groups": ["g3"]}), both).ok is False
    assert mapping_finding(Token("", HEADER, {}), both).ok is None


@pytest.mark.parametrize(
    ("claims", "where", "scopes"),
    [
        ({"groups": ["g1"], "roles": ["r1"]}, "1 in groups", "reader"),
        ({"groups": ["g1"], "roles": ["r1", "r2"]}, "1 in groups", "reader"),
        ({"groups": [], "roles": ["r1"]}, "1 in roles", "admin"),
        ({"groups": None, "roles": ["r1"]}, "1 in roles", "admin"),
    ],
)
def test_roles_count_only_where_there_are_no_groups(
    claims: dict[str, Any], where: str, scopes: str
) -> None:
    """As in the registry: a role beside groups grants nothing."""
    assert found(claims)["groups"].seen == where
    finding = mapping_finding(Token("", HEADER, claims), {"g1": ["reader"], "r1": ["admin"]})
    assert (finding.ok, finding.seen) == (True, scopes)


@pytest.mark.parametrize("value", [[], {}, [[]], [{}], True, 1, 1e400, "", "x", "\ud800"], ids=repr)
def test_claims_of_any_type_are_described_and_judged(value: object) -> None:
    """Whoever made the token chose them."""
    names = ("iss", "tid", "aud", "azp", "appid", "ver", "azpacr", "roles", "groups", "username")
    for name in (*names, "_claim_names", "exp", "nbf", "iat", "sub", "scope", "scp"):
        token = Token("", HEADER, {**CLAIMS, name: value})
        assert all(text.isprintable() for _, text in described(token)), name
        assert registry_findings(token, VALIDATOR, NOW, signed=True)
    token = Token("", {"alg": value, "kid": value}, CLAIMS)
    assert list(described(token))
    assert registry_findings(token, VALIDATOR, NOW, signed=True)


@pytest.mark.parametrize("hostile", ["\x1b]0;owned\x07", ["\x1b[2J", "\ud800"]], ids=repr)
def test_no_claim_moves_the_terminal(hostile: object) -> None:
    """Not from what is told of the token, nor from what the registry would say, nor from a cure."""
    validators = (VALIDATOR, VALIDATOR._replace(tenant_id="contoso.com"))
    for name in ("iss", "tid", "aud", "azp", "ver", "azpacr", "roles", "groups", "sub", "username"):
        token = Token("", HEADER, {**CLAIMS, "iss": "other", name: hostile})
        texts = [text for _, text in described(token)]
        for validator in validators:
            for each in registry_findings(token, validator, NOW, signed=True):
                texts += [each.seen, each.cure]
        for mappings in ({}, {"\x1b[2J": ["\x1b"], "\x1b]0;owned\x07": ["\x1b"]}):
            texts.append(mapping_finding(token, mappings).seen)
        assert [each for each in texts if not each.isprintable()] == []
    token = Token("", {"alg": "RS256", "kid": "\x1b"}, CLAIMS)
    other = Token("", {"alg": hostile, "kid": hostile}, CLAIMS)
    for strange in (token, other):
        assert all(text.isprintable() for _, text in described(strange))
        assert registry_findings(strange, VALIDATOR, NOW, signed=True)[0].seen.isprintable()


def test_mappings_are_read_as_texts_and_only_where_they_are_lists(tmp_path: Path) -> None:
    """YAML has numbers, people leave things out, and editors put a byte order mark in front."""
    path = tmp_path / "scopes.yml"
    path.write_text("group_mappings:\n  7: [1, reader]\n  g2: reader\n  g3: []\n")
    mappings = read_group_mappings(str(path))
    assert mappings == {"7": ["1", "reader"], "g3": []}
    token = Token("", HEADER, {"groups": ["7", "g3"]})
    assert mapping_finding(token, mappings).seen == "1, reader; unmapped: g3"
    nameless = {"group_mappings": ["g1"]}
    odd = {"_id": "reader", "group_mappings": "g1"}
    numbers = {"_id": "admin", "group_mappings": [7, "g1"]}
    path.write_text(json.dumps([nameless, odd, numbers, numbers]), encoding="utf-8-sig")
    mappings = read_group_mappings(str(path))
    assert mappings == {"7": ["admin", "admin"], "g1": ["admin", "admin"]}
    assert mapping_finding(Token("", HEADER, {"groups": ["7", "g1"]}), mappings).seen == "admin"


def test_the_reason_is_told_why_scopes_cannot_be_read(tmp_path: Path) -> None:
    """The system's, or that it is no such file."""
    path = tmp_path / "scopes.json"
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        read_group_mappings(str(path))
    path.write_text("{nonsense: [")
    with pytest.raises(ConfigurationError, match="it is not JSON or YAML"):
        read_group_mappings(str(path))
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(ConfigurationError, match="has no group_mappings"):
        read_group_mappings(str(folder))
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="it is not JSON or YAML"):
        read_group_mappings(str(path))


@pytest.mark.parametrize("content", ["{nonsense: [", "[]", '{"_id": "x"}', "text", "[" * 100_000])
def test_scopes_that_map_nothing_are_refused(tmp_path: Path, content: str) -> None:
    """An empty mapping would call every group unmapped."""
    path = tmp_path / "scopes.json"
    path.write_text(content)
    with pytest.raises(ConfigurationError):
        read_group_mappings(str(path))
    with pytest.raises(ConfigurationError):
        read_group_mappings(str(tmp_path / "nowhere"))
