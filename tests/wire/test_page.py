"""The page in a real Chromium: Debian's, or another one on the path, driven by Playwright.

Without a browser the tests are skipped. The browser gets a proxy without keys, on loopback.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from tests.support import body
from tests.waiting import until
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import DONE, END, completion, delta, head, sse, whole
from tests.wire.client import Client
from tests.wire.proxy import SharedProxy, proxy_with_backend

playwright = pytest.importorskip("playwright.sync_api")
EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="needs chromium on the path")

CONFIG = """
ui: {{bodies: true}}
backends:
  scripted: {{base_url: "{url}/v1", max_concurrent_calls: 1}}
models:
  "*": {{backend: scripted}}
pipelines:
  messages:
    route: POST /v1/messages
    stages:
      - authenticate: {{keys: [{key}]}}
      - account
      - validate
      - resolve
      - translate-in
      - queue
      - invoke
      - translate-out
      - stream-encode
  ui:
    route: [GET /ui, "GET /ui/{{path:path}}"]
    stages: [authenticate: {{keys: [{key}], basic: true}}, ui]
"""
USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 20,
    "prompt_tokens_details": {"cached_tokens": 750},
}
SCRIPT = "<script>document.title='hacked'</script>"
JSON = {"content_type": "application/json", "host": "localhost"}


@pytest.fixture(scope="module")
def open_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProxy]:
    folder = tmp_path_factory.mktemp("page")
    with proxy_with_backend(folder, lambda url: CONFIG.format(url=url, key="")) as shared:
        yield shared


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=EXECUTABLE, args=["--no-sandbox"])
        yield browser
        browser.close()


@define
class Scene:
    """A tab with the page, a client of the same proxy, and all that the browser complained of."""

    browser: Any
    shared: SharedProxy
    complaints: list[str] = field(factory=list)
    contexts: list[Any] = field(factory=list)

    def tab(self, path: str = "/ui", **options: Any) -> Any:
        """Open a part of the page in a new browser profile."""
        context = self.browser.new_context(**options)
        self.contexts.append(context)
        context.set_default_timeout(5000)
        context.clock.install()  # `later` skips the second between two requests of the page
        tab = context.new_page()
        tab.on("console", lambda message: self.complaints.append(message.text))
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("request", lambda request: self._check_host(request))
        tab.goto(self.shared.url + path)
        return tab

    def later(self, tab: Any, seconds: int = 6) -> None:
        """Let so much time pass in the tab."""
        tab.clock.run_for(1000 * seconds)

    def _check_host(self, request: Any) -> None:
        if not request.url.startswith(self.shared.url):
            self.complaints.append(f"a request to {request.url}")

    def ask(self, *steps: Any, **changes: Any) -> None:
        """Send a request through the proxy; the backend responds with `steps`."""
        headers = {**JSON, "x-claude-code-session-id": changes.pop("session", "session-1")}
        backend: ScriptedBackend = self.shared.backend
        backend.responses = [steps or (whole(200, {**completion(), "usage": USAGE}),)]
        client = Client(self.shared.url)
        client.post(body(**changes), **headers)
        client.close()


@pytest.fixture
def scene(chromium: Any, open_proxy: SharedProxy) -> Iterator[Scene]:
    scene = Scene(chromium, open_proxy)
    yield scene
    for context in scene.contexts:
        context.close()
    open_proxy.backend.forget()
    assert scene.complaints == []


def test_a_request_appears_without_reloading_and_opens_to_its_stages(scene: Scene) -> None:
    tab = scene.tab()
    tab.evaluate("window.marked = true")
    ending = sse({**delta("stop"), "usage": USAGE})

    scene.ask(head(), sse(delta(content="a")), 0.01, ending, DONE, END, model="new", stream=True)

    row = tab.locator("tr", has_text="new →")
    assert row.count() == 0
    scene.later(tab)
    row.wait_for()
    assert tab.evaluate("window.marked")
    assert "75%" in row.inner_text()
    row.get_by_role("link").click()
    tab.wait_for_url("**/ui/exchanges/req_*")
    stages = tab.locator("section", has=tab.get_by_role("heading", name="Stages"))
    for name in ("authenticate", "validate", "resolve", "translate-in", "queue", "invoke"):
        assert stages.get_by_role("rowheader", name=name, exact=True).count() == 1
    assert tab.locator(".plot canvas").count() == 1
    assert tab.get_by_text("750 of 1,000 from the cache").is_visible()


def test_a_waiting_request_is_seen_in_the_queue_until_it_ends(scene: Scene) -> None:
    go_on = threading.Event()
    response = (go_on, whole(200, completion()))
    threads = [threading.Thread(target=scene.ask, args=response) for _ in range(2)]
    for thread in threads:
        thread.start()
    scene.shared.backend.request()
    tab = scene.tab()
    while tab.locator(".tag.run").count() < 2:
        tab.reload()

    row = tab.get_by_role("row", name="scripted http")
    running = tab.locator(".tag.run")
    playwright.expect(row).to_contain_text("1 of 1")
    assert sorted(running.all_inner_texts()) == ["queued", "waiting"]
    assert row.locator(".hot").inner_text() == "1"
    go_on.set()
    for thread in threads:
        thread.join()

    def ended() -> bool:
        scene.later(tab)
        return "0 of 1" in row.inner_text() and running.count() == 0

    until(ended, "the page still shows a running request")


def test_text_of_clients_is_text(scene: Scene) -> None:
    scene.ask(model=SCRIPT, session=SCRIPT)
    tab = scene.tab()

    assert tab.get_by_text(SCRIPT).first.is_visible()
    tab.locator("tr", has_text=SCRIPT).first.get_by_role("link").click()
    assert tab.get_by_role("heading", name=SCRIPT).is_visible()
    assert "hacked" not in tab.title()


def test_the_keyboard_alone_leads_to_an_exchange_and_back(scene: Scene) -> None:
    scene.ask(model="by-keyboard")
    tab = scene.tab()
    focused = "document.activeElement"

    tab.keyboard.press("Tab")
    assert tab.evaluate(f"{focused}.textContent") == "Skip to the contents"
    tab.keyboard.press("Enter")
    for _ in range(10):
        tab.keyboard.press("Tab")
        if tab.evaluate(f"{focused}.tagName") == "A":
            break
    first = tab.evaluate(f"{focused}.href")
    assert "/ui/exchanges/req_" in first
    scene.ask(model="meanwhile")
    scene.later(tab)
    tab.locator("tr", has_text="meanwhile").wait_for()
    assert tab.evaluate(f"{focused}.href") == first  # a new row does not move the focus
    tab.keyboard.press("Enter")
    tab.wait_for_url(first)
    tab.get_by_role("link", name="all exchanges").press("Enter")
    tab.wait_for_url("**/ui")


@pytest.mark.parametrize("stream", [True, False])
def test_the_keyboard_opens_prompt_and_response(scene: Scene, stream: bool) -> None:
    secret = "sk-proj-1234567890abcdefghij"
    text = f"{SCRIPT} {secret}"
    parts = (head(), sse(delta(content=text)), sse(delta("stop")), DONE, END)
    steps = parts if stream else (whole(200, completion(text)),)
    messages = [{"role": "user", "content": f"asked {text}"}]
    scene.ask(*steps, model="with-texts", stream=stream, messages=messages)
    tab = scene.tab()
    tab.locator("tr", has_text="with-texts").first.get_by_role("link").click()
    tab.wait_for_url("**/ui/exchanges/req_*")

    for name in ("prompt", "response"):
        view = tab.locator(f"#texts-{name}")
        assert not view.locator("pre").first.is_visible()
        view.locator("summary").press("Enter")
        assert view.locator("pre").first.is_visible()
        assert f"{SCRIPT} [redacted]" in view.inner_text()
    assert secret not in tab.content()
    assert "hacked" not in tab.title()


def test_a_failed_request_shows_its_prompt_and_the_backends_error(scene: Scene) -> None:
    error = {"error": {"message": "CUDA out of memory at sk-proj-1234567890abcdefghij"}}
    scene.ask(whole(500, error), model="failing", messages=[{"role": "user", "content": "Fail!"}])
    tab = scene.tab()
    tab.locator("tr", has_text="failing").first.get_by_role("link").click()
    tab.wait_for_url("**/ui/exchanges/req_*")

    assert "CUDA out of memory at …" in tab.locator(".error").inner_text()
    tab.locator("#texts-prompt summary").click()
    assert "Fail!" in tab.locator("#texts-prompt pre").inner_text()
    tab.get_by_role("link", name="all exchanges").click()
    row = tab.get_by_role("row", name="scripted http")
    playwright.expect(row.locator("[data-name='failed calls']")).to_contain_text("api 1")


def test_a_pipeline_stays_open_when_the_page_changes(scene: Scene) -> None:
    tab = scene.tab()
    tab.locator("#p-ui summary").click()
    scene.ask(model="while-open")
    scene.later(tab)
    tab.locator("tr", has_text="while-open").wait_for()

    assert tab.locator("#p-ui").get_attribute("open") is not None


@pytest.mark.parametrize("part", ["", "/usage?by=session", "exchange"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(scene: Scene, part: str, scheme: str) -> None:
    scene.ask(model="a-model-with-a-very-long-name-" * 5, session="s" * 100)
    size = {"width": 360, "height": 740}
    tab = scene.tab(viewport=size, color_scheme=scheme, is_mobile=True, has_touch=True)
    if part == "exchange":
        tab.locator(".exchanges a").first.tap()
        tab.wait_for_url("**/exchanges/*")
    elif part:
        tab.goto(f"{scene.shared.url}/ui{part}")

    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    back = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(back.removeprefix("rgb(").partition(",")[0]) < 100) == (scheme == "dark")


def test_on_a_phone_each_value_of_a_backend_has_its_name(scene: Scene) -> None:
    tab = scene.tab(viewport={"width": 360, "height": 740})

    row = tab.get_by_role("row", name="scripted http")
    values = row.locator("td:not(:has(.tag.ok)):not([data-name])")
    assert row.locator("[data-name]").count() == 8
    assert values.all_inner_texts() == []


def test_a_hidden_tab_asks_for_nothing(scene: Scene) -> None:
    tab = scene.tab()
    hide = "Object.defineProperty(document, 'visibilityState', {get: () => 'hidden'})"
    tab.evaluate(hide)
    requests: list[str] = []
    tab.on("request", lambda request: requests.append(request.url))

    scene.later(tab, seconds=60)

    assert [url for url in requests if "/static/" not in url] == []  # the icon may come late


def test_a_lost_connection_is_reported_and_found_again(scene: Scene) -> None:
    tab = scene.tab()
    tab.route("**/ui", lambda route: route.fulfill(status=503, body="{}"))
    state = tab.get_by_role("status")

    scene.later(tab)
    playwright.expect(state).to_have_text("no connection to the proxy")
    assert tab.locator("#h-backends").is_visible()
    tab.unroute("**/ui")
    scene.later(tab, seconds=11)
    playwright.expect(state).to_have_text("")

    assert scene.complaints
    assert all("503" in complaint for complaint in scene.complaints)  # Chromium logs each
    scene.complaints.clear()


def test_an_exchange_in_flight_whose_worker_does_not_respond_says_so(scene: Scene) -> None:
    go_on = threading.Event()
    thread = threading.Thread(target=scene.ask, args=(go_on, whole(200, completion())))
    thread.start()
    tab = scene.tab()
    while tab.locator(".tag.run").count() < 1:
        tab.reload()
    tab.locator("tr:has(.tag.run) a").click()
    tab.wait_for_url("**/ui/exchanges/req_*")
    tab.route("**/exchanges/*", lambda route: route.fulfill(status=404, body="<main></main>"))

    scene.later(tab)
    playwright.expect(tab.get_by_role("status")).to_contain_text("its worker does not respond")
    assert tab.locator("#h-line").is_visible()
    tab.unroute("**/exchanges/*")
    go_on.set()
    thread.join()
    scene.later(tab, seconds=11)
    playwright.expect(tab.get_by_role("status")).to_have_text("")
    playwright.expect(tab.locator("h1")).to_contain_text("200")
    assert all("404" in complaint for complaint in scene.complaints)  # Chromium logs each
    scene.complaints.clear()


def test_with_keys_a_person_types_the_key_as_password(chromium: Any, tmp_path: Path) -> None:
    def config_for(url: str) -> str:
        return CONFIG.format(url=url, key="client-key")

    with proxy_with_backend(tmp_path, config_for) as shared:
        for password, status in (("wrong", 401), ("client-key", 200)):
            login = {"username": "", "password": password}
            context = chromium.new_context(http_credentials=login)
            assert context.new_page().goto(f"{shared.url}/ui").status == status
            context.close()
        in_address = chromium.new_page(bypass_csp=True)  # wait_for_function calls `eval`
        address = shared.url.replace("://", "://x:client-key@") + "/ui"
        in_address.goto(address, wait_until="commit")
        in_address.wait_for_function(f"document.baseURI === '{shared.url}/ui'")
        assert in_address.evaluate("fetch('ui').then((response) => response.status)") == 200
        in_address.close()
        client = Client(shared.url)
        refused = client.get("/ui", **{"x-api-key": "wrong"})
        other = client.get("/v1/messages", "POST", **{"x-api-key": "wrong"})
        client.close()
    assert refused.error == other.error == (401, "authentication_error")
    assert refused.headers["www-authenticate"].startswith("Basic ")
    assert "www-authenticate" not in other.headers
