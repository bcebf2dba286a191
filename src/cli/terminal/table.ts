/** table returns rows of text in columns, each as wide as its widest cell. */
export function table(rows: string[][]): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, Bun.stringWidth(cell));
  }
  const line = (row: string[]): string =>
    row.map((cell, column) => cell + " ".repeat((widths[column] as number) - Bun.stringWidth(cell))).join("  ");
  return rows.map((row) => line(row).trimEnd()).join("\n");
}
