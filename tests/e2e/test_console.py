"""The web page as a person uses it: a real gateway and broker, and Chromium."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiomqtt
import httpx
import pytest
from playwright.async_api import Locator, Page, async_playwright, expect

from tests.running import OPERATOR, GatewayProcess
from tests.servers import WITHIN, Mosquitto, eventually, find, free_port, need
from tests.servers.mqtt_clients import connect

pytestmark = pytest.mark.e2e

SAMPLES = Path(__file__).parents[2] / "config" / "startups"
TOKEN = "acme-token"
CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Visit:
    """A browser's page, and what it did that somebody should know of."""

    page: Page
    url: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)

    @property
    def elsewhere(self) -> list[str]:
        """Requests to anybody but the gateway."""
        own = (self.url, self.url.replace("http", "ws", 1), "data:", "blob:")
        return [url for url in self.requests if not url.startswith(own)]

    async def sign_in(self, token: str) -> None:
        await self.page.goto(self.url)
        await self.page.get_by_label("Token").fill(token)
        await self.page.get_by_role("button", name="Sign in").click()

    def chart(self, name: str) -> Locator:
        return self.page.locator("figure", has=self.page.get_by_text(name, exact=True))

    def section(self, title: str) -> Locator:
        return self.page.get_by_role("region", name=title, exact=True)


@dataclass
class TestBed:
    """Broker and gateway."""

    __test__ = False

    url: str
    device: aiomqtt.Client

    async def climate(self, temperature: float) -> None:
        payload = {"ts": time.time_ns() // 1_000_000, "t": temperature, "humidity": 40.0}
        await self.device.publish("testbed/acme/th-1/climate", json.dumps(payload), qos=1)

    async def is_ready(self) -> bool:
        async with httpx.AsyncClient() as client:
            try:
                return (await client.get(f"{self.url}/readyz")).is_success
            except httpx.TransportError:
                return False


@pytest.fixture
async def testbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TestBed]:
    """The sample configuration on a real broker; the gateway is a process of its own, as in production."""
    need("chromium", "mosquitto")
    port = free_port()
    config = tmp_path / "config"
    await asyncio.to_thread(shutil.copytree, SAMPLES, config / "startups")
    monkeypatch.setenv("GATEWAY_TOKEN_ACME", TOKEN)
    async with Mosquitto(tmp_path / "mosquitto") as broker:
        settings = {"mqtt": {"url": broker.url}, "http": {"listen": f"127.0.0.1:{port}"}, "state_dir": "../state"}
        (config / "gateway.yaml").write_text(json.dumps(settings))
        async with GatewayProcess(config) as gateway, connect(broker) as device:
            bed = TestBed(f"http://127.0.0.1:{port}", device)
            await eventually(bed.is_ready, every=0.1, says="the gateway is ready")
            yield bed
            await gateway.terminate()


@asynccontextmanager
async def visit(url: str) -> AsyncIterator[Visit]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find("chromium"), args=CHROMIUM)
        one = Visit(await browser.new_page(), url)
        one.page.set_default_timeout(WITHIN * 1000)
        expect.set_options(timeout=WITHIN * 1000)
        one.watch()
        try:
            yield one
        finally:
            await browser.close()


async def test_a_startup_sees_its_own_data_live(testbed: TestBed) -> None:
    """With its token it finds its charts, devices and rejections, live and after a reload, and nobody else's page."""
    async with visit(testbed.url) as browser:
        page = browser.page
        await browser.sign_in("wrong")
        await expect(page.get_by_role("alert")).to_contain_text("Unknown token")

        await browser.sign_in(TOKEN)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Acme Air")
        await expect(page.get_by_role("heading", name="No readings yet")).to_be_visible()
        await expect(page.get_by_text("testbed/acme/DEVICE/climate").first).to_be_visible()

        await testbed.climate(21.5)
        temperature = browser.chart("temperature")
        await expect(temperature.locator(".chart-now")).to_have_text("21.5")
        await expect(temperature.locator("canvas")).to_be_visible()
        await expect(temperature).to_contain_text("accepts −40 to 125 °C")
        await testbed.climate(23)
        await expect(temperature.locator(".chart-now")).to_have_text("23")
        row = browser.section("Devices").get_by_role("row").filter(has_text="th-1")
        await expect(row).to_contain_text("ok")
        await expect(row).to_contain_text("just now")

        await testbed.climate(999)
        rejections = browser.section("Newest rejections")
        await expect(rejections).to_contain_text("A value is out of range")
        await expect(rejections).to_contain_text("expected a number from -40 to 125 (°C); got 999")
        await expect(row).to_contain_text("rejected")
        await rejections.get_by_text("testbed/acme/th-1/climate").click()
        await expect(rejections.locator("pre")).to_contain_text('"t": 999')

        await eventually(lambda: _stored(page, 2), every=0.2, says="both readings are stored")
        await page.reload()
        await expect(temperature.locator(".chart-now")).to_have_text("23")
        await expect(rejections).to_contain_text("A value is out of range")
        assert browser.errors == []
        assert browser.elsewhere == []

        await page.goto(f"{testbed.url}/startups/voltwise")
        await expect(page.get_by_role("heading", level=1)).to_have_text("This page is not yours")
        await page.get_by_role("link", name="Go to your page").click()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        await page.goto(f"{testbed.url}/startups/acme")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


async def _stored(page: Page, count: int) -> bool:
    figure = page.locator(".figure", has=page.get_by_text("Stored", exact=True))
    return await figure.locator(".figure-value").inner_text() == str(count)


async def test_an_operator_sees_all_startups(testbed: TestBed) -> None:
    """Rates and ledger of each startup, and the messages that belong to none; from there each startup's page."""
    async with visit(testbed.url) as browser:
        page = browser.page
        await browser.sign_in(OPERATOR)
        await expect(page.get_by_role("heading", level=1)).to_have_text("All startups")
        await testbed.climate(21.5)
        await testbed.device.publish("testbed/nobody/th-1", b"{}", qos=1)
        startups = page.get_by_role("table")
        for name in ("Acme Air", "Greenbed Farms", "Voltwise Charging"):
            await expect(startups.get_by_role("row").filter(has_text=name)).to_contain_text("balanced")
        await expect(startups.get_by_role("row").filter(has_text="Acme Air")).to_contain_text("1 ok")
        await expect(browser.section("Ledger")).to_contain_text("balances")
        strays = browser.section("Messages of no startup")
        await expect(strays).to_contain_text("No rule matches this topic")
        await expect(strays).to_contain_text("testbed/nobody/th-1")
        await startups.get_by_role("link", name="Acme Air").click()
        await expect(browser.chart("temperature").locator(".chart-now")).to_have_text("21.5")
        assert browser.errors == []
        assert browser.elsewhere == []
