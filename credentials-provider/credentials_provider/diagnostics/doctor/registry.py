"""What the registry answers to a token, over an encrypted connection."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from credentials_provider.assistants.configure import check_url
from credentials_provider.diagnostics import guide
from credentials_provider.diagnostics.doctor.checks import Check
from credentials_provider.diagnostics.http import HttpClient, json_object
from credentials_provider.minting import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credentials_provider.diagnostics.doctor.checks import Examination
    from credentials_provider.transport.connections import Answer

# The most that a registry gives at once; without the tools a server takes about 1 KB.
_QUERY = "limit=2000&include_tools=false"
_UNAUTHORIZED, _FORBIDDEN, _UNAVAILABLE = 401, 403, 503
_GRAPH = (b"graph.microsoft.com", b"IAM provider error")  # how it quotes a refusal by Graph


def registry(exam: Examination, url: str) -> Iterator[Check]:
    """What the registry says to each identity's token."""
    check_url(url)
    if not exam.minted:
        yield Check("registry", "skipped", "there is no token to show it, see above")
        return
    with contextlib.closing(HttpClient(exam.settings.ca_bundle, exam.ends_at)) as client:
        for name, token in exam.minted.items():
            result = client.get(
                f"{url.rstrip('/')}/api/servers?{_QUERY}",
                {"X-Authorization": f"Bearer {token.access_token}"},
            )
            if isinstance(result, Failure):
                yield Check("registry", "failure", f"{url}: {result.message}", result.remedy)
                return
            check = _said(result)
            yield check._replace(seen=f"{url}: {check.seen}", identity_names=(name,))


def _said(answer: Answer) -> Check:
    if answer.status == _UNAUTHORIZED:
        return _failure(
            "the token is refused (HTTP 401)",
            "Compare issuer and audience above with the registry's ENTRA_… settings.",
            guide.ISSUER,
        )
    if answer.status >= _FORBIDDEN and any(words in answer.body for words in _GRAPH):
        return _failure(
            f"Microsoft Graph refuses the registry's own application (HTTP {answer.status})",
            "Give it the application permissions of Microsoft Graph, not delegated ones, with "
            "admin consent; wait 10 minutes, then restart the registry.",
            guide.GRAPH_FORBIDDEN,
        )
    if answer.status == _FORBIDDEN:
        return _failure(
            "the token is accepted, but its groups grant nothing (HTTP 403)",
            "Map the token's groups to the registry's scopes.",
            guide.NO_ACCESS,
        )
    document = json_object(answer)
    servers = document.get("servers")
    if not isinstance(servers, list):
        return _failure(
            f"this is not a registry's answer (HTTP {answer.status})",
            "Check the address: it is the one that a browser opens, without /api."
            if answer.status != _UNAVAILABLE
            else "The registry is not ready, or does not act as a gateway: look at its log.",
        )
    total = document.get("total_count")
    count = total if isinstance(total, int) else len(servers)
    if not count:
        seen = "the token is accepted and sees no server"
        cure = (
            "Give the client a group at the registry (IAM > M2M), or map the token's groups to "
            f"the registry's scopes. If its IAM answers 403 Forbidden: {guide.GRAPH_FORBIDDEN}"
        )
        return Check("registry", "warning", seen, cure, guide.NO_ACCESS)
    return Check("registry", "ok", f"the token is accepted and sees {count} servers")


def _failure(seen: str, cure: str, link: str = "") -> Check:
    return Check("registry", "failure", seen, cure, link)
