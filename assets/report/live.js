// Of the page that a run serves while it goes on: says how far the run is, and puts each newer page in the place of the one
// before. What is being read stays where it is, and tables keep their order.
(() => {
  const every = 1000;
  let shown = Number(document.currentScript.dataset.version);
  let missed = 0;
  const line = document.createElement("p");
  line.id = "live";
  line.setAttribute("role", "status");
  document.body.prepend(line);
  const say = (text) => {
    if (line.textContent !== text) line.textContent = text;
  };

  // The table of a heading, by the section it is in, and the heading's column.
  const sorted = () =>
    [...document.querySelectorAll("th[aria-sort]")].map((heading) => ({
      section: heading.closest("section")?.id,
      column: heading.cellIndex,
      order: heading.getAttribute("aria-sort"),
    }));
  const sort = ({ section, column, order }) => {
    const heading = section && document.getElementById(section)?.querySelectorAll("thead th")[column];
    // The first press sorts upwards, the next downwards.
    for (let press = 0; heading && heading.getAttribute("aria-sort") !== order && press < 2; press += 1) {
      heading.querySelector("button")?.click();
    }
  };
  const scrolled = () => [...document.querySelectorAll("main [tabindex]")].map((box) => box.scrollLeft);
  // The first section that is on the screen, and how far below its top.
  const place = () => {
    const section = [...document.querySelectorAll("main section[id]")].find((s) => s.getBoundingClientRect().bottom > 0);
    return section && { id: section.id, top: section.getBoundingClientRect().top };
  };

  const swap = (fresh) => {
    const [at, orders, boxes, y] = [place(), sorted(), scrolled(), window.scrollY];
    const open = [...document.querySelectorAll("main details")].map((details) => details.open);
    document.title = fresh.title;
    for (const part of ["header", "main"]) {
      document.querySelector(part)?.replaceWith(document.adoptNode(fresh.querySelector(part)));
    }
    // Scripts of a parsed page do not run: the one that makes tables sort does so again, for the new ones.
    for (const script of fresh.querySelectorAll("script:not([data-version])")) {
      const again = document.createElement("script");
      again.textContent = `{${script.textContent}}`;
      document.body.append(again);
      again.remove();
    }
    orders.forEach(sort);
    document.querySelectorAll("main details").forEach((details, i) => (details.open = open[i] ?? details.open));
    document.querySelectorAll("main [tabindex]").forEach((box, i) => (box.scrollLeft = boxes[i] ?? 0));
    const section = at && document.getElementById(at.id);
    if (section) window.scrollBy(0, section.getBoundingClientRect().top - at.top);
    else window.scrollTo(0, y);
  };

  const refresh = async () => {
    const answer = await fetch("/", { cache: "no-store" });
    if (!answer.ok) return;
    const version = Number(answer.headers.get("X-Version"));
    const text = await answer.text();
    if (version === shown) return;
    swap(new DOMParser().parseFromString(text, "text/html"));
    shown = version;
  };

  const words = ({ state, run, round, rounds }) => {
    if (state === "done") return "done";
    return rounds === 0 ? "running, not in its first round yet" : `running, round ${Math.min(round + 1, rounds)} of ${rounds}: ${run}`;
  };

  const look = async () => {
    try {
      const status = await (await fetch("/status", { cache: "no-store" })).json();
      missed = 0;
      if (status.version !== shown) await refresh();
      // Only once the last page is there.
      if (status.state !== "done" || status.version === shown) say(words(status));
      if (status.state === "done" && status.version === shown) return;
    } catch {
      missed += 1;
      if (missed > 2) {
        say("the program has ended, and this page no longer grows");
        return;
      }
    }
    setTimeout(look, every);
  };
  look();
})();
