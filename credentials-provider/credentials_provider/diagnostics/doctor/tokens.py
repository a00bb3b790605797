"""A token for each identity, and what the registry would say about it. No token is kept."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

from credentials_provider.diagnostics import guide
from credentials_provider.diagnostics.doctor.checks import MOST_IDENTITIES, Check
from credentials_provider.diagnostics.http import TIMEOUT
from credentials_provider.diagnostics.inspection import registry
from credentials_provider.diagnostics.inspection.decoding import find_token
from credentials_provider.errors import ConfigurationError
from credentials_provider.identities.fields import SECRET_KINDS
from credentials_provider.identities.reading import authority_base
from credentials_provider.identities.validation import valid_identity
from credentials_provider.minting import Failure
from credentials_provider.model import RunOptions
from credentials_provider.run.batch import entra_minter
from credentials_provider.run.workers import each_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from credentials_provider.diagnostics.doctor.checks import Examination, Verdict
    from credentials_provider.diagnostics.inspection.registry import Finding
    from credentials_provider.model import Entry
    from credentials_provider.settings import Settings

_WORKERS = 8
_SHOWN = ("audience", "groups", "scopes")


def minted(exam: Examination) -> Iterator[Check]:
    """Ask for a token of each identity, once; what came goes into `exam.minted` alone."""
    usable = [each for each in exam.valid if each.name not in exam.without_credential]
    reachable = [each for each in usable if exam.base_of(each) not in exam.unreachable]
    for count, why in (
        (len(exam.valid) - len(usable), "no credential"),
        (len(usable) - len(reachable), "the login host cannot be used"),
    ):
        if count:
            yield Check("token", "skipped", f"{_identities(count)}: {why}, see above")
    asked = reachable[:MOST_IDENTITIES]
    options = RunOptions(exam.settings, max_attempts=1, timeout=TIMEOUT, concurrency=_WORKERS)
    minter = entra_minter(options, exam.identities, exam.ends_at)
    try:
        for entry, result in each_of(asked, minter.mint, _WORKERS):
            if isinstance(result, Failure):
                yield _refusal(entry.name, result)
            else:
                exam.minted[entry.name] = result
    finally:
        minter.close()
    if exam.minted:
        yield Check("token", "ok", f"{len(exam.minted)} of {_identities(len(asked))} got one")
    if len(reachable) > len(asked):
        left = len(reachable) - len(asked)
        yield Check("token", "skipped", f"{_identities(left)} more: name one to check it")


def _identities(count: int) -> str:
    return f"{count} identit{'y' if count == 1 else 'ies'}"


def _refusal(name: str, failure: Failure) -> Check:
    link = guide.about_code(failure.aadsts) if failure.aadsts else ""
    return Check("token", "failure", failure.cause, failure.remedy, link, (name,), failure.trace_id)


def claims(exam: Examination, scopes_file: str | None) -> Iterator[Check]:
    """What the registry would say about each token that was minted."""
    mappings = registry.read_group_mappings(scopes_file) if scopes_file else None
    for entry in exam.entries:
        minted = exam.minted.get(entry.name)
        token = find_token(minted.access_token) if minted else None
        if token is None:
            continue
        validator = registry.validator_of(exam.settings, entry.fields)
        # It came from the login host itself, over TLS that was verified.
        now = exam.now - exam.clock_skew  # a clock that is off is reported once, as such
        findings = registry.registry_findings(token, validator, now, signed=True)
        if mappings is not None:
            findings.append(registry.mapping_finding(token, mappings))
        if all(finding.ok for finding in findings):
            seen = ", ".join(
                f"{each.about}: {each.seen}" for each in findings if each.about in _SHOWN
            )
            yield Check("claims", "ok", seen, identity_names=(entry.name,))
        for finding in findings:
            if not finding.ok:
                yield _finding(entry.name, finding)


def _finding(name: str, finding: Finding) -> Check:
    verdict: Verdict = "warning" if finding.ok is None else "failure"
    seen = f"{finding.about}: {finding.seen}"
    return Check("claims", verdict, seen, finding.cure, finding.link, (name,))


def curl(entry: Entry, settings: Settings) -> str:
    """A token request to be made by hand; the secret goes from a variable to curl's stdin.

    Raises:
        ConfigurationError: the identity is not in order, or has no secret.

    """
    if valid_identity(entry).credential not in SECRET_KINDS:
        raise ConfigurationError(
            f"{entry.name} has no client secret, and a request by hand needs one",
            hint="`credentials-provider doctor NAME` makes the request with its own credential.",
        )
    fields: Mapping[str, Any] = entry.fields
    base = authority_base(entry.fields, settings)
    words = [
        "curl -sS -X POST " + shlex.quote(f"{base}/{fields['tenant_id']}/oauth2/v2.0/token"),
        '-H "Content-Type: application/x-www-form-urlencoded"',
        f"--data-urlencode {shlex.quote('client_id=' + fields['client_id'])}",
        '--data-urlencode "client_secret@-"',
        f"--data-urlencode {shlex.quote('scope=' + fields['scope'])}",
        '-d "grant_type=client_credentials"',
    ]
    if settings.ca_bundle:
        words.insert(1, f"--cacert {shlex.quote(os.path.abspath(settings.ca_bundle))}")
    return 'printf %s "$CLIENT_SECRET" | ' + " \\\n  ".join(words)
