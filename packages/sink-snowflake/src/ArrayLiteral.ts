/**
 * PostgreSQL's array literals (`{1,NULL,"a \"b\""}`) as JSON, from bytes to bytes.
 *
 * Integers, booleans and finite floats become JSON numbers and booleans, NULL becomes null, everything else a JSON string. A
 * literal with lower bounds of its own (`[0:2]={…}`) becomes one JSON string that holds the literal, so nothing is lost.
 */
import type { LogicalType } from "@etl-stream/core/LogicalType"
import type { ByteBuffer } from "./ByteBuffer.ts"

/** How unquoted elements are written. */
export type ElementForm = "integer" | "float" | "boolean" | "text"

/** The literal breaks PostgreSQL's syntax. The message holds nothing of it. */
export class MalformedArray extends Error {
  constructor() {
    super("not an array literal")
  }
}

/** The form of a column's elements. */
export const elementForm = (element: LogicalType): ElementForm => {
  switch (element._tag) {
    case "Int16":
    case "Int32":
    case "Int64":
      return "integer"
    case "Float32":
    case "Float64":
      return "float"
    case "Boolean":
      return "boolean"
    default:
      return "text"
  }
}

const openBrace = 0x7b
const closeBrace = 0x7d
const openBracket = 0x5b
const closeBracket = 0x5d
const comma = 0x2c
const quote = 0x22
const backslash = 0x5c

const isNull = (source: Uint8Array, start: number, end: number): boolean =>
  end - start === 4 && source[start] === 0x4e && source[start + 1] === 0x55 && source[start + 2] === 0x4c &&
  source[start + 3] === 0x4c

/** Whether the bytes are a number as JSON writes them: `-12`, and for floats `1.5`, `1e+20`. */
const isNumber = (source: Uint8Array, start: number, end: number, float: boolean): boolean => {
  let at = source[start] === 0x2d ? start + 1 : start
  const first = source[at]
  if (at >= end || first === undefined || first < 0x30 || first > 0x39) return false
  for (; at < end; at++) {
    const value = source[at] as number // in range
    const digit = value >= 0x30 && value <= 0x39
    if (!digit && !(float && (value === 0x2e || value === 0x65 || value === 0x2b || value === 0x2d))) return false
  }
  return true
}

const writeText = (view: DataView, start: number, end: number, out: ByteBuffer): void => {
  out.byte(quote)
  out.jsonText(view, start, end)
  out.byte(quote)
}

const writeBare = (
  source: Uint8Array,
  view: DataView,
  start: number,
  end: number,
  form: ElementForm,
  out: ByteBuffer
): void => {
  if (isNull(source, start, end)) return out.ascii("null")
  if (form === "boolean" && end - start === 1) return out.ascii(source[start] === 0x74 ? "true" : "false")
  if ((form === "integer" || form === "float") && isNumber(source, start, end, form === "float")) {
    return out.copy(view, start, end)
  }
  writeText(view, start, end, out)
}

/** Writes the quoted element that begins after the quote at `start - 1`; returns the index after its closing quote. */
const writeQuoted = (source: Uint8Array, view: DataView, start: number, end: number, out: ByteBuffer): number => {
  out.byte(quote)
  let run = start
  for (let at = start; at < end; at++) {
    const value = source[at]
    if (value === quote) {
      out.jsonText(view, run, at)
      out.byte(quote)
      return at + 1
    }
    if (value === backslash) {
      out.jsonText(view, run, at)
      run = at + 1
      at++
    }
  }
  throw new MalformedArray()
}

/** Writes the literal in `source[start, end)` as JSON; `view` is of the same bytes. */
export const toJson = (
  source: Uint8Array,
  view: DataView,
  start: number,
  end: number,
  form: ElementForm,
  out: ByteBuffer
): void => {
  if (source[start] === openBracket) return writeText(view, start, end, out)
  if (source[start] !== openBrace) throw new MalformedArray()
  let depth = 0
  let at = start
  // Either a value or a separator has to come next: `value` says that it is a value, `fresh` that an empty array may end instead.
  let value = true
  let fresh = false
  while (at < end) {
    const byte = source[at]
    if (byte === openBrace && value) {
      depth++
      out.byte(openBracket)
      at++
      fresh = true
      continue
    }
    if (byte === closeBrace && depth > 0 && (fresh || !value)) {
      depth--
      out.byte(closeBracket)
      at++
      value = false
      if (depth === 0) break
    } else if (byte === comma && depth > 0 && !value) {
      out.byte(comma)
      at++
      value = true
    } else if (byte === quote && value && depth > 0) {
      at = writeQuoted(source, view, at + 1, end, out)
      value = false
    } else if (value && depth > 0) {
      const from = at
      while (
        at < end && source[at] !== comma && source[at] !== closeBrace && source[at] !== openBrace &&
        source[at] !== quote
      ) at++
      if (at === from) throw new MalformedArray()
      writeBare(source, view, from, at, form, out)
      value = false
    } else throw new MalformedArray()
    fresh = false
  }
  if (depth !== 0 || at !== end) throw new MalformedArray()
}
