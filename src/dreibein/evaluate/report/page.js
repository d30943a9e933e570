// Draws the figures of the page, and the 3D view of the worst frames.
(() => {
  "use strict";

  const rootStyle = () => getComputedStyle(document.documentElement);

  // ---- theme -------------------------------------------------------------------------------

  // Strings "var(--name)" anywhere in a figure become the theme's colors.
  function resolve(node, style) {
    if (typeof node === "string") {
      const match = /^var\((--[a-z-]+)\)$/.exec(node);
      return match ? style.getPropertyValue(match[1]).trim() : node;
    }
    if (Array.isArray(node)) return node.map((item) => resolve(item, style));
    if (node && typeof node === "object") {
      return Object.fromEntries(Object.entries(node).map(([k, v]) => [k, resolve(v, style)]));
    }
    return node;
  }

  function template(style) {
    const color = (name) => style.getPropertyValue(name).trim();
    const axis = {
      gridcolor: color("--grid"), zerolinecolor: color("--line"), linecolor: color("--line"),
      tickcolor: color("--line"), ticks: "outside", ticklen: 4, showline: true, automargin: true,
      tickfont: { size: 12, color: color("--soft") },
      title: { font: { size: 13, color: color("--soft") }, standoff: 8 },
    };
    return {
      layout: {
        font: { family: color("--font"), size: 13, color: color("--ink") },
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        margin: { l: 60, r: 12, t: 34, b: 44 },
        xaxis: axis, yaxis: axis,
        legend: { orientation: "h", x: 0, y: 1.01, yanchor: "bottom", font: { size: 12.5 },
                  bgcolor: "rgba(0,0,0,0)" },
        modebar: { bgcolor: "rgba(0,0,0,0)", color: color("--muted"), activecolor: color("--ink") },
        hoverlabel: { bgcolor: color("--panel"), bordercolor: color("--line"),
                      font: { color: color("--ink"), size: 12.5 } },
        colorway: ["--blue", "--orange", "--teal", "--purple", "--red"].map(color),
      },
    };
  }

  const CONFIG = {
    responsive: true, displaylogo: false, displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  };

  // ---- flat figures ------------------------------------------------------------------------

  async function draw(figure) {
    const canvas = figure.querySelector(".canvas");
    try {
      const style = rootStyle();
      const spec = resolve(JSON.parse(figure.querySelector("script").textContent), style);
      const layout = { ...spec.layout, template: template(style), autosize: true };
      if (layout.showlegend === false && !layout.margin) layout.margin = { t: 14 };
      await Plotly.react(canvas, spec.data, layout, CONFIG);
      if (!canvas.querySelector(".main-svg")) throw new Error("nothing was drawn");
      figure.dataset.state = "drawn";
    } catch (error) {
      figure.dataset.state = "failed";
      canvas.innerHTML = '<div class="failed">This figure could not be drawn.</div>';
      console.error(`figure ${figure.id}: ${error.message}`);
    }
  }

  // ---- 3D frames ---------------------------------------------------------------------------

  const REFERENCE = "--teal", PREDICTION = "--orange", ERROR = "--red";
  const add = (a, b, s = 1) => [a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2]];
  const norm = (a) => Math.hypot(a[0], a[1], a[2]);
  const cross = (a, b) => [
    a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0],
  ];

  // A triangle mesh that grows: spheres, rods and cones share one trace per color.
  class Mesh {
    constructor() { this.x = []; this.y = []; this.z = []; this.i = []; this.j = []; this.k = []; }
    vertex(p) { this.x.push(p[0]); this.y.push(p[1]); this.z.push(p[2]); return this.x.length - 1; }
    face(a, b, c) { this.i.push(a); this.j.push(b); this.k.push(c); }

    sphere(center, radius, ball) {
      const first = this.x.length;
      for (const v of ball.vertices) this.vertex(add(center, v, radius));
      for (const [a, b, c] of ball.faces) this.face(first + a, first + b, first + c);
    }

    // A surface of revolution: profile is a list of [distance along the axis, radius].
    turn(from, along, profile, sides) {
      const length = norm(along);
      if (!(length > 1e-6)) return;
      const axis = along.map((c) => c / length);
      const helper = Math.abs(axis[0]) < 0.9 ? [1, 0, 0] : [0, 1, 0];
      let u = cross(axis, helper);
      u = u.map((c) => c / norm(u));
      const w = cross(axis, u);
      let before = null;
      for (const [distance, radius] of profile) {
        const middle = add(from, axis, distance);
        const ring = [];
        for (let s = 0; s < sides; s++) {
          const angle = (2 * Math.PI * s) / sides;
          const spoke = add(u.map((c) => c * Math.cos(angle)), w, Math.sin(angle));
          ring.push(this.vertex(add(middle, spoke, radius)));
        }
        if (before) {
          for (let s = 0; s < sides; s++) {
            const t = (s + 1) % sides;
            this.face(before[s], before[t], ring[t]);
            this.face(before[s], ring[t], ring[s]);
          }
        }
        before = ring;
      }
    }

    trace(color, opacity) {
      const { x, y, z, i, j, k } = this;
      return {
        type: "mesh3d", x, y, z, i, j, k, color, opacity, hoverinfo: "skip",
        // From over the reader's left shoulder: Plotly's light moves with the camera.
        lightposition: { x: -5e4, y: 8e4, z: 1e5 },
        lighting: { ambient: 0.5, diffuse: 0.65, specular: 0.25, roughness: 0.5, fresnel: 0.05},
      };
    }
  }

  // A ball of triangles: an octahedron divided `levels` times.
  function makeBall(levels) {
    let vertices = [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]];
    let faces = [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]];
    for (let level = 0; level < levels; level++) {
      const middles = new Map();
      const middle = (a, b) => {
        const key = a < b ? `${a},${b}` : `${b},${a}`;
        if (!middles.has(key)) {
          const sum = add(vertices[a], vertices[b]);
          middles.set(key, vertices.push(sum.map((c) => c / norm(sum))) - 1);
        }
        return middles.get(key);
      };
      faces = faces.flatMap(([a, b, c]) => {
        const ab = middle(a, b), bc = middle(b, c), ca = middle(c, a);
        return [[a, ab, ca], [b, bc, ab], [c, ca, bc], [ab, bc, ca]];
      });
    }
    return { vertices, faces };
  }

  const known = (f) => f && f[0] !== null && f[1] !== null && f[2] !== null;

  function arrowMesh(frame, forces, scale, width) {
    const mesh = new Mesh();
    forces.forEach((force, atom) => {
      if (!known(force)) return;
      const length = norm(force) * scale;
      if (length < 0.02) return;
      const radius = frame.elements[frame.z[atom]].radius;
      const head = Math.min(0.26, 0.5 * length);
      const slim = width * Math.min(1, length / 0.6); // short arrows stay arrows, not blobs
      const start = add(frame.pos[atom], force, (0.9 * radius) / norm(force));
      mesh.turn(start, force, [
        [0, 0], [0, slim], [length - head, slim], [length - head, 2.6 * slim], [length, 0],
      ], 10);
    });
    return mesh;
  }

  function forceError(frame) {
    if (!frame.reference || !frame.prediction) return null;
    return frame.reference.map((f, k) =>
      known(f) && known(frame.prediction[k]) ? add(frame.prediction[k], f, -1) : [null, null, null]);
  }

  const largest = (forces) => Math.max(0, ...forces.filter(known).map(norm));
  const three = (x) => (x === 0 ? "0" : Number(x.toPrecision(3)).toString());

  function frameTraces(frame, mode, labels, style) {
    const color = (name) => style.getPropertyValue(name).trim();
    const ball = makeBall(frame.z.length <= 60 ? 3 : frame.z.length <= 400 ? 2 : 1);
    const traces = [];
    for (const [z, element] of Object.entries(frame.elements)) {
      const mesh = new Mesh();
      frame.z.forEach((number, atom) => {
        if (number === Number(z)) mesh.sphere(frame.pos[atom], element.radius, ball);
      });
      traces.push(mesh.trace(element.color, 1));
    }
    if (frame.bonds.length) {
      const mesh = new Mesh();
      for (const [a, b] of frame.bonds) {
        const along = add(frame.pos[b], frame.pos[a], -1);
        mesh.turn(frame.pos[a], along, [[0, 0.09], [norm(along), 0.09]], 10);
      }
      traces.push(mesh.trace("#9aa3af", 1));
    }
    if (frame.cell) traces.push(cellTrace(frame, color("--muted")));
    const error = forceError(frame);
    const room = Math.max(1.4, 0.3 * Math.max(...frame.pos.map(norm))); // Å for the longest arrow
    let scale = 0, unit = "";
    if (mode === "forces") {
      const shown = [frame.reference, frame.prediction].filter(Boolean);
      const longest = Math.max(0, ...shown.map(largest));
      scale = longest ? room / longest : 0;
      if (frame.reference) traces.push(arrowMesh(frame, frame.reference, scale, 0.075).trace(color(REFERENCE), 0.45));
      if (frame.prediction) traces.push(arrowMesh(frame, frame.prediction, scale, 0.035).trace(color(PREDICTION), 1));
      unit = scale ? `Arrows: 1 Å is ${three(1 / scale)} eV/Å.` : "";
    } else if (mode === "error" && error) {
      const longest = largest(error);
      scale = longest ? room / longest : 0;
      traces.push(arrowMesh(frame, error, scale, 0.05).trace(color(ERROR), 1));
      unit = scale ? `Arrows: prediction minus reference, 1 Å is ${three(1000 / scale)} meV/Å.` : "";
    }
    traces.push(hoverTrace(frame, error, labels, color("--ink")));
    return { traces, unit };
  }

  function hoverTrace(frame, error, labels, ink) {
    const text = frame.symbols.map((symbol, atom) => {
      const lines = [`<b>${symbol} ${atom}</b>`];
      if (frame.reference && known(frame.reference[atom])) lines.push(`reference |F| ${three(norm(frame.reference[atom]))} eV/Å`);
      if (frame.prediction && known(frame.prediction[atom])) lines.push(`prediction |F| ${three(norm(frame.prediction[atom]))} eV/Å`);
      if (error && known(error[atom])) lines.push(`error ${three(1000 * norm(error[atom]))} meV/Å`);
      return lines.join("<br>");
    });
    const [x, y, z] = [0, 1, 2].map((axis) => frame.pos.map((p) => p[axis]));
    return {
      type: "scatter3d", mode: labels ? "markers+text" : "markers", x, y, z,
      text: frame.symbols.map((symbol, atom) => `${symbol} ${atom}`), textposition: "top center",
      textfont: { size: 12, color: ink }, marker: { size: 16, color: "rgba(0,0,0,0)" },
      hovertext: text, hovertemplate: "%{hovertext}<extra></extra>",
    };
  }

  // Middle and half size of the cube around everything drawn, arrows included.
  function bounds(traces) {
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    for (const trace of traces) {
      [trace.x, trace.y, trace.z].forEach((values, k) => {
        for (const value of values) {
          if (value === null) continue;
          if (value < low[k]) low[k] = value;
          if (value > high[k]) high[k] = value;
        }
      });
    }
    const middle = low.map((value, k) => (value + high[k]) / 2);
    return { middle, radius: Math.max(1, ...low.map((value, k) => (high[k] - value) / 2)) };
  }

  function cellTrace(frame, color) {
    const [a, b, c] = frame.cell, o = frame.corner;
    const corner = (i, j, k) => add(add(add(o, a, i), b, j), c, k);
    const edges = [];
    for (const [i, j] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      edges.push(corner(0, i, j), corner(1, i, j), [null, null, null]);
      edges.push(corner(i, 0, j), corner(i, 1, j), [null, null, null]);
      edges.push(corner(i, j, 0), corner(i, j, 1), [null, null, null]);
    }
    const [x, y, z] = [0, 1, 2].map((axis) => edges.map((p) => p[axis]));
    return { type: "scatter3d", mode: "lines", x, y, z, line: { color, width: 2 }, hoverinfo: "skip" };
  }

  function startViewer(figure) {
    const frames = JSON.parse(document.getElementById("frames-data").textContent);
    const byRow = new Map(frames.map((frame) => [frame.row, frame]));
    const rows = [...document.querySelectorAll("tr[data-row]")];
    const canvas = figure.querySelector(".canvas");
    let current = null, newFrame = true;

    async function show() {
      const frame = byRow.get(Number(current.dataset.row));
      const style = rootStyle();
      const mode = figure.querySelector('input[name="arrows"]:checked').value;
      const labels = document.getElementById("frame-labels").checked;
      const { traces, unit } = frameTraces(frame, mode, labels, style);
      const { middle, radius } = bounds(traces);
      const side = (k) => ({ visible: false, showspikes: false, range: [middle[k] - radius, middle[k] + radius] });
      const scene = { xaxis: side(0), yaxis: side(1), zaxis: side(2), aspectmode: "cube", dragmode: "orbit" };
      const look = frame.camera || { eye: [0.72, -0.62, 0.32], up: [0, 0, 1] };
      if (newFrame) {
        const away = frame.cell ? 2.1 : 1.45; // in units of the scene's cube
        const [x, y, z] = look.eye.map((c) => away * c), [p, q, r] = look.up;
        // Perspective: in Plotly's orthographic view the light fails.
        scene.camera = { eye: { x, y, z }, up: { x: p, y: q, z: r } };
      } else {
        scene.camera = canvas.layout.scene.camera; // as the reader turned it
      }
      const layout = {
        template: template(style), margin: { l: 0, r: 0, t: 0, b: 0 }, showlegend: false, scene,
        autosize: true,
      };
      await Plotly.react(canvas, traces, layout, CONFIG);
      newFrame = false;
      document.getElementById("frame-title").textContent = frame.title;
      document.getElementById("frame-title").title = frame.path;
      document.getElementById("frame-scale").textContent = `${frame.source}. ${unit}`;
      legend(frame, mode, style);
      figure.dataset.state = canvas.querySelector("canvas") ? "drawn" : "failed";
      if (figure.dataset.state === "failed") console.error(`figure ${figure.id}: no WebGL canvas`);
    }

    function legend(frame, mode, style) {
      const color = (name) => style.getPropertyValue(name).trim();
      const items = Object.values(frame.elements).map((e) => [e.color, e.symbol]);
      if (mode === "forces") {
        if (frame.reference) items.push([color(REFERENCE), "reference"]);
        if (frame.prediction) items.push([color(PREDICTION), "prediction"]);
      }
      const box = document.getElementById("frame-legend");
      box.replaceChildren(...items.map(([fill, name]) => {
        const item = document.createElement("span"), dot = document.createElement("i");
        dot.style.background = fill;
        item.append(dot, name);
        return item;
      }));
    }

    function choose(row) {
      if (current) current.classList.remove("chosen");
      newFrame = !current || current.dataset.row !== row.dataset.row;
      current = row;
      row.classList.add("chosen");
      return show().catch((error) => {
        figure.dataset.state = "failed";
        console.error(`figure ${figure.id}: ${error.message}`);
      });
    }

    rows.forEach((row, k) => {
      row.addEventListener("click", () => choose(row));
      row.addEventListener("keydown", (event) => {
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (step === undefined && event.key !== "Enter") return;
        event.preventDefault();
        const next = rows[Math.min(rows.length - 1, Math.max(0, k + (step || 0)))];
        next.focus();
        choose(next);
      });
    });
    figure.querySelectorAll("input").forEach((input) => input.addEventListener("change", show));
    return { started: choose(rows[0]), show };
  }

  // ---- start -------------------------------------------------------------------------------

  const figures = [...document.querySelectorAll("figure.plot")];
  const viewerFigure = document.getElementById("fig-frame");

  async function drawAll() {
    for (const figure of figures) {
      await draw(figure);
      await new Promise((next) => setTimeout(next, 0)); // keeps the page answering
    }
  }

  function watchSections() {
    const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
    const observer = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const link = links.get(entry.target.id);
        if (link) link.classList.toggle("here", entry.isIntersecting);
      }
    }, { rootMargin: "-20% 0px -70% 0px" });
    document.querySelectorAll("section").forEach((section) => observer.observe(section));
  }

  async function start() {
    watchSections();
    await drawAll();
    const viewer = viewerFigure ? startViewer(viewerFigure) : null;
    if (viewer) await viewer.started;
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", async () => {
      await drawAll();
      if (viewer) await viewer.show();
    });
    document.documentElement.dataset.ready = "yes";
  }

  start();
})();
