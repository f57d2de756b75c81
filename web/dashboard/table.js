// Rows of tables that are kept, not rebuilt: a button under a finger or a cursor must not vanish at the next frame.

/** Keeps one row per key in the body, in this order. `create(key)` makes a row; `update(row, item)` fills it. */
export function keepRows(body, items, key, create, update) {
  const old = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  items.forEach((item, n) => {
    const name = key(item);
    let row = old.get(name);
    old.delete(name);
    if (!row) {
      row = create(name);
      row.dataset.key = name;
    }
    if (body.rows[n] !== row) body.insertBefore(row, body.rows[n] ?? null);
    update(row, item);
  });
  for (const row of old.values()) row.remove();
}
