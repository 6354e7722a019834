/**
 * Reads OTLP's protobuf messages into the shape that its JSON has (bytes as hexadecimal digits, 64-bit integers as text), by the field numbers of OpenTelemetry's
 * protocol. Strict: a field that isn't in the protocol, or is encoded otherwise, is an error.
 */

type Scalar = "string" | "bytes" | "bool" | "varint" | "fixed64" | "double" | "fixed32"
type Field = readonly [name: string, type: Scalar | string, repeated?: "repeated" | "packed"]

const keyValues: Field = ["attributes", "KeyValue", "repeated"]

const messages: Readonly<Record<string, Readonly<Record<number, Field>>>> = {
  TracesData: { 1: ["resourceSpans", "ResourceSpans", "repeated"] },
  ResourceSpans: {
    1: ["resource", "Resource"],
    2: ["scopeSpans", "ScopeSpans", "repeated"],
    3: ["schemaUrl", "string"]
  },
  ScopeSpans: { 1: ["scope", "Scope"], 2: ["spans", "Span", "repeated"], 3: ["schemaUrl", "string"] },
  MetricsData: { 1: ["resourceMetrics", "ResourceMetrics", "repeated"] },
  ResourceMetrics: {
    1: ["resource", "Resource"],
    2: ["scopeMetrics", "ScopeMetrics", "repeated"],
    3: ["schemaUrl", "string"]
  },
  ScopeMetrics: { 1: ["scope", "Scope"], 2: ["metrics", "Metric", "repeated"], 3: ["schemaUrl", "string"] },
  LogsData: { 1: ["resourceLogs", "ResourceLogs", "repeated"] },
  ResourceLogs: { 1: ["resource", "Resource"], 2: ["scopeLogs", "ScopeLogs", "repeated"], 3: ["schemaUrl", "string"] },
  ScopeLogs: { 1: ["scope", "Scope"], 2: ["logRecords", "LogRecord", "repeated"], 3: ["schemaUrl", "string"] },
  Resource: { 1: keyValues, 2: ["droppedAttributesCount", "varint"] },
  Scope: { 1: ["name", "string"], 2: ["version", "string"], 3: keyValues, 4: ["droppedAttributesCount", "varint"] },
  KeyValue: { 1: ["key", "string"], 2: ["value", "AnyValue"] },
  AnyValue: {
    1: ["stringValue", "string"],
    2: ["boolValue", "bool"],
    3: ["intValue", "varint"],
    4: ["doubleValue", "double"],
    5: ["arrayValue", "ArrayValue"],
    7: ["bytesValue", "bytes"]
  },
  ArrayValue: { 1: ["values", "AnyValue", "repeated"] },
  Span: {
    1: ["traceId", "bytes"],
    2: ["spanId", "bytes"],
    3: ["traceState", "string"],
    4: ["parentSpanId", "bytes"],
    5: ["name", "string"],
    6: ["kind", "varint"],
    7: ["startTimeUnixNano", "fixed64"],
    8: ["endTimeUnixNano", "fixed64"],
    9: keyValues,
    10: ["droppedAttributesCount", "varint"],
    11: ["events", "Event", "repeated"],
    12: ["droppedEventsCount", "varint"],
    13: ["links", "Link", "repeated"],
    14: ["droppedLinksCount", "varint"],
    15: ["status", "Status"],
    16: ["flags", "fixed32"]
  },
  Event: {
    1: ["timeUnixNano", "fixed64"],
    2: ["name", "string"],
    3: keyValues,
    4: ["droppedAttributesCount", "varint"]
  },
  Link: {
    1: ["traceId", "bytes"],
    2: ["spanId", "bytes"],
    3: ["traceState", "string"],
    4: keyValues,
    5: ["droppedAttributesCount", "varint"],
    6: ["flags", "fixed32"]
  },
  Status: { 2: ["message", "string"], 3: ["code", "varint"] },
  Metric: {
    1: ["name", "string"],
    2: ["description", "string"],
    3: ["unit", "string"],
    5: ["gauge", "Gauge"],
    7: ["sum", "Sum"],
    9: ["histogram", "Histogram"]
  },
  Gauge: { 1: ["dataPoints", "NumberDataPoint", "repeated"] },
  Sum: {
    1: ["dataPoints", "NumberDataPoint", "repeated"],
    2: ["aggregationTemporality", "varint"],
    3: ["isMonotonic", "bool"]
  },
  Histogram: { 1: ["dataPoints", "HistogramDataPoint", "repeated"], 2: ["aggregationTemporality", "varint"] },
  NumberDataPoint: {
    2: ["startTimeUnixNano", "fixed64"],
    3: ["timeUnixNano", "fixed64"],
    4: ["asDouble", "double"],
    6: ["asInt", "fixed64"],
    7: keyValues,
    8: ["flags", "varint"]
  },
  HistogramDataPoint: {
    2: ["startTimeUnixNano", "fixed64"],
    3: ["timeUnixNano", "fixed64"],
    4: ["count", "fixed64"],
    5: ["sum", "double"],
    6: ["bucketCounts", "fixed64", "packed"],
    7: ["explicitBounds", "double", "packed"],
    9: keyValues,
    10: ["flags", "varint"],
    11: ["min", "double"],
    12: ["max", "double"]
  },
  LogRecord: {
    1: ["timeUnixNano", "fixed64"],
    2: ["severityNumber", "varint"],
    3: ["severityText", "string"],
    5: ["body", "AnyValue"],
    6: keyValues,
    7: ["droppedAttributesCount", "varint"],
    8: ["flags", "fixed32"],
    9: ["traceId", "bytes"],
    10: ["spanId", "bytes"],
    11: ["observedTimeUnixNano", "fixed64"],
    12: ["eventName", "string"]
  }
}

