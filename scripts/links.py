"""Follow every link of the built site, and see that no page needs a network to be read.

python scripts/links.py out/site               links within the site, to pages and to places in them
python scripts/links.py out/site --external    also asks the pages elsewhere
"""

from __future__ import annotations

import argparse
import sys
import urllib.error
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

# What a browser loads by itself when it shows a page.
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}


class Page(HTMLParser):
    """The places of a page that can be linked to, its links, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one element."""
        has = {key: value for key, value in attrs if value is not None}
        self.places |= {has[key] for key in ("id", "name") if key in has}
        if tag == "a" and "href" in has:
            self.links.append(has["href"])
        elif tag == "link" and has.get("rel") not in ("canonical", "search"):
            self.loads.append(has.get("href", ""))
        elif LOADED.get(tag) in has:
            self.loads.append(has[LOADED[tag]])


def is_elsewhere(link: str) -> bool:
    """Whether a link leaves the site."""
    return bool(urlsplit(link).scheme or urlsplit(link).netloc)


def answers(link: str) -> str:
    """What is wrong with a page elsewhere; empty if it is there."""
    request = urllib.request.Request(link, headers={"User-Agent": "lqrad-docs"})
    try:
        with urllib.request.urlopen(request, timeout=20):
            return ""
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        return str(error)


def main() -> int:
    """Print what is broken, then what was followed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--external", action="store_true", help="ask the pages elsewhere, too")
    options = parser.parse_args()
    site = options.site.resolve()
    shown = (path for path in site.rglob("*.html") if "_static" not in path.parts)
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in shown}

    broken, elsewhere, followed = [], set(), 0
    for path, page in sorted(pages.items()):
        here = path.relative_to(site)
        broken += [f"{here} loads {one}" for one in page.loads if one.startswith(("http", "//"))]
        for link in [*page.links, *(one for one in page.loads if not is_elsewhere(one))]:
            if is_elsewhere(link):
                elsewhere.add(urldefrag(link).url)
                continue
            followed += 1
            file, place = urldefrag(link)
            target = (path.parent / unquote(urlsplit(file).path)).resolve() if file else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                broken.append(f"{here}: {link} is not there")
            elif place and target in pages and unquote(place) not in pages[target].places:
                broken.append(f"{here}: {link} has no such place")

    if options.external:
        asked = {link: answers(link) for link in sorted(elsewhere) if link.startswith("http")}
        broken += [f"{link}: {what}" for link, what in asked.items() if what]
    print(*broken, sep="\n", end="\n" if broken else "")
    told = "asked" if options.external else "not asked"
    print(f"{followed} links within the site, {len(elsewhere)} pages elsewhere ({told}):", end=" ")
    print(f"{len(broken)} broken")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
