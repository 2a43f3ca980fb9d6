"""Opening a store: one process at a time, and an answer that helps when it cannot be."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from contest_runner.store import Store, StoreError, StoreLocked, StoreTooNew, schema

LOG = logging.getLogger("test")

HOLDER = """
import asyncio, logging, sys
from pathlib import Path
from contest_runner.store import Store

async def hold() -> None:
    await Store.open("sqlite:///s.db", directory=Path(sys.argv[1]), log=logging.getLogger())
    sys.stdout.write("open\\n")
    sys.stdout.flush()
    await asyncio.Event().wait()

asyncio.run(hold())
"""


async def opened(directory: Path, url: str = "sqlite:///s.db") -> Store:
    return await Store.open(url, directory=directory, log=LOG)


async def test_a_second_process_gets_the_name_of_the_first_and_its_turn_when_that_is_killed(
    tmp_path: Path,
) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"open\n"
            with pytest.raises(StoreLocked) as caught:
                await opened(tmp_path)
            assert caught.value.pid == holder.pid
            assert str(tmp_path / "s.db") in str(caught.value)
            assert str(holder.pid) in str(caught.value)
        finally:
            holder.kill()
    store = await opened(tmp_path)
    await store.aclose()


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody can write, for root a file system of its own."""
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o555)
    mounted = False
    if os.access(folder, os.W_OK):
        command = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(folder)]
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        if not mounted:
            pytest.skip("root may write everywhere, and mount nothing here")
    yield folder
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", ["s.db", "deeper/down/s.db"])
async def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(read_only: Path, name: str) -> None:
    with pytest.raises(StoreError) as caught:
        await opened(read_only, f"sqlite:///{name}")
    assert re.fullmatch(
        rf"the folder {read_only} cannot be written \(.*\), and the store {read_only}/{name} needs several files "
        "there: let this user write it, or name a store elsewhere",
        str(caught.value),
    )


async def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        StoreError, match=rf"{tmp_path}/file is no folder, so the store {tmp_path}/file/s.db "
    ):
        await opened(tmp_path, "sqlite:///file/s.db")


async def test_a_second_store_in_one_process_is_refused_by_any_path(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    (tmp_path / "link.db").symlink_to("s.db")
    for url in ("sqlite:///s.db", f"sqlite:///{tmp_path}/s.db", "sqlite:///link.db"):
        with pytest.raises(StoreLocked):
            await opened(tmp_path, url)
    await store.aclose()


async def test_a_child_that_lives_on_does_not_hold_the_store(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as child:
        await store.aclose()
        again = await opened(tmp_path)
        assert child.poll() is None
        await again.aclose()
        assert child.stdin is not None
        child.stdin.close()


async def test_a_relative_path_is_relative_to_the_directory_and_directories_are_made(tmp_path: Path) -> None:
    store = await opened(tmp_path / "etc", "sqlite:///var/lib/s.db")
    await store.aclose()
    assert (tmp_path / "etc/var/lib/s.db").is_file()
    store = await opened(tmp_path / "etc", f"sqlite:///{tmp_path}/other.db")
    await store.aclose()
    assert (tmp_path / "other.db").is_file()


async def test_id_and_incarnation_are_the_files_own(tmp_path: Path) -> None:
    seen = set()
    for url in ("sqlite:///s.db", "sqlite:///s.db", "sqlite:///other.db"):
        store = await opened(tmp_path, url)
        seen.add((store.id, store.incarnation))
        await store.aclose()
    assert len(seen) == 2


async def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.aclose()
    with closing(sqlite3.connect(tmp_path / "s.db")) as shell:
        shell.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreTooNew, match="99"):
        await opened(tmp_path)
    with closing(sqlite3.connect(tmp_path / "s.db")) as shell:
        assert shell.execute("PRAGMA user_version").fetchone() == (99,)
        shell.execute(f"PRAGMA user_version = {schema.VERSION}")
    store = await opened(tmp_path)
    await store.aclose()


async def test_migrations_run_forward_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await opened(tmp_path)
    await store.aclose()
    monkeypatch.setattr(schema, "VERSION", 3)
    monkeypatch.setattr(
        schema,
        "MIGRATIONS",
        [
            ["ALTER TABLE jobs ADD COLUMN queue TEXT"],
            ["UPDATE jobs SET queue = 'q'", "CREATE TABLE more (a)"],
        ],
    )
    for _ in range(2):
        store = await opened(tmp_path)
        await store.aclose()
    with closing(sqlite3.connect(tmp_path / "s.db")) as shell:
        assert shell.execute("PRAGMA user_version").fetchone() == (3,)
        assert shell.execute("SELECT count(*) FROM more").fetchone() == (0,)


async def test_a_migration_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(tmp_path)
    await store.aclose()
    with monkeypatch.context() as patched:
        patched.setattr(schema, "VERSION", 2)
        patched.setattr(schema, "MIGRATIONS", [["CREATE TABLE more (a)", "CREATE TABLE more (a)"]])
        with pytest.raises(StoreError, match="more already exists"):
            await opened(tmp_path)
    store = await opened(tmp_path)
    await store.aclose()


async def test_what_is_no_database_is_named_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("these are my notes, and they are longer than the header of a database file " * 20)
    before = text.read_bytes()
    with pytest.raises(StoreError, match=r"notes\.txt is no SQLite database"):
        await opened(tmp_path, "sqlite:///notes.txt")
    assert text.read_bytes() == before


async def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "s.db")) as shell:
        shell.execute("CREATE TABLE customers (name)")
    with pytest.raises(StoreError, match="another program's database"):
        await opened(tmp_path)
    with closing(sqlite3.connect(tmp_path / "s.db")) as shell:
        assert shell.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)


