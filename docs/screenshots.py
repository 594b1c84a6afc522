"""Take the pictures of each page and state again: `python docs/screenshots.py [FOLDER]`.

Starts the real program in a folder of its own and feeds it by a scripted trainer, so that the pictures are the same
every time and take two minutes instead of a training run. Needs Chromium and the development extras.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "support"))

from program import Program, serving  # noqa: E402  # found by the path above
from scripted import LAYERS, Trainer  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
SIZES = {"wide": (1440, 1200), "narrow": (390, 844)}
SETTLE_MS = 2500  # Plotly commits one chart per 150 ms; on a busy machine far fewer
MOST_TRIES = 12
DRAWN = """() => [...document.querySelectorAll(".plot")].every((plot) => {
  const { top, width } = plot.getBoundingClientRect();
  const drawn = plot.querySelector(".main-svg")?.getBoundingClientRect().width ?? -1;
  return top > innerHeight || Math.abs(drawn - width) < 2;
})"""
LONG = "a_name_somebody_generated." * 400


def main(folder: Path) -> None:
    """Every page and state, wide and narrow, light and dark."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        with serving(Path(home)) as program:
            take(browser, program, folder, "empty", "/")
            with hired(program) as hire:
                alive = story(hire)
                dialogs(browser, program, folder)
                for name, path in PAGES.items():
                    take(browser, program, folder, name, path, alive)
        browser.close()


PAGES = {
    "runs": "/",
    "live-healthy": "/runs/healthy",
    "live-broken": "/runs/broken",
    "live-repaired": "/runs/repaired",
    "replay": "/runs/dead?step=318",
    "zoomed": "/runs/dead?from=280&to=345",
    "hostile-names": "/runs/hostile",
}


@contextmanager
def hired(program: Program) -> Iterator[Callable[..., Trainer]]:
    """Makes scripted trainers, all of which stay until the pictures are taken."""
    trainers: list[Trainer] = []

    def hire(run: str, **options: object) -> Trainer:
        trainer = Trainer(program.url, program.token("ingest"), run, **options)
        trainer.__enter__()
        trainers.append(trainer)
        return trainer

    yield hire
    for trainer in trainers:
        trainer.abandon()


def story(hire: Callable[..., Trainer]) -> list[Trainer]:
    """One run for each state; those that go on."""
    healthy = hire("healthy", name="wavessm, baseline")
    train(healthy, 6)
    broken = hire("broken", name="wavessm, hook only")
    train(broken, 6)
    fail(broken)
    repaired = hire("repaired", name="wavessm, automatic repair")
    train(repaired, 5)
    for _ in range(3):
        repaired.break_layers(LAYERS[2])
        repaired.train(2)
        repaired.repair()
        train(repaired, 1)
    dead = hire("dead", name="wavessm, as it was")
    train(dead, 6)
    fail(dead)
    dead.train(60)
    dead.finish("failed", "RuntimeError: no valid batch")
    hostile = hire(
        "hostile", name="<img src=x onerror=alert(1)>", layers=("<b>bold</b>", "__proto__", LONG, "a\u202egnp")
    )
    train(hostile, 4)
    hostile.break_layers(LONG)
    hostile.train(20)
    for trainer in (healthy, broken, repaired, dead, hostile):
        trainer.settle()
    return [healthy, broken, repaired, hostile]


def train(trainer: Trainer, rounds: int) -> None:
    """Fifty steps, a validation and a checkpoint per round."""
    for _ in range(rounds):
        trainer.train(50)
        trainer.validate()
        trainer.checkpoint()


def fail(trainer: Trainer) -> None:
    """The failure this project began with: broken statistics, no valid batch, no checkpoint."""
    trainer.break_layers(LAYERS[2], LAYERS[3])
    trainer.train(30)
    trainer.validate()
    trainer.checkpoint()
    trainer.train(10)


def take(browser: Browser, program: Program, folder: Path, name: str, path: str, alive: Sequence[Trainer] = ()) -> None:
    """One page in both sizes and both themes."""
    for size in SIZES:
        for theme in ("light", "dark"):
            for trainer in alive:
                trainer.train(1)  # a run that stands still is stalled after half a minute
            with signed_in(browser, program, size, theme) as page:
                page.goto(program.url + path)
                save(page, folder / f"{name}-{size}-{theme}.png")


def dialogs(browser: Browser, program: Program, folder: Path) -> None:
    """The Sanitize dialog after its dry run; nothing is sent."""
    for size in SIZES:
        for theme in ("light", "dark"):
            with signed_in(browser, program, size, theme) as page:
                page.goto(f"{program.url}/runs/broken")
                page.locator("#sanitize").click()
                expect(page.locator("#confirm")).to_be_visible(timeout=20_000)
                save(page, folder / f"sanitize-{size}-{theme}.png")


@contextmanager
def signed_in(browser: Browser, program: Program, size: str, theme: str) -> Iterator[Page]:
    """A page with a session."""
    width, height = SIZES[size]
    context: BrowserContext = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if theme == "dark" else "light"
    )
    page = context.new_page()
    page.goto(program.sign_in_link())
    yield page
    context.close()


def save(page: Page, path: Path) -> None:
    """The picture, once the charts in sight have been drawn."""
    for _ in range(MOST_TRIES):
        page.wait_for_timeout(SETTLE_MS)
        if page.evaluate(DRAWN):
            break
    page.screenshot(path=path)
    print(path)


if __name__ == "__main__":
    if CHROMIUM is None:
        sys.exit("expected Chromium on the path, found none")
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "screenshots")
