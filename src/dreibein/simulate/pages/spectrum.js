"use strict";
const page = data();
page.plots.forEach((spec, k) => new Plot(document.getElementById(`plot-${k}`), spec));
document.documentElement.dataset.ready = "yes";
