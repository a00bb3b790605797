"""Manifests as Kubernetes takes them: its schemas, its restricted profile, and pods that run.

No cluster ran here. The pods are processes with what the kubelet would set up for them; the API is
a double.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from cluster_api import serving
from operations.pods import Pod, may_run
from support import PATIENCE, apps, entry, environment, until

if TYPE_CHECKING:
    from pathlib import Path

    from operations.running import Program
    from support import Project

KINDS = ("cronjob", "fleet", "deployment", "sidecar")
SECRET = {"kubernetes_secret": "ci-token"}
NEEDS_ROOT = pytest.mark.skipif(not may_run(), reason="needs root, setpriv and mount namespaces")


def manifests(project: Project, *options: str, **env: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """The printed text, and its documents by kind, each valid by Kubernetes' own schema."""
    line = [sys.executable, "-m", "credentials_provider", "schedule", "kubernetes", *options]
    done = subprocess.run(
        line,
        cwd=project.folder,
        env=environment(project.folder, env),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr, documents_of(done.stdout)


def documents_of(text: str) -> dict[str, dict[str, Any]]:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)  # as kubectl reads it
    documents = list(yaml.load_all(io.StringIO(text)))
    for document in documents:
        for version in ("1.29", "1.37"):  # the oldest that the documents name, and the newest known
            kubernetes_validate.validate(document, version, strict=True)
    return {document["kind"]: document for document in documents}


