"""Whatever is edited, triggered and judged in whatever order, a verdict names what was in force when its part came."""

import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from config import recipe
from config.errors import ConfigurationError
from config.messages import Trigger
from config.recipe import content, digest
from config.station import CameraSection, PlcSection, Station
from config.versions import Versions
from decision.deadlines import Docket
from decision.recipefiles import Adoption, RecipeFiles, Refused, Taken
from decision.recipes import Recipes
from decision.rules import Rules, judge

VIEW = '[views.front]\nbundle = "bundle"\nreview_above = 1.0\nreject_above = '


class EditedLine(RuleBasedStateMachine):
    """A file that is edited, the thread's work done by hand, and the docket; the model knows what may be in force."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="andon-versions-"))
        (self.folder / "bundle").touch()
        self.file = self.folder / "cap.toml"
        self.write(1, 2.0)
        self.station = Station(
            station="s",
            recipes={"cap": self.file},
            recipe="cap",
            cameras=(CameraSection(name="front", type="simulated"),),
            plc=PlcSection(type="modbus"),
        )
        self.docket = Docket()
        self.now_ns = 0
        self.parts = 0
        self.expected = {}  # part -> (version, digest)
        self.known = {}  # digest -> version, of the model
        self.passed_over = None  # digest of what the file says, where a person put something else in force
        self.run = 1
        self.start()
        self.known[self.now()[1]] = 1

    def start(self):
        """Begin a process of the same run."""
        self.versions = Versions(self.folder / "versions")
        rules = {name: Rules.load(one) for name, one in self.versions.begin(f"r{self.run}", self.station).items()}
        self.recipes = Recipes(rules, "cap", Counter(), epoch=1)
        self.files = RecipeFiles(self.station.recipes, self.versions, rules)

    def now(self):
        return self.recipes.find("cap").version, self.recipes.rules("cap").digest

    def write(self, version, reject_above, cut=None):
        text = f'product = "cap"\njob = 1\nversion = {version}\n{VIEW}{reject_above}\n'
        self.file.write_text(text[:cut])

    @rule(step=st.integers(-3, 2), reject_above=st.sampled_from([0.5, 2.0, 3.0]))
    def edit(self, step, reject_above):
        self.write(max(0, max(self.known.values()) + step), reject_above)

    @rule()
    def raise_version(self):
        """Raise it while a part is under way."""
        self.trigger(1)
        wanted = max(self.known.values()) + 1
        self.write(wanted, 2.0)
        self.look()
        assert self.now()[0] == wanted

    @rule(cut=st.integers(0, 60))
    def write_half(self, cut):
        self.write(7, 2.0, cut)

    @rule()
    def another_job(self):
        self.file.write_text(f'product = "cap"\njob = 2\nversion = 9\n{VIEW}2.0\n')

    @rule()
    def look(self):
        """Do what the thread does once the file has stood still, and take what it has for the loop."""
        before = self.now()
        file = self.files._files["cap"]  # its thread's part, without waiting
        file.looked_at, file.since_ns, file.stamp = None, 0, ()
        for _ in range(2):  # once to see it, once because it stands still
            self.files._look("cap", file, time.monotonic_ns() + 10**10)
            file.since_ns = 0
        for news in self.files.news():
            if isinstance(news, Taken):
                self.recipes.take(news.name, news.rules)
            elif isinstance(news, Refused):
                self.recipes.refuse(news.name, news.why)
        version, named = self.now()
        if (version, named) != before:
            assert named in self.known or version > max(self.known.values())
            self.known.setdefault(named, version)
            assert self.known[named] == version
            self.passed_over = None
        text = self.file.read_text()
        valid = text.endswith("\n") and "job = 1\n" in text and "version = 0" not in text and "= 0.5" not in text
        if not valid:
            assert (version, named) == before
            assert "cap.toml" in self.recipes.refused["cap"]
        elif not self.recipes.refused:
            assert f"version = {version}\n" in text or self.said() == self.passed_over

    def said(self):
        """Return the digest of what the file says, None where it is no recipe."""
        try:
            return digest(content(recipe.read(self.file)))
        except ConfigurationError:
            return None

    @rule(reject_above=st.sampled_from([0.5, 2.0, 3.0, 7.0]), late=st.booleans())
    def adopt(self, reject_above, late):
        """Let a person put another version in force, perhaps too late."""
        before = self.now()
        wanted = content(self.recipes.find("cap")).replace(
            f'"reject_above":{self.recipes.find("cap").views["front"].reject_above}', f'"reject_above":{reject_above}'
        )
        based_on = "sha256:of yesterday" if late else before[1]
        may = not late and reject_above >= 1.0 and self.said() in {before[1], self.passed_over} - {None}
        try:
            rules = self.files._adopt(Adoption("cap", wanted.encode(), based_on, "Ada", b""))
        except ConfigurationError:
            assert not may
            return
        assert may
        self.recipes.take("cap", rules)
        version, named = self.now()
        if named not in self.known:
            assert version == max(self.known.values()) + 1
        assert self.known.setdefault(named, version) == version
        self.passed_over = self.said()

    @rule()
    def start_again(self):
        """Stop the station and start it: the file counts again if it says something else than it did."""
        said, before = self.said(), self.now()
        if said is None or "job = 2" in self.file.read_text():
            return
        self.run += 1
        self.start()
        if said == self.passed_over:
            assert self.now() == before
        else:
            assert self.now()[1] == said
            self.known[said] = self.now()[0]
            self.passed_over = None
        self.docket, self.expected = Docket(), {}

    @rule()
    def kill(self):
        before = self.now()
        self.start()
        assert self.now() == before
        self.docket, self.expected = Docket(), {}

    @rule(count=st.integers(1, 3))
    def trigger(self, count):
        for _ in range(count):
            self.parts += 1
            self.now_ns += 1
            part = Trigger(
                part_id=f"p{self.parts}",
                sequence=self.parts,
                station="s",
                camera="front",
                views=("front",),
                recipe="cap",
                trigger_ns=self.now_ns,
                trigger_time_ns=0,
                deadline_ns=self.now_ns + 4,
            )
            self.docket.trigger(part, self.recipes.rules(part.recipe))
            self.expected[part.part_id] = self.now()

    @rule(by=st.sampled_from([20, 3, 1]))
    def judge_due(self, by):
        self.now_ns += by
        for part in self.docket.due(self.now_ns):
            verdict, _ = judge(part, part.rules, "1", self.now_ns)
            assert (verdict.recipe_version, verdict.recipe_digest) == self.expected.pop(verdict.part_id)

    @invariant()
    def what_is_in_force_is_kept_whole(self):
        version, named = self.now()
        kept = self.versions.recipe(named)
        assert (kept.version, digest(content(kept))) == (version, named)
        assert self.versions.known("cap") == self.known

    def teardown(self):
        shutil.rmtree(self.folder)


TestVersions = EditedLine.TestCase
TestVersions.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
