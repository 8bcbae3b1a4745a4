"""A PostgreSQL server of the tests' own, made from the installed binaries."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from ports import free_ports

_USERS = ("postgres", "nobody")
_READY_WITHIN_S = 90


class PostgresServer:
    """A cluster in a folder of its own that listens on 127.0.0.1; nothing of it is left after `remove`."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        # Not below pytest's folder, which other users may not enter.
        self._folder = Path(tempfile.mkdtemp(prefix="maniac-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        (self.port,) = free_ports(1)
        self._own()
        self._run("initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync")

    @staticmethod
    def binaries() -> Path | None:
        """Return where the newest installed server is, if there is one."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
        on_path = shutil.which("initdb")
        if found:
            return found[-1].parent
        return Path(on_path).resolve().parent if on_path else None

    @property
    def url(self) -> str:
        """The address, without a database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._process = subprocess.Popen(
            self._command("postgres", "-p", str(self.port), "-k", "", "-c", "fsync=off"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _READY_WITHIN_S
        ready = [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            assert time.monotonic() < deadline, "PostgreSQL does not start"
            time.sleep(0.05)  # There is no event across processes to wait for.

    def stop(self) -> None:
        """Stop at once, as a crash would."""
        if self._process is not None:
            postmaster = self._folder / "data" / "postmaster.pid"
            os.kill(int(postmaster.read_text().split()[0]), signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """Stop, and remove everything."""
        self.stop()
        shutil.rmtree(self._folder)

    def _own(self) -> None:
        """Give the folder to the user that the server runs as: it refuses to run as root."""
        self._user: str | None = None
        if os.geteuid() == 0:
            known = {entry.pw_name for entry in pwd.getpwall()}
            self._user = next(user for user in _USERS if user in known)
            shutil.chown(self._folder, self._user)

    def _command(self, program: str, *options: str) -> list[str]:
        command = [str(self._binaries / program), "-D", str(self._folder / "data"), *options]
        return ["runuser", "-u", self._user, "--", *command] if self._user else command

    def _run(self, program: str, *options: str) -> None:
        subprocess.run(self._command(program, *options), check=True, capture_output=True)


def _version(initdb: Path) -> float:
    return float(initdb.parent.parent.name)
