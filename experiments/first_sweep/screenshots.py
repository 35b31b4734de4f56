"""Pictures of a report: python screenshots.py REPORT.html FOLDER (needs selenium and Chromium)."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

SIZES = {"wide": 1280, "narrow": 420}


def main() -> None:
    """The top of the page in a wide and a narrow window, and each section's start."""
    page, folder = Path(sys.argv[1]).absolute(), Path(sys.argv[2])
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tempfile.mkdtemp()}")
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    for name, width in SIZES.items():
        size = {"width": width, "height": 860, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get(page.as_uri())
        driver.save_screenshot(str(folder / f"report_{name}.png"))
        heads = driver.find_elements("css selector", "h2") if name == "wide" else []
        for i, head in enumerate(heads):
            driver.execute_script("arguments[0].scrollIntoView()", head)
            driver.save_screenshot(str(folder / f"report_{i}.png"))
            print(i, head.text)
    print(driver.get_log("browser"))
    driver.quit()


if __name__ == "__main__":
    main()
