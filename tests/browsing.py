"""A real browser for pages: Debian's chromium, headless, with no network."""

import shutil

chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

LOCAL = ("file:", "data:", "blob:")
SOFTWARE_GL = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]


def opened_page(browser, file, width=1280, **options):
    """A page once it is drawn, and the list of what its console and its network complain of, which is filled as it is used."""
    complaints = []
    page = browser.new_page(viewport={"width": width, "height": 900}, accept_downloads=True, **options)
    # Drawing in software on a busy machine takes its time.
    page.set_default_timeout(120_000)
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(LOCAL) else complaints.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("body[data-ready]")
    return page, complaints
