// The newest rejections. Those of the same kind, on the same topic, are shown once and counted.

const KEPT = 25;

export default {
  template: `
    <div class="rejections">
      <p v-if="!items.length" class="table-empty">{{ empty }}</p>
      <ul v-else class="rejection-list" aria-live="off">
        <li v-for="item in items" :key="item.kind" class="rejection">
          <div class="rejection-head">
            <span class="rejection-device">{{ item.device || "unknown device" }}</span>
            <span v-if="item.count > 1" class="rejection-count" title="so often since this page was opened, and shortly before">×{{ item.count }}</span>
            <time class="rejection-time" :datetime="new Date(item.at).toISOString()">{{ when(item.at) }}</time>
          </div>
          <div class="rejection-title">{{ item.title }}</div>
          <p v-for="reason in item.reasons" class="reason">
            <code>{{ reason.where }}</code> expected {{ reason.expected }};
            <span class="reason-got">got {{ reason.got }}</span>
            <span v-if="reason.hint" class="reason-hint">{{ reason.hint }}</span>
          </p>
          <p v-if="item.more" class="reason">and {{ item.more }} more</p>
          <details class="rejection-payload">
            <summary title="show the payload">{{ item.topic || "line for the store" }}<span class="rejection-size">{{ item.bytes }}</span></summary>
            <p v-if="item.records" class="reason">{{ item.records }}</p>
            <pre>{{ item.payload || "(empty)" }}</pre>
          </details>
        </li>
      </ul>
    </div>`,
  props: { empty: String },
  data: () => ({ items: [] }),
  created() {
    this.known = new Set(); // keys: rejections read from the disk may arrive again, live
  },
  methods: {
    // the oldest first
    push(news) {
      let items = this.items;
      for (const item of news) {
        if (this.known.has(item.key)) continue;
        this.known.add(item.key);
        const same = items.find((one) => one.kind === item.kind);
        items = [{ ...item, count: (same?.count ?? 0) + 1 }, ...items.filter((one) => one !== same)];
      }
      this.items = items.slice(0, KEPT);
      if (this.known.size > 500) this.known = new Set([...this.known].slice(-200));
    },
    when(at) {
      const time = new Date(at);
      const today = time.toDateString() === new Date().toDateString();
      const clock = time.toLocaleTimeString([], { hour12: false });
      return today ? clock : `${time.toLocaleDateString([], { day: "numeric", month: "short" })} ${clock}`;
    },
  },
};
