// Times in the reader's zone, and charts drawn from the tables that the page already has.
"use strict";
(() => {
  const local = new Intl.DateTimeFormat(undefined, {year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit"});
  const drawn = new Set();

  function localTimes(within) {
    for (const time of within.querySelectorAll("time[datetime]:not([data-keep])")) {
      const moment = new Date(time.dateTime);
      if (!Number.isNaN(moment.getTime())) time.textContent = local.format(moment);
    }
  }

  function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

  // Lines differ by their dashes, too.
  const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [1, 5], [14, 5]];

  function short(value, form, unit) {
    if (value == null) return "";
    if (value === 0) return unit === "$" ? "$0" : form === "seconds" ? "0 s" : "0";
    if (form === "seconds") return value < 10 ? `${value.toFixed(1)} s` : value < 120 ? `${Math.round(value)} s` : value < 7200 ? `${Math.round(value / 60)} min` : value < 172800 ? `${(value / 3600).toFixed(1)} h` : `${(value / 86400).toFixed(1)} d`;
    if (form === "size") {
      const units = ["B", "kB", "MB", "GB", "TB"]; let n = 0, left = value;
      while (Math.abs(left) >= 1000 && n < units.length - 1) { left /= 1000; n += 1; }
      return `${left >= 100 || n === 0 ? Math.round(left) : left.toFixed(1)} ${units[n]}`;
    }
    const text = Math.abs(value) >= 1e6 ? `${(value / 1e6).toFixed(1)} M` : value.toLocaleString(undefined, {maximumFractionDigits: Math.abs(value) < 100 ? 2 : 0});
    return unit === "$" ? `$${text}` : text;
  }

  function draw(figure) {
    const place = figure.querySelector(".plot"), table = figure.querySelector("table");
    const heads = [...table.tHead.rows[0].cells].slice(1), rows = [...table.tBodies[0].rows];
    if (!rows.length || typeof uPlot === "undefined") return;
    const days = rows.map(row => row.cells[0].textContent.trim());
    const xs = days.map(day => Date.parse(`${day}T00:00:00Z`) / 1000);
    const data = [xs, ...heads.map((_, n) => rows.map(row => { const text = row.cells[n + 1].dataset.v; return text === "" ? null : Number(text); }))];
    const axis = {stroke: colour("--soft"), grid: {stroke: colour("--line"), width: 1}, ticks: {show: false}, font: "12px system-ui"};
    const form = heads[0].dataset.form, unit = heads[0].dataset.unit;
    const bars = figure.dataset.kind === "bars" ? uPlot.paths.bars({size: [0.6, 40]}) : undefined;
    const DASHES_OF_LEGEND = ["solid", "dashed", "dotted", "double", "dotted", "dashed"];
    const whole = data.slice(1).every(values => values.every(v => v == null || Number.isInteger(v)));
    const steps = form === "seconds" ? [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800]
      : whole ? [1, 2, 5].flatMap(n => [...Array(13).keys()].map(power => n * 10 ** power)).sort((a, b) => a - b) : undefined;
    const options = {
      padding: [14, 12, 0, 0],
      legend: {markers: {width: 3, dash: (_, n) => DASHES_OF_LEGEND[(n - 1 + 6) % 6]}},
      width: Math.max(240, place.clientWidth), height: place.clientWidth < 500 ? 200 : 230,
      tzDate: seconds => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
      cursor: {points: {size: 7}, drag: {x: false, y: false}},
      scales: {y: {range: (_, low, high) => [Math.min(0, low ?? 0), (high ?? 1) > 0 ? high * 1.08 : 1]}},
      series: [
        {label: "day", value: (_, x) => x == null ? "" : new Date(x * 1000).toISOString().slice(0, 10)},
        ...heads.map((head, n) => ({
          label: head.textContent.trim(), stroke: colour(`--c${n % 6 + 1}`), width: 2, dash: DASHES[n % 6], paths: bars,
          fill: bars ? colour(`--c${n % 6 + 1}`) : undefined, points: {show: rows.length < 3},
          value: (_, v) => short(v, head.dataset.form, head.dataset.unit),
        })),
      ],
      axes: [{...axis, values: (_, ticks) => ticks.map(x => new Date(x * 1000).toLocaleDateString(undefined, {day: "numeric", month: "short", timeZone: "UTC"})), space: 62, size: 32},
             {...axis, size: 64, ...(steps && Math.max(...data.slice(1).flat().map(v => v ?? 0)) >= 1 ? {incrs: steps} : {}), values: (_, ticks) => ticks.map(v => short(v, form, unit))}],
    };
    place.replaceChildren();
    place.classList.add("drawn");
    const chart = new uPlot(options, data, place);
    drawn.add({figure, chart});
  }

  function drawAll(within) { for (const figure of within.querySelectorAll("figure.chart")) draw(figure); }

  function redraw() {
    for (const one of [...drawn]) {
      drawn.delete(one);
      one.chart.destroy();
      if (one.figure.isConnected) draw(one.figure);
    }
  }

  function begin() {
    localTimes(document);
    drawAll(document);
    // The link that `medallion dashboard` prints has the token after the #, which no server sees.
    const token = document.getElementById("token");
    if (token && location.hash.startsWith("#token=")) {
      token.value = decodeURIComponent(location.hash.slice(7));
      history.replaceState(null, "", location.pathname + location.search);
      token.form.requestSubmit();
    }
    let width = innerWidth, waiting;
    addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; clearTimeout(waiting); waiting = setTimeout(redraw, 150); } });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    document.body.addEventListener("htmx:afterSwap", () => localTimes(document));
    // The newest days are at the right end.
    for (const grid of document.querySelectorAll(".grid")) grid.scrollLeft = grid.scrollWidth;
    const current = document.querySelector(".menu [aria-current]");
    if (current && innerWidth <= 860) current.parentElement.scrollIntoView({inline: "center", block: "nearest"});
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin); else begin();
})();
