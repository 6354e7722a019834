/**
 * Notifications, and plugins made from what a configuration would say.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Notification, Notifier } from "@etl-stream/core/Notifier"
import type { Plugin } from "@etl-stream/core/Plugin"
import { tableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"

export const firing: Notification = {
  key: "etl-stream/pipeline/shop/freshness/0123456789ab",
  type: "freshness",
  severity: "warning",
  status: "firing",
  title: "shop: the sink's data is older than allowed",
  body: "Look at the pipeline's log.",
  source: "shop",
  pipeline: "shop",
  table: undefined,
  size: { value: 360_000, unit: "ms" },
  threshold: { value: 300_000, unit: "ms" },
  duration: 120_000,
  reminder: false,
  at: Date.UTC(2026, 0, 2, 3, 4, 5)
}

export const resolved: Notification = { ...firing, status: "resolved", body: "", at: firing.at + 600_000 }

export const quarantined: Notification = {
  ...firing,
  key: "etl-stream/pipeline/shop/table-quarantined/ba9876543210/public.orders",
  type: "table-quarantined",
  severity: "critical",
  title: "shop: the table public.orders is in quarantine",
  table: tableId({ schema: "public", name: "orders" }),
  size: undefined,
  threshold: undefined
}

/** What a user could write to do harm or by accident: markup, control characters, great length. */
export const hostile: Notification = {
  ...quarantined,
  key: `etl-stream/pipeline/shop/${"k".repeat(400)}`,
  title: `<!channel> *b* _i_ [x](http://evil.example) \r\nBcc: all@example.com &amp; ${"🦆".repeat(3000)}`,
  body: `<script>alert(1)</script> & <@U123> ${"<&>".repeat(5000)}`,
  table: tableId({ schema: "pub<li>c", name: `a&b${"x".repeat(5000)}` })
}

/** The notifier that `options` of a configuration file make. */
export const make = <A>(
  plugin: Plugin<"notifier", A>,
  options: Readonly<Record<string, unknown>>,
  directory = "/"
): Effect.Effect<Notifier, ConnectorError | Schema.SchemaError, Scope.Scope> =>
  Schema.decodeUnknownEffect(Schema.toCodecJson(plugin.config))(options, { errors: "all", onExcessProperty: "error" })
    .pipe(
      Effect.flatMap((config) => plugin.make(config, { pipeline: "etl-stream", directory }))
    )

/** What is refused about `options`. */
export const refusal = <A>(plugin: Plugin<"notifier", A>, options: Readonly<Record<string, unknown>>) =>
  Effect.map(Effect.flip(Effect.scoped(make(plugin, options))), (error) => `${error.message}`)
