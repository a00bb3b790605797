"""Manifests for Kubernetes: CronJobs, a Deployment, a sidecar, and what they need around them."""

from __future__ import annotations

import io
import posixpath
import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from credentials_provider.errors import printable
from credentials_provider.schedule import NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["cronjob", "fleet", "deployment", "sidecar"]
STAYING = ("deployment", "sidecar")  # the kinds that run `watch`

_USER = 65532  # the image's
_IDENTITIES = "/identities"
_TOKENS = "/tokens"
_FILE = "entra-identities.json"
_SECRET = "entra-identities"  # noqa: S105  a Secret's name
_SHARED = f"{_TOKENS}/oauth"
_CA = "/ca"
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_METADATA = "169.254.169.254/32"  # Azure's, for managed identities
_DNS, _HTTPS, _API = 53, 443, 6443
_RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

# Exit 75: not renewed, but every token is still valid. A Job knows no "try later": its
# podFailurePolicy ignores such a failure, but starts another pod at once.
_UNLESS_LATER = '& trap "kill $!" TERM; wait $! || [ $? -eq 75 ]'

_SINK = f"""\
# Kubernetes 1.29 or newer starts the sidecar first. No NetworkPolicy is here: it would be your
# container's, too. A container of another user reads a sink of the identity, by the pod's fsGroup:
#   "sinks": [{{"path": "{_TOKENS}/NAME.token", "format": "raw", "mode": "0640"}}]
"""


@dataclass(frozen=True, slots=True)
class Needs:
    """What the identities need beside their file."""

    identities: str = f".oauth-tokens/{_FILE}"  # on this machine
    files: tuple[str, ...] = ()  # of credentials, relative to the identities file
    variables: tuple[str, ...] = ()  # names; their values may be secrets
    values: Mapping[str, str] = field(default_factory=dict)  # settings, none of them a secret
    ca_bundle: str | None = None  # on this machine
    secrets: tuple[str, ...] = ()  # names of those that sinks write
    workload_identity: str | None = None  # its client ID, empty if unknown; None: not used
    managed_identity: bool = False
    ports: tuple[int, ...] = ()  # of login hosts and proxies, beside 443


@dataclass(frozen=True, slots=True)
class Form:
    """How it is to run."""

    kind: Kind
    image: str
    every: int  # minutes between two runs
    shards: int  # of a fleet
    name: str
    namespace: str | None = None  # None: kubectl's
    more: tuple[str, ...] = ()  # further arguments of `generate` or `watch`
    wait_for: str | None = None  # the identity that the probes ask for; None: any
    listens: int | None = None  # the port of `--listen`


def manifests(form: Form, needs: Needs) -> str:
    """YAML for `kubectl apply -f -`."""
    from ruamel.yaml import YAML  # only here

    documents = [
        _service_account(form, needs),
        *(_role(form, needs) if needs.secrets else ()),
        *([_network_policy(form, needs)] if form.kind != "sidecar" else ()),
        *{"cronjob": _cronjob, "fleet": _fleet}.get(form.kind, _watch)(form, needs),
    ]
    if form.namespace:
        for document in documents:
            document["metadata"]["namespace"] = form.namespace
    stream = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 1 << 16
    yaml.representer.ignore_aliases = lambda _: True  # what stands twice is written twice
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump_all(map(_unmistakable, documents), stream)
    return _head(form, needs) + stream.getvalue()


def _unmistakable(node: Any) -> Any:
    """With quotes where kubectl, which reads YAML 1.1, would take a word for true or false."""
    from ruamel.yaml.scalarstring import SingleQuotedScalarString

    if isinstance(node, dict):
        return {name: _unmistakable(each) for name, each in node.items()}
    if isinstance(node, (list, tuple)):
        return [_unmistakable(each) for each in node]
    if isinstance(node, str) and node.lower() in {"y", "n", "yes", "no", "on", "off"}:
        return SingleQuotedScalarString(node)
    return node


