// The states of a field over a moving window: a row for each series, a block for as long as a state holds.
import { noteOldest, setClock, shown } from "console_window";

const REDRAW_MS = 1000;
const TINTS = 6;

export default {
  template: `
    <figure class="chart strip">
      <figcaption class="chart-head">
        <span class="chart-name">{{ spec.name }}</span>
        <span class="strip-legend">
          <span v-for="one in legend" :key="one.state" class="strip-state">
            <i class="strip-dot" :class="one.tint"></i>{{ one.state }}
          </span>
        </span>
      </figcaption>
      <p v-if="!rows.length" class="strip-empty">{{ spec.empty }}</p>
      <div v-else class="strip-rows" role="table" :aria-label="spec.label">
        <div v-for="row in rows" :key="row.key" class="strip-row" role="row">
          <span class="strip-name" role="rowheader">{{ row.label }}</span>
          <span class="strip-track" role="cell" :aria-label="'now ' + row.now">
            <span v-for="block in row.blocks" :key="block.key" class="strip-block" :class="block.tint" :style="block.style"
              :title="block.title">{{ block.text }}</span>
          </span>
          <span class="strip-now" role="cell">{{ row.now }}</span>
        </div>
      </div>
    </figure>`,
  props: { spec: Object },
  data: () => ({ rows: [], legend: [] }),
  created() {
    this.lines = new Map();
    this.states = new Map(); // state -> tint, in order of appearance
  },
  mounted() {
    this.timer = setInterval(() => this.draw(), REDRAW_MS);
  },
  unmounted() {
    noteOldest(this, undefined);
    clearInterval(this.timer);
  },
  methods: {
    // {now: ms, lines: [[key, label, colour, dash]], points: {key: [[first bucket, last bucket, state]]}}
    push({ now, lines = [], points = {} }) {
      setClock(now);
      for (const [key, label] of lines) {
        this.lines.set(key, Object.assign(this.lines.get(key) ?? { blocks: [] }, { label }));
      }
      for (const [key, several] of Object.entries(points)) {
        for (const [first, last, state] of several) {
          this.insert(this.lines.get(key).blocks, first * this.spec.bucket, last * this.spec.bucket, state);
        }
      }
      this.forget(); // here too: a hidden page does not draw, and must not fill the memory
      this.draw();
    },
    drop(devices) {
      for (const key of [...this.lines.keys()]) {
        if (devices.includes(key.split("\x1f")[0])) this.lines.delete(key);
      }
      this.draw();
    },
    insert(blocks, from, to, state) {
      const last = blocks[blocks.length - 1];
      if (last && from < last.from) return; // too late: the order of states cannot be corrected
      if (last && last.state === state && from - last.to < this.spec.holds) {
        last.to = Math.max(last.to, to);
        return;
      }
      if (last && from - last.to < this.spec.holds) last.to = from;
      blocks.push({ from, to, state });
    },
    tint(state) {
      if (state === "yes" || state === "no") return `state-${state}`;
      if (!this.states.has(state)) this.states.set(state, `state-${Math.min(this.states.size, TINTS)}`);
      return this.states.get(state);
    },
    draw() {
      if (document.hidden) return;
      this.forget();
      const { from, to } = shown(this.spec.window);
      const lines = [...this.lines].sort(([, a], [, b]) => a.label.localeCompare(b.label, "en", { numeric: true }));
      this.rows = lines.map(([key, line]) => ({
        key, label: line.label, now: line.blocks[line.blocks.length - 1].state,
        blocks: line.blocks.map((block, place) => this.block(block, place === line.blocks.length - 1, from, to)),
      }));
      const states = new Set(lines.flatMap(([, line]) => line.blocks.map((block) => block.state)));
      this.legend = [...states].sort().map((state) => ({ state, tint: this.tint(state) }));
    },
    forget() {
      const oldest = shown(this.spec.window).to - this.spec.window;
      for (const [key, line] of this.lines) {
        line.blocks = line.blocks.filter((block) => block.to >= oldest);
        if (!line.blocks.length) this.lines.delete(key);
      }
      const firsts = [...this.lines.values()].map(({ blocks }) => Math.max(oldest, blocks[0].from));
      noteOldest(this, firsts.length ? Math.min(...firsts) : undefined);
    },
    block({ from: since, to: until, state }, isLast, from, to) {
      const end = isLast && to - until < this.spec.holds ? to : until; // a state that still holds
      const left = Math.max(0, (since - from) / (to - from));
      const width = Math.min(1, (end - from) / (to - from)) - left;
      const clock = (time) => new Date(time).toLocaleTimeString([], { hour12: false });
      return {
        key: `${since} ${state}`, tint: this.tint(state), text: width > 0.14 ? state : "",
        title: `${state}, ${clock(Math.max(since, from))} to ${clock(end)}`,
        style: { left: `${(left * 100).toFixed(2)}%`, width: `${(Math.max(0.002, width) * 100).toFixed(2)}%` },
      };
    },
  },
};
