// Fetches the part of the page that changes when the server says that something has changed. Forms are not in that
// part, so what was typed stays. Nothing is stored, and nobody else is asked.
"use strict";
(() => {
  const path = document.body.dataset.events;
  const live = document.getElementById("live");
  if (!path || !live) return;
  // Not the address of the page: the answer to a form stands at that of the form.
  const page = path.slice(0, -"/events".length);
  const announce = document.getElementById("announce");
  const lost = document.getElementById("lost");
  const say = (text) => { if (announce.textContent !== text) announce.textContent = text; };
  const heading = () => live.querySelector("[data-announce]")?.textContent ?? "";
  let busy = false, again = false;

  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const address = new URL(page + location.search, location.href);
      address.searchParams.set("part", "live");
      const answer = await fetch(address, { credentials: "same-origin", redirect: "error" });
      if ([404, 409, 410].includes(answer.status)) { gone(); return; }
      if (!answer.ok) throw new Error(String(answer.status));
      const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const fresh of parsed.querySelectorAll("[data-live]")) {
        const old = document.getElementById(fresh.id);
        if (old) swap(old, fresh);
      }
      lost.hidden = true;
    } catch {
      lost.hidden = false;
      again = true;
    }
    await new Promise((done) => setTimeout(done, 1000));
    busy = false;
    if (again) { again = false; refresh(); }
  }

  // There is no such page any more, as when the request was deleted: asking again would change nothing.
  function gone() {
    events.close();
    clearInterval(ticking);
    live.removeAttribute("data-runs");
    const state = live.querySelector("[data-announce]");
    if (state) state.textContent = "This request is gone. What you see is how it was.";
    say(heading());
  }

  // Keeps the focus on what has it, and says what the new state is.
  function swap(old, fresh) {
    const before = heading();
    const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const open = new Set([...old.querySelectorAll("details[open]")].map((it) => it.id));
    old.replaceChildren(...fresh.childNodes);
    for (const it of old.querySelectorAll("details")) if (open.has(it.id)) it.open = true;
    if (focused) [...old.querySelectorAll("a")].find((it) => it.getAttribute("href") === focused)?.focus();
    for (const name of ["data-runs", "data-waits", "data-said"]) old.toggleAttribute(name, fresh.hasAttribute(name));
    if (old !== live) return;
    if (heading() !== before) say(heading());
    const stale = document.getElementById("stale");
    if (stale) stale.hidden = fresh.dataset.plan === stale.dataset.shown;
  }

  const events = new EventSource(path);
  events.addEventListener("changed", refresh);
  // The first event of a connection comes at once, and brings the page up to date.
  events.addEventListener("error", () => { lost.hidden = false; });
  // Times go on while nothing changes.
  const ticking = setInterval(() => { if (live.hasAttribute("data-runs") && !document.hidden) refresh(); }, 5000);
})();
