"""A run that has ended, replayed."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from scripted import LAYERS, Trainer
from watching import until

Open = Callable[..., Page]
Hire = Callable[..., Trainer]


def dead_run(run: str, hire: Hire) -> Trainer:
    """Broken from step 61 on, validated once before and once after, dead at 100."""
    trainer = hire(run)
    trainer.train(50)
    trainer.validate()
    trainer.checkpoint()
    trainer.train(10)
    trainer.break_layers(LAYERS[2])
    trainer.train(30)
    trainer.validate()
    trainer.checkpoint()
    trainer.train(10)
    trainer.finish("failed", "RuntimeError: no valid batch")
    trainer.close()
    return trainer


def test_an_ended_run_opens_with_a_scrubber_that_replays_it(open_run: Open, hire: Hire) -> None:
    """Numbers, verdict and address are those of the step looked at."""
    dead_run("dead", hire)
    page = open_run("dead")
    expect(page.locator(".chip")).to_have_text("Trainer ended")
    expect(page.locator("#sanitize-why")).to_have_text("the run has ended")
    slider = page.get_by_role("slider", name="Step")
    expect(slider).to_have_value("100")
    expect(page.locator(".verdict .badge")).to_have_text("Critical")
    page.get_by_role("spinbutton", name="Step").fill("30")
    page.get_by_role("spinbutton", name="Step").press("Enter")
    expect(page.locator(".numbers .main dd")).to_have_text("30")
    expect(page.locator(".verdict .badge")).to_have_text("Healthy")
    expect(page).to_have_url(re.compile("step=30"))
    page.get_by_role("button", name="First bad step").click()
    expect(page.locator(".numbers .main dd")).to_have_text("61")
    expect(page.locator(".verdict .badge")).to_have_text("Critical")
    expect(page.locator(".at-cursor")).to_contain_text("nonfinite")


def test_keys_jump_between_events_and_play(open_run: Open, hire: Hire) -> None:
    """`,` and `.` go to what happened, Space plays."""
    dead_run("jumped", hire)
    page = open_run("jumped", "?step=10")
    step = page.locator(".numbers .main dd")
    expect(step).to_have_text("10")
    page.locator("body").press(".")
    expect(step).to_have_text("61")
    page.locator("body").press(".")
    expect(step).to_have_text("90")
    page.locator("body").press(",")
    expect(step).to_have_text("61")
    page.get_by_role("combobox", name="Speed").select_option("100")
    page.locator("h1").click()
    page.locator("body").press(" ")
    expect(step).to_have_text("100")
    expect(page.get_by_role("button", name="Play")).to_be_visible()


def test_the_future_of_the_cursor_is_veiled(open_run: Open, hire: Hire) -> None:
    """Over each chart, right of the cursor."""
    dead_run("veiled", hire)
    page = open_run("veiled", "?step=50")
    until(
        page,
        """() => {
          const canvas = document.querySelector("[data-panel=loss] canvas.overlay");
          if (!canvas?.width) return false;
          const context = canvas.getContext("2d");
          const pixel = (share) => context.getImageData(canvas.width * share, canvas.height / 2, 1, 1).data[3];
          return pixel(0.9) > 100 && pixel(0.25) === 0;
        }""",
    )


def test_the_incident_is_written_out(open_run: Open, hire: Hire) -> None:
    """The chain leads from the first bad step to the refused checkpoint, each a link to its step."""
    dead_run("told", hire)
    page = open_run("told")
    incident = page.locator(".incident")
    expect(incident).to_contain_text(LAYERS[2])
    expect(incident.locator(".chain li").first).to_be_visible()
    expect(incident.locator(".chain")).to_contain_text("heckpoint")
    incident.locator(".chain button", has_text="61").first.click()
    expect(page.locator(".numbers .main dd")).to_have_text("61")
