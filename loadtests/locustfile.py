"""The Locust side: the master hands each worker its share of a plan, workers drive it and report, the master merges.

Started by `python -m loadtests`, which writes the plan and reads what comes back; by itself:

    LOADTESTS_KEYS='{"default": "..."}' locust -f loadtests/locustfile.py --headless --processes 2 -u 2 --plan plan.json
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event
from locust import User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtests.drive import Driver
from loadtests.measured import Measured
from loadtests.plan import Plan, keys_in
from loadtests.watch import Watch

REPORT_EVERY_S = 1.0
LEAD_S = 2.0
"""From handing out the plan to the run's begin: every worker has made its schedule by then."""
GRACE_S = 30.0


class Share(User):
    """One on each worker; it drives all of the worker's requests."""

    @task
    def drive(self) -> None:
        run: Run = self.environment.loadtests_run
        run.drive(self.environment)


class Run:
    """One run, on master and workers alike. Talks by two messages: `plan` to each worker, `measured` back."""

    def __init__(self) -> None:
        self._handed_out = Event()
        self._order: dict[str, Any] = {}
        self._taken = False
        self.measured: Measured | None = None

    def accept(self, environment: Environment, msg: Any) -> None:
        self._order = msg.data
        self._handed_out.set()

    def drive(self, environment: Environment) -> None:
        """Wait for the plan, drive the share, report every second and at the end."""
        self._handed_out.wait()
        if self._taken:  # a second user on one worker would send everything twice
            gevent.sleep(3600)
        self._taken = True
        order, runner = self._order, environment.runner
        driver = Driver(Plan.unpacked(order["plan"]), keys_in(), order["index"], order["workers"], order["begin"])

        def send(done: bool) -> None:
            assert runner is not None
            runner.send_message("measured", driver.take() | {"index": order["index"], "done": done})

        finished = Event()

        def report() -> None:
            while not finished.wait(REPORT_EVERY_S):
                send(done=False)

        reporter = gevent.spawn(report)
        driver.run()
        finished.set()
        reporter.join()  # killed while it sends, it would take a second's rows with it
        send(done=True)
        gevent.sleep(3600)  # the master ends the run

    def collect(self, environment: Environment, msg: Any) -> None:
        if self.measured:
            self.measured.take(msg.data)

    def begin(self, environment: Environment) -> None:
        """On the master, once every worker is there. A mistake here ends the run, where Locust would wait for ever."""

        def give_up(_: gevent.Greenlet) -> None:
            environment.process_exit_code = 1
            if environment.runner is not None:
                environment.runner.quit()

        gevent.spawn(self.lead, environment).link_exception(give_up)

    def lead(self, environment: Environment) -> None:
        """On the master: hand out, watch, write what was measured, quit."""
        options, runner = environment.parsed_options, environment.runner
        assert options is not None
        assert runner is not None
        plan = Plan.unpacked(json.loads(Path(options.plan).read_text()))
        scenario = plan.resolved()
        workers = sorted(client.id for client in runner.clients.all) if isinstance(runner, MasterRunner) else ["local"]
        begin = time.time() + LEAD_S
        self.measured = Measured(plan, len(workers), begin)
        for index, worker in enumerate(workers):
            order = {"plan": plan.packed(), "index": index, "workers": len(workers), "begin": begin}
            runner.send_message("plan", order, worker)
        watch = Watch(plan.server.base, options.metrics_url, begin)
        deadline = begin + scenario.window.until + GRACE_S
        while not self.measured.complete and time.time() < deadline:
            watch.look()
            print(self.measured.progress(time.time() - begin, scenario), flush=True, end="")
            if self.measured.failure:
                break
            gevent.sleep(1.0)
        print(flush=True)
        self.measured.server = watch.samples
        self.measured.write(Path(options.plan).parent)
        environment.process_exit_code = 1 if self.measured.failure else 0
        runner.quit()


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def options(parser: LocustArgumentParser) -> None:
    parser.add_argument("--plan", default="", help="JSON file with the plan; what is measured is written beside it")
    parser.add_argument("--metrics-url", default="", help="Prometheus page of the server, for its side of the picture")


@events.init.add_listener  # type: ignore[untyped-decorator]
def prepare(environment: Environment, **_: Any) -> None:
    run, runner = Run(), environment.runner
    environment.loadtests_run = run  # type: ignore[attr-defined]
    assert runner is not None
    messages: dict[str, Callable[..., None]] = {}
    if not isinstance(runner, MasterRunner):
        messages["plan"] = run.accept
    if not isinstance(runner, WorkerRunner):
        messages["measured"] = run.collect
        ready = environment.events.spawning_complete
        ready.add_listener(lambda **_: run.begin(environment))  # type: ignore[no-untyped-call]
    for name, listener in messages.items():
        runner.register_message(name, listener)
