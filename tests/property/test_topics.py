"""Topics against the plainest possible reading of the grammar."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.topics import Capture, Router, Template, subscriptions

LEVELS = st.sampled_from(["a", "b", ""])
CAPTURES = st.sampled_from(["{device}", "{x}", "{y}"])


@st.composite
def templates(draw: st.DrawFn) -> Template:
    """Small templates over few words, so that they often meet."""
    rest = draw(st.lists(st.one_of(LEVELS, st.just("{x}")), max_size=3, unique_by=lambda level: level or id(level)))
    rest.insert(draw(st.integers(0, len(rest))), "{device}")
    return Template.parse("/".join([draw(st.sampled_from(["t", "testbed"])), *rest]))


topics = st.builds("/".join, st.lists(st.sampled_from(["t", "testbed", "a", "b", "c", ""]), min_size=1, max_size=5))


def naive(template: Template, topic: str) -> dict[str, str] | None:
    """Return what the template captures of the topic, level by level; None where it does not match."""
    words = topic.split("/")
    if len(words) != len(template.levels):
        return None
    pairs = list(zip(template.levels, words, strict=True))
    if any(level != word for level, word in pairs if not isinstance(level, Capture)):
        return None
    return {level.name: word for level, word in pairs if isinstance(level, Capture)}


def filter_matches(topic_filter: str, topic: str) -> bool:
    """MQTT 5.0, section 4.7, in words of one line each."""
    wanted, words = topic_filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        return words[: len(wanted) - 1] == wanted[:-1]
    return len(wanted) == len(words) and all(w in ("+", word) for w, word in zip(wanted, words, strict=True))


def some_topic(a: Template, b: Template) -> str | None:
    """A topic that both match, found by filling in each capture with what the other has there."""
    if len(a.levels) != len(b.levels):
        return None
    words = [other if isinstance(level, Capture) else level for level, other in zip(a.levels, b.levels, strict=True)]
    return "/".join("any" if isinstance(word, Capture) else word for word in words)


@given(st.lists(templates(), max_size=6), topics)
def test_router_agrees_with_naive_matching(wanted: list[Template], topic: str) -> None:
    """The router finds the template that matches by hand, and captures the same."""
    routes: dict[Template, Template] = {}
    for template in wanted:
        if not any(template.overlaps(other) for other in routes):
            routes[template] = template
    matching = [template for template in routes if naive(template, topic) is not None]
    assert len(matching) <= 1
    expected = (matching[0], naive(matching[0], topic)) if matching else None
    assert Router(routes).match(topic) == expected


@given(templates(), templates())
def test_overlap_is_a_common_topic(a: Template, b: Template) -> None:
    """Two templates overlap if, and only if, there is a topic that both match."""
    topic = some_topic(a, b)
    both = topic is not None and naive(a, topic) is not None and naive(b, topic) is not None
    assert a.overlaps(b) == b.overlaps(a) == both


@given(templates(), templates(), topics)
def test_common_topic_is_an_overlap(a: Template, b: Template, topic: str) -> None:
    """Where two templates do not overlap, no topic at all matches both."""
    if naive(a, topic) is not None and naive(b, topic) is not None:
        assert a.overlaps(b)


@given(templates(), topics)
def test_filter_and_template_match_the_same_topics(template: Template, topic: str) -> None:
    """A template's MQTT filter brings exactly the topics that the template matches."""
    assert filter_matches(template.filter, topic) == (naive(template, topic) is not None)


@given(st.lists(templates(), max_size=5), topics)
def test_subscriptions_bring_each_message_once(wanted: list[Template], topic: str) -> None:
    """Every topic that a template matches is brought by one of the subscriptions, and by one only."""
    distinct: list[Template] = []
    for template in wanted:
        if not any(template.overlaps(other) for other in distinct):
            distinct.append(template)
    bringing = [one for one in subscriptions(distinct) if filter_matches(one, topic)]
    assert len(bringing) <= 1
    if any(naive(template, topic) is not None for template in distinct):
        assert bringing
