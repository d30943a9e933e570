"use strict";
// A molecule as balls and sticks on a canvas, turned with the pointer and moved along a mode.
class Molecule {
  constructor(canvas, atoms) {
    Object.assign(this, { canvas, atoms, mode: null, phase: 0, playing: true, amplitude: 0.5, speed: 1, zoom: 1 });
    this.turn = [[1, 0, 0], [0, 0.94, -0.34], [0, 0.34, 0.94]];
    this.size = Math.max(1.5, ...atoms.positions.map((p) => Math.hypot(...p))) + 1.2;
    canvas.addEventListener("pointerdown", (e) => { this.at = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); });
    canvas.addEventListener("pointermove", (e) => { if (this.at) this.rotate(e); });
    canvas.addEventListener("pointerup", () => { this.at = null; });
    canvas.addEventListener("wheel", (e) => { e.preventDefault(); this.zoom *= Math.exp(-0.001 * e.deltaY); this.draw(); }, { passive: false });
    new ResizeObserver(() => this.draw()).observe(canvas);
    let last = performance.now();
    const frame = (now) => {
      if (this.playing && this.mode) { this.phase += 0.006 * this.speed * Math.min(now - last, 100); this.draw(); }
      last = now;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
    this.draw();
  }
  rotate(e) {
    const [dx, dy] = [(e.clientX - this.at[0]) * 0.01, (e.clientY - this.at[1]) * 0.01];
    this.at = [e.clientX, e.clientY];
    const [c, s, d, t] = [Math.cos(dx), Math.sin(dx), Math.cos(dy), Math.sin(dy)];
    const step = [[c, 0, s], [t * s, d, -t * c], [-d * s, t, d * c]];
    this.turn = step.map((row) => [0, 1, 2].map((k) => row.reduce((sum, x, m) => sum + x * this.turn[m][k], 0)));
    this.draw();
  }
  show(mode) { this.mode = mode; this.phase = 0; this.draw(); }
  draw() {
    const { canvas, atoms } = this, box = canvas.getBoundingClientRect(), ratio = devicePixelRatio || 1;
    if (!box.width) return;
    canvas.width = box.width * ratio; canvas.height = box.height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const unit = this.zoom * Math.min(box.width, box.height) / (2 * this.size);
    const wave = this.mode ? this.amplitude * Math.sin(this.phase) : 0;
    const points = atoms.positions.map((p, k) => {
      const q = this.mode ? p.map((x, a) => x + wave * this.mode[k][a]) : p;
      const [x, y, z] = this.turn.map((row) => row[0] * q[0] + row[1] * q[1] + row[2] * q[2]);
      const near = 1 / (1 - z / (6 * this.size));
      return { x: box.width / 2 + x * unit * near, y: box.height / 2 - y * unit * near, z, near };
    });
    const parts = atoms.positions.map((_, k) => ({ z: points[k].z, k }));
    for (const [i, j] of atoms.bonds) parts.push({ z: Math.min(points[i].z, points[j].z) - 0.01, i, j });
    parts.sort((a, b) => a.z - b.z);
    for (const part of parts) {
      if (part.k === undefined) this.bond(pen, points[part.i], points[part.j], unit);
      else this.ball(pen, points[part.k], part.k, unit);
    }
    canvas.dataset.state = "drawn";
    canvas.dataset.frame = `${points[0].x.toFixed(2)},${points[0].y.toFixed(2)}`;
  }
  bond(pen, a, b, unit) {
    pen.lineCap = "round"; pen.strokeStyle = "#8b94a3"; pen.lineWidth = 0.17 * unit * a.near;
    pen.beginPath(); pen.moveTo(a.x, a.y); pen.lineTo(b.x, b.y); pen.stroke();
  }
  ball(pen, p, k, unit) {
    const radius = this.atoms.radii[k] * unit * p.near;
    const light = pen.createRadialGradient(p.x - 0.35 * radius, p.y - 0.4 * radius, 0.1 * radius, p.x, p.y, radius);
    light.addColorStop(0, "#ffffff"); light.addColorStop(0.35, this.atoms.colors[k]); light.addColorStop(1, this.atoms.dark[k]);
    pen.fillStyle = light; pen.beginPath(); pen.arc(p.x, p.y, radius, 0, 2 * Math.PI); pen.fill();
  }
}