def _head(form: Form, needs: Needs) -> str:
    """What to do by hand: the Secrets, and what reads the tokens."""
    where = f" -n {form.namespace}" if form.namespace else ""
    folder = posixpath.dirname(needs.identities)
    places = {path: posixpath.join(folder, path) for path in needs.files}
    places[_FILE] = needs.identities
    files = [_word(f"--from-file={key}={places[path]}") for path, key in _keys(needs).items()]
    head = "# The identities are a Secret:\n"
    head += f"#   kubectl create{where} secret generic {_SECRET} \\\n#     "
    head += " \\\n#     ".join(files) + "\n"
    if needs.variables:
        head += f"# Their variables are one, too, from a file with {', '.join(needs.variables)}:\n"
        head += f"#   kubectl create{where} secret generic {form.name}-environment "
        head += "--from-env-file=FILE\n"
    if needs.ca_bundle:
        path = _word(f"--from-file=ca.crt={needs.ca_bundle}")
        head += "# The authorities to trust are a ConfigMap:\n"
        head += f"#   kubectl create{where} configmap {form.name}-ca {path}\n"
    for secret in needs.secrets:
        head += f"# Your pod reads the token from the Secret {secret}:\n"
        head += f"#   volumes: [{{name: token, secret: {{secretName: {secret}}}}}]\n"
        head += "#   volumeMounts: [{name: token, mountPath: /run/token, readOnly: true}]\n"
    if form.kind == "sidecar":
        return head + _SINK
    if form.kind != "deployment":
        claim = f"{{claimName: {form.name}-tokens, readOnly: true}}"
        head += "# Your pod reads the token files as the same user, from the same claim:\n"
        head += f"#   securityContext: {{runAsUser: {_USER}, fsGroup: {_USER}}}\n"
        head += f"#   volumes: [{{name: tokens, persistentVolumeClaim: {claim}}}]\n"
        head += f"#   volumeMounts: [{{name: tokens, mountPath: {_TOKENS}, readOnly: true}}]\n"
    return head + "# A NetworkPolicy knows no names: its ports are open to every address.\n"


def _word(text: str) -> str:
    """For a shell, and for one line: a comment that ends would let a path add manifests."""
    return shlex.quote(printable(text))


def _keys(needs: Needs) -> dict[str, str]:
    """By path. A Secret's keys have no slash; the volume puts each back where its path says."""
    keys: dict[str, str] = {}
    for path in dict.fromkeys((_FILE, *needs.files)):
        key = re.sub(r"[^A-Za-z0-9._-]", "_", path)
        while key in keys.values():  # a/b and a_b
            key += "_"
        keys[path] = key
    return keys


def _labels(form: Form) -> dict[str, str]:
    return {"app.kubernetes.io/name": form.name}


def _document(api: str, kind: str, name: str, **content: Any) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **content}


# Around the pod


def _service_account(form: Form, needs: Needs) -> dict[str, Any]:
    account = _document("v1", "ServiceAccount", form.name, automountServiceAccountToken=False)
    if needs.workload_identity:
        client = {"azure.workload.identity/client-id": needs.workload_identity}
        account["metadata"]["annotations"] = client
    return account


def _role(form: Form, needs: Needs) -> list[dict[str, Any]]:
    """Server-side apply makes a Secret under its name, so `create` is of that name alone, too."""
    rule = {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": [*needs.secrets],
        "verbs": ["get", "patch", "create"],
    }
    group = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": form.name, "namespace": form.namespace}
    reference = {"apiGroup": group, "kind": "Role", "name": form.name}
    return [
        _document(f"{group}/v1", "Role", form.name, rules=[rule]),
        _document(f"{group}/v1", "RoleBinding", form.name, roleRef=reference, subjects=[subject]),
    ]


