/**
 * Bars as SVG, readable on light and dark pages.
 */

export interface Entry {
  readonly label: string
  readonly value: number
  /** What has to be reached, or not passed. */
  readonly bar: number | undefined
  readonly holds: boolean
}

const width = 860
const left = 430
const rowHeight = 30
const top = 44

const escape = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("\"", "&quot;")

/** One bar for each entry, with a mark where its bar is. */
export const svg = (title: string, unit: string, entries: ReadonlyArray<Entry>): string => {
  const most = Math.max(...entries.flatMap(({ bar, value }) => [value, bar ?? 0])) || 1
  const scale = (value: number): number => Math.round((value / most) * (width - left - 90))
  const height = top + entries.length * rowHeight + 10
  const rows = entries.map(({ bar, holds, label, value }, index) => {
    const y = top + index * rowHeight
    const fill = bar === undefined ? "#7f8c9b" : holds ? "#2f8f5b" : "#c2573a"
    const mark = bar === undefined
      ? ""
      : `<line x1="${left + scale(bar)}" x2="${left + scale(bar)}" y1="${y - 2}" y2="${
        y + 22
      }" stroke="#d9a514" stroke-width="3"/>`
    return `  <text x="${left - 10}" y="${y + 15}" text-anchor="end">${escape(label)}</text>
  <rect x="${left}" y="${y}" width="${Math.max(1, scale(value))}" height="20" rx="2" fill="${fill}"/>${mark}
  <text x="${left + Math.max(scale(value), scale(bar ?? 0)) + 8}" y="${y + 15}">${value}${escape(unit)}</text>`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="${
    escape(title)
  }" font-family="system-ui, sans-serif" font-size="13">
  <rect width="${width}" height="${height}" fill="#ffffff"/>
  <g fill="#24292f">
  <text x="10" y="24" font-size="16" font-weight="600">${escape(title)}</text>
${rows.join("\n")}
  </g>
</svg>
`
}
