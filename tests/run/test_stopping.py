"""What the signals do that ask a process to stop."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from metarl.run.stopping import as_interrupts, stop_requests

OTHERS = [signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU]


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """Whoever runs the tests may ignore some (`nohup`)."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in OTHERS}
    yield
    for number, handler in before.items():
        assert signal.signal(number, handler) == signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGINT, *OTHERS])
def test_each_asks_once_and_the_second_one_interrupts(number: int) -> None:
    said: list[str] = []
    with as_interrupts(), stop_requests(said.append) as is_requested:
        assert not is_requested()
        os.kill(os.getpid(), number)
        assert is_requested() and said == ["stopping after this iteration (again to stop at once)"]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", OTHERS)
def test_outside_a_training_they_interrupt(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), as_interrupts():
        os.kill(os.getpid(), number)


def test_a_run_in_the_background_of_a_script_can_be_asked() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with as_interrupts(), stop_requests(lambda _: None) as is_requested:
            os.kill(os.getpid(), signal.SIGINT)
            assert is_requested()
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_is_ignored_stays_so() -> None:
    """As by `nohup`."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with as_interrupts(), stop_requests(print) as is_requested:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not is_requested()
    assert signal.signal(signal.SIGHUP, signal.SIG_DFL) == signal.SIG_IGN


@pytest.mark.parametrize("number", OTHERS)
def test_the_programs_own_handler_is_told_too(number: int) -> None:
    told: list[int] = []
    signal.signal(number, lambda of, frame: told.append(of))
    try:
        with stop_requests(lambda text: None) as is_requested:
            os.kill(os.getpid(), number)
            assert is_requested() and told == [number]
    finally:
        signal.signal(number, signal.SIG_DFL)


def test_an_error_in_a_thread_is_told_as_it_is() -> None:
    """There signals can't be handled, of which the error isn't a consequence."""
    found: list[BaseException] = []

    def fails() -> None:
        try:
            with stop_requests(print) as is_requested:
                assert not is_requested()
                raise KeyError("x")
        except KeyError as error:
            found.append(error)

    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()
    assert found[0].__context__ is None


def test_a_handler_that_is_not_pythons_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a program that has Python in it."""
    getsignal, touched = signal.getsignal, list[int]()
    monkeypatch.setattr(
        signal, "getsignal", lambda n: None if n == signal.SIGTERM else getsignal(n)
    )
    handle = signal.signal
    monkeypatch.setattr(signal, "signal", lambda n, how: (touched.append(n), handle(n, how))[1])
    with stop_requests(print):
        pass
    assert signal.SIGTERM not in touched and signal.SIGINT in touched