const wireTypes: Readonly<Record<Scalar, number>> = {
  varint: 0,
  bool: 0,
  fixed64: 1,
  double: 1,
  string: 2,
  bytes: 2,
  fixed32: 5
}

const isScalar = (type: string): type is Scalar => type in wireTypes

class Reader {
  private readonly bytes: Buffer
  private at = 0

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  get done(): boolean {
    return this.at >= this.bytes.length
  }

  varint(): number {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.take(1).readUInt8()
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return Number(BigInt.asIntN(64, value))
    }
    throw new RangeError("A varint doesn't end")
  }

  take(length: number): Buffer {
    if (this.at + length > this.bytes.length) throw new RangeError("The message is cut off")
    this.at += length
    return this.bytes.subarray(this.at - length, this.at)
  }

  scalar(type: Scalar): unknown {
    switch (type) {
      case "varint":
        return this.varint()
      case "bool":
        return this.varint() !== 0
      case "fixed64":
        return String(this.take(8).readBigUInt64LE())
      case "double":
        return this.take(8).readDoubleLE()
      case "fixed32":
        return this.take(4).readUInt32LE()
      case "string":
        return new TextDecoder("utf-8", { fatal: true }).decode(this.take(this.varint()))
      case "bytes":
        return this.take(this.varint()).toString("hex")
    }
  }
}

/** The message of this type in `bytes`. */
export const read = (type: string, bytes: Buffer): Readonly<Record<string, unknown>> => {
  const fields = messages[type]
  if (fields === undefined) throw new TypeError(`There is no message ${type}`)
  const message: Record<string, unknown> = {}
  const lists = new Map<string, Array<unknown>>()
  for (const [name, , repeated] of Object.values(fields)) {
    if (repeated === undefined) continue
    const list: Array<unknown> = []
    lists.set(name, list)
    message[name] = list
  }
  const reader = new Reader(bytes)
  while (!reader.done) {
    const tag = reader.varint()
    const field = fields[tag >> 3]
    if (field === undefined) throw new TypeError(`${type} has no field ${tag >> 3}`)
    const [name, of, repeated] = field
    const wireType = repeated === "packed" || !isScalar(of) ? 2 : wireTypes[of]
    if ((tag & 7) !== wireType) throw new TypeError(`${type}.${name} is encoded as ${tag & 7}`)
    const list = lists.get(name)
    if (!isScalar(of)) {
      const inner = read(of, reader.take(reader.varint()))
      if (list === undefined) message[name] = inner
      else list.push(inner)
    } else if (list === undefined) message[name] = reader.scalar(of)
    else {
      const packed = new Reader(reader.take(reader.varint()))
      while (!packed.done) list.push(packed.scalar(of))
    }
  }
  return message
}
