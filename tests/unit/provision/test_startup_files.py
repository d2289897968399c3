"""startups/*.yaml as commands write and edit them."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from gateway.config import Config, load
from gateway.errors import ProvisionError
from gateway.provision.startup_files import NewStartup, add, add_device, block_device, edit, set_until, unblock_device

HASH = "ab" * 32
EDITED = """\
# who pays: the city
name: "Acme Air"   # as on the contract
until: 2026-12-18  # may be extended
devices:
- th-1             # in the lab
- 'th-2'

# what it measures
topics:
  climate:
    topic: testbed/acme/{device}/climate   # one a room
    fields:
      t: {type: float, unit: celsius, min: -40, max: 125, required: true}  # a sensor that was calibrated last year
    unknown: reject
"""
NASTY = [
    "Acme Air",
    "O'Hara & Sons",
    'The "Best" Ltd',
    "Colon: Comma, #1",
    "# not a comment",
    "- dash",
    "{curly} [square]",
    "{slug}",
    "Zürich Überwärme 株式会社",
    "🌡 Thermo",
    "null",
    "yes",
    "2026-12-18",
    "1e3",
    "0x1F",
    "~",
    "*star &amp !bang %percent @at `tick`",
    "back\\slash \\n",
    " spaces around ",
    "two\nlines: here",
    "line\u2028separator",
    "tab\there",
    "?",
    ": ",
    "a" * 80,
]


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    """A file that somebody has edited by hand."""
    (tmp_path / "startups").mkdir()
    path = tmp_path / "startups" / "acme.yaml"
    path.write_text(EDITED, encoding="utf-8")
    return path


def loaded(path: Path) -> Config:
    return load(path.parent.parent)


@pytest.mark.parametrize("name", NASTY)
def test_a_written_file_loads(tmp_path: Path, name: str) -> None:
    """Whatever a startup, its cohort and its people are called, the file loads and says just that, and all else is as
    the template has it."""
    path = add(tmp_path, NewStartup("acme-air", name, cohort=name, until=date(2026, 12, 18)), HASH)
    (startup,) = loaded(path).startups
    assert (startup.slug, startup.name, startup.cohort) == ("acme-air", name, name)
    assert startup.until == date(2026, 12, 18)
    assert startup.token_sha256 == HASH
    assert list(startup.topics) == ["climate"]
    assert startup.topics["climate"].template.text == "testbed/acme-air/{device}/climate"


def test_a_written_file_with_everything(tmp_path: Path) -> None:
    """Team and devices stand in it, nasty ones as well."""
    team = ["o'hara+x@example.com", "#1:a@example.com", '"q"@example.com']
    devices = ["th-1", "7", "null", "a:b", "é", "true"]
    path = add(tmp_path, NewStartup("acme", "Acme", team=team, devices=devices), HASH)
    (startup,) = loaded(path).startups
    assert list(startup.team) == team
    assert list(startup.devices) == devices


def test_a_written_file_with_nothing(tmp_path: Path) -> None:
    """Without cohort, end, team and devices it has none of them, and a comment that says how to add a device."""
    path = add(tmp_path, NewStartup("acme", "Acme"), HASH)
    (startup,) = loaded(path).startups
    assert (startup.cohort, startup.until, startup.team, startup.devices) == ("", None, (), ())
    assert startup.store is None
    assert "gateway devices add acme NAME" in path.read_text(encoding="utf-8")


def test_a_written_file_names_its_store(tmp_path: Path) -> None:
    """A startup that is added for a store of gateway.yaml is in that store."""
    (tmp_path / "gateway.yaml").write_text("stores: {hall-2: {kind: influxdb}}")
    path = add(tmp_path, NewStartup("acme", "Acme", store="hall-2"), HASH)
    (startup,) = loaded(path).startups
    assert startup.store == "hall-2"


@pytest.mark.parametrize("slug", ["Acme", "a", "", "7up", "acme_air", "acme air", "../acme", "a/b", "é" * 3, "a" * 32])
def test_invalid_slug_is_reported(tmp_path: Path, slug: str) -> None:
    """An invalid slug is rejected in words, and nothing is written."""
    with pytest.raises(ProvisionError, match=re.escape(f"such as acme-air; got {slug!r}")):
        add(tmp_path, NewStartup(slug, "Acme"), HASH)
    assert list(tmp_path.rglob("*.yaml")) == []


@pytest.mark.parametrize("taken", ["acme.yaml", "Acme.yaml", "ACME.yml", "acme.md"])
def test_taken_slug_is_reported(tmp_path: Path, taken: str) -> None:
    """A file of that name, in another case of letters as well, is reported and left as it is: some file systems do not
    distinguish the cases."""
    (tmp_path / "startups").mkdir()
    (tmp_path / "startups" / taken).write_text("precious")
    with pytest.raises(ProvisionError, match=f"{taken} already exists: choose another slug"):
        add(tmp_path, NewStartup("acme", "Acme"), HASH)
    assert [path.name for path in (tmp_path / "startups").iterdir()] == [taken]
    assert (tmp_path / "startups" / taken).read_text() == "precious"


def test_unwritable_directory_is_reported(tmp_path: Path) -> None:
    """The error names the file."""
    (tmp_path / "startups").write_text("a file where the directory should be")
    with pytest.raises(ProvisionError, match=r"acme\.yaml: cannot be written"):
        add(tmp_path, NewStartup("acme", "Acme"), HASH)


def test_a_device_is_added_and_all_else_kept(acme: Path) -> None:
    """One line more; every comment, quote and the order are as they were."""
    add_device(acme, "th-3")
    assert acme.read_text(encoding="utf-8") == EDITED.replace("- 'th-2'\n", "- 'th-2'\n- th-3\n")
    assert loaded(acme).startups[0].devices == ("th-1", "th-2", "th-3")
    assert [path.name for path in acme.parent.iterdir()] == ["acme.yaml"]


@pytest.mark.parametrize(
    "devices",
    [
        "- th-1  # the first\n- th-2  # the last\n",
        "- th-1\n# between\n- th-2\n",
        "- th-1\n- th-2\n# below\n",
        "- th-1\n- th-2  # beside\n\n# below\n# and below that\n\n",
    ],
)
def test_comments_around_devices_stay_where_they_are(acme: Path, devices: str) -> None:
    """A comment beside a device stays beside it, and one below the list stays below it."""
    head, _, tail = EDITED.partition("- th-1")
    tail = tail[tail.index("topics:") :]
    acme.write_text(f"{head}{devices}{tail}", encoding="utf-8")
    for device in ("th-3", "th-4"):
        add_device(acme, device)
    upto = devices.index("th-2")
    end = devices.index("\n", upto) + 1
    assert acme.read_text(encoding="utf-8") == f"{head}{devices[:end]}- th-3\n- th-4\n{devices[end:]}{tail}"


def comments(text: str) -> list[str]:
    return re.findall(r"#.*", text)


def test_a_device_is_added_once(acme: Path) -> None:
    """A device that is there already changes nothing."""
    add_device(acme, "th-3")
    before = acme.read_bytes()
    add_device(acme, "th-3")
    add_device(acme, "th-1")
    assert acme.read_bytes() == before


def test_a_device_is_added_to_a_written_file(tmp_path: Path) -> None:
    """The template's empty list takes devices, and keeps the comments around it."""
    path = add(tmp_path, NewStartup("acme", "Acme"), HASH)
    before = comments(path.read_text(encoding="utf-8"))
    for device in ("th-1", "null", "7"):
        add_device(path, device)
    assert loaded(path).startups[0].devices == ("th-1", "null", "7")
    assert comments(path.read_text(encoding="utf-8")) == before


