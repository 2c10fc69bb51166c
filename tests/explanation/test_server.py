"""The local page: who is let in, what it refuses, and a photo's way to its report."""

import contextlib
import http.client
import json
import socket
import sys
import threading
import time
import types

import browser
import jax.numpy as jnp
import pytest
from PIL import Image

import unlir_jax
from unlir_jax import cli, split
from unlir_jax.explanation import desk, server, wishes
from unlir_jax.types import Features

pytest.importorskip("starlette")
TOKEN = "a-secret"
QUERY = "model=nets_of_a_page:small&methods=grad_cam&controls=0"


def small():
    """Wrap a function of the mean colour."""
    model = split.from_functions(
        lambda variables, images: Features(images, None),
        lambda variables, features: features.maps.mean((1, 2)) @ variables,
    )
    return unlir_jax.wrap(
        model,
        jnp.eye(3),
        class_names=["red", "green", "blue"],
        image_size=8,
    )


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    Image.new("RGB", (12, 8), (200, 60, 20)).save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """Serve on a thread; what it does with photos is in the name of the photo."""

    def work(wish):
        def explain(photo, report, progress):
            assert [each.name for each in photo.iterdir()] == [wish.name]
            progress("looking", 0.5)
            if wish.name.startswith("broken"):
                raise ValueError("The photo is broken.")
            while wish.name.startswith("slow"):
                progress("looking", 0.5)
                time.sleep(0.01)
            report.mkdir()
            (report / "report.html").write_text(json.dumps(wish.settings))

        return explain

    networks = [wishes.Network("mine"), wishes.Network("other", note="needs more")]
    jobs = desk.opened(tmp_path_factory.mktemp("reports"))
    with socket.socket() as listening:
        listening.bind((server.LOOPBACK, 0))
        listening.listen()
        program = server.program(server.application(jobs, networks, TOKEN, work))
        given = {"sockets": [listening]}
        thread = threading.Thread(target=program.run, kwargs=given)
        thread.start()
        yield listening.getsockname()[1]
        program.should_exit = True
        thread.join()
    jobs.close()


def ask(port, address, method="GET", body=None, **headers):
    connection = http.client.HTTPConnection(server.LOOPBACK, port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, address, body, headers)
        answer = connection.getresponse()
        return answer, answer.read()


def submit(port, query, body=b"photo"):
    answer, found = ask(port, f"/{TOKEN}/jobs?{query}", "POST", body)
    return answer.status, json.loads(found)


def follow(port, job, until):
    while True:
        found = json.loads(ask(port, f"/{TOKEN}/jobs/{job}")[1])
        if found["state"] in until:
            return found


def test_the_page_loads_nothing_and_is_kept_nowhere(port):
    answer, page = ask(port, f"/{TOKEN}/")
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert b"default-src 'none'" in page and b"Grad-CAM" in page
    assert b"http:" not in page and b"https:" not in page
    assert b'<option value="other" disabled>' in page


@pytest.mark.parametrize("address", ["/", "/jobs", "/wrong/", "/wrong/jobs/1", "/%00/"])
def test_without_the_secret_there_is_nothing(port, address):
    answer, found = ask(port, address)
    assert answer.status in (404, 307) and TOKEN.encode() not in found


def test_another_name_of_the_host_is_refused(port):
    assert ask(port, f"/{TOKEN}/", Host="elsewhere.example")[0].status == 400


def test_a_page_from_elsewhere_is_refused(port):
    address = f"/{TOKEN}/jobs?name=a.png&model=mine"
    answer, found = ask(port, address, "POST", b"a", Origin="http://elsewhere.example")
    assert answer.status == 403 and b"not made here" in found


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("model=mine", "The photo '' has no suffix"),
        ("name=a.exe&model=mine", "The photo 'a.exe' has no suffix"),
        ("name=a.png&model=min", "did you mean 'mine'?"),
        ("name=a.png&model=other", "`model`='other' is not offered"),
        ("name=a.png&model=mine&methods=grad_cm", "did you mean 'grad_cam'?"),
        ("name=a.png&model=mine&methods=parts", "does not decide by parts"),
        ("name=a.png&model=mine&score=os:system", "`score`='os:system' is not offered"),
        (f"name=a.png&model=mine&label={'a' * 201}", "`label` has 201 letters"),
    ],
)
def test_a_wrong_wish_is_answered_in_a_sentence(port, query, sentence):
    status, found = submit(port, query)
    assert status == 400 and sentence in found["error"]


def test_a_photo_without_bytes_or_with_too_many_is_refused(port, monkeypatch):
    query = "name=a.png&model=mine"
    assert "is empty" in submit(port, query, b"")[1]["error"]
    monkeypatch.setattr(server, "MOST_BYTES", 1 << 20)
    status, found = submit(port, query, bytes((1 << 20) + 1))
    assert status == 413 and "more than 1 MiB" in found["error"]


def test_a_photo_becomes_a_report(port):
    query = "model=mine&methods=grad_cam,opti_cam&label=+cat+&score=logit&controls=0"
    status, found = submit(port, f"name=..%2Fa%3Cb.PNG&{query}")
    assert status == 201
    job = found["job"]
    assert follow(port, job, ["done"])["share"] == 1
    answer, page = ask(port, f"/{TOKEN}/reports/{job}/report.html")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert json.loads(page) == {
        "model": "mine",
        "methods": ["grad_cam", "opti_cam"],
        "label": "cat",
        "score": "logit",
        "controls": False,
    }
    for other in ("results.json", "..%2Freport%2Freport.html", "..", "%00"):
        assert ask(port, f"/{TOKEN}/reports/{job}/{other}")[0].status == 404


