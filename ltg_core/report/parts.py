"""What a report consists of: plain values, ready to be written."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Picture:
    """One image of a case.

    Attributes:
        url: ``data:image/…``, as ``data_url`` makes it.
        name: What it is: "real", "unguided", "guided", "attribution".
        text: What the classifier says of it.
        wrong: Whether that is wrong; None where it cannot be said.
    """

    url: str
    name: str
    text: str = ""
    wrong: bool | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    """One example.

    Attributes:
        title: Its class.
        text: What happened, in one or two sentences.
        note: What a person wrote about it.
        pictures: In the order in which they are shown.
        facts: Names and values.
    """

    title: str
    text: str
    note: str
    pictures: tuple[Picture, ...]
    facts: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Measure:
    """A share with its 95 % interval.

    Attributes:
        name: Of what.
        part: Right answers.
        whole: Of so many.
        low: Lower end.
        high: Upper end.
        weak: Whether this is the weakness.
    """

    name: str
    part: int
    whole: int
    low: float
    high: float
    weak: bool = False


@dataclasses.dataclass(frozen=True)
class Scatter:
    """The map: one point a sample.

    Attributes:
        points: (x, y, kind); kind is "right", "wrong" or "made".
        marks: (number of the case, x, y).
        note: How it was drawn, and what was left out.
    """

    points: tuple[tuple[float, float, str], ...]
    marks: tuple[tuple[int, float, float], ...]
    note: str


@dataclasses.dataclass(frozen=True)
class Step:
    """One figure before and after; shares.

    Attributes:
        name: Of what.
        before: Before.
        after: After.
        low: Lower end of the 95 % interval of the change, None for none.
        high: Upper end.
        images: Behind it, None for all.
        worse: Whether the change is for the worse.
        certain: Whether the interval leaves out 0.
    """

    name: str
    before: float
    after: float
    low: float | None
    high: float | None
    images: int | None
    worse: bool
    certain: bool


@dataclasses.dataclass(frozen=True)
class Change:
    """Before and after.

    Attributes:
        about: What is compared, on what.
        worse: What became worse.
        more: How much more of that there is.
        overall: The figures of all images and of the parts of the classes.
        note: How sure that is.
        learned: What it learned from: a title and texts; () where that is not known.
    """

    about: str
    worse: tuple[Step, ...]
    more: int
    overall: tuple[Step, ...]
    note: str
    learned: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything that is told.

    Attributes:
        title: Of the file.
        about: Which classifier and data, in one line.
        date: When it was made.
        weakness: In somebody's own words; blank lines separate paragraphs.
        what: What fails, in one sentence.
        often: How often.
        sure: How sure we are.
        measures: The numbers.
        measured: On what they rest.
        actions: What can be done.
        cases: Examples.
        chosen: How the cases were chosen.
        scatter: The map, None for none.
        method: How it was made: names and values.
        change: Before and after, None where nothing was compared.
    """

    title: str
    about: str
    date: str
    weakness: str
    what: str
    often: str
    sure: str
    measures: tuple[Measure, ...]
    measured: str
    actions: tuple[str, ...]
    cases: tuple[Case, ...]
    chosen: str
    scatter: Scatter | None
    method: tuple[tuple[str, str], ...]
    change: Change | None = None
