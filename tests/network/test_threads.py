"""The pool of threads: every part once, whoever asks, also after a fork."""

import ctypes
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import needs_compiler

from trajcast_ase.network.cpu.build import load
from trajcast_ase.network.cpu.threads import _source, threads

pytestmark = needs_compiler


def probe(n_parts, n_threads):
    """Return the sum of the squares of the parts, made by several threads."""
    library = load(_source())
    library.probe.argtypes = [ctypes.c_int64, ctypes.c_int64]
    library.probe.restype = ctypes.c_int64
    return library.probe(n_parts, n_threads)


def sum_of_squares(n):
    return (n - 1) * n * (2 * n - 1) // 6


@pytest.mark.parametrize("n_threads", [1, 2, 3, 8])
def test_every_part_is_done_once(n_threads):
    for n in (0, 1, 2, 7, 1000):
        assert probe(n, n_threads) == sum_of_squares(n)


def test_many_callers_at_a_time():
    with ThreadPoolExecutor(4) as callers:
        found = list(callers.map(lambda k: probe(100 + k, 3), range(200)))
    assert found == [sum_of_squares(100 + k) for k in range(200)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own():
    """Those of its parent are gone: waiting for them would take forever."""
    assert probe(50, 2) == sum_of_squares(50)
    child = os.fork()
    if child == 0:
        os._exit(0 if probe(60, 2) == sum_of_squares(60) else 1)
    deadline = time.monotonic() + 20.0
    finished, status = 0, -1
    while not finished and time.monotonic() < deadline:
        finished, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.01)
    if not finished:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert status == 0


def test_one_thread_needs_no_pool():
    assert (threads(0).n, threads(0).run) == (1, None)
    assert threads(2).n == 2
    assert threads(2).run is not None
