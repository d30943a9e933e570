"use strict";
// A plot on a canvas: lines and sticks over x, which runs as `reversed` says; drag to zoom in x.
const COLORS = ["blue", "orange", "teal", "purple", "red"];
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function ticks(from, to, count) {
  const raw = (to - from) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= raw);
  const found = [];
  for (let t = Math.ceil(from / step) * step; t <= to + 1e-9 * step; t += step) found.push(t);
  return found;
}

class Plot {
  constructor(canvas, spec) {
    this.canvas = canvas;
    this.spec = spec;
    this.whole = spec.range || this.extent();
    this.range = [...this.whole];
    this.chosen = null;
    canvas.addEventListener("pointerdown", (e) => { this.from = e.offsetX; this.to = e.offsetX; canvas.setPointerCapture(e.pointerId); });
    canvas.addEventListener("pointermove", (e) => { if (this.from !== undefined) this.to = e.offsetX; this.mouse = e.offsetX; this.draw(); });
    canvas.addEventListener("pointerup", () => this.zoom());
    canvas.addEventListener("pointerleave", () => { this.mouse = undefined; this.draw(); });
    canvas.addEventListener("dblclick", () => { this.range = [...this.whole]; this.draw(); });
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.draw();
  }
  extent() {
    const all = this.spec.series.flatMap((s) => [Math.min(...s.x), Math.max(...s.x)]);
    return [Math.min(...all), Math.max(...all)];
  }
  zoom() {
    if (this.from !== undefined && Math.abs(this.to - this.from) > 8) {
      const ends = [this.valueAt(this.from), this.valueAt(this.to)].sort((a, b) => a - b);
      this.range = [Math.max(ends[0], this.whole[0]), Math.min(ends[1], this.whole[1])];
    } else if (this.spec.pick && this.from !== undefined) this.spec.pick(this.valueAt(this.from));
    this.from = this.to = undefined;
    this.draw();
  }
  place(x) {
    const part = (x - this.range[0]) / (this.range[1] - this.range[0]);
    return this.left + (this.spec.reversed ? 1 - part : part) * this.width;
  }
  valueAt(pixel) {
    let part = (pixel - this.left) / this.width;
    if (this.spec.reversed) part = 1 - part;
    return this.range[0] + part * (this.range[1] - this.range[0]);
  }
  draw() {
    const { canvas, spec } = this, box = canvas.getBoundingClientRect(), scale = devicePixelRatio || 1;
    if (!box.width) return;
    canvas.width = box.width * scale; canvas.height = box.height * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    this.left = 52; this.width = box.width - 64;
    const rows = spec.stacked ? spec.series.length : 1, bottom = box.height - 40, top = 22;
    const height = (bottom - top) / rows;
    pen.font = "12px system-ui, sans-serif";
    pen.strokeStyle = color("line"); pen.fillStyle = color("soft"); pen.textAlign = "center";
    for (const t of ticks(this.range[0], this.range[1], Math.max(3, box.width / 110))) {
      const x = this.place(t);
      pen.beginPath(); pen.moveTo(x, top); pen.lineTo(x, bottom); pen.stroke();
      pen.fillText(String(+t.toPrecision(6)), x, bottom + 16);
    }
    pen.fillText(spec.xlabel, this.left + this.width / 2, bottom + 34);
    pen.save(); pen.translate(14, (top + bottom) / 2); pen.rotate(-Math.PI / 2); pen.fillText(spec.ylabel, 0, 0); pen.restore();
    const inside = (x) => x >= this.range[0] && x <= this.range[1];
    const peak = (s) => Math.max(1e-30, ...s.y.filter((_, k) => inside(s.x[k])));
    const together = Math.max(...spec.series.map(peak));
    spec.series.forEach((s, n) => {
      const most = spec.stacked ? peak(s) : together, base = spec.stacked ? top + (n + 1) * height : bottom;
      const up = (y) => base - (y / most) * (height - 16);
      pen.save();
      pen.beginPath(); pen.rect(this.left, 0, this.width, box.height); pen.clip();
      pen.strokeStyle = color(s.color || COLORS[n % COLORS.length]); pen.lineWidth = 1.5; pen.beginPath();
      s.x.forEach((x, k) => {
        if (s.kind === "sticks") { pen.moveTo(this.place(x), base); pen.lineTo(this.place(x), up(s.y[k])); }
        else if (k) pen.lineTo(this.place(x), up(s.y[k])); else pen.moveTo(this.place(x), up(s.y[k]));
      });
      pen.stroke();
      pen.fillStyle = color("soft"); pen.textAlign = "center"; pen.font = "11px system-ui, sans-serif";
      let last = -1e9, raised = 0;
      for (const mark of [...(s.marks || [])].sort((a, b) => this.place(a.x) - this.place(b.x))) {
        if (!inside(mark.x)) continue;
        const x = this.place(mark.x);
        raised = x - last < 90 ? (raised + 1) % 3 : 0;
        last = x;
        pen.fillText(mark.text, Math.min(Math.max(x, this.left + 40), this.left + this.width - 40), Math.max(up(mark.y) - 5 - 12 * raised, base - height + 10));
      }
      if (spec.stacked) {
        pen.textAlign = "left"; pen.fillStyle = color(s.color || COLORS[n % COLORS.length]); pen.font = "600 12px system-ui, sans-serif";
        pen.fillText(s.label, this.left + 6, base - height + 12);
      }
      pen.restore();
      pen.strokeStyle = color("line"); pen.beginPath(); pen.moveTo(this.left, base); pen.lineTo(this.left + this.width, base); pen.stroke();
    });
    if (this.chosen !== null && inside(this.chosen)) this.line(pen, this.place(this.chosen), top, bottom, "red");
    if (this.from !== undefined && Math.abs(this.to - this.from) > 3) {
      pen.fillStyle = color("chosen"); pen.globalAlpha = 0.5;
      pen.fillRect(Math.min(this.from, this.to), top, Math.abs(this.to - this.from), bottom - top); pen.globalAlpha = 1;
    } else if (this.mouse !== undefined && this.mouse > this.left && this.mouse < this.left + this.width) {
      this.line(pen, this.mouse, top, bottom, "soft");
      pen.fillStyle = color("ink"); pen.textAlign = "center"; pen.font = "12px system-ui, sans-serif";
      pen.fillText(this.valueAt(this.mouse).toFixed(0), Math.min(Math.max(this.mouse, 70), box.width - 30), 14);
    }
    canvas.dataset.state = "drawn";
  }
  line(pen, x, top, bottom, name) {
    pen.strokeStyle = color(name); pen.lineWidth = 1; pen.setLineDash([4, 3]);
    pen.beginPath(); pen.moveTo(x, top); pen.lineTo(x, bottom); pen.stroke(); pen.setLineDash([]);
  }
}

function data() { return JSON.parse(document.getElementById("data").textContent); }
