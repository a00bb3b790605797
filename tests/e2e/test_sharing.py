"""What identities of one run share: connections, a throttled tenant's pause, a dead host's verdict.

None of it may be spoilt by one of them.
"""

from __future__ import annotations

import threading
import time

import pytest

from credentials_provider.emulator import Emulator, Fault
from support import OTHER_TENANT, Project, apps, closed_port, renew, until

pytestmark = pytest.mark.usefixtures("no_backoff")


def test_a_hundred_identities_cost_a_hundred_requests(project: Project) -> None:
    """One request an identity and no other, over no more connections than asked for."""
    with Emulator(latency=0.1) as idp:
        many = Project(project.folder + "2", idp)
        many.add_all(apps(100))

        report = renew(many, concurrency=16)

        assert report.count("renewed") == 100
        assert {each.attempts for each in report.results} == {1}
        requests = idp.requests
        assert len(requests) == len(idp.token_requests) == 100
        assert len({each.client_id for each in requests}) == 100
        assert 4 <= idp.connections <= 16
        # Each answer takes 100 ms: those that arrive within 100 ms are under way together.
        arrivals = sorted(each.at for each in requests)
        together = max(sum(at <= other < at + 0.1 for other in arrivals) for at in arrivals)
        assert 2 <= together <= 16


def test_one_worker_needs_one_connection(project: Project, idp: Emulator) -> None:
    """Requests that come one after another share a connection, refusals included."""
    many = apps(12)
    project.add_all(many)
    idp.inject(Fault("aadsts", code=7000222), None, many[3].client_id)

    assert renew(project, concurrency=1).count("renewed") == 11
    assert (len(idp.requests), idp.connections) == (12, 1)


def test_the_report_keeps_the_order_of_the_file(project: Project, idp: Emulator) -> None:
    """Whoever is done first, results come in the order of the identities file."""
    many = apps(10)
    project.add_all(many)
    idp.inject(Fault("slow", seconds=0.3), None, many[0].client_id)

    report = renew(project)

    assert [each.identity_name for each in report.results] == [app.name for app in many]


def test_a_permanent_error_spoils_no_other_identity(project: Project, idp: Emulator) -> None:
    """A refused identity costs one request; the others get their tokens, the exit code is 1."""
    many = apps(9)
    project.add_all(many)
    for app in many[::2]:
        idp.inject(Fault("aadsts", code=7000222), None, app.client_id)

    report = renew(project, concurrency=2)

    assert [each.kind for each in report.results] == ["failed", "renewed"] * 4 + ["failed"]
    assert (len(idp.requests), report.exit_code) == (9, 1)


def test_resets_of_some_spoil_no_other_identity(project: Project, idp: Emulator) -> None:
    """Identities whose connections are always cut fail alone, after their own attempts."""
    many = apps(30)
    project.add_all(many)
    for app in (many[0], many[7]):
        idp.inject(Fault("reset"), None, app.client_id)

    report = renew(project, concurrency=4, max_attempts=3)

    assert [each.identity_name for each in report.results if each.failure] == [
        many[0].name,
        many[7].name,
    ]
    assert [each.attempts for each in report.results].count(3) == 2


def test_a_throttled_tenant_is_asked_on_while_the_refused_wait(
    project: Project, idp: Emulator
) -> None:
    """A 429 makes its own identity wait as told, and no other."""
    many = apps(40)
    project.add_all(many)
    for app in many[:4]:
        idp.inject(Fault("throttle", retry_after=2), 1, app.client_id)

    report = renew(project, concurrency=8)

    assert report.count("renewed") == 40
    arrivals: dict[str | None, list[float]] = {}
    for each in sorted(idp.requests, key=lambda request: request.at):
        arrivals.setdefault(each.client_id, []).append(each.at)
    refused = [arrivals.pop(app.client_id) for app in many[:4]]
    assert {len(times) for times in arrivals.values()} == {1}
    assert all(len(times) == 2 and times[1] - times[0] >= 2 for times in refused)
    assert max(at for [at] in arrivals.values()) < min(second for _, second in refused)


def test_a_tenant_that_refuses_everything_is_left_in_peace(project: Project, idp: Emulator) -> None:
    """Each refusal halves what is under way; with one left, all of the tenant waits."""
    project.add_all(apps(40))
    idp.inject(Fault("throttle", retry_after=1), None)
    relent = threading.Timer(0.9, idp.clear_faults)
    relent.start()

    report = renew(project, concurrency=8)

    relent.join()
    assert report.count("renewed") == 40
    arrivals = sorted(each.at for each in idp.requests)
    assert len(arrivals) <= 40 + 20


def test_a_refusal_spends_no_attempt_while_the_tenant_answers_others(
    project: Project, idp: Emulator
) -> None:
    """An identity that is refused more often than it has attempts gets its token all the same."""
    many = apps(30)
    project.add_all(many)
    idp.inject(Fault("throttle", retry_after=0.05), 3, many[0].client_id)
    for app in many[1:]:
        idp.inject(Fault("slow", seconds=0.25), 1, app.client_id)

    report = renew(project, max_attempts=2, concurrency=4)

    assert report.count("failed") == 0
    assert max(each.attempts for each in report.results) == 4


def test_another_tenant_goes_on_during_a_pause(project: Project, idp: Emulator) -> None:
    """A throttled tenant does not hold up the identities of another."""
    throttled, others = apps(4), apps(20, OTHER_TENANT)
    project.add_all([*throttled, *others])
    idp.inject(Fault("throttle", retry_after=2), 4, tenant_id=throttled[0].tenant_id)
    entries = project.entries()
    project.write([{**made, "identity_name": f"a{number}"} for number, made in enumerate(entries)])

    report = renew(project, concurrency=8)

    assert report.count("renewed") == 24
    paused = sorted(each.at for each in idp.requests if each.tenant != OTHER_TENANT)
    free = [each.at for each in idp.requests if each.tenant == OTHER_TENANT]
    resumed = next(at for at in paused if at >= paused[0] + 2)
    assert len(free) == 20
    assert max(free) < resumed
    assert sum(at < resumed for at in paused) == 4