async def test_a_path_that_cannot_be_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/s\.db"):
        await opened(tmp_path, "sqlite:///file/s.db")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="folder"):
        await opened(tmp_path, "sqlite:///folder")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("contest.db", "sqlite:///contest.db"),
        ("postgresql://ann:secret@db/contest", "no store of the kind 'postgresql'"),
        ("sqlite://host/s.db", "sqlite:///PATH"),
        ("sqlite:///s.db?mode=ro", "sqlite:///PATH"),
    ],
)
async def test_an_address_that_means_nothing_is_explained_without_its_secrets(
    tmp_path: Path, url: str, words: str
) -> None:
    with pytest.raises(StoreError) as caught:
        await opened(tmp_path, url)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_an_unknown_durability_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="full, normal, off"):
        await Store.open("sqlite:///s.db", directory=tmp_path, log=LOG, synchronous="most")


@pytest.mark.parametrize(("setting", "number"), [("full", 2), ("normal", 1), ("off", 0)])
async def test_durability_is_what_was_asked_for(tmp_path: Path, setting: str, number: int) -> None:
    store = await Store.open("sqlite:///s.db", directory=tmp_path, log=LOG, synchronous=setting)
    statement = "SELECT synchronous, journal_mode FROM pragma_synchronous, pragma_journal_mode"
    pragmas = await store.write(lambda connection: tuple(connection.exec_driver_sql(statement).one()))
    await store.aclose()
    assert pragmas == (number, "wal")


async def test_a_failed_opening_leaves_the_file_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(schema, "create", lambda connection: connection.exec_driver_sql("NONSENSE"))
        with pytest.raises(StoreError, match="syntax"):
            await opened(tmp_path)
    store = await opened(tmp_path)
    await store.aclose()


async def test_a_private_store_leaves_nothing_even_while_it_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = await opened(tmp_path, "sqlite://")
    assert list(tmp_path.iterdir()) == []
    for number in range(20_000):
        store.append(1, number, 1, "boot", "test", 0, "on", "board", "TargetIn", 17, None, 3)
    await store.committed()
    assert len(await store.events(limit=100_000)) == 20_000
    await store.aclose()
    assert list(tmp_path.iterdir()) == []


async def test_the_tables_can_be_read_with_plain_sql(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    store.append(1, 1, 1, "boot", "test", 0, "on", "board", "TargetIn", 17, '{"a": 1}', 3)
    await store.committed()
    with closing(sqlite3.connect(f"file:{tmp_path}/s.db?mode=ro", uri=True)) as shell:
        row = shell.execute("SELECT target, name, time, payload ->> 'a' FROM events").fetchone()
    await store.aclose()
    assert row == ("board", "TargetIn", 17, 1)
