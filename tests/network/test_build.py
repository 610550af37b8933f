"""Compilers, kernels that are kept, and what happens where either fails."""

import copy
import errno
import os
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import (
    TOLERANCES,
    needs_compiler,
    random_state,
    relative_error,
    small_model,
)

from trajcast_ase.network.cpu import build, cache
from trajcast_ase.network.cpu.build import (
    CompilerError,
    find_compiler,
    load,
)
from trajcast_ase.network.cpu.cache import cache_folder

ANSWER = 'extern "C" int answer() { return 42; }'


@pytest.fixture
def fresh_cache(monkeypatch, tmp_path):
    """Return the folder of a cache that holds nothing yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache_folder()


def overwrite(path, content):
    """Give a file that is loaded another content: the old one stays for the process."""
    path.unlink()
    path.write_bytes(content)


@needs_compiler
def test_failing_compiler_is_reported(fresh_cache):
    with pytest.raises(CompilerError, match=r"(?s)failed .*set the environ"):
        load("this is not C++")
    assert not list(fresh_cache.iterdir())


@needs_compiler
def test_compiled_once_even_by_many_at_a_time(fresh_cache):
    with ThreadPoolExecutor(4) as pool:
        libraries = list(pool.map(load, [ANSWER] * 4))
    assert [library.answer() for library in libraries] == [42] * 4
    (path,) = fresh_cache.iterdir()
    written = path.stat().st_mtime_ns
    assert load(ANSWER).answer() == 42
    assert path.stat().st_mtime_ns == written


@needs_compiler
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_damaged_kernels_are_made_anew(fresh_cache, share):
    """In a process of its own: loading a truncated library can end it."""
    load(ANSWER)
    (path,) = fresh_cache.iterdir()
    content = path.read_bytes()
    overwrite(path, content[: int(share * len(content))])
    program = (
        "from trajcast_ase.network.cpu.build import load\n"
        f"print(load({ANSWER!r}).answer())"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert outcome.stdout == "42\n", outcome.stderr
    assert path.read_bytes() == content


@needs_compiler
def test_flipped_bytes_are_noticed(fresh_cache):
    load(ANSWER)
    (path,) = fresh_cache.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    overwrite(path, content)
    assert load(ANSWER).answer() == 42
    assert path.read_bytes() != content


@needs_compiler
@pytest.mark.usefixtures("fresh_cache")
def test_kernels_are_used_where_there_is_no_compiler(monkeypatch):
    load(ANSWER)
    monkeypatch.setenv("CXX", "/nowhere/g++")
    assert find_compiler() is None
    assert load(ANSWER).answer() == 42
    with pytest.raises(
        CompilerError, match=r"CXX = '/nowhere/g\+\+': no such .* unset"
    ):
        load(ANSWER.replace("42", "43"))


@needs_compiler
@pytest.mark.usefixtures("fresh_cache")
@pytest.mark.parametrize("changes", [{}, {"surroundings_cutoff": 6.0}])
def test_models_use_the_kernels_that_are_there(changes, monkeypatch, caplog):
    """Those compiled on a login node, on a node without a compiler."""
    state = random_state(np.random.default_rng(3))

    def model(**others):
        network = small_model("thermal", torch.float32, **changes, **others)
        return network.set_backend("auto")

    with torch.no_grad():
        model().raw_forecast(state)
    monkeypatch.setenv("CXX", "/nowhere/g++")
    known, other = model(), model(n_channels=12)
    with torch.no_grad():
        known.raw_forecast(state)
        assert known.backend.name == "cpp"
        assert not caplog.records
        found, _ = other.raw_forecast(state)
        other.raw_forecast(state)
    assert other.backend.name == "reference"
    expected, _ = model(n_channels=12).set_backend("reference").raw_forecast(state)
    assert torch.equal(found, expected)
    (record,) = caplog.records
    assert "CXX = '/nowhere/g++': no such program" in record.message


@needs_compiler
@pytest.mark.parametrize("others", [0o770, 0o707])
def test_a_cache_that_others_can_write_is_not_used(fresh_cache, others, caplog):
    load(ANSWER)
    (path,) = fresh_cache.iterdir()
    fresh_cache.chmod(others)
    overwrite(path, b"evil")
    assert load(ANSWER).answer() == 42
    assert path.read_bytes() == b"evil"
    assert any("others can write to" in record.message for record in caplog.records)


@needs_compiler
@pytest.mark.parametrize("root", ["/dev/null", "file"])
def test_a_cache_that_cannot_be_made_is_done_without(root, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    root = tmp_path / "file" if root == "file" else Path(root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(root))
    assert load(ANSWER).answer() == 42


@pytest.fixture(params=["full", "read-only"])
def useless_cache(request, fresh_cache, monkeypatch, tmp_path):
    """Return the folder of a cache that is there but takes no kernels."""
    if request.param == "full":  # a linker fails as with a mistake in the source
        program = tmp_path / "on-a-full-disk"
        program.write_text(
            f"#!/bin/sh\ncase $* in *{fresh_cache}*) "
            "echo final link failed: No space left on device >&2; exit 1;; esac\n"
            f"exec {shlex.join(find_compiler())} $*\n"
        )
        program.chmod(0o700)
        monkeypatch.setenv("CXX", str(program))
        return fresh_cache
    make = tempfile.TemporaryDirectory

    def refuse(**where):
        if where["dir"] == fresh_cache:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(fresh_cache))
        return make(**where)

    monkeypatch.setattr(build.tempfile, "TemporaryDirectory", refuse)
    return fresh_cache


@needs_compiler
def test_a_cache_that_takes_nothing_is_done_without_and_told(useless_cache, caplog):
    for n in (42, 43):
        assert load(ANSWER.replace("42", str(n))).answer() == n
    assert not list(useless_cache.iterdir())
    (record,) = caplog.records
    assert record.message.startswith(
        f"compiled kernels are not kept in {useless_cache}: "
    )
    assert "No space left" in record.message or "Read-only" in record.message
    assert "set XDG_CACHE_HOME to a folder" in record.message


@pytest.mark.usefixtures("fresh_cache")
def test_what_fails_in_every_folder_is_told_once(monkeypatch):
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(CompilerError) as caught:
        load(ANSWER)
    assert str(caught.value).count("it made no file") == 1
    assert str(caught.value).count("XDG_CACHE_HOME") == 1


@needs_compiler
def test_no_folder_at_all_is_the_reference(monkeypatch, caplog):
    def full(**_):
        raise OSError("No space left on device")

    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    monkeypatch.setattr(cache.tempfile, "mkdtemp", full)
    cache._private_folder.cache_clear()
    model = small_model("thermal", torch.float32).set_backend("auto")
    assert model.backend.name == "reference"
    assert "no folder" in caplog.records[-1].message


OUTPUT = "$(echo $* | sed 's/.* -o //')"


@pytest.mark.parametrize(
    "script",
    [
        "exit 1",
        "exit 0",
        f"echo nonsense > {OUTPUT}",
        # Messages in another encoding than Python expects.
        "printf '\\351chec\\n' >&2; exit 1",
        # A library in which nothing is.
        f"c++ -shared -x c /dev/null -o {OUTPUT}",
        "exec sleep 60",
    ],
)
def test_automatic_choice_with_a_compiler_that_fails(
    script, fresh_cache, monkeypatch, tmp_path, caplog
):
    monkeypatch.chdir(tmp_path)  # asked for its version, it writes "--version"
    monkeypatch.setattr(build, "LONGEST_COMPILATION_S", 0.5)
    broken = tmp_path / "broken"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    broken.chmod(0o700)
    monkeypatch.setenv("CXX", str(broken))
    model = small_model("thermal", torch.float32).set_backend("auto")
    assert model.backend.name == "reference"
    (record,) = caplog.records
    assert "set the environment variable CXX" in record.message
    with pytest.raises(CompilerError, match="set the environment variable CXX"):
        model.set_backend("cpp")
    if "-shared" not in script:
        assert not list(fresh_cache.glob("*.so"))


@pytest.mark.usefixtures("fresh_cache")
def test_automatic_choice_with_a_command_that_is_none(monkeypatch, caplog):
    monkeypatch.setenv("CXX", "'g++")
    model = small_model("thermal", torch.float32).set_backend("auto")
    assert model.backend.name == "reference"
    (record,) = caplog.records
    assert 'CXX = "\'g++": No closing quotation' in record.message


@needs_compiler
@pytest.mark.usefixtures("fresh_cache")
@torch.no_grad()
def test_a_compiler_that_fails_later_is_the_reference(monkeypatch, tmp_path, caplog):
    """It makes the small program, but not the kernels: memory, disk or time are out."""
    program, done = tmp_path / "tired", tmp_path / "done"
    compiler = shlex.join(find_compiler())
    program.write_text(
        f"#!/bin/sh\ntest -e {done} && exit 1\n"
        f"test x$1 = x--version || touch {done}\n{compiler} $*\n"
    )
    program.chmod(0o700)
    monkeypatch.setenv("CXX", str(program))
    state = random_state(np.random.default_rng(3))

    def new_model():
        # Of a shape that no other test compiles: kernels stay for the process.
        return small_model("thermal", torch.float32, n_channels=20)

    model = new_model().set_backend("auto")
    strict = copy.deepcopy(model).set_backend("cpp")
    assert model.backend.name == "cpp"
    expected, _ = new_model().raw_forecast(state)
    found = [model.raw_forecast(state)[0] for _ in range(2)]
    assert all(torch.equal(one, expected) for one in found)
    (record,) = caplog.records
    assert "computing with the backend 'reference'" in record.message
    with pytest.raises(CompilerError, match="tired"):
        strict.raw_forecast(state)


ZIG = (sys.executable, "-m", "ziglang", "c++")


@pytest.fixture
def nothing_on_the_path(monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("nothing_on_the_path")
def test_the_compiler_from_pypi_is_the_last_resort(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "find_spec", lambda name: name)
    assert find_compiler() == ZIG
    monkeypatch.setenv("CXX", "nowhere")
    assert find_compiler() is None
    monkeypatch.delenv("CXX")
    (tmp_path / "g++").touch(mode=0o700)
    assert find_compiler() == (str(tmp_path / "g++"),)
    (tmp_path / "g++").unlink()
    monkeypatch.setattr(build, "find_spec", lambda _: None)
    assert find_compiler() is None


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_on_the_path")
@torch.no_grad()
def test_kernels_of_the_compiler_from_pypi(monkeypatch, tmp_path):
    pytest.importorskip("ziglang")
    # Where its C++ library is kept, which takes it a minute.
    kept = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(Path(kept) / "zig"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert find_compiler() == ZIG
    state = random_state(np.random.default_rng(3))
    model = small_model("thermal", torch.float32, surroundings_cutoff=6.0)
    expected = torch.cat(model.raw_forecast(state), dim=1)
    found = torch.cat(model.set_backend("cpp").raw_forecast(state), dim=1)
    assert relative_error(found, expected) < TOLERANCES[torch.float32]["twin"]
    assert any(cache_folder().iterdir())