def test_a_pause_ties_up_no_worker_that_others_need(project: Project, idp: Emulator) -> None:
    """However many identities a throttled tenant has, and however few there are to wait for it."""
    throttled, others = apps(10), apps(12, OTHER_TENANT)
    for number, app in enumerate([*throttled, *others]):
        project.add(app, identity_name=f"a{number}")
    idp.inject(Fault("throttle", retry_after=3), 1, tenant_id=throttled[0].tenant_id)

    report = renew(project, concurrency=1)

    assert report.count("renewed") == 22
    paused = sorted(each.at for each in idp.requests if each.tenant != OTHER_TENANT)
    assert max(each.at for each in idp.requests if each.tenant == OTHER_TENANT) < paused[1]


def test_a_pause_beyond_the_deadline_ends_at_once(project: Project, idp: Emulator) -> None:
    """A Retry-After that the run cannot wait for ends the tenant's identities, and says so."""
    throttled, others = apps(40), apps(3, OTHER_TENANT)
    for number, app in enumerate([*throttled, *others]):
        project.add(app, identity_name=f"a{number}")
    idp.inject(Fault("throttle", retry_after=600), None, tenant_id=throttled[0].tenant_id)
    began = time.monotonic()

    report = renew(project, concurrency=4, deadline=60.0)

    assert time.monotonic() - began < 30
    assert [each.kind for each in report.results] == ["failed"] * 40 + ["renewed"] * 3
    for each in report.results[:40]:
        assert each.failure is not None
        assert each.failure.kind == "throttled"
        assert "deadline" in each.failure.message
        assert "10 min" in each.failure.remedy
        assert each.attempts <= 1
    assert len(idp.requests) <= 12 + 3
    assert report.exit_code == 1


def test_a_server_that_hangs_ends_with_the_deadline(project: Project, idp: Emulator) -> None:
    """No request outlives the run's deadline, whatever the time-out of a request."""
    project.add_all(apps(5))
    idp.inject(Fault("hang"), None)
    began = time.monotonic()

    report = renew(project, deadline=1.0)

    assert time.monotonic() - began < 15
    assert [each.failure and each.failure.kind for each in report.results] == ["unreachable"] * 5


def test_a_dead_host_costs_one_retry_budget(project: Project) -> None:
    """Once one identity has spent its attempts on a closed port, no other tries at all."""
    project.add_all(apps(200))
    began = time.monotonic()

    report = renew(
        project,
        login_base_url=f"https://localhost:{closed_port()}",
        concurrency=4,
        max_attempts=3,
    )

    assert time.monotonic() - began < 30
    assert {each.failure and each.failure.kind for each in report.results} == {"unreachable"}
    for each in report.results:
        assert each.failure is not None
        assert "refused" in each.failure.message
    workers = 32  # those under way when the verdict fell
    assert sum(each.attempts > 0 for each in report.results) <= workers
    assert max(each.attempts for each in report.results) == 3
    assert project.files() == {}


def test_an_unreachable_provider_costs_one_retry_budget(project: Project, idp: Emulator) -> None:
    """A host that cuts every connection is given up for all once some have spent their attempts."""
    project.add_all(apps(200))
    idp.inject(Fault("reset"), None)

    report = renew(project, concurrency=4, max_attempts=3)

    assert {each.failure and each.failure.kind for each in report.results} == {"unreachable"}
    assert len(idp.requests) == sum(each.attempts for each in report.results) <= 2 * 16 * 3


def test_a_dead_host_spoils_no_other_host(project: Project, idp: Emulator) -> None:
    """Identities of another login host do not suffer from one that is down."""
    good, bad = apps(6), apps(6, OTHER_TENANT)
    for number, app in enumerate(good):
        project.add(app, identity_name=f"good{number}")
    nowhere = f"https://localhost:{closed_port()}"
    for number, app in enumerate(bad):
        project.add(app, identity_name=f"bad{number}", login_base_url=nowhere)

    report = renew(project, concurrency=2, max_attempts=2)

    assert [each.kind for each in report.results] == ["renewed"] * 6 + ["failed"] * 6
    assert len(idp.requests) == 6


def test_each_token_is_saved_as_soon_as_it_is_there(project: Project, idp: Emulator) -> None:
    """A token on disk does not wait for an identity that hangs."""
    many = apps(4)
    project.add_all(many)
    idp.inject(Fault("hang"), None, many[0].client_id)
    done: list[object] = []
    thread = threading.Thread(target=lambda: done.append(renew(project, timeout=5.0)))
    thread.start()
    until(lambda: len(project.files()) == 3 or not thread.is_alive())
    assert thread.is_alive()
    idp.clear_faults()
    idp.close()  # ends the hang
    thread.join()


def test_a_pause_that_grows_beyond_the_deadline_ends_at_once(
    project: Project, idp: Emulator
) -> None:
    """Who waits for a throttled tenant hears of a longer pause and does not wait for the end."""
    project.add_all(apps(12))
    idp.inject(Fault("throttle", retry_after=1), 1)
    idp.inject(Fault("throttle", retry_after=600), None)
    began = time.monotonic()

    report = renew(project, concurrency=1, deadline=60.0)

    assert 1 <= time.monotonic() - began < 30
    assert {each.failure and each.failure.kind for each in report.results} == {"throttled"}
    assert len(idp.requests) == 2
