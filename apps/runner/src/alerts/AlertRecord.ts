/**
 * What is kept of an alert that has begun, so that a restart goes on where this process ended: that it fires, since when, and whom it was told.
 *
 * One document per alert in the state store. A document that can't be read counts as none: at most a notice is repeated.
 */
import type { Notification } from "@etl-stream/core/Notifier"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import type { Observation, Subject } from "./Observation.ts"

const Measure = Schema.Struct({ value: Schema.Finite, unit: Schema.String })

const Status = Schema.Literals(["firing", "resolved"])

const Severity = Schema.Literals(["warning", "critical"])

/** What a notifier was told last, and when: milliseconds since 1970-01-01 UTC. */
const Told = Schema.Struct({ status: Status, severity: Severity, at: Schema.Finite })
export type Told = typeof Told.Type

const Document = Schema.Struct({
  version: Schema.Literal(1),
  key: Schema.String,
  rule: Schema.String,
  subject: Schema.Struct({ kind: Schema.Literals(["pipeline", "monitor"]), name: Schema.String }),
  status: Status,
  /** Since when it held, and when it became an alert or was over: milliseconds since 1970-01-01 UTC. */
  since: Schema.Finite,
  firedAt: Schema.Finite,
  endedAt: Schema.NullOr(Schema.Finite),
  type: Schema.String,
  severity: Severity,
  table: Schema.NullOr(Schema.String),
  title: Schema.String,
  body: Schema.String,
  size: Schema.NullOr(Measure),
  threshold: Schema.NullOr(Measure),
  told: Schema.Record(Schema.String, Told)
})

export type AlertRecord = typeof Document.Type

const decodeDocument = Schema.decodeUnknownOption(Schema.fromJsonString(Document))

export const decode = (text: string): AlertRecord | undefined => Option.getOrUndefined(decodeDocument(text))

export const encode = (record: AlertRecord): string => JSON.stringify(record)

/** Identity of an alert, for its receivers too: rule, pipeline or monitor, and what it is about there. */
export const keyOf = (
  rule: string,
  { kind, name }: Pick<Subject, "kind" | "name">,
  { subject, table, type }: Observation
): string =>
  ["etl-stream", kind, name, type, rule, ...[table, subject].filter((about) => about !== undefined)].join("/")

/** What all alerts' keys in the state store begin with. */
export const prefix = "alerts/"

/** The state store's key of what tells whether the store has lost alerts (AlertEpoch.ts). */
export const epochKey = `${prefix}epoch`

/** The state store's key of an alert: its own may be long and hold anything. */
export const storeKey = (key: string): string =>
  `${prefix}${createHash("sha256").update(key).digest("hex").slice(0, 32)}`

/** A new alert. Texts pass through `redact`: they leave this process. */
export const begin = (
  key: string,
  rule: string,
  { kind, name }: Subject,
  observation: Observation,
  since: number,
  now: number,
  redact: (text: string) => string
): AlertRecord => ({
  version: 1,
  key,
  rule,
  subject: { kind, name },
  status: "firing",
  since,
  firedAt: now,
  endedAt: null,
  type: observation.type,
  severity: observation.severity,
  table: observation.table ?? null,
  title: redact(observation.title),
  body: redact(observation.body),
  size: observation.size ?? null,
  threshold: observation.threshold ?? null,
  told: {}
})

/** `record` with what is seen now, as long as it fires. */
export const seen = (record: AlertRecord, observation: Observation, redact: (text: string) => string): AlertRecord => ({
  ...record,
  severity: observation.severity,
  title: redact(observation.title),
  body: redact(observation.body),
  size: observation.size ?? null,
  threshold: observation.threshold ?? null
})

/** What is told of `record` now; `reminder`: it was told before. */
export const notification = (record: AlertRecord, reminder: boolean, now: number): Notification => {
  const { body, endedAt, firedAt, key, severity, since, size, status, subject, table, threshold, title, type } = record
  const ended = status === "resolved"
  return {
    key,
    type,
    severity,
    status,
    title,
    body: ended ? "" : body,
    source: subject.name,
    pipeline: subject.kind === "pipeline" ? subject.name : undefined,
    table: table ?? undefined,
    size: size ?? undefined,
    threshold: threshold ?? undefined,
    duration: Math.max(0, (ended ? endedAt ?? now : now) - since),
    reminder,
    at: ended ? endedAt ?? now : reminder ? now : firedAt
  }
}
