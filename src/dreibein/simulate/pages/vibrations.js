"use strict";
const page = data();
const viewer = new Molecule(document.getElementById("molecule"), page.atoms);
const rows = [...document.querySelectorAll("table.pick tr[data-row]")];
let plot = null;
function choose(k) {
  rows.forEach((row, n) => row.classList.toggle("chosen", n === k));
  viewer.show(page.modes[k].direction);
  document.getElementById("mode-title").textContent = page.modes[k].title;
  if (plot) { plot.chosen = page.modes[k].wavenumber; plot.draw(); }
}
rows.forEach((row, k) => {
  row.addEventListener("click", () => choose(k));
  row.addEventListener("keydown", (e) => {
    const to = { ArrowDown: k + 1, ArrowUp: k - 1, Enter: k }[e.key];
    if (to === undefined || !rows[to]) return;
    e.preventDefault(); rows[to].focus(); choose(to);
  });
});
const play = document.getElementById("play");
play.addEventListener("click", () => { viewer.playing = !viewer.playing; play.textContent = viewer.playing ? "Pause" : "Play"; });
document.getElementById("amplitude").addEventListener("input", (e) => { viewer.amplitude = +e.target.value; viewer.draw(); });
document.getElementById("speed").addEventListener("input", (e) => { viewer.speed = +e.target.value; });
if (page.plot) {
  page.plot.pick = (x) => {
    const away = page.modes.map((m) => Math.abs(m.wavenumber - x));
    choose(away.indexOf(Math.min(...away)));
  };
  plot = new Plot(document.getElementById("spectrum"), page.plot);
}
if (page.modes.length) choose(page.start);
document.documentElement.dataset.ready = "yes";