def test_a_device_is_added_where_there_is_no_list(acme: Path) -> None:
    """A file without `devices` gets it."""
    acme.write_text(EDITED.replace("devices:\n- th-1             # in the lab\n- 'th-2'\n", ""), encoding="utf-8")
    add_device(acme, "th-1")
    assert loaded(acme).startups[0].devices == ("th-1",)


@pytest.mark.parametrize("device", ["", "a/b", "+", "#", "a b", "-x", "x" * 65, "{device}"])
def test_invalid_device_name_is_reported(acme: Path, device: str) -> None:
    """An invalid name of a device is rejected in words, and the file stays as it is."""
    with pytest.raises(ProvisionError, match=re.escape(f"got {device!r}")):
        add_device(acme, device)
    assert acme.read_text(encoding="utf-8") == EDITED


def test_the_end_is_set_and_all_else_kept(acme: Path) -> None:
    """Only the date changes; a comment beside it stays."""
    set_until(acme, date(2027, 3, 31))
    assert acme.read_text(encoding="utf-8") == EDITED.replace("2026-12-18", "2027-03-31")
    assert loaded(acme).startups[0].until == date(2027, 3, 31)


@pytest.mark.parametrize("until", [None, date(2026, 12, 18)])
def test_the_end_of_a_written_file_is_set(tmp_path: Path, until: date | None) -> None:
    """Whether or not it had one, and no matter how often."""
    path = add(tmp_path, NewStartup("acme", "Acme", until=until), HASH)
    before = comments(path.read_text(encoding="utf-8"))
    for end in (date(2027, 3, 31), date(2028, 1, 1)):
        set_until(path, end)
        assert loaded(path).startups[0].until == end
    assert comments(path.read_text(encoding="utf-8")) == before