def test_what_fails_is_said_and_the_next_has_its_turn(port):
    broken = submit(port, "name=broken.png&model=mine")[1]["job"]
    whole = submit(port, "name=whole.png&model=mine")[1]["job"]
    assert follow(port, broken, ["failed"])["error"] == "The photo is broken."
    assert follow(port, whole, ["done"])
    assert ask(port, f"/{TOKEN}/reports/{broken}/report.html")[0].status == 404


def test_a_job_is_stopped(port):
    slow = submit(port, "name=slow.png&model=mine")[1]["job"]
    behind = submit(port, "name=behind.png&model=mine")[1]["job"]
    assert json.loads(ask(port, f"/{TOKEN}/jobs/{behind}")[1])["ahead"] == 1
    follow(port, slow, ["running"])
    ask(port, f"/{TOKEN}/jobs/{slow}", "DELETE")
    assert follow(port, slow, ["cancelled"]) and follow(port, behind, ["done"])


DROP = """(() => {{
const data = new DataTransfer();
data.items.add(new File(["a photo"], "{}", {{type: "image/png"}}));
document.dispatchEvent(new DragEvent("drop", {{dataTransfer: data}}));
}})()"""


def drop(window, name, until):
    """Drop a photo, ask for its report, and wait for a condition."""
    window.value(DROP.format(name))
    window.click("button[type=submit]")
    while not window.value(until):
        time.sleep(0.05)


@pytest.mark.skipif(browser.find() is None, reason="no browser is installed")
def test_a_photo_is_dropped_in_a_browser(port):
    address = f"http://{server.LOOPBACK}:{port}/{TOKEN}/"
    with browser.running() as window:
        for width in (1200, 390):
            window.open(address, width)
            assert window.value("document.documentElement.scrollWidth") <= width
        assert window.value("document.querySelector('button[type=submit]').disabled")
        assert not window.value("document.querySelector('[value=parts]').offsetParent")
        told = "document.querySelector('output').textContent"
        drop(window, "broken.png", f"{told} == 'The photo is broken.'")
        drop(window, "slow.png", f"{told} == 'looking'")
        window.click("button.plain")
        while window.value(told) != "Stopped.":
            time.sleep(0.05)
        page = "document.querySelector('iframe').contentDocument.body?.textContent"
        drop(window, "photo.png", f"{page}?.includes('opti_cam')")
        assert json.loads(window.value(page))["methods"] == ["grad_cam", "opti_cam"]
        # The photo is no image, which its preview says; all else is silent.
        wrong = [each for each in window.complaints() if "blob:" not in str(each)]
        assert [
            w["params"]["entry"]["url"] for w in wrong if "entry" in w["params"]
        ] == []
        known = (address, "blob:")
        assert all(each.startswith(known) for each in window.requests())


def test_few_may_wait_and_the_oldest_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(desk, "MOST_WAITING", 2)
    monkeypatch.setattr(desk, "MOST_KEPT", 2)
    go = threading.Event()
    jobs = desk.opened(tmp_path)

    def work(photo, report, progress):
        assert go.wait(60)
        report.mkdir()

    names = [jobs.submit("a.png", b"a", work)]
    while jobs.look(names[0])["state"] == "waiting":
        time.sleep(0.01)
    names += [jobs.submit("a.png", b"a", work) for _ in range(2)]
    with pytest.raises(ValueError, match="2 photos wait already"):
        jobs.submit("a.png", b"a", work)
    go.set()
    while jobs.look(names[-1])["state"] != "done":
        time.sleep(0.01)
    assert not (tmp_path / names[-1] / desk.PHOTO).exists()
    names.append(jobs.submit("a.png", b"a", work))
    jobs.close()
    assert jobs.look(names[0]) is None and not (tmp_path / names[0]).exists()


def test_a_photo_is_explained(photo, tmp_path, monkeypatch):
    module = types.ModuleType("nets_of_a_page")
    module.small = small
    monkeypatch.setitem(sys.modules, "nets_of_a_page", module)
    networks = wishes.networks(["nets_of_a_page:small"], {})
    asked = dict(pair.split("=") for pair in QUERY.split("&")) | {"methods": "gradient"}
    wish = wishes.read(asked | {"name": "photo.png"}, networks)
    jobs = desk.opened(tmp_path)
    job = jobs.submit(wish.name, photo, server.work(wish))
    broken = jobs.submit(wish.name, photo[:40], server.work(wish))
    while jobs.look(broken)["state"] in ("waiting", "running"):
        time.sleep(0.01)
    jobs.close()
    assert jobs.look(job)["state"] == "done", jobs.look(job)["error"]
    page = (jobs.report(job) / "report.html").read_text("utf-8")
    assert "photo.png" in page and str(tmp_path) not in page
    error = jobs.look(broken)["error"]
    assert "photo.png" in error and str(tmp_path) not in error


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--weights", "a.pth"], "`--weights` belongs to one network"),
        (["--model", "nosuch"], "is not a network"),
        (["--port", "70000"], "cannot be listened at"),
        (["--output", __file__], "cannot be used"),
    ],
)
def test_wrong_options_are_refused(options, sentence, capsys):
    assert cli.main(["serve", *options]) == 2
    assert sentence in capsys.readouterr().err
