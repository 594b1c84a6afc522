"""A run that is deleted while somebody looks at it."""

from collections.abc import Callable

import httpx
from playwright.sync_api import Page, expect

from program import Program
from scripted import Trainer
from watching import Watch


def test_the_page_of_a_deleted_run_says_so_and_the_list_is_without_it(
    open_run: Callable[..., Page], hire: Callable[..., Trainer], program: Program, watch: Watch
) -> None:
    """With the moment and the reason."""
    trainer = hire("doomed")
    trainer.train(30)
    trainer.finish()
    trainer.close()
    page = open_run("doomed")
    watch.allow("404")
    headers = {"Authorization": f"Bearer {program.token('control')}"}
    address = f"{program.url}/api/runs/doomed?force=true"
    assert httpx.delete(address, headers=headers, trust_env=False).status_code == 202
    expect(page.get_by_role("heading", name="No such run")).to_be_visible()
    expect(page.get_by_text("run doomed was deleted on 20")).to_be_visible()
    page.get_by_role("link", name="All runs", exact=True).click()
    expect(page.locator("tr[data-run=doomed]")).to_have_count(0)