def _network_policy(form: Form, needs: Needs) -> dict[str, Any]:
    """Out: names, login hosts, proxy, API. In: nobody, or who asks for health and metrics."""
    api = [_API] if needs.secrets else []  # many networks see the API server's own port
    tcp = dict.fromkeys((_DNS, _HTTPS, *needs.ports, *api))
    ports = [{"protocol": "UDP", "port": _DNS}, *({"protocol": "TCP", "port": n} for n in tcp)]
    egress: list[dict[str, Any]] = [{"ports": ports}]
    if needs.managed_identity:
        http = [{"protocol": "TCP", "port": 80}]
        egress.append({"to": [{"ipBlock": {"cidr": _METADATA}}], "ports": http})
    listens = [{"ports": [{"protocol": "TCP", "port": form.listens}]}] if form.listens else []
    spec = {
        "podSelector": {"matchLabels": _labels(form)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": listens,
        "egress": egress,
    }
    return _document("networking.k8s.io/v1", "NetworkPolicy", form.name, spec=spec)


# What runs


def _cronjob(form: Form, needs: Needs) -> list[dict[str, Any]]:
    command = ["/bin/sh", "-c", f'"$0" "$@" {_UNLESS_LATER}']
    command += [NAME, "generate", "--refresh-ahead", *_options(_SHARED, needs), *form.more]
    return _scheduled(form, needs, command, {}, "ReadWriteOnce")


def _fleet(form: Form, needs: Needs) -> list[dict[str, Any]]:
    """A folder for each part: its lock is one for a folder."""
    words = [NAME, "generate", "--refresh-ahead", *_options(None, needs), *form.more]
    script = (
        f'{shlex.join(words)} --shard "$JOB_COMPLETION_INDEX/{form.shards}" '
        f'--output-dir "{_SHARED}-$JOB_COMPLETION_INDEX" {_UNLESS_LATER}'
    )
    indexed = {
        "completionMode": "Indexed",
        "completions": form.shards,
        "parallelism": form.shards,
    }
    return _scheduled(form, needs, ["/bin/sh", "-c", script], indexed, "ReadWriteMany")


def _scheduled(
    form: Form, needs: Needs, command: list[str], indexed: dict[str, Any], access: str
) -> list[dict[str, Any]]:
    claim = f"{form.name}-tokens"
    volume = {"name": "tokens", "persistentVolumeClaim": {"claimName": claim}}
    template = _pod(form, needs, [_container(form, needs, command)], volume)
    template["spec"]["restartPolicy"] = "Never"
    job = {"activeDeadlineSeconds": 240, "backoffLimit": 0, **indexed, "template": template}
    spec = {
        "schedule": "* * * * *" if form.every == 1 else f"*/{form.every} * * * *",
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 120,
        "successfulJobsHistoryLimit": 1,
        "failedJobsHistoryLimit": 3,
        "jobTemplate": {"spec": job},
    }
    storage = {"accessModes": [access], "resources": {"requests": {"storage": "64Mi"}}}
    return [
        _document("v1", "PersistentVolumeClaim", claim, spec=storage),
        _document("batch/v1", "CronJob", form.name, spec=spec),
    ]


def _watch(form: Form, needs: Needs) -> list[dict[str, Any]]:
    """`watch`, with the tokens in memory: by itself, or as a sidecar that shares them.

    The two share token files by one user, sinks by a group.
    """
    options = _options(_SHARED, needs)
    watch = _container(form, needs, [NAME, "watch", *options, *form.more])
    asked = [form.wait_for] if form.wait_for else []
    status = [NAME, "status", "--any", *options[:4], *asked]
    probe = {"exec": {"command": status}, "timeoutSeconds": 10}
    watch |= {
        "startupProbe": {**probe, "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**probe, "periodSeconds": 30},
    }
    volume = {"name": "tokens", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}
    spec: dict[str, Any] = {"replicas": 1, "selector": {"matchLabels": _labels(form)}}
    if form.kind == "deployment":
        spec["strategy"] = {"type": "Recreate"}
        template = _pod(form, needs, [watch], volume)
    else:
        app = {
            "name": "app",
            "image": "your-app:latest",
            "securityContext": _RESTRICTED,
            "volumeMounts": [{"name": "tokens", "mountPath": _TOKENS, "readOnly": True}],
        }
        template = _pod(form, needs, [app], volume)
        # What makes it a sidecar: it starts first and stays.
        template["spec"]["initContainers"] = [{**watch, "restartPolicy": "Always"}]
        if needs.workload_identity is not None:
            skip = {"azure.workload.identity/skip-containers": "app"}
            template["metadata"]["annotations"] = skip
    return [_document("apps/v1", "Deployment", form.name, spec={**spec, "template": template})]


def _options(output_dir: str | None, needs: Needs) -> list[str]:
    folder = ["--output-dir", output_dir] if output_dir else []
    authorities = ["--ca-bundle", f"{_CA}/ca.crt"] if needs.ca_bundle else []
    file = f"{_IDENTITIES}/{_FILE}"
    return ["--identities-file", file, *folder, *authorities, "--log-format", "json"]


def _container(form: Form, needs: Needs, command: list[str]) -> dict[str, Any]:
    secret = f"{form.name}-environment"
    environment: list[dict[str, Any]] = [
        {"name": name, "value": _literal(value)} for name, value in needs.values.items()
    ]
    environment += [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}
        for name in needs.variables
    ]
    mounts = {"identities": _IDENTITIES, "ca": _CA, "account": _ACCOUNT}
    wanted = {"identities", *(["ca"] * bool(needs.ca_bundle)), *(["account"] * bool(needs.secrets))}
    return {
        "name": NAME,
        "image": form.image,
        "command": [*map(_literal, command)],
        **({"ports": [{"name": "metrics", "containerPort": form.listens}]} if form.listens else {}),
        **({"env": environment} if environment else {}),
        "resources": {
            "requests": {"cpu": "20m", "memory": "64Mi"},
            "limits": {"memory": "256Mi"},
        },
        "securityContext": {**_RESTRICTED, "readOnlyRootFilesystem": True},
        "volumeMounts": [
            *(
                {"name": name, "mountPath": path, "readOnly": True}
                for name, path in mounts.items()
                if name in wanted
            ),
            {"name": "tokens", "mountPath": _TOKENS},
        ],
    }


def _literal(text: str) -> str:
    """So that Kubernetes takes neither $(NAME) nor $$ for its own: the container gets this text."""
    return re.sub(r"\$(?=[$(])", "$$", text)


def _pod(
    form: Form, needs: Needs, containers: list[dict[str, Any]], tokens: dict[str, Any]
) -> dict[str, Any]:
    items = [{"key": key, "path": path} for path, key in _keys(needs).items()]
    secret = {"secretName": _SECRET, "defaultMode": 0o440, "items": items}
    volumes: list[dict[str, Any]] = [{"name": "identities", "secret": secret}]
    if needs.ca_bundle:
        volumes.append({"name": "ca", "configMap": {"name": f"{form.name}-ca"}})
    if needs.secrets:  # for our container alone, which the service account's own mount is not
        volumes.append({"name": "account", "projected": {"sources": _account()}})
    uses = {"azure.workload.identity/use": "true"} if needs.workload_identity is not None else {}
    return {
        "metadata": {"labels": {**_labels(form), **uses}},
        "spec": {
            "serviceAccountName": form.name,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "runAsGroup": _USER,
                "fsGroup": _USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": containers,
            "volumes": [*volumes, tokens],
        },
    }


def _account() -> list[dict[str, Any]]:
    """The three files by which every client finds the API's token, authority and namespace."""
    authority = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    namespace = {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}
    return [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
        {"configMap": authority},
        {"downwardAPI": {"items": [namespace]}},
    ]
