"""Requests to stop a run."""

import os
import signal

import pytest

from creps_jax.training import loop


def test_the_end_of_the_terminal_is_a_request_to_stop():
    with loop.stop_requests() as received:
        os.kill(os.getpid(), signal.SIGHUP)
        assert received == [signal.SIGHUP]
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def test_the_end_of_the_terminal_is_none_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with loop.stop_requests() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            assert received == []
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_decoding_processes_see_no_request(number):
    with loop.requests_blocked():
        assert number in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert number not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
