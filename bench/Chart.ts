/**
 * Charts as SVG, readable on light and dark pages: bars beside a reference, ranges of milliseconds, and a curve.
 *
 * Each says below its title what is drawn, so that it can be read by itself.
 */

const width = 960
const left = 450
const right = 90
const rowHeight = 28
const groupGap = 10
const top = 90

const colors = {
  none: "#7f8c9b",
  holds: "#2f8f5b",
  misses: "#c2573a",
  asked: "#d9a514",
  axis: "#d0d7de",
  faint: "#57606a"
}

const escape = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("\"", "&quot;")

const shown = (value: number): string => value.toLocaleString("en", { maximumSignificantDigits: 3 })

const label = (text: string): string => escape(text.replaceAll("->", "→"))

const frame = (title: string, notes: ReadonlyArray<string>, height: number, body: ReadonlyArray<string>): string =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="${
    escape(title)
  }" font-family="system-ui, sans-serif" font-size="13">
  <rect width="${width}" height="${height}" fill="#ffffff"/>
  <g fill="#24292f">
  <text x="12" y="26" font-size="16" font-weight="600">${escape(title)}</text>
${
    notes.map((note, index) => `  <text x="12" y="${46 + index * 18}" fill="${colors.faint}">${escape(note)}</text>`)
      .join("\n")
  }
${body.map((line) => `  ${line}`).join("\n")}
  </g>
</svg>
`

const vertical = (x: number, from: number, to: number, color: string, stroke = 1): string =>
  `<line x1="${x}" x2="${x}" y1="${from}" y2="${to}" stroke="${color}" stroke-width="${stroke}"/>`

export interface Bar {
  readonly label: string
  readonly value: number
  /** What is asked for: at least or at most this. */
  readonly asked: { readonly value: number; readonly most: boolean } | undefined
}

const fill = ({ asked, value }: Bar): string => {
  if (asked === undefined) return colors.none
  return (asked.most ? value <= asked.value : value >= asked.value) ? colors.holds : colors.misses
}

/** What comes before the colon: bars of one such group stand together. */
const group = (entry: Bar | undefined): string => entry?.label.split(":")[0] ?? ""

/** Where a value's text begins: behind the bar, or behind the mark when that is too near. */
const behind = (bar: number, mark: number): number => mark >= bar && mark - bar < 64 ? mark : bar

/** Multiples of a reference, which is a line at 1. */
export const bars = (title: string, note: string, entries: ReadonlyArray<Bar>): string => {
  const gaps = entries.map((entry, index) => index > 0 && group(entry) !== group(entries[index - 1]) ? groupGap : 0)
  const most = Math.max(1, ...entries.flatMap(({ asked, value }) => [value, asked?.value ?? 0]))
  const x = (value: number): number => left + Math.round((value / most) * (width - left - right))
  const offset = (index: number): number => gaps.slice(0, index + 1).reduce<number>((sum, gap) => sum + gap, 0)
  const bottom = top + entries.length * rowHeight + offset(entries.length)
  const rows = entries.flatMap((entry, index) => {
    const { asked, value } = entry
    const y = top + index * rowHeight + offset(index)
    return [
      `<text x="${left - 10}" y="${y + 15}" text-anchor="end">${label(entry.label)}</text>`,
      `<rect x="${left}" y="${y}" width="${Math.max(1, x(value) - left)}" height="20" rx="2" fill="${fill(entry)}"/>`,
      ...(asked === undefined ? [] : [vertical(x(asked.value), y - 2, y + 22, colors.asked, 3)]),
      `<text x="${behind(x(value), x(asked?.value ?? 0)) + 8}" y="${y + 15}">${shown(value)} x</text>`
    ]
  })
  return frame(
    title,
    [note, "Yellow: what is asked for. Green reaches it, red doesn't, and nothing is asked of grey."],
    bottom + 14,
    [vertical(x(1), top - 8, bottom, colors.faint), ...rows]
  )
}

export interface Range {
  readonly label: string
  readonly from: number
  readonly to: number
}

/** From p50 to p99, in milliseconds on a logarithmic axis. */
export const ranges = (title: string, note: string, entries: ReadonlyArray<Range>): string => {
  const decade = (value: number): number => Math.log10(Math.max(0.01, value))
  const lowest = Math.floor(Math.min(...entries.map(({ from }) => decade(from))))
  const highest = Math.max(lowest + 1, Math.ceil(Math.max(...entries.map(({ to }) => decade(to)))))
  const x = (value: number): number =>
    left + 30 + Math.round(((decade(value) - lowest) / (highest - lowest)) * (width - left - right - 60))
  const bottom = top + entries.length * rowHeight
  const axis = Array.from({ length: highest - lowest + 1 }, (_, index) => 10 ** (lowest + index)).flatMap((tick) => [
    vertical(x(tick), top - 8, bottom, colors.axis),
    `<text x="${x(tick)}" y="${bottom + 16}" text-anchor="middle" fill="${colors.faint}">${shown(tick)} ms</text>`
  ])
  const rows = entries.flatMap(({ from, label: name, to }, index) => {
    const y = top + index * rowHeight
    return [
      `<text x="${left - 10}" y="${y + 15}" text-anchor="end">${label(name)}</text>`,
      `<rect x="${x(from)}" y="${y + 4}" width="${
        Math.max(2, x(to) - x(from))
      }" height="12" rx="6" fill="${colors.none}"/>`,
      `<text x="${x(from) - 6}" y="${y + 15}" text-anchor="end" font-size="11">${shown(from)}</text>`,
      `<text x="${Math.max(x(from) + 2, x(to)) + 6}" y="${y + 15}" font-size="11">${shown(to)}</text>`
    ]
  })
  return frame(title, [note], bottom + 26, [...axis, ...rows])
}

/** A curve of MB over the share (0 to 1) of what there was to do, below what is asked for. */
export const curve = (
  title: string,
  note: string,
  points: ReadonlyArray<readonly [share: number, value: number]>,
  asked: number
): string => {
  const [from, height] = [70, 220]
  const bottom = top + height
  const highest = Math.max(...points.map(([, value]) => value))
  const most = Math.max(asked, highest) * 1.1
  const x = (share: number): number => from + Math.round(share * (width - from - right))
  const y = (value: number): number => bottom - Math.round((value / most) * height)
  const horizontal = (value: number, color: string, stroke: number): ReadonlyArray<string> => [
    `<line x1="${from}" x2="${x(1)}" y1="${y(value)}" y2="${y(value)}" stroke="${color}" stroke-width="${stroke}"/>`,
    `<text x="${from - 8}" y="${y(value) + 5}" text-anchor="end">${shown(value)} MB</text>`
  ]
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) =>
    `<text x="${x(share)}" y="${bottom + 18}" text-anchor="middle" fill="${colors.faint}">${share * 100} %</text>`
  )
  const path = points.map(([share, value]) => `${x(share)},${y(value)}`).join(" ")
  return frame(title, [note, "Yellow: what is asked for at most."], bottom + 30, [
    ...horizontal(0, colors.axis, 1),
    ...horizontal(asked, colors.asked, 3),
    ...ticks,
    `<polyline points="${path}" fill="none" stroke="${
      highest <= asked ? colors.holds : colors.misses
    }" stroke-width="2"/>`,
    `<text x="${x(1) + 8}" y="${y(points.at(-1)?.[1] ?? 0) + 5}">${shown(points.at(-1)?.[1] ?? 0)} MB</text>`
  ])
}
