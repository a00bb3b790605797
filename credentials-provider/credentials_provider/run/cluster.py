"""Tokens as Kubernetes Secrets, by the API of the cluster that this process runs in.

Server-side apply makes a Secret, or changes its one key, by one request, of which the API knows the
name: so a Role can allow `get`, `patch` and `create` of that one Secret alone.
https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

import base64
import json
import math
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from credentials_provider.entra.answers import json_object
from credentials_provider.errors import StorageBusyError, StorageError
from credentials_provider.permissions import read_file
from credentials_provider.run.sink_formats import with_token
from credentials_provider.transport.connections import Answer, Connections, HttpRequest, Trouble

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credentials_provider.identities.sinks import Sink

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_TIMEOUT = 10.0  # seconds for one request; the API is near
_MISSING = 404
_LATER = "The next run tries again."
_ROLE = (
    "Apply the Role that `credentials-provider schedule kubernetes` prints: get, patch and create "
    "of secrets, with this name in resourceNames."
)
REFUSALS = {
    401: (
        "the API does not accept the token of this pod's service account",
        "Start the pod again; its serviceAccountName must be one of the namespace's.",
    ),
    403: ("this pod's service account may not do that", _ROLE),
    _MISSING: (
        "the API does not know this pod's namespace",
        "Is KUBERNETES_SERVICE_HOST the cluster?",
    ),
    422: (
        "the API does not take it: the Secret is immutable, or a policy of the cluster refuses it",
        "Delete the Secret (kubectl delete secret NAME): the next run makes it again.",
    ),
}
_CONFLICT, _TOO_MANY = 409, 429
_SERVER_ERRORS = range(500, 600)


@dataclass(repr=False)
class Cluster:
    """The Secrets of this pod's namespace, as a run sees them: each is read once.

    An API that does not answer is asked once a run.
    """

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    folder: str = SERVICE_ACCOUNT
    ends_at: float = math.inf  # a `time.monotonic()`: no request waits any longer

    def __post_init__(self) -> None:
        self._connections: Connections | None = None
        self._data: dict[str, dict[str, Any]] = {}  # what each Secret holds
        self._silent: StorageError | None = None

    def state(
        self, sink: Sink, document: Mapping[str, Any]
    ) -> Literal["current", "missing", "other"]:
        """Whether a Secret's key holds the token.

        Raises:
            CredentialsProviderError: the API did not show it.

        """
        if sink.secret not in self._data:
            answer = self._send("GET", sink)
            data = (json_object(answer) or {}).get("data") if answer.status != _MISSING else None
            self._data[sink.secret] = data if isinstance(data, dict) else {}
        held = self._data[sink.secret].get(sink.key)
        if held is None:
            return "missing"
        return "current" if held == _encoded(sink, document) else "other"

    def write(self, sink: Sink, document: Mapping[str, Any]) -> None:
        """Put the token into the Secret's key; other keys stay as they are.

        Raises:
            CredentialsProviderError: the API did not take it.

        """
        encoded = _encoded(sink, document)
        self._send(
            "PATCH",
            sink,
            # Each key has its own manager: applying one key does not remove the others.
            f"?fieldManager=credentials-provider-{sink.key}&force=true",
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "name": sink.secret,
                    "labels": {"app.kubernetes.io/managed-by": "credentials-provider"},
                },
                "data": {sink.key: encoded},
            },
        )
        self._data.setdefault(sink.secret, {})[sink.key] = encoded

    def _send(self, method: str, sink: Sink, query: str = "", body: object = None) -> Answer:
        if self._silent is not None:
            raise self._silent
        host, port = (
            self.environment.get(f"KUBERNETES_SERVICE_{name}") for name in ("HOST", "PORT")
        )
        if not (host and port):
            raise StorageError(
                "this process does not run in a cluster: KUBERNETES_SERVICE_HOST is not set",
                hint="Run it as `credentials-provider schedule kubernetes` says.",
            )
        left = self.ends_at - time.monotonic()
        if left <= 0:
            raise StorageBusyError(
                "the run's deadline passed before it was written",
                hint=f"{_LATER} Or allow more time with --deadline.",
            )
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        namespace, token = self._account("namespace"), self._account("token")
        request = HttpRequest(
            method,
            f"https://{place}/api/v1/namespaces/{namespace}/secrets/{sink.secret}{query}",
            {
                "Authorization": f"Bearer {token}",
                "Accept": "application/json",
                **({"Content-Type": "application/apply-patch+yaml"} if body else {}),
            },
            json.dumps(body) if body else None,
            min(_TIMEOUT, left),
        )
        if self._connections is None:
            # The API is within the cluster: no proxy leads there.
            bundle = os.path.join(self.folder, "ca.crt")
            self._connections = Connections(1, bundle, direct=True)
        answer = self._connections.exchange(request)
        if isinstance(answer, Trouble):
            self._silent = self._explained(answer, place)
            raise self._silent
        return _checked(answer, method)

    def _account(self, name: str) -> str:
        """A file of the service account, as it is now: the cluster renews the token."""
        path = os.path.join(self.folder, name)
        content = read_file(path)
        if content is None:
            raise StorageError(
                f"there is no {path}",
                hint="Mount the service account's token into the container, as the manifests of "
                "`credentials-provider schedule kubernetes` do.",
            )
        return content.text().strip()

    def _explained(self, trouble: Trouble, place: str) -> StorageError:
        if trouble.kind == "untrusted":
            return StorageError(
                f"the certificate of the API at {place} is not one of the cluster's authority",
                hint=f"Compare it with {self.folder}/ca.crt.",
            )
        reason = trouble.reason.replace("_", " ")
        return StorageBusyError(
            f"the API at {place} does not answer ({reason})",
            hint=f"{_LATER} Else look for a NetworkPolicy in its way.",
        )


def _checked(answer: Answer, method: str) -> Answer:
    status = answer.status
    if status in {200, 201} or (status == _MISSING and method == "GET"):
        return answer
    if status in REFUSALS:
        cause, cure = REFUSALS[status]
        raise StorageError(f"{cause} (HTTP {status})", hint=cure)
    if status in {_CONFLICT, _TOO_MANY} or status in _SERVER_ERRORS:
        raise StorageBusyError(f"the API is busy (HTTP {status})", hint=_LATER)
    raise StorageError(f"the API answers with HTTP {status}", hint="Is it Kubernetes' API?")


def _encoded(sink: Sink, document: Mapping[str, Any]) -> str:
    return base64.b64encode(with_token(sink, "", document).encode()).decode()
