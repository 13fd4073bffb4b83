"use strict";
// Renews what is marked data-refresh every three seconds. Without this the page is complete, and stands still.
(() => {
  const EVERY = 3000, LONGEST = 30000, PATIENCE = 15000;
  const LIVE = "The page is renewed every three seconds; press to hold it still";
  const toggle = document.getElementById("live");
  const lost = document.getElementById("lost");
  const announcer = document.getElementById("announcer");
  const shown = () => document.querySelector("[data-refresh]");
  if (!shown() || !toggle) return;

  let live = true, wait = EVERY, timer = 0, turn = 0, failedSince = null, spoken = shown().dataset.spoken;

  const scrolled = (node) => [...node.querySelectorAll(".scroll[id]")].map((one) => [one.id, one.scrollLeft]);
  const opened = (node) => [...node.querySelectorAll("details[id][open]")].map((one) => one.id);

  function selecting() {
    const chosen = getSelection();
    return chosen && !chosen.isCollapsed && shown().contains(chosen.anchorNode);
  }

  function put(text, address) {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const next = fresh.querySelector("[data-refresh]");
    if (!next) return false;
    // Its links are relative to where it came from, which after an order is not where we are.
    for (const name of ["href", "action"]) {
      for (const node of next.querySelectorAll(`[${name}]`)) {
        node.setAttribute(name, new URL(node.getAttribute(name), address).href);
      }
    }
    const old = shown();
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    const places = scrolled(old), open = opened(old);
    const left = scrollX, top = scrollY;
    old.replaceWith(document.adoptNode(next));
    for (const id of open) {
      const node = document.getElementById(id);
      if (node) node.open = true;
    }
    for (const [id, place] of places) {
      const node = document.getElementById(id);
      if (node) node.scrollLeft = place;
    }
    if (focused) {
      // A button that is not legal any more is gone: the keyboard goes on at its run, not at the page's top.
      const run = focused.match(/-(\d+)$/);
      const node = document.getElementById(focused) || (run && document.getElementById("run-" + run[1]));
      if (node) node.focus({ preventScroll: true });
    }
    scrollTo(left, top);
    document.title = fresh.title;
    if (next.dataset.spoken !== spoken) announcer.textContent = spoken = next.dataset.spoken;
    return true;
  }

  function answered(fine) {
    if (fine) {
      failedSince = null;
      wait = EVERY;
    } else {
      failedSince = failedSince || new Date();
      wait = Math.min(LONGEST, wait * 2);
    }
    lost.hidden = fine;
    toggle.classList.toggle("lost", !fine);
    if (!fine) {
      const text = "The dashboard has not answered since " + failedSince.toISOString().slice(11, 19) +
        "; what is shown is older than that. It is tried again.";
      if (lost.textContent !== text) lost.textContent = text;
    }
  }

  // Whether an answer came, and was shown unless it is not wanted any more: an order may have brought a newer one.
  async function ask(address, options, wanted) {
    const answer = await fetch(address, {
      cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(PATIENCE), ...options,
    });
    const text = await answer.text();
    if (!wanted() || put(text, answer.url)) return true;
    // Something else than a page of ours: a login that has run out leads to where one logs in.
    if (answer.redirected) location.assign(answer.url);
    return false;
  }

  async function renew() {
    clearTimeout(timer);
    if (!live) return;
    const mine = ++turn;
    if (!document.hidden && !selecting()) {
      let fine = false;
      try {
        fine = await ask(location.href, {}, () => mine === turn && live && !selecting());
      } catch (error) {
        fine = false;
      }
      if (mine === turn) answered(fine);
    }
    if (mine === turn) timer = setTimeout(renew, wait);
  }

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("form[data-order]")) return;
    event.preventDefault();
    const mine = ++turn;
    clearTimeout(timer);
    const body = new URLSearchParams(new FormData(form));
    // After FormData: a disabled button would drop the focus, so only further presses are kept off.
    if (form.dataset.sent) return;
    form.dataset.sent = "yes";
    form.closest("details")?.removeAttribute("open");
    try {
      answered(await ask(form.action, { method: "POST", body }, () => mine === turn));
    } catch (error) {
      delete form.dataset.sent;
      answered(false);
    }
    timer = setTimeout(renew, wait);
  });

  toggle.hidden = false;
  toggle.title = LIVE;
  toggle.addEventListener("click", () => {
    live = !live;
    toggle.classList.toggle("held", !live);
    toggle.textContent = live ? "Live" : "Held";
    toggle.title = live ? LIVE : "The page is held still; press to have it renewed again";
    if (live) renew();
    else clearTimeout(timer);
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) renew(); });
  timer = setTimeout(renew, wait);
})();
