"""List the processor seconds of the slowest files and tests: `make test-durations`.

Seconds depend on the machine and on what has been compiled before, so nothing fails.
"""

import collections
import os

import pytest

MOST = 40


def seconds():
    """Give the processor seconds of this process and of those that it waited for."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    start = seconds()
    result = yield
    item.config.stash.setdefault(KEY, []).append((seconds() - start, item.nodeid))
    return result


KEY = pytest.StashKey[list]()


def pytest_sessionfinish(session):
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["seconds"] = session.config.stash.get(KEY, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    found = getattr(node, "workeroutput", {}).get("seconds", [])
    node.config.stash.setdefault(KEY, []).extend(map(tuple, found))


def pytest_terminal_summary(terminalreporter, config):
    tests = config.stash.get(KEY, [])
    files = collections.Counter()
    for spent, name in tests:
        files[name.split("::")[0]] += spent
    listed = [(spent, name) for name, spent in files.items()]
    total = sum(spent for spent, _ in tests)
    terminalreporter.section(f"{total:.0f} processor seconds in tests")
    for found in (listed, tests):
        for spent, name in sorted(found, reverse=True)[:MOST]:
            terminalreporter.write_line(f"{spent:8.1f}  {name}")
