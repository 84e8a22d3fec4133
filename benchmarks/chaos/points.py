"""One point of the campaign: a fault during one kind of work, then what has to be there, then the work again."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import logging
import shutil
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.chaos import faults, world
from benchmarks.chaos.kill import Outcome, attempt
from benchmarks.chaos.steps import STEPS, Generation, Head, Step
from benchmarks.measure import ROOT, read_json, write_json
from ltg_core import curation, workflows
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace

log = logging.getLogger(__name__)
Row = dict[str, Any]
_TRIES = 6  # a child that ended before it was to be killed is tried again, killed sooner


class Campaign:
    """The workspace to begin with, what an unbroken run of each step makes, and the points.

    Args:
        work: A folder for everything.
        base: A workspace to begin with; None to make one.
    """

    def __init__(self, work: Path, base: Path | None) -> None:
        self.work = work
        torch.set_num_threads(1)  # a fork has one thread only, and waits for ever for the others of a pool
        work.mkdir(parents=True, exist_ok=True)
        self._lock = open(work / "lock", "w")  # noqa: SIM115  # held as long as this campaign lives
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"another campaign works in '{work}'; give another --work") from None
        self.base = base or world.base(work)
        world._data(work / "set")
        with Workspace(self.base) as ws:  # models are loaded once; forks have them
            workflows.active_classifier(ws)
            workflows.active_generator(ws)
            if not ws.count(Filter(verdict="accepted")):
                curation.set_verdict(ws, ws.query(Filter(split="train"), limit=12), "accepted")
            ws.database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        self._notes = work / f"whole-{code()}.json"
        known: dict[str, Any] = read_json(self._notes) or {}
        self._whole = {name: Outcome(**said) for name, said in known.items()}
        self._disks = faults.can_mount(work / "disk")

    def point(self, fault: str, number: int, seed: int, only: list[str] | None) -> Row | None:
        """One point; None where it does not belong to the steps that were asked for.

        Returns:
            ``step``, ``how`` (how the disturbed work ended), ``where`` and ``wrong``, a list of sentences.
        """
        steps = (
            [Generation, Head]
            if fault in ("memory", "broken file")
            else [Generation]
            if fault == "server"
            else list(STEPS)
        )
        step = steps[number % len(steps)](self.work)
        if only and step.name not in only:
            return None
        rng = np.random.default_rng([seed, number, *fault.encode()])
        place = self.work / "point"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        try:
            named = {"full disk": self._full, "read-only": self._read_only, "busy": self._busy}
            named |= {
                "kill": self._kill,
                "memory": self._memory,
                "broken file": self._broken,
                "clock": self._clock,
                "server": self._server,
            }
            return {"step": step.name, **named[fault](step, place, rng)}
        except Exception:  # a point that fails is a finding, not the end
            log.exception("the point %s %s broke", fault, number)
            return {"step": step.name, "how": "broke", "where": "", "wrong": [traceback.format_exc()[-1500:]]}

    # --- faults -----------------------------------------------------------------------------------

    def _kill(self, step: Step, place: Path, rng: np.random.Generator) -> Row:
        """Even numbers before a write, odd ones after a time."""
        whole, by_write = self.whole(step), bool(rng.random() < 0.6)
        at, after, ws = 0, 0.0, place / "ws"
        for turn in range(_TRIES):
            shutil.rmtree(place)
            self._begin(step, ws)
            at = int(rng.integers(1, whole.writes + 1)) if by_write else 0
            after = 0.0 if by_write else float(rng.uniform(0.01, whole.seconds)) * 0.7**turn
            out = attempt(lambda ack: step.work(ws, ack), at_write=at, after=after)
            if out.killed:
                break
        where = (
            f"before write {at} of {whole.writes}" if at else f"after {after:.2f} of {whole.seconds:.2f} s"
        )
        wrong = [] if out.killed else [f"it was not killed: {out.error}"]
        return {"how": "killed", "where": where, "wrong": wrong + self._afterwards(step, ws, out)}

    def _clock(self, step: Step, place: Path, rng: np.random.Generator) -> Row:
        self.whole(step)
        ws, seed = place / "ws", int(rng.integers(1 << 30))
        self._begin(step, ws)
        out = attempt(lambda ack: step.work(ws, ack), before=faults.stepping_clock(seed))
        wrong = [] if out.error is None else [f"{out.error}"]
        return {"how": "went on", "where": f"clock {seed}", "wrong": wrong + self._afterwards(step, ws, out)}

    def _memory(self, step: Step, place: Path, rng: np.random.Generator) -> Row:
        """With less memory than asked for; images that were made with fewer rows at once may differ in the last bits."""
        self.whole(step)
        ws, call = place / "ws", int(rng.integers(1, 120))
        self._begin(step, ws)
        out = attempt(lambda ack: step.work(ws, ack), before=faults.no_memory(call))
        wrong = [] if out.error is None or out.ours else [f"an error that is not for people: {out.error}"]
        how = "went on" if out.error is None else "ended in words"
        wrong += self._afterwards(step, ws, out, exactly=False)
        return {"how": how, "where": f"call {call}", "wrong": wrong}

    def _busy(self, step: Step, place: Path, rng: np.random.Generator) -> Row:
        """Another writer for two seconds, which is waited for, or for thirteen, which is said."""
        whole, ws = self.whole(step), place / "ws"
        hold, wait = (13.0 if rng.random() < 0.25 else 2.0), float(rng.uniform(0, whole.seconds))
        self._begin(step, ws)
        Workspace(ws).close()
        with faults.held_database(ws / "longtail.sqlite", wait, hold):
            out = attempt(lambda ack: step.work(ws, ack))
        wrong = []
        if out.error is not None and not (out.ours and hold > 10 and "another process" in out.error[1]):
            wrong.append(f"{out.error} after a hold of {hold} s")
        how = "waited" if out.error is None else "ended in words"
        where = f"held for {hold} s after {wait:.1f}"
        return {"how": how, "where": where, "wrong": wrong + self._afterwards(step, ws, out)}

    def _full(self, step: Step, place: Path, rng: np.random.Generator) -> Row:
        """A disk with room for a part of what the work writes."""
        if not self._disks:
            return {"how": "skipped: no right to mount", "where": "", "wrong": []}
        self.whole(step)
        disk = faults.Disk(place / "disk", 400)
        try:
            ws = disk.folder / "ws"
            self._begin(step, ws)
            start = disk.used()
            trial = attempt(lambda ack: step.work(ws, ack))
            needed = disk.used() - start
            for path in disk.folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            self._begin(step, ws)
            part = float(rng.uniform(0, 1.1)) * max(needed, 65_536)
            disk.resize((disk.used() + part) / 2**20)
            out = attempt(lambda ack: step.work(ws, ack))
            wrong = [] if trial.error is None else [f"with room: {trial.error}"]
            if out.error is not None and not (out.ours and "full" in out.error[1]):
                wrong.append(f"not in words: {out.error}")
            disk.resize(400)
            wrong += self._afterwards(step, ws, out)
            how = "ended in words" if out.error else "there was room"
            return {"how": how, "where": f"{part / 2**20:.2f} of {needed / 2**20:.2f} MB", "wrong": wrong}
        finally:
            disk.close()

    def _read_only(self, step: Step, place: Path, rng: np.random.Generator) -> Row:
        if not self._disks:
            return {"how": "skipped: no right to mount", "where": "", "wrong": []}
        self.whole(step)
        disk = faults.Disk(place / "disk", 400)
        try:
            ws = disk.folder / "ws"
            self._begin(step, ws)
            Workspace(ws).close()
            disk.read_only(True)
            out = attempt(lambda ack: step.work(ws, ack))
            disk.read_only(False)
            wrong = [] if out.error is not None and out.ours else [f"not refused in words: {out.error}"]
            how = f"refused in words: {out.error[1][:60] if out.error else ''}".replace(str(place), "")
            return {
                "how": how.split("'")[0].strip(),
                "where": "",
                "wrong": wrong + self._afterwards(step, ws, out),
            }
        finally:
            disk.close()

    def _broken(self, step: Step, place: Path, rng: np.random.Generator) -> Row:
        """A damaged weight file: it is said; what it would have given is not written down."""
        whole, ws = self.whole(step), place / "ws"
        self._begin(step, ws)
        kind = faults.DAMAGES[int(rng.integers(len(faults.DAMAGES)))]
        with Workspace(ws) as opened:
            classifier = workflows.active_classifier(opened).hash
            generator = Path(opened.get_state("generator")["path"])
        own = place / "generator"
        shutil.copytree(generator, own)
        files = [f"models/{classifier}/classifier.safetensors"]
        if isinstance(step, Generation):
            files += [f"arrays/reference-{classifier}.safetensors"]
            files += [path.relative_to(own).as_posix() for path in sorted(own.rglob("*.safetensors"))]
        chosen = files[int(rng.integers(len(files)))]
        with Workspace(ws) as opened:
            opened.put_state("generator", {**opened.get_state("generator"), "path": str(own)})
        file = ws / chosen if (ws / chosen).exists() else own / chosen
        good = file.read_bytes()
        faults.damage(file, kind, rng)
        out = attempt(lambda ack: step.work(ws, ack))
        wrong = []
        if out.error is None and out.result != whole.result:
            wrong.append("nothing was said, and the result is another")
        if out.error is not None and not out.ours:
            wrong.append(f"not in words: {out.error}")
        file.write_bytes(good)
        how = "ended in words" if out.error else "made no difference"
        return {"how": how, "where": f"{kind} {chosen}", "wrong": wrong + self._afterwards(step, ws, out)}

    def _server(self, step: Step, place: Path, rng: np.random.Generator) -> Row:
        """The real server and its workers."""
        from benchmarks.chaos import server

        whole, ws = self.whole(step), place / "ws"
        self._begin(step, ws)
        row = server.point(ws, rng)
        if row.pop("made") != whole.result:
            row["wrong"].append("taken up by the next server it came to something else")
        looked = attempt(lambda ack: sound(ws, step, [], whole.result))
        row["wrong"] += looked.result if looked.error is None else [f"it cannot be looked at: {looked.error}"]
        return row

    # --- what has to be there -----------------------------------------------------------------------

    def whole(self, step: Step) -> Outcome:
        """An unbroken run: its result, writes and time."""
        if step.name not in self._whole:
            place = self.work / "whole"
            for _ in range(2):  # the first one warms the caches of the disk
                shutil.rmtree(place, ignore_errors=True)
                self._begin(step, place / "ws")
                found = attempt(lambda ack: step.work(place / "ws", ack))
                if found.error is not None or found.result is None:
                    raise RuntimeError(f"an unbroken {step.name} failed: {found.error}")
            self._whole[step.name] = found
            write_json(self._notes, {name: dataclasses.asdict(one) for name, one in self._whole.items()})
        return self._whole[step.name]

    def _begin(self, step: Step, place: Path) -> None:
        if step.empty:
            place.mkdir(parents=True)
        else:
            world.copy(self.base, place)

    def _afterwards(self, step: Step, place: Path, out: Outcome, exactly: bool = True) -> list[str]:
        """Everything that must hold after a fault, and after the work was taken up again."""
        reference = self.whole(step).result
        wrong = [f"{out.orphans} processes were left"] if out.orphans else []
        wrong += ["it hung"] if out.hung else []
        looked = attempt(lambda ack: sound(place, step, out.acks, reference))
        wrong += looked.result if looked.error is None else [f"it cannot be looked at: {looked.error}"]
        again = attempt(lambda ack: step.again(place, ack))
        if again.hung:
            wrong.append("the work hung when it was taken up")
        if again.error is not None:
            wrong.append(f"the work cannot be taken up: {again.error}")
        elif exactly and not step.same(again.result, out.acks, reference):
            wrong.append("taken up again it came to something else")
        looked = attempt(lambda ack: sound(place, step, [*out.acks, *again.acks], reference))
        wrong += (
            looked.result if looked.error is None else [f"it cannot be looked at at the end: {looked.error}"]
        )
        return wrong


def code() -> str:
    """Changes with the code of the package: what an unbroken run makes belongs to it."""
    summed = hashlib.sha256()
    for path in sorted((ROOT / "ltg_core").rglob("*.py")) + sorted(Path(__file__).parent.glob("*.py")):
        summed.update(path.read_bytes())
    return summed.hexdigest()[:12]


def sound(place: Path, step: Step, acks: list[Any], reference: Any) -> list[str]:
    """What is wrong with a workspace that somebody opens after a fault."""
    wrong = []
    with Workspace(place) as ws:
        database = ws.database
        if (said := database.rows("PRAGMA integrity_check")[0][0]) != "ok":
            wrong.append(f"the database: {said}")
        if database.rows("PRAGMA foreign_key_check"):
            wrong.append("rows that belong to nothing")
        with database.write() as connection:
            connection.execute("INSERT INTO words (words) VALUES ('integrity-check')")
        if [run.id for run in ws.runs() if run.state == "running"]:
            wrong.append("a run of a dead process counts as running")
        for id in ws.query():
            ws.image(id).load()
            if not ws.thumb_path(id).stat().st_size:
                wrong.append(f"an empty thumbnail of {id}")
        wrong += [f"left behind: {path.name}" for path in (ws.path / "tmp").iterdir()]
        wrong += step.kept(ws, acks, reference)
    return wrong