def test_missing_file_is_reported(tmp_path: Path) -> None:
    """The error names the file, and says where to look."""
    with pytest.raises(ProvisionError, match=r"acme\.yaml does not exist: see `gateway startups list`"):
        set_until(tmp_path / "acme.yaml", date(2027, 3, 31))


def test_a_file_is_replaced_whole(acme: Path) -> None:
    """Who has the old file open still reads all of it; a change that fails leaves it as it was."""
    with acme.open(encoding="utf-8") as open_before:
        set_until(acme, date(2027, 3, 31))
        assert open_before.read() == EDITED
    before = acme.read_bytes()

    def fails(_document: object) -> None:
        raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        edit(acme, fails)
    assert acme.read_bytes() == before
    assert [path.name for path in acme.parent.iterdir()] == ["acme.yaml"]


def test_a_device_is_blocked_and_let_in_again(acme: Path) -> None:
    """A block is one line more, for a device of the list or any other; every comment stays, also when it is gone."""
    block_device(acme, "th-1")
    block_device(acme, "anything")
    block_device(acme, "th-1")
    assert acme.read_text(encoding="utf-8") == EDITED + "blocked: [th-1, anything]\n"
    assert loaded(acme).startups[0].blocked == ("th-1", "anything")
    unblock_device(acme, "th-1")
    unblock_device(acme, "anything")
    assert acme.read_text(encoding="utf-8") == EDITED + "blocked: []\n"
    block_device(acme, "th-2")
    assert loaded(acme).startups[0].blocked == ("th-2",)


def test_comments_around_blocked_devices_stay(acme: Path) -> None:
    """Who is let in goes with the remark beside it; what stands below the list stays there."""
    blocked = "blocked:\n- th-1  # since Monday\n- th-2  # floods\n\n# below\n"
    acme.write_text(EDITED.replace("devices:", f"{blocked}devices:"), encoding="utf-8")
    unblock_device(acme, "th-2")
    expected = "blocked:\n- th-1  # since Monday\n\n# below\n"
    assert acme.read_text(encoding="utf-8") == EDITED.replace("devices:", f"{expected}devices:")
    unblock_device(acme, "th-1")
    assert acme.read_text(encoding="utf-8") == EDITED.replace("devices:", "blocked: []\n\n# below\ndevices:")


@pytest.mark.parametrize("change", ["", "blocked:\n", "blocked: []\n"])
def test_only_a_blocked_device_is_let_in(acme: Path, change: str) -> None:
    """The error names those that are blocked, or says that none is."""
    acme.write_text(EDITED + change, encoding="utf-8")
    with pytest.raises(ProvisionError, match=r"none is.*'th-1'"):
        unblock_device(acme, "th-1")
    block_device(acme, "th-2")
    with pytest.raises(ProvisionError, match=r"th-2.*'th-1'"):
        unblock_device(acme, "th-1")
