"""The button that repairs a running model."""

import sqlite3
from collections.abc import Callable

from playwright.sync_api import Page, expect

from program import Program
from scripted import LAYERS, Trainer

Open = Callable[..., Page]
Hire = Callable[..., Trainer]


def broken_run(run: str, hire: Hire, open_run: Open, **options: object) -> tuple[Trainer, Page]:
    """A run with two broken layers, on the screen."""
    trainer = hire(run, **options)
    trainer.train(30)
    trainer.break_layers(LAYERS[2], LAYERS[3])
    trainer.train(5)
    page = open_run(run)
    expect(page.locator(".verdict .badge")).to_have_text("Critical")
    return trainer, page


def test_the_button_is_disabled_with_a_reason_while_nothing_is_corrupt(open_run: Open, hire: Hire) -> None:
    """And becomes usable when something breaks, without reloading."""
    trainer = hire("sound")
    trainer.train(10)
    page = open_run("sound")
    expect(page.locator("#sanitize")).to_be_disabled()
    expect(page.locator("#sanitize-why")).to_have_text("nothing is corrupt")
    trainer.break_layers(LAYERS[0])
    trainer.train(3)
    expect(page.locator("#sanitize")).to_be_enabled()


def test_a_dry_run_is_listed_then_confirmed_and_followed_to_verified_and_undone(open_run: Open, hire: Hire) -> None:
    """The dialog lists what the trainer would replace; the ladder says at which step it was done."""
    trainer, page = broken_run("repairable", hire, open_run)
    page.locator("#sanitize").click()
    dialog = page.get_by_role("dialog", name="Sanitize")
    expect(dialog.locator("tbody tr")).to_have_count(2)
    expect(dialog.locator("tbody tr").first).to_contain_text(LAYERS[2])
    expect(dialog.locator("tbody tr").first).to_contain_text("3 of 16")
    expect(dialog.locator("tbody tr").first).to_contain_text("12 steps old")
    dialog.get_by_role("radio", name="Reset").check()
    expect(dialog.locator("#confirm")).to_have_text("Reset 2 layers")
    expect(dialog.locator("tbody tr").first).to_contain_text("mean 0, variance 1")
    dialog.get_by_role("radio", name="Restore").check()
    expect(dialog.locator("#confirm")).to_have_text("Restore 2 layers")
    assert trainer.broken
    dialog.locator("#confirm").click()
    expect(dialog).to_be_hidden()
    ladder = page.locator(".command .ladder")
    expect(ladder).to_have_attribute("data-state", "verified")
    expect(ladder).to_contain_text("applied at step 35")
    trainer.train(5)
    expect(page.locator("#sanitize-why")).to_have_text("nothing is corrupt")
    expect(page.locator("table.audit tbody tr")).to_have_count(1)
    page.locator(".command").get_by_role("button", name="Undo").click()
    expect(page.locator("table.audit tbody tr")).to_have_count(2)
    expect(page.locator("table.audit tbody tr").first).to_contain_text("undo")
    expect(page.locator("table.audit tbody tr").last).to_contain_text("undone")


def test_a_refusal_is_shown_with_its_reason(open_run: Open, hire: Hire) -> None:
    """In the dialog when the dry run is refused, on the ladder when the repair is."""
    trainer, page = broken_run("refusing", hire, open_run, answer="refuse")
    page.locator("#sanitize").click()
    dialog = page.get_by_role("dialog", name="Sanitize")
    expect(dialog.locator(".ladder")).to_have_attribute("data-state", "refused")
    expect(dialog).to_contain_text("the script says no")
    expect(dialog.locator("#confirm")).to_have_count(0)
    dialog.get_by_role("button", name="Cancel").click()
    trainer.answer = "repair"
    page.locator("#sanitize").click()
    expect(dialog.locator("#confirm")).to_be_visible()
    trainer.answer = "refuse"
    dialog.locator("#confirm").click()
    expect(page.locator(".command .ladder")).to_have_attribute("data-state", "refused")
    expect(page.locator(".command .ladder")).to_contain_text("the script says no")


def test_a_command_nobody_takes_expires(open_run: Open, hire: Hire, program: Program) -> None:
    """The ladder ends in `expired`; its thirty seconds are shortened in the store."""
    trainer, page = broken_run("expiring", hire, open_run)
    page.locator("#sanitize").click()
    expect(page.locator("#confirm")).to_be_visible()
    trainer.answer = "ignore"
    page.locator("#confirm").click()
    expect(page.locator(".command .ladder")).to_have_attribute("data-state", "requested")
    with sqlite3.connect(program.directory / "trainvitals.db", timeout=10) as database:
        database.execute("UPDATE commands SET expires = requested WHERE state = 'requested'")
    database.close()
    expect(page.locator(".command .ladder")).to_have_attribute("data-state", "expired")
    expect(page.locator(".command .ladder")).to_contain_text("not delivered in time")


def test_a_trainer_that_allows_nothing_cannot_be_asked(open_run: Open, hire: Hire) -> None:
    """The reason names whose decision it is."""
    _, page = broken_run("closed", hire, open_run, allow=())
    expect(page.locator("#sanitize")).to_be_disabled()
    expect(page.locator("#sanitize-why")).to_have_text("this trainer does not allow remote repair")
