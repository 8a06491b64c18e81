// What the pages do without this, they do with a click more.
"use strict";

// Browsers may keep a whole page in memory for the Back button, even after a logout
// and despite no-store. Hide it when it is left, and load it anew when it comes back.
addEventListener("pagehide", () => { document.documentElement.hidden = true; });
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

// A choice that shows something is taken at once, but not from the keyboard, where
// each arrow key would be a choice: there the button beside it sends the form.
for (const select of document.querySelectorAll("select[data-submit]")) {
  select.addEventListener("change", () => {
    if (!select.matches(":focus-visible")) select.form.requestSubmit();
  });
}

// A log goes on where the page ends. Lines are whatever a function has written:
// they are put in as text, never as HTML.
for (const log of document.querySelectorAll("[data-log]")) {
  const state = document.querySelector("[data-log-state]");
  const pause = document.querySelector("[data-log-pause]");
  const most = 2000; // lines that are kept
  let stream = null, from = log.dataset.log, paused = false, waiting = [];

  const add = (lines) => {
    const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    for (const line of lines) {
      const time = document.createElement("time");
      time.dateTime = line.exact;
      time.title = line.exact + " " + (line.instance || "");
      time.textContent = line.time;
      log.append(time, document.createTextNode(line.text + "\n"));
    }
    while (log.childNodes.length > 2 * most) log.firstChild.remove();
    if (atEnd) log.scrollTop = log.scrollHeight;
    if (lines.length) document.querySelector("[data-log-empty]")?.remove();
  };
  const say = (text) => { if (state.textContent !== text) state.textContent = text; };
  const stop = () => { stream?.close(); stream = null; };
  const start = () => {
    if (stream) return;
    stream = new EventSource(from);
    stream.onopen = () => say(paused ? "Paused" : "Live, times in UTC");
    stream.onmessage = (event) => {
      const url = new URL(from, location.href);
      url.searchParams.set("from", event.lastEventId);
      from = url.pathname + url.search;
      const line = JSON.parse(event.data);
      if (!paused) return add([line]);
      waiting.push(line);
      if (waiting.length > most) waiting.shift();
    };
    stream.onerror = () => {
      if (stream.readyState === EventSource.CLOSED) {
        stop();
        say("The log has ended here. Load it again.");
      } else {
        say("The connection is lost, trying again");
      }
    };
  };
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
    say(paused ? "Paused" : "Live, times in UTC");
    if (!paused) { add(waiting); waiting = []; }
  });
  document.addEventListener("visibilitychange", () => document.hidden ? stop() : start());
  addEventListener("pagehide", stop);
  pause.hidden = false;
  log.scrollTop = log.scrollHeight;
  start();
}