def template_of(documents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    (spec,) = [
        each["spec"] for kind, each in documents.items() if kind in {"CronJob", "Deployment"}
    ]
    found: dict[str, Any] = spec.get("jobTemplate", {"spec": spec})["spec"]["template"]
    return found


def pod_of(documents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = template_of(documents)["spec"]
    return found


def containers_of(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def kind_of(kind: str) -> tuple[str, ...]:
    """The options for a kind, with what it cannot be without."""
    return ("--kind", kind, *(("--namespace", "agents") if kind == "deployment" else ()))


@pytest.fixture
def ci(project: Project) -> Project:
    """A project with one identity."""
    project.add_all(apps(1))
    return project


def give(project: Project, *sinks: dict[str, str]) -> None:
    project.write([{**each, "sinks": [*sinks]} for each in project.entries()])


# What is printed


@pytest.mark.parametrize("kind", ["cronjob", "fleet", "sidecar"])
def test_kubernetes_expands_nothing_in_a_command(ci: Project, kind: str) -> None:
    """It replaces $(NAME) by a variable of the container, and $$ by one $."""
    hook = "echo $$ $(ENTRA_SCOPE) ${HOME} $$(date)"
    scope = "api://$(HOME)/.default"
    pod = pod_of(manifests(ci, "--kind", kind, "--", "--on-renew", hook, ENTRA_SCOPE=scope)[1])
    container = next(each for each in containers_of(pod) if "env" in each)
    command = " ".join(map(expanded, container["command"]))
    assert hook in command
    assert scope in [expanded(each["value"]) for each in container["env"]]


def expanded(text: str) -> str:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1 (command)."""
    return re.sub(r"\$(\$|\(\w+\))", lambda found: "$" if found[1] == "$" else "", text)


def test_no_path_adds_a_manifest(project: Project) -> None:
    """For kubectl U+2028 ends a line, and so a comment."""
    folder = os.path.join(project.folder, "a\u2028kind: Secret\u2028")
    os.mkdir(folder, 0o700)
    file = project.private(os.path.join(folder, "ids.json"), json.dumps([entry(apps(1)[0])]))
    authority = project.private(os.path.join(folder, "ca.pem"), "")
    options = ("--kind", "sidecar", "-i", file, "--ca-bundle", authority)
    text, documents = manifests(project, *options)
    assert {*documents} == {"ServiceAccount", "Deployment"}
    head, _, _ = text.partition("apiVersion")
    assert all(line.startswith("#") for line in head.splitlines())


def test_a_word_that_yaml_1_1_takes_for_a_truth_value_stays_a_word(ci: Project) -> None:
    ci.write([{**each, "identity_name": "no"} for each in ci.entries()])
    options = ("--kind", "sidecar", "--name", "on", "--wait-for", "no")
    documents = manifests(ci, *options, ENTRA_SCOPE="yes")[1]
    assert documents["Deployment"]["metadata"]["name"] == "on"
    watch = containers_of(pod_of(documents))[0]
    assert watch["startupProbe"]["exec"]["command"][-1] == "no"


@pytest.mark.parametrize("kind", KINDS)
def test_every_pod_keeps_to_the_restricted_profile(ci: Project, kind: str) -> None:
    """All of https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted."""
    give(ci, SECRET)
    pod = pod_of(manifests(ci, *kind_of(kind), "--namespace", "agents", "--every", "1")[1])
    context = pod["securityContext"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "ephemeralContainers"} & pod.keys()
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] != 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {*context} == {*("runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup", "seccompProfile")}
    for volume in pod["volumes"]:
        (source,) = volume.keys() - {"name"}
        assert source in {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
    for container in containers_of(pod):
        own = container["securityContext"]
        assert own.pop("readOnlyRootFilesystem", True) is True
        assert own == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert not {"ports", "lifecycle", "livenessProbe"} & container.keys()
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("kind", ["cronjob", "sidecar"])
def test_what_others_need_to_read_the_tokens_is_valid_too(ci: Project, kind: str) -> None:
    """The lines that the comments show for the consumer's pod."""
    text, documents = manifests(ci, "--kind", kind)
    if kind == "sidecar":
        assert 'format": "raw", "mode": "0640"' in text
        assert "NetworkPolicy" not in documents
        return
    give(ci, SECRET)
    text, _ = manifests(ci, "--kind", kind, "--namespace", "agents")
    shows = r"(?:^#   (?:securityContext|volumes|volumeMounts): .*\n)+"
    for lines in re.findall(shows, text, re.MULTILINE):
        shown = YAML(typ="safe", pure=True).load(lines.replace("#   ", ""))
        mounts = shown.pop("volumeMounts")
        container = {"name": "x", "image": "x", "volumeMounts": mounts}
        pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [container], **shown}}
        kubernetes_validate.validate(pod, "1.31", strict=True)
        assert [each["name"] for each in mounts] == [each["name"] for each in shown["volumes"]]


def test_the_pod_gets_what_its_identities_name(ci: Project) -> None:
    """Files where the entries look for them, variables from a Secret, settings, no secret value."""
    first, second = apps(2)
    ci.write(
        [
            entry(first, client_secret=None, client_secret_file=".secrets/ci one"),
            entry(second, client_secret=None, client_secret_env="OTHER_SECRET"),
        ]
    )
    env = {
        "OTHER_SECRET": "s3cret",
        "HTTPS_PROXY": "http://u:p4ss@proxy:3128",
        "ENTRA_TENANT_ID": "contoso.com",
        "ENTRA_LOGIN_BASE_URL": "https://login.example.com:8443",
    }
    names = ("--environment", "HTTPS_PROXY", "--ca-bundle", ci.idp.ca_file)
    text, documents = manifests(ci, *names, **env)
    assert "'--from-file=.secrets_ci_one=.oauth-tokens/.secrets/ci one'" in text
    assert "secret generic credentials-provider-environment --from-env-file=FILE" in text
    assert f"configmap credentials-provider-ca --from-file=ca.crt={ci.idp.ca_file}" in text
    assert not {"s3cret", "p4ss"} & {*re.findall(r"\w+", text)}
    pod = pod_of(documents)
    secret = next(each["secret"] for each in pod["volumes"] if "secret" in each)
    assert secret["items"] == [
        {"key": "entra-identities.json", "path": "entra-identities.json"},
        {"key": ".secrets_ci_one", "path": ".secrets/ci one"},
    ]
    variables = {each["name"]: each for each in pod["containers"][0]["env"]}
    assert variables["ENTRA_TENANT_ID"]["value"] == "contoso.com"
    assert variables["ENTRA_LOGIN_BASE_URL"]["value"] == "https://login.example.com:8443"
    for name in ("OTHER_SECRET", "HTTPS_PROXY"):
        source = variables[name]["valueFrom"]["secretKeyRef"]
        assert source == {"name": "credentials-provider-environment", "key": name}
    assert "--ca-bundle" in pod["containers"][0]["command"]
    ports = documents["NetworkPolicy"]["spec"]["egress"][0]["ports"]
    assert [each["port"] for each in ports] == [53, 53, 443, 3128, 8443]


def test_two_files_have_two_keys(ci: Project) -> None:
    """Also where their paths differ by what a key cannot hold."""
    paths = ["a/b", "a_b", "a+b", "c"]
    given = zip(apps(len(paths)), paths, strict=True)
    ci.write([entry(app, client_secret=None, client_secret_file=path) for app, path in given])
    text, documents = manifests(ci)
    volumes = pod_of(documents)["volumes"]
    items = next(each["secret"]["items"] for each in volumes if "secret" in each)[1:]
    keys = {each["path"]: each["key"] for each in items}
    assert keys == {"a/b": "a_b", "a_b": "a_b_", "a+b": "a_b__", "c": "c"}
    for path, key in keys.items():
        assert f"--from-file={key}=.oauth-tokens/{path}" in text


def test_an_identities_file_elsewhere_is_named_as_it_is(ci: Project, tmp_path: Path) -> None:
    """With its credentials; the pod has its own name for it."""
    (app,) = apps(1)
    entries = [entry(app, client_secret=None, client_secret_file="ci.secret")]
    path = ci.write(entries, str(tmp_path / "my ids.json"))
    text, _ = manifests(ci, "-i", path)
    assert f"'--from-file=entra-identities.json={path}'" in text
    assert f"--from-file=ci.secret={tmp_path}/ci.secret" in text
    ci.write(entries, "here.json")
    text, _ = manifests(ci, "-i", "here.json")
    assert "--from-file=ci.secret=ci.secret\n" in text


def test_what_the_pod_will_not_have_is_warned_of(ci: Project) -> None:
    """Files elsewhere on this machine, variables of this shell alone."""
    (app,) = apps(1)
    ci.write([entry(app, client_secret=None, client_secret_file="/srv/me/secret")])
    text, documents = manifests(ci, HTTPS_PROXY="http://p:1")
    assert "/srv/me/secret is not in the pod" in text
    assert "HTTPS_PROXY" in text
    (volume,) = [each for each in pod_of(documents)["volumes"] if "secret" in each]
    assert len(volume["secret"]["items"]) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_workload_identity_has_its_annotation_and_its_label(ci: Project, kind: str) -> None:
    """An entry without a credential; the app beside it gets nothing of it."""
    (app,) = apps(1)
    ci.write([{**entry(app, client_secret=None), "sinks": [SECRET]}])
    documents = manifests(ci, *kind_of(kind), "--namespace", "agents")[1]
    account = documents["ServiceAccount"]["metadata"]
    assert account["annotations"] == {"azure.workload.identity/client-id": app.client_id}
    template = template_of(documents)
    assert template["metadata"]["labels"]["azure.workload.identity/use"] == "true"
    assert template["spec"]["serviceAccountName"] == account["name"]
    skipped = template["metadata"].get("annotations", {})
    assert bool(skipped) == (kind == "sidecar")
    plain = {**entry(app), "sinks": [SECRET]}
    ci.write([plain])
    text, _ = manifests(ci, *kind_of(kind), "--namespace", "agents")
    assert "azure.workload" not in text


def test_a_managed_identity_may_reach_its_endpoint(ci: Project) -> None:
    """Azure's address for it, and nothing else over plain HTTP."""
    (app,) = apps(1)
    ci.write([entry(app, client_secret=None, managed_identity=True)])
    egress = manifests(ci)[1]["NetworkPolicy"]["spec"]["egress"]
    assert egress[1]["to"] == [{"ipBlock": {"cidr": "169.254.169.254/32"}}]


def test_the_role_is_of_the_sinks_secrets_alone(ci: Project) -> None:
    """Bound to the pod's service account, whose token our container alone gets."""
    give(ci, SECRET, {**SECRET, "key": "b"}, {"kubernetes_secret": "other"})
    for kind in KINDS:
        documents = manifests(ci, *kind_of(kind), "--namespace", "agents")[1]
        (rule,) = documents["Role"]["rules"]
        assert rule["resourceNames"] == ["ci-token", "other"]
        assert rule["verbs"] == ["get", "patch", "create"]
        (subject,) = documents["RoleBinding"]["subjects"]
        account = documents["ServiceAccount"]["metadata"]
        assert (subject["name"], subject["namespace"]) == (account["name"], "agents")
        assert {each["metadata"]["namespace"] for each in documents.values()} == {"agents"}
        mounted = [
            container["name"]
            for container in containers_of(pod_of(documents))
            if "account" in {each["name"] for each in container["volumeMounts"]}
        ]
        assert mounted == ["credentials-provider"]


def test_a_policy_lets_in_who_asks_for_metrics_alone(ci: Project) -> None:
    """Nobody without `--listen`."""
    give(ci, SECRET)
    options = kind_of("deployment")
    assert manifests(ci, *options)[1]["NetworkPolicy"]["spec"]["ingress"] == []
    documents = manifests(ci, *options, "--", "--listen", "0.0.0.0:9100")[1]
    (rule,) = documents["NetworkPolicy"]["spec"]["ingress"]
    assert rule == {"ports": [{"protocol": "TCP", "port": 9100}]}
    (port,) = pod_of(documents)["containers"][0]["ports"]
    assert port == {"name": "metrics", "containerPort": 9100}


@pytest.mark.parametrize(
    ("sinks", "options", "told"),
    [
        ([SECRET], (), "need --namespace"),
        ([], kind_of("deployment"), "kubernetes_secret"),
        ([], ("--", "--listen", "0.0.0.0:1"), "--listen"),
        ([], ("--kind", "sidecar", "--", "--force"), "--force"),
        ([], ("--environment", "NOT_SET"), "NOT_SET"),
        ([], ("--", "--output-dir", "/elsewhere"), "--output-dir"),
        ([], ("--kind", "sidecar", "--wait-for", "nobody"), "nobody"),
    ],
)
def test_what_could_not_run_is_refused(
    ci: Project, run: Program, sinks: list[dict[str, str]], options: tuple[str, ...], told: str
) -> None:
    """Before anything is printed; options are those of what runs."""
    give(ci, *sinks)
    ran = run("schedule", "kubernetes", *options, bare=True)
    assert (ran.code, ran.stdout, told in ran.stderr) == (2, "", True), ran.stderr


@pytest.mark.parametrize(("code", "seen"), [(0, 0), (75, 0), (78, 1), (1, 1)])
def test_a_job_fails_where_somebody_must_act(ci: Project, code: int, seen: int) -> None:
    """Not where the next run tries again: every token is still valid then."""
    shell = pod_of(manifests(ci)[1])["containers"][0]["command"][:3]
    done = subprocess.run([*shell, "/bin/sh", "-c", f"exit {code}"], check=False)
    assert done.returncode == seen


def test_the_sidecar_starts_first_shares_memory_and_is_asked_by_status(ci: Project) -> None:
    """With time for an answer, for one identity where it is named."""
    pod = pod_of(manifests(ci, "--kind", "sidecar", "--wait-for", "ci-agent")[1])
    (sidecar,) = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["command"][:2] == ["credentials-provider", "watch"]
    for probe in ("startupProbe", "readinessProbe"):
        command = sidecar[probe]["exec"]["command"]
        assert command[:3] == ["credentials-provider", "status", "--any"]
        assert command[-1] == "ci-agent"
        assert sidecar[probe]["timeoutSeconds"] == 10
    shared = next(each for each in pod["volumes"] if each["name"] == "tokens")
    assert shared["emptyDir"]["medium"] == "Memory"
    (mount,) = pod["containers"][0]["volumeMounts"]
    assert mount["readOnly"] is True


# Pods that run


@pytest.fixture
def readme(project: Project) -> Project:
    """Two identities as the README makes them: a secret in `.secrets`, one in the environment."""
    first, second = apps(2)
    for app in (first, second):
        project.idp.add_app(app)
    os.mkdir(os.path.join(project.output, ".secrets"), 0o700)
    project.private(os.path.join(project.output, ".secrets", "ci"), first.secrets[0])
    sink = {"path": "/tokens/ci.token", "format": "raw", "mode": "0640"}
    project.write(
        [
            entry(first, client_secret=None, client_secret_file=".secrets/ci", sinks=[sink]),
            entry(second, client_secret=None, client_secret_env="SECOND_SECRET"),
        ]
    )
    return project


def pod_for(project: Project, folder: Path, *options: str, **more: Any) -> Pod:
    """As the commands on top of the manifest say; `second` is the second identity's secret."""
    second = more.pop("second", apps(2)[1].secrets[0])
    reach = ("--ca-bundle", project.idp.ca_file)
    env = {"ENTRA_LOGIN_BASE_URL": project.idp.base_url}
    text, documents = manifests(project, *reach, *options, **env)
    files = dict(re.findall(r"--from-file=(\S+?)=(\S+?)'?(?: |$)", text, re.MULTILINE))

    def content(path: str) -> bytes:
        with open(os.path.join(project.folder, path), "rb") as file:
            return file.read()

    authorities = {"ca.crt": content(files.pop("ca.crt"))}
    secrets = {
        "entra-identities": {key: content(path) for key, path in files.items()},
        "credentials-provider-environment": {"SECOND_SECRET": second.encode()},
    }
    return Pod(folder, pod_of(documents), secrets, {"credentials-provider-ca": authorities}, **more)


STRICT = ("--", "--strict-permissions")


@NEEDS_ROOT
@pytest.mark.parametrize("kind", ["cronjob", "fleet"])
def test_a_jobs_pod_writes_the_tokens_of_the_readmes_identities(
    readme: Project, tmp_path: Path, kind: str
) -> None:
    """As its user, on a read-only root; no warning about what Kubernetes owns; twice."""
    pod = pod_for(readme, tmp_path / "pod", "--kind", kind, "--shards", "1", *STRICT)
    for _ in range(2):
        job = pod.start(pod.ours["command"], JOB_COMPLETION_INDEX="0")
        out, err = job.communicate(timeout=2 * PATIENCE)
        assert job.returncode == 0, out + err
        assert '"event": "warning"' not in err
    folder = pod.volumes["tokens"] / ("oauth" if kind == "cronjob" else "oauth-0")
    assert {f"{app.name}.json" for app in apps(2)} <= {each.name for each in folder.iterdir()}
    assert (pod.volumes["tokens"] / "ci.token").stat().st_mode & 0o777 == 0o640
    assert len(readme.idp.token_requests) == 2


@NEEDS_ROOT
@pytest.mark.parametrize("kind", ["sidecar", "deployment"])
def test_a_pod_that_stays_is_ready_when_its_tokens_are_there(
    readme: Project, tmp_path: Path, kind: str
) -> None:
    """Any of them, also in its sinks; a deployment's Secret comes soon, too."""
    with serving(tmp_path / "account") as api:
        if kind == "deployment":
            readme.write([{**readme.entries()[0], "sinks": [SECRET]}, readme.entries()[1]])
        options = (*kind_of(kind), *STRICT)
        more = {"account": api.account, "environment": api.environment, "second": "expired"}
        pod = pod_for(readme, tmp_path / "pod", *options, **more)
        probe = pod.ours["startupProbe"]["exec"]["command"]
        assert not pod.ends_well(probe)
        service = pod.start(pod.ours["command"])
        try:
            until(lambda: pod.ends_well(probe))
            if kind == "deployment":
                until(lambda: "ci-token" in api.secrets)
        finally:
            service.terminate()
            _, err = service.communicate(timeout=PATIENCE)
        assert '"event": "warning"' not in err
        token = (pod.volumes["tokens"] / "oauth" / f"{apps(1)[0].name}.json").read_text()
        reached = (
            api.held() if kind == "deployment" else (pod.volumes["tokens"] / "ci.token").read_text()
        )
        assert reached == json.loads(token)["access_token"]


def test_a_fleets_parts_are_disjoint_and_complete_when_run_as_the_manifest_says(
    ci: Project, run: Program, tmp_path: Path
) -> None:
    """Each with a folder of its own."""
    ci.add_all(apps(8)[1:])
    documents = manifests(ci, "--kind", "fleet", "--shards", "3")[1]
    spec = documents["CronJob"]["spec"]["jobTemplate"]["spec"]
    assert (spec["completionMode"], spec["completions"]) == ("Indexed", 3)
    shell, dash_c, script = pod_of(documents)["containers"][0]["command"]
    reach = f"--login-base-url {ci.idp.base_url} --ca-bundle {ci.idp.ca_file}"
    program = f"{shlex.quote(sys.executable)} -m credentials_provider"
    local = script.replace("credentials-provider generate", f"{program} generate {reach}", 1)
    local = local.replace("/identities/", f"{ci.output}/").replace("/tokens/", f"{tmp_path}/parts/")
    for index in range(spec["completions"]):
        ended = run.start_line([shell, dash_c, local], env={"JOB_COMPLETION_INDEX": str(index)})
        assert ended.wait(PATIENCE) == 0
        ended.communicate()
    parts = [
        [path.stem for path in folder.glob("[!.]*.json")]
        for folder in (tmp_path / "parts").iterdir()
    ]
    assert sorted(name for part in parts for name in part) == sorted(each.name for each in apps(8))
