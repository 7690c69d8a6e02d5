"""Ctrl-C and SIGTERM in whatever a command is doing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kd_lightning.machine import stopping

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
LISTENING = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from kd_lightning.machine import stopping
"""


def python(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program that imports nothing heavy, as if it had been started in a terminal."""
    return subprocess.run([sys.executable, "-c", LISTENING + program], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)
def test_a_signal_ends_a_command_with_one_sentence_and_the_status_that_shells_expect(
    number: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / ".work").mkdir()
    program = f"""
from pathlib import Path
with stopping.stoppable():
    stopping.unfinished.add(Path({str(tmp_path / ".work")!r}))
    stopping.set_resume_hint(lambda: "all of it is kept.")
    print("printed before")
    try:
        signal.raise_signal({int(number)})
    except BaseException:
        print("an exception")  # which could come out in the middle of a library's C++ code
"""
    done = python(program)
    assert (done.returncode, done.stdout) == (STATUS[number], "printed before\n")
    assert done.stderr == f"Stopped by {stopping.NAMES[number]}; all of it is kept.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("array", "job"), [({}, "12"), ({"SLURM_ARRAY_JOB_ID": "10", "SLURM_ARRAY_TASK_ID": "2"}, "10_2")]
)
def test_slurms_signal_ends_a_command_and_runs_its_job_again(
    array: dict[str, str], job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho $* >{tmp_path}/asked\n")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    program = """
with stopping.stoppable():
    stopping.set_resume_hint(lambda: "all of it is kept.")
    signal.raise_signal(signal.SIGUSR1)
"""
    assert python(program).returncode == -signal.SIGUSR1  # outside of SLURM nobody sends it
    for name, value in {"SLURM_JOB_ID": "12", **array}.items():
        monkeypatch.setenv(name, value)
    done = python(program)
    assert done.returncode == 128 + signal.SIGUSR1
    assert done.stderr == f"Stopped by SLURM, which runs job {job} again: it goes on from what is saved.\n"
    assert (tmp_path / "asked").read_text() == f"requeue {job}\n"
    (tmp_path / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    assert python(program).stderr == "Stopped by SLURM; all of it is kept.\n"


def test_forks_are_stopped_silently_without_their_parent_and_ignored_signals_stay_ignored() -> None:
    program = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
with stopping.stoppable():
    signal.raise_signal(signal.SIGINT)
    for _ in range(2):
        if (child := os.fork()) == 0:
            signal.raise_signal(signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    time.sleep(2 * stopping.HANDLER_SECONDS)
    print("goes on")
"""
    done = python(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "143\n143\ngoes on\n", "")


@pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)
def test_a_second_signal_ends_a_command_whose_main_thread_never_returns_from_c_code(
    number: signal.Signals,
) -> None:
    program = """
import hashlib, threading
with stopping.stoppable():
    threading.Timer(0.5, print, ["in C"], {"flush": True}).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # an hour, without the interpreter's lock
"""
    command = [sys.executable, "-c", LISTENING + program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(number)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(2 * stopping.HANDLER_SECONDS)  # the first one waits for the handler
            process.send_signal(number)
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == STATUS[number]
    assert errors == f"Stopped by {stopping.NAMES[number]}; {stopping.AGAIN}\n"


def test_a_process_that_a_command_has_started_beside_it_ends_with_it() -> None:
    follower = f"{LISTENING}\nwith stopping.stoppable():\n    print(os.getpid(), flush=True)\n    time.sleep(60)"
    program = f"""
with stopping.stoppable():
    process = subprocess.Popen([sys.executable, "-c", {follower!r}], stdout=subprocess.PIPE)
    print(int(process.stdout.readline()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = python(program)
    assert done.returncode == -signal.SIGKILL
    while _runs(int(done.stdout)):
        time.sleep(0.02)


def _runs(process: int) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    status = Path(f"/proc/{process}/status")
    if Path("/proc").is_dir():
        return status.exists() and "State:\tZ" not in status.read_text()
    return subprocess.run(["ps", "-p", str(process)], capture_output=True, check=False).returncode == 0


def test_a_program_that_imports_the_package_keeps_its_own_handlers() -> None:
    done = python(
        "before = signal.getsignal(signal.SIGTERM)\nwith stopping.stoppable():\n    pass\n"
        "print(before is signal.getsignal(signal.SIGTERM), stopping.MAIN in os.environ)"
    )
    assert done.stdout == "True False\n"


def test_ctrl_c_while_libraries_are_imported_ends_in_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "kd_lightning", "fit", "--config=student.yaml"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    while "torch._C" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    with process.stderr:
        errors = [line for line in process.stderr if not line.startswith("import time:")]
    assert process.wait(60) == 130
    assert errors == [f"Stopped by Ctrl-C; {stopping.AGAIN}\n"]
