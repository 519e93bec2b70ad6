"use strict";
// Everything works without this script; it refreshes lists and draws timelines.

// A page with a "refresh by itself" box replaces what is marked data-live.
const follow = document.getElementById("follow");
if (follow) {
  const live = () => document.querySelector("[data-live]");
  const refresh = async () => {
    if (!follow.checked || document.hidden || live().contains(document.activeElement)) return;
    if (live().querySelector("input[name=id]:checked, details[open]")) return; // somebody is busy with it
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      live().replaceWith(page.querySelector("[data-live]"));
      wire();
    } catch { /* the server is away: the next round tries again */ }
  };
  follow.checked = sessionStorage.getItem("follow") === "1";
  follow.addEventListener("change", () => sessionStorage.setItem("follow", follow.checked ? "1" : ""));
  setInterval(refresh, Number(follow.dataset.every));
}

function wire() {
  const all = document.querySelector("[data-all]");
  if (all) all.addEventListener("change", () => {
    for (const box of document.querySelectorAll("input[name=id]")) box.checked = all.checked;
  });
}
wire();

// How many instances the filter selects, by status: a count may take longer than a page.
const sum = document.querySelector("[data-count][data-src]");
if (sum) {
  const count = async () => {
    try {
      const answer = await fetch(sum.dataset.src + location.search);
      if (!answer.ok) return;
      const data = await answer.json();
      for (const place of document.querySelectorAll("[data-count]")) {
        const n = place === sum ? data.total : data.counts[place.dataset.count];
        place.textContent = n === undefined ? "" : n.toLocaleString("en");
      }
      sum.textContent += data.total === 1 ? " instance" : " instances";
    } catch { /* the list does without */ }
  };
  count();
  setInterval(() => { if (follow && follow.checked && !document.hidden) count(); }, 5000);
}

const place = document.getElementById("timeline");
if (place) drawTimeline(place);

async function drawTimeline(place) {
  let data;
  try {
    data = await (await fetch(place.dataset.src)).json();
  } catch {
    return;
  }
  const now = Date.now();
  const spans = data.spans.map((s) => ({ ...s, from: Date.parse(s.start), to: s.end ? Date.parse(s.end) : now }));
  if (spans.length === 0) return;
  const first = Math.min(...ends(spans, "from")), last = Math.max(...ends(spans, "to"), first + 1);
  const canvas = document.createElement("canvas");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${spans.length} spans; the history lists the same event by event. Plus and minus zoom, arrows move.`);
  const tip = document.createElement("p");
  tip.className = "tip";
  tip.setAttribute("aria-live", "polite");
  place.prepend(canvas, tip);
  if (data.more) tip.textContent = "Only the first spans are shown.";

  const row = 16, shown = 30;
  let from = first, to = last, top = 0;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = { activity: "#4c8bf5", timer: "#a07be0", child: "#2fa37c", event: "#e0902f" };
  const at = (t) => ((t - from) / (to - from)) * canvas.clientWidth;

  function draw() {
    const scale = devicePixelRatio || 1, width = canvas.clientWidth, height = row * Math.min(shown, spans.length) + 20;
    canvas.style.height = height + "px";
    canvas.width = width * scale;
    canvas.height = height * scale;
    const c = canvas.getContext("2d");
    c.scale(scale, scale);
    c.font = "11px system-ui";
    for (let n = 0; n < shown && top + n < spans.length; n++) { // only the rows that can be seen
      const s = spans[top + n], x = at(s.from), w = Math.max(at(s.to) - x, 2);
      c.fillStyle = s.state === "failed" ? "#d6453d" : colour[s.kind] || "#8a919e";
      c.globalAlpha = s.state === "open" ? 0.5 : 1;
      c.fillRect(x, n * row + 2, w, row - 4);
      c.globalAlpha = 1;
      c.fillStyle = dark.matches ? "#e4e7ec" : "#1b1f27";
      c.fillText(`${s.kind} ${s.name}`, Math.min(Math.max(x + 4, 4), width - 120), n * row + 12);
    }
    c.fillStyle = dark.matches ? "#e4e7ec" : "#1b1f27";
    c.fillText(new Date(from).toISOString(), 4, height - 6);
    const right = new Date(to).toISOString();
    c.fillText(right, width - c.measureText(right).width - 4, height - 6);
  }
  function zoom(by, middle) {
    from = middle - (middle - from) * by;
    to = middle + (to - middle) * by;
    if (to - from > last - first) { from = first; to = last; }
    draw();
  }
  function move(share) {
    const by = (to - from) * share;
    from += by;
    to += by;
    draw();
  }
  function scroll(rows) {
    top = Math.max(0, Math.min(spans.length - shown, top + rows));
    draw();
  }
  canvas.addEventListener("wheel", (e) => {
    e.preventDefault();
    if (e.ctrlKey || e.metaKey) zoom(e.deltaY > 0 ? 1.25 : 0.8, from + (e.offsetX / canvas.clientWidth) * (to - from));
    else if (e.shiftKey) move(Math.sign(e.deltaY || e.deltaX) / 10);
    else scroll(Math.sign(e.deltaY) * 3);
  }, { passive: false });
  canvas.addEventListener("keydown", (e) => {
    const act = {
      "+": () => zoom(0.8, (from + to) / 2), "-": () => zoom(1.25, (from + to) / 2),
      ArrowLeft: () => move(-0.1), ArrowRight: () => move(0.1), ArrowUp: () => scroll(-1), ArrowDown: () => scroll(1),
      PageUp: () => scroll(-shown), PageDown: () => scroll(shown), Home: () => scroll(-spans.length), End: () => scroll(spans.length),
    }[e.key];
    if (act) { e.preventDefault(); act(); }
  });
  const under = (e) => {
    const s = spans[top + Math.floor(e.offsetY / row)];
    return s && e.offsetX >= at(s.from) - 3 && e.offsetX <= at(s.to) + 3 ? s : undefined;
  };
  canvas.addEventListener("mousemove", (e) => {
    const s = under(e);
    if (s) tip.textContent = `${s.kind} ${s.name} #${s.id}: ${s.state}, ${s.start}${s.end ? ` to ${s.end}` : ""}, ${s.to - s.from} ms`;
  });
  canvas.addEventListener("click", (e) => {
    const s = under(e);
    if (s && s.link) location.href = s.link;
  });
  addEventListener("resize", draw);
  dark.addEventListener("change", draw);
  draw();
}

// ends yields the smallest and largest of a field: Math.min takes no 50,000 arguments.
function ends(spans, field) {
  let low = Infinity, high = -Infinity;
  for (const s of spans) { low = Math.min(low, s[field]); high = Math.max(high, s[field]); }
  return [low, high];
}
