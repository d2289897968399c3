// A table whose rows are kept by key, so that only changed ones are sent and drawn. A click on a column's head sorts.

export default {
  template: `
    <div class="table-box" tabindex="0" role="group" :aria-label="spec.label">
      <table class="table">
        <thead>
          <tr>
            <th v-for="column in spec.columns" :key="column.name" scope="col" :class="classes(column)"
              :aria-sort="sorted === column.name ? (down ? 'descending' : 'ascending') : 'none'">
              <button type="button" class="table-sort" @click="sort(column)" :title="column.title">
                {{ column.label }}<span class="table-arrow" aria-hidden="true">{{ arrow(column) }}</span>
              </button>
            </th>
          </tr>
        </thead>
        <tbody>
          <tr v-for="row in shown" :key="row.key">
            <td v-for="column in spec.columns" :key="column.name" :class="classes(column)">
              <a v-if="row.link && column.kind === 'link'" :href="row.link">{{ row.cells[column.name][0] }}</a>
              <span v-else-if="column.kind === 'state'" class="state" :class="'is-' + row.cells[column.name][1]"
                :title="row.cells[column.name][2]"><i class="dot" aria-hidden="true"></i>{{ row.cells[column.name][0] }}</span>
              <template v-else>{{ row.cells[column.name][0] }}</template>
            </td>
          </tr>
        </tbody>
      </table>
      <p v-if="!shown.length" class="table-empty">{{ spec.empty }}</p>
    </div>`,
  props: { spec: Object },
  data: () => ({ rows: new Map(), sorted: "", down: false }),
  computed: {
    shown() {
      const rows = [...this.rows.values()];
      if (!this.sorted) return rows;
      const value = (row) => row.cells[this.sorted][1] ?? row.cells[this.sorted][0];
      const compare = (a, b) =>
        typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
      return rows.sort((a, b) => compare(value(a), value(b)) * (this.down ? -1 : 1));
    },
  },
  methods: {
    // changed rows {key, link, cells: {column: [text, value to sort by, remark]}}, and the order of all keys
    push(changed, order) {
      const rows = new Map(this.rows);
      for (const row of changed) rows.set(row.key, row);
      this.rows = new Map(order.map((key) => [key, rows.get(key)]));
    },
    sort({ name, kind }) {
      const first = kind === "number";
      if (this.sorted !== name) [this.sorted, this.down] = [name, first];
      else if (this.down === first) this.down = !first;
      else this.sorted = "";
    },
    arrow({ name }) {
      return this.sorted !== name ? "" : this.down ? " ↓" : " ↑";
    },
    classes({ kind, wide }) {
      return { number: kind === "number", "only-wide": wide };
    },
  },
};
