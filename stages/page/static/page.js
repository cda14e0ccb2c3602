"use strict";
// Asks for the contents each second while the page is visible, less often if the proxy is slow to
// respond: then a busy proxy spends at most 1 % of its time on a page. Draws the plots.
(() => {
  const INTERVAL = 1000, SLOWEST = 5000, AFTER_FAILURE = 10000;
  const UNREACHABLE = "no connection to the proxy";
  const NOT_FOUND = "no news: its worker does not respond, or has ended";
  let failures = 0, last = 0, took = 0; // times in milliseconds

  // A browser refuses the requests of a page whose address has a password. `location` has none.
  if (new URL(document.baseURI).password) location.replace(location.href);

  function tick() {
    const busy = Math.min(Math.max(100 * took, INTERVAL), SLOWEST);
    const interval = failures ? AFTER_FAILURE : busy;
    if (document.visibilityState === "visible" && Date.now() - last >= interval * 0.9) {
      last = Date.now();
      document.body.dispatchEvent(new CustomEvent("tick"));
    }
  }

  function report(text) {
    failures = text ? failures + 1 : 0;
    const state = document.getElementById("state");
    if (state.textContent !== text) state.textContent = text;
  }

  const plots = new Map();

  function draw(element) {
    const { gaps, seconds } = element.dataset;
    const drawn = plots.get(element.id);
    if (drawn && drawn.element === element && drawn.gaps === gaps) return;
    if (drawn) drawn.plot.destroy();
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const points = JSON.parse(gaps);
    const unit = (most) => most < 1 ? (tick) => `${+(tick * 1000).toFixed(1)} ms` : (tick) => `${+tick.toFixed(2)} s`;
    const labels = (most) => (_, ticks) => ticks.map(unit(most));
    const longest = Math.max(...points.map((point) => point[1]));
    const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const plot = new uPlot({
      width: element.clientWidth - 16,
      height: 150,
      legend: { show: false },
      cursor: { y: false, points: { size: 6 } },
      scales: { x: { time: false, range: [0, Number(seconds) || 1] }, y: { range: (_, __, max) => [0, Math.max(max, 0.001) * 1.1] } },
      axes: [{ ...axis, size: 24, values: labels(Number(seconds)) }, { ...axis, size: 56, values: labels(longest) }],
      series: [{}, {
        stroke: color("--accent"), width: 1,
        fill: color("--accent"),
        paths: uPlot.paths.bars({ size: [0.6, 6, 2], align: 0 }),
        points: { show: true, size: 4, fill: color("--accent"), stroke: color("--accent") },
      }],
    }, [points.map((point) => point[0]), points.map((point) => point[1])], element);
    plots.set(element.id, { element, gaps, plot });
  }

  function drawAll() {
    document.querySelectorAll(".plot").forEach(draw);
  }

  function redraw() {
    for (const { plot } of plots.values()) plot.destroy();
    plots.clear();
    drawAll();
  }

  document.addEventListener("DOMContentLoaded", drawAll);
  document.addEventListener("htmx:after:swap", () => { report(""); drawAll(); });
  document.addEventListener("htmx:after:request", () => { took = Date.now() - last; });
  document.addEventListener("htmx:error", () => report(UNREACHABLE));
  document.addEventListener("htmx:before:swap", (event) => {
    const { status } = event.detail.ctx.response;
    if (status >= 400) {
      event.preventDefault();
      report(status === 404 ? NOT_FOUND : UNREACHABLE);
    }
  });
  document.addEventListener("visibilitychange", tick);
  window.addEventListener("resize", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  setInterval(tick, INTERVAL);
})();
