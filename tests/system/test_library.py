"""The library on a real PostgreSQL: what was put in comes back byte for byte, once, and a change is noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import sqlalchemy
from live_servers import Servers
from sqlalchemy import text

from config import recipe
from config.errors import InputError, StoreError
from config.recipe import Recipe, ViewRecipe, Zone
from decision.rules import Rules
from inference.bundle import Bundle
from inference.keys import TrustStore
from storage import audit
from storage.library import BundleFile, Library


@pytest.fixture
def database(servers: Servers) -> Iterator[str]:
    url = servers.database()
    yield url
    servers.drop(url)


@pytest.fixture
def run_sql(database: str) -> Iterator[Callable[[str], list[tuple[object, ...]]]]:
    engine = sqlalchemy.create_engine(database)

    def run(statement: str) -> list[tuple[object, ...]]:
        with engine.begin() as connection:
            found = connection.execute(text(statement))
            return [tuple(row) for row in found] if found.returns_rows else []

    yield run
    engine.dispose()


def made(folder: Path, **changes: object) -> Recipe:
    roi = np.zeros((40, 50), np.uint8)
    roi[10:20, 10:30] = 255
    cv2.imwrite(str(folder / "roi.png"), roi)
    roi[12:15, 15:25] = 0
    cv2.imwrite(str(folder / "rim.png"), roi)
    view = ViewRecipe(
        bundle=folder / "b.andon",
        bundle_digest="sha256:b",
        review_above=0.1,
        reject_above=0.2,
        roi=folder / "roi.png",
        zones=(Zone(name="rim", mask=folder / "rim.png", reject_above=0.15),),
    )
    return Recipe.model_validate({"product": "cap", "job": 1, "views": {"front": view}, **changes})


def test_a_recipe_comes_back_as_it_was_with_its_pictures_also_without_the_files(database, tmp_path):
    wanted = made(tmp_path, keep={"PASS": {"pixels": "exact", "every_parts": 7}})
    digest = recipe.digest(recipe.content(wanted))
    cells = Rules.load(wanted).zones["front"].cells((8, 10), (40, 50))
    Library(database, tmp_path / "home").register("tester", {"cap": wanted}, {})
    for picture in tmp_path.glob("*.png"):
        picture.unlink()
    found = Library(database, tmp_path / "elsewhere").recipe(digest)
    rules = Rules.load(found)
    assert rules.digest == digest
    again = rules.zones["front"].cells((8, 10), (40, 50))
    assert np.array_equal(again.inspected, cells.inspected)
    assert np.array_equal(again.limits, cells.limits)
    assert found.model_copy(update={"views": wanted.views}) == wanted
    assert rules.recipe.views["front"].limits() == wanted.views["front"].limits()


def test_a_bundle_comes_back_byte_for_byte_and_is_verified_where_it_is_opened(
    database: str, tmp_path: Path, write_brightness: Callable[..., Path], trust: TrustStore
) -> None:
    path = write_brightness()
    digest = Bundle.open(path, trust).digest
    library = Library(database, tmp_path / "home")
    library.register("tester", {}, {digest: BundleFile("brightness", path)})
    found = library.bundle(digest)
    assert found.read_bytes() == path.read_bytes()
    assert Bundle.open(found, trust).digest == digest
    found.write_bytes(b"damaged")
    assert library.bundle(digest).read_bytes() == path.read_bytes(), "a damaged copy does not stay"


def test_registering_again_changes_nothing_and_other_contents_of_a_version_are_told_once(database, run_sql, tmp_path):
    (tmp_path / "home").mkdir()
    library = Library(database, tmp_path / "home")
    one, other = made(tmp_path), made(tmp_path, deadline_ms=100)
    assert library.register("tester", {"cap": one}, {}) == []
    assert library.register("tester", {"cap": one}, {}) == []
    (warning,) = library.register("tester", {"cap": other}, {})
    assert "'cap' version 1 has had other contents (1)" in warning
    assert library.register("tester", {"cap": other}, {}) == []
    assert library.register("tester", {"cap": made(tmp_path, version=2)}, {}) == []
    assert run_sql("SELECT version, count(*) FROM recipe GROUP BY 1 ORDER BY 1") == [(1, 2), (2, 1)]
    actions = run_sql("SELECT who, action, subject FROM audit ORDER BY number")
    assert actions == [("tester", "recipe.registered", "cap")] * 3
    with sqlalchemy.create_engine(database).connect() as connection:
        assert audit.Anchor(tmp_path / "home").read() == audit.head(connection)


def test_stations_that_start_at_once_put_each_thing_in_once(database, run_sql, tmp_path, write_brightness):
    bundles = {"sha256:x": BundleFile("brightness", write_brightness())}
    wanted = {"cap": made(tmp_path), "lid": made(tmp_path, job=2)}
    libraries = [Library(database, tmp_path / f"home{number}") for number in range(6)]
    with ThreadPoolExecutor(6) as together:
        told = list(together.map(lambda library: library.register("tester", wanted, bundles), libraries))
    assert told == [[]] * 6
    assert run_sql("SELECT (SELECT count(*) FROM recipe), (SELECT count(*) FROM bundle)") == [(2, 1)]
    assert run_sql("SELECT count(*), max(number) FROM audit") == [(3, 3)]


def test_what_is_not_there_or_was_changed_is_told(database, run_sql, tmp_path):
    library = Library(database, tmp_path / "home")
    with pytest.raises(InputError, match="recipe sha256:none: is not in the library"):
        library.recipe("sha256:none")
    with pytest.raises(InputError, match="bundle sha256:none: is not in the library"):
        library.bundle("sha256:none")
    wanted = made(tmp_path)
    library.register("tester", {"cap": wanted}, {})
    run_sql("UPDATE recipe SET content = replace(content, '0.1', '0.9')")
    with pytest.raises(StoreError, match="it was changed"):
        library.recipe(recipe.digest(recipe.content(wanted)))
    with pytest.raises(StoreError, match="PostgreSQL"):
        Library("postgresql+psycopg://nobody@127.0.0.1:1/none", tmp_path).recipe("sha256:none")
