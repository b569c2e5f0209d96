"""Pages of made-up runs, for the tests of the page and of its script."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from browser import Browser
from chip_classifier.review.contact_sheets import KnownChip
from chip_classifier.review.page import Findings, RunFacts, write_page
from chip_classifier.review.sample import Sample
from chip_classifier.review.scores import NO_TRUTH

RUN = RunFacts(
    archive="chips.tar",
    model="model.h5",
    model_description="96 x 96 chips, softmax",
    classes=[],
    ports={"size": "96", "normalization_vector": "123.68,116.779,103.939"},
    device="CPU",
    seconds=75.2,
    chips_per_second=4812.3,
    started="2026-01-31 10:00:00 UTC",
    version="2.0.0",
)
HOSTILE = [
    "<script>window.pwned = 1</script>",
    '"><img src=x onerror="window.pwned = 1">',
    "' onload='window.pwned = 1",
    "</bdi></figcaption></figure></ul></section><h1>taken over</h1>",
    "--> ]]> &amp;&lt;b&gt;",
    "a\nb\tc\x00d\x1b[31m",
    "not \udcff UTF-8 \ud800",
    "\u202egpj.exe\u2066\u200b",
    "$archive ${sheets} $$ $1",
    "{{ run }} {% if 1 %} {# x #}",
    "x" * 5000,
    "\u65e5\u672c\u8a9e" * 1667,
    "\u0627\u0644\u0633\u0644\u0627\u0645/Z\u00fcrich \U0001f6f0\ufe0f",
    "",
]
# Pairs of a text and its contrast with the background, below the 4.5 of WCAG 2.2, 1.4.3.
LOW_CONTRAST = """(() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const luminance = c => {
    const [r, g, b] = c.map(v => v / 255).map(
      v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = e => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0) return c.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const e of document.body.querySelectorAll('*')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const one = luminance(parse(getComputedStyle(e).color).slice(0, 3));
    const two = luminance(background(e));
    const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (contrast < 4.5) low.push([e.textContent, contrast]);
  }
  return low;
})()"""
IMAGES = """Promise.all(Array.from(document.images, image => image.decode().then(
  () => [image.naturalWidth, image.naturalHeight, image.width, image.height, image.alt],
  error => [String(error)])))"""


def noise(count: int, height: int, width: int) -> np.ndarray:
    """Make the chips that compress worst, (count, height, width, 3) uint8."""
    return np.random.default_rng(1).integers(0, 256, (count, height, width, 3), np.uint8)


def make_page(
    path: Path,
    class_indices: np.ndarray,
    certainties: np.ndarray,
    *,
    classes: list[str],
    chips: np.ndarray | None = None,
    names: Callable[[int], str | None] = "chip {}".format,
    reasons: dict[str, int] | None = None,
    skip: int = 0,
    run: RunFacts = RUN,
    truths: np.ndarray | None = None,
    centres: np.ndarray | None = None,
    values: Callable[[int], Sequence[tuple[int, float]]] = lambda _: (),
    **findings: object,
) -> str:
    """Run chips through a Sample in batches of 100, and return the page.

    The same chips come in each batch, (100, H, W, 3). The first `skip` chips of the run do not
    pass through it, as in a resumed run. `findings`: as Findings has them.
    """
    sample = Sample(len(classes))
    chips = noise(100, 16, 16) if chips is None else chips
    for start in range(skip, len(class_indices), 100):
        batch = slice(start, min(start + 100, len(class_indices)))
        chip_ids = list(range(batch.start, batch.stop))
        sample.add(chip_ids, chips[: len(chip_ids)], class_indices[batch], certainties[batch])
    facts = RunFacts(**{**vars(run), "classes": classes})
    known = {
        chip: KnownChip(
            names(chip),
            NO_TRUTH if truths is None else int(truths[chip]),
            (np.nan, np.nan) if centres is None else tuple(centres[chip].tolist()),
            values(chip),
        )
        for chip in sample.chip_ids() | {chip.chip_id for chip in findings.get("mistaken", ())}
        if names(chip) is not None
    }
    if findings.get("scores"):
        findings = {"headline": "Accuracy", **findings}
    found = Findings(class_indices, certainties, known, reasons or {}, **findings)
    write_page(path, facts, sample, found)
    return path.read_bytes().decode()


def contact_sheets(page: str) -> dict[str, dict[str, list[tuple[str, str]]]]:
    """Return class name -> group's title -> (certainty, name) of its chips, as shown."""
    return {
        re.search("<h3><bdi>(.*?)</bdi>", section)[1]: {
            title: re.findall("<b>(.*?)</b> <bdi>(.*?)</bdi>", group)
            for title, group in re.findall("<h4>(.*?)</h4>(.*?)</ul>", section, re.DOTALL)
        }
        for section in re.findall('<section class="sheet".*?</section>', page, re.DOTALL)
    }


def ids(group: list[tuple[str, str]]) -> list[int]:
    """Return the chip numbers of a group of chips that are named by number."""
    return [int(name.split()[1]) for _, name in group]


def texts(browser: Browser, selector: str) -> list[str]:
    """Return the visible texts of the elements that a CSS selector finds."""
    script = f"Array.from(document.querySelectorAll({selector!r}), e => e.innerText)"
    return [re.sub(r"\s+", " ", found).strip() for found in browser.evaluate(script)]
