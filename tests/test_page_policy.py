"""A page asks nobody for anything, whatever is slipped into it: in a real browser, beside a server that would answer."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from browsing import chromium

from dss.page.report.render import POLICY, Page, render

pytestmark = pytest.mark.skipif(chromium is None, reason="needs a chromium on the PATH (Debian: apt install chromium)")

# Every way in which a page reaches outside; what is refused is an error that nobody need see.
REACHING = """async (address) => {
  const add = (tag, properties) => document.body.appendChild(Object.assign(document.createElement(tag), properties));
  add("img", { src: address + "image" });
  add("script", { src: address + "script" });
  add("link", { rel: "stylesheet", href: address + "style" });
  add("iframe", { src: address + "frame" });
  add("video", { src: address + "video" });
  add("object", { data: address + "object" });
  const form = add("form", { action: address + "form", method: "get", target: "" });
  try { await fetch(address + "fetch", { mode: "no-cors" }); } catch (error) { /* refused */ }
  try { navigator.sendBeacon(address + "beacon", "x"); } catch (error) { /* refused */ }
  try { new WebSocket(address.replace("http", "ws") + "socket"); } catch (error) { /* refused */ }
  try { form.submit(); } catch (error) { /* refused */ }
  await new Promise((done) => setTimeout(done, 500));
}"""


@pytest.fixture
def server():
    """An address on this machine, and the list of what it was asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.block_on_close = False  # a browser opens connections ahead, and keeps them
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("guarded", [True, False], ids=["with the policy", "without it"])
def test_nothing_leaves_a_page(browser, server, tmp_path, guarded):
    address, asked = server
    text = render(Page(title="a page", about="of nothing"))
    file = tmp_path / "page.html"
    file.write_text(text if guarded else re.sub("<meta http-equiv[^>]*>", "", text), encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri())
    page.evaluate(REACHING, address)
    page.close()
    assert asked == [] if guarded else len(asked) > 5


def test_the_policy_stands_before_all_that_it_guards():
    text = render(Page(title="<script>", about="x"))
    head = text.partition("<title>")[0]
    assert (
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">' in head
        and "<script" not in head
        and "<style" not in head
    )
    assert POLICY.startswith("default-src 'none'") and "http" not in POLICY and "*" not in POLICY
