"""Frame of all pages, and the small elements that they consist of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

CSS = Path(__file__).parent / "console.css"
TITLE = "Testbed Gateway"
LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 20" class="brand-mark" aria-hidden="true">'
    '<rect width="20" height="20" rx="5" fill="#1d5fb8"/>'
    '<path d="M3.5 12.5h3l2-6 3 8.5 2-5h3" fill="none" stroke="#fff" stroke-width="1.7" stroke-linecap="round" '
    'stroke-linejoin="round"/></svg>'
)

_POINT = "() => window.dispatchEvent(new CustomEvent('console-point', {detail: %s}))"


@cache
def css() -> str:
    """Return the style of every page. Blocking at first."""
    return CSS.read_text(encoding="utf-8")


def install() -> None:
    """Give every page its style, inline, so that nothing is shown without it."""
    ui.add_head_html(f"<style>{css()}</style>", shared=True)


class Text(TextElement):
    """An element that holds only text."""

    def __init__(self, tag: str, text: str, classes: str = "") -> None:
        super().__init__(tag=tag, text=text)
        self.classes(classes)

    def say(self, text: str, classes: str | None = None) -> None:
        """Change the text and the classes; nothing is sent if nothing has changed."""
        if text != self.text:
            self.set_text(text)
        if classes is not None and set(classes.split()) != set(self.classes):
            self.classes(replace=classes)


def box(classes: str, tag: str = "div") -> ui.element:
    """Return an element to be filled."""
    return ui.element(tag).classes(classes)


def link(text: str, target: str, classes: str = "") -> Text:
    """Return a link within the console."""
    element = Text("a", text, classes)
    element.props["href"] = target
    return element


def chip(text: str, colour: int) -> ui.element:
    """Return a name with the colour of its line; pointing at it dims the other lines."""
    with box("chip", "span") as element:
        box("chip-dot", "i").style(f"background: var(--line-{colour})")
        Text("span", text)
    element.on("mouseenter", js_handler=_POINT % json.dumps(text))
    element.on("mouseleave", js_handler=_POINT % "null")
    return element


def logo() -> None:
    """Show the gateway's logo."""
    ui.html(LOGO, sanitize=False, tag="span").style("display: flex")


class Notices:
    """Notices at the top of a page; at most one of each kind."""

    def __init__(self) -> None:
        self._box = box("notices")
        self._box.props["aria-live"] = "polite"
        self._shown: dict[str, tuple[str, ui.element]] = {}

    def show(self, kind: str, text: str, *, bad: bool = False, dismiss: Callable[[], None] | None = None) -> None:
        """Show a text in place of the last one of its kind; an empty text removes it."""
        old, element = self._shown.pop(kind, ("", None))
        if old == text and element is not None:
            self._shown[kind] = (old, element)
            return
        if element is not None:
            element.delete()
        if text:
            self._shown[kind] = (text, self._make(text, bad, dismiss))

    def _make(self, text: str, bad: bool, dismiss: Callable[[], None] | None) -> ui.element:
        with self._box, box("notice is-bad" if bad else "notice") as notice:
            notice.props["role"] = "status"
            Text("span", text)
            if dismiss is not None:
                Text("button", "Dismiss", "quiet").on("click", dismiss)
        return notice


class Figure:
    """A number with its name, and a remark below it."""

    def __init__(self, label: str) -> None:
        with box("figure"):
            Text("div", label, "figure-label")
            self._value = Text("div", "–", "figure-value")
            self._remark = Text("div", "", "figure-remark")

    def show(self, value: str, remark: str = "", tone: str = "") -> None:
        self._value.say(value, f"figure-value {tone}".strip())
        self._remark.say(remark)


class State:
    """A state: a dot and a word."""

    def __init__(self) -> None:
        with box("state") as self._box:
            box("dot", "i").props["aria-hidden"] = "true"
            self._word = Text("span", "")

    def show(self, word: str, tone: str) -> None:
        self._word.say(word)
        wanted = ["state", f"is-{tone}"]
        if list(self._box.classes) != wanted:
            self._box.classes(replace=" ".join(wanted))


class Frame(NamedTuple):
    """Elements that a page fills in later."""

    state: State
    notices: Notices


@contextmanager
def frame(
    title: str, remark: str, sign_out: Callable[[], None], back: tuple[str, str] | None = None
) -> Iterator[Frame]:
    """Make the head of a page, and its body around what is made inside. `back` is a link: text and target."""
    ui.page_title(f"{title} · {TITLE}")
    with box("bar", "header"):
        with box("brand", "a") as brand:
            brand.props["href"] = "/"
            logo()
            Text("span", TITLE)
        with box("bar-title"):
            Text("h1", title)
            Text("span", remark, "bar-remark")
        with box("bar-end"):
            state = State()
            if back is not None:
                link(*back)
            Text("button", "Sign out", "quiet").on("click", sign_out)
    with box("main", "main"):
        yield Frame(state, Notices())


@contextmanager
def centred(title: str) -> Iterator[None]:
    """Make a page with a single card, for sign-in and errors."""
    ui.page_title(f"{title} · {TITLE}")
    with box("centred", "main"), box("card centred-card"):
        with box("brand"):
            logo()
            Text("span", TITLE)
        Text("h1", title)
        yield


@contextmanager
def card(title: str, classes: str = "") -> Iterator[ui.element]:
    """Make a card with a title; yield its head, which may have more beside the title."""
    with box(f"card {classes}", "section") as section:
        section.props["aria-label"] = title
        with box("card-head") as head:
            Text("h2", title)
        yield head
