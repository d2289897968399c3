// The curves of a field over a moving window, a line for each series. The browser holds the points, so that the server
// sends each of them once; points that leave the window are forgotten, so that a page left open for a day stays small.
import { echarts } from "nicegui-echart";
import { digitsOf, settledRange } from "console_axis";
import { labels, noteOldest, setClock, shown } from "console_window";

const REDRAW_MS = 1000;
const PALE = 0.14; // the opacity of all lines except the one pointed at
const DASHES = ["solid", [6, 3], [2, 3], [8, 3, 2, 3]];
const dark = window.matchMedia("(prefers-color-scheme: dark)");

export default {
  template: `
    <figure class="chart">
      <figcaption class="chart-head">
        <span class="chart-name">{{ spec.name }}</span>
        <span class="chart-unit">{{ spec.unit }}</span>
        <span class="chart-now" title="the newest values, from the lowest to the highest">{{ now }}</span>
      </figcaption>
      <div class="chart-body">
        <div ref="plot" class="chart-plot" role="img" :aria-label="spec.label + (now ? '; now ' + now : '')"></div>
        <p v-if="empty" class="chart-empty">{{ spec.empty }}</p>
      </div>
      <div v-if="spec.limits" class="chart-limits">{{ spec.limits }}</div>
    </figure>`,
  props: { spec: Object },
  data: () => ({ empty: false, now: "" }),
  created() {
    this.lines = new Map();
    this.drawnAt = 0;
    this.visible = true;
  },
  mounted() {
    this.chart = echarts.init(this.$refs.plot, null, { renderer: "canvas" });
    this.restyle();
    this.resizer = new ResizeObserver(() => this.chart.resize());
    this.resizer.observe(this.$refs.plot);
    this.watcher = new IntersectionObserver(
      ([entry]) => {
        this.visible = entry.isIntersecting;
        if (this.visible) this.draw();
      },
      { rootMargin: "400px" },
    );
    this.watcher.observe(this.$el);
    this.onScheme = () => this.restyle();
    dark.addEventListener("change", this.onScheme);
    this.onPoint = (event) => this.point(event.detail);
    window.addEventListener("console-point", this.onPoint);
    this.timer = setInterval(() => Date.now() - this.drawnAt > REDRAW_MS * 0.8 && this.draw(), REDRAW_MS);
  },
  unmounted() {
    noteOldest(this, undefined);
    clearInterval(this.timer);
    dark.removeEventListener("change", this.onScheme);
    window.removeEventListener("console-point", this.onPoint);
    this.resizer.disconnect();
    this.watcher.disconnect();
    this.chart.dispose();
  },
  methods: {
    // {now: ms, lines: [[key, label, colour, dash]], points: {key: [[bucket, mean, weight]]}, last: {key: [ms, value]}}
    push({ now, lines = [], points = {}, last = {} }) {
      setClock(now);
      for (const [key, label, colour, dash] of lines) {
        const line = this.lines.get(key) ?? { points: [], last: [0, 0] };
        this.lines.set(key, Object.assign(line, { label, colour, dash }));
      }
      for (const [key, several] of Object.entries(points)) {
        const line = this.lines.get(key);
        for (const [bucket, mean, weight] of several) this.insert(line.points, bucket * this.spec.bucket, mean, weight);
        const newest = last[key] ?? line.points[line.points.length - 1];
        if (newest[0] >= line.last[0]) line.last = newest;
      }
      this.forget(); // here too: a hidden page does not draw, and must not fill the memory
      this.empty = !this.lines.size;
      this.draw();
    },
    drop(devices) {
      for (const key of [...this.lines.keys()]) {
        if (devices.includes(key.split("\x1f")[0])) this.lines.delete(key);
      }
      this.draw();
    },
    insert(points, time, mean, weight) {
      let place = points.length;
      while (place > 0 && points[place - 1][0] > time) place--; // nearly always the end
      const same = points[place - 1];
      if (!same || same[0] !== time) return points.splice(place, 0, [time, mean, weight]);
      same[1] = (same[1] * same[2] + mean * weight) / (same[2] + weight);
      same[2] += weight;
    },
    draw() {
      if (!this.chart || !this.visible || document.hidden) return;
      this.drawnAt = Date.now();
      this.forget();
      const time = shown(this.spec.window);
      const { low, high, newest } = this.extent(time.to);
      this.empty = low > high;
      if (!this.empty) this.range = settledRange(this.range, low, high, this.spec);
      const { from = 0, to = 1, step = 1 } = this.range ?? {};
      this.digits = digitsOf(step);
      this.now = this.describe(newest);
      const { times, format } = labels(time, this.chart.getWidth() / 80);
      this.chart.setOption(
        {
          xAxis: { min: time.from, max: time.to, axisLabel: { customValues: times, formatter: format } },
          yAxis: { min: from, max: to, interval: step, show: !this.empty },
          series: [...this.lines].map(([key, line]) => this.series(key, line)).concat(this.limits(from, to)),
        },
        { replaceMerge: ["series"] },
      );
    },
    forget() {
      const oldest = shown(this.spec.window).to - this.spec.window - this.spec.bucket;
      for (const [key, { points }] of this.lines) {
        const gone = points.findIndex(([time]) => time >= oldest);
        points.splice(0, gone < 0 ? points.length : gone);
        if (!points.length) this.lines.delete(key);
      }
      const firsts = [...this.lines.values()].map(({ points }) => points[0][0]);
      noteOldest(this, firsts.length ? Math.min(...firsts) : undefined);
    },
    extent(to) {
      let low = Infinity, high = -Infinity;
      const newest = [];
      for (const { points, last } of this.lines.values()) {
        for (const [, value] of points) {
          if (value < low) low = value;
          if (value > high) high = value;
        }
        if (to - last[0] < this.spec.window / 3) newest.push(last[1]);
      }
      return { low, high, newest };
    },
    series(key, { label, colour, dash, points }) {
      const tint = this.tints[colour % this.tints.length];
      return {
        id: key, name: label, type: "line", animation: false, data: this.withGaps(points),
        showSymbol: points.length < 3, symbol: "circle", symbolSize: 5, emphasis: { disabled: true },
        lineStyle: { width: 1.6, type: DASHES[dash % DASHES.length], opacity: this.paleness(label), cap: "round" },
        itemStyle: { color: tint, opacity: this.paleness(label) }, z: this.pointed && this.paleness(label) === 1 ? 3 : 2,
      };
    },
    // Break a line where its device paused for much longer than usual.
    withGaps(points) {
      const usual = (points[points.length - 1][0] - points[0][0]) / Math.max(1, points.length - 1);
      const longest = Math.max(30_000, 4 * usual);
      return points.flatMap((point, place) => {
        const broken = place && point[0] - points[place - 1][0] > longest;
        return broken ? [[point[0] - 1, null], point] : [point];
      });
    },
    // The rule's limits, if they are in sight.
    limits(from, to) {
      const seen = [this.spec.min, this.spec.max].filter((limit) => limit != null && limit > from && limit < to);
      if (!seen.length || this.empty) return [];
      return [{
        id: "limits", type: "line", data: [], silent: true, tooltip: { show: false },
        markLine: {
          silent: true, symbol: "none", animation: false, label: { show: false },
          lineStyle: { color: this.ink.bad, type: "dashed", width: 1 }, data: seen.map((limit) => ({ yAxis: limit })),
        },
      }];
    },
    paleness(label) {
      return this.pointed && label !== this.pointed && !label.startsWith(this.pointed + " · ") ? PALE : 1;
    },
    point(device) {
      this.pointed = device;
      this.draw();
    },
    format(value) {
      return value.toLocaleString("en", { maximumFractionDigits: this.digits + 1 });
    },
    describe(newest) {
      if (!newest.length) return "";
      const [low, high] = [this.format(Math.min(...newest)), this.format(Math.max(...newest))];
      return low === high ? low : `${low} – ${high}`;
    },
    tooltip(shown) {
      const box = document.createElement("div");
      const add = (parent, name, text) => {
        const element = parent.appendChild(document.createElement("div"));
        element.className = name;
        element.textContent = text;
        return element;
      };
      add(box, "tip-time", new Date(shown[0].value[0]).toLocaleTimeString([], { hour12: false }));
      const rows = shown.filter((one) => one.value[1] != null).sort((a, b) => b.value[1] - a.value[1]);
      for (const one of rows) {
        const row = add(box, "tip-row", "");
        add(row, "tip-dot", "").style.background = one.color;
        add(row, "tip-name", one.seriesName);
        add(row, "tip-value", this.format(one.value[1]));
      }
      return box;
    },
    restyle() {
      const style = getComputedStyle(this.$el);
      const read = (name) => style.getPropertyValue(name).trim();
      this.tints = [0, 1, 2, 3, 4, 5, 6, 7].map((place) => read(`--line-${place}`));
      this.ink = { bad: read("--bad"), muted: read("--muted"), line: read("--line"), card: read("--card"), text: read("--text") };
      const label = { color: this.ink.muted, fontSize: 11, fontFamily: style.fontFamily };
      this.chart.setOption({
        animation: false,
        grid: { left: 46, right: 10, top: 8, bottom: 22 },
        xAxis: {
          type: "value", axisLine: { lineStyle: { color: this.ink.line } }, axisTick: { show: false }, splitLine: { show: false },
          axisLabel: label,
        },
        yAxis: {
          type: "value", splitLine: { lineStyle: { color: this.ink.line } }, axisLine: { show: false }, axisTick: { show: false },
          axisLabel: { ...label, formatter: (value) => this.tick(value) },
        },
        tooltip: {
          trigger: "axis", confine: true, transitionDuration: 0, padding: [8, 10], formatter: (shown) => this.tooltip(shown),
          backgroundColor: this.ink.card, borderColor: this.ink.line, textStyle: { ...label, color: this.ink.text, fontSize: 12 },
          axisPointer: { lineStyle: { color: this.ink.muted, type: "solid", opacity: 0.5 }, animation: false },
        },
      });
      this.draw();
    },
    tick(value) {
      const size = Math.abs(value);
      if (size >= 1e6) return `${+(value / 1e6).toPrecision(4)}M`;
      if (size >= 1e5) return `${+(value / 1e3).toPrecision(4)}k`;
      return value.toLocaleString("en", { maximumFractionDigits: this.digits ?? 2 });
    },
  },
};
