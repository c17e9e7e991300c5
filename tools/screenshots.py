"""Play a scene in the demo, and save its screenshots in docs/images: `python tools/screenshots.py`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from demo_pages import Demo, Person, chromium, demo  # noqa: E402  (found through sys.path above)

DESKTOP = {"viewport": {"width": 1360, "height": 1000}, "device_scale_factor": 2}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}


async def main() -> None:
    """Play the scene, and save the screenshots."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    async with chromium() as browser, demo(browser) as running:
        ben = await scene(running)
        await picture(ben, "demo-desktop.png")
        cleo = await running.person("Cleo", "client-signed", color_scheme="dark", **PHONE)
        await cleo.go("garden")
        await cleo.sees("See you there")
        await picture(cleo, "demo-phone.png")


async def scene(running: Demo) -> Person:
    """Ada admits Ben to her room, and they talk; returns the page of Ben."""
    ada = await running.person("Ada", "client-signed", room="garden")
    ben = await running.person("Ben", "server-stored", room="garden", **DESKTOP)
    await talk(
        (ben, "Is the kiln still warm?"),
        (ada, "It is. Come to the Studio, I will let you in."),
        (ben, "See you there!"),
    )
    await ada.go("studio")
    await ben.go("studio", "refused")
    await ben.press("Ask Ada to let you in")
    await ada.press("Admit Ben")
    await ben.is_in("studio")
    await talk(
        (ben, "Thank you for letting me in."),
        (ada, "You are welcome. There is room on the upper shelf, if you want to fire the blue ones today."),
        (ada, "Mind the door, it sticks."),
        (ben, "Two bowls and a jug, then."),
    )
    return ben


async def talk(*lines: tuple[Person, str]) -> None:
    """Send messages one after another. Waits for each to be seen."""
    for person, line in lines:
        await person.say(line)
        await person.sees(line)


async def picture(person: Person, name: str) -> None:
    """Save a screenshot of a person's page."""
    await person.page.mouse.move(0, 0)
    await person.page.screenshot(path=IMAGES / name)
    print(IMAGES / name)


if __name__ == "__main__":
    asyncio.run(main())
